//! Policies in files: as text, or signed as those of Linux IPE are.
//!
//! A signed policy is a PKCS#7 message in DER with the text in it, which `nfs-verity policy sign` and
//! `openssl smime -sign -nodetach -noattr -outform der` make. Where somebody is named whose policies count,
//! no others do; where nobody is, no signature can be checked, and none is taken.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::policy::ipe::TEXT_MAX;
use crate::policy::{Errno, Policy, PolicyError};
use crate::sign::{Keyring, PKCS7_ATTACHED_MAX, Rejection, Signer, verify_attached};

/// The first byte of a message in DER; no policy in text begins so.
const SEQUENCE: u8 = 0x30;

/// Why a policy is not taken: always with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; policy names files with policies of Linux IPE", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The file is too large to be a policy.
    #[error("{}: a policy has at most {max} bytes; is this the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
    /// It is not signed and has to be.
    #[error("{}: not signed, and policy_trust says that it must be; sign it with nfs-verity policy sign", path.display())]
    Unsigned {
        /// The file.
        path: PathBuf,
    },
    /// It is signed, and nobody is trusted to sign policies.
    #[error("{}: signed, and nobody is trusted to sign policies; give policy_trust, or the text without signature", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
    },
    /// Its signature does not count.
    #[error("{}: {}: {}; sign it with a key from policy_trust", path.display(), rejection.cause, rejection.detail)]
    Signature {
        /// The file.
        path: PathBuf,
        /// Why.
        rejection: Box<Rejection>,
    },
    /// The text is no policy.
    #[error("{}: {source}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        source: Box<PolicyError>,
    },
}

impl PolicyFileError {
    /// What the kernel would answer, as a positive number.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::Io { source, .. } => {
                return source.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            }
            Self::TooLarge { .. } => rustix::io::Errno::NOMEM,
            Self::Unsigned { .. } => rustix::io::Errno::BADMSG,
            Self::Untrusted { .. } => rustix::io::Errno::NOKEY,
            Self::Signature { rejection, .. } => match rejection.cause {
                crate::event::Cause::MalformedEvidence => rustix::io::Errno::BADMSG,
                crate::event::Cause::UnknownKey => rustix::io::Errno::NOKEY,
                _ => rustix::io::Errno::KEYREJECTED,
            },
            Self::Policy { source, .. } => return Errno::number(source.errno()),
        };
        errno.raw_os_error()
    }
}

/// A policy that was read from a file and may rule.
#[derive(Debug)]
pub struct PolicyFile {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub policy: Policy,
    /// The SHA-256 digest of the file.
    pub digest: [u8; 32],
    /// Who signed it; empty where nobody had to.
    pub signers: Vec<Signer>,
}

/// Reads the policy in `path`, which has to be signed by a key of `trust` at the time `now` (seconds since
/// 1970) where there is one.
///
/// # Errors
/// The first thing that is wrong, with the file.
pub fn load_policy(path: &Path, trust: Option<&Keyring>, now: i64) -> Result<PolicyFile, PolicyFileError> {
    let failed = |source| PolicyFileError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = PKCS7_ATTACHED_MAX as u64 + 1;
    // Whatever is no file would be waited for, or have no end.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    let is_signed = bytes.first() == Some(&SEQUENCE);
    let max = if is_signed { PKCS7_ATTACHED_MAX } else { TEXT_MAX };
    if bytes.len() > max {
        return Err(PolicyFileError::TooLarge { path: path.to_owned(), max });
    }
    let (text, signers) = match (is_signed, trust) {
        (false, None) => (&bytes[..], Vec::new()),
        (false, Some(_)) => return Err(PolicyFileError::Unsigned { path: path.to_owned() }),
        (true, None) => return Err(PolicyFileError::Untrusted { path: path.to_owned() }),
        (true, Some(trust)) => verify_attached(&bytes, trust, now).map_err(|rejection| {
            PolicyFileError::Signature { path: path.to_owned(), rejection: Box::new(rejection) }
        })?,
    };
    let policy = Policy::parse(text)
        .map_err(|source| PolicyFileError::Policy { path: path.to_owned(), source: Box::new(source) })?;
    let mut file = [0; 32];
    file.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
    Ok(PolicyFile { path: path.to_owned(), policy, digest: file, signers })
}
