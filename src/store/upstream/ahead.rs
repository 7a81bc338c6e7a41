//! Reading ahead: of a file that is read from front to back, the next pieces are on their way before they
//! are asked for. Several readers at different places of one file are told apart.
//!
//! A piece begins where the reader's next read does, so that steps of the reader and of the server that are
//! equal meet. What is on its way stays until it is here, however slow the server is. Nothing here tells
//! whether a file has changed: who notices clears all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// Places of a file at which a read ended that the next may follow.
const CURSORS: usize = 16;
/// Pieces that are asked for behind the read; more where it is longer than they are.
const DEPTH: u64 = 3;
/// The most bytes that are asked for behind the read.
const WINDOW_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of one file.
const FILE_MEMORY: u64 = 32 * 1024 * 1024;
/// Bytes of all files together, in units of [`UNIT`].
const MEMORY: usize = 64 * 1024 * 1024 / UNIT;
const UNIT: usize = 4096;
/// How long a piece waits for its reader, which may have turned away.
const LIFE: Duration = Duration::from_secs(10);

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
    to: u64,
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
    pub(super) to: u64,
    permit: OwnedSemaphorePermit,
}

/// A range of what is read, of at most one piece.
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Where the piece begins that has it, if one has, and the piece.
    pub(super) held: Option<(u64, watch::Receiver<Piece>)>,
}

/// What is read ahead of one file.
#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cursors: VecDeque<u64>,
    /// By where they begin; none overlaps another.
    pieces: BTreeMap<u64, Held>,
}

impl State {
    fn prune(&mut self) {
        self.pieces.retain(|_, held| !matches!(*held.piece.borrow(), Piece::Failed));
    }

    /// The piece that has the byte at `at`, and where it begins.
    fn around(&self, at: u64) -> Option<(u64, &Held)> {
        let (from, held) = self.pieces.range(..=at).next_back()?;
        (at < held.to).then_some((*from, held))
    }

    /// Where the next piece behind `at` begins.
    fn next(&self, at: u64) -> u64 {
        self.pieces.range(at..).next().map_or(u64::MAX, |(from, _)| *from)
    }
}

impl Ahead {
    /// Whether pieces have something of `from..to`.
    pub(super) fn has(&self, from: u64, to: u64) -> bool {
        let state = self.state.lock();
        state.around(from).is_some() || state.next(from) < to
    }

    /// All of `from..to` in order; what no piece has, in parts of at most `step` bytes.
    pub(super) fn parts(&self, from: u64, to: u64, step: u64) -> Vec<Part> {
        let mut state = self.state.lock();
        state.prune();
        let (mut at, mut parts) = (from, Vec::new());
        while at < to {
            let (stop, held) = match state.around(at) {
                Some((start, held)) => (held.to, Some((start, held.piece.clone()))),
                None => (at.saturating_add(step.max(1)).min(state.next(at)), None),
            };
            let stop = stop.min(to);
            parts.push(Part { from: at, to: stop, held });
            at = stop;
        }
        parts
    }

    /// The piece that has all of `from..to` and is here, and where it begins.
    pub(super) fn here(&self, from: u64, to: u64) -> Option<(u64, Bytes)> {
        let state = self.state.lock();
        let (start, held) = state.around(from).filter(|(_, held)| to <= held.to)?;
        match &*held.piece.borrow() {
            Piece::Here(bytes) => Some((start, bytes.clone())),
            Piece::Coming | Piece::Failed => None,
        }
    }

    /// Lets go of the pieces whose end was reached by a read of `from..to`.
    pub(super) fn used(&self, from: u64, to: u64) {
        self.state.lock().pieces.retain(|_, held| held.to <= from || to < held.to);
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

    /// Has pieces of at most `step` bytes read that a reader of `from..to` wants and is going to want, up to
    /// `size`, as far as there is memory; `read` begins to read each.
    pub(super) fn extend(
        &self,
        from: u64,
        to: u64,
        step: u64,
        size: u64,
        budget: &Budget,
        read: impl Fn(Wanted, watch::Sender<Piece>) -> JoinHandle<()>,
    ) {
        let window = step.saturating_mul(DEPTH).max(to.saturating_sub(from)).min(WINDOW_MAX);
        let stop = to.saturating_add(window).min(size);
        let mut state = self.state.lock();
        state.prune();
        let mut held: u64 = state.pieces.iter().map(|(from, held)| held.to - from).sum();
        let mut at = from;
        while at < stop {
            if let Some((_, held)) = state.around(at) {
                at = held.to;
                continue;
            }
            let to = at.saturating_add(step.max(1)).min(size).min(state.next(at));
            held = held.saturating_add(to - at);
            let units = u32::try_from((to - at).div_ceil(UNIT as u64)).unwrap_or(u32::MAX);
            // What is there is left alone: its reader is more likely to come than this one's is to go on.
            if held > FILE_MEMORY {
                return;
            }
            let Ok(permit) = budget.0.clone().try_acquire_many_owned(units) else { return };
            let (tell, piece) = watch::channel(Piece::Coming);
            let task = read(Wanted { from: at, to, permit }, tell);
            state.pieces.insert(at, Held { to, piece, task });
            at = to;
        }
    }

    /// Forgets all pieces: the file has changed.
    pub(super) fn clear(&self) {
        self.state.lock().pieces.clear();
    }
}

impl Wanted {
    /// Tells what became of the piece and keeps it, and its memory counted, until nobody may ask for it any
    /// more: for [`LIFE`] at most.
    pub(super) async fn keep(self, tell: watch::Sender<Piece>, read: Option<Bytes>) {
        if let Some(bytes) = read {
            tell.send_replace(Piece::Here(bytes));
            let _ = tokio::time::timeout(LIFE, tell.closed()).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 1 << 20;

    /// Extends as for a read of `from..to`; what `begun` gets asked for arrives after `late`.
    fn extend(ahead: &Ahead, budget: &Budget, from: u64, to: u64, late: Duration) -> u64 {
        let begun = std::cell::Cell::new(0);
        ahead.extend(from, to, STEP, 1 << 40, budget, |wanted, tell| {
            begun.set(begun.get() + wanted.to - wanted.from);
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let bytes = Bytes::from(vec![0; usize::try_from(wanted.to - wanted.from).unwrap()]);
                wanted.keep(tell, Some(bytes)).await;
            })
        });
        begun.get()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_is_asked_for_once_and_what_nobody_takes_goes() {
        let (ahead, budget) = (Ahead::default(), Budget::default());
        let free = budget.0.available_permits();
        assert_eq!(extend(&ahead, &budget, 5, 5 + STEP, Duration::from_secs(100)), 4 * STEP);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(extend(&ahead, &budget, 5, 5 + STEP, Duration::ZERO), 0, "it is still coming");
        let parts = ahead.parts(5, 5 + STEP, STEP);
        let [Part { held: Some((5, piece)), .. }] = &parts[..] else { panic!("{}", parts.len()) };
        assert_eq!(arrived(piece.clone()).await.unwrap().len() as u64, STEP);
        drop(parts);
        assert!(ahead.here(6, STEP).is_some());
        tokio::time::sleep(LIFE + Duration::from_secs(1)).await;
        assert!(ahead.here(6, STEP).is_none());
        assert_eq!(budget.0.available_permits(), free);
        assert!(ahead.parts(5, 5 + STEP, STEP)[0].held.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_ends_without_taking_pieces_from_others() {
        let (ahead, budget) = (Ahead::default(), Budget::default());
        let places: Vec<u64> = (0..16).map(|n| n << 30).collect();
        let begun: Vec<u64> =
            places.iter().map(|at| extend(&ahead, &budget, *at, at + STEP, Duration::ZERO)).collect();
        assert_eq!(begun.iter().sum::<u64>(), FILE_MEMORY);
        tokio::time::sleep(Duration::from_millis(1)).await;
        for (at, begun) in places.iter().zip(begun) {
            let all = (0..begun / STEP).all(|n| ahead.here(at + n * STEP, at + (n + 1) * STEP).is_some());
            assert!(all, "{at}");
        }
        for at in places {
            ahead.used(at, at + 4 * STEP);
        }
        assert!(!ahead.has(0, u64::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_put_together_from_pieces_and_what_lies_between() {
        let (ahead, budget) = (Ahead::default(), Budget::default());
        extend(&ahead, &budget, STEP / 2, STEP, Duration::ZERO);
        extend(&ahead, &budget, 8 * STEP, 9 * STEP, Duration::ZERO);
        let parts = ahead.parts(0, 9 * STEP, STEP);
        let mut at = 0;
        for part in &parts {
            assert_eq!(part.from, at);
            assert!(part.to > at && part.to - at <= STEP);
            assert_eq!(part.held.is_some(), (STEP / 2..4 * STEP + STEP / 2).contains(&at) || at >= 8 * STEP);
            at = part.to;
        }
        assert_eq!(at, 9 * STEP);
        ahead.used(STEP, 2 * STEP);
        assert!(ahead.parts(STEP / 2, STEP, STEP)[0].held.is_none());
        assert!(ahead.parts(2 * STEP, 3 * STEP, STEP)[0].held.is_some());
        ahead.clear();
        assert!(!ahead.has(0, u64::MAX));
    }
}
