//! A layer that gives a store so much time, or all the time there is.
//!
//! Soft: a call that takes too long fails with [`StoreErrorKind::Unavailable`], which clients hear as
//! "ask again later", and what does not answer is told. Hard: a call that fails so is made again until the
//! store answers; dropping its future ends that.
//!
//! What writes is neither cut off nor made again: half of it may have been done.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Attr, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreError, StoreErrorKind,
    StoreFile, StorePath, StoreWriter,
};
use crate::event::{Event, Sink};

/// So many calls in a row must fail before a store is said to be down: one alone may be a hiccup.
const FAILURES: u32 = 3;
/// The pauses between tries double, from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a call does whose store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// It fails once it took the given time.
    Soft(Duration),
    /// It goes on until there is an answer.
    Hard,
}

/// A store that is waited for.
#[derive(Clone)]
pub struct Patient {
    inner: Arc<dyn Store>,
    watch: Arc<Watch>,
}

impl Patient {
    /// Calls to `inner` fail when they take longer than `timeout`. While the store is down one call at a time
    /// asks whether it still is, and the others fail at once, so that nobody's place is held. That it is down,
    /// and up again, goes to `sink`.
    pub fn soft(inner: Arc<dyn Store>, timeout: Duration, sink: Arc<dyn Sink>) -> Self {
        Self::new(inner, Wait::Soft(timeout), Some(sink))
    }

    /// Calls to `inner` that it does not answer are made again until it does.
    pub fn hard(inner: Arc<dyn Store>) -> Self {
        Self::new(inner, Wait::Hard, None)
    }

    fn new(inner: Arc<dyn Store>, wait: Wait, sink: Option<Arc<dyn Sink>>) -> Self {
        let watch = Watch { name: inner.describe(), wait, sink, health: Mutex::default() };
        Self { inner, watch: Arc::new(watch) }
    }
}

#[derive(Default)]
struct Health {
    /// Failures since the last answer.
    failures: u32,
    is_down: bool,
    /// True while a call finds out whether the store is up again.
    is_probed: bool,
}

struct Watch {
    name: String,
    wait: Wait,
    sink: Option<Arc<dyn Sink>>,
    health: Mutex<Health>,
}

/// The one call that asks a store that is down.
struct Probe<'a>(&'a Watch);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.health.lock().is_probed = false;
    }
}

impl Watch {
    /// Makes the call, again where that is wanted.
    async fn call<'a, T>(
        &self,
        operation: &'static str,
        path: &StorePath,
        mut call: impl FnMut() -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        match self.wait {
            Wait::Soft(timeout) => {
                let _probe = self.admit(operation, path)?;
                let answer = match tokio::time::timeout(timeout, call()).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        let silence = format!("no answer in {} seconds", timeout.as_secs_f64());
                        Err(unavailable(operation, path, &silence))
                    }
                };
                self.note(&answer);
                answer
            }
            Wait::Hard => {
                let (mut pause, longest) = PAUSES;
                loop {
                    match call().await {
                        Err(error) if error.kind == StoreErrorKind::Unavailable => {}
                        answer => return answer,
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Lets a call pass, unless another one is asking already whether the store is up again.
    fn admit(&self, operation: &'static str, path: &StorePath) -> Result<Option<Probe<'_>>> {
        let mut health = self.health.lock();
        if !health.is_down {
            return Ok(None);
        }
        if health.is_probed {
            return Err(unavailable(operation, path, "the store is down"));
        }
        health.is_probed = true;
        Ok(Some(Probe(self)))
    }

    /// Learns from an answer whether the store is there.
    fn note<T>(&self, answer: &Result<T>) {
        let Some(sink) = &self.sink else { return };
        let failed = match answer {
            Err(error) if error.kind == StoreErrorKind::Unavailable => Some(error),
            _ => None,
        };
        let mut health = self.health.lock();
        // Under the lock, so that what is told is in order.
        match failed {
            None => {
                health.failures = 0;
                if std::mem::take(&mut health.is_down) {
                    sink.emit(&Event::StoreUp { store: &self.name });
                }
            }
            Some(error) => {
                health.failures = health.failures.saturating_add(1);
                if health.failures >= FAILURES && !health.is_down {
                    health.is_down = true;
                    sink.emit(&Event::StoreDown { store: &self.name, error: &error.to_string() });
                }
            }
        }
    }

    /// What was found without waiting: a failure to answer is for the call that may wait.
    fn now<T>(&self, answer: Option<Result<T>>) -> Option<Result<T>> {
        match answer {
            Some(Err(error)) if error.kind == StoreErrorKind::Unavailable => None,
            other => other,
        }
    }
}

fn unavailable(operation: &'static str, path: &StorePath, what: &str) -> StoreError {
    let source = io::Error::new(io::ErrorKind::TimedOut, what.to_owned());
    StoreError::new(StoreErrorKind::Unavailable, operation, path, source)
}

impl Store for Patient {
    fn describe(&self) -> String {
        self.watch.name.clone()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(self.watch.call("stat", path, || self.inner.stat(path)))
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.watch.call("open", path, || self.inner.open(path)).await?;
            let file: Arc<dyn StoreFile> =
                Arc::new(PatientFile { inner, watch: self.watch.clone(), path: path.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        let call = move || self.inner.read_dir(path, cookie, max);
        Box::pin(self.watch.call("read the directory", path, call))
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.watch.call("read the link", path, || self.inner.read_link(path)))
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move {
            let root = StorePath::root();
            self.watch.call("stat the file system", &root, || self.inner.stat_fs()).await
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        self.inner.create(path, scratch)
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        self.inner.create_new(path, content)
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        self.inner.remove(path)
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

struct PatientFile {
    inner: Arc<dyn StoreFile>,
    watch: Arc<Watch>,
    path: StorePath,
}

impl StoreFile for PatientFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(self.watch.call("stat", &self.path, || self.inner.stat()))
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.watch.now(self.inner.try_stat())
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(self.watch.call("read", &self.path, move || self.inner.read_at(offset, len)))
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let call = move || self.inner.read_pieces(offset, len, piece);
        Box::pin(self.watch.call("read", &self.path, call))
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.inner.try_read_at(offset, len)
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        Box::pin(self.watch.call("find data", &self.path, move || self.inner.data_range(offset, size)))
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let call = move || self.inner.get_xattr(name, max);
        Box::pin(self.watch.call("read an extended attribute", &self.path, call))
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(self.watch.call("list extended attributes", &self.path, || self.inner.list_xattrs()))
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
        let call = move || self.inner.verity_metadata(kind, offset, len);
        Box::pin(self.watch.call("read the fs-verity metadata", &self.path, call))
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(self.watch.call("measure", &self.path, || self.inner.measure_verity()))
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        self.inner.enable_verity(seal)
    }
}
