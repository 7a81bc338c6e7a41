//! `nfs-verity xattr`: what a gateway tells of a file, over the sideband, and whether it holds.

use std::io::{IsTerminal, Write};

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::address::Address;
use super::rpc::ClientError;
use super::vouch::{VouchArgs, Vouched, ask};
use super::{asking, open};
use crate::cli::told::{Told, shown};
use crate::cli::{Outcome, Trouble, signers};
use crate::event::Cause;
use crate::export::Item;
use crate::proto::sideband::WireError;
use crate::sign::{Rejection, read_envelope};
use crate::store::{StorePath, is_plain};
use crate::verity::Descriptor;

/// Bytes of all values that are kept.
const VALUES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a value that is no text that are shown in a listing.
const SHOWN: usize = 32;

/// Show the extended attributes of a file that a gateway serves, and check them, without mounting it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity xattr nfs://gateway/docs/manual.pdf
  nfs-verity xattr --trust keys/ nfs://gateway/docs/manual.pdf user.verity.status
  nfs-verity xattr --raw nfs://gateway/bin/tool user.ima >tool.ima

Digest and descriptor are compared, and with --trust it is checked who signed; what the file holds is
not read (that is for `proof` and `verify --mount`). Exit status: 0 all that was checked holds, 1 something
does not or there is no such attribute, 2 usage, 3 no answer.")]
pub(in crate::cli) struct XattrArgs {
    #[command(flatten)]
    vouch: VouchArgs,
    /// The file: nfs://HOST[:PORT]/PATH
    url: Address,
    /// One attribute, with or without \"user.\"; all of them when there is none
    name: Option<String>,
    /// Print a JSON object
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Write the value's bytes and nothing else
    #[arg(long, requires = "name")]
    raw: bool,
}

/// What was found out.
struct Checks {
    /// A digest or statement that does not go with the descriptor, or a descriptor that is none.
    contradiction: Option<Rejection>,
    /// What is shown and was compared with nothing.
    words: Vec<String>,
    vouched: Vouched,
    compared: bool,
}

impl Checks {
    fn hold(&self) -> bool {
        self.contradiction.is_none() && self.vouched.holds()
    }
}

pub(in crate::cli) fn run(args: &XattrArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let keyring = args.vouch.keyring()?;
    let (mut client, handle) = open(&args.url)?;
    let mut asked = || -> Result<_, ClientError> {
        let names = match &args.name {
            Some(name) => vec![name.strip_prefix("user.").unwrap_or(name).as_bytes().to_vec()],
            None => client.list_xattrs(&handle)?,
        };
        let (mut values, mut total) = (Vec::new(), 0);
        for name in names {
            if let Some(value) = client.get_xattr(&handle, &name)? {
                total += value.len();
                if total > VALUES_MAX {
                    return Err(WireError::TooLong(VALUES_MAX).into());
                }
                values.push((name, value));
            }
        }
        let mut told = ask(&mut client, &handle)?;
        // What is shown is what is checked, also of a gateway that says now this and now that.
        for (name, value) in &values {
            if let Some(item) = Item::of_xattr(name) {
                told.take(item, value.clone());
            }
        }
        Ok((values, told))
    };
    let (values, told) = asked().map_err(|error| asking(&args.url, &error))?;
    let mut checks = check(&told, args, keyring.as_ref());
    checks.words = values.iter().filter_map(|(name, _)| word(name)).collect();
    if let Some(name) = &args.name {
        let Some((_, value)) = values.first() else {
            writeln!(
                std::io::stderr(),
                "nfs-verity: {}: no attribute {}",
                args.url.path,
                shown(name.as_bytes())
            )?;
            return Ok(Outcome::Failed);
        };
        if args.raw {
            out.write_all(value)?;
        } else if !args.json {
            writeln!(out, "{}", text(value, "  ").unwrap_or_else(|| hex::encode(value)))?;
        }
        if !args.json && (!checks.hold() || std::io::stderr().is_terminal()) {
            tell(&mut std::io::stderr(), &checks)?;
        }
    } else if !args.json {
        for (name, value) in &values {
            writeln!(out, "user.{:<19} {}", shown(name), listed(name, value))?;
        }
        tell(out, &checks)?;
    }
    if args.json {
        writeln!(out, "{:#}", as_json(args, &values, &checks))?;
    }
    Ok(if checks.hold() { Outcome::Good } else { Outcome::Failed })
}

fn check(told: &Told, args: &XattrArgs, keyring: Option<&crate::sign::Keyring>) -> Checks {
    let path = &args.url.path;
    let unsigned = |detail: &str| Rejection { cause: Cause::Unsigned, detail: detail.to_owned() };
    match told.read_descriptor() {
        Ok(Some(descriptor)) => Checks {
            contradiction: contradiction(told, Some(&descriptor), path),
            words: Vec::new(),
            vouched: Vouched::of(told, &descriptor, keyring, &args.vouch.namespace, path),
            compared: told.digest.is_some(),
        },
        Ok(None) => Checks {
            contradiction: contradiction(told, None, path),
            words: Vec::new(),
            vouched: match keyring {
                Some(_) => Vouched::Refused(unsigned("the gateway tells no descriptor")),
                None => Vouched::Unasked,
            },
            compared: false,
        },
        Err(rejection) => Checks {
            vouched: match keyring {
                Some(_) => Vouched::Refused(rejection.clone()),
                None => Vouched::Unasked,
            },
            contradiction: Some(rejection),
            words: Vec::new(),
            compared: false,
        },
    }
}

/// The name of an attribute that is the gateway's word alone.
fn word(name: &[u8]) -> Option<String> {
    match Item::of_xattr(name) {
        Some(
            Item::Digest
            | Item::Descriptor
            | Item::Statement
            | Item::Signature
            | Item::Ima
            | Item::Certificates,
        ) => None,
        Some(Item::Status | Item::Signer | Item::Tree) | None => Some(format!("user.{}", shown(name))),
    }
}

/// What does not go together, whoever signed it.
fn contradiction(told: &Told, descriptor: Option<&Descriptor>, path: &StorePath) -> Option<Rejection> {
    if let Some(descriptor) = descriptor
        && let Err(rejection) = told.digest_is_of(descriptor)
    {
        return Some(rejection);
    }
    let statement = told.signatures().statement.and_then(|envelope| read_envelope(envelope).ok())?.statement;
    let wrong = |cause, detail| Some(Rejection { cause, detail });
    if statement.path != path.as_bytes() {
        let detail = format!("the statement is about {}, asked for is {path}", shown(&statement.path));
        return wrong(Cause::WrongPath, detail);
    }
    let stated = statement.file_digest.to_string();
    let (found, whose) = match (descriptor, &told.digest) {
        (Some(descriptor), _) => (descriptor.file_digest().to_string(), "the descriptor"),
        (None, Some(digest)) => (shown(digest.trim_ascii()), "the gateway's digest"),
        (None, None) => return None,
    };
    if stated != found {
        let detail = format!("the statement is about {stated}, {whose} about {found}");
        return wrong(Cause::WrongDigest, detail);
    }
    None
}

fn tell(out: &mut impl Write, checks: &Checks) -> Result<(), Trouble> {
    match &checks.contradiction {
        Some(rejection) => writeln!(out, "checked: {rejection}")?,
        None if checks.compared => writeln!(out, "checked: the digest is that of the descriptor")?,
        None => {}
    }
    writeln!(out, "signed: {}", checks.vouched.shown())?;
    if checks.vouched.leaves_the_path_open() {
        writeln!(out, "not proven: {}", signers::UNBOUND)?;
    }
    if !checks.words.is_empty() {
        writeln!(out, "not checked, the gateway's word: {}", checks.words.join(", "))?;
    }
    Ok(())
}

/// A value as text, where it is printable; of several lines, `indent` stands before all but the first, so
/// that none of them looks like one of this tool.
fn text(value: &[u8], indent: &str) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\n');
    let printable = text.chars().all(|c| is_plain(c) || c == '\n');
    printable.then(|| text.replace('\n', &format!("\n{indent}")))
}

/// A value in a listing: what can be read of it.
fn listed(name: &[u8], value: &Bytes) -> String {
    if Item::of_xattr(name) == Some(Item::Statement)
        && let Ok(claim) = read_envelope(value)
    {
        let statement = &claim.statement;
        let keys: Vec<String> = claim.key_ids.iter().map(|id| id.short()).collect();
        return format!(
            "{} is {}, version {}, says {}",
            shown(&statement.path),
            statement.file_digest,
            statement.version,
            keys.join(", "),
        );
    }
    match text(value, &" ".repeat(25)) {
        Some(text) => text,
        None => match value.get(..SHOWN) {
            Some(head) if value.len() > SHOWN => {
                format!("0x{}… ({} bytes)", hex::encode(head), value.len())
            }
            _ => format!("0x{}", hex::encode(value)),
        },
    }
}

fn as_json(args: &XattrArgs, values: &[(Vec<u8>, Bytes)], checks: &Checks) -> serde_json::Value {
    let attribute = |(name, value): &(Vec<u8>, Bytes)| {
        let name = format!("user.{}", String::from_utf8_lossy(name));
        match std::str::from_utf8(value) {
            Ok(text) => json!({ "name": name, "text": text }),
            Err(_) => json!({ "name": name, "hex": hex::encode(value) }),
        }
    };
    let contradiction = checks.contradiction.as_ref();
    json!({
        "path": args.url.path.to_string(),
        "attributes": values.iter().map(attribute).collect::<Vec<_>>(),
        "contradiction": contradiction.map(|r| json!({ "cause": r.cause.as_str(), "detail": r.detail })),
        "signed": checks.vouched.as_json(),
        "not_checked": checks.words,
        "good": checks.hold(),
    })
}
