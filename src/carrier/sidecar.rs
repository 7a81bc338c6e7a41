//! Bundles in a directory of the store: the evidence of `a/b` is `.nfs-verity/a/b`.

use std::sync::Arc;

use bytes::Bytes;

use super::bundle::{BundleError, HEAD_READ, Head};
use crate::store::{
    Attr, Kind, PathError, Store, StoreError, StoreErrorKind, StoreFile, StorePath, StoreWriter,
};

/// The directory in the store's root that holds the bundles. Clients never see it.
pub const SIDECAR_DIRECTORY: &[u8] = b".nfs-verity";

/// Tree bytes gathered before they are written.
const RUN_MAX: usize = 256 * 1024;

/// What goes wrong with evidence.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// There is no evidence for the file.
    #[error("no evidence at {0}")]
    Missing(StorePath),
    /// There is something, but no bundle.
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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The sidecar directory of one store.
#[derive(Clone)]
pub struct Sidecar {
    store: Arc<dyn Store>,
    /// Held while stale evidence is removed: many files may take the place of one, and what the
    /// first of them has put there is not stale.
    clearing: Arc<tokio::sync::Mutex<()>>,
}

impl Sidecar {
    /// The sidecar of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, clearing: Arc::default() }
    }

    /// Where all evidence lies.
    pub fn directory() -> StorePath {
        StorePath::root().join(SIDECAR_DIRECTORY).unwrap_or_else(|_| StorePath::root())
    }

    /// Where unfinished bundles lie: the evidence of the evidence, which there never is.
    fn scratch() -> StorePath {
        Self::directory().join(SIDECAR_DIRECTORY).unwrap_or_else(|_| Self::directory())
    }

    /// Where the evidence of `path` lies.
    pub fn place(path: &StorePath) -> Result<StorePath, CarrierError> {
        let bytes = [SIDECAR_DIRECTORY, b"/", path.as_bytes()].concat();
        StorePath::parse(&bytes).map_err(|source| CarrierError::Path { path: path.clone(), source })
    }

    /// Attributes of the bundle of `path`, or [`CarrierError::Missing`].
    pub async fn stat(&self, path: &StorePath) -> Result<Attr, CarrierError> {
        let place = Self::place(path)?;
        self.store.stat(&place).await.map_err(|error| missing_or(error, place))
    }

    /// Opens the bundle of `path` and reads its head, once.
    pub async fn open(&self, path: &StorePath) -> Result<OpenBundle, CarrierError> {
        let place = Self::place(path)?;
        let file = self.store.open(&place).await.map_err(|error| missing_or(error, place.clone()))?;
        let attr = file.stat().await?;
        let malformed = |source| CarrierError::Malformed { path: place.clone(), source };
        let mut bytes = read_at(&*file, 0, HEAD_READ).await?;
        let extent = Head::extent(&bytes, attr.size).map_err(malformed)?;
        if extent > bytes.len() {
            bytes = read_at(&*file, 0, extent).await?;
        }
        bytes.truncate(extent);
        let head = Head::parse(&bytes).map_err(malformed)?;
        Ok(OpenBundle { head, attr, place, file })
    }

    /// Starts a new bundle for `path`, whose tree will start at `tree_offset`. Evidence of what
    /// stood at this name or at a directory above it before, and is no more, is removed.
    pub async fn create(&self, path: &StorePath, tree_offset: u64) -> Result<SidecarWriter, CarrierError> {
        let place = Self::place(path)?;
        self.clear(&place).await?;
        let writer = self.store.create(&place, &Self::scratch()).await?;
        Ok(SidecarWriter { writer, place, tree_offset, runs: Vec::new() })
    }

    /// Removes the evidence of `path`.
    pub async fn remove(&self, path: &StorePath) -> Result<(), CarrierError> {
        Ok(self.store.remove(&Self::place(path)?).await?)
    }

    /// Makes way for a file at `place`.
    async fn clear(&self, place: &StorePath) -> Result<(), StoreError> {
        if self.stale(place).await?.is_none() {
            return Ok(());
        }
        let _alone = self.clearing.lock().await;
        match self.stale(place).await? {
            Some(path) => self.store.remove(&path).await,
            None => Ok(()),
        }
    }

    /// What stands in the way of a file at `place`.
    async fn stale(&self, place: &StorePath) -> Result<Option<StorePath>, StoreError> {
        match self.store.stat(place).await {
            Ok(attr) if attr.kind == Kind::Regular => Ok(None),
            Ok(_) => Ok(Some(place.clone())),
            Err(error) => match error.kind {
                StoreErrorKind::NotFound => Ok(None),
                StoreErrorKind::NotADirectory | StoreErrorKind::Symlink => self.obstacle(place).await,
                _ => Err(error),
            },
        }
    }

    /// The outermost ancestor of `place` that is no directory.
    async fn obstacle(&self, place: &StorePath) -> Result<Option<StorePath>, StoreError> {
        let mut path = StorePath::root();
        for name in place.components() {
            path = path.join(name).unwrap_or_else(|_| place.clone());
            let kind = match self.store.stat(&path).await {
                // Removed meanwhile: what else stands in the way will be seen when the file is put there.
                Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
                other => other?.kind,
            };
            if path == *place || kind != Kind::Directory {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

fn missing_or(error: StoreError, place: StorePath) -> CarrierError {
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

async fn read_at(file: &dyn StoreFile, offset: u64, len: usize) -> Result<Bytes, StoreError> {
    match file.try_read_at(offset, len) {
        Some(bytes) => Ok(bytes),
        None => file.read_at(offset, len).await,
    }
}

/// An open bundle: its head in memory, its tree to be read block by block.
pub struct OpenBundle {
    /// The head as it was at opening.
    pub head: Head,
    /// The bundle's attributes at opening.
    pub attr: Attr,
    place: StorePath,
    file: Arc<dyn StoreFile>,
}

impl OpenBundle {
    /// Exactly `len` bytes of tree from `offset` in the tree.
    pub async fn read_tree(&self, offset: u64, len: usize) -> Result<Bytes, CarrierError> {
        let cut = |have: u64| CarrierError::Malformed {
            path: self.place.clone(),
            source: BundleError::Cut { have, need: offset.saturating_add(len as u64) },
        };
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.head.tree_len);
        let start = self.head.tree_offset.checked_add(offset);
        let (Some(_), Some(start)) = (end, start) else {
            return Err(cut(self.head.tree_len));
        };
        let bytes = read_at(&*self.file, start, len).await?;
        if bytes.len() != len {
            return Err(cut(offset + bytes.len() as u64));
        }
        Ok(bytes)
    }
}

/// A bundle that is being written. Dropping it leaves the old one.
pub struct SidecarWriter {
    writer: Box<dyn StoreWriter>,
    place: StorePath,
    tree_offset: u64,
    /// Tree bytes not written yet, each with its offset in the tree. One a level: every level grows at its end.
    runs: Vec<(u64, Vec<u8>)>,
}

impl SidecarWriter {
    /// Takes a tree block that belongs at `offset` in the tree.
    pub fn push(&mut self, offset: u64, block: &[u8]) {
        match self.runs.iter_mut().find(|(start, run)| *start + run.len() as u64 == offset) {
            Some((_, run)) => run.extend_from_slice(block),
            None => self.runs.push((offset, block.to_vec())),
        }
    }

    /// Writes what has gathered, if it is enough to be worth it.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        self.write_runs(RUN_MAX).await
    }

    async fn write_runs(&mut self, at_least: usize) -> Result<(), StoreError> {
        for (start, run) in &mut self.runs {
            if !run.is_empty() && run.len() >= at_least {
                self.writer.write_at(self.tree_offset + *start, run).await?;
                *start += run.len() as u64;
                run.clear();
            }
        }
        Ok(())
    }

    /// Puts the bundle in place, whole and durable.
    pub async fn commit(mut self, head: &Head) -> Result<(), CarrierError> {
        let bytes =
            head.encode().map_err(|source| CarrierError::Malformed { path: self.place.clone(), source })?;
        self.write_runs(1).await?;
        self.writer.write_at(0, &bytes).await?;
        Ok(self.writer.commit().await?)
    }
}
