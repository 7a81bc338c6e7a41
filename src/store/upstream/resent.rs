//! Calls that were executed and whose replies were lost: sent again, they do no harm and nobody hears of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::super::{Attributes, Store, StoreErrorKind, StorePath};
use super::proto::{self, Status};
use super::scene::{Scene, store_at};

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The connection ends in its place.
    Cut,
    /// It is replaced: the server is busy.
    Busy,
}

/// A relay in front of a server. Replies to `procedure` of NFS meet `fates` one after the other, and pass then.
struct Cut {
    address: SocketAddr,
    calls: Counts,
    task: JoinHandle<()>,
}

type Counts = Arc<Mutex<HashMap<u32, usize>>>;

impl Drop for Cut {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cut {
    async fn start(server: SocketAddr, procedure: u32, fates: &'static [Fate]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Counts::default();
        let counts = calls.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, server, procedure, fates, counts.clone()));
            }
        });
        Self { address, calls, task }
    }

    /// How often the server answered `procedure`.
    fn answered(&self, procedure: u32) -> usize {
        self.calls.lock().get(&procedure).copied().unwrap_or(0)
    }
}

async fn relay(
    client: TcpStream,
    server: SocketAddr,
    procedure: u32,
    fates: &'static [Fate],
    counts: Counts,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = Mutex::new(HashMap::new());
    let calls = async {
        loop {
            let call = record(&mut from_client).await?;
            if number(&call, 3) == 100_003 {
                asked.lock().insert(number(&call, 0), number(&call, 5));
            }
            send(&mut to_server, &call).await?;
        }
    };
    let replies = async {
        loop {
            let mut reply = record(&mut from_server).await?;
            if let Some(called) = asked.lock().remove(&number(&reply, 0)) {
                let before = {
                    let mut counts = counts.lock();
                    let count = counts.entry(called).or_insert(0);
                    *count += 1;
                    *count - 1
                };
                match fates.get(before).filter(|_| called == procedure) {
                    None => {}
                    Some(Fate::Cut) => return Ok(()),
                    Some(Fate::Busy) => {
                        reply.truncate(24);
                        reply.extend([Status::JUKEBOX.0, 0, 0].map(u32::to_be_bytes).concat());
                    }
                }
            }
            send(&mut to_client, &reply).await?;
        }
    };
    tokio::select! {
        ended = calls => ended,
        ended = replies => ended,
    }
}

fn number(record: &[u8], word: usize) -> u32 {
    u32::from_be_bytes(record[4 * word..4 * word + 4].try_into().unwrap())
}

async fn record(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    loop {
        let mark = input.read_u32().await?;
        let start = record.len();
        record.resize(start + (mark & 0x7fff_ffff) as usize, 0);
        input.read_exact(&mut record[start..]).await?;
        if mark >> 31 == 1 {
            return Ok(record);
        }
    }
}

async fn send(output: &mut (impl AsyncWriteExt + Unpin), record: &[u8]) -> io::Result<()> {
    let mark = 0x8000_0000 | u32::try_from(record.len()).unwrap();
    output.write_all(&[&mark.to_be_bytes()[..], record].concat()).await
}

/// Procedures of NFSv3 that change something.
const CHANGING: [u32; 8] = [
    proto::SETATTR,
    proto::WRITE,
    proto::CREATE,
    proto::MKDIR,
    proto::REMOVE,
    proto::RMDIR,
    proto::RENAME,
    proto::COMMIT,
];

fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

async fn put(store: &Arc<dyn Store>, at: &str, bytes: &[u8]) {
    let mut writer = store.create(&path(at), &path(".scratch")).await.unwrap();
    writer.write_at(0, bytes).await.unwrap();
    writer.commit().await.unwrap();
}

async fn names(store: &Arc<dyn Store>, at: &str) -> Vec<String> {
    let page = store.read_dir(&path(at), 0, 100).await.unwrap();
    assert!(page.end);
    let names = page.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap());
    let mut names: Vec<_> = names.filter(|name| !matches!(&name[..], "." | "..")).collect();
    names.sort();
    names
}

async fn content(store: &Arc<dyn Store>, at: &str) -> Vec<u8> {
    store.open(&path(at)).await.unwrap().read_at(0, 1 << 20).await.unwrap().to_vec()
}

/// All that a store changes, with each procedure needed once or more.
async fn changes_all_there_is(store: &Arc<dyn Store>) {
    put(store, "d/f", b"old").await;
    put(store, "d/g", b"other").await;
    let mut writer = store.create(&path("d/f"), &path(".scratch")).await.unwrap();
    writer.write_at(0, b"new").await.unwrap();
    let attributes = Attributes::of(&*store.open(&path("d/f")).await.unwrap()).await.unwrap();
    writer.set_attributes(&attributes).await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(content(store, "d/f").await, b"new");
    assert_eq!(content(store, "d/g").await, b"other");
    assert_eq!(names(store, "d").await, ["f", "g"]);
    assert!(names(store, ".scratch").await.is_empty());
    store.remove(&path("d/g")).await.unwrap();
    assert_eq!(names(store, "d").await, ["f"]);
    assert_eq!(store.remove(&path("d/g")).await.unwrap_err().kind, StoreErrorKind::NotFound);
    store.remove(&path("d")).await.unwrap();
    assert_eq!(names(store, "").await, [".scratch"]);
}

async fn replies_meet(fates: &'static [Fate]) {
    for procedure in CHANGING {
        let directory = tempfile::tempdir().unwrap();
        let scene = Scene::new(directory.path());
        let cut = Cut::start(scene.address, procedure, fates).await;
        changes_all_there_is(&store_at(cut.address)).await;
        assert!(cut.answered(procedure) > fates.len(), "procedure {procedure} was not made again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_reply_is_lost_is_made_once_and_told_as_done() {
    replies_meet(&[Fate::Cut]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost_several_times_are_as_good_as_one() {
    replies_meet(&[Fate::Cut, Fate::Cut, Fate::Cut]).await;
}

/// That a call was made before is not forgotten while the server says that it is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_reply_is_lost_is_done_where_the_server_is_busy_next() {
    replies_meet(&[Fate::Cut, Fate::Busy]).await;
    replies_meet(&[Fate::Cut, Fate::Busy, Fate::Busy]).await;
}
