//! Where the blocks of a Merkle tree are, by the file's size and the parameters alone.
//!
//! As `fsverity_init_merkle_tree_params()` in `fs/verity/open.c`: level 0 holds the hashes of the data blocks,
//! the level above the hashes of its blocks, and so on up to the root level of one block. In the stored tree
//! the root level stands first and level 0 last, each in file order. A file of at most one block has no tree.

use std::ops::{Range, RangeInclusive};

use super::{BlockSize, Digest, HashAlgorithm, VerityError};

/// The largest file in bytes: what a signed 64-bit offset can name.
pub const MAX_SIZE: u64 = i64::MAX as u64;
/// The most levels a tree may have (`FS_VERITY_MAX_LEVELS`).
pub const MAX_LEVELS: usize = 8;

/// Where one hash stands inside a level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The block of the level.
    pub block: u64,
    /// The first byte of the hash inside that block.
    pub offset: usize,
}

/// The shape of one file's Merkle tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    algorithm: HashAlgorithm,
    block_size: BlockSize,
    size: u64,
    levels: usize,
    // Of level i; zero from `levels` on.
    blocks: [u64; MAX_LEVELS],
    // The first block of level i in the stored tree.
    starts: [u64; MAX_LEVELS],
    tree_blocks: u64,
}

impl Geometry {
    /// The shape for a file of `size` bytes.
    ///
    /// # Errors
    /// [`VerityError::FileTooLarge`] above 2^63 - 1 bytes, [`VerityError::TooManyLevels`] above
    /// [`MAX_LEVELS`].
    pub fn new(algorithm: HashAlgorithm, block_size: BlockSize, size: u64) -> Result<Self, VerityError> {
        if size > MAX_SIZE {
            return Err(VerityError::FileTooLarge { size });
        }
        let mut this =
            Self { algorithm, block_size, size, levels: 0, blocks: [0; 8], starts: [0; 8], tree_blocks: 0 };
        let mut below = this.data_blocks();
        while below > 1 {
            let too_many = VerityError::TooManyLevels { size, algorithm, block_size: block_size.get() };
            below = below.div_ceil(this.arity());
            *this.blocks.get_mut(this.levels).ok_or(too_many)? = below;
            this.levels += 1;
        }
        for (start, blocks) in this.starts.iter_mut().zip(&this.blocks).take(this.levels).rev() {
            *start = this.tree_blocks;
            this.tree_blocks += blocks;
        }
        Ok(this)
    }

    /// The hash.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The size of data and tree blocks.
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The file's size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many blocks the file has; a short last one counts.
    pub const fn data_blocks(&self) -> u64 {
        // The sum stays below 2^64, for a size is below 2^63.
        (self.size + self.block_size.get() as u64 - 1) >> self.block_size.log2()
    }

    /// How many levels the tree has; none for a file of at most one block.
    pub const fn levels(&self) -> usize {
        self.levels
    }

    /// How many hashes a tree block holds.
    pub const fn arity(&self) -> u64 {
        (self.block_size.bytes() / self.algorithm.digest_size()) as u64
    }

    /// How many blocks the whole tree has.
    pub const fn tree_blocks(&self) -> u64 {
        self.tree_blocks
    }

    /// The tree's size in bytes.
    pub const fn tree_size(&self) -> u64 {
        self.tree_blocks << self.block_size.log2()
    }

    /// How many blocks `level` has; 0 when there is no such level. Level 0 hashes the data.
    pub fn level_blocks(&self, level: usize) -> u64 {
        self.blocks.get(level).copied().unwrap_or(0)
    }

    /// Where block `index` of `level` begins in the stored tree, in bytes; `None` when there is no such block.
    pub fn tree_block_offset(&self, level: usize, index: u64) -> Option<u64> {
        if index >= self.level_blocks(level) {
            return None;
        }
        self.starts.get(level).map(|start| (start + index) << self.block_size.log2())
    }

    /// The bytes of data block `index`: the block size, or fewer for the last one; `None` behind it.
    pub fn data_block_len(&self, index: u64) -> Option<usize> {
        if index >= self.data_blocks() {
            return None;
        }
        let left = self.size - (index << self.block_size.log2());
        Some(usize::try_from(left).map_or(self.block_size.bytes(), |left| left.min(self.block_size.bytes())))
    }

    /// The blocks of `level` above these data blocks, of which there is one at least.
    pub fn above(&self, level: usize, data_blocks: &RangeInclusive<u64>) -> RangeInclusive<u64> {
        (0..=level).fold(data_blocks.clone(), |below, level| {
            self.slot(level, *below.start()).block..=self.slot(level, *below.end()).block
        })
    }

    /// The data blocks below block `index` of `level`; those of the last one reach behind the file's end.
    pub fn data_blocks_below(&self, level: usize, index: u64) -> Range<u64> {
        let each = (0..=level).fold(1, |below: u64, _| below.saturating_mul(self.arity()));
        index.saturating_mul(each)..index.saturating_add(1).saturating_mul(each)
    }

    /// Where level 0 holds the hash of data block `index`.
    pub const fn leaf_slot(&self, index: u64) -> Slot {
        self.slot(0, index)
    }

    /// Where `level` holds the hash of block `index` of what is below it: the data for level 0, else the
    /// level below. All levels have one arity, so the answer is the same for each of them; it is meaningful
    /// for a block that exists.
    pub const fn slot(&self, _level: usize, index: u64) -> Slot {
        // The remainder is below 2048, the product below the block size.
        #[allow(clippy::cast_possible_truncation)]
        let within = (index % self.arity()) as usize;
        Slot { block: index / self.arity(), offset: within * self.algorithm.digest_size() }
    }

    /// The hash that stands at `slot` in `tree_block`; `None` when the bytes end before it does.
    pub fn digest_at(&self, tree_block: &[u8], slot: Slot) -> Option<Digest> {
        let end = slot.offset.checked_add(self.algorithm.digest_size())?;
        Digest::new(tree_block.get(slot.offset..end)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(algorithm: HashAlgorithm, block_size: u32, size: u64) -> Result<Geometry, VerityError> {
        Geometry::new(algorithm, BlockSize::new(block_size).unwrap(), size)
    }

    fn everything() -> impl Iterator<Item = (HashAlgorithm, u32)> {
        HashAlgorithm::ALL.into_iter().flat_map(|a| (10..=16).map(move |log| (a, 1 << log)))
    }

    #[test]
    fn a_level_is_added_exactly_behind_each_power_of_the_arity() {
        for (algorithm, block_size) in everything() {
            let arity = u64::from(block_size) / algorithm.digest_size() as u64;
            let mut full = u64::from(block_size);
            for levels in 0..=MAX_LEVELS {
                let g = geometry(algorithm, block_size, full).unwrap();
                assert_eq!(g.levels(), levels);
                assert_eq!(g.data_block_len(g.data_blocks() - 1), Some(block_size as usize));
                match geometry(algorithm, block_size, full + 1) {
                    Ok(g) => {
                        assert_eq!(g.levels(), levels + 1);
                        assert_eq!(g.level_blocks(levels), 1);
                        assert_eq!(g.data_block_len(g.data_blocks() - 1), Some(1));
                    }
                    Err(error) => {
                        assert_eq!(levels, MAX_LEVELS);
                        let size = full + 1;
                        assert_eq!(error, VerityError::TooManyLevels { size, algorithm, block_size });
                    }
                }
                match full.checked_mul(arity).filter(|size| *size < MAX_SIZE) {
                    Some(next) => full = next,
                    None => break,
                }
            }
        }
    }

    #[test]
    fn sizes_of_trees_are_those_of_the_kernel() {
        // (algorithm, block size, file size, levels, tree blocks)
        let sha256 = HashAlgorithm::Sha256;
        for (algorithm, block_size, size, levels, blocks) in [
            (sha256, 4096, 0, 0, 0),
            (sha256, 4096, 1, 0, 0),
            (sha256, 4096, 4096, 0, 0),
            (sha256, 4096, 4097, 1, 1),
            (sha256, 4096, 128 * 4096, 1, 1),
            (sha256, 4096, 128 * 4096 + 1, 2, 3),
            (sha256, 4096, (8 << 30) + 1, 4, 67_653_632 / 4096),
            (HashAlgorithm::Sha512, 4096, 64 * 4096 + 1, 2, 3),
        ] {
            let g = geometry(algorithm, block_size, size).unwrap();
            assert_eq!((g.levels(), g.tree_blocks()), (levels, blocks), "{size}");
            assert_eq!(g.tree_size(), blocks * u64::from(block_size));
        }
    }

    #[test]
    fn tree_blocks_lie_root_first_without_gap_or_overlap() {
        for (algorithm, block_size) in everything() {
            for size in [0, 1, 1024, 1025, 70_000, 1_000_003, 10_000_000] {
                let g = geometry(algorithm, block_size, size).unwrap();
                let mut expected = 0;
                for level in (0..g.levels()).rev() {
                    for index in 0..g.level_blocks(level) {
                        assert_eq!(g.tree_block_offset(level, index), Some(expected));
                        expected += u64::from(block_size);
                    }
                    assert_eq!(g.tree_block_offset(level, g.level_blocks(level)), None);
                }
                assert_eq!(g.tree_size(), expected);
                assert_eq!(g.tree_block_offset(g.levels(), 0), None);
                assert_eq!(g.tree_block_offset(usize::MAX, 0), None);
                assert_eq!(g.tree_block_offset(0, u64::MAX), None);
            }
        }
    }

    #[test]
    fn data_blocks_cover_the_file() {
        for (algorithm, block_size) in everything() {
            for size in [0, 1, 1023, 1024, 1025, 65_535, 65_536, 65_537, 1_000_003] {
                let g = geometry(algorithm, block_size, size).unwrap();
                let sum: usize = (0..g.data_blocks()).map(|i| g.data_block_len(i).unwrap()).sum();
                assert_eq!(sum as u64, size);
                assert_eq!(g.data_block_len(g.data_blocks()), None);
                assert_eq!(g.data_block_len(u64::MAX), None);
            }
        }
    }

    #[test]
    fn slots_fill_a_block_and_go_on_in_the_next() {
        for (algorithm, block_size) in everything() {
            let g = geometry(algorithm, block_size, 1 << 40).unwrap();
            let mut expected = Slot { block: 0, offset: 0 };
            for index in 0..5000 {
                assert_eq!(g.leaf_slot(index), expected);
                assert_eq!(g.slot(1, index), expected);
                expected.offset += algorithm.digest_size();
                if expected.offset == block_size as usize {
                    expected = Slot { block: expected.block + 1, offset: 0 };
                }
            }
        }
    }

    #[test]
    fn the_digest_at_a_slot_is_cut_from_the_block_and_never_from_behind_it() {
        let g = geometry(HashAlgorithm::Sha256, 1024, 1 << 20).unwrap();
        let block: Vec<u8> = (0..1024_u32).map(|i| (i / 32).to_le_bytes()[0]).collect();
        for index in 0..32_u8 {
            let slot = g.leaf_slot(u64::from(index));
            assert_eq!(g.digest_at(&block, slot), Digest::new(&[index; 32]));
            assert_eq!(g.digest_at(&block[..slot.offset + 31], slot), None);
        }
        assert_eq!(g.digest_at(&block, Slot { block: 0, offset: usize::MAX }), None);
    }

    #[test]
    fn sizes_beyond_a_signed_offset_are_refused() {
        for (algorithm, block_size) in everything() {
            for size in [MAX_SIZE + 1, u64::MAX] {
                assert_eq!(geometry(algorithm, block_size, size), Err(VerityError::FileTooLarge { size }));
            }
        }
        let g = geometry(HashAlgorithm::Sha256, 65536, MAX_SIZE).unwrap();
        assert_eq!(g.data_blocks(), 1 << 47);
        assert_eq!(g.data_block_len((1 << 47) - 1), Some(65535));
    }
}
