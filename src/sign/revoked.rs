//! What is trusted no more: keys, certificates and files, each with the entry that says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use der::asn1::{AnyRef, BitStringRef};
use der::{Encode, Reader, SliceReader};

use super::{Certificate, KeyId};
use crate::verity::FileDigest;

/// Something that can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevokedItem {
    /// A key, wherever it comes from.
    Key(KeyId),
    /// A certificate, by the SHA-256 of its DER, and all that hangs on it.
    Certificate([u8; 32]),
    /// A file's content, whoever signed it.
    Digest(FileDigest),
}

/// As an entry writes it: `HEX`, `cert-sha256:HEX` or `sha256:HEX`.
impl fmt::Display for RevokedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Certificate(fingerprint) => write!(f, "cert-sha256:{}", hex::encode(fingerprint)),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// All that is revoked. Each item has the entry that revokes it, as `revoked/2026.txt:3`. Cheap to
/// clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(Arc<BTreeMap<RevokedItem, String>>);

impl Revoked {
    /// Revokes `item` by `entry`; an item that is there already keeps its first entry.
    pub fn add(&mut self, item: RevokedItem, entry: &str) {
        Arc::make_mut(&mut self.0).entry(item).or_insert_with(|| entry.to_owned());
    }

    /// The entry that revokes this key.
    pub fn key(&self, id: &KeyId) -> Option<&str> {
        self.entry(RevokedItem::Key(*id))
    }

    /// The entry that revokes the certificate with this fingerprint.
    ///
    /// Whoever can make an ECDSA signature can give a certificate a second fingerprint:
    /// [`Revoked::names`] looks through that.
    pub fn certificate(&self, fingerprint: &[u8; 32]) -> Option<&str> {
        self.entry(RevokedItem::Certificate(*fingerprint))
    }

    /// The entry that revokes files with this fs-verity digest.
    pub fn digest(&self, digest: &FileDigest) -> Option<&str> {
        self.entry(RevokedItem::Digest(*digest))
    }

    /// The entry that revokes `certificate`: by its fingerprint, by that of its twin, or by its key.
    ///
    /// An ECDSA signature (r, s) holds as (r, n - s) too, so anybody can turn a certificate into
    /// another that is as valid and has another fingerprint. Both are revoked together.
    pub fn names(&self, certificate: &Certificate) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let own = self.certificate(&certificate.fingerprint());
        own.or_else(|| self.key(&certificate.key().key_id()))
            .or_else(|| twins(certificate.der()).into_iter().find_map(|twin| self.certificate(&twin)))
    }

    fn entry(&self, item: RevokedItem) -> Option<&str> {
        self.0.get(&item).map(String::as_str)
    }

    /// Number of revoked items.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All items with their entries.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (RevokedItem, &str)> {
        self.0.iter().map(|(item, entry)| (*item, entry.as_str()))
    }

    /// What is revoked here and was not in `before`.
    pub fn new_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (RevokedItem, &'a str)> {
        self.entries().filter(|(item, _)| !before.0.contains_key(item))
    }
}

/// The fingerprints of the certificates that differ from `certificate` in the other form of its
/// ECDSA signature alone: one for each curve that the issuer's key may be on.
fn twins(certificate: &[u8]) -> Vec<[u8; 32]> {
    let parts = SliceReader::new(certificate).and_then(|mut reader| {
        reader.sequence(|r| -> der::Result<_> {
            Ok((r.decode::<AnyRef<'_>>()?, r.decode::<AnyRef<'_>>()?, r.decode::<BitStringRef<'_>>()?))
        })
    });
    let Ok((signed, algorithm, signature)) = parts else { return Vec::new() };
    let signature = signature.raw_bytes();
    let p256 = p256::ecdsa::Signature::from_der(signature).ok().and_then(|found| {
        let (r, s) = found.split_scalars();
        Some(p256::ecdsa::Signature::from_scalars(r, -*s).ok()?.to_der().as_bytes().to_vec())
    });
    let p384 = p384::ecdsa::Signature::from_der(signature).ok().and_then(|found| {
        let (r, s) = found.split_scalars();
        Some(p384::ecdsa::Signature::from_scalars(r, -*s).ok()?.to_der().as_bytes().to_vec())
    });
    let encode = |other: Vec<u8>| -> der::Result<[u8; 32]> {
        let other = BitStringRef::from_bytes(&other)?.to_der()?;
        let body = [signed.to_der()?, algorithm.to_der()?, other].concat();
        Ok(super::certificate::sha256(&AnyRef::new(der::Tag::Sequence, &body)?.to_der()?))
    };
    [p256, p384].into_iter().flatten().filter_map(|other| encode(other).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;

    const P256: &[u8] = include_bytes!("../../tests/vectors/keys/ecp256.crt.der");
    const RSA: &[u8] = include_bytes!("../../tests/vectors/keys/rsa2048.crt.der");

    #[test]
    fn an_item_keeps_its_first_entry_and_what_is_new_is_told() {
        let (id, digest) = (fixture::key("p256").key_id(), fixture::descriptor().file_digest());
        let mut before = Revoked::default();
        assert!(before.is_empty() && before.key(&id).is_none());
        before.add(RevokedItem::Key(id), "revoked/a.txt:1");
        before.add(RevokedItem::Key(id), "revoked/b.txt:2");
        let mut after = before.clone();
        after.add(RevokedItem::Digest(digest), "revoked/b.txt:3");
        assert_eq!((before.len(), after.len()), (1, 2));
        assert_eq!(
            (after.key(&id), after.digest(&digest)),
            (Some("revoked/a.txt:1"), Some("revoked/b.txt:3"))
        );
        assert_eq!(
            after.new_since(&before).collect::<Vec<_>>(),
            [(RevokedItem::Digest(digest), "revoked/b.txt:3")]
        );
        assert!(before.new_since(&after).next().is_none());
        assert_eq!(RevokedItem::Digest(digest).to_string(), digest.to_string());
    }

    #[test]
    fn a_certificate_is_named_by_its_fingerprint_or_by_its_key() {
        let certificate = Certificate::from_der(RSA).unwrap();
        let mut revoked = Revoked::default();
        assert_eq!(revoked.names(&certificate), None);
        revoked.add(RevokedItem::Key(certificate.key().key_id()), "key");
        assert_eq!(revoked.names(&certificate), Some("key"));
        revoked.add(RevokedItem::Certificate(certificate.fingerprint()), "certificate");
        assert_eq!(revoked.names(&certificate), Some("certificate"));
        assert_eq!(revoked.names(&Certificate::from_der(P256).unwrap()), None);
    }

    #[test]
    fn the_other_form_of_an_ecdsa_signature_does_not_escape_revocation() {
        let good = Certificate::from_der(P256).unwrap();
        let parsed = SliceReader::new(P256).unwrap().sequence(|r| -> der::Result<_> {
            Ok((r.decode::<AnyRef<'_>>()?, r.decode::<AnyRef<'_>>()?, r.decode::<BitStringRef<'_>>()?))
        });
        let (signed, algorithm, signature) = parsed.unwrap();
        let found = p256::ecdsa::Signature::from_der(signature.raw_bytes()).unwrap();
        let (r, s) = found.split_scalars();
        let other = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap().to_der();
        let message = signed.to_der().unwrap();
        assert!(good.key().verify(&message, other.as_bytes()), "it is as valid");
        let other = BitStringRef::from_bytes(other.as_bytes()).unwrap().to_der().unwrap();
        let body = [message, algorithm.to_der().unwrap(), other].concat();
        let twin = AnyRef::new(der::Tag::Sequence, &body).unwrap().to_der().unwrap();
        let twin = Certificate::from_der(&twin).unwrap();
        assert_ne!(twin.fingerprint(), good.fingerprint());

        let mut revoked = Revoked::default();
        revoked.add(RevokedItem::Certificate(good.fingerprint()), "entry");
        assert_eq!(revoked.certificate(&twin.fingerprint()), None);
        assert_eq!(revoked.names(&twin), Some("entry"));
    }
}
