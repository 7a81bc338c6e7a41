//! SHA-2 of many messages of one length at a time, behind a common start.
//!
//! A processor that hashes one message waits most of the time for the step before. Kernels hash several side by
//! side: one in each lane of a vector, or each in a stream of its own. Which ones there are is found out at run time,
//! and makes no difference but in speed.

use ring::digest::Context;

use super::Digest;

/// A hash function whose blocks have `BLOCK` bytes, and its kernels.
pub(super) trait Algorithm<const BLOCK: usize> {
    /// Eight words.
    type State: Copy + PartialEq;
    /// A way to hash several messages at once.
    type Kernel: Copy + 'static;
    /// The state before the first block.
    const INITIAL: Self::State;
    /// With kernels that some processors have, the fastest first.
    const PLANS: &'static [Plan<Self::Kernel>];
    /// The function in the library that hashes one message at a time.
    const ALONE: &'static ring::digest::Algorithm;

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
}

/// Which kernel is used for how many messages at least: the first that fits. Fewer are hashed one at a time.
pub(super) struct Plan<K: 'static> {
    /// For people.
    pub(super) name: &'static str,
    pub(super) kernels: &'static [(K, usize)],
}

/// The most messages that a kernel hashes at once.
const MOST: usize = 16;

/// Messages of one length, wherever they lie.
#[derive(Clone, Copy)]
pub(super) struct Messages<'a, const BLOCK: usize>(&'a [&'a [[u8; BLOCK]]]);

impl<'a, const BLOCK: usize> Messages<'a, BLOCK> {
    /// How many there are.
    pub(super) fn count(self) -> usize {
        self.0.len()
    }

    /// One for each of `N` lanes: where there are fewer, the last one again. All have the same length.
    pub(super) fn in_lanes<const N: usize>(self) -> [&'a [[u8; BLOCK]]; N] {
        let mut last = self.0.first().copied().unwrap_or_default();
        std::array::from_fn(|lane| {
            last = self.0.get(lane).copied().unwrap_or(last);
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
    /// The same in the library.
    alone: Context,
    plan: &'static Plan<A::Kernel>,
}

impl<A: Algorithm<BLOCK>, const BLOCK: usize> Clone for Hasher<A, BLOCK> {
    fn clone(&self) -> Self {
        Self { alone: self.alone.clone(), ..*self }
    }
}

impl<A: Algorithm<BLOCK>, const BLOCK: usize> Hasher<A, BLOCK> {
    const PLAIN: &'static Plan<A::Kernel> = &Plan { name: "one at a time", kernels: &[] };

    /// The fastest one of this processor, for messages that begin with `start`.
    pub(super) fn new(start: &[[u8; BLOCK]]) -> Self {
        let is_worth = |plan: &&Plan<A::Kernel>| plan.kernels.iter().all(|(kernel, _)| A::is_worth(*kernel));
        let plan = plans::<A, BLOCK>().find(is_worth).unwrap_or(Self::PLAIN);
        Self::with_plan(start, plan)
    }

    /// One for each plan that this processor has the kernels for.
    pub(super) fn variants(start: &[[u8; BLOCK]]) -> impl Iterator<Item = Self> {
        plans::<A, BLOCK>().chain([Self::PLAIN]).map(|plan| Self::with_plan(start, plan))
    }

    fn with_plan(start: &[[u8; BLOCK]], plan: &'static Plan<A::Kernel>) -> Self {
        let mut state = A::INITIAL;
        A::compress(&mut state, start);
        let mut alone = Context::new(A::ALONE);
        alone.update(start.as_flattened());
        Self { start: (state, start.as_flattened().len()), alone, plan }
    }

    /// Whether messages begin with the same bytes as those of `other`.
    pub(super) fn starts_like(&self, other: &Self) -> bool {
        self.start == other.start
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

    /// The digest of `message` with zeros behind it, up to `length` bytes in all.
    pub(super) fn one(&self, message: &[u8], length: usize) -> Digest {
        let mut hash = self.alone.clone();
        hash.update(message);
        let mut left = length.saturating_sub(message.len());
        while left > 0 {
            let zeros = [0; 256];
            let zeros = zeros.get(..left).unwrap_or(&zeros);
            hash.update(zeros);
            left -= zeros.len();
        }
        Digest::of(&hash.finish())
    }

    /// The digests of the messages of `length` bytes each, a multiple of a block, that `data` is made of, in order.
    /// The last one may be short, and is hashed as if zeros filled it.
    pub(super) fn many(&self, data: &[u8], length: usize, mut each: impl FnMut(Digest)) {
        let whole = data.as_chunks().0.chunks_exact(length / BLOCK);
        let short = data.get(whole.len() * length..).unwrap_or_default();
        self.whole(whole, length, &mut each);
        if !short.is_empty() {
            each(self.one(short, length));
        }
    }

    /// The digests of messages of `length` bytes each, in order.
    pub(super) fn whole<'a>(
        &self,
        mut messages: impl ExactSizeIterator<Item = &'a [[u8; BLOCK]]>,
        length: usize,
        mut each: impl FnMut(Digest),
    ) {
        let end = self.end(length);
        let kernel = |left| self.plan.kernels.iter().find(|(_, least)| *least <= left);
        while let Some((kernel, _)) = kernel(messages.len()) {
            let mut now: [&[[u8; BLOCK]]; MOST] = [&[]; MOST];
            let count = A::lanes(*kernel).min(messages.len());
            let now = now.get_mut(..count).unwrap_or_default();
            now.iter_mut().zip(&mut messages).for_each(|(to, message)| *to = message);
            A::hash(*kernel, &self.start.0, Messages(now), &end, &mut each);
        }
        messages.for_each(|message| each(self.one(message.as_flattened(), length)));
    }
}

/// The states of `N` messages, of words that are by lane.
#[cfg(target_arch = "x86_64")]
pub(super) fn by_lane<W: Copy + Default, const N: usize>(words: [[W; N]; 8]) -> [[W; 8]; N] {
    std::array::from_fn(|lane| words.map(|word| word.get(lane).copied().unwrap_or_default()))
}
