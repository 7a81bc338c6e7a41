//! What the log asks of the system, a call each, so that a test can let any of them fail.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// The file whose lock says that the directory is in use.
const LOCK: &str = "lock";
/// How often the lock is tried: [`is_locked`] of another process has it for a moment.
const LOCK_TRIES: u32 = 5;
/// How long is waited between.
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// A directory with files in it.
pub(super) trait Disk: Send {
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A whole file; `None` when there is none. A file above `limit` bytes is an error.
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// Cuts a file to `len` bytes, which it has. With 0 the file is made where there is none.
    fn cut(&self, name: &str, len: u64) -> io::Result<()>;
    /// Appends to a file of `len` bytes.
    fn append(&self, name: &str, len: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, if there is one.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// A directory of the system, locked for as long as this lives.
pub(super) struct System {
    directory: PathBuf,
    _lock: OwnedFd,
}

impl System {
    /// Makes the directory where there is none. `None` when another process has it.
    pub(super) fn open(directory: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(directory.join(LOCK), flags, Mode::from_raw_mode(0o600))?;
        for tried in 1..=LOCK_TRIES {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { directory: directory.to_owned(), _lock: lock })),
                Err(rustix::io::Errno::WOULDBLOCK) if tried < LOCK_TRIES => std::thread::sleep(LOCK_WAIT),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn file(&self, name: &str, make: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(make).mode(0o640).custom_flags(no_follow());
        options.open(self.directory.join(name))
    }
}

fn no_follow() -> i32 {
    // The flag fits: it is one of the system's own.
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

/// Reads a whole file of `directory`, as [`Disk::read`] says.
pub(super) fn read(directory: &Path, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new().read(true).custom_flags(no_follow()).open(directory.join(name));
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

/// Whether a process writes to `directory`, as far as this one may know.
pub(super) fn is_locked(directory: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(lock) = rustix::fs::open(directory.join(LOCK), flags, Mode::empty()) else { return false };
    // Shared, so that those who ask do not take one another for a gateway. It goes with the file.
    let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared);
    taken == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The names of all files of `directory`.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        // A name that is no text is none of ours.
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

impl Disk for System {
    fn names(&self) -> io::Result<Vec<String>> {
        names(&self.directory)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        read(&self.directory, name, limit)
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        let file = self.file(name, len == 0)?;
        if file.metadata()?.len() < len {
            return Err(changed());
        }
        file.set_len(len)
    }

    fn append(&self, name: &str, len: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name, false)?;
        if file.metadata()?.len() != len {
            return Err(changed());
        }
        file.write_all_at(bytes, len)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name, false)?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

pub(super) fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "another program changed the file; only the gateway may")
}
