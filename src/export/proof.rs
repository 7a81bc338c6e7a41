//! Proving blocks: from the signed root hash down to the data, every step compared.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::cache::{BlockCache, Span};
use super::error::ExportError;
use super::flights::{Claim, Flights, Found, Given, Heard};
use super::heal::Spares;
use super::trust::{Proven, Tree, Unread};
use super::verified::Verified;
use crate::event::Cause;
use crate::verity::{Digest, Slot};

/// A block that could not be proven.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// Index within the level.
    pub(super) block: u64,
    /// The tree level, `None` for data.
    pub(super) level: Option<u8>,
    pub(super) expected: Option<Digest>,
    pub(super) found: Option<Digest>,
    pub(super) detail: String,
    /// What the client hears where this says nothing of what the store has: it did not answer, or other evidence
    /// took the place of that which was read.
    pub(super) excuse: Option<ExportError>,
}

/// One file's tree and the cache of what was proven of it.
pub(super) struct Prover<'a> {
    pub(super) proven: &'a Proven,
    pub(super) tree: &'a Tree,
    pub(super) cache: &'a BlockCache,
    /// The same file on other stores.
    pub(super) spares: Option<&'a Spares>,
    /// Tree blocks that were read and proven, for the metrics.
    pub(super) tree_blocks: u64,
    /// Where others prove tree blocks at the same time.
    flights: Option<&'a Flights>,
    /// The block of leaves that was needed last, and its index: the next data block has its leaf there, too.
    leaves: Option<(u64, Verified<Bytes>)>,
}

impl<'a> Prover<'a> {
    pub(super) fn new(
        proven: &'a Proven,
        tree: &'a Tree,
        cache: &'a BlockCache,
        spares: Option<&'a Spares>,
    ) -> Self {
        Self { proven, tree, cache, spares, tree_blocks: 0, flights: None, leaves: None }
    }

    /// The same that waits for tree blocks which others of these `flights` prove, and they for it.
    pub(super) fn among(self, flights: &'a Flights) -> Self {
        Self { flights: Some(flights), ..self }
    }
}

impl Prover<'_> {
    /// The hash that data block `index` must have.
    pub(super) async fn leaf(&mut self, index: u64) -> Result<Digest, Box<Failure>> {
        if self.tree.geometry.levels() == 0 {
            return Ok(self.proven.descriptor.root_hash);
        }
        let slot = self.tree.geometry.leaf_slot(index);
        let block = match &self.leaves {
            Some((at, block)) if *at == slot.block => block.clone(),
            Some(_) | None => {
                let block = self.tree_block(slot.block).await?;
                self.leaves = Some((slot.block, block.clone()));
                block
            }
        };
        self.digest_at(&block, slot, 0)
    }

    /// Compares consecutive data blocks, the first of which is `first`, with their leaves. Gives the
    /// number of blocks before the first that fails, and its failure.
    pub(super) async fn check(&mut self, first: u64, data: &Bytes) -> Result<(), (u64, Box<Failure>)> {
        for (done, found) in (0..).zip(self.digests(data)) {
            self.compare_leaf(first + done, found).await.map_err(|failure| (done, failure))?;
        }
        Ok(())
    }

    /// The digests of consecutive data blocks.
    pub(super) fn digests(&self, data: &Bytes) -> Vec<Digest> {
        let mut found = Vec::with_capacity(data.len() / self.block_size() + 1);
        self.tree.hasher.hash_many(data, |_, digest| found.push(digest));
        found
    }

    /// Compares the digest `found` of data block `index` with its leaf.
    pub(super) async fn compare_leaf(&mut self, index: u64, found: Digest) -> Result<(), Box<Failure>> {
        let expected = self.leaf(index).await?;
        if found == expected {
            return Ok(());
        }
        Err(Box::new(Failure {
            cause: Cause::BadBlock,
            block: index,
            level: None,
            expected: Some(expected),
            found: Some(found),
            detail: String::new(),
            excuse: None,
        }))
    }

    pub(super) fn block_size(&self) -> usize {
        self.proven.descriptor.params.block_size.bytes()
    }

    /// The proven leaf-level tree block `index`.
    async fn tree_block(&mut self, index: u64) -> Result<Verified<Bytes>, Box<Failure>> {
        // Up to the lowest ancestor that is proven already, then down again.
        let levels = self.tree.geometry.levels();
        let mut path = Vec::with_capacity(levels);
        let (mut level, mut at) = (0, index);
        let mut parent = loop {
            if let Some(block) = self.cache.get(self.tree.cache_key, Span::Tree(level_number(level), at)) {
                break Some(block);
            }
            path.push((level, at));
            if level + 1 == levels {
                break None;
            }
            level += 1;
            at = self.tree.geometry.slot(level, at).block;
        };
        while let Some((level, at)) = path.pop() {
            parent = Some(self.below(parent.as_ref(), level, at, None).await?);
        }
        parent.ok_or_else(|| self.tree_failure(Cause::BadTreeBlock, 0, index, "the tree has no such block"))
    }

    /// The blocks of `level` from the first of `range` on that are not in memory, in one read: none where that
    /// is only one. Nothing of it is proven.
    pub(super) async fn ahead(&self, level: usize, range: RangeInclusive<u64>) -> Result<Vec<Bytes>, Unread> {
        let Some(offset) = self.tree.geometry.tree_block_offset(level, *range.start()) else {
            return Ok(Vec::new());
        };
        let is_known = |index: &u64| {
            self.cache.get(self.tree.cache_key, Span::Tree(level_number(level), *index)).is_some()
        };
        let run = range.take_while(|index| !is_known(index)).count();
        if run < 2 {
            return Ok(Vec::new());
        }
        let bytes = self.tree.read(offset, run.saturating_mul(self.block_size())).await?;
        // Copies: one block that is kept in memory must not keep all of them.
        Ok(bytes.chunks(self.block_size()).map(Bytes::copy_from_slice).collect())
    }

    /// Block `index` of `level`, proven by the block above it, `parent`; `None` for that of the root. `read`
    /// is what the store gave for it, if that was asked before.
    pub(super) async fn below(
        &mut self,
        parent: Option<&Verified<Bytes>>,
        level: usize,
        index: u64,
        read: Option<Bytes>,
    ) -> Result<Verified<Bytes>, Box<Failure>> {
        if let Some(block) = self.cache.get(self.tree.cache_key, Span::Tree(level_number(level), index)) {
            return Ok(block);
        }
        let expected = match parent {
            None => self.proven.descriptor.root_hash,
            Some(block) => {
                let slot = self.tree.geometry.slot(level + 1, index);
                self.digest_at(block, slot, level + 1)?
            }
        };
        self.prove_tree_block(level, index, expected, read).await
    }

    async fn prove_tree_block(
        &mut self,
        level: usize,
        index: u64,
        expected: Digest,
        read: Option<Bytes>,
    ) -> Result<Verified<Bytes>, Box<Failure>> {
        let claim = match self.flights.filter(|_| read.is_none()) {
            Some(flights) => match self.turn(flights, level, index).await {
                Turn::Proven(block) => return Ok(block),
                Turn::Mine(claim) => Some(claim),
                Turn::Alone => None,
            },
            None => None,
        };
        let made = self.read_tree_block(level, index, expected, read).await;
        match (claim, &made) {
            (Some(claim), Ok(block)) => claim.proven(block),
            (Some(claim), Err(_)) => claim.failed(),
            (None, _) => {}
        }
        made
    }

    /// Whose turn it is to prove a tree block. Whoever has claimed one waits for nobody, so that who has claimed
    /// data may wait here.
    async fn turn(&self, flights: &Flights, level: usize, index: u64) -> Turn {
        let (file, span) = (self.tree.cache_key, Span::Tree(level_number(level), index));
        let mut given_up = false;
        loop {
            match flights.find(file, index, span, true) {
                Found::Nothing(claim) => {
                    let Some(block) = self.cache.get(file, span) else { return Turn::Mine(claim) };
                    claim.proven(&block);
                    return Turn::Proven(block);
                }
                Found::Proven(_, block) => return Turn::Proven(block),
                Found::Late => return Turn::Alone,
                Found::Coming(_, told) => match told.hear().await {
                    Heard::Given(Given { bytes, .. }) => return Turn::Proven(bytes),
                    Heard::GivenUp if !given_up => given_up = true,
                    Heard::GivenUp | Heard::Nothing => return Turn::Alone,
                },
            }
        }
    }

    async fn read_tree_block(
        &mut self,
        level: usize,
        index: u64,
        expected: Digest,
        read: Option<Bytes>,
    ) -> Result<Verified<Bytes>, Box<Failure>> {
        let Some(offset) = self.tree.geometry.tree_block_offset(level, index) else {
            return Err(self.tree_failure(Cause::BadTreeBlock, level, index, "the tree has no such block"));
        };
        let span = Span::Tree(level_number(level), index);
        if read.is_none()
            && let Some(bytes) = self.cache.on_disk(self.tree.cache_key, span, self.block_size()).await
        {
            if self.hash(&bytes) == Some(expected) {
                self.tree_blocks += 1;
                let block = Verified::proven(bytes);
                self.cache.insert_again(self.tree.cache_key, span, block.clone());
                return Ok(block);
            }
            self.cache.is_bad_on_disk(self.tree.cache_key, span);
        }
        let bytes = match read {
            Some(bytes) => Ok(bytes),
            None => self.tree.read(offset, self.block_size()).await,
        };
        let bytes = match bytes {
            Ok(bytes) => self.compare(level, index, expected, bytes),
            Err(Unread { finding, excuse }) => {
                let failure = self.tree_failure(finding.cause, level, index, &finding.detail);
                Err(Box::new(Failure { excuse, ..*failure }))
            }
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(failure) => self.heal(level, index, &expected, &failure).await.ok_or(failure)?,
        };
        self.tree_blocks += 1;
        let block = Verified::proven(bytes);
        self.cache.insert(self.tree.cache_key, span, block.clone());
        Ok(block)
    }

    fn compare(
        &self,
        level: usize,
        index: u64,
        expected: Digest,
        bytes: Bytes,
    ) -> Result<Bytes, Box<Failure>> {
        let found = self.hash(&bytes);
        if found == Some(expected) {
            return Ok(bytes);
        }
        let mut failure = self.tree_failure(Cause::BadTreeBlock, level, index, "");
        (failure.expected, failure.found) = (Some(expected), found);
        Err(failure)
    }

    /// The hash of one block; `None` for no bytes.
    pub(super) fn hash(&self, block: &Bytes) -> Option<Digest> {
        let mut found = None;
        self.tree.hasher.hash_many(block, |_, digest| found = Some(digest));
        found
    }

    fn digest_at(&self, block: &Verified<Bytes>, slot: Slot, level: usize) -> Result<Digest, Box<Failure>> {
        let short = || self.tree_failure(Cause::BadTreeBlock, level, slot.block, "the tree block is short");
        self.tree.geometry.digest_at(block.get(), slot).ok_or_else(short)
    }

    fn tree_failure(&self, cause: Cause, level: usize, index: u64, detail: &str) -> Box<Failure> {
        Box::new(Failure {
            cause,
            block: index,
            level: Some(level_number(level)),
            expected: None,
            found: None,
            detail: detail.to_owned(),
            excuse: None,
        })
    }
}

/// Whose turn it is to prove a tree block.
enum Turn {
    /// Somebody did.
    Proven(Verified<Bytes>),
    /// Ours, and others wait for it.
    Mine(Claim),
    /// Ours, for ourselves: somebody else failed, or takes too long.
    Alone,
}

/// A tree has at most eight levels.
fn level_number(level: usize) -> u8 {
    u8::try_from(level).unwrap_or(u8::MAX)
}
