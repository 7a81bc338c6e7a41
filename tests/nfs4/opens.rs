//! OPEN, OPEN_DOWNGRADE, CLOSE and stateids: RFC 8881 sections 8.2, 9, 16.2.3.1.2, 18.2, 18.16, 18.18, 18.38
//! and 18.48.

use super::code::*;
use super::op::{self, Claim, Fattr, How, Op, Stateid};
use super::reply::Body;
use super::scene::{HELLO, Scene};
use super::wire::{Session, opened};

#[test]
fn a_file_is_opened_by_name_and_by_handle() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let by_name = op::open(b"owner", op::SHARE_READ, 0, Claim::Null(b"hello"));
    let bodies = session.run(&[op::putrootfh(), by_name, op::getfh()]).ok();
    let Body::Open { stateid, flags, ref set, .. } = bodies[1] else { panic!() };
    assert_eq!(bodies[2], Body::Handle(hello.clone()), "the file is current behind OPEN");
    assert_eq!((stateid.seqid, set.len()), (1, 0));
    assert_eq!(flags & 2, 0, "nothing is to be confirmed in 4.1");
    assert_ne!(stateid.other, [0; 12]);
    // The same owner's next OPEN is of the same state, another owner's is not: section 9.9.
    let again = session.open_file(&hello, b"owner");
    assert_eq!(again, stateid.at(2));
    let other = session.open_file(&hello, b"another owner");
    assert_ne!(other.other, stateid.other);
    let deep = session.find("dir/sub/deep");
    assert_ne!(session.open_file(&deep, b"owner").other, stateid.other, "another file");
    let mut second = scene.session();
    assert_ne!(second.open_file(&hello, b"owner").other, stateid.other, "another client");
}

#[test]
fn what_cannot_be_opened_is_not() {
    let scene = Scene::new();
    let mut session = scene.session();
    let by_name = |name| op::open(b"owner", op::SHARE_READ, 0, Claim::Null(name));
    let cases: [(&str, Op, &[Code]); 12] = [
        ("", by_name(b"none"), &[NOENT]),
        ("", by_name(b""), &[INVAL]),
        ("", by_name(b"dir"), &[ISDIR]),
        ("", by_name(b"link"), &[SYMLINK]),
        ("", op::open_fh(b"owner"), &[ISDIR]),
        ("dir", op::open_fh(b"owner"), &[ISDIR]),
        ("link", op::open_fh(b"owner"), &[SYMLINK]),
        ("hello", by_name(b"x"), &[NOTDIR]),
        ("link", by_name(b"x"), &[SYMLINK, NOTDIR]),
        ("", by_name(b"unsigned"), &[ACCESS]),
        ("unsigned", op::open_fh(b"owner"), &[ACCESS]),
        ("", op::open(&[7; 1024], op::SHARE_READ, 0, Claim::Null(b"none")), &[NOENT]),
    ];
    for (path, op, codes) in cases {
        let reply = session.run(&[Session::path(path), vec![op.clone()]].concat());
        assert!(codes.contains(&reply.status), "{path}, {op:?}: {:?}", reply.status);
    }
    let long = op::open(&[7; 1025], op::SHARE_READ, 0, Claim::Fh);
    super::clients::not_xdr(
        &mut session.wire,
        &[op::sequence(session.id, session.sequence + 1, 0, 0, false), op::putrootfh(), long],
    );
}

#[test]
fn shares_and_flags_of_an_open_are_checked() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let mut open = |share, deny| session.status(&[op::putfh(&hello), op::open(b"o", share, deny, Claim::Fh)]);
    for (share, deny) in
        [(0, 0), (4, 0), (0x11, 0), (op::NO_DELEGATION, 0), (1, 4), (1, u32::MAX), (u32::MAX, 0)]
    {
        assert_eq!(open(share, deny), INVAL, "{share:#x}, {deny:#x}");
    }
    for (share, deny) in [(op::SHARE_WRITE, 0), (op::SHARE_BOTH, 0), (op::SHARE_BOTH, 3)] {
        assert_eq!(open(share, deny), ROFS, "{share:#x}, {deny:#x}");
    }
    // What a client would like of delegations: section 18.16.1. There are none.
    for want in [0, 0x100, 0x200, 0x300, 0x400, 0x500, 0x1_0100, 0x2_0100] {
        assert_eq!(open(op::SHARE_READ | want, 0), OK, "{want:#x}");
    }
}

#[test]
fn nothing_is_created() {
    let scene = Scene::new();
    let mut session = scene.session();
    let mode = Fattr::mode(0o644);
    for how in [
        How::Unchecked(mode.clone()),
        How::Guarded(mode.clone()),
        How::Exclusive,
        How::Exclusive41(mode.clone()),
        How::Unchecked(Fattr::default()),
    ] {
        let mut create = |name: &[u8], share| {
            session.status(&[op::putrootfh(), op::open_with(b"o", share, 0, &how, Claim::Null(name))])
        };
        assert_eq!(create(b"new", op::SHARE_BOTH), ROFS, "{how:?}");
        assert_eq!(create(b"new", op::SHARE_READ), ROFS, "{how:?}");
        // Of a file that is there, UNCHECKED opens what it finds.
        let there = create(b"hello", op::SHARE_READ);
        match how {
            How::Unchecked(_) => assert!([OK, ROFS].contains(&there), "{there:?}"),
            _ => assert!([EXIST, ROFS].contains(&there), "{there:?}"),
        }
    }
    assert!(!scene.site.tree().join("new").exists());
    assert_eq!(std::fs::read(scene.site.tree().join("hello")).unwrap(), HELLO);
}

#[test]
fn claims_of_what_nobody_has() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let forged = Stateid { seqid: 1, other: [7; 12] };
    let cases = [
        (true, Claim::DelegateCur(forged, b"hello")),
        (true, Claim::DelegatePrev(b"hello")),
        (false, Claim::DelegCurFh(forged)),
        (false, Claim::DelegPrevFh),
    ];
    for (in_directory, claim) in cases {
        let place = if in_directory { op::putrootfh() } else { op::putfh(&hello) };
        let status = session.status(&[place, op::open(b"o", op::SHARE_READ, 0, claim)]);
        let possible = [NOTSUPP, BAD_STATEID, NO_GRACE, RECLAIM_BAD, INVAL];
        assert!(possible.contains(&status), "{claim:?}: {status:?}");
    }
    for delegation in [0, 1, 2] {
        let previous = op::open(b"o", op::SHARE_READ, 0, Claim::Previous(delegation));
        session.fails(&[op::putfh(&hello), previous], NO_GRACE);
    }
    // A claim and a way to create that are not defined.
    for at in [8, 12] {
        let mut op = op::open_fh(b"ownr");
        let end = op.body.len();
        op.body[end - at + 4..][..4].copy_from_slice(&9u32.to_be_bytes());
        let step = session.step();
        super::clients::not_xdr(&mut session.wire, &[step, op::putfh(&hello), op]);
        let used = session.wire.status(op::sequence(session.id, session.sequence + 1, 0, 0, false));
        session.sequence = if used == OK { session.sequence + 1 } else { session.sequence - 1 };
    }
}

#[test]
fn share_reservations_hold_between_owners() {
    let scene = Scene::new();
    let (mut one, mut two) = (scene.session(), scene.session());
    let hello = one.find("hello");
    let open = |owner: &[u8], deny| [op::putfh(&hello), op::open(owner, op::SHARE_READ, deny, Claim::Fh)];
    for first in 0..4u32 {
        for second in 0..4u32 {
            // Both read, so a denial of reading by either one is in the way: section 9.7.
            let conflict = first & 1 == 1 || second & 1 == 1;
            let held = opened(one.last(&open(b"first", first)));
            let expected = if conflict { SHARE_DENIED } else { OK };
            for session in [&mut one, &mut two] {
                let reply = session.run(&open(b"second", second));
                assert_eq!(reply.status, expected, "deny {first} against deny {second}");
                if reply.status == OK {
                    let stateid = opened(reply.last());
                    session.last(&[op::putfh(&hello), op::close(stateid)]);
                }
            }
            // An owner is not in its own way.
            opened(one.last(&open(b"first", second)));
            one.last(&[op::putfh(&hello), op::close(held.at(0))]);
        }
    }
}

#[test]
fn an_open_is_downgraded_to_what_was_opened_before() {
    let scene = Scene::new();
    let (mut one, mut two) = (scene.session(), scene.session());
    let hello = one.find("hello");
    one.open_as(&hello, b"o", op::SHARE_READ, 0);
    let both = one.open_as(&hello, b"o", op::SHARE_READ, 1);
    assert_eq!(both.seqid, 2);
    let open = [op::putfh(&hello), op::open_fh(b"other")];
    two.fails(&open, SHARE_DENIED);
    for (share, deny) in [(0, 0), (2, 0), (3, 0), (1, 2), (1, 3), (1, 4), (8, 0)] {
        let status = one.status(&[op::putfh(&hello), op::open_downgrade(both, share, deny)]);
        assert_eq!(status, INVAL, "{share}, {deny}");
    }
    let less = one.stateid(&[op::putfh(&hello), op::open_downgrade(both, 1, 0)]);
    assert_eq!(less, both.at(3));
    two.last(&open);
    one.fails(&[op::putfh(&hello), op::open_downgrade(both, 1, 0)], OLD_STATEID);
    one.fails(&[op::putfh(&hello), op::open_downgrade(less, 1, 1)], INVAL);
    let forged = Stateid { seqid: 1, other: [7; 12] };
    one.fails(&[op::putfh(&hello), op::open_downgrade(forged, 1, 0)], BAD_STATEID);
}

#[test]
fn stateids_have_their_time() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    session.open_file(&hello, b"o");
    let second = session.open_file(&hello, b"o");
    assert_eq!(second.seqid, 2);
    let read = |stateid| [op::putfh(&hello), op::read(stateid, 0, 5)];
    // Section 8.2.2: 0 is the newest, less is old, more is nonsense.
    session.last(&read(second));
    session.last(&read(second.at(0)));
    session.fails(&read(second.at(1)), OLD_STATEID);
    session.fails(&read(second.at(3)), BAD_STATEID);
    assert_eq!(
        session.test_stateids(&[second, second.at(0), second.at(1), second.at(3), Stateid::INVALID, second]),
        [OK, OK, OLD_STATEID, BAD_STATEID, BAD_STATEID, OK]
    );
    assert_eq!(session.test_stateids(&[]), []);
    session.fails(&[op::free_stateid(second)], LOCKS_HELD);
    session.fails(&[op::free_stateid(second.at(7))], BAD_STATEID);

    session.fails(&[op::putfh(&hello), op::close(second.at(1))], OLD_STATEID);
    session.last(&[op::putfh(&hello), op::close(second.at(0))]);
    for op in
        [op::read(second, 0, 5), op::close(second), op::close(second.at(0)), op::open_downgrade(second, 1, 0)]
    {
        session.fails(&[op::putfh(&hello), op], BAD_STATEID);
    }
    assert_eq!(session.test_stateids(&[second]), [BAD_STATEID]);
    session.fails(&[op::free_stateid(second)], BAD_STATEID);
    let anew = session.open_file(&hello, b"o");
    assert_ne!(anew, second, "a stateid does not come again");
    assert_eq!(anew.seqid, 1);
}

#[test]
fn special_stateids_close_nothing() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (hello, deep) = (session.find("hello"), session.find("dir/sub/deep"));
    let stateid = session.open_file(&hello, b"o");
    for special in [Stateid::ANONYMOUS, Stateid::BYPASS, Stateid::INVALID, Stateid::CURRENT, stateid.at(9)] {
        session.fails(&[op::putfh(&hello), op::close(special)], BAD_STATEID);
    }
    // The state is of another file than the current one: section 8.2.4.
    for op in [op::close(stateid), op::read(stateid, 0, 1), op::open_downgrade(stateid, 1, 0)] {
        session.fails(&[op::putfh(&deep), op], BAD_STATEID);
    }
    session.fails(&[op::close(stateid)], NOFILEHANDLE);
    session.last(&[op::putfh(&hello), op::close(stateid)]);
}

#[test]
fn the_current_stateid_goes_with_the_current_file_handle() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let current = Stateid::CURRENT;
    let open = op::open_fh(b"o");
    // Section 16.2.3.1.2.
    let whole = [op::putfh(&hello), open.clone(), op::read(current, 0, 5), op::close(current)];
    session.last(&whole);
    let lock = |opened| op::lock_new(op::READ_LT, 0, 10, opened, b"locker", false);
    let locked =
        [op::putfh(&hello), open.clone(), lock(current), op::read(current, 0, 5), op::locku(current, 0, 10)];
    session.last(&locked);
    let saved = [
        op::putfh(&hello),
        open.clone(),
        op::savefh(),
        op::putrootfh(),
        op::restorefh(),
        op::read(current, 0, 5),
    ];
    session.last(&saved);
    let downgraded = [op::putfh(&hello), open.clone(), op::open_downgrade(current, 1, 0), op::close(current)];
    session.last(&downgraded);
    for forgets in [op::putfh(&hello), op::putrootfh()] {
        session.fails(&[op::putfh(&hello), open.clone(), forgets, op::close(current)], BAD_STATEID);
    }
    let looked_up =
        [op::putfh(&hello), open.clone(), op::putrootfh(), op::lookup(b"hello"), op::close(current)];
    session.fails(&looked_up, BAD_STATEID);
    for op in [op::read(current, 0, 1), op::close(current), op::locku(current, 0, 1), lock(current)] {
        session.fails(&[op::putfh(&hello), op], BAD_STATEID);
    }
    // It does not outlive its COMPOUND.
    session.last(&[op::putfh(&hello), open]);
    session.fails(&[op::putfh(&hello), op::close(current)], BAD_STATEID);
}

#[test]
fn a_file_that_one_may_not_read_is_not_opened() {
    let scene = Scene::new();
    let path = scene.site.tree().join("hello");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&path, Some(4711), Some(4711)).ok();
    let mut session = scene.session();
    let hello = session.find("hello");
    session.fails(&[op::putfh(&hello), op::open_fh(b"o")], ACCESS);
    session.fails(&[op::putfh(&hello), op::read(Stateid::ANONYMOUS, 0, 1)], ACCESS);
}
