//! The root directory and the way from it to an object, by openat2(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result, retry_on_intr};

use super::super::{Attr, FsStat, Kind, NAME_MAX, StorePath, Time};
use crate::sys::buffers::Buffers;
use crate::sys::descriptors;

/// The longest path of one system call: `PATH_MAX` of limits.h without its NUL.
const STEP_MAX: usize = 4095;

/// How often an open is tried again that was disturbed (by a lease, for one).
const TRIES: u32 = 6;

/// Opens a directory for resolving below it only.
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens a directory for listing or syncing it.
pub(super) const LISTING: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens a file for reading. Whatever took its name's place meanwhile: this does not wait on a pipe.
pub(super) const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::NOFOLLOW);

/// How far a resolution may go. None follows a symbolic link or leaves the directory it starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Only through what the kernel has in memory, on the root's own file system; else `EAGAIN` or `EXDEV`.
    Cached,
    /// Whatever it takes.
    Full,
    /// Not into another mount: `EXDEV`.
    OneMount,
}

impl Lookup {
    fn flags(self) -> ResolveFlags {
        let safe = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match self {
            Self::Cached => safe | ResolveFlags::CACHED | ResolveFlags::NO_XDEV,
            Self::Full => safe,
            Self::OneMount => safe | ResolveFlags::NO_XDEV,
        }
    }
}

/// Attributes, and whether the object lies on the root's own file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) attr: Attr,
    pub(super) home: bool,
}

/// The root directory of a store.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    device: (u32, u32),
    inode: u64,
    shown: String,
    inline: bool,
    nowait: Arc<AtomicBool>,
    buffers: Buffers,
}

impl Root {
    pub(super) fn open_directory(root: &Path) -> Result<Self> {
        let fd = retry_on_intr(|| rustix::fs::openat(CWD, root, DIRECTORY | OFlags::CLOEXEC, Mode::empty()))?;
        // Fails here where the kernel has no openat2.
        open_below(fd.as_fd(), b"", DIRECTORY, Lookup::Full)?;
        let caches = open_below(fd.as_fd(), b"", DIRECTORY, Lookup::Cached).is_ok();
        let info = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let inline = caches && answers_from_memory(fs_type(&fd)?);
        Ok(Self {
            fd,
            device: (info.stx_dev_major, info.stx_dev_minor),
            inode: info.stx_ino,
            shown: root.display().to_string(),
            inline,
            nowait: Arc::new(AtomicBool::new(true)),
            buffers: Buffers::default(),
        })
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// True when looking up what is cached, and asking for the attributes of an open file, wait for nobody.
    pub(super) fn inline(&self) -> bool {
        self.inline
    }

    /// Shared by the files of the root's file system: false once it refused `RWF_NOWAIT`.
    pub(super) fn nowait(&self) -> &Arc<AtomicBool> {
        &self.nowait
    }

    /// Where data is read into.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// The fileid of the root directory.
    pub(super) fn fileid(&self) -> u64 {
        self.fileid_of(self.device, self.inode)
    }

    /// The inode number on the root's file system; elsewhere a mix of device and inode, told apart
    /// from the former by its top bit.
    pub(super) fn fileid_of(&self, device: (u32, u32), inode: u64) -> u64 {
        const TOP: u64 = 1 << 63;
        if device == self.device && inode & TOP == 0 {
            return inode;
        }
        mix(mix(u64::from(device.0) << 32 | u64::from(device.1)) ^ inode) | TOP
    }

    /// Opens `path`, close-on-exec.
    pub(super) fn open(&self, path: &StorePath, flags: OFlags, lookup: Lookup) -> Result<OwnedFd> {
        open_below(self.fd.as_fd(), path.as_bytes(), flags, lookup)
    }

    pub(super) fn attr(&self, fd: impl AsFd) -> Result<Found> {
        self.found(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?)
    }

    /// Attributes of `name`, which has no slash, in `directory`.
    pub(super) fn attr_of(&self, directory: impl AsFd, name: &CStr) -> Result<Attr> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(self.found(rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?)?.attr)
    }

    fn found(&self, info: Statx) -> Result<Found> {
        let device = (info.stx_dev_major, info.stx_dev_minor);
        let time =
            |at: rustix::fs::StatxTimestamp| Time { seconds: at.tv_sec, nanos: at.tv_nsec.min(999_999_999) };
        let attr = Attr {
            kind: kind_of(FileType::from_raw_mode(info.stx_mode.into())).ok_or(Errno::IO)?,
            mode: u32::from(info.stx_mode) & 0o7777,
            nlink: info.stx_nlink,
            uid: info.stx_uid,
            gid: info.stx_gid,
            size: info.stx_size,
            used: info.stx_blocks.saturating_mul(512),
            rdev: (info.stx_rdev_major, info.stx_rdev_minor),
            fileid: self.fileid_of(device, info.stx_ino),
            atime: time(info.stx_atime),
            mtime: time(info.stx_mtime),
            ctime: time(info.stx_ctime),
            change: Attr::change_of(time(info.stx_ctime)),
        };
        Ok(Found { attr, home: device == self.device })
    }

    pub(super) fn stat_fs(&self) -> Result<FsStat> {
        let info = rustix::fs::fstatvfs(&self.fd)?;
        let bytes = |blocks: u64| blocks.saturating_mul(info.f_frsize);
        Ok(FsStat {
            total_bytes: bytes(info.f_blocks),
            free_bytes: bytes(info.f_bfree),
            available_bytes: bytes(info.f_bavail),
            total_files: info.f_files,
            free_files: info.f_ffree,
            available_files: info.f_favail,
            name_max: u32::try_from(info.f_namemax.min(NAME_MAX as u64)).unwrap_or(u32::MAX),
            link_max: link_max(fs_type(&self.fd)?),
        })
    }
}

/// Opens `path` (empty: `dir` itself) below `dir`, in as many steps as its length takes.
pub(super) fn open_below(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, lookup: Lookup) -> Result<OwnedFd> {
    let mut rest = path;
    let mut reached: Option<OwnedFd> = None;
    while rest.len() > STEP_MAX {
        let head = rest.get(..=STEP_MAX).unwrap_or_default();
        let slash = head.iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let (first, tail) = rest.split_at(slash);
        // Without NOFOLLOW, so that a symbolic link is refused as one and not as "no directory".
        let next =
            open_step(reached.as_ref().map_or(dir, AsFd::as_fd), first, DIRECTORY, Mode::empty(), lookup)?;
        reached = Some(next);
        rest = tail.get(1..).unwrap_or_default();
    }
    open_step(reached.as_ref().map_or(dir, AsFd::as_fd), rest, flags, Mode::empty(), lookup)
}

/// Opens a path that one system call takes.
pub(super) fn open_step(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    lookup: Lookup,
) -> Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let mut tries = 0;
    let mut relieved = false;
    loop {
        let opened =
            retry_on_intr(|| rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, lookup.flags()));
        match opened {
            Err(Errno::MFILE | Errno::NFILE) if !relieved => {
                relieved = true;
                descriptors::relieve();
            }
            Err(Errno::AGAIN) if lookup != Lookup::Cached && tries < TRIES => {
                std::thread::sleep(Duration::from_millis(1 << tries));
                tries += 1;
            }
            done => return done,
        }
    }
}

/// The kind behind a mode or a directory entry; `None` when it is not told.
pub(super) fn kind_of(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::Regular),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::Socket => Some(Kind::Socket),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Unknown => None,
    }
}

/// The finalizer of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

// Magic numbers of statfs(2).
const EXT: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const TMPFS: u32 = 0x0102_1994;
const F2FS: u32 = 0xf2f5_2010;

fn fs_type(fd: &OwnedFd) -> Result<u32> {
    #[allow(clippy::cast_possible_truncation)] // The magic numbers have 32 bits on every machine.
    let magic = rustix::fs::fstatfs(fd)?.f_type as u32;
    Ok(magic)
}

/// File systems that open and stat a cached inode without asking a disk, a server or a daemon.
fn answers_from_memory(magic: u32) -> bool {
    matches!(magic, EXT | XFS | BTRFS | TMPFS | F2FS)
}

/// `_PC_LINK_MAX` of the C library, which asks no system call for it either.
fn link_max(magic: u32) -> u32 {
    match magic {
        EXT => 65_000,
        BTRFS => 65_535,
        XFS | TMPFS => 0x7fff_ffff,
        _ => 32_000,
    }
}
