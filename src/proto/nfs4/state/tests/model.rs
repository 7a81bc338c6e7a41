//! Random operations, against a model that is slow and simple: opens as lists of what was asked for,
//! locks as bytes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use LockKind::{Read, Write};

const CLIENTS: usize = 3;
/// The bytes that are looked at; the last one stands for all that follow, too.
const BYTES: usize = 12;

type Other = [u8; 12];

#[derive(Clone, Copy, Debug)]
enum Operation {
    Open { client: usize, owner: u8, file: u64, access: u32, deny: u32 },
    Close { of: Given },
    Downgrade { of: Given, access: u32, deny: u32 },
    Lock { of: Given, owner: u8, write: bool, range: (u8, u8) },
    LockMore { of: Given, write: bool, range: (u8, u8) },
    Unlock { of: Given, range: (u8, u8) },
    TestLock { client: usize, owner: u8, file: u64, write: bool, range: (u8, u8) },
    Read { of: Given },
    ReadAnonymously { file: u64 },
    Free { of: Given },
    Test { of: Given },
    Pass { seconds: u64 },
    Renew { client: usize },
    Restart { client: usize },
}

/// A stateid given before, as it is or a bit wrong.
#[derive(Clone, Copy, Debug)]
struct Given {
    pick: usize,
    /// Sent by somebody else.
    stolen: bool,
    /// For the other file.
    misplaced: bool,
    /// 0: as the newest; 1: by its number; 2: one too old; 3: one too new.
    age: u8,
}

fn given() -> impl Strategy<Value = Given> {
    let rarely = || prop::bool::weighted(0.05);
    (any::<usize>(), rarely(), rarely(), prop_oneof![4 => 0..2u8, 1 => 2..4u8])
        .prop_map(|(pick, stolen, misplaced, age)| Given { pick, stolen, misplaced, age })
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let bytes = u8::try_from(BYTES).unwrap();
    // No length stands for all that follow.
    let range = || (0..bytes, 0..=bytes / 2);
    let client = || 0..CLIENTS;
    let deny = || prop_oneof![3 => Just(0), 1 => 0..4u32];
    prop_oneof![
        8 => (client(), 0..2u8, 0..2u64, 1..4u32, deny())
            .prop_map(|(client, owner, file, access, deny)| Open { client, owner, file, access, deny }),
        3 => given().prop_map(|of| Close { of }),
        3 => (given(), 1..4u32, deny()).prop_map(|(of, access, deny)| Downgrade { of, access, deny }),
        8 => (given(), 0..2u8, any::<bool>(), range())
            .prop_map(|(of, owner, write, range)| Lock { of, owner, write, range }),
        8 => (given(), any::<bool>(), range()).prop_map(|(of, write, range)| LockMore { of, write, range }),
        6 => (given(), range()).prop_map(|(of, range)| Unlock { of, range }),
        4 => (client(), 0..3u8, 0..2u64, any::<bool>(), range())
            .prop_map(|(client, owner, file, write, range)| TestLock { client, owner, file, write, range }),
        3 => given().prop_map(|of| Read { of }),
        1 => (0..2u64).prop_map(|file| ReadAnonymously { file }),
        3 => given().prop_map(|of| Free { of }),
        3 => given().prop_map(|of| Test { of }),
        3 => prop_oneof![Just(40), Just(100)].prop_map(|seconds| Pass { seconds }),
        2 => client().prop_map(|client| Renew { client }),
        1 => client().prop_map(|client| Restart { client }),
    ]
}

#[derive(Clone, Debug)]
enum What {
    Open {
        owner: u8,
        asked: Vec<(u32, u32)>,
    },
    /// Made from the open of this `other`.
    Lock {
        owner: u8,
        open: Other,
    },
    Revoked,
}

#[derive(Clone, Debug)]
struct Thing {
    client: usize,
    file: u64,
    seqid: u32,
    what: What,
}

#[derive(Default)]
struct Model {
    clock: u64,
    renewed: [u64; CLIENTS],
    things: BTreeMap<Other, Thing>,
    /// By client, lock-owner and file.
    locks: BTreeMap<(usize, u8, u64), [Option<LockKind>; BYTES]>,
}

fn union(asked: &[(u32, u32)]) -> (u32, u32) {
    asked.iter().fold((0, 0), |(a, d), pair| (a | pair.0, d | pair.1))
}

fn span((first, length): (u8, u8)) -> (LockRange, std::ops::Range<usize>) {
    let first = usize::from(first);
    match usize::from(length) {
        0 => (LockRange { offset: first as u64, length: u64::MAX }, first..BYTES),
        // What reaches the last byte goes on, as the last one stands for all that follow.
        length if first + length >= BYTES => {
            (LockRange { offset: first as u64, length: u64::MAX }, first..BYTES)
        }
        length => (LockRange { offset: first as u64, length: length as u64 }, first..first + length),
    }
}

impl Model {
    fn expired(&self, client: usize) -> bool {
        self.clock - self.renewed[client] > LEASE.as_secs()
    }

    fn check(&self, client: usize, stateid: Stateid) -> Result<&Thing, Status> {
        let thing = self.things.get(&stateid.other).filter(|thing| thing.client == client);
        let thing = thing.ok_or(Status::BadStateid)?;
        match thing.what {
            What::Revoked => Err(Status::Expired),
            _ if stateid.seqid == 0 || stateid.seqid == thing.seqid => Ok(thing),
            _ if stateid.seqid > thing.seqid => Err(Status::BadStateid),
            _ => Err(Status::OldStateid),
        }
    }

    fn open_of(&self, client: usize, file: u64, stateid: Stateid) -> Result<&[(u32, u32)], Status> {
        match self.check(client, stateid)? {
            Thing { file: of, what: What::Open { asked, .. }, .. } if *of == file => Ok(asked),
            _ => Err(Status::BadStateid),
        }
    }

    fn lock_of(&self, client: usize, file: u64, stateid: Stateid) -> Result<(u8, Other), Status> {
        match self.check(client, stateid)? {
            Thing { file: of, what: What::Lock { owner, open }, .. } if *of == file => Ok((*owner, *open)),
            _ => Err(Status::BadStateid),
        }
    }

    fn holds_opens(&self, client: usize) -> bool {
        self.things.values().any(|thing| thing.client == client && matches!(thing.what, What::Open { .. }))
    }

    fn flags(&self, client: usize) -> u32 {
        let revoked =
            self.things.values().any(|thing| thing.client == client && matches!(thing.what, What::Revoked));
        match (revoked, self.holds_opens(client)) {
            (false, _) => 0,
            (true, false) => 0x8,
            (true, true) => 0x10,
        }
    }

    fn revoke(&mut self, client: usize) {
        for thing in self.things.values_mut().filter(|thing| thing.client == client) {
            thing.what = What::Revoked;
        }
        self.locks.retain(|(of, ..), _| *of != client);
    }

    /// Settles an open against all others: refused, or those past their lease lose what they have.
    fn share(&mut self, file: u64, own: Option<Other>, access: u32, deny: u32) -> bool {
        let mut losers = BTreeSet::new();
        for (other, thing) in &self.things {
            let What::Open { asked, .. } = &thing.what else { continue };
            let (held, denied) = union(asked);
            if thing.file == file && own != Some(*other) && (access & denied != 0 || deny & held != 0) {
                losers.insert(thing.client);
            }
        }
        if losers.iter().any(|client| !self.expired(*client)) {
            return false;
        }
        losers.into_iter().for_each(|client| self.revoke(client));
        true
    }

    /// The clients whose locks are in the way.
    fn in_the_way(
        &self,
        locker: (usize, u8, u64),
        kind: LockKind,
        bytes: std::ops::Range<usize>,
    ) -> BTreeSet<usize> {
        self.locks
            .iter()
            .filter(|(holder, held)| {
                let clash = |held: &Option<LockKind>| match held {
                    None => false,
                    Some(held) => kind == Write || *held == Write,
                };
                holder.2 == locker.2 && **holder != locker && held[bytes.clone()].iter().any(clash)
            })
            .map(|((client, ..), _)| *client)
            .collect()
    }

    fn set(&mut self, locker: (usize, u8, u64), bytes: std::ops::Range<usize>, kind: Option<LockKind>) {
        let held = self.locks.entry(locker).or_default();
        held[bytes].fill(kind);
        if held.iter().all(Option::is_none) {
            self.locks.remove(&locker);
        }
    }
}

/// The model and what it models.
struct Pair {
    world: World,
    mounted: Vec<Mounted>,
    restarts: u8,
    sequences: [u32; CLIENTS],
    model: Model,
    /// All that were ever given, with client and file.
    given: Vec<(Other, usize, u64)>,
}

fn name(owner: u8) -> String {
    format!("owner {owner}")
}

impl Pair {
    async fn new() -> Self {
        let world = World::new();
        let mut mounted = Vec::new();
        for client in 0..CLIENTS {
            mounted.push(world.mount(&format!("client {client}")).await);
        }
        Self {
            world,
            mounted,
            restarts: 1,
            sequences: [0; CLIENTS],
            model: Model::default(),
            given: Vec::new(),
        }
    }

    /// SEQUENCE, as before every operation.
    fn renew(&mut self, client: usize) {
        self.sequences[client] += 1;
        let turn = turn(self.world.sequence(self.mounted[client].session, 0, self.sequences[client]));
        self.model.renewed[client] = self.model.clock;
        assert_eq!(turn.result().flags, self.model.flags(client));
    }

    /// Who sends which stateid for which file.
    fn pick(&mut self, of: Given) -> Option<(usize, u64, Stateid)> {
        // Mostly one of the latest.
        let among = if of.pick % 4 == 0 { self.given.len() } else { self.given.len().min(4) };
        let back = (of.pick / 4).checked_rem(among)?;
        let (other, client, file) = self.given[self.given.len() - 1 - back];
        let client = if of.stolen { (client + 1) % CLIENTS } else { client };
        let file = if of.misplaced { 1 - file } else { file };
        let current = self.model.things.get(&other).map_or(1, |thing| thing.seqid);
        let seqid = match of.age {
            0 => 0,
            1 => current,
            2 => current - 1,
            _ => current + 1,
        };
        self.renew(client);
        Some((client, file, Stateid { seqid, other }))
    }

    fn id(&self, client: usize) -> ClientId {
        self.mounted[client].client
    }

    fn advance(&mut self, got: Stateid) {
        let thing = self.model.things.get_mut(&got.other).unwrap();
        thing.seqid += 1;
        assert_eq!(got.seqid, thing.seqid);
    }

    fn insert(&mut self, got: Stateid, client: usize, file: u64, what: What) {
        assert_eq!(got.seqid, 1);
        let old = self.model.things.insert(got.other, Thing { client, file, seqid: 1, what });
        assert!(old.is_none(), "given before");
        self.given.push((got.other, client, file));
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Open { client, owner, file, access, deny } => {
                self.open(client, owner, file, access, deny).await;
            }
            Operation::Close { of } => self.close(of),
            Operation::Downgrade { of, access, deny } => self.downgrade(of, access, deny),
            Operation::Lock { of, owner, write, range } => self.lock_new(of, owner, write, range).await,
            Operation::LockMore { of, write, range } => self.lock_more(of, write, range).await,
            Operation::Unlock { of, range } => self.unlock(of, range),
            Operation::TestLock { client, owner, file, write, range } => {
                self.test_lock(client, owner, file, write, range);
            }
            Operation::Read { of } => self.read(of),
            Operation::ReadAnonymously { file } => {
                let expected = if self.model.share(file, None, 1, 0) { Ok(()) } else { Err(Status::Locked) };
                assert_eq!(self.world.state.may_read_anonymously(file, false), expected);
            }
            Operation::Free { of } => self.free(of),
            Operation::Test { of } => {
                let Some((client, _, stateid)) = self.pick(of) else { return };
                let expected = self.model.check(client, stateid).map_or_else(|status| status, |_| Status::Ok);
                assert_eq!(self.world.state.test_stateid(self.id(client), stateid), expected);
            }
            Operation::Pass { seconds } => {
                self.model.clock += seconds;
                self.world.pass(Duration::from_secs(seconds));
                // Somebody tells the state of it.
                let _ = self.world.state.bind_connection([0; 16], 0, self.world.now);
            }
            Operation::Renew { client } => self.renew(client),
            Operation::Restart { client } => self.restart(client).await,
        }
        let holders = (0..CLIENTS).filter(|client| self.model.holds_opens(*client)).count();
        assert!(self.world.journal.len() >= holders);
    }

    async fn open(&mut self, client: usize, owner: u8, file: u64, access: u32, deny: u32) {
        self.renew(client);
        let known = self.model.things.iter().find_map(|(other, thing)| match thing.what {
            What::Open { owner: of, .. } => {
                (thing.client == client && thing.file == file && of == owner).then_some(*other)
            }
            _ => None,
        });
        let allowed = self.model.share(file, known, access, deny);
        let got = self.world.open(self.id(client), &name(owner), file, access, deny).await;
        if !allowed {
            assert_eq!(got, Err(Status::ShareDenied));
            return;
        }
        let got = got.unwrap();
        match known {
            Some(other) => {
                assert_eq!(got.other, other);
                self.advance(got);
                if let What::Open { asked, .. } = &mut self.model.things.get_mut(&other).unwrap().what {
                    asked.push((access, deny));
                }
            }
            None => self.insert(got, client, file, What::Open { owner, asked: vec![(access, deny)] }),
        }
    }

    fn close(&mut self, of: Given) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let expected = self.model.open_of(client, file, stateid).map(|_| ());
        let got = self.world.state.close(self.id(client), file, stateid).map(|_| ());
        assert_eq!(got, expected);
        if got.is_err() {
            return;
        }
        self.model.things.remove(&stateid.other);
        let mut owners = Vec::new();
        self.model.things.retain(|_, thing| match thing.what {
            What::Lock { owner, open } if open == stateid.other => {
                owners.push(owner);
                false
            }
            _ => true,
        });
        for owner in owners {
            self.model.locks.remove(&(client, owner, file));
        }
    }

    fn downgrade(&mut self, of: Given, access: u32, deny: u32) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let inside = |pair: &(u32, u32)| pair.0 & !access == 0 && pair.1 & !deny == 0;
        let expected = self.model.open_of(client, file, stateid).and_then(|asked| {
            let kept: Vec<_> = asked.iter().copied().filter(inside).collect();
            if union(&kept) == (access, deny) { Ok(kept) } else { Err(Status::Inval) }
        });
        let got = self.world.state.open_downgrade(self.id(client), file, stateid, access, deny);
        assert_eq!(got.map(|_| ()), expected.as_ref().map(|_| ()).map_err(|status| *status));
        if let (Ok(kept), Ok(got)) = (expected, got) {
            self.advance(got);
            if let What::Open { asked, .. } = &mut self.model.things.get_mut(&got.other).unwrap().what {
                *asked = kept;
            }
        }
    }

    async fn lock_new(&mut self, of: Given, owner: u8, write: bool, range: (u8, u8)) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let open = self.model.open_of(client, file, stateid).map(|asked| (stateid.other, union(asked).0));
        let lock_owner = name(owner);
        let locker = Locker::New(stateid, lock_owner.as_bytes());
        self.lock(client, file, open.map(|(open, access)| (owner, open, access)), locker, write, range).await;
    }

    async fn lock_more(&mut self, of: Given, write: bool, range: (u8, u8)) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let lock = self.model.lock_of(client, file, stateid).map(|(owner, open)| {
            let What::Open { asked, .. } = &self.model.things[&open].what else { panic!("no open") };
            (owner, open, union(asked).0)
        });
        self.lock(client, file, lock, Locker::Existing(stateid), write, range).await;
    }

    async fn lock(
        &mut self,
        client: usize,
        file: u64,
        target: Result<(u8, Other, u32), Status>,
        locker: Locker<'_>,
        write: bool,
        range: (u8, u8),
    ) {
        let (kind, wanted) = if write { (Write, 2) } else { (Read, 1) };
        let (range, bytes) = span(range);
        let got = self.world.lock(self.id(client), file, locker, kind, (range.offset, range.length)).await;
        let (owner, open) = match target {
            Err(status) => return assert_eq!(got, Err(LockError::Status(status))),
            Ok((_, _, access)) if access & wanted == 0 => {
                return assert_eq!(got, Err(LockError::Status(Status::OpenMode)));
            }
            Ok((owner, open, _)) => (owner, open),
        };
        let holders = self.model.in_the_way((client, owner, file), kind, bytes.clone());
        if holders.iter().any(|holder| !self.model.expired(*holder)) {
            self.denied(got.map(|_| ()), file, kind, &bytes);
            return;
        }
        for holder in holders {
            self.model.revoke(holder);
        }
        let got = got.unwrap();
        let known = self.model.things.get(&got.other).map(|thing| thing.what.clone());
        match known {
            Some(What::Lock { owner: of, open: from }) => {
                assert_eq!((of, from), (owner, open));
                self.advance(got);
            }
            Some(what) => panic!("a lock under the stateid of {what:?}"),
            None => {
                let twin = self.model.things.values().any(|thing| match thing.what {
                    What::Lock { owner: of, open: from } => (of, from) == (owner, open),
                    _ => false,
                });
                assert!(!twin, "a second stateid for the same");
                self.insert(got, client, file, What::Lock { owner, open });
            }
        }
        self.model.set((client, owner, file), bytes, Some(kind));
    }

    /// What is told of a conflict must be one.
    fn denied(&self, got: Result<(), LockError>, file: u64, kind: LockKind, bytes: &std::ops::Range<usize>) {
        let Err(LockError::Denied(conflict)) = got else { panic!("{got:?}, but it is locked") };
        let holder = (0..CLIENTS).find(|client| self.id(*client) == conflict.client).unwrap();
        let owner = (0..2).find(|owner| name(*owner).as_bytes() == conflict.owner).unwrap();
        let first = usize::try_from(conflict.range.offset).unwrap();
        let end = conflict.range.offset.saturating_add(conflict.range.length);
        let end = usize::try_from(end).unwrap().min(BYTES);
        let held = &self.model.locks[&(holder, owner, file)];
        assert!(held[first..end].iter().all(|held| *held == Some(conflict.kind)), "all of it");
        assert!(first == 0 || held[first - 1] != Some(conflict.kind), "from its start");
        assert!(end == BYTES || held[end] != Some(conflict.kind), "to its end");
        assert!(first < bytes.end && bytes.start < end, "in the way");
        assert!(kind == Write || conflict.kind == Write);
        assert!(!self.model.expired(holder));
    }

    fn unlock(&mut self, of: Given, range: (u8, u8)) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let expected = self.model.lock_of(client, file, stateid);
        let (range, bytes) = span(range);
        let got = self.world.state.unlock(self.id(client), file, stateid, range);
        assert_eq!(got.map(|_| ()), expected.map(|_| ()));
        if let (Ok((owner, _)), Ok(got)) = (expected, got) {
            self.advance(got);
            self.model.set((client, owner, file), bytes, None);
        }
    }

    fn test_lock(&mut self, client: usize, owner: u8, file: u64, write: bool, range: (u8, u8)) {
        self.renew(client);
        let kind = if write { Write } else { Read };
        let (range, bytes) = span(range);
        let state = &self.world.state;
        let got = state.lock_test(self.id(client), file, name(owner).as_bytes(), kind, range, self.world.now);
        let holders = self.model.in_the_way((client, owner, file), kind, bytes.clone());
        match holders.iter().any(|holder| !self.model.expired(*holder)) {
            true => self.denied(got, file, kind, &bytes),
            false => assert_eq!(got, Ok(())),
        }
    }

    fn read(&mut self, of: Given) {
        let Some((client, file, stateid)) = self.pick(of) else { return };
        let access = self.model.check(client, stateid).and_then(|thing| match &thing.what {
            _ if thing.file != file => Err(Status::BadStateid),
            What::Open { asked, .. } => Ok(union(asked).0),
            What::Lock { open, .. } => match &self.model.things[open].what {
                What::Open { asked, .. } => Ok(union(asked).0),
                _ => panic!("no open"),
            },
            What::Revoked => panic!("refused before"),
        });
        let expected = access.and_then(|access| match access & 1 {
            0 => Err(Status::OpenMode),
            _ => Ok(()),
        });
        assert_eq!(self.world.state.may_read(self.id(client), file, stateid), expected);
    }

    fn free(&mut self, of: Given) {
        let Some((client, _, stateid)) = self.pick(of) else { return };
        let expected = match self.model.check(client, stateid) {
            Err(Status::Expired) => Ok(()),
            Err(status) => Err(status),
            Ok(Thing { file, what: What::Lock { owner, .. }, .. })
                if !self.model.locks.contains_key(&(client, *owner, *file)) =>
            {
                Ok(())
            }
            Ok(_) => Err(Status::LocksHeld),
        };
        assert_eq!(self.world.state.free_stateid(self.id(client), stateid), expected);
        if expected.is_ok() {
            self.model.things.remove(&stateid.other);
        }
    }

    /// The client's machine restarts.
    async fn restart(&mut self, client: usize) {
        self.restarts = self.restarts.wrapping_add(1);
        let owner = format!("client {client}");
        let exchanged = self.world.exchange(&owner, self.restarts, HERE, false).unwrap();
        let created = self.world.create(exchanged.client, 1, HERE).await.unwrap();
        self.world.state.reclaim_complete(exchanged.client, false, self.world.now).await.unwrap();
        self.mounted[client] = Mounted { client: exchanged.client, session: created.session };
        self.sequences[client] = 0;
        self.model.renewed[client] = self.model.clock;
        self.model.things.retain(|_, thing| thing.client != client);
        self.model.locks.retain(|(of, ..), _| *of != client);
    }

    async fn end(mut self) {
        for client in 0..CLIENTS {
            self.restart(client).await;
        }
        let core = self.world.state.core.lock();
        assert!(core.stateids.is_empty() && core.files.is_empty());
        assert_eq!(core.accounts.total(account::Resource::Opens), 0);
        assert_eq!(core.accounts.total(account::Resource::Locks), 0);
        assert_eq!(core.clients.len(), CLIENTS);
        assert_eq!(core.sessions.len(), CLIENTS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_does_as_the_model(operations in prop::collection::vec(operation(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new().await;
            for operation in operations {
                pair.step(operation).await;
            }
            pair.end().await;
        });
    }
}
