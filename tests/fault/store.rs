//! A store that lies, fails at every call, stalls, or changes under open files; and what of it is
//! served when the configuration says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nfs_verity::carrier::Sidecar;
use nfs_verity::event::Cause;
use nfs_verity::export::{Attr, Examination, ExamineError, ExportError, FileHandle, FsStat, Kind, READ_MAX};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{Keyring, SigningKey};
use nfs_verity::store::{
    BoxFuture, DirPage, Fault, Faulty, Memory, Store, StoreErrorKind, StoreFile, StorePath, StoreWriter,
};

use super::scene::{CACHE, Gate, Refused, caller, eventually, evidence, shared, small_blocks, within};
use super::support::{Random, content, key_and_trust, seal, seed};
use bytes::Bytes;

type StoreResult<T> = nfs_verity::store::Result<T>;

/// A tree of signed files and one that is not.
struct Scene {
    memory: Memory,
    key: SigningKey,
    keyring: Keyring,
    files: Vec<(&'static str, Vec<u8>, FileHandle)>,
    unsigned: FileHandle,
    directory: FileHandle,
}

const UNSIGNED: &str = "unsigned";
const BIG: &str = "d/big";
/// In blocks of 1024 bytes, and a short one: a tree of two levels.
const BIG_SIZE: usize = 200_000;

impl Scene {
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let memory = Memory::new();
        let files = [(BIG, BIG_SIZE), ("d/one", 700), ("empty", 0), ("three", 3000)];
        let mut signed = Vec::new();
        for (n, (path, size)) in (0..).zip(files) {
            let content = content(n, size);
            memory.put(path, &content).unwrap();
            seal(&shared(&memory), path, &content, small_blocks(), &key).await;
            signed.push((path, content));
        }
        memory.put(UNSIGNED, b"nobody vouches for this").unwrap();
        let gate = Gate::new(shared(&memory), &keyring).await;
        let mut files = Vec::new();
        for (path, content) in signed {
            files.push((path, content, gate.find(path).await.unwrap().0));
        }
        let (unsigned, _) = gate.find(UNSIGNED).await.unwrap();
        let (directory, _) = gate.find("d").await.unwrap();
        Self { memory, key, keyring, files, unsigned, directory }
    }

    fn big(&self) -> &[u8] {
        &self.files[0].1
    }

    async fn gate(&self) -> Gate {
        Gate::new(shared(&self.memory), &self.keyring).await
    }

    /// Asks everything that can be asked. What is answered is right; the number of errors is given.
    async fn tour(&self, gate: &Gate) -> usize {
        let mut errors = 0;
        for (path, content, handle) in &self.files {
            let size = content.len() as u64;
            match gate.find(path).await {
                Ok((found, attr)) => assert_eq!((found, attr.size), (*handle, size), "{path}"),
                Err(_) => errors += 1,
            }
            match gate.attributes(handle).await {
                Ok(attr) => assert_eq!((attr.kind, attr.size), (Kind::Regular, size), "{path}"),
                Err(_) => errors += 1,
            }
            errors += usize::from(!gate.access(handle).await.is_ok_and(|access| access.read));
            for (offset, count) in [(0, 10), (size / 2, 5000), (0, READ_MAX), (size.saturating_sub(1), 9)] {
                match gate.read(handle, offset, count).await {
                    Ok(given) => {
                        assert!(given.is_of(content, offset, count), "{path} at {offset}: {given:?}");
                        errors += usize::from(!given.is_all_of(content, offset, count));
                    }
                    Err(_) => errors += 1,
                }
            }
        }
        gate.read(&self.unsigned, 0, 10).await.unwrap_err();
        let root: &[&str] = &[".", "..", "d", "empty", "three", UNSIGNED];
        for (handle, wanted) in [(&gate.export.root(), root), (&self.directory, &[".", "..", "big", "one"])] {
            match listing(gate, handle).await {
                Ok(names) => assert_eq!(names, wanted),
                Err(_) => errors += 1,
            }
        }
        let names = ["big", "one"].map(|name| name.as_bytes().to_vec());
        let described = within(gate.export.describe(self.directory.as_bytes(), &names, &caller())).await;
        for (described, (_, content, handle)) in described.iter().zip(&self.files) {
            match described {
                Some((found, attr)) => {
                    assert_eq!((found, attr.size), (handle, content.len() as u64));
                }
                None => errors += 1,
            }
        }
        errors +=
            usize::from(within(gate.export.stat_fs(self.directory.as_bytes(), &caller())).await.is_err());
        assert!(gate.events.refused().iter().all(|refusal| !refusal.served));
        errors
    }

    async fn is_well(&self, what: &str, gate: &Gate) {
        eventually(what, async || self.tour(gate).await == 0).await;
    }
}

/// All names of a directory, a few at a time.
async fn listing(gate: &Gate, handle: &FileHandle) -> Result<Vec<String>, ExportError> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let page = within(gate.export.read_dir(handle.as_bytes(), cookie, 2, &caller())).await?;
        cookie = page.entries.last().map_or(cookie, |entry| entry.cookie);
        names.extend(page.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
        if page.end {
            return Ok(names);
        }
    }
}

async fn faulty(scene: &Scene) -> (Faulty, Arc<Gate>) {
    let faulty = Faulty::new(shared(&scene.memory));
    let gate = Gate::new(Arc::new(faulty.clone()), &scene.keyring).await;
    faulty.reset();
    (faulty, Arc::new(gate))
}

/// What a store call can do to us but for stalling.
const FAULTS: [Fault; 8] = [
    Fault::Error(StoreErrorKind::Io),
    Fault::Error(StoreErrorKind::Exhausted),
    Fault::Error(StoreErrorKind::Access),
    Fault::Error(StoreErrorKind::Stale),
    Fault::ShortRead,
    Fault::Flip,
    Fault::Swap,
    Fault::Gone,
];

/// How many store calls a tour takes.
async fn calls(scene: &Scene) -> u64 {
    let (faulty, gate) = faulty(scene).await;
    assert_eq!(scene.tour(&gate).await, 0);
    assert!(faulty.calls() > 50, "{}", faulty.calls());
    faulty.calls()
}

#[tokio::test]
async fn any_call_may_fail_and_nothing_wrong_is_told_or_remembered() {
    let scene = Scene::new().await;
    let calls = calls(&scene).await;
    let mut struck = Vec::new();
    for fault in FAULTS {
        let mut errors = 0;
        for n in 1..=calls {
            let (faulty, gate) = faulty(&scene).await;
            faulty.fail_at(n, fault);
            errors += scene.tour(&gate).await;
            faulty.reset();
            struck.push((fault, n, gate));
        }
        assert!(errors > 0, "{fault:?} did no harm");
    }
    for (fault, n, gate) in &struck {
        scene.is_well(&format!("well after {fault:?} at call {n} of {calls}"), gate).await;
    }
}

#[tokio::test]
async fn every_kth_call_may_fail_and_nothing_wrong_is_told_or_remembered() {
    let scene = Scene::new().await;
    let mut struck = Vec::new();
    for fault in FAULTS {
        for k in 1..=12 {
            let (faulty, gate) = faulty(&scene).await;
            // Once knowing nothing and once knowing all.
            for warm in [false, true] {
                faulty.fail_every(k, fault);
                scene.tour(&gate).await;
                scene.tour(&gate).await;
                faulty.reset();
                if !warm {
                    scene.tour(&gate).await;
                }
            }
            struck.push((fault, k, gate));
        }
    }
    for (fault, k, gate) in &struck {
        scene.is_well(&format!("well after {fault:?} at every call {k}"), gate).await;
    }
}

#[tokio::test]
async fn a_store_without_answers_is_not_exported() {
    let scene = Scene::new().await;
    let faulty = Faulty::new(shared(&scene.memory));
    faulty.fail_every(1, Fault::Error(StoreErrorKind::Io));
    assert!(Gate::try_new(Arc::new(faulty), &scene.keyring, Mode::Enforce, CACHE).await.is_none());
}

/// For long, that is: others wait a while for the blocks that it was to give.
#[tokio::test(start_paused = true)]
async fn a_stalled_call_keeps_nobody_else_waiting() {
    let scene = Arc::new(Scene::new().await);
    for n in 1..=calls(&scene).await {
        let (faulty, gate) = faulty(&scene).await;
        faulty.fail_at(n, Fault::Stall);
        let waiting = tokio::spawn({
            let (scene, gate) = (scene.clone(), gate.clone());
            async move { scene.tour(&gate).await }
        });
        within(faulty.until_stalled(1)).await;
        assert_eq!(scene.tour(&gate).await, 0, "while call {n} stalls");
        assert!(!waiting.is_finished());
        faulty.release();
        assert_eq!(within(waiting).await.unwrap(), 0, "after call {n} stalled");
    }
}

#[tokio::test]
async fn a_store_that_reads_differently_each_time_gets_no_byte_through() {
    let scene = Scene::new().await;
    let seed = seed();
    let mut gates = Vec::new();
    let mut errors = 0;
    for n in 0..150 {
        let (faulty, gate) = faulty(&scene).await;
        faulty.lie(seed + n);
        for _ in 0..4 {
            errors += scene.tour(&gate).await;
        }
        faulty.reset();
        gates.push(gate);
    }
    assert!(errors > 1000, "{errors}");
    for gate in &gates {
        scene.is_well("well when the store tells the truth", gate).await;
    }
}

#[tokio::test]
async fn a_store_with_other_attributes_each_time_gets_no_byte_through() {
    let scene = Scene::new().await;
    let seed = seed();
    let mut right = 0;
    for n in 0..100 {
        let state = Arc::new(AtomicU64::new(seed + n));
        let fickle = Fickle { inner: shared(&scene.memory), state: Some(state), end: u64::MAX };
        let Some(gate) = Gate::try_new(Arc::new(fickle), &scene.keyring, Mode::Enforce, CACHE).await else {
            continue;
        };
        for _ in 0..4 {
            for (path, content, handle) in &scene.files {
                let _ = gate.find(path).await;
                let _ = gate.attributes(handle).await;
                let _ = gate.access(handle).await;
                for (offset, count) in [(0, READ_MAX), (content.len() as u64, 5), (1024, 3000)] {
                    if let Ok(given) = gate.read(handle, offset, count).await {
                        assert!(given.is_of(content, offset, count), "{path} at {offset}: {given:?}");
                        right += 1;
                    }
                }
            }
            assert!(gate.read(&scene.unsigned, 0, 10).await.is_err());
        }
    }
    assert!(right > 100, "{right}");
}

#[tokio::test]
async fn a_store_that_ends_early_makes_no_end_of_file() {
    // Zeros, where a block that is cut hashes like the whole one.
    let (key, keyring) = key_and_trust();
    let memory = Memory::new();
    let mut content = vec![0; 150_000];
    content[70_000] = 1;
    memory.put("f", &content).unwrap();
    seal(&shared(&memory), "f", &content, small_blocks(), &key).await;
    let size = content.len() as u64;
    for end in (0..size).step_by(512).chain([1, 65_535, 65_537, size - 1]) {
        let early = Fickle { inner: shared(&memory), state: None, end };
        let gate = Gate::new(Arc::new(early), &keyring).await;
        let (handle, _) = gate.find("f").await.unwrap();
        for (offset, count) in [(0, READ_MAX), (end, 1), (end.saturating_sub(100), 200), (end / 2, 100_000)] {
            match gate.read(&handle, offset, count).await {
                Ok(given) => {
                    assert!(given.is_of(&content, offset, count), "{end}, {offset}: {given:?}");
                    assert!(offset + given.bytes.len() as u64 <= end);
                }
                Err(error) => assert_eq!(error, ExportError::Corrupt(Cause::Truncated), "{end}, {offset}"),
            }
        }
    }
}

/// A store whose attributes are often not what they are, or that gives no byte of a file behind an end.
struct Fickle {
    inner: Arc<dyn Store>,
    /// Where the attributes' changes come from.
    state: Option<Arc<AtomicU64>>,
    end: u64,
}

struct FickleFile {
    inner: Arc<dyn StoreFile>,
    state: Option<Arc<AtomicU64>>,
    end: u64,
}

fn changed(attr: Attr, state: Option<&AtomicU64>) -> Attr {
    let Some(state) = state else { return attr };
    let mut random = Random::new(state.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9));
    let size = match random.below(12) {
        0 => attr.size + 1,
        1 => attr.size.saturating_sub(1),
        2 => 0,
        3 => u64::MAX,
        4 => random.below(attr.size + 5000),
        _ => attr.size,
    };
    let kind = *[Kind::Regular, Kind::Directory, Kind::Symlink, Kind::Fifo]
        .get(usize::try_from(random.below(40)).unwrap())
        .unwrap_or(&attr.kind);
    let fileid = if random.below(20) == 0 { random.below(20) } else { attr.fileid };
    let nlink = if random.below(10) == 0 { 0 } else { attr.nlink };
    Attr { size, kind, fileid, nlink, ..attr }
}

impl Store for Fickle {
    fn describe(&self) -> String {
        "fickle".to_owned()
    }
    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Attr>> {
        Box::pin(async move { Ok(changed(self.inner.stat(path).await?, self.state.as_deref())) })
    }
    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let hidden = path.starts_with(&Sidecar::directory());
            let file = FickleFile {
                inner: self.inner.open(path).await?,
                state: self.state.clone(),
                end: if hidden { u64::MAX } else { self.end },
            };
            Ok(Arc::new(file) as Arc<dyn StoreFile>)
        })
    }
    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        at: u64,
        max: usize,
    ) -> BoxFuture<'a, StoreResult<DirPage>> {
        self.inner.read_dir(path, at, max)
    }
    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Vec<u8>>> {
        self.inner.read_link(path)
    }
    fn stat_fs(&self) -> BoxFuture<'_, StoreResult<FsStat>> {
        self.inner.stat_fs()
    }
    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, StoreResult<Box<dyn StoreWriter>>> {
        self.inner.create(path, scratch)
    }
    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.remove(path)
    }
}

impl StoreFile for FickleFile {
    fn stat(&self) -> BoxFuture<'_, StoreResult<Attr>> {
        Box::pin(async move { Ok(changed(self.inner.stat().await?, self.state.as_deref())) })
    }
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, StoreResult<Bytes>> {
        let len = self.end.saturating_sub(offset).min(len as u64);
        self.inner.read_at(offset, usize::try_from(len).unwrap())
    }
}

/// What happens to [`BIG`] while it is open.
type Change = Box<dyn Fn(&Memory)>;

fn changes(big: &[u8]) -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = Vec::new();
    let lengths = [0, 1, 1023, 1024, 1025, 5000, 65_535, 65_536, 65_537, 131_072, BIG_SIZE - 1];
    for length in lengths {
        let cut = move |store: &Memory| store.mutate(BIG, |bytes| bytes.truncate(length)).unwrap();
        changes.push((format!("cut to {length}"), Box::new(cut)));
    }
    for more in [1, 700, 704, 100_000] {
        let extend = move |store: &Memory| store.mutate(BIG, |bytes| bytes.extend(vec![0; more])).unwrap();
        changes.push((format!("extended by {more}"), Box::new(extend)));
    }
    let other = content(99, BIG_SIZE);
    let (right, noise) = (big.to_vec(), other.clone());
    let more: [(&str, Change); 7] = [
        ("overwritten", Box::new(move |store| store.mutate(BIG, |bytes| bytes.clone_from(&noise)).unwrap())),
        ("replaced", Box::new(move |store| store.put(BIG, &other).unwrap())),
        ("replaced by the same", Box::new(move |store| store.put(BIG, &right).unwrap())),
        ("deleted", Box::new(|store| store.remove(BIG).unwrap())),
        ("deleted with its directory", Box::new(|store| store.remove("d").unwrap())),
        ("a directory now", Box::new(|store| store.remove(BIG).and_then(|()| store.put_dir(BIG)).unwrap())),
        ("a link now", Box::new(|store| store.put_symlink(BIG, b"one").unwrap())),
    ];
    changes.extend(more.map(|(name, change)| (name.to_owned(), change)));
    changes
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_open_gives_an_error_or_its_signed_bytes() {
    let scene = Scene::new().await;
    for (what, change) in changes(scene.big()) {
        let scene = Scene::new().await;
        let gate = scene.gate().await;
        let (handle, _) = gate.find(BIG).await.unwrap();
        for offset in [1024, 70_000, 199_000] {
            assert!(gate.read(&handle, offset, 10).await.is_ok());
        }
        change(&scene.memory);
        let size = BIG_SIZE as u64;
        let sized = !what.starts_with("cut") && !what.starts_with("extended");
        for offset in (0..size).step_by(10_007).chain([1024, 1030, 70_000, 199_000, size - 1, size, size + 5])
        {
            for count in [0, 1, 700, 5000, READ_MAX] {
                let answer = gate.read(&handle, offset, count).await;
                match &answer {
                    Ok(given) => assert!(
                        sized && given.is_of(scene.big(), offset, count),
                        "{what}, {count} at {offset}: {given:?}"
                    ),
                    Err(ExportError::Corrupt(Cause::WrongSize)) => assert!(!sized, "{what}"),
                    Err(ExportError::Corrupt(Cause::BadBlock)) => assert_eq!(what, "overwritten"),
                    Err(error) => assert_eq!(*error, ExportError::Stale, "{what}"),
                }
            }
        }
        if !sized {
            assert_eq!(gate.attributes(&handle).await.unwrap().size, size, "{what}");
        }
        // By name it is the same, but that another file may be there now.
        if let Ok(given) = gate.start(BIG).await {
            assert!(given.is_of(scene.big(), 0, READ_MAX), "{what}: {given:?}");
        }
    }
}

#[tokio::test]
async fn bytes_missing_behind_right_attributes_are_reported_as_truncated() {
    let scene = Scene::new().await;
    let (faulty, gate) = faulty(&scene).await;
    let (_, content, handle) = &scene.files[0];
    assert!(gate.read(handle, 2048, 10).await.is_ok());
    faulty.fail_every(1, Fault::ShortRead);
    let answer = gate.read(handle, 5000, 100).await;
    assert_eq!(answer, Err(ExportError::Corrupt(Cause::Truncated)));
    let refused = gate.events.refused();
    assert_eq!((refused[0].cause, refused[0].block, refused[0].served), (Cause::Truncated, Some(4), false));
    let short = gate.read(handle, 2050, 5000).await.unwrap();
    assert!(short.is_of(content, 2050, 5000) && short.bytes.len() == 1022);
}

#[tokio::test]
async fn what_cannot_be_read_is_reported_as_unreadable() {
    let scene = Scene::new().await;
    let (faulty, gate) = faulty(&scene).await;
    let (path, _, handle) = &scene.files[0];
    let unreadable = Refused {
        path: path.as_bytes().to_vec(),
        cause: Cause::Unreadable,
        block: None,
        level: None,
        hashes: false,
        client: Some(caller().client),
        served: false,
    };
    gate.attributes(handle).await.unwrap();
    let before = faulty.calls();
    assert!(gate.read(handle, 0, 10).await.is_ok());
    let calls = faulty.calls() - before;
    let mut seen = Vec::new();
    for n in 1..=calls {
        let (faulty, gate) = self::faulty(&scene).await;
        gate.attributes(handle).await.unwrap();
        faulty.fail_at(faulty.calls() + n, Fault::Error(StoreErrorKind::Io));
        if let Err(error) = gate.read(handle, 0, 10).await {
            seen.push((error, gate.events.refused()));
        }
    }
    let of_tree = |level| Refused { block: Some(0), level: Some(level), ..unreadable.clone() };
    let corrupt = ExportError::Corrupt(Cause::Unreadable);
    for wanted in [
        (ExportError::Io, vec![unreadable.clone()]),
        (corrupt, vec![unreadable.clone()]),
        (corrupt, vec![of_tree(0)]),
        (corrupt, vec![of_tree(1)]),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
    }
}

#[tokio::test]
async fn proven_blocks_outlive_damage_to_the_store() {
    let scene = Scene::new().await;
    let gate = scene.gate().await;
    let (_, content, handle) = &scene.files[0];
    // Some blocks of the first extent, all of the second, none of the third.
    assert!(gate.read(handle, 1024, 4096).await.is_ok());
    assert!(gate.read(handle, 65_536, 65_536).await.is_ok());
    scene.memory.mutate(BIG, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0xff)).unwrap();
    for _ in 0..2 {
        for (offset, count) in [(1024, 4096), (1500, 10), (65_536, 65_536), (70_001, 1000)] {
            let given = gate.read(handle, offset, count).await.unwrap();
            assert!(given.is_all_of(content, offset, count), "{count} at {offset}: {given:?}");
        }
        for offset in [0, 1023, 5120, 131_072, 199_999] {
            let answer = gate.read(handle, offset, 1).await;
            assert_eq!(answer, Err(ExportError::Corrupt(Cause::BadBlock)), "{offset}");
        }
        for (offset, stop) in [(2000, 5120), (66_000, 131_072)] {
            let given = gate.read(handle, offset, READ_MAX).await.unwrap();
            assert!(given.is_of(content, offset, READ_MAX), "{given:?}");
            assert_eq!(offset + given.bytes.len() as u64, stop);
        }
    }
    // The tree was in memory as well, as far as it was needed.
    scene.memory.mutate(BIG, |bytes| bytes.clone_from(content)).unwrap();
    assert_eq!(scene.tour(&gate).await, 0);
}

#[tokio::test]
async fn other_keys_hold_at_once_for_open_and_cached_files() {
    let scene = Scene::new().await;
    let gate = scene.gate().await;
    let (other_key, other) = key_and_trust();
    for round in 0..3 {
        assert_eq!(scene.tour(&gate).await, 0, "{round}");
        for ring in [Keyring::default(), other.clone()] {
            gate.export.set_keyring(ring);
            for (path, _, handle) in &scene.files {
                let answer = gate.read(handle, 0, 10).await;
                assert_eq!(answer, Err(ExportError::Denied(Cause::UnknownKey)), "{path}");
                assert!(!gate.access(handle).await.unwrap().read, "{path}");
            }
        }
        gate.export.set_keyring(scene.keyring.clone());
    }
    // The other way round: what nobody trusted is open, and then its key is.
    let three = &scene.files[3].1;
    seal(&shared(&scene.memory), "three", three, small_blocks(), &other_key).await;
    let gate = scene.gate().await;
    assert_eq!(gate.start("three").await, Err(ExportError::Denied(Cause::UnknownKey)));
    gate.export.set_keyring(other);
    assert!(gate.start("three").await.unwrap().is_all_of(three, 0, READ_MAX));
}

#[tokio::test]
async fn evidence_that_appears_changes_or_goes_is_noticed() {
    let scene = Scene::new().await;
    let gate = scene.gate().await;
    let three = scene.files[3].1.clone();
    let proof = scene.memory.bytes(evidence("three")).unwrap();
    assert!(gate.start("three").await.unwrap().is_all_of(&three, 0, READ_MAX));
    scene.memory.remove(evidence("three")).unwrap();
    let unsigned = Err(ExportError::Denied(Cause::Unsigned));
    eventually("it is unsigned", async || gate.start("three").await == unsigned).await;
    scene.memory.put(evidence("three"), &proof).unwrap();
    eventually("it is signed again", async || gate.start("three").await.is_ok()).await;
    let next = content(77, 3000);
    scene.memory.mutate("three", |bytes| bytes.clone_from(&next)).unwrap();
    seal(&shared(&scene.memory), "three", &next, small_blocks(), &scene.key).await;
    eventually("the new version is there", async || match gate.start("three").await {
        Ok(given) if given.is_all_of(&next, 0, READ_MAX) => true,
        Ok(given) => {
            assert!(given.is_of(&three, 0, READ_MAX));
            false
        }
        Err(error) => {
            assert_eq!(error, ExportError::Corrupt(Cause::BadBlock));
            false
        }
    })
    .await;
}

/// What warn mode serves of a file that the store has as `stored`, and what it reports.
async fn served_unproven(scene: &Scene, path: &str, stored: &[u8]) -> Vec<Refused> {
    let gate = Gate::warning(shared(&scene.memory), &scene.keyring).await;
    let (handle, attr) = gate.find(path).await.unwrap();
    assert_eq!(attr.size, stored.len() as u64);
    assert_eq!(gate.attributes(&handle).await.unwrap().size, stored.len() as u64);
    assert!(gate.access(&handle).await.unwrap().read);
    let mut refused = Vec::new();
    for _ in 0..2 {
        for (offset, count) in [(0, READ_MAX), (stored.len() as u64 / 2, 10), (stored.len() as u64, 1)] {
            let given = gate.read(&handle, offset, count).await.unwrap();
            assert!(given.is_all_of(stored, offset, count), "{path} at {offset}: {given:?}");
        }
        let given = gate.read(&handle, 0, READ_MAX).await.unwrap();
        assert_eq!(given.proven, stored.is_empty());
        refused = gate.events.refused();
        assert!(!refused.is_empty());
        assert!(refused.iter().all(|refusal| refusal.served && refusal.path == path.as_bytes()));
        assert!(refused.iter().all(|refusal| refusal.client == Some(caller().client)));
    }
    // The same to who does not relax it.
    let gate = scene.gate().await;
    let given = gate.start(path).await;
    assert!(given.is_err() || given.is_ok_and(|given| given.bytes.len() < stored.len()));
    assert!(gate.events.refused().iter().all(|refusal| !refusal.served));
    refused
}

#[tokio::test]
async fn warn_mode_serves_what_the_store_has_and_says_so() {
    let scene = Scene::new().await;
    let causes = |refused: &[Refused]| {
        let mut causes: Vec<_> = refused.iter().map(|refusal| refusal.cause).collect();
        causes.dedup();
        causes
    };
    let unsigned = scene.memory.bytes(UNSIGNED).unwrap();
    assert_eq!(causes(&served_unproven(&scene, UNSIGNED, &unsigned).await), [Cause::Unsigned]);

    let three = scene.files[3].1.clone();
    for length in [0, 1, 1024, 2999, 3001, 9000] {
        let mut resized = three.clone();
        resized.resize(length, 9);
        scene.memory.put("three", &resized).unwrap();
        assert_eq!(causes(&served_unproven(&scene, "three", &resized).await), [Cause::WrongSize], "{length}");
    }
    let mut damaged = three.clone();
    damaged[1500] ^= 1;
    scene.memory.put("three", &damaged).unwrap();
    let refused = served_unproven(&scene, "three", &damaged).await;
    assert_eq!(causes(&refused), [Cause::BadBlock]);
    assert!(refused.iter().all(|refusal| refusal.block == Some(1) && refusal.hashes));

    scene.memory.put("three", &three).unwrap();
    let proof = scene.memory.bytes(evidence("three")).unwrap();
    let spoil = |at: usize| scene.memory.mutate(evidence("three"), |bundle| bundle[at] ^= 1).unwrap();
    spoil(proof.len() - 1);
    let refused = served_unproven(&scene, "three", &three).await;
    assert_eq!(causes(&refused), [Cause::BadTreeBlock]);
    spoil(40);
    assert_eq!(causes(&served_unproven(&scene, "three", &three).await), [Cause::MalformedEvidence]);
    let (stranger, _) = key_and_trust();
    seal(&shared(&scene.memory), "three", &three, small_blocks(), &stranger).await;
    assert_eq!(causes(&served_unproven(&scene, "three", &three).await), [Cause::UnknownKey]);
}

#[tokio::test]
async fn warn_mode_proves_what_can_be_proven_and_remembers_nothing_else() {
    let scene = Scene::new().await;
    let gate = Gate::warning(shared(&scene.memory), &scene.keyring).await;
    assert_eq!(scene.memory.bytes(BIG).unwrap(), scene.big());
    let (_, content, handle) = &scene.files[0];
    for change in 1..=3 {
        scene.memory.mutate(BIG, |bytes| bytes[150_000] = content[150_000] ^ change).unwrap();
        let given = gate.read(handle, 0, READ_MAX).await.unwrap();
        assert_eq!(Some(given.bytes), scene.memory.bytes(BIG));
        assert!(given.eof && !given.proven);
        let blocks: Vec<_> = gate.events.refused().iter().map(|refusal| refusal.block).collect();
        assert_eq!(blocks, [Some(146)]);
        let beside = gate.read(handle, 151_000, 5000).await.unwrap();
        assert!(beside.proven && beside.is_all_of(content, 151_000, 5000));
    }
    scene.memory.mutate(BIG, |bytes| bytes.clone_from(content)).unwrap();
    let given = gate.read(handle, 0, READ_MAX).await.unwrap();
    assert!(given.proven && given.is_all_of(content, 0, READ_MAX));
    assert!(gate.events.refused().is_empty());
}

#[tokio::test]
async fn warn_mode_serves_nothing_that_cannot_be_read() {
    let scene = Scene::new().await;
    let faulty = Faulty::new(shared(&scene.memory));
    let (_, content, handle) = &scene.files[0];
    let mut unreadable = 0;
    for n in 1..=calls(&scene).await {
        faulty.reset();
        let gate = Gate::warning(Arc::new(faulty.clone()), &scene.keyring).await;
        faulty.fail_at(faulty.calls() + n, Fault::Error(StoreErrorKind::Io));
        for offset in [0, 100_000] {
            if let Ok(given) = gate.read(handle, offset, 5000).await {
                assert!(given.proven && given.is_of(content, offset, 5000));
            }
        }
        let refused = gate.events.refused();
        assert!(refused.iter().all(|refusal| !refusal.served), "call {n}: {refused:?}");
        unreadable += refused.iter().filter(|refusal| refusal.cause == Cause::Unreadable).count();
    }
    assert!(unreadable > 3, "{unreadable}");
}

#[tokio::test]
async fn warn_mode_says_served_of_nothing_else_than_what_it_serves() {
    let scene = Scene::new().await;
    let (_, content, handle) = &scene.files[3];
    for end in [0, 1, 512, 1024, 1500, 2999] {
        let early = Fickle { inner: shared(&scene.memory), state: None, end };
        let gate = Gate::warning(Arc::new(early), &scene.keyring).await;
        for offset in [0, 511, 512, 1024, 1499, 1500, 2000] {
            let answer = gate.read(handle, offset, 10).await;
            let given = answer.as_ref().map_or(0, |given| given.bytes.len() as u64);
            assert_eq!(given, end.saturating_sub(offset).min(10), "{offset} of {end}: {answer:?}");
            assert!(answer.is_err() || answer.unwrap().is_of(content, offset, 10));
            let refused = gate.events.refused();
            assert!(refused.iter().all(|refusal| refusal.cause == Cause::Truncated));
            let served = refused.iter().any(|refusal| refusal.served);
            assert_eq!(served, given > 0 && !refused.is_empty(), "{offset} of {end}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_must_be_waited_for_is_asked_once_for_all_that_a_read_wants() {
    let scene = Scene::new().await;
    let store = Faulty::new(shared(&scene.memory));
    store.wait_always();
    let gate = Gate::new(Arc::new(store.clone()), &scene.keyring).await;
    let (handle, content) = (scene.files[0].2, scene.big());
    let data_reads = || {
        let reads = store.reads().into_iter().filter(|(path, ..)| path.as_bytes() == BIG.as_bytes());
        reads.map(|(_, offset, len)| (offset, len)).collect::<Vec<_>>()
    };
    assert!(gate.read(&handle, 70_000, 100).await.unwrap().is_all_of(content, 70_000, 100));
    assert_eq!(data_reads(), [(69_632, 1024)], "one block for a few bytes");
    let count = u32::try_from(BIG_SIZE).unwrap();
    assert!(gate.read(&handle, 0, count).await.unwrap().is_all_of(content, 0, count));
    assert_eq!(data_reads()[1..], [(0, BIG_SIZE)]);
    assert!(gate.read(&handle, 0, count).await.unwrap().is_all_of(content, 0, count));
    assert_eq!(data_reads().len(), 2, "the cache has it");

    // What fails in the middle costs the blocks before it nothing.
    let mut bad = content.to_vec();
    bad[150_000] ^= 1;
    scene.memory.put(BIG, &bad).unwrap();
    let gate = Gate::new(Arc::new(store.clone()), &scene.keyring).await;
    let (handle, _) = gate.find(BIG).await.unwrap();
    let data = gate.read(&handle, 0, count).await.unwrap();
    assert!(data.is_of(content, 0, count));
    assert_eq!(data.bytes.len(), 150_000 / 1024 * 1024);
    let after = 150_000 / 1024 * 1024 + 1024;
    assert!(gate.read(&handle, after, count).await.unwrap().is_all_of(content, after, count));
}

#[tokio::test]
async fn what_was_replaced_while_a_file_is_examined_is_stale_whether_data_or_evidence() {
    let scene = Scene::new().await;
    let path = StorePath::parse(BIG.as_bytes()).unwrap();
    let (counting, gate) = faulty(&scene).await;
    gate.export.examine(&path, |_| ()).await.unwrap();
    let mut of_evidence = 0;
    for n in 1..=counting.calls() {
        let (faulty, gate) = faulty(&scene).await;
        faulty.fail_at(n, Fault::Error(StoreErrorKind::Stale));
        match gate.export.examine(&path, |_| ()).await {
            Ok(examined) => assert!(matches!(examined, Examination::Good { .. }), "{n}: {examined:?}"),
            Err(ExamineError::Store(error)) => {
                assert_eq!(error.kind, StoreErrorKind::Stale, "{n}");
                of_evidence += usize::from(error.operation == "read the evidence");
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert!(of_evidence > 0);
}
