//! The same calls to our front end and to nfs3_server, over the same export.
//!
//! Random sequences of calls go to both servers, one call at a time, and the answers are compared
//! field by field. Handles must stand for the same objects on both sides; verifiers are each server's
//! own. Every other difference must be explained by a row of [`ROWS`], which names what in RFC 1813
//! makes our answer right. A row that explains nothing any more is an error, too.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use nfs_verity::carrier::CarrierKind;
use nfs_verity::event::{Client as Who, Silent};
use nfs_verity::export::{
    Caller, Export, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::proto::mount3::Mount3;
use nfs_verity::proto::nfs3::Nfs3;
use nfs_verity::proto::rpc::{Limits, Program, Server};
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Kind, Memory, Store};
use nfs_verity::verity::Params;
use tokio::runtime::Runtime;

use super::adapter;
use super::answer::{Answer, Call, Pair, bytes, number};
use super::explained::{OK, OURS, ROWS, THEIRS, Twins, differences};
use super::support::{Client, Random, content, key_and_trust, receive_record, seal, send_record};

#[test]
fn both_servers_answer_the_same_calls_alike() {
    let mut session = Session::new(Scene::new());
    (0..800).for_each(|seed| session.sequence(seed));
}

#[test]
fn long_both_servers_answer_the_same_calls_alike_and_every_row_is_needed() {
    let mut session = Session::new(Scene::new());
    (1_000_000..1_006_000).for_each(|seed| session.sequence(seed));
    let idle: Vec<&str> =
        ROWS.iter().zip(&session.fired).filter(|(_, fired)| **fired == 0).map(|(row, _)| row.name).collect();
    assert!(idle.is_empty(), "rows that explain nothing: {idle:#?}");
    for (row, fired) in ROWS.iter().zip(&session.fired) {
        println!("{fired:>8} {} ({})", row.name, row.section);
    }
}

/// The user who calls.
const USER: u32 = 1000;
/// Files that come and go.
const FLEETING: u64 = 4;
const MODES: [u32; 7] = [0o000, 0o001, 0o004, 0o040, 0o400, 0o1777, 0o4755];
const SIZES: [usize; 8] = [0, 1, 4095, 4096, 4097, 65536, 65537, 300_000];

/// One export with two servers in front of it.
struct Scene {
    /// Runs both servers.
    _runtime: Runtime,
    store: Memory,
    servers: Pair<SocketAddr>,
    /// What is in it; the directory with the many names comes last.
    paths: Vec<Vec<u8>>,
    /// Those that are not in the directory with the many names.
    few: u64,
}

impl Scene {
    fn new() -> Self {
        let (store, runtime) = (Memory::new(), Runtime::new().unwrap());
        let (mut paths, keyring) = runtime.block_on(plant(&store));
        let few = paths.len() as u64;
        for n in 0..300 {
            let path = format!("many/{n}{}", "x".repeat(n * 37 % 250));
            store.put(&path, b"nobody signed this").unwrap();
            paths.push(path.into_bytes());
        }
        let options = ExportOptions {
            store: Arc::new(store.clone()),
            replicas: Vec::new(),
            waits: false,
            repair: None,
            namespace: String::new(),
            carriers: vec![CarrierKind::Sidecar],
            whole_files: WholeFiles::default(),
            keyring,
            mode: Mode::Enforce,
            identity: Identity::default(),
            cache_bytes: 1 << 20,
            disk_cache: None,
            xattrs: Xattrs::default(),
            proof_directory: ProofDirectory::default(),
            handle_key: HandleKey::new(&[7; 32]),
            sink: Arc::new(Silent),
        };
        let servers = runtime.block_on(async {
            let export = Arc::new(Export::new(options).await.unwrap());
            let programs: Vec<Arc<dyn Program>> =
                vec![Arc::new(Nfs3::new(export.clone())), Arc::new(Mount3::new(export.clone()))];
            let any = ([127, 0, 0, 1], 0).into();
            let server = Server::bind(any, programs, Limits::default(), Arc::new(Silent)).await.unwrap();
            let ours = server.local_addr();
            tokio::spawn(server.run(std::future::pending()));
            let client = Who { address: ours, uid: Some(USER), gid: Some(USER) };
            let theirs = adapter::serve(export, Caller { client, gids: Vec::new() }).await.unwrap();
            [ours, theirs]
        });
        Self { _runtime: runtime, store, servers, paths, few }
    }
}

/// Fills the store with all sorts of objects; gives their paths and the keys to trust.
async fn plant(store: &Memory) -> (Vec<Vec<u8>>, Keyring) {
    let (key, keyring) = key_and_trust();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let mut paths: Vec<Vec<u8>> = Vec::new();

    let sizes = SIZES.map(|size| (format!("data/{size}"), size));
    let modes = MODES.map(|mode| (format!("modes/{mode:o}"), 10));
    let others = ["data/damaged", "data/cut", "odd/sp ace ", "closed/inside/file", "a/b/c/d/e/f/g/file"];
    let others = others.map(|path| (path.to_owned(), 50_000));
    for (path, size) in sizes.into_iter().chain(modes).chain(others) {
        let content = content(size as u64, size);
        store.put(&path, &content).unwrap();
        seal(&shared, &path, &content, Params::default(), &key).await;
        paths.push(path.into_bytes());
    }
    store.mutate("data/damaged", |content| content[20_000] ^= 1).unwrap();
    store.mutate("data/cut", |content| content.truncate(30_000)).unwrap();
    for (mode, owner) in MODES.into_iter().zip([0, USER].into_iter().cycle()) {
        store.set_attr(format!("modes/{mode:o}"), mode, owner, owner).unwrap();
    }

    let names = [b"\xff\xfe", &b"new\nline"[..], b"-", b"...", b"\xe4\xb8\xad", &[b'n'; 255]];
    let odd = names.into_iter().map(|name| [b"odd/", name].concat());
    let fleeting = (0..FLEETING).map(|n| format!("fleeting/{n}").into_bytes());
    for path in odd.chain(fleeting).chain([b"data/unsigned".to_vec()]) {
        store.put(&path, b"nobody signed this").unwrap();
        paths.push(path);
    }
    for (path, target) in [
        ("links/up", &b"../data/4096"[..]),
        ("links/out", b"/etc/passwd"),
        ("links/odd", b"\xff \n"),
        ("links/long", &[b't'; 4000]),
    ] {
        store.put_symlink(path, target).unwrap();
        paths.push(path.into());
    }
    for (path, kind) in [
        ("nodes/pipe", Kind::Fifo),
        ("nodes/socket", Kind::Socket),
        ("nodes/block", Kind::BlockDevice),
        ("nodes/char", Kind::CharDevice),
    ] {
        store.put_special(path, kind).unwrap();
        paths.push(path.into());
    }
    for path in [&b"empty"[..], b"listed", b"odd/\xc0dir", b"odd/dir ", b"many", b"closed"] {
        store.put_dir(path).unwrap();
        paths.push(path.to_vec());
    }
    store.set_attr("closed", 0o700, 0, 0).unwrap();
    store.set_attr("listed", 0o744, 0, 0).unwrap();
    (paths, keyring)
}

/// An object that both servers gave a handle of.
#[derive(Clone)]
struct Object {
    handle: Pair<Bytes>,
    /// Cookies seen in its listings, and the last verifiers.
    cookies: Vec<u64>,
    verifier: Pair<u64>,
}

/// Asks both servers, and keeps what was learned.
struct Session {
    scene: Scene,
    clients: Pair<Client>,
    twins: Twins,
    /// How often each row explained something.
    fired: Vec<u64>,
    random: Random,
    /// What the running sequence has found; the root comes first.
    objects: Vec<Object>,
    /// The calls of the running sequence.
    history: Vec<Call>,
}

impl Session {
    fn new(scene: Scene) -> Self {
        Self {
            clients: scene.servers.map(Client::connect),
            scene,
            twins: Twins::default(),
            fired: vec![0; ROWS.len()],
            random: Random::new(0),
            objects: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The sequence of calls that belongs to `seed`: a mount, the way to some path, and a few more.
    fn sequence(&mut self, seed: u64) {
        self.random = Random::new(seed);
        self.objects.clear();
        self.history.clear();
        self.ask(Call::Mount { path: Bytes::from_static(b"/") });
        for name in self.path().split(|b| *b == b'/') {
            let directory = self.objects[self.objects.len() - 1].handle.clone();
            self.ask(Call::Lookup { directory, name: Bytes::copy_from_slice(name) });
        }
        for _ in 0..3 + self.below(6) {
            match self.below(20) {
                0 => self.change(),
                1 => self.walk(),
                _ => {
                    let call = self.call();
                    self.ask(call);
                }
            }
        }
    }

    /// Asks both, compares, and learns.
    fn ask(&mut self, call: Call) {
        self.history.push(call.clone());
        let answers = [OURS, THEIRS].map(|side| self.ask_one(side, &call));
        for difference in differences(&call, &answers, &mut self.twins) {
            let rows: Vec<_> = (0..ROWS.len()).filter(|row| (ROWS[*row].explains)(&difference)).collect();
            let (field, answers) = (difference.field, answers.each_ref().map(brief));
            let [ours, theirs] = difference.values.each_ref().map(brief);
            assert!(
                !rows.is_empty(),
                "{field} differs: {ours} and {theirs}\n\n{answers:#?}\n\nafter {:#?}",
                self.history.iter().map(brief).collect::<Vec<_>>()
            );
            rows.into_iter().for_each(|row| self.fired[row] += 1);
        }
        self.learn(&call, &answers);
    }

    fn ask_one(&mut self, side: usize, call: &Call) -> Answer {
        let client = &mut self.clients[side];
        let (program, procedure) = call.number();
        let record = client.encode(program, procedure, |w| call.write(side, w));
        send_record(&mut client.stream, &record);
        let reply = receive_record(&mut client.stream).expect("a server has hung up");
        let answer = Answer::decode(call, u32::from_be_bytes(record[..4].try_into().unwrap()), &reply);
        if let (OURS, OK, Some(most)) = (side, answer.status, call.most()) {
            assert!(answer.len <= most as usize, "{} bytes for {call:?}", answer.len);
        }
        answer
    }

    /// Keeps handles, cookies and verifiers.
    fn learn(&mut self, call: &Call, answers: &Pair<Answer>) {
        let [ours, theirs] = answers;
        if ours.status != OK || theirs.status != OK {
            return;
        }
        if let (true, Some(handle)) = (call.most().is_some(), call.handle())
            && let Some(object) = self.objects.iter_mut().find(|object| object.handle == *handle)
        {
            object.verifier = [ours.verifier, theirs.verifier];
            object.cookies.extend(ours.entries.iter().filter_map(|entry| number(entry, "cookie")));
        }
        let entries = ours.entries.iter().zip(&theirs.entries);
        let one_in = ours.entries.len() as u64 / 8 + 1;
        for (ours, theirs) in std::iter::once((&ours.fields, &theirs.fields)).chain(entries) {
            if let (Some(ours), Some(theirs)) = (bytes(ours, "handle"), bytes(theirs, "handle"))
                && self.random.below(one_in) == 0
            {
                let handle = [ours.clone(), theirs.clone()];
                self.objects.push(Object { handle, cookies: vec![0], verifier: [0; 2] });
            }
        }
    }

    /// Somebody changes the tree.
    fn change(&mut self) {
        let path = format!("fleeting/{}", self.below(FLEETING));
        if self.below(2) == 0 || self.scene.store.remove(&path).is_err() {
            self.scene.store.put(&path, b"another").unwrap();
        }
    }

    /// Lists a directory to its end on both sides, each with its own cookies.
    fn walk(&mut self) {
        let directory = self.object().handle;
        let (plus, count) = (self.below(2) == 0, 700 + self.below(8000) as u32);
        let lists = [OURS, THEIRS].map(|side| {
            let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, [0; 2]);
            loop {
                let directory = directory.clone();
                let call = match plus {
                    true => Call::ReadDirPlus { directory, cookie, verifier, names: count, count },
                    false => Call::ReadDir { directory, cookie, verifier, count },
                };
                let answer = self.ask_one(side, &call);
                names.extend(answer.entries.iter().map(|entry| bytes(entry, "name").cloned()));
                match answer.entries.last().and_then(|entry| number(entry, "cookie")) {
                    Some(last) if number(&answer.fields, "eof") == Some(0) => cookie = last,
                    _ => return (answer.status, names),
                }
                verifier = [answer.verifier; 2];
            }
        });
        assert_eq!(lists[OURS], lists[THEIRS], "{count} bytes at a time, after {:?}", self.history);
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    fn one_of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize].clone()
    }

    fn path(&mut self) -> Vec<u8> {
        let all = self.scene.paths.len() as u64;
        let limit = if self.below(4) == 0 { all } else { self.scene.few };
        self.scene.paths[self.random.below(limit) as usize].clone()
    }

    fn object(&mut self) -> Object {
        self.objects[self.random.below(self.objects.len() as u64) as usize].clone()
    }

    fn handle(&mut self) -> Pair<Bytes> {
        let known = self.object().handle;
        if self.below(8) > 0 {
            return known;
        }
        let (at, bit, len) = (self.below(64) as usize, self.below(8), self.below(64) as usize);
        let same = |len| [Bytes::from(content(at as u64, len)), Bytes::from(content(at as u64, len))];
        match self.below(7) {
            0 => [Bytes::new(), Bytes::new()],
            1 => same(len),
            2 => same(65 + len),
            3 => known.map(|handle| handle.slice(..handle.len() - 1 - at % 8)),
            4 => known.map(|handle| [&handle[..], b"x"].concat().into()),
            5 => [known[THEIRS].clone(), known[OURS].clone()],
            _ => known.map(|handle| {
                let mut handle = handle.to_vec();
                let at = at % handle.len();
                handle[at] ^= 1 << bit;
                handle.into()
            }),
        }
    }

    fn call(&mut self) -> Call {
        let handle = self.handle();
        match self.below(12) {
            0 => Call::Mount { path: self.mount_path().into() },
            1 => Call::GetAttr { object: handle },
            2 | 3 => Call::Lookup { directory: handle, name: self.name().into() },
            4 => Call::Access { object: handle, wanted: self.wanted() },
            5 => Call::ReadLink { link: handle },
            6 => Call::FsInfo { object: handle },
            7 | 8 => Call::Read { file: handle, offset: self.offset(), count: self.count() },
            9 => {
                let (directory, cookie, verifier) = self.position(handle);
                Call::ReadDir { directory, cookie, verifier, count: self.count() }
            }
            _ => {
                let (directory, cookie, verifier) = self.position(handle);
                let (names, count) = (self.count(), self.count());
                Call::ReadDirPlus { directory, cookie, verifier, names, count }
            }
        }
    }

    /// A directory, a cookie in it or none, and the verifiers that go with it or do not.
    fn position(&mut self, handle: Pair<Bytes>) -> (Pair<Bytes>, u64, Pair<u64>) {
        let object = self.objects.iter().find(|object| object.handle == handle).cloned();
        let (cookies, verifier) =
            object.map_or((vec![0], [0; 2]), |object| (object.cookies, object.verifier));
        let cookie = match self.below(6) {
            0 => self.one_of(&[1, 2, 7, u64::from(u32::MAX), u64::MAX]),
            _ => self.one_of(&cookies),
        };
        let verifier = match self.below(8) {
            0 => [0; 2],
            1 => [0xffcc_ffcc_ffcc_ffcc; 2],
            _ => verifier,
        };
        (handle, cookie, verifier)
    }

    fn name(&mut self) -> Vec<u8> {
        let odd = [&b""[..], b".", b"..", b".nfs-verity", b"none", b"a/b", b"nul\0", b"\xff", b" "];
        match self.below(4) {
            0 => self.one_of(&odd).to_vec(),
            1 => vec![b'n'; self.one_of(&[254, 255, 256, 4096])],
            _ => {
                let path = self.path();
                let names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
                self.one_of(&names).to_vec()
            }
        }
    }

    fn mount_path(&mut self) -> Vec<u8> {
        let path = self.path();
        let directory = path.iter().rposition(|b| *b == b'/').map_or(&b""[..], |at| &path[..at]);
        match self.below(9) {
            0 => [b"/", &path[..], b"/.."].concat(),
            1 => [b"//", directory, b"//."].concat(),
            2 => [b"/", directory, b" "].concat(),
            3 => directory.to_vec(),
            4 => [b"/", directory, b"/", &self.name()[..]].concat(),
            5 => [b"/", directory, b"/links/up/x"].concat(),
            6 => [b"/", directory].concat(),
            7 => vec![b'/'; 1000 + self.below(50) as usize],
            _ => [b"/", &path[..]].concat(),
        }
    }

    fn wanted(&mut self) -> u32 {
        match self.below(4) {
            0 => self.random.next() as u32,
            _ => self.one_of(&[0x3f, 0x01, 0x02, 0x20, 0x1c, 0]),
        }
    }

    fn offset(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(310_000),
            1 => self.one_of(&[u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32, i64::MAX as u64]),
            2 => (self.one_of(&SIZES) as u64 + self.below(3)).saturating_sub(1),
            _ => self.below(80) * 4096,
        }
    }

    fn count(&mut self) -> u32 {
        match self.below(5) {
            0 => self.below(2_000) as u32,
            1 => 96 + self.below(60) as u32,
            2 => self.below(400_000) as u32,
            3 => self.one_of(&[0, 1, u32::MAX, 1 << 20, (1 << 20) + 1]),
            _ => self.one_of(&[512, 4096, 8192, 65536]),
        }
    }
}

/// What failed, without all the bytes of a file.
fn brief(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take(1200).collect()
}
