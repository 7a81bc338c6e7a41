//! The proof directory, by the bytes on the wire: what an NFSv3 client without extended attributes sees.

use std::fs;

use nfs_verity::verity::Descriptor;
use nfs_verity::wire::Reader;

use super::support::{
    Client, NFS, NFS3ERR_ACCES, NFS3ERR_NOENT, NFS3ERR_ROFS, NFS3ERR_STALE, Site, Status, content, eventually,
};

const NFS3ERR_NOTDIR: Status = Status(20);
const NFS3ERR_ISDIR: Status = Status(21);
const NFS3ERR_INVAL: Status = Status(22);

fn site() -> Site {
    let site = Site::new();
    site.put("dir/file", &content(1, 10_000));
    site.put("top", b"at the top");
    site.sign(&[]);
    site.put("unsigned", b"by nobody");
    site
}

fn text(client: &mut Client, path: &str) -> String {
    let file = client.find(path).unwrap();
    let bytes = client.read_all(&file, 7).unwrap();
    assert_eq!(client.getattr(&file), Ok(bytes.len() as u64), "{path}");
    String::from_utf8(bytes).unwrap()
}

/// The bytes of GETATTR, without the time of the last access, which listing moves.
fn attributes(client: &mut Client, handle: &[u8]) -> Vec<u8> {
    let reply = client.call(NFS, 1, |w| _ = w.opaque(handle));
    let mut reader = Reader::new(&reply);
    assert_eq!(reader.u32().unwrap(), 0);
    let attr = reader.fixed(84).unwrap();
    [&attr[..60], &[0; 8], &attr[68..]].concat()
}

/// Size, mtime and ctime: what a client of NFSv3 knows a new version by.
fn version(client: &mut Client, handle: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let attr = attributes(client, handle);
    (attr[20..28].to_vec(), attr[68..84].to_vec())
}

fn names(client: &mut Client, path: &[u8]) -> Vec<String> {
    let directory = client.mount(path).unwrap();
    let names = client.names(&directory, 512).unwrap();
    let mut names: Vec<_> = names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

#[test]
fn every_item_of_a_signed_file_is_read() {
    let site = site();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let items = ["descriptor", "digest", "signer", "statement", "status", "tree"];
    assert_eq!(names(&mut client, b"/.verity/dir/file"), items);
    assert_eq!(names(&mut client, b"/.verity/dir"), ["file"]);
    assert_eq!(names(&mut client, b"/.verity"), ["dir", "top", "unsigned"]);

    let descriptor = client.find(".verity/dir/file/descriptor").unwrap();
    let descriptor = Descriptor::parse(&client.read_all(&descriptor, 1000).unwrap()).unwrap();
    assert_eq!(descriptor.size, 10_000);
    let digest = descriptor.file_digest().to_string();
    assert_eq!(text(&mut client, ".verity/dir/file/digest"), format!("{digest}\n"));
    assert_eq!(text(&mut client, ".verity/dir/file/status"), "verified\n");
    assert!(text(&mut client, ".verity/dir/file/signer").contains("release"));
    assert!(text(&mut client, ".verity/dir/file/tree").ends_with('\n'));
    let statement = text(&mut client, ".verity/dir/file/statement");
    let evidence = fs::read(site.evidence("dir/file")).unwrap();
    assert!(evidence.windows(statement.len()).any(|window| window == statement.as_bytes()));
    assert!(statement.starts_with('{'));
    assert!(text(&mut client, ".verity/unsigned/status").starts_with("unsigned"));
    assert!(!names(&mut client, b"/.verity/unsigned").contains(&"statement".to_owned()));
    // What is said of a file is no READ of a file.
    assert_eq!(gateway.metric("nfs_verity_read_bytes_total"), 0.0);
}

#[test]
fn it_is_hidden_listed_or_off_as_the_flags_say() {
    let site = site();
    let seen = ["dir", "top", "unsigned"];
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    assert_eq!(names(&mut client, b"/"), seen);
    drop(gateway);
    let gateway = site.serve(&["--proof-directory", "proof", "--proof-directory-listed"]);
    let mut client = Client::connect(gateway.nfs);
    assert_eq!(names(&mut client, b"/"), [&["dir", "proof"], &seen[1..]].concat());
    assert_eq!(text(&mut client, "proof/top/status"), "verified\n");
    assert_eq!(client.find(".verity"), Err(NFS3ERR_NOENT));
    let status = client.find("proof/top/status").unwrap();
    drop(gateway);
    let gateway = site.serve(&["--proof-directory", "off", "--proof-directory-listed"]);
    let mut client = Client::connect(gateway.nfs);
    assert_eq!(names(&mut client, b"/"), seen);
    assert_eq!(client.find("off"), Err(NFS3ERR_NOENT));
    assert_eq!(client.find(".verity"), Err(NFS3ERR_NOENT));
    assert_eq!(client.read(&status, 0, 10), Err(NFS3ERR_STALE));
}

#[test]
fn directories_of_it_can_be_mounted_and_files_cannot() {
    let site = site();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    for path in ["/.verity", "/.verity/dir", "/.verity/dir/file", "//.verity//dir/../dir/"] {
        assert!(client.mount(path.as_bytes()).is_ok(), "{path}");
    }
    for path in ["/.verity/dir/file/status", "/.verity/none", "/.verity/.nfs-verity", "/.verity/.verity"] {
        assert!(client.mount(path.as_bytes()).is_err(), "{path}");
    }
    let file = client.mount(b"/.verity/dir/file").unwrap();
    let (status, size) = client.lookup(&file, b"status").unwrap();
    assert_eq!(client.read(&status, 0, 100).unwrap(), (b"verified\n".to_vec(), true));
    assert_eq!(size, 9);
    let (dir, _) = client.lookup(&file, b"..").unwrap();
    assert_eq!(dir, client.mount(b"/.verity/dir").unwrap());
    assert_eq!(client.lookup(&status, b"x"), Err(NFS3ERR_NOTDIR));
    let read = client.read(&file, 0, 10);
    assert!(read == Err(NFS3ERR_INVAL) || read == Err(NFS3ERR_ISDIR), "{read:?}");
}

#[test]
fn handles_into_it_survive_kill_and_restart() {
    let site = site();
    let mut gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let mut before = Vec::new();
    for path in [".verity", ".verity/dir", ".verity/dir/file", ".verity/dir/file/digest"] {
        let handle = client.find(path).unwrap();
        let attr = attributes(&mut client, &handle);
        before.push((handle, attr));
    }
    let digest = text(&mut client, ".verity/dir/file/digest");
    gateway.child.kill().unwrap();
    gateway.child.wait().unwrap();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    assert_eq!(client.read(&before[3].0, 0, 100).unwrap().0, digest.as_bytes());
    for (handle, attr) in before {
        assert_eq!(attributes(&mut client, &handle), attr);
    }
}

#[test]
fn revocation_tampering_and_repair_are_seen_by_who_has_the_file_open() {
    let site = site();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let status = client.find(".verity/dir/file/status").unwrap();
    let file = client.find("dir/file").unwrap();
    let said = |client: &mut Client| String::from_utf8(client.read_all(&status, 100).unwrap()).unwrap();
    assert_eq!(said(&mut client), "verified\n");
    let verified = version(&mut client, &status);

    let good = fs::read(site.evidence("dir/file")).unwrap();
    fs::write(site.evidence("dir/file"), &good[..good.len() / 2]).unwrap();
    eventually("tampering", || said(&mut client).starts_with("malformed-evidence"));
    let tampered = version(&mut client, &status);
    assert_ne!(tampered.1, verified.1, "its times move");
    assert!(client.read(&file, 0, 100).is_err());
    fs::write(site.evidence("dir/file"), &good).unwrap();
    eventually("repair", || said(&mut client) == "verified\n");
    assert_eq!(version(&mut client, &status), verified);

    fs::create_dir(site.trust().join("revoked")).unwrap();
    fs::copy(site.trust().join("release.pub"), site.trust().join("revoked/release.pub")).unwrap();
    eventually("revocation", || said(&mut client).starts_with("revoked"));
    assert_ne!(version(&mut client, &status).1, verified.1, "its times move");
    assert_eq!(client.read(&file, 0, 100), Err(NFS3ERR_ACCES));
}

#[test]
fn nothing_of_it_can_be_changed() {
    let site = site();
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let directory = client.find(".verity/dir/file").unwrap();
    let status = client.find(".verity/dir/file/status").unwrap();
    assert_eq!(client.access(&status, 0x3f), Ok(1));
    assert_eq!(client.access(&directory, 0x3f), Ok(3));
    let mut refused = |procedure, arguments: &dyn Fn(&mut nfs_verity::wire::Writer)| {
        let reply = client.call(NFS, procedure, |w| arguments(w));
        Status(Reader::new(&reply).u32().unwrap())
    };
    // WRITE, SETATTR of the size, REMOVE, CREATE.
    let write = refused(7, &|w| _ = w.opaque(&status).u64(0).u32(1).u32(2).opaque(b"x"));
    assert_eq!(write, NFS3ERR_ROFS);
    let setattr =
        refused(2, &|w| _ = w.opaque(&status).u32(0).u32(0).u32(0).u32(1).u64(0).u32(0).u32(0).u32(0));
    assert_eq!(setattr, NFS3ERR_ROFS);
    let remove = refused(12, &|w| _ = w.opaque(&directory).opaque(b"status"));
    assert_eq!(remove, NFS3ERR_ROFS);
    let create = refused(8, &|w| _ = w.opaque(&directory).opaque(b"new").u32(2).u64(0));
    assert_eq!(create, NFS3ERR_ROFS);
    assert_eq!(text(&mut client, ".verity/dir/file/status"), "verified\n");
}

#[test]
fn the_store_cannot_speak_in_its_name() {
    let site = site();
    fs::create_dir_all(site.tree().join(".verity/unsigned")).unwrap();
    fs::write(site.tree().join(".verity/unsigned/status"), "verified\n").unwrap();
    fs::write(site.tree().join(".verity/note"), "trust me").unwrap();
    let log = site.path("audit.log");
    let gateway = site.serve(&["--audit-log", log.to_str().unwrap()]);
    let mut client = Client::connect(gateway.nfs);
    assert!(text(&mut client, ".verity/unsigned/status").starts_with("unsigned"));
    assert_eq!(client.find(".verity/note"), Err(NFS3ERR_NOENT));
    assert_eq!(names(&mut client, b"/"), ["dir", "top", "unsigned"]);
    eventually("the shadow is reported", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("\"event\":\"shadowed\",\"name\":\".verity\""))
    });
}
