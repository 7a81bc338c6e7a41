//! LOCK, LOCKT and LOCKU: RFC 8881 sections 9, 18.10 to 18.12, 18.38.

use super::code::*;
use super::op::{self, READ_LT, READW_LT, Stateid, WRITE_LT, WRITEW_LT};
use super::reply::Body;
use super::scene::Scene;
use super::wire::Session;

const REST: u64 = u64::MAX;

/// A client with `hello` open.
struct Locker {
    session: Session,
    file: Vec<u8>,
    open: Stateid,
}

impl Locker {
    fn new(scene: &Scene) -> Self {
        let mut session = scene.session();
        let file = session.find("hello");
        let open = session.open_file(&file, b"opener");
        Self { session, file, open }
    }

    /// LOCK by a new lock-owner.
    fn lock(&mut self, owner: &[u8], kind: u32, offset: u64, length: u64) -> Result<Stateid, Body> {
        let lock = op::lock_new(kind, offset, length, self.open, owner, false);
        self.answer(lock)
    }

    fn more(&mut self, held: Stateid, kind: u32, offset: u64, length: u64) -> Result<Stateid, Body> {
        self.answer(op::lock(kind, offset, length, held))
    }

    fn answer(&mut self, lock: op::Op) -> Result<Stateid, Body> {
        let reply = self.session.run(&[op::putfh(&self.file), lock]);
        match reply.results[1].body.clone() {
            Body::Stateid(stateid) => Ok(stateid),
            denied @ Body::Denied { .. } => Err(denied),
            _ => panic!("{:?}", reply.status),
        }
    }

    /// What LOCKT finds in the way.
    fn test(&mut self, owner: &[u8], kind: u32, offset: u64, length: u64) -> Option<Body> {
        let reply = self.session.run(&[op::putfh(&self.file), op::lockt(kind, offset, length, owner)]);
        match (reply.status, reply.results[1].body.clone()) {
            (OK, _) => None,
            (DENIED, denied) => Some(denied),
            (status, _) => panic!("{status:?}"),
        }
    }

    fn unlock(&mut self, held: Stateid, offset: u64, length: u64) -> Stateid {
        self.session.stateid(&[op::putfh(&self.file), op::locku(held, offset, length)])
    }

    #[track_caller]
    fn fails(&mut self, op: op::Op, code: Code) {
        let file = op::putfh(&self.file);
        self.session.fails(&[file, op], code);
    }
}

/// The conflict over bytes that `owner` has locked for reading.
fn held(owner: &[u8], offset: u64, length: u64) -> Body {
    Body::Denied { offset, length, kind: READ_LT, owner: owner.to_vec() }
}

#[test]
fn ranges_that_overlap_conflict_unless_both_read() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    one.lock(b"one", READ_LT, 100, 50).unwrap();
    let cases = [
        (0, 100, false),
        (0, 101, true),
        (100, 50, true),
        (120, 1, true),
        (149, 1, true),
        (149, REST, true),
        (150, REST, false),
        (150, 10, false),
        (0, REST, true),
        (99, 1, false),
    ];
    for (offset, length, overlaps) in cases {
        for kind in [READ_LT, READW_LT] {
            assert_eq!(two.test(b"two", kind, offset, length), None, "readers of {length} at {offset}");
        }
        for kind in [WRITE_LT, WRITEW_LT] {
            let found = two.test(b"two", kind, offset, length);
            assert_eq!(found, overlaps.then(|| held(b"one", 100, 50)), "a writer of {length} at {offset}");
            // Another owner of the same client is another, and an owner is not in its own way.
            assert_eq!(one.test(b"another", kind, offset, length), found);
            assert_eq!(one.test(b"one", kind, offset, length), None);
            // The same name at another client is another owner.
            assert_eq!(two.test(b"one", kind, offset, length), found);
        }
    }
    two.lock(b"two", READ_LT, 0, REST).unwrap();
}

#[test]
fn a_lock_for_writing_needs_an_open_for_writing_or_conflicts() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    let write = op::lock_new(WRITE_LT, 0, 10, one.open, b"one", false);
    let reply = one.session.run(&[op::putfh(&one.file), write]);
    match reply.status {
        // Section 9.1.2: the open is for reading alone.
        OPENMODE => return,
        OK => {}
        other => panic!("{other:?}"),
    }
    let conflict = Body::Denied { offset: 0, length: 10, kind: WRITE_LT, owner: b"one".to_vec() };
    for kind in [READ_LT, WRITE_LT, READW_LT, WRITEW_LT] {
        assert_eq!(two.lock(b"two", kind, 5, 10), Err(conflict.clone()));
        assert_eq!(two.test(b"two", kind, 5, 10), Some(conflict.clone()));
    }
    two.lock(b"two", READ_LT, 10, 10).unwrap();
}

#[test]
fn pieces_of_a_lock_are_given_back() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    let lock = one.lock(b"one", READ_LT, 0, 100).unwrap();
    assert_eq!(lock.seqid, 1);
    let lock = one.unlock(lock, 40, 20);
    assert_eq!(lock.seqid, 2);
    for (offset, length, found) in [
        (0, 1, Some((0, 40))),
        (39, 1, Some((0, 40))),
        (40, 20, None),
        (60, 1, Some((60, 40))),
        (100, REST, None),
    ] {
        let expected = found.map(|(offset, length)| held(b"one", offset, length));
        assert_eq!(two.test(b"two", WRITE_LT, offset, length), expected, "{offset}");
    }
    // Bytes that are not locked may be unlocked, and all of it at once.
    let lock = one.unlock(lock, 40, 20);
    let lock = one.unlock(lock, 0, REST);
    assert_eq!(two.test(b"two", WRITE_LT, 0, REST), None);
    // The stateid stays until it is freed.
    let lock = one.more(lock, READ_LT, 7, 3).unwrap();
    assert_eq!(two.test(b"two", WRITE_LT, 0, REST), Some(held(b"one", 7, 3)));
    one.session.fails(&[op::free_stateid(lock)], LOCKS_HELD);
    let lock = one.unlock(lock, 0, REST);
    one.session.last(&[op::free_stateid(lock)]);
    assert_eq!(one.session.test_stateids(&[lock]), [BAD_STATEID]);
}

#[test]
fn ranges_of_one_owner_grow_together() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    let mut lock = one.lock(b"one", READ_LT, 0, 10).unwrap();
    for (offset, length) in [(10, 10), (5, 20), (0, 5), (20, 10)] {
        lock = one.more(lock, READ_LT, offset, length).unwrap();
    }
    one.unlock(lock, 0, 30);
    assert_eq!(two.test(b"two", WRITE_LT, 0, REST), None, "nothing of them is left");
    let again = one.lock(b"one", READ_LT, u64::MAX - 1, 1).unwrap();
    one.more(again, READ_LT, 1 << 63, REST).unwrap();
    assert!(two.test(b"two", WRITE_LT, u64::MAX - 1, 1).is_some());
    assert!(two.test(b"two", WRITE_LT, (1 << 63) - 1, 1).is_none());
}

#[test]
fn ranges_that_are_none() {
    let scene = Scene::new();
    let mut one = Locker::new(&scene);
    let lock = one.lock(b"one", READ_LT, 0, 10).unwrap();
    for (offset, length) in
        [(0, 0), (5, 0), (u64::MAX, 0), (2, u64::MAX - 1), (u64::MAX, 2), (1 << 63, 1 << 63 | 1)]
    {
        // Section 18.10.3.
        for op in [
            op::lock_new(READ_LT, offset, length, one.open, b"new", false),
            op::lock(READ_LT, offset, length, lock),
            op::lockt(READ_LT, offset, length, b"one"),
            op::locku(lock, offset, length),
        ] {
            one.fails(op, INVAL);
        }
    }
    for kind in [0, 5, u32::MAX] {
        let file = op::putfh(&one.file);
        let status = one.session.status(&[file, op::lockt(kind, 0, 1, b"one")]);
        assert!([BADXDR, INVAL].contains(&status), "{status:?}");
    }
}

#[test]
fn stateids_of_locks_are_not_those_of_opens() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    let first = one.lock(b"one", READ_LT, 0, 10).unwrap();
    assert_ne!(first.other, one.open.other);
    let second = one.more(first, READ_LT, 20, 10).unwrap();
    assert_eq!(second, first.at(2));
    one.fails(op::lock(READ_LT, 30, 1, first), OLD_STATEID);
    one.fails(op::locku(first, 0, 1), OLD_STATEID);
    one.fails(op::locku(second.at(9), 0, 1), BAD_STATEID);
    let open = one.open;
    for wrong in
        [open, Stateid::ANONYMOUS, Stateid::BYPASS, Stateid::INVALID, Stateid { seqid: 1, other: [9; 12] }]
    {
        one.fails(op::lock(READ_LT, 0, 1, wrong), BAD_STATEID);
        one.fails(op::locku(wrong, 0, 1), BAD_STATEID);
    }
    for wrong in [second, Stateid::ANONYMOUS, Stateid { seqid: 1, other: [9; 12] }] {
        one.fails(op::lock_new(READ_LT, 0, 1, wrong, b"new", false), BAD_STATEID);
    }
    for theirs in [second, second.at(0)] {
        two.fails(op::locku(theirs, 0, REST), BAD_STATEID);
        two.fails(op::lock(READ_LT, 0, 1, theirs), BAD_STATEID);
    }
    two.fails(op::lock_new(READ_LT, 0, 1, one.open, b"two", false), BAD_STATEID);
    // The same owner as if new: its one state.
    let again = one.lock(b"one", READ_LT, 40, 1).unwrap();
    assert_eq!(again, second.at(3));
    assert_eq!(one.session.test_stateids(&[again, again.at(0), first, open]), [OK, OK, OLD_STATEID, OK]);
    assert_eq!(two.session.test_stateids(&[again, open]), [BAD_STATEID, BAD_STATEID]);
}

#[test]
fn what_cannot_be_locked() {
    let scene = Scene::new();
    let mut one = Locker::new(&scene);
    for (path, codes) in [("dir", &[ISDIR][..]), ("link", &[SYMLINK, INVAL, WRONG_TYPE])] {
        let test = [Session::path(path), vec![op::lockt(READ_LT, 0, 1, b"x")]].concat();
        let status = one.session.status(&test);
        assert!(codes.contains(&status), "LOCKT of {path}: {status:?}");
        let lock = op::lock_new(READ_LT, 0, 1, one.open, b"x", false);
        let status = one.session.status(&[Session::path(path), vec![lock]].concat());
        assert!(codes.contains(&status) || status == BAD_STATEID, "LOCK of {path}: {status:?}");
    }
    one.fails(op::lock_new(READ_LT, 0, 1, one.open, b"x", true), NO_GRACE);
    let deep = one.session.find("dir/sub/deep");
    let elsewhere = op::lock_new(READ_LT, 0, 1, one.open, b"x", false);
    one.session.fails(&[op::putfh(&deep), elsewhere], BAD_STATEID);
}

#[test]
fn locks_go_with_the_open_they_were_made_under() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    let lock = one.lock(b"one", READ_LT, 0, REST).unwrap();
    let close = [op::putfh(&one.file), op::close(one.open)];
    match one.session.status(&close) {
        OK => {}
        // Section 18.2.3 leaves it to the server.
        LOCKS_HELD => {
            one.unlock(lock, 0, REST);
            one.session.last(&close);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(two.test(b"two", WRITE_LT, 0, REST), None);
    one.fails(op::locku(lock, 0, REST), BAD_STATEID);
}

#[test]
fn locks_go_with_their_client() {
    let scene = Scene::new();
    let (mut one, mut two) = (Locker::new(&scene), Locker::new(&scene));
    one.lock(b"one", READ_LT, 0, REST).unwrap();
    assert!(two.test(b"two", WRITE_LT, 0, 1).is_some());
    // It comes again as after a restart of its own.
    let owner = one.session.owner.clone();
    Session::begin(scene.gateway.nfs, &owner, *b"restart ", op::Channel::USUAL);
    assert_eq!(two.test(b"two", WRITE_LT, 0, 1), None);
}
