//! `nfs-verity inspect`: what the evidence of one file says.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::modsig::{Appended, appended};
use super::pool::runtime;
use super::root::open_store;
use super::verify::offline_export;
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::carrier::{CarrierError, CarrierKind, Carriers};
use crate::config::load_keyring;
use crate::event::Cause;
use crate::export::Examination;
use crate::sign::{
    Certificate, Claim, Format, FormatSet, ImaSignature, Pkcs7, SignError, Signer, read_envelope,
};
use crate::store::{Store, StorePath};
use crate::verity::Descriptor;

/// Show the evidence of one file: descriptor, file digest, statement, signatures, tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity inspect /srv/data docs/manual.pdf
  nfs-verity inspect --trust keys/ --json /srv/data docs/manual.pdf

The status is `signed` when the evidence is whole; with --trust everything is checked and the status is
`verified` or the cause why not. Exit status: 0 signed or verified, 1 not, 2 usage, 3 I/O trouble.")]
pub(super) struct InspectArgs {
    /// The tree: a directory or a URL
    root: PathBuf,
    /// The file, relative to ROOT
    path: PathBuf,
    /// Check signatures and every block against a key or certificate, or a directory of them
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// Formats in which keys count: native, fsverity, ima-v3, ima-v2, modsig, with commas between them
    #[arg(long, value_name = "FORMATS", default_value_t = FormatSet::NATIVE, requires = "trust")]
    accept: FormatSet,
    /// The tree's name, as it was signed; with --trust
    #[arg(long, value_name = "NAME", default_value = "", requires = "trust")]
    namespace: String,
    /// Where evidence is looked for, in this order
    #[arg(
        long,
        value_name = "CARRIERS",
        value_delimiter = ',',
        default_value = "sidecar,kernel,xattr,appended"
    )]
    carrier: Vec<CarrierKind>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What the evidence of a file says; nothing of it is verified.
struct Evidence {
    carrier: CarrierKind,
    /// Bytes that the file has in the store: data, and evidence behind them.
    trailer: u64,
    descriptor: Option<Descriptor>,
    claim: Option<Claim>,
    /// A format, and what the signature says of its maker.
    others: Vec<(Format, String)>,
    certificates: Vec<String>,
    /// Bytes that it takes in the store, the tree included.
    bytes: u64,
}

/// What is known of a file.
struct Report {
    path: StorePath,
    size: u64,
    evidence: Option<Evidence>,
    status: String,
    detail: String,
    /// The signatures that count, with --trust.
    verified: Vec<Signer>,
    /// All of the file was hashed before a block could be proven.
    hashed: bool,
    appended: Option<Appended>,
}

pub(super) fn run(args: &InspectArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let paths = parse_paths(std::slice::from_ref(&args.path))?;
    let path = paths.first().cloned().unwrap_or_else(StorePath::root);
    let trust = args.trust.as_deref().map(|trust| load_keyring(trust, args.accept));
    let keyring = trust.transpose().map_err(Trouble::usage)?;
    runtime(1)?.block_on(async {
        let store = open_store(&args.root).await?;
        let size = store.open(&path).await?.stat().await?.size;
        let appended = appended(&*store, &path, keyring.as_ref()).await?;
        let (evidence, mut status, mut detail) = match read(&store, &args.carrier, &path, size).await? {
            Ok(evidence) => match &evidence.descriptor {
                Some(descriptor) if Some(size) != descriptor.size.checked_add(evidence.trailer) => {
                    let detail = format!("signed with {} bytes, the store has {size}", descriptor.size);
                    (Some(evidence), Cause::WrongSize.to_string(), detail)
                }
                Some(_) | None => (Some(evidence), "signed".to_owned(), String::new()),
            },
            Err((cause, detail)) => (None, cause.to_string(), detail),
        };
        let (mut verified, mut hashed) = (Vec::new(), false);
        if let Some(keyring) = keyring {
            let export =
                offline_export(store, Default::default(), &args.carrier, &args.namespace, keyring).await?;
            let examined = export.examine(&path, |_| ()).await.map_err(Trouble::other)?;
            (status, detail) = match examined {
                Examination::Good { signers, hashed: whole, .. } => {
                    (verified, hashed) = (signers, whole);
                    ("verified".into(), String::new())
                }
                Examination::Refused { cause, detail } => (cause.to_string(), detail),
                Examination::Damaged { blocks, count } => match blocks.first() {
                    Some(first) => {
                        (first.cause.to_string(), format!("block {}, {count} in all", first.block))
                    }
                    None => (Cause::BadBlock.to_string(), format!("{count} blocks")),
                },
            };
            let by_module = appended.as_ref().and_then(|appended| appended.signers.as_ref());
            if status == Cause::Unsigned.as_str()
                && let Some(Ok(signers)) = by_module
            {
                (status, detail) = ("verified".into(), "the content before the appended signature".into());
                verified = signers.clone();
            }
        }
        let good = status == "signed" || status == "verified";
        let report = Report { path, size, evidence, status, detail, verified, hashed, appended };
        if args.json {
            writeln!(out, "{:#}", as_json(&report))?;
        } else {
            for_people(out, &report)?;
        }
        Ok(if good { Outcome::Good } else { Outcome::Failed })
    })
}

/// The evidence of `path`, or why there is none to show.
async fn read(
    store: &Arc<dyn Store>,
    carriers: &[CarrierKind],
    path: &StorePath,
    size: u64,
) -> Result<Result<Evidence, (Cause, String)>, Trouble> {
    let malformed = |error: String| Ok(Err((Cause::MalformedEvidence, error)));
    let open = match Carriers::over(store, carriers).open_for(path, size).await {
        Ok(open) => open,
        Err(CarrierError::Missing(_) | CarrierError::Path { .. }) => {
            return Ok(Err((Cause::Unsigned, String::new())));
        }
        Err(CarrierError::Store(error)) => return Err(error.into()),
        Err(error) => return malformed(error.to_string()),
    };
    let descriptor = match open.evidence.descriptor.as_deref().map(Descriptor::parse).transpose() {
        Ok(descriptor) => descriptor,
        Err(error) => return malformed(error.to_string()),
    };
    let claim = match open.evidence.statement.as_deref().map(read_envelope).transpose() {
        Ok(claim) => claim,
        Err(error) => return malformed(error.to_string()),
    };
    let unreadable = |error: SignError| format!("unreadable: {error}");
    let mut others = Vec::new();
    for message in &open.evidence.pkcs7 {
        match Pkcs7::parse(message) {
            Ok(message) => {
                let signers = message.signers().iter();
                others
                    .extend(signers.map(|s| (Format::FsVerity, format!("{} ({})", s.describe(), s.hash()))));
            }
            Err(error) => others.push((Format::FsVerity, unreadable(error))),
        }
    }
    for value in &open.evidence.ima {
        others.push(match ImaSignature::parse(value) {
            Ok(signature) => {
                let (id, hash) = (hex::encode(signature.key_id), signature.hash);
                (signature.format(), format!("IMA key {id} ({hash})"))
            }
            Err(error) => (Format::ImaV2, unreadable(error)),
        });
    }
    let certificates = open.evidence.certificates.iter();
    let certificates =
        certificates.map(|der| Certificate::from_der(der).map_or_else(unreadable, |c| c.subject()));
    Ok(Ok(Evidence {
        carrier: open.carrier,
        trailer: open.trailer,
        descriptor,
        claim,
        others,
        certificates: certificates.collect(),
        bytes: open.head_bytes + open.tree_len().unwrap_or(0),
    }))
}

/// A time for people.
fn shown(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn as_json(report: &Report) -> serde_json::Value {
    let Report { path, size, status, .. } = report;
    let mut all = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| _ = all.insert(key.to_owned(), value);
    put("path", path.to_string().into());
    put("path_hex", hex::encode(path.as_bytes()).into());
    put("status", status.as_str().into());
    put("size", (*size).into());
    if !report.detail.is_empty() {
        put("detail", report.detail.as_str().into());
    }
    let named = |signer: &Signer| {
        json!({
            "key_id": signer.key_id.to_string(), "name": signer.name, "format": signer.format.as_str(),
        })
    };
    if !report.verified.is_empty() {
        put("verified", report.verified.iter().map(named).collect());
        put("hashed", report.hashed.into());
    }
    if let Some(appended) = &report.appended {
        let (claims, error) = match &appended.claims {
            Ok(claims) => (claims.clone(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let signers = appended.signers.as_ref().and_then(|signers| signers.as_ref().ok());
        let refused = appended.signers.as_ref().and_then(|signers| signers.as_ref().err());
        put(
            "appended_signature",
            json!({
                "content": appended.content,
                "signers": claims,
                "verified": signers.map(|signers| signers.iter().map(named).collect::<Vec<_>>()),
                "error": error.cloned().or_else(|| refused.map(ToString::to_string)),
            }),
        );
    }
    let Some(evidence) = &report.evidence else {
        put("signers", json!([]));
        return all.into();
    };
    put("carrier", evidence.carrier.to_string().into());
    let native = evidence.claim.iter().flat_map(|claim| &claim.key_ids);
    let native = native.map(|id| json!({ "key_id": id.to_string(), "format": "native" }));
    let others = evidence.others.iter();
    let others = others.map(|(format, by)| json!({ "by": by, "format": format.as_str() }));
    put("signers", native.chain(others).collect());
    if !evidence.certificates.is_empty() {
        put("certificates", evidence.certificates.clone().into());
    }
    if let Some(claim) = &evidence.claim {
        put(
            "statement",
            json!({
                "namespace": claim.statement.namespace,
                "path": String::from_utf8_lossy(&claim.statement.path),
                "size": claim.statement.size,
                "file_digest": claim.statement.file_digest.to_string(),
                "version": claim.statement.version,
                "expires": claim.statement.expires.map(shown),
                "signed": claim.statement.signed.map(shown),
            }),
        );
    }
    if let Some(descriptor) = &evidence.descriptor {
        put("hash_algorithm", descriptor.params.algorithm.name().into());
        put("block_size", descriptor.params.block_size.get().into());
        put("salt", hex::encode(descriptor.params.salt.as_bytes()).into());
        put("root_hash", descriptor.root_hash.to_string().into());
        put("file_digest", descriptor.file_digest().to_string().into());
        put("descriptor", hex::encode(descriptor.encode()).into());
        if let Ok(geometry) = descriptor.geometry() {
            let levels: Vec<u64> = (0..geometry.levels()).map(|level| geometry.level_blocks(level)).collect();
            put(
                "tree",
                json!({
                    "data_blocks": geometry.data_blocks(),
                    "levels": levels,
                    "bytes": geometry.tree_size(),
                    "evidence_bytes": evidence.bytes,
                }),
            );
        }
    }
    all.into()
}

fn for_people(out: &mut impl Write, report: &Report) -> Result<(), Trouble> {
    writeln!(out, "path         {}", report.path)?;
    match report.detail.as_str() {
        "" => writeln!(out, "status       {}", report.status)?,
        detail => writeln!(out, "status       {} ({detail})", report.status)?,
    }
    for signer in &report.verified {
        writeln!(out, "verified by  {} ({}, {})", signer.name, signer.format, signer.key_id.short())?;
    }
    if report.hashed {
        writeln!(out, "hashed       all of the file, since its evidence lets no single block be proven")?;
    }
    writeln!(out, "size         {} bytes", report.size)?;
    if let Some(appended) = &report.appended {
        let by = match &appended.claims {
            Ok(claims) => claims.join(", "),
            Err(error) => error.clone(),
        };
        let word = match &appended.signers {
            None => "",
            Some(Ok(_)) => ": verified",
            Some(Err(rejection)) => &format!(": {rejection}"),
        };
        writeln!(
            out,
            "appended     a module signature over the first {} bytes by {by}{word}",
            appended.content
        )?;
    }
    let Some(evidence) = &report.evidence else { return Ok(()) };
    writeln!(out, "carrier      {}", evidence.carrier)?;
    if let Some(descriptor) = &evidence.descriptor {
        let params = &descriptor.params;
        let salt = match params.salt.as_bytes() {
            [] => "none".to_owned(),
            salt => hex::encode(salt),
        };
        writeln!(out, "file digest  {}", descriptor.file_digest())?;
        writeln!(out, "root hash    {}", descriptor.root_hash)?;
        let (block_size, algorithm) = (params.block_size.get(), params.algorithm.name());
        writeln!(out, "blocks       {block_size} bytes each, {algorithm}, salt {salt}")?;
        if let Ok(geometry) = descriptor.geometry() {
            let (blocks, levels) = (geometry.data_blocks(), geometry.levels());
            let bytes = geometry.tree_size();
            writeln!(out, "tree         {blocks} data blocks, {levels} levels, {bytes} bytes")?;
        }
    }
    if let Some(claim) = &evidence.claim {
        let statement = &claim.statement;
        let namespace = format!("namespace {:?}", statement.namespace);
        let expires = statement.expires.map(shown);
        let expires = expires.map_or_else(|| "never expires".into(), |time| format!("expires {time}"));
        let signed = statement.signed.map_or_else(String::new, |time| format!(", signed {}", shown(time)));
        writeln!(out, "statement    version {}, {namespace}, {expires}{signed}", statement.version)?;
        for id in &claim.key_ids {
            writeln!(out, "signer       {id} (native)")?;
        }
    }
    for (format, by) in &evidence.others {
        writeln!(out, "signer       {by} ({format})")?;
    }
    for subject in &evidence.certificates {
        writeln!(out, "certificate  {subject}")?;
    }
    Ok(())
}
