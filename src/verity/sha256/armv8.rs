//! Several messages at a time with the SHA-256 instructions of ARMv8, in streams side by side: each of them waits for
//! its own last step alone.

// Indices are those of streams and of rounds.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::aarch64::*;

use super::super::many::Messages;
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha256};

/// The states behind the messages, in their order.
pub(super) fn hash<const N: usize>(
    start: &[u32; 8],
    messages: Messages<'_, BLOCK>,
    end: &[u8; BLOCK],
) -> [[u32; 8]; N] {
    assert!(Sha256::is_available(Kernel::Sha4), "the plan is made for this processor");
    // SAFETY: the processor has what it needs, as was just looked at.
    unsafe { hash_streams(start, messages.in_lanes(), end) }
}

#[target_feature(enable = "neon,sha2")]
fn hash_streams<const N: usize>(
    start: &[u32; 8],
    messages: [&[[u8; BLOCK]]; N],
    end: &[u8; BLOCK],
) -> [[u32; 8]; N] {
    let [abcd, efgh] = [&start[..4], &start[4..]].map(|words| {
        // SAFETY: these are four words.
        unsafe { vld1q_u32(words.as_ptr()) }
    });
    let mut states = [(abcd, efgh); N];
    let mut left = messages.map(<[_]>::iter);
    'blocks: loop {
        let mut blocks = [end; N];
        for (block, left) in blocks.iter_mut().zip(&mut left) {
            let Some(next) = left.next() else { break 'blocks };
            *block = next;
        }
        compress(&mut states, &blocks);
    }
    compress(&mut states, &[end; N]);
    states.map(|(abcd, efgh)| {
        let mut words = [0; 8];
        // SAFETY: each half has the four words that are written to it.
        unsafe {
            vst1q_u32(words[..4].as_mut_ptr(), abcd);
            vst1q_u32(words[4..].as_mut_ptr(), efgh);
        }
        words
    })
}

/// Takes one block of each message into the states, of which each has its words A to D and E to H together.
#[inline]
#[target_feature(enable = "neon,sha2")]
fn compress<const N: usize>(states: &mut [(uint32x4_t, uint32x4_t); N], blocks: &[&[u8; BLOCK]; N]) {
    let before = *states;
    let mut words = [[vdupq_n_u32(0); 4]; N];
    for (i, constants) in ROUNDS.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: these are four words.
        let constants = unsafe { vld1q_u32(constants.as_ptr()) };
        for n in 0..N {
            let (w, (abcd, efgh)) = (&mut words[n], &mut states[n]);
            w[i % 4] = if i < 4 {
                // SAFETY: these are 16 bytes, and bytes need not be aligned.
                let four = unsafe { vld1q_u8(blocks[n].as_chunks::<16>().0[i].as_ptr()) };
                vreinterpretq_u32_u8(vrev32q_u8(four))
            } else {
                let older = vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]);
                vsha256su1q_u32(older, w[(i + 2) % 4], w[(i + 3) % 4])
            };
            let sum = vaddq_u32(w[i % 4], constants);
            (*abcd, *efgh) = (vsha256hq_u32(*abcd, *efgh, sum), vsha256h2q_u32(*efgh, *abcd, sum));
        }
    }
    for (state, before) in states.iter_mut().zip(before) {
        *state = (vaddq_u32(state.0, before.0), vaddq_u32(state.1, before.1));
    }
}
