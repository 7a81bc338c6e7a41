//! Whom to trust: keys and certificates in a file or a directory, for what, and what is revoked.
//!
//! A trust directory holds, in any number:
//!
//! - `NAME.pub`: a public key in PEM; `NAME.pem` and `NAME.crt`: an X.509 certificate or a public key
//!   in PEM; `NAME.der`: a certificate in DER. A certificate is pinned: its key signs where its key
//!   usage lets it, within its validity; and it certifies others where it is an authority's.
//! - `NAME.toml` beside them: a name for people and limits (see `limits`);
//! - `trust.toml`: how many signers files need;
//! - `revoked/`: what is trusted no more (see `revoked`).
//!
//! Hidden files, editors' backups and files with other endings are passed over, private keys among
//! them. Where trust is one file, its `NAME.toml` counts, and `trust.toml` and `revoked/` beside it
//! do not.

mod limits;
mod revoked;
mod stamp;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::limits::Settings;
use super::ConfigError;
use crate::sign::{
    Authority, Certificate, FormatSet, KeyId, Keyring, Limits, PublicKey, Requirements, TrustedKey,
};

pub use revoked::load_revoked;
pub use stamp::TrustStamp;

/// The longest key file in bytes.
const KEY_FILE_MAX: u64 = 16 * 1024;
/// Keys and certificates in one directory at most.
const KEYS_MAX: usize = 4096;
/// Names in one directory at most, of any kind.
const NAMES_MAX: usize = 65_536;
/// The endings of keys and certificates.
const ENDINGS: [&str; 4] = ["pub", "pem", "crt", "der"];
/// The settings of the whole directory.
const DIRECTORY_SETTINGS: &str = "trust.toml";

/// Why trust could not be loaded: always with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file or directory cannot be read.
    #[error("{path}: cannot be read: {source}; --trust wants a key or certificate or a directory of them")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A `.pub` file is no public key.
    #[error("{path}: {reason}; a .pub file holds one PUBLIC KEY in PEM, as `nfs-verity keygen` makes it")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `.pem`, `.crt` or `.der` file is no certificate that can be trusted.
    #[error("{path}: {reason}; .pem and .crt files hold one X.509 certificate in PEM, .der files one in DER")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One key is in two files that limit it differently.
    #[error("{path}: the key {key_id} is in {other} too, with other limits; keep one, or limit both alike")]
    Differ {
        /// The second file.
        path: PathBuf,
        /// The first file.
        other: PathBuf,
        /// The key.
        key_id: KeyId,
    },
    /// A file of settings beside no key.
    #[error(
        "{path}: there is no .pub, .pem, .crt or .der file of this name beside it; \
         add the key, or remove or rename this file"
    )]
    Orphan {
        /// The file of settings.
        path: PathBuf,
    },
    /// Something in a file of settings is wrong: with file and line.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// Something in `revoked/` cannot be understood, and so may be a revocation.
    #[error("{place}: {what}")]
    Revocation {
        /// The file, and the line where there are lines.
        place: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The directory holds more files than any set of keys.
    #[error("{path}: more than {max} {what}; remove those that are not needed")]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// Of what there are too many.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// The keys and authorities in `path`, a file or a directory, with their limits, the required
/// signers and what is revoked; signatures count in `formats` where a key names none. A key's name
/// is its file's without the ending, unless its settings give another.
///
/// An empty directory gives an empty keyring; one bad file fails all.
///
/// # Errors
/// The first thing that is wrong, with its file.
pub fn load_keyring(path: &Path, formats: FormatSet) -> Result<Keyring, TrustError> {
    let io = |source| TrustError::Io { path: path.to_owned(), source };
    let mut trust = Trust::default();
    if !path.metadata().map_err(io)?.is_dir() {
        let settings = path.with_extension("toml");
        // What is there and cannot be read may be a limit, and is told as an error.
        let own = settings.file_name() != Some(OsStr::new(DIRECTORY_SETTINGS)) && is_there(&settings);
        trust.add(path, own.then_some(settings).as_deref())?;
        return Ok(trust.keyring(formats));
    }
    let (mut files, mut settings) = (Vec::new(), BTreeSet::new());
    for file in names(path)? {
        match ending(&file) {
            // In capitals it belongs to no key, and is told so rather than passed over.
            Some(ending) if ending.eq_ignore_ascii_case("toml") => {
                if file.file_name() != Some(OsStr::new(DIRECTORY_SETTINGS)) {
                    settings.insert(file);
                }
            }
            Some(ending) if ENDINGS.contains(&ending) => files.push(file),
            _ => revoked::check_spelling(&file)?,
        }
    }
    if files.len() > KEYS_MAX {
        return Err(TrustError::TooMany { path: path.to_owned(), what: "keys", max: KEYS_MAX });
    }
    for file in &files {
        trust.add(file, settings.get(&file.with_extension("toml")).map(PathBuf::as_path))?;
    }
    let named: BTreeSet<PathBuf> = files.iter().map(|file| file.with_extension("toml")).collect();
    if let Some(orphan) = settings.difference(&named).next() {
        return Err(TrustError::Orphan { path: orphan.clone() });
    }
    let whole = path.join(DIRECTORY_SETTINGS);
    let required = match read_optional(&whole)? {
        Some(text) => limits::parse_requirements(&text, &whole)?,
        None => Requirements::default(),
    };
    Ok(trust.keyring(formats).with_required(required).with_revoked(load_revoked(path)?))
}

/// What a trust directory gives, file by file.
#[derive(Default)]
struct Trust {
    keys: Vec<TrustedKey>,
    authorities: Vec<Authority>,
    /// Where each key was first seen, and how it is limited there.
    seen: BTreeMap<KeyId, (PathBuf, Limits)>,
}

impl Trust {
    fn add(&mut self, path: &Path, settings: Option<&Path>) -> Result<(), TrustError> {
        let found = read_key(path)?;
        let Settings { name, limits } = match settings {
            Some(file) => limits::parse_settings(&read_text(file)?, file)?,
            None => Settings::default(),
        };
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.unwrap_or_else(stem);
        match found {
            KeyFile::Key(key) => self.pin(TrustedKey { limits, ..TrustedKey::new(key, name) }, path),
            KeyFile::Certificate(certificate) => {
                if certificate.is_authority() {
                    let (certificate, name) = (certificate.clone(), name.clone());
                    self.authorities.push(Authority { certificate, name, limits: limits.clone() });
                } else if !certificate.may_sign() {
                    let reason = "it is neither an authority's nor for signatures, by its key usage".into();
                    return Err(TrustError::Certificate { path: path.to_owned(), reason });
                }
                if !certificate.may_sign() {
                    return Ok(());
                }
                let limits = Limits {
                    not_before: limits.not_before.or(Some(certificate.not_before())),
                    not_after: limits.not_after.or(Some(certificate.not_after())),
                    ..limits
                };
                let key = TrustedKey::new(certificate.key().clone(), name);
                self.pin(TrustedKey { certificate: Some(certificate), limits, ..key }, path)
            }
        }
    }

    /// Which of two different limits holds is not for the order of names to decide.
    fn pin(&mut self, key: TrustedKey, path: &Path) -> Result<(), TrustError> {
        let key_id = key.key.key_id();
        let here = (path.to_owned(), key.limits.clone());
        let (other, limits) = self.seen.entry(key_id).or_insert(here);
        if *limits != key.limits {
            return Err(TrustError::Differ { path: path.to_owned(), other: other.clone(), key_id });
        }
        self.keys.push(key);
        Ok(())
    }

    fn keyring(self, formats: FormatSet) -> Keyring {
        Keyring::new(self.keys).with_authorities(self.authorities).with_formats(formats)
    }
}

/// What a file with one of [`ENDINGS`] holds.
enum KeyFile {
    Key(PublicKey),
    Certificate(Certificate),
}

fn read_key(path: &Path) -> Result<KeyFile, TrustError> {
    let bytes = read(path, KEY_FILE_MAX)?;
    let is_key = ending(path) == Some("pub") || !ENDINGS.contains(&ending(path).unwrap_or_default());
    let bad = |reason: String| match is_key {
        true => TrustError::Key { path: path.to_owned(), reason },
        false => TrustError::Certificate { path: path.to_owned(), reason },
    };
    let bytes = bytes.ok_or_else(|| bad(format!("longer than {KEY_FILE_MAX} bytes")))?;
    if has(&bytes, b"PRIVATE KEY-----") {
        return Err(bad("it holds a private key, which does not belong on a gateway".to_owned()));
    }
    let found = if is_key || bytes.starts_with(b"-----BEGIN PUBLIC KEY-----") {
        PublicKey::from_spki_pem(&bytes).map(KeyFile::Key)
    } else if ending(path) == Some("der") {
        Certificate::from_der(&bytes).map(KeyFile::Certificate)
    } else {
        Certificate::from_pem(&bytes).map(KeyFile::Certificate)
    };
    found.map_err(|error| bad(error.to_string()))
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn ending(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// The files and directories in `directory` in the order of their names, without hidden ones and
/// editors' backups.
fn names(directory: &Path) -> Result<Vec<PathBuf>, TrustError> {
    let io = |source| TrustError::Io { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in directory.read_dir().map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~") {
            continue;
        }
        if found.len() == NAMES_MAX {
            let path = directory.to_owned();
            return Err(TrustError::TooMany { path, what: "files", max: NAMES_MAX });
        }
        found.push(directory.join(name));
    }
    found.sort_unstable();
    Ok(found)
}

/// The content of the regular file `path`; `None` when it is longer than `max`.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, TrustError> {
    let io = |source| TrustError::Io { path: path.to_owned(), source };
    // Whatever is no file would be waited for, or have no end.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

/// The text of a file of settings.
fn read_text(path: &Path) -> Result<String, TrustError> {
    let bytes = read(path, KEY_FILE_MAX)?
        .ok_or_else(|| ConfigError::TooLarge { file: path.to_owned(), limit: KEY_FILE_MAX })?;
    Ok(super::file::utf8(bytes, &path.display().to_string())?)
}

/// As [`read_text`]; `None` when there is no such file.
fn read_optional(path: &Path) -> Result<Option<String>, TrustError> {
    if is_there(path) { read_text(path).map(Some) } else { Ok(None) }
}

fn is_there(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
