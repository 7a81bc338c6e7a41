//! The server: accepts connections and survives whatever happens to them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Program;
use super::connection::Connection;
use super::peers::{End, Hub, Peer};
use crate::event::{Event, Sink};
use crate::sys::descriptors;

/// How long accepting rests when descriptors or memory are used up.
const BACK_OFF: Duration = Duration::from_millis(50);
/// A peer that vanished is noticed after this and [`PROBES`] further intervals.
const KEEPALIVE: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// What peers may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one record, that is of one call. 129 KiB by default.
    pub max_record: usize,
    /// Open connections; at the limit the one that is idle for longest gives way. 4096 by default,
    /// and never more than three quarters of the descriptors that the process may still open when it begins.
    pub max_connections: usize,
    /// Calls of one connection that run at once; more stay unread. 128 by default.
    pub calls_per_connection: usize,
    /// Memory of replies, of all connections, that are being made or not sent yet, in bytes. 96 MiB
    /// by default; an eighth is kept for small calls of connections that hold nothing. Connections
    /// that do not read their replies are closed when others need it.
    pub reply_bytes: usize,
    /// One connection's share of `reply_bytes`. 16 MiB by default.
    pub connection_reply_bytes: usize,
    /// Bytes of long records, of all connections, that are not complete. 32 MiB by default.
    pub record_bytes: usize,
    /// How long a connection may do nothing. 15 minutes by default.
    pub idle: Duration,
    /// How long a record may take from its first byte to its last. 30 seconds by default.
    pub record_time: Duration,
    /// How long replies may be unsent without any being taken. 30 seconds by default.
    pub write_time: Duration,
    /// How long running calls and unsent replies have at shutdown. 5 seconds by default.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_record: (128 << 10) + 1024,
            max_connections: 4096,
            calls_per_connection: 128,
            reply_bytes: 96 << 20,
            connection_reply_bytes: 16 << 20,
            record_bytes: 32 << 20,
            idle: Duration::from_secs(15 * 60),
            record_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// A listening socket and the programs served on it.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hub: Arc<Hub>,
}

impl Server {
    /// Listens on `address`; port 0 picks a free one. To be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the socket: the address is in use, not ours, or not permitted.
    pub async fn bind(
        address: SocketAddr,
        programs: Vec<Arc<dyn Program>>,
        limits: Limits,
        sink: Arc<dyn Sink>,
    ) -> io::Result<Self> {
        Self::on(TcpListener::bind(address).await?, programs, limits, sink)
    }

    /// The same on a socket that listens already, for programs that have to know where.
    ///
    /// # Errors
    /// The socket does not say where.
    pub fn on(
        listener: TcpListener,
        programs: Vec<Arc<dyn Program>>,
        limits: Limits,
        sink: Arc<dyn Sink>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, hub: Arc::new(Hub::new(programs, limits, sink)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then accepts and reads nothing more, lets running calls
    /// finish and their replies be written within [`Limits::drain`], and returns. Dropping the
    /// future closes everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, hub, .. } = self;
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut watch = JoinSet::new();
        let watched = Arc::clone(&hub);
        watch.spawn(async move { watched.watch().await });
        // Files need some, too.
        let most = hub.limits.max_connections.min(descriptors::left() / 4 * 3).max(1);
        // Open files were given up, and no connection came since. Only where that does not help is one cut.
        let mut relieved = false;
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        relieved = false;
                        if hub.connections() >= most {
                            hub.close_idle(1, "too many connections");
                        }
                        connections.spawn(serve(&hub, stream, canonical(address)));
                    }
                    Err(error) if concerns_one_peer(&error) => {}
                    Err(error) => {
                        if is_exhaustion(&error) {
                            descriptors::relieve();
                            if !relieved {
                                relieved = true;
                                continue;
                            }
                            hub.close_idle(1 + hub.connections() / 32, "out of descriptors");
                        }
                        tokio::select! {
                            () = &mut shutdown => break,
                            () = tokio::time::sleep(BACK_OFF) => {}
                        }
                    }
                },
            }
        }
        drop(listener);
        hub.drain();
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(hub.limits.drain, drained).await;
        connections.shutdown().await;
    }
}

/// A connection's place in the table; left, and its end told, however its task ends.
struct Place {
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    end: End,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(&self.peer);
        let (peer, reason) = (self.peer.address, self.end.reason);
        self.hub.sink.emit(&Event::Disconnected { peer, reason });
    }
}

fn serve(hub: &Arc<Hub>, stream: TcpStream, address: SocketAddr) -> impl Future<Output = ()> + use<> {
    let (sender, messages) = mpsc::unbounded_channel();
    let peer = hub.enter(address, sender);
    hub.sink.emit(&Event::Connected { peer: address });
    let mut place = Place { hub: Arc::clone(hub), peer, end: End::plain("cut off at shutdown") };
    async move {
        // Without these options service is worse, but it is service.
        let _ = stream.set_nodelay(true);
        let _ = keepalive(&stream);
        let (hub, peer) = (Arc::clone(&place.hub), Arc::clone(&place.peer));
        let mut connection = Connection::new(stream, hub, peer, messages);
        place.end = connection.run().await;
        if place.end.abrupt {
            // The kernel would try to deliver the rest to a peer that does not take it.
            let _ = sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO));
        }
    }
}

fn keepalive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)
}

/// An IPv4 peer of a socket that takes both is an IPv4 peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// True when one connection broke before it was accepted and the next may be well; accept(2) also
/// passes errors of the network on.
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::NONET
                | Errno::TIMEDOUT
        )
    )
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC))
}
