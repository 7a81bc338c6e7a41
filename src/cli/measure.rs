//! `nfs-verity measure`: shows and verifies the measurement list of a gateway.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::quote::{self, QuoteArgs, QuotedArgs};
use super::{Outcome, Trouble};
use crate::config::load_keyring;
use crate::measure::{ASCII, BINARY, Bank, Records, closed, pcrs, verify_chain, verify_register};
use crate::sign::{Format, Keyring};

/// The longest list that is read, in bytes.
const LIST_MAX: u64 = 512 << 20;

/// Show and verify what a gateway measured: the list that IMA would have kept
#[derive(Debug, Args)]
pub(super) struct MeasureArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowArgs),
    Verify(VerifyArgs),
    Quote(QuoteArgs),
}

/// Print the list, all of its segments
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  nfs-verity measure show /var/lib/nfs-verity/measure

The lines are those of the kernel's ascii_runtime_measurements. What is printed is not verified.")]
struct ShowArgs {
    /// The directory that `serve` writes
    directory: PathBuf,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Check every record, every segment's signed start, and what the registers hold
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity measure verify --key measure.pub /var/lib/nfs-verity/measure
  cat DIR/binary_runtime_measurements.{1..9} DIR/binary_runtime_measurements >list  # those that there are, in order
  evmctl ima_measurement --ignore-violations --pcrs sha256,DIR/pcrs.sha256 list

KEY is measure.pub of the gateway's state directory, kept elsewhere: the gateway that is not trusted could have
made another. That records are missing at the end, only a register kept elsewhere can tell: --pcr, or --quote with
what the TPM signed of the one that follows the list (measure quote). Records behind those of a quote are as good.

Exit status: 0 good, 1 not.")]
struct VerifyArgs {
    /// The directory that `serve` writes
    directory: PathBuf,
    /// The public key that signs where segments begin
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// What the register must hold at the end, as in sha256:01ab..., if that is known
    #[arg(long, value_name = "ALG:HEX")]
    pcr: Option<String>,
    #[command(flatten)]
    quoted: QuotedArgs,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MeasureArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    match &args.command {
        Command::Show(args) => show(args, out),
        Command::Verify(args) => verify(args, out),
        Command::Quote(args) => quote::make(args, out),
    }
}

/// The binary lists in their order. Where there are closed ones, there may be no open one: a gateway that ended
/// between two segments left none.
fn lists(directory: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let failed = |error| Trouble::file("read", directory, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(BINARY)?.strip_prefix('.')?.parse().ok());
        numbers.extend(number.filter(|number: &u64| closed(BINARY, *number) == name.to_string_lossy()));
    }
    numbers.sort_unstable();
    let mut files: Vec<_> =
        numbers.into_iter().map(|number| directory.join(closed(BINARY, number))).collect();
    let open = directory.join(BINARY);
    if files.is_empty() || fs::exists(&open).map_err(|error| Trouble::file("read", &open, error))? {
        files.push(open);
    }
    Ok(files)
}

fn show(args: &ShowArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    for path in lists(&args.directory)? {
        let failed = |error| Trouble::file("read", &path, error);
        if fs::metadata(&path).map_err(failed)?.len() > LIST_MAX {
            return Err(Trouble::other(format!(
                "{}: more than {LIST_MAX} bytes are no list",
                path.display()
            )));
        }
        let list = fs::read(&path).map_err(failed)?;
        for record in Records::new(&list) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    return Err(Trouble::other(format!("{}: {error}; try measure verify", path.display())));
                }
            };
            if args.json {
                let fields = &record.fields;
                let value = json!({
                    "template": record.template.name(),
                    "template_digest": hex::encode(record.digest),
                    "violation": record.is_violation(),
                    "kind": fields.kind.name(),
                    "digest": format!("{}:{}", fields.hash.name(), hex::encode(fields.digest)),
                    "name": String::from_utf8_lossy(fields.name),
                    "signature": hex::encode(fields.third),
                });
                writeln!(out, "{value}")?;
            } else {
                out.write_all(&record.ascii())?;
            }
        }
    }
    Ok(Outcome::Good)
}

fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let keyring: Keyring =
        load_keyring(&args.key, Format::ALL.into_iter().collect()).map_err(Trouble::usage)?;
    let expected = args.pcr.as_deref().map(register).transpose()?;
    let signed =
        |start: &[u8], signature: &[u8]| keyring.iter().any(|trusted| trusted.key.verify(start, signature));
    let quoted = args.quoted.load()?;
    let quoted = match quoted.as_ref().map(|quoted| quoted.check(&signed)).transpose() {
        Ok(quoted) => quoted,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(Outcome::Failed);
        }
    };
    let chain = match &quoted {
        Some(quoted) => verify_register(&args.directory, &signed, &quoted.mark, &|banks| quoted.is_of(banks))
            .map(|(chain, replayed)| (chain, Some((quoted, replayed)))),
        None => verify_chain(&args.directory, &signed).map(|chain| (chain, None)),
    };
    let (chain, attested) = match chain {
        Ok(chain) => chain,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(Outcome::Failed);
        }
    };
    let mut good = true;
    if let Some((bank, wanted)) = expected {
        good = chain.end.get(bank) == wanted;
    }
    let is_attested = attested.as_ref().is_none_or(|(_, replayed)| replayed.found.is_some());
    let registers = Bank::ALL.map(|bank| (bank.name(), hex::encode(chain.end.get(bank))));
    if args.json {
        let value = json!({
            "verified": good && is_attested,
            "quote": attested.as_ref().map(|(quoted, replayed)| quoted.json(replayed)),
            "records": chain.records,
            "violations": chain.violations,
            "first_segment": chain.start.segment,
            "last_segment": chain.segment,
            "pcr10": registers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        });
        writeln!(out, "{value:#}")?;
    } else {
        let (records, violations) = (chain.records, chain.violations);
        writeln!(out, "{records} records to segment {}, {violations} violations", chain.segment)?;
        for (name, digits) in &registers {
            writeln!(out, "PCR-10 {name} {digits}")?;
        }
        if !good {
            writeln!(out, "the register is another: records are missing, or it is of another list")?;
        }
        if let Some((quoted, replayed)) = &attested {
            writeln!(out, "{}", quoted.told(replayed))?;
        }
        let files = format!("{ASCII} and {}", pcrs(Bank::Sha256));
        writeln!(out, "{files} follow from {BINARY}, which is what was verified")?;
    }
    Ok(if good && is_attested { Outcome::Good } else { Outcome::Failed })
}

/// `sha256:HEX`.
fn register(text: &str) -> Result<(Bank, Vec<u8>), Trouble> {
    let wrong = || Trouble::usage("--pcr must be sha1, sha256 or sha384, a colon, and hex digits");
    let (name, digits) = text.split_once(':').ok_or_else(wrong)?;
    let bank = Bank::ALL.into_iter().find(|bank| bank.name() == name).ok_or_else(wrong)?;
    Ok((bank, hex::decode(digits).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Entry, Template};

    #[test]
    fn a_list_between_two_segments_has_no_open_one_and_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().to_owned();
        let entry = Entry::boot_aggregate(Template::ImaSigV2);
        let shown = |json| {
            let mut out = Vec::new();
            show(&ShowArgs { directory: directory.clone(), json }, &mut out).map(|_| out)
        };
        assert!(shown(false).is_err(), "no list at all");
        for number in [10, 9] {
            fs::write(directory.join(closed(BINARY, number)), entry.binary()).unwrap();
        }
        assert_eq!(shown(false).unwrap(), entry.ascii().repeat(2));
        fs::write(directory.join(BINARY), entry.binary()).unwrap();
        assert_eq!(shown(false).unwrap(), entry.ascii().repeat(3));
        let files = [closed(BINARY, 9), closed(BINARY, 10), BINARY.to_owned()];
        assert_eq!(lists(&directory).unwrap(), files.map(|file| directory.join(file)));
        assert_eq!(shown(true).unwrap().iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}
