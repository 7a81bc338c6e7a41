//! Reading ahead: files that are read through are fetched in chunks before they are asked for, several in one
//! request; whoever wants the same chunk waits for the same request. Reads here and there are asked for as they
//! are.

use std::collections::{BTreeMap, VecDeque};
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
/// Bytes that are kept, of all files together.
const KEPT: u64 = 96 * CHUNK;
/// What a chunk takes beyond its bytes.
const OVERHEAD: u64 = 1024;
/// Chunks that are fetched before they are asked for, for all readers together. Less than is kept: of what was
/// fetched some is being read, by calls that are answered out of order.
const SHARED: u64 = 48;
/// Chunks last reached, by which it is told how many readers there are.
const LATELY: usize = 64;
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

/// A file, and the number of a chunk in it.
type Place = (u64, u64);

#[derive(Default)]
struct Chunks {
    by_place: BTreeMap<Place, Chunk>,
    /// What goes next comes first: what was read to its end, and then what was not used for the longest time.
    by_use: BTreeMap<(bool, u64), Place>,
    clock: u64,
    bytes: u64,
    /// Who came to another chunk last: file and reader.
    lately: VecDeque<(u64, u64)>,
}

struct Chunk {
    bytes: u64,
    /// Whether it is still to be read, and the moment of the last use.
    used: (bool, u64),
    outcome: watch::Receiver<Outcome>,
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
    /// The chunk at `place`, for who reads it `to_its_end` or not.
    fn get(&mut self, place: Place, to_its_end: bool) -> Option<watch::Receiver<Outcome>> {
        self.clock += 1;
        let chunk = self.by_place.get_mut(&place)?;
        // Whoever reads on keeps what was read elsewhere: here it stays for calls that come out of order.
        if chunk.used.0 {
            self.by_use.remove(&chunk.used);
            chunk.used = (!to_its_end, self.clock);
            self.by_use.insert(chunk.used, place);
        }
        Some(chunk.outcome.clone())
    }

    fn insert(&mut self, place: Place, len: u64, outcome: watch::Receiver<Outcome>) {
        self.remove(place);
        self.clock += 1;
        let chunk = Chunk { bytes: len + OVERHEAD, used: (true, self.clock), outcome };
        self.bytes += chunk.bytes;
        self.by_use.insert(chunk.used, place);
        self.by_place.insert(place, chunk);
        while self.bytes > KEPT
            && let Some((_, oldest)) = self.by_use.first_key_value()
        {
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, place: Place) {
        if let Some(chunk) = self.by_place.remove(&place) {
            self.by_use.remove(&chunk.used);
            self.bytes -= chunk.bytes;
        }
    }

    fn remove_file(&mut self, file: u64) {
        while let Some((place, _)) = self.by_place.range((file, 0)..=(file, u64::MAX)).next() {
            self.remove(*place);
        }
    }

    /// Takes note that `reader` came to another chunk. How many chunks may be fetched for it before they are
    /// asked for.
    fn share(&mut self, reader: (u64, u64)) -> u64 {
        self.lately.truncate(LATELY - 1);
        self.lately.push_front(reader);
        let mut readers: Vec<_> = self.lately.iter().collect();
        readers.sort_unstable();
        readers.dedup();
        (SHARED / (readers.len() as u64).max(1)).clamp(1, DEPTH)
    }
}

/// Somebody who reads a file through.
struct Stream {
    number: u64,
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
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    /// The last used first.
    all: Vec<Stream>,
    count: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ahead.chunks.lock().remove_file(self.id);
    }
}

impl Reader {
    pub(super) fn new(ahead: &Arc<Ahead>, object: &Arc<Object>) -> Self {
        let id = ahead.files.fetch_add(1, Ordering::Relaxed);
        Self { ahead: ahead.clone(), object: object.clone(), id, streams: Mutex::default() }
    }

    /// The bytes `start..end`, where they are there already; `start` lies before `end`, within the file.
    pub(super) fn ready(&self, start: u64, end: u64) -> Option<Bytes> {
        let mut parts = Vec::new();
        let mut at = start;
        while at < end {
            let (number, stop) = (at / CHUNK, end.min((at / CHUNK + 1) * CHUNK));
            let chunk = self.known(number, stop)?;
            let bytes = chunk.borrow().as_ref()?.as_ref().ok()?.clone();
            parts.push(part(&bytes, at, stop)?);
            at = stop;
        }
        self.notice(start, end);
        Some(joined(&parts))
    }

    /// The bytes `start..end`; `start` lies before `end`, within the file.
    pub(super) async fn read(&self, start: u64, end: u64) -> Result<Bytes> {
        // A copy: a slice would keep its whole chunk in memory for as long as it is cached.
        Ok(joined(&self.parts(start, end).await?))
    }

    /// The same in pieces of `len` bytes, each in memory of its own.
    pub(super) async fn read_pieces(&self, start: u64, end: u64, len: usize) -> Result<Vec<Bytes>> {
        let mut pieces = Vec::new();
        let mut piece: Vec<u8> = Vec::new();
        let mut left = usize::try_from(end - start).unwrap_or(usize::MAX);
        for mut part in self.parts(start, end).await? {
            while !part.is_empty() {
                if piece.is_empty() {
                    piece.reserve_exact(len.min(left));
                }
                let now = part.split_to(part.len().min(len - piece.len()));
                piece.extend_from_slice(&now);
                left = left.saturating_sub(now.len());
                if piece.len() == len || left == 0 {
                    pieces.push(std::mem::take(&mut piece).into());
                }
            }
        }
        Ok(pieces)
    }

    /// The bytes `start..end`, in parts of what is kept or was fetched for them.
    async fn parts(&self, start: u64, end: u64) -> Result<Vec<Bytes>> {
        let through = self.notice(start, end);
        let mut parts = Vec::new();
        let mut at = start;
        while at < end {
            let (number, stop) = (at / CHUNK, end.min((at / CHUNK + 1) * CHUNK));
            let chunk = match self.known(number, stop) {
                Some(chunk) => chunk,
                None if through => self.fetch(number).await?,
                None => {
                    let mut rest = BytesMut::new();
                    let len = usize::try_from(end - at).unwrap_or(0);
                    let take = |bytes: &[u8]| {
                        rest.reserve(len - rest.len().min(len));
                        rest.extend_from_slice(bytes);
                    };
                    self.object.get(at, end, take).await?;
                    parts.push(rest.freeze());
                    return Ok(parts);
                }
            };
            parts.push(self.outcome(chunk, at, stop).await?);
            at = stop;
        }
        Ok(parts)
    }

    /// The chunk `number`, if it was asked for, for who reads it up to `stop`.
    fn known(&self, number: u64, stop: u64) -> Option<watch::Receiver<Outcome>> {
        let end = ((number + 1) * CHUNK).min(self.object.size());
        self.ahead.chunks.lock().get((self.id, number), stop == end)
    }

    async fn outcome(&self, mut chunk: watch::Receiver<Outcome>, at: u64, stop: u64) -> Result<Bytes> {
        let failed = |kind, why: &str| refuse(kind, "read", &self.object.path, why);
        let lost = || failed(StoreErrorKind::Unavailable, "the request was given up");
        let outcome = chunk.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
        match outcome {
            Some(Ok(bytes)) => {
                part(&bytes, at, stop).ok_or_else(|| failed(StoreErrorKind::Io, "it is short"))
            }
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
            let place = streams.all.iter().position(|stream| start.abs_diff(stream.next) <= NEAR);
            let Some(place) = place else {
                streams.count += 1;
                let number = streams.count;
                streams.all.truncate(STREAMS - 1);
                streams.all.insert(0, Stream { number, next: end, depth: 0, chunk: start / CHUNK });
                return false;
            };
            let mut stream = streams.all.remove(place);
            let on = end > stream.next;
            stream.next = stream.next.max(end);
            let now = (stream.next - 1) / CHUNK;
            let moved = on && (stream.depth == 0 || now > stream.chunk);
            if moved {
                let share = self.ahead.chunks.lock().share((self.id, stream.number));
                stream.depth = (stream.depth * 2).max(1).min(share);
                stream.chunk = now;
            }
            let wanted = moved.then_some((now + 1, now + 1 + stream.depth));
            streams.all.insert(0, stream);
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

    /// Asks for a chunk, and does not wait for it.
    async fn fetch(&self, number: u64) -> Result<watch::Receiver<Outcome>> {
        let failed =
            || refuse(StoreErrorKind::Exhausted, "read", &self.object.path, "there are too many reads");
        let permit = self.ahead.under_way.clone().acquire_owned().await.map_err(|_| failed())?;
        // Another read may have asked for it meanwhile.
        let known = self.ahead.chunks.lock().get((self.id, number), false);
        Ok(match known {
            Some(chunk) => chunk,
            None => self.start(number, 1, permit).ok_or_else(failed)?,
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
                let start = number * CHUNK;
                let len = ((number + 1) * CHUNK).min(self.object.size()).saturating_sub(start);
                chunks.insert((self.id, number), len, chunk);
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
                    // All at once, and not before there is something to put there.
                    buffer.reserve(room);
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
fn part(chunk: &Bytes, start: u64, end: u64) -> Option<Bytes> {
    let first = start / CHUNK * CHUNK;
    let range = usize::try_from(start - first).ok()?..usize::try_from(end - first).ok()?;
    chunk.get(range.clone())?;
    Some(chunk.slice(range))
}

/// The parts as one, in memory of its own.
fn joined(parts: &[Bytes]) -> Bytes {
    let mut whole = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.into()
}
