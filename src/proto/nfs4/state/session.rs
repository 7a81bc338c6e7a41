//! CREATE_SESSION, BIND_CONN_TO_SESSION and DESTROY_SESSION.

use std::time::Instant;

use super::account::{Place, Resource};
use super::core::Core;
use super::slot::Session;
use super::{Channel, CreateSession, Created, SessionId, State, StateLimits, Turn};
use crate::proto::nfs4::status::Status;

/// Sessions of one client. It takes one, or one a processor; what it takes more is others'.
const SESSIONS_OF_ONE: usize = 64;
/// The least bytes that a call with SEQUENCE alone takes, and its reply: with less no request could be
/// sent or answered.
const MIN_MESSAGE: u32 = 128;

impl State {
    /// CREATE_SESSION, section 18.36; confirms the client, and answers a replay with the first answer.
    pub async fn create_session(&self, request: CreateSession, now: Instant) -> Result<Created, Status> {
        self.core.lock().create_session(&request, now)
    }

    /// DESTROY_SESSION, section 18.37. `inside` is the session of the SEQUENCE before it in the compound.
    pub fn destroy_session(
        &self,
        session: SessionId,
        inside: Option<&Turn>,
        connection: u64,
        now: Instant,
    ) -> Result<(), Status> {
        let mut core = self.core.lock();
        core.tick(now);
        let found = core.sessions.get(&session).ok_or(Status::BadSession)?;
        if !found.is_bound(connection) {
            return Err(Status::ConnNotBoundToSession);
        }
        let own = inside.is_some_and(|turn| turn.result().session == session);
        if found.busy > usize::from(own) {
            return Err(Status::Delay);
        }
        core.drop_session(session);
        Ok(())
    }

    /// BIND_CONN_TO_SESSION, section 18.34.
    pub fn bind_connection(&self, session: SessionId, connection: u64, now: Instant) -> Result<(), Status> {
        let mut core = self.core.lock();
        core.tick(now);
        core.sessions.get_mut(&session).ok_or(Status::BadSession)?.bind(connection);
        Ok(())
    }
}

impl Core {
    fn create_session(&mut self, request: &CreateSession, now: Instant) -> Result<Created, Status> {
        self.tick(now);
        self.forget_the_gone();
        let client = self.clients.get_mut(&request.client).ok_or(Status::StaleClientId)?;
        // A confirmed client may use another credential (section 18.36.4), but client ids are told to
        // others in LOCK4denied: from elsewhere nobody makes, or replays, a session with one.
        let place = Place::of(request.principal.address);
        if client.place != place || (!client.confirmed && client.uid != request.principal.uid) {
            return Err(Status::ClidInUse);
        }
        if request.sequence == client.sequence {
            return client.answer;
        }
        if request.sequence != client.sequence.wrapping_add(1) {
            return Err(Status::SeqMisordered);
        }
        client.sequence = request.sequence;
        let answer = self.new_session(request);
        if let Ok(client) = self.client_mut(request.client) {
            client.answer = answer;
        }
        answer
    }

    fn new_session(&mut self, request: &CreateSession) -> Result<Created, Status> {
        let fore = negotiate(request.fore, &self.limits)?;
        // By this it is not itself among those whose lease has passed.
        let now = self.now;
        let client = self.client_mut(request.client)?;
        client.renewed = now;
        let place = client.place;
        if client.sessions.len() >= SESSIONS_OF_ONE || !self.make_room(place, Resource::Sessions) {
            return Err(Status::NoSpc);
        }
        self.confirm(request)?;
        let session = self.ids.session();
        self.sessions.insert(session, Session::new(request.client, fore, request.connection));
        self.client_mut(request.client)?.sessions.push(session);
        self.accounts.add(place, Resource::Sessions, 1);
        Ok(Created { session, sequence: request.sequence, fore })
    }

    /// Makes the record the confirmed one; what an earlier instance of the client had goes.
    fn confirm(&mut self, request: &CreateSession) -> Result<(), Status> {
        let now = self.now;
        let id = request.client;
        let client = self.client_mut(id)?;
        if client.confirmed {
            return Ok(());
        }
        let (since, name, key) = (client.listed, client.name, client.journal_key);
        let place = client.place;
        client.confirmed = true;
        client.listed = now;
        self.forget_unconfirmed(place, since, id);
        self.leases.insert((now, id));
        let records = self.records.entry(name).or_default();
        records.unconfirmed = None;
        let old = records.confirmed.replace(id);
        if let Some(old) = old {
            let goes_on = self.clients.get(&old).is_some_and(|client| client.journal_key == key);
            self.drop_client(old, goes_on);
        }
        self.grace.returned(&key, id);
        Ok(())
    }
}

/// What is granted of what was asked for (section 18.36.3).
fn negotiate(asked: Channel, limits: &StateLimits) -> Result<Channel, Status> {
    if asked.request < MIN_MESSAGE || asked.response < MIN_MESSAGE || asked.operations == 0 {
        return Err(Status::TooSmall);
    }
    if asked.slots == 0 {
        return Err(Status::Inval);
    }
    let response = asked.response.min(limits.response);
    Ok(Channel {
        request: asked.request.min(limits.request),
        response,
        response_cached: asked.response_cached.min(limits.response_cached).min(response),
        operations: asked.operations.min(limits.operations),
        slots: asked.slots.min(limits.slots).max(1),
    })
}
