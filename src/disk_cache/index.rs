//! Where blocks are, by slot.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::Mutex;

use super::segment::Place;

/// So many locks that a lookup hardly ever waits.
const SHARDS: usize = 64;

/// Slots are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, slot: u64) {
        self.0 = slot;
    }
}

type Shard = HashMap<u64, Place, BuildHasherDefault<AsItIs>>;

pub(super) struct Index(Vec<Mutex<Shard>>);

impl Index {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn shard(&self, slot: u64) -> Option<&Mutex<Shard>> {
        // The map uses the top and the bottom bits.
        let at = usize::try_from(slot >> 32).unwrap_or(0) % SHARDS;
        self.0.get(at)
    }

    pub(super) fn get(&self, slot: u64) -> Option<Place> {
        self.shard(slot)?.lock().get(&slot).copied()
    }

    pub(super) fn insert(&self, slot: u64, place: Place) {
        if let Some(shard) = self.shard(slot) {
            shard.lock().insert(slot, place);
        }
    }

    pub(super) fn remove(&self, slot: u64) {
        if let Some(shard) = self.shard(slot) {
            shard.lock().remove(&slot);
        }
    }

    /// Removes the slot if it stands for something in `segment`.
    pub(super) fn remove_of(&self, slot: u64, segment: u32) {
        if let Some(shard) = self.shard(slot) {
            let mut shard = shard.lock();
            if shard.get(&slot).is_some_and(|place| place.segment == segment) {
                shard.remove(&slot);
            }
        }
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|shard| *shard.lock() = Shard::default());
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|shard| shard.lock().len() as u64).sum()
    }
}
