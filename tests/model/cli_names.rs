//! Names and shapes of trees, as `sign` and `verify` meet them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::cli::{Ends, Said, contents, inspect, sign, verify};
use crate::support::{Site, content};

fn signed(said: &Said) -> u64 {
    said.json()["signed"].as_u64().unwrap()
}

#[test]
fn any_name_that_the_file_system_takes_is_signed_and_verified() {
    let site = Site::new();
    let long = [b'n'; 255];
    let names: [&[u8]; 14] = [
        b"plain",
        b"two words",
        b" ",
        b"new\nline",
        b"carriage\rreturn\ttab",
        b"-rf",
        b"--force",
        b"caf\xe9 in latin-1",
        b"\xff\xfe\x80",
        "ünïcödé 文件 🦀".as_bytes(),
        b"\"quoted\\slash'",
        b"\x1b[31mred\x07",
        b"d/.nfs-verity/f",
        &long,
    ];
    for (n, name) in names.iter().enumerate() {
        site.put(OsStr::from_bytes(name), &content(n as u64, 5000));
    }
    let before = verify(&site).ends(1).out;
    for line in ["new\\x0aline: unsigned", "caf\\xe9 in latin-1: unsigned", "\\xff\\xfe\\x80: unsigned"] {
        assert!(before.contains(line), "{line} in {before}");
    }
    assert_eq!(before.lines().count(), names.len() + 1, "each on one line: {before}");
    assert!(!before.contains('\x1b'));

    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), names.len() as u64);
    verify(&site).ends(0);
    for name in names {
        let name = OsStr::from_bytes(name);
        let json = inspect(&site, "--").arg(name).ends(0).json();
        assert_eq!(json["path_hex"], hex::encode(name.as_bytes()));
        verify(&site).arg("--").arg(name).ends(0);
    }
}

/// Makes `levels` directories in one another, and the file `leaf` in the last of them, whatever the
/// length of the whole path. Gives that path.
fn deep(root: &Path, name: &[u8], levels: usize) -> Vec<u8> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(root, directory, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, name, directory, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let leaf = rustix::fs::openat(&at, "leaf", flags, Mode::from_raw_mode(0o644)).unwrap();
    File::from(leaf).write_all(&content(levels as u64, 10_000)).unwrap();
    [&[name, b"/"].concat().repeat(levels)[..], b"leaf"].concat()
}

#[test]
fn deep_trees_are_signed_and_verified() {
    let site = Site::new();
    let paths = [deep(&site.tree(), b"d", 300), deep(&site.tree(), &[b'x'; 255], 40)];
    assert!(paths[1].len() > 2 * 4096, "longer than one system call takes");
    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), 2);
    verify(&site).ends(0);
    for path in &paths {
        let path = OsStr::from_bytes(path);
        verify(&site).arg(path).ends(0);
        inspect(&site, path).ends(0);
        assert_eq!(signed(&sign(&site).args(["--json", "--force"]).arg(path).ends(0)), 1);
    }
}

#[test]
fn what_lies_too_deep_is_reported_and_not_passed_over() {
    let site = Site::new();
    site.put("a", b"content");
    assert!(deep(&site.tree(), &[b'x'; 255], 66).len() > 16 * 1024);
    let said = sign(&site).arg("--json").ends(3);
    said.complains_of(&["too long"]);
    assert_eq!((signed(&said), &said.json()["failed"]), (1, &1.into()));
    verify(&site).ends(3).complains_of(&["too long"]);
}

#[test]
fn every_name_of_a_file_is_signed_for_itself() {
    let site = Site::new();
    site.put("a", b"content");
    fs::create_dir(site.tree().join("d")).unwrap();
    fs::hard_link(site.tree().join("a"), site.tree().join("d/b")).unwrap();
    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), 2);
    verify(&site).args(["a", "d/b"]).ends(0);
    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), 0);
    fs::remove_file(site.evidence("d/b")).unwrap();
    assert!(verify(&site).ends(1).out.contains("d/b: unsigned"), "the other name does not count");
}

#[test]
fn a_file_may_take_a_directory_s_place_and_a_directory_a_file_s() {
    let site = Site::new();
    let path = |name: &str| site.tree().join(name);
    // Many files in the place of one, so that many workers meet the old evidence at once.
    for round in 0..10 {
        for parent in ["x", "x/y"] {
            site.put(format!("{parent}/was-file"), b"a file");
            site.put(format!("{parent}/was-dir/deep/f"), b"in a directory");
        }
        sign(&site).ends(0);
        for parent in ["x", "x/y"] {
            fs::remove_file(path(&format!("{parent}/was-file"))).unwrap();
            fs::remove_dir_all(path(&format!("{parent}/was-dir"))).unwrap();
            site.put(format!("{parent}/was-dir"), b"now a file");
            for n in 0..30 {
                site.put(format!("{parent}/was-file/{n}/f"), &content(n, 100));
            }
        }
        sign(&site).args(["--jobs", "16"]).ends(0);
        let said = verify(&site).output().unwrap();
        assert!(said.status.success(), "round {round}: {}", String::from_utf8_lossy(&said.stdout));
        for parent in ["x", "x/y"] {
            assert!(site.evidence(format!("{parent}/was-dir")).is_file());
            assert!(site.evidence(format!("{parent}/was-file")).is_dir());
        }
        fs::remove_dir_all(path("x")).unwrap();
        fs::remove_dir_all(site.evidence("x")).unwrap();
    }
}

#[test]
fn symbolic_links_are_never_followed() {
    let site = Site::new();
    let outside = site.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    site.put("real/f", b"content");
    for (target, link) in [
        (outside.as_path(), "to-directory"),
        (&outside.join("secret"), "to-file"),
        (Path::new("real"), "inside-directory"),
        (Path::new("real/f"), "inside-file"),
        (Path::new("../outside/secret"), "relative"),
        (Path::new("."), "loop"),
        (Path::new("nowhere"), "dangling"),
    ] {
        symlink(target, site.tree().join(link)).unwrap();
    }
    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), 1);
    let evidence: Vec<_> = contents(&site.evidence("")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(evidence, [site.evidence("real/f")]);
    verify(&site).ends(0);
    for through in ["to-directory/secret", "inside-directory/f"] {
        sign(&site).arg(through).ends(3).complains_of(&[through]);
        verify(&site).arg(through).ends(3).complains_of(&[through]);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing is written outside");
}

#[test]
fn evidence_is_never_written_through_a_link() {
    for link in [".nfs-verity", ".nfs-verity/d", ".nfs-verity/d/f", ".nfs-verity/.nfs-verity"] {
        let site = Site::new();
        site.put("d/f", b"content");
        fs::create_dir(site.path("outside")).unwrap();
        fs::create_dir_all(site.tree().join(link).parent().unwrap()).unwrap();
        symlink(site.path("outside"), site.tree().join(link)).unwrap();
        // Whether the link is replaced or refused is a matter of where it stands.
        let status = sign(&site).output().unwrap().status;
        assert!(matches!(status.code(), Some(0 | 3)), "{link}: {status}");
        assert_eq!(status.success(), verify(&site).output().unwrap().status.success(), "{link}");
        assert_eq!(fs::read_dir(site.path("outside")).unwrap().count(), 0, "{link}");
    }
}

#[test]
fn pipes_and_sockets_are_no_files() {
    let site = Site::new();
    site.put("f", b"content");
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(CWD, site.tree().join("pipe"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(site.tree().join("socket")).unwrap();
    assert_eq!(signed(&sign(&site).arg("--json").ends(0)), 1);
    let said = verify(&site).arg("--json").ends(0).json();
    assert_eq!((&said["good"], &said["failed"], &said["unreadable"]), (&1.into(), &0.into(), &0.into()));
}

#[test]
fn the_evidence_is_not_signed_itself() {
    let site = Site::new();
    site.put("f", b"content");
    for _ in 0..3 {
        sign(&site).arg("--force").ends(0);
    }
    sign(&site).args([".nfs-verity", ".nfs-verity/f"]).ends(0);
    assert_eq!(contents(&site.evidence("")).len(), 1);
}
