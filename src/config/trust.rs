//! Whom to trust: public keys in a file or a directory.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::sign::{Keyring, PublicKey, TrustedKey};

/// The longest key file in bytes.
const KEY_FILE_MAX: u64 = 16 * 1024;
/// Keys in one directory at most.
const KEYS_MAX: usize = 4096;

/// Why trust could not be loaded: always with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file or directory cannot be read.
    #[error("{path}: cannot be read: {source}; --trust wants a .pub file or a directory of them")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file is no public key.
    #[error("{path}: {reason}; a .pub file holds one PUBLIC KEY in PEM, as `nfs-verity keygen` makes it")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory holds more files than any set of keys.
    #[error("{path}: more than {KEYS_MAX} keys; remove those that are not needed")]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

/// The keys in `path`: one `.pub` file, or every `.pub` file of a directory. A key's name is its
/// file's, without the ending. An empty directory gives an empty keyring; one bad file fails all.
pub fn load_keyring(path: &Path) -> Result<Keyring, TrustError> {
    let io = |source| TrustError::Io { path: path.to_owned(), source };
    if !path.metadata().map_err(io)?.is_dir() {
        return Ok(Keyring::new(vec![load_key(path)?]));
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.extension().is_some_and(|ending| ending == "pub") {
            files.push(file);
        }
        if files.len() > KEYS_MAX {
            return Err(TrustError::TooMany { path: path.to_owned() });
        }
    }
    files.sort_unstable();
    let keys: Result<Vec<_>, _> = files.iter().map(|file| load_key(file)).collect();
    Ok(Keyring::new(keys?))
}

fn load_key(path: &Path) -> Result<TrustedKey, TrustError> {
    let io = |source| TrustError::Io { path: path.to_owned(), source };
    let mut pem = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(KEY_FILE_MAX + 1).read_to_end(&mut pem).map_err(io)?;
    let bad = |reason: String| TrustError::Key { path: path.to_owned(), reason };
    if pem.len() as u64 > KEY_FILE_MAX {
        return Err(bad(format!("longer than {KEY_FILE_MAX} bytes")));
    }
    let key = PublicKey::from_spki_pem(&pem).map_err(|error| bad(error.to_string()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(TrustedKey { key, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{KeyAlgorithm, generate};

    #[test]
    fn a_directory_gives_its_pub_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (generate(KeyAlgorithm::Ed25519).unwrap(), generate(KeyAlgorithm::P256).unwrap());
        std::fs::write(dir.path().join("a.pub"), &a.public_pem).unwrap();
        std::fs::write(dir.path().join("a.key"), &a.private_pem).unwrap();
        std::fs::write(dir.path().join("README"), "keys").unwrap();
        let keyring = load_keyring(dir.path()).unwrap();
        assert_eq!((keyring.len(), &*keyring.get(&a.key_id).unwrap().name), (1, "a"));
        std::fs::write(dir.path().join("b.pub"), &b.public_pem).unwrap();
        assert_eq!(load_keyring(dir.path()).unwrap().len(), 2);
        assert_eq!(load_keyring(&dir.path().join("b.pub")).unwrap().len(), 1);
    }

    #[test]
    fn one_bad_file_fails_all_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.pub"), "no key").unwrap();
        let error = load_keyring(dir.path()).err().unwrap().to_string();
        assert!(error.contains("bad.pub"), "{error}");
        std::fs::write(dir.path().join("bad.pub"), vec![b'-'; 20_000]).unwrap();
        assert!(load_keyring(dir.path()).err().unwrap().to_string().contains("longer"));
        assert!(load_keyring(&dir.path().join("none")).err().unwrap().to_string().contains("none"));
    }
}
