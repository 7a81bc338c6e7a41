//! Proofs of ranges, checked by hashing that shares no code with the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use nfs_verity::event::Cause;
use nfs_verity::export::{ExportError, PROOF_MAX, RangeProof};
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Faulty, Memory};
use nfs_verity::verity::{HashAlgorithm, Params};
use sha2::{Digest, Sha256, Sha512};

use super::scene::{Gate, caller, evidence, params, shared, small_blocks};
use super::support::{content, key_and_trust, seal};

/// A client that knows the descriptor's digest and what fs-verity is, and nothing else.
struct Checker {
    sha512: bool,
    block_size: usize,
    size: u64,
    root: Vec<u8>,
    salt: Vec<u8>,
}

impl Checker {
    fn new(descriptor: &[u8]) -> Self {
        assert_eq!((descriptor.len(), descriptor[0]), (256, 1));
        let sha512 = descriptor[1] == 2;
        let (digest, pad) = if sha512 { (64, 128) } else { (32, 64) };
        let mut salt = descriptor[80..80 + usize::from(descriptor[3])].to_vec();
        salt.resize(salt.len().div_ceil(pad) * pad, 0);
        Self {
            sha512,
            block_size: 1 << descriptor[2],
            size: u64::from_le_bytes(descriptor[8..16].try_into().unwrap()),
            root: descriptor[16..16 + digest].to_vec(),
            salt,
        }
    }

    fn hash(&self, block: &[u8]) -> Vec<u8> {
        let mut bytes = [&self.salt[..], block].concat();
        bytes.resize(self.salt.len() + self.block_size, 0);
        if self.sha512 { Sha512::digest(&bytes).to_vec() } else { Sha256::digest(&bytes).to_vec() }
    }

    /// The bytes from `offset` that `proof` proves of what the file is said to hold.
    fn check(&self, proof: &RangeProof, offset: u64, data: &[u8]) {
        let (size, block_size) = (self.root.len(), self.block_size as u64);
        let arity = self.block_size / size;
        let mut blocks: BTreeMap<(u32, u64), &[u8]> = BTreeMap::new();
        for (nth, block) in proof.blocks.iter().enumerate() {
            assert_eq!(block.bytes.len(), self.block_size);
            assert!(blocks.insert((block.level, block.index), &block.bytes).is_none(), "twice");
            let before = nth.checked_sub(1).map(|nth| &proof.blocks[nth]);
            assert!(
                before.is_none_or(|b| (b.level, block.index) > (block.level, b.index)),
                "from the root down, in order"
            );
        }
        let levels = proof.blocks.first().map_or(0, |block| block.level + 1);
        let mut used = std::collections::BTreeSet::new();
        let end = offset + proof.covered;
        assert!(end <= self.size);
        let first = offset / block_size;
        for index in first..end.div_ceil(block_size) {
            let from = usize::try_from(index * block_size).unwrap();
            let mut hash = self.hash(&data[from..data.len().min(from + self.block_size)]);
            let mut at = index;
            for level in 0..levels {
                let (block, slot) = (at / arity as u64, usize::try_from(at % arity as u64).unwrap() * size);
                assert_eq!(blocks[&(level, block)][slot..slot + size], hash, "level {level}, block {block}");
                used.insert((level, block));
                (hash, at) = (self.hash(blocks[&(level, block)]), block);
            }
            assert_eq!((hash, at), (self.root.clone(), if levels == 0 { index } else { 0 }));
        }
        assert_eq!(used.len(), blocks.len(), "nothing more than it takes");
    }
}

async fn scene(size: usize, params: Params) -> (Memory, Keyring, Vec<u8>) {
    let (key, keyring) = key_and_trust();
    let (store, data) = (Memory::new(), content(10, size));
    store.put("f", &data).unwrap();
    seal(&shared(&store), "f", &data, params, &key).await;
    (store, keyring, data)
}

#[tokio::test]
async fn every_range_is_proven_to_who_trusts_the_descriptor_alone() {
    use HashAlgorithm::{Sha256, Sha512};
    for (size, params) in [
        (0, small_blocks()),
        (1, small_blocks()),
        (1024, small_blocks()),
        (1025, small_blocks()),
        (33 * 1024, params(Sha256, 1024, b"salt")),
        (33 * 32 * 1024 + 5, params(Sha256, 1024, &[9; 32])),
        (300_000, params(Sha512, 1024, b"0123456789")),
        (300_000, params(Sha256, 4096, b"")),
        (300_000, params(Sha512, 65536, b"x")),
    ] {
        let (store, keyring, data) = scene(size, params).await;
        let gate = Gate::new(shared(&store), &keyring).await;
        let (file, _) = gate.find("f").await.unwrap();
        let descriptor = gate.value(&file, "verity.descriptor").await.unwrap();
        let checker = Checker::new(&descriptor);
        let (len, block) = (size as u64, params.block_size.bytes() as u64);
        for offset in [0, 1, block - 1, block, len / 2, len.saturating_sub(1), len, len + 1, u64::MAX] {
            for length in [0, 1, block, block + 1, 5 * block, len, u64::MAX] {
                let proof = gate.export.proof(file.as_bytes(), offset, length, &caller()).await.unwrap();
                assert_eq!(proof.descriptor, descriptor);
                let wanted = length.min(len.saturating_sub(offset));
                assert_eq!(proof.covered, wanted, "{length} at {offset} of {len}");
                match wanted {
                    0 => assert!(proof.blocks.is_empty()),
                    _ => checker.check(&proof, offset, &data),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_long_range_is_proven_in_steps_of_bounded_size() {
    // 12,000 data blocks under 750 leaves, which have 47, 3 and 1 block above them.
    let (store, keyring, data) = scene(12_000 * 1024 - 7, params(HashAlgorithm::Sha512, 1024, b"s")).await;
    let faulty = Faulty::new(shared(&store));
    let gate = Gate::new(Arc::new(faulty.clone()), &keyring).await;
    let (file, _) = gate.find("f").await.unwrap();
    let (mut at, mut steps) = (777, 0);
    faulty.reset();
    while at < data.len() as u64 {
        let proof = gate.export.proof(file.as_bytes(), at, u64::MAX, &caller()).await.unwrap();
        let bytes: usize = proof.blocks.iter().map(|block| block.bytes.len()).sum();
        assert!(bytes <= 256 * 1024 && bytes as u64 <= PROOF_MAX, "{bytes}");
        assert!(proof.covered > 0);
        // As much as fits: another leaf would not.
        assert!(bytes >= 250 * 1024 || at + proof.covered == data.len() as u64, "{bytes} at {at}");
        Checker::new(&proof.descriptor).check(&proof, at, &data);
        at += proof.covered;
        steps += 1;
    }
    assert_eq!((at, steps), (data.len() as u64, 4));
    // The blocks of a level that lie side by side are read at once, 800 in all.
    assert!(faulty.calls() < 50, "{} calls", faulty.calls());
}

#[tokio::test]
async fn a_tree_block_that_fails_leaves_in_no_proof() {
    let (store, keyring, data) = scene(40 * 1024, small_blocks()).await;
    let bundle = store.bytes(evidence("f")).unwrap();
    // The root's block, the first leaf and the second.
    for (nth, refused) in [(3, [true, true]), (2, [true, false]), (1, [false, true])] {
        store.put(evidence("f"), &bundle).unwrap();
        store
            .mutate(evidence("f"), |bundle| {
                let at = bundle.len() - nth * 1024 + 40;
                bundle[at] ^= 1;
            })
            .unwrap();
        let gate = Gate::new(shared(&store), &keyring).await;
        let (file, _) = gate.find("f").await.unwrap();
        for (offset, refused) in [0, 35 * 1024].into_iter().zip(refused) {
            let proof = gate.export.proof(file.as_bytes(), offset, 10, &caller()).await;
            match refused {
                true => assert_eq!(proof.unwrap_err(), ExportError::Corrupt(Cause::BadTreeBlock)),
                false => {
                    let proof = proof.unwrap();
                    Checker::new(&proof.descriptor).check(&proof, offset, &data);
                }
            }
        }
        let whole = gate.export.proof(file.as_bytes(), 0, u64::MAX, &caller()).await;
        assert_eq!(whole.unwrap_err(), ExportError::Corrupt(Cause::BadTreeBlock));
        let told = gate.events.refused();
        assert!(
            told.iter().all(|refused| refused.cause == Cause::BadTreeBlock && refused.hashes),
            "{told:?}"
        );
        assert!(gate.text(&file, "verity.status").await.starts_with("bad-tree-block: block "));
    }
}

#[tokio::test]
async fn proofs_go_to_who_may_read_what_is_accepted() {
    let (store, keyring, _) = scene(40 * 1024, small_blocks()).await;
    let nobody = Keyring::new(Vec::new());
    let denied = ExportError::Denied(Cause::UnknownKey);
    for gate in [Gate::new(shared(&store), &nobody).await, Gate::warning(shared(&store), &nobody).await] {
        let (file, _) = gate.find("f").await.unwrap();
        assert_eq!(gate.export.proof(file.as_bytes(), 0, 1, &caller()).await.unwrap_err(), denied);
    }
    store.put_dir("d").unwrap();
    let gate = Gate::new(shared(&store), &keyring).await;
    let (directory, _) = gate.find("d").await.unwrap();
    let answer = gate.export.proof(directory.as_bytes(), 0, 1, &caller()).await;
    assert_eq!(answer.unwrap_err(), ExportError::IsADirectory);
    let (file, _) = gate.find("f").await.unwrap();
    assert!(gate.export.proof(file.as_bytes(), 0, 1, &caller()).await.is_ok());
    store.set_attr("f", 0o600, 1, 1).unwrap();
    let answer = gate.export.proof(file.as_bytes(), 0, 1, &caller()).await;
    assert_eq!(answer.unwrap_err(), ExportError::Permission);
}
