//! Tests of the state, one file for what each of its parts promises.

mod clients;
mod expiry;
mod grace;
mod hostile;
mod locks;
mod model;
mod opens;
mod sessions;
mod slots;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::proto::nfs4::status::Status;
use crate::proto::rpc::BoxFuture;

pub(super) const LEASE: Duration = Duration::from_secs(90);
pub(super) const READ: u32 = 1;
pub(super) const BOTH: u32 = 3;
pub(super) const NONE: u32 = 0;

pub(super) const HERE: Principal =
    Principal { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), uid: Some(0) };

/// A principal at another address.
pub(super) fn at(host: u8) -> Principal {
    Principal { address: Ipv4Addr::new(10, 0, 0, host).into(), uid: Some(0) }
}

pub(super) fn wide(slots: u32) -> Channel {
    Channel { request: 1 << 20, response: 1 << 20, response_cached: 8192, operations: 64, slots }
}

/// A journal in memory, which fails on demand.
#[derive(Default)]
pub(super) struct Memory {
    owners: Mutex<BTreeSet<[u8; 32]>>,
    pub(super) changes: Mutex<Vec<Change>>,
    pub(super) broken: AtomicBool,
}

impl Memory {
    fn change(&self, change: Change) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.broken.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("broken"));
            }
            self.changes.lock().push(change);
            match change {
                Change::Add(owner) => self.owners.lock().insert(owner),
                Change::Remove(owner) => self.owners.lock().remove(&owner),
            };
            Ok(())
        })
    }

    pub(super) fn len(&self) -> usize {
        self.owners.lock().len()
    }
}

impl Journal for Memory {
    fn add(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        self.change(Change::Add(owner))
    }

    fn remove(&self, owner: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        self.change(Change::Remove(owner))
    }
}

/// A server, and the time.
pub(super) struct World {
    pub(super) state: Arc<State>,
    pub(super) journal: Arc<Memory>,
    pub(super) now: Instant,
    pub(super) limits: StateLimits,
    starts: u8,
}

/// A client with one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mounted {
    pub(super) client: ClientId,
    pub(super) session: SessionId,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(StateLimits::default())
    }

    pub(super) fn with(limits: StateLimits) -> Self {
        let journal = Arc::new(Memory::default());
        let now = Instant::now();
        let state = Self::start(&journal, &limits, now, 0);
        Self { state, journal, now, limits, starts: 0 }
    }

    fn start(journal: &Arc<Memory>, limits: &StateLimits, now: Instant, starts: u8) -> Arc<State> {
        let options = StateOptions {
            lease: LEASE,
            survivors: journal.owners.lock().iter().copied().collect(),
            journal: Arc::clone(journal) as Arc<dyn Journal>,
            limits: limits.clone(),
            secret: [starts; 32],
        };
        State::new(options, now)
    }

    /// The gateway dies and starts again.
    pub(super) fn restart(&mut self) {
        self.starts += 1;
        self.state = Self::start(&self.journal, &self.limits, self.now, self.starts);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// A bit more than a lease.
    pub(super) fn pass_a_lease(&mut self) {
        self.pass(LEASE + Duration::from_millis(1));
    }

    pub(super) fn exchange(
        &self,
        owner: &str,
        verifier: u8,
        principal: Principal,
        update: bool,
    ) -> Result<Exchanged, Status> {
        let request = ExchangeId { owner: owner.as_bytes(), verifier: [verifier; 8], update, principal };
        self.state.exchange_id(request, self.now)
    }

    pub(super) async fn create(
        &self,
        client: ClientId,
        sequence: u32,
        principal: Principal,
    ) -> Result<Created, Status> {
        let request = CreateSession { client, sequence, fore: wide(8), principal, connection: 1 };
        self.state.create_session(request, self.now).await
    }

    /// A client as after EXCHANGE_ID and CREATE_SESSION.
    pub(super) async fn session(&self, owner: &str, principal: Principal) -> Mounted {
        let exchanged = self.exchange(owner, 1, principal, false).unwrap();
        let created = self.create(exchanged.client, exchanged.sequence, principal).await.unwrap();
        Mounted { client: exchanged.client, session: created.session }
    }

    /// The same after RECLAIM_COMPLETE.
    pub(super) async fn mount(&self, owner: &str) -> Mounted {
        self.mount_at(owner, HERE).await
    }

    pub(super) async fn mount_at(&self, owner: &str, principal: Principal) -> Mounted {
        let mounted = self.session(owner, principal).await;
        self.state.reclaim_complete(mounted.client, false, self.now).await.unwrap();
        mounted
    }

    pub(super) fn sequence(&self, session: SessionId, slot: u32, sequence: u32) -> Result<Sequenced, Status> {
        let request = Sequence {
            session,
            sequence,
            slot,
            highest_slot: slot,
            cache_this: true,
            connection: 1,
            fingerprint: 7,
            request: 128,
            operations: 1,
        };
        self.state.sequence(request, self.now)
    }

    /// A new SEQUENCE on the first slot; finds out what number is the next.
    pub(super) async fn renew(&self, mounted: Mounted) -> Result<SequenceResult, Status> {
        for sequence in 1..100 {
            match self.sequence(mounted.session, 0, sequence) {
                Ok(Sequenced::Execute(turn)) => return Ok(turn.result()),
                Ok(_) | Err(Status::SeqMisordered) => {}
                Err(status) => return Err(status),
            }
        }
        panic!("no sequence is the next");
    }

    pub(super) async fn open(
        &self,
        client: ClientId,
        owner: &str,
        file: FileId,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        let request = Open { client, owner: owner.as_bytes(), file, access, deny, reclaim: false };
        self.state.open(request, self.now).await
    }

    pub(super) async fn reclaim(
        &self,
        client: ClientId,
        owner: &str,
        file: FileId,
        access: u32,
        deny: u32,
    ) -> Result<Stateid, Status> {
        let request = Open { client, owner: owner.as_bytes(), file, access, deny, reclaim: true };
        self.state.open(request, self.now).await
    }

    pub(super) async fn lock(
        &self,
        client: ClientId,
        file: FileId,
        locker: Locker<'_>,
        kind: LockKind,
        (offset, length): (u64, u64),
    ) -> Result<Stateid, LockError> {
        let range = LockRange { offset, length };
        let request = Lock { client, file, locker, kind, range, reclaim: false };
        self.state.lock(request, self.now).await
    }
}

/// What a SEQUENCE led to, in words.
pub(super) fn outcome(result: Result<Sequenced, Status>) -> String {
    match result {
        Ok(Sequenced::Execute(_)) => "execute".to_owned(),
        Ok(Sequenced::Replay(reply)) => format!("replay {}", String::from_utf8_lossy(&reply)),
        Ok(Sequenced::Uncached(_)) => "uncached".to_owned(),
        Err(status) => format!("{status:?}"),
    }
}

/// The turn of a new request.
pub(super) fn turn(result: Result<Sequenced, Status>) -> Turn {
    match result {
        Ok(Sequenced::Execute(turn)) => turn,
        other => panic!("{}", outcome(other)),
    }
}

pub(super) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl self::core::Core {
    /// What the tables take, roughly: a hash table an eighth more than its entries and a byte for each, a
    /// tree half of its entries again, an owner its bytes and the head of its buffer.
    pub(super) fn bytes(&self) -> usize {
        fn table<K, V>(map: &std::collections::HashMap<K, V>) -> usize {
            map.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)
        }
        fn set<K>(set: &std::collections::HashSet<K>) -> usize {
            set.capacity() * 8 / 7 * (size_of::<K>() + 1)
        }
        let clients: usize = self
            .clients
            .values()
            .map(|client| {
                let owners = client.opens.keys().map(|(owner, _)| owner).chain(client.lock_owners.keys());
                let owners: usize = owners.map(|owner| owner.len() + 40).sum();
                table(&client.opens) + table(&client.lock_owners) + set(&client.revoked) + owners
            })
            .sum();
        let sessions: usize = self.sessions.values().map(slot::Session::bytes).sum();
        let files: usize = self.files.values().map(|file| set(&file.opens)).sum();
        // A node of a tree has room for eleven.
        let trees = self.accounts.total(account::Resource::Locks) * 12 * 64;
        let tables = table(&self.clients)
            + table(&self.records)
            + table(&self.sessions)
            + table(&self.stateids)
            + table(&self.files);
        tables + clients + sessions + files + trees + self.replies.bytes()
    }
}
