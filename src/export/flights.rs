//! Spans of files on their way. Of several who want one at the same time, one reads and proves it, and the others are
//! given the same bytes. What was proven before anybody asked for it waits here for its reader.
//!
//! Nobody is told of another one's failure: whoever waited for it asks for itself, and so does who has waited long for
//! one whom the store keeps waiting. And no two wait for each other: whoever waits for data has claimed nothing, and
//! whoever has claimed a tree block waits for nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::cache::{FileKey, Key, Span};
use super::verified::Verified;

const SHARDS: usize = 64;
/// How long a span waits for its reader, who may have turned away, while others want its room.
pub(super) const LIFE: Duration = Duration::from_secs(10);
/// How long whoever has claimed a span is waited for: as long as a store is, by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a claim: proven bytes, or nothing, and whoever waited is to ask for itself.
type Outcome = Option<Given>;
/// Hears of it.
pub(super) struct Told {
    told: oneshot::Receiver<Outcome>,
    until: Instant,
}

/// What one hears who waits.
pub(super) enum Heard {
    Given(Given),
    /// It failed, or takes too long.
    Nothing,
    /// The claim was given up: whoever comes first claims it anew.
    GivenUp,
}

/// All spans that are claimed or waiting for their reader.
pub(super) struct Flights {
    shards: [Arc<Shard>; SHARDS],
}

type Places = HashMap<Key, Place, DefaultHashBuilder>;
type Shard = Mutex<Places>;

enum Place {
    Claimed(Waiting),
    Proven(Held),
}

/// Who waits for a claim.
struct Waiting {
    /// How long.
    until: Instant,
    tell: Vec<oneshot::Sender<Outcome>>,
    /// One of them reads the span to its end.
    ends: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, tell: Vec::new(), ends: false }
    }

    /// `None` where it has taken too long already.
    fn join(&mut self, ends: bool) -> Option<Told> {
        if Instant::now() >= self.until {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.tell.push(tell);
        self.ends |= ends;
        Some(Told { told, until: self.until })
    }
}

impl Told {
    pub(super) async fn hear(self) -> Heard {
        match tokio::time::timeout_at(self.until, self.told).await {
            Ok(Ok(Some(given))) => Heard::Given(given),
            Ok(Ok(None)) | Err(_) => Heard::Nothing,
            Ok(Err(_)) => Heard::GivenUp,
        }
    }
}

struct Held {
    bytes: Verified<Bytes>,
    since: Instant,
    /// What it takes of the room for all.
    _room: OwnedSemaphorePermit,
}

/// What there is of a span.
pub(super) enum Found {
    /// Nobody has it. The caller is to read and prove it.
    Nothing(Claim),
    /// It was proven before it was asked for.
    Proven(Span, Verified<Bytes>),
    /// Somebody else is to prove it.
    Coming(Span, Told),
    /// Somebody else is, and has not done so for long.
    Late,
}

/// Proven bytes for one who waited.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) bytes: Verified<Bytes>,
    /// They were proven ahead, and this one is the first to get them.
    pub(super) is_first: bool,
}

/// The right to read and prove a span, which others wait for. Where it is dropped, one of them claims it anew.
pub(super) struct Claim {
    shard: Arc<Shard>,
    key: Key,
    /// Its place is still there.
    is_open: bool,
}

impl Default for Flights {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Arc::default()) }
    }
}

impl Flights {
    /// What there is of `span`, which lies in extent number `extent` if it is of data; all of the extent, where a block
    /// is wanted and somebody has that. `ends`: the caller reads the extent to its end, and needs it no more.
    pub(super) fn find(&self, file: FileKey, extent: u64, span: Span, ends: bool) -> Found {
        let shard = self.shard(file, extent);
        let mut places = shard.lock();
        if matches!(span, Span::Block(_))
            && let Some(found) = there(&mut places, Key::new(file, Span::Extent(extent)), ends)
        {
            return found;
        }
        let key = Key::new(file, span);
        if let Some(found) = there(&mut places, key, ends) {
            return found;
        }
        places.insert(key, Place::Claimed(Waiting::new()));
        drop(places);
        Found::Nothing(Claim { shard: shard.clone(), key, is_open: true })
    }

    /// Waits for extent number `extent`, if somebody has claimed it.
    pub(super) fn join(&self, file: FileKey, extent: u64, ends: bool) -> Option<Told> {
        let key = Key::new(file, Span::Extent(extent));
        match self.shard(file, extent).lock().get_mut(&key)? {
            Place::Claimed(waiting) => waiting.join(ends),
            Place::Proven(_) => None,
        }
    }

    /// Claims extent number `extent`, unless somebody has it.
    pub(super) fn claim(&self, file: FileKey, extent: u64) -> Option<Claim> {
        let shard = self.shard(file, extent);
        let key = Key::new(file, Span::Extent(extent));
        match shard.lock().entry(key) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Place::Claimed(Waiting::new()));
                Some(Claim { shard: shard.clone(), key, is_open: true })
            }
        }
    }

    /// Lets go of what has waited too long for its reader.
    pub(super) fn forget_late(&self) {
        let now = Instant::now();
        let is_late = |held: &Held| now.duration_since(held.since) >= LIFE;
        for shard in &self.shards {
            shard.lock().retain(|_, place| !matches!(place, Place::Proven(held) if is_late(held)));
        }
    }

    /// Bytes of what waits for its reader, and how many spans that are.
    pub(super) fn held(&self) -> (u64, u64) {
        let mut held = (0, 0);
        for shard in &self.shards {
            for place in shard.lock().values() {
                if let Place::Proven(Held { bytes, .. }) = place {
                    held = (held.0 + bytes.get().len() as u64, held.1 + 1);
                }
            }
        }
        held
    }

    fn shard(&self, file: FileKey, extent: u64) -> &Arc<Shard> {
        let [first, ..] = &self.shards;
        let place = extent.wrapping_add(file.spread()) % SHARDS as u64;
        usize::try_from(place).ok().and_then(|place| self.shards.get(place)).unwrap_or(first)
    }
}

/// What there is at `key`, for who reads it to its end or not.
fn there(places: &mut Places, key: Key, ends: bool) -> Option<Found> {
    // As it mostly is.
    if places.is_empty() {
        return None;
    }
    let Entry::Occupied(mut place) = places.entry(key) else { return None };
    Some(match place.get_mut() {
        Place::Claimed(waiting) => match waiting.join(ends) {
            Some(told) => Found::Coming(key.span(), told),
            None => Found::Late,
        },
        Place::Proven(held) => {
            let bytes = held.bytes.clone();
            if ends {
                place.remove();
            }
            Found::Proven(key.span(), bytes)
        }
    })
}

impl Claim {
    /// Gives what was proven to those who wait for it.
    pub(super) fn proven(mut self, bytes: &Verified<Bytes>) {
        tell(self.end(), Some(bytes), false);
    }

    /// Tells those who wait to ask for themselves.
    pub(super) fn failed(mut self) {
        tell(self.end(), None, false);
    }

    /// Gives what was proven to those who wait for it, and keeps it for who comes, unless one of them reads it to its
    /// end. Whether it is kept.
    pub(super) fn keep(mut self, bytes: Verified<Bytes>, room: OwnedSemaphorePermit) -> bool {
        let (waiting, kept) = {
            let mut places = self.shard.lock();
            self.is_open = false;
            let Some(Place::Claimed(waiting)) = places.remove(&self.key) else { return false };
            if !waiting.ends {
                let held = Held { bytes: bytes.clone(), since: Instant::now(), _room: room };
                places.insert(self.key, Place::Proven(held));
            }
            (waiting.tell, !waiting.ends)
        };
        tell(waiting, Some(&bytes), !kept);
        kept
    }

    /// Whoever waited. Nobody's claim any more.
    fn end(&mut self) -> Vec<oneshot::Sender<Outcome>> {
        self.is_open = false;
        match self.shard.lock().remove(&self.key) {
            Some(Place::Claimed(waiting)) => waiting.tell,
            Some(Place::Proven(_)) | None => Vec::new(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_open {
            drop(self.end());
        }
    }
}

fn tell(waiting: Vec<oneshot::Sender<Outcome>>, bytes: Option<&Verified<Bytes>>, mut is_first: bool) {
    for tell in waiting {
        let given = bytes.map(|bytes| Given { bytes: bytes.clone(), is_first });
        // Whoever waited may be gone.
        is_first &= tell.send(given).is_err();
    }
}

#[cfg(test)]
mod tests;
