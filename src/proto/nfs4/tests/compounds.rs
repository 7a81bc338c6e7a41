//! The order of operations, slots, and the bounds of a reply: RFC 8881 sections 2.10.6, 15.1.3 and 16.2.

use super::*;
use crate::proto::rpc::{Outcome, Program};

#[test]
fn minor_versions_other_than_1_and_2_are_refused_with_no_results() {
    let program = program(Mode::Warn, None);
    for minor in [0, 3, u32::MAX] {
        let answer = call(&program, minor, &[root()]);
        assert_eq!(answer, Answer { status: 10021, count: 0, results: Vec::new() });
    }
}

#[test]
fn a_head_that_cannot_be_decoded_is_garbage() {
    let program = program(Mode::Warn, None);
    let whole = compound(1, &[]);
    for n in 0..whole.len() {
        let outcome = fixture::call(&program, COMPOUND, &whole[..n]);
        assert!(matches!(outcome, Outcome::GarbageArguments), "{n}");
    }
    let long = bytes(|w| w.opaque(&[b't'; 1025]).u32(1).u32(0));
    assert!(matches!(fixture::call(&program, COMPOUND, &long), Outcome::GarbageArguments));
    assert!(matches!(fixture::call(&program, 2, &[]), Outcome::ProcedureUnavailable));
    assert_eq!(fixture::results(&program, 0, &[]), (Vec::new(), true));
}

#[test]
fn order_is_kept() {
    let program = program(Mode::Warn, None);
    assert_eq!(call(&program, 1, &[]), Answer { status: 0, count: 0, results: Vec::new() });
    let alone = |operations: &[Vec<u8>]| {
        let answer = call(&program, 1, operations);
        assert_eq!((answer.count, answer.last().1), (1, answer.status));
        answer.last()
    };
    assert_eq!(alone(&[root(), plain(op::GETFH)]), (op::PUTROOTFH, 10071));
    assert_eq!(alone(&[exchange_id(b"x"), root()]), (op::EXCHANGE_ID, 10081));
    assert_eq!(alone(&[plain(2)]), (10044, 10044));
    assert_eq!(alone(&[plain(10044)]), (10044, 10044));
    let mut session = Session::new(&program, 1);
    let inner = session.sequence();
    assert_eq!(session.call(&[inner]).last(), (op::SEQUENCE, 10064));
    let bind = operation(op::BIND_CONN_TO_SESSION, |w| w.fixed(&[1; 16]).u32(1).bool(false));
    assert_eq!(session.call(&[bind]).last(), (op::BIND_CONN_TO_SESSION, 10081));
    let id = session.id;
    let destroy = operation(op::DESTROY_SESSION, |w| w.fixed(&id));
    assert_eq!(session.call(&[destroy.clone(), root()]).last(), (op::DESTROY_SESSION, 10081));
    assert_eq!(session.call(&[root(), destroy]).status, 0);
    assert_eq!(session.call(&[root()]).last(), (op::SEQUENCE, 10052));
}

#[test]
fn minor_version_1_has_no_operations_of_2() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 1);
    for number in op::ALLOCATE..=op::REMOVEXATTR {
        let answer = session.call(&[root(), plain(number)]);
        assert_eq!((answer.count, answer.last()), (3, (10044, 10044)), "{number}");
    }
    let mut session = Session::new(&program, 2);
    assert_eq!(session.call(&[root(), plain(76)]).last(), (10044, 10044));
}

#[test]
fn operations_that_are_cut_end_the_compound_with_badxdr() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    for (number, arguments) in args::samples() {
        for n in 0..arguments.len() {
            let cut = [&number.to_be_bytes()[..], &arguments[..n]].concat();
            let answer = session.call(&[root(), cut]);
            let expected = match number {
                op::SEQUENCE => 10064,
                op::BIND_CONN_TO_SESSION => 10081,
                _ => 10036,
            };
            assert_eq!((answer.status, answer.count), (expected, 3), "{number} cut at {n}");
            let failed = u32::from(number == op::SETATTR);
            let tail = bytes(|w| w.u32(number).u32(expected).fixed(&vec![0; 4 * failed as usize]));
            assert!(answer.results.ends_with(&tail), "{number} cut at {n}");
        }
    }
    for n in 0..4 {
        let answer = session.call(&[root(), plain(op::GETFH)[..n].to_vec()]);
        assert_eq!((answer.count, answer.last()), (3, (10044, 10036)), "{n}");
    }
}

#[test]
fn a_whole_compound_cut_at_every_length_is_answered() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let length = compound(2, &[session.sequence(), root(), open(b"hello"), read(true, 0, 10)]).len();
    for n in 0..length {
        session.sequence += 1;
        let whole = compound(2, &[session.sequence(), root(), open(b"hello"), read(true, 0, 10)]);
        match fixture::call(&program, COMPOUND, &whole[..n]) {
            Outcome::GarbageArguments => {
                assert!(n < 16);
                session.sequence -= 1;
            }
            Outcome::Done { results, ok } => {
                let answer = Answer::parse(&results.finish().concat());
                assert_eq!((ok, answer.status), (false, 10036), "{n}");
                if answer.count == 1 {
                    session.sequence -= 1;
                }
            }
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(session.call(&[root()]).status, 0);
}

#[test]
fn every_operation_is_answered_without_and_with_a_handle_and_stays_in_step() {
    let program = program(Mode::Warn, Some(IMA));
    for minor in [1, 2] {
        let mut session = Session::new(&program, minor);
        let save = plain(op::SAVEFH);
        for before in [vec![], vec![root()], vec![root(), save.clone(), lookup(b"hello")]] {
            for (number, arguments) in args::samples().into_iter().filter(|(n, _)| op::exists(*n, minor)) {
                let sample = [number.to_be_bytes().to_vec(), arguments].concat();
                let answer = session.call(&[&before[..], &[sample, plain(op::ILLEGAL)]].concat());
                // Either it fails, or the next one does, as what it is.
                let at = u32::try_from(before.len()).unwrap() + 2;
                match answer.count {
                    count if count == at => assert_ne!(answer.status, 10044, "{number}"),
                    count => assert_eq!((count, answer.last()), (at + 1, (10044, 10044)), "{number}"),
                }
            }
        }
    }
}

#[test]
fn a_repeat_gets_the_first_answer_or_is_told_that_it_was_not_kept() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    session.kept = true;
    let opened = session.call(&[root(), open(b"hello")]);
    assert_eq!(opened.status, 0);
    assert_eq!(session.again(&[root(), open(b"hello")]), opened);
    assert_eq!(session.again(&[root(), open(b"other")]).last(), (op::SEQUENCE, 10076));
    session.kept = false;
    assert_eq!(session.call(&[root()]).status, 0);
    let again = session.again(&[root()]);
    assert_eq!((again.count, again.last()), (2, (op::PUTROOTFH, 10068)));
    session.sequence += 1;
    assert_eq!(session.call(&[root()]).last(), (op::SEQUENCE, 10063));
}

#[test]
fn limits_of_the_session_hold() {
    let program = program(Mode::Warn, None);
    let mut session = Session::with(&program, 2, b"small", 1024, 512, 4);
    assert_eq!(session.call(&[root(), root(), root()]).status, 0);
    assert_eq!(session.call(&vec![root(); 4]).last(), (op::SEQUENCE, 10070));
    session.sequence -= 1;
    assert_eq!(session.call(&[root(), lookup(b"hello"), read(false, 0, 700)]).status, 0);
    session.kept = true;
    // A reply that is to be kept is not cut for it.
    for count in [700, 2048] {
        let last = session.call(&[root(), lookup(b"hello"), read(false, 0, count)]).last();
        assert_eq!(last, (op::READ, 10067), "{count}");
    }
    session.kept = false;
    // What opens is not done when there is no room to say so.
    let fill = read(false, 0, 840);
    assert_eq!(session.call(&[root(), lookup(b"hello"), fill]).status, 0);
    // Every length of a read, to the byte: results never pass what was negotiated, and are cut to it.
    for count in 800..1000 {
        let answer = session.call(&[root(), lookup(b"hello"), read(false, 0, count)]);
        let size = 24 + 16 + 44 + answer.results.len();
        assert!(size <= 1024, "{count}: {size}");
        let most = 1024 - (24 + 16 + 44 + 16 + 16);
        let data = Reader::new(&answer.results[16 + 12..]).opaque(1024).unwrap().len();
        assert_eq!((answer.status, data), (0, most.min(count as usize)));
    }
}

#[test]
fn reads_in_one_compound_are_cut_where_the_response_ends() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let content = fixture::content();
    let answer = session.call(&[root(), lookup(b"hello"), read(false, 0, 1 << 20), read(false, 0, 1 << 20)]);
    assert_eq!((answer.status, answer.count), (0, 5));
    let mut r = Reader::new(&answer.results[16 + 12..]);
    assert_eq!(r.opaque(1 << 20).unwrap(), &content[..1 << 20]);
    let tail = &answer.results[16 + 16 + (1 << 20)..];
    let mut r = Reader::new(&tail[8..]);
    assert!(!r.bool().unwrap());
    let data = r.opaque(4096).unwrap();
    assert!(data.len() > 3900 && data == &content[..data.len()], "{}", data.len());
    // With a third one there is nothing left to answer.
    let reads = vec![read(false, 0, 1 << 20); 3];
    let answer = session.call(&[vec![root(), lookup(b"hello")], reads].concat());
    assert_eq!(answer.last(), (op::READ, 10066));
}

#[test]
fn sequence_does_not_fail_for_what_its_slot_has_no_room_for() {
    let program = program(Mode::Warn, None);
    let mut session = Session::with(&program, 2, b"nothing kept", 1024, 10, 8);
    session.kept = true;
    assert_eq!(session.call(&[]).status, 0);
    let answer = session.call(&[root()]);
    assert_eq!((answer.count, answer.last()), (2, (op::PUTROOTFH, 10067)));
    assert_eq!(session.again(&[root()]).last(), (op::PUTROOTFH, 10068));
    session.kept = false;
    assert_eq!(session.call(&[root()]).status, 0);
}

#[test]
fn a_lock_in_the_way_is_told_only_where_there_is_room() {
    let program = program(Mode::Warn, None);
    let mut holder = Session::new(&program, 2);
    let lock = operation(op::LOCK, |w| {
        w.u32(1).bool(false).u64(5).u64(10).bool(true).u32(0).u32(1).fixed(&[0; 12]).u32(0);
        w.u64(0).opaque(&[b'o'; 1024])
    });
    assert_eq!(holder.call(&[root(), open(b"hello"), lock]).status, 0);
    let test = operation(op::LOCKT, |w| w.u32(2).u64(0).u64(u64::MAX).u64(0).opaque(b"you"));
    for response in (1100..1300).step_by(4) {
        let mut session = Session::with(&program, 2, b"other", response, 100, 8);
        let answer = session.call(&[root(), lookup(b"hello"), test.clone()]);
        let size = 24 + 16 + 44 + answer.results.len();
        assert!(size <= response as usize, "{response}: {size}");
        let whole = 24 + 16 + 44 + 16 + 8 + 32 + 1024;
        assert_eq!(answer.status, if response < whole { 10066 } else { 10010 }, "{response}");
    }
}

#[test]
fn no_more_is_announced_than_could_be_answered() {
    let program = program(Mode::Warn, None);
    let bound = |operations: &[Vec<u8>]| program.reply_bound(COMPOUND, &compound(2, operations));
    let sequence = operation(op::SEQUENCE, |w| w.fixed(&[0; 16]).u32(1).u32(0).u32(0).bool(false));
    let most = OPERATIONS_MAX as usize;
    let reads = |count: usize| vec![read(false, 0, 1 << 20); count];
    let in_session = |operations: Vec<Vec<u8>>| [vec![sequence.clone()], operations].concat();
    // What is refused in any case: without a session, or of too many operations.
    for refused in [reads(1), reads(most), [vec![root()], reads(10)].concat(), in_session(reads(most))] {
        assert!(bound(&refused) < 1000, "{}", bound(&refused));
        assert_ne!(call(&program, 2, &refused).status, 0);
    }
    // What a session takes: one response, and what is kept in use or passing besides.
    let list = readdir(0, 0, u32::MAX, [0x0018_0812, 0x12]);
    let attribute = operation(op::GETXATTR, |w| w.opaque(b"verity.status"));
    for (operations, besides) in [
        (reads(most - 1), 128 * most),
        (reads(1), 1),
        (vec![list; most - 1], 400),
        (vec![attribute; most - 1], 70),
    ] {
        let bound = bound(&in_session(operations));
        let response = (READ_MAX as usize) + 4096 + 1024;
        assert!((READ_MAX as usize..=response + (besides << 10)).contains(&bound), "{bound} {besides}");
    }
    // 64 KiB are so little that they are read at once.
    assert!(bound(&in_session(vec![root(), read(false, 0, 65_536), getattr(&[1])])) < 66 << 10);
    assert!(bound(&[exchange_id(b"client")]) > 1000);
}
