//! The status page: HTML that stands for itself, one stylesheet, and a script that keeps it as it is now.
//!
//! Pure: a snapshot goes in, text comes out. Every value is escaped where it is written. Without the script the page
//! is complete; nothing comes from elsewhere.

mod file;
mod sections;
mod timeline;

use std::fmt::{self, Display, Write};

use jiff::Timestamp;

use super::snapshot::Snapshot;
use super::text::{html, printable};
use super::timeline::Minute;
use crate::event::KINDS;

pub(super) use file::{Known, render_file};

/// `/monitor.css`.
pub(super) const STYLE: &str = include_str!("style.css");
/// `/monitor.js`.
pub(super) const SCRIPT: &str = include_str!("monitor.js");

/// The most characters of a path that are shown.
const PATH: usize = 400;

/// The page `/`.
pub(super) fn render(snapshot: &Snapshot, minutes: &[Minute]) -> String {
    let mut out = String::with_capacity(32 * 1024);
    // Writing to a String cannot fail.
    let _ = write_page(&mut out, snapshot, minutes);
    out
}

fn write_page(out: &mut String, snapshot: &Snapshot, minutes: &[Minute]) -> fmt::Result {
    let title = format!("nfs-verity: {}", snapshot.health.as_str());
    open(out, &title, snapshot, None)?;
    let class = if snapshot.phase.as_str() == "serving" { "good" } else { "bad" };
    writeln!(
        out,
        "<h1>nfs-verity <span id=\"phase\" data-live class=\"{class}\">{}</span></h1>",
        snapshot.phase.as_str()
    )?;
    sections::banner(out, snapshot)?;
    sections::health(out, snapshot)?;
    sections::failures(out, &snapshot.failing)?;
    timeline::section(out, minutes)?;
    sections::export(out, snapshot)?;
    sections::keys(out, snapshot)?;
    sections::stores(out, snapshot)?;
    sections::scrub(out, &snapshot.scrub)?;
    sections::totals(out, snapshot)?;
    close(out)
}

/// All up to what a page shows; `path` is that of the file that it is about.
fn open(out: &mut String, title: &str, snapshot: &Snapshot, path: Option<&str>) -> fmt::Result {
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript>\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"/monitor.css\">\n<script src=\"/monitor.js\" defer></script>\n</head>",
        html(title)
    )?;
    write!(out, "<body data-event=\"{}\" data-kinds=\"{}\"", snapshot.last_event, KINDS.join(" "))?;
    if let Some(path) = path {
        write!(out, " data-path=\"{}\"", html(path))?;
    }
    out.push_str(">\n<div id=\"live\" class=\"away\" aria-live=\"polite\"></div>\n<main>\n");
    Ok(())
}

fn close(out: &mut String) -> fmt::Result {
    out.push_str(
        "</main>\n<footer><small><a href=\"/\">status</a> · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/healthz\">health</a> · <a href=\"/readyz\">readiness</a> · \
         <a href=\"/api/v1/status\">JSON</a> · <a href=\"/api/v1/openapi.json\">API</a></small></footer>\n\
         </body>\n</html>\n",
    );
    Ok(())
}

fn item(out: &mut String, name: &str, value: &dyn Display) -> fmt::Result {
    writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", html(name), html(&value.to_string()))
}

/// An item with foreign text.
fn text(out: &mut String, name: &str, value: &str) -> fmt::Result {
    item(out, name, &printable(value.as_bytes()))
}

fn second(time: Timestamp) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{time:.0}"))
}

/// Where the page of the file at `path` is.
pub(super) fn link(path: &[u8]) -> String {
    let mut link = "/files?path=".to_owned();
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                link.push(char::from(*byte))
            }
            // Writing to a String cannot fail.
            _ => _ = write!(link, "%{byte:02X}"),
        }
    }
    link
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
mod tests;
