//! PKCS#7 signatures, detached as fs-verity's built-in ones are, and around policies: SignedData of RFC 2315 section 9 and
//! RFC 5652 section 5, in DER.
//!
//! What is made is what `fsverity sign` makes. What is accepted is what the kernel accepts
//! (`crypto/asymmetric_keys/pkcs7_parser.c`, `pkcs7_verify.c`) with these differences. Refused here:
//! BER, content where none belongs, SEQUENCEs in the place of SETs, hashes and keys outside of this room's, and
//! ECDSA with another hash than its own algorithm says. Accepted here: attributes of S/MIME, which
//! OpenSSL adds and which mean nothing to a detached signature.
//!
//! Reading proves nothing. The signed digest is the caller's own: one in the message only has to agree.
//! Knows nothing of fs-verity, chains or trust; CRLs and unsigned attributes are skipped unread, since
//! nothing protects them.

mod make;
mod parse;

#[cfg(test)]
mod hostile;

use std::fmt;

use der::Decode;
use der::asn1::ObjectIdentifier;
use x509_cert::name::Name;

use super::key::KeyKind;
use super::text::Quoted;
use super::{Certificate, HashName, PublicKey, SignError};

pub use make::{make_attached, make_pkcs7};

/// The longest signature that the kernel keeps with an fs-verity file, in bytes
/// (`FS_VERITY_MAX_SIGNATURE_SIZE` of `include/linux/fsverity.h`).
pub const PKCS7_MAX: usize = 16_128;
/// The longest signature that is looked at behind a file, in bytes.
pub const PKCS7_APPENDED_MAX: usize = 64 * 1024;
/// The longest message with its content that is looked at, in bytes.
pub const PKCS7_ATTACHED_MAX: usize = 2 * 1024 * 1024;

/// Signers, certificates and digest algorithms in one message at most, each.
const LIST_MAX: usize = 16;
/// Signed attributes of one signer at most.
const ATTRIBUTES_MAX: usize = 32;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Tags of DER.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// `[0]` in the place of a primitive type.
    pub(super) const PRIMITIVE_0: u8 = 0x80;
    pub(super) const CONTEXT_0: u8 = 0xa0;
    pub(super) const CONTEXT_1: u8 = 0xa1;
}

/// ecdsa-with-SHA256 and its kin (RFC 5758 section 3.2).
const fn ecdsa_oid(hash: HashName) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(match hash {
        HashName::Sha256 => "1.2.840.10045.4.3.2",
        HashName::Sha384 => "1.2.840.10045.4.3.3",
        HashName::Sha512 => "1.2.840.10045.4.3.4",
    })
}

/// A PKCS#7 message that was read, and nothing more.
#[derive(Clone, Debug)]
pub struct Pkcs7 {
    signers: Vec<Pkcs7Signer>,
    unsupported: Vec<String>,
    certificates: Vec<Certificate>,
}

impl Pkcs7 {
    /// Reads a message of at most [`PKCS7_MAX`] bytes.
    ///
    /// # Errors
    /// [`SignError::TooLong`], or [`SignError::Pkcs7`] for what is no detached PKCS#7 signature in DER,
    /// and for one without a signer whose algorithms are supported.
    pub fn parse(der: &[u8]) -> Result<Self, SignError> {
        parse::message(der, PKCS7_MAX)
    }

    /// The same for a message that was found behind a file: of at most [`PKCS7_APPENDED_MAX`] bytes.
    ///
    /// # Errors
    /// As [`Pkcs7::parse`].
    pub fn parse_appended(der: &[u8]) -> Result<Self, SignError> {
        parse::message(der, PKCS7_APPENDED_MAX)
    }

    /// Reads a message of at most [`PKCS7_ATTACHED_MAX`] bytes that carries its content, and gives that, too:
    /// what `openssl smime -sign -nodetach` makes.
    ///
    /// # Errors
    /// As [`Pkcs7::parse`], and for a message without content.
    pub fn parse_attached(der: &[u8]) -> Result<(Self, &[u8]), SignError> {
        parse::attached(der, PKCS7_ATTACHED_MAX)
    }

    /// The signers whose algorithms are supported, at least one, in the order of the message. The
    /// kernel wants every one of them to verify.
    pub fn signers(&self) -> &[Pkcs7Signer] {
        &self.signers
    }

    /// The other signers, which the kernel passes over, and why, for people. Each is one line of
    /// bounded length.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// The certificates in the message, as material for chains: those that can be read and used here.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// True when the signers sign attributes, which hold the digest of the content. The kernel accepts
    /// this everywhere but behind a file (`VERIFYING_MODULE_SIGNATURE`).
    pub fn has_signed_attributes(&self) -> bool {
        self.signers.iter().any(|signer| signer.attributes.is_some())
    }
}

/// How a message names the certificate of a signer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SignerId {
    /// The issuer's Name in DER and the content octets of the serial number.
    Issued { issuer: Vec<u8>, serial: Vec<u8> },
    /// The subject key identifier.
    KeyId(Vec<u8>),
}

/// The one line that tells people about a signer's certificate.
impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longer ones are no serial numbers (RFC 5280 section 4.1.2.2) and no digests.
        const SHOWN: usize = 64;
        let hex = |bytes: &[u8]| hex::encode(bytes.get(..SHOWN).unwrap_or(bytes));
        match self {
            Self::Issued { issuer, serial } => {
                let name = Name::from_der(issuer).map(|name| name.to_string()).unwrap_or_default();
                write!(f, "serial number {} of issuer {}", hex(serial), Quoted(name.as_bytes()))
            }
            Self::KeyId(id) => write!(f, "subject key id {}", hex(id)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    RsaPkcs1,
    Ecdsa,
}

/// What is signed in place of the content.
#[derive(Clone, Debug)]
struct Attributes {
    /// The digest of the content that the signer saw.
    message_digest: Vec<u8>,
    /// The signed bytes: the attributes as a SET OF.
    encoded: Vec<u8>,
}

/// One signer of a message.
#[derive(Clone, Debug)]
pub struct Pkcs7Signer {
    id: SignerId,
    hash: HashName,
    scheme: Scheme,
    attributes: Option<Attributes>,
    signature: Vec<u8>,
}

impl Pkcs7Signer {
    /// The hash under which the content is signed.
    pub const fn hash(&self) -> HashName {
        self.hash
    }

    /// True when the message names this certificate as the signer's: by issuer and serial number, or by
    /// subject key identifier. It proves nothing.
    pub fn names(&self, certificate: &Certificate) -> bool {
        match &self.id {
            SignerId::Issued { issuer, serial } => {
                issuer == certificate.issuer_der() && serial == certificate.serial_der()
            }
            SignerId::KeyId(id) => certificate.subject_key_id() == Some(id),
        }
    }

    /// True when `key` signed the content that has this `digest` under [`Pkcs7Signer::hash`].
    ///
    /// Where there are signed attributes, they must hold the digest and the signature is over them.
    pub fn verify(&self, digest: &[u8], key: &PublicKey) -> bool {
        let scheme = match key.kind() {
            KeyKind::Rsa { .. } => Scheme::RsaPkcs1,
            KeyKind::P256 | KeyKind::P384 => Scheme::Ecdsa,
            KeyKind::Ed25519 => return false,
        };
        if scheme != self.scheme {
            return false;
        }
        match &self.attributes {
            None => key.verify_digest(self.hash, digest, &self.signature),
            Some(attributes) => {
                attributes.message_digest == digest
                    && key.verify_digest(self.hash, &self.hash.digest(&attributes.encoded), &self.signature)
            }
        }
    }

    /// The signer for people: algorithms, and how the message names the certificate. One line of
    /// bounded length.
    pub fn describe(&self) -> String {
        let scheme = match self.scheme {
            Scheme::RsaPkcs1 => "rsa",
            Scheme::Ecdsa => "ecdsa",
        };
        format!("{scheme} with {}, {}", self.hash, self.id)
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::Pkcs7 { reason: reason.to_string() }
}
