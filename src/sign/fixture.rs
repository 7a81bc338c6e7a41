//! Keys, a statement and a descriptor for the tests of this room. Keys are made anew by every process.

use std::sync::OnceLock;

use super::{
    Expected, KeyAlgorithm, Keyring, Sign, SigningKey, Statement, TrustedKey, generate, pem, sign_statement,
};
use crate::verity::{BlockSize, Descriptor, Digest, HashAlgorithm, Params, Salt};

/// 2027-01-01T00:00:00Z.
pub(super) const EXPIRES: i64 = 1_798_761_600;

struct Fixture {
    name: &'static str,
    der: Vec<u8>,
    key: SigningKey,
}

fn all() -> &'static [Fixture] {
    static KEYS: OnceLock<Vec<Fixture>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let make = |algorithm: KeyAlgorithm| {
            let made = generate(algorithm).unwrap();
            let der = pem::decode(made.private_pem.as_bytes(), pem::PRIVATE).unwrap();
            let key = SigningKey::from_pkcs8_pem(made.private_pem.as_bytes()).unwrap();
            Fixture { name: algorithm.name(), der, key }
        };
        [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa3072]
            .map(make)
            .into()
    })
}

fn find(name: &str) -> &'static Fixture {
    all().iter().find(|fixture| fixture.name == name).unwrap()
}

/// One key of each algorithm.
pub(super) fn keys() -> impl Iterator<Item = (&'static str, &'static SigningKey)> {
    all().iter().map(|fixture| (fixture.name, &fixture.key))
}

/// The key of this algorithm.
pub(super) fn key(name: &str) -> &'static SigningKey {
    &find(name).key
}

/// The PKCS#8 of the key of this algorithm.
pub(super) fn private_der(name: &str) -> Vec<u8> {
    find(name).der.clone()
}

/// A ring that trusts the keys of these algorithms, each named after its own.
pub(super) fn keyring(names: &[&str]) -> Keyring {
    let trusted = |name: &&str| TrustedKey::new(key(name).public_key().clone(), *name);
    Keyring::new(names.iter().map(trusted).collect())
}

/// The descriptor of a file of 5000 bytes.
pub(super) fn descriptor() -> Descriptor {
    let params = Params {
        algorithm: HashAlgorithm::Sha256,
        block_size: BlockSize::new(4096).unwrap(),
        salt: Salt::new(b"salt").unwrap(),
    };
    Descriptor { params, size: 5000, root_hash: Digest::new(&[7; 32]).unwrap() }
}

/// A statement about [`descriptor`]'s file.
pub(super) fn statement() -> Statement {
    let descriptor = descriptor();
    Statement {
        namespace: "tree".to_owned(),
        path: b"bin/ls".to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: descriptor.params.block_size,
        version: 1,
        expires: Some(EXPIRES),
    }
}

/// What [`statement`] agrees with, one second before it expires.
pub(super) fn expected(descriptor: &Descriptor) -> Expected<'_> {
    Expected { namespace: "tree", path: b"bin/ls", descriptor, now: EXPIRES - 1 }
}

/// [`statement`] signed with the keys of these algorithms.
pub(super) fn envelope(names: &[&str]) -> Vec<u8> {
    let keys: Vec<&dyn Sign> = names.iter().map(|name| key(name) as &dyn Sign).collect();
    sign_statement(&statement(), &keys).unwrap()
}
