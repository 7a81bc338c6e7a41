//! New objects: gathered in memory, then in a file without a name, and put in place by one request or in parts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{PutMultipartOptions, PutOptions};
use rustix::fs::{CWD, Mode, OFlags};

use super::super::{Attributes, BoxFuture, Result, StoreError, StoreErrorKind, StorePath, StoreWriter};
use super::Inner;
use super::fail::refuse;
use super::keys::Found;
use super::version::Told;

/// What is kept in memory; larger objects are put in parts.
const MEMORY: u64 = 8 * 1024 * 1024;
/// Bytes in a part, at least.
const PART: u64 = 8 * 1024 * 1024;
/// The most parts of every provider.
const PARTS: u64 = 10_000;
/// Parts under way at once.
const AT_ONCE: usize = 4;
/// The largest object of S3.
const OBJECT_MAX: u64 = 5 << 40;

pub(super) struct ObjectWriter {
    store: Arc<Inner>,
    path: StorePath,
    key: Path,
    spool: Spool,
    size: u64,
    metadata: object_store::Attributes,
}

enum Spool {
    Memory(BytesMut),
    File(Arc<File>),
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
                let file = nameless()?;
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

    async fn finish(self) -> Result<()> {
        let Self { store, path, key, spool, size, metadata } = self;
        if matches!(store.look_up(&path).await?, Some(Found::Directory)) {
            return Err(refuse(StoreErrorKind::IsADirectory, "commit", &path, "a directory stands there"));
        }
        if store.obstacle(&path).await? {
            return Err(refuse(StoreErrorKind::NotADirectory, "commit", &path, "a file is above it"));
        }
        let done = match spool {
            Spool::Memory(bytes) => {
                let options = PutOptions { attributes: metadata, ..PutOptions::default() };
                let put = store.objects.put_opts(&key, bytes.freeze().into(), options);
                store.within("commit", &path, put).await.map(drop)
            }
            Spool::File(file) => put_parts(&store, &path, &key, file, size, metadata).await,
        };
        store.forget(&path);
        done
    }
}

/// Puts `file` in parts. What came of an upload that fails is given up, so that nobody pays for it.
async fn put_parts(
    store: &Inner,
    path: &StorePath,
    key: &Path,
    file: Arc<File>,
    size: u64,
    metadata: object_store::Attributes,
) -> Result<()> {
    let options = PutMultipartOptions { attributes: metadata, ..PutMultipartOptions::default() };
    let begin = store.objects.put_multipart_opts(key, options);
    let mut upload = store.within("commit", path, begin).await?;
    // In steps that keep parts alike whatever the size, as some servers want.
    let part = PART.max(size.div_ceil(PARTS).next_multiple_of(1024 * 1024));
    let starts = (0..size.div_ceil(part)).map(|n| n * part);
    let sent = {
        // Parts have their order from the moment they are asked for, so that they are read one by one.
        let upload = &mut upload;
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
                store.within("commit", path, request).await
            }
        });
        requests.buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    };
    let done = match sent {
        Ok(()) => store.within("commit", path, upload.complete()).await.map(drop),
        Err(error) => Err(error),
    };
    if done.is_err() {
        // The first error is the one to tell.
        let _ = store.within("give up", path, upload.abort()).await;
    }
    done
}

/// A file in the directory for temporary ones, which is gone when it is closed.
fn nameless() -> io::Result<File> {
    let (flags, mode) = (OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    Ok(File::from(rustix::fs::openat(CWD, std::env::temp_dir(), flags, mode)?))
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
            let alike = (attributes.mode, attributes.uid, attributes.gid) == (look.mode, look.uid, look.gid);
            // Times are the server's, where metadata are not looked at: they are kept for whoever does.
            if !attributes.xattrs.is_empty() || (!look.metadata && !alike) {
                let why = "an object has no extended attributes, and mode and owner only with metadata=on";
                return Err(refuse(StoreErrorKind::Unsupported, "set attributes", &self.path, why));
            }
            self.metadata = Told::metadata(attributes);
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.finish())
    }
}
