//! The data of one READ: spans from the cache, or from the store and proven.

use std::sync::Arc;

use bytes::Bytes;

use super::Export;
use super::cache::Span;
use super::error::ExportError;
use super::gone;
use super::heal::Spares;
use super::nodes::Node;
use super::permission::Caller;
use super::proof::{Failure, Prover};
use super::read::{OpenFile, read_at};
use super::trust::Finding;
use super::verified::{Part, Payload, Verified};
use crate::event::{Cause, Read};
use crate::policy::{Decision, decide};
use crate::store::{Identity, StoreError, StoreErrorKind, StoreFile, acting_as};

/// The unit in which data is read and cached when a READ wants most of it. A multiple of every block size.
pub(super) const EXTENT: u64 = 64 * 1024;

/// The most memory that the data of a READ keep in use, in bytes: a part of an extent keeps all of it,
/// also when the cache has let go of it.
pub fn memory_held(offset: u64, count: u32) -> u64 {
    let end = offset.saturating_add(u64::from(count));
    match count {
        0 => 0,
        _ => (end.div_ceil(EXTENT) - offset / EXTENT) * EXTENT,
    }
}

/// One READ under way.
pub(super) struct Reading<'a> {
    export: &'a Export,
    node: &'a Node,
    pub(super) file: &'a OpenFile,
    /// The change attribute of the file without what is known of its damage.
    state: u64,
    caller: &'a Caller,
    pub(super) prover: Prover<'a>,
    payload: Payload,
    /// Where the wanted bytes end.
    end: u64,
    /// The store that the last data are from, or that failed to give them.
    pub(super) source: usize,
    /// Extents that were read together with one before them, not proven yet, the next one last; and from where.
    pub(super) ahead: Vec<(u64, Bytes)>,
    ahead_from: usize,
    /// The last block that failed, and the data block that it failed for.
    failure: Option<(u64, Box<Failure>)>,
    /// Why the store gave nothing, where others may have it.
    lack: Option<StoreError>,
    pub(super) blocks: u64,
    hits: u64,
    misses: u64,
}

/// What became of an extent.
enum Extent {
    Proven(Verified<Bytes>),
    /// A block of it failed, maybe one that nobody asked for: its blocks are to be looked at one by one.
    Damaged,
    /// The store failed.
    Lost,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        export: &'a Export,
        node: &'a Node,
        file: &'a OpenFile,
        state: u64,
        caller: &'a Caller,
        prover: Prover<'a>,
    ) -> Self {
        let payload = Payload::default();
        Self {
            export,
            node,
            file,
            state,
            caller,
            prover,
            payload,
            end: 0,
            source: 0,
            ahead: Vec::new(),
            ahead_from: 0,
            failure: None,
            lack: None,
            blocks: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// Gathers the bytes from `offset` to `end`, which is not behind the signed size, as far as they
    /// are good.
    pub(super) async fn run(&mut self, offset: u64, end: u64) -> Result<(), ExportError> {
        let done = self.gather(offset, end).await;
        self.remember(offset);
        done
    }

    /// Remembers which block failed, and forgets that one did which is good now.
    fn remember(&self, offset: u64) {
        let (damages, tag) = (&self.export.damages, &self.node.tag);
        if !self.payload.is_empty() && self.payload.is_verified() {
            let block_size = self.prover.block_size() as u64;
            let end = offset.saturating_add(u64::from(self.payload.len()));
            damages.proven(tag, offset / block_size..end.div_ceil(block_size));
        }
        if let Some((data_block, failure)) = &self.failure {
            damages.note(tag, self.state, *data_block, failure);
        }
    }

    async fn gather(&mut self, offset: u64, end: u64) -> Result<(), ExportError> {
        self.end = end;
        let mut at = offset;
        let mut damaged = None;
        while at < end {
            let (from, to) = self.span(at, EXTENT);
            let stop = end.min(to);
            if let Some(bytes) = self.cached(Span::Extent(from / EXTENT)) {
                self.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
                at = stop;
                continue;
            }
            // All of an extent is worth its price when most of it is wanted.
            if (stop - at) * 2 >= to - from && damaged != Some(from) {
                match self.extent(from, to).await? {
                    Extent::Proven(bytes) => {
                        self.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
                        at = stop;
                    }
                    Extent::Damaged => damaged = Some(from),
                    Extent::Lost => return Ok(()),
                }
                continue;
            }
            let (from, to) = self.span(at, self.prover.block_size() as u64);
            let Some(block) = self.block(from, to, at).await? else { return Ok(()) };
            let part = block.slice(within(from, at, end.min(to)));
            if part.len() == 0 {
                return Ok(());
            }
            at += part.len() as u64;
            self.payload.push(part);
        }
        Ok(())
    }

    /// The data and what it took; the failure when there is no data before it.
    pub(super) fn finish(self) -> Result<(Payload, Read), ExportError> {
        if let (Some((_, failure)), true) = (&self.failure, self.payload.is_empty()) {
            return Err(ExportError::Corrupt(failure.cause));
        }
        let read = Read {
            bytes: u64::from(self.payload.len()),
            verified_blocks: self.blocks + self.prover.tree_blocks,
            cache_hits: self.hits,
            cache_misses: self.misses,
        };
        Ok((self.payload, read))
    }

    /// The span of `unit` bytes that holds `at`, cut at the signed size.
    fn span(&self, at: u64, unit: u64) -> (u64, u64) {
        let from = at / unit * unit;
        (from, (from + unit).min(self.prover.proven.descriptor.size))
    }

    fn cached(&mut self, span: Span) -> Option<Verified<Bytes>> {
        let bytes = self.export.cache.get(self.prover.tree.cache_key, span)?;
        self.hits += 1;
        Some(bytes)
    }

    pub(super) fn keep(&self, span: Span, bytes: &Verified<Bytes>) {
        self.export.cache.insert(self.prover.tree.cache_key, span, bytes.clone());
    }

    /// The span `from..to` from the disk cache, proven again. What is wrong there is dropped, and the store asked.
    async fn read_back(&mut self, span: Span, from: u64, to: u64) -> Option<Verified<Bytes>> {
        let (cache, file) = (&self.export.cache, self.prover.tree.cache_key);
        let data = cache.on_disk(file, span, usize::try_from(to - from).ok()?).await?;
        let block_size = self.prover.block_size() as u64;
        match self.prover.check(from / block_size, &data).await {
            Ok(()) => {}
            // Where the tree has a hole, nothing is known of the data.
            Err((_, failure)) if failure.level.is_some() => return None,
            Err(_) => {
                cache.is_bad_on_disk(file, span);
                return None;
            }
        }
        self.blocks += (to - from).div_ceil(block_size);
        let bytes = Verified::proven(data);
        cache.insert_again(file, span, bytes.clone());
        Some(bytes)
    }

    /// Reads and proves the extent `from..to`.
    async fn extent(&mut self, from: u64, to: u64) -> Result<Extent, ExportError> {
        let is_ahead = self.ahead.last().is_some_and(|(next, _)| *next == from);
        if !is_ahead && let Some(bytes) = self.read_back(Span::Extent(from / EXTENT), from, to).await {
            return Ok(Extent::Proven(bytes));
        }
        let Some(data) = self.fetch_extent(from, to).await? else { return Ok(Extent::Lost) };
        let block_size = self.prover.block_size() as u64;
        if let Err(failure) = self.check(from, to, &data).await {
            let healed = self.heal(Span::Extent(from / EXTENT), from, to, &failure).await;
            return Ok(healed.map_or(Extent::Damaged, Extent::Proven));
        }
        self.blocks += (to - from).div_ceil(block_size);
        let bytes = Verified::proven(data);
        self.keep(Span::Extent(from / EXTENT), &bytes);
        Ok(Extent::Proven(bytes))
    }

    /// The block `from..to`, of which bytes from `at` are wanted; `None` when they are not to be had.
    /// Warn mode gives bad ones as they are.
    async fn block(&mut self, from: u64, to: u64, at: u64) -> Result<Option<Part>, ExportError> {
        let index = from / self.prover.block_size() as u64;
        if let Some(bytes) = self.cached(Span::Block(index)) {
            return Ok(Some(Part::Proven(bytes)));
        }
        if let Some(bytes) = self.read_back(Span::Block(index), from, to).await {
            return Ok(Some(Part::Proven(bytes)));
        }
        let Some(data) = self.fetch(from, to).await? else { return Ok(None) };
        let have = data.len() as u64;
        if let Err(failure) = self.check(from, to, &data).await {
            if let Some(bytes) = self.heal(Span::Block(index), from, to, &failure).await {
                return Ok(Some(Part::Proven(bytes)));
            }
            if let Some(error) = self.lack.take() {
                return self.give_up(error).map(|_| None);
            }
            if let Some(excuse) = failure.excuse {
                self.export.open_files.remove(&self.node.tag);
                return if self.payload.is_empty() { Err(excuse) } else { Ok(None) };
            }
            if failure.cause == Cause::Unreadable {
                // What is held open of the evidence may be stale for good; by its name it may be well.
                self.export.open_files.remove(&self.node.tag);
            }
            let decision = decide(self.export.mode, Some(failure.cause));
            let served = matches!(decision, Decision::AllowUnproven(_)) && from + have > at;
            let recorded = match failure.cause {
                Cause::Unreadable => Ok(()),
                _ => self.export.measure_violation(self.node, served).await,
            };
            self.export.report_failure(self.node, &failure, self.caller, served && recorded.is_ok());
            recorded?;
            self.failure = Some((index, failure));
            return Ok(served.then_some(Part::Unproven(data)));
        }
        self.blocks += 1;
        let bytes = Verified::proven(data);
        self.keep(Span::Block(index), &bytes);
        Ok(Some(Part::Proven(bytes)))
    }

    /// Compares `data`, which is all that the store gave of `from..to`. Where it gave too little, that is the
    /// failure of the first block.
    async fn check(&mut self, from: u64, to: u64, data: &Bytes) -> Result<(), Box<Failure>> {
        let (first, have) = (from / self.prover.block_size() as u64, data.len() as u64);
        if have == to - from {
            return self.prover.check(first, data).await.map_err(|(_, failure)| failure);
        }
        let mut failure = truncated(first, from + have, self.prover.proven.descriptor.size);
        if let Some(error) = &self.lack {
            failure.cause = Cause::Unreadable;
            failure.detail = error.to_string();
            let heard = ExportError::from(error);
            failure.excuse = matches!(heard, ExportError::Busy | ExportError::Stale).then_some(heard);
        }
        Err(failure)
    }

    /// The extent `from..to`, or what the store has of it. Where the store has to be waited for, it is asked
    /// for all that is wanted behind it, too.
    async fn fetch_extent(&mut self, from: u64, to: u64) -> Result<Option<Bytes>, ExportError> {
        if let Some((_, bytes)) = self.ahead.pop_if(|(next, _)| *next == from) {
            (self.lack, self.misses, self.source) = (None, self.misses + 1, self.ahead_from);
            return Ok(Some(bytes));
        }
        self.ahead.clear();
        let stop = self.wanted_from(to);
        let (len, piece) = (usize::try_from(to - from).unwrap_or(0), usize::try_from(EXTENT).unwrap_or(0));
        if stop == to {
            return self.fetch(from, to).await;
        }
        let file = self.read_from();
        if let Some(bytes) = file.try_read_at(from, len) {
            self.misses += 1;
            return Ok(Some(bytes));
        }
        self.misses += 1;
        let all = usize::try_from(stop - from).unwrap_or(0);
        let acting = self.acting();
        match acting_as(acting, file.read_pieces(from, all, piece)).await {
            Ok(pieces) => {
                let places = (from..stop).step_by(piece);
                (self.ahead, self.ahead_from) = (places.zip(pieces).collect(), self.source);
                self.ahead.reverse();
                Ok(Some(self.ahead.pop().map(|(_, bytes)| bytes).unwrap_or_default()))
            }
            Err(error) => self.lost(error),
        }
    }

    /// Where the extents end that follow `from` without a gap, are wanted and are not in the cache.
    fn wanted_from(&self, from: u64) -> u64 {
        let mut at = from;
        while at < self.end {
            let (from, to) = self.span(at, EXTENT);
            let key = self.prover.tree.cache_key;
            let mostly = (self.end.min(to) - from) * 2 >= to - from;
            if !mostly || self.export.cache.has(key, Span::Extent(from / EXTENT)) {
                break;
            }
            at = to;
        }
        at
    }

    /// The bytes `from..to`, or fewer where the store has fewer. `None` when the store failed behind
    /// data that is proven already: what there is of it is the answer.
    async fn fetch(&mut self, from: u64, to: u64) -> Result<Option<Bytes>, ExportError> {
        self.misses += 1;
        let len = usize::try_from(to - from).unwrap_or(0);
        match acting_as(self.acting(), read_at(&*self.read_from(), from, len)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => self.lost(error),
        }
    }

    /// As whom data are read.
    pub(super) fn acting(&self) -> Identity {
        self.export.identity.acting(self.caller)
    }

    /// The file that is read first, for now: others may find out meanwhile that another one is better.
    fn read_from(&mut self) -> Arc<dyn StoreFile> {
        self.lack = None;
        let (source, file) = self.file.spares.as_ref().map_or((0, None), Spares::lead);
        self.source = source;
        file.unwrap_or_else(|| self.file.file.clone())
    }

    /// What becomes of a READ whose store failed with `error`. Where others may have the bytes, none is what
    /// the store has of them; but what it does not give to this caller, no other gives in its place.
    fn lost(&mut self, error: StoreError) -> Result<Option<Bytes>, ExportError> {
        if error.kind == StoreErrorKind::Stale {
            // Another version took its place: that one is to be read from now on.
            self.export.open_files.remove(&self.node.tag);
        }
        let spares = self.file.spares.as_ref();
        if spares.is_some_and(|spares| error.kind != StoreErrorKind::Access || self.source != spares.home) {
            self.lack = Some(error);
            return Ok(Some(Bytes::new()));
        }
        self.give_up(error)
    }

    fn give_up(&self, error: StoreError) -> Result<Option<Bytes>, ExportError> {
        self.export.open_files.remove(&self.node.tag);
        if ExportError::from(&error) == ExportError::Io {
            let finding = Finding { cause: Cause::Unreadable, detail: error.to_string() };
            self.export.report_finding(self.node, Some(finding), self.caller, false);
        }
        if self.payload.is_empty() { Err(gone(error)) } else { Ok(None) }
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
        excuse: None,
    })
}

/// The range `at..stop` as seen from `from`; all three lie within one extent.
fn within(from: u64, at: u64, stop: u64) -> std::ops::Range<usize> {
    let offset = |position: u64| usize::try_from(position.saturating_sub(from)).unwrap_or(usize::MAX);
    offset(at)..offset(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_holds_every_extent_that_it_touches() {
        for (offset, count, extents) in [
            (0, 0, 0),
            (5, 0, 0),
            (0, 1, 1),
            (EXTENT - 1, 1, 1),
            (EXTENT - 1, 2, 2),
            (0, 1 << 20, 16),
            (1, 1 << 20, 17),
            (u64::MAX, u32::MAX, 1),
        ] {
            assert_eq!(memory_held(offset, count), extents * EXTENT, "{count} at {offset}");
        }
    }
}
