//! Files that keep a secret.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Why a secret is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("is no file")]
    NotAFile,
    /// Others can read or change it; its permissions.
    #[error("its mode {0:04o} lets others at a secret")]
    Exposed(u32),
    /// It is longer than any; the most bytes.
    #[error("cannot be read: it has more than {0} bytes")]
    TooLong(usize),
}

/// All of the file, which has at most `max` bytes. Its owner alone may read it; where that is root, its group, too,
/// as systemd and Kubernetes hand out secrets to a service's user.
///
/// # Errors
/// See [`SecretError`].
pub fn read_secret(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Opening a pipe without a writer must not wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Of the open file, so that what is looked at is what is read.
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(SecretError::NotAFile);
    }
    let others = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & others != 0 {
        return Err(SecretError::Exposed(found.mode() & 0o7777));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take((max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(SecretError::TooLong(max));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_its_owners_or_of_a_group_of_roots() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, b"secret").unwrap();
        let read = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read_secret(&path, 6).map(|bytes| bytes.to_vec())
        };
        for mode in [0o600, 0o400] {
            assert_eq!(read(mode).unwrap(), b"secret");
        }
        for mode in [0o644, 0o604, 0o620, 0o660, 0o602, 0o777] {
            assert!(matches!(read(mode), Err(SecretError::Exposed(found)) if found == mode));
        }
        let roots = fs::metadata(&path).unwrap().uid() == 0;
        assert_eq!(read(0o640).is_ok(), roots);
    }

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(read_secret(&path, 6), Err(SecretError::Read(_))));
        fs::write(&path, b"secrets").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read_secret(&path, 6), Err(SecretError::TooLong(6))));
        assert!(matches!(read_secret(folder.path(), 6), Err(SecretError::NotAFile)));
    }
}
