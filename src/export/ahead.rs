//! Reading ahead: what a stream is going to ask for next is fetched and proven before it asks.
//!
//! It begins with a READ that was allowed, was answered in full and had to wait: where data are in memory, nothing is
//! won. What is proven is kept for who asks, whatever the cache would keep, in room that the cache leaves free for it.
//! What fails is left alone: whoever asks for it finds out for itself, and hears of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Export;
use super::cache::{BlockCache, FileKey, Span};
use super::flights::{Claim, Flights};
use super::heal::Spares;
use super::permission::Caller;
use super::proof::Prover;
use super::read::OpenFile;
use super::reading::{EXTENT, EXTENT_LEN};
use super::streams::Bounds;
use super::verified::Verified;
use crate::store::{Identity, acting_as};

/// The part of the cache's memory that is left for what is read ahead, and the most that this is.
const SHARE: u64 = 8;
const ROOM_MAX: u64 = 64 * 1024 * 1024;
/// The most bytes that are read ahead for one stream.
const WINDOW_MAX: u64 = 8 * 1024 * 1024;
/// Streams for which there is room, at least.
const STREAMS: u64 = 4;
/// Extents that are asked for at once.
const PIECE: usize = 16;
/// Requests of one stream that are under way at once.
const AT_ONCE: usize = 8;
/// How often it is looked whether what nobody came for takes the room of others.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Room for what is read ahead, on its way or here, of all streams.
pub(super) struct Room {
    /// One for each extent.
    free: Arc<Semaphore>,
    bytes: u64,
    looked: Mutex<Option<Instant>>,
}

impl Room {
    /// What a cache of `cache` bytes leaves.
    pub(super) fn of(cache: u64) -> Self {
        let extents = (cache / SHARE).min(ROOM_MAX) / EXTENT;
        let free = Arc::new(Semaphore::new(usize::try_from(extents).unwrap_or(0)));
        Self { free, bytes: extents * EXTENT, looked: Mutex::new(None) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Room for one extent, if there is any, or if what has waited too long for its reader can go.
    fn take(&self, flights: &Flights) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = self.free.clone().try_acquire_owned() {
            return Some(room);
        }
        {
            let (mut looked, now) = (self.looked.lock(), Instant::now());
            if looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
                return None;
            }
            *looked = Some(now);
        }
        flights.forget_late();
        self.free.clone().try_acquire_owned().ok()
    }
}

/// Extents without a gap that are to be read together.
struct Piece {
    from: u64,
    to: u64,
    is_on_disk: bool,
    extents: Vec<(Claim, OwnedSemaphorePermit)>,
}

impl Export {
    /// Takes note of a READ that was answered in full, and has what follows it read, if it is one of a stream.
    /// `asked`: memory did not have all of it.
    pub(super) fn look_ahead(&self, file: &Arc<OpenFile>, read: Range<u64>, asked: bool, caller: &Caller) {
        let (Ok(proven), Some(tree)) = (&file.verdict.outcome, &file.tree) else { return };
        let (size, window) = (proven.descriptor.size, (self.room.bytes / STREAMS).min(WINDOW_MAX));
        let Some(wanted) = file.streams.note(read, asked, Bounds { window, size }) else { return };
        let pieces = self.claim_ahead(tree.cache_key, wanted);
        if pieces.is_empty() {
            return;
        }
        let acting = self.identity.acting(caller);
        let (cache, flights) = (self.cache.clone(), self.flights.clone());
        let ahead = Ahead { file: file.clone(), cache, flights, acting };
        tokio::spawn(ahead.run(pieces));
    }

    /// Claims what nobody has of `wanted`, as far as there is room.
    fn claim_ahead(&self, file: FileKey, wanted: Range<u64>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for extent in wanted.start / EXTENT..wanted.end.div_ceil(EXTENT) {
            let Some(claim) = self.flights.claim(file, extent) else { continue };
            let span = Span::Extent(extent);
            if self.cache.is_in_memory(file, span) {
                continue;
            }
            let Some(room) = self.room.take(&self.flights) else { break };
            let (from, to) = (extent * EXTENT, ((extent + 1) * EXTENT).min(wanted.end));
            let is_on_disk = self.cache.is_on_disk(file, span);
            match pieces.last_mut() {
                Some(piece)
                    if piece.to == from && piece.is_on_disk == is_on_disk && piece.extents.len() < PIECE =>
                {
                    piece.to = to;
                    piece.extents.push((claim, room));
                }
                _ => pieces.push(Piece { from, to, is_on_disk, extents: vec![(claim, room)] }),
            }
        }
        pieces
    }
}

/// What is read ahead of one stream.
struct Ahead {
    file: Arc<OpenFile>,
    cache: Arc<BlockCache>,
    flights: Arc<Flights>,
    /// Whose READ it was.
    acting: Identity,
}

impl Ahead {
    async fn run(self, pieces: Vec<Piece>) {
        stream::iter(pieces).for_each_concurrent(AT_ONCE, |piece| self.prove(piece)).await;
    }

    async fn prove(&self, piece: Piece) {
        let (Ok(proven), Some(tree)) = (&self.file.verdict.outcome, &self.file.tree) else { return };
        let Piece { from, to, is_on_disk, extents } = piece;
        // Without replicas: nothing is healed or told that nobody asked for.
        let mut prover = Prover::new(proven, tree, &self.cache, None).among(&self.flights);
        let mut given = if is_on_disk { Vec::new() } else { self.fetch(from, to).await }.into_iter();
        for (start, (claim, room)) in (from..to).step_by(EXTENT_LEN).zip(extents) {
            let (file, span) = (tree.cache_key, Span::Extent(start / EXTENT));
            let len = usize::try_from((to - start).min(EXTENT)).unwrap_or(0);
            let data = match is_on_disk {
                true => self.cache.on_disk(file, span, len).await,
                false => given.next().filter(|data| data.len() == len),
            };
            let first = start / prover.block_size() as u64;
            let checked = match &data {
                Some(data) => prover.check(first, data).await.is_ok(),
                None => false,
            };
            let Some(data) = data.filter(|_| checked) else {
                claim.failed();
                continue;
            };
            let bytes = Verified::proven(data);
            if !is_on_disk {
                self.cache.insert_on_disk(file, span, &bytes);
            }
            if !claim.keep(bytes.clone(), room) {
                self.cache.insert_again(file, span, bytes);
            }
            // Clients come first.
            tokio::task::yield_now().await;
        }
    }

    /// What the store has of `from..to`, in extents; none where it fails.
    async fn fetch(&self, from: u64, to: u64) -> Vec<Bytes> {
        let lead = self.file.spares.as_ref().and_then(|spares| Spares::lead(spares).1);
        let file = lead.unwrap_or_else(|| self.file.file.clone());
        let len = usize::try_from(to - from).unwrap_or(0);
        let asked = Instant::now();
        let given = acting_as(self.acting.clone(), file.read_pieces(from, len, EXTENT_LEN)).await;
        self.file.streams.took(asked.elapsed());
        given.unwrap_or_default()
    }
}
