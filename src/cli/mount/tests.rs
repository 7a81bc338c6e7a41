//! What is told of a gateway when its mount fails.

use super::*;
use crate::event::Cause;
use crate::export::Item;
use crate::sign::{KeyAlgorithm, SigningKey, Statement, TrustedKey, generate, sign_statement};
use crate::store::{Fault, Faulty, Memory, Store, StoreErrorKind};
use crate::verity::{Descriptor, Params, reference};

/// Read in several steps.
const SIZE: usize = 2_500_000;

/// A mount with the file `f`, whose evidence stands in the proof directory.
fn mount() -> (Memory, Keyring) {
    let pair = generate(KeyAlgorithm::Ed25519).unwrap();
    let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
    let content: Vec<u8> = (0..SIZE).map(|n| (n / 5 % 256).to_le_bytes()[0]).collect();
    let params = Params::default();
    let root_hash = reference::root_and_tree(&content, &params).0;
    let descriptor = Descriptor { params, size: SIZE as u64, root_hash };
    let statement = Statement {
        namespace: String::new(),
        path: b"f".to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: params.block_size,
        version: 1,
        expires: None,
        signed: None,
    };
    let store = Memory::new();
    store.put("f", &content).unwrap();
    for (item, value) in [
        (Item::Status, b"verified\n".to_vec()),
        (Item::Digest, descriptor.file_digest().to_string().into_bytes()),
        (Item::Descriptor, descriptor.encode().to_vec()),
        (Item::Statement, sign_statement(&statement, &[&key]).unwrap()),
    ] {
        store.put(format!(".verity/f/{}", item.file_name()), &value).unwrap();
    }
    (store, Keyring::new(vec![TrustedKey::new(key.public_key().clone(), "test")]))
}

fn checker(store: Arc<dyn crate::store::Store>, keyring: &Keyring) -> Checker {
    Checker {
        store,
        keyring: keyring.clone(),
        namespace: String::new(),
        above: StorePath::root(),
        proofs: StorePath::parse(b".verity").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_call_fails_no_gateway_is_accused_of_lying() {
    let (store, keyring) = mount();
    let faulty = Faulty::new(Arc::new(store));
    let checker = checker(Arc::new(faulty.clone()), &keyring);
    let path = StorePath::parse(b"f").unwrap();
    let good = checker.check(&path, |_| ()).await.unwrap();
    assert!(matches!(good.verdict, Verdict::Good { .. }) && good.word == Word::Right, "{good:?}");
    let calls = faulty.calls();
    assert!(calls > 20, "only {calls} calls");
    for kind in
        [StoreErrorKind::Io, StoreErrorKind::Access, StoreErrorKind::Exhausted, StoreErrorKind::NotFound]
    {
        for n in 0..=calls {
            faulty.reset();
            faulty.fail_at(n, Fault::Error(kind));
            match checker.check(&path, |_| ()).await {
                Ok(Checked { verdict: Verdict::Bad(rejection), word, .. }) => {
                    assert_eq!(rejection.cause, Cause::Unsigned, "{kind:?} at {n}");
                    assert_ne!(word, Word::FalselyVerified, "{kind:?} at {n}");
                }
                Ok(Checked { verdict: Verdict::Withheld(_), word, .. }) => {
                    assert_eq!(word, Word::Nothing, "{kind:?} at {n}");
                }
                // A digest or a status that is not told changes nothing of the file.
                Ok(Checked { verdict: Verdict::Good { .. }, .. }) | Err(_) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_the_gateway_refuses_is_told_with_what_it_says_afterwards() {
    let (store, keyring) = mount();
    let faulty = Faulty::new(Arc::new(store.clone()));
    let checker = checker(Arc::new(faulty.clone()), &keyring);
    let path = StorePath::parse(b"f").unwrap();
    checker.check(&path, |_| ()).await.unwrap();
    let calls = faulty.calls();
    // The last call is the read behind the end, and those before it read the data.
    faulty.reset();
    faulty.fail_at(calls - 2, Fault::Error(StoreErrorKind::Io));
    let progress = |_| store.put(".verity/f/status", b"bad-block: block 300").unwrap();
    let checked = checker.check(&path, progress).await.unwrap();
    assert!(matches!(checked.verdict, Verdict::Withheld(_)), "{checked:?}");
    assert_eq!(checked.status.as_deref(), Some("bad-block: block 300"));
    assert_eq!(checked.word, Word::Right);
}

/// The statement that the mount shows.
async fn statement(store: &Memory) -> bytes::Bytes {
    let path = StorePath::parse(b".verity/f/statement").unwrap();
    store.open(&path).await.unwrap().read_at(0, 1 << 16).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_signed_anew_meanwhile_makes_no_liar_of_the_gateway() {
    let (store, keyring) = mount();
    let (other, _) = mount();
    let path = StorePath::parse(b"f").unwrap();
    let checker = checker(Arc::new(store.clone()), &keyring);
    let fresh = statement(&other).await;
    let progress = |_| {
        store.mutate("f", |bytes| bytes.fill(0)).unwrap();
        store.put(".verity/f/statement", &fresh).unwrap();
    };
    let error = checker.check(&path, progress).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Stale, "{error}");
    // Without other evidence it is the gateway that changed it.
    let (store, keyring) = mount();
    let checker = self::checker(Arc::new(store.clone()), &keyring);
    let checked = checker.check(&path, |_| store.mutate("f", |bytes| bytes.fill(0)).unwrap()).await.unwrap();
    assert_eq!(checked.word, Word::FalselyVerified, "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_another_key_beside_a_bad_one_excuses_the_gateway() {
    let (store, keyring) = mount();
    let (other, others) = mount();
    let path = StorePath::parse(b"f").unwrap();
    let (own, foreign) = (statement(&store).await, statement(&other).await);
    let mut envelope: serde_json::Value = serde_json::from_slice(&own).unwrap();
    let foreign: serde_json::Value = serde_json::from_slice(&foreign).unwrap();
    // The signature is that of another key, under the name of the trusted one.
    envelope["signatures"][0]["sig"] = foreign["signatures"][0]["sig"].clone();
    store.put(".verity/f/statement", &serde_json::to_vec(&envelope).unwrap()).unwrap();
    let check = async |keyring: &Keyring| {
        checker(Arc::new(store.clone()), keyring).check(&path, |_| ()).await.unwrap()
    };
    assert_eq!(check(&keyring).await.word, Word::FalselyVerified);
    envelope["signatures"].as_array_mut().unwrap().push(foreign["signatures"][0].clone());
    store.put(".verity/f/statement", &serde_json::to_vec(&envelope).unwrap()).unwrap();
    assert!(matches!(check(&keyring).await.word, Word::Wrong(_)));
    assert_eq!(check(&others).await.word, Word::Right);
}
