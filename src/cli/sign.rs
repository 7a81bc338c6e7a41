//! `nfs-verity sign`: evidence for every file of a tree.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::pool::{Done, JOBS, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::seal::{SealError, Sealed, Sealer};
use super::walk::{open_store, parse_paths};
use super::{Outcome, Trouble};
use crate::carrier::Sidecar;
use crate::sign::{Keyring, SigningKey, TrustedKey};
use crate::verity::{BlockSize, HashAlgorithm, Params, Salt};

/// Sign every regular file below ROOT and keep the evidence in ROOT/.nfs-verity
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity sign --key keys/release.key /srv/data
  nfs-verity sign --key keys/release.key /srv/data docs/manual.pdf photos

Files that this key signed before and that are unchanged are skipped. Exit status: 0 all signed,
1 something was left unsigned, 2 usage, 3 I/O trouble.")]
pub(super) struct SignArgs {
    /// The private key, PKCS#8 PEM
    #[arg(long, value_name = "NAME.key")]
    key: PathBuf,
    /// The tree
    root: PathBuf,
    /// Files and directories to sign, relative to ROOT; all of ROOT when there are none
    paths: Vec<PathBuf>,
    /// The hash algorithm: sha256 or sha512
    #[arg(long, value_name = "ALG", default_value = "sha256")]
    hash: HashAlgorithm,
    /// Bytes in a block: a power of two from 1024 to 65536
    #[arg(long, value_name = "N", default_value_t = 4096)]
    block_size: u32,
    /// Salt in hex, at most 32 bytes
    #[arg(long, value_name = "HEX", default_value = "")]
    salt: String,
    /// The tree's name; serve and verify want the same
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// When the signatures end, as in 2027-01-01T00:00:00Z; never when absent
    #[arg(long, value_name = "TIME")]
    expires: Option<jiff::Timestamp>,
    /// Files at a time; one a core when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(JOBS))]
    jobs: Option<u16>,
    /// Sign again what is signed and unchanged
    #[arg(long)]
    force: bool,
    /// Print a JSON object with the counts
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Counts {
    signed: u64,
    unchanged: u64,
    failed: u64,
    store_failed: u64,
}

pub(super) fn run(args: &SignArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let sealer = Arc::new(sealer(args)?);
    let paths = parse_paths(&args.paths)?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let progress = Arc::new(Progress::new());
    let mut counts = Counts::default();
    runtime(jobs)?.block_on(async {
        let work = {
            let (sealer, progress) = (sealer.clone(), progress.clone());
            move |path| {
                let (sealer, progress) = (sealer.clone(), progress.clone());
                async move { sealer.seal(&path, &|bytes| progress.bytes(bytes)).await }
            }
        };
        let mut done = each_file(sealer.store.clone(), paths, jobs, work);
        while let Some(result) = done.recv().await {
            let line = match result {
                Done::File(_, Ok(Sealed::Signed)) => {
                    counts.signed += 1;
                    None
                }
                Done::File(_, Ok(Sealed::Unchanged)) => {
                    counts.unchanged += 1;
                    None
                }
                Done::File(_, Err(error)) => {
                    match error {
                        SealError::Store(_) | SealError::Carrier(_) => counts.store_failed += 1,
                        SealError::Changed(_) | SealError::Verity { .. } | SealError::Sign { .. } => {
                            counts.failed += 1
                        }
                    }
                    Some(error.to_string())
                }
                Done::Trouble(error) => {
                    counts.store_failed += 1;
                    Some(error.to_string())
                }
            };
            progress.files(counts.signed + counts.unchanged);
            if let Some(line) = line {
                progress.around(|| writeln!(std::io::stderr(), "nfs-verity: {line}"))?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    let (bytes, rate) = progress.finish();
    let left = counts.failed + counts.store_failed;
    if args.json {
        let json = serde_json::json!({
            "signed": counts.signed, "unchanged": counts.unchanged, "failed": left, "bytes": bytes,
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(
            out,
            "signed {} files, {} unchanged, {left} left unsigned; {} at {}/s",
            counts.signed,
            counts.unchanged,
            indicatif::HumanBytes(bytes),
            rate_for_people(rate),
        )?;
    }
    match counts {
        Counts { store_failed: 1.., .. } => {
            Err(Trouble::other(format!("{left} files could not be signed; see above")))
        }
        Counts { failed: 1.., .. } => Ok(Outcome::Failed),
        _ => Ok(Outcome::Good),
    }
}

fn rate_for_people(rate: f64) -> indicatif::HumanBytes {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
    indicatif::HumanBytes(rate as u64)
}

fn sealer(args: &SignArgs) -> Result<Sealer, Trouble> {
    let pem = std::fs::read(&args.key).map_err(|source| Trouble::file("read", &args.key, source))?;
    let key = SigningKey::from_pkcs8_pem(&pem)
        .map_err(|error| Trouble::usage(format!("{}: {error}", args.key.display())))?;
    let salt = hex::decode(&args.salt)
        .map_err(|error| Trouble::usage(format!("--salt must be hex digits, two a byte: {error}")))?;
    let params = Params {
        algorithm: args.hash,
        block_size: BlockSize::new(args.block_size).map_err(Trouble::usage)?,
        salt: Salt::new(&salt).map_err(Trouble::usage)?,
    };
    let own = TrustedKey::new(key.public_key().clone(), args.key.display().to_string());
    let store = open_store(&args.root)?;
    Ok(Sealer {
        sidecar: Sidecar::new(store.clone()),
        store,
        key: Arc::new(key),
        own: Keyring::new(vec![own]),
        params,
        namespace: args.namespace.clone(),
        expires: args.expires.map(jiff::Timestamp::as_second),
        force: args.force,
    })
}
