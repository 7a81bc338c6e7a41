//! Bytes as text: for statements (reversible) and for people (one line, bounded).

use std::fmt::{self, Write as _};

/// The most characters of a peer's text that a message to people carries.
const QUOTED_MAX: usize = 160;

/// The name of a file as a statement writes it: valid UTF-8 stays, but `%`, control characters and
/// every byte that is not valid UTF-8 stand as `%XX`.
pub(super) fn encode_name(path: &[u8]) -> String {
    let mut name = String::with_capacity(path.len());
    let escape = |name: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    };
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                escape(&mut name, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                name.push(c);
            }
        }
        escape(&mut name, chunk.invalid());
    }
    name
}

/// The path that `name` stands for; `None` unless `name` is the one form that [`encode_name`] gives
/// for a path that [`is_relative_path`] accepts.
pub(super) fn decode_name(name: &str) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            path.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        path.push(u8::try_from(high * 16 + low).ok()?);
    }
    (is_relative_path(&path) && encode_name(&path) == name).then_some(path)
}

/// True for a path that stays below the root it is relative to: not empty, not absolute, without
/// `.`, `..`, empty parts and NUL.
pub(super) fn is_relative_path(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0))
}

/// The one way to write a time: RFC 3339 in UTC with whole seconds, as in `2027-01-01T00:00:00Z`.
/// `None` for years that do not have four digits.
pub(super) fn encode_time(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?.to_string();
    (time.len() == "2027-01-01T00:00:00Z".len()).then_some(time)
}

/// Seconds since 1970; `None` unless `time` is the form that [`encode_time`] gives.
pub(super) fn decode_time(time: &str) -> Option<i64> {
    let seconds = time.parse::<jiff::Timestamp>().ok()?.as_second();
    (encode_time(seconds).as_deref() == Some(time)).then_some(seconds)
}

/// Shows bytes in double quotes, on one line and of bounded length; what cannot be printed is escaped.
pub(super) struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = QUOTED_MAX;
        let mut put = |f: &mut fmt::Formatter<'_>, text: &str| -> Result<bool, fmt::Error> {
            match room.checked_sub(text.chars().count()) {
                Some(rest) => {
                    room = rest;
                    f.write_str(text)?;
                    Ok(true)
                }
                None => Ok(false),
            }
        };
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                let text = if c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
                if !put(f, &text)? {
                    return f.write_str("\"...");
                }
            }
            for byte in chunk.invalid() {
                if !put(f, &format!("\\x{byte:02x}"))? {
                    return f.write_str("\"...");
                }
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_name_and_comes_back() {
        let long = [b"d/".repeat(2000), b"e".to_vec()].concat();
        let all: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
        for path in [
            &b"a"[..],
            b"bin/ls",
            "b\u{e4}r/\u{1f980}".as_bytes(),
            b"100%",
            b"%41",
            b"new\nline",
            b"\xff\xfe/\xc3",
            b"\xed\xa0\x80",
            "c1 \u{85} del \u{7f}".as_bytes(),
            b"...",
            b"-",
            b"a\\b\"c",
            &all,
            &long,
        ] {
            let name = encode_name(path);
            assert!(!name.chars().any(char::is_control), "{name:?}");
            assert_eq!(decode_name(&name).as_deref(), Some(path), "{name}");
        }
        assert_eq!(encode_name(b"50% \xff\n"), "50%25 %FF%0A");
        assert_eq!(encode_name("\u{85}".as_bytes()), "%C2%85");
    }

    #[test]
    fn names_in_another_form_are_refused() {
        for name in [
            "a%", "a%4", "a%41", "a%2f", "a%2Fb", "%ff", "%fF", "%C3%A4", "a\nb", "%0a", "%+1", "% 1", "%%",
            "a%G0", "\u{7f}", "a%\u{e4}",
        ] {
            assert_eq!(decode_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a%00b", "%00"] {
            assert_eq!(decode_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(encode_time(1_798_761_600).as_deref(), Some("2027-01-01T00:00:00Z"));
        for seconds in [0, -1, 1, 1_798_761_600, 4_102_444_799] {
            assert_eq!(decode_time(&encode_time(seconds).unwrap()), Some(seconds));
        }
        for time in [
            "",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00:00z",
            "2027-01-01t00:00:00Z",
            "2027-01-01 00:00:00Z",
            "2027-01-01T00:00:00+00:00",
            "2027-01-01T01:00:00+01:00",
            "2027-01-01T00:00:00.0Z",
            "2027-01-01T00:00:00.5Z",
            "2027-01-01T00:00Z",
            "2027-02-29T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "2027-01-01T00:00:00Z ",
            "2027-01-01T00:00:00Z[UTC]",
            "-000001-01-01T00:00:00Z",
        ] {
            assert_eq!(decode_time(time), None, "{time:?}");
        }
        assert_eq!(encode_time(i64::MAX), None);
        assert_eq!(encode_time(i64::MIN), None);
        assert_eq!(encode_time(-62_167_219_201), None, "one second before the year 0");
    }

    #[test]
    fn quoted_text_is_one_bounded_line() {
        assert_eq!(Quoted(b"a\nb\xff\"it's\x1b[0m\\").to_string(), "\"a\\nb\\xff\\\"it's\\u{1b}[0m\\\\\"");
        assert_eq!(Quoted("\u{202e}\u{2028}".as_bytes()).to_string(), "\"\\u{202e}\\u{2028}\"");
        for hostile in [vec![b'a'; 100_000], vec![0xff; 100_000], "\u{10ffff}".repeat(50_000).into_bytes()] {
            let shown = Quoted(&hostile).to_string();
            assert!(shown.len() <= QUOTED_MAX * 4 + 8 && shown.ends_with("\"..."), "{} bytes", shown.len());
        }
    }
}
