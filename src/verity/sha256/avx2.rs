//! 8 messages at a time with AVX2, a word of each in the lanes of a vector.

// Indices are constants.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::x86_64::*;

use super::super::lanes::hash_in_lanes;
use super::super::many::{Messages, by_lane};
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha256};

hash_in_lanes! {
    "avx2" if Sha256::is_available(Kernel::Avx2), vector: __m256i, word: u32, lanes: 8,
    words: words, splat: splat, rounds: ROUNDS, add: _mm256_add_epi32, choose: choose, majority: majority,
    large: (sigma::<2, 30, 13, 19, 22, 10>, sigma::<6, 26, 11, 21, 25, 7>),
    small: (shifted::<7, 25, 18, 14, 3>, shifted::<17, 15, 19, 13, 10>)
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(e: __m256i, f: __m256i, g: __m256i) -> __m256i {
    _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(b, _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(b, c)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

/// Rotated by `R` to the right, which is by `L` to the left.
#[inline]
#[target_feature(enable = "avx2")]
fn rotated<const R: i32, const L: i32>(a: __m256i) -> __m256i {
    const { assert!(R + L == 32) };
    _mm256_or_si256(_mm256_srli_epi32::<R>(a), _mm256_slli_epi32::<L>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sigma<const I: i32, const IL: i32, const J: i32, const JL: i32, const K: i32, const KL: i32>(
    a: __m256i,
) -> __m256i {
    xor(rotated::<I, IL>(a), rotated::<J, JL>(a), rotated::<K, KL>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn shifted<const I: i32, const IL: i32, const J: i32, const JL: i32, const K: i32>(w: __m256i) -> __m256i {
    xor(rotated::<I, IL>(w), rotated::<J, JL>(w), _mm256_srli_epi32::<K>(w))
}

/// The 16 words of each of 8 blocks, by lane.
#[inline]
#[target_feature(enable = "avx2")]
fn words(blocks: &[&[u8; BLOCK]; 8]) -> [__m256i; 16] {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = half::<0>(blocks);
    let [w8, w9, w10, w11, w12, w13, w14, w15] = half::<1>(blocks);
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}

/// The first or the last 8 of them.
#[inline]
#[target_feature(enable = "avx2")]
fn half<const HALF: usize>(blocks: &[&[u8; BLOCK]; 8]) -> [__m256i; 8] {
    let swap = _mm256_setr_epi32(
        0x0001_0203,
        0x0405_0607,
        0x0809_0a0b,
        0x0c0d_0e0f,
        0x0001_0203,
        0x0405_0607,
        0x0809_0a0b,
        0x0c0d_0e0f,
    );
    macro_rules! row {
        ($lane:literal) => {{
            let bytes: &[u8; 32] = &blocks[$lane].as_chunks().0[HALF];
            // SAFETY: they are so many, and need not be aligned.
            let row = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            _mm256_shuffle_epi8(row, swap)
        }};
    }
    // Within each half of the rows, four words of four blocks.
    macro_rules! four {
        ($a:literal $b:literal $c:literal $d:literal) => {{
            let (a, b, c, d) = (row!($a), row!($b), row!($c), row!($d));
            let (ab01, cd01) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab23, cd23) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab01, cd01),
                _mm256_unpackhi_epi64(ab01, cd01),
                _mm256_unpacklo_epi64(ab23, cd23),
                _mm256_unpackhi_epi64(ab23, cd23),
            ]
        }};
    }
    let rows = [four!(0 1 2 3), four!(4 5 6 7)];
    macro_rules! halves {
        ($order:literal) => {
            [
                _mm256_permute2x128_si256::<$order>(rows[0][0], rows[1][0]),
                _mm256_permute2x128_si256::<$order>(rows[0][1], rows[1][1]),
                _mm256_permute2x128_si256::<$order>(rows[0][2], rows[1][2]),
                _mm256_permute2x128_si256::<$order>(rows[0][3], rows[1][3]),
            ]
        };
    }
    let ([w0, w1, w2, w3], [w4, w5, w6, w7]) = (halves!(0x20), halves!(0x31));
    [w0, w1, w2, w3, w4, w5, w6, w7]
}
