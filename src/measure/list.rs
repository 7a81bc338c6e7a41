//! Reads a binary list, and verifies it. Every length is held against its limit and against what is left
//! before it is used; nothing is copied.

use super::bank::{Banks, PCR};
use super::entry::line;
use super::fields::{DATA_MAX, FieldFault, Fields};
use super::template::Template;

/// Why a list is not right: where, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record}, at byte {offset}: {fault}")]
pub struct ListError {
    /// The number of the record; the first is 1.
    pub record: u64,
    /// Where the record begins in the list, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The list ends in it.
    #[error("the list ends here; it is cut")]
    Cut,
    /// It is for another register than [`PCR`].
    #[error("it extends register {0} and not {PCR}")]
    Register(u32),
    /// Its template is not one of [`Template::ALL`].
    #[error("its template is not known")]
    Template,
    /// Its data is longer than any that this program takes.
    #[error("{0} bytes of data are too many")]
    DataLength(u32),
    /// Its data is not in the format.
    #[error(transparent)]
    Fields(#[from] FieldFault),
    /// Its digest is not that of its data.
    #[error("its digest is not that of its data; it was altered")]
    Altered,
}

/// A record as it stands in the list. Its digest is believed only where [`Record::is_true`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number; the first is 1.
    pub number: u64,
    /// Where it begins in the list, in bytes.
    pub offset: u64,
    /// The layout.
    pub template: Template,
    /// The SHA-1 digest in the list; zeros in a violation.
    pub digest: [u8; 20],
    /// The data that the digest is of.
    pub data: &'a [u8],
    /// What it says.
    pub fields: Fields<'a>,
}

impl Record<'_> {
    /// Whether it is a violation. Its data stands under no digest at all.
    pub const fn is_violation(&self) -> bool {
        matches!(self.digest, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// What a register of each bank is extended with.
    pub fn digests(&self) -> Banks {
        if self.is_violation() { Banks::ONES } else { Banks::of(self.data) }
    }

    /// Whether the digest is that of the data. True of every violation.
    pub fn is_true(&self) -> bool {
        self.true_digests().is_some()
    }

    /// As [`Self::digests`], where the record [is true](Self::is_true).
    pub(super) fn true_digests(&self) -> Option<Banks> {
        let digests = self.digests();
        (self.is_violation() || digests.sha1 == self.digest).then_some(digests)
    }

    /// Its line in the ASCII list, with the newline.
    pub fn ascii(&self) -> Vec<u8> {
        line(self.template, &self.digest, &self.fields)
    }
}

/// The records of a list, in order. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    number: u64,
    offset: u64,
}

impl<'a> Records<'a> {
    /// Reads `list` from its start.
    pub const fn new(list: &'a [u8]) -> Self {
        Self { rest: list, number: 0, offset: 0 }
    }

    /// Where the next record begins, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (number, offset) = (self.number + 1, self.offset);
        match parse(self.rest) {
            Ok((template, digest, data, fields, rest)) => {
                self.number = number;
                self.offset += self.rest.len().abs_diff(rest.len()) as u64;
                self.rest = rest;
                Some(Ok(Record { number, offset, template, digest, data, fields }))
            }
            Err(fault) => {
                self.rest = &[];
                Some(Err(ListError { record: number, offset, fault }))
            }
        }
    }
}

type Parsed<'a> = (Template, [u8; 20], &'a [u8], Fields<'a>, &'a [u8]);

/// The record at the start of `list`, and what is behind it.
fn parse(list: &[u8]) -> Result<Parsed<'_>, Fault> {
    let (register, rest) = number(list)?;
    if register != PCR {
        return Err(Fault::Register(register));
    }
    let (digest, rest) = rest.split_first_chunk::<20>().ok_or(Fault::Cut)?;
    let (len, rest) = number(rest)?;
    let known = |template: Template| u32::try_from(template.name().len()) == Ok(len);
    if !Template::ALL.into_iter().any(known) {
        return Err(Fault::Template);
    }
    let (name, rest) = take(rest, len)?;
    let template = Template::from_name(name).ok_or(Fault::Template)?;
    let (len, rest) = number(rest)?;
    if usize::try_from(len).map_or(true, |len| len > DATA_MAX) {
        return Err(Fault::DataLength(len));
    }
    let (data, rest) = take(rest, len)?;
    let violation = digest.iter().all(|byte| *byte == 0);
    let fields = Fields::parse(template, data, violation)?;
    Ok((template, *digest, data, fields, rest))
}

fn number(list: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let (number, rest) = list.split_first_chunk().ok_or(Fault::Cut)?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn take(list: &[u8], len: u32) -> Result<(&[u8], &[u8]), Fault> {
    list.split_at_checked(usize::try_from(len).map_err(|_| Fault::Cut)?).ok_or(Fault::Cut)
}

/// What a list comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many records it has.
    pub records: u64,
    /// How many of them are violations.
    pub violations: u64,
    /// What the register of each bank holds behind the last one.
    pub end: Banks,
}

impl Summary {
    /// Of a list without records that begins with `start` in the register.
    pub(super) const fn empty(start: &Banks) -> Self {
        Self { records: 0, violations: 0, end: *start }
    }

    /// Adds a record with its digests.
    pub(super) fn add(&mut self, record: &Record<'_>, digests: &Banks) {
        self.records += 1;
        self.violations += u64::from(record.is_violation());
        self.end.extend(digests);
    }
}

/// Verifies a list: every record is in the format and its digest is that of its data. Gives what the
/// registers hold at its end when they hold `start` before it, [`Banks::ZERO`] before a first segment; to
/// compare that with the values that somebody vouches for is the caller's.
///
/// A list without its last records is a list too, which only that comparison tells. So is the list that
/// tells another name in a violation, since no digest is over it. The template's name is in no digest
/// either: of it, what tells is that the fields must fit.
pub fn verify(list: &[u8], start: &Banks) -> Result<Summary, ListError> {
    verify_each(list, start, &mut |_| {})
}

/// As [`verify`], and gives the digests of each record that is right.
pub(super) fn verify_each(
    list: &[u8],
    start: &Banks,
    each: &mut dyn FnMut(&Banks),
) -> Result<Summary, ListError> {
    let mut summary = Summary::empty(start);
    for record in Records::new(list) {
        let record = record?;
        let Some(digests) = record.true_digests() else {
            return Err(ListError { record: record.number, offset: record.offset, fault: Fault::Altered });
        };
        summary.add(&record, &digests);
        each(&digests);
    }
    Ok(summary)
}
