//! The cache on disk: it survives, stays small, and is believed in nothing.

use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nfs_verity::carrier::bundle::TREE_OFFSET;
use nfs_verity::disk_cache::{DiskCache, DiskCacheError, Key, Part, SIZE_MIN};
use nfs_verity::event::{Event, Gauge, Sink};
use nfs_verity::export::open_disk_cache;
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Memory, StorePath};
use parking_lot::Mutex;

use super::scene::{Gate, evidence, shared, small_blocks};
use super::support::{
    self, Client, NFS, Random, content, eventually, key_and_trust, receive_record, seal, seed, send_record,
};

async fn open(directory: &Path) -> DiskCache {
    DiskCache::open(directory, SIZE_MIN, Box::new(|error| panic!("{error}"))).await.unwrap()
}

fn key(index: u64) -> Key {
    Key { file: [7; 32], part: Part::Extent(index) }
}

fn block(index: u64, len: usize) -> Bytes {
    content(index, len).into()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("nfs-verity-blocks-1")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// What `du` says of the directory.
fn on_disk(directory: &Path) -> u64 {
    let here = std::fs::symlink_metadata(directory).map_or(0, |found| found.blocks() * 512);
    let Ok(entries) = std::fs::read_dir(directory) else { return here };
    here + entries.flatten().map(|entry| on_disk(&entry.path())).sum::<u64>()
}

#[tokio::test]
async fn blocks_are_found_before_and_after_they_are_written_and_in_the_next_life() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("cache");
    let cache = open(&directory).await;
    let parts = [Part::Tree(0, 1), Part::Tree(1, 1), Part::Block(1), Part::Extent(1)];
    let keys = parts.map(|part| Key { file: [1; 32], part });
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(cache.get(key).await, None);
        cache.insert(key, &block(n, 1000));
        assert_eq!(cache.get(key).await, Some(block(n, 1000)));
    }
    cache.flush().await;
    cache.close().await;
    for life in 1..4 {
        let cache = open(&directory).await;
        assert_eq!(cache.counts().entries, 4 + life - 1);
        for (n, key) in (0..).zip(&keys) {
            assert_eq!(cache.get(key).await, Some(block(n, 1000)), "{key:?}");
        }
        // What comes later goes behind, in the same segment as long as there is room.
        cache.insert(&key(life), &block(life, 10_000));
        cache.close().await;
        assert_eq!(segments(&directory).len(), 1);
    }
    assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&segments(&directory)[0]).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn it_never_grows_past_its_size_and_forgets_the_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path()).await;
    let mut random = Random::new(seed());
    for n in 0..1500 {
        let len = 1 + usize::try_from(random.below(64 * 1024)).unwrap();
        cache.insert(&key(n), &block(n, len));
        if n % 50 == 0 {
            cache.flush().await;
            assert!(on_disk(dir.path()) <= SIZE_MIN);
        }
    }
    cache.flush().await;
    let counts = cache.counts();
    assert!(counts.bytes <= SIZE_MIN && counts.capacity == SIZE_MIN && counts.skipped == 0, "{counts:?}");
    assert!(counts.bytes > SIZE_MIN * 9 / 10, "it is used: {counts:?}");
    assert!(counts.entries < 1500, "{counts:?}");
    assert!(cache.get(&key(0)).await.is_none() && cache.get(&key(1499)).await.is_some());
    cache.close().await;
    // Nor after its size was changed.
    let cache = DiskCache::open(dir.path(), 2 * SIZE_MIN, Box::new(|_| ())).await.unwrap();
    assert!(on_disk(dir.path()) <= 2 * SIZE_MIN);
    cache.close().await;
    drop(open(dir.path()).await);
    assert!(on_disk(dir.path()) <= SIZE_MIN);
}

const FILLED: &str = "NFS_VERITY_TEST_FILLED";

/// The process that the next test kills.
#[tokio::test]
#[ignore = "not a test of its own"]
async fn fills_a_cache_until_it_is_killed() {
    let Some(directory) = std::env::var_os(FILLED) else { return };
    let cache = open(directory.as_ref()).await;
    for n in 0.. {
        cache.insert(&key(n), &block(n, 20_000 + usize::try_from(n % 40_000).unwrap()));
        if n % 16 == 0 {
            cache.flush().await;
        }
    }
}

#[tokio::test]
async fn after_a_kill_what_is_found_is_right_and_its_size_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = 0;
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "disk_cache::fills_a_cache_until_it_is_killed"])
            .env(FILLED, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // As soon as it makes files, and some time later.
        let wanted = 1 + 20 * round;
        eventually("it writes", || {
            assert_eq!(child.try_wait().unwrap(), None);
            dir.path().join("nfs-verity-blocks-1").is_dir() && segments(dir.path()).len() >= wanted
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(on_disk(dir.path()) <= SIZE_MIN);
        let cache = open(dir.path()).await;
        for n in 0..3000 {
            if let Some(bytes) = cache.get(&key(n)).await {
                assert_eq!(bytes, block(n, 20_000 + usize::try_from(n % 40_000).unwrap()), "{n}");
                found += 1;
            }
        }
        cache.close().await;
    }
    assert!(found > 100, "{found}");
}

#[test]
fn blocks_that_were_read_just_before_the_end_are_there_in_the_next_life() {
    const SIZE: u32 = 8 << 20;
    let site = support::Site::new();
    let bytes = content(1, SIZE as usize);
    site.put("f", &bytes);
    site.sign(&[]);
    let cache = site.path("cache");
    std::fs::DirBuilder::new().mode(0o700).create(&cache).unwrap();
    // Each write waits for the disk, where the file system has that, so that blocks wait when it ends.
    let _ = Command::new("chattr").arg("+S").arg(&cache).stderr(Stdio::null()).status();
    let flags = ["--disk-cache", cache.to_str().unwrap(), "64MiB"];
    let mut served = site.serve(&flags);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    let step = 1 << 20;
    let calls: Vec<_> = (0..SIZE / step)
        .map(|n| client.encode(NFS, 6, |w| _ = w.opaque(&file).u64(u64::from(n * step)).u32(step)))
        .collect();
    calls.iter().for_each(|call| send_record(&mut client.stream, call));
    calls.iter().for_each(|_| assert!(receive_record(&mut client.stream).unwrap().len() > 1 << 20));
    assert_eq!(served.stop(), Some(0));
    let served = site.serve(&flags);
    // Extents of 64 KiB, and the tree: 16 blocks and the one above them.
    assert_eq!(served.metric("nfs_verity_disk_cache_entries"), f64::from(SIZE / (64 << 10) + 17));
}

#[tokio::test]
async fn two_never_share_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path()).await;
    let error = DiskCache::open(dir.path(), SIZE_MIN, Box::new(|_| ())).await.err().unwrap();
    assert!(matches!(error, DiskCacheError::Locked(_)), "{error}");
    cache.close().await;
    open(dir.path()).await.close().await;
}

#[tokio::test]
async fn places_that_are_not_ours_alone_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let silent = || Box::new(|_: &str| ());
    let public = dir.path().join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, PermissionsExt::from_mode(0o777)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    for place in [public, link] {
        let error = DiskCache::open(&place, SIZE_MIN, silent()).await.err().unwrap();
        assert!(matches!(error, DiskCacheError::Shared(_)), "{error}");
    }
    let error = DiskCache::open(dir.path(), SIZE_MIN - 1, silent()).await.err().unwrap();
    assert!(matches!(error, DiskCacheError::TooSmall(_)), "{error}");
    std::fs::write(dir.path().join("file"), b"").unwrap();
    assert!(DiskCache::open(&dir.path().join("file"), SIZE_MIN, silent()).await.is_err());
    assert!(DiskCache::open(&dir.path().join("a/b"), SIZE_MIN, silent()).await.is_err());
}

#[tokio::test]
async fn what_is_in_its_directory_by_accident_goes_and_what_is_beside_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("beside"), b"mine").unwrap();
    open(dir.path()).await.close().await;
    let home = dir.path().join("nfs-verity-blocks-1");
    for name in ["junk", "00000001.blocks", "ffffffff.blocks", "zz.blocks"] {
        std::fs::write(home.join(name), b"junk").unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("beside"), home.join("00000002.blocks")).unwrap();
    open(dir.path()).await.close().await;
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read(dir.path().join("beside")).unwrap(), b"mine");
}

/// Counts what is told of the disk cache.
#[derive(Default)]
struct Told {
    bad: AtomicU64,
    off: Mutex<Vec<String>>,
}

impl Sink for Told {
    fn emit(&self, event: &Event<'_>) {
        match event {
            Event::DiskCacheBad { .. } => _ = self.bad.fetch_add(1, Ordering::Relaxed),
            Event::DiskCacheOff { error, .. } => self.off.lock().push((*error).to_owned()),
            _ => {}
        }
    }
}

const FILE: &str = "d/file";
/// Extents in small blocks, a part of one, and a tree of three levels.
const LEN: usize = 300_000;

/// A signed file in memory, and a disk cache for its exports.
struct Site {
    dir: tempfile::TempDir,
    memory: Memory,
    keyring: Keyring,
    content: Vec<u8>,
    told: Arc<Told>,
}

impl Site {
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let (memory, content) = (Memory::new(), content(1, LEN));
        memory.put(FILE, &content).unwrap();
        seal(&shared(&memory), FILE, &content, small_blocks(), &key).await;
        Self { dir: tempfile::tempdir().unwrap(), memory, keyring, content, told: Arc::default() }
    }

    /// A gateway that was just started.
    async fn gate(&self) -> (Gate, Arc<DiskCache>) {
        let disk = open_disk_cache(self.dir.path(), SIZE_MIN, self.told.clone()).await.unwrap();
        let given = disk.clone();
        let gate = Gate::with(shared(&self.memory), &self.keyring, |options| {
            (options.disk_cache, options.sink) = (Some(given), self.told.clone());
        });
        (gate.await.unwrap(), disk)
    }

    /// A gateway that reads everything, and its orderly end.
    async fn warm(&self) {
        let (gate, disk) = self.gate().await;
        self.reads_all(&gate).await;
        end(gate, disk).await;
    }

    /// Every byte, in large and small reads.
    async fn reads_all(&self, gate: &Gate) {
        let len = LEN as u64;
        for (offset, count) in [(0, 1 << 20), (5, 1000), (70_000, 3), (len - 10, 100), (100_000, 150_000)] {
            let data = gate.read_at(FILE, offset, count).await.unwrap();
            assert!(data.is_all_of(&self.content, offset, count), "{count} at {offset}: {data:?}");
        }
    }

    /// From now on the store has other bytes in the file.
    fn spoil_store(&self) {
        self.memory.put(FILE, &content(2, LEN)).unwrap();
    }
}

async fn end(gate: Gate, disk: Arc<DiskCache>) {
    drop(gate);
    Arc::into_inner(disk).unwrap().close().await;
}

#[tokio::test]
async fn a_warm_disk_serves_what_the_store_has_no_more() {
    let site = Site::new().await;
    site.warm().await;
    site.spoil_store();
    let (gate, disk) = site.gate().await;
    site.reads_all(&gate).await;
    let counts = disk.counts();
    assert!(counts.hits > 5 && counts.bad == 0, "{counts:?}");
    let usage = gate.export.usage().disk;
    assert_eq!((usage.hits, usage.on, usage.capacity), (counts.hits, 1, SIZE_MIN));
    end(gate, disk).await;
    assert_eq!(site.told.bad.load(Ordering::Relaxed), 0);
    // Without it, the store is all there is.
    let gate = Gate::new(shared(&site.memory), &site.keyring).await;
    assert!(gate.start(FILE).await.is_err());
}

#[tokio::test]
async fn the_tree_too_comes_from_the_disk() {
    let site = Site::new().await;
    site.warm().await;
    let path = evidence(FILE);
    let store = shared(&site.memory);
    let file = store.open(&StorePath::parse(path.as_bytes()).unwrap()).await.unwrap();
    let size = usize::try_from(file.stat().await.unwrap().size).unwrap();
    let mut bytes = file.read_at(0, size).await.unwrap().to_vec();
    let tree = usize::try_from(TREE_OFFSET).unwrap();
    bytes[tree..tree + 4000].fill(0xff);
    site.memory.put(&path, &bytes).unwrap();
    assert!(Gate::new(store, &site.keyring).await.start(FILE).await.is_err());
    let (gate, disk) = site.gate().await;
    site.reads_all(&gate).await;
    end(gate, disk).await;
}

#[tokio::test]
async fn a_disk_that_gives_wrong_bytes_is_found_out_and_the_store_asked() {
    let site = Site::new().await;
    site.warm().await;
    for path in segments(site.dir.path()) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        // The table stays, all bytes behind it are others.
        let table = file.metadata().unwrap().len() / 64;
        file.write_all_at(
            &content(9, usize::try_from(file.metadata().unwrap().len() - table).unwrap()),
            table,
        )
        .unwrap();
    }
    let (gate, disk) = site.gate().await;
    site.reads_all(&gate).await;
    let counts = disk.counts();
    assert!(counts.bad > 5, "{counts:?}");
    assert!(site.told.bad.load(Ordering::Relaxed) > 0);
    end(gate, disk).await;
    // What was wrong was written anew.
    site.spoil_store();
    let (gate, disk) = site.gate().await;
    site.reads_all(&gate).await;
    assert_eq!(disk.counts().bad, 0);
    end(gate, disk).await;
}

#[tokio::test]
async fn when_disk_and_store_are_both_wrong_nothing_is_served() {
    let site = Site::new().await;
    site.warm().await;
    site.spoil_store();
    for path in segments(site.dir.path()) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let (len, table) = (file.metadata().unwrap().len(), file.metadata().unwrap().len() / 64);
        file.write_all_at(&vec![0x55; usize::try_from(len - table).unwrap()], table).unwrap();
    }
    let (gate, disk) = site.gate().await;
    for offset in [0, 1000, 70_000, LEN as u64 - 10] {
        assert!(gate.read_at(FILE, offset, 1 << 20).await.is_err());
    }
    end(gate, disk).await;
}

#[tokio::test]
async fn whatever_stands_on_the_disk_every_byte_is_right() {
    let site = Site::new().await;
    let mut random = Random::new(seed());
    for _ in 0..30 {
        site.warm().await;
        for path in segments(site.dir.path()) {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let len = file.metadata().unwrap().len();
            for _ in 0..=random.below(8) {
                // In the table as often as behind it.
                let reach = if random.below(2) == 0 { len / 64 } else { len };
                let at = random.below(reach);
                let bytes = content(random.next(), usize::try_from(random.below(3000)).unwrap());
                file.write_all_at(&bytes, at).unwrap();
            }
            file.set_len(if random.below(4) == 0 { random.below(len) } else { len }).unwrap();
        }
        let (gate, disk) = site.gate().await;
        site.reads_all(&gate).await;
        end(gate, disk).await;
    }
    assert!(site.told.off.lock().is_empty());
}

#[tokio::test]
async fn a_disk_that_fails_is_left_alone_and_clients_notice_nothing() {
    let site = Site::new().await;
    let (gate, disk) = site.gate().await;
    // New segments cannot be made where there is no directory.
    std::fs::remove_dir_all(site.dir.path().join("nfs-verity-blocks-1")).unwrap();
    site.reads_all(&gate).await;
    disk.flush().await;
    assert_eq!(site.told.off.lock().len(), 1, "{:?}", site.told.off.lock());
    assert_eq!(gate.export.usage().disk.on, 0);
    site.reads_all(&gate).await;
    assert_eq!(disk.counts().entries, 0);
    end(gate, disk).await;
}

#[tokio::test]
async fn segments_that_are_cut_under_a_running_gateway_are_only_bad() {
    let site = Site::new().await;
    site.warm().await;
    let (gate, disk) = site.gate().await;
    for path in segments(site.dir.path()) {
        std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
    }
    site.reads_all(&gate).await;
    assert!(disk.counts().bad > 0 && site.told.off.lock().is_empty());
    end(gate, disk).await;
}
