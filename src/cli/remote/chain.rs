//! From a descriptor's root hash over tree blocks to the hashes of data blocks, as GETPROOF gives them.

use std::ops::Range;

use crate::event::Cause;
use crate::proto::sideband::{GETPROOF1resok, tree_block};
use crate::sign::Rejection;
use crate::verity::{BlockHasher, Descriptor, Digest, Geometry, VerityError};

/// What a proof comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaves {
    /// Bytes that are covered from the asked offset on.
    pub(super) covered: u64,
    /// The data blocks that they are in.
    pub(super) blocks: Range<u64>,
    /// The hash of each.
    pub(super) digests: Vec<Digest>,
}

/// One file's tree, as its descriptor has it.
pub(super) struct Chain {
    descriptor: Descriptor,
    geometry: Geometry,
    hasher: BlockHasher,
}

fn refuse<T>(cause: Cause, detail: String) -> Result<T, Rejection> {
    Err(Rejection { cause, detail })
}

impl Chain {
    pub(super) fn new(descriptor: Descriptor) -> Result<Self, VerityError> {
        let (geometry, hasher) = (descriptor.geometry()?, BlockHasher::new(&descriptor.params));
        Ok(Self { descriptor, geometry, hasher })
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(super) fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// Checks a proof of `length` bytes from `offset`. It has exactly the tree blocks that lead from the
    /// root to the data blocks, and each has the hash that stands in the one above.
    pub(super) fn check(
        &self,
        offset: u64,
        length: u64,
        proof: &GETPROOF1resok,
    ) -> Result<Leaves, Rejection> {
        let size = self.geometry.size();
        let wanted = offset.saturating_add(length).min(size).saturating_sub(offset);
        let covered = proof.covered;
        if covered > wanted || (covered == 0 && wanted > 0) {
            let detail = format!("the proof is said to cover {covered} of {wanted} bytes");
            return refuse(Cause::MalformedEvidence, detail);
        }
        let block_size = u64::from(self.geometry.block_size().get());
        let end = offset + covered;
        if covered < wanted && !end.is_multiple_of(block_size) {
            // A byte at a time would keep its client for ever.
            let detail = format!("the proof is said to end at byte {end}, within a block");
            return refuse(Cause::MalformedEvidence, detail);
        }
        let blocks = match covered {
            0 => 0..0,
            _ => offset / block_size..end.div_ceil(block_size),
        };
        let mut digests = vec![self.descriptor.root_hash];
        // What is known of a level are the hashes of the blocks from here on.
        let mut first = 0;
        let mut given = proof.blocks.iter();
        let levels = if blocks.is_empty() { 0 } else { self.geometry.levels() };
        for level in (0..levels).rev() {
            let above = self.above(level, &blocks);
            let mut below = Vec::new();
            let next = self.above_below(level, &blocks);
            for index in above {
                let expected = index.checked_sub(first).and_then(|nth| usize::try_from(nth).ok());
                let expected = expected.and_then(|nth| digests.get(nth));
                let block = given.next();
                let bytes = self.block(level, index, block, expected)?;
                for child in self.children(index, &next) {
                    match self.geometry.digest_at(bytes, self.geometry.slot(level, child)) {
                        Some(digest) => below.push(digest),
                        None => return refuse(Cause::BadTreeBlock, "the tree block is short".to_owned()),
                    }
                }
            }
            (digests, first) = (below, next.start);
        }
        let surplus = given.count();
        if surplus > 0 {
            let detail = format!("the proof has {surplus} tree blocks more than it needs");
            return refuse(Cause::MalformedEvidence, detail);
        }
        if blocks.is_empty() {
            digests.clear();
        }
        Ok(Leaves { covered, blocks, digests })
    }

    /// The blocks of `level` above some data blocks.
    fn above(&self, level: usize, data_blocks: &Range<u64>) -> Range<u64> {
        let above = self.geometry.above(level, &(data_blocks.start..=data_blocks.end.saturating_sub(1)));
        *above.start()..above.end() + 1
    }

    /// The blocks of the level below `level` above some data blocks; they themselves below level 0.
    fn above_below(&self, level: usize, data_blocks: &Range<u64>) -> Range<u64> {
        match level.checked_sub(1) {
            Some(below) => self.above(below, data_blocks),
            None => data_blocks.clone(),
        }
    }

    /// Those of `wanted` whose hashes stand in block `index` of the level above.
    fn children(&self, index: u64, wanted: &Range<u64>) -> Range<u64> {
        let arity = self.geometry.arity();
        let start = index.saturating_mul(arity);
        start.max(wanted.start)..start.saturating_add(arity).min(wanted.end)
    }

    /// The bytes of a tree block that is the expected one.
    fn block<'a>(
        &self,
        level: usize,
        index: u64,
        given: Option<&'a tree_block>,
        expected: Option<&Digest>,
    ) -> Result<&'a [u8], Rejection> {
        let place = format!("block {index} of tree level {level}");
        let Some(block) = given else {
            return refuse(Cause::MalformedEvidence, format!("the proof lacks {place}"));
        };
        if usize::try_from(block.level) != Ok(level) || block.index != index {
            let detail =
                format!("the proof has block {} of tree level {} for {place}", block.index, block.level);
            return refuse(Cause::MalformedEvidence, detail);
        }
        if block.bytes.len() != self.geometry.block_size().bytes() {
            let detail = format!("{place} has {} bytes", block.bytes.len());
            return refuse(Cause::MalformedEvidence, detail);
        }
        let found = self.hasher.hash(&block.bytes).ok();
        match (found, expected) {
            (Some(found), Some(expected)) if found == *expected => Ok(&block.bytes),
            _ => refuse(
                Cause::BadTreeBlock,
                format!("{place} does not have the hash that the tree has for it"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::{BlockSize, HashAlgorithm, Params, Salt, reference};

    struct Case {
        chain: Chain,
        data: Vec<u8>,
        tree: Vec<u8>,
    }

    fn case(algorithm: HashAlgorithm, size: usize, salt: &[u8]) -> Case {
        let params =
            Params { algorithm, block_size: BlockSize::new(1024).unwrap(), salt: Salt::new(salt).unwrap() };
        let data: Vec<u8> = (0..size).map(|n| (n / 7 % 256).to_le_bytes()[0]).collect();
        let (root_hash, tree) = reference::root_and_tree(&data, &params);
        let chain = Chain::new(Descriptor { params, size: size as u64, root_hash }).unwrap();
        Case { chain, data, tree }
    }

    impl Case {
        /// The proof of a range, from the tree of the reference implementation.
        fn proof(&self, offset: u64, covered: u64) -> GETPROOF1resok {
            let mut blocks = Vec::new();
            if covered > 0 {
                let data_blocks = offset / 1024..(offset + covered).div_ceil(1024);
                for level in (0..self.chain.geometry.levels()).rev() {
                    for index in self.chain.above(level, &data_blocks) {
                        let at = self.chain.geometry.tree_block_offset(level, index).unwrap();
                        let at = usize::try_from(at).unwrap();
                        let (level, bytes) =
                            (u32::try_from(level).unwrap(), self.tree[at..at + 1024].to_vec());
                        blocks.push(tree_block { level, index, bytes });
                    }
                }
            }
            GETPROOF1resok { descriptor: self.chain.descriptor.encode().to_vec(), covered, blocks }
        }
    }

    #[test]
    fn right_proofs_lead_to_the_hashes_of_the_data() {
        for (algorithm, salt) in [(HashAlgorithm::Sha256, &b""[..]), (HashAlgorithm::Sha512, b"salt")] {
            for size in [0, 1, 1024, 1025, 40_000, 1_200_000] {
                let case = case(algorithm, size, salt);
                let size = size as u64;
                for (offset, length) in [
                    (0, 1),
                    (0, size),
                    (size / 2, 5000),
                    (size.saturating_sub(1), 9),
                    (size, 3),
                    (1023, 2),
                    (0, 0),
                ] {
                    let covered = (offset + length).min(size).saturating_sub(offset);
                    let leaves = case.chain.check(offset, length, &case.proof(offset, covered)).unwrap();
                    assert_eq!(leaves.covered, covered);
                    let expected: Vec<Digest> = case
                        .data
                        .chunks(1024)
                        .enumerate()
                        .filter(|(n, _)| leaves.blocks.contains(&(*n as u64)))
                        .map(|(_, block)| case.chain.hasher.hash(block).unwrap())
                        .collect();
                    assert_eq!(leaves.digests, expected, "{size} {offset} {length}");
                    assert_eq!(leaves.digests.len() as u64, leaves.blocks.end - leaves.blocks.start);
                    assert!(covered == 0 || leaves.blocks.start * 1024 <= offset);
                    assert!(covered == 0 || leaves.blocks.end * 1024 >= offset + covered);
                }
            }
        }
    }

    #[test]
    fn every_changed_bit_missing_swapped_or_surplus_block_is_refused() {
        let case = case(HashAlgorithm::Sha256, 1_200_000, b"");
        let (offset, length) = (30 * 1024, 70_000);
        let good = case.proof(offset, length);
        assert!(good.blocks.len() > 4);
        let check = |proof: &GETPROOF1resok| case.chain.check(offset, length, proof);
        assert!(check(&good).is_ok());
        for at in 0..good.blocks.len() {
            for byte in [0, 31, 512, 1023] {
                let mut bad = good.clone();
                bad.blocks[at].bytes[byte] ^= 1;
                assert_eq!(check(&bad).unwrap_err().cause, Cause::BadTreeBlock, "{at} {byte}");
            }
            let mut bad = good.clone();
            bad.blocks.remove(at);
            assert!(check(&bad).is_err(), "without {at}");
            let mut bad = good.clone();
            bad.blocks.insert(at, bad.blocks[at].clone());
            assert!(check(&bad).is_err(), "twice {at}");
            for (level, index) in [(1, 0), (0, 1), (u32::MAX, 0), (0, u64::MAX)] {
                let mut bad = good.clone();
                let block = &mut bad.blocks[at];
                (block.level, block.index) =
                    (block.level.wrapping_add(level), block.index.wrapping_add(index));
                assert_eq!(check(&bad).unwrap_err().cause, Cause::MalformedEvidence, "{at}");
            }
            let mut bad = good.clone();
            bad.blocks[at].bytes.pop();
            assert_eq!(check(&bad).unwrap_err().cause, Cause::MalformedEvidence);
            let other = (at + 1) % good.blocks.len();
            let mut bad = good.clone();
            let bytes = bad.blocks[other].bytes.clone();
            bad.blocks[at].bytes = bytes;
            assert!(check(&bad).is_err(), "{other} as {at}");
        }
        let mut bad = good.clone();
        bad.blocks.clear();
        assert!(check(&bad).is_err());
    }

    #[test]
    fn claims_about_the_range_that_cannot_be_are_refused() {
        let case = case(HashAlgorithm::Sha256, 100_000, b"");
        for (offset, length, covered) in [
            (0, 10, 11),
            (0, 10, 0),
            (0, 10, u64::MAX),
            (99_999, u64::MAX, 2),
            (100_000, 5, 1),
            (u64::MAX, 5, 5),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let proof = GETPROOF1resok { covered, ..case.proof(0, 10) };
            let refused = case.chain.check(offset, length, &proof);
            assert_eq!(refused.unwrap_err().cause, Cause::MalformedEvidence, "{offset} {length} {covered}");
        }
        // A proof of another range of the same file.
        assert!(case.chain.check(50_000, 10, &case.proof(0, 10)).is_err());
    }
}
