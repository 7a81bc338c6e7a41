//! Several READs that want the same blocks at the same time: one reads and proves them for all, and nobody hangs or is
//! told another one's failure, however that one ends.

use std::sync::Arc;
use std::time::Duration;

use nfs_verity::event::{Cause, Client, Event, Read, Sink};
use nfs_verity::export::{Caller, ExportError, ExportOptions, FileHandle};
use nfs_verity::sign::SigningKey;
use nfs_verity::store::{Memory, Store};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::gated::{Act, Gated};
use super::scene::{Answer, Data, Events, Gate, Refused, caller, shared, small_blocks, within};
use super::support::{Random, content, key_and_trust, seal, seed};

pub const EXTENT: u64 = 64 * 1024;

/// One signed file behind a gate.
pub struct Scene {
    pub memory: Memory,
    pub key: SigningKey,
    pub store: Gated,
    pub gate: Arc<Gate>,
    pub reads: Arc<Reads>,
    pub handle: FileHandle,
    pub content: Vec<u8>,
}

/// What was told of READs that were answered.
#[derive(Default)]
pub struct Reads(Mutex<Vec<Read>>, Arc<Events>);

impl Reads {
    /// Blocks that were proven for READs.
    pub fn proven(&self) -> u64 {
        self.0.lock().iter().map(|read| read.verified_blocks).sum()
    }

    /// The last one.
    pub fn last(&self) -> Read {
        *self.0.lock().last().unwrap()
    }
}

impl Sink for Reads {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Read(read) = event {
            self.0.lock().push(*read);
        }
        self.1.emit(event);
    }
}

pub const FILE: &str = "f";

impl Scene {
    pub async fn new(size: u64, cache: u64) -> Self {
        Self::with(size, |_| (), |options| options.cache_bytes = cache).await
    }

    /// `spoil` changes what the store has of the file, `change` the gate.
    pub async fn with(
        size: u64,
        spoil: impl FnOnce(&mut Vec<u8>),
        change: impl FnOnce(&mut ExportOptions),
    ) -> Self {
        let (key, keyring) = key_and_trust();
        let memory = Memory::new();
        let content = content(1, usize::try_from(size).unwrap());
        memory.put(FILE, &content).unwrap();
        seal(&shared(&memory), FILE, &content, small_blocks(), &key).await;
        let mut stored = content.clone();
        spoil(&mut stored);
        memory.put(FILE, &stored).unwrap();
        let store = Gated::new(shared(&memory));
        let reads = Arc::<Reads>::default();
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let gate = Gate::with(shared, &keyring, |options| {
            options.sink = reads.clone();
            change(options);
        });
        let gate = Arc::new(gate.await.unwrap());
        let handle = gate.find(FILE).await.unwrap().0;
        Self { memory, key, store, gate, reads, handle, content }
    }

    /// A READ of its own task, by user `uid`.
    pub fn start(&self, uid: u32, from: u64, to: u64) -> JoinHandle<Answer<Data>> {
        let (export, handle) = (self.gate.export.clone(), self.handle);
        tokio::spawn(async move {
            let count = u32::try_from(to - from).unwrap();
            let reply = export.read(handle.as_bytes(), from, count, &user(uid)).await?;
            let (eof, size, proven) = (reply.eof, reply.attr.size, reply.data.is_verified());
            Ok(Data { bytes: reply.data.into_parts().concat(), eof, size, proven })
        })
    }

    /// The READ of a task that was started, which got all of `from..to`.
    pub async fn is_right(&self, read: JoinHandle<Answer<Data>>, from: u64, to: u64) {
        let data = within(read).await.unwrap().unwrap();
        assert!(data.proven && data.is_all_of(&self.content, from, u32::try_from(to - from).unwrap()));
    }

    /// Whose READs were refused since the last time, and why, in order of the users.
    pub fn refused(&self) -> Vec<(Option<u32>, Cause)> {
        let refused = self.reads.1.refused();
        let of = |refusal: &Refused| (refusal.client.and_then(|client| client.uid), refusal.cause);
        let mut refused: Vec<_> = refused.iter().map(of).collect();
        refused.sort_unstable();
        refused
    }

    /// Lets all go on that can.
    pub async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

fn user(uid: u32) -> Caller {
    let Caller { client, gids } = caller();
    Caller { client: Client { uid: Some(uid), ..client }, gids }
}

#[tokio::test]
async fn blocks_that_several_want_at_once_are_read_and_hashed_once() {
    for cache in [16 << 20, 0] {
        // Where the cache keeps nothing, a second block is there for those alone who come while it is proven.
        let small = if cache > 0 { (3000, 3100) } else { (3100, 3200) };
        for (from, to) in [(0, EXTENT), small, (0, 4 * EXTENT), (EXTENT / 2, 3 * EXTENT)] {
            let scene = Scene::new(4 * EXTENT, cache).await;
            let reads: Vec<_> = (0..8).map(|n| scene.start(n, from, to)).collect();
            scene.store.until(1).await;
            scene.settle().await;
            scene.store.all(Act::Give);
            for read in reads {
                scene.is_right(read, from, to).await;
            }
            let mut asked = scene.store.reads();
            asked.dedup();
            assert_eq!(asked, scene.store.reads());
            assert_eq!(asked.iter().map(|range| range.end - range.start).sum::<u64>(), {
                let first = from / 1024 * 1024;
                let from = if to - from > 1024 { from / EXTENT * EXTENT } else { first };
                to.next_multiple_of(1024) - from
            });
            if cache > 0 {
                let data = asked.iter().map(|range| (range.end - range.start).div_ceil(1024)).sum::<u64>();
                // Tree blocks are proven as they are needed: of 32 leaves each.
                assert!(
                    (data..=data + 16).contains(&scene.reads.proven()),
                    "{} of {data}",
                    scene.reads.proven()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_tree_block_that_several_need_at_once_is_read_once_also_where_the_first_gives_up() {
    for gives_up in [false, true] {
        let scene = Scene::new(4 * EXTENT, 16 << 20).await;
        scene.store.all(Act::Give);
        // The file is open, and the root's block is proven: what is needed is the block of leaves of the second half.
        scene.is_right(scene.start(1, 0, 10), 0, 10).await;
        let tree = scene.store.evidence();
        let before = tree.reads().len();
        tree.all(Act::Wait);
        let half = EXTENT / 2;
        let start = |n| scene.start(n, half + 1024 * u64::from(n), half + 1024 * u64::from(n) + 10);
        let mut reads = vec![start(0)];
        tree.until(before + 1).await;
        reads.extend((1..8).map(start));
        scene.settle().await;
        assert_eq!(scene.store.reads().len(), 1 + 8, "each has its data");
        assert_eq!(tree.reads().len(), before + 1, "and one asks for what proves them");
        if gives_up {
            let first = reads.remove(0);
            first.abort();
            assert!(within(first).await.is_err());
            tree.until(before + 2).await;
            scene.settle().await;
            assert_eq!(tree.reads().len(), before + 2, "another one asks");
        }
        tree.all(Act::Give);
        for (n, read) in (u64::from(gives_up)..).zip(reads) {
            scene.is_right(read, half + 1024 * n, half + 1024 * n + 10).await;
        }
        assert_eq!(tree.reads().len(), before + 1 + usize::from(gives_up));
    }
}

#[tokio::test]
async fn a_small_read_takes_its_block_from_the_extent_that_another_reads() {
    let scene = Scene::new(4 * EXTENT, 0).await;
    let large = scene.start(1, 0, 2 * EXTENT);
    scene.store.until(1).await;
    let small = scene.start(2, EXTENT + 5000, EXTENT + 5010);
    scene.settle().await;
    scene.store.all(Act::Give);
    scene.is_right(large, 0, 2 * EXTENT).await;
    scene.is_right(small, EXTENT + 5000, EXTENT + 5010).await;
    let both = 0..2 * EXTENT;
    assert_eq!(scene.store.reads(), [both]);
}

#[tokio::test]
async fn where_the_first_gives_up_or_ends_badly_another_goes_on() {
    for panics in [false, true] {
        let scene = Scene::new(4 * EXTENT, 16 << 20).await;
        let first = scene.start(1, 0, 2 * EXTENT);
        scene.store.until(1).await;
        let others: Vec<_> = (2..5).map(|n| scene.start(n, 0, 2 * EXTENT)).collect();
        scene.settle().await;
        assert_eq!(scene.store.reads().len(), 1, "they wait");
        if panics {
            let store = scene.store.clone();
            scene.store.rule(move |_| if store.reads().len() == 1 { Act::Panic } else { Act::Wait });
        } else {
            first.abort();
        }
        assert!(within(first).await.is_err());
        scene.store.until(2).await;
        scene.settle().await;
        assert_eq!(scene.store.reads().len(), 2, "one of them goes on for all");
        scene.store.all(Act::Give);
        for other in others {
            scene.is_right(other, 0, 2 * EXTENT).await;
        }
        assert_eq!(scene.store.reads(), [0..2 * EXTENT, 0..2 * EXTENT]);
        assert!(scene.refused().is_empty());
    }
}

#[tokio::test]
async fn clients_that_come_and_go_hold_nobody_up_for_long() {
    let scene = Scene::new(4 * EXTENT, 16 << 20).await;
    let mut reads: Vec<_> = (0..6).map(|n| scene.start(n, 0, EXTENT)).collect();
    // Whoever reads for all is gone before there is an answer: the next one reads for the others, and then each for
    // itself.
    for (asked, more) in [(1, 1), (2, 4)] {
        scene.store.until(asked).await;
        scene.settle().await;
        let first = reads.remove(0);
        first.abort();
        assert!(within(first).await.is_err());
        scene.settle().await;
        assert_eq!(scene.store.reads().len(), asked + more, "at once");
    }
    scene.store.all(Act::Give);
    for read in reads {
        scene.is_right(read, 0, EXTENT).await;
    }
}

#[tokio::test]
async fn what_is_in_hand_is_used_where_somebody_else_was_faster_with_a_part_of_it() {
    let scene = Scene::new(4 * EXTENT, 16 << 20).await;
    let slow = scene.start(1, 0, 4 * EXTENT);
    scene.store.until(1).await;
    scene.settle().await;
    // It takes so long that nobody waits for it any more.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    scene.store.rule(|range| if range.start == EXTENT { Act::Give } else { Act::Wait });
    scene.is_right(scene.start(2, EXTENT, 2 * EXTENT), EXTENT, 2 * EXTENT).await;
    scene.store.all(Act::Give);
    scene.is_right(slow, 0, 4 * EXTENT).await;
    assert_eq!(scene.store.reads(), [0..4 * EXTENT, EXTENT..2 * EXTENT]);
}

#[tokio::test]
async fn where_the_first_fails_each_of_the_others_finds_out_for_itself() {
    for (act, cause) in [(Act::Fail, Cause::Unreadable), (Act::Spoil, Cause::BadBlock)] {
        for (from, to) in [(0, 2 * EXTENT), (5000, 5100)] {
            let scene = Scene::new(4 * EXTENT, 16 << 20).await;
            let first = scene.start(1, from, to);
            scene.store.until(1).await;
            let others: Vec<_> = (2..5).map(|n| scene.start(n, from, to)).collect();
            scene.settle().await;
            scene.store.all(act);
            for read in std::iter::once(first).chain(others) {
                let answer = within(read).await.unwrap();
                let wanted = match act {
                    Act::Fail => ExportError::Io,
                    _ => ExportError::Corrupt(cause),
                };
                assert_eq!(answer.unwrap_err(), wanted);
            }
            let all: Vec<_> = (1..5).map(|n| (Some(n), cause)).collect();
            assert_eq!(scene.refused(), all, "{act:?} {from}");
            // And what was bad for a while is read again.
            scene.store.all(Act::Give);
            let handle = scene.gate.find(FILE).await.unwrap().0;
            assert_eq!(handle, scene.handle);
            scene.is_right(scene.start(9, from, to), from, to).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_overlap_wait_for_each_other_and_all_come_to_an_end() {
    let mut random = Random::new(seed());
    for round in 0..60 {
        // Where the cache keeps nothing, all of it is handed over.
        let cache = [0, 1 << 20, 16 << 20][round % 3];
        let scene = Arc::new(Scene::new(12 * EXTENT + 777, cache).await);
        let (bad, seed) = (random.below(40), random.next());
        scene.store.rule(move |range| {
            let mut die = Random::new(seed ^ range.start.wrapping_mul(31) ^ range.end);
            match die.below(8) {
                0 if bad > 20 => Act::Fail,
                1 if bad > 20 => Act::Spoil,
                2 => Act::GiveAtOnce,
                _ => Act::Give,
            }
        });
        let size = scene.content.len() as u64;
        let mut reads = Vec::new();
        for n in 0..24 {
            let from = random.below(size);
            let to = (from + 1 + random.below([100, 5000, 3 * EXTENT, 12 * EXTENT][n % 4])).min(size);
            let read = scene.start(u32::try_from(n).unwrap(), from, to);
            if random.below(4) == 0 {
                let (stop, after) = (read.abort_handle(), random.below(300));
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(after)).await;
                    stop.abort();
                });
            }
            if random.below(3) == 0 {
                tokio::task::yield_now().await;
            }
            reads.push((read, from, to));
        }
        for (read, from, to) in reads {
            match within(read).await {
                Ok(Ok(data)) => assert!(data.is_of(&scene.content, from, u32::try_from(to - from).unwrap())),
                Ok(Err(error)) => assert!(bad > 20, "{error:?}"),
                Err(stopped) => assert!(stopped.is_cancelled()),
            }
        }
        // Nothing is left of them: all can be read when all is well.
        scene.store.all(Act::Give);
        scene.is_right(scene.start(99, 0, size), 0, size).await;
    }
}
