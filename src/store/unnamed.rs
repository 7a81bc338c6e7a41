//! Files without a name, for what is too large for memory: gone when they are closed, however that comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A file without a name in `directory`, to be read and written.
///
/// # Errors
/// What the system says to that.
pub(crate) fn unnamed(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not every file system has them, and older kernels take the flag for a directory.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => named_for_a_moment(directory),
        Err(errno) => Err(errno.into()),
    }
}

fn named_for_a_moment(directory: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = directory.join(format!("nfs-verity-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn nothing_is_left_of_a_file_without_a_name() {
        let directory = tempfile::tempdir().unwrap();
        for make in [unnamed, named_for_a_moment] {
            let (one, two) = (make(directory.path()).unwrap(), make(directory.path()).unwrap());
            one.write_all_at(b"one", 0).unwrap();
            two.write_all_at(b"two", 5).unwrap();
            let mut bytes = [0; 3];
            one.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"one");
            assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        }
        assert!(unnamed(&directory.path().join("none")).is_err());
    }
}
