//! A layer over a store that keeps to a rate, and lets others go first.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

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

/// The pace that several readers share.
struct Pacer {
    pace: Pace,
    state: Mutex<State>,
}

struct State {
    /// What was read so far is paid for then.
    paid: Instant,
    /// READs of clients that are known of.
    seen: u64,
    /// Clients are taken as busy until then.
    busy: Instant,
    /// When it works in spite of them, from and to.
    slice: Range<Instant>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        let now = Instant::now();
        let seen = pace.clients.as_ref().map_or(0, |clients| clients());
        let slice = now + HELD_UP..now + HELD_UP + SLICE;
        Self { pace, state: Mutex::new(State { paid: now, seen, busy: now, slice }) }
    }

    /// Waits until `bytes` more may be read. Those that wait are let through in turn.
    async fn take(&self, bytes: u64) {
        let mut state = self.state.lock().await;
        let now = loop {
            let now = Instant::now();
            if let Some(clients) = &self.pace.clients {
                let count = clients();
                if count != state.seen {
                    (state.seen, state.busy) = (count, now + QUIET);
                }
            }
            if now >= state.busy || now >= state.slice.end {
                // They rest, or the slice is used up.
                state.slice = now + HELD_UP..now + HELD_UP + SLICE;
            }
            let free = if state.slice.contains(&now) { now } else { state.busy.min(state.slice.start) };
            let at = state.paid.max(free);
            if at <= now {
                break now;
            }
            // Clients may come meanwhile.
            sleep_until(at.min(now + QUIET)).await;
        };
        if let Some(rate) = self.pace.rate {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
            let earliest = now.checked_sub(CREDIT).unwrap_or(now);
            state.paid =
                state.paid.max(earliest) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
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

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        self.inner.remove(path)
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
    use std::sync::atomic::{AtomicU64, Ordering};

    fn rate(bytes: u64) -> Pace {
        Pace { rate: NonZeroU64::new(bytes), clients: None }
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_is_read_than_the_rate_and_one_read() {
        let pacer = Pacer::new(rate(1000));
        let start = Instant::now();
        let mut read = 0_u128;
        for bytes in [100_u64, 900, 1, 5000, 30, 4, 2000, 1, 1] {
            pacer.take(bytes).await;
            let before = start.elapsed().as_millis();
            assert!(read <= before, "{read} bytes after {before} ms");
            read += u128::from(bytes);
        }
        assert_eq!(start.elapsed().as_millis(), 8036, "and not less");
        tokio::time::sleep(Duration::from_secs(100)).await;
        let start = Instant::now();
        for _ in 0..1000 {
            pacer.take(10).await;
        }
        let elapsed = start.elapsed();
        let least = Duration::from_millis(9990) - CREDIT;
        assert!(elapsed >= least && elapsed < least + 2 * CREDIT, "a rest saves up little: {elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn several_readers_share_one_rate() {
        let pacer = Arc::new(Pacer::new(rate(1000)));
        let start = Instant::now();
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let pacer = pacer.clone();
                tokio::spawn(async move {
                    for _ in 0..5 {
                        pacer.take(100).await;
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(start.elapsed().as_millis(), 3900);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_and_clients_nothing_waits() {
        let pacer = Pacer::new(Pace::default());
        let start = Instant::now();
        for _ in 0..1000 {
            pacer.take(1 << 40).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrub_holds_still_while_clients_read_and_goes_on_when_they_rest() {
        let reads = Arc::new(AtomicU64::new(0));
        let told = reads.clone();
        let clients: Clients = Arc::new(move || told.load(Ordering::Relaxed));
        let pacer = Pacer::new(Pace { rate: None, clients: Some(clients) });
        let start = Instant::now();
        pacer.take(1).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody reads");
        reads.fetch_add(1, Ordering::Relaxed);
        pacer.take(1).await;
        assert_eq!(start.elapsed(), QUIET);
        pacer.take(1).await;
        assert_eq!(start.elapsed(), QUIET, "they rest");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_never_rest_leave_it_a_fifth_of_the_time() {
        let reads = Arc::new(AtomicU64::new(0));
        let clients: Clients = Arc::new(move || reads.fetch_add(1, Ordering::Relaxed));
        let pacer = Pacer::new(Pace { rate: NonZeroU64::new(1 << 20), clients: Some(clients) });
        let start = Instant::now();
        let mut worked = 0;
        while start.elapsed() < Duration::from_secs(100) {
            // Half a millisecond each.
            pacer.take(1 << 9).await;
            worked += 1;
        }
        let share = f64::from(worked) * 0.5 / 100_000.0;
        assert!((0.15..0.25).contains(&share), "{share}");
    }
}
