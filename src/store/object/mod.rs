//! Files in a bucket: S3, Google Cloud Storage, Azure Blob Storage, and whatever speaks like S3.
//!
//! The key of a file is the address's prefix and the path. Directories are what keys have before a slash; where
//! an object stands at a directory's name, the directory is there and the object is not. File ids and cookies
//! come from names alone, so that they are the same in every gateway over the bucket.
//!
//! An open file is one version of its object: reads carry its ETag, and what comes of another version is refused.
//! What is written is put in place by one request that makes it visible at once.

mod address;
mod ahead;
mod credentials;
mod fail;
mod file;
mod flights;
mod http;
mod keys;
#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_http;
#[cfg(test)]
mod tests_looks;
#[cfg(test)]
mod tests_pages;
#[cfg(test)]
mod tests_readers;
#[cfg(test)]
mod tests_upload;
mod version;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tokio::sync::Semaphore;

use super::address::cannot_open;
use super::{
    Attr, BoxFuture, DirEntry, DirPage, FsStat, Kind, NAME_MAX, OpenOptions, Result, Store, StoreErrorKind,
    StoreFile, StorePath, StoreWriter, fileid_of_path,
};
pub use address::Address;
use address::Look;
use ahead::Ahead;
use fail::{fail, refuse, silent};
use flights::Flights;
use keys::{DOT, DOT_DOT, Found, Listing, Pager};
use version::Version;

/// The longest key, in bytes, of every provider.
const KEY_MAX: usize = 1024;
/// Objects of which it is remembered what they are, or that they are not there.
const HEADS: usize = 1 << 16;
/// Memory for listings: a little more than one may take, for the cache lets nothing in that would fill it.
const LISTINGS: u64 = keys::LISTING_MAX / 16 * 17;
/// Directories that are listed at the same time.
const LISTED_AT_ONCE: usize = 16;
/// A listing that is being read through may be this many times as old as what is looked up anew.
const PATIENCE: u32 = 12;

/// Opens the bucket.
pub(super) async fn open(address: &Address, options: &OpenOptions) -> Result<Arc<dyn Store>> {
    // Another part of the program may have done so; either is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (objects, pages) = credentials::connect(address, options.timeout)
        .map_err(|why| cannot_open(StoreErrorKind::Io, address, why))?;
    let bucket =
        Bucket::new(address.to_string(), &address.prefix, address.look, objects, pages, options.timeout);
    let root = StorePath::root();
    match bucket.0.has_below("", &root).await {
        // A server that is away comes back.
        Err(error) if error.kind != StoreErrorKind::Unavailable => {
            Err(cannot_open(error.kind, address, error.source))
        }
        Ok(_) | Err(_) => Ok(Arc::new(bucket)),
    }
}

/// A bucket, or what has one prefix in it. A clone is the same.
#[derive(Clone)]
struct Bucket(Arc<Inner>);

struct Inner {
    name: String,
    prefix: String,
    look: Look,
    timeout: Duration,
    objects: Arc<dyn ObjectStore>,
    pages: Arc<dyn PaginatedListStore>,
    heads: Cache<StorePath, Known>,
    looks: Arc<Flights<Known>>,
    listings: Cache<StorePath, Kept, BySize>,
    lists: Arc<Flights<(Instant, Arc<Listing>)>>,
    list_slots: Semaphore,
    ahead: Arc<Ahead>,
    /// The last request was not answered.
    away: AtomicBool,
}

/// What was found somewhere, and when.
type Known = (Instant, Option<Found>);

/// A listing. What it says of a name may be as old as its beginning; as a whole it is as old as its end, for one
/// that took long would be old from the start.
#[derive(Clone)]
struct Kept {
    began: Instant,
    ended: Instant,
    listing: Arc<Listing>,
}

/// What a listing says of a name.
enum Listed {
    Known(Known),
    /// It is a file, and no directory is there.
    File,
    Unknown,
}

#[derive(Clone)]
struct BySize;

impl Weighter<StorePath, Kept> for BySize {
    fn weight(&self, path: &StorePath, kept: &Kept) -> u64 {
        kept.listing.bytes + path.as_bytes().len() as u64
    }
}

impl Bucket {
    fn new(
        name: String,
        prefix: &str,
        look: Look,
        objects: Arc<dyn ObjectStore>,
        pages: Arc<dyn PaginatedListStore>,
        timeout: Duration,
    ) -> Self {
        // In one piece: each of several would hold but its part, which the largest listing exceeds.
        let options = quick_cache::OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(1024)
            .weight_capacity(LISTINGS)
            .build();
        let listings = match options {
            Ok(options) => {
                Cache::with_options(options, BySize, Default::default(), DefaultLifecycle::default())
            }
            // Capacity is all that could be lacking.
            Err(_) => Cache::with_weighter(1024, LISTINGS, BySize),
        };
        Self(Arc::new(Inner {
            name,
            prefix: prefix.to_owned(),
            look,
            timeout,
            objects,
            pages,
            heads: Cache::new(HEADS),
            looks: Arc::default(),
            listings,
            lists: Arc::default(),
            list_slots: Semaphore::new(LISTED_AT_ONCE),
            ahead: Arc::new(Ahead::default()),
            away: AtomicBool::new(false),
        }))
    }
}

impl Inner {
    /// The key of `path`; `None` for a name that no key can have.
    fn key(&self, path: &StorePath) -> Option<Path> {
        let text = format!("{}{}", self.prefix, std::str::from_utf8(path.as_bytes()).ok()?);
        let key = Path::parse(&text).ok()?;
        (text.len() <= KEY_MAX && key.as_ref() == text).then_some(key)
    }

    /// What the keys of all that is below `path` start with.
    fn prefix_of(&self, path: &StorePath) -> Option<String> {
        match path.is_root() {
            true => Some(self.prefix.clone()),
            false => Some(format!("{}/", self.key(path)?)),
        }
    }

    /// What `request` gives, within the time that one call may take.
    async fn within<T>(
        &self,
        operation: &'static str,
        path: &StorePath,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        self.within_time(operation, path, self.timeout, request).await
    }

    /// What `request` gives within `time`.
    async fn within_time<T>(
        &self,
        operation: &'static str,
        path: &StorePath,
        time: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let answer = tokio::time::timeout(time, request).await;
        self.note(match answer {
            Ok(answer) => answer.map_err(fail(operation, path)),
            Err(_) => Err(silent(operation, path)),
        })
    }

    /// Takes note of whether the server answers.
    fn note<T>(&self, answer: Result<T>) -> Result<T> {
        let away = matches!(&answer, Err(error) if error.kind == StoreErrorKind::Unavailable);
        self.away.store(away, Ordering::Relaxed);
        answer
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Fails while the server is away. What is remembered is true for as long as it is true, but it does not show
    /// that anybody is there, which those who wait for that would take it for.
    async fn present(&self) -> Result<()> {
        if !self.is_away() {
            return Ok(());
        }
        match self.has_below("", &StorePath::root()).await {
            Err(error) if error.kind == StoreErrorKind::Unavailable => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether any key starts with `prefix`.
    async fn has_below(&self, prefix: &str, path: &StorePath) -> Result<bool> {
        let all = format!("{}{prefix}", self.prefix);
        let options = PaginatedListOptions { max_keys: Some(1), ..Default::default() };
        let list = self.pages.list_paginated(Some(&all).filter(|p| !p.is_empty()).map(|p| &**p), options);
        self.note(match tokio::time::timeout(self.timeout, list).await {
            Ok(Ok(page)) => Ok(!page.result.objects.is_empty() || page.page_token.is_some()),
            // A key that is no name is a key.
            Ok(Err(object_store::Error::InvalidPath { .. })) => Ok(true),
            Ok(Err(error)) => Err(fail("list", path)(error)),
            Err(_) => Err(silent("list", path)),
        })
    }

    async fn head(&self, key: &Path, path: &StorePath) -> Result<Option<Version>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.within("stat", path, self.objects.get_opts(key, options)).await {
            Ok(answer) => Ok(Some(Version::of(&answer.meta, Some(&answer.attributes)))),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How an object is put in the place of what is at `key` now, and of nothing else. Where the server gives it
    /// no name that could tell it from others, whatever is there is replaced.
    async fn in_place_of(&self, key: &Path, path: &StorePath) -> Result<PutMode> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let meta = match self.within("stat", path, self.objects.get_opts(key, options)).await {
            Ok(answer) => answer.meta,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(PutMode::Create),
            Err(error) => return Err(error),
        };
        match meta.e_tag {
            Some(tag) if !matches!(&*tag, "" | "\"\"") && !tag.starts_with("W/") => {
                Ok(PutMode::Update(UpdateVersion { e_tag: Some(tag), version: meta.version }))
            }
            _ => Ok(PutMode::Overwrite),
        }
    }

    fn fresh(&self, at: Instant, times: u32) -> bool {
        at.elapsed() < self.look.ttl * times
    }

    /// What is at `path` itself, whatever stands above it.
    async fn look_up(self: &Arc<Self>, path: &StorePath) -> Result<Option<Found>> {
        Ok(self.known(path).await?.1)
    }

    /// The same, and when it was so.
    async fn known(self: &Arc<Self>, path: &StorePath) -> Result<Known> {
        if path.is_root() {
            self.present().await?;
            return Ok((Instant::now(), Some(Found::Directory)));
        }
        let Some(key) = self.key(path) else { return Ok((Instant::now(), None)) };
        let remembered = self.heads.get(path).filter(|(at, _)| self.fresh(*at, 1));
        let listed = remembered.map_or_else(|| self.listed(path), Listed::Known);
        if let Listed::Known(known) = listed {
            self.present().await?;
            return Ok(known);
        }
        let ask = {
            let (inner, path) = (self.clone(), path.clone());
            async move {
                let found = match listed {
                    Listed::File => inner.head(&key, &path).await?.map(Found::File),
                    Listed::Known(_) | Listed::Unknown => inner.ask(&key, &path).await?,
                };
                Ok((Instant::now(), found))
            }
        };
        if self.look.ttl.is_zero() {
            return ask.await;
        }
        let keep = {
            let (inner, path) = (self.clone(), path.clone());
            move |known: &Known| inner.heads.insert(path, known.clone())
        };
        self.looks.join("stat", path, ask, keep).await
    }

    /// What the server says that is at `path`.
    async fn ask(&self, key: &Path, path: &StorePath) -> Result<Option<Found>> {
        let below = format!("{}/", String::from_utf8_lossy(path.as_bytes()));
        let (mut head, mut below) = (Box::pin(self.head(key, path)), Box::pin(self.has_below(&below, path)));
        // Some servers fail to tell what stands at a directory's name, which then does not matter.
        let (version, is_directory) = tokio::select! {
            is_directory = &mut below => match is_directory? {
                true => (None, true),
                false => (head.await?, false),
            },
            version = &mut head => match below.await? {
                true => (None, true),
                false => (version?, false),
            },
        };
        Ok(if is_directory { Some(Found::Directory) } else { version.map(Found::File) })
    }

    /// What a listing that is not old says of `path`.
    fn listed(&self, path: &StorePath) -> Listed {
        let kept = path.parent().and_then(|parent| self.listings.get(&parent));
        let (Some(Kept { began, listing, .. }), Ok(name)) = (kept, std::str::from_utf8(path.name())) else {
            return Listed::Unknown;
        };
        match listing.find(name) {
            _ if !self.fresh(began, 1) => Listed::Unknown,
            Some(Found::File(version)) if self.look.metadata || version.etag.is_none() => Listed::File,
            found => Listed::Known((began, found.cloned())),
        }
    }

    /// The same, where nothing there is an error that tells why.
    async fn find(self: &Arc<Self>, operation: &'static str, path: &StorePath) -> Result<Found> {
        if let Some(found) = self.look_up(path).await? {
            return Ok(found);
        }
        match self.obstacle(path).await? {
            true => Err(refuse(StoreErrorKind::NotADirectory, operation, path, "a file is above it")),
            false => Err(refuse(StoreErrorKind::NotFound, operation, path, "it is not in the bucket")),
        }
    }

    /// Whether an object stands where `path` has a directory.
    async fn obstacle(self: &Arc<Self>, path: &StorePath) -> Result<bool> {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            match self.look_up(&directory).await {
                Ok(Some(Found::File(_))) => return Ok(true),
                Ok(Some(Found::Directory)) => return Ok(false),
                Ok(None) => above = directory.parent(),
                // Some servers fail to tell what stands at the name of a directory of theirs without keys in it.
                Err(error) if matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Io) => {
                    above = directory.parent();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn attr(&self, path: &StorePath, found: &Found) -> Attr {
        match found {
            Found::File(version) => version.attr(path, &self.look),
            Found::Directory => version::directory(path, &self.look),
        }
    }

    /// The names of `path`; `going_on` with a listing that was begun.
    async fn listing(self: &Arc<Self>, path: &StorePath, going_on: bool) -> Result<Arc<Listing>> {
        let times = if going_on { PATIENCE } else { 1 };
        if let Some(Kept { ended, listing, .. }) = self.listings.get(path)
            && self.fresh(ended, times)
        {
            return Ok(listing);
        }
        let Some(prefix) = self.prefix_of(path) else {
            return Err(refuse(StoreErrorKind::NotFound, "list", path, "no key can have this name"));
        };
        let list = {
            let (inner, path) = (self.clone(), path.clone());
            async move {
                let _slot = inner.list_slots.acquire().await;
                let began = Instant::now();
                let listing = keys::list(&*inner.pages, &prefix, &path, inner.timeout).await;
                Ok((began, Arc::new(inner.note(listing)?)))
            }
        };
        if self.look.ttl.is_zero() {
            return Ok(list.await?.1);
        }
        let keep = {
            let (inner, path) = (self.clone(), path.clone());
            move |(began, listing): &(Instant, Arc<Listing>)| {
                let kept = Kept { began: *began, ended: Instant::now(), listing: listing.clone() };
                inner.listings.insert(path, kept);
            }
        };
        Ok(self.lists.join("list", path, list, keep).await?.1)
    }

    /// Forgets what was known of `path` and of the directories above it, which the gateway itself has changed.
    fn forget(&self, path: &StorePath) {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            // In this order: what is under way finds that nobody wants it, or is removed.
            self.looks.forget(&path);
            self.heads.remove(&path);
            self.lists.forget(&path);
            self.listings.remove(&path);
            at = path.parent();
        }
    }

    /// Deletes all that is below `path`, and an object that stands there itself.
    async fn clear(&self, path: &StorePath) -> Result<()> {
        let Some(prefix) = self.prefix_of(path) else { return Ok(()) };
        let mut pager = Pager::new(&*self.pages, &prefix, false, path, self.timeout);
        while let Some(page) = pager.next(None).await? {
            let below = page.objects.into_iter().map(|meta| meta.location);
            let keys: Vec<_> = below.filter(|key| key.as_ref().starts_with(&prefix)).map(Ok).collect();
            let deleted = self.objects.delete_stream(futures_util::stream::iter(keys).boxed());
            self.within("remove", path, deleted.try_for_each(|_| async { Ok(()) })).await?;
        }
        if let Some(key) = self.key(path) {
            match self.within("remove", path, self.objects.delete(&key)).await {
                Err(error) if error.kind != StoreErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // What cannot be named cannot be deleted, such as other programs' keys that end with a slash.
        let below = format!("{}/", String::from_utf8_lossy(path.as_bytes()));
        match self.has_below(&below, path).await? {
            true => Err(refuse(StoreErrorKind::Io, "remove", path, "keys that are no names are left in it")),
            false => Ok(()),
        }
    }
}

impl Store for Bucket {
    fn describe(&self) -> String {
        self.0.name.clone()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(async move { Ok(self.0.attr(path, &self.0.find("stat", path).await?)) })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let (version, key) = match (self.0.find("open", path).await?, self.0.key(path)) {
                (Found::File(version), Some(key)) => (version, key),
                (Found::Directory, _) => {
                    return Err(refuse(StoreErrorKind::IsADirectory, "open", path, "it is a directory"));
                }
                (_, None) => return Err(refuse(StoreErrorKind::NotFound, "open", path, "it is no key")),
            };
            let file: Arc<dyn StoreFile> = Arc::new(file::ObjectFile::new(&self.0, path, key, version));
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(async move {
            let listing = match self.0.find("list", path).await? {
                Found::Directory => self.0.listing(path, cookie != 0).await?,
                Found::File(_) => {
                    return Err(refuse(StoreErrorKind::NotADirectory, "list", path, "it is a file"));
                }
            };
            let up = path.parent().unwrap_or_else(StorePath::root);
            let dot = |cookie, name: &[u8], path| DirEntry {
                name: name.to_vec(),
                cookie,
                fileid: fileid_of_path(path),
                kind: Some(Kind::Directory),
            };
            let start = listing.entries.partition_point(|entry| entry.cookie <= cookie);
            let named = listing.entries.iter().skip(start).filter_map(|entry| {
                let kind = match entry.found {
                    Found::File(_) => Kind::Regular,
                    Found::Directory => Kind::Directory,
                };
                let fileid = fileid_of_path(&path.join(entry.name.as_bytes()).ok()?);
                let name = entry.name.as_bytes().to_vec();
                Some(DirEntry { name, cookie: entry.cookie, fileid, kind: Some(kind) })
            });
            let dots = [dot(DOT, b".", path), dot(DOT_DOT, b"..", &up)];
            let mut rest = dots.into_iter().filter(|entry| entry.cookie > cookie).chain(named);
            let entries: Vec<_> = rest.by_ref().take(max).collect();
            Ok(DirPage { end: rest.next().is_none(), entries })
        })
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            self.0.find("read the link", path).await?;
            Err(refuse(StoreErrorKind::Io, "read the link", path, "it is no symbolic link"))
        })
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async {
            self.0.present().await?;
            // A bucket has no end, and tells none.
            let (bytes, files) = (1 << 60, 1 << 48);
            Ok(FsStat {
                total_bytes: bytes,
                free_bytes: bytes,
                available_bytes: bytes,
                total_files: files,
                free_files: files,
                available_files: files,
                name_max: u32::try_from(NAME_MAX).unwrap_or(u32::MAX),
                link_max: 1,
            })
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        _scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move {
            if path.is_root() {
                return Err(refuse(StoreErrorKind::IsADirectory, "create", path, "it is the root"));
            }
            let Some(key) = self.0.key(path) else {
                return Err(match path.as_bytes().len() + self.0.prefix.len() > KEY_MAX {
                    true => {
                        refuse(StoreErrorKind::NameTooLong, "create", path, "a key has at most 1024 bytes")
                    }
                    false => refuse(
                        StoreErrorKind::Unsupported,
                        "create",
                        path,
                        "a key is UTF-8 without control characters",
                    ),
                });
            };
            let writer: Box<dyn StoreWriter> = Box::new(write::ObjectWriter::new(&self.0, path, key));
            Ok(writer)
        })
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let Some(key) = self.0.key(path).filter(|_| !path.is_root()) else {
                return Err(refuse(StoreErrorKind::Unsupported, "create", path, "no key can have this name"));
            };
            let put = self.0.objects.put_opts(&key, content.to_vec().into(), PutMode::Create.into());
            let answer = tokio::time::timeout(self.0.timeout, put).await;
            self.0.forget(path);
            match answer.map_err(|_| silent("create", path))? {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(fail("create", path)(error)),
            }
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if path.is_root() {
                return Err(refuse(StoreErrorKind::Access, "remove", path, "it is the root"));
            }
            self.0.find("remove", path).await?;
            let cleared = self.0.clear(path).await;
            self.0.forget(path);
            cleared
        })
    }

    fn forget(&self, path: &StorePath) {
        self.0.forget(path);
    }
}
