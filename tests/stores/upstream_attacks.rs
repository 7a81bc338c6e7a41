//! Servers that lie: no wrong byte gets through, nothing hangs, and memory stays bounded.

use std::sync::Arc;
use std::time::Duration;

use nfs_verity::export::ExportError;
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Memory, Store, StorePath};
use nfs_verity::verity::Params;

use super::nfs_server::{Asked, FSINFO, LOOKUP, MNT, READ, READDIRPLUS, Server, Twist};
use super::support::{content, key_and_trust, seal};
use super::upstream::{export, open, read_all, somebody};

/// What one call may take.
const TIMEOUT: Duration = Duration::from_millis(400);
/// Far more than all calls of one scene may take, and far less than for ever.
const FAR: Duration = Duration::from_secs(60);

async fn scene() -> (Memory, Keyring, [Vec<u8>; 2]) {
    let memory = Memory::new();
    let (key, keyring) = key_and_trust();
    let shared: Arc<dyn Store> = Arc::new(memory.clone());
    let contents = [content(1, 300_000), content(2, 300_000)];
    for (name, content) in ["dir/f", "dir/g"].into_iter().zip(&contents) {
        memory.put(name, content).unwrap();
        seal(&shared, name, content, Params::default(), &key).await;
    }
    for n in 0..60 {
        memory.put(format!("dir/more-{n}"), b"").unwrap();
    }
    (memory, keyring, contents)
}

/// What a client sees through a server that twists its replies: every file right or an error, every listing
/// at its end or an error, all of it in time.
async fn survives<F>(
    name: &str,
    memory: &Memory,
    keyring: &Keyring,
    contents: &[Vec<u8>; 2],
    twist: F,
) -> bool
where
    F: Fn(&Asked, Vec<u8>) -> Twist + Send + Sync + 'static,
{
    let server = Server::start(memory, "127.0.0.1:0", Arc::new(twist)).await;
    let all = async {
        let Ok(store) = open(&server.url(""), TIMEOUT).await else { return false };
        let Ok(export) = export(store.clone(), keyring).await else { return false };
        let mut good = true;
        for _ in 0..2 {
            for (file, content) in ["dir/f", "dir/g"].into_iter().zip(contents) {
                match read_all(&export, file).await {
                    Ok(bytes) => assert!(bytes == *content, "{name}: wrong bytes of {file}"),
                    Err(_) => good = false,
                }
            }
        }
        let mut cookie = 0;
        for _ in 0..10_000 {
            match store.read_dir(&StorePath::parse(b"dir").unwrap(), cookie, 50).await {
                Ok(page) if page.end => return good,
                Ok(page) => cookie = page.entries.last().unwrap().cookie,
                Err(_) => return false,
            }
        }
        panic!("{name}: the listing does not end");
    };
    tokio::time::timeout(FAR, all).await.unwrap_or_else(|_| panic!("{name}: it hangs"))
}

fn number(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Where the count of a READ's reply stands: behind status and attributes.
const COUNT: usize = 4 + 4 + 84;

type Attack = (&'static str, bool, fn(&Asked, Vec<u8>) -> Twist);

/// Name, whether clients notice nothing, and what the server does.
const ATTACKS: &[Attack] = &[
    ("an honest server", true, |_, r| Twist::Results(r)),
    ("crumbs of one byte", true, |asked, r| match asked.procedure {
        READ => Twist::Results(r),
        _ => Twist::Crumbs(r),
    }),
    ("reads in crumbs", true, |asked, r| match asked.procedure {
        READ if asked.before == 0 => Twist::Crumbs(r),
        _ => Twist::Results(r),
    }),
    (
        "one lost connection",
        true,
        |asked, r| if asked.before == 1 { Twist::Close } else { Twist::Results(r) },
    ),
    ("one reply to a stranger", true, |asked, r| match asked.before {
        1 => Twist::Stranger(r),
        _ => Twist::Results(r),
    }),
    ("one record that is no reply", true, |asked, r| match asked.before {
        1 => Twist::Raw(vec![0x80, 0, 0, 4, 1, 2, 3, 4]),
        _ => Twist::Results(r),
    }),
    ("busy now and then", true, |asked, r| match asked.before % 3 {
        1 => Twist::Results([10008u32, 0].map(u32::to_be_bytes).concat()),
        _ => Twist::Results(r),
    }),
    ("stale once", true, |asked, r| match (asked.procedure, asked.before) {
        (LOOKUP, 1) => Twist::Results([70u32, 0].map(u32::to_be_bytes).concat()),
        _ => Twist::Results(r),
    }),
    ("silence", false, |asked, r| match asked.procedure {
        READ => Twist::Silence,
        _ => Twist::Results(r),
    }),
    ("silence from the start", false, |_, _| Twist::Silence),
    ("closing for ever", false, |_, _| Twist::Close),
    ("strangers for ever", false, |asked, r| match asked.procedure {
        READ => Twist::Stranger(r),
        _ => Twist::Results(r),
    }),
    ("a giant record", false, |asked, r| match asked.procedure {
        READ => Twist::Raw(vec![0xff; 4096]),
        _ => Twist::Results(r),
    }),
    ("a record that never ends", false, |asked, r| match asked.procedure {
        READ => Twist::Raw([&0x0010_0000u32.to_be_bytes()[..], &vec![0; 1 << 20]].concat()),
        _ => Twist::Results(r),
    }),
    ("fragments without end", false, |asked, r| match asked.procedure {
        READ => Twist::Raw(vec![0; 1 << 20]),
        _ => Twist::Results(r),
    }),
    ("a giant count", false, |asked, mut r| {
        if asked.procedure == READ {
            number(&mut r, COUNT, u32::MAX);
            number(&mut r, COUNT + 8, u32::MAX);
        }
        Twist::Results(r)
    }),
    ("more data than asked for", false, |asked, mut r| {
        if asked.procedure == READ {
            let length = u32::from_be_bytes(r[COUNT..COUNT + 4].try_into().unwrap());
            number(&mut r, COUNT, length + 4096);
            number(&mut r, COUNT + 8, length + 4096);
            r.extend(vec![0; 4096]);
        }
        Twist::Results(r)
    }),
    ("nothing, and no end of file", false, |asked, r| match asked.procedure {
        READ => {
            let mut r = r[..COUNT].to_vec();
            r.extend([0; 12]);
            Twist::Results(r)
        }
        _ => Twist::Results(r),
    }),
    ("an end of file too early", false, |asked, r| match asked.procedure {
        READ => {
            let mut r = r[..COUNT].to_vec();
            r.extend([0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 1, 2, 3, 4]);
            Twist::Results(r)
        }
        _ => Twist::Results(r),
    }),
    ("no end of file ever", true, |asked, mut r| {
        if asked.procedure == READ && r.len() > COUNT + 12 + 16 {
            number(&mut r, COUNT + 4, 0);
        }
        Twist::Results(r)
    }),
    ("data of another file", false, |asked, mut r| {
        if asked.procedure == READ && r.len() > COUNT + 40_000 {
            r[COUNT + 12..].rotate_left(4096);
        }
        Twist::Results(r)
    }),
    ("a flipped bit", false, |asked, mut r| {
        if asked.procedure == READ {
            let last = r.len() - 5;
            r[last] ^= 1;
        }
        Twist::Results(r)
    }),
    ("another file number in every READ", false, |asked, mut r| {
        if asked.procedure == READ {
            number(&mut r, 8 + 56, asked.before);
        }
        Twist::Results(r)
    }),
    ("another size in every READ", false, |asked, mut r| {
        if asked.procedure == READ {
            number(&mut r, 8 + 20, asked.before * 77);
        }
        Twist::Results(r)
    }),
    ("handles that change", true, |asked, mut r| {
        // What no object has is refused when it is used, and the client looks the path up again. Once: so far apart
        // that what it looks up again then is right.
        if asked.procedure == LOOKUP && [6, 60, 120].contains(&asked.before) && r.len() > 12 {
            let length = u32::from_be_bytes(r[4..8].try_into().unwrap()) as usize;
            r[8 + length - 1] ^= 0x80;
        }
        Twist::Results(r)
    }),
    ("handles of another file", false, |asked, mut r| {
        if asked.procedure == LOOKUP && r.get(4..14) == Some(&b"\0\0\0\x06/dir/f"[..]) {
            r[13] = b'g';
        }
        Twist::Results(r)
    }),
    ("a handle of a megabyte", false, |asked, mut r| {
        if asked.procedure == LOOKUP {
            number(&mut r, 4, 1 << 20);
            r.extend(vec![0; 1 << 19]);
        }
        Twist::Results(r)
    }),
    ("an object of no known kind", false, |asked, mut r| {
        if asked.procedure == LOOKUP && asked.before > 3 {
            number(&mut r, 4 + 4 + 8 + 4, 99);
        }
        Twist::Results(r)
    }),
    ("a mount with a giant list of flavors", false, |asked, mut r| {
        if asked.procedure == MNT {
            number(&mut r, 4 + 8, u32::MAX);
        }
        Twist::Results(r)
    }),
    ("giant and zero sizes of transfers", true, |asked, mut r| {
        if asked.procedure == FSINFO {
            let value = if asked.before % 2 == 0 { u32::MAX } else { 0 };
            (2..9).for_each(|n| number(&mut r, 4 * n, value));
        }
        Twist::Results(r)
    }),
    ("a directory in a circle", false, |asked, r| match (asked.procedure, asked.before % 2) {
        (READDIRPLUS, even) => Twist::Results(listing(&[3 + u64::from(even), 5 + u64::from(even)], false)),
        _ => Twist::Results(r),
    }),
    ("a directory whose cookie stands still", false, |asked, r| match asked.procedure {
        READDIRPLUS => Twist::Results(listing(&[7], false)),
        _ => Twist::Results(r),
    }),
    ("a directory with cookie 0", false, |asked, r| match asked.procedure {
        READDIRPLUS => Twist::Results(listing(&[1, 0], false)),
        _ => Twist::Results(r),
    }),
    ("a directory that gives nothing without end", false, |asked, r| match asked.procedure {
        READDIRPLUS => Twist::Results(listing(&[], false)),
        _ => Twist::Results(r),
    }),
];

/// The results of a READDIRPLUS that lists these cookies.
fn listing(cookies: &[u64], end: bool) -> Vec<u8> {
    let mut bytes = vec![0; 4 + 4 + 8];
    for cookie in cookies {
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend([0, 0, 0, 1, b'a' + u8::try_from(cookie % 26).unwrap(), 0, 0, 0]);
        bytes.extend(cookie.to_be_bytes());
        bytes.extend([0; 8]);
    }
    bytes.extend([0; 4]);
    bytes.extend(u32::from(end).to_be_bytes());
    bytes
}

fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_gets_a_wrong_byte_through_or_hangs_or_takes_memory() {
    let (memory, keyring, contents) = scene().await;
    let before = most_resident();
    let mut wrong = Vec::new();
    for (name, unnoticed, twist) in ATTACKS {
        if survives(name, &memory, &keyring, &contents, *twist).await != *unnoticed {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
    let grown = most_resident().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_cut_at_any_length_are_errors_and_no_more() {
    let (memory, keyring, contents) = scene().await;
    for procedure in [MNT, FSINFO, 1, LOOKUP, READ, READDIRPLUS] {
        for cut in (0..200).step_by(3) {
            let twist = move |asked: &Asked, mut results: Vec<u8>| {
                if asked.procedure == procedure {
                    results.truncate(cut.min(results.len().saturating_sub(1)));
                }
                Twist::Results(results)
            };
            let good = survives("cut", &memory, &keyring, &contents, twist).await;
            // Of other replies the end is not needed.
            assert!(!good || !matches!(procedure, READ | READDIRPLUS), "{procedure} {cut}");
        }
    }
}

/// Data swapped between two calls that are under way: each is proven in its own place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_swapped_between_files_are_refused() {
    let (memory, keyring, contents) = scene().await;
    let first = Arc::new(parking_lot::Mutex::new(std::collections::HashMap::<usize, Vec<u8>>::new()));
    let twist = move |asked: &Asked, mut results: Vec<u8>| {
        if asked.procedure == READ && results.len() > 4000 {
            let mut first = first.lock();
            let stolen = first.entry(results.len()).or_insert_with(|| results.clone());
            results[COUNT + 12..].copy_from_slice(&stolen[COUNT + 12..]);
        }
        Twist::Results(results)
    };
    assert!(!survives("swapped", &memory, &keyring, &contents, twist).await);
}

/// A directory without end costs its reader, who may give up, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_directory_is_given_page_by_page() {
    let (memory, keyring, _) = scene().await;
    let twist = |asked: &Asked, results: Vec<u8>| match asked.procedure {
        READDIRPLUS => {
            let first = u64::from(asked.before) * 100 + 1;
            Twist::Results(listing(&(first..first + 100).collect::<Vec<_>>(), false))
        }
        _ => Twist::Results(results),
    };
    let server = Server::start(&memory, "127.0.0.1:0", Arc::new(twist)).await;
    let store = open(&server.url(""), TIMEOUT).await.unwrap();
    let export = export(store, &keyring).await.unwrap();
    let root = export.root();
    let mut cookie = 0;
    for _ in 0..50 {
        let listing = match export.read_dir(root.as_bytes(), cookie, 64, &somebody()).await {
            Err(ExportError::Io | ExportError::Busy) => return,
            listing => listing.unwrap(),
        };
        assert!(listing.entries.len() <= 64 && !listing.end);
        cookie = listing.entries.last().unwrap().cookie;
    }
}
