//! `nfs-verity policy`: reads, explains, signs and tests policies.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::pool::runtime;
use super::root::open_store;
use super::signer::{HELP, SignerArgs, certificates, open_signer};
use super::signers;
use super::trust::{CarrierArgs, TrustArgs};
use super::verify::offline_export;
use super::walk::parse_paths;
use super::{Outcome, Trouble};
use crate::config::{PolicyFile, load_keyring, load_policy};
use crate::export::{Explained, Rules};
use crate::policy::ipe::UnknownOp;
use crate::policy::{Action, DigestFact, Facts, Op, Policy, RuleRef, SignerFact};
use crate::sign::{Format, HashName, make_attached};
use crate::store::StorePath;

/// The longest file of cases, in bytes.
const CASES_MAX: u64 = 4 * 1024 * 1024;

/// Read, explain, sign and test policies in the language of Linux IPE
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(CheckArgs),
    Explain(ExplainArgs),
    Sign(SignArgs),
    Test(TestArgs),
}

/// Whose policies count, for a policy that is signed.
#[derive(Debug, Args)]
struct PolicyTrust {
    /// Whose policies count: a certificate, or a directory of them; the policy must be signed then
    #[arg(long, value_name = "PATH")]
    policy_trust: Option<PathBuf>,
}

/// Read a policy as `serve` does, and tell what is in it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity policy check export.pol
  nfs-verity policy check --policy-trust keys/policy.crt export.pol.p7b

Exit status: 0 good, 1 not, with line and cause.")]
struct CheckArgs {
    /// The policy: text, or signed
    file: PathBuf,
    #[command(flatten)]
    trust: PolicyTrust,
    /// Print the statements as they were understood
    #[arg(long)]
    rules: bool,
}

/// Tell which rule decides about a file, and why those before it do not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  nfs-verity policy explain export.pol --store /srv/data --trust keys/ --path boot/vmlinuz --client 10.0.0.7

Exit status: 0 allowed, 1 denied.")]
struct ExplainArgs {
    /// The policy: text, or signed
    file: PathBuf,
    #[command(flatten)]
    policy: PolicyTrust,
    /// The store: a directory or a URL
    #[arg(long, value_name = "ROOT")]
    store: PathBuf,
    /// The file or directory, relative to the store's root
    #[arg(long, value_name = "PATH")]
    path: PathBuf,
    /// What is to be done with it: READ, EXECUTE, LIST, XATTR, or another operation of IPE
    #[arg(long, value_name = "OP", default_value_t = Op::Read)]
    op: Op,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// The user, as the gateway takes it: root is 65534 unless squash says otherwise
    #[arg(long, value_name = "N", default_value_t = 65534)]
    uid: u32,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    carrier: CarrierArgs,
    /// The tree's name, as it was signed
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Sign a policy as Linux IPE wants it: PKCS#7 with the text in it
#[derive(Debug, Args)]
#[command(after_help = HELP)]
struct SignArgs {
    /// The policy in text
    file: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// The signing key's X.509 certificate
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Where to write it [default: FILE.p7b]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Compare what a policy decides with what it should
#[derive(Debug, Args)]
#[command(after_help = "\
CASES is TOML, any number of:
  [[case]]
  name = \"release files are read\"      # optional
  op = \"READ\"
  path = \"boot/vmlinuz\"                # what is left out is unknown, and matches nothing
  digest = \"sha256:01ab...\"
  signed = true
  signers = [{ key = \"64 hex digits\", name = \"release\", format = \"native\" }]
  client = \"10.0.0.7\"
  uid = 1000
  signed_at = \"2026-01-01T00:00:00Z\"
  expect = \"ALLOW\"
  line = 5                             # optional: the line of the rule that has to decide

Exit status: 0 when all are as expected, 1 when not.")]
struct TestArgs {
    /// The policy: text, or signed
    file: PathBuf,
    /// The cases
    cases: PathBuf,
    #[command(flatten)]
    trust: PolicyTrust,
}

pub(super) fn run(args: &PolicyArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    match &args.command {
        Command::Check(args) => check(args, out),
        Command::Explain(args) => explain(args, out),
        Command::Sign(args) => sign(args, out),
        Command::Test(args) => test(args, out),
    }
}

impl PolicyTrust {
    /// The policy, or what is wrong with it.
    fn load(&self, file: &Path) -> Result<Result<PolicyFile, String>, Trouble> {
        let trust = self.policy_trust.as_deref();
        let trust = trust.map(|trust| load_keyring(trust, Format::ALL.into_iter().collect())).transpose();
        let now = jiff::Timestamp::now().as_second();
        Ok(load_policy(file, trust.map_err(Trouble::usage)?.as_ref(), now).map_err(|error| error.to_string()))
    }
}

fn check(args: &CheckArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let file = match args.trust.load(&args.file)? {
        Ok(file) => file,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(Outcome::Failed);
        }
    };
    let policy = &file.policy;
    let statements = policy.statements();
    let rules = statements.iter().filter(|statement| matches!(statement, RuleRef::Rule(_))).count();
    let defaults = statements.len() - rules;
    writeln!(
        out,
        "{} {}: {rules} rules, {defaults} defaults",
        policy.name().escape_ascii(),
        policy.version()
    )?;
    match policy.has_additions() {
        true => {
            writeln!(out, "kernel: refuses it, for it does not know some of the operations and properties")?
        }
        false => writeln!(out, "kernel: loads it, too")?,
    }
    if !file.signers.is_empty() {
        writeln!(out, "signed: {}", signers::shown(&file.signers))?;
    }
    for op in [Op::Read, Op::List, Op::Xattr] {
        let ruling = policy.evaluate(&Facts::of(op));
        if ruling.action == Action::Allow || names(policy, op) {
            continue;
        }
        match ruling.rule {
            RuleRef::Absent { .. } => writeln!(out, "note: nothing is said of op={op}, so it is denied")?,
            _ => writeln!(out, "note: no rule allows op={op}, so it is denied: {}", ruling.rule)?,
        }
    }
    if args.rules {
        out.write_all(&policy.render())?;
    }
    Ok(Outcome::Good)
}

/// Whether any rule is about `op`.
fn names(policy: &Policy, op: Op) -> bool {
    policy.statements().iter().any(|statement| matches!(statement, RuleRef::Rule(rule) if rule.op() == op))
}

fn explain(args: &ExplainArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let path = if args.path.as_os_str().is_empty() || args.path == Path::new("/") {
        StorePath::root()
    } else {
        let paths = parse_paths(std::slice::from_ref(&args.path))?;
        paths.into_iter().next().unwrap_or_else(StorePath::root)
    };
    let file = args.policy.load(&args.file)?.map_err(Trouble::usage)?;
    let rules = Rules::new(file.policy, file.digest, false);
    let keyring = args.trust.keyring()?;
    let explained = runtime(1)?.block_on(async {
        let store = open_store(&args.store).await?;
        let carriers = &args.carrier.carrier;
        let export = offline_export(store, Default::default(), carriers, &args.namespace, keyring).await?;
        export.explain(&rules, &path, args.op, (args.client, args.uid)).await.map_err(Trouble::other)
    })?;
    // What is said of a file is told whatever the file is.
    let is_read = matches!(args.op, Op::Read | Op::Execute);
    let allowed = explained.action == Action::Allow && (explained.refused.is_none() || !is_read);
    if args.json {
        writeln!(out, "{:#}", as_json(&explained, allowed))?;
    } else {
        for_people(out, &explained, &rules, args.op)?;
    }
    Ok(if allowed { Outcome::Good } else { Outcome::Failed })
}

fn as_json(explained: &Explained, allowed: bool) -> serde_json::Value {
    let Explained { refused, digest, signers, misses, action, line, rule } = explained;
    let missed =
        misses.iter().map(|miss| json!({ "line": miss.line, "rule": miss.rule, "because": miss.property }));
    json!({
        "allowed": allowed,
        "verified": refused.is_none(),
        "cause": refused.as_ref().map(|(cause, _)| cause.as_str()),
        "detail": refused.as_ref().map(|(_, detail)| detail),
        "digest": digest.as_ref().map(ToString::to_string),
        "signers": signers::as_json(signers),
        "missed": missed.collect::<Vec<_>>(),
        "action": action.as_str(),
        "line": line,
        "rule": rule,
    })
}

fn for_people(out: &mut impl Write, explained: &Explained, rules: &Rules, op: Op) -> Result<(), Trouble> {
    let Explained { refused, digest, signers, misses, action, line, rule } = explained;
    if let Some((cause, detail)) = refused {
        writeln!(
            out,
            "the file does not verify, and cannot be read whatever the policy says: {cause}: {detail}"
        )?;
    }
    if let Some(digest) = digest {
        writeln!(out, "digest   {digest}")?;
        writeln!(out, "signers  {}", signers::shown(signers))?;
    }
    for miss in misses {
        writeln!(out, "line {}: {}: not so: {}", miss.line, miss.rule, miss.property)?;
    }
    let at = line.map_or_else(String::new, |line| format!("line {line}: "));
    writeln!(out, "{at}{rule}")?;
    writeln!(out, "{} under {}: {action}", op, rules.title())?;
    Ok(())
}

fn sign(args: &SignArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let text = fs::read(&args.file).map_err(|error| Trouble::file("read", &args.file, error))?;
    if let Err(error) = Policy::parse(&text) {
        return Err(Trouble::usage(format!("{}: {error}", args.file.display())));
    }
    let own = certificates(&args.cert)?.into_iter().next();
    let own = own.ok_or_else(|| Trouble::usage(format!("{} holds no certificate", args.cert.display())))?;
    let signer = open_signer(&args.signer)?;
    let signed = make_attached(&text, HashName::Sha256, &*signer, &own).map_err(Trouble::usage)?;
    let to = args.out.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".p7b");
        name.into()
    });
    fs::write(&to, signed).map_err(|error| Trouble::file("write", &to, error))?;
    writeln!(out, "{}", to.display())?;
    Ok(Outcome::Good)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(default, rename = "case")]
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Option<String>,
    op: String,
    path: Option<String>,
    digest: Option<String>,
    #[serde(default)]
    signed: bool,
    #[serde(default)]
    signers: Vec<CaseSigner>,
    client: Option<IpAddr>,
    uid: Option<u32>,
    signed_at: Option<String>,
    expect: String,
    line: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSigner {
    key: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    format: String,
}

fn test(args: &TestArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let file = args.trust.load(&args.file)?.map_err(Trouble::usage)?;
    let failed = |error| Trouble::file("read", &args.cases, error);
    let mut text = String::new();
    fs::File::open(&args.cases)
        .and_then(|cases| cases.take(CASES_MAX + 1).read_to_string(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > CASES_MAX {
        return Err(Trouble::usage(format!("{}: more than {CASES_MAX} bytes", args.cases.display())));
    }
    let wrong = |what: String| Trouble::usage(format!("{}: {what}", args.cases.display()));
    let Cases { cases } = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut other = 0;
    for (n, case) in cases.iter().enumerate() {
        let title = case.name.clone().unwrap_or_else(|| format!("case {}", n + 1));
        let said = case.put_to(&file.policy).map_err(|error| wrong(format!("{title}: {error}")))?;
        if let Some(said) = said {
            other += 1;
            writeln!(out, "{title}: {said}")?;
        }
    }
    writeln!(out, "{} cases, {other} not as expected", cases.len())?;
    Ok(if other == 0 { Outcome::Good } else { Outcome::Failed })
}

impl Case {
    /// What is other than expected.
    fn put_to(&self, policy: &Policy) -> Result<Option<String>, String> {
        let expect = match &*self.expect {
            "ALLOW" => Action::Allow,
            "DENY" => Action::Deny,
            other => return Err(format!("expect must be ALLOW or DENY, not \"{other}\"")),
        };
        let digest = match &self.digest {
            Some(digest) => {
                let (algorithm, digits) =
                    digest.split_once(':').ok_or("digest must be an algorithm, a colon and hex digits")?;
                Some((algorithm, hex::decode(digits).map_err(|error| format!("digest: {error}"))?))
            }
            None => None,
        };
        let mut signers = Vec::new();
        for CaseSigner { key, name, format } in &self.signers {
            let mut key_id = [0; 32];
            hex::decode_to_slice(key, &mut key_id).map_err(|_| "a signer's key must be 64 hex digits")?;
            signers.push(SignerFact { key_id, name, format });
        }
        let time = self.signed_at.as_deref().map(str::parse::<jiff::Timestamp>).transpose();
        let time = time.map_err(|error| format!("signed_at: {error}"))?;
        let signed_at = time.map(jiff::Timestamp::as_second);
        let facts = Facts {
            path: self.path.as_deref().map(|path| path.trim_start_matches('/').as_bytes()),
            fsverity_digest: digest.as_ref().map(|(algorithm, bytes)| DigestFact { algorithm, bytes }),
            fsverity_signature: self.signed || !signers.is_empty(),
            signers: &signers,
            client: self.client.map(|client| client.to_canonical()),
            uid: self.uid,
            signed_at,
            ..Facts::of(self.op.parse().map_err(|error: UnknownOp| error.to_string())?)
        };
        let ruling = policy.evaluate(&facts);
        let (found, line) = (ruling.action, ruling.rule.line());
        if found == expect && (self.line.is_none() || self.line == line) {
            return Ok(None);
        }
        let at = line.map_or_else(|| "no line".to_owned(), |line| format!("line {line}"));
        Ok(Some(format!(
            "{found} by {at}: {}; expected {expect}{}",
            ruling.rule,
            match self.line {
                Some(line) => format!(" by line {line}"),
                None => String::new(),
            }
        )))
    }
}
