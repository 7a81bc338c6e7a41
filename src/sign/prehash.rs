//! Signatures over digests that were computed elsewhere: RSA PKCS#1 v1.5 with the DigestInfo of the hash
//! (RFC 8017 section 8.2) and ECDSA in DER (FIPS 186-5 section 6), each with any [`HashName`].
//!
//! Native signatures take the other way, through [`super::key`]: there the key alone decides the hash.

use p256::ecdsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner};
use ring::rand::SystemRandom;
use rsa::Pkcs1v15Sign;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs8::DecodePrivateKey;

use super::HashName;
use super::key::KeyKind;
use super::random::SystemRng;

/// True when `signature` was made over `digest` with the private half of the key of this kind whose
/// subjectPublicKey is `point`. Ed25519 signs no digests.
pub(super) fn verify(kind: KeyKind, point: &[u8], hash: HashName, digest: &[u8], signature: &[u8]) -> bool {
    if digest.len() != hash.digest_size() {
        return false;
    }
    match kind {
        KeyKind::Ed25519 => false,
        KeyKind::P256 => verify_p256(point, digest, signature).is_some(),
        KeyKind::P384 => verify_p384(point, digest, signature).is_some(),
        KeyKind::Rsa { .. } => rsa::PublicKey::from_pkcs1_der(point)
            .is_ok_and(|key| key.verify(padding(hash), digest, signature).is_ok()),
    }
}

fn verify_p256(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(digest, &signature).ok()
}

fn verify_p384(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(digest, &signature).ok()
}

fn padding(hash: HashName) -> Pkcs1v15Sign {
    match hash {
        HashName::Sha256 => Pkcs1v15Sign::new::<sha2::Sha256>(),
        HashName::Sha384 => Pkcs1v15Sign::new::<sha2::Sha384>(),
        HashName::Sha512 => Pkcs1v15Sign::new::<sha2::Sha512>(),
    }
}

/// A private key that signs digests.
pub(super) enum DigestSigner {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Rsa(rsa::PrivateKey),
}

impl DigestSigner {
    /// Reads PKCS#8. `None` for Ed25519, and for what is no key of this kind.
    pub(super) fn from_pkcs8_der(kind: KeyKind, der: &[u8]) -> Option<Self> {
        match kind {
            KeyKind::Ed25519 => None,
            KeyKind::P256 => p256::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::P256),
            KeyKind::P384 => p384::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::P384),
            KeyKind::Rsa { .. } => rsa::PrivateKey::from_pkcs8_der(der).ok().map(Self::Rsa),
        }
    }

    /// Signs `digest`; `None` when its length is not that of `hash`, or when there is no randomness.
    ///
    /// Randomness hides the key from those who measure time (RSA, where the signature is the same each
    /// time) and from faults (ECDSA, where it is not).
    pub(super) fn sign(&self, hash: HashName, digest: &[u8]) -> Option<Vec<u8>> {
        if digest.len() != hash.digest_size() {
            return None;
        }
        let mut random = SystemRng(SystemRandom::new());
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature =
                    key.sign_prehash_with_rng(&mut random, digest).ok()?;
                Some(signature.as_bytes().to_vec())
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature =
                    key.sign_prehash_with_rng(&mut random, digest).ok()?;
                Some(signature.as_bytes().to_vec())
            }
            Self::Rsa(key) => key.sign_with_rng(&mut random, padding(hash), digest).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sign::{HashName, Sign, SignError, ToSign, fixture};

    #[test]
    fn every_hash_signs_with_every_key_but_ed25519() {
        for (name, key) in fixture::keys() {
            for hash in HashName::ALL {
                let digest = hash.digest(b"message");
                let Ok(of_digest) = Sign::sign(key, hash, ToSign::Digest(&digest)) else {
                    assert_eq!(name, "ed25519");
                    continue;
                };
                let of_message = Sign::sign(key, hash, ToSign::Message(b"message")).unwrap();
                for signature in [of_digest, of_message] {
                    for other in HashName::ALL {
                        let verifies =
                            key.public_key().verify_digest(other, &other.digest(b"message"), &signature);
                        assert_eq!(verifies, other == hash, "{name} {hash} {other}");
                    }
                    let native = hash == key.public_key().native_hash();
                    assert_eq!(key.public_key().verify(b"message", &signature), native, "{name} {hash}");
                    for (other_name, other) in fixture::keys() {
                        let verifies = other.public_key().verify_digest(hash, &digest, &signature);
                        assert_eq!(verifies, other_name == name, "{name} {hash} {other_name}");
                    }
                }
            }
        }
    }

    #[test]
    fn ed25519_signs_messages_alone_and_with_its_own_hash() {
        let key = fixture::key("ed25519");
        let signature = Sign::sign(key, HashName::Sha256, ToSign::Message(b"message")).unwrap();
        assert!(key.public_key().verify(b"message", &signature));
        for hash in HashName::ALL {
            let digest = hash.digest(b"message");
            let refused = Sign::sign(key, hash, ToSign::Digest(&digest));
            assert!(matches!(refused, Err(SignError::CannotMake { .. })));
            assert!(!key.public_key().verify_digest(hash, &digest, &signature));
            // Not even over a message that looks like a digest.
            let over = Sign::sign(key, HashName::Sha256, ToSign::Message(&digest)).unwrap();
            assert!(!key.public_key().verify_digest(hash, &digest, &over));
        }
        for hash in [HashName::Sha384, HashName::Sha512] {
            let refused = Sign::sign(key, hash, ToSign::Message(b"message"));
            assert!(matches!(refused, Err(SignError::CannotMake { .. })));
        }
    }

    #[test]
    fn digests_of_another_length_are_neither_signed_nor_verified() {
        for name in ["p256", "p384", "rsa3072"] {
            let key = fixture::key(name);
            let digest = HashName::Sha512.digest(b"message");
            for length in 0..64 {
                let refused = Sign::sign(key, HashName::Sha512, ToSign::Digest(&digest[..length]));
                assert!(matches!(refused, Err(SignError::Sign { .. })), "{name} {length}");
            }
            // ECDSA over P-256 takes the first 32 bytes of a longer digest: the length tells them apart.
            let signature = Sign::sign(key, HashName::Sha512, ToSign::Digest(&digest)).unwrap();
            for length in 0..64 {
                for hash in HashName::ALL {
                    assert!(!key.public_key().verify_digest(hash, &digest[..length], &signature), "{name}")
                }
            }
        }
    }

    #[test]
    fn signatures_of_digests_cut_extended_or_flipped_do_not_verify() {
        for name in ["p256", "p384", "rsa3072"] {
            let key = fixture::key(name);
            let digest = HashName::Sha256.digest(b"message");
            let signature = Sign::sign(key, HashName::Sha256, ToSign::Digest(&digest)).unwrap();
            let verifies =
                |signature: &[u8]| key.public_key().verify_digest(HashName::Sha256, &digest, signature);
            assert!(verifies(&signature));
            for cut in 0..signature.len() {
                assert!(!verifies(&signature[..cut]), "{name} cut at {cut}");
            }
            assert!(!verifies(&[&signature[..], &[0]].concat()), "{name}");
            assert!(!verifies(&[&[0], &signature[..]].concat()), "{name}");
            for at in (0..signature.len()).step_by(3) {
                let mut flipped = signature.clone();
                flipped[at] ^= 1;
                assert!(!verifies(&flipped), "{name} byte {at}");
            }
        }
    }

    #[test]
    fn ecdsa_signatures_of_zeros_verify_nothing() {
        for name in ["p256", "p384"] {
            let key = fixture::key(name).public_key();
            for hash in HashName::ALL {
                for digest in [vec![0; hash.digest_size()], hash.digest(b"message")] {
                    for signature in [&[0x30, 6, 2, 1, 0, 2, 1, 0][..], &[0x30, 6, 2, 1, 1, 2, 1, 0], b""] {
                        assert!(!key.verify_digest(hash, &digest, signature), "{name} {hash}");
                    }
                }
            }
        }
    }
}
