//! 8 messages at a time with AVX-512, a word of each in the lanes of a vector.

// Indices are constants.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::x86_64::*;

use super::super::lanes::hash_in_lanes;
use super::super::many::{Messages, by_lane};
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha512};

hash_in_lanes! {
    "avx512f,avx512bw" if Sha512::is_available(Kernel::Avx512), vector: __m512i, word: u64, lanes: 8,
    words: words, splat: splat, rounds: ROUNDS, add: _mm512_add_epi64, choose: choose, majority: majority,
    large: (sigma::<28, 34, 39>, sigma::<14, 18, 41>),
    small: (shifted::<1, 8, 7>, shifted::<19, 61, 6>)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(e: __m512i, f: __m512i, g: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0b1100_1010>(e, f, g)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0b1110_1000>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0b1001_0110>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sigma<const I: i32, const J: i32, const K: i32>(a: __m512i) -> __m512i {
    xor(_mm512_ror_epi64::<I>(a), _mm512_ror_epi64::<J>(a), _mm512_ror_epi64::<K>(a))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shifted<const I: i32, const J: i32, const K: u32>(w: __m512i) -> __m512i {
    xor(_mm512_ror_epi64::<I>(w), _mm512_ror_epi64::<J>(w), _mm512_srli_epi64::<K>(w))
}

/// The 16 words of each of 8 blocks, by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(blocks: &[&[u8; BLOCK]; 8]) -> [__m512i; 16] {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = half::<0>(blocks);
    let [w8, w9, w10, w11, w12, w13, w14, w15] = half::<1>(blocks);
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}

/// The first or the last 8 of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn half<const HALF: usize>(blocks: &[&[u8; BLOCK]; 8]) -> [__m512i; 8] {
    let swap = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
    macro_rules! row {
        ($lane:literal) => {{
            let bytes: &[u8; 64] = &blocks[$lane].as_chunks().0[HALF];
            // SAFETY: they are so many, and need not be aligned.
            let row = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            _mm512_shuffle_epi8(row, swap)
        }};
    }
    // Within each quarter of the rows, two words of two blocks.
    macro_rules! two {
        ($a:literal $b:literal) => {{
            let (a, b) = (row!($a), row!($b));
            [_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)]
        }};
    }
    let rows = [two!(0 1), two!(2 3), two!(4 5), two!(6 7)];
    // Then the quarters of four of these.
    macro_rules! quarters {
        ($i:literal) => {{
            let (a, b, c, d) = (rows[0][$i], rows[1][$i], rows[2][$i], rows[3][$i]);
            let (ab02, ab13) = (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b));
            let (cd02, cd13) = (_mm512_shuffle_i64x2::<0x88>(c, d), _mm512_shuffle_i64x2::<0xdd>(c, d));
            [
                _mm512_shuffle_i64x2::<0x88>(ab02, cd02),
                _mm512_shuffle_i64x2::<0x88>(ab13, cd13),
                _mm512_shuffle_i64x2::<0xdd>(ab02, cd02),
                _mm512_shuffle_i64x2::<0xdd>(ab13, cd13),
            ]
        }};
    }
    let ([w0, w2, w4, w6], [w1, w3, w5, w7]) = (quarters!(0), quarters!(1));
    [w0, w1, w2, w3, w4, w5, w6, w7]
}
