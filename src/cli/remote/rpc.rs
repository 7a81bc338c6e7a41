//! Remote procedure calls, one at a time, to a server that nobody has to trust: every reply is bounded
//! before it is kept, and every call ends in time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::proto::sideband::WireError;
use crate::wire::{Reader, Writer, XdrError};
use crate::wire::{RecordError, RecordReader};

/// The longest reply: a READ of 1 MiB with all around it.
const REPLY_MAX: usize = 1024 * 1024 + 4096;
/// Bytes taken from the socket at once.
const STEP: usize = 64 * 1024;
/// The longest body of a verifier, RFC 5531 section 8.2.
const VERIFIER_MAX: u32 = 400;
/// The most groups of AUTH_SYS, RFC 5531 appendix A.
const GROUPS_MAX: usize = 16;

/// What a call did not give.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server does not speak RPC: {0}")]
    Record(#[from] RecordError),
    #[error("the reply is not in the format: {0}")]
    Xdr(#[from] XdrError),
    #[error("the reply is not in the format: {0}")]
    Wire(#[from] WireError),
    #[error("the reply belongs to no call that was made")]
    Stranger,
    #[error("the server lists an attribute twice")]
    Repeated,
    #[error("the server refuses the credential or the RPC version")]
    Denied,
    #[error("the server does not have program {program:#x} version {version}")]
    NoProgram { program: u32, version: u32 },
    #[error("the server did not execute the call (accept_stat {0})")]
    NotExecuted(u32),
    /// A status that is not OK.
    #[error("{}", told(*.0))]
    Status(u32),
}

/// A status of NFSv3, MOUNT or the sideband in words.
fn told(status: u32) -> String {
    let name = match status {
        1 => "not permitted (NFS3ERR_PERM)",
        2 => "no such file (NFS3ERR_NOENT)",
        5 => "the gateway cannot prove it, or its store failed (NFS3ERR_IO)",
        13 => "the gateway does not give it out (NFS3ERR_ACCES)",
        20 => "not a directory (NFS3ERR_NOTDIR)",
        22 => "not for an object of this kind (NFS3ERR_INVAL)",
        63 => "the name is too long (NFS3ERR_NAMETOOLONG)",
        70 => "the file is gone (NFS3ERR_STALE)",
        10001 => "the handle is not known (NFS3ERR_BADHANDLE)",
        10005 => "it does not fit into a reply (NFS3ERR_TOOSMALL)",
        10008 => "the gateway is busy (NFS3ERR_JUKEBOX)",
        10095 => "no such attribute (NFS4ERR_NOXATTR)",
        other => return format!("status {other}"),
    };
    name.to_owned()
}

/// `NFS3ERR_JUKEBOX`.
pub(in crate::cli) const JUKEBOX: u32 = 10008;

/// A program and its version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) program: u32,
    pub(super) version: u32,
}

/// A connection on which one call runs at a time. After an error it is of no more use.
pub(super) struct Connection {
    stream: TcpStream,
    xid: u32,
    credential: Vec<u8>,
    records: RecordReader,
    input: BytesMut,
    patience: Duration,
}

impl Connection {
    /// Calls over `stream` as this process's user, each of which may take as long as `patience`.
    pub(super) fn new(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            // Any number will do: it tells nothing to whoever sees the whole call.
            xid: std::process::id().wrapping_mul(0x9e37_79b9),
            credential: credential(),
            records: RecordReader::new(REPLY_MAX),
            input: BytesMut::new(),
            patience,
        })
    }

    /// One call; the results of an accepted and executed one.
    pub(super) fn call(
        &mut self,
        target: Target,
        procedure: u32,
        arguments: &[u8],
    ) -> Result<Bytes, ClientError> {
        let deadline = Instant::now() + self.patience;
        self.xid = self.xid.wrapping_add(1);
        let mut call = Writer::default();
        call.u32(self.xid).u32(0).u32(2).u32(target.program).u32(target.version).u32(procedure);
        call.u32(1).opaque(&self.credential).u32(0).u32(0);
        let head = call.finish().concat();
        let length = u32::try_from(head.len() + arguments.len()).unwrap_or(u32::MAX) & 0x7fff_ffff;
        let record = [&(0x8000_0000 | length).to_be_bytes()[..], &head, arguments].concat();
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        self.stream.write_all(&record).map_err(late)?;
        let reply = self.receive(deadline)?;
        let mut reader = Reader::new(&reply);
        let (xid, kind) = (reader.u32()?, reader.u32()?);
        if xid != self.xid || kind != 1 {
            return Err(ClientError::Stranger);
        }
        match reader.u32()? {
            0 => {}
            1 => return Err(ClientError::Denied),
            other => return Err(XdrError::Undefined(other).into()),
        }
        reader.u32()?;
        reader.opaque(VERIFIER_MAX)?;
        match reader.u32()? {
            0 => Ok(reply.slice_ref(reader.rest())),
            1 | 2 => {
                let Target { program, version } = target;
                Err(ClientError::NoProgram { program, version })
            }
            other => Err(ClientError::NotExecuted(other)),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Bytes, ClientError> {
        let mut buffer = vec![0; STEP];
        loop {
            if let Some(record) = self.records.next(&mut self.input)? {
                return Ok(record);
            }
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(read) => self.input.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(late(error)),
            }
        }
    }
}

fn left(deadline: Instant) -> Result<Duration, ClientError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ClientError::TimedOut) } else { Ok(left) }
}

fn late(error: io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::TimedOut,
        _ => ClientError::Io(error),
    }
}

/// AUTH_SYS of this process: what a mount by this user would send.
fn credential() -> Vec<u8> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    let groups: Vec<u32> = groups.into_iter().take(GROUPS_MAX).map(rustix::fs::Gid::as_raw).collect();
    let mut body = Writer::default();
    body.u32(0).opaque(b"nfs-verity");
    body.u32(rustix::process::geteuid().as_raw()).u32(rustix::process::getegid().as_raw());
    body.u32(u32::try_from(groups.len()).unwrap_or(0));
    for group in groups {
        body.u32(group);
    }
    body.finish().concat()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TARGET: Target = Target { program: 7, version: 3 };

    /// What a call gives whose record is answered with what `reply` makes of its xid.
    fn answered(reply: impl FnOnce(u32) -> Vec<u8> + Send + 'static) -> Result<Bytes, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut mark = [0; 4];
            stream.read_exact(&mut mark).unwrap();
            let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
            stream.read_exact(&mut call).unwrap();
            let xid = u32::from_be_bytes(*call.first_chunk().unwrap());
            let _ = stream.write_all(&reply(xid));
        });
        let stream = TcpStream::connect(address).unwrap();
        let mut connection = Connection::new(stream, Duration::from_secs(20)).unwrap();
        let answer = connection.call(TARGET, 1, b"args");
        server.join().unwrap();
        answer
    }

    fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
        let mark = u32::try_from(bytes.len()).unwrap() | u32::from(last) << 31;
        [&mark.to_be_bytes()[..], bytes].concat()
    }

    fn good(xid: u32) -> Vec<u8> {
        [&xid.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 16], b"results!"].concat()
    }

    #[test]
    fn results_come_whole_however_they_are_cut() {
        assert_eq!(answered(|xid| fragment(&good(xid), true)).unwrap(), &b"results!"[..]);
        let cut = answered(|xid| {
            let reply = good(xid);
            [fragment(&reply[..3], false), fragment(b"", false), fragment(&reply[3..], true)].concat()
        });
        assert_eq!(cut.unwrap(), &b"results!"[..]);
    }

    #[test]
    fn replies_cut_at_any_length_are_errors() {
        let length = good(0).len();
        for n in 0..length - b"results!".len() {
            let answer = answered(move |xid| fragment(&good(xid)[..n], true));
            assert!(matches!(answer, Err(ClientError::Xdr(_) | ClientError::Stranger)), "{n}: {answer:?}");
        }
        for n in 0..length + 4 {
            let answer = answered(move |xid| fragment(&good(xid), true)[..n].to_vec());
            assert!(matches!(answer, Err(ClientError::Closed)), "{n}: {answer:?}");
        }
    }

    #[test]
    fn giant_lengths_and_endless_fragments_are_refused_before_they_are_kept() {
        for mark in [0x8011_0000_u32, 0xffff_ffff, 0x7fff_ffff] {
            let answer = answered(move |_| mark.to_be_bytes().to_vec());
            assert!(matches!(answer, Err(ClientError::Record(RecordError::TooLong { .. }))), "{answer:?}");
        }
        let endless = answered(|_| vec![0; 4 * 100]);
        assert!(matches!(endless, Err(ClientError::Record(RecordError::TooManyFragments))), "{endless:?}");
    }

    #[test]
    fn replies_to_others_and_refusals_are_told() {
        type Case = (fn(u32) -> Vec<u8>, fn(&ClientError) -> bool);
        let cases: [Case; 8] = [
            (|xid| good(xid ^ 1), |e| matches!(e, ClientError::Stranger)),
            (|xid| [&xid.to_be_bytes()[..], &[0; 20]].concat(), |e| matches!(e, ClientError::Stranger)),
            (
                |xid| [&xid.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 1], &[0; 8]].concat(),
                |e| matches!(e, ClientError::Denied),
            ),
            (
                |xid| [&xid.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 2], &[0; 8]].concat(),
                |e| matches!(e, ClientError::Xdr(XdrError::Undefined(2))),
            ),
            (
                |xid| [&xid.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0], &[0; 4], &[0xff; 8]].concat(),
                |e| matches!(e, ClientError::Xdr(XdrError::TooLong { .. })),
            ),
            (
                |xid| [&xid.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 12], &[0, 0, 0, 1]].concat(),
                |e| matches!(e, ClientError::NoProgram { program: 7, version: 3 }),
            ),
            (
                |xid| [&xid.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 12], &[0, 0, 0, 4]].concat(),
                |e| matches!(e, ClientError::NotExecuted(4)),
            ),
            (|_| Vec::new(), |e| matches!(e, ClientError::Xdr(XdrError::Truncated))),
        ];
        for (n, (reply, check)) in cases.into_iter().enumerate() {
            let error = answered(move |xid| fragment(&reply(xid), true)).unwrap_err();
            assert!(check(&error), "{n}: {error:?}");
        }
    }

    #[test]
    fn a_silent_server_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut connection = Connection::new(stream, Duration::from_millis(20)).unwrap();
        assert!(matches!(connection.call(TARGET, 1, &[]), Err(ClientError::TimedOut)));
    }
}
