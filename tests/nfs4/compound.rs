//! COMPOUND itself: versions, tags, and which operations may stand where. RFC 8881 sections 2.7, 15 and 16.2.

use super::code::*;
use super::op::{self, Op, Stateid};
use super::reply::Reply;
use super::scene::Scene;
use super::wire::{Answer, Session, Wire, arguments, unique};

#[test]
fn procedure_0_answers_nothing_and_others_do_not_exist() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    assert_eq!(wire.call(0, &[]), Answer::Accepted(Vec::new()));
    for procedure in [2, 3, 77] {
        assert_eq!(wire.call(procedure, &[]), Answer::Refused(3), "PROC_UNAVAIL");
    }
}

#[test]
fn no_operations_are_no_mistake() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for minor in [1, 2] {
        wire.minor = minor;
        let reply = wire.compound(&[]);
        assert_eq!((reply.status, reply.results.len()), (OK, 0));
    }
}

#[test]
fn minor_versions_are_1_and_2() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for minor in [0, 3, 50, u32::MAX] {
        wire.minor = minor;
        for ops in [
            vec![],
            vec![op::exchange_id(&unique(), [1; 8], 0)],
            vec![op::bare(op::OP_ILLEGAL)],
            vec![op::putrootfh()],
        ] {
            let reply = wire.raw(&arguments(b"tag", minor, &ops));
            assert_eq!(
                (reply.status, reply.results.len()),
                (MINOR_VERS_MISMATCH, 0),
                "section 2.7, minor {minor}"
            );
            assert_eq!(reply.tag, b"tag");
        }
    }
    // The first is asked of version 4 by old clients: they are told, whatever stands behind.
    let mut old = arguments(b"", 0, &[op::setclientid()]);
    old.truncate(old.len() - 5);
    assert!(matches!(wire.call(1, &old), Answer::Accepted(_) | Answer::Refused(super::wire::GARBAGE_ARGS)));
    wire.minor = 1;
    assert_eq!(wire.status(op::exchange_id(&unique(), [1; 8], 0)), OK);
}

#[test]
fn both_minor_versions_serve() {
    let scene = Scene::new();
    for minor in [1, 2] {
        let mut wire = Wire::connect(scene.gateway.nfs);
        wire.minor = minor;
        let mut session = Session::over(wire, &unique(), [1; 8], op::Channel::USUAL);
        session.last(&[op::reclaim_complete(false)]);
        let hello = session.find("hello");
        let stateid = session.open_file(&hello, b"owner");
        assert_eq!(session.read(&hello, stateid, 0, 100).0, super::scene::HELLO);
    }
}

#[test]
fn a_tag_comes_back_as_it_was() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    for tag in [&b""[..], b"t", b"tag test", "\u{e4}\u{20ac}\u{1d11e}".as_bytes(), &[b'x'; 128]] {
        let reply = wire.raw(&arguments(tag, 2, &[]));
        assert_eq!((reply.status, &reply.tag[..]), (OK, tag));
        let reply = wire.raw(&arguments(tag, 2, &[op::putrootfh()]));
        assert_eq!((reply.status, &reply.tag[..]), (OP_NOT_IN_SESSION, tag));
    }
    for tag in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"ab\x80"] {
        let reply = wire.raw(&arguments(tag, 2, &[]));
        assert!([OK, INVAL].contains(&reply.status) && reply.tag == tag, "{reply:?}");
    }
    // So long that nobody means it.
    let endless = wire.call(1, &arguments(&vec![b'x'; 60_000], 2, &[]));
    match endless {
        Answer::Accepted(results) => assert_ne!(Reply::decode(&results).status, OK),
        Answer::Refused(status) => assert_eq!(status, super::wire::GARBAGE_ARGS),
    }
    assert_eq!(wire.raw(&arguments(b"", 2, &[])).status, OK);
}

/// Every operation of the RFCs with arguments that are XDR, in the order of their numbers.
pub fn every_operation() -> Vec<Op> {
    let s = Stateid::ANONYMOUS;
    let mode = op::Fattr::mode(0o644);
    vec![
        op::access(0x3f),
        op::close(s),
        op::commit(0, 0),
        op::create(b"new"),
        op::delegpurge(0),
        op::delegreturn(s),
        op::getattr(&[1, 3, 4]),
        op::getfh(),
        op::link(b"new"),
        op::lock_new(1, 0, 1, s, b"owner", false),
        op::lockt(1, 0, 1, b"owner"),
        op::locku(s, 0, 1),
        op::lookup(b"hello"),
        op::lookupp(),
        op::nverify(&mode),
        op::open(b"owner", 1, 0, op::Claim::Null(b"hello")),
        op::openattr(false),
        op::open_confirm(s),
        op::open_downgrade(s, 1, 0),
        op::putfh(b"abc"),
        op::putpubfh(),
        op::putrootfh(),
        op::read(s, 0, 100),
        op::readdir(0, [0; 8], 4096, 4096, &[1]),
        op::readlink(),
        op::remove(b"hello"),
        op::rename(b"hello", b"other"),
        op::renew(1),
        op::restorefh(),
        op::savefh(),
        op::secinfo(b"hello"),
        op::setattr(s, &mode),
        op::setclientid(),
        op::setclientid_confirm(1),
        op::verify(&mode),
        op::write(s, 0, b"data"),
        op::release_lockowner(1),
        op::backchannel_ctl(),
        op::bind_conn([7; 16], 1),
        op::exchange_id_named(b"every operation", [1; 8], 1),
        op::create_session_all_security(1, 1, op::Channel::USUAL),
        op::destroy_session([7; 16]),
        op::free_stateid(s),
        op::get_dir_delegation(),
        op::getdeviceinfo(),
        op::getdevicelist(),
        op::layoutcommit(),
        op::layoutget(),
        op::layoutreturn(),
        op::secinfo_no_name(0),
        op::sequence([7; 16], 1, 0, 0, false),
        op::set_ssv(),
        op::test_stateid(&[s, Stateid::BYPASS]),
        op::want_delegation(),
        op::destroy_clientid(1),
        op::reclaim_complete(false),
        op::allocate(s),
        op::copy(s),
        op::copy_notify(s),
        op::deallocate(s),
        op::io_advise(s),
        op::layouterror(),
        op::layoutstats(),
        op::offload_cancel(),
        op::offload_status(),
        op::read_plus(s, 0, 100),
        op::seek(s, 0, 0),
        op::write_same(s),
        op::clone_range(s),
        op::getxattr(b"verity.digest"),
        op::setxattr(0, b"name", b"value"),
        op::listxattrs(0, 4096),
        op::removexattr(b"name"),
    ]
}

#[test]
fn operations_outside_of_a_session_are_the_six_that_may() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    let all = every_operation();
    assert_eq!(all.iter().map(|op| op.number).collect::<Vec<_>>(), (3..=75).collect::<Vec<_>>());
    for op in all {
        let (number, reply) = (op.number, wire.compound(&[op]));
        assert_eq!((reply.results.len(), reply.results[0].op), (1, number));
        // Section 18.46.3.
        match number {
            41..=44 | 53 | 57 => assert_ne!(reply.status, OP_NOT_IN_SESSION, "operation {number}"),
            // These may not even be there: section 17.
            20 | 30 | 35 | 36 | 39 => assert!([OP_NOT_IN_SESSION, NOTSUPP].contains(&reply.status)),
            _ => assert_eq!(reply.status, OP_NOT_IN_SESSION, "operation {number}"),
        }
    }
}

#[test]
fn sequence_stands_at_the_first_place_alone() {
    let scene = Scene::new();
    let mut session = scene.session();
    let again = op::sequence(session.id, 1, 1, 1, false);
    session.fails(std::slice::from_ref(&again), SEQUENCE_POS);
    session.fails(&[op::putrootfh(), again.clone()], SEQUENCE_POS);
    let reply = session.run(&[op::putrootfh(), again.clone(), op::putrootfh()]);
    assert_eq!((reply.status, reply.results.len()), (SEQUENCE_POS, 2));
    assert_eq!(session.wire.status(again), OK, "the slot of the second was not used");
}

#[test]
fn numbers_that_are_no_operation() {
    let scene = Scene::new();
    let mut session = scene.session();
    for number in [0, 1, 2, 76, 77, 200, op::OP_ILLEGAL, 10043, 10045, u32::MAX] {
        let reply = session.wire.compound(&[op::bare(number)]);
        assert_eq!(
            (reply.results[0].op, reply.status),
            (op::OP_ILLEGAL, OP_ILLEGAL),
            "section 16.2.3, {number}"
        );
        let reply = session.run(&[op::putrootfh(), op::bare(number), op::putrootfh()]);
        assert_eq!((reply.status, reply.results.len()), (OP_ILLEGAL, 2));
        assert_eq!(reply.results[1].op, op::OP_ILLEGAL);
    }
}

#[test]
fn operations_of_version_4_2_do_not_exist_in_4_1() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    wire.minor = 1;
    let mut session = Session::over(wire, &unique(), [1; 8], op::Channel::USUAL);
    for op in every_operation().into_iter().filter(|op| op.number >= 59) {
        let number = op.number;
        let reply = session.run(&[op::putrootfh(), op]);
        assert_eq!(reply.status, OP_ILLEGAL, "operation {number}");
        assert_eq!(reply.results[1].op, op::OP_ILLEGAL);
    }
}

#[test]
fn counts_of_operations_are_not_believed() {
    let scene = Scene::new();
    let mut session = scene.session();
    for count in [2u32, 1000, 0x4000_0000, u32::MAX] {
        let step = session.step();
        let mut bytes = arguments(b"", 2, &[step]);
        bytes[8..12].copy_from_slice(&count.to_be_bytes());
        match session.wire.call(1, &bytes) {
            Answer::Accepted(results) => {
                let status = Reply::decode(&results).status;
                assert!(
                    [BADXDR, TOO_MANY_OPS, RESOURCE, REQ_TOO_BIG].contains(&status),
                    "{count}: {status:?}"
                );
                // The slot may or may not have been used.
                session.sequence -= u32::from(!results_begin_with_sequence(&results));
            }
            Answer::Refused(status) => {
                assert_eq!(status, super::wire::GARBAGE_ARGS);
                session.sequence -= 1;
            }
        }
        session.last(&[op::putrootfh()]);
    }
}

fn results_begin_with_sequence(results: &[u8]) -> bool {
    Reply::decode(results).results.first().is_some_and(|first| first.status == OK)
}

#[test]
fn bytes_behind_the_operations_are_refused_or_left_alone() {
    let scene = Scene::new();
    let mut session = scene.session();
    let step = session.step();
    let bytes = [arguments(b"", 2, &[step, op::putrootfh()]), vec![0; 8]].concat();
    match session.wire.call(1, &bytes) {
        Answer::Accepted(results) => assert!([OK, BADXDR].contains(&Reply::decode(&results).status)),
        Answer::Refused(status) => {
            assert_eq!(status, super::wire::GARBAGE_ARGS);
            session.sequence -= 1;
        }
    }
    session.last(&[op::putrootfh()]);
}
