//! The choices of the tests that tamper at random, and the changes to bytes that they share.

use nfs_verity::export::READ_MAX;
use sha2::{Digest as _, Sha256};

use super::support::{Random, content};

/// Chooses; the same for the same seed.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.below(limit.max(1) as u64)).unwrap()
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.below(n) == 0
    }

    pub fn pick<'b, T>(&mut self, from: &'b [T]) -> &'b T {
        &from[self.below(from.len())]
    }

    /// A range that is not empty unless `len` is 0; often it begins or ends at a border.
    pub fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let mut edge = || {
            let at = self.below(len + 1);
            let unit = [1, 1, 16, 512, 1024, 4096, 65_536][self.below(7)];
            at / unit * unit
        };
        let (a, b) = (edge(), edge());
        let range = a.min(b)..a.max(b);
        if range.is_empty() {
            range.start.min(len.saturating_sub(1))..(range.start + 1).min(len)
        } else {
            range
        }
    }

    /// Changes `bytes`, maybe with a part of `other`; says how.
    pub fn distort(&mut self, bytes: &mut Vec<u8>, other: &[u8]) -> String {
        let (range, from) = (self.range(bytes.len()), self.range(other.len()));
        let what = match self.below(9) {
            0 | 1 => {
                for _ in 0..1 + self.below(4) {
                    let (at, bit) = (self.below(bytes.len()), self.below(8));
                    bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
                }
                "flip bits"
            }
            2 => {
                bytes.truncate(range.start);
                "cut"
            }
            3 => {
                let more = 1 + self.below(5000);
                let filler = if self.one_in(2) { vec![0; more] } else { content(self.0.next(), more) };
                bytes.extend(filler);
                "extend"
            }
            4 => {
                bytes[range.clone()].fill(0);
                "zero"
            }
            5 => {
                let unit = *self.pick(&[512, 1024, 4096, 65_536]);
                let (a, b) = (self.below(bytes.len() / unit) * unit, self.below(bytes.len() / unit) * unit);
                if a.max(b) + unit <= bytes.len() {
                    (0..unit).for_each(|n| bytes.swap(a + n, b + n));
                }
                "swap blocks"
            }
            6 => {
                let at = if self.one_in(2) { from.start.min(bytes.len()) } else { range.start };
                let spliced = bytes[at..].iter_mut().zip(&other[from.clone()]);
                spliced.for_each(|(to, from)| *to = *from);
                "overwrite with a part of the other"
            }
            7 => {
                bytes.splice(range.clone(), other[from.clone()].iter().copied());
                "splice a part of the other in"
            }
            _ => {
                let at = self.below(512.min(bytes.len()));
                let bit = self.below(8);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
                reseal(bytes);
                "flip a bit of the head under a right checksum"
            }
        };
        format!("{what} {range:?}, {from:?}")
    }

    /// Where to read in a file of `size` bytes and behind it, and how much.
    pub fn reads(&mut self, size: usize) -> Vec<(u64, u32)> {
        let mut reads = Vec::new();
        for _ in 0..1 + self.below(3) {
            let unit = *self.pick(&[1, 1, 1024, 4096, 65_536]);
            let offset = self.below(size + 3000) / unit * unit;
            let count = match self.below(5) {
                0 => self.below(20),
                1 => unit,
                2 => self.below(10_000),
                3 => self.below(200_000),
                _ => usize::try_from(u32::MAX).unwrap(),
            };
            reads.push((offset as u64, u32::try_from(count).unwrap()));
        }
        if self.one_in(3) {
            reads.extend((0..=size as u64).step_by(READ_MAX as usize).map(|offset| (offset, READ_MAX)));
        }
        reads
    }
}

/// What was done, printed when the test fails.
#[derive(Default)]
pub struct Told(pub Vec<String>);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after these changes: {:#?}", self.0);
        }
    }
}

/// Makes the checksum of a bundle's head right, where there is one.
pub fn reseal(bundle: &mut [u8]) {
    let Some(&[a, b, c, d]) = bundle.get(12..16) else { return };
    let end = u32::from_le_bytes([a, b, c, d]) as usize;
    if let Some(body) = end.checked_sub(32).filter(|_| end <= bundle.len()) {
        let checksum = Sha256::digest(&bundle[..body]);
        bundle[body..end].copy_from_slice(&checksum);
    }
}
