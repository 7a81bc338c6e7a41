//! Envelopes taken apart, and the signatures of many of them checked at once.
//!
//! Ed25519 checks 64 signatures of one key together in a fraction of the time that one after the other takes. The
//! equation is that of RFC 8032 section 5.1.7, with its cofactor, for their sum, each multiplied by a number that is
//! drawn at random. Where it does not hold, nothing is known of any, and each is checked by itself, without the
//! cofactor. Who has the private key can make a signature that is accepted among others and not alone; nobody else can.

use ed25519_zebra::batch::Verifier;
use ed25519_zebra::{Signature as Ed25519, VerificationKeyBytes};
use ring::rand::SystemRandom;
use rsa::rand_core::UnwrapErr;

use super::dsse::{Envelope, Signature};
use super::key::KeyKind;
use super::random::SystemRng;
use super::{KeyId, Keyring, PublicKey, SignError, Statement};

/// A statement and the signatures on it, of which some may be known to hold. Which file it is about is not known.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) statement: Statement,
    /// What the signatures are made over.
    message: Vec<u8>,
    /// Each with whether it is known to hold under the key that it names.
    signatures: Vec<(Signature, bool)>,
}

/// One signature on a statement.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    opened: &'a Opened,
    signature: &'a Signature,
    holds: bool,
}

impl Opened {
    /// Takes an envelope apart.
    pub(super) fn read(envelope: &[u8]) -> Result<Self, SignError> {
        let envelope = Envelope::parse(envelope)?;
        let statement = Statement::parse(&envelope.payload)?;
        let message = envelope.signed_bytes();
        let signatures = envelope.signatures.into_iter().map(|signature| (signature, false)).collect();
        Ok(Self { statement, message, signatures })
    }

    /// The signatures, in their order.
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.signatures.iter().map(|(signature, holds)| Place { opened: self, signature, holds: *holds })
    }
}

impl<'a> Place<'a> {
    /// The key that it names.
    pub(super) fn key_id(self) -> &'a KeyId {
        &self.signature.key_id
    }

    /// True when it was made with the private half of `key`.
    pub(super) fn is_by(self, key: &PublicKey) -> bool {
        // The id is a digest of the key: there is no other key of that name.
        let is_known = self.holds && key.key_id() == self.signature.key_id;
        is_known || key.verify(&self.opened.message, &self.signature.bytes)
    }
}

/// Opens many envelopes, and checks at once what signatures of Ed25519 on them name a key of `keyring`. `None` for
/// what is no envelope with a statement.
pub(crate) fn open_together<'a>(
    envelopes: impl IntoIterator<Item = Option<&'a [u8]>>,
    keyring: &Keyring,
) -> Vec<Option<Opened>> {
    let read = |envelope: Option<&[u8]>| Opened::read(envelope?).ok();
    let mut all: Vec<Option<Opened>> = envelopes.into_iter().map(read).collect();
    check(all.iter_mut().flatten(), keyring);
    all
}

fn check<'a>(all: impl Iterator<Item = &'a mut Opened>, keyring: &Keyring) {
    let (mut together, mut known) = (Verifier::new(), Vec::new());
    for Opened { message, signatures, .. } in all {
        for (signature, holds) in signatures {
            let key = keyring.get(&signature.key_id).and_then(ed25519);
            if let (Some(key), Ok(bytes)) = (key, Ed25519::from_slice(&signature.bytes)) {
                together.queue((key, bytes, &message[..]));
                known.push(holds);
            }
        }
    }
    let random = UnwrapErr(SystemRng(SystemRandom::new()));
    if known.len() > 1 && together.verify(random).is_ok() {
        known.into_iter().for_each(|holds| *holds = true);
    }
}

/// The key in the form of the library, where it is one of Ed25519.
fn ed25519(trusted: &super::TrustedKey) -> Option<VerificationKeyBytes> {
    let is_one = trusted.key.kind() == KeyKind::Ed25519;
    VerificationKeyBytes::try_from(trusted.key.point()).ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;
    use crate::sign::{Acceptance, KeyAlgorithm, Sign, SigningKey};
    use crate::sign::{Expected, Rejection, Signatures, generate, sign_statement, verify_opened};

    const ALL: [&str; 4] = ["ed25519", "p256", "p384", "rsa3072"];

    /// Envelopes about as many files, by each of `keys` in turn.
    fn envelopes(count: usize, keys: &[&dyn Sign]) -> Vec<Vec<u8>> {
        let sign = |n: usize| {
            let statement = Statement { version: n as u64, ..fixture::statement() };
            sign_statement(&statement, &[keys[n % keys.len()]]).unwrap()
        };
        (0..count).map(sign).collect()
    }

    fn together(envelopes: &[Vec<u8>], trusted: &[&str]) -> Vec<Option<Opened>> {
        let envelopes = envelopes.iter().map(|envelope| Some(&envelope[..]));
        open_together(envelopes, &fixture::keyring(trusted))
    }

    fn held(opened: &[Option<Opened>]) -> Vec<bool> {
        opened.iter().flatten().flat_map(|opened| opened.places().map(|place| place.holds)).collect()
    }

    /// What is made of the envelope, opened before and not.
    fn both(envelope: &[u8], opened: &Opened, trusted: &[&str]) -> [Result<Acceptance, Rejection>; 2] {
        let (ring, descriptor) = (fixture::keyring(trusted), fixture::descriptor());
        let expected: Expected<'_> = fixture::expected(&descriptor);
        let signatures = Signatures { statement: Some(envelope), ..Signatures::default() };
        [Some(opened), None].map(|opened| verify_opened(&signatures, opened, &ring, &expected))
    }

    #[test]
    fn signatures_of_one_key_and_of_many_hold_together() {
        for count in [0, 1, 2, 3, 64, 200] {
            let opened = together(&envelopes(count, &[fixture::key("ed25519")]), &["ed25519"]);
            assert_eq!(held(&opened), vec![count > 1; count]);
        }
        let keys: Vec<SigningKey> = (0..5)
            .map(|_| generate(KeyAlgorithm::Ed25519).unwrap())
            .map(|made| SigningKey::from_pkcs8_pem(made.private_pem.as_bytes()).unwrap())
            .collect();
        let trusted =
            |key: &SigningKey| crate::sign::TrustedKey::new(key.public_key().clone(), "one of five");
        let keyring = Keyring::new(keys.iter().map(trusted).collect());
        let signers: Vec<&dyn Sign> = keys.iter().map(|key| key as &dyn Sign).collect();
        let all = envelopes(32, &signers);
        assert_eq!(
            held(&open_together(all.iter().map(|envelope| Some(&envelope[..])), &keyring)),
            [true; 32]
        );
        let untrusted =
            open_together(all.iter().map(|envelope| Some(&envelope[..])), &fixture::keyring(&ALL));
        assert_eq!(held(&untrusted), [false; 32]);
    }

    #[test]
    fn other_kinds_of_keys_are_checked_one_by_one() {
        let keys = ALL.map(|name| fixture::key(name) as &dyn Sign);
        let all = envelopes(16, &keys);
        let opened = together(&all, &ALL);
        assert_eq!(held(&opened), (0..16).map(|n| n % 4 == 0).collect::<Vec<_>>());
        for (envelope, opened) in all.iter().zip(&opened) {
            let [with, without] = both(envelope, opened.as_ref().unwrap(), &ALL);
            assert_eq!(with.unwrap(), without.unwrap());
        }
    }

    /// One that does not hold among them: of none is anything known, and each gets what it deserves.
    #[test]
    fn one_bad_signature_spoils_no_other_and_is_not_accepted() {
        let good = envelopes(8, &[fixture::key("ed25519")]);
        let swap = |bytes: &mut [u8]| bytes.swap(3, 40);
        for change in [|bytes: &mut [u8]| bytes[0] ^= 1, |bytes: &mut [u8]| bytes[63] ^= 0x80, swap] {
            let mut all = good.clone();
            let mut envelope = Envelope::parse(&all[5]).unwrap();
            change(&mut envelope.signatures[0].bytes);
            all[5] = envelope.to_json();
            let opened = together(&all, &["ed25519"]);
            assert_eq!(held(&opened), [false; 8]);
            for (n, (envelope, opened)) in all.iter().zip(&opened).enumerate() {
                let [with, without] = both(envelope, opened.as_ref().unwrap(), &["ed25519"]);
                assert_eq!(with, without);
                assert_eq!(with.is_ok(), n != 5);
            }
        }
    }

    #[test]
    fn a_signature_of_another_statement_does_not_hold() {
        let mut all = envelopes(4, &[fixture::key("ed25519")]);
        let [one, other] = [0, 1].map(|n| Envelope::parse(&all[n]).unwrap());
        let mixed = Envelope { payload: one.payload, signatures: other.signatures };
        all[2] = mixed.to_json();
        assert_eq!(held(&together(&all, &["ed25519"])), [false; 4]);
    }

    #[test]
    fn what_is_no_envelope_is_left_out() {
        let [one, two] = envelopes(2, &[fixture::key("ed25519")]).try_into().unwrap();
        let all = [Some(&one[..]), None, Some(b"{}"), Some(&one[1..]), Some(&two)];
        let opened = open_together(all, &fixture::keyring(&["ed25519"]));
        assert_eq!(opened.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false, true]);
        assert_eq!(held(&opened), [true; 2]);
    }

    /// What is known is known of the key with that id alone.
    #[test]
    fn a_key_that_is_not_named_made_nothing() {
        let opened = together(&envelopes(2, &[fixture::key("ed25519")]), &["ed25519"]);
        let place = opened[0].as_ref().unwrap().places().next().unwrap();
        assert!(place.holds && place.is_by(fixture::key("ed25519").public_key()));
        assert!(!place.is_by(fixture::key("p256").public_key()));
    }
}
