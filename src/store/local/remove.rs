//! Removal of whole trees, of any depth, without following a symbolic link or entering a mount.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::super::{Result, StoreError, StoreErrorKind, StorePath};
use super::fail;
use super::resolve::{DIRECTORY, LISTING, Lookup, Root, open_below};

/// Directories that are held open at once; those above are opened again on the way up.
const WINDOW: usize = 64;

/// Subdirectories that are remembered of one listing.
const PENDING: usize = 64;

/// How often a directory is listed again that does not get empty because others write to it.
const PASSES: u32 = 32;

/// The deepest tree; paths below the root cannot name a deeper one.
const LEVELS: usize = super::super::PATH_MAX;

/// Removes what `path` names.
pub(super) fn remove(root: &Root, path: &StorePath) -> Result<()> {
    let failed = fail("remove", path);
    let Some(parent) = path.parent() else {
        return Err(failed(Errno::PERM));
    };
    let parent = root.open(&parent, DIRECTORY, Lookup::Full).map_err(&failed)?;
    match rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done.map_err(&failed),
    }
    match Tree::new(parent, path.name()).remove() {
        Err(Errno::XDEV) => {
            let source = io::Error::other("another file system is mounted there");
            Err(StoreError::new(StoreErrorKind::Io, "remove", path, source))
        }
        done => done.map_err(&failed),
    }
}

/// A tree on its way out: the directories from the top to the one at work.
struct Tree {
    above: OwnedFd,
    levels: Vec<Level>,
}

struct Level {
    name: Vec<u8>,
    /// Closed when too many lie below; opened again by the names.
    dir: Option<OwnedFd>,
    pending: Vec<Vec<u8>>,
    passes: u32,
}

impl Level {
    fn new(name: &[u8], dir: Option<OwnedFd>) -> Self {
        Self { name: name.to_vec(), dir, pending: Vec::new(), passes: 0 }
    }
}

impl Tree {
    fn new(above: OwnedFd, name: &[u8]) -> Self {
        Self { above, levels: vec![Level::new(name, None)] }
    }

    fn remove(&mut self) -> rustix::io::Result<()> {
        while let Some(mut level) = self.levels.pop() {
            let dir = match level.dir.take() {
                Some(dir) => dir,
                None => self.reopen(&level.name)?,
            };
            if level.pending.is_empty() {
                level.pending = unlink_files(&dir)?;
            }
            match level.pending.pop() {
                Some(name) => self.descend(level, dir, &name)?,
                None => self.leave(level, dir)?,
            }
        }
        Ok(())
    }

    /// Puts `level` back and the directory `name` in it on top.
    fn descend(&mut self, mut level: Level, dir: OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        let below = match open_below(dir.as_fd(), name, LISTING | OFlags::NOFOLLOW, Lookup::OneMount) {
            Ok(below) => Some(below),
            // Gone or replaced meanwhile: the next listing tells.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if level.passes < PASSES => {
                level.passes += 1;
                None
            }
            Err(errno) => return Err(errno),
        };
        level.dir = Some(dir);
        self.levels.push(level);
        if let Some(below) = below {
            if self.levels.len() >= LEVELS {
                return Err(Errno::NAMETOOLONG);
            }
            self.levels.push(Level::new(name, Some(below)));
            if let Some(far) = self.levels.len().checked_sub(WINDOW).and_then(|at| self.levels.get_mut(at)) {
                far.dir = None;
            }
        }
        Ok(())
    }

    /// Removes the directory `level`, in which a listing found nothing more.
    fn leave(&mut self, mut level: Level, dir: OwnedFd) -> rustix::io::Result<()> {
        let parent = match self.levels.last_mut() {
            Some(Level { dir: Some(dir), .. }) => dir,
            Some(_) => {
                let reopened = self.reopen_last()?;
                let Some(last) = self.levels.last_mut() else { return Ok(()) };
                last.dir.insert(reopened)
            }
            None => &mut self.above,
        };
        match rustix::fs::unlinkat(&*parent, level.name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.passes < PASSES => {
                level.passes += 1;
                level.dir = Some(dir);
                self.levels.push(level);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    /// Opens the directory `name` below all of `levels`.
    fn reopen(&self, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let names: Vec<&[u8]> = self.levels.iter().map(|level| level.name.as_slice()).chain([name]).collect();
        open_levels(self.above.as_fd(), &names)
    }

    fn reopen_last(&self) -> rustix::io::Result<OwnedFd> {
        let names: Vec<&[u8]> = self.levels.iter().map(|level| level.name.as_slice()).collect();
        open_levels(self.above.as_fd(), &names)
    }
}

fn open_levels(above: BorrowedFd<'_>, names: &[&[u8]]) -> rustix::io::Result<OwnedFd> {
    open_below(above, &names.join(&b'/'), LISTING, Lookup::OneMount)
}

/// Removes all that is no directory from `dir`, and gives some of the directories in it.
fn unlink_files(dir: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut directories = Vec::new();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut names = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            // The directory itself was removed by somebody else.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = entry.file_type() == FileType::Directory
            || match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => false,
                Err(Errno::ISDIR) => true,
                Err(errno) => return Err(errno),
            };
        if is_directory {
            directories.push(name.to_bytes().to_vec());
            if directories.len() >= PENDING {
                break;
            }
        }
    }
    Ok(directories)
}
