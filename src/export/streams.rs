//! Who reads a file from front to back, as its READs tell, and what is to be read for them next.
//!
//! Clients send many READs at once, and they come in any order. So a stream is a run of the file that READs have
//! covered without a gap, each beginning where another ended: they may fill it in any order. READs here and there
//! make runs that never meet, and the oldest of those are forgotten.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::reading::EXTENT;

/// Runs of one file that are told apart. A client that has `n` READs under way makes `n / 2` of them at most.
const RUNS: usize = 32;
/// READs that make a run a stream.
const READS: u32 = 3;
/// After so many READs in a row which memory answered, streams are no longer followed.
const QUIET: u32 = 64;
/// The most bytes that are asked for at once, and that it takes to ask for more.
const STEP: u64 = 1024 * 1024;
/// A store that takes longer for what was asked for at once has too much to do already: within ten of these it is taken
/// for one that does not answer.
const LONG: Duration = Duration::from_secs(1);

/// The most often that a window is halved: of 8 MiB, two extents are left.
const HALVINGS: u64 = 6;

/// The streams of one file.
#[derive(Default)]
pub(super) struct Streams {
    /// How often the window is halved.
    halvings: AtomicU64,
    /// Whether something is read ahead, so that all READs matter: those that memory answers, too.
    are_followed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last used first.
    runs: VecDeque<Run>,
    quiet: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    from: u64,
    to: u64,
    reads: u32,
    /// How far to read ahead.
    window: u64,
    /// How far it was read ahead.
    ahead: u64,
}

/// How far is read ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The most bytes for one stream.
    pub(super) window: u64,
    /// The signed size.
    pub(super) size: u64,
}

impl Streams {
    /// Whether [`Streams::note`] is to hear of READs that did not have to wait.
    pub(super) fn are_followed(&self) -> bool {
        self.are_followed.load(Ordering::Relaxed)
    }

    /// Takes note of how long the store took for what it was asked for ahead: windows shrink while that is long.
    pub(super) fn took(&self, time: Duration) {
        // Of two at the same time one may be lost.
        let before = self.halvings.load(Ordering::Relaxed);
        let now = match time {
            time if time > LONG => (before + 1).min(HALVINGS),
            time if time < LONG / 4 => before.saturating_sub(1),
            _ => before,
        };
        self.halvings.store(now, Ordering::Relaxed);
    }

    /// Takes note of a READ that was answered in full, and whether memory did `not` have all of it. What is to be
    /// read ahead now.
    pub(super) fn note(&self, read: Range<u64>, asked: bool, bounds: Bounds) -> Option<Range<u64>> {
        let window = (bounds.window >> self.halvings.load(Ordering::Relaxed)).max(EXTENT);
        let bounds = Bounds { window, ..bounds };
        let mut state = self.state.lock();
        state.quiet = if asked { 0 } else { state.quiet.saturating_add(1) };
        if state.quiet > QUIET {
            self.are_followed.store(false, Ordering::Relaxed);
            state.runs.clear();
            return None;
        }
        let wanted = state.run(&read)?.further(read.end - read.start, bounds);
        if wanted.is_some() {
            self.are_followed.store(true, Ordering::Relaxed);
        }
        wanted
    }
}

impl State {
    /// The run that `read` makes longer towards the end of the file, if it does.
    fn run(&mut self, read: &Range<u64>) -> Option<&mut Run> {
        let mut run = Run { from: read.start, to: read.end, reads: 1, window: 0, ahead: 0 };
        let mut goes_on = false;
        self.runs.retain(|other| {
            let (below, above) = (other.to == read.start, other.from == read.end);
            if below || above {
                goes_on |= below;
                run.from = run.from.min(other.from);
                run.to = run.to.max(other.to);
                run.reads = run.reads.saturating_add(other.reads);
                run.window = run.window.max(other.window);
                run.ahead = run.ahead.max(other.ahead);
            }
            !below && !above
        });
        self.runs.truncate(RUNS - 1);
        self.runs.push_front(run);
        self.runs.front_mut().filter(|run| goes_on && run.reads >= READS)
    }
}

impl Run {
    /// What is to be read for it next; nothing while that is not worth a request. `len` is what it was read in.
    fn further(&mut self, len: u64, bounds: Bounds) -> Option<Range<u64>> {
        self.window = self.window.saturating_mul(2).max(len).min(bounds.window);
        let start = self.ahead.max(self.to).next_multiple_of(EXTENT);
        let end = match self.to.saturating_add(self.window) {
            end if end >= bounds.size => bounds.size,
            end => end / EXTENT * EXTENT,
        };
        let worth = (self.window / 4).clamp(EXTENT, STEP);
        if start >= end || (end - start < worth && end < bounds.size) {
            return None;
        }
        self.ahead = end;
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const BOUNDS: Bounds = Bounds { window: 8 * MIB, size: 1 << 40 };

    fn note(streams: &Streams, from: u64, len: u64) -> Option<Range<u64>> {
        streams.note(from..from + len, true, BOUNDS)
    }

    #[test]
    fn what_goes_on_is_read_ahead_of_in_a_window_that_grows() {
        let streams = Streams::default();
        let asked: Vec<_> = (0..8).filter_map(|n| note(&streams, n * MIB, MIB)).collect();
        let mib = |range: &Range<u64>| range.start / MIB..range.end / MIB;
        assert_eq!(asked.iter().map(mib).collect::<Vec<_>>(), [3..4, 4..6, 6..9, 9..14, 14..15, 15..16]);
        assert!(streams.are_followed());
    }

    #[test]
    fn a_store_that_takes_long_is_asked_for_less_until_it_does_not() {
        let streams = Streams::default();
        let mut place = 0;
        let mut ahead = || {
            let mut furthest = 0;
            for _ in 0..64 {
                place += MIB;
                let asked = note(&streams, place - MIB, MIB);
                furthest = furthest.max(asked.map_or(0, |range| range.end - place));
            }
            furthest
        };
        assert_eq!(ahead(), 8 * MIB);
        for _ in 0..100 {
            streams.took(LONG * 2);
        }
        assert_eq!(ahead(), 2 * EXTENT);
        streams.took(LONG / 2);
        assert_eq!(ahead(), 2 * EXTENT);
        for _ in 0..HALVINGS {
            streams.took(LONG / 8);
        }
        assert_eq!(ahead(), 8 * MIB);
    }

    #[test]
    fn one_or_two_reads_are_no_stream() {
        let streams = Streams::default();
        for place in [0, 1 << 30, 2 << 30] {
            assert_eq!(note(&streams, place, MIB), None);
            assert_eq!(note(&streams, place + MIB, MIB), None);
        }
        assert!(!streams.are_followed());
    }

    #[test]
    fn nothing_is_read_ahead_of_backwards_or_strided_reads_or_the_same_again() {
        let streams = Streams::default();
        for n in (0..1000).rev() {
            assert_eq!(note(&streams, n * MIB, MIB), None, "backwards, {n}");
        }
        let streams = Streams::default();
        for n in 0..1000 {
            assert_eq!(note(&streams, n * 2 * MIB, MIB), None, "strided, {n}");
        }
        let streams = Streams::default();
        for n in 0..1000 {
            assert_eq!(note(&streams, 5 * MIB, MIB), None, "again, {n}");
        }
    }

    #[test]
    fn small_reads_are_asked_for_in_extents() {
        let streams = Streams::default();
        let asked: Vec<_> = (0..4096).filter_map(|n| note(&streams, n * 4096, 4096)).collect();
        assert!(asked.iter().all(|range| range.start % EXTENT == 0 && range.end % EXTENT == 0));
        assert!(asked.is_sorted_by(|one, next| one.end == next.start));
        assert!((8..64).contains(&asked.len()), "{asked:?}");
        assert!(asked.last().unwrap().end > 16 * MIB);
    }

    #[test]
    fn a_file_that_is_read_again_is_read_ahead_of_again() {
        let streams = Streams::default();
        let bounds = Bounds { size: 64 * MIB, ..BOUNDS };
        for pass in 0..3 {
            let mut reached = 0;
            for n in 0..64 {
                if let Some(range) = streams.note(n * MIB..(n + 1) * MIB, true, bounds) {
                    assert!(range.start >= (n + 1) * MIB && range.end <= bounds.size);
                    reached = range.end;
                }
            }
            assert_eq!(reached, bounds.size, "{pass}");
        }
    }

    #[test]
    fn reads_that_memory_answers_keep_a_stream_for_a_while_and_end_it_then() {
        let streams = Streams::default();
        let read = |n: u64, asked| streams.note(n * MIB..(n + 1) * MIB, asked, BOUNDS);
        assert_eq!((0..3).filter_map(|n| read(n, true)).count(), 1);
        assert!(streams.are_followed());
        let quiet = u64::from(QUIET);
        assert!((3..3 + quiet).all(|n| read(n, false).is_some()));
        assert_eq!(read(3 + quiet, false), None);
        assert!(!streams.are_followed());
    }

    /// The READs of `streams` clients, each of which has up to `depth` under way: they are answered in any order.
    fn reordered(streams: u64, depth: usize, reads: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec(any::<u32>(), usize::try_from(streams * reads).unwrap()).prop_map(move |dice| {
            let mut rest: Vec<VecDeque<u64>> = (0..streams).map(|_| (0..reads).collect()).collect();
            let mut order = Vec::new();
            for die in dice {
                let open = rest.iter().filter(|rest| !rest.is_empty()).count();
                let pick = die as usize % open;
                let (stream, left) =
                    rest.iter_mut().enumerate().filter(|(_, rest)| !rest.is_empty()).nth(pick).unwrap();
                let nth = (die >> 8) as usize % left.len().min(depth);
                order.push((stream as u64, left.remove(nth).unwrap()));
            }
            order
        })
    }

    proptest! {
        #[test]
        fn streams_are_seen_whatever_the_order_within_a_window(order in reordered(2, 12, 64)) {
            let streams = Streams::default();
            let mut ahead = [0; 2];
            for (stream, n) in order {
                let base = stream << 32;
                if let Some(range) = note(&streams, base + n * MIB, MIB) {
                    prop_assert!(range.start > base + n * MIB && range.end - range.start <= BOUNDS.window);
                    let reached = &mut ahead[usize::try_from(stream).unwrap()];
                    *reached = range.end.max(*reached);
                }
            }
            for (stream, reached) in ahead.into_iter().enumerate() {
                let end = ((stream as u64) << 32) + 64 * MIB;
                prop_assert!(reached >= end, "{stream} {reached:x}");
            }
        }

        #[test]
        fn reads_here_and_there_are_not_read_ahead_of(places in prop::collection::vec(0..1u64 << 30, 1..500)) {
            let streams = Streams::default();
            for place in places {
                prop_assert_eq!(note(&streams, place, 4096), None);
            }
        }

        #[test]
        fn nothing_is_asked_for_that_was_read_or_lies_behind_the_end(
            reads in prop::collection::vec((0..64u64, 1..4u64), 1..300), size in 1..64 * EXTENT,
        ) {
            let (streams, bounds) = (Streams::default(), Bounds { window: 8 * EXTENT, size });
            for (from, len) in reads {
                let read = from * EXTENT..((from + len) * EXTENT).min(size);
                if read.is_empty() {
                    continue;
                }
                let end = read.end;
                if let Some(range) = streams.note(read, true, bounds) {
                    prop_assert!(range.start < range.end && range.start >= end && range.end <= size);
                    prop_assert!(range.start % EXTENT == 0 && range.end - range.start <= bounds.window);
                }
            }
        }
    }
}
