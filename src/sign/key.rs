//! Public keys: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), their ids, and checking signatures.
//!
//! Ed25519 after RFC 8410, ECDSA over named curves with uncompressed points after RFC 5480, RSA after
//! RFC 3279 section 2.3.1. Every key has one accepted encoding, so its id is its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode, Encode, Reader, SliceReader};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha1::{Digest as _, Sha1};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{HashName, SignError, pem, prehash};

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Which RSA keys are accepted, in bits of the modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key's id: the SHA-256 of its SubjectPublicKeyInfo in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of the key that `spki` (DER) describes.
    fn of(spki: &[u8]) -> Self {
        let mut id = [0; 32];
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }

    /// The id's 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All 64 digits, lower case.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Reads 64 lower-case hexadecimal digits; anything else is [`SignError::KeyId`].
impl FromStr for KeyId {
    type Err = SignError;

    fn from_str(text: &str) -> Result<Self, SignError> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map_err(|_| SignError::KeyId)?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(SignError::KeyId);
        }
        Ok(Self(id))
    }
}

/// What kind of key, and so which signature algorithm: never chosen by the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Ed25519,
    P256,
    P384,
    Rsa { bits: usize },
}

impl KeyKind {
    /// The kind that an algorithm identifier names; for RSA still without its size.
    pub(super) fn from_algorithm(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Self, SignError> {
        let unsupported = |oid: ObjectIdentifier| SignError::Algorithm { oid: oid.to_string() };
        match (algorithm.oid, algorithm.parameters) {
            (ED25519, None) => Ok(Self::Ed25519),
            (RSA, Some(parameters)) if parameters.is_null() => Ok(Self::Rsa { bits: 0 }),
            (EC, Some(parameters)) => match parameters.decode_as::<ObjectIdentifier>() {
                Ok(P256) => Ok(Self::P256),
                Ok(P384) => Ok(Self::P384),
                Ok(curve) => Err(unsupported(curve)),
                Err(_) => Err(unsupported(EC)),
            },
            (oid, _) => Err(unsupported(oid)),
        }
    }

    fn algorithm(&self) -> AlgorithmIdentifierRef<'_> {
        let (oid, parameters) = match self {
            Self::Ed25519 => (ED25519, None),
            Self::P256 => (EC, Some(AnyRef::from(&P256))),
            Self::P384 => (EC, Some(AnyRef::from(&P384))),
            Self::Rsa { .. } => (RSA, Some(AnyRef::NULL)),
        };
        AlgorithmIdentifierRef { oid, parameters }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &signature::ED25519,
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::Rsa { .. } => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// A public key that can check signatures. Cheap to clone; equal when the ids are.
#[derive(Clone)]
pub struct PublicKey {
    kind: KeyKind,
    id: KeyId,
    spki: Arc<[u8]>,
    /// The subjectPublicKey: a point, or an RSAPublicKey in DER.
    point: Arc<[u8]>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in DER, of at most [`super::KEY_FILE_MAX`] bytes.
    ///
    /// Whether a point is on its curve is found out when it checks a signature; one that is not
    /// accepts none.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, SignError> {
        if spki.len() > pem::KEY_FILE_MAX {
            return Err(SignError::TooLong { what: "key", found: spki.len(), max: pem::KEY_FILE_MAX });
        }
        let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(refuse)?;
        let kind = KeyKind::from_algorithm(&parsed.algorithm)?;
        let point = parsed.subject_public_key.as_bytes().ok_or_else(|| refuse("it has unused bits"))?;
        let key = Self::from_parts(kind, point)?;
        if *key.spki != *spki {
            return Err(refuse("its encoding is not canonical"));
        }
        Ok(key)
    }

    /// Reads one PEM block `PUBLIC KEY` of at most [`super::KEY_FILE_MAX`] bytes.
    pub fn from_spki_pem(text: &[u8]) -> Result<Self, SignError> {
        Self::from_spki_der(&pem::decode(text, pem::PUBLIC)?)
    }

    /// The key whose subjectPublicKey is `point`.
    pub(super) fn from_parts(kind: KeyKind, point: &[u8]) -> Result<Self, SignError> {
        let uncompressed = |length: usize| point.len() == length && point.first() == Some(&4);
        let kind = match kind {
            KeyKind::Ed25519 if point.len() == 32 => kind,
            KeyKind::P256 if uncompressed(65) => kind,
            KeyKind::P384 if uncompressed(97) => kind,
            KeyKind::Rsa { .. } => KeyKind::Rsa { bits: rsa_bits(point)? },
            KeyKind::Ed25519 | KeyKind::P256 | KeyKind::P384 => {
                return Err(refuse("its point is not in the form of its algorithm"));
            }
        };
        let subject_public_key = BitStringRef::from_bytes(point).map_err(refuse)?;
        let algorithm = kind.algorithm();
        let spki = SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().map_err(refuse)?;
        Ok(Self { kind, id: KeyId::of(&spki), spki: spki.into(), point: point.into() })
    }

    /// The key's id.
    pub const fn key_id(&self) -> KeyId {
        self.id
    }

    /// The algorithm for people: `ed25519`, `p256`, `p384`, or `rsa` and the bits of the modulus.
    pub fn algorithm_name(&self) -> String {
        match self.kind {
            KeyKind::Ed25519 => "ed25519".to_owned(),
            KeyKind::P256 => "p256".to_owned(),
            KeyKind::P384 => "p384".to_owned(),
            KeyKind::Rsa { bits } => format!("rsa{bits}"),
        }
    }

    /// The hash under native signatures of this key; Ed25519 has its own.
    pub const fn native_hash(&self) -> HashName {
        match self.kind {
            KeyKind::P384 => HashName::Sha384,
            KeyKind::Ed25519 | KeyKind::P256 | KeyKind::Rsa { .. } => HashName::Sha256,
        }
    }

    /// The key's id in IMA signatures: the last four bytes of the SHA-1 of the subjectPublicKey (the
    /// kernel's `crypto/asymmetric_keys/x509_cert_parser.c` and evmctl). It names a key and proves
    /// nothing.
    pub fn ima_key_id(&self) -> [u8; 4] {
        let digest: [u8; 20] = Sha1::digest(&self.point).into();
        digest.last_chunk().copied().unwrap_or_default()
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The SubjectPublicKeyInfo as one PEM block.
    pub fn to_spki_pem(&self) -> Result<String, SignError> {
        pem::encode(&self.spki, pem::PUBLIC)
    }

    /// True when `signature` was made over `message` with this key's private half. ECDSA signatures
    /// are in DER.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.kind.verification(), &self.point).verify(message, signature).is_ok()
    }

    /// True when `signature` was made over `digest`, computed with `hash`: RSA PKCS#1 v1.5 with
    /// DigestInfo, or ECDSA in DER. False for Ed25519, and for digests of another length than the hash's.
    pub fn verify_digest(&self, hash: HashName, digest: &[u8], signature: &[u8]) -> bool {
        prehash::verify(self.kind, &self.point, hash, digest, signature)
    }

    /// The subjectPublicKey: a point, or an RSAPublicKey in DER.
    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }

    /// What kind of key it is.
    pub(super) const fn kind(&self) -> KeyKind {
        self.kind
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm_name(), self.id)
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::PublicKey { reason: reason.to_string() }
}

/// Length of the modulus of an RSAPublicKey (RFC 8017 appendix A.1.1), which must be one that
/// signatures can be checked with.
fn rsa_bits(key: &[u8]) -> Result<usize, SignError> {
    let mut reader = SliceReader::new(key).map_err(refuse)?;
    let (modulus, exponent) = reader
        .sequence(|r| -> der::Result<_> { Ok((r.decode::<UintRef<'_>>()?, r.decode::<UintRef<'_>>()?)) })
        .map_err(refuse)?;
    reader.finish().map_err(refuse)?;
    let zeros = modulus.as_bytes().first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.as_bytes().len() * 8).saturating_sub(zeros);
    if !RSA_BITS.contains(&bits) {
        return Err(SignError::RsaBits { bits });
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !odd(modulus.as_bytes()) {
        return Err(refuse("its RSA modulus is even"));
    }
    let e = exponent
        .as_bytes()
        .iter()
        .try_fold(0u64, |e, byte| (e >> 32 == 0).then_some((e << 8) | u64::from(*byte)));
    // FIPS 186-5 section 5.4 wants more than 2^16; ring takes no more than 33 bits.
    if !e.is_some_and(|e| e % 2 == 1 && (65_537..1 << 33).contains(&e)) {
        return Err(refuse("its RSA exponent is not an odd number from 65537 to 2^33 - 1"));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;
    use der::Encode;

    const VECTORS: [(&str, &[u8]); 4] = [
        ("ed25519", include_bytes!("../../tests/vectors/keys/ed25519.pub.pem")),
        ("p256", include_bytes!("../../tests/vectors/keys/ecp256.pub.pem")),
        ("p384", include_bytes!("../../tests/vectors/keys/ecp384.pub.pem")),
        ("rsa2048", include_bytes!("../../tests/vectors/keys/rsa2048.pub.pem")),
    ];

    /// A SubjectPublicKeyInfo of an RSA key with this modulus and exponent, big-endian.
    fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let n = UintRef::new(modulus).unwrap().to_der().unwrap();
        let e = UintRef::new(exponent).unwrap().to_der().unwrap();
        let body = AnyRef::new(der::Tag::Sequence, &[n, e].concat()).unwrap().to_der().unwrap();
        let subject_public_key = BitStringRef::from_bytes(&body).unwrap();
        let algorithm = AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) };
        SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().unwrap()
    }

    #[test]
    fn keys_made_by_openssl_are_read_and_written_back_unchanged() {
        for (name, text) in VECTORS {
            let key = PublicKey::from_spki_pem(text).unwrap();
            assert_eq!(key.algorithm_name(), name);
            assert_eq!(key.to_spki_pem().unwrap().as_bytes(), text);
            assert_eq!(PublicKey::from_spki_der(key.spki_der()).unwrap(), key);
        }
    }

    #[test]
    fn ima_key_ids_are_those_that_evmctl_computes() {
        for (text, id) in [(VECTORS[1].1, "332c6bfa"), (VECTORS[3].1, "c12fcad2")] {
            assert_eq!(hex::encode(PublicKey::from_spki_pem(text).unwrap().ima_key_id()), id);
        }
    }

    #[test]
    fn key_ids_are_hex_and_come_back() {
        let id = fixture::key("ed25519").key_id();
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        assert_eq!(id.to_string(), hex::encode(id.as_bytes()));
        assert_eq!(id.short(), id.to_string()[..16]);
        let good = "ab".repeat(32);
        good.parse::<KeyId>().unwrap();
        for bad in
            ["", "ab", &good.to_uppercase(), &good[1..], &format!("{good}0"), &good.replacen('a', "g", 1)]
        {
            assert!(matches!(bad.parse::<KeyId>(), Err(SignError::KeyId)), "{bad}");
        }
    }

    #[test]
    fn encodings_cut_extended_or_changed_do_not_give_the_same_key() {
        for (name, text) in VECTORS {
            let key = PublicKey::from_spki_pem(text).unwrap();
            let spki = key.spki_der();
            for cut in 0..spki.len() {
                assert!(PublicKey::from_spki_der(&spki[..cut]).is_err(), "{name} cut at {cut}");
            }
            assert!(PublicKey::from_spki_der(&[spki, &[0]].concat()).is_err(), "{name}");
            for at in 0..spki.len() {
                for bit in 0..8 {
                    let mut changed = spki.to_vec();
                    changed[at] ^= 1 << bit;
                    if let Ok(other) = PublicKey::from_spki_der(&changed) {
                        assert_ne!(other.key_id(), key.key_id(), "{name} byte {at}");
                        assert_eq!(other.spki_der(), changed);
                    }
                }
            }
        }
    }

    #[test]
    fn rsa_keys_of_other_sizes_are_refused() {
        let modulus = |bytes: usize, first: u8| [&[first][..], &vec![0xff; bytes - 1]].concat();
        let bits =
            |m: &[u8]| PublicKey::from_spki_der(&rsa_spki(m, &[1, 0, 1])).map(|key| key.algorithm_name());
        assert!(matches!(bits(&modulus(128, 0xff)), Err(SignError::RsaBits { bits: 1024 })));
        assert!(matches!(bits(&modulus(256, 0x7f)), Err(SignError::RsaBits { bits: 2047 })));
        assert!(matches!(bits(&modulus(1025, 0x01)), Err(SignError::RsaBits { bits: 8193 })));
        assert!(matches!(bits(&[1]), Err(SignError::RsaBits { bits: 1 })));
        assert_eq!(bits(&modulus(256, 0x80)).unwrap(), "rsa2048");
        assert_eq!(bits(&modulus(1024, 0xff)).unwrap(), "rsa8192");
    }

    #[test]
    fn rsa_keys_that_could_check_nothing_are_refused() {
        let modulus = vec![0xff; 256];
        let even = [&modulus[..255], &[0xfe]].concat();
        assert!(PublicKey::from_spki_der(&rsa_spki(&even, &[1, 0, 1])).is_err());
        for exponent in [&[1][..], &[3], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert!(PublicKey::from_spki_der(&rsa_spki(&modulus, exponent)).is_err(), "{exponent:?}");
        }
        PublicKey::from_spki_der(&rsa_spki(&modulus, &[1, 0xff, 0xff, 0xff, 0xff])).unwrap();
    }

    #[test]
    fn other_algorithms_and_parameters_are_refused() {
        let ed = PublicKey::from_spki_pem(VECTORS[0].1).unwrap();
        let subject_public_key = BitStringRef::from_bytes(&ed.point).unwrap();
        let k256 = ObjectIdentifier::new_unwrap("1.3.132.0.10");
        let x25519 = ObjectIdentifier::new_unwrap("1.3.101.110");
        for (oid, parameters) in [
            (ED25519, Some(AnyRef::NULL)),
            (x25519, None),
            (EC, None),
            (EC, Some(AnyRef::NULL)),
            (EC, Some(AnyRef::from(&k256))),
            (RSA, None),
        ] {
            let algorithm = AlgorithmIdentifierRef { oid, parameters };
            let spki = SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().unwrap();
            assert!(matches!(PublicKey::from_spki_der(&spki), Err(SignError::Algorithm { .. })), "{oid}");
        }
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa { bits: 0 }] {
            assert!(PublicKey::from_parts(kind, &ed.point).is_err(), "{kind:?}");
        }
        let p256 = PublicKey::from_spki_pem(VECTORS[1].1).unwrap();
        let compressed = [&[2][..], &p256.point[1..33]].concat();
        assert!(PublicKey::from_parts(KeyKind::P256, &compressed).is_err());
    }
}
