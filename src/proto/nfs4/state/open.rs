//! OPEN, OPEN_DOWNGRADE and CLOSE with their share reservations (RFC 8881 section 9.7), and what a
//! stateid lets one read.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::account::{Place, Resource};
use super::core::{Core, Entry, Held, MAX_OWNER, OpenState, Other, weight};
use super::pending::Step;
use super::{ClientId, FileId, Open, State, Stateid};
use crate::proto::nfs4::status::Status;

const READ: u32 = 1;
const BOTH: u32 = 3;

/// What CLOSE returns, which nothing accepts (section 18.2.4).
const INVALID: Stateid = Stateid { seqid: u32::MAX, other: [0; 12] };

impl State {
    /// The state part of OPEN. The client's name is in the journal before anything is given, so that a
    /// failure leaves nothing to take back.
    pub async fn open(&self, request: Open<'_>, now: Instant) -> Result<Stateid, Status> {
        loop {
            let step = self.core.lock().open(&request, now, self.durable())?;
            match step {
                Step::Granted(stateid) => return Ok(stateid),
                Step::Await(ticket) => self.settle(ticket).await?,
            }
        }
    }

    /// OPEN_DOWNGRADE, section 18.18.
    pub fn open_downgrade(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        self.core.lock().open_downgrade(client, file, stateid, access, deny)
    }

    /// CLOSE, section 18.2; the locks under the open go with it.
    pub fn close(&self, client: ClientId, file: FileId, stateid: Stateid) -> Result<Stateid, Status> {
        self.core.lock().close(client, file, stateid)
    }

    /// Whether READ of `file` may go on under a stateid of OPEN or LOCK.
    pub fn may_read(&self, client: ClientId, file: FileId, stateid: Stateid) -> Result<(), Status> {
        let core = self.core.lock();
        let entry = core.check(client, stateid)?;
        let open = match &entry.held {
            _ if entry.file != file => None,
            Held::Open(open) => Some(open),
            Held::Lock(lock) => match core.stateids.get(&lock.open) {
                Some(Entry { held: Held::Open(open), .. }) => Some(open),
                _ => None,
            },
            Held::Revoked(_) => None,
        };
        match open.ok_or(Status::BadStateid)?.access & READ {
            0 => Err(Status::OpenMode),
            // No other open denies what this one has.
            _ => Ok(()),
        }
    }

    /// The same under the anonymous stateid: a deny-read share is NFS4ERR_LOCKED, and one may yet be
    /// reclaimed in the grace period. The bypass stateid passes both, as section 8.2.3 has it for READ.
    pub fn may_read_anonymously(&self, file: FileId, bypass: bool) -> Result<(), Status> {
        if bypass {
            return Ok(());
        }
        let mut core = self.core.lock();
        if core.grace.is_on() {
            return Err(Status::Grace);
        }
        match core.yield_shares(file, None, READ, 0) {
            true => Ok(()),
            false => Err(Status::Locked),
        }
    }

    /// FREE_STATEID, section 18.38.
    pub fn free_stateid(&self, client: ClientId, stateid: Stateid) -> Result<(), Status> {
        self.core.lock().free_stateid(client, stateid)
    }

    /// TEST_STATEID, section 18.48, of one.
    pub fn test_stateid(&self, client: ClientId, stateid: Stateid) -> Status {
        match self.core.lock().check(client, stateid) {
            Ok(_) => Status::Ok,
            Err(status) => status,
        }
    }
}

/// The bit of a pair of access and deny in [`OpenState::asked`].
fn pair(access: u32, deny: u32) -> u16 {
    1 << (access * 4 + deny)
}

/// All pairs of `asked` that lie within `access` and `deny`.
fn within(asked: u16, access: u32, deny: u32) -> impl Iterator<Item = (u32, u32)> {
    let pairs = (1..=BOTH).flat_map(|access| (0..=BOTH).map(move |deny| (access, deny)));
    pairs.filter(move |&(a, d)| asked & pair(a, d) != 0 && a & !access == 0 && d & !deny == 0)
}

impl Core {
    fn open(&mut self, request: &Open<'_>, now: Instant, durable: u64) -> Result<Step, Status> {
        self.tick(now);
        let Open { client: id, owner, file, access, deny, reclaim } = *request;
        if !(1..=BOTH).contains(&access) || deny > BOTH || owner.len() > MAX_OWNER {
            return Err(Status::Inval);
        }
        let client = self.client(id)?;
        self.grace.allows(client, reclaim)?;
        let (key, place) = (client.journal_key, client.place);
        // The journal takes nothing, and those who come and go leave ever more to write.
        if self.pending.len() > self.limits.clients.saturating_mul(4) {
            return Err(Status::Io);
        }
        let name = (Bytes::copy_from_slice(owner), file);
        let known = client.opens.get(&name).copied();
        if !self.yield_shares(file, known, access, deny) {
            return Err(if reclaim { Status::ReclaimConflict } else { Status::ShareDenied });
        }
        if known.is_none() && !self.make_room(place, Resource::Opens) {
            return Err(Status::NoSpc);
        }
        let ticket = self.pending.add(key).max(self.grace.ticket);
        if ticket > durable {
            return Ok(Step::Await(ticket));
        }
        Ok(Step::Granted(match known {
            Some(other) => {
                self.widen(other, file, access, deny);
                self.advance(other)
            }
            None => self.new_open(request, name, place)?,
        }))
    }

    fn new_open(
        &mut self,
        request: &Open<'_>,
        name: (Bytes, FileId),
        place: Place,
    ) -> Result<Stateid, Status> {
        let Open { client, file, access, deny, .. } = *request;
        let other = self.ids.other();
        let asked = pair(access, deny);
        let open = OpenState { owner: name.0.clone(), access, deny, asked, locks: BTreeMap::new() };
        self.client_mut(client)?.opens.insert(name, other);
        let weight = weight(&open.owner);
        self.stateids.insert(other, Entry { client, file, seqid: 1, weight, held: Held::Open(open) });
        let found = self.files.entry(file).or_default();
        found.opens.insert(other);
        found.count(access, deny, |count| *count += 1);
        self.accounts.add(place, Resource::Opens, weight);
        Ok(Stateid { seqid: 1, other })
    }

    /// One more OPEN by the same owner: the union of both (section 18.16.3).
    fn widen(&mut self, other: Other, file: FileId, access: u32, deny: u32) {
        let Some(Entry { held: Held::Open(open), .. }) = self.stateids.get_mut(&other) else { return };
        let Some(file) = self.files.get_mut(&file) else { return };
        open.asked |= pair(access, deny);
        file.count(access & !open.access, deny & !open.deny, |count| *count += 1);
        open.access |= access;
        open.deny |= deny;
    }

    /// Whether an open with `access` and `deny` may be, beside all but the owner's `own`. Opens of
    /// clients past their lease give way, when nothing else is in the way.
    fn yield_shares(&mut self, file: FileId, own: Option<Other>, access: u32, deny: u32) -> bool {
        let Some(found) = self.files.get(&file) else { return true };
        let (own_access, own_deny) = own
            .and_then(|own| self.stateids.get(&own))
            .and_then(|entry| match &entry.held {
                Held::Open(open) => Some((open.access, open.deny)),
                Held::Lock(_) | Held::Revoked(_) => None,
            })
            .unwrap_or_default();
        let others = |count: usize, own: u32, bit: u32| count > usize::from(own & bit != 0);
        let clash = (access & 1 != 0 && others(found.deny_read, own_deny, 1))
            || (access & 2 != 0 && others(found.deny_write, own_deny, 2))
            || (deny & 1 != 0 && others(found.readers, own_access, 1))
            || (deny & 2 != 0 && others(found.writers, own_access, 2));
        if !clash {
            return true;
        }
        let mut expired = HashSet::new();
        for other in found.opens.iter().filter(|other| own != Some(**other)) {
            let Some(Entry { client, held: Held::Open(open), .. }) = self.stateids.get(other) else {
                continue;
            };
            if access & open.deny == 0 && deny & open.access == 0 {
                continue;
            }
            if !self.is_expired(*client) {
                return false;
            }
            expired.insert(*client);
        }
        self.give_way(expired);
        true
    }

    fn open_downgrade(
        &mut self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        let open = self.check_open(client, file, stateid)?;
        if !(1..=BOTH).contains(&access) || deny > BOTH {
            return Err(Status::Inval);
        }
        // Exactly the union of some of the opens in effect.
        let union = within(open.asked, access, deny).fold((0, 0), |(a, d), pair| (a | pair.0, d | pair.1));
        if union != (access, deny) {
            return Err(Status::Inval);
        }
        if let Some(Entry { held: Held::Open(open), .. }) = self.stateids.get_mut(&stateid.other)
            && let Some(file) = self.files.get_mut(&file)
        {
            file.count(open.access & !access, open.deny & !deny, |count| *count -= 1);
            open.asked = within(open.asked, access, deny).fold(0, |asked, (a, d)| asked | pair(a, d));
            open.access = access;
            open.deny = deny;
        }
        Ok(self.advance(stateid.other))
    }

    fn close(&mut self, client: ClientId, file: FileId, stateid: Stateid) -> Result<Stateid, Status> {
        let owner = self.check_open(client, file, stateid)?.owner.clone();
        let released = self.release(stateid.other);
        let found = self.client_mut(client)?;
        found.opens.remove(&(owner, file));
        for owner in &released.owners {
            found.forget_lock_owner(owner);
        }
        let place = found.place;
        let locks: usize = released.locks.iter().map(|(_, weight)| weight).sum();
        self.accounts.remove(place, Resource::Opens, released.weight);
        self.accounts.remove(place, Resource::Locks, locks + released.ranges);
        Ok(INVALID)
    }

    fn free_stateid(&mut self, client: ClientId, stateid: Stateid) -> Result<(), Status> {
        match self.check(client, stateid) {
            Ok(Entry { held: Held::Lock(lock), file, .. }) => {
                let (lock, file) = (lock.clone(), *file);
                self.free_lock(client, file, stateid.other, &lock)
            }
            Ok(_) => Err(Status::LocksHeld),
            Err(Status::Expired) => {
                let entry = self.stateids.remove(&stateid.other);
                let found = self.client_mut(client)?;
                found.revoked.remove(&stateid.other);
                let place = found.place;
                if let Some(Entry { held: Held::Revoked(resource), weight, .. }) = entry {
                    self.accounts.remove(place, resource, weight);
                }
                Ok(())
            }
            Err(status) => Err(status),
        }
    }
}
