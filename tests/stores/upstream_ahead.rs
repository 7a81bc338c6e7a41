//! What reading ahead gives and what it asks of an upstream server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nfs_verity::store::{Memory, StoreFile, StorePath};

use super::nfs_server::{Asked, READ, Server, Twist};
use super::support::content;
use super::upstream::open;

const PATIENT: Duration = Duration::from_secs(20);
/// What the server gives in one READ.
const STEP: u64 = 64 * 1024;
/// Where a READ's reply has the time of the last change, and its data.
const CTIME: usize = 4 + 4 + 76;
const DATA: usize = 4 + 4 + 84 + 12;

fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

async fn twisted(
    memory: &Memory,
    twist: impl Fn(&Asked, Vec<u8>) -> Twist + Send + Sync + 'static,
) -> Server {
    Server::start(memory, "127.0.0.1:0", Arc::new(twist)).await
}

/// Bytes of data in the results of a READ.
fn data_of(results: &[u8]) -> u64 {
    results.get(DATA - 12..DATA - 8).map_or(0, |count| u32::from_be_bytes(count.try_into().unwrap()).into())
}

/// A server of the file `f` that counts the bytes that READs gave.
async fn counted(memory: &Memory) -> (Server, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counts = count.clone();
    let twist = move |asked: &Asked, results: Vec<u8>| {
        if asked.procedure == READ {
            counts.fetch_add(data_of(&results), Ordering::Relaxed);
        }
        Twist::Results(results)
    };
    (twisted(memory, twist).await, count)
}

async fn read(file: &Arc<dyn StoreFile>, offset: u64, len: usize) -> Vec<u8> {
    match file.try_read_at(offset, len) {
        Some(bytes) => bytes.to_vec(),
        None => file.read_at(offset, len).await.unwrap().to_vec(),
    }
}

/// Waits until the server has given `bytes`.
async fn given(count: &AtomicU64, bytes: u64) {
    for _ in 0..2000 {
        if count.load(Ordering::Relaxed) >= bytes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no more than {} bytes were read", count.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_read_from_front_to_back_is_read_once_whatever_the_steps() {
    let memory = Memory::new();
    let bytes = content(1, 2_000_001);
    memory.put("f", &bytes).unwrap();
    let whole = bytes.len() as u64;
    for (start, len) in
        [(0, STEP), (32 * 1024, STEP), (5, 50_000), (0, 4096), (4096, 3 * STEP + 7), (0, 1 << 20)]
    {
        let (server, count) = counted(&memory).await;
        let store = open(&server.url("&attributes=60"), PATIENT).await.unwrap();
        let file = store.open(&path("f")).await.unwrap();
        let mut at = start;
        while at < whole {
            let read = read(&file, at, usize::try_from(len).unwrap()).await;
            let from = usize::try_from(at).unwrap();
            assert!(read == bytes[from..bytes.len().min(from + read.len())], "{start} {len} {at}");
            assert!(read.len() as u64 == len.min(whole - at), "{start} {len} {at}");
            at += len;
        }
        assert_eq!(count.load(Ordering::Relaxed), whole - start, "{start} {len}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_are_whole_whatever_they_are_made_of() {
    let memory = Memory::new();
    let bytes = content(2, 1_000_001);
    memory.put("f", &bytes).unwrap();
    let (server, _) = counted(&memory).await;
    let store = open(&server.url("&attributes=60"), PATIENT).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    for piece in [1000, 65_536, 100_000, 2_000_000] {
        let mut at = 0;
        loop {
            let pieces = file.read_pieces(at as u64, 300_000, piece).await.unwrap();
            let right: Vec<&[u8]> = bytes[at..bytes.len().min(at + 300_000)].chunks(piece).collect();
            assert_eq!(pieces.len(), right.len(), "{piece} {at}");
            assert!(pieces.iter().zip(right).all(|(piece, right)| piece == right), "{piece} {at}");
            at += 300_000;
            if at >= bytes.len() {
                break;
            }
        }
        assert!(file.read_pieces(1_000_001, 5, piece).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_readers_of_one_file_leave_each_other_their_pieces() {
    const READERS: u64 = 8;
    const EACH: u64 = 10;
    let memory = Memory::new();
    let bytes = content(3, usize::try_from(READERS * EACH * STEP).unwrap());
    memory.put("f", &bytes).unwrap();
    let (server, count) = counted(&memory).await;
    let store = open(&server.url("&attributes=60"), PATIENT).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    let step = usize::try_from(STEP).unwrap();
    for turn in 0..EACH {
        for reader in 0..READERS {
            let at = (reader * EACH + turn) * STEP;
            let from = usize::try_from(at).unwrap();
            assert!(read(&file, at, step).await == bytes[from..from + step]);
        }
    }
    // At its end each reads on into what the next has read already.
    let most = bytes.len() as u64 + READERS * 4 * STEP;
    let all = count.load(Ordering::Relaxed);
    assert!(all <= most, "{all} of {}", bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_more_than_the_server_gives_at_once_are_read_ahead_for() {
    let memory = Memory::new();
    memory.put("f", &content(4, 3 << 20)).unwrap();
    let (server, count) = counted(&memory).await;
    let store = open(&server.url("&attributes=60"), PATIENT).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    for n in 0..2 {
        file.read_at(n * 4 * STEP, 4 * 64 * 1024).await.unwrap();
    }
    given(&count, 8 * STEP + 3 * STEP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_ahead_is_forgotten_once_a_read_tells_that_the_file_changed() {
    let memory = Memory::new();
    memory.put("f", &vec![1; 2 << 20]).unwrap();
    let changed = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let (is_changed, counts) = (changed.clone(), count.clone());
    let twist = move |asked: &Asked, mut results: Vec<u8>| {
        if asked.procedure == READ {
            counts.fetch_add(data_of(&results), Ordering::Relaxed);
            if is_changed.load(Ordering::Relaxed) {
                results[CTIME..CTIME + 8].copy_from_slice(&[7; 8]);
                results[DATA..].fill(2);
            }
        }
        Twist::Results(results)
    };
    let server = twisted(&memory, twist).await;
    let store = open(&server.url("&attributes=3600"), PATIENT).await.unwrap();
    let file = store.open(&path("f")).await.unwrap();
    let step = usize::try_from(STEP).unwrap();
    for n in 0..2 {
        assert!(read(&file, n * STEP, step).await == vec![1; step]);
    }
    given(&count, 5 * STEP).await;
    changed.store(true, Ordering::Relaxed);
    assert!(file.read_at(20 * STEP, 100).await.unwrap() == vec![2; 100]);
    assert!(read(&file, 2 * STEP, step).await == vec![2; step], "what was read ahead is of the old file");
}
