//! The last hour in a picture, and in words for who does not see it.

use std::fmt::{self, Write};

use super::{Bytes, second};
use crate::monitor::timeline::Minute;

const WIDTH: u64 = 720;
/// Of the bars of what was read, and below them of those of failures.
const HEIGHT: u64 = 90;
const FAILED: u64 = 24;

/// What was proven and what failed in `minutes`.
pub(super) fn section(out: &mut String, minutes: &[Minute]) -> fmt::Result {
    let bytes: u64 = minutes.iter().map(|minute| minute.read_bytes).sum();
    let refused: u64 = minutes.iter().map(|minute| minute.refused).sum();
    let most = minutes.iter().map(|minute| minute.read_bytes).max().unwrap_or(0).max(1);
    let words = format!(
        "In the last {} minutes {} were read and {refused} failures told; at most {} in one minute.",
        minutes.len(),
        Bytes(bytes),
        Bytes(if bytes == 0 { 0 } else { most })
    );
    let height = HEIGHT + FAILED;
    writeln!(
        out,
        "<section id=\"timeline\" data-live>\n<h2>Last hour</h2>\n\
         <svg role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" aria-labelledby=\"timeline-title\">\
         <title id=\"timeline-title\">{words}</title>"
    )?;
    let each = WIDTH / (minutes.len() as u64).max(1);
    for (n, minute) in (0_u64..).zip(minutes) {
        let x = n * each;
        let width = each.saturating_sub(2).max(1);
        let bar = u128::from(minute.read_bytes) * u128::from(HEIGHT) / u128::from(most);
        if minute.read_bytes > 0 {
            let bar = u64::try_from(bar).unwrap_or(HEIGHT).clamp(1, HEIGHT);
            let y = HEIGHT - bar;
            write!(out, "<rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{bar}\"/>")?;
        }
        if minute.refused > 0 {
            // A cross and not color alone.
            let (y, far) = (HEIGHT + 6, HEIGHT + FAILED - 6);
            let end = x + width;
            write!(
                out,
                "<rect class=\"failed\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\"/>\
                 <path class=\"cross\" d=\"M{x} {y}L{end} {far}M{end} {y}L{x} {far}\"/>",
                far - y
            )?;
        }
    }
    out.push_str("</svg>\n");
    if let (Some(first), Some(last)) = (minutes.first(), minutes.last()) {
        let (first, last) = (second(first.time), second(last.time));
        writeln!(out, "<p class=\"ends\"><small>{first}</small><small>{last}</small></p>")?;
    }
    writeln!(
        out,
        "<p><small>{words} Bars are bytes read; below them are minutes with failures.</small></p>\n</section>"
    )
}
