//! From bytes to the types of `integrity.x` and back.
//!
//! The codecs are xdr-codec's and take a stream that ends early for one that may go on: they would
//! loop for ever or give less than was sent. [`Strict`] ends with an error instead.

use std::io::{self, ErrorKind, Read};

use xdr_codec::{Pack, Unpack};

/// Why bytes are not what was asked for, or a value has no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("the data ends early")]
    Truncated,
    /// A length is over this limit.
    #[error("a length is over the limit {0}")]
    TooLong(usize),
    /// A discriminant that is not defined.
    #[error("value {0} is not defined here")]
    Undefined(i32),
    /// Bytes follow where the data should end.
    #[error("{0} bytes follow the data")]
    Trailing(usize),
    /// Something that does not happen with data in memory.
    #[error("the data cannot be read or written")]
    Other,
}

impl From<xdr_codec::Error> for WireError {
    fn from(error: xdr_codec::Error) -> Self {
        match error.kind() {
            xdr_codec::ErrorKind::IOError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Self::Truncated
            }
            xdr_codec::ErrorKind::InvalidLen(limit) => Self::TooLong(*limit),
            xdr_codec::ErrorKind::InvalidCase(value) | xdr_codec::ErrorKind::InvalidEnum(value) => {
                Self::Undefined(*value)
            }
            xdr_codec::ErrorKind::IOError(_)
            | xdr_codec::ErrorKind::InvalidUtf8(_)
            | xdr_codec::ErrorKind::Msg(_) => Self::Other,
        }
    }
}

/// Bytes that do not end without an error.
#[derive(Debug)]
pub struct Strict<'a>(&'a [u8]);

impl Read for Strict<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// A type of `integrity.x`: one that xdrgen made both codecs for.
pub trait Wire: for<'a> Unpack<Strict<'a>> + Pack<Vec<u8>> + Pack<io::Sink> {}

impl<T: for<'a> Unpack<Strict<'a>> + Pack<Vec<u8>> + Pack<io::Sink>> Wire for T {}

/// Decodes all of `bytes`.
///
/// # Errors
/// [`WireError`] when the bytes end early or go on, or a length or discriminant is not allowed.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    let mut input = Strict(bytes);
    let value = xdr_codec::unpack(&mut input)?;
    match input.0.len() {
        0 => Ok(value),
        left => Err(WireError::Trailing(left)),
    }
}

/// The bytes of `value`, in a vector that has room for them and no more: replies are charged for so much.
///
/// # Errors
/// [`WireError::TooLong`] when something in it is longer than it may be.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(value.pack(&mut io::sink())?);
    xdr_codec::pack(value, &mut bytes)?;
    Ok(bytes)
}
