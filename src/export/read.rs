//! READ: one read of the store is hashed, and that same memory is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::error::ExportError;
use super::heal::Spares;
use super::measuring::Measured;
use super::names::state;
use super::nodes::Node;
use super::permission::Caller;
use super::proof::{Failure, Prover};
use super::proof_directory::Object;
use super::reading::Reading;
use super::rules::{Allowed, Wish};
use super::streams::Streams;
use super::trust::{Depth, Finding, Judged, Judgement, RECHECK, Tree, Verdict};
use super::verified::{Part, Payload};
use super::{Export, gone};
use crate::event::{Cause, Event, Read, Refusal};
use crate::policy::ipe::audit::Hook;
use crate::policy::{Decision, Op, decide};
use crate::store::{Attr, Kind, StoreError, StoreFile, acting_as};

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
    pub(super) file: Arc<dyn StoreFile>,
    pub(super) verdict: Verdict,
    /// There when the verdict is good.
    pub(super) tree: Option<Box<Tree>>,
    /// The same file on other stores, where there are any.
    pub(super) spares: Option<Spares>,
    /// Who may read it.
    pub(super) allowed: Allowed,
    /// Who reads it from front to back.
    pub(super) streams: Streams,
    measured: Measured,
    /// The store that it was opened on, and its number there.
    home: usize,
    there: u64,
    /// Something was wrong with it when it was opened, so that opening it again would not help.
    hopeless: bool,
    /// When name and evidence were last found unchanged, in milliseconds of the export's life.
    checked: AtomicU64,
}

impl Export {
    /// Up to `count` bytes (at most [`READ_MAX`]) from `offset`, each of them proven; those of the proof
    /// directory are the gateway's own.
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
        let Object { node, view } = self.object(handle).await?;
        if let Some(view) = view {
            return self.read_mirrored(&node, view, offset, count, caller).await;
        }
        loop {
            let answer = self.read_by_name(&node, offset, count, caller).await;
            if !self.is_waited_for(&answer).await {
                return answer;
            }
        }
    }

    async fn read_by_name(
        &self,
        node: &Arc<Node>,
        offset: u64,
        count: u32,
        caller: &Caller,
    ) -> Result<ReadReply, ExportError> {
        let opened = self.opened(node).await?;
        match self.read_opened(node, opened, offset, count, caller).await {
            // Another version took the place of the one that is held open, as in a bucket. That one is read, all
            // of it under its own evidence: nothing is kept of the first attempt.
            Err(ExportError::Stale) => {
                self.open_files.remove(&node.tag);
                let opened = self.opened(node).await?;
                self.read_opened(node, opened, offset, count, caller).await
            }
            answer => answer,
        }
    }

    async fn read_opened(
        &self,
        node: &Node,
        (file, attr): (Arc<OpenFile>, Attr),
        offset: u64,
        count: u32,
        caller: &Caller,
    ) -> Result<ReadReply, ExportError> {
        if !self.identity.may_read_data(&attr, caller) {
            return Err(ExportError::Permission);
        }
        let finding = file.verdict.finding(&attr);
        let wish = Wish { op: Op::Read, hook: Hook::NfsRead, node, verdict: None, caller };
        match decide(self.mode, finding.as_ref().map(|finding| finding.cause)) {
            Decision::Allow => {
                let wish = Wish { verdict: Some(&file.verdict), ..wish };
                self.may_read(&file.allowed, &attr, wish)?;
                self.measure(node, &file.verdict, &file.measured).await?;
            }
            Decision::AllowUnproven(_) => {
                self.may(wish)?;
                let recorded = self.measure_violation(node, true).await;
                self.report_finding(node, finding, caller, recorded.is_ok());
                recorded?;
                let work = self.read_unproven(node, &file, attr, offset, count);
                return acting_as(self.identity.acting(caller), work).await;
            }
            Decision::Deny(cause) => {
                self.report_finding(node, finding, caller, false);
                // Of a file that is signed as a whole, it is the data as likely as the signature.
                if cause == Cause::BadSignature {
                    self.measure_violation(node, false).await?;
                }
                return Err(ExportError::Denied(cause));
            }
            Decision::Fail(cause) => {
                self.report_finding(node, finding, caller, false);
                if cause != Cause::Unreadable {
                    self.measure_violation(node, false).await?;
                }
                return Err(ExportError::Corrupt(cause));
            }
        }
        let (Ok(proven), Some(tree)) = (&file.verdict.outcome, &file.tree) else {
            return Err(ExportError::Io);
        };

        let size = proven.descriptor.size;
        let end = offset.saturating_add(u64::from(count.min(READ_MAX))).min(size);
        let prover = Prover::new(proven, tree, &self.cache, file.spares.as_ref()).among(&self.flights);
        let state = state(&attr, &file.verdict);
        let mut reading = Reading::new(self, node, &file, state, caller, prover);
        reading.run(offset, end).await?;
        let (asked, waited) = (reading.asked, reading.waited);
        let (data, read) = reading.finish()?;
        self.sink.emit(&Event::Read(read));
        let is_whole = offset < end && u64::from(data.len()) == end - offset && data.is_verified();
        if is_whole && (waited || file.streams.are_followed()) {
            self.look_ahead(&file, offset..end, asked, caller);
        }
        let eof = offset.saturating_add(read.bytes) >= size;
        Ok(ReadReply { data, eof, attr: self.shown(node, attr, &file.verdict) })
    }

    /// Warn mode: what the store says, as it says it.
    async fn read_unproven(
        &self,
        node: &Node,
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
        let bytes = u64::from(data.len());
        self.sink.emit(&Event::Read(Read { bytes, verified_blocks: 0, cache_hits: 0, cache_misses: 1 }));
        let eof = offset.saturating_add(bytes) >= attr.size;
        Ok(ReadReply { data, eof, attr: self.shown(node, attr, &file.verdict) })
    }

    /// The open file of `node` with its attributes in the store at this moment.
    pub(super) async fn opened(&self, node: &Arc<Node>) -> Result<(Arc<OpenFile>, Attr), ExportError> {
        if let Some(open) = self.open_files.get(&node.tag)
            && self.still_holds(node, &open).await
        {
            // An open file that tells nothing any more may still be there by its name. What clients see are
            // the attributes on the first store.
            let attr = match open.verdict.size {
                None => stat(&*open.file).await,
                Some(_) => self.store.stat(&node.path).await,
            };
            if let Ok(attr) = attr
                && attr.nlink > 0
                && attr.fileid == node.fileid
                && (open.hopeless || !self.sources.are_many() || open.verdict.finding(&attr).is_none())
            {
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
        if open.hopeless {
            return false;
        }
        let store = &self.sources.get(open.home).store;
        let named = store.stat(&node.path).await.is_ok_and(|attr| attr.fileid == open.there);
        let holds = named && self.trust.holds(&node.path, &open.verdict).await;
        if holds {
            open.checked.store(now, Ordering::Relaxed);
        }
        holds
    }

    async fn open(&self, node: &Arc<Node>) -> Result<(Arc<OpenFile>, Attr), ExportError> {
        let checked = AtomicU64::new(self.milliseconds());
        let stored = self.stored(node).await?;
        match stored.kind {
            Kind::Regular => {}
            Kind::Directory => return Err(ExportError::IsADirectory),
            Kind::Symlink | Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
                return Err(ExportError::NotRegular);
            }
        }
        if self.sources.are_many() {
            return self.open_any(node, stored, checked).await;
        }
        let file = self.store.open(&node.path).await.map_err(gone)?;
        let attr = stat(&*file).await.map_err(gone)?;
        if attr.fileid != node.fileid {
            return Err(ExportError::Stale);
        }
        let judged = self.trust.judge(&node.path, attr.size, Depth::Full).await?;
        let Judged::Known(Judgement { verdict, tree, evidence, .. }) = judged else {
            return Err(ExportError::Busy);
        };
        let measured = Measured::of(&verdict, evidence.as_ref());
        self.verdicts.insert(node.tag, verdict.clone());
        let there = attr.fileid;
        let open = Arc::new(OpenFile {
            file,
            verdict,
            tree,
            spares: None,
            allowed: Allowed::default(),
            streams: Streams::default(),
            measured,
            home: 0,
            there,
            hopeless: false,
            checked,
        });
        self.open_files.insert(node.tag, open.clone());
        Ok((open, attr))
    }

    /// [`Export::open`] where several stores have the file: on the first that has it with good evidence.
    async fn open_any(
        &self,
        node: &Arc<Node>,
        attr: Attr,
        checked: AtomicU64,
    ) -> Result<(Arc<OpenFile>, Attr), ExportError> {
        let judged = self.trust.judge(&node.path, attr.size, Depth::Full).await?;
        let Judged::Known(Judgement { verdict, tree, evidence, .. }) = judged else {
            return Err(ExportError::Busy);
        };
        let measured = Measured::of(&verdict, evidence.as_ref());
        let (file, home, there) = self.sources.open_from(verdict.source, &node.path).await.map_err(gone)?;
        self.verdicts.insert(node.tag, verdict.clone());
        let spares = Spares::new(&self.sources, &node.path, home, verdict.source);
        let hopeless = verdict.finding(&attr).is_some();
        let (allowed, streams) = (Allowed::default(), Streams::default());
        let open = Arc::new(OpenFile {
            file,
            verdict,
            tree,
            spares,
            allowed,
            streams,
            measured,
            home,
            there,
            hopeless,
            checked,
        });
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
            record: None,
        }));
    }

    pub(super) fn report_failure(&self, node: &Node, failure: &Failure, caller: &Caller, served: bool) {
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
            record: None,
        }));
    }
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
