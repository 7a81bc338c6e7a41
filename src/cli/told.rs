//! What a gateway tells of a file, and what is left of it when nobody but the keys is trusted.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::event::Cause;
use crate::export::Item;
use crate::sign::{
    Acceptance, Certificate, Expected, HashName, Keyring, Rejection, Signatures, read_envelope, verify,
};
use crate::store::is_plain;
use crate::verity::Descriptor;

/// The most certificates that are read.
const CERTIFICATES_MAX: usize = 16;
/// The most characters of a gateway's words that are shown.
const SHOWN_MAX: usize = 1000;

/// The items of one file. All of it is a claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) descriptor: Option<Bytes>,
    pub(super) digest: Option<Bytes>,
    pub(super) status: Option<Bytes>,
    statement: Option<Bytes>,
    pkcs7: Vec<Bytes>,
    ima: Vec<Bytes>,
    certificates: Vec<Bytes>,
}

impl Told {
    /// The items that are looked at.
    pub(super) const ITEMS: [Item; 7] = [
        Item::Status,
        Item::Digest,
        Item::Descriptor,
        Item::Statement,
        Item::Signature,
        Item::Ima,
        Item::Certificates,
    ];

    /// Takes the value of an item.
    pub(super) fn take(&mut self, item: Item, value: Bytes) {
        match item {
            Item::Digest => self.digest = Some(value),
            Item::Descriptor => self.descriptor = Some(value),
            Item::Statement => self.statement = Some(value),
            Item::Signature => self.pkcs7 = vec![value],
            Item::Status => self.status = Some(value),
            Item::Ima => self.ima = vec![value],
            Item::Certificates => self.certificates = certificates(&value),
            Item::Signer | Item::Tree => {}
        }
    }

    /// The signatures.
    pub(super) fn signatures(&self) -> Signatures<'_> {
        Signatures {
            statement: self.statement.as_deref(),
            pkcs7: &self.pkcs7,
            ima: &self.ima,
            certificates: &self.certificates,
        }
    }

    /// The descriptor, where there is one.
    pub(super) fn read_descriptor(&self) -> Result<Option<Descriptor>, Rejection> {
        let parsed = self.descriptor.as_deref().map(Descriptor::parse).transpose();
        parsed.map_err(|error| Rejection { cause: Cause::MalformedEvidence, detail: error.to_string() })
    }

    /// Whether the digest that is told, if one is, names `descriptor`.
    pub(super) fn digest_is_of(&self, descriptor: &Descriptor) -> Result<(), Rejection> {
        let right = descriptor.file_digest().to_string();
        match &self.digest {
            Some(digest) if digest.trim_ascii() != right.as_bytes() => {
                let detail =
                    format!("the gateway tells the digest {}, its descriptor has {right}", shown(digest));
                Err(Rejection { cause: Cause::WrongDigest, detail })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The first word of the status: `verified`, or the cause why not.
    pub(super) fn says_verified(&self) -> Option<bool> {
        self.status.as_ref().map(|status| status.trim_ascii() == b"verified")
    }

    /// The status for people.
    pub(super) fn status_shown(&self) -> Option<String> {
        self.status.as_ref().map(|status| shown(status.trim_ascii()))
    }

    /// Whether the evidence is that of `other`.
    pub(super) fn same_evidence(&self, other: &Self) -> bool {
        let of = |told: &Self| {
            (told.descriptor.clone(), told.statement.clone(), told.pkcs7.clone(), told.ima.clone())
        };
        of(self) == of(other)
    }

    /// Whether a signature that does not hold here may hold by the keys of somebody else, or another one
    /// beside it: all but native ones name no key for certain.
    pub(super) fn may_hold_elsewhere(&self, keyring: &Keyring) -> bool {
        let claim = self.statement.as_deref().and_then(|envelope| read_envelope(envelope).ok());
        let mut named = claim.iter().flat_map(|claim| &claim.key_ids);
        !self.pkcs7.is_empty() || !self.ima.is_empty() || named.any(|id| keyring.get(id).is_none())
    }

    /// Who vouches for a file with this descriptor under this path.
    pub(super) fn judge(
        &self,
        descriptor: &Descriptor,
        keyring: &Keyring,
        namespace: &str,
        path: &[u8],
        file_hashes: &[(HashName, Vec<u8>)],
    ) -> Result<Acceptance, Rejection> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        verify(&self.signatures(), keyring, &Expected { namespace, path, descriptor, file_hashes, now })
    }
}

/// Certificates in PEM, one behind the other. One that cannot be read leads nowhere, which the signature
/// that needs it will tell.
fn certificates(pem: &[u8]) -> Vec<Bytes> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let (mut found, mut rest) = (Vec::new(), pem.trim_ascii());
    while found.len() < CERTIFICATES_MAX
        && let Some(at) = rest.windows(END.len()).position(|window| window == END)
    {
        let (one, tail) = rest.split_at(at + END.len());
        if let Ok(certificate) = Certificate::from_pem(&[one, b"\n"].concat()) {
            found.push(Bytes::copy_from_slice(certificate.der()));
        }
        rest = tail.trim_ascii();
    }
    found
}

/// A stranger's words on one line of bounded length, without anything that a terminal acts on.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..4 * SHOWN_MAX).unwrap_or(bytes));
    let mut line: String = text.chars().take(SHOWN_MAX).map(|c| if is_plain(c) { c } else { ' ' }).collect();
    if line.len() < bytes.len() && text.chars().nth(SHOWN_MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::{Digest, HashAlgorithm, Params};

    #[test]
    fn certificates_are_found_one_behind_the_other() {
        let one = Certificate::from_der(include_bytes!("../../tests/vectors/keys/rsa2048.crt.der")).unwrap();
        let two = Certificate::from_der(include_bytes!("../../tests/vectors/keys/ecp256.crt.der")).unwrap();
        let pem = |certificate: &Certificate| crate::sign::certificate_to_pem(certificate.der()).unwrap();
        let both = [pem(&one), pem(&two)].concat();
        let der = |certificate: &Certificate| Bytes::copy_from_slice(certificate.der());
        assert_eq!(certificates(both.as_bytes()), [der(&one), der(&two)]);
        assert_eq!(certificates(both.trim_end().as_bytes()).len(), 2);
        for cut in 0..both.len() - 1 {
            assert!(certificates(&both.as_bytes()[..cut]).len() < 2 || cut == both.len() - 1, "{cut}");
        }
        assert_eq!(certificates(pem(&one).repeat(100).as_bytes()).len(), CERTIFICATES_MAX);
        assert!(certificates(&[b'-'; 100_000]).is_empty());
    }

    #[test]
    fn words_of_a_stranger_are_one_short_line() {
        assert_eq!(shown(b"bad-block: block 5"), "bad-block: block 5");
        assert_eq!(shown(b"a\x1b[31m\nb\xff"), "a [31m b\u{fffd}");
        assert_eq!(shown("a\u{202e}b\u{2028}c".as_bytes()), "a b c");
        assert_eq!(shown(&[b'x'; 100_000]).chars().count(), SHOWN_MAX + 1);
        assert_eq!(shown("ä".repeat(5000).as_bytes()).chars().count(), SHOWN_MAX + 1);
    }

    #[test]
    fn only_the_word_verified_means_verified() {
        let says = |status: &'static [u8]| {
            let mut told = Told::default();
            told.take(Item::Status, Bytes::from_static(status));
            told.says_verified()
        };
        assert_eq!(Told::default().says_verified(), None);
        assert_eq!(says(b"verified"), Some(true));
        assert_eq!(says(b"verified\n"), Some(true));
        for other in [&b""[..], b"Verified", b"verified: not", b"unsigned", b"verifiedx"] {
            assert_eq!(says(other), Some(false), "{other:?}");
        }
    }

    #[test]
    fn a_digest_that_is_not_the_descriptors_is_refused() {
        let (params, root_hash) = (Params::default(), Digest::zero(HashAlgorithm::Sha256));
        let descriptor = Descriptor { params, size: 0, root_hash };
        let mut told = Told::default();
        assert!(told.digest_is_of(&descriptor).is_ok());
        told.take(Item::Digest, descriptor.file_digest().to_string().into());
        assert!(told.digest_is_of(&descriptor).is_ok());
        told.take(Item::Digest, Bytes::from_static(b"sha256:00"));
        assert_eq!(told.digest_is_of(&descriptor).unwrap_err().cause, Cause::WrongDigest);
    }
}
