//! A layer over a store that keeps to a rate, and lets others go first.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::sleep_until;

use crate::store::{
    Attr, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreFile, StorePath, StoreWriter,
};

/// So long after a client's last READ a scrub holds still.
const QUIET: Duration = Duration::from_millis(200);
/// Clients that never rest hold it up for so long,
const HELD_UP: Duration = Duration::from_secs(1);
/// and then it works for so long all the same, so that it ends some day.
const SLICE: Duration = Duration::from_millis(250);
/// What was not read in time may be read later as far as this goes: timers are late by a millisecond or two.
const CREDIT: Duration = Duration::from_millis(50);

/// Tells how many READs of clients were answered so far.
pub type Clients = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How fast a store may be read.
#[derive(Clone, Default)]
pub struct Pace {
    /// Bytes a second; `None` for as fast as it goes.
    pub rate: Option<NonZeroU64>,
    /// Who goes first.
    pub clients: Option<Clients>,
}

/// When one may read; pure, so that it can be tried with any clock.
#[derive(Debug)]
struct Turn {
    /// What was read so far is paid for then.
    paid: Instant,
    /// READs of clients that are known of.
    seen: u64,
    /// Clients are taken as busy until then.
    busy: Instant,
    /// They rested when it last asked.
    idle: bool,
    /// When it works in spite of them, from and to.
    slice: Range<Instant>,
}

impl Turn {
    fn new(now: Instant, seen: u64) -> Self {
        Self { paid: now, seen, busy: now, idle: true, slice: now + HELD_UP..now + HELD_UP + SLICE }
    }

    /// Whether it may read at `now`, when clients have had `reads` in all; else, when to ask again.
    fn wait(&mut self, now: Instant, reads: u64) -> Option<Instant> {
        if reads != self.seen {
            if self.idle {
                // They begin. Whoever asks as seldom as every QUIET must not take this for a beginning each time.
                self.slice = now + HELD_UP..now + HELD_UP + SLICE;
            }
            (self.seen, self.busy) = (reads, now + QUIET);
        }
        self.idle = now >= self.busy;
        if self.idle || now >= self.slice.end {
            // They rest, or the slice is used up.
            self.slice = now + HELD_UP..now + HELD_UP + SLICE;
        }
        let free = if self.slice.contains(&now) { now } else { self.busy.min(self.slice.start) };
        let at = self.paid.max(free);
        // Clients may come meanwhile.
        (at > now).then(|| at.min(now + QUIET))
    }

    /// Pays for `bytes` at `rate`.
    fn pay(&mut self, now: Instant, bytes: u64, rate: NonZeroU64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.paid = self.paid.max(earliest) + cost;
    }
}

/// The pace that several readers share.
struct Pacer {
    pace: Pace,
    turn: Mutex<Turn>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        let turn = Turn::new(Instant::now(), pace.clients.as_ref().map_or(0, |clients| clients()));
        Self { pace, turn: Mutex::new(turn) }
    }

    /// Waits until `bytes` more may be read. Those that wait are let through in turn.
    async fn take(&self, bytes: u64) {
        let mut turn = self.turn.lock().await;
        loop {
            let now = Instant::now();
            let reads = self.pace.clients.as_ref().map_or(0, |clients| clients());
            match turn.wait(now, reads) {
                Some(until) => sleep_until(until.into()).await,
                None => {
                    if let Some(rate) = self.pace.rate {
                        turn.pay(now, bytes, rate);
                    }
                    return;
                }
            }
        }
    }
}

/// A store that is read at a [`Pace`]: what is read of files counts, whatever it is read for. Everything waits
/// for clients but calls that look at names alone. A clone shares the pace.
#[derive(Clone)]
pub struct Paced {
    inner: Arc<dyn Store>,
    pacer: Arc<Pacer>,
}

impl Paced {
    /// A layer over `inner`.
    pub fn new(inner: Arc<dyn Store>, pace: Pace) -> Self {
        Self { inner, pacer: Arc::new(Pacer::new(pace)) }
    }

    /// A layer over another store, which shares the pace.
    pub fn beside(&self, inner: Arc<dyn Store>) -> Self {
        Self { inner, pacer: self.pacer.clone() }
    }
}

impl Store for Paced {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        self.inner.stat(path)
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            self.pacer.take(0).await;
            let inner = self.inner.open(path).await?;
            let file: Arc<dyn StoreFile> = Arc::new(PacedFile { inner, pacer: self.pacer.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(async move {
            self.pacer.take(0).await;
            self.inner.read_dir(path, cookie, max).await
        })
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        self.inner.read_link(path)
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        self.inner.stat_fs()
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        self.inner.create(path, scratch)
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        self.inner.create_new(path, content)
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        self.inner.remove(path)
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

struct PacedFile {
    inner: Arc<dyn StoreFile>,
    pacer: Arc<Pacer>,
}

/// What answers from memory without a wait is not handed on: it would pass by the pace.
impl StoreFile for PacedFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        self.inner.stat()
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.inner.try_stat()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move {
            self.pacer.take(len as u64).await;
            self.inner.read_at(offset, len).await
        })
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            self.pacer.take(len as u64).await;
            self.inner.read_pieces(offset, len, piece).await
        })
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        self.inner.data_range(offset, size)
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get_xattr(name, max)
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        self.inner.list_xattrs()
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.set_xattr(name, value)
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.remove_xattr(name)
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            self.pacer.take(len as u64).await;
            self.inner.verity_metadata(kind, offset, len).await
        })
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        self.inner.measure_verity()
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        self.inner.enable_verity(seal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Turns by a clock that only waiting moves.
    struct Virtual {
        start: Instant,
        now: Instant,
        turn: Turn,
        rate: Option<NonZeroU64>,
    }

    impl Virtual {
        fn new(rate: u64) -> Self {
            let start = Instant::now();
            Self { start, now: start, turn: Turn::new(start, 0), rate: NonZeroU64::new(rate) }
        }

        /// Reads `bytes`, while clients have had as many reads as `reads` says at each moment.
        fn take(&mut self, bytes: u64, mut reads: impl FnMut(Duration) -> u64) {
            let start = self.now;
            while let Some(until) = self.turn.wait(self.now, reads(self.elapsed())) {
                assert!(until > self.now, "it makes progress");
                assert!(self.now - start < Duration::from_secs(60), "and its turn comes");
                self.now = until;
            }
            if let Some(rate) = self.rate {
                self.turn.pay(self.now, bytes, rate);
            }
        }

        fn elapsed(&self) -> Duration {
            self.now - self.start
        }
    }

    fn nobody(_: Duration) -> u64 {
        0
    }

    #[test]
    fn never_more_is_read_than_the_rate_and_one_read() {
        let mut clock = Virtual::new(1000);
        let mut read = 0_u128;
        for bytes in [100_u64, 900, 1, 5000, 30, 4, 2000, 1, 1] {
            clock.take(bytes, nobody);
            let before = clock.elapsed().as_millis();
            assert!(read <= before, "{read} bytes after {before} ms");
            read += u128::from(bytes);
        }
        assert_eq!(clock.elapsed().as_millis(), 8036, "and not less");
    }

    #[test]
    fn a_rest_saves_up_next_to_nothing() {
        let mut clock = Virtual::new(1000);
        clock.now += Duration::from_secs(3600);
        let start = clock.now;
        (0..1000).for_each(|_| clock.take(10, nobody));
        assert_eq!(clock.now - start, Duration::from_millis(9990) - CREDIT);
    }

    #[test]
    fn without_a_rate_and_clients_nothing_waits() {
        let mut clock = Virtual::new(0);
        (0..1000).for_each(|_| clock.take(1 << 40, nobody));
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn it_holds_still_while_clients_read_and_goes_on_when_they_rest() {
        let mut clock = Virtual::new(0);
        // One READ every 100 ms for half a second.
        let reads = |at: Duration| u64::try_from(at.as_millis().clamp(1000, 1500) / 100).unwrap() - 10;
        clock.take(1, reads);
        assert_eq!(clock.elapsed(), Duration::ZERO, "nobody reads yet");
        clock.now += Duration::from_millis(1100);
        clock.take(1, reads);
        let rest = Duration::from_millis(1500) + QUIET;
        assert!((rest..rest + QUIET).contains(&clock.elapsed()), "{:?}", clock.elapsed());
        let before = clock.elapsed();
        (0..100).for_each(|_| clock.take(1, reads));
        assert_eq!(clock.elapsed(), before, "they rest");
    }

    #[test]
    fn clients_that_never_rest_leave_it_a_fifth_of_the_time() {
        let mut clock = Virtual::new(1 << 20);
        let (mut count, mut worked) = (0, 0_u32);
        while clock.elapsed() < Duration::from_secs(100) {
            // A millisecond each.
            clock.take(1 << 10, |_| {
                count += 1;
                count
            });
            worked += 1;
        }
        assert!((15_000..25_000).contains(&worked), "{worked} ms of 100 s");
    }

    #[tokio::test]
    async fn all_that_is_read_through_the_layer_has_its_turn() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let path = StorePath::parse(b"f").unwrap();
        let mut writer = store.create(&path, &StorePath::parse(b"s").unwrap()).await.unwrap();
        writer.write_at(0, &[7; 100]).await.unwrap();
        writer.commit().await.unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let clients: Clients = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            0
        });
        let paced = Paced::new(store, Pace { rate: None, clients: Some(clients) });
        let turns = || asked.swap(0, Ordering::Relaxed);
        turns();
        let file = paced.open(&path).await.unwrap();
        assert_eq!(turns(), 1);
        assert_eq!(file.read_at(90, 20).await.unwrap().len(), 10);
        assert_eq!((turns(), file.try_read_at(0, 10)), (1, None), "and there is no other way");
        paced.read_dir(&StorePath::root(), 0, 10).await.unwrap();
        assert_eq!(turns(), 1);
    }
}
