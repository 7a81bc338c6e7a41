//! The message that `fsverity sign` of fsverity-utils makes, byte for byte where the signature is the
//! same each time (RSA): SignedData version 1, no content, no certificates, no attributes, one signer
//! named by issuer and serial number. And the same with content and certificate.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Encode, Length};

use super::{DATA, PKCS7_ATTACHED_MAX, PKCS7_MAX, RSA, SIGNED_DATA, ecdsa_oid, refuse, tag};
use crate::sign::key::KeyKind;
use crate::sign::{Certificate, HashName, Sign, SignError, ToSign};

/// Signs `message` with `hash`, as PKCS#7 without the message. `certificate` is the signer's and only
/// named.
///
/// # Errors
/// [`SignError::CannotMake`] for a key of Ed25519, [`SignError::Certificate`] for a certificate of another
/// key, [`SignError::TooLong`] when the issuer's name makes it longer than [`PKCS7_MAX`], and what the
/// signer says.
pub fn make_pkcs7(
    message: &[u8],
    hash: HashName,
    signer: &dyn Sign,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignError> {
    let made = make(message, Carries::Nothing, hash, signer, certificate)?;
    at_most(made, PKCS7_MAX)
}

/// Signs `message` with `hash`, as PKCS#7 with the message and `certificate` in it: what `openssl smime -sign
/// -binary -noattr -nodetach` makes, and what the kernel takes policies of IPE in.
///
/// # Errors
/// As [`make_pkcs7`], with [`PKCS7_ATTACHED_MAX`] as the limit.
pub fn make_attached(
    message: &[u8],
    hash: HashName,
    signer: &dyn Sign,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignError> {
    let made = make(message, Carries::All, hash, signer, certificate)?;
    at_most(made, PKCS7_ATTACHED_MAX)
}

/// What a message has in it beside signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    /// The content and the signer's certificate.
    All,
}

fn at_most(made: Vec<u8>, max: usize) -> Result<Vec<u8>, SignError> {
    match made.len() {
        found if found > max => Err(SignError::TooLong { what: "PKCS#7 signature", found, max }),
        _ => Ok(made),
    }
}

fn make(
    message: &[u8],
    carries: Carries,
    hash: HashName,
    signer: &dyn Sign,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignError> {
    let key = signer.public_key();
    if key != certificate.key() {
        return Err(SignError::Certificate {
            reason: format!("it is about the key {}, not {}", certificate.key().key_id(), key.key_id()),
        });
    }
    let algorithm = match key.kind() {
        KeyKind::Ed25519 => {
            return Err(SignError::CannotMake { algorithm: key.algorithm_name(), what: "PKCS#7 signatures" });
        }
        KeyKind::P256 | KeyKind::P384 => algorithm(ecdsa_oid(hash), None)?,
        KeyKind::Rsa { .. } => algorithm(RSA, Some(AnyRef::NULL))?,
    };
    let signature = signer.sign(hash, ToSign::Message(message))?;
    let digest = self::algorithm(hash.oid(), Some(AnyRef::NULL))?;
    let serial = tlv(tag::INTEGER, &[certificate.serial_der()])?;
    let signer_info = tlv(
        tag::SEQUENCE,
        &[
            &tlv(tag::INTEGER, &[&[1]])?,
            &tlv(tag::SEQUENCE, &[certificate.issuer_der(), &serial])?,
            &digest,
            &algorithm,
            &tlv(tag::OCTET_STRING, &[&signature])?,
        ],
    )?;
    let (content, certificates) = match carries {
        Carries::Nothing => (Vec::new(), Vec::new()),
        Carries::All => (
            tlv(tag::CONTEXT_0, &[&tlv(tag::OCTET_STRING, &[message])?])?,
            tlv(tag::CONTEXT_0, &[certificate.der()])?,
        ),
    };
    let signed_data = tlv(
        tag::SEQUENCE,
        &[
            &tlv(tag::INTEGER, &[&[1]])?,
            &tlv(tag::SET, &[&digest])?,
            &tlv(tag::SEQUENCE, &[&oid(DATA)?, &content])?,
            &certificates,
            &tlv(tag::SET, &[&signer_info])?,
        ],
    )?;
    tlv(tag::SEQUENCE, &[&oid(SIGNED_DATA)?, &tlv(tag::CONTEXT_0, &[&signed_data])?])
}

fn oid(oid: ObjectIdentifier) -> Result<Vec<u8>, SignError> {
    oid.to_der().map_err(refuse)
}

fn algorithm(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>) -> Result<Vec<u8>, SignError> {
    spki::AlgorithmIdentifierRef { oid, parameters }.to_der().map_err(refuse)
}

/// An element of DER with `parts` one behind the other in it.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Result<Vec<u8>, SignError> {
    let content = parts.concat();
    let mut element = vec![tag];
    Length::try_from(content.len()).and_then(|length| length.encode_to_vec(&mut element)).map_err(refuse)?;
    element.extend_from_slice(&content);
    Ok(element)
}
