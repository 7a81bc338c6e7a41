//! READDIR: RFC 8881 section 18.23.

use std::collections::BTreeSet;

use super::code::*;
use super::op::{self, Op};
use super::reply::{Body, Entry};
use super::scene::{MANY, Scene};
use super::wire::Session;

/// Pages of a directory. Each of them is within `maxcount`.
fn pages(
    session: &mut Session,
    directory: &[u8],
    dircount: u32,
    maxcount: u32,
    attributes: &[u32],
) -> Vec<Vec<Entry>> {
    let (mut pages, mut cookie, mut verf) = (Vec::new(), 0, [0; 8]);
    loop {
        let list = op::readdir(cookie, verf, dircount, maxcount, attributes);
        let Body::ReadDir { verifier, entries, eof } = session.last(&[op::putfh(directory), list]) else {
            panic!()
        };
        // READDIR4resok: the verifier, the entries, the end of the list, and eof.
        let size = 8 + entries.iter().map(|entry| entry.len).sum::<usize>() + 8;
        assert!(size <= maxcount as usize, "{size} bytes, asked for {maxcount}");
        verf = verifier;
        assert!(eof || !entries.is_empty(), "no progress");
        cookie = entries.last().map_or(cookie, |entry| entry.cookie);
        pages.push(entries);
        if eof {
            return pages;
        }
    }
}

fn names(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.name.clone()).collect()
}

fn on_disk(scene: &Scene, path: &str) -> BTreeSet<Vec<u8>> {
    let entries = std::fs::read_dir(scene.site.tree().join(path)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_encoded_bytes());
    names.filter(|name| name != b".nfs-verity").collect()
}

#[test]
fn every_name_comes_once_however_small_the_pages() {
    let scene = Scene::new();
    let mut session = scene.session();
    for path in ["", "dir", "dir/sub", "many"] {
        let directory = session.find(path);
        let wanted = on_disk(&scene, path);
        for (dircount, maxcount) in
            [(0, 512), (8192, 1000), (64, 4096), (1 << 20, 1 << 20), (1, 300), (0, 65_536)]
        {
            for attributes in [&[][..], &[1, 3, 4, 11, 19, 20, 33]] {
                let pages = pages(&mut session, &directory, dircount, maxcount, attributes);
                let all: Vec<Entry> = pages.concat();
                assert_eq!(all.len(), wanted.len(), "{path:?} by {maxcount}");
                assert_eq!(names(&all).into_iter().collect::<BTreeSet<_>>(), wanted);
                let cookies: BTreeSet<u64> = all.iter().map(|entry| entry.cookie).collect();
                assert_eq!(cookies.len(), all.len());
                assert!(!cookies.iter().any(|cookie| *cookie < 3), "0, 1 and 2 are reserved");
            }
        }
    }
    let many = session.find("many");
    assert!(pages(&mut session, &many, 0, 1000, &[]).len() > MANY / 20);
}

#[test]
fn entries_carry_the_attributes_that_getattr_tells() {
    let scene = Scene::new();
    let mut session = scene.session();
    let wanted = [1, 2, 4, 8, 19, 20, 33, 35, 36, 55, 82];
    for path in ["", "dir"] {
        let directory = session.find(path);
        for entry in pages(&mut session, &directory, 0, 65_536, &wanted).concat() {
            let handle = entry.attributes.opaque(19);
            assert_eq!(
                session.attributes(&handle, &wanted),
                entry.attributes,
                "{}",
                entry.name.escape_ascii()
            );
        }
    }
    let root = session.find("");
    for entry in pages(&mut session, &root, 0, 65_536, &[]).concat() {
        assert!(entry.attributes.mask.is_empty());
    }
}

#[test]
fn a_listing_goes_on_from_any_cookie() {
    let scene = Scene::new();
    let mut session = scene.session();
    let many = session.find("many");
    let list = op::readdir(0, [0; 8], 0, 65_536, &[]);
    let Body::ReadDir { verifier, entries, .. } = session.last(&[op::putfh(&many), list]) else { panic!() };
    for n in [0, 1, 50, 198] {
        let list = op::readdir(entries[n].cookie, verifier, 0, 65_536, &[]);
        match session.last(&[op::putfh(&many), list]) {
            Body::ReadDir { entries: rest, eof, .. } => {
                assert!(eof);
                assert_eq!(names(&rest), names(&entries[n + 1..]));
            }
            other => panic!("{other:?}"),
        }
    }
    let end = op::readdir(entries.last().unwrap().cookie, verifier, 0, 65_536, &[]);
    match session.last(&[op::putfh(&many), end]) {
        Body::ReadDir { entries, eof, .. } => assert!(eof && entries.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_of_a_listing_that_cannot_be() {
    let scene = Scene::new();
    let mut session = scene.session();
    let many = session.find("many");
    let list =
        |cookie, verifier, maxcount| [op::putfh(&many), op::readdir(cookie, verifier, 0, maxcount, &[1])];
    for maxcount in [0, 1, 8, 16, 30, 50] {
        session.fails(&list(0, [0; 8], maxcount), TOOSMALL);
    }
    for cookie in [1, 2] {
        session.fails(&list(cookie, [0; 8], 4096), BAD_COOKIE);
    }
    let Body::ReadDir { verifier, entries, .. } = session.last(&list(0, [0; 8], 4096)) else { panic!() };
    let mut other = verifier;
    other[3] ^= 1;
    let status = session.status(&list(entries[0].cookie, other, 4096));
    assert!([NOT_SAME, OK].contains(&status), "{status:?}");
    for cookie in [u64::MAX, 1 << 63, 0x1234_5678_9abc] {
        let status = session.status(&list(cookie, verifier, 4096));
        assert!([BAD_COOKIE, OK].contains(&status), "{status:?}");
    }
    for (path, codes) in [("hello", &[NOTDIR][..]), ("link", &[NOTDIR, SYMLINK])] {
        let wrong: Vec<Op> = [Session::path(path), vec![op::readdir(0, [0; 8], 0, 4096, &[])]].concat();
        assert!(codes.contains(&session.status(&wrong)));
    }
}

#[test]
fn a_listing_fits_into_the_answer_whatever_was_asked_for() {
    let scene = Scene::new();
    let mut session = scene.session();
    let many = session.find("many");
    let list = op::readdir(
        0,
        [0; 8],
        u32::MAX,
        u32::MAX,
        &(0..=83).filter(|n| ![48, 54, 63, 70, 72, 74, 81].contains(n)).collect::<Vec<_>>(),
    );
    match session.last(&[op::putfh(&many), list]) {
        Body::ReadDir { entries, .. } => assert!(!entries.is_empty()),
        other => panic!("{other:?}"),
    }
}
