//! What goes wrong with evidence.

use super::CarrierKind;
use super::bundle::BundleError;
use crate::store::{PathError, StoreError, StoreErrorKind, StorePath};

/// What goes wrong with evidence.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// There is no evidence for the file.
    #[error("no evidence at {0}")]
    Missing(StorePath),
    /// There is something, but it is damaged.
    #[error("{path}: {source}")]
    Malformed {
        /// Where the evidence lies in the store.
        path: StorePath,
        /// What is wrong with it.
        source: BundleError,
    },
    /// The path leaves no room for the evidence's own path.
    #[error("{path}: {source}")]
    Path {
        /// The file's path.
        path: StorePath,
        /// Why it has none.
        source: PathError,
    },
    /// The carrier cannot take the evidence. Met when evidence is written, never when it is read.
    #[error("{path}: {reason}")]
    Refused {
        /// The file's path.
        path: StorePath,
        /// Why, and what to do.
        reason: Refusal,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a carrier does not take the evidence of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The place is too small.
    #[error("its evidence does not fit into the {0} carrier; use another one, such as sidecar")]
    NoRoom(CarrierKind),
    /// The file system has no such place.
    #[error("its file system cannot hold evidence in the {0} carrier; use another one, such as sidecar")]
    Unsupported(CarrierKind),
    /// A file with a trailer is a new file, and other names would keep the old one.
    #[error(
        "it has {0} names (hard links), and a trailer can only be put on or taken off a file with one; \
         use another carrier, or give it a single name"
    )]
    HardLinks(u32),
    /// The file is not what the evidence was made for.
    #[error(
        "it changed while its evidence was written, and was left as it is; do it again when it is at rest"
    )]
    Changed,
    /// The file has no trailer.
    #[error("it has no trailer")]
    NoTrailer,
    /// There is no tree to go with the evidence.
    #[error("its tree is not there; convert the evidence, which builds the tree anew")]
    NoTree,
    /// The descriptor is none.
    #[error("its descriptor is not one of fs-verity; sign it again")]
    Descriptor,
    /// The kernel has sealed the file as something else than the descriptor says.
    #[error(
        "the kernel has sealed it as {found}, its evidence says {expected}; sign the file again, which keeps the seal"
    )]
    OtherSeal {
        /// The digest of the descriptor.
        expected: String,
        /// What the kernel measured.
        found: String,
    },
    /// The kernel does not seal the file.
    #[error("the kernel does not seal it: {0}")]
    Seal(&'static str),
}

impl CarrierError {
    pub(super) fn refused(path: &StorePath, reason: Refusal) -> Self {
        Self::Refused { path: path.clone(), reason }
    }

    /// Whether there is simply nothing there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Path { .. })
    }
}

/// The answer to a failure to open what lies at `place`.
pub(super) fn missing_or(error: StoreError, place: StorePath) -> CarrierError {
    match error.kind {
        // Whatever stands in the way, a file at this name has no evidence.
        StoreErrorKind::NotFound
        | StoreErrorKind::NotADirectory
        | StoreErrorKind::NotRegular
        | StoreErrorKind::IsADirectory
        | StoreErrorKind::Symlink => CarrierError::Missing(place),
        _ => CarrierError::Store(error),
    }
}
