//! The whole tree proven in turn, so that damage is found before somebody asks for it.
//!
//! A scrub walks all names in order, proves every block of every file, and looks for evidence that has no file
//! and for what was begun and never finished. Where there are replicas, their copies of each file are proven in turn,
//! so that a rotten one is found before it is needed. Where it stops it goes on the next time. It tells events and
//! changes nothing by itself, but for unfinished files where it may; what puts files right is given to it.

mod copies;
mod cursor;
mod pace;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use crate::carrier::Sidecar;
use crate::event::{Cause, Event, Finding, ScrubFinding, ScrubTotals};
use crate::export::{Examination, ExamineError, Export};
use crate::store::walk::{Found, Walk};
use crate::store::{BoxFuture, Kind, Store, StoreError, StoreErrorKind, StorePath};
use cursor::{Cursor, Phase, Place, Subject};

pub use copies::Copies;
pub use pace::{Clients, Pace, Paced};

/// So often the place is noted.
const NOTED: Duration = Duration::from_secs(1);
/// After so long nobody goes on with an unfinished file.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// How the names of unfinished files start.
const UNFINISHED: &[u8] = b"tmp-";

/// What became of a file that was found damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// It was put right; how, for people.
    Repaired(String),
    /// It was not; what is known, for people. May be empty.
    Left(String),
}

/// Puts right what is damaged.
pub trait Mend: Send + Sync + 'static {
    /// Whether it puts back what a store does not have at all.
    fn restores(&self) -> bool;

    /// Sees to the file `path` on the stores with these numbers: 0 is the first one, 1 the first replica. Gives
    /// what became of it on each of them.
    fn mend<'a>(&'a self, path: &'a StorePath, stores: &'a [usize]) -> BoxFuture<'a, Vec<Mended>>;
}

/// What a [`Scrub`] is made of.
pub struct Options {
    /// The store whose names are walked; [`Paced`] where clients or others share it.
    pub store: Arc<dyn Store>,
    /// Stores with the same tree, whose copies of the files are proven after the first store's.
    pub replicas: Vec<Arc<dyn Store>>,
    /// The export of all these that proves the files, which no client uses.
    pub export: Arc<Export>,
    /// The name of the store that its place is kept under.
    pub name: String,
    /// The name of the tree that statements must be made for.
    pub namespace: String,
    /// Files at a time.
    pub jobs: usize,
    /// The directory where its place is kept.
    pub state: PathBuf,
    /// Who sees to what is damaged.
    pub mend: Option<Arc<dyn Mend>>,
    /// Whether old unfinished files are removed.
    pub clean: bool,
}

/// Where the events of a scrub go, in order.
pub type Tell<'a> = &'a mut (dyn FnMut(&Event<'_>) + Send);

/// What keeps a scrub from its work.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The place cannot be kept.
    #[error("{}: the place of the scrub cannot be kept: {source}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The store's root cannot be looked at.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a scrub ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// False when it was stopped before the end.
    pub complete: bool,
    /// What was found.
    pub totals: ScrubTotals,
}

/// One pass over a store, or the rest of one.
pub struct Scrub {
    options: Options,
    place: Place,
}

impl Scrub {
    /// Takes the place of the scrub in its state directory.
    ///
    /// # Errors
    /// The directory cannot be used, or another process scrubs this store with it.
    pub fn new(options: Options) -> Result<Self, ScrubError> {
        let subject = Subject { store: options.name.clone(), namespace: options.namespace.clone() };
        let state = |source| ScrubError::State { path: options.state.clone(), source };
        let place = Place::take(&options.state, subject).map_err(state)?;
        Ok(Self { options, place })
    }

    /// How long until the next scrub is due that shall begin every `interval`: none where there was none, or one
    /// was interrupted.
    pub fn due(state: &Path, store: &str, namespace: &str, interval: Duration) -> Duration {
        let subject = Subject { store: store.to_owned(), namespace: namespace.to_owned() };
        let left = Place::take(state, subject).ok().and_then(|place| place.load().ok().flatten());
        match left {
            Some(Cursor { phase: Phase::Done, started, .. }) => {
                // A clock that was set back does not put it off for longer than the interval.
                let since = Duration::from_secs(now().saturating_sub(started));
                interval.saturating_sub(since)
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Ends the scrub where the store is down, for it has not lost its files; the next one goes on from here.
    async fn still_there(&self) -> Result<(), ScrubError> {
        self.options.store.stat(&StorePath::root()).await?;
        Ok(())
    }

    /// Goes through the store from where it was interrupted, to the end or until `stop` is done.
    ///
    /// # Errors
    /// The store's root cannot be looked at, or the place cannot be kept.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        tell: Tell<'_>,
    ) -> Result<Summary, ScrubError> {
        let start = Instant::now();
        let (cursor, note) = match self.place.load() {
            Ok(Some(cursor)) if cursor.phase != Phase::Done => (cursor, String::new()),
            Ok(_) => (Cursor::start(now()), String::new()),
            Err(why) => (Cursor::start(now()), format!("it starts anew, for its place is lost: {why}")),
        };
        tell(&Event::ScrubStarted {
            store: &self.options.name,
            after: cursor.after.as_ref().map(StorePath::as_bytes),
            note: &note,
        });
        let mut pass = Pass { scrub: &self, cursor, tell, noted: start, stores: vec![0] };
        let ended = {
            let mut stop = pin!(stop);
            tokio::select! {
                biased;
                () = &mut stop => Ok(false),
                ended = pass.all() => ended.map(|()| true),
            }
        };
        // Where it stopped is kept whatever stopped it.
        let kept = pass.keep();
        let Pass { cursor, tell, .. } = pass;
        let ended = ended.and_then(|complete| kept.map(|()| complete));
        let result = match &ended {
            Ok(true) => "complete".to_owned(),
            Ok(false) => "interrupted".to_owned(),
            Err(error) => error.to_string(),
        };
        let complete = matches!(ended, Ok(true));
        let (totals, duration) = (&cursor.totals, start.elapsed());
        tell(&Event::ScrubEnded { result: &result, complete, totals, duration });
        ended.map(|complete| Summary { complete, totals: cursor.totals })
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// A task that ends with what waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The file on one store.
struct Copy {
    store: usize,
    outcome: Result<Examination, ExamineError>,
    bytes: u64,
    /// What became of it, where it was seen to.
    mended: Option<Mended>,
}

impl Copy {
    fn is_good(&self) -> bool {
        matches!(self.outcome, Ok(Examination::Good { .. }))
    }

    /// Whether `mend` can do anything about it.
    fn is_for(&self, mend: &dyn Mend) -> bool {
        match &self.outcome {
            Ok(Examination::Good { .. }) => false,
            Ok(Examination::Refused { .. } | Examination::Damaged { .. }) => true,
            Err(error) if is_gone(error) => mend.restores(),
            // Its device may fail there. What does not answer, or is replaced, is no damage.
            Err(error) => is(error, StoreErrorKind::Io),
        }
    }
}

/// What comes next, in the order of the walk.
enum Next {
    /// Its copies: none where the file went away since it was listed.
    File(StorePath, Task<Vec<Copy>>),
    Trouble(StoreError),
}

/// A scrub that runs.
struct Pass<'a> {
    scrub: &'a Scrub,
    cursor: Cursor,
    tell: Tell<'a>,
    noted: Instant,
    /// The numbers of those that answered.
    stores: Vec<usize>,
}

impl<'a> Pass<'a> {
    async fn all(&mut self) -> Result<(), ScrubError> {
        self.scrub.still_there().await?;
        if self.cursor.phase == Phase::Files {
            self.find_replicas().await;
            self.files().await?;
            (self.cursor.phase, self.cursor.after) = (Phase::Evidence, None);
            self.keep()?;
        }
        if self.cursor.phase == Phase::Evidence {
            self.evidence().await?;
            (self.cursor.phase, self.cursor.after) = (Phase::Leftovers, None);
        }
        self.leftovers().await?;
        (self.cursor.phase, self.cursor.after) = (Phase::Done, None);
        Ok(())
    }

    /// Leaves out replicas that are down, for otherwise each file would be a finding.
    async fn find_replicas(&mut self) {
        let scrub = self.scrub;
        let root = StorePath::root();
        for (store, replica) in (1..).zip(&scrub.options.replicas) {
            match replica.stat(&root).await {
                Ok(_) => self.stores.push(store),
                Err(error) => self.is_down(store, &error),
            }
        }
    }

    /// The same for those that went away meanwhile.
    async fn lose_replicas(&mut self, copies: &mut Vec<Copy>) {
        let scrub = self.scrub;
        for copy in copies.iter().filter(|copy| copy.outcome.is_err()) {
            let replica = copy.store.checked_sub(1).and_then(|n| scrub.options.replicas.get(n));
            if let Some(replica) = replica.filter(|_| self.stores.contains(&copy.store))
                && let Err(error) = replica.stat(&StorePath::root()).await
            {
                self.stores.retain(|store| *store != copy.store);
                self.is_down(copy.store, &error);
            }
        }
        copies.retain(|copy| copy.outcome.is_ok() || self.stores.contains(&copy.store));
    }

    fn is_down(&mut self, replica: usize, error: &StoreError) {
        let finding = Finding::Failed(Cause::Unreadable);
        self.simple(&StorePath::root(), Some(replica), finding, &error.to_string(), false);
    }

    async fn files(&mut self) -> Result<(), ScrubError> {
        let Options { store, jobs, .. } = &self.scrub.options;
        let hidden = Some(Sidecar::directory());
        let mut walk = Walk::new(store.clone(), &StorePath::root(), hidden, self.cursor.after.as_ref());
        let (mut under_way, mut ended) = (VecDeque::new(), false);
        loop {
            // In the order of the walk, so that all up to the place is done.
            while !ended && under_way.len() < (*jobs).max(1) {
                match walk.next().await {
                    Some(Found::File(path)) => {
                        let task = self.examine(path.clone());
                        under_way.push_back(Next::File(path, task));
                    }
                    Some(Found::Other(_)) => {}
                    Some(Found::Trouble(error)) => under_way.push_back(Next::Trouble(error)),
                    None => ended = true,
                }
            }
            match under_way.pop_front() {
                Some(Next::File(path, mut task)) => {
                    if let Ok(mut copies) = (&mut task.0).await {
                        if copies.first().is_some_and(|copy| copy.outcome.is_err()) {
                            self.scrub.still_there().await?;
                        }
                        self.lose_replicas(&mut copies).await;
                        self.file(&path, copies);
                    } else {
                        self.unreadable(&path, "examining it failed");
                    }
                    self.done_to(path)?;
                }
                Some(Next::Trouble(error)) => {
                    self.trouble(&error).await?;
                    // A directory that could not be read is left behind, but its names are not done.
                }
                None => return Ok(()),
            }
        }
    }

    fn examine(&self, path: StorePath) -> Task<Vec<Copy>> {
        let Options { export, mend, .. } = &self.scrub.options;
        let (export, mend, stores) = (export.clone(), mend.clone(), self.stores.clone());
        Task(tokio::spawn(async move {
            let mut copies = Vec::new();
            for store in stores {
                let mut bytes = 0;
                let mut outcome = export.examine_on(store, &path, |more| bytes += more).await;
                if outcome.as_ref().is_err_and(|error| is(error, StoreErrorKind::Stale)) {
                    // Another file took its place meanwhile.
                    bytes = 0;
                    outcome = export.examine_on(store, &path, |more| bytes += more).await;
                }
                if store == 0 && outcome.as_ref().is_err_and(is_gone) {
                    return copies;
                }
                copies.push(Copy { store, outcome, bytes, mended: None });
            }
            if let Some(mend) = mend {
                let mut bad: Vec<_> = copies.iter_mut().filter(|copy| copy.is_for(&*mend)).collect();
                let stores: Vec<_> = bad.iter().map(|copy| copy.store).collect();
                if !stores.is_empty() {
                    let mended = mend.mend(&path, &stores).await;
                    bad.iter_mut().zip(mended).for_each(|(copy, mended)| copy.mended = Some(mended));
                }
            }
            copies
        }))
    }

    fn file(&mut self, path: &StorePath, copies: Vec<Copy>) {
        let names = self.scrub.options.export.stores();
        let good = copies.iter().find(|copy| copy.is_good()).and_then(|copy| names.get(copy.store));
        let elsewhere = match good {
            _ if self.scrub.options.replicas.is_empty() => String::new(),
            Some(name) => format!("a good copy is on {name}"),
            None => "no store has a good copy".to_owned(),
        };
        copies.into_iter().for_each(|copy| self.copy(path, copy, &elsewhere));
    }

    fn copy(&mut self, path: &StorePath, copy: Copy, elsewhere: &str) {
        let Copy { store, outcome, bytes, mended } = copy;
        let (repaired, more) = match mended {
            Some(Mended::Repaired(how)) => (true, how),
            Some(Mended::Left(why)) => (false, why),
            None => (false, elsewhere.to_owned()),
        };
        let totals = &mut self.cursor.totals;
        totals.files += 1;
        totals.bytes = totals.bytes.saturating_add(bytes);
        (self.tell)(&Event::Scrubbed { bytes });
        let failed = Finding::Failed;
        let (finding, detail, block, blocks) = match outcome {
            Ok(Examination::Good { .. }) => {
                self.cursor.totals.good += 1;
                return;
            }
            Ok(Examination::Refused { cause, detail }) => (failed(cause), detail, None, 0),
            Ok(Examination::Damaged { blocks, count }) => {
                let first = blocks.into_iter().next();
                let cause = first.as_ref().map_or(Cause::BadBlock, |block| block.cause);
                let place = first.as_ref().map(|block| (block.block, block.level));
                (failed(cause), first.map(|block| block.detail).unwrap_or_default(), place, count)
            }
            Err(error) if is_gone(&error) => (Finding::Missing, String::new(), None, 0),
            Err(error) => (failed(Cause::Unreadable), error.to_string(), None, 0),
        };
        let detail =
            [detail, more].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        self.found(ScrubFinding {
            path: path.as_bytes(),
            store: self.replica(store),
            finding,
            detail: &detail,
            block: block.map(|(block, _)| block),
            level: block.and_then(|(_, level)| level),
            blocks,
            repaired,
        });
    }

    /// The name of store number `store`, where that is a replica.
    fn replica(&self, store: usize) -> Option<&'a str> {
        let scrub = self.scrub;
        (store > 0).then(|| scrub.options.export.stores().get(store).copied()).flatten()
    }

    fn found(&mut self, found: ScrubFinding<'_>) {
        let totals = &mut self.cursor.totals;
        let count = totals.findings.entry(found.finding).or_default();
        *count = count.saturating_add(1);
        totals.repaired = totals.repaired.saturating_add(u64::from(found.repaired));
        (self.tell)(&Event::ScrubFound(found));
    }

    fn simple(
        &mut self,
        path: &StorePath,
        store: Option<usize>,
        finding: Finding,
        detail: &str,
        repaired: bool,
    ) {
        let store = store.and_then(|store| self.replica(store));
        let (path, block, level, blocks) = (path.as_bytes(), None, None, 0);
        self.found(ScrubFinding { path, store, finding, detail, block, level, blocks, repaired });
    }

    fn unreadable(&mut self, path: &StorePath, detail: &str) {
        self.simple(path, None, Finding::Failed(Cause::Unreadable), detail, false);
    }

    /// Something that could not be looked at. What is gone since it was listed is none of it.
    async fn trouble(&mut self, error: &StoreError) -> Result<(), ScrubError> {
        if error.kind != StoreErrorKind::NotFound {
            self.scrub.still_there().await?;
            self.unreadable(&error.path, &error.to_string());
        }
        Ok(())
    }

    /// Evidence of files that are not there.
    async fn evidence(&mut self) -> Result<(), ScrubError> {
        let store = &self.scrub.options.store;
        let (base, hidden) = (Sidecar::directory(), Some(Sidecar::scratch()));
        let mut walk = Walk::new(store.clone(), &base, hidden, self.cursor.after.as_ref());
        while let Some(found) = walk.next().await {
            let place = match found {
                Found::File(place) => place,
                Found::Other(_) => continue,
                Found::Trouble(error) => {
                    self.trouble(&error).await?;
                    continue;
                }
            };
            let below = place.components().skip(base.components().count()).collect::<Vec<_>>().join(&b'/');
            let Ok(path) = StorePath::parse(&below) else { continue };
            match store.stat(&path).await {
                Ok(attr) if attr.kind == Kind::Regular => {}
                Ok(_) => self.simple(
                    &place,
                    None,
                    Finding::Orphan,
                    "something else than a file has its name",
                    false,
                ),
                Err(error) => match error.kind {
                    StoreErrorKind::NotFound | StoreErrorKind::NotADirectory | StoreErrorKind::Symlink => {
                        let mended = match &self.scrub.options.mend {
                            Some(mend) if mend.restores() => mend.mend(&path, &[0]).await.pop(),
                            Some(_) | None => None,
                        };
                        let (repaired, detail) = match mended {
                            Some(Mended::Repaired(how)) => (true, how),
                            Some(Mended::Left(why)) => (false, why),
                            None => (false, String::new()),
                        };
                        self.simple(&place, None, Finding::Orphan, &detail, repaired);
                    }
                    _ => self.trouble(&error).await?,
                },
            }
            self.done_to(place)?;
        }
        Ok(())
    }

    /// Files among the evidence that nobody will finish.
    async fn leftovers(&mut self) -> Result<(), ScrubError> {
        let Options { store, clean, .. } = &self.scrub.options;
        let mut walk = Walk::new(store.clone(), &Sidecar::scratch(), None, self.cursor.after.as_ref());
        while let Some(found) = walk.next().await {
            let path = match found {
                Found::File(path) if path.name().starts_with(UNFINISHED) => path,
                Found::File(_) | Found::Other(_) => continue,
                Found::Trouble(error) => {
                    self.trouble(&error).await?;
                    continue;
                }
            };
            let written = match store.stat(&path).await {
                Ok(attr) => u64::try_from(attr.mtime.seconds).unwrap_or(0),
                Err(error) => {
                    self.trouble(&error).await?;
                    continue;
                }
            };
            if now().saturating_sub(written) < ABANDONED.as_secs() {
                continue;
            }
            let removed = if *clean { Some(store.remove(&path).await) } else { None };
            match removed {
                None => self.simple(&path, None, Finding::Leftover, "", false),
                Some(Ok(())) => self.simple(&path, None, Finding::Leftover, "removed", true),
                Some(Err(error)) => self.simple(&path, None, Finding::Leftover, &error.to_string(), false),
            }
            self.done_to(path)?;
        }
        Ok(())
    }

    /// All up to `path` is done.
    fn done_to(&mut self, path: StorePath) -> Result<(), ScrubError> {
        self.cursor.after = Some(path);
        if self.noted.elapsed() >= NOTED { self.keep() } else { Ok(()) }
    }

    fn keep(&mut self) -> Result<(), ScrubError> {
        self.noted = Instant::now();
        let kept = self.scrub.place.save(&self.cursor);
        kept.map_err(|source| ScrubError::State { path: self.scrub.options.state.clone(), source })
    }
}

/// Whether the file went away since it was listed.
fn is_gone(error: &ExamineError) -> bool {
    is(error, StoreErrorKind::NotFound)
}

fn is(error: &ExamineError, kind: StoreErrorKind) -> bool {
    matches!(error, ExamineError::Store(error) if error.kind == kind)
}
