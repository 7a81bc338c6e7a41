//! The change attribute: it moves with all that clients are told of a file, and with nothing else.

use std::sync::Arc;

use nfs_verity::carrier::{Carrier, Sidecar};
use nfs_verity::event::Cause;
use nfs_verity::export::{Attr, ExportError, FileHandle};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{KeyAlgorithm, Keyring, Revoked, RevokedItem, SigningKey, TrustedKey, generate};
use nfs_verity::store::{Fault, Faulty, Memory, Store};
use nfs_verity::verity::Descriptor;

use super::scene::{CACHE, Gate, caller, eventually, evidence, shared, small_blocks};
use super::support::{content, key_and_trust, seal, seal_with};
use super::told::put;
use super::versions::parsed;

impl Gate {
    async fn change(&self, handle: &FileHandle) -> u64 {
        self.attributes(handle).await.unwrap().change
    }
}

struct Scene {
    store: Memory,
    key: SigningKey,
    keyring: Keyring,
    content: Vec<u8>,
}

impl Scene {
    /// One signed file `f` of 40 blocks: two levels of tree.
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let (store, content) = (Memory::new(), content(8, 40 * 1024));
        store.put("f", &content).unwrap();
        let scene = Self { store, key, keyring, content };
        scene.seal().await;
        scene
    }

    async fn seal(&self) {
        seal(&shared(&self.store), "f", &self.content, small_blocks(), &self.key).await;
    }

    async fn gate(&self) -> (Gate, FileHandle) {
        let gate = Gate::new(shared(&self.store), &self.keyring).await;
        let (file, _) = gate.find("f").await.unwrap();
        (gate, file)
    }
}

fn another_key() -> SigningKey {
    let pair = generate(KeyAlgorithm::Ed25519).unwrap();
    SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap()
}

fn ring(keys: &[(&SigningKey, &str)]) -> Keyring {
    Keyring::new(keys.iter().map(|(key, name)| TrustedKey::new(key.public_key().clone(), *name)).collect())
}

#[tokio::test]
async fn change_stays_while_nothing_changes() {
    let scene = Scene::new().await;
    let (gate, file) = scene.gate().await;
    let change = gate.change(&file).await;
    assert_ne!(change, scene.store.stat(&parsed("f")).await.unwrap().change, "the verdict is in it");
    gate.read(&file, 0, 100_000).await.unwrap();
    assert_eq!(gate.change(&file).await, change);
    // Trust that was read again, with a key more that has nothing to do with the file.
    gate.export.set_keyring(scene.keyring.clone());
    assert_eq!(gate.change(&file).await, change);
    gate.export.set_keyring(ring(&[(&scene.key, "test"), (&another_key(), "other")]));
    assert_eq!(gate.change(&file).await, change);
    // A verdict that is looked at again.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(gate.change(&file).await, change);
    let (after_restart, _) = scene.gate().await;
    assert_eq!(after_restart.change(&file).await, change);
}

#[tokio::test]
async fn refusals_stay_the_same_too() {
    let (key, keyring) = key_and_trust();
    let store = Memory::new();
    let data = content(9, 3000);
    for path in ["unsigned", "torn", "expired", "stranger"] {
        store.put(path, &data).unwrap();
    }
    let expire = |statement: &mut nfs_verity::sign::Statement| statement.expires = Some(1_000_000_000);
    seal_with(&shared(&store), "expired", &data, small_blocks(), &key, expire).await;
    seal(&shared(&store), "stranger", &data, small_blocks(), &another_key()).await;
    store.put(evidence("torn"), b"no bundle").unwrap();
    let gate = Gate::new(shared(&store), &keyring).await;
    let mut before = Vec::new();
    for path in ["unsigned", "torn", "expired", "stranger"] {
        before.push(gate.find(path).await.unwrap());
    }
    // Long enough for what tells the time to tell another.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let restarted = Gate::new(shared(&store), &keyring).await;
    for (file, attr) in before {
        assert_eq!(gate.attributes(&file).await.unwrap(), attr);
        assert_eq!(restarted.attributes(&file).await.unwrap(), attr);
    }
}

#[tokio::test]
async fn change_moves_with_trust_and_comes_back_with_it() {
    let scene = Scene::new().await;
    let (gate, file) = scene.gate().await;
    let good = gate.change(&file).await;
    let mut revoked = Revoked::default();
    revoked.add(RevokedItem::Key(scene.key.public_key().key_id()), "revoked.txt:1");
    gate.export.set_revoked(&revoked);
    let bad = gate.change(&file).await;
    assert_ne!(bad, good);
    assert!(gate.text(&file, "verity.status").await.starts_with("revoked: "));
    // The same key, revoked by another entry: the status says so.
    let mut otherwise = Revoked::default();
    otherwise.add(RevokedItem::Key(scene.key.public_key().key_id()), "revoked.txt:2");
    gate.export.set_revoked(&otherwise);
    assert!(![good, bad].contains(&gate.change(&file).await));
    gate.export.set_revoked(&Revoked::default());
    assert_eq!(gate.change(&file).await, good);
    // The signer's name is told, too.
    gate.export.set_keyring(ring(&[(&scene.key, "renamed")]));
    assert_ne!(gate.change(&file).await, good);
}

#[tokio::test]
async fn change_moves_with_the_evidence() {
    let scene = Scene::new().await;
    let (gate, file) = scene.gate().await;
    let mut seen = vec![gate.change(&file).await];
    let bundle = scene.store.bytes(evidence("f")).unwrap();
    // Signed anew; torn; torn otherwise; gone; there again.
    for step in 0..5 {
        let place = evidence("f");
        match step {
            0 => scene.seal().await,
            1 => scene.store.mutate(place, |bundle| bundle.truncate(50)).unwrap(),
            2 => scene.store.mutate(place, |bundle| bundle.truncate(40)).unwrap(),
            3 => Store::remove(&scene.store, &parsed(&place)).await.unwrap(),
            _ => scene.store.put(place, &bundle).unwrap(),
        }
        eventually("change moves", async || !seen.contains(&gate.change(&file).await)).await;
        seen.push(gate.change(&file).await);
        // READ and the rest know the same.
        let read = gate.export.read(file.as_bytes(), 0, 10, &caller()).await;
        assert_eq!(read.is_ok(), matches!(step, 0 | 4), "{step}");
        if let Ok(read) = read {
            assert_eq!(Some(&read.attr.change), seen.last());
        }
    }
}

#[tokio::test]
async fn change_moves_with_evidence_that_is_refused_for_the_same_cause() {
    let scene = Scene::new().await;
    let gate = Gate::new(shared(&scene.store), &Keyring::new(Vec::new())).await;
    let (file, attr) = gate.find("f").await.unwrap();
    let before =
        (gate.text(&file, "verity.status").await, gate.value(&file, "verity.statement").await.unwrap());
    let newer = |statement: &mut nfs_verity::sign::Statement| statement.version = 2;
    seal_with(&shared(&scene.store), "f", &scene.content, small_blocks(), &scene.key, newer).await;
    eventually("change moves", async || gate.change(&file).await != attr.change).await;
    assert_eq!(gate.text(&file, "verity.status").await, before.0);
    assert_ne!(gate.value(&file, "verity.statement").await.unwrap(), before.1);
}

#[tokio::test]
async fn every_answer_has_the_same_change() {
    let scene = Scene::new().await;
    scene.store.put_dir("d").unwrap();
    for mode in [Mode::Enforce, Mode::Warn] {
        for keyring in [&scene.keyring, &Keyring::new(Vec::new())] {
            let gate = Gate::try_new(shared(&scene.store), keyring, mode, CACHE).await.unwrap();
            let (export, me) = (&gate.export, caller());
            let root = export.root();
            let (file, looked_up) = export.lookup(root.as_bytes(), b"f", &me).await.unwrap();
            let mut all: Vec<Attr> = vec![looked_up];
            all.push(export.attributes(file.as_bytes(), &me).await.unwrap());
            all.push(export.resolve(b"/f", &me).await.unwrap().1);
            all.push(export.access(file.as_bytes(), &me).await.unwrap().1);
            all.push(export.stat_fs(file.as_bytes(), &me).await.unwrap().1);
            let described = export.describe(root.as_bytes(), &[b"f".to_vec()], &me).await;
            all.push(described[0].as_ref().unwrap().1);
            match export.read(file.as_bytes(), 0, 10, &me).await {
                Ok(read) => all.push(read.attr),
                Err(error) => assert_eq!(error, ExportError::Denied(Cause::UnknownKey)),
            }
            assert!(all.iter().all(|attr| *attr == all[0]), "{all:?}");
            let directory = gate.find("d").await.unwrap().1;
            assert_eq!(directory, scene.store.stat(&parsed("d")).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_damaged_block_shows_until_the_file_is_repaired() {
    let scene = Scene::new().await;
    scene.store.mutate("f", |content| content[5 * 1024] ^= 1).unwrap();
    let (gate, file) = scene.gate().await;
    let unread = gate.change(&file).await;
    assert_eq!(gate.text(&file, "verity.status").await, "verified", "nobody has read it");
    // Up to the bad block, and what comes with it tells already.
    let read = gate.export.read(file.as_bytes(), 0, 100_000, &caller()).await.unwrap();
    assert_eq!(read.data.len(), 5 * 1024);
    let damaged = gate.change(&file).await;
    assert_ne!(damaged, unread);
    assert_eq!(read.attr.change, damaged);
    assert_eq!(gate.text(&file, "verity.status").await, "bad-block: block 5");
    // It shows for as long as nothing changes, whatever else is read.
    for _ in 0..2 {
        let again = gate.read(&file, 5 * 1024, 10).await;
        assert_eq!(again, Err(ExportError::Corrupt(Cause::BadBlock)));
        assert!(gate.read(&file, 6 * 1024, 5000).await.is_ok());
        assert_eq!(gate.change(&file).await, damaged);
    }
    scene.store.mutate("f", |content| content.clone_from(&scene.content)).unwrap();
    assert!(![unread, damaged].contains(&gate.change(&file).await));
    assert_eq!(gate.text(&file, "verity.status").await, "verified");
}

#[tokio::test]
async fn a_damaged_tree_block_shows_until_the_evidence_is_repaired() {
    let scene = Scene::new().await;
    let bundle = scene.store.bytes(evidence("f")).unwrap();
    // The second of two leaves, which is the last block of the tree.
    scene.store.mutate(evidence("f"), |bundle| *bundle.last_mut().unwrap() ^= 1).unwrap();
    let (gate, file) = scene.gate().await;
    let before = gate.change(&file).await;
    assert_eq!(gate.read(&file, 39 * 1024, 10).await, Err(ExportError::Corrupt(Cause::BadTreeBlock)));
    assert_ne!(gate.change(&file).await, before);
    assert_eq!(gate.text(&file, "verity.status").await, "bad-tree-block: block 1 of tree level 0");
    scene.store.put(evidence("f"), &bundle).unwrap();
    eventually("the repair shows", async || gate.text(&file, "verity.status").await == "verified").await;
}

#[tokio::test]
async fn a_block_that_proves_good_after_all_is_not_held_against_the_file() {
    let scene = Scene::new().await;
    let faulty = Faulty::new(shared(&scene.store));
    let store: Arc<dyn Store> = Arc::new(faulty.clone());
    let gate = Gate::new(store, &scene.keyring).await;
    let (file, _) = gate.find("f").await.unwrap();
    let before = gate.change(&file).await;
    gate.read(&file, 0, 10).await.unwrap();
    faulty.fail_every(1, Fault::Flip);
    assert_eq!(gate.read(&file, 5 * 1024, 10).await, Err(ExportError::Corrupt(Cause::BadBlock)));
    faulty.reset();
    assert_eq!(gate.text(&file, "verity.status").await, "bad-block: block 5");
    gate.read(&file, 7 * 1024, 10).await.unwrap();
    assert_ne!(gate.change(&file).await, before);
    gate.read(&file, 5 * 1024, 10).await.unwrap();
    assert_eq!(gate.text(&file, "verity.status").await, "verified");
    assert_eq!(gate.change(&file).await, before);
}

#[tokio::test]
async fn a_second_signer_moves_change_and_is_told() {
    let scene = Scene::new().await;
    let second = another_key();
    let keyring = ring(&[(&scene.key, "first"), (&second, "second")]);
    let gate = Gate::new(shared(&scene.store), &keyring).await;
    let (file, attr) = gate.find("f").await.unwrap();
    let open = Sidecar::new(shared(&scene.store)).open(&parsed("f")).await.unwrap();
    let size = usize::try_from(open.tree_len().unwrap()).unwrap();
    let tree = open.read_tree(0, size).await.unwrap();
    let mut signed = open.evidence.clone();
    let envelope = signed.statement.take().unwrap();
    signed.statement = Some(nfs_verity::sign::add_signature(&envelope, &second).unwrap().into());
    put(&scene.store, "f", &signed, &tree).await;
    eventually("change moves", async || gate.change(&file).await != attr.change).await;
    let lines = gate.text(&file, "verity.signer").await;
    let ids = [&scene.key, &second].map(|key| key.public_key().key_id());
    assert_eq!(lines, format!("{} native first\n{} native second\n", ids[0], ids[1]));
    let descriptor = Descriptor::parse(&gate.value(&file, "verity.descriptor").await.unwrap()).unwrap();
    assert_eq!(descriptor.size, scene.content.len() as u64);
}
