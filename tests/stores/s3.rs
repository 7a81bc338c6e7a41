//! Buckets over real HTTP: signed, served, shared by gateways, damaged, changed and taken away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nfs_verity::config::load_keyring;
use nfs_verity::event::{Event, Sink};
use nfs_verity::policy::Mode;
use nfs_verity::sign::FormatSet;
use nfs_verity::store::{OpenOptions, Store, StoreAddress, StoreErrorKind, StorePath};
use nfs_verity::wire::Reader;

use crate::s3_server::{Kind, S3};
use crate::scene::Gate;
use crate::support::{Client, NFS, NFS3ERR_IO, Random, Site, Status, content, eventually};

const JUKEBOX: Status = Status(10008);

struct Deaf;

impl Sink for Deaf {
    fn emit(&self, _: &Event<'_>) {}
}

async fn open(url: &str) -> Arc<dyn Store> {
    let options = OpenOptions { timeout: Duration::from_secs(20), sink: Arc::new(Deaf) };
    StoreAddress::parse(url.as_ref()).unwrap().open(&options).await.unwrap()
}

fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

/// Every way to start, with a signed bucket of these files.
fn signed(kind: Kind, site: &Site, files: &[(&str, Vec<u8>)]) -> S3 {
    let server = S3::start(kind);
    for (name, bytes) in files {
        server.put(name, bytes);
    }
    let (key, url) = (site.key().display().to_string(), server.url(""));
    server.run(&["sign", "--key", &key, &url]);
    server
}

#[test]
fn a_bucket_is_signed_resumed_verified_and_served_and_damage_is_refused() {
    for kind in [Kind::Moto, Kind::S3s] {
        let site = Site::new();
        let files = [
            ("empty", Vec::new()),
            ("a/b/small", content(1, 5000)),
            ("a/large", content(2, 3_000_001)),
            ("name with spaces & signs+%41", content(3, 9)),
        ];
        let server = signed(kind, &site, &files);
        let (key, url) = (site.key().display().to_string(), server.url(""));
        let again = server.run(&["sign", "--json", "--key", &key, &url]);
        assert!(again.contains("\"unchanged\":4") && again.contains("\"signed\":0"), "{kind:?}: {again}");
        let trust = site.trust().display().to_string();
        server.run(&["verify", "--trust", &trust, &url]);

        let served = server.serve(&site, "one", &[]);
        let mut client = Client::connect(served.nfs);
        let root = client.mount(b"/").unwrap();
        let mut names = client.names(&root, 4096).unwrap();
        names.sort();
        assert_eq!(names, [&b"."[..], b"..", b"a", b"empty", b"name with spaces & signs+%41"], "{kind:?}");
        for (name, bytes) in &files {
            let mut at = root.clone();
            for part in name.split('/') {
                at = client.lookup(&at, part.as_bytes()).unwrap().0;
            }
            assert_eq!(client.read_all(&at, 65536).unwrap(), *bytes, "{kind:?} {name}");
        }

        let mut damaged = files[2].1.clone();
        damaged[1_500_000] ^= 1;
        server.put("a/large", &damaged);
        let fresh = server.serve(&site, "two", &[]);
        let mut client = Client::connect(fresh.nfs);
        let root = client.mount(b"/").unwrap();
        let (directory, _) = client.lookup(&root, b"a").unwrap();
        let (file, _) = client.lookup(&directory, b"large").unwrap();
        assert_eq!(client.read(&file, 1_500_000, 10).unwrap_err(), NFS3ERR_IO, "{kind:?}");
        assert_eq!(client.read(&file, 0, 4096).unwrap().0, damaged[..4096], "{kind:?}");
        let verified = server.command().args(["verify", "--trust", &trust, &url]).output().unwrap();
        assert_eq!(verified.status.code(), Some(1), "{kind:?}: {verified:?}");
    }
}

/// Names, numbers and cookies of a directory, in one READDIR.
fn listing(client: &mut Client, directory: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let reply = client.call(NFS, 16, |w| _ = w.opaque(directory).u64(0).fixed(&[0; 8]).u32(32768));
    let mut reader = Reader::new(&reply);
    assert_eq!(reader.u32().unwrap(), 0);
    if reader.bool().unwrap() {
        reader.fixed(84).unwrap();
    }
    reader.fixed(8).unwrap();
    let mut entries = Vec::new();
    while reader.bool().unwrap() {
        let fileid = reader.u64().unwrap();
        let name = reader.opaque(255).unwrap().to_vec();
        entries.push((fileid, name, reader.u64().unwrap()));
    }
    assert!(reader.bool().unwrap());
    entries
}

#[test]
fn two_gateways_over_one_bucket_are_the_same_to_a_client_that_goes_over_in_the_middle_of_a_file() {
    let site = Site::new();
    let bytes = content(7, 2_000_000);
    let files: Vec<_> = (0..50)
        .map(|n| (format!("d/f{n}"), content(n, 10)))
        .chain([("d/large".to_owned(), bytes.clone())])
        .collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let server = signed(Kind::Moto, &site, &files);
    let (mut one, two) = (server.serve(&site, "one", &[]), server.serve(&site, "two", &[]));
    let (mut a, mut b) = (Client::connect(one.nfs), Client::connect(two.nfs));
    let root = a.mount(b"/").unwrap();
    assert_eq!(b.mount(b"/").unwrap(), root);
    let (directory, _) = a.lookup(&root, b"d").unwrap();
    let entries = listing(&mut a, &directory);
    assert_eq!(entries.len(), 53);
    assert_eq!(listing(&mut b, &directory), entries);
    let (file, size) = a.lookup(&directory, b"large").unwrap();
    assert_eq!(size, 2_000_000);
    let half = a.read(&file, 0, 1_000_000).unwrap().0;
    assert_eq!(one.stop(), Some(0));
    // The handle is found by the other one, which has never seen it.
    let mut rest = Vec::new();
    while half.len() + rest.len() < bytes.len() {
        rest.extend(b.read(&file, (half.len() + rest.len()) as u64, 1_000_000).unwrap().0);
    }
    assert!([half, rest].concat() == bytes);
    assert_eq!(b.lookup(&directory, b"large").unwrap().0, file);
    // What they share lies where no client sees it.
    assert!(b.lookup(&root, b".nfs-verity").is_err());
}

/// What readers have done so far.
#[derive(Default)]
struct Load {
    bytes: AtomicU64,
    later: [AtomicU64; 4],
    is_back: AtomicBool,
}

#[test]
fn reads_go_on_when_the_server_was_killed_under_load_and_came_back() {
    let site = Site::new();
    let names = ["f0", "f1", "f2", "f3"];
    let files: Vec<_> = (0..).zip(names).map(|(n, name)| (name, content(n, 3_000_000))).collect();
    let mut server = signed(Kind::S3s, &site, &files);
    // Little enough is remembered for the server to be asked.
    let served = server.serve(&site, "one", &["--cache", "1MiB", "--timeout", "1"]);
    let (nfs, load) = (served.nfs, Arc::new(Load::default()));
    let mut readers = Vec::new();
    for (n, (name, bytes)) in files.into_iter().enumerate() {
        let load = load.clone();
        readers.push(std::thread::spawn(move || {
            let mut client = Client::connect(nfs);
            let file = client.find(name).unwrap();
            // From front to back until all of it was read after the server came back.
            loop {
                let last = load.is_back.load(Ordering::SeqCst);
                let mut all = Vec::new();
                while all.len() < bytes.len() {
                    match client.read(&file, all.len() as u64, 32768) {
                        Ok((data, _)) => {
                            load.bytes.fetch_add(data.len() as u64, Ordering::SeqCst);
                            all.extend(data);
                        }
                        Err(JUKEBOX) => {
                            load.later[n].fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        Err(other) => panic!("{name}: {other:?} at {}", all.len()),
                    }
                }
                assert!(all == bytes, "{name}");
                if last {
                    return;
                }
            }
        }));
    }
    eventually("all of them are at it", || load.bytes.load(Ordering::SeqCst) > 5_000_000);
    server.kill();
    eventually("each hears that it has to wait", || {
        load.later.iter().all(|later| later.load(Ordering::SeqCst) > 0)
    });
    server.restart();
    load.is_back.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[tokio::test]
async fn an_open_file_is_one_version_of_its_object() {
    let server = S3::start(Kind::Moto);
    let (old, new) = (content(1, 4_000_000), content(2, 4_000_000));
    server.put("f", &old);
    let store = open(&server.url("&anonymous=on&ttl=0")).await;
    let file = store.open(&path("f")).await.unwrap();
    let before = file.stat().await.unwrap();
    assert_eq!(file.read_at(0, 1000).await.unwrap(), old[..1000]);
    server.put("f", &new);
    let error = file.read_at(3_000_000, 1000).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Stale);
    assert_eq!(file.stat().await.unwrap().nlink, 0);
    let again = store.open(&path("f")).await.unwrap();
    let after = again.stat().await.unwrap();
    assert_eq!(again.read_at(3_000_000, 1000).await.unwrap(), new[3_000_000..3_001_000]);
    // Maybe within the same second, which is all that the server tells.
    assert_eq!(before.fileid, after.fileid);
    assert_ne!((before.change, before.ctime), (after.change, after.ctime));
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_read_on_as_the_new_version() {
    let site = Site::new();
    let keyring = load_keyring(&site.trust(), FormatSet::NATIVE).unwrap();
    let key = site.key().display().to_string();
    let old = content(1, 1_000_000);
    let news = [content(2, 1_000_000), content(3, 1_500_000), content(4, 900_000), old.clone()];
    for (n, new) in news.iter().enumerate() {
        let server = signed(Kind::Moto, &site, &[("f", old.clone())]);
        // What was found out of names is believed for longer than the test takes, and nothing is in memory.
        let store = open(&server.url("&anonymous=on&ttl=600")).await;
        let gate = Gate::try_new(store, &keyring, Mode::Enforce, 0).await.unwrap();
        let (handle, _) = gate.find("f").await.unwrap();
        assert!(gate.read(&handle, 0, 10).await.unwrap().is_all_of(&old, 0, 10));
        server.put("f", new);
        // Another salt makes another tree, also of the same bytes.
        server.run(&["sign", "--salt", "abcd", "--key", &key, &server.url("")]);
        let size = new.len() as u64;
        for (offset, count) in [(700_000, 50_000), (0, 10), (10, 600_000), (size - 10, 99)] {
            let given = gate.read(&handle, offset, count).await.unwrap();
            assert!(given.is_all_of(new, offset, count), "{n}: {given:?} at {offset}");
        }
        assert_eq!(gate.events.refused(), Vec::new(), "{n}: nothing is wrong with it");
    }
}

#[tokio::test]
async fn large_objects_are_written_in_parts_and_read_back_from_anywhere() {
    let server = S3::start(Kind::Moto);
    let store = open(&server.url("&anonymous=on")).await;
    let bytes = content(5, 21_000_003);
    let mut writer = store.create(&path("d/large"), &path("scratch")).await.unwrap();
    // The end first, as bundles are written.
    for (n, piece) in bytes.chunks(1 << 20).enumerate().rev() {
        writer.write_at((n as u64) << 20, piece).await.unwrap();
    }
    writer.commit().await.unwrap();
    let file = store.open(&path("d/large")).await.unwrap();
    assert_eq!(file.stat().await.unwrap().size, bytes.len() as u64);
    let mut all = Vec::new();
    while all.len() < bytes.len() {
        all.extend(file.read_at(all.len() as u64, 65536).await.unwrap());
    }
    assert!(all == bytes);
    let mut random = Random::new(3);
    for _ in 0..100 {
        let start = usize::try_from(random.below(21_000_100)).unwrap();
        let len = usize::try_from(random.below(3_000_000)).unwrap();
        let right = &bytes[start.min(bytes.len())..(start + len).min(bytes.len())];
        assert!(file.read_at(start as u64, len).await.unwrap() == right, "{start} {len}");
    }
    assert!(store.stat(&path("scratch")).await.is_err(), "nothing else is left there");
}

#[test]
fn gateways_that_start_at_the_same_time_agree_on_the_handles() {
    for kind in [Kind::Moto, Kind::S3s] {
        let site = Site::new();
        let server = signed(kind, &site, &[("f", content(1, 10))]);
        // As in a tree that was signed on a disk. s3s-fs fails to say that no key has this name.
        server.put_directory(".nfs-verity/.nfs-verity");
        let start = |name| server.serve(&site, name, &[]);
        let started: Vec<_> = match kind {
            Kind::Moto => std::thread::scope(|scope| {
                let starting = ["one", "two", "three"].map(|name| scope.spawn(move || start(name)));
                starting.into_iter().map(|gateway| gateway.join().unwrap()).collect()
            }),
            // Of writes at the same time it lets more than one win, whatever their condition.
            Kind::S3s => ["one", "two", "three"].into_iter().map(start).collect(),
        };
        let roots = started.iter().map(|served| Client::connect(served.nfs).mount(b"/").unwrap());
        let roots: Vec<_> = roots.collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "{kind:?}: {roots:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said_to_be_so() {
    let server = S3::start(Kind::Moto);
    let url = server.url("&anonymous=on").replace("s3://bucket", "s3://nobodys");
    let options = OpenOptions { timeout: Duration::from_secs(20), sink: Arc::new(Deaf) };
    let opened = StoreAddress::parse(url.as_ref()).unwrap().open(&options).await;
    let error = opened.err().unwrap();
    assert!(error.to_string().contains("nobodys"), "{error}");
}
