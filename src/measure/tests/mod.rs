//! Tests of the room: the format against lists of another program, and the log against disks that fail.

mod disks;
mod faults;
mod format;
mod full;
mod live;
mod log;
mod lost;
mod quote;
mod tpm;

use super::{DigestKind, Entry, FileHash, LogOptions, Seal, Template};

/// "Signs" by saying so; the tests of real signatures are elsewhere.
fn seal() -> Seal {
    Seal { sign: Box::new(|start| Ok([b"signed ", start].concat())), verify: Box::new(signed) }
}

fn signed(start: &[u8], signature: &[u8]) -> bool {
    signature.strip_prefix(b"signed ") == Some(start)
}

/// The entry of file `n`; no two are alike, and their lengths differ.
fn entry(n: u32) -> Entry {
    let digest = [n.to_le_bytes(); 8].concat();
    let name = format!("/srv/{n}{}", "x".repeat(usize::try_from(n % 50).unwrap()));
    let signature = [&[6, 2, 4][..], &n.to_le_bytes()].concat();
    let digest = (DigestKind::Verity, FileHash::Sha256, &digest[..]);
    Entry::new(Template::ImaSigV2, digest, name.as_bytes(), &signature).unwrap()
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: super::SEGMENT_MIN, history: None, ..LogOptions::default() }
}
