//! What a repair leaves alone: what is newer, what is of another version, what was removed, and rights.

use std::sync::Arc;
use std::time::Duration;

use nfs_verity::carrier::{Appended, BUNDLE_XATTR, Carrier, CarrierKind, Evidence, Sidecar, Xattr};
use nfs_verity::export::{Mended, Repair};
use nfs_verity::sign::{
    HashName, ImaKind, KeyAlgorithm, Keyring, SigningKey, TrustedKey, generate, sign_ima,
};
use nfs_verity::store::{Fault, Memory, Store, StoreErrorKind};

use super::super::scene::{Gate, evidence, shared};
use super::super::support::content;
use super::repair::{AT_ONCE, file, is_good, mender, renew, seal_in};
use super::{FILE, SIZE, Scene};

/// A gate that repairs when it is told to, over `count` stores with evidence in the sidecar or of this `kind`.
async fn mender_of(scene: &Scene, count: usize, kind: CarrierKind) -> Gate {
    scene
        .gate_with(count, |options| {
            options.carriers = vec![CarrierKind::Sidecar, kind];
            options.repair = Some(AT_ONCE);
            options.cache_bytes = 0;
        })
        .await
}

/// The scene with evidence in or behind the file.
async fn scene_in(kind: CarrierKind) -> Scene {
    let scene = Scene::new().await;
    for memory in &scene.memory {
        memory.remove(".nfs-verity").unwrap();
        seal_as(kind, &scene, memory, &scene.content).await;
    }
    scene
}

async fn seal_as(kind: CarrierKind, scene: &Scene, memory: &Memory, content: &[u8]) {
    let store = shared(memory);
    match kind {
        CarrierKind::Appended => seal_in(&Appended::new(store), scene, content).await,
        _ => seal_in(&Xattr::new(Sidecar::new(store)), scene, content).await,
    }
}

async fn bundle_of(memory: &Memory) -> Option<Vec<u8>> {
    let file = memory.open(&file()).await.unwrap();
    file.get_xattr(BUNDLE_XATTR, 65536).await.unwrap().map(|value| value.to_vec())
}

/// Calls to the first store that a repair of what `harm` does takes.
async fn calls(scene: Scene, kind: CarrierKind) -> u64 {
    let gate = mender_of(&scene, 2, kind).await;
    scene.faulty[0].reset();
    let mended = gate.export.repair(&file()).await;
    assert!(matches!(mended[0], Mended::Repaired { .. }), "{mended:?}");
    scene.faulty[0].calls()
}

/// Repairs, and lets `meanwhile` happen while the call number `n` to the first store is under way; whether it
/// came to that.
async fn while_at(
    scene: &Arc<Scene>,
    kind: CarrierKind,
    n: u64,
    meanwhile: impl AsyncFnOnce(),
) -> (bool, Vec<Mended>) {
    let gate = mender_of(scene, 2, kind).await;
    scene.faulty[0].reset();
    scene.faulty[0].fail_at(n, Fault::Stall);
    let repair = tokio::spawn(async move { gate.export.repair(&file()).await });
    let stalled = scene.faulty[0].until_stalled(1);
    // Calls that cannot wait stall at the next one that can; the last may have none.
    let stalled = tokio::time::timeout(Duration::from_millis(500), stalled).await.is_ok();
    meanwhile().await;
    scene.faulty[0].release();
    (stalled, repair.await.unwrap())
}

#[tokio::test]
async fn evidence_in_the_attributes_of_a_newer_file_is_never_replaced() {
    let harmed = async || {
        let scene = scene_in(CarrierKind::Xattr).await;
        scene.memory[0].put(FILE, &scene.content).unwrap();
        scene
    };
    for n in 1..=calls(harmed().await, CarrierKind::Xattr).await {
        let scene = Arc::new(harmed().await);
        let newer = content(77, SIZE - 5);
        let mut proof = None;
        let (stalled, _) = while_at(&scene, CarrierKind::Xattr, n, async || {
            // As rename does, with the evidence in it.
            let other = Memory::new();
            other.put(FILE, &newer).unwrap();
            seal_as(CarrierKind::Xattr, &scene, &other, &newer).await;
            proof = bundle_of(&other).await;
            let mut writer = scene.memory[0].create(&file(), &Sidecar::scratch()).await.unwrap();
            let there = other.open(&file()).await.unwrap();
            writer.write_at(0, &newer).await.unwrap();
            let attributes = nfs_verity::store::Attributes::of(&*there).await.unwrap();
            writer.set_attributes(&attributes).await.unwrap();
            writer.commit().await.unwrap();
        })
        .await;
        if stalled {
            assert!(scene.memory[0].bytes(FILE).unwrap() == newer, "{n}");
            assert!(bundle_of(&scene.memory[0]).await == proof, "{n}");
        }
    }
}

#[tokio::test]
async fn evidence_that_comes_and_cannot_be_read_at_once_is_not_taken_for_what_was_there() {
    // The second version is there, and not signed yet.
    let harmed = async || {
        let scene = Scene::new().await;
        renew(&scene, &scene.memory[0]).await;
        scene.memory[0].remove(evidence(FILE)).unwrap();
        scene
    };
    let mut overwritten = 0;
    for n in 1..=calls(harmed().await, CarrierKind::Sidecar).await {
        let scene = Arc::new(harmed().await);
        let newer = scene.memory[0].bytes(FILE).unwrap();
        let mut was_there = false;
        let (stalled, _) = while_at(&scene, CarrierKind::Sidecar, n, async || {
            was_there = scene.memory[0].bytes(FILE).unwrap() == newer;
            let proof = Memory::new();
            renew(&scene, &proof).await;
            scene.memory[0].put(evidence(FILE), &proof.bytes(evidence(FILE)).unwrap()).unwrap();
            scene.faulty[0].fail_at(n + 1, Fault::Error(StoreErrorKind::Io));
        })
        .await;
        overwritten += usize::from(stalled && was_there && scene.memory[0].bytes(FILE).unwrap() != newer);
    }
    // What comes when the evidence was looked at: in the last call of the look, and in the one after it.
    assert!(overwritten <= 2, "{overwritten}");
}

#[tokio::test]
async fn of_several_versions_elsewhere_the_one_that_is_here_is_meant() {
    for damaged in [false, true] {
        let scene = Scene::new().await;
        let (newer, proof) = renew(&scene, &scene.memory[0]).await;
        renew(&scene, &scene.memory[2]).await;
        scene.memory[0].remove(evidence(FILE)).unwrap();
        if damaged {
            scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        }
        let before = scene.memory[0].bytes(FILE).unwrap();
        let mended = mender_of(&scene, 3, CarrierKind::Xattr).await.export.repair(&file()).await;
        assert!(scene.memory[0].bytes(FILE).unwrap() == before, "{mended:?}");
        if damaged {
            assert!(
                matches!(&mended[0], Mended::Left { reason } if reason.contains("versions")),
                "{mended:?}"
            );
            continue;
        }
        assert_eq!(mended[0], Mended::Repaired { what: "evidence", bytes: 0 });
        assert!(before == newer && scene.memory[0].bytes(evidence(FILE)).unwrap().len() == proof.len());
    }
}

#[tokio::test]
async fn data_and_the_evidence_in_their_file_come_together() {
    for kind in [CarrierKind::Appended, CarrierKind::Xattr] {
        let harmed = async || {
            let scene = scene_in(kind).await;
            scene.memory[0].put(FILE, &content(5, SIZE)).unwrap();
            scene
        };
        for n in 1..=calls(harmed().await, kind).await {
            let scene = harmed().await;
            let old = scene.memory[0].bytes(FILE).unwrap();
            let gate = mender_of(&scene, 2, kind).await;
            scene.faulty[0].reset();
            scene.faulty[0].fail_at(n, Fault::Error(StoreErrorKind::Io));
            gate.export.repair(&file()).await;
            let now = scene.memory[0].bytes(FILE).unwrap();
            if now != old {
                assert!(now.starts_with(&scene.content), "{kind} {n}");
                let is_signed = match kind {
                    CarrierKind::Appended => now.len() > SIZE,
                    _ => bundle_of(&scene.memory[0]).await == bundle_of(&scene.memory[1]).await,
                };
                assert!(is_signed, "{kind} {n}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_was_removed_stays_so_unless_it_is_asked_for_and_gets_no_rights_from_elsewhere() {
    let scene = Scene::new().await;
    scene.memory[0].remove(FILE).unwrap();
    scene.memory[1].set_attr(FILE, 0o4755, 7, 8).unwrap();
    let gate = scene
        .gate_with(2, |options| options.repair = Some(Repair { settle: Duration::ZERO, restore: false }))
        .await;
    let mended = gate.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Left { reason } if reason.contains("removed")), "{mended:?}");
    assert_eq!((scene.memory[0].bytes(FILE), &mended[1]), (None, &Mended::Well));
    scene.memory[0].put("new", b"").unwrap();
    let new = scene.memory[0].stat(&nfs_verity::store::StorePath::parse(b"new").unwrap()).await.unwrap();
    let mended = mender(&scene).await.export.repair(&file()).await;
    assert!(is_good(&scene, 0).await, "{mended:?}");
    let attr = scene.memory[0].stat(&file()).await.unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o755, new.uid, new.gid));
}

#[tokio::test]
async fn evidence_of_a_later_release_is_left() {
    let scene = Scene::new().await;
    scene.memory[0].mutate(evidence(FILE), |bytes| bytes[8] += 1).unwrap();
    scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
    let before = (scene.memory[0].bytes(FILE), scene.memory[0].bytes(evidence(FILE)));
    let mended = mender(&scene).await.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Left { reason } if reason.contains("later release")), "{mended:?}");
    assert!((scene.memory[0].bytes(FILE), scene.memory[0].bytes(evidence(FILE))) == before);
}

#[tokio::test]
async fn a_repair_waits_for_files_that_have_to_be_hashed_as_a_whole() {
    let (mut n, mut stalled) = (1, true);
    while stalled {
        let scene = scene_in(CarrierKind::Xattr).await;
        for memory in &scene.memory {
            // Without the tree.
            memory.remove(".nfs-verity").unwrap();
        }
        scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        let gate = scene.gate_with(2, |options| {
            options.carriers = vec![CarrierKind::Xattr];
            options.repair = Some(AT_ONCE);
            options.whole_files.patience = Duration::ZERO;
        });
        let gate = gate.await;
        scene.faulty[0].reset();
        scene.faulty[0].fail_at(n, Fault::Stall);
        let repair = tokio::spawn(async move { gate.export.repair(&file()).await });
        let wait = scene.faulty[0].until_stalled(1);
        stalled = tokio::time::timeout(Duration::from_millis(500), wait).await.is_ok();
        // Longer than anybody waits who is not patient.
        tokio::time::sleep(Duration::from_millis(10)).await;
        scene.faulty[0].release();
        let mended = repair.await.unwrap();
        assert!(matches!(mended[0], Mended::Repaired { .. }), "{n}: {mended:?}");
        assert!(mended[1] == Mended::Well && scene.memory[0].bytes(FILE).unwrap() == scene.content);
        n += 1;
    }
    assert!(n > 10, "{n}");
}

#[tokio::test]
async fn evidence_that_only_its_data_made_look_wrong_stays_when_they_are_put_back() {
    let mut scene = Scene::new().await;
    let pair = generate(KeyAlgorithm::P256).unwrap();
    let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
    let trusted = TrustedKey::new(key.public_key().clone(), "whole");
    scene.keyring = Keyring::new(vec![trusted]).with_formats("ima-v2".parse().unwrap());
    let digest = HashName::Sha256.digest(&scene.content);
    let value = sign_ima(ImaKind::File, HashName::Sha256, &digest, &key, key.public_key().ima_key_id());
    let signed = Evidence { ima: vec![value.unwrap().into()], ..Evidence::default() };
    for memory in &scene.memory {
        let sidecar = Sidecar::new(shared(memory));
        let open = sidecar.open(&file()).await.unwrap();
        let signed = Evidence { descriptor: open.evidence.descriptor.clone(), ..signed.clone() };
        sidecar.update(&file(), &open, &signed).await.unwrap();
    }
    scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
    let proof = scene.memory[0].bytes(evidence(FILE));
    let mended = mender(&scene).await.export.repair(&file()).await;
    assert_eq!(mended, [Mended::Repaired { what: "data", bytes: SIZE as u64 }, Mended::Well]);
    assert!(is_good(&scene, 0).await);
    assert!(scene.memory[0].bytes(evidence(FILE)) == proof);
}
