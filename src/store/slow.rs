//! A layer that is as slow as a store far away, or as silent as one behind a cut link.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    Attr, Attributes, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreFile, StorePath,
    StoreWriter,
};

/// A store at the other end of a link. A clone is the same store behind the same link.
#[derive(Clone)]
pub struct Slow {
    inner: Arc<dyn Store>,
    link: Arc<Link>,
}

impl Slow {
    /// Each call to `inner` takes `latency` more, and as long as its bytes take at `bandwidth` bytes a second,
    /// which all calls share; 0 stands for no limit.
    pub fn new(inner: Arc<dyn Store>, latency: Duration, bandwidth: u64) -> Self {
        let link = Link { latency, bandwidth, free: Mutex::new(None), cut: watch::Sender::new(false) };
        Self { inner, link: Arc::new(link) }
    }

    /// Calls get no answer from now on, and no error: those under way too.
    pub fn cut(&self) {
        self.link.cut.send_replace(true);
    }

    /// The link is there again, and who still waits gets an answer.
    pub fn mend(&self) {
        self.link.cut.send_replace(false);
    }
}

struct Link {
    latency: Duration,
    bandwidth: u64,
    /// When the bytes of earlier calls are through.
    free: Mutex<Option<Instant>>,
    cut: watch::Sender<bool>,
}

impl Link {
    async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T>>,
        size: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        self.whole().await;
        tokio::time::sleep(self.latency).await;
        let answer = call.await;
        if let Ok(answer) = &answer {
            self.carry(size(answer)).await;
        }
        self.whole().await;
        answer
    }

    async fn carry(&self, bytes: usize) {
        if self.bandwidth == 0 || bytes == 0 {
            return;
        }
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.bandwidth));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let through = {
            let mut free = self.free.lock();
            let through = free.unwrap_or_else(Instant::now).max(Instant::now()) + takes;
            *free = Some(through);
            through
        };
        tokio::time::sleep_until(through).await;
    }

    /// Waits until the link is not cut.
    async fn whole(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.cut.subscribe().wait_for(|cut| !cut).await;
    }
}

fn nothing<T>(_: &T) -> usize {
    0
}

impl Store for Slow {
    fn describe(&self) -> String {
        format!("slow {}", self.inner.describe())
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(self.link.pass(self.inner.stat(path), nothing))
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.link.pass(self.inner.open(path), nothing).await?;
            let file: Arc<dyn StoreFile> = Arc::new(SlowFile { inner, link: self.link.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        let size = |page: &DirPage| page.entries.iter().map(|entry| entry.name.len() + 24).sum();
        Box::pin(self.link.pass(self.inner.read_dir(path, cookie, max), size))
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.link.pass(self.inner.read_link(path), Vec::len))
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(self.link.pass(self.inner.stat_fs(), nothing))
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move {
            let inner = self.link.pass(self.inner.create(path, scratch), |_| 0).await?;
            let writer: Box<dyn StoreWriter> = Box::new(SlowWriter { inner, link: self.link.clone() });
            Ok(writer)
        })
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.link.carry(content.len()).await;
            self.link.pass(self.inner.create_new(path, content), nothing).await
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.link.pass(self.inner.remove(path), nothing))
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

/// Every call takes time, so what may not wait has no answer.
struct SlowFile {
    inner: Arc<dyn StoreFile>,
    link: Arc<Link>,
}

impl StoreFile for SlowFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(self.link.pass(self.inner.stat(), nothing))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(self.link.pass(self.inner.read_at(offset, len), Bytes::len))
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let size = |pieces: &Vec<Bytes>| pieces.iter().map(Bytes::len).sum();
        Box::pin(self.link.pass(self.inner.read_pieces(offset, len, piece), size))
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        Box::pin(self.link.pass(self.inner.data_range(offset, size), nothing))
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        Box::pin(self.link.pass(self.inner.get_xattr(name, max), size))
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(self.link.pass(self.inner.list_xattrs(), |names| names.iter().map(Vec::len).sum()))
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.link.carry(value.len()).await;
            self.link.pass(self.inner.set_xattr(name, value), nothing).await
        })
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.link.pass(self.inner.remove_xattr(name), nothing))
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        Box::pin(self.link.pass(self.inner.verity_metadata(kind, offset, len), size))
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(self.link.pass(self.inner.measure_verity(), nothing))
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.link.pass(self.inner.enable_verity(seal), nothing))
    }
}

struct SlowWriter {
    inner: Box<dyn StoreWriter>,
    link: Arc<Link>,
}

impl StoreWriter for SlowWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.link.carry(data.len()).await;
            self.link.pass(self.inner.write_at(offset, data), nothing).await
        })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.link.pass(self.inner.set_attributes(attributes), nothing))
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.link.pass(self.inner.prepare(), nothing))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { inner, link } = *self;
            link.pass(inner.commit(), nothing).await
        })
    }
}
