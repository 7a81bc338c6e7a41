//! IMA signatures against `evmctl` of ima-evm-utils: each side verifies what the other made, and they agree
//! on key ids.

use std::path::Path;
use std::process::{Command, Output};

use nfs_verity::sign::{Certificate, Format, HashName, ImaKind, ImaSignature, SigningKey, sign_ima};
use nfs_verity::verity::Descriptor;
use nfs_verity::verity::{BlockSize, HashAlgorithm, Params, Salt, reference};

use super::openssl::Bench;

const ALGORITHMS: [&[&str]; 3] = [
    &["-newkey", "rsa:2048"],
    &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
];
const CONTENT: &[u8] = b"the content of a file";

/// A directory with `key.pem`, `cert.der` and a file `file` of [`CONTENT`].
struct Identity {
    bench: Bench,
    key: SigningKey,
    certificate: Certificate,
}

impl Identity {
    fn new(algorithm: &[&str], options: &[&str]) -> Self {
        let bench = Bench::new();
        let common = ["req", "-x509", "-nodes", "-keyout", "key.pem", "-outform", "DER", "-out", "cert.der"];
        let subject = ["-days", "100", "-subj", "/CN=ima"];
        bench.run(&[&common, algorithm, &subject[..], options].concat());
        bench.put("file", CONTENT);
        let key = SigningKey::from_pkcs8_pem(&bench.get("key.pem")).unwrap();
        let certificate = Certificate::from_der(&bench.get("cert.der")).unwrap();
        Self { bench, key, certificate }
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .current_dir(self.bench.path())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error} (Debian: apt-get install ima-evm-utils attr)"))
    }

    fn evmctl(&self, arguments: &[&str]) -> String {
        let output = self.output("evmctl", arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "evmctl {}: {told}", arguments.join(" "));
        told
    }

    /// True when `evmctl ima_verify` accepts the signature of `file`, found where `option` says.
    fn evmctl_accepts(&self, option: &str) -> bool {
        let output = self.output("evmctl", &["ima_verify", option, "-k", "cert.der", "file"]);
        let told = String::from_utf8_lossy(&output.stderr);
        let accepted = told.contains("verification is OK");
        assert_eq!(output.status.success(), accepted, "{told}");
        accepted
    }

    fn sign(&self, hash: HashName, content: &[u8]) -> Vec<u8> {
        let key_id = self.certificate.ima_key_id();
        sign_ima(ImaKind::File, hash, &hash.digest(content), &self.key, key_id).unwrap()
    }
}

#[test]
fn evmctl_accepts_our_signatures_in_files_and_attributes() {
    for algorithm in ALGORITHMS {
        let identity = Identity::new(algorithm, &[]);
        for hash in HashName::ALL {
            for (content, good) in [(CONTENT, true), (b"another content", false)] {
                let value = identity.sign(hash, content);
                identity.bench.put("file.sig", &value);
                assert_eq!(identity.evmctl_accepts("--sigfile"), good, "{algorithm:?} {hash}");

                let value = format!("0x{}", hex::encode(value));
                let set = identity.output("setfattr", &["-n", "user.ima", "-v", &value, "file"]);
                let remedy =
                    "the directory for temporary files must keep attributes; set TMPDIR to one that does";
                assert!(set.status.success(), "{}; {remedy}", String::from_utf8_lossy(&set.stderr));
                assert_eq!(identity.evmctl_accepts("--xattr-user"), good, "{algorithm:?} {hash}");
            }
        }
    }
}

#[test]
fn signatures_of_evmctl_verify_and_key_ids_agree() {
    for algorithm in ALGORITHMS {
        let identity = Identity::new(algorithm, &[]);
        let public = identity.key.public_key();
        for hash in HashName::ALL {
            let told = identity.evmctl(&[
                "-v",
                "ima_sign",
                "--sigfile",
                "-a",
                hash.name(),
                "--key",
                "key.pem",
                "file",
            ]);
            let read = ImaSignature::parse(&identity.bench.get("file.sig")).unwrap();
            assert_eq!((read.kind, read.hash, read.format()), (ImaKind::File, hash, Format::ImaV2));
            assert!(read.verify(&hash.digest(CONTENT), public), "{algorithm:?} {hash}");
            assert!(!read.verify(&hash.digest(b"another"), public), "{algorithm:?} {hash}");
            assert_eq!(read.key_id, public.ima_key_id(), "{algorithm:?}");
            assert!(told.contains(&format!("keyid: {}", hex::encode(public.ima_key_id()))), "{told}");
            if matches!(algorithm, ["-newkey", "rsa:2048"]) {
                // These are the same each time.
                assert_eq!(identity.sign(hash, CONTENT), read.encode().unwrap(), "{hash}");
            }
        }
        let told = identity.output("evmctl", &["ima_verify", "--sigfile", "-k", "cert.der", "file"]).stderr;
        // As a number, without zeros in front.
        let id = hex::encode(identity.certificate.ima_key_id());
        let key = format!("key 1: {} cert.der", id.trim_start_matches('0'));
        assert!(String::from_utf8_lossy(&told).contains(&key), "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn the_key_id_is_the_end_of_the_certificates_subject_key_identifier() {
    let options = ["-addext", "subjectKeyIdentifier=00112233445566778899AABBCCDDEEFF"];
    let identity = Identity::new(ALGORITHMS[1], &options);
    assert_eq!(identity.certificate.ima_key_id(), [0xcc, 0xdd, 0xee, 0xff]);
    let from_certificate = ["--keyid-from-cert", "cert.der"];
    identity
        .evmctl(&[&["ima_sign", "--sigfile", "--key", "key.pem"], &from_certificate[..], &["file"]].concat());
    let read = ImaSignature::parse(&identity.bench.get("file.sig")).unwrap();
    assert_eq!(read.key_id, identity.certificate.ima_key_id());
    // The kernel finds such a key and `evmctl ima_verify` does not: it looks for the key's own id, and
    // treats ours as it treats its own.
    assert!(!identity.evmctl_accepts("--sigfile"));
    identity.bench.put("file.sig", identity.sign(HashName::Sha256, CONTENT));
    assert!(!identity.evmctl_accepts("--sigfile"));
}

/// The fs-verity file digest of the 4097 bytes of the rule `lin`.
fn verity_digest(algorithm: HashAlgorithm) -> Vec<u8> {
    let data: Vec<u8> = (0..4097usize).map(|i| (i * 31 + 7).to_le_bytes()[0]).collect();
    let params =
        Params { algorithm, block_size: BlockSize::new(4096).unwrap(), salt: Salt::new(b"").unwrap() };
    let (root_hash, _) = reference::root_and_tree(&data, &params);
    let digest = Descriptor { params, size: 4097, root_hash }.file_digest().digest;
    digest.as_bytes().to_vec()
}

#[test]
fn the_signatures_among_the_vectors_verify() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(vectors.join("ima")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let [file, key, hash, kind] = name.split('.').collect::<Vec<_>>()[..] else { continue };
        let certificate = std::fs::read(vectors.join("keys").join(format!("{key}.crt.der"))).unwrap();
        let certificate = Certificate::from_der(&certificate).unwrap();
        let value = std::fs::read(&path).unwrap();
        let read = ImaSignature::parse(&value).unwrap();
        assert_eq!(read.encode().unwrap(), value, "{name}");
        assert_eq!(read.hash.name(), hash, "{name}");
        assert_eq!(read.key_id, certificate.ima_key_id(), "{name}");
        assert_eq!(read.key_id, certificate.key().ima_key_id(), "{name}");
        let (expected, digest) = match (file, kind) {
            ("hello", "imasig_v2") => (ImaKind::File, read.hash.digest(b"hello world\n")),
            ("hello", "imasig_v3_regular") => (ImaKind::FileV3, read.hash.digest(b"hello world\n")),
            ("lin-4097", "imasig_v3") => (ImaKind::Verity, verity_digest(hash.parse().unwrap())),
            _ => panic!("what is {name}?"),
        };
        assert_eq!(read.kind, expected, "{name}");
        assert!(read.verify(&digest, certificate.key()), "{name}");
        assert!(!read.verify(&read.hash.digest(b"another"), certificate.key()), "{name}");
        seen.push(expected);
    }
    for (kind, count) in [(ImaKind::File, 4), (ImaKind::FileV3, 2), (ImaKind::Verity, 4)] {
        assert_eq!(seen.iter().filter(|seen| **seen == kind).count(), count, "{kind:?}");
    }
}
