//! `nfs-verity sign`: evidence for every file of a tree, or one more signature on what there is.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::mint::Mint;
use super::pool::{Done, JOBS, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::root::{address, check_carrier, open_store};
use super::rotate::Rotator;
use super::seal::{SealError, Sealed, Sealer};
use super::signer::{HELP, SignerArgs, certificates, open_signer};
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::carrier::{CarrierKind, Carriers};
use crate::config::load_keyring;
use crate::sign::{Format, FormatSet, KeyId, Keyring, Requirements, TrustedKey};
use crate::store::{Store, StorePath};
use crate::verity::{BlockSize, HashAlgorithm, Params, Salt};

/// Sign every regular file below ROOT, or add a key's signatures to those that are there
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{HELP}"))]
pub(super) struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// The tree: a directory or a URL
    root: PathBuf,
    /// Files and directories to sign, relative to ROOT; all of ROOT when there are none
    paths: Vec<PathBuf>,
    /// Formats of the signatures, with commas between them: native, fsverity, ima-v3, ima-v2
    #[arg(long, value_name = "FORMATS", default_value_t = FormatSet::NATIVE)]
    format: FormatSet,
    /// The signing key's X.509 certificate: named in fsverity signatures, its key id in those of IMA
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Certificates between that one and an authority, kept with the evidence
    #[arg(long, value_name = "FILE", requires = "cert")]
    chain: Vec<PathBuf>,
    /// Where the evidence goes: sidecar (ROOT/.nfs-verity), xattr, appended or kernel; with --add, where
    /// it is looked for (everywhere when absent)
    #[arg(long, value_name = "CARRIER")]
    carrier: Option<CarrierKind>,
    /// Add this key's signatures to evidence that --trust proves, without hashing the files again (but for
    /// ima-v2, which is over the whole file: that is read once, and proven on the way)
    #[arg(long, requires = "trust", conflicts_with_all = NEW)]
    add: bool,
    /// Keys that the evidence must be signed with before a signature is added: a file or a directory
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// Add, and drop the signatures of the key with this id, which must be among --trust
    #[arg(long, value_name = "KEYID", requires = "trust", conflicts_with_all = NEW)]
    replace: Option<KeyId>,
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
    /// Tell in native signatures when they were made, which policies may ask for
    #[arg(long)]
    dated: bool,
    /// Files at a time; one a core when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(JOBS))]
    jobs: Option<u16>,
    /// Drop from the page cache what is read, so that a large tree leaves there what was there before
    #[arg(long)]
    drop_behind: bool,
    /// Sign again what is signed and unchanged
    #[arg(long)]
    force: bool,
    /// Print a JSON object with the counts
    #[arg(long)]
    json: bool,
}

/// What new evidence is made of, and evidence that is there keeps.
const NEW: [&str; 7] = ["hash", "block_size", "salt", "expires", "dated", "drop_behind", "force"];

const EXAMPLES: &str = "\
Examples:
  nfs-verity sign --key keys/release.key /srv/data
  nfs-verity sign --key keys/release.key /srv/data docs/manual.pdf photos
  nfs-verity sign --key keys/boot.key --cert keys/boot.crt --format native,fsverity,ima-v2 /srv/data
  nfs-verity sign --add --trust keys/old.pub --key keys/new.key /srv/data
  nfs-verity sign --key keys/release.key s3://bucket/data
  nfs-verity sign --replace KEYID --trust keys/old.pub --key keys/new.key /srv/data

Files that this key signed before and that are unchanged are skipped, so that an interrupted
run goes on where it was; whether an ima-v2 signature holds is not looked at then, since that
would take reading the file (--force signs again). Exit status: 0 all signed, 1 something was
left unsigned, 2 usage, 3 I/O trouble.";

#[derive(Default)]
struct Counts {
    signed: u64,
    unchanged: u64,
    failed: u64,
    store_failed: u64,
}

impl Counts {
    fn count_failed(&mut self, error: &SealError) {
        match error {
            SealError::Store(_) | SealError::Carrier(_) => self.store_failed += 1,
            SealError::Changed(_)
            | SealError::Verity { .. }
            | SealError::Sign { .. }
            | SealError::Unsigned(_)
            | SealError::Unproven { .. }
            | SealError::Content(_)
            | SealError::LastNative(_) => self.failed += 1,
        }
    }
}

/// What is done to a file.
enum Work {
    Seal(Sealer),
    Rotate(Rotator),
}

impl Work {
    fn store(&self) -> &Arc<dyn Store> {
        match self {
            Self::Seal(sealer) => &sealer.store,
            Self::Rotate(rotator) => &rotator.store,
        }
    }

    async fn on(&self, path: &StorePath, progress: &Progress) -> Result<Sealed, SealError> {
        let bytes = |count| progress.bytes(count);
        match self {
            Self::Seal(sealer) => sealer.seal(path, &bytes).await,
            Self::Rotate(rotator) => rotator.rotate(path, jiff::Timestamp::now().as_second(), &bytes).await,
        }
    }
}

pub(super) fn run(args: &SignArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let paths = parse_paths(&args.paths)?;
    // Before anybody is asked for a passphrase.
    address(&args.root)?;
    if let Some(kind) = args.carrier {
        check_carrier(&args.root, "--carrier", kind)?;
    }
    let runtime = runtime(jobs)?;
    let store = runtime.block_on(open_store(&args.root))?;
    let work = Arc::new(work(args, store)?);
    let progress = Arc::new(Progress::new());
    let mut counts = Counts::default();
    runtime.block_on(async {
        let each = {
            let (work, progress) = (work.clone(), progress.clone());
            move |path| {
                let (work, progress) = (work.clone(), progress.clone());
                async move { work.on(&path, &progress).await }
            }
        };
        let mut done = each_file(work.store().clone(), paths, jobs, each);
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
                    counts.count_failed(&error);
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

fn work(args: &SignArgs, store: Arc<dyn Store>) -> Result<Work, Trouble> {
    let mut certificate = Vec::new();
    if let Some(path) = &args.cert {
        certificate = certificates(path)?;
    }
    let mut certificate = certificate.into_iter();
    // What follows the certificate in its file is its chain.
    let (own, mut chain) = (certificate.next(), certificate.collect::<Vec<_>>());
    for path in &args.chain {
        chain.extend(certificates(path)?);
    }
    let signer = open_signer(&args.signer)?;
    let own_key = Keyring::new(vec![TrustedKey::new(signer.public_key().clone(), "signer")]);
    let mint = Mint::new(signer, own, chain, args.format)?;
    if args.add || args.replace.is_some() {
        return rotator(args, store, mint, own_key).map(Work::Rotate);
    }
    if args.trust.is_some() {
        return Err(Trouble::usage(
            "--trust belongs to --add and --replace; to sign anew, nobody has to be trusted",
        ));
    }
    let salt = hex::decode(&args.salt)
        .map_err(|error| Trouble::usage(format!("--salt must be hex digits, two a byte: {error}")))?;
    let params = Params {
        algorithm: args.hash,
        block_size: BlockSize::new(args.block_size).map_err(Trouble::usage)?,
        salt: Salt::new(&salt).map_err(Trouble::usage)?,
    };
    let kind = args.carrier.unwrap_or(CarrierKind::Sidecar);
    let carriers = Carriers::over(&store, &[kind]);
    let carrier = carriers.get(kind).ok_or_else(|| Trouble::other(format!("no {kind} carrier")))?.clone();
    Ok(Work::Seal(Sealer {
        store,
        carrier,
        mint,
        own: own_key,
        params,
        namespace: args.namespace.clone(),
        expires: args.expires.map(jiff::Timestamp::as_second),
        dated: args.dated,
        force: args.force,
        drop_behind: args.drop_behind,
    }))
}

fn rotator(args: &SignArgs, store: Arc<dyn Store>, mint: Mint, own: Keyring) -> Result<Rotator, Trouble> {
    let trust = args.trust.as_deref().ok_or_else(|| Trouble::usage("--add and --replace need --trust"))?;
    // Whatever format proves the evidence will do: a key's own limits stay.
    let trusted = load_keyring(trust, Format::ALL.into_iter().collect()).map_err(Trouble::usage)?;
    // One signer proves it: where several are required, the others come one by one.
    let trusted = trusted.with_required(Requirements::default());
    let replaced = args.replace.map(|id| {
        if id == mint.key().key_id() {
            return Err(Trouble::usage("--replace names the key that signs; it would leave nothing"));
        }
        trusted.get(&id).cloned().ok_or_else(|| {
            Trouble::usage(format!("--replace: no key in {} has the id {id}", trust.display()))
        })
    });
    let kinds = args.carrier.map_or_else(|| CarrierKind::ALL.to_vec(), |kind| vec![kind]);
    Ok(Rotator {
        carriers: Carriers::over(&store, &kinds),
        store,
        mint,
        own,
        trusted,
        replaced: replaced.transpose()?,
        namespace: args.namespace.clone(),
    })
}
