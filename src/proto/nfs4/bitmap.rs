//! `bitmap4` of attributes, RFC 8881 section 3.3.7.

use crate::wire::{Reader, Writer, XdrError};

/// The most words that are decoded; far beyond the highest attribute there is.
const WORDS_MAX: u32 = 64;
/// Words that are kept.
const WORDS: usize = 4;

/// A set of attribute numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    bits: u128,
    /// A number behind the last one that is kept was set: no attribute known here.
    beyond: bool,
}

impl Bitmap {
    /// The set of `numbers`, each below 128.
    pub const fn of(numbers: &[u32]) -> Self {
        let (mut bits, mut rest) = (0, numbers);
        while let [first, tail @ ..] = rest {
            bits |= 1 << *first;
            rest = tail;
        }
        Self { bits, beyond: false }
    }

    /// Decodes a set.
    ///
    /// # Errors
    /// The bytes end early, or the set has more than 64 words.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, XdrError> {
        let mut set = Self::default();
        for at in 0..r.count(WORDS_MAX)? {
            let word = r.u32()?;
            match at {
                0..WORDS => set.bits |= u128::from(word) << (32 * at),
                _ => set.beyond |= word != 0,
            }
        }
        Ok(set)
    }

    /// Encodes the set, in no more words than it takes.
    pub fn encode(self, w: &mut Writer) {
        let words = (u128::BITS - self.bits.leading_zeros()).div_ceil(32);
        w.u32(words);
        for at in 0..words {
            w.u32(u32::try_from((self.bits >> (32 * at)) & 0xffff_ffff).unwrap_or(0));
        }
    }

    /// Whether `number` is in the set.
    pub const fn contains(self, number: u32) -> bool {
        number < u128::BITS && self.bits & (1 << number) != 0
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self { bits: self.bits & other.bits, beyond: self.beyond && other.beyond }
    }

    /// What is in either.
    pub const fn or(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, beyond: self.beyond || other.beyond }
    }

    /// What is in this one and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self { bits: self.bits & !other.bits, beyond: self.beyond && !other.beyond }
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.bits == 0 && !self.beyond
    }

    /// Whether it has anything in common with `other`.
    pub const fn intersects(self, other: Self) -> bool {
        self.bits & other.bits != 0
    }

    /// The numbers, in order.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        let mut bits = self.bits;
        std::iter::from_fn(move || {
            let number = (bits != 0).then(|| bits.trailing_zeros())?;
            bits &= bits - 1;
            Some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_words_of_the_rfc_and_no_more_than_needed() {
        let encoded = |set: Bitmap| {
            let mut w = Writer::default();
            set.encode(&mut w);
            w.to_vec()
        };
        assert_eq!(encoded(Bitmap::default()), [0, 0, 0, 0]);
        assert_eq!(encoded(Bitmap::of(&[0, 4])), [0, 0, 0, 1, 0, 0, 0, 0x11]);
        let three = encoded(Bitmap::of(&[1, 33, 82]));
        assert_eq!(three, [0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 4, 0, 0]);
        let set = Bitmap::decode(&mut Reader::new(&three)).unwrap();
        assert_eq!(set, Bitmap::of(&[1, 33, 82]));
        assert!(set.numbers().eq([1, 33, 82]));
        for n in 0..three.len() {
            assert!(Bitmap::decode(&mut Reader::new(&three[..n])).is_err(), "{n}");
        }
    }

    #[test]
    fn numbers_beyond_all_are_noticed_and_not_kept() {
        let words = |last: u32| {
            let mut w = Writer::default();
            w.u32(6).u32(1).u32(0).u32(0).u32(0).u32(0).u32(last);
            w.to_vec()
        };
        let far = Bitmap::decode(&mut Reader::new(&words(1))).unwrap();
        assert!(!far.without(Bitmap::of(&[0])).is_empty());
        assert_eq!(Bitmap::decode(&mut Reader::new(&words(0))).unwrap(), Bitmap::of(&[0]));
        assert!(Bitmap::decode(&mut Reader::new(&[0, 0, 0, 65])).is_err());
        assert!(!far.contains(200));
    }
}
