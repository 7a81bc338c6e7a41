//! `nfs-verity measure quote`, and what `measure verify` checks of a quote.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Outcome, Trouble};
use crate::app::tpm::{self, NotBuilt};
use crate::measure::{Banks, Held, Mark, Quote, QuoteHash, QuoteSignature, REGISTER, Replayed};
use crate::sign::{HashName, KEY_FILE_MAX, PublicKey, ecdsa_to_der};

/// What is signed, and the signature, as `tpm2_quote` writes them.
const MESSAGE: &str = "quote.msg";
const SIGNATURE: &str = "quote.sig";
/// What the register held, as `tpm2_checkquote` reads it.
const PCRS: &str = "quote.pcrs";
/// The public key.
const KEY: &str = "ak.pem";
/// The longest of these files that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024;
/// Bytes of a nonce. A TPM takes as many as its longest digest has, and two.
const NONCE: std::ops::RangeInclusive<usize> = 8..=32;

/// Let the TPM sign what the register holds that follows the list
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity measure quote --nonce 5f3c...01 --out quote /var/lib/nfs-verity/measure
  nfs-verity measure verify --key measure.pub --quote quote --quote-key ak.pem --nonce 5f3c...01 DIRECTORY
  tpm2_checkquote -u ak.pem -m quote/quote.msg -s quote/quote.sig -f quote/quote.pcrs -g sha256 -q 5f3c...01

NONCE is fresh, from whoever verifies: else the quote may be an old one. OUT gets quote.msg, quote.sig, quote.pcrs,
register and ak.pem. Without --key-handle the key is made for it under the endorsement hierarchy, restricted, from a
fixed template: the same each time, and of this TPM alone. Whoever verifies gets ak.pem once, when the machine is
trusted, and keeps it: a key that comes with the quote proves nothing.")]
pub(super) struct QuoteArgs {
    /// The directory that `serve` writes
    directory: PathBuf,
    /// What is signed with it: 16 to 64 hex digits
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Where the files are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How the TPM is reached
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    tcti: String,
    /// A persistent key that signs instead, as in 0x81010002
    #[arg(long, value_name = "HANDLE")]
    key_handle: Option<String>,
}

/// What `measure verify` is told of a quote.
#[derive(Debug, Args)]
pub(super) struct QuotedArgs {
    /// A quote of `measure quote`, which some first part of the list must come to
    #[arg(long, value_name = "DIR", requires_all = ["quote_key", "nonce"])]
    quote: Option<PathBuf>,
    /// The TPM's public key, kept elsewhere
    #[arg(long, value_name = "KEY", requires = "quote")]
    quote_key: Option<PathBuf>,
    /// What the TPM was asked to sign with it
    #[arg(long, value_name = "HEX", requires = "quote")]
    nonce: Option<String>,
    /// The register that it must be of
    #[arg(long, value_name = "N", default_value_t = 13, requires = "quote")]
    quote_pcr: u32,
}

/// A quote as it was read.
pub(super) struct Quoted {
    message: Vec<u8>,
    signature: Vec<u8>,
    mark: Vec<u8>,
    key: PublicKey,
    nonce: Vec<u8>,
    pcr: u32,
}

/// A quote whose signature is right.
pub(super) struct Signed<'a> {
    quote: Quote<'a>,
    hash: QuoteHash,
    pub(super) mark: Mark,
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    read.map_err(|error| Trouble::file("read", path, error))?;
    if bytes.len() as u64 > max {
        return Err(Trouble::other(format!("{}: more than {max} bytes", path.display())));
    }
    Ok(bytes)
}

fn nonce(digits: &str) -> Result<Vec<u8>, Trouble> {
    let nonce = hex::decode(digits).ok().filter(|nonce| NONCE.contains(&nonce.len()));
    nonce.ok_or_else(|| Trouble::usage("--nonce must be 16 to 64 hex digits, of 8 to 32 bytes"))
}

pub(super) fn make(args: &QuoteArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let nonce = nonce(&args.nonce)?;
    let key = args.key_handle.as_deref().map(handle).transpose()?;
    let path = args.directory.join(REGISTER);
    let marked = || {
        let text = read(&path, FILE_MAX)?;
        // Whoever verifies looks whether it is signed.
        let mark = Mark::open(&text, &|_, _| true);
        let mark = mark.map_err(|error| Trouble::other(format!("{}: {error}", path.display())))?;
        Ok::<_, Trouble>((mark, text))
    };
    let (mark, text) = marked()?;
    let made =
        tpm::quote(&args.tcti, mark.pcr, &nonce, key).map_err(|error| match error.is::<NotBuilt>() {
            true => Trouble::usage(error),
            false => Trouble::other(format!("the TPM gives no quote: {error}")),
        })?;
    if marked()?.0.began != mark.began {
        return Err(Trouble::other("the register began anew meanwhile; try again"));
    }
    let pem = PublicKey::from_spki_der(&made.key).and_then(|key| key.to_spki_pem());
    let pem = pem.map_err(|error| Trouble::other(format!("the TPM's key: {error}")))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Trouble::file("write", &path, error)
    };
    fs::create_dir_all(&args.out).map_err(failed(&args.out))?;
    let pcrs = pcrs(mark.pcr, &made.held);
    for (name, bytes) in [
        (MESSAGE, &made.message[..]),
        (SIGNATURE, &made.signature),
        (PCRS, &pcrs),
        (REGISTER, &text),
        (KEY, pem.as_bytes()),
    ] {
        let path = args.out.join(name);
        fs::write(&path, bytes).map_err(failed(&path))?;
    }
    for (bank, value) in made.held.banks() {
        writeln!(out, "PCR-{} {bank} {}", mark.pcr, hex::encode(value))?;
    }
    Ok(Outcome::Good)
}

fn handle(text: &str) -> Result<u32, Trouble> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let handle = u32::from_str_radix(digits, 16).ok().filter(|handle| handle >> 24 == 0x81);
    handle.ok_or_else(|| Trouble::usage("--key-handle must be a persistent handle, as in 0x81010002"))
}

/// What a register held, in the form of `tpm2_quote --pcr`: TPML_PCR_SELECTION, how many TPML_DIGEST follow, and
/// those, as the structures lie in memory, with little-endian numbers.
fn pcrs(pcr: u32, held: &Held) -> Vec<u8> {
    const SELECTIONS: usize = 16;
    const DIGESTS: usize = 8;
    const DIGEST: usize = 64;
    let values: Vec<_> = held.banks().take(DIGESTS).collect();
    let count = u32::try_from(values.len()).unwrap_or_default().to_le_bytes();
    let mut file = count.to_vec();
    for (bank, _) in &values {
        file.extend(bank.tpm_id().to_le_bytes());
        let [first, second, third, _] = 1u32.checked_shl(pcr).unwrap_or_default().to_le_bytes();
        // Three bytes count, and two lie between this structure and the next.
        file.extend([3, first, second, third, 0, 0]);
    }
    file.resize(4 + SELECTIONS * 8, 0);
    file.extend(1u32.to_le_bytes());
    file.extend(count);
    let start = file.len();
    for (_, value) in &values {
        file.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
        file.extend_from_slice(value);
        file.resize(file.len() + DIGEST.saturating_sub(value.len()), 0);
    }
    file.resize(start + DIGESTS * (2 + DIGEST), 0);
    file
}

impl QuotedArgs {
    /// The quote, if one is to be checked.
    pub(super) fn load(&self) -> Result<Option<Quoted>, Trouble> {
        let (Some(directory), Some(key), Some(digits)) = (&self.quote, &self.quote_key, &self.nonce) else {
            return Ok(None);
        };
        let nonce = nonce(digits)?;
        let text = read(key, KEY_FILE_MAX as u64)?;
        let key = PublicKey::from_spki_pem(&text)
            .map_err(|error| Trouble::usage(format!("{}: {error}", key.display())))?;
        let file = |name| read(&directory.join(name), FILE_MAX);
        let (message, signature, mark) = (file(MESSAGE)?, file(SIGNATURE)?, file(REGISTER)?);
        Ok(Some(Quoted { message, signature, mark, key, nonce, pcr: self.quote_pcr }))
    }
}

impl Quoted {
    /// What the quote says, where the key signed it with the nonce, of the register. Else what is wrong. `signed` knows
    /// the signatures of the gateway.
    pub(super) fn check(&self, signed: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<Signed<'_>, String> {
        let signature =
            QuoteSignature::parse(&self.signature).map_err(|error| format!("{SIGNATURE}: {error}"))?;
        let hash = signature.hash();
        let name = match hash {
            QuoteHash::Sha256 => HashName::Sha256,
            QuoteHash::Sha384 => HashName::Sha384,
            QuoteHash::Sha512 => HashName::Sha512,
        };
        let bytes = match signature {
            QuoteSignature::Rsa { signature, .. } => Some(signature.to_vec()),
            QuoteSignature::Ecdsa { r, s, .. } => {
                let len = r.len().max(s.len());
                let pad = |number: &[u8]| [&vec![0; len.saturating_sub(number.len())], number].concat();
                ecdsa_to_der(&[pad(r), pad(s)].concat()).ok()
            }
        };
        let digest = name.digest(&self.message);
        if !bytes.is_some_and(|bytes| self.key.verify_digest(name, &digest, &bytes)) {
            return Err("the quote is not signed by this key".to_owned());
        }
        // It is believed from here on to be what a TPM said, if the key is one of a TPM.
        let quote = Quote::parse(&self.message).map_err(|error| format!("{MESSAGE}: {error}"))?;
        if quote.nonce != self.nonce {
            return Err("the quote has another nonce: it may be an old one".to_owned());
        }
        if quote.pcr != self.pcr {
            return Err(format!("the quote is of register {} and not {}", quote.pcr, self.pcr));
        }
        let mark = Mark::open(&self.mark, signed).map_err(|error| format!("{REGISTER}: {error}"))?;
        if mark.pcr != self.pcr {
            return Err(format!("{REGISTER} is of register {} and not {}", mark.pcr, self.pcr));
        }
        Ok(Signed { quote, hash, mark })
    }
}

impl Signed<'_> {
    /// Whether it says that the register holds `banks`.
    pub(super) fn is_of(&self, banks: &Banks) -> bool {
        self.quote.is_of(self.hash, banks)
    }

    /// What it comes to, for people.
    pub(super) fn told(&self, replayed: &Replayed) -> String {
        let (pcr, quote, mark) = (self.quote.pcr, &self.quote, &self.mark);
        let Some(found) = replayed.found else {
            return match replayed.is_begun {
                true => "the quote is of another list: records were altered, removed or exchanged".to_owned(),
                false => {
                    format!("record {} is not kept any more, before which the quote needs it", mark.records)
                }
            };
        };
        let times =
            format!("the TPM was reset {} times and restarted {} since", quote.resets, quote.restarts);
        let whole = match replayed.is_whole {
            true => String::new(),
            false => {
                format!("; what register {pcr} held behind record {} is the gateway's word", mark.records)
            }
        };
        format!("the TPM attests records 1 to {found} in register {pcr}; {times}{whole}")
    }

    /// The same, for programs.
    pub(super) fn json(&self, replayed: &Replayed) -> Value {
        let quote = &self.quote;
        json!({
            "records": replayed.found,
            "whole": replayed.is_whole,
            "pcr": quote.pcr,
            "banks": quote.banks.iter().map(|bank| bank.name()).collect::<Vec<_>>(),
            "began": self.mark.began,
            "clock": quote.clock,
            "resets": quote.resets,
            "restarts": quote.restarts,
            "safe": quote.is_safe,
            "firmware": format!("{:016x}", quote.firmware),
        })
    }
}
