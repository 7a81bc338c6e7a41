//! Damage: whatever one store did to data, tree or evidence, a good copy of it is served, and the event tells
//! who was wrong.

use std::sync::Arc;

use nfs_verity::event::Cause;
use nfs_verity::export::{ExportError, READ_MAX};
use nfs_verity::policy::Mode;
use nfs_verity::store::{Fault, Memory, Store as _, StoreErrorKind, StorePath};

use super::super::scene::{Gate, OfStore, eventually, evidence, shared, small_blocks};
use super::super::support::{content, key_and_trust, seal};
use super::{FILE, NAMES, SIZE, Scene};

/// What can be done to a file and its evidence on one store, and the causes that may be told of it.
pub(super) type Harm = (&'static str, fn(&Memory), &'static [Cause]);

pub(super) const HARMS: [Harm; 12] = [
    ("a bit of the data", |m| m.mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap(), &[Cause::BadBlock]),
    ("all of the data", |m| m.mutate(FILE, |bytes| bytes.fill(7)).unwrap(), &[Cause::BadBlock]),
    ("cut data", |m| m.mutate(FILE, |bytes| bytes.truncate(100_000)).unwrap(), &[Cause::WrongSize]),
    ("longer data", |m| m.mutate(FILE, |bytes| bytes.push(0)).unwrap(), &[Cause::WrongSize]),
    ("other data", |m| m.put(FILE, &content(2, SIZE)).unwrap(), &[Cause::BadBlock]),
    ("no data", |m| m.put(FILE, b"").unwrap(), &[Cause::WrongSize]),
    ("no evidence", |m| m.remove(evidence(FILE)).unwrap(), &[Cause::Unsigned]),
    ("no evidence at all", |m| m.remove(".nfs-verity").unwrap(), &[Cause::Unsigned]),
    (
        "a bit of the head",
        |m| m.mutate(evidence(FILE), |bytes| bytes[100] ^= 1).unwrap(),
        &[Cause::MalformedEvidence],
    ),
    (
        "cut evidence",
        |m| m.mutate(evidence(FILE), |bytes| bytes.truncate(9000)).unwrap(),
        &[Cause::MalformedEvidence],
    ),
    (
        "a bit of the root block",
        |m| m.mutate(evidence(FILE), |bytes| bytes[8192] ^= 1).unwrap(),
        &[Cause::BadTreeBlock],
    ),
    (
        "all of the tree",
        |m| m.mutate(evidence(FILE), |bytes| bytes[8192..].fill(7)).unwrap(),
        &[Cause::BadTreeBlock],
    ),
];

fn told(gate: &Gate) -> Vec<(String, String, Cause)> {
    let healed = |event| match event {
        OfStore::Healed { path, store, from, cause, .. } => {
            assert_eq!(path, FILE);
            Some((store, from, cause))
        }
        other => panic!("{other:?}"),
    };
    gate.events.of_stores().into_iter().filter_map(healed).collect()
}

#[tokio::test]
async fn what_the_first_store_has_damaged_comes_from_the_next_and_the_event_tells() {
    for (what, harm, causes) in HARMS {
        let scene = Scene::new().await;
        harm(&scene.memory[0]);
        let gate = scene.gate(2).await;
        assert!(scene.is_whole(&gate).await, "{what}");
        assert!(gate.events.refused().is_empty(), "{what}");
        let told = told(&gate);
        assert!(!told.is_empty(), "{what}");
        for (store, from, cause) in told {
            assert_eq!((&*store, &*from), (NAMES[0], NAMES[1]), "{what}");
            assert!(causes.contains(&cause), "{what}: {cause:?}");
        }
        // The same with one store is refused.
        assert!(!scene.is_whole(&scene.gate(1).await).await, "{what}");
    }
}

#[tokio::test]
async fn harm_that_is_done_while_a_file_is_open_is_healed_too() {
    for (what, harm, _) in HARMS {
        let scene = Scene::new().await;
        // Nothing is in memory, so that every read asks the stores.
        let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
        assert!(scene.is_whole(&gate).await);
        harm(&scene.memory[0]);
        assert!(scene.is_whole(&gate).await, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        assert!(scene.is_whole(&gate).await, "{what}");
        assert!(gate.events.refused().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn damage_of_a_replica_harms_nobody() {
    for (what, harm, _) in HARMS {
        let scene = Scene::new().await;
        harm(&scene.memory[1]);
        let gate = scene.gate(2).await;
        assert!(scene.is_whole(&gate).await, "{what}");
        assert!(gate.events.of_stores().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn what_one_store_lacks_is_put_together_from_all() {
    for (first, harm_first, _) in HARMS {
        for (second, harm_second, _) in HARMS {
            let scene = Scene::new().await;
            harm_first(&scene.memory[0]);
            harm_second(&scene.memory[1]);
            let gate = scene.gate(3).await;
            assert!(scene.is_whole(&gate).await, "{first}, {second}");
            assert!(gate.events.refused().is_empty(), "{first}, {second}");
        }
    }
}

#[tokio::test]
async fn blocks_that_are_damaged_in_different_places_heal_each_other() {
    let scene = Scene::new().await;
    scene.memory[0].mutate(FILE, |bytes| (0..97).for_each(|n| bytes[n * 2048] ^= 1)).unwrap();
    scene.memory[1].mutate(FILE, |bytes| (0..97).for_each(|n| bytes[n * 2048 + 1024] ^= 1)).unwrap();
    let gate = scene.gate(2).await;
    assert!(scene.is_whole(&gate).await);
    // Data of one, evidence of the other.
    for (data, proof) in [(0, 1), (1, 0)] {
        let scene = Scene::new().await;
        scene.memory[data].mutate(FILE, |bytes| bytes.fill(9)).unwrap();
        scene.memory[proof].remove(evidence(FILE)).unwrap();
        assert!(scene.is_whole(&scene.gate(2).await).await, "{data}");
        let scene = Scene::new().await;
        scene.memory[data].mutate(FILE, |bytes| bytes.truncate(10)).unwrap();
        scene.memory[proof].mutate(evidence(FILE), |bytes| bytes[50] ^= 1).unwrap();
        assert!(scene.is_whole(&scene.gate(2).await).await, "{data}");
    }
}

#[tokio::test]
async fn a_block_that_is_bad_everywhere_is_refused_as_ever() {
    let scene = Scene::new().await;
    for memory in &scene.memory {
        memory.mutate(FILE, |bytes| bytes[100_000] ^= 1).unwrap();
    }
    let gate = scene.gate(3).await;
    let handle = scene.handle(&gate).await;
    let given = gate.read(&handle, 0, READ_MAX).await.unwrap();
    assert!(given.is_of(&scene.content, 0, READ_MAX));
    assert_eq!(given.bytes.len(), 100_000 / 1024 * 1024);
    let refused = gate.read(&handle, 100_000, 10).await.unwrap_err();
    assert_eq!(refused, ExportError::Corrupt(Cause::BadBlock));
    assert!(gate.events.refused().iter().all(|refused| refused.block == Some(100_000 / 1024)));
    assert!(gate.events.of_stores().is_empty());
}

#[tokio::test]
async fn what_no_store_has_evidence_for_is_refused_for_the_first_ones_reason() {
    let scene = Scene::new().await;
    scene.memory[0].mutate(evidence(FILE), |bytes| bytes[100] ^= 1).unwrap();
    scene.memory[1].remove(evidence(FILE)).unwrap();
    let gate = scene.gate(2).await;
    let handle = scene.handle(&gate).await;
    assert_eq!(gate.read(&handle, 0, 9).await.unwrap_err(), ExportError::Corrupt(Cause::MalformedEvidence));
    assert_eq!(gate.read_at("unsigned", 0, 9).await.unwrap_err(), ExportError::Denied(Cause::Unsigned));
    assert!(gate.events.of_stores().is_empty());
    let warning = scene.gate_with(2, |options| options.mode = Mode::Warn).await;
    let given = warning.read_at("unsigned", 0, 99).await.unwrap();
    assert!(!given.proven && given.bytes == b"nobody vouches for this");
}

#[tokio::test]
async fn a_replica_is_believed_nothing_that_is_not_signed_for_this_path_by_a_trusted_key() {
    let scene = Scene::new().await;
    scene.memory[0].remove(evidence(FILE)).unwrap();
    let evil = content(3, SIZE);
    let (stranger, _) = key_and_trust();
    scene.memory[1].put(FILE, &evil).unwrap();
    seal(&shared(&scene.memory[1]), FILE, &evil, small_blocks(), &stranger).await;
    // Signed by the right key, but for another path.
    let other = Memory::new();
    other.put("other", &evil).unwrap();
    seal(&shared(&other), "other", &evil, small_blocks(), &scene.key).await;
    scene.memory[2].put(FILE, &evil).unwrap();
    scene.memory[2].put(evidence(FILE), &other.bytes(evidence("other")).unwrap()).unwrap();
    let gate = scene.gate(3).await;
    let handle = scene.handle(&gate).await;
    assert_eq!(gate.read(&handle, 0, 9).await.unwrap_err(), ExportError::Denied(Cause::Unsigned));
}

#[tokio::test]
async fn a_store_that_lies_at_random_is_found_out_each_time() {
    for liar in [0, 1] {
        let scene = Scene::new().await;
        let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
        let handle = scene.handle(&gate).await;
        scene.faulty[liar].lie(5);
        for n in 0..60_u64 {
            let (offset, count) = (n * 7919 % SIZE as u64, 40_000);
            let given = gate.read(&handle, offset, count).await.unwrap();
            assert!(given.is_all_of(&scene.content, offset, count), "{liar} at {offset}: {given:?}");
        }
    }
}

#[tokio::test]
async fn what_is_well_again_is_read_from_the_first_store_again() {
    let scene = Scene::new().await;
    let proof = scene.memory[0].bytes(evidence(FILE)).unwrap();
    scene.memory[0].remove(evidence(FILE)).unwrap();
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    assert!(scene.is_whole(&gate).await);
    scene.memory[0].put(evidence(FILE), &proof).unwrap();
    // The other store is passed over from now on, or it would be missed.
    eventually("the first store is asked", async || {
        let before = scene.faulty[1].calls();
        assert!(scene.is_whole(&gate).await);
        scene.faulty[1].calls() == before
    })
    .await;
}

#[tokio::test]
async fn permanent_damage_costs_no_search_for_each_read() {
    let scene = Scene::new().await;
    for memory in &scene.memory {
        memory.remove(evidence(FILE)).unwrap();
    }
    let gate = scene.gate(3).await;
    let handle = scene.handle(&gate).await;
    gate.read(&handle, 0, 9).await.unwrap_err();
    let before = scene.faulty[2].calls();
    let started = std::time::Instant::now();
    for _ in 0..200 {
        gate.read(&handle, 0, 9).await.unwrap_err();
    }
    // One search a second: each takes a handful of calls.
    let searches = started.elapsed().as_secs() + 1;
    let calls = scene.faulty[2].calls() - before;
    assert!(calls <= searches * 10, "{calls} calls in {searches} s");
}

#[tokio::test]
async fn what_clients_see_of_a_file_stays_whichever_store_has_it_whole() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    let handle = scene.handle(&gate).await;
    scene.memory[0].mutate(FILE, |bytes| bytes[0] ^= 1).unwrap();
    scene.memory[0].remove(evidence(FILE)).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(scene.is_whole(&gate).await);
    let before = gate.attributes(&handle).await.unwrap();
    for _ in 0..5 {
        assert!(scene.is_whole(&gate).await);
        assert_eq!(gate.attributes(&handle).await.unwrap(), before);
    }
    let reply = gate.export.read(handle.as_bytes(), 0, 10, &super::super::scene::caller()).await.unwrap();
    assert_eq!(reply.attr, before);
    let path = StorePath::parse(FILE.as_bytes()).unwrap();
    assert_eq!(before.mtime, scene.memory[0].stat(&path).await.unwrap().mtime);
}

#[tokio::test]
async fn whoever_was_wrong_is_told_of_also_when_others_found_out_meanwhile() {
    let mut n = 1;
    loop {
        let scene = Arc::new(Scene::new().await);
        let gate = Arc::new(scene.gate_with(2, |options| options.cache_bytes = 0).await);
        let handle = scene.handle(&gate).await;
        gate.read(&handle, 0, 10).await.unwrap();
        scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        gate.events.of_stores();
        scene.faulty[0].reset();
        scene.faulty[0].fail_at(n, Fault::Stall);
        let slow = tokio::spawn({
            let gate = gate.clone();
            async move { gate.read(&handle, 70_000, 10).await }
        });
        let stalled = scene.faulty[0].until_stalled(1);
        let stalled = tokio::time::timeout(std::time::Duration::from_millis(500), stalled).await.is_ok();
        if !stalled {
            // It takes no more calls than that.
            assert!(slow.await.unwrap().is_ok() && n > 3, "{n}");
            return;
        }
        gate.read(&handle, 70_000, 10).await.unwrap();
        scene.faulty[0].release();
        let given = slow.await.unwrap().unwrap();
        assert!(given.is_all_of(&scene.content, 70_000, 10), "{n}");
        for (store, from, _) in told(&gate) {
            assert_eq!((&*store, &*from), (NAMES[0], NAMES[1]), "{n}");
        }
        n += 1;
    }
}

#[tokio::test]
async fn what_a_store_refuses_to_a_caller_is_refused_and_not_taken_from_another() {
    let mut refused = 0;
    for n in 1..=3 {
        let scene = Scene::new().await;
        let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
        let handle = scene.handle(&gate).await;
        gate.read(&handle, 0, 10).await.unwrap();
        scene.faulty[0].reset();
        scene.faulty[0].fail_at(n, Fault::Error(StoreErrorKind::Access));
        match gate.read(&handle, 0, 10).await {
            Err(error) => {
                assert_eq!(error, ExportError::Permission);
                assert!(gate.events.of_stores().is_empty(), "{n}");
                refused += 1;
            }
            // What the gateway itself looks at.
            Ok(given) => assert!(given.is_all_of(&scene.content, 0, 10), "{n}"),
        }
    }
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_replica_that_was_put_right_helps_files_that_are_open() {
    for tree in [false, true] {
        let scene = Scene::new().await;
        let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
        let handle = scene.handle(&gate).await;
        let what = if tree { evidence(FILE) } else { FILE.to_owned() };
        let good = scene.memory[1].bytes(&what).unwrap();
        for memory in &scene.memory[..2] {
            memory.mutate(&what, |bytes| bytes[if tree { 8192 } else { 0 }] ^= 1).unwrap();
        }
        gate.read(&handle, 0, 10).await.unwrap_err();
        scene.memory[1].put(&what, &good).unwrap();
        eventually("it is opened again", async || gate.read(&handle, 0, 10).await.is_ok()).await;
    }
}

#[tokio::test]
async fn replicas_that_are_wrong_on_the_way_are_told_of_too() {
    for (what, at, cause) in
        [(FILE.to_owned(), 0, Cause::BadBlock), (evidence(FILE), 8192, Cause::BadTreeBlock)]
    {
        let scene = Scene::new().await;
        for memory in &scene.memory[..2] {
            memory.mutate(&what, |bytes| bytes[at] ^= 1).unwrap();
        }
        let gate = scene.gate(3).await;
        gate.read_at(FILE, 0, 10).await.unwrap();
        let mut told = told(&gate);
        told.sort();
        let of = |n: usize| (NAMES[n].to_owned(), NAMES[2].to_owned(), cause);
        assert_eq!(told, [of(0), of(1)]);
    }
    // One that cannot be read.
    let mut seen = 0;
    for n in 1..=6 {
        let scene = Scene::new().await;
        scene.memory[0].mutate(FILE, |bytes| bytes[0] ^= 1).unwrap();
        let gate = scene.gate(3).await;
        let handle = scene.handle(&gate).await;
        scene.faulty[1].reset();
        scene.faulty[1].fail_at(n, Fault::Error(StoreErrorKind::Io));
        gate.read(&handle, 0, 10).await.unwrap();
        let all = told(&gate);
        seen += usize::from(all.iter().any(|told| (&*told.0, told.2) == (NAMES[1], Cause::Unreadable)));
    }
    assert!(seen > 0);
}

#[tokio::test]
async fn a_version_that_took_the_place_of_an_open_one_is_no_damage_and_is_opened() {
    let mut elsewhere = 0;
    // The look at the file, and the read of it.
    for n in 1..=2 {
        let scene = Scene::new().await;
        let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
        let handle = scene.handle(&gate).await;
        gate.read(&handle, 0, 10).await.unwrap();
        scene.faulty.iter().for_each(nfs_verity::store::Faulty::reset);
        scene.faulty[0].fail_at(n, Fault::Gone);
        assert!(gate.read(&handle, 0, 10).await.unwrap().is_all_of(&scene.content, 0, 10), "{n}");
        elsewhere += usize::from(scene.faulty[1].calls() > 0);
        scene.faulty[0].reset();
        let before = scene.faulty[1].calls();
        assert!(gate.read(&handle, 0, 10).await.unwrap().is_all_of(&scene.content, 0, 10), "{n}");
        assert_eq!(scene.faulty[1].calls(), before, "{n}: the first store has it");
        assert_eq!(gate.events.of_stores(), [], "{n}");
    }
    assert!(elsewhere > 0);
    // The same on a replica.
    let mut met = 0;
    for n in 1..=6 {
        let scene = Scene::new().await;
        scene.memory[0].mutate(FILE, |bytes| bytes[0] ^= 1).unwrap();
        let gate = scene.gate(3).await;
        let handle = scene.handle(&gate).await;
        scene.faulty[1].reset();
        scene.faulty[1].fail_at(n, Fault::Error(StoreErrorKind::Stale));
        gate.read(&handle, 0, 10).await.unwrap();
        let all = told(&gate);
        met += usize::from(all.iter().any(|(_, from, _)| from == NAMES[2]));
        assert!(all.iter().all(|(store, ..)| store == NAMES[0]), "{n}: {all:?}");
    }
    assert!(met > 0);
}

#[tokio::test]
async fn evidence_of_another_version_is_told_as_that_and_not_as_a_bad_tree() {
    let scene = Scene::new().await;
    scene.memory[0].mutate(evidence(FILE), |bytes| bytes[8192] ^= 1).unwrap();
    let newer = content(77, SIZE);
    scene.memory[1].put(FILE, &newer).unwrap();
    seal(&shared(&scene.memory[1]), FILE, &newer, small_blocks(), &scene.key).await;
    let gate = scene.gate(3).await;
    gate.read_at(FILE, 0, 10).await.unwrap();
    let mut told = told(&gate);
    told.sort();
    let of = |n: usize, cause| (NAMES[n].to_owned(), NAMES[2].to_owned(), cause);
    assert_eq!(told, [of(0, Cause::BadTreeBlock), of(1, Cause::WrongDigest)]);
}
