//! Directories: in pages, by getdents64(2), with the file system's own positions for cookies; and many names of one
//! at a time.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{Mode, RawDir, SeekFrom};
use rustix::io::Errno;

use super::super::{Attr, DirEntry, DirPage, Kind, Result, StorePath};
use super::fail;
use super::file::read_vec;
use super::resolve::{DIRECTORY, FILE, LISTING, Lookup, Root, kind_of, open_step};

/// Bytes asked for at once: a guess at 40 an entry, within these bounds. The least holds any one entry.
const BUFFER: std::ops::RangeInclusive<usize> = 4096..=64 * 1024;

/// The last offset that lseek takes.
const COOKIE_MAX: u64 = i64::MAX as u64;

/// At most `max` entries of `path` behind `cookie`. A cookie that the file system does not know
/// gives nothing, or whatever the file system makes of it.
pub(super) fn page(root: &Arc<Root>, path: &StorePath, cookie: u64, max: usize) -> Result<DirPage> {
    list(root, path, cookie, max).map_err(fail("read the directory", path))
}

/// Names in one directory, each behind the other and ended by a NUL, as the system takes them.
pub(super) struct Names(Vec<u8>);

impl Names {
    /// What is no name in `directory` is left empty, and nothing is called that.
    pub(super) fn new(directory: &StorePath, names: &[&[u8]]) -> Self {
        let mut all = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            all.extend_from_slice(if directory.join(name).is_ok() { name } else { b"" });
            all.push(0);
        }
        Self(all)
    }

    /// Each in its order; `None` for what is left empty.
    fn iter(&self) -> impl Iterator<Item = Option<&CStr>> {
        let names = self.0.split_inclusive(|byte| *byte == 0);
        names.map(|name| CStr::from_bytes_with_nul(name).ok().filter(|name| !name.is_empty()))
    }
}

/// Attributes of names in the directory `path`; `None` for what cannot be had.
pub(super) fn stat(root: &Arc<Root>, path: &StorePath, names: &Names) -> Result<Vec<Option<Attr>>> {
    let directory = root.open(path, DIRECTORY, Lookup::Full).map_err(fail("stat", path))?;
    Ok(names.iter().map(|name| root.attr_of(&directory, name?).ok()).collect())
}

/// How long to read many files: what is left then is for whoever opens each by itself, and has more patience with it.
const HEADS_FOR: Duration = Duration::from_secs(5);

/// Attributes and up to `len` bytes of regular files in the directory `path`; `None` for what cannot be read.
pub(super) fn read_heads(
    root: &Arc<Root>,
    path: &StorePath,
    names: &Names,
    len: usize,
) -> Result<Vec<Option<(Attr, Bytes)>>> {
    let directory = root.open(path, DIRECTORY, Lookup::Full).map_err(fail("read", path))?;
    let begin = Instant::now();
    let read = |name: Option<&CStr>| match begin.elapsed() < HEADS_FOR {
        true => read_head(root, &directory, name?, len).ok()?,
        false => None,
    };
    Ok(names.iter().map(read).collect())
}

fn read_head(
    root: &Root,
    directory: &OwnedFd,
    name: &CStr,
    len: usize,
) -> rustix::io::Result<Option<(Attr, Bytes)>> {
    // What stands there is looked at first, for opening a device may act on it.
    if root.attr_of(directory, name)?.kind != Kind::Regular {
        return Ok(None);
    }
    let fd = open_step(directory.as_fd(), name.to_bytes(), FILE, Mode::empty(), Lookup::Full)?;
    let attr = root.attr(&fd)?.attr;
    if attr.kind != Kind::Regular {
        return Ok(None);
    }
    let len = usize::try_from(attr.size).map_or(len, |size| size.min(len));
    Ok(Some((attr, read_vec(&fd, 0, len)?.into())))
}

fn list(root: &Root, path: &StorePath, cookie: u64, max: usize) -> rustix::io::Result<DirPage> {
    let fd = root.open(path, LISTING, Lookup::Full)?;
    let nothing = DirPage { entries: Vec::new(), end: true };
    if cookie > COOKIE_MAX {
        return Ok(nothing);
    }
    if cookie != 0 {
        match rustix::fs::seek(&fd, SeekFrom::Start(cookie)) {
            Err(Errno::INVAL) => return Ok(nothing),
            moved => moved?,
        };
    }
    let device = rustix::fs::fstat(&fd)?.st_dev;
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut buffer = Vec::with_capacity(max.saturating_mul(40).clamp(*BUFFER.start(), *BUFFER.end()));
    let mut names = RawDir::new(&fd, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = names.next() {
        if entries.len() >= max {
            return Ok(DirPage { entries, end: false });
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::INTR) => continue,
            Err(Errno::INVAL) if cookie != 0 && entries.is_empty() => return Ok(nothing),
            // What came before is good; the next page meets the error.
            Err(_) if !entries.is_empty() => return Ok(DirPage { entries, end: false }),
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name().to_bytes();
        // The parent of the root is none of the clients' business.
        let above = path.is_root() && name == b"..";
        let fileid = if above { root.fileid() } else { root.fileid_of(device, entry.ino()) };
        let kind = kind_of(entry.file_type());
        // A position of 0 would start again; nothing can be asked for behind it.
        let next = entry.next_entry_cookie();
        let next = if next == 0 { COOKIE_MAX } else { next };
        entries.push(DirEntry { name: name.to_vec(), cookie: next, fileid, kind });
    }
    Ok(DirPage { entries, end: true })
}
