//! LOCK, LOCKT and LOCKU: byte-range locks, RFC 8881 section 9.1. They are advisory: READ asks none.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::account::{Place, Resource};
use super::core::{Client, Core, Entry, Held, LockOwner, LockState, MAX_OWNER, Other, weight};
use super::pending::Step;
use super::ranges::{Ranges, Span};
use super::{ClientId, Conflict, FileId, Lock, LockError, LockKind, LockRange, Locker, State, Stateid};
use crate::proto::nfs4::status::Status;

/// Lock-owners of one file at most.
const MAX_OWNERS: usize = 1024;
/// So many are few, of one place.
const FEW_OWNERS: usize = 8;

/// Locks of one file, by lock-owner: a number, 0 for one that has none.
#[derive(Default)]
pub(super) struct FileLocks {
    owners: BTreeMap<u64, OwnerLocks>,
    /// Exclusive ranges of all owners.
    writes: usize,
}

struct OwnerLocks {
    client: ClientId,
    owner: Bytes,
    ranges: Ranges,
}

impl FileLocks {
    /// What keeps an owner from `kind` in `span`, one range of each other owner.
    fn in_the_way(&self, owner: u64, span: Span, kind: LockKind) -> impl Iterator<Item = Conflict> {
        // All of them are read locks mostly, and then a reader need not ask each.
        let any = kind == LockKind::Write || self.writes > 0;
        let others = any.then(|| self.owners.iter()).into_iter().flatten();
        let others = others.filter(move |(other, _)| **other != owner);
        others.filter_map(move |(_, locks)| {
            let (span, kind) = locks.ranges.in_the_way(span, kind)?;
            Some(Conflict { range: span.range(), kind, client: locks.client, owner: locks.owner.clone() })
        })
    }

    /// Changes the ranges of one owner; returns how many there were and are.
    fn change(&mut self, owner: u64, change: impl FnOnce(&mut Ranges)) -> (usize, usize) {
        let Some(locks) = self.owners.get_mut(&owner) else { return (0, 0) };
        let before = locks.ranges.len();
        self.writes -= locks.ranges.writes();
        change(&mut locks.ranges);
        self.writes += locks.ranges.writes();
        let after = locks.ranges.len();
        if after == 0 {
            self.owners.remove(&owner);
        }
        (before, after)
    }

    fn splits(&self, owner: u64, span: Span) -> bool {
        self.owners.get(&owner).is_some_and(|locks| locks.ranges.splits(span))
    }

    fn holds(&self, owner: u64) -> bool {
        self.owners.contains_key(&owner)
    }

    /// Unlocks all of one owner; returns how many ranges that were.
    pub(super) fn forget(&mut self, owner: u64) -> usize {
        let Some(locks) = self.owners.remove(&owner) else { return 0 };
        self.writes -= locks.ranges.writes();
        locks.ranges.len()
    }
}

impl Client {
    /// One lock stateid of this owner less.
    pub(super) fn forget_lock_owner(&mut self, owner: &Bytes) {
        if let Some(found) = self.lock_owners.get_mut(owner) {
            found.stateids -= 1;
            if found.stateids == 0 {
                self.lock_owners.remove(owner);
            }
        }
    }
}

impl State {
    /// LOCK, section 18.10.
    pub async fn lock(&self, request: Lock<'_>, now: Instant) -> Result<Stateid, LockError> {
        loop {
            let step = self.core.lock().lock(&request, now, self.durable())?;
            match step {
                Step::Granted(stateid) => return Ok(stateid),
                Step::Await(ticket) => self.settle(ticket).await.map_err(LockError::Status)?,
            }
        }
    }

    /// LOCKT, section 18.11.
    pub fn lock_test(
        &self,
        client: ClientId,
        file: FileId,
        owner: &[u8],
        kind: LockKind,
        range: LockRange,
        now: Instant,
    ) -> Result<(), LockError> {
        let mut core = self.core.lock();
        core.tick(now);
        let span = Span::new(range).map_err(LockError::Status)?;
        if owner.len() > MAX_OWNER {
            return Err(LockError::Status(Status::Inval));
        }
        if core.grace.is_on() {
            return Err(LockError::Status(Status::Grace));
        }
        let owner = core.client(client).map_err(LockError::Status)?.lock_owners.get(owner);
        let owner = owner.map_or(0, |owner| owner.id);
        core.in_the_way(file, owner, span, kind).map(|_| ()).map_err(LockError::Denied)
    }

    /// LOCKU, section 18.12.
    pub fn unlock(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
        range: LockRange,
    ) -> Result<Stateid, Status> {
        let mut core = self.core.lock();
        let owner = core.check_lock(client, file, stateid)?.owner_id;
        let span = Span::new(range)?;
        let place = core.client(client)?.place;
        let splits = core.files.get(&file).is_some_and(|file| file.locks.splits(owner, span));
        if splits && !core.make_room(place, Resource::Locks) {
            return Err(Status::Delay);
        }
        core.change_ranges(place, file, owner, |ranges| ranges.clear(span));
        Ok(core.advance(stateid.other))
    }
}

impl Core {
    fn lock(&mut self, request: &Lock<'_>, now: Instant, durable: u64) -> Result<Step, LockError> {
        self.tick(now);
        let span = Span::new(request.range).map_err(LockError::Status)?;
        let target = self.target(request).map_err(LockError::Status)?;
        let expired = self.in_the_way(request.file, target.owner_id, span, request.kind);
        let expired = expired.map_err(|conflict| match request.reclaim {
            true => LockError::Status(Status::ReclaimConflict),
            false => LockError::Denied(conflict),
        })?;
        self.give_way(expired);
        if !self.room_for_owner(request.file, target.owner_id, target.place) {
            return Err(LockError::Status(Status::Delay));
        }
        // It may take three: the stateid, and two ranges where another is split. At the limit the next one
        // is refused.
        if !self.make_room(target.place, Resource::Locks) {
            return Err(LockError::Status(Status::Delay));
        }
        if self.grace.ticket > durable {
            return Ok(Step::Await(self.grace.ticket));
        }
        self.grant(request, target, span).map(Step::Granted).map_err(LockError::Status)
    }

    /// Whether the file takes one more lock-owner: each is asked when somebody else wants a lock. The last
    /// part is for places that have few; clients past their lease give way.
    fn room_for_owner(&mut self, file: FileId, owner: u64, place: Place) -> bool {
        loop {
            let Some(found) = self.files.get(&file) else { return true };
            let owners = &found.locks.owners;
            if owners.len() < MAX_OWNERS - MAX_OWNERS / 8 || owners.contains_key(&owner) {
                return true;
            }
            let expired: HashSet<_> =
                owners.values().map(|locks| locks.client).filter(|id| self.is_expired(*id)).collect();
            if expired.is_empty() {
                let is_own = |id| self.clients.get(id).is_some_and(|client| client.place == place);
                let own = owners.values().filter(|locks| is_own(&locks.client)).count();
                return owners.len() < MAX_OWNERS && own < FEW_OWNERS;
            }
            self.give_way(expired);
        }
    }

    /// Whose lock it is to be, when that may be.
    fn target(&self, request: &Lock<'_>) -> Result<Target, Status> {
        let client = self.client(request.client)?;
        let place = client.place;
        let target = match request.locker {
            Locker::New(stateid, owner) => {
                let open = self.check_open(request.client, request.file, stateid)?;
                if owner.len() > MAX_OWNER {
                    return Err(Status::Inval);
                }
                let (owner, owner_id) = match client.lock_owners.get_key_value(owner) {
                    Some((owner, found)) => (owner.clone(), found.id),
                    None => (Bytes::copy_from_slice(owner), 0),
                };
                let known = open.locks.get(&owner_id).copied();
                Target { place, open: stateid.other, owner_id, owner, known }
            }
            Locker::Existing(stateid) => {
                let lock = self.check_lock(request.client, request.file, stateid)?;
                let owner = lock.owner.clone();
                let known = Some(stateid.other);
                Target { place, open: lock.open, owner_id: lock.owner_id, owner, known }
            }
        };
        let wanted = match request.kind {
            LockKind::Read => 1,
            LockKind::Write => 2,
        };
        match self.stateids.get(&target.open) {
            Some(Entry { held: Held::Open(open), .. }) if open.access & wanted != 0 => {}
            _ => return Err(Status::OpenMode),
        }
        self.grace.allows(client, request.reclaim)?;
        Ok(target)
    }

    /// Gives what nothing is in the way of.
    fn grant(&mut self, request: &Lock<'_>, target: Target, span: Span) -> Result<Stateid, Status> {
        let Lock { client: id, file, kind, .. } = *request;
        let Target { place, open, mut owner_id, owner, known } = target;
        if known.is_none() {
            if owner_id == 0 {
                self.owner_ids += 1;
                owner_id = self.owner_ids;
            }
            let client = self.client_mut(id)?;
            let entry = client.lock_owners.entry(owner.clone());
            entry.or_insert(LockOwner { id: owner_id, stateids: 0 }).stateids += 1;
        }
        let stateid = match known {
            Some(other) => self.advance(other),
            None => {
                let other = self.ids.other();
                let lock = LockState { open, owner_id, owner: owner.clone() };
                let (weight, held) = (weight(&owner), Held::Lock(lock));
                self.stateids.insert(other, Entry { client: id, file, seqid: 1, weight, held });
                if let Some(Entry { held: Held::Open(open), .. }) = self.stateids.get_mut(&open) {
                    open.locks.insert(owner_id, other);
                }
                self.accounts.add(place, Resource::Locks, weight);
                Stateid { seqid: 1, other }
            }
        };
        if let Some(file) = self.files.get_mut(&file) {
            let empty = || OwnerLocks { client: id, owner, ranges: Ranges::default() };
            file.locks.owners.entry(owner_id).or_insert_with(empty);
        }
        self.change_ranges(place, file, owner_id, |ranges| ranges.set(span, kind));
        Ok(stateid)
    }

    fn change_ranges(&mut self, place: Place, file: FileId, owner: u64, change: impl FnOnce(&mut Ranges)) {
        let Some(file) = self.files.get_mut(&file) else { return };
        let (before, after) = file.locks.change(owner, change);
        self.accounts.add(place, Resource::Locks, after.saturating_sub(before));
        self.accounts.remove(place, Resource::Locks, before.saturating_sub(after));
    }

    /// What is in the way of a lock; or the clients past their lease that have to give way.
    fn in_the_way(
        &self,
        file: FileId,
        owner: u64,
        span: Span,
        kind: LockKind,
    ) -> Result<HashSet<ClientId>, Conflict> {
        let mut expired = HashSet::new();
        let Some(found) = self.files.get(&file) else { return Ok(expired) };
        for conflict in found.locks.in_the_way(owner, span, kind) {
            if !self.is_expired(conflict.client) {
                return Err(conflict);
            }
            expired.insert(conflict.client);
        }
        Ok(expired)
    }

    /// FREE_STATEID of locks: what still locks something is not freed.
    pub(super) fn free_lock(
        &mut self,
        client: ClientId,
        file: FileId,
        other: Other,
        lock: &LockState,
    ) -> Result<(), Status> {
        if self.files.get(&file).is_some_and(|file| file.locks.holds(lock.owner_id)) {
            return Err(Status::LocksHeld);
        }
        let weight = self.stateids.remove(&other).map_or(0, |entry| entry.weight);
        if let Some(Entry { held: Held::Open(open), .. }) = self.stateids.get_mut(&lock.open) {
            open.locks.remove(&lock.owner_id);
        }
        let client = self.client_mut(client)?;
        client.forget_lock_owner(&lock.owner);
        let place = client.place;
        self.accounts.remove(place, Resource::Locks, weight);
        Ok(())
    }
}

/// Whose lock it is to be.
struct Target {
    place: Place,
    open: Other,
    owner_id: u64,
    owner: Bytes,
    known: Option<Other>,
}
