//! Trust directories as an operator makes them.

use std::fs;

use super::*;
use crate::sign::{GeneratedKey, KeyAlgorithm, generate};

const CERTIFICATE: &str = include_str!("../../../tests/vectors/keys/ecp256.crt.pem");
const CERTIFICATE_DER: &[u8] = include_bytes!("../../../tests/vectors/keys/ecp256.crt.der");
const FINGERPRINT: &str = "cert-sha256:";

/// A trust directory with one key, `a`.
struct Dir(tempfile::TempDir, GeneratedKey);

impl Dir {
    fn new() -> Self {
        let (dir, key) = (Self::empty(), generate(KeyAlgorithm::Ed25519).unwrap());
        fs::write(dir.path().join("a.pub"), &key.public_pem).unwrap();
        Self(dir, key)
    }

    fn empty() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn load(&self) -> Result<Keyring, TrustError> {
        load_keyring(self.0.path(), FormatSet::NATIVE)
    }

    fn refused(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    fn limits(&self) -> Limits {
        self.load().unwrap().get(&self.1.key_id).unwrap().limits.clone()
    }
}

#[test]
fn a_directory_gives_its_keys_and_nothing_else() {
    let dir = Dir::new();
    dir.put("a.key", &dir.1.private_pem).put("README", "keys").put(".hidden.pub", "x").put("a.pub~", "x");
    let keyring = dir.load().unwrap();
    assert_eq!((keyring.len(), &*keyring.get(&dir.1.key_id).unwrap().name), (1, "a"));
    let b = generate(KeyAlgorithm::P256).unwrap();
    dir.put("b.pub", &b.public_pem);
    assert_eq!(dir.load().unwrap().len(), 2);
    let one = |name: &str| load_keyring(&dir.0.path().join(name), FormatSet::NATIVE).unwrap();
    assert_eq!(one("b.pub").len(), 1);
    dir.put("c.pem", &b.public_pem);
    assert_eq!(one("c.pem").get(&b.key_id).unwrap().name, "c");
    assert_eq!(dir.load().unwrap().get(&b.key_id).unwrap().name, "b", "the same key twice, alike");
    assert!(load_keyring(Dir::empty().path(), FormatSet::NATIVE).unwrap().is_empty());
}

#[test]
fn one_bad_file_fails_all_and_is_named() {
    let dir = Dir::new();
    for (name, bytes, told) in [
        ("bad.pub", &b"no key"[..], "does not begin with"),
        ("bad.pub", &[b'-'; 20_000], "longer than 16384 bytes"),
        ("bad.pub", CERTIFICATE.as_bytes(), "\"CERTIFICATE\""),
        ("bad.crt", b"no certificate", "does not begin with"),
        ("bad.crt", &CERTIFICATE.as_bytes()[..200], "bad.crt"),
        ("bad.der", &CERTIFICATE_DER[..200], "one in DER"),
        ("bad.pem", dir.1.private_pem.as_bytes(), "a private key, which does not belong"),
        ("bad.pub", dir.1.private_pem.as_bytes(), "a private key, which does not belong"),
    ] {
        dir.put(name, bytes);
        let error = dir.refused();
        assert!(error.contains(name) && error.contains(told), "{error}");
        fs::remove_file(dir.0.path().join(name)).unwrap();
    }
    fs::create_dir(dir.0.path().join("dir.pub")).unwrap();
    assert!(dir.refused().contains("not a regular file"));
    let none = load_keyring(&dir.0.path().join("none"), FormatSet::NATIVE);
    assert!(none.unwrap_err().to_string().contains("none"));
}

#[test]
fn a_pinned_certificate_signs_within_its_validity_unless_told_otherwise() {
    let dir = Dir::new();
    let certificate = Certificate::from_der(CERTIFICATE_DER).unwrap();
    let id = certificate.key().key_id();
    for (name, bytes) in
        [("c.crt", CERTIFICATE.as_bytes()), ("c.pem", CERTIFICATE.as_bytes()), ("c.der", CERTIFICATE_DER)]
    {
        dir.put(name, bytes);
        let keyring = dir.load().unwrap();
        let key = keyring.get(&id).unwrap();
        assert_eq!((&*key.name, key.certificate.as_ref()), ("c", Some(&certificate)));
        assert_eq!(key.limits.not_before, Some(certificate.not_before()));
        assert_eq!(key.limits.not_after, Some(certificate.not_after()));
        assert!(keyring.authorities().is_empty());
    }
    dir.put("c.toml", "not_after = 2027-01-01T00:00:00Z\n");
    let limits = dir.load().unwrap().get(&id).unwrap().limits.clone();
    assert_eq!((limits.not_before, limits.not_after), (Some(certificate.not_before()), Some(1_798_761_600)));
}

#[test]
fn settings_reach_their_key() {
    let dir = Dir::new();
    dir.put(
        "a.toml",
        "name = \"Release team\"\npaths = [\"boot/**\", \"*.img\"]\nformats = [\"native\", \"fsverity\"]\n\
         not_before = \"2026-01-01T00:00:00Z\"\nnot_after = 2027-01-01T01:00:00+01:00\n",
    );
    let keyring = dir.load().unwrap();
    let key = keyring.get(&dir.1.key_id).unwrap();
    assert_eq!(key.name, "Release team");
    assert_eq!(key.limits.formats.unwrap().to_string(), "native,fsverity");
    assert_eq!(key.limits.paths.as_ref().unwrap().texts(), ["boot/**", "*.img"]);
    assert_eq!((key.limits.not_before, key.limits.not_after), (Some(1_767_225_600), Some(1_798_761_600)));
    let one = load_keyring(&dir.0.path().join("a.pub"), FormatSet::NATIVE).unwrap();
    assert_eq!(one.get(&dir.1.key_id).unwrap().limits, key.limits, "also when the file is named itself");
    dir.put("a.toml", "");
    assert_eq!(dir.limits(), Limits::default());
}

#[test]
fn wrong_settings_are_refused_with_file_and_line() {
    let dir = Dir::new();
    for (text, told) in [
        ("\npath = [\"a\"]", "a.toml:2: unknown key \"path\"; known keys are name, paths"),
        ("paths = \"a\"", "a.toml:1: paths must be a list"),
        ("paths = []", "a.toml:1: "),
        ("name = \"x\"\npaths = [\"ok\",\n \"/abs\"]", "leave out the /"),
        ("paths = [1]", "a.toml:1: paths must be a string"),
        ("formats = [\"pgp\"]", "unknown signature format \"pgp\""),
        ("formats = []", "leave it out"),
        ("not_before = 2026-01-01", "with its zone"),
        ("not_before = 1", "must be a time"),
        ("not_after = \"soon\"", "a.toml:1: not_after must be a time with its zone"),
        (
            "not_before = 2027-01-01T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z",
            "a.toml:2: not_after is before",
        ),
        ("name = \"\"", "name must be"),
        ("name = \"a\\nb\"", "name must be"),
        ("= x", "not TOML"),
    ] {
        dir.put("a.toml", text);
        let error = dir.refused();
        assert!(error.contains("a.toml:") && error.contains(told), "{text}: {error}");
    }
    dir.put("a.toml", b"name = \"x\"\n# \xff\n");
    assert!(dir.refused().contains("a.toml:2: not UTF-8"));
    dir.put("a.toml", " ".repeat(20_000));
    assert!(dir.refused().contains("16384 bytes"));
}

#[test]
fn settings_without_their_key_are_refused() {
    let dir = Dir::new();
    dir.put("b.toml", "name = \"b\"");
    let error = dir.refused();
    assert!(error.contains("b.toml: there is no .pub"), "{error}");
    let dir = Dir::new();
    assert!(dir.put("a.TOML", "").refused().contains("a.TOML: there is no .pub"));
    let dir = Dir::new();
    std::os::unix::fs::symlink("gone", dir.0.path().join("a.toml")).unwrap();
    assert!(dir.refused().contains("a.toml"));
    let one = load_keyring(&dir.0.path().join("a.pub"), FormatSet::NATIVE);
    assert!(one.unwrap_err().to_string().contains("a.toml"), "limits that cannot be read are not none");
}

#[test]
fn one_key_under_two_limits_is_refused() {
    let dir = Dir::new();
    dir.put("b.pub", &dir.1.public_pem).put("b.toml", "paths = [\"boot/**\"]");
    let error = dir.refused();
    assert!(error.contains("b.pub") && error.contains("a.pub too"), "{error}");
    dir.put("a.toml", "paths = [\"boot/**\"]");
    assert_eq!(dir.load().unwrap().len(), 1);
}

#[test]
fn required_signers_are_read_and_their_mistakes_told_with_the_line() {
    let dir = Dir::new();
    dir.put(
        "trust.toml",
        "require = 2\n[[rule]]\npaths = [\"boot/**\"]\nrequire = 3\n[[rule]]\npaths = [\"x\"]\nrequire = 1\n",
    );
    let keyring = dir.load().unwrap();
    assert_eq!([&b"boot/k"[..], b"x", b"y"].map(|path| keyring.required(path)), [3, 2, 2]);
    for (text, told) in [
        ("require = 0", "trust.toml:1: require must be from 1 to 16"),
        ("require = 17", "from 1 to 16"),
        ("require = \"2\"", "must be a number"),
        ("\n\nrequired = 2", "trust.toml:3: unknown key \"required\"; known keys are require, rule"),
        ("rule = 1", "[[rule]]"),
        ("rule = [1]", "[[rule]]"),
        ("require = 1\n[[rule]]\nrequire = 2", "trust.toml:2: this [[rule]] has no paths"),
        ("[[rule]]\npaths = [\"a\"]", "has no require"),
        ("[[rule]]\npaths = [\"a\"]\nrequire = 2\nname = 1", "trust.toml:4: unknown key \"rule.name\""),
    ] {
        let error = dir.put("trust.toml", text).refused();
        assert!(error.contains(told), "{text}: {error}");
    }
    let error = dir.put("trust.toml", "[[rule]]\npaths = [\"a\"]\nrequire = 2\n".repeat(65)).refused();
    assert!(error.contains("64 rules"), "{error}");
}

#[test]
fn revocations_of_every_kind_name_their_entry() {
    let dir = Dir::new();
    let certificate = Certificate::from_der(CERTIFICATE_DER).unwrap();
    let other = generate(KeyAlgorithm::P256).unwrap();
    let colons = certificate.fingerprint().map(|byte| format!("{byte:02X}")).join(":");
    let (sha256, sha512) = (format!("sha256:{}", "ab".repeat(32)), format!("sha512:{}", "cd".repeat(64)));
    let text = format!(
        "# lost in June\r\n\n{}\n  {sha256} # a bad build\n{sha512}\n{FINGERPRINT}{colons}",
        other.key_id
    );
    dir.put("revoked/2026.txt", text).put("revoked/README.md", "why").put("revoked/.swp", "x");
    dir.put("revoked/old.pub", &dir.1.public_pem);
    let keyring = dir.load().unwrap();
    let revoked = keyring.revoked();
    assert_eq!(revoked.len(), 5);
    assert_eq!(revoked.key(&other.key_id), Some("revoked/2026.txt:3"));
    assert_eq!(revoked.digest(&sha256.parse().unwrap()), Some("revoked/2026.txt:4"));
    assert_eq!(revoked.digest(&sha512.parse().unwrap()), Some("revoked/2026.txt:5"));
    assert_eq!(revoked.certificate(&certificate.fingerprint()), Some("revoked/2026.txt:6"));
    assert_eq!(revoked.key(&dir.1.key_id), Some("revoked/old.pub"));
    assert_eq!(&load_revoked(dir.0.path()).unwrap(), revoked);
    dir.put("revoked/c.crt", CERTIFICATE);
    let revoked = load_revoked(dir.0.path()).unwrap();
    assert_eq!(revoked.key(&certificate.key().key_id()), Some("revoked/c.crt"), "a certificate and its key");
    assert!(load_revoked(&dir.0.path().join("a.pub")).unwrap().is_empty(), "trust is one file");
    assert!(load_revoked(Dir::empty().path()).unwrap().is_empty());
}

#[test]
fn a_revocation_that_is_not_understood_is_an_error() {
    let id = "ab".repeat(32);
    for (name, bytes, told) in [
        ("x.txt", &b"\n\nnonsense"[..], "x.txt:3: \"nonsense\" is no entry"),
        ("x.txt", &id.as_bytes()[1..], "x.txt:1"),
        ("x.txt", format!("{id} {id}").as_bytes(), "x.txt:1"),
        ("x.txt", format!("sha1:{id}").as_bytes(), "x.txt:1"),
        ("x.txt", format!("cert-sha256:{id}00").as_bytes(), "x.txt:1"),
        ("x.txt", b"\xff\xfe", "x.txt:1"),
        ("x.text", id.as_bytes(), "rename or remove"),
        ("2026", id.as_bytes(), "rename or remove"),
        ("x.pub", b"", "x.pub"),
        ("x.crt", b"", "x.crt"),
        ("sub/x.txt", b"", "rename or remove"),
    ] {
        let dir = Dir::new();
        let error = dir.put(&format!("revoked/{name}"), bytes).refused();
        assert!(error.contains(told) && error.len() < 600, "{name}: {error}");
    }
    let dir = Dir::new();
    dir.put("revoked", "a file");
    assert!(dir.load().is_err(), "revoked is no directory");
    for name in ["revoked.txt", "Revoked/a.txt", "revocations/a.txt"] {
        let dir = Dir::new();
        assert!(dir.put(name, &id).refused().contains("belong into the directory revoked/"), "{name}");
    }
    assert!(load_revoked(&Dir::new().0.path().join("gone")).is_err(), "nothing is trusted again by a loss");
}

#[test]
fn revocations_beyond_all_bounds_are_refused() {
    let dir = Dir::new();
    let error = dir.put("revoked/x.txt", vec![b'#'; 1024 * 1024 + 1]).refused();
    assert!(error.contains("1048576 bytes"), "{error}");
    let error = dir.put("revoked/x.txt", "\n".repeat(65_536)).refused();
    assert!(error.contains("65536 lines"), "{error}");
    dir.put("revoked/x.txt", "\n".repeat(65_535));
    dir.load().unwrap();
}

#[test]
fn a_change_in_revoked_shows_in_the_stamp() {
    let dir = Dir::new();
    let of = || TrustStamp::of(dir.0.path());
    let none = of();
    assert_eq!(none, of());
    dir.put("revoked/a.txt", "");
    let empty = of();
    assert_ne!(none, empty);
    dir.put("revoked/a.txt", "# x");
    let written = of();
    assert_ne!(empty, written);
    assert_eq!(written, of());
    fs::write(dir.0.path().join("new"), "# y").unwrap();
    fs::rename(dir.0.path().join("new"), dir.0.path().join("revoked/a.txt")).unwrap();
    let replaced = of();
    assert_ne!(written, replaced);
    fs::remove_file(dir.0.path().join("revoked/a.txt")).unwrap();
    assert_ne!(replaced, of());
    assert_eq!(TrustStamp::of(&dir.0.path().join("a.pub")), TrustStamp::default());
}
