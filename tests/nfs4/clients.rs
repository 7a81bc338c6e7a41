//! Client ids and sessions as things that are made and destroyed: RFC 8881 sections 18.34 to 18.37, 18.50
//! and 18.51.

use super::code::*;
use super::op::{self, Channel, Op, Stateid};
use super::reply::Body;
use super::scene::Scene;
use super::wire::{Answer, Session, Wire, arguments, unique};

const FIRST: [u8; 8] = *b"first   ";
const SECOND: [u8; 8] = *b"second  ";
const UID: u32 = 1000;
const OTHER_UID: u32 = 1001;

/// EXCHANGE_ID as somebody: client id, flags, or the error.
fn exchange(
    wire: &mut Wire,
    owner: &[u8],
    verifier: [u8; 8],
    uid: u32,
    flags: u32,
) -> Result<(u64, u32), Code> {
    wire.uid = uid;
    let reply = wire.compound(&[op::exchange_id(owner, verifier, flags)]);
    wire.uid = UID;
    match reply.results[0].body {
        Body::Client { id, flags, .. } => {
            // Section 13.1: a server says what it is, and this one serves no pNFS.
            assert_eq!(flags & 0x0007_0000, op::USE_NON_PNFS);
            assert_eq!(flags & !(op::CONFIRMED_R | op::USE_NON_PNFS), 0);
            Ok((id, flags))
        }
        _ => Err(reply.status),
    }
}

/// A client as section 18.35.4 tells them apart before an EXCHANGE_ID comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    None,
    Unconfirmed,
    /// Confirmed, its session destroyed: nothing depends on it.
    Idle,
    /// Confirmed, with a session and an open file.
    Busy,
}

/// What an EXCHANGE_ID leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Another client id, not confirmed.
    New,
    /// The same client id, confirmed.
    Same,
    Fails(&'static [Code]),
}

#[test]
fn exchange_id_tells_new_returning_restarted_and_colliding_clients_apart() {
    use Outcome::{Fails, New, Same};
    use Record::{Busy, Idle, None, Unconfirmed};
    let scene = Scene::new();
    // Record, same verifier, same principal, update, outcome, and the case of section 18.35.4.
    let cases = [
        (None, true, true, false, New, 1),
        (Busy, true, true, false, Same, 2),
        (Idle, true, true, false, Same, 2),
        (Busy, true, false, false, Fails(&[CLID_INUSE]), 3),
        (Busy, false, false, false, Fails(&[CLID_INUSE]), 3),
        (Idle, true, false, false, New, 3),
        (Idle, false, false, false, New, 3),
        (Unconfirmed, true, true, false, New, 4),
        (Unconfirmed, false, true, false, New, 4),
        (Unconfirmed, true, false, false, New, 4),
        (Unconfirmed, false, false, false, New, 4),
        (Idle, false, true, false, New, 5),
        (Busy, false, true, false, New, 5),
        (Busy, true, true, true, Same, 6),
        (Idle, true, true, true, Same, 6),
        (None, true, true, true, Fails(&[NOENT]), 7),
        (Unconfirmed, true, true, true, Fails(&[NOENT]), 7),
        (Unconfirmed, false, true, true, Fails(&[NOENT]), 7),
        (Unconfirmed, true, false, true, Fails(&[NOENT]), 7),
        (Unconfirmed, false, false, true, Fails(&[NOENT]), 7),
        (Busy, false, true, true, Fails(&[NOT_SAME]), 8),
        (Busy, true, false, true, Fails(&[PERM]), 9),
        (Busy, false, false, true, Fails(&[NOT_SAME, PERM]), 9),
    ];
    for case in cases {
        let (record, same_verifier, same_principal, update, outcome, _) = case;
        let owner = unique();
        let mut wire = Wire::connect(scene.gateway.nfs);
        let mut before = Option::None;
        let mut kept = Option::None;
        match record {
            None => {}
            Unconfirmed => before = Some(exchange(&mut wire, &owner, FIRST, UID, 0).unwrap().0),
            Idle | Busy => {
                let mut session = Session::begin(scene.gateway.nfs, &owner, FIRST, Channel::USUAL);
                session.last(&[op::reclaim_complete(false)]);
                before = Some(session.client);
                if record == Busy {
                    let file = session.find("hello");
                    session.open_file(&file, b"owner");
                    kept = Some(session);
                } else {
                    assert_eq!(session.wire.status(op::destroy_session(session.id)), OK);
                }
            }
        }
        let verifier = if same_verifier { FIRST } else { SECOND };
        let uid = if same_principal { UID } else { OTHER_UID };
        let flags = if update { op::UPDATE } else { 0 };
        let result = exchange(&mut wire, &owner, verifier, uid, flags);
        match (outcome, result) {
            (New, Ok((id, flags))) => {
                assert_ne!(Some(id), before, "{case:?}");
                assert_eq!(flags & op::CONFIRMED_R, 0, "{case:?}");
            }
            (Same, Ok((id, flags))) => {
                assert_eq!(Some(id), before, "{case:?}");
                assert_ne!(flags & op::CONFIRMED_R, 0, "{case:?}");
            }
            (Fails(codes), Err(code)) if codes.contains(&code) => {}
            (_, result) => panic!("{case:?}: {result:?}"),
        }
        // Whatever came of it, the client with a session has lost nothing yet.
        if let Some(mut session) = kept {
            session.last(&[op::putrootfh()]);
        }
    }
}

#[test]
fn a_restarted_client_keeps_its_old_self_until_it_confirms_the_new_one() {
    let scene = Scene::new();
    let mut old = scene.session();
    let file = old.find("hello");
    let stateid = old.open_as(&file, b"owner", op::SHARE_READ, op::SHARE_READ);
    let mut wire = Wire::connect(scene.gateway.nfs);
    let (client, sequence) = wire.exchange(&old.owner, SECOND);
    assert_ne!(client, old.client);
    old.last(&[op::putfh(&file), op::read(stateid, 0, 1)]);
    // The share is held against others until then, and given up with the old client.
    let mut other = scene.session();
    let open = [op::putfh(&file), op::open_fh(b"other")];
    other.fails(&open, SHARE_DENIED);
    wire.create(client, sequence, Channel::USUAL);
    let step = old.step();
    assert_eq!(old.wire.status(step), BADSESSION, "section 18.36.4: confirmed, so the old record goes");
    other.last(&open);
}

#[test]
fn a_client_that_another_principal_replaced_is_stale() {
    let scene = Scene::new();
    let owner = unique();
    let mut old = Session::begin(scene.gateway.nfs, &owner, FIRST, Channel::USUAL);
    assert_eq!(old.wire.status(op::destroy_session(old.id)), OK);
    let mut wire = Wire::connect(scene.gateway.nfs);
    let (client, _) = exchange(&mut wire, &owner, SECOND, OTHER_UID, 0).unwrap();
    assert_ne!(client, old.client);
    let again = op::create_session(old.client, old.next, Channel::USUAL);
    assert_eq!(old.wire.status(again), STALE_CLIENTID);
}

#[test]
fn exchange_id_checks_its_arguments() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for flags in [0x8, 0x200, op::CONFIRMED_R, op::CONFIRMED_R | op::USE_NON_PNFS, 0x0008_0000, 0x2000_0000] {
        let status = wire.status(op::exchange_id(&unique(), FIRST, flags));
        assert_eq!(status, INVAL, "flags {flags:#x}, section 18.35.3");
    }
    // EXCHGID4_FLAG_SUPP_FENCE_OPS is of RFC 7862.
    wire.minor = 1;
    assert_eq!(wire.status(op::exchange_id(&unique(), FIRST, 4)), INVAL);
    wire.minor = 2;
    // What a client may do and what it may ask for, and what it needs not be given.
    for flags in [0, 1, 2, 0x100, 0x1_0000, 0x2_0000, 0x4_0000, 0x7_0103] {
        assert!(exchange(&mut wire, &unique(), FIRST, UID, flags).is_ok(), "flags {flags:#x}");
    }
    for names in [0, 1] {
        assert_eq!(wire.status(op::exchange_id_named(&unique(), FIRST, names)), OK);
    }
    not_xdr(&mut wire, &[op::exchange_id_named(&unique(), FIRST, 2)]);
    assert_eq!(wire.status(op::exchange_id(&[7; 1024], FIRST, 0)), OK);
    not_xdr(&mut wire, &[op::exchange_id(&[7; 1025], FIRST, 0)]);
    // Protection by machine credentials needs RPCSEC_GSS: section 18.35.3.
    let machine = Op::new(op::EXCHANGE_ID, |w| {
        w.fixed(&FIRST).opaque(&unique()).u32(0).u32(1).u32(0).u32(0).u32(0);
    });
    assert_eq!(wire.status(machine), INVAL);
    let ssv = Op::new(op::EXCHANGE_ID, |w| {
        w.fixed(&FIRST).opaque(&unique()).u32(0).u32(2).u32(0).u32(0);
        w.u32(1).opaque(b"\x60\x86\x48\x01\x65\x03\x04\x02\x01").u32(1).opaque(b"none").u32(4).u32(1).u32(0);
    });
    assert_ne!(wire.status(ssv), OK);
}

/// The arguments are no XDR: the operation is answered with NFS4ERR_BADXDR, or the call with GARBAGE_ARGS.
/// RFC 8881 section 16.2.3 has it both ways.
#[track_caller]
pub fn not_xdr(wire: &mut Wire, ops: &[Op]) {
    match wire.call(1, &arguments(b"", wire.minor, ops)) {
        Answer::Accepted(results) => assert_eq!(super::reply::Reply::decode(&results).status, BADXDR),
        Answer::Refused(status) => assert_eq!(status, super::wire::GARBAGE_ARGS),
    }
}

#[test]
fn all_sessions_and_clients_are_of_one_server() {
    let scene = Scene::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(scene.gateway.nfs);
        match wire.compound(&[op::exchange_id(&unique(), FIRST, 0)]).last() {
            Body::Client { server, scope, .. } => servers.push((server, scope)),
            other => panic!("{other:?}"),
        }
    }
    // Section 2.10.5: clients trunk connections whose major id and scope are the same.
    servers.dedup();
    assert_eq!(servers.len(), 1);
    assert!(!servers[0].0.is_empty());
}

#[test]
fn create_session_is_answered_once_and_replayed_after() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    let (client, sequence) = wire.exchange(&unique(), FIRST);
    let create = |sequence| [op::create_session(client, sequence, Channel::USUAL)];
    // Nothing was answered yet, so there is nothing to replay: section 18.36.4, phase 2.
    assert_eq!(wire.compound(&create(sequence.wrapping_sub(1))).status, SEQ_MISORDERED);
    let first = wire.compound(&create(sequence)).bytes;
    assert_eq!(wire.compound(&create(sequence)).bytes, first);
    assert_eq!(Wire::connect(scene.gateway.nfs).compound(&create(sequence)).bytes, first, "by another way");
    assert_eq!(wire.compound(&create(sequence.wrapping_sub(1))).status, SEQ_MISORDERED);
    assert_eq!(wire.compound(&create(sequence.wrapping_add(2))).status, SEQ_MISORDERED);
    let (one, _) = wire.create(client, sequence.wrapping_add(1), Channel::USUAL);
    assert_eq!(wire.compound(&create(sequence)).status, SEQ_MISORDERED);
    // Both sessions are there.
    let Body::Session { id, .. } = super::reply::Reply::decode(&first).last() else { panic!() };
    assert_ne!(id, one);
    for session in [id, one] {
        assert_eq!(wire.compound(&[op::sequence(session, 1, 0, 0, false), op::putrootfh()]).status, OK);
    }
}

#[test]
fn create_session_may_come_in_a_session_and_is_replayed_outside_of_it() {
    let scene = Scene::new();
    let mut session = scene.session();
    let create = op::create_session(session.client, session.next, Channel::USUAL);
    let inside = session.last(std::slice::from_ref(&create));
    let outside = session.wire.compound(std::slice::from_ref(&create)).last();
    assert_eq!(inside, outside);
    // For another client than that of the session.
    let (client, sequence) = session.wire.exchange(&unique(), FIRST);
    session.last(&[op::create_session(client, sequence, Channel::USUAL)]);
}

#[test]
fn create_session_checks_who_asks_for_what() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for unknown in [0, 1, u64::MAX] {
        assert_eq!(wire.status(op::create_session(unknown, 1, Channel::USUAL)), STALE_CLIENTID);
    }
    let (client, sequence) = wire.exchange(&unique(), FIRST);
    let create = op::create_session(client, sequence, Channel::USUAL);
    wire.uid = OTHER_UID;
    for _ in 0..2 {
        assert_eq!(wire.status(create.clone()), CLID_INUSE, "not confirmed, so it is the principal's own");
    }
    wire.uid = UID;
    let undefined = op::create_session_with(client, sequence, 0xf, Channel::USUAL, 0);
    assert_eq!(wire.status(undefined), INVAL);
    not_xdr(&mut wire, &[op::create_session_with(client, sequence, 0, Channel::USUAL, 2)]);
    // None of these used the sequence up.
    let reply = wire.compound(&[op::create_session_with(client, sequence, 7, Channel::USUAL, 1)]);
    let Body::Session { flags, fore, .. } = reply.last() else { panic!() };
    assert_eq!(flags & !2, 0, "neither persistent nor RDMA");
    assert!(fore.slots > 0);
    // Confirmed, and with SP4_NONE another principal may add a session: section 18.36.4.
    wire.uid = OTHER_UID;
    wire.create(client, sequence.wrapping_add(1), Channel::USUAL);
    let third = op::create_session_all_security(client, sequence.wrapping_add(2), Channel::USUAL);
    assert_eq!(wire.status(third), OK);
}

#[test]
fn a_channel_is_granted_within_what_was_asked_for() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    let (client, mut sequence) = wire.exchange(&unique(), FIRST);
    let small = Channel { request: 8192, response: 8192, cached: 8192, operations: 8, slots: 8, padding: 0 };
    let most = Channel {
        request: u32::MAX,
        response: u32::MAX,
        cached: u32::MAX,
        operations: u32::MAX,
        slots: u32::MAX,
        padding: 0,
    };
    let uncached = Channel { cached: 0, ..small };
    let single = Channel { slots: 1, operations: 2, ..small };
    for asked in [small, Channel::USUAL, most, uncached, single] {
        let (id, granted) = wire.create(client, sequence, asked);
        sequence = sequence.wrapping_add(1);
        assert!(granted.request <= asked.request && granted.response <= asked.response, "{granted:?}");
        assert!(granted.cached <= asked.cached && granted.operations <= asked.operations, "{granted:?}");
        assert!((1..=asked.slots.min(2048)).contains(&granted.slots), "{granted:?}");
        assert!(granted.operations >= asked.operations.min(16), "{granted:?}");
        assert_eq!(wire.status(op::sequence(id, 1, granted.slots - 1, granted.slots - 1, false)), OK);
        assert_eq!(wire.status(op::sequence(id, 1, granted.slots, granted.slots, false)), BADSLOT);
    }
    // So small that not even a SEQUENCE passes: section 18.36.3.
    for asked in [
        Channel { request: 20, ..small },
        Channel { response: 0, ..small },
        Channel { response: 20, ..small },
    ] {
        assert_eq!(wire.status(op::create_session(client, sequence, asked)), TOOSMALL, "{asked:?}");
    }
    for asked in [Channel { operations: 0, ..small }, Channel { slots: 0, ..small }] {
        let reply = wire.compound(&[op::create_session(client, sequence, asked)]);
        match reply.results[0].body {
            Body::Session { fore, .. } => {
                assert!(fore.operations > 0 && fore.slots > 0, "{fore:?}");
                sequence = sequence.wrapping_add(1);
            }
            _ => assert!([INVAL, TOOSMALL].contains(&reply.status), "{asked:?}: {:?}", reply.status),
        }
    }
}

#[test]
fn operations_that_must_be_alone_are_not_done_in_company() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (client, sequence) = session.wire.exchange(&unique(), FIRST);
    // Sections 18.34.3, 18.35.3, 18.36.3, 18.37.3, 18.50.3.
    for alone in [
        op::exchange_id(&unique(), FIRST, 0),
        op::create_session(client, sequence, Channel::USUAL),
        op::bind_conn(session.id, 3),
        op::destroy_session(session.id),
        op::destroy_clientid(client),
    ] {
        for second in [op::putrootfh(), op::reclaim_complete(true), alone.clone()] {
            let reply = session.wire.compound(&[alone.clone(), second]);
            assert_eq!((reply.status, reply.results.len()), (NOT_ONLY_OP, 1), "operation {}", alone.number);
            assert_eq!(reply.results[0].op, alone.number);
        }
    }
    session.fails(&[op::bind_conn(session.id, 3)], NOT_ONLY_OP);
    // None of it was done.
    session.last(&[op::putrootfh()]);
    session.wire.create(client, sequence, Channel::USUAL);
}

#[test]
fn a_destroyed_session_is_gone_and_its_client_is_not() {
    let scene = Scene::new();
    let mut session = scene.session();
    let file = session.find("hello");
    let stateid = session.open_file(&file, b"owner");
    let gone = session.id;
    assert_eq!(session.wire.status(op::destroy_session(gone)), OK);
    for op in [
        op::sequence(gone, session.sequence + 1, 0, 0, false),
        op::destroy_session(gone),
        op::bind_conn(gone, 3),
    ] {
        assert_eq!(session.wire.status(op), BADSESSION);
    }
    // Locks belong to the client: section 18.37.3.
    (session.id, _) = session.wire.create(session.client, session.next, Channel::USUAL);
    session.sequence = 0;
    assert_eq!(session.read(&file, stateid, 0, 5).0, b"hello");
}

#[test]
fn destroy_session_in_a_session_comes_last() {
    let scene = Scene::new();
    let mut session = scene.session();
    let own = session.id;
    let reply = session.run(&[op::destroy_session(own), op::putrootfh()]);
    assert_eq!((reply.status, reply.results.len()), (NOT_ONLY_OP, 1), "section 18.37.3");
    session.last(&[op::putrootfh()]);
    // Another session of the same client, with operations behind.
    let (other, _) = session.wire.create(session.client, session.next, Channel::USUAL);
    session.last(&[op::destroy_session(other), op::putrootfh()]);
    session.last(&[op::putrootfh(), op::destroy_session(own)]);
    let step = session.step();
    assert_eq!(session.wire.status(step), BADSESSION);
}

#[test]
fn destroy_session_comes_over_a_connection_of_the_session() {
    let scene = Scene::new();
    let mut session = scene.session();
    let mut rogue = Wire::connect(scene.gateway.nfs);
    assert_eq!(rogue.status(op::destroy_session(session.id)), CONN_NOT_BOUND_TO_SESSION, "section 18.37.3");
    session.last(&[op::putrootfh()]);
    let step = session.step();
    assert_eq!(rogue.status(step), OK, "SEQUENCE binds the connection: section 18.46.3");
    assert_eq!(rogue.status(op::destroy_session(session.id)), OK);
}

#[test]
fn connections_are_bound_to_sessions() {
    let scene = Scene::new();
    let session = scene.session();
    let mut second = Wire::connect(scene.gateway.nfs);
    for (asked, given) in [(1, &[1][..]), (2, &[2]), (3, &[1, 2, 3]), (7, &[1, 2, 3])] {
        match second.compound(&[op::bind_conn(session.id, asked)]).last() {
            Body::Bound { session: of, direction } => {
                assert_eq!(of, session.id);
                assert!(given.contains(&direction), "asked for {asked}, got {direction}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(second.status(op::bind_conn([0; 16], 3)), BADSESSION);
    for undefined in [0, 4, 8] {
        assert!([INVAL, BADXDR].contains(&second.status(op::bind_conn(session.id, undefined))));
    }
    assert_eq!(second.status(op::destroy_session(session.id)), OK, "bound, so it may");
}

#[test]
fn destroy_clientid_takes_clients_that_have_nothing() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for unknown in [0, 77, u64::MAX] {
        assert_eq!(wire.status(op::destroy_clientid(unknown)), STALE_CLIENTID);
    }
    let (unconfirmed, sequence) = wire.exchange(&unique(), FIRST);
    assert_eq!(wire.status(op::destroy_clientid(unconfirmed)), OK);
    assert_eq!(wire.status(op::destroy_clientid(unconfirmed)), STALE_CLIENTID);
    assert_eq!(wire.status(op::create_session(unconfirmed, sequence, Channel::USUAL)), STALE_CLIENTID);

    let mut session = scene.session();
    assert_eq!(wire.status(op::destroy_clientid(session.client)), CLIENTID_BUSY);
    session.fails(&[op::destroy_clientid(session.client)], CLIENTID_BUSY);
    session.fails(&[op::destroy_clientid(0)], STALE_CLIENTID);
    let (another, _) = wire.exchange(&unique(), FIRST);
    session.last(&[op::destroy_clientid(another)]);

    // Without sessions, but with an open file.
    let file = session.find("hello");
    let stateid = session.open_file(&file, b"owner");
    assert_eq!(session.wire.status(op::destroy_session(session.id)), OK);
    assert_eq!(session.wire.status(op::destroy_clientid(session.client)), CLIENTID_BUSY);
    (session.id, _) = session.wire.create(session.client, session.next, Channel::USUAL);
    session.sequence = 0;
    session.last(&[op::putfh(&file), op::close(stateid), op::putrootfh()]);
    assert_eq!(session.wire.status(op::destroy_session(session.id)), OK);
    assert_eq!(session.wire.status(op::destroy_clientid(session.client)), OK);
    let (again, _) = session.wire.exchange(&session.owner, session.verifier);
    assert_ne!(again, session.client);
}

#[test]
fn reclaim_complete_is_said_once_and_before_any_lock() {
    let scene = Scene::new();
    let mut session = Session::begin(scene.gateway.nfs, &unique(), FIRST, Channel::USUAL);
    let file = session.find("hello");
    // Section 18.51.3: a new client says so, though it has nothing to reclaim.
    session.fails(&[op::putfh(&file), op::open_fh(b"owner")], GRACE);
    assert_eq!(session.read(&file, Stateid::ANONYMOUS, 0, 5).0, b"hello");
    session.fails(&[op::reclaim_complete(true)], NOFILEHANDLE);
    session.last(&[op::putrootfh(), op::reclaim_complete(true)]);
    session.last(&[op::reclaim_complete(false)]);
    session.fails(&[op::reclaim_complete(false)], COMPLETE_ALREADY);
    let previous = op::open(b"owner", op::SHARE_READ, 0, op::Claim::Previous(0));
    session.fails(&[op::putfh(&file), previous], NO_GRACE);
    session.open_file(&file, b"owner");
}

#[test]
fn the_backchannel_may_be_changed_and_ssv_may_not_be_set() {
    let scene = Scene::new();
    let mut session = scene.session();
    session.last(&[op::backchannel_ctl()]);
    // Section 18.47.3: the client id is not protected so.
    assert!([INVAL, NOTSUPP].contains(&session.status(&[op::set_ssv()])));
}
