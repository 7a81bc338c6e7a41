//! A file's Merkle tree in one pass over its data, in memory that does not grow with the file.
//!
//! Each level keeps the one block it is filling. A full block goes to the caller's sink, its hash into the level
//! above. Holes are not hashed block by block: a block of zeros has one hash, a tree block full of that hash
//! has one hash, and so on up.

use super::{BlockHasher, Digest, Geometry, Leaves, Params, VerityError};

/// The block of a level that is being filled.
#[derive(Debug)]
struct Level {
    buffer: Vec<u8>,
    /// The block's index in its level.
    index: u64,
    /// How many of the hashes in `buffer` are those of blocks with nothing but zeros of data below them.
    holes: usize,
    /// The hash of a block of this level that is full of such hashes, once it was needed.
    hole: Option<Digest>,
}

/// Makes the Merkle tree of a file whose size is known, from its bytes in order.
///
/// Every call takes a sink that is given each tree block once, whole, with its offset in the stored tree; the
/// blocks of one level come in order, the levels interleave, and the root's block comes last but stands at
/// offset 0. The sink's error type takes a [`VerityError`] too, and its errors come back unchanged. After a
/// failed [`update`](Self::update) or [`zeros`](Self::zeros) the builder is of no more use, and says so; a call
/// with too much data is refused as a whole and changes nothing.
///
/// ```
/// # use nfs_verity::verity::{Descriptor, Params, TreeBuilder, VerityError};
/// # fn main() -> Result<(), VerityError> {
/// let (params, data) = (Params::default(), [7; 5000]);
/// let mut tree = vec![0; 4096];
/// let mut sink = |offset: u64, block: &[u8]| {
///     assert_eq!(offset, 0);
///     tree.copy_from_slice(block);
///     Ok::<_, VerityError>(())
/// };
/// let mut builder = TreeBuilder::new(params, 5000)?;
/// builder.update(&data, &mut sink)?;
/// let root_hash = builder.finish(&mut sink)?;
/// println!("{}", Descriptor { params, size: 5000, root_hash }.file_digest());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TreeBuilder {
    params: Params,
    geometry: Geometry,
    hasher: BlockHasher,
    given: u64,
    /// The beginning of a data block; shorter than a block between calls.
    partial: Vec<u8>,
    levels: Vec<Level>,
    /// The hash of a data block of zeros, once it was needed.
    hole: Option<Digest>,
    root: Option<Digest>,
    broken: bool,
}

impl TreeBuilder {
    /// A builder for a file of `size` bytes.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn new(params: Params, size: u64) -> Result<Self, VerityError> {
        let geometry = Geometry::new(params.algorithm, params.block_size, size)?;
        let level = || Level { buffer: Vec::new(), index: 0, holes: 0, hole: None };
        Ok(Self {
            params,
            geometry,
            hasher: BlockHasher::new(&params),
            given: 0,
            partial: Vec::new(),
            levels: std::iter::repeat_with(level).take(geometry.levels()).collect(),
            hole: None,
            root: None,
            broken: false,
        })
    }

    /// The parameters.
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// The shape of the tree that is being made.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What hashes its blocks.
    pub const fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// How many of the file's bytes came so far, holes included.
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// Takes the next bytes of the file, any number of them.
    ///
    /// # Errors
    /// [`VerityError::TooMuchData`], [`VerityError::Broken`], and what the sink says.
    pub fn update<E, S>(&mut self, data: &[u8], sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.admit(data.len() as u64)?;
        self.broken = true;
        self.take(data, sink)?;
        self.broken = false;
        Ok(())
    }

    /// Takes the next bytes of the file by the hashes of their blocks, which were made elsewhere: several parts of
    /// a file may be hashed at the same time. What came before must end with a block, and so must they, but at
    /// the end of the file.
    ///
    /// # Errors
    /// [`VerityError::Misplaced`], and as [`update`](Self::update).
    pub fn hashed<E, S>(&mut self, leaves: &Leaves, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.admit(leaves.length)?;
        self.broken = true;
        let block_size = u64::from(self.params.block_size.get());
        let is_whole = leaves.length.is_multiple_of(block_size) || self.given == self.geometry.size();
        if !is_whole || !self.partial.is_empty() {
            return Err(VerityError::Misplaced.into());
        }
        for hash in &leaves.hashes {
            self.leaf(*hash, sink)?;
        }
        self.broken = false;
        Ok(())
    }

    /// Takes `count` zeros as the next bytes of the file, without hashing each block of them.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn zeros<E, S>(&mut self, count: u64, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.admit(count)?;
        self.broken = true;
        self.take_zeros(count, sink)?;
        self.broken = false;
        Ok(())
    }

    /// Hands the last blocks to the sink and returns the root hash: zeros for an empty file.
    ///
    /// # Errors
    /// [`VerityError::TooLittleData`], [`VerityError::Broken`], and what the sink says.
    pub fn finish<E, S>(mut self, sink: &mut S) -> Result<Digest, E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.admit(0)?;
        let (size, given) = (self.geometry.size(), self.given);
        if given < size {
            return Err(VerityError::TooLittleData { size, given }.into());
        }
        if size == 0 {
            return Ok(Digest::zero(self.params.algorithm));
        }
        if !self.partial.is_empty() {
            self.complete_partial(sink)?;
        }
        for level in 0..self.levels.len() {
            if self.levels.get(level).is_some_and(|l| !l.buffer.is_empty()) {
                self.rise(level, sink)?;
            }
        }
        self.root.ok_or_else(|| VerityError::TooLittleData { size, given }.into())
    }

    /// Counts `length` more bytes, unless there may not be so many.
    fn admit(&mut self, length: u64) -> Result<(), VerityError> {
        if self.broken {
            return Err(VerityError::Broken);
        }
        let size = self.geometry.size();
        self.given = self
            .given
            .checked_add(length)
            .filter(|given| *given <= size)
            .ok_or(VerityError::TooMuchData { size })?;
        Ok(())
    }

    fn take<E, S>(&mut self, data: &[u8], sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let block_size = self.params.block_size.bytes();
        let mut rest = data;
        if !self.partial.is_empty() {
            let wanted = block_size.saturating_sub(self.partial.len());
            let (head, tail) = rest.split_at_checked(wanted).unwrap_or((rest, &[]));
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < block_size {
                return Ok(());
            }
            self.complete_partial(sink)?;
        }
        while rest.len() >= block_size {
            let blocks = (rest.len() / block_size).min(self.room());
            // Both are at least 1, so this goes on.
            let (batch, tail) = rest.split_at_checked(blocks * block_size).unwrap_or((rest, &[]));
            rest = tail;
            let Some(leaves) = self.levels.first_mut() else {
                self.root = Some(self.hasher.hash(batch)?);
                continue;
            };
            self.hasher.hash_many(batch, |_, hash| leaves.buffer.extend_from_slice(hash.as_bytes()));
            self.rise_if_full(sink)?;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn take_zeros<E, S>(&mut self, count: u64, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let block_size = self.params.block_size.bytes();
        let mut count = count;
        if !self.partial.is_empty() {
            let length = self.partial.len();
            let wanted = block_size.saturating_sub(length);
            let head = usize::try_from(count).map_or(wanted, |count| count.min(wanted));
            self.partial.resize(length + head, 0);
            count -= head as u64;
            if self.partial.len() < block_size {
                return Ok(());
            }
            self.complete_partial(sink)?;
        }
        let mut blocks = count >> self.params.block_size.log2();
        if blocks > 0 {
            let hole = match self.hole {
                Some(hole) => hole,
                None => *self.hole.insert(self.hasher.hash(&[])?),
            };
            while blocks > 0 {
                let room = self.room();
                let run = usize::try_from(blocks).map_or(room, |blocks| blocks.min(room));
                let Some(leaves) = self.levels.first_mut() else {
                    self.root = Some(hole);
                    break;
                };
                (0..run).for_each(|_| leaves.buffer.extend_from_slice(hole.as_bytes()));
                leaves.holes += run;
                blocks -= run as u64;
                self.rise_if_full(sink)?;
            }
        }
        let tail = count & u64::from(self.params.block_size.get() - 1);
        // Below the block size.
        self.partial.resize(usize::try_from(tail).unwrap_or(0), 0);
        Ok(())
    }

    /// How many more hashes the leaf block takes; a file of one block has one and no leaf block.
    fn room(&self) -> usize {
        let left = |leaves: &Level| self.params.block_size.bytes().saturating_sub(leaves.buffer.len());
        self.levels.first().map_or(1, |leaves| left(leaves) / self.params.algorithm.digest_size())
    }

    /// Hashes the data block in `partial`, full or the file's short last one.
    fn complete_partial<E, S>(&mut self, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let hash = self.hasher.hash(&self.partial)?;
        self.partial.clear();
        self.leaf(hash, sink)
    }

    /// Takes the hash of the next data block.
    fn leaf<E, S>(&mut self, hash: Digest, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        match self.levels.first_mut() {
            Some(leaves) => leaves.buffer.extend_from_slice(hash.as_bytes()),
            None => self.root = Some(hash),
        }
        self.rise_if_full(sink)
    }

    fn rise_if_full<E, S>(&mut self, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        if self.is_full(0) { self.rise(0, sink) } else { Ok(()) }
    }

    fn is_full(&self, level: usize) -> bool {
        self.levels.get(level).is_some_and(|l| l.buffer.len() == self.params.block_size.bytes())
    }

    /// Completes the block of `level`, puts its hash into the level above, and goes on while that fills up.
    fn rise<E, S>(&mut self, level: usize, sink: &mut S) -> Result<(), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let mut at = level;
        loop {
            let (hash, is_hole) = self.complete(at, sink)?;
            at += 1;
            let Some(above) = self.levels.get_mut(at) else {
                self.root = Some(hash);
                return Ok(());
            };
            above.buffer.extend_from_slice(hash.as_bytes());
            above.holes += usize::from(is_hole);
            if !self.is_full(at) {
                return Ok(());
            }
        }
    }

    /// Pads the block of `level`, hands it to the sink, and begins the next; its hash, and whether there is
    /// nothing but whole blocks of zeros below it.
    fn complete<E, S>(&mut self, level: usize, sink: &mut S) -> Result<(Digest, bool), E>
    where
        E: From<VerityError>,
        S: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let too_much = VerityError::TooMuchData { size: self.geometry.size() };
        let block_size = self.params.block_size.bytes();
        let this = self.levels.get_mut(level).ok_or(too_much)?;
        let offset = self.geometry.tree_block_offset(level, this.index).ok_or(too_much)?;
        let is_hole = this.holes * self.params.algorithm.digest_size() == block_size;
        this.buffer.resize(block_size, 0);
        sink(offset, &this.buffer)?;
        let hash = match this.hole {
            Some(hash) if is_hole => hash,
            _ => self.hasher.hash(&this.buffer)?,
        };
        if is_hole {
            this.hole = Some(hash);
        }
        this.buffer.clear();
        this.holes = 0;
        this.index += 1;
        Ok((hash, is_hole))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;
    use crate::verity::{BlockSize, HashAlgorithm, Salt, reference};

    /// Keeps the tree and refuses a block that is misplaced or comes twice.
    struct Tree {
        bytes: Vec<u8>,
        seen: Vec<bool>,
        block_size: usize,
    }

    impl Tree {
        fn new(builder: &TreeBuilder) -> Self {
            let block_size = builder.params().block_size.bytes();
            let size = usize::try_from(builder.geometry().tree_size()).unwrap();
            Self { bytes: vec![0xee; size], seen: vec![false; size / block_size], block_size }
        }

        fn put(&mut self, offset: u64, block: &[u8]) -> Result<(), VerityError> {
            let offset = usize::try_from(offset).unwrap();
            assert_eq!((offset % self.block_size, block.len()), (0, self.block_size));
            assert!(!std::mem::replace(&mut self.seen[offset / self.block_size], true));
            self.bytes[offset..offset + block.len()].copy_from_slice(block);
            Ok(())
        }

        fn whole(self) -> Vec<u8> {
            assert!(self.seen.iter().all(|seen| *seen), "a tree block is missing");
            self.bytes
        }
    }

    #[derive(Clone, Debug)]
    enum Piece {
        Data(Vec<u8>),
        Zeros(usize),
    }

    fn build(params: Params, pieces: &[Piece]) -> (Digest, Vec<u8>) {
        let size: usize = pieces.iter().map(|piece| content(std::slice::from_ref(piece)).len()).sum();
        let mut builder = TreeBuilder::new(params, size as u64).unwrap();
        let mut tree = Tree::new(&builder);
        for piece in pieces {
            match piece {
                Piece::Data(data) => builder.update(data, &mut |o, b: &[u8]| tree.put(o, b)),
                Piece::Zeros(count) => builder.zeros(*count as u64, &mut |o, b: &[u8]| tree.put(o, b)),
            }
            .unwrap();
        }
        let root = builder.finish(&mut |o, b: &[u8]| tree.put(o, b)).unwrap();
        (root, tree.whole())
    }

    fn content(pieces: &[Piece]) -> Vec<u8> {
        let bytes = |piece: &Piece| match piece {
            Piece::Data(data) => data.clone(),
            Piece::Zeros(count) => vec![0; *count],
        };
        pieces.iter().flat_map(bytes).collect()
    }

    /// Bytes without a period, by a 64-bit generator (splitmix64).
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let word = |i: u64| {
            let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_le_bytes()
        };
        (0..).flat_map(word).take(length).collect()
    }

    fn any_params() -> impl Strategy<Value = Params> {
        // Small blocks make deep trees.
        let log = prop_oneof![6 => Just(10_u32), 2 => Just(12), 1 => 11..=16_u32];
        let algorithm = prop_oneof![Just(HashAlgorithm::Sha256), Just(HashAlgorithm::Sha512)];
        (algorithm, log, vec(any::<u8>(), 0..=32)).prop_map(|(algorithm, log, salt)| Params {
            algorithm,
            block_size: BlockSize::new(1 << log).unwrap(),
            salt: Salt::new(&salt).unwrap(),
        })
    }

    /// Lengths around the boundaries of blocks and of tree blocks, and any others.
    fn any_length() -> impl Strategy<Value = usize> {
        prop_oneof![
            3 => 0..5000_usize,
            1 => 0..100_000_usize,
            2 => (0..80_usize, 0..3_usize).prop_map(|(blocks, more)| (blocks * 1024 + more).saturating_sub(1)),
            1 => (0..20_usize, 0..3_usize).prop_map(|(n, more)| (n * 16 * 1024 + more).saturating_sub(1)),
        ]
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            (any::<u64>(), any_length()).prop_map(|(seed, length)| Piece::Data(noise(seed, length))),
            any_length().prop_map(Piece::Zeros),
            Just(Piece::Data(vec![0; 4096])),
        ]
    }

    fn config(cases: u32) -> Config {
        Config { cases, failure_persistence: None, ..Config::default() }
    }

    proptest! {
        #![proptest_config(config(300))]

        #[test]
        fn any_pieces_of_data_and_holes_give_the_reference_root_and_tree(
            params in any_params(),
            pieces in vec(any_piece(), 0..12),
        ) {
            prop_assert_eq!(build(params, &pieces), reference::root_and_tree(&content(&pieces), &params));
        }

        #[test]
        fn how_the_data_is_cut_makes_no_difference(
            params in any_params(),
            seed in any::<u64>(),
            cuts in vec(any_length(), 1..20),
        ) {
            let length = cuts.iter().sum::<usize>().min(300_000);
            let data = noise(seed, length);
            let mut rest = &data[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(Piece::Data(head.to_vec()));
                rest = tail;
            }
            pieces.push(Piece::Data(rest.to_vec()));
            prop_assert_eq!(build(params, &pieces), reference::root_and_tree(&data, &params));
        }
    }

    proptest! {
        #![proptest_config(config(30))]

        #[test]
        fn holes_as_large_as_whole_levels_give_the_reference_root_and_tree(
            algorithm in prop_oneof![Just(HashAlgorithm::Sha256), Just(HashAlgorithm::Sha512)],
            before in any_length(),
            hole in 0..6_000_000_usize,
            after in any_length(),
        ) {
            let params =
                Params { algorithm, block_size: BlockSize::new(1024).unwrap(), salt: Salt::default() };
            let pieces =
                [Piece::Data(noise(1, before)), Piece::Zeros(hole), Piece::Data(noise(2, after)), Piece::Zeros(hole / 3)];
            prop_assert_eq!(build(params, &pieces), reference::root_and_tree(&content(&pieces), &params));
        }
    }

    #[test]
    fn blocks_that_were_hashed_elsewhere_give_the_reference_root_and_tree() {
        for algorithm in HashAlgorithm::ALL {
            let salt = Salt::new(b"salt").unwrap();
            let params = Params { algorithm, block_size: BlockSize::new(1024).unwrap(), salt };
            for size in [1, 1023, 1024, 1025, 16 * 1024, 40 * 1024 + 7, 1_100_000] {
                let data = noise(8, size);
                let expected = reference::root_and_tree(&data, &params);
                for blocks in [1, 2, 15, 32, 33, 10_000] {
                    let mut builder = TreeBuilder::new(params, size as u64).unwrap();
                    let mut tree = Tree::new(&builder);
                    for (n, part) in data.chunks(blocks * 1024).enumerate() {
                        let sink = &mut |o, b: &[u8]| tree.put(o, b);
                        match n % 3 {
                            2 => builder.update(part, sink).unwrap(),
                            _ => builder.hashed(&builder.hasher().leaves(part), sink).unwrap(),
                        }
                    }
                    let root = builder.finish(&mut |o, b: &[u8]| tree.put(o, b)).unwrap();
                    assert_eq!((root, tree.whole()), expected, "{algorithm} {size} {blocks}");
                }
            }
        }
    }

    #[test]
    fn hashed_blocks_have_to_begin_and_end_where_blocks_do() {
        let (params, data) = (Params::default(), noise(9, 10_000));
        for (before, length, fits) in [
            (0, 4096, true),
            (0, 4095, false),
            (1, 4095, false),
            (4096, 5904, true),
            (4096, 5903, false),
            (4096, 0, true),
        ] {
            let mut builder = TreeBuilder::new(params, 10_000).unwrap();
            builder.update(&data[..before], &mut nowhere).unwrap();
            let leaves = builder.hasher().leaves(&data[before..before + length]);
            let taken = builder.hashed(&leaves, &mut nowhere);
            assert_eq!(taken, if fits { Ok(()) } else { Err(VerityError::Misplaced) }, "{before} {length}");
        }
        let mut builder = TreeBuilder::new(params, 4096).unwrap();
        let leaves = builder.hasher().leaves(&data[..4097]);
        assert_eq!(builder.hashed(&leaves, &mut nowhere), Err(VerityError::TooMuchData { size: 4096 }));
    }

    #[test]
    fn every_size_around_the_boundaries_of_levels_gives_the_reference_root_and_tree() {
        for algorithm in HashAlgorithm::ALL {
            let params = Params { algorithm, block_size: BlockSize::new(1024).unwrap(), ..Params::default() };
            let arity = 1024 / algorithm.digest_size();
            for blocks in [0, 1, 2, arity - 1, arity, arity + 1, 2 * arity, arity * arity] {
                for size in (blocks * 1024).saturating_sub(1)..=blocks * 1024 + 1 {
                    let data = noise(9, size);
                    let expected = reference::root_and_tree(&data, &params);
                    assert_eq!(build(params, &[Piece::Data(data)]), expected, "{algorithm} {size}");
                    let expected = reference::root_and_tree(&vec![0; size], &params);
                    assert_eq!(build(params, &[Piece::Zeros(size)]), expected, "{algorithm} {size} zeros");
                }
            }
        }
    }

    #[test]
    fn a_changed_bit_anywhere_changes_the_root() {
        for algorithm in HashAlgorithm::ALL {
            let params = Params { algorithm, block_size: BlockSize::new(1024).unwrap(), ..Params::default() };
            let mut data = noise(3, 17 * 1024 + 5);
            let root = build(params, &[Piece::Data(data.clone())]).0;
            // Every byte, each with another of its bits; and every bit of the first and last 40 bytes.
            let ends = (0..320).chain((data.len() - 40) * 8..data.len() * 8);
            for bit in (0..data.len()).map(|byte| byte * 8 + byte % 8).step_by(7).chain(ends) {
                data[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(build(params, &[Piece::Data(data.clone())]).0, root, "bit {bit}");
                data[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(build(params, &[Piece::Data(data)]).0, root);
        }
    }

    #[test]
    fn exchanged_blocks_change_the_root() {
        let params = Params { block_size: BlockSize::new(1024).unwrap(), ..Params::default() };
        let data = noise(4, 40 * 1024);
        let root = build(params, &[Piece::Data(data.clone())]).0;
        for block in 0..39 {
            let mut swapped = data.clone();
            let (left, right) = swapped.split_at_mut((block + 1) * 1024);
            left[block * 1024..].swap_with_slice(&mut right[..1024]);
            assert_ne!(build(params, &[Piece::Data(swapped)]).0, root);
        }
    }

    fn nowhere(_: u64, _: &[u8]) -> Result<(), VerityError> {
        Ok(())
    }

    #[test]
    fn more_data_than_announced_is_refused_and_changes_nothing() {
        for size in [0, 1, 4096, 4097, 600_000] {
            let data = noise(5, size);
            let mut builder = TreeBuilder::new(Params::default(), size as u64).unwrap();
            let error = VerityError::TooMuchData { size: size as u64 };
            assert_eq!(builder.update(&vec![0; size + 1], &mut nowhere), Err(error));
            assert_eq!(builder.zeros(size as u64 + 1, &mut nowhere), Err(error));
            builder.update(&data, &mut nowhere).unwrap();
            assert_eq!(builder.update(&[0], &mut nowhere), Err(error));
            assert_eq!(builder.zeros(1, &mut nowhere), Err(error));
            assert_eq!(builder.zeros(u64::MAX, &mut nowhere), Err(error));
            assert_eq!(builder.given(), size as u64);
            let root = builder.finish(&mut nowhere).unwrap();
            assert_eq!(root, reference::root_and_tree(&data, &Params::default()).0);
        }
    }

    #[test]
    fn less_data_than_announced_is_refused() {
        for size in [1, 4096, 4097, 600_000_u64] {
            for given in [0, 1, size / 2, size - 1] {
                if given == size {
                    continue;
                }
                let mut builder = TreeBuilder::new(Params::default(), size).unwrap();
                builder.zeros(given, &mut nowhere).unwrap();
                assert_eq!(builder.finish(&mut nowhere), Err(VerityError::TooLittleData { size, given }));
            }
        }
    }

    #[derive(Debug, PartialEq)]
    enum Failure {
        Verity(VerityError),
        Full,
    }

    impl From<VerityError> for Failure {
        fn from(error: VerityError) -> Self {
            Self::Verity(error)
        }
    }

    #[test]
    fn a_sink_that_fails_at_any_block_stops_the_builder_for_good() {
        let params = Params { block_size: BlockSize::new(1024).unwrap(), ..Params::default() };
        let data = noise(6, 100 * 1024);
        let blocks =
            Geometry::new(params.algorithm, params.block_size, data.len() as u64).unwrap().tree_blocks();
        for zeros in [false, true] {
            for fails_at in 0..blocks {
                let mut calls = 0;
                let mut sink = |_: u64, _: &[u8]| {
                    calls += 1;
                    if calls == fails_at + 1 { Err(Failure::Full) } else { Ok(()) }
                };
                let mut builder = TreeBuilder::new(params, data.len() as u64).unwrap();
                let result = if zeros {
                    builder.zeros(data.len() as u64, &mut sink)
                } else {
                    builder.update(&data, &mut sink)
                };
                let broken = Err(Failure::Verity(VerityError::Broken));
                match result {
                    Ok(()) => assert_eq!(builder.finish(&mut sink), Err(Failure::Full)),
                    Err(error) => {
                        assert_eq!(error, Failure::Full);
                        assert_eq!(builder.update(&[], &mut sink), broken);
                        assert_eq!(builder.finish(&mut sink), Err(Failure::Verity(VerityError::Broken)));
                    }
                }
            }
        }
    }

    #[test]
    fn buffers_stay_below_a_block_a_level_however_large_the_file() {
        let params = Params::default();
        let mut builder = TreeBuilder::new(params, 100 << 30).unwrap();
        let levels = builder.geometry().levels();
        let held = |b: &TreeBuilder| {
            b.partial.capacity() + b.levels.iter().map(|l| l.buffer.capacity()).sum::<usize>()
        };
        builder.update(&noise(7, 3_000_001), &mut nowhere).unwrap();
        builder.zeros((100 << 30) - 3_000_001, &mut nowhere).unwrap();
        // A vector may round its capacity up to twice what it holds.
        assert!(held(&builder) <= 2 * 4096 * (levels + 1), "{}", held(&builder));
        builder.finish(&mut nowhere).unwrap();
    }
}
