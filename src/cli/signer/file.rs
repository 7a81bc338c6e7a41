//! Keys in files: private ones that are their owner's alone, and public ones.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::passphrase::Source;
use crate::cli::Trouble;
use crate::sign::{Certificate, KEY_FILE_MAX, PublicKey, SigningKey};

/// Certificates in one file at most: as many as evidence holds.
const CERTIFICATES_MAX: usize = 16;

/// Opens a file that keeps a secret; refuses one that others can read.
pub(in crate::cli) fn private_file(path: &Path) -> Result<File, Trouble> {
    let file = File::open(path).map_err(|source| Trouble::file("read", path, source))?;
    owner_alone(&file, path)?;
    Ok(file)
}

/// Refuses a file that others than its owner can get at: the open file, so that what is looked at is
/// what is read.
fn owner_alone(file: &File, path: &Path) -> Result<(), Trouble> {
    let mode = file.metadata().map_err(|source| Trouble::file("read", path, source))?.mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(Trouble::usage(format!(
            "{path}: its mode {:04o} lets others than its owner at a secret; run: chmod 600 {path}",
            mode & 0o7777
        )));
    }
    Ok(())
}

/// All that `from` has, or one byte more than `max`; wiped from memory when dropped.
pub(in crate::cli) fn read_bounded(from: impl Read, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Of its full size at once: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(max + 1));
    from.take(max as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The private key in `path`; its passphrase, if it needs one, comes from `secret`.
pub(super) fn open(path: &Path, secret: &Source<'_>) -> Result<SigningKey, Trouble> {
    let file = File::open(path).map_err(|source| Trouble::file("read", path, source))?;
    let text = read_bounded(&file, KEY_FILE_MAX).map_err(|source| Trouble::file("read", path, source))?;
    // A public key given by mistake is no secret, and better told as what it is.
    if !text.starts_with(b"-----BEGIN PUBLIC KEY-----") {
        owner_alone(&file, path)?;
    }
    let key = if SigningKey::is_encrypted(&text) {
        let passphrase = secret.read(&format!("Passphrase of {}", path.display()))?;
        SigningKey::from_encrypted_pkcs8_pem(&text, &passphrase)
    } else {
        SigningKey::from_pkcs8_pem(&text)
    };
    key.map_err(|error| Trouble::usage(format!("{}: {error}", path.display())))
}

/// The certificates in `path`, in their order: one in DER, or 1 to [`CERTIFICATES_MAX`] in PEM.
pub(in crate::cli) fn certificates(path: &Path) -> Result<Vec<Certificate>, Trouble> {
    let file = File::open(path).map_err(|source| Trouble::file("read", path, source))?;
    let max = CERTIFICATES_MAX * KEY_FILE_MAX;
    let bytes = read_bounded(file, max).map_err(|source| Trouble::file("read", path, source))?;
    let bad = |reason: String| Trouble::usage(format!("{}: {reason}", path.display()));
    if bytes.len() > max {
        return Err(bad(format!("longer than {max} bytes")));
    }
    let blocks = pem_blocks(&bytes);
    if blocks.len() > CERTIFICATES_MAX {
        return Err(bad(format!("more than {CERTIFICATES_MAX} certificates")));
    }
    let read = match *blocks {
        [] => Certificate::from_der(&bytes).map(|certificate| vec![certificate]),
        _ => blocks.iter().map(|block| Certificate::from_pem(block)).collect(),
    };
    read.map_err(|error| bad(error.to_string()))
}

/// The blocks of a PEM file, each from its first line to that of the next one; none when it does not
/// begin with one.
fn pem_blocks(bytes: &[u8]) -> Vec<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut blocks = Vec::new();
    let mut rest = bytes;
    while rest.starts_with(BEGIN) {
        let next =
            rest.windows(BEGIN.len() + 1).position(|w| w.first() == Some(&b'\n') && w.ends_with(BEGIN));
        let (block, more) = rest.split_at(next.map_or(rest.len(), |at| at + 1));
        blocks.push(block);
        rest = more;
    }
    blocks
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_start_at_their_first_lines() {
        let (one, two) = (&b"-----BEGIN A-----\nx\n-----END A-----\n"[..], &b"-----BEGIN B-----\n"[..]);
        assert_eq!(pem_blocks(&[one, two].concat()), [one, two]);
        assert_eq!(pem_blocks(one), [one]);
        assert!(pem_blocks(b"").is_empty() && pem_blocks(&[b" ", one].concat()).is_empty());
        assert!(pem_blocks(b"\x30\x82\n-----BEGIN A-----").is_empty());
    }
}
