//! The grace period, RFC 8881 section 8.4.2: after a restart those that held state may reclaim it, and
//! nobody gets anything new.

use std::collections::HashMap;
use std::time::Instant;

use super::ClientId;
use super::core::{Client, Key};
use crate::proto::nfs4::status::Status;

pub(super) struct Grace {
    /// When it ends at the latest; `None` when it is over.
    until: Option<Instant>,
    /// Those that have not said RECLAIM_COMPLETE, with the client they are now.
    awaited: HashMap<Key, Option<ClientId>>,
    /// The change of the journal that has to be durable before anything new is given.
    pub(super) ticket: u64,
}

impl Grace {
    pub(super) fn new(survivors: &[Key], until: Instant) -> Self {
        let awaited: HashMap<_, _> = survivors.iter().map(|key| (*key, None)).collect();
        Self { until: (!awaited.is_empty()).then_some(until), awaited, ticket: 0 }
    }

    /// Ends the period when it is time to, once: returns those that were awaited in vain.
    pub(super) fn ends(&mut self, now: Instant) -> Option<HashMap<Key, Option<ClientId>>> {
        let until = self.until?;
        if now <= until && !self.awaited.is_empty() {
            return None;
        }
        self.until = None;
        Some(std::mem::take(&mut self.awaited))
    }

    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// A client is here (again).
    pub(super) fn returned(&mut self, key: &Key, client: ClientId) {
        if let Some(awaited) = self.awaited.get_mut(key) {
            *awaited = Some(client);
        }
    }

    /// A client has reclaimed all it will, or is no more.
    pub(super) fn gone(&mut self, key: &Key) {
        self.awaited.remove(key);
    }

    /// Whether a client may open or lock, reclaiming or not (sections 8.4.2.1 and 18.51.3).
    pub(super) fn allows(&self, client: &Client, reclaim: bool) -> Result<(), Status> {
        match (reclaim, self.is_on()) {
            (false, true) => Err(Status::Grace),
            (false, false) if client.reclaim_complete => Ok(()),
            (false, false) => Err(Status::Grace),
            (true, true) if !client.reclaim_complete => match self.awaited.get(&client.journal_key) {
                Some(_) => Ok(()),
                None => Err(Status::ReclaimBad),
            },
            (true, _) => Err(Status::NoGrace),
        }
    }
}
