//! The calls that are needed of MOUNT, NFSv3 and the sideband.

use std::collections::HashSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::rpc::{ClientError, Connection, JUKEBOX, Target};
use crate::proto::sideband::{
    self, GETPROOF, GETPROOF1args, GETPROOF1res, GETPROOF1resok, GETXATTR, GETXATTR1args, GETXATTR1res,
    INTEGRITY_NAMES, LISTXATTRS, LISTXATTRS1args, LISTXATTRS1res, Wire, decode, encode, integrity_stat,
};
use crate::store::StorePath;
use crate::wire::{Reader, Writer};

const HANDLE_MAX: u32 = 64;
/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may say that it is busy.
const BUSY: Duration = Duration::from_secs(60);
/// How long it is left alone before it is asked again.
const REST: Duration = Duration::from_millis(250);
/// Bytes of `fattr3`.
const ATTRIBUTES: usize = 84;
/// Bytes of all names of an object's attributes, as Linux limits them.
const NAMES_MAX: usize = 64 * 1024;

const MOUNT: Target = Target { program: 100_005, version: 3 };
const NFS: Target = Target { program: 100_003, version: 3 };
const SIDEBAND: Target = Target { program: sideband::PROGRAM, version: sideband::VERSION };

/// `NFS3ERR_IO`: the block is damaged.
pub(in crate::cli) const IO: u32 = 5;
/// `NFS3ERR_ACCES`: policy does not allow the file.
pub(in crate::cli) const ACCES: u32 = 13;

/// A connection to an NFS port that also serves MOUNT, and the sideband where that is asked for.
pub(in crate::cli) struct Client {
    connection: Connection,
}

impl Client {
    pub(in crate::cli) fn over(stream: TcpStream) -> Result<Self, ClientError> {
        Ok(Self { connection: Connection::new(stream, PATIENCE)? })
    }

    /// MOUNT's MNT: the handle of the export `path`.
    pub(in crate::cli) fn mount(&mut self, path: &[u8]) -> Result<Vec<u8>, ClientError> {
        let reply = self.connection.call(MOUNT, 1, &written(|w| w.opaque(path)))?;
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        Ok(reader.opaque(HANDLE_MAX)?.to_vec())
    }

    /// LOOKUP: the handle of `name` in a directory.
    pub(in crate::cli) fn lookup(&mut self, directory: &[u8], name: &[u8]) -> Result<Vec<u8>, ClientError> {
        let reply = self.nfs(3, &written(|w| w.opaque(directory).opaque(name)))?;
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        Ok(reader.opaque(HANDLE_MAX)?.to_vec())
    }

    /// The handle of a path below the root.
    pub(in crate::cli) fn find(&mut self, path: &StorePath) -> Result<Vec<u8>, ClientError> {
        let root = self.mount(b"/")?;
        path.components().try_fold(root, |handle, name| self.lookup(&handle, name))
    }

    /// READ: data, and whether it reaches the end of the file.
    pub(in crate::cli) fn read(
        &mut self,
        file: &[u8],
        offset: u64,
        count: u32,
    ) -> Result<(Bytes, bool), ClientError> {
        let reply = self.nfs(6, &written(|w| w.opaque(file).u64(offset).u32(count)))?;
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        if reader.bool()? {
            reader.fixed(ATTRIBUTES)?;
        }
        reader.u32()?;
        let eof = reader.bool()?;
        Ok((reply.slice_ref(reader.opaque(count)?), eof))
    }

    /// The names of an object's extended attributes, without `user.`.
    pub(in crate::cli) fn list_xattrs(&mut self, object: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
        let (mut names, mut bytes, mut cookie) = (Vec::new(), 0, 0);
        let mut known = HashSet::new();
        loop {
            let args = LISTXATTRS1args { object: object.to_vec(), cookie };
            let page = self.sideband(LISTXATTRS, &args, LISTXATTRS1res::into_result)?;
            let stuck = page.names.is_empty() || page.cookie <= cookie;
            for name in page.names {
                bytes += name.name.len() + 1;
                if !known.insert(name.name.clone()) {
                    return Err(ClientError::Repeated);
                }
                names.push(name.name);
            }
            if page.eof {
                return Ok(names);
            }
            if stuck || bytes > NAMES_MAX {
                return Err(
                    sideband::WireError::TooLong(usize::try_from(INTEGRITY_NAMES).unwrap_or(0)).into()
                );
            }
            cookie = page.cookie;
        }
    }

    /// The value of an extended attribute, named without `user.`; `None` where there is none.
    pub(in crate::cli) fn get_xattr(
        &mut self,
        object: &[u8],
        name: &[u8],
    ) -> Result<Option<Bytes>, ClientError> {
        let args = GETXATTR1args { object: object.to_vec(), name: name.to_vec() };
        match self.sideband(GETXATTR, &args, GETXATTR1res::into_result) {
            Ok(found) => Ok(Some(found.value.into())),
            Err(ClientError::Status(status)) if status == integrity_stat::INTEGRITY_NOXATTR as u32 => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is said to prove the bytes from `offset`.
    pub(super) fn proof(
        &mut self,
        object: &[u8],
        offset: u64,
        length: u64,
    ) -> Result<GETPROOF1resok, ClientError> {
        let args = GETPROOF1args { object: object.to_vec(), offset, length };
        self.sideband(GETPROOF, &args, GETPROOF1res::into_result)
    }

    /// A call of NFSv3, again while the server is busy.
    fn nfs(&mut self, procedure: u32, arguments: &[u8]) -> Result<Bytes, ClientError> {
        patiently(|| {
            let reply = self.connection.call(NFS, procedure, arguments)?;
            match Reader::new(&reply).u32()? {
                JUKEBOX => Err(ClientError::Status(JUKEBOX)),
                _ => Ok(reply),
            }
        })
    }

    fn sideband<A, R, T>(
        &mut self,
        procedure: u32,
        arguments: &A,
        taken_apart: impl Fn(R) -> Result<T, integrity_stat>,
    ) -> Result<T, ClientError>
    where
        A: Wire,
        R: Wire,
    {
        let arguments = encode(arguments)?;
        patiently(|| {
            let reply = self.connection.call(SIDEBAND, procedure, &arguments)?;
            taken_apart(decode(&reply)?).map_err(|status| ClientError::Status(status as u32))
        })
    }
}

/// Asks again while the server is busy, but not for ever.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match ask() {
            Err(ClientError::Status(JUKEBOX)) if Instant::now() < deadline => std::thread::sleep(REST),
            answer => return answer,
        }
    }
}

fn written(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w);
    w.finish().concat()
}

fn status(reader: &mut Reader<'_>) -> Result<(), ClientError> {
    match reader.u32()? {
        0 => Ok(()),
        status => Err(ClientError::Status(status)),
    }
}
