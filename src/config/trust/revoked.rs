//! The directory `revoked/` of a trust directory: what is trusted no more.
//!
//! `*.txt` files have an entry a line: a key id (64 hexadecimal digits), `sha256:HEX` or `sha512:HEX`
//! for a file by its fs-verity digest, `cert-sha256:HEX` for a certificate by its fingerprint; `#`
//! starts a remark. `*.pub`, `*.pem`, `*.crt` and `*.der` files revoke the key or the certificate in
//! them, and a certificate its key too. A file that is none of these is an error: a revocation must
//! not be lost by a slip of the pen.

use std::io;
use std::path::Path;

use super::{ENDINGS, KeyFile, TrustError, ending, names, read, read_key};
use crate::config::file::shown;
use crate::sign::{KeyId, Revoked, RevokedItem};
use crate::verity::FileDigest;

/// The directory's name.
pub(super) const DIRECTORY: &str = "revoked";
/// Bytes in all `.txt` files together, at most.
const BYTES_MAX: u64 = 1024 * 1024;
/// Lines in all `.txt` files together, at most.
const LINES_MAX: usize = 65_536;
/// Files at most.
const FILES_MAX: usize = 4096;

/// What the trust directory `path` revokes; nothing when `path` is a file or has no `revoked/`.
///
/// # Errors
/// The first thing in `revoked/` that cannot be read or understood; also when `path` itself is not
/// there, since what was revoked in it is not trusted again for that.
pub fn load_revoked(path: &Path) -> Result<Revoked, TrustError> {
    path.metadata().map_err(|source| TrustError::Io { path: path.to_owned(), source })?;
    let directory = path.join(DIRECTORY);
    let mut revoked = Revoked::default();
    match directory.symlink_metadata() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(revoked);
        }
        Err(source) => return Err(TrustError::Io { path: directory, source }),
        Ok(_) => {}
    }
    let files = names(&directory)?;
    if files.len() > FILES_MAX {
        return Err(TrustError::TooMany { path: directory, what: "files", max: FILES_MAX });
    }
    let (mut bytes_left, mut lines_left) = (BYTES_MAX, LINES_MAX);
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        let place = format!("{DIRECTORY}/{name}");
        match ending(&file) {
            Some("txt") => {
                let Some(bytes) = read(&file, bytes_left)? else {
                    let what = "bytes in .txt files";
                    let max = usize::try_from(BYTES_MAX).unwrap_or(usize::MAX);
                    return Err(TrustError::TooMany { path: directory, what, max });
                };
                bytes_left = bytes_left.saturating_sub(bytes.len() as u64);
                let lines = bytes.split(|byte| *byte == b'\n').count();
                lines_left = lines_left.checked_sub(lines).ok_or_else(|| {
                    let (path, what) = (directory.clone(), "lines in .txt files");
                    TrustError::TooMany { path, what, max: LINES_MAX }
                })?;
                read_lines(&bytes, &file, &place, &mut revoked)?;
            }
            Some(ending) if ENDINGS.contains(&ending) => match read_key(&file)? {
                KeyFile::Key(key) => revoked.add(RevokedItem::Key(key.key_id()), &place),
                KeyFile::Certificate(certificate) => {
                    revoked.add(RevokedItem::Certificate(certificate.fingerprint()), &place);
                    revoked.add(RevokedItem::Key(certificate.key().key_id()), &place);
                }
            },
            Some("md") => {}
            _ if name.starts_with("README") => {}
            _ => {
                let what = "not understood, and may be meant as a revocation; .txt, .pub, .pem, .crt and \
                            .der are: rename or remove it"
                    .to_owned();
                return Err(TrustError::Revocation { place: file.display().to_string(), what });
            }
        }
    }
    Ok(revoked)
}

/// Refuses a name in the trust directory that was meant to be `revoked/`.
pub(super) fn check_spelling(file: &Path) -> Result<(), TrustError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !name.starts_with("revo") || file.file_name().is_some_and(|name| name == DIRECTORY) {
        return Ok(());
    }
    let what =
        format!("not looked at; revocations belong into the directory {DIRECTORY}/: move or rename it");
    Err(TrustError::Revocation { place: file.display().to_string(), what })
}

fn read_lines(bytes: &[u8], file: &Path, place: &str, revoked: &mut Revoked) -> Result<(), TrustError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = at + 1;
        let entry = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if entry.is_empty() {
            continue;
        }
        let item = std::str::from_utf8(entry).ok().and_then(parse);
        let Some(item) = item else {
            let what = format!(
                "\"{}\" is no entry; write a key id of 64 hexadecimal digits, sha256:HEX or sha512:HEX (a \
                 file's fs-verity digest) or cert-sha256:HEX (a certificate's fingerprint), one a line, and \
                 # before a remark",
                shown(&String::from_utf8_lossy(entry))
            );
            return Err(TrustError::Revocation { place: format!("{}:{number}", file.display()), what });
        };
        revoked.add(item, &format!("{place}:{number}"));
    }
    Ok(())
}

/// Reads an entry, in either case.
fn parse(entry: &str) -> Option<RevokedItem> {
    let entry = entry.to_ascii_lowercase();
    if let Some(digits) = entry.strip_prefix("cert-sha256:") {
        let mut fingerprint = [0; 32];
        hex::decode_to_slice(digits.trim_start().replace(':', ""), &mut fingerprint).ok()?;
        return Some(RevokedItem::Certificate(fingerprint));
    }
    if entry.contains(':') {
        return entry.parse::<FileDigest>().ok().map(RevokedItem::Digest);
    }
    entry.parse::<KeyId>().ok().map(RevokedItem::Key)
}
