//! What went wrong with a request, as the kinds of errors of a store.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::super::{StoreError, StoreErrorKind, StorePath};

/// The longest word of a server that is passed on: it may say anything, at any length.
const WORD_MAX: usize = 300;

/// The error of `operation` on `path`.
pub(super) fn fail(operation: &'static str, path: &StorePath) -> impl Fn(Error) -> StoreError {
    move |error| StoreError::new(kind_of(&error), operation, path, io::Error::other(word(&error)))
}

/// An error that the store itself comes to.
pub(super) fn refuse(
    kind: StoreErrorKind,
    operation: &'static str,
    path: &StorePath,
    why: impl Into<String>,
) -> StoreError {
    StoreError::new(kind, operation, path, io::Error::other(why.into()))
}

/// A server that did not answer in time.
pub(super) fn silent(operation: &'static str, path: &StorePath) -> StoreError {
    refuse(StoreErrorKind::Unavailable, operation, path, "the server does not answer in time")
}

/// `error` in one line of bounded length.
pub(super) fn word(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let answer = answer(&text);
    let shown = answer.chars().map(|c| if super::super::is_plain(c) { c } else { ' ' });
    shown.take(WORD_MAX).collect()
}

/// What the server said, without what it was asked: the key may be as long as all that is shown, and may say
/// anything.
fn said(text: &str) -> &str {
    let request = text.split_once("Error performing ").map(|(_, request)| request);
    request.and_then(|request| request.split_once(" - ")).map_or(text, |(_, said)| said)
}

/// The same for people: of what is said in XML, the status, the code and the message.
fn answer(text: &str) -> Cow<'_, str> {
    let answer = said(text);
    let answer = answer.strip_prefix("Server returned non-2xx status code: ").unwrap_or(answer);
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    match (answer.split_once(": "), element("Code")) {
        (Some((status, _)), Some(code)) => {
            format!("{status}: {code}: {}", element("Message").unwrap_or_default()).into()
        }
        _ => answer.into(),
    }
}

pub(super) fn kind_of(error: &Error) -> StoreErrorKind {
    match error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Access,
        Error::Precondition { .. } | Error::NotModified { .. } => StoreErrorKind::Stale,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unsupported,
        _ if may_pass(error) => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Io,
    }
}

/// Whether the server says that it has no such thing, as a condition. That one does not hold is another matter.
pub(super) fn is_not_implemented(error: &Error) -> bool {
    match error {
        Error::NotImplemented { .. } => true,
        Error::Generic { .. } => {
            let text = error.to_string();
            let said = said(&text);
            said.contains("<Code>NotImplemented</Code>")
                || said.starts_with("Server returned non-2xx status code: 501")
        }
        _ => false,
    }
}

/// Whether the server was not reached, or has no time now.
fn may_pass(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(http) = inner.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Decode => false,
                HttpErrorKind::Connect
                | HttpErrorKind::Request
                | HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted => true,
                // What breaks on the way has no other name.
                _ => true,
            };
        }
        source = inner.source();
    }
    // The type of a status is not public; its words are.
    let text = error.to_string();
    ["status code: 5", "status code: 429", "status code: 408", "SlowDown", "InternalError"]
        .iter()
        .any(|sign| said(&text).contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(key: &str, said: &str) -> String {
        format!(
            "The operation lacked the necessary privileges to complete for path {key}: Error performing GET \
             https://host/bucket/{key} in 3.1ms, after 3 retries, max_retries: 3, retry_timeout: 10s  - {said}"
        )
    }

    #[test]
    fn the_cause_is_told_however_long_the_key_is() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>RequestTimeTooSkewed</Code>\
                    <Message>The difference is too large.</Message></Error>";
        let said = format!("Server returned non-2xx status code: 403 Forbidden: {body}");
        let told = word(&error(&"k".repeat(900), &said));
        assert_eq!(told, "403 Forbidden: RequestTimeTooSkewed: The difference is too large.");
        assert_eq!(
            word(&error("k", "HTTP error: error sending request")),
            "HTTP error: error sending request"
        );
        let told = word(&error("k", "Server returned non-2xx status code: 404 Not Found: no\nXML"));
        assert_eq!(told, "404 Not Found: no XML");
        assert_eq!(word(&"x".repeat(1000)).len(), WORD_MAX);
        assert_eq!(word(&"Error performing nothing"), "Error performing nothing");
    }

    #[test]
    fn a_key_that_says_something_does_not_decide_what_is_wrong() {
        let generic = |key: &str, said: &str| Error::Generic { store: "S3", source: error(key, said).into() };
        let said = "Server returned non-2xx status code: 400 Bad Request: ";
        assert_eq!(kind_of(&generic("status code: 500", said)), StoreErrorKind::Io);
        let said = "Server returned non-2xx status code: 503 Service Unavailable: ";
        assert_eq!(kind_of(&generic("k", said)), StoreErrorKind::Unavailable);
        assert!(!is_not_implemented(&generic("NotImplemented", said)));
        assert!(!is_not_implemented(&generic("status%20code:%20501", said)));
        let said = "Server returned non-2xx status code: 501 Not Implemented: ";
        assert!(is_not_implemented(&generic("k", said)));
        let said = "Server returned non-2xx status code: 400 Bad Request: <Code>NotImplemented</Code>";
        assert!(is_not_implemented(&generic("k", said)));
    }
}
