//! READ: one read of the store is hashed, and that same memory is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::cache::Span;
use super::error::ExportError;
use super::nodes::Node;
use super::permission::Caller;
use super::proof::{Failure, Prover};
use super::trust::{Finding, Proven, RECHECK, Verdict};
use super::verified::{Part, Payload, Verified};
use super::{Export, gone};
use crate::carrier::OpenBundle;
use crate::event::{Cause, Event, Read, Refusal};
use crate::policy::{Decision, decide};
use crate::store::{Attr, Kind, StoreError, StoreErrorKind, StoreFile};

/// The unit in which data is read and cached when a READ wants most of it. A multiple of every block size.
pub(super) const EXTENT: u64 = 64 * 1024;

/// The most that one READ returns.
pub const READ_MAX: u32 = 1024 * 1024;

/// The answer to a READ.
#[derive(Clone, Debug)]
pub struct ReadReply {
    /// The data; shorter than asked for at the end of the file and before a bad block.
    pub data: Payload,
    /// True when the data reaches the signed end of the file.
    pub eof: bool,
    /// The file's attributes.
    pub attr: Attr,
}

/// A file that is held open with all that proves it.
pub(super) struct OpenFile {
    file: Arc<dyn StoreFile>,
    verdict: Verdict,
    /// There when the verdict is good.
    bundle: Option<OpenBundle>,
    /// When name and evidence were last found unchanged, in milliseconds of the export's life.
    checked: AtomicU64,
}

/// Where and why a READ stopped, or what it counted.
#[derive(Default)]
struct Progress {
    payload: Payload,
    failure: Option<Box<Failure>>,
    blocks: u64,
    hits: u64,
    misses: u64,
}

impl Export {
    /// Up to `count` bytes (at most [`READ_MAX`]) from `offset`, each of them proven.
    ///
    /// Bytes behind the signed size are never returned, and only the signed size makes an end of
    /// file. A block that fails ends the data before it; it is the error when it is the first.
    pub async fn read(
        &self,
        handle: &[u8],
        offset: u64,
        count: u32,
        caller: &Caller,
    ) -> Result<ReadReply, ExportError> {
        let node = self.nodes.resolve(&*self.store, handle).await?;
        let (file, attr) = self.opened(&node).await?;
        if !self.identity.may_read_data(&attr, caller) {
            return Err(ExportError::Permission);
        }
        let finding = file.verdict.finding(&attr);
        match decide(self.mode, finding.as_ref().map(|finding| finding.cause)) {
            Decision::Allow => {}
            Decision::AllowUnproven(_) => {
                self.report_finding(&node, finding, caller, true);
                return self.read_unproven(&file, attr, offset, count).await;
            }
            Decision::Deny(cause) => {
                self.report_finding(&node, finding, caller, false);
                return Err(ExportError::Denied(cause));
            }
            Decision::Fail(cause) => {
                self.report_finding(&node, finding, caller, false);
                return Err(ExportError::Corrupt(cause));
            }
        }
        let (Ok(proven), Some(bundle)) = (&file.verdict.outcome, &file.bundle) else {
            return Err(ExportError::Io);
        };

        let size = proven.descriptor.size;
        let end = offset.saturating_add(u64::from(count.min(READ_MAX))).min(size);
        let progress = self.read_proven(&node, &file, (proven, bundle), (offset, end), caller).await?;
        if let (Some(failure), true) = (&progress.failure, progress.payload.is_empty()) {
            return Err(ExportError::Corrupt(failure.cause));
        }
        self.sink.emit(&Event::Read(Read {
            bytes: u64::from(progress.payload.len()),
            verified_blocks: progress.blocks,
            cache_hits: progress.hits,
            cache_misses: progress.misses,
        }));
        let eof = offset.saturating_add(u64::from(progress.payload.len())) >= size;
        Ok(ReadReply { data: progress.payload, eof, attr: Attr { size, ..attr } })
    }

    async fn read_proven(
        &self,
        node: &Node,
        file: &OpenFile,
        (proven, bundle): (&Proven, &OpenBundle),
        (offset, end): (u64, u64),
        caller: &Caller,
    ) -> Result<Progress, ExportError> {
        let size = proven.descriptor.size;
        let block_size = proven.descriptor.params.block_size.bytes() as u64;
        let key = proven.cache_key;
        let mut prover = Prover { proven, bundle, cache: &self.cache, tree_blocks: 0 };
        let mut progress = Progress::default();
        let mut at = offset;
        // An extent in which a block failed is gone through block by block.
        let mut damaged = None;
        while at < end {
            let extent = at / EXTENT;
            let (from, to) = (extent * EXTENT, ((extent + 1) * EXTENT).min(size));
            let stop = end.min(to);
            if let Some(bytes) = self.cache.get(key, Span::Extent(extent)) {
                progress.hits += 1;
                progress.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
                at = stop;
                continue;
            }
            if (stop - at) * 2 >= to - from && damaged != Some(extent) {
                let data = self.fetch(node, file, (from, to), &mut progress).await?;
                let whole = data.len() as u64 == to - from;
                if whole && prover.check(from / block_size, &data).await.is_ok() {
                    progress.blocks += (to - from).div_ceil(block_size);
                    let bytes = Verified::proven(data);
                    self.cache.insert(key, Span::Extent(extent), bytes.clone());
                    progress.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
                    at = stop;
                } else {
                    damaged = Some(extent);
                }
                continue;
            }

            let index = at / block_size;
            let (from, to) = (index * block_size, ((index + 1) * block_size).min(size));
            let stop = end.min(to);
            let bytes = match self.cache.get(key, Span::Block(index)) {
                Some(bytes) => {
                    progress.hits += 1;
                    bytes
                }
                None => {
                    let data = self.fetch(node, file, (from, to), &mut progress).await?;
                    let checked = match data.len() as u64 == to - from {
                        true => prover.check(index, &data).await.map_err(|(_, failure)| failure),
                        false => Err(truncated(index, from + data.len() as u64, size)),
                    };
                    if let Err(failure) = checked {
                        let decision = decide(self.mode, Some(failure.cause));
                        let served = matches!(decision, Decision::AllowUnproven(_));
                        self.report_failure(node, &failure, caller, served);
                        if served && !data.is_empty() {
                            let range = within(from, at.min(from + data.len() as u64), stop);
                            let part = data.slice(range.start..range.end.min(data.len()));
                            if !part.is_empty() {
                                at += part.len() as u64;
                                progress.payload.push(Part::Unproven(part));
                                continue;
                            }
                        }
                        progress.failure = Some(failure);
                        break;
                    }
                    progress.blocks += 1;
                    let bytes = Verified::proven(data);
                    self.cache.insert(key, Span::Block(index), bytes.clone());
                    bytes
                }
            };
            progress.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
            at = stop;
        }
        progress.blocks += prover.tree_blocks;
        Ok(progress)
    }

    /// The bytes from `from` to `to`, or fewer where the store has fewer.
    async fn fetch(
        &self,
        node: &Node,
        file: &OpenFile,
        (from, to): (u64, u64),
        progress: &mut Progress,
    ) -> Result<Bytes, ExportError> {
        progress.misses += 1;
        let len = usize::try_from(to - from).unwrap_or(0);
        match read_at(&*file.file, from, len).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                self.open_files.remove(&node.tag);
                Err(ExportError::from(error))
            }
        }
    }

    /// Warn mode: what the store says, as it says it.
    async fn read_unproven(
        &self,
        file: &OpenFile,
        attr: Attr,
        offset: u64,
        count: u32,
    ) -> Result<ReadReply, ExportError> {
        let mut data = Payload::default();
        let end = offset.saturating_add(u64::from(count.min(READ_MAX))).min(attr.size);
        if offset < end {
            let len = usize::try_from(end - offset).unwrap_or(0);
            data.push(Part::Unproven(read_at(&*file.file, offset, len).await?));
        }
        let eof = offset.saturating_add(u64::from(data.len())) >= attr.size;
        Ok(ReadReply { data, eof, attr })
    }

    /// The open file of `node` with its attributes in the store at this moment.
    async fn opened(&self, node: &Arc<Node>) -> Result<(Arc<OpenFile>, Attr), ExportError> {
        if let Some(open) = self.open_files.get(&node.tag)
            && self.still_holds(node, &open).await
        {
            let attr = stat(&*open.file).await.map_err(gone)?;
            if attr.nlink > 0 && attr.fileid == node.fileid {
                return Ok((open, attr));
            }
        }
        self.open_files.remove(&node.tag);
        self.open(node).await
    }

    /// Whether name, evidence and trust are what they were, a moment ago at most.
    async fn still_holds(&self, node: &Node, open: &OpenFile) -> bool {
        let now = self.milliseconds();
        let recheck = u64::try_from(RECHECK.as_millis()).unwrap_or(u64::MAX);
        if open.verdict.trust_is(&self.trust)
            && now < open.checked.load(Ordering::Relaxed).saturating_add(recheck)
        {
            return true;
        }
        let named = self.store.stat(&node.path).await.is_ok_and(|attr| attr.fileid == node.fileid);
        let holds = named && self.trust.holds(&node.path, &open.verdict).await;
        if holds {
            open.checked.store(now, Ordering::Relaxed);
        }
        holds
    }

    async fn open(&self, node: &Arc<Node>) -> Result<(Arc<OpenFile>, Attr), ExportError> {
        let checked = AtomicU64::new(self.milliseconds());
        match self.stored(node).await?.kind {
            Kind::Regular => {}
            Kind::Directory => return Err(ExportError::IsADirectory),
            Kind::Symlink | Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
                return Err(ExportError::NotRegular);
            }
        }
        let file = match self.store.open(&node.path).await {
            Err(error) if error.kind == StoreErrorKind::Exhausted => {
                // Our own open files are what can be given up.
                self.open_files.clear();
                self.store.open(&node.path).await
            }
            other => other,
        };
        let file = file.map_err(gone)?;
        let attr = stat(&*file).await.map_err(gone)?;
        if attr.fileid != node.fileid {
            return Err(ExportError::Stale);
        }
        let (verdict, bundle) = self.trust.judge(&node.path).await?;
        self.verdicts.insert(node.tag, verdict.clone());
        let open = Arc::new(OpenFile { file, verdict, bundle, checked });
        self.open_files.insert(node.tag, open.clone());
        Ok((open, attr))
    }

    pub(super) fn report_finding(
        &self,
        node: &Node,
        finding: Option<Finding>,
        caller: &Caller,
        served: bool,
    ) {
        let Some(finding) = finding else { return };
        self.sink.emit(&Event::Refused(Refusal {
            path: node.path.as_bytes(),
            cause: finding.cause,
            detail: &finding.detail,
            block: None,
            level: None,
            expected: None,
            found: None,
            client: Some(caller.client),
            served,
        }));
    }

    fn report_failure(&self, node: &Node, failure: &Failure, caller: &Caller, served: bool) {
        self.sink.emit(&Event::Refused(Refusal {
            path: node.path.as_bytes(),
            cause: failure.cause,
            detail: &failure.detail,
            block: Some(failure.block),
            level: failure.level,
            expected: failure.expected.as_ref().map(|digest| digest.as_bytes()),
            found: failure.found.as_ref().map(|digest| digest.as_bytes()),
            client: Some(caller.client),
            served,
        }));
    }
}

pub(super) fn truncated(block: u64, have: u64, size: u64) -> Box<Failure> {
    Box::new(Failure {
        cause: Cause::Truncated,
        block,
        level: None,
        expected: None,
        found: None,
        detail: format!("the store gave bytes up to {have} of {size}"),
    })
}

/// The range `at..stop` as seen from `from`; all three lie within one extent.
fn within(from: u64, at: u64, stop: u64) -> std::ops::Range<usize> {
    let offset = |position: u64| usize::try_from(position.saturating_sub(from)).unwrap_or(usize::MAX);
    offset(at)..offset(stop)
}

pub(super) async fn read_at(file: &dyn StoreFile, offset: u64, len: usize) -> Result<Bytes, StoreError> {
    match file.try_read_at(offset, len) {
        Some(bytes) => Ok(bytes),
        None => file.read_at(offset, len).await,
    }
}

pub(super) async fn stat(file: &dyn StoreFile) -> Result<Attr, StoreError> {
    match file.try_stat() {
        Some(attr) => attr,
        None => file.stat().await,
    }
}
