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
use super::{ClientId, Created, FileId, Principal, SessionId, StateLimits, StateOptions, Stateid, Verifier};
use crate::proto::nfs4::status::Status;

/// A digest.
pub(super) type Key = [u8; 32];
/// `other` of a stateid.
pub(super) type Other = [u8; 12];

/// `NFS4_OPAQUE_LIMIT`: bytes of an owner.
pub(super) const MAX_OWNER: usize = 1024;
/// After so many leases without a word a client that nothing conflicts with is forgotten, too.
const LEASES_OF_COURTESY: u32 = 1000;

/// `SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED`
const ALL_STATE_REVOKED: u32 = 0x8;
/// `SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED`
const SOME_STATE_REVOKED: u32 = 0x10;

/// One client: the record of RFC 8881 section 18.35.4.
pub(super) struct Client {
    /// Digest of `co_ownerid`.
    pub(super) name: Key,
    /// What the journal knows it by.
    pub(super) journal_key: Key,
    pub(super) verifier: Verifier,
    pub(super) principal: Principal,
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

/// Records of one `co_ownerid`.
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

    /// Takes note of the time; the grace period ends by it.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Some(absent) = self.grace.ends(self.now) {
            // Others get what these held: they must not reclaim it after the next restart.
            for (key, client) in absent {
                let holds = client
                    .and_then(|id| self.clients.get(&id))
                    .is_some_and(|client| !client.opens.is_empty());
                if !holds {
                    self.pending.remove(key);
                }
            }
            self.grace.ticket = self.pending.ticket();
        }
    }

    pub(super) fn client(&self, id: ClientId) -> Result<&Client, Status> {
        self.clients.get(&id).ok_or(Status::DeadSession)
    }

    pub(super) fn client_mut(&mut self, id: ClientId) -> Result<&mut Client, Status> {
        self.clients.get_mut(&id).ok_or(Status::DeadSession)
    }

    /// Whether a client is past its lease, and holds what it holds by courtesy alone.
    pub(super) fn is_expired(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| {
            client.busy == 0 && self.now.saturating_duration_since(client.renewed) > self.lease
        })
    }

    /// The client that is past its lease for longest.
    fn longest_expired(&mut self, past: Duration) -> Option<ClientId> {
        loop {
            let &(listed, id) = self.leases.first()?;
            if self.now.saturating_duration_since(listed) <= past {
                return None;
            }
            let Some(client) = self.clients.get_mut(&id) else {
                self.leases.remove(&(listed, id));
                continue;
            };
            let actual = if client.busy > 0 { self.now } else { client.renewed };
            if actual <= listed {
                return Some(id);
            }
            client.listed = actual;
            self.leases.remove(&(listed, id));
            self.leases.insert((actual, id));
        }
    }

    /// Forgets unconfirmed records past a lease (section 18.35.4) and clients long gone.
    pub(super) fn forget_the_gone(&mut self) {
        while let Some(&(since, id)) = self.unconfirmed.first()
            && self.now.saturating_duration_since(since) > self.lease
        {
            self.drop_client(id, false);
        }
        while let Some(id) = self.longest_expired(self.lease.saturating_mul(LEASES_OF_COURTESY)) {
            self.drop_client(id, false);
        }
    }

    /// Whether `place` may have one more; those past their lease give way for it.
    pub(super) fn make_room(&mut self, place: Place, resource: Resource) -> bool {
        let limit = match resource {
            Resource::Clients => self.limits.clients,
            Resource::Sessions => self.limits.sessions,
            Resource::Opens => self.limits.opens,
            Resource::Locks => self.limits.locks,
        };
        loop {
            if self.accounts.has_room(place, resource, limit) {
                return true;
            }
            match self.longest_expired(self.lease) {
                Some(id) => self.drop_client(id, false),
                None => return false,
            }
        }
    }

    /// Ends a client with all it has. The journal is told unless the same client goes on under another
    /// id.
    pub(super) fn drop_client(&mut self, id: ClientId, goes_on: bool) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let sessions = std::mem::take(&mut client.sessions);
        for session in sessions {
            self.drop_session(session);
        }
        self.revoke(id);
        let Some(client) = self.clients.remove(&id) else { return };
        let place = Place::of(client.principal.address);
        for other in &client.revoked {
            if let Some(Entry { held: Held::Revoked(resource), .. }) = self.stateids.remove(other) {
                self.accounts.remove(place, resource, 1);
            }
        }
        self.accounts.remove(place, Resource::Clients, 1);
        self.leases.remove(&(client.listed, id));
        self.forget_unconfirmed(place, client.listed, id);
        if let Some(records) = self.records.get_mut(&client.name) {
            for record in [&mut records.confirmed, &mut records.unconfirmed] {
                if *record == Some(id) {
                    *record = None;
                }
            }
            if records.confirmed.is_none() && records.unconfirmed.is_none() {
                self.records.remove(&client.name);
            }
        }
        if client.confirmed && !goes_on {
            self.grace.gone(&client.journal_key);
            self.pending.remove(client.journal_key);
        }
    }

    /// A record is confirmed, or no more.
    pub(super) fn forget_unconfirmed(&mut self, place: Place, since: Instant, id: ClientId) {
        self.unconfirmed.remove(&(since, id));
        if let Some(own) = self.unconfirmed_of.get_mut(&place) {
            own.remove(&(since, id));
            if own.is_empty() {
                self.unconfirmed_of.remove(&place);
            }
        }
    }

    pub(super) fn drop_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.replies.forget(session.kept());
        let Some(client) = self.clients.get_mut(&session.client) else { return };
        client.sessions.retain(|other| *other != id);
        client.busy = client.busy.saturating_sub(session.busy);
        self.accounts.remove(Place::of(client.principal.address), Resource::Sessions, 1);
    }

    /// Takes all opens and locks away from a client whose lease has passed. It may not reclaim them
    /// after a restart, either (section 8.4.3).
    pub(super) fn revoke(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let opens = std::mem::take(&mut client.opens);
        client.lock_owners.clear();
        if opens.is_empty() {
            return;
        }
        let key = client.journal_key;
        let place = Place::of(client.principal.address);
        self.pending.remove(key);
        for other in opens.into_values() {
            let released = self.release(other);
            self.accounts.remove(place, Resource::Locks, released.ranges);
            for lock in released.locks {
                self.leave_revoked(id, lock, Resource::Locks);
            }
            self.leave_revoked(id, other, Resource::Opens);
        }
    }

    fn leave_revoked(&mut self, id: ClientId, other: Other, resource: Resource) {
        let entry = Entry { client: id, file: 0, seqid: 0, held: Held::Revoked(resource) };
        self.stateids.insert(other, entry);
        if let Some(client) = self.clients.get_mut(&id) {
            client.revoked.insert(other);
        }
    }

    /// Takes an open out of the tables, with the locks under it. The client and the accounts are the
    /// caller's to bring up to date.
    pub(super) fn release(&mut self, other: Other) -> Released {
        let mut released = Released::default();
        let Some(entry) = self.stateids.remove(&other) else { return released };
        let Held::Open(open) = entry.held else { return released };
        let Some(file) = self.files.get_mut(&entry.file) else { return released };
        file.opens.remove(&other);
        file.count(open.access, open.deny, |count| *count -= 1);
        for (owner, lock) in open.locks {
            released.ranges += file.locks.forget(owner);
            if let Some(Entry { held: Held::Lock(state), .. }) = self.stateids.remove(&lock) {
                released.owners.push(state.owner);
            }
            released.locks.push(lock);
        }
        if file.opens.is_empty() {
            self.files.remove(&entry.file);
        }
        released
    }

    /// `sr_status_flags`. All state counts as revoked until there is some again.
    pub(super) fn flags(client: &Client) -> u32 {
        match (client.revoked.is_empty(), client.opens.is_empty()) {
            (true, _) => 0,
            (false, true) => ALL_STATE_REVOKED,
            (false, false) => SOME_STATE_REVOKED,
        }
    }

    /// What a stateid stands for, by the rules of section 8.2.4. One of another client is as good as
    /// none. Of an earlier instance there are none: its sessions are gone, and NFS4ERR_STALE_STATEID is
    /// obsolete (section 15.1.16).
    pub(super) fn check(&self, client: ClientId, stateid: Stateid) -> Result<&Entry, Status> {
        let entry = self.stateids.get(&stateid.other).filter(|entry| entry.client == client);
        let entry = entry.ok_or(Status::BadStateid)?;
        if matches!(entry.held, Held::Revoked(_)) {
            return Err(Status::Expired);
        }
        match stateid.seqid {
            0 => Ok(entry),
            seqid if seqid == entry.seqid => Ok(entry),
            // The numbers wrap.
            seqid if seqid.wrapping_sub(entry.seqid) < 1 << 31 => Err(Status::BadStateid),
            _ => Err(Status::OldStateid),
        }
    }

    /// The same, of an open of this file.
    pub(super) fn check_open(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
    ) -> Result<&OpenState, Status> {
        match self.check(client, stateid)? {
            Entry { file: of, held: Held::Open(open), .. } if *of == file => Ok(open),
            _ => Err(Status::BadStateid),
        }
    }

    /// The same, of locks in this file.
    pub(super) fn check_lock(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
    ) -> Result<&LockState, Status> {
        match self.check(client, stateid)? {
            Entry { file: of, held: Held::Lock(lock), .. } if *of == file => Ok(lock),
            _ => Err(Status::BadStateid),
        }
    }

    /// The next `seqid` of a stateid; 0 is left out, it stands for the newest (section 8.2.2).
    pub(super) fn advance(&mut self, other: Other) -> Stateid {
        let seqid = self.stateids.get_mut(&other).map_or(1, |entry| {
            entry.seqid = entry.seqid.checked_add(1).unwrap_or(1);
            entry.seqid
        });
        Stateid { seqid, other }
    }
}

/// What went with an open.
#[derive(Default)]
pub(super) struct Released {
    /// Lock stateids.
    pub(super) locks: Vec<Other>,
    /// Whose they were.
    pub(super) owners: Vec<Bytes>,
    /// How many ranges were locked.
    pub(super) ranges: usize,
}
