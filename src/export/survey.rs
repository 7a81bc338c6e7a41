//! What is known of a file's blocks without reading them.

use std::ops::Range;
use std::sync::Arc;

use super::Export;
use super::cache::Span;
use super::read::stat;
use super::reading::EXTENT;
use super::trust::{Depth, Judged, Judgement};
use crate::event::Survey;
use crate::store::StorePath;

/// Ranges that are told at most: what is known of a file that was read here and there is cut short.
const RANGES: usize = 65_536;

impl Export {
    /// Which blocks of the file at `path` are in memory, and so were proven since the gateway started. The store
    /// is asked for its evidence alone. `None` where there is no such file, or its evidence is not accepted.
    pub async fn survey(self: &Arc<Self>, path: &[u8]) -> Option<Survey> {
        let path = StorePath::parse(path).ok()?;
        let file = self.store.open(&path).await.ok()?;
        let attr = stat(&*file).await.ok()?;
        let judged = self.trust.judge(&path, attr.size, Depth::Glance).await.ok()?;
        let Judged::Known(Judgement { verdict, tree: Some(tree), .. }) = judged else { return None };
        if verdict.outcome.is_err() {
            return None;
        }
        let geometry = tree.geometry;
        let size = geometry.size();
        let block_size = u32::try_from(geometry.block_size().bytes()).ok()?;
        let (export, key) = (self.clone(), tree.cache_key);
        // As long as the cache is large.
        let spans = move || {
            let spans = export.cache.data_of(key).filter_map(|span| blocks(span, block_size.into(), size));
            spans.take(RANGES).collect()
        };
        let good = joined(tokio::task::spawn_blocking(spans).await.ok()?);
        let arity = u32::try_from(geometry.arity()).unwrap_or(u32::MAX);
        Some(Survey { version: *key.bytes(), size, block_size, arity, good })
    }
}

/// The data blocks of a span, in a file of `size` bytes.
fn blocks(span: Span, block_size: u64, size: u64) -> Option<Range<u64>> {
    let all = size.div_ceil(block_size);
    let blocks = match span {
        Span::Tree(..) => return None,
        Span::Block(index) => index..index.saturating_add(1).min(all),
        Span::Extent(index) => {
            let each = EXTENT / block_size;
            let first = index.saturating_mul(each);
            first..first.saturating_add(each).min(all)
        }
    };
    (!blocks.is_empty()).then_some(blocks)
}

/// The same blocks, in order, each once, and what touches in one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_blocks_of_the_file_and_no_more() {
        assert_eq!(blocks(Span::Block(3), 4096, 20_000), Some(3..4));
        assert_eq!(blocks(Span::Block(5), 4096, 20_000), None);
        assert_eq!(blocks(Span::Extent(0), 4096, 20_000), Some(0..5));
        assert_eq!(blocks(Span::Extent(1), 1024, 200_000), Some(64..128));
        assert_eq!(blocks(Span::Extent(3), 1024, 200_000), Some(192..196));
        assert_eq!(blocks(Span::Extent(u64::MAX), 1024, 200_000), None);
        assert_eq!(blocks(Span::Tree(0, 0), 4096, 20_000), None);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(joined(vec![5..6, 0..2, 2..4, 1..3, 9..12, 10..11]), [0..4, 5..6, 9..12]);
        assert_eq!(joined(vec![]), [] as [Range<u64>; 0]);
    }
}
