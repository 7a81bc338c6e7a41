//! A small NFSv3 client for the demo: one call at a time, over a real connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::proto::xdr::{Reader, Writer, XdrError};

/// Replies are at most this long here.
const REPLY_MAX: usize = 2 * 1024 * 1024;
const HANDLE_MAX: u32 = 64;

/// What a call did not give.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the reply is not in the format: {0}")]
    Xdr(#[from] XdrError),
    #[error("the call was not accepted")]
    Rejected,
    /// An NFSv3 or MOUNT status that is not OK.
    #[error("status {0}")]
    Status(u32),
}

/// `NFS3ERR_IO`: the block is damaged.
pub(super) const IO: u32 = 5;
/// `NFS3ERR_ACCES`: policy does not allow the file.
pub(super) const ACCES: u32 = 13;

/// A connection to an NFS port that also serves MOUNT.
pub(super) struct Client {
    stream: TcpStream,
    xid: u32,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, xid: 1 })
    }

    /// MOUNT's MNT: the handle of the export `path`.
    pub(super) fn mount(&mut self, path: &[u8]) -> Result<Vec<u8>, ClientError> {
        let reply = self.call(100_005, 1, |w| _ = w.opaque(path))?;
        let mut reader = accepted(&reply)?;
        status(&mut reader)?;
        Ok(reader.opaque(HANDLE_MAX)?.to_vec())
    }

    /// LOOKUP: the handle of `name` in a directory.
    pub(super) fn lookup(&mut self, directory: &[u8], name: &[u8]) -> Result<Vec<u8>, ClientError> {
        let reply = self.call(100_003, 3, |w| _ = w.opaque(directory).opaque(name))?;
        let mut reader = accepted(&reply)?;
        status(&mut reader)?;
        Ok(reader.opaque(HANDLE_MAX)?.to_vec())
    }

    /// READ: data, and whether it reaches the end of the file.
    pub(super) fn read(
        &mut self,
        file: &[u8],
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), ClientError> {
        let reply = self.call(100_003, 6, |w| _ = w.opaque(file).u64(offset).u32(count))?;
        let mut reader = accepted(&reply)?;
        status(&mut reader)?;
        if reader.bool()? {
            reader.fixed(84)?;
        }
        reader.u32()?;
        let eof = reader.bool()?;
        Ok((reader.opaque(count)?.to_vec(), eof))
    }

    fn call(
        &mut self,
        program: u32,
        procedure: u32,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, ClientError> {
        self.xid += 1;
        let mut call = Writer::default();
        call.u32(self.xid).u32(0).u32(2).u32(program).u32(3).u32(procedure);
        // AUTH_SYS: stamp, machine name, uid, gid, no further groups; then an empty verifier.
        call.u32(1).u32(24).u32(0).opaque(b"demo").u32(1000).u32(1000).u32(0).u32(0).u32(0);
        arguments(&mut call);
        let call = call.finish().concat();
        let mark = 0x8000_0000 | u32::try_from(call.len()).map_err(|_| ClientError::Rejected)?;
        self.stream.write_all(&[&mark.to_be_bytes()[..], &call].concat())?;

        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let length = usize::try_from(u32::from_be_bytes(mark) & 0x7fff_ffff).unwrap_or(usize::MAX);
        if length > REPLY_MAX {
            return Err(ClientError::Rejected);
        }
        let mut reply = vec![0; length];
        self.stream.read_exact(&mut reply)?;
        let mut reader = Reader::new(&reply);
        if reader.u32()? == self.xid { Ok(reader.rest().to_vec()) } else { Err(ClientError::Rejected) }
    }
}

/// The results of an accepted and executed call.
fn accepted(reply: &[u8]) -> Result<Reader<'_>, ClientError> {
    let mut reader = Reader::new(reply);
    let header = (reader.u32()?, reader.u32()?);
    reader.u32()?;
    reader.opaque(400)?;
    match (header, reader.u32()?) {
        ((1, 0), 0) => Ok(reader),
        _ => Err(ClientError::Rejected),
    }
}

fn status(reader: &mut Reader<'_>) -> Result<(), ClientError> {
    match reader.u32()? {
        0 => Ok(()),
        status => Err(ClientError::Status(status)),
    }
}
