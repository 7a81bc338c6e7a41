//! Every regular file below some paths of a store, in order of names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::Trouble;
use crate::store::{Kind, Store, StoreError, StoreErrorKind, StorePath};

/// Entries read from a directory at once.
const PAGE: usize = 4096;
/// Names that are kept at once of a store that is not believed: its directories may have no end.
const NAMES_MAX: usize = 4 * 1024 * 1024;

/// What the walk comes across.
pub(super) enum Found {
    /// A regular file.
    File(StorePath),
    /// Something that could not be looked at.
    Trouble(StoreError),
}

/// What is no file.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Nothing below it is.
    pub(super) hidden: Option<StorePath>,
    /// Where what is passed over is counted. Then a path that the walk begins with has to be a file or a
    /// directory and may lie below `hidden`, and what is kept of directories is bounded.
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
        let mut open = vec![named.clone()];
        while let Some(path) = open.pop() {
            if hidden.is_some_and(|hidden| path.starts_with(hidden)) {
                if let Some(passed) = &scope.passed {
                    passed.hidden.store(true, Ordering::Relaxed);
                }
                continue;
            }
            let step = match store.stat(&path).await {
                Ok(attr) if attr.kind == Kind::Regular => Ok(Some(path)),
                Ok(attr) if attr.kind == Kind::Directory => {
                    let room = scope.passed.as_ref().map_or(usize::MAX, |_| NAMES_MAX);
                    let room = room.saturating_sub(open.len());
                    children(&*store, &path, room, &found).await.map(|mut names| {
                        // The last one is taken first.
                        names.sort_unstable_by(|a, b| b.cmp(a));
                        open.append(&mut names);
                        None
                    })
                }
                Ok(_) => match &scope.passed {
                    Some(_) if path == named => {
                        let source = std::io::Error::other("it is neither a file nor a directory");
                        Err(StoreError::new(StoreErrorKind::NotRegular, "check", &path, source))
                    }
                    Some(passed) => {
                        passed.others.fetch_add(1, Ordering::Relaxed);
                        Ok(None)
                    }
                    None => Ok(None),
                },
                Err(error) => Err(error),
            };
            let item = match step {
                Ok(None) => continue,
                Ok(Some(file)) => Found::File(file),
                Err(error) => Found::Trouble(error),
            };
            if found.send(item).await.is_err() {
                return;
            }
        }
    }
}

/// The paths of a directory's names, of which there is `room` for so many. A name that makes no path, for it lies too deep, is a trouble.
async fn children(
    store: &dyn Store,
    directory: &StorePath,
    room: usize,
    found: &mpsc::Sender<Found>,
) -> Result<Vec<StorePath>, StoreError> {
    let (mut paths, mut cookie) = (Vec::new(), 0);
    loop {
        let page = store.read_dir(directory, cookie, PAGE).await?;
        for entry in page.entries.iter().filter(|entry| !matches!(&entry.name[..], b"." | b"..")) {
            match directory.join(&entry.name) {
                Ok(path) => paths.push(path),
                Err(error) => {
                    let (kind, source) = (StoreErrorKind::NameTooLong, std::io::Error::other(error));
                    let error = StoreError::new(kind, "enter all of it", directory, source);
                    // Nobody listens any more: the walk will notice.
                    let _ = found.send(Found::Trouble(error)).await;
                }
            }
        }
        if paths.len() > room {
            let source = std::io::Error::other("there are too many names");
            return Err(StoreError::new(StoreErrorKind::TooLarge, "list", directory, source));
        }
        match page.entries.last() {
            Some(last) if !page.end && last.cookie != cookie => cookie = last.cookie,
            _ => return Ok(paths),
        }
    }
}
