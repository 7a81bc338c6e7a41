//! SHA-2 of many messages of one length at a time, behind a common start.
//!
//! A processor that hashes one message waits most of the time for the step before. Kernels hash several side by
//! side: one in each lane of a vector, or each in a stream of its own. Which ones there are is found out at run time,
//! and makes no difference but in speed.

use super::Digest;

/// A hash function whose blocks have `BLOCK` bytes, and its kernels.
pub(super) trait Algorithm<const BLOCK: usize> {
    /// Eight words.
    type State: Copy;
    /// A way to hash several messages at once.
    type Kernel: Copy + 'static;
    /// The state before the first block.
    const INITIAL: Self::State;
    /// With kernels that some processors have, the fastest first.
    const PLANS: &'static [Plan<Self::Kernel>];
    /// With one message at a time, for all processors.
    const PLAIN: Plan<Self::Kernel>;

    /// Whether the processor has what the kernel needs.
    fn is_available(kernel: Self::Kernel) -> bool;

    /// Whether the processor is at its best with the kernel, which is available.
    fn is_worth(kernel: Self::Kernel) -> bool;

    /// So many messages it hashes at once. Fewer take the same time.
    fn lanes(kernel: Self::Kernel) -> usize;

    /// Hashes the `messages` of `length` blocks each, as many as the available `kernel` has lanes at most, from `start`
    /// on and each with `end` behind it, and gives the digests in order.
    fn hash(
        kernel: Self::Kernel,
        start: &Self::State,
        messages: Messages<'_, BLOCK>,
        end: &[u8; BLOCK],
        each: impl FnMut(Digest),
    );

    /// Takes blocks of one message into its state.
    fn compress(state: &mut Self::State, blocks: &[[u8; BLOCK]]);

    /// The digest that a state is.
    fn digest(state: Self::State) -> Digest;
}

/// Which kernel is used for how many messages at least: the first that fits. The last one does with one.
pub(super) struct Plan<K: 'static> {
    /// For people.
    pub(super) name: &'static str,
    pub(super) kernels: &'static [(K, usize)],
}

/// Messages of one length, behind one another.
#[derive(Clone, Copy)]
pub(super) struct Messages<'a, const BLOCK: usize> {
    pub(super) blocks: &'a [[u8; BLOCK]],
    /// Blocks of each.
    pub(super) length: usize,
}

impl<'a, const BLOCK: usize> Messages<'a, BLOCK> {
    /// How many there are, of which each is whole.
    pub(super) fn count(self) -> usize {
        self.blocks.len().checked_div(self.length).unwrap_or(0)
    }

    /// The first `count` of them, or all, and those behind.
    fn split(self, count: usize) -> (Self, Self) {
        let (now, later) = self.blocks.split_at(self.length * count.min(self.count()));
        (Self { blocks: now, ..self }, Self { blocks: later, ..self })
    }

    /// One for each of `N` lanes: where there are fewer, the last one again. All have the same length.
    pub(super) fn in_lanes<const N: usize>(self) -> [&'a [[u8; BLOCK]]; N] {
        let mut last = self.blocks.get(..self.length).unwrap_or_default();
        std::array::from_fn(|lane| {
            last = self.blocks.get(lane * self.length..(lane + 1) * self.length).unwrap_or(last);
            last
        })
    }
}

/// Those that this processor has all kernels for.
fn plans<A: Algorithm<BLOCK>, const BLOCK: usize>() -> impl Iterator<Item = &'static Plan<A::Kernel>> {
    A::PLANS.iter().filter(|plan| plan.kernels.iter().all(|(kernel, _)| A::is_available(*kernel)))
}

/// Hashes messages that all begin with the same bytes.
pub(super) struct Hasher<A: Algorithm<BLOCK>, const BLOCK: usize> {
    /// The state behind the common start, and its length in bytes.
    start: (A::State, usize),
    plan: &'static Plan<A::Kernel>,
}

impl<A: Algorithm<BLOCK>, const BLOCK: usize> Clone for Hasher<A, BLOCK> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<A: Algorithm<BLOCK>, const BLOCK: usize> Hasher<A, BLOCK> {
    /// The fastest one of this processor, for messages that begin with `start`.
    pub(super) fn new(start: &[[u8; BLOCK]]) -> Self {
        let is_worth = |plan: &&Plan<A::Kernel>| plan.kernels.iter().all(|(kernel, _)| A::is_worth(*kernel));
        let plan = plans::<A, BLOCK>().find(is_worth).unwrap_or(&A::PLAIN);
        Self::with_plan(start, plan)
    }

    /// One for each plan that this processor has the kernels for.
    pub(super) fn variants(start: &[[u8; BLOCK]]) -> impl Iterator<Item = Self> {
        plans::<A, BLOCK>().chain([&A::PLAIN]).map(|plan| Self::with_plan(start, plan))
    }

    fn with_plan(start: &[[u8; BLOCK]], plan: &'static Plan<A::Kernel>) -> Self {
        let mut state = A::INITIAL;
        A::compress(&mut state, start);
        Self { start: (state, start.as_flattened().len()), plan }
    }

    /// The name of its plan.
    pub(super) fn name(&self) -> &'static str {
        self.plan.name
    }

    /// The block behind messages of `length` bytes: the end mark, and the length in bits.
    fn end(&self, length: usize) -> [u8; BLOCK] {
        let mut end = [0; BLOCK];
        end[0] = 0x80;
        if let Some(place) = end.last_chunk_mut() {
            *place = ((self.start.1 + length) as u64 * 8).to_be_bytes();
        }
        end
    }

    /// The digest of `message` with zeros behind it, up to `length` bytes in all: a multiple of a block.
    pub(super) fn one(&self, message: &[u8], length: usize) -> Digest {
        let mut state = self.start.0;
        let (whole, rest) = message.as_chunks();
        A::compress(&mut state, whole);
        let left = (length / BLOCK).saturating_sub(whole.len());
        let mut block = [0; BLOCK];
        block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for _ in 0..left {
            A::compress(&mut state, &[block]);
            block = [0; BLOCK];
        }
        A::compress(&mut state, &[self.end(length)]);
        A::digest(state)
    }

    /// The digests of the messages of `length` bytes each, a multiple of a block, that `data` is made of, in order.
    /// The last one may be short, and is hashed as if zeros filled it.
    pub(super) fn many(&self, data: &[u8], length: usize, mut each: impl FnMut(Digest)) {
        let mut left = Messages { blocks: data.as_chunks().0, length: length / BLOCK };
        let short = data.get(left.count() * length..).unwrap_or_default();
        let end = self.end(length);
        while let Some((kernel, _)) = self.plan.kernels.iter().find(|(_, least)| *least <= left.count()) {
            let (now, later) = left.split(A::lanes(*kernel));
            A::hash(*kernel, &self.start.0, now, &end, &mut each);
            left = later;
        }
        if !short.is_empty() {
            each(self.one(short, length));
        }
    }
}

/// The states of `N` messages, of words that are by lane.
#[cfg(target_arch = "x86_64")]
pub(super) fn by_lane<W: Copy + Default, const N: usize>(words: [[W; N]; 8]) -> [[W; 8]; N] {
    std::array::from_fn(|lane| words.map(|word| word.get(lane).copied().unwrap_or_default()))
}
