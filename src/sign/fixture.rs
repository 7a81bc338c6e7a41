//! Keys, a statement and a descriptor for the tests of this room. Keys are made anew by every process.

use std::sync::OnceLock;

use super::{
    Certificate, Expected, KeyAlgorithm, Keyring, Sign, SigningKey, Statement, TrustedKey, generate, pem,
    sign_statement,
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
        signed: None,
    }
}

/// What [`statement`] agrees with, one second before it expires.
pub(super) fn expected(descriptor: &Descriptor) -> Expected<'_> {
    Expected { namespace: "tree", path: b"bin/ls", descriptor, file_hashes: &[], now: EXPIRES - 1 }
}

/// [`statement`] signed with the keys of these algorithms.
pub(super) fn envelope(names: &[&str]) -> Vec<u8> {
    let keys: Vec<&dyn Sign> = names.iter().map(|name| key(name) as &dyn Sign).collect();
    sign_statement(&statement(), &keys).unwrap()
}

/// An element of DER with `parts` one behind the other in it; of less than 64 KiB.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// A self-signed certificate for the key of this algorithm, with a subject key identifier. Each has
/// another issuer and serial number.
pub(super) fn certificate(name: &str) -> Certificate {
    let key = key(name);
    // sha256WithRSAEncryption, ecdsa-with-SHA256, ecdsa-with-SHA384, Ed25519.
    let algorithm = hex::decode(match name {
        "p256" => "300a06082a8648ce3d040302",
        "p384" => "300a06082a8648ce3d040303",
        "ed25519" => "300506032b6570",
        _ => "300d06092a864886f70d01010b0500",
    })
    .unwrap();
    let common_name = tlv(0x30, &[&[0x06, 3, 0x55, 4, 3], &tlv(0x0c, &[name.as_bytes()])]);
    let subject = tlv(0x30, &[&tlv(0x31, &[&common_name])]);
    let validity = tlv(0x30, &[&tlv(0x17, &[b"250101000000Z"]), &tlv(0x17, &[b"350101000000Z"])]);
    let key_id = tlv(0x04, &[&tlv(0x04, &[&key.key_id().as_bytes()[..20]])]);
    let extension = tlv(0x30, &[&[0x06, 3, 0x55, 0x1d, 0x0e], &key_id]);
    let tbs = tlv(
        0x30,
        &[
            &[0xa0, 3, 2, 1, 2],
            &tlv(0x02, &[&[&[0x55], name.as_bytes()].concat()]),
            &algorithm,
            &subject,
            &validity,
            &subject,
            key.public_key().spki_der(),
            &tlv(0xa3, &[&tlv(0x30, &[&extension])]),
        ],
    );
    let signature = key.sign(&tbs).unwrap();
    let der = tlv(0x30, &[&tbs, &algorithm, &tlv(0x03, &[&[0], &signature])]);
    Certificate::from_der(&der).unwrap()
}
