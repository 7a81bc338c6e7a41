//! The choices that a tree is made with.

use std::fmt;
use std::str::FromStr;

use super::{HashAlgorithm, VerityError};

/// The size of data and tree blocks: a power of two from 1024 to 65536 bytes, what Linux can verify.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSize(u8);

impl BlockSize {
    /// The smallest, in bytes.
    pub const MIN: u32 = 1024;
    /// The largest, in bytes.
    pub const MAX: u32 = 65536;

    /// Refuses everything else than a power of two from [`Self::MIN`] to [`Self::MAX`].
    pub fn new(bytes: u32) -> Result<Self, VerityError> {
        if !bytes.is_power_of_two() || !(Self::MIN..=Self::MAX).contains(&bytes) {
            return Err(VerityError::BlockSize { given: u64::from(bytes) });
        }
        // At most 16.
        Ok(Self(bytes.trailing_zeros().to_le_bytes()[0]))
    }

    /// Bytes, for lengths of slices.
    pub const fn bytes(self) -> usize {
        1 << self.0
    }

    /// Bytes.
    pub const fn get(self) -> u32 {
        1 << self.0
    }

    /// The binary logarithm, as a descriptor holds it.
    pub const fn log2(self) -> u8 {
        self.0
    }
}

impl Default for BlockSize {
    /// 4096 bytes.
    fn default() -> Self {
        Self(12)
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = VerityError;

    fn try_from(bytes: u32) -> Result<Self, VerityError> {
        Self::new(bytes)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSize({self})")
    }
}

/// Bytes hashed in front of every block; at most 32. The empty one means none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Salt {
    // Zero from `length` on, so that the derived comparisons are right and a descriptor can copy it whole.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Salt {
    /// The longest, in bytes.
    pub const MAX: usize = 32;

    /// Refuses more than [`Self::MAX`] bytes. Zero bytes at the end count.
    pub fn new(salt: &[u8]) -> Result<Self, VerityError> {
        let too_long = VerityError::SaltTooLong { length: salt.len() };
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..salt.len()).ok_or(too_long)?.copy_from_slice(salt);
        Ok(Self { bytes, length: u8::try_from(salt.len()).map_err(|_| too_long)? })
    }

    /// The bytes, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    /// The length in bytes, as a descriptor holds it.
    pub(super) const fn length(&self) -> u8 {
        self.length
    }

    /// The bytes, zero-padded.
    pub(super) const fn padded(&self) -> &[u8; Self::MAX] {
        &self.bytes
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({self})")
    }
}

impl FromStr for Salt {
    type Err = VerityError;

    /// Reads hexadecimal digits of either case, as `fsverity --salt` does; none at all is the empty salt.
    fn from_str(text: &str) -> Result<Self, VerityError> {
        let mut bytes = [0; Self::MAX];
        let length = text.len() / 2;
        let bytes = bytes.get_mut(..length).ok_or(VerityError::SaltTooLong { length })?;
        hex::decode_to_slice(text, bytes).map_err(|_| VerityError::SaltText)?;
        Self::new(bytes)
    }
}

/// The choices that a tree is made with; SHA-256, 4096 bytes and no salt by default, as `fsverity` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params {
    /// The hash of blocks and descriptor.
    pub algorithm: HashAlgorithm,
    /// The size of data and tree blocks.
    pub block_size: BlockSize,
    /// What is hashed in front of each block.
    pub salt: Salt,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_powers_of_two_from_1024_to_65536_are_block_sizes() {
        let good: Vec<_> = (0..=200_000).filter(|n| BlockSize::new(*n).is_ok()).collect();
        assert_eq!(good, [1024, 2048, 4096, 8192, 16384, 32768, 65536]);
        for bytes in [1 << 20, 1 << 31, u32::MAX] {
            assert_eq!(BlockSize::new(bytes), Err(VerityError::BlockSize { given: u64::from(bytes) }));
        }
        for bytes in good {
            let size = BlockSize::new(bytes).unwrap();
            assert_eq!((size.get(), size.bytes()), (bytes, usize::try_from(bytes).unwrap()));
            assert_eq!(1 << size.log2(), bytes);
        }
        assert_eq!(BlockSize::default().get(), 4096);
    }

    #[test]
    fn a_salt_keeps_its_bytes_and_length() {
        for length in 0..=32 {
            let bytes = vec![0xa5; length];
            let salt = Salt::new(&bytes).unwrap();
            assert_eq!(salt.as_bytes(), bytes);
            assert_eq!(salt.to_string().parse(), Ok(salt));
        }
        assert_ne!(Salt::new(&[1]), Salt::new(&[1, 0]));
        assert_ne!(Salt::new(&[0]), Ok(Salt::default()));
    }

    #[test]
    fn longer_salts_are_refused() {
        for length in [33, 64, 255, 256, 288, 1 << 20] {
            assert_eq!(Salt::new(&vec![0; length]), Err(VerityError::SaltTooLong { length }));
            assert_eq!("00".repeat(length).parse::<Salt>(), Err(VerityError::SaltTooLong { length }));
        }
    }

    #[test]
    fn salt_text_takes_both_cases_and_nothing_else() {
        assert_eq!("aAFf".parse(), Salt::new(&[0xaa, 0xff]));
        for text in ["a", "abc", "0x", "g0", " aa", "aa ", "é"] {
            assert_eq!(text.parse::<Salt>(), Err(VerityError::SaltText), "{text:?}");
        }
        assert_eq!(format!("{}1", "00".repeat(32)).parse::<Salt>(), Err(VerityError::SaltText));
    }
}
