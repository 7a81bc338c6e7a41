//! From an untrusted envelope to a [`Proof`], or to the one cause that forbids it.

use super::dsse::Envelope;
use super::gather::{Acceptance, Signatures, verify};
use super::text::{Quoted, encode_time};
use super::{Format, HashName, KeyId, Keyring, SignError, Statement};
use crate::event::Cause;
use crate::verity::{Descriptor, FileDigest};

/// What the file at hand is, for a statement to agree with.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The namespace that is served.
    pub namespace: &'a str,
    /// The path at which the file was found, below the root.
    pub path: &'a [u8],
    /// The fs-verity descriptor that came with the file.
    pub descriptor: &'a Descriptor,
    /// Hashes of the whole file, where all of it was hashed.
    pub file_hashes: &'a [(HashName, Vec<u8>)],
    /// The time now, in seconds since 1970.
    pub now: i64,
}

impl<'a> Expected<'a> {
    /// The hash of the whole file, if it is known.
    pub(super) fn file_hash(&self, hash: HashName) -> Option<&'a [u8]> {
        self.file_hashes.iter().find(|(name, _)| *name == hash).map(|(_, digest)| &digest[..])
    }
}

/// A trusted key whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key_id: KeyId,
    /// The key's name in the keyring.
    pub name: String,
    /// The signature's format.
    pub format: Format,
}

/// A statement that holds for the file at hand, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The statement.
    pub statement: Statement,
    /// At least one, in the order of the envelope.
    pub signers: Vec<Signer>,
}

/// Why an envelope proves nothing about the file at hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct Rejection {
    /// The cause.
    pub cause: Cause,
    /// Both sides of the disagreement, for people: one line of bounded length.
    pub detail: String,
}

impl Rejection {
    pub(super) fn new(cause: Cause, detail: impl ToString) -> Self {
        Self { cause, detail: detail.to_string() }
    }
}

/// What an envelope says. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The statement.
    pub statement: Statement,
    /// The keys that are said to have signed.
    pub key_ids: Vec<KeyId>,
}

/// Reads what an envelope says, without verifying anything.
pub fn read_envelope(envelope: &[u8]) -> Result<Claim, SignError> {
    let (envelope, statement) = parse(envelope)?;
    Ok(Claim { statement, key_ids: envelope.signatures.iter().map(|s| s.key_id).collect() })
}

fn parse(envelope: &[u8]) -> Result<(Envelope, Statement), SignError> {
    let envelope = Envelope::parse(envelope)?;
    let statement = Statement::parse(&envelope.payload)?;
    Ok((envelope, statement))
}

/// Proves that a trusted key vouches for the file at hand under its path, by a statement alone.
///
/// The same as [`verify`] with nothing but an envelope.
pub fn verify_envelope(
    envelope: &[u8],
    keyring: &Keyring,
    expected: &Expected<'_>,
) -> Result<Proof, Rejection> {
    let signatures = Signatures { statement: Some(envelope), ..Signatures::default() };
    let Acceptance { statement, signers, .. } = verify(&signatures, keyring, expected)?;
    let none = || Rejection::new(Cause::Unsigned, "there is no statement");
    Ok(Proof { statement: statement.ok_or_else(none)?, signers })
}

/// Refuses a statement that does not speak of the file at hand, whose digest was found.
pub(super) fn agree(
    statement: &Statement,
    expected: &Expected<'_>,
    found: FileDigest,
) -> Result<(), Rejection> {
    let refuse = |cause, detail: String| Err(Rejection { cause, detail });
    if statement.namespace != expected.namespace {
        let (signed, served) =
            (Quoted(statement.namespace.as_bytes()), Quoted(expected.namespace.as_bytes()));
        return refuse(Cause::WrongNamespace, format!("signed for namespace {signed}, expected {served}"));
    }
    if statement.path != expected.path {
        let (signed, found) = (Quoted(&statement.path), Quoted(expected.path));
        return refuse(Cause::WrongPath, format!("signed for path {signed}, found at {found}"));
    }
    if let Some(expires) = statement.expires.filter(|expires| expected.now >= *expires) {
        return refuse(Cause::Expired, format!("expired at {}", time(expires)));
    }
    let descriptor = expected.descriptor;
    if statement.size != descriptor.size {
        let detail = format!("signed for {} bytes, the descriptor says {}", statement.size, descriptor.size);
        return refuse(Cause::WrongSize, detail);
    }
    let block_size = descriptor.params.block_size;
    if statement.file_digest != found || statement.block_size != block_size {
        let detail = format!(
            "signed for {} in blocks of {} bytes, the descriptor says {found} in blocks of {} bytes",
            statement.file_digest,
            statement.block_size.get(),
            block_size.get(),
        );
        return refuse(Cause::WrongDigest, detail);
    }
    Ok(())
}

pub(super) fn time(seconds: i64) -> String {
    encode_time(seconds).unwrap_or_else(|| format!("second {seconds}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::dsse::Signature;
    use crate::sign::fixture::{self, EXPIRES};
    use crate::sign::{PublicKey, TrustedKey, generate, sign_statement};
    use crate::verity::{BlockSize, Digest, HashAlgorithm};

    /// Verifies against what the fixture expects.
    fn verify(envelope: &[u8], trusted: &[&str]) -> Result<Proof, Rejection> {
        verify_envelope(envelope, &fixture::keyring(trusted), &fixture::expected(&fixture::descriptor()))
    }

    fn cause(result: Result<Proof, Rejection>) -> Cause {
        let rejection = result.unwrap_err();
        assert!(rejection.detail.len() < 2000, "{} bytes", rejection.detail.len());
        assert!(!rejection.detail.chars().any(char::is_control), "{:?}", rejection.detail);
        rejection.cause
    }

    /// The fixture's statement, changed and signed again.
    fn signed(change: impl FnOnce(&mut Statement)) -> Vec<u8> {
        let mut statement = fixture::statement();
        change(&mut statement);
        sign_statement(&statement, &[fixture::key("ed25519")]).unwrap()
    }

    /// The fixture's statement with another signature under the named key.
    fn with_signature(name: &str, signature: &[u8]) -> Vec<u8> {
        let signature = Signature { key_id: fixture::key(name).key_id(), bytes: signature.to_vec() };
        Envelope { payload: fixture::statement().to_json(), signatures: vec![signature] }.to_json()
    }

    fn good_signature(name: &str) -> Vec<u8> {
        Envelope::parse(&fixture::envelope(&[name])).unwrap().signatures.remove(0).bytes
    }

    const ALL: [&str; 4] = ["ed25519", "p256", "p384", "rsa3072"];

    #[test]
    fn every_algorithm_makes_a_proof() {
        for name in ALL {
            let proof = verify(&fixture::envelope(&[name]), &[name]).unwrap();
            assert_eq!(proof.statement, fixture::statement());
            let key_id = fixture::key(name).key_id();
            assert_eq!(proof.signers, [Signer { key_id, name: name.to_owned(), format: Format::Native }]);
        }
    }

    #[test]
    fn reading_tells_statement_and_keys_and_verifies_nothing() {
        let envelope = with_signature("p384", b"no signature at all");
        let claim = read_envelope(&envelope).unwrap();
        assert_eq!(claim.statement, fixture::statement());
        assert_eq!(claim.key_ids, [fixture::key("p384").key_id()]);
        assert!(read_envelope(&envelope[1..]).is_err());
    }

    #[test]
    fn only_trusted_keys_whose_signatures_hold_are_signers() {
        let envelope = fixture::envelope(&ALL);
        let names = |proof: Proof| proof.signers.into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(verify(&envelope, &ALL).unwrap()), ALL);
        assert_eq!(names(verify(&envelope, &["rsa3072", "p256"]).unwrap()), ["p256", "rsa3072"]);
        // Another signature by p256 over something else stands beside the good one.
        let mut parsed = Envelope::parse(&envelope).unwrap();
        parsed.signatures[1].bytes = fixture::key("p256").sign(b"something else").unwrap();
        let envelope = parsed.to_json();
        assert_eq!(names(verify(&envelope, &ALL).unwrap()), ["ed25519", "p384", "rsa3072"]);
        assert_eq!(cause(verify(&envelope, &["p256"])), Cause::BadSignature);
    }

    #[test]
    fn what_cannot_be_parsed_is_malformed() {
        for garbage in [&b""[..], b"{}", b"\0", b"[]", &[b'{'; 70_000]] {
            assert_eq!(cause(verify(garbage, &ALL)), Cause::MalformedEvidence);
        }
        // The payload is looked at before any key.
        let mut envelope = Envelope::parse(&fixture::envelope(&["ed25519"])).unwrap();
        envelope.payload = b"{}".to_vec();
        assert_eq!(cause(verify(&envelope.to_json(), &[])), Cause::MalformedEvidence);
    }

    #[test]
    fn a_key_that_is_not_trusted_is_unknown() {
        let envelope = fixture::envelope(&["ed25519"]);
        assert_eq!(cause(verify(&envelope, &["p256"])), Cause::UnknownKey);
        assert_eq!(cause(verify(&envelope, &[])), Cause::UnknownKey);
        let rejection = verify(&fixture::envelope(&ALL), &[]).unwrap_err();
        assert!(rejection.detail.contains(&fixture::key("ed25519").key_id().to_string()), "{rejection}");
        assert!(rejection.detail.contains("and 1 more"), "{rejection}");
    }

    #[test]
    fn a_signature_that_the_named_key_did_not_make_is_bad() {
        for name in ALL {
            let other = fixture::key(name).sign(b"something else").unwrap();
            assert_eq!(cause(verify(&with_signature(name, &other), &ALL)), Cause::BadSignature, "{name}");
            let good = good_signature(name);
            verify(&with_signature(name, &good), &ALL).unwrap();
            for cut in 1..good.len() {
                let envelope = with_signature(name, &good[..cut]);
                assert_eq!(cause(verify(&envelope, &ALL)), Cause::BadSignature, "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_signature_of_one_algorithm_does_not_pass_under_a_key_of_another() {
        for maker in ALL {
            let signature = good_signature(maker);
            for named in ALL.into_iter().filter(|named| *named != maker) {
                let envelope = with_signature(named, &signature);
                assert_eq!(cause(verify(&envelope, &ALL)), Cause::BadSignature, "{maker} as {named}");
            }
        }
    }

    #[test]
    fn a_signature_over_the_payload_alone_is_bad() {
        let bare = fixture::key("ed25519").sign(&fixture::statement().to_json()).unwrap();
        assert_eq!(cause(verify(&with_signature("ed25519", &bare), &ALL)), Cause::BadSignature);
    }

    #[test]
    fn another_namespace_is_refused() {
        for namespace in ["", "Tree", "tree ", "tree\0"] {
            let envelope = signed(|s| s.namespace = namespace.to_owned());
            assert_eq!(cause(verify(&envelope, &ALL)), Cause::WrongNamespace, "{namespace:?}");
        }
    }

    #[test]
    fn another_path_is_refused_and_both_are_told() {
        let rejection = verify(&signed(|s| s.path = b"bin/\xff\ncat".to_vec()), &ALL).unwrap_err();
        assert_eq!(rejection.cause, Cause::WrongPath);
        assert_eq!(rejection.detail, r#"signed for path "bin/\xff\ncat", found at "bin/ls""#);
        assert_eq!(rejection.to_string(), format!("wrong path: {}", rejection.detail));
        for path in [&b"ls"[..], b"bin/ls/x", b"bin/lS", b"bin/l"] {
            assert_eq!(cause(verify(&signed(|s| s.path = path.to_vec()), &ALL)), Cause::WrongPath);
        }
        assert_eq!(cause(verify(&signed(|s| s.path = vec![b'x'; 16_384]), &ALL)), Cause::WrongPath);
    }

    #[test]
    fn a_statement_holds_until_the_second_it_expires() {
        let (envelope, descriptor) = (fixture::envelope(&["ed25519"]), fixture::descriptor());
        let at = |now| {
            let expected = Expected { now, ..fixture::expected(&descriptor) };
            verify_envelope(&envelope, &fixture::keyring(&ALL), &expected)
        };
        at(EXPIRES - 1).unwrap();
        at(i64::MIN).unwrap();
        assert_eq!(cause(at(EXPIRES + 1)), Cause::Expired);
        assert_eq!(cause(at(i64::MAX)), Cause::Expired);
        let rejection = at(EXPIRES).unwrap_err();
        assert_eq!(rejection.cause, Cause::Expired);
        assert!(rejection.detail.contains("2027-01-01T00:00:00Z"), "{rejection}");
        let forever = signed(|s| s.expires = None);
        let expected = Expected { now: i64::MAX, ..fixture::expected(&descriptor) };
        verify_envelope(&forever, &fixture::keyring(&ALL), &expected).unwrap();
    }

    #[test]
    fn another_size_is_refused() {
        for size in [0, 4999, 5001] {
            let rejection = verify(&signed(|s| s.size = size), &ALL).unwrap_err();
            assert_eq!(rejection.cause, Cause::WrongSize);
            assert_eq!(rejection.detail, format!("signed for {size} bytes, the descriptor says 5000"));
        }
    }

    #[test]
    fn another_digest_algorithm_or_block_size_is_refused() {
        let digest = Digest::new(&[0; 32]).unwrap();
        let envelope = signed(|s| s.file_digest.digest = digest);
        assert_eq!(cause(verify(&envelope, &ALL)), Cause::WrongDigest);
        let digest = Digest::new(&[0; 64]).unwrap();
        let envelope = signed(|s| s.file_digest = FileDigest { algorithm: HashAlgorithm::Sha512, digest });
        assert_eq!(cause(verify(&envelope, &ALL)), Cause::WrongDigest);
        let envelope = signed(|s| s.block_size = BlockSize::new(1024).unwrap());
        assert_eq!(cause(verify(&envelope, &ALL)), Cause::WrongDigest);
        // The descriptor's salt and root are bound through the file digest.
        let mut descriptor = fixture::descriptor();
        descriptor.root_hash = Digest::new(&[8; 32]).unwrap();
        let expected = fixture::expected(&descriptor);
        let result = verify_envelope(&fixture::envelope(&["p256"]), &fixture::keyring(&ALL), &expected);
        assert_eq!(cause(result), Cause::WrongDigest);
    }

    #[test]
    fn the_first_cause_in_the_order_wins() {
        let right = fixture::statement();
        let mut statement = Statement {
            namespace: "other".to_owned(),
            path: b"other".to_vec(),
            expires: Some(0),
            size: 1,
            block_size: BlockSize::new(1024).unwrap(),
            ..right.clone()
        };
        let unsigned = |statement: &Statement| {
            let signature = Signature { key_id: fixture::key("p256").key_id(), bytes: vec![0; 64] };
            Envelope { payload: statement.to_json(), signatures: vec![signature] }.to_json()
        };
        let signed = |statement: &Statement| sign_statement(statement, &[fixture::key("p256")]).unwrap();
        // Everything is wrong at first; then one thing after the other is mended.
        let bad = unsigned(&statement);
        assert_eq!(cause(verify(&[&bad[..], b" "].concat(), &[])), Cause::MalformedEvidence);
        assert_eq!(cause(verify(&bad, &[])), Cause::UnknownKey);
        assert_eq!(cause(verify(&bad, &["p256"])), Cause::BadSignature);
        assert_eq!(cause(verify(&signed(&statement), &["p256"])), Cause::WrongNamespace);
        statement.namespace = right.namespace;
        assert_eq!(cause(verify(&signed(&statement), &["p256"])), Cause::WrongPath);
        statement.path = right.path;
        assert_eq!(cause(verify(&signed(&statement), &["p256"])), Cause::Expired);
        statement.expires = right.expires;
        assert_eq!(cause(verify(&signed(&statement), &["p256"])), Cause::WrongSize);
        statement.size = right.size;
        assert_eq!(cause(verify(&signed(&statement), &["p256"])), Cause::WrongDigest);
        statement.block_size = right.block_size;
        verify(&signed(&statement), &["p256"]).unwrap();
    }

    #[test]
    fn no_flipped_bit_makes_another_proof() {
        let envelope = fixture::envelope(&["ed25519", "p256"]);
        let original = verify(&envelope, &ALL).unwrap();
        let mut refused = 0;
        for at in 0..envelope.len() {
            for bit in 0..8 {
                let mut flipped = envelope.clone();
                flipped[at] ^= 1 << bit;
                match verify(&flipped, &ALL) {
                    Ok(proof) => {
                        assert_eq!(proof.statement, original.statement, "byte {at} bit {bit}");
                        assert!(
                            proof.signers.iter().all(|s| original.signers.contains(s)),
                            "byte {at} bit {bit}"
                        );
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > envelope.len(), "only {refused} of the flips were refused");
    }

    #[test]
    fn an_envelope_with_one_signature_is_refused_whatever_bit_of_payload_or_signature_flips() {
        let envelope = fixture::envelope(&["p256"]);
        let text = std::str::from_utf8(&envelope).unwrap();
        let quoted: Vec<&str> = text.split('"').collect();
        for part in [quoted[3], quoted[quoted.len() - 2]] {
            let start = part.as_ptr() as usize - text.as_ptr() as usize;
            for at in start..start + part.len() {
                for bit in 0..8 {
                    let mut flipped = envelope.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(verify(&flipped, &ALL).is_err(), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn details_stay_short_and_on_one_line() {
        let made = generate("ed25519".parse().unwrap()).unwrap();
        let key = PublicKey::from_spki_pem(made.public_pem.as_bytes()).unwrap();
        let ring = Keyring::new(vec![TrustedKey::new(key, "a\nb".repeat(10_000))]);
        let mut envelope = Envelope::parse(&fixture::envelope(&["ed25519"])).unwrap();
        envelope.signatures[0].key_id = made.key_id;
        let descriptor = fixture::descriptor();
        let result = verify_envelope(&envelope.to_json(), &ring, &fixture::expected(&descriptor));
        assert_eq!(cause(result), Cause::BadSignature);
        for hostile in ["\u{1b}[2J\n".repeat(4000), "\u{202e}".repeat(9000)] {
            assert_eq!(cause(verify(&signed(|s| s.namespace = hostile), &ALL)), Cause::WrongNamespace);
        }
        let field = format!("{{\"{}\":1}}", "\\n".repeat(20_000));
        assert_eq!(cause(verify(field.as_bytes(), &ALL)), Cause::MalformedEvidence);
    }
}
