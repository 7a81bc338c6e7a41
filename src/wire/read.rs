//! Reading: every length is compared with a limit and with what is left before it is used.

/// Why bytes are not the XDR that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The bytes end before the item does.
    #[error("the data ends early")]
    Truncated,
    /// A length or count is over its limit.
    #[error("length {length} is over the limit {limit}")]
    TooLong {
        /// What the peer claims.
        length: u32,
        /// What is allowed.
        limit: u32,
    },
    /// A discriminant, enum or boolean has a value that is not defined.
    #[error("value {0} is not defined here")]
    Undefined(u32),
    /// Bytes follow where the data should end.
    #[error("{0} bytes follow the data")]
    Trailing(usize),
}

/// Reads items from the front of a slice. Copies nothing and allocates nothing.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, unread.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], XdrError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// An unsigned integer of 4 bytes.
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// An unsigned hyper integer of 8 bytes.
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(XdrError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    /// A boolean: 0 or 1 and nothing else.
    pub fn bool(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::Undefined(other)),
        }
    }

    /// Opaque bytes of fixed length `len`, with their padding.
    pub fn fixed(&mut self, len: usize) -> Result<&'a [u8], XdrError> {
        let bytes = self.take(len)?;
        self.take(padding(len))?;
        Ok(bytes)
    }

    /// Opaque bytes or a string of variable length, at most `limit`.
    pub fn opaque(&mut self, limit: u32) -> Result<&'a [u8], XdrError> {
        let length = self.count(limit)?;
        self.fixed(length)
    }

    /// The number of elements of an array, at most `limit`.
    pub fn count(&mut self, limit: u32) -> Result<usize, XdrError> {
        let length = self.u32()?;
        if length > limit {
            return Err(XdrError::TooLong { length, limit });
        }
        usize::try_from(length).map_err(|_| XdrError::TooLong { length, limit })
    }

    /// Makes sure that all has been read.
    pub fn finish(self) -> Result<(), XdrError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(XdrError::Trailing(left)),
        }
    }
}

/// Bytes that fill an item of `len` bytes up to a multiple of four.
pub(super) const fn padding(len: usize) -> usize {
    (4 - len % 4) % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_cut_at_any_length_are_refused() {
        let bytes = [0, 0, 0, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let read = |b: &[u8]| -> Result<(), XdrError> {
            let mut r = Reader::new(b);
            assert!(r.bool()?);
            assert_eq!(r.opaque(5)?, [1, 2, 3, 4, 5]);
            assert_eq!(r.u64()?, 9);
            r.finish()
        };
        assert_eq!(read(&bytes), Ok(()));
        for n in 0..bytes.len() {
            assert_eq!(read(&bytes[..n]), Err(XdrError::Truncated), "{n}");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(XdrError::Trailing(1)));
    }

    #[test]
    fn a_claimed_length_is_checked_before_use() {
        let bytes = [0xff; 4];
        assert_eq!(Reader::new(&bytes).opaque(400), Err(XdrError::TooLong { length: u32::MAX, limit: 400 }));
        assert_eq!(Reader::new(&bytes).opaque(u32::MAX), Err(XdrError::Truncated));
        assert_eq!(Reader::new(&[0, 0, 0, 2]).bool(), Err(XdrError::Undefined(2)));
    }
}
