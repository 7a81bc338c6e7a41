//! New files: written in the scratch directory, made durable, renamed into place.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::{
    Attributes, BoxFuture, Result, StoreError, StoreErrorKind, StorePath, StoreWriter, Time, XATTR_MAX,
};
use super::resolve::{DIRECTORY, LISTING, Lookup, Root, open_step};
use super::{fail, on_pool};

/// Bytes that are copied for the blocking pool at once.
const PIECE: usize = 1024 * 1024;

/// How many names are tried for a new file.
const NAMES: u32 = 16;

/// A file that is not in place yet.
pub(super) struct LocalWriter {
    root: Arc<Root>,
    target: StorePath,
    temporary: Arc<Temporary>,
}

struct Temporary {
    scratch: OwnedFd,
    name: String,
    file: OwnedFd,
    placed: AtomicBool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed.load(Ordering::Acquire) {
            // Nobody is left to hear of a failure, and the name never meets another file's.
            let _ = rustix::fs::unlinkat(&self.scratch, self.name.as_str(), AtFlags::empty());
        }
    }
}

pub(super) fn create(root: &Arc<Root>, path: &StorePath, scratch: &StorePath) -> Result<LocalWriter> {
    if path.is_root() {
        return Err(fail("create", path)(Errno::ISDIR));
    }
    let scratch_fd = open_scratch(root, scratch).map_err(fail("make the directory", scratch))?;
    let temporary = open_temporary(scratch_fd).map_err(fail("create", path))?;
    Ok(LocalWriter { root: root.clone(), target: path.clone(), temporary: Arc::new(temporary) })
}

/// Opens the scratch directory, made where it is missing: for its owner alone, while others may pass
/// through what lies above it, where finished files are read.
fn open_scratch(root: &Root, scratch: &StorePath) -> rustix::io::Result<OwnedFd> {
    match (root.open(scratch, DIRECTORY, Lookup::Full), scratch.parent()) {
        (Err(Errno::NOENT), Some(parent)) => {
            make_directories(root, &parent, 0o755, false)?;
            make_directories(root, scratch, 0o700, false)
        }
        (opened, _) => opened,
    }
}

fn open_temporary(scratch: OwnedFd) -> rustix::io::Result<Temporary> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(0o644);
    let mut tries = 0;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one(count);
        let name = format!("tmp-{}-{count}-{random:016x}", std::process::id());
        match open_step(scratch.as_fd(), name.as_bytes(), flags, mode, Lookup::Full) {
            Err(Errno::EXIST) if tries < NAMES => tries += 1,
            Err(errno) => return Err(errno),
            Ok(file) => return Ok(Temporary { scratch, name, file, placed: AtomicBool::new(false) }),
        }
    }
}

/// Opens the directory `path`, made with `mode` where it or a part above it is missing.
fn make_directories(root: &Root, path: &StorePath, mode: u32, durable: bool) -> rustix::io::Result<OwnedFd> {
    match root.open(path, DIRECTORY, Lookup::Full) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let mut reached = root.open(&StorePath::root(), DIRECTORY, Lookup::Full)?;
    let step =
        |dir: &OwnedFd, name: &[u8]| open_step(dir.as_fd(), name, DIRECTORY, Mode::empty(), Lookup::Full);
    for name in path.components() {
        reached = match step(&reached, name) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&reached, name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                if durable {
                    sync_directory(&for_syncing(&reached)?)?;
                }
                step(&reached, name)?
            }
            opened => opened?,
        };
    }
    Ok(reached)
}

/// A descriptor that fsync takes, unlike those that only resolve.
fn for_syncing(dir: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    open_step(dir.as_fd(), b"", LISTING, Mode::empty(), Lookup::Full)
}

fn sync_directory(dir: &OwnedFd) -> rustix::io::Result<()> {
    match rustix::fs::fsync(dir) {
        // File systems that keep no order of their own between names and content.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        synced => synced,
    }
}

fn write_all(file: &OwnedFd, offset: u64, mut data: &[u8]) -> rustix::io::Result<()> {
    let mut at = offset;
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                at += written as u64;
                data = data.get(written..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Owner first, for changing it takes capabilities and set-id bits away; times last.
fn set_attributes(file: &OwnedFd, attributes: &Attributes) -> rustix::io::Result<()> {
    let found = rustix::fs::fstat(file)?;
    if let Some((uid, gid)) = attributes.owner
        && (found.st_uid, found.st_gid) != (uid, gid)
    {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    for (name, value) in &attributes.xattrs {
        match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            // A label that the file system gives to every file may not be ours to set.
            Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
                let mut same = vec![0; XATTR_MAX];
                match rustix::fs::fgetxattr(file, &name[..], &mut same[..]) {
                    Ok(length) if same.get(..length) == Some(&value[..]) => {}
                    _ => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    let time = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    let (last_access, last_modification) = (time(attributes.atime), time(attributes.mtime));
    rustix::fs::futimens(file, &Timestamps { last_access, last_modification })
}

fn put_in_place(root: &Root, target: &StorePath, temporary: &Temporary) -> Result<()> {
    let failed = fail("commit", target);
    // Costs next to nothing where it was done before.
    rustix::fs::fsync(&temporary.file).map_err(&failed)?;
    let parent = target.parent().unwrap_or_else(StorePath::root);
    let parent = make_directories(root, &parent, 0o755, true).map_err(&failed)?;
    // Opened first, so that what cannot be made durable is not put in place.
    let syncing = for_syncing(&parent).map_err(&failed)?;
    match rustix::fs::renameat(&temporary.scratch, temporary.name.as_str(), &parent, target.name()) {
        Err(Errno::XDEV) => {
            let source = io::Error::other("the scratch directory lies on another file system");
            return Err(StoreError::new(StoreErrorKind::Io, "commit", target, source));
        }
        renamed => renamed.map_err(&failed)?,
    }
    temporary.placed.store(true, Ordering::Release);
    sync_directory(&syncing).map_err(&failed)
}

impl StoreWriter for LocalWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut at = offset;
            for piece in data.chunks(PIECE) {
                let (temporary, target, owned) =
                    (self.temporary.clone(), self.target.clone(), piece.to_vec());
                on_pool("write", &self.target, move || {
                    write_all(&temporary.file, at, &owned).map_err(fail("write", &target))
                })
                .await?;
                at = at.saturating_add(piece.len() as u64);
            }
            Ok(())
        })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (temporary, target, attributes) =
                (self.temporary.clone(), self.target.clone(), attributes.clone());
            on_pool("copy attributes", &self.target, move || {
                set_attributes(&temporary.file, &attributes).map_err(fail("copy attributes", &target))
            })
            .await
        })
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (temporary, target) = (self.temporary.clone(), self.target.clone());
            on_pool("make durable", &self.target, move || {
                rustix::fs::fsync(&temporary.file).map_err(fail("make durable", &target))
            })
            .await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let target = self.target.clone();
            on_pool("commit", &target, move || put_in_place(&self.root, &self.target, &self.temporary)).await
        })
    }
}
