//! The page of one file: which of its blocks are good, bad, or unknown.

use std::fmt::{self, Write};

use super::sections::{banner, hashes, place};
use super::{Bytes, close, item, link, open, second};
use crate::event::Survey;
use crate::monitor::failures::{Checked, File};
use crate::monitor::map::{Run, blocks};
use crate::monitor::map::{State, cells, counts};
use crate::monitor::snapshot::Snapshot;
use crate::monitor::text::{html, printable};

/// Cells of the map, and of one of its rows.
const CELLS: u64 = 1024;
const ROW: u64 = 64;
/// Blocks that are listed.
const LISTED: usize = 200;

/// What is known of a file.
#[derive(Debug, Default)]
pub(in crate::monitor) struct Known {
    /// The path's bytes.
    pub(in crate::monitor) path: Vec<u8>,
    /// What the export knows of it; `None` where there is no such file, or its evidence is not accepted.
    pub(in crate::monitor) survey: Option<Survey>,
    /// What failed.
    pub(in crate::monitor) file: Option<File>,
    /// All blocks, where their number is known.
    pub(in crate::monitor) runs: Vec<Run>,
}

/// The page `/files`.
pub(in crate::monitor) fn render_file(snapshot: &Snapshot, known: &Known) -> String {
    let mut out = String::with_capacity(64 * 1024);
    // Writing to a String cannot fail.
    let _ = write_page(&mut out, snapshot, known);
    out
}

fn write_page(out: &mut String, snapshot: &Snapshot, known: &Known) -> fmt::Result {
    let path = printable(&known.path);
    open(out, &format!("{path}: nfs-verity"), snapshot, Some(&String::from_utf8_lossy(&known.path)))?;
    writeln!(out, "<p><a href=\"/\">Status of the gateway</a></p>\n<h1><code>{}</code></h1>", html(&path))?;
    banner(out, snapshot)?;
    facts(out, known)?;
    map(out, known)?;
    bad(out, known)?;
    history(out, snapshot, known)?;
    close(out)
}

fn facts(out: &mut String, known: &Known) -> fmt::Result {
    out.push_str("<section id=\"file\" data-live>\n<dl>\n");
    match &known.survey {
        Some(survey) => {
            item(out, "Signed size", &format_args!("{} ({} bytes)", Bytes(survey.size), survey.size))?;
            item(out, "Blocks", &format_args!("{} of {} bytes", blocks(survey), survey.block_size))?;
        }
        None => item(out, "Evidence", &"not accepted, or there is no such file now: its blocks are unknown")?,
    }
    match known.file.as_ref().and_then(|file| file.checked.as_ref()) {
        None => item(out, "Read as a whole", &"not since the start")?,
        Some((time, Checked::Running)) => {
            item(out, "Read as a whole", &format_args!("under way since {}", second(*time)))?;
        }
        Some((time, Checked::Blocks(0))) => {
            item(out, "Read as a whole", &format_args!("every block is good ({})", second(*time)))?;
        }
        Some((time, Checked::Blocks(count))) => {
            item(out, "Read as a whole", &format_args!("bad blocks: {count} ({})", second(*time)))?;
        }
        Some((time, Checked::Refused(why))) => {
            let why = printable(why.as_bytes());
            item(out, "Read as a whole", &format_args!("{why} ({})", second(*time)))?;
        }
    }
    let url = link(&known.path).replacen("/files", "/api/v1/files/check", 1);
    writeln!(
        out,
        "</dl>\n<p><small>To read and prove all of it: <code>curl -X POST -H \"Authorization: Bearer TOKEN\" \
         'http://MONITOR{}'</code>, where <code>monitor_token</code> is set.</small></p>\n</section>",
        html(&url.replace('\'', "%27"))
    )
}

fn map(out: &mut String, known: &Known) -> fmt::Result {
    out.push_str("<section id=\"map\" data-live>\n<h2>Blocks</h2>\n");
    if known.runs.is_empty() {
        out.push_str("<p>Nothing is known of its blocks.</p>\n</section>\n");
        return Ok(());
    }
    let [good, unknown, bad] = counts(&known.runs);
    let words = format!("{} blocks: {good} good, {bad} bad, {unknown} unknown", good + unknown + bad);
    let cells = cells(&known.runs, CELLS);
    let rows = (cells.len() as u64).div_ceil(ROW);
    writeln!(
        out,
        "<p id=\"map-words\">{words}.</p>\n<svg role=\"img\" aria-labelledby=\"map-title\" \
         viewBox=\"0 0 {} {}\"><title id=\"map-title\">{words}</title>",
        ROW * 12,
        rows * 12
    )?;
    for (n, cell) in (0_u64..).zip(&cells) {
        let (x, y) = (n % ROW * 12 + 1, n / ROW * 12 + 1);
        let (state, first, count) = (cell.state.as_str(), cell.first, cell.count);
        write!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" data-state=\"{state}\" data-first=\"{first}\" \
             data-count=\"{count}\"><title>{}: {state}</title></rect>",
            span(first, count)
        )?;
        if cell.state == State::Bad {
            let (right, low) = (x + 8, y + 8);
            let (x, y) = (x + 2, y + 2);
            write!(out, "<path class=\"cross\" d=\"M{x} {y}L{right} {low}M{right} {y}L{x} {low}\"/>")?;
        }
    }
    out.push_str("</svg>\n<p><small>");
    if let Some(cell) = cells.first().filter(|cell| cell.count > 1) {
        write!(out, "A cell is {} blocks, and as bad as the worst of them.", cell.count)?;
    }
    out.push_str(
        "<span class=\"key is-good\"></span>good: proven when it was read last\
         <span class=\"key is-bad\"></span>bad: does not verify, marked with a cross\
         <span class=\"key is-unknown\"></span>unknown: not read lately</small></p>\n</section>\n",
    );
    Ok(())
}

fn span(first: u64, count: u64) -> String {
    match count {
        0 | 1 => format!("block {first}"),
        count => format!("blocks {first} to {}", first + count - 1),
    }
}

fn bad(out: &mut String, known: &Known) -> fmt::Result {
    out.push_str("<section id=\"bad\" data-live>\n<h2>Bad blocks</h2>\n");
    let Some(file) = known.file.as_ref().filter(|file| !file.bad.is_empty()) else {
        out.push_str("<p>None is known.</p>\n</section>\n");
        return Ok(());
    };
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Bad blocks\"><table>\n<thead><tr>\
         <th scope=\"col\">Block<th scope=\"col\">Cause<th scope=\"col\">Expected and found hash\
         <th scope=\"col\">Times<th scope=\"col\">Last<th scope=\"col\">What to do</thead>\n<tbody>\n",
    );
    for ((level, block), bad) in file.bad.iter().take(LISTED) {
        write!(out, "<tr data-block=\"{block}\"")?;
        if let Some(level) = level {
            write!(out, " data-level=\"{level}\"")?;
        }
        write!(
            out,
            "><td>{}<td><span class=\"bad\">{}</span>",
            place(Some(*block), *level),
            html(bad.cause.as_str())
        )?;
        if !bad.detail.is_empty() {
            write!(out, "<br><small>{}</small>", html(&printable(bad.detail.as_bytes())))?;
        }
        out.push_str("<td class=\"hash\">");
        hashes(out, bad.expected.as_deref(), bad.found.as_deref())?;
        let (last, remedy) = (second(bad.last), html(bad.cause.remedy()));
        writeln!(out, "<td>{}<td class=\"time\">{last}<td>{remedy}", bad.times)?;
    }
    out.push_str("</tbody></table></div>\n");
    let more = (file.bad.len().saturating_sub(LISTED) as u64).saturating_add(file.more);
    if more > 0 {
        writeln!(out, "<p>And {more} more.</p>")?;
    }
    out.push_str("</section>\n");
    Ok(())
}

/// The failures of this file among the last ones.
fn history(out: &mut String, snapshot: &Snapshot, known: &Known) -> fmt::Result {
    out.push_str("<section id=\"history\" data-live>\n<h2>Last failures of this file</h2>\n");
    let mut entries = snapshot.failing.iter().filter(|entry| *entry.path == *known.path).peekable();
    if entries.peek().is_none() {
        out.push_str("<p class=\"good\">None among the last ones.</p>\n</section>\n");
        return Ok(());
    }
    out.push_str("<ul>\n");
    for entry in entries {
        write!(
            out,
            "<li>{}: {}, {}",
            second(entry.last),
            html(entry.refused.cause),
            place(entry.refused.block, entry.refused.level)
        )?;
        if let Some(client) = entry.refused.client {
            write!(out, ", asked for by {client}")?;
        }
        if entry.times > 1 {
            write!(out, ", {} times", entry.times)?;
        }
        writeln!(out, "; {}", html(entry.refused.remedy))?;
    }
    out.push_str("</ul>\n</section>\n");
    Ok(())
}
