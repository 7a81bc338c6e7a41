//! The monitor's token, and what a request shows for one: RFC 6750 section 2.1 and RFC 7617.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::access::only;

/// The fewest characters that nobody guesses.
const LEAST: usize = 16;
/// The most characters.
const MOST: usize = 512;
/// The longest header that is looked at, in bytes.
const HEADER_MAX: usize = 4096;

/// What is needed to tell the token from others, in a time that tells nothing of it: a hash under a key that
/// nobody knows.
#[derive(Clone)]
pub(super) struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    /// The token in a file's `text`: printable characters without a space, and the end of the line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let token = text.strip_suffix(b"\n").unwrap_or(text);
        let token = token.strip_suffix(b"\r").unwrap_or(token);
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("a token is one line of printable ASCII characters without spaces".to_owned());
        }
        if !(LEAST..=MOST).contains(&token.len()) {
            return Err(format!("a token has {LEAST} to {MOST} characters, not {}", token.len()));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "there is no randomness".to_owned())?;
        let tag = hmac::sign(&key, token);
        Ok(Self { key, tag })
    }

    /// Whether `shown` is the token.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        hmac::verify(&self.key, shown, self.tag.as_ref()).is_ok()
    }
}

/// What a request shows.
pub(super) enum Shown {
    /// A token, put there by who wrote the request.
    Bearer(Zeroizing<Vec<u8>>),
    /// A password, which browsers send by themselves once it was typed.
    Basic(Zeroizing<Vec<u8>>),
}

impl Shown {
    /// What the one header `Authorization` shows; `None` where there are more, or where it is none of these.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = only(headers, AUTHORIZATION).filter(|header| header.len() <= HEADER_MAX)?;
        let space = header.iter().position(|byte| *byte == b' ')?;
        let (scheme, value) = header.split_at(space);
        let value = value.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Self::Bearer(value.to_vec().into()));
        }
        if scheme.eq_ignore_ascii_case(b"basic") {
            let pair = Zeroizing::new(STANDARD.decode(value).ok()?);
            let colon = pair.iter().position(|byte| *byte == b':')?;
            return Some(Self::Basic(pair.get(colon + 1..)?.to_vec().into()));
        }
        None
    }
}
