//! Several messages at a time with the processor's SHA instructions, in streams side by side: each of them waits for
//! its own last step alone.

// Indices are those of streams and of rounds.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::x86_64::*;

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

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn hash_streams<const N: usize>(
    start: &[u32; 8],
    messages: [&[[u8; BLOCK]]; N],
    end: &[u8; BLOCK],
) -> [[u32; 8]; N] {
    let [a, b, c, d, e, f, g, h] = start.map(u32::cast_signed);
    let mut states = [(_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)); N];
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
    states.map(|(abef, cdgh)| {
        // SAFETY: all are 16 bytes, and all bytes are words.
        let [[f, e, b, a], [h, g, d, c]] =
            unsafe { std::mem::transmute::<[__m128i; 2], [[u32; 4]; 2]>([abef, cdgh]) };
        [a, b, c, d, e, f, g, h]
    })
}

/// Takes one block of each message into the states, of which each has its words A, B, E, F and C, D, G, H together.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress<const N: usize>(states: &mut [(__m128i, __m128i); N], blocks: &[&[u8; BLOCK]; N]) {
    let swap = _mm_setr_epi32(0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f);
    let before = *states;
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for (i, constants) in ROUNDS.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: these are 16 bytes, and they need not be aligned.
        let constants = unsafe { _mm_loadu_si128(constants.as_ptr().cast()) };
        for n in 0..N {
            let (w, (abef, cdgh)) = (&mut words[n], &mut states[n]);
            w[i % 4] = if i < 4 {
                // SAFETY: as above.
                let four = unsafe { _mm_loadu_si128(blocks[n].as_chunks::<16>().0[i].as_ptr().cast()) };
                _mm_shuffle_epi8(four, swap)
            } else {
                let older = _mm_alignr_epi8::<4>(w[(i + 3) % 4], w[(i + 2) % 4]);
                let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]), older);
                _mm_sha256msg2_epu32(sum, w[(i + 3) % 4])
            };
            let sum = _mm_add_epi32(w[i % 4], constants);
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32::<0b1110>(sum));
        }
    }
    for (state, before) in states.iter_mut().zip(before) {
        *state = (_mm_add_epi32(state.0, before.0), _mm_add_epi32(state.1, before.1));
    }
}
