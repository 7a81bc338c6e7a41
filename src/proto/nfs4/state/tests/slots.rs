//! SEQUENCE: sections 2.10.6 and 18.46.

use super::*;

#[tokio::test]
async fn each_answer_of_sequence() {
    let world = World::new();
    let session = world.mount("owner").await.session;
    let on = |slot, sequence| world.sequence(session, slot, sequence);
    assert_eq!(outcome(world.sequence([0; 16], 0, 1)), "BadSession");
    assert_eq!(outcome(on(8, 1)), "BadSlot");
    let high = Sequence {
        session,
        sequence: 1,
        slot: 0,
        highest_slot: 8,
        cache_this: true,
        connection: 1,
        fingerprint: 7,
        request: 128,
        operations: 1,
    };
    assert_eq!(outcome(world.state.sequence(high, world.now)), "BadHighSlot");
    // Section 18.36.3: neither takes the slot.
    let large = Sequence { highest_slot: 0, request: (1 << 20) + 1, ..high };
    assert_eq!(outcome(world.state.sequence(large, world.now)), "ReqTooBig");
    let many = Sequence { highest_slot: 0, operations: 65, ..high };
    assert_eq!(outcome(world.state.sequence(many, world.now)), "TooManyOps");
    for sequence in [0, 2, u32::MAX] {
        assert_eq!(outcome(on(0, sequence)), "SeqMisordered", "{sequence} on a new slot");
    }
    let most = Sequence { highest_slot: 7, request: 1 << 20, operations: 64, ..high };
    let first = turn(world.state.sequence(most, world.now));
    assert_eq!(
        first.result(),
        SequenceResult { session, sequence: 1, slot: 0, highest_slot: 7, target_highest_slot: 7, flags: 0 }
    );
    assert_eq!(outcome(on(0, 1)), "Delay", "it runs");
    assert_eq!(outcome(on(0, 2)), "SeqMisordered", "it runs");
    assert_eq!(outcome(on(1, 1)), "execute", "another slot");
    first.finish(|| text("one"));
    assert_eq!(outcome(on(0, 1)), "replay one");
    assert_eq!(outcome(on(0, 1)), "replay one");
    let other = Sequence { fingerprint: 8, highest_slot: 0, ..high };
    assert_eq!(outcome(world.state.sequence(other, world.now)), "SeqFalseRetry");
    assert_eq!(outcome(on(0, 0)), "SeqMisordered");
    assert_eq!(outcome(on(0, 3)), "SeqMisordered");
    turn(on(0, 2)).finish(|| text("two"));
    assert_eq!(outcome(on(0, 1)), "SeqMisordered");
    assert_eq!(outcome(on(0, 2)), "replay two");
}

#[tokio::test]
async fn a_reply_is_kept_when_it_is_to_be_and_fits() {
    let world = World::new();
    let session = world.mount("owner").await.session;
    let request = |sequence, cache_this| Sequence {
        session,
        sequence,
        slot: 0,
        highest_slot: 0,
        cache_this,
        connection: 1,
        fingerprint: 7,
        request: 128,
        operations: 1,
    };
    let ask = |sequence, cache_this| world.state.sequence(request(sequence, cache_this), world.now);
    turn(ask(1, false)).finish(|| panic!("it is not kept"));
    assert_eq!(outcome(ask(1, false)), "uncached");
    turn(ask(2, true)).finish(|| Bytes::from(vec![b'x'; 8193]));
    assert_eq!(outcome(ask(2, true)), "uncached");
    turn(ask(3, true)).finish(|| Bytes::from(vec![b'x'; 8192]));
    assert!(matches!(ask(3, true), Ok(Sequenced::Replay(reply)) if reply.len() == 8192));
    // The compound ended without an answer.
    drop(turn(ask(4, true)));
    assert_eq!(outcome(ask(4, true)), "uncached");
    assert_eq!(outcome(ask(5, true)), "execute");
}

#[tokio::test]
async fn sequence_numbers_wrap() {
    let world = World::new();
    let session = world.mount("owner").await.session;
    turn(world.sequence(session, 0, 1)).finish(|| text("one"));
    // Too many to count up to.
    world.state.core.lock().sessions.get_mut(&session).unwrap().set_sequence(0, u32::MAX);
    assert_eq!(outcome(world.sequence(session, 0, u32::MAX)), "replay one");
    assert_eq!(outcome(world.sequence(session, 0, 1)), "SeqMisordered");
    turn(world.sequence(session, 0, 0)).finish(|| text("zero"));
    assert_eq!(outcome(world.sequence(session, 0, 0)), "replay zero");
    assert_eq!(outcome(world.sequence(session, 0, 1)), "execute");
}

#[tokio::test]
async fn kept_replies_are_bounded_and_the_oldest_go() {
    let world = World::with(StateLimits { response_cached: 1 << 20, slots: 200, ..StateLimits::default() });
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    let fore = Channel { response_cached: 1 << 20, ..wide(200) };
    let request = CreateSession { client, sequence: 1, fore, principal: HERE, connection: 1 };
    let session = world.state.create_session(request, world.now).await.unwrap().session;
    for slot in 0..100 {
        turn(world.sequence(session, slot, 1)).finish(|| Bytes::from(vec![b'x'; 1 << 20]));
    }
    assert!(world.state.core.lock().replies.bytes() <= 64 << 20);
    assert_eq!(outcome(world.sequence(session, 0, 1)), "uncached");
    assert!(matches!(world.sequence(session, 99, 1), Ok(Sequenced::Replay(_))));
    for slot in 0..100 {
        turn(world.sequence(session, slot, 2)).finish(|| text("small"));
    }
    assert_eq!(world.state.core.lock().replies.bytes(), 100 * (5 + 256));
    world.state.destroy_session(session, None, 1, world.now).unwrap();
    assert_eq!(world.state.core.lock().replies.bytes(), 0);
}

#[tokio::test]
async fn a_request_that_ends_late_disturbs_nothing() {
    let world = World::new();
    let mounted = world.mount("owner").await;
    let late = turn(world.sequence(mounted.session, 0, 1));
    // The client restarts while it runs.
    let new = world.exchange("owner", 9, HERE, false).unwrap();
    world.create(new.client, 1, HERE).await.unwrap();
    late.finish(|| text("late"));
    assert_eq!(outcome(world.sequence(mounted.session, 0, 1)), "BadSession");
    assert_eq!(world.state.core.lock().replies.bytes(), 0);
}

/// Others may need what a client holds when its long request has just ended.
#[tokio::test]
async fn the_lease_runs_from_the_end_of_a_request() {
    let mut world = World::new();
    let slow = world.mount("slow").await;
    world.open(slow.client, "o", 1, READ, READ).await.unwrap();
    let other = world.mount_at("other", at(2)).await;
    let request = turn(world.sequence(slow.session, 0, 1));
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    request.finish(|| text("done"));
    world.pass(LEASE);
    world.renew(other).await.unwrap();
    assert_eq!(world.open(other.client, "o", 1, READ, NONE).await, Err(Status::ShareDenied));
}

#[tokio::test]
async fn who_keeps_most_replies_loses_them_first() {
    let world = World::with(StateLimits { response_cached: 1 << 20, slots: 200, ..StateLimits::default() });
    let modest = world.mount_at("modest", at(2)).await.session;
    turn(world.sequence(modest, 0, 1)).finish(|| text("first of all"));
    let client = world.exchange("owner", 1, HERE, false).unwrap().client;
    let fore = Channel { response_cached: 1 << 20, ..wide(200) };
    let request = CreateSession { client, sequence: 1, fore, principal: HERE, connection: 1 };
    let session = world.state.create_session(request, world.now).await.unwrap().session;
    for slot in 0..100 {
        turn(world.sequence(session, slot, 1)).finish(|| Bytes::from(vec![b'x'; 1 << 20]));
    }
    assert_eq!(outcome(world.sequence(modest, 0, 1)), "replay first of all");
    assert!(world.state.core.lock().replies.bytes() <= 64 << 20);
}
