//! What proves a file when it is opened: its signed statement, under each kind of key.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use nfs_verity::sign::{
    Expected, KeyAlgorithm, Keyring, SigningKey, Statement, TrustedKey, generate, sign_statement,
    verify_envelope,
};
use nfs_verity::verity::{Descriptor, Digest, HashAlgorithm, Params};

fn statements(c: &mut Criterion) {
    let params = Params::default();
    let descriptor = Descriptor { params, size: 1 << 30, root_hash: Digest::zero(HashAlgorithm::Sha256) };
    let path = b"releases/2026/image.raw";
    let mut group = c.benchmark_group("statement");
    for (name, algorithm) in
        [("ed25519", KeyAlgorithm::Ed25519), ("p256", KeyAlgorithm::P256), ("p384", KeyAlgorithm::P384)]
    {
        let pair = generate(algorithm).unwrap();
        let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
        let keyring = Keyring::new(vec![TrustedKey::new(key.public_key().clone(), name)]);
        let statement = Statement {
            namespace: String::new(),
            path: path.to_vec(),
            file_digest: descriptor.file_digest(),
            size: descriptor.size,
            block_size: params.block_size,
            version: 1,
            expires: None,
            signed: None,
        };
        let envelope = sign_statement(&statement, &[&key]).unwrap();
        let expected =
            Expected { namespace: "", path, descriptor: &descriptor, file_hashes: &[], now: 1_800_000_000 };
        group.bench_function(format!("{name}, checked"), |b| {
            b.iter(|| {
                verify_envelope(black_box(envelope.as_ref()), &keyring, &expected)
                    .unwrap_or_else(|_| panic!())
            });
        });
        group.bench_function(format!("{name}, made"), |b| {
            b.iter(|| sign_statement(black_box(&statement), &[&key]).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, statements);
criterion_main!(benches);
