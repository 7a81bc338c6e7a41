//! SEQUENCE: slots, replays and what is out of order. RFC 8881 sections 2.10.6 and 18.46.

use std::io::Write as _;

use super::code::*;
use super::op::{self, Channel, Op};
use super::reply::{Body, Reply};
use super::scene::Scene;
use super::wire::{Answer, Session, Wire, arguments, unique};

fn pair(session: &Session, sequence: u32, slot: u32, cache: bool, second: Op) -> Vec<Op> {
    vec![op::sequence(session.id, sequence, slot, slot, cache), second]
}

#[test]
fn sequence_answers_what_it_was_asked() {
    let scene = Scene::new();
    let mut session = scene.session();
    for slot in [2, 5, 2] {
        let sequence = if session.sequence == 1 && slot == 2 { 1 } else { session.sequence };
        let ask = op::sequence(session.id, sequence, slot, 7, true);
        match session.wire.compound(&[ask]).last() {
            Body::Sequence { session: of, sequence: number, slot: at, highest, target, flags } => {
                assert_eq!((of, number, at), (session.id, sequence, slot), "section 18.46.3");
                assert!(highest < session.fore.slots && target < session.fore.slots);
                // No callback path is missed, nothing was revoked, nothing is to be reclaimed.
                assert_eq!(flags, 0);
            }
            other => panic!("{other:?}"),
        }
        session.sequence = if slot == 5 { 2 } else { 1 };
    }
}

#[test]
fn the_sequence_of_a_slot_goes_up_by_one() {
    let scene = Scene::new();
    let session = scene.session();
    let mut wire = Wire::connect(scene.gateway.nfs);
    let mut ask =
        |sequence, slot| wire.compound(&[op::sequence(session.id, sequence, slot, slot, true)]).status;
    // The first is 1, and 0 is not its replay.
    for wrong in [0, 2, 3, u32::MAX] {
        assert_eq!(ask(wrong, 3), SEQ_MISORDERED, "{wrong}");
    }
    assert_eq!(ask(1, 3), OK);
    for wrong in [0, 3, 4, u32::MAX] {
        assert_eq!(ask(wrong, 3), SEQ_MISORDERED, "{wrong}");
    }
    assert_eq!(ask(2, 3), OK);
    assert_eq!(ask(1, 3), SEQ_MISORDERED);
    assert_eq!(ask(1, 4), OK, "slots know nothing of each other");
}

#[test]
fn slots_and_sessions_that_are_not_there() {
    let scene = Scene::new();
    let session = scene.session();
    let slots = session.fore.slots;
    let mut wire = Wire::connect(scene.gateway.nfs);
    for slot in [slots, slots + 1, u32::MAX] {
        assert_eq!(wire.status(op::sequence(session.id, 1, slot, slot, true)), BADSLOT);
    }
    for highest in [slots + 1000, u32::MAX] {
        assert_eq!(
            wire.status(op::sequence(session.id, 1, 1, highest, true)),
            BAD_HIGH_SLOT,
            "section 15.1.11.3"
        );
    }
    for n in 0..128 {
        let mut guess = session.id;
        guess[n / 8] ^= 1 << (n % 8);
        assert_eq!(wire.status(op::sequence(guess, 1, 1, 1, true)), BADSESSION, "bit {n}");
    }
    // Nothing of that used the slot.
    assert_eq!(wire.status(op::sequence(session.id, 1, 1, 1, true)), OK);
}

#[test]
fn a_repeated_request_gets_the_same_bytes() {
    let scene = Scene::new();
    let mut session = scene.session();
    let file = session.find("hello");
    let open = op::open_fh(b"owner");
    let requests: [&[Op]; 9] = [
        &[],
        &[op::putrootfh()],
        &[op::putrootfh(), op::getfh(), op::getattr(&[0, 1, 3, 4, 20])],
        &[op::putfh(&file), open.clone(), op::getfh()],
        &[op::putfh(&file), open],
        &[op::putrootfh(), op::lookup(b"")],
        &[op::putrootfh(), op::lookup(b"no such name")],
        &[op::bare(op::OP_ILLEGAL)],
        &[op::putrootfh(), op::savefh(), op::rename(b"hello", b"other")],
    ];
    session.cache = true;
    for ops in requests {
        let all: Vec<Op> = std::iter::once(session.step()).chain(ops.iter().cloned()).collect();
        let first = session.wire.compound(&all).bytes;
        for _ in 0..2 {
            assert_eq!(session.wire.compound(&all).bytes, first);
        }
        // Retries come over new connections.
        assert_eq!(Wire::connect(scene.gateway.nfs).compound(&all).bytes, first);
    }
    // OPEN was done twice and not more often.
    let Body::Open { stateid, .. } = session.last(&[op::putfh(&file), op::open_fh(b"owner")]) else {
        panic!()
    };
    assert_eq!(stateid.seqid, 3);
}

#[test]
fn a_repeated_request_whose_answer_was_not_kept() {
    let scene = Scene::new();
    let mut session = scene.session();
    let requests: [&[Op]; 3] =
        [&[], &[op::putrootfh()], &[op::putrootfh(), op::lookup(b"hello"), op::open_fh(b"owner")]];
    for ops in requests {
        let all: Vec<Op> = std::iter::once(session.step()).chain(ops.iter().cloned()).collect();
        let first = session.wire.compound(&all);
        assert_eq!(first.status, OK);
        let again = session.wire.compound(&all);
        // A server may keep more than it must: section 2.10.6.1.3.
        if again.bytes != first.bytes {
            let told: Vec<_> = again.results.iter().map(|result| (result.op, result.status)).collect();
            assert_eq!(told, [(op::SEQUENCE, OK), (ops[0].number, RETRY_UNCACHED_REP)]);
            assert_eq!(again.results[0].body, first.results[0].body);
        }
    }
    session.last(&[op::putrootfh()]);
}

#[test]
fn another_request_under_a_used_number_is_a_false_retry() {
    let scene = Scene::new();
    let mut session = scene.session();
    let file = session.find("hello");
    let read = |count| [op::putfh(&file), op::read(op::Stateid::ANONYMOUS, 0, count)];
    session.cache = true;
    let step = session.step();
    let ask = |wire: &mut Wire, ops: &[Op]| {
        let all: Vec<Op> = std::iter::once(step.clone()).chain(ops.iter().cloned()).collect();
        wire.compound(&all)
    };
    let first = ask(&mut session.wire, &read(5));
    assert_eq!(first.status, OK);
    for other in [&read(6)[..], &[op::putrootfh()], &[]] {
        let reply = ask(&mut session.wire, other);
        assert_eq!((reply.status, reply.results.len()), (SEQ_FALSE_RETRY, 1), "section 2.10.6.1.3.1");
    }
    // What one principal asked is not told to another.
    session.wire.uid = 1234;
    assert_eq!(ask(&mut session.wire, &read(5)).status, SEQ_FALSE_RETRY);
    session.wire.uid = 1000;
    assert_eq!(ask(&mut session.wire, &read(5)).bytes, first.bytes);
}

#[test]
fn users_share_a_session() {
    // A client sends the calls of all its users over one session: section 2.10.8.1.
    let scene = Scene::new();
    let mut session = scene.session();
    for uid in [1000, 0, 4711] {
        session.wire.uid = uid;
        session.last(&[op::putrootfh(), op::getfh()]);
    }
}

#[test]
fn requests_and_answers_keep_within_what_was_negotiated() {
    let scene = Scene::new();
    let begin = |wanted| Session::begin(scene.gateway.nfs, &unique(), *b"verifier", wanted);
    let usual = Channel { request: 8192, response: 8192, cached: 8192, operations: 16, slots: 8, padding: 0 };

    let mut session = begin(Channel { request: 512, ..usual });
    let step = session.step();
    let long = op::lookup(&b"12345".repeat(100));
    let reply = session.wire.compound(&[step, op::putrootfh(), long]);
    assert_eq!((reply.status, reply.results.len()), (REQ_TOO_BIG, 1), "section 2.10.6.4");
    session.sequence = 0;
    session.last(&[op::putrootfh()]);

    let mut session = begin(Channel { operations: 4, ..usual });
    let operations = session.fore.operations as usize;
    let many = vec![op::putrootfh(); operations - 1];
    session.last(&many);
    let step = session.step();
    let reply = session.wire.compound(&[&[step, op::putrootfh()], &many[..]].concat());
    assert_eq!((reply.status, reply.results.len()), (TOO_MANY_OPS, 1));
    session.sequence -= 1;
    session.last(&many);

    let mut session = begin(Channel { response: 400, cached: 400, ..usual });
    let attributes = op::getattr(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 19, 75]);
    let many = [op::putrootfh(), attributes.clone(), attributes.clone(), attributes.clone(), attributes];
    assert_eq!(session.status(&many), REP_TOO_BIG);
    session.last(&[op::putrootfh()]);

    let mut session = begin(Channel { response: 8192, cached: 400, ..usual });
    let file = session.find("big");
    let read = [op::putfh(&file), op::read(op::Stateid::ANONYMOUS, 0, 1000)];
    session.last(&read);
    session.cache = true;
    session.fails(&read, REP_TOO_BIG_TO_CACHE);
    session.last(&[op::putrootfh()]);

    // Nothing can be kept at all.
    let mut session = begin(Channel { cached: 10, ..usual });
    let step = [op::sequence(session.id, 1, 0, 0, true), op::putrootfh()];
    assert_eq!(session.wire.compound(&step).status, REP_TOO_BIG_TO_CACHE);
}

#[test]
fn answers_are_as_long_as_was_negotiated_and_no_longer() {
    let scene = Scene::new();
    let wanted = Channel { response: 5000, cached: 0, ..Channel::USUAL };
    let mut session = Session::begin(scene.gateway.nfs, &unique(), *b"verifier", wanted);
    let (file, many) = (session.find("big"), session.find("many"));
    for count in (4000..5200).step_by(40) {
        let reply = session.run(&[op::putfh(&file), op::read(op::Stateid::ANONYMOUS, 0, count)]);
        // 24 bytes of RPC header count, too.
        assert!(reply.bytes.len() + 24 <= 5000);
        match reply.results.last().unwrap() {
            result if result.status == OK => {}
            result => assert_eq!((result.status, count > 4700), (REP_TOO_BIG, true), "{count} bytes"),
        }
        let reply = session.run(&[op::putfh(&many), op::readdir(0, [0; 8], count, count, &[1, 4, 19])]);
        assert!(reply.bytes.len() + 24 <= 5000);
        assert!([OK, REP_TOO_BIG].contains(&reply.status), "{:?}", reply.status);
    }
}

#[test]
fn many_connections_and_slots_serve_one_session_at_once() {
    let scene = Scene::new();
    let mut session = scene.session();
    let big = session.find("big");
    let good = super::support::content(1, super::scene::BIG);
    let slots = session.fore.slots.min(8);
    std::thread::scope(|scope| {
        for slot in 1..slots {
            let (session, big, good) = (&session, &big, &good);
            scope.spawn(move || {
                // Each slot goes over two connections by turns.
                let mut wires = [Wire::connect(session.wire.address), Wire::connect(session.wire.address)];
                for n in 1..60u32 {
                    let offset = u64::from(n * 4801 + slot * 13);
                    let sequence = op::sequence(session.id, n, slot, slots - 1, false);
                    let read = op::read(op::Stateid::ANONYMOUS, offset, 5000);
                    let reply = wires[n as usize % 2].compound(&[sequence, op::putfh(big), read]);
                    match reply.last() {
                        Body::Read { data, .. } => {
                            assert!(data == good[offset as usize..][..5000], "at {offset}")
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
}

#[test]
fn calls_in_flight_on_all_slots_of_one_connection_are_all_answered() {
    let scene = Scene::new();
    let mut session = scene.session();
    let big = session.find("big");
    let slots = session.fore.slots;
    let mut all = Vec::new();
    for slot in 1..slots {
        for n in 1..20 {
            let ops = [pair(&session, n, slot, false, op::putfh(&big)), vec![op::getattr(&[4])]].concat();
            // The next on a slot is sent when the one before is answered; here all the slots at once.
            all.push((n, session.wire.record(1, &arguments(b"", 2, &ops))));
        }
    }
    for n in 1..20 {
        let round: Vec<u8> =
            all.iter().filter(|(of, _)| *of == n).flat_map(|(_, record)| record.clone()).collect();
        session.wire.stream.write_all(&round).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 1..slots {
            let (xid, answer) = session.wire.answer().unwrap();
            assert!(seen.insert(xid), "{xid} twice");
            let Answer::Accepted(results) = answer else { panic!("{answer:?}") };
            Reply::decode(&results).ok();
        }
    }
}
