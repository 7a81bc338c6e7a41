//! Hashing of blocks: `hash(padded salt || block zero-padded to the block size)`.
//!
//! As `fsverity_hash_block()` in `fs/verity/hash_algs.c`: a salt is padded with zeros to the hash's compression
//! block, so that its state is computed once and kept.

use super::many::{Algorithm, Hasher};
use super::sha256::{self, Sha256};
use super::sha512::{self, Sha512};
use super::{BlockSize, Digest, HashAlgorithm, Params, VerityError};

/// The hash behind the salt.
#[derive(Clone)]
enum Salted {
    Sha256(Hasher<Sha256, { sha256::BLOCK }>),
    Sha512(Hasher<Sha512, { sha512::BLOCK }>),
}

/// The hashes of consecutive data blocks, the last of which may be short.
#[derive(Debug)]
pub struct Leaves {
    /// The data in bytes.
    pub(super) length: u64,
    pub(super) hashes: Vec<Digest>,
}

impl Leaves {
    /// How much data they are of, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }
}

/// Hashes data and tree blocks under one set of parameters.
#[derive(Clone)]
pub struct BlockHasher {
    block_size: BlockSize,
    salted: Salted,
}

impl BlockHasher {
    /// A hasher for `params`; the salt is hashed here and never again.
    pub fn new(params: &Params) -> Self {
        let salted = match params.algorithm {
            HashAlgorithm::Sha256 => Salted::Sha256(Hasher::new(&salt(params))),
            HashAlgorithm::Sha512 => Salted::Sha512(Hasher::new(&salt(params))),
        };
        Self { block_size: params.block_size, salted }
    }

    /// A hasher for each way to hash many blocks that this processor has, and its name. [`Self::new`] takes the
    /// fastest; this is for tests and measurements, since all give the same hashes.
    pub fn variants(params: &Params) -> Vec<(&'static str, Self)> {
        let block_size = params.block_size;
        match params.algorithm {
            HashAlgorithm::Sha256 => Hasher::variants(&salt(params))
                .map(|hasher| (hasher.name(), Self { block_size, salted: Salted::Sha256(hasher) }))
                .collect(),
            HashAlgorithm::Sha512 => Hasher::variants(&salt(params))
                .map(|hasher| (hasher.name(), Self { block_size, salted: Salted::Sha512(hasher) }))
                .collect(),
        }
    }

    /// The size of a block.
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The hash of one block; a shorter one, or none at all, is hashed as if zeros filled it.
    ///
    /// # Errors
    /// [`VerityError::BlockTooLong`] above the block size.
    pub fn hash(&self, block: &[u8]) -> Result<Digest, VerityError> {
        let block_size = self.block_size.bytes();
        if block.len() > block_size {
            let (length, block_size) = (block.len(), self.block_size.get());
            return Err(VerityError::BlockTooLong { length, block_size });
        }
        Ok(match &self.salted {
            Salted::Sha256(hasher) => hasher.one(block, block_size),
            Salted::Sha512(hasher) => hasher.one(block, block_size),
        })
    }

    /// The hashes of the consecutive blocks of `data`, as [`TreeBuilder::hashed`](super::TreeBuilder::hashed) takes
    /// them.
    pub fn leaves(&self, data: &[u8]) -> Leaves {
        let mut hashes = Vec::with_capacity(data.len().div_ceil(self.block_size.bytes()));
        self.hash_many(data, |_, hash| hashes.push(hash));
        Leaves { length: data.len() as u64, hashes }
    }

    /// Hashes the consecutive blocks of `data` and gives each one's index in `data` and hash to `each`, in
    /// order. The last block may be short and is zero-padded; no data, no call.
    pub fn hash_many(&self, data: &[u8], mut each: impl FnMut(usize, Digest)) {
        let block_size = self.block_size.bytes();
        let mut index = 0..;
        let each = |digest| {
            if let Some(index) = index.next() {
                each(index, digest);
            }
        };
        match &self.salted {
            Salted::Sha256(hasher) => hasher.many(data, block_size, each),
            Salted::Sha512(hasher) => hasher.many(data, block_size, each),
        }
    }

    /// The hashes of blocks that lie anywhere, in their order; shorter ones are hashed as if zeros filled them.
    ///
    /// # Errors
    /// [`VerityError::BlockTooLong`] where one is above the block size.
    pub fn hash_each(&self, blocks: &[&[u8]]) -> Result<Vec<Digest>, VerityError> {
        let block_size = self.block_size.bytes();
        if blocks.iter().any(|block| block.len() != block_size) {
            return blocks.iter().map(|block| self.hash(block)).collect();
        }
        let mut hashes = Vec::with_capacity(blocks.len());
        let each = |hash| hashes.push(hash);
        match &self.salted {
            Salted::Sha256(hasher) => {
                hasher.whole(blocks.iter().map(|block| block.as_chunks().0), block_size, each);
            }
            Salted::Sha512(hasher) => {
                hasher.whole(blocks.iter().map(|block| block.as_chunks().0), block_size, each);
            }
        }
        Ok(hashes)
    }

    /// Whether `other` gives the same hashes.
    pub fn is_like(&self, other: &Self) -> bool {
        self.block_size == other.block_size
            && match (&self.salted, &other.salted) {
                (Salted::Sha256(one), Salted::Sha256(other)) => one.starts_like(other),
                (Salted::Sha512(one), Salted::Sha512(other)) => one.starts_like(other),
                (Salted::Sha256(_), Salted::Sha512(_)) | (Salted::Sha512(_), Salted::Sha256(_)) => false,
            }
    }
}

impl std::fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kernels = match &self.salted {
            Salted::Sha256(hasher) => hasher.name(),
            Salted::Sha512(hasher) => hasher.name(),
        };
        f.debug_struct("BlockHasher")
            .field("block_size", &self.block_size)
            .field("kernels", &kernels)
            .finish()
    }
}

/// The salt, padded with zeros to one block of the hash; empty where there is none.
fn salt<const BLOCK: usize>(params: &Params) -> Vec<[u8; BLOCK]> {
    let salt = params.salt.as_bytes();
    if salt.is_empty() {
        return Vec::new();
    }
    let mut block = [0; BLOCK];
    block.iter_mut().zip(salt).for_each(|(to, from)| *to = *from);
    vec![block]
}

/// Hashes `bytes` as they are: no salt, no padding.
pub(super) fn plain(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    let function = match algorithm {
        HashAlgorithm::Sha256 => Sha256::ALONE,
        HashAlgorithm::Sha512 => Sha512::ALONE,
    };
    Digest::of(&ring::digest::digest(function, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::{Salt, reference};

    fn all_params() -> impl Iterator<Item = Params> {
        HashAlgorithm::ALL.into_iter().flat_map(|algorithm| {
            [1024, 4096, 65536].into_iter().flat_map(move |block_size| {
                [0, 1, 31, 32].into_iter().map(move |salt| Params {
                    algorithm,
                    block_size: BlockSize::new(block_size).unwrap(),
                    salt: Salt::new(&vec![0x5a; salt]).unwrap(),
                })
            })
        })
    }

    #[test]
    fn a_short_block_hashes_like_the_zero_padded_one_and_like_the_reference() {
        for params in all_params() {
            let hasher = BlockHasher::new(&params);
            let size = params.block_size.bytes();
            for length in [1, 31, 63, 64, 65, 1000, size - 1, size] {
                let block: Vec<u8> = (0..length).map(|i| (i % 251 + 1).to_le_bytes()[0]).collect();
                let mut padded = block.clone();
                padded.resize(size, 0);
                let hash = hasher.hash(&block).unwrap();
                assert_eq!(hash, hasher.hash(&padded).unwrap());
                assert_eq!(hash, reference::root_and_tree(&block, &params).0, "{params:?} {length}");
            }
            assert_eq!(hasher.hash(&[]), hasher.hash(&vec![0; size]));
        }
    }

    #[test]
    fn more_than_a_block_is_refused() {
        for params in all_params() {
            let length = params.block_size.bytes() + 1;
            let error = VerityError::BlockTooLong { length, block_size: params.block_size.get() };
            let (hasher, block) = (BlockHasher::new(&params), vec![0; length]);
            assert_eq!(hasher.hash(&block), Err(error));
            assert_eq!(hasher.hash_each(&[&[], &block]), Err(error));
        }
    }

    /// The hash of one block, as another library has it.
    fn other(params: &Params, block: &[u8]) -> Digest {
        use sha2::Digest as _;
        let padding = match params.algorithm {
            HashAlgorithm::Sha256 => 64,
            HashAlgorithm::Sha512 => 128,
        };
        let mut message = params.salt.as_bytes().to_vec();
        if !message.is_empty() {
            message.resize(padding, 0);
        }
        message.extend_from_slice(block);
        let rest = block.len().next_multiple_of(params.block_size.bytes()) - block.len();
        message.resize(message.len() + rest, 0);
        match params.algorithm {
            HashAlgorithm::Sha256 => Digest::new(&sha2::Sha256::digest(&message)),
            HashAlgorithm::Sha512 => Digest::new(&sha2::Sha512::digest(&message)),
        }
        .unwrap()
    }

    #[test]
    fn every_kernel_of_sha256_hashes_any_number_of_blocks_from_anywhere_as_another_library_does() {
        every_kernel_hashes_as_another_library(HashAlgorithm::Sha256);
    }

    #[test]
    fn every_kernel_of_sha512_hashes_any_number_of_blocks_from_anywhere_as_another_library_does() {
        every_kernel_hashes_as_another_library(HashAlgorithm::Sha512);
    }

    fn every_kernel_hashes_as_another_library(algorithm: HashAlgorithm) {
        for params in all_params().filter(|params| params.algorithm == algorithm) {
            let size = params.block_size.bytes();
            // More than twice the widest kernel, and a short one behind them.
            let (most, offsets) = if size > 4096 { (17, 0..1) } else { (37, 0..3) };
            let content: Vec<u8> =
                (0..size * most + size / 2 + 1).map(|i| (i / 7 % 256).to_le_bytes()[0]).collect();
            let expected: Vec<_> = content.chunks(size).map(|block| other(&params, block)).collect();
            for (name, hasher) in BlockHasher::variants(&params) {
                for offset in offsets.clone() {
                    let shifted = [&vec![0; offset][..], &content].concat();
                    for count in 0..=most {
                        for short in [0, 1, 64, size / 2 + 1] {
                            let data = &shifted[offset..offset + count * size + short];
                            let last = (short > 0).then(|| other(&params, &data[count * size..]));
                            let mut found = Vec::new();
                            hasher.hash_many(data, |i, hash| found.push((i, hash)));
                            let hashes: Vec<_> = expected[..count].iter().copied().chain(last).collect();
                            let expected = hashes.iter().copied().enumerate();
                            assert!(found.into_iter().eq(expected), "{name}: {params:?}, {count}, {short}");
                            let apart: Vec<&[u8]> = data.chunks(size).rev().collect();
                            let mut found = hasher.hash_each(&apart).unwrap();
                            found.reverse();
                            assert!(
                                found.into_iter().eq(hashes),
                                "{name}: {params:?}, {count}, {short} apart"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn hashers_are_alike_that_give_the_same_hashes() {
        let hashers: Vec<_> = all_params().map(|params| BlockHasher::new(&params)).collect();
        for (n, one) in hashers.iter().enumerate() {
            for (m, other) in hashers.iter().enumerate() {
                let same = one.block_size() == other.block_size() && one.hash(b"x") == other.hash(b"x");
                assert_eq!(one.is_like(other), same, "{n} {m}");
            }
        }
    }

    #[test]
    fn one_of_the_ways_is_taken_and_the_plain_one_is_there() {
        for params in all_params() {
            let kernels = |hasher| format!("{hasher:?}");
            let variants: Vec<_> = BlockHasher::variants(&params);
            assert_eq!(variants.last().unwrap().0, "one at a time");
            let taken = kernels(BlockHasher::new(&params));
            assert!(variants.into_iter().any(|(_, hasher)| kernels(hasher) == taken));
        }
    }
}
