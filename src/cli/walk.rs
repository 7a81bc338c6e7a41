//! Every regular file below some paths of a store, in order of names.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Trouble;
use crate::carrier::Sidecar;
use crate::store::{Kind, Local, Store, StoreError, StorePath};

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
        let bytes = path.as_os_str().as_bytes();
        let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        let bytes = if bytes == b"." { &b""[..] } else { bytes };
        let parsed = StorePath::parse(bytes);
        parsed.map_err(|_| {
            Trouble::usage(format!("{}: paths are given relative to ROOT and without \"..\"", path.display()))
        })
    };
    if paths.is_empty() { Ok(vec![StorePath::root()]) } else { paths.iter().map(parse).collect() }
}

/// Sends every regular file at or below `paths` to `found`. Symbolic links are never followed, and
/// evidence is no file. A path that does not exist is a trouble.
pub(super) async fn walk(store: Arc<dyn Store>, paths: Vec<StorePath>, found: mpsc::Sender<Found>) {
    let sidecar = Sidecar::directory();
    for path in paths {
        let mut open = vec![path];
        while let Some(path) = open.pop() {
            if path.starts_with(&sidecar) {
                continue;
            }
            let step = match store.stat(&path).await {
                Ok(attr) if attr.kind == Kind::Regular => Ok(Some(path)),
                Ok(attr) if attr.kind == Kind::Directory => {
                    children(&*store, &path).await.map(|mut names| {
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

async fn children(store: &dyn Store, directory: &StorePath) -> Result<Vec<StorePath>, StoreError> {
    let (mut paths, mut cookie) = (Vec::new(), 0);
    loop {
        let page = store.read_dir(directory, cookie, PAGE).await?;
        let names = page.entries.iter().filter(|entry| !matches!(&entry.name[..], b"." | b".."));
        paths.extend(names.filter_map(|entry| directory.join(&entry.name).ok()));
        match page.entries.last() {
            Some(last) if !page.end && last.cookie != cookie => cookie = last.cookie,
            _ => return Ok(paths),
        }
    }
}
