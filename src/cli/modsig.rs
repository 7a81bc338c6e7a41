//! Signatures appended to files as to kernel modules: found, checked over the content before them, told.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Trouble;
use crate::sign::{HashName, Keyring, MODSIG_TAIL, Modsig, Pkcs7, Rejection, Signer, verify_modsig};
use crate::store::{Store, StoreFile, StorePath};

/// Bytes hashed in one step.
const STEP: u64 = 1024 * 1024;

/// An appended signature.
pub(super) struct Appended {
    /// Bytes of content before it.
    pub(super) content: u64,
    /// Who made it, as it says itself; or why it cannot be read.
    pub(super) claims: Result<Vec<String>, String>,
    /// The trusted keys that did make it, where anybody is trusted; or why none did.
    pub(super) signers: Option<Result<Vec<Signer>, Rejection>>,
}

/// The signature appended to the file `path`, if there is one, checked against `keyring` if that is given.
pub(super) async fn appended(
    store: &dyn Store,
    path: &StorePath,
    keyring: Option<&Keyring>,
) -> Result<Option<Appended>, Trouble> {
    let file = store.open(path).await?;
    let size = file.stat().await?.size;
    let tail = size.min(MODSIG_TAIL as u64);
    let bytes = file.read_at(size - tail, usize::try_from(tail).unwrap_or(0)).await?;
    let modsig = match Modsig::find(&bytes, size) {
        Ok(None) => return Ok(None),
        Ok(Some(modsig)) => modsig,
        Err(error) => {
            return Ok(Some(Appended { content: size, claims: Err(error.to_string()), signers: None }));
        }
    };
    let length = usize::try_from(modsig.pkcs7.end - modsig.pkcs7.start).unwrap_or(0);
    let pkcs7 = file.read_at(modsig.pkcs7.start, length).await?;
    let message = match Pkcs7::parse_appended(&pkcs7) {
        Ok(message) => message,
        Err(error) => {
            let claims = Err(error.to_string());
            return Ok(Some(Appended { content: modsig.content, claims, signers: None }));
        }
    };
    let claims = Ok(message.signers().iter().map(|signer| signer.describe()).collect());
    let signers = match keyring {
        None => None,
        Some(keyring) => {
            let mut hashes: Vec<HashName> = message.signers().iter().map(|signer| signer.hash()).collect();
            hashes.dedup();
            let digests = digests(&*file, modsig.content, &hashes).await?;
            let digest =
                |hash| digests.iter().find(|(name, _)| *name == hash).map(|(_, digest)| digest.clone());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            Some(verify_modsig(&pkcs7, keyring, path.as_bytes(), now, digest))
        }
    };
    Ok(Some(Appended { content: modsig.content, claims, signers }))
}

/// The hashes of the first `length` bytes.
async fn digests(
    file: &dyn StoreFile,
    length: u64,
    hashes: &[HashName],
) -> Result<Vec<(HashName, Vec<u8>)>, Trouble> {
    let mut hashers: Vec<_> = hashes.iter().map(|hash| (*hash, hash.hasher())).collect();
    let mut at = 0;
    while at < length {
        let bytes = file.read_at(at, usize::try_from((length - at).min(STEP)).unwrap_or(0)).await?;
        if bytes.is_empty() {
            return Err(Trouble::other(
                "the file was cut while it was read; check it again when it is at rest",
            ));
        }
        hashers.iter_mut().for_each(|(_, hasher)| hasher.update(&bytes));
        at += bytes.len() as u64;
    }
    Ok(hashers.into_iter().map(|(hash, hasher)| (hash, hasher.finish())).collect())
}
