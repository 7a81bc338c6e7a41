//! Listings whose cookies are made of names: the same from every store with the same names, and valid while
//! the directory changes.
//!
//! A directory is read whole, as of its first page, and its names are put in the order of their cookies. What
//! is kept of it only saves reading it again for each page. Those who ask at the same time share what is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::path::fileid_of_path;
use super::{DirEntry, DirPage, Result, Store, StoreError, StoreErrorKind, StorePath};

/// The most names of one directory.
const NAMES_MAX: usize = 1_000_000;
/// Names read at once.
const PAGE: usize = 4096;
/// The most bytes of one listing: whatever can be listed can be kept.
const LISTED_BYTES: u64 = 128 * 1024 * 1024;
/// Listings kept, in bytes.
const KEPT_BYTES: u64 = LISTED_BYTES + 1024 * 1024;
/// Directories of one member that are read at the same time.
const AT_ONCE: usize = 4;
/// How long reading one may take, and waiting for its turn.
const TIME_MAX: Duration = Duration::from_secs(60);
/// How long a listing may serve the pages behind its first.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// The cookies of `.` and `..`; those of names are larger.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    member: usize,
    path: StorePath,
}

#[derive(Clone)]
struct Listed {
    entries: Arc<[DirEntry]>,
    bytes: u64,
    began: Instant,
    ended: Instant,
}

#[derive(Clone)]
struct ByNames;

impl Weighter<Key, Listed> for ByNames {
    fn weight(&self, key: &Key, listed: &Listed) -> u64 {
        key.path.as_bytes().len() as u64 + listed.bytes
    }
}

/// Directories that are being listed.
pub(super) struct Listings {
    kept: Cache<Key, Listed, ByNames>,
    /// One for each member: those of a slow one are not what another waits for.
    turns: Vec<Semaphore>,
    /// Directories that are read, or waited for.
    places: Mutex<Places>,
}

/// How many are at a directory, and the turn that one of them has.
type Places = HashMap<Key, (usize, Arc<Semaphore>)>;

/// A directory that one at a time reads.
struct Place<'a> {
    places: &'a Mutex<Places>,
    key: Key,
    turn: Arc<Semaphore>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        if let Some((count, _)) = places.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.key);
            }
        }
    }
}

impl Listings {
    /// Of so many members.
    pub(super) fn new(members: usize) -> Self {
        // Shards would each have a part of the room, in which a large listing finds none.
        let kept = match OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(256)
            .weight_capacity(KEPT_BYTES)
            .build()
        {
            Ok(options) => {
                let (hash, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
                Cache::with_options(options, ByNames, hash, lifecycle)
            }
            Err(_) => Cache::with_weighter(256, KEPT_BYTES, ByNames),
        };
        let turns = (0..members).map(|_| Semaphore::new(AT_ONCE)).collect();
        Self { kept, turns, places: Mutex::default() }
    }

    /// What is kept and serves who asked at that time: the first page only where it was read after that.
    fn kept(&self, key: &Key, cookie: u64, asked: Instant) -> Option<Listed> {
        let serves = |kept: &Listed| kept.began >= asked || cookie != 0 && kept.ended.elapsed() < KEPT_FOR;
        self.kept.get(key).filter(serves)
    }

    fn place(&self, key: &Key) -> Place<'_> {
        let mut places = self.places.lock();
        let (count, turn) = places.entry(key.clone()).or_insert_with(|| (0, Arc::new(Semaphore::new(1))));
        *count += 1;
        Place { places: &self.places, key: key.clone(), turn: turn.clone() }
    }

    /// The directory as the store has it now; behind its first page, also as another has read it meanwhile.
    async fn listed(&self, store: &dyn Store, key: Key, cookie: u64, asked: Instant) -> Result<Listed> {
        let place = self.place(&key);
        let _alone = place.turn.acquire().await;
        if let Some(kept) = self.kept(&key, cookie, asked) {
            return Ok(kept);
        }
        let _turn = match self.turns.get(key.member) {
            Some(turns) => Some(turns.acquire().await),
            None => None,
        };
        let listed = list(store, &key.path).await?;
        self.kept.insert(key, listed.clone());
        Ok(listed)
    }

    /// At most `max` entries of the directory `path` of `store`, which is number `member`, behind `cookie`.
    pub(super) async fn page(
        &self,
        store: &dyn Store,
        member: usize,
        path: &StorePath,
        cookie: u64,
        max: usize,
    ) -> Result<DirPage> {
        let key = Key { member, path: path.clone() };
        let asked = Instant::now();
        let entries = match self.kept(&key, cookie, asked) {
            Some(kept) => kept.entries,
            None => match timeout(TIME_MAX, self.listed(store, key, cookie, asked)).await {
                Ok(listed) => listed?.entries,
                Err(_) => {
                    let what = format!("it cannot be read in {} seconds", TIME_MAX.as_secs());
                    let (kind, source) = (StoreErrorKind::Unavailable, std::io::Error::other(what));
                    return Err(StoreError::new(kind, "read the directory", path, source));
                }
            },
        };
        let from = entries.partition_point(|entry| entry.cookie <= cookie);
        let rest = entries.get(from..).unwrap_or_default();
        let page = rest.get(..max).unwrap_or(rest);
        Ok(DirPage { entries: page.to_vec(), end: page.len() == rest.len() })
    }
}

async fn list(store: &dyn Store, path: &StorePath) -> Result<Listed> {
    let began = Instant::now();
    let (mut entries, mut cookie, mut bytes) = (Vec::new(), 0, 0_u64);
    loop {
        let page = store.read_dir(path, cookie, PAGE).await?;
        let last = page.entries.last().map(|entry| entry.cookie);
        for entry in page.entries {
            let Some(entry) = renamed(path, entry) else { continue };
            bytes += (size_of::<DirEntry>() + entry.name.len()) as u64;
            entries.push(entry);
        }
        if entries.len() > NAMES_MAX || bytes > LISTED_BYTES {
            let source = std::io::Error::other(format!(
                "more than {NAMES_MAX} names in one directory, or {LISTED_BYTES} bytes of them"
            ));
            return Err(StoreError::new(StoreErrorKind::TooLarge, "read the directory", path, source));
        }
        match last {
            Some(last) if !page.end && last != cookie => cookie = last,
            _ => break,
        }
    }
    entries.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
    // A name that a store gives twice is one.
    entries.dedup_by(|a, b| a.cookie == b.cookie);
    Ok(Listed { entries: entries.into(), bytes, began, ended: Instant::now() })
}

/// The entry with cookie and number made of its name; `None` for what is no name.
fn renamed(directory: &StorePath, entry: DirEntry) -> Option<DirEntry> {
    let (cookie, fileid) = match &entry.name[..] {
        b"." => (DOT, fileid_of_path(directory)),
        b".." => (DOT_DOT, fileid_of_path(&directory.parent().unwrap_or_else(StorePath::root))),
        name => (cookie_of(name), fileid_of_path(&directory.join(name).ok()?)),
    };
    Some(DirEntry { cookie, fileid, ..entry })
}

fn cookie_of(name: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let number = digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // Signed numbers hold it, and none of the two above is one.
    (number >> 1).max(DOT_DOT + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::{Attr, BoxFuture, FsStat, Memory, StoreFile, StoreWriter};

    /// A directory with so many names, or that gives nothing more, and how often it was read from its start.
    struct Large {
        inner: Memory,
        names: usize,
        stands_still: bool,
        starts: AtomicUsize,
    }

    impl Large {
        fn new(names: usize, stands_still: bool) -> Self {
            Self { inner: Memory::new(), names, stands_still, starts: AtomicUsize::new(0) }
        }
    }

    impl Store for Large {
        fn describe(&self) -> String {
            self.inner.describe()
        }

        fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
            self.inner.stat(path)
        }

        fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
            self.inner.open(path)
        }

        fn read_dir<'a>(
            &'a self,
            _: &'a StorePath,
            cookie: u64,
            max: usize,
        ) -> BoxFuture<'a, Result<DirPage>> {
            Box::pin(async move {
                if cookie == 0 {
                    self.starts.fetch_add(1, Ordering::Relaxed);
                }
                if self.stands_still {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                }
                tokio::task::yield_now().await;
                let from = usize::try_from(cookie).unwrap();
                let max = if self.stands_still { 1 } else { max };
                let to = self.names.min(from + max);
                let entries = (from..to).map(|n| DirEntry {
                    name: format!("{n:060}").into_bytes(),
                    cookie: n as u64 + 1,
                    fileid: 1,
                    kind: None,
                });
                Ok(DirPage { entries: entries.collect(), end: to == self.names })
            })
        }

        fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
            self.inner.read_link(path)
        }

        fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
            self.inner.stat_fs()
        }

        fn create<'a>(
            &'a self,
            path: &'a StorePath,
            scratch: &'a StorePath,
        ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
            self.inner.create(path, scratch)
        }

        fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
            Store::remove(&self.inner, path)
        }
    }

    #[tokio::test]
    async fn a_large_directory_is_read_once_for_all_its_pages() {
        // More than an eighth of the room.
        let (listings, store) = (Listings::new(1), Large::new(200_000, false));
        let (mut cookie, mut seen) = (0, 0);
        loop {
            let page = listings.page(&store, 0, &StorePath::root(), cookie, 50_000).await.unwrap();
            seen += page.entries.len();
            cookie = page.entries.last().unwrap().cookie;
            if page.end {
                break;
            }
        }
        assert_eq!(seen, 200_000);
        assert_eq!(store.starts.load(Ordering::Relaxed), 1);
        listings.page(&store, 0, &StorePath::root(), 0, 1).await.unwrap();
        assert_eq!(store.starts.load(Ordering::Relaxed), 2, "from the start it is read anew");
    }

    #[tokio::test]
    async fn those_that_want_a_page_at_the_same_time_share_listings() {
        let (listings, store) = (Listings::new(1), Large::new(5000, false));
        let root = StorePath::root();
        for (cookie, most) in [(5, 1), (0, 3)] {
            let pages = (0..100).map(|_| listings.page(&store, 0, &root, cookie, 10));
            for page in futures_util::future::join_all(pages).await {
                assert_eq!(page.unwrap().entries.len(), 10);
            }
            // Who asks for the first page while it is read waits for the next time.
            assert!(store.starts.load(Ordering::Relaxed) <= most, "{cookie}");
        }
        assert!(listings.places.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_never_ends_takes_no_turns_from_another() {
        let (listings, slow) = (Listings::new(2), Large::new(usize::MAX, true));
        let paths: Vec<_> = (0..8).map(|n| StorePath::parse(format!("d{n}").as_bytes()).unwrap()).collect();
        let stuck = futures_util::future::join_all(paths.iter().map(|at| listings.page(&slow, 0, at, 0, 1)));
        let other = Large::new(10, false);
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let root = StorePath::root();
            timeout(Duration::from_secs(1), listings.page(&other, 1, &root, 0, 5)).await.unwrap().unwrap()
        };
        let (stuck, quick) = tokio::join!(stuck, quick);
        assert_eq!(quick.entries.len(), 5);
        assert!(stuck.into_iter().all(|page| page.is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_never_ends_is_given_up() {
        let (listings, store) = (Listings::new(1), Large::new(usize::MAX, true));
        let began = tokio::time::Instant::now();
        let error = listings.page(&store, 0, &StorePath::root(), 0, 10).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert_eq!(began.elapsed(), TIME_MAX);
    }
}
