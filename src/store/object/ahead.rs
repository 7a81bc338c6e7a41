//! Reading ahead: files that are read through are fetched in chunks before they are asked for, several in one
//! request; whoever wants the same chunk waits for the same request. Reads here and there are asked for as they
//! are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::super::{Result, StoreErrorKind};
use super::fail::refuse;
use super::file::Object;

/// Bytes that are kept and waited for as one.
const CHUNK: u64 = 1024 * 1024;
/// The most chunks in one request.
const GROUP: u64 = 4;
/// The most chunks that are fetched before they are asked for, for one reader of a file.
const DEPTH: u64 = 16;
/// Chunks that are kept, of all files together.
const KEPT: usize = 64;
/// Chunks under way, of all files together.
const UNDER_WAY: usize = 48;
/// Readers of one file that are told apart.
const STREAMS: usize = 8;
/// How far from where it was a reader may go on: clients send their calls at once, and out of order.
const NEAR: u64 = 2 * CHUNK;
/// Files up to this size are fetched whole.
const WHOLE: u64 = 256 * 1024;

/// What became of a chunk: nothing yet, its bytes, or an error's kind and words.
type Outcome = Option<std::result::Result<Bytes, (StoreErrorKind, Arc<str>)>>;

/// The chunks of all files of a store.
pub(super) struct Ahead {
    chunks: Mutex<Chunks>,
    under_way: Arc<Semaphore>,
    files: AtomicU64,
}

#[derive(Default)]
struct Chunks {
    /// By file and number, with the moment of the last use.
    by_place: HashMap<(u64, u64), (u64, watch::Receiver<Outcome>)>,
    by_use: BTreeMap<u64, (u64, u64)>,
    clock: u64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            chunks: Mutex::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            files: AtomicU64::new(0),
        }
    }
}

impl Chunks {
    fn get(&mut self, place: (u64, u64)) -> Option<watch::Receiver<Outcome>> {
        self.clock += 1;
        let (used, chunk) = self.by_place.get_mut(&place)?;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, place);
        Some(chunk.clone())
    }

    fn insert(&mut self, place: (u64, u64), chunk: watch::Receiver<Outcome>) {
        self.remove(place);
        self.clock += 1;
        self.by_use.insert(self.clock, place);
        self.by_place.insert(place, (self.clock, chunk));
        while self.by_place.len() > KEPT
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_place.remove(&oldest);
        }
    }

    fn remove(&mut self, place: (u64, u64)) {
        if let Some((used, _)) = self.by_place.remove(&place) {
            self.by_use.remove(&used);
        }
    }
}

/// Somebody who reads a file through.
struct Stream {
    next: u64,
    /// Chunks to be fetched before they are asked for.
    depth: u64,
    /// The last chunk for which more was asked for.
    chunk: u64,
}

/// Reads one file.
pub(super) struct Reader {
    ahead: Arc<Ahead>,
    object: Arc<Object>,
    id: u64,
    streams: Mutex<Vec<Stream>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut chunks = self.ahead.chunks.lock();
        let places: Vec<_> = chunks.by_place.keys().filter(|(file, _)| *file == self.id).copied().collect();
        places.into_iter().for_each(|place| chunks.remove(place));
    }
}

impl Reader {
    pub(super) fn new(ahead: &Arc<Ahead>, object: &Arc<Object>) -> Self {
        let id = ahead.files.fetch_add(1, Ordering::Relaxed);
        Self { ahead: ahead.clone(), object: object.clone(), id, streams: Mutex::default() }
    }

    /// The bytes `start..end`, where they are there already; `start` lies before `end`, within the file.
    pub(super) fn ready(&self, start: u64, end: u64) -> Option<Bytes> {
        let mut whole = BytesMut::new();
        let mut at = start;
        while at < end {
            let (number, stop) = (at / CHUNK, end.min((at / CHUNK + 1) * CHUNK));
            let chunk = self.ahead.chunks.lock().get((self.id, number))?;
            let bytes = chunk.borrow().as_ref()?.as_ref().ok()?.clone();
            whole.extend_from_slice(part(&bytes, at, stop)?);
            at = stop;
        }
        self.notice(start, end);
        Some(whole.freeze())
    }

    /// The bytes `start..end`; `start` lies before `end`, within the file.
    pub(super) async fn read(&self, start: u64, end: u64) -> Result<Bytes> {
        let through = self.notice(start, end);
        // A copy: a slice would keep its whole chunk in memory for as long as it is cached.
        let mut whole = BytesMut::new();
        let mut at = start;
        while at < end {
            let (number, stop) = (at / CHUNK, end.min((at / CHUNK + 1) * CHUNK));
            let known = self.ahead.chunks.lock().get((self.id, number));
            let chunk = match known {
                Some(chunk) => chunk,
                None if through => self.fetch(number, 1).await?,
                None => {
                    self.object.get(at, end, |bytes| whole.extend_from_slice(bytes)).await?;
                    return Ok(whole.freeze());
                }
            };
            whole.extend_from_slice(self.outcome(chunk, at, stop).await?.as_ref());
            at = stop;
        }
        Ok(whole.freeze())
    }

    async fn outcome(&self, mut chunk: watch::Receiver<Outcome>, at: u64, stop: u64) -> Result<Bytes> {
        let failed = |kind, why: &str| refuse(kind, "read", &self.object.path, why);
        let lost = || failed(StoreErrorKind::Unavailable, "the request was given up");
        let outcome = chunk.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
        match outcome {
            Some(Ok(bytes)) => part(&bytes, at, stop)
                .map(Bytes::copy_from_slice)
                .ok_or_else(|| failed(StoreErrorKind::Io, "it is short")),
            Some(Err((kind, why))) => Err(failed(kind, &why)),
            None => Err(lost()),
        }
    }

    /// Takes note of a read, and asks for what is likely to follow. Whether the file is read through there.
    fn notice(&self, start: u64, end: u64) -> bool {
        let size = self.object.size();
        if size <= WHOLE {
            return true;
        }
        let wanted = {
            let mut streams = self.streams.lock();
            let place = streams.iter().position(|stream| start.abs_diff(stream.next) <= NEAR);
            let Some(place) = place else {
                streams.truncate(STREAMS - 1);
                streams.insert(0, Stream { next: end, depth: 0, chunk: start / CHUNK });
                return false;
            };
            let mut stream = streams.remove(place);
            let on = end > stream.next;
            stream.next = stream.next.max(end);
            let now = (stream.next - 1) / CHUNK;
            let moved = on && (stream.depth == 0 || now > stream.chunk);
            if moved {
                stream.depth = (stream.depth * 2).clamp(1, DEPTH);
                stream.chunk = now;
            }
            let wanted = moved.then_some((now + 1, now + 1 + stream.depth));
            streams.insert(0, stream);
            wanted
        };
        if let Some((from, to)) = wanted {
            self.fetch_ahead(from, to.min(size.div_ceil(CHUNK)));
        }
        true
    }

    /// Asks for those of the chunks `from..to` that nobody asked for, in as few requests as makes sense.
    fn fetch_ahead(&self, from: u64, to: u64) {
        let missing: Vec<u64> = {
            let chunks = self.ahead.chunks.lock();
            (from..to).filter(|number| !chunks.by_place.contains_key(&(self.id, *number))).collect()
        };
        // A few more are soon wanted; then they come in one request.
        let worth = GROUP.min(to.saturating_sub(from).div_ceil(2));
        if (missing.len() as u64) < worth {
            return;
        }
        let mut missing = missing.into_iter().peekable();
        while let Some(first) = missing.next() {
            let mut count = 1;
            while count < GROUP && missing.next_if_eq(&(first + count)).is_some() {
                count += 1;
            }
            let permits = u32::try_from(count).unwrap_or(1);
            let Ok(permit) = self.ahead.under_way.clone().try_acquire_many_owned(permits) else { return };
            self.start(first, count, permit);
        }
    }

    /// Asks for chunks and waits for none. What there is of them in a chunk of `count`.
    async fn fetch(&self, first: u64, count: u64) -> Result<watch::Receiver<Outcome>> {
        let failed =
            || refuse(StoreErrorKind::Exhausted, "read", &self.object.path, "there are too many reads");
        let permit = self.ahead.under_way.clone().acquire_owned().await.map_err(|_| failed())?;
        // Another read may have asked for it meanwhile.
        let known = self.ahead.chunks.lock().get((self.id, first));
        Ok(match known {
            Some(chunk) => chunk,
            None => self.start(first, count, permit).ok_or_else(failed)?,
        })
    }

    fn start(
        &self,
        first: u64,
        count: u64,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Option<watch::Receiver<Outcome>> {
        let mut senders = Vec::new();
        let mut receiver = None;
        {
            let mut chunks = self.ahead.chunks.lock();
            for number in first..first + count {
                let (sender, chunk) = watch::channel(None);
                receiver.get_or_insert_with(|| chunk.clone());
                chunks.insert((self.id, number), chunk);
                senders.push(sender);
            }
        }
        let (ahead, object, id) = (self.ahead.clone(), self.object.clone(), self.id);
        tokio::spawn(async move {
            let _permit = permit;
            let end = ((first + count) * CHUNK).min(object.size());
            let mut at = first * CHUNK;
            let (mut buffer, mut waiting) = (BytesMut::new(), senders.into_iter());
            let got = object.get(at, end, |mut bytes| {
                while !bytes.is_empty() {
                    let chunk_end = end.min((at / CHUNK + 1) * CHUNK);
                    let room = usize::try_from(chunk_end - at).unwrap_or(0);
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    buffer.extend_from_slice(now);
                    at += now.len() as u64;
                    bytes = later;
                    if at == chunk_end {
                        let chunk = std::mem::take(&mut buffer).freeze();
                        // Nobody may be waiting.
                        if let Some(sender) = waiting.next() {
                            sender.send_replace(Some(Ok(chunk)));
                        }
                    }
                }
            });
            if let Err(error) = got.await {
                let why: Arc<str> = error.source.to_string().into();
                for (number, sender) in (at / CHUNK..).zip(waiting) {
                    // Whoever comes later asks again.
                    ahead.chunks.lock().remove((id, number));
                    sender.send_replace(Some(Err((error.kind, why.clone()))));
                }
            }
        });
        receiver
    }
}

/// The bytes `start..end` of the file, which lie in one chunk.
fn part(chunk: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    let first = start / CHUNK * CHUNK;
    chunk.get(usize::try_from(start - first).ok()?..usize::try_from(end - first).ok()?)
}
