//! The hashes that signatures are made over, by their names in CMS (RFC 5754) and IMA
//! (the kernel's `include/uapi/linux/hash_info.h`). SHA-1 and MD5 are not among them.

use der::asn1::ObjectIdentifier;
use ring::digest::{self, Algorithm};

use crate::verity::HashAlgorithm;

/// A hash under a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashName {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name, as in `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash's object identifier.
    pub const fn oid(self) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(match self {
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        })
    }

    /// The hash with this object identifier.
    pub fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.oid() == oid)
    }

    /// The kernel's `enum hash_algo`.
    pub const fn ima_id(self) -> u8 {
        match self {
            Self::Sha256 => 4,
            Self::Sha384 => 5,
            Self::Sha512 => 6,
        }
    }

    /// The hash with this number in the kernel's `enum hash_algo`.
    pub fn from_ima_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.ima_id() == id)
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        digest::digest(self.ring(), bytes).as_ref().to_vec()
    }

    /// A hasher that takes bytes piece by piece.
    pub fn hasher(self) -> StreamHasher {
        StreamHasher(digest::Context::new(self.ring()))
    }

    const fn ring(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

impl From<HashAlgorithm> for HashName {
    fn from(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256,
            HashAlgorithm::Sha512 => Self::Sha512,
        }
    }
}

impl std::fmt::Display for HashName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Hashes a stream of bytes.
#[derive(Clone)]
pub struct StreamHasher(digest::Context);

impl StreamHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that came.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_oids_and_numbers_lead_back() {
        for hash in HashName::ALL {
            assert_eq!(HashName::from_oid(hash.oid()), Some(hash));
            assert_eq!(HashName::from_ima_id(hash.ima_id()), Some(hash));
            assert_eq!(hash.digest(b"abc").len(), hash.digest_size());
            let mut stream = hash.hasher();
            [&b"a"[..], b"", b"bc"].iter().for_each(|part| stream.update(part));
            assert_eq!(stream.finish(), hash.digest(b"abc"));
        }
        // SHA-1 has number 2 and MD5 number 1.
        assert_eq!((HashName::from_ima_id(2), HashName::from_ima_id(1)), (None, None));
    }
}
