//! Leases, and what becomes of those who let theirs pass: RFC 8881 sections 8.3 and 8.4.3.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::account::{Place, Resource};
use super::core::{Client, Core, Entry, Held, Other};
use super::{ClientId, SessionId};

/// After so many leases without a word a client that nothing conflicts with is forgotten, too.
const LEASES_OF_COURTESY: u32 = 1000;

/// `SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED`
const ALL_STATE_REVOKED: u32 = 0x8;
/// `SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED`
const SOME_STATE_REVOKED: u32 = 0x10;

impl Core {
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
                Some(id) => {
                    self.drop_client(id, false);
                    self.grace.ticket = self.pending.ticket();
                }
                None => return false,
            }
        }
    }

    /// Revokes what clients past their lease hold, for somebody who needs it. It must be lost for good
    /// before anything new is given, whoever asks.
    pub(super) fn give_way(&mut self, clients: HashSet<ClientId>) {
        for client in clients {
            self.revoke(client);
            self.grace.ticket = self.pending.ticket();
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
        let place = client.place;
        for other in &client.revoked {
            if let Some(Entry { held: Held::Revoked(resource), weight, .. }) = self.stateids.remove(other) {
                self.accounts.remove(place, resource, weight);
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
        self.accounts.remove(client.place, Resource::Sessions, 1);
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
        let place = client.place;
        self.pending.remove(key);
        for other in opens.into_values() {
            let released = self.release(other);
            self.accounts.remove(place, Resource::Locks, released.ranges);
            for (lock, weight) in released.locks {
                self.leave_revoked(id, lock, Resource::Locks, weight);
            }
            self.leave_revoked(id, other, Resource::Opens, released.weight);
        }
    }

    fn leave_revoked(&mut self, id: ClientId, other: Other, resource: Resource, weight: usize) {
        let entry = Entry { client: id, file: 0, seqid: 0, weight, held: Held::Revoked(resource) };
        self.stateids.insert(other, entry);
        if let Some(client) = self.clients.get_mut(&id) {
            client.revoked.insert(other);
        }
    }

    /// `sr_status_flags`. All state counts as revoked until there is some again.
    pub(super) fn flags(client: &Client) -> u32 {
        match (client.revoked.is_empty(), client.opens.is_empty()) {
            (true, _) => 0,
            (false, true) => ALL_STATE_REVOKED,
            (false, false) => SOME_STATE_REVOKED,
        }
    }
}
