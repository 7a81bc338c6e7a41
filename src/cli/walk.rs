//! Every regular file below some paths of a store, in order of names.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Trouble;
use crate::store::{Kind, Local, Store, StoreError, StoreErrorKind, StorePath};

/// Entries read from a directory at once.
const PAGE: usize = 4096;

/// What the walk comes across.
pub(super) enum Found {
    /// A regular file.
    File(StorePath),
    /// Something that could not be looked at.
    Trouble(StoreError),
}

/// The store at the directory `root`.
pub(super) fn open_store(root: &Path) -> Result<Arc<dyn Store>, Trouble> {
    Ok(Arc::new(Local::new(root)?))
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

/// Sends every regular file at or below `paths` to `found`. Symbolic links are never followed, and
/// what lies below `hidden` is no file. A path that does not exist is a trouble.
pub(super) async fn walk(
    store: Arc<dyn Store>,
    paths: Vec<StorePath>,
    hidden: StorePath,
    found: mpsc::Sender<Found>,
) {
    for path in paths {
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            if path.starts_with(&hidden) {
                continue;
            }
            let step = match store.stat(&path).await {
                Ok(attr) if attr.kind == Kind::Regular => Ok(Some(path)),
                Ok(attr) if attr.kind == Kind::Directory => {
                    children(&*store, &path, &found).await.map(|mut names| {
                        // The last one is taken first.
                        names.sort_unstable_by(|a, b| b.cmp(a));
                        open.append(&mut names);
                        None
                    })
                }
                Ok(_) => Ok(None),
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

/// The paths of a directory's names. A name that makes no path, for it lies too deep, is a trouble.
async fn children(
    store: &dyn Store,
    directory: &StorePath,
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
        match page.entries.last() {
            Some(last) if !page.end && last.cookie != cookie => cookie = last.cookie,
            _ => return Ok(paths),
        }
    }
}
