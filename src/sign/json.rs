//! The JSON of statements and envelopes, read strictly (RFC 8259 with less freedom).
//!
//! Only objects, lists, strings and unsigned integers; no duplicate keys; one object and nothing
//! around it; bounded depth and members. An [`Object`] is taken apart field by field, and what is
//! left over is an error.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::SignError;
use super::text::Quoted;

/// Objects and lists inside each other; a statement has four (statement, subjects, subject, digest).
const DEPTH_MAX: usize = 4;
/// The most fields of one object and items of one list.
const MEMBERS_MAX: usize = 32;

/// A JSON value.
#[derive(Debug)]
pub(super) enum Json {
    Text(String),
    Number(u64),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// An object on its way to being taken apart. `what` names it in errors.
#[derive(Debug)]
pub(super) struct Object {
    what: &'static str,
    fields: Vec<(String, Json)>,
}

impl Object {
    /// Reads `bytes`, which must be one object from the first byte to the last.
    pub(super) fn parse(bytes: &[u8], what: &'static str) -> Result<Self, SignError> {
        let json = |source| SignError::Json { what, source };
        if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
            return Err(json(Error::custom("it does not begin with { and end with }")));
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = Level(DEPTH_MAX).deserialize(&mut reader).map_err(json)?;
        reader.end().map_err(json)?;
        Self::from_json(value, what).ok_or_else(|| json(Error::custom("it is not an object")))
    }

    /// The object that `value` is.
    pub(super) fn from_json(value: Json, what: &'static str) -> Option<Self> {
        match value {
            Json::Object(fields) => Some(Self { what, fields }),
            _ => None,
        }
    }

    /// Takes a field that may be missing.
    fn take(&mut self, field: &'static str) -> Option<Json> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        Some(self.fields.swap_remove(at).1)
    }

    fn required(&mut self, field: &'static str) -> Result<Json, SignError> {
        self.take(field).ok_or(SignError::MissingField { what: self.what, field })
    }

    /// An error about the value of `field`.
    pub(super) fn refuse(&self, field: &'static str, wants: &'static str) -> SignError {
        SignError::Field { what: self.what, field, wants }
    }

    /// Takes a string.
    pub(super) fn text(&mut self, field: &'static str) -> Result<String, SignError> {
        match self.required(field)? {
            Json::Text(text) => Ok(text),
            _ => Err(self.refuse(field, "a string")),
        }
    }

    /// Takes a string that may be missing.
    pub(super) fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, SignError> {
        match self.take(field) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(field, "a string")),
        }
    }

    /// Takes a string that has to be `value`.
    pub(super) fn constant(&mut self, field: &'static str, value: &'static str) -> Result<(), SignError> {
        if self.text(field)? == value { Ok(()) } else { Err(self.refuse(field, value)) }
    }

    /// Takes an integer from 0 to `i64::MAX`, which every JSON library with 64-bit integers can hold.
    pub(super) fn number(&mut self, field: &'static str) -> Result<u64, SignError> {
        match self.required(field)? {
            Json::Number(number) if i64::try_from(number).is_ok() => Ok(number),
            _ => Err(self.refuse(field, "an integer from 0 to 9223372036854775807")),
        }
    }

    /// Takes a list.
    pub(super) fn list(&mut self, field: &'static str) -> Result<Vec<Json>, SignError> {
        match self.required(field)? {
            Json::List(items) => Ok(items),
            _ => Err(self.refuse(field, "a list")),
        }
    }

    /// Takes an object, to be named `what` in errors.
    pub(super) fn object(&mut self, field: &'static str, what: &'static str) -> Result<Self, SignError> {
        let value = self.required(field)?;
        Self::from_json(value, what).ok_or_else(|| self.refuse(field, "an object"))
    }

    /// The fields that are left.
    pub(super) fn into_fields(self) -> Vec<(String, Json)> {
        self.fields
    }

    /// Refuses whatever was not taken.
    pub(super) fn finish(self) -> Result<(), SignError> {
        match self.fields.first() {
            None => Ok(()),
            Some((field, _)) => {
                Err(SignError::UnknownField { what: self.what, field: Quoted(field.as_bytes()).to_string() })
            }
        }
    }
}

/// `text` as a JSON string, quotes included; always the same for the same text.
pub(super) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads a value that may hold this many further levels of objects and lists.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn down<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("it is nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object, a list, a string or an integer from 0")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let below = self.down()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            if items.len() == MEMBERS_MAX {
                return Err(A::Error::custom("a list has too many items"));
            }
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let below = self.down()?;
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            if fields.len() == MEMBERS_MAX {
                return Err(A::Error::custom("an object has too many fields"));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                let name = Quoted(name.as_bytes());
                return Err(A::Error::custom(format_args!("the field {name} appears twice")));
            }
            fields.push((name, access.next_value_seed(below)?));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Object::parse(text.as_bytes(), "thing").unwrap_err().to_string()
    }

    #[test]
    fn fields_are_taken_by_name_and_the_rest_is_refused() {
        let mut object = Object::parse(br#"{"b": 7, "a": "x\u00e4\/"}"#, "thing").unwrap();
        assert_eq!(object.text("a").unwrap(), "x\u{e4}/");
        assert!(matches!(object.text("a"), Err(SignError::MissingField { field: "a", .. })));
        assert_eq!(object.optional_text("a").unwrap(), None);
        assert!(matches!(object.finish(), Err(SignError::UnknownField { field, .. }) if field == "\"b\""));
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_level() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":"","a":""}]}"#,
            r#"{"x":[{"y":{"a":"","a":""}}]}"#,
        ] {
            assert!(refused(text).contains("\"a\" appears twice"), "{text}");
        }
    }

    #[test]
    fn anything_around_the_object_is_refused() {
        for text in ["", " {}", "{} ", "{}\n", "\u{feff}{}", "{}{}", "{},{}", "[{}]", "\"\"", "{}}", "{}x}"] {
            refused(text);
        }
        Object::parse(b"{ }", "thing").unwrap().finish().unwrap();
    }

    #[test]
    fn values_of_other_kinds_are_refused() {
        for value in [
            "null",
            "true",
            "1.0",
            "1e3",
            "-1",
            "-0",
            "01",
            "18446744073709551616",
            "\"\\ud800\"",
            "NaN",
            "'a'",
        ] {
            refused(&format!("{{\"a\":{value}}}"));
        }
        let mut object = Object::parse(br#"{"a":9223372036854775808,"b":9223372036854775807}"#, "x").unwrap();
        assert!(object.number("a").is_err());
        assert_eq!(object.number("b").unwrap(), i64::MAX.cast_unsigned());
    }

    #[test]
    fn nesting_and_members_are_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        Object::parse(nested(DEPTH_MAX).as_bytes(), "thing").unwrap();
        assert!(refused(&nested(DEPTH_MAX + 1)).contains("too deeply"));
        refused(&nested(10_000));
        refused(&format!("{{\"a\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000)));
        let list = |items: usize| format!("{{\"a\":[{}]}}", vec!["0"; items].join(","));
        Object::parse(list(MEMBERS_MAX).as_bytes(), "thing").unwrap();
        assert!(refused(&list(MEMBERS_MAX + 1)).contains("too many items"));
        let object = |n: usize| {
            let fields: Vec<String> = (0..n).map(|i| format!("\"{i}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        Object::parse(object(MEMBERS_MAX).as_bytes(), "thing").unwrap();
        assert!(refused(&object(MEMBERS_MAX + 1)).contains("too many fields"));
    }

    #[test]
    fn strings_survive_being_written() {
        for text in ["", "a\"b\\c\n\u{0}\u{7f}\u{2028}", "\u{1f980}"] {
            let object = format!("{{\"a\":{}}}", string(text));
            assert_eq!(Object::parse(object.as_bytes(), "x").unwrap().text("a").unwrap(), text);
        }
    }
}
