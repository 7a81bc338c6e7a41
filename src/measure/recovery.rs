//! What became of a log when it was opened.

use std::fmt;

use super::error::LogError;
use super::list::ListError;
use super::names::TORN;

/// What was cut off a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How many bytes.
    pub bytes: u64,
    /// The first record among them, and what was wrong with it.
    pub error: ListError,
}

/// What was done to open a log. Without a crash before it, only `created` may be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The list is new.
    pub created: bool,
    /// What was cut off the list. Its bytes are in the file `torn` until the next time, unless `undone` tells that
    /// they could not be kept.
    pub torn: Option<Torn>,
    /// Files that tell of records which are not in the list, with what they tell: acknowledged ones were lost, or
    /// the whole list. What is not told by any of the files beside it cannot be known.
    pub lost: Vec<String>,
    /// The start of the first segment, which is always the same, had to be written or signed again.
    pub start: bool,
    /// Files that were written again or removed, since they did not follow the list.
    pub changed: Vec<String>,
    /// A closed segment that could not be read to its end for what it measured; it may be measured again.
    pub unread: Option<u64>,
    /// What could not be done, and why. The list itself is whole; what follows it is made good with a later
    /// append.
    pub undone: Vec<String>,
}

impl Recovery {
    /// Whether the last gateway left all as it should be.
    pub fn is_clean(&self) -> bool {
        let Self { created: _, torn, lost, start, changed, unread, undone } = self;
        let nothing = lost.is_empty() && changed.is_empty() && undone.is_empty();
        nothing && torn.is_none() && !start && unread.is_none()
    }

    /// Takes note of what could not be done.
    pub(super) fn note(&mut self, done: Result<(), LogError>) {
        self.undone.extend(done.err().map(|error| error.to_string()));
    }
}

impl fmt::Display for Recovery {
    /// In a line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = Vec::new();
        if !self.lost.is_empty() {
            let what = if self.created { "the list was lost" } else { "records were lost" };
            told.push(format!("{what}: {} told of more than there are", self.lost.join(", ")));
        }
        if self.created {
            told.push("a new list".to_owned());
        }
        if let Some(Torn { bytes, error }) = &self.torn {
            told.push(format!("cut {bytes} bytes off the list, which are in the file {TORN} ({error})"));
        }
        if self.start {
            told.push("the first segment's start was signed again".to_owned());
        }
        if !self.changed.is_empty() {
            told.push(format!("written again or removed: {}", self.changed.join(", ")));
        }
        if let Some(segment) = self.unread {
            told.push(format!("segment {segment} cannot be read to its end"));
        }
        if !self.undone.is_empty() {
            told.push(format!("not done yet: {}", self.undone.join(", ")));
        }
        if told.is_empty() {
            told.push("complete".to_owned());
        }
        f.write_str(&told.join("; "))
    }
}
