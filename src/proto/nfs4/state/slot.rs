//! SEQUENCE and the slots of a session: exactly-once semantics, RFC 8881 section 2.10.6.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::account::Place;
use super::core::Core;
use super::{Channel, ClientId, Sequence, SequenceResult, SessionId, State};
use crate::proto::nfs4::status::Status;

/// Connections remembered of one session; of more, those bound longest ago are forgotten.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of all kept replies, with what keeping each takes.
const MAX_KEPT: usize = 64 << 20;
/// What keeping a reply takes beside its bytes.
const KEPT_OVERHEAD: usize = 256;

/// One session.
pub(super) struct Session {
    pub(super) client: ClientId,
    pub(super) fore: Channel,
    /// As many as were used yet.
    slots: Vec<Slot>,
    /// The connections bound to it, the newest last.
    connections: Vec<u64>,
    /// Slots whose requests run.
    pub(super) busy: usize,
}

#[derive(Default)]
struct Slot {
    /// Of the newest request; before the first one 0, which nothing repeats.
    sequence: u32,
    used: bool,
    busy: bool,
    fingerprint: u64,
    /// Under what number the reply is kept, and the reply.
    reply: Option<(u64, Bytes)>,
}

impl Session {
    pub(super) fn new(client: ClientId, fore: Channel, connection: u64) -> Self {
        Self { client, fore, slots: Vec::new(), connections: vec![connection], busy: 0 }
    }

    pub(super) fn bind(&mut self, connection: u64) {
        if self.is_bound(connection) {
            return;
        }
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.remove(0);
        }
        self.connections.push(connection);
    }

    pub(super) fn is_bound(&self, connection: u64) -> bool {
        self.connections.contains(&connection)
    }

    /// What it takes, but for the replies.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<Slot>() + self.connections.capacity() * 8
    }

    #[cfg(test)]
    pub(super) fn set_sequence(&mut self, slot: usize, sequence: u32) {
        self.slots[slot].sequence = sequence;
    }

    /// The numbers of the replies that are kept for it.
    pub(super) fn kept(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| slot.reply.as_ref().map(|(number, _)| *number))
    }
}

/// The replies that are kept for retries.
#[derive(Default)]
pub(super) struct Replies {
    kept: HashMap<u64, Kept>,
    /// What each place keeps: the bytes, and the numbers by age.
    places: HashMap<Place, (usize, BTreeSet<u64>)>,
    /// Who keeps most comes last.
    by_bytes: BTreeSet<(usize, Place)>,
    next: u64,
    bytes: usize,
}

/// Where a reply is kept.
#[derive(Clone, Copy)]
struct Kept {
    session: SessionId,
    slot: u32,
    size: usize,
    place: Place,
}

impl Replies {
    pub(super) fn forget(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let Some(kept) = self.kept.remove(&number) else { continue };
            self.bytes -= kept.size;
            let (bytes, mut numbers) = self.places.remove(&kept.place).unwrap_or_default();
            self.by_bytes.remove(&(bytes, kept.place));
            numbers.remove(&number);
            self.put(kept.place, bytes - kept.size, numbers);
        }
    }

    /// Returns the number.
    fn add(&mut self, kept: Kept) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += kept.size;
        let (bytes, mut numbers) = self.places.remove(&kept.place).unwrap_or_default();
        self.by_bytes.remove(&(bytes, kept.place));
        numbers.insert(number);
        self.put(kept.place, bytes + kept.size, numbers);
        self.kept.insert(number, kept);
        number
    }

    fn put(&mut self, place: Place, bytes: usize, numbers: BTreeSet<u64>) {
        if !numbers.is_empty() {
            self.by_bytes.insert((bytes, place));
            self.places.insert(place, (bytes, numbers));
        }
    }

    /// The one to go when all take too much: the oldest of the place that keeps most, so that nobody's
    /// many slots push out the replies of others.
    fn to_go(&self) -> Option<(u64, Kept)> {
        let (_, place) = self.by_bytes.last()?;
        let number = *self.places.get(place)?.1.first()?;
        Some((number, *self.kept.get(&number)?))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a SEQUENCE leads to.
pub enum Sequenced {
    /// A new request: it is to be executed.
    Execute(Turn),
    /// A repeated one: the whole `COMPOUND4res` that it was answered with.
    Replay(Bytes),
    /// A repeated one whose answer was not kept: SEQUENCE succeeds, and the operation behind it is
    /// answered with NFS4ERR_RETRY_UNCACHED_REP.
    Uncached(SequenceResult),
}

/// A request that holds its slot. Dropped without [`Turn::finish`], the slot is as after a request
/// whose answer was not kept.
pub struct Turn {
    state: Arc<State>,
    client: ClientId,
    result: SequenceResult,
    channel: Channel,
    cache_this: bool,
    reply: Option<Bytes>,
}

impl Turn {
    /// The client whose session it is.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// What SEQUENCE answers.
    pub fn result(&self) -> SequenceResult {
        self.result
    }

    /// What was negotiated.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// `sa_cachethis`.
    pub fn cache_this(&self) -> bool {
        self.cache_this
    }

    /// Ends the request. `answer` makes the bytes of the `COMPOUND4res`; it is asked when they are kept.
    pub fn finish(mut self, answer: impl FnOnce() -> Bytes) {
        if self.cache_this {
            // In a buffer of its own, so that it keeps nothing else alive.
            let answer = answer();
            let fits = usize::try_from(self.channel.response_cached).is_ok_and(|most| answer.len() <= most);
            self.reply = fits.then(|| Bytes::copy_from_slice(&answer));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let reply = self.reply.take();
        self.state.core.lock().finish(&self.result, reply);
    }
}

enum Step {
    Execute { client: ClientId, channel: Channel, result: SequenceResult },
    Replay(Bytes),
    Uncached(SequenceResult),
}

impl State {
    /// SEQUENCE, section 18.46; renews the lease.
    pub fn sequence(self: &Arc<Self>, request: Sequence, now: Instant) -> Result<Sequenced, Status> {
        let step = self.core.lock().sequence(&request, now)?;
        Ok(match step {
            Step::Execute { client, channel, result } => Sequenced::Execute(Turn {
                state: Arc::clone(self),
                client,
                result,
                channel,
                cache_this: request.cache_this,
                reply: None,
            }),
            Step::Replay(reply) => Sequenced::Replay(reply),
            Step::Uncached(result) => Sequenced::Uncached(result),
        })
    }
}

impl Core {
    fn sequence(&mut self, request: &Sequence, now: Instant) -> Result<Step, Status> {
        self.tick(now);
        let session = self.sessions.get_mut(&request.session).ok_or(Status::BadSession)?;
        let client = self.clients.get_mut(&session.client).ok_or(Status::BadSession)?;
        if request.operations > session.fore.operations {
            return Err(Status::TooManyOps);
        }
        if request.request > session.fore.request {
            return Err(Status::ReqTooBig);
        }
        if request.slot >= session.fore.slots {
            return Err(Status::BadSlot);
        }
        if request.highest_slot >= session.fore.slots {
            return Err(Status::BadHighSlot);
        }
        let index = usize::try_from(request.slot).map_err(|_| Status::BadSlot)?;
        if session.slots.len() <= index {
            if request.sequence != 1 {
                return Err(Status::SeqMisordered);
            }
            session.slots.resize_with(index + 1, Slot::default);
        }
        let slot = session.slots.get_mut(index).ok_or(Status::BadSlot)?;
        let highest_slot = session.fore.slots - 1;
        let result = SequenceResult {
            session: request.session,
            sequence: request.sequence,
            slot: request.slot,
            highest_slot,
            target_highest_slot: highest_slot,
            flags: Self::flags(client),
        };
        let step = if slot.used && request.sequence == slot.sequence {
            if slot.busy {
                return Err(Status::Delay);
            }
            if request.fingerprint != slot.fingerprint {
                return Err(Status::SeqFalseRetry);
            }
            match &slot.reply {
                Some((_, reply)) => Step::Replay(reply.clone()),
                None => Step::Uncached(result),
            }
        } else if !slot.busy && request.sequence == slot.sequence.wrapping_add(1) {
            let old = slot.reply.take();
            *slot = Slot {
                sequence: request.sequence,
                used: true,
                busy: true,
                fingerprint: request.fingerprint,
                reply: None,
            };
            session.busy += 1;
            client.busy += 1;
            self.replies.forget(old.map(|(number, _)| number));
            Step::Execute { client: session.client, channel: session.fore, result }
        } else {
            return Err(Status::SeqMisordered);
        };
        client.renewed = self.now;
        session.bind(request.connection);
        Ok(step)
    }

    /// A request has ended. Its session may have, before.
    fn finish(&mut self, result: &SequenceResult, reply: Option<Bytes>) {
        let Some(session) = self.sessions.get_mut(&result.session) else { return };
        let index = usize::try_from(result.slot).unwrap_or(usize::MAX);
        let Some(slot) = session.slots.get_mut(index) else { return };
        if !slot.busy || slot.sequence != result.sequence {
            return;
        }
        slot.busy = false;
        session.busy -= 1;
        if let Some(client) = self.clients.get_mut(&session.client) {
            client.busy -= 1;
            // By the latest time that is known: it was not silent while its request ran.
            client.renewed = self.now;
        }
        let place = self.clients.get(&session.client).map(|client| client.place);
        let (Some(reply), Some(place)) = (reply, place) else { return };
        let size = reply.len() + KEPT_OVERHEAD;
        let number = self.replies.add(Kept { session: result.session, slot: result.slot, size, place });
        slot.reply = Some((number, reply));
        while self.replies.bytes > MAX_KEPT {
            let Some((number, kept)) = self.replies.to_go() else { return };
            self.replies.forget([number]);
            let slot = usize::try_from(kept.slot).unwrap_or(usize::MAX);
            let slot = self.sessions.get_mut(&kept.session).and_then(|session| session.slots.get_mut(slot));
            if let Some(slot) = slot {
                slot.reply = None;
            }
        }
    }
}
