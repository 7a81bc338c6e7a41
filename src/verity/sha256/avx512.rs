//! 16 messages at a time with AVX-512, a word of each in the lanes of a vector.

// Indices are constants.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::x86_64::*;

use super::super::lanes::hash_in_lanes;
use super::super::many::{Messages, by_lane};
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha256};

hash_in_lanes! {
    "avx512f,avx512bw" if Sha256::is_available(Kernel::Avx512), vector: __m512i, word: u32, lanes: 16,
    words: words, splat: splat, rounds: ROUNDS, add: _mm512_add_epi32, choose: choose, majority: majority,
    large: (sigma::<2, 13, 22>, sigma::<6, 11, 25>),
    small: (shifted::<7, 18, 3>, shifted::<17, 19, 10>)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(e: __m512i, f: __m512i, g: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(e, f, g)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_1000>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sigma<const I: i32, const J: i32, const K: i32>(a: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<I>(a), _mm512_ror_epi32::<J>(a), _mm512_ror_epi32::<K>(a))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shifted<const I: i32, const J: i32, const K: u32>(w: __m512i) -> __m512i {
    xor(_mm512_ror_epi32::<I>(w), _mm512_ror_epi32::<J>(w), _mm512_srli_epi32::<K>(w))
}

/// The 16 words of each of 16 blocks, by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(blocks: &[&[u8; BLOCK]; 16]) -> [__m512i; 16] {
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    macro_rules! row {
        ($lane:literal) => {{
            // SAFETY: it has 64 bytes, and they need not be aligned.
            let row = unsafe { _mm512_loadu_si512(blocks[$lane].as_ptr().cast()) };
            _mm512_shuffle_epi8(row, swap)
        }};
    }
    // Within each quarter of the rows, four words of four blocks.
    macro_rules! four {
        ($a:literal $b:literal $c:literal $d:literal) => {{
            let (a, b, c, d) = (row!($a), row!($b), row!($c), row!($d));
            let (ab01, cd01) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab23, cd23) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab01, cd01),
                _mm512_unpackhi_epi64(ab01, cd01),
                _mm512_unpacklo_epi64(ab23, cd23),
                _mm512_unpackhi_epi64(ab23, cd23),
            ]
        }};
    }
    let rows = [four!(0 1 2 3), four!(4 5 6 7), four!(8 9 10 11), four!(12 13 14 15)];
    // Then the quarters of four of these.
    macro_rules! quarters {
        ($i:literal) => {{
            let (a, b, c, d) = (rows[0][$i], rows[1][$i], rows[2][$i], rows[3][$i]);
            let (ab02, ab13) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (cd02, cd13) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            [
                _mm512_shuffle_i32x4::<0x88>(ab02, cd02),
                _mm512_shuffle_i32x4::<0x88>(ab13, cd13),
                _mm512_shuffle_i32x4::<0xdd>(ab02, cd02),
                _mm512_shuffle_i32x4::<0xdd>(ab13, cd13),
            ]
        }};
    }
    let ([w0, w4, w8, w12], [w1, w5, w9, w13]) = (quarters!(0), quarters!(1));
    let ([w2, w6, w10, w14], [w3, w7, w11, w15]) = (quarters!(2), quarters!(3));
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}
