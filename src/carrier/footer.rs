//! The last bytes of a file that carries its evidence: data, then a bundle, then this footer.
//!
//! ```text
//! offset  size  field, integers little-endian
//!      0     8  magic 89 'n' 'f' 's' 'v' 'a' 'p' 0a
//!      8     2  version, 1
//!     10     6  zero
//!     16     8  bytes of data before the bundle
//!     24     8  bytes of the bundle
//! ```
//!
//! Data, bundle and footer make up the whole file.

use super::bundle::BundleError;
use super::le::Le;

const MAGIC: [u8; 8] = *b"\x89nfsvap\n";
const VERSION: u16 = 1;

/// Where data and bundle lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Bytes of data.
    pub data_size: u64,
    /// Bytes of the bundle behind them.
    pub bundle_len: u64,
}

impl Footer {
    /// Bytes of a footer.
    pub const SIZE: usize = 32;

    /// Reads the last [`Footer::SIZE`] bytes of a file of `total` bytes; `None` where they are no footer.
    ///
    /// # Errors
    /// For a footer that does not fit to the file, or of a version that is not known.
    pub fn parse(tail: &[u8], total: u64) -> Result<Option<Self>, BundleError> {
        let Ok(tail): Result<&[u8; Self::SIZE], _> = tail.try_into() else { return Ok(None) };
        let mut reader = Le(tail);
        if reader.take(MAGIC.len()) != Some(&MAGIC) {
            return Ok(None);
        }
        let short = BundleError::Bounds("the footer");
        let version = reader.u16().ok_or(short)?;
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        if reader.take(6) != Some(&[0; 6]) {
            return Err(BundleError::Bounds("the footer's padding"));
        }
        let (data_size, bundle_len) = (reader.u64().ok_or(short)?, reader.u64().ok_or(short)?);
        let footer = Self { data_size, bundle_len };
        if footer.total() != Some(total) {
            return Err(BundleError::Bounds("a size in the footer"));
        }
        Ok(Some(footer))
    }

    /// The footer as bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (version, padding) = (VERSION.to_le_bytes(), [0; 6]);
        let (data, bundle) = (self.data_size.to_le_bytes(), self.bundle_len.to_le_bytes());
        let fields = MAGIC.iter().chain(&version).chain(&padding).chain(&data).chain(&bundle);
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The size of the whole file.
    pub fn total(&self) -> Option<u64> {
        self.data_size.checked_add(self.bundle_len)?.checked_add(Self::SIZE as u64)
    }

    /// Bytes that are not data.
    pub(super) fn trailer(&self) -> u64 {
        self.bundle_len.saturating_add(Self::SIZE as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTER: Footer = Footer { data_size: 5, bundle_len: 300 };

    #[test]
    fn a_footer_is_read_as_it_was_written() {
        for footer in
            [FOOTER, Footer { data_size: 0, bundle_len: 0 }, Footer { data_size: 1 << 62, bundle_len: 9 }]
        {
            assert_eq!(Footer::parse(&footer.encode(), footer.total().unwrap()), Ok(Some(footer)));
        }
        assert_eq!(
            hex::encode(FOOTER.encode()),
            concat!("896e66737661700a", "0100000000000000", "0500000000000000", "2c01000000000000")
        );
    }

    #[test]
    fn a_footer_that_does_not_fit_to_its_file_is_refused() {
        for total in [0, 32, 336, 338, u64::MAX] {
            Footer::parse(&FOOTER.encode(), total).unwrap_err();
        }
        let huge = Footer { data_size: u64::MAX, bundle_len: u64::MAX };
        Footer::parse(&huge.encode(), 30).unwrap_err();
        assert_eq!(huge.trailer(), u64::MAX);
    }

    #[test]
    fn a_changed_bit_makes_it_another_file_or_a_damaged_one() {
        for bit in 0..Footer::SIZE * 8 {
            let mut bytes = FOOTER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Footer::parse(&bytes, 337);
            assert_eq!(read.is_ok(), bit < 64, "bit {bit}");
            assert!(read.is_err() || read == Ok(None), "bit {bit}");
        }
    }

    #[test]
    fn other_lengths_are_no_footer() {
        for length in (0..40).filter(|length| *length != 32) {
            let bytes = [&FOOTER.encode()[..], &[0; 8]].concat();
            assert_eq!(Footer::parse(&bytes[..length], length as u64), Ok(None));
        }
    }
}
