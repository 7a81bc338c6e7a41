//! Who signed a file, in every mixture of formats.

use super::*;
use crate::sign::fixture::{self, EXPIRES};
use crate::sign::{
    FormatSet, ImaKind, Limits, PathGlobs, Requirements, Revoked, RevokedItem, make_pkcs7, sign_ima,
};

const ALL: &str = "native,fsverity,ima-v3,ima-v2";

/// Every signature that `name` can make of the fixture's file, and the hash of all of it.
struct Signed {
    statement: Vec<u8>,
    pkcs7: Vec<Bytes>,
    ima: Vec<Bytes>,
    hashes: Vec<(HashName, Vec<u8>)>,
}

impl Signed {
    fn by(name: &str) -> Self {
        let (descriptor, key, certificate) =
            (fixture::descriptor(), fixture::key(name), fixture::certificate(name));
        let hash = HashName::Sha256;
        let whole = hash.digest(b"all of the file");
        let file_digest = descriptor.file_digest();
        let id = certificate.ima_key_id();
        let ima = [(ImaKind::Verity, file_digest.digest.as_bytes()), (ImaKind::File, &whole)];
        Self {
            statement: fixture::envelope(&[name]),
            pkcs7: vec![make_pkcs7(&descriptor.formatted_digest(), hash, key, &certificate).unwrap().into()],
            ima: ima.map(|(kind, digest)| sign_ima(kind, hash, digest, key, id).unwrap().into()).into(),
            hashes: vec![(hash, whole)],
        }
    }

    fn all(&self) -> Signatures<'_> {
        Signatures { statement: Some(&self.statement), ..self.others() }
    }

    fn others(&self) -> Signatures<'_> {
        Signatures { pkcs7: &self.pkcs7, ima: &self.ima, ..Signatures::default() }
    }
}

/// A ring that trusts these certificates, in all formats.
fn ring(names: &[&str]) -> Keyring {
    limited(names, &Limits::default()).with_formats(ALL.parse().unwrap())
}

fn limited(names: &[&str], limits: &Limits) -> Keyring {
    let trusted = |name: &&str| TrustedKey {
        certificate: Some(fixture::certificate(name)),
        limits: limits.clone(),
        ..TrustedKey::new(fixture::key(name).public_key().clone(), *name)
    };
    Keyring::new(names.iter().map(trusted).collect())
}

fn check(
    signatures: &Signatures<'_>,
    ring: &Keyring,
    hashes: &[(HashName, Vec<u8>)],
) -> Result<Acceptance, Rejection> {
    let descriptor = fixture::descriptor();
    verify(signatures, ring, &Expected { file_hashes: hashes, ..fixture::expected(&descriptor) })
}

fn formats(acceptance: &Acceptance) -> String {
    acceptance.signers.iter().map(|signer| signer.format).collect::<FormatSet>().to_string()
}

#[test]
fn every_format_counts_where_it_is_accepted() {
    for name in ["rsa3072", "p256", "p384"] {
        let signed = Signed::by(name);
        let accepted = check(&signed.all(), &ring(&[name]), &signed.hashes).unwrap();
        assert_eq!(formats(&accepted), ALL, "{name}");
        assert_eq!(accepted.statement, Some(fixture::statement()));
        assert_eq!(accepted.until, Some(EXPIRES));
        let accepted = check(&signed.others(), &ring(&[name]), &signed.hashes).unwrap();
        assert_eq!((formats(&accepted), accepted.statement), ("fsverity,ima-v3,ima-v2".to_owned(), None));
        assert_eq!(accepted.until, None);
    }
}

#[test]
fn the_signatures_that_count_are_pointed_out() {
    let (mine, theirs) = (Signed::by("p256"), Signed::by("p384"));
    let pkcs7 = [&theirs.pkcs7[..], &mine.pkcs7, &mine.pkcs7].concat();
    let ima = [&theirs.ima[..], &mine.ima].concat();
    let signatures = Signatures { pkcs7: &pkcs7, ima: &ima, ..mine.all() };
    let found = |ring: &Keyring, hashes: &[(HashName, Vec<u8>)]| {
        let accepted = check(&signatures, ring, hashes).unwrap();
        (accepted.pkcs7, accepted.ima)
    };
    let ring = ring(&["p256"]);
    // Over the whole file before over the digest, where all of it was hashed.
    assert_eq!(found(&ring, &mine.hashes), (Some(1), Some(3)));
    assert_eq!(found(&ring, &[]), (Some(1), Some(2)));
    assert_eq!(found(&limited(&["p256"], &Limits::default()), &mine.hashes), (None, None));
}

#[test]
fn formats_that_bind_no_name_do_not_count_by_themselves() {
    let signed = Signed::by("p256");
    let strict = limited(&["p256"], &Limits::default());
    assert_eq!(formats(&check(&signed.all(), &strict, &signed.hashes).unwrap()), "native");
    let rejection = check(&signed.others(), &strict, &signed.hashes).unwrap_err();
    assert_eq!(rejection.cause, Cause::KeyLimits);
    assert!(rejection.detail.contains("--accept"), "{rejection}");
    // A key's own formats win over the others', in both directions.
    let one = Limits { formats: Some("ima-v3".parse().unwrap()), ..Limits::default() };
    for ring in [limited(&["p256"], &one), limited(&["p256"], &one).with_formats(ALL.parse().unwrap())] {
        assert_eq!(formats(&check(&signed.all(), &ring, &signed.hashes).unwrap()), "ima-v3");
    }
}

#[test]
fn a_signature_over_the_whole_file_counts_only_when_that_was_hashed() {
    let signed = Signed::by("rsa3072");
    let only = |values: &'static [usize]| values.iter().map(|at| signed.ima[*at].clone()).collect::<Vec<_>>();
    let whole = only(&[1]);
    let signatures = Signatures { ima: &whole, ..Signatures::default() };
    let ring = ring(&["rsa3072"]);
    assert_eq!(check(&signatures, &ring, &[]).unwrap_err().cause, Cause::KeyLimits);
    assert_eq!(signatures.file_hashes(&ring), [HashName::Sha256]);
    assert!(check(&signatures, &ring, &signed.hashes).is_ok());
    let other = vec![(HashName::Sha256, HashName::Sha256.digest(b"another file"))];
    assert_eq!(check(&signatures, &ring, &other).unwrap_err().cause, Cause::BadSignature);
    // Nothing is hashed for who does not count.
    assert!(signatures.file_hashes(&limited(&["rsa3072"], &Limits::default())).is_empty());
    assert!(signatures.file_hashes(&self::ring(&["p256"])).is_empty());
    let verity = only(&[0]);
    assert!(Signatures { ima: &verity, ..Signatures::default() }.file_hashes(&ring).is_empty());
    assert_eq!(signatures.bare_params(&ring).unwrap(), Params::default());
    assert_eq!(signatures.bare_params(&self::ring(&["p256"])).unwrap_err().cause, Cause::UnknownKey);
}

#[test]
fn signatures_of_another_file_are_bad() {
    let signed = Signed::by("p384");
    let mut descriptor = fixture::descriptor();
    descriptor.size += 1;
    let expected = Expected { file_hashes: &signed.hashes, ..fixture::expected(&descriptor) };
    let pkcs7 = Signatures { ima: &[], ..signed.others() };
    let ima = Signatures { pkcs7: &[], ima: &signed.ima[..1], ..signed.others() };
    for signatures in [pkcs7, ima] {
        let rejection = verify(&signatures, &ring(&["p384"]), &expected).unwrap_err();
        assert_eq!(rejection.cause, Cause::BadSignature);
    }
}

#[test]
fn a_key_counts_once_and_as_many_keys_are_needed_as_the_path_requires() {
    let (rsa, p256) = (Signed::by("rsa3072"), Signed::by("p256"));
    let two = |names: &[&str]| ring(names).with_required(Requirements::new(2, Vec::new()).unwrap());
    let rejection = check(&rsa.all(), &two(&["rsa3072", "p256"]), &rsa.hashes).unwrap_err();
    assert_eq!(rejection.cause, Cause::TooFewSigners);
    assert!(rejection.detail.starts_with("1 of the 2 keys"), "{rejection}");
    let both = [rsa.pkcs7[0].clone(), p256.pkcs7[0].clone()];
    let signatures = Signatures { pkcs7: &both, ..Signatures::default() };
    assert_eq!(check(&signatures, &two(&["rsa3072", "p256"]), &[]).unwrap().signers.len(), 2);
    assert!(check(&signatures, &two(&["rsa3072"]), &[]).is_err());
}

#[test]
fn revoked_keys_certificates_and_files_are_refused_by_their_entry() {
    let signed = Signed::by("rsa3072");
    let id = fixture::key("rsa3072").key_id();
    let fingerprint = fixture::certificate("rsa3072").fingerprint();
    let digest = fixture::descriptor().file_digest();
    for item in [RevokedItem::Key(id), RevokedItem::Certificate(fingerprint), RevokedItem::Digest(digest)] {
        let mut revoked = Revoked::default();
        revoked.add(item, "revoked/a.txt:7");
        let ring = ring(&["rsa3072", "p256"]).with_revoked(revoked);
        let rejection = check(&signed.all(), &ring, &signed.hashes).unwrap_err();
        assert_eq!(rejection.cause, Cause::Revoked, "{item:?}");
        assert!(rejection.detail.contains("revoked/a.txt:7"), "{rejection}");
        // Another signer's signature counts all the same, but for a file that is revoked itself.
        let envelope = fixture::envelope(&["rsa3072", "p256"]);
        let both = Signatures { statement: Some(&envelope), ..Signatures::default() };
        assert_eq!(check(&both, &ring, &[]).is_ok(), !matches!(item, RevokedItem::Digest(_)));
    }
}

#[test]
fn keys_count_at_their_paths_and_in_their_time() {
    let signed = Signed::by("p256");
    let now = EXPIRES - 1;
    let globs = |text: &str| Some(PathGlobs::new(vec![text.to_owned()]).unwrap());
    let with = |limits: Limits| {
        check(&signed.all(), &limited(&["p256"], &limits), &[]).map_err(|rejection| rejection.cause)
    };
    assert!(with(Limits { paths: globs("bin/*"), ..Limits::default() }).is_ok());
    assert_eq!(with(Limits { paths: globs("boot/**"), ..Limits::default() }), Err(Cause::KeyLimits));
    let today = Limits { not_before: Some(now), not_after: Some(now), ..Limits::default() };
    assert_eq!(with(today).unwrap().until, Some(now + 1), "the first and the last second count");
    assert_eq!(with(Limits { not_after: Some(now - 1), ..Limits::default() }), Err(Cause::KeyLimits));
    assert_eq!(with(Limits { not_before: Some(now + 1), ..Limits::default() }), Err(Cause::KeyLimits));
}

#[test]
fn a_statement_that_speaks_of_another_file_refuses_whatever_else_signs() {
    let signed = Signed::by("rsa3072");
    let descriptor = fixture::descriptor();
    let expected =
        Expected { path: b"bin/cat", file_hashes: &signed.hashes, ..fixture::expected(&descriptor) };
    let refused = verify(&signed.all(), &ring(&["rsa3072"]), &expected).unwrap_err();
    assert_eq!(refused.cause, Cause::WrongPath);
    assert!(verify(&signed.others(), &ring(&["rsa3072"]), &expected).is_ok());
    // A statement by who is not trusted has no say.
    let foreign = fixture::envelope(&["p256"]);
    let mixed = Signatures { statement: Some(&foreign), ..signed.others() };
    assert!(verify(&mixed, &ring(&["rsa3072"]), &expected).is_ok());
}

#[test]
fn damaged_signatures_are_told_only_when_nothing_else_counts() {
    let signed = Signed::by("p256");
    let garbage = [Bytes::from_static(b"0\x80garbage")];
    let broken = Signatures { pkcs7: &garbage, ima: &garbage, ..Signatures::default() };
    assert_eq!(check(&broken, &ring(&["p256"]), &[]).unwrap_err().cause, Cause::MalformedEvidence);
    let mixed = Signatures { statement: Some(&signed.statement), ..broken };
    assert!(check(&mixed, &ring(&["p256"]), &[]).is_ok());
    assert_eq!(check(&Signatures::default(), &ring(&["p256"]), &[]).unwrap_err().cause, Cause::Unsigned);
}

#[test]
fn signatures_beyond_those_that_are_checked_do_not_count() {
    let signed = Signed::by("p256");
    let bad = Signed::by("p256").ima[0].iter().rev().copied().collect::<Vec<u8>>();
    // Right in everything but the signature itself.
    let head = signed.ima[0].slice(..9);
    let bad = Bytes::from([&head[..], &bad[..signed.ima[0].len() - 9]].concat());
    let after = |count: u32| {
        let mut values = vec![bad.clone(); usize::try_from(count).unwrap()];
        values.push(signed.ima[0].clone());
        check(&Signatures { ima: &values, ..Signatures::default() }, &ring(&["p256"]), &[])
    };
    assert!(after(CHECKS_MAX - 1).is_ok());
    let refused = after(CHECKS_MAX).unwrap_err();
    assert_eq!(refused.cause, Cause::BadSignature);
}

#[test]
fn a_module_signature_is_checked_over_the_content_that_the_caller_hashes() {
    let (key, certificate) = (fixture::key("rsa3072"), fixture::certificate("rsa3072"));
    let message = make_pkcs7(b"content", HashName::Sha256, key, &certificate).unwrap();
    let accept = ring(&["rsa3072"]).with_formats("modsig".parse().unwrap());
    let by = |ring: &Keyring, content: &'static [u8]| {
        verify_modsig(&message, ring, b"driver.ko", EXPIRES, |hash| Some(hash.digest(content)))
    };
    assert_eq!(by(&accept, b"content").unwrap()[0].format, Format::Modsig);
    assert_eq!(by(&accept, b"others").unwrap_err().cause, Cause::BadSignature);
    assert_eq!(by(&ring(&["rsa3072"]), b"content").unwrap_err().cause, Cause::KeyLimits);
}
