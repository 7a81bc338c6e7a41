//! The webhook against servers that behave, and that do not.

use std::collections::{HashMap, VecDeque};
use std::future::{pending, ready};
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::monitor::fact::Fact;

const SECRET: &str = "a secret of both sides";
const OK: Reply = Reply::Say("200 OK", "");

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Reply {
    /// A status, with headers.
    Say(&'static str, &'static str),
    /// A status, and words without end.
    Endless(&'static str),
    /// Nothing.
    Silence,
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn ids(&self) -> Vec<u64> {
        self.json()["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect()
    }

    fn delivery(&self) -> &str {
        &self.headers["x-nfs-verity-delivery"]
    }
}

/// Gives `replies` in turn, and takes all that comes after them.
struct Server {
    url: String,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl Server {
    async fn start(replies: &[Reply]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), replies)
    }

    fn on(listener: TcpListener, replies: &[Reply]) -> Self {
        let url = format!("http://{}/hook?token=xyz", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let mut replies: VecDeque<_> = replies.iter().copied().collect();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let reply = replies.pop_front().unwrap_or(OK);
                tokio::spawn(answer(stream, reply, sender.clone()));
            }
        });
        Self { url, requests }
    }

    async fn next(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }
}

async fn answer(mut stream: TcpStream, reply: Reply, requests: mpsc::UnboundedSender<Request>) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        bytes.drain(..end + 4);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        break (head.clone(), length.unwrap().parse::<usize>().unwrap());
    };
    while bytes.len() < length {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    // Nobody listens when the test is over.
    let _ = requests.send(Request { path: head.lines().next().unwrap().to_owned(), headers, body: bytes });
    match reply {
        Reply::Say(status, headers) => {
            let answer = format!(
                "HTTP/1.1 {status}\r\n{headers}content-length: 6\r\nconnection: close\r\n\r\na\nword"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Reply::Endless(status) => {
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        }
        Reply::Silence => pending().await,
    }
}

/// Short ones, so that a test ends.
fn bounds() -> Bounds {
    Bounds {
        attempt: Duration::from_secs(60),
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
        asked: Duration::from_millis(4),
        grace: Duration::from_secs(60),
    }
}

struct Scene {
    feed: Arc<Feed>,
    deliveries: Deliveries,
    options: WebhookOptions,
}

impl Scene {
    fn new(url: &str) -> Self {
        let options = WebhookOptions {
            url: url.to_owned(),
            secret: SECRET.as_bytes().to_vec().into(),
            events: None,
            namespace: "releases".into(),
        };
        let deliveries = Deliveries::new(&mut Registry::default());
        Self { feed: Arc::default(), deliveries, options }
    }

    /// Failures.
    fn fail(&self, count: u64) {
        for n in 0..count {
            self.push(Fact::Relaxed { setting: format!("{n}\n") });
        }
    }

    fn push(&self, fact: Fact) {
        self.feed.push(Timestamp::UNIX_EPOCH, &fact);
    }

    fn hook(&self, bounds: Bounds) -> Webhook {
        let (feed, deliveries) = (self.feed.clone(), self.deliveries.clone());
        Webhook::with_bounds(self.options.clone(), feed, deliveries, bounds).unwrap()
    }

    fn run(&self) -> JoinHandle<()> {
        tokio::spawn(self.hook(bounds()).run(pending()))
    }

    /// Deliveries that are ok, failed and dropped.
    fn counts(&self) -> [u64; 3] {
        let Deliveries { ok, failed, dropped } = &self.deliveries;
        [ok, failed, dropped].map(Counter::get)
    }

    async fn until(&self, holds: impl Fn([u64; 3]) -> bool) {
        while !holds(self.counts()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// HMAC-SHA-256 of `text` as OpenSSL has it.
fn openssl(text: &[u8]) -> String {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-hmac", SECRET, "-r"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_delivery_says_what_happened_and_is_signed() {
    let mut server = Server::start(&[]).await;
    let scene = Scene::new(&server.url);
    scene.fail(2);
    scene.run();
    let request = server.next().await;
    assert_eq!(request.path, "POST /hook?token=xyz HTTP/1.1");
    let time = &request.headers["x-nfs-verity-timestamp"];
    let age = Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    assert!((0..600).contains(&age), "{age}");
    let signed = [time.as_bytes(), b".", &request.body].concat();
    assert_eq!(request.headers["x-nfs-verity-signature"], format!("sha256={}", openssl(&signed)));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["user-agent"], USER_AGENT);
    assert_eq!(request.delivery().len(), 32);
    let body = request.json();
    assert_eq!((&body["namespace"], &body["missed"]), (&"releases".into(), &0.into()));
    assert!(!body["gateway"].as_str().unwrap().is_empty());
    assert_eq!(body["events"][1]["event"], "relaxed");
    assert_eq!(body["events"][1]["setting"], "1\n");
    scene.until(|counts| counts == [1, 0, 0]).await;
    scene.fail(1);
    let second = server.next().await;
    assert_eq!(second.ids(), [3]);
    assert_ne!(second.delivery(), request.delivery());
}

#[tokio::test]
async fn what_is_no_failure_is_sent_only_where_it_was_asked_for() {
    let mut server = Server::start(&[]).await;
    let mut scene = Scene::new(&server.url);
    for events in [None, Some(vec!["stopped", "store-up"])] {
        scene.options.events = events;
        scene.feed = Arc::default();
        scene.push(Fact::Stopped);
        scene.push(Fact::StoreDown { store: "s".into(), error: "e".into() });
        scene.push(Fact::StoreUp { store: "s".into() });
        let policy = |error| Fact::PolicyLoaded { detail: "d".into(), error, record: "r".into() };
        scene.push(policy(None));
        scene.push(policy(Some("no".into())));
        scene.hook(bounds()).run(ready(())).await;
    }
    assert_eq!(server.next().await.ids(), [2, 5]);
    assert_eq!(server.next().await.ids(), [1, 3]);
    assert_eq!(scene.counts(), [2, 0, 0]);
}

#[tokio::test]
async fn what_fails_is_sent_again_under_the_same_number() {
    let replies = ["503 Away", "500 Oops", "408 Late", "425 Early", "429 Slow down"];
    let replies = replies.map(|status| Reply::Say(status, "retry-after: 1\r\n"));
    let mut server = Server::start(&replies).await;
    let scene = Scene::new(&server.url);
    scene.fail(1);
    scene.run();
    let first = server.next().await;
    for _ in 0..5 {
        // What comes meanwhile waits its turn.
        scene.fail(1);
        let again = server.next().await;
        assert_eq!((again.delivery(), &again.body), (first.delivery(), &first.body));
    }
    let rest = server.next().await;
    assert_eq!(rest.ids(), [2, 3, 4, 5, 6]);
    assert_ne!(rest.delivery(), first.delivery());
    scene.until(|counts| counts == [2, 5, 0]).await;
}

#[tokio::test]
async fn what_is_refused_is_dropped_and_the_next_one_sent() {
    let replies =
        ["400 Bad", "401 Who", "404 Where", "410 Gone", "304 Same"].map(|status| Reply::Say(status, ""));
    let mut server = Server::start(&replies).await;
    let scene = Scene::new(&server.url);
    let hook = scene.run();
    for id in 1..=6 {
        scene.fail(1);
        assert_eq!(server.next().await.ids(), [id]);
    }
    scene.until(|counts| counts == [1, 0, 5]).await;
    assert!(!hook.is_finished());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    let replies = ["302 Found", "307 Temporary", "308 Permanent"];
    let replies = replies.map(|status| Reply::Say(status, location.clone().leak()));
    let server = Server::start(&replies).await;
    let scene = Scene::new(&server.url);
    for _ in replies {
        scene.fail(1);
        scene.hook(bounds()).run(ready(())).await;
    }
    assert_eq!(scene.counts()[2], 3);
    assert!(elsewhere.accept().is_err());
}

#[tokio::test]
async fn a_server_that_is_silent_is_left_and_asked_again() {
    let mut server = Server::start(&[Reply::Silence, Reply::Silence]).await;
    let scene = Scene::new(&server.url);
    scene.fail(1);
    let bounds = Bounds { attempt: Duration::from_millis(300), ..bounds() };
    tokio::spawn(scene.hook(bounds).run(pending()));
    let first = server.next().await;
    assert_eq!(server.next().await.delivery(), first.delivery());
    scene.until(|counts| counts[0] == 1).await;
    assert!(scene.counts()[1] >= 2);
}

#[tokio::test]
async fn words_without_end_are_left_unread() {
    let replies = [Reply::Endless("500 Oops"), Reply::Endless("200 OK"), Reply::Endless("400 Bad")];
    let server = Server::start(&replies).await;
    let scene = Scene::new(&server.url);
    scene.fail(1);
    let hook = scene.run();
    scene.until(|counts| counts == [1, 1, 0]).await;
    scene.fail(1);
    scene.until(|counts| counts == [1, 1, 1]).await;
    assert!(!hook.is_finished());
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_gets_all_of_it_later() {
    // Nobody else gets the port, and nobody listens there yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let scene = Scene::new(&format!("http://{}/", socket.local_addr().unwrap()));
    scene.fail(1);
    scene.run();
    scene.until(|counts| counts[1] > 2).await;
    scene.fail(2);
    let mut server = Server::on(socket.listen(5).unwrap(), &[]);
    assert_eq!(server.next().await.ids(), [1]);
    assert_eq!(server.next().await.ids(), [2, 3]);
    // It has failed many times, and told nobody but the log.
    assert_eq!(scene.feed.last(), 3);
}

#[tokio::test]
async fn many_events_go_in_batches_and_in_order() {
    let mut server = Server::start(&[]).await;
    let scene = Scene::new(&server.url);
    scene.fail(120);
    scene.run();
    for ids in [1..=50, 51..=100, 101..=120] {
        assert_eq!(server.next().await.ids(), ids.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_the_feed_lost_is_told_once() {
    let mut server = Server::start(&[Reply::Say("500 Oops", "")]).await;
    let scene = Scene::new(&server.url);
    scene.fail(3000);
    let mut hook = scene.hook(bounds());
    let batch = hook.next().unwrap();
    assert!(hook.attempt(&batch).await.is_some());
    assert_eq!(server.next().await.json()["missed"], 952);
    // The next ones are gone before their turn.
    scene.fail(3000);
    tokio::spawn(hook.run(pending()));
    let again = server.next().await.json();
    assert_eq!((&again["missed"], &again["events"][0]["id"]), (&952.into(), &953.into()));
    let next = server.next().await.json();
    assert_eq!((&next["missed"], &next["events"][0]["id"]), (&2950.into(), &3953.into()));
    assert_eq!(server.next().await.json()["missed"], 0);
}

#[tokio::test]
async fn loss_is_told_even_where_nothing_else_is() {
    let mut server = Server::start(&[]).await;
    let scene = Scene::new(&server.url);
    (0..2050).for_each(|_| scene.push(Fact::Stopped));
    scene.hook(bounds()).run(ready(())).await;
    let body = server.next().await.json();
    assert_eq!((&body["missed"], &body["events"]), (&2.into(), &Value::Array(Vec::new())));
    assert_eq!(scene.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn what_waits_has_one_last_attempt_at_the_end() {
    let mut server = Server::start(&[Reply::Say("500 Oops", "retry-after: 3600\r\n")]).await;
    let scene = Scene::new(&server.url);
    scene.fail(60);
    let (end, ending) = oneshot::channel::<()>();
    let forever = Duration::from_secs(1_000_000);
    let bounds = Bounds { first: forever, longest: forever * 2, asked: forever, ..bounds() };
    let hook = tokio::spawn(scene.hook(bounds).run(async {
        let _ = ending.await;
    }));
    let first = server.next().await;
    scene.until(|counts| counts[1] == 1).await;
    end.send(()).unwrap();
    hook.await.unwrap();
    let last = server.next().await;
    assert_eq!((last.delivery(), last.ids().len()), (first.delivery(), 50));
    assert_eq!(server.next().await.ids(), (51..=60).collect::<Vec<_>>());
    assert_eq!(scene.counts(), [2, 1, 0]);
}

#[tokio::test]
async fn an_end_waits_for_nobody_longer_than_a_moment() {
    let server = Server::start(&[Reply::Silence; 2]).await;
    let scene = Scene::new(&server.url);
    scene.fail(1);
    let bounds = Bounds { grace: Duration::from_millis(50), ..bounds() };
    scene.hook(bounds).run(ready(())).await;
    assert_eq!(scene.counts(), [0, 0, 0]);
    // A failure then is the last one.
    let server = Server::start(&[Reply::Say("500 Oops", "")]).await;
    let scene = Scene::new(&server.url);
    scene.fail(100);
    scene.hook(self::bounds()).run(ready(())).await;
    assert_eq!(scene.counts(), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_while_nothing_happens() {
    let scene = Scene::new("http://127.0.0.1:1/");
    let hook = scene.run();
    scene.push(Fact::Stopped);
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    assert_eq!(scene.counts(), [0, 0, 0]);
    assert!(!hook.is_finished());
}

/// Keeps what is said.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn trouble_is_said_once_on_one_line_and_without_the_address() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut replies = [Reply::Say("503 Away", ""); 7];
    replies[5] = OK;
    replies[6] = Reply::Say("403 No", "");
    let server = Server::start(&replies).await;
    let scene = Scene::new(&server.url);
    scene.fail(1);
    let hook = scene.run();
    scene.until(|counts| counts == [1, 5, 0]).await;
    scene.fail(1);
    scene.until(|counts| counts == [1, 5, 1]).await;
    hook.abort();
    let _ = hook.await;
    let away = Scene::new("http://127.0.0.1:1/hook?token=xyz");
    away.fail(1);
    away.hook(bounds()).run(ready(())).await;
    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("webhook")).collect();
    let wanted =
        ["503 Service Unavailable: a\\x0aword", "takes events again", "403", "127.0.0.1:1", "left=1"];
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(wanted), "{wanted} in {line}");
    }
    assert!(!text.contains("xyz") && !text.contains("hook?"), "{text}");
}
