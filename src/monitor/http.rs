//! The monitor's own address, over HTTP/1.1.
//!
//! Bounded whatever clients do: so many connections at a time (more wait in the kernel's queue),
//! each with one request and a short life.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

/// How long what is under way may take after the end was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long accepting rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// What clients may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    connections: usize,
    /// From accepting a connection to its end, whatever it is used for.
    lifetime: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 64, lifetime: Duration::from_secs(10) }
    }
}

/// Serves `router` on `listener` until `shutdown` is done.
pub(super) async fn serve(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    bounds: Bounds,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let listener = BoundedListener { listener, slots, lifetime: bounds.lifetime };
    let (asked, ending) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens when serving has ended by itself.
        let _ = asked.send(());
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(shutdown);
    let out_of_patience = async move {
        if ending.await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(GRACE).await;
    };
    tokio::select! {
        result = server.into_future() => result,
        () = out_of_patience => Ok(()),
    }
}

/// Accepts while there is a slot.
struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    lifetime: Duration,
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = match self.slots.clone().acquire_owned().await {
            Ok(slot) => slot,
            // Never: nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(sleep(self.lifetime));
                    let stays = Arc::default();
                    return (Connection { stream, end, stays, _slot: slot }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "monitor: cannot accept");
                    sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end, and the slot that it holds until then.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// The end does not hold any more.
    stays: Arc<AtomicBool>,
    _slot: OwnedSemaphorePermit,
}

/// What a handler knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    stays: Arc<AtomicBool>,
}

impl Peer {
    /// Lets the connection live on, for an answer without an end.
    pub(super) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self { stays: stream.io().stays.clone() }
    }
}

impl Connection {
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.stays.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::{HEADERS, router};
    use super::super::{Monitor, Options};
    use super::*;
    use crate::event::{Cause, Event, Refusal, Sink};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    struct Running {
        monitor: Arc<Monitor>,
        address: SocketAddr,
        stop: Option<oneshot::Sender<()>>,
        task: JoinHandle<io::Result<()>>,
    }

    async fn running(bounds: Bounds) -> Running {
        let monitor = Monitor::new(Options::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap() };
        let task = tokio::spawn(serve(router(monitor.clone()), listener, shutdown, bounds));
        Running { monitor, address, stop: Some(stop), task }
    }

    impl Running {
        /// The whole answer, which ends where the server closes.
        async fn raw(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end too: it comes where the server left something unread.
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        }

        async fn get(&self, path: &str) -> String {
            self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
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
        assert!(server.raw("POST / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn metrics_and_page_show_what_was_emitted() {
        let server = running(Bounds::default()).await;
        server.monitor.emit(&started());
        server.monitor.emit(&Event::Refused(Refusal {
            path: b"<script>x</script>\n",
            cause: Cause::Truncated,
            detail: "",
            block: Some(5),
            level: None,
            expected: None,
            found: None,
            client: None,
            served: false,
            record: None,
        }));
        let answer = server.get("/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.contains("nfs_verity_refused_total{cause=\"truncated\",class=\"corrupt\"} 1\n"));
        assert!(answer.ends_with("# EOF\n"));
        let page = server.get("/").await;
        assert!(page.contains("content-type: text/html; charset=utf-8"), "{page}");
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;\\x0a") && !page.contains("<script"), "{page}");
        assert!(page.contains("local /srv"));
    }

    #[tokio::test]
    async fn idle_clients_do_not_keep_others_out() {
        let bounds = Bounds { connections: 2, lifetime: Duration::from_millis(50) };
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
        let mut server = running(Bounds { connections: 4, lifetime: Duration::from_secs(3600) }).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
        server.stop.take().unwrap().send(()).unwrap();
        server.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
        drop(idle);
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_an_error_or_the_end() {
        let server = running(Bounds { connections: 8, lifetime: Duration::from_millis(500) }).await;
        for nonsense in ["\r\n\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
            let answer = server.raw(nonsense).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    }
}
