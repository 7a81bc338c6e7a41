//! What calls cost to decode: those of NFSv3 that come most, as they lie in a record.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use nfs_verity::proto::nfs3::{Arguments, procedure};

/// A handle of 44 bytes, as for a file two directories below the root.
fn handle() -> Vec<u8> {
    [&44_u32.to_be_bytes()[..], &[0xab; 44]].concat()
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("xdr");
    let read = [&handle()[..], &[0; 8], &4096_u32.to_be_bytes()].concat();
    let lookup = [&handle()[..], &9_u32.to_be_bytes(), b"image.raw\0\0\0"].concat();
    for (name, procedure, bytes) in [
        ("GETATTR", procedure::GETATTR, &handle()),
        ("LOOKUP", procedure::LOOKUP, &lookup),
        ("READ", procedure::READ, &read),
    ] {
        Arguments::decode(procedure, bytes).unwrap();
        group.bench_function(name, |b| b.iter(|| Arguments::decode(procedure, black_box(bytes)).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
