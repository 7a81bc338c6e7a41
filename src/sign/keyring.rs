//! The public keys that are trusted, by id.

use std::collections::BTreeMap;

use super::{KeyId, PublicKey};

/// A trusted key and where it comes from.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Its name for people, such as the stem of its file.
    pub name: String,
}

/// The keys whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct Keyring(BTreeMap<KeyId, TrustedKey>);

impl Keyring {
    /// A ring of `keys`. A key that comes twice keeps its first name.
    pub fn new(keys: Vec<TrustedKey>) -> Self {
        let mut ring = BTreeMap::new();
        for trusted in keys {
            ring.entry(trusted.key.key_id()).or_insert(trusted);
        }
        Self(ring)
    }

    /// The trusted key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&TrustedKey> {
        self.0.get(id)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &TrustedKey> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;

    #[test]
    fn a_key_that_comes_twice_keeps_its_first_name() {
        let trusted = |name: &str, label: &str| TrustedKey {
            key: fixture::key(name).public_key().clone(),
            name: label.to_owned(),
        };
        let ring =
            Keyring::new(vec![trusted("p256", "first"), trusted("p256", "second"), trusted("p384", "third")]);
        assert_eq!((ring.len(), ring.iter().len(), ring.is_empty()), (2, 2, false));
        assert_eq!(ring.get(&fixture::key("p256").key_id()).unwrap().name, "first");
        assert!(ring.get(&fixture::key("ed25519").key_id()).is_none());
        assert!(Keyring::new(Vec::new()).is_empty());
    }
}
