//! Which measurements are in the list already: as in the kernel, by the digest of their data, so of digest,
//! name and signature together.

use std::collections::{HashMap, VecDeque};

/// The first half of the SHA-256 of a record's data: nobody makes another record with the same 128 bits.
pub(super) type Key = [u8; 16];

/// The key of a record with this SHA-256.
pub(super) fn key(sha256: &[u8; 32]) -> Key {
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *sha256;
    first
}

/// The last so many measurements. The oldest falls out first, unless it was asked for since it came or was spared:
/// then it is spared once more (CLOCK).
pub(super) struct Seen {
    limit: usize,
    /// Whether each was asked for.
    keys: HashMap<Key, bool>,
    order: VecDeque<Key>,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, keys: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    /// As [`Self::has`], and keeps it for longer.
    pub(super) fn asked(&mut self, key: &Key) -> bool {
        self.keys.get_mut(key).map(|asked| *asked = true).is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= self.limit
    }

    /// Takes note of the newest.
    pub(super) fn push(&mut self, key: Key) {
        if self.limit == 0 || self.has(&key) {
            return;
        }
        // Each that is spared is not the next time, so one goes.
        while self.is_full() {
            let Some(oldest) = self.order.pop_front() else { break };
            match self.keys.get_mut(&oldest) {
                Some(asked) if *asked => {
                    *asked = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.keys.remove(&oldest);
                }
            }
        }
        self.keys.insert(key, false);
        self.order.push_back(key);
    }

    /// Takes note of one that is older than all others, where there is room.
    pub(super) fn push_oldest(&mut self, key: Key) {
        if !self.is_full() && !self.has(&key) {
            self.keys.insert(key, false);
            self.order.push_front(key);
        }
    }
}
