//! Evidence that is damaged in every way there is, and evidence that says something else.

use nfs_verity::carrier::bundle::Head;
use nfs_verity::event::Cause;
use nfs_verity::export::{ExportError, READ_MAX};
use nfs_verity::sign::{Keyring, SigningKey, Statement};
use nfs_verity::store::Memory;
use nfs_verity::verity::{BlockSize, Params};

use super::dice::reseal;
use super::scene::{Answer, Data, Events, Gate, Refused, caller, eventually, evidence, shared, small_blocks};
use super::support::{content, key_and_trust, seal, seal_with};
use bytes::Bytes;

/// One signed file `f`.
struct Scene {
    store: Memory,
    key: SigningKey,
    keyring: Keyring,
    content: Vec<u8>,
    bundle: Vec<u8>,
}

impl Scene {
    async fn new(size: usize) -> Self {
        let (key, keyring) = key_and_trust();
        let (store, content) = (Memory::new(), content(5, size));
        store.put("f", &content).unwrap();
        seal(&shared(&store), "f", &content, small_blocks(), &key).await;
        let bundle = store.bytes(evidence("f")).unwrap();
        Self { store, key, keyring, content, bundle }
    }

    async fn gate(&self) -> Gate {
        Gate::new(shared(&self.store), &self.keyring).await
    }

    /// What a gate that knows nothing yet says when this is the evidence.
    async fn with(&self, bundle: &[u8]) -> Answer<Data> {
        self.store.put(evidence("f"), bundle).unwrap();
        self.gate().await.start("f").await
    }

    /// Signs `f` with a changed statement and other parameters.
    async fn sign(&self, key: &SigningKey, params: Params, change: impl FnOnce(&mut Statement)) {
        seal_with(&shared(&self.store), "f", &self.content, params, key, change).await;
    }

    fn is_right(&self, answer: &Answer<Data>) -> bool {
        answer.as_ref().is_ok_and(|given| given.is_all_of(&self.content, 0, READ_MAX))
    }

    /// The bundle with another head and the same tree.
    fn with_head(&self, change: impl FnOnce(&mut Head)) -> Vec<u8> {
        let extent = Head::extent(&self.bundle, self.bundle.len() as u64).unwrap();
        let mut head = Head::parse(&Bytes::copy_from_slice(&self.bundle[..extent])).unwrap();
        change(&mut head);
        [&head.encode().unwrap()[..], &self.bundle[extent..]].concat()
    }
}

#[tokio::test]
async fn evidence_cut_at_any_length_is_refused() {
    for size in [0, 1000, 2048] {
        let scene = Scene::new(size).await;
        for length in 0..scene.bundle.len() {
            let answer = scene.with(&scene.bundle[..length]).await;
            assert_eq!(answer, Err(ExportError::Corrupt(Cause::MalformedEvidence)), "{length}");
        }
        let longer = [&scene.bundle[..], b"\0"].concat();
        assert_eq!(scene.with(&longer).await, Err(ExportError::Corrupt(Cause::MalformedEvidence)));
        assert!(scene.is_right(&scene.with(&scene.bundle).await));
    }
}

#[tokio::test]
async fn evidence_cut_while_it_is_in_use_gives_errors_and_right_bytes() {
    // Three levels: the root, two blocks, 33 blocks.
    let scene = Scene::new(33 * 32 * 1024).await;
    let tree = scene.bundle.len() - 36 * 1024;
    let last = scene.content.len() as u64 - 1024;
    for length in (0..tree).step_by(1111).chain((tree..scene.bundle.len()).step_by(500)) {
        let gate = scene.gate().await;
        let (handle, _) = gate.find("f").await.unwrap();
        assert!(gate.read(&handle, 0, 1024).await.unwrap().is_all_of(&scene.content, 0, 1024));
        scene.store.mutate(evidence("f"), |bundle| bundle.truncate(length)).unwrap();
        let malformed = Err(ExportError::Corrupt(Cause::MalformedEvidence));
        assert_eq!(gate.read(&handle, last, 1024).await, malformed, "{length}");
        for offset in [0, 1024, 40_000, 600_000] {
            match gate.read(&handle, offset, 5000).await {
                Ok(given) => assert!(given.is_of(&scene.content, offset, 5000), "{length}, {offset}"),
                Err(error) => assert_eq!(error, ExportError::Corrupt(Cause::MalformedEvidence), "{length}"),
            }
        }
        scene.store.mutate(evidence("f"), |bundle| bundle.clone_from(&scene.bundle)).unwrap();
        assert!(gate.read(&handle, last, 1024).await.is_ok() || length < tree, "{length}");
    }
}

#[tokio::test]
async fn evidence_with_any_bit_flipped_is_refused() {
    for size in [0, 1000, 2048] {
        let scene = Scene::new(size).await;
        for at in 0..scene.bundle.len() {
            // Between head and tree there are only zeros: one bit of each byte will do.
            let bits = if (1500..8192).contains(&at) { at % 8..at % 8 + 1 } else { 0..8 };
            for bit in bits {
                let mut flipped = scene.bundle.clone();
                flipped[at] ^= 1 << bit;
                let cause = if at < 8192 { Cause::MalformedEvidence } else { Cause::BadTreeBlock };
                let answer = scene.with(&flipped).await;
                assert_eq!(answer, Err(ExportError::Corrupt(cause)), "byte {at} bit {bit}");
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_under_a_right_checksum_makes_no_other_bytes() {
    for size in [0, 1000, 2048] {
        let scene = Scene::new(size).await;
        let head = u32::from_le_bytes(scene.bundle[12..16].try_into().unwrap()) as usize;
        let mut passed = Vec::new();
        for at in 0..head {
            for bit in 0..8 {
                let mut flipped = scene.bundle.clone();
                flipped[at] ^= 1 << bit;
                reseal(&mut flipped);
                let answer = scene.with(&flipped).await;
                if answer.is_ok() {
                    assert!(scene.is_right(&answer), "byte {at} bit {bit}: {answer:?}");
                    passed.push((at, bit));
                }
            }
        }
        // The checksum itself was made right again, and a letter of the key id may be of either case.
        passed.retain(|(at, _)| *at < head - 32);
        assert!(passed.len() <= 64, "{passed:?}");
    }
}

/// What is reported of `f` as a whole.
fn refused(cause: Cause) -> Refused {
    Refused {
        path: b"f".to_vec(),
        cause,
        block: None,
        level: None,
        hashes: false,
        client: Some(caller().client),
        served: false,
    }
}

fn reported(events: &Events) -> Vec<Refused> {
    events.refused()
}

/// Asks a fresh gate; `f` is refused for this cause, as a whole, and that is reported.
async fn is_refused(scene: &Scene, error: ExportError) {
    let gate = scene.gate().await;
    let (handle, _) = gate.find("f").await.unwrap();
    gate.attributes(&handle).await.unwrap();
    assert_eq!(reported(&gate.events), [], "nothing was asked that is refused");
    for _ in 0..2 {
        for (offset, count) in [(0, READ_MAX), (0, 0), (1500, 10), (1 << 40, 1)] {
            assert_eq!(gate.read(&handle, offset, count).await, Err(error));
        }
    }
    let access = gate.access(&handle).await.unwrap();
    let (cause, reports) = match error {
        ExportError::Denied(cause) => (cause, 9),
        ExportError::Corrupt(cause) => (cause, 8),
        other => panic!("{other}"),
    };
    assert_eq!(access.read, reports == 8, "{error}");
    assert_eq!(reported(&gate.events), vec![refused(cause); reports], "{error}");
}

#[tokio::test]
async fn each_wrong_statement_has_its_cause() {
    use ExportError::{Corrupt, Denied};
    let scene = Scene::new(2500).await;
    let params = small_blocks();
    let (stranger, _) = key_and_trust();

    scene.sign(&stranger, params, |_| ()).await;
    is_refused(&scene, Denied(Cause::UnknownKey)).await;
    scene.sign(&scene.key, params, |s| s.namespace = "other".to_owned()).await;
    is_refused(&scene, Denied(Cause::WrongNamespace)).await;
    scene.sign(&scene.key, params, |s| s.path = b"g".to_vec()).await;
    is_refused(&scene, Denied(Cause::WrongPath)).await;
    scene.sign(&scene.key, params, |s| s.expires = Some(1_000_000_000)).await;
    is_refused(&scene, Denied(Cause::Expired)).await;
    scene.sign(&scene.key, params, |s| s.size += 1).await;
    is_refused(&scene, Corrupt(Cause::WrongSize)).await;
    scene.sign(&scene.key, params, |s| s.block_size = BlockSize::new(2048).unwrap()).await;
    is_refused(&scene, Corrupt(Cause::WrongDigest)).await;
    let mut digest = None;
    let other = Params { block_size: BlockSize::new(2048).unwrap(), ..params };
    scene.sign(&scene.key, other, |s| digest = Some(s.file_digest)).await;
    scene.sign(&scene.key, params, |s| s.file_digest = digest.unwrap()).await;
    is_refused(&scene, Corrupt(Cause::WrongDigest)).await;
}

#[tokio::test]
async fn evidence_that_is_none_for_this_file_has_its_cause() {
    use ExportError::{Corrupt, Denied};
    let scene = Scene::new(2500).await;
    let place = evidence("f");
    seal(&shared(&scene.store), "g", &scene.content, small_blocks(), &scene.key).await;
    scene.store.put(&place, &scene.store.bytes(evidence("g")).unwrap()).unwrap();
    is_refused(&scene, Denied(Cause::WrongPath)).await;
    scene.store.put(&place, &scene.content).unwrap();
    is_refused(&scene, Corrupt(Cause::MalformedEvidence)).await;
    scene.store.put(&place, b"").unwrap();
    is_refused(&scene, Corrupt(Cause::MalformedEvidence)).await;
    for signed in [true, false] {
        // A signature that is taken away, or that was made for something else.
        let spoiled = scene.with_head(|head| {
            let text = String::from_utf8(head.evidence.statement.clone().unwrap().to_vec()).unwrap();
            let (start, signature) = text.split_once(r#""sig":""#).unwrap();
            let signature = if signed { format!("AAAA{}", &signature[4..]) } else { r#""}]}"#.to_owned() };
            head.evidence.statement = Some(Bytes::from(format!(r#"{start}"sig":"{signature}"#)));
        });
        scene.store.put(&place, &spoiled).unwrap();
        let expected = if signed { Denied(Cause::BadSignature) } else { Corrupt(Cause::MalformedEvidence) };
        is_refused(&scene, expected).await;
    }
    scene.store.remove(&place).unwrap();
    is_refused(&scene, Denied(Cause::Unsigned)).await;
    scene.store.put_dir(&place).unwrap();
    is_refused(&scene, Denied(Cause::Unsigned)).await;
    scene.store.remove(&place).unwrap();
    scene.store.put("elsewhere", &scene.bundle).unwrap();
    scene.store.put_symlink(&place, b"../elsewhere").unwrap();
    is_refused(&scene, Denied(Cause::Unsigned)).await;
    scene.store.put(&place, &scene.bundle).unwrap();
    for other in [&scene.content[1..], &[&scene.content[..], b"\0"].concat()] {
        scene.store.put("f", other).unwrap();
        is_refused(&scene, Corrupt(Cause::WrongSize)).await;
    }
    scene.store.put("f", &scene.content).unwrap();
    assert!(scene.is_right(&scene.gate().await.start("f").await));
}

#[tokio::test]
async fn a_moved_file_is_refused_with_its_evidence_and_without() {
    let scene = Scene::new(2500).await;
    scene.store.put("d/x", b"").unwrap();
    scene.store.rename("f", "d/f").unwrap();
    assert_eq!(scene.gate().await.start("d/f").await, Err(ExportError::Denied(Cause::Unsigned)));
    scene.store.put(evidence("d/f"), &scene.bundle).unwrap();
    assert_eq!(scene.gate().await.start("d/f").await, Err(ExportError::Denied(Cause::WrongPath)));
}

#[tokio::test]
async fn a_bad_block_is_reported_with_block_level_and_hashes() {
    let scene = Scene::new(40 * 1024).await;
    let gate = scene.gate().await;
    let (handle, _) = gate.find("f").await.unwrap();
    scene.store.mutate("f", |bytes| bytes[35 * 1024 + 7] ^= 4).unwrap();
    let bad = Err(ExportError::Corrupt(Cause::BadBlock));
    assert_eq!(gate.read(&handle, 35 * 1024 + 500, 1).await, bad);
    let block = Refused { block: Some(35), hashes: true, ..refused(Cause::BadBlock) };
    assert_eq!(reported(&gate.events), std::slice::from_ref(&block));
    // Up to the bad block, whatever was asked for, and on behind it.
    let whole = gate.read(&handle, 10, READ_MAX).await.unwrap();
    assert!(whole.is_of(&scene.content, 10, READ_MAX) && whole.bytes.len() == 35 * 1024 - 10);
    assert!(gate.read(&handle, 36 * 1024, READ_MAX).await.unwrap().eof);
    assert_eq!(reported(&gate.events), [block]);

    // The tree: one root block above two blocks of leaves, of which the second is damaged.
    let scene = Scene::new(40 * 1024).await;
    let gate = scene.gate().await;
    let (handle, _) = gate.find("f").await.unwrap();
    scene.store.mutate(evidence("f"), |bundle| *bundle.last_mut().unwrap() ^= 1).unwrap();
    let bad = Err(ExportError::Corrupt(Cause::BadTreeBlock));
    assert_eq!(gate.read(&handle, 33 * 1024, 1).await, bad);
    let leaves = Refused { block: Some(1), level: Some(0), hashes: true, ..refused(Cause::BadTreeBlock) };
    assert_eq!(reported(&gate.events), [leaves]);
    let start = gate.read(&handle, 0, READ_MAX).await.unwrap();
    assert!(start.is_of(&scene.content, 0, READ_MAX) && start.bytes.len() == 32 * 1024);
}

#[tokio::test]
async fn an_open_and_cached_file_expires() {
    let scene = Scene::new(2500).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expires = i64::try_from(now).unwrap() + 2;
    scene.sign(&scene.key, small_blocks(), |statement| statement.expires = Some(expires)).await;
    let gate = scene.gate().await;
    let (handle, _) = gate.find("f").await.unwrap();
    eventually("it expires", async || match gate.read(&handle, 0, READ_MAX).await {
        Ok(given) => {
            assert!(given.is_all_of(&scene.content, 0, READ_MAX));
            false
        }
        Err(error) => {
            assert_eq!(error, ExportError::Denied(Cause::Expired));
            true
        }
    })
    .await;
    assert!(!gate.access(&handle).await.unwrap().read);
}
