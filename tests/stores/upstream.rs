//! The gateway in front of NFS servers: those that others wrote, and itself.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nfs_verity::carrier::CarrierKind;
use nfs_verity::config::load_keyring;
use nfs_verity::event::{Client, Silent};
use nfs_verity::export::{
    Caller, Export, ExportError, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{FormatSet, Keyring};
use nfs_verity::store::{
    Kind, Memory, OpenOptions, Store, StoreAddress, StoreErrorKind, StorePath, acting_as,
};
use nfs_verity::verity::Params;
use nfs3_server::memfs::{MemFs, MemFsConfig};
use nfs3_server::tcp::{NFSTcp, NFSTcpListener};

use super::nfs_server::{READ, Server, Twist};
use super::support::{Site, as_root, content, key_and_trust, nfs_verity, seal};

pub async fn open(url: &str, timeout: Duration) -> nfs_verity::store::Result<Arc<dyn Store>> {
    let options = OpenOptions { timeout, sink: Arc::new(Silent) };
    StoreAddress::parse(OsStr::new(url)).unwrap().open(&options).await
}

pub async fn export(store: Arc<dyn Store>, keyring: &Keyring) -> Result<Export, ExportError> {
    export_in(Mode::Enforce, store, keyring).await
}

async fn export_in(mode: Mode, store: Arc<dyn Store>, keyring: &Keyring) -> Result<Export, ExportError> {
    let options = ExportOptions {
        store,
        replicas: Vec::new(),
        waits: false,
        repair: None,
        namespace: String::new(),
        carriers: vec![CarrierKind::Sidecar],
        keyring: keyring.clone(),
        mode,
        identity: Identity::default(),
        cache_bytes: 0,
        disk_cache: None,
        whole_files: WholeFiles::default(),
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[7; 32]),
        sink: Arc::new(Silent),
    };
    Export::new(options).await.map_err(ExportError::from)
}

pub fn somebody() -> Caller {
    let client = Client { address: ([127, 0, 0, 1], 700).into(), uid: Some(1000), gid: Some(1000) };
    Caller { client, gids: Vec::new() }
}

/// All of the file `path`, proven.
pub async fn read_all(export: &Export, path: &str) -> Result<Vec<u8>, ExportError> {
    let (handle, _) = export.resolve(path.as_bytes(), &somebody()).await?;
    let mut all = Vec::new();
    loop {
        let reply = export.read(handle.as_bytes(), all.len() as u64, 1 << 20, &somebody()).await?;
        assert!(reply.data.is_verified());
        let before = all.len();
        reply.data.into_parts().iter().for_each(|part| all.extend_from_slice(part));
        if reply.eof {
            return Ok(all);
        }
        assert!(all.len() > before, "no progress at {before}");
    }
}

pub fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

async fn put(store: &Arc<dyn Store>, at: &str, bytes: &[u8]) {
    let mut writer = store.create(&path(at), &path(".scratch")).await.unwrap();
    writer.write_at(0, bytes).await.unwrap();
    writer.commit().await.unwrap();
}

pub async fn names(store: &Arc<dyn Store>, at: &str) -> Vec<String> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let page = store.read_dir(&path(at), cookie, 7).await.unwrap();
        for entry in page.entries {
            cookie = entry.cookie;
            names.push(String::from_utf8(entry.name).unwrap());
        }
        if page.end {
            names.retain(|name| name != "." && name != "..");
            names.sort();
            return names;
        }
    }
}

/// What a store has to do that can be written, on a server with nothing in it.
async fn writes_lists_replaces_and_removes(store: &Arc<dyn Store>) {
    let big = content(1, 3_000_000);
    put(store, "a/b/big", &big).await;
    put(store, "a/small", b"old").await;
    put(store, "a/small", b"new").await;
    let file = store.open(&path("a/b/big")).await.unwrap();
    assert_eq!(file.read_at(0, 16 << 20).await.unwrap(), big);
    for (offset, len) in [(0, 1), (1, 70_000), (2_999_999, 5), (3_000_000, 5), (u64::MAX, 1), (5, 0)] {
        let start = usize::try_from(offset).unwrap().min(big.len());
        let right = &big[start..(start + len).min(big.len())];
        assert_eq!(file.read_at(offset, len).await.unwrap(), right, "{offset} {len}");
    }
    // From front to back in small steps, as a reader that is read ahead for.
    for (n, chunk) in big.chunks(50_000).enumerate() {
        let at = n as u64 * 50_000;
        match file.try_read_at(at, chunk.len()) {
            Some(bytes) => assert_eq!(bytes, chunk),
            None => assert_eq!(file.read_at(at, chunk.len()).await.unwrap(), chunk, "{at}"),
        }
    }
    let small = store.open(&path("a/small")).await.unwrap();
    assert_eq!(small.read_at(0, 100).await.unwrap(), &b"new"[..]);
    assert_eq!(store.stat(&path("a/small")).await.unwrap().size, 3);
    assert_eq!(names(store, "a").await, ["b", "small"]);
    for n in 0..40 {
        put(store, &format!("many/{n:02}"), b"x").await;
    }
    assert_eq!(names(store, "many").await, (0..40).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    let kind_of = async |at: &str| store.open(&path(at)).await.err().unwrap().kind;
    assert_eq!(kind_of("a").await, StoreErrorKind::IsADirectory);
    assert_eq!(kind_of("none").await, StoreErrorKind::NotFound);
    assert_eq!(kind_of("a/small/x").await, StoreErrorKind::NotADirectory);
    let mut writer = store.create(&path("a/b"), &path(".scratch")).await.unwrap();
    writer.write_at(0, b"x").await.unwrap();
    assert_eq!(writer.commit().await.unwrap_err().kind, StoreErrorKind::IsADirectory);
    let fs = store.stat_fs().await.unwrap();
    assert!(fs.name_max > 0 && fs.link_max > 0);
    store.remove(&path("a/small")).await.unwrap();
    store.remove(&path("a")).await.unwrap();
    store.remove(&path("many")).await.unwrap();
    assert_eq!(store.remove(&path("a")).await.unwrap_err().kind, StoreErrorKind::NotFound);
    assert_eq!(store.remove(&StorePath::root()).await.unwrap_err().kind, StoreErrorKind::Access);
    // What was given up is removed behind its owner's back.
    for _ in 0..1000 {
        if names(store, ".scratch").await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(names(store, ".scratch").await.is_empty(), "nothing is left over");
    assert_eq!(names(store, "").await, [".scratch"]);
}

/// A file signed through the store is proven through it.
async fn signs_and_proves(store: &Arc<dyn Store>) {
    let (key, keyring) = key_and_trust();
    let bytes = content(2, 2_500_000);
    put(store, "dir/file", &bytes).await;
    seal(store, "dir/file", &bytes, Params::default(), &key).await;
    let export = export(store.clone(), &keyring).await.unwrap();
    assert_eq!(read_all(&export, "dir/file").await.unwrap(), bytes);
    let mut wrong = bytes.clone();
    wrong[1_500_000] ^= 1;
    put(store, "dir/file", &wrong).await;
    let export = self::export(store.clone(), &keyring).await.unwrap();
    assert!(matches!(read_all(&export, "dir/file").await, Err(ExportError::Corrupt(_))));
}

async fn memfs() -> String {
    let listener =
        NFSTcpListener::bind("127.0.0.1:0", MemFs::new(MemFsConfig::default()).unwrap()).await.unwrap();
    let port = listener.get_listen_port();
    tokio::spawn(async move { listener.handle_forever().await });
    format!("nfs://127.0.0.1:{port}/?attributes=")
}

pub const PATIENT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memfs_of_another_author_is_written_listed_and_proven() {
    for attributes in [0, 1, 60] {
        let store = open(&format!("{}{attributes}", memfs().await), PATIENT).await.unwrap();
        writes_lists_replaces_and_removes(&store).await;
        signs_and_proves(&store).await;
    }
}

/// A free port with a free one above it.
fn free_ports() -> u16 {
    loop {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if port < 65530 && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

struct Ganesha {
    child: Child,
    port: u16,
}

impl Ganesha {
    /// Serves `directory`, for writing too, once it answers.
    async fn start(directory: &Path) -> (Self, Arc<dyn Store>) {
        let port = free_ports();
        let ganesha = Self::at(directory, port);
        for _ in 0..300 {
            match open(&ganesha.url("&attributes=1"), Duration::from_millis(500)).await {
                Ok(store) if store.stat(&StorePath::root()).await.is_ok() => {
                    return (
                        ganesha,
                        open(&format!("nfs://127.0.0.1:{port}/export?mountport={}", port + 1), PATIENT)
                            .await
                            .unwrap(),
                    );
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        panic!("ganesha does not answer");
    }

    fn at(directory: &Path, port: u16) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/ganesha.sh");
        let child = Command::new(script)
            .args([directory.as_os_str(), port.to_string().as_ref(), "rw".as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn url(&self, options: &str) -> String {
        format!("nfs://127.0.0.1:{}/export?mountport={}{options}", self.port, self.port + 1)
    }

    fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ganesha_is_written_listed_and_proven() {
    if !as_root("upstream::ganesha_is_written_listed_and_proven") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (_ganesha, store) = Ganesha::start(directory.path()).await;
    writes_lists_replaces_and_removes(&store).await;
    signs_and_proves(&store).await;
    // Links and pipes, which only a real file system has.
    std::fs::write(directory.path().join("target"), b"x").unwrap();
    std::os::unix::fs::symlink("target", directory.path().join("link")).unwrap();
    std::os::unix::fs::symlink("dir", directory.path().join("up")).unwrap();
    assert_eq!(store.stat(&path("link")).await.unwrap().kind, Kind::Symlink);
    assert_eq!(store.read_link(&path("link")).await.unwrap(), b"target");
    let kind_of = async |at: &str| store.open(&path(at)).await.err().unwrap().kind;
    assert_eq!(kind_of("link").await, StoreErrorKind::Symlink);
    assert_eq!(kind_of("up/file").await, StoreErrorKind::Symlink);
    let mut writer = store.create(&path("link"), &path(".scratch")).await.unwrap();
    let mut attributes =
        nfs_verity::store::Attributes::of(&*store.open(&path("target")).await.unwrap()).await.unwrap();
    (attributes.mode, attributes.owner) = (0o4751, Some((7, 8)));
    attributes.mtime = nfs_verity::store::Time { seconds: 1_000_000_000, nanos: 5 };
    writer.write_at(0, b"mine").await.unwrap();
    writer.set_attributes(&attributes).await.unwrap();
    writer.commit().await.unwrap();
    let attr = store.stat(&path("link")).await.unwrap();
    assert_eq!((attr.kind, attr.size, attr.mode, attr.uid, attr.gid), (Kind::Regular, 4, 0o4751, 7, 8));
    assert_eq!(attr.mtime, attributes.mtime);
    assert_eq!(std::fs::read(directory.path().join("target")).unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ganesha_killed_under_load_and_brought_back_is_read_to_the_end() {
    if !as_root("upstream::ganesha_killed_under_load_and_brought_back_is_read_to_the_end") {
        return;
    }
    let site = Site::new();
    let bytes = content(3, 40 << 20);
    site.put("file", &bytes);
    site.sign(&[]);
    let (mut ganesha, _) = Ganesha::start(&site.tree()).await;
    let store = open(&ganesha.url(""), Duration::from_secs(2)).await.unwrap();
    let keyring = load_keyring(&site.trust(), FormatSet::NATIVE).unwrap();
    let export = Arc::new(export(store, &keyring).await.unwrap());
    let (handle, _) = export.resolve(b"file", &somebody()).await.unwrap();
    let (mut all, mut late, mut killed) = (Vec::new(), 0, false);
    while all.len() < bytes.len() {
        match export.read(handle.as_bytes(), all.len() as u64, 256 << 10, &somebody()).await {
            Ok(reply) => reply.data.into_parts().iter().for_each(|part| all.extend_from_slice(part)),
            Err(ExportError::Busy) => {
                late += 1;
                assert!(late < 60);
                if ganesha.child.try_wait().unwrap().is_some() {
                    ganesha = Ganesha::at(&site.tree(), ganesha.port);
                }
            }
            Err(other) => panic!("{other} at {}", all.len()),
        }
        if all.len() > 10 << 20 && !killed {
            killed = true;
            ganesha.stop();
        }
    }
    assert!(late > 0, "nobody noticed");
    assert!(all == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_a_gateway_is_proven_again() {
    let site = Site::new();
    let bytes = content(4, 3_000_001);
    site.put("pub/dir/file", &bytes);
    let mut wrong = content(44, 3_000_001);
    site.put("pub/dir/bad", &wrong);
    // The inner one proves the evidence of the outer one, too.
    let (key, below) = (site.key(), site.path("tree/pub"));
    let signed = nfs_verity([OsStr::new("sign"), "--key".as_ref(), key.as_ref(), below.as_ref()]);
    assert!(signed.status.success(), "{signed:?}");
    site.sign(&[]);
    wrong[2_000_000] ^= 1;
    site.put("pub/dir/bad", &wrong);
    let inner = site.serve(&[]);
    let store = open(&format!("nfs://{}/pub", inner.nfs), PATIENT).await.unwrap();
    let keyring = load_keyring(&site.trust(), FormatSet::NATIVE).unwrap();
    let export = export(store, &keyring).await.unwrap();
    assert_eq!(read_all(&export, "dir/file").await.unwrap(), bytes);
    assert!(read_all(&export, "dir/bad").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_and_came_back_is_read_on_from_where_it_was() {
    let memory = Memory::new();
    let (key, keyring) = key_and_trust();
    let bytes = content(5, 1 << 20);
    memory.put("f", &bytes).unwrap();
    let shared: Arc<dyn Store> = Arc::new(memory.clone());
    seal(&shared, "f", &bytes, Params::default(), &key).await;
    let server = Server::honest(&memory).await;
    let at = server.address.to_string();
    let store = open(&server.url(""), Duration::from_millis(300)).await.unwrap();
    let export = export(store, &keyring).await.unwrap();
    assert_eq!(read_all(&export, "f").await.unwrap(), bytes);
    drop(server);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(read_all(&export, "f").await.unwrap_err(), ExportError::Busy);
    let _server = Server::start(&memory, &at, Arc::new(|_, results| Twist::Results(results))).await;
    let mut read = Err(ExportError::Busy);
    for _ in 0..50 {
        read = read_all(&export, "f").await;
        if read.is_ok() {
            break;
        }
    }
    assert_eq!(read.unwrap(), bytes);
}

#[tokio::test]
async fn a_server_that_is_down_at_first_is_reached_later() {
    let memory = Memory::new();
    memory.put("f", b"x").unwrap();
    let at = format!("127.0.0.1:{}", free_ports());
    let store = open(&format!("nfs://{at}/?source=any"), Duration::from_millis(200)).await.unwrap();
    assert_eq!(store.stat(&path("f")).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let _server = Server::start(&memory, &at, Arc::new(|_, results| Twist::Results(results))).await;
    for _ in 0..50 {
        if store.stat(&path("f")).await.is_ok() {
            return;
        }
    }
    panic!("it is never reached");
}

#[tokio::test]
async fn data_are_read_in_the_callers_name_where_it_is_set_up_so() {
    let memory = Memory::new();
    memory.put("f", b"secret").unwrap();
    let last = Arc::new(AtomicU32::new(0));
    let noted = last.clone();
    let twist = move |asked: &super::nfs_server::Asked, results: Vec<u8>| {
        if asked.procedure == READ || asked.procedure == super::nfs_server::READDIRPLUS {
            noted.store(asked.uid, Ordering::Relaxed);
            if asked.uid == 666 {
                return Twist::Results([13u32, 0].map(u32::to_be_bytes).concat());
            }
        } else {
            assert_eq!(asked.uid, 5);
        }
        Twist::Results(results)
    };
    let server = Server::start(&memory, "127.0.0.1:0", Arc::new(twist)).await;
    let user = |uid| nfs_verity::store::Identity { uid, gid: 1, gids: vec![] };
    for (mode, seen) in [("caller", 77), ("service", 5)] {
        let store = open(&server.url(&format!("&uid=5&gid=5&identity={mode}")), PATIENT).await.unwrap();
        let file = store.open(&path("f")).await.unwrap();
        let read = acting_as(user(77), async { file.read_at(0, 100).await }).await;
        assert_eq!(read.unwrap(), &b"secret"[..]);
        assert_eq!(last.load(Ordering::Relaxed), seen, "{mode}");
        acting_as(user(77), async { store.read_dir(&StorePath::root(), 0, 9).await }).await.unwrap();
        assert_eq!(last.load(Ordering::Relaxed), seen, "{mode}");
        file.read_at(0, 100).await.unwrap();
        assert_eq!(last.load(Ordering::Relaxed), 5, "{mode}");
        let refused = acting_as(user(666), async { file.read_at(0, 100).await }).await;
        match mode {
            "caller" => assert_eq!(refused.unwrap_err().kind, StoreErrorKind::Access),
            _ => assert_eq!(refused.unwrap(), &b"secret"[..]),
        }
    }
    // Through an export: data and listings as the client, what proves them as the service.
    let (key, keyring) = key_and_trust();
    let shared: Arc<dyn Store> = Arc::new(memory.clone());
    seal(&shared, "f", b"secret", Params::default(), &key).await;
    let store = open(&server.url("&uid=5&gid=5&identity=caller"), PATIENT).await.unwrap();
    let warning = export_in(Mode::Warn, store.clone(), &keyring).await.unwrap();
    let export = export(store, &keyring).await.unwrap();
    assert_eq!(read_all(&export, "f").await.unwrap(), b"secret");
    assert_eq!(last.load(Ordering::Relaxed), 1000);
    export.read_dir(export.root().as_bytes(), 0, 9, &somebody()).await.unwrap();
    assert_eq!(last.load(Ordering::Relaxed), 1000);
    // Nobody vouches for this, and it is served all the same.
    memory.put("unsigned", b"secret, too").unwrap();
    let (handle, _) = warning.resolve(b"unsigned", &somebody()).await.unwrap();
    last.store(0, Ordering::Relaxed);
    let reply = warning.read(handle.as_bytes(), 0, 100, &somebody()).await.unwrap();
    assert_eq!(reply.data.into_parts().concat(), b"secret, too");
    assert_eq!(last.load(Ordering::Relaxed), 1000);
}
