//! Verifies the segments of a log, one behind the other, from files that nobody writes to meanwhile.

use std::io;
use std::path::Path;

use super::bank::Banks;
use super::disk;
use super::list::{ListError, verify};
use super::log::FILE_MAX;
use super::names::{self, BINARY};
use super::start::{START_MAX, Start};

/// The longest signature of a start in bytes.
const SIGNATURE_MAX: u64 = 1 << 20;

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

/// Verifies the log in `directory` from the first segment that is there to the end: each start is signed, each
/// segment begins where the one before ends, and each record is right. `signed` says whether a signature, its
/// second argument, is one of the statement that is its first. That the last records are there, only whoever
/// knows [`Chain::end`] from elsewhere can tell.
pub fn verify_chain(directory: &Path, signed: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<Chain, ChainError> {
    let files = disk::names(directory).map_err(|source| ChainError::Io { file: ".".to_owned(), source })?;
    let read = |file: &str, limit| {
        let found = disk::read(directory, file, limit);
        let found = found.map_err(|source| ChainError::Io { file: file.to_owned(), source })?;
        found.ok_or_else(|| ChainError::Missing(file.to_owned()))
    };
    let closed = names::numbers(BINARY, &files);
    let first = match closed.first() {
        Some(first) => *first,
        None => names::numbers(names::START, &files).last().copied().unwrap_or(1),
    };
    let last = closed.last().map_or(first, |last| last + 1);
    let mut chain: Option<Chain> = None;
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
        let summary =
            verify(&list, &start.banks).map_err(|source| ChainError::Record { file: name, source })?;
        let violations = chain.map_or(0, |chain| chain.violations) + summary.violations;
        let (records, end) = (start.records + summary.records, summary.end);
        let from = chain.map_or(start, |chain| chain.start);
        chain = Some(Chain { start: from, segment, records, violations, end });
    }
    chain.ok_or_else(|| ChainError::Missing(BINARY.to_owned()))
}
