//! A store that looks once more before it puts anything in place, or changes it where it is.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::trust::{Depth, Judged, Seen, Trust, Verdict};
use crate::event::Cause;
use crate::store::{
    Attr, Attributes, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreError,
    StoreErrorKind, StoreFile, StorePath, StoreWriter,
};
use crate::verity::FileDigest;

/// What was seen of evidence, and what came of judging it.
pub(super) type Said = (Option<Seen>, std::result::Result<FileDigest, Cause>);

pub(super) fn said(verdict: &Verdict) -> Said {
    let outcome = verdict.outcome.as_ref();
    let digest = outcome.map(|proven| proven.descriptor.file_digest());
    (verdict.seen, digest.map_err(|finding| finding.cause))
}

/// A file and its evidence on one store, as they have to be for something to be put in their place.
pub(super) struct AsItWas {
    pub(super) trust: Arc<Trust>,
    pub(super) source: usize,
    pub(super) path: StorePath,
    pub(super) attr: Option<Attr>,
    /// The evidence; `None` where that is gone with the file that it was part of.
    pub(super) evidence: Option<Said>,
    /// The first change is made: what is there now is our own.
    pub(super) begun: AtomicBool,
}

/// What tells one state of a file from another.
fn state(attr: Attr) -> impl PartialEq {
    (attr.fileid, attr.size, attr.mtime, attr.ctime, attr.change)
}

impl AsItWas {
    fn changed(&self) -> StoreError {
        let why = io::Error::other("it changed while it was repaired");
        StoreError::new(StoreErrorKind::Stale, "put it in place", &self.path, why)
    }

    /// Fails where anything is other than it was.
    async fn look(&self) -> Result<()> {
        if self.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let source = self.trust.sources.get(self.source);
        source.forget(&self.path);
        if let Some(before) = &self.evidence {
            let size = self.attr.map_or(0, |attr| attr.size);
            let judged = self.trust.judge_on(self.source, &self.path, size, Depth::Patient).await;
            let Ok(Judged::Known(judgement)) = judged else { return Err(self.changed()) };
            if said(&judgement.verdict) != *before {
                return Err(self.changed());
            }
        }
        // The file itself last: whoever brings a new version brings the data first.
        source.forget(&self.path);
        let now = match source.store.stat(&self.path).await {
            Ok(attr) => Some(attr),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if now.map(state) == self.attr.map(state) { Ok(()) } else { Err(self.changed()) }
    }

    /// Lets `file` be changed itself, if it is what was looked at.
    async fn begin(&self, file: &dyn StoreFile) -> Result<()> {
        if self.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let held = file.stat().await?;
        if Some(state(held)) != self.attr.map(state) {
            return Err(self.changed());
        }
        self.look().await?;
        self.begun.store(true, Ordering::Release);
        Ok(())
    }
}

/// See the module.
pub(super) struct Checked {
    pub(super) inner: Arc<dyn Store>,
    pub(super) before: Arc<AsItWas>,
}

impl Store for Checked {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        self.inner.stat(path)
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.inner.open(path).await?;
            let file: Arc<dyn StoreFile> = Arc::new(CheckedFile { inner, before: self.before.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        self.inner.read_dir(path, cookie, max)
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
        Box::pin(async move {
            let inner = self.inner.create(path, scratch).await?;
            let writer: Box<dyn StoreWriter> = Box::new(CheckedWriter { inner, before: self.before.clone() });
            Ok(writer)
        })
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.before.look().await?;
            self.inner.create_new(path, content).await
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.before.look().await?;
            self.inner.remove(path).await
        })
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

/// A file that is not changed unless it is as it was.
struct CheckedFile {
    inner: Arc<dyn StoreFile>,
    before: Arc<AsItWas>,
}

impl StoreFile for CheckedFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        self.inner.stat()
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.inner.try_stat()
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

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        self.inner.data_range(offset, size)
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get_xattr(name, max)
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        self.inner.list_xattrs()
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.before.begin(&*self.inner).await?;
            self.inner.set_xattr(name, value).await
        })
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.before.begin(&*self.inner).await?;
            self.inner.remove_xattr(name).await
        })
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
        Box::pin(async move {
            self.before.begin(&*self.inner).await?;
            self.inner.enable_verity(seal).await
        })
    }
}

struct CheckedWriter {
    inner: Box<dyn StoreWriter>,
    before: Arc<AsItWas>,
}

impl StoreWriter for CheckedWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.write_at(offset, data)
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        self.inner.set_attributes(attributes)
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        self.inner.prepare()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { mut inner, before } = *self;
            // What takes long comes before the look.
            inner.prepare().await?;
            before.look().await?;
            inner.commit().await
        })
    }
}
