//! X.509 certificates (RFC 5280): whose key it is, how signatures name it, and what it may be used for.
//!
//! Only strict DER is taken, so a certificate has one encoding and one fingerprint. Reading proves
//! nothing: a certificate counts because it is pinned, or because `verify_chain` finds its issuers.
//! Extensions other than basic constraints, key usage, extended key usage and the subject's key id
//! are not looked at here.

use std::fmt;
use std::sync::Arc;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier};
use x509_cert::name::Name;

use super::{PublicKey, SignError, pem};

/// The longest certificate in bytes of DER.
const DER_MAX: usize = pem::KEY_FILE_MAX;
/// Extensions in one certificate at most; usual ones have fewer than twenty.
const EXTENSIONS_MAX: usize = 64;
/// About how many bytes of a name are shown.
const NAME_SHOWN: usize = 100;
/// RFC 5280 section 4.2.1.12.
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");

/// An X.509 certificate that was read, and nothing more: not that it is valid or trusted. Cheap to
/// clone; equal when the encodings are.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    fingerprint: [u8; 32],
    key: PublicKey,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    serial: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    name: String,
    not_before: i64,
    not_after: i64,
    uses: Uses,
}

/// What the extensions allow.
struct Uses {
    authority: bool,
    path_length: Option<u8>,
    signing: bool,
    code_signing: bool,
}

impl Certificate {
    /// Reads a certificate in DER, of at most 16 KiB.
    ///
    /// # Errors
    /// [`SignError::TooLong`]; [`SignError::Certificate`] for what is no X.509 certificate in strict
    /// DER; and what [`PublicKey::from_spki_der`] says about its key, as that RSA with 1024 bits is
    /// refused.
    pub fn from_der(der: &[u8]) -> Result<Self, SignError> {
        if der.len() > DER_MAX {
            return Err(SignError::TooLong { what: "certificate", found: der.len(), max: DER_MAX });
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(refuse)?;
        if parsed.to_der().map_err(refuse)? != der {
            return Err(refuse("its encoding is not canonical DER"));
        }
        let tbs = parsed.tbs_certificate();
        if tbs.signature() != parsed.signature_algorithm() {
            return Err(refuse("it names two signature algorithms"));
        }
        let seconds =
            |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).map_err(refuse);
        let subject_key_id = tbs.get_extension::<SubjectKeyIdentifier>().map_err(refuse)?;
        Ok(Self(Arc::new(Inner {
            fingerprint: sha256(der),
            key: PublicKey::from_spki_der(&tbs.subject_public_key_info().to_der().map_err(refuse)?)?,
            issuer: tbs.issuer().to_der().map_err(refuse)?,
            subject: tbs.subject().to_der().map_err(refuse)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            subject_key_id: subject_key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
            name: name_for_people(tbs.subject()),
            not_before: seconds(tbs.validity().not_before)?,
            not_after: seconds(tbs.validity().not_after)?,
            uses: Uses::of(tbs)?,
            der: der.to_vec(),
        })))
    }

    /// Reads one PEM block `CERTIFICATE` of at most 16 KiB.
    ///
    /// # Errors
    /// As [`Certificate::from_der`], and [`SignError::Pem`] or [`SignError::PemLabel`] for what is
    /// not one such block.
    pub fn from_pem(text: &[u8]) -> Result<Self, SignError> {
        Self::from_der(&pem::decode(text, pem::CERTIFICATE)?)
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The SHA-256 of the DER, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// The key that the certificate is about.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// The issuer's Name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer
    }

    /// The subject's Name in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// The content octets of the serial number's INTEGER.
    pub fn serial_der(&self) -> &[u8] {
        &self.0.serial
    }

    /// The subject key identifier (RFC 5280 section 4.2.1.2).
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.subject_key_id.as_deref()
    }

    /// The key id in IMA signatures: the last four bytes of the subject key identifier, else those
    /// of the key's own id (the kernel's `security/integrity/digsig_asymmetric.c`).
    pub fn ima_key_id(&self) -> [u8; 4] {
        let tail = self.subject_key_id().and_then(|id| id.last_chunk::<4>());
        tail.copied().unwrap_or_else(|| self.key().ima_key_id())
    }

    /// The subject for people: its common name, or the whole name where it has none. One line of
    /// bounded length; what cannot be printed is escaped.
    pub fn subject(&self) -> String {
        self.0.name.clone()
    }

    /// The first second at which the certificate is valid, since 1970.
    pub fn not_before(&self) -> i64 {
        self.0.not_before
    }

    /// The last second at which the certificate is valid, since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }

    /// True when its key may sign certificates: basic constraints say that it is an authority, and
    /// the key usage, where there is one, has keyCertSign.
    pub fn is_authority(&self) -> bool {
        self.0.uses.authority
    }

    /// For an authority: how many authorities may stand below it in a chain; `None` for any number.
    pub fn path_length(&self) -> Option<u8> {
        self.0.uses.path_length
    }

    /// True when its key may sign other things than certificates: there is no key usage, or it has
    /// digitalSignature.
    pub fn may_sign(&self) -> bool {
        self.0.uses.signing
    }

    /// True when there is no extended key usage, or it has codeSigning.
    pub fn is_for_code(&self) -> bool {
        self.0.uses.code_signing
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} {:?})", self.0.name, self.0.key)
    }
}

impl Uses {
    fn of(tbs: &TbsCertificate) -> Result<Self, SignError> {
        let extensions = tbs.extensions().map_or(&[][..], |list| list.as_slice());
        if extensions.len() > EXTENSIONS_MAX {
            return Err(refuse(format!("it has more than {EXTENSIONS_MAX} extensions")));
        }
        let twice = |(at, one): (usize, &x509_cert::ext::Extension)| {
            extensions.iter().skip(at + 1).any(|other| other.extn_id == one.extn_id)
        };
        if extensions.iter().enumerate().any(twice) {
            return Err(refuse("it has an extension twice"));
        }
        let constraints = tbs.get_extension::<BasicConstraints>().map_err(refuse)?.map(|(_, found)| found);
        let usage = tbs.get_extension::<KeyUsage>().map_err(refuse)?.map(|(_, found)| found);
        let purposes = tbs.get_extension::<ExtendedKeyUsage>().map_err(refuse)?.map(|(_, found)| found);
        let authority = constraints.as_ref().is_some_and(|found| found.ca)
            && usage.is_none_or(|usage| usage.key_cert_sign());
        Ok(Self {
            authority,
            path_length: constraints.filter(|_| authority).and_then(|found| found.path_len_constraint),
            signing: usage.is_none_or(|usage| usage.digital_signature()),
            code_signing: purposes.is_none_or(|purposes| purposes.0.contains(&CODE_SIGNING)),
        })
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::Certificate { reason: reason.to_string() }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    out.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// The common name, or all of `name` where it has none, on one line.
fn name_for_people(name: &Name) -> String {
    let text = match name.common_name() {
        Ok(Some(common)) => common.value().into_owned(),
        _ => name.to_string(),
    };
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() > NAME_SHOWN {
            shown.push('\u{2026}');
            break;
        }
        match c {
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if shown.is_empty() { "(no name)".to_owned() } else { shown }
}

/// A certificate in DER as one PEM block; it is not looked into.
///
/// # Errors
/// [`SignError::Pem`] for what is too long to be encoded.
pub fn certificate_to_pem(der: &[u8]) -> Result<String, SignError> {
    pem::encode(der, pem::CERTIFICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Self-signed, not authorities, for code signing; see `tests/vectors/README.md`.
    const VECTORS: [(&str, &str, &[u8], &[u8]); 3] = [
        (
            "p256",
            "ecp256",
            include_bytes!("../../tests/vectors/keys/ecp256.crt.pem"),
            include_bytes!("../../tests/vectors/keys/ecp256.crt.der"),
        ),
        (
            "p384",
            "ecp384",
            include_bytes!("../../tests/vectors/keys/ecp384.crt.pem"),
            include_bytes!("../../tests/vectors/keys/ecp384.crt.der"),
        ),
        (
            "rsa2048",
            "rsa2048",
            include_bytes!("../../tests/vectors/keys/rsa2048.crt.pem"),
            include_bytes!("../../tests/vectors/keys/rsa2048.crt.der"),
        ),
    ];

    #[test]
    fn certificates_made_by_openssl_say_whose_key_it_is_and_what_for() {
        for (algorithm, name, pem, der) in VECTORS {
            let certificate = Certificate::from_pem(pem).unwrap();
            assert_eq!(certificate, Certificate::from_der(der).unwrap());
            assert_eq!(certificate.der(), der);
            assert_eq!(certificate.key().algorithm_name(), algorithm);
            assert_eq!(certificate.subject(), name);
            assert_eq!(certificate.issuer_der(), certificate.subject_der());
            assert_eq!(certificate.serial_der().len(), 20);
            assert!(certificate.may_sign() && certificate.is_for_code() && !certificate.is_authority());
            assert!(certificate.not_before() < certificate.not_after());
            // `openssl req -x509` derives the identifier from the key, as IMA does without one.
            assert_eq!(certificate.ima_key_id(), certificate.key().ima_key_id());
        }
        let first = Certificate::from_der(VECTORS[0].3).unwrap();
        assert_eq!(first.ima_key_id(), [0x33, 0x2c, 0x6b, 0xfa]);
        assert_eq!(hex::encode(first.serial_der()), "71786be714fb2395d4f5b596366f3c247cbe9641");
        assert_eq!(first.not_before(), 1_795_468_547);
    }

    #[test]
    fn certificates_cut_or_extended_are_refused() {
        for (name, _, _, der) in VECTORS {
            for cut in 0..der.len() {
                assert!(Certificate::from_der(&der[..cut]).is_err(), "{name} cut at {cut}");
            }
            assert!(Certificate::from_der(&[der, &[0]].concat()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_changed_certificate_is_another_one() {
        for (name, _, _, der) in VECTORS {
            let good = Certificate::from_der(der).unwrap();
            for at in 0..der.len() {
                for bit in 0..8 {
                    let mut changed = der.to_vec();
                    changed[at] ^= 1 << bit;
                    if let Ok(other) = Certificate::from_der(&changed) {
                        assert_eq!(other.der(), changed);
                        assert_ne!(other.fingerprint(), good.fingerprint(), "{name} byte {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_and_nesting_that_lie_are_refused_without_memory() {
        for lie in [
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..],
            &[0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x30],
            &[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0],
            &[0x30, 0x81, 0x00],
            &[0xff; 32],
            &[0x30; 4096],
            &[0x30, 0x80].repeat(4000),
        ] {
            assert!(matches!(Certificate::from_der(lie), Err(SignError::Certificate { .. })));
        }
        // Well-formed sequences in one another, as deep as they fit.
        let mut nested = vec![0x05, 0x00];
        while nested.len() < DER_MAX - 8 {
            nested =
                [&[0x30, 0x82][..], &u16::try_from(nested.len()).unwrap().to_be_bytes(), &nested].concat();
        }
        assert!(matches!(Certificate::from_der(&nested), Err(SignError::Certificate { .. })));
        assert!(matches!(Certificate::from_der(&[0x30; DER_MAX + 1]), Err(SignError::TooLong { .. })));
    }

    #[test]
    fn other_pem_blocks_are_refused_by_name() {
        let key = include_bytes!("../../tests/vectors/keys/ecp256.pub.pem");
        let error = Certificate::from_pem(key).unwrap_err();
        assert!(matches!(error, SignError::PemLabel { expected: "CERTIFICATE", .. }), "{error}");
    }
}
