//! `nfs-verity inspect`: what the evidence of one file says.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::pool::runtime;
use super::verify::offline_export;
use super::walk::{open_store, parse_paths};
use super::{Outcome, Trouble};
use crate::carrier::{CarrierError, Sidecar};
use crate::config::load_keyring;
use crate::event::Cause;
use crate::export::Examination;
use crate::sign::{Claim, FormatSet, read_envelope};
use crate::store::{Store, StorePath};
use crate::verity::Descriptor;

/// Show the evidence of one file: descriptor, file digest, statement, signers, tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity inspect /srv/data docs/manual.pdf
  nfs-verity inspect --trust keys/ --json /srv/data docs/manual.pdf

The status is `signed` when the evidence is whole; with --trust everything is checked and the status is
`verified` or the cause why not. Exit status: 0 signed or verified, 1 not, 2 usage, 3 I/O trouble.")]
pub(super) struct InspectArgs {
    /// The tree
    root: PathBuf,
    /// The file, relative to ROOT
    path: PathBuf,
    /// Check signature and every block against a .pub file or a directory of them
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// The tree's name, as it was signed; with --trust
    #[arg(long, value_name = "NAME", default_value = "", requires = "trust")]
    namespace: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

struct Evidence {
    descriptor: Descriptor,
    claim: Claim,
    head_bytes: u64,
}

pub(super) fn run(args: &InspectArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let store = open_store(&args.root)?;
    let paths = parse_paths(std::slice::from_ref(&args.path))?;
    let path = paths.first().cloned().unwrap_or_else(StorePath::root);
    let keyring = args
        .trust
        .as_deref()
        .map(|path| load_keyring(path, FormatSet::NATIVE))
        .transpose()
        .map_err(Trouble::usage)?;
    runtime(1)?.block_on(async {
        let size = store.open(&path).await?.stat().await?.size;
        let (evidence, mut status, mut detail) = match read(store.clone(), &path).await? {
            Ok(evidence) if evidence.descriptor.size == size => {
                (Some(evidence), "signed".to_owned(), String::new())
            }
            Ok(evidence) => {
                let detail = format!("signed with {} bytes, the store has {size}", evidence.descriptor.size);
                (Some(evidence), Cause::WrongSize.to_string(), detail)
            }
            Err((cause, detail)) => (None, cause.to_string(), detail),
        };
        if let Some(keyring) = keyring {
            let export = offline_export(store, &args.namespace, keyring).await?;
            let examined = export.examine(&path, |_| ()).await.map_err(Trouble::other)?;
            (status, detail) = match examined {
                Examination::Good { .. } => ("verified".into(), String::new()),
                Examination::Refused { cause, detail } => (cause.to_string(), detail),
                Examination::Damaged { blocks, count } => match blocks.first() {
                    Some(first) => {
                        (first.cause.to_string(), format!("block {}, {count} in all", first.block))
                    }
                    None => (Cause::BadBlock.to_string(), format!("{count} blocks")),
                },
            };
        }
        let good = status == "signed" || status == "verified";
        if args.json {
            writeln!(out, "{:#}", as_json(&path, size, evidence.as_ref(), &status, &detail))?;
        } else {
            for_people(out, &path, size, evidence.as_ref(), &status, &detail)?;
        }
        Ok(if good { Outcome::Good } else { Outcome::Failed })
    })
}

/// The evidence of `path`, or why there is none to show.
async fn read(
    store: std::sync::Arc<dyn Store>,
    path: &StorePath,
) -> Result<Result<Evidence, (Cause, String)>, Trouble> {
    let malformed = |detail: String| Ok(Err((Cause::MalformedEvidence, detail)));
    let bundle = match Sidecar::new(store).open(path).await {
        Ok(bundle) => bundle,
        Err(CarrierError::Missing(_) | CarrierError::Path { .. }) => {
            return Ok(Err((Cause::Unsigned, String::new())));
        }
        Err(CarrierError::Malformed { source, .. }) => return malformed(source.to_string()),
        Err(CarrierError::Store(error)) => return Err(error.into()),
    };
    let descriptor = match Descriptor::parse(&bundle.head.descriptor) {
        Ok(descriptor) => descriptor,
        Err(error) => return malformed(error.to_string()),
    };
    let claim = match read_envelope(&bundle.head.statement) {
        Ok(claim) => claim,
        Err(error) => return malformed(error.to_string()),
    };
    Ok(Ok(Evidence { descriptor, claim, head_bytes: bundle.attr.size - bundle.head.tree_len }))
}

fn expiry(claim: &Claim) -> Option<String> {
    let seconds = claim.statement.expires?;
    Some(jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string()))
}

fn as_json(
    path: &StorePath,
    size: u64,
    evidence: Option<&Evidence>,
    status: &str,
    detail: &str,
) -> serde_json::Value {
    let mut all = json!({
        "path": path.to_string(), "path_hex": hex::encode(path.as_bytes()), "status": status, "size": size,
    });
    let Some(object) = all.as_object_mut() else { return all };
    if !detail.is_empty() {
        object.insert("detail".into(), detail.into());
    }
    let Some(Evidence { descriptor, claim, head_bytes }) = evidence else {
        object.insert("signers".into(), json!([]));
        return all;
    };
    let geometry = descriptor.geometry().ok();
    let level = |level| geometry.as_ref().map_or(0, |geometry| geometry.level_blocks(level));
    let levels: Vec<u64> =
        (0..geometry.as_ref().map_or(0, |geometry| geometry.levels())).map(level).collect();
    let signers = claim.key_ids.iter();
    let signers = signers.map(|id| json!({ "key_id": id.to_string(), "format": "native" }));
    let more = json!({
        "hash_algorithm": descriptor.params.algorithm.name(),
        "block_size": descriptor.params.block_size.get(),
        "salt": hex::encode(descriptor.params.salt.as_bytes()),
        "root_hash": descriptor.root_hash.to_string(),
        "file_digest": descriptor.file_digest().to_string(),
        "descriptor": hex::encode(descriptor.encode()),
        "signers": signers.collect::<Vec<_>>(),
        "statement": {
            "namespace": claim.statement.namespace,
            "path": String::from_utf8_lossy(&claim.statement.path),
            "size": claim.statement.size,
            "file_digest": claim.statement.file_digest.to_string(),
            "version": claim.statement.version,
            "expires": expiry(claim),
        },
        "tree": {
            "data_blocks": geometry.as_ref().map(|geometry| geometry.data_blocks()),
            "levels": levels,
            "bytes": geometry.as_ref().map(|geometry| geometry.tree_size()),
            "evidence_bytes": head_bytes + geometry.as_ref().map_or(0, |geometry| geometry.tree_size()),
        },
    });
    if let serde_json::Value::Object(more) = more {
        object.extend(more);
    }
    all
}

fn for_people(
    out: &mut impl Write,
    path: &StorePath,
    size: u64,
    evidence: Option<&Evidence>,
    status: &str,
    detail: &str,
) -> Result<(), Trouble> {
    writeln!(out, "path         {path}")?;
    match detail {
        "" => writeln!(out, "status       {status}")?,
        detail => writeln!(out, "status       {status} ({detail})")?,
    }
    writeln!(out, "size         {size} bytes")?;
    let Some(Evidence { descriptor, claim, .. }) = evidence else { return Ok(()) };
    let params = &descriptor.params;
    let salt = match params.salt.as_bytes() {
        [] => "none".to_owned(),
        salt => hex::encode(salt),
    };
    writeln!(out, "file digest  {}", descriptor.file_digest())?;
    writeln!(out, "root hash    {}", descriptor.root_hash)?;
    writeln!(
        out,
        "blocks       {} bytes each, {}, salt {salt}",
        params.block_size.get(),
        params.algorithm.name()
    )?;
    if let Ok(geometry) = descriptor.geometry() {
        writeln!(
            out,
            "tree         {} data blocks, {} levels, {} bytes",
            geometry.data_blocks(),
            geometry.levels(),
            geometry.tree_size()
        )?;
    }
    let statement = &claim.statement;
    let namespace = format!("namespace {:?}", statement.namespace);
    let expires = expiry(claim).map_or_else(|| "never expires".into(), |time| format!("expires {time}"));
    writeln!(out, "statement    version {}, {namespace}, {expires}", statement.version)?;
    for id in &claim.key_ids {
        writeln!(out, "signer       {id} (native)")?;
    }
    Ok(())
}
