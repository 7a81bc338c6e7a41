//! The order of operations, slots, and the bounds of a reply: RFC 8881 sections 2.10.6, 15.1.3 and 16.2.

use super::*;
use crate::proto::rpc::Outcome;

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
    assert_eq!(session.call(&[root(), lookup(b"hello"), read(false, 0, 2048)]).last(), (op::READ, 10066));
    assert_eq!(session.call(&[root(), lookup(b"hello"), read(false, 0, 700)]).status, 0);
    session.kept = true;
    assert_eq!(session.call(&[root(), lookup(b"hello"), read(false, 0, 700)]).last(), (op::READ, 10067));
    assert_eq!(session.call(&[root(), lookup(b"hello"), read(false, 0, 2048)]).last(), (op::READ, 10066));
    session.kept = false;
    // What opens is not done when there is no room to say so.
    let fill = read(false, 0, 840);
    assert_eq!(session.call(&[root(), lookup(b"hello"), fill]).status, 0);
    // Every length of a read, to the byte: results never pass what was negotiated.
    for count in 800..1000 {
        let answer = session.call(&[root(), lookup(b"hello"), read(false, 0, count)]);
        let size = 24 + 16 + 44 + answer.results.len();
        assert!(size <= 1024, "{count}: {size}");
        let expected = 24 + 16 + 44 + 16 + 16 + (count as usize).next_multiple_of(4) <= 1024;
        assert_eq!(answer.status == 0, expected, "{count}");
    }
}

#[test]
fn reads_in_one_compound_end_where_the_response_does() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let answer = session.call(&[root(), lookup(b"hello"), read(false, 0, 1 << 20), read(false, 0, 1 << 20)]);
    assert_eq!((answer.count, answer.last()), (5, (op::READ, 10066)));
}
