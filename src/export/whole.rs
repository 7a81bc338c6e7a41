//! Files that only hashing all of them can prove: signed as a whole (IMA v2), or without a tree.
//!
//! Such a file is hashed once for each state of it in the store, in one pass that makes its Merkle tree
//! too; from then on its blocks are proven one by one, as those of any other file. The tree is kept in
//! memory while it is small and else in an unnamed file of the gateway's own. Two files are hashed at a
//! time; who waits longer than a few seconds is told to come back, and the hashing goes on.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};

use super::read::{read_at, stat};
use crate::event::{Event, Sink};
use crate::sign::{HashName, StreamHasher};
use crate::store::unnamed::unnamed;
use crate::store::{Attr, Store, StoreError, StoreErrorKind, StoreFile, StorePath, Time};
use crate::verity::{Descriptor, Params, TreeBuilder, VerityError};

/// The largest file that is hashed as a whole, in bytes: what is larger wants evidence by blocks.
pub const WHOLE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Files hashed at a time.
const AT_ONCE: usize = 2;
/// Files that may wait for being hashed; who comes then is told to come back.
const WAITING: usize = 256;
/// The largest tree that is kept in memory, in bytes.
const MEMORY_TREE: u64 = 128 * 1024;
/// Trees kept, each in memory or in an open file; a large one counts as one more for each [`SHARE`] of it.
const KEPT: u64 = 128;
const SHARE: u64 = 32 * 1024 * 1024;
/// Bytes read in one step.
const STEP: u64 = 1024 * 1024;

/// How whole files are hashed.
#[derive(Clone, Debug)]
pub struct WholeFiles {
    /// The directory for trees that are too large to keep in memory.
    pub scratch: PathBuf,
    /// How long a call waits before it is told to come back.
    pub patience: Duration,
}

impl Default for WholeFiles {
    fn default() -> Self {
        Self { scratch: std::env::temp_dir(), patience: Duration::from_secs(5) }
    }
}

/// What hashing all of a file gave.
pub(super) struct Whole {
    pub(super) descriptor: Descriptor,
    pub(super) hashes: Vec<(HashName, Vec<u8>)>,
    tree: Tree,
}

enum Tree {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Whole {
    /// Exactly `len` bytes of the tree from `offset`.
    pub(super) async fn read_tree(&self, offset: u64, len: usize) -> std::io::Result<Bytes> {
        match &self.tree {
            Tree::Memory(tree) => {
                let start = usize::try_from(offset).ok();
                let bytes = start.and_then(|start| tree.get(start..start.checked_add(len)?));
                bytes.map(Bytes::copy_from_slice).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
            Tree::File(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; len];
                    file.read_exact_at(&mut bytes, offset).map(|()| bytes.into())
                });
                read.await.unwrap_or_else(|lost| Err(std::io::Error::other(lost)))
            }
        }
    }
}

/// Why a file could not be hashed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WholeError {
    #[error("it is being hashed, come back later")]
    Busy,
    #[error("it changed while it was hashed")]
    Changed,
    #[error(
        "it has {0} bytes, and its evidence wants all of it hashed, which is done up to {WHOLE_MAX}; \
         sign it with --format native"
    )]
    TooLarge(u64),
    #[error("cannot keep its tree: {0}; --state names a directory with room")]
    Scratch(std::io::Error),
    #[error(transparent)]
    Verity(#[from] VerityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Outcome = Option<Result<Arc<Whole>, Arc<WholeError>>>;

/// What is wanted of a file.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The store that it is on.
    pub(super) source: usize,
    pub(super) path: &'a StorePath,
    /// Bytes at its end that are evidence, not data.
    pub(super) trailer: u64,
    pub(super) params: &'a Params,
    pub(super) hashes: &'a [HashName],
}

/// One state of a file, and what is wanted of it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: usize,
    path: StorePath,
    fileid: u64,
    /// Bytes of data.
    size: u64,
    mtime: Time,
    ctime: Time,
    params: Params,
    hashes: Vec<HashName>,
}

impl Key {
    /// `None` for a file that is shorter than its trailer.
    fn new(wanted: Wanted<'_>, attr: &Attr) -> Option<Self> {
        Some(Self {
            source: wanted.source,
            path: wanted.path.clone(),
            fileid: attr.fileid,
            size: attr.size.checked_sub(wanted.trailer)?,
            mtime: attr.mtime,
            ctime: attr.ctime,
            params: *wanted.params,
            hashes: wanted.hashes.to_vec(),
        })
    }
}

#[derive(Clone)]
struct ByTree;

impl Weighter<Key, Arc<Whole>> for ByTree {
    fn weight(&self, _: &Key, whole: &Arc<Whole>) -> u64 {
        let geometry = whole.descriptor.geometry();
        1 + geometry.map_or(0, |geometry| geometry.tree_size()) / SHARE
    }
}

/// Hashes whole files, each state of one once.
pub(super) struct Wholes {
    options: WholeFiles,
    sink: Arc<dyn Sink>,
    done: Cache<Key, Arc<Whole>, ByTree>,
    running: Mutex<HashMap<Key, watch::Receiver<Outcome>>>,
    slots: Semaphore,
}

impl Wholes {
    pub(super) fn new(options: WholeFiles, sink: Arc<dyn Sink>) -> Arc<Self> {
        Arc::new(Self {
            options,
            sink,
            done: Cache::with_weighter(usize::try_from(KEPT).unwrap_or(1), KEPT, ByTree),
            running: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
        })
    }

    /// Lets go of the trees that are in files.
    pub(super) fn close(&self) {
        self.done.retain(|_, whole| matches!(whole.tree, Tree::Memory(_)));
    }

    /// What is wanted of a file, if it was hashed in the state it is in.
    pub(super) async fn known(
        &self,
        store: &dyn Store,
        wanted: Wanted<'_>,
    ) -> Result<Option<Arc<Whole>>, WholeError> {
        let attr = store.stat(wanted.path).await?;
        Ok(Key::new(wanted, &attr).and_then(|key| self.done.get(&key)))
    }

    /// Hashes all data of a file, in the state it is in, unless that was done already. Whoever is not `patient`
    /// hears after a while that it takes longer.
    pub(super) async fn hash(
        self: &Arc<Self>,
        store: &dyn Store,
        wanted: Wanted<'_>,
        reason: &'static str,
        patient: bool,
    ) -> Result<Arc<Whole>, Arc<WholeError>> {
        let file = store.open(wanted.path).await.map_err(WholeError::from)?;
        let attr = stat(&*file).await.map_err(WholeError::from)?;
        let key = Key::new(wanted, &attr).ok_or(WholeError::Changed)?;
        if key.size > WHOLE_MAX {
            return Err(Arc::new(WholeError::TooLarge(key.size)));
        }
        if let Some(whole) = self.done.get(&key) {
            return Ok(whole);
        }
        let job = Job { file, attr, key: key.clone(), reason };
        let mut outcome = self.join(key, job)?;
        let done = outcome.wait_for(Option::is_some);
        let waited = match patient {
            true => Ok(done.await),
            false => tokio::time::timeout(self.options.patience, done).await,
        };
        match waited {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(Arc::new(WholeError::Busy))),
            // Not done yet, or whoever did it is gone.
            Ok(Err(_)) | Err(_) => Err(Arc::new(WholeError::Busy)),
        }
    }

    /// Joins the hashing of the same file, or starts it.
    fn join(self: &Arc<Self>, key: Key, job: Job) -> Result<watch::Receiver<Outcome>, WholeError> {
        let mut running = self.running.lock();
        if let Some(outcome) = running.get(&key) {
            return Ok(outcome.clone());
        }
        if running.len() >= WAITING {
            return Err(WholeError::Busy);
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(key.clone(), receiver.clone());
        drop(running);
        let wholes = self.clone();
        tokio::spawn(async move {
            let running = Running { wholes: &wholes, key };
            let Ok(_slot) = wholes.slots.acquire().await else { return };
            let outcome = job.run(&wholes).await.map(Arc::new).map_err(Arc::new);
            if let Ok(whole) = &outcome {
                wholes.done.insert(running.key.clone(), whole.clone());
            }
            let _ = sender.send(Some(outcome));
        });
        Ok(receiver)
    }
}

/// Takes a file off the list of those that are being hashed, however that ends.
struct Running<'a> {
    wholes: &'a Wholes,
    key: Key,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.wholes.running.lock().remove(&self.key);
    }
}

/// One file that is to be hashed.
struct Job {
    file: Arc<dyn StoreFile>,
    attr: Attr,
    key: Key,
    reason: &'static str,
}

impl Job {
    async fn run(&self, wholes: &Wholes) -> Result<Whole, WholeError> {
        let started = Instant::now();
        let Key { path, size, params, hashes, .. } = &self.key;
        let (size, params) = (*size, *params);
        let mut builder = TreeBuilder::new(params, size)?;
        let tree_size = builder.geometry().tree_size();
        let mut tree = NewTree::new(tree_size, &wholes.options.scratch)?;
        let mut hashers: Vec<StreamHasher> = hashes.iter().map(|hash| hash.hasher()).collect();
        let mut at = 0;
        while at < size {
            let len = usize::try_from((size - at).min(STEP)).unwrap_or(0);
            let bytes = read_at(&*self.file, at, len).await?;
            if bytes.len() != len {
                return Err(WholeError::Changed);
            }
            builder.update(&bytes, &mut |offset, block: &[u8]| tree.put(offset, block))?;
            hashers.iter_mut().for_each(|hasher| hasher.update(&bytes));
            at += len as u64;
            tokio::task::yield_now().await;
        }
        let root_hash = builder.finish(&mut |offset, block: &[u8]| tree.put(offset, block))?;
        let after = stat(&*self.file).await?;
        let state = |attr: &Attr| (attr.size, attr.mtime, attr.ctime);
        if state(&after) != state(&self.attr) {
            return Err(WholeError::Changed);
        }
        wholes.sink.emit(&Event::Hashed {
            path: path.as_bytes(),
            bytes: size,
            duration: started.elapsed(),
            reason: self.reason,
        });
        Ok(Whole {
            descriptor: Descriptor { params, size, root_hash },
            hashes: hashes.iter().copied().zip(hashers.into_iter().map(StreamHasher::finish)).collect(),
            tree: tree.0,
        })
    }
}

/// A tree that is being made.
struct NewTree(Tree);

impl NewTree {
    fn new(size: u64, scratch: &Path) -> Result<Self, WholeError> {
        if size <= MEMORY_TREE {
            return Ok(Self(Tree::Memory(vec![0; usize::try_from(size).unwrap_or(0)])));
        }
        let file = unnamed(scratch).map_err(WholeError::Scratch)?;
        file.set_len(size).map_err(WholeError::Scratch)?;
        Ok(Self(Tree::File(Arc::new(file))))
    }

    fn put(&mut self, offset: u64, block: &[u8]) -> Result<(), WholeError> {
        match &mut self.0 {
            Tree::Memory(tree) => {
                let range = usize::try_from(offset)
                    .ok()
                    .and_then(|start| Some(start..start.checked_add(block.len())?));
                let place = range.and_then(|range| tree.get_mut(range)).ok_or(VerityError::Broken)?;
                place.copy_from_slice(block);
                Ok(())
            }
            Tree::File(file) => file.write_all_at(block, offset).map_err(WholeError::Scratch),
        }
    }
}

/// Whether hashing failed for want of something that may be there later.
pub(super) fn passing(error: &WholeError) -> bool {
    match error {
        WholeError::Busy | WholeError::Changed => true,
        WholeError::Store(error) => {
            matches!(error.kind, StoreErrorKind::Exhausted | StoreErrorKind::Unavailable)
        }
        WholeError::TooLarge(_) | WholeError::Scratch(_) | WholeError::Verity(_) => false,
    }
}
