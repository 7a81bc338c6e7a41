//! EXCHANGE_ID, DESTROY_CLIENTID and RECLAIM_COMPLETE.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::account::{Place, Resource};
use super::core::{Client, Core, MAX_OWNER};
use super::{ClientId, ExchangeId, Exchanged, Principal, State, ids};
use crate::proto::nfs4::status::Status;

impl State {
    /// EXCHANGE_ID, RFC 8881 section 18.35.4: all its cases.
    pub fn exchange_id(&self, request: ExchangeId<'_>, now: Instant) -> Result<Exchanged, Status> {
        self.core.lock().exchange_id(&request, now)
    }

    /// DESTROY_CLIENTID, section 18.50. `inside` is the client of the SEQUENCE before it.
    pub async fn destroy_client(
        &self,
        client: ClientId,
        inside: Option<ClientId>,
        now: Instant,
    ) -> Result<(), Status> {
        let ticket = {
            let mut core = self.core.lock();
            core.tick(now);
            core.forget_the_gone();
            let found = core.clients.get(&client).ok_or(Status::StaleClientId)?;
            if inside == Some(client) || found.has_state() {
                return Err(Status::ClientIdBusy);
            }
            core.drop_client(client, false);
            core.pending.ticket()
        };
        // The client is gone either way; a name left in the journal only makes the next grace period
        // last, and is written again with the next change.
        let _ = self.settle(ticket).await;
        Ok(())
    }

    /// RECLAIM_COMPLETE, section 18.51. Of one file system it says nothing here: none ever moves.
    pub async fn reclaim_complete(&self, client: ClientId, one_fs: bool, now: Instant) -> Result<(), Status> {
        let mut core = self.core.lock();
        core.tick(now);
        let found = core.client_mut(client)?;
        if one_fs {
            return Ok(());
        }
        if found.reclaim_complete {
            return Err(Status::CompleteAlready);
        }
        found.reclaim_complete = true;
        let key = found.journal_key;
        core.grace.gone(&key);
        core.tick(now);
        Ok(())
    }
}

impl Client {
    /// Whether something would be lost with it.
    pub(super) fn has_state(&self) -> bool {
        !self.sessions.is_empty() || !self.opens.is_empty()
    }
}

/// The same caller, however its address is written.
pub(super) fn canonical(principal: Principal) -> Principal {
    Principal { address: principal.address.to_canonical(), ..principal }
}

impl Core {
    fn exchange_id(&mut self, request: &ExchangeId<'_>, now: Instant) -> Result<Exchanged, Status> {
        if request.owner.len() > MAX_OWNER {
            return Err(Status::Inval);
        }
        self.tick(now);
        self.forget_the_gone();
        let name = ids::name(request.owner);
        let records = self.records.get(&name).copied().unwrap_or_default();
        let principal = canonical(request.principal);
        let confirmed = records.confirmed.and_then(|id| self.clients.get(&id).map(|client| (id, client)));
        if let Some((id, client)) = confirmed {
            let same_verifier = client.verifier == request.verifier;
            let same_principal = client.principal == principal;
            let known = Exchanged { client: id, sequence: client.sequence.wrapping_add(1), confirmed: true };
            match (request.update, same_verifier, same_principal) {
                // Case 6: an update; nothing that is kept of a client can be.
                (true, true, true) => return Ok(known),
                // Case 8.
                (true, false, _) => return Err(Status::NotSame),
                // Case 9.
                (true, true, false) => return Err(Status::Perm),
                // Case 2: the client asks once more, and has given up starting anew.
                (false, true, true) => {
                    if let Some(unconfirmed) = records.unconfirmed {
                        self.drop_client(unconfirmed, false);
                    }
                    return Ok(known);
                }
                // Case 5: the client has restarted; what it had goes when the new record is confirmed.
                (false, false, true) => {}
                // Case 3: somebody else's name.
                (false, _, false) => {
                    if client.has_state() && !self.is_expired(id) {
                        return Err(Status::ClidInUse);
                    }
                    self.drop_client(id, false);
                }
            }
        } else if request.update {
            // Case 7.
            return Err(Status::NoEnt);
        }
        // Case 4: an unconfirmed record is replaced, whoever made it.
        if let Some(unconfirmed) = records.unconfirmed {
            self.drop_client(unconfirmed, false);
        }
        // Case 1.
        self.new_client(name, request, principal)
    }

    fn new_client(
        &mut self,
        name: super::core::Key,
        request: &ExchangeId<'_>,
        principal: Principal,
    ) -> Result<Exchanged, Status> {
        let place = Place::of(principal.address);
        if !self.room_for_client(place) {
            return Err(Status::Delay);
        }
        let client = loop {
            let id = self.ids.client();
            if id != 0 && !self.clients.contains_key(&id) {
                break id;
            }
        };
        let now = self.now;
        self.clients.insert(
            client,
            Client {
                name,
                journal_key: ids::journal_key(request.owner, principal),
                verifier: request.verifier,
                principal,
                confirmed: false,
                renewed: now,
                listed: now,
                sequence: 0,
                answer: Err(Status::SeqMisordered),
                sessions: Vec::new(),
                busy: 0,
                reclaim_complete: false,
                opens: HashMap::new(),
                lock_owners: HashMap::new(),
                revoked: HashSet::new(),
            },
        );
        self.records.entry(name).or_default().unconfirmed = Some(client);
        self.unconfirmed.insert((now, client));
        self.unconfirmed_of.entry(place).or_default().insert((now, client));
        self.accounts.add(place, Resource::Clients, 1);
        Ok(Exchanged { client, sequence: 1, confirmed: false })
    }

    /// Makes room for one more record: those past their lease give way, then unconfirmed ones, of the
    /// same place first, so that asking for many takes nothing from others.
    fn room_for_client(&mut self, place: Place) -> bool {
        let limit = self.limits.clients;
        loop {
            if self.make_room(place, Resource::Clients) {
                return true;
            }
            if self.drop_unconfirmed_of(place) {
                continue;
            }
            let Some(&(_, oldest)) = self.unconfirmed.first() else { return false };
            if !self.accounts.is_modest(place, Resource::Clients, limit) {
                return false;
            }
            self.drop_client(oldest, false);
        }
    }

    fn drop_unconfirmed_of(&mut self, place: Place) -> bool {
        let oldest = self.unconfirmed_of.get(&place).and_then(|own| own.first().copied());
        if let Some((_, oldest)) = oldest {
            self.drop_client(oldest, false);
        }
        oldest.is_some()
    }
}
