//! An open file: one version of an object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange};
use parking_lot::Mutex;

use super::super::{Attr, BoxFuture, READ_MAX, Result, StoreErrorKind, StoreFile, StorePath};
use super::Inner;
use super::ahead::Reader;
use super::fail::{fail, refuse, silent};
use super::keys::Found;
use super::version::Version;

pub(super) struct ObjectFile {
    object: Arc<Object>,
    reader: Reader,
    /// When it was last found unchanged.
    seen: Mutex<Instant>,
}

/// One version of an object, to be read.
pub(super) struct Object {
    store: Arc<Inner>,
    pub(super) path: StorePath,
    key: Path,
    version: Version,
    /// Another version has taken its place, or none has.
    gone: AtomicBool,
}

impl ObjectFile {
    pub(super) fn new(store: &Arc<Inner>, path: &StorePath, key: Path, version: Version) -> Self {
        let object = Arc::new(Object {
            store: store.clone(),
            path: path.clone(),
            key,
            version,
            gone: AtomicBool::new(false),
        });
        let reader = Reader::new(&store.ahead, &object);
        Self { object, reader, seen: Mutex::new(Instant::now()) }
    }
}

impl Object {
    pub(super) fn size(&self) -> u64 {
        self.version.size
    }

    fn attr(&self) -> Attr {
        let attr = self.version.attr(&self.path, &self.store.look);
        let nlink = u32::from(!self.gone.load(Ordering::Relaxed));
        Attr { nlink, ..attr }
    }

    /// The bytes `start..end`, given to `take` as they come. `start` lies before `end`, and both within the size.
    pub(super) async fn get(&self, start: u64, end: u64, take: impl FnMut(&[u8])) -> Result<()> {
        self.store.note(self.request(start, end, take).await)
    }

    async fn request(&self, start: u64, end: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
        let until = tokio::time::Instant::now() + self.store.timeout;
        let options = GetOptions {
            // Some servers take a range of all for none.
            range: (end - start < self.version.size).then_some(GetRange::Bounded(start..end)),
            if_match: self.version.etag.as_deref().map(str::to_owned),
            ..GetOptions::default()
        };
        let path = &self.path;
        let answer = tokio::time::timeout_at(until, self.store.objects.get_opts(&self.key, options)).await;
        let answer = match answer.map_err(|_| silent("read", path))? {
            Ok(answer) => answer,
            Err(error) => {
                let error = fail("read", path)(error);
                if matches!(error.kind, StoreErrorKind::Stale | StoreErrorKind::NotFound) {
                    self.is_gone();
                    return Err(refuse(StoreErrorKind::Stale, "read", path, error.source.to_string()));
                }
                return Err(error);
            }
        };
        // Not every server looks at the condition.
        if !self.version.is(&Version::of(&answer.meta, None)) {
            self.is_gone();
            return Err(refuse(StoreErrorKind::Stale, "read", path, "another version has taken its place"));
        }
        let (mut left, mut frames) = (end - start, answer.into_stream());
        while let Some(frame) =
            tokio::time::timeout_at(until, frames.next()).await.map_err(|_| silent("read", path))?
        {
            let frame = frame.map_err(fail("read", path))?;
            let Some(rest) = left.checked_sub(frame.len() as u64) else {
                return Err(refuse(
                    StoreErrorKind::Io,
                    "read",
                    path,
                    "the server sends more than was asked for",
                ));
            };
            left = rest;
            take(&frame);
        }
        match left {
            0 => Ok(()),
            _ => Err(refuse(
                StoreErrorKind::Unavailable,
                "read",
                path,
                "the server sent less than was asked for",
            )),
        }
    }

    fn is_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.store.forget(&self.path);
    }
}

impl StoreFile for ObjectFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move {
            if let Some(attr) = self.try_stat() {
                return attr;
            }
            let object = &*self.object;
            let (at, found) = object.store.known(&object.path).await?;
            let version = match found {
                Some(Found::File(version)) => Some(version),
                // What is below its name takes nothing from who has it open.
                Some(Found::Directory) => object.store.head(&object.key, &object.path).await?,
                None => None,
            };
            match version {
                Some(version) if version.is(&object.version) => *self.seen.lock() = at,
                _ => object.is_gone(),
            }
            Ok(object.attr())
        })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        let object = &*self.object;
        let is_known = || object.store.fresh(*self.seen.lock(), 1) && !object.store.is_away();
        let known = object.gone.load(Ordering::Relaxed) || is_known();
        known.then(|| Ok(self.object.attr()))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move {
            let end = offset.saturating_add(len.min(READ_MAX) as u64).min(self.object.size());
            if offset >= end {
                return Ok(Bytes::new());
            }
            self.reader.read(offset, end).await
        })
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            let end = offset.saturating_add(len.min(READ_MAX) as u64).min(self.object.size());
            if offset >= end {
                return Ok(Vec::new());
            }
            self.reader.read_pieces(offset, end, piece.max(1)).await
        })
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        let end = offset.saturating_add(len.min(READ_MAX) as u64).min(self.object.size());
        if offset >= end {
            return Some(Bytes::new());
        }
        self.reader.ready(offset, end)
    }
}
