//! Telling the local rpcbind where the programs are: the port mapper protocol, version 2 (RFC 1833
//! section 3), over TCP on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::{Reader, Writer, XdrError};

const PORT: u16 = 111;
const PROGRAM: u32 = 100_000;
const SET: u32 = 1;
const UNSET: u32 = 2;
const TCP: u32 = 6;
/// What is registered: NFS versions 3 and 4, MOUNT version 3, and the sideband of `xdr/integrity.x`.
const SERVED: [(u32, u32); 4] = [(100_003, 3), (100_003, 4), (100_005, 3), (0x2000_8276, 1)];
const PATIENCE: Duration = Duration::from_secs(5);
const REPLY_MAX: u32 = 1024;

/// Registers NFSv3, NFSv4, MOUNT v3 and the sideband on the TCP port `port`, in place of what was registered
/// before.
///
/// # Errors
/// There is no rpcbind on loopback, or it refuses.
pub async fn register(port: u16) -> io::Result<()> {
    unregister().await?;
    for (program, version) in SERVED {
        if !call(SET, program, version, port).await? {
            return Err(io::Error::other(format!(
                "it refuses program {program}, which may belong to another server"
            )));
        }
    }
    Ok(())
}

/// Takes the registration back.
///
/// # Errors
/// There is no rpcbind on loopback.
pub async fn unregister() -> io::Result<()> {
    for (program, version) in SERVED {
        // False when nothing was registered: as good.
        call(UNSET, program, version, 0).await?;
    }
    Ok(())
}

async fn call(procedure: u32, program: u32, version: u32, port: u16) -> io::Result<bool> {
    let answered = tokio::time::timeout(PATIENCE, exchange(procedure, program, version, port));
    answered.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn exchange(procedure: u32, program: u32, version: u32, port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).await?;
    let mut call = Writer::default();
    // xid, CALL, RPC version 2, program, version, procedure, AUTH_NONE twice, then the mapping.
    call.u32(1).u32(0).u32(2).u32(PROGRAM).u32(2).u32(procedure).u64(0).u64(0);
    call.u32(program).u32(version).u32(TCP).u32(u32::from(port));
    let call = call.finish().concat();
    let length = u32::try_from(call.len()).unwrap_or(0);
    stream.write_all(&[&(0x8000_0000 | length).to_be_bytes()[..], &call].concat()).await?;

    let length = stream.read_u32().await? & 0x7fff_ffff;
    if length > REPLY_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut reply = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut reply).await?;
    accepted(&reply).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn accepted(reply: &[u8]) -> Result<bool, XdrError> {
    let mut reader = Reader::new(reply);
    for expected in [1, 1, 0] {
        let value = reader.u32()?;
        if value != expected {
            return Err(XdrError::Undefined(value));
        }
    }
    reader.u32()?;
    reader.opaque(400)?;
    match reader.u32()? {
        0 => reader.bool(),
        refused => Err(XdrError::Undefined(refused)),
    }
}
