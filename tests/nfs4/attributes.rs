//! GETATTR, VERIFY and NVERIFY: RFC 8881 sections 5, 18.7, 18.15 and 18.30.

use std::os::unix::fs::MetadataExt;

use super::code::*;
use super::op::{self, Fattr};
use super::reply::Body;
use super::scene::{BIG, Scene};
use super::wire::{Session, Wire, unique};

/// REQUIRED: RFC 8881 section 5.6.
const REQUIRED: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 19, 75];
/// What Linux asks for at mount and for `stat`, besides.
const WANTED: [u32; 16] = [20, 27, 28, 29, 30, 31, 33, 35, 36, 37, 41, 45, 47, 51, 52, 53];
const RDATTR_ERROR: u32 = 11;
/// They may be set and never be read.
const WRITE_ONLY: [u32; 2] = [48, 54];
/// Those, and layout_hint, retention_set, retentevt_set, mode_set_masked and mode_umask.
const SET_ONLY: [u32; 7] = [48, 54, 63, 70, 72, 74, 81];
/// What others change while a test looks: files and space left, access times.
const FLEETING: [u32; 9] = [21, 22, 23, 42, 43, 44, 47, 52, 53];

const PATHS: [&str; 6] = ["", "hello", "dir", "link", "bad", "empty"];

fn supported(session: &mut Session, handle: &[u8]) -> Vec<u32> {
    session.attributes(handle, &[0]).set(0)
}

#[test]
fn what_is_required_is_supported_and_comes_singly_and_together() {
    let scene = Scene::new();
    let mut session = scene.session();
    for path in PATHS {
        let handle = session.find(path);
        let all = supported(&mut session, &handle);
        for number in REQUIRED.iter().chain(&WANTED).chain(&[55, 82]) {
            assert!(all.contains(number), "{number} is missing for {path:?}");
        }
        assert!(!all.iter().any(|number| WRITE_ONLY.contains(number)), "a read-only server sets nothing");
        let together = session.attributes(&handle, &all);
        let told: Vec<u32> = together.values.keys().copied().filter(|n| *n != RDATTR_ERROR).collect();
        let asked: Vec<u32> = all.iter().copied().filter(|n| *n != RDATTR_ERROR).collect();
        assert_eq!(told, asked, "{path:?}");
        for number in asked {
            let alone = session.attributes(&handle, &[number]);
            assert_eq!(alone.values.keys().collect::<Vec<_>>(), [&number], "{path:?}");
            if !FLEETING.contains(&number) {
                assert_eq!(alone.values[&number], together.values[&number], "{number} of {path:?}");
            }
        }
        // A mask that is all ones in what can be read is answered with what is supported.
        let readable = (0..256).filter(|n| !SET_ONLY.contains(n)).collect::<Vec<u32>>();
        assert_eq!(session.attributes(&handle, &readable).mask, together.mask);
        assert!(session.attributes(&handle, &[]).values.is_empty());
    }
}

#[test]
fn what_cannot_be_read_is_not() {
    let scene = Scene::new();
    let mut session = scene.session();
    for number in WRITE_ONLY {
        session.fails(&[op::putrootfh(), op::getattr(&[1, number])], INVAL);
        let listing = op::readdir(0, [0; 8], 4096, 4096, &[number]);
        session.fails(&[op::putrootfh(), listing], INVAL);
    }
    // Zero words at the end, and far more words than there are attributes.
    session.last(&[op::putrootfh(), op::getattr_mask(&[2, 0, 0, 0, 0])]);
    let status = session.status(&[op::putrootfh(), op::getattr_mask(&vec![0x8000_0000; 1000])]);
    assert!([OK, BADXDR].contains(&status));
}

#[test]
fn attributes_are_those_of_the_file() {
    let scene = Scene::new();
    let mut session = scene.session();
    for (path, kind, size) in [
        ("hello", 1, Some(13)),
        ("big", 1, Some(BIG as u64)),
        ("empty", 1, Some(0)),
        ("dir", 2, None),
        ("link", 5, Some(5)),
        ("", 2, None),
    ] {
        let disk = std::fs::symlink_metadata(scene.site.tree().join(path)).unwrap();
        let handle = session.find(path);
        let all = supported(&mut session, &handle);
        let told = session.attributes(&handle, &all);
        assert_eq!(told.word(1), kind, "type of {path}");
        if let Some(size) = size {
            assert_eq!(told.long(4), size, "size of {path}");
        }
        assert_eq!(told.word(2), 0, "handles are persistent");
        assert_eq!(told.word(7), 0, "no named attributes");
        assert_eq!(told.opaque(19), handle, "the handle as an attribute");
        assert_eq!(told.word(33), disk.mode() & 0o7777, "mode of {path}");
        assert_eq!(told.word(35), disk.nlink() as u32, "links of {path}");
        assert_eq!(told.opaque(36), disk.uid().to_string().into_bytes(), "owner of {path}");
        assert_eq!(told.opaque(37), disk.gid().to_string().into_bytes(), "group of {path}");
        assert_eq!(told.long(20), told.long(55), "nothing is mounted on {path}");
        let mut modified = disk.mtime().to_be_bytes().to_vec();
        modified.extend((disk.mtime_nsec() as u32).to_be_bytes());
        assert_eq!(told.values[&53], modified, "time_modify of {path}");
        assert!(told.long(30) >= 64 << 10, "maxread");
        assert!(told.word(29) >= 255, "maxname");
        assert_eq!(told.word(82), 1, "RFC 8276 section 8.2.1: xattr_support of {path}");
    }
    let fsids: std::collections::BTreeSet<_> = PATHS
        .iter()
        .map(|path| {
            let handle = session.find(path);
            session.attributes(&handle, &[8]).values
        })
        .collect();
    assert_eq!(fsids.len(), 1, "one file system");
    let fileids: std::collections::BTreeSet<_> = PATHS
        .iter()
        .map(|path| {
            let handle = session.find(path);
            session.attributes(&handle, &[20]).long(20)
        })
        .collect();
    assert_eq!(fileids.len(), PATHS.len());
}

#[test]
fn the_change_attribute_stays_while_nothing_changes_and_moves_when_something_does() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (file, dir) = (session.find("hello"), session.find("dir"));
    let before = [&file, &dir].map(|handle| session.attributes(handle, &[3]).long(3));
    assert_eq!([&file, &dir].map(|handle| session.attributes(handle, &[3]).long(3)), before);
    scene.site.put("dir/new", b"new");
    let path = scene.site.tree().join("hello");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    super::support::eventually("the change is seen", || {
        let after = [&file, &dir].map(|handle| session.attributes(handle, &[3]).long(3));
        after[0] != before[0] && after[1] != before[1]
    });
}

#[test]
fn version_4_1_knows_no_attributes_of_4_2() {
    let scene = Scene::new();
    let mut wire = Wire::connect(scene.gateway.nfs);
    wire.minor = 1;
    let mut session = Session::over(wire, &unique(), [1; 8], op::Channel::USUAL);
    let root = session.find("");
    let all = supported(&mut session, &root);
    assert!(all.iter().all(|number| *number < 77), "{all:?}");
    assert!(!session.attributes(&root, &[1, 82]).has(82));
    for number in REQUIRED {
        assert!(all.contains(&number), "{number}");
    }
}

#[test]
fn attributes_are_verified_by_what_getattr_said() {
    let scene = Scene::new();
    let mut session = scene.session();
    for path in PATHS {
        let handle = session.find(path);
        let steady: Vec<u32> = supported(&mut session, &handle)
            .into_iter()
            .filter(|n| *n != RDATTR_ERROR && !FLEETING.contains(n))
            .collect();
        let told = session.attributes(&handle, &steady);
        session.last(&[op::putfh(&handle), op::verify(&told.fattr()), op::getfh()]);
        session.fails(&[op::putfh(&handle), op::nverify(&told.fattr())], SAME);
        for number in steady {
            let mut one = session.attributes(&handle, &[number]).fattr();
            session.last(&[op::putfh(&handle), op::verify(&one)]);
            session.fails(&[op::putfh(&handle), op::nverify(&one)], SAME);
            // Another value of the same form: numbers and texts take it, and masks and lists may not.
            if matches!(number, 3 | 4 | 8 | 10 | 20 | 27 | 30 | 33 | 35 | 55) {
                *one.values.last_mut().unwrap() ^= 1;
                session.fails(&[op::putfh(&handle), op::verify(&one)], NOT_SAME);
                session.last(&[op::putfh(&handle), op::nverify(&one)]);
            }
        }
    }
}

#[test]
fn what_cannot_be_compared_is_not() {
    let scene = Scene::new();
    let mut session = scene.session();
    let size = 13u64.to_be_bytes().to_vec();
    let cases: [(Fattr, &[Code]); 5] = [
        (Fattr::of(&[(RDATTR_ERROR, vec![0; 4])]), &[INVAL]),
        (Fattr::of(&[(48, vec![0; 4])]), &[INVAL, ATTRNOTSUPP]),
        (Fattr::of(&[(54, vec![0; 4])]), &[INVAL, ATTRNOTSUPP]),
        // dir_notif_delay and one that no RFC has.
        (Fattr::of(&[(56, vec![0; 12])]), &[ATTRNOTSUPP]),
        (Fattr::of(&[(4, size.clone()), (200, vec![0; 4])]), &[ATTRNOTSUPP]),
    ];
    for (attributes, codes) in cases {
        for op in [op::verify(&attributes), op::nverify(&attributes)] {
            let reply = session.run(&[Session::path("hello"), vec![op]].concat());
            assert!(codes.contains(&reply.status), "{:?}: {:?}", attributes.mask, reply.status);
        }
    }
    // Cut, and with something behind: no XDR, or not the same.
    for (mask, values) in [
        (1 << 4, vec![0; 4]),
        (1 << 4, [size, vec![0; 4]].concat()),
        (1 << 19, vec![0xff; 8]),
        (1 << 4, vec![]),
    ] {
        let attributes = Fattr { mask: vec![mask], values };
        let verify = session.status(&[Session::path("hello"), vec![op::verify(&attributes)]].concat());
        assert!([BADXDR, INVAL, NOT_SAME].contains(&verify), "{verify:?}");
        let nverify = session.status(&[Session::path("hello"), vec![op::nverify(&attributes)]].concat());
        assert!([BADXDR, INVAL, OK].contains(&nverify), "{nverify:?}");
    }
    // Nothing is the same as nothing.
    session.last(&[Session::path("hello"), vec![op::verify(&Fattr::default())]].concat());
}

#[test]
fn a_lease_is_as_long_as_it_is_told() {
    let scene = Scene::with("lease = 17");
    let mut session = scene.session();
    let root = session.find("");
    assert_eq!(session.attributes(&root, &[10]).word(10), 17);
    let Body::Attributes(_) = session.last(&[op::putrootfh(), op::getattr(&[10])]) else { panic!() };
}
