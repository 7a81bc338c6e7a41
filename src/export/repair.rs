//! Writing back: a file that is damaged on one store, and whole on others, is put right there.
//!
//! Every byte that is written is proven first, and all that was written is read and proven again. Readers meet
//! the old file or the new one, and the old or the new evidence, never a part of either.
//!
//! What may be new is not taken for damaged. Where evidence is accepted it stays, and data are only put back to
//! what it says. Where it is refused for what it says, and not for damage, all stays. Data that were written only
//! lately stay, for somebody may be about to sign them. All that is looked at again when the good copy is durable,
//! in the call before the one that gives it its name; what somebody puts there between the two is lost where the
//! store knows no better.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::Export;
use super::cache::BlockCache;
use super::checked::{AsItWas, Checked, said};
use super::examine::{Examination, examine};
use super::heal::Spares;
use super::line::{Pauses, Waiting};
use super::proof::Prover;
use super::read::read_at;
use super::trust::{Depth, Judged, Judgement, Proven, Tree, Trust};
use crate::carrier::{CarrierKind, Carriers, Evidence, Sidecar, Trailer, bundle, bundle_xattr};
use crate::event::{Cause, Event, Sink};
use crate::store::{Attr, Attributes, Kind, Store, StoreErrorKind, StorePath};
use crate::verity::{Digest, TreeBuilder, VerityError};

/// Bytes read, proven and written in one step: a multiple of every block size.
const STEP: u64 = 1024 * 1024;
/// Memory for blocks of the tree.
const TREE_BYTES: u64 = 4 * 1024 * 1024;

/// How damaged files are repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Data that were written less than this ago are left alone: their evidence may be on its way.
    pub settle: Duration,
    /// A file that is on other stores alone is put back. Nobody can tell a lost one from one that was removed.
    pub restore: bool,
}

impl Default for Repair {
    fn default() -> Self {
        Self { settle: Duration::from_secs(10 * 60), restore: false }
    }
}

/// What became of one file on one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Nothing is wrong there.
    Well,
    /// It was damaged, was written anew, and is proven to be whole.
    Repaired {
        /// `data`, `evidence` or `data and evidence`.
        what: &'static str,
        /// Bytes of data written.
        bytes: u64,
    },
    /// It is damaged, or may be, and was left as it is.
    Left {
        /// Why, for people.
        reason: String,
    },
}

impl Export {
    /// Looks at the file `path` on every store, in the order of [`Export::stores`], and repairs it where it is
    /// damaged and another store has it whole. What is done is told as events, too.
    pub async fn repair(&self, path: &StorePath) -> Vec<Mended> {
        let stores: Vec<_> = (0..self.sources.len()).collect();
        self.repair_on(path, &stores).await
    }

    /// The same on the stores with these numbers alone, places in [`Export::stores`].
    pub async fn repair_on(&self, path: &StorePath, stores: &[usize]) -> Vec<Mended> {
        self.repairer.repair(path, stores).await
    }

    /// Whether a repair puts back what a store does not have at all.
    pub fn restores(&self) -> bool {
        self.repairer.settings.restore
    }
}

/// Repairs files, one at a time.
pub(super) struct Repairer {
    trust: Arc<Trust>,
    settings: Repair,
    sink: Arc<dyn Sink>,
    pauses: Pauses,
    alone: Mutex<()>,
}

/// What one store has of a file.
struct State {
    attr: Option<Attr>,
    judgement: Judgement,
}

/// What is wrong there.
#[derive(Clone, Copy, Default)]
struct Bad {
    data: bool,
    evidence: bool,
}

type Left<T> = Result<T, String>;

fn left(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Repairer {
    pub(super) fn new(trust: Arc<Trust>, settings: Repair, sink: Arc<dyn Sink>) -> Arc<Self> {
        Arc::new(Self { trust, settings, sink, pauses: Pauses::new(), alone: Mutex::new(()) })
    }

    /// Repairs what comes along the line, until the export is gone.
    pub(super) async fn work(repairer: Weak<Self>, mut damaged: Waiting) {
        while let Some(path) = damaged.next().await {
            let Some(repairer) = repairer.upgrade() else { return };
            if repairer.pauses.is_over(&path, Instant::now()) {
                let stores: Vec<_> = (0..repairer.trust.sources.len()).collect();
                repairer.repair(&path, &stores).await;
                // From the end on: a repair may take longer than a pause.
                repairer.pauses.begin(&path, Instant::now());
            }
        }
    }

    async fn repair(&self, path: &StorePath, stores: &[usize]) -> Vec<Mended> {
        let _alone = self.alone.lock().await;
        let mut mended = Vec::new();
        for &index in stores {
            let store = &self.trust.sources.get(index).name;
            let became = match self.mend(index, path).await {
                Ok(became) => became,
                Err(reason) => Mended::Left { reason },
            };
            let path = path.as_bytes();
            match &became {
                Mended::Well => {}
                Mended::Repaired { what, bytes } => {
                    self.sink.emit(&Event::Repaired { path, store, what, bytes: *bytes });
                }
                Mended::Left { reason } => self.sink.emit(&Event::NotRepaired { path, store, reason }),
            }
            mended.push(became);
        }
        mended
    }

    /// Looks at the file on store number `index`, and puts it right.
    async fn mend(&self, index: usize, path: &StorePath) -> Left<Mended> {
        let here = self.state(index, path).await?;
        match here.attr {
            Some(attr) if attr.kind != Kind::Regular => {
                return Err("something else than a regular file has its name".to_owned());
            }
            None if !self.settings.restore => {
                return Err(
                    "it is not there, and may have been removed; scrub --repair puts it back".to_owned()
                );
            }
            Some(_) | None => {}
        }
        let Err(finding) = &here.judgement.verdict.outcome else {
            let job = self.job(index, path, &here, (&here.judgement, index))?;
            return job.put_right(job.look().await?).await;
        };
        if here.judgement.is_later {
            return Err(format!("its evidence is of a later release: {}", finding.detail));
        }
        may_be_damage(finding.cause)
            .map_err(|why| format!("{why}: {}: {}", finding.cause, finding.detail))?;
        let models = self.accepted(index, path).await;
        for (model, from) in &models {
            let job = self.job(index, path, &here, (model, *from))?;
            let bad = job.look().await;
            // With one version elsewhere that is what there has to be; of several, that which is here already.
            match bad {
                Ok(bad) if models.len() == 1 || !bad.data => return job.put_right(bad).await,
                Err(why) if models.len() == 1 => return Err(why),
                Ok(_) | Err(_) => {}
            }
        }
        match models.len() {
            0 => Err(format!("no store has evidence for it: {}", finding.cause)),
            _ => Err("other stores have several versions of it, and what is here is none of them".to_owned()),
        }
    }

    /// The work on what is `here`, with accepted evidence and the number of the store that it is from.
    fn job<'a>(
        &'a self,
        index: usize,
        path: &'a StorePath,
        here: &'a State,
        (source, from): (&'a Judgement, usize),
    ) -> Left<Job<'a>> {
        let (Ok(proven), Some(tree)) = (&source.verdict.outcome, &source.tree) else {
            return Err("its evidence is not accepted any more".to_owned());
        };
        Ok(Job {
            repairer: self,
            path,
            index,
            here,
            source,
            proven,
            tree,
            from,
            spares: Spares::new(&self.trust.sources, path, from, from),
            cache: BlockCache::in_memory(TREE_BYTES),
        })
    }

    /// The file on store number `index`.
    async fn state(&self, index: usize, path: &StorePath) -> Left<State> {
        let source = self.trust.sources.get(index);
        // What somebody has put there lately counts.
        source.forget(path);
        let attr = match source.store.stat(path).await {
            Ok(attr) => Some(attr),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(left(error)),
        };
        let size = attr.map_or(0, |attr| attr.size);
        match self.trust.judge_on(index, path, size, Depth::Patient).await.map_err(left)? {
            Judged::Known(judgement) => Ok(State { attr, judgement }),
            Judged::Unhashed(_) => Err("it was not hashed".to_owned()),
        }
    }

    /// Accepted evidence on other stores than number `index`: of each version the first.
    async fn accepted(&self, index: usize, path: &StorePath) -> Vec<(Judgement, usize)> {
        let (mut found, mut digests) = (Vec::new(), Vec::new());
        for other in (0..self.trust.sources.len()).filter(|other| *other != index) {
            if let Ok(State { judgement, .. }) = self.state(other, path).await
                && let Ok(proven) = &judgement.verdict.outcome
            {
                let digest = proven.descriptor.file_digest();
                if !digests.contains(&digest) {
                    digests.push(digest);
                    found.push((judgement, other));
                }
            }
        }
        found
    }
}

/// Whether evidence that is refused for `cause` may have been whole before; else why it is left.
fn may_be_damage(cause: Cause) -> Result<(), &'static str> {
    match cause {
        Cause::Unsigned
        | Cause::BadSignature
        | Cause::WrongSize
        | Cause::WrongDigest
        | Cause::MalformedEvidence
        | Cause::BadBlock
        | Cause::BadTreeBlock
        | Cause::Truncated => Ok(()),
        Cause::Unreadable => Err("its evidence cannot be read"),
        Cause::UnknownKey
        | Cause::Revoked
        | Cause::KeyLimits
        | Cause::TooFewSigners
        | Cause::Expired
        | Cause::WrongNamespace
        | Cause::WrongPath
        | Cause::Policy => Err("its evidence is whole, but refused"),
    }
}

/// One file on one store that is looked at, and what it is compared with.
struct Job<'a> {
    repairer: &'a Repairer,
    path: &'a StorePath,
    /// The store that is to be put right.
    index: usize,
    here: &'a State,
    /// Accepted evidence, and the store that it is from: the same one where that is well.
    source: &'a Judgement,
    proven: &'a Proven,
    tree: &'a Tree,
    from: usize,
    spares: Option<Spares>,
    cache: BlockCache,
}

impl Job<'_> {
    async fn put_right(&self, mut bad: Bad) -> Left<Mended> {
        if !bad.data && !bad.evidence {
            return Ok(Mended::Well);
        }
        let carrier = self.carrier();
        let written = match bad.data {
            true => {
                self.is_settled()?;
                Some(self.write_data(carrier).await?)
            }
            false => None,
        };
        // Evidence that only all of the data can judge may have been refused for them alone: then it stays.
        if written.is_some() && carrier == CarrierKind::Sidecar && !self.is_own() && self.is_meant().await? {
            bad.evidence = false;
        }
        // What stands in the file itself comes with it, but for its seal.
        let rest = match carrier {
            CarrierKind::Sidecar | CarrierKind::Xattr => bad.evidence,
            CarrierKind::Kernel => true,
            CarrierKind::Appended => !bad.data,
        };
        if rest {
            self.write_evidence(carrier, written.as_ref()).await?;
        }
        self.prove_again().await?;
        Ok(Mended::Repaired {
            what: match (bad.data, bad.evidence || carrier != CarrierKind::Sidecar) {
                (true, true) => "data and evidence",
                (true, false) => "data",
                (false, _) => "evidence",
            },
            bytes: if bad.data { self.size() } else { 0 },
        })
    }

    fn trust(&self) -> &Trust {
        &self.repairer.trust
    }

    fn size(&self) -> u64 {
        self.proven.descriptor.size
    }

    fn prover(&self) -> Prover<'_> {
        Prover::new(self.proven, self.tree, &self.cache, self.spares.as_ref())
    }

    /// The carrier that evidence goes into.
    fn carrier(&self) -> CarrierKind {
        self.proven.carrier
    }

    /// Whether the carrier is this store's own, and not only the one that another store uses.
    fn is_own(&self) -> bool {
        self.from == self.index
    }

    async fn look(&self) -> Left<Bad> {
        let mut bad = Bad { data: false, evidence: !self.is_own() };
        if self.is_own() && !self.tree.is_made() {
            // Without the help of others, and without what is in memory.
            let cache = BlockCache::in_memory(TREE_BYTES);
            let mut own = Prover::new(self.proven, self.tree, &cache, None);
            let mut block = 0;
            while block < self.tree.geometry.data_blocks() && self.tree.geometry.levels() > 0 {
                if let Err(failure) = own.leaf(block).await {
                    if failure.excuse.is_some() || failure.cause == Cause::Unreadable {
                        return Err(failure.detail);
                    }
                    bad.evidence = true;
                    break;
                }
                block = block.saturating_add(self.tree.geometry.arity());
            }
        }
        let Some(attr) = self.here.attr else { return Ok(Bad { data: true, ..bad }) };
        let wanted = match self.is_own() {
            true => self.source.verdict.full_size(),
            false => Some(self.size()),
        };
        if Some(attr.size) != wanted {
            return Ok(Bad { data: true, ..bad });
        }
        let file = self.trust().sources.get(self.index).store.open(self.path).await.map_err(left)?;
        let mut prover = self.prover();
        let mut at = 0;
        while at < self.size() {
            let to = (at + STEP).min(self.size());
            let len = usize::try_from(to - at).map_err(left)?;
            let data = match read_at(&*file, at, len).await {
                Ok(data) => data,
                // The device fails at this place: that is what damage looks like, too.
                Err(error) if error.kind == StoreErrorKind::Io => return Ok(Bad { data: true, ..bad }),
                Err(error) => return Err(left(error)),
            };
            let first = at / prover.block_size() as u64;
            let checked = prover.check(first, &data).await.map_err(|(_, failure)| failure);
            match checked {
                Ok(()) if data.len() == len => at = to,
                Ok(()) => return Ok(Bad { data: true, ..bad }),
                Err(failure) if failure.level.is_none() => return Ok(Bad { data: true, ..bad }),
                Err(_) => return Err("no store has a tree for it that is whole".to_owned()),
            }
            tokio::task::yield_now().await;
        }
        Ok(bad)
    }

    /// Whether the data that are there have been there for a while.
    fn is_settled(&self) -> Left<()> {
        let Some(attr) = self.here.attr else { return Ok(()) };
        let settle = self.repairer.settings.settle;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (now, written) = (i64::try_from(now).unwrap_or(i64::MAX), attr.mtime.max(attr.ctime).seconds);
        let age = now.saturating_sub(written);
        if settle.is_zero() || i64::try_from(settle.as_secs()).is_ok_and(|settle| age >= settle) {
            return Ok(());
        }
        Err(format!("it was written less than {} s ago, and may be about to be signed", settle.as_secs()))
    }

    /// The proven data `at..to`, from whichever stores have it. Gives the number of the one that has all of it,
    /// too.
    async fn data(&self, prover: &mut Prover<'_>, at: u64, to: u64) -> Left<(Vec<Bytes>, Option<usize>)> {
        let none = || format!("no store has the bytes from {at} to {to} whole");
        let spares = self.spares.as_ref().ok_or_else(none)?;
        let mut wrong = Vec::new();
        if let Some((data, from)) = spares.data(prover, usize::MAX, (at, to), None, &mut wrong).await {
            return Ok((vec![data], Some(from)));
        }
        let block_size = prover.block_size() as u64;
        let (mut blocks, mut from) = (Vec::new(), at);
        while from < to {
            let end = (from + block_size).min(to);
            wrong.clear();
            let block = spares.data(prover, usize::MAX, (from, end), None, &mut wrong).await;
            blocks.push(block.ok_or_else(none)?.0);
            from = end;
        }
        Ok((blocks, None))
    }

    /// The evidence that is written.
    fn evidence(&self) -> Left<Evidence> {
        let evidence = self.source.evidence.clone().ok_or("its evidence is gone")?;
        let descriptor = Some(Bytes::copy_from_slice(&self.proven.descriptor.encode()));
        // What a signer saw was another file.
        Ok(Evidence { descriptor, observed: None, ..evidence })
    }

    /// Writes the data, and with them whatever of the evidence can stand in the same file: it has both or
    /// neither. Gives the attributes that the file was given.
    async fn write_data(&self, carrier: CarrierKind) -> Left<Attributes> {
        let store = self.checked(self.here.attr, true);
        let evidence = self.evidence()?;
        let mut writer = store.create(self.path, &Sidecar::scratch()).await.map_err(left)?;
        let mut trailer = match carrier {
            CarrierKind::Appended => {
                let builder = TreeBuilder::new(self.proven.descriptor.params, self.size()).map_err(left)?;
                Some((builder, Trailer::new(self.path, self.size(), bundle::tree_offset(&evidence, 0))))
            }
            CarrierKind::Sidecar | CarrierKind::Kernel | CarrierKind::Xattr => None,
        };
        let mut prover = self.prover();
        let (mut at, mut givers) = (0, BTreeSet::new());
        while at < self.size() {
            let to = (at + STEP).min(self.size());
            let (pieces, giver) = self.data(&mut prover, at, to).await?;
            givers.insert(giver);
            for piece in pieces {
                writer.write_at(at, &piece).await.map_err(left)?;
                at += piece.len() as u64;
                if let Some((builder, trailer)) = &mut trailer {
                    let mut push = |offset, block: &[u8]| {
                        trailer.push(offset, block);
                        Ok::<_, VerityError>(())
                    };
                    builder.update(&piece, &mut push).map_err(left)?;
                    trailer.flush(&mut *writer).await.map_err(left)?;
                }
            }
            tokio::task::yield_now().await;
        }
        if let Some((builder, mut trailer)) = trailer {
            let mut push = |offset, block: &[u8]| {
                trailer.push(offset, block);
                Ok::<_, VerityError>(())
            };
            self.is_right(builder.finish(&mut push).map_err(left)?)?;
            trailer.finish(&mut *writer, &evidence).await.map_err(left)?;
        }
        let giver = givers.pop_first().flatten().filter(|_| givers.is_empty());
        let mut attributes = self.attributes(giver).await?;
        let mut set = None;
        if matches!(carrier, CarrierKind::Xattr | CarrierKind::Kernel) {
            let (name, value) = bundle_xattr(self.path, &evidence).map_err(left)?;
            let mut all = attributes.clone();
            all.xattrs.retain(|(other, _)| *other != name);
            all.xattrs.push((name, value));
            set = Some(writer.set_attributes(&all).await);
        }
        match set {
            Some(Ok(())) => {}
            // Where there is no room for that, it comes afterwards if it can.
            Some(Err(error))
                if !matches!(error.kind, StoreErrorKind::NoSpace | StoreErrorKind::Unsupported) =>
            {
                return Err(left(error));
            }
            Some(Err(_)) | None => writer.set_attributes(&attributes).await.map_err(left)?,
        }
        writer.commit().await.map_err(left)?;
        attributes.xattrs.clear();
        Ok(attributes)
    }

    fn is_right(&self, root: Digest) -> Left<()> {
        match root == self.proven.descriptor.root_hash {
            true => Ok(()),
            false => Err("its tree came out wrong".to_owned()),
        }
    }

    /// The attributes of the file that is replaced, but for the time of its content, which is that of the
    /// content's. Where nothing is replaced, those of another copy, but for what could give somebody more than
    /// the content: its owner, and bits beside the permissions. Store number `giver` had all of the data.
    async fn attributes(&self, giver: Option<usize>) -> Left<Attributes> {
        let sources = &self.trust().sources;
        let digest = self.proven.descriptor.file_digest();
        let mut model = None;
        for other in (0..sources.len()).filter(|other| *other != self.index) {
            // One of another version knows nothing of this one.
            let is_same = other == self.from
                || Some(other) == giver
                || self
                    .repairer
                    .state(other, self.path)
                    .await
                    .is_ok_and(|State { judgement, .. }| said(&judgement.verdict).1 == Ok(digest));
            if is_same
                && let Ok(file) = sources.get(other).store.open(self.path).await
                && let Ok(attributes) = Attributes::of(&*file).await
            {
                model = Some(attributes);
                break;
            }
        }
        if self.here.attr.is_none() {
            let model = model.ok_or("no store tells its attributes")?;
            // Extended attributes are a matter of each store.
            let (mode, owner, xattrs) = (model.mode & 0o777, None, Vec::new());
            return Ok(Attributes { mode, owner, xattrs, ..model });
        }
        let file = sources.get(self.index).store.open(self.path).await.map_err(left)?;
        let own = Attributes::of(&*file).await.map_err(left)?;
        let mtime = model.map_or(own.mtime, |model| model.mtime);
        Ok(Attributes { mtime, ..own })
    }

    /// The store, which puts nothing in place where the file is not as `attr` has it, or the evidence not as it
    /// was looked at, unless that is gone with the file.
    fn checked(&self, attr: Option<Attr>, with_evidence: bool) -> Arc<dyn Store> {
        Arc::new(Checked {
            inner: self.trust().sources.get(self.index).store.clone(),
            before: Arc::new(AsItWas {
                trust: self.repairer.trust.clone(),
                source: self.index,
                path: self.path.clone(),
                attr,
                evidence: with_evidence.then(|| said(&self.here.judgement.verdict)),
                begun: AtomicBool::new(false),
            }),
        })
    }

    /// Writes the evidence with a tree that is made of the data, which are proven on the way; `written`: the
    /// attributes of the file, if it was written before.
    async fn write_evidence(&self, kind: CarrierKind, written: Option<&Attributes>) -> Left<()> {
        let attr = match written {
            Some(written) => {
                let source = self.trust().sources.get(self.index);
                source.forget(self.path);
                let now = source.store.stat(self.path).await.map_err(left)?;
                // No store keeps more than seconds for certain, and some buckets not even those.
                let is_ours = kind == CarrierKind::Sidecar || now.mtime.seconds == written.mtime.seconds;
                if now.size != self.size() || !is_ours {
                    return Err("it changed while it was repaired".to_owned());
                }
                Some(now)
            }
            None => self.here.attr,
        };
        // Evidence in the file itself went with the file that was replaced.
        let store = self.checked(attr, written.is_none() || kind == CarrierKind::Sidecar);
        let carriers = Carriers::over(&store, &[kind]);
        let carrier = carriers.get(kind).ok_or_else(|| format!("there is no {kind} carrier for it"))?;
        let evidence = self.evidence()?;
        let offset = bundle::tree_offset(&evidence, 0);
        let mut writer = carrier.create(self.path, offset).await.map_err(left)?;
        let mut builder = TreeBuilder::new(self.proven.descriptor.params, self.size()).map_err(left)?;
        let mut prover = self.prover();
        let mut at = 0;
        while at < self.size() {
            let to = (at + STEP).min(self.size());
            for piece in self.data(&mut prover, at, to).await?.0 {
                at += piece.len() as u64;
                let mut push = |offset, block: &[u8]| {
                    writer.push(offset, block);
                    Ok::<_, VerityError>(())
                };
                builder.update(&piece, &mut push).map_err(left)?;
                writer.flush().await.map_err(left)?;
            }
            tokio::task::yield_now().await;
        }
        let mut push = |offset, block: &[u8]| {
            writer.push(offset, block);
            Ok::<_, VerityError>(())
        };
        self.is_right(builder.finish(&mut push).map_err(left)?)?;
        writer.commit(&evidence).await.map_err(left)
    }

    /// Whether the evidence that is there now is accepted, and for what the file has to be.
    async fn is_meant(&self) -> Left<bool> {
        let now = self.repairer.state(self.index, self.path).await?.judgement.verdict;
        Ok(said(&now).1 == Ok(self.proven.descriptor.file_digest()))
    }

    /// Reads back what was written.
    async fn prove_again(&self) -> Left<()> {
        if !self.is_meant().await? {
            return Err("what was written is not what was meant".to_owned());
        }
        match examine(self.trust(), self.index, self.path, |_| ()).await.map_err(left)? {
            Examination::Good { .. } => Ok(()),
            Examination::Refused { cause, detail } => {
                Err(format!("what was written does not verify: {cause}: {detail}"))
            }
            Examination::Damaged { count, .. } => {
                Err(format!("of what was written {count} blocks do not verify"))
            }
        }
    }
}
