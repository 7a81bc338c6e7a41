//! The data of one READ: spans from the cache, or from whoever proves them now, or from the store and proven here.

use bytes::Bytes;

use super::Export;
use super::cache::Span;
use super::error::ExportError;
use super::fetch::{Next, Turn};
use super::flights::Told;
use super::nodes::Node;
use super::permission::Caller;
use super::proof::{Failure, Prover};
use super::read::OpenFile;
use super::verified::{Part, Payload, Verified};
use crate::event::{Cause, Read};
use crate::policy::{Decision, decide};
use crate::store::StoreError;

/// The unit in which data is read and cached when a READ wants most of it. A multiple of every block size.
pub(super) const EXTENT: u64 = EXTENT_LEN as u64;
pub(super) const EXTENT_LEN: usize = 64 * 1024;

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
    pub(super) export: &'a Export,
    pub(super) node: &'a Node,
    pub(super) file: &'a OpenFile,
    /// The change attribute of the file without what is known of its damage.
    state: u64,
    pub(super) caller: &'a Caller,
    pub(super) prover: Prover<'a>,
    pub(super) payload: Payload,
    /// Where the wanted bytes end.
    pub(super) end: u64,
    /// The store that the last data are from, or that failed to give them.
    pub(super) source: usize,
    /// Extents that were read together with one before them, not proven yet, the next one last; and from where.
    pub(super) ahead: Vec<Next>,
    pub(super) ahead_from: usize,
    /// Extents that others are to prove, by their numbers, the next one last.
    pub(super) coming: Vec<(u64, Told)>,
    /// The last block that failed, and the data block that it failed for.
    failure: Option<(u64, Box<Failure>)>,
    /// Why the store gave nothing, where others may have it.
    pub(super) lack: Option<StoreError>,
    pub(super) blocks: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// The cache did not have all of it.
    pub(super) asked: bool,
    /// The store or the disk had to be waited for.
    pub(super) waited: bool,
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
            coming: Vec::new(),
            failure: None,
            lack: None,
            blocks: 0,
            hits: 0,
            misses: 0,
            asked: false,
            waited: false,
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
                match self.extent(from, to, stop).await? {
                    Extent::Proven(bytes) => {
                        self.payload.push(Part::Proven(bytes.slice(within(from, at, stop))));
                        at = stop;
                    }
                    Extent::Damaged => damaged = Some(from),
                    Extent::Lost => return Ok(()),
                }
                continue;
            }
            let is_damaged = damaged == Some(from);
            let (from, to) = self.span(at, self.prover.block_size() as u64);
            let Some(block) = self.block(from, to, at, is_damaged).await? else { return Ok(()) };
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
    pub(super) fn span(&self, at: u64, unit: u64) -> (u64, u64) {
        let from = at / unit * unit;
        (from, (from + unit).min(self.prover.proven.descriptor.size))
    }

    pub(super) fn cached(&mut self, span: Span) -> Option<Verified<Bytes>> {
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
        self.waited = true;
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

    /// The extent `from..to`, of which bytes up to `stop` are wanted, from whoever proves it now, or read and proven.
    async fn extent(&mut self, from: u64, to: u64, stop: u64) -> Result<Extent, ExportError> {
        let number = from / EXTENT;
        let (claim, data) = match self.next(from) {
            Some(Next { claim, data, .. }) => (Some(claim), Some(data)),
            None => match self.turn(number, Span::Extent(number), stop == to).await {
                Turn::Proven(_, bytes) => return Ok(Extent::Proven(bytes)),
                Turn::Mine(claim) => (Some(claim), None),
                Turn::Alone => (None, None),
            },
        };
        let made = self.prove_extent(from, to, data).await;
        match (claim, &made) {
            (Some(claim), Ok(Extent::Proven(bytes))) => claim.proven(bytes),
            (Some(claim), _) => claim.failed(),
            (None, _) => {}
        }
        made
    }

    /// Proves the extent `from..to`, of which the store gave `data`, if it was asked before.
    async fn prove_extent(&mut self, from: u64, to: u64, data: Option<Bytes>) -> Result<Extent, ExportError> {
        let data = match data {
            Some(data) => data,
            None => {
                if let Some(bytes) = self.read_back(Span::Extent(from / EXTENT), from, to).await {
                    return Ok(Extent::Proven(bytes));
                }
                let Some(data) = self.fetch_extent(from, to).await? else { return Ok(Extent::Lost) };
                data
            }
        };
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
    async fn block(
        &mut self,
        from: u64,
        to: u64,
        at: u64,
        is_damaged: bool,
    ) -> Result<Option<Part>, ExportError> {
        let index = from / self.prover.block_size() as u64;
        if let Some(bytes) = self.cached(Span::Block(index)) {
            return Ok(Some(Part::Proven(bytes)));
        }
        // In an extent that is damaged each READ finds out for itself, and tells its own client.
        if is_damaged {
            return self.prove_block(index, from, to, at).await;
        }
        let (start, end) = self.span(from, EXTENT);
        let claim = match self.turn(start / EXTENT, Span::Block(index), to == end && self.end >= end).await {
            Turn::Proven(Span::Extent(_), bytes) => {
                return Ok(Some(Part::Proven(bytes.slice(within(start, from, to)))));
            }
            Turn::Proven(_, bytes) => return Ok(Some(Part::Proven(bytes))),
            Turn::Mine(claim) => Some(claim),
            Turn::Alone => None,
        };
        let made = self.prove_block(index, from, to, at).await;
        match (claim, &made) {
            (Some(claim), Ok(Some(Part::Proven(bytes)))) => claim.proven(bytes),
            (Some(claim), _) => claim.failed(),
            (None, _) => {}
        }
        made
    }

    /// Reads and proves the block `from..to`, as [`Reading::block`] wants it.
    async fn prove_block(
        &mut self,
        index: u64,
        from: u64,
        to: u64,
        at: u64,
    ) -> Result<Option<Part>, ExportError> {
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
            if data.len() == self.prover.block_size()
                && let Some(found) = self.export.together.hash(&self.prover.tree.hasher, data).await
            {
                return self.prover.compare_leaf(first, found).await;
            }
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
