//! A store that is hostile in what it lists, and in what it hides of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use nfs_verity::carrier::{SIDECAR_DIRECTORY, Sidecar};
use nfs_verity::export::{Attr, ExportError, FsStat, Kind};
use nfs_verity::sign::Keyring;
use nfs_verity::store::{
    BoxFuture, DirEntry, DirPage, Memory, Result as StoreResult, Store, StoreError, StoreErrorKind,
    StoreFile, StorePath, StoreWriter,
};

use super::scene::{Gate, caller, shared, within};

/// A memory store that answers otherwise in one respect.
struct Odd {
    inner: Arc<dyn Store>,
    oddity: Oddity,
    listings: AtomicU64,
    /// Objects in `links` that were looked at.
    looks: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// Every page of the root holds one name that is hidden, and there is always another page.
    HiddenForEver,
    /// The hidden directory has a second name in the root, and its own attributes cannot be had.
    Alias,
    /// Below 30 names, every directory holds millions of others.
    Bottomless,
    /// The directory `links` has links without end, and the kinds of objects are not told.
    Kindless,
}

const ALIAS: &[u8] = b".NFS-Verity";

impl Odd {
    fn new(inner: &Memory, oddity: Oddity) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(inner.clone()),
            oddity,
            listings: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        })
    }

    fn page(&self, path: &StorePath, cookie: u64) -> Option<DirPage> {
        let entry = |name: Vec<u8>, n: u64| DirEntry {
            name,
            cookie: cookie + n,
            fileid: 1 << 40 | (cookie + n),
            kind: Some(Kind::Directory),
        };
        let entries = match self.oddity {
            Oddity::HiddenForEver if path.is_root() => vec![entry(SIDECAR_DIRECTORY.to_vec(), 1)],
            Oddity::Bottomless if path.components().count() >= 30 => {
                (1..=4096).map(|n| entry(format!("{:0200}", cookie + n).into_bytes(), n)).collect()
            }
            Oddity::Kindless if path.as_bytes() == b"links" => {
                let of = |n| DirEntry { kind: None, ..entry(format!("{}", cookie + n).into_bytes(), n) };
                (1..=1024).map(of).collect()
            }
            _ => return None,
        };
        Some(DirPage { entries, end: false })
    }
}

impl Store for Odd {
    fn describe(&self) -> String {
        "odd".to_owned()
    }
    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Attr>> {
        Box::pin(async move {
            if self.oddity == Oddity::Kindless && path.as_bytes().starts_with(b"links/") {
                self.looks.fetch_add(1, SeqCst);
                let attr = self.inner.stat(&StorePath::root()).await?;
                return Ok(Attr { kind: Kind::Symlink, ..attr });
            }
            if self.oddity == Oddity::Alias && path.as_bytes() == ALIAS {
                return self.inner.stat(&Sidecar::directory()).await;
            }
            if self.oddity == Oddity::Alias && *path == Sidecar::directory() {
                let source = std::io::Error::other("no answer");
                return Err(StoreError::new(StoreErrorKind::Io, "stat", path, source));
            }
            self.inner.stat(path).await
        })
    }
    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Arc<dyn StoreFile>>> {
        self.inner.open(path)
    }
    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, StoreResult<DirPage>> {
        self.listings.fetch_add(1, SeqCst);
        match self.page(path, cookie) {
            // Not at once, so that a loop can be interrupted.
            Some(page) => Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(page)
            }),
            None => self.inner.read_dir(path, cookie, max),
        }
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

fn tree() -> Memory {
    let memory = Memory::new();
    memory.put(".nfs-verity/file", b"evidence").unwrap();
    memory.put("file", b"content").unwrap();
    memory
}

async fn gate(store: Arc<Odd>) -> Gate {
    Gate::new(store, &Keyring::new(Vec::new())).await
}

#[tokio::test]
async fn hidden_names_without_end_are_an_error() {
    let gate = gate(Odd::new(&tree(), Oddity::HiddenForEver)).await;
    let root = gate.export.root();
    let listed = within(gate.export.read_dir(root.as_bytes(), 0, 100, &caller())).await;
    assert_eq!(listed, Err(ExportError::Io));
}

#[tokio::test]
async fn what_may_be_the_evidence_is_not_shown() {
    let gate = gate(Odd::new(&tree(), Oddity::Alias)).await;
    let root = gate.export.root();
    assert_eq!(gate.export.lookup(root.as_bytes(), ALIAS, &caller()).await, Err(ExportError::Io));
    assert_eq!(gate.export.read_dir(root.as_bytes(), 0, 100, &caller()).await, Err(ExportError::Io));
}

#[tokio::test]
async fn looking_for_a_handle_among_millions_of_lookalikes_ends_soon() {
    let memory = tree();
    let deep = "d/".repeat(40) + "file";
    memory.put(&deep, b"content").unwrap();
    let before = Gate::new(shared(&memory), &Keyring::new(Vec::new())).await;
    let (handle, _) = before.find(&deep).await.unwrap();
    let store = Odd::new(&memory, Oddity::Bottomless);
    // A gateway that was started anew knows no path.
    let gate = gate(store.clone()).await;
    assert_eq!(gate.attributes(&handle).await, Err(ExportError::Stale));
    let listings = store.listings.load(SeqCst);
    assert!(listings < 100, "{listings} listings of 4096 names each");
}

#[tokio::test]
async fn objects_of_unknown_kind_are_looked_at_in_bounded_number() {
    let memory = tree();
    memory.put_dir("links").unwrap();
    let store = Odd::new(&memory, Oddity::Kindless);
    let gate = gate(store.clone()).await;
    let (links, _) = gate.find(".verity/links").await.unwrap();
    let listing = within(gate.export.read_dir(links.as_bytes(), 0, 10, &caller())).await.unwrap();
    assert_eq!((listing.entries.len(), listing.end), (10, false), "what is not known is shown");
    let looks = store.looks.load(SeqCst);
    assert!(looks <= 4096, "{looks}");
    let name = &listing.entries[0].name;
    let found = gate.export.lookup(links.as_bytes(), name, &caller()).await;
    assert_eq!(found.err(), Some(ExportError::NotFound));
}
