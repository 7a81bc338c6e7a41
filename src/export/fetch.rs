//! Where the data of a READ come from that are not in the cache: from another READ that proves them at this moment,
//! or from the store.

use std::sync::Arc;

use bytes::Bytes;

use super::cache::Span;
use super::error::ExportError;
use super::flights::{Claim, Found, Given, Heard, Told};
use super::gone;
use super::heal::Spares;
use super::reading::{EXTENT, EXTENT_LEN, Reading};
use super::trust::Finding;
use super::verified::Verified;
use crate::event::Cause;
use crate::store::{Identity, StoreError, StoreErrorKind, StoreFile, acting_as};

/// An extent that was read together with one before it, not proven yet.
pub(super) struct Next {
    from: u64,
    pub(super) data: Bytes,
    pub(super) claim: Claim,
}

/// Whose turn it is to prove a span.
pub(super) enum Turn {
    /// Somebody did: this span, which may be more than was asked for.
    Proven(Span, Verified<Bytes>),
    /// The caller's, and others wait for it.
    Mine(Claim),
    /// The caller's, for itself: somebody else failed, or takes too long.
    Alone,
}

impl Reading<'_> {
    /// Whose turn it is to prove `span` in extent number `extent`, once that is certain. `ends`: this READ goes on to
    /// the end of the extent.
    pub(super) async fn turn(&mut self, extent: u64, span: Span, ends: bool) -> Turn {
        let (export, file) = (self.export, self.prover.tree.cache_key);
        // Others may wait for what this READ has claimed: it waits for nobody meanwhile.
        self.ahead.clear();
        self.asked = true;
        self.coming.retain(|(next, _)| *next >= extent);
        let coming = self.coming.pop_if(|(next, _)| Span::Extent(*next) == span);
        let mut found = coming.map(|(_, told)| Found::Coming(span, told));
        let mut given_up = false;
        loop {
            match found.take().unwrap_or_else(|| export.flights.find(file, extent, span, ends)) {
                Found::Nothing(claim) => {
                    // Whoever had claimed it may have proven it since the cache was looked at.
                    let Some(bytes) = self.cached(span) else { return Turn::Mine(claim) };
                    claim.proven(&bytes);
                    return Turn::Proven(span, bytes);
                }
                Found::Proven(span, bytes) => {
                    if ends {
                        export.cache.insert_again(file, span, bytes.clone());
                        self.count(&bytes);
                    }
                    self.hits += 1;
                    return Turn::Proven(span, bytes);
                }
                Found::Late => return Turn::Alone,
                Found::Coming(there, told) => {
                    if self.coming.is_empty() && there == span {
                        self.coming = self.coming_behind(extent);
                    }
                    match told.hear().await {
                        Heard::Given(Given { bytes, is_first }) => {
                            if is_first {
                                self.count(&bytes);
                            }
                            self.hits += 1;
                            return Turn::Proven(there, bytes);
                        }
                        // Clients that come and go must not hold up one that stays.
                        Heard::GivenUp if !given_up => given_up = true,
                        Heard::GivenUp | Heard::Nothing => return Turn::Alone,
                    }
                }
            }
        }
    }

    /// Counts the blocks of what was proven ahead for this READ, as it turns out.
    fn count(&mut self, bytes: &Verified<Bytes>) {
        self.blocks += bytes.get().len().div_ceil(self.prover.block_size()) as u64;
    }

    /// The extents behind number `extent` that somebody else is to prove and that are wanted, the next one last. They
    /// are waited for from now on: the cache may keep none of them.
    fn coming_behind(&self, extent: u64) -> Vec<(u64, Told)> {
        let mut coming = Vec::new();
        for number in extent + 1.. {
            let (from, to) = self.span(number * EXTENT, EXTENT);
            if from >= self.end || !self.is_mostly_wanted(from, to) {
                break;
            }
            let told = self.export.flights.join(self.prover.tree.cache_key, number, self.end >= to);
            coming.extend(told.map(|told| (number, told)));
        }
        coming.reverse();
        coming
    }

    /// Whether most of the extent `from..to` is wanted, which begins before the end of what is.
    fn is_mostly_wanted(&self, from: u64, to: u64) -> bool {
        (self.end.min(to) - from) * 2 >= to - from
    }

    /// The extent that begins at `from`, if it was read together with one before it.
    pub(super) fn next(&mut self, from: u64) -> Option<Next> {
        // Somebody else was faster with what lies before it.
        while self.ahead.pop_if(|next| next.from < from).is_some() {}
        let next = self.ahead.pop_if(|next| next.from == from)?;
        (self.lack, self.misses, self.source) = (None, self.misses + 1, self.ahead_from);
        Some(next)
    }

    /// The extent `from..to`, or what the store has of it. Where the store has to be waited for, it is asked
    /// for all that is wanted behind it, too.
    pub(super) async fn fetch_extent(&mut self, from: u64, to: u64) -> Result<Option<Bytes>, ExportError> {
        let file = self.read_from();
        self.misses += 1;
        let len = usize::try_from(to - from).unwrap_or(0);
        if let Some(bytes) = file.try_read_at(from, len) {
            return Ok(Some(bytes));
        }
        self.waited = true;
        let (claims, stop) = self.claim_from(to);
        if claims.is_empty() {
            return self.wait_for(&*file, from, len).await;
        }
        let all = usize::try_from(stop - from).unwrap_or(0);
        match acting_as(self.acting(), file.read_pieces(from, all, EXTENT_LEN)).await {
            Ok(pieces) => {
                let mut pieces = pieces.into_iter();
                let first = pieces.next().unwrap_or_default();
                let next = |((from, data), claim)| Next { from, data, claim };
                self.ahead = (to..stop).step_by(EXTENT_LEN).zip(pieces).zip(claims).map(next).collect();
                self.ahead.reverse();
                self.ahead_from = self.source;
                Ok(Some(first))
            }
            Err(error) => {
                claims.into_iter().for_each(Claim::failed);
                self.lost(error)
            }
        }
    }

    /// Claims the extents that follow `from` without a gap, are wanted, are not in the cache and are nobody else's;
    /// and where they end.
    fn claim_from(&self, from: u64) -> (Vec<Claim>, u64) {
        let (mut claims, mut at) = (Vec::new(), from);
        while at < self.end {
            let (from, to) = self.span(at, EXTENT);
            let (key, number) = (self.prover.tree.cache_key, from / EXTENT);
            if !self.is_mostly_wanted(from, to) || self.export.cache.has(key, Span::Extent(number)) {
                break;
            }
            let Some(claim) = self.export.flights.claim(key, number) else { break };
            claims.push(claim);
            at = to;
        }
        (claims, at)
    }

    /// The bytes `from..to`, or fewer where the store has fewer. `None` when the store failed behind
    /// data that is proven already: what there is of it is the answer.
    pub(super) async fn fetch(&mut self, from: u64, to: u64) -> Result<Option<Bytes>, ExportError> {
        self.misses += 1;
        let (file, len) = (self.read_from(), usize::try_from(to - from).unwrap_or(0));
        if let Some(bytes) = file.try_read_at(from, len) {
            return Ok(Some(bytes));
        }
        self.waited = true;
        self.wait_for(&*file, from, len).await
    }

    async fn wait_for(
        &mut self,
        file: &dyn StoreFile,
        from: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ExportError> {
        match acting_as(self.acting(), file.read_at(from, len)).await {
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

    pub(super) fn give_up(&self, error: StoreError) -> Result<Option<Bytes>, ExportError> {
        self.export.open_files.remove(&self.node.tag);
        if ExportError::from(&error) == ExportError::Io {
            let finding = Finding { cause: Cause::Unreadable, detail: error.to_string() };
            self.export.report_finding(self.node, Some(finding), self.caller, false);
        }
        if self.payload.is_empty() { Err(gone(error)) } else { Ok(None) }
    }
}
