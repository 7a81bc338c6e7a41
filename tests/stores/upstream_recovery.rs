//! An upstream server that comes back changed, or forgets.

use std::sync::Arc;
use std::time::Duration;

use nfs_verity::store::{Memory, Store, StoreErrorKind, StorePath};

use super::nfs_server::{Asked, MNT, Server, Twist};
use super::upstream::open;

const PATIENT: Duration = Duration::from_secs(20);
const NOENT: u32 = 2;
const STALE: u32 = 70;

fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

fn failed(status: u32) -> Twist {
    Twist::Results([status, 0].map(u32::to_be_bytes).concat())
}

#[tokio::test]
async fn a_mount_that_is_refused_later_is_no_word_about_a_file() {
    let memory = Memory::new();
    memory.put("f", b"x").unwrap();
    let server = Server::honest(&memory).await;
    let (url, at) = (server.url("&attributes=0"), server.address.to_string());
    let store = open(&url, Duration::from_secs(1)).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    drop(server);
    for status in [NOENT, 13, 10004] {
        let twist = move |asked: &Asked, results| match asked.procedure {
            MNT => failed(status),
            1..1000 => failed(STALE),
            _ => Twist::Results(results),
        };
        let server = Server::start(&memory, &at, Arc::new(twist)).await;
        let kind = store.stat(&path("f")).await.unwrap_err().kind;
        assert_eq!(kind, StoreErrorKind::Unavailable, "{status}");
        assert_eq!(file.read_at(0, 1).await.unwrap_err().kind, StoreErrorKind::Unavailable, "{status}");
        let error = open(&url, PATIENT).await.err().unwrap();
        assert_ne!(error.kind, StoreErrorKind::Unavailable, "it is told at the start: {error}");
        assert!(error.to_string().contains("mount"), "{error}");
        drop(server);
    }
    let _server = Server::start(&memory, &at, Arc::new(|_, results| Twist::Results(results))).await;
    assert_eq!(file.read_at(0, 9).await.unwrap(), &b"x"[..]);
}
