//! Foreign bytes made fit for one line of a terminal, of JSON and of HTML.
//!
//! Paths and details come from the store and from clients. Whatever they hold, they stay on
//! their line, keep to the direction of reading, and cannot be taken for markup.

use std::fmt::Write;

/// The most characters of a detail, an error or a setting that are kept.
pub(super) const CLIP: usize = 1024;
/// The same of records of the kernel's form, which end with what matters most: a path of 16 KiB may stand there in
/// hexadecimal, and before a rule with another one.
pub(super) const RECORD: usize = 128 * 1024;

/// True for characters that change what a reader sees around them: controls, line and paragraph
/// separators, zero-width characters and changes of direction.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `bytes` on one line: what is not printable UTF-8 stands as `\xNN`, a backslash as two, so that
/// different bytes never look the same.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_deceptive(c) => push_hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// `text` on one line: what [`printable`] would not let through stands as it does there. A backslash stays as it is, for
/// what comes here may have been made printable already.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_deceptive(c) {
            true => push_hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
            false => out.push(c),
        }
    }
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// The first `max` characters of `text`, with an ellipsis where something was left off.
pub(super) fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Serialized JSON with deceptive characters escaped too; JSON itself only asks for those below
/// U+0020, while readers that split at any Unicode line end would take U+2028 for the end of a line.
pub(crate) fn json_line(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_deceptive(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` as HTML text or as a quoted attribute's value.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_is_one_line_and_tells_bytes_apart() {
        assert_eq!(printable(b"plain/\xc3\xa9"), "plain/é");
        assert_eq!(printable(b"a\nb\xff\\"), "a\\x0ab\\xff\\\\");
        assert_eq!(printable("\u{202e}txt\u{2028}".as_bytes()), "\\xe2\\x80\\xaetxt\\xe2\\x80\\xa8");
        assert_ne!(printable(b"\\x0a"), printable(b"\n"));
    }

    #[test]
    fn one_line_leaves_alone_what_is_printable() {
        let shown = printable(b"a\nb\\\xff\xc3\xa9");
        assert_eq!(one_line(&shown), shown);
        assert_eq!(one_line("a\r\nb\u{2028}\u{1b}[2J\0"), "a\\x0d\\x0ab\\xe2\\x80\\xa8\\x1b[2J\\x00");
    }

    #[test]
    fn clipping_counts_characters_and_says_so() {
        assert_eq!(clip("ééé", 3), "ééé");
        assert_eq!(clip("éééé", 3), "ééé…");
        assert_eq!(clip("", 0), "");
    }

    #[test]
    fn json_line_keeps_the_value() {
        let hostile = "a\u{2028}b\u{85}c\u{202e}d\u{7f}é\n";
        let json = serde_json::to_string(hostile).unwrap();
        let line = json_line(&json);
        assert!(line.chars().all(|c| !is_deceptive(c)), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
    }

    #[test]
    fn html_has_no_markup_left() {
        assert_eq!(html("<script>&'\""), "&lt;script&gt;&amp;&#39;&quot;");
    }
}
