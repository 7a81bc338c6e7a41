//! What is signed at the start of a segment: how many records there were before, and what the registers
//! held. Lines of text, so that any program can read them.

use std::fmt::Write as _;

use super::bank::{Bank, Banks};
use super::list::{Records, Summary};

/// The first line: what this is, and its version.
const HEAD: &str = "nfs-verity measurement list 1";
/// The longest statement in bytes.
pub(super) const START_MAX: u64 = 1024;
/// The longest signature of a statement in bytes.
pub(super) const SIGNATURE_MAX: u64 = 1 << 20;

/// Signs the [`Start`] of a segment: its bytes in, the signature out, in whatever form the caller verifies.
pub type Signing =
    Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;
/// Whether the second is a signature of the first that [`Signing`] made.
pub type Verifying = Box<dyn Fn(&[u8], &[u8]) -> bool + Send + Sync>;

/// The key of a log: what signs where its segments begin, and what knows the signature again.
pub struct Seal {
    /// Signs.
    pub sign: Signing,
    /// Verifies what was signed before.
    pub verify: Verifying,
}

/// The state of the list where a segment starts.
///
/// ```text
/// nfs-verity measurement list 1
/// segment 2
/// records 1234
/// sha1 HEX
/// sha256 HEX
/// sha384 HEX
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The number of the segment; the first is 1.
    pub segment: u64,
    /// How many records there are in the segments before.
    pub records: u64,
    /// What the register of each bank holds before the segment's first record.
    pub banks: Banks,
}

/// What is no statement of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not the start of a segment of a measurement list, version 1")]
pub struct NotAStart;

impl Start {
    /// The start of the first segment.
    pub const FIRST: Self = Self { segment: 1, records: 0, banks: Banks::ZERO };

    /// Whether `list`, which begins at `before`, comes to this one somewhere. Only the list of the segment before
    /// does, and it need not end there: this one may be of an attempt to close the segment that came to nothing.
    pub(super) fn is_reached(&self, before: &Self, list: &[u8]) -> bool {
        let mut summary = Summary::empty(&before.banks);
        let mut right = Records::new(list).map_while(|record| {
            let record = record.ok()?;
            Some((record, record.true_digests()?))
        });
        right.any(|(record, digests)| {
            summary.add(&record, &digests);
            (before.records + summary.records, summary.end) == (self.records, self.banks)
        })
    }

    /// The statement: what is signed.
    pub fn encode(&self) -> String {
        let mut text = format!("{HEAD}\nsegment {}\nrecords {}\n", self.segment, self.records);
        for bank in Bank::ALL {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{bank} {}", hex::encode(self.banks.get(bank)));
        }
        text
    }

    /// Reads a statement, in the one spelling that [`Self::encode`] has.
    pub fn parse(text: &[u8]) -> Result<Self, NotAStart> {
        let text = str::from_utf8(text).map_err(|_| NotAStart)?;
        let mut lines = text.lines().skip(1);
        let mut value = |key: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.strip_prefix(' ')).ok_or(NotAStart)
        };
        let number = |text: &str| text.parse().map_err(|_| NotAStart);
        let (segment, records) = (number(value("segment")?)?, number(value("records")?)?);
        let mut banks = Banks::ZERO;
        let Banks { sha1, sha256, sha384 } = &mut banks;
        for (bank, place) in Bank::ALL.into_iter().zip([&mut sha1[..], &mut sha256[..], &mut sha384[..]]) {
            hex::decode_to_slice(value(bank.name())?, place).map_err(|_| NotAStart)?;
        }
        Some(Self { segment, records, banks }).filter(|start| start.encode() == text).ok_or(NotAStart)
    }
}
