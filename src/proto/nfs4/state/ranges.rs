//! Byte ranges of one lock-owner in one file: disjoint, neighbours of one kind made one.

use std::collections::BTreeMap;

use super::{LockKind, LockRange};
use crate::proto::nfs4::status::Status;

/// Bytes from the first to the last, both of them in it. A lock to the end of all files ends at
/// `u64::MAX`, which no other can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    /// RFC 8881 section 18.10.3: no length, and one whose sum with the offset does not fit, is
    /// NFS4ERR_INVAL.
    pub(super) fn new(range: LockRange) -> Result<Self, Status> {
        let last = match range.length {
            0 => return Err(Status::Inval),
            u64::MAX => u64::MAX,
            length => range.offset.checked_add(length).ok_or(Status::Inval)? - 1,
        };
        Ok(Self { first: range.offset, last })
    }

    pub(super) fn range(self) -> LockRange {
        let length = match self.last {
            u64::MAX => u64::MAX,
            last => last - self.first + 1,
        };
        LockRange { offset: self.first, length }
    }
}

/// The ranges, by their first byte.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    by_first: BTreeMap<u64, (u64, LockKind)>,
    writes: usize,
}

impl Ranges {
    pub(super) fn len(&self) -> usize {
        self.by_first.len()
    }

    /// How many are exclusive.
    pub(super) fn writes(&self) -> usize {
        self.writes
    }

    /// The first range that keeps another owner from `kind` in `span`.
    pub(super) fn in_the_way(&self, span: Span, kind: LockKind) -> Option<(Span, LockKind)> {
        if kind == LockKind::Read && self.writes == 0 {
            return None;
        }
        let before = self.by_first.range(..span.first).next_back();
        let before = before.filter(|&(_, &(last, _))| last >= span.first);
        before
            .into_iter()
            .chain(self.by_first.range(span.first..=span.last))
            .find(|&(_, &(_, held))| kind == LockKind::Write || held == LockKind::Write)
            .map(|(&first, &(last, held))| (Span { first, last }, held))
    }

    /// Whether taking `span` out makes two of one.
    pub(super) fn splits(&self, span: Span) -> bool {
        self.by_first.range(..span.first).next_back().is_some_and(|(_, &(last, _))| last > span.last)
    }

    fn insert(&mut self, first: u64, last: u64, kind: LockKind) {
        self.by_first.insert(first, (last, kind));
        self.writes += usize::from(kind == LockKind::Write);
    }

    fn remove(&mut self, first: u64) -> Option<(u64, LockKind)> {
        let removed = self.by_first.remove(&first)?;
        self.writes -= usize::from(removed.1 == LockKind::Write);
        Some(removed)
    }

    /// Takes `span` out, which splits a range that goes beyond it on both sides.
    pub(super) fn clear(&mut self, span: Span) {
        let before = self.by_first.range(..span.first).next_back();
        if let Some((first, last, kind)) = before.map(|(&first, &(last, kind))| (first, last, kind))
            && last >= span.first
        {
            self.remove(first);
            self.insert(first, span.first - 1, kind);
            if last > span.last {
                self.insert(span.last + 1, last, kind);
            }
        }
        while let Some((&first, _)) = self.by_first.range(span.first..=span.last).next() {
            if let Some((last, kind)) = self.remove(first)
                && last > span.last
            {
                self.insert(span.last + 1, last, kind);
            }
        }
    }

    /// Makes all of `span` this kind, whatever it was.
    pub(super) fn set(&mut self, span: Span, kind: LockKind) {
        self.clear(span);
        let Span { mut first, mut last } = span;
        let before = self.by_first.range(..first).next_back().map(|(&at, &range)| (at, range));
        if let Some((at, (end, held))) = before
            && end.checked_add(1) == Some(first)
            && held == kind
        {
            self.remove(at);
            first = at;
        }
        if let Some(next) = last.checked_add(1)
            && let Some(&(end, held)) = self.by_first.get(&next)
            && held == kind
        {
            self.remove(next);
            last = end;
        }
        self.insert(first, last, kind);
    }
}
