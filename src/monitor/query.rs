//! What a request asks for behind the question mark.
//!
//! Pure. Values are bytes, since paths are.

use std::fmt::Display;
use std::str::FromStr;

/// A query that is not understood, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misasked(pub(super) String);

/// Names and values as they stand.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Takes a query apart; none is an empty one.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (plain(k), plain(v)))
                .collect(),
        )
    }

    /// The value of `name`, which may stand there once.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<&[u8]>, Misasked> {
        let mut found = self.0.iter().filter(|(key, _)| key == name.as_bytes());
        let value = found.next().map(|(_, value)| value.as_slice());
        match found.next() {
            Some(_) => Err(Misasked(format!("{name} stands there twice; give it once"))),
            None => Ok(value),
        }
    }

    /// The value of `name` as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Misasked> {
        let value = self.bytes(name)?.map(std::str::from_utf8).transpose();
        value.map_err(|_| Misasked(format!("{name} must be UTF-8")))
    }

    /// The value of `name` read as `wanted` tells.
    pub(super) fn read<T: FromStr>(&self, name: &str, wanted: impl Display) -> Result<Option<T>, Misasked> {
        let value = self.text(name)?.map(str::parse).transpose();
        value.map_err(|_| Misasked(format!("{name} must be {wanted}")))
    }
}

fn plain(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode(text.replace('+', " ").as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::page::link;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_is_asked_for_as_the_page_links_it(path in prop::collection::vec(any::<u8>(), 0..300)) {
            let link = link(&path);
            let query = Query::parse(link.split_once('?').map(|(_, query)| query));
            prop_assert_eq!(query.bytes("path"), Ok(Some(&path[..])));
        }

        #[test]
        fn whatever_is_asked_is_read_to_its_end(query in "\\PC{0,200}") {
            let query = Query::parse(Some(&query));
            let _ = (query.text("a"), query.read::<u64>("b", "a number"));
        }
    }

    #[test]
    fn values_are_bytes_and_stand_there_once() {
        let query = Query::parse(Some("path=a%2Fb+c%ff%00&after=7&&x&twice=1&twice=2&limit=-1"));
        assert_eq!(query.bytes("path"), Ok(Some(&b"a/b c\xff\0"[..])));
        assert_eq!(query.read("after", "a number"), Ok(Some(7)));
        assert_eq!(query.bytes("x"), Ok(Some(&b""[..])));
        assert_eq!(query.bytes("none"), Ok(None));
        assert!(query.bytes("twice").is_err());
        assert_eq!(query.text("path"), Err(Misasked("path must be UTF-8".to_owned())));
        assert_eq!(
            query.read::<u64>("limit", "a number"),
            Err(Misasked("limit must be a number".to_owned()))
        );
        assert_eq!(Query::parse(None).bytes("path"), Ok(None));
        assert_eq!(Query::parse(Some("a=%zz%2")).bytes("a"), Ok(Some(&b"%zz%2"[..])));
    }
}
