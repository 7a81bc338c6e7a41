//! `nfs-verity sign --add` and `--replace`: keys change, files are not read again, and nothing is signed
//! that was not proven.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nfs_verity::carrier::Evidence;
use nfs_verity::sign::read_envelope;
use serde_json::Value;

use crate::cli::{
    ED25519, Ends, P256, RSA, command, contents, head, keygen, make_certificate, make_key, rewrite, sign,
    sign_with, verify,
};
use crate::support::{Client, Site, content, eventually};

const ALL: &str = "native,fsverity,ima-v3,ima-v2";

/// A signed tree of `files` files, and a second key.
fn signed(files: u64) -> (Site, String) {
    let site = Site::new();
    for n in 0..files {
        site.put(format!("d{}/f{n}", n % 50), &content(n, 5000));
    }
    sign(&site).ends(0);
    let id = keygen(&site, "second");
    (site, id)
}

/// `sign` with the second key, in the trust of the first.
fn add(site: &Site, more: &[&str]) -> Command {
    let mut command = sign_with(site, &["--key", "second.key", "--trust", "trust", "--json"]);
    command.args(more);
    command
}

/// Signed, unchanged, failed, and bytes of files that were read.
fn counts(json: &Value) -> [u64; 4] {
    ["signed", "unchanged", "failed", "bytes"].map(|name| json[name].as_u64().unwrap())
}

fn key_ids(site: &Site, name: &str) -> Vec<String> {
    let claim = read_envelope(&head(&site.evidence(name)).evidence.statement.unwrap()).unwrap();
    claim.key_ids.iter().map(ToString::to_string).collect()
}

/// Whether all of the tree is good under a key beside it.
fn verifies(site: &Site, public: &str, code: i32) {
    command("verify").arg("--trust").arg(site.path(public)).arg(site.tree()).ends(code);
}

/// The id of the site's first key.
fn first(site: &Site) -> String {
    key_ids(site, "d0/f0")[0].clone()
}

#[test]
fn a_key_is_added_to_every_file_and_no_file_is_read() {
    let (site, second) = signed(2000);
    let first = first(&site);
    // What the files are now is no matter.
    fs::write(site.tree().join("d1/f1"), "changed after it was signed").unwrap();
    let before = head(&site.evidence("d0/f0"));
    assert_eq!(counts(&add(&site, &["--add"]).ends(0).json()), [2000, 0, 0, 0]);
    let after = head(&site.evidence("d0/f0"));
    assert_eq!(key_ids(&site, "d0/f0"), [&*first, &*second]);
    assert_eq!(
        (&before.evidence.descriptor, before.evidence.observed),
        (&after.evidence.descriptor, after.evidence.observed)
    );
    assert_eq!(counts(&add(&site, &["--add"]).ends(0).json()), [0, 2000, 0, 0]);
    site.put("d1/f1", &content(1, 5000));
    verify(&site).ends(0);
    verifies(&site, "second.pub", 0);
    // And to hash nothing again, sign finds what it left.
    assert_eq!(counts(&sign(&site).arg("--json").ends(0).json())[..2], [1, 1999]);
}

#[test]
fn a_key_is_replaced_and_its_signatures_are_gone() {
    let (site, second) = signed(300);
    let replace = ["--replace", &first(&site)];
    assert_eq!(counts(&add(&site, &replace).ends(0).json()), [300, 0, 0, 0]);
    assert_eq!(key_ids(&site, "d0/f0"), [&*second]);
    verifies(&site, "second.pub", 0);
    verifies(&site, "trust/release.pub", 1);
    assert_eq!(
        counts(&add(&site, &replace).ends(0).json()),
        [0, 300, 0, 0],
        "though the old key proves nothing now"
    );
    // What was added before is kept, and the old one dropped.
    let (site, second) = signed(3);
    add(&site, &["--add"]).ends(0);
    assert_eq!(counts(&add(&site, &["--replace", &first(&site)]).ends(0).json()), [3, 0, 0, 0]);
    assert_eq!(key_ids(&site, "d0/f0"), [&*second]);
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn killed_in_the_middle_it_leaves_every_file_with_one_key_or_the_other_and_goes_on() {
    let (site, _) = signed(2000);
    let replace = ["--replace", &first(&site)];
    let mut child = spawn(&mut add(&site, &replace));
    let last = site.evidence("d0/f100");
    let before = fs::read(&last).unwrap();
    eventually("it is under way", || fs::read(&last).unwrap() != before);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));

    fs::copy(site.path("second.pub"), site.path("trust/second.pub")).unwrap();
    verify(&site).ends(0);
    let of = |public: &str| {
        let mut verify = command("verify");
        verify.arg("--trust").arg(site.path(public)).arg("--json").arg(site.tree());
        let output = verify.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["good"].as_u64().unwrap()
    };
    fs::copy(site.path("trust/release.pub"), site.path("release.pub")).unwrap();
    let (old, new) = (of("release.pub"), of("second.pub"));
    assert_eq!(old + new, 2000, "each is whole, and has one key");
    assert!(old > 0 && new > 0, "{old} old, {new} new");
    assert_eq!(counts(&add(&site, &replace).ends(0).json()), [old, new, 0, 0]);
    verifies(&site, "second.pub", 0);
    verifies(&site, "release.pub", 1);
}

/// `command` must leave all evidence as it is, and say `words`.
fn refused(site: &Site, mut command: Command, words: &[&str]) {
    let before = contents(&site.evidence(""));
    let said = command.ends(1);
    said.complains_of(words);
    assert_eq!(contents(&site.evidence("")), before, "{}", said.err);
}

#[test]
fn nothing_is_added_to_what_is_not_proven() {
    let (site, second) = signed(2);
    site.put("new", b"not signed");
    let file = site.evidence("d0/f0");
    let good = fs::read(&file).unwrap();
    refused(&site, add(&site, &["--add", "new"]), &["new: it has no evidence", "without --add"]);
    refused(
        &site,
        add(&site, &["--add", "--namespace", "other", "d0/f0"]),
        &["d0/f0", "not proven", "namespace"],
    );

    // Signed by a key that is not trusted.
    let stranger = keygen(&site, "stranger");
    let flags = ["--key", "second.key", "--trust", "stranger.pub", "--add"];
    let mut command = sign_with(&site, &flags);
    command.arg("d0/f0");
    refused(&site, command, &["d0/f0", "unknown key"]);

    // Evidence of another file under this name.
    fs::copy(site.evidence("d1/f1"), &file).unwrap();
    refused(&site, add(&site, &["--add", "d0/f0"]), &["d0/f0", "wrong path"]);
    fs::write(&file, &good).unwrap();

    // Tampered with by somebody who knows the layout.
    let descriptor = head(&site.evidence("d1/f1")).evidence.descriptor.unwrap();
    let statement = head(&file).evidence.statement.unwrap();
    let text = String::from_utf8(statement.to_vec()).unwrap();
    let forged = text.replace(&first(&site), &stranger);
    let mut broken = statement.to_vec();
    broken[20] ^= 1;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Evidence));
    let changes: [Change<'_>; 5] = [
        ("digest", &|e| e.descriptor = Some(descriptor.clone())),
        ("unknown key", &|e| e.statement = Some(Bytes::from(forged.clone()))),
        ("not proven", &|e| e.statement = Some(broken.clone().into())),
        ("not proven", &|e| e.statement = Some(Bytes::from_static(b"{}"))),
        ("not proven", &|e| e.descriptor = Some(Bytes::from(vec![0; 256]))),
    ];
    for (word, change) in changes {
        rewrite(&file, |head| change(&mut head.evidence));
        refused(&site, add(&site, &["--add", "d0/f0"]), &["d0/f0", word]);
        refused(&site, add(&site, &["--add", "--replace", &first_of(&good), "d0/f0"]), &["d0/f0", word]);
        fs::write(&file, &good).unwrap();
    }
    for at in [0, 20, 100, 700] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        refused(&site, add(&site, &["--add", "d0/f0"]), &["d0/f0", "not proven"]);
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(counts(&add(&site, &["--add", "d0/f0"]).ends(0).json()), [1, 0, 0, 0]);
    assert_eq!(key_ids(&site, "d0/f0")[1], second);
}

/// The first key id in the bytes of evidence.
fn first_of(evidence: &[u8]) -> String {
    let text = String::from_utf8_lossy(evidence);
    let at = text.find("\"keyid\":\"").unwrap() + 9;
    text[at..at + 64].to_owned()
}

#[test]
fn expired_and_revoked_signatures_prove_nothing() {
    let (site, _) = signed(1);
    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    sign(&site).args(["--expires", &soon.to_string(), "--force"]).ends(0);
    std::thread::sleep(Duration::from_secs(3));
    refused(&site, add(&site, &["--add"]), &["expired"]);
    sign(&site).ends(0);
    fs::create_dir(site.path("trust/revoked")).unwrap();
    fs::write(site.path("trust/revoked/keys.txt"), first(&site)).unwrap();
    refused(&site, add(&site, &["--add"]), &["revoked"]);
    fs::remove_dir_all(site.path("trust/revoked")).unwrap();
    fs::write(site.path("trust/release.toml"), "paths = [\"other/**\"]\n").unwrap();
    refused(&site, add(&site, &["--add"]), &["not proven"]);
}

#[test]
fn formats_are_added_by_what_proves_them() {
    let site = Site::new();
    for n in 0..3 {
        site.put(format!("d0/f{n}"), &content(n, 100_000));
    }
    for (name, algorithm) in [("old", P256), ("new", RSA), ("ed", ED25519)] {
        make_key(&site, name, algorithm);
        make_certificate(&site, name);
    }
    let run = |key: &str, more: &[&str]| {
        let (pem, cert) = (format!("{key}.pem"), format!("{key}.crt"));
        let mut command = sign_with(&site, &["--key", &pem, "--cert", &cert, "--json"]);
        command.args(more);
        command
    };
    let found = |name: &str| head(&site.evidence(name)).evidence;
    // Made as fsverity alone: there is no statement, and none is made out of it.
    run("old", &["--format", "fsverity"]).ends(0);
    refused(&site, run("new", &["--add", "--trust", "old.crt"]), &["no native statement"]);
    refused(&site, run("new", &["--add", "--trust", "new.crt", "--format", "ima-v3"]), &["not proven"]);
    let said = run("new", &["--add", "--trust", "old.crt", "--format", "fsverity,ima-v3"]).ends(0).json();
    assert_eq!(counts(&said), [3, 0, 0, 0]);
    assert_eq!((found("d0/f0").pkcs7.len(), found("d0/f0").ima.len()), (2, 1));
    // And by IMA over the digest of fs-verity.
    run("old", &["--format", "ima-v3"]).ends(0);
    assert_eq!(
        counts(&run("new", &["--add", "--trust", "old.crt", "--format", "fsverity"]).ends(0).json())[0],
        3
    );
    // A signature over the whole file proves nothing that is not read.
    run("old", &["--format", "ima-v2"]).ends(0);
    refused(&site, run("new", &["--add", "--trust", "old.crt", "--format", "ima-v3"]), &["not proven"]);

    // To a native one everything can be added; what is over the whole file reads it, and proves it.
    run("old", &["--format", ALL]).ends(0);
    let all = ["--format", ALL, "--trust", "old.pub"];
    fs::write(site.tree().join("d0/f1"), content(9, 100_000)).unwrap();
    fs::write(site.tree().join("d0/f2"), content(2, 99_999)).unwrap();
    let said = run("new", &[&all[..], &["--add"]].concat()).ends(1);
    said.complains_of(&["d0/f1: its content is not what its evidence says", "d0/f2: its content"]);
    assert_eq!(counts(&said.json())[..3], [1, 0, 2]);
    for n in 1..3 {
        site.put(format!("d0/f{n}"), &content(n, 100_000));
    }
    assert_eq!(counts(&run("new", &[&all[..], &["--add"]].concat()).ends(0).json()), [2, 1, 0, 200_000]);
    let both = found("d0/f1");
    assert_eq!((both.pkcs7.len(), both.ima.len(), both.certificates.len()), (2, 4, 2));

    // What stands in the new key's name and does not hold is made again; the rest stays.
    let spoil = |bytes: &mut Bytes| {
        let mut spoiled = bytes.to_vec();
        *spoiled.last_mut().unwrap() ^= 1;
        *bytes = spoiled.into();
    };
    let foreign = Bytes::from_static(b"\x03\x02\x02 of an algorithm that is not known");
    rewrite(&site.evidence("d0/f1"), |head| {
        spoil(&mut head.evidence.pkcs7[1]);
        spoil(&mut head.evidence.ima[2]);
        head.evidence.ima.push(foreign.clone());
    });
    assert_eq!(counts(&run("new", &[&all[..], &["--add"]].concat()).ends(0).json()), [1, 2, 0, 0]);
    let mended = found("d0/f1");
    assert_eq!((mended.pkcs7.len(), mended.ima.len()), (2, 5));
    assert_eq!((&mended.pkcs7, &mended.ima[4]), (&both.pkcs7, &both.ima[2]), "RSA signs alike");
    assert!(mended.ima.contains(&foreign));
    rewrite(&site.evidence("d0/f1"), |head| head.evidence.ima.retain(|value| *value != foreign));

    // Replaced in every format.
    let old = key_ids(&site, "d0/f0")[0].clone();
    let native = [&all[..], &["--replace", &old]].concat();
    let mut without = run("new", &["--format", "fsverity", "--trust", "old.pub", "--replace", &old]);
    without.arg("d0/f0");
    let said = without.ends(0);
    assert_eq!(counts(&said.json()), [1, 0, 0, 0], "the new key signed natively before");
    assert_eq!(counts(&run("new", &native).ends(0).json()), [2, 1, 0, 0]);
    let rest = found("d0/f1");
    assert_eq!((rest.pkcs7.len(), rest.ima.len(), rest.certificates.len()), (1, 2, 1));
    assert_eq!(rest.certificates[0], fs::read(site.path("new.der")).unwrap());
    assert_eq!(key_ids(&site, "d0/f1").len(), 1);
    verifies(&site, "new.pub", 0);

    // The last native signature is not dropped for one of another format.
    run("old", &["--format", "native", "--force"]).ends(0);
    let command = run("new", &["--format", "ima-v3", "--trust", "old.pub", "--replace", &old]);
    refused(&site, command, &["no native signature would be left"]);
}

#[test]
fn it_works_where_the_evidence_lies() {
    let (site, second) = signed(0);
    for n in 0..5 {
        site.put(format!("d0/f{n}"), &content(n, 20_000));
    }
    sign(&site).args(["--carrier", "appended"]).ends(0);
    assert!(!site.evidence("d0/f0").exists());
    assert_eq!(counts(&add(&site, &["--add"]).ends(0).json()), [5, 0, 0, 0]);
    assert_eq!(counts(&add(&site, &["--add", "--carrier", "appended"]).ends(0).json()), [0, 5, 0, 0]);
    assert!(!site.evidence("d0/f0").exists(), "it stays there");
    let text = String::from_utf8_lossy(&fs::read(site.tree().join("d0/f0")).unwrap()).into_owned();
    assert!(text.contains(&second));
    let said = add(&site, &["--add", "--carrier", "sidecar"]).ends(1);
    said.complains_of(&["has no evidence"]);
}

#[test]
fn options_that_make_no_sense_together_are_refused() {
    let (site, second) = signed(1);
    let stranger = keygen(&site, "stranger");
    let key = ["--key", "second.key"];
    let refused: [(&[&str], &str); 9] = [
        (&["--add"], "--trust"),
        (&["--replace", &stranger], "--trust"),
        (&["--trust", "trust"], "--add"),
        (&["--add", "--trust", "none"], "none"),
        (&["--add", "--trust", "trust", "--hash", "sha512"], "--hash"),
        (&["--add", "--trust", "trust", "--force"], "--force"),
        (&["--replace", "abc", "--trust", "trust"], "64"),
        (&["--replace", &stranger, "--trust", "trust"], "no key in"),
        (&["--replace", &second, "--trust", "second.pub"], "key that signs"),
    ];
    for (flags, word) in refused {
        sign_with(&site, &[&key, flags].concat()).ends(2).complains_of(&[word]);
    }
}

#[test]
fn files_are_served_throughout() {
    let (site, _) = signed(400);
    fs::copy(site.path("second.pub"), site.path("trust/second.pub")).unwrap();
    let served = site.serve(&[]);
    let mut client = Client::connect(served.nfs);
    let mut child = spawn(&mut add(&site, &["--replace", &first(&site)]));
    let (mut reads, mut after) = (0, 0);
    while after < 100 {
        if child.try_wait().unwrap().is_some() {
            after += 1;
        }
        let n = reads % 400;
        let handle = client.find(&format!("d{}/f{n}", n % 50)).unwrap();
        assert_eq!(client.read_all(&handle, 4096).unwrap(), content(n, 5000), "file {n}, read {reads}");
        reads += 1;
    }
    assert!(child.wait().unwrap().success());
    verifies(&site, "second.pub", 0);
}

#[test]
fn long_a_hundred_thousand_files_rotate_in_one_pass_with_bounded_memory() {
    const FILES: u64 = 100_000;
    let site = Site::new();
    for n in 0..FILES {
        site.put(format!("d{}/f{n}", n % 500), &n.to_le_bytes());
    }
    sign(&site).ends(0);
    keygen(&site, "second");
    let first = first(&site);
    let mut child = spawn(&mut add(&site, &["--replace", &first]));
    let (status, mut most) = (PathBuf::from(format!("/proc/{}/status", child.id())), 0);
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = line.map_or(most, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts(&json), [FILES, 0, 0, 0]);
    assert!(most < 128 << 10, "{most} KiB were resident");
    assert_eq!(counts(&add(&site, &["--replace", &first]).ends(0).json()), [0, FILES, 0, 0]);
    verifies(&site, "second.pub", 0);
}
