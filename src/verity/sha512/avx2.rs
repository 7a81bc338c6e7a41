//! 4 messages at a time with AVX2, a word of each in the lanes of a vector.

// Indices are constants.
#![allow(unsafe_code, clippy::indexing_slicing)]

use std::arch::x86_64::*;

use super::super::lanes::hash_in_lanes;
use super::super::many::{Messages, by_lane};
use super::{Algorithm, BLOCK, Kernel, ROUNDS, Sha512};

hash_in_lanes! {
    "avx2" if Sha512::is_available(Kernel::Avx2), vector: __m256i, word: u64, lanes: 4,
    words: words, splat: splat, rounds: ROUNDS, add: _mm256_add_epi64, choose: choose, majority: majority,
    large: (sigma::<28, 36, 34, 30, 39, 25>, sigma::<14, 50, 18, 46, 41, 23>),
    small: (shifted::<1, 63, 8, 56, 7>, shifted::<19, 45, 61, 3, 6>)
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
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
    const { assert!(R + L == 64) };
    _mm256_or_si256(_mm256_srli_epi64::<R>(a), _mm256_slli_epi64::<L>(a))
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
    xor(rotated::<I, IL>(w), rotated::<J, JL>(w), _mm256_srli_epi64::<K>(w))
}

/// The 16 words of each of 4 blocks, by lane.
#[inline]
#[target_feature(enable = "avx2")]
fn words(blocks: &[&[u8; BLOCK]; 4]) -> [__m256i; 16] {
    let [w0, w1, w2, w3] = quarter::<0>(blocks);
    let [w4, w5, w6, w7] = quarter::<1>(blocks);
    let [w8, w9, w10, w11] = quarter::<2>(blocks);
    let [w12, w13, w14, w15] = quarter::<3>(blocks);
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}

/// Four of them.
#[inline]
#[target_feature(enable = "avx2")]
fn quarter<const QUARTER: usize>(blocks: &[&[u8; BLOCK]; 4]) -> [__m256i; 4] {
    let swap = _mm256_setr_epi32(
        0x0405_0607,
        0x0001_0203,
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
        0x0c0d_0e0f,
        0x0809_0a0b,
    );
    macro_rules! row {
        ($lane:literal) => {{
            let bytes: &[u8; 32] = &blocks[$lane].as_chunks().0[QUARTER];
            // SAFETY: they are so many, and need not be aligned.
            let row = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            _mm256_shuffle_epi8(row, swap)
        }};
    }
    let (a, b, c, d) = (row!(0), row!(1), row!(2), row!(3));
    let (ab0, cd0) = (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d));
    let (ab1, cd1) = (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab0, cd0),
        _mm256_permute2x128_si256::<0x20>(ab1, cd1),
        _mm256_permute2x128_si256::<0x31>(ab0, cd0),
        _mm256_permute2x128_si256::<0x31>(ab1, cd1),
    ]
}
