//! `nfs-verity scrub`: the whole store, in turn, at a rate.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::pool::{JOBS, default_jobs, runtime};
use super::progress::Progress;
use super::root::open_at;
use super::trust::{CarrierArgs, TrustArgs};
use super::verify::offline_export;
use super::{Outcome, Trouble};
use crate::app::interruption;
use crate::event::{Cause, Event, Finding, ScrubFinding, ScrubTotals, Silent};
use crate::export::Repair;
use crate::scrub::{Copies, Mend, Options, Pace, Paced, Scrub, ScrubError, Summary};
use crate::store::{OpenOptions, Store, StoreAddress, StorePath};

/// How long one call to a store may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Prove every block of a store in turn, at a rate, and go on where it was interrupted
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity scrub --store s3://bucket/data --trust keys/ --rate 20
  nfs-verity scrub --store /srv/data --replica nfs://spare/data --repair --trust keys/

One line for each finding: a file that does not verify, evidence without a file, an unfinished file that is a
day old. With --replica each store's copy of a file is proven in turn, counts as a file, and is told with the
store's name where it is damaged or missing. Ctrl-C, a crash or kill -9 loses at most the files under way: called again, it goes on behind the last
one that is done and counts on. Exit status: 0 all good, 1 findings that are left or interrupted, 2 usage or
configuration, 3 I/O trouble, or something could not be read.")]
pub(super) struct ScrubArgs {
    /// The store: a directory, or a URL such as nfs://HOST/EXPORT or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    store: OsString,
    /// A store with the same tree, whose copies are proven, too; may be given several times
    #[arg(long, value_name = "URL")]
    replica: Vec<OsString>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    carriers: CarrierArgs,
    /// Put right what can be: from the replicas, missing files too, and remove old unfinished files
    #[arg(long)]
    repair: bool,
    /// Seconds that data must lie untouched before --repair takes them for damaged, for new ones may be about to
    /// be signed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    repair_after: u32,
    /// MB (of 1,000,000 bytes) to read a second at most; as fast as it goes when absent
    #[arg(long, value_name = "MB/s", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Where its place is kept [default: one directory a store below the user's state directory]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The tree's name, as it was signed
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// Files at a time; one a core when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(JOBS))]
    jobs: Option<u16>,
    /// Print a JSON object for each finding, and one with the counts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ScrubArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let keyring = args.trust.keyring()?;
    let address = |text: &OsString| StoreAddress::parse(text).map_err(Trouble::usage);
    let store = address(&args.store)?;
    let replicas = args.replica.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    let name = canonical(&store);
    let state = args.state.clone().map_or_else(|| default_state(&name), Ok)?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let rate = args.rate.and_then(|rate| NonZeroU64::new(rate.saturating_mul(1_000_000)));
    let progress = Progress::new();
    let (summary, written) = runtime(jobs)?.block_on(async {
        let interrupted = interruption()
            .map_err(|source| Trouble::Io { context: "cannot wait for signals".into(), source })?;
        let options = OpenOptions { timeout: TIMEOUT, sink: Arc::new(Silent) };
        let settle = Duration::from_secs(args.repair_after.into());
        let paced = Paced::new(open_at(&store).await?, Pace { rate, clients: None });
        let mut copies: Vec<Arc<dyn Store>> = Vec::new();
        for address in &replicas {
            copies.push(Arc::new(paced.beside(address.open(&options).await?)));
        }
        let store: Arc<dyn Store> = Arc::new(paced);
        let carriers = &args.carriers.carrier;
        let repair = (copies.clone(), Repair { settle, restore: true });
        let export = offline_export(store.clone(), repair, carriers, &args.namespace, keyring).await?;
        let export = Arc::new(export);
        let mends = args.repair && !copies.is_empty();
        let scrub = Scrub::new(Options {
            mend: mends.then(|| Arc::new(Copies { export: export.clone() }) as Arc<dyn Mend>),
            export,
            store,
            replicas: copies,
            name,
            namespace: args.namespace.clone(),
            jobs,
            state,
            clean: args.repair,
        })
        .map_err(trouble)?;
        let (mut written, closed) = (Ok(()), Notify::new());
        let mut files = 0;
        let mut tell = |event: &Event<'_>| {
            let said = match event {
                Event::Scrubbed { bytes } => {
                    files += 1;
                    progress.bytes(*bytes);
                    progress.files(files);
                    Ok(())
                }
                Event::ScrubStarted { after, note, .. } => progress.around(|| begin(*after, note)),
                // Flushed, for what is told is not told again when the next one goes on.
                Event::ScrubFound(found) => progress.around(|| {
                    tell_finding(args.json, found, out)?;
                    out.flush()
                }),
                _ => Ok(()),
            };
            if let Err(error) = said
                && written.is_ok()
            {
                written = Err(error);
                closed.notify_one();
            }
        };
        let stop = async {
            tokio::select! {
                () = interrupted => {}
                // Nobody reads what is found.
                () = closed.notified() => {}
            }
        };
        let summary = scrub.run(stop, &mut tell).await.map_err(trouble)?;
        Ok::<_, Trouble>((summary, written))
    })?;
    progress.finish();
    written?;
    conclude(args.json, &summary, out)
}

fn trouble(error: ScrubError) -> Trouble {
    match error {
        ScrubError::Store(error) => Trouble::Store(error),
        error @ ScrubError::State { .. } => {
            Trouble::other(format!("{error}; --state names another directory"))
        }
    }
}

/// Where a scrub begins is no part of what it found.
fn begin(after: Option<&[u8]>, note: &str) -> io::Result<()> {
    let mut err = io::stderr();
    if !note.is_empty() {
        writeln!(err, "nfs-verity: {note}")?;
    }
    if let Some(after) = after.and_then(|after| StorePath::parse(after).ok()) {
        writeln!(err, "nfs-verity: goes on behind {after}")?;
    }
    Ok(())
}

fn tell_finding(json: bool, found: &ScrubFinding<'_>, out: &mut impl Write) -> io::Result<()> {
    let ScrubFinding { path, store, finding, detail, block, level, blocks, repaired } = *found;
    let path = StorePath::parse(path).unwrap_or_else(|_| StorePath::root());
    if json {
        let json = serde_json::json!({
            "path": path.to_string(), "store": store, "finding": finding.as_str(), "detail": detail, "block": block,
            "level": level, "failing_blocks": blocks, "repaired": repaired,
        });
        return writeln!(out, "{json}");
    }
    write!(out, "{path}")?;
    if let Some(store) = store {
        write!(out, " on {store}")?;
    }
    write!(out, ": {}", finding.as_str())?;
    if let Some(block) = block {
        write!(out, " {block}")?;
        if let Some(level) = level {
            write!(out, " at level {level}")?;
        }
        if blocks > 1 {
            write!(out, " and {} more", blocks - 1)?;
        }
    }
    if !detail.is_empty() {
        write!(out, " ({detail})")?;
    }
    match repaired {
        true => writeln!(out, "; repaired"),
        false => writeln!(out, "; {}", finding.remedy()),
    }
}

fn conclude(json: bool, summary: &Summary, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let Summary { complete, totals } = summary;
    let ScrubTotals { files, good, bytes, findings, repaired } = totals;
    let unread = totals.count(Finding::Failed(Cause::Unreadable));
    if json {
        let findings: serde_json::Map<_, _> =
            findings.iter().map(|(what, count)| (what.as_str().to_owned(), (*count).into())).collect();
        let json = serde_json::json!({
            "complete": complete, "files": files, "good": good, "bytes": bytes, "findings": findings,
            "repaired": repaired,
        });
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{files} files, {bytes} bytes: {good} good")?;
        for (what, count) in findings {
            write!(out, ", {count} {}", what.as_str())?;
        }
        if *repaired > 0 {
            write!(out, ", of which {repaired} repaired")?;
        }
        writeln!(out, "{}", if *complete { "" } else { "; interrupted, and goes on when called again" })?;
    }
    match (complete, unread, totals.left()) {
        (true, _, 0) => Ok(Outcome::Good),
        (true, 1.., _) => Err(Trouble::other(format!("{unread} files could not be read; see above"))),
        (true, 0, _) | (false, ..) => Ok(Outcome::Failed),
    }
}

/// The store's name, the same from wherever it is called.
fn canonical(store: &StoreAddress) -> String {
    match store.local().and_then(|path| path.canonicalize().ok()) {
        Some(path) => path.display().to_string(),
        None => store.to_string(),
    }
}

/// A directory of the user's, one for each store.
fn default_state(store: &str) -> Result<PathBuf, Trouble> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let base = base.ok_or_else(|| {
        Trouble::other("there is no place to keep how far a scrub has come: neither XDG_STATE_HOME nor HOME is set; give --state DIR")
    })?;
    let name: String =
        hex::encode(Sha256::digest(std::ffi::OsStr::new(store).as_bytes())).chars().take(16).collect();
    Ok(base.join("nfs-verity").join(name))
}
