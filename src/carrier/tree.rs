//! Trees: read block by block where they lie, and written as they grow.

use std::sync::Arc;

use bytes::Bytes;

use super::bundle::BundleError;
use super::{CarrierError, EvidenceWriter};
use crate::store::{BoxFuture, Store, StoreError, StoreFile, StorePath, StoreWriter};

/// Tree bytes gathered before they are written, and copied at once.
const RUN_MAX: usize = 256 * 1024;

/// A Merkle tree of one file, laid out as the kernel gives it: root level first. Not proven.
pub trait TreeSource: Send + Sync {
    /// Bytes of tree.
    fn size(&self) -> u64;

    /// Exactly `len` bytes from `offset` in the tree. [`CarrierError::Malformed`] where there are fewer.
    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, CarrierError>>;
}

/// The tree of a file that has none: of one block, or empty.
pub(super) struct NoTree(pub(super) StorePath);

impl TreeSource for NoTree {
    fn size(&self) -> u64 {
        0
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, CarrierError>> {
        Box::pin(async move { if len == 0 { Ok(Bytes::new()) } else { Err(cut(&self.0, 0, offset, len)) } })
    }
}

/// A tree inside a file of the store.
pub(super) struct FileTree {
    pub(super) file: Arc<dyn StoreFile>,
    /// Where it is told to lie.
    pub(super) place: StorePath,
    /// Where it starts in the file.
    pub(super) start: u64,
    pub(super) size: u64,
}

impl TreeSource for FileTree {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, CarrierError>> {
        Box::pin(async move {
            let end = offset.checked_add(len as u64).filter(|end| *end <= self.size);
            let (Some(_), Some(start)) = (end, self.start.checked_add(offset)) else {
                return Err(cut(&self.place, self.size, offset, len));
            };
            let bytes = read_at(&*self.file, start, len).await?;
            if bytes.len() != len {
                return Err(cut(&self.place, offset + bytes.len() as u64, offset, len));
            }
            Ok(bytes)
        })
    }
}

/// The same, in a file that is opened when somebody reads.
pub(super) struct LateTree {
    pub(super) store: Arc<dyn Store>,
    pub(super) place: StorePath,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl TreeSource for LateTree {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, CarrierError>> {
        Box::pin(async move {
            let file = self.store.open(&self.place).await?;
            let Self { place, start, size, .. } = self;
            FileTree { file, place: place.clone(), start: *start, size: *size }.read(offset, len).await
        })
    }
}

pub(super) fn cut(place: &StorePath, have: u64, offset: u64, len: usize) -> CarrierError {
    let source = BundleError::Cut { have, need: offset.saturating_add(len as u64) };
    CarrierError::Malformed { path: place.clone(), source }
}

pub(super) async fn read_at(file: &dyn StoreFile, offset: u64, len: usize) -> Result<Bytes, StoreError> {
    match file.try_read_at(offset, len) {
        Some(bytes) => Ok(bytes),
        None => file.read_at(offset, len).await,
    }
}

/// All of a tree, piece by piece.
pub(super) struct Pieces<'a> {
    tree: &'a dyn TreeSource,
    at: u64,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(tree: &'a dyn TreeSource) -> Self {
        Self { tree, at: 0 }
    }

    /// The next piece, and where it lies in the tree.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, CarrierError> {
        let (at, left) = (self.at, self.tree.size().saturating_sub(self.at));
        if left == 0 {
            return Ok(None);
        }
        let len = usize::try_from(left).map_or(RUN_MAX, |left| left.min(RUN_MAX));
        let bytes = self.tree.read(at, len).await?;
        self.at += len as u64;
        Ok(Some((at, bytes)))
    }
}

/// Gives all of `tree` to `writer`.
///
/// # Errors
/// For a tree that ends early, and the store's.
pub async fn copy_tree(tree: &dyn TreeSource, writer: &mut dyn EvidenceWriter) -> Result<(), CarrierError> {
    let mut pieces = Pieces::of(tree);
    while let Some((offset, piece)) = pieces.next().await? {
        writer.push(offset, &piece);
        writer.flush().await?;
    }
    Ok(())
}

/// Tree blocks on their way into a file.
#[derive(Default)]
pub(super) struct Runs {
    /// Tree bytes not written yet, each with its offset in the tree. One a level: every level grows at its end.
    runs: Vec<(u64, Vec<u8>)>,
    /// The end of the tree as far as it is known.
    size: u64,
}

impl Runs {
    /// Takes a tree block that belongs at `offset` in the tree.
    pub(super) fn push(&mut self, offset: u64, block: &[u8]) {
        self.size = self.size.max(offset.saturating_add(block.len() as u64));
        match self.runs.iter_mut().find(|(start, run)| *start + run.len() as u64 == offset) {
            Some((_, run)) => run.extend_from_slice(block),
            None => self.runs.push((offset, block.to_vec())),
        }
    }

    /// Bytes of tree, once all of it was pushed.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Writes what has gathered, where it is enough to be worth it; `base` is where the tree starts.
    pub(super) async fn flush(&mut self, writer: &mut dyn StoreWriter, base: u64) -> Result<(), StoreError> {
        self.write(writer, base, RUN_MAX).await
    }

    /// Writes all that is left.
    pub(super) async fn finish(&mut self, writer: &mut dyn StoreWriter, base: u64) -> Result<(), StoreError> {
        self.write(writer, base, 1).await
    }

    async fn write(
        &mut self,
        writer: &mut dyn StoreWriter,
        base: u64,
        at_least: usize,
    ) -> Result<(), StoreError> {
        for (start, run) in &mut self.runs {
            if !run.is_empty() && run.len() >= at_least {
                writer.write_at(base.saturating_add(*start), run).await?;
                *start += run.len() as u64;
                run.clear();
            }
        }
        Ok(())
    }
}
