//! Several stores with the same tree: asked in order, and one that does not answer is left alone for a while.
//!
//! [`Guarded`] is one store whose failures are remembered: once it does not answer
//! ([`StoreErrorKind::Unavailable`]), its calls fail at once, and a task of its own asks it, ever more rarely,
//! until it answers. [`Failover`] asks the first of its members that answers. That a name is not there is an
//! answer. Numbers of objects and cookies of listings are made of names, so that they stay when another member
//! answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::listing::Listings;
use super::path::fileid_of_path;
use super::{
    Attr, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreError, StoreErrorKind,
    StoreFile, StorePath, StoreWriter,
};
use crate::event::{Event, Sink};

/// Between two looks at a store that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// A store that answered so often in a row when it was looked at, and not the calls within this time afterwards,
/// is as good as down.
const RELAPSES: (u32, Duration) = (3, Duration::from_secs(120));

/// Whether a store answers.
struct Health {
    name: String,
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    /// Calls fail at once, and one task finds out how it is.
    down: AtomicBool,
    why: Mutex<String>,
    relapses: Mutex<Relapses>,
}

/// How often in a row a store was let in again too early, and when last.
#[derive(Default)]
struct Relapses {
    count: u32,
    since: Option<Instant>,
}

impl Health {
    /// Lets a call through, or says why not.
    fn admit(&self, operation: &'static str, path: &StorePath) -> Result<()> {
        if !self.down.load(Ordering::Acquire) {
            return Ok(());
        }
        let why = self.why.lock();
        let source = std::io::Error::other(format!("{} is left alone for a while: {why}", self.name));
        Err(StoreError::new(StoreErrorKind::Unavailable, operation, path, source))
    }

    /// Takes note of how a call ended.
    fn note<T>(self: &Arc<Self>, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.kind == StoreErrorKind::Unavailable
        {
            *self.why.lock() = error.source.to_string();
            if !self.down.swap(true, Ordering::AcqRel) {
                tokio::spawn(find_out(Arc::downgrade(self)));
            }
        }
        result
    }

    /// Counts that a call got no answer, and gives how long the store is left alone if it is as good as down,
    /// which is told.
    fn relapsed(&self) -> Option<Duration> {
        let (most, within) = RELAPSES;
        let mut relapses = self.relapses.lock();
        let is_soon = relapses.since.is_some_and(|since| since.elapsed() < within);
        relapses.count = if is_soon { relapses.count.saturating_add(1) } else { 0 };
        let more = relapses.count.checked_sub(most)?;
        let why = format!("it answers when it is looked at, but not other calls: {}", self.why.lock());
        self.sink.emit(&Event::StoreDown { store: &self.name, error: &why });
        Some(PAUSES.0.saturating_mul(2_u32.saturating_pow(more)).min(within / 2))
    }
}

/// Asks a store, of which a call got no answer, until it gives one, so that no client has to wait for that.
/// What failed may have been one file that is far away: that the store is down is told when it is. One that
/// answers this alone, and no other calls, is told too, and is let in ever more rarely.
async fn find_out(health: Weak<Health>) {
    let (mut pause, longest) = PAUSES;
    let Some(aside) = health.upgrade().map(|health| health.relapsed()) else { return };
    let mut told = aside.is_some();
    tokio::time::sleep(aside.unwrap_or_default()).await;
    while let Some(health) = health.upgrade() {
        match health.store.stat(&StorePath::root()).await {
            Err(error) if error.kind == StoreErrorKind::Unavailable => {
                let why = error.source.to_string();
                if !std::mem::replace(&mut told, true) {
                    health.sink.emit(&Event::StoreDown { store: &health.name, error: &why });
                }
                *health.why.lock() = why;
            }
            Ok(_) | Err(_) => {
                // Before the next call can find it down again.
                if told {
                    health.sink.emit(&Event::StoreUp { store: &health.name });
                }
                health.relapses.lock().since = Some(Instant::now());
                health.down.store(false, Ordering::Release);
                return;
            }
        }
        drop(health);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// A store that is left alone while it does not answer. A clone is the same store.
#[derive(Clone)]
pub struct Guarded {
    inner: Arc<dyn Store>,
    health: Arc<Health>,
}

impl Guarded {
    /// Guards `inner`.
    pub fn new(inner: Arc<dyn Store>, sink: Arc<dyn Sink>) -> Self {
        let health = Health {
            name: inner.describe(),
            store: inner.clone(),
            sink,
            down: AtomicBool::new(false),
            why: Mutex::default(),
            relapses: Mutex::default(),
        };
        Self { inner, health: Arc::new(health) }
    }

    /// Whether it does not answer, as far as is known.
    pub fn is_down(&self) -> bool {
        self.health.down.load(Ordering::Acquire)
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        path: &StorePath,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.health.admit(operation, path)?;
        self.health.note(call.await)
    }
}

impl Store for Guarded {
    fn describe(&self) -> String {
        self.health.name.clone()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(self.call("stat", path, self.inner.stat(path)))
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.call("open", path, self.inner.open(path)).await?;
            let file: Arc<dyn StoreFile> =
                Arc::new(GuardedFile { inner, health: self.health.clone(), path: path.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(self.call("read the directory", path, self.inner.read_dir(path, cookie, max)))
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.call("read the link", path, self.inner.read_link(path)))
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(
            async move { self.call("stat the file system", &StorePath::root(), self.inner.stat_fs()).await },
        )
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(self.call("create", path, self.inner.create(path, scratch)))
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.call("create", path, self.inner.create_new(path, content)))
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call("remove", path, self.inner.remove(path)))
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

struct GuardedFile {
    inner: Arc<dyn StoreFile>,
    health: Arc<Health>,
    path: StorePath,
}

impl GuardedFile {
    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.health.admit(operation, &self.path)?;
        self.health.note(call.await)
    }
}

impl StoreFile for GuardedFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(self.call("stat", self.inner.stat()))
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.inner.try_stat()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(self.call("read", self.inner.read_at(offset, len)))
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(self.call("read", self.inner.read_pieces(offset, len, piece)))
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.inner.try_read_at(offset, len)
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<std::ops::Range<u64>>>> {
        Box::pin(self.call("find data", self.inner.data_range(offset, size)))
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(self.call("read an extended attribute", self.inner.get_xattr(name, max)))
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(self.call("list the extended attributes", self.inner.list_xattrs()))
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call("set an extended attribute", self.inner.set_xattr(name, value)))
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call("remove an extended attribute", self.inner.remove_xattr(name)))
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(self.call("read verity metadata", self.inner.verity_metadata(kind, offset, len)))
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(self.call("measure", self.inner.measure_verity()))
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call("seal", self.inner.enable_verity(seal)))
    }
}

/// Several stores as one, to be read by name. What is written goes to the first.
pub struct Failover {
    members: Vec<Guarded>,
    listings: Listings,
}

impl Failover {
    /// The stores in the order in which they are asked.
    pub fn new(members: Vec<Guarded>) -> Self {
        Self { listings: Listings::new(members.len()), members }
    }

    /// Asks one member after the other until one answers; else gives the first one's failure.
    async fn ask<'a, T, F>(
        &'a self,
        path: &StorePath,
        mut ask: impl FnMut(&'a Guarded, usize) -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let mut first = None;
        for (index, member) in self.members.iter().enumerate() {
            match ask(member, index).await {
                Err(error) if is_no_answer(error.kind) => first = first.or(Some(error)),
                answer => return answer,
            }
        }
        Err(first.unwrap_or_else(|| {
            let source = std::io::Error::other("there is no store to ask");
            StoreError::new(StoreErrorKind::Unavailable, "ask", path, source)
        }))
    }

    fn first(&self, operation: &'static str, path: &StorePath) -> Result<&Guarded> {
        self.members.first().ok_or_else(|| {
            let source = std::io::Error::other("there is no store to ask");
            StoreError::new(StoreErrorKind::Unavailable, operation, path, source)
        })
    }
}

/// Whether a failure says nothing of the object, so that another store may know more.
pub(crate) fn is_no_answer(kind: StoreErrorKind) -> bool {
    match kind {
        StoreErrorKind::Unavailable | StoreErrorKind::Exhausted | StoreErrorKind::Io => true,
        StoreErrorKind::NotFound
        | StoreErrorKind::NotADirectory
        | StoreErrorKind::IsADirectory
        | StoreErrorKind::NotRegular
        | StoreErrorKind::Symlink
        | StoreErrorKind::Access
        | StoreErrorKind::NameTooLong
        | StoreErrorKind::Stale
        | StoreErrorKind::ReadOnly
        | StoreErrorKind::NoSpace
        | StoreErrorKind::Unsupported
        | StoreErrorKind::TooLarge => false,
    }
}

fn renumbered(path: &StorePath, attr: Attr) -> Attr {
    Attr { fileid: fileid_of_path(path), ..attr }
}

impl Store for Failover {
    fn describe(&self) -> String {
        self.members.iter().map(Store::describe).collect::<Vec<_>>().join(", ")
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(async move {
            let attr = self.ask(path, |member, _| member.stat(path)).await?;
            Ok(renumbered(path, attr))
        })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.ask(path, |member, _| member.open(path)).await?;
            let file: Arc<dyn StoreFile> = Arc::new(Renumbered { inner, path: path.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(self.ask(path, move |member, index| self.listings.page(member, index, path, cookie, max)))
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.ask(path, |member, _| member.read_link(path)))
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move { self.ask(&StorePath::root(), |member, _| member.stat_fs()).await })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move { self.first("create", path)?.create(path, scratch).await })
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.first("create", path)?.create_new(path, content).await })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.first("remove", path)?.remove(path).await })
    }

    fn forget(&self, path: &StorePath) {
        self.members.iter().for_each(|member| member.forget(path));
    }
}

/// A file of one of several stores, under the number that it has in all of them.
pub struct Renumbered {
    inner: Arc<dyn StoreFile>,
    path: StorePath,
}

impl Renumbered {
    /// `inner`, which has the name `path`.
    pub fn new(inner: Arc<dyn StoreFile>, path: StorePath) -> Self {
        Self { inner, path }
    }
}

impl StoreFile for Renumbered {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move { Ok(renumbered(&self.path, self.inner.stat().await?)) })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        Some(self.inner.try_stat()?.map(|attr| renumbered(&self.path, attr)))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.inner.read_at(offset, len)
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        self.inner.read_pieces(offset, len, piece)
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.inner.try_read_at(offset, len)
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<std::ops::Range<u64>>>> {
        self.inner.data_range(offset, size)
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get_xattr(name, max)
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        self.inner.list_xattrs()
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.set_xattr(name, value)
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.remove_xattr(name)
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        self.inner.verity_metadata(kind, offset, len)
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        self.inner.measure_verity()
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        self.inner.enable_verity(seal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Faulty, Memory};
    use super::*;

    /// What was told of stores: whether they are up.
    #[derive(Default)]
    struct Told(Mutex<Vec<bool>>);

    impl Sink for Told {
        fn emit(&self, event: &Event<'_>) {
            match event {
                Event::StoreUp { .. } => self.0.lock().push(true),
                Event::StoreDown { .. } => self.0.lock().push(false),
                _ => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_answers_no_call_but_when_it_is_looked_at_is_left_alone_ever_longer() {
        let memory = Memory::new();
        memory.put("file", b"").unwrap();
        let (faulty, told) = (Faulty::new(Arc::new(memory)), Arc::new(Told::default()));
        let store = Guarded::new(Arc::new(faulty.clone()), told.clone());
        let file = StorePath::parse(b"file").unwrap();
        let relapse = async || {
            faulty.fail_at(faulty.calls() + 1, Fault::Error(StoreErrorKind::Unavailable));
            assert!(store.open(&file).await.is_err());
            let since = Instant::now();
            while store.is_down() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            since.elapsed().as_millis()
        };
        let mut aside = Vec::new();
        for _ in 0..12 {
            aside.push(relapse().await / 100);
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(store.open(&file).await.is_ok());
        }
        assert_eq!(aside, [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(std::mem::take(&mut *told.0.lock()), [false, true].repeat(9));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(relapse().await / 100, 0);
        assert!(told.0.lock().is_empty());
    }
}
