//! New objects: gathered in memory, then in a file without a name, and put in place by one request or in parts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attribute, GetOptions, MultipartUpload, PutMode, PutMultipartOptions, PutOptions};

use super::super::unnamed::unnamed;
use super::super::{Attributes, BoxFuture, Result, StoreError, StoreErrorKind, StorePath, StoreWriter};
use super::Inner;
use super::fail::{fail, is_not_implemented, refuse, silent};
use super::keys::Found;
use super::version::Told;

/// What is kept in memory; larger objects are put in parts.
const MEMORY: u64 = 8 * 1024 * 1024;
/// Bytes in a part, at least.
const PART: u64 = 8 * 1024 * 1024;
/// The most parts of every provider.
const PARTS: u64 = 10_000;
/// Parts under way at once, and the most bytes in them unless one has more.
const AT_ONCE: u64 = 4;
const UNDER_WAY: u64 = 64 * 1024 * 1024;
/// Bytes in a second that are sent even where the line is poor.
const SLOWEST: u64 = 256 * 1024;
/// How many times as long as other calls it may take to put parts together.
const TOGETHER: u32 = 6;
/// The largest object of S3.
const OBJECT_MAX: u64 = 5 << 40;

pub(super) struct ObjectWriter {
    store: Arc<Inner>,
    path: StorePath,
    key: Path,
    spool: Spool,
    size: u64,
    metadata: object_store::Attributes,
    /// What it may take the place of, once that is settled.
    mode: Option<PutMode>,
}

enum Spool {
    Memory(BytesMut),
    File(Arc<File>),
    Sent(Parts),
}

/// Parts that are no object yet. They are given up when dropped, so that nobody pays for them.
struct Parts {
    store: Arc<Inner>,
    path: StorePath,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Parts {
    /// What went wrong before is what is told.
    async fn give_up(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            let _ = self.store.within("give up", &self.path, upload.abort()).await;
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, path) = (self.store.clone(), self.path.clone());
        // Nobody is left to hear of a failure.
        runtime.spawn(async move { store.within("give up", &path, upload.abort()).await });
    }
}

impl ObjectWriter {
    pub(super) fn new(store: &Arc<Inner>, path: &StorePath, key: Path) -> Self {
        Self {
            store: store.clone(),
            path: path.clone(),
            key,
            spool: Spool::Memory(BytesMut::new()),
            size: 0,
            metadata: object_store::Attributes::default(),
            mode: None,
        }
    }

    async fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if end > OBJECT_MAX {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        if data.is_empty() {
            return Ok(());
        }
        if self.mode.is_some() {
            return Err(io::Error::other("it was made ready before"));
        }
        if let Spool::Memory(bytes) = &mut self.spool {
            if end <= MEMORY {
                let (start, end) = (usize::try_from(offset).unwrap_or(0), usize::try_from(end).unwrap_or(0));
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(start..end) {
                    place.copy_from_slice(data);
                }
                self.size = bytes.len() as u64;
                return Ok(());
            }
            let written = std::mem::take(bytes);
            let file = on_pool(move || {
                let file = spool_file()?;
                file.write_all_at(&written, 0)?;
                Ok(file)
            });
            self.spool = Spool::File(Arc::new(file.await?));
        }
        if let Spool::File(file) = &self.spool {
            let (file, data) = (file.clone(), Bytes::copy_from_slice(data));
            on_pool(move || file.write_all_at(&data, offset)).await?;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// Keeps of the metadata of the object that is replaced what was not given: all but the time, where those
    /// of files are not looked at, for then what was given are the defaults of the address.
    async fn keep_metadata(&mut self) -> Result<()> {
        if self.metadata.is_empty() {
            return Ok(());
        }
        let options = GetOptions { head: true, ..GetOptions::default() };
        let head = self.store.objects.get_opts(&self.key, options);
        let mut kept = match self.store.within("stat", &self.path, head).await {
            Ok(answer) => answer.attributes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for (name, value) in &self.metadata {
            let is_meant = self.store.look.metadata || *name == Attribute::Metadata("mtime".into());
            if is_meant || kept.get(name).is_none() {
                kept.insert(name.clone(), value.clone());
            }
        }
        self.metadata = kept;
        Ok(())
    }

    /// Sends what does not go with the request that makes the object visible.
    async fn send(&mut self) -> Result<()> {
        self.keep_metadata().await?;
        let (store, path) = (&self.store, &self.path);
        if matches!(store.look_up(path).await?, Some(Found::Directory)) {
            return Err(refuse(StoreErrorKind::IsADirectory, "commit", path, "a directory stands there"));
        }
        if store.obstacle(path).await? {
            return Err(refuse(StoreErrorKind::NotADirectory, "commit", path, "a file is above it"));
        }
        if let Spool::File(file) = &self.spool {
            let metadata = self.metadata.clone();
            self.spool =
                Spool::Sent(put_parts(store, path, &self.key, file.clone(), self.size, metadata).await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        if self.mode.is_none() {
            self.send().await?;
        }
        let Self { store, path, key, spool, metadata, mode, .. } = self;
        let done = match spool {
            Spool::Memory(bytes) => put(&store, &path, &key, bytes.freeze(), mode, metadata).await,
            Spool::File(_) => Err(refuse(StoreErrorKind::Io, "commit", &path, "it was not sent")),
            Spool::Sent(parts) => complete(parts, &key, mode).await,
        };
        store.forget(&path);
        done
    }
}

/// Puts `bytes` in place by one request, under the condition of `mode` where there is one.
async fn put(
    store: &Inner,
    path: &StorePath,
    key: &Path,
    bytes: Bytes,
    mode: Option<PutMode>,
    metadata: object_store::Attributes,
) -> Result<()> {
    let once = async |mode| {
        let options = PutOptions { mode, attributes: metadata.clone(), ..PutOptions::default() };
        let put = store.objects.put_opts(key, bytes.clone().into(), options);
        tokio::time::timeout(time(store, bytes.len() as u64), put).await.map_err(|_| silent("commit", path))
    };
    let answer = match once(mode.unwrap_or_default()).await? {
        Err(error) if is_not_implemented(&error) => once(PutMode::Overwrite).await?,
        answer => answer,
    };
    match answer {
        Err(object_store::Error::AlreadyExists { .. }) => Err(replaced(path)),
        answer => answer.map(drop).map_err(fail("commit", path)),
    }
}

/// Makes the parts an object. That has no conditions, so that what is there is looked at in the request before it.
async fn complete(mut parts: Parts, key: &Path, mode: Option<PutMode>) -> Result<()> {
    let (store, path) = (parts.store.clone(), parts.path.clone());
    if let Some(mode) = mode
        && store.in_place_of(key, &path).await? != mode
    {
        parts.give_up().await;
        return Err(replaced(&path));
    }
    let Some(upload) = &mut parts.upload else { return Ok(()) };
    let done = store.within_time("commit", &path, store.timeout * TOGETHER, upload.complete()).await;
    match done {
        Ok(_) => parts.upload = None,
        Err(_) => parts.give_up().await,
    }
    done.map(drop)
}

fn replaced(path: &StorePath) -> StoreError {
    refuse(StoreErrorKind::Stale, "commit", path, "something else has taken its place")
}

/// Sends `file` in parts.
async fn put_parts(
    store: &Arc<Inner>,
    path: &StorePath,
    key: &Path,
    file: Arc<File>,
    size: u64,
    metadata: object_store::Attributes,
) -> Result<Parts> {
    let options = PutMultipartOptions { attributes: metadata, ..PutMultipartOptions::default() };
    let begin = store.objects.put_multipart_opts(key, options);
    let upload = store.within("commit", path, begin).await?;
    let mut parts = Parts { store: store.clone(), path: path.clone(), upload: Some(upload) };
    // In steps that keep parts alike whatever the size, as some servers want.
    let part = PART.max(size.div_ceil(PARTS).next_multiple_of(1024 * 1024));
    let starts = (0..size.div_ceil(part)).map(|n| n * part);
    let at_once = (UNDER_WAY / part).clamp(1, AT_ONCE);
    // They share the line.
    let time = time(store, part * at_once);
    if let Some(upload) = &mut parts.upload {
        // Parts have their order from the moment they are asked for, so that they are read one by one.
        let requests = futures_util::stream::iter(starts).then(move |start| {
            let (file, len) = (file.clone(), usize::try_from(part.min(size - start)).unwrap_or(0));
            on_pool(move || {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes)
            })
        });
        let requests = requests.map(|bytes| {
            let request = bytes.map(|bytes| upload.put_part(bytes.into()));
            async move {
                let request = request.map_err(|error| StoreError::from_io("commit", path, error))?;
                store.within_time("commit", path, time, request).await
            }
        });
        let at_once = usize::try_from(at_once).unwrap_or(1);
        let sent = requests.buffer_unordered(at_once).try_for_each(|()| async { Ok(()) }).await;
        if let Err(error) = sent {
            parts.give_up().await;
            return Err(error);
        }
    }
    Ok(parts)
}

/// How long it may take to send so many bytes.
fn time(store: &Inner, bytes: u64) -> Duration {
    store.timeout + Duration::from_secs(bytes / SLOWEST)
}

/// A file for what is too large for memory.
fn spool_file() -> io::Result<File> {
    let directory = std::env::temp_dir();
    unnamed(&directory).map_err(|error| {
        let why = format!("no file for it in {}: {error}; TMPDIR names another place", directory.display());
        io::Error::new(error.kind(), why)
    })
}

async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

impl StoreWriter for ObjectWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = self.path.clone();
            self.write(offset, data).await.map_err(|error| StoreError::from_io("write", &path, error))
        })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let look = &self.store.look;
            let owner = attributes.owner.unwrap_or((look.uid, look.gid));
            let alike = (attributes.mode, owner) == (look.mode, (look.uid, look.gid));
            // Times are the server's, where metadata are not looked at: they are kept for whoever does.
            if !attributes.xattrs.is_empty() || (!look.metadata && !alike) {
                let why = "an object has no extended attributes, and mode and owner only with metadata=on";
                return Err(refuse(StoreErrorKind::Unsupported, "set attributes", &self.path, why));
            }
            self.metadata = Told::metadata(attributes);
            Ok(())
        })
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.mode.is_none() {
                self.send().await?;
                self.mode = Some(self.store.in_place_of(&self.key, &self.path).await?);
            }
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.finish())
    }
}
