//! OPEN, OPEN_DOWNGRADE, CLOSE, stateids.

use super::*;

const WRITE: u32 = 2;

/// Section 9.7: every pair of share reservations.
#[tokio::test]
async fn share_reservations_of_two_owners() {
    for (access, deny) in pairs() {
        for (access2, deny2) in pairs() {
            for same_client in [false, true] {
                let world = World::new();
                let first = world.mount("first").await.client;
                let second = if same_client { first } else { world.mount("second").await.client };
                world.open(first, "a", 1, access, deny).await.unwrap();
                let got = world.open(second, "b", 1, access2, deny2).await.map(|_| ());
                let denied = access & deny2 != 0 || access2 & deny != 0;
                let expected = if denied { Err(Status::ShareDenied) } else { Ok(()) };
                assert_eq!(got, expected, "{access}/{deny} then {access2}/{deny2}");
                world.open(second, "b", 2, access2, deny2).await.unwrap();
            }
        }
    }
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    (1..=3).flat_map(|access| (0..=3).map(move |deny| (access, deny)))
}

/// Section 18.16.3: one stateid for an owner and a file, which is the union.
#[tokio::test]
async fn a_second_open_widens_the_first() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let first = world.open(client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(first.seqid, 1);
    let second = world.open(client, "o", 1, WRITE, READ).await.unwrap();
    assert_eq!((second.seqid, second.other), (2, first.other), "its own reading is not in the way");
    assert_eq!(world.open(client, "p", 1, READ, NONE).await, Err(Status::ShareDenied));
    assert_eq!(world.open(client, "p", 1, WRITE, WRITE).await, Err(Status::ShareDenied));
    let other_file = world.open(client, "o", 2, READ, NONE).await.unwrap();
    assert_ne!(other_file.other, first.other);
}

#[tokio::test]
async fn arguments_of_open_are_checked() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    for (access, deny) in [(0, 0), (4, 0), (u32::MAX, 0), (1, 4), (1, u32::MAX)] {
        assert_eq!(world.open(client, "o", 1, access, deny).await, Err(Status::Inval));
    }
    assert_eq!(world.open(client, &"o".repeat(1025), 1, 1, 0).await, Err(Status::Inval));
    world.open(client, &"o".repeat(1024), 1, 1, 0).await.unwrap();
    assert_eq!(world.open(client ^ 1, "o", 1, 1, 0).await, Err(Status::DeadSession));
}

/// Section 18.18.3.
#[tokio::test]
async fn downgrade_goes_to_what_was_opened() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let down = |stateid, access, deny| world.state.open_downgrade(client, 1, stateid, access, deny);
    world.open(client, "o", 1, READ, NONE).await.unwrap();
    world.open(client, "o", 1, BOTH, READ).await.unwrap();
    let open = world.open(client, "o", 1, WRITE, WRITE).await.unwrap();
    for (access, deny) in [(1, 1), (1, 2), (2, 0), (2, 1), (2, 3), (3, 0)] {
        assert_eq!(down(open, access, deny), Err(Status::Inval), "{access}/{deny}");
    }
    for (access, deny) in [(0, 0), (4, 0), (1, 4)] {
        assert_eq!(down(open, access, deny), Err(Status::Inval));
    }
    let open = down(open, BOTH, 3).unwrap();
    assert_eq!(open.seqid, 4, "all of it, and one on");
    let open = down(open, BOTH, WRITE).unwrap();
    assert_eq!(open.seqid, 5, "of READ/NONE and WRITE/WRITE together");
    assert_eq!(down(open, BOTH, READ), Err(Status::Inval), "dropped before");
    assert_eq!(world.open(client, "p", 1, READ, NONE).await.map(|_| ()), Ok(()), "no longer denied");
    let open = down(open, READ, NONE).unwrap();
    assert_eq!(down(open, WRITE, WRITE), Err(Status::Inval));
    assert_eq!(world.open(client, "p", 1, WRITE, NONE).await.map(|_| ()), Ok(()));
}

/// Section 8.2.4.
#[tokio::test]
async fn stateids_are_what_they_were_when_given() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let other = world.mount("other").await.client;
    let old = world.open(client, "o", 1, READ, NONE).await.unwrap();
    let new = world.open(client, "o", 1, READ, NONE).await.unwrap();
    let read = |client, file, stateid| world.state.may_read(client, file, stateid);
    assert_eq!(read(client, 1, new), Ok(()));
    assert_eq!(read(client, 1, Stateid { seqid: 0, ..new }), Ok(()), "the newest");
    assert_eq!(read(client, 1, old), Err(Status::OldStateid));
    assert_eq!(read(client, 1, Stateid { seqid: 3, ..new }), Err(Status::BadStateid), "not yet");
    assert_eq!(read(client, 2, new), Err(Status::BadStateid), "another file");
    assert_eq!(read(other, 1, new), Err(Status::BadStateid), "another client's");
    let mut guess = new;
    guess.other[11] ^= 1;
    assert_eq!(read(client, 1, guess), Err(Status::BadStateid));
    assert_eq!(world.state.test_stateid(client, new), Status::Ok);
    assert_eq!(world.state.test_stateid(client, old), Status::OldStateid);
    assert_eq!(world.state.test_stateid(other, new), Status::BadStateid);
    assert_eq!(world.state.free_stateid(other, new), Err(Status::BadStateid));
    assert_eq!(world.state.free_stateid(client, new), Err(Status::LocksHeld), "an open is closed");
    assert_eq!(world.state.close(other, 1, new), Err(Status::BadStateid));
    assert_eq!(world.state.close(client, 2, new), Err(Status::BadStateid));
    assert_eq!(world.state.close(client, 1, old), Err(Status::OldStateid));
    assert_eq!(world.state.open_downgrade(client, 1, old, READ, NONE), Err(Status::OldStateid));
    let closed = world.state.close(client, 1, new).unwrap();
    assert_eq!(closed, Stateid { seqid: u32::MAX, other: [0; 12] }, "section 18.2.4");
    for stateid in [new, closed] {
        assert_eq!(read(client, 1, stateid), Err(Status::BadStateid));
        assert_eq!(world.state.close(client, 1, stateid), Err(Status::BadStateid));
        assert_eq!(world.state.test_stateid(client, stateid), Status::BadStateid);
    }
    let mut world = world;
    let before = world.open(client, "o", 1, READ, NONE).await.unwrap();
    world.restart();
    assert_eq!(world.state.may_read(client, 1, before), Err(Status::BadStateid));
}

/// Section 8.2.2: after the last number comes 1.
#[tokio::test]
async fn seqids_wrap_past_zero() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let open = world.open(client, "o", 1, READ, NONE).await.unwrap();
    world.state.core.lock().stateids.get_mut(&open.other).unwrap().seqid = u32::MAX;
    let wrapped = world.open(client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(wrapped.seqid, 1);
    let last = Stateid { seqid: u32::MAX, ..wrapped };
    assert_eq!(world.state.may_read(client, 1, last), Err(Status::OldStateid));
    assert_eq!(world.state.may_read(client, 1, wrapped), Ok(()));
}

#[tokio::test]
async fn reading_takes_an_open_for_reading() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let open = world.open(client, "o", 1, WRITE, NONE).await.unwrap();
    assert_eq!(world.state.may_read(client, 1, open), Err(Status::OpenMode));
    let locker = Locker::New(open, b"l");
    let lock = world.lock(client, 1, locker, LockKind::Write, (0, 1)).await.unwrap();
    assert_eq!(world.state.may_read(client, 1, lock), Err(Status::OpenMode));
    world.open(client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.state.may_read(client, 1, lock), Ok(()));
    assert_eq!(world.state.may_read(client, 2, lock), Err(Status::BadStateid));
}

/// Section 8.2.3.
#[tokio::test]
async fn reading_without_an_open_minds_denials() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let read = |bypass| world.state.may_read_anonymously(1, bypass);
    assert_eq!(read(false), Ok(()));
    let open = world.open(client, "o", 1, READ, WRITE).await.unwrap();
    assert_eq!(read(false), Ok(()));
    let open2 = world.open(client, "o", 1, READ, READ).await.unwrap();
    assert_eq!(open2.other, open.other);
    assert_eq!(read(false), Err(Status::Locked));
    assert_eq!(read(true), Ok(()));
    assert_eq!(world.state.may_read_anonymously(2, false), Ok(()));
    world.state.close(client, 1, open2).unwrap();
    assert_eq!(read(false), Ok(()));
}

#[tokio::test]
async fn the_journal_knows_a_client_before_its_first_open_is_answered() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    assert_eq!(world.journal.len(), 0);
    world.journal.broken.store(true, Ordering::Relaxed);
    assert_eq!(world.open(client, "o", 1, READ, NONE).await, Err(Status::Io));
    assert_eq!(world.open(client, "o", 1, READ, NONE).await, Err(Status::Io), "still not");
    world.journal.broken.store(false, Ordering::Relaxed);
    world.open(client, "o", 1, READ, NONE).await.unwrap();
    for file in 2..9 {
        world.open(client, "o", file, READ, NONE).await.unwrap();
    }
    assert_eq!(world.journal.changes.lock().len(), 1, "once a client");
    world.journal.broken.store(true, Ordering::Relaxed);
    world.open(client, "o", 10, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn an_open_that_is_given_up_leaves_the_journal_to_the_next() {
    let world = World::new();
    let first = world.mount("first").await.client;
    let second = world.mount("second").await.client;
    {
        let mut open = Box::pin(world.open(first, "o", 1, READ, NONE));
        let waker = std::task::Waker::noop();
        assert!(open.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    world.open(second, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 2);
}

#[tokio::test]
async fn many_first_opens_at_once_are_each_in_the_journal() {
    let world = World::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50u64 {
        let client = world.mount(&format!("owner {n}")).await.client;
        for file in 0..3 {
            let (state, journal, now) = (Arc::clone(&world.state), Arc::clone(&world.journal), world.now);
            tasks.spawn(async move {
                let request = Open { client, owner: b"o", file, access: READ, deny: NONE, reclaim: false };
                state.open(request, now).await.unwrap();
                let key = state.core.lock().clients[&client].journal_key;
                assert!(journal.changes.lock().contains(&Change::Add(key)), "answered before it is durable");
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.journal.len(), 50);
    assert_eq!(world.journal.changes.lock().len(), 50);
}

#[tokio::test]
async fn everything_is_given_back() {
    let world = World::new();
    let client = world.mount("owner").await;
    for round in 0..3 {
        let mut opens = Vec::new();
        for file in 0..5 {
            let open = world.open(client.client, "o", file, BOTH, NONE).await.unwrap();
            let locker = Locker::New(open, b"l");
            world.lock(client.client, file, locker, LockKind::Write, (0, 10)).await.unwrap();
            let other = Locker::New(open, b"m");
            world.lock(client.client, file, other, LockKind::Read, (20, 10)).await.unwrap();
            opens.push((file, open));
        }
        for (file, open) in opens {
            world.state.close(client.client, file, open).unwrap();
        }
        let core = world.state.core.lock();
        assert!(core.files.is_empty() && core.stateids.is_empty(), "round {round}");
        let found = &core.clients[&client.client];
        assert!(found.opens.is_empty() && found.lock_owners.is_empty());
        assert_eq!(core.accounts.total(account::Resource::Opens), 0);
        assert_eq!(core.accounts.total(account::Resource::Locks), 0);
    }
}

#[tokio::test]
async fn what_the_journal_does_not_take_is_not_granted() {
    let world = World::new();
    let client = world.mount("owner").await.client;
    let other = world.mount("other").await.client;
    world.open(other, "o", 2, READ, NONE).await.unwrap();
    world.journal.broken.store(true, Ordering::Relaxed);
    assert_eq!(world.open(client, "o", 1, READ, READ).await, Err(Status::Io));
    {
        let core = world.state.core.lock();
        assert!(core.clients[&client].opens.is_empty() && !core.files.contains_key(&1));
    }
    world.open(other, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.state.may_read_anonymously(1, false), Ok(()));
}

#[tokio::test]
async fn what_others_lost_is_lost_for_good_before_anyone_gets_it() {
    let mut world = World::new();
    let silent = world.mount("silent").await.client;
    world.open(silent, "o", 1, READ, READ).await.unwrap();
    let other = world.mount_at("other", at(2)).await;
    let open = world.open(other.client, "o", 2, READ, NONE).await.unwrap();
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    world.journal.broken.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(world.open(other.client, "o", 1, READ, NONE).await, Err(Status::Io));
    }
    let locker = Locker::New(open, b"l");
    let lock = world.lock(other.client, 2, locker, LockKind::Read, (0, 1)).await;
    assert_eq!(lock, Err(LockError::Status(Status::Io)));
    assert!(world.state.core.lock().clients[&other.client].lock_owners.is_empty());
    world.journal.broken.store(false, Ordering::Relaxed);
    world.open(other.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 1);
}
