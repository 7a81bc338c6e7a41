//! Where `nfs-verity sign` gets its signatures from: key files, other programs, tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cli::{
    ED25519, Ends, P256, P384, RSA, command, inspect, make_certificate, make_key, openssl, sign, sign_with,
    verify,
};
use crate::support::{COMMAND, Site, content, write_private};

fn verifies(site: &Site, public: &str) {
    command("verify").arg("--trust").arg(site.path(public)).arg(site.tree()).ends(0);
}

#[test]
fn private_keys_and_passphrases_that_others_can_read_are_refused() {
    let site = Site::new();
    site.put("f", b"content");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777] {
        fs::set_permissions(site.key(), fs::Permissions::from_mode(mode)).unwrap();
        let shown = format!("{mode:04o}");
        sign(&site).ends(2).complains_of(&["release.key", &shown, "chmod 600"]);
        assert!(!site.evidence("f").exists(), "{mode:o}");
    }
    for mode in [0o600, 0o400, 0o700] {
        fs::set_permissions(site.key(), fs::Permissions::from_mode(mode)).unwrap();
        sign(&site).ends(0);
    }
    make_key(&site, "k", ED25519);
    openssl(site.dir.path(), &["pkcs8", "-topk8", "-in", "k.pem", "-out", "e.key", "-passout", "pass:word"]);
    fs::set_permissions(site.path("e.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(site.path("word"), "word").unwrap();
    fs::set_permissions(site.path("word"), fs::Permissions::from_mode(0o644)).unwrap();
    let flags = ["--key", "e.key", "--passphrase-file", "word"];
    sign_with(&site, &flags).ends(2).complains_of(&["word", "0644", "chmod 600"]);
    fs::set_permissions(site.path("word"), fs::Permissions::from_mode(0o600)).unwrap();
    sign_with(&site, &flags).ends(0);
}

#[test]
fn keys_that_openssl_encrypts_open_with_their_passphrase_alone() {
    let site = Site::new();
    site.put("f", b"content");
    write_private(&site.path("right"), "correct horse Ω\n".as_bytes());
    write_private(&site.path("wrong"), b"battery staple\n");
    let encryptions: [&[&str]; 3] =
        [&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"], &["-v2", "aes-128-cbc"], &["-scrypt"]];
    for (name, algorithm) in [("ed", ED25519), ("p256", P256), ("p384", P384), ("rsa", RSA)] {
        make_key(&site, name, algorithm);
        for encryption in encryptions {
            let (private, out) = (format!("{name}.pem"), format!("{name}.key"));
            let _ = fs::remove_file(site.path(&out));
            let args = ["pkcs8", "-topk8", "-in", &private, "-out", &out, "-passout", "file:right"];
            openssl(site.dir.path(), &[&args[..], encryption].concat());
            fs::set_permissions(site.path(&out), fs::Permissions::from_mode(0o600)).unwrap();
            sign_with(&site, &["--key", &out, "--passphrase-file", "right", "--force"]).ends(0);
            verifies(&site, &format!("{name}.pub"));
            let wrong = sign_with(&site, &["--key", &out, "--passphrase-file", "wrong"]).ends(2);
            wrong.complains_of(&[&out, "passphrase does not open"]);
            assert!(!wrong.err.contains("battery"), "{}", wrong.err);
        }
    }
}

#[test]
fn a_passphrase_comes_from_a_descriptor_or_somebody_at_the_terminal() {
    let site = Site::new();
    site.put("f", b"content");
    make_key(&site, "k", ED25519);
    openssl(site.dir.path(), &["pkcs8", "-topk8", "-in", "k.pem", "-out", "e.key", "-passout", "pass:word"]);
    fs::set_permissions(site.path("e.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(COMMAND).arg(site.tree()).current_dir(site.dir.path());
        command
    };
    shell("exec \"$0\" sign --key e.key --passphrase-fd 3 \"$1\" 3< <(echo word)").ends(0);
    verifies(&site, "k.pub");
    shell("echo word | exec \"$0\" sign --key e.key --passphrase-fd 0 --force \"$1\"").ends(0);
    let long =
        shell("head -c 5000 /dev/zero | exec \"$0\" sign --key e.key --passphrase-fd 0 \"$1\"").ends(2);
    long.complains_of(&["at most 4096"]);
    shell("echo | exec \"$0\" sign --key e.key --passphrase-fd 0 \"$1\"").ends(2).complains_of(&["empty"]);
    shell("exec \"$0\" sign --key e.key --passphrase-fd 77 \"$1\"")
        .ends(3)
        .complains_of(&["--passphrase-fd 77"]);
    // Without a terminal: setsid takes it away.
    let none = shell("exec setsid --wait \"$0\" sign --key e.key \"$1\" </dev/null").ends(2);
    none.complains_of(&["no terminal", "--passphrase-file", "--passphrase-fd"]);
    // With one: script(1) gives it. The word is not shown.
    let typed = "(sleep 1; echo word; sleep 1) | script -qec \"$0 sign --key e.key --force $1\" /dev/null";
    let said = shell(typed).ends(0);
    assert!(said.out.contains("Passphrase of e.key:") && said.out.contains("signed 1 files"), "{}", said.out);
}

#[test]
fn exactly_one_signer_is_named_with_what_belongs_to_it() {
    let site = Site::new();
    site.put("f", b"content");
    let refused: [(&[&str], &str); 7] = [
        (&[], "--key"),
        (&["--key", "release.key", "--signer-command", "true", "--public", "x"], "cannot be used with"),
        (&["--signer-command", "true"], "--public"),
        (&["--key", "release.key", "--public", "x"], "--public"),
        (&["--pkcs11", "x.so"], "--pkcs11-key"),
        (&["--key", "release.key", "--pkcs11-key", "x"], "--pkcs11"),
        (&["--key", "release.key", "--passphrase-fd", "1", "--passphrase-file", "x"], "cannot be used with"),
    ];
    for (flags, word) in refused {
        sign_with(&site, flags).ends(2).complains_of(&[word]);
    }
    let help = command("sign").arg("--help").ends(0).out;
    for word in ["NFS_VERITY_INPUT", "openssl dgst", "openssl pkeyutl", "--pkcs11-token"] {
        assert!(help.contains(word), "no {word} in {help}");
    }
}

#[test]
fn plain_openssl_signs_as_a_command() {
    let site = Site::new();
    for n in 0..5 {
        site.put(format!("d/f{n}"), &content(n, 9000));
    }
    let script = "openssl dgst -$NFS_VERITY_HASH -sign $NFS_VERITY_KEY_ALGORITHM.pem";
    for (name, algorithm) in [("p256", P256), ("p384", P384), ("rsa2048", RSA)] {
        make_key(&site, name, algorithm);
        let public = format!("{name}.pub");
        let flags = ["--public", &public, "--signer-command", script, "--json"];
        let said = sign_with(&site, &flags).ends(0);
        assert_eq!(said.json()["signed"], 5, "{name}");
        verifies(&site, &public);
        assert_eq!(sign_with(&site, &flags).ends(0).json()["unchanged"], 5, "and does not sign it twice");
    }
    // A digest is signed otherwise than a message.
    make_certificate(&site, "p256");
    let script = "case $NFS_VERITY_INPUT in \
                    message) openssl dgst -$NFS_VERITY_HASH -sign p256.pem ;; \
                    digest) openssl pkeyutl -sign -pkeyopt digest:$NFS_VERITY_HASH -inkey p256.pem ;; \
                  esac";
    for hash in ["sha256", "sha512"] {
        let flags = ["--public", "p256.pub", "--signer-command", script, "--json", "--cert", "p256.crt"];
        let formats = ["--format", "native,fsverity,ima-v3,ima-v2", "--hash", hash];
        assert_eq!(sign_with(&site, &[&flags[..], &formats].concat()).ends(0).json()["signed"], 5);
        verifies(&site, "p256.pub");
    }
    // Ed25519 in openssl wants its message in a file. A certificate names the key as well.
    make_key(&site, "ed25519", ED25519);
    openssl(site.dir.path(), &["req", "-x509", "-key", "ed25519.pem", "-subj", "/CN=x", "-out", "ed.crt"]);
    let script = "test -z \"${NFS_VERITY_HASH+set}\" && cat >m.$$ && \
                  openssl pkeyutl -sign -rawin -inkey ed25519.pem -in m.$$; s=$?; rm -f m.$$; exit $s";
    sign_with(&site, &["--public", "ed.crt", "--signer-command", script]).ends(0);
    verifies(&site, "ed25519.pub");
}

#[test]
fn a_command_that_signs_with_another_key_or_fails_leaves_everything_unsigned() {
    let site = Site::new();
    site.put("f", b"content");
    make_key(&site, "right", P256);
    make_key(&site, "other", P256);
    let attempts: [(&str, &[&str]); 4] = [
        ("openssl dgst -sha256 -sign other.pem", &["no signature of the key", "openssl dgst"]),
        ("openssl dgst -sha384 -sign right.pem", &["no signature of the key"]),
        ("echo the token is gone >&2; false", &["the token is gone", "exit status: 1"]),
        ("printf '\\033[2Jx' >&2; false", &["u{1b}[2Jx"]),
    ];
    for (script, words) in attempts {
        let said = sign_with(&site, &["--public", "right.pub", "--signer-command", script]).ends(1);
        said.complains_of(words);
        said.complains_of(&["f: the signer command"]);
        assert!(!site.evidence("f").exists(), "{script}");
    }
    sign_with(&site, &["--public", "none.pub", "--signer-command", "true"])
        .ends(3)
        .complains_of(&["none.pub"]);
    sign_with(&site, &["--public", "release.key", "--signer-command", "true"]).ends(2);
}

/// Debian's SoftHSM, whose place depends on the machine.
fn softhsm() -> PathBuf {
    let mut places = vec![PathBuf::from("/usr/lib/softhsm/libsofthsm2.so")];
    places
        .extend(fs::read_dir("/usr/lib").unwrap().map(|e| e.unwrap().path().join("softhsm/libsofthsm2.so")));
    let found = places.into_iter().find(|path| path.exists());
    found.expect("libsofthsm2.so is missing: apt-get install softhsm2")
}

/// A token `LABEL` with the PIN 1234 in a directory of the site.
fn make_token(site: &Site, label: &str) {
    let tokens = site.path("tokens");
    fs::create_dir_all(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(site.path("softhsm2.conf"), text).unwrap();
    util(site, &["--init-token", "--free", "--label", label, "--pin", "1234", "--so-pin", "5678"]);
}

fn util(site: &Site, args: &[&str]) {
    Command::new("softhsm2-util")
        .args(args)
        .env("SOFTHSM2_CONF", site.path("softhsm2.conf"))
        .current_dir(site.dir.path())
        .ends(0);
}

/// Puts the key `NAME.pem` on a token under its name.
fn import(site: &Site, token: &str, name: &str, id: &str) {
    let pem = format!("{name}.pem");
    util(site, &["--import", &pem, "--token", token, "--label", name, "--id", id, "--pin", "1234"]);
}

/// `sign` with a key of the token.
fn sign_on_token(site: &Site, key: &str, more: &[&str]) -> Command {
    let module = softhsm();
    let mut command = sign_with(site, &["--pkcs11", module.to_str().unwrap(), "--pkcs11-key", key]);
    command.args(more).env("SOFTHSM2_CONF", site.path("softhsm2.conf"));
    command
}

#[test]
fn keys_on_a_token_sign_and_never_leave_it() {
    let site = Site::new();
    for n in 0..5 {
        site.put(format!("d/f{n}"), &content(n, 9000));
    }
    write_private(&site.path("pin"), b"1234\n");
    write_private(&site.path("bad"), b"4321\n");
    make_token(&site, "release");
    let keys = [("rsa", RSA), ("p256", P256), ("p384", P384), ("ed", ED25519)];
    for (n, (name, algorithm)) in keys.into_iter().enumerate() {
        make_key(&site, name, algorithm);
        import(&site, "release", name, &format!("a{n}"));
        let said = sign_on_token(&site, name, &["--passphrase-file", "pin", "--json", "--jobs", "4"]).ends(0);
        assert_eq!(said.json()["signed"], 5, "{name}");
        if name != "ed" {
            make_certificate(&site, name);
            let (cert, pin) = (format!("{name}.crt"), ["--passphrase-file", "pin", "--json"]);
            for hash in ["sha256", "sha512"] {
                let all = ["--format", "native,fsverity,ima-v3,ima-v2", "--cert", &cert, "--hash", hash];
                let said = sign_on_token(&site, name, &[&all[..], &pin].concat()).ends(0);
                assert_eq!(said.json()["signed"], 5, "{name} {hash}: every signature was checked");
            }
        }
        verifies(&site, &format!("{name}.pub"));
        let said = inspect(&site, "d/f0").ends(0).json();
        let signers = said["signers"].as_array().unwrap();
        assert_eq!(signers.iter().filter(|signer| signer["format"] == "native").count(), 1);
    }
    let refused = sign_on_token(&site, "p256", &["--passphrase-file", "bad", "--force"]).ends(2);
    refused.complains_of(&["PIN", "release"]);
    let pin = ["--passphrase-file", "pin"];
    sign_on_token(&site, "none", &pin).ends(2).complains_of(&["no private key", "none"]);
    sign_on_token(&site, "p256", &["--pkcs11-token", "other", "--passphrase-file", "pin"])
        .ends(2)
        .complains_of(&["no token has that label", "release"]);
    // Two keys of one name, then two tokens.
    make_key(&site, "twice", P256);
    import(&site, "release", "twice", "b0");
    import(&site, "release", "twice", "b1");
    sign_on_token(&site, "twice", &pin).ends(2).complains_of(&["2 private keys"]);
    make_token(&site, "second");
    sign_on_token(&site, "p256", &pin).ends(2).complains_of(&["--pkcs11-token", "release", "second"]);
    sign_on_token(&site, "p256", &["--pkcs11-token", "release", "--passphrase-file", "pin", "--force"])
        .ends(0);
    verify(&site).ends(1);
}

#[test]
fn what_is_no_module_is_told() {
    let site = Site::new();
    let flags = ["--pkcs11", "release.key", "--pkcs11-key", "x"];
    sign_with(&site, &flags).ends(2).complains_of(&["release.key", "not a PKCS#11 module"]);
    sign_with(&site, &["--pkcs11", "./none.so", "--pkcs11-key", "x"]).ends(2).complains_of(&["none.so"]);
}

#[test]
fn long_a_command_that_hangs_is_given_up_after_a_minute() {
    let site = Site::new();
    site.put("f", b"content");
    make_key(&site, "right", P256);
    let started = Instant::now();
    let said = sign_with(&site, &["--public", "right.pub", "--signer-command", "sleep 1000"]).ends(1);
    said.complains_of(&["60 s", "sleep 1000"]);
    assert!((55..75).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(started.elapsed() > Duration::from_secs(55));
}
