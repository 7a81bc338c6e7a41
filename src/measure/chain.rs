//! Verifies the segments of a log, one behind the other, also while a gateway writes them.

use std::io;
use std::path::Path;

use super::bank::Banks;
use super::disk;
use super::list::{Fault, ListError, verify_each};
use super::log::FILE_MAX;
use super::mark::{Mark, Replay};
use super::names::{self, BINARY};
use super::start::{SIGNATURE_MAX, START_MAX, Start};

/// How often it is begun when segments are closed or removed meanwhile.
const ATTEMPTS: u32 = 5;

/// Why the segments of a log are no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's word.
        source: io::Error,
    },
    /// A file that must be there is not, or is no [`Start`].
    #[error("{0} is missing or damaged")]
    Missing(String),
    /// The signature of a start is not accepted.
    #[error("the signature of {0} is not accepted")]
    Signature(String),
    /// A segment does not begin where the one before ends.
    #[error("{0} does not say what the segment before ends with")]
    Broken(String),
    /// A record is wrong.
    #[error("{file}: {source}")]
    Record {
        /// The list.
        file: String,
        /// Where, and what.
        source: ListError,
    },
    /// Segments were closed or removed all the while.
    #[error("the segments change faster than they are read; try again")]
    Changing,
}

/// What a chain comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it begins: at the first segment that is there.
    pub start: Start,
    /// The number of its last segment.
    pub segment: u64,
    /// How many records there are, those before [`Self::start`] among them.
    pub records: u64,
    /// How many violations there are in the segments that are there.
    pub violations: u64,
    /// What the registers hold at its end.
    pub end: Banks,
}

/// What a chain comes to in the register of a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Behind how many records the register holds what is wanted; `None` when it does so nowhere.
    pub found: Option<u64>,
    /// Whether the chain has all records since the register began to follow the list. Where old ones are not kept,
    /// what the register held before is the word of the [`Mark`] alone.
    pub is_whole: bool,
    /// Whether it has those behind the mark, without which nothing can be found.
    pub is_begun: bool,
}

/// Verifies the log in `directory` from the first segment that is there to the end: each start is signed, each
/// segment begins where the one before ends, and each record is right. `signed` says whether a signature, its
/// second argument, is one of the statement that is its first. That the last records are there, only whoever
/// knows [`Chain::end`] from elsewhere can tell.
///
/// A gateway may write meanwhile. When it closes or removes a segment, all is read again. Where the open list ends
/// in a record that is not whole, that record does not count while a gateway holds the lock; it is an error when
/// none does, or when the lock cannot be read.
pub fn verify_chain(directory: &Path, signed: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<Chain, ChainError> {
    verify(directory, signed, None).map(|(chain, _)| chain)
}

/// As [`verify_chain`], and tells behind which record a TPM's register that began as `mark` says holds what
/// `is_wanted` takes. A chain that goes on behind is as good.
pub fn verify_register(
    directory: &Path,
    signed: &dyn Fn(&[u8], &[u8]) -> bool,
    mark: &Mark,
    is_wanted: &dyn Fn(&Banks) -> bool,
) -> Result<(Chain, Replayed), ChainError> {
    let (chain, replay) = verify(directory, signed, Some((mark, is_wanted)))?;
    let (found, is_whole, is_begun) =
        replay.map_or((None, false, false), |replay| (replay.found(), replay.is_whole(), replay.is_begun()));
    Ok((chain, Replayed { found, is_whole, is_begun }))
}

/// A mark, and what the register must hold somewhere behind it.
type Wanted<'a> = Option<(&'a Mark, &'a dyn Fn(&Banks) -> bool)>;
type Verified<'a> = (Chain, Option<Replay<'a>>);

fn verify<'a>(
    directory: &Path,
    signed: &dyn Fn(&[u8], &[u8]) -> bool,
    wanted: Wanted<'a>,
) -> Result<Verified<'a>, ChainError> {
    let mut files = segments(directory)?;
    for _ in 0..ATTEMPTS {
        let chain = verify_segments(directory, &files, signed, wanted);
        // What was read from a file that got another name meanwhile may be of another segment.
        let now = segments(directory)?;
        if now == files {
            return chain;
        }
        files = now;
    }
    Err(ChainError::Changing)
}

/// The names of the lists, starts and signatures, in order.
fn segments(directory: &Path) -> Result<Vec<String>, ChainError> {
    let mut files =
        disk::names(directory).map_err(|source| ChainError::Io { file: ".".to_owned(), source })?;
    files.retain(|file| file == BINARY || names::segment_of(file).is_some());
    files.sort_unstable();
    Ok(files)
}

/// As [`verify`], of `files`, which must be there still when it returns.
fn verify_segments<'a>(
    directory: &Path,
    files: &[String],
    signed: &dyn Fn(&[u8], &[u8]) -> bool,
    wanted: Wanted<'a>,
) -> Result<Verified<'a>, ChainError> {
    let read = |file: &str, limit| {
        let found = disk::read(directory, file, limit);
        let found = found.map_err(|source| ChainError::Io { file: file.to_owned(), source })?;
        found.ok_or_else(|| ChainError::Missing(file.to_owned()))
    };
    let closed = names::numbers(BINARY, files);
    let first = match closed.first() {
        Some(first) => *first,
        None => only_segment(directory, files),
    };
    let last = closed.last().map_or(first, |last| last + 1);
    let mut chain: Option<Chain> = None;
    let mut replay: Option<Replay<'a>> = None;
    for segment in first..=last {
        let file = names::start(segment);
        let text = read(&file, START_MAX)?;
        let start = Start::parse(&text).ok().filter(|start| start.segment == segment);
        let start = start.ok_or_else(|| ChainError::Missing(file.clone()))?;
        if !signed(&text, &read(&names::signature(segment), SIGNATURE_MAX)?) {
            return Err(ChainError::Signature(file));
        }
        let before = chain.map_or((start.records, start.banks), |chain| (chain.records, chain.end));
        if (start.records, start.banks) != before || (segment == 1 && start != Start::FIRST) {
            return Err(ChainError::Broken(file));
        }
        let name = if segment == last { BINARY.to_owned() } else { names::closed(BINARY, segment) };
        // A gateway that ended between two segments left none, which is an empty one.
        let begun = segment < last || closed.is_empty() || files.contains(&name);
        let list = if begun { read(&name, FILE_MAX)? } else { Vec::new() };
        if chain.is_none() {
            replay =
                wanted.map(|(mark, is_wanted)| Replay::new(mark, is_wanted, start.records, &start.banks));
        }
        let before = replay.clone();
        let mut add = |digests: &Banks| replay.iter_mut().for_each(|replay| replay.add(digests));
        let mut summary = verify_each(&list, &start.banks, &mut add);
        if segment == last
            && let Err(ListError { offset, fault: Fault::Cut, .. }) = summary
            && let Some((whole, _)) = usize::try_from(offset).ok().and_then(|at| list.split_at_checked(at))
            && disk::is_locked(directory)
        {
            // The gateway is writing the record.
            replay = before;
            let mut add = |digests: &Banks| replay.iter_mut().for_each(|replay| replay.add(digests));
            summary = verify_each(whole, &start.banks, &mut add);
        }
        let summary = summary.map_err(|source| ChainError::Record { file: name, source })?;
        let violations = chain.map_or(0, |chain| chain.violations) + summary.violations;
        let (records, end) = (start.records + summary.records, summary.end);
        let from = chain.map_or(start, |chain| chain.start);
        chain = Some(Chain { start: from, segment, records, violations, end });
    }
    chain.map(|chain| (chain, replay)).ok_or_else(|| ChainError::Missing(BINARY.to_owned()))
}

/// The number of the open segment when no closed one is there, as a gateway finds it.
fn only_segment(directory: &Path, files: &[String]) -> u64 {
    let start = |segment| {
        let text = disk::read(directory, &names::start(segment), START_MAX).ok()??;
        Start::parse(&text).ok()
    };
    let last = names::numbers(names::START, files).last().copied().unwrap_or(1);
    let list = disk::read(directory, BINARY, FILE_MAX).ok().flatten().unwrap_or_default();
    match (start(last - 1), start(last)) {
        (Some(before), Some(start)) if start.is_reached(&before, &list) => last - 1,
        _ => last,
    }
}
