//! What an operation on the export can answer instead of a result.

use crate::carrier::CarrierError;
use crate::event::Cause;
use crate::store::{PathError, StoreError, StoreErrorKind};

/// Why an operation failed, as far as a client may know. The details went to the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The file handle was not made by this gateway.
    #[error("the file handle is not one of ours")]
    BadHandle,
    /// The object is gone, or another one has its name now.
    #[error("the object is gone")]
    Stale,
    /// No such name.
    #[error("no such name")]
    NotFound,
    /// The operation wants a directory.
    #[error("not a directory")]
    NotADirectory,
    /// The operation does not take a directory.
    #[error("a directory")]
    IsADirectory,
    /// The operation wants a regular file.
    #[error("not a regular file")]
    NotRegular,
    /// The operation wants a symbolic link.
    #[error("not a symbolic link")]
    NotASymlink,
    /// Owner, group and mode do not let this caller.
    #[error("not permitted")]
    Permission,
    /// Policy does not allow the file.
    #[error("denied: {0}")]
    Denied(Cause),
    /// Data or evidence are damaged.
    #[error("damaged: {0}")]
    Corrupt(Cause),
    /// A name is too long.
    #[error("the name is too long")]
    NameTooLong,
    /// A name holds what no name may.
    #[error("the name is not allowed")]
    InvalidName,
    /// The object has no extended attribute of this name.
    #[error("no such extended attribute")]
    NoXattr,
    /// A directory cookie that leads nowhere.
    #[error("the cookie is not valid")]
    BadCookie,
    /// The gateway lacks something at the moment; asking later will do.
    #[error("busy, try again later")]
    Busy,
    /// The store failed.
    #[error("the store failed")]
    Io,
}

impl From<&StoreError> for ExportError {
    fn from(error: &StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NotFound | StoreErrorKind::Symlink => Self::NotFound,
            StoreErrorKind::NotADirectory => Self::NotADirectory,
            StoreErrorKind::IsADirectory => Self::IsADirectory,
            StoreErrorKind::NotRegular => Self::NotRegular,
            StoreErrorKind::Access => Self::Permission,
            StoreErrorKind::NameTooLong => Self::NameTooLong,
            StoreErrorKind::Exhausted | StoreErrorKind::Unavailable => Self::Busy,
            StoreErrorKind::Stale => Self::Stale,
            StoreErrorKind::ReadOnly
            | StoreErrorKind::NoSpace
            | StoreErrorKind::Unsupported
            | StoreErrorKind::TooLarge
            | StoreErrorKind::Io => Self::Io,
        }
    }
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<PathError> for ExportError {
    fn from(error: PathError) -> Self {
        match error {
            PathError::TooLong => Self::NameTooLong,
            PathError::Invalid => Self::InvalidName,
        }
    }
}

/// What evidence that cannot be opened or read means for its file.
pub(super) fn cause(error: &CarrierError) -> Cause {
    match error {
        CarrierError::Missing(_) | CarrierError::Path { .. } => Cause::Unsigned,
        // Refusals are of writing, which is not done here.
        CarrierError::Malformed { .. } | CarrierError::Refused { .. } => Cause::MalformedEvidence,
        CarrierError::Store(_) => Cause::Unreadable,
    }
}

/// What a client hears of evidence that could not be read where nothing is wrong with it: the gateway or the
/// store lacks something at the moment, or other evidence took its place.
pub(super) fn excuse(error: &CarrierError) -> Option<ExportError> {
    match error {
        _ if exhausted(error) => Some(ExportError::Busy),
        _ if replaced(error) => Some(ExportError::Stale),
        _ => None,
    }
}

/// Whether other evidence took the place of that which was read.
pub(super) fn replaced(error: &CarrierError) -> bool {
    matches!(error, CarrierError::Store(StoreError { kind: StoreErrorKind::Stale, .. }))
}

/// Whether evidence could not be read for something that the gateway or the store lacks at the moment.
pub(super) fn exhausted(error: &CarrierError) -> bool {
    matches!(
        error,
        CarrierError::Store(StoreError { kind: StoreErrorKind::Exhausted | StoreErrorKind::Unavailable, .. })
    )
}
