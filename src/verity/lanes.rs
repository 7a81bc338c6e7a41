//! SHA-2 on vectors with one message in each lane, the same for all widths.

/// Defines `hash`, which gives the states behind as many messages as there are lanes, from the operations of FIPS
/// 180-4 on vectors: the constants of the rounds, `choose` and `majority` of bits, and the large and small sigmas; and
/// from `words`, which gives the 16 words of a block of each message, by lane.
macro_rules! hash_in_lanes {
    (
        $features:literal if $available:expr, vector: $vector:ty, word: $word:ty, lanes: $lanes:literal,
        words: $words:path, splat: $splat:path, $($operations:tt)*
    ) => {
        /// The states behind the messages, in their order.
        pub(super) fn hash(
            start: &[$word; 8],
            messages: Messages<'_, BLOCK>,
            end: &[u8; BLOCK],
        ) -> [[$word; 8]; $lanes] {
            assert!($available, "the plan is made for this processor");
            // SAFETY: the processor has what it needs, as was just looked at.
            unsafe { hash_lanes(start, messages.in_lanes(), end) }
        }

        #[target_feature(enable = $features)]
        fn hash_lanes(
            start: &[$word; 8],
            messages: [&[[u8; BLOCK]]; $lanes],
            end: &[u8; BLOCK],
        ) -> [[$word; 8]; $lanes] {
            let [a, b, c, d, e, f, g, h] = *start;
            let mut state = [
                $splat(a), $splat(b), $splat(c), $splat(d), $splat(e), $splat(f), $splat(g), $splat(h),
            ];
            let mut left = messages.map(<[_]>::iter);
            'blocks: loop {
                let mut blocks = [end; $lanes];
                for (block, left) in blocks.iter_mut().zip(&mut left) {
                    let Some(next) = left.next() else { break 'blocks };
                    *block = next;
                }
                compress(&mut state, $words(&blocks));
            }
            compress(&mut state, $words(&[end; $lanes]));
            // SAFETY: both are as long, and all bytes are words.
            by_lane(unsafe { std::mem::transmute::<[$vector; 8], [[$word; $lanes]; 8]>(state) })
        }

        $crate::verity::lanes::compress! {
            [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] $features, $vector, splat: $splat, $($operations)*
        }
    };
}

/// Defines `compress`, with the places of a turn of 16 rounds written out, so that all stays in registers.
macro_rules! compress {
    (
        [$($t:literal)*]
        $features:literal, $vector:ty, splat: $splat:path, rounds: $constants:expr, add: $add:path,
        choose: $choose:path, majority: $majority:path,
        large: ($large0:path, $large1:path), small: ($small0:path, $small1:path)
    ) => {
        /// Takes one block of each message, as words by lane, into the states.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress(state: &mut [$vector; 8], mut w: [$vector; 16]) {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
            macro_rules! round {
                ($word:expr, $constant:expr) => {
                    let t1 = $add($add($add(h, $add($word, $splat($constant))), $choose(e, f, g)), $large1(e));
                    let t2 = $add($large0(a), $majority(a, b, c));
                    (h, g, f, e, d, c, b, a) = (g, f, e, $add(d, t1), c, b, a, $add(t1, t2));
                };
            }
            let [first, rest @ ..] = $constants.as_chunks::<16>().0 else { return };
            $( round!(w[$t], first[$t]); )*
            for constants in rest {
                $(
                    let older = $add($add(w[$t], w[($t + 9) % 16]), $small0(w[($t + 1) % 16]));
                    w[$t] = $add(older, $small1(w[($t + 14) % 16]));
                    round!(w[$t], constants[$t]);
                )*
            }
            let [a0, b0, c0, d0, e0, f0, g0, h0] = *state;
            *state = [
                $add(a0, a), $add(b0, b), $add(c0, c), $add(d0, d),
                $add(e0, e), $add(f0, f), $add(g0, g), $add(h0, h),
            ];
        }
    };
}

pub(super) use {compress, hash_in_lanes};
