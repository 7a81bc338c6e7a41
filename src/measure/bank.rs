//! The banks of a TPM: a hash, and what a register of it holds. TCG PC Client Platform TPM Profile;
//! `ima_pcr_extend` in the kernel's `security/integrity/ima/ima_queue.c`.

use std::fmt::{self, Write as _};

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384};

/// The register that IMA extends, `CONFIG_IMA_MEASURE_PCR_IDX`.
pub const PCR: u32 = 10;
/// How many registers a bank has in the text form.
const REGISTERS: u32 = 24;

/// A bank: the hash by which its registers are extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bank {
    /// SHA-1, 20 bytes. The digests in the list itself are of this bank.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
}

impl Bank {
    /// Every bank.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha384];

    /// The name that `evmctl` and the kernel use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// TPM_ALG_ID: how a TPM names it.
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value for each bank: the digests of one record, or the aggregates of a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Banks {
    pub(super) sha1: [u8; 20],
    pub(super) sha256: [u8; 32],
    pub(super) sha384: [u8; 48],
}

impl Banks {
    /// What a register holds before anything extends it.
    pub const ZERO: Self = Self { sha1: [0; 20], sha256: [0; 32], sha384: [0; 48] };
    /// What a violation extends a register with.
    pub const ONES: Self = Self { sha1: [0xff; 20], sha256: [0xff; 32], sha384: [0xff; 48] };

    /// The digests of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self {
            sha1: Sha1::digest(data).into(),
            sha256: Sha256::digest(data).into(),
            sha384: Sha384::digest(data).into(),
        }
    }

    /// The value of one bank, in its length.
    pub const fn get(&self, bank: Bank) -> &[u8] {
        match bank {
            Bank::Sha1 => &self.sha1,
            Bank::Sha256 => &self.sha256,
            Bank::Sha384 => &self.sha384,
        }
    }

    /// Extends: what is held becomes the hash of itself and of `digests`, in each bank.
    pub fn extend(&mut self, digests: &Self) {
        self.sha1 = Sha1::new_with_prefix(self.sha1).chain_update(digests.sha1).finalize().into();
        self.sha256 = Sha256::new_with_prefix(self.sha256).chain_update(digests.sha256).finalize().into();
        self.sha384 = Sha384::new_with_prefix(self.sha384).chain_update(digests.sha384).finalize().into();
    }

    /// The text that `evmctl ima_measurement --pcrs BANK,FILE` reads: a line for each of 24 registers, all
    /// of them zero but [`PCR`].
    pub fn pcrs(&self, bank: Bank) -> String {
        let held = self.get(bank);
        let mut text = String::with_capacity(24 * (2 * held.len() + 9));
        for register in 0..REGISTERS {
            let value = if register == PCR { held } else { Self::ZERO.get(bank) };
            // Writing to a String does not fail.
            let _ = writeln!(text, "PCR-{register:02}: {}", hex::encode(value));
        }
        text
    }

    /// Reads what [`Self::pcrs`] writes, and no other spelling of it: what [`PCR`] of a bank holds.
    pub(super) fn register(bank: Bank, text: &[u8]) -> Option<Vec<u8>> {
        let text = str::from_utf8(text).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("PCR-{PCR:02}: ")))?;
        let mut banks = Self::ZERO;
        let place = match bank {
            Bank::Sha1 => &mut banks.sha1[..],
            Bank::Sha256 => &mut banks.sha256[..],
            Bank::Sha384 => &mut banks.sha384[..],
        };
        hex::decode_to_slice(line, place).ok()?;
        (banks.pcrs(bank) == text).then(|| banks.get(bank).to_vec())
    }
}

impl fmt::Debug for Banks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Banks(sha256:{})", hex::encode(self.sha256))
    }
}
