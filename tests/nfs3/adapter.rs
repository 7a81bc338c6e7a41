//! The crate nfs3_server over an [`Export`]: an independent NFSv3 peer, to compare our own front end
//! with and to measure it against.
//!
//! Statuses and attributes are made from the export's answers here, after RFC 1813 and without the
//! code of our front end. The crate passes neither credentials nor the peer's address on, so one
//! caller stands for all clients; FSINFO, FSSTAT, PATHCONF and what ACCESS grants are the crate's own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use nfs_verity::export::{Attr, Caller, DirItem, Export, ExportError, FileHandle, Kind, Time};
use nfs3_server::tcp::{NFSTcp, NFSTcpListener};
use nfs3_server::vfs::{
    self, DirEntry, DirEntryPlus, NextResult, NfsReadFileSystem, ReadDirIterator, ReadDirPlusIterator,
};
use nfs3_types::nfs3::{fattr3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, specdata3};
use sha2::{Digest, Sha256};

/// Entries asked of the export at once.
const PAGE: usize = 64;

/// Serves `export` to `caller` on a free port of 127.0.0.1, until the current runtime ends.
pub async fn serve(export: Arc<Export>, caller: Caller) -> io::Result<SocketAddr> {
    let adapter = Adapter { export, caller, handles: RwLock::default() };
    let listener = NFSTcpListener::bind_ro("127.0.0.1:0", adapter).await?;
    let address = SocketAddr::new(listener.get_listen_ip(), listener.get_listen_port());
    tokio::spawn(async move { listener.handle_forever().await });
    Ok(address)
}

struct Adapter {
    export: Arc<Export>,
    caller: Caller,
    /// What each handle that was given out stands for.
    handles: RwLock<HashMap<Handle, FileHandle>>,
}

/// Stands for a handle of the export, which is longer than the crate allows: the start of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Handle([u8; 16]);

impl vfs::FileHandle for Handle {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl Adapter {
    fn give(&self, handle: FileHandle) -> Handle {
        let hash = Sha256::digest(handle.as_bytes());
        let short = Handle(std::array::from_fn(|n| hash[n]));
        if !self.handles.read().unwrap().contains_key(&short) {
            self.handles.write().unwrap().insert(short, handle);
        }
        short
    }

    fn take(&self, handle: &Handle) -> Result<FileHandle, nfsstat3> {
        self.handles.read().unwrap().get(handle).copied().ok_or(nfsstat3::NFS3ERR_BADHANDLE)
    }

    fn attributes(&self, attr: &Attr) -> fattr3 {
        fattr3 {
            type_: match attr.kind {
                Kind::Regular => ftype3::NF3REG,
                Kind::Directory => ftype3::NF3DIR,
                Kind::BlockDevice => ftype3::NF3BLK,
                Kind::CharDevice => ftype3::NF3CHR,
                Kind::Symlink => ftype3::NF3LNK,
                Kind::Socket => ftype3::NF3SOCK,
                Kind::Fifo => ftype3::NF3FIFO,
            },
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            used: attr.used,
            rdev: specdata3 { specdata1: attr.rdev.0, specdata2: attr.rdev.1 },
            fsid: self.export.fsid(),
            fileid: attr.fileid,
            atime: time(attr.atime),
            mtime: time(attr.mtime),
            ctime: time(attr.ctime),
        }
    }

    async fn list(&self, directory: &Handle, cookie: u64, described: bool) -> Result<Entries<'_>, nfsstat3> {
        let directory = self.take(directory)?;
        let mut entries =
            Entries { adapter: self, directory, cookie, read: VecDeque::new(), end: false, described };
        entries.fill().await?;
        Ok(entries)
    }
}

fn time(time: Time) -> nfstime3 {
    nfstime3 { seconds: u32::try_from(time.seconds).unwrap(), nseconds: time.nanos }
}

/// Of a procedure that names its object by a handle.
fn of_handle(error: ExportError) -> nfsstat3 {
    match error {
        ExportError::NotFound => nfsstat3::NFS3ERR_STALE,
        other => of_name(other),
    }
}

fn of_name(error: ExportError) -> nfsstat3 {
    match error {
        ExportError::BadHandle => nfsstat3::NFS3ERR_BADHANDLE,
        ExportError::Stale => nfsstat3::NFS3ERR_STALE,
        ExportError::NotFound => nfsstat3::NFS3ERR_NOENT,
        ExportError::NotADirectory => nfsstat3::NFS3ERR_NOTDIR,
        // Section 3.3.6: READ of anything but a regular file is INVAL, of a directory, too.
        ExportError::IsADirectory | ExportError::NotRegular | ExportError::NotASymlink => {
            nfsstat3::NFS3ERR_INVAL
        }
        ExportError::Permission | ExportError::Denied(_) | ExportError::InvalidName => {
            nfsstat3::NFS3ERR_ACCES
        }
        ExportError::NameTooLong => nfsstat3::NFS3ERR_NAMETOOLONG,
        ExportError::NoXattr | ExportError::BadCookie => nfsstat3::NFS3ERR_BAD_COOKIE,
        ExportError::Busy => nfsstat3::NFS3ERR_JUKEBOX,
        ExportError::Corrupt(_) | ExportError::Io => nfsstat3::NFS3ERR_IO,
    }
}

impl NfsReadFileSystem for Adapter {
    type Handle = Handle;

    fn root_dir(&self) -> Handle {
        self.give(self.export.root())
    }

    async fn lookup(&self, directory: &Handle, name: &filename3<'_>) -> Result<Handle, nfsstat3> {
        let directory = self.take(directory)?;
        let found = self.export.lookup(directory.as_bytes(), name.as_ref(), &self.caller).await;
        Ok(self.give(found.map_err(of_name)?.0))
    }

    async fn getattr(&self, object: &Handle) -> Result<fattr3, nfsstat3> {
        let object = self.take(object)?;
        let attr = self.export.attributes(object.as_bytes(), &self.caller).await.map_err(of_handle)?;
        Ok(self.attributes(&attr))
    }

    async fn read(&self, file: &Handle, offset: u64, count: u32) -> Result<(Vec<u8>, bool), nfsstat3> {
        let file = self.take(file)?;
        let read = self.export.read(file.as_bytes(), offset, count, &self.caller).await.map_err(of_handle)?;
        Ok((read.data.into_parts().concat(), read.eof))
    }

    async fn readdir(&self, directory: &Handle, cookie: u64) -> Result<impl ReadDirIterator, nfsstat3> {
        self.list(directory, cookie, false).await
    }

    async fn readdirplus(
        &self,
        directory: &Handle,
        cookie: u64,
    ) -> Result<impl ReadDirPlusIterator<Handle>, nfsstat3> {
        self.list(directory, cookie, true).await
    }

    async fn readlink(&self, link: &Handle) -> Result<nfspath3<'_>, nfsstat3> {
        let link = self.take(link)?;
        let (target, _) = self.export.read_link(link.as_bytes(), &self.caller).await.map_err(of_handle)?;
        Ok(target.into())
    }
}

/// A directory, read page by page.
struct Entries<'a> {
    adapter: &'a Adapter,
    directory: FileHandle,
    cookie: u64,
    read: VecDeque<(DirItem, Option<(FileHandle, Attr)>)>,
    end: bool,
    described: bool,
}

impl Entries<'_> {
    async fn fill(&mut self) -> Result<(), nfsstat3> {
        let Adapter { export, caller, .. } = self.adapter;
        let directory = self.directory.as_bytes();
        while self.read.is_empty() && !self.end {
            let listing = export.read_dir(directory, self.cookie, PAGE, caller).await.map_err(of_handle)?;
            self.cookie = listing.entries.last().map_or(self.cookie, |item| item.cookie);
            self.end = listing.end;
            let names: Vec<_> = listing.entries.iter().map(|item| item.name.clone()).collect();
            let known = match self.described {
                true => export.describe(directory, &names, caller).await,
                false => vec![None; names.len()],
            };
            self.read = listing.entries.into_iter().zip(known).collect();
        }
        Ok(())
    }

    async fn advance<T>(
        &mut self,
        make: impl FnOnce(DirItem, Option<(FileHandle, Attr)>) -> T,
    ) -> NextResult<T> {
        match self.fill().await {
            Err(status) => NextResult::Err(status),
            Ok(()) => match self.read.pop_front() {
                Some((item, known)) => NextResult::Ok(make(item, known)),
                None => NextResult::Eof,
            },
        }
    }
}

impl ReadDirIterator for Entries<'_> {
    async fn next(&mut self) -> NextResult<DirEntry> {
        let make =
            |item: DirItem, _| DirEntry { fileid: item.fileid, name: item.name.into(), cookie: item.cookie };
        self.advance(make).await
    }
}

impl ReadDirPlusIterator<Handle> for Entries<'_> {
    async fn next(&mut self) -> NextResult<DirEntryPlus<Handle>> {
        let adapter = self.adapter;
        let make = |item: DirItem, known: Option<(FileHandle, Attr)>| DirEntryPlus {
            fileid: item.fileid,
            name: item.name.into(),
            cookie: item.cookie,
            name_attributes: known.map(|(_, attr)| adapter.attributes(&attr)),
            name_handle: known.map(|(handle, _)| adapter.give(handle)),
        };
        self.advance(make).await
    }
}
