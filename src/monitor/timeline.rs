//! What was served and what failed, minute by minute.
//!
//! Pure: counters go in from time to time, and what was added since the last time belongs to the minute that it is
//! noted in.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

/// Minutes that are kept: a day.
pub(super) const MINUTES: usize = 24 * 60;

/// One minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Minute {
    /// Where it begins.
    pub(super) time: Timestamp,
    /// Payload bytes that READ returned.
    pub(super) read_bytes: u64,
    /// Blocks proven.
    pub(super) verified_blocks: u64,
    /// Files and blocks that failed verification.
    pub(super) refused: u64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) read_bytes: u64,
    pub(super) verified_blocks: u64,
    pub(super) refused: u64,
}

/// The last minutes in which something happened.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    minutes: VecDeque<Minute>,
    noted: Counts,
}

impl Timeline {
    /// Takes note of the counters at `now`.
    pub(super) fn note(&mut self, counts: Counts, now: Timestamp) {
        let before = std::mem::replace(&mut self.noted, counts);
        if counts == before {
            return;
        }
        let time = minute(now);
        // Where the clock was set back the last minute goes on.
        if self.minutes.back().is_none_or(|last| last.time < time) {
            self.minutes.push_back(Minute { time, ..Minute::default() });
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
        if let Some(last) = self.minutes.back_mut() {
            last.read_bytes += counts.read_bytes.saturating_sub(before.read_bytes);
            last.verified_blocks += counts.verified_blocks.saturating_sub(before.verified_blocks);
            last.refused += counts.refused.saturating_sub(before.refused);
        }
    }

    /// The last `count` minutes up to that of `now`, oldest first; those without anything too.
    pub(super) fn last(&self, count: usize, now: Timestamp) -> Vec<Minute> {
        let end = minute(now).as_second();
        let count = count.min(MINUTES);
        let mut known = self.minutes.iter().peekable();
        let times = (0..count).rev().map(|back| end - 60 * i64::try_from(back).unwrap_or(0));
        times
            .filter_map(|second| Timestamp::from_second(second).ok())
            .map(|time| {
                while known.next_if(|minute| minute.time < time).is_some() {}
                let found = known.next_if(|minute| minute.time == time);
                found.copied().unwrap_or(Minute { time, ..Minute::default() })
            })
            .collect()
    }
}

fn minute(time: Timestamp) -> Timestamp {
    let second = time.as_second();
    Timestamp::from_second(second - second.rem_euclid(60)).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_040 + second).unwrap()
    }

    fn counts(read_bytes: u64, refused: u64) -> Counts {
        Counts { read_bytes, verified_blocks: read_bytes / 10, refused }
    }

    #[test]
    fn what_was_added_belongs_to_its_minute() {
        let mut timeline = Timeline::default();
        for (bytes, refused, second) in [(100, 0, 0), (150, 1, 59), (150, 1, 70), (350, 1, 125)] {
            timeline.note(counts(bytes, refused), at(second));
        }
        let minutes = timeline.last(4, at(130));
        let told: Vec<_> = minutes.iter().map(|m| (m.read_bytes, m.verified_blocks, m.refused)).collect();
        assert_eq!(told, [(0, 0, 0), (150, 15, 1), (0, 0, 0), (200, 20, 0)]);
        assert_eq!(minutes[3].time, at(120));
        assert_eq!(timeline.last(2, at(300)).iter().map(|m| m.read_bytes).sum::<u64>(), 0);
    }

    #[test]
    fn a_day_is_kept_and_a_clock_that_goes_back_loses_nothing() {
        let mut timeline = Timeline::default();
        for n in 0..3000_u32 {
            timeline.note(counts(u64::from(n) + 1, 0), at(i64::from(n) * 60));
        }
        assert_eq!(timeline.minutes.len(), MINUTES);
        timeline.note(counts(4000, 0), at(0));
        assert_eq!(timeline.last(usize::MAX, at(2999 * 60)).iter().map(|m| m.read_bytes).sum::<u64>(), 2440);
    }
}
