//! From what went wrong in the export to `integrity_stat`.

use super::generated::integrity_stat;
use crate::export::ExportError;

/// For an object that is named by its handle alone, as NFS version 3 has it.
pub(super) const fn of(error: ExportError) -> integrity_stat {
    match error {
        ExportError::BadHandle => integrity_stat::INTEGRITY_BADHANDLE,
        ExportError::Stale | ExportError::NotFound => integrity_stat::INTEGRITY_STALE,
        ExportError::IsADirectory
        | ExportError::NotADirectory
        | ExportError::NotRegular
        | ExportError::NotASymlink
        | ExportError::InvalidName
        | ExportError::BadCookie => integrity_stat::INTEGRITY_INVAL,
        ExportError::Permission | ExportError::Denied(_) => integrity_stat::INTEGRITY_ACCES,
        ExportError::Corrupt(_) | ExportError::Io => integrity_stat::INTEGRITY_IO,
        ExportError::NameTooLong => integrity_stat::INTEGRITY_NAMETOOLONG,
        ExportError::NoXattr => integrity_stat::INTEGRITY_NOXATTR,
        ExportError::Busy => integrity_stat::INTEGRITY_JUKEBOX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;

    #[test]
    fn codes_are_those_of_nfs_version_3_and_one_of_rfc_8276() {
        let codes = [
            (ExportError::BadHandle, 10001),
            (ExportError::Stale, 70),
            (ExportError::NotFound, 70),
            (ExportError::NotADirectory, 22),
            (ExportError::IsADirectory, 22),
            (ExportError::NotRegular, 22),
            (ExportError::NotASymlink, 22),
            (ExportError::Permission, 13),
            (ExportError::NameTooLong, 63),
            (ExportError::InvalidName, 22),
            (ExportError::NoXattr, 10095),
            (ExportError::BadCookie, 22),
            (ExportError::Busy, 10008),
            (ExportError::Io, 5),
        ];
        for (error, code) in codes {
            assert_eq!(of(error) as i32, code, "{error:?}");
        }
        for cause in Cause::ALL {
            assert_eq!(of(ExportError::Denied(cause)) as i32, 13);
            assert_eq!(of(ExportError::Corrupt(cause)) as i32, 5);
        }
    }
}
