//! Writing back: what is damaged on one store is put right there from another, never mixed, and never where
//! somebody has put something newer.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nfs_verity::carrier::bundle::TREE_OFFSET;
use nfs_verity::carrier::{Appended, Carrier, CarrierKind, Evidence, Sidecar, Xattr};
use nfs_verity::export::{Examination, Mended, READ_MAX, Repair};
use nfs_verity::sign::{Statement, sign_statement};
use nfs_verity::store::{Fault, Local, Memory, Store, StoreErrorKind, StorePath};
use nfs_verity::verity::{Descriptor, reference};

use super::super::scene::{Gate, OfStore, eventually, evidence, shared, small_blocks};
use super::super::support::{content, key_and_trust, seal};
use super::heal::HARMS;
use super::{FILE, NAMES, SIZE, Scene};

pub(super) const AT_ONCE: Repair = Repair { settle: Duration::ZERO, restore: true };

pub(super) fn file() -> StorePath {
    StorePath::parse(FILE.as_bytes()).unwrap()
}

/// A gate that repairs when it is told to, over the first two stores.
pub(super) async fn mender(scene: &Scene) -> Gate {
    let gate = Gate::with(scene.store(0), &scene.keyring, |options| {
        options.replicas = vec![scene.store(1)];
        options.repair = Some(AT_ONCE);
        options.cache_bytes = 0;
    });
    gate.await.unwrap()
}

/// Whether the store number `n` has all of the file, without help.
pub(super) async fn is_good(scene: &Scene, n: usize) -> bool {
    let gate = Gate::new(shared(&scene.memory[n]), &scene.keyring).await;
    let examined = gate.export.examine(&file(), |_| ()).await;
    let good = matches!(examined, Ok(Examination::Good { bytes, .. }) if bytes == SIZE as u64);
    good && scene.memory[n].bytes(FILE).unwrap() == scene.content
}

#[tokio::test]
async fn whatever_is_damaged_on_one_of_the_stores_is_whole_there_after_a_repair() {
    for (what, harm, _) in HARMS {
        for n in [0, 1] {
            let scene = Scene::new().await;
            harm(&scene.memory[n]);
            let other = scene.memory[1 - n].bytes(FILE);
            let other_evidence = scene.memory[1 - n].bytes(evidence(FILE));
            let gate = mender(&scene).await;
            let mended = gate.export.repair(&file()).await;
            assert!(is_good(&scene, n).await, "{what}: {mended:?}");
            assert_eq!(mended[1 - n], Mended::Well, "{what}");
            let Mended::Repaired { what: written, bytes } = &mended[n] else { panic!("{what}: {mended:?}") };
            let data = what.contains("data");
            assert_eq!(
                (*written, *bytes),
                if data { ("data", SIZE as u64) } else { ("evidence", 0) },
                "{what}"
            );
            // And nothing else was.
            assert_eq!(scene.memory[1 - n].bytes(FILE), other);
            assert_eq!(scene.memory[1 - n].bytes(evidence(FILE)), other_evidence);
            let told: Vec<_> = gate.events.of_stores();
            assert!(told.contains(&OfStore::Repaired {
                path: FILE.to_owned(),
                store: NAMES[n].to_owned(),
                what: written,
                bytes: *bytes,
            }));
            assert_eq!(gate.export.repair(&file()).await, [Mended::Well, Mended::Well], "{what}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_damaged_all_over_comes_back() {
    for n in [0, 1] {
        let scene = Scene::new().await;
        scene.memory[n].remove("d").unwrap();
        scene.memory[n].remove(".nfs-verity").unwrap();
        let mended = mender(&scene).await.export.repair(&file()).await;
        assert!(is_good(&scene, n).await, "{mended:?}");
        // Each has what the other lacks.
        let scene = Scene::new().await;
        scene.memory[n].remove(evidence(FILE)).unwrap();
        scene.memory[n].mutate(FILE, |bytes| (0..50).for_each(|at| bytes[at * 2048] ^= 1)).unwrap();
        scene.memory[1 - n]
            .mutate(FILE, |bytes| (0..50).for_each(|at| bytes[at * 2048 + 1024] ^= 1))
            .unwrap();
        let mended = mender(&scene).await.export.repair(&file()).await;
        assert!(is_good(&scene, 0).await && is_good(&scene, 1).await, "{mended:?}");
    }
}

#[tokio::test]
async fn who_reads_what_is_damaged_sets_off_its_repair() {
    for n in [0, 1] {
        let scene = Scene::new().await;
        scene.memory[n].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        if n == 1 {
            // A replica is looked at when the first store has the same file damaged.
            scene.memory[0].remove(evidence(FILE)).unwrap();
        }
        let gate = mender(&scene).await;
        eventually("it is repaired", async || {
            assert!(scene.is_whole(&gate).await);
            is_good(&scene, n).await
        })
        .await;
        assert!(is_good(&scene, 0).await);
        // Without being told to, nothing is written.
        scene.memory[n].mutate(FILE, |bytes| bytes[0] ^= 1).unwrap();
        let gate = scene.gate(2).await;
        assert!(scene.is_whole(&gate).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!is_good(&scene, n).await);
    }
}

/// Puts the second version of the file, signed, on the store.
pub(super) async fn renew(scene: &Scene, memory: &Memory) -> (Vec<u8>, Vec<u8>) {
    let newer = content(77, SIZE - 5);
    memory.put(FILE, &newer).unwrap();
    seal(&shared(memory), FILE, &newer, small_blocks(), &scene.key).await;
    (newer, memory.bytes(evidence(FILE)).unwrap())
}

#[tokio::test]
async fn what_is_validly_signed_is_never_replaced_by_another_version() {
    for n in [0, 1] {
        let scene = Scene::new().await;
        let (newer, proof) = renew(&scene, &scene.memory[n]).await;
        let gate = mender(&scene).await;
        assert_eq!(gate.export.repair(&file()).await, [Mended::Well, Mended::Well]);
        assert_eq!(scene.memory[n].bytes(FILE).unwrap(), newer);
        // Also when some of it is damaged: nobody else has it.
        scene.memory[n].mutate(FILE, |bytes| bytes[9] ^= 1).unwrap();
        let before = scene.memory[n].bytes(FILE);
        let mended = gate.export.repair(&file()).await;
        assert!(matches!(mended[n], Mended::Left { .. }), "{mended:?}");
        assert_eq!(scene.memory[n].bytes(FILE), before);
        assert_eq!(scene.memory[n].bytes(evidence(FILE)).unwrap(), proof);
        assert_eq!(scene.memory[1 - n].bytes(FILE).unwrap(), scene.content);
    }
}

#[tokio::test]
async fn evidence_that_is_refused_for_what_it_says_is_left_with_its_file() {
    let scene = Scene::new().await;
    let (stranger, _) = key_and_trust();
    let theirs = content(78, SIZE);
    scene.memory[0].put(FILE, &theirs).unwrap();
    seal(&shared(&scene.memory[0]), FILE, &theirs, small_blocks(), &stranger).await;
    let proof = scene.memory[0].bytes(evidence(FILE));
    let gate = mender(&scene).await;
    let mended = gate.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Left { reason } if reason.contains("unknown key")), "{mended:?}");
    assert_eq!(scene.memory[0].bytes(FILE).unwrap(), theirs);
    assert_eq!(scene.memory[0].bytes(evidence(FILE)), proof);
    assert!(
        matches!(&gate.events.of_stores()[..], [OfStore::NotRepaired { store, .. }] if store == NAMES[0])
    );
}

#[tokio::test]
async fn what_is_put_there_while_a_repair_is_under_way_stays() {
    for evidence_too in [false, true] {
        let harm = |scene: &Scene| {
            scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
            if evidence_too {
                scene.memory[0].remove(evidence(FILE)).unwrap();
            }
        };
        let scene = Scene::new().await;
        harm(&scene);
        let gate = mender(&scene).await;
        scene.faulty[0].reset();
        gate.export.repair(&file()).await;
        let calls = scene.faulty[0].calls();
        let mut overwritten = 0;
        for n in 1..=calls {
            let scene = Scene::new().await;
            harm(&scene);
            let gate = Arc::new(mender(&scene).await);
            scene.faulty[0].reset();
            scene.faulty[0].fail_at(n, Fault::Stall);
            let repair = tokio::spawn({
                let gate = gate.clone();
                async move { gate.export.repair(&file()).await }
            });
            // Calls that cannot wait stall at the next one that can; the last may have none.
            let stalled = scene.faulty[0].until_stalled(1);
            let stalled = tokio::time::timeout(Duration::from_millis(500), stalled).await.is_ok();
            let (newer, proof) = renew(&scene, &scene.memory[0]).await;
            scene.faulty[0].reset();
            let mended = repair.await.unwrap();
            let there =
                (scene.memory[0].bytes(FILE).unwrap(), scene.memory[0].bytes(evidence(FILE)).unwrap());
            if stalled && there != (newer, proof) {
                // It came after the last look, and before the one call that puts the file in place.
                overwritten += 1;
                assert!(there.0 == scene.content || mended != [Mended::Well, Mended::Well], "{n}");
            }
        }
        assert!(overwritten <= if evidence_too { 2 } else { 1 }, "{overwritten} of {calls}");
    }
}

#[tokio::test]
async fn whichever_call_fails_the_old_or_the_new_is_there_and_never_a_mixture() {
    let faults = [
        Fault::Error(StoreErrorKind::Io),
        Fault::Error(StoreErrorKind::ReadOnly),
        Fault::Error(StoreErrorKind::NoSpace),
        Fault::Error(StoreErrorKind::Unavailable),
        Fault::ShortRead,
        Fault::Flip,
        Fault::Swap,
        Fault::Gone,
    ];
    let harm = |scene: &Scene| {
        scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        scene.memory[0].mutate(evidence(FILE), |bytes| bytes[100] ^= 1).unwrap();
    };
    let (mut left, mut refused) = (0, 0);
    for store in [0, 1] {
        let scene = Scene::new().await;
        harm(&scene);
        let gate = mender(&scene).await;
        scene.faulty[store].reset();
        gate.export.repair(&file()).await;
        let calls = scene.faulty[store].calls();
        assert!(calls > 10 && is_good(&scene, 0).await);
        for fault in faults {
            for n in 1..=calls {
                let scene = Scene::new().await;
                harm(&scene);
                let old =
                    (scene.memory[0].bytes(FILE).unwrap(), scene.memory[0].bytes(evidence(FILE)).unwrap());
                let gate = mender(&scene).await;
                scene.faulty[store].reset();
                scene.faulty[store].fail_at(n, fault);
                let mended = gate.export.repair(&file()).await;
                scene.faulty[store].reset();
                let data = scene.memory[0].bytes(FILE).unwrap();
                assert!(data == old.0 || data == scene.content, "{fault:?} at {n} of {store}");
                let proof = scene.memory[0].bytes(evidence(FILE)).unwrap();
                if proof != old.1 && data == scene.content {
                    assert!(is_good(&scene, 0).await, "{fault:?} at {n} of {store}: {mended:?}");
                }
                if matches!(mended[0], Mended::Repaired { .. }) {
                    assert!(is_good(&scene, 0).await, "{fault:?} at {n} of {store}: {mended:?}");
                } else {
                    left += 1;
                    refused += usize::from(matches!(&mended[0], Mended::Left { reason }
                        if reason.contains("cannot create")));
                }
                assert!(scene.memory[1].bytes(FILE).unwrap() == scene.content);
                // A store that did not answer is left alone for a moment.
                eventually("it is repaired after all", async || {
                    gate.export.repair(&file()).await;
                    is_good(&scene, 0).await
                })
                .await;
            }
        }
    }
    assert!(left > 50 && refused > 2, "{left} {refused}");
}

#[tokio::test]
async fn readers_never_see_a_repair() {
    let scene = Arc::new(Scene::new().await);
    let gate = Arc::new(mender(&scene).await);
    let handle = scene.handle(&gate).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..4_u64)
        .map(|n| {
            let (scene, gate, stop) = (scene.clone(), gate.clone(), stop.clone());
            tokio::spawn(async move {
                let mut reads = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads < 20 {
                    let offset = (n * 7919 + reads * 104_729) % SIZE as u64;
                    let given = gate.read(&handle, offset, 50_000).await.unwrap();
                    assert!(given.is_all_of(&scene.content, offset, 50_000), "{offset}: {given:?}");
                    reads += 1;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..20_usize {
        let n = round % 2;
        scene.memory[n].mutate(FILE, |bytes| bytes[round * 5000] ^= 1).unwrap();
        if round % 3 == 0 {
            scene.memory[n].mutate(evidence(FILE), |bytes| bytes[100] ^= 1).unwrap();
        }
        gate.export.repair(&file()).await;
        assert!(is_good(&scene, n).await, "{round}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(gate.events.refused().is_empty());
    let given = gate.read(&handle, 0, READ_MAX).await.unwrap();
    assert!(given.is_all_of(&scene.content, 0, READ_MAX));
}

#[tokio::test]
async fn data_that_were_just_written_are_left_to_whoever_may_be_signing_them() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d")).unwrap();
    let on_disk = dir.path().join(FILE);
    std::fs::write(&on_disk, &scene.content).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let local: Arc<dyn Store> = Arc::new(Local::new(dir.path()).unwrap());
    seal(&local, FILE, &scene.content, small_blocks(), &scene.key).await;
    let gate = async |repair| {
        let gate = Gate::with(local.clone(), &scene.keyring, |options| {
            options.replicas = vec![scene.store(1)];
            options.repair = Some(repair);
        });
        gate.await.unwrap()
    };
    let other = content(9, SIZE);
    std::fs::write(&on_disk, &other).unwrap();
    std::fs::set_permissions(&on_disk, std::fs::Permissions::from_mode(0o640)).unwrap();
    // The time of the content can be set by whoever writes it, so it alone says nothing.
    std::fs::File::options().write(true).open(&on_disk).unwrap().set_modified(old).unwrap();
    let mended = gate(Repair::default()).await.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Left { reason } if reason.contains("signed")), "{mended:?}");
    assert_eq!(std::fs::read(&on_disk).unwrap(), other);
    let mended = gate(AT_ONCE).await.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Repaired { .. }), "{mended:?}");
    assert_eq!(std::fs::read(&on_disk).unwrap(), scene.content);
    let mode = std::fs::metadata(&on_disk).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the file's own mode stays");
    // Evidence for data that are there already takes nothing from anybody.
    std::fs::remove_file(dir.path().join(evidence(FILE))).unwrap();
    let mended = gate(Repair::default()).await.export.repair(&file()).await;
    assert_eq!(mended[0], Mended::Repaired { what: "evidence", bytes: 0 });
    let left: Vec<_> = std::fs::read_dir(dir.path().join(".nfs-verity/.nfs-verity"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

/// Signs `content` as the file of `scene` in another carrier.
pub(super) async fn seal_in(carrier: &dyn Carrier, scene: &Scene, content: &[u8]) {
    let (root_hash, tree) = reference::root_and_tree(content, &small_blocks());
    let descriptor = Descriptor { params: small_blocks(), size: content.len() as u64, root_hash };
    let statement = Statement {
        namespace: String::new(),
        path: FILE.as_bytes().to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: small_blocks().block_size,
        version: 1,
        expires: None,
        signed: None,
    };
    let evidence = Evidence {
        descriptor: Some(descriptor.encode().to_vec().into()),
        statement: Some(sign_statement(&statement, &[&scene.key]).unwrap().into()),
        ..Evidence::default()
    };
    let mut writer = carrier.create(&file(), TREE_OFFSET).await.unwrap();
    writer.push(0, &tree);
    writer.commit(&evidence).await.unwrap();
}

#[tokio::test]
async fn evidence_in_or_behind_the_file_is_repaired_in_its_place() {
    for kind in [CarrierKind::Appended, CarrierKind::Xattr] {
        for harm in 0..3 {
            let scene = Scene::new().await;
            for memory in &scene.memory {
                memory.remove(".nfs-verity").unwrap();
                let store = shared(memory);
                match kind {
                    CarrierKind::Appended => seal_in(&Appended::new(store), &scene, &scene.content).await,
                    _ => seal_in(&Xattr::new(Sidecar::new(store)), &scene, &scene.content).await,
                }
            }
            match harm {
                0 => scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap(),
                1 => scene.memory[0].put(FILE, &scene.content).unwrap(),
                _ => scene.memory[0].put(FILE, b"").unwrap(),
            }
            let carriers = vec![CarrierKind::Sidecar, kind];
            let gate = Gate::with(scene.store(0), &scene.keyring, |options| {
                options.replicas = vec![scene.store(1)];
                options.carriers.clone_from(&carriers);
                options.repair = Some(AT_ONCE);
                options.cache_bytes = 0;
            });
            let gate = gate.await.unwrap();
            assert!(scene.is_whole(&gate).await, "{kind} {harm}");
            let mended = gate.export.repair(&file()).await;
            // What was read may have had it repaired already.
            assert!(!matches!(mended[0], Mended::Left { .. }), "{kind} {harm}: {mended:?}");
            let alone = Gate::with(shared(&scene.memory[0]), &scene.keyring, |options| {
                options.carriers = vec![kind];
            });
            let examined = alone.await.unwrap().export.examine(&file(), |_| ()).await.unwrap();
            assert!(matches!(examined, Examination::Good { .. }), "{kind} {harm}: {mended:?} {examined:?}");
            assert!(scene.is_whole(&gate).await, "{kind} {harm}");
        }
    }
}

#[tokio::test]
async fn a_file_whose_copies_lack_evidence_or_data_comes_back_with_the_attributes_of_its_data() {
    let scene = Scene::new().await;
    for what in [FILE.to_owned(), evidence(FILE)] {
        scene.memory[0].remove(what).unwrap();
    }
    scene.memory[1].remove(evidence(FILE)).unwrap();
    scene.memory[1].set_attr(FILE, 0o640, 7, 8).unwrap();
    scene.memory[2].remove(FILE).unwrap();
    let gate = scene.gate_with(3, |options| options.repair = Some(AT_ONCE)).await;
    let mended = gate.export.repair(&file()).await;
    assert!(is_good(&scene, 0).await, "{mended:?}");
    let attr = async |n: usize| scene.memory[n].stat(&file()).await.unwrap();
    assert_eq!((attr(0).await.mode, attr(0).await.mtime), (0o640, attr(1).await.mtime));
}
