//! Proving a whole file at once, with the same code that proves it block by block for clients.

use std::io;

use super::Export;
use super::cache::BlockCache;
use super::error::ExportError;
use super::proof::{Failure, Prover};
use super::read::{read_at, stat};
use super::reading::truncated;
use super::trust::{Depth, Judged, Judgement, Trust};
use crate::carrier::CarrierKind;
use crate::event::Cause;
use crate::sign::Signer;
use crate::store::{StoreError, StoreErrorKind, StorePath};

/// Bytes looked at in one step: a multiple of every block size.
const STEP: u64 = 1024 * 1024;
/// Memory for the blocks of the tree: those above the ones that are looked at.
const TREE_BYTES: u64 = 4 * 1024 * 1024;
/// Failing blocks that are told one by one.
const TOLD_MAX: usize = 1000;

/// A block that does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// Why.
    pub cause: Cause,
    /// Index within the level.
    pub block: u64,
    /// The tree level, `None` for data.
    pub level: Option<u8>,
    /// Facts for people; may be empty.
    pub detail: String,
}

/// What examining a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examination {
    /// Every block is proven.
    Good {
        /// The signed size in bytes.
        bytes: u64,
        /// Whose signatures count, each once a format.
        signers: Vec<Signer>,
        /// Where the evidence was.
        carrier: CarrierKind,
        /// True when all of the file had to be hashed before a block could be proven.
        hashed: bool,
    },
    /// The file as a whole is not accepted.
    Refused {
        /// Why.
        cause: Cause,
        /// Facts for people.
        detail: String,
    },
    /// The evidence is accepted, but blocks fail.
    Damaged {
        /// The first failing blocks, at most 1000.
        blocks: Vec<BadBlock>,
        /// How many fail in all.
        count: u64,
    },
}

impl Export {
    /// The stores that have the files, for people: the first, and the replicas.
    pub fn stores(&self) -> Vec<&str> {
        self.sources.iter().map(|(_, source)| &*source.name).collect()
    }

    /// Proves every block of the regular file `path` on the first store, whatever the mode is.
    ///
    /// # Errors
    /// When the store or the evidence cannot be read at all; that says nothing of the file.
    pub async fn examine(
        &self,
        path: &StorePath,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Examination, ExamineError> {
        self.examine_on(0, path, progress).await
    }

    /// [`Export::examine`] of what the store number `store` of [`Export::stores`] has, and it alone: what is
    /// in memory is not believed in place of it, nor kept.
    ///
    /// # Errors
    /// Those of [`Export::examine`].
    pub async fn examine_on(
        &self,
        store: usize,
        path: &StorePath,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Examination, ExamineError> {
        examine(&self.trust, store, path, progress).await
    }
}

/// [`Export::examine_on`].
pub(super) async fn examine(
    trust: &Trust,
    source: usize,
    path: &StorePath,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Examination, ExamineError> {
    let file = trust.sources.get(source).store.open(path).await?;
    let attr = stat(&*file).await?;
    let judged = trust.judge_on(source, path, attr.size, Depth::Patient).await;
    let judged = judged.map_err(ExamineError::Busy)?;
    let Judged::Known(Judgement { verdict, tree, .. }) = judged else {
        return Err(ExamineError::Busy(ExportError::Busy));
    };
    if let Some(finding) = verdict.finding(&attr) {
        if finding.cause == Cause::Unreadable {
            return Err(ExamineError::Evidence(finding.detail));
        }
        return Ok(Examination::Refused { cause: finding.cause, detail: finding.detail });
    }
    let (Ok(proven), Some(tree)) = (&verdict.outcome, &tree) else {
        return Err(ExamineError::Busy(ExportError::Io));
    };
    let cache = BlockCache::in_memory(TREE_BYTES);
    let mut prover = Prover::new(proven, tree, &cache, None);
    let (size, block_size) = (proven.descriptor.size, prover.block_size() as u64);
    let (mut blocks, mut count) = (Vec::new(), 0);
    // The first data block whose leaf is not below a tree block that is told already.
    let mut unknown = 0;
    let mut at = 0;
    while at < size {
        let to = (at + STEP).min(size);
        let data = read_at(&*file, at, usize::try_from(to - at).unwrap_or(0)).await?;
        let end = at + data.len() as u64;
        // Only whole blocks, and the last one of the file, can be compared.
        let whole = if end < to { data.len() as u64 / block_size * block_size } else { data.len() as u64 };
        let whole = data.slice(..usize::try_from(whole).unwrap_or(0));
        for (index, found) in (at / block_size..).zip(prover.digests(&whole)) {
            if index < unknown {
                continue;
            }
            let Err(failure) = prover.compare_leaf(index, found).await else { continue };
            match failure.excuse {
                // It is to be examined again, as where other data took the place of the file's.
                Some(ExportError::Stale) => {
                    let source = io::Error::other(failure.detail);
                    let stale = StoreError::new(StoreErrorKind::Stale, "read the evidence", path, source);
                    return Err(stale.into());
                }
                Some(_) => return Err(ExamineError::Evidence(failure.detail)),
                None => {}
            }
            if let Some(level) = failure.level {
                unknown = tree.geometry.data_blocks_below(level.into(), failure.block).end;
            }
            note(&mut blocks, &mut count, *failure);
        }
        if end < to {
            note(&mut blocks, &mut count, *truncated(end / block_size, end, size));
            break;
        }
        progress(to - at);
        at = to;
        tokio::task::yield_now().await;
    }
    Ok(match count {
        0 => Examination::Good {
            bytes: size,
            signers: proven.signers.to_vec(),
            carrier: proven.carrier,
            hashed: tree.is_made(),
        },
        count => Examination::Damaged { blocks, count },
    })
}

fn note(blocks: &mut Vec<BadBlock>, count: &mut u64, failure: Failure) {
    *count += 1;
    if blocks.len() < TOLD_MAX {
        let Failure { cause, block, level, expected, found, detail, excuse: _ } = failure;
        let detail = match (expected, found) {
            (Some(expected), Some(found)) => format!("expected {expected}, found {found}"),
            _ => detail,
        };
        blocks.push(BadBlock { cause, block, level, detail });
    }
}

/// Why a file could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evidence cannot be read.
    #[error("{0}")]
    Evidence(String),
    /// The process lacks something.
    #[error(transparent)]
    Busy(ExportError),
}
