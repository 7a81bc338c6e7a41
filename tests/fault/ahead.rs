//! Reading ahead: the blocks that a stream is going to ask for are proven before it asks, and nothing else is; what
//! fails ahead is nobody's failure until somebody asks for it.

use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use nfs_verity::event::{Cause, Gauge, Silent};
use nfs_verity::export::{ExportError, ExportOptions, open_disk_cache};
use nfs_verity::sign::{Keyring, TrustedKey};
use nfs_verity::store::Store;

use super::gated::Act;
use super::scene::{Gate, eventually, shared, small_blocks, within};
use super::support::{Random, content, seal, seed};
use super::together::{EXTENT, FILE, Scene};

const CACHE: u64 = 64 << 20;

/// A scene of which nothing waits but what is far.
async fn far(size: u64, cache: u64) -> Scene {
    let scene = Scene::new(size, cache).await;
    scene.store.all(Act::Give);
    scene
}

impl Scene {
    /// READs extent number `n`, and lets go on what that brings about.
    async fn read(&self, n: u64) {
        let (from, to) = (n * EXTENT, ((n + 1) * EXTENT).min(self.content.len() as u64));
        self.is_right(self.start(1, from, to), from, to).await;
        self.settle().await;
    }

    /// How often the store was asked for something of extent number `n`.
    fn asked_for(&self, n: u64) -> usize {
        let of = |range: &&Range<u64>| range.start < (n + 1) * EXTENT && n * EXTENT < range.end;
        self.store.reads().iter().filter(of).count()
    }
}

#[tokio::test]
async fn a_stream_finds_its_next_blocks_proven() {
    let scene = far(40 * EXTENT + 100, CACHE).await;
    (0..3).for_each(|n| assert_eq!(scene.asked_for(n), 0));
    for n in 0..3 {
        scene.read(n).await;
    }
    for n in 3..41 {
        assert_eq!(scene.asked_for(n), 1, "{n} is there before it is asked for");
        scene.read(n).await;
        assert_eq!(scene.asked_for(n), 1, "{n} is not read again");
    }
    assert_eq!(
        scene.store.reads().iter().map(|range| range.end - range.start).sum::<u64>(),
        40 * EXTENT + 100
    );
}

#[tokio::test]
async fn small_reads_find_theirs_in_what_was_read_ahead() {
    let scene = far(16 * EXTENT, CACHE).await;
    let step = EXTENT / 8;
    for n in 0..128 {
        scene.is_right(scene.start(1, n * step, (n + 1) * step), n * step, (n + 1) * step).await;
        scene.settle().await;
    }
    assert!((2..16).all(|n| scene.asked_for(n) == 1));
    let usage = scene.gate.export.usage();
    assert!(usage.cache_bytes <= CACHE && usage.cache_capacity == CACHE, "{usage:?}");
}

#[tokio::test]
async fn who_comes_while_it_is_read_ahead_waits_for_that() {
    let scene = far(16 * EXTENT, CACHE).await;
    for n in 0..2 {
        scene.read(n).await;
    }
    scene.store.rule(|range| if range.start >= 3 * EXTENT { Act::Wait } else { Act::Give });
    scene.read(2).await;
    scene.store.until(4).await;
    let next = scene.start(2, 3 * EXTENT, 4 * EXTENT);
    let block = scene.start(3, 3 * EXTENT + 5000, 3 * EXTENT + 5100);
    scene.settle().await;
    assert!(!next.is_finished() && !block.is_finished());
    scene.store.all(Act::Give);
    scene.is_right(next, 3 * EXTENT, 4 * EXTENT).await;
    scene.is_right(block, 3 * EXTENT + 5000, 3 * EXTENT + 5100).await;
    assert_eq!(scene.asked_for(3), 1);
}

#[tokio::test]
async fn a_window_of_reads_in_any_order_is_a_stream() {
    let mut random = Random::new(seed());
    let (window, windows) = (8, 20);
    let scene = far(window * windows * EXTENT, CACHE).await;
    for first in (0..windows).map(|n| n * window) {
        let mut order: Vec<u64> = (first..first + window).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, usize::try_from(random.below(n as u64 + 1)).unwrap());
        }
        for n in order {
            // The first windows tell that it is one, and how far to go.
            assert!(first < 3 * window || scene.asked_for(n) == 1, "{n} is there before it is asked for");
            scene.read(n).await;
            assert_eq!(scene.asked_for(n), 1, "{n}");
        }
    }
}

#[tokio::test]
async fn nothing_is_read_ahead_of_reads_here_and_there_or_where_nobody_has_to_wait() {
    let mut random = Random::new(seed());
    let scene = far(64 * EXTENT, CACHE).await;
    let mut wanted = Vec::new();
    for _ in 0..300 {
        let from = random.below(64 * EXTENT - 5000);
        scene.is_right(scene.start(1, from, from + 4096), from, from + 4096).await;
        scene.settle().await;
        wanted.push(from / 1024 * 1024..(from + 4096).next_multiple_of(1024));
    }
    for read in scene.store.reads() {
        let is_wanted = |wanted: &Range<u64>| wanted.start <= read.start && read.end <= wanted.end;
        assert!(wanted.iter().any(is_wanted), "{read:?}");
    }
    let scene = Scene::new(16 * EXTENT, CACHE).await;
    scene.store.all(Act::GiveAtOnce);
    for n in 0..16 {
        scene.read(n).await;
        assert!(scene.store.reads().is_empty(), "{n}");
    }
    // No room is left for it in a cache that keeps nothing.
    let scene = far(16 * EXTENT, 0).await;
    for n in 0..16 {
        scene.read(n).await;
        assert_eq!(scene.store.reads().len() as u64, n + 1);
    }
}

#[tokio::test]
async fn what_is_bad_ahead_is_told_to_who_asks_for_it_alone() {
    let at = usize::try_from(5 * EXTENT + 3000).unwrap();
    let cache = |options: &mut ExportOptions| options.cache_bytes = CACHE;
    let scene = Scene::with(16 * EXTENT, |stored| stored[at] ^= 1, cache).await;
    scene.store.all(Act::Give);
    for n in 0..5 {
        scene.read(n).await;
    }
    assert_eq!(scene.asked_for(5), 1, "it was read ahead");
    assert_eq!(scene.refused(), []);
    let whole = within(scene.start(7, 5 * EXTENT, 6 * EXTENT)).await.unwrap().unwrap();
    assert_eq!(whole.bytes.len(), 2048, "up to the bad block");
    assert!(whole.is_of(&scene.content, 5 * EXTENT, 65_536));
    assert_eq!(scene.refused(), [(Some(7), Cause::BadBlock)]);
    let bad = within(scene.start(8, 5 * EXTENT + 2048, 5 * EXTENT + 2100)).await.unwrap();
    assert_eq!(bad.unwrap_err(), ExportError::Corrupt(Cause::BadBlock));
    assert_eq!(scene.refused(), [(Some(8), Cause::BadBlock)]);
    for n in 6..16 {
        scene.read(n).await;
    }
    assert_eq!(scene.refused(), []);
}

#[tokio::test]
async fn what_the_store_fails_to_give_ahead_is_read_by_who_asks_for_it() {
    for act in [Act::Fail, Act::Panic, Act::Spoil] {
        let scene = far(16 * EXTENT, CACHE).await;
        scene.store.rule(move |range| if range.start >= 3 * EXTENT { act } else { Act::Give });
        for n in 0..3 {
            scene.read(n).await;
        }
        scene.store.until(4).await;
        scene.settle().await;
        scene.store.all(Act::Give);
        for n in 3..16 {
            scene.read(n).await;
        }
        assert_eq!(scene.refused(), [], "{act:?}");
    }
}

#[tokio::test]
async fn however_many_streams_there_are_what_is_read_ahead_has_a_bound() {
    let (streams, each, cache) = (24, 24, 16 << 20);
    let scene = far(streams * each * EXTENT, cache).await;
    let (near, room) = (6, cache / 8);
    scene.store.rule(move |range| if range.start / EXTENT % each < near { Act::Give } else { Act::Wait });
    for n in 0..near {
        for stream in 0..streams {
            scene.read(stream * each + n).await;
        }
    }
    let waiting: Vec<_> =
        scene.store.reads().into_iter().filter(|range| range.start / EXTENT % each >= near).collect();
    let bytes: u64 = waiting.iter().map(|range| range.end - range.start).sum();
    assert!((room / 2..=room).contains(&bytes), "{bytes} of {room}: {waiting:?}");
    // A fourth of it for one stream, at most.
    for stream in 0..streams {
        let of = |range: &&Range<u64>| range.start / EXTENT / each == stream;
        let bytes: u64 = waiting.iter().filter(of).map(|range| range.end - range.start).sum();
        assert!(bytes <= room / 4, "{stream}: {bytes}");
    }
    scene.store.all(Act::Give);
    scene.settle().await;
    for n in near..each {
        for stream in 0..streams {
            scene.read(stream * each + n).await;
            let usage = scene.gate.export.usage();
            assert!(usage.cache_bytes <= cache && usage.cache_capacity == cache, "{usage:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_ahead_gives_no_wrong_byte() {
    for signed in [false, true] {
        let scene = far(16 * EXTENT, CACHE).await;
        scene.store.rule(|range| if range.start >= 3 * EXTENT { Act::Wait } else { Act::Give });
        for n in 0..3 {
            scene.read(n).await;
        }
        scene.store.until(4).await;
        let other = content(2, usize::try_from(if signed { 16 * EXTENT } else { 4 * EXTENT }).unwrap());
        scene.memory.put(FILE, &other).unwrap();
        if signed {
            seal(&shared(&scene.memory), FILE, &other, small_blocks(), &scene.key).await;
        }
        scene.store.all(Act::Give);
        scene.settle().await;
        for n in 3..16 {
            let (from, count) = (n * EXTENT, 65_536);
            let answer = within(scene.start(1, from, from + EXTENT)).await.unwrap();
            if let Ok(data) = answer {
                let is_right =
                    data.is_of(&scene.content, from, count) || signed && data.is_of(&other, from, count);
                assert!(data.proven && is_right, "{n}");
            }
        }
        if signed {
            eventually("the new one is read", async || {
                scene.gate.read_at(FILE, 0, 65_536).await.is_ok_and(|data| data.is_of(&other, 0, 65_536))
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_the_disk_has_is_proven_ahead_too() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("cache");
    std::fs::DirBuilder::new().mode(0o700).create(&place).unwrap();
    let disk = open_disk_cache(&place, 64 << 20, Arc::new(Silent)).await.unwrap();
    let with_disk = |options: &mut ExportOptions| {
        (options.cache_bytes, options.disk_cache) = (CACHE, Some(disk.clone()));
    };
    let scene = Scene::with(16 * EXTENT, |_| (), with_disk).await;
    scene.store.all(Act::Give);
    for n in 0..16 {
        scene.read(n).await;
    }
    assert!((0..16).all(|n| scene.asked_for(n) == 1));
    disk.flush().await;
    // Memory forgets it, and the store has nothing to say any more.
    let store: Arc<dyn Store> = Arc::new(scene.store.clone());
    scene.store.all(Act::Fail);
    let trusted = TrustedKey::new(scene.key.public_key().clone(), "test");
    let keyring = Keyring::new(vec![trusted]);
    let gate = Gate::with(store, &keyring, |options| {
        with_disk(options);
        options.sink = scene.reads.clone();
    });
    let gate = Arc::new(gate.await.unwrap());
    let scene = Scene { gate, ..scene };
    for n in 0..16 {
        scene.read(n).await;
        // The next one is claimed as soon as this one is answered.
        let read = scene.reads.last();
        assert_eq!((read.verified_blocks / 64, read.cache_hits), (1, u64::from(n >= 3)), "{n}");
    }
    assert_eq!(scene.refused(), []);
}
