//! Hashes of blocks with every kernel that the processor has, against one block at a time with `ring`; and the tree
//! of a file.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfs_verity::verity::{BlockHasher, BlockSize, HashAlgorithm, Params, Salt, TreeBuilder, VerityError};

fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn params(algorithm: HashAlgorithm) -> Params {
    Params { algorithm, block_size: BlockSize::new(4096).unwrap(), salt: Salt::default() }
}

fn blocks(c: &mut Criterion) {
    for (algorithm, other) in
        [(HashAlgorithm::Sha256, &ring::digest::SHA256), (HashAlgorithm::Sha512, &ring::digest::SHA512)]
    {
        for count in [1, 4, 16, 256] {
            let data = content(count * 4096);
            let mut group = c.benchmark_group(format!("{algorithm}, blocks of 4 KiB, {count} at a time"));
            group.throughput(Throughput::Bytes(data.len() as u64));
            group.bench_function("ring", |b| {
                b.iter(|| {
                    for block in data.chunks(4096) {
                        black_box(ring::digest::digest(other, black_box(block)));
                    }
                });
            });
            for (name, hasher) in BlockHasher::variants(&params(algorithm)) {
                group.bench_function(name, |b| {
                    b.iter(|| {
                        hasher.hash_many(black_box(&data), |_, hash| {
                            black_box(hash);
                        })
                    });
                });
            }
            group.finish();
        }
    }
}

fn tree(c: &mut Criterion) {
    let data = content(64 << 20);
    let mut group = c.benchmark_group("tree of 64 MiB");
    group.sample_size(10).throughput(Throughput::Bytes(data.len() as u64));
    for algorithm in HashAlgorithm::ALL {
        group.bench_function(algorithm.name(), |b| {
            b.iter(|| {
                let mut sink = |_: u64, block: &[u8]| {
                    black_box(block);
                    Ok::<_, VerityError>(())
                };
                let mut builder = TreeBuilder::new(params(algorithm), data.len() as u64).unwrap();
                for part in data.chunks(1 << 20) {
                    builder.update(black_box(part), &mut sink).unwrap();
                }
                builder.finish(&mut sink).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, blocks, tree);
criterion_main!(benches);
