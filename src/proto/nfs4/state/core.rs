//! All that is known, behind the one lock: the tables, and what goes through several of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::account::{Accounts, Place, Resource};
use super::grace::Grace;
use super::ids::Ids;
use super::lock::FileLocks;
use super::pending::Pending;
use super::slot::{Replies, Session};
use super::{ClientId, Created, FileId, SessionId, StateLimits, StateOptions, Verifier};
use crate::proto::nfs4::status::Status;

/// A digest.
pub(super) type Key = [u8; 32];
/// `other` of a stateid.
pub(super) type Other = [u8; 12];

/// `NFS4_OPAQUE_LIMIT`: bytes of an owner.
pub(super) const MAX_OWNER: usize = 1024;
/// One client: the record of RFC 8881 section 18.35.4.
pub(super) struct Client {
    /// Digest of `co_ownerid` and the place.
    pub(super) name: Key,
    /// What the journal knows it by.
    pub(super) journal_key: Key,
    pub(super) verifier: Verifier,
    /// The principal.
    pub(super) place: Place,
    pub(super) uid: Option<u32>,
    pub(super) confirmed: bool,
    pub(super) renewed: Instant,
    /// Under which time it stands in the order of leases; never later than `renewed`.
    pub(super) listed: Instant,
    /// `csa_sequence` of the CREATE_SESSION answered last.
    pub(super) sequence: u32,
    /// Its answer; before the first one the contrived NFS4ERR_SEQ_MISORDERED.
    pub(super) answer: Result<Created, Status>,
    pub(super) sessions: Vec<SessionId>,
    /// Requests that run.
    pub(super) busy: usize,
    pub(super) reclaim_complete: bool,
    /// By open-owner and file.
    pub(super) opens: HashMap<(Bytes, FileId), Other>,
    pub(super) lock_owners: HashMap<Bytes, LockOwner>,
    /// Stateids that were revoked and are not yet freed.
    pub(super) revoked: HashSet<Other>,
}

/// A lock-owner that has lock stateids.
pub(super) struct LockOwner {
    pub(super) id: u64,
    pub(super) stateids: usize,
}

/// Records of one `co_ownerid` of one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Records {
    pub(super) confirmed: Option<ClientId>,
    pub(super) unconfirmed: Option<ClientId>,
}

/// What a stateid stands for.
pub(super) struct Entry {
    pub(super) client: ClientId,
    pub(super) file: FileId,
    pub(super) seqid: u32,
    /// How much it counts for.
    pub(super) weight: usize,
    pub(super) held: Held,
}

pub(super) enum Held {
    Open(OpenState),
    Lock(LockState),
    /// Taken away after the lease; counted until the client frees it.
    Revoked(Resource),
}

/// What an open-owner has open of a file.
#[derive(Clone)]
pub(super) struct OpenState {
    pub(super) owner: Bytes,
    pub(super) access: u32,
    pub(super) deny: u32,
    /// Pairs of access and deny that OPEN asked for and OPEN_DOWNGRADE has not dropped: bit
    /// `access * 4 + deny`.
    pub(super) asked: u16,
    /// Lock stateids made from this one, by lock-owner.
    pub(super) locks: BTreeMap<u64, Other>,
}

#[derive(Clone)]
pub(super) struct LockState {
    pub(super) open: Other,
    pub(super) owner_id: u64,
    pub(super) owner: Bytes,
}

/// How much a stateid of this owner counts for: long owners take the room of several.
pub(super) fn weight(owner: &[u8]) -> usize {
    1 + owner.len() / 128
}

/// What is open and locked of a file.
#[derive(Default)]
pub(super) struct File {
    pub(super) opens: HashSet<Other>,
    pub(super) readers: usize,
    pub(super) writers: usize,
    pub(super) deny_read: usize,
    pub(super) deny_write: usize,
    pub(super) locks: FileLocks,
}

impl File {
    /// Counts an open in or out.
    pub(super) fn count(&mut self, access: u32, deny: u32, change: impl Fn(&mut usize)) {
        for (bits, bit, counter) in [
            (access, 1, &mut self.readers),
            (access, 2, &mut self.writers),
            (deny, 1, &mut self.deny_read),
            (deny, 2, &mut self.deny_write),
        ] {
            if bits & bit != 0 {
                change(counter);
            }
        }
    }
}

pub(super) struct Core {
    pub(super) limits: StateLimits,
    pub(super) lease: Duration,
    /// The latest time that anybody told.
    pub(super) now: Instant,
    pub(super) ids: Ids,
    pub(super) owner_ids: u64,
    pub(super) clients: HashMap<ClientId, Client>,
    pub(super) records: HashMap<Key, Records>,
    /// The unconfirmed, oldest first, and the same for each place.
    pub(super) unconfirmed: BTreeSet<(Instant, ClientId)>,
    pub(super) unconfirmed_of: HashMap<Place, BTreeSet<(Instant, ClientId)>>,
    /// The confirmed, by when their lease was renewed or earlier: brought up to date when looked at, so
    /// that SEQUENCE need not.
    pub(super) leases: BTreeSet<(Instant, ClientId)>,
    pub(super) sessions: HashMap<SessionId, Session>,
    pub(super) stateids: HashMap<Other, Entry>,
    pub(super) files: HashMap<FileId, File>,
    pub(super) accounts: Accounts,
    pub(super) replies: Replies,
    pub(super) grace: Grace,
    pub(super) pending: Pending,
}

impl Core {
    pub(super) fn new(options: &StateOptions, now: Instant) -> Self {
        Self {
            limits: options.limits.clone(),
            lease: options.lease,
            now,
            ids: Ids::new(&options.secret),
            owner_ids: 0,
            clients: HashMap::new(),
            records: HashMap::new(),
            unconfirmed: BTreeSet::new(),
            unconfirmed_of: HashMap::new(),
            leases: BTreeSet::new(),
            sessions: HashMap::new(),
            stateids: HashMap::new(),
            files: HashMap::new(),
            accounts: Accounts::default(),
            replies: Replies::default(),
            grace: Grace::new(&options.survivors, now + options.lease),
            pending: Pending::new(&options.survivors),
        }
    }

    pub(super) fn client(&self, id: ClientId) -> Result<&Client, Status> {
        self.clients.get(&id).ok_or(Status::DeadSession)
    }

    pub(super) fn client_mut(&mut self, id: ClientId) -> Result<&mut Client, Status> {
        self.clients.get_mut(&id).ok_or(Status::DeadSession)
    }
}
