//! The monitor's own address, over HTTP/1.1, with TLS or without.
//!
//! Bounded whatever clients do: so many connections at a time (more wait in the kernel's queue),
//! each with one request and a short life, in which a handshake counts, too. Some may stay for an answer
//! without an end, for as long as their clients read it.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::from_fn_with_state;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::access::{Accepted, Access, Gate, guard};
use crate::sys::descriptors;

/// How long an answer without an end goes on after that, for what was told last.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long accepting rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);
/// The most bytes of a request's head that are kept.
const HEAD_MAX: usize = 64 * 1024;

/// What clients may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// From accepting a connection to its end, whatever it is used for, unless it stays.
    pub(super) lifetime: Duration,
    /// Those that stay, at a time; the others are free for everybody.
    pub(super) streams: usize,
    /// How long a client may read nothing of what it is sent.
    pub(super) patience: Duration,
    /// How long what is under way may take after the end was asked for.
    pub(super) grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            lifetime: Duration::from_secs(10),
            streams: 32,
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves `router` on `listener` to those whom `gate` lets in, until `shutdown` is done.
pub(super) async fn serve(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    bounds: Bounds,
    gate: Arc<Gate>,
) -> io::Result<()> {
    let (asked, asking) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let server = Arc::new(Server {
        router: TowerToHyperService::new(router.layer(from_fn_with_state(gate.clone(), guard))),
        streams: Arc::new(Semaphore::new(bounds.streams)),
        gate,
        bounds,
        asking,
    });
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, slot) = accept(&listener, &slots) => {
                connections.spawn(server.clone().connection(stream, slot));
            }
        }
    }
    drop(listener);
    // Nobody listens where there is no connection.
    let _ = asked.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left is dropped, and so ends.
    let _ = timeout(bounds.grace, ended).await;
    Ok(())
}

/// The next connection, and the slot that it holds until its end.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = match slots.clone().acquire_owned().await {
        Ok(slot) => slot,
        // Never: nobody closes the semaphore.
        Err(_) => pending().await,
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::debug!(%error, "monitor: cannot accept");
                if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
                    descriptors::relieve();
                }
                sleep(REST).await;
            }
        }
    }
}

/// What all connections share.
struct Server {
    router: TowerToHyperService<Router>,
    gate: Arc<Gate>,
    streams: Arc<Semaphore>,
    bounds: Bounds,
    /// Whether the end was asked for.
    asking: watch::Receiver<bool>,
}

impl Server {
    /// One connection, from its first byte to its end.
    async fn connection(self: Arc<Self>, stream: TcpStream, slot: OwnedSemaphorePermit) {
        // Looked at first, so that no change from here on goes unnoticed.
        let changes = self.gate.changes();
        let access = self.gate.access();
        let (streams, asking) = (self.streams.clone(), self.asking.clone());
        let life = Arc::new(Life { streams, asking, changes, place: Mutex::default() });
        let peer = Peer(Arc::downgrade(&life));
        let served = async {
            // Small pieces are not held back.
            let _ = stream.set_nodelay(true);
            let stream = Patient { stream, patience: self.bounds.patience, stalled: None };
            let Some(config) = access.tls() else { return self.answer(stream, access, peer).await };
            match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => self.answer(stream, access, peer).await,
                Err(error) => tracing::debug!(%error, "monitor: no TLS"),
            }
        };
        tokio::select! {
            () = served => {}
            () = life.over(self.bounds.lifetime) => {}
        }
        drop(slot);
    }

    async fn answer<S>(&self, stream: S, access: Arc<Access>, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            request.extensions_mut().insert(Accepted(access.clone()));
            let answer = self.router.call(request);
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let mut http = http1::Builder::new();
        let http = http.keep_alive(false).max_buf_size(HEAD_MAX);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut asking = self.asking.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = asking.wait_for(|asked| *asked) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "monitor: a connection failed");
        }
    }
}

/// How long a connection goes on.
struct Life {
    streams: Arc<Semaphore>,
    asking: watch::Receiver<bool>,
    /// Of who is let in, since the connection was accepted.
    changes: watch::Receiver<()>,
    /// That of a connection that stays.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Life {
    /// Makes the connection stay, if there is a place for it, and if whom it serves may still be let in.
    fn stay(&self) -> bool {
        if *self.asking.borrow() || self.changes.has_changed().unwrap_or(true) {
            return false;
        }
        let mut place = self.place.lock();
        if place.is_none() {
            *place = self.streams.clone().try_acquire_owned().ok();
        }
        place.is_some()
    }

    fn stays(&self) -> bool {
        self.place.lock().is_some()
    }

    /// Waits until the connection has to end, whatever it is used for: after `lifetime`, or if it stays when the
    /// monitor ends or lets others in than before.
    async fn over(&self, lifetime: Duration) {
        let short = async {
            sleep(lifetime).await;
            if self.stays() {
                pending::<()>().await;
            }
        };
        let long = async {
            let (mut asking, mut changes) = (self.asking.clone(), self.changes.clone());
            tokio::select! {
                _ = asking.wait_for(|asked| *asked) => {}
                _ = changes.changed() => {}
            }
            sleep(LAST_WORDS).await;
            // From now on it cannot begin to.
            if !self.stays() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = short => {}
            () = long => {}
        }
    }
}

/// What a handler knows of its connection.
#[derive(Clone)]
pub(super) struct Peer(Weak<Life>);

impl Peer {
    /// Lets the connection live on, for an answer without an end; false when there are enough that do. It ends
    /// when the client goes or does not read, when the monitor ends, and when others are let in than before.
    pub(super) fn stay(&self) -> bool {
        self.0.upgrade().is_some_and(|life| life.stay())
    }
}

/// A stream that fails when the other side takes nothing for too long.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// When that is, while something waits to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod streams;

#[cfg(test)]
pub(super) mod tests {
    use super::super::routes::{HEADERS, router};
    use super::super::{Monitor, Options};
    use super::*;
    use crate::event::{Cause, Event, Refusal, Sink};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    pub(in crate::monitor) struct Running {
        pub(in crate::monitor) monitor: Arc<Monitor>,
        pub(in crate::monitor) address: SocketAddr,
        pub(in crate::monitor) stop: Option<oneshot::Sender<()>>,
        pub(in crate::monitor) task: JoinHandle<io::Result<()>>,
    }

    async fn running(bounds: Bounds) -> Running {
        Running::start(Access::default(), bounds, Router::new()).await
    }

    impl Running {
        /// Serves the monitor, and `more` beside it, to those whom `access` lets in.
        pub(in crate::monitor) async fn start(access: Access, bounds: Bounds, more: Router) -> Self {
            let monitor = Monitor::new(Options::default()).unwrap();
            monitor.set_access(access);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            // A test that ends without a word stops it, too.
            let shutdown = async move { _ = stopped.await };
            let router = more.merge(router(monitor.clone()));
            let task = tokio::spawn(serve(router, listener, shutdown, bounds, monitor.gate.clone()));
            Self { monitor, address, stop: Some(stop), task }
        }

        /// The whole answer, which ends where the server closes.
        pub(in crate::monitor) async fn raw(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end too: it comes where the server left something unread.
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        }

        pub(in crate::monitor) async fn get(&self, path: &str) -> String {
            self.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
        }
    }

    fn started() -> Event<'static> {
        let nfs = "127.0.0.1:2049".parse().unwrap();
        Event::Started { nfs, monitor: nfs, store: "local /srv", mode: "enforce", keys: 1 }
    }

    #[tokio::test]
    async fn readiness_follows_start_and_stop_while_health_stays() {
        let server = running(Bounds::default()).await;
        for (event, status) in [(None, "503"), (Some(started()), "200"), (Some(Event::Stopped), "503")] {
            if let Some(event) = event {
                server.monitor.emit(&event);
            }
            let answer = server.get("/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            let answer = server.get("/healthz").await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn every_answer_has_the_strict_headers() {
        let server = running(Bounds::default()).await;
        for path in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
            let answer = server.get(path).await.to_ascii_lowercase();
            for (name, value) in HEADERS {
                assert!(answer.contains(&format!("\r\n{name}: {value}\r\n")), "{path} {name}: {answer}");
            }
        }
        assert!(server.get("/nowhere").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn metrics_and_page_show_what_was_emitted() {
        let server = running(Bounds::default()).await;
        server.monitor.emit(&started());
        server.monitor.emit(&Event::Refused(Refusal {
            block: Some(5),
            ..Refusal::plain(b"<script>x</script>\n", Cause::Truncated)
        }));
        let answer = server.get("/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.contains("nfs_verity_refused_total{cause=\"truncated\",class=\"corrupt\"} 1\n"));
        assert!(answer.ends_with("# EOF\n"));
        let page = server.get("/").await;
        assert!(page.contains("content-type: text/html; charset=utf-8"), "{page}");
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;\\x0a") && !page.contains("<script>"), "{page}");
        assert!(page.contains("local /srv"));
    }

    #[tokio::test]
    async fn idle_clients_do_not_keep_others_out() {
        let bounds = Bounds { connections: 2, lifetime: Duration::from_millis(50), ..Bounds::default() };
        let server = running(bounds).await;
        let mut idle = Vec::new();
        for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n", ""] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            idle.push(stream);
        }
        // Were the idle ones kept, this would never end. A slow machine may take more than one life.
        while !server.get("/healthz").await.starts_with("HTTP/1.1 200 ") {}
        for mut stream in idle {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }

    #[tokio::test]
    async fn a_connection_serves_one_request() {
        let server = running(Bounds::default()).await;
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
        let answer = server.raw(&request.repeat(2)).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    }

    #[tokio::test]
    async fn shutdown_ends_serving_even_with_an_idle_client() {
        let mut server = running(Bounds { lifetime: Duration::from_secs(3600), ..Bounds::default() }).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
        server.stop.take().unwrap().send(()).unwrap();
        server.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
        drop(idle);
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_an_error_or_the_end() {
        let server = running(Bounds { lifetime: Duration::from_millis(500), ..Bounds::default() }).await;
        for nonsense in ["\r\n\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
            let answer = server.raw(nonsense).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    }
}
