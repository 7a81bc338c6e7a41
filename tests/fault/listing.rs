//! A store that is hostile in what it lists, and in what it hides of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use nfs_verity::carrier::bundle::Head;
use nfs_verity::carrier::{SIDECAR_DIRECTORY, Sidecar};
use nfs_verity::event::{Cause, Client};
use nfs_verity::export::{Attr, Described, ExportError, FsStat, Kind, Listing, Page, Rules};
use nfs_verity::policy::Policy;
use nfs_verity::sign::Keyring;
use nfs_verity::store::{
    BoxFuture, DirEntry, DirPage, Local, Memory, Result as StoreResult, Store, StoreError, StoreErrorKind,
    StoreFile, StorePath, StoreWriter,
};

use super::scene::{Gate, caller, eventually, shared, small_blocks, within};
use super::support::{content, key_and_trust, seal, seal_with};

/// A memory store that answers otherwise in one respect.
struct Odd {
    inner: Arc<dyn Store>,
    oddity: Oddity,
    listings: AtomicU64,
    opens: AtomicU64,
    /// Objects in `links` that were looked at; of a settled store all that are no directories.
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
    /// The last change of a directory is always long ago.
    Settled,
    /// None but that it counts.
    Counted,
}

const ALIAS: &[u8] = b".NFS-Verity";

impl Odd {
    fn new(inner: &Memory, oddity: Oddity) -> Arc<Self> {
        Self::over(Arc::new(inner.clone()), oddity)
    }

    fn over(inner: Arc<dyn Store>, oddity: Oddity) -> Arc<Self> {
        Arc::new(Self {
            inner,
            oddity,
            listings: AtomicU64::new(0),
            opens: AtomicU64::new(0),
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
            if self.oddity == Oddity::Settled {
                let mut attr = self.inner.stat(path).await?;
                if attr.kind == Kind::Directory {
                    attr.mtime.seconds -= 1_000_000_000;
                    attr.ctime.seconds -= 1_000_000_000;
                } else {
                    self.looks.fetch_add(1, SeqCst);
                }
                return Ok(attr);
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
        self.opens.fetch_add(1, SeqCst);
        self.inner.open(path)
    }
    fn read_heads<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
        len: usize,
    ) -> BoxFuture<'a, Vec<Option<(Attr, Bytes)>>> {
        self.inner.read_heads(directory, names, len)
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

/// A tree with more signed files than one task looks at, an unsigned one, one with the evidence of another, a
/// directory and a link.
async fn many() -> (Memory, Keyring) {
    let (key, keyring) = key_and_trust();
    let memory = Memory::new();
    for n in 0..300 {
        let (path, content) = (format!("d/{n:03}"), content(n, usize::try_from(100 + n).unwrap()));
        memory.put(&path, &content).unwrap();
        seal(&shared(&memory), &path, &content, small_blocks(), &key).await;
    }
    memory.put("d/unsigned", b"nobody vouches for this").unwrap();
    memory.put("d/moved", &content(7, 107)).unwrap();
    memory.put(".nfs-verity/d/moved", &memory.bytes(".nfs-verity/d/007").unwrap()).unwrap();
    memory.put_dir("d/e").unwrap();
    memory.put_symlink("d/l", b"000").unwrap();
    (memory, keyring)
}

/// All of the directory `d`, with 400 entries at most.
async fn listed(gate: &Gate) -> (Attr, Arc<Page>) {
    let (directory, _) = gate.find("d").await.unwrap();
    within(gate.export.read_dir_plus(directory.as_bytes(), 0, 400, 0, |_| {}, &caller())).await.unwrap()
}

fn listed_size(page: &Page, name: &[u8]) -> Option<u64> {
    let entry = page.entries.iter().find(|entry| entry.item.name == name)?;
    entry.object.as_ref().map(|(_, attr)| attr.size)
}

#[tokio::test]
async fn a_listing_says_of_each_name_what_a_lookup_says() {
    let (memory, keyring) = many().await;
    let gate = Gate::new(shared(&memory), &keyring).await;
    // Twice right after one another, and once more when what is known has to be confirmed.
    for wait in [0, 0, 1100] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let (attr, page) = listed(&gate).await;
        let (directory, alone) = gate.find("d").await.unwrap();
        assert_eq!((attr, page.entries.len(), page.end), (alone, 306, true));
        for Described { item, object } in &page.entries {
            let found = gate.export.lookup(directory.as_bytes(), &item.name, &caller()).await.unwrap();
            assert_eq!(*object, Some(found), "{}", item.name.escape_ascii());
        }
    }
    let (directory, _) = gate.find("d").await.unwrap();
    let cut = |listing: &mut Listing| listing.entries.truncate(3);
    let page = gate.export.read_dir_plus(directory.as_bytes(), 0, 400, 1, cut, &caller()).await.unwrap().1;
    assert_eq!(page.entries.len(), 3);
}

/// A directory of the machine, whose evidence is read and checked many at a time: good, of other keys, bad in every way.
#[tokio::test]
async fn what_is_judged_together_is_judged_as_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Local::new(directory.path()).unwrap());
    let ((key, keyring), (stranger, _)) = (key_and_trust(), key_and_trust());
    let evidence = |n: u64| directory.path().join(format!(".nfs-verity/d/{n:03}"));
    std::fs::create_dir_all(directory.path().join("d/directory")).unwrap();
    for n in 0..200 {
        let (path, content) = (format!("d/{n:03}"), content(n, usize::try_from(n * 50).unwrap()));
        std::fs::write(directory.path().join(&path), &content).unwrap();
        let signer = if n % 50 == 20 { &stranger } else { &key };
        seal_with(&store, &path, &content, small_blocks(), signer, |statement| match n % 50 {
            21 => statement.path = b"d/elsewhere".to_vec(),
            22 => statement.size += 1,
            _ => {}
        })
        .await;
        let bundle = std::fs::read(evidence(n)).unwrap();
        match n % 50 {
            // The statement itself is signed: another one in its place.
            23 => std::fs::write(evidence(n), std::fs::read(evidence(n - 1)).unwrap()).unwrap(),
            24 => std::fs::remove_file(evidence(n)).unwrap(),
            25 => std::fs::write(evidence(n), &bundle[..bundle.len() - 1]).unwrap(),
            26 => std::fs::write(directory.path().join(&path), b"of another size").unwrap(),
            27 if n > 100 => resign(&evidence(n), &evidence(n - 1)),
            _ => {}
        }
    }
    std::os::unix::fs::symlink("000", directory.path().join("d/link")).unwrap();
    let counted = Odd::over(store.clone(), Oddity::Counted);
    let [all, alone] = [Gate::new(counted.clone(), &keyring).await, Gate::new(store, &keyring).await];
    // At first, and once more when what is known has to be confirmed.
    for wait in [0, 1100] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let (_, page) = listed(&all).await;
        assert_eq!((page.entries.len(), page.end), (204, true));
        // By itself is opened what is not there, cut, or of another size, in every carrier.
        let opens = counted.opens.swap(0, SeqCst);
        assert!((12..80).contains(&opens), "{opens}");
        let (directory, _) = alone.find("d").await.unwrap();
        for Described { item, object } in &page.entries {
            let (_, found) = alone.export.lookup(directory.as_bytes(), &item.name, &caller()).await.unwrap();
            let listed = object.as_ref().map(|(_, attr)| attr);
            // With it, the verdict and all its reasons.
            assert_eq!(listed.map(|attr| attr.change), Some(found.change), "{}", item.name.escape_ascii());
            assert_eq!(listed, Some(&found), "{}", item.name.escape_ascii());
        }
    }
}

/// Puts the signature in the bundle at `from` on the statement in the bundle at `to`.
fn resign(to: &std::path::Path, from: &std::path::Path) {
    let read = |path| {
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        let extent = Head::extent(&bytes, bytes.len() as u64).unwrap();
        (Head::parse(&bytes.slice(..extent)).unwrap(), bytes.slice(extent..))
    };
    let ((mut head, tree), (other, _)) = (read(to), read(from));
    let text = |head: &Head| String::from_utf8(head.evidence.statement.clone().unwrap().to_vec()).unwrap();
    let signature =
        |text: &str| text.split_once(r#""sig":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
    let (mine, theirs) = (text(&head), signature(&text(&other)));
    head.evidence.statement = Some(mine.replace(&signature(&mine), &theirs).into());
    std::fs::write(to, [head.encode().unwrap(), tree.to_vec()].concat()).unwrap();
}

#[tokio::test]
async fn a_page_is_told_again_for_a_moment_while_directory_and_trust_stand() {
    let (memory, keyring) = many().await;
    let store = Odd::new(&memory, Oddity::Settled);
    let gate = Gate::new(store.clone(), &keyring).await;
    let (_, first) = listed(&gate).await;
    let looks = store.looks.load(SeqCst);
    assert!(looks >= 302, "{looks}");
    assert_eq!(listed_size(&first, b"unsigned"), Some(23));
    // What changes in a file does not touch its directory.
    memory.mutate("d/unsigned", |content| content.push(7)).unwrap();
    let (_, again) = listed(&gate).await;
    assert_eq!(store.looks.load(SeqCst), looks, "nothing was looked at");
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(gate.find("d/unsigned").await.unwrap().1.size, 24, "a lookup is not answered from it");
    // Other keys, and names that come and go, are seen at once.
    gate.export.set_keyring(keyring.clone());
    let (_, page) = listed(&gate).await;
    assert_eq!(listed_size(&page, b"unsigned"), Some(24));
    memory.put("d/new", b"12345").unwrap();
    let (_, page) = listed(&gate).await;
    assert_eq!(listed_size(&page, b"new"), Some(5));
    // What else changes is seen a moment later.
    memory.mutate("d/new", |content| content.push(6)).unwrap();
    eventually("the new size is listed", async || listed_size(&listed(&gate).await.1, b"new") == Some(6))
        .await;
    // Other callers are asked whether they may, and are not told what they may not look up.
    let mut other = caller();
    other.client = Client { uid: Some(4242), gid: Some(4242), ..other.client };
    let (directory, _) = gate.find("d").await.unwrap();
    memory.set_attr("d", 0o700, 1000, 1000).unwrap();
    let refused = gate.export.read_dir_plus(directory.as_bytes(), 0, 400, 0, |_| {}, &other).await;
    assert_eq!(refused.err(), Some(ExportError::Permission));
}

#[tokio::test]
async fn a_page_that_was_told_is_kept_back_by_a_policy_of_now() {
    let (memory, keyring) = many().await;
    let store = Odd::new(&memory, Oddity::Settled);
    let gate = Gate::new(store.clone(), &keyring).await;
    listed(&gate).await;
    let looks = store.looks.load(SeqCst);
    listed(&gate).await;
    assert_eq!(store.looks.load(SeqCst), looks, "it is told again");
    let text = b"policy_name=test policy_version=1.0.0\nDEFAULT action=ALLOW\nop=LIST path=d action=DENY\n";
    gate.export.set_rules(Some(Rules::new(Policy::parse(text).unwrap(), [0; 32], false)));
    let (directory, _) = gate.find("d").await.unwrap();
    let refused = gate.export.read_dir_plus(directory.as_bytes(), 0, 400, 0, |_| {}, &caller()).await;
    assert_eq!(refused.err(), Some(ExportError::Denied(Cause::Policy)));
    assert_eq!(gate.events.refused().len(), 1, "once");
}

#[tokio::test]
async fn a_directory_that_has_just_changed_is_listed_anew() {
    let (memory, keyring) = many().await;
    let gate = Gate::new(shared(&memory), &keyring).await;
    let (_, first) = listed(&gate).await;
    memory.mutate("d/unsigned", |content| content.push(7)).unwrap();
    let (_, again) = listed(&gate).await;
    assert_eq!((listed_size(&first, b"unsigned"), listed_size(&again, b"unsigned")), (Some(23), Some(24)));
}
