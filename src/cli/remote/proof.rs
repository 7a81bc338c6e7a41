//! `nfs-verity proof`: reads a range of a file and proves it by what the gateway sends along.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::address::Address;
use super::chain::{Chain, Leaves};
use super::client::{ACCES, Client, IO};
use super::rpc::ClientError;
use super::vouch::{VouchArgs, Vouched, ask};
use super::{asking, open};
use crate::cli::told::Told;
use crate::cli::{Outcome, Trouble, signers};
use crate::event::Cause;
use crate::sign::{Keyring, Rejection};
use crate::verity::Descriptor;

/// A gateway that serves fewer bytes at a time than this, where there are more, keeps its client for ever.
const LEAST: u64 = 512;
/// Bytes read and hashed at once, a multiple of every block size.
const STEP: u64 = 512 * 1024;

/// Read a range of a file from a gateway and prove it, trusting the gateway with nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity proof --offset 0 --length 4096 nfs://gateway/big.bin
  nfs-verity proof --trust keys/ --offset 1G --length 1M --out part.bin nfs://gateway/big.bin

The gateway sends the blocks of the file's Merkle tree that lead from the root hash to the data. Their
hashes and those of the data are computed here and compared; with --trust it is checked who signed the root.
Exit status: 0 proven as told, 1 not, 2 usage, 3 no answer.")]
pub(in crate::cli) struct ProofArgs {
    #[command(flatten)]
    vouch: VouchArgs,
    /// The file: nfs://HOST[:PORT]/PATH
    url: Address,
    /// The first byte
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    offset: u64,
    /// How many bytes; as many as there are when the file ends before
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    length: u64,
    /// Write the range to FILE once all of it is proven
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A number of bytes: digits, and `K`, `M`, `G` or `T` for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of bytes, such as 4096 or 4K");
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            let shift = "KMGT".find(unit).ok_or_else(wrong)?;
            (text.get(..at).unwrap_or_default(), 10 * (shift + 1))
        }
        _ => (text, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Why a range is not proven.
enum Failure {
    /// It does not verify, or the gateway refuses it.
    Not(Rejection),
    /// There is no answer to judge.
    Trouble(Trouble),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Not(rejection)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What was found out so far.
#[derive(Default)]
struct Found {
    descriptor: Option<Descriptor>,
    told: Told,
    tree_blocks: u64,
    data_blocks: u64,
    /// Bytes of the range that are proven, from its beginning on.
    proven: u64,
    vouched: Option<Vouched>,
}

pub(in crate::cli) fn run(args: &ProofArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let keyring = args.vouch.keyring()?;
    let (mut client, handle) = open(&args.url)?;
    let mut part = args.out.as_deref().map(Part::begin).transpose()?;
    let mut found = Found::default();
    let proven = prove(args, &mut client, &handle, keyring.as_ref(), &mut part, &mut found);
    let failure = match proven {
        Ok(()) => None,
        Err(Failure::Not(rejection)) => Some(rejection),
        Err(Failure::Trouble(trouble)) => return Err(trouble),
    };
    let good = failure.is_none();
    if let Some(part) = part.filter(|_| good) {
        part.finish()?;
    }
    match args.json {
        true => writeln!(out, "{:#}", as_json(args, &found, failure.as_ref(), good))?,
        false => for_people(out, args, &found, failure.as_ref(), good)?,
    }
    Ok(if good { Outcome::Good } else { Outcome::Failed })
}

fn prove(
    args: &ProofArgs,
    client: &mut Client,
    handle: &[u8],
    keyring: Option<&Keyring>,
    part: &mut Option<Part>,
    found: &mut Found,
) -> Result<(), Failure> {
    let answer = |error: ClientError| match error {
        ClientError::Status(status @ (IO | ACCES)) => {
            let detail = format!("{}", ClientError::Status(status));
            Failure::Not(Rejection { cause: Cause::Unreadable, detail })
        }
        error => Failure::Trouble(asking(&args.url, &error)),
    };
    found.told = ask(client, handle).map_err(answer)?;
    let mut proof = client.proof(handle, args.offset, args.length).map_err(answer)?;
    let descriptor = Descriptor::parse(&proof.descriptor)
        .map_err(|error| Rejection { cause: Cause::MalformedEvidence, detail: error.to_string() })?;
    found.descriptor = Some(descriptor);
    found.told.digest_is_of(&descriptor)?;
    found.vouched =
        Some(Vouched::of(&found.told, &descriptor, keyring, &args.vouch.namespace, &args.url.path));
    if let Some(Vouched::Refused(rejection)) = &found.vouched {
        // Nothing that is read can help what nobody vouches for.
        return Err(rejection.clone().into());
    }
    let chain = Chain::new(descriptor).map_err(Trouble::other)?;
    let end = args.offset.saturating_add(args.length).min(descriptor.size);
    let mut at = args.offset;
    loop {
        let leaves = chain.check(at, end.saturating_sub(at), &proof)?;
        found.tree_blocks += proof.blocks.len() as u64;
        found.data_blocks += leaves.blocks.end - leaves.blocks.start;
        let wanted = at..at.saturating_add(leaves.covered);
        data(client, handle, &chain, &leaves, &wanted, part, &answer)?;
        found.proven += leaves.covered;
        at = wanted.end;
        if at >= end {
            return Ok(());
        }
        proof = client.proof(handle, at, end - at).map_err(answer)?;
        if proof.descriptor != descriptor.encode() {
            let detail = "the gateway tells another descriptor than before".to_owned();
            return Err(Rejection { cause: Cause::WrongDigest, detail }.into());
        }
    }
}

/// Reads the data blocks of `leaves`, compares them, and keeps what is `wanted`.
fn data(
    client: &mut Client,
    handle: &[u8],
    chain: &Chain,
    leaves: &Leaves,
    wanted: &Range<u64>,
    part: &mut Option<Part>,
    answer: &impl Fn(ClientError) -> Failure,
) -> Result<(), Failure> {
    let (size, block_size) = (chain.geometry().size(), u64::from(chain.geometry().block_size().get()));
    let end = leaves.blocks.end.saturating_mul(block_size).min(size);
    let mut at = leaves.blocks.start.saturating_mul(block_size);
    let mut digests = leaves.digests.iter();
    while at < end {
        let bytes = read(client, handle, at, (end - at).min(STEP), answer)?;
        let mut bad = None;
        chain.hasher().hash_many(&bytes, |n, found| {
            if digests.next() != Some(&found) {
                bad = bad.or(Some(n));
            }
        });
        if let Some(n) = bad {
            let block = at / block_size + n as u64;
            let detail = format!("the gateway served other bytes for block {block} than its tree proves");
            return Err(Rejection { cause: Cause::BadBlock, detail }.into());
        }
        if let Some(part) = part {
            let (from, to) = (wanted.start.max(at), wanted.end.min(at + bytes.len() as u64));
            let within = |offset: u64| usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
            part.write(bytes.get(within(from)..within(to)).unwrap_or_default())?;
        }
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Exactly `len` bytes of a file, at most [`STEP`].
fn read(
    client: &mut Client,
    handle: &[u8],
    offset: u64,
    len: u64,
    answer: &impl Fn(ClientError) -> Failure,
) -> Result<Bytes, Failure> {
    let mut all = Vec::new();
    while (all.len() as u64) < len {
        let at = offset + all.len() as u64;
        let count = u32::try_from(len - all.len() as u64).unwrap_or(u32::MAX);
        let (bytes, _) = client.read(handle, at, count).map_err(answer)?;
        if bytes.is_empty() {
            let detail = format!("the gateway serves no bytes from {at} on, its descriptor has more");
            return Err(Rejection { cause: Cause::Truncated, detail }.into());
        }
        all.extend_from_slice(&bytes);
        if (bytes.len() as u64) < LEAST.min(u64::from(count)) {
            let detail = format!("the gateway serves {} of {count} bytes from {at} on", bytes.len());
            return Err(Rejection { cause: Cause::Truncated, detail }.into());
        }
    }
    Ok(all.into())
}

/// A file that appears under its name once it is whole.
struct Part {
    file: File,
    here: PathBuf,
    there: PathBuf,
    done: bool,
}

impl Part {
    fn begin(there: &Path) -> Result<Self, Trouble> {
        let mut name = there.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let here = PathBuf::from(name);
        let file = File::options().write(true).create_new(true).open(&here);
        let file = file.map_err(|source| Trouble::file("create", &here, source))?;
        Ok(Self { file, here, there: there.to_owned(), done: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.file.write_all(bytes).map_err(|source| Trouble::file("write", &self.here, source))
    }

    fn finish(mut self) -> Result<(), Trouble> {
        let renamed = std::fs::rename(&self.here, &self.there);
        renamed.map_err(|source| Trouble::file("write", &self.there, source))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.here);
        }
    }
}

/// What a proof of this kind leaves open.
fn not_proven(found: &Found, good: bool) -> Vec<&'static str> {
    let mut open = Vec::new();
    if !good {
        return open;
    }
    if matches!(found.vouched, Some(Vouched::Unasked)) {
        open.push("that anybody vouches for this digest, or that the file belongs to this path (--trust)");
    }
    if found.vouched.as_ref().is_some_and(Vouched::leaves_the_path_open) {
        open.push(signers::UNBOUND);
    }
    open.push("that no newer version of the file was signed");
    if found.descriptor.is_some_and(|descriptor| found.proven < descriptor.size) {
        open.push("what the rest of the file holds");
    }
    open
}

fn for_people(
    out: &mut impl Write,
    args: &ProofArgs,
    found: &Found,
    failure: Option<&Rejection>,
    good: bool,
) -> Result<(), Trouble> {
    writeln!(out, "path        {}", args.url.path)?;
    if let Some(status) = found.told.status_shown() {
        writeln!(out, "gateway     says {status}")?;
    }
    if let Some(descriptor) = &found.descriptor {
        writeln!(out, "digest      {}", descriptor.file_digest())?;
        writeln!(out, "size        {} bytes", descriptor.size)?;
    }
    if let Some(vouched) = &found.vouched {
        writeln!(out, "signed      {}", vouched.shown())?;
    }
    let (tree, data, bytes) = (found.tree_blocks, found.data_blocks, found.proven);
    match failure {
        Some(_) if !found.vouched.as_ref().is_none_or(Vouched::holds) => {
            writeln!(out, "NOT PROVEN  nobody who counts vouches for this digest; nothing was read")?;
        }
        Some(rejection) => {
            writeln!(out, "NOT PROVEN  {rejection}; {bytes} bytes before it have the hashes of the tree")?;
        }
        None if found.descriptor.is_some_and(|descriptor| args.offset >= descriptor.size) => {
            writeln!(out, "proven      that the file with this digest ends before byte {}", args.offset)?;
        }
        None => writeln!(
            out,
            "proven      {bytes} bytes from {} on: {tree} tree blocks lead from the digest to {data} data blocks, \
             and the data read have their hashes",
            args.offset
        )?,
    }
    for open in not_proven(found, good) {
        writeln!(out, "not proven  {open}")?;
    }
    Ok(())
}

fn as_json(args: &ProofArgs, found: &Found, failure: Option<&Rejection>, good: bool) -> serde_json::Value {
    json!({
        "path": args.url.path.to_string(),
        "gateway": found.told.status_shown(),
        "file_digest": found.descriptor.map(|descriptor| descriptor.file_digest().to_string()),
        "size": found.descriptor.map(|descriptor| descriptor.size),
        "signed": found.vouched.as_ref().map(Vouched::as_json),
        "offset": args.offset,
        "proven_bytes": found.proven,
        "tree_blocks": found.tree_blocks,
        "data_blocks": found.data_blocks,
        "failure": failure.map(|r| json!({ "cause": r.cause.as_str(), "detail": r.detail })),
        "not_proven": not_proven(found, good),
        "good": good,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_may_have_a_unit() {
        for (text, number) in [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("3M", 3 << 20),
            ("1G", 1 << 30),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in
            ["", "K", "-1", "+1", "1k", "1KB", "0x10", "1.5M", "18446744073709551616", "99999999T", "1ä"]
        {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
