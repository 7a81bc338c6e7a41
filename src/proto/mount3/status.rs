//! From what went wrong in the export to `mountstat3`, RFC 1813 section 5.1.5.

use crate::export::ExportError;

/// The status codes that MNT gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// `MNT3_OK`
    Ok = 0,
    /// `MNT3ERR_NOENT`
    NoEntry = 2,
    /// `MNT3ERR_IO`
    Io = 5,
    /// `MNT3ERR_ACCES`
    Access = 13,
    /// `MNT3ERR_NOTDIR`
    NotDirectory = 20,
    /// `MNT3ERR_INVAL`
    Invalid = 22,
    /// `MNT3ERR_NAMETOOLONG`
    NameTooLong = 63,
    /// `MNT3ERR_SERVERFAULT`
    ServerFault = 10006,
}

impl Status {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// For a path that did not lead to an object.
    pub const fn of(error: ExportError) -> Self {
        match error {
            // Gone between two steps of the path.
            ExportError::NotFound | ExportError::Stale => Self::NoEntry,
            ExportError::NotADirectory
            | ExportError::NotRegular
            | ExportError::NotASymlink
            | ExportError::NoXattr => Self::NotDirectory,
            ExportError::Permission | ExportError::Denied(_) => Self::Access,
            ExportError::Corrupt(_) | ExportError::Io => Self::Io,
            ExportError::NameTooLong => Self::NameTooLong,
            ExportError::InvalidName => Self::Invalid,
            // MOUNT has no way to say "later"; and no handle and no cookie was given.
            ExportError::Busy
            | ExportError::BadHandle
            | ExportError::BadCookie
            | ExportError::IsADirectory => Self::ServerFault,
        }
    }
}
