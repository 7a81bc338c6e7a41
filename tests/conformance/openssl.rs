//! Keys and signatures against the `openssl` command: each side reads what the other made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nfs_verity::event::Cause;
use nfs_verity::sign::{
    Expected, GeneratedKey, KeyAlgorithm, Keyring, PublicKey, SigningKey, Statement, TrustedKey, generate,
    read_envelope, sign_statement, verify_envelope,
};
use nfs_verity::verity::{BlockSize, Descriptor, Digest, HashAlgorithm, Params, Salt};

const NOW: i64 = 1_767_225_600;

/// A directory in which `openssl` is run.
pub(super) struct Bench(tempfile::TempDir);

impl Bench {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    pub(super) fn openssl(&self, arguments: &[&str]) -> Output {
        Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed")
    }

    /// Runs `openssl`, which must succeed, and gives what it prints.
    pub(super) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.openssl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {}: {errors}", arguments.join(" "));
        output.stdout
    }

    /// What `openssl` computes as the id of the public key in `file`.
    fn key_id(&self, file: &str) -> String {
        let der = self.run(&["pkey", "-pubin", "-in", file, "-outform", "DER"]);
        self.put("spki.der", der);
        let line = String::from_utf8(self.run(&["dgst", "-sha256", "-r", "spki.der"])).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// True when `openssl` accepts the signature in `sig` over the file `message`.
    fn accepts(&self, public: &str, digest: Option<&str>) -> bool {
        let base =
            ["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", "message", "-sigfile", "sig"];
        let digest: Vec<&str> = digest.into_iter().flat_map(|name| ["-digest", name]).collect();
        self.openssl(&[&base[..], &digest].concat()).status.success()
    }

    /// The signature that `openssl` makes over the file `message`.
    fn signature(&self, private: &str, digest: Option<&str>) -> Vec<u8> {
        let base = ["pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", "message", "-out", "made"];
        let digest: Vec<&str> = digest.into_iter().flat_map(|name| ["-digest", name]).collect();
        self.run(&[&base[..], &digest].concat());
        self.get("made")
    }
}

/// What is hashed before a key of this algorithm signs; Ed25519 signs the message itself.
fn digest_of(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "ed25519" => None,
        "p384" => Some("sha384"),
        _ => Some("sha256"),
    }
}

/// The pre-authentication encoding, written here once more from the specification of DSSE.
fn pae(payload: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let mut message = format!("DSSEv1 {} {} {} ", kind.len(), kind, payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

fn descriptor() -> Descriptor {
    let params = Params {
        algorithm: HashAlgorithm::Sha256,
        block_size: BlockSize::new(4096).unwrap(),
        salt: Salt::new(b"").unwrap(),
    };
    Descriptor { params, size: 12345, root_hash: Digest::new(&[3; 32]).unwrap() }
}

fn statement() -> Statement {
    let descriptor = descriptor();
    Statement {
        namespace: String::new(),
        path: b"bin/caf\xc3\xa9 \xff\n".to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: descriptor.params.block_size,
        version: 3,
        expires: Some(NOW + 1),
        signed: None,
    }
}

/// The payload and the only signature of an envelope, read with a general JSON reader.
fn open(envelope: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let json: serde_json::Value = serde_json::from_slice(envelope).unwrap();
    let bytes = |value: &serde_json::Value| BASE64.decode(value.as_str().unwrap()).unwrap();
    (bytes(&json["payload"]), bytes(&json["signatures"][0]["sig"]))
}

/// Signs with our key, verifies with `openssl`; signs with `openssl`, verifies with ours. `key.pem`
/// and `key.pub` are the two halves in the bench's directory.
fn both_ways(bench: &Bench, algorithm: &str) {
    let private = SigningKey::from_pkcs8_pem(&bench.get("key.pem")).unwrap();
    let public = PublicKey::from_spki_pem(&bench.get("key.pub")).unwrap();
    assert_eq!(private.public_key(), &public);
    assert_eq!(public.algorithm_name(), algorithm);
    assert_eq!(public.key_id().to_string(), bench.key_id("key.pub"));

    let digest = digest_of(algorithm);
    let (payload, signature) = open(&sign_statement(&statement(), &[&private]).unwrap());
    assert_eq!(payload, statement().to_json());
    bench.put("message", pae(&payload));
    bench.put("sig", &signature);
    assert!(bench.accepts("key.pub", digest), "openssl refuses our {algorithm} signature");
    bench.put("message", &payload);
    assert!(!bench.accepts("key.pub", digest), "openssl accepts anything as {algorithm}");

    bench.put("message", pae(&payload));
    let made = bench.signature("key.pem", digest);
    let envelope = |payload: &[u8], signature: &[u8]| {
        format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"{}","sig":"{}"}}]}}"#,
            BASE64.encode(payload),
            bench.key_id("key.pub"),
            BASE64.encode(signature),
        )
    };
    let keyring = Keyring::new(vec![TrustedKey::new(public, "openssl")]);
    let (descriptor, statement) = (descriptor(), statement());
    let expected = Expected {
        namespace: "",
        path: &statement.path,
        descriptor: &descriptor,
        file_hashes: &[],
        now: NOW,
    };
    let good = envelope(&payload, &made);
    let proof = verify_envelope(good.as_bytes(), &keyring, &expected).unwrap();
    assert_eq!(proof.statement, statement);
    assert_eq!(proof.signers[0].name, "openssl");
    assert_eq!(read_envelope(good.as_bytes()).unwrap().key_ids, [private.key_id()]);

    let other = Statement { version: 4, ..statement.clone() };
    let forged = envelope(&other.to_json(), &made);
    let rejection = verify_envelope(forged.as_bytes(), &keyring, &expected).unwrap_err();
    assert_eq!(rejection.cause, Cause::BadSignature, "{algorithm}");
}

fn ours(algorithm: KeyAlgorithm) {
    let bench = Bench::new();
    let GeneratedKey { private_pem, public_pem, key_id } = generate(algorithm).unwrap();
    bench.put("key.pem", &private_pem);
    bench.put("key.pub", &public_pem);
    assert_eq!(bench.run(&["pkey", "-in", "key.pem", "-pubout"]), public_pem.as_bytes());
    assert_eq!(bench.run(&["pkey", "-pubin", "-in", "key.pub"]), public_pem.as_bytes());
    if !matches!(algorithm, KeyAlgorithm::Ed25519) {
        // Ed25519 has no such check in openssl.
        bench.run(&["pkey", "-in", "key.pem", "-check", "-noout"]);
    }
    assert_eq!(bench.key_id("key.pub"), key_id.to_string());
    both_ways(&bench, algorithm.name());
}

fn theirs(algorithm: &str, arguments: &[&str]) {
    let bench = Bench::new();
    bench.run(&[&["genpkey", "-out", "key.pem"], arguments].concat());
    bench.run(&["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
    both_ways(&bench, algorithm);
}

#[test]
fn openssl_reads_our_ed25519_keys_and_signatures() {
    ours(KeyAlgorithm::Ed25519);
}

#[test]
fn openssl_reads_our_p256_keys_and_signatures() {
    ours(KeyAlgorithm::P256);
}

#[test]
fn openssl_reads_our_p384_keys_and_signatures() {
    ours(KeyAlgorithm::P384);
}

#[test]
fn openssl_reads_our_rsa_keys_and_signatures() {
    ours(KeyAlgorithm::Rsa3072);
}

#[test]
fn ed25519_keys_and_signatures_of_openssl_are_read() {
    theirs("ed25519", &["-algorithm", "ED25519"]);
}

#[test]
fn p256_keys_and_signatures_of_openssl_are_read() {
    theirs("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
}

#[test]
fn p384_keys_and_signatures_of_openssl_are_read() {
    theirs("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
}

#[test]
fn rsa_keys_and_signatures_of_openssl_are_read() {
    for bits in ["2048", "3072", "4096"] {
        theirs(&format!("rsa{bits}"), &["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")]);
    }
}

#[test]
fn keys_of_openssl_that_are_not_supported_are_refused() {
    let bench = Bench::new();
    for arguments in [
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"][..],
        &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
        &["-algorithm", "ED448"],
        &["-algorithm", "X25519"],
    ] {
        bench.run(&[&["genpkey", "-out", "key.pem"], arguments].concat());
        bench.run(&["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
        assert!(SigningKey::from_pkcs8_pem(&bench.get("key.pem")).is_err(), "{arguments:?}");
        assert!(PublicKey::from_spki_pem(&bench.get("key.pub")).is_err(), "{arguments:?}");
    }
}

#[test]
fn other_forms_of_openssl_keys_are_refused_with_what_to_do() {
    let bench = Bench::new();
    bench.run(&["genpkey", "-out", "key.pem", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let traditional = bench.run(&["pkey", "-in", "key.pem", "-traditional"]);
    let error = SigningKey::from_pkcs8_pem(&traditional).unwrap_err().to_string();
    assert!(error.contains("openssl pkcs8 -topk8 -nocrypt"), "{error}");
    bench.run(&["pkey", "-in", "key.pem", "-aes128", "-passout", "pass:x", "-out", "locked.pem"]);
    let error = SigningKey::from_pkcs8_pem(&bench.get("locked.pem")).unwrap_err().to_string();
    assert!(error.contains("openssl pkcs8 -topk8 -nocrypt"), "{error}");
    // And what it says to do helps.
    bench.put("traditional.pem", traditional);
    let converted = bench.run(&["pkcs8", "-topk8", "-nocrypt", "-in", "traditional.pem"]);
    SigningKey::from_pkcs8_pem(&converted).unwrap();
}

#[test]
fn the_public_keys_among_the_vectors_have_the_ids_that_openssl_computes() {
    let bench = Bench::new();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keys");
    let mut seen = 0;
    for entry in std::fs::read_dir(vectors).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().is_some_and(|name| name.ends_with(".pub.pem")) {
            let text = std::fs::read(&path).unwrap();
            bench.put("key.pub", &text);
            let key = PublicKey::from_spki_pem(&text).unwrap();
            assert_eq!(key.key_id().to_string(), bench.key_id("key.pub"), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} keys");
}
