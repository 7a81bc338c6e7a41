//! What a TPM signs of a register: TPMS_ATTEST with a TPMS_QUOTE_INFO, and TPMT_SIGNATURE. TPM 2.0 Library, Part 2
//! (Structures), sections 10.12 and 11.3. Big-endian; each length is held against its limit and against what is left
//! before it is used; nothing is copied. Verifies no signature: that is the caller's.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::bank::{Bank, Banks};

/// TPM_GENERATED_VALUE: what a TPM signs with a restricted key begins so only when the TPM made it.
const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE.
const TYPE_QUOTE: u16 = 0x8018;
/// The longest name of a key, nonce or digest in bytes: TPMU_NAME and TPMT_HA with SHA-512.
const BUFFER_MAX: usize = 66;
/// The longest part of a signature in bytes: RSA with 4096 bits.
const PART_MAX: usize = 512;
/// How many bytes have a bit for each register.
const SELECT_MAX: usize = 4;

/// Why bytes are no quote, or no signature of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// They end before all is there.
    #[error("it is cut")]
    Cut,
    /// There is more behind.
    #[error("there are bytes behind its end")]
    Trailing,
    /// A length is above its limit.
    #[error("{0} bytes are too many for a part of it")]
    Length(usize),
    /// No TPM made it.
    #[error("it does not begin as what a TPM makes")]
    Magic,
    /// It attests something else than registers.
    #[error("it is of type {0:#06x} and no quote")]
    Type(u16),
    /// A byte that is yes or no is neither.
    #[error("a byte that must be 0 or 1 is {0}")]
    Flag(u8),
    /// It is of a bank that is not known.
    #[error("bank {0:#06x} is not known")]
    Bank(u16),
    /// It is not of one register, the same in each bank and each bank once.
    #[error("it is not of one register")]
    Selection,
    /// Nobody can find another content with the same SHA-1 here, and still nobody should have to think about it.
    #[error("it is of bank sha1 alone; enable another one in the TPM")]
    Weak,
    /// The signature is of a kind that is not known.
    #[error("signature algorithm {0:#06x} is neither RSASSA nor ECDSA")]
    Algorithm(u16),
    /// The hash is none of [`QuoteHash::ALL`].
    #[error("hash {0:#06x} is none of sha256, sha384 and sha512")]
    Hash(u16),
}

/// The hash of a signature, and of the values in what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl QuoteHash {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// TPM_ALG_ID.
    const fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// What a TPM says of one register. It is believed only where its signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// The qualified name of the key that signs.
    pub signer: &'a [u8],
    /// What the TPM was asked to sign with it: fresh, or the quote may be an old one.
    pub nonce: &'a [u8],
    /// Milliseconds that the TPM was powered, in its whole life.
    pub clock: u64,
    /// How often it was reset, which is when its registers were.
    pub resets: u32,
    /// How often it was restarted or resumed since.
    pub restarts: u32,
    /// Whether the clock never told as much before.
    pub is_safe: bool,
    /// The TPM's firmware, in its maker's numbers.
    pub firmware: u64,
    /// The register.
    pub pcr: u32,
    /// Its banks, in the order in which [`Self::digest`] has their values.
    pub banks: Vec<Bank>,
    /// The digest of the values.
    pub digest: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads a TPMS_ATTEST, which is a quote of one register.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        let mut from = Reader(bytes);
        if from.u32()? != MAGIC {
            return Err(QuoteError::Magic);
        }
        let kind = from.u16()?;
        if kind != TYPE_QUOTE {
            return Err(QuoteError::Type(kind));
        }
        let (signer, nonce) = (from.sized(BUFFER_MAX)?, from.sized(BUFFER_MAX)?);
        let (clock, resets, restarts) = (from.u64()?, from.u32()?, from.u32()?);
        let is_safe = match from.u8()? {
            0 => false,
            1 => true,
            other => return Err(QuoteError::Flag(other)),
        };
        let firmware = from.u64()?;
        let (pcr, banks) = selection(&mut from)?;
        let digest = from.sized(BUFFER_MAX)?;
        from.end()?;
        Ok(Self { signer, nonce, clock, resets, restarts, is_safe, firmware, pcr, banks, digest })
    }

    /// Whether it says that the register holds `banks`, when it is signed with `hash`.
    pub fn is_of(&self, hash: QuoteHash, banks: &Banks) -> bool {
        let values: Vec<u8> = self.banks.iter().flat_map(|bank| banks.get(*bank)).copied().collect();
        hash.digest(&values) == self.digest
    }
}

/// TPML_PCR_SELECTION: the one register, and its banks.
fn selection(from: &mut Reader<'_>) -> Result<(u32, Vec<Bank>), QuoteError> {
    let count = from.u32()?;
    let mut register = None;
    let mut banks = Vec::new();
    for _ in 0..count {
        let id = from.u16()?;
        let bank = Bank::ALL.into_iter().find(|bank| bank.tpm_id() == id).ok_or(QuoteError::Bank(id))?;
        let len = usize::from(from.u8()?);
        if len > SELECT_MAX {
            return Err(QuoteError::Length(len));
        }
        let bits = from.take(len)?.iter().rev().fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte));
        // So that there are no more than there are banks.
        let is_one = bits.is_power_of_two() && !banks.contains(&bank);
        if !is_one || register.is_some_and(|register| register != bits) {
            return Err(QuoteError::Selection);
        }
        register = Some(bits);
        banks.push(bank);
    }
    let register = register.ok_or(QuoteError::Selection)?;
    if banks == [Bank::Sha1] {
        return Err(QuoteError::Weak);
    }
    Ok((register.trailing_zeros(), banks))
}

/// A TPM's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteSignature<'a> {
    /// RSASSA-PKCS1-v1_5.
    Rsa {
        /// The hash.
        hash: QuoteHash,
        /// The signature.
        signature: &'a [u8],
    },
    /// ECDSA: two numbers, big-endian, which may be shorter than the curve's.
    Ecdsa {
        /// The hash.
        hash: QuoteHash,
        /// The first number.
        r: &'a [u8],
        /// The second number.
        s: &'a [u8],
    },
}

impl<'a> QuoteSignature<'a> {
    /// Reads a TPMT_SIGNATURE.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        let mut from = Reader(bytes);
        let algorithm = from.u16()?;
        if algorithm != 0x0014 && algorithm != 0x0018 {
            return Err(QuoteError::Algorithm(algorithm));
        }
        let id = from.u16()?;
        let hash = QuoteHash::ALL.into_iter().find(|hash| hash.id() == id).ok_or(QuoteError::Hash(id))?;
        let first = from.sized(PART_MAX)?;
        let signature = match algorithm {
            0x0014 => Self::Rsa { hash, signature: first },
            _ => Self::Ecdsa { hash, r: first, s: from.sized(PART_MAX)? },
        };
        from.end()?;
        Ok(signature)
    }

    /// The hash of what is signed.
    pub const fn hash(&self) -> QuoteHash {
        match self {
            Self::Rsa { hash, .. } | Self::Ecdsa { hash, .. } => *hash,
        }
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], QuoteError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(QuoteError::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], QuoteError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(QuoteError::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, QuoteError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, QuoteError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, QuoteError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, QuoteError> {
        self.array().map(u64::from_be_bytes)
    }

    /// TPM2B: a length of two bytes, and so many bytes.
    fn sized(&mut self, max: usize) -> Result<&'a [u8], QuoteError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(QuoteError::Length(len));
        }
        self.take(len)
    }

    const fn end(&self) -> Result<(), QuoteError> {
        if self.0.is_empty() { Ok(()) } else { Err(QuoteError::Trailing) }
    }
}
