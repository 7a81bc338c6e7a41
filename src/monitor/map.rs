//! Which blocks of a file are good, bad, or unknown.
//!
//! Pure: what was proven and what failed goes in, runs of blocks come out.

use std::ops::Range;

use serde::Serialize;

use super::failures::{File, Place};
use crate::event::Survey;

/// Runs that are told at most; the rest of a file that changes more often is told as unknown.
const RUNS: usize = 65_536;

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Proven when it was read last.
    Good,
    /// Nobody read it, or it is not remembered.
    Unknown,
    /// It failed when it was read last, or the tree does above it.
    Bad,
}

impl State {
    /// The word for people and programs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Bad => "bad",
        }
    }
}

/// Blocks of one state, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Run {
    /// The first one's index.
    pub(super) first: u64,
    /// How many.
    pub(super) count: u64,
    /// What they are.
    pub(super) state: State,
}

/// How many data blocks a file of `survey` has.
pub(super) fn blocks(survey: &Survey) -> u64 {
    survey.size.div_ceil(u64::from(survey.block_size.max(1)))
}

/// The data blocks that cannot be proven where the block at `place` fails.
fn below(place: Place, arity: u32, blocks: u64) -> Range<u64> {
    let (level, index) = place;
    let each = level.map_or(Some(1), |level| u64::from(arity).checked_pow(u32::from(level) + 1));
    let first = each.and_then(|each| index.checked_mul(each)).unwrap_or(blocks).min(blocks);
    let end = each.and_then(|each| first.checked_add(each)).unwrap_or(blocks).min(blocks);
    first..end
}

/// The file's blocks in runs, from the first block to the last.
pub(super) fn runs(survey: &Survey, file: Option<&File>) -> Vec<Run> {
    let all = blocks(survey);
    let is_known = file.is_some_and(|file| file.is_known(&survey.version));
    let places = file.into_iter().flat_map(|file| file.bad.keys());
    let mut bad: Vec<_> = places.map(|place| below(*place, survey.arity, all)).collect();
    bad.sort_unstable_by_key(|range| range.start);
    let good = if is_known { std::slice::from_ref(&(0..all)).to_vec() } else { survey.good.clone() };
    let mut runs = Vec::new();
    let mut push = |first: u64, end: u64, state: State| {
        if first >= end {
            return;
        }
        match runs.last_mut() {
            Some(Run { count, state: last, .. }) if *last == state => *count += end - first,
            Some(_) | None => runs.push(Run { first, count: end - first, state }),
        }
    };
    // Between the bad ones it is as the good ones have it.
    let mut good = good.into_iter().peekable();
    let mut fill = |from: u64, to: u64, push: &mut dyn FnMut(u64, u64, State)| {
        let mut at = from;
        while at < to {
            while good.next_if(|range| range.end <= at).is_some() {}
            let (start, end) = good.peek().map_or((to, to), |range| (range.start.min(to), range.end.min(to)));
            push(at, start, State::Unknown);
            push(start.max(at), end, State::Good);
            at = end.max(start).max(at + 1);
        }
    };
    let mut at = 0;
    for range in bad {
        fill(at, range.start, &mut push);
        push(range.start.max(at), range.end, State::Bad);
        at = at.max(range.end);
    }
    fill(at, all, &mut push);
    if runs.len() > RUNS {
        runs.truncate(RUNS - 1);
        let first = runs.last().map_or(0, |run| run.first + run.count);
        runs.push(Run { first, count: all - first, state: State::Unknown });
    }
    runs
}

/// How many blocks of each state there are: good, unknown, bad.
pub(super) fn counts(runs: &[Run]) -> [u64; 3] {
    [State::Good, State::Unknown, State::Bad]
        .map(|state| runs.iter().filter(|run| run.state == state).map(|run| run.count).sum())
}

/// At most `most` cells of as many blocks each, but for the last: a cell is what the worst of its blocks is.
pub(super) fn cells(runs: &[Run], most: u64) -> Vec<Run> {
    let all: u64 = runs.iter().map(|run| run.count).sum();
    let each = all.div_ceil(most.max(1)).max(1);
    let mut cells: Vec<Run> = Vec::new();
    for run in runs {
        let (mut at, end) = (run.first, run.first + run.count);
        while at < end {
            let (first, stop) = (at / each * each, (at / each + 1) * each);
            let to = stop.min(end);
            match cells.last_mut() {
                Some(cell) if cell.first == first => {
                    cell.count += to - at;
                    cell.state = cell.state.max(run.state);
                }
                Some(_) | None => cells.push(Run { first: at, count: to - at, state: run.state }),
            }
            at = to;
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Examined, FailedBlock, Refusal};
    use crate::monitor::failures::Failures;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn survey(blocks: u64, good: &[Range<u64>]) -> Survey {
        Survey { size: blocks * 4096, block_size: 4096, arity: 128, good: good.to_vec(), ..Survey::default() }
    }

    fn failing(places: &[Place]) -> Failures {
        let mut failures = Failures::default();
        for (level, block) in places {
            let (block, level) = (Some(*block), *level);
            let refusal = Refusal { block, level, ..Refusal::plain(b"a", Cause::BadBlock) };
            failures.add(&refusal, Timestamp::UNIX_EPOCH);
        }
        failures
    }

    fn told(runs: &[Run]) -> Vec<(u64, u64, &'static str)> {
        runs.iter().map(|run| (run.first, run.count, run.state.as_str())).collect()
    }

    #[test]
    fn bad_blocks_stand_among_good_and_unknown_ones() {
        let failures = failing(&[(None, 77)]);
        let runs = runs(&survey(256, &[64..77, 78..80, 100..300]), failures.of(b"a"));
        assert_eq!(
            told(&runs),
            [
                (0, 64, "unknown"),
                (64, 13, "good"),
                (77, 1, "bad"),
                (78, 2, "good"),
                (80, 20, "unknown"),
                (100, 156, "good"),
            ]
        );
        assert_eq!(counts(&runs), [171, 84, 1]);
    }

    #[test]
    fn below_a_bad_tree_block_nothing_can_be_proven() {
        let failures = failing(&[(Some(0), 1), (None, 130), (Some(1), 1)]);
        let runs = runs(&survey(20_000, &[0..9, 9..20_000]), failures.of(b"a"));
        assert_eq!(
            told(&runs),
            [(0, 128, "good"), (128, 128, "bad"), (256, 16_128, "good"), (16_384, 3616, "bad")]
        );
        for level in [200, 255] {
            let wide = failing(&[(Some(level), u64::MAX)]);
            assert_eq!(told(&super::runs(&survey(5, &[]), wide.of(b"a"))), [(0, 5, "unknown")]);
        }
    }

    #[test]
    fn after_a_check_nothing_is_unknown() {
        let mut failures = Failures::default();
        let (cause, detail) = (Cause::BadBlock, String::new());
        let failed = vec![FailedBlock { cause, block: 2, level: None, detail }];
        failures.check(b"a", Some(survey(4, &[]).version), Timestamp::UNIX_EPOCH);
        failures.checked(b"a", &Ok(Examined::Blocks { failed, count: 1 }), Timestamp::UNIX_EPOCH);
        let runs = runs(&survey(4, &[]), failures.of(b"a"));
        assert_eq!(told(&runs), [(0, 2, "good"), (2, 1, "bad"), (3, 1, "good")]);
        let another = Survey { version: [1; 32], ..survey(4, &[]) };
        let runs = super::runs(&another, failures.of(b"a"));
        assert_eq!(told(&runs), [(0, 2, "unknown"), (2, 1, "bad"), (3, 1, "unknown")]);
    }

    #[test]
    fn an_empty_file_has_no_blocks() {
        assert_eq!(runs(&survey(0, &[]), None), []);
        assert_eq!(cells(&[], 10), []);
    }

    #[test]
    fn cells_are_few_and_show_the_worst() {
        let failures = failing(&[(None, 1000)]);
        let runs = runs(&survey(100_001, &[0..9, 9..50_000]), failures.of(b"a"));
        let cells = cells(&runs, 1000);
        assert_eq!(cells.len(), 991);
        assert_eq!(cells.iter().map(|cell| cell.count).sum::<u64>(), 100_001);
        let bad: Vec<_> = cells.iter().filter(|cell| cell.state == State::Bad).collect();
        assert_eq!((bad.len(), bad[0].first, bad[0].count), (1, 909, 101));
    }

    proptest! {
        #[test]
        fn every_block_stands_in_one_run(
            blocks in 1_u64..2000,
            good in prop::collection::vec((0_u64..2000, 1_u64..300), 0..20),
            bad in prop::collection::vec((prop::option::of(0_u8..2), 0_u64..2000), 0..20),
            most in 1_u64..100,
        ) {
            let mut good: Vec<_> = good.into_iter().map(|(first, count)| first..first + count).collect();
            good.sort_by_key(|range| range.start);
            let mut apart: Vec<Range<u64>> = Vec::new();
            for range in good {
                if apart.last().is_none_or(|last| last.end < range.start) {
                    apart.push(range);
                }
            }
            let survey = Survey { arity: 8, ..survey(blocks, &apart) };
            let failures = failing(&bad);
            let runs = runs(&survey, failures.of(b"a"));
            let mut at = 0;
            for run in &runs {
                prop_assert_eq!(run.first, at);
                at += run.count;
            }
            prop_assert_eq!(at, blocks);
            prop_assert!(runs.windows(2).all(|pair| pair[0].state != pair[1].state));
            for block in 0..blocks {
                let is_bad = bad.iter().any(|(level, index)| match level {
                    None => *index == block,
                    Some(level) => block / 8_u64.pow(u32::from(*level) + 1) == *index,
                });
                let expected = match (is_bad, apart.iter().any(|range| range.contains(&block))) {
                    (true, _) => State::Bad,
                    (false, true) => State::Good,
                    (false, false) => State::Unknown,
                };
                let run = runs.iter().find(|run| (run.first..run.first + run.count).contains(&block));
                prop_assert_eq!(run.unwrap().state, expected, "block {}", block);
            }
            let cells = cells(&runs, most);
            prop_assert!(cells.len() as u64 <= most);
            prop_assert_eq!(cells.iter().map(|cell| cell.count).sum::<u64>(), blocks);
        }
    }
}
