//! URLs of stores: `SCHEME://HOST[:PORT]/PATH?KEY=VALUE&...`, taken apart and checked. What the parts mean is
//! for the store that they name.

use std::fmt;

/// The longest URL, in bytes.
const URL_MAX: usize = 8192;

/// A URL in parts, each with its percent-encoding undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// In lower case.
    pub(super) scheme: String,
    /// Host or bucket, without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// What stands behind the host, without the first `/`; may be empty.
    pub(super) path: Vec<u8>,
    /// In the order in which they stand.
    pub(super) query: Vec<(String, String)>,
}

/// What is wrong with a store's address, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?}: {what}")]
pub struct AddressError {
    /// The address, without what could be a secret.
    pub url: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl AddressError {
    /// `what` is wrong with `url`. Of a URL that may hold a secret only the scheme is told.
    pub(super) fn new(url: &str, what: impl Into<String>) -> Self {
        let shown = match url.split_once("://") {
            Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://..."),
            _ => url.split('?').next().unwrap_or_default().chars().take(200).collect(),
        };
        Self { url: shown, what: what.into() }
    }
}

/// The scheme of `text`, if it is a URL.
pub(super) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let plain =
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'-');
    plain.then_some(scheme)
}

impl Url {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// What is not in the form above, and any user or password: secrets do not belong into a command line or
    /// a configuration.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = |what: &str| AddressError::new(text, what);
        if text.len() > URL_MAX {
            return Err(wrong("it is too long"));
        }
        let scheme =
            scheme(text).ok_or_else(|| wrong("it has no scheme, as in nfs://"))?.to_ascii_lowercase();
        let rest = text.get(scheme.len() + 3..).unwrap_or_default();
        if rest.contains('#') {
            return Err(wrong("a # has to be written %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(wrong(
                "user and password do not belong into a URL; give credentials by the environment",
            ));
        }
        let (host, port) = split_authority(authority).map_err(wrong)?;
        let port = match port {
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| wrong("the port is not a number below 65536"))?)
            }
            Some(_) => return Err(wrong("the port is not a number below 65536")),
            None => None,
        };
        let undo = |text: &str| decode(text).ok_or_else(|| wrong("a % does not precede two hex digits"));
        let text_of = |text: &str| String::from_utf8(undo(text)?).map_err(|_| wrong("an option is no UTF-8"));
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("an option lacks its ="))?;
            let (key, value) = (text_of(key)?, text_of(value)?);
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(wrong("an option stands there twice"));
            }
            pairs.push((key, value));
        }
        Ok(Self { scheme, host: host.to_owned(), port, path: undo(path)?, query: pairs })
    }
}

/// Host and port of `authority` as they stand, the host without brackets.
pub(crate) fn split_authority(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("a [ is not closed")?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err("something else than a port follows the ]"),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an address of IPv6 stands in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.contains('%') {
        return Err("the host cannot have a %; of an IPv6 address the zone is not taken");
    }
    let strange = |c: char| c.is_control() || c.is_whitespace();
    if host.is_empty() || host.contains(strange) { Err("it has no host") } else { Ok((host, port)) }
}

/// Undoes percent-encoding; the rest stands for itself. `None` where a `%` does not precede two hex digits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

/// As it could be given again.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path, query } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]")?,
            false => write!(f, "{scheme}://{host}")?,
        }
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        if !path.is_empty() {
            write!(f, "/{}", encode(path))?;
        }
        for (n, (key, value)) in query.iter().enumerate() {
            let mark = if n == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={}", encode(key.as_bytes()), encode(value.as_bytes()))?;
        }
        Ok(())
    }
}

fn encode(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:,+".contains(&byte);
    bytes.iter().fold(String::new(), |mut text, byte| {
        match plain(*byte) {
            true => text.push(char::from(*byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_and_put_together_again() {
        for (text, host, port, path, query) in [
            ("nfs://server/a/b", "server", None, &b"a/b"[..], &[][..]),
            ("nfs://server:11049/?uid=3", "server", Some(11049), b"", &[("uid", "3")]),
            ("s3://bucket", "bucket", None, b"", &[]),
            (
                "S3://bucket/x%20y%ff?endpoint=http%3A%2F%2Fh:1&a=",
                "bucket",
                None,
                b"x y\xff",
                &[("endpoint", "http://h:1"), ("a", "")],
            ),
            ("nfs://[::1]:5/a", "::1", Some(5), b"a", &[]),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, &url.path[..]), (host, port, path), "{text}");
            let pairs: Vec<_> = url.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(pairs, query, "{text}");
            assert_eq!(Url::parse(&url.to_string()).unwrap(), url, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_telling_a_secret() {
        for text in [
            "",
            "/srv",
            "nfs:/a",
            "nfs:///a",
            "nfs://:1/a",
            "nfs://h:x/a",
            "nfs://h:65536/a",
            "nfs://h:+1/a",
            "nfs://[::1/a",
            "nfs://[::1]x/a",
            "nfs://::1/a",
            "nfs://h w/a",
            "nfs://h/%2",
            "nfs://h/%zz",
            "nfs://h/a?x",
            "nfs://h/a?x=1&x=2",
            "nfs://h/a#b",
            "nfs://h/a?x=%ff",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let error = Url::parse("nfs://[fe80::1%25eth0]/a").unwrap_err().to_string();
        assert!(error.contains("zone"), "{error}");
        let error = Url::parse("s3://key:secret@bucket/x").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("environment"), "{error}");
    }
}
