//! The vectors that `fsverity digest` made (tests/vectors/README.md): our digests, descriptors and trees are its.

use std::collections::BTreeSet;

use nfs_verity::verity::{
    BlockSize, Descriptor, Digest, FileDigest, HashAlgorithm, Params, Salt, TreeBuilder, VerityError,
    reference,
};
use sha2::{Digest as _, Sha256};

const DIGESTS: &str = include_str!("../vectors/fsverity/digests.tsv");
const REFUSED: &str = include_str!("../vectors/fsverity/refused.tsv");

/// Files above this go through tests of their own, and not through the reference.
const LARGE: u64 = 2 << 20;

struct Vector {
    rule: &'static str,
    size: u64,
    algorithm: HashAlgorithm,
    block_size: u32,
    salt: Salt,
    digest: Digest,
    descriptor: Vec<u8>,
    tree_size: u64,
    tree_sha256: Option<Digest>,
}

fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn vectors() -> Vec<Vector> {
    let dash = |text: &'static str| Some(text).filter(|text| *text != "-");
    let vector = |line: Vec<&'static str>| {
        let [rule, size, hash, block_size, salt, digest, descriptor, tree_size, tree_sha256] =
            line.try_into().expect("nine columns");
        let mut descriptor = hex::decode(descriptor).unwrap();
        descriptor.resize(256, 0);
        Vector {
            rule,
            size: size.parse().unwrap(),
            algorithm: hash.parse().unwrap(),
            block_size: block_size.parse().unwrap(),
            salt: dash(salt).unwrap_or("").parse().unwrap(),
            digest: digest.parse().unwrap(),
            descriptor,
            tree_size: tree_size.parse().unwrap(),
            tree_sha256: dash(tree_sha256).map(|text| text.parse().unwrap()),
        }
    };
    lines(DIGESTS).map(vector).collect()
}

/// The vectors with block sizes that Linux can verify, with their parameters.
fn supported() -> Vec<(Vector, Params)> {
    let params = |v: Vector| {
        let block_size = BlockSize::new(v.block_size).ok()?;
        let params = Params { algorithm: v.algorithm, block_size, salt: v.salt };
        Some((v, params))
    };
    vectors().into_iter().filter_map(params).collect()
}

/// The first `size` bytes of a rule other than `zero`.
fn content(rule: &str, size: usize) -> Vec<u8> {
    match rule {
        "lin" => (0..size).map(|i| (i * 31 + 7).to_le_bytes()[0]).collect(),
        "ctr" => {
            let mut bytes = Vec::with_capacity(size + 32);
            (0..size.div_ceil(32) as u64)
                .for_each(|i| bytes.extend_from_slice(&Sha256::digest(i.to_le_bytes())));
            bytes.truncate(size);
            bytes
        }
        _ => panic!("no content for rule {rule}"),
    }
}

/// Builds root and tree, `feed` giving the data.
fn build(
    params: Params,
    size: u64,
    feed: impl FnOnce(
        &mut TreeBuilder,
        &mut dyn FnMut(u64, &[u8]) -> Result<(), VerityError>,
    ) -> Result<(), VerityError>,
) -> (Digest, Vec<u8>) {
    let mut builder = TreeBuilder::new(params, size).unwrap();
    let mut tree = vec![0xee; usize::try_from(builder.geometry().tree_size()).unwrap()];
    let mut sink = |offset: u64, block: &[u8]| {
        let offset = usize::try_from(offset).unwrap();
        tree[offset..offset + block.len()].copy_from_slice(block);
        Ok(())
    };
    feed(&mut builder, &mut sink).unwrap();
    let root = builder.finish(&mut sink).unwrap();
    (root, tree)
}

fn check(v: &Vector, params: Params, root_hash: Digest, tree: &[u8], by: &str) {
    let what = format!("{} {} {} {} {} by {by}", v.rule, v.size, v.algorithm, v.block_size, v.salt);
    let descriptor = Descriptor { params, size: v.size, root_hash };
    assert_eq!(hex::encode(descriptor.encode()), hex::encode(&v.descriptor), "descriptor of {what}");
    let file_digest = FileDigest { algorithm: v.algorithm, digest: v.digest };
    assert_eq!(descriptor.file_digest(), file_digest, "digest of {what}");
    assert_eq!(Descriptor::parse(&v.descriptor), Ok(descriptor), "parsed descriptor of {what}");
    assert_eq!(descriptor.geometry().unwrap().tree_size(), v.tree_size, "tree size of {what}");
    assert_eq!(tree.len() as u64, v.tree_size, "tree of {what}");
    let sha256 = Digest::from(<[u8; 32]>::from(Sha256::digest(tree)));
    assert_eq!(Some(sha256).filter(|_| !tree.is_empty()), v.tree_sha256, "tree of {what}");
}

#[test]
fn the_vectors_are_complete() {
    let all = vectors();
    assert_eq!(all.len(), 1405);
    assert_eq!(supported().len(), 1394);
    assert_eq!(lines(REFUSED).count(), 11);
    let sizes: BTreeSet<_> = supported().iter().map(|(v, _)| v.block_size).collect();
    assert_eq!(sizes, (10..=16).map(|log| 1 << log).collect());
    assert_eq!(all.iter().filter(|v| v.size > LARGE).count(), 22);
}

#[test]
fn small_vectors_agree_with_the_builder_and_the_reference() {
    let longest = 1_000_003;
    let rules = [("lin", content("lin", longest)), ("ctr", content("ctr", longest))];
    let mut checked = 0;
    for (v, params) in supported().iter().filter(|(v, _)| v.size <= LARGE) {
        let (_, all) = rules.iter().find(|(rule, _)| *rule == v.rule).unwrap();
        let data = &all[..usize::try_from(v.size).unwrap()];
        // A length that fits no block, so that every block is put together from two pieces somewhere.
        let (root, tree) = build(*params, v.size, |builder, mut sink| {
            data.chunks(5003).try_for_each(|piece| builder.update(piece, &mut sink))
        });
        check(v, *params, root, &tree, "the builder");
        let (root, tree) = reference::root_and_tree(data, params);
        check(v, *params, root, &tree, "the reference");
        checked += 1;
    }
    assert_eq!(checked, 1394 - 22);
}

#[test]
fn large_vectors_of_zeros_agree_with_the_builder_given_holes() {
    let mut checked = 0;
    for (v, params) in supported().iter().filter(|(v, _)| v.rule == "zero") {
        let (root, tree) = build(*params, v.size, |builder, mut sink| builder.zeros(v.size, &mut sink));
        check(v, *params, root, &tree, "one hole");
        checked += 1;
    }
    assert_eq!(checked, 16);
}

#[test]
fn long_large_vectors_of_data_agree_with_the_builder() {
    let data = content("ctr", (64 << 20) + 1);
    let mut checked = 0;
    for (v, params) in supported().iter().filter(|(v, _)| v.size > LARGE && v.rule == "ctr") {
        let data = &data[..usize::try_from(v.size).unwrap()];
        let (root, tree) = build(*params, v.size, |builder, mut sink| {
            data.chunks(1_000_003).try_for_each(|piece| builder.update(piece, &mut sink))
        });
        check(v, *params, root, &tree, "the builder");
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[test]
fn block_sizes_that_fsverity_or_linux_refuses_are_refused() {
    for line in lines(REFUSED) {
        let given: u32 = line[3].parse().unwrap();
        assert_eq!(
            BlockSize::new(given),
            Err(VerityError::BlockSize { given: u64::from(given) }),
            "{line:?}"
        );
    }
    let mut outside = 0;
    for v in vectors().iter().filter(|v| !(1024..=65536).contains(&v.block_size)) {
        let error = VerityError::BlockSize { given: u64::from(v.block_size) };
        assert_eq!(BlockSize::new(v.block_size), Err(error));
        assert_eq!(Descriptor::parse(&v.descriptor), Err(error));
        outside += 1;
    }
    assert_eq!(outside, 11);
}

#[test]
fn sample_trees_and_descriptors_are_equal_byte_for_byte() {
    macro_rules! sample {
        ($name:literal) => {
            &include_bytes!(concat!("../vectors/fsverity/samples/", $name))[..]
        };
    }
    let samples: [(usize, [&[u8]; 4]); 5] = [
        (0, [sample!("ctr-0.nosalt.desc"), b"", sample!("ctr-0.salt16.desc"), b""]),
        (1, [sample!("ctr-1.nosalt.desc"), b"", sample!("ctr-1.salt16.desc"), b""]),
        (4096, [sample!("ctr-4096.nosalt.desc"), b"", sample!("ctr-4096.salt16.desc"), b""]),
        (
            4097,
            [
                sample!("ctr-4097.nosalt.desc"),
                sample!("ctr-4097.nosalt.tree"),
                sample!("ctr-4097.salt16.desc"),
                sample!("ctr-4097.salt16.tree"),
            ],
        ),
        (
            524_289,
            [
                sample!("ctr-524289.nosalt.desc"),
                sample!("ctr-524289.nosalt.tree"),
                sample!("ctr-524289.salt16.desc"),
                sample!("ctr-524289.salt16.tree"),
            ],
        ),
    ];
    for (size, [plain_descriptor, plain_tree, salted_descriptor, salted_tree]) in samples {
        let data = content("ctr", size);
        let salt: Salt = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        for (salt, descriptor, tree) in
            [(Salt::default(), plain_descriptor, plain_tree), (salt, salted_descriptor, salted_tree)]
        {
            let params = Params { salt, ..Params::default() };
            let (root_hash, found) = build(params, size as u64, |b, mut sink| b.update(&data, &mut sink));
            assert!(found == tree, "tree of {size} with salt {salt:?}");
            assert_eq!(&Descriptor { params, size: size as u64, root_hash }.encode()[..], descriptor);
        }
    }
}

#[test]
fn formatted_digests_are_what_fsverity_signs() {
    let data = content("lin", 4097);
    for (algorithm, expected) in [
        (HashAlgorithm::Sha256, &include_bytes!("../vectors/fsverity/samples/lin-4097.sha256.formatted")[..]),
        (HashAlgorithm::Sha512, &include_bytes!("../vectors/fsverity/samples/lin-4097.sha512.formatted")[..]),
    ] {
        let params = Params { algorithm, ..Params::default() };
        let (root_hash, _) = reference::root_and_tree(&data, &params);
        let descriptor = Descriptor { params, size: 4097, root_hash };
        assert_eq!(descriptor.formatted_digest(), expected);
    }
}
