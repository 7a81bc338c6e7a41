//! Many clients with many open files.

use super::code::OK;
use super::op::{self, Channel, Op, Stateid};
use super::reply::Body;
use super::scene::Scene;
use super::wire::{Session, Wire, unique};

const SESSIONS: usize = 1000;
const OPENS: usize = 100;
const MEMORY_MAX: u64 = 512 << 20;

#[test]
fn long_a_thousand_sessions_with_a_hundred_opens_each() {
    let scene = Scene::new();
    let names: Vec<String> = {
        let mut session = scene.session();
        let many = session.find("many");
        let list = op::readdir(0, [0; 8], 0, 65_536, &[]);
        let Body::ReadDir { entries, .. } = session.last(&[op::putfh(&many), list]) else { panic!() };
        entries.into_iter().take(OPENS).map(|entry| String::from_utf8(entry.name).unwrap()).collect()
    };
    let mut finder = scene.session();
    let files: Vec<Vec<u8>> = names.iter().map(|name| finder.find(&format!("many/{name}"))).collect();
    let wanted = Channel { slots: 16, ..Channel::USUAL };
    let mut all: Vec<(Session, Vec<Stateid>)> = Vec::new();
    for _ in 0..SESSIONS {
        // A kernel has one connection for a server; here, too, each has its own.
        let mut session = Session::over(Wire::connect(scene.gateway.nfs), &unique(), *b"verifier", wanted);
        session.last(&[op::reclaim_complete(false)]);
        let mut stateids = Vec::new();
        for files in files.chunks(25) {
            let ops: Vec<Op> =
                files.iter().flat_map(|file| [op::putfh(file), op::open_fh(b"owner")]).collect();
            for body in session.run(&ops).ok() {
                if let Body::Open { stateid, .. } = body {
                    stateids.push(stateid);
                }
            }
        }
        assert_eq!(stateids.len(), OPENS);
        all.push((session, stateids));
    }
    let resident = scene.gateway.most_resident();
    assert!(resident < MEMORY_MAX, "{} MiB resident", resident >> 20);
    println!("{} MiB resident", resident >> 20);
    for (n, (session, stateids)) in all.iter_mut().enumerate() {
        assert!(session.test_stateids(&stateids[..50]).iter().all(|code| *code == OK), "session {n}");
        let at = n % OPENS;
        assert!(!session.read(&files[at], stateids[at], 0, 10).0.is_empty());
    }
    for (session, stateids) in all.iter_mut().step_by(100) {
        for (file, stateid) in files.iter().zip(stateids) {
            session.last(&[op::putfh(file), op::close(*stateid)]);
        }
    }
    assert!(scene.gateway.most_resident() < MEMORY_MAX);
}
