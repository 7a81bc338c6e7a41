//! Rotation when the store fails, and when somebody else signs at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::carrier::{Carrier, CarrierKind, EvidenceWriter, Sidecar, Stamp};
use crate::cli::seal::Sealer;
use crate::sign::{FormatSet, KeyAlgorithm, KeyId, SigningKey, generate, read_envelope};
use crate::store::{BoxFuture, Fault, Faulty, Memory};
use crate::verity::Params;

const NAME: &str = "dir/file";

fn key() -> Arc<SigningKey> {
    let pair = generate(KeyAlgorithm::P256).unwrap();
    Arc::new(SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap())
}

fn mint(key: &Arc<SigningKey>, formats: &str) -> Mint {
    let formats: FormatSet = formats.parse().unwrap();
    Mint::new(key.clone(), None, Vec::new(), formats).unwrap()
}

fn ring(key: &SigningKey) -> Keyring {
    Keyring::new(vec![TrustedKey::new(key.public_key().clone(), "test")])
}

fn path() -> StorePath {
    StorePath::parse(NAME.as_bytes()).unwrap()
}

/// A store with one file that `key` signed.
async fn signed(key: &Arc<SigningKey>) -> Arc<dyn Store> {
    let memory = Memory::new();
    memory.put_dir("dir").unwrap();
    memory.put(NAME, &[7; 20_000]).unwrap();
    let store: Arc<dyn Store> = Arc::new(memory);
    let sealer = Sealer {
        carrier: Arc::new(Sidecar::new(store.clone())),
        store: store.clone(),
        mint: mint(key, "native"),
        own: ring(key),
        params: Params::default(),
        namespace: String::new(),
        expires: None,
        dated: false,
        force: false,
        drop_behind: false,
    };
    assert_eq!(sealer.seal(&path(), &|_| ()).await.unwrap(), Sealed::Signed);
    store
}

fn rotator(store: Arc<dyn Store>, carriers: Carriers, old: &SigningKey, new: &Arc<SigningKey>) -> Rotator {
    let trusted = ring(old);
    Rotator {
        store,
        carriers,
        mint: mint(new, "native,ima-v3,ima-v2"),
        own: ring(new),
        replaced: trusted.get(&old.key_id()).cloned(),
        trusted,
        namespace: String::new(),
    }
}

/// The key ids of the statement, and the number of IMA signatures.
async fn state(store: &Arc<dyn Store>) -> (Vec<KeyId>, usize) {
    let open = Sidecar::new(store.clone()).open(&path()).await.unwrap();
    (read_envelope(&open.evidence.statement.unwrap()).unwrap().key_ids, open.evidence.ima.len())
}

#[tokio::test]
async fn whatever_call_of_the_store_fails_the_old_or_the_new_evidence_is_there_whole() {
    let (old, new) = (key(), key());
    let before = (vec![old.key_id()], 0);
    let after = (vec![new.key_id()], 2);
    for fault in [Fault::Error(crate::store::StoreErrorKind::Io), Fault::ShortRead, Fault::Flip] {
        let (mut failed, mut n) = (0, 0);
        loop {
            n += 1;
            let store = signed(&old).await;
            let faulty = Faulty::new(store.clone());
            faulty.fail_at(n, fault);
            let shared: Arc<dyn Store> = Arc::new(faulty.clone());
            let rotator =
                rotator(shared.clone(), Carriers::over(&shared, &[CarrierKind::Sidecar]), &old, &new);
            let result = rotator.rotate(&path(), 0, &|_| ()).await;
            let now = state(&store).await;
            assert!(now == before || now == after, "{fault:?} at {n}: {now:?} after {result:?}");
            assert_eq!(result.is_ok(), now == after, "{fault:?} at {n}: {result:?}");
            failed += u32::from(result.is_err());
            if faulty.calls() < n {
                break;
            }
            // Nothing that a fault left behind is in the way of another run.
            faulty.reset();
            rotator.rotate(&path(), 0, &|_| ()).await.unwrap();
            assert_eq!(state(&store).await, after, "{fault:?} at {n}");
        }
        assert!(failed >= 2 && n > 10, "{fault:?}: {failed} of {n}");
    }
}

/// A sidecar in which somebody signs again whenever evidence is opened.
struct Raced(Sidecar, AtomicBool);

impl Carrier for Raced {
    fn kind(&self) -> CarrierKind {
        self.0.kind()
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>> {
        Box::pin(async move {
            let open = self.0.open(path).await?;
            if self.1.load(Ordering::Relaxed) {
                self.0.update(path, &open, &open.evidence).await?;
            }
            Ok(open)
        })
    }

    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>> {
        self.0.stamp(path)
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        tree_offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>> {
        self.0.create(path, tree_offset)
    }

    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        open: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>> {
        self.0.update(path, open, evidence)
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>> {
        self.0.remove(path)
    }
}

#[tokio::test]
async fn what_somebody_else_signed_meanwhile_is_not_overwritten() {
    let (old, new) = (key(), key());
    let store = signed(&old).await;
    let raced = Arc::new(Raced(Sidecar::new(store.clone()), AtomicBool::new(true)));
    let rotator = rotator(store.clone(), Carriers::new(vec![raced.clone()]), &old, &new);
    let result = rotator.rotate(&path(), 0, &|_| ()).await;
    assert!(matches!(result, Err(SealError::Changed(_))), "{result:?}");
    assert_eq!(state(&store).await, (vec![old.key_id()], 0));
    raced.1.store(false, Ordering::Relaxed);
    assert_eq!(rotator.rotate(&path(), 0, &|_| ()).await.unwrap(), Sealed::Signed);
    assert_eq!(rotator.rotate(&path(), 0, &|_| ()).await.unwrap(), Sealed::Unchanged);
    assert_eq!(state(&store).await, (vec![new.key_id()], 2));
}
