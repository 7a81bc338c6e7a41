//! Leases, courtesy and revocation: section 8.4.3.

use super::*;

const ALL_REVOKED: u32 = 0x8;
const SOME_REVOKED: u32 = 0x10;

#[tokio::test]
async fn past_its_lease_a_client_keeps_what_nobody_wants() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    let open = world.open(client.client, "o", 1, READ, READ).await.unwrap();
    world.pass(LEASE * 20);
    let other = world.mount("other").await;
    world.open(other.client, "o", 2, READ, READ).await.unwrap();
    assert_eq!(world.renew(client).await.unwrap().flags, 0);
    assert_eq!(world.state.close(client.client, 1, open).map(|_| ()), Ok(()));
}

#[tokio::test]
async fn within_its_lease_it_keeps_all() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    world.open(client.client, "o", 1, READ, READ).await.unwrap();
    let other = world.mount("other").await;
    for _ in 0..5 {
        world.pass(LEASE);
        world.renew(client).await.unwrap();
        assert_eq!(world.open(other.client, "o", 1, READ, NONE).await, Err(Status::ShareDenied));
    }
    world.pass_a_lease();
    // A request that runs holds the lease.
    let running = turn(world.sequence(client.session, 5, 1));
    world.pass(LEASE * 3);
    world.renew(other).await.unwrap();
    assert_eq!(world.open(other.client, "o", 1, READ, NONE).await, Err(Status::ShareDenied));
    drop(running);
    assert_eq!(world.open(other.client, "o", 1, READ, NONE).await, Err(Status::ShareDenied));
    world.pass_a_lease();
    assert_eq!(world.open(other.client, "o", 1, READ, NONE).await.map(|_| ()), Ok(()));
}

#[tokio::test]
async fn what_is_revoked_is_told_until_it_is_freed() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    let denying = world.open(client.client, "o", 1, READ, READ).await.unwrap();
    let harmless = world.open(client.client, "o", 2, READ, NONE).await.unwrap();
    let locker = Locker::New(harmless, b"l");
    let lock = world.lock(client.client, 2, locker, LockKind::Read, (0, 9)).await.unwrap();
    let other = world.mount("other").await;
    world.open(other.client, "o", 2, READ, NONE).await.unwrap();
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    world.open(other.client, "o", 1, READ, NONE).await.unwrap();
    assert!(world.state.core.lock().clients[&client.client].lock_owners.is_empty());
    // Nothing of it may be reclaimed after a restart.
    assert_eq!(world.journal.len(), 1);

    assert_eq!(world.renew(client).await.unwrap().flags, ALL_REVOKED);
    for (file, stateid) in [(1, denying), (2, harmless), (2, lock)] {
        assert_eq!(world.state.may_read(client.client, file, stateid), Err(Status::Expired));
        assert_eq!(world.state.test_stateid(client.client, stateid), Status::Expired);
        assert_eq!(world.state.test_stateid(other.client, stateid), Status::BadStateid);
        assert_eq!(world.state.free_stateid(other.client, stateid), Err(Status::BadStateid));
    }
    assert_eq!(world.state.close(client.client, 1, denying), Err(Status::Expired));
    assert_eq!(world.state.open_downgrade(client.client, 1, denying, READ, NONE), Err(Status::Expired));
    let range = LockRange { offset: 0, length: 9 };
    assert_eq!(world.state.unlock(client.client, 2, lock, range), Err(Status::Expired));
    let again = world.lock(client.client, 2, Locker::Existing(lock), LockKind::Read, (0, 9)).await;
    assert_eq!(again, Err(LockError::Status(Status::Expired)));

    // It may go on with new opens.
    let new = world.open(client.client, "o", 2, READ, NONE).await.unwrap();
    assert_ne!(new.other, harmless.other);
    assert_eq!(world.journal.len(), 2);
    assert_eq!(world.renew(client).await.unwrap().flags, SOME_REVOKED);
    for stateid in [denying, harmless, lock] {
        assert_ne!(world.renew(client).await.unwrap().flags, 0);
        assert_eq!(world.state.free_stateid(client.client, stateid), Ok(()));
        assert_eq!(world.state.test_stateid(client.client, stateid), Status::BadStateid);
    }
    assert_eq!(world.renew(client).await.unwrap().flags, 0);
    assert_eq!(world.state.may_read(client.client, 2, new), Ok(()));
}

#[tokio::test]
async fn a_lock_past_its_lease_gives_way() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    let other = world.mount("other").await;
    let open = world.open(client.client, "o", 1, BOTH, NONE).await.unwrap();
    let other_open = world.open(other.client, "o", 1, BOTH, NONE).await.unwrap();
    let take = async |world: &World, client, open| {
        world.lock(client, 1, Locker::New(open, b"l"), LockKind::Write, (0, 9)).await
    };
    take(&world, client.client, open).await.unwrap();
    assert!(matches!(take(&world, other.client, other_open).await, Err(LockError::Denied(_))));
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    // When the journal cannot forget the one, the other is not told that it has the lock.
    world.journal.broken.store(true, Ordering::Relaxed);
    let refused = take(&world, other.client, other_open).await;
    assert_eq!(refused, Err(LockError::Status(Status::Io)));
    world.journal.broken.store(false, Ordering::Relaxed);
    world.open(world.mount("third").await.client, "o", 9, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 2, "the next change takes the failed one along");
    take(&world, other.client, other_open).await.unwrap();
    assert_eq!(world.renew(client).await.unwrap().flags, ALL_REVOKED);
}

#[tokio::test]
async fn a_test_of_a_lock_does_not_see_what_is_past_its_lease() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    let other = world.mount("other").await;
    let open = world.open(client.client, "o", 1, BOTH, NONE).await.unwrap();
    let locker = Locker::New(open, b"l");
    world.lock(client.client, 1, locker, LockKind::Write, (0, 9)).await.unwrap();
    let range = LockRange { offset: 0, length: 1 };
    let test = |world: &World| {
        world.state.lock_test(other.client, 1, b"x", LockKind::Read, range, world.now).is_ok()
    };
    assert!(!test(&world));
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    assert!(test(&world));
}

#[tokio::test]
async fn a_denial_past_its_lease_keeps_nobody_from_reading() {
    let mut world = World::new();
    let client = world.mount("owner").await;
    let other = world.mount("other").await;
    world.open(client.client, "o", 1, READ, READ).await.unwrap();
    assert_eq!(world.state.may_read_anonymously(1, false), Err(Status::Locked));
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    assert_eq!(world.state.may_read_anonymously(1, false), Ok(()));
}

#[tokio::test]
async fn nothing_is_revoked_when_it_would_not_help() {
    let mut world = World::new();
    let gone = world.mount("gone").await;
    let here = world.mount("here").await;
    let other = world.mount("other").await;
    world.open(gone.client, "o", 1, READ, 2).await.unwrap();
    world.open(here.client, "o", 1, READ, 2).await.unwrap();
    world.pass_a_lease();
    world.renew(here).await.unwrap();
    world.renew(other).await.unwrap();
    assert_eq!(world.open(other.client, "o", 1, BOTH, NONE).await, Err(Status::ShareDenied));
    assert_eq!(world.renew(gone).await.unwrap().flags, 0);
}

#[tokio::test]
async fn at_a_limit_those_past_their_lease_go_first() {
    let limits = StateLimits { clients: 3, opens: 2, ..StateLimits::default() };
    let mut world = World::with(limits);
    let gone = world.mount("gone").await;
    world.open(gone.client, "o", 1, READ, NONE).await.unwrap();
    world.pass(LEASE / 2);
    let here = world.mount("here").await;
    world.open(here.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.open(here.client, "o", 2, READ, NONE).await, Err(Status::NoSpc));
    world.pass(LEASE / 2 + Duration::from_secs(1));
    world.renew(here).await.unwrap();
    world.open(here.client, "o", 2, READ, NONE).await.unwrap();
    assert_eq!(world.renew(gone).await.unwrap_err(), Status::BadSession);
    assert_eq!(world.create(gone.client, 2, HERE).await, Err(Status::StaleClientId));
    assert_eq!(world.journal.len(), 1, "and does not come back after a restart");

    let second = world.mount("second").await;
    let third = world.mount("third").await;
    assert_eq!(world.exchange("fourth", 1, HERE, false), Err(Status::Delay));
    world.pass_a_lease();
    world.renew(here).await.unwrap();
    world.renew(third).await.unwrap();
    world.mount("fourth").await;
    assert_eq!(world.renew(second).await.unwrap_err(), Status::BadSession);
    world.renew(here).await.unwrap();
    world.renew(third).await.unwrap();
}

#[tokio::test]
async fn at_a_limit_those_whose_requests_run_stay() {
    let mut world = World::with(StateLimits { clients: 2, ..StateLimits::default() });
    let first = world.mount("first").await;
    let second = world.mount("second").await;
    let running = turn(world.sequence(first.session, 5, 1));
    world.pass_a_lease();
    world.mount("third").await;
    assert_eq!(world.renew(second).await.unwrap_err(), Status::BadSession);
    running.finish(|| text("done"));
    assert_eq!(outcome(world.sequence(first.session, 5, 1)), "replay done");
}

#[tokio::test]
async fn courtesy_ends_some_day() {
    let mut world = World::new();
    let gone = world.mount("gone").await;
    world.open(gone.client, "o", 1, READ, NONE).await.unwrap();
    world.pass(LEASE * 1001);
    let other = world.mount("other").await;
    assert_eq!(world.renew(gone).await.unwrap_err(), Status::BadSession);
    assert_eq!(world.state.core.lock().clients.len(), 1);
    world.renew(other).await.unwrap();
}
