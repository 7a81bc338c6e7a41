//! The grace period: sections 8.4.2 and 18.51.3.

use super::*;

/// A world in which `owners` hold file 1, each with an open of its own, just restarted.
async fn restarted(owners: &[&str]) -> World {
    let mut world = World::new();
    for owner in owners {
        let client = world.mount(owner).await.client;
        world.open(client, "o", 1, READ, NONE).await.unwrap();
    }
    world.restart();
    world
}

#[tokio::test]
async fn with_nobody_to_reclaim_there_is_none() {
    let world = restarted(&[]).await;
    let client = world.mount("owner").await.client;
    world.open(client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.reclaim(client, "o", 1, READ, NONE).await, Err(Status::NoGrace));
    let late = world.session("late", HERE).await.client;
    assert_eq!(world.reclaim(late, "o", 1, READ, NONE).await, Err(Status::NoGrace));
}

#[tokio::test]
async fn survivors_reclaim_and_others_wait() {
    let mut world = restarted(&["a", "b"]).await;
    let a = world.session("a", HERE).await;
    let stranger = world.mount("stranger").await;
    assert_eq!(world.open(stranger.client, "o", 1, READ, NONE).await, Err(Status::Grace));
    assert_eq!(world.open(a.client, "o", 1, READ, NONE).await, Err(Status::Grace));
    assert_eq!(world.reclaim(stranger.client, "o", 1, READ, NONE).await, Err(Status::NoGrace));
    let late = world.session("late", HERE).await;
    assert_eq!(world.reclaim(late.client, "o", 1, READ, NONE).await, Err(Status::ReclaimBad));
    assert_eq!(world.state.may_read_anonymously(1, false), Err(Status::Grace));
    assert_eq!(world.state.may_read_anonymously(1, true), Ok(()));

    let open = world.reclaim(a.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.state.may_read(a.client, 1, open), Ok(()));
    let range = LockRange { offset: 0, length: 9 };
    let lock = |reclaim| Lock {
        client: a.client,
        file: 1,
        locker: Locker::New(open, b"l"),
        kind: LockKind::Read,
        range,
        reclaim,
    };
    assert_eq!(world.state.lock(lock(false), world.now).await, Err(LockError::Status(Status::Grace)));
    world.state.lock(lock(true), world.now).await.unwrap();
    let test = world.state.lock_test(a.client, 1, b"x", LockKind::Read, range, world.now);
    assert_eq!(test, Err(LockError::Status(Status::Grace)));

    world.state.reclaim_complete(a.client, false, world.now).await.unwrap();
    assert_eq!(world.reclaim(a.client, "o", 2, READ, NONE).await, Err(Status::NoGrace));
    assert_eq!(world.state.lock(lock(true), world.now).await, Err(LockError::Status(Status::NoGrace)));
    assert_eq!(world.open(a.client, "o", 2, READ, NONE).await, Err(Status::Grace), "b is awaited");
    // The last one ends it.
    let b = world.session("b", HERE).await;
    world.state.reclaim_complete(b.client, false, world.now).await.unwrap();
    world.open(a.client, "o", 2, READ, NONE).await.unwrap();
    world.open(stranger.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.open(late.client, "o", 1, READ, NONE).await, Err(Status::Grace), "18.51.3");
    world.pass_a_lease();
    assert_eq!(world.reclaim(late.client, "o", 1, READ, NONE).await, Err(Status::NoGrace));
}

#[tokio::test]
async fn it_ends_with_the_lease_and_the_absent_reclaim_nothing_later() {
    let mut world = restarted(&["here", "absent"]).await;
    let here = world.session("here", HERE).await;
    let reclaimed = world.reclaim(here.client, "o", 1, READ, NONE).await.unwrap();
    let stranger = world.mount("stranger").await;
    world.pass(LEASE);
    world.renew(here).await.unwrap();
    assert_eq!(world.open(stranger.client, "o", 3, READ, NONE).await, Err(Status::Grace));
    world.pass(Duration::from_millis(1));
    world.renew(stranger).await.unwrap();
    // What the absent one held may be given to others: it must be out of the journal before.
    world.journal.broken.store(true, Ordering::Relaxed);
    assert_eq!(world.open(stranger.client, "o", 3, READ, NONE).await, Err(Status::Io));
    world.state.reclaim_complete(here.client, false, world.now).await.unwrap();
    assert_eq!(world.open(here.client, "o", 3, READ, NONE).await, Err(Status::Io));
    let locker = Locker::New(reclaimed, b"l");
    let lock = world.lock(here.client, 1, locker, LockKind::Read, (0, 1)).await;
    assert_eq!(lock, Err(LockError::Status(Status::Io)));
    world.journal.broken.store(false, Ordering::Relaxed);
    world.open(stranger.client, "o", 3, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 2, "the one that is here, and the new one");
    let absent = world.session("absent", HERE).await;
    assert_eq!(world.reclaim(absent.client, "o", 1, READ, NONE).await, Err(Status::NoGrace));
    world.restart();
    let absent = world.session("absent", HERE).await;
    assert_eq!(world.reclaim(absent.client, "o", 1, READ, NONE).await, Err(Status::ReclaimBad));
    let here = world.session("here", HERE).await;
    world.reclaim(here.client, "o", 1, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn a_survivor_that_is_destroyed_is_not_awaited() {
    let world = restarted(&["a"]).await;
    let a = world.session("a", HERE).await;
    let stranger = world.mount("stranger").await;
    assert_eq!(world.open(stranger.client, "o", 3, READ, NONE).await, Err(Status::Grace));
    world.state.destroy_session(a.session, None, 1, world.now).unwrap();
    world.state.destroy_client(a.client, None, world.now).await.unwrap();
    world.open(stranger.client, "o", 3, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn nobody_elsewhere_reclaims_in_anothers_name() {
    let world = restarted(&["a"]).await;
    let thief = world.session("a", at(66)).await;
    assert_eq!(world.reclaim(thief.client, "o", 1, READ, NONE).await, Err(Status::ReclaimBad));
    world.state.reclaim_complete(thief.client, false, world.now).await.unwrap();
    let stranger = world.mount("stranger").await;
    assert_eq!(world.open(stranger.client, "o", 1, READ, NONE).await, Err(Status::Grace), "a is awaited");
}

#[tokio::test]
async fn reclaims_conflict_with_each_other() {
    let mut world = World::new();
    for owner in ["a", "b"] {
        let client = world.mount(owner).await.client;
        world.open(client, "o", 1, BOTH, NONE).await.unwrap();
    }
    world.restart();
    let a = world.session("a", HERE).await.client;
    let b = world.session("b", HERE).await.client;
    let a_open = world.reclaim(a, "o", 1, BOTH, NONE).await.unwrap();
    assert_eq!(world.reclaim(b, "o", 1, READ, READ).await, Err(Status::ReclaimConflict));
    let b_open = world.reclaim(b, "o", 1, BOTH, NONE).await.unwrap();
    let lock = |client, open| Lock {
        client,
        file: 1,
        locker: Locker::New(open, b"l"),
        kind: LockKind::Write,
        range: LockRange { offset: 0, length: 9 },
        reclaim: true,
    };
    world.state.lock(lock(a, a_open), world.now).await.unwrap();
    let refused = world.state.lock(lock(b, b_open), world.now).await;
    assert_eq!(refused, Err(LockError::Status(Status::ReclaimConflict)));
}

#[tokio::test]
async fn a_second_restart_changes_nothing_for_those_who_did_not_return() {
    let mut world = restarted(&["a", "b"]).await;
    world.pass(LEASE / 2);
    world.restart();
    let b = world.session("b", HERE).await;
    world.reclaim(b.client, "o", 1, READ, NONE).await.unwrap();
    let a = world.session("a", HERE).await;
    world.reclaim(a.client, "o", 1, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn a_client_that_restarts_in_it_is_awaited_still() {
    let world = restarted(&["a"]).await;
    let first = world.session("a", HERE).await;
    world.reclaim(first.client, "o", 1, READ, READ).await.unwrap();
    let second = world.exchange("a", 9, HERE, false).unwrap();
    world.create(second.client, 1, HERE).await.unwrap();
    let stranger = world.mount("stranger").await;
    assert_eq!(world.open(stranger.client, "o", 1, READ, NONE).await, Err(Status::Grace));
    world.state.reclaim_complete(second.client, false, world.now).await.unwrap();
    world.open(stranger.client, "o", 1, READ, NONE).await.unwrap();
    world.open(second.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 2);
}
