//! From what went wrong in the export to `nfsstat4`.

use super::status::Status;
use crate::export::ExportError;

impl Status {
    /// For operations that find an object by name.
    pub const fn of_name(error: ExportError) -> Self {
        match error {
            ExportError::BadHandle => Self::BadHandle,
            ExportError::Stale => Self::Stale,
            ExportError::NotFound => Self::NoEnt,
            ExportError::NotADirectory => Self::NotDir,
            ExportError::IsADirectory => Self::IsDir,
            ExportError::NotRegular | ExportError::NotASymlink => Self::WrongType,
            ExportError::Permission | ExportError::Denied(_) => Self::Access,
            ExportError::Corrupt(_) | ExportError::Io => Self::Io,
            ExportError::NameTooLong => Self::NameTooLong,
            // Names that cannot exist are told apart before; see `ops::name`.
            ExportError::InvalidName => Self::Inval,
            ExportError::NoXattr => Self::NoXattr,
            ExportError::BadCookie => Self::BadCookie,
            ExportError::Busy => Self::Delay,
        }
    }

    /// For operations that name their object by handle alone: one that is gone is a stale handle.
    pub const fn of_handle(error: ExportError) -> Self {
        match Self::of_name(error) {
            Self::NoEnt => Self::Stale,
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;

    #[test]
    fn every_failure_has_a_status_that_clients_know() {
        for (error, status) in [
            (ExportError::BadHandle, Status::BadHandle),
            (ExportError::Stale, Status::Stale),
            (ExportError::NotFound, Status::Stale),
            (ExportError::NotADirectory, Status::NotDir),
            (ExportError::IsADirectory, Status::IsDir),
            (ExportError::NotRegular, Status::WrongType),
            (ExportError::NotASymlink, Status::WrongType),
            (ExportError::Permission, Status::Access),
            (ExportError::Denied(Cause::Unsigned), Status::Access),
            (ExportError::Corrupt(Cause::Truncated), Status::Io),
            (ExportError::Io, Status::Io),
            (ExportError::NameTooLong, Status::NameTooLong),
            (ExportError::InvalidName, Status::Inval),
            (ExportError::NoXattr, Status::NoXattr),
            (ExportError::BadCookie, Status::BadCookie),
            (ExportError::Busy, Status::Delay),
        ] {
            assert_eq!(Status::of_handle(error), status, "{error:?}");
        }
        assert_eq!(Status::of_name(ExportError::NotFound), Status::NoEnt);
    }
}
