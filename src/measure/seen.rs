//! Which measurements are in the list already: as in the kernel, by the digest of their data, so of digest,
//! name and signature together.

use std::collections::{HashSet, VecDeque};

/// SHA-256 of a record's data.
pub(super) type Key = [u8; 32];

/// The last so many measurements, the oldest falling out first.
pub(super) struct Seen {
    limit: usize,
    keys: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, keys: HashSet::new(), order: VecDeque::new() }
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= self.limit
    }

    /// Takes note of the newest.
    pub(super) fn push(&mut self, key: Key) {
        if self.limit == 0 || !self.keys.insert(key) {
            return;
        }
        if self.is_full()
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.order.push_back(key);
    }

    /// Takes note of one that is older than all others, where there is room.
    pub(super) fn push_oldest(&mut self, key: Key) {
        if !self.is_full() && self.keys.insert(key) {
            self.order.push_front(key);
        }
    }
}
