//! The status page: one HTML document without script or anything from elsewhere.
//!
//! Pure: a [`View`] goes in, text comes out. Every value is escaped where it is written.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;

use super::recent::{Entry, Recent};
use super::text::{clip, html, printable};
use crate::event::{Cause, ScrubTotals, Usage};

/// Silent stores remembered at most.
const STORES: usize = 64;
/// Settings that are remembered as relaxing enforcement, at most.
const RELAXED: usize = 16;
/// The most characters of a path that are shown.
const PATH: usize = 400;

/// Where the gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not serving yet.
    Starting,
    /// Serving.
    Serving,
    /// Not serving any more.
    Stopped,
}

/// The last reload.
#[derive(Clone, Debug)]
pub(super) struct Reload {
    what: String,
    detail: String,
    ok: bool,
    time: Timestamp,
}

impl Reload {
    /// A reload of `what` now.
    pub(super) fn new(what: &str, detail: &str, ok: bool) -> Self {
        Self { what: what.to_owned(), detail: detail.to_owned(), ok, time: Timestamp::now() }
    }
}

/// The last scrub, or the one that runs.
#[derive(Clone, Debug)]
pub(super) struct Scrub {
    text: String,
    time: Timestamp,
}

impl Scrub {
    /// One that runs from now on.
    pub(super) fn running() -> Self {
        Self { text: "running".to_owned(), time: Timestamp::now() }
    }

    /// One that ended now.
    pub(super) fn ended(result: &str, totals: &ScrubTotals) -> Self {
        let (files, found, left) = (totals.files, totals.found(), totals.left());
        let text = format!("{result}: {files} files, {found} findings, {left} of them left");
        Self { text, time: Timestamp::now() }
    }
}

/// What holds now.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) phase: Phase,
    /// Of the NFS port and of the monitor.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(super) store: String,
    pub(super) mode: String,
    pub(super) keys: usize,
    /// The settings that relax enforcement.
    pub(super) relaxed: Vec<String>,
    pub(super) reload: Option<Reload>,
    /// The stores that do not answer.
    down: BTreeSet<String>,
    pub(super) scrub: Option<Scrub>,
    since: Timestamp,
    audit_log: Option<PathBuf>,
}

impl Status {
    /// Before anything happened.
    pub(super) fn new(since: Timestamp, audit_log: Option<PathBuf>) -> Self {
        Self {
            phase: Phase::Starting,
            addresses: None,
            store: String::new(),
            mode: String::new(),
            keys: 0,
            relaxed: Vec::new(),
            reload: None,
            down: BTreeSet::new(),
            scrub: None,
            since,
            audit_log,
        }
    }

    /// Remembers a setting that relaxes enforcement.
    pub(super) fn relax(&mut self, setting: &str) {
        if self.relaxed.len() < RELAXED && !self.relaxed.iter().any(|known| known == setting) {
            self.relaxed.push(setting.to_owned());
        }
    }

    /// A store went silent. Gives how many are, if that is news.
    pub(super) fn store_down(&mut self, store: &str) -> Option<u64> {
        let is_news = self.down.len() < STORES && self.down.insert(store.to_owned());
        is_news.then_some(self.down.len() as u64)
    }

    /// A store answers again. Gives how many do not, if that is news.
    pub(super) fn store_up(&mut self, store: &str) -> Option<u64> {
        self.down.remove(store).then_some(self.down.len() as u64)
    }

    /// Whether anything relaxes enforcement; a mode that is not known is taken as relaxed.
    pub(super) fn is_relaxed(&self) -> bool {
        !self.relaxed.is_empty() || !matches!(self.mode.as_str(), "" | "enforce")
    }
}

/// Sums since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) reads: u64,
    pub(super) read_bytes: u64,
    pub(super) verified_blocks: u64,
    /// The causes that occurred.
    pub(super) refusals: Vec<(Cause, u64)>,
    pub(super) served_unproven: u64,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    pub(super) calls: u64,
    /// Connections now.
    pub(super) connections: i64,
    pub(super) lines_dropped: u64,
}

/// What the page shows.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) status: &'a Status,
    pub(super) totals: Totals,
    pub(super) usage: Usage,
    pub(super) recent: &'a Recent,
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="15">
<title>nfs-verity</title>
<style>
:root { --ink: #1c2024; --soft: #60646c; --paper: #fcfcfd; --card: #f0f0f3; --line: #d9d9e0; --bad: #c62a2f; --good: #18794e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #edeef0; --soft: #b0b4ba; --paper: #111113; --card: #212225; --line: #363a3f; --bad: #ff9592; --good: #3dd68c }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 1rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.relaxed { background: #c62a2f; color: #fff; padding: 1rem 1.25rem; border-radius: .5rem; margin: 0 0 1.5rem }
.relaxed strong { display: block; font-size: 1.3rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 0 }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
small { color: var(--soft) } .bad { color: var(--bad) } .good { color: var(--good) }
a { color: inherit }
</style>
</head>
<body>
"#;

/// The document.
pub(super) fn render(view: &View<'_>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail.
    let _ = write_page(&mut out, view);
    out
}

fn write_page(out: &mut String, view: &View<'_>) -> fmt::Result {
    let View { status, totals, usage, recent } = view;
    out.push_str(HEAD);
    if status.is_relaxed() {
        banner(out, status)?;
    }
    let (class, phase) = match status.phase {
        Phase::Starting => ("bad", "starting"),
        Phase::Serving => ("good", "serving"),
        Phase::Stopped => ("bad", "stopped"),
    };
    writeln!(out, "<h1>nfs-verity <span class=\"{class}\">{phase}</span></h1>\n<dl>")?;
    item(out, "Store", &printable(status.store.as_bytes()))?;
    item(out, "Mode", &printable(status.mode.as_bytes()))?;
    item(out, "Trusted keys", &status.keys)?;
    if let Some((nfs, monitor)) = status.addresses {
        item(out, "NFS", &nfs)?;
        item(out, "Monitor", &monitor)?;
    }
    for store in &status.down {
        item(out, "Does not answer", &printable(store.as_bytes()))?;
    }
    item(out, "Version", &env!("CARGO_PKG_VERSION"))?;
    item(out, "Started", &second(status.since))?;
    match &status.audit_log {
        Some(path) => item(out, "Audit log", &printable(path.as_os_str().as_encoded_bytes()))?,
        None => item(out, "Audit log", &"none (set audit_log)")?,
    }
    if let Some(Reload { what, detail, ok, time }) = &status.reload {
        let word = if *ok { "" } else { " refused, what was before still holds" };
        let (what, detail) = (printable(what.as_bytes()), printable(detail.as_bytes()));
        item(out, "Last reload", &format_args!("{what}{word}: {detail} ({})", second(*time)))?;
    }
    if let Some(Scrub { text, time }) = &status.scrub {
        let text = printable(text.as_bytes());
        item(out, "Scrub", &format_args!("{text} ({})", second(*time)))?;
    }
    out.push_str("</dl>\n<h2>Since the start</h2>\n<dl>\n");
    write_totals(out, totals, usage)?;
    out.push_str("</dl>\n<h2>Last refusals</h2>\n");
    write_recent(out, recent)?;
    out.push_str(
        "<p><small><a href=\"/metrics\">metrics</a> · <a href=\"/healthz\">health</a> · \
         <a href=\"/readyz\">readiness</a></small></p>\n</body>\n</html>\n",
    );
    Ok(())
}

fn banner(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str("<div class=\"relaxed\" role=\"alert\"><strong>Enforcement is relaxed</strong>\n");
    out.push_str(match status.mode.as_str() {
        "enforce" => {
            "Files are accepted whose signatures bind no name, so the store may exchange them. Relaxed by "
        }
        _ => "What fails verification is served all the same. Relaxed by ",
    });
    if status.relaxed.is_empty() {
        write!(out, "<code>mode = \"{}\"</code>", html(&printable(status.mode.as_bytes())))?;
    }
    for (n, setting) in status.relaxed.iter().enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        write!(out, "{comma}<code>{}</code>", html(&printable(setting.as_bytes())))?;
    }
    out.push_str(" in the configuration.</div>\n");
    Ok(())
}

fn write_totals(out: &mut String, totals: &Totals, usage: &Usage) -> fmt::Result {
    item(out, "Reads", &totals.reads)?;
    item(out, "Bytes read", &Bytes(totals.read_bytes))?;
    item(out, "Blocks proven", &totals.verified_blocks)?;
    let failed: u64 = totals.refusals.iter().map(|(_, count)| count).sum();
    item(out, "Failed verification", &failed)?;
    for (cause, count) in &totals.refusals {
        item(out, cause.as_str(), count)?;
    }
    item(out, "Served unproven", &totals.served_unproven)?;
    item(out, "Cache hits, misses", &format_args!("{}, {}", totals.cache_hits, totals.cache_misses))?;
    item(out, "Cache", &format_args!("{} of {}", Bytes(usage.cache_bytes), Bytes(usage.cache_capacity)))?;
    item(out, "Calls", &totals.calls)?;
    item(out, "Connections now", &totals.connections)?;
    item(out, "Open files, handles", &format_args!("{}, {}", usage.open_files, usage.handles))?;
    if totals.lines_dropped > 0 {
        item(out, "Audit lines dropped", &totals.lines_dropped)?;
    }
    Ok(())
}

fn write_recent(out: &mut String, recent: &Recent) -> fmt::Result {
    if recent.entries().next().is_none() {
        out.push_str("<p class=\"good\">None.</p>\n");
        return Ok(());
    }
    out.push_str("<div class=\"scroll\"><table>\n<tr><th>Time<th>Path<th>Cause<th>Client<th>What to do\n");
    recent.entries().try_for_each(|entry| row(out, entry))?;
    out.push_str("</table></div>\n");
    Ok(())
}

fn row(out: &mut String, entry: &Entry) -> fmt::Result {
    let path = html(&clip(&printable(&entry.path), PATH));
    let path = if path.is_empty() { "/" } else { &path };
    write!(out, "<tr><td>{}", second(entry.last))?;
    if entry.times > 1 {
        write!(out, "<br><small>{} times</small>", entry.times)?;
    }
    write!(out, "<td><code>{path}</code><td><span class=\"bad\">{}</span>", html(entry.cause.as_str()))?;
    if entry.served {
        out.push_str(" <strong class=\"bad\">served</strong>");
    }
    let place = match (entry.block, entry.level) {
        (Some(block), Some(level)) => format!("tree block {block}, level {level}"),
        (Some(block), None) => format!("block {block}"),
        (None, Some(level)) => format!("level {level}"),
        (None, None) => String::new(),
    };
    for fact in [place, printable(entry.detail.as_bytes())] {
        if !fact.is_empty() {
            write!(out, "<br><small>{}</small>", html(&fact))?;
        }
    }
    out.push_str("<td>");
    if let Some(client) = entry.client {
        write!(out, "{client}")?;
    }
    if let Some(uid) = entry.uid {
        write!(out, "<br><small>uid {uid}</small>")?;
    }
    writeln!(out, "<td>{}", html(entry.cause.remedy()))
}

fn item(out: &mut String, name: &str, value: &dyn Display) -> fmt::Result {
    writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", html(name), html(&value.to_string()))
}

fn second(time: Timestamp) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{time:.0}"))
}

/// A number of bytes for people: three digits or so, and the unit.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Client, Refusal};

    fn page(status: &Status, recent: &Recent) -> String {
        let refusals = vec![(Cause::BadBlock, 4)];
        let totals = Totals { reads: 12345, refusals, ..Totals::default() };
        render(&View { status, totals, usage: Usage::default(), recent })
    }

    fn status(mode: &str) -> Status {
        let mut status = Status::new(Timestamp::UNIX_EPOCH, None);
        status.mode = mode.to_owned();
        status
    }

    fn refuse(recent: &mut Recent, path: &[u8], detail: &str) {
        let client = Client { address: "192.0.2.7:700".parse().unwrap(), uid: Some(1234), gid: None };
        let refusal = Refusal {
            path,
            cause: Cause::BadBlock,
            detail,
            block: Some(77),
            level: None,
            expected: None,
            found: None,
            client: Some(client),
            served: false,
            record: None,
        };
        recent.add(&refusal, Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn hostile_text_stays_text() {
        let mut recent = Recent::default();
        let hostile = "<script>alert(1)</script>\n\"'&<img src=x onerror=y>";
        refuse(&mut recent, hostile.as_bytes(), hostile);
        refuse(&mut recent, b"\xff<b>", "");
        let mut status = status(hostile);
        status.store = hostile.to_owned();
        status.relax(hostile);
        status.reload = Some(Reload::new(hostile, hostile, false));
        status.audit_log = Some(hostile.into());
        status.scrub = Some(Scrub::ended(hostile, &ScrubTotals::default()));
        let page = page(&status, &recent);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\x0a&quot;&#39;&amp;&lt;img"));
        assert!(page.contains("\\xff&lt;b&gt;"));
    }

    #[test]
    fn relaxed_enforcement_is_loud_and_names_its_setting() {
        let banner = "class=\"relaxed\" role=\"alert\"";
        assert!(!page(&status("enforce"), &Recent::default()).contains(banner));
        let warn = page(&status("warn"), &Recent::default());
        assert!(warn.contains(banner) && warn.contains("mode = \"warn\""), "{warn}");
        let mut named = status("enforce");
        named.relax("a = 1");
        named.relax("a = 1");
        named.relax("b = 2");
        let named = page(&named, &Recent::default());
        assert!(named.contains("<code>a = 1</code>, <code>b = 2</code>"), "{named}");
    }

    #[test]
    fn a_refusal_says_who_where_why_and_what_to_do() {
        let mut recent = Recent::default();
        (0..3).for_each(|_| refuse(&mut recent, b"dir/file", "offset 9"));
        let page = page(&status("enforce"), &recent);
        for fact in [
            "dir/file",
            "bad block",
            "block 77",
            "offset 9",
            "192.0.2.7:700",
            "uid 1234",
            "1970-01-01T00:00:00Z",
            "3 times",
            Cause::BadBlock.remedy().replace('\'', "&#39;").as_str(),
            "12345",
        ] {
            assert!(page.contains(fact), "{fact} in {page}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let page = page(&status("warn"), &Recent::default());
        for tag in ["<script", "<link", "src=", "url(", "@import", "http:", "https:"] {
            assert!(!page.contains(tag), "{tag}");
        }
    }

    #[test]
    fn bytes_are_short() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16777215.9 TiB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
