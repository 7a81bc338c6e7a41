//! An upstream server that comes back changed, or forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nfs_verity::store::{Memory, StoreErrorKind, StorePath};

use super::nfs_server::{Asked, LOOKUP, MNT, READ, READDIRPLUS, Server, Twist};
use super::upstream::open;

const PATIENT: Duration = Duration::from_secs(20);
const GETATTR: u32 = 1;
const NOENT: u32 = 2;
const STALE: u32 = 70;

fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

fn failed(status: u32) -> Twist {
    Twist::Results([status, 0].map(u32::to_be_bytes).concat())
}

async fn twisted(
    memory: &Memory,
    twist: impl Fn(&Asked, Vec<u8>) -> Twist + Send + Sync + 'static,
) -> Server {
    Server::start(memory, "127.0.0.1:0", Arc::new(twist)).await
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
            1..=999 => failed(STALE),
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

#[tokio::test]
async fn an_open_file_whose_handle_went_stale_is_looked_up_again() {
    let memory = Memory::new();
    memory.put("dir/f", b"content").unwrap();
    for (options, procedure) in [("0", READ), ("0", GETATTR), ("3600", READ)] {
        // One call is stale, and the look-up that follows gives another handle.
        let (stale, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let handles = Arc::new(AtomicU32::new(0));
        let (is_stale, has_moved, given) = (stale.clone(), moved, handles.clone());
        let twist = move |asked: &Asked, mut results: Vec<u8>| {
            if asked.procedure == procedure && is_stale.swap(false, Ordering::Relaxed) {
                has_moved.store(true, Ordering::Relaxed);
                return failed(STALE);
            }
            if asked.procedure == LOOKUP
                && results.get(4..16) == Some(&b"\0\0\0\x06/dir/f\0\0"[..])
                && has_moved.swap(false, Ordering::Relaxed)
                && given.fetch_add(1, Ordering::Relaxed) % 2 == 0
            {
                // Another handle of the same: the server takes more than one slash.
                results[4..16].copy_from_slice(b"\0\0\0\x07//dir/f\0");
            }
            Twist::Results(results)
        };
        let server = twisted(&memory, twist).await;
        let store = open(&server.url(&format!("&attributes={options}")), PATIENT).await.unwrap();
        let file = store.open(&path("dir/f")).await.unwrap();
        for _ in 0..2 {
            stale.store(true, Ordering::Relaxed);
            match procedure {
                READ => assert_eq!(file.read_at(0, 100).await.unwrap(), &b"content"[..]),
                _ => assert_eq!(file.stat().await.unwrap().size, 7),
            }
        }
        assert_eq!(handles.load(Ordering::Relaxed), 2, "{options} {procedure}");
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_is_gone_for_who_has_it_open_and_there_for_others() {
    let memory = Memory::new();
    memory.put("f", b"old").unwrap();
    let server = Server::honest(&memory).await;
    let store = open(&server.url("&attributes=3600"), PATIENT).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    memory.put("g", b"new").unwrap();
    memory.rename("g", "f").unwrap();
    assert_eq!(file.read_at(0, 9).await.unwrap_err().kind, StoreErrorKind::Stale);
    let file = store.open(&path("f")).await.unwrap();
    assert_eq!(file.read_at(0, 9).await.unwrap(), &b"new"[..]);
    memory.remove("f").unwrap();
    assert_eq!(file.read_at(0, 9).await.unwrap_err().kind, StoreErrorKind::Stale);
    assert_eq!(store.open(&path("f")).await.err().unwrap().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_server_that_lacks_readdirplus_for_a_moment_is_asked_for_it_again() {
    let memory = Memory::new();
    memory.put("d/f", b"x").unwrap();
    let asked_for = Arc::new(AtomicU32::new(0));
    let count = asked_for.clone();
    let twist = move |asked: &Asked, results| match asked.procedure {
        // PROG_UNAVAIL, as from a server that is starting.
        READDIRPLUS if count.fetch_add(1, Ordering::Relaxed) == 0 => Twist::Refused(1),
        _ => Twist::Results(results),
    };
    let server = twisted(&memory, twist).await;
    let store = open(&server.url("&attributes=0"), PATIENT).await.unwrap();
    assert_eq!(store.read_dir(&path("d"), 0, 9).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(store.read_dir(&path("d"), 0, 9).await.unwrap().entries.len(), 3);
    assert_eq!(asked_for.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_directory_whose_names_stay_is_not_emptied_for_ever() {
    let memory = Memory::new();
    memory.put("d/f", b"x").unwrap();
    let removals = Arc::new(AtomicU32::new(0));
    let count = removals.clone();
    let twist = move |asked: &Asked, results| match asked.procedure {
        12 => {
            count.fetch_add(1, Ordering::Relaxed);
            Twist::Results([0u32, 0, 0].map(u32::to_be_bytes).concat())
        }
        _ => Twist::Results(results),
    };
    let server = twisted(&memory, twist).await;
    let store = open(&server.url(""), PATIENT).await.unwrap();
    let removed = tokio::time::timeout(PATIENT, store.remove(&path("d"))).await.expect("it ends");
    assert_eq!(removed.unwrap_err().kind, StoreErrorKind::Io);
    assert!(removals.load(Ordering::Relaxed) < 20);
}

#[tokio::test]
async fn a_server_that_starts_again_between_durable_writes_has_lost_nothing() {
    let memory = Memory::new();
    memory.put_dir(".scratch").unwrap();
    for (committed, lost) in [(0, true), (2, false)] {
        let words =
            |words: &[u32]| Twist::Results(words.iter().flat_map(|word| word.to_be_bytes()).collect());
        let twist = move |asked: &Asked, results| match asked.procedure {
            // CREATE with a handle; WRITE of 5 bytes, whose verifier never stays; COMMIT; RENAME and REMOVE.
            8 => words(&[0, 1, 2, 0x2f78_0000]),
            7 => words(&[0, 0, 0, 5, committed, 0, asked.before]),
            21 => words(&[0, 0, 0, 0, 1 << 20]),
            12 | 14 => words(&[0, 0, 0, 0, 0]),
            _ => Twist::Results(results),
        };
        let server = twisted(&memory, twist).await;
        let store = open(&server.url(""), PATIENT).await.unwrap();
        let mut writer = store.create(&path("f"), &path(".scratch")).await.unwrap();
        writer.write_at(0, b"first").await.unwrap();
        let again = writer.write_at(5, b"again").await;
        assert_eq!(again.is_err(), lost);
        if !lost {
            writer.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn writing_a_file_leaves_what_is_known_of_other_names() {
    let memory = Memory::new();
    memory.put_dir(".scratch").unwrap();
    memory.put_dir("a/b/c/d").unwrap();
    let lookups = Arc::new(AtomicU32::new(0));
    let count = lookups.clone();
    let words = |words: &[u32]| Twist::Results(words.iter().flat_map(|word| word.to_be_bytes()).collect());
    let twist = move |asked: &Asked, results| match asked.procedure {
        LOOKUP => {
            count.fetch_add(1, Ordering::Relaxed);
            Twist::Results(results)
        }
        // CREATE with a handle, WRITE, COMMIT and RENAME.
        8 => words(&[0, 1, 2, 0x2f78_0000]),
        7 => words(&[0, 0, 0, 5, 2, 0, 0]),
        21 => words(&[0, 0, 0, 0, 0]),
        14 => words(&[0, 0, 0, 0, 0]),
        _ => Twist::Results(results),
    };
    let server = twisted(&memory, twist).await;
    let store = open(&server.url("&attributes=3600"), PATIENT).await.unwrap();
    for (file, most) in [("a/b/c/d/x", 7), ("a/b/c/d/y", 3)] {
        lookups.store(0, Ordering::Relaxed);
        let mut writer = store.create(&path(file), &path(".scratch")).await.unwrap();
        writer.write_at(0, b"bytes").await.unwrap();
        writer.commit().await.unwrap();
        // The scratch directory, the directory and the name in it.
        assert!(lookups.load(Ordering::Relaxed) <= most, "{file}: {lookups:?}");
    }
}
