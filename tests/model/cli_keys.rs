//! `nfs-verity keygen`, and what every command does with its command line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::cli::{Ends, Said, command, sign, verify};
use crate::support::{COMMAND, Site};

const COMMANDS: [&str; 7] = ["keygen", "keys", "sign", "verify", "inspect", "serve", "demo"];

fn openssl(directory: &Path, args: &[&str]) -> Said {
    Command::new("openssl").args(args).current_dir(directory).ends(0)
}

/// The id of a public key, as `openssl` has it.
fn key_id(directory: &Path, public: &str) -> String {
    openssl(directory, &["pkey", "-pubin", "-in", public, "-outform", "DER", "-out", "spki.der"]);
    openssl(directory, &["dgst", "-sha256", "-r", "spki.der"]).out[..64].to_owned()
}

/// Makes a key of `alg`, holds it against `openssl`, and signs and verifies with it.
fn a_key_of(alg: &str, kind: &str) {
    let site = Site::new();
    let (dir, keys) = (site.dir.path(), site.path("keys"));
    fs::create_dir(&keys).unwrap();
    let said = command("keygen").arg("--out").arg(keys.join("k")).args(["--alg", alg]).ends(0);

    let mode = |name: &str| fs::metadata(keys.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("k.key"), 0o600);
    assert_eq!(mode("k.pub") & 0o133, 0, "nobody but the owner writes it");
    let (private, public) =
        (fs::read_to_string(keys.join("k.key")).unwrap(), fs::read_to_string(keys.join("k.pub")).unwrap());
    assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "SPKI");

    let id = key_id(dir, "keys/k.pub");
    assert!(said.out.contains(&id), "{id} in {}", said.out);
    assert!(!said.out.contains("PRIVATE") && !said.err.contains("PRIVATE"));
    assert_eq!(openssl(dir, &["pkey", "-in", "keys/k.key", "-pubout"]).out, public, "the halves match");
    let text = openssl(dir, &["pkey", "-pubin", "-in", "keys/k.pub", "-noout", "-text"]).out;
    assert!(text.to_lowercase().contains(kind), "{kind} in {text}");

    site.put("f", b"content");
    command("sign").arg("--key").arg(keys.join("k.key")).arg(site.tree()).ends(0);
    command("verify").arg("--trust").arg(keys.join("k.pub")).arg(site.tree()).ends(0);
    assert!(verify(&site).ends(1).out.contains("f: unknown key"));
}

#[test]
fn keys_have_the_files_the_modes_and_the_id_that_openssl_sees() {
    for (alg, kind) in [("ed25519", "ed25519"), ("p256", "p-256"), ("p384", "p-384")] {
        a_key_of(alg, kind);
    }
}

#[test]
fn long_rsa_keys_are_as_good() {
    a_key_of("rsa3072", "3072 bit");
    a_key_of("rsa4096", "4096 bit");
}

#[test]
fn the_json_of_a_new_key_names_its_files() {
    let site = Site::new();
    let said = command("keygen").arg("--json").arg("--out").arg(site.path("k")).ends(0);
    let json = said.json();
    assert_eq!(json["key_id"], key_id(site.dir.path(), "k.pub"));
    assert_eq!(json["private"], site.path("k.key").to_str().unwrap());
    assert_eq!(json["public"], site.path("k.pub").to_str().unwrap());
}

#[test]
fn no_key_is_ever_overwritten() {
    for taken in ["k.key", "k.pub"] {
        let site = Site::new();
        fs::write(site.path(taken), "precious").unwrap();
        let said = command("keygen").arg("--out").arg(site.path("k")).ends(2);
        said.complains_of(&[taken, "never overwritten"]);
        assert_eq!(fs::read_to_string(site.path(taken)).unwrap(), "precious");
        let other = if taken == "k.key" { "k.pub" } else { "k.key" };
        assert!(!site.path(other).exists(), "no half of a pair is left");
    }
    let site = Site::new();
    symlink(site.path("elsewhere"), site.path("k.key")).unwrap();
    command("keygen").arg("--out").arg(site.path("k")).ends(2);
    assert!(!site.path("elsewhere").exists(), "nor is one written through a link");
}

#[test]
fn a_key_needs_a_name_and_a_directory() {
    let site = Site::new();
    command("keygen").arg("--out").arg(site.path("none/k")).ends(3).complains_of(&["none/k.key"]);
    let directory = format!("{}/", site.trust().display());
    command("keygen").args(["--out", &directory]).ends(2).complains_of(&["file name"]);
    assert_eq!(fs::read_dir(site.trust()).unwrap().count(), 1, "only the key that was there");
    command("keygen").args(["--out", ".."]).ends(2);
    command("keygen").arg("--out").arg(site.path("k")).args(["--alg", "dsa"]).ends(2).complains_of(&["dsa"]);
    command("keygen").ends(2).complains_of(&["--out"]);
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let all = Command::new(COMMAND).arg("--help").ends(0).out;
    for name in COMMANDS {
        assert!(all.contains(name), "{name} in {all}");
        let help = command(name).arg("--help").ends(0).out;
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("no example in {help}"));
        assert!(examples.contains(&format!("nfs-verity {name}")), "{help}");
    }
    assert!(all.contains("Examples:"));
    let version = Command::new(COMMAND).arg("--version").ends(0).out;
    assert_eq!(version, format!("nfs-verity {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_no_command_knows_is_a_usage_error() {
    for name in COMMANDS {
        command(name).arg("--no-such-flag").ends(2).complains_of(&["--no-such-flag", "--help"]);
    }
    Command::new(COMMAND).ends(2);
    command("sing").ends(2).complains_of(&["sing"]);
}

#[test]
fn parameters_out_of_bounds_are_usage_errors() {
    let site = Site::new();
    site.put("f", b"content");
    for (flag, value, word) in [
        ("--block-size", "512", "512"),
        ("--block-size", "5000", "5000"),
        ("--block-size", "131072", "131072"),
        ("--block-size", "x", "x"),
        ("--hash", "md5", "md5"),
        ("--salt", "abc", "--salt"),
        ("--salt", "zz", "--salt"),
        ("--salt", &"00".repeat(33), "salt"),
        ("--expires", "tomorrow", "tomorrow"),
        ("--jobs", "0", "--jobs"),
        ("--jobs", "1000000", "--jobs"),
    ] {
        sign(&site).args([flag, value]).ends(2).complains_of(&[word]);
    }
    verify(&site).args(["--jobs", "1000000"]).ends(2).complains_of(&["--jobs"]);
    assert!(!site.evidence("").exists(), "nothing was signed");
}
