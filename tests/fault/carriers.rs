//! The tampering of [`super::tamper`] over evidence in extended attributes and behind the data, signed
//! in every format: what is served is what somebody trusted signed for that path, and where a format
//! binds no name, for any path.

use std::collections::{BTreeMap, BTreeSet};

use nfs_verity::carrier::{CarrierKind, Carriers};
use nfs_verity::event::Cause;
use nfs_verity::export::{ExportError, FileHandle, READ_MAX};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{Format, FormatSet, Keyring, Revoked, RevokedItem};
use nfs_verity::store::{Memory, Store};
use nfs_verity::verity::{Descriptor, reference};

use super::dice::{Dice, Told};
use super::scene::{CACHE, Gate, evidence, shared};
use super::support::{content, seed};
use super::versions::{ATTRIBUTES, How, Plan, STILL, Signer, State, Version, parsed, placed, plans, state};

/// The formats that a gate may accept; the first are all that there are.
const ACCEPTED: [&str; 4] = ["native,fsverity,ima-v3,ima-v2", "native", "native,ima-v2", "fsverity,ima-v3"];
/// Where a gate may look for evidence.
const LOOKED_FOR: [&[CarrierKind]; 3] = [
    &[CarrierKind::Xattr, CarrierKind::Appended],
    &[CarrierKind::Appended, CarrierKind::Xattr],
    &CarrierKind::ALL,
];
/// What is signed in the past, in seconds since 1970.
const LONG_AGO: i64 = 1_000_000_000;

struct World {
    memory: Memory,
    trust: Keyring,
    /// The first version of each path is the one in place; those of one path follow each other.
    versions: Vec<Version>,
    /// What nobody may be given: by strangers, revoked, expired.
    forged: Vec<Version>,
    paths: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let [signer, stranger, revoked] = ["signer", "stranger", "revoked"].map(Signer::new);
        let (memory, mut out) = (Memory::new(), Revoked::default());
        out.add(RevokedItem::Key(revoked.key.key_id()), "revoked.txt:1");
        let (mut versions, mut forged, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        let sizes = [[3000, 3000], [40_000, 39_000], [1024, 1025], [0, 1], [70_000, 70_000], [5, 0]];
        for (n, plan) in (0..).zip(plans()) {
            let [a, b] = sizes[n % sizes.len()];
            let seed = n as u64 * 10;
            for (v, size) in [(0, a), (1, b)] {
                versions.push(signer.sign(&plan, content(seed + v, size), None).await);
            }
            forged.push(stranger.sign(&plan, content(seed + 2, a), None).await);
            forged.push(revoked.sign(&plan, content(seed + 3, a), None).await);
            let how = if plan.how == How::Bare { How::Xattr } else { plan.how };
            let native = Plan { path: plan.path.clone(), how, formats: FormatSet::NATIVE, ..plan };
            forged.push(signer.sign(&native, content(seed + 4, a.max(1)), Some(LONG_AGO)).await);
            // The hash of a whole file names no parameters, and with others it is another digest.
            if !plan.formats.contains(Format::ImaV2) {
                let known = signer.sign(&plan, content(seed + 5, a.max(1)), None).await;
                out.add(RevokedItem::Digest(known.descriptor.file_digest()), "revoked.txt:2");
                forged.push(known);
            }
            paths.push(plan.path);
        }
        let trust =
            Keyring::new(vec![signer.trusted("signer"), revoked.trusted("revoked")]).with_revoked(out);
        let world = Self { memory, trust, versions, forged, paths };
        for path in &world.paths {
            world.write(path, &world.first(path).state, true).await;
        }
        world
    }

    fn first(&self, path: &str) -> &Version {
        self.versions.iter().find(|version| version.path == path).unwrap()
    }

    fn trusting(&self, accepted: FormatSet) -> Keyring {
        self.trust.clone().with_formats(accepted)
    }

    async fn gate(&self, accepted: FormatSet, kinds: &[CarrierKind]) -> Gate {
        let keyring = self.trusting(accepted);
        Gate::over(shared(&self.memory), &keyring, Mode::Enforce, CACHE, kinds).await.unwrap()
    }

    /// Puts `state` in the place of what is there, as other files or in the same ones.
    async fn write(&self, path: &str, state: &State, anew: bool) {
        for (place, bytes) in [(path.to_owned(), &state[0]), (evidence(path), &state[1])] {
            match bytes {
                None => _ = self.memory.remove(&place),
                Some(bytes) if anew || self.memory.bytes(&place).is_none() => {
                    self.memory.put(&place, bytes).unwrap();
                }
                Some(bytes) => self.memory.mutate(&place, |content| content.clone_from(bytes)).unwrap(),
            }
        }
        let Ok(file) = self.memory.open(&parsed(path)).await else { return };
        // All of them away first: there may be no room for the old and the new.
        for name in ATTRIBUTES {
            file.remove_xattr(name).await.unwrap();
        }
        for (name, value) in ATTRIBUTES.into_iter().zip(&state[2..]) {
            if let Some(value) = value {
                let _ = file.set_xattr(name, value).await;
            }
        }
    }

    /// What is wrong with the evidence in the store for who was given this version: another size, another
    /// root, or a tree of another shape.
    async fn doubt(&self, kinds: &[CarrierKind], version: &Version, path: &str) -> Option<&'static str> {
        let size = self.memory.bytes(path).unwrap().len() as u64;
        let found = Carriers::over(&shared(&self.memory), kinds).open_for(&parsed(path), size).await.unwrap();
        if size != version.content.len() as u64 + found.trailer {
            return Some("the size in the store");
        }
        let claimed = Descriptor::parse(found.evidence.descriptor.as_deref()?).unwrap();
        if claimed != version.descriptor {
            let (root_hash, _) = reference::root_and_tree(&version.content, &claimed.params);
            if claimed != (Descriptor { size: version.content.len() as u64, root_hash, ..claimed }) {
                return Some("the descriptor in the evidence");
            }
        }
        // Where a signature of the whole file may count, the tree is made anew.
        let whole = found.evidence.ima.iter().any(|value| value.first() == Some(&3));
        let wanted = claimed.geometry().unwrap().tree_size();
        (!whole && found.tree_len().is_some_and(|len| len != wanted)).then_some("the size of the tree")
    }
}

#[derive(Default, Debug)]
struct Tally {
    right: u64,
    refused: BTreeMap<String, u64>,
}

/// One gate that is asked.
struct Asked {
    gate: Gate,
    accepted: FormatSet,
    kinds: &'static [CarrierKind],
}

impl Asked {
    async fn new(world: &World, accepted: &str, kinds: &'static [CarrierKind]) -> Self {
        let accepted = accepted.parse().unwrap();
        Self { gate: world.gate(accepted, kinds).await, accepted, kinds }
    }

    /// Every answer is that of a version which counts at `path`. Those of a `fresh` gate, which has not
    /// seen the store in another state, are all of the same.
    async fn gives_only_signed(
        &self,
        world: &World,
        path: &str,
        old: Option<&FileHandle>,
        reads: &[(u64, u32)],
        fresh: bool,
        tally: &mut Tally,
    ) {
        let all: Vec<&Version> =
            world.versions.iter().filter(|version| version.is_for(path, self.accepted)).collect();
        let found = self.gate.find(path).await;
        for handle in [old, found.as_ref().ok().map(|(handle, _)| handle)].into_iter().flatten() {
            let mut candidates = all.clone();
            let mut given_any = false;
            for &(offset, count) in reads {
                match self.gate.read(handle, offset, count).await {
                    Ok(given) => {
                        (tally.right, given_any) = (tally.right + 1, true);
                        if !fresh {
                            candidates.clone_from(&all);
                        }
                        candidates.retain(|version| given.is_of(&version.content, offset, count));
                        assert!(!candidates.is_empty(), "{path} at {offset}, {count}: {given:?}");
                    }
                    Err(error) => *tally.refused.entry(error.to_string()).or_default() += 1,
                }
            }
            if given_any && fresh {
                let size = self.gate.attributes(handle).await.unwrap().size;
                candidates.retain(|version| version.content.len() as u64 == size);
                assert!(!candidates.is_empty(), "{path}: size {size}");
                let mut doubts = Vec::new();
                for version in candidates {
                    doubts.push(world.doubt(self.kinds, version, path).await);
                }
                assert!(doubts.contains(&None), "{path}: {doubts:?}");
            }
            let _ = self.gate.access(handle).await;
        }
        assert!(self.gate.events.refused().iter().all(|refusal| !refusal.served));
    }

    /// A file that nobody touched is there, all of it, if its formats count.
    async fn serves(&self, world: &World, path: &str) {
        let version = world.first(path);
        let answer = self.gate.start(path).await;
        if !version.is_for(path, self.accepted) {
            let refused = matches!(answer, Err(ExportError::Denied(Cause::KeyLimits | Cause::Unsigned)));
            assert!(refused, "{path}: {answer:?}");
            return;
        }
        let given = answer.unwrap_or_else(|error| panic!("{path} is not served: {error}"));
        assert!(given.is_all_of(&version.content, 0, READ_MAX), "{path}: {given:?}");
        let (handle, attr) = self.gate.find(path).await.unwrap();
        assert_eq!(attr.size, version.content.len() as u64, "{path}");
        assert!(self.gate.access(&handle).await.unwrap().read, "{path}");
    }
}

/// Changes the store at random and remembers what it did.
struct Tamperer<'w> {
    world: &'w World,
    dice: Dice,
    touched: BTreeSet<String>,
    told: Told,
}

impl<'w> Tamperer<'w> {
    fn path(&mut self) -> String {
        let paths: Vec<_> = self.world.paths.iter().filter(|path| !path.starts_with(STILL)).collect();
        (*self.dice.pick(&paths)).clone()
    }

    async fn write(&mut self, path: &str, state: &State, what: String) {
        self.told.0.push(format!("{path}: {what}"));
        self.touched.insert(path.to_owned());
        let anew = self.dice.one_in(3);
        self.world.write(path, state, anew).await;
    }

    async fn change(&mut self) {
        let (world, path) = (self.world, self.path());
        let mut now = state(&world.memory, &path).await;
        match self.dice.below(12) {
            0..=3 => {
                let from = self.path();
                let there: Vec<usize> = (0..5).filter(|at| now[*at].is_some()).collect();
                let Some(at) = there.get(self.dice.below(there.len())).copied() else { return };
                let other = state(&world.memory, &from).await[at].clone().unwrap_or_default();
                let bytes = now[at].as_mut().unwrap();
                // The end of a file is where evidence behind the data lies.
                let keep = if at == 0 && self.dice.one_in(2) { bytes.len().saturating_sub(9000) } else { 0 };
                let mut tail = bytes.split_off(keep);
                let what = self.dice.distort(&mut tail, &other);
                bytes.extend(tail);
                self.write(&path, &now, format!("part {at} behind {keep}: {what} from {from}")).await;
            }
            4 => {
                let at = self.dice.below(5);
                now[at] = None;
                self.write(&path, &now, format!("part {at} away")).await;
            }
            5 | 6 => {
                let (with, parts) = (self.path(), self.parts());
                let mut other = state(&world.memory, &with).await;
                parts.iter().for_each(|at| std::mem::swap(&mut now[*at], &mut other[*at]));
                self.write(&path, &now, format!("exchange {parts:?} with {with}")).await;
                self.write(&with, &other, String::new()).await;
            }
            7 | 8 => {
                let (version, parts) = (self.version(&path), self.parts());
                parts.iter().for_each(|at| now[*at].clone_from(&version.state[*at]));
                let what = format!("{parts:?} of {} with {} bytes", version.path, version.content.len());
                self.write(&path, &now, what).await;
            }
            _ => self.compose(&path).await,
        }
    }

    /// All parts of a file, or some.
    fn parts(&mut self) -> Vec<usize> {
        let all = self.dice.one_in(2);
        (0..5).filter(|_| all || self.dice.one_in(2)).collect()
    }

    /// One to bring in at `path`: mostly another one of the same path, signed or forged.
    fn version(&mut self, path: &str) -> &'w Version {
        let all: Vec<_> = self.world.versions.iter().chain(&self.world.forged).collect();
        let own: Vec<_> = all.iter().copied().filter(|version| version.path == path).collect();
        let from = if self.dice.one_in(3) { all } else { own };
        from[self.dice.below(from.len())]
    }

    /// Puts a file in place that is well formed throughout, out of parts of two versions: what an
    /// attacker makes who has the same program.
    async fn compose(&mut self, path: &str) {
        let (one, other) = (self.version(path), self.version(path));
        let (mut data, mut tree) = (one.content.clone(), one.tree.clone());
        let mut evidence = one.evidence.clone();
        let mut what = format!("{} and {}, ", one.path, other.path);
        match self.dice.below(4) {
            0 => what += &self.dice.distort(&mut data, &other.content),
            1 => data.resize(data.len() + 1 + self.dice.below(2000), 0),
            2 => data.clone_from(&other.content),
            _ => {}
        }
        match self.dice.below(6) {
            0 => what += &self.dice.distort(&mut tree, &other.tree),
            1 => tree.extend(vec![0; 1024]),
            2 => tree.truncate(tree.len().saturating_sub(1024)),
            3 => tree.clone_from(&other.tree),
            _ => {}
        }
        let from = &other.evidence;
        for part in 0..5 {
            match (self.dice.below(4), part) {
                (0, 0) => evidence.descriptor.clone_from(&from.descriptor),
                (0, 1) => evidence.statement.clone_from(&from.statement),
                (0, 2) => evidence.pkcs7.extend(from.pkcs7.iter().cloned()),
                (0, 3) => evidence.ima.extend(from.ima.iter().cloned()),
                (1, 1) => evidence.statement = None,
                (1, 2) => evidence.pkcs7.clone_from(&from.pkcs7),
                (1, 3) => evidence.ima.clone_from(&from.ima),
                _ => {}
            }
        }
        let how = *self.dice.pick(&[How::Xattr, How::Appended, How::Appended, How::Bare]);
        what += &format!(
            "{how:?}: {} of data, {} of tree, statement {}, {} pkcs7, {} ima",
            data.len(),
            tree.len(),
            evidence.statement.is_some(),
            evidence.pkcs7.len(),
            evidence.ima.len()
        );
        let state = placed(how, path, &data, &evidence, &tree).await;
        self.write(path, &state, what).await;
    }

    async fn restore(&mut self) {
        for path in std::mem::take(&mut self.touched) {
            self.world.write(&path, &self.world.first(&path).state, false).await;
        }
        self.told.0.clear();
    }
}

async fn handles_of(asked: &Asked, world: &World) -> BTreeMap<String, FileHandle> {
    let mut handles = BTreeMap::new();
    for path in &world.paths {
        handles.insert(path.clone(), asked.gate.find(path).await.unwrap().0);
    }
    handles
}

async fn change_and_read(rounds: u64) {
    let world = World::new().await;
    let (dice, told) = (Dice::new(seed()), Told::default());
    let mut tamperer = Tamperer { world: &world, dice, touched: BTreeSet::new(), told };
    let mut tally = Tally::default();
    // A gate that has seen the store in other states, and handles of before.
    let mut old = Asked::new(&world, ACCEPTED[0], LOOKED_FOR[0]).await;
    let mut handles = handles_of(&old, &world).await;
    for path in &world.paths {
        old.serves(&world, path).await;
    }
    for round in 0..rounds {
        let (accepted, kinds) = (*tamperer.dice.pick(&ACCEPTED), *tamperer.dice.pick(&LOOKED_FOR));
        if tamperer.dice.one_in(40) {
            old = Asked::new(&world, accepted, kinds).await;
            handles = handles_of(&old, &world).await;
        }
        tamperer.told.0.push(format!("round {round}"));
        for _ in 0..1 + tamperer.dice.below(2) {
            tamperer.change().await;
        }
        let accepted = if tamperer.dice.one_in(2) { ACCEPTED[0] } else { accepted };
        tamperer.told.0.push(format!("asked for {accepted} in {kinds:?}"));
        let fresh = Asked::new(&world, accepted, kinds).await;
        let mut paths: Vec<String> = tamperer.touched.iter().cloned().collect();
        paths.push(tamperer.path());
        for path in &paths {
            let reads = tamperer.dice.reads(world.first(path).content.len());
            fresh.gives_only_signed(&world, path, None, &reads, true, &mut tally).await;
            old.gives_only_signed(&world, path, handles.get(path), &reads, false, &mut tally).await;
        }
        let untouched: Vec<_> = world.paths.iter().filter(|path| !tamperer.touched.contains(*path)).collect();
        for _ in 0..2 {
            fresh.serves(&world, untouched[tamperer.dice.below(untouched.len())]).await;
        }
        let still: Vec<_> = world.paths.iter().filter(|path| path.starts_with(STILL)).collect();
        old.serves(&world, still[tamperer.dice.below(still.len())]).await;
        tamperer.restore().await;
    }
    println!("{tally:?}");
    let refused: u64 = tally.refused.values().sum();
    assert!(tally.right > rounds && refused > rounds / 2, "{tally:?}");
    let fresh = Asked::new(&world, ACCEPTED[0], &CarrierKind::ALL).await;
    for path in &world.paths {
        fresh.serves(&world, path).await;
    }
}

#[tokio::test]
async fn no_random_change_gets_a_wrong_byte_through_any_carrier_and_format() {
    change_and_read(600).await;
}

#[tokio::test]
async fn long_no_random_change_of_thousands_gets_a_wrong_byte_through_any_carrier_and_format() {
    change_and_read(3_000).await;
}

#[tokio::test]
async fn a_digest_that_is_revoked_is_refused_at_once_whatever_carries_and_signs_it() {
    let world = World::new().await;
    let asked = Asked::new(&world, ACCEPTED[0], LOOKED_FOR[0]).await;
    for path in &world.paths {
        asked.serves(&world, path).await;
        let mut revoked = Revoked::default();
        revoked.add(RevokedItem::Digest(world.first(path).descriptor.file_digest()), "revoked.txt:1");
        asked.gate.export.set_revoked(&revoked);
        assert_eq!(asked.gate.start(path).await, Err(ExportError::Denied(Cause::Revoked)), "{path}");
        asked.gate.export.set_revoked(&Revoked::default());
        asked.serves(&world, path).await;
    }
}
