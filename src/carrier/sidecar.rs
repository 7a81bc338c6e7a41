//! Bundles in a directory of the store: the evidence of `a/b` is `.nfs-verity/a/b`.

use std::sync::Arc;

use bytes::Bytes;

use super::bundle::{self, HEAD_READ, Head};
use super::error::missing_or;
use super::tree::{FileTree, LateTree, Runs, copy_tree, read_at};
use super::{
    Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, OpenEvidence, Refusal, Stamp, TreeSource,
};
use crate::store::{
    Attr, BoxFuture, Kind, Store, StoreError, StoreErrorKind, StoreFile, StorePath, StoreWriter,
};

/// The directory in the store's root that holds the bundles. Clients never see it.
pub const SIDECAR_DIRECTORY: &[u8] = b".nfs-verity";

/// The sidecar directory of one store.
#[derive(Clone)]
pub struct Sidecar {
    pub(super) store: Arc<dyn Store>,
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

    /// Where what is unfinished lies, bundles and files: the evidence of the evidence, which there never is.
    pub fn scratch() -> StorePath {
        Self::directory().join(SIDECAR_DIRECTORY).unwrap_or_else(|_| Self::directory())
    }

    /// Where the evidence of `path` lies.
    pub fn place(path: &StorePath) -> Result<StorePath, CarrierError> {
        let bytes = [SIDECAR_DIRECTORY, b"/", path.as_bytes()].concat();
        StorePath::parse(&bytes).map_err(|source| CarrierError::Path { path: path.clone(), source })
    }

    /// Where the evidence of what is in `directory` lies.
    fn place_of_all(directory: &StorePath) -> Result<StorePath, CarrierError> {
        if directory.is_root() { Ok(Self::directory()) } else { Self::place(directory) }
    }

    /// Opens the bundle of `path` and reads its head, once, signed or not.
    pub(super) async fn open_any(&self, path: &StorePath) -> Result<OpenEvidence, CarrierError> {
        let place = Self::place(path)?;
        let file = self.store.open(&place).await.map_err(|error| missing_or(error, place.clone()))?;
        let attr = file.stat().await?;
        let head = read_head(&file, &place, 0, attr.size).await?;
        let (start, size) = (head.tree_offset, head.tree_len);
        let tree = Arc::new(FileTree { file, place: place.clone(), start, size });
        Ok(opened(head, place, &attr, tree))
    }

    /// The evidence at `place`, of which `bytes` are the first.
    fn opened(&self, place: StorePath, attr: &Attr, bytes: &Bytes) -> Option<OpenEvidence> {
        let extent = Head::extent(bytes, attr.size).ok().filter(|extent| *extent <= bytes.len())?;
        let head = Head::parse(&bytes.slice(..extent)).ok().filter(|head| head.evidence.is_signed())?;
        let (start, size) = (head.tree_offset, head.tree_len);
        let tree = LateTree { store: self.store.clone(), place: place.clone(), start, size };
        Some(opened(head, place, attr, Arc::new(tree)))
    }

    /// Starts a new bundle for `path`, whose tree will start at `tree_offset`. Evidence of what
    /// stood at this name or at a directory above it before, and is no more, is removed.
    pub(super) async fn begin(
        &self,
        path: &StorePath,
        tree_offset: u64,
    ) -> Result<SidecarWriter, CarrierError> {
        let place = Self::place(path)?;
        self.clear(&place).await?;
        let writer = self.store.create(&place, &Self::scratch()).await?;
        Ok(SidecarWriter { writer, place, tree_offset, runs: Runs::default() })
    }

    /// Puts a bundle with `evidence` around the tree of `open` in place.
    pub(super) async fn rewrite(
        &self,
        path: &StorePath,
        open: &OpenEvidence,
        evidence: &Evidence,
    ) -> Result<(), CarrierError> {
        let tree = open.tree.as_ref().ok_or_else(|| CarrierError::refused(path, Refusal::NoTree))?;
        let mut writer = self.begin(path, bundle::tree_offset(evidence, 0)).await?;
        copy_tree(&**tree, &mut writer).await?;
        writer.finish(evidence).await?.commit().await?;
        Ok(())
    }

    /// Removes the bundle of `path`, if there is one that is a tree and nothing more.
    pub(super) async fn remove_tree(&self, path: &StorePath) -> Result<(), CarrierError> {
        match self.open_any(path).await {
            Ok(open) if open.evidence.is_signed() => Ok(()),
            Ok(_) | Err(CarrierError::Malformed { .. }) => self.remove(path).await,
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
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

fn opened(head: Head, place: StorePath, attr: &Attr, tree: Arc<dyn TreeSource>) -> OpenEvidence {
    OpenEvidence {
        evidence: head.evidence,
        carrier: CarrierKind::Sidecar,
        trailer: 0,
        stamp: Stamp::of(CarrierKind::Sidecar, attr),
        head_bytes: attr.size - head.tree_len,
        tree: Some(tree),
        place,
    }
}

/// The head of the bundle of `size` bytes that starts at `base` in `file`.
pub(super) async fn read_head(
    file: &Arc<dyn StoreFile>,
    place: &StorePath,
    base: u64,
    size: u64,
) -> Result<Head, CarrierError> {
    let malformed = |source| CarrierError::Malformed { path: place.clone(), source };
    let first = usize::try_from(size).map_or(HEAD_READ, |size| size.min(HEAD_READ));
    let mut bytes = read_at(&**file, base, first).await?;
    let extent = Head::extent(&bytes, size).map_err(malformed)?;
    if extent > bytes.len() {
        bytes = read_at(&**file, base, extent).await?;
    }
    bytes.truncate(extent);
    Head::parse(&bytes).map_err(malformed)
}

impl Carrier for Sidecar {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Sidecar
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>> {
        Box::pin(async move {
            let open = self.open_any(path).await?;
            if open.evidence.is_signed() { Ok(open) } else { Err(CarrierError::Missing(open.place)) }
        })
    }

    fn open_together<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<OpenEvidence>>> {
        Box::pin(async move {
            let Ok(place) = Self::place_of_all(directory) else {
                return names.iter().map(|_| None).collect();
            };
            let heads = self.store.read_heads(&place, names, HEAD_READ).await;
            let open = |(name, head): (&&[u8], Option<(Attr, Bytes)>)| {
                let (attr, bytes) = head?;
                self.opened(place.join(name).ok()?, &attr, &bytes)
            };
            names.iter().zip(heads).map(open).collect()
        })
    }

    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>> {
        Box::pin(async move {
            let place = Self::place(path)?;
            let attr = self.store.stat(&place).await.map_err(|error| missing_or(error, place))?;
            Ok(Stamp::of(CarrierKind::Sidecar, &attr))
        })
    }

    fn stamps<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<Stamp>>> {
        Box::pin(async move {
            let Ok(place) = Self::place_of_all(directory) else { return vec![None; names.len()] };
            let found = self.store.stat_names(&place, names).await;
            found.iter().map(|attr| Some(Stamp::of(CarrierKind::Sidecar, attr.as_ref()?))).collect()
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        tree_offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>> {
        Box::pin(async move {
            let writer: Box<dyn EvidenceWriter> = Box::new(self.begin(path, tree_offset).await?);
            Ok(writer)
        })
    }

    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        open: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(self.rewrite(path, open, evidence))
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move { Ok(self.store.remove(&Self::place(path)?).await?) })
    }

    fn retire<'a>(&'a self, path: &'a StorePath, to: CarrierKind) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            if to != CarrierKind::Xattr {
                return self.remove(path).await;
            }
            let open = self.open_any(path).await?;
            match open.tree_len() {
                None | Some(0) => self.remove(path).await,
                Some(_) => self.rewrite(path, &open, &open.evidence.unsigned()).await,
            }
        })
    }
}

/// A bundle that is being written. Dropping it leaves the old one.
pub(super) struct SidecarWriter {
    writer: Box<dyn StoreWriter>,
    place: StorePath,
    tree_offset: u64,
    runs: Runs,
}

impl SidecarWriter {
    /// Bytes of tree that were pushed.
    pub(super) fn tree_len(&self) -> u64 {
        self.runs.size()
    }

    pub(super) fn push(&mut self, offset: u64, block: &[u8]) {
        self.runs.push(offset, block);
    }

    pub(super) async fn flush(&mut self) -> Result<(), CarrierError> {
        Ok(self.runs.flush(&mut *self.writer, self.tree_offset).await?)
    }

    /// Writes all that is left; what is given puts the bundle in place.
    pub(super) async fn finish(mut self, evidence: &Evidence) -> Result<Box<dyn StoreWriter>, CarrierError> {
        let head =
            Head { evidence: evidence.clone(), tree_offset: self.tree_offset, tree_len: self.runs.size() };
        let bytes =
            head.encode().map_err(|source| CarrierError::Malformed { path: self.place.clone(), source })?;
        self.runs.finish(&mut *self.writer, self.tree_offset).await?;
        self.writer.write_at(0, &bytes).await?;
        Ok(self.writer)
    }
}

impl EvidenceWriter for SidecarWriter {
    fn push(&mut self, offset: u64, block: &[u8]) {
        self.push(offset, block);
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>> {
        Box::pin(self.flush())
    }

    fn commit<'a>(self: Box<Self>, evidence: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move { Ok(self.finish(evidence).await?.commit().await?) })
    }
}
