//! What several kinds of tests need: keys, signed trees, a running gateway, and a bare client.

#![allow(dead_code, reason = "each test crate uses its part")]

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs_verity::carrier::bundle::TREE_OFFSET;
use nfs_verity::carrier::{Carrier, Evidence, Sidecar};
use nfs_verity::sign::{KeyAlgorithm, Keyring, SigningKey, Statement, TrustedKey, generate, sign_statement};
use nfs_verity::store::{Store, StorePath};
use nfs_verity::verity::{Descriptor, Params, reference};
use nfs_verity::wire::{Reader, Writer};

/// The command under test.
pub const COMMAND: &str = env!("CARGO_BIN_EXE_nfs-verity");

/// Runs the command to its end.
pub fn nfs_verity<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    Command::new(COMMAND).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Whether this process is root's. Where it is not, the test `name` of this program runs once more through
/// `sudo -n`, and fails here when it fails there.
pub fn as_root(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        again(name, Command::new("sudo").arg("-n"));
        return false;
    }
    true
}

/// Whether this process has a network of its own, where every port is free. Where it has not, the test `name`
/// runs once more in one, and fails here when it fails there.
pub fn with_own_network(name: &str) -> bool {
    const OWN: &str = "NFS_VERITY_TEST_OWN_NETWORK";
    if std::env::var_os(OWN).is_none() {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        unshare.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).env("PATH", path);
        again(name, unshare.env(OWN, "1"));
        return false;
    }
    true
}

/// Runs the test `name` of this program by `through`.
fn again(name: &str, through: &mut Command) {
    let program = std::env::current_exe().unwrap();
    through.arg(program).args(["--exact", name, "--nocapture"]).stdin(Stdio::null());
    let output = through.output().unwrap_or_else(|error| {
        panic!("{name} needs root, or a program that is not there: {through:?}: {error}")
    });
    let told = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    let passed = output.status.success() && told.contains("1 passed");
    assert!(passed, "{name} needs root, or it failed: {through:?}: {told}");
}

/// Bytes of which no block is like another; `seed` tells files apart.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// SplitMix64: the same numbers for the same seed.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The seed of a random test: a new one each time, or that of `NFS_VERITY_TEST_SEED`. It is printed.
pub fn seed() -> u64 {
    const VARIABLE: &str = "NFS_VERITY_TEST_SEED";
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE} must be a number")),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("{VARIABLE}={seed}");
    seed
}

/// A temporary place with a tree, a key pair `release` and a trust directory that holds its public half.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tree", "trust", "state"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let pair = generate(KeyAlgorithm::Ed25519).unwrap();
        write_private(&dir.path().join("release.key"), pair.private_pem.as_bytes());
        std::fs::write(dir.path().join("trust/release.pub"), &pair.public_pem).unwrap();
        let site = Self { dir };
        // Where the tests run as root, the files are everybody's to read, as in a public tree.
        site
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    pub fn key(&self) -> PathBuf {
        self.path("release.key")
    }

    pub fn trust(&self) -> PathBuf {
        self.path("trust")
    }

    /// Writes a file of the tree, with the directories above it.
    pub fn put(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.tree().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Signs the whole tree with `nfs-verity sign`, which must succeed.
    pub fn sign(&self, more: &[&str]) {
        let (key, tree) = (self.key(), self.tree());
        let args = [OsStr::new("sign"), "--key".as_ref(), key.as_ref(), tree.as_ref()];
        let output = nfs_verity(args.into_iter().chain(more.iter().map(OsStr::new)));
        assert!(output.status.success(), "{output:?}");
    }

    /// Where the evidence of a file lies.
    pub fn evidence(&self, name: impl AsRef<Path>) -> PathBuf {
        self.tree().join(".nfs-verity").join(name)
    }

    /// Serves the tree with `nfs-verity serve` on free ports.
    pub fn serve(&self, more: &[&str]) -> Served {
        self.serve_as(&mut Command::new(COMMAND), more)
    }

    /// The same, with the arguments given to a command that runs `nfs-verity` with them.
    pub fn serve_as(&self, command: &mut Command, more: &[&str]) -> Served {
        let (tree, trust, state) = (self.tree(), self.trust(), self.path("state"));
        let args =
            [OsStr::new("serve"), "--store".as_ref(), tree.as_ref(), "--trust".as_ref(), trust.as_ref()];
        let mut args: Vec<&OsStr> = args.to_vec();
        if !more.contains(&"--state") {
            args.extend([OsStr::new("--state"), state.as_ref()]);
        }
        for (flag, value) in [("--listen", "127.0.0.1:0"), ("--monitor", "127.0.0.1:0")] {
            if !more.contains(&flag) {
                args.extend([OsStr::new(flag), OsStr::new(value)]);
            }
        }
        args.extend(more.iter().map(OsStr::new));
        Served::spawn(command.args(args))
    }
}

/// Writes a file that its owner alone may read, as private keys must be.
pub fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut file =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    file.write_all(bytes).unwrap();
}

/// A gateway in a process of its own, killed when dropped.
pub struct Served {
    pub child: Child,
    pub nfs: SocketAddr,
    pub monitor: SocketAddr,
}

impl Served {
    pub fn start(args: &[&OsStr]) -> Self {
        Self::spawn(Command::new(COMMAND).args(args))
    }

    /// Starts a gateway with a command of one's own and waits until it is ready.
    pub fn spawn(command: &mut Command) -> Self {
        if command.get_envs().all(|(name, _)| name != "RUST_LOG") {
            command.env("RUST_LOG", "error");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{line:?}");
        let mut address = |name: &str| words.next().unwrap().strip_prefix(name).unwrap().parse().unwrap();
        let (nfs, monitor) = (address("nfs="), address("monitor="));
        Self { child, nfs, monitor }
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// The body of a page of the monitor.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.monitor).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The value of a metric, as in `nfs_verity_reads_total` or with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits for the end of the process; its exit status, `None` when a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        eventually("the gateway ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn most_resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// Asks it to end and gives its exit code, `None` when a signal ended it.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut status = None;
        eventually("the gateway ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, for as long as a loaded machine may take.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub const NFS: u32 = 100_003;
pub const MOUNT: u32 = 100_005;

/// An NFSv3 status that is not OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

pub const NFS3ERR_NOENT: Status = Status(2);
pub const NFS3ERR_IO: Status = Status(5);
pub const NFS3ERR_ACCES: Status = Status(13);
pub const NFS3ERR_ROFS: Status = Status(30);
pub const NFS3ERR_STALE: Status = Status(70);
pub const NFS3ERR_BADHANDLE: Status = Status(10001);

/// A bare NFSv3 client: one call at a time.
pub struct Client {
    pub stream: TcpStream,
    xid: u32,
    /// The AUTH_SYS user and group.
    pub uid: u32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, xid: 0, uid: 1000 }
    }

    /// The bytes of a call, without the record mark.
    pub fn encode(&mut self, program: u32, procedure: u32, arguments: impl FnOnce(&mut Writer)) -> Vec<u8> {
        self.xid += 1;
        let mut call = Writer::default();
        call.u32(self.xid).u32(0).u32(2).u32(program).u32(3).u32(procedure);
        call.u32(1).u32(24).u32(0).opaque(b"test").u32(self.uid).u32(self.uid).u32(0).u64(0);
        arguments(&mut call);
        call.finish().concat()
    }

    /// One call; the results of an accepted reply.
    pub fn call(&mut self, program: u32, procedure: u32, arguments: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let call = self.encode(program, procedure, arguments);
        send_record(&mut self.stream, &call);
        let reply = receive_record(&mut self.stream).unwrap();
        let mut reader = Reader::new(&reply);
        assert_eq!(reader.u32().unwrap(), self.xid);
        assert_eq!((reader.u32().unwrap(), reader.u32().unwrap()), (1, 0), "accepted");
        reader.u32().unwrap();
        reader.opaque(400).unwrap();
        assert_eq!(reader.u32().unwrap(), 0, "executed");
        reader.rest().to_vec()
    }

    /// The handle of an exported directory.
    pub fn mount(&mut self, path: &[u8]) -> Result<Vec<u8>, Status> {
        let reply = self.call(MOUNT, 1, |w| _ = w.opaque(path));
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        Ok(reader.opaque(64).unwrap().to_vec())
    }

    /// Handle and size of `name` in a directory.
    pub fn lookup(&mut self, directory: &[u8], name: &[u8]) -> Result<(Vec<u8>, u64), Status> {
        let reply = self.call(NFS, 3, |w| _ = w.opaque(directory).opaque(name));
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        let handle = reader.opaque(64).unwrap().to_vec();
        Ok((handle, size(&mut reader).unwrap()))
    }

    /// The handle of a path below the root.
    pub fn find(&mut self, path: &str) -> Result<Vec<u8>, Status> {
        let root = self.mount(b"/")?;
        path.split('/').try_fold(root, |handle, name| Ok(self.lookup(&handle, name.as_bytes())?.0))
    }

    /// The size that GETATTR tells.
    pub fn getattr(&mut self, handle: &[u8]) -> Result<u64, Status> {
        let reply = self.call(NFS, 1, |w| _ = w.opaque(handle));
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        let attr = reader.fixed(84).unwrap();
        Ok(u64::from_be_bytes(attr[20..28].try_into().unwrap()))
    }

    /// What ACCESS grants of `wanted`.
    pub fn access(&mut self, handle: &[u8], wanted: u32) -> Result<u32, Status> {
        let reply = self.call(NFS, 4, |w| _ = w.opaque(handle).u32(wanted));
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        size(&mut reader);
        Ok(reader.u32().unwrap())
    }

    /// Data, and whether it reaches the end of the file.
    pub fn read(&mut self, file: &[u8], offset: u64, count: u32) -> Result<(Vec<u8>, bool), Status> {
        let reply = self.call(NFS, 6, |w| _ = w.opaque(file).u64(offset).u32(count));
        let mut reader = Reader::new(&reply);
        status(&mut reader)?;
        size(&mut reader);
        let returned = reader.u32().unwrap();
        let eof = reader.bool().unwrap();
        let data = reader.opaque(count).unwrap().to_vec();
        assert_eq!(data.len(), returned as usize);
        Ok((data, eof))
    }

    /// The whole file in READs of `step` bytes.
    pub fn read_all(&mut self, file: &[u8], step: u32) -> Result<Vec<u8>, Status> {
        let mut all = Vec::new();
        loop {
            let (data, eof) = self.read(file, all.len() as u64, step)?;
            assert!(eof || !data.is_empty(), "no progress at {}", all.len());
            all.extend(data);
            if eof {
                return Ok(all);
            }
        }
    }

    /// All names of a directory, with READDIR calls of `count` bytes.
    pub fn names(&mut self, directory: &[u8], count: u32) -> Result<Vec<Vec<u8>>, Status> {
        let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, [0; 8]);
        loop {
            let reply = self.call(NFS, 16, |w| {
                w.opaque(directory).u64(cookie).fixed(&verifier).u32(count);
            });
            let mut reader = Reader::new(&reply);
            status(&mut reader)?;
            size(&mut reader);
            verifier.copy_from_slice(reader.fixed(8).unwrap());
            while reader.bool().unwrap() {
                reader.u64().unwrap();
                names.push(reader.opaque(255).unwrap().to_vec());
                cookie = reader.u64().unwrap();
            }
            if reader.bool().unwrap() {
                return Ok(names);
            }
        }
    }
}

fn status(reader: &mut Reader<'_>) -> Result<(), Status> {
    match reader.u32().unwrap() {
        0 => Ok(()),
        status => Err(Status(status)),
    }
}

/// The size out of optional attributes.
fn size(reader: &mut Reader<'_>) -> Option<u64> {
    if !reader.bool().unwrap() {
        return None;
    }
    let attr = reader.fixed(84).unwrap();
    Some(u64::from_be_bytes(attr[20..28].try_into().unwrap()))
}

/// Sends one record of one fragment.
pub fn send_record(stream: &mut impl Write, record: &[u8]) {
    let mark = 0x8000_0000 | u32::try_from(record.len()).unwrap();
    stream.write_all(&[&mark.to_be_bytes()[..], record].concat()).unwrap();
}

/// Receives one record of one fragment; `None` when the peer has closed.
pub fn receive_record(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let mut record = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
    stream.read_exact(&mut record).ok()?;
    Some(record)
}

/// A key with the keyring that trusts it alone.
pub fn key_and_trust() -> (SigningKey, Keyring) {
    let pair = generate(KeyAlgorithm::Ed25519).unwrap();
    let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
    let trusted = TrustedKey::new(key.public_key().clone(), "test");
    (key, Keyring::new(vec![trusted]))
}

/// Signs `content` as the file `path` of any store, with the reference implementation of the tree.
pub async fn seal(store: &Arc<dyn Store>, path: &str, content: &[u8], params: Params, key: &SigningKey) {
    seal_with(store, path, content, params, key, |_| ()).await;
}

/// The same with a statement that is changed before it is signed.
pub async fn seal_with(
    store: &Arc<dyn Store>,
    path: &str,
    content: &[u8],
    params: Params,
    key: &SigningKey,
    change: impl FnOnce(&mut Statement),
) {
    let path = StorePath::parse(path.as_bytes()).unwrap();
    let (root_hash, tree) = reference::root_and_tree(content, &params);
    let descriptor = Descriptor { params, size: content.len() as u64, root_hash };
    let mut statement = Statement {
        namespace: String::new(),
        path: path.as_bytes().to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: params.block_size,
        version: 1,
        expires: None,
        signed: None,
    };
    change(&mut statement);
    let evidence = Evidence {
        descriptor: Some(Bytes::copy_from_slice(&descriptor.encode())),
        statement: Some(Bytes::from(sign_statement(&statement, &[key]).unwrap())),
        ..Evidence::default()
    };
    let mut writer = Sidecar::new(store.clone()).create(&path, TREE_OFFSET).await.unwrap();
    writer.push(0, &tree);
    writer.commit(&evidence).await.unwrap();
}
