//! What one store has damaged, taken from the next one that has it whole.
//!
//! Nothing is believed of a replica that would not be believed of the first store: evidence is judged, and
//! blocks are compared with the tree, as always. So it does not matter which store a proven byte came from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::Span;
use super::error::ExportError;
use super::proof::{Failure, Prover};
use super::read::read_at;
use super::reading::{Reading, truncated};
use super::sources::{Sources, Wrong};
use super::trust::{Depth, Finding, Judged, Judgement, Trust};
use super::verified::Verified;
use crate::carrier::TreeSource;
use crate::event::Cause;
use crate::store::{Identity, Kind, StoreError, StoreErrorKind, StoreFile, StorePath, acting_as};
use crate::verity::{Descriptor, Digest};

/// How long a store that had something damaged is passed over for the same file.
pub(super) const HEALED_FOR: Duration = Duration::from_secs(10);
/// How long what could not be opened on a store, or was damaged, is not opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// The copies of one file on all stores, each opened when it is needed.
pub(super) struct Spares {
    sources: Arc<Sources>,
    path: StorePath,
    /// Where the file was opened, and where its evidence was found.
    pub(super) home: usize,
    tree: usize,
    copies: Vec<Mutex<Copy>>,
    /// The store that is read first at the moment, where that is not `home`.
    lead: Mutex<Option<(usize, Instant)>>,
}

#[derive(Default)]
struct Copy {
    file: Held<Arc<dyn StoreFile>>,
    tree: Held<Arc<dyn TreeSource>>,
}

/// Something that was opened, or could not be.
#[derive(Default)]
enum Held<T> {
    #[default]
    Unknown,
    There(T),
    /// Some of it was damaged, the first time at this moment.
    Doubtful(T, Instant),
    Missing(Instant),
}

impl<T: Clone> Held<T> {
    /// What is known; `None` when it is to be looked for.
    fn known(&self) -> Option<Option<T>> {
        match self {
            Self::There(held) => Some(Some(held.clone())),
            Self::Doubtful(held, since) if since.elapsed() < AGAIN => Some(Some(held.clone())),
            Self::Missing(since) if since.elapsed() < AGAIN => Some(None),
            Self::Doubtful(..) | Self::Missing(_) | Self::Unknown => None,
        }
    }

    fn doubt(&mut self) {
        *self = match std::mem::take(self) {
            Self::There(held) => Self::Doubtful(held, Instant::now()),
            other => other,
        };
    }

    fn of(found: Option<T>) -> Self {
        found.map_or_else(|| Self::Missing(Instant::now()), Self::There)
    }
}

impl Spares {
    /// The copies of `path`, which was opened on store number `home` with evidence from store number `tree`;
    /// `None` where there is only one store.
    pub(super) fn new(sources: &Arc<Sources>, path: &StorePath, home: usize, tree: usize) -> Option<Self> {
        sources.are_many().then(|| Self {
            sources: sources.clone(),
            path: path.clone(),
            home,
            tree,
            copies: (0..sources.len()).map(|_| Mutex::default()).collect(),
            lead: Mutex::new(None),
        })
    }

    /// The store to be read first, and the file there, if it is not the one that is open.
    pub(super) fn lead(&self) -> (usize, Option<Arc<dyn StoreFile>>) {
        let mut lead = self.lead.lock();
        let Some((source, since)) = *lead else { return (self.home, None) };
        let file = self.copies.get(source).and_then(|copy| copy.lock().file.known().flatten());
        match file {
            Some(file) if since.elapsed() < HEALED_FOR => (source, Some(file)),
            _ => {
                *lead = None;
                (self.home, None)
            }
        }
    }

    fn follow(&self, source: usize) {
        *self.lead.lock() = (source != self.home).then(|| (source, Instant::now()));
    }

    /// All stores but `one`, in order.
    fn others(&self, one: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.sources.len()).filter(move |source| *source != one)
    }

    async fn file(&self, source: usize) -> Option<Arc<dyn StoreFile>> {
        let copy = self.copies.get(source)?;
        if let Some(known) = copy.lock().file.known() {
            return known;
        }
        let found = self.sources.open(source, &self.path).await.ok().map(|(file, _)| file);
        copy.lock().file = Held::of(found.clone());
        found
    }

    /// The tree that goes with the evidence on store number `source`, if it can be that of `prover`. Evidence of
    /// another version is added to `wrong`.
    async fn tree(
        &self,
        source: usize,
        prover: &Prover<'_>,
        wrong: &mut Vec<Wrong>,
    ) -> Option<Arc<dyn TreeSource>> {
        let copy = self.copies.get(source)?;
        if let Some(known) = copy.lock().tree.known() {
            return known;
        }
        let (carriers, signed) = (&self.sources.get(source).carriers, &prover.proven.descriptor);
        let mut opened = carriers.open_for(&self.path, signed.size).await.ok();
        let claimed =
            opened.as_ref().and_then(|open| Descriptor::parse(open.evidence.descriptor.as_ref()?).ok());
        if let Some(claimed) = claimed.filter(|claimed| claimed != signed) {
            let (expected, found) = (signed.file_digest(), claimed.file_digest());
            let detail = format!("its evidence is of another version: expected {expected}, found {found}");
            let finding = Finding { cause: Cause::WrongDigest, detail };
            wrong.push(Wrong { source, finding, block: None, level: None });
            opened = None;
        }
        let size = prover.tree.geometry.tree_size();
        let found = opened.and_then(|open| open.tree).filter(|tree| tree.size() == size);
        copy.lock().tree = Held::of(found.clone());
        found
    }

    /// Has what was found damaged on store number `source` opened again after a while: by its name it may be
    /// well then.
    fn doubt(&self, source: usize, doubt: impl FnOnce(&mut Copy)) {
        if let Some(copy) = self.copies.get(source) {
            doubt(&mut copy.lock());
        }
    }

    /// Lets go of what is held of store number `source`.
    fn forget(&self, source: usize) {
        if let Some(copy) = self.copies.get(source) {
            *copy.lock() = Copy::default();
        }
    }

    /// The data `from..to` from the first store but `one` that has it whole, and which that is; in the name of
    /// `acting`, if it is for somebody. What is found to be wrong on the way is added to `wrong`.
    pub(super) async fn data(
        &self,
        prover: &mut Prover<'_>,
        one: usize,
        (from, to): (u64, u64),
        acting: Option<Identity>,
        wrong: &mut Vec<Wrong>,
    ) -> Option<(Bytes, usize)> {
        let len = usize::try_from(to - from).ok()?;
        let first = from / prover.block_size() as u64;
        for source in self.others(one) {
            let Some(file) = self.file(source).await else { continue };
            let read = read_at(&*file, from, len);
            let read = match acting.clone() {
                Some(acting) => acting_as(acting, read).await,
                None => read.await,
            };
            let data = match read {
                Ok(data) => data,
                Err(error) => {
                    wrong.extend(Wrong::unread(source, &error, first));
                    self.forget(source);
                    continue;
                }
            };
            let checked = if data.len() == len {
                prover.check(first, &data).await.map_err(|(_, failure)| failure)
            } else {
                Err(truncated(first, from + data.len() as u64, prover.proven.descriptor.size))
            };
            match checked {
                Ok(()) => return Some((data, source)),
                // Not the data, but what it would be compared with.
                Err(failure) if failure.level.is_some() => return None,
                Err(failure) => {
                    wrong.extend(Wrong::of(source, &failure));
                    self.doubt(source, |copy| copy.file.doubt());
                }
            }
        }
        None
    }

    /// The block `index` of tree level `level` from the first store but that where the evidence was found. What
    /// is found to be wrong on the way is added to `wrong`.
    async fn tree_block(
        &self,
        prover: &Prover<'_>,
        (level, index): (usize, u64),
        expected: &Digest,
        wrong: &mut Vec<Wrong>,
    ) -> Option<(Bytes, usize)> {
        let offset = prover.tree.geometry.tree_block_offset(level, index)?;
        for source in self.others(self.tree) {
            let Some(tree) = self.tree(source, prover, wrong).await else { continue };
            let Ok(bytes) = tree.read(offset, prover.block_size()).await else {
                self.forget(source);
                continue;
            };
            let found = prover.hash(&bytes);
            if found.as_ref() == Some(expected) {
                return Some((bytes, source));
            }
            let hex = |digest: Option<&Digest>| digest.map(ToString::to_string).unwrap_or_default();
            let detail = format!("expected {}, found {}", hex(Some(expected)), hex(found.as_ref()));
            let finding = Finding { cause: Cause::BadTreeBlock, detail };
            wrong.push(Wrong { source, finding, block: Some(index), level: u8::try_from(level).ok() });
            self.doubt(source, |copy| copy.tree.doubt());
        }
        None
    }

    pub(super) fn tell(&self, wrong: &[Wrong], right: usize) {
        self.sources.healed(&self.path, wrong, right);
    }
}

impl Wrong {
    /// What it says of store number `source` that its bytes for data block `block` could not be read.
    fn unread(source: usize, error: &StoreError, block: u64) -> Option<Self> {
        // A store that does not answer is told of elsewhere, and a caller who may not read is no damage, nor is a
        // version that took the place of the one that was open.
        if matches!(
            ExportError::from(error),
            ExportError::Busy | ExportError::Permission | ExportError::Stale
        ) {
            return None;
        }
        let finding = Finding { cause: Cause::Unreadable, detail: error.to_string() };
        Some(Self { source, finding, block: Some(block), level: None })
    }

    /// What a failure says of store number `source`; nothing where the store did not answer, which is told
    /// elsewhere, or has something new.
    pub(super) fn of(source: usize, failure: &Failure) -> Option<Self> {
        if failure.excuse.is_some() {
            return None;
        }
        let detail = match (&failure.expected, &failure.found) {
            (Some(expected), Some(found)) => format!("expected {expected}, found {found}"),
            _ => failure.detail.clone(),
        };
        let finding = Finding { cause: failure.cause, detail };
        Some(Self { source, finding, block: Some(failure.block), level: failure.level })
    }
}

impl Prover<'_> {
    /// The tree block that failed, from another store.
    pub(super) async fn heal(
        &self,
        level: usize,
        index: u64,
        expected: &Digest,
        failure: &Failure,
    ) -> Option<Bytes> {
        let spares = self.spares?;
        let mut wrong: Vec<_> = Wrong::of(spares.tree, failure).into_iter().collect();
        let (bytes, right) = spares.tree_block(self, (level, index), expected, &mut wrong).await?;
        spares.tell(&wrong, right);
        Some(bytes)
    }
}

impl Reading<'_> {
    /// The bytes `from..to`, which failed where they are read first, from another store: proven, and kept
    /// as `span`.
    pub(super) async fn heal(
        &mut self,
        span: Span,
        from: u64,
        to: u64,
        failure: &Failure,
    ) -> Option<Verified<Bytes>> {
        let spares = self.file.spares.as_ref().filter(|_| failure.level.is_none())?;
        let mut wrong: Vec<_> = Wrong::of(self.source, failure).into_iter().collect();
        let (acting, source) = (Some(self.acting()), self.source);
        let (data, right) = spares.data(&mut self.prover, source, (from, to), acting, &mut wrong).await?;
        spares.tell(&wrong, right);
        spares.follow(right);
        // What was read ahead came from the one that is not read first any more.
        self.ahead.clear();
        self.blocks += (to - from).div_ceil(self.prover.block_size() as u64);
        let bytes = Verified::proven(data);
        self.keep(span, &bytes);
        Some(bytes)
    }
}

impl Trust {
    /// Judges the evidence of `path` on each store until one has evidence that is accepted, beside a file
    /// of the right size. Where none has both, accepted evidence will do if another store has data enough.
    /// Else the first store's refusal is the answer, or that no store can say.
    pub(super) async fn judge_any(&self, path: &StorePath, depth: Depth) -> Result<Judged, ExportError> {
        let (mut wrong, mut sizes) = (Vec::new(), Vec::new());
        let (mut half, mut refused): (Option<Judgement>, Option<Judgement>) = (None, None);
        let mut error = None;
        let note = |source, finding| Wrong { source, finding, block: None, level: None };
        for (index, source) in self.sources.iter() {
            let size = match source.store.stat(path).await {
                Ok(attr) if attr.kind == Kind::Regular => attr.size,
                Ok(_) => {
                    wrong.push(note(index, unreadable("it is not a regular file")));
                    continue;
                }
                Err(failed) => {
                    if !matches!(failed.kind, StoreErrorKind::Unavailable | StoreErrorKind::Exhausted) {
                        wrong.push(note(index, unreadable(&failed.to_string())));
                    }
                    error = error.or(Some(ExportError::from(failed)));
                    continue;
                }
            };
            sizes.push((index, size));
            let mut judgement = match self.judge_on(index, path, size, depth).await {
                Ok(Judged::Known(judgement)) => judgement,
                Ok(unhashed @ Judged::Unhashed(_)) if wrong.is_empty() => return Ok(unhashed),
                Ok(Judged::Unhashed(_)) => continue,
                Err(failed) => {
                    error = error.or(Some(failed));
                    continue;
                }
            };
            // That of the first store is what clients see of the file, as it is at any moment.
            judgement.verdict.size = (index > 0).then_some(size);
            match judgement.verdict.finding_for(size) {
                None => {
                    self.sources.healed(path, &wrong, index);
                    return Ok(Judged::Known(judgement));
                }
                Some(finding) => {
                    wrong.push(note(index, finding));
                    match judgement.verdict.outcome.is_ok() && half.is_none() {
                        true => half = Some(judgement),
                        false => refused = refused.or(Some(judgement)),
                    }
                }
            }
        }
        if let Some(mut half) = half {
            let (at, signed) = (half.verdict.source, half.verdict.signed_size().unwrap_or(u64::MAX));
            if sizes.iter().any(|(index, size)| *index != at && *size >= signed) {
                half.verdict.size = half.verdict.full_size();
                return Ok(Judged::Known(half));
            }
            refused = match refused {
                Some(refused) if refused.verdict.source < at => Some(refused),
                _ => Some(half),
            };
        }
        match (refused, error) {
            (Some(refused), _) if refused.verdict.source == 0 => Ok(Judged::Known(refused)),
            (_, Some(error)) => Err(error),
            (Some(refused), None) => Ok(Judged::Known(refused)),
            (None, None) => Err(ExportError::Io),
        }
    }
}

fn unreadable(detail: &str) -> Finding {
    Finding { cause: Cause::Unreadable, detail: detail.to_owned() }
}
