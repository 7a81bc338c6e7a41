//! CREATE_SESSION, BIND_CONN_TO_SESSION, DESTROY_SESSION.

use super::*;

/// Section 18.36.4: the client id is a slot of its own.
#[tokio::test]
async fn create_session_is_executed_once() {
    let world = World::new();
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    assert_eq!(world.create(client, 0, HERE).await, Err(Status::SeqMisordered), "the contrived answer");
    assert_eq!(world.create(client, 2, HERE).await, Err(Status::SeqMisordered));
    let first = world.create(client, 1, HERE).await.unwrap();
    assert_eq!(first.sequence, 1);
    assert_eq!(world.create(client, 1, HERE).await, Ok(first), "a replay");
    assert_eq!(world.create(client, 0, HERE).await, Err(Status::SeqMisordered));
    assert_eq!(world.create(client, 3, HERE).await, Err(Status::SeqMisordered));
    let second = world.create(client, 2, HERE).await.unwrap();
    assert_ne!(first.session, second.session);
    assert_eq!(world.create(client, 1, HERE).await, Err(Status::SeqMisordered));
    assert_eq!(world.create(client ^ 1, 1, HERE).await, Err(Status::StaleClientId));
    // One of an earlier instance.
    let mut world = world;
    world.restart();
    assert_eq!(world.create(client, 3, HERE).await, Err(Status::StaleClientId));
}

#[tokio::test]
async fn another_principal_confirms_nothing() {
    let world = World::new();
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    let other_user = Principal { uid: Some(1), ..HERE };
    for _ in 0..2 {
        assert_eq!(world.create(client, 1, other_user).await, Err(Status::ClidInUse));
        assert_eq!(world.create(client, 1, at(2)).await, Err(Status::ClidInUse));
    }
    let created = world.create(client, 1, HERE).await.unwrap();
    // Once confirmed another user may, but nobody elsewhere, not even for a replay, which would tell the
    // session.
    assert_eq!(world.create(client, 1, at(2)).await, Err(Status::ClidInUse));
    assert_eq!(world.create(client, 2, at(2)).await, Err(Status::ClidInUse));
    assert_ne!(world.create(client, 2, other_user).await.unwrap().session, created.session);
}

/// Section 18.36.3.
#[tokio::test]
async fn what_is_granted_is_at_most_what_is_asked_and_allowed() {
    let limits = StateLimits { slots: 16, request: 4096, response: 8192, ..StateLimits::default() };
    let world = World::with(limits);
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    let mut sequence = 0;
    let mut ask = async |fore| {
        sequence += 1;
        let request = CreateSession { client, sequence, fore, principal: HERE, connection: 1 };
        let answer = world.state.create_session(request, world.now).await;
        assert_eq!(world.state.create_session(request, world.now).await, answer, "a replay");
        answer.map(|created| created.fore)
    };
    let most = Channel { request: 4096, response: 8192, response_cached: 8192, operations: 64, slots: 16 };
    let huge = Channel {
        request: u32::MAX,
        response: u32::MAX,
        response_cached: u32::MAX,
        operations: u32::MAX,
        slots: u32::MAX,
    };
    assert_eq!(ask(huge).await, Ok(most));
    let small = Channel { request: 512, response: 400, response_cached: 400, operations: 8, slots: 2 };
    assert_eq!(ask(small).await, Ok(small));
    assert_eq!(ask(Channel { response_cached: 8192, ..small }).await, Ok(small), "no more than a response");
    assert_eq!(
        ask(Channel { response_cached: 0, ..small }).await,
        Ok(Channel { response_cached: 0, ..small })
    );
    assert_eq!(ask(Channel { request: 20, ..small }).await, Err(Status::TooSmall));
    assert_eq!(ask(Channel { response: 0, ..small }).await, Err(Status::TooSmall));
    assert_eq!(ask(Channel { operations: 0, ..small }).await, Err(Status::TooSmall));
    assert_eq!(ask(Channel { slots: 0, ..small }).await, Err(Status::Inval));
}

#[tokio::test]
async fn a_refused_session_does_not_confirm() {
    let world = World::new();
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    let fore = Channel { request: 1, ..wide(1) };
    let request = CreateSession { client, sequence: 1, fore, principal: HERE, connection: 1 };
    assert_eq!(world.state.create_session(request, world.now).await, Err(Status::TooSmall));
    assert_eq!(world.exchange("owner", 1, HERE, true), Err(Status::NoEnt), "still unconfirmed");
    world.create(client, 2, HERE).await.unwrap();
}

#[tokio::test]
async fn sessions_are_limited_and_the_gone_give_way() {
    let mut world = World::with(StateLimits { sessions: 3, ..StateLimits::default() });
    let gone = world.mount("gone").await;
    let client = world.exchange("owner", 1, at(2), false).unwrap().client;
    world.create(client, 1, at(2)).await.unwrap();
    world.create(client, 2, at(2)).await.unwrap();
    assert_eq!(world.create(client, 3, at(2)).await, Err(Status::NoSpc));
    world.pass_a_lease();
    world.create(client, 4, at(2)).await.unwrap();
    assert_eq!(world.renew(gone).await.unwrap_err(), Status::BadSession);
    assert_eq!(world.create(client, 5, at(2)).await, Err(Status::NoSpc));
}

/// Section 18.37.3 and 2.10.3.1.
#[tokio::test]
async fn a_session_is_destroyed_over_its_own_connections() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    let destroy = |connection| world.state.destroy_session(mounted.session, None, connection, world.now);
    assert_eq!(destroy(2), Err(Status::ConnNotBoundToSession));
    assert_eq!(world.state.bind_connection([0; 16], 2, world.now), Err(Status::BadSession));
    assert_eq!(world.state.bind_connection(mounted.session, 2, world.now), Ok(()));
    assert_eq!(destroy(2), Ok(()));
    assert_eq!(destroy(2), Err(Status::BadSession));
    assert_eq!(world.state.bind_connection(mounted.session, 2, world.now), Err(Status::BadSession));
}

/// Section 2.10.3.1: without state protection SEQUENCE binds.
#[tokio::test]
async fn sequence_binds_its_connection() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    let request = Sequence {
        session: mounted.session,
        sequence: 1,
        slot: 0,
        highest_slot: 0,
        cache_this: false,
        connection: 5,
        fingerprint: 0,
        request: 128,
        operations: 1,
    };
    assert!(world.state.sequence(Sequence { slot: 99, ..request }, world.now).is_err());
    assert_eq!(
        world.state.destroy_session(mounted.session, None, 5, world.now),
        Err(Status::ConnNotBoundToSession)
    );
    drop(turn(world.state.sequence(request, world.now)));
    assert_eq!(world.state.destroy_session(mounted.session, None, 5, world.now), Ok(()));
}

#[tokio::test]
async fn the_newest_connections_are_remembered() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    for connection in 2..1000 {
        world.state.bind_connection(mounted.session, connection, world.now).unwrap();
    }
    let destroy = |connection| world.state.destroy_session(mounted.session, None, connection, world.now);
    assert_eq!(destroy(1), Err(Status::ConnNotBoundToSession));
    assert_eq!(destroy(990), Ok(()));
}

#[tokio::test]
async fn a_session_in_use_is_not_destroyed_by_others() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    let other = turn(world.sequence(mounted.session, 1, 1));
    let inside = turn(world.sequence(mounted.session, 0, 1));
    let destroy = |inside| world.state.destroy_session(mounted.session, inside, 1, world.now);
    assert_eq!(destroy(Some(&inside)), Err(Status::Delay));
    other.finish(|| text("done"));
    assert_eq!(destroy(None), Err(Status::Delay), "one request still runs");
    assert_eq!(destroy(Some(&inside)), Ok(()));
    // Its end finds no session.
    inside.finish(|| text("done"));
    assert_eq!(outcome(world.sequence(mounted.session, 0, 1)), "BadSession");
    assert_eq!(world.state.core.lock().clients[&mounted.client].busy, 0);
}

#[tokio::test]
async fn destroying_a_session_leaves_the_opens() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    let stateid = world.open(mounted.client, "o", 1, READ, NONE).await.unwrap();
    world.state.destroy_session(mounted.session, None, 1, world.now).unwrap();
    world.create(mounted.client, 2, HERE).await.unwrap();
    assert_eq!(world.state.may_read(mounted.client, 1, stateid), Ok(()));
}
