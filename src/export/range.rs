//! Proofs of ranges: the tree blocks between the root hash and some data blocks, each of them proven here
//! before it leaves, as the data are.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::Export;
use super::error::ExportError;
use super::evidence::{ProofBlock, RangeProof};
use super::handle::View;
use super::names::state;
use super::permission::Caller;
use super::proof::{Failure, Prover};
use super::proof_directory::Object;
use super::rules::Wish;
use super::verified::Verified;
use crate::event::{Cause, CauseClass};
use crate::policy::ipe::audit::Hook;
use crate::policy::{Decision, Op, decide};
use crate::verity::Geometry;

/// Bytes of tree in one proof, if more than one data block is to be covered.
const TREE_MAX: u64 = 256 * 1024;

/// The most bytes of tree that one proof has: a block of each level, where that is more than usual. Trees of
/// blocks of 64 KiB have five levels at most, and those of smaller blocks take less.
pub const PROOF_MAX: u64 = 320 * 1024;

impl Export {
    /// Tree blocks that prove the bytes from `offset`, at most `length` of them, themselves proven. No
    /// tree blocks at all for a file of one block or none: its hash is the root hash.
    ///
    /// As many bytes are covered as 256 KiB of tree prove, and one data block at least; none behind the end.
    /// Who may read the data gets the proof. Files that only warn mode serves have none.
    pub async fn proof(
        &self,
        handle: &[u8],
        offset: u64,
        length: u64,
        caller: &Caller,
    ) -> Result<RangeProof, ExportError> {
        let Object { node, view } = self.object(handle).await?;
        match view {
            None => {}
            Some(View::Directory) => return Err(ExportError::IsADirectory),
            Some(View::Item(_)) => return Err(ExportError::NotRegular),
        }
        let (file, attr) = self.opened(&node).await?;
        if !self.identity.may_read_data(&attr, caller) {
            return Err(ExportError::Permission);
        }
        let finding = file.verdict.finding(&attr);
        match decide(self.mode, finding.as_ref().map(|finding| finding.cause)) {
            Decision::Allow => {
                let (op, hook, verdict) = (Op::Read, Hook::NfsRead, Some(&file.verdict));
                self.may_read(&file.allowed, &attr, Wish { op, hook, node: &node, verdict, caller })?;
            }
            Decision::AllowUnproven(cause) | Decision::Deny(cause) | Decision::Fail(cause) => {
                self.report_finding(&node, finding, caller, false);
                return Err(refused(cause));
            }
        }
        let (Ok(proven), Some(tree)) = (&file.verdict.outcome, &file.tree) else {
            return Err(ExportError::Io);
        };
        let mut prover = Prover::new(proven, tree, &self.cache, file.spares.as_ref());
        let Cut { covered, data_blocks } = cut(&tree.geometry, offset, length);
        let mut proof = RangeProof {
            descriptor: Bytes::copy_from_slice(&proven.descriptor.encode()),
            covered,
            blocks: Vec::new(),
        };
        let Some(data_blocks) = data_blocks else { return Ok(proof) };
        match blocks(&mut prover, &data_blocks).await {
            Ok(blocks) => proof.blocks = blocks,
            Err(failure) => {
                if failure.cause == Cause::Unreadable {
                    // As for READ: by its name the tree may be well.
                    self.open_files.remove(&node.tag);
                }
                if let Some(excuse) = failure.excuse {
                    return Err(excuse);
                }
                self.report_failure(&node, &failure, caller, false);
                let first = first_below(&tree.geometry, &failure).max(*data_blocks.start());
                self.damages.note(&node.tag, state(&attr, &file.verdict), first, &failure);
                return Err(ExportError::Corrupt(failure.cause));
            }
        }
        Ok(proof)
    }
}

/// What a client hears of a file that cannot be proven, in whatever mode.
fn refused(cause: Cause) -> ExportError {
    match cause.class() {
        CauseClass::Denied => ExportError::Denied(cause),
        CauseClass::Corrupt => ExportError::Corrupt(cause),
    }
}

/// As much of a range as one proof covers.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// Bytes from the start of the range.
    covered: u64,
    /// The data blocks that they are in, where they have a tree.
    data_blocks: Option<RangeInclusive<u64>>,
}

fn cut(geometry: &Geometry, offset: u64, length: u64) -> Cut {
    let end = offset.saturating_add(length).min(geometry.size());
    if offset >= end {
        return Cut { covered: 0, data_blocks: None };
    }
    if geometry.levels() == 0 {
        return Cut { covered: end - offset, data_blocks: None };
    }
    let block_size = u64::from(geometry.block_size().get());
    let (first, mut last) = (offset / block_size, (end - 1) / block_size);
    // Whole leaves at a time are left out: within one, every data block costs the same.
    let arity = geometry.arity();
    let fits = |last| tree_bytes(geometry, first, last) <= TREE_MAX;
    if !fits(last) {
        let (mut low, mut high) = (first / arity, last / arity);
        // The leaf `low` is always taken, and `high` never fits.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle * arity) { low = middle } else { high = middle }
        }
        last = last.min(low * arity + (arity - 1));
    }
    let reach = last.saturating_add(1).saturating_mul(block_size).min(end);
    Cut { covered: reach - offset, data_blocks: Some(first..=last) }
}

/// Bytes of tree above the data blocks from `first` to `last`.
fn tree_bytes(geometry: &Geometry, first: u64, last: u64) -> u64 {
    levels(geometry, &(first..=last))
        .map(|(_, range)| (range.end() - range.start()).saturating_add(1))
        .fold(0, u64::saturating_add)
        .saturating_mul(u64::from(geometry.block_size().get()))
}

/// The blocks of each level above `data_blocks`, the leaves first.
fn levels(
    geometry: &Geometry,
    data_blocks: &RangeInclusive<u64>,
) -> impl DoubleEndedIterator<Item = (usize, RangeInclusive<u64>)> {
    (0..geometry.levels()).map(|level| (level, geometry.above(level, data_blocks)))
}

/// The proven tree blocks above `data_blocks`, the root's first.
async fn blocks(
    prover: &mut Prover<'_>,
    data_blocks: &RangeInclusive<u64>,
) -> Result<Vec<ProofBlock>, Box<Failure>> {
    let geometry = prover.tree.geometry;
    let mut all = Vec::new();
    let mut above: Option<(u64, Vec<Verified<Bytes>>)> = None;
    for (level, range) in levels(&geometry, data_blocks).rev() {
        let mut proven = Vec::new();
        let (mut ahead, mut in_runs) = (Vec::new().into_iter(), true);
        for index in range.clone() {
            if in_runs && ahead.len() == 0 {
                // Where a run fails, block by block tells which one it is.
                match prover.ahead(level, index..=*range.end()).await {
                    Ok(run) => ahead = run.into_iter(),
                    Err(_) => in_runs = false,
                }
            }
            let parent = above.as_ref().and_then(|(first, blocks)| {
                let nth = geometry.slot(level + 1, index).block.checked_sub(*first)?;
                blocks.get(usize::try_from(nth).ok()?)
            });
            let block = prover.below(parent, level, index, ahead.next()).await?;
            let number = u32::try_from(level).unwrap_or(u32::MAX);
            all.push(ProofBlock { level: number, index, bytes: block.get().clone() });
            proven.push(block);
        }
        above = Some((*range.start(), proven));
    }
    Ok(all)
}

/// The first data block below a tree block that failed.
fn first_below(geometry: &Geometry, failure: &Failure) -> u64 {
    let levels = failure.level.map_or(0, |level| u32::from(level) + 1);
    failure.block.saturating_mul(geometry.arity().saturating_pow(levels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::{BlockSize, HashAlgorithm, MAX_SIZE};

    #[test]
    fn a_proof_is_bounded_whatever_the_file() {
        for algorithm in HashAlgorithm::ALL {
            for log in 10..=16 {
                let block_size = BlockSize::new(1 << log).unwrap();
                let sizes = [1, 1 << 16, (1 << 20) + 1, 1 << 33, 1 << 45, MAX_SIZE];
                for geometry in
                    sizes.iter().filter_map(|size| Geometry::new(algorithm, block_size, *size).ok())
                {
                    let size = geometry.size();
                    for offset in [0, 1, size / 2, size / 3 * 2, size - 1] {
                        let Cut { covered, data_blocks } = cut(&geometry, offset, u64::MAX);
                        let block = u64::from(block_size.get());
                        let to_block_end = (offset / block + 1) * block - offset;
                        assert!(covered >= to_block_end.min(size - offset) && covered <= size - offset);
                        let Some(data_blocks) = data_blocks else {
                            assert_eq!((geometry.levels(), covered), (0, size - offset));
                            continue;
                        };
                        let (first, last) = (*data_blocks.start(), *data_blocks.end());
                        let bytes = tree_bytes(&geometry, first, last);
                        assert!(bytes <= PROOF_MAX, "{bytes} for {geometry:?}");
                        assert_eq!((offset + covered).div_ceil(block), last + 1);
                        // No more would have fitted.
                        let all = offset + covered == size;
                        assert!(all || tree_bytes(&geometry, first, last + 1) > TREE_MAX, "{geometry:?}");
                        // To ask for less gives less, and for no more than that the same.
                        assert_eq!(cut(&geometry, offset, covered).covered, covered);
                        assert_eq!(
                            cut(&geometry, offset, 1),
                            Cut { covered: 1, data_blocks: Some(first..=first) }
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_proven_behind_the_end() {
        let geometry = Geometry::new(HashAlgorithm::Sha256, BlockSize::new(4096).unwrap(), 10_000).unwrap();
        for (offset, length) in [(10_000, 1), (u64::MAX, u64::MAX), (0, 0), (5, 0)] {
            assert_eq!(cut(&geometry, offset, length), Cut { covered: 0, data_blocks: None });
        }
        assert_eq!(cut(&geometry, 9_999, 50), Cut { covered: 1, data_blocks: Some(2..=2) });
    }
}
