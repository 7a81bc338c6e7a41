//! Compounds cut at every length and changed at random: RFC 8881 section 15.1.1.1.

use std::io::Write as _;

use super::code::*;
use super::compound::every_operation;
use super::op::{self, Op};
use super::reply::Reply;
use super::scene::Scene;
use super::support::{Random, seed};
use super::wire::{Answer, GARBAGE_ARGS, Session, Wire, arguments};

#[test]
fn operations_cut_at_every_length_are_not_executed() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    for op in every_operation().into_iter().filter(|op| !op.body.is_empty()) {
        // What is refused whatever it says may be refused before its arguments are looked at.
        let whole = match op.number {
            // They may not stand here at all.
            41..=43 => NOT_ONLY_OP,
            53 => SEQUENCE_POS,
            4 | 14 | 21 | 44 | 57 | 58 => BADXDR,
            _ => session.status(&[op::putfh(&hello), op::savefh(), op.clone()]),
        };
        for n in 0..op.body.len() {
            let cut = Op { number: op.number, body: op.body[..n].to_vec() };
            let bytes = arguments(b"", 2, &[session.step(), op::putfh(&hello), op::savefh(), cut]);
            match session.wire.call(1, &bytes) {
                Answer::Accepted(results) => {
                    let reply = Reply::decode(&results);
                    assert_eq!(reply.results.len(), 4);
                    let refused = whole != OK && reply.status == whole;
                    assert!(
                        reply.status == BADXDR || refused,
                        "operation {} cut at {n}: {:?}",
                        op.number,
                        reply.status
                    );
                }
                Answer::Refused(status) => {
                    assert_eq!(status, GARBAGE_ARGS);
                    session.sequence -= 1;
                }
            }
        }
    }
    // Outside of sessions.
    for op in every_operation().into_iter().filter(|op| matches!(op.number, 41..=44 | 53 | 57)) {
        for n in 0..op.body.len() {
            let cut = Op { number: op.number, body: op.body[..n].to_vec() };
            match session.wire.call(1, &arguments(b"", 2, &[cut])) {
                Answer::Accepted(results) => {
                    assert_eq!(Reply::decode(&results).status, BADXDR, "operation {} cut at {n}", op.number);
                }
                Answer::Refused(status) => assert_eq!(status, GARBAGE_ARGS),
            }
        }
    }
    session.last(&[op::putrootfh()]);
}

#[test]
fn heads_of_compounds_cut_at_every_length_are_garbage() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    let bytes = arguments(b"a tag", 2, &[]);
    for n in 0..bytes.len() {
        assert_eq!(wire.call(1, &bytes[..n]), Answer::Refused(GARBAGE_ARGS), "cut at {n}");
    }
}

#[test]
fn compounds_changed_at_random_harm_nobody() {
    let scene = Scene::new();
    let mut honest = scene.session();
    let hello = honest.find("hello");
    let open = honest.open_file(&hello, b"honest");
    let mut random = Random::new(seed());
    let operations = every_operation();
    let begin = |random: &mut Random| {
        let name = random.next().to_be_bytes();
        Session::begin(scene.gateway.nfs, &name, *b"verifier", op::Channel::USUAL)
    };
    let mut mutant = begin(&mut random);
    for round in 0..6_000 {
        let mut ops = vec![op::putfh(&hello)];
        for _ in 0..1 + random.below(5) {
            ops.push(operations[random.below(operations.len() as u64) as usize].clone());
        }
        let step = mutant.step();
        let mut bytes = arguments(b"", 2, &[&[step][..], &ops].concat());
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next().to_le_bytes()[0],
                2 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.below(4) as usize],
                _ => {
                    let word = at / 4 * 4;
                    let value = [0, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 1 << 20][random.below(6) as usize];
                    if let Some(place) = bytes.get_mut(word..word + 4) {
                        place.copy_from_slice(&value.to_be_bytes());
                    }
                }
            }
        }
        let record = mutant.wire.record(1, &bytes);
        mutant.wire.stream.write_all(&record).unwrap();
        // It is answered, and with results that are XDR.
        match mutant.wire.answer() {
            Some((_, Answer::Accepted(results))) => {
                let reply = Reply::decode(&results);
                let begun =
                    reply.results.first().is_some_and(|first| first.op == op::SEQUENCE && first.status == OK);
                if !begun {
                    mutant = begin(&mut random);
                }
            }
            Some((_, Answer::Refused(status))) => {
                assert_eq!(status, GARBAGE_ARGS);
                mutant = begin(&mut random);
            }
            None => panic!("no answer in round {round}"),
        }
        if round % 500 == 0 {
            assert_eq!(honest.read(&hello, open, 0, 5).0, b"hello");
        }
    }
    assert_eq!(honest.read(&hello, open, 0, 5).0, b"hello");
    let most = scene.gateway.most_resident();
    assert!(most < 256 << 20, "{} MiB resident", most >> 20);
}
