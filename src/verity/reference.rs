//! fs-verity once more, as slow and obvious as it can be: the oracle that the rest is tested against.
//!
//! The whole file is in memory, the salt is hashed with every block, a level is made of the level below by
//! recursion. Shares nothing with the rest of the room but the types of its parameters and its answer.

use sha2::{Sha256, Sha512};

use super::{Digest, HashAlgorithm, Params};

/// The root hash of `data` and its stored Merkle tree, root level first; no tree for at most one block, and
/// a root hash of zeros for no data.
pub fn root_and_tree(data: &[u8], params: &Params) -> (Digest, Vec<u8>) {
    if data.is_empty() {
        return (Digest::zero(params.algorithm), Vec::new());
    }
    let hashes: Vec<Digest> =
        data.chunks(params.block_size.bytes()).map(|block| hash_block(block, params)).collect();
    match hashes.as_slice() {
        [root] => (*root, Vec::new()),
        _ => {
            let mut level: Vec<u8> = hashes.iter().flat_map(|hash| hash.as_bytes().to_vec()).collect();
            level.resize(level.len().next_multiple_of(params.block_size.bytes()), 0);
            // A level is the data of the level above it.
            let (root, above) = root_and_tree(&level, params);
            (root, [above, level].concat())
        }
    }
}

fn hash_block(block: &[u8], params: &Params) -> Digest {
    let mut message = params.salt.as_bytes().to_vec();
    let multiple = match params.algorithm {
        HashAlgorithm::Sha256 => 64,
        HashAlgorithm::Sha512 => 128,
    };
    message.resize(message.len().next_multiple_of(multiple), 0);
    let end = message.len() + params.block_size.bytes();
    message.extend_from_slice(block);
    message.resize(end, 0);
    match params.algorithm {
        HashAlgorithm::Sha256 => Digest::from(<[u8; 32]>::from(<Sha256 as sha2::Digest>::digest(&message))),
        HashAlgorithm::Sha512 => Digest::from(<[u8; 64]>::from(<Sha512 as sha2::Digest>::digest(&message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_full_tree_block_of_blocks_has_one_tree_block() {
        // The root levels and sizes that the kernel's documentation gives for 4096 bytes and SHA-256.
        let params = Params::default();
        for (size, tree) in
            [(0, 0), (1, 0), (4096, 0), (4097, 1), (128 * 4096, 1), (128 * 4096 + 1, 3), (256 * 4096, 3)]
        {
            assert_eq!(root_and_tree(&vec![1; size], &params).1.len(), tree * 4096, "{size}");
        }
    }
}
