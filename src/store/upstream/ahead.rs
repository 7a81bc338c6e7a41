//! Reading ahead: of a file that is read from front to back, the next pieces are on their way before they
//! are asked for. Several readers at different places of one file are told apart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Places of a file at which a read ended that the next may follow.
const CURSORS: usize = 16;
/// Pieces of one file that are kept or on their way.
const PIECES: usize = 8;
/// Pieces that are asked for behind the one that is read.
const DEPTH: u64 = 3;
/// Bytes of all files together, in units of [`UNIT`].
const MEMORY: usize = 64 * 1024 * 1024 / UNIT;
const UNIT: usize = 4096;

/// The memory that pieces of all files share.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY)))
    }
}

/// What is known of a piece.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Coming,
    Here(Bytes),
    /// The read failed: whoever wants it asks for itself and hears why.
    Failed,
}

struct Held {
    from: u64,
    to: u64,
    asked: Instant,
    piece: watch::Receiver<Piece>,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A piece to be read.
pub(super) struct Wanted {
    pub(super) from: u64,
    pub(super) len: u32,
    permit: OwnedSemaphorePermit,
}

/// What is read ahead of one file.
#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cursors: VecDeque<u64>,
    pieces: VecDeque<Held>,
}

impl Ahead {
    /// The piece that holds all of `from..to`, if there is one that `fresh` lets pass, and where it begins.
    pub(super) fn piece(
        &self,
        from: u64,
        to: u64,
        fresh: impl Fn(Instant) -> bool,
    ) -> Option<(u64, watch::Receiver<Piece>)> {
        let mut state = self.state.lock();
        state.pieces.retain(|held| fresh(held.asked) && !matches!(*held.piece.borrow(), Piece::Failed));
        let held = state.pieces.iter().find(|held| held.from <= from && to <= held.to)?;
        Some((held.from, held.piece.clone()))
    }

    /// Lets go of the piece that begins at `start`: all of it was read.
    pub(super) fn used(&self, start: u64) {
        self.state.lock().pieces.retain(|held| held.from != start);
    }

    /// Notes a read of `from..to`; true when it follows one that was there before.
    pub(super) fn note(&self, from: u64, to: u64) -> bool {
        let mut state = self.state.lock();
        let follows = match state.cursors.iter().position(|cursor| *cursor == from) {
            Some(at) => state.cursors.remove(at).is_some(),
            None => false,
        };
        if state.cursors.len() >= CURSORS {
            state.cursors.pop_front();
        }
        state.cursors.push_back(to);
        follows
    }

    /// Pieces of at most `step` bytes that a reader at `at` is going to want and that are not on their way,
    /// up to `size`; `read` begins to read each.
    pub(super) fn extend(
        &self,
        at: u64,
        step: u32,
        size: u64,
        budget: &Budget,
        read: impl Fn(Wanted, watch::Sender<Piece>) -> JoinHandle<()>,
    ) {
        let step_bytes = u64::from(step);
        let stop = (at / step_bytes).saturating_add(1 + DEPTH).saturating_mul(step_bytes).min(size);
        let mut state = self.state.lock();
        let mut from = at;
        while from < stop {
            if let Some(held) = state.pieces.iter().find(|held| held.from <= from && from < held.to) {
                from = held.to;
                continue;
            }
            let next = state.pieces.iter().map(|held| held.from).filter(|start| *start > from).min();
            let to = (from / step_bytes + 1).saturating_mul(step_bytes).min(stop).min(next.unwrap_or(stop));
            let len = u32::try_from(to - from).unwrap_or(step);
            let units = u32::try_from((len as usize).div_ceil(UNIT)).unwrap_or(u32::MAX);
            let Ok(permit) = budget.0.clone().try_acquire_many_owned(units) else { return };
            while state.pieces.len() >= PIECES {
                state.pieces.pop_front();
            }
            let (tell, piece) = watch::channel(Piece::Coming);
            let task = read(Wanted { from, len, permit }, tell);
            state.pieces.push_back(Held { from, to, asked: Instant::now(), piece, task });
            from = to;
        }
    }

    /// Forgets all pieces: the file has changed.
    pub(super) fn clear(&self) {
        self.state.lock().pieces.clear();
    }
}

impl Wanted {
    /// Tells what became of the piece and keeps it, and its memory counted, until nobody may ask for it any
    /// more: for `life` at most.
    pub(super) async fn keep(self, tell: watch::Sender<Piece>, read: Option<Bytes>, life: Duration) {
        if let Some(bytes) = read {
            tell.send_replace(Piece::Here(bytes));
            let _ = tokio::time::timeout(life, tell.closed()).await;
        }
        tell.send_replace(Piece::Failed);
        drop(self.permit);
    }
}

/// The bytes of a piece once they are here; `None` when it failed.
pub(super) async fn arrived(mut piece: watch::Receiver<Piece>) -> Option<Bytes> {
    match &*piece.wait_for(|piece| !matches!(piece, Piece::Coming)).await.ok()? {
        Piece::Here(bytes) => Some(bytes.clone()),
        Piece::Coming | Piece::Failed => None,
    }
}
