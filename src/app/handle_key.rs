//! The secret behind the file handles, which outlives the gateway so that handles do.
//!
//! Gateways over one bucket share it through the bucket, so that a client may go from one to another. There it is
//! no secret from the store: whoever has it can make handles, which lead to nothing that LOOKUP would not give,
//! for what a handle names is still proven before it is served. Clients never see it: it lies with the evidence.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::AppError;
use crate::carrier::{SIDECAR_DIRECTORY, Sidecar};
use crate::config::Settings;
use crate::export::HandleKey;
use crate::store::{Store, StoreAddress, StoreErrorKind, StorePath};

/// Its name in the state directory, and in the bucket's directory of what is no evidence.
const NAME: &str = "handle.key";
/// How often a bucket is asked for what another gateway has just put there.
const LOOKS: u32 = 5;

/// The key that was given, or is in the state directory, or in the bucket that is served; else a new one is made,
/// in the bucket where one is served.
pub(super) async fn find(
    settings: &Settings,
    state: &Path,
    store: &dyn Store,
) -> Result<HandleKey, AppError> {
    if let Some(path) = &settings.handle_key {
        return given(path);
    }
    match settings.store {
        StoreAddress::Object(_) if !state.join(NAME).exists() => {
            let key = shared_or_copied(store, state, &settings.store.to_string()).await?;
            Ok(HandleKey::new(&key))
        }
        StoreAddress::Object(_)
        | StoreAddress::Local(_)
        | StoreAddress::Upstream(_)
        | StoreAddress::Memory(_) => own(state),
    }
}

/// A secret that the operator made, as for gateways that stand for each other.
fn given(path: &Path) -> Result<HandleKey, AppError> {
    let wrong = |reason: String| AppError::HandleKey { path: path.to_owned(), reason };
    match read(path) {
        Ok(Some(key)) => Ok(HandleKey::new(&key)),
        Ok(None) => Err(wrong("is not of 32 bytes".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Where all gateways over one bucket find it.
fn place() -> StorePath {
    let directory = Sidecar::directory();
    let place = directory.join(SIDECAR_DIRECTORY).and_then(|place| place.join(NAME.as_bytes()));
    place.unwrap_or(directory)
}

/// The key in the bucket, or while that does not answer the copy of it that an earlier start has made: replicas may
/// serve meanwhile.
async fn shared_or_copied(store: &dyn Store, directory: &Path, bucket: &str) -> Result<[u8; 32], AppError> {
    let copy = directory.join(copy_name(bucket));
    match shared(store).await {
        Ok(key) => {
            if read(&copy).ok().flatten() != Some(key)
                && let Err(error) = put_copy(directory, &copy, &key)
            {
                // One from before would lead nowhere.
                let _ = std::fs::remove_file(&copy);
                tracing::warn!(
                    path = %copy.display(),
                    %error,
                    "the bucket's handle key cannot be kept here; no start without the bucket until it can"
                );
            }
            Ok(key)
        }
        Err(AppError::Store(error)) if error.kind == StoreErrorKind::Unavailable => match read(&copy) {
            Ok(Some(key)) => Ok(key),
            // What is wrong is that the bucket does not answer.
            Ok(None) | Err(_) => Err(error.into()),
        },
        Err(error) => Err(error),
    }
}

fn put_copy(directory: &Path, copy: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    std::fs::rename(write_unfinished(directory, key)?, copy)?;
    std::fs::File::open(directory)?.sync_all()
}

/// Of which bucket a copy is, in its name: the keys of others lead nowhere in it.
fn copy_name(bucket: &str) -> String {
    use std::fmt::Write;
    let hash = ring::digest::digest(&ring::digest::SHA256, bucket.as_bytes());
    let mut name = "bucket-".to_owned();
    for byte in hash.as_ref().iter().take(8) {
        // A String takes all that is written to it.
        let _ = write!(name, "{byte:02x}");
    }
    name + ".key"
}

/// The key in the bucket, put there by whichever gateway comes first.
async fn shared(store: &dyn Store) -> Result<[u8; 32], AppError> {
    let place = place();
    let wrong = |reason: &str| AppError::SharedKey { path: place.clone(), reason: reason.to_owned() };
    for _ in 0..LOOKS {
        match store.open(&place).await {
            Ok(file) => {
                let bytes = match file.read_at(0, 33).await {
                    // Another gateway's has taken its place, as on servers that know no condition for writes.
                    Err(error) if error.kind == StoreErrorKind::Stale => continue,
                    bytes => bytes?,
                };
                let key: Result<[u8; 32], _> = bytes.as_ref().try_into();
                let key = key.map_err(|_| {
                    wrong("is no handle key; remove it, and clients will have to mount again")
                })?;
                return Ok(key);
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let key = random().map_err(|error| wrong(&error.to_string()))?;
        // Of two that come first, one wins, and both take what is there then.
        match store.create_new(&place, &key).await {
            Ok(_) => {}
            Err(error) if matches!(error.kind, StoreErrorKind::Access | StoreErrorKind::Unsupported) => {
                return Err(wrong(&format!(
                    "cannot be made ({}); make it, or give --handle-key",
                    error.source
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(wrong("comes and goes"))
}

/// The key in the state directory, made there the first time.
fn own(directory: &Path) -> Result<HandleKey, AppError> {
    let path = directory.join(NAME);
    let failed = |error: std::io::Error| AppError::State { path: path.clone(), reason: error.to_string() };
    loop {
        match read(&path) {
            Ok(Some(key)) => return Ok(HandleKey::new(&key)),
            Ok(None) => {
                let reason = "is no handle key; remove it, and clients will have to mount again".to_owned();
                return Err(AppError::State { path, reason });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make(directory, &path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

fn read(path: &Path) -> std::io::Result<Option<[u8; 32]>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(33).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().ok())
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(key)
}

/// Puts a new key in place at once; of two gateways that do so, one wins.
fn make(directory: &Path, path: &Path) -> std::io::Result<()> {
    let unfinished = write_unfinished(directory, &random()?)?;
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    // The name must outlive a loss of power as the bytes do.
    std::fs::File::open(directory)?.sync_all()?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a key where nobody looks for one; the path of it.
fn write_unfinished(directory: &Path, key: &[u8; 32]) -> std::io::Result<PathBuf> {
    let unfinished = directory.join(format!("{NAME}.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(key)?;
    file.sync_all()?;
    Ok(unfinished)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Fault, Faulty, Memory};

    #[tokio::test]
    async fn the_key_of_a_bucket_that_does_not_answer_is_the_one_it_had() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::new();
        memory.put(std::str::from_utf8(place().as_bytes()).unwrap(), &[5; 32]).unwrap();
        let up: Arc<dyn Store> = Arc::new(memory.clone());
        let down = Faulty::new(up.clone());
        down.fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
        let find = async |store: &dyn Store, bucket| shared_or_copied(store, state.path(), bucket).await;
        assert!(find(&down, "s3://one").await.is_err(), "there is no copy");
        let key = find(&*up, "s3://one").await.unwrap();
        assert_eq!(find(&down, "s3://one").await.unwrap(), key);
        assert!(find(&down, "s3://two").await.is_err(), "that is another bucket");
        // When the key was replaced, so is the copy.
        memory.put(std::str::from_utf8(place().as_bytes()).unwrap(), &[6; 32]).unwrap();
        let other = find(&*up, "s3://one").await.unwrap();
        assert_eq!((key, other), ([5; 32], [6; 32]));
        assert_eq!(find(&down, "s3://one").await.unwrap(), other);
        assert!(!state.path().join(NAME).exists());
    }

    #[tokio::test]
    async fn a_bucket_whose_key_cannot_be_copied_is_served() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::new();
        memory.put(std::str::from_utf8(place().as_bytes()).unwrap(), &[5; 32]).unwrap();
        let gone = state.path().join("gone");
        assert_eq!(shared_or_copied(&memory, &gone, "s3://one").await.unwrap(), [5; 32]);
    }
}
