//! Operations that change what is read-only, that are not supported, and that must not be: RFC 8881 sections 17
//! and 18, RFC 7862 section 15, RFC 8276 section 8.4.

use super::code::*;
use super::op::{self, Fattr, Op, Stateid};
use super::scene::{HELLO, Scene};
use super::wire::Session;

#[test]
fn nothing_is_changed() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let open = session.open_file(&hello, b"o");
    let in_root = |op| [op::putfh(&hello), op::savefh(), op::putrootfh(), op];
    for kind in [2, 3, 4, 6, 7] {
        session.fails(&in_root(op::create_type(kind, b"new")), ROFS);
    }
    for op in [op::create_link(b"new", b"target"), op::link(b"new"), op::remove(b"hello"), op::remove(b"dir")]
    {
        session.fails(&in_root(op), ROFS);
    }
    session.fails(&[op::putrootfh(), op::savefh(), op::rename(b"hello", b"new")], ROFS);
    for stateid in [Stateid::ANONYMOUS, open] {
        for attributes in [
            Fattr::mode(0o600),
            Fattr::of(&[(4, vec![0; 8])]),
            Fattr::of(&[(48, vec![0; 4]), (54, vec![0; 4])]),
        ] {
            session.fails(&[op::putfh(&hello), op::setattr(stateid, &attributes)], ROFS);
        }
        session.fails(&[op::putfh(&hello), op::write(stateid, 0, b"data")], ROFS);
    }
    for option in [0, 1, 2] {
        session.fails(&[op::putfh(&hello), op::setxattr(option, b"name", b"value")], ROFS);
        session.fails(&[op::putfh(&hello), op::setxattr(option, b"verity.status", b"verified")], ACCESS);
    }
    session.fails(&[op::putfh(&hello), op::removexattr(b"name")], ROFS);
    session.fails(&[op::putfh(&hello), op::removexattr(b"verity.status")], ACCESS);
    // There is nothing to commit, which may be said either way.
    assert!([OK, ROFS].contains(&session.status(&[op::putfh(&hello), op::commit(0, 0)])));
    assert_eq!(std::fs::read(scene.site.tree().join("hello")).unwrap(), HELLO);
    assert!(!scene.site.tree().join("new").exists());
}

#[test]
fn what_is_not_supported_says_so() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let s = session.open_file(&hello, b"o");
    let cases: [(Op, &[Code]); 24] = [
        (op::openattr(false), &[NOTSUPP]),
        (op::openattr(true), &[NOTSUPP, ROFS]),
        (op::delegpurge(0), &[NOTSUPP]),
        (op::delegreturn(s), &[NOTSUPP, BAD_STATEID]),
        (op::get_dir_delegation(), &[NOTSUPP]),
        (op::getdeviceinfo(), &[NOTSUPP]),
        (op::getdevicelist(), &[NOTSUPP]),
        (op::layoutcommit(), &[NOTSUPP]),
        (op::layoutget(), &[NOTSUPP, LAYOUTUNAVAILABLE]),
        (op::layoutreturn(), &[NOTSUPP]),
        (op::want_delegation(), &[NOTSUPP]),
        (op::allocate(s), &[NOTSUPP, ROFS]),
        (op::copy(s), &[NOTSUPP, ROFS]),
        (op::copy_notify(s), &[NOTSUPP]),
        (op::deallocate(s), &[NOTSUPP, ROFS]),
        (op::io_advise(s), &[NOTSUPP]),
        (op::layouterror(), &[NOTSUPP]),
        (op::layoutstats(), &[NOTSUPP]),
        (op::offload_cancel(), &[NOTSUPP]),
        (op::offload_status(), &[NOTSUPP]),
        (op::write_same(s), &[NOTSUPP, ROFS]),
        (op::clone_range(s), &[NOTSUPP, ROFS]),
        (op::set_ssv(), &[INVAL, NOTSUPP]),
        (op::lookup(b"x"), &[NOTDIR]),
    ];
    for (op, codes) in cases {
        let number = op.number;
        let reply = session.run(&[op::putfh(&hello), op::savefh(), op]);
        assert!(codes.contains(&reply.status), "operation {number}: {:?}", reply.status);
        assert_eq!(reply.results[2].op, number);
    }
}

#[test]
fn what_must_not_be_implemented_is_not() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let client = session.client;
    for op in [
        op::open_confirm(Stateid::ANONYMOUS),
        op::renew(client),
        op::setclientid(),
        op::setclientid_confirm(client),
        op::release_lockowner(client),
    ] {
        // Section 17.
        session.fails(&[op::putfh(&hello), op], NOTSUPP);
    }
    session.last(&[op::putrootfh()]);
}

#[test]
fn a_compound_ends_where_it_fails() {
    let scene = Scene::new();
    let mut session = scene.session();
    let reply = session.run(&[op::putrootfh(), op::lookup(b"none"), op::getfh(), op::bare(1)]);
    assert_eq!((reply.status, reply.results.len()), (NOENT, 2));
    let whole =
        [Session::path("dir/sub/deep"), vec![op::getfh(), op::getattr(&[1]), op::lookup(b"x"), op::getfh()]];
    let reply = session.run(&whole.concat());
    assert_eq!((reply.status, reply.results.len()), (NOTDIR, 7));
}
