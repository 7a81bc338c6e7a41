//! From what went wrong in the export to `nfsstat3`, RFC 1813 section 2.6.

use crate::export::ExportError;

/// The status codes that a read-only server gives. No other ever leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// `NFS3_OK`
    Ok = 0,
    /// `NFS3ERR_NOENT`
    NoEntry = 2,
    /// `NFS3ERR_IO`
    Io = 5,
    /// `NFS3ERR_ACCES`
    Access = 13,
    /// `NFS3ERR_NOTDIR`
    NotDirectory = 20,
    /// `NFS3ERR_INVAL`
    Invalid = 22,
    /// `NFS3ERR_ROFS`
    ReadOnly = 30,
    /// `NFS3ERR_NAMETOOLONG`
    NameTooLong = 63,
    /// `NFS3ERR_STALE`
    Stale = 70,
    /// `NFS3ERR_BADHANDLE`
    BadHandle = 10001,
    /// `NFS3ERR_BAD_COOKIE`
    BadCookie = 10003,
    /// `NFS3ERR_TOOSMALL`
    TooSmall = 10005,
    /// `NFS3ERR_JUKEBOX`: the client tries again later.
    Jukebox = 10008,
}

impl Status {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// For LOOKUP, which finds an object by name.
    pub const fn of_name(error: ExportError) -> Self {
        match error {
            ExportError::BadHandle => Self::BadHandle,
            ExportError::Stale => Self::Stale,
            ExportError::NotFound => Self::NoEntry,
            ExportError::NotADirectory => Self::NotDirectory,
            // READ of what is no regular file is INVAL, of a directory, too: section 3.3.6.
            ExportError::IsADirectory | ExportError::NotRegular | ExportError::NotASymlink => Self::Invalid,
            ExportError::Permission | ExportError::Denied(_) => Self::Access,
            ExportError::Corrupt(_) | ExportError::Io => Self::Io,
            ExportError::NameTooLong => Self::NameTooLong,
            // A name that cannot exist (empty, with a slash or NUL): section 3.3.3 has ACCES for
            // LOOKUP and no INVAL; knfsd answers ACCES, too.
            ExportError::InvalidName => Self::Access,
            // No procedure of this version asks for one.
            ExportError::NoXattr => Self::Invalid,
            ExportError::BadCookie => Self::BadCookie,
            ExportError::Busy => Self::Jukebox,
        }
    }

    /// For the procedures that name their object by handle alone. None of them may answer
    /// `NFS3ERR_NOENT`: an object that is gone is a stale handle.
    pub const fn of_handle(error: ExportError) -> Self {
        match Self::of_name(error) {
            Self::NoEntry => Self::Stale,
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;

    #[test]
    fn refusals_by_policy_and_damage_have_their_codes() {
        for cause in Cause::ALL {
            assert_eq!(Status::of_handle(ExportError::Denied(cause)).number(), 13);
            assert_eq!(Status::of_handle(ExportError::Corrupt(cause)).number(), 5);
        }
    }

    #[test]
    fn a_vanished_object_is_a_stale_handle_but_a_missing_name() {
        assert_eq!(Status::of_name(ExportError::NotFound).number(), 2);
        assert_eq!(Status::of_handle(ExportError::NotFound).number(), 70);
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let codes = [
            (ExportError::BadHandle, 10001),
            (ExportError::Stale, 70),
            (ExportError::NotADirectory, 20),
            (ExportError::IsADirectory, 22),
            (ExportError::NotRegular, 22),
            (ExportError::NotASymlink, 22),
            (ExportError::Permission, 13),
            (ExportError::NameTooLong, 63),
            (ExportError::InvalidName, 13),
            (ExportError::BadCookie, 10003),
            (ExportError::Busy, 10008),
            (ExportError::Io, 5),
        ];
        for (error, code) in codes {
            assert_eq!(Status::of_name(error).number(), code, "{error:?}");
            assert_eq!(Status::of_handle(error).number(), code, "{error:?}");
        }
    }
}
