//! Calls of ONC RPC (RFC 5531) over a few TCP connections: many in flight on each, sent again when a
//! connection is lost. Knows nothing of NFS.
//!
//! The server may send what it likes: a record is bounded before it is kept, and one that answers no
//! call ends its connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::wire::{Reader, RecordReader, Segments, Writer, XdrError};

/// The longest reply: a READ of 1 MiB with all around it.
pub(super) const REPLY_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Calls that may wait for their reply on one connection.
const IN_FLIGHT: usize = 64;
/// Calls whose caller has gone, of which a connection still expects the replies.
const ABANDONED: usize = 4 * IN_FLIGHT;
/// Bytes taken from the socket at once, at least.
const STEP: usize = 64 * 1024;
/// The longest body of a verifier, RFC 5531 section 8.2.
const VERIFIER_MAX: u32 = 400;
/// How long is waited before the first attempt to connect again; doubles with each one that fails.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long one address may take to be connected to, before the next is tried or the first once more.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection is idle before the server, and what keeps track of it on the way, is reminded of it.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The ports that only root may bind and that are tried, RFC 1813 section 4.1.
const RESERVED: std::ops::Range<u16> = 600..1024;

/// What a call did not give.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No reply within the time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It cannot be reached; the last reason.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The reply is not what RFC 5531 or the program allows.
    #[error("the reply is not in the format: {0}")]
    Xdr(#[from] XdrError),
    /// RFC 5531 section 9 has the numbers; 5 is a credential that is too weak.
    #[error("the server refuses the credential (auth_stat {0})")]
    Denied(u32),
    #[error("the server does not speak version 2 of RPC")]
    OtherRpc,
    /// Also what a server says that is starting.
    #[error("the server does not have the program or its version")]
    NoProgram,
    #[error("the server does not have the procedure")]
    NoProcedure,
    #[error("the server did not execute the call (accept_stat {0})")]
    NotExecuted(u32),
}

/// A program and its version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) number: u32,
    pub(super) version: u32,
}

/// Where connections go.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether to come from a port that only root may bind, where that can be had.
    pub(super) reserved: bool,
}

/// One call.
pub(super) struct Call {
    pub(super) procedure: u32,
    /// The body of the AUTH_SYS credential.
    pub(super) credential: Bytes,
    pub(super) arguments: Segments,
    /// The most bytes of a reply.
    pub(super) reply_max: usize,
}

/// The results of an executed call.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) results: Bytes,
    /// The call was sent more than once: the server may have executed it more than once.
    pub(super) resent: bool,
}

/// A server, reached by a fixed number of connections that are made when they are needed.
pub(super) struct Client {
    peer: Peer,
    program: Program,
    timeout: Duration,
    lines: Vec<Line>,
    turn: AtomicUsize,
}

/// The place of one connection.
struct Line {
    state: tokio::sync::Mutex<State>,
    slots: Semaphore,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failures: u32,
    not_before: Option<Instant>,
}

impl State {
    /// Whether there is a connection, or one may be made now.
    fn may_go(&self, now: Instant) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
            || self.not_before.is_none_or(|until| until <= now)
    }
}

impl Client {
    pub(super) fn new(peer: Peer, program: Program, connections: usize, timeout: Duration) -> Self {
        let line = || Line { state: tokio::sync::Mutex::default(), slots: Semaphore::new(IN_FLIGHT) };
        let lines = (0..connections.max(1)).map(|_| line()).collect();
        Self { peer, program, timeout, lines, turn: AtomicUsize::new(0) }
    }

    /// Makes `call` until it is answered or `deadline` has passed.
    pub(super) async fn call(&self, call: &Call, deadline: Instant) -> Result<Reply, CallError> {
        let mut sent = false;
        let mut last = None;
        let mut pause = BACKOFF;
        loop {
            match timeout_at(deadline, self.attempt(call, deadline, &mut sent)).await {
                Ok(Ok((results, resent))) => return Ok(Reply { results: executed(&results)?, resent }),
                Ok(Err(lost)) => last = Some(lost),
                Err(_) => return Err(self.late(last)),
            }
            let again = Instant::now() + pause;
            if again >= deadline {
                return Err(self.late(last));
            }
            sleep_until(again).await;
            pause = (2 * pause).min(BACKOFF_MAX);
        }
    }

    /// Makes `call` once: a connection that cannot be made, or is lost, is told at once.
    pub(super) async fn call_once(&self, call: &Call, deadline: Instant) -> Result<Reply, CallError> {
        match timeout_at(deadline, self.attempt(call, deadline, &mut false)).await {
            Ok(Ok((results, resent))) => Ok(Reply { results: executed(&results)?, resent }),
            Ok(Err(lost)) => Err(CallError::Unreachable(lost)),
            Err(_) => Err(self.late(None)),
        }
    }

    fn late(&self, last: Option<io::Error>) -> CallError {
        last.map_or(CallError::TimedOut(self.timeout), CallError::Unreachable)
    }

    /// One attempt; an error when the connection could not be made or was lost. `sent` tells whether an
    /// earlier attempt may have reached the server, and is kept up to date.
    async fn attempt(&self, call: &Call, deadline: Instant, sent: &mut bool) -> io::Result<(Bytes, bool)> {
        let line = self.line().ok_or(io::ErrorKind::NotFound)?;
        let _slot = line.slots.acquire().await.map_err(io::Error::other)?;
        let connection = self.connected(line).await?;
        let reply = connection.exchange(self.program, call)?;
        let resent = std::mem::replace(sent, true);
        let asked = Instant::now();
        // A connection on which nothing came since the call was made may lead nowhere.
        let mut watch = Watch { connection: &connection, asked, deadline: Some(deadline) };
        let reply = reply.await;
        watch.deadline = None;
        Ok((reply.map_err(|_| io::ErrorKind::ConnectionReset)?, resent))
    }

    /// The line whose turn it is. One that cannot be connected, or is just tried, leaves it to one that can.
    fn line(&self) -> Option<&Line> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.lines.len().max(1);
        let (before, from) = self.lines.split_at_checked(turn)?;
        let now = Instant::now();
        let mut lines = from.iter().chain(before);
        let first = lines.clone().next();
        lines.find(|line| line.state.try_lock().is_ok_and(|state| state.may_go(now))).or(first)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Peer { host, port, reserved } = &self.peer;
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await?.take(8);
        let stream = connect(addresses, *reserved, CONNECT).await?;
        tune(&stream, self.timeout / 2)?;
        Ok(stream)
    }

    async fn connected(&self, line: &Line) -> io::Result<Arc<Connection>> {
        let mut state = line.state.lock().await;
        if let Some(connection) = &state.connection
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        if state.connection.take().is_some() {
            // It was good until it was lost.
            state.failures = 0;
        }
        if let Some(wait) = state.not_before.take() {
            sleep_until(wait).await;
        }
        match self.connect().await.and_then(Connection::start) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let pause = BACKOFF.saturating_mul(1 << state.failures.min(6)).min(BACKOFF_MAX);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + pause);
                Err(error)
            }
        }
    }
}

/// Closes a connection when its call is given up at the deadline and nothing was heard meanwhile.
struct Watch<'a> {
    connection: &'a Connection,
    asked: Instant,
    deadline: Option<Instant>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late && !self.connection.heard_since(self.asked) {
            self.connection.close();
        }
    }
}

/// Connects to the first of `addresses` that takes it within `each`.
async fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    reserved: bool,
    each: Duration,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let connecting = async {
            if reserved {
                match connect_reserved(address).await {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    connected => return connected,
                }
            }
            TcpStream::connect(address).await
        };
        match timeout(each, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} takes no connection"));
            }
        }
    }
    Err(last)
}

/// Sets `stream` up so that one which leads nowhere any more is lost after `patience`, in time for its calls to
/// be sent again.
fn tune(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 3)?;
    // 0 would be the system's own, which is a quarter of an hour.
    let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX).max(1);
    sockopt::set_tcp_user_timeout(stream, patience)?;
    Ok(())
}

/// Connects from a reserved port. Where none is to be had: permission denied.
async fn connect_reserved(address: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(RESERVED.end - RESERVED.start);
    let start = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    for n in 0..span {
        let port = RESERVED.start + u16::try_from(start.wrapping_add(n) % span).unwrap_or(0);
        let (socket, own) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, SocketAddr::from(([0, 0, 0, 0], port))),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, SocketAddr::from(([0u16; 8], port))),
        };
        socket.set_reuseaddr(true)?;
        match socket.bind(own) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            Err(error) => return Err(error),
        }
        match socket.connect(address).await {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
            connected => return connected,
        }
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

/// What was sent and waits for its reply, by its number.
#[derive(Default)]
struct Pending {
    calls: HashMap<u32, Waiting>,
    closed: bool,
}

struct Waiting {
    reply: oneshot::Sender<Bytes>,
    reply_max: usize,
}

struct Shared {
    pending: Mutex<Pending>,
    started: Instant,
    /// When bytes were last received, in milliseconds since the start.
    heard: AtomicU64,
}

impl Shared {
    fn close(&self) {
        let mut pending = self.pending.lock();
        pending.closed = true;
        // Dropping the senders tells the callers.
        pending.calls = HashMap::new();
    }

    fn hear(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }
}

struct Connection {
    shared: Arc<Shared>,
    xid: AtomicU32,
    out: mpsc::UnboundedSender<Segments>,
    tasks: [JoinHandle<()>; 2],
}

impl Connection {
    fn start(stream: TcpStream) -> io::Result<Self> {
        let (input, output) = stream.into_split();
        let started = Instant::now();
        let shared = Arc::new(Shared { pending: Mutex::default(), started, heard: AtomicU64::new(0) });
        let (out, records) = mpsc::unbounded_channel();
        let (reading, writing) = (shared.clone(), shared.clone());
        let read = tokio::spawn(async move {
            let _why = receive(input, &reading).await;
            reading.close();
        });
        let write = tokio::spawn(async move {
            let _why = send(output, records).await;
            writing.close();
        });
        // The server tells calls apart by number and port, where it remembers replies: start anywhere.
        let first = std::process::id().wrapping_mul(0x9e37_79b9) ^ now_bits();
        Ok(Self { shared, xid: AtomicU32::new(first), out, tasks: [read, write] })
    }

    fn is_closed(&self) -> bool {
        self.shared.pending.lock().closed
    }

    fn heard_since(&self, when: Instant) -> bool {
        let heard = Duration::from_millis(self.shared.heard.load(Ordering::Relaxed));
        self.shared.started + heard >= when
    }

    fn close(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.close();
    }

    /// Sends `call`; the reply comes by the channel, which ends when the connection is lost.
    fn exchange(&self, program: Program, call: &Call) -> io::Result<oneshot::Receiver<Bytes>> {
        let (reply, answer) = oneshot::channel();
        let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
        let xid = {
            let mut pending = self.shared.pending.lock();
            if pending.closed {
                return Err(lost());
            }
            let xid = self.xid.fetch_add(1, Ordering::Relaxed);
            let waiting = Waiting { reply, reply_max: call.reply_max.min(REPLY_MAX) };
            if pending.calls.len() >= ABANDONED || pending.calls.insert(xid, waiting).is_some() {
                drop(pending);
                self.close();
                return Err(lost());
            }
            xid
        };
        let mut head = Writer::default();
        head.u32(xid).u32(0).u32(2).u32(program.number).u32(program.version).u32(call.procedure);
        head.u32(1).opaque(&call.credential).u32(0).u32(0);
        let body: usize = call.arguments.iter().map(Bytes::len).sum();
        let length = u32::try_from(head.len() + body).map_err(io::Error::other)?;
        let mut record = Writer::default();
        record.u32(0x8000_0000 | length).append(head);
        call.arguments.iter().for_each(|part| _ = record.raw(part.clone()));
        self.out.send(record.finish()).map_err(|_| lost())?;
        Ok(answer)
    }
}

fn now_bits() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos()
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.close();
    }
}

/// Writes records whole, one after the other.
async fn send(mut output: OwnedWriteHalf, mut records: mpsc::UnboundedReceiver<Segments>) -> io::Result<()> {
    while let Some(mut record) = records.recv().await {
        // What is short goes in one piece.
        if record.iter().map(Bytes::len).sum::<usize>() <= STEP {
            record = vec![record.concat().into()];
        }
        for part in record {
            output.write_all(&part).await?;
        }
    }
    Ok(())
}

async fn receive(mut input: OwnedReadHalf, shared: &Shared) -> io::Result<()> {
    let mut records = RecordReader::new(REPLY_MAX);
    let mut buffer = BytesMut::new();
    loop {
        while let Some(record) = records.next(&mut buffer).map_err(io::Error::other)? {
            deliver(record, shared)?;
        }
        // The claim is bounded by `REPLY_MAX`, so room for all of it saves copies.
        buffer.reserve(records.missing(&buffer).clamp(STEP, REPLY_MAX));
        if input.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        shared.hear();
    }
}

/// Gives a reply to the call that it belongs to. The connection ends where it belongs to none.
fn deliver(record: Bytes, shared: &Shared) -> io::Result<()> {
    let mut reader = Reader::new(&record);
    let (Ok(xid), Ok(1)) = (reader.u32(), reader.u32()) else {
        return Err(io::Error::other("a record that is no reply"));
    };
    let Some(waiting) = shared.pending.lock().calls.remove(&xid) else {
        return Err(io::Error::other("a reply to no call"));
    };
    if record.len() > waiting.reply_max {
        return Err(io::Error::other("a reply longer than the call allows"));
    }
    // Nobody may wait any more.
    let _ = waiting.reply.send(record);
    Ok(())
}

/// The results in a reply, when it is one of an executed call.
pub(super) fn executed(reply: &Bytes) -> Result<Bytes, CallError> {
    let mut reader = Reader::new(reply);
    reader.u64()?;
    match reader.u32()? {
        0 => {}
        1 => match reader.u32()? {
            1 => return Err(CallError::Denied(reader.u32()?)),
            _ => return Err(CallError::OtherRpc),
        },
        other => return Err(XdrError::Undefined(other).into()),
    }
    reader.u32()?;
    reader.opaque(VERIFIER_MAX)?;
    match reader.u32()? {
        0 => Ok(reply.slice_ref(reader.rest())),
        1 | 2 => Err(CallError::NoProgram),
        3 => Err(CallError::NoProcedure),
        other => Err(CallError::NotExecuted(other)),
    }
}

/// The body of an AUTH_SYS credential, RFC 5531 appendix A.
pub(super) fn auth_sys(uid: u32, gid: u32, gids: &[u32]) -> Bytes {
    let gids = gids.get(..gids.len().min(16)).unwrap_or_default();
    let mut body = Writer::default();
    body.u32(0).opaque(b"nfs-verity").u32(uid).u32(gid).u32(u32::try_from(gids.len()).unwrap_or(0));
    gids.iter().for_each(|gid| _ = body.u32(*gid));
    body.finish().concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that answers nobody: the only place of its queue is taken.
    async fn mute() -> (tokio::net::TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let mut taken = Vec::new();
        let soon = Duration::from_millis(100);
        while let Ok(stream) = timeout(soon, TcpStream::connect(listener.local_addr().unwrap())).await {
            taken.push(stream.unwrap());
        }
        (listener, taken)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_leaves_time_to_the_next() {
        let (mute, _taken) = mute().await;
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mute, good) = (mute.local_addr().unwrap(), good.local_addr().unwrap());
        let soon = Duration::from_millis(100);
        let stream = connect([mute, good].into_iter(), false, soon).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        tune(&stream, Duration::from_secs(5)).unwrap();
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap(), 5000);
        let error = connect([mute].into_iter(), false, soon).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_line_that_is_being_connected_leaves_its_turn_to_one_that_is() {
        let peer = Peer { host: "127.0.0.1".to_owned(), port: 1, reserved: false };
        let program = Program { number: 1, version: 1 };
        let client = Client::new(peer, program, 3, CONNECT);
        let index = |line: &Line| client.lines.iter().position(|other| std::ptr::eq(line, other)).unwrap();
        let turns = |count: usize| (0..count).map(|_| index(client.line().unwrap())).collect::<Vec<_>>();
        assert_eq!(turns(3), [0, 1, 2]);
        let _connecting = client.lines[0].state.lock().await;
        client.lines[1].state.lock().await.not_before = Some(Instant::now() + CONNECT);
        assert_eq!(turns(3), [2, 2, 2]);
        let _all = client.lines[2].state.lock().await;
        assert_eq!(turns(3), [0, 1, 2], "there is none to leave it to");
        client.lines[1].state.lock().await.not_before = Some(Instant::now());
        assert_eq!(turns(3), [1, 1, 1]);
    }

    #[test]
    fn a_reply_says_why_nothing_was_executed() {
        let reply = |accepted: u32| Bytes::from([1, 1, 0, 0, 0, accepted].map(u32::to_be_bytes).concat());
        assert_eq!(executed(&reply(0)).unwrap(), Bytes::new());
        for accepted in [1, 2] {
            assert!(matches!(executed(&reply(accepted)), Err(CallError::NoProgram)));
        }
        assert!(matches!(executed(&reply(3)), Err(CallError::NoProcedure)));
        assert!(matches!(executed(&reply(4)), Err(CallError::NotExecuted(4))));
        let denied = |words: &[u32]| {
            executed(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>().into())
        };
        assert!(matches!(denied(&[1, 1, 1, 1, 5]), Err(CallError::Denied(5))));
        assert!(matches!(denied(&[1, 1, 1, 0, 2, 2]), Err(CallError::OtherRpc)));
        assert!(matches!(denied(&[1, 1, 1, 1]), Err(CallError::Xdr(_))));
    }
}
