//! Answers without an end, and what they cost others.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::super::Access;
use super::tests::Running;
use super::*;

const SOON: Duration = Duration::from_millis(300);
/// What nothing here has to wait for.
const LONG: Duration = Duration::from_secs(3600);

/// Two streams of four connections, with short lives.
const FEW: Bounds = Bounds { connections: 4, lifetime: SOON, streams: 2, patience: LONG, grace: LONG };

fn endless(
    peer: &Peer,
    pieces: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    match peer.stay() {
        true => Body::from_stream(pieces).into_response(),
        false => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// `/one` says one word and nothing more; `/flood` says more than anybody reads.
fn endless_router() -> Router {
    let one = |ConnectInfo(peer): ConnectInfo<Peer>| async move {
        endless(&peer, stream::iter([Ok(Bytes::from_static(b"word"))]).chain(stream::pending()))
    };
    let flood = |ConnectInfo(peer): ConnectInfo<Peer>| async move {
        endless(&peer, stream::repeat_with(|| Ok(Bytes::from_static(&[7; 65536]))))
    };
    Router::new().route("/one", get(one)).route("/flood", get(flood))
}

async fn running(bounds: Bounds) -> Running {
    Running::start(Access::default(), bounds, endless_router()).await
}

/// A connection that has asked for `path`, and may have sent `more`.
async fn ask(server: &Running, path: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n{more}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until `wanted` has come; false when the connection ends before.
async fn hears(stream: &mut TcpStream, wanted: &str) -> bool {
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(n) => heard.extend_from_slice(&piece[..n]),
        }
        if String::from_utf8_lossy(&heard).contains(wanted) {
            return true;
        }
    }
}

/// A stream that has a place; another one may be about to leave it.
async fn placed(server: &Running) -> TcpStream {
    loop {
        let mut stream = ask(server, "/one", "").await;
        if hears(&mut stream, "word").await {
            return stream;
        }
    }
}

/// Whether nothing comes for several lives of a connection, its end neither.
async fn goes_on(stream: &mut TcpStream) -> bool {
    timeout(3 * SOON, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn streams_stay_while_there_is_a_place_and_leave_room_for_others() {
    let server = running(FEW).await;
    let (mut first, mut second) = (placed(&server).await, placed(&server).await);
    assert!(server.get("/one").await.starts_with("HTTP/1.1 503 "));
    assert!(goes_on(&mut first).await && goes_on(&mut second).await);
    for _ in 0..8 {
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    }
    drop(first);
    let mut third = placed(&server).await;
    assert!(goes_on(&mut third).await && goes_on(&mut second).await);
}

#[tokio::test]
async fn a_stream_holds_its_connection_until_it_ends() {
    let server = running(Bounds { connections: 2, ..FEW }).await;
    let (first, second) = (placed(&server).await, placed(&server).await);
    let mut waiting = ask(&server, "/healthz", "").await;
    assert!(goes_on(&mut waiting).await, "both connections are taken");
    drop(first);
    assert!(hears(&mut waiting, "ok\n").await);
    drop(second);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends() {
    let server = running(Bounds { streams: 1, patience: 4 * SOON, ..FEW }).await;
    let mut reading = ask(&server, "/flood", "").await;
    let (mut rest, mut piece) = (0, vec![0; 1 << 16]);
    let until = Instant::now() + 8 * SOON;
    while Instant::now() < until {
        assert!(reading.read(&mut piece).await.unwrap() > 0, "a client that reads is not sent away");
    }
    // It reads no more, but does not go either.
    placed(&server).await;
    while let Ok(n @ 1..) = reading.read(&mut piece).await {
        rest += n;
    }
    assert!(rest > 0, "what was on its way arrives, and then the end");
}

#[tokio::test]
async fn a_stream_with_nothing_to_say_outlives_patience() {
    let server = running(Bounds { patience: Duration::from_millis(10), ..FEW }).await;
    let mut stream = placed(&server).await;
    assert!(goes_on(&mut stream).await);
}

#[tokio::test]
async fn shutdown_ends_streams_before_anybody_loses_patience() {
    let mut server = running(Bounds { connections: 16, streams: 8, ..FEW }).await;
    let mut quiet = placed(&server).await;
    // What lies there unread must not keep it from noticing.
    let mut eager = ask(&server, "/one", "GET / HTTP/1.1\r\n").await;
    assert!(hears(&mut eager, "word").await);
    let unread = ask(&server, "/flood", "").await;
    sleep(SOON).await;
    server.stop.take().unwrap().send(()).unwrap();
    (&mut server.task).await.unwrap().unwrap();
    assert!(!hears(&mut quiet, "more").await && !hears(&mut eager, "more").await);
    drop(unread);
}

#[tokio::test]
async fn streams_end_when_others_are_let_in_than_before() {
    let folder = tempfile::tempdir().unwrap();
    let token = |word: &str| super::super::access::tests::with_token(folder.path(), word);
    let server = Running::start(token("one-0123456789abcdef"), FEW, endless_router()).await;
    let mut old = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /one HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer one-0123456789abcdef\r\n\r\n";
    old.write_all(request.as_bytes()).await.unwrap();
    assert!(hears(&mut old, "word").await);
    server.monitor.set_access(token("one-0123456789abcdef"));
    assert!(goes_on(&mut old).await, "nothing was changed");
    server.monitor.set_access(token("two-0123456789abcdef"));
    assert!(!hears(&mut old, "more").await);
    assert!(server.raw(request).await.starts_with("HTTP/1.1 401 "));
}
