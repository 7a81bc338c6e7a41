//! Stores that are away: the next answers, clients see one tree all the time, and who comes back is asked again.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use nfs_verity::export::{ExportError, Xattrs};
use nfs_verity::store::{Fault, StoreErrorKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::scene::{Gate, OfStore, caller, eventually, shared, within};
use super::repair::file;
use super::{FILE, NAMES, READ_MAX, SIZE, Scene};

const AWAY: [StoreErrorKind; 3] =
    [StoreErrorKind::Unavailable, StoreErrorKind::Io, StoreErrorKind::Exhausted];

/// All names of the root, a few at a time; `between` happens between two pages.
async fn names(gate: &Gate, mut between: impl FnMut()) -> Vec<String> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let root = gate.export.root();
        let page = within(gate.export.read_dir(root.as_bytes(), cookie, 3, &caller())).await.unwrap();
        cookie = page.entries.last().map_or(cookie, |entry| entry.cookie);
        names.extend(page.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
        if page.end {
            return names;
        }
        between();
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_missed_by_nobody() {
    for kind in AWAY {
        for down in [0, 1] {
            let scene = Scene::new().await;
            let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
            let before = gate.find(FILE).await.unwrap();
            scene.faulty[down].fail_every(1, Fault::Error(kind));
            for _ in 0..3 {
                assert!(scene.is_whole(&gate).await, "{kind:?} of {down}");
            }
            let (handle, attr) = gate.find(FILE).await.unwrap();
            assert_eq!((handle, attr.fileid, attr.size), (before.0, before.1.fileid, SIZE as u64));
            assert!(gate.events.refused().is_empty());
        }
    }
}

#[tokio::test]
async fn a_gateway_starts_while_the_first_store_is_down() {
    let scene = Scene::new().await;
    let handle = scene.handle(&scene.gate(2).await).await;
    scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    let gate = scene.gate(2).await;
    assert!(scene.is_whole(&gate).await);
    assert_eq!(scene.handle(&gate).await, handle);
}

#[tokio::test]
async fn a_store_that_comes_back_is_asked_again_and_both_are_told_once() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    assert!(scene.is_whole(&gate).await);
    scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    let mut told = Vec::new();
    for _ in 0..20 {
        assert!(scene.is_whole(&gate).await);
        told.extend(gate.events.of_stores());
    }
    eventually("it is told", async || {
        told.extend(gate.events.of_stores());
        !told.is_empty()
    })
    .await;
    assert_eq!(told, [OfStore::Down(NAMES[0].to_owned())]);
    scene.faulty[0].reset();
    eventually("the first store is asked", async || {
        let before = scene.faulty[1].calls();
        assert!(scene.is_whole(&gate).await);
        scene.faulty[1].calls() == before
    })
    .await;
    assert_eq!(gate.events.of_stores(), [OfStore::Up(NAMES[0].to_owned())]);
}

#[tokio::test]
async fn no_read_waits_for_a_store_that_takes_long_to_not_answer() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    assert!(scene.is_whole(&gate).await);
    // The first call finds out, at the client's cost; from then on it is nobody's.
    scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    assert!(scene.is_whole(&gate).await);
    scene.faulty[0].fail_every(1, Fault::Stall);
    within(scene.faulty[0].until_stalled(1)).await;
    for _ in 0..20 {
        assert!(within(scene.is_whole(&gate)).await);
    }
}

#[tokio::test]
async fn one_file_without_an_answer_is_no_store_that_is_down() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    let handle = scene.handle(&gate).await;
    // One call of the store fails, as that of a file that has to be fetched from a tape does.
    scene.faulty[0].fail_at(scene.faulty[0].calls() + 1, Fault::Error(StoreErrorKind::Unavailable));
    gate.read(&handle, 0, 10).await.unwrap();
    eventually("the first store is asked", async || {
        let before = scene.faulty[1].calls();
        assert!(scene.is_whole(&gate).await);
        scene.faulty[1].calls() == before
    })
    .await;
    assert_eq!(gate.events.of_stores(), []);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_left_alone() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    assert!(scene.is_whole(&gate).await);
    scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    assert!(scene.is_whole(&gate).await);
    let (before, started) = (scene.faulty[0].calls(), std::time::Instant::now());
    for _ in 0..50 {
        assert!(scene.is_whole(&gate).await);
    }
    // One call each half second at most, be the machine as slow as it may.
    let calls = scene.faulty[0].calls() - before;
    assert!(u128::from(calls) <= started.elapsed().as_millis() / 500 + 1, "{calls}");
}

#[tokio::test]
async fn clients_are_told_to_come_back_while_all_stores_are_down() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    let handle = scene.handle(&gate).await;
    gate.read(&handle, 0, 10).await.unwrap();
    for faulty in &scene.faulty {
        faulty.fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    }
    for _ in 0..3 {
        for offset in [0, 100_000, SIZE as u64 - 1] {
            assert_eq!(gate.read(&handle, offset, 10_000).await.unwrap_err(), ExportError::Busy);
        }
        assert_eq!(gate.attributes(&handle).await.unwrap_err(), ExportError::Busy);
        assert_eq!(gate.find(FILE).await.unwrap_err(), ExportError::Busy);
        let root = gate.export.root();
        let listed = gate.export.read_dir(root.as_bytes(), 0, 9, &caller()).await;
        assert_eq!(listed.unwrap_err(), ExportError::Busy);
    }
    assert!(gate.events.refused().is_empty());
    scene.faulty.iter().for_each(super::Faulty::reset);
    eventually("all is well", async || scene.is_whole(&gate).await).await;
}

const SILENCE: Fault = Fault::Error(StoreErrorKind::Unavailable);

#[tokio::test]
async fn where_clients_wait_whichever_store_is_back_first_answers_them() {
    for back in [0, 1] {
        let scene = Scene::new().await;
        let waiting = scene.gate_with(2, |options| (options.cache_bytes, options.waits) = (0, true));
        let gate = waiting.await;
        let handle = scene.handle(&gate).await;
        gate.read(&handle, 0, 10).await.unwrap();
        scene.faulty.iter().for_each(|faulty| faulty.fail_every(1, SILENCE));
        let (root, caller) = (gate.export.root(), caller());
        let mut asked = pin!(async {
            tokio::join!(
                gate.read(&handle, 100_000, 5000),
                gate.attributes(&handle),
                gate.find(FILE),
                gate.access(&handle),
                gate.export.read_dir(root.as_bytes(), 0, 9, &caller),
            )
        });
        assert!(timeout(Duration::from_millis(200), &mut asked).await.is_err());
        scene.faulty[back].reset();
        let (read, attr, found, access, listed) = within(asked).await;
        assert!(read.unwrap().is_all_of(&scene.content, 100_000, 5000));
        assert_eq!((attr.unwrap().size, found.unwrap().0), (SIZE as u64, handle));
        assert!(access.unwrap().read && !listed.unwrap().entries.is_empty());
        assert!(gate.events.refused().is_empty());
    }
}

#[tokio::test]
async fn where_clients_wait_they_never_hear_later_whenever_all_stores_go_away() {
    let mut asked = JoinSet::new();
    for n in 1..=12 {
        asked.spawn(async move {
            let scene = Scene::new().await;
            let waiting = scene.gate_with(2, |options| (options.cache_bytes, options.waits) = (0, true));
            let gate = waiting.await;
            let handle = scene.handle(&gate).await;
            scene.faulty.iter().for_each(super::Faulty::reset);
            scene.faulty[1].fail_every(1, SILENCE);
            (n..n + 500).for_each(|call| scene.faulty[0].fail_at(call, SILENCE));
            let mut read = pin!(gate.read(&handle, 0, READ_MAX));
            let (at_once, met) = match timeout(Duration::from_millis(200), &mut read).await {
                Ok(read) => (read, scene.faulty[0].calls() >= n),
                Err(_) => {
                    scene.faulty[0].reset();
                    (within(read).await, true)
                }
            };
            let given = at_once.unwrap_or_else(|error| panic!("{error:?} from call {n} on"));
            // What was proven before the store went away may be all of the answer.
            assert!(given.is_of(&scene.content, 0, READ_MAX), "from call {n} on: {given:?}");
            assert!(gate.events.refused().is_empty(), "from call {n} on");
            met
        });
    }
    let met = asked.join_all().await.into_iter().filter(|met| *met).count();
    assert!(met > 4, "{met}");
}

#[tokio::test]
async fn where_clients_wait_attributes_of_a_store_that_goes_away_come_from_the_next() {
    let mut met = 0;
    for n in 1..=6 {
        let scene = Scene::new().await;
        for memory in &scene.memory {
            let file = shared(memory).open(&file()).await.unwrap();
            file.set_xattr(b"user.note", b"hello").await.unwrap();
        }
        let gate = scene.gate_with(2, |options| (options.waits, options.xattrs) = (true, Xattrs::All)).await;
        let (handle, caller) = (scene.handle(&gate).await, caller());
        let ask = async || {
            let note = gate.export.get_xattr(handle.as_bytes(), b"note", &caller).await.unwrap();
            let names = gate.export.list_xattrs(handle.as_bytes(), &caller).await.unwrap();
            note == "hello" && names.contains(&b"note".to_vec())
        };
        scene.faulty[0].reset();
        (n..n + 500).for_each(|call| scene.faulty[0].fail_at(call, SILENCE));
        assert_eq!(timeout(Duration::from_secs(10), ask()).await, Ok(true), "from call {n} on");
        met += usize::from(scene.faulty[0].calls() >= n);
        // All of them.
        scene.faulty[1].fail_every(1, SILENCE);
        let mut asked = pin!(ask());
        assert!(timeout(Duration::from_millis(200), &mut asked).await.is_err());
        scene.faulty[1].reset();
        assert!(within(asked).await, "from call {n} on");
    }
    assert!(met > 3, "{met}");
}

#[tokio::test]
async fn damage_on_one_store_while_the_other_is_down_is_waited_for() {
    let scene = Scene::new().await;
    let gate = scene.gate_with(2, |options| options.cache_bytes = 0).await;
    let handle = scene.handle(&gate).await;
    scene.memory[1].mutate(FILE, |bytes| bytes[5] ^= 1).unwrap();
    scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
    // What the second has good is served; its bad block is refused, since somebody could answer.
    let good = gate.read(&handle, 4096, 4096).await.unwrap();
    assert!(good.is_all_of(&scene.content, 4096, 4096));
    gate.read(&handle, 0, 10).await.unwrap_err();
    scene.faulty[0].reset();
    eventually("the first answers", async || scene.is_whole(&gate).await).await;
}

#[tokio::test]
async fn a_listing_goes_on_where_it_was_when_another_store_answers() {
    let scene = Scene::new().await;
    for n in 0..40 {
        for memory in &scene.memory {
            memory.put(format!("name-{}", (n * 7) % 40), b"").unwrap();
        }
    }
    let gate = scene.gate(3).await;
    let whole = names(&gate, || ()).await;
    let all: BTreeSet<_> = whole.iter().cloned().collect();
    assert_eq!((all.len(), whole.len()), (44, 44), "no name twice, none left out");
    for at in 0..10 {
        let gate = scene.gate(3).await;
        let mut page = 0;
        let listed = names(&gate, || {
            page += 1;
            if page == at {
                scene.faulty[0].fail_every(1, Fault::Error(StoreErrorKind::Unavailable));
            }
        })
        .await;
        assert_eq!(listed.len(), listed.iter().collect::<BTreeSet<_>>().len(), "{at}");
        let first_only: BTreeSet<_> = listed.into_iter().filter(|name| name != "z").collect();
        assert_eq!(first_only, all.iter().filter(|name| *name != "z").cloned().collect(), "{at}");
        scene.faulty[0].reset();
    }
}

#[tokio::test]
async fn any_call_of_either_store_may_fail_and_the_client_sees_nothing() {
    let scene = Scene::new().await;
    let faults = [
        Fault::Error(StoreErrorKind::Io),
        Fault::Error(StoreErrorKind::Unavailable),
        Fault::Error(StoreErrorKind::Exhausted),
        Fault::Error(StoreErrorKind::Stale),
        Fault::ShortRead,
        Fault::Flip,
        Fault::Swap,
    ];
    let gate = scene.gate(2).await;
    scene.faulty[0].reset();
    assert!(scene.is_whole(&gate).await);
    let calls = scene.faulty[0].calls();
    assert!(calls > 10, "{calls}");
    for fault in faults {
        for n in 1..=calls {
            let gate = scene.gate(2).await;
            scene.faulty[0].reset();
            scene.faulty[0].fail_at(n, fault);
            let whole = scene.is_whole(&gate).await;
            // That names are stale is the store's word on them.
            assert!(whole || fault == Fault::Error(StoreErrorKind::Stale), "{fault:?} at {n} of {calls}");
            scene.faulty[0].reset();
            assert!(scene.is_whole(&gate).await, "after {fault:?} at {n}");
        }
    }
}
