//! Listings with handles and attributes: of many names at a time, and told again for a moment.
//!
//! What a listing says of a name is what a LOOKUP of it says. Where the directory and the trust are what they were,
//! it may be as old as [`TOLD_FOR`]; a LOOKUP, GETATTR or READ is never answered from a listing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::task::JoinSet;

use super::Export;
use super::error::ExportError;
use super::handle::{FileHandle, Tag};
use super::names::{DESCRIBE_AT_ONCE, DirItem, Known, Listing};
use super::nodes::Node;
use super::permission::Caller;
use super::proof_directory::Object;
use super::trust::{Depth, Verdict};
use crate::carrier::SIDECAR_DIRECTORY;
use crate::store::{Attr, Identity, Kind, Time};

/// How long a page is told again.
const TOLD_FOR: Duration = Duration::from_secs(5);
/// A directory that changed so shortly ago may change again without a sign of it: within a tick of the clock that
/// stamps it, and that clock may be another machine's.
const SETTLED: Duration = Duration::from_secs(2);
/// Memory for pages, in bytes.
const PAGES_BYTES: u64 = 28 * 1024 * 1024;
/// About as many pages as have room; so few that the cache is one shard.
const PAGES: usize = 32;
/// Names that one task looks at, and whose evidence it judges together: with more, checking the signatures takes no
/// less time each.
const NAMES_EACH: usize = 64;

/// One name of a listing with what it stands for.
#[derive(Clone, Debug)]
pub struct Described {
    /// The name.
    pub item: DirItem,
    /// Its handle and attributes; `None` for what is not there any more, and for what only hashing a file can tell.
    pub object: Option<(FileHandle, Attr)>,
}

/// Part of a directory.
#[derive(Debug)]
pub struct Page {
    /// The entries, in the store's order.
    pub entries: Vec<Described>,
    /// True when nothing follows.
    pub end: bool,
}

/// Which page.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    directory: Tag,
    cookie: u64,
    max_entries: usize,
    limits: u64,
    /// In whose name it was listed: a store may show other names to others.
    acting: Identity,
}

/// A page, and the state of things in which it stands.
#[derive(Clone)]
struct Told {
    page: Arc<Page>,
    directory: State,
    generation: u64,
    made: Instant,
}

/// What moves when names come or go.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State(u64, Time, Time, u64);

impl State {
    fn of(directory: &Attr) -> Self {
        Self(directory.fileid, directory.mtime, directory.ctime, directory.change)
    }

    /// Whether the last change was long enough ago for the next one to show.
    fn is_settled(&self) -> bool {
        let Self(_, mtime, ctime, _) = self;
        let last = Duration::from_secs(u64::try_from(ctime.max(mtime).seconds).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(last).is_some_and(|ago| ago > SETTLED)
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Told> for ByBytes {
    fn weight(&self, _: &Key, told: &Told) -> u64 {
        let names: usize = told.page.entries.iter().map(|entry| entry.item.name.capacity()).sum();
        (256 + names + size_of::<Described>() * told.page.entries.capacity()) as u64
    }
}

/// The pages that were told a moment ago.
pub(super) struct Listings(Cache<Key, Told, ByBytes>);

impl Listings {
    pub(super) fn new() -> Self {
        // Pages are large: in several shards, each with a part of the room, some would go before it is full.
        Self(Cache::with_weighter(PAGES, PAGES_BYTES, ByBytes))
    }
}

impl Export {
    /// At most `max_entries` entries of a directory behind `cookie`, with handles and attributes, and the
    /// attributes of the directory. Nothing is looked at that `cut` takes away; equal `limits` cut alike.
    pub async fn read_dir_plus(
        self: &Arc<Self>,
        directory: &[u8],
        cookie: u64,
        max_entries: usize,
        limits: u64,
        cut: impl FnOnce(&mut Listing),
        caller: &Caller,
    ) -> Result<(Attr, Arc<Page>), ExportError> {
        let (object, attr) = self.directory(directory).await?;
        let access = self.identity.access(&attr, caller);
        if !access.read {
            return Err(ExportError::Permission);
        }
        self.may_list(&object.node, caller)?;
        let key = Key {
            directory: object.node.tag,
            cookie,
            max_entries,
            limits,
            acting: self.identity.acting(caller),
        };
        let (state, generation) = (State::of(&attr), self.trust.generation());
        let is_told = object.view.is_none() && access.lookup;
        if is_told
            && let Some(told) = self.listings.0.get(&key)
            && (told.directory, told.generation) == (state, generation)
            && told.made.elapsed() < TOLD_FOR
        {
            return Ok((attr, told.page));
        }
        let made = Instant::now();
        let mut listing = self.list((object.clone(), attr), cookie, max_entries, caller).await?;
        cut(&mut listing);
        let names: Vec<Vec<u8>> = listing.entries.iter().map(|item| item.name.clone()).collect();
        let objects = if access.lookup { self.look_at(object, names).await } else { vec![None; names.len()] };
        let described = listing.entries.into_iter().zip(objects);
        let entries: Vec<_> = described.map(|(item, object)| Described { item, object }).collect();
        let page = Arc::new(Page { entries, end: listing.end });
        let is_whole = page.entries.iter().all(|entry| entry.object.is_some());
        if is_told && is_whole && state.is_settled() {
            let page = page.clone();
            self.listings.0.insert(key, Told { page, directory: state, generation, made });
        }
        Ok((listing.directory, page))
    }

    /// Handles and attributes of names in a directory, in the order of `names`; `None` for what is
    /// not there any more, and for what only hashing a file can tell: a listing must not read every file.
    pub async fn describe(
        self: &Arc<Self>,
        directory: &[u8],
        names: &[Vec<u8>],
        caller: &Caller,
    ) -> Vec<Option<(FileHandle, Attr)>> {
        match self.directory(directory).await {
            Ok((object, attr)) if self.identity.access(&attr, caller).lookup => {
                self.look_at(object, names.to_vec()).await
            }
            _ => vec![None; names.len()],
        }
    }

    /// [`Export::describe`], on as many processors as there are.
    async fn look_at(
        self: &Arc<Self>,
        directory: Object,
        names: Vec<Vec<u8>>,
    ) -> Vec<Option<(FileHandle, Attr)>> {
        if names.len() <= NAMES_EACH {
            // Boxed, or every call of whatever procedure would carry room for it.
            return Box::pin(self.look_at_some(&directory, &names)).await;
        }
        let mut objects = vec![None; names.len()];
        let (directory, mut names) = (Arc::new(directory), names.into_iter());
        let mut tasks = JoinSet::new();
        for from in (0..objects.len()).step_by(NAMES_EACH) {
            let (export, directory) = (self.clone(), directory.clone());
            let some: Vec<_> = names.by_ref().take(NAMES_EACH).collect();
            tasks.spawn(async move { (from, export.look_at_some(&directory, &some).await) });
        }
        while let Some(done) = tasks.join_next().await {
            let Ok((from, found)) = done else { continue };
            objects.iter_mut().skip(from).zip(found).for_each(|(to, object)| *to = object);
        }
        objects
    }

    async fn look_at_some(&self, directory: &Object, names: &[Vec<u8>]) -> Vec<Option<(FileHandle, Attr)>> {
        let attrs = match directory.view {
            None => self.stat_names(&directory.node, names).await,
            Some(_) => vec![None; names.len()],
        };
        let mut found = Vec::with_capacity(names.len());
        for (name, attr) in names.iter().zip(attrs) {
            found.push(match attr {
                Some(attr) => self.named(&directory.node, name, attr).await,
                None => None,
            });
        }
        self.confirm(&directory.node, names, &found).await;
        let known = self.know(&directory.node, names, &found).await;
        let mut described = Vec::with_capacity(names.len());
        for (n, ((name, found), known)) in names.iter().zip(found).zip(known).enumerate() {
            if n % DESCRIBE_AT_ONCE == DESCRIBE_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            described.push(self.described(directory, name, found, known).await);
        }
        described
    }

    async fn described(
        &self,
        directory: &Object,
        name: &[u8],
        found: Option<(Arc<Node>, Attr)>,
        known: Option<Known>,
    ) -> Option<(FileHandle, Attr)> {
        match (found, known) {
            (Some((node, attr)), Some(known)) => {
                let (attr, _) = self.presented_as(&node, attr, known);
                Some((self.nodes.handle(&node, None), attr))
            }
            (Some((node, attr)), None) => {
                let (attr, _) = self.presented(&node, attr, Depth::Glance).await.ok()?;
                Some((self.nodes.handle(&node, None), attr))
            }
            (None, _) if directory.view.is_some() || self.is_special(&directory.node, name) => {
                let found = self.step(directory, name, Depth::Glance).await.ok();
                found.map(|(object, attr)| (self.handle(&object), attr))
            }
            (None, _) => None,
        }
    }

    /// Judges together the evidence of those files of which nothing is known that holds now; `None` for the others.
    async fn know(
        &self,
        directory: &Node,
        names: &[Vec<u8>],
        found: &[Option<(Arc<Node>, Attr)>],
    ) -> Vec<Option<Known>> {
        let mut known: Vec<_> = names.iter().map(|_| None).collect();
        let (mut files, mut nodes, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for ((name, found), known) in names.iter().zip(found).zip(&mut known) {
            if let Some((node, attr)) = found
                && attr.kind == Kind::Regular
                && self.verdicts.get(&node.tag).is_none_or(|verdict| !self.trust.is_fresh(&verdict))
            {
                files.push((&name[..], attr.size));
                nodes.push(&**node);
                places.push(known);
            }
        }
        let learn = |place: usize, judged| nodes.get(place).map(|node: &&Node| self.learn(node, judged).0);
        let learned = self.trust.judge_together(&directory.path, &files, learn).await;
        places.into_iter().zip(learned).for_each(|(to, learned)| *to = learned.flatten());
        known
    }

    /// The store's attributes of those `names` in the directory `node` that stand for what the store has there.
    async fn stat_names(&self, node: &Node, names: &[Vec<u8>]) -> Vec<Option<Attr>> {
        let plain = |name| if self.is_special(node, name) { &[][..] } else { name };
        let plain: Vec<&[u8]> = names.iter().map(Vec::as_slice).map(plain).collect();
        self.store.stat_names(&node.path, &plain).await
    }

    /// Whether `name` in the directory `node` is another thing than what the store has by that name.
    fn is_special(&self, node: &Node, name: &[u8]) -> bool {
        let in_root = || name == SIDECAR_DIRECTORY || self.mirror.settings.is_named(name);
        matches!(name, b"." | b"..") || (node.path.is_root() && in_root())
    }

    async fn named(&self, directory: &Node, name: &[u8], attr: Attr) -> Option<(Arc<Node>, Attr)> {
        let path = directory.path.join(name).ok()?;
        Some((self.node_of(path, &attr).await.ok()?, attr))
    }

    /// Looks at the evidence of files whose verdicts have to be confirmed, all at once.
    async fn confirm(&self, directory: &Node, names: &[Vec<u8>], found: &[Option<(Arc<Node>, Attr)>]) {
        let mut known: Vec<(&[u8], &Node, Verdict)> = Vec::new();
        for (name, found) in names.iter().zip(found) {
            if let Some((node, attr)) = found
                && attr.kind == Kind::Regular
                && let Some(verdict) = self.verdicts.get(&node.tag)
                && !self.trust.is_fresh(&verdict)
            {
                known.push((name, node, verdict));
            }
        }
        let verdicts: Vec<_> = known.iter().map(|(name, _, verdict)| (*name, verdict)).collect();
        for place in self.trust.hold(&directory.path, &verdicts).await {
            if let Some((_, node, verdict)) = known.get(place) {
                self.verdicts.insert(node.tag, verdict.clone().confirmed());
            }
        }
    }
}
