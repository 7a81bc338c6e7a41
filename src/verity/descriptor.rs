//! `struct fsverity_descriptor`: the 256 bytes whose hash is the file digest.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | `hash_algorithm` |
//! | 2 | 1 | `log_blocksize` |
//! | 3 | 1 | `salt_size` |
//! | 4 | 4 | `sig_size`, here always 0 |
//! | 8 | 8 | `data_size`, little-endian |
//! | 16 | 64 | `root_hash`, zero-padded |
//! | 80 | 32 | `salt`, zero-padded |
//! | 112 | 144 | reserved, zero |
//!
//! As `fs/verity/fsverity_private.h` has it, and `fsverity_init_info()` checks it; stricter than the kernel in
//! that all padding must be zero, so that no two descriptors say the same.

use super::hasher::plain;
use super::{BlockSize, Digest, FileDigest, Geometry, HashAlgorithm, Params, Salt, VerityError};

const VERSION: u8 = 1;
const ROOT_HASH_SIZE: usize = 64;
const RESERVED_SIZE: usize = 144;

/// What a file digest stands for: parameters, size and root hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// How the tree was made.
    pub params: Params,
    /// The file's size in bytes.
    pub size: u64,
    /// The hash of the root block; of the only data block; or zeros for an empty file.
    pub root_hash: Digest,
}

impl Descriptor {
    /// The length in bytes.
    pub const SIZE: usize = 256;

    /// The bytes that are hashed.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let head = [
            VERSION,
            self.params.algorithm.id(),
            self.params.block_size.log2(),
            self.params.salt.length(),
            0,
            0,
            0,
            0,
        ];
        let root = self.root_hash.as_bytes();
        let root_padding = std::iter::repeat_n(&0, ROOT_HASH_SIZE.saturating_sub(root.len()));
        let size = self.size.to_le_bytes();
        let fields =
            head.iter().chain(&size).chain(root).chain(root_padding).chain(self.params.salt.padded());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Reads exactly 256 bytes.
    ///
    /// # Errors
    /// [`VerityError::DescriptorLength`] for another length; [`VerityError::DescriptorField`] for another
    /// version, an unknown algorithm, a salt longer than 32 bytes, a signature, a reserved or padding byte
    /// that is not zero, or an empty file with a root hash; [`VerityError::BlockSize`],
    /// [`VerityError::FileTooLarge`] and [`VerityError::TooManyLevels`] for what those say.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerityError> {
        let bytes: &[u8; Self::SIZE] =
            bytes.try_into().map_err(|_| VerityError::DescriptorLength { length: bytes.len() })?;
        let mut rest = &bytes[..];
        let [version, algorithm, log_block_size, salt_size] = take(&mut rest)?;
        let signature_size: [u8; 4] = take(&mut rest)?;
        let size = u64::from_le_bytes(take(&mut rest)?);
        let root_hash: [u8; ROOT_HASH_SIZE] = take(&mut rest)?;
        let salt: [u8; Salt::MAX] = take(&mut rest)?;
        let reserved: [u8; RESERVED_SIZE] = take(&mut rest)?;

        check("version", version == VERSION)?;
        let algorithm = HashAlgorithm::from_id(algorithm).ok_or_else(|| field("hash_algorithm"))?;
        let block_size = 1_u32
            .checked_shl(u32::from(log_block_size))
            .ok_or_else(|| field("log_blocksize"))
            .and_then(BlockSize::new)?;
        check("sig_size", signature_size == [0; 4])?;
        let (root_hash, padding) =
            root_hash.split_at_checked(algorithm.digest_size()).ok_or_else(|| field("root_hash"))?;
        check("root_hash padding", zero(padding))?;
        let root_hash = Digest::new(root_hash).ok_or_else(|| field("root_hash"))?;
        check("root_hash", size != 0 || root_hash == Digest::zero(algorithm))?;
        let (salt, padding) =
            salt.split_at_checked(usize::from(salt_size)).ok_or_else(|| field("salt_size"))?;
        check("salt padding", zero(padding))?;
        check("reserved", zero(&reserved))?;

        let params = Params { algorithm, block_size, salt: Salt::new(salt)? };
        let descriptor = Self { params, size, root_hash };
        descriptor.geometry()?;
        Ok(descriptor)
    }

    /// The file digest: the hash of the encoded descriptor.
    pub fn file_digest(&self) -> FileDigest {
        let algorithm = self.params.algorithm;
        FileDigest { algorithm, digest: plain(algorithm, &self.encode()) }
    }

    /// The shape of the tree.
    ///
    /// # Errors
    /// As [`Geometry::new`]; never for a descriptor that was parsed.
    pub fn geometry(&self) -> Result<Geometry, VerityError> {
        Geometry::new(self.params.algorithm, self.params.block_size, self.size)
    }

    /// The bytes that a built-in signature signs; see [`FileDigest::formatted`].
    pub fn formatted_digest(&self) -> Vec<u8> {
        self.file_digest().formatted()
    }
}

const fn field(field: &'static str) -> VerityError {
    VerityError::DescriptorField { field }
}

fn check(name: &'static str, good: bool) -> Result<(), VerityError> {
    if good { Ok(()) } else { Err(field(name)) }
}

fn zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], VerityError> {
    let (head, tail) =
        rest.split_first_chunk().ok_or(VerityError::DescriptorLength { length: rest.len() })?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::MAX_SIZE;

    fn samples() -> Vec<Descriptor> {
        let mut all = Vec::new();
        for algorithm in HashAlgorithm::ALL {
            for log in 10..=16 {
                for salt in [0, 1, 16, 31, 32] {
                    for size in [0, 1, 4097, 1 << 32, 1 << 40] {
                        let hash = vec![0xc3; algorithm.digest_size()];
                        let root_hash =
                            if size == 0 { Digest::zero(algorithm) } else { Digest::new(&hash).unwrap() };
                        let block_size = BlockSize::new(1 << log).unwrap();
                        let salt = Salt::new(&vec![0x99; salt]).unwrap();
                        all.push(Descriptor {
                            params: Params { algorithm, block_size, salt },
                            size,
                            root_hash,
                        });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn what_was_encoded_parses_to_the_same() {
        for descriptor in samples() {
            let bytes = descriptor.encode();
            assert_eq!(Descriptor::parse(&bytes), Ok(descriptor));
            assert!(descriptor.geometry().is_ok());
        }
    }

    #[test]
    fn every_length_but_256_is_refused() {
        for descriptor in samples().iter().step_by(7) {
            let mut bytes = descriptor.encode().to_vec();
            for length in 0..bytes.len() {
                let error = VerityError::DescriptorLength { length };
                assert_eq!(Descriptor::parse(&bytes[..length]), Err(error));
            }
            for length in [257, 258, 426 + 256, 16384] {
                bytes.resize(length, 0);
                assert_eq!(Descriptor::parse(&bytes), Err(VerityError::DescriptorLength { length }));
            }
        }
    }

    #[test]
    fn every_reserved_and_padding_byte_must_be_zero() {
        for descriptor in samples() {
            let root_end = 16 + descriptor.params.algorithm.digest_size();
            let salt_end = 80 + descriptor.params.salt.as_bytes().len();
            let places = [
                (4..8, "sig_size"),
                (root_end..80, "root_hash padding"),
                (salt_end..112, "salt padding"),
                (112..256, "reserved"),
            ];
            for (range, name) in places {
                for at in range {
                    let mut bytes = descriptor.encode();
                    bytes[at] = 0x80;
                    assert_eq!(Descriptor::parse(&bytes), Err(field(name)), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_gives_another_descriptor_and_digest() {
        for descriptor in samples().iter().step_by(11) {
            let bytes = descriptor.encode();
            for bit in 0..2048 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = Descriptor::parse(&flipped) {
                    assert_ne!(other, *descriptor);
                    assert_ne!(other.file_digest(), descriptor.file_digest());
                    assert_eq!(other.encode(), flipped, "a descriptor has one spelling");
                }
            }
        }
    }

    #[test]
    fn only_values_of_the_format_are_accepted() {
        let good = Descriptor { params: Params::default(), size: 5, root_hash: [7; 32].into() }.encode();
        let accepted = |at: usize| -> Vec<u8> {
            let with = |value: &u8| {
                let mut bytes = good;
                bytes[at] = *value;
                Descriptor::parse(&bytes).is_ok()
            };
            (0..=255).filter(with).collect()
        };
        assert_eq!(accepted(0), [1], "version");
        assert_eq!(accepted(1), [1, 2], "hash_algorithm");
        assert_eq!(accepted(2), [10, 11, 12, 13, 14, 15, 16], "log_blocksize");
        assert_eq!(accepted(3), (0..=32).collect::<Vec<_>>(), "salt_size");
    }

    #[test]
    fn sizes_that_no_tree_can_have_are_refused() {
        let root_hash = Digest::from([7; 32]);
        let parse = |log: u32, size| {
            let params = Params { block_size: BlockSize::new(1 << log).unwrap(), ..Params::default() };
            Descriptor::parse(&Descriptor { params, size, root_hash }.encode())
        };
        assert!(parse(16, MAX_SIZE).is_ok());
        assert_eq!(parse(16, MAX_SIZE + 1), Err(VerityError::FileTooLarge { size: MAX_SIZE + 1 }));
        assert_eq!(parse(12, u64::MAX), Err(VerityError::FileTooLarge { size: u64::MAX }));
        let limit = 1_u64 << (10 + 8 * 5);
        assert!(parse(10, limit).is_ok());
        assert!(matches!(parse(10, limit + 1), Err(VerityError::TooManyLevels { .. })));
    }

    #[test]
    fn an_empty_file_has_no_root_hash() {
        let descriptor = Descriptor { params: Params::default(), size: 0, root_hash: [7; 32].into() };
        assert_eq!(Descriptor::parse(&descriptor.encode()), Err(field("root_hash")));
    }

    #[test]
    fn the_empty_file_has_the_digest_that_fsverity_prints() {
        // fsverity digest --compact [--hash-alg=sha512] /dev/null
        for (algorithm, digest) in [
            (HashAlgorithm::Sha256, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
            (
                HashAlgorithm::Sha512,
                "ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d1\
                 0adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf",
            ),
        ] {
            let params = Params { algorithm, ..Params::default() };
            let descriptor = Descriptor { params, size: 0, root_hash: Digest::zero(algorithm) };
            assert_eq!(descriptor.file_digest().to_string(), format!("{algorithm}:{digest}"));
        }
    }
}
