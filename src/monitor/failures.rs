//! What failed last: refusal by refusal, and block by block of each file.
//!
//! Bounded whatever fails: the files that failed longest ago give way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use super::fact::Refused;
use super::text::clip;
use crate::event::{Cause, CauseClass, Examined, FailedBlock, Refusal};

/// Refusals that are kept.
const KEPT: usize = 50;
/// Files whose failing blocks are kept.
const FILES: usize = 256;
/// Failing blocks of all files that are kept.
const BLOCKS: usize = 16 * 1024;
/// Of one file.
const BLOCKS_OF_FILE: usize = 1024;
/// The most characters of a detail that are kept.
const DETAIL: usize = 200;

/// One refusal, or the same one many times.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    /// The last one.
    #[serde(flatten)]
    pub(super) refused: Refused,
    /// How often.
    pub(super) times: u64,
    /// When last.
    pub(super) last: Timestamp,
    /// The path's bytes.
    #[serde(skip)]
    pub(super) path: Box<[u8]>,
}

/// Where a block stands: its tree level, `None` for data, and its index within that.
pub(super) type Place = (Option<u8>, u64);

/// A block that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) cause: Cause,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
    pub(super) detail: String,
    pub(super) times: u64,
    pub(super) last: Timestamp,
}

/// How reading all of a file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is under way.
    Running,
    /// So many blocks fail.
    Blocks(u64),
    /// The file as a whole is not accepted, or cannot be read.
    Refused(String),
}

/// What is known of a file that failed, or was checked.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// Blocks that failed, by place.
    pub(super) bad: BTreeMap<Place, Bad>,
    /// Blocks that failed and found no room.
    pub(super) more: u64,
    /// When all of it was read last, and how that ended.
    pub(super) checked: Option<(Timestamp, Checked)>,
    /// The file digest of the version that was read.
    version: Option<[u8; 32]>,
    last: Timestamp,
}

impl File {
    /// Whether every block of this version is known: all but those in `bad` were proven when it was checked.
    pub(super) fn is_known(&self, version: &[u8; 32]) -> bool {
        let is_checked = matches!(self.checked, Some((_, Checked::Blocks(_))));
        is_checked && self.more == 0 && self.version.as_ref() == Some(version)
    }
}

/// The last refusals, newest first, where one that repeats stands once.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    pub(super) entries: VecDeque<Entry>,
    /// When a file's content, and when a rule, last made a refusal.
    last: [Option<Timestamp>; 2],
}

impl Recent {
    fn add(&mut self, refusal: &Refusal<'_>, refused: Refused, now: Timestamp) {
        if let Some(last) = self.last.get_mut(usize::from(refusal.cause.class() == CauseClass::Denied)) {
            *last = Some(now);
        }
        let same = |e: &Entry| {
            *e.path == *refusal.path
                && (e.refused.cause, e.refused.block, e.refused.level)
                    == (refused.cause, refused.block, refused.level)
        };
        let place = self.entries.iter().position(same);
        let times = place.and_then(|place| self.entries.remove(place)).map_or(1, |old| old.times + 1);
        self.entries.push_front(Entry { refused, times, last: now, path: Box::from(refusal.path) });
        self.entries.truncate(KEPT);
    }

    /// When a file was last refused for a cause of `class`.
    pub(super) fn last(&self, class: CauseClass) -> Option<Timestamp> {
        *self.last.get(usize::from(class == CauseClass::Denied))?
    }
}

/// The last refusals, and the files that failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) recent: Recent,
    files: HashMap<Box<[u8]>, File>,
}

impl Failures {
    /// Takes note of `refusal`.
    pub(super) fn add(&mut self, refusal: &Refusal<'_>, now: Timestamp) {
        // What the kernel would write of it may be long, and is in the audit log.
        let refused = Refused { record: None, ..Refused::from(refusal) };
        if let Some(block) = refusal.block {
            let bad = Bad {
                cause: refusal.cause,
                expected: refused.expected.clone(),
                found: refused.found.clone(),
                detail: clip(&refused.detail, DETAIL),
                times: 1,
                last: now,
            };
            self.note(refusal.path, (refusal.level, block), bad);
        }
        self.recent.add(refusal, refused, now);
    }

    /// Takes note that all of a file, in this version, is read from `now` on; false when one is already.
    pub(super) fn check(&mut self, path: &[u8], version: Option<[u8; 32]>, now: Timestamp) -> bool {
        let file = self.file(path, now);
        if matches!(file.checked, Some((_, Checked::Running))) {
            return false;
        }
        (file.checked, file.version) = (Some((now, Checked::Running)), version);
        true
    }

    /// Takes note of how that ended: what was known of the file's blocks is known anew.
    pub(super) fn checked(&mut self, path: &[u8], examined: &Result<Examined, String>, now: Timestamp) {
        let file = self.file(path, now);
        let (failed, checked) = match examined {
            Ok(Examined::Blocks { failed, count }) => (failed.as_slice(), Checked::Blocks(*count)),
            Ok(Examined::Refused { cause, detail }) => {
                (&[][..], Checked::Refused(clip(&format!("{cause}: {detail}"), DETAIL)))
            }
            Err(error) => {
                file.checked = Some((now, Checked::Refused(clip(error, DETAIL))));
                return;
            }
        };
        file.checked = Some((now, checked));
        file.bad.clear();
        file.more = 0;
        for FailedBlock { cause, block, level, detail } in failed {
            let (cause, detail) = (*cause, clip(detail, DETAIL));
            let bad = Bad { cause, expected: None, found: None, detail, times: 1, last: now };
            self.note(path, (*level, *block), bad);
        }
        if let (Ok(Examined::Blocks { count, .. }), Some(file)) = (examined, self.files.get_mut(path)) {
            file.more = count.saturating_sub(file.bad.len() as u64);
        }
    }

    /// A file was put right: what was known of its blocks holds no more.
    pub(super) fn repaired(&mut self, path: &[u8]) {
        self.files.remove(path);
    }

    fn note(&mut self, path: &[u8], place: Place, bad: Bad) {
        let file = self.file(path, bad.last);
        let known = file.bad.len();
        match file.bad.get_mut(&place) {
            Some(known) => *known = Bad { times: known.times + 1, ..bad },
            None if known >= BLOCKS_OF_FILE => file.more += 1,
            None => {
                file.bad.insert(place, bad);
                let mut blocks: usize = self.files.values().map(|file| file.bad.len()).sum();
                while blocks > BLOCKS && self.files.len() > 1 {
                    blocks -= self.forget_oldest();
                }
            }
        }
    }

    fn file(&mut self, path: &[u8], now: Timestamp) -> &mut File {
        if !self.files.contains_key(path) && self.files.len() >= FILES {
            self.forget_oldest();
        }
        let file = self.files.entry(Box::from(path)).or_default();
        file.last = now;
        file
    }

    /// Gives the number of blocks that are forgotten with it.
    fn forget_oldest(&mut self) -> usize {
        let oldest = self.files.iter().min_by_key(|(_, file)| file.last).map(|(path, _)| path.clone());
        oldest.and_then(|path| self.files.remove(&path)).map_or(0, |file| file.bad.len())
    }

    /// What is known of the file at `path`, if it failed or was checked.
    pub(super) fn of(&self, path: &[u8]) -> Option<&File> {
        self.files.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: [u8; 32] = [9; 32];

    fn refusal(path: &[u8], block: Option<u64>) -> Refusal<'_> {
        let (expected, found) = (Some(&[1; 32][..]), Some(&[2; 100][..]));
        Refusal { block, expected, found, ..Refusal::plain(path, Cause::BadBlock) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_newest_stand_first_and_repetitions_once() {
        let mut failures = Failures::default();
        for n in (0..100_u64).chain([95, 95]) {
            failures.add(&refusal(n.to_string().as_bytes(), None), at(0));
        }
        let entries: Vec<_> = failures.recent.entries.iter().map(|e| (e.path.to_vec(), e.times)).collect();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries[0], (b"95".to_vec(), 3));
        assert_eq!(entries[1], (b"99".to_vec(), 1));
        assert_eq!(entries[KEPT - 1], (b"50".to_vec(), 1));
        assert!(failures.of(b"95").is_none(), "no block failed");
    }

    #[test]
    fn failing_blocks_of_a_file_are_kept_by_place() {
        let mut failures = Failures::default();
        for (block, second) in [(7, 1), (3, 2), (7, 3)] {
            failures.add(&refusal(b"a", Some(block)), at(second));
        }
        let file = failures.of(b"a").unwrap();
        let bad: Vec<_> = file.bad.iter().map(|(place, bad)| (*place, bad.times, bad.last)).collect();
        assert_eq!(bad, [((None, 3), 1, at(2)), ((None, 7), 2, at(3))]);
        let seven = &file.bad[&(None, 7)];
        assert_eq!(seven.expected.as_deref(), Some("01".repeat(32).as_str()));
        assert_eq!(seven.found.as_ref().map(String::len), Some(128), "as long as a hash can be");
        assert!(!file.is_known(&VERSION));
        assert_eq!(failures.recent.last(CauseClass::Corrupt), Some(at(3)));
        assert_eq!(failures.recent.last(CauseClass::Denied), None);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_give_way() {
        let mut failures = Failures::default();
        for block in 0..2000 {
            failures.add(&refusal(b"large", Some(block)), at(0));
        }
        let large = failures.of(b"large").unwrap();
        assert_eq!((large.bad.len(), large.more), (BLOCKS_OF_FILE, 2000 - BLOCKS_OF_FILE as u64));
        for n in 0..20_000_u32 {
            failures.add(&refusal(&(n % 400).to_be_bytes(), Some(n.into())), at(n.into()));
        }
        let blocks: usize = failures.files.values().map(|file| file.bad.len()).sum();
        assert!(failures.files.len() <= FILES && blocks <= BLOCKS, "{} {blocks}", failures.files.len());
        assert!(failures.of(b"large").is_none());
        assert!(failures.of(&399_u32.to_be_bytes()).is_some());
        for file in 0..20_u8 {
            (0..1000).for_each(|block| failures.add(&refusal(&[file], Some(block)), at(1 << 20)));
        }
        assert!(failures.files.values().map(|file| file.bad.len()).sum::<usize>() <= BLOCKS);
    }

    #[test]
    fn a_check_tells_of_every_block() {
        let mut failures = Failures::default();
        failures.add(&refusal(b"a", Some(7)), at(1));
        assert!(failures.check(b"a", Some(VERSION), at(2)));
        assert!(!failures.check(b"a", Some(VERSION), at(2)), "it is under way");
        assert!(!failures.of(b"a").unwrap().is_known(&VERSION));
        let detail = String::new();
        let block = FailedBlock { cause: Cause::BadBlock, block: 9, level: None, detail };
        let examined = Ok(Examined::Blocks { failed: vec![block], count: 1 });
        failures.checked(b"a", &examined, at(3));
        let file = failures.of(b"a").unwrap();
        assert_eq!(file.bad.keys().collect::<Vec<_>>(), [&(None, 9)]);
        assert!(file.is_known(&VERSION));
        assert!(!file.is_known(&[8; 32]), "of another version nothing was read");
        let many = Ok(Examined::Blocks { failed: Vec::new(), count: 5 });
        failures.checked(b"a", &many, at(4));
        assert!(!failures.of(b"a").unwrap().is_known(&VERSION), "five fail, nobody knows where");
        failures.add(&refusal(b"a", Some(7)), at(5));
        failures.checked(b"a", &Err("the disk is gone".to_owned()), at(6));
        let file = failures.of(b"a").unwrap();
        assert!(file.bad.contains_key(&(None, 7)) && !file.is_known(&VERSION));
        failures.repaired(b"a");
        assert!(failures.of(b"a").is_none());
    }
}
