//! The last refusals, for the status page.

use std::collections::VecDeque;
use std::net::SocketAddr;

use jiff::Timestamp;

use super::text::clip;
use crate::event::{Cause, Refusal};

/// How many are kept.
const KEPT: usize = 20;
/// The most characters of a detail that are kept.
const DETAIL: usize = 200;

/// One refusal, or the same one many times.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: Box<[u8]>,
    pub(super) cause: Cause,
    pub(super) block: Option<u64>,
    pub(super) level: Option<u8>,
    pub(super) detail: String,
    pub(super) client: Option<SocketAddr>,
    pub(super) uid: Option<u32>,
    pub(super) served: bool,
    /// How often.
    pub(super) times: u64,
    /// When last.
    pub(super) last: Timestamp,
}

/// The last refusals, newest first; one that repeats stands once.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<Entry>);

impl Recent {
    /// Takes note of `refusal`.
    pub(super) fn add(&mut self, refusal: &Refusal<'_>, now: Timestamp) {
        let same = |e: &Entry| {
            *e.path == *refusal.path
                && (e.cause, e.block, e.level) == (refusal.cause, refusal.block, refusal.level)
        };
        let client = refusal.client.map(|client| client.address);
        let uid = refusal.client.and_then(|client| client.uid);
        let place = self.0.iter().position(same);
        let entry = match place.and_then(|place| self.0.remove(place)) {
            Some(old) => {
                // Who was denied what goes together.
                let detail = clip(refusal.detail, DETAIL);
                Entry { client, uid, detail, served: refusal.served, times: old.times + 1, last: now, ..old }
            }
            None => Entry {
                path: Box::from(refusal.path),
                cause: refusal.cause,
                block: refusal.block,
                level: refusal.level,
                detail: clip(refusal.detail, DETAIL),
                client,
                uid,
                served: refusal.served,
                times: 1,
                last: now,
            },
        };
        self.0.push_front(entry);
        self.0.truncate(KEPT);
    }

    /// Newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stand_first_and_repetitions_once() {
        let mut recent = Recent::default();
        for n in (0..100_u64).chain([95, 95]) {
            let path = n.to_string();
            let refusal = Refusal {
                path: path.as_bytes(),
                cause: Cause::BadBlock,
                detail: "",
                block: None,
                level: None,
                expected: None,
                found: None,
                client: None,
                served: false,
                record: None,
            };
            recent.add(&refusal, Timestamp::UNIX_EPOCH);
        }
        let entries: Vec<_> = recent.entries().map(|e| (e.path.to_vec(), e.times)).collect();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries[0], (b"95".to_vec(), 3));
        assert_eq!(entries[1], (b"99".to_vec(), 1));
        assert_eq!(entries[KEPT - 1], (b"80".to_vec(), 1));
    }
}
