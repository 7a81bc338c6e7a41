//! `nfs-verity xattr` and `nfs-verity proof`: what a gateway tells, checked by somebody who trusts it with nothing.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::json;

use crate::cli::{Ends, Said, certificate, command, fsverity, keygen};
use crate::liar::{GETPROOF, GETXATTR, HEAD, LISTXATTRS, LOOKUP, MNT, READ, Record, liar, liar_about};
use crate::support::{Served, Site, content};

/// Three levels of tree blocks of 1 KiB.
const SIZE: usize = 1_200_000;

struct Scene {
    site: Site,
    served: Served,
}

/// A gateway that serves some signed files and one that nobody signed.
fn scene() -> Scene {
    let site = Site::new();
    site.put("d/a.bin", &content(1, SIZE));
    site.put("d/b.bin", &content(2, SIZE));
    site.put("small", b"one block");
    site.put("empty", b"");
    site.sign(&["--block-size", "1024", "--hash", "sha512", "--salt", "0102"]);
    site.put("new", b"nobody signed this");
    let served = site.serve(&[]);
    Scene { site, served }
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("nfs://{address}/{path}")
}

impl Scene {
    fn xattr(&self, path: &str) -> Command {
        let mut command = command("xattr");
        command.arg(url(self.served.nfs, path));
        command
    }

    /// `proof --trust` of a range at some address; the part it writes has to be the file's.
    fn proof_at(&self, address: SocketAddr, path: &str, offset: u64, length: u64) -> Command {
        let mut command = command("proof");
        command.arg("--trust").arg(self.site.trust()).arg(url(address, path));
        command.args(["--offset", &offset.to_string(), "--length", &length.to_string()]);
        command
    }

    fn proof(&self, path: &str, offset: u64, length: u64) -> Command {
        self.proof_at(self.served.nfs, path, offset, length)
    }
}

#[test]
fn every_attribute_is_listed_shown_and_checked() {
    let scene = scene();
    let said = scene.xattr("d/a.bin").arg("--trust").arg(scene.site.trust()).ends(0).out;
    let flags = ["--block-size=1024", "--hash-alg=sha512", "--salt=0102"].map(str::to_owned);
    let digest = fsverity(&scene.site.tree().join("d/a.bin"), &flags);
    let line = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{said}"));
        line.trim().to_owned()
    };
    assert_eq!(line("user.verity.status"), "verified");
    assert_eq!(line("user.verity.digest"), digest);
    assert!(line("user.verity.signer").ends_with("release"), "{said}");
    assert!(
        line("user.verity.statement").starts_with(&format!("d/a.bin is {digest}, version 1, says ")),
        "{said}"
    );
    assert!(said.contains("signed: by release (native, "), "{said}");
    assert!(said.contains("checked: the digest is that of the descriptor"), "{said}");

    let said = scene.xattr("d/a.bin").ends(0).out;
    assert!(said.contains("signed: not checked"), "{said}");
    let one = |name: &str| scene.xattr("d/a.bin").arg(name).ends(0).out;
    assert_eq!(one("user.verity.digest"), format!("{digest}\n"));
    assert_eq!(one("verity.status"), "verified\n");
    let raw = scene.xattr("d/a.bin").args(["--raw", "user.verity.descriptor"]).output().unwrap().stdout;
    assert_eq!(raw.len(), 256);
    assert_eq!(one("user.verity.descriptor"), format!("{}\n", hex(&raw)));

    let json = scene.xattr("d/a.bin").arg("--json").arg("--trust").arg(scene.site.trust()).ends(0).json();
    assert_eq!((&json["good"], &json["path"]), (&json!(true), &json!("d/a.bin")));
    assert_eq!(json["signed"]["by"][0]["name"], "release");
    let attributes = json["attributes"].as_array().unwrap();
    let find = |name: &str| attributes.iter().find(|attribute| attribute["name"] == name).unwrap();
    assert_eq!(find("user.verity.descriptor")["hex"], hex(&raw));
    assert_eq!(find("user.verity.status")["text"], "verified");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_does_not_hold_or_is_not_there_has_its_exit_status() {
    let Scene { site, .. } = &scene();
    let scene = scene();
    let stranger = site.path("stranger");
    fs::create_dir(&stranger).unwrap();
    keygen(site, "stranger/k");
    let said = scene.xattr("d/a.bin").arg("--trust").arg(&stranger).ends(1).out;
    assert!(said.contains("NOT by anybody who counts: unknown key"), "{said}");
    let trust = scene.site.trust();
    scene.xattr("d/a.bin").arg("--trust").arg(&trust).args(["--namespace", "other"]).ends(1);
    scene.xattr("d/a.bin").arg("user.none").ends(1).complains_of(&["no attribute user.none"]);
    assert_eq!(
        scene.xattr("new").arg("verity.status").ends(0).out.trim().split(':').next(),
        Some("unsigned")
    );
    scene.xattr("new").arg("--trust").arg(&trust).ends(1);
    scene.xattr("none").ends(3).complains_of(&["none", "no such file"]);
    scene.xattr("d/a.bin/x").ends(3);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    command("xattr").arg(url(free, "f")).ends(3).complains_of(&["cannot connect"]);
    command("xattr").arg("http://x/f").ends(2).complains_of(&["nfs://HOST[:PORT]/PATH"]);
    scene.xattr("d/a.bin").arg("--trust").arg(site.path("nowhere")).ends(2);
    scene.xattr("d/a.bin").arg("--raw").ends(2);

    scene.proof("new", 0, 5).ends(1);
    scene.proof("none", 0, 5).ends(3);
    scene.proof("d", 0, 5).ends(3).complains_of(&["NFS3ERR_INVAL"]);
    scene.proof("d/a.bin", 0, 5).args(["--namespace", "other"]).ends(1);
    let said = command("proof")
        .args(["--offset", "0", "--length", "1K"])
        .arg("--trust")
        .arg(&stranger)
        .arg(url(scene.served.nfs, "d/a.bin"))
        .ends(1);
    assert!(said.out.contains("unknown key"), "{}", said.out);
    assert!(said.out.contains("NOT PROVEN  nobody who counts vouches"), "{}", said.out);
    assert!(!said.out.contains("proven      "), "{}", said.out);
    let mut proof = command("proof");
    proof.args(["--json", "--offset", "0", "--length", "1K", "--trust"]).arg(&stranger);
    let json = proof.arg(url(scene.served.nfs, "d/a.bin")).ends(1).json();
    assert_eq!((&json["failure"]["cause"], &json["proven_bytes"]), (&json!("unknown key"), &json!(0)));
}

#[test]
fn signatures_that_bind_no_path_are_told_as_such() {
    let site = Site::new();
    site.put("tool", &content(1, 5000));
    let rsa = certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate).args(["--format", "fsverity"]);
    sign.arg(site.tree()).ends(0);
    let accept = ["--accept", "native,fsverity"];
    let served = site.serve(&accept);
    for (name, more) in [("xattr", &[][..]), ("proof", &["--offset", "0", "--length", "9"])] {
        let mut command = command(name);
        command.args(more).args(accept).arg("--trust").arg(site.trust()).arg(url(served.nfs, "tool"));
        let said = command.ends(0).out;
        assert!(said.contains("that the file belongs to this path: no native signature binds it"), "{said}");
    }
}

#[test]
fn what_an_attribute_says_is_compared_or_told_to_be_a_mere_word() {
    let scene = scene();
    let gateway = scene.served.nfs;
    let said = scene.xattr("d/a.bin").ends(0).out;
    let words = said.lines().find_map(|line| line.strip_prefix("not checked, the gateway's word: "));
    let mut words: Vec<&str> = words.unwrap().split(", ").collect();
    words.sort_unstable();
    assert_eq!(words, ["user.verity.signer", "user.verity.status", "user.verity.tree"]);
    let ask = |address| {
        let mut command = command("xattr");
        command.arg(url(address, "d/a.bin"));
        command
    };
    let twice = liar_about(gateway, LISTXATTRS, |reply| {
        let at = reply.windows(13).position(|w| w == b"verity.signer").unwrap();
        reply[at..at + 13].copy_from_slice(b"verity.digest");
    });
    ask(twice).ends(3).complains_of(&["lists an attribute twice"]);
    let another = liar(gateway, |of, record| {
        if let (LOOKUP, Record::Call(call)) = (of, record)
            && let Some(at) = call.windows(5).position(|w| w == b"a.bin")
        {
            call[at] = b'b';
        }
    });
    let said = ask(another).ends(1).out;
    assert!(said.contains("checked: wrong path: the statement is about d/b.bin"), "{said}");
    let without_descriptor = liar_about(gateway, GETXATTR, |reply| {
        if reply.len() == HEAD + 8 + 256 {
            reply.truncate(HEAD);
            reply.extend(10095_u32.to_be_bytes());
        } else if let Some(at) = reply.windows(7).position(|w| w == b"sha512:") {
            reply[at + 9] = if reply[at + 9] == b'0' { b'1' } else { b'0' };
        }
    });
    let said = ask(without_descriptor).ends(1).out;
    assert!(said.contains("checked: wrong digest: the statement is about"), "{said}");
    // A line of a value is none of this tool's.
    let lines = liar_about(gateway, GETXATTR, |reply| {
        if reply.ends_with(b"verified") {
            let at = reply.len() - 8;
            reply[at..].copy_from_slice(b"a\nsigned");
        }
    });
    assert_eq!(ask(lines).arg("verity.status").ends(0).out, "a\n  signed\n");
}

#[test]
fn ranges_are_proven_and_written() {
    let scene = scene();
    let out = scene.site.path("part");
    for (path, offset, length) in [
        ("d/a.bin", 0, 1),
        ("d/a.bin", 1023, 2),
        ("d/a.bin", 500_001, 70_000),
        ("d/a.bin", 0, SIZE as u64),
        ("d/a.bin", SIZE as u64 - 1, 1 << 40),
        ("small", 3, 5),
        ("small", 0, 100),
    ] {
        let said = scene.proof(path, offset, length).arg("--out").arg(&out).ends(0).out;
        let whole = fs::read(scene.site.tree().join(path)).unwrap();
        let end = (offset + length).min(whole.len() as u64);
        let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
        assert_eq!(fs::read(&out).unwrap(), whole[range.clone()], "{path} {offset} {length}");
        assert!(said.contains(&format!("proven      {} bytes from {offset} on", range.len())), "{said}");
        assert!(said.contains("signed      by release (native, "), "{said}");
        assert_eq!(said.contains("rest of the file"), range.len() < whole.len(), "{said}");
        assert!(said.contains("not proven  that no newer version"), "{said}");
    }
    for (path, offset) in [("d/a.bin", SIZE as u64), ("d/a.bin", u64::MAX), ("empty", 0)] {
        let said = scene.proof(path, offset, 10).arg("--out").arg(&out).ends(0).out;
        assert!(said.contains("ends before byte"), "{said}");
        assert!(fs::read(&out).unwrap().is_empty());
    }
    let untrusting = || {
        let mut command = command("proof");
        command.args(["--offset", "4K", "--length", "4K"]).arg(url(scene.served.nfs, "d/a.bin"));
        command
    };
    let said = untrusting().ends(0).out;
    assert!(said.contains("not proven  that anybody vouches for this digest"), "{said}");
    let json = untrusting().arg("--json").ends(0).json();
    assert_eq!((&json["good"], &json["proven_bytes"]), (&json!(true), &json!(4096)));
    assert_eq!((&json["signed"], &json["gateway"]), (&json!(null), &json!("verified")));
    assert_eq!((&json["data_blocks"], json["not_proven"].as_array().unwrap().len()), (&json!(4), 3));
}

#[test]
fn a_damaged_block_is_refused_by_the_gateway_and_told() {
    let scene = scene();
    crate::cli::flip(&scene.site.tree().join("d/a.bin"), 100 * 1024);
    scene.proof("d/a.bin", 0, 99 * 1024).ends(0);
    let out = scene.site.path("part");
    let said = scene.proof("d/a.bin", 90 * 1024, 50 * 1024).arg("--out").arg(&out).ends(1).out;
    assert!(said.contains("NOT PROVEN  unreadable: the gateway cannot prove it"), "{said}");
    assert!(!out.exists());
    let said = scene.xattr("d/a.bin").arg("user.verity.status").ends(0).out;
    assert!(said.starts_with("bad-block"), "{said}");
}

/// Changes one byte of the results, counted from their beginning.
fn flip(at: usize) -> impl Fn(&mut Vec<u8>) + Send + Sync {
    move |reply| {
        if let Some(byte) = reply.get_mut(HEAD + at) {
            *byte ^= 1;
        }
    }
}

#[test]
fn whatever_a_lying_gateway_changes_is_noticed() {
    let scene = scene();
    let gateway = scene.served.nfs;
    // Status, length and bytes of the descriptor, covered, count; then level, index, length of a block.
    const BLOCK: usize = 4 + 4 + 256 + 8 + 4 + 4 + 8 + 4;
    const NEXT: usize = 1024 + 4 + 8 + 4;
    // Status, attributes, count, end, length.
    const DATA: usize = 4 + 4 + 84 + 4 + 4 + 4;
    let cases: Vec<(&str, SocketAddr, &str)> = vec![
        ("root block", liar_about(gateway, GETPROOF, flip(BLOCK + 5)), "bad tree block"),
        ("leaf block", liar_about(gateway, GETPROOF, flip(BLOCK + 2 * NEXT + 700)), "bad tree block"),
        ("level", liar_about(gateway, GETPROOF, flip(BLOCK - 13)), "malformed evidence"),
        ("index", liar_about(gateway, GETPROOF, flip(BLOCK - 5)), "malformed evidence"),
        ("root hash", liar_about(gateway, GETPROOF, flip(8 + 16)), "wrong digest"),
        ("size", liar_about(gateway, GETPROOF, flip(8 + 8)), "wrong digest"),
        ("reserved", liar_about(gateway, GETPROOF, flip(8 + 255)), "malformed evidence"),
        ("covered", liar_about(gateway, GETPROOF, flip(4 + 4 + 256)), "malformed evidence"),
        (
            "covers nothing",
            liar_about(gateway, GETPROOF, |reply| reply[HEAD + 264..HEAD + 272].fill(0)),
            "malformed",
        ),
        (
            "covers a part of a block",
            liar_about(gateway, GETPROOF, |reply| {
                reply[HEAD + 264..HEAD + 272].copy_from_slice(&1_u64.to_be_bytes());
            }),
            "malformed evidence: the proof is said to end at byte 10241, within a block",
        ),
        (
            "a byte at a time",
            liar_about(gateway, READ, |reply| {
                reply.truncate(HEAD + DATA + 4);
                reply[HEAD + DATA - 12..HEAD + DATA].fill(0);
                (reply[HEAD + DATA - 9], reply[HEAD + DATA - 1]) = (1, 1);
                reply[HEAD + DATA + 1..].fill(0);
            }),
            "truncated: the gateway serves 1 of",
        ),
        (
            "first byte",
            liar_about(gateway, READ, flip(DATA)),
            "bad block: the gateway served other bytes for block 10",
        ),
        (
            "later byte",
            liar_about(gateway, READ, flip(DATA + 3000)),
            "bad block: the gateway served other bytes for block 12",
        ),
        (
            "no data",
            liar_about(gateway, READ, |reply| {
                reply.truncate(HEAD + DATA);
                reply[HEAD + DATA - 12..].fill(0);
            }),
            "truncated",
        ),
        ("any attribute", liar_about(gateway, GETXATTR, flip(4 + 4 + 9)), "wrong digest"),
        (
            "statement",
            liar_about(gateway, GETXATTR, |reply| {
                let text = String::from_utf8_lossy(reply).into_owned();
                if let Some(at) = text.find("\"sig\":\"") {
                    let at = at + reply.len() - text.len();
                    reply[at + 12] = if reply[at + 12] == b'A' { b'B' } else { b'A' };
                }
            }),
            "signature",
        ),
        (
            "no statement",
            liar_about(gateway, GETXATTR, |reply| {
                if reply.windows(8).any(|w| w == b"payload\"") {
                    reply.truncate(HEAD);
                    reply.extend(10095_u32.to_be_bytes());
                }
            }),
            "unsigned",
        ),
        (
            "proof of another range",
            liar(gateway, |of, record| {
                if let (GETPROOF, Record::Call(call)) = (of, record) {
                    let at = call.len() - 16;
                    call[at..at + 8].copy_from_slice(&500_000_u64.to_be_bytes());
                }
            }),
            "malformed evidence: the proof has block",
        ),
        (
            "data of another range",
            liar(gateway, |of, record| {
                if let (READ, Record::Call(call)) = (of, record) {
                    let at = call.len() - 12;
                    call[at..at + 8].copy_from_slice(&500_736_u64.to_be_bytes());
                }
            }),
            "bad block",
        ),
        (
            "another file",
            liar(gateway, |of, record| {
                if let (LOOKUP, Record::Call(call)) = (of, record)
                    && let Some(at) = call.windows(5).position(|w| w == b"a.bin")
                {
                    call[at] = b'b';
                }
            }),
            "wrong path",
        ),
        (
            "says that it is damaged",
            liar_about(gateway, READ, |reply| reply[HEAD..HEAD + 4].copy_from_slice(&5_u32.to_be_bytes())),
            "unreadable",
        ),
    ];
    let out = scene.site.path("part");
    for (name, address, expected) in cases {
        let said = scene.proof_at(address, "d/a.bin", 10 * 1024, 3072).arg("--out").arg(&out).ends(1);
        assert!(said.out.contains(expected), "{name}: {}", said.out);
        assert!(!out.exists() && parts(&scene.site) == 0, "{name} leaves something behind");
    }
    // It is the lies that are noticed.
    let honest = liar(gateway, |_, _| ());
    scene.proof_at(honest, "d/a.bin", 10 * 1024, 3072).arg("--out").arg(&out).ends(0);
}

/// Unfinished files beside the tree.
fn parts(site: &Site) -> usize {
    let names = fs::read_dir(site.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".part")).count()
}

#[test]
fn broken_replies_end_the_command_and_nothing_else() {
    let scene = scene();
    let gateway = scene.served.nfs;
    let proof = |address| scene.proof_at(address, "d/a.bin", 10 * 1024, 3072).output().unwrap();
    let broken = |name: String, address| {
        let output = proof(address);
        let said = Said {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert_eq!(output.status.code(), Some(3), "{name}: {}{}", said.out, said.err);
        assert!(!said.err.contains("panicked"), "{name}: {}", said.err);
    };
    for what in [MNT, LOOKUP, GETXATTR, GETPROOF, READ] {
        for keep in [0, 3, 8, 23, 24, 27, 31, 40] {
            // As much of the data as that, and no status, is nothing.
            let address = liar_about(gateway, what, move |reply| reply.truncate(keep));
            broken(format!("{what:?} cut to {keep}"), address);
        }
        for at in [0, 4, 8, 16, 20] {
            let address = liar_about(gateway, what, move |reply| reply[at..at + 4].fill(0xff));
            broken(format!("{what:?} with a wrong header at {at}"), address);
        }
        let address = liar_about(gateway, what, |reply| reply[HEAD + 4..HEAD + 8].fill(0xff));
        broken(format!("{what:?} with a giant length"), address);
    }
    for what in [GETXATTR, GETPROOF] {
        broken(format!("{what:?} with more"), liar_about(gateway, what, |reply| reply.extend([0; 4])));
    }
    // A listing that never ends.
    let endless = liar_about(gateway, LISTXATTRS, |reply| {
        reply.truncate(HEAD);
        for word in [0_u32, 0, 0, 0, 0] {
            reply.extend(word.to_be_bytes());
        }
    });
    command("xattr").arg(url(endless, "d/a.bin")).ends(3);
}

#[test]
fn a_digest_that_contradicts_the_descriptor_is_told_whatever_is_asked_for() {
    let scene = scene();
    let lying = liar_about(scene.served.nfs, GETXATTR, |reply| {
        if let Some(at) = reply.windows(7).position(|w| w == b"sha512:") {
            reply[at + 9] = if reply[at + 9] == b'0' { b'1' } else { b'0' };
        }
    });
    let said = command("xattr").arg(url(lying, "d/a.bin")).ends(1).out;
    assert!(said.contains("checked: wrong digest"), "{said}");
    let said = command("xattr").arg(url(lying, "d/a.bin")).arg("verity.status").ends(1);
    assert_eq!(said.out, "verified\n");
    said.complains_of(&["checked: wrong digest"]);
}

#[test]
fn words_of_a_gateway_reach_no_terminal_as_commands() {
    let scene = scene();
    let lying = liar_about(scene.served.nfs, GETXATTR, |reply| {
        if reply.ends_with(b"verified") {
            let at = reply.len() - 8;
            reply[at..].copy_from_slice(b"\x1b[2Jgone");
        }
    });
    for args in [&[][..], &["verity.status"], &["--json"]] {
        let said = command("xattr").arg(url(lying, "d/a.bin")).args(args).ends(0);
        assert!(!said.out.contains('\x1b'), "{}", said.out);
    }
    let said = scene.proof_at(lying, "d/a.bin", 0, 1).ends(0).out;
    assert!(!said.contains('\x1b') && said.contains("says"), "{said}");
}
