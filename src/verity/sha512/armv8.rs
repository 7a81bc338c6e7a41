//! Two messages at a time with the SHA-512 instructions of ARMv8.2, in streams side by side: each of them waits for its
//! own last step alone.

// Indices are those of streams and of rounds.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::aarch64::*;

use super::super::many::Messages;
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha512};

/// Messages at a time. The state and the words of one more would not fit into the registers.
pub(super) const STREAMS: usize = 2;

/// The words of a state, two by two, from A and B on.
type State = [uint64x2_t; 4];

/// The states behind the messages, in their order.
pub(super) fn hash(
    start: &[u64; 8],
    messages: Messages<'_, BLOCK>,
    end: &[u8; BLOCK],
) -> [[u64; 8]; STREAMS] {
    assert!(Sha512::is_available(Kernel::Sha2), "the plan is made for this processor");
    // SAFETY: the processor has what it needs, as was just looked at.
    unsafe { hash_streams(start, messages.in_lanes(), end) }
}

#[target_feature(enable = "neon,sha3")]
fn hash_streams(
    start: &[u64; 8],
    messages: [&[[u8; BLOCK]]; STREAMS],
    end: &[u8; BLOCK],
) -> [[u64; 8]; STREAMS] {
    // SAFETY: both are as long, and all bytes are words.
    let start = unsafe { std::mem::transmute::<[u64; 8], State>(*start) };
    let mut states = [start; STREAMS];
    let mut left = messages.map(<[_]>::iter);
    'blocks: loop {
        let mut blocks = [end; STREAMS];
        for (block, left) in blocks.iter_mut().zip(&mut left) {
            let Some(next) = left.next() else { break 'blocks };
            *block = next;
        }
        compress(&mut states, &blocks);
    }
    compress(&mut states, &[end; STREAMS]);
    // SAFETY: as above.
    states.map(|state| unsafe { std::mem::transmute::<State, [u64; 8]>(state) })
}

/// Takes one block of each message into the states.
#[inline]
#[target_feature(enable = "neon,sha3")]
fn compress(states: &mut [State; STREAMS], blocks: &[&[u8; BLOCK]; STREAMS]) {
    let before = *states;
    let mut words = [[vdupq_n_u64(0); 8]; STREAMS];
    for (i, constants) in ROUNDS.as_chunks::<2>().0.iter().enumerate() {
        // SAFETY: these are two words.
        let constants = unsafe { vld1q_u64(constants.as_ptr()) };
        for n in 0..STREAMS {
            let (w, state) = (&mut words[n], &mut states[n]);
            w[i % 8] = if i < 8 {
                // SAFETY: these are 16 bytes, and bytes need not be aligned.
                let two = unsafe { vld1q_u8(blocks[n].as_chunks::<16>().0[i].as_ptr()) };
                vreinterpretq_u64_u8(vrev64q_u8(two))
            } else {
                let middle = vextq_u64::<1>(w[(i + 4) % 8], w[(i + 5) % 8]);
                vsha512su1q_u64(vsha512su0q_u64(w[i % 8], w[(i + 1) % 8]), w[(i + 7) % 8], middle)
            };
            let [ab, cd, ef, gh] = *state;
            let sum = vaddq_u64(w[i % 8], constants);
            let sum = vaddq_u64(vextq_u64::<1>(sum, sum), gh);
            let step = vsha512hq_u64(sum, vextq_u64::<1>(ef, gh), vextq_u64::<1>(cd, ef));
            *state = [vsha512h2q_u64(step, cd, ab), ab, vaddq_u64(cd, step), ef];
        }
    }
    for (state, before) in states.iter_mut().zip(before) {
        for (words, before) in state.iter_mut().zip(before) {
            *words = vaddq_u64(*words, before);
        }
    }
}
