//! Hashing of blocks: `hash(padded salt || block zero-padded to the block size)`.
//!
//! As `fsverity_hash_block()` in `fs/verity/hash_algs.c`: a salt is padded with zeros to the hash's compression
//! block, so that its state is computed once and kept.

use sha2::{Digest as _, Sha256, Sha512};

use super::{BlockSize, Digest, HashAlgorithm, Params, VerityError};

static ZEROS: [u8; BlockSize::MAX as usize] = [0; BlockSize::MAX as usize];

/// The state of the hash behind the salt.
#[derive(Clone)]
enum Salted {
    Sha256(Sha256),
    Sha512(Sha512),
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
            HashAlgorithm::Sha256 => Salted::Sha256(salted(params)),
            HashAlgorithm::Sha512 => Salted::Sha512(salted(params)),
        };
        Self { block_size: params.block_size, salted }
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
        if block.len() > self.block_size.bytes() {
            let (length, block_size) = (block.len(), self.block_size.get());
            return Err(VerityError::BlockTooLong { length, block_size });
        }
        Ok(match &self.salted {
            Salted::Sha256(start) => one::<_, 32>(start, block, self.block_size),
            Salted::Sha512(start) => one::<_, 64>(start, block, self.block_size),
        })
    }

    /// Hashes the consecutive blocks of `data` and gives each one's index in `data` and hash to `each`, in
    /// order. The last block may be short and is zero-padded; no data, no call.
    ///
    /// The one place where many blocks are hashed at a time, whatever that is done with.
    pub fn hash_many(&self, data: &[u8], mut each: impl FnMut(usize, Digest)) {
        let blocks = data.chunks(self.block_size.bytes()).enumerate();
        match &self.salted {
            Salted::Sha256(start) => {
                blocks.for_each(|(i, block)| each(i, one::<_, 32>(start, block, self.block_size)));
            }
            Salted::Sha512(start) => {
                blocks.for_each(|(i, block)| each(i, one::<_, 64>(start, block, self.block_size)));
            }
        }
    }
}

impl std::fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockHasher").field("block_size", &self.block_size).finish_non_exhaustive()
    }
}

fn salted<H: sha2::Digest>(params: &Params) -> H {
    let mut state = H::new();
    let salt = params.salt.as_bytes();
    if !salt.is_empty() {
        state.update(salt);
        // A salt is never longer than one compression block.
        state.update(zeros(params.algorithm.compression_block().saturating_sub(salt.len())));
    }
    state
}

fn one<H, const N: usize>(start: &H, block: &[u8], block_size: BlockSize) -> Digest
where
    H: sha2::Digest + Clone,
    sha2::digest::Output<H>: Into<[u8; N]>,
    Digest: From<[u8; N]>,
{
    let mut state = start.clone();
    state.update(block);
    state.update(zeros(block_size.bytes().saturating_sub(block.len())));
    Digest::from(state.finalize().into())
}

/// Hashes `bytes` as they are: no salt, no padding.
pub(super) fn plain(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        HashAlgorithm::Sha256 => Digest::from(<[u8; 32]>::from(Sha256::digest(bytes))),
        HashAlgorithm::Sha512 => Digest::from(<[u8; 64]>::from(Sha512::digest(bytes))),
    }
}

fn zeros(length: usize) -> &'static [u8] {
    ZEROS.get(..length).unwrap_or(&ZEROS)
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
            assert_eq!(BlockHasher::new(&params).hash(&vec![0; length]), Err(error));
        }
    }

    #[test]
    fn many_blocks_hash_as_each_alone_in_order() {
        for params in all_params() {
            let hasher = BlockHasher::new(&params);
            let size = params.block_size.bytes();
            let data: Vec<u8> = (0..size * 3 + 7).map(|i| (i / 7 % 256).to_le_bytes()[0]).collect();
            for length in [0, 1, size - 1, size, size + 1, size * 3, data.len()] {
                let mut found = Vec::new();
                hasher.hash_many(&data[..length], |i, hash| found.push((i, hash)));
                let expected: Vec<_> =
                    data[..length].chunks(size).map(|b| hasher.hash(b).unwrap()).enumerate().collect();
                assert_eq!(found, expected);
            }
        }
    }
}
