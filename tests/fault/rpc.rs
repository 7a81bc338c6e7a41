//! Hostile and unlucky peers against the RPC server, over real sockets, with a small program of
//! its own behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nfs_verity::event::{Event, Sink};
use nfs_verity::proto::rpc::{BoxFuture, CallContext, Limits, Outcome, Program, Server};
use nfs_verity::sys::descriptors;
use nfs_verity::wire::{Reader, Writer};
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

const PROGRAM: u32 = 0x2000_0001;
const VERSION: u32 = 4;
const NULL: u32 = 0;
const ECHO: u32 = 1;
/// Answers as many bytes as its argument says.
const BIG: u32 = 2;
/// Ends when the gate opens.
const HELD: u32 = 3;
const COUNT: u32 = 4;
const COUNT_HELD: u32 = 5;
const PANIC: u32 = 6;
const PANIC_LATER: u32 = 7;
/// Asks for more memory than there is.
const GREEDY: u32 = 8;

struct Subject {
    version: u32,
    executed: AtomicU32,
    gate: Semaphore,
}

impl Program for Subject {
    fn number(&self) -> u32 {
        PROGRAM
    }
    fn version(&self) -> u32 {
        self.version
    }
    fn name(&self) -> &'static str {
        "subject"
    }
    fn procedure_name(&self, procedure: u32) -> &'static str {
        match procedure {
            NULL => "NULL",
            ECHO => "ECHO",
            BIG => "BIG",
            HELD | COUNT_HELD => "HELD",
            COUNT => "COUNT",
            PANIC | PANIC_LATER => "PANIC",
            GREEDY => "GREEDY",
            _ => "UNKNOWN",
        }
    }
    fn reply_bound(&self, procedure: u32, arguments: &[u8]) -> usize {
        match procedure {
            ECHO => arguments.len(),
            BIG => 8 + Reader::new(arguments).u32().unwrap_or(0).min(1 << 20) as usize,
            GREEDY => usize::MAX,
            _ => 64,
        }
    }
    fn remembered(&self, procedure: u32) -> bool {
        matches!(procedure, COUNT | COUNT_HELD)
    }
    fn call(
        self: Arc<Self>,
        _: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let executed = self.executed.fetch_add(1, Ordering::SeqCst) + 1;
            let mut results = Writer::default();
            match procedure {
                NULL | GREEDY => {}
                ECHO => {
                    results.fixed(&arguments);
                }
                BIG => {
                    let Ok(length) = Reader::new(&arguments).u32() else {
                        return Outcome::GarbageArguments;
                    };
                    let payload = Bytes::from(vec![7; length.min(1 << 20) as usize]);
                    results.payload([payload], length.min(1 << 20));
                }
                HELD | COUNT_HELD => {
                    self.gate.acquire().await.unwrap().forget();
                    results.u32(executed);
                }
                COUNT => {
                    results.u32(executed);
                }
                PANIC => panic!("as asked"),
                PANIC_LATER => {
                    tokio::task::yield_now().await;
                    panic!("as asked");
                }
                _ => return Outcome::ProcedureUnavailable,
            }
            Outcome::Done { results, ok: true }
        })
    }
}

#[derive(Default)]
struct Log {
    ends: Mutex<Vec<&'static str>>,
    calls: Mutex<Vec<(&'static str, &'static str, bool)>>,
}

impl Sink for Log {
    fn emit(&self, event: &Event<'_>) {
        match *event {
            Event::Disconnected { reason, .. } => self.ends.lock().push(reason),
            Event::Call { program, procedure, ok, .. } => {
                self.calls.lock().push((program, procedure, ok));
            }
            _ => {}
        }
    }
}

struct Running {
    address: SocketAddr,
    subject: Arc<Subject>,
    log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(limits: Limits) -> Self {
        let new =
            |version| Arc::new(Subject { version, executed: AtomicU32::new(0), gate: Semaphore::new(0) });
        let (subject, log) = (new(VERSION), Arc::new(Log::default()));
        let programs: Vec<Arc<dyn Program>> = vec![subject.clone(), new(2)];
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any, programs, limits, log.clone()).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { address, subject, log, stop: Some(stop), task }
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Connects from a port that may be asked for again, 0 for a free one. It is on a loopback
    /// address of its own, where no other socket's TIME_WAIT keeps it.
    async fn connect_from(&self, port: u16) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], port))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    fn executed(&self) -> u32 {
        self.subject.executed.load(Ordering::SeqCst)
    }

    async fn executed_reaches(&self, wanted: u32) {
        until(|| self.executed() >= wanted).await;
    }

    async fn ended_with(&self, reason: &'static str) {
        until(|| self.log.ends.lock().contains(&reason)).await;
    }

    async fn is_well(&self) {
        let mut stream = self.connect().await;
        assert_eq!(exchange(&mut stream, 99, ECHO, b"well").await, results(99, b"well"));
    }
}

fn length(body: &[u8]) -> u32 {
    body.len().try_into().unwrap()
}

fn record(body: &[u8]) -> Vec<u8> {
    [&(0x8000_0000 | length(body)).to_be_bytes()[..], body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn call(xid: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    record(&[&words(&[xid, 0, 2, PROGRAM, VERSION, procedure, 0, 0, 0, 0])[..], arguments].concat())
}

/// The reply that carries `bytes` as its results.
fn results(xid: u32, bytes: &[u8]) -> Vec<u8> {
    [&words(&[xid, 1, 0, 0, 0, 0])[..], bytes].concat()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("hangs")
}

async fn until(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn reply(stream: &mut TcpStream) -> Vec<u8> {
    within(async {
        let mark = stream.read_u32().await.unwrap();
        assert!(mark >> 31 == 1, "one fragment a reply");
        let mut body = vec![0; (mark & 0x7fff_ffff) as usize];
        stream.read_exact(&mut body).await.unwrap();
        body
    })
    .await
}

async fn exchange(stream: &mut TcpStream, xid: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    within(stream.write_all(&call(xid, procedure, arguments))).await.unwrap();
    reply(stream).await
}

/// Waits for the server to end the connection, by a close or a reset.
async fn is_cut(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "cut without an answer");
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_answered_as_the_rfc_says() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let none = [0, 0, 0, 0];
    type Case<'a> = (&'a str, [u32; 6], &'a [u32], &'a [u32]);
    let cases: [Case<'_>; 17] = [
        ("program", [1, 0, 2, 100_003, 3, 0], &none, &[1, 1, 0, 0, 0, 1]),
        ("version below", [2, 0, 2, PROGRAM, 1, 0], &none, &[2, 1, 0, 0, 0, 2, 2, 4]),
        ("version between", [3, 0, 2, PROGRAM, 3, 0], &none, &[3, 1, 0, 0, 0, 2, 2, 4]),
        ("procedure", [4, 0, 2, PROGRAM, 4, 77], &none, &[4, 1, 0, 0, 0, 3]),
        ("arguments", [5, 0, 2, PROGRAM, 4, BIG], &none, &[5, 1, 0, 0, 0, 4]),
        ("panic", [6, 0, 2, PROGRAM, 4, PANIC], &none, &[6, 1, 0, 0, 0, 5]),
        ("panic later", [7, 0, 2, PROGRAM, 4, PANIC_LATER], &none, &[7, 1, 0, 0, 0, 5]),
        ("RPC version", [8, 0, 3, PROGRAM, 4, 0], &none, &[8, 1, 1, 0, 2, 2]),
        ("RPC version alone", [9, 0, 1, 0, 0, 0], &[], &[9, 1, 1, 0, 2, 2]),
        ("credential cut", [10, 0, 2, PROGRAM, 4, 0], &[1, 20, 0], &[10, 1, 1, 1, 1]),
        ("17 groups", [11, 0, 2, PROGRAM, 4, 0], &[1, 20, 0, 0, 0, 0, 17, 0, 0], &[11, 1, 1, 1, 1]),
        (
            "groups as claimed",
            [12, 0, 2, PROGRAM, 4, 0],
            &[1, 20, 0, 0, 0, 0, u32::MAX, 0, 0],
            &[12, 1, 1, 1, 1],
        ),
        ("flavour", [13, 0, 2, PROGRAM, 4, 0], &[6, 0, 0, 0], &[13, 1, 1, 1, 2]),
        ("TLS", [14, 0, 2, PROGRAM, 4, 0], &[7, 0, 0, 0], &[14, 1, 1, 1, 2]),
        ("verifier", [15, 0, 2, PROGRAM, 4, 0], &[0, 0, 0, 404], &[15, 1, 1, 1, 3]),
        ("none", [16, 0, 2, PROGRAM, 4, NULL], &none, &[16, 1, 0, 0, 0, 0]),
        ("AUTH_SYS", [17, 0, 2, PROGRAM, 4, NULL], &[1, 20, 5, 0, 0, 0, 0, 0, 0], &[17, 1, 0, 0, 0, 0]),
    ];
    for (what, header, auth, wanted) in cases {
        let message = record(&[words(&header), words(auth)].concat());
        stream.write_all(&message).await.unwrap();
        assert_eq!(reply(&mut stream).await, words(wanted), "{what}");
    }
    let calls = server.log.calls.lock();
    assert_eq!(calls.len(), 17);
    assert!(calls.contains(&("subject", "PANIC", false)) && calls.contains(&("subject", "NULL", true)));
    assert!(calls.contains(&("unknown", "UNKNOWN", false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_come_as_they_are_ready() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(&[call(1, HELD, b""), call(2, ECHO, b"fast")].concat()).await.unwrap();
    assert_eq!(reply(&mut stream).await, results(2, b"fast"));
    server.subject.gate.add_permits(1);
    assert_eq!(reply(&mut stream).await, results(1, &[0, 0, 0, 1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_of_all_sizes_is_answered_whole() {
    let server = Running::start(Limits::default()).await;
    let (mut from, mut to) = server.connect().await.into_split();
    let sizes = [0, 1, 3, 100, 511, 512, 4096, 65_000, 70_000, 1 << 20];
    let sender = tokio::spawn(async move {
        for xid in 0..1000 {
            let arguments = words(&[sizes[xid as usize % sizes.len()]]);
            to.write_all(&call(xid, BIG, &arguments)).await.unwrap();
        }
        to
    });
    let mut seen = [false; 1000];
    for _ in 0..1000 {
        let mark = within(from.read_u32()).await.unwrap() & 0x7fff_ffff;
        let mut body = vec![0; mark as usize];
        within(from.read_exact(&mut body)).await.unwrap();
        let xid = u32::from_be_bytes(body[..4].try_into().unwrap());
        let size = sizes[xid as usize % sizes.len()];
        let mut wanted = Writer::default();
        wanted.opaque(&vec![7; size as usize]);
        assert!(body == results(xid, &wanted.finish().concat()), "{xid}");
        assert!(!std::mem::replace(&mut seen[xid as usize], true), "{xid} twice");
    }
    drop(sender.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_call_is_executed_once_also_after_a_reconnect() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect_from(0).await;
    let port = stream.local_addr().unwrap().port();
    let first = exchange(&mut stream, 5, COUNT, b"").await;
    assert_eq!(first, results(5, &[0, 0, 0, 1]));
    assert_eq!(exchange(&mut stream, 5, COUNT, b"").await, first);
    reset(stream);
    let mut again = server.connect_from(port).await;
    assert_eq!(exchange(&mut again, 5, COUNT, b"").await, first);
    assert_eq!(server.executed(), 1);
    assert_eq!(exchange(&mut again, 6, COUNT, b"").await, results(6, &[0, 0, 0, 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_repeated_while_it_runs_is_executed_once() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect_from(0).await;
    let port = stream.local_addr().unwrap().port();
    stream.write_all(&call(5, COUNT_HELD, b"").repeat(2)).await.unwrap();
    assert_eq!(exchange(&mut stream, 6, NULL, b"").await, results(6, b""));
    reset(stream);
    let mut again = server.connect_from(port).await;
    again.write_all(&call(5, COUNT_HELD, b"")).await.unwrap();
    assert_eq!(exchange(&mut again, 7, NULL, b"").await, results(7, b""));
    server.subject.gate.add_permits(10);
    assert_eq!(reply(&mut again).await, results(5, &[0, 0, 0, 1]));
    assert_eq!(exchange(&mut again, 8, COUNT, b"").await, results(8, &[0, 0, 0, 4]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_rpc_is_cut() {
    let server = Running::start(Limits::default()).await;
    let fragment = |body: &[u8]| [&length(body).to_be_bytes()[..], body].concat();
    for bytes in [
        vec![0xff; 4],
        vec![0x7f, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        record(b""),
        record(&[1, 2, 3]),
        record(&words(&[1, 1, 0, 0, 0, 0])),
        record(&words(&[1, 0, 2, PROGRAM])),
        fragment(b"").repeat(65),
        fragment(b"x").repeat(65),
        (0x8000_0000u32 | ((128 << 10) + 1025)).to_be_bytes().to_vec(),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(&bytes).await.unwrap();
        is_cut(&mut stream).await;
    }
    server.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_one_byte_fragments_is_answered() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let mut bytes = Vec::new();
    for byte in &call(3, ECHO, b"abcdefgh")[4..] {
        bytes.extend([0, 0, 0, 1, *byte]);
    }
    bytes.extend([0x80, 0, 0, 0]);
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(reply(&mut stream).await, results(3, b"abcdefgh"));
    let long = vec![9; 128 << 10];
    assert_eq!(exchange(&mut stream, 4, ECHO, &long).await, results(4, &long));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_right_after_connect_leave_it_well() {
    let server = Running::start(Limits::default()).await;
    for _ in 0..500 {
        reset(server.connect().await);
        server.connect().await.write_all(&[0x80]).await.unwrap();
    }
    server.is_well().await;
    until(|| server.log.ends.lock().len() >= 1001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_open_connections_leave_others_served() {
    assert!(descriptors::raise_limit() >= 4500, "the test needs descriptors");
    let server = Running::start(Limits::default()).await;
    let before = resident();
    let mut open = Vec::new();
    for n in 0..2000 {
        let mut stream = server.connect().await;
        if n % 2 == 0 {
            stream.write_all(&call(1, ECHO, b"half a call")[..20]).await.unwrap();
        }
        open.push(stream);
    }
    server.is_well().await;
    for stream in open.iter_mut().skip(1).step_by(400) {
        assert_eq!(exchange(stream, 1, ECHO, b"still").await.len(), 24 + 8);
    }
    assert!(resident() - before < 100 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sender_blocks_nobody_and_is_cut_off() {
    let limits = Limits { record_time: Duration::from_millis(300), ..Limits::default() };
    let server = Running::start(limits).await;
    let mut slow = server.connect().await;
    let mut other = server.connect().await;
    let message = call(1, ECHO, &[0; 60_000]);
    let dripping = async {
        for byte in message {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("was let finish");
    };
    let served = async {
        for xid in 0..100 {
            assert_eq!(exchange(&mut other, xid, ECHO, b"fast").await, results(xid, b"fast"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(async { tokio::join!(dripping, served) }).await;
    server.ended_with("record not completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_records_do_not_keep_others_from_sending_theirs() {
    let limits = Limits { record_bytes: 512 << 10, ..Limits::default() };
    let server = Running::start(limits).await;
    let mut attackers = Vec::new();
    for n in 0..20 {
        let mut stream = server.connect().await;
        let bytes = if n % 2 == 0 {
            call(1, ECHO, &[0; 120_000])
        } else {
            [&[0, 1, 0, 0][..], &[0; 0x1_0000], &[0x80, 1, 0, 0]].concat()
        };
        // The server may stop reading, so this may not return.
        attackers.push(tokio::spawn(async move {
            let _ = stream.write_all(&bytes[..60_000]).await;
            is_cut(&mut stream).await;
        }));
    }
    let mut honest = server.connect().await;
    for xid in 0..5u8 {
        let long = vec![xid; 100_000];
        let answer = exchange(&mut honest, xid.into(), ECHO, &long).await;
        assert_eq!(answer, results(xid.into(), &long));
    }
    server.ended_with("record too slow, memory short").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_read_no_replies_starve_nobody_and_memory_stays_bounded() {
    descriptors::raise_limit();
    let server = Running::start(Limits::default()).await;
    let mut deaf = Vec::new();
    for _ in 0..150 {
        let mut stream = server.connect().await;
        let calls: Vec<u8> = (0..64).flat_map(|xid| call(xid, BIG, &words(&[1 << 20]))).collect();
        stream.write_all(&calls).await.unwrap();
        deaf.push(stream);
    }
    let mut most = 0;
    let mut stream = server.connect().await;
    for xid in 0..50 {
        assert_eq!(exchange(&mut stream, xid, BIG, &words(&[1 << 20])).await.len(), 28 + (1 << 20));
        most = most.max(resident());
    }
    server.is_well().await;
    assert!(most < 256 << 20, "{} MiB", most >> 20);
    server.ended_with("replies not read, memory short").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_while_their_caller_reads_no_replies() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let calls: Vec<u8> = (0..1000).flat_map(|xid| call(xid, BIG, &words(&[256 << 10]))).collect();
    stream.write_all(&calls).await.unwrap();
    server.executed_reaches(30).await;
    let mut before = 0;
    while before != server.executed() {
        before = server.executed();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 300, "{before} were executed");
    for _ in 0..1000 {
        assert_eq!(reply(&mut stream).await.len(), 28 + (256 << 10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_takes_end_the_connection() {
    let limits = Limits { write_time: Duration::from_millis(200), ..Limits::default() };
    let server = Running::start(limits).await;
    let mut stream = server.connect().await;
    let calls: Vec<u8> = (0..64).flat_map(|xid| call(xid, BIG, &words(&[1 << 20]))).collect();
    stream.write_all(&calls).await.unwrap();
    server.ended_with("replies not read").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_are_limited_and_the_rest_waits() {
    let limits = Limits { calls_per_connection: 4, ..Limits::default() };
    let server = Running::start(limits).await;
    let mut stream = server.connect().await;
    let calls: Vec<u8> = (0..20).flat_map(|xid| call(xid, HELD, b"")).collect();
    stream.write_all(&calls).await.unwrap();
    server.executed_reaches(4).await;
    server.is_well().await;
    assert_eq!(server.executed(), 5, "four and the other one's");
    server.subject.gate.add_permits(20);
    for _ in 0..20 {
        reply(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_claims_all_memory_is_answered_and_keeps_nobody_waiting() {
    let server = Running::start(Limits::default()).await;
    let mut running = server.connect().await;
    running.write_all(&call(1, HELD, b"")).await.unwrap();
    server.executed_reaches(1).await;
    // While anything runs, all of the budget can be granted to nobody.
    let mut greedy = server.connect().await;
    greedy.write_all(&call(2, GREEDY, b"")).await.unwrap();
    let mut other = server.connect().await;
    for xid in 3..20 {
        let answer = exchange(&mut other, xid, BIG, &words(&[1 << 20])).await;
        assert_eq!(answer.len(), 24 + 4 + (1 << 20));
    }
    assert_eq!(reply(&mut greedy).await, results(2, b""));
    server.subject.gate.add_permits(1);
    reply(&mut running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_gets_its_replies() {
    let server = Running::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let mut calls: Vec<u8> = (0..40).flat_map(|xid| call(xid, BIG, &words(&[1 << 20]))).collect();
    calls.extend(call(40, HELD, b""));
    stream.write_all(&calls).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut xids = Vec::new();
    for _ in 0..40 {
        xids.push(reply(&mut stream).await[3]);
    }
    server.subject.gate.add_permits(1);
    xids.push(reply(&mut stream).await[3]);
    xids.sort_unstable();
    assert_eq!(xids, (0..41).collect::<Vec<u8>>());
    is_cut(&mut stream).await;
    server.ended_with("closed by peer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_caller_does_not_keep_its_calls_running() {
    let server = Running::start(Limits { reply_bytes: 100_000, ..Limits::default() }).await;
    for _ in 0..5 {
        let before = server.executed();
        let mut stream = server.connect().await;
        let calls: Vec<u8> = (0..100).flat_map(|xid| call(xid, HELD, b"")).collect();
        stream.write_all(&calls).await.unwrap();
        server.executed_reaches(before + 10).await;
        reset(stream);
    }
    server.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let server = Running::start(limits).await;
    let mut stream = server.connect().await;
    is_cut(&mut stream).await;
    server.ended_with("idle").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_the_longest_idle_connection_gives_way() {
    let server = Running::start(Limits { max_connections: 3, ..Limits::default() }).await;
    let mut open = Vec::new();
    for xid in 0..3 {
        let mut stream = server.connect().await;
        exchange(&mut stream, xid, NULL, b"").await;
        open.push(stream);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    exchange(&mut open[0], 3, NULL, b"").await;
    server.is_well().await;
    is_cut(&mut open[1]).await;
    for at in [0, 2] {
        assert_eq!(exchange(&mut open[at], 4, ECHO, b"here").await, results(4, b"here"));
    }
    server.ended_with("too many connections").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn used_up_descriptors_are_survived() {
    let server = Running::start(Limits::default()).await;
    let mut first = server.connect().await;
    exchange(&mut first, 1, NULL, b"").await;
    // Lowered only now, so that accepting runs into it before the server's own limit does.
    let before = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(100), maximum: before.maximum };
    setrlimit(Resource::Nofile, lowered).unwrap();
    let mut open = Vec::new();
    for xid in 0..300 {
        if let Ok(stream) = TcpStream::connect(server.address).await {
            open.push(stream);
        }
        assert_eq!(exchange(&mut first, xid, ECHO, b"here").await, results(xid, b"here"));
    }
    server.ended_with("out of descriptors").await;
    assert_eq!(exchange(&mut first, 3, ECHO, b"here").await, results(3, b"here"));
    drop(open);
    server.is_well().await;
    setrlimit(Resource::Nofile, before).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_running_calls_be_answered() {
    let mut server = Running::start(Limits::default()).await;
    let mut idle = server.connect().await;
    let mut stream = server.connect().await;
    stream.write_all(&call(1, HELD, b"")).await.unwrap();
    server.executed_reaches(1).await;
    server.stop.take().unwrap().send(()).unwrap();
    is_cut(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "accepts no more");
    // What comes after the stop is not read, and does not spoil the answer.
    stream.write_all(&call(2, NULL, b"")).await.unwrap();
    server.subject.gate.add_permits(1);
    assert_eq!(reply(&mut stream).await, results(1, &[0, 0, 0, 1]));
    is_cut(&mut stream).await;
    drop(stream);
    within(server.task).await.unwrap();
    assert_eq!(*server.log.ends.lock(), ["server stopped"; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_ever() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let mut server = Running::start(limits).await;
    let mut stream = server.connect().await;
    stream.write_all(&call(1, HELD, b"")).await.unwrap();
    server.executed_reaches(1).await;
    server.stop.take().unwrap().send(()).unwrap();
    within(server.task).await.unwrap();
    is_cut(&mut stream).await;
}
