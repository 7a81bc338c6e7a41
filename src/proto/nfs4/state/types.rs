//! What goes in and out of the state: requests, answers, limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::proto::nfs4::status::Status;
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

/// One change of a [`Journal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The client with this owner holds state.
    Add([u8; 32]),
    /// It does no more, or may not reclaim it.
    Remove([u8; 32]),
}

/// What must outlive a restart: the owners of clients that may reclaim, each a digest of `co_ownerid` and
/// of the principal.
pub trait Journal: Send + Sync + 'static {
    /// Makes it durable that the client with this owner holds state, before anyone relies on it.
    fn add(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>>;
    /// Makes it durable that it does no more.
    fn remove(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>>;
    /// Makes many changes durable, in their order; a failure may leave any first part of them.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async move {
            for change in changes {
                match change {
                    Change::Add(owner) => self.add(owner).await?,
                    Change::Remove(owner) => self.remove(owner).await?,
                }
            }
            Ok(())
        })
    }
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

impl Default for StateLimits {
    /// Room for a few thousand clients in some hundred megabytes.
    fn default() -> Self {
        Self {
            clients: 4096,
            sessions: 4096,
            slots: 64,
            opens: 200_000,
            locks: 200_000,
            request: 1 << 20,
            response: 1 << 20,
            response_cached: 8192,
            operations: 64,
        }
    }
}

/// What a [`State`](super::State) is made of.
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
    /// Bytes of the request with its RPC header: over `ca_maxrequestsize` it is NFS4ERR_REQ_TOO_BIG.
    pub request: u32,
    /// Operations of the compound: over `ca_maxoperations` it is NFS4ERR_TOO_MANY_OPS.
    pub operations: u32,
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
