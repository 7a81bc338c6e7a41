//! What the server knows of its clients: leases, sessions with their slots, opens and locks.
//!
//! Knows no network and no files: time is passed in, files are numbers, and what has to outlive a
//! restart goes to a [`Journal`]. One lock guards it all and is never held while anything waits.
//!
//! A client past its lease keeps what it has until somebody needs it: an open or a lock in conflict, or
//! room at a limit. Then all of its state goes, it may not reclaim it after a restart, and it is told so
//! with SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED until it has freed the stateids (RFC 8881 section 8.4.3).

mod account;
mod client;
mod core;
mod grace;
mod ids;
mod lock;
mod open;
mod pending;
mod ranges;
mod session;
mod slot;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use slot::{Sequenced, Turn};
pub use types::{
    Change, Channel, ClientId, Conflict, CreateSession, Created, ExchangeId, Exchanged, FileId, Journal,
    Lock, LockError, LockKind, LockRange, Locker, Open, Principal, Sequence, SequenceResult, SessionId,
    StateLimits, StateOptions, Stateid, Verifier,
};

/// All clients of one server.
pub struct State {
    options: StateOptions,
    core: Mutex<self::core::Core>,
    settled: pending::Settled,
}

impl State {
    /// Nobody yet. The grace period begins at `now` when there are survivors.
    pub fn new(options: StateOptions, now: Instant) -> Arc<Self> {
        let core = Mutex::new(self::core::Core::new(&options, now));
        Arc::new(Self { options, core, settled: pending::Settled::default() })
    }

    /// Seconds of a lease, for the attribute.
    pub fn lease(&self) -> Duration {
        self.options.lease
    }
}
