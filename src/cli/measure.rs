//! `nfs-verity measure`: shows and verifies the measurement list of a gateway.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::quote::{self, QuoteArgs, QuotedArgs};
use super::{Outcome, Trouble};
use crate::config::load_keyring;
use crate::measure::{
    ASCII, BINARY, Bank, Fault, ListError, Records, closed, pcrs, verify_chain, verify_register,
};
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

/// The closed binary lists in their order, and the one that a gateway may be writing. A gateway that ended between
/// two segments left none of these; one that serves may close it meanwhile, so it is opened first.
fn lists(directory: &Path) -> Result<(Vec<PathBuf>, Option<File>), Trouble> {
    let path = directory.join(BINARY);
    let open = match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::file("read", &path, error)),
    }?;
    let failed = |error| Trouble::file("read", directory, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(BINARY)?.strip_prefix('.')?.parse().ok());
        numbers.extend(number.filter(|number: &u64| closed(BINARY, *number) == name.to_string_lossy()));
    }
    if numbers.is_empty() && open.is_none() {
        return Err(Trouble::file("read", &path, ErrorKind::NotFound.into()));
    }
    numbers.sort_unstable();
    let closed = numbers.into_iter().map(|number| directory.join(closed(BINARY, number)));
    Ok((closed.collect(), open))
}

fn show(args: &ShowArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    let (closed, open) = lists(&args.directory)?;
    for path in closed {
        let file = File::open(&path).map_err(|error| Trouble::file("read", &path, error))?;
        // What was closed since is shown as the open one.
        let is_open =
            |open: &File| identity(open).is_ok_and(|open| identity(&file).is_ok_and(|it| it == open));
        if !open.as_ref().is_some_and(is_open) {
            show_list(&path, file, false, args.json, out)?;
        }
    }
    if let Some(file) = open {
        show_list(&args.directory.join(BINARY), file, true, args.json, out)?;
    }
    Ok(Outcome::Good)
}

/// Shows one list; where it `is_open`, to its last whole record.
fn show_list(
    path: &Path,
    file: File,
    is_open: bool,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    let mut list = Vec::new();
    let read = file.take(LIST_MAX + 1).read_to_end(&mut list);
    read.map_err(|error| Trouble::file("read", path, error))?;
    if list.len() as u64 > LIST_MAX {
        return Err(Trouble::other(format!("{}: more than {LIST_MAX} bytes are no list", path.display())));
    }
    for record in Records::new(&list) {
        let record = match record {
            Ok(record) => record,
            Err(ListError { fault: Fault::Cut, .. }) if is_open => break,
            Err(error) => {
                return Err(Trouble::other(format!("{}: {error}; try measure verify", path.display())));
            }
        };
        if json {
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
    Ok(())
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
        let (paths, open) = lists(&directory).unwrap();
        assert_eq!(paths, [closed(BINARY, 9), closed(BINARY, 10)].map(|file| directory.join(file)));
        assert!(open.is_some());
        assert_eq!(shown(true).unwrap().iter().filter(|byte| **byte == b'\n').count(), 3);
    }

    #[test]
    fn a_list_that_is_being_written_is_shown_to_its_last_whole_record() {
        let dir = tempfile::tempdir().unwrap();
        let entry = Entry::boot_aggregate(Template::ImaSigV2);
        let cut = [entry.binary(), entry.binary()[..30].to_vec()].concat();
        let show = || {
            let mut out = Vec::new();
            show(&ShowArgs { directory: dir.path().to_owned(), json: false }, &mut out).map(|_| out)
        };
        fs::write(dir.path().join(BINARY), &cut).unwrap();
        assert_eq!(show().unwrap(), entry.ascii());
        // A segment that is closed while all is opened is not shown twice.
        fs::hard_link(dir.path().join(BINARY), dir.path().join(closed(BINARY, 1))).unwrap();
        assert_eq!(show().unwrap(), entry.ascii());
        fs::remove_file(dir.path().join(BINARY)).unwrap();
        let error = show().unwrap_err().to_string();
        assert!(error.contains("it is cut") && error.contains("measure verify"), "{error}");
    }
}
