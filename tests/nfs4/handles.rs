//! File handles, names, ACCESS and SECINFO: RFC 8881 sections 4, 14, 18.1, 18.8, 18.13, 18.14, 18.19 to 18.21,
//! 18.24, 18.27 to 18.29 and 18.45.

use super::code::*;
use super::compound::every_operation;
use super::op::{self, Fattr, Op, Stateid};
use super::reply::Body;
use super::scene::Scene;
use super::wire::Session;

#[test]
fn a_handle_that_was_given_is_taken_again() {
    let scene = Scene::new();
    let mut session = scene.session();
    for path in ["", "hello", "link", "dir", "dir/sub/deep", "bad", "unsigned"] {
        let handle = session.find(path);
        assert!(!handle.is_empty() && handle.len() <= 128);
        let again = session.last(&[op::putfh(&handle), op::getfh()]);
        assert_eq!(again, Body::Handle(handle.clone()), "{path}");
        let mut other = scene.session();
        assert_eq!(other.find(path), handle, "{path} has one handle");
        other.last(&[op::putfh(&handle), op::getattr(&[1])]);
    }
    let root = session.find("");
    assert_eq!(session.last(&[op::putpubfh(), op::getfh()]), Body::Handle(root));
}

#[test]
fn handles_that_were_never_given_are_refused() {
    let scene = Scene::new();
    let mut session = scene.session();
    let real = session.find("hello");
    let mut forged: Vec<Vec<u8>> =
        vec![b"abc".to_vec(), vec![], vec![0; 128], vec![0xff; 64], real[1..].to_vec()];
    forged.push([&real[..], &[0]].concat());
    forged.extend((0..real.len()).map(|n| real[..n].to_vec()));
    forged.extend((0..real.len() * 8).map(|bit| {
        let mut handle = real.clone();
        handle[bit / 8] ^= 1 << (bit % 8);
        handle
    }));
    for handle in forged {
        session.fails(&[op::putfh(&handle)], BADHANDLE);
    }
    let long = op::putfh(&[7; 129]);
    assert!([BADXDR, BADHANDLE].contains(&session.status(&[long])));
}

#[test]
fn what_needs_a_current_file_handle_says_so() {
    let scene = Scene::new();
    let mut session = scene.session();
    let no_need = [5..=5, 7..=8, 19..=20, 22..=24, 30..=30, 31..=31, 35..=36, 39..=51, 53..=67, 70..=71];
    for op in every_operation() {
        if !no_need.iter().any(|range| range.contains(&op.number)) {
            session.fails(std::slice::from_ref(&op), NOFILEHANDLE);
        }
    }
    session.fails(&[op::open_fh(b"owner")], NOFILEHANDLE);
    session.fails(&[op::secinfo_no_name(1)], NOFILEHANDLE);
    // What needs a saved one, too.
    for op in [op::link(b"new"), op::rename(b"hello", b"new")] {
        session.fails(&[op::putrootfh(), op], NOFILEHANDLE);
    }
    // Section 15.1.16.4 has NFS4ERR_RESTOREFH as a thing of the past that is still seen.
    assert!([NOFILEHANDLE, RESTOREFH].contains(&session.status(&[op::restorefh()])));
    assert!([NOFILEHANDLE, RESTOREFH].contains(&session.status(&[op::putrootfh(), op::restorefh()])));
}

#[test]
fn a_saved_handle_is_restored() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (dir, root) = (session.find("dir"), session.find(""));
    let saved = [op::putfh(&dir), op::savefh(), op::putrootfh(), op::getfh(), op::restorefh(), op::getfh()];
    let bodies = session.run(&saved).ok();
    assert_eq!((&bodies[3], &bodies[5]), (&Body::Handle(root), &Body::Handle(dir.clone())));
    // It stays saved.
    let twice =
        [op::putfh(&dir), op::savefh(), op::restorefh(), op::putrootfh(), op::restorefh(), op::getfh()];
    assert_eq!(session.last(&twice), Body::Handle(dir));
}

#[test]
fn names_that_are_looked_up() {
    let scene = Scene::new();
    let mut session = scene.session();
    let root = op::putrootfh();
    let cases: [(&[u8], &[_]); 12] = [
        (b"", &[INVAL]),
        (b"no such name", &[NOENT]),
        (&[b'x'; 255], &[NOENT]),
        (&[b'x'; 256], &[NAMETOOLONG]),
        (&[b'x'; 1536], &[NAMETOOLONG]),
        (b".", &[BADNAME]),
        (b"..", &[BADNAME]),
        (b"dir/a", &[BADNAME, BADCHAR, NOENT]),
        (b"hello\0", &[BADNAME, BADCHAR, NOENT, INVAL]),
        (b"\xff\xfe", &[NOENT, INVAL, BADCHAR]),
        // The evidence is nobody's to see.
        (b".nfs-verity", &[NOENT]),
        (b"HELLO", &[NOENT]),
    ];
    for (name, codes) in cases {
        for op in
            [op::lookup(name), op::secinfo(name), op::open(b"o", op::SHARE_READ, 0, op::Claim::Null(name))]
        {
            let reply = session.run(&[root.clone(), op.clone()]);
            assert!(
                codes.contains(&reply.status),
                "{:?}, operation {}: {:?}",
                name.escape_ascii().to_string(),
                op.number,
                reply.status
            );
        }
    }
    for (path, code) in [("hello", NOTDIR), ("link", SYMLINK), ("dir/sub/deep", NOTDIR), ("unsigned", NOTDIR)]
    {
        let handle = session.find(path);
        session.fails(&[op::putfh(&handle), op::lookup(b"x")], code);
        // Which of two mistakes is told is the server's choice.
        let nothing = session.status(&[op::putfh(&handle), op::lookup(b"")]);
        assert!([INVAL, code].contains(&nothing), "{nothing:?}");
    }
}

#[test]
fn parents_are_found_up_to_the_root() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (root, dir) = (session.find(""), session.find("dir"));
    let up =
        [Session::path("dir/sub"), vec![op::lookupp(), op::getfh(), op::lookupp(), op::getfh()]].concat();
    let bodies = session.run(&up).ok();
    assert_eq!((&bodies[4], &bodies[6]), (&Body::Handle(dir), &Body::Handle(root)));
    session.fails(&[op::putrootfh(), op::lookupp()], NOENT);
    session.fails(&[Session::path("hello"), vec![op::lookupp()]].concat(), NOTDIR);
    let link = [Session::path("link"), vec![op::lookupp()]].concat();
    assert!([NOTDIR, SYMLINK].contains(&session.status(&link)));
}

#[test]
fn links_are_told_and_not_followed() {
    let scene = Scene::new();
    let mut session = scene.session();
    let link = session.find("link");
    assert_eq!(session.last(&[op::putfh(&link), op::readlink()]), Body::Link(b"dir/a".to_vec()));
    for path in ["hello", "dir"] {
        let wrong = [Session::path(path), vec![op::readlink()]].concat();
        assert!([INVAL, WRONG_TYPE].contains(&session.status(&wrong)), "section 18.24.3");
    }
}

#[test]
fn access_is_granted_as_far_as_it_goes() {
    const READ: u32 = 1;
    const LOOKUP: u32 = 2;
    const CHANGES: u32 = 4 | 8 | 0x10 | 0x80;
    const EXECUTE: u32 = 0x20;
    const XAREAD: u32 = 0x40;
    const XALIST: u32 = 0x100;
    let scene = Scene::new();
    let executable = scene.site.tree().join("dir/a");
    std::fs::set_permissions(&executable, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut session = scene.session();
    let mut ask =
        |path: &str, bits| match session.last(&[Session::path(path), vec![op::access(bits)]].concat()) {
            Body::Access { supported, access } => {
                assert_eq!((supported & !bits, access & !supported), (0, 0), "{path}, {bits:#x}");
                (supported, access)
            }
            other => panic!("{other:?}"),
        };
    for (path, granted) in [
        ("", READ | LOOKUP | XAREAD | XALIST),
        ("dir", READ | LOOKUP | XAREAD | XALIST),
        ("hello", READ | XAREAD | XALIST),
        ("dir/a", READ | EXECUTE | XAREAD | XALIST),
        // Nobody signed it, so READ and OPEN refuse it. The read bit is there in 4.2 all the same, since Linux
        // wants it before it gets an extended attribute, and those say why.
        ("unsigned", READ | XAREAD | XALIST),
    ] {
        let (supported, access) = ask(path, 0x1ff);
        assert_eq!(access, granted, "{path}: {access:#x}");
        assert_eq!(supported & granted, granted);
        assert_eq!(access & CHANGES, 0);
        assert_eq!(supported & 0x80, 0x80, "{path}: what is not granted is known all the same");
        for bit in (0..9).map(|n| 1 << n) {
            assert_eq!(ask(path, bit).1, granted & bit, "{path}, {bit:#x} alone");
        }
    }
    assert_eq!(ask("hello", 0), (0, 0));
    // RFC 7862 section 15 and section 18.1: what is not defined is not supported, or not valid.
    let undefined = [Session::path("hello"), vec![op::access(0x8000_0001)]].concat();
    assert!([OK, INVAL].contains(&session.status(&undefined)));
    // In 4.1 there are no extended attributes to ask about.
    session.wire.minor = 1;
    let old = [Session::path("hello"), vec![op::access(0x1ff)]].concat();
    match session.run(&old) {
        reply if reply.status == OK => match reply.last() {
            Body::Access { access, .. } => assert_eq!(access & READ, READ),
            other => panic!("{other:?}"),
        },
        reply => assert_eq!(reply.status, INVAL),
    }
}

#[test]
fn security_of_names_is_told_and_the_handle_used_up() {
    let scene = Scene::new();
    let mut session = scene.session();
    let asks: [Vec<Op>; 4] = [
        vec![op::putrootfh(), op::secinfo(b"hello")],
        vec![op::putrootfh(), op::secinfo(b"dir")],
        vec![op::putrootfh(), op::secinfo_no_name(0)],
        [Session::path("dir/sub"), vec![op::secinfo_no_name(1)]].concat(),
    ];
    for ops in asks {
        match session.last(&ops) {
            Body::Flavors(flavors) => assert!(flavors.contains(&1), "AUTH_SYS is among {flavors:?}"),
            other => panic!("{other:?}"),
        }
        // Section 2.6.3.1.1.8.
        session.fails(&[ops, vec![op::getfh()]].concat(), NOFILEHANDLE);
    }
    session.fails(&[Session::path("hello"), vec![op::secinfo(b"x")]].concat(), NOTDIR);
    session.fails(&[op::putrootfh(), op::secinfo_no_name(1)], NOENT);
    assert!([BADXDR, INVAL].contains(&session.status(&[op::putrootfh(), op::secinfo_no_name(2)])));
}

#[test]
fn names_in_changes_that_are_refused_anyway() {
    let scene = Scene::new();
    let mut session = scene.session();
    for op in [op::create(b""), op::remove(b""), op::rename(b"", b"x"), op::link(b"")] {
        let reply = session.run(&[op::putrootfh(), op::savefh(), op]);
        assert!([INVAL, ROFS].contains(&reply.status), "{:?}", reply.status);
    }
    let attributes = Fattr::of(&[(4, vec![0; 8])]);
    session
        .fails(&[Session::path("hello"), vec![op::setattr(Stateid::ANONYMOUS, &attributes)]].concat(), ROFS);
}
