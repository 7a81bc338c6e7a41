//! A client that is after what others have: their names, sessions, states and room.

use super::code::*;
use super::op::{self, Channel, READ_LT, Stateid};
use super::scene::Scene;
use super::support::Random;
use super::wire::{Session, Wire};

const MEMORY_MAX: u64 = 256 << 20;

/// A client with an open file, a lock and a share of its own.
struct Victim {
    session: Session,
    file: Vec<u8>,
    open: Stateid,
    lock: Stateid,
}

impl Victim {
    fn new(scene: &Scene) -> Self {
        let mut session = scene.session();
        let file = session.find("hello");
        let open = session.open_file(&file, b"victim");
        let lock = op::lock_new(READ_LT, 0, 10, open, b"victim", false);
        let lock = session.stateid(&[op::putfh(&file), lock]);
        Self { session, file, open, lock }
    }

    /// It has all that it had.
    fn unharmed(mut self) {
        assert_eq!(self.session.test_stateids(&[self.open, self.lock]), [OK, OK]);
        assert_eq!(self.session.read(&self.file, self.lock, 0, 5).0, b"hello");
        self.session.stateid(&[op::putfh(&self.file), op::locku(self.lock, 0, 10)]);
        self.session.last(&[op::putfh(&self.file), op::close(self.open)]);
    }
}

#[test]
fn states_of_others_are_of_no_use() {
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let mut thief = scene.session();
    for uid in [1000, 0, 1001] {
        thief.wire.uid = uid;
        for stateid in [victim.open, victim.lock, victim.open.at(0), victim.lock.at(0)] {
            for op in [
                op::close(stateid),
                op::read(stateid, 0, 1),
                op::read_plus(stateid, 0, 1),
                op::seek(stateid, 0, 0),
                op::open_downgrade(stateid, 1, 0),
                op::locku(stateid, 0, 10),
                op::lock(READ_LT, 0, 1, stateid),
                op::lock_new(READ_LT, 0, 1, stateid, b"victim", false),
                op::free_stateid(stateid),
            ] {
                thief.fails(&[op::putfh(&victim.file), op], BAD_STATEID);
            }
            assert_eq!(thief.test_stateids(&[stateid]), [BAD_STATEID]);
        }
    }
    // The same owners' names make another client's states.
    let open = thief.open_file(&victim.file, b"victim");
    thief.last(&[op::putfh(&victim.file), op::close(open)]);
    victim.unharmed();
}

#[test]
fn stateids_and_sessions_are_not_guessed() {
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let mut thief = scene.session();
    for real in [victim.open, victim.lock] {
        for bit in 0..96 {
            let mut guess = real;
            guess.other[bit / 8] ^= 1 << (bit % 8);
            thief.fails(&[op::putfh(&victim.file), op::close(guess)], BAD_STATEID);
        }
    }
    let mut random = Random::new(7);
    let mut wire = Wire::connect(scene.gateway.nfs);
    for n in 0..1000u64 {
        let mut guess = thief.id;
        guess[8..].copy_from_slice(&random.next().to_be_bytes());
        assert_eq!(wire.status(op::sequence(guess, 1, 0, 0, false)), BADSESSION);
        for client in
            [victim.session.client ^ (1 << (n % 64)), thief.client.wrapping_add(n + 2), random.next()]
        {
            if client != victim.session.client {
                assert_eq!(wire.status(op::destroy_clientid(client)), STALE_CLIENTID);
                assert_eq!(wire.status(op::create_session(client, 1, Channel::USUAL)), STALE_CLIENTID);
            }
        }
    }
    victim.unharmed();
}

#[test]
fn names_and_sessions_of_others_are_not_taken() {
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let mut thief = scene.session();
    thief.wire.uid = 1001;
    let owner = &victim.session.owner;
    for (verifier, flags, codes) in [
        (*b"thief   ", 0, &[CLID_INUSE][..]),
        (victim.session.verifier, 0, &[CLID_INUSE]),
        (*b"thief   ", op::UPDATE, &[PERM, NOT_SAME]),
        (victim.session.verifier, op::UPDATE, &[PERM]),
    ] {
        let status = thief.wire.status(op::exchange_id(owner, verifier, flags));
        assert!(codes.contains(&status), "{status:?}");
    }
    // It holds no connection of the session, and in its own session it is another's.
    let session = victim.session.id;
    assert_eq!(
        Wire::connect(scene.gateway.nfs).status(op::destroy_session(session)),
        CONN_NOT_BOUND_TO_SESSION
    );
    thief.fails(&[op::destroy_session(session)], CONN_NOT_BOUND_TO_SESSION);
    assert_eq!(thief.wire.status(op::destroy_clientid(victim.session.client)), CLIENTID_BUSY);
    thief.fails(&[op::destroy_clientid(victim.session.client)], CLIENTID_BUSY);
    victim.unharmed();
}

#[test]
fn clients_without_end_push_nobody_out() {
    let scene = Scene::new();
    let mut victim = Victim::new(&scene);
    let mut wire = Wire::connect(scene.gateway.nfs);
    let mut random = Random::new(8);
    for n in 0..20_000 {
        let status =
            wire.status(op::exchange_id(&[&random.next().to_be_bytes()[..], &[7; 900]].concat(), [1; 8], 0));
        assert!([OK, DELAY, RESOURCE].contains(&status), "{n}: {status:?}");
        if n % 1000 == 0 {
            victim.session.last(&[op::putfh(&victim.file), op::read(victim.open, 0, 1)]);
        }
    }
    let most = scene.gateway.most_resident();
    assert!(most < MEMORY_MAX, "{} MiB resident", most >> 20);
    scene.session().find("hello");
    victim.unharmed();
}

#[test]
fn sessions_opens_and_locks_without_end_leave_room_for_others() {
    let scene = Scene::new();
    let mut victim = Victim::new(&scene);
    let mut greedy = scene.session();
    let mut refused = false;
    for _ in 0..5_000 {
        match greedy.wire.status(op::create_session(greedy.client, greedy.next, Channel::USUAL)) {
            OK => greedy.next = greedy.next.wrapping_add(1),
            code => {
                assert!([DELAY, RESOURCE, super::code::Code(28)].contains(&code), "{code:?}");
                refused = true;
                break;
            }
        }
    }
    println!("sessions were refused: {refused}");
    // Owners with the longest names, and a lock of a byte each.
    let file = greedy.find("big");
    for n in 0..3_000u32 {
        let owner = [&n.to_be_bytes()[..], &[7; 1020]].concat();
        let ops = [
            op::putfh(&file),
            op::open_fh(&owner),
            op::lock_new(READ_LT, u64::from(n) * 2, 1, Stateid::CURRENT, &owner, false),
        ];
        let status = greedy.status(&ops);
        assert!([OK, DELAY, RESOURCE, super::code::Code(28)].contains(&status), "{n}: {status:?}");
    }
    let most = scene.gateway.most_resident();
    assert!(most < MEMORY_MAX, "{} MiB resident", most >> 20);
    victim.session.last(&[op::putfh(&victim.file), op::read(victim.open, 0, 1)]);
    victim.unharmed();
}
