//! Well-formed records with hostile requests in them: lengths, handles, names, cookies, offsets.

use std::collections::HashSet;

use std::io::Write;

use nfs_verity::wire::Reader;

use super::siege::{FILE, READ_MAX, Siege, answer, arguments, call, connect, honest_content};
use super::support::{Client, MOUNT, NFS, NFS3ERR_BADHANDLE, Random, Site, content};

const GARBAGE_ARGUMENTS: u32 = 4;
const LENGTHS: [u32; 7] =
    [0x1_0000, 0x0fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_fffd, u32::MAX];

/// A part of a procedure's arguments.
#[derive(Clone)]
enum Item {
    Words(Vec<u32>),
    Opaque(Vec<u8>),
}

/// Encodes arguments; the length of one opaque item may be another than it has.
fn encode(items: &[Item], claim: Option<(usize, u32)>) -> Vec<u8> {
    arguments(|w| {
        for (n, item) in items.iter().enumerate() {
            match (item, claim) {
                (Item::Words(words), _) => words.iter().for_each(|word| _ = w.u32(*word)),
                (Item::Opaque(bytes), Some((at, length))) if at == n => _ = w.u32(length).fixed(bytes),
                (Item::Opaque(bytes), _) => _ = w.opaque(bytes),
            }
        }
    })
}

/// Arguments that are in order, of every procedure that has any of variable length.
fn all_arguments(handle: &[u8]) -> Vec<(u32, u32, Vec<Item>)> {
    let handle = Item::Opaque(handle.to_vec());
    let name = Item::Opaque(b"name".to_vec());
    let words = |count: usize| Item::Words(vec![0; count]);
    let on = |more: &[Item]| [std::slice::from_ref(&handle), more].concat();
    let at = |more: &[Item]| [&[handle.clone(), name.clone()], more].concat();
    vec![
        (NFS, 1, on(&[])),
        (NFS, 2, on(&[words(7)])),
        (NFS, 3, at(&[])),
        (NFS, 4, on(&[words(1)])),
        (NFS, 5, on(&[])),
        (NFS, 6, on(&[words(3)])),
        (NFS, 7, on(&[Item::Words(vec![0, 0, 4, 0]), name.clone()])),
        (NFS, 8, at(&[words(7)])),
        (NFS, 9, at(&[words(6)])),
        (NFS, 10, at(&[words(6), name.clone()])),
        (NFS, 11, at(&[Item::Words(vec![6]), words(6)])),
        (NFS, 12, at(&[])),
        (NFS, 13, at(&[])),
        (NFS, 14, at(&at(&[]))),
        (NFS, 15, on(&at(&[]))),
        (NFS, 16, on(&[words(4), Item::Words(vec![1000])])),
        (NFS, 17, on(&[words(4), Item::Words(vec![1000, 1000])])),
        (NFS, 18, on(&[])),
        (NFS, 19, on(&[])),
        (NFS, 20, on(&[])),
        (NFS, 21, on(&[words(3)])),
        (MOUNT, 1, vec![Item::Opaque(b"/dir".to_vec())]),
        (MOUNT, 3, vec![Item::Opaque(b"/dir".to_vec())]),
    ]
}

#[test]
fn every_length_in_every_procedures_arguments_may_lie() {
    let siege = Siege::begin(|_| {});
    let root = siege.client().mount(b"/").unwrap();
    let mut stream = connect(siege.address());
    let mut status = |program, procedure, bytes: &[u8]| {
        stream.write_all(&call(procedure, (program, 3, procedure), bytes)).unwrap();
        let (xid, outcome) = answer(&mut stream);
        assert_eq!(xid, procedure);
        outcome.unwrap().0
    };
    for (program, procedure, items) in all_arguments(&root) {
        let what = format!("program {program} procedure {procedure}");
        assert_eq!(status(program, procedure, &encode(&items, None)), 0, "{what}");
        for at in (0..items.len()).filter(|at| matches!(items[*at], Item::Opaque(_))) {
            for length in LENGTHS {
                let lie = encode(&items, Some((at, length)));
                assert_eq!(
                    status(program, procedure, &lie),
                    GARBAGE_ARGUMENTS,
                    "{what} item {at} {length:#x}"
                );
            }
        }
    }
    siege.end();
}

#[test]
fn a_handle_that_was_changed_anywhere_is_none() {
    let (secret, other) = (content(1, 5000), content(2, 5000));
    let siege = Siege::begin(|site| {
        site.put("dir/secret", &secret);
        site.put("dir/other", &other);
    });
    let mut client = siege.client();
    let good = client.find("dir/secret").unwrap();
    let is_none = |client: &mut Client, handle: &[u8], what: &str| {
        assert_eq!(client.read(handle, 0, 10_000), Err(NFS3ERR_BADHANDLE), "{what}");
    };
    for bit in 0..good.len() * 8 {
        let mut handle = good.clone();
        handle[bit / 8] ^= 1 << (bit % 8);
        is_none(&mut client, &handle, &format!("bit {bit}"));
    }
    for length in 0..good.len() {
        is_none(&mut client, &good[..length], &format!("{length} bytes"));
    }
    for byte in [0, 1, 255] {
        let long: Vec<u8> = good.iter().copied().chain(std::iter::repeat(byte)).take(64).collect();
        is_none(&mut client, &long, "what follows it");
    }
    // Parts of two handles, in both orders.
    let second = client.find("dir/other").unwrap();
    assert_eq!(good.len(), second.len());
    for at in 1..good.len() {
        for spliced in [[&good[..at], &second[at..]].concat(), [&second[..at], &good[at..]].concat()] {
            if spliced != good && spliced != second {
                is_none(&mut client, &spliced, &format!("spliced at {at}"));
            }
        }
    }
    let mut random = Random::new(5);
    for n in 0..5000u64 {
        let length = usize::try_from(random.below(65)).unwrap();
        let mut made_up = content(n, length);
        if let Some(version) = made_up.first_mut().filter(|_| n % 2 == 0) {
            *version = good[0];
        }
        assert_eq!(client.read(&made_up, 0, 100), Err(NFS3ERR_BADHANDLE));
        assert_eq!(client.getattr(&made_up), Err(NFS3ERR_BADHANDLE));
    }
    siege.end();
}

#[test]
fn a_handle_of_another_gateway_leads_nowhere() {
    let siege = Siege::begin(|_| {});
    // The very same tree, with another secret.
    let elsewhere = Site::new();
    let state = elsewhere.path("state").to_str().unwrap().to_owned();
    let foreign = siege.site.serve(&["--state", &state]);
    let mut there = Client::connect(foreign.nfs);
    let mut here = siege.client();
    for path in ["dir", FILE] {
        let (theirs, ours) = (there.find(path).unwrap(), here.find(path).unwrap());
        assert_ne!(theirs, ours);
        assert_eq!(here.getattr(&theirs), Err(NFS3ERR_BADHANDLE));
        assert_eq!(here.read(&theirs, 0, 10), Err(NFS3ERR_BADHANDLE));
        assert_eq!(there.read(&ours, 0, 10), Err(NFS3ERR_BADHANDLE));
    }
    assert_eq!(here.getattr(&there.mount(b"/").unwrap()), Err(NFS3ERR_BADHANDLE));
    siege.end();
}

#[test]
fn no_name_leads_out_of_the_tree_or_to_the_evidence() {
    let siege = Siege::begin(|site| {
        std::fs::write(site.path("outside"), b"outside").unwrap();
        std::os::unix::fs::symlink("../outside", site.tree().join("link")).unwrap();
        std::os::unix::fs::symlink("/", site.tree().join("slash")).unwrap();
    });
    let mut client = siege.client();
    let root = client.mount(b"/").unwrap();
    let directory = client.find("dir").unwrap();
    let file = client.find(FILE).unwrap();
    let long = [b'n'; 4096];
    let names: [&[u8]; 19] = [
        b"",
        b"/",
        b"//",
        b"/etc",
        b"\0",
        b"honest\0",
        b"../outside",
        b"../../..",
        b"./honest",
        b"dir/honest",
        b"..\0",
        b"link/",
        b"slash/etc",
        b".nfs-verity/dir",
        b"\xff\xfe\xfd",
        &long[..255],
        &long[..256],
        &long[..4095],
        &long,
    ];
    for name in names {
        for directory in [&root, &directory, &file] {
            assert!(client.lookup(directory, name).is_err(), "{}", name.escape_ascii());
        }
        let path = [b"/", name].concat();
        if name.len() < 1024 && !matches!(name, b"" | b"/" | b"//" | b"../../..") {
            assert!(client.mount(&path).is_err(), "{}", path.escape_ascii());
        }
    }
    assert!(client.lookup(&root, b".nfs-verity").is_err());
    assert_eq!(client.lookup(&root, b"..").unwrap().0, root, "above the root is the root");
    assert_eq!(client.lookup(&directory, b"..").unwrap().0, root);
    assert_eq!(client.lookup(&directory, b".").unwrap().0, directory);
    assert_eq!(client.mount(b"/dir/../../../..//./dir").unwrap(), directory);
    for path in [&b"/.nfs-verity"[..], b"/dir/../.nfs-verity", b"/./.nfs-verity/dir", b"/link", b"/slash"] {
        assert!(client.mount(path).is_err(), "{}", path.escape_ascii());
    }
    // A link is no file, whatever it points to.
    let link = client.lookup(&root, b"link").unwrap().0;
    assert!(client.read(&link, 0, 10).is_err());
    assert!(client.lookup(&link, b"x").is_err());
    siege.end();
}

#[test]
fn listings_take_any_cookie_and_count() {
    let siege = Siege::begin(|site| (0..300).for_each(|n| site.put(format!("crowd/{n}"), b"")));
    let mut client = siege.client();
    let (root, crowd) = (client.mount(b"/").unwrap(), client.find("crowd").unwrap());
    let mut random = Random::new(3);
    let wild: Vec<u64> = (0..20).map(|_| random.next()).collect();
    let cookies =
        [&[0, 1, 2, 3, 1000, 1 << 31, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX][..], &wild].concat();
    let counts = [0, 1, 4, 107, 108, 140, 500, 1 << 20, 1 << 31, u32::MAX];
    for directory in [&root, &crowd] {
        for cookie in &cookies {
            for count in counts {
                let verifier = random.next();
                let plain =
                    client.call(NFS, 16, |w| _ = w.opaque(directory).u64(*cookie).u64(verifier).u32(count));
                listed(&plain, false, count);
                for names in [0, 1, u32::MAX] {
                    let plus = client.call(NFS, 17, |w| {
                        w.opaque(directory).u64(*cookie).u64(verifier).u32(names).u32(count);
                    });
                    listed(&plus, true, count);
                }
            }
        }
    }
    siege.end();
}

/// Checks that results of READDIR or READDIRPLUS are whole, within the count, and tell no secrets.
fn listed(results: &[u8], plus: bool, count: u32) {
    let mut r = Reader::new(results);
    let status = r.u32().unwrap();
    // OK, NFS3ERR_BAD_COOKIE, NFS3ERR_TOOSMALL.
    assert!(matches!(status, 0 | 10003 | 10005), "status {status}");
    assert!(r.bool().unwrap());
    r.fixed(84).unwrap();
    if status != 0 {
        return r.finish().unwrap();
    }
    assert!(
        results.len() <= 4 + count as usize && results.len() <= 4 + (1 << 20),
        "{} for {count}",
        results.len()
    );
    r.u64().unwrap();
    let mut names = HashSet::new();
    while r.bool().unwrap() {
        r.u64().unwrap();
        let name = r.opaque(255).unwrap().to_vec();
        assert_ne!(name, b".nfs-verity");
        r.u64().unwrap();
        if plus {
            if r.bool().unwrap() {
                r.fixed(84).unwrap();
            }
            if r.bool().unwrap() {
                r.opaque(64).unwrap();
            }
        }
        assert!(names.insert(name), "a name twice");
    }
    r.bool().unwrap();
    r.finish().unwrap();
}

#[test]
fn reads_take_any_offset_and_count() {
    let siege = Siege::begin(|_| {});
    let mut client = siege.client();
    let file = client.find(FILE).unwrap();
    let wanted = honest_content();
    let size = wanted.len() as u64;
    let edges = [0, 1, 4095, 4096, 65_535, 65_536, size - 1, size, size + 1, 1 << 31, 1 << 32, 1 << 62];
    let offsets =
        [&edges[..], &[i64::MAX as u64 - 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX]].concat();
    for offset in offsets {
        for count in [0, 1, 4096, READ_MAX, READ_MAX + 1, 1 << 31, u32::MAX] {
            let (data, eof) = client.read(&file, offset, count).unwrap();
            let from = usize::try_from(offset.min(size)).unwrap();
            let to = wanted.len().min(from + count.min(READ_MAX) as usize);
            assert!(data == wanted[from..to], "{offset} {count}");
            assert_eq!(eof, to == wanted.len(), "{offset} {count}");
        }
    }
    siege.end();
}
