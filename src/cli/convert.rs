//! `nfs-verity convert`: evidence from one carrier to another.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::pool::{Done, JOBS, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::relocate::{MoveError, Moved, Mover};
use super::root::{check_carrier, open_store};
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::carrier::{Appended, CarrierError, CarrierKind, Carriers};

/// Move the evidence of every file below ROOT to another carrier, without signing again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity convert --to xattr /srv/data
  nfs-verity convert --to sidecar --from appended /srv/data bin

Carriers: sidecar (ROOT/.nfs-verity), xattr (extended attributes), appended (behind the data), kernel
(fs-verity of the file system; a file stays sealed for good). What was written is read back before
anything is removed; interrupted, start it again. Exit status: 0 all is in place, 1 something stayed
where it was, 2 usage, 3 I/O trouble.")]
pub(super) struct ConvertArgs {
    /// Where the evidence shall be
    #[arg(long, value_name = "CARRIER")]
    to: CarrierKind,
    /// Where it may be now, in this order; all other carriers when absent
    #[arg(long, value_name = "CARRIER", value_delimiter = ',')]
    from: Vec<CarrierKind>,
    /// The tree: a directory or a URL
    root: PathBuf,
    /// Files and directories, relative to ROOT; all of ROOT when there are none
    paths: Vec<PathBuf>,
    /// Files at a time; one a core when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(JOBS))]
    jobs: Option<u16>,
    /// Print a JSON object with the counts
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Counts {
    moved: u64,
    already: u64,
    without: u64,
    failed: u64,
    store_failed: u64,
}

pub(super) fn run(args: &ConvertArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let paths = parse_paths(&args.paths)?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    check_carrier(&args.root, "--to", args.to)?;
    let runtime = runtime(jobs)?;
    let mover = Arc::new(runtime.block_on(mover(args))?);
    let progress = Arc::new(Progress::new());
    let mut counts = Counts::default();
    runtime.block_on(async {
        let work = {
            let (mover, progress) = (mover.clone(), progress.clone());
            move |path| {
                let (mover, progress) = (mover.clone(), progress.clone());
                async move { mover.relocate(&path, &|bytes| progress.bytes(bytes)).await }
            }
        };
        let mut done = each_file(mover.store.clone(), paths, jobs, work);
        while let Some(result) = done.recv().await {
            let line = match result {
                Done::File(_, Ok(moved)) => {
                    match moved {
                        Moved::Now => counts.moved += 1,
                        Moved::Already => counts.already += 1,
                        Moved::Nothing => counts.without += 1,
                    }
                    None
                }
                Done::File(_, Err(error)) => {
                    match error {
                        MoveError::Store(_) | MoveError::Carrier(CarrierError::Store(_)) => {
                            counts.store_failed += 1;
                        }
                        MoveError::Carrier(_)
                        | MoveError::NoDescriptor(_)
                        | MoveError::Size { .. }
                        | MoveError::Root { .. }
                        | MoveError::Conflict { .. }
                        | MoveError::ReadBack { .. }
                        | MoveError::Verity { .. } => counts.failed += 1,
                    }
                    Some(error.to_string())
                }
                Done::Trouble(error) => {
                    counts.store_failed += 1;
                    Some(error.to_string())
                }
            };
            progress.files(counts.moved + counts.already);
            if let Some(line) = line {
                progress.around(|| writeln!(std::io::stderr(), "nfs-verity: {line}"))?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    progress.finish();
    let left = counts.failed + counts.store_failed;
    let Counts { moved, already, without, .. } = counts;
    if args.json {
        let json = serde_json::json!({
            "moved": moved, "already": already, "without_evidence": without, "failed": left,
        });
        writeln!(out, "{json}")?;
    } else {
        let to = args.to;
        writeln!(
            out,
            "moved {moved} files to {to}, {already} there already, {without} without evidence, {left} left as they were"
        )?;
    }
    match counts {
        Counts { store_failed: 1.., .. } => {
            Err(Trouble::other(format!("{left} files could not be converted; see above")))
        }
        Counts { failed: 1.., .. } => Ok(Outcome::Failed),
        _ => Ok(Outcome::Good),
    }
}

async fn mover(args: &ConvertArgs) -> Result<Mover, Trouble> {
    if args.from.contains(&args.to) {
        return Err(Trouble::usage(format!("--from and --to both name {}; name two carriers", args.to)));
    }
    let store = open_store(&args.root).await?;
    let from = if args.from.is_empty() { &CarrierKind::ALL[..] } else { &args.from };
    let kinds: Vec<_> =
        std::iter::once(args.to).chain(from.iter().copied().filter(|kind| *kind != args.to)).collect();
    let carriers = Carriers::over(&store, &kinds);
    let mut list = carriers.iter().cloned();
    let target = list.next().ok_or_else(|| Trouble::usage("--to must name a carrier"))?;
    Ok(Mover { appended: Appended::new(store.clone()), store, target, sources: list.collect() })
}
