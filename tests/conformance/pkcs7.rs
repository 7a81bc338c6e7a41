//! PKCS#7 signatures against `fsverity sign` and `openssl`: what we make they take, and the other way round.

use std::process::Command;

use nfs_verity::sign::{Certificate, HashName, Pkcs7, SignError, SigningKey, make_pkcs7};

use super::openssl::Bench;

const RSA: &[&str] = &["-newkey", "rsa:2048"];
const P256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];

/// A directory with `key.pem` and `cert.pem` made by openssl, and both as we read them.
struct Identity {
    bench: Bench,
    key: SigningKey,
    certificate: Certificate,
}

impl Identity {
    fn new(algorithm: &[&str], options: &[&str]) -> Self {
        let bench = Bench::new();
        let common = ["req", "-x509", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "100"];
        let subject = ["-subj", "/O=nfs-verity/CN=signer"];
        let options =
            if options.contains(&"-subj") { options.to_vec() } else { [options, &subject].concat() };
        bench.run(&[&common, algorithm, &options].concat());
        let key = SigningKey::from_pkcs8_pem(&bench.get("key.pem")).unwrap();
        let certificate = Certificate::from_pem(&bench.get("cert.pem")).unwrap();
        Self { bench, key, certificate }
    }

    /// What `fsverity sign` writes for the file `file`.
    fn fsverity_sign(&self, hash: HashName) -> Vec<u8> {
        let algorithm = format!("--hash-alg={hash}");
        let arguments = ["sign", "file", "file.p7s", "--key=key.pem", "--cert=cert.pem", &algorithm];
        self.fsverity(&arguments);
        self.bench.get("file.p7s")
    }

    fn fsverity(&self, arguments: &[&str]) -> String {
        let output = Command::new("fsverity")
            .args(arguments)
            .current_dir(self.bench.path())
            .output()
            .expect("fsverity is installed (Debian: apt-get install fsverity)");
        assert!(output.status.success(), "fsverity: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The bytes that are signed for the file `file`, which they are put beside as `message`.
    fn formatted(&self, hash: HashName) -> Vec<u8> {
        self.bench.put("file", format!("content for {hash}"));
        let algorithm = format!("--hash-alg={hash}");
        let printed = self.fsverity(&["digest", "--for-builtin-sig", "--compact", &algorithm, "file"]);
        let message = hex::decode(printed.trim()).unwrap();
        self.bench.put("message", &message);
        message
    }

    fn make(&self, message: &[u8], hash: HashName) -> Vec<u8> {
        make_pkcs7(message, hash, &self.key, &self.certificate).unwrap()
    }

    /// What `openssl COMMAND -sign` with these options makes of the file `message`.
    fn openssl_sign(&self, command: &str, options: &[&str]) -> Vec<u8> {
        let common =
            [command, "-sign", "-binary", "-outform", "DER", "-signer", "cert.pem", "-inkey", "key.pem"];
        self.bench.run(&[&common[..], options, &["-in", "message", "-out", "made"]].concat());
        self.bench.get("made")
    }

    /// True when `openssl COMMAND -verify` takes `der` for a signature of the file `content`.
    fn openssl_accepts(&self, command: &str, der: &[u8], content: &str) -> bool {
        self.bench.put("sig", der);
        let arguments = [
            command,
            "-verify",
            "-binary",
            "-inform",
            "DER",
            "-in",
            "sig",
            "-content",
            content,
            "-certfile",
            "cert.pem",
            "-noverify",
            "-out",
            "out",
        ];
        self.bench.openssl(&arguments).status.success()
    }

    /// Every signer of `der` is this identity and signed `message`.
    fn proves(&self, der: &[u8], message: &[u8]) -> Pkcs7 {
        let parsed = Pkcs7::parse(der).unwrap();
        assert!(parsed.unsupported().is_empty());
        for signer in parsed.signers() {
            assert!(signer.names(&self.certificate), "{}", signer.describe());
            assert!(signer.verify(&signer.hash().digest(message), self.certificate.key()));
            assert!(!signer.verify(&signer.hash().digest(b"another"), self.certificate.key()));
        }
        parsed
    }
}

/// The hashes that fs-verity has.
const VERITY_HASHES: [HashName; 2] = [HashName::Sha256, HashName::Sha512];

#[test]
fn rsa_messages_are_those_of_fsverity_and_openssl_byte_for_byte() {
    let utf8 = "/C=DE/O=Caf\u{e9} \u{1f980}/OU=one+UID=two/CN=a, \"b\"";
    for (algorithm, options) in [
        (RSA, &[][..]),
        (&["-newkey", "rsa:3072"], &["-set_serial", "1"]),
        (&["-newkey", "rsa:4096"], &["-set_serial", "0x80ff00000000000000000000000000000000ff"]),
        (RSA, &["-utf8", "-multivalue-rdn", "-subj", utf8]),
    ] {
        let identity = Identity::new(algorithm, options);
        for hash in VERITY_HASHES {
            let message = identity.formatted(hash);
            let ours = hex::encode(identity.make(&message, hash));
            assert_eq!(ours, hex::encode(identity.fsverity_sign(hash)), "{algorithm:?} {options:?} {hash}");
            let openssl = identity.openssl_sign("smime", &["-noattr", "-nocerts", "-md", hash.name()]);
            assert_eq!(ours, hex::encode(openssl), "{algorithm:?} {options:?} {hash}");
        }
    }
}

#[test]
fn messages_of_fsverity_are_read_and_verify() {
    for algorithm in [RSA, P256, P384] {
        let identity = Identity::new(algorithm, &[]);
        for hash in VERITY_HASHES {
            let message = identity.formatted(hash);
            let parsed = identity.proves(&identity.fsverity_sign(hash), &message);
            assert_eq!(parsed.signers().len(), 1);
            assert_eq!(parsed.signers()[0].hash(), hash);
            assert!(parsed.certificates().is_empty() && !parsed.has_signed_attributes());
        }
    }
}

#[test]
fn openssl_accepts_our_messages() {
    for algorithm in [RSA, P256, P384] {
        let identity = Identity::new(algorithm, &[]);
        identity.bench.put("other", "another message");
        for hash in HashName::ALL {
            identity.bench.put("message", "a message");
            let der = identity.make(b"a message", hash);
            for command in ["smime", "cms"] {
                assert!(identity.openssl_accepts(command, &der, "message"), "{command} {algorithm:?} {hash}");
                assert!(!identity.openssl_accepts(command, &der, "other"), "{command} {algorithm:?} {hash}");
            }
            // Ours as OpenSSL writes it again: nothing is in another form than its own.
            identity.bench.put("sig", &der);
            let again = identity.bench.run(&["pkcs7", "-inform", "DER", "-in", "sig", "-outform", "DER"]);
            assert_eq!(again, der, "{algorithm:?} {hash}");
        }
    }
}

#[test]
fn messages_of_openssl_with_attributes_certificates_and_key_ids_verify() {
    for algorithm in [RSA, P256, P384] {
        let identity = Identity::new(algorithm, &[]);
        identity.bench.put("message", "a message");
        for hash in HashName::ALL {
            for (command, options) in [
                ("cms", &[][..]),
                ("cms", &["-nosmimecap"]),
                ("cms", &["-noattr"]),
                ("cms", &["-nocerts"]),
                ("cms", &["-keyid"]),
                ("cms", &["-keyid", "-nocerts", "-noattr"]),
                ("smime", &[]),
                ("smime", &["-noattr"]),
            ] {
                let options = [options, &["-md", hash.name()]].concat();
                let der = identity.openssl_sign(command, &options);
                let parsed = identity.proves(&der, b"a message");
                assert_eq!(parsed.signers()[0].hash(), hash);
                assert_eq!(parsed.has_signed_attributes(), !options.contains(&"-noattr"), "{options:?}");
                let expected = if options.contains(&"-nocerts") {
                    &[][..]
                } else {
                    std::slice::from_ref(&identity.certificate)
                };
                assert_eq!(parsed.certificates(), expected, "{options:?}");
            }
        }
    }
}

#[test]
fn two_signers_of_one_message_are_both_found() {
    let (first, second) = (Identity::new(RSA, &[]), Identity::new(P256, &["-subj", "/CN=second"]));
    first.bench.put("message", "a message");
    first.bench.put("key2.pem", second.bench.get("key.pem"));
    first.bench.put("cert2.pem", second.bench.get("cert.pem"));
    let der = first.openssl_sign("cms", &["-md", "sha512", "-signer", "cert2.pem", "-inkey", "key2.pem"]);
    let parsed = Pkcs7::parse(&der).unwrap();
    assert_eq!((parsed.signers().len(), parsed.certificates().len()), (2, 2));
    for identity in [&first, &second] {
        let signer = parsed.signers().iter().find(|signer| signer.names(&identity.certificate)).unwrap();
        assert!(signer.verify(&HashName::Sha512.digest(b"a message"), identity.certificate.key()));
    }
}

#[test]
fn messages_of_openssl_that_are_not_supported_are_refused_with_their_cause() {
    let identity = Identity::new(RSA, &[]);
    identity.bench.put("message", "a message");
    for (options, cause) in [
        (&["-keyopt", "rsa_padding_mode:pss"][..], "RSA-PSS"),
        (&["-md", "sha1"], "SHA-1"),
        (&["-md", "sha224"], "SHA-224"),
        (&["-nodetach"], "it carries content"),
        (&["-nodetach", "-stream"], "indefinite"),
    ] {
        match Pkcs7::parse(&identity.openssl_sign("cms", options)) {
            Err(SignError::Pkcs7 { reason }) => {
                assert!(reason.to_lowercase().contains(&cause.to_lowercase()), "{options:?}: {reason}");
            }
            other => panic!("{options:?}: {other:?}"),
        }
    }
}

#[test]
fn the_signatures_among_the_vectors_verify() {
    macro_rules! vector {
        ($name:literal) => {
            &include_bytes!(concat!("../vectors/", $name))[..]
        };
    }
    let rsa = Certificate::from_der(vector!("keys/rsa2048.crt.der")).unwrap();
    let p256 = Certificate::from_der(vector!("keys/ecp256.crt.der")).unwrap();
    let sha256 = vector!("fsverity/samples/lin-4097.sha256.formatted");
    let sha512 = vector!("fsverity/samples/lin-4097.sha512.formatted");
    for (certificate, message, other, signature) in [
        (&rsa, sha256, sha512, vector!("pkcs7/lin-4097.rsa2048.sha256.p7s")),
        (&rsa, sha512, sha256, vector!("pkcs7/lin-4097.rsa2048.sha512.p7s")),
        (&p256, sha256, sha512, vector!("pkcs7/lin-4097.ecp256.sha256.p7s")),
        (&p256, sha512, sha256, vector!("pkcs7/lin-4097.ecp256.sha512.p7s")),
    ] {
        let parsed = Pkcs7::parse(signature).unwrap();
        let [signer] = parsed.signers() else { panic!("one signer") };
        assert!(signer.names(certificate));
        assert!(signer.verify(&signer.hash().digest(message), certificate.key()));
        assert!(!signer.verify(&signer.hash().digest(other), certificate.key()));
        let wrong = if certificate == &rsa { &p256 } else { &rsa };
        assert!(!signer.names(wrong));
        assert!(!signer.verify(&signer.hash().digest(message), wrong.key()));
    }
}
