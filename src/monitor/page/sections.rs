//! The sections of the page `/`.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use super::{Bytes, PATH, item, link, second, text};
use crate::monitor::failures::Entry;
use crate::monitor::snapshot::{Key, Scrub, Snapshot};
use crate::monitor::text::{clip, html, printable};

/// What relaxes enforcement, loudly.
pub(super) fn banner(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str("<div id=\"banner\" data-live>");
    if snapshot.is_relaxed {
        out.push_str("<div class=\"relaxed\" role=\"alert\"><strong>Enforcement is relaxed</strong>\n");
        out.push_str(match snapshot.mode.as_str() {
            "enforce" => {
                "Signatures count that bind no name, so that the store may exchange files, or what policy denies \
                 is served, or clients see attributes that nobody signed. Relaxed by "
            }
            _ => "What fails verification is served all the same. Relaxed by ",
        });
        if snapshot.relaxed.is_empty() {
            write!(out, "<code>mode = \"{}\"</code>", html(&printable(snapshot.mode.as_bytes())))?;
        }
        for (n, setting) in snapshot.relaxed.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(out, "{comma}<code>{}</code>", html(&printable(setting.as_bytes())))?;
        }
        out.push_str(" in the configuration.</div>\n");
    }
    out.push_str("</div>\n");
    Ok(())
}

/// How it is, and why.
pub(super) fn health(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let (health, reasons) = (snapshot.health.as_str(), &snapshot.reasons);
    writeln!(
        out,
        "<section id=\"health\" data-live class=\"health\" data-health=\"{health}\" aria-label=\"Health\">"
    )?;
    if reasons.is_empty() {
        out.push_str("<p class=\"good\">All is well.</p>\n");
    } else {
        let word = if health == "bad" { "Look at this now" } else { "Look at this in time" };
        writeln!(out, "<p class=\"{health}\">{word}</p>\n<ul>")?;
        for reason in reasons {
            let (level, text) = (reason.level.as_str(), html(&printable(reason.text.as_bytes())));
            writeln!(out, "<li><span class=\"{level}\">{level}:</span> {text}; {}", html(reason.remedy))?;
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

/// What failed last.
pub(super) fn failures(out: &mut String, failing: &VecDeque<Entry>) -> fmt::Result {
    out.push_str("<section id=\"failures\" data-live>\n<h2>Last failures</h2>\n");
    if failing.is_empty() {
        out.push_str("<p class=\"good\">None.</p>\n</section>\n");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Last failures\"><table>\n<thead><tr>\
         <th scope=\"col\">Time<th scope=\"col\">File<th scope=\"col\">Cause<th scope=\"col\">Place\
         <th scope=\"col\">Expected and found hash<th scope=\"col\">Client<th scope=\"col\">What to do\
         </thead>\n<tbody>\n",
    );
    failing.iter().try_for_each(|entry| row(out, entry))?;
    out.push_str("</tbody></table></div>\n</section>\n");
    Ok(())
}

/// Which block, for people.
pub(super) fn place(block: Option<u64>, level: Option<u8>) -> String {
    match (block, level) {
        (Some(block), Some(level)) => format!("tree block {block}, level {level}"),
        (Some(block), None) => format!("block {block}"),
        (None, Some(level)) => format!("level {level}"),
        (None, None) => "whole file".to_owned(),
    }
}

fn row(out: &mut String, entry: &Entry) -> fmt::Result {
    let refused = &entry.refused;
    let path = html(&clip(&refused.shown, PATH));
    let path = if path.is_empty() { "/" } else { &path };
    write!(out, "<tr data-path=\"{}\"><td class=\"time\">{}", html(&refused.shown), second(entry.last))?;
    if entry.times > 1 {
        write!(out, "<br><small>{} times</small>", entry.times)?;
    }
    write!(out, "<td><a href=\"{}\"><code>{path}</code></a>", html(&link(&entry.path)))?;
    write!(out, "<td><span class=\"bad\">{}</span>", html(refused.cause))?;
    if refused.served {
        out.push_str(" <strong class=\"bad\">served</strong>");
    }
    if !refused.detail.is_empty() {
        write!(out, "<br><small>{}</small>", html(&printable(refused.detail.as_bytes())))?;
    }
    write!(out, "<td>{}<td class=\"hash\">", place(refused.block, refused.level))?;
    hashes(out, refused.expected.as_deref(), refused.found.as_deref())?;
    out.push_str("<td>");
    if let Some(client) = refused.client {
        write!(out, "{client}")?;
    }
    if let Some(uid) = refused.uid {
        write!(out, "<br><small>uid {uid}</small>")?;
    }
    writeln!(out, "<td>{}", html(refused.remedy))
}

/// The hash that was asked for, and that of what there was.
pub(super) fn hashes(out: &mut String, expected: Option<&str>, found: Option<&str>) -> fmt::Result {
    for (word, hash) in [("expected", expected), ("found", found)] {
        if let Some(hash) = hash {
            write!(out, "<small>{word}</small> <code>{}</code> ", html(hash))?;
        }
    }
    Ok(())
}

/// What is exported, from where, under which policy and trust.
pub(super) fn export(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str("<section id=\"export\" data-live>\n<h2>Export</h2>\n<dl>\n");
    let store = snapshot.stores.first().map_or("", |store| &store.name);
    text(out, "Store", store)?;
    text(out, "Mode", &snapshot.mode)?;
    match &snapshot.policy {
        None => item(out, "Policy", &"none: all that verifies is served")?,
        Some(policy) => {
            let mode = if policy.permissive { "permissive" } else { "enforced" };
            text(out, "Policy", &format!("{}, {}, {mode}", policy.title, count(policy.rules, "rule")))?;
        }
    }
    let (keys, revoked) = (count(snapshot.keys.len(), "key"), count(snapshot.revoked, "revocation"));
    text(out, "Trust", &format!("{keys} from {}, {revoked}", snapshot.trust))?;
    text(out, "Formats that count", &snapshot.accept)?;
    text(out, "Evidence is looked for in", &snapshot.carriers)?;
    let namespace = if snapshot.namespace.is_empty() { "none" } else { &snapshot.namespace };
    text(out, "Namespace", namespace)?;
    if let (Some(nfs), Some(monitor)) = (snapshot.nfs, snapshot.monitor) {
        item(out, "NFS", &nfs)?;
        item(out, "Monitor", &monitor)?;
    }
    text(out, "Audit log", snapshot.audit_log.as_deref().unwrap_or("none (set audit_log)"))?;
    text(out, "Measurement list", snapshot.measure.as_deref().unwrap_or("none (set measure)"))?;
    item(out, "Version", &snapshot.version)?;
    item(out, "Started", &second(snapshot.started))?;
    if let Some(reload) = &snapshot.reload {
        let word = if reload.ok { "" } else { " refused, what was before still holds" };
        let (what, detail) = (&reload.what, &reload.detail);
        text(out, "Last reload", &format!("{what}{word}: {detail} ({})", second(reload.time)))?;
    }
    out.push_str("</dl>\n</section>\n");
    Ok(())
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Who is trusted, until when.
pub(super) fn keys(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str("<section id=\"keys\" data-live>\n<h2>Trusted keys</h2>\n");
    if snapshot.keys.is_empty() {
        out.push_str("<p class=\"bad\">None: every file is refused.</p>\n</section>\n");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Trusted keys\"><table>\n<thead><tr>\
         <th scope=\"col\">Name<th scope=\"col\">State<th scope=\"col\">Counts until<th scope=\"col\">Formats\
         <th scope=\"col\">Paths<th scope=\"col\">Key id</thead>\n<tbody>\n",
    );
    for key in &snapshot.keys {
        self::key(out, key)?;
    }
    out.push_str("</tbody></table></div>\n</section>\n");
    Ok(())
}

fn key(out: &mut String, key: &Key) -> fmt::Result {
    let class = match key.state {
        "trusted" => "good",
        "expiring" | "not yet valid" => "warning",
        _ => "bad",
    };
    let kind = if key.kind == "authority" { " <small>authority</small>" } else { "" };
    write!(out, "<tr><td>{}{kind}", html(&printable(key.name.as_bytes())))?;
    write!(out, "<td><span class=\"{class}\">{}</span>", html(key.state))?;
    if let Some(entry) = &key.revoked_by {
        write!(out, "<br><small>by {}</small>", html(&printable(entry.as_bytes())))?;
    }
    match key.not_after {
        Some(last) => write!(out, "<td class=\"time\">{}", second(last))?,
        None => out.push_str("<td>always"),
    }
    if let Some(first) = key.not_before.filter(|_| key.state == "not yet valid") {
        write!(out, "<br><small>from {}</small>", second(first))?;
    }
    let paths = if key.paths.is_empty() { "all".to_owned() } else { key.paths.join(", ") };
    let (formats, paths) = (html(&key.formats), html(&printable(paths.as_bytes())));
    writeln!(out, "<td>{formats}<td>{paths}<td><code>{}</code>", html(&key.id))
}

/// The stores, and which of them answer.
pub(super) fn stores(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str(
        "<section id=\"stores\" data-live>\n<h2>Stores</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"Stores\"><table>\n<thead><tr><th scope=\"col\">Store<th scope=\"col\">Role\
         <th scope=\"col\">Answers</thead>\n<tbody>\n",
    );
    for store in &snapshot.stores {
        let (class, word) = if store.up { ("good", "yes") } else { ("bad", "no") };
        let name = html(&printable(store.name.as_bytes()));
        writeln!(out, "<tr><td>{name}<td>{}<td><span class=\"{class}\">{word}</span>", store.role)?;
    }
    out.push_str("</tbody></table></div>\n");
    out.push_str(match (snapshot.stores.len(), snapshot.repairs) {
        (0 | 1, _) => "<p><small>There is no replica to read or repair from.</small></p>\n",
        (_, true) => "<p><small>What is damaged on one is read from the next, and written back.</small></p>\n",
        (_, false) => "<p><small>What is damaged on one is read from the next, and not written back (set repair).</small></p>\n",
    });
    out.push_str("</section>\n");
    Ok(())
}

/// What scrubs found.
pub(super) fn scrub(out: &mut String, scrub: &Scrub) -> fmt::Result {
    out.push_str("<section id=\"scrub\" data-live>\n<h2>Scrub</h2>\n<dl>\n");
    match scrub.every_seconds {
        Some(seconds) if seconds % 3600 == 0 => item(out, "Every", &format_args!("{} h", seconds / 3600))?,
        Some(seconds) => item(out, "Every", &format_args!("{seconds} s"))?,
        None => item(out, "Every", &"never (set scrub)")?,
    }
    match scrub.since {
        Some(since) => item(out, "Now", &format_args!("running since {}", second(since)))?,
        None => item(out, "Now", &"not running")?,
    }
    match &scrub.last {
        None => item(out, "Last", &"none since the start")?,
        Some(last) => {
            text(out, "Last", &format!("{} ({})", last.result, second(last.ended)))?;
            item(out, "Files, good", &format_args!("{}, {}", last.files, last.good))?;
            item(out, "Bytes", &Bytes(last.bytes))?;
            let found: u64 = last.findings.values().sum();
            item(out, "Findings, repaired", &format_args!("{found}, {}", last.repaired))?;
            for (what, count) in last.findings.iter().filter(|(_, count)| **count > 0) {
                item(out, what, count)?;
            }
        }
    }
    out.push_str("</dl>\n</section>\n");
    Ok(())
}

/// Sums since the start.
pub(super) fn totals(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let (totals, usage) = (&snapshot.totals, &snapshot.usage);
    out.push_str("<section id=\"totals\" data-live>\n<h2>Since the start</h2>\n<dl>\n");
    item(out, "Reads", &totals.reads)?;
    item(out, "Bytes read", &Bytes(totals.read_bytes))?;
    item(out, "Blocks proven", &totals.verified_blocks)?;
    item(out, "Failed verification", &totals.refused)?;
    for (cause, count) in &snapshot.refused {
        item(out, cause, count)?;
    }
    item(out, "Served unproven", &totals.served_unproven)?;
    item(out, "Cache hits, misses", &format_args!("{}, {}", totals.cache_hits, totals.cache_misses))?;
    item(out, "Cache", &format_args!("{} of {}", Bytes(usage.cache_bytes), Bytes(usage.cache_capacity)))?;
    if usage.disk.capacity > 0 {
        let (bytes, capacity) = (Bytes(usage.disk.bytes), Bytes(usage.disk.capacity));
        let off = if usage.disk.on == 0 { ", off" } else { "" };
        item(out, "Disk cache", &format_args!("{bytes} of {capacity}{off}"))?;
    }
    if snapshot.measure.is_some() {
        item(out, "Measured", &totals.measurements)?;
    }
    item(out, "Calls", &totals.calls)?;
    item(out, "Connections now", &totals.connections)?;
    item(out, "Open files, handles", &format_args!("{}, {}", totals.open_files, totals.handles))?;
    if totals.audit_lines_dropped > 0 {
        item(out, "Audit lines dropped", &totals.audit_lines_dropped)?;
    }
    out.push_str("</dl>\n</section>\n");
    Ok(())
}
