//! Every regular file below some paths of a store, in order of names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::Trouble;
use crate::store::walk::{Found, Walk};
use crate::store::{Kind, Store, StoreError, StoreErrorKind, StorePath};

/// What is no file.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Nothing below it is.
    pub(super) hidden: Option<StorePath>,
    /// Where what is passed over is counted. Then a path that the walk begins with has to be a file or a
    /// directory and may lie below `hidden`.
    pub(super) passed: Option<Arc<Passed>>,
}

/// What was passed over.
#[derive(Debug, Default)]
pub(super) struct Passed {
    others: AtomicU64,
    hidden: AtomicBool,
}

impl Passed {
    /// How many symbolic links and special files.
    pub(super) fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// Whether the hidden directory was come across.
    pub(super) fn hidden(&self) -> bool {
        self.hidden.load(Ordering::Relaxed)
    }
}

/// The paths that a user names, relative to the store's root; none means the root itself.
pub(super) fn parse_paths(paths: &[std::path::PathBuf]) -> Result<Vec<StorePath>, Trouble> {
    use std::os::unix::ffi::OsStrExt;
    let parse = |path: &std::path::PathBuf| {
        let given = path.as_os_str().as_bytes();
        let bytes = given.strip_prefix(b"./").unwrap_or(given);
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        let bytes = if bytes == b"." { &b""[..] } else { bytes };
        // What is left of these two is nothing, which would name all of ROOT.
        let parsed = if matches!(given, b"" | b"/") { None } else { StorePath::parse(bytes).ok() };
        parsed.ok_or_else(|| {
            let path = path.display();
            Trouble::usage(format!("{path:?}: paths are given relative to ROOT and without \"..\""))
        })
    };
    if paths.is_empty() { Ok(vec![StorePath::root()]) } else { paths.iter().map(parse).collect() }
}

/// Sends every regular file at or below `paths` to `found`. Symbolic links are never followed. A path
/// that does not exist is a trouble.
pub(super) async fn walk(
    store: Arc<dyn Store>,
    paths: Vec<StorePath>,
    scope: Scope,
    found: mpsc::Sender<Found>,
) {
    for named in paths {
        let begins_there = |hidden: &StorePath| scope.passed.is_some() && named.starts_with(hidden);
        let hidden = scope.hidden.as_ref().filter(|hidden| !begins_there(hidden));
        let found_hidden = || {
            if let Some(passed) = &scope.passed {
                passed.hidden.store(true, Ordering::Relaxed);
            }
        };
        if hidden.is_some_and(|hidden| named.starts_with(hidden)) {
            found_hidden();
            continue;
        }
        let first = match store.stat(&named).await.map(|attr| attr.kind) {
            Ok(Kind::Regular) => Some(Found::File(named.clone())),
            Ok(Kind::Directory) => None,
            Ok(_) if scope.passed.is_some() => {
                let source = std::io::Error::other("it is neither a file nor a directory");
                let kind = StoreErrorKind::NotRegular;
                Some(Found::Trouble(StoreError::new(kind, "check", &named, source)))
            }
            Ok(_) => continue,
            Err(error) => Some(Found::Trouble(error)),
        };
        if let Some(item) = first {
            if found.send(item).await.is_err() {
                return;
            }
            continue;
        }
        let mut walk = Walk::new(store.clone(), &named, hidden.cloned(), None);
        while let Some(next) = walk.next().await {
            let item = match next {
                Found::Other(_) => {
                    if let Some(passed) = &scope.passed {
                        passed.others.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                item => item,
            };
            if found.send(item).await.is_err() {
                return;
            }
        }
        if walk.has_hidden() {
            found_hidden();
        }
    }
}
