//! The commands against a monitor that answers what a test wants.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::response::{IntoResponse, Response};
use clap::Parser;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::client::{AskError, Client, PlaceArgs};
use super::events::for_people;
use crate::cli::{Cli, Outcome, Trouble};

type Answer = dyn Fn(usize, &str) -> Response + Send + Sync;
/// An answer, and what is told of it.
type Case = (fn() -> Response, &'static str);

/// A server that asks `answer`, with the number of the request and its path and query, for each answer.
struct Monitor {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let asked = request.uri().to_string();
    let token = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let number = {
        let mut all = shared.asked.lock();
        all.push(asked.clone());
        shared.tokens.lock().push(token);
        all.len() - 1
    };
    (shared.answer)(number, &asked)
}

impl Monitor {
    fn new(answer: impl Fn(usize, &str) -> Response + Send + Sync + 'static) -> Self {
        let (asked, tokens) = (Arc::default(), Arc::default());
        let shared = Shared { answer: Arc::new(answer), asked, tokens };
        let router = axum::Router::new().fallback(handle).with_state(shared.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { address, asked: shared.asked, tokens: shared.tokens }
    }

    /// Runs a command against it.
    fn run(&self, words: &[&str], out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
        let address = self.address.to_string();
        let words = [&["nfs-verity"], words, &["--monitor", &address]].concat();
        Cli::try_parse_from(words).unwrap().run(out)
    }

    /// What a command says that must end with `outcome`.
    fn says(&self, words: &[&str], outcome: Outcome) -> String {
        let mut out = Vec::new();
        assert_eq!(self.run(words, &mut out).unwrap(), outcome, "{words:?}");
        String::from_utf8(out).unwrap()
    }

    /// Why a command cannot do its work.
    fn fails(&self, words: &[&str]) -> String {
        self.run(words, &mut Vec::new()).unwrap_err().to_string()
    }
}

fn json(value: &Value) -> Response {
    value.to_string().into_response()
}

/// A gateway that is well but for what is in `more`.
fn status(more: &Value) -> Value {
    let mut status = json!({
        "version": "0.1.0", "phase": "serving", "health": "good", "reasons": [],
        "started": "2026-11-29T10:00:00.5Z", "now": "2026-11-29T11:00:00Z",
        "nfs": "0.0.0.0:2049", "monitor": "127.0.0.1:9649", "namespace": "", "mode": "enforce",
        "accept": "native", "carriers": "sidecar", "trust": "/etc/nfs-verity/trust",
        "audit_log": null, "measure": null, "policy": null, "relaxed": [], "revoked": 0,
        "keys": [{ "id": "ab", "name": "release", "kind": "key", "formats": "native", "paths": [],
                   "not_before": null, "not_after": null, "state": "trusted", "revoked_by": null }],
        "stores": [{ "name": "local /srv/data", "role": "store", "up": true }],
        "repairs": false, "scrub": { "every_seconds": null, "running": false, "last": null },
        "totals": { "reads": 12, "read_bytes": 5_u64 << 30, "verified_blocks": 7, "refused": 0, "served_unproven": 0,
                    "cache_hits": 3, "cache_misses": 4, "calls": 99, "connections": 1, "open_files": 2,
                    "handles": 3, "audit_lines_dropped": 0 },
        "refused": {}, "failing": [], "last_event": 5
    });
    for (name, value) in more.as_object().unwrap() {
        status[name] = value.clone();
    }
    status
}

fn shown(status: &Value) -> String {
    let mut out = Vec::new();
    super::status::for_people(&mut out, status).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_gateway_that_is_well_is_told_in_few_lines() {
    let text = shown(&status(&json!({})));
    for line in [
        "health       good\n",
        "gateway      serving, version 0.1.0, since 2026-11-29T10:00:00Z\n",
        "store        local /srv/data\n",
        "trust        /etc/nfs-verity/trust (keys: 1, revoked: 0)\n",
        "audit log    none\n",
        "scrub        off\n",
        "reads        12, 5.00 GiB; 7 blocks proven\n",
        "failed       0\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    for word in ["RELAXED", "BAD", "failing", "release", "UNPROVEN", "namespace", "policy"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    // What is not told is not shown, and nothing depends on it.
    assert!(shown(&json!({})).starts_with("health"));
    assert!(
        shown(&json!({ "keys": 5, "stores": {}, "scrub": [], "totals": "", "relaxed": 1 }))
            .contains("health")
    );
}

#[test]
fn what_needs_a_look_stands_out() {
    let key = |state: &str| {
        json!({ "id": "cd", "name": format!("key that is {state}"), "kind": "key", "state": state,
                "not_before": "2027-01-01T00:00:00Z", "not_after": "2026-12-01T00:00:00Z",
                "revoked_by": "revoked/a.txt:3" })
    };
    let keys = ["trusted", "expiring", "expired", "not yet valid", "revoked"].map(key);
    let text = shown(&status(&json!({
        "health": "bad",
        "reasons": [{ "level": "bad", "text": "1 file fails", "remedy": "Restore it." }],
        "relaxed": ["mode = \"warn\""], "mode": "warn", "keys": keys, "revoked": 4,
        "stores": [{ "name": "local /a", "role": "store", "up": false },
                   { "name": "nfs://b/", "role": "replica", "up": true }],
        "policy": { "title": "releases 1.0.0", "permissive": true, "rules": 3 },
        "repairs": true,
        "scrub": { "every_seconds": 86400, "running": true, "last": {
            "ended": "2026-11-29T09:00:00Z", "result": "findings", "complete": true, "files": 10, "good": 8,
            "bytes": 2048, "findings": { "bad block": 2 }, "repaired": 1 } },
        "refused": { "bad block": 3 },
        "failing": [{ "path": "\u{fffd}", "path_hex": "ff", "cause": "bad block", "class": "corrupt",
            "detail": "", "block": 7, "level": null, "client": "192.0.2.7:700", "uid": 1, "served": true,
            "times": 3, "last": "2026-11-29T10:30:00Z", "remedy": "Restore the data." }],
    })));
    for line in [
        "RELAXED      enforcement is relaxed by mode = \"warn\"\n",
        "health       BAD\n  bad        1 file fails\n             Restore it.\n",
        "store        local /a, DOES NOT ANSWER\nreplica      nfs://b/\n",
        "trust        /etc/nfs-verity/trust (keys: 5, revoked: 4)\n",
        "  key        key that is expiring: expiring, last counts 2026-12-01T00:00:00Z\n",
        "  key        key that is expired: expired, last counts 2026-12-01T00:00:00Z\n",
        "  key        key that is not yet valid: not yet valid until 2027-01-01T00:00:00Z\n",
        "  key        key that is revoked: revoked by revoked/a.txt:3\n",
        "policy       releases 1.0.0, 3 rules, PERMISSIVE\n",
        "scrub        every 1d, running, repairs\n",
        "  last       2026-11-29T09:00:00Z: findings; 8 of 10 files good, 2.00 KiB\n",
        "  found      2 bad block; 1 repaired\n",
        "failed       0: 3 bad block\n",
        "failing      \\xff: bad block, block 7, SERVED all the same, 3 times, last 2026-11-29T10:30:00Z, by \
         192.0.2.7:700\n             Restore the data.\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(text.starts_with("RELAXED") && !text.contains("key that is trusted"), "{text}");
}

/// Every text and every name replaced by `word`, and lists made long.
fn hostile(value: &Value, word: &str) -> Value {
    match value {
        Value::String(_) | Value::Null => word.into(),
        Value::Array(values) => {
            let one = values.first().map_or_else(|| word.into(), |value| hostile(value, word));
            vec![one; 500].into()
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), hostile(value, word)));
            members.chain([(word.to_owned(), 1.into())]).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[test]
fn hostile_words_do_nothing_to_a_terminal() {
    let word = "x\u{1b}[2J\r\n\u{202e}y\u{9b}".repeat(1000);
    let failing = json!([{ "path": "", "cause": "", "detail": "", "client": "" }]);
    let bare = status(&json!({ "failing": failing, "relaxed": [""], "reasons": [{ "text": "" }] }));
    let text = shown(&hostile(&bare, &word));
    let is_plain = |c: char| c == '\n' || crate::store::is_plain(c);
    assert!(text.chars().all(is_plain), "{text:?}");
    assert!(text.len() < 2_000_000, "{}", text.len());
    let line = for_people(&hostile(&json!({ "event": "refused", "path": "", "cause": "", "x": {} }), &word));
    assert!(line.chars().all(crate::store::is_plain), "{line:?}");
    let bare = hostile(&bare, "x\u{1b}[2J\u{202e}");
    let monitor = Monitor::new(move |_, _| json(&bare));
    assert_eq!(monitor.run(&["status", "--json"], &mut Vec::new()).unwrap(), Outcome::Failed);
    assert!(monitor.says(&["status", "--json"], Outcome::Failed).chars().all(is_plain));
}

#[test]
fn the_exit_status_of_status_follows_health() {
    for (health, outcome) in [
        ("good", Outcome::Good),
        ("warning", Outcome::Good),
        ("bad", Outcome::Failed),
        ("odd", Outcome::Failed),
    ] {
        let answer = status(&json!({ "health": health }));
        let monitor = Monitor::new(move |_, _| json(&answer));
        assert!(monitor.says(&["status"], outcome).contains("local /srv/data"));
        let told: Value = serde_json::from_str(&monitor.says(&["status", "--json"], outcome)).unwrap();
        assert_eq!(told["health"], health);
        assert_eq!(monitor.asked.lock()[0], "/api/v1/status");
    }
}

#[test]
fn answers_that_are_none_are_told_with_what_to_do() {
    let elsewhere = || (StatusCode::FOUND, [(LOCATION, "/api/v1/status?again")]).into_response();
    let cases: [Case; 8] = [
        (
            || (StatusCode::UNAUTHORIZED, "no\u{1b} token").into_response(),
            "--token-file) or a certificate (--cert); it says: no  token",
        ),
        (|| StatusCode::NOT_FOUND.into_response(), "404 Not Found; this is no gateway's monitor"),
        (
            || (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response(),
            "503 Service Unavailable; it says: busy",
        ),
        (|| "<html>".into_response(), "is this a gateway's monitor?"),
        (|| "[]".into_response(), "no JSON object"),
        (|| "{}".into_response(), "tells no health"),
        (|| vec![b' '; (16 << 20) + 1].into_response(), "more than 16777216 bytes"),
        (
            || {
                Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("x".repeat(60_000))))
                    .into_response()
            },
            "more than",
        ),
    ];
    for (answer, words) in cases {
        let error = Monitor::new(move |_, _| answer()).fails(&["status"]);
        assert!(error.contains(words) && error.contains("http://127.0.0.1:"), "{words}: {error}");
    }
    let monitor = Monitor::new(move |_, _| elsewhere());
    assert!(monitor.fails(&["status"]).contains("302 Found"));
    assert_eq!(monitor.asked.lock().len(), 1, "the client does not go elsewhere");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cli = Cli::try_parse_from(["nfs-verity", "status", "--monitor", &nobody]).unwrap();
    let error = cli.run(&mut Vec::new()).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("is the gateway running"), "{error}");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    #[derive(Parser)]
    struct Place {
        #[command(flatten)]
        place: PlaceArgs,
    }
    let never = || Body::from_stream(stream::pending::<io::Result<String>>()).into_response();
    let monitor = Monitor::new(move |_, _| never());
    let place = Place::try_parse_from(["x", "--monitor", &monitor.address.to_string()]).unwrap().place;
    let client = Client::new(&place, None).unwrap();
    let runtime = crate::cli::pool::runtime(1).unwrap();
    let asked = runtime.block_on(client.get("readyz", &[], Duration::from_millis(200)));
    assert!(matches!(asked, Err(AskError::Late { .. })), "{asked:?}");
}

#[test]
fn the_token_is_shown_where_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (token, missing) = (dir.path().join("token"), dir.path().join("missing"));
    std::fs::write(&token, "sesame\n").unwrap();
    let monitor = Monitor::new(|_, _| json(&status(&json!({}))));
    monitor.says(&["status", "--token-file", token.to_str().unwrap()], Outcome::Good);
    monitor.says(&["status"], Outcome::Good);
    assert_eq!(*monitor.tokens.lock(), [Some("Bearer sesame".to_owned()), None]);
    let error = monitor.fails(&["status", "--token-file", missing.to_str().unwrap()]);
    assert!(error.contains("missing"), "{error}");
    assert_eq!(monitor.tokens.lock().len(), 2, "nothing is asked without it");
    std::fs::write(&token, "no certificate").unwrap();
    let error = monitor.fails(&["status", "--ca", token.to_str().unwrap()]);
    assert!(error.contains("token: ") && error.contains("PEM"), "{error}");
}

#[test]
fn health_is_ok_or_it_is_not() {
    let monitor = Monitor::new(|number, _| match number {
        0 => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not serving\n").into_response(),
    });
    assert_eq!(monitor.says(&["health"], Outcome::Good), "ok\n");
    assert_eq!(monitor.says(&["health"], Outcome::Failed), "");
    assert_eq!(*monitor.asked.lock(), ["/readyz", "/readyz"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Monitor { address: nobody, asked: Arc::default(), tokens: Arc::default() };
    assert_eq!(nobody.says(&["health"], Outcome::Failed), "");
}

fn event(id: u64) -> Value {
    json!({ "id": id, "time": "2026-11-29T10:00:00.123Z", "event": "relaxed", "setting": format!("number {id}") })
}

fn page(ids: impl IntoIterator<Item = u64>, last: u64) -> Response {
    let events: Vec<_> = ids.into_iter().map(event).collect();
    json(&json!({ "events": events, "last": last, "missed": 0 }))
}

#[test]
fn an_event_is_one_line_with_its_salient_facts() {
    let with = |members: Value| {
        let mut event = json!({ "id": 1, "time": "2026-11-29T10:00:00.123Z" });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        for_people(&event)
    };
    for (members, line) in [
        (
            json!({ "event": "refused", "path": "dir/file", "path_hex": null, "cause": "bad block", "class": "corrupt",
                    "detail": "", "block": 3, "level": 0, "expected": "aa", "found": "bb", "client": "192.0.2.7:700",
                    "uid": 1000, "gid": 1, "served": true, "remedy": "Restore it." }),
            "refused         dir/file: bad block, tree block 3 of level 0, client 192.0.2.7:700, SERVED all the \
             same, uid 1000",
        ),
        (json!({ "event": "relaxed", "setting": "mode = \"warn\"" }), "relaxed         mode = \"warn\""),
        (json!({ "event": "stopped" }), "stopped"),
        (
            json!({ "event": "repeated", "path": null, "cause": "unsigned", "count": 5 }),
            "repeated        (many files): unsigned, count 5",
        ),
        (
            json!({ "event": "store-down", "store": "nfs://a/", "error": "timed out" }),
            "store-down      nfs://a/: timed out",
        ),
        (
            json!({ "event": "scrub-ended", "result": "done", "complete": true, "files": 2, "findings": {} }),
            "scrub-ended     done, files 2",
        ),
        (
            json!({ "event": "healed", "path": "a", "store": "nfs://a/", "from": "local /b", "cause": "truncated" }),
            "healed          a: truncated, from \"local /b\", store nfs://a/",
        ),
        (json!({ "event": "of-tomorrow", "some_count": 4, "why": null }), "of-tomorrow     some count 4"),
    ] {
        assert_eq!(with(members), format!("2026-11-29T10:00:00Z  {line}"));
    }
    assert_eq!(for_people(&json!([])), "");
}

#[test]
fn all_that_is_remembered_is_told_page_by_page() {
    let monitor = Monitor::new(|number, _| match number {
        0 => page(1..=1000, 1000),
        _ => page(1001..=1002, 1002),
    });
    let text = monitor.says(&["events"], Outcome::Good);
    assert_eq!(text.lines().count(), 1002);
    assert!(text.ends_with("2026-11-29T10:00:00Z  relaxed         number 1002\n"));
    let lines = monitor.says(&["events", "--json"], Outcome::Good);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last, event(1002));
    assert_eq!(
        monitor.asked.lock()[..2],
        ["/api/v1/events?after=0&limit=1000", "/api/v1/events?after=1000&limit=1000"]
    );
}

#[test]
fn kinds_and_times_are_asked_for() {
    let monitor = Monitor::new(|_, _| page([], 0));
    monitor
        .says(&["events", "--kind", "refused,healed", "--since", "2026-11-29T12:00:00+02:00"], Outcome::Good);
    let asked = monitor.asked.lock()[0].clone();
    assert!(asked.contains("&since=2026-11-29T10%3A00%3A00Z&kind=refused%2Chealed&"), "{asked}");
    monitor.says(&["events", "--since", "10m"], Outcome::Good);
    assert!(monitor.asked.lock()[1].contains("&since=20"));
    for wrong in ["", "off", "yesterday", "10", "2026-11-29"] {
        assert!(Cli::try_parse_from(["nfs-verity", "events", "--since", wrong]).is_err(), "{wrong}");
    }
    let monitor = Monitor::new(|_, _| json(&json!({ "events": 5 })));
    assert!(monitor.fails(&["events"]).contains("no events in the answer"));
}

/// An output whose reader goes away behind so many lines.
struct Lines {
    text: String,
    left: usize,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.push_str(std::str::from_utf8(bytes).unwrap());
        self.left -= bytes.iter().filter(|byte| **byte == b'\n').count();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream of these pieces, which ends behind them or does not.
fn streamed(pieces: Vec<String>, ends: bool) -> Response {
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, io::Error>));
    match ends {
        true => Body::from_stream(pieces).into_response(),
        false => Body::from_stream(pieces.chain(stream::pending())).into_response(),
    }
}

fn message(id: u64) -> String {
    format!(": heartbeat\r\n\r\nid: {id}\r\nevent: relaxed\r\ndata: {}\r\n\r\n", event(id))
}

fn told(out: &Lines) -> Vec<u64> {
    out.text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn following_goes_on_behind_the_last_event_after_a_loss() {
    let monitor = Monitor::new(|number, asked| match asked.split('?').next().unwrap() {
        "/api/v1/events" if number == 2 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/api/v1/events" if number < 2 => page(1..=2, 2),
        "/api/v1/events" => page([5], 5),
        // Torn in the middle of an event, and then lost in one.
        _ if number < 2 => {
            let text = message(3) + &message(4);
            let (head, tail) = text.split_at(100);
            streamed(vec![head.to_owned(), format!("{tail}id: 9\ndata: {{")], true)
        }
        _ => streamed(vec![message(6), message(7)], false),
    });
    let mut out = Lines { text: String::new(), left: 6 };
    assert_eq!(monitor.run(&["events", "--follow"], &mut out).unwrap(), Outcome::Good);
    assert_eq!(told(&out), [1, 2, 3, 4, 5, 6]);
    let asked = monitor.asked.lock();
    let wanted = [
        "/api/v1/events?after=0&limit=1000",
        "/api/v1/events/stream?after=2",
        "/api/v1/events?after=4&limit=1000",
        "/api/v1/events?after=4&limit=1000",
        "/api/v1/events/stream?after=5",
    ];
    assert_eq!(*asked, wanted);
}

#[test]
fn numbers_that_are_smaller_than_before_are_followed() {
    // As of a gateway whose clock was set back.
    let monitor = Monitor::new(|number, asked| match asked.split('?').next().unwrap() {
        "/api/v1/events" if number < 2 => page(40..=50, 50),
        "/api/v1/events" => page(1..=2, 2),
        _ if number < 2 => streamed(vec![], true),
        _ => streamed(vec![message(3), message(4)], true),
    });
    let mut out = Lines { text: String::new(), left: 14 };
    assert_eq!(monitor.run(&["events", "-f"], &mut out).unwrap(), Outcome::Good);
    assert_eq!(told(&out)[10..], [50, 1, 2, 3]);
}

#[test]
fn what_was_missed_is_no_event() {
    let monitor = Monitor::new(|_, asked| match asked.split('?').next().unwrap() {
        "/api/v1/events" => page([1], 1),
        _ => {
            let missed = "event: missed\ndata: {\"missed\":7}\n\n".to_owned();
            streamed(vec![missed, message(9)], true)
        }
    });
    let mut out = Lines { text: String::new(), left: 2 };
    assert_eq!(monitor.run(&["events", "--follow"], &mut out).unwrap(), Outcome::Good);
    assert_eq!(told(&out), [1, 9]);
}

#[test]
fn following_ends_where_asking_again_would_not_help() {
    let monitor = |stream: fn() -> Response| {
        Monitor::new(move |_, asked| match asked.split('?').next().unwrap() {
            "/api/v1/events" => page([], 0),
            _ => stream(),
        })
    };
    let endless =
        || Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("x".repeat(60_000)))).into_response();
    let cases: [Case; 3] = [
        (|| streamed(vec!["data: no JSON\n\n".into()], false), "no JSON"),
        (|| StatusCode::UNAUTHORIZED.into_response(), "--token-file"),
        (endless, "an event of more than"),
    ];
    for (stream, words) in cases {
        let error = monitor(stream).fails(&["events", "--follow"]);
        assert!(error.contains(words), "{words}: {error}");
    }
    // Nobody there from the beginning is another address, and not a loss.
    let monitor = Monitor::new(|_, _| StatusCode::SERVICE_UNAVAILABLE.into_response());
    assert!(monitor.fails(&["events", "--follow"]).contains("503"));
}
