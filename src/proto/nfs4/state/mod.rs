//! What the server knows of its clients: leases, sessions with their slots, opens and locks.
//!
//! Knows no network and no files: time is passed in, files are numbers, and what has to outlive a
//! restart goes to a [`Journal`]. One lock guards it all and is never held while anything waits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::status::Status;
use crate::proto::rpc::BoxFuture;

/// `verifier4`.
pub type Verifier = [u8; 8];
/// `sessionid4`: cannot be guessed.
pub type SessionId = [u8; 16];
/// `clientid4`.
pub type ClientId = u64;
/// The file that opens and locks speak of: its fileid.
pub type FileId = u64;

/// `stateid4`. Special ones (anonymous, bypass, current) are resolved by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stateid {
    /// `seqid`; 0 stands for the newest.
    pub seqid: u32,
    /// `other`.
    pub other: [u8; 12],
}

/// Who makes a client, as far as AUTH_SYS and AUTH_NONE tell: where it calls from and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The address, without the port.
    pub address: IpAddr,
    /// The claimed user; `None` for AUTH_NONE.
    pub uid: Option<u32>,
}

/// What must outlive a restart: the owners (`co_ownerid`, as a digest) of clients that may reclaim.
pub trait Journal: Send + Sync + 'static {
    /// Makes it durable that the client with this owner holds state, before anyone relies on it.
    fn add(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>>;
    /// Makes it durable that it does no more.
    fn remove(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>>;
}

/// What clients may use up. All counts.
#[derive(Clone, Debug)]
pub struct StateLimits {
    /// Clients, confirmed and not; at the limit courtesy clients and unconfirmed ones give way.
    pub clients: usize,
    /// Sessions of all clients.
    pub sessions: usize,
    /// Slots of one session (`ca_maxrequests`).
    pub slots: u32,
    /// Opens of all clients (one for each open-owner and file).
    pub opens: usize,
    /// Lock ranges of all clients.
    pub locks: usize,
    /// Bytes of a request, of a response, of a cached response, and operations of a compound.
    pub request: u32,
    /// See `request`.
    pub response: u32,
    /// See `request`.
    pub response_cached: u32,
    /// See `request`.
    pub operations: u32,
}

/// What a [`State`] is made of.
pub struct StateOptions {
    /// The lease, which is the length of the grace period, too.
    pub lease: Duration,
    /// Owners that held state before the restart, from the journal; with none there is no grace period.
    pub survivors: Vec<[u8; 32]>,
    /// Where owners are kept.
    pub journal: Arc<dyn Journal>,
    /// What clients may use up.
    pub limits: StateLimits,
    /// 32 random bytes, made anew at every start: session ids, client ids and stateids come from them.
    pub secret: [u8; 32],
}

/// EXCHANGE_ID, without what needs no state.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeId<'a> {
    /// `co_ownerid`.
    pub owner: &'a [u8],
    /// `co_verifier`.
    pub verifier: Verifier,
    /// EXCHGID4_FLAG_UPD_CONFIRMED_REC_A was set.
    pub update: bool,
    /// Who asks.
    pub principal: Principal,
}

/// The answer to EXCHANGE_ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// `eir_clientid`.
    pub client: ClientId,
    /// `eir_sequenceid`, to be sent with CREATE_SESSION.
    pub sequence: u32,
    /// EXCHGID4_FLAG_CONFIRMED_R.
    pub confirmed: bool,
}

/// `channel_attrs4` without the header padding and RDMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// `ca_maxrequestsize`
    pub request: u32,
    /// `ca_maxresponsesize`
    pub response: u32,
    /// `ca_maxresponsesize_cached`
    pub response_cached: u32,
    /// `ca_maxoperations`
    pub operations: u32,
    /// `ca_maxrequests`
    pub slots: u32,
}

/// CREATE_SESSION.
#[derive(Clone, Copy, Debug)]
pub struct CreateSession {
    /// `csa_clientid`
    pub client: ClientId,
    /// `csa_sequence`
    pub sequence: u32,
    /// `csa_fore_chan_attrs` as asked for.
    pub fore: Channel,
    /// Who asks.
    pub principal: Principal,
    /// The connection, which is bound to the new session.
    pub connection: u64,
}

/// The answer to CREATE_SESSION; the same again for a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// `csr_sessionid`
    pub session: SessionId,
    /// `csr_sequence`
    pub sequence: u32,
    /// What was granted.
    pub fore: Channel,
}

/// SEQUENCE.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// `sa_sessionid`
    pub session: SessionId,
    /// `sa_sequenceid`
    pub sequence: u32,
    /// `sa_slotid`
    pub slot: u32,
    /// `sa_highest_slotid`
    pub highest_slot: u32,
    /// `sa_cachethis`
    pub cache_this: bool,
    /// The connection it came over; it is bound to the session from now on.
    pub connection: u64,
    /// A hash of the whole compound, to tell a retry from another request under the same number.
    pub fingerprint: u64,
}

/// `SEQUENCE4resok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceResult {
    /// As asked.
    pub session: SessionId,
    /// As asked.
    pub sequence: u32,
    /// As asked.
    pub slot: u32,
    /// `sr_highest_slotid`
    pub highest_slot: u32,
    /// `sr_target_highest_slotid`
    pub target_highest_slot: u32,
    /// `SEQ4_STATUS_*`
    pub flags: u32,
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
    pub fn finish(self, answer: impl FnOnce() -> Bytes) {
        todo!()
    }
}

/// OPEN of an existing file.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The client.
    pub client: ClientId,
    /// `open_owner4.owner`
    pub owner: &'a [u8],
    /// The file.
    pub file: FileId,
    /// `OPEN4_SHARE_ACCESS_*`: 1 read, 2 write, 3 both. Callers refuse write before.
    pub access: u32,
    /// `OPEN4_SHARE_DENY_*`: 0 none, 1 read, 2 write, 3 both.
    pub deny: u32,
    /// CLAIM_PREVIOUS.
    pub reclaim: bool,
}

/// Whether a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// READ_LT, READW_LT.
    Read,
    /// WRITE_LT, WRITEW_LT.
    Write,
}

/// Bytes from `offset`; `length` is u64::MAX for all that follows. Checked by the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    /// The first byte.
    pub offset: u64,
    /// How many; 0 is NFS4ERR_INVAL.
    pub length: u64,
}

/// Whose lock it is to be.
#[derive(Clone, Copy, Debug)]
pub enum Locker<'a> {
    /// `open_to_lock_owner4`: the open, and the lock-owner.
    New(Stateid, &'a [u8]),
    /// `exist_lock_owner4`.
    Existing(Stateid),
}

/// LOCK.
#[derive(Clone, Copy, Debug)]
pub struct Lock<'a> {
    /// The client.
    pub client: ClientId,
    /// The file of the current file handle.
    pub file: FileId,
    /// Whose.
    pub locker: Locker<'a>,
    /// Shared or not.
    pub kind: LockKind,
    /// Which bytes.
    pub range: LockRange,
    /// `reclaim`.
    pub reclaim: bool,
}

/// `LOCK4denied`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The lock in the way.
    pub range: LockRange,
    /// Its kind.
    pub kind: LockKind,
    /// Its client.
    pub client: ClientId,
    /// Its owner.
    pub owner: Bytes,
}

/// Why LOCK or LOCKT fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// NFS4ERR_DENIED, with what is in the way.
    Denied(Conflict),
    /// Anything else.
    Status(Status),
}

/// All clients of one server.
pub struct State {
    options: StateOptions,
}

impl State {
    /// Nobody yet. The grace period begins at `now` when there are survivors.
    pub fn new(options: StateOptions, now: Instant) -> Arc<Self> {
        let _ = now;
        Arc::new(Self { options })
    }
    /// Seconds of a lease, for the attribute.
    pub fn lease(&self) -> Duration {
        self.options.lease
    }
    /// EXCHANGE_ID, RFC 8881 section 18.35.4: all its cases.
    pub fn exchange_id(&self, request: ExchangeId<'_>, now: Instant) -> Result<Exchanged, Status> {
        todo!()
    }
    /// CREATE_SESSION, section 18.36; confirms the client, and answers a replay with the first answer.
    pub async fn create_session(&self, request: CreateSession, now: Instant) -> Result<Created, Status> {
        todo!()
    }
    /// DESTROY_SESSION, section 18.37. `inside` is the session of the SEQUENCE before it in the compound.
    pub fn destroy_session(
        &self,
        session: SessionId,
        inside: Option<&Turn>,
        connection: u64,
        now: Instant,
    ) -> Result<(), Status> {
        todo!()
    }
    /// BIND_CONN_TO_SESSION, section 18.34.
    pub fn bind_connection(&self, session: SessionId, connection: u64, now: Instant) -> Result<(), Status> {
        todo!()
    }
    /// DESTROY_CLIENTID, section 18.50. `inside` is the client of the SEQUENCE before it.
    pub async fn destroy_client(
        &self,
        client: ClientId,
        inside: Option<ClientId>,
        now: Instant,
    ) -> Result<(), Status> {
        todo!()
    }
    /// SEQUENCE, section 18.46; renews the lease.
    pub fn sequence(self: &Arc<Self>, request: Sequence, now: Instant) -> Result<Sequenced, Status> {
        todo!()
    }
    /// RECLAIM_COMPLETE, section 18.51.
    pub async fn reclaim_complete(&self, client: ClientId, one_fs: bool, now: Instant) -> Result<(), Status> {
        todo!()
    }
    /// The state part of OPEN; `opened` is called under no lock.
    pub async fn open(&self, request: Open<'_>, now: Instant) -> Result<Stateid, Status> {
        todo!()
    }
    /// OPEN_DOWNGRADE.
    pub fn open_downgrade(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        todo!()
    }
    /// CLOSE.
    pub fn close(&self, client: ClientId, file: FileId, stateid: Stateid) -> Result<Stateid, Status> {
        todo!()
    }
    /// Whether READ of `file` may go on under a stateid of OPEN or LOCK.
    pub fn may_read(&self, client: ClientId, file: FileId, stateid: Stateid) -> Result<(), Status> {
        todo!()
    }
    /// The same under the anonymous stateid: a deny-read share is NFS4ERR_LOCKED. Bypass passes unless denied too.
    pub fn may_read_anonymously(&self, file: FileId, bypass: bool) -> Result<(), Status> {
        todo!()
    }
    /// LOCK.
    pub fn lock(&self, request: Lock<'_>, now: Instant) -> Result<Stateid, LockError> {
        todo!()
    }
    /// LOCKT.
    pub fn lock_test(
        &self,
        client: ClientId,
        file: FileId,
        owner: &[u8],
        kind: LockKind,
        range: LockRange,
        now: Instant,
    ) -> Result<(), LockError> {
        todo!()
    }
    /// LOCKU.
    pub fn unlock(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
        range: LockRange,
    ) -> Result<Stateid, Status> {
        todo!()
    }
    /// FREE_STATEID.
    pub fn free_stateid(&self, client: ClientId, stateid: Stateid) -> Result<(), Status> {
        todo!()
    }
    /// TEST_STATEID, of one.
    pub fn test_stateid(&self, client: ClientId, stateid: Stateid) -> Status {
        todo!()
    }
}
