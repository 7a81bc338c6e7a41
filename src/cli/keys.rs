//! `nfs-verity keys list`: who is trusted, for what, until when, and what each key signs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::pool::{Done, default_jobs, each_file, runtime};
use super::progress::Progress;
use super::root::open_store;
use super::trust::TrustArgs;
use super::{Outcome, Trouble};
use crate::carrier::{CarrierError, CarrierKind, Carriers, Evidence};
use crate::sign::{
    Authority, Certificate, Expected, Format, KeyId, Keyring, Limits, Listed, TrustedKey, verify,
};
use crate::store::StorePath;
use crate::verity::Descriptor;

/// Revocations that people are shown, at most; JSON has them all.
const REVOKED_SHOWN: usize = 20;

/// Look at a trust directory: keys, certificates, limits, revocations
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

const EXAMPLES: &str = "\
Examples:
  nfs-verity keys list --trust keys/
  nfs-verity keys list --trust keys/ --store /srv/data --json";

#[derive(Debug, Subcommand)]
enum KeysCommand {
    List(ListArgs),
}

/// List what is trusted: for what, until when, and how many files each key signs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct ListArgs {
    #[command(flatten)]
    trust: TrustArgs,
    /// Count the files of this tree that each key signs, whatever limits and revocations say. The content
    /// is not read, so ima-v2, which is over the content alone, does not count
    #[arg(long, value_name = "ROOT")]
    store: Option<PathBuf>,
    /// The tree's name, as it was signed; with --store
    #[arg(long, value_name = "NAME", default_value = "", requires = "store")]
    namespace: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeysArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    match &args.command {
        KeysCommand::List(args) => list(args, out),
    }
}

fn list(args: &ListArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let keyring = args.trust.keyring()?;
    let counted = match &args.store {
        Some(root) => Some(count(root, &args.namespace, &keyring)?),
        None => None,
    };
    let now = jiff::Timestamp::now().as_second();
    let rows = rows(&keyring, counted.as_ref(), now);
    if args.json {
        writeln!(out, "{:#}", as_json(&keyring, &rows, counted.as_ref()))?;
    } else {
        for_people(out, &keyring, &rows, counted.as_ref())?;
    }
    match counted.map_or(0, |counted| counted.unread) {
        0 => Ok(Outcome::Good),
        unread => Err(Trouble::other(format!("{unread} files could not be read; see above"))),
    }
}

/// A key or an authority, as it is listed.
struct Row<'a> {
    listed: Listed<'a>,
    ima_key_id: String,
    status: &'static str,
    files: Option<u64>,
}

fn rows<'a>(keyring: &'a Keyring, counted: Option<&Counted>, now: i64) -> Vec<Row<'a>> {
    let row = |listed: Listed<'a>| {
        let id = listed.key.key_id();
        let ima = listed.certificate.map_or_else(|| listed.key.ima_key_id(), Certificate::ima_key_id);
        let counted = counted.filter(|_| listed.kind == "key");
        Row {
            ima_key_id: hex::encode(ima),
            status: listed.standing(now).as_str(),
            files: counted.map(|counted| counted.by_key.get(&id).map_or(0, |(_, files)| *files)),
            listed,
        }
    };
    keyring.listed().into_iter().map(row).collect()
}

/// How many files each key signs.
#[derive(Default)]
struct Counted {
    /// By key, with the key's name: that of its certificate, where only an authority makes it count.
    by_key: BTreeMap<KeyId, (String, u64)>,
    files: u64,
    /// Files that no listed key signs.
    unsigned: u64,
    unread: u64,
}

fn count(root: &std::path::Path, namespace: &str, keyring: &Keyring) -> Result<Counted, Trouble> {
    let jobs = default_jobs();
    let runtime = runtime(jobs)?;
    let store = runtime.block_on(open_store(root))?;
    let progress = Progress::new();
    // Signatures are counted, not judged: without limits and revocations.
    let bare = keyring.iter().map(|trusted| TrustedKey { limits: Limits::default(), ..trusted.clone() });
    let authorities = keyring.authorities().iter();
    let authorities =
        authorities.map(|authority| Authority { limits: Limits::default(), ..authority.clone() });
    let bare = Keyring::new(bare.collect())
        .with_authorities(authorities.collect())
        .with_formats(Format::ALL.into_iter().collect());
    let (carriers, namespace) = (Carriers::over(&store, &CarrierKind::ALL), Arc::<str>::from(namespace));
    let mut counted = Counted::default();
    runtime.block_on(async {
        let work = move |path: StorePath| {
            let (carriers, namespace, bare) = (carriers.clone(), namespace.clone(), bare.clone());
            async move {
                match carriers.open(&path).await {
                    Ok(open) => Ok(signers(&open.evidence, &path, &namespace, &bare)),
                    Err(CarrierError::Store(error)) => Err(error),
                    Err(_) => Ok(BTreeMap::new()),
                }
            }
        };
        let mut done = each_file(store, vec![StorePath::root()], jobs, work);
        while let Some(result) = done.recv().await {
            let (path, error) = match result {
                Done::File(_, Ok(signers)) => {
                    counted.files += 1;
                    counted.unsigned += u64::from(signers.is_empty());
                    for (id, name) in signers {
                        counted.by_key.entry(id).or_insert((name, 0)).1 += 1;
                    }
                    progress.files(counted.files);
                    continue;
                }
                Done::File(path, Err(error)) => (path, error),
                Done::Trouble(error) => (error.path.clone(), error),
            };
            counted.unread += 1;
            progress
                .around(|| writeln!(std::io::stderr(), "nfs-verity: {path}: cannot be looked at: {error}"))?;
        }
        Ok::<_, Trouble>(())
    })?;
    progress.finish();
    Ok(counted)
}

/// The keys whose signatures over the evidence of `path` hold, with their names, each once. The content is
/// not looked at.
fn signers(
    evidence: &Evidence,
    path: &StorePath,
    namespace: &str,
    keyring: &Keyring,
) -> BTreeMap<KeyId, String> {
    let descriptor = evidence.descriptor.as_deref().and_then(|bytes| Descriptor::parse(bytes).ok());
    let Some(descriptor) = descriptor else { return BTreeMap::new() };
    let now = jiff::Timestamp::now().as_second();
    let path = path.as_bytes();
    let expected = Expected { namespace, path, descriptor: &descriptor, file_hashes: &[], now };
    let accepted = verify(&evidence.signatures(), keyring, &expected);
    let signers = accepted.map(|accepted| accepted.signers).unwrap_or_default();
    signers.into_iter().map(|signer| (signer.key_id, signer.name)).collect()
}

/// The keys that count through an authority alone.
fn issued<'a>(keyring: &Keyring, counted: &'a Counted) -> Vec<(&'a KeyId, &'a str, u64)> {
    let others = counted.by_key.iter().filter(|(id, _)| keyring.get(id).is_none());
    others.map(|(id, (name, files))| (id, name.as_str(), *files)).collect()
}

/// A time as people and machines read it.
fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn as_json(keyring: &Keyring, rows: &[Row<'_>], counted: Option<&Counted>) -> Value {
    let row = |row: &Row<'_>| {
        json!({
            "kind": row.listed.kind,
            "name": row.listed.name,
            "algorithm": row.listed.key.algorithm_name(),
            "key_id": row.listed.key.key_id().to_string(),
            "ima_key_id": row.ima_key_id,
            "certificate": row.listed.certificate.map(|certificate| json!({
                "subject": certificate.subject(),
                "fingerprint": hex::encode(certificate.fingerprint()),
                "not_before": time(certificate.not_before()),
                "not_after": time(certificate.not_after()),
            })),
            "paths": row.listed.limits.paths.as_ref().map(|paths| paths.texts()),
            "formats": row.listed.formats.iter().map(|format| format.as_str()).collect::<Vec<_>>(),
            "not_before": row.listed.window.0.map(time),
            "not_after": row.listed.window.1.map(time),
            "status": row.status,
            "revoked_by": row.listed.revoked_by,
            "files": row.files,
        })
    };
    let required = keyring.requirements();
    let rules = required.rules().iter();
    let rules = rules.map(|(paths, require)| json!({ "paths": paths.texts(), "require": require }));
    let revoked = keyring.revoked().entries();
    let revoked = revoked.map(|(item, entry)| json!({ "item": item.to_string(), "entry": entry }));
    json!({
        "trusted": rows.iter().map(row).collect::<Vec<_>>(),
        "require": required.default_number(),
        "rules": rules.collect::<Vec<_>>(),
        "revoked": revoked.collect::<Vec<_>>(),
        "files": counted.map(|counted| json!({
            "all": counted.files, "signed_by_none": counted.unsigned, "unreadable": counted.unread,
            "issued": issued(keyring, counted).into_iter().map(|(id, name, files)| json!({
                "key_id": id.to_string(), "name": name, "files": files,
            })).collect::<Vec<_>>(),
        })),
    })
}

fn for_people(
    out: &mut impl Write,
    keyring: &Keyring,
    rows: &[Row<'_>],
    counted: Option<&Counted>,
) -> Result<(), Trouble> {
    for row in rows {
        writeln!(out, "{:<12} {} ({})", row.listed.kind, row.listed.name, row.listed.key.algorithm_name())?;
        match row.listed.revoked_by {
            Some(entry) => writeln!(out, "  status     revoked by {entry}")?,
            None => writeln!(out, "  status     {}", row.status)?,
        }
        writeln!(out, "  key id     {}", row.listed.key.key_id())?;
        writeln!(out, "  IMA id     {}", row.ima_key_id)?;
        if let Some(certificate) = row.listed.certificate {
            let (first, last) = (time(certificate.not_before()), time(certificate.not_after()));
            writeln!(out, "  subject    {}, valid {first} to {last}", certificate.subject())?;
            writeln!(out, "  SHA-256    {}", hex::encode(certificate.fingerprint()))?;
        }
        let paths = row.listed.limits.paths.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        writeln!(out, "  paths      {paths}")?;
        writeln!(out, "  formats    {}", row.listed.formats)?;
        let window = match row.listed.window {
            (None, None) => "always".to_owned(),
            (Some(first), None) => format!("from {}", time(first)),
            (None, Some(last)) => format!("until {}", time(last)),
            (Some(first), Some(last)) => format!("{} to {}", time(first), time(last)),
        };
        writeln!(out, "  counts     {window}")?;
        if let Some(files) = row.files {
            writeln!(out, "  signs      {files} files")?;
        }
        writeln!(out)?;
    }
    let required = keyring.requirements();
    writeln!(out, "signers      {} required", required.default_number())?;
    for (paths, require) in required.rules() {
        writeln!(out, "             {require} required for {paths}")?;
    }
    let revoked = keyring.revoked();
    for (item, entry) in revoked.entries().take(REVOKED_SHOWN) {
        writeln!(out, "revoked      {item} by {entry}")?;
    }
    if let Some(more) = revoked.len().checked_sub(REVOKED_SHOWN).filter(|more| *more > 0) {
        writeln!(out, "             and {more} more; --json lists them all")?;
    }
    if let Some(counted) = counted {
        for (id, name, files) in issued(keyring, counted) {
            writeln!(out, "{:<12} {name}\n  key id     {id}\n  signs      {files} files", "issued")?;
        }
        let Counted { files, unsigned, .. } = counted;
        writeln!(out, "files        {files}, of which {unsigned} are signed by none of these keys")?;
    }
    Ok(())
}
