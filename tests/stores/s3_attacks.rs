//! A server of buckets that lies: no wrong byte is taken for another version's, no call outlasts its time, and
//! what has no end is cut.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nfs_verity::event::{Event, Sink};
use nfs_verity::store::{OpenOptions, Result, Store, StoreAddress, StoreErrorKind, StorePath};

struct Deaf;

impl Sink for Deaf {
    fn emit(&self, _: &Event<'_>) {}
}

/// A request: method, target, and the bytes asked for.
struct Asked {
    method: String,
    target: String,
    range: Option<(u64, u64)>,
}

const SIZE: u64 = 3_000_000;

fn honest(asked: &Asked) -> Vec<u8> {
    let common = "ETag: \"v1\"\r\nLast-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\nConnection: close";
    if asked.target.contains("list-type") {
        return xml("<ListBucketResult></ListBucketResult>");
    }
    if asked.method == "HEAD" {
        return format!("HTTP/1.1 200 OK\r\n{common}\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
    }
    let (start, end) = asked.range.unwrap();
    let end = end.min(SIZE - 1);
    let len = end - start + 1;
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n{common}\r\nContent-Length: {len}\r\n\
         Content-Range: bytes {start}-{end}/{SIZE}\r\n\r\n"
    );
    let mut reply = head.into_bytes();
    reply.resize(reply.len() + usize::try_from(len).unwrap(), b'x');
    reply
}

fn xml(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn replaced(reply: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(reply.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

type Answer = Arc<dyn Fn(&Asked, &mut TcpStream) + Send + Sync>;

fn server(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, mut stream) = (answer.clone(), stream.unwrap());
            std::thread::spawn(move || {
                let mut lines =
                    BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
                let Some(first) = lines.next() else { return };
                let mut words = first.split(' ').map(str::to_owned);
                let (method, target) = (words.next().unwrap(), words.next().unwrap());
                let mut range = None;
                for line in lines.take_while(|line| !line.is_empty()) {
                    if let Some(asked) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        let (start, end) = asked.split_once('-').unwrap();
                        range = Some((start.parse().unwrap(), end.parse().unwrap()));
                    }
                }
                answer(&Asked { method, target, range }, &mut stream);
            });
        }
    });
    address
}

async fn store(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Arc<dyn Store> {
    let address = server(Arc::new(answer));
    let url = format!("s3://b/?endpoint=http://{address}&anonymous=on&ttl=0");
    let options = OpenOptions { timeout: Duration::from_secs(2), sink: Arc::new(Deaf) };
    StoreAddress::parse(url.as_ref()).unwrap().open(&options).await.unwrap()
}

/// Reads from a server whose answers to GET are twisted.
async fn read(twist: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Result<bytes::Bytes> {
    let store = store(move |asked, stream| match asked.method == "GET" && asked.range.is_some() {
        true => twist(asked, stream),
        false => _ = stream.write_all(&honest(asked)),
    });
    let file = store.await.open(&StorePath::parse(b"f").unwrap()).await.unwrap();
    let started = Instant::now();
    let answer = file.read_at(1000, 70_000).await;
    // Twice as long as a call may take, for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(20));
    answer
}

#[tokio::test]
async fn an_honest_server_is_read() {
    let bytes = read(|asked, stream| _ = stream.write_all(&honest(asked))).await.unwrap();
    assert!(bytes.len() == 70_000 && bytes.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn a_range_with_the_status_of_the_whole_is_a_range() {
    let twist = |asked: &Asked, stream: &mut TcpStream| {
        _ = stream.write_all(&replaced(&honest(asked), "206 Partial Content", "200 OK"));
    };
    assert_eq!(read(twist).await.unwrap().len(), 70_000);
}

#[tokio::test]
async fn what_is_not_the_range_of_the_version_is_refused() {
    use StoreErrorKind::{Io, Stale, Unavailable};
    let cases: [(&str, &str, &str, &[StoreErrorKind]); 9] = [
        ("another version", "\"v1\"", "\"v2\"", &[Stale]),
        ("another size", "/3000000", "/3000001", &[Stale]),
        ("another range", "bytes 1000-", "bytes 1001-", &[Io]),
        ("a range of nothing", "bytes 1000-", "bytes x-", &[Io]),
        ("no range", "Content-Range", "X-Range", &[Io]),
        ("a short body", "Content-Length: 70000", "Content-Length: 69999", &[Unavailable, Io]),
        ("a body that breaks off", "Content-Length: 70000", "Content-Length: 70001", &[Unavailable, Io]),
        ("no place", "206 Partial Content", "404 Not Found", &[Stale]),
        ("no time", "206 Partial Content", "503 Slow Down", &[Unavailable]),
    ];
    for (what, from, to, kinds) in cases {
        let error =
            read(move |asked, stream| _ = stream.write_all(&replaced(&honest(asked), from, to))).await;
        let error = error.err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(kinds.contains(&error.kind), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn silence_in_any_place_ends_with_the_time_of_the_call() {
    for cut in [0, 20, 100, 5000] {
        let error = read(move |asked, stream| {
            let reply = honest(asked);
            let _ = stream.write_all(&reply[..cut.min(reply.len())]);
            std::thread::sleep(Duration::from_secs(30));
        });
        assert_eq!(error.await.unwrap_err().kind, StoreErrorKind::Unavailable, "{cut}");
    }
}

async fn list(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Result<Vec<Vec<u8>>> {
    let store = store(move |asked, stream| {
        let delimited = asked.target.contains("delimiter");
        let _ = stream.write_all(&if delimited { answer(asked) } else { honest(asked) });
    });
    let page = store.await.read_dir(&StorePath::root(), 0, usize::MAX).await?;
    Ok(page.entries.into_iter().map(|entry| entry.name).collect())
}

fn object(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag>\
         <LastModified>2026-11-28T10:00:00.000Z</LastModified></Contents>"
    )
}

#[tokio::test]
async fn keys_that_are_no_names_are_left_out() {
    let long = "n".repeat(300);
    let keys = ["good", "..", "a//b", "", "/lead", "x&#10;y", &long, "zebra"].map(object).concat();
    // The same page whatever was asked: what cannot be passed over is an end with an error, not a loop.
    let all = keys.clone();
    let listed = list(move |_| xml(&format!("<ListBucketResult>{all}</ListBucketResult>"))).await;
    assert!(listed.is_err());
    let plain = ["good", &long, "zebra"].map(object).concat();
    let mut names =
        list(move |_| xml(&format!("<ListBucketResult>{plain}</ListBucketResult>"))).await.unwrap();
    names.sort();
    assert_eq!(names, [&b"."[..], b"..", b"good", b"zebra"]);
}

#[tokio::test]
async fn listings_without_an_end_and_without_sense_end() {
    let more = "<NextContinuationToken>t</NextContinuationToken><IsTruncated>true</IsTruncated>";
    for body in [
        format!("<ListBucketResult>{more}</ListBucketResult>"),
        "no XML".to_owned(),
        "<ListBucketResult><Contents></Contents></ListBucketResult>".to_owned(),
        format!("<ListBucketResult>{}</ListBucketResult>{}", object("a"), "<".repeat(1000)),
    ] {
        let what = body.clone();
        let started = Instant::now();
        let answer = list(move |_| xml(&what)).await;
        assert!(answer.is_err() || answer.is_ok_and(|names| names.len() <= 3), "{body}");
        assert!(started.elapsed() < Duration::from_secs(30), "{body}");
    }
    // Always the same names, and always more to come.
    let same = format!("<ListBucketResult>{}{more}</ListBucketResult>", object("a"));
    let error = list(move |_| xml(&same)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Io);
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_kept() {
    let store = store(|asked, stream| {
        if !asked.target.contains("delimiter") {
            let _ = stream.write_all(&honest(asked));
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListBucketResult>");
        let junk = vec![b' '; 1 << 20];
        while stream.write_all(&junk).is_ok() {}
    });
    let answer = store.await.read_dir(&StorePath::root(), 0, 10).await;
    assert!(matches!(answer.unwrap_err().kind, StoreErrorKind::Io | StoreErrorKind::Unavailable));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(most < 600 * 1024, "{most} kB");
}
