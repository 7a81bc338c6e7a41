//! New key pairs. Ed25519 files have the form of RFC 8410 section 7, without the public half, which
//! every OpenSSL since 1.1.1 reads.

use std::fmt;
use std::str::FromStr;

use der::Encode;
use der::asn1::{ObjectIdentifier, OctetStringRef};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair};
use rsa::pkcs8::EncodePrivateKey;
use spki::AlgorithmIdentifier;

use super::random::SystemRng;
use super::text::Quoted;
use super::{KeyId, SignError, SigningKey, pem};

/// Algorithms that keys are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA over NIST P-256 with SHA-256.
    P256,
    /// ECDSA over NIST P-384 with SHA-384.
    P384,
    /// RSA PKCS#1 v1.5 of 3072 bits with SHA-256.
    Rsa3072,
    /// RSA PKCS#1 v1.5 of 4096 bits with SHA-256.
    Rsa4096,
}

impl KeyAlgorithm {
    /// All algorithms, the preferred one first.
    pub const ALL: [Self; 5] = [Self::Ed25519, Self::P256, Self::P384, Self::Rsa3072, Self::Rsa4096];

    /// The name: `ed25519`, `p256`, `p384`, `rsa3072`, `rsa4096`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads what [`KeyAlgorithm::name`] gives; anything else is [`SignError::AlgorithmName`].
impl FromStr for KeyAlgorithm {
    type Err = SignError;

    fn from_str(name: &str) -> Result<Self, SignError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| SignError::AlgorithmName { found: Quoted(name.as_bytes()).to_string() })
    }
}

/// A new key pair, as the two files that keep it.
pub struct GeneratedKey {
    /// The private half: PKCS#8 in PEM, not encrypted.
    pub private_pem: String,
    /// The public half: SubjectPublicKeyInfo in PEM.
    pub public_pem: String,
    /// The id of both.
    pub key_id: KeyId,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GeneratedKey({})", self.key_id)
    }
}

/// Makes a new key pair from the system's randomness and tries it out. RSA takes a while.
pub fn generate(algorithm: KeyAlgorithm) -> Result<GeneratedKey, SignError> {
    let der = match algorithm {
        KeyAlgorithm::Ed25519 => ed25519()?,
        KeyAlgorithm::P256 => ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING)?,
        KeyAlgorithm::P384 => ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING)?,
        KeyAlgorithm::Rsa3072 => rsa(3072)?,
        KeyAlgorithm::Rsa4096 => rsa(4096)?,
    };
    let key = SigningKey::from_pkcs8_der(&der)?;
    let trial = b"nfs-verity key trial";
    if !key.public_key().verify(trial, &key.sign(trial)?) {
        return Err(SignError::Sign { key_id: key.key_id() });
    }
    Ok(GeneratedKey {
        private_pem: pem::encode(&der, pem::PRIVATE)?,
        public_pem: key.public_key().to_spki_pem()?,
        key_id: key.key_id(),
    })
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::Generate { reason: reason.to_string() }
}

fn ed25519() -> Result<Vec<u8>, SignError> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| SignError::NoRandomness)?;
    let inner = OctetStringRef::new(&seed).and_then(|seed| seed.to_der()).map_err(refuse)?;
    let algorithm =
        AlgorithmIdentifier { oid: ObjectIdentifier::new_unwrap("1.3.101.112"), parameters: None };
    let private_key = OctetStringRef::new(&inner).map_err(refuse)?;
    pkcs8::PrivateKeyInfoRef::new(algorithm, private_key).to_der().map_err(refuse)
}

fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm) -> Result<Vec<u8>, SignError> {
    let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
    Ok(der.map_err(|_| SignError::NoRandomness)?.as_ref().to_vec())
}

fn rsa(bits: usize) -> Result<Vec<u8>, SignError> {
    let key = rsa::PrivateKey::new(&mut SystemRng(SystemRandom::new()), bits).map_err(refuse)?;
    Ok(key.to_pkcs8_der().map_err(refuse)?.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::PublicKey;

    /// RSA of 3072 bits is made by the fixture of this room and tried in the tests of private keys.
    #[test]
    fn new_keys_are_read_back_and_differ() {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384] {
            let made = generate(algorithm).unwrap();
            let private = SigningKey::from_pkcs8_pem(made.private_pem.as_bytes()).unwrap();
            let public = PublicKey::from_spki_pem(made.public_pem.as_bytes()).unwrap();
            assert_eq!((private.key_id(), public.key_id()), (made.key_id, made.key_id));
            assert_eq!(public.algorithm_name(), algorithm.name());
            assert!(public.verify(b"m", &private.sign(b"m").unwrap()));
            assert_ne!(generate(algorithm).unwrap().key_id, made.key_id);
            assert!(!format!("{made:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn algorithm_names_come_back() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.name().parse::<KeyAlgorithm>().unwrap(), algorithm);
            assert_eq!(algorithm.to_string(), algorithm.name());
        }
        for bad in ["", "Ed25519", "rsa", "rsa2048", "p521"] {
            assert!(matches!(bad.parse::<KeyAlgorithm>(), Err(SignError::AlgorithmName { .. })), "{bad}");
        }
    }
}
