//! An open regular file.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, SeekFrom, XattrFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::super::{
    Attr, BoxFuture, MetadataKind, READ_MAX, Result, Seal, StoreError, StoreErrorKind, StoreFile, StorePath,
    XATTR_MAX,
};
use super::resolve::Root;
use super::{PATIENCE, fail, on_pool, patiently};
use crate::sys::buffers::{self, Buffer, Buffers};
use crate::sys::fsverity;

/// From here on a read asks for the file's size before it takes memory.
const LARGE: usize = 64 * 1024;

/// Pieces that one system call fills at most; the kernel takes 1024.
const PIECES_AT_ONCE: usize = 256;

pub(super) struct LocalFile {
    open: Arc<Open>,
}

struct Open {
    fd: OwnedFd,
    path: StorePath,
    root: Arc<Root>,
    /// True when fstat waits for nobody.
    inline: bool,
    /// False once the file system refused `RWF_NOWAIT`.
    nowait: Arc<AtomicBool>,
}

impl LocalFile {
    /// `home`: the file lies on the root's own file system.
    pub(super) fn new(root: &Arc<Root>, path: &StorePath, fd: OwnedFd, home: bool) -> Self {
        let nowait = if home { root.nowait().clone() } else { Arc::new(AtomicBool::new(true)) };
        let inline = home && root.inline();
        Self { open: Arc::new(Open { fd, path: path.clone(), root: root.clone(), inline, nowait }) }
    }

    async fn wait<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Open) -> rustix::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let open = self.open.clone();
        let path = &self.open.path;
        let answer = on_pool(operation, path, move || work(&open).map_err(fail(operation, &open.path)));
        patiently(PATIENCE, operation, path, answer).await
    }
}

impl Open {
    fn attr(&self) -> rustix::io::Result<Attr> {
        Ok(self.root.attr(&self.fd)?.attr)
    }

    fn read(&self, offset: u64, len: usize) -> rustix::io::Result<Bytes> {
        let len = bounded(offset, len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        if Space::is_pooled(len) {
            let mut space = self.space(len);
            let mut read = 0;
            while let rest @ [_, ..] = space.bytes().split_at_mut(read).1 {
                match rustix::io::pread(&self.fd, rest, offset + read as u64) {
                    Ok(0) => break,
                    Ok(more) => read += more,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            return Ok(space.into_bytes(read));
        }
        let mut buffer = read_vec(&self.fd, offset, len)?;
        if buffer.len() < len / 2 {
            buffer.shrink_to_fit();
        }
        Ok(buffer.into())
    }

    fn space(&self, len: usize) -> Space {
        Space::new(self.root.buffers(), len)
    }

    /// One system call for as many pieces as it takes, into a buffer each.
    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> rustix::io::Result<Vec<Bytes>> {
        let len = bounded(offset, len);
        let piece = piece.max(1);
        let mut pieces: Vec<Space> = Vec::with_capacity(len.div_ceil(piece));
        for from in (0..len).step_by(piece) {
            pieces.push(self.space(piece.min(len - from)));
        }
        let mut read = 0;
        while read < len {
            // A call may have stopped within a piece.
            let (first, within) = (read / piece, read % piece);
            let rest = pieces.iter_mut().skip(first).take(PIECES_AT_ONCE).enumerate();
            let mut slices: Vec<_> = rest
                .filter_map(|(n, space)| space.bytes().get_mut(if n == 0 { within } else { 0 }..))
                .map(IoSliceMut::new)
                .collect();
            match rustix::io::preadv(&self.fd, &mut slices, offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        pieces.truncate(read.div_ceil(piece));
        Ok((0..).step_by(piece).zip(pieces).map(|(from, space)| space.into_bytes(read - from)).collect())
    }

    fn read_cached(&self, offset: u64, len: usize) -> Option<Bytes> {
        let mut len = bounded(offset, len);
        if len > LARGE {
            let left = self.attr().ok()?.size.saturating_sub(offset);
            len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if len == 0 {
            return Some(Bytes::new());
        }
        let mut space = self.space(len);
        let read = rustix::io::preadv2(
            &self.fd,
            &mut [IoSliceMut::new(space.bytes())],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(n) if n == len => Some(space.into_bytes(n)),
            Ok(n) if offset + n as u64 >= self.attr().ok()?.size => Some(space.into_bytes(n)),
            Err(Errno::OPNOTSUPP) => {
                self.nowait.store(false, Ordering::Relaxed);
                None
            }
            Ok(_) | Err(_) => None,
        }
    }

    fn data_range(&self, offset: u64, size: u64) -> rustix::io::Result<Option<Range<u64>>> {
        if offset >= size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start.max(offset),
            // Behind the file's end there is nothing to be called zeros: who reads there shall notice.
            Err(Errno::NXIO) if self.attr()?.size < size => return Ok(Some(offset..size)),
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..size)),
            Err(errno) => return Err(errno),
        };
        if start >= size {
            return Ok(None);
        }
        let end = match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(hole) if hole > start => hole.min(size),
            _ => size,
        };
        Ok(Some(start..end))
    }
}

/// Up to `len` bytes from `offset`; shorter only at the end of the file.
pub(super) fn read_vec(fd: &OwnedFd, offset: u64, len: usize) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(len);
    while buffer.len() < len {
        let at = offset + buffer.len() as u64;
        match rustix::io::pread(fd, spare_capacity(&mut buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // The allocator may have given more room than asked for.
    buffer.truncate(len);
    Ok(buffer)
}

/// Memory that is read into.
enum Space {
    Pooled(Buffer),
    Own(Vec<u8>),
}

impl Space {
    /// `len` bytes.
    fn new(buffers: &Buffers, len: usize) -> Self {
        if Self::is_pooled(len)
            && let Ok(mut buffer) = buffers.take()
        {
            buffer.truncate(len);
            return Self::Pooled(buffer);
        }
        Self::Own(vec![0; len])
    }

    /// Whether so many bytes nearly fill a buffer, which they keep in use.
    fn is_pooled(len: usize) -> bool {
        len <= buffers::SIZE && len > buffers::SIZE / 4 * 3
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Pooled(buffer) => buffer.as_mut(),
            Self::Own(bytes) => bytes,
        }
    }

    /// The first `len` bytes, or all.
    fn into_bytes(self, len: usize) -> Bytes {
        match self {
            Self::Pooled(mut buffer) => {
                buffer.truncate(len);
                if Self::is_pooled(buffer.as_ref().len()) {
                    return Bytes::from_owner(buffer);
                }
                Bytes::copy_from_slice(buffer.as_ref())
            }
            Self::Own(mut bytes) => {
                bytes.truncate(len);
                bytes.shrink_to_fit();
                bytes.into()
            }
        }
    }
}

/// `None` where there is none: not set, or no such thing in the file system.
fn there<T>(answer: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn get_xattr(open: &Open, name: &[u8], max: usize) -> rustix::io::Result<Option<Bytes>> {
    // One byte more tells a value of `max` bytes from a longer one.
    let mut buffer = vec![0; max.min(XATTR_MAX) + 1];
    let read = match there(rustix::fs::fgetxattr(&open.fd, name, &mut buffer[..])) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if read > max {
        return Err(Errno::RANGE);
    }
    buffer.truncate(read);
    buffer.shrink_to_fit();
    Ok(Some(buffer.into()))
}

fn list_xattrs(open: &Open) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0; XATTR_MAX];
    let read = there(rustix::fs::flistxattr(&open.fd, &mut buffer[..]))?.unwrap_or(0);
    buffer.truncate(read);
    let names = buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// `len` within [`READ_MAX`] and the offsets that the kernel takes.
fn bounded(offset: u64, len: usize) -> usize {
    let left = (i64::MAX as u64).saturating_sub(offset);
    len.min(READ_MAX).min(usize::try_from(left).unwrap_or(usize::MAX))
}

impl StoreFile for LocalFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move {
            match self.try_stat() {
                Some(answer) => answer,
                None => self.wait("stat", Open::attr).await,
            }
        })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.open.inline.then(|| self.open.attr().map_err(fail("stat", &self.open.path)))
    }

    fn drop_behind(&self, offset: u64, len: u64) {
        // It is as good as done where it fails.
        if let Some(len) = NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.open.fd, offset, Some(len), Advice::DontNeed);
        }
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(self.wait("read", move |open| open.read(offset, len)))
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(self.wait("read", move |open| open.read_pieces(offset, len, piece)))
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        if !self.open.nowait.load(Ordering::Relaxed) {
            return None;
        }
        self.open.read_cached(offset, len)
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        Box::pin(self.wait("find data", move |open| open.data_range(offset, size)))
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let operation = "read an extended attribute";
        Box::pin(async move {
            let owned = name.to_vec();
            match self.wait(operation, move |open| get_xattr(open, &owned, max)).await {
                Err(error) if Errno::from_io_error(&error.source) == Some(Errno::RANGE) => {
                    Err(StoreError { kind: StoreErrorKind::TooLarge, ..error })
                }
                answer => answer,
            }
        })
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(self.wait("list extended attributes", list_xattrs))
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (name, value) = (name.to_vec(), value.to_vec());
            let set = self.wait("set an extended attribute", move |open| {
                rustix::fs::fsetxattr(&open.fd, &name[..], &value, XattrFlags::empty())
            });
            match set.await {
                Err(error)
                    if matches!(Errno::from_io_error(&error.source), Some(Errno::TOOBIG | Errno::RANGE)) =>
                {
                    Err(StoreError { kind: StoreErrorKind::NoSpace, ..error })
                }
                answer => answer,
            }
        })
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let name = name.to_vec();
            let removed = self.wait("remove an extended attribute", move |open| {
                there(rustix::fs::fremovexattr(&open.fd, &name[..]))
            });
            removed.await.map(drop)
        })
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            let read = self.wait("read fs-verity metadata", move |open| {
                let len = bounded(offset, len);
                there(fsverity::read_verity_metadata(open.fd.as_fd(), kind, offset, len))
            });
            Ok(read.await?.map(Bytes::from))
        })
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(async move {
            let measured =
                self.wait("measure", |open| there(fsverity::measure_verity(open.fd.as_fd()))).await?;
            Ok(measured.map(|(id, digest)| (id, Bytes::from(digest))))
        })
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        let (seal, open) = (seal.clone(), self.open.clone());
        Box::pin(async move {
            let path = self.open.path.clone();
            // Builds the tree of all of the file: not a matter of patience.
            on_pool("seal", &path, move || {
                let Seal { hash_id, block_size, salt, signature } = &seal;
                fsverity::enable_verity(open.fd.as_fd(), *hash_id, *block_size, salt, signature)
                    .map_err(fail("seal", &open.path))
            })
            .await
        })
    }
}
