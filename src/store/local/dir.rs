//! Directories in pages, by getdents64(2). The cookies are the file system's own positions.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;

use super::super::{Attr, DirEntry, DirPage, Result, StorePath};
use super::fail;
use super::resolve::{DIRECTORY, LISTING, Lookup, Root, kind_of};

/// Bytes asked for at once: a guess at 40 an entry, within these bounds. The least holds any one entry.
const BUFFER: std::ops::RangeInclusive<usize> = 4096..=64 * 1024;

/// The last offset that lseek takes.
const COOKIE_MAX: u64 = i64::MAX as u64;

/// At most `max` entries of `path` behind `cookie`. A cookie that the file system does not know
/// gives nothing, or whatever the file system makes of it.
pub(super) fn page(root: &Arc<Root>, path: &StorePath, cookie: u64, max: usize) -> Result<DirPage> {
    list(root, path, cookie, max).map_err(fail("read the directory", path))
}

/// Attributes of the names in the directory `path`, each of which ends with a NUL; `None` for what cannot be had.
pub(super) fn stat(root: &Arc<Root>, path: &StorePath, names: &[u8]) -> Result<Vec<Option<Attr>>> {
    let directory = root.open(path, DIRECTORY, Lookup::Full).map_err(fail("stat", path))?;
    let names = names.split_inclusive(|byte| *byte == 0);
    let look = |name| root.attr_of(&directory, CStr::from_bytes_with_nul(name).ok()?).ok();
    Ok(names.map(look).collect())
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
