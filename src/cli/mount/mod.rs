//! `nfs-verity verify --mount`: a client checks a gateway, on a mount, by its own trust alone.
//!
//! Descriptor and signatures come from the mount, and so does every byte that is hashed. What the gateway
//! says of a file itself is compared with what is found out, and believed in nothing.

mod check;
mod place;
#[cfg(test)]
mod tests;
mod told;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

pub(super) use place::PlaceArgs;

use super::pool::{Done, each_file_in, runtime};
use super::progress::Progress;
use super::walk::{Passed, Scope};
use super::{Outcome, Trouble, signers};
use crate::sign::Keyring;
use crate::store::{Local, Store, StorePath};
use check::{Checked, Checker, Verdict, Word};

/// What is to be checked.
pub(super) struct Plan<'a> {
    pub(super) keyring: Keyring,
    pub(super) namespace: &'a str,
    /// A directory or file on the mount.
    pub(super) root: &'a Path,
    /// What of it; all of it when there are none.
    pub(super) paths: &'a [PathBuf],
    pub(super) jobs: usize,
}

#[derive(Default)]
struct Counts {
    good: u64,
    bad: u64,
    unread: u64,
    right: u64,
    wrong: u64,
    contradictions: u64,
    falsely_verified: u64,
}

impl Counts {
    fn take(&mut self, checked: &Checked) {
        match &checked.verdict {
            Verdict::Good { .. } => self.good += 1,
            Verdict::Bad(_) => self.bad += 1,
            Verdict::Withheld(_) if checked.word == Word::Right => self.bad += 1,
            Verdict::Withheld(_) => self.unread += 1,
        }
        match &checked.word {
            Word::Right => self.right += 1,
            Word::Wrong(_) => self.wrong += 1,
            Word::Contradiction(_) => {
                self.wrong += 1;
                self.contradictions += 1;
            }
            Word::FalselyVerified => {
                self.wrong += 1;
                self.falsely_verified += 1;
            }
            Word::Nothing => {}
        }
    }

    fn tell(&self, json: bool, bytes: u64, around: &Around<'_>, out: &mut impl Write) -> Result<(), Trouble> {
        let Self { good, bad, unread, right, wrong, contradictions, falsely_verified } = self;
        let (others, hidden) = (around.passed.others(), around.passed.hidden());
        let Around { root, above, proofs, .. } = around;
        if json {
            let counts = json!({
                "root": root.display().to_string(), "root_path": above.to_string(),
                "good": good, "failed": bad, "unreadable": unread, "bytes": bytes,
                "links_and_special_files": others, "proof_directory_passed_over": hidden,
                "gateway_right": right, "gateway_wrong": wrong, "contradictions": contradictions,
                "falsely_verified": falsely_verified,
            });
            writeln!(out, "{counts}")?;
            return Ok(());
        }
        let slash = if above.is_root() { "" } else { "/" };
        writeln!(out, "{} is taken for {slash}{above} of the export (--root, --root-path)", root.display())?;
        if others > 0 {
            writeln!(out, "not checked: {others} symbolic links and special files")?;
        }
        if hidden {
            writeln!(out, "not checked: what lies below {proofs}, which is evidence (--proof-directory)")?;
        }
        writeln!(out, "{good} files good, {bad} failed, {unread} could not be read")?;
        writeln!(out, "the gateway was right about {right} files and wrong about {wrong}")?;
        if *falsely_verified > 0 {
            writeln!(
                out,
                "DO NOT TRUST THIS GATEWAY: {falsely_verified} files that it calls verified are not"
            )?;
        }
        Ok(())
    }
}

/// Where the files are, and what is there beside them.
struct Around<'a> {
    root: &'a Path,
    above: &'a StorePath,
    proofs: &'a StorePath,
    passed: &'a Passed,
}

pub(super) fn run(
    plan: &Plan<'_>,
    place: &PlaceArgs,
    json: bool,
    out: &mut (impl Write + Send),
) -> Result<Outcome, Trouble> {
    let place = place.find(plan.root, plan.paths)?;
    let store: Arc<dyn Store> = Arc::new(Local::new(&place.root)?);
    let progress = Arc::new(Progress::new());
    let mut counts = Counts::default();
    let checker = Arc::new(Checker {
        store: store.clone(),
        keyring: plan.keyring.clone(),
        namespace: plan.namespace.to_owned(),
        above: place.above.clone(),
        proofs: place.proofs.clone(),
    });
    let passed = Arc::new(Passed::default());
    // Below another directory of the export the name is one like all others.
    let hidden = place.above.is_root().then(|| place.proofs.clone());
    let scope = Scope { hidden, passed: Some(passed.clone()) };
    runtime(plan.jobs)?.block_on(async {
        let work = {
            let progress = progress.clone();
            move |path: StorePath| {
                let (checker, progress) = (checker.clone(), progress.clone());
                async move { checker.check(&path, |bytes| progress.bytes(bytes)).await }
            }
        };
        let mut done = each_file_in(scope, store, place.paths, plan.jobs, work);
        while let Some(result) = done.recv().await {
            let trouble = match result {
                Done::File(path, Ok(checked)) => {
                    counts.take(&checked);
                    progress.files(counts.good + counts.bad);
                    progress.around(|| tell(json, &path, &checked, out))?;
                    None
                }
                Done::File(path, Err(error)) => Some((path, error.to_string())),
                Done::Trouble(error) => Some((error.path.clone(), error.to_string())),
            };
            if let Some((path, error)) = trouble {
                counts.unread += 1;
                progress.around(|| {
                    writeln!(std::io::stderr(), "nfs-verity: {path}: cannot be checked: {error}")
                })?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    let (bytes, _) = progress.finish();
    let around = Around { root: &place.root, above: &place.above, proofs: &place.proofs, passed: &passed };
    counts.tell(json, bytes, &around, out)?;
    match (counts.unread, counts.bad) {
        // Nothing was proven of nothing.
        (0, 0) if counts.good == 0 || counts.contradictions > 0 => Ok(Outcome::Failed),
        (0, 0) => Ok(Outcome::Good),
        (0, _) => Ok(Outcome::Failed),
        // What is false is the graver news.
        _ if counts.falsely_verified > 0 => Ok(Outcome::Failed),
        (unread, _) => Err(Trouble::other(format!("{unread} files could not be read; see above"))),
    }
}

fn tell(json: bool, path: &StorePath, checked: &Checked, out: &mut impl Write) -> Result<(), Trouble> {
    if json {
        writeln!(out, "{}", as_json(path, checked))?;
        return Ok(());
    }
    match &checked.verdict {
        Verdict::Good { signers: by, .. } => {
            write!(out, "{path}: ok by {}", signers::shown(by))?;
            if !signers::bind_the_path(by) {
                write!(out, "; not proven {}", signers::UNBOUND)?;
            }
        }
        Verdict::Bad(rejection) => {
            write!(out, "{path}: {} ({})", rejection.cause, rejection.detail)?;
        }
        Verdict::Withheld(error) => write!(out, "{path}: not given out ({error})")?,
    }
    let status = checked.status.as_deref().unwrap_or_default();
    let says = if checked.status.is_some() { format!("says {status}, and is") } else { "is".to_owned() };
    match &checked.word {
        Word::Nothing => writeln!(out, "; the gateway says nothing of it that could be judged")?,
        Word::Right => writeln!(out, "; the gateway {says} right")?,
        Word::Wrong(why) | Word::Contradiction(why) => writeln!(out, "; the gateway {says} wrong: {why}")?,
        Word::FalselyVerified => writeln!(out, "; THE GATEWAY SAYS {status}, AND THAT IS NOT SO")?,
    }
    Ok(())
}

fn as_json(path: &StorePath, checked: &Checked) -> Value {
    let mut all = serde_json::Map::new();
    let mut put = |key: &str, value: Value| _ = all.insert(key.to_owned(), value);
    put("path", path.to_string().into());
    put("good", matches!(checked.verdict, Verdict::Good { .. }).into());
    match &checked.verdict {
        Verdict::Good { signers: by, digest } => {
            put("file_digest", digest.clone().into());
            put("signers", signers::as_json(by));
            put("path_bound", signers::bind_the_path(by).into());
        }
        Verdict::Bad(rejection) => {
            put("cause", rejection.cause.as_str().into());
            put("detail", rejection.detail.as_str().into());
        }
        Verdict::Withheld(error) => {
            put("cause", "withheld".into());
            put("detail", error.as_str().into());
        }
    }
    let (right, detail) = match &checked.word {
        Word::Nothing => (None, None),
        Word::Right => (Some(true), None),
        Word::Wrong(why) | Word::Contradiction(why) => (Some(false), Some(why.as_str())),
        Word::FalselyVerified => (Some(false), Some("it says verified, and that is not so")),
    };
    put("gateway", json!({ "status": checked.status, "right": right, "detail": detail }));
    all.into()
}
