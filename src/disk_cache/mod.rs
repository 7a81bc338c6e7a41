//! Blocks on a local disk, for stores that are far away.
//!
//! A log of segments, each one file of a fixed size whose room is taken when it is made: a table of what it
//! holds, and the bytes behind it. Full segments are never changed; the oldest gives way to a new one. So
//! the cache never grows past its size, whatever happens to the process, and a start reads only the tables.
//!
//! Nobody trusts the disk. What it says of places and lengths is bounded before it is used; what it
//! gives as a block's bytes is for the caller to prove, each time. Only where a block is found is kept
//! in memory: about 40 bytes for each.
//!
//! Foyer would be ready-made, but it believes its disk: a table with a matching checksum, which has no key, can make
//! its start loop for ever, panic, or take memory for a length that nobody checked.
//!
//! Knows nothing of files, evidence or events.

mod index;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use index::Index;
use segment::{Place, Segment};
use writer::{Job, Queue};

/// The longest block that is kept, in bytes.
pub const BLOCK_MAX: usize = 64 * 1024;
/// The smallest cache, in bytes.
pub const SIZE_MIN: u64 = 16 << 20;
/// Reads under way at once: more of them would only wait for each other, and take the threads from other work.
const READS: usize = 16;
/// Whoever waits longer than this for a block is better served by the store.
const SOON: Duration = Duration::from_secs(1);
/// A disk that gives nothing for this time, though it is asked, is of no use.
const PATIENCE: Duration = Duration::from_secs(10);
/// Segments that may be lost to errors of the disk.
const LOST_MAX: u32 = 8;
/// Where the segments are, below the directory that was named. Another format has another name.
const FORMAT: &str = "nfs-verity-blocks-1";
/// What the directories and the lock take, of the cache's size.
const HEADROOM: u64 = 64 * 1024;

/// What a block is to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A block of the Merkle tree: level and index.
    Tree(u8, u64),
    /// A data block.
    Block(u64),
    /// A run of data blocks.
    Extent(u64),
}

/// The name of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The file, by the first 32 bytes of its digest.
    pub file: [u8; 32],
    /// What it is to the file.
    pub part: Part,
}

/// What the cache holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes on the disk.
    pub bytes: u64,
    /// The size limit in bytes.
    pub capacity: u64,
    /// Blocks that can be found.
    pub entries: u64,
    /// Blocks given.
    pub hits: u64,
    /// Blocks that were not there.
    pub misses: u64,
    /// Blocks that the caller found to be wrong.
    pub bad: u64,
    /// Blocks not kept, since too many were waiting for the disk.
    pub skipped: u64,
    /// False once the disk failed.
    pub on: bool,
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskCacheError {
    /// The size is below [`SIZE_MIN`].
    #[error("a disk cache of {0} bytes is too small; give it {SIZE_MIN} or more")]
    TooSmall(u64),
    /// Another process uses it.
    #[error("{}: another gateway uses this disk cache; each needs a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The directory is open to others.
    #[error("{}: others may write here; a disk cache needs a directory of its own (chmod 700)", .0.display())]
    Shared(PathBuf),
    /// The system refused something.
    #[error("{}: cannot {operation}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

/// What is told once when the disk failed.
pub type Alarm = Box<dyn Fn(&str) + Send + Sync>;

/// A cache of blocks on disk.
pub struct DiskCache {
    shared: Arc<Shared>,
    queue: Queue,
    reads: Arc<Semaphore>,
}

/// What the readers and the writer have in common.
struct Shared {
    directory: PathBuf,
    capacity: u64,
    index: Index,
    /// The oldest first.
    segments: Mutex<Vec<Arc<Segment>>>,
    segment_size: u64,
    segments_max: usize,
    hasher: std::hash::RandomState,
    hits: AtomicU64,
    misses: AtomicU64,
    bad: AtomicU64,
    skipped: AtomicU64,
    on: AtomicBool,
    /// Since when reads that have begun give nothing, if that is so.
    silent: Mutex<Option<Instant>>,
    lost: AtomicU32,
    alarm: Alarm,
    /// Locked for as long as anybody reads or writes.
    _lock: File,
}

impl Shared {
    /// Where `key` stands in the index. No two caches agree on it, so that nobody can make keys collide.
    fn slot(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        let segments = self.segments.lock();
        let at = segments.binary_search_by_key(&id, |segment| segment.id).ok()?;
        segments.get(at).cloned()
    }

    /// The disk failed: nothing is asked of it any more.
    fn fail(&self, error: &str) {
        if self.on.swap(false, Ordering::Relaxed) {
            self.index.clear();
            (self.alarm)(error);
        }
    }

    /// A read took too long. Others may only wait for their turn; it is the disk when none of them ends.
    fn is_late(&self, has_begun: bool) {
        let mut silent = self.silent.lock();
        let since = if has_begun { Some(*silent.get_or_insert_with(Instant::now)) } else { *silent };
        drop(silent);
        if since.is_some_and(|since| since.elapsed() > PATIENCE) {
            self.fail("the disk does not answer");
        }
    }

    /// One bad place is no bad disk: what is near it is not read any more.
    fn lose(&self, segment: &Segment, error: &io::Error) {
        let mut segments = self.segments.lock();
        let before = segments.len();
        segments.retain(|other| other.id != segment.id);
        if segments.len() == before {
            // Another read has found it out.
            return;
        }
        drop(segments);
        let removed = segment.remove(self);
        if removed.is_err() || self.lost.fetch_add(1, Ordering::Relaxed) >= LOST_MAX {
            self.fail(&format!("cannot read: {error}"));
        }
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

impl DiskCache {
    /// Opens the cache in `directory`, which is made when missing, with `size` bytes at most. What is there
    /// of an earlier run can be found again, but for a size that is very different. `alarm` is called once,
    /// from any thread, when the disk failed.
    ///
    /// # Errors
    /// The directory cannot be used or is in use, or the size is too small.
    pub async fn open(directory: &Path, size: u64, alarm: Alarm) -> Result<Self, DiskCacheError> {
        let path = directory.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open_now(&path, size, alarm)).await;
        opened.unwrap_or_else(|error| {
            Err(DiskCacheError::Io {
                path: directory.to_owned(),
                operation: "open",
                source: io::Error::other(error),
            })
        })
    }

    fn open_now(directory: &Path, size: u64, alarm: Alarm) -> Result<Self, DiskCacheError> {
        if size < SIZE_MIN {
            return Err(DiskCacheError::TooSmall(size));
        }
        let lock = prepare(directory)?;
        let segment_size = segment::size_for(size);
        let segments_max = usize::try_from((size - HEADROOM) / segment_size).unwrap_or(usize::MAX);
        let home = directory.join(FORMAT);
        let shared = Shared {
            directory: home.clone(),
            capacity: size,
            index: Index::new(),
            segments: Mutex::default(),
            segment_size,
            segments_max,
            hasher: std::hash::RandomState::new(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            on: AtomicBool::new(true),
            silent: Mutex::default(),
            lost: AtomicU32::new(0),
            alarm,
            _lock: lock,
        };
        let io = |operation| {
            let path = home.clone();
            move |source| DiskCacheError::Io { path, operation, source }
        };
        let cursor = segment::recover(&shared).unwrap_or_else(|error| {
            shared.fail(&format!("cannot read the segments: {error}"));
            None
        });
        let shared = Arc::new(shared);
        let queue = writer::start(shared.clone(), cursor).map_err(io("start a thread for"))?;
        Ok(Self { shared, queue, reads: Arc::new(Semaphore::new(READS)) })
    }

    /// What the disk gives for `key`: unproven bytes.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        let bytes = self.find(key).await;
        let counter = if bytes.is_some() { &self.shared.hits } else { &self.shared.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        bytes
    }

    async fn find(&self, key: &Key) -> Option<Bytes> {
        if !self.shared.is_on() {
            return None;
        }
        let slot = self.shared.slot(key);
        if let Some(bytes) = self.queue.waiting(slot) {
            return Some(bytes);
        }
        let place = self.shared.index.get(slot)?;
        let Some(segment) = self.shared.segment(place.segment) else {
            // It was lost while this was written to it.
            self.shared.index.remove_of(slot, place.segment);
            return None;
        };
        if let Some(bytes) = segment.read_cached(place) {
            return Some(bytes);
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let late = tokio::time::timeout(SOON, self.read(segment, place, has_begun.clone())).await;
        late.unwrap_or_else(|_| {
            self.shared.is_late(has_begun.load(Ordering::Relaxed));
            None
        })
    }

    async fn read(&self, segment: Arc<Segment>, place: Place, has_begun: Arc<AtomicBool>) -> Option<Bytes> {
        let permit = self.reads.clone().acquire_owned().await.ok()?;
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            has_begun.store(true, Ordering::Relaxed);
            let read = segment.read(place);
            *shared.silent.lock() = None;
            let read = read.map_err(|error| shared.lose(&segment, &error)).ok();
            // Let go of last, and by the read itself: one that hangs still counts when nobody waits for it any more.
            drop((segment, shared));
            drop(permit);
            read
        });
        read.await.ok()?
    }

    /// Whether something can be given for `key`, without a look at the disk.
    pub fn has(&self, key: &Key) -> bool {
        let slot = self.shared.slot(key);
        self.shared.is_on() && (self.shared.index.get(slot).is_some() || self.queue.waiting(slot).is_some())
    }

    /// Keeps `bytes`, some time later, unless they are there already or the disk is behind.
    pub fn insert(&self, key: &Key, bytes: &Bytes) {
        if !self.shared.is_on() || bytes.is_empty() || bytes.len() > BLOCK_MAX {
            return;
        }
        let slot = self.shared.slot(key);
        if self.shared.index.get(slot).is_none() && !self.queue.push(Job::new(*key, slot, bytes.clone())) {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets `key`, for what was given for it is wrong. Gives how many were so far.
    pub fn remove_bad(&self, key: &Key) -> u64 {
        let before = self.shared.bad.fetch_add(1, Ordering::Relaxed);
        self.shared.index.remove(self.shared.slot(key));
        before + 1
    }

    /// What it holds and did.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bytes: shared.segments.lock().len() as u64 * shared.segment_size,
            capacity: shared.capacity,
            entries: shared.index.len(),
            hits: count(&shared.hits),
            misses: count(&shared.misses),
            bad: count(&shared.bad),
            skipped: count(&shared.skipped),
            on: shared.is_on(),
        }
    }

    /// Waits until what was inserted so far is written, or the disk failed.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.flush(done) {
            let _ = wait.await;
        }
    }

    /// Writes what is waiting and lets go of the directory. Nothing is kept or found afterwards.
    pub async fn close(self) {
        self.flush().await;
        let Self { shared, queue, reads } = self;
        // Nobody reads any more: `self` was the only one that could.
        let _ = tokio::time::timeout(PATIENCE, reads.acquire_many(u32::try_from(READS).unwrap_or(u32::MAX)))
            .await;
        drop(shared);
        queue.close().await;
    }
}

/// Makes the directories and takes the lock.
fn prepare(directory: &Path) -> Result<File, DiskCacheError> {
    let failed = |path: &Path, operation| {
        let path = path.to_owned();
        move |source| DiskCacheError::Io { path, operation, source }
    };
    let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let home = directory.join(FORMAT);
    for path in [directory, home.as_path()] {
        make(path).map_err(failed(path, "make this directory"))?;
        // Who can change names here could lead our writes elsewhere.
        let found = std::fs::symlink_metadata(path).map_err(failed(path, "look at it"))?;
        let is_ours = found.is_dir()
            && found.mode() & 0o022 == 0
            && [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
        if !is_ours {
            return Err(DiskCacheError::Shared(path.to_owned()));
        }
    }
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(failed(&home, "make it private"))?;
    let path = directory.join("nfs-verity-blocks.lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(&path)
        .map_err(failed(&path, "open the lock"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::AGAIN) => Err(DiskCacheError::Locked(directory.to_owned())),
        Err(error) => Err(failed(&path, "lock it")(error.into())),
    }
}
