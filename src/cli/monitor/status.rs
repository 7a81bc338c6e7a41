//! `nfs-verity status`: what a gateway serves, and whether all is well.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::AccessArgs;
use super::words::{block, bytes, list, member, number, path, seconds, time};
use crate::cli::pool::runtime;
use crate::cli::{Outcome, Trouble};
use crate::monitor::json_line;

/// How long the gateway may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Files, keys and reasons that people are shown, at most; JSON has them all.
const SHOWN: usize = 20;

/// Show what a running gateway serves, and whether all is well
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity status
  nfs-verity status --monitor https://gateway:9649 --ca ca.pem --token-file monitor.token --json

All of it is the gateway's own word; verify --mount checks that. Exit status: 0 all is well, or
there are warnings; 1 something is bad; 2 usage; 3 the gateway does not answer.")]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Print the JSON object that the gateway answers with
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(args: &StatusArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let client = args.access.client()?;
    let asked = runtime(1)?.block_on(client.object("api/v1/status", &[], PATIENCE));
    let status = asked.map_err(Trouble::other)?;
    let Some(health) = status.get("health").and_then(Value::as_str) else {
        let base = client.base();
        return Err(Trouble::other(format!(
            "{base}: the answer tells no health; is this a gateway's monitor?"
        )));
    };
    if args.json {
        let text = format!("{status:#}");
        text.lines().try_for_each(|line| writeln!(out, "{}", json_line(line)))?;
    } else {
        for_people(out, &status)?;
    }
    out.flush()?;
    Ok(if matches!(health, "good" | "warning") { Outcome::Good } else { Outcome::Failed })
}

/// A line with its name before it, if there is something to tell.
fn line(out: &mut impl Write, name: &str, text: Option<impl std::fmt::Display>) -> Result<(), Trouble> {
    if let Some(text) = text {
        writeln!(out, "{name:<12} {text}")?;
    }
    Ok(())
}

/// How many more there are than are shown.
fn more(out: &mut impl Write, all: usize) -> Result<(), Trouble> {
    match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => line(out, "", Some(format!("and {more} more; --json has them all"))),
    }
}

pub(super) fn for_people(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    for setting in list(status, "relaxed").iter().filter_map(Value::as_str) {
        let setting = crate::cli::told::shown(setting.as_bytes());
        line(out, "RELAXED", Some(format!("enforcement is relaxed by {setting}")))?;
    }
    let health = member(status, "health").unwrap_or_default();
    line(out, "health", Some(if health == "bad" { "BAD".to_owned() } else { health }))?;
    let reasons = list(status, "reasons");
    for reason in reasons.iter().take(SHOWN) {
        let (level, text) = (member(reason, "level"), member(reason, "text").unwrap_or_default());
        writeln!(out, "  {:<10} {text}", level.unwrap_or_default())?;
        line(out, "", member(reason, "remedy"))?;
    }
    more(out, reasons.len())?;
    serving(out, status)?;
    trust(out, status)?;
    let policy = status.get("policy").filter(|policy| policy.is_object()).map(|policy| {
        let title = member(policy, "title").unwrap_or_default();
        let permissive = if member(policy, "permissive").is_some() { ", PERMISSIVE" } else { "" };
        format!("{title}, {} rules{permissive}", number(policy, "rules"))
    });
    line(out, "policy", policy)?;
    line(out, "measured in", member(status, "measure"))?;
    line(out, "audit log", Some(member(status, "audit_log").unwrap_or_else(|| "none".to_owned())))?;
    scrub(out, status)?;
    totals(out, status)?;
    failing(out, status)
}

/// What is exported, from where, to where.
fn serving(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    let (version, phase) = (member(status, "version"), member(status, "phase").unwrap_or_default());
    let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
    let since = time(status, "started").map(|time| format!(", since {time}")).unwrap_or_default();
    line(out, "gateway", Some(format!("{phase}{version}{since}")))?;
    for store in list(status, "stores") {
        let role = member(store, "role").unwrap_or_else(|| "store".to_owned());
        let down = match store.get("up").and_then(Value::as_bool) {
            Some(false) => ", DOES NOT ANSWER",
            Some(true) | None => "",
        };
        line(out, &role, Some(format!("{}{down}", member(store, "name").unwrap_or_default())))?;
    }
    line(out, "namespace", member(status, "namespace"))?;
    line(out, "nfs", member(status, "nfs"))?;
    line(out, "monitor", member(status, "monitor"))?;
    line(out, "mode", member(status, "mode"))?;
    line(out, "accept", member(status, "accept"))?;
    line(out, "carriers", member(status, "carriers"))
}

/// Whose word counts; the keys that need a look, each on a line.
fn trust(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    let (keys, revoked) = (list(status, "keys"), number(status, "revoked"));
    let trust = member(status, "trust").unwrap_or_default();
    line(out, "trust", Some(format!("{trust} (keys: {}, revoked: {revoked})", keys.len())))?;
    let state = |key: &Value| member(key, "state").unwrap_or_default();
    let odd: Vec<&Value> = keys.iter().filter(|key| state(key) != "trusted").collect();
    for key in odd.iter().take(SHOWN) {
        let when = match state(key).as_str() {
            "not yet valid" => time(key, "not_before").map(|time| format!(" until {time}")),
            "expiring" | "expired" => time(key, "not_after").map(|time| format!(", last counts {time}")),
            _ => member(key, "revoked_by").map(|entry| format!(" by {entry}")),
        };
        let kind = member(key, "kind").unwrap_or_else(|| "key".to_owned());
        let name = member(key, "name").or_else(|| member(key, "id")).unwrap_or_default();
        writeln!(out, "  {kind:<10} {name}: {}{}", state(key), when.unwrap_or_default())?;
    }
    more(out, odd.len())
}

fn scrub(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    let Some(scrub) = status.get("scrub").filter(|scrub| scrub.is_object()) else { return Ok(()) };
    let every = scrub.get("every_seconds").and_then(Value::as_u64);
    let mut text = every.map_or_else(|| "off".to_owned(), |every| format!("every {}", seconds(every)));
    if member(scrub, "running").is_some() {
        text.push_str(", running");
    }
    if member(status, "repairs").is_some() {
        text.push_str(", repairs");
    }
    line(out, "scrub", Some(text))?;
    let Some(last) = scrub.get("last").filter(|last| last.is_object()) else { return Ok(()) };
    let ended = time(last, "ended").unwrap_or_default();
    let result = member(last, "result").unwrap_or_default();
    let whole = if member(last, "complete").is_some() { "" } else { ", not complete" };
    let (good, files) = (number(last, "good"), number(last, "files"));
    let read = bytes(last, "bytes");
    writeln!(out, "  {:<10} {ended}: {result}{whole}; {good} of {files} files good, {read}", "last")?;
    let found = member(last, "findings").map(|found| match number(last, "repaired") {
        0 => found,
        repaired => format!("{found}; {repaired} repaired"),
    });
    if let Some(found) = found {
        writeln!(out, "  {:<10} {found}", "found")?;
    }
    Ok(())
}

/// Sums since the start.
fn totals(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    let Some(totals) = status.get("totals").filter(|totals| totals.is_object()) else { return Ok(()) };
    let of = |name| number(totals, name);
    let (reads, read) = (of("reads"), bytes(totals, "read_bytes"));
    line(out, "reads", Some(format!("{reads}, {read}; {} blocks proven", of("verified_blocks"))))?;
    line(out, "cache", Some(format!("{} hits, {} misses", of("cache_hits"), of("cache_misses"))))?;
    let (connections, files, handles) = (of("connections"), of("open_files"), of("handles"));
    line(out, "clients", Some(format!("{connections} connections, {files} open files, {handles} handles")))?;
    let causes = member(status, "refused").map(|causes| format!(": {causes}")).unwrap_or_default();
    line(out, "failed", Some(format!("{}{causes}", of("refused"))))?;
    match of("served_unproven") {
        0 => {}
        count => line(out, "UNPROVEN", Some(format!("{count} answers with what did not verify")))?,
    }
    match of("audit_lines_dropped") {
        0 => Ok(()),
        count => line(out, "dropped", Some(format!("{count} lines of the audit log"))),
    }
}

/// The files that fail, with what to do.
fn failing(out: &mut impl Write, status: &Value) -> Result<(), Trouble> {
    let failing = list(status, "failing");
    for file in failing.iter().take(SHOWN) {
        let mut facts: Vec<String> = [member(file, "cause"), block(file)].into_iter().flatten().collect();
        if member(file, "served").is_some() {
            facts.push("SERVED all the same".to_owned());
        }
        facts.extend(
            Some(number(file, "times")).filter(|times| *times > 1).map(|times| format!("{times} times")),
        );
        facts.extend(time(file, "last").map(|last| format!("last {last}")));
        facts.extend(member(file, "client").map(|client| format!("by {client}")));
        let path = path(file).unwrap_or_else(|| "(many files)".to_owned());
        line(out, "failing", Some(format!("{path}: {}", facts.join(", "))))?;
        line(out, "", member(file, "detail"))?;
        line(out, "", member(file, "remedy"))?;
    }
    more(out, failing.len())
}
