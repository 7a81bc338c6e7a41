//! `nfs-verity strip`: files without the evidence behind their data.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::pool::{Done, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::root::open_store;
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::carrier::{Appended, Carrier as _, CarrierError, Refusal};
use crate::store::{Attributes, StorePath};

/// Bytes copied at once.
const STEP: u64 = 1024 * 1024;

/// Take the evidence behind the data off: the original file, byte for byte
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity strip /srv/data bin/tool
  nfs-verity strip --out /tmp/tool /srv/data bin/tool

The evidence is gone then. To keep it elsewhere, use instead:
  nfs-verity convert --from appended --to sidecar /srv/data bin/tool

Owner, mode, times and extended attributes are kept. Exit status: 0 no trailer is left, 1 something was
left as it was, 2 usage, 3 I/O trouble.")]
pub(super) struct StripArgs {
    /// The tree: a directory or a URL
    root: PathBuf,
    /// Files and directories, relative to ROOT
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Leave the file as it is and write what it was to FILE, which must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print a JSON object with the counts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StripArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let jobs = default_jobs();
    let runtime = runtime(jobs)?;
    let store = runtime.block_on(open_store(&args.root))?;
    let appended = Appended::new(store.clone());
    let paths = parse_paths(&args.paths)?;
    if let Some(target) = &args.out {
        let [path] = &paths[..] else {
            return Err(Trouble::usage("--out takes the copy of one file; name one PATH"));
        };
        return runtime.block_on(copy_out(&appended, path, target));
    }
    let (mut stripped, mut without, mut refused, mut failed) = (0_u64, 0_u64, 0_u64, 0_u64);
    let progress = Progress::new();
    runtime.block_on(async {
        let work = move |path: StorePath| {
            let appended = appended.clone();
            async move { appended.remove(&path).await }
        };
        let mut done = each_file(store, paths, jobs, work);
        while let Some(result) = done.recv().await {
            let line = match result {
                Done::File(_, Ok(())) => {
                    stripped += 1;
                    None
                }
                Done::File(_, Err(CarrierError::Refused { reason: Refusal::NoTrailer, .. })) => {
                    without += 1;
                    None
                }
                Done::File(_, Err(error)) => {
                    match error {
                        CarrierError::Store(_) => failed += 1,
                        _ => refused += 1,
                    }
                    Some(error.to_string())
                }
                Done::Trouble(error) => {
                    failed += 1;
                    Some(error.to_string())
                }
            };
            progress.files(stripped + without);
            if let Some(line) = line {
                progress.around(|| writeln!(std::io::stderr(), "nfs-verity: {line}"))?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    progress.finish();
    let left = refused + failed;
    if args.json {
        let json = serde_json::json!({ "stripped": stripped, "without_trailer": without, "failed": left });
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "stripped {stripped} files, {without} had no trailer, {left} left as they were")?;
    }
    match (failed, refused) {
        (1.., _) => Err(Trouble::other(format!("{left} files could not be stripped; see above"))),
        (0, 1..) => Ok(Outcome::Failed),
        (0, 0) => Ok(Outcome::Good),
    }
}

/// Writes the data of `path` to a new file with the same mode and times.
async fn copy_out(appended: &Appended, path: &StorePath, target: &Path) -> Result<Outcome, Trouble> {
    let (file, size) = match appended.stripped(path).await {
        Ok(found) => found,
        Err(CarrierError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Trouble::other(error)),
    };
    let failed = |source| Trouble::file("write", target, source);
    let written = File::create_new(target).map_err(failed)?;
    let mut at = 0;
    while at < size {
        let data = file.data_range(at, size).await?.unwrap_or(size..size);
        let end = data.end.min(size);
        at = at.max(data.start.min(size));
        while at < end {
            let len = usize::try_from((end - at).min(STEP)).unwrap_or(0);
            let bytes = file.read_at(at, len).await?;
            if bytes.len() != len {
                return Err(Trouble::other(format!("{path}: it changed while it was copied; try again")));
            }
            written.write_all_at(&bytes, at).map_err(failed)?;
            at += len as u64;
        }
        at = at.max(end);
    }
    written.set_len(size).map_err(failed)?;
    let Attributes { mode, mtime, .. } = Attributes::of(&*file).await?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
    written.set_permissions(mode).map_err(failed)?;
    if let Ok(seconds) = u64::try_from(mtime.seconds) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, mtime.nanos);
        written.set_modified(time).map_err(failed)?;
    }
    written.sync_all().map_err(failed)?;
    Ok(Outcome::Good)
}
