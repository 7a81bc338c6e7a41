//! EXCHANGE_ID, DESTROY_CLIENTID, RECLAIM_COMPLETE.

use super::*;

const VERIFIER: u8 = 1;
const OTHER_VERIFIER: u8 = 2;

fn other_user() -> Principal {
    Principal { uid: Some(1000), ..HERE }
}

/// RFC 8881 section 18.35.4: every combination of what is there and what is asked.
#[tokio::test]
async fn exchange_id_has_nine_cases() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum There {
        Nothing,
        Unconfirmed,
        /// Confirmed, with a session.
        InUse,
        /// Confirmed, without anything.
        Idle,
        /// Confirmed, with a session, past its lease.
        Expired,
    }
    use There::*;
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Answer {
        New,
        Same,
        Fails(Status),
    }
    use Answer::*;
    let table = [
        // case, what is there, update, same verifier, same principal, answer, whether the old one stays
        (1, Nothing, false, true, true, New, false),
        (2, InUse, false, true, true, Same, true),
        (2, Idle, false, true, true, Same, true),
        (2, Expired, false, true, true, Same, true),
        (3, InUse, false, true, false, Fails(Status::ClidInUse), true),
        (3, InUse, false, false, false, Fails(Status::ClidInUse), true),
        (3, Idle, false, true, false, New, false),
        (3, Idle, false, false, false, New, false),
        (3, Expired, false, true, false, New, false),
        (3, Expired, false, false, false, New, false),
        (4, Unconfirmed, false, true, true, New, false),
        (4, Unconfirmed, false, false, true, New, false),
        (4, Unconfirmed, false, true, false, New, false),
        (4, Unconfirmed, false, false, false, New, false),
        (5, InUse, false, false, true, New, true),
        (5, Idle, false, false, true, New, true),
        (5, Expired, false, false, true, New, true),
        (6, InUse, true, true, true, Same, true),
        (6, Idle, true, true, true, Same, true),
        (7, Nothing, true, true, true, Fails(Status::NoEnt), false),
        (7, Unconfirmed, true, true, true, Fails(Status::NoEnt), true),
        (7, Unconfirmed, true, false, true, Fails(Status::NoEnt), true),
        (7, Unconfirmed, true, true, false, Fails(Status::NoEnt), true),
        (8, InUse, true, false, true, Fails(Status::NotSame), true),
        (8, InUse, true, false, false, Fails(Status::NotSame), true),
        (9, InUse, true, true, false, Fails(Status::Perm), true),
        (9, Idle, true, true, false, Fails(Status::Perm), true),
    ];
    for (case, there, update, same_verifier, same_principal, answer, stays) in table {
        let what = format!(
            "case {case}: {there:?}, update {update}, verifier {same_verifier}, principal {same_principal}"
        );
        let mut world = World::new();
        let mut old = None;
        if there != Nothing {
            old = Some(world.exchange("owner", VERIFIER, HERE, false).unwrap().client);
        }
        if let (InUse | Idle | Expired, Some(client)) = (there, old) {
            let created = world.create(client, 1, HERE).await.unwrap();
            if there == Idle {
                world.state.destroy_session(created.session, None, 1, world.now).unwrap();
            }
            if there == Expired {
                world.pass_a_lease();
            }
        }
        let verifier = if same_verifier { VERIFIER } else { OTHER_VERIFIER };
        let principal = if same_principal { HERE } else { other_user() };
        let got = world.exchange("owner", verifier, principal, update);
        match (answer, got) {
            (New, Ok(got)) => {
                assert_ne!(Some(got.client), old, "{what}");
                assert!(!got.confirmed, "{what}");
                assert_eq!(got.sequence, 1, "{what}");
                world.create(got.client, got.sequence, principal).await.unwrap();
            }
            (Same, Ok(got)) => {
                assert_eq!((Some(got.client), got.sequence, got.confirmed), (old, 2, true), "{what}");
            }
            (Fails(expected), Err(status)) => assert_eq!(status, expected, "{what}"),
            (expected, got) => panic!("{what}: {expected:?}, got {got:?}"),
        }
        if let Some(old) = old {
            // A new one that was confirmed takes the place of the old one (case 5).
            let stays = stays && answer != New;
            let known = world.create(old, 99, HERE).await != Err(Status::StaleClientId);
            assert_eq!(known, stays, "{what}: the old client");
        }
    }
}

/// Section 18.35.4 case 5: what the earlier instance had goes with CREATE_SESSION, not before.
#[tokio::test]
async fn a_restarted_client_keeps_its_state_until_it_confirms() {
    let world = World::new();
    let old = world.mount("owner").await;
    let stateid = world.open(old.client, "o", 1, READ, BOTH).await.unwrap();
    let new = world.exchange("owner", 9, HERE, false).unwrap();
    world.renew(old).await.unwrap();
    assert_eq!(world.state.may_read(old.client, 1, stateid), Ok(()));
    world.create(new.client, new.sequence, HERE).await.unwrap();
    assert_eq!(world.renew(old).await.unwrap_err(), Status::BadSession);
    assert_eq!(world.create(old.client, 2, HERE).await, Err(Status::StaleClientId));
    assert_eq!(world.state.may_read(old.client, 1, stateid), Err(Status::BadStateid));
    assert_eq!(world.state.may_read(new.client, 1, stateid), Err(Status::BadStateid));
    let other = world.mount("other").await;
    world.open(other.client, "o", 1, BOTH, BOTH).await.unwrap();
}

#[tokio::test]
async fn a_client_that_asks_again_gives_up_its_restart() {
    let world = World::new();
    let old = world.mount("owner").await;
    let new = world.exchange("owner", 9, HERE, false).unwrap();
    assert_eq!(world.exchange("owner", 1, HERE, false).unwrap().client, old.client);
    assert_eq!(world.create(new.client, new.sequence, HERE).await, Err(Status::StaleClientId));
    let third = world.exchange("owner", 3, HERE, false).unwrap();
    let fourth = world.exchange("owner", 4, HERE, false).unwrap();
    assert_eq!(world.create(third.client, 1, HERE).await, Err(Status::StaleClientId));
    world.create(fourth.client, 1, HERE).await.unwrap();
}

#[tokio::test]
async fn the_principal_is_the_address_too() {
    let world = World::new();
    world.mount("owner").await;
    assert_eq!(world.exchange("owner", 1, at(2), false), Err(Status::ClidInUse));
    assert_eq!(world.exchange("owner", 1, at(2), true), Err(Status::Perm));
    let mapped = Principal { address: "::ffff:10.0.0.1".parse().unwrap(), ..HERE };
    assert!(world.exchange("owner", 1, mapped, false).unwrap().confirmed);
    assert_eq!(world.exchange("owner", 1, Principal { uid: None, ..HERE }, false), Err(Status::ClidInUse));
}

#[tokio::test]
async fn an_unconfirmed_record_lives_for_a_lease() {
    let mut world = World::new();
    let first = world.exchange("first", 1, HERE, false).unwrap();
    world.pass(LEASE);
    let second = world.exchange("second", 1, HERE, false).unwrap();
    world.create(first.client, 1, HERE).await.unwrap();
    world.pass_a_lease();
    assert_eq!(world.create(second.client, 1, HERE).await, Err(Status::StaleClientId));
}

#[tokio::test]
async fn owners_are_bounded() {
    let world = World::new();
    assert!(world.exchange(&"o".repeat(1024), 1, HERE, false).is_ok());
    assert_eq!(world.exchange(&"o".repeat(1025), 1, HERE, false), Err(Status::Inval));
}

/// Section 18.50.
#[tokio::test]
async fn a_client_is_destroyed_when_nothing_is_left_of_it() {
    let world = World::new();
    assert_eq!(world.state.destroy_client(0, None, world.now).await, Err(Status::StaleClientId));
    let unconfirmed = world.exchange("unconfirmed", 1, HERE, false).unwrap().client;
    let busy = world.mount("busy").await;
    let inside = Some(busy.client);
    assert_eq!(world.state.destroy_client(unconfirmed, inside, world.now).await, Ok(()));
    assert_eq!(world.state.destroy_client(unconfirmed, None, world.now).await, Err(Status::StaleClientId));
    assert_eq!(world.state.destroy_client(busy.client, inside, world.now).await, Err(Status::ClientIdBusy));
    assert_eq!(world.state.destroy_client(busy.client, None, world.now).await, Err(Status::ClientIdBusy));
    let stateid = world.open(busy.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 1);
    world.state.destroy_session(busy.session, None, 1, world.now).unwrap();
    assert_eq!(world.state.destroy_client(busy.client, None, world.now).await, Err(Status::ClientIdBusy));
    world.state.close(busy.client, 1, stateid).unwrap();
    assert_eq!(world.state.destroy_client(busy.client, None, world.now).await, Ok(()));
    assert_eq!(world.journal.len(), 0, "it may not reclaim any more");
    assert!(world.state.core.lock().accounts.is_empty());
}

/// Section 18.51.
#[tokio::test]
async fn reclaim_complete_comes_once_and_before_opens() {
    let world = World::new();
    let new = world.session("owner", HERE).await;
    assert_eq!(world.open(new.client, "o", 1, READ, NONE).await, Err(Status::Grace));
    assert_eq!(world.state.reclaim_complete(new.client, true, world.now).await, Ok(()));
    assert_eq!(world.open(new.client, "o", 1, READ, NONE).await, Err(Status::Grace));
    assert_eq!(world.state.reclaim_complete(new.client, false, world.now).await, Ok(()));
    assert_eq!(
        world.state.reclaim_complete(new.client, false, world.now).await,
        Err(Status::CompleteAlready)
    );
    world.open(new.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.reclaim(new.client, "o", 2, READ, NONE).await, Err(Status::NoGrace));
}
