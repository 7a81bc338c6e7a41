//! Where a TPM's register began to follow the list, and what it held at a record since. Lines of text, so that any
//! program can read them.

use std::fmt::Write as _;

use super::bank::{Bank, Banks};
use super::start::Signing;

type SigningError = Box<dyn std::error::Error + Send + Sync>;

/// The first line: what this is, and its version.
const HEAD: &str = "nfs-verity measurement register 1";
/// What begins the line behind it, with the signature.
const SIGNATURE: &str = "signature ";
/// The longest mark in bytes, with its signature.
pub(super) const MARK_MAX: u64 = 16 * 1024;
/// How many registers a TPM has.
const REGISTERS: u32 = 24;

/// Where the register of a TPM began to follow the list, and what it must hold behind a later record.
///
/// A TPM forgets its registers when the machine is started, and the list goes on. So a register that holds nothing
/// is extended once with the list's aggregate of that moment, which stands for all records before, and from then on
/// with each record. Where the list begins with the register nothing stands before it: the register then holds what
/// the `pcrs` files say.
///
/// ```text
/// nfs-verity measurement register 1
/// pcr 13
/// began 1234
/// records 5678
/// sha1 HEX
/// sha256 HEX
/// sha384 HEX
/// signature HEX
/// ```
///
/// Before the last line stands what the register holds behind record 5678, in a TPM that has the bank. The signature
/// is of all lines before it, by the key that signs where segments begin: else who cut the list could say that the
/// register holds there what it holds at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the register.
    pub pcr: u32,
    /// How many records the list had when the register began to follow it.
    pub began: u64,
    /// Behind how many records it holds `banks`; `began` or more.
    pub records: u64,
    /// What it holds there.
    pub banks: Banks,
}

/// What is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not signed, or does not say where a register began to follow a measurement list, version 1")]
pub struct NotAMark;

impl Mark {
    /// The mark of register `pcr`, which holds nothing yet and is to follow a list of `records` records that comes
    /// to `aggregate`.
    pub fn new(pcr: u32, records: u64, aggregate: &Banks) -> Self {
        Self { pcr, began: records, records, banks: beginning(records, aggregate) }
    }

    /// The mark in the form of the file, with the signature that `sign` makes.
    pub(super) fn seal(&self, sign: &Signing) -> Result<Vec<u8>, SigningError> {
        let text = self.encode();
        let signature = hex::encode(sign(text.as_bytes())?);
        Ok(format!("{text}{SIGNATURE}{signature}\n").into_bytes())
    }

    /// Reads the file, where `signed` takes its second argument for a signature of its first.
    pub fn open(file: &[u8], signed: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<Self, NotAMark> {
        let file = str::from_utf8(file).map_err(|_| NotAMark)?;
        let (text, digits) = file.rsplit_once(SIGNATURE).ok_or(NotAMark)?;
        let signature =
            digits.strip_suffix('\n').and_then(|digits| hex::decode(digits).ok()).ok_or(NotAMark)?;
        let mark = Self::parse(text.as_bytes())?;
        signed(text.as_bytes(), &signature).then_some(mark).ok_or(NotAMark)
    }

    /// The lines before the signature.
    pub fn encode(&self) -> String {
        let Self { pcr, began, records, banks } = self;
        let mut text = format!("{HEAD}\npcr {pcr}\nbegan {began}\nrecords {records}\n");
        for bank in Bank::ALL {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{bank} {}", hex::encode(banks.get(bank)));
        }
        text
    }

    /// Reads a mark, in the one spelling that [`Self::encode`] has.
    pub fn parse(text: &[u8]) -> Result<Self, NotAMark> {
        let text = str::from_utf8(text).map_err(|_| NotAMark)?;
        let mut lines = text.lines().skip(1);
        let mut value = |key: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.strip_prefix(' ')).ok_or(NotAMark)
        };
        let pcr = value("pcr")?.parse().map_err(|_| NotAMark)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotAMark);
        let (began, records) = (number(value("began")?)?, number(value("records")?)?);
        let mut banks = Banks::ZERO;
        let Banks { sha1, sha256, sha384 } = &mut banks;
        for (bank, place) in Bank::ALL.into_iter().zip([&mut sha1[..], &mut sha256[..], &mut sha384[..]]) {
            hex::decode_to_slice(value(bank.name())?, place).map_err(|_| NotAMark)?;
        }
        let mark = Self { pcr, began, records, banks };
        let right = mark.encode() == text && pcr < REGISTERS && began <= records;
        right.then_some(mark).ok_or(NotAMark)
    }
}

/// What a register holds that began to follow a list of `records` records, which comes to `aggregate`.
fn beginning(records: u64, aggregate: &Banks) -> Banks {
    let mut banks = Banks::ZERO;
    if records > 0 {
        banks.extend(aggregate);
    }
    banks
}

/// Goes through a list's records, and finds behind which of them the register holds what is wanted. Pure.
#[derive(Clone)]
pub struct Replay<'a> {
    mark: Mark,
    is_wanted: &'a dyn Fn(&Banks) -> bool,
    records: u64,
    aggregate: Banks,
    held: Option<Banks>,
    whole: bool,
    found: Option<u64>,
}

impl<'a> Replay<'a> {
    /// A replay of a list that begins behind `records` records, which come to `aggregate`.
    pub fn new(
        mark: &Mark,
        is_wanted: &'a dyn Fn(&Banks) -> bool,
        records: u64,
        aggregate: &Banks,
    ) -> Replay<'a> {
        let (mark, aggregate) = (*mark, *aggregate);
        let mut replay =
            Replay { mark, is_wanted, records, aggregate, held: None, whole: false, found: None };
        replay.look();
        replay
    }

    /// Adds the next record's digests.
    pub fn add(&mut self, digests: &Banks) {
        self.records += 1;
        self.aggregate.extend(digests);
        if let Some(held) = &mut self.held {
            held.extend(digests);
        }
        self.look();
    }

    fn look(&mut self) {
        if self.records == self.mark.began {
            self.held = Some(beginning(self.records, &self.aggregate));
            self.whole = true;
        } else if self.records == self.mark.records && self.held.is_none() {
            // What was before is not here any more.
            self.held = Some(self.mark.banks);
        }
        if self.found.is_none() && self.held.as_ref().is_some_and(self.is_wanted) {
            self.found = Some(self.records);
        }
    }

    /// Behind how many records the register holds what is wanted, the first time.
    pub const fn found(&self) -> Option<u64> {
        self.found
    }

    /// Whether the list was there from where the register began to follow it. Where it was not, what the register
    /// held at the mark is the mark's word alone.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the list was there from some record on at which it is known what the register held.
    pub const fn is_begun(&self) -> bool {
        self.held.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(n: u8) -> Banks {
        Banks::of(&[n])
    }

    /// What a register that begins behind `began` of `n` records of a list holds at their end.
    fn register(began: u8, n: u8) -> (Banks, Banks) {
        let (mut aggregate, mut held) = (Banks::ZERO, Banks::ZERO);
        for record in 0..=n {
            if record == began && record > 0 {
                held.extend(&aggregate);
            }
            if record < n {
                aggregate.extend(&digests(record));
                if record >= began {
                    held.extend(&digests(record));
                }
            }
        }
        (aggregate, held)
    }

    #[test]
    fn a_mark_has_one_spelling() {
        let mark = Mark::new(13, 7, &register(0, 7).0);
        let text = mark.encode();
        assert_eq!(Mark::parse(text.as_bytes()), Ok(mark));
        assert!(text.len() as u64 <= MARK_MAX);
        for end in 0..text.len() {
            assert!(Mark::parse(&text.as_bytes()[..end]).is_err(), "{end}");
        }
        for (from, to) in [
            ("pcr 13", "pcr 24"),
            ("pcr 13", "pcr 013"),
            ("pcr 13", "pcr -1"),
            ("began 7", "began 8"),
            ("records 7", "records +7"),
            ("register 1", "register 2"),
            ("sha1 ", "sha1 0"),
        ] {
            assert!(Mark::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
        }
        assert!(Mark::parse((text.clone() + "\n").as_bytes()).is_err());
        assert!(Mark::parse(text.to_uppercase().as_bytes()).is_err());
    }

    #[test]
    fn a_mark_counts_with_its_signature() {
        let sign: Signing = Box::new(|text| Ok(Banks::of(text).sha256.to_vec()));
        let signed = |text: &[u8], signature: &[u8]| Banks::of(text).sha256 == signature;
        let mark = Mark::new(13, 7, &register(0, 7).0);
        let file = mark.seal(&sign).unwrap();
        assert_eq!(Mark::open(&file, &signed), Ok(mark));
        for at in 0..file.len() {
            assert!(Mark::open(&file[..at], &signed).is_err(), "{at}");
            for bit in 0..7 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                // Digits may be large ones.
                let is_same =
                    changed.eq_ignore_ascii_case(&file) && at >= mark.encode().len() + SIGNATURE.len();
                assert_eq!(Mark::open(&changed, &signed).is_ok(), is_same, "{at} {bit}");
            }
        }
        assert!(Mark::open(&[&file[..], b"signature 00\n"].concat(), &|_, _| true).is_err());
    }

    #[test]
    fn a_replay_finds_the_record_wherever_the_register_began_and_the_list_is_cut() {
        for began in 0..6 {
            for at in began..10 {
                let wanted = register(began, at).1;
                let is_wanted = |held: &Banks| *held == wanted;
                for marked in began..10 {
                    let banks = register(began, marked).1;
                    let mark = Mark { pcr: 13, began: began.into(), records: marked.into(), banks };
                    for first in 0..10 {
                        let mut replay = Replay::new(&mark, &is_wanted, first.into(), &register(0, first).0);
                        (first..10).for_each(|n| replay.add(&digests(n)));
                        let known =
                            if first <= began { Some(began) } else { (first <= marked).then_some(marked) };
                        assert_eq!(replay.is_whole(), first <= began);
                        assert_eq!(replay.is_begun(), known.is_some());
                        let found = known.filter(|known| *known <= at).map(|_| u64::from(at));
                        assert_eq!(replay.found(), found, "{began} {at} {marked} {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_replay_of_an_altered_list_finds_nothing() {
        let (began, at) = (2, 9);
        let wanted = register(began, at).1;
        let is_wanted = |held: &Banks| *held == wanted;
        let mark = Mark::new(13, began.into(), &register(0, began).0);
        let lists: [&[u8]; 6] = [
            &[0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 1, 2, 3, 4, 5, 6, 7],
            &[0, 1, 2, 4, 3, 5, 6, 7, 8],
            &[0, 1, 3, 4, 5, 6, 7, 8],
            &[9, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ];
        for (n, list) in lists.into_iter().enumerate() {
            let mut replay = Replay::new(&mark, &is_wanted, 0, &Banks::ZERO);
            list.iter().for_each(|record| replay.add(&digests(*record)));
            let good = n == 0 || n == 5;
            assert_eq!(replay.found(), good.then_some(9), "{list:?}");
        }
    }
}
