//! Where the evidence of a file lives: opaque bytes in and out.
//!
//! A [`Carrier`] is one such place, and [`bundle`] the layout that they share. [`Sidecar`] keeps bundles
//! in a directory of the store itself, [`Xattr`] in extended attributes, [`Appended`] behind the data, and
//! [`Kernel`] leaves what it can to the fs-verity of the file system. Nothing here is proven: evidence is as untrusted as
//! the store, and a tree that is given beside it need not even belong to it.

mod appended;
#[cfg(test)]
mod attribute_tests;
pub mod bundle;
mod error;
mod evidence;
#[cfg(test)]
mod fixture;
mod footer;
mod kernel;
mod le;
mod list;
mod sidecar;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod xattr;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

pub use appended::{Appended, Trailer};
pub use error::{CarrierError, Refusal};
pub use evidence::{Evidence, Observed};
pub use footer::Footer;
pub use kernel::Kernel;
pub use list::Carriers;
pub use sidecar::{SIDECAR_DIRECTORY, Sidecar};
pub use tree::{TreeSource, copy_tree};
pub use values::{BUNDLE_XATTR, SECURITY_IMA, USER_IMA, bundle_xattr};
pub use xattr::Xattr;

use crate::store::{Attr, BoxFuture, StorePath, Time};

/// A place for evidence.
///
/// Evidence without any signature is no evidence: [`Carrier::open`] and [`Carrier::stamp`] say
/// [`CarrierError::Missing`] of it.
pub trait Carrier: Send + Sync + 'static {
    /// Which one it is.
    fn kind(&self) -> CarrierKind;

    /// Reads the evidence of `path`, once. Its tree is opened, and read later.
    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>>;

    /// [`Carrier::open`] of many names in one directory, in the order of `names`; `None` for what has to be opened by
    /// itself, which may have no evidence at all. A tree is opened by its name when it is read, and may be that of
    /// later evidence then.
    fn open_together<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<OpenEvidence>>> {
        let _ = directory;
        Box::pin(async { names.iter().map(|_| None).collect() })
    }

    /// What [`OpenEvidence::stamp`] would be now.
    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>>;

    /// [`Carrier::stamp`] of many names in one directory, in the order of `names`; `None` for what has none.
    fn stamps<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<Stamp>>> {
        Box::pin(async move {
            let mut stamps = Vec::with_capacity(names.len());
            for name in names {
                stamps.push(match directory.join(name) {
                    Ok(path) => self.stamp(&path).await.ok(),
                    Err(_) => None,
                });
            }
            stamps
        })
    }

    /// Starts new evidence with a new tree for `path`. `tree_offset` leaves room for the head of a
    /// bundle: see [`bundle::tree_offset`].
    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        tree_offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>>;

    /// Puts `evidence` in the place of `open`, which this carrier gave, around the same tree. Readers
    /// meet the old or the new evidence, whole.
    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        open: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>>;

    /// Removes the evidence of `path`.
    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>>;

    /// Removes the evidence of `path`, which the carrier `to` holds now, but for what that one uses
    /// of it: its tree, or extended attributes.
    fn retire<'a>(&'a self, path: &'a StorePath, to: CarrierKind) -> BoxFuture<'a, Result<(), CarrierError>> {
        let _ = to;
        self.remove(path)
    }
}

/// Evidence that is being written. Dropping it leaves the old.
pub trait EvidenceWriter: Send {
    /// Takes a tree block that belongs at `offset` in the tree. Every block is pushed once, those of
    /// a level in order.
    fn push(&mut self, offset: u64, block: &[u8]);

    /// Writes what has gathered, if it is enough to be worth it.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>>;

    /// Puts the evidence in place, whole and durable.
    fn commit<'a>(self: Box<Self>, evidence: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>>;
}

/// The places for evidence that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CarrierKind {
    /// A bundle in a directory of the store.
    Sidecar,
    /// The fs-verity of the kernel, and extended attributes for what that does not hold.
    Kernel,
    /// Extended attributes, and a bundle beside the file for the tree.
    Xattr,
    /// A bundle behind the data.
    Appended,
}

impl CarrierKind {
    /// All, in the order in which they are tried where nothing else is said. The kernel comes before
    /// extended attributes, for a sealed file has part of its evidence there.
    pub const ALL: [Self; 4] = [Self::Sidecar, Self::Kernel, Self::Xattr, Self::Appended];

    /// The name in configurations and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Kernel => "kernel",
            Self::Xattr => "xattr",
            Self::Appended => "appended",
        }
    }

    /// Whether it keeps evidence in what file systems have beside names and data.
    pub fn needs_file_attributes(self) -> bool {
        match self {
            Self::Kernel | Self::Xattr => true,
            Self::Sidecar | Self::Appended => false,
        }
    }
}

impl fmt::Display for CarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No carrier has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no carrier; they are sidecar, xattr, appended and kernel")]
pub struct UnknownCarrier(pub String);

impl FromStr for CarrierKind {
    type Err = UnknownCarrier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| UnknownCarrier(text.chars().take(64).collect()))
    }
}

/// Evidence as it was when it was opened.
pub struct OpenEvidence {
    /// What is said of the file.
    pub evidence: Evidence,
    /// Where it was found.
    pub carrier: CarrierKind,
    /// The tree; `None` when it has to be built from the data. May belong to other evidence, which
    /// shows when its blocks are proven.
    pub tree: Option<Arc<dyn TreeSource>>,
    /// Bytes at the end of the file in the store that are evidence, not data.
    pub trailer: u64,
    /// The state of evidence and file.
    pub stamp: Stamp,
    /// Bytes that the evidence takes beside its tree.
    pub head_bytes: u64,
    /// What errors about the tree name.
    pub(crate) place: StorePath,
}

impl OpenEvidence {
    /// Exactly `len` bytes of tree from `offset` in the tree.
    ///
    /// # Errors
    /// [`CarrierError::Malformed`] where the tree is shorter, or not there at all.
    pub async fn read_tree(&self, offset: u64, len: usize) -> Result<Bytes, CarrierError> {
        match &self.tree {
            Some(tree) => tree.read(offset, len).await,
            None => Err(tree::cut(&self.place, 0, offset, len)),
        }
    }

    /// Bytes of tree, where there is one.
    pub fn tree_len(&self) -> Option<u64> {
        self.tree.as_ref().map(|tree| tree.size())
    }
}

/// Tells one state of a file's evidence from another: equal when neither the evidence changed nor, for
/// carriers that live in the file itself, the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    carrier: CarrierKind,
    fileid: u64,
    size: u64,
    mtime: Time,
    ctime: Time,
    /// Of evidence that changes in place, within one tick of the clock that stamps files too.
    digest: [u8; 32],
}

impl Stamp {
    pub(crate) fn of(carrier: CarrierKind, attr: &Attr) -> Self {
        let Attr { fileid, size, mtime, ctime, .. } = *attr;
        Self { carrier, fileid, size, mtime, ctime, digest: [0; 32] }
    }

    /// The same bytes for equal stamps, and other bytes for others.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { carrier, fileid, size, mtime, ctime, digest } = self;
        let mut bytes = carrier.name().as_bytes().to_vec();
        for number in [*fileid, *size, mtime.seconds.cast_unsigned(), ctime.seconds.cast_unsigned()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&mtime.nanos.to_le_bytes());
        bytes.extend_from_slice(&ctime.nanos.to_le_bytes());
        bytes.extend_from_slice(digest);
        bytes
    }
}
