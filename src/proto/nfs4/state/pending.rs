//! What the journal has yet to be told. Changes are noted under the lock and written outside it; whoever
//! must not answer before one is durable waits for its ticket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::Key;
use super::{Change, State, Stateid};
use crate::proto::nfs4::status::Status;

/// Changes not yet written, and who is in the journal when they are.
pub(super) struct Pending {
    /// Whether the owner is to be in: of several changes the last one counts.
    changes: HashMap<Key, bool>,
    /// The owners that are in, with the ticket of the change that put them there.
    members: HashMap<Key, u64>,
    ticket: u64,
}

impl Pending {
    pub(super) fn new(survivors: &[Key]) -> Self {
        let members = survivors.iter().map(|key| (*key, 0)).collect();
        Self { changes: HashMap::new(), members, ticket: 0 }
    }

    /// Of the newest change.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Sees to it that an owner is in; returns what to wait for.
    pub(super) fn add(&mut self, key: Key) -> u64 {
        if let Some(ticket) = self.members.get(&key) {
            return *ticket;
        }
        self.ticket += 1;
        self.changes.insert(key, true);
        self.members.insert(key, self.ticket);
        self.ticket
    }

    /// Sees to it that it is not.
    pub(super) fn remove(&mut self, key: Key) {
        if self.members.remove(&key).is_some() {
            self.ticket += 1;
            self.changes.insert(key, false);
        }
    }

    /// How many changes wait to be written.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }
}

/// What a request for something new leads to.
pub(super) enum Step {
    Granted(Stateid),
    /// Nothing was given: the change with this ticket has to be durable before.
    Await(u64),
}

/// The order of writing.
#[derive(Default)]
pub(super) struct Settled {
    /// Held while the journal is written to, so that changes reach it in their order. Nobody holds it
    /// with the state locked.
    turn: tokio::sync::Mutex<()>,
    /// All changes up to this ticket are durable.
    upto: AtomicU64,
}

/// Changes on their way; back among the pending ones unless they were written.
struct Batch<'a> {
    state: &'a State,
    changes: HashMap<Key, bool>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut core = self.state.core.lock();
        for (key, member) in self.changes.drain() {
            core.pending.changes.entry(key).or_insert(member);
        }
    }
}

impl State {
    /// All changes up to this ticket are durable.
    pub(super) fn durable(&self) -> u64 {
        self.settled.upto.load(Ordering::Acquire)
    }

    /// Waits until the changes up to `ticket` are durable. When the journal fails the answer is
    /// NFS4ERR_IO, and the next one who waits tries again.
    pub(super) async fn settle(&self, ticket: u64) -> Result<(), Status> {
        let is_durable = || self.durable() >= ticket;
        if is_durable() {
            return Ok(());
        }
        let _turn = self.settled.turn.lock().await;
        if is_durable() {
            return Ok(());
        }
        let (mut batch, upto) = {
            let mut core = self.core.lock();
            let changes = std::mem::take(&mut core.pending.changes);
            (Batch { state: self, changes }, core.pending.ticket)
        };
        let changes = batch.changes.iter().map(|(key, member)| match member {
            true => Change::Add(*key),
            false => Change::Remove(*key),
        });
        let written = self.options.journal.apply(changes.collect()).await;
        written.map_err(|_| Status::Io)?;
        batch.changes.clear();
        self.settled.upto.store(upto, Ordering::Release);
        Ok(())
    }
}
