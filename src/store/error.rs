//! What goes wrong with a store.

use std::io;

use super::StorePath;

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No such object.
    NotFound,
    /// A component that is not the last one is no directory, or a directory was asked for.
    NotADirectory,
    /// A directory stands where a file was asked for.
    IsADirectory,
    /// Neither directory nor regular file, where a regular file was asked for.
    NotRegular,
    /// The path leads through a symbolic link, or out of the store.
    Symlink,
    /// The gateway may not.
    Access,
    /// A name or path is too long for the store.
    NameTooLong,
    /// The process has no file descriptor or memory left; the call may succeed later.
    Exhausted,
    /// The store does not answer, or not now; the call may succeed later.
    Unavailable,
    /// The object is gone or was replaced.
    Stale,
    /// The store cannot be written.
    ReadOnly,
    /// The store is full.
    NoSpace,
    /// The store, or the file system below it, has no such thing.
    Unsupported,
    /// A value is longer than the caller takes.
    TooLarge,
    /// Anything else: the device or the network failed.
    Io,
}

/// A store call that failed: what was done, to which path, and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {operation}: {source}")]
pub struct StoreError {
    /// The kind, for decisions.
    pub kind: StoreErrorKind,
    /// What was tried: `open`, `read`, `stat`.
    pub operation: &'static str,
    /// The object, below the store's root.
    pub path: StorePath,
    /// The system's word.
    pub source: io::Error,
}

impl StoreError {
    /// An error of kind `kind` for people and for decisions.
    pub fn new(kind: StoreErrorKind, operation: &'static str, path: &StorePath, source: io::Error) -> Self {
        Self { kind, operation, path: path.clone(), source }
    }

    /// The same from the system's error alone.
    pub fn from_io(operation: &'static str, path: &StorePath, source: io::Error) -> Self {
        Self::new(kind_of(&source), operation, path, source)
    }
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => StoreErrorKind::NotFound,
        Some(Errno::NOTDIR) => StoreErrorKind::NotADirectory,
        Some(Errno::ISDIR) => StoreErrorKind::IsADirectory,
        Some(Errno::LOOP | Errno::XDEV) => StoreErrorKind::Symlink,
        Some(Errno::ACCESS | Errno::PERM) => StoreErrorKind::Access,
        Some(Errno::NAMETOOLONG) => StoreErrorKind::NameTooLong,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => StoreErrorKind::Exhausted,
        Some(Errno::STALE) => StoreErrorKind::Stale,
        Some(Errno::ROFS) => StoreErrorKind::ReadOnly,
        Some(Errno::NOSPC | Errno::DQUOT) => StoreErrorKind::NoSpace,
        Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => StoreErrorKind::Unsupported,
        _ => StoreErrorKind::Io,
    }
}
