//! GETXATTR and LISTXATTRS, and what they say of a file's proof: RFC 8276 section 8.

use super::code::*;
use super::op::{self, Op};
use super::reply::Body;
use super::scene::{HELLO, Scene};
use super::support::eventually;
use super::wire::Session;

fn list(session: &mut Session, handle: &[u8], maxcount: u32) -> Vec<Vec<u8>> {
    let (mut all, mut cookie) = (Vec::new(), 0);
    loop {
        match session.last(&[op::putfh(handle), op::listxattrs(cookie, maxcount)]) {
            Body::Names { cookie: next, names, eof } => {
                // LISTXATTRS4resok: cookie, names, eof.
                let size: usize = names.iter().map(|name| 4 + name.len().next_multiple_of(4)).sum();
                assert!(16 + size <= maxcount as usize, "{size} bytes of names, asked for {maxcount}");
                assert!(eof || !names.is_empty(), "no progress");
                all.extend(names);
                cookie = next;
                if eof {
                    return all;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn get(session: &mut Session, handle: &[u8], name: &str) -> Vec<u8> {
    match session.last(&[op::putfh(handle), op::getxattr(name.as_bytes())]) {
        Body::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

fn text(session: &mut Session, handle: &[u8], name: &str) -> String {
    String::from_utf8(get(session, handle, name)).unwrap()
}

#[test]
fn the_proof_of_a_file_is_told() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let names = list(&mut session, &hello, 8192);
    for name in [
        "verity.digest",
        "verity.descriptor",
        "verity.statement",
        "verity.signer",
        "verity.status",
        "verity.tree",
    ] {
        assert!(names.contains(&name.as_bytes().to_vec()), "{name} is not in {names:?}");
    }
    // What is listed is there, and what is not is not.
    for name in &names {
        session.last(&[op::putfh(&hello), op::getxattr(name)]);
        assert!(!name.starts_with(b"user."), "RFC 8276 section 8.1: names have no prefix");
    }
    for name in ["verity.signature", "ima", "verity.certificates"] {
        assert!(!names.contains(&name.as_bytes().to_vec()));
        session.fails(&[op::putfh(&hello), op::getxattr(name.as_bytes())], NOXATTR);
    }
    assert_eq!(text(&mut session, &hello, "verity.status"), "verified");
    let descriptor = get(&mut session, &hello, "verity.descriptor");
    let parsed = nfs_verity::verity::Descriptor::parse(&descriptor).unwrap();
    assert_eq!(parsed.size, HELLO.len() as u64);
    let told = text(&mut session, &hello, "verity.digest");
    let (algorithm, hex) = told.split_once(':').unwrap();
    assert_eq!((algorithm, hex.len()), ("sha256", 64));
    use sha2::Digest as _;
    assert_eq!(
        hex::decode(hex).unwrap(),
        sha2::Sha256::digest(&descriptor).to_vec(),
        "the digest is that of the descriptor"
    );
    let statement = text(&mut session, &hello, "verity.statement");
    let stored =
        nfs_verity::carrier::bundle::Head::parse(&bytes::Bytes::from(head(&scene, "hello"))).unwrap();
    assert_eq!(
        stored.evidence.statement.as_deref(),
        Some(statement.as_bytes()),
        "as the publisher signed it"
    );
    assert_eq!(stored.evidence.descriptor.as_deref(), Some(&descriptor[..]));
    assert!(!text(&mut session, &hello, "verity.signer").is_empty());
}

/// The head of a file's bundle.
fn head(scene: &Scene, path: &str) -> Vec<u8> {
    let bundle = std::fs::read(scene.site.evidence(path)).unwrap();
    let extent = nfs_verity::carrier::bundle::Head::extent(&bundle, bundle.len() as u64).unwrap();
    bundle[..extent].to_vec()
}

#[test]
fn a_list_comes_whole_however_small_its_pages() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let all = list(&mut session, &hello, 65_536);
    for maxcount in [44, 60, 100, 8192, u32::MAX] {
        assert_eq!(list(&mut session, &hello, maxcount), all, "{maxcount}");
    }
    for maxcount in [0, 1, 16, 20] {
        session.fails(&[op::putfh(&hello), op::listxattrs(0, maxcount)], TOOSMALL);
    }
    let status = session.status(&[op::putfh(&hello), op::listxattrs(u64::MAX, 8192)]);
    assert!([BAD_COOKIE, OK].contains(&status), "{status:?}");
}

#[test]
fn names_that_are_none() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let cases: [(&[u8], &[Code]); 7] = [
        (b"none", &[NOXATTR]),
        (b"attr1", &[NOXATTR]),
        (b"user.verity.status", &[NOXATTR]),
        (b"security.ima", &[NOXATTR]),
        (b"", &[INVAL, NOXATTR]),
        (&[b'x'; 256], &[NAMETOOLONG, NOXATTR]),
        (b"verity.status\0", &[NOXATTR, INVAL]),
    ];
    for (name, codes) in cases {
        let status = session.status(&[op::putfh(&hello), op::getxattr(name)]);
        assert!(codes.contains(&status), "{}: {status:?}", name.escape_ascii());
    }
    let option = Op::new(73, |w| _ = w.u32(3).opaque(b"name").opaque(b"value"));
    let status = session.status(&[op::putfh(&hello), option]);
    assert!([BADXDR, INVAL, ROFS].contains(&status), "{status:?}");
}

#[test]
fn what_has_no_proof_has_no_attributes_but_is_asked_all_the_same() {
    let scene = Scene::new();
    let mut session = scene.session();
    for path in ["", "dir", "link"] {
        let handle = session.find(path);
        assert_eq!(list(&mut session, &handle, 8192), Vec::<Vec<u8>>::new(), "{path:?}");
        session.fails(&[op::putfh(&handle), op::getxattr(b"verity.status")], NOXATTR);
    }
    let unsigned = session.find("unsigned");
    let names = list(&mut session, &unsigned, 8192);
    assert!(names.contains(&b"verity.status".to_vec()), "{names:?}");
    assert!(!names.contains(&b"verity.digest".to_vec()), "{names:?}");
    assert_ne!(text(&mut session, &unsigned, "verity.status"), "verified");
}

#[test]
fn a_stored_attribute_passes_when_the_export_says_so_and_shadows_nothing() {
    let scene = Scene::with("xattrs = \"all\"");
    let path = scene.site.tree().join("hello");
    for (name, value) in [
        ("user.colour", "blue"),
        ("user.verity.status", "verified, believe me"),
        ("user.verity.anything", "x"),
        ("user.ima", "forged"),
    ] {
        let set = rustix::fs::setxattr(&path, name, value.as_bytes(), rustix::fs::XattrFlags::empty());
        if set.is_err() {
            println!("no extended attributes here: {set:?}");
            return;
        }
    }
    let mut session = scene.session();
    let hello = session.find("hello");
    let names = list(&mut session, &hello, 8192);
    assert!(names.contains(&b"colour".to_vec()), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == b"verity.status").count(), 1);
    assert!(!names.contains(&b"verity.anything".to_vec()) && !names.contains(&b"ima".to_vec()), "{names:?}");
    assert_eq!(get(&mut session, &hello, "colour"), b"blue");
    assert_eq!(get(&mut session, &hello, "verity.status"), b"verified");
    session.fails(&[op::putfh(&hello), op::getxattr(b"verity.anything")], NOXATTR);
    session.fails(&[op::putfh(&hello), op::getxattr(b"ima")], NOXATTR);
    session.fails(&[op::putfh(&hello), op::setxattr(0, b"colour", b"red")], ROFS);
    session.fails(&[op::putfh(&hello), op::removexattr(b"colour")], ROFS);
}

#[test]
fn a_stored_attribute_does_not_pass_otherwise() {
    let scene = Scene::new();
    let path = scene.site.tree().join("hello");
    if rustix::fs::setxattr(&path, "user.colour", b"blue", rustix::fs::XattrFlags::empty()).is_err() {
        return;
    }
    let mut session = scene.session();
    let hello = session.find("hello");
    assert!(!list(&mut session, &hello, 8192).contains(&b"colour".to_vec()));
    session.fails(&[op::putfh(&hello), op::getxattr(b"colour")], NOXATTR);
}

#[test]
fn revocation_moves_the_change_attribute_and_is_told() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let before = session.attributes(&hello, &[3]).long(3);
    let open = session.open_file(&hello, b"o");
    assert_eq!(text(&mut session, &hello, "verity.status"), "verified");
    let digest = text(&mut session, &hello, "verity.digest");
    let revoked = scene.site.trust().join("revoked");
    std::fs::create_dir(&revoked).unwrap();
    std::fs::write(revoked.join("files.txt"), format!("{digest}\n")).unwrap();
    eventually("the change attribute moves", || session.attributes(&hello, &[3]).long(3) != before);
    let status = text(&mut session, &hello, "verity.status");
    assert!(status != "verified" && status.contains("revoked"), "{status}");
    let read = session.status(&[op::putfh(&hello), op::read(open, 0, 5)]);
    assert_eq!(read, ACCESS);
    let after = session.attributes(&hello, &[3]).long(3);
    // And back.
    std::fs::remove_file(revoked.join("files.txt")).unwrap();
    scene.gateway.signal("HUP");
    eventually("the change attribute moves again", || session.attributes(&hello, &[3]).long(3) != after);
    assert_eq!(text(&mut session, &hello, "verity.status"), "verified");
}

#[test]
fn a_new_signature_moves_the_change_attribute() {
    let scene = Scene::new();
    let mut session = scene.session();
    let hello = session.find("hello");
    let before = session.attributes(&hello, &[3]).long(3);
    let told = text(&mut session, &hello, "verity.statement");
    scene.site.sign(&["--force", "--expires", "2099-01-01T00:00:00Z"]);
    eventually("the change attribute moves", || session.attributes(&hello, &[3]).long(3) != before);
    assert_ne!(text(&mut session, &hello, "verity.statement"), told);
}

#[test]
fn a_damaged_block_is_told_once_it_is_found() {
    let scene = Scene::new();
    let mut session = scene.session();
    let bad = session.find("bad");
    let before = session.attributes(&bad, &[3]).long(3);
    let read =
        [op::putfh(&bad), op::read(op::Stateid::ANONYMOUS, (super::scene::BAD_BLOCK * 4096) as u64, 10)];
    session.fails(&read, IO);
    assert_ne!(text(&mut session, &bad, "verity.status"), "verified");
    assert_ne!(session.attributes(&bad, &[3]).long(3), before);
}
