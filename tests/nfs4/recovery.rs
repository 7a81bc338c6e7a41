//! Leases that run out, and gateways that come again: RFC 8881 sections 8.3, 8.4, 9.6 and 18.51.

use super::code::*;
use super::op::{self, Channel, Claim, READ_LT, WRITE_LT};
use super::reply::Body;
use super::scene::Scene;
use super::support::eventually;
use super::wire::{Session, unique};

/// The shortest lease there is.
const SHORT: &str = "lease = 10";

fn previous(owner: &[u8], deny: u32) -> op::Op {
    op::open(owner, op::SHARE_READ, deny, Claim::Previous(0))
}

/// The same client after the gateway's restart, which has said nothing of reclaiming.
fn again(scene: &Scene, before: &Session) -> Session {
    let after = Session::begin(scene.gateway.nfs, &before.owner, before.verifier, Channel::USUAL);
    assert_ne!(after.client, before.client);
    after
}

#[test]
fn a_client_that_fell_silent_gives_way_and_one_in_nobodys_way_stays() {
    let scene = Scene::with(SHORT);
    let (mut silent, mut courteous, mut third) = (scene.session(), scene.session(), scene.session());
    let (hello, big) = (third.find("hello"), third.find("big"));
    let lost = silent.open_as(&hello, b"o", op::SHARE_READ, 1);
    let kept = courteous.open_file(&big, b"o");
    let lock = courteous.stateid(&[op::putfh(&big), op::lock_new(READ_LT, 0, 10, kept, b"l", false)]);
    let open = [op::putfh(&hello), op::open_fh(b"third")];
    third.fails(&open, SHARE_DENIED);
    eventually("the lease runs out", || third.status(&open) == OK);
    // It learns that it lost its state: section 8.3.
    let step = silent.step();
    let reply = silent.wire.compound(&[step]);
    match reply.results[0].body {
        // SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED or SOME, or ADMIN.
        Body::Sequence { flags, .. } => {
            assert_ne!(flags & (8 | 16 | 32), 0);
            let read = silent.status(&[op::putfh(&hello), op::read(lost, 0, 1)]);
            assert!([EXPIRED, BAD_STATEID, ADMIN_REVOKED].contains(&read), "{read:?}");
        }
        _ => assert_eq!(reply.status, BADSESSION),
    }
    // Nobody wanted what the other has.
    assert_eq!(courteous.read(&big, kept, 0, 1).0.len(), 1);
    courteous.stateid(&[op::putfh(&big), op::locku(lock, 0, 10)]);
}

#[test]
fn after_a_restart_clients_get_back_what_they_had_and_others_wait() {
    let mut scene = Scene::with(SHORT);
    let mut one = scene.session();
    let (hello, big) = (one.find("hello"), one.find("big"));
    let open = one.open_as(&hello, b"o", op::SHARE_READ, 1);
    let lock = one.stateid(&[op::putfh(&hello), op::lock_new(READ_LT, 0, 10, open, b"l", false)]);
    let before = one.attributes(&hello, &[3, 20]);
    scene.restart(SHORT);

    // The old session and client are not known.
    let mut wire = super::wire::Wire::connect(scene.gateway.nfs);
    assert_eq!(wire.status(op::sequence(one.id, one.sequence + 1, 0, 0, false)), BADSESSION);
    assert_eq!(wire.status(op::create_session(one.client, one.next, Channel::USUAL)), STALE_CLIENTID);

    let mut other = scene.session();
    let mut back = again(&scene, &one);
    // The handle is what it was, and reading goes on while it is grace.
    assert_eq!(back.attributes(&hello, &[3, 20]).values[&20], before.values[&20]);
    for old in [open, lock] {
        let status = back.status(&[op::putfh(&hello), op::read(old, 0, 1)]);
        assert!([STALE_STATEID, BAD_STATEID].contains(&status), "{status:?}");
    }
    other.fails(&[op::putfh(&big), op::open_fh(b"x")], GRACE);
    let reclaim = other.status(&[op::putfh(&big), previous(b"x", 0)]);
    assert!([NO_GRACE, RECLAIM_BAD].contains(&reclaim), "it had nothing: {reclaim:?}");
    back.fails(&[op::putfh(&big), op::open_fh(b"x")], GRACE);
    other.fails(&[op::putfh(&hello), op::lockt(WRITE_LT, 0, 1, b"x")], GRACE);

    let open = super::wire::opened(back.last(&[op::putfh(&hello), previous(b"o", 1)]));
    let lock = back.stateid(&[op::putfh(&hello), op::lock_new(READ_LT, 0, 10, open, b"l", true)]);
    assert_eq!(back.read(&hello, lock, 0, 5).0, b"hello");
    back.last(&[op::reclaim_complete(false)]);
    // All that were there are back, so the grace period ends before its time: section 8.4.2.1.
    other.last(&[op::putfh(&big), op::open_fh(b"x")]);
    other.fails(&[op::putfh(&hello), op::open_fh(b"x")], SHARE_DENIED);
    other.fails(&[op::putfh(&hello), op::lockt(WRITE_LT, 0, 1, b"x")], DENIED);
    back.fails(&[op::putfh(&hello), previous(b"o", 1)], NO_GRACE);
    back.fails(&[op::putfh(&hello), op::lock_new(READ_LT, 0, 10, open, b"m", true)], NO_GRACE);
    back.last(&[op::putfh(&hello), op::close(open)]);
}

#[test]
fn a_client_that_stays_away_is_waited_for_and_not_for_ever() {
    let mut scene = Scene::with(SHORT);
    let mut one = scene.session();
    let hello = one.find("hello");
    one.open_file(&hello, b"o");
    scene.restart(SHORT);
    let mut other = scene.session();
    let open = [op::putfh(&hello), op::open(b"x", op::SHARE_READ, 1, Claim::Fh)];
    other.fails(&open, GRACE);
    eventually("the grace period ends", || other.status(&open) == OK);
    // Others may have had the file since.
    let mut back = again(&scene, &one);
    let reclaim = back.status(&[op::putfh(&hello), previous(b"o", 0)]);
    assert!([NO_GRACE, RECLAIM_CONFLICT].contains(&reclaim), "{reclaim:?}");
}

#[test]
fn where_nobody_had_anything_there_is_no_grace_period() {
    let mut scene = Scene::with(SHORT);
    let mut one = scene.session();
    let hello = one.find("hello");
    let open = one.open_file(&hello, b"o");
    one.last(&[op::putfh(&hello), op::close(open)]);
    assert_eq!(one.wire.status(op::destroy_session(one.id)), OK);
    assert_eq!(one.wire.status(op::destroy_clientid(one.client)), OK);
    scene.restart(SHORT);
    let mut other = scene.session();
    let open = other.open_file(&hello, b"o");
    assert_eq!(other.read(&hello, open, 0, 5).0, b"hello");
}

#[test]
fn a_second_restart_in_the_grace_period_forgets_nobody() {
    let mut scene = Scene::with(SHORT);
    let mut one = scene.session();
    let hello = one.find("hello");
    one.open_file(&hello, b"o");
    scene.restart(SHORT);
    scene.restart(SHORT);
    let mut back = again(&scene, &one);
    back.last(&[op::putfh(&hello), previous(b"o", 0)]);
    back.last(&[op::reclaim_complete(false)]);
    // One that begins anew under the same name has nothing to get back.
    scene.restart(SHORT);
    let mut anew = Session::begin(scene.gateway.nfs, &unique(), *b"verifier", Channel::USUAL);
    let status = anew.status(&[op::putfh(&hello), previous(b"o", 0)]);
    assert!([NO_GRACE, RECLAIM_BAD].contains(&status), "{status:?}");
}
