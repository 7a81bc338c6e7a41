//! Files of which a block failed when it was read: the last that is known of each, for as long as it holds.
//!
//! What a READ found out is told to who asks for the status later, and moves the change attribute, so that
//! clients ask again. One block a file is enough for that. It is forgotten when file, evidence or trust
//! change, and when the same block proves good.

use std::fmt;
use std::ops::Range;

use quick_cache::sync::Cache;

use super::fingerprint::Fingerprint;
use super::handle::Tag;
use super::proof::Failure;
use crate::event::Cause;

/// Damaged files remembered at most.
const FILES: usize = 4096;

/// A block that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// The change attribute of the file as it would be without.
    state: u64,
    /// The data block that was wanted.
    data_block: u64,
    pub(super) cause: Cause,
    /// The block that failed, in its level.
    block: u64,
    /// The tree level, `None` for data.
    level: Option<u8>,
}

impl Damage {
    /// What it adds to the change attribute.
    pub(super) fn fingerprint(&self) -> u64 {
        Fingerprint::new("damage")
            .field(self.cause.as_str().as_bytes())
            .field(self.to_string().as_bytes())
            .finish()
    }
}

/// Which block it is.
impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            None => write!(f, "block {}", self.block),
            Some(level) => write!(f, "block {} of tree level {level}", self.block),
        }
    }
}

/// The damaged files.
pub(super) struct Damages(Cache<Tag, Damage>);

impl Damages {
    pub(super) fn new() -> Self {
        Self(Cache::new(FILES))
    }

    /// What is known of a file whose change attribute is `state` otherwise.
    pub(super) fn of(&self, tag: &Tag, state: u64) -> Option<Damage> {
        self.0.get(tag).filter(|damage| damage.state == state)
    }

    /// Remembers that `failure` kept `data_block` from being proven.
    pub(super) fn note(&self, tag: &Tag, state: u64, data_block: u64, failure: &Failure) {
        if self.of(tag, state).is_none() {
            let Failure { cause, block, level, .. } = *failure;
            self.0.insert(*tag, Damage { state, data_block, cause, block, level });
        }
    }

    /// Forgets what was known of `data_blocks`, which are proven now.
    pub(super) fn proven(&self, tag: &Tag, data_blocks: Range<u64>) {
        if self.0.get(tag).is_some_and(|damage| data_blocks.contains(&damage.data_block)) {
            self.0.remove(tag);
        }
    }
}
