//! Certificates and chains that the `openssl` command makes, and key ids as it and `evmctl` print them.

use std::process::{Command, Output};

use nfs_verity::sign::{Certificate, ChainError, ChainPath, INTERMEDIATES_MAX, SignError, verify_chain};

const DAY: i64 = 86_400;
const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const RSA: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

/// Extensions of an authority, of the certificate of somebody who signs code, and of neither.
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
const LEAF: &str =
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning";

/// A directory in which `openssl` makes keys `NAME.key` and certificates `NAME.crt`.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output();
        output.unwrap_or_else(|error| panic!("{program} is missing: {error}"))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn key(&self, name: &str, algorithm: &[&str]) {
        let args = ["genpkey", "-out", &format!("{name}.key"), "-algorithm"];
        self.run("openssl", &[&args[..], algorithm].concat());
    }

    /// The certificate `name` of an own P-256 key, by `issuer` or by itself, for 20 days.
    fn issue(&self, name: &str, issuer: Option<&str>, extensions: &str) -> Certificate {
        self.key(name, P256);
        self.certify(name, name, issuer, extensions, 20)
    }

    /// The certificate `file`.crt of the key `name`.key.
    fn certify(
        &self,
        file: &str,
        name: &str,
        issuer: Option<&str>,
        extensions: &str,
        days: u32,
    ) -> Certificate {
        self.certify_as(file, name, &format!("/O=Lab/CN={name}"), issuer, extensions, days)
    }

    fn certify_as(
        &self,
        file: &str,
        name: &str,
        subject: &str,
        issuer: Option<&str>,
        extensions: &str,
        days: u32,
    ) -> Certificate {
        let (key, crt, days) = (format!("{name}.key"), format!("{file}.crt"), days.to_string());
        let args = ["req", "-new", "-utf8", "-key", &key, "-subj", subject, "-out", "csr"];
        self.run("openssl", &args);
        self.put("ext", format!("subjectKeyIdentifier=hash\n{extensions}\n"));
        let by = match issuer {
            Some(issuer) => {
                vec!["-CA".into(), format!("{issuer}.crt"), "-CAkey".into(), format!("{issuer}.key")]
            }
            None => vec!["-signkey".into(), key.clone()],
        };
        let by: Vec<&str> = by.iter().map(String::as_str).chain(["-CAcreateserial"]).collect();
        let by = if issuer.is_some() { &by[..] } else { &by[..2] };
        let args = ["x509", "-req", "-in", "csr", "-days", &days, "-extfile", "ext", "-out", &crt];
        self.run("openssl", &[&args[..], by].concat());
        Certificate::from_pem(&self.get(&crt)).unwrap()
    }
}

fn now(certificate: &Certificate) -> i64 {
    certificate.not_before() + DAY
}

/// What [`verify_chain`] says one day after the leaf was made.
fn chain(
    leaf: &Certificate,
    intermediates: &[&Certificate],
    authorities: &[&Certificate],
) -> Result<ChainPath, ChainError> {
    let intermediates: Vec<Certificate> = intermediates.iter().map(|one| (*one).clone()).collect();
    verify_chain(leaf, &intermediates, authorities, now(leaf))
}

#[test]
fn good_chains_lead_to_the_authority_and_name_every_certificate() {
    for algorithm in [P256, P384, RSA, &["ED25519"]] {
        let bench = Bench::new();
        bench.key("root", algorithm);
        let root = bench.certify("root", "root", None, CA, 20);
        let stranger = bench.issue("stranger", None, CA);
        bench.key("sub", algorithm);
        let sub = bench.certify("sub", "sub", Some("root"), CA, 20);
        let leaf = bench.issue("leaf", Some("sub"), LEAF);
        bench.run("openssl", &["verify", "-CAfile", "root.crt", "-untrusted", "sub.crt", "leaf.crt"]);
        let path = chain(&leaf, &[&stranger, &sub], &[&stranger, &root]).unwrap();
        assert_eq!((path.authority, path.certificates), (1, vec![leaf.clone(), sub.clone(), root.clone()]));
        // An intermediate in the trust directory is an authority like any other.
        let path = chain(&leaf, &[], &[&root, &sub]).unwrap();
        assert_eq!((path.authority, path.certificates), (1, vec![leaf.clone(), sub.clone()]));
        let path = chain(&leaf, &[&sub, &root], &[&root]).unwrap();
        assert_eq!(path.certificates.last(), Some(&root));
    }
}

#[test]
fn every_certificate_on_the_way_must_be_valid_now() {
    let bench = Bench::new();
    for name in ["root", "sub", "leaf"] {
        bench.key(name, P256);
    }
    for (days, first) in [([10, 20, 20], "root"), ([20, 10, 20], "sub"), ([20, 20, 10], "leaf")] {
        let root = bench.certify("root", "root", None, CA, days[0]);
        let sub = bench.certify("sub", "sub", Some("root"), CA, days[1]);
        let leaf = bench.certify("leaf", "leaf", Some("sub"), LEAF, days[2]);
        let at = |now| verify_chain(&leaf, std::slice::from_ref(&sub), &[&root], now);
        let last = [&root, &sub, &leaf].iter().map(|one| one.not_after()).min().unwrap();
        at(last).unwrap();
        match at(last + 1).unwrap_err() {
            ChainError::Expired { subject, when } => {
                assert_eq!(subject, first);
                assert!(when.ends_with('Z'), "{when}");
            }
            other => panic!("{other:?}"),
        }
        let start = [&root, &sub, &leaf].iter().map(|one| one.not_before()).max().unwrap();
        at(start).unwrap();
        let before = [&root, &sub, &leaf].iter().map(|one| one.not_before()).min().unwrap() - 1;
        assert!(matches!(at(before), Err(ChainError::NotYetValid { .. })));
        assert!(matches!(at(-1), Err(ChainError::NotYetValid { .. })));
        assert!(matches!(at(i64::MAX), Err(ChainError::Expired { .. })));
    }
}

#[test]
fn an_authority_that_was_renewed_counts_by_the_certificate_that_is_valid() {
    let bench = Bench::new();
    bench.key("root", P256);
    let old = bench.certify("old", "root", None, CA, 1);
    let new = bench.certify("root", "root", None, CA, 20);
    let leaf = bench.issue("leaf", Some("root"), LEAF);
    let now = old.not_after() + 1;
    for (authorities, at) in [([&old, &new], 1), ([&new, &old], 0)] {
        assert_eq!(verify_chain(&leaf, &[], &authorities, now).unwrap().authority, at);
    }
    assert!(matches!(verify_chain(&leaf, &[], &[&old], now), Err(ChainError::Expired { .. })));
    // One made after the leaf, at the leaf's first second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let later = bench.certify("root", "root", None, CA, 20);
    let result = verify_chain(&leaf, &[], &[&later], leaf.not_before());
    assert!(matches!(result, Err(ChainError::NotYetValid { .. })), "{result:?}");
    verify_chain(&leaf, &[], &[&later], later.not_before()).unwrap();
}

#[test]
fn unknown_issuers_and_false_signatures_are_refused() {
    let bench = Bench::new();
    let root = bench.issue("root", None, CA);
    let sub = bench.issue("sub", Some("root"), CA);
    let leaf = bench.issue("leaf", Some("sub"), LEAF);
    let other = bench.issue("other", None, CA);
    let unknown = |result| assert!(matches!(result, Err(ChainError::UnknownIssuer { .. })), "{result:?}");
    unknown(chain(&leaf, &[&sub], &[]));
    unknown(chain(&leaf, &[&sub], &[&other]));
    unknown(chain(&leaf, &[], &[&root]));
    unknown(chain(&leaf, &[&leaf, &other], &[&root]));
    unknown(chain(&leaf, &[&sub], &[&leaf]));

    // Another's key under the names of these.
    let bench = Bench::new();
    let false_root = bench.issue("root", None, CA);
    let false_sub = bench.issue("sub", Some("root"), CA);
    let bad = |result| assert!(matches!(result, Err(ChainError::BadSignature { .. })), "{result:?}");
    bad(chain(&leaf, &[&sub], &[&false_root]));
    bad(chain(&leaf, &[&false_sub], &[&root]));
    bad(chain(&leaf, &[], &[&false_sub]));
    chain(&leaf, &[&false_sub, &sub], &[&false_root, &root]).unwrap();
}

#[test]
fn only_authorities_issue() {
    let bench = Bench::new();
    let root = bench.issue("root", None, CA);
    for extensions in [
        LEAF,
        "keyUsage=digitalSignature",
        "basicConstraints=critical,CA:FALSE\nkeyUsage=keyCertSign",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature",
    ] {
        let sub = bench.issue("sub", Some("root"), extensions);
        let leaf = bench.issue("leaf", Some("sub"), LEAF);
        assert!(!sub.is_authority());
        for result in [chain(&leaf, &[&sub], &[&root]), chain(&leaf, &[], &[&sub])] {
            assert!(matches!(result, Err(ChainError::NotAuthority { .. })), "{extensions}: {result:?}");
        }
    }
    // Without a key usage, basic constraints decide.
    let sub = bench.issue("sub", Some("root"), "basicConstraints=CA:TRUE");
    let leaf = bench.issue("leaf", Some("sub"), LEAF);
    chain(&leaf, &[&sub], &[&root]).unwrap();
    assert!(matches!(chain(&sub, &[], &[&root]), Err(ChainError::IsAuthority { .. })));
}

#[test]
fn path_lengths_hold_for_intermediates_and_for_the_authority() {
    let bench = Bench::new();
    let limited = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign";
    let root = bench.issue("root", None, limited);
    let direct = bench.issue("direct", Some("root"), LEAF);
    chain(&direct, &[], &[&root]).unwrap();
    let sub = bench.issue("sub", Some("root"), CA);
    let leaf = bench.issue("leaf", Some("sub"), LEAF);
    let result = chain(&leaf, &[&sub], &[&root]);
    assert!(matches!(result, Err(ChainError::PathLength { .. })), "{result:?}");
    assert_eq!((root.path_length(), sub.path_length()), (Some(0), None));

    let root = bench.issue("root", None, CA);
    let first = bench.issue("first", Some("root"), limited);
    let second = bench.issue("second", Some("first"), CA);
    let leaf = bench.issue("leaf", Some("second"), LEAF);
    let result = chain(&leaf, &[&first, &second], &[&root]);
    assert!(matches!(result, Err(ChainError::PathLength { .. })), "{result:?}");
}

#[test]
fn certificates_for_other_purposes_sign_no_files() {
    let bench = Bench::new();
    let root = bench.issue("root", None, CA);
    for extensions in [
        "extendedKeyUsage=serverAuth,clientAuth",
        "extendedKeyUsage=anyExtendedKeyUsage",
        "keyUsage=keyEncipherment",
        "keyUsage=keyEncipherment\nextendedKeyUsage=codeSigning",
    ] {
        let leaf = bench.issue("leaf", Some("root"), extensions);
        let result = chain(&leaf, &[], &[&root]);
        assert!(matches!(result, Err(ChainError::WrongUse { .. })), "{extensions}: {result:?}");
    }
    for extensions in ["", "extendedKeyUsage=serverAuth,codeSigning", "keyUsage=digitalSignature"] {
        chain(&bench.issue("leaf", Some("root"), extensions), &[], &[&root]).unwrap();
    }
    // Above the leaf as well.
    let sub = bench.issue("sub", Some("root"), &format!("{CA}\nextendedKeyUsage=serverAuth"));
    let leaf = bench.issue("leaf", Some("sub"), LEAF);
    for result in [chain(&leaf, &[&sub], &[&root]), chain(&leaf, &[], &[&sub])] {
        assert!(matches!(result, Err(ChainError::WrongUse { .. })), "{result:?}");
    }
}

#[test]
fn many_certificates_and_circles_come_to_an_end() {
    let bench = Bench::new();
    let root = bench.issue("root", None, CA);
    // Two authorities that certify each other under every name.
    bench.key("a", P256);
    bench.key("b", P256);
    bench.certify("a", "a", None, CA, 20);
    let b_by_a = bench.certify("b", "b", Some("a"), CA, 20);
    let a_by_b = bench.certify("a", "a", Some("b"), CA, 20);
    let leaf = bench.issue("leaf", Some("a"), LEAF);
    let circle = [&a_by_b, &b_by_a].repeat(INTERMEDIATES_MAX / 2);
    assert!(matches!(chain(&leaf, &circle, &[&root]), Err(ChainError::UnknownIssuer { .. })));
    let more = [&circle[..], &[&root]].concat();
    assert_eq!(chain(&leaf, &more, &[&root]), Err(ChainError::TooMany { found: INTERMEDIATES_MAX + 1 }));
}

#[test]
fn no_change_of_a_byte_leaves_a_certificate_that_chains() {
    let bench = Bench::new();
    bench.key("root", RSA);
    let root = bench.certify("root", "root", None, CA, 20);
    let leaf = bench.issue("leaf", Some("root"), LEAF);
    chain(&leaf, &[], &[&root]).unwrap();
    for at in 0..leaf.der().len() {
        for value in [0, 0x30, 0x80, 0x84, 0xff, leaf.der()[at] ^ 1] {
            let mut changed = leaf.der().to_vec();
            changed[at] = value;
            if changed == leaf.der() {
                continue;
            }
            if let Ok(other) = Certificate::from_der(&changed) {
                assert!(verify_chain(&other, &[], &[&root], now(&leaf)).is_err(), "byte {at} is {value}");
            }
        }
    }
}

#[test]
fn ids_fingerprints_and_serial_numbers_are_those_that_openssl_prints() {
    let bench = Bench::new();
    for algorithm in [P256, P384, RSA] {
        bench.key("k", algorithm);
        let certificate = bench.certify("k", "k", None, LEAF, 20);
        let print = |what: &[&str]| {
            bench.run("openssl", &[&["x509", "-in", "k.crt", "-noout"], what].concat()).trim().to_owned()
        };
        let value = |line: &str| line.split('=').nth(1).unwrap().replace(':', "").to_lowercase();
        assert_eq!(hex::encode(certificate.fingerprint()), value(&print(&["-fingerprint", "-sha256"])));
        let serial = hex::encode(certificate.serial_der());
        assert_eq!(serial.trim_start_matches("00"), value(&print(&["-serial"])).trim_start_matches("00"));
        let ski = print(&["-ext", "subjectKeyIdentifier"]);
        let ski = ski.lines().last().unwrap().trim().replace(':', "").to_lowercase();
        assert_eq!(hex::encode(certificate.subject_key_id().unwrap()), ski);
        assert_eq!(hex::encode(certificate.ima_key_id()), ski[ski.len() - 8..]);
        let seconds = |line: &str| {
            let text = line.split('=').nth(1).unwrap();
            let date = Command::new("date").args(["-u", "-d", text, "+%s"]).output().unwrap();
            String::from_utf8(date.stdout).unwrap().trim().parse::<i64>().unwrap()
        };
        assert_eq!(certificate.not_before(), seconds(&print(&["-startdate"])));
        assert_eq!(certificate.not_after(), seconds(&print(&["-enddate"])));
    }
}

#[test]
fn ima_key_ids_are_those_that_evmctl_writes() {
    let bench = Bench::new();
    bench.put("file", "content");
    for algorithm in [P256, P384, RSA] {
        bench.key("k", algorithm);
        for (extensions, from_certificate) in
            [(LEAF.to_owned(), false), (format!("{LEAF}\nsubjectKeyIdentifier=0102030405060708"), true)]
        {
            let extensions = extensions.replace("basicConstraints=critical,CA:FALSE\n", "");
            let certificate = bench.certify("k", "k", None, &extensions, 20);
            bench.run("openssl", &["x509", "-in", "k.crt", "-outform", "DER", "-out", "k.der"]);
            let own = ["ima_sign", "--sigfile", "-a", "sha256", "--key", "k.key", "file"];
            let named = [&["--keyid-from-cert", "k.der"], &own[..]].concat();
            bench.run("evmctl", if from_certificate { &named } else { &own });
            // Type, version and hash come before the key id.
            let id = bench.get("file.sig")[3..7].to_vec();
            assert_eq!(certificate.ima_key_id()[..], id[..], "{algorithm:?} {from_certificate}");
            if !from_certificate {
                assert_eq!(certificate.key().ima_key_id()[..], id[..], "{algorithm:?}");
            }
        }
    }
}

#[test]
fn weak_and_foreign_keys_are_refused_by_their_cause() {
    let bench = Bench::new();
    let read = |algorithm: &[&str]| {
        bench.key("k", algorithm);
        let args =
            ["req", "-x509", "-new", "-key", "k.key", "-subj", "/CN=k", "-outform", "DER", "-out", "k.der"];
        bench.run("openssl", &args);
        Certificate::from_der(&bench.get("k.der"))
    };
    let weak = read(&["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    assert!(matches!(weak, Err(SignError::RsaBits { bits: 1024 })), "{weak:?}");
    for algorithm in [&["EC", "-pkeyopt", "ec_paramgen_curve:P-521"][..], &["ED448"]] {
        let foreign = read(algorithm);
        assert!(matches!(foreign, Err(SignError::Algorithm { .. })), "{foreign:?}");
    }
    let explicit = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"];
    assert!(read(&explicit).is_err(), "a curve in its own words");
}

#[test]
fn subjects_are_shown_on_one_line() {
    let bench = Bench::new();
    bench.key("k", P256);
    let subject = |subject: &str| bench.certify_as("k", "k", subject, None, LEAF, 20).subject();
    assert_eq!(subject("/O=Lab/CN=Release team"), "Release team");
    assert_eq!(subject("/CN=caf\u{e9} \"x\" it's"), "caf\u{e9} \"x\" it's");
    assert_eq!(subject("/CN=a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    assert_eq!(subject("/O=Lab/OU=Files"), "OU=Files,O=Lab");
    assert_eq!(subject("/CN=\u{202e}x"), "\\u{202e}x");
}
