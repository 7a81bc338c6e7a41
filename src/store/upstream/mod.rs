//! An NFSv3 server (RFC 1813) that nobody has to trust.
//!
//! Its replies are bounded before they are kept and read as a stranger's; what cannot be is an error of the
//! call or the end of the connection. Nothing lasts longer than the time of [`OpenOptions`] allows a call.
//! The server's handles stay within this room: files are named by paths, so a handle that went stale is
//! looked up again. Symbolic links are never followed. Knows nothing of evidence.

mod address;
mod ahead;
mod answer;
mod dir;
mod file;
mod proto;
#[cfg(test)]
mod resent;
mod rpc;
#[cfg(test)]
pub(super) mod scene;
mod session;
mod write;

use std::sync::Arc;

use super::address::cannot_open;
use super::{
    Attr, BoxFuture, DirPage, FsStat, Kind, NAME_MAX, OpenOptions, Result, Store, StoreErrorKind, StoreFile,
    StorePath, StoreWriter,
};
use crate::wire::Writer;
pub use address::Address;
use ahead::Budget;
#[doc(hidden)]
pub use answer::{Answer, Question};
use file::UpstreamFile;
use session::{Fault, Session};

/// The store at `address`. A server that does not answer is asked again by every call; one that refuses the
/// mount is an error.
pub(super) async fn open(address: &Address, options: &OpenOptions) -> Result<Arc<dyn Store>> {
    let session = Arc::new(Session::new(address.clone(), options.timeout));
    if let Err(fault) = session.mounted(session.deadline()).await
        && let Some(kind) = fault.refusal()
    {
        return Err(cannot_open(kind, address, fault));
    }
    Ok(Arc::new(Upstream { session, budget: Budget::default() }))
}

struct Upstream {
    session: Arc<Session>,
    budget: Budget,
}

impl Upstream {
    async fn space(&self) -> std::result::Result<FsStat, Fault> {
        let deadline = self.session.deadline();
        let root = self.session.find(&StorePath::root(), deadline).await?.handle;
        let args = || {
            let mut args = Writer::default();
            args.opaque(root.as_bytes());
            args
        };
        let call = self.session.call(proto::FSSTAT, args(), deadline, |reply| proto::fsstat(reply));
        let [total_bytes, free_bytes, available_bytes, total_files, free_files, available_files] =
            call.await?.0;
        let call = self.session.call(proto::PATHCONF, args(), deadline, |reply| proto::pathconf(reply));
        let (link_max, name_max) = call.await?.0;
        let longest = u32::try_from(NAME_MAX).unwrap_or(u32::MAX);
        Ok(FsStat {
            total_bytes,
            free_bytes: free_bytes.min(total_bytes),
            available_bytes: available_bytes.min(total_bytes),
            total_files,
            free_files: free_files.min(total_files),
            available_files: available_files.min(total_files),
            name_max: if name_max == 0 { longest } else { name_max.min(longest) },
            link_max: link_max.max(1),
        })
    }

    async fn opened(&self, path: &StorePath) -> std::result::Result<UpstreamFile, Fault> {
        let found = self.session.find(path, self.session.deadline()).await?;
        let wrong = |kind, text| Err(Fault::Kind(kind, text));
        match found.attr.kind {
            Kind::Regular => {}
            Kind::Directory => return wrong(StoreErrorKind::IsADirectory, "it is a directory"),
            Kind::Symlink => return wrong(StoreErrorKind::Symlink, "it is a symbolic link"),
            Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
                return wrong(StoreErrorKind::NotRegular, "it is not a regular file");
            }
        }
        Ok(UpstreamFile::new(self.session.clone(), path, &found, self.budget.clone()))
    }

    async fn link(&self, path: &StorePath) -> std::result::Result<Vec<u8>, Fault> {
        let deadline = self.session.deadline();
        let found = self.session.find(path, deadline).await?;
        if found.attr.kind != Kind::Symlink {
            return Err(Fault::Kind(StoreErrorKind::Io, "it is not a symbolic link"));
        }
        let mut args = Writer::default();
        args.opaque(found.handle.as_bytes());
        Ok(self.session.call(proto::READLINK, args, deadline, |reply| proto::readlink(reply)).await?.0)
    }
}

impl Store for Upstream {
    fn describe(&self) -> String {
        self.session.address.to_string()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(async move {
            let found = self.session.find(path, self.session.deadline()).await;
            Ok(found.map_err(|fault| fault.at("stat", path))?.attr)
        })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let file: Arc<dyn StoreFile> =
                Arc::new(self.opened(path).await.map_err(|fault| fault.at("open", path))?);
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(async move {
            let page = dir::page(&self.session, path, cookie, max).await;
            page.map_err(|fault| fault.at("read the directory", path))
        })
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.link(path).await.map_err(|fault| fault.at("read the link", path)) })
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move {
            self.space().await.map_err(|fault| fault.at("stat the file system", &StorePath::root()))
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move {
            let writer = write::create(&self.session, path, scratch).await;
            let writer: Box<dyn StoreWriter> = Box::new(writer.map_err(|fault| fault.at("create", path))?);
            Ok(writer)
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            async move { write::remove(&self.session, path).await.map_err(|fault| fault.at("remove", path)) },
        )
    }

    fn forget(&self, _: &StorePath) {
        // The directories above may have been exchanged, too.
        self.session.forget_all();
    }
}
