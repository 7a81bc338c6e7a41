//! What went wrong with a request, as the kinds of errors of a store.

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
    let shown = text.chars().map(|c| if super::super::is_plain(c) { c } else { ' ' });
    shown.take(WORD_MAX).collect()
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
        .any(|sign| text.contains(sign))
}
