//! `nfs-verity verify` and `nfs-verity inspect`: each cause in its own words, each status in its own code.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nfs_verity::carrier::bundle::TREE_OFFSET;
use nfs_verity::event::Cause;
use serde_json::{Value, json};

use crate::cli::{Ends, command, flip, fsverity, head, inspect, keygen, sign, verify};
use crate::support::{Site, content};

const SIZE: usize = 200 * 4096 + 100;

/// A tree of two signed files.
fn signed() -> Site {
    let site = Site::new();
    site.put("d/data.bin", &content(1, SIZE));
    site.put("other.bin", &content(2, SIZE));
    site.sign(&[]);
    site
}

fn set_len(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Changes a signature in the evidence, and seals the evidence again.
fn forge(evidence: &Path) {
    let mut head = head(evidence);
    let statement = String::from_utf8(head.evidence.statement.clone().unwrap().to_vec()).unwrap();
    let at = statement.find("\"sig\":").unwrap() + 9;
    let mut bytes = statement.into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    head.evidence.statement = Some(bytes.into());
    File::options().write(true).open(evidence).unwrap().write_all_at(&head.encode().unwrap(), 0).unwrap();
}

#[test]
fn every_fault_is_told_with_its_path_its_cause_and_its_block() {
    /// Name, what is done, flags of `verify`, how its line starts, and the failing blocks.
    type Case = (&'static str, fn(&Site), &'static [&'static str], &'static str, &'static [u64]);
    let cases: [Case; 20] = [
        (
            "flipped",
            |s| flip(&s.tree().join("d/data.bin"), 5 * 4096 + 7),
            &[],
            "d/data.bin: bad block 5 (",
            &[5],
        ),
        (
            "last block",
            |s| flip(&s.tree().join("d/data.bin"), 200 * 4096 + 99),
            &[],
            "d/data.bin: bad block 200 (",
            &[200],
        ),
        (
            "flipped twice",
            |s| [3, 4, 150].iter().for_each(|n| flip(&s.tree().join("d/data.bin"), n * 4096)),
            &[],
            "d/data.bin: bad block 3 and 2 more (",
            &[3, 4, 150],
        ),
        (
            "truncated",
            |s| set_len(&s.tree().join("d/data.bin"), SIZE as u64 - 1),
            &[],
            "d/data.bin: wrong size (",
            &[],
        ),
        ("emptied", |s| set_len(&s.tree().join("d/data.bin"), 0), &[], "d/data.bin: wrong size (", &[]),
        (
            "extended",
            |s| set_len(&s.tree().join("d/data.bin"), SIZE as u64 + 1),
            &[],
            "d/data.bin: wrong size (",
            &[],
        ),
        (
            "tree block",
            // The root block comes first, then two blocks that hold the leaves.
            |s| flip(&s.evidence("d/data.bin"), TREE_OFFSET + 2 * 4096),
            &[],
            "d/data.bin: bad tree block 1 at level 0 (",
            &[1],
        ),
        (
            // What is below the tree block is told once, as that; what is not is told as before.
            "tree block and data",
            |s| {
                flip(&s.evidence("d/data.bin"), TREE_OFFSET + 4096);
                [3, 127, 128, 150].iter().for_each(|n| flip(&s.tree().join("d/data.bin"), n * 4096));
            },
            &[],
            "d/data.bin: bad tree block 0 at level 0 and 2 more (",
            &[0, 128, 150],
        ),
        (
            "root block",
            |s| flip(&s.evidence("d/data.bin"), TREE_OFFSET + 4095),
            &[],
            "d/data.bin: bad tree block 0 at level 1 (",
            &[0],
        ),
        (
            "no evidence",
            |s| fs::remove_file(s.evidence("d/data.bin")).unwrap(),
            &[],
            "d/data.bin: unsigned (",
            &[],
        ),
        ("new file", |s| s.put("new", b"who wrote this?"), &[], "new: unsigned (", &[]),
        (
            "cut head",
            |s| set_len(&s.evidence("d/data.bin"), 300),
            &[],
            "d/data.bin: malformed evidence (",
            &[],
        ),
        ("no head", |s| set_len(&s.evidence("d/data.bin"), 0), &[], "d/data.bin: malformed evidence (", &[]),
        (
            "cut tree",
            |s| set_len(&s.evidence("d/data.bin"), TREE_OFFSET + 3 * 4096 - 1),
            &[],
            "d/data.bin: malformed evidence (",
            &[],
        ),
        (
            "flipped head",
            |s| flip(&s.evidence("d/data.bin"), 200),
            &[],
            "d/data.bin: malformed evidence (",
            &[],
        ),
        ("forged", |s| forge(&s.evidence("d/data.bin")), &[], "d/data.bin: bad signature (", &[]),
        (
            "moved",
            |s| {
                fs::rename(s.tree().join("d/data.bin"), s.tree().join("d/moved")).unwrap();
                fs::rename(s.evidence("d/data.bin"), s.evidence("d/moved")).unwrap();
            },
            &[],
            "d/moved: wrong path (",
            &[],
        ),
        (
            "another's evidence",
            |s| _ = fs::copy(s.evidence("other.bin"), s.evidence("d/data.bin")).unwrap(),
            &[],
            "d/data.bin: wrong path (",
            &[],
        ),
        ("wrong namespace", |_| (), &["--namespace", "elsewhere"], "d/data.bin: wrong namespace (", &[]),
        (
            "unknown key",
            |s| {
                fs::remove_file(s.trust().join("release.pub")).unwrap();
                keygen(s, "trust/stranger");
            },
            &[],
            "d/data.bin: unknown key (",
            &[],
        ),
    ];
    for (name, fault, more, line, blocks) in cases {
        let site = signed();
        verify(&site).ends(0);
        fault(&site);
        let said = verify(&site).args(more).ends(1).out;
        let (path, rest) = line.split_once(": ").unwrap();
        let told = said.lines().find(|told| told.starts_with(line));
        let told = told.unwrap_or_else(|| panic!("{name}: no line {line:?} in {said}"));
        let cause = Cause::ALL.into_iter().rev().find(|cause| rest.starts_with(cause.as_str())).unwrap();
        assert!(told.ends_with(cause.remedy()), "{name}: {told}");

        let lines = verify(&site).args(more).arg("--json").ends(1).json_lines();
        let (summary, failures) = lines.split_last().unwrap();
        assert_eq!(summary["failed"], failures.len(), "{name}");
        let failure = failures.iter().find(|failure| failure["path"] == path).unwrap();
        assert_eq!(failure["cause"], cause.as_str(), "{name}");
        assert_eq!(failure["failing_blocks"], blocks.len(), "{name}");
        let told: Vec<_> = failure["blocks"].as_array().unwrap().iter().map(|b| b["block"].clone()).collect();
        assert_eq!(told, blocks.iter().map(|block| json!(block)).collect::<Vec<_>>(), "{name}");
        let whole_tree = matches!(name, "wrong namespace" | "unknown key");
        assert_eq!(failures.len(), if whole_tree { 2 } else { 1 }, "{name}: the other file is good");
    }
}

#[test]
fn what_has_expired_is_told() {
    let site = Site::new();
    site.put("f", b"content");
    site.sign(&["--expires", "2020-01-01T00:00:00Z"]);
    assert!(verify(&site).ends(1).out.contains("f: expired ("));
    site.sign(&["--expires", "2999-01-01T00:00:00Z"]);
    verify(&site).ends(0);
}

#[test]
fn the_namespace_must_be_the_signed_one() {
    let site = Site::new();
    site.put("f", b"content");
    site.sign(&["--namespace", "photos"]);
    verify(&site).args(["--namespace", "photos"]).ends(0);
    assert!(verify(&site).ends(1).out.contains("f: wrong namespace ("));
}

#[test]
fn only_the_named_paths_are_looked_at() {
    let site = signed();
    site.put("unsigned/a", b"x");
    site.put("unsigned/b", b"x");
    let summary = |paths: &[&str], code| verify(&site).arg("--json").args(paths).ends(code).json_lines();
    let counted = |lines: &[Value]| {
        let last = lines.last().unwrap();
        (last["good"].as_u64().unwrap(), last["failed"].as_u64().unwrap())
    };
    assert_eq!(counted(&summary(&["d", "other.bin"], 0)), (2, 0));
    assert_eq!(counted(&summary(&["d/data.bin", "unsigned/b"], 1)), (1, 1));
    assert_eq!(counted(&summary(&["unsigned"], 1)), (0, 2));
    assert_eq!(counted(&summary(&[], 1)), (2, 2));
    assert!(verify(&site).ends(1).out.ends_with("2 files good, 2 failed, 0 could not be read\n"));
}

#[test]
fn trust_that_is_none_is_a_configuration_error() {
    let site = signed();
    let with = |trust: &str| {
        let mut verify = command("verify");
        verify.arg("--trust").arg(site.path(trust)).arg(site.tree());
        verify
    };
    fs::create_dir(site.path("nobody")).unwrap();
    with("nobody").ends(2).complains_of(&["nobody holds no keys"]);
    with("missing").ends(2).complains_of(&["missing"]);
    fs::write(site.path("nobody/bad.pub"), "no key").unwrap();
    with("nobody").ends(2).complains_of(&["bad.pub", "PUBLIC KEY"]);
    with("release.key").ends(2).complains_of(&["release.key"]);
    with("trust/release.pub").ends(0);
    command("verify").arg(site.tree()).ends(2).complains_of(&["--trust"]);
}

#[test]
fn what_cannot_be_looked_at_is_io_trouble() {
    let site = signed();
    let said = verify(&site).args(["--json", "none", "d"]).ends(3);
    said.complains_of(&["none: "]);
    assert_eq!(said.json_lines()[0]["good"], 1, "the rest is looked at all the same");
    command("verify").arg("--trust").arg(site.trust()).arg(site.path("none")).ends(3).complains_of(&["none"]);
    inspect(&site, "none").ends(3).complains_of(&["none"]);
    inspect(&site, "d").ends(3).complains_of(&["d: ", "directory"]);
    inspect(&site, "../release.key").ends(2).complains_of(&["relative to ROOT"]);
}

#[test]
fn inspect_shows_all_of_the_evidence() {
    let site = Site::new();
    let id = keygen(&site, "k");
    site.put("d/f", &content(1, 300 * 1024));
    let salt = "0102030405";
    command("sign")
        .arg("--key")
        .arg(site.path("k.key"))
        .arg(site.tree())
        .args(["--block-size", "1024", "--salt", salt, "--namespace", "ns"])
        .args(["--expires", "2999-12-31T23:59:59Z"])
        .ends(0);
    let json = inspect(&site, "d/f").ends(0).json();
    let flags = ["--block-size=1024".to_owned(), format!("--salt={salt}")];
    let digest = fsverity(&site.tree().join("d/f"), &flags);
    let statement = json!({
        "namespace": "ns", "path": "d/f", "size": 300 * 1024, "file_digest": digest, "version": 1,
        "expires": "2999-12-31T23:59:59Z", "signed": null,
    });
    assert_eq!(json["statement"], statement);
    let size = fs::metadata(site.evidence("d/f")).unwrap().len();
    // 300 leaves of 32 bytes make 10 blocks, and those one more.
    let tree = json!({ "data_blocks": 300, "levels": [10, 1], "bytes": 11 * 1024, "evidence_bytes": size });
    assert_eq!(json["tree"], tree);
    assert_eq!((&json["status"], &json["path"]), (&json!("signed"), &json!("d/f")));

    let text = command("inspect").arg(site.tree()).arg("d/f").ends(0).out;
    for fact in ["d/f", "signed", &digest, &id, "1024", salt, "\"ns\"", "2999-12-31T23:59:59Z", "version 1"] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
}

#[test]
fn inspect_with_trust_checks_everything() {
    let site = signed();
    let status = |more: &[&str], code| {
        let json = inspect(&site, "d/data.bin").arg("--trust").arg(site.trust()).args(more).ends(code).json();
        json["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status(&[], 0), "verified");
    assert_eq!(status(&["--namespace", "x"], 1), "wrong namespace");
    flip(&site.tree().join("d/data.bin"), 4096);
    assert_eq!(status(&[], 1), "bad block");
    assert_eq!(inspect(&site, "d/data.bin").ends(0).json()["status"], "signed", "the evidence is whole");
    let stranger = site.path("stranger");
    fs::create_dir(&stranger).unwrap();
    keygen(&site, "stranger/k");
    let json = inspect(&site, "other.bin").arg("--trust").arg(&stranger).ends(1).json();
    assert_eq!(json["status"], "unknown key");
}

#[test]
fn inspect_of_what_is_not_signed_tells_so() {
    let site = signed();
    site.put("new", b"12345");
    let json = inspect(&site, "new").ends(1).json();
    assert_eq!((&json["status"], &json["size"]), (&json!("unsigned"), &json!(5)));
    assert_eq!(json["signers"], json!([]));
    set_len(&site.evidence("d/data.bin"), 100);
    assert_eq!(inspect(&site, "d/data.bin").ends(1).json()["status"], "malformed evidence");
    set_len(&site.tree().join("other.bin"), 7);
    let json = inspect(&site, "other.bin").ends(1).json();
    assert_eq!((&json["status"], &json["size"]), (&json!("wrong size"), &json!(7)));
    assert_eq!(json["statement"]["size"], SIZE, "the evidence is shown all the same");
}

#[test]
fn each_file_may_have_another_signer() {
    let site = signed();
    let id = keygen(&site, "second");
    let key = site.path("second.key");
    command("sign").arg("--key").arg(key).arg(site.tree()).arg("other.bin").ends(0);
    assert_eq!(inspect(&site, "other.bin").ends(0).json()["signers"][0]["key_id"], id);
    let said = verify(&site).ends(1).out;
    assert!(said.contains("other.bin: unknown key (") && !said.contains("data.bin"), "{said}");
    sign(&site).ends(0);
    verify(&site).ends(0);
}
