//! COMPOUND, RFC 8881 section 16.2: one operation after the other, until one fails.

use std::hash::{Hash, Hasher};
use std::time::Instant;

use bytes::Bytes;

use super::args::Operation;
use super::ops::{Current, Memory, session};
use super::state::{Conflict, Principal, Stateid, Turn};
use super::status::Status;
use super::{Nfs4, OPERATIONS_MAX, RESPONSE_MAX, op, ops};
use crate::export::{Caller, ExportError};
use crate::proto::rpc::{CallContext, Credential, Outcome};
use crate::wire::{Reader, Writer, XdrError};

/// The longest tag that is decoded.
const TAG_MAX: u32 = 1024;
/// Bytes of an accepted RPC reply before its results, which `ca_maxresponsesize` counts, too.
const RPC_REPLY: usize = 24;
/// Bytes of an RPC call before its arguments without what credentials hold; `ca_maxrequestsize` counts it.
const RPC_CALL: usize = 40;
/// Bytes of results where there is no session to say how many.
const WITHOUT_SESSION: usize = 16 << 10;
/// Bytes of an operation's number and status.
const RESULT_HEAD: usize = 8;
/// The same of the longest that fails without more to say: SETATTR tells which attributes were set.
const FAILURE: usize = RESULT_HEAD + 4;
/// More bytes than what changes state ever answers, its failures excepted.
const CHANGE_MAX: usize = 512;

/// `COMPOUND4args` up to the operations.
struct Head<'a> {
    tag: &'a [u8],
    minor: u32,
    count: u32,
    operations: Reader<'a>,
}

impl<'a> Head<'a> {
    fn decode(arguments: &'a [u8]) -> Result<Self, XdrError> {
        let mut r = Reader::new(arguments);
        Ok(Self { tag: r.opaque(TAG_MAX)?, minor: r.u32()?, count: r.u32()?, operations: r })
    }

    fn is_served(&self) -> bool {
        matches!(self.minor, 1 | 2)
    }

    /// Numbers and arguments of the operations that may be executed: none of a compound that is refused
    /// whatever the session, and never more than up to the first that cannot be decoded.
    fn walk(&self) -> impl Iterator<Item = (u32, Operation<'a>)> {
        let (mut r, minor) = (self.operations.clone(), self.minor);
        let in_session = r.clone().u32() == Ok(op::SEQUENCE);
        let count = match self.count {
            count if !self.is_served() || count > OPERATIONS_MAX => 0,
            count if count > 1 && !in_session => 0,
            count => count,
        };
        (0..count).map_while(move |_| {
            let number = r.u32().ok().filter(|number| op::exists(*number, minor))?;
            if !in_session && !op::stands_alone(number) {
                return None;
            }
            Some((number, Operation::decode(number, &mut r).ok()?))
        })
    }
}

/// An upper bound of the memory that the results take: no more of it are results than a session may
/// answer, and what operations take for themselves alone is taken one after the other.
pub(super) fn reply_bound(arguments: &[u8]) -> usize {
    let Ok(head) = Head::decode(arguments) else { return 0 };
    let memory = head.walk().fold(Memory::default(), |sum, (_, operation)| sum.and(ops::memory(&operation)));
    // The last result is that of an operation that cannot be decoded, if there is one.
    let more = RESULT_HEAD + 8 + head.tag.len() + CHANGE_MAX;
    more + memory.within(usize::try_from(RESPONSE_MAX).unwrap_or(usize::MAX))
}

/// Whether the compound is to run to its end though nobody may be there to hear of it: it changes
/// state, or its answer is to be kept.
pub(super) fn finishes(arguments: &[u8]) -> bool {
    let Ok(head) = Head::decode(arguments) else { return false };
    head.walk().any(|(number, operation)| match operation {
        Operation::Sequence { cache_this, .. } => cache_this,
        _ => op::changes_state(number),
    })
}

/// A compound under way.
pub(super) struct Compound<'a> {
    pub(super) server: &'a Nfs4,
    pub(super) caller: Caller,
    pub(super) principal: Principal,
    pub(super) connection: u64,
    pub(super) minor: u32,
    pub(super) now: Instant,
    pub(super) turn: Option<Turn>,
    pub(super) current: Option<Current>,
    pub(super) saved: Option<Current>,
    /// The current and the saved stateid, section 16.2.3.1.2.
    pub(super) stateid: Option<Stateid>,
    pub(super) saved_stateid: Option<Stateid>,
    pub(super) results: Writer,
    /// The most bytes that results may take.
    limit: usize,
    /// The same, were they not to be kept.
    hard_limit: usize,
    /// Nothing follows the operation that runs.
    pub(super) last: bool,
    /// What LOCK or LOCKT met.
    pub(super) conflict: Option<Conflict>,
    /// The failure is one of verification.
    unproven: bool,
}

/// Executes a COMPOUND.
pub(super) async fn execute(server: &Nfs4, context: CallContext, arguments: &[u8], now: Instant) -> Outcome {
    let Ok(head) = Head::decode(arguments) else { return Outcome::GarbageArguments };
    if !head.is_served() {
        return answer(head.tag, Status::MinorVersMismatch.number(), 0, Writer::default());
    }
    let request = Request::new(&context, arguments, head.count);
    let uid = match &context.credential {
        Credential::None => None,
        Credential::Sys(sys) => Some(sys.uid),
    };
    let overhead = RESULT_HEAD + 4 + head.tag.len().next_multiple_of(4);
    let limit = WITHOUT_SESSION.saturating_sub(overhead);
    let compound = Compound {
        server,
        principal: Principal { address: context.peer.ip(), uid },
        connection: context.connection,
        caller: Caller::from(context),
        minor: head.minor,
        now,
        turn: None,
        current: None,
        saved: None,
        stateid: None,
        saved_stateid: None,
        results: Writer::with_capacity(CAPACITY),
        limit,
        hard_limit: limit,
        last: false,
        conflict: None,
        unproven: false,
    };
    compound.run(&head, &request).await
}

/// Room for the results of most compounds that carry no data.
const CAPACITY: usize = 512;

/// What a session asks of a request.
pub(super) struct Request {
    /// Tells it from others under the same number.
    pub(super) fingerprint: u64,
    /// Bytes, with the RPC header.
    pub(super) size: u32,
    /// Operations.
    pub(super) operations: u32,
}

impl Request {
    fn new(context: &CallContext, arguments: &[u8], operations: u32) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        arguments.hash(&mut hasher);
        let credential = match &context.credential {
            Credential::None => 0,
            Credential::Sys(sys) => {
                (sys.uid, sys.gid).hash(&mut hasher);
                20 + sys.machine.len().next_multiple_of(4) + 4 * sys.gids.len()
            }
        };
        let size = u32::try_from(RPC_CALL + credential + arguments.len()).unwrap_or(u32::MAX);
        Self { fingerprint: hasher.finish(), size, operations }
    }
}

/// `COMPOUND4res`.
fn answer(tag: &[u8], status: u32, count: u32, results: Writer) -> Outcome {
    Outcome::Done { results: reply(tag, status, count, results), ok: status == 0 }
}

fn reply(tag: &[u8], status: u32, count: u32, results: Writer) -> Writer {
    let mut reply = Writer::with_capacity(RESULT_HEAD + 4 + tag.len().next_multiple_of(4));
    reply.u32(status).opaque(tag).u32(count).append(results);
    reply
}

/// How an operation ends that does not fail.
pub(super) enum Step {
    /// The next one follows.
    Next,
    /// All is answered by what was answered before.
    Replay(Bytes),
    /// The next one is to be answered with NFS4ERR_RETRY_UNCACHED_REP.
    Uncached,
}

impl Compound<'_> {
    async fn run(mut self, head: &Head<'_>, request: &Request) -> Outcome {
        let mut r = head.operations.clone();
        let (mut status, mut done, mut uncached) = (0, 0, false);
        while status == 0 && done < head.count {
            self.last = done + 1 == head.count;
            let mark = self.results.mark();
            let number = r.u32().map_err(|_| Status::BadXdr);
            let known = number.ok().filter(|number| op::exists(*number, self.minor));
            self.results.u32(known.unwrap_or(op::ILLEGAL)).u32(0);
            let ended = match (number, known) {
                _ if uncached => Err(Status::RetryUncachedRep),
                (Err(status), _) => Err(status),
                (Ok(_), None) => Err(Status::OpIllegal),
                (Ok(_), Some(number)) => self.one(number, done, request, &mut r).await,
            };
            done += 1;
            let ended = match known {
                // It has taken the slot already, and one that fails leaves it as it is (section 18.46.3): what
                // follows finds that there is no room.
                Some(op::SEQUENCE) => ended,
                _ => ended.and_then(|step| self.fits(0).map(|()| step)),
            };
            match ended {
                Ok(Step::Next) => {}
                Ok(Step::Uncached) => uncached = true,
                Ok(Step::Replay(bytes)) => {
                    let ok = bytes.starts_with(&[0; 4]);
                    let mut results = Writer::default();
                    results.raw(bytes);
                    return Outcome::Done { results, ok };
                }
                Err(error) => {
                    self.results.rollback(mark);
                    let number = known.unwrap_or(op::ILLEGAL);
                    let conflict = self.conflict.take();
                    // Nothing follows what failed.
                    self.last = true;
                    let told = conflict.as_ref().map_or(0, ops::conflict_size);
                    let error = match self.fits(RESULT_HEAD + told) {
                        Err(no_room) if conflict.is_some() => no_room,
                        _ => error,
                    };
                    status = self.number_of(error);
                    self.results.u32(number).u32(status);
                    let conflict = conflict.filter(|_| error == Status::Denied);
                    ops::failed(number, conflict.as_ref(), &mut self.results);
                }
            }
        }
        let results = reply(head.tag, status, done, self.results);
        if let Some(turn) = self.turn {
            turn.finish(|| Bytes::from(results.to_vec()));
        }
        Outcome::Done { results, ok: status == 0 }
    }

    async fn one(
        &mut self,
        number: u32,
        before: u32,
        request: &Request,
        r: &mut Reader<'_>,
    ) -> Result<Step, Status> {
        match before {
            0 if number == op::SEQUENCE => {}
            0 if !op::stands_alone(number) => return Err(Status::OpNotInSession),
            0 if !self.last => return Err(Status::NotOnlyOp),
            0 => {}
            _ if number == op::SEQUENCE => return Err(Status::SequencePos),
            _ if number == op::BIND_CONN_TO_SESSION => return Err(Status::NotOnlyOp),
            _ => {}
        }
        let operation = Operation::decode(number, r).map_err(|_| Status::BadXdr)?;
        if let Operation::Sequence { .. } = operation {
            return session::sequence(self, &operation, request);
        }
        if op::changes_state(number) {
            self.fits(CHANGE_MAX)?;
        }
        ops::execute(self, operation).await.map(|()| Step::Next)
    }

    /// Takes over the limits of the session. `overhead` bytes stand before the results.
    pub(super) fn begin(&mut self, turn: Turn) {
        let channel = turn.channel();
        let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RPC_REPLY);
        let overhead = WITHOUT_SESSION.saturating_sub(self.hard_limit);
        self.hard_limit = size(channel.response.min(RESPONSE_MAX)).saturating_sub(overhead);
        self.limit = self.hard_limit;
        if turn.cache_this() {
            self.limit = self.limit.min(size(channel.response_cached).saturating_sub(overhead));
        }
        self.turn = Some(turn);
    }

    /// Whether results may grow by `bytes`, and the failure of what follows still has room.
    pub(super) fn fits(&self, bytes: usize) -> Result<(), Status> {
        let rest = if self.last { 0 } else { FAILURE };
        let total = self.results.len().saturating_add(bytes).saturating_add(rest);
        match total {
            _ if total <= self.limit => Ok(()),
            _ if total <= self.hard_limit => Err(Status::RepTooBigToCache),
            _ => Err(Status::RepTooBig),
        }
    }

    /// How many bytes results may still grow by.
    pub(super) fn room(&self) -> usize {
        self.left(self.limit)
    }

    /// The same, were they not to be kept.
    pub(super) fn room_unkept(&self) -> usize {
        self.left(self.hard_limit)
    }

    fn left(&self, limit: usize) -> usize {
        let rest = if self.last { 0 } else { FAILURE };
        limit.saturating_sub(self.results.len() + rest)
    }

    /// The status of what failed on an object that was named by handle.
    pub(super) fn refused(&mut self, error: ExportError) -> Status {
        self.unproven = matches!(error, ExportError::Denied(_) | ExportError::Corrupt(_));
        Status::of_handle(error)
    }

    /// The number on the wire: NFS4ERR_INTEGRITY instead, for clients that know it.
    fn number_of(&self, status: Status) -> u32 {
        let error = self.server.ima.and_then(|ima| ima.error);
        match (error, &self.turn) {
            (Some(number), Some(turn))
                if self.unproven && self.server.participants.get(&turn.client()).is_some() =>
            {
                number
            }
            _ => status.number(),
        }
    }
}
