//! Keys in files: private ones that are their owner's alone, and public ones.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::passphrase::Source;
use crate::cli::Trouble;
use crate::sign::{Certificate, KEY_FILE_MAX, PublicKey, SigningKey};

/// Opens a file that keeps a secret; refuses one that others can read, on the open file, so that
/// what was looked at is what is read.
pub(super) fn private_file(path: &Path) -> Result<File, Trouble> {
    let file = File::open(path).map_err(|source| Trouble::file("read", path, source))?;
    let mode = file.metadata().map_err(|source| Trouble::file("read", path, source))?.mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(Trouble::usage(format!(
            "{path}: its mode {:04o} lets others than its owner at a secret; run: chmod 600 {path}",
            mode & 0o7777
        )));
    }
    Ok(file)
}

/// All that `from` has, or one byte more than `max`; wiped from memory when dropped.
pub(super) fn read_bounded(from: impl Read, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Of its full size at once: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(max + 1));
    from.take(max as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The private key in `path`; its passphrase, if it needs one, comes from `secret`.
pub(super) fn open(path: &Path, secret: &Source<'_>) -> Result<SigningKey, Trouble> {
    let file = private_file(path)?;
    let text = read_bounded(file, KEY_FILE_MAX).map_err(|source| Trouble::file("read", path, source))?;
    let key = if SigningKey::is_encrypted(&text) {
        let passphrase = secret.read(&format!("Passphrase of {}", path.display()))?;
        SigningKey::from_encrypted_pkcs8_pem(&text, &passphrase)
    } else {
        SigningKey::from_pkcs8_pem(&text)
    };
    key.map_err(|error| Trouble::usage(format!("{}: {error}", path.display())))
}

/// The public key in `path`: a PUBLIC KEY in PEM, or that of a certificate in PEM or DER.
pub(super) fn public_key(path: &Path) -> Result<PublicKey, Trouble> {
    let file = File::open(path).map_err(|source| Trouble::file("read", path, source))?;
    let text = read_bounded(file, KEY_FILE_MAX).map_err(|source| Trouble::file("read", path, source))?;
    let certificate = || {
        if text.first() == Some(&b'-') { Certificate::from_pem(&text) } else { Certificate::from_der(&text) }
    };
    let key = match PublicKey::from_spki_pem(&text) {
        Ok(key) => Ok(key),
        Err(error) if text.starts_with(b"-----BEGIN PUBLIC KEY") => Err(error),
        Err(_) => certificate().map(|certificate| certificate.key().clone()),
    };
    key.map_err(|error| Trouble::usage(format!("{}: {error}", path.display())))
}
