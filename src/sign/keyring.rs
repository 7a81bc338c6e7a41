//! Who is trusted, for what, and who is trusted no more.
//!
//! A keyring holds facts and finds them fast; [`super::verify_envelope`] and its kin decide.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Certificate, Format, FormatSet, KeyId, Limits, PublicKey, Requirements, Revoked};

/// A trusted key and where it comes from.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Its name for people, such as the stem of its file.
    pub name: String,
    /// The certificate that it was pinned with.
    pub certificate: Option<Certificate>,
    /// For what its signatures count.
    pub limits: Limits,
}

impl TrustedKey {
    /// A key without certificate and limits.
    pub fn new(key: PublicKey, name: impl Into<String>) -> Self {
        Self { key, name: name.into(), certificate: None, limits: Limits::default() }
    }
}

/// An authority whose certificates count.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate.
    pub certificate: Certificate,
    /// Its name for people.
    pub name: String,
    /// For what signatures made under it count. When is also a matter of its certificate.
    pub limits: Limits,
}

/// The keys and authorities whose signatures count, and what holds for all of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    keys: BTreeMap<KeyId, TrustedKey>,
    by_ima: HashMap<[u8; 4], Vec<KeyId>>,
    /// By issuer and serial number, one behind the other; a Name in DER tells where it ends.
    by_name: HashMap<Vec<u8>, Vec<KeyId>>,
    by_subject_key_id: HashMap<Vec<u8>, Vec<KeyId>>,
    authorities: Vec<Authority>,
    formats: FormatSet,
    required: Requirements,
    revoked: Revoked,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            by_ima: HashMap::new(),
            by_name: HashMap::new(),
            by_subject_key_id: HashMap::new(),
            authorities: Vec::new(),
            formats: FormatSet::NATIVE,
            required: Requirements::default(),
            revoked: Revoked::default(),
        }
    }
}

impl Keyring {
    /// A ring of `keys`: native signatures count, one is enough, nothing is revoked. A key that comes
    /// twice keeps its first name and limits, and is found by all its certificates.
    pub fn new(keys: Vec<TrustedKey>) -> Self {
        let mut ring = Inner::default();
        for trusted in keys {
            let id = trusted.key.key_id();
            index(&mut ring.by_ima, trusted.key.ima_key_id(), id);
            if let Some(certificate) = &trusted.certificate {
                index(&mut ring.by_ima, certificate.ima_key_id(), id);
                let name = [certificate.issuer_der(), certificate.serial_der()].concat();
                index(&mut ring.by_name, name, id);
                if let Some(subject) = certificate.subject_key_id() {
                    index(&mut ring.by_subject_key_id, subject.to_vec(), id);
                }
            }
            let kept = ring.keys.entry(id).or_insert_with(|| trusted.clone());
            if kept.certificate.is_none() {
                kept.certificate = trusted.certificate;
            }
        }
        Self(Arc::new(ring))
    }

    /// Trusts also what these authorities certify.
    pub fn with_authorities(mut self, authorities: Vec<Authority>) -> Self {
        Arc::make_mut(&mut self.0).authorities = authorities;
        self
    }

    /// The formats that count where a key's own limits name none.
    pub fn with_formats(mut self, formats: FormatSet) -> Self {
        Arc::make_mut(&mut self.0).formats = formats;
        self
    }

    /// How many signers files need.
    pub fn with_required(mut self, required: Requirements) -> Self {
        Arc::make_mut(&mut self.0).required = required;
        self
    }

    /// What is trusted no more.
    pub fn with_revoked(mut self, revoked: Revoked) -> Self {
        Arc::make_mut(&mut self.0).revoked = revoked;
        self
    }

    /// The trusted key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&TrustedKey> {
        self.0.keys.get(id)
    }

    /// Number of keys, not counting authorities.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// True when nobody is trusted: no keys and no authorities.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty() && self.0.authorities.is_empty()
    }

    /// The keys in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &TrustedKey> {
        self.0.keys.values()
    }

    /// The authorities.
    pub fn authorities(&self) -> &[Authority] {
        &self.0.authorities
    }

    /// The keys that an IMA signature may name by `id`: by their certificate or by themselves. Four
    /// bytes are easily met by chance, so several may have the same.
    pub fn by_ima_key_id(&self, id: &[u8; 4]) -> impl Iterator<Item = &TrustedKey> {
        self.found(self.0.by_ima.get(id))
    }

    /// The keys whose certificate has this issuer (a Name in DER) and serial number (the content of
    /// the INTEGER).
    pub fn by_certificate_name(&self, issuer_der: &[u8], serial: &[u8]) -> impl Iterator<Item = &TrustedKey> {
        self.found(self.0.by_name.get(&[issuer_der, serial].concat()))
    }

    /// The keys whose certificate has this subject key identifier.
    pub fn by_subject_key_id(&self, id: &[u8]) -> impl Iterator<Item = &TrustedKey> {
        self.found(self.0.by_subject_key_id.get(id))
    }

    fn found<'a>(&'a self, ids: Option<&'a Vec<KeyId>>) -> impl Iterator<Item = &'a TrustedKey> {
        ids.into_iter().flatten().filter_map(|id| self.get(id))
    }

    /// The formats that count where a key's own limits name none.
    pub fn formats(&self) -> FormatSet {
        self.0.formats
    }

    /// How many signers the file at `path` needs.
    pub fn required(&self, path: &[u8]) -> usize {
        self.0.required.of(path)
    }

    /// How many signers files need, by rule.
    pub fn requirements(&self) -> &Requirements {
        &self.0.required
    }

    /// Whether signatures in `format` count for any key or authority.
    pub fn accepts(&self, format: Format) -> bool {
        let keys = self.iter().map(|trusted| &trusted.limits);
        let authorities = self.authorities().iter().map(|authority| &authority.limits);
        let mut limits = keys.chain(authorities);
        limits.any(|limits| limits.formats.unwrap_or(self.formats()).contains(format))
    }

    /// The limits that let a key's signatures count in formats that bind no name, as they stand in the
    /// files beside the keys.
    pub fn relaxations(&self) -> Vec<String> {
        let keys = self.iter().map(|trusted| (&trusted.name, &trusted.limits));
        let authorities = self.authorities().iter().map(|authority| (&authority.name, &authority.limits));
        let lax = keys.chain(authorities).filter_map(|(name, limits)| {
            let formats = limits.formats.filter(|formats| formats.binds_no_name())?;
            Some(format!("formats = \"{formats}\" of {name}"))
        });
        let mut lax: Vec<String> = lax.collect();
        // A certificate may be there as a key and as an authority.
        lax.dedup();
        lax
    }

    /// What is trusted no more.
    pub fn revoked(&self) -> &Revoked {
        &self.0.revoked
    }
}

fn index<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<KeyId>>, key: K, id: KeyId) {
    let ids = map.entry(key).or_default();
    if !ids.contains(&id) {
        ids.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;

    fn certificate() -> Certificate {
        Certificate::from_der(include_bytes!("../../tests/vectors/keys/ecp256.crt.der")).unwrap()
    }

    #[test]
    fn a_key_that_comes_twice_keeps_its_first_name() {
        let trusted =
            |name: &str, label: &str| TrustedKey::new(fixture::key(name).public_key().clone(), label);
        let ring =
            Keyring::new(vec![trusted("p256", "first"), trusted("p256", "second"), trusted("p384", "third")]);
        assert_eq!((ring.len(), ring.iter().len(), ring.is_empty()), (2, 2, false));
        assert_eq!(ring.get(&fixture::key("p256").key_id()).unwrap().name, "first");
        assert!(ring.get(&fixture::key("ed25519").key_id()).is_none());
        assert!(Keyring::new(Vec::new()).is_empty());
    }

    #[test]
    fn keys_are_found_by_what_signatures_call_them() {
        let certificate = certificate();
        let pinned = TrustedKey {
            certificate: Some(certificate.clone()),
            ..TrustedKey::new(certificate.key().clone(), "pinned")
        };
        let bare = TrustedKey::new(fixture::key("p384").public_key().clone(), "bare");
        // The bare half of the pinned key comes first and keeps its name.
        let ring =
            Keyring::new(vec![TrustedKey::new(certificate.key().clone(), "same"), pinned, bare.clone()]);
        let names = |found: &mut dyn Iterator<Item = &TrustedKey>| {
            found.map(|key| key.name.clone()).collect::<Vec<_>>()
        };
        let (issuer, serial) = (certificate.issuer_der(), certificate.serial_der());
        assert_eq!(names(&mut ring.by_certificate_name(issuer, serial)), ["same"]);
        assert_eq!(names(&mut ring.by_subject_key_id(certificate.subject_key_id().unwrap())), ["same"]);
        assert_eq!(names(&mut ring.by_ima_key_id(&certificate.ima_key_id())), ["same"]);
        assert_eq!(names(&mut ring.by_ima_key_id(&bare.key.ima_key_id())), ["bare"]);
        assert_eq!(ring.get(&certificate.key().key_id()).unwrap().certificate, Some(certificate.clone()));
        assert!(ring.by_certificate_name(issuer, &serial[1..]).next().is_none());
        assert!(ring.by_subject_key_id(&[]).next().is_none());
    }

    #[test]
    fn an_authority_alone_is_somebody_trusted() {
        let authority =
            Authority { certificate: certificate(), name: "ca".into(), limits: Limits::default() };
        let ring = Keyring::new(Vec::new()).with_authorities(vec![authority]);
        assert_eq!((ring.is_empty(), ring.len(), ring.authorities().len()), (false, 0, 1));
        assert_eq!((ring.formats(), ring.required(b"x")), (FormatSet::NATIVE, 1));
        let ring = ring.with_formats("ima-v2".parse().unwrap());
        assert_eq!((ring.formats().to_string(), ring.authorities().len()), ("ima-v2".to_owned(), 1));
    }
}
