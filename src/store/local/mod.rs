//! A directory of this machine.
//!
//! Paths are resolved by the kernel alone (openat2(2) with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`), so that no rename or symbolic link that appears meanwhile leads out of
//! the root. What may wait for a disk runs on tokio's blocking pool; what the kernel can answer
//! from its caches is answered where the call is made.

mod dir;
mod file;
mod remove;
mod resolve;
mod write;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{
    Attr, BoxFuture, DirPage, FsStat, Kind, PATH_MAX, Result, Store, StoreError, StoreErrorKind, StoreFile,
    StorePath, StoreWriter,
};
use file::LocalFile;
use resolve::{FILE, Lookup, Root};

/// A store in a local directory; needs Linux 5.6. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Local {
    root: Arc<Root>,
}

impl Local {
    /// The store in the directory `root`, which stays the same directory when its name changes.
    ///
    /// # Errors
    ///
    /// Names `root` when it cannot be opened, is no directory, or the kernel has no openat2(2).
    pub fn new(root: &Path) -> Result<Self> {
        let opened = Root::open_directory(root).map_err(|errno| {
            let mut error = fail("open the store", &StorePath::root())(errno);
            error.source =
                io::Error::new(error.source.kind(), format!("{}: {}", root.display(), error.source));
            error
        })?;
        Ok(Self { root: Arc::new(opened) })
    }

    /// Answers from the kernel's caches where that is possible, else on the blocking pool.
    async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &StorePath,
        work: fn(&Arc<Root>, &StorePath, Lookup) -> Result<T>,
    ) -> Result<T> {
        if self.root.inline() {
            match work(&self.root, path, Lookup::Cached) {
                Err(error) if missed_cache(&error) => {}
                answer => return answer,
            }
        }
        self.ask(operation, path, move |root, path| work(root, path, Lookup::Full)).await
    }

    async fn wait<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &StorePath,
        work: impl FnOnce(&Arc<Root>, &StorePath) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (root, owned) = (self.root.clone(), path.clone());
        on_pool(operation, path, move || work(&root, &owned)).await
    }

    /// The same, but for no longer than [`PATIENCE`].
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &StorePath,
        work: impl FnOnce(&Arc<Root>, &StorePath) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        patiently(PATIENCE, operation, path, self.wait(operation, path, work)).await
    }
}

/// How long looking and reading may take before the caller is told to come back later: a disk that
/// hangs must not hold what belongs to others. Writing may take as long as it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `answer`, but no longer than `limit`.
async fn patiently<T>(
    limit: Duration,
    operation: &'static str,
    path: &StorePath,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let late = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        Err(StoreError::new(StoreErrorKind::Exhausted, operation, path, late))
    })
}

/// Runs `work` on the blocking pool.
async fn on_pool<T: Send + 'static>(
    operation: &'static str,
    path: &StorePath,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(lost) => Err(StoreError::from_io(operation, path, io::Error::other(lost))),
    }
}

/// Makes the system's error one of the store.
fn fail(operation: &'static str, path: &StorePath) -> impl Fn(Errno) -> StoreError {
    move |errno| StoreError::from_io(operation, path, errno.into())
}

/// True when a [`Lookup::Cached`] failed only for being one.
fn missed_cache(error: &StoreError) -> bool {
    matches!(Errno::from_io_error(&error.source), Some(Errno::AGAIN | Errno::XDEV))
}

fn stat(root: &Arc<Root>, path: &StorePath, lookup: Lookup) -> Result<Attr> {
    let found = root.open(path, OFlags::PATH | OFlags::NOFOLLOW, lookup).map_err(fail("stat", path))?;
    Ok(root.attr(&found).map_err(fail("stat", path))?.attr)
}

fn read_link(root: &Root, path: &StorePath) -> Result<Vec<u8>> {
    let failed = fail("read the link", path);
    let link = root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Lookup::Full).map_err(&failed)?;
    if root.attr(&link).map_err(&failed)?.attr.kind != Kind::Symlink {
        return Err(failed(Errno::INVAL));
    }
    let target = rustix::fs::readlinkat(&link, c"", Vec::with_capacity(256)).map_err(&failed)?.into_bytes();
    if target.len() > PATH_MAX {
        return Err(failed(Errno::NAMETOOLONG));
    }
    Ok(target)
}

/// Opens a regular file. What stands there is looked at first, for opening a device may act on it.
fn open(root: &Arc<Root>, path: &StorePath, lookup: Lookup) -> Result<LocalFile> {
    let failed = fail("open", path);
    let probe = root.open(path, OFlags::PATH | OFlags::NOFOLLOW, lookup).map_err(&failed)?;
    expect_regular(path, root.attr(&probe).map_err(&failed)?.attr.kind)?;
    drop(probe);
    let fd = match root.open(path, FILE, lookup) {
        Err(errno @ (Errno::NXIO | Errno::NODEV)) => {
            return Err(StoreError::new(StoreErrorKind::NotRegular, "open", path, errno.into()));
        }
        opened => opened.map_err(&failed)?,
    };
    let found = root.attr(&fd).map_err(&failed)?;
    expect_regular(path, found.attr.kind)?;
    Ok(LocalFile::new(root, path, fd, found.home))
}

fn expect_regular(path: &StorePath, kind: Kind) -> Result<()> {
    let failed = |kind, text| Err(StoreError::new(kind, "open", path, io::Error::other(text)));
    match kind {
        Kind::Regular => Ok(()),
        Kind::Directory => failed(StoreErrorKind::IsADirectory, "it is a directory"),
        Kind::Symlink => failed(StoreErrorKind::Symlink, "it is a symbolic link"),
        Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
            failed(StoreErrorKind::NotRegular, "it is not a regular file")
        }
    }
}

impl Store for Local {
    fn describe(&self) -> String {
        format!("local {}", self.root.shown())
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(self.look("stat", path, stat))
    }

    fn stat_names<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<Attr>>> {
        let all = dir::Names::new(directory, names);
        Box::pin(async move {
            let found = self.ask("stat", directory, move |root, path| dir::stat(root, path, &all));
            found.await.unwrap_or_else(|_| vec![None; names.len()])
        })
    }

    fn read_heads<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
        len: usize,
    ) -> BoxFuture<'a, Vec<Option<(Attr, Bytes)>>> {
        let all = dir::Names::new(directory, names);
        Box::pin(async move {
            let read = self.ask("read", directory, move |root, path| dir::read_heads(root, path, &all, len));
            read.await.unwrap_or_else(|_| vec![None; names.len()])
        })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let file: Arc<dyn StoreFile> = Arc::new(self.look("open", path, open).await?);
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(self.ask("read the directory", path, move |root, path| dir::page(root, path, cookie, max)))
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        // Long targets lie in a block of their own, so this may wait for the disk.
        Box::pin(self.ask("read the link", path, |root, path| read_link(root, path)))
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move {
            self.ask("stat the file system", &StorePath::root(), |root, path| {
                root.stat_fs().map_err(fail("stat the file system", path))
            })
            .await
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        let scratch = scratch.clone();
        Box::pin(async move {
            let writer =
                self.wait("create", path, move |root, path| write::create(root, path, &scratch)).await?;
            let writer: Box<dyn StoreWriter> = Box::new(writer);
            Ok(writer)
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.wait("remove", path, |root, path| remove::remove(root, path)))
    }
}

#[cfg(test)]
mod tests;
