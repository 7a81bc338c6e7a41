//! Private keys: PKCS#8 (RFC 5958), not encrypted, and signing with them.

use std::fmt;

use der::Decode;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};

use super::key::{KeyId, KeyKind, PublicKey};
use super::prehash::DigestSigner;
use super::{HashName, SignError, ToSign, pem};

/// A private key that can sign. Never shown, not even by `Debug`.
pub struct SigningKey {
    pair: Pair,
    /// The same key for digests; Ed25519 has none.
    digests: Option<DigestSigner>,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Reads one PEM block `PRIVATE KEY` of at most [`super::KEY_FILE_MAX`] bytes.
    ///
    /// RSA keys have 2048 to 4096 bits. ECDSA keys carry their public half, as OpenSSL writes them.
    pub fn from_pkcs8_pem(text: &[u8]) -> Result<Self, SignError> {
        Self::from_pkcs8_der(&pem::decode(text, pem::PRIVATE)?)
    }

    /// The same from the DER inside.
    pub(super) fn from_pkcs8_der(der: &[u8]) -> Result<Self, SignError> {
        let info = pkcs8::PrivateKeyInfoRef::from_der(der).map_err(refuse)?;
        let kind = KeyKind::from_algorithm(&info.algorithm)?;
        let ecdsa =
            |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new()).map(Pair::Ecdsa);
        let pair = match kind {
            // Files without the public half (version 1) are what OpenSSL writes.
            KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519),
            KeyKind::P256 => ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyKind::P384 => ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyKind::Rsa { .. } => RsaKeyPair::from_pkcs8(der).map(Pair::Rsa),
        }
        .map_err(refuse)?;
        let point = match &pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        };
        let public = PublicKey::from_parts(kind, point)?;
        let digests = DigestSigner::from_pkcs8_der(kind, der);
        if digests.is_none() && kind != KeyKind::Ed25519 {
            return Err(refuse("its parts do not belong together"));
        }
        Ok(Self { pair, digests, public })
    }

    /// The public half.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The key's id.
    pub const fn key_id(&self) -> KeyId {
        self.public.key_id()
    }

    /// Signs `message`: Ed25519, ECDSA in DER (P-256 with SHA-256, P-384 with SHA-384), or RSA
    /// PKCS#1 v1.5 with SHA-256. ECDSA signatures of one message differ each time.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        let signed = match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        };
        signed.map_err(|_| SignError::Sign { key_id: self.key_id() })
    }

    /// Signs a message or its digest with `hash`; Ed25519 takes a message and has its own hash.
    ///
    /// # Errors
    /// [`SignError::CannotMake`] when Ed25519 is asked for more than that, [`SignError::Sign`] when the
    /// digest's length is not that of `hash`.
    pub(super) fn sign_with(&self, hash: HashName, input: ToSign<'_>) -> Result<Vec<u8>, SignError> {
        let Some(digests) = &self.digests else {
            return match input {
                ToSign::Message(message) if hash == self.public.native_hash() => self.sign(message),
                ToSign::Message(_) | ToSign::Digest(_) => Err(SignError::CannotMake {
                    algorithm: self.public.algorithm_name(),
                    what: "signatures over digests",
                }),
            };
        };
        let signature = match input {
            ToSign::Message(message) if hash == self.public.native_hash() => return self.sign(message),
            ToSign::Message(message) => digests.sign(hash, &hash.digest(message)),
            ToSign::Digest(digest) => digests.sign(hash, digest),
        };
        signature.ok_or_else(|| SignError::Sign { key_id: self.key_id() })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.public.algorithm_name(), self.key_id())
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::PrivateKey { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{KEY_FILE_MAX, fixture};

    #[test]
    fn signatures_verify_with_their_own_key_and_message_alone() {
        for (name, key) in fixture::keys() {
            let signature = key.sign(b"message").unwrap();
            let public =
                PublicKey::from_spki_pem(key.public_key().to_spki_pem().unwrap().as_bytes()).unwrap();
            assert!(public.verify(b"message", &signature), "{name}");
            assert!(!public.verify(b"massage", &signature), "{name}");
            for (other_name, other) in fixture::keys() {
                let same = other.key_id() == key.key_id();
                let verifies = other.public_key().verify(b"message", &signature);
                assert_eq!(verifies, same, "{name} {other_name}");
            }
        }
    }

    #[test]
    fn signatures_cut_extended_or_flipped_do_not_verify() {
        for (name, key) in fixture::keys() {
            let signature = key.sign(b"message").unwrap();
            let verifies = |signature: &[u8]| key.public_key().verify(b"message", signature);
            for cut in 0..signature.len() {
                assert!(!verifies(&signature[..cut]), "{name} cut at {cut}");
            }
            assert!(!verifies(&[&signature[..], &[0]].concat()), "{name}");
            for at in 0..signature.len() {
                let mut flipped = signature.clone();
                flipped[at] ^= 1;
                assert!(!verifies(&flipped), "{name} byte {at}");
            }
        }
    }

    #[test]
    fn garbage_is_no_private_key() {
        let ed = fixture::private_der("ed25519");
        for cut in 0..ed.len() {
            assert!(SigningKey::from_pkcs8_der(&ed[..cut]).is_err(), "cut at {cut}");
        }
        assert!(SigningKey::from_pkcs8_der(&[&ed[..], &[0]].concat()).is_err());
        for name in ["p256", "rsa3072"] {
            let der = fixture::private_der(name);
            for cut in [0, 1, der.len() / 2, der.len() - 1] {
                assert!(SigningKey::from_pkcs8_der(&der[..cut]).is_err(), "{name} cut at {cut}");
            }
            let mut broken = der.clone();
            let middle = broken.len() / 2;
            broken[middle] ^= 0x10;
            assert!(SigningKey::from_pkcs8_der(&broken).is_err(), "{name}");
        }
        for garbage in [vec![], vec![0x30], vec![0x30, 0x82, 0xff, 0xff], vec![0xff; 64], vec![0; 300]] {
            let text = pem::encode(&garbage, pem::PRIVATE).unwrap();
            assert!(SigningKey::from_pkcs8_pem(text.as_bytes()).is_err());
        }
        assert!(matches!(
            SigningKey::from_pkcs8_pem(&vec![b'-'; KEY_FILE_MAX + 1]),
            Err(SignError::TooLong { .. })
        ));
    }

    #[test]
    fn a_private_key_is_not_taken_for_a_public_one_nor_the_other_way_round() {
        let key = fixture::key("p256");
        let public = key.public_key().to_spki_pem().unwrap();
        assert!(matches!(SigningKey::from_pkcs8_pem(public.as_bytes()), Err(SignError::PemLabel { .. })));
        let private = pem::encode(&fixture::private_der("p256"), pem::PRIVATE).unwrap();
        assert!(matches!(PublicKey::from_spki_pem(private.as_bytes()), Err(SignError::PemLabel { .. })));
        let mislabelled = pem::encode(&fixture::private_der("p256"), pem::PUBLIC).unwrap();
        assert!(PublicKey::from_spki_pem(mislabelled.as_bytes()).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = fixture::key("ed25519");
        assert_eq!(format!("{key:?}"), format!("SigningKey(ed25519 {})", key.key_id()));
    }
}
