//! LOCK, LOCKT, LOCKU, FREE_STATEID.

use super::*;
use LockKind::{Read, Write};

const END: u64 = u64::MAX;

async fn opened(world: &World, name: &str) -> (ClientId, Stateid) {
    let client = world.mount(name).await.client;
    (client, world.open(client, "o", 1, BOTH, NONE).await.unwrap())
}

/// What is locked, as another client finds out byte by byte.
fn locked(world: &World, client: ClientId, upto: u64) -> String {
    let test = |offset, kind| {
        let range = LockRange { offset, length: 1 };
        world.state.lock_test(client, 1, b"probe", kind, range, world.now).is_ok()
    };
    (0..upto)
        .map(|offset| match (test(offset, Read), test(offset, Write)) {
            (true, true) => '.',
            (true, false) => 'r',
            (false, false) => 'w',
            (false, true) => panic!("writing alone is allowed at {offset}"),
        })
        .collect()
}

/// Sections 9.1.2 and 18.10.4: split, merged, upgraded and downgraded.
#[tokio::test]
async fn ranges_of_one_owner_replace_each_other() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let probe = world.mount("probe").await.client;
    let first = world.lock(client, 1, Locker::New(open, b"l"), Read, (2, 6)).await.unwrap();
    assert_eq!(first.seqid, 1);
    assert_eq!(locked(&world, probe, 12), "..rrrrrr....");
    let mut last = first;
    let steps = [
        (Some(Write), (4, 2), "..rrwwrr...."),
        (Some(Write), (6, 4), "..rrwwwwww.."),
        (Some(Read), (5, 2), "..rrwrrwww.."),
        (None, (3, 1), "..r.wrrwww.."),
        (None, (0, 3), "....wrrwww.."),
        (Some(Write), (5, 2), "....wwwwww.."),
        (None, (6, 1), "....ww.www.."),
        (Some(Read), (8, END), "....ww.wrrrr"),
        (None, (9, 2), "....ww.wr..r"),
        (None, (100, 5), "....ww.wr..r"),
        (None, (0, END), "............"),
        (Some(Read), (0, END), "rrrrrrrrrrrr"),
        (Some(Write), (0, 1), "wrrrrrrrrrrr"),
    ];
    for (kind, (offset, length), expected) in steps {
        last = match kind {
            Some(kind) => {
                world.lock(client, 1, Locker::Existing(last), kind, (offset, length)).await.unwrap()
            }
            None => world.state.unlock(client, 1, last, LockRange { offset, length }).unwrap(),
        };
        assert_eq!(locked(&world, probe, 12), expected, "after {kind:?} {offset} {length}");
    }
    assert_eq!((last.seqid, last.other), (14, first.other));
}

#[tokio::test]
async fn neighbours_become_one_range() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let stateid = world.lock(client, 1, Locker::New(open, b"l"), Read, (0, 1)).await.unwrap();
    let last = stateid;
    for offset in (0..1000).rev() {
        world.lock(client, 1, Locker::New(open, b"l"), Read, (offset, 1)).await.unwrap();
    }
    let locks = || world.state.core.lock().accounts.total(account::Resource::Locks);
    assert_eq!(locks(), 2, "the stateid and one range");
    let probe = world.mount("probe").await.client;
    let range = LockRange { offset: 500, length: 1 };
    let denied = world.state.lock_test(probe, 1, b"probe", Write, range, world.now);
    let conflict =
        Conflict { range: LockRange { offset: 0, length: 1000 }, kind: Read, client, owner: text("l") };
    assert_eq!(denied, Err(LockError::Denied(conflict)));
    let newest = Stateid { seqid: 0, ..last };
    world.state.unlock(client, 1, newest, LockRange { offset: 10, length: 10 }).unwrap();
    assert_eq!(locks(), 3);
}

/// Section 18.10.3.
#[tokio::test]
async fn ranges_are_checked() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let lock = world.lock(client, 1, Locker::New(open, b"l"), Read, (0, 1)).await.unwrap();
    let table = [
        ((0, 0), false),
        ((END, 0), false),
        ((0, END), true),
        ((END, END), true),
        ((1, END), true),
        ((1, END - 1), true),
        ((2, END - 1), false),
        ((END - 1, 1), true),
        ((END, 1), false),
        ((END - 1, 2), false),
    ];
    for ((offset, length), good) in table {
        let range = LockRange { offset, length };
        let locker = Locker::Existing(Stateid { seqid: 0, ..lock });
        let expected = if good { Ok(()) } else { Err(LockError::Status(Status::Inval)) };
        let got = world.lock(client, 1, locker, Read, (offset, length)).await.map(|_| ());
        assert_eq!(got, expected, "LOCK {offset} {length}");
        let got = world.state.lock_test(client, 1, b"x", Read, range, world.now);
        assert_eq!(got, expected, "LOCKT {offset} {length}");
        let newest = Stateid { seqid: 0, ..lock };
        let got = world.state.unlock(client, 1, newest, range).map(|_| ());
        let expected = if good { Ok(()) } else { Err(Status::Inval) };
        assert_eq!(got, expected, "LOCKU {offset} {length}");
    }
}

#[tokio::test]
async fn the_last_byte_belongs_to_those_who_lock_to_the_end() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let (other, other_open) = opened(&world, "other").await;
    world.lock(client, 1, Locker::New(open, b"l"), Write, (0, END - 1)).await.unwrap();
    let lock = world.lock(other, 1, Locker::New(other_open, b"l"), Write, (END - 1, END)).await.unwrap();
    let range = LockRange { offset: 0, length: END };
    let Err(LockError::Denied(conflict)) = world.state.lock_test(client, 1, b"l", Read, range, world.now)
    else {
        panic!("it is locked")
    };
    assert_eq!(conflict.range, LockRange { offset: END - 1, length: END });
    world.state.unlock(other, 1, lock, LockRange { offset: END - 1, length: 1 }).unwrap();
    let Err(LockError::Denied(conflict)) = world.state.lock_test(client, 1, b"l", Read, range, world.now)
    else {
        panic!("the last byte is still locked")
    };
    assert_eq!(conflict.range, LockRange { offset: END, length: END });
}

#[tokio::test]
async fn owners_conflict_with_each_other_alone() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let (other, other_open) = opened(&world, "other").await;
    world.lock(client, 1, Locker::New(open, b"l"), Write, (0, 10)).await.unwrap();
    let conflict =
        Conflict { range: LockRange { offset: 0, length: 10 }, kind: Write, client, owner: text("l") };
    let denied = Err(LockError::Denied(conflict));
    let take = |client, open, owner, kind, range| {
        let world = &world;
        async move { world.lock(client, 1, Locker::New(open, owner), kind, range).await }
    };
    assert_eq!(take(client, open, b"m", Read, (9, 1)).await, denied, "another owner of the same client");
    assert_eq!(take(other, other_open, b"l", Read, (9, 5)).await, denied, "an owner of the same name");
    assert_eq!(take(client, open, b"m", Read, (10, 1)).await.map(|_| ()), Ok(()));
    assert_eq!(take(other, other_open, b"l", Read, (10, 5)).await.map(|_| ()), Ok(()));
    assert!(take(client, open, b"l", Write, (5, 6)).await.is_err(), "read by two others");
    assert_eq!(take(client, open, b"l", Read, (0, 20)).await.map(|_| ()), Ok(()));
}

#[tokio::test]
async fn a_refused_lock_leaves_nothing() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let (other, other_open) = opened(&world, "other").await;
    world.lock(client, 1, Locker::New(open, b"l"), Write, (0, 10)).await.unwrap();
    let before = world.state.core.lock().stateids.len();
    assert!(world.lock(other, 1, Locker::New(other_open, b"l"), Write, (0, 1)).await.is_err());
    assert_eq!(world.state.core.lock().stateids.len(), before);
    assert!(world.state.core.lock().clients[&other].lock_owners.is_empty());
}

/// Section 18.10.4: the mode of the open.
#[tokio::test]
async fn a_lock_takes_an_open_of_its_kind() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    for (access, kind, good) in
        [(1, Read, true), (1, Write, false), (2, Read, false), (2, Write, true), (3, Write, true)]
    {
        let open = world.open(client, &format!("o{access}"), 1, access, NONE).await.unwrap();
        let owner = format!("l{access}");
        let got = world.lock(client, 1, Locker::New(open, owner.as_bytes()), kind, (0, 1)).await;
        match good {
            true => {
                let range = LockRange { offset: 0, length: END };
                world.state.unlock(client, 1, got.unwrap(), range).unwrap();
            }
            false => assert_eq!(got, Err(LockError::Status(Status::OpenMode)), "{access} {kind:?}"),
        }
    }
}

#[tokio::test]
async fn lock_stateids_are_checked() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let (other, _) = opened(&world, "other").await;
    let bad = |status| Err(LockError::Status(status));
    let old = world.lock(client, 1, Locker::New(open, b"l"), Read, (0, 1)).await.unwrap();
    let lock = world.lock(client, 1, Locker::New(open, b"l"), Read, (5, 1)).await.unwrap();
    assert_eq!((lock.other, lock.seqid), (old.other, 2), "the same owner of the same open");
    let try_lock = |client, file, locker| {
        let world = &world;
        async move { world.lock(client, file, locker, Read, (9, 1)).await }
    };
    assert_eq!(try_lock(client, 1, Locker::Existing(old)).await, bad(Status::OldStateid));
    assert_eq!(try_lock(client, 1, Locker::Existing(open)).await, bad(Status::BadStateid));
    assert_eq!(try_lock(client, 1, Locker::New(lock, b"l")).await, bad(Status::BadStateid));
    assert_eq!(try_lock(client, 2, Locker::Existing(lock)).await, bad(Status::BadStateid));
    assert_eq!(try_lock(client, 2, Locker::New(open, b"l")).await, bad(Status::BadStateid));
    assert_eq!(try_lock(other, 1, Locker::Existing(lock)).await, bad(Status::BadStateid));
    assert_eq!(try_lock(other, 1, Locker::New(open, b"l")).await, bad(Status::BadStateid));
    assert_eq!(try_lock(client, 1, Locker::New(open, &[b'l'; 1025])).await, bad(Status::Inval));
    let range = LockRange { offset: 0, length: 1 };
    assert_eq!(world.state.unlock(client, 1, old, range), Err(Status::OldStateid));
    assert_eq!(world.state.unlock(client, 1, open, range), Err(Status::BadStateid));
    assert_eq!(world.state.unlock(other, 1, lock, range), Err(Status::BadStateid));
    assert_eq!(world.state.close(client, 1, lock), Err(Status::BadStateid));
}

/// Section 18.38.
#[tokio::test]
async fn a_lock_stateid_is_freed_when_nothing_is_locked() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let lock = world.lock(client, 1, Locker::New(open, b"l"), Read, (0, 9)).await.unwrap();
    assert_eq!(world.state.free_stateid(client, lock), Err(Status::LocksHeld));
    let lock = world.state.unlock(client, 1, lock, LockRange { offset: 0, length: END }).unwrap();
    assert_eq!(world.state.test_stateid(client, lock), Status::Ok);
    assert_eq!(world.state.free_stateid(client, lock), Ok(()));
    assert_eq!(world.state.free_stateid(client, lock), Err(Status::BadStateid));
    assert!(world.state.core.lock().clients[&client].lock_owners.is_empty());
    let again = world.lock(client, 1, Locker::New(open, b"l"), Read, (0, 9)).await.unwrap();
    assert_eq!(again.seqid, 1);
    assert_ne!(again.other, lock.other);
}

/// Section 18.2.3: the locks go with the open.
#[tokio::test]
async fn close_unlocks() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let (other, other_open) = opened(&world, "other").await;
    let lock = world.lock(client, 1, Locker::New(open, b"l"), Write, (0, 9)).await.unwrap();
    world.state.close(client, 1, open).unwrap();
    assert_eq!(world.state.test_stateid(client, lock), Status::BadStateid);
    world.lock(other, 1, Locker::New(other_open, b"l"), Write, (0, 9)).await.unwrap();
}

/// As in POSIX: one lock-owner through two opens of the file.
#[tokio::test]
async fn one_owner_through_two_opens_is_one_owner() {
    let world = World::new();
    let (client, open) = opened(&world, "owner").await;
    let second = world.open(client, "p", 1, BOTH, NONE).await.unwrap();
    let first_lock = world.lock(client, 1, Locker::New(open, b"l"), Write, (0, 9)).await.unwrap();
    let second_lock = world.lock(client, 1, Locker::New(second, b"l"), Read, (5, 9)).await.unwrap();
    assert_ne!(first_lock.other, second_lock.other);
    let probe = world.mount("probe").await.client;
    assert_eq!(locked(&world, probe, 15), "wwwwwrrrrrrrrr.");
    world.state.close(client, 1, open).unwrap();
    assert_eq!(locked(&world, probe, 15), "...............");
    assert_eq!(world.state.test_stateid(client, second_lock), Status::Ok);
    world.lock(client, 1, Locker::Existing(second_lock), Write, (1, 1)).await.unwrap();
    assert_eq!(locked(&world, probe, 4), ".w..");
    world.state.close(client, 1, second).unwrap();
    assert!(world.state.core.lock().clients[&client].lock_owners.is_empty());
    assert_eq!(world.state.core.lock().accounts.total(account::Resource::Locks), 0);
}

#[tokio::test]
async fn lock_owners_of_one_file_are_bounded_and_some_room_is_for_others() {
    let mut world = World::new();
    let client = world.mount("many").await;
    let open = world.open(client.client, "o", 1, READ, NONE).await.unwrap();
    let mut granted = 0u64;
    loop {
        let owner = granted.to_be_bytes();
        let locker = Locker::New(open, &owner);
        match world.lock(client.client, 1, locker, LockKind::Read, (granted, 1)).await {
            Ok(_) => granted += 1,
            Err(error) => break assert_eq!(error, LockError::Status(Status::Delay)),
        }
        assert!(granted <= 1024);
    }
    let first = 0u64.to_be_bytes();
    world.lock(client.client, 1, Locker::New(open, &first), LockKind::Read, (9, 9)).await.unwrap();
    let other = world.mount_at("other", at(2)).await;
    let others = world.open(other.client, "o", 1, READ, NONE).await.unwrap();
    world.lock(other.client, 1, Locker::New(others, b"l"), LockKind::Read, (0, 1)).await.unwrap();
    for n in 1..8u64 {
        let owner = n.to_be_bytes();
        world.lock(other.client, 1, Locker::New(others, &owner), LockKind::Read, (0, 1)).await.unwrap();
    }
    let more = world.lock(other.client, 1, Locker::New(others, b"more"), LockKind::Read, (0, 1)).await;
    assert_eq!(more, Err(LockError::Status(Status::Delay)));
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    world.lock(other.client, 1, Locker::New(others, b"more"), LockKind::Read, (0, 1)).await.unwrap();
    assert!(world.state.core.lock().clients[&client.client].opens.is_empty(), "past its lease it gave way");
}
