//! `nfs-verity verify`: the whole tree, offline.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::modsig::{Appended, appended};
use super::mount::{self, PlaceArgs, Plan};
use super::pool::{Done, JOBS, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::root::{address, open_store};
use super::trust::{CarrierArgs, TrustArgs};
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::carrier::CarrierKind;
use crate::event::{Cause, Silent};
use crate::export::{
    BadBlock, Examination, Export, ExportOptions, HandleKey, Identity, ProofDirectory, Repair, WholeFiles,
    Xattrs,
};
use crate::policy::Mode;
use crate::sign::{Format, Keyring};
use crate::store::{Store, StorePath};

/// Memory for proven tree blocks.
const CACHE: u64 = 32 * 1024 * 1024;

/// Check every file below ROOT against its evidence: without a gateway, or against one (--mount)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity verify --trust keys/ /srv/data
  nfs-verity verify --trust keys/ nfs://filer/export
  nfs-verity verify --mount --trust keys/ /mnt/data

One line for each file that fails: path, cause, block. With --mount, one line for each file: what was found
out here, and whether the gateway's own word was right. Exit status: 0 all good, 1 something failed or is
unsigned, 2 usage or configuration, 3 I/O trouble. With --mount it is 1, too, when there is no file at all or
the gateway tells a digest that its own descriptor does not have.")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    carriers: CarrierArgs,
    /// The tree: a directory or a URL
    root: PathBuf,
    /// Files and directories to check, relative to ROOT; all of ROOT when there are none
    paths: Vec<PathBuf>,
    /// The tree's name, as it was signed
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// Files at a time; one a core when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(JOBS))]
    jobs: Option<u16>,
    /// Print a JSON object for each failing file (with --mount for each file), and one with the counts
    #[arg(long)]
    json: bool,
    /// ROOT lies on an NFS mount of a gateway: take what proves the files from there, and trust it with nothing
    #[arg(long, conflicts_with = "carrier")]
    mount: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// An export for looking at files, not for serving them.
pub(super) async fn offline_export(
    store: Arc<dyn Store>,
    (replicas, repair): (Vec<Arc<dyn Store>>, Repair),
    carriers: &[CarrierKind],
    namespace: &str,
    keyring: Keyring,
) -> Result<Export, Trouble> {
    let options = ExportOptions {
        store,
        waits: false,
        repair: (!replicas.is_empty()).then_some(repair),
        replicas,
        namespace: namespace.to_owned(),
        carriers: carriers.to_vec(),
        keyring,
        // Nobody is told to come back later.
        whole_files: WholeFiles {
            patience: Duration::from_secs(u64::from(u32::MAX)),
            ..WholeFiles::default()
        },
        mode: Mode::Enforce,
        identity: Identity::default(),
        cache_bytes: CACHE,
        disk_cache: None,
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[0; 32]),
        sink: Arc::new(Silent),
    };
    Ok(Export::new(options).await?)
}

pub(super) fn run(args: &VerifyArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let keyring = args.trust.keyring()?;
    if args.mount {
        if address(&args.root)?.local().is_none() {
            return Err(Trouble::usage(
                "--mount takes a directory on a mount; without it the store itself is checked",
            ));
        }
        if args.trust.accept.contains(Format::Modsig) {
            return Err(Trouble::usage("--mount does not look for appended signatures (--accept modsig)"));
        }
        let jobs = args.jobs.map_or_else(default_jobs, usize::from);
        let plan = Plan { keyring, namespace: &args.namespace, root: &args.root, paths: &args.paths, jobs };
        return mount::run(&plan, &args.place, args.json, out);
    }
    let paths = parse_paths(&args.paths)?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let progress = Arc::new(Progress::new());
    let (mut good, mut bad, mut unread) = (0_u64, 0_u64, 0_u64);
    runtime(jobs)?.block_on(async {
        let store = open_store(&args.root).await?;
        let carriers = &args.carriers.carrier;
        let export = Arc::new(
            offline_export(store.clone(), Default::default(), carriers, &args.namespace, keyring.clone())
                .await?,
        );
        let work = {
            let (progress, store) = (progress.clone(), store.clone());
            let modsig = args.trust.accept.contains(Format::Modsig);
            move |path: StorePath| {
                let (export, progress) = (export.clone(), progress.clone());
                let (store, keyring) = (store.clone(), modsig.then(|| keyring.clone()));
                async move {
                    match export.examine(&path, |bytes| progress.bytes(bytes)).await {
                        Ok(Examination::Refused { cause: Cause::Unsigned, detail }) => {
                            Ok(by_module_signature(&*store, &path, keyring.as_ref(), detail).await)
                        }
                        examined => examined,
                    }
                }
            }
        };
        let mut done = each_file(store, paths, jobs, work);
        while let Some(result) = done.recv().await {
            let trouble = match result {
                Done::File(_, Ok(Examination::Good { .. })) => {
                    good += 1;
                    progress.files(good + bad);
                    None
                }
                Done::File(path, Ok(examination)) => {
                    bad += 1;
                    progress.around(|| tell(args.json, &path, &examination, out))?;
                    None
                }
                Done::File(path, Err(error)) => Some((path, error.to_string())),
                Done::Trouble(error) => Some((error.path.clone(), error.to_string())),
            };
            if let Some((path, error)) = trouble {
                unread += 1;
                progress.around(|| {
                    writeln!(std::io::stderr(), "nfs-verity: {path}: cannot be checked: {error}")
                })?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    let (bytes, _) = progress.finish();
    if args.json {
        let json = serde_json::json!({ "good": good, "failed": bad, "unreadable": unread, "bytes": bytes });
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "{good} files good, {bad} failed, {unread} could not be read")?;
    }
    match (unread, bad) {
        (0, 0) => Ok(Outcome::Good),
        (0, _) => Ok(Outcome::Failed),
        _ => Err(Trouble::other(format!("{unread} files could not be read; see above"))),
    }
}

/// What a file is that has no evidence, but may have a signature appended to its content. It counts for
/// the keys of `keyring`; without one it is only told.
async fn by_module_signature(
    store: &dyn Store,
    path: &StorePath,
    keyring: Option<&Keyring>,
    detail: String,
) -> Examination {
    let refused = |cause, detail| Examination::Refused { cause, detail };
    let Appended { content, claims, signers } = match appended(store, path, keyring).await {
        Ok(Some(appended)) => appended,
        Ok(None) => return refused(Cause::Unsigned, detail),
        Err(trouble) => return refused(Cause::Unreadable, trouble.to_string()),
    };
    match (claims, signers) {
        (Err(error), _) if keyring.is_none() => refused(Cause::Unsigned, format!("{detail}; {error}")),
        (Err(error), _) => refused(Cause::MalformedEvidence, error),
        (Ok(_), Some(Ok(signers))) => {
            Examination::Good { bytes: content, signers, carrier: CarrierKind::Appended, hashed: true }
        }
        (Ok(_), Some(Err(rejection))) => refused(rejection.cause, rejection.detail),
        (Ok(claims), None) => {
            let by = claims.join(", ");
            let detail = format!(
                "{detail}; a module signature by {by} covers its first {content} bytes, which --accept modsig counts"
            );
            refused(Cause::Unsigned, detail)
        }
    }
}

fn tell(
    json: bool,
    path: &StorePath,
    examination: &Examination,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    let (cause, detail, blocks, count) = match examination {
        Examination::Good { .. } => return Ok(()),
        Examination::Refused { cause, detail } => (*cause, detail.as_str(), &[][..], 0),
        Examination::Damaged { blocks, count } => {
            let first = blocks.first();
            let cause = first.map_or(Cause::BadBlock, |block| block.cause);
            (cause, first.map_or("", |block| block.detail.as_str()), &blocks[..], *count)
        }
    };
    if json {
        let blocks: Vec<_> = blocks
            .iter()
            .map(|block| {
                let BadBlock { cause, block, level, detail } = block;
                serde_json::json!({
                    "cause": cause.as_str(), "block": block, "level": level, "detail": detail,
                })
            })
            .collect();
        let json = serde_json::json!({
            "path": path.to_string(), "cause": cause.as_str(), "detail": detail,
            "failing_blocks": count, "blocks": blocks,
        });
        writeln!(out, "{json}")?;
        return Ok(());
    }
    write!(out, "{path}: {cause}")?;
    if let Some(block) = blocks.first() {
        match block.level {
            Some(level) => write!(out, " {} at level {level}", block.block)?,
            None => write!(out, " {}", block.block)?,
        }
        if count > 1 {
            write!(out, " and {} more", count - 1)?;
        }
    }
    if !detail.is_empty() {
        write!(out, " ({detail})")?;
    }
    writeln!(out, "; {}", cause.remedy())?;
    Ok(())
}
