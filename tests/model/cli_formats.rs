//! `nfs-verity sign --format`: signatures that other programs check, and that other programs make alike.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use nfs_verity::carrier::Evidence;
use nfs_verity::sign::{HashName, ImaKind, ImaSignature, PublicKey};
use nfs_verity::verity::Descriptor;

use crate::cli::{
    ED25519, Ends, P256, P384, RSA, command, fsverity, head, make_certificate, make_key, openssl, rewrite,
    sign_with, verify,
};
use crate::support::{Site, content};

const ALL: &str = "native,fsverity,ima-v3,ima-v2";
const KEYS: [(&str, &[&str]); 3] = [("p256", P256), ("p384", P384), ("rsa", RSA)];

/// A tree of files of every shape, and keys with their certificates.
fn site() -> Site {
    let site = Site::new();
    for (name, len) in [("empty", 0), ("byte", 1), ("block", 4096), ("d/large", 1_234_567)] {
        site.put(name, &content(len as u64, len));
    }
    let sparse = File::create(site.tree().join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 3 << 20).unwrap();
    sparse.set_len(9_999_999).unwrap();
    for (name, algorithm) in KEYS {
        make_key(&site, name, algorithm);
        make_certificate(&site, name);
    }
    site
}

const FILES: [&str; 5] = ["empty", "byte", "block", "d/large", "sparse"];

/// The counts of `sign` with a key of [`site`] and its certificate: signed and unchanged.
fn sign(site: &Site, key: &str, more: &[&str]) -> (u64, u64) {
    let (pem, cert) = (format!("{key}.pem"), format!("{key}.crt"));
    let said = sign_with(site, &[&["--key", &pem, "--cert", &cert, "--json"], more].concat()).ends(0).json();
    (said["signed"].as_u64().unwrap(), said["unchanged"].as_u64().unwrap())
}

fn evidence(site: &Site, name: &str) -> Evidence {
    head(&site.evidence(name)).evidence
}

fn public(site: &Site, key: &str) -> PublicKey {
    PublicKey::from_spki_pem(&fs::read(site.path(format!("{key}.pub"))).unwrap()).unwrap()
}

/// What `evmctl ima_verify` says of a signature in the attribute's form.
fn evmctl_verifies(site: &Site, name: &str, value: &Bytes, key: &str) {
    let file = site.path("copy");
    fs::copy(site.tree().join(name), &file).unwrap();
    fs::write(site.path("copy.sig"), value).unwrap();
    let mut command = Command::new("evmctl");
    command
        .args(["ima_verify", "--sigfile", "-k", &format!("{key}.der"), "copy"])
        .current_dir(site.dir.path());
    let said = command.ends(0);
    assert!(format!("{}{}", said.out, said.err).contains("verification is OK"), "{name}: {}", said.err);
}

/// The kernel's bytes under a built-in signature.
fn formatted(site: &Site, name: &str, hash: &str) -> Vec<u8> {
    let mut command = Command::new("fsverity");
    command.args(["digest", "--for-builtin-sig", "--compact", &format!("--hash-alg={hash}")]);
    let said = command.arg(site.tree().join(name)).ends(0);
    hex::decode(said.out.trim()).unwrap()
}

fn openssl_verifies(site: &Site, name: &str, der: &Bytes, key: &str, hash: &str) {
    let dir = site.dir.path();
    fs::write(site.path("sig"), der).unwrap();
    fs::write(site.path("content"), formatted(site, name, hash)).unwrap();
    let cert = format!("{key}.crt");
    for verb in ["smime", "cms"] {
        let args = ["-verify", "-binary", "-inform", "DER", "-in", "sig", "-content", "content", "-noverify"];
        openssl(dir, &[&[verb], &args[..], &["-certfile", &cert, "-out", "out"]].concat());
    }
}

#[test]
fn every_format_is_made_at_once_and_passes_the_programs_it_is_for() {
    let site = site();
    for (key, _) in KEYS {
        for hash in ["sha256", "sha512"] {
            assert_eq!(sign(&site, key, &["--format", ALL, "--hash", hash]), (5, 0), "{key} {hash}");
            for name in FILES {
                let found = evidence(&site, name);
                assert!(found.statement.is_some());
                assert_eq!((found.pkcs7.len(), found.ima.len(), found.certificates.len()), (1, 2, 1));
                assert_eq!(found.certificates[0], fs::read(site.path(format!("{key}.der"))).unwrap());
                openssl_verifies(&site, name, &found.pkcs7[0], key, hash);

                let v3 = ImaSignature::parse(&found.ima[0]).unwrap();
                let digest = fsverity(&site.tree().join(name), &[format!("--hash-alg={hash}")]);
                let digest = hex::decode(digest.split_once(':').unwrap().1).unwrap();
                assert_eq!((v3.kind, v3.hash.name()), (ImaKind::Verity, hash));
                assert!(v3.verify(&digest, &public(&site, key)), "{key} {name}");

                let v2 = ImaSignature::parse(&found.ima[1]).unwrap();
                assert_eq!((v2.kind, v2.hash.name()), (ImaKind::File, hash));
                let whole = v2.hash.digest(&fs::read(site.tree().join(name)).unwrap());
                assert!(v2.verify(&whole, &public(&site, key)), "{key} {name}");
                // evmctl itself refuses an empty file.
                if name != "empty" {
                    evmctl_verifies(&site, name, &found.ima[1], key);
                }
            }
            verify(&site).ends(1);
            assert_eq!(sign(&site, key, &["--format", ALL, "--hash", hash]), (0, 5), "all is there");
        }
    }
}

#[test]
fn rsa_signatures_are_byte_for_byte_those_of_fsverity_and_evmctl() {
    let site = site();
    sign(&site, "rsa", &["--format", "fsverity,ima-v2"]);
    for name in FILES.into_iter().filter(|name| *name != "empty") {
        let (file, sig) = (site.tree().join(name), site.path("theirs"));
        let mut command = Command::new("fsverity");
        command.arg("sign").args([&file, &sig]).args(["--key=rsa.pem", "--cert=rsa.crt"]);
        command.current_dir(site.dir.path()).ends(0);
        let found = evidence(&site, name);
        assert_eq!(found.pkcs7[0], fs::read(&sig).unwrap(), "{name}");
        assert!(found.statement.is_none(), "no other format was asked for");
        let copy = site.path("copy");
        fs::copy(&file, &copy).unwrap();
        let mut command = Command::new("evmctl");
        command.args(["ima_sign", "--sigfile", "-a", "sha256", "--key", "rsa.pem", "copy"]);
        command.current_dir(site.dir.path()).ends(0);
        assert_eq!(found.ima[0], fs::read(site.path("copy.sig")).unwrap(), "{name}");
    }
}

#[test]
fn what_a_key_cannot_make_is_refused_before_anything_is_read() {
    let site = site();
    make_key(&site, "ed", ED25519);
    make_certificate(&site, "ed");
    for format in ["fsverity", "ima-v3", "ima-v2", ALL] {
        let flags = ["--key", "ed.pem", "--cert", "ed.crt", "--format", format];
        sign_with(&site, &flags).ends(2).complains_of(&["Ed25519", "RSA, P-256 or P-384"]);
    }
    let refused: [(&[&str], &[&str]); 6] = [
        (&["--format", "fsverity"], &["--cert"]),
        (&["--format", "fsverity", "--cert", "p384.crt"], &["--cert is about the key"]),
        (&["--cert", "rsa.crt"], &["--cert is about the key"]),
        (&["--cert", "p256.pub"], &["p256.pub"]),
        (&["--format", "native,pgp"], &["pgp", "ima-v3"]),
        (&["--carrier", "paper"], &["paper", "sidecar"]),
    ];
    for (flags, words) in refused {
        sign_with(&site, &[&["--key", "p256.pem"], flags].concat()).ends(2).complains_of(words);
    }
    assert!(!site.evidence("").exists());
    // Without a certificate, the key's own id stands in IMA signatures.
    sign_with(&site, &["--key", "p256.pem", "--format", "ima-v3,ima-v2"]).ends(0);
    let value = ImaSignature::parse(&evidence(&site, "byte").ima[0]).unwrap();
    assert_eq!(value.key_id, public(&site, "p256").ima_key_id());
}

#[test]
fn a_signature_that_is_missing_or_does_not_hold_is_made_again() {
    let site = site();
    assert_eq!(sign(&site, "p256", &[]), (5, 0));
    assert_eq!(sign(&site, "p256", &["--format", "native,fsverity"]), (5, 0));
    assert_eq!(sign(&site, "p256", &["--format", "native,fsverity"]), (0, 5));
    assert_eq!(sign(&site, "p256", &["--format", "fsverity"]), (0, 5), "there is more than is asked for");
    assert_eq!(sign(&site, "p256", &["--format", ALL]), (5, 0));
    let spoil = |bytes: &mut Bytes| {
        let mut spoiled = bytes.to_vec();
        *spoiled.last_mut().unwrap() ^= 1;
        *bytes = spoiled.into();
    };
    let changes: [&dyn Fn(&mut Evidence); 8] = [
        &|e| spoil(&mut e.pkcs7[0]),
        &|e| e.pkcs7.clear(),
        &|e| spoil(&mut e.ima[0]),
        &|e| drop(e.ima.remove(0)),
        &|e| drop(e.ima.remove(1)),
        &|e| e.certificates.clear(),
        &|e| e.statement = None,
        &|e| e.pkcs7[0] = Bytes::from_static(b"\x30\x80"),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        rewrite(&site.evidence("d/large"), |head| change(&mut head.evidence));
        assert_eq!(sign(&site, "p256", &["--format", ALL]), (1, 4), "change {n}");
    }
    // The certificate was renewed: other programs look for the new one.
    make_certificate(&site, "p256");
    assert_eq!(sign(&site, "p256", &["--format", ALL]), (5, 0));
}

#[test]
fn certificates_of_a_chain_are_kept_with_the_evidence() {
    let site = site();
    let rest = [fs::read(site.path("p384.crt")).unwrap(), fs::read(site.path("p256.crt")).unwrap()].concat();
    fs::write(site.path("both.pem"), rest).unwrap();
    sign(&site, "rsa", &["--chain", "both.pem", "--chain", "p384.der"]);
    let found = evidence(&site, "byte").certificates;
    let wanted =
        ["rsa.der", "p384.der", "p256.der"].map(|name| Bytes::from(fs::read(site.path(name)).unwrap()));
    assert_eq!(found, wanted, "each once");
    assert_eq!(sign(&site, "rsa", &["--chain", "both.pem"]), (0, 5));
}

#[test]
fn trees_lie_behind_heads_of_any_length() {
    let site = site();
    let (long, namespace) = (format!("{}/file", "directory/".repeat(300)), "n".repeat(2000));
    site.put(&long, &content(7, 50_000));
    let chain = (0..12).map(|_| "rsa.der").collect::<Vec<_>>();
    let chain: Vec<&str> = chain.into_iter().flat_map(|file| ["--chain", file]).collect();
    sign(&site, "p384", &[&["--format", ALL, "--namespace", &namespace], &chain[..]].concat());
    assert!(head(&site.evidence(&long)).tree_offset > 8192);
    let mut command = command("verify");
    command.arg("--trust").arg(site.path("p384.pub")).args(["--namespace", &namespace]);
    command.arg(site.tree()).ends(0);
}

/// Whether the directory's file system has extended attributes.
fn has_xattrs(site: &Site) -> bool {
    let mut command = Command::new("setfattr");
    command.args(["-n", "user.test", "-v", "x"]).arg(site.key());
    command.status().unwrap().success()
}

#[test]
fn evmctl_finds_what_it_checks_in_the_extended_attribute() {
    let site = site();
    assert!(has_xattrs(&site), "the temporary directory needs a file system with user.* attributes");
    for (key, _) in KEYS {
        sign(&site, key, &["--format", "native,ima-v3,ima-v2", "--carrier", "xattr"]);
        let mut command = Command::new("evmctl");
        command.args(["ima_verify", "--xattr-user", "-k", &format!("{key}.der"), "tree/d/large"]);
        let said = command.current_dir(site.dir.path()).ends(0);
        assert!(format!("{}{}", said.out, said.err).contains("verification is OK"), "{key}: {}", said.err);
    }
}

fn data(path: &Path, len: usize) -> Vec<u8> {
    fs::read(path).unwrap()[..len].to_vec()
}

#[test]
fn evidence_goes_where_it_is_asked_for_and_a_second_run_finds_it_there() {
    let site = site();
    let before = FILES.map(|name| fs::read(site.tree().join(name)).unwrap());
    let mut carriers = vec!["appended", "sidecar"];
    if has_xattrs(&site) {
        carriers.insert(0, "xattr");
    }
    for carrier in carriers {
        let flags = ["--format", ALL, "--carrier", carrier];
        // Behind the data of the others, what was appended is the file's own.
        assert_eq!(sign(&site, "p256", &flags), (5, 0), "{carrier}");
        assert_eq!(sign(&site, "p256", &flags), (0, 5), "{carrier}");
        let again = [&flags[..], &["--force"]].concat();
        assert_eq!(sign(&site, "p256", &again), (5, 0), "{carrier}");
        for (name, before) in FILES.iter().zip(&before) {
            let path = site.tree().join(name);
            assert_eq!(data(&path, before.len()), *before, "{carrier} {name}");
            let grown = fs::metadata(&path).unwrap().len() > before.len() as u64;
            assert!(grown == (carrier == "appended") || carrier == "sidecar", "{carrier} {name}");
        }
    }
    let descriptor = evidence(&site, "byte").descriptor.unwrap();
    let size = Descriptor::parse(&descriptor).unwrap().size;
    assert_eq!(size, fs::metadata(site.tree().join("byte")).unwrap().len());
    assert_eq!(HashName::from(Descriptor::parse(&descriptor).unwrap().params.algorithm), HashName::Sha256);
}
