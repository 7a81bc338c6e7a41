//! Values of a monitor's JSON as words for people: on one line, bounded, and with nothing that a terminal acts on.

use indicatif::HumanBytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::told::shown;
use crate::store::StorePath;

/// The longest list that is written out.
const LISTED: usize = 20;

/// A value as text; `None` where it says nothing: `null`, `false` and what is empty.
pub(super) fn words(value: Option<&Value>) -> Option<String> {
    let text =
        match value? {
            Value::Null | Value::Bool(false) => return None,
            Value::Bool(true) => "yes".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => shown(text.as_bytes()),
            Value::Array(values) => listed(values.iter().filter_map(|value| words(Some(value)))),
            // Counts by what is counted.
            Value::Object(counts) => listed(counts.iter().filter_map(|(name, count)| {
                Some(format!("{} {}", words(Some(count))?, shown(name.as_bytes())))
            })),
        };
    (!text.is_empty()).then_some(text)
}

fn listed(words: impl Iterator<Item = String>) -> String {
    let mut words = words.fuse();
    let mut list = words.by_ref().take(LISTED).collect::<Vec<_>>().join(", ");
    match words.count() {
        0 => {}
        more => list.push_str(&format!(" and {more} more")),
    }
    list
}

/// A member of an object as text.
pub(super) fn member(object: &Value, name: &str) -> Option<String> {
    words(object.get(name))
}

/// A number; 0 where there is none.
pub(super) fn number(object: &Value, name: &str) -> u64 {
    object.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The members of a list; none where there is no list.
pub(super) fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The path that an object is about: its bytes, where they are told beside the text.
pub(super) fn path(object: &Value) -> Option<String> {
    let text = object.get("path").and_then(Value::as_str)?;
    let hex = object.get("path_hex").and_then(Value::as_str).and_then(|digits| hex::decode(digits).ok());
    let bytes = hex.as_deref().unwrap_or(text.as_bytes());
    Some(StorePath::parse(bytes).map_or_else(|_| shown(bytes), |path| path.to_string()))
}

/// The block that failed, in words.
pub(super) fn block(object: &Value) -> Option<String> {
    match (member(object, "block"), member(object, "level")) {
        (Some(block), Some(level)) => Some(format!("tree block {block} of level {level}")),
        (Some(block), None) => Some(format!("block {block}")),
        (None, Some(level)) => Some(format!("level {level} of the tree")),
        (None, None) => None,
    }
}

/// A time to the second.
pub(super) fn time(object: &Value, name: &str) -> Option<String> {
    let text = object.get(name).and_then(Value::as_str)?;
    Some(text.parse::<Timestamp>().map_or_else(|_| shown(text.as_bytes()), |time| format!("{time:.0}")))
}

/// A number of bytes.
pub(super) fn bytes(object: &Value, name: &str) -> String {
    HumanBytes(number(object, name)).to_string()
}

/// `60` seconds as `1m`: in the largest unit that leaves nothing over.
pub(super) fn seconds(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
    let (size, unit) = fits.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_nothing_is_left_out_and_the_rest_is_one_short_line() {
        for (value, text) in [
            (json!(null), None),
            (json!(false), None),
            (json!(""), None),
            (json!([]), None),
            (json!({}), None),
            (json!(0), Some("0")),
            (json!(true), Some("yes")),
            (json!("a\u{1b}[31m\nb"), Some("a [31m b")),
            (json!(["a", 1, null]), Some("a, 1")),
            (json!({ "bad block": 2, "un\nsigned": 1 }), Some("2 bad block, 1 un signed")),
        ] {
            assert_eq!(words(Some(&value)).as_deref(), text, "{value}");
        }
        assert_eq!(words(None), None);
        assert!(words(Some(&json!(vec!["x"; 1000]))).unwrap().ends_with(" and 980 more"));
    }

    #[test]
    fn paths_are_told_by_their_bytes() {
        for (value, text) in [
            (json!({ "path": "dir/file" }), "dir/file"),
            (json!({ "path": "" }), "/"),
            (json!({ "path": "a\nb\\" }), "a\\x0ab\\\\"),
            (json!({ "path": "\u{fffd}", "path_hex": "ff" }), "\\xff"),
            (json!({ "path": "a", "path_hex": "no digits" }), "a"),
            (json!({ "path": "/../x\u{7}" }), "/../x "),
        ] {
            assert_eq!(path(&value).as_deref(), Some(text), "{value}");
        }
        assert_eq!(path(&json!({ "path": null })), None);
    }

    #[test]
    fn times_are_in_the_largest_unit() {
        for (number, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (86_400, "1d"), (90_000, "25h")]
        {
            assert_eq!(seconds(number), text);
        }
        assert_eq!(
            time(&json!({ "t": "2026-11-29T10:00:00.123Z" }), "t").as_deref(),
            Some("2026-11-29T10:00:00Z")
        );
        assert_eq!(time(&json!({ "t": "never\u{7}" }), "t").as_deref(), Some("never "));
    }
}
