//! Random changes behind the gateway's back, over data and evidence: every answer is signed bytes or
//! an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nfs_verity::carrier::bundle::Head;
use nfs_verity::event::Cause;
use nfs_verity::export::{ExportError, FileHandle, Kind, READ_MAX};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{Keyring, SigningKey};
use nfs_verity::store::Memory;
use nfs_verity::verity::{HashAlgorithm, Params};

use super::dice::{Dice, Told, reseal};
use super::scene::{Answer, Data, Gate, eventually, evidence, params, shared};
use super::support::{content, key_and_trust, seal, seed};

const UNSIGNED: &str = "c/unsigned";

/// One signed state of a file.
struct Version {
    content: Vec<u8>,
    evidence: Vec<u8>,
    block_size: u64,
}

/// The tree, as it was signed, and the store with it.
struct World {
    store: Memory,
    keyring: Keyring,
    /// The signed states of each path. The first is that in place.
    versions: BTreeMap<String, Vec<Version>>,
    /// For each path what an attacker would like to be taken for its first version.
    forged: BTreeMap<String, Vec<Version>>,
    /// The bytes of every file in the store, evidence too, before any change.
    original: BTreeMap<String, Vec<u8>>,
    places: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let mut world = Self {
            store: Memory::new(),
            keyring,
            versions: BTreeMap::new(),
            forged: BTreeMap::new(),
            original: BTreeMap::new(),
            places: Vec::new(),
        };
        let (stranger, _) = key_and_trust();
        for (n, (path, params, sizes)) in (0..).zip(files()) {
            let evil = content(n * 10 + 9, sizes[0]);
            for (v, size) in (0..).zip(sizes) {
                let version = world.sign(&key, &path, params, &content(n * 10 + v, size)).await;
                world.versions.entry(path.clone()).or_default().push(version);
            }
            let forged = world.sign(&stranger, &path, params, &evil).await;
            let (of_stranger, of_key) = (stranger.key_id().to_string(), key.key_id().to_string());
            let claimed = forged.with_statement(|text| text.replace(&of_stranger, &of_key));
            let borrowed = forged.with_statement(|_| world.versions[&path][0].statement());
            world.forged.insert(path, vec![forged, claimed, borrowed]);
        }
        for (path, versions) in &world.versions {
            world.original.insert(path.clone(), versions[0].content.clone());
            world.original.insert(evidence(path), versions[0].evidence.clone());
        }
        world.original.insert(UNSIGNED.to_owned(), content(9999, 5000));
        world.places = world.original.keys().cloned().collect();
        for place in &world.places {
            world.restore(place);
        }
        world
    }

    async fn sign(&self, key: &SigningKey, path: &str, params: Params, content: &[u8]) -> Version {
        let scratch = Memory::new();
        seal(&shared(&scratch), path, content, params, key).await;
        Version {
            content: content.to_vec(),
            evidence: scratch.bytes(evidence(path)).unwrap(),
            block_size: params.block_size.bytes() as u64,
        }
    }

    async fn gate(&self) -> Gate {
        Gate::new(shared(&self.store), &self.keyring).await
    }

    /// Puts back everything at and below `path`.
    fn restore(&self, path: &str) {
        if let (Some(original), Some(_)) = (self.original.get(path), self.store.bytes(path)) {
            return self.store.mutate(path, |bytes| bytes.clone_from(original)).unwrap();
        }
        let _ = self.store.remove(path);
        for (place, bytes) in self.original.iter().filter(|(place, _)| is_below(place, path)) {
            self.store.put(place, bytes).unwrap();
        }
    }
}

fn is_below(place: &str, path: &str) -> bool {
    place.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Paths, parameters and the sizes of one or two versions.
fn files() -> Vec<(String, Params, Vec<usize>)> {
    use HashAlgorithm::{Sha256, Sha512};
    let choices = [
        ("c", params(Sha256, 1024, b"")),
        ("a/b", params(Sha256, 4096, b"")),
        ("a", params(Sha256, 65536, b"salt")),
        ("c", params(Sha512, 1024, &[7; 32])),
        ("a/b", params(Sha512, 4096, b"x")),
        ("a", params(Sha512, 65536, b"")),
    ];
    // From no block up to three levels, and the sizes around every border.
    let sizes: [&[usize]; 22] = [
        &[0, 1],
        &[1, 0],
        &[1023],
        &[1024, 1024],
        &[1025, 2048],
        &[4095],
        &[4096, 4097],
        &[4097, 4096],
        &[10_000, 10_000],
        &[33 * 1024, 32 * 1024],
        &[65_535],
        &[65_536, 65_536],
        &[65_537, 65_537],
        &[100_000, 100_000],
        &[130_000],
        &[131_072, 131_073],
        &[200_000, 190_000],
        &[262_145, 262_145],
        &[300_000],
        &[40_000, 39_000],
        &[5, 5],
        &[12_288, 12_288],
    ];
    let place = |n: usize, sizes: &&[usize]| {
        let (directory, params) = choices[n % choices.len()];
        (format!("{directory}/{n:02}"), params, sizes.to_vec())
    };
    let mut files: Vec<_> = sizes.iter().enumerate().map(|(n, sizes)| place(n, sizes)).collect();
    files.push(("big".to_owned(), params(Sha256, 1024, b""), vec![READ_MAX as usize + 70_001]));
    files.push(("deep/er/and/deeper".to_owned(), params(Sha512, 1024, b""), vec![290_000, 290_000]));
    files
}

/// Changes the store at random and remembers what it did.
struct Tamperer<'a> {
    world: &'a World,
    dice: Dice,
    /// Paths at and below which the store may differ from the original.
    touched: BTreeSet<String>,
    told: Told,
}

impl Tamperer<'_> {
    fn place(&mut self) -> String {
        self.dice.pick(&self.world.places).clone()
    }

    /// A signed file that has two versions.
    fn versioned(&mut self) -> (String, &Version) {
        let paths: Vec<_> = self.world.versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
        let (path, versions) = *self.dice.pick(&paths);
        (path.clone(), &versions[1])
    }

    fn note(&mut self, what: String, touched: impl IntoIterator<Item = String>) {
        self.told.0.push(what);
        self.touched.extend(touched);
    }

    /// Writes `bytes` to `path`, in place or as another file.
    fn write(&mut self, path: &str, bytes: &[u8]) {
        self.touched.insert(path.to_owned());
        if self.dice.one_in(2) && self.world.store.mutate(path, |content| *content = bytes.to_vec()).is_ok() {
            return;
        }
        if self.world.store.put(path, bytes).is_err() {
            let _ = self.world.store.remove(path);
            let _ = self.world.store.put(path, bytes);
        }
    }

    /// One change. Some do nothing where an earlier one of the same round is in the way.
    fn change(&mut self) {
        match self.dice.below(21) {
            0..=10 => self.rewrite(),
            11 | 12 => self.swap_files(),
            13..=15 => self.other_version(),
            16 => {
                let (from, to) = (self.place(), self.place());
                let to = if self.dice.one_in(2) { to } else { format!("{from}-renamed") };
                let _ = self.world.store.rename(&from, &to);
                self.note(format!("rename {from} to {to}"), [from, to]);
            }
            17 => {
                let place = self.place();
                let _ = self.world.store.remove(&place);
                self.note(format!("remove {place}"), [place]);
            }
            18 => self.swap_directories(),
            19 => self.forge(),
            _ => self.other_kind(),
        }
    }

    /// Changes the bytes of one file.
    fn rewrite(&mut self) {
        let (place, source) = (self.place(), self.place());
        let (Some(mut bytes), Some(other)) =
            (self.world.store.bytes(&place), self.world.store.bytes(&source))
        else {
            return;
        };
        let what = self.dice.distort(&mut bytes, &other);
        self.note(format!("{place}, {source}: {what}"), []);
        self.write(&place, &bytes);
    }

    fn swap_files(&mut self) {
        let (a, b) = (self.place(), self.place());
        // Mostly evidence with evidence and data with data.
        if a.starts_with('.') != b.starts_with('.') && !self.dice.one_in(4) {
            return self.swap_files();
        }
        if let (Some(of_a), Some(of_b)) = (self.world.store.bytes(&a), self.world.store.bytes(&b)) {
            self.note(format!("swap {a} and {b}"), []);
            self.write(&a, &of_b);
            self.write(&b, &of_a);
        }
    }

    /// Brings parts of the other version in.
    fn other_version(&mut self) {
        let kind = self.dice.below(5);
        let (path, other) = self.versioned();
        let (data, proof) = (other.content.clone(), other.evidence.clone());
        let place = if kind == 4 { evidence(&path) } else { path.clone() };
        let Some(mut bytes) = self.world.store.bytes(&place) else { return };
        self.note(format!("other version {kind}: {path}"), []);
        match kind {
            0 => self.write(&path, &data),
            1 => self.write(&evidence(&path), &proof),
            2 => {
                self.write(&path, &data);
                self.write(&evidence(&path), &proof);
            }
            _ => {
                let source = if kind == 3 { data } else { proof };
                let range = self.dice.range(bytes.len().min(source.len()));
                bytes[range.clone()].copy_from_slice(&source[range]);
                if kind == 4 && self.dice.one_in(2) {
                    reseal(&mut bytes);
                }
                self.write(&place, &bytes);
            }
        }
    }

    /// Puts data and evidence in place that an attacker made, or that were signed for another path.
    fn forge(&mut self) {
        let world = self.world;
        let paths: Vec<_> = world.versions.keys().collect();
        let (path, other) = ((*self.dice.pick(&paths)).clone(), *self.dice.pick(&paths));
        let kind = self.dice.below(4);
        let forged = world.forged[&path].get(kind).unwrap_or(&world.versions[other][0]);
        self.note(format!("forgery {kind}: {path} of {other}"), []);
        self.write(&path, &forged.content);
        self.write(&evidence(&path), &forged.evidence);
    }

    fn swap_directories(&mut self) {
        let mut names = ["a", "c", "a/b", "deep/er", "big", ".nfs-verity"].map(str::to_owned);
        if self.dice.one_in(2) {
            names = names.map(|name| evidence(&name));
        }
        let (a, b) = (self.dice.pick(&names).clone(), self.dice.pick(&names).clone());
        let store = &self.world.store;
        // Fails, as it should, where one is above the other.
        if store.rename(&a, "aside").is_ok() {
            let _ = store.rename(&b, &a);
            let _ = store.rename("aside", &b);
            let _ = store.rename("aside", &a);
        }
        self.note(format!("swap directories {a} and {b}"), [a, b, "aside".to_owned()]);
    }

    /// Puts something else than a regular file in place.
    fn other_kind(&mut self) {
        let (place, target) = (self.place(), self.place());
        let store = &self.world.store;
        let _ = store.remove(&place);
        let kind = [Kind::Directory, Kind::Symlink, Kind::Fifo][self.dice.below(3)];
        let _ = match kind {
            Kind::Directory => store.put_dir(&place),
            Kind::Symlink => store.put_symlink(&place, target.as_bytes()),
            kind => store.put_special(&place, kind),
        };
        self.note(format!("{kind:?} at {place}"), [place]);
    }

    /// The files that the changes may concern, as far as there is time for them, and another one.
    fn concerned(&mut self) -> Vec<String> {
        let data = |place: &String| place.strip_prefix(".nfs-verity/").unwrap_or(place).to_owned();
        let all: Vec<String> =
            self.world.places.iter().filter(|place| !place.starts_with('.')).cloned().collect();
        let touched: Vec<String> = self.touched.iter().map(data).collect();
        let mut paths: Vec<String> = all
            .iter()
            .filter(|path| touched.iter().any(|touched| touched.starts_with('.') || is_below(path, touched)))
            .chain(touched.iter().filter(|path| !path.starts_with('.')))
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        while paths.len() > 4 {
            let at = self.dice.below(paths.len());
            paths.swap_remove(at);
        }
        paths.push(self.dice.pick(&all).clone());
        paths
    }

    /// Where to read, and how much.
    fn reads(&mut self, versions: &[Version]) -> Vec<(u64, u32)> {
        let size = versions.iter().map(|version| version.content.len()).max();
        self.dice.reads(size.unwrap_or(5000))
    }

    fn restore(&mut self) {
        for path in std::mem::take(&mut self.touched) {
            self.world.restore(&path);
        }
        self.told.0.clear();
    }
}

#[derive(Default, Debug)]
struct Tally {
    right: u64,
    refused: u64,
    exact: u64,
}

impl World {
    /// Asks a gate that knows nothing yet, so that what it may answer is known but for damaged evidence.
    async fn check_fresh(&self, gate: &Gate, path: &str, reads: &[(u64, u32)], tally: &mut Tally) {
        let none = Vec::new();
        let versions = self.versions.get(path).unwrap_or(&none);
        let data = self.store.bytes(path);
        let proof = self.store.bytes(evidence(path));
        let intact = versions.iter().find(|version| proof.as_ref() == Some(&version.evidence));
        // All answers have to be those of one and the same version.
        let mut candidates: Vec<&Version> = match intact {
            Some(version) => vec![version],
            None if proof.is_none() => Vec::new(),
            None => versions.iter().collect(),
        };
        let found = gate.find(path).await;
        assert!(found.is_ok() || data.is_none(), "{path}: {found:?}");
        let Ok((handle, attr)) = found else { return };
        let mut accepted = false;
        for &(offset, count) in reads {
            let answer = gate.read(&handle, offset, count).await;
            if let (Some(data), Some(version)) = (&data, intact) {
                version.expect(&answer, data, offset, count, path);
                tally.exact += 1;
            }
            match answer {
                Ok(given) => {
                    accepted = true;
                    tally.right += 1;
                    candidates.retain(|version| given.is_of(&version.content, offset, count));
                    assert!(!candidates.is_empty(), "{path} at {offset}, {count}: {given:?}");
                }
                Err(_) => tally.refused += 1,
            }
        }
        if let (Some(_), Some(version)) = (&data, intact) {
            assert_eq!(attr.size, version.content.len() as u64, "{path}");
            assert!(gate.access(&handle).await.unwrap().read, "{path}");
        }
        if data.is_some() && proof.is_none() {
            assert!(!gate.access(&handle).await.unwrap().read, "{path}");
        }
        if accepted {
            let size = gate.attributes(&handle).await.unwrap().size;
            assert!(candidates.iter().any(|version| version.content.len() as u64 == size), "{path}: {size}");
            assert_eq!(attr.size, size, "{path}");
        }
        assert!(gate.events.refused().iter().all(|refusal| !refusal.served));
    }

    /// Asks a gate that has seen the store in other states. Each answer is that of some version.
    async fn check_warm(
        &self,
        gate: &Gate,
        path: &str,
        old: Option<&FileHandle>,
        reads: &[(u64, u32)],
        tally: &mut Tally,
    ) {
        let none = Vec::new();
        let versions = self.versions.get(path).unwrap_or(&none);
        let found = gate.find(path).await.ok().map(|(handle, _)| handle);
        for handle in [old, found.as_ref()].into_iter().flatten() {
            for &(offset, count) in reads {
                match gate.read(handle, offset, count).await {
                    Ok(given) => {
                        tally.right += 1;
                        let fits =
                            versions.iter().any(|version| given.is_of(&version.content, offset, count));
                        assert!(fits, "{path} at {offset}, {count}: {given:?}");
                    }
                    Err(_) => tally.refused += 1,
                }
            }
            let _ = gate.access(handle).await;
            let _ = gate.attributes(handle).await;
        }
        assert!(gate.events.refused().iter().all(|refusal| !refusal.served));
    }

    /// Waits until all files are there again, as they were signed.
    async fn is_well(&self, gate: &Gate) {
        for (path, versions) in &self.versions {
            let well = |given: Data| given.is_all_of(&versions[0].content, 0, READ_MAX);
            eventually(path, async || gate.start(path).await.is_ok_and(well)).await;
        }
    }
}

impl Version {
    fn head(&self) -> (Head, usize) {
        let extent = Head::extent(&self.evidence, self.evidence.len() as u64).unwrap();
        (Head::parse(&Bytes::copy_from_slice(&self.evidence[..extent])).unwrap(), extent)
    }

    fn statement(&self) -> String {
        String::from_utf8(self.head().0.evidence.statement.unwrap().to_vec()).unwrap()
    }

    /// The same with another envelope in the evidence.
    fn with_statement(&self, change: impl FnOnce(String) -> String) -> Self {
        let (mut head, extent) = self.head();
        head.evidence.statement = Some(Bytes::from(change(self.statement())));
        let evidence = [&head.encode().unwrap()[..], &self.evidence[extent..]].concat();
        Self { content: self.content.clone(), evidence, block_size: self.block_size }
    }

    /// Checks an answer about the file that is `data` in the store, with this evidence.
    fn expect(&self, answer: &Answer<Data>, data: &[u8], offset: u64, count: u32, path: &str) {
        if data.len() != self.content.len() {
            assert_eq!(answer.as_ref().err(), Some(&ExportError::Corrupt(Cause::WrongSize)), "{path}");
            return;
        }
        let size = self.content.len() as u64;
        let end = offset.saturating_add(count.min(READ_MAX).into()).min(size);
        let block = usize::try_from(self.block_size).unwrap();
        let pairs = self.content.chunks(block).zip(data.chunks(block));
        let first = usize::try_from(offset / self.block_size).unwrap();
        let bad = pairs.enumerate().skip(first).find(|(_, (a, b))| a != b);
        let stop = bad.map_or(end, |(index, _)| end.min(index as u64 * self.block_size));
        if stop <= offset && offset < end {
            assert_eq!(answer.as_ref().err(), Some(&ExportError::Corrupt(Cause::BadBlock)), "{path}");
            return;
        }
        let given = answer.as_ref().unwrap_or_else(|error| panic!("{path} at {offset}, {count}: {error}"));
        assert!(given.is_of(&self.content, offset, count), "{path} at {offset}, {count}: {given:?}");
        assert_eq!(given.bytes.len() as u64, stop.saturating_sub(offset), "{path} at {offset}, {count}");
    }
}

async fn change_and_read(rounds: usize) {
    let world = World::new().await;
    let told = Told::default();
    let dice = Dice::new(seed());
    let mut tamperer = Tamperer { world: &world, dice, touched: BTreeSet::new(), told };
    let mut tally = Tally::default();
    let mut old = world.gate().await;
    for round in 0..rounds {
        if tamperer.dice.one_in(50) {
            old = world.gate().await;
        }
        // Seen before the change: a gate that knows the store, and handles of the files as they are.
        let mut handles = BTreeMap::new();
        for path in tamperer.concerned() {
            if let Ok((handle, _)) = old.find(&path).await {
                let reads = tamperer.reads(world.versions.get(&path).map_or(&[], Vec::as_slice));
                world.check_warm(&old, &path, None, &reads, &mut tally).await;
                handles.insert(path, handle);
            }
        }
        tamperer.told.0.push(format!("round {round}"));
        for _ in 0..1 + tamperer.dice.below(2) {
            tamperer.change();
        }
        let fresh = world.gate().await;
        for path in tamperer.concerned() {
            let reads = tamperer.reads(world.versions.get(&path).map_or(&[], Vec::as_slice));
            world.check_fresh(&fresh, &path, &reads, &mut tally).await;
            world.check_warm(&old, &path, handles.get(&path), &reads, &mut tally).await;
        }
        tamperer.restore();
    }
    println!("{tally:?}");
    let least = rounds as u64 / 2;
    assert!(tally.right > least && tally.refused > least && tally.exact > least, "{tally:?}");
    world.is_well(&old).await;
}

#[tokio::test]
async fn no_random_change_gets_a_wrong_byte_through() {
    change_and_read(3_000).await;
}

#[tokio::test]
async fn long_no_random_change_of_tens_of_thousands_gets_a_wrong_byte_through() {
    change_and_read(30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn changes_during_reads_get_no_wrong_byte_through() {
    let world = Arc::new(World::new().await);
    let seed = seed();
    let done = Arc::new(AtomicBool::new(false));
    // With next to no cache, so that all is read again and again.
    let gate = Gate::try_new(shared(&world.store), &world.keyring, Mode::Enforce, 10_000).await;
    let gate = Arc::new(gate.unwrap());
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let (world, gate, done) = (world.clone(), gate.clone(), done.clone());
            tokio::spawn(async move {
                let dice = Dice::new(seed + n);
                let (touched, told) = (BTreeSet::new(), Told::default());
                let mut reader = Tamperer { world: &world, dice, touched, told };
                let mut tally = Tally::default();
                while !done.load(Ordering::Relaxed) {
                    for path in reader.concerned() {
                        let reads = reader.reads(world.versions.get(&path).map_or(&[], Vec::as_slice));
                        world.check_warm(&gate, &path, None, &reads, &mut tally).await;
                    }
                }
                tally
            })
        })
        .collect();
    let changed = world.clone();
    let changing = tokio::task::spawn_blocking(move || {
        let dice = Dice::new(seed + 10);
        let (touched, told) = (BTreeSet::new(), Told::default());
        let mut tamperer = Tamperer { world: &changed, dice, touched, told };
        for _ in 0..8_000 {
            for _ in 0..3 {
                tamperer.change();
            }
            tamperer.restore();
        }
    });
    let changing = changing.await;
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let tally = reader.await.unwrap();
        assert!(tally.right > 100 && tally.refused > 10, "{tally:?}");
    }
    changing.unwrap();
    world.is_well(&gate).await;
}
