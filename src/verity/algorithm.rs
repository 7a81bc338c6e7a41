//! The two hash algorithms of fs-verity.

use std::fmt;
use std::str::FromStr;

use super::VerityError;

/// A hash algorithm of fs-verity (`FS_VERITY_HASH_ALG_*` in `include/uapi/linux/fsverity.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    #[default]
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The length of a digest in bytes.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The bytes that the compression function takes at once; a salt is padded to a multiple of them.
    pub const fn compression_block(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// The name that `fsverity`, the kernel and every text form use: `sha256`, `sha512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The number in descriptors and in the formatted digest.
    pub const fn id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The algorithm of this number; `None` when fs-verity has none.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashAlgorithm {
    type Err = VerityError;

    /// Reads exactly `sha256` or `sha512`.
    fn from_str(text: &str) -> Result<Self, VerityError> {
        Self::ALL.into_iter().find(|a| a.name() == text).ok_or(VerityError::AlgorithmName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_algorithm() {
        for algorithm in HashAlgorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(HashAlgorithm::from_id(algorithm.id()), Some(algorithm));
        }
        assert_eq!((HashAlgorithm::Sha256.id(), HashAlgorithm::Sha512.id()), (1, 2));
    }

    #[test]
    fn other_names_and_numbers_are_refused() {
        for name in ["", "SHA256", "sha-256", "sha1", "sha384", "sha256 ", " sha512"] {
            assert_eq!(name.parse::<HashAlgorithm>(), Err(VerityError::AlgorithmName), "{name:?}");
        }
        assert_eq!((0..=u8::MAX).filter(|id| HashAlgorithm::from_id(*id).is_some()).count(), 2);
    }
}
