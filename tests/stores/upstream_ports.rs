//! Which ports an NFS server is called at, and from which; and servers that lack a procedure.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nfs_verity::store::{Memory, Store, StoreErrorKind, StorePath};
use parking_lot::Mutex;

use super::nfs_server::{Asked, GETPORT, MNT, READDIR, READDIRPLUS, Server, Twist};
use super::support::{as_root, with_own_network};
use super::upstream::{PATIENT, names, open, path};

const HOUR: Duration = Duration::from_secs(3600);
const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;

fn memory() -> Memory {
    let memory = Memory::new();
    memory.put("f", b"found").unwrap();
    memory
}

/// Where the servers are, each test in a network of its own: the port mapper's port is always 111.
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const MAPPER: &str = "127.0.0.1:111";

/// What was asked, each as procedure and port of the caller.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(u32, u16)>>>);

impl Calls {
    fn note(&self, asked: &Asked) {
        self.0.lock().push((asked.procedure, asked.from.port()));
    }

    fn count(&self, procedure: u32) -> usize {
        self.0.lock().iter().filter(|(called, _)| *called == procedure).count()
    }

    fn take(&self) -> Vec<(u32, u16)> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A server that notes what it is asked.
async fn server(at: SocketAddr) -> (Server, Calls) {
    let calls = Calls::default();
    let noted = calls.clone();
    let twist = move |asked: &Asked, results| {
        noted.note(asked);
        Twist::Results(results)
    };
    (Server::start(&memory(), &at.to_string(), Arc::new(twist)).await, calls)
}

/// A port mapper that knows these programs, of version 3 over TCP.
async fn mapper(known: &[(u32, u32)]) -> Server {
    let known = known.to_vec();
    let twist = move |asked: &Asked, _| {
        assert_eq!(asked.procedure, GETPORT);
        let arguments: Vec<_> =
            asked.arguments.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        assert_eq!(arguments[1..], [3, 6, 0], "{arguments:?}");
        let port = known.iter().find(|(program, _)| *program == arguments[0]).map_or(0, |(_, port)| *port);
        Twist::Results(port.to_be_bytes().to_vec())
    };
    Server::start(&Memory::new(), MAPPER, Arc::new(twist)).await
}

fn port(server: &Server) -> u32 {
    server.address.port().into()
}

async fn finds_the_file(url: &str) {
    let store = open(url, PATIENT).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(store.stat(&path("f")).await.unwrap().size, 5, "{url}");
}

#[tokio::test]
async fn ports_that_the_url_does_not_say_are_those_of_the_port_mapper() {
    if !with_own_network("upstream_ports::ports_that_the_url_does_not_say_are_those_of_the_port_mapper") {
        return;
    }
    let (nfs, nfs_calls) = server((HOST, 0).into()).await;
    let (mount, mount_calls) = server((HOST, 0).into()).await;
    let both = [(NFS, port(&nfs)), (MOUNT, port(&mount))];
    for (known, url) in [
        (&both[..], format!("nfs://{HOST}/")),
        (&both[1..], format!("nfs://{}/?portmap=on", nfs.address)),
        (&both[..1], format!("nfs://{HOST}/?mountport={}", port(&mount))),
    ] {
        let _mapper = mapper(known).await;
        finds_the_file(&url).await;
        assert!(mount_calls.take().iter().all(|(procedure, _)| *procedure == MNT), "{url}");
        assert!(nfs_calls.take().iter().all(|(procedure, _)| *procedure != MNT), "{url}");
    }
    // MOUNT that is not registered is looked for at the port of NFS.
    let _mapper = mapper(&both[..1]).await;
    finds_the_file(&format!("nfs://{HOST}/")).await;
    assert_eq!((nfs_calls.count(MNT), mount_calls.count(MNT)), (1, 0));
}

#[tokio::test]
async fn without_a_port_mapper_that_knows_it_is_the_usual_port() {
    if !with_own_network("upstream_ports::without_a_port_mapper_that_knows_it_is_the_usual_port") {
        return;
    }
    let (_nfs, calls) = server((HOST, 2049).into()).await;
    // That none listens is told at once, however long an answer may take.
    let store = tokio::time::timeout(PATIENT, open(&format!("nfs://{HOST}/"), HOUR)).await.unwrap().unwrap();
    assert_eq!(store.stat(&path("f")).await.unwrap().size, 5);
    finds_the_file(&format!("nfs://{HOST}/?portmap=off")).await;
    {
        let _mapper = mapper(&[]).await;
        finds_the_file(&format!("nfs://{HOST}/")).await;
    }
    let silent = Server::start(&Memory::new(), MAPPER, Arc::new(|_, _| Twist::Silence)).await;
    let store = open(&format!("nfs://{HOST}/"), Duration::from_secs(2)).await.unwrap();
    assert_eq!(store.stat(&path("f")).await.unwrap().size, 5);
    drop(silent);
    assert_eq!(calls.count(MNT), 4);
    // One that tells what cannot be is an error, not another server.
    for answer in [vec![0, 1, 0, 0], vec![0, 0, 8], vec![]] {
        let told = answer.clone();
        let lies = Arc::new(move |_: &Asked, _| Twist::Results(told.clone()));
        let _mapper = Server::start(&Memory::new(), MAPPER, lies).await;
        let error = open(&format!("nfs://{HOST}/"), PATIENT).await.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::Io, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_at_another_port_is_found_there() {
    if !with_own_network("upstream_ports::a_server_that_comes_back_at_another_port_is_found_there") {
        return;
    }
    let (first, _) = server((HOST, 0).into()).await;
    let mapping = mapper(&[(NFS, port(&first)), (MOUNT, port(&first))]).await;
    let store = open(&format!("nfs://{HOST}/?attributes=0"), Duration::from_millis(500)).await.unwrap();
    assert_eq!(store.stat(&path("f")).await.unwrap().size, 5);
    drop((first, mapping));
    assert_eq!(store.stat(&path("f")).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let (second, calls) = server((HOST, 0).into()).await;
    let _mapping = mapper(&[(NFS, port(&second)), (MOUNT, port(&second))]).await;
    for _ in 0..50 {
        if store.stat(&path("f")).await.is_ok() {
            assert_eq!(calls.count(MNT), 1);
            return;
        }
    }
    panic!("it is never found");
}

#[tokio::test]
async fn calls_come_from_a_reserved_port_where_it_is_set_up_so() {
    if !as_root("upstream_ports::calls_come_from_a_reserved_port_where_it_is_set_up_so") {
        return;
    }
    let (server, calls) = server((HOST, 0).into()).await;
    // Root's calls come from one unless told otherwise.
    for (options, reserved) in [("", true), ("?source=reserved&connections=4", true), ("?source=any", false)]
    {
        let store = open(&format!("nfs://{}/{options}", server.address), PATIENT).await.unwrap();
        for _ in 0..8 {
            store.stat(&path("none")).await.unwrap_err();
        }
        let calls = calls.take();
        assert!(calls.len() > 8 && calls.iter().any(|(procedure, _)| *procedure == MNT));
        assert!(calls.iter().all(|(_, port)| (*port < 1024) == reserved), "{options} {calls:?}");
    }
}

#[tokio::test]
async fn a_server_without_readdirplus_is_listed_with_readdir() {
    let memory = memory();
    for n in 0..60 {
        memory.put(format!("dir/{n:02}"), b"").unwrap();
    }
    let lacks: [fn(&Asked) -> Twist; 2] = [
        |_| Twist::Results([10004u32, 0].map(u32::to_be_bytes).concat()),
        // PROC_UNAVAIL.
        |_| Twist::Refused(3),
    ];
    for lack in lacks {
        let calls = Calls::default();
        let noted = calls.clone();
        let twist = move |asked: &Asked, results| {
            noted.note(asked);
            if asked.procedure == READDIRPLUS { lack(asked) } else { Twist::Results(results) }
        };
        let server = Server::start(&memory, "127.0.0.1:0", Arc::new(twist)).await;
        let store: Arc<dyn Store> = open(&server.url(""), PATIENT).await.unwrap();
        assert_eq!(names(&store, "dir").await, (0..60).map(|n| format!("{n:02}")).collect::<Vec<_>>());
        let page = store.read_dir(&StorePath::root(), 0, 100).await.unwrap();
        assert!(page.end && page.entries.iter().all(|entry| entry.kind.is_none()), "READDIR tells none");
        let found = page.entries.iter().find(|entry| entry.name == b"f").unwrap().fileid;
        assert_eq!(found, store.stat(&path("f")).await.unwrap().fileid);
        assert_eq!(calls.count(READDIRPLUS), 1, "it is not asked for in vain again");
        assert!(calls.count(READDIR) > 3);
    }
}
