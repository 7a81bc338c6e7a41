//! The register of a TPM that follows the list: each record extends it, in every bank that the TPM has of it, before
//! anything of what was measured is served. `ima_pcr_extend` in the kernel's `security/integrity/ima/ima_queue.c`.
//!
//! The list is durable first, so after a crash the register may lack what is last in the list, and nothing else: what
//! it lacks is found by what it holds, and made good. Where it holds what the list does not come to, other software
//! extended it, and nobody could tell any more what is in it.

use super::bank::{Bank, Banks};
use super::mark::Mark;

/// The TPM's word when it does not do what it should.
pub type TpmError = Box<dyn std::error::Error + Send + Sync>;

/// One register of a TPM.
pub trait Tpm: Send {
    /// The register's number.
    fn pcr(&self) -> u32;
    /// What it holds, in those of [`Bank::ALL`] in which the TPM has it.
    fn read(&mut self) -> Result<Held, TpmError>;
    /// Extends it in each of these banks, all of them or none.
    fn extend(&mut self, digests: &Banks) -> Result<(), TpmError>;
    /// Lets others use the TPM until the next call.
    fn release(&mut self);
}

/// What a register of a TPM holds, in each bank that the TPM has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(Vec<(Bank, Vec<u8>)>);

impl Held {
    /// The values as the TPM gives them.
    pub const fn new(values: Vec<(Bank, Vec<u8>)>) -> Self {
        Self(values)
    }

    /// The values of the banks, in the TPM's order.
    pub fn banks(&self) -> impl Iterator<Item = (Bank, &[u8])> {
        self.0.iter().map(|(bank, value)| (*bank, &value[..]))
    }

    /// Whether it holds `banks`, as far as there are banks.
    pub fn is(&self, banks: &Banks) -> bool {
        !self.0.is_empty() && self.banks().all(|(bank, value)| banks.get(bank) == value)
    }
}

/// What is wrong with a register.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The TPM does not answer as it should. It may have done what it was asked for all the same.
    #[error("the TPM cannot {operation} register {pcr}: {source}")]
    Tpm {
        /// The register.
        pcr: u32,
        /// What was tried.
        operation: &'static str,
        /// The TPM's word.
        source: TpmError,
    },
    /// The TPM has no bank that is known.
    #[error("the TPM has register {0} in none of the banks sha1, sha256 and sha384; enable one of them")]
    NoBank(u32),
    /// It holds what the list does not come to.
    #[error(
        "register {0} of the TPM holds what the measurement list does not come to: other software extended or reset \
         it, or the list is not the one that it followed; find out which, then give measure_tpm another pcr, or \
         start the machine anew"
    )]
    Foreign(u32),
    /// The list has fewer records than there were when the register's mark was written.
    #[error(
        "the measurement list has {records} records, and register {pcr} of the TPM followed it to record {marked}: \
         records are missing; restore them, or give another directory for a new list and measure_tpm another pcr"
    )]
    Short {
        /// The register.
        pcr: u32,
        /// Records in the list.
        records: u64,
        /// Records that there were.
        marked: u64,
    },
    /// The file is not in the format, or its signature is not by the key of the list.
    #[error(
        "{file} is damaged or not signed by this gateway, and says where a TPM's register began to follow the list; \
         restore it, or remove it and start the machine anew"
    )]
    Damaged {
        /// The file.
        file: String,
    },
}

/// What became of a register when the list was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// It followed the list before and held nothing any more: the record behind which it goes on.
    pub anew: Option<u64>,
    /// How many records were in the list and not in the register.
    pub late: u64,
}

impl std::fmt::Display for Attached {
    /// In a line, for people; empty where all was as it should be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = Vec::new();
        if let Some(records) = self.anew {
            told.push(format!("the TPM's register was reset and goes on behind record {records}"));
        }
        if self.late > 0 {
            told.push(format!("{} records were extended into the TPM's register that it lacked", self.late));
        }
        f.write_str(&told.join("; "))
    }
}

/// A register that follows a list.
pub(super) struct Register {
    tpm: Box<dyn Tpm>,
    /// Where it began, and what it held at a record that is not long ago: as in the file.
    pub(super) mark: Mark,
    /// The mark is to be written anew, since the segment that it stands in was closed.
    pub(super) unmarked: bool,
    /// What it holds before what is pending.
    pub(super) held: Banks,
    /// Digests of records that are in the list, and not in the register as far as is known.
    pending: Vec<Banks>,
    /// None of those that are pending is in the register.
    is_sure: bool,
}

impl Register {
    /// A register that holds what `mark` says.
    pub(super) const fn new(tpm: Box<dyn Tpm>, mark: Mark) -> Self {
        Self { tpm, mark, unmarked: false, held: mark.banks, pending: Vec::new(), is_sure: true }
    }

    /// Takes note of records that are in the list now.
    pub(super) fn push(&mut self, digests: &[Banks]) {
        self.pending.extend_from_slice(digests);
    }

    /// Whether the record with these digests is in the list and perhaps not in the register.
    pub(super) fn lacks(&self, digests: &Banks) -> bool {
        self.pending.contains(digests)
    }

    /// Extends the register with what is pending, and looks whether it holds then what it must.
    pub(super) fn catch_up(&mut self) -> Result<(), RegisterError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let caught_up = self.extend();
        self.tpm.release();
        caught_up
    }

    fn extend(&mut self) -> Result<(), RegisterError> {
        let pcr = self.mark.pcr;
        let done = if self.is_sure { 0 } else { self.done()? };
        self.is_sure = false;
        for digests in self.pending.iter().skip(done) {
            let extended = self.tpm.extend(digests);
            extended.map_err(|source| RegisterError::Tpm { pcr, operation: "extend", source })?;
        }
        let mut end = self.held;
        self.pending.iter().for_each(|digests| end.extend(digests));
        if !read(&mut *self.tpm)?.is(&end) {
            return Err(RegisterError::Foreign(pcr));
        }
        self.held = end;
        self.pending.clear();
        self.is_sure = true;
        Ok(())
    }

    /// How many of those that are pending are in the register already.
    fn done(&mut self) -> Result<usize, RegisterError> {
        let found = read(&mut *self.tpm)?;
        let mut banks = self.held;
        let mut done = found.is(&banks).then_some(0);
        for (n, digests) in (1..).zip(&self.pending) {
            banks.extend(digests);
            done = done.or(found.is(&banks).then_some(n));
        }
        done.ok_or(RegisterError::Foreign(self.mark.pcr))
    }
}

/// What the register holds, in one bank at least.
pub(super) fn read(tpm: &mut dyn Tpm) -> Result<Held, RegisterError> {
    let pcr = tpm.pcr();
    let held = tpm.read().map_err(|source| RegisterError::Tpm { pcr, operation: "read", source })?;
    if held.0.is_empty() { Err(RegisterError::NoBank(pcr)) } else { Ok(held) }
}
