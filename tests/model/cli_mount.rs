//! `nfs-verity verify --mount`: a client finds out what its gateway's word is worth.
//!
//! The mounts are directories that hold what a running gateway serves and tells, as a kernel would show it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nfs_verity::verity::{BlockSize, Descriptor, Params, Salt, TreeBuilder, VerityError};
use serde_json::{Value, json};

use crate::cli::{Ends, certificate, command, flip, fsverity, keygen, unprivileged};
use crate::support::{Client, Served, Site, content};

const SIZE: usize = 300_000;

/// How the evidence is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// As on a mount of NFS version 4.2.
    Xattrs,
    /// As on one of version 3.
    ProofDirectory,
}

const BOTH: [Seen; 2] = [Seen::Xattrs, Seen::ProofDirectory];

struct Mount {
    root: PathBuf,
    seen: Seen,
}

impl Mount {
    /// What `served` shows of these files of the site's tree.
    fn of(site: &Site, served: &Served, files: &[&str], seen: Seen) -> Self {
        let mount = Self { root: site.path(format!("{seen:?}")), seen };
        for file in files {
            mount.put(file, &fs::read(site.tree().join(file)).unwrap());
            match seen {
                Seen::Xattrs => mount.copy_attributes(served, file),
                Seen::ProofDirectory => mount.copy_proofs(served, file),
            }
        }
        mount
    }

    /// What the sideband tells of a file.
    fn copy_attributes(&self, served: &Served, file: &str) {
        let mut xattr = command("xattr");
        xattr.arg("--json").arg(format!("nfs://{}/{file}", served.nfs));
        let told: Value = serde_json::from_slice(&xattr.output().unwrap().stdout).unwrap();
        for attribute in told["attributes"].as_array().unwrap() {
            let name = attribute["name"].as_str().unwrap().strip_prefix("user.").unwrap();
            let value = match attribute["text"].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => hex::decode(attribute["hex"].as_str().unwrap()).unwrap(),
            };
            self.tell(file, name, &value);
        }
    }

    /// What stands in the gateway's proof directory.
    fn copy_proofs(&self, served: &Served, file: &str) {
        let mut client = Client::connect(served.nfs);
        let directory = client.find(&format!(".verity/{file}")).unwrap();
        for name in client.names(&directory, 65_536).unwrap() {
            if matches!(&name[..], b"." | b"..") {
                continue;
            }
            let (handle, _) = client.lookup(&directory, &name).unwrap();
            let value = client.read_all(&handle, 65_536).unwrap();
            self.tell(file, std::str::from_utf8(&name).unwrap(), &value);
        }
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Lets the gateway tell something of a file; `name` as in RFC 8276.
    fn tell(&self, file: &str, name: &str, value: &[u8]) {
        match self.seen {
            Seen::Xattrs => {
                let flags = rustix::fs::XattrFlags::empty();
                let path = self.root.join(file);
                rustix::fs::setxattr(path, format!("user.{name}"), value, flags)
                    .expect("the file system of the tests has extended attributes");
            }
            Seen::ProofDirectory => {
                let path = self.proof(file, name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, value).unwrap();
            }
        }
    }

    /// What the gateway tells.
    fn told(&self, file: &str, name: &str) -> Vec<u8> {
        match self.seen {
            Seen::Xattrs => {
                let mut value = vec![0; 65536];
                let path = self.root.join(file);
                let length = rustix::fs::getxattr(path, format!("user.{name}"), &mut value[..]).unwrap();
                value.truncate(length);
                value
            }
            Seen::ProofDirectory => fs::read(self.proof(file, name)).unwrap(),
        }
    }

    /// Keeps something from being told.
    fn hide(&self, file: &str, name: &str) {
        match self.seen {
            Seen::Xattrs => {
                rustix::fs::removexattr(self.root.join(file), format!("user.{name}")).unwrap();
            }
            Seen::ProofDirectory => fs::remove_file(self.proof(file, name)).unwrap(),
        }
    }

    fn proof(&self, file: &str, name: &str) -> PathBuf {
        self.root.join(".verity").join(file).join(name.strip_prefix("verity.").unwrap_or(name))
    }

    /// `verify --mount` of all of it; flags may follow.
    fn verify(&self, trust: &Path) -> Command {
        let mut command = command("verify");
        command.arg("--mount").arg("--root").arg(&self.root).arg("--trust").arg(trust).arg(&self.root);
        command
    }
}

const FILES: [&str; 4] = ["d/a.bin", "d/b.bin", "empty", "small"];

/// A tree that the gateway serves in full, and a file in it that it refuses.
fn site() -> Site {
    let site = Site::new();
    site.put("d/a.bin", &content(1, SIZE));
    site.put("d/b.bin", &content(2, SIZE));
    site.put("small", b"one block");
    site.put("empty", b"");
    site.sign(&["--block-size", "1024", "--hash", "sha512", "--salt", "0102"]);
    site.put("new", b"nobody signed this");
    site
}

fn line<'a>(said: &'a str, path: &str) -> &'a str {
    let found = said.lines().find(|line| line.starts_with(&format!("{path}: ")));
    found.unwrap_or_else(|| panic!("{path} in {said}"))
}

#[test]
fn an_honest_gateway_is_right_about_every_file() {
    let site = site();
    let served = site.serve(&[]);
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &FILES, seen);
        let said = mount.verify(&site.trust()).ends(0).out;
        for file in FILES {
            let line = line(&said, file);
            assert!(line.starts_with(&format!("{file}: ok by release (native, ")), "{line}");
            assert!(line.ends_with("; the gateway says verified, and is right"), "{line}");
        }
        let beside = usize::from(seen == Seen::ProofDirectory);
        assert_eq!(said.lines().count(), 7 + beside, "{said}");
        let root = format!("{} is taken for / of the export (--root, --root-path)\n", mount.root.display());
        assert!(said.contains(&root), "{said}");
        assert_eq!(said.contains("not checked: what lies below .verity"), beside == 1, "{said}");
        assert!(said.contains("4 files good, 0 failed, 0 could not be read"), "{said}");
        assert!(said.contains("right about 4 files and wrong about 0"), "{said}");

        let lines = mount.verify(&site.trust()).arg("--json").ends(0).json_lines();
        let counts = lines.last().unwrap();
        assert_eq!((&counts["good"], &counts["gateway_right"]), (&json!(4), &json!(4)));
        assert_eq!(counts["bytes"], 2 * SIZE + 9);
        assert_eq!((&counts["root"], &counts["root_path"]), (&json!(mount.root), &json!("/")));
        let one = lines.iter().find(|one| one["path"] == "small").unwrap();
        assert_eq!((&one["good"], &one["signers"][0]["name"]), (&json!(true), &json!("release")));
        assert_eq!(one["gateway"], json!({ "status": "verified", "right": true, "detail": null }));
    }
}

#[test]
fn files_that_the_gateway_refuses_are_told_with_its_reason() {
    let site = site();
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &["small", "new"], Seen::ProofDirectory);
    fs::set_permissions(mount.root.join("new"), fs::Permissions::from_mode(0o000)).unwrap();
    let said = unprivileged(&mount.verify(&site.trust())).ends(1).out;
    let new = line(&said, "new");
    assert!(new.starts_with("new: not given out (Permission denied"), "{new}");
    assert!(new.contains("; the gateway says unsigned") && new.ends_with(", and is right"), "{new}");
    assert!(said.contains("1 files good, 1 failed, 0 could not be read"), "{said}");

    // Nobody knows why: the gateway says verified, or nothing.
    for change in [
        |mount: &Mount| mount.tell("new", "verity.status", b"verified"),
        |mount: &Mount| {
            mount.hide("new", "verity.status");
        },
    ] {
        change(&mount);
        let said = unprivileged(&mount.verify(&site.trust())).ends(3);
        assert!(line(&said.out, "new").contains("nothing of it that could be judged"), "{}", said.out);
        said.complains_of(&["1 files could not be read"]);
    }
}

#[test]
fn a_gateway_that_serves_what_it_says_itself_is_not_verified_is_right() {
    let site = site();
    let served = site.serve(&["--mode", "warn"]);
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["small", "new"], seen);
        let said = mount.verify(&site.trust()).ends(1).out;
        let new = line(&said, "new");
        assert!(new.starts_with("new: unsigned (") && new.ends_with("and is right"), "{new}");
        assert!(!said.contains("DO NOT TRUST"), "{said}");
    }
}

/// What a gateway changes, and the cause that is told.
type Lie = (&'static str, fn(&Mount), &'static str);

#[test]
fn a_gateway_that_calls_verified_what_is_not_is_found_out() {
    let lies: [Lie; 9] = [
        ("first bit", |m| flip(&m.root.join("d/a.bin"), 0), "bad block"),
        ("last bit", |m| flip(&m.root.join("d/a.bin"), SIZE as u64 - 1), "bad block"),
        ("shorter", |m| m.put_again("d/a.bin", &content(1, SIZE - 1)), "wrong size"),
        ("longer", |m| m.put_again("d/a.bin", &content(1, SIZE + 1)), "wrong size"),
        ("empty", |m| m.put_again("d/a.bin", b""), "wrong size"),
        (
            "another descriptor",
            |m| m.tell("d/a.bin", "verity.descriptor", &m.told("d/b.bin", "verity.descriptor")),
            "wrong digest",
        ),
        ("no descriptor at all", |m| m.tell("d/a.bin", "verity.descriptor", b"what?"), "malformed evidence"),
        (
            "a forged signature",
            |m| {
                let mut statement = m.told("d/a.bin", "verity.statement");
                let at = statement.windows(7).position(|w| w == b"\"sig\":\"").unwrap() + 9;
                statement[at] = if statement[at] == b'A' { b'B' } else { b'A' };
                m.tell("d/a.bin", "verity.statement", &statement);
            },
            "bad signature",
        ),
        (
            "a cut statement",
            |m| {
                let statement = m.told("d/a.bin", "verity.statement");
                m.tell("d/a.bin", "verity.statement", &statement[..statement.len() / 2]);
            },
            "malformed evidence",
        ),
    ];
    let site = site();
    let served = site.serve(&[]);
    for seen in BOTH {
        for (name, lie, cause) in lies {
            let mount = Mount::of(&site, &served, &["d/a.bin", "d/b.bin"], seen);
            lie(&mount);
            let said = mount.verify(&site.trust()).ends(1).out;
            let told = line(&said, "d/a.bin");
            assert!(told.starts_with(&format!("d/a.bin: {cause} (")), "{seen:?} {name}: {told}");
            assert!(
                told.ends_with("; THE GATEWAY SAYS verified, AND THAT IS NOT SO"),
                "{seen:?} {name}: {told}"
            );
            assert!(said.contains("DO NOT TRUST THIS GATEWAY: 1 files"), "{seen:?} {name}: {said}");
            assert!(line(&said, "d/b.bin").contains(": ok by release"), "{seen:?} {name}: {said}");
            fs::remove_dir_all(&mount.root).unwrap();
        }
    }
}

/// Another file may be one under another name: whoever forgets --root-path has not met a liar.
#[test]
fn another_file_is_bad_and_the_gateway_wrong_if_the_names_are_right() {
    let site = site();
    let served = site.serve(&[]);
    for seen in BOTH {
        for items in [&["digest", "descriptor", "statement"][..], &["statement"]] {
            let mount = Mount::of(&site, &served, &["d/a.bin", "d/b.bin"], seen);
            if items.len() > 1 {
                mount.put_again("d/a.bin", &content(2, SIZE));
            }
            for item in items {
                let name = format!("verity.{item}");
                mount.tell("d/a.bin", &name, &mount.told("d/b.bin", &name));
            }
            let said = mount.verify(&site.trust()).ends(1).out;
            let told = line(&said, "d/a.bin");
            assert!(told.starts_with("d/a.bin: wrong path (") && told.contains("and is wrong"), "{told}");
            assert!(told.ends_with("if --root, --root-path and --namespace are right"), "{told}");
            assert!(!said.contains("DO NOT TRUST"), "{said}");
            fs::remove_dir_all(&mount.root).unwrap();
        }
    }
}

#[test]
fn a_file_signed_as_a_whole_stays_revoked_whatever_tree_the_gateway_tells() {
    let site = Site::new();
    let rsa = certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    site.put("tool", &content(3, SIZE));
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate);
    sign.args(["--format", "ima-v2"]).arg(site.tree()).ends(0);
    let accept = ["--accept", "native,ima-v2"];
    let served = site.serve(&accept);
    let digest = |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        fsverity(&site.tree().join("tool"), &flags)
    };
    // The tree is one of the gateway's choice, with a digest that nobody revoked.
    let params = Params {
        block_size: BlockSize::new(1024).unwrap(),
        salt: Salt::new(&[1, 2]).unwrap(),
        ..Params::default()
    };
    let mut tree = TreeBuilder::new(params, SIZE as u64).unwrap();
    let mut nowhere = |_: u64, _: &[u8]| Ok::<_, VerityError>(());
    tree.update(&content(3, SIZE), &mut nowhere).unwrap();
    let root_hash = tree.finish(&mut nowhere).unwrap();
    let descriptor = Descriptor { params, size: SIZE as u64, root_hash }.encode();
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["tool"], seen);
        mount.tell("tool", "verity.descriptor", &descriptor);
        mount.tell("tool", "verity.digest", digest(&["--block-size=1024", "--salt=0102"]).as_bytes());
        let said = mount.verify(&site.trust()).args(accept).ends(0).out;
        let tool = line(&said, "tool");
        assert!(tool.contains("; not proven that the file belongs to this path"), "{tool}");
        fs::create_dir(site.trust().join("revoked")).unwrap();
        fs::write(site.trust().join("revoked/files.txt"), format!("{}\n", digest(&[]))).unwrap();
        let said = mount.verify(&site.trust()).args(accept).ends(1).out;
        assert!(line(&said, "tool").starts_with("tool: revoked ("), "{said}");
        fs::remove_dir_all(site.trust().join("revoked")).unwrap();
    }
}

#[test]
fn links_that_the_gateway_makes_are_not_followed() {
    let site = Site::new();
    site.put("old/tool", b"a tool with holes");
    site.sign(&[]);
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &["old/tool"], Seen::Xattrs);
    fs::create_dir(mount.root.join("bin")).unwrap();
    symlink("../old/tool", mount.root.join("bin/tool")).unwrap();
    symlink("old", mount.root.join("lib")).unwrap();
    let named = |path: &Path| {
        let mut command = command("verify");
        command.arg("--mount").arg("--root").arg(&mount.root).arg("--trust").arg(site.trust()).arg(path);
        command
    };
    named(&mount.root.join("old/tool")).ends(0);
    named(&mount.root.join("bin/../old/tool")).ends(0);
    for path in ["bin/tool", "lib/tool", "lib"] {
        let said = named(&mount.root.join(path)).ends(3);
        assert!(!said.out.contains(": ok by"), "{path}: {}", said.out);
        mount.verify(&site.trust()).arg(path).ends(3);
    }
    // Links that lead to the mount are the user's own.
    let own = site.path("own");
    symlink(&mount.root, &own).unwrap();
    assert!(named(&own.join("old/tool")).ends(0).out.contains("old/tool: ok by"));
    named(&own.join("bin/tool")).ends(3);
}

#[test]
fn what_is_no_file_is_not_passed_over_in_silence() {
    let site = site();
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &["small"], Seen::ProofDirectory);
    symlink("small", mount.root.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        mount.root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let said = mount.verify(&site.trust()).ends(0).out;
    assert!(said.contains("not checked: 2 symbolic links and special files"), "{said}");
    let counts = mount.verify(&site.trust()).arg("--json").ends(0).json_lines().pop().unwrap();
    let beside = (&counts["links_and_special_files"], &counts["proof_directory_passed_over"]);
    assert_eq!(beside, (&json!(2), &json!(true)));
    for path in ["link", "pipe"] {
        let said = mount.verify(&site.trust()).arg(path).ends(3);
        said.complains_of(&[path, "neither a file nor a directory"]);
    }
    // A directory without files proves nothing.
    fs::create_dir(mount.root.join("hollow")).unwrap();
    mount.verify(&site.trust()).arg("hollow").ends(1);
    // Whoever names the proof directory, or something in it, means it.
    mount.put(".verity/evil", b"run me");
    for path in [".verity", ".verity/evil"] {
        let said = mount.verify(&site.trust()).arg(path).ends(1).out;
        assert!(said.contains(".verity/evil: unsigned ("), "{said}");
    }
    let mut below = command("verify");
    below.arg("--mount").arg("--root").arg(mount.root.join(".verity")).arg("--trust").arg(site.trust());
    assert!(below.arg(mount.root.join(".verity")).ends(1).out.contains("evil: unsigned ("));
    // Below a directory of the export it is one like all others.
    let said = mount.verify(&site.trust()).args(["--root-path", "d"]).ends(1).out;
    assert!(said.contains(".verity/evil: unsigned ("), "{said}");
}

impl Mount {
    /// Replaces the content and nothing else.
    fn put_again(&self, file: &str, bytes: &[u8]) {
        fs::write(self.root.join(file), bytes).unwrap();
    }
}

#[test]
fn a_gateway_that_speaks_ill_of_a_good_file_is_wrong_and_the_file_good() {
    let site = site();
    let served = site.serve(&[]);
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["small", "empty"], seen);
        mount.tell("small", "verity.status", b"bad-block: block 0\n\x1b[2J");
        let said = mount.verify(&site.trust()).ends(0).out;
        assert!(line(&said, "small").contains(": ok by release"), "{said}");
        // A digest that its own descriptor does not have is more than another opinion.
        mount.tell("empty", "verity.digest", b"sha512:00");
        let said = mount.verify(&site.trust()).ends(1).out;
        let small = line(&said, "small");
        assert!(small.contains(": ok by release") && small.contains("says bad-block: block 0"), "{small}");
        assert!(small.contains("and is wrong: by the trust given here, the file is good"), "{small}");
        let empty = line(&said, "empty");
        assert!(
            empty.contains(": ok by release") && empty.contains("and is wrong: the gateway tells the digest")
        );
        assert!(said.contains("right about 0 files and wrong about 2") && !said.contains('\x1b'), "{said}");
        mount.hide("empty", "verity.status");
        let said = mount.verify(&site.trust()).ends(1).out;
        assert!(
            line(&said, "empty").contains("; the gateway is wrong: the gateway tells the digest"),
            "{said}"
        );
    }
}

#[test]
fn a_word_without_a_proof_is_worth_nothing() {
    let site = site();
    let served = site.serve(&[]);
    for seen in BOTH {
        for hidden in [&["statement"][..], &["statement", "descriptor", "digest"]] {
            let mount = Mount::of(&site, &served, &["small"], seen);
            hidden.iter().for_each(|item| mount.hide("small", &format!("verity.{item}")));
            let said = mount.verify(&site.trust()).ends(1).out;
            let small = line(&said, "small");
            assert!(small.starts_with("small: unsigned ("), "{small}");
            assert!(small.ends_with("says verified, and is wrong: it shows nothing that would prove it"));
            fs::remove_dir_all(&mount.root).unwrap();
        }
    }
}

#[test]
fn it_is_the_clients_own_trust_that_counts() {
    let site = site();
    let served = site.serve(&[]);
    let stranger = site.path("stranger");
    fs::create_dir(&stranger).unwrap();
    keygen(&site, "stranger/k");
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["small"], seen);
        let said = mount.verify(&stranger).ends(1).out;
        let small = line(&said, "small");
        assert!(small.starts_with("small: unknown key (") && small.contains("nobody who counts"), "{small}");
        assert!(!said.contains("DO NOT TRUST"), "to trust others is no lie: {said}");
        let said = mount.verify(&site.trust()).args(["--namespace", "other"]).ends(1).out;
        assert!(line(&said, "small").starts_with("small: wrong namespace ("), "{said}");
    }
}

#[test]
fn paths_are_those_below_the_root_of_the_export() {
    let site = site();
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &FILES, Seen::Xattrs);
    // A mount of the export's directory d.
    let below = |more: &[&str]| {
        let mut command = command("verify");
        command.arg("--mount").arg("--root").arg(mount.root.join("d")).arg("--trust").arg(site.trust());
        command.arg(mount.root.join("d")).args(more);
        command
    };
    for root_path in ["/d", "d/", "d"] {
        let said = below(&["--root-path", root_path]).ends(0).out;
        assert!(said.lines().count() == 5 && said.contains("is taken for /d of the export"), "{said}");
    }
    assert!(below(&[]).ends(1).out.contains("a.bin: wrong path ("));
    // A part of the mount, given in several ways.
    assert!(mount.verify(&site.trust()).args(["d/a.bin", "small"]).ends(0).out.contains("2 files good"));
    let part = |path: &str| {
        let mut command = command("verify");
        command.arg("--mount").arg("--root").arg(&mount.root).arg("--trust").arg(site.trust());
        command.arg(mount.root.join(path));
        command
    };
    let said = part("d").ends(0).out;
    assert!(said.contains("d/a.bin: ok") && said.contains("2 files good"), "{said}");
    assert!(part("d/a.bin").ends(0).out.contains("1 files good"));
    part("none").ends(3);
    mount.verify(&site.trust()).arg("none").ends(3);
}

#[test]
fn the_proof_directory_is_evidence_and_no_file() {
    let site = site();
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &FILES, Seen::ProofDirectory);
    fs::rename(mount.root.join(".verity"), mount.root.join(".proof")).unwrap();
    let said = mount.verify(&site.trust()).args(["--proof-directory", ".proof"]).ends(0).out;
    assert!(said.contains("4 files good, 0 failed"), "{said}");
    // Under its own name alone.
    let said = mount.verify(&site.trust()).ends(1).out;
    assert!(line(&said, "small").contains("the mount shows no evidence"), "{said}");
    assert!(said.contains(".proof/small/status: unsigned"), "{said}");
}

#[test]
fn evidence_of_any_length_is_read_to_its_limit_alone() {
    let site = site();
    let served = site.serve(&[]);
    let mount = Mount::of(&site, &served, &["small"], Seen::ProofDirectory);
    for item in ["statement", "descriptor", "certificates", "signature", "ima", "status", "digest"] {
        let before = mount.proof("small", item);
        let kept = fs::read(&before).ok();
        let file = fs::File::create(&before).unwrap();
        file.set_len(1 << 40).unwrap();
        let output = mount.verify(&site.trust()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            matches!(output.status.code(), Some(0 | 1)) && !text.contains("panicked"),
            "{item}: {output:?}"
        );
        match kept {
            Some(kept) => fs::write(&before, kept).unwrap(),
            None => fs::remove_file(&before).unwrap(),
        }
    }
    mount.verify(&site.trust()).ends(0);
}

#[test]
fn signatures_of_every_format_are_checked_by_what_the_mount_gives() {
    let site = Site::new();
    let rsa = certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    for format in ["fsverity", "ima-v3", "ima-v2"] {
        site.put(format, &content(3, SIZE));
        let mut sign = command("sign");
        sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate).args(["--format", format]);
        sign.arg(site.tree()).arg(format).ends(0);
    }
    let accept = ["--accept", "native,fsverity,ima-v3,ima-v2"];
    let served = site.serve(&accept);
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["fsverity", "ima-v3", "ima-v2"], seen);
        let said = mount.verify(&site.trust()).args(accept).ends(0).out;
        for format in ["fsverity", "ima-v3", "ima-v2"] {
            assert!(line(&said, format).contains(&format!("({format}, ")), "{said}");
        }
        mount.verify(&site.trust()).ends(1);
        for format in ["fsverity", "ima-v3", "ima-v2"] {
            flip(&mount.root.join(format), 7);
        }
        let said = mount.verify(&site.trust()).args(accept).ends(1).out;
        assert!(said.contains("DO NOT TRUST THIS GATEWAY: 3 files"), "{said}");
    }
}

#[test]
fn as_many_signers_are_wanted_as_the_clients_trust_requires() {
    let site = Site::new();
    site.put("both", b"signed twice");
    site.put("one", b"signed once");
    keygen(&site, "second");
    fs::copy(site.path("second.pub"), site.trust().join("second.pub")).unwrap();
    site.sign(&[]);
    let mut add = command("sign");
    add.arg("--add").arg("--trust").arg(site.trust()).arg("--key").arg(site.path("second.key"));
    add.arg(site.tree()).arg("both").ends(0);
    let served = site.serve(&[]);
    let strict = site.path("strict");
    fs::create_dir(&strict).unwrap();
    for name in ["release.pub", "second.pub"] {
        fs::copy(site.trust().join(name), strict.join(name)).unwrap();
    }
    fs::write(strict.join("trust.toml"), "require = 2\n").unwrap();
    for seen in BOTH {
        let mount = Mount::of(&site, &served, &["both", "one"], seen);
        let said = mount.verify(&strict).ends(1).out;
        assert!(
            line(&said, "both").contains("ok by release") && line(&said, "both").contains("second"),
            "{said}"
        );
        assert!(line(&said, "one").starts_with("one: too few signers ("), "{said}");
        mount.verify(&site.trust()).ends(0);
    }
}

#[test]
fn wrong_usage_is_told() {
    let site = site();
    let verify = |args: &[&str]| {
        let mut command = command("verify");
        command.arg("--trust").arg(site.trust()).args(args).arg(site.tree());
        command
    };
    verify(&["--mount"]).ends(2).complains_of(&["is not on an NFS mount", "--root DIR"]);
    for flag in ["--root", "--root-path", "--proof-directory"] {
        verify(&[flag, "x"]).ends(2).complains_of(&["--mount"]);
    }
    verify(&["--mount", "--carrier", "xattr"]).ends(2);
    verify(&["--mount", "--accept", "native,modsig"]).ends(2).complains_of(&["modsig"]);
    let tree = site.tree();
    let root = ["--mount", "--root", tree.to_str().unwrap()];
    verify(&[&root[..], &["--proof-directory", "a/b"]].concat()).ends(2).complains_of(&["one name"]);
    verify(&[&root[..], &["--root-path", "../x"]].concat()).ends(2).complains_of(&["--root-path"]);
    let other = site.trust();
    verify(&["--mount", "--root", other.to_str().unwrap()]).ends(2).complains_of(&["does not lie below"]);
}
