//! From evidence to a verdict: opened once, its signature checked once, kept until the evidence,
//! the trust or the clock gives a reason to look again.

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ring::digest;
use tokio::sync::Semaphore;

use super::cache::FileKey;
use super::error::{ExportError, cause, excuse, exhausted, replaced};
use super::fingerprint::fingerprint;
use super::heal::HEALED_FOR;
use super::items::Items;
use super::names::DESCRIBE_AT_ONCE;
use super::sources::Sources;
use super::whole::{Wanted, Whole, WholeError, Wholes, passing};
use crate::carrier::bundle::BundleError;
use crate::carrier::{CarrierError, CarrierKind, Evidence, OpenEvidence, Stamp, TreeSource};
use crate::event::Cause;
use crate::sign::{
    Acceptance, Expected, HashName, Keyring, Opened, Rejection, Revoked, Signer, open_together, verify,
    verify_opened,
};
use crate::store::{Attr, StorePath};
use crate::verity::{BlockHasher, Descriptor, Geometry, Params, VerityError};

/// How long a verdict stands before the evidence is looked at again.
pub(super) const RECHECK: Duration = Duration::from_secs(1);

/// As many signatures and certificates beside the statement are checked at once; more take a while.
const FEW: usize = 4;

/// The most characters of a finding's facts.
const DETAIL_MAX: usize = 400;

/// What a file was proven to be.
pub(super) struct Proven {
    pub(super) descriptor: Descriptor,
    pub(super) signers: Arc<[Signer]>,
    /// When it was signed, as the signer says, in seconds since 1970.
    pub(super) signed: Option<i64>,
    /// Which of the PKCS#7 messages counted.
    pub(super) pkcs7: Option<usize>,
    /// Which of the IMA values counted.
    pub(super) ima: Option<usize>,
    /// Which of them is over the fs-verity digest and counted.
    pub(super) ima_verity: Option<usize>,
    /// Where the evidence was.
    pub(super) carrier: CarrierKind,
    /// Bytes of evidence behind the data in the store's file.
    trailer: u64,
}

/// Why a file was not accepted, with facts for people.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

/// What a file was found to be.
pub(super) type Outcome = Result<Arc<Proven>, Arc<Finding>>;

/// One state of a file's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The store that it is on.
    pub(super) source: usize,
    pub(super) carrier: CarrierKind,
    pub(super) stamp: Stamp,
    /// SHA-256 of what it says: a store may show other evidence under the same stamp.
    pub(super) content: [u8; 32],
}

impl Seen {
    fn of(open: &OpenEvidence, source: usize) -> Self {
        Self { source, carrier: open.carrier, stamp: open.stamp, content: content(&open.evidence) }
    }
}

/// The digest of all parts, each with its length.
fn content(evidence: &Evidence) -> [u8; 32] {
    let Evidence { descriptor, statement, pkcs7, ima, certificates, observed: _ } = evidence;
    let mut hash = digest::Context::new(&digest::SHA256);
    let lists = [descriptor.as_slice(), statement.as_slice(), pkcs7, ima, certificates];
    for list in lists {
        hash.update(&(list.len() as u64).to_le_bytes());
        for part in list {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finish().as_ref().try_into().unwrap_or_default()
}

/// What is known of one file's evidence.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// The evidence that was judged; `None` when none could be read.
    pub(super) seen: Option<Seen>,
    /// What can be told of the file.
    pub(super) items: Items,
    /// What it adds to the change attribute.
    pub(super) fingerprint: u64,
    /// The store whose evidence it is on.
    pub(super) source: usize,
    /// The size of the file that the evidence goes with, where that is not the one that clients see.
    pub(super) size: Option<u64>,
    trust: u64,
    /// When something ends on which it rests, in seconds since 1970.
    until: Option<i64>,
    made: Instant,
    checked: Instant,
}

/// A verdict, with the tree that proves blocks when it accepts the file and they are asked for.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) tree: Option<Box<Tree>>,
    /// What was judged; `None` when it could not be read.
    pub(super) evidence: Option<Evidence>,
    /// There is evidence of a later release, which may be whole.
    pub(super) is_later: bool,
}

/// Evidence that only hashing all of the file can judge, which was not done.
pub(super) struct Unhashed {
    pub(super) evidence: Evidence,
    pub(super) seen: Seen,
}

/// What becomes of looking at evidence.
pub(super) enum Judged {
    Known(Judgement),
    Unhashed(Unhashed),
}

/// The tree of an accepted file, with what proves blocks under it.
pub(super) struct Tree {
    pub(super) geometry: Geometry,
    pub(super) hasher: BlockHasher,
    pub(super) cache_key: FileKey,
    source: Source,
}

/// Where a tree is read.
enum Source {
    /// It came with the evidence.
    Carried(Arc<dyn TreeSource>),
    /// All of the file was hashed.
    Made(Arc<Whole>),
}

impl Tree {
    fn new(descriptor: &Descriptor, geometry: Geometry, source: Source) -> Box<Self> {
        let hasher = BlockHasher::new(&descriptor.params);
        Box::new(Self { geometry, hasher, cache_key: FileKey::new(&descriptor.file_digest()), source })
    }

    /// Exactly `len` bytes from `offset`.
    pub(super) async fn read(&self, offset: u64, len: usize) -> Result<Bytes, Unread> {
        match &self.source {
            Source::Carried(tree) => tree.read(offset, len).await.map_err(|error| {
                let Finding { cause, detail } = finding(&error);
                // It was there when it was opened.
                let cause = if cause == Cause::Unsigned { Cause::MalformedEvidence } else { cause };
                Unread { finding: Finding { cause, detail }, excuse: excuse(&error) }
            }),
            Source::Made(whole) => whole.read_tree(offset, len).await.map_err(|error| Unread {
                finding: Finding {
                    cause: Cause::Unreadable,
                    detail: format!("the tree made from the file: {error}"),
                },
                excuse: None,
            }),
        }
    }

    /// Whether the tree was made from the file, since none came with the evidence.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.source, Source::Made(_))
    }
}

/// Why a part of a tree could not be read.
pub(super) struct Unread {
    pub(super) finding: Finding,
    /// What the client hears where nothing is wrong with the tree.
    pub(super) excuse: Option<ExportError>,
}

/// How far to go for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of a file may be hashed, and whoever waits for that too long is told to come back.
    Full,
    /// The same for as long as it takes.
    Patient,
    /// Nothing is hashed that was not: a listing must not read every file.
    Glance,
}

/// The keys that are trusted now.
struct Trusted {
    keyring: Keyring,
    generation: u64,
}

/// Judges evidence.
pub(super) struct Trust {
    namespace: String,
    pub(super) sources: Arc<Sources>,
    wholes: Arc<Wholes>,
    trusted: ArcSwap<Trusted>,
    /// Who signed the file that was judged last: most likely who signed the next one.
    signers: ArcSwap<Arc<[Signer]>>,
    /// Turns of [`Trust::judge_together`], as many as keep the processors busy: each has evidence in memory.
    turns: Semaphore,
}

impl Trust {
    pub(super) fn new(
        namespace: String,
        sources: Arc<Sources>,
        wholes: Arc<Wholes>,
        keyring: Keyring,
    ) -> Self {
        let trusted = ArcSwap::from_pointee(Trusted { keyring, generation: 0 });
        let signers = ArcSwap::from_pointee(Arc::from([]));
        let turns = Semaphore::new(2 * std::thread::available_parallelism().map_or(1, NonZero::get));
        Self { namespace, sources, wholes, trusted, signers, turns }
    }

    /// Trusts `keyring` from now on, also for files that are open.
    pub(super) fn replace(&self, keyring: Keyring) {
        self.trusted.rcu(|before| Trusted { keyring: keyring.clone(), generation: before.generation + 1 });
    }

    /// Revokes what `revoked` names, and nothing else, from now on, also for files that are open.
    pub(super) fn revoke(&self, revoked: &Revoked) {
        self.trusted.rcu(|before| Trusted {
            keyring: before.keyring.clone().with_revoked(revoked.clone()),
            generation: before.generation + 1,
        });
    }

    /// Gives up descriptors that can be had again.
    pub(super) fn relieve(&self) {
        self.wholes.close();
    }

    /// The keys that are trusted now.
    pub(super) fn keyring(&self) -> Keyring {
        self.trusted.load().keyring.clone()
    }

    /// Judges the evidence of `path`, which has `size` bytes in the store, as it is now.
    pub(super) async fn judge(
        &self,
        path: &StorePath,
        size: u64,
        depth: Depth,
    ) -> Result<Judged, ExportError> {
        match self.sources.are_many() {
            true => self.judge_any(path, depth).await,
            false => self.judge_on(0, path, size, depth).await,
        }
    }

    /// [`Trust::judge`] of what store number `source` has, and it alone.
    pub(super) async fn judge_on(
        &self,
        source: usize,
        path: &StorePath,
        size: u64,
        depth: Depth,
    ) -> Result<Judged, ExportError> {
        let trusted = self.trusted.load_full();
        let asked = Asked { source, path, size, depth, opened: None, for_reads: true };
        let now = Instant::now();
        let carriers = &self.sources.get(source).carriers;
        let open = match carriers.open_for(path, size).await {
            // It was put there while it was opened.
            Err(error) if replaced(&error) => carriers.open_for(path, size).await,
            open => open,
        };
        let open = match open {
            Ok(open) => open,
            Err(error) if exhausted(&error) => return Err(ExportError::Busy),
            Err(error) => {
                let is_later =
                    matches!(error, CarrierError::Malformed { source: BundleError::Version(_), .. });
                let outcome = Err(Arc::new(finding(&error).brief()));
                let verdict = Verdict::new(outcome, None, (source, trusted.generation, now), None);
                return Ok(Judged::Known(Judgement { verdict, tree: None, evidence: None, is_later }));
            }
        };
        self.judge_open(asked, open, &trusted, now).await
    }

    /// [`Trust::judge`] at a glance of many names in one directory, each with the size of its file, in the order of
    /// `files`. `None` for what has to be judged by itself. What becomes of each is given to `learn` at once,
    /// with its place.
    pub(super) async fn judge_together<T>(
        &self,
        directory: &StorePath,
        files: &[(&[u8], u64)],
        learn: impl Fn(usize, Judged) -> T,
    ) -> Vec<Option<T>> {
        let mut judged: Vec<_> = files.iter().map(|_| None).collect();
        if self.sources.are_many() || files.len() < 2 {
            return judged;
        }
        let _turn = self.turns.acquire().await;
        let (trusted, now) = (self.trusted.load_full(), Instant::now());
        let open = self.sources.get(0).carriers.open_together(directory, files).await;
        let envelopes = open.iter().map(|open| open.as_ref()?.evidence.statement.as_deref());
        let opened = open_together(envelopes, &trusted.keyring);
        let open = open.into_iter().zip(&opened);
        for (n, (((name, size), judged), (open, opened))) in
            files.iter().zip(&mut judged).zip(open).enumerate()
        {
            if n.is_multiple_of(DESCRIBE_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            if let (Some(open), Ok(path)) = (open, directory.join(name)) {
                let (path, opened) = (&path, opened.as_ref());
                let (source, size, depth) = (0, *size, Depth::Glance);
                let asked = Asked { source, path, size, depth, opened, for_reads: false };
                let found = self.judge_open(asked, open, &trusted, now).await;
                *judged = found.ok().map(|found| learn(n, found));
            }
        }
        judged
    }

    /// Judges evidence that is open.
    async fn judge_open(
        &self,
        asked: Asked<'_>,
        open: OpenEvidence,
        trusted: &Trusted,
        now: Instant,
    ) -> Result<Judged, ExportError> {
        let seen = Seen::of(&open, asked.source);
        let (outcome, tree, until) = match self.accept(asked, &open, &trusted.keyring).await {
            Ok(Some(Accepted { descriptor, acceptance, tree })) => {
                let proven = Proven {
                    signed: acceptance.statement.as_ref().and_then(|statement| statement.signed),
                    signers: self.shared(acceptance.signers),
                    pkcs7: acceptance.pkcs7,
                    ima: acceptance.ima,
                    ima_verity: acceptance.ima_verity,
                    carrier: open.carrier,
                    trailer: open.trailer,
                    descriptor,
                };
                (Ok(Arc::new(proven)), tree, acceptance.until)
            }
            Ok(None) => return Ok(Judged::Unhashed(Unhashed { evidence: open.evidence, seen })),
            Err(Stop::Busy) => return Err(ExportError::Busy),
            Err(Stop::Refused(finding)) => (Err(Arc::new(finding.brief())), None, None),
        };
        let evidence = Some(open.evidence);
        let made = (asked.source, trusted.generation, now);
        let verdict = Verdict { until, ..Verdict::new(outcome, Some(seen), made, evidence.as_ref()) };
        Ok(Judged::Known(Judgement { verdict, tree, evidence, is_later: false }))
    }

    /// `signers`, in the memory that they are in already.
    fn shared(&self, signers: Vec<Signer>) -> Arc<[Signer]> {
        let last = self.signers.load();
        if ***last == signers[..] {
            return Arc::clone(&last);
        }
        let signers = Arc::<[Signer]>::from(signers);
        self.signers.store(Arc::new(signers.clone()));
        signers
    }

    /// The evidence of `path` if it is what was `seen`.
    pub(super) async fn evidence(
        &self,
        path: &StorePath,
        size: u64,
        seen: &Seen,
    ) -> Result<Option<Evidence>, ExportError> {
        let source = self.sources.get(seen.source);
        // What clients see is the size on the first store.
        let size = match seen.source {
            0 => size,
            _ => source.store.stat(path).await?.size,
        };
        match source.carriers.open_for(path, size).await {
            Ok(open) => Ok((*seen == Seen::of(&open, seen.source)).then_some(open.evidence)),
            Err(error) if exhausted(&error) => Err(ExportError::Busy),
            Err(_) => Ok(None),
        }
    }

    /// Checks signatures and shape. Hashes all of the file where only that can tell.
    async fn accept(
        &self,
        asked: Asked<'_>,
        open: &OpenEvidence,
        keyring: &Keyring,
    ) -> Result<Option<Accepted>, Stop> {
        let size = asked.size;
        let evidence = &open.evidence;
        let signatures = evidence.signatures();
        let mut wanted = Vec::new();
        let (mut params, mut claimed) = match &evidence.descriptor {
            Some(bytes) => {
                let descriptor = Descriptor::parse(bytes).map_err(malformed)?;
                let geometry = descriptor.geometry().map_err(malformed)?;
                match self.check(asked, evidence, keyring, &descriptor, &[]).await {
                    Ok(acceptance) => match &open.tree {
                        Some(tree) if tree.size() == geometry.tree_size() => {
                            let tree = || Tree::new(&descriptor, geometry, Source::Carried(tree.clone()));
                            let tree = asked.for_reads.then(tree);
                            return Ok(Some(Accepted { descriptor, acceptance, tree }));
                        }
                        Some(tree) => {
                            let (length, wants) = (tree.size(), geometry.tree_size());
                            let detail = format!("the tree has {length} bytes, the descriptor wants {wants}");
                            return Err(Stop::refused(Cause::MalformedEvidence, detail));
                        }
                        None => {}
                    },
                    Err(refusal) => {
                        wanted = signatures.file_hashes(keyring);
                        if wanted.is_empty() {
                            return Err(refusal);
                        }
                    }
                }
                (descriptor.params, Some(descriptor))
            }
            None => {
                wanted = signatures.file_hashes(keyring);
                (signatures.bare_params(keyring)?, None)
            }
        };
        if let Some(claimed) = claimed.filter(|claimed| claimed.size.checked_add(open.trailer) != Some(size))
        {
            return Err(Stop::Refused(wrong_size(claimed.size, open.trailer, size)));
        }
        let reason = match (wanted.is_empty(), &claimed) {
            (false, _) => "signed as a whole (ima-v2)",
            (true, Some(_)) => "no tree in the evidence",
            (true, None) => "no descriptor in the evidence",
        };
        loop {
            let Some(whole) = self.whole(asked, open.trailer, &params, &wanted, reason).await? else {
                return Ok(None);
            };
            let descriptor = whole.descriptor;
            if let Some(claimed) = claimed.take().filter(|claimed| *claimed != descriptor) {
                let (found, claimed) = (descriptor.file_digest(), claimed.file_digest());
                let detail = format!("all of the file hashes to {found}, the evidence says {claimed}");
                return Err(Stop::refused(Cause::BadBlock, detail));
            }
            let acceptance = self.check(asked, evidence, keyring, &descriptor, &whole.hashes).await?;
            if let Some(other) = acceptance.other_params(&params) {
                params = other;
                continue;
            }
            let geometry = descriptor.geometry().map_err(malformed)?;
            let tree = asked.for_reads.then(|| Tree::new(&descriptor, geometry, Source::Made(whole)));
            return Ok(Some(Accepted { descriptor, acceptance, tree }));
        }
    }

    /// Checks the signatures of `evidence`; where they are many, away from those who serve others.
    async fn check(
        &self,
        asked: Asked<'_>,
        evidence: &Evidence,
        keyring: &Keyring,
        descriptor: &Descriptor,
        file_hashes: &[(HashName, Vec<u8>)],
    ) -> Result<Acceptance, Stop> {
        let path = asked.path.as_bytes();
        let many = evidence.pkcs7.len() + evidence.ima.len() + evidence.certificates.len();
        if many <= FEW {
            let expected =
                Expected { namespace: &self.namespace, path, descriptor, file_hashes, now: unix_now() };
            return Ok(verify_opened(&evidence.signatures(), asked.opened, keyring, &expected)?);
        }
        let (namespace, path, evidence) = (self.namespace.clone(), path.to_vec(), evidence.clone());
        let (keyring, descriptor, hashes) = (keyring.clone(), *descriptor, file_hashes.to_vec());
        let checked = tokio::task::spawn_blocking(move || {
            let (namespace, path, descriptor, file_hashes) = (&*namespace, &*path, &descriptor, &*hashes);
            let expected = Expected { namespace, path, descriptor, file_hashes, now: unix_now() };
            verify(&evidence.signatures(), &keyring, &expected)
        });
        Ok(checked.await.map_err(|_| Stop::Busy)??)
    }

    /// All of a file, hashed; `None` at a glance, where that was not done before.
    async fn whole(
        &self,
        asked: Asked<'_>,
        trailer: u64,
        params: &Params,
        hashes: &[HashName],
        reason: &'static str,
    ) -> Result<Option<Arc<Whole>>, Stop> {
        let Asked { source, path, depth, .. } = asked;
        let wanted = Wanted { source, path, trailer, params, hashes };
        let store = &*self.sources.get(source).store;
        match depth {
            Depth::Glance => self.wholes.known(store, wanted).await.map_err(|error| Stop::from(&error)),
            Depth::Full | Depth::Patient => {
                let hashed = self.wholes.hash(store, wanted, reason, depth == Depth::Patient).await;
                hashed.map(Some).map_err(|error| Stop::from(&*error))
            }
        }
    }

    /// Whether `verdict` accepts the evidence that there is now, under the trust that there is now. A
    /// refusal never holds: the store may have slipped, or the evidence may have come a moment later.
    pub(super) async fn holds(&self, path: &StorePath, verdict: &Verdict) -> bool {
        let Some(Seen { source, carrier, stamp, .. }) = self.may_hold(verdict) else { return false };
        let carriers = &self.sources.get(*source).carriers;
        carriers.stamp_of(*carrier, path).await.is_ok_and(|now| *stamp == now)
    }

    /// [`Trust::holds`] of many names in one directory; gives the places in `verdicts` of those that hold.
    pub(super) async fn hold(&self, directory: &StorePath, verdicts: &[(&[u8], &Verdict)]) -> Vec<usize> {
        let mut open: Vec<_> = (verdicts.iter().enumerate())
            .filter_map(|(n, (name, verdict))| Some((n, *name, self.may_hold(verdict)?)))
            .collect();
        let mut held = Vec::with_capacity(open.len());
        // Those that have their evidence in the same place are looked at together.
        while let Some(&(.., &Seen { source, carrier, .. })) = open.first() {
            let together =
                |(_, _, seen): &mut (usize, &[u8], &Seen)| (seen.source, seen.carrier) == (source, carrier);
            let group: Vec<_> = open.extract_if(.., together).collect();
            let names: Vec<&[u8]> = group.iter().map(|(_, name, _)| *name).collect();
            let stamps = self.sources.get(source).carriers.stamps_of(carrier, directory, &names).await;
            let same = group.iter().zip(stamps).filter(|((_, _, seen), now)| *now == Some(seen.stamp));
            held.extend(same.map(|((n, ..), _)| *n));
        }
        held
    }

    /// The evidence on which `verdict` accepts a file, if nothing but a change of that can end it now.
    fn may_hold<'a>(&self, verdict: &'a Verdict) -> Option<&'a Seen> {
        let (Ok(_), Some(seen)) = (&verdict.outcome, &verdict.seen) else { return None };
        // What others had damaged, or did not answer for, may be well again.
        let is_healed = verdict.size.is_some() && verdict.made.elapsed() > HEALED_FOR;
        (!is_healed && verdict.trust_is(self)).then_some(seen)
    }

    /// Tells the keys that are trusted now from those of another time.
    pub(super) fn generation(&self) -> u64 {
        self.trusted.load().generation
    }

    /// Whether `verdict` was made under the trust that there is now, and a moment ago.
    pub(super) fn is_fresh(&self, verdict: &Verdict) -> bool {
        verdict.checked.elapsed() < RECHECK && verdict.trust_is(self)
    }
}

/// Whose evidence is to be judged, and how far to go for it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    source: usize,
    path: &'a StorePath,
    size: u64,
    depth: Depth,
    /// The statement of the evidence, where it was opened.
    opened: Option<&'a Opened>,
    /// Blocks are to be proven, too.
    for_reads: bool,
}

/// What signatures accept.
struct Accepted {
    descriptor: Descriptor,
    acceptance: Acceptance,
    tree: Option<Box<Tree>>,
}

/// Why evidence is not accepted.
enum Stop {
    /// For want of something that may be there later.
    Busy,
    Refused(Finding),
}

impl Stop {
    fn refused(cause: Cause, detail: impl Into<String>) -> Self {
        Self::Refused(Finding { cause, detail: detail.into() })
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::refused(rejection.cause, rejection.detail)
    }
}

impl From<&WholeError> for Stop {
    fn from(error: &WholeError) -> Self {
        if passing(error) {
            return Self::Busy;
        }
        let cause = match error {
            WholeError::TooLarge(_) => Cause::KeyLimits,
            WholeError::Verity(_) => Cause::MalformedEvidence,
            WholeError::Busy | WholeError::Changed | WholeError::Scratch(_) | WholeError::Store(_) => {
                Cause::Unreadable
            }
        };
        Self::refused(cause, error.to_string())
    }
}

fn malformed(error: VerityError) -> Stop {
    Stop::refused(Cause::MalformedEvidence, error.to_string())
}

/// A file that has `found` bytes in the store instead of `signed` ones and a trailer of evidence.
fn wrong_size(signed: u64, trailer: u64, found: u64) -> Finding {
    let evidence = if trailer == 0 { String::new() } else { format!(" and {trailer} of evidence") };
    let detail = format!("signed with {signed} bytes{evidence}, the store has {found}");
    Finding { cause: Cause::WrongSize, detail }
}

/// What evidence that cannot be opened means for its file.
fn finding(error: &CarrierError) -> Finding {
    Finding { cause: cause(error), detail: error.to_string() }
}

impl Verdict {
    /// Of evidence on a store, under the trust of that generation, looked at then.
    fn new(
        outcome: Outcome,
        seen: Option<Seen>,
        (source, trust, at): (usize, u64, Instant),
        evidence: Option<&Evidence>,
    ) -> Self {
        Self {
            items: Items::of(Some(&outcome), evidence),
            fingerprint: fingerprint(Some(&outcome), seen.as_ref()),
            outcome,
            seen,
            source,
            size: None,
            trust,
            until: None,
            made: at,
            checked: at,
        }
    }

    /// The same verdict, found to hold at this moment.
    pub(super) fn confirmed(self) -> Self {
        Self { checked: Instant::now(), ..self }
    }

    /// Whether the verdict was made under the trust that there is now, and nothing has ended since.
    pub(super) fn trust_is(&self, trust: &Trust) -> bool {
        self.trust == trust.trusted.load().generation && self.until.is_none_or(|until| unix_now() < until)
    }

    /// What is wrong with a file whose attributes in the store are `attr`, if anything is.
    pub(super) fn finding(&self, attr: &Attr) -> Option<Finding> {
        self.finding_for(self.size.unwrap_or(attr.size))
    }

    /// What is wrong with a file of `size` bytes, trailer and all.
    pub(super) fn finding_for(&self, size: u64) -> Option<Finding> {
        let proven = match &self.outcome {
            Ok(proven) => proven,
            Err(finding) => return Some(Finding::clone(finding)),
        };
        let (signed, trailer) = (proven.descriptor.size, proven.trailer);
        if signed.checked_add(trailer) != Some(size) {
            return Some(wrong_size(signed, trailer, size));
        }
        None
    }

    /// The size that the file has to have, where that is known.
    pub(super) fn full_size(&self) -> Option<u64> {
        let proven = self.outcome.as_ref().ok()?;
        proven.descriptor.size.checked_add(proven.trailer)
    }

    /// The signed size, where there is one.
    pub(super) fn signed_size(&self) -> Option<u64> {
        self.outcome.as_ref().ok().map(|proven| proven.descriptor.size)
    }
}

impl Finding {
    /// Cut: verdicts are kept in numbers, and paths may be long.
    fn brief(self) -> Self {
        let mut brief: String = self.detail.chars().take(DETAIL_MAX).collect();
        if brief.len() < self.detail.len() {
            brief.push('…');
        }
        Self { detail: brief, ..self }
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_differs_in_any_part_differs_in_content() {
        let one = Bytes::from_static(b"one");
        let list = || vec![one.clone()];
        let all = [
            Evidence::default(),
            Evidence { descriptor: Some(one.clone()), ..Evidence::default() },
            Evidence { statement: Some(one.clone()), ..Evidence::default() },
            Evidence { statement: Some(Bytes::from_static(b"two")), ..Evidence::default() },
            Evidence { pkcs7: list(), ..Evidence::default() },
            Evidence {
                pkcs7: vec![Bytes::from_static(b"on"), Bytes::from_static(b"e")],
                ..Evidence::default()
            },
            Evidence { ima: list(), ..Evidence::default() },
            Evidence { certificates: list(), ..Evidence::default() },
        ];
        let contents: std::collections::HashSet<_> = all.iter().map(content).collect();
        assert_eq!(contents.len(), all.len());
    }
}
