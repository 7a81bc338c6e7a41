//! Listings whose cookies are made of names: the same from every store with the same names, and valid while
//! the directory changes.
//!
//! A directory is read whole, as of its first page, and its names are put in the order of their cookies. What
//! is kept of it only saves reading it again for each page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::path::fileid_of_path;
use super::{DirEntry, DirPage, Result, Store, StoreError, StoreErrorKind, StorePath};

/// The most names of one directory.
const NAMES_MAX: usize = 1_000_000;
/// Names read at once.
const PAGE: usize = 4096;
/// Listings kept, in bytes.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
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
    at: Instant,
}

#[derive(Clone)]
struct ByNames;

impl Weighter<Key, Listed> for ByNames {
    fn weight(&self, key: &Key, listed: &Listed) -> u64 {
        key.path.as_bytes().len() as u64 + listed.bytes
    }
}

/// Directories that are being listed.
pub(super) struct Listings(Cache<Key, Listed, ByNames>);

impl Listings {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(256, KEPT_BYTES, ByNames))
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
        let kept = self.0.get(&key).filter(|kept| cookie != 0 && kept.at.elapsed() < KEPT_FOR);
        let entries = match kept {
            Some(kept) => kept.entries,
            None => {
                let listed = list(store, path).await?;
                let entries = listed.entries.clone();
                self.0.insert(key, listed);
                entries
            }
        };
        let from = entries.partition_point(|entry| entry.cookie <= cookie);
        let rest = entries.get(from..).unwrap_or_default();
        let page = rest.get(..max).unwrap_or(rest);
        Ok(DirPage { entries: page.to_vec(), end: page.len() == rest.len() })
    }
}

async fn list(store: &dyn Store, path: &StorePath) -> Result<Listed> {
    let (mut entries, mut cookie, mut bytes) = (Vec::new(), 0, 0_u64);
    loop {
        let page = store.read_dir(path, cookie, PAGE).await?;
        let last = page.entries.last().map(|entry| entry.cookie);
        for entry in page.entries {
            let Some(entry) = renamed(path, entry) else { continue };
            bytes += (size_of::<DirEntry>() + entry.name.len()) as u64;
            entries.push(entry);
        }
        if entries.len() > NAMES_MAX {
            let source = std::io::Error::other(format!("more than {NAMES_MAX} names in one directory"));
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
    Ok(Listed { entries: entries.into(), bytes, at: Instant::now() })
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
