//! What one READ costs behind the protocol: of a proven block in memory, with a policy over it and without, and of one
//! that is proven anew; and the proof of a range.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use nfs_verity::carrier::{Carrier, CarrierKind, Evidence, Sidecar, bundle::tree_offset};
use nfs_verity::event::{Client, Silent};
use nfs_verity::export::{
    Caller, Export, ExportOptions, FileHandle, HandleKey, Identity, ProofDirectory, Rules, WholeFiles, Xattrs,
};
use nfs_verity::policy::{Mode, Policy};
use nfs_verity::sign::{KeyAlgorithm, Keyring, SigningKey, Statement, TrustedKey, generate, sign_statement};
use nfs_verity::store::{Memory, Store, StorePath};
use nfs_verity::verity::{Descriptor, Params, TreeBuilder, VerityError};
use tokio::runtime::Runtime;

const SIZE: usize = 64 << 20;

fn caller() -> Caller {
    let client = Client { address: ([127, 0, 0, 1], 700).into(), uid: Some(1000), gid: Some(1000) };
    Caller { client, gids: Vec::new() }
}

/// The file `file` of [`SIZE`] bytes, signed, in an export with `cache_bytes` of cache.
async fn export(cache_bytes: u64) -> (Export, FileHandle) {
    let pair = generate(KeyAlgorithm::Ed25519).unwrap();
    let key = SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).unwrap();
    let data: Vec<u8> =
        (0..SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let params = Params::default();
    let memory = Memory::new();
    memory.put("file", &data).unwrap();
    let store: Arc<dyn Store> = Arc::new(memory);
    let mut tree = Vec::new();
    let mut builder = TreeBuilder::new(params, SIZE as u64).unwrap();
    let mut sink = |offset: u64, block: &[u8]| {
        tree.push((offset, block.to_vec()));
        Ok::<_, VerityError>(())
    };
    builder.update(&data, &mut sink).unwrap();
    let root_hash = builder.finish(&mut sink).unwrap();
    let descriptor = Descriptor { params, size: SIZE as u64, root_hash };
    let statement = Statement {
        namespace: String::new(),
        path: b"file".to_vec(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: params.block_size,
        version: 1,
        expires: None,
        signed: None,
    };
    let evidence = Evidence {
        descriptor: Some(descriptor.encode().to_vec().into()),
        statement: Some(sign_statement(&statement, &[&key]).unwrap().into()),
        ..Evidence::default()
    };
    let path = StorePath::parse(b"file").unwrap();
    let mut writer = Sidecar::new(store.clone()).create(&path, tree_offset(&evidence, 0)).await.unwrap();
    tree.iter().for_each(|(offset, block)| writer.push(*offset, block));
    writer.commit(&evidence).await.unwrap();
    let export = Export::new(ExportOptions {
        store,
        replicas: Vec::new(),
        waits: false,
        repair: None,
        namespace: String::new(),
        carriers: vec![CarrierKind::Sidecar],
        whole_files: WholeFiles::default(),
        keyring: Keyring::new(vec![TrustedKey::new(key.public_key().clone(), "bench")]),
        mode: Mode::Enforce,
        identity: Identity::default(),
        cache_bytes,
        disk_cache: None,
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[7; 32]),
        sink: Arc::new(Silent),
    });
    let export = export.await.unwrap();
    let (handle, _) = export.lookup(export.root().as_bytes(), b"file", &caller()).await.unwrap();
    (export, handle)
}

/// 1000 rules for clients and directories, and one behind them that allows everything.
fn rules() -> Rules {
    let mut text = "policy_name=bench policy_version=1.0.0\nDEFAULT action=DENY\n".to_owned();
    for n in 1..1000 {
        writeln!(text, "op=READ client=192.{}.{}.0/24 path=archive/{n}/** action=DENY", n / 256, n % 256)
            .unwrap();
    }
    text.push_str("op=READ signer=bench action=ALLOW\n");
    Rules::new(Policy::parse(text.as_bytes()).unwrap(), [0; 32], false)
}

fn reads(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let caller = caller();
    let mut group = c.benchmark_group("export, 4 KiB");
    for (name, cache, rules) in [
        ("READ, in memory", 256 << 20, None),
        ("READ, in memory, under 1000 rules", 256 << 20, Some(rules())),
        ("READ, proven anew", 1 << 20, None),
    ] {
        let (export, handle) = runtime.block_on(export(cache));
        export.set_rules(rules);
        let mut offset = 0;
        // A stride that comes by every block, and soon by none again.
        let mut next = || {
            offset = (offset + 4096 * 4099) % SIZE as u64;
            offset
        };
        let read = async |offset| export.read(handle.as_bytes(), offset, 4096, &caller).await.unwrap();
        runtime.block_on(async {
            for _ in 0..SIZE / 4096 {
                black_box(read(next()).await);
            }
        });
        group.bench_function(name, |b| b.iter(|| runtime.block_on(read(next()))));
    }
    let (export, handle) = runtime.block_on(export(256 << 20));
    group.bench_function("proof of 1 MiB, in memory", |b| {
        b.iter(|| runtime.block_on(export.proof(handle.as_bytes(), 3 << 20, 1 << 20, &caller)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
