use std::collections::BTreeSet;
use std::net::SocketAddr;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::event::{
    Cause, Event as Happening, Examined, Insight, Overview, Refusal, Sink, Survey, TrustedKey,
};
use crate::monitor::Options;

/// An export with one file `a` of 256 blocks.
#[derive(Default)]
struct Export {
    asked: Mutex<Vec<Vec<u8>>>,
    go_on: Notify,
}

#[async_trait]
impl Insight for Export {
    fn overview(&self) -> Overview {
        let key = TrustedKey {
            name: "release".to_owned(),
            standing: "trusted",
            kind: "key",
            last: Some(4_102_444_800),
            ..TrustedKey::default()
        };
        Overview { stores: vec!["local /srv".to_owned()], keys: vec![key], ..Overview::default() }
    }

    async fn survey(&self, path: &[u8]) -> Option<Survey> {
        let good = vec![64..80, 80..100];
        (path == b"a").then_some(Survey {
            size: 256 * 4096 - 7,
            block_size: 4096,
            arity: 128,
            good,
            ..Survey::default()
        })
    }

    async fn examine(&self, path: &[u8]) -> Result<Examined, String> {
        self.asked.lock().push(path.to_vec());
        self.go_on.notified().await;
        Ok(Examined::Blocks { failed: Vec::new(), count: 0 })
    }
}

struct Running {
    monitor: Arc<Monitor>,
    export: Arc<Export>,
    address: SocketAddr,
}

async fn running() -> Running {
    let monitor = Monitor::new(Options::default()).unwrap();
    let export = Arc::new(Export::default());
    monitor.set_insight(export.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = crate::monitor::routes::router(monitor.clone());
    let (never, bounds) = (std::future::pending(), Default::default());
    tokio::spawn(crate::monitor::http::serve(router, listener, never, bounds, Arc::default()));
    Running { monitor, export, address }
}

impl Running {
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask("GET", path).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    fn refuse(&self, path: &[u8], block: Option<u64>) {
        let (expected, found) = (Some(&[1; 32][..]), Some(&[2; 32][..]));
        let refusal = Refusal { block, expected, found, ..Refusal::plain(path, Cause::BadBlock) };
        self.monitor.emit(&Happening::Refused(refusal));
    }

    fn relax(&self, setting: &str) {
        self.monitor.emit(&Happening::Relaxed { setting });
    }

    /// The lines of the stream's body, one by one.
    async fn stream(&self, path: &str, header: &str) -> Stream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Stream(BufReader::new(stream));
        assert!(stream.line().await.contains(" 200 "));
        while !stream.line().await.is_empty() {}
        stream
    }
}

struct Stream(BufReader<TcpStream>);

impl Stream {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    /// The next event: its kind and data.
    async fn next(&mut self) -> (String, Value) {
        let (mut kind, mut data) = (String::new(), None);
        loop {
            let line = self.line().await;
            match line.split_once(": ") {
                Some(("event", word)) => word.clone_into(&mut kind),
                Some(("data", json)) => data = Some(serde_json::from_str(json).unwrap()),
                None if line.is_empty() && data.is_some() => return (kind, data.unwrap()),
                Some(_) | None => {}
            }
        }
    }
}

/// What of `value` is not as the schema has it.
fn faults(schema: &Value, value: &Value, all: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return faults(&all["components"]["schemas"][name], value, all, at);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let fits = options.iter().filter(|option| faults(option, value, all, at).is_empty()).count();
        return if fits == 1 { Vec::new() } else { vec![format!("{at}: {fits} of oneOf fit {value}")] };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    if types.as_str().is_some_and(|only| only != kind)
        || types.as_array().is_some_and(|types| !types.iter().any(|one| one == kind))
    {
        return vec![format!("{at}: {kind} is not {types}")];
    }
    let mut found = Vec::new();
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at}: {value} is not in {}", schema["enum"]));
    }
    if let Some(items) = value.as_array() {
        found.extend(items.iter().flat_map(|item| faults(&schema["items"], item, all, &format!("{at}[]"))));
    }
    if let Some(fields) = value.as_object() {
        let known = schema["properties"].as_object();
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let at = format!("{at}.{name}");
            match known.and_then(|known| known.get(name)) {
                Some(schema) => found.extend(faults(schema, field, all, &at)),
                None => match &schema["additionalProperties"] {
                    Value::Bool(false) => found.push(format!("{at} is not described")),
                    Value::Object(_) => {
                        found.extend(faults(&schema["additionalProperties"], field, all, &at))
                    }
                    _ => {}
                },
            }
        }
    }
    found
}

#[tokio::test]
async fn each_store_has_its_metric_from_the_start() {
    let up = |monitor: &Monitor, value: u64| {
        let text = monitor.metrics_text().unwrap();
        assert!(text.contains(&format!("nfs_verity_store_up{{store=\"local /srv\"}} {value}\n")), "{text}");
    };
    up(&running().await.monitor, 1);
    let monitor = Monitor::new(Options::default()).unwrap();
    monitor.emit(&Happening::StoreDown { store: "local /srv", error: "silence" });
    monitor.set_insight(Arc::new(Export::default()));
    up(&monitor, 0);
}

#[tokio::test]
async fn answers_are_as_they_are_described() {
    let running = running().await;
    let nfs = "127.0.0.1:2049".parse().unwrap();
    running.monitor.emit(&Happening::Started { nfs, monitor: nfs, store: "x", mode: "enforce", keys: 1 });
    running.refuse(b"a", Some(77));
    running.refuse(b"b\xff", None);
    running.relax("mode = \"warn\"");
    let totals = Default::default();
    let duration = Duration::ZERO;
    running.monitor.emit(&Happening::ScrubEnded { result: "x", complete: true, totals: &totals, duration });
    running.monitor.emit(&Happening::ReloadRefused { what: "trust", error: "x" });
    let (_, all) = running.get("/api/v1/openapi.json").await;
    for path in [
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/timeline?minutes=3",
        "/api/v1/files?path=a",
        "/api/v1/files?path=b%FF",
        "/api/v1/files?path=none",
        "/api/v1/files",
        "/api/v1/events?limit=0",
    ] {
        let (status, value) = running.get(path).await;
        let bare = path.split('?').next().unwrap();
        let answer = &all["paths"][bare]["get"]["responses"][status.to_string()];
        let schema = &answer["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path}: {status} is not described");
        assert_eq!(faults(schema, &value, &all, path), [] as [String; 0], "{value:#}");
    }
}

#[tokio::test]
async fn every_kind_of_event_is_described() {
    let all: Value = serde_json::from_str(OPENAPI).unwrap();
    let described = all["components"]["schemas"]["Event"]["properties"]["event"]["enum"].as_array().unwrap();
    assert_eq!(described.iter().map(|kind| kind.as_str().unwrap()).collect::<Vec<_>>(), KINDS);
    let routes: BTreeSet<_> = all["paths"].as_object().unwrap().keys().cloned().collect();
    let router = include_str!("../routes.rs");
    let served = router.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    assert_eq!(routes, served.filter(|path| path.starts_with("/api/")).collect());
}

#[tokio::test]
async fn the_status_tells_what_is_wrong() {
    let running = running().await;
    let nfs = "127.0.0.1:2049".parse().unwrap();
    let (_, status) = running.get("/api/v1/status").await;
    assert_eq!((&status["phase"], &status["health"]), (&"starting".into(), &"bad".into()));
    running.monitor.emit(&Happening::Started { nfs, monitor: nfs, store: "x", mode: "enforce", keys: 1 });
    let (_, status) = running.get("/api/v1/status").await;
    assert_eq!((&status["health"], &status["reasons"]), (&"good".into(), &json!([])));
    assert_eq!(status["keys"][0]["not_after"], "2100-01-01T00:00:00Z");
    running.refuse(b"a", Some(77));
    running.refuse(b"a", Some(77));
    let (_, status) = running.get("/api/v1/status").await;
    let failing = &status["failing"][0];
    assert_eq!(
        (&failing["path"], &failing["block"], &failing["times"]),
        (&"a".into(), &77.into(), &2.into())
    );
    assert_eq!(failing["expected"].as_str(), Some("01".repeat(32).as_str()));
    assert_eq!((&status["health"], &status["totals"]["refused"]), (&"bad".into(), &2.into()));
}

#[tokio::test]
async fn events_are_asked_for_by_number_time_and_kind() {
    let running = running().await;
    (0..5).for_each(|n| running.relax(&n.to_string()));
    running.refuse(b"a", None);
    let (_, all) = running.get("/api/v1/events").await;
    let events = all["events"].as_array().unwrap();
    assert_eq!((events.len(), &all["missed"]), (6, &0.into()));
    assert_eq!(events[4]["setting"], "4");
    let third = events[2]["id"].as_u64().unwrap();
    let (_, rest) = running.get(&format!("/api/v1/events?after={third}&limit=2")).await;
    assert_eq!((rest["events"].as_array().unwrap().len(), &rest["last"]), (2, &(third + 2).into()));
    let (_, kinds) = running.get("/api/v1/events?kind=refused,store-up").await;
    assert_eq!((kinds["events"].as_array().unwrap().len(), &kinds["last"]), (1, &all["last"]));
    let (_, since) = running.get("/api/v1/events?since=2999-01-01T00:00:00Z").await;
    assert_eq!(since["events"], json!([]));
    for query in
        ["after=x", "after=-1", "since=yesterday", "kind=no", "limit=1001", "limit=1&limit=2", "kind=%ff"]
    {
        let (status, refused) = running.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(refused["error"].as_str().unwrap().contains(query.split('=').next().unwrap()), "{refused}");
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens() {
    let running = running().await;
    running.relax("before");
    let mut now = running.stream("/api/v1/events/stream", "").await;
    let mut all = running.stream("/api/v1/events/stream?after=0", "").await;
    let mut refused = running.stream("/api/v1/events/stream?kind=refused", "").await;
    assert_eq!(all.next().await.1["setting"], "before");
    for n in 0..100 {
        running.relax(&n.to_string());
    }
    running.refuse(b"a", Some(7));
    let (kind, event) = refused.next().await;
    assert_eq!((kind.as_str(), &event["block"]), ("refused", &7.into()));
    for stream in [&mut now, &mut all] {
        for n in 0..100 {
            assert_eq!(stream.next().await.1["setting"], n.to_string());
        }
        assert_eq!(stream.next().await.0, "refused");
    }
    let id = event["id"].as_u64().unwrap() - 1;
    let mut again =
        running.stream("/api/v1/events/stream?after=0", &format!("Last-Event-ID: {id}\r\n")).await;
    assert_eq!(again.next().await.1["id"], id + 1);
}

#[tokio::test]
async fn a_stream_tells_how_much_it_missed() {
    let running = running().await;
    (0..3000).for_each(|n| running.relax(&n.to_string()));
    let mut stream = running.stream("/api/v1/events/stream?after=0", "").await;
    let (kind, missed) = stream.next().await;
    assert_eq!((kind.as_str(), &missed["missed"]), ("missed", &952.into()));
    assert_eq!(stream.next().await.1["setting"], "952");
}

#[tokio::test]
async fn a_file_tells_its_blocks() {
    let running = running().await;
    running.refuse(b"a", Some(77));
    let (status, file) = running.get("/api/v1/files?path=a").await;
    assert_eq!((status, &file["blocks"], &file["size"]), (200, &256.into(), &(256 * 4096 - 7).into()));
    let map: Vec<_> =
        file["map"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(map, ["unknown", "good", "bad", "good", "unknown"]);
    assert_eq!(file["bad"][0]["block"], 77);
    assert_eq!(file["checked"], Value::Null);
    assert_eq!(running.get("/api/v1/files?path=elsewhere").await.0, 404);
    assert_eq!(running.get("/api/v1/files?path=").await.0, 400);
    assert_eq!(running.get(&format!("/api/v1/files?path={}", "x".repeat(PATH_MAX + 1))).await.0, 400);
    let (status, page) = running.ask("GET", "/files?path=a").await;
    assert!(status == 200 && page.contains("256 blocks: 35 good, 1 bad, 220 unknown"), "{page}");
    assert_eq!(running.ask("GET", "/files?path=elsewhere").await.0, 404);
    assert_eq!(running.ask("GET", "/files").await.0, 400);
}

#[tokio::test]
async fn a_check_runs_behind_its_answer_and_is_told() {
    let running = running().await;
    running.refuse(b"a", Some(77));
    // What may ask for it is a matter of who lets requests in.
    assert!(running.monitor.check(b"a".to_vec(), Some(Survey::default().version)));
    assert!(!running.monitor.check(b"a".to_vec(), None), "it is under way");
    let (_, file) = running.get("/api/v1/files?path=a").await;
    assert_eq!(file["checked"]["running"], true);
    assert_eq!(file["bad"][0]["block"], 77, "until it is known better");
    let mut stream = running.stream("/api/v1/events/stream?kind=checked", "").await;
    running.export.go_on.notify_one();
    let (_, told) = stream.next().await;
    assert_eq!((&told["path"], &told["result"]), (&"a".into(), &"good".into()));
    let (_, file) = running.get("/api/v1/files?path=a").await;
    assert_eq!((&file["checked"]["failing_blocks"], &file["bad"]), (&0.into(), &json!([])));
    assert_eq!(file["map"], json!([{ "first": 0, "count": 256, "state": "good" }]));
    assert_eq!(*running.export.asked.lock(), [b"a"]);
    assert!(running.monitor.check(b"b".to_vec(), None) && running.monitor.check(b"c".to_vec(), None));
    assert!(!running.monitor.check(b"d".to_vec(), None), "two at a time");
}

#[tokio::test]
async fn the_timeline_has_the_minutes_up_to_now() {
    let running = running().await;
    running.refuse(b"a", Some(77));
    let (_, timeline) = running.get("/api/v1/timeline?minutes=5").await;
    let points = timeline["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    assert_eq!(points.iter().map(|point| point["refused"].as_u64().unwrap()).sum::<u64>(), 1);
    assert_eq!(running.get("/api/v1/timeline").await.1["points"].as_array().unwrap().len(), 60);
    assert_eq!(running.get("/api/v1/timeline?minutes=0").await.0, 400);
}
