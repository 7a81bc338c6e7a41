//! A small NFSv3 server over a [`Memory`] that answers as a test tells it to. MOUNT is on the same port. A
//! handle is the path, so that handles outlive the server.

use std::net::SocketAddr;
use std::sync::Arc;

use nfs_verity::store::{Attr, Kind, Memory, Store, StoreErrorKind, StorePath};
use nfs_verity::wire::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub const LOOKUP: u32 = 3;
pub const READ: u32 = 6;
pub const READDIR: u32 = 16;
pub const READDIRPLUS: u32 = 17;
pub const FSINFO: u32 = 19;
/// MNT of MOUNT, told from the procedures of NFS.
pub const MNT: u32 = 1001;
/// GETPORT of the port mapper, which is answered with "not registered".
pub const GETPORT: u32 = 2003;

/// A call as a twist sees it.
#[derive(Clone)]
pub struct Asked {
    pub procedure: u32,
    pub uid: u32,
    /// Where the call comes from.
    pub from: SocketAddr,
    pub arguments: Vec<u8>,
    /// Calls of this procedure before.
    pub before: u32,
}

/// What goes out in the place of a reply.
pub enum Twist {
    /// These results in a proper reply.
    Results(Vec<u8>),
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// The reply, byte by byte.
    Crumbs(Vec<u8>),
    /// The results in a reply to another call.
    Stranger(Vec<u8>),
    /// A reply that the call was not executed, with this `accept_stat`.
    Refused(u32),
    Silence,
    Close,
}

/// Makes what goes out of a call and of the right results.
pub type Twister = Arc<dyn Fn(&Asked, Vec<u8>) -> Twist + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn honest(store: &Memory) -> Self {
        Self::start(store, "127.0.0.1:0", Arc::new(|_, results| Twist::Results(results))).await
    }

    pub async fn start(store: &Memory, at: &str, twist: Twister) -> Self {
        let listener = loop {
            match TcpListener::bind(at).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let address = listener.local_addr().unwrap();
        let store = store.clone();
        let task = tokio::spawn(async move {
            let counts = Arc::new(parking_lot::Mutex::new(std::collections::HashMap::new()));
            let mut connections = JoinSet::new();
            while let Ok((stream, from)) = listener.accept().await {
                connections.spawn(serve(stream, from, store.clone(), twist.clone(), counts.clone()));
            }
        });
        Self { address, task }
    }

    pub fn url(&self, options: &str) -> String {
        format!("nfs://{}/?source=any{options}", self.address)
    }
}

type Counts = Arc<parking_lot::Mutex<std::collections::HashMap<u32, u32>>>;

async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    store: Memory,
    twist: Twister,
    counts: Counts,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = stream.read_u32().await? & 0x7fff_ffff;
        let mut call = vec![0; length as usize];
        stream.read_exact(&mut call).await?;
        let mut reader = Reader::new(&call);
        let mut next = || reader.u32().unwrap();
        let (xid, _, _, program, _, procedure) = (next(), next(), next(), next(), next(), next());
        assert_eq!(next(), 1, "AUTH_SYS");
        let credential = reader.opaque(400).unwrap();
        let mut body = Reader::new(credential);
        body.u32().unwrap();
        body.opaque(255).unwrap();
        let uid = body.u32().unwrap();
        reader.u64().unwrap();
        let procedure = match program {
            100_005 => 1000 + procedure,
            100_000 => 2000 + procedure,
            _ => procedure,
        };
        let arguments = reader.rest().to_vec();
        let results = answer(&store, procedure, &arguments).await;
        let before = {
            let mut counts = counts.lock();
            let count = counts.entry(procedure).or_insert(0);
            *count += 1;
            *count - 1
        };
        let framed = |xid: u32, accepted: u32, results: &[u8]| {
            let head = [xid, 1, 0, 0, 0, accepted].map(u32::to_be_bytes).concat();
            let mark = 0x8000_0000 | u32::try_from(head.len() + results.len()).unwrap();
            [&mark.to_be_bytes()[..], &head, results].concat()
        };
        let reply = |xid: u32, results: &[u8]| framed(xid, 0, results);
        match twist(&Asked { procedure, uid, from, arguments, before }, results) {
            Twist::Results(results) => stream.write_all(&reply(xid, &results)).await?,
            Twist::Stranger(results) => stream.write_all(&reply(xid ^ 0x55, &results)).await?,
            Twist::Refused(accepted) => stream.write_all(&framed(xid, accepted, &[])).await?,
            Twist::Raw(bytes) => stream.write_all(&bytes).await?,
            Twist::Crumbs(results) => {
                for byte in reply(xid, &results) {
                    stream.write_all(&[byte]).await?;
                }
            }
            Twist::Silence => {}
            Twist::Close => return Ok(()),
        }
    }
}

fn path_of(handle: &[u8]) -> Option<StorePath> {
    let path = handle.strip_prefix(b"/")?;
    // A second slash makes another handle of the same.
    StorePath::parse(path.strip_prefix(b"/").unwrap_or(path)).ok()
}

fn write_attr(w: &mut Writer, attr: &Attr) {
    let kind = match attr.kind {
        Kind::Regular => 1,
        Kind::Directory => 2,
        Kind::Symlink => 5,
        _ => 7,
    };
    w.u32(kind).u32(attr.mode).u32(attr.nlink).u32(attr.uid).u32(attr.gid).u64(attr.size).u64(attr.used);
    w.u64(0).u64(1).u64(attr.fileid);
    for time in [attr.atime, attr.mtime, attr.ctime] {
        w.u32(u32::try_from(time.seconds).unwrap()).u32(time.nanos);
    }
}

fn status(kind: StoreErrorKind) -> u32 {
    match kind {
        StoreErrorKind::NotFound => 2,
        StoreErrorKind::NotADirectory => 20,
        _ => 5,
    }
}

/// The right results.
async fn answer(store: &Memory, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    if let Err(status) = fill(store, procedure, arguments, &mut w).await {
        w = Writer::default();
        w.u32(status).u32(0);
    }
    w.finish().concat()
}

async fn fill(store: &Memory, procedure: u32, arguments: &[u8], w: &mut Writer) -> Result<(), u32> {
    if procedure == MNT {
        w.u32(0).opaque(b"/").u32(1).u32(1);
        return Ok(());
    }
    if procedure == GETPORT {
        w.u32(0);
        return Ok(());
    }
    let mut reader = Reader::new(arguments);
    let path = path_of(reader.opaque(64).unwrap()).ok_or(10001u32)?;
    let attr = store.stat(&path).await.map_err(|error| match error.kind {
        StoreErrorKind::NotFound => 70,
        kind => status(kind),
    })?;
    w.u32(0);
    match procedure {
        1 => write_attr(w, &attr),
        LOOKUP => {
            let below = path.join(reader.opaque(255).unwrap()).map_err(|_| 2u32)?;
            let found = store.stat(&below).await.map_err(|error| status(error.kind))?;
            w.opaque(&[b"/", below.as_bytes()].concat()).bool(true);
            write_attr(w, &found);
            w.bool(false);
        }
        READ => {
            let (offset, count) = (reader.u64().unwrap(), reader.u32().unwrap());
            let file = store.open(&path).await.map_err(|error| status(error.kind))?;
            let bytes = file.read_at(offset, count as usize).await.unwrap();
            w.bool(true);
            write_attr(w, &attr);
            w.u32(u32::try_from(bytes.len()).unwrap()).bool(offset + bytes.len() as u64 >= attr.size);
            w.opaque(&bytes);
        }
        READDIR | READDIRPLUS => {
            let cookie = reader.u64().unwrap();
            let page = store.read_dir(&path, cookie, 20).await.map_err(|error| status(error.kind))?;
            w.bool(false).fixed(&[0; 8]);
            for entry in page.entries {
                w.bool(true).u64(entry.fileid).opaque(&entry.name).u64(entry.cookie);
                if procedure == READDIRPLUS {
                    match path.join(&entry.name) {
                        Ok(below) => {
                            w.bool(true);
                            write_attr(w, &store.stat(&below).await.map_err(|_| 5u32)?);
                            w.bool(true).opaque(&[b"/", below.as_bytes()].concat());
                        }
                        Err(_) => _ = w.bool(false).bool(false),
                    }
                }
            }
            w.bool(false).bool(page.end);
        }
        18 => {
            w.bool(false);
            (0..6).for_each(|_| _ = w.u64(1 << 30));
            w.u32(0);
        }
        FSINFO => {
            w.bool(false);
            [65536u32, 65536, 1, 65536, 65536, 1, 65536].iter().for_each(|number| _ = w.u32(*number));
            w.u64(1 << 40).u64(1).u32(0);
        }
        20 => _ = w.bool(false).u32(1).u32(255).bool(true).bool(true).bool(false).bool(true),
        _ => return Err(10004),
    }
    Ok(())
}
