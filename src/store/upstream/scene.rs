//! A directory served over NFSv3 by the crate nfs3_server, for the contract of stores.
//!
//! Every object that a handle was given for is held open, so that handles lead to the same object whatever
//! becomes of its name.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nfs3_server::tcp::{NFSTcp, NFSTcpListener};
use nfs3_server::vfs::{
    DirEntryPlus, FileHandleU64, NextResult, NfsFileSystem, NfsReadFileSystem, ReadDirPlusIterator,
};
use nfs3_types::nfs3::{
    Nfs3Option, createverf3, fattr3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, sattr3, set_atime,
    set_mtime, specdata3, stable_how,
};
use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::super::Store;
use super::super::url::Url;
use super::address::Address;
use super::{Budget, Session, Upstream};

/// A served directory, and the store over it.
pub(in super::super) struct Scene {
    pub(in super::super) store: Arc<dyn Store>,
    pub(super) address: SocketAddr,
    /// The server ends with it.
    _end: oneshot::Sender<()>,
}

impl Scene {
    pub(in super::super) fn new(directory: &Path) -> Self {
        let served = Directory::new(directory);
        let (end, ended) = oneshot::channel();
        let (tell, port) = mpsc::channel();
        // In a thread of its own, for a test waits for nothing else while it changes the directory.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = NFSTcpListener::bind("127.0.0.1:0", served).await.unwrap();
                tell.send(listener.get_listen_port()).unwrap();
                tokio::select! {
                    served = listener.handle_forever() => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        let address = ([127, 0, 0, 1], port.recv().unwrap()).into();
        Self { store: store_at(address), address, _end: end }
    }
}

/// The store at `address` that remembers nothing.
pub(super) fn store_at(address: SocketAddr) -> Arc<dyn Store> {
    let url = Url::parse(&format!("nfs://{address}/?attributes=0&source=any")).unwrap();
    let session = Session::new(Address::from_url(url).unwrap(), Duration::from_secs(20));
    Arc::new(Upstream { session: Arc::new(session), budget: Budget::default() })
}

type Answer<T> = Result<T, nfsstat3>;

struct Directory {
    root: u64,
    /// By number.
    objects: Mutex<HashMap<u64, Arc<OwnedFd>>>,
    /// The place of each name that was ever listed, in the order of their appearance.
    cookies: Mutex<HashMap<(u64, Vec<u8>), u64>>,
}

fn failed(error: impl Into<io::Error>) -> nfsstat3 {
    match Errno::from_io_error(&error.into()) {
        Some(Errno::NOENT) => nfsstat3::NFS3ERR_NOENT,
        Some(Errno::NOTDIR) => nfsstat3::NFS3ERR_NOTDIR,
        Some(Errno::ISDIR) => nfsstat3::NFS3ERR_ISDIR,
        Some(Errno::EXIST) => nfsstat3::NFS3ERR_EXIST,
        Some(Errno::NOTEMPTY) => nfsstat3::NFS3ERR_NOTEMPTY,
        Some(Errno::NAMETOOLONG) => nfsstat3::NFS3ERR_NAMETOOLONG,
        Some(Errno::INVAL) => nfsstat3::NFS3ERR_INVAL,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

fn attributes(stat: &Stat) -> fattr3 {
    let time = |seconds: i64, nanos: u64| nfstime3 {
        seconds: u32::try_from(seconds).unwrap(),
        nseconds: u32::try_from(nanos).unwrap(),
    };
    fattr3 {
        type_: match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => ftype3::NF3DIR,
            FileType::Symlink => ftype3::NF3LNK,
            FileType::Fifo => ftype3::NF3FIFO,
            _ => ftype3::NF3REG,
        },
        mode: stat.st_mode & 0o7777,
        nlink: u32::try_from(stat.st_nlink).unwrap(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size.cast_unsigned(),
        used: stat.st_blocks.cast_unsigned() * 512,
        rdev: specdata3::default(),
        fsid: stat.st_dev,
        fileid: stat.st_ino,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The object itself, whatever its kind is.
const OBJECT: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    fn new(path: &Path) -> Self {
        let directory = Self { root: 0, objects: Mutex::default(), cookies: Mutex::default() };
        let root = directory.hold(rustix::fs::open(path, OBJECT, Mode::empty()).unwrap()).unwrap();
        Self { root: root.as_u64(), ..directory }
    }

    fn hold(&self, object: OwnedFd) -> Answer<FileHandleU64> {
        let number = rustix::fs::fstat(&object).map_err(failed)?.st_ino;
        self.objects.lock().entry(number).or_insert_with(|| Arc::new(object));
        Ok(number.into())
    }

    fn object(&self, handle: FileHandleU64) -> Answer<Arc<OwnedFd>> {
        self.objects.lock().get(&handle.as_u64()).cloned().ok_or(nfsstat3::NFS3ERR_STALE)
    }

    fn stat(&self, handle: FileHandleU64) -> Answer<fattr3> {
        Ok(attributes(&rustix::fs::fstat(self.object(handle)?).map_err(failed)?))
    }

    fn find(&self, directory: FileHandleU64, name: &[u8]) -> Answer<FileHandleU64> {
        if name == b".." && directory == self.root {
            return Ok(directory);
        }
        let directory = self.object(directory)?;
        self.hold(rustix::fs::openat(directory, name, OBJECT, Mode::empty()).map_err(failed)?)
    }

    fn list(&self, handle: FileHandleU64, behind: u64) -> Answer<Vec<DirEntryPlus<FileHandleU64>>> {
        let directory = self.object(handle)?;
        let mut names = vec![b".".to_vec(), b"..".to_vec()];
        for entry in std::fs::read_dir(itself(&directory)).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().as_bytes().to_vec());
        }
        let mut cookies = self.cookies.lock();
        let mut places: Vec<_> = names
            .into_iter()
            .map(|name| {
                let next = cookies.len() as u64 + 1;
                (*cookies.entry((handle.as_u64(), name.clone())).or_insert(next), name)
            })
            .filter(|(cookie, _)| *cookie > behind)
            .collect();
        places.sort();
        let entry = |(cookie, name): (u64, Vec<u8>)| {
            let attr = match &name[..] {
                b".." if handle == self.root => self.stat(handle).ok()?,
                // It went meanwhile.
                _ => attributes(&rustix::fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW).ok()?),
            };
            let (fileid, name_attributes) = (attr.fileid, Some(attr));
            // No handles: what is listed need not be held open.
            Some(DirEntryPlus { fileid, name: name.into(), cookie, name_attributes, name_handle: None })
        };
        Ok(places.into_iter().filter_map(entry).collect())
    }
}

/// A path to what is open.
fn itself(object: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

struct Listing(std::vec::IntoIter<DirEntryPlus<FileHandleU64>>);

impl ReadDirPlusIterator<FileHandleU64> for Listing {
    async fn next(&mut self) -> NextResult<DirEntryPlus<FileHandleU64>> {
        self.0.next().map_or(NextResult::Eof, NextResult::Ok)
    }
}

impl NfsReadFileSystem for Directory {
    type Handle = FileHandleU64;

    fn root_dir(&self) -> FileHandleU64 {
        self.root.into()
    }

    async fn lookup(&self, directory: &FileHandleU64, name: &filename3<'_>) -> Answer<FileHandleU64> {
        self.find(*directory, &name.0)
    }

    async fn getattr(&self, handle: &FileHandleU64) -> Answer<fattr3> {
        self.stat(*handle)
    }

    async fn read(&self, handle: &FileHandleU64, offset: u64, count: u32) -> Answer<(Vec<u8>, bool)> {
        let file = std::fs::File::open(itself(&*self.object(*handle)?)).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; usize::try_from(size.saturating_sub(offset).min(count.into())).unwrap()];
        file.read_exact_at(&mut bytes, offset.min(size)).map_err(failed)?;
        let end = offset.saturating_add(bytes.len() as u64) >= size;
        Ok((bytes, end))
    }

    async fn readdirplus(
        &self,
        handle: &FileHandleU64,
        cookie: u64,
    ) -> Answer<impl ReadDirPlusIterator<FileHandleU64>> {
        Ok(Listing(self.list(*handle, cookie)?.into_iter()))
    }

    async fn readlink(&self, handle: &FileHandleU64) -> Answer<nfspath3<'_>> {
        let target = rustix::fs::readlinkat(self.object(*handle)?, "", Vec::new()).map_err(failed)?;
        Ok(target.into_bytes().into())
    }
}

impl NfsFileSystem for Directory {
    async fn setattr(&self, handle: &FileHandleU64, set: sattr3) -> Answer<fattr3> {
        let object = self.object(*handle)?;
        let (uid, gid) = (option(set.uid).map(Uid::from_raw), option(set.gid).map(Gid::from_raw));
        rustix::fs::chownat(&object, "", uid, gid, AtFlags::EMPTY_PATH).map_err(failed)?;
        if let Some(mode) = option(set.mode) {
            rustix::fs::chmod(itself(&object), Mode::from_raw_mode(mode)).map_err(failed)?;
        }
        if let Some(size) = option(set.size) {
            let file = std::fs::File::options().write(true).open(itself(&object)).map_err(failed)?;
            file.set_len(size).map_err(failed)?;
        }
        let given = |time: nfstime3| Timespec { tv_sec: time.seconds.into(), tv_nsec: time.nseconds.into() };
        let special = |nanos| Timespec { tv_sec: 0, tv_nsec: nanos };
        let times = Timestamps {
            last_access: match set.atime {
                set_atime::DONT_CHANGE => special(UTIME_OMIT),
                set_atime::SET_TO_SERVER_TIME => special(UTIME_NOW),
                set_atime::SET_TO_CLIENT_TIME(time) => given(time),
            },
            last_modification: match set.mtime {
                set_mtime::DONT_CHANGE => special(UTIME_OMIT),
                set_mtime::SET_TO_SERVER_TIME => special(UTIME_NOW),
                set_mtime::SET_TO_CLIENT_TIME(time) => given(time),
            },
        };
        rustix::fs::utimensat(CWD, itself(&object), &times, AtFlags::empty()).map_err(failed)?;
        self.stat(*handle)
    }

    async fn write(
        &self,
        handle: &FileHandleU64,
        offset: u64,
        data: &[u8],
        _: stable_how,
    ) -> Answer<(fattr3, stable_how)> {
        let file =
            std::fs::File::options().write(true).open(itself(&*self.object(*handle)?)).map_err(failed)?;
        file.write_all_at(data, offset).map_err(failed)?;
        Ok((self.stat(*handle)?, stable_how::UNSTABLE))
    }

    async fn create(
        &self,
        directory: &FileHandleU64,
        name: &filename3<'_>,
        set: sattr3,
    ) -> Answer<(FileHandleU64, fattr3)> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(option(set.mode).unwrap_or(0o644));
        rustix::fs::openat(self.object(*directory)?, &name.0[..], flags, mode).map_err(failed)?;
        let made = self.find(*directory, &name.0)?;
        Ok((made, self.stat(made)?))
    }

    async fn create_exclusive(
        &self,
        _: &FileHandleU64,
        _: &filename3<'_>,
        _: createverf3,
    ) -> Answer<FileHandleU64> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn mkdir(
        &self,
        directory: &FileHandleU64,
        name: &filename3<'_>,
    ) -> Answer<(FileHandleU64, fattr3)> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(self.object(*directory)?, &name.0[..], mode).map_err(failed)?;
        let made = self.find(*directory, &name.0)?;
        Ok((made, self.stat(made)?))
    }

    /// REMOVE and RMDIR.
    async fn remove(&self, directory: &FileHandleU64, name: &filename3<'_>) -> Answer<()> {
        let directory = self.object(*directory)?;
        match rustix::fs::unlinkat(&directory, &name.0[..], AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&directory, &name.0[..], AtFlags::REMOVEDIR),
            removed => removed,
        }
        .map_err(failed)
    }

    async fn rename<'a>(
        &self,
        from: &FileHandleU64,
        name: &filename3<'a>,
        to: &FileHandleU64,
        new: &filename3<'a>,
    ) -> Answer<()> {
        let (from, to) = (self.object(*from)?, self.object(*to)?);
        rustix::fs::renameat(from, &name.0[..], to, &new.0[..]).map_err(failed)
    }

    async fn symlink<'a>(
        &self,
        _: &FileHandleU64,
        _: &filename3<'a>,
        _: &nfspath3<'a>,
        _: &sattr3,
    ) -> Answer<(FileHandleU64, fattr3)> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn commit(&self, _: &FileHandleU64, _: u64, _: u32) -> Answer<()> {
        Ok(())
    }
}

fn option<T: nfs3_types::xdr_codec::Pack + nfs3_types::xdr_codec::Unpack>(given: Nfs3Option<T>) -> Option<T> {
    match given {
        Nfs3Option::Some(value) => Some(value),
        Nfs3Option::None => None,
    }
}
