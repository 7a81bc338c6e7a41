//! Keys and signatures as PKCS#11 tokens give and take them (PKCS #11 v3.1, sections 6.1 and 6.3):
//! numbers and points in place of SubjectPublicKeyInfo, DigestInfo for RSA, r and s side by side for ECDSA.
//!
//! Bytes in, bytes out: knows nothing of modules and sessions.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::AlgorithmIdentifierRef;

use super::key::KeyKind;
use super::{HashName, PublicKey, SignError};

/// The name of the curve that tokens give where others give an object identifier.
const EDWARDS25519: &str = "edwards25519";
/// Ed25519 (RFC 8410), and the same in the arc that older tokens use.
const ED25519: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.101.112"), ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.15.1")];
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// RFC 3279 section 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// RFC 8017 section 9.2.
#[derive(Sequence)]
struct DigestInfo<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    digest: &'a OctetStringRef,
}

impl PublicKey {
    /// The key with CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian.
    pub fn from_rsa_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, SignError> {
        let (modulus, exponent) =
            (UintRef::new(modulus).map_err(refuse)?, UintRef::new(exponent).map_err(refuse)?);
        let point = RsaPublicKey { modulus, exponent }.to_der().map_err(refuse)?;
        Self::from_parts(KeyKind::Rsa { bits: 0 }, &point)
    }

    /// The key with CKA_EC_PARAMS and CKA_EC_POINT: P-256, P-384 or Ed25519, the point in an OCTET
    /// STRING as the specification has it or bare as some tokens give it.
    pub fn from_ec_point(parameters: &[u8], point: &[u8]) -> Result<Self, SignError> {
        let parameters = AnyRef::from_der(parameters).map_err(refuse)?;
        let curve = parameters.decode_as::<ObjectIdentifier>().ok();
        let kind = match curve {
            Some(oid) if ED25519.contains(&oid) => KeyKind::Ed25519,
            Some(_) => {
                KeyKind::from_algorithm(&AlgorithmIdentifierRef { oid: EC, parameters: Some(parameters) })?
            }
            None if parameters.value() == EDWARDS25519.as_bytes() => KeyKind::Ed25519,
            None => return Err(refuse("its curve has no name that is known here")),
        };
        let wrapped = <&OctetStringRef>::from_der(point).ok().map(OctetStringRef::as_bytes);
        let inner = wrapped.map(|inner| Self::from_parts(kind, inner));
        match inner {
            Some(Ok(key)) => Ok(key),
            _ => Self::from_parts(kind, point),
        }
    }
}

/// What CKM_RSA_PKCS signs: the DigestInfo of a digest made with `hash`.
pub fn digest_info(hash: HashName, digest: &[u8]) -> Result<Vec<u8>, SignError> {
    let algorithm = AlgorithmIdentifierRef { oid: hash.oid(), parameters: Some(AnyRef::NULL) };
    let digest = OctetStringRef::new(digest).map_err(refuse)?;
    DigestInfo { algorithm, digest }.to_der().map_err(refuse)
}

/// What CKM_ECDSA gives, r and s of one length side by side, in the DER of ECDSA-Sig-Value.
pub fn ecdsa_to_der(raw: &[u8]) -> Result<Vec<u8>, SignError> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return Err(refuse(format!("an ECDSA signature of {} bytes is no pair of numbers", raw.len())));
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    let (r, s) = (UintRef::new(r).map_err(refuse)?, UintRef::new(s).map_err(refuse)?);
    EcdsaSignature { r, s }.to_der().map_err(refuse)
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::PublicKey { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;
    use spki::SubjectPublicKeyInfoRef;

    /// The subjectPublicKey and the parameters of a key of the fixture.
    fn parts(name: &str) -> (Vec<u8>, Vec<u8>) {
        let spki = fixture::key(name).public_key().spki_der().to_vec();
        let parsed = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
        let parameters = parsed.algorithm.parameters.map(|p| p.to_der().unwrap()).unwrap_or_default();
        (parsed.subject_public_key.as_bytes().unwrap().to_vec(), parameters)
    }

    #[test]
    fn points_make_the_key_wrapped_or_bare() {
        for name in ["p256", "p384", "ed25519"] {
            let (point, parameters) = parts(name);
            let wrapped = OctetStringRef::new(&point).unwrap().to_der().unwrap();
            let all = match name {
                "ed25519" => vec![
                    ED25519[0].to_der().unwrap(),
                    ED25519[1].to_der().unwrap(),
                    [&[0x13, 12][..], EDWARDS25519.as_bytes()].concat(),
                ],
                _ => vec![parameters],
            };
            for parameters in all {
                for point in [&point, &wrapped] {
                    let key = PublicKey::from_ec_point(&parameters, point).unwrap();
                    assert_eq!(key.key_id(), fixture::key(name).key_id(), "{name}");
                }
                // Cut to the length of a bare point it looks like one, and is one that signed nothing.
                for cut in (0..wrapped.len()).filter(|cut| *cut != point.len()) {
                    assert!(PublicKey::from_ec_point(&parameters, &wrapped[..cut]).is_err(), "{name} {cut}");
                }
            }
        }
        let (point, _) = parts("p256");
        let (_, p384) = parts("p384");
        assert!(PublicKey::from_ec_point(&p384, &point).is_err());
        for garbage in [&b""[..], b"\x06", b"\x13\x0cedwards25518", b"\x06\x03\x2b\x65\x71", &[0xff; 40]] {
            assert!(PublicKey::from_ec_point(garbage, &point).is_err());
        }
    }

    #[test]
    fn numbers_make_the_key_with_and_without_leading_zeros() {
        let (point, _) = parts("rsa3072");
        let key = RsaPublicKey::from_der(&point).unwrap();
        let (n, e) = (key.modulus.as_bytes(), key.exponent.as_bytes());
        let id = fixture::key("rsa3072").key_id();
        assert_eq!(PublicKey::from_rsa_numbers(n, e).unwrap().key_id(), id);
        assert_eq!(
            PublicKey::from_rsa_numbers(&[&[0, 0], n].concat(), &[&[0], e].concat()).unwrap().key_id(),
            id
        );
        assert!(PublicKey::from_rsa_numbers(&n[..128], e).is_err(), "1024 bits");
        assert!(PublicKey::from_rsa_numbers(n, &[3]).is_err());
        assert!(PublicKey::from_rsa_numbers(&[], &[]).is_err());
    }

    #[test]
    fn r_and_s_become_der_without_needless_zeros() {
        let raw = [&[0u8; 31][..], &[1], &[0xff; 32]].concat();
        let der = ecdsa_to_der(&raw).unwrap();
        assert_eq!(der, [&[0x30, 38, 2, 1, 1, 2, 33, 0][..], &[0xff; 32]].concat());
        assert!(ecdsa_to_der(&raw[1..]).is_err() && ecdsa_to_der(&[]).is_err());
    }

    #[test]
    fn the_digest_info_is_that_of_rfc_8017() {
        // Section 9.2, note 1.
        let head = "3031300d060960864801650304020105000420";
        let info = digest_info(HashName::Sha256, &[9; 32]).unwrap();
        assert_eq!(hex::encode(&info), format!("{head}{}", "09".repeat(32)));
    }
}
