//! The loops that the gateway spends its time in, each by itself, for their instructions to be counted.
//!
//! `loops` names them, with the two numbers of turns that are compared; `loops NAME TURNS` runs one.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nfs_verity::carrier::bundle::TREE_OFFSET;
use nfs_verity::carrier::{Carrier, CarrierKind, Evidence, Sidecar};
use nfs_verity::event::Silent;
use nfs_verity::export::{
    Caller, Export, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::proto::nfs3::{Arguments, Nfs3, PROGRAM, VERSION, procedure};
use nfs_verity::proto::rpc::{Call, CallContext, Credential, Outcome, Program};
use nfs_verity::sign::{Keyring, SigningKey, Statement, TrustedKey, read_envelope, sign_statement};
use nfs_verity::store::{Memory, Store, StorePath};
use nfs_verity::verity::{
    BlockHasher, Descriptor, Digest, Geometry, HashAlgorithm, Params, TreeBuilder, VerityError, reference,
};
use nfs_verity::wire::{RecordReader, Writer};

/// A secret of nobody, so that every run does the same.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH
-----END PRIVATE KEY-----
";
const PATH: &str = "releases/2026/image.raw";
const BLOCK: usize = 4096;

/// What one turn does.
type Turn = Box<dyn FnMut()>;

/// A loop: its name, two numbers of turns, and what has to be there for a turn.
type Loop = (&'static str, u32, u32, fn() -> Turn);

const LOOPS: &[Loop] = &[
    ("sha256: 8 blocks with AVX2", 4, 20, || hashing(HashAlgorithm::Sha256, "AVX2", 8)),
    ("sha256: a block by itself", 4, 20, || hashing(HashAlgorithm::Sha256, "one at a time", 1)),
    ("sha512: 4 blocks with AVX2", 4, 20, || hashing(HashAlgorithm::Sha512, "AVX2", 4)),
    ("sha512: a block by itself", 4, 20, || hashing(HashAlgorithm::Sha512, "one at a time", 1)),
    ("tree: 513 blocks", 1, 3, tree),
    ("tree: the way up from a block", 100, 1100, way_up),
    ("descriptor: parsed", 100, 1100, descriptor_parsed),
    ("descriptor: its digest", 20, 120, descriptor_digest),
    ("statement: envelope parsed", 20, 120, envelope_parsed),
    ("record: taken from a stream", 100, 1100, record),
    ("call: header parsed", 100, 1100, call),
    ("READ: arguments parsed", 100, 1100, arguments),
    ("READ: 64 KiB from the cache", 50, 250, || read(1 << 20)),
    ("READ: 64 KiB proven anew", 2, 8, || read(0)),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, turns] = &words[..] else {
        LOOPS.iter().for_each(|(name, low, high, _)| println!("{low} {high} {name}"));
        return;
    };
    let (.., prepare) = LOOPS.iter().find(|one| one.0 == name).expect("no such loop");
    let mut turn = prepare();
    (0..turns.parse::<u32>().expect("a number of turns")).for_each(|_| turn());
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn hashing(algorithm: HashAlgorithm, kernel: &str, blocks: usize) -> Turn {
    let variants = BlockHasher::variants(&Params { algorithm, ..Params::default() });
    let (_, hasher) = variants.into_iter().find(|(name, _)| *name == kernel).expect("a processor with AVX2");
    let data = content(blocks * BLOCK);
    Box::new(move || {
        hasher.hash_many(black_box(&data), |_, hash| {
            black_box(hash);
        });
    })
}

/// More than a tree block of hashes, in pieces that do not end with blocks.
fn tree() -> Turn {
    let data = content(513 * BLOCK - 1);
    Box::new(move || {
        let mut sink = |_: u64, block: &[u8]| {
            black_box(block);
            Ok::<_, VerityError>(())
        };
        let mut builder = TreeBuilder::new(Params::default(), data.len() as u64).unwrap();
        for piece in black_box(&data).chunks(100_000) {
            builder.update(piece, &mut sink).unwrap();
        }
        black_box(builder.finish(&mut sink).unwrap());
    })
}

/// Where the hashes are that prove a block of a large file, and the hashes.
fn way_up() -> Turn {
    let params = Params::default();
    let (tree_block, mut block) = (content(BLOCK), 0);
    Box::new(move || {
        let geometry = Geometry::new(params.algorithm, params.block_size, black_box(1 << 40)).unwrap();
        let mut index = block;
        block = (block + 1_000_003) % geometry.data_blocks();
        for level in 0..geometry.levels() {
            let slot = geometry.slot(level, index);
            black_box(geometry.tree_block_offset(level, slot.block).unwrap());
            black_box(geometry.digest_at(black_box(&tree_block), slot).unwrap());
            index = slot.block;
        }
    })
}

fn descriptor(size: u64, root_hash: Digest) -> Descriptor {
    Descriptor { params: Params::default(), size, root_hash }
}

fn descriptor_parsed() -> Turn {
    let bytes = descriptor(1 << 30, Digest::from([7; 32])).encode();
    Box::new(move || {
        black_box(Descriptor::parse(black_box(&bytes)).unwrap());
    })
}

fn descriptor_digest() -> Turn {
    let descriptor = descriptor(1 << 30, Digest::from([7; 32]));
    Box::new(move || {
        black_box(black_box(&descriptor).file_digest());
    })
}

fn envelope(descriptor: &Descriptor, key: &SigningKey) -> Vec<u8> {
    let statement = Statement {
        namespace: String::new(),
        path: PATH.into(),
        file_digest: descriptor.file_digest(),
        size: descriptor.size,
        block_size: descriptor.params.block_size,
        version: 1,
        expires: Some(4_000_000_000),
        signed: None,
    };
    sign_statement(&statement, &[key]).unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8_pem(KEY.as_bytes()).unwrap()
}

fn envelope_parsed() -> Turn {
    let bytes = envelope(&descriptor(1 << 30, Digest::from([7; 32])), &key());
    Box::new(move || {
        black_box(read_envelope(black_box(&bytes)).unwrap());
    })
}

/// The arguments of a READ.
fn read_arguments(handle: &[u8], offset: u64) -> Bytes {
    let mut w = Writer::default();
    w.opaque(handle).u64(offset).u32(1 << 16);
    w.to_vec().into()
}

/// A call of READ as Linux sends it, without its record mark.
fn read_call() -> Vec<u8> {
    let mut credential = Writer::default();
    credential.u32(0).opaque(b"client.example").u32(1000).u32(1000).u32(3).u32(1000).u32(24).u32(25);
    let mut w = Writer::default();
    w.u32(0x0a0b_0c0d).u32(0).u32(2).u32(PROGRAM).u32(VERSION).u32(procedure::READ);
    w.u32(1).opaque(&credential.to_vec()).u32(0).u32(0);
    w.raw(read_arguments(&[7; 32], 1 << 20));
    w.to_vec()
}

fn record() -> Turn {
    let call = read_call();
    let stream = [&(call.len() as u32 | 1 << 31).to_be_bytes()[..], &call].concat();
    let mut reader = RecordReader::new(1 << 20);
    Box::new(move || {
        let mut input = BytesMut::from(black_box(&stream[..]));
        black_box(reader.next(&mut input).unwrap().unwrap());
    })
}

fn call() -> Turn {
    let record = Bytes::from(read_call());
    Box::new(move || {
        black_box(Call::parse(black_box(&record)).unwrap());
    })
}

fn arguments() -> Turn {
    let bytes = read_arguments(&[7; 32], 1 << 20);
    Box::new(move || {
        black_box(Arguments::decode(procedure::READ, black_box(&bytes)).unwrap());
    })
}

/// An export of one signed file, with so much memory for what was proven.
async fn export(cache_bytes: u64) -> Arc<Export> {
    let (key, content) = (key(), content(1 << 18));
    let memory = Memory::new();
    memory.put(PATH, &content).unwrap();
    let store: Arc<dyn Store> = Arc::new(memory);
    let (root_hash, tree) = reference::root_and_tree(&content, &Params::default());
    let descriptor = descriptor(content.len() as u64, root_hash);
    let evidence = Evidence {
        descriptor: Some(Bytes::copy_from_slice(&descriptor.encode())),
        statement: Some(envelope(&descriptor, &key).into()),
        ..Evidence::default()
    };
    let path = StorePath::parse(PATH.as_bytes()).unwrap();
    let mut writer = Sidecar::new(store.clone()).create(&path, TREE_OFFSET).await.unwrap();
    writer.push(0, &tree);
    writer.commit(&evidence).await.unwrap();
    let options = ExportOptions {
        store,
        replicas: Vec::new(),
        waits: false,
        repair: None,
        namespace: String::new(),
        carriers: vec![CarrierKind::Sidecar],
        keyring: Keyring::new(vec![TrustedKey::new(key.public_key().clone(), "nobody")]),
        whole_files: WholeFiles::default(),
        mode: Mode::Enforce,
        identity: Identity::default(),
        cache_bytes,
        disk_cache: None,
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[7; 32]),
        sink: Arc::new(Silent),
    };
    Arc::new(Export::new(options).await.unwrap())
}

/// READs of one place, from their arguments to their results.
fn read(cache_bytes: u64) -> Turn {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let export = runtime.block_on(export(cache_bytes));
    let peer = ([127, 0, 0, 1], 900).into();
    let context = CallContext { peer, connection: 1, credential: Credential::None };
    let caller = Caller::from(context.clone());
    let handle = runtime.block_on(export.resolve(PATH.as_bytes(), &caller)).unwrap().0;
    let program = Arc::new(Nfs3::new(export));
    let arguments = read_arguments(handle.as_bytes(), 1 << 16);
    Box::new(move || {
        let call = program.clone().call(context.clone(), procedure::READ, black_box(arguments.clone()));
        let Outcome::Done { results, ok: true } = runtime.block_on(call) else { panic!("READ failed") };
        let results = results.finish();
        assert!(results.iter().map(Bytes::len).sum::<usize>() > 1 << 16);
        black_box(results);
    })
}
