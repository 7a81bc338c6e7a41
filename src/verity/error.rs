//! What can be wrong with parameters, descriptors and the data given to a builder.

use super::HashAlgorithm;

/// Why something is not fs-verity as this room knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerityError {
    /// A block size that is no power of two in 1024..=65536.
    #[error("block size {given} is not a power of two from 1024 to 65536")]
    BlockSize {
        /// The size in bytes that was asked for.
        given: u64,
    },
    /// A salt of more than 32 bytes.
    #[error("a salt of {length} bytes is longer than 32 bytes")]
    SaltTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A salt that is written in something else than hexadecimal digits.
    #[error("the salt is not an even number of hexadecimal digits")]
    SaltText,
    /// A name that is neither `sha256` nor `sha512`.
    #[error("the hash algorithm is neither sha256 nor sha512")]
    AlgorithmName,
    /// A digest that is not lower-case hexadecimal of the right length.
    #[error("the digest is not lower-case hexadecimal of the length its algorithm makes")]
    DigestText,
    /// A file of more than 2^63 - 1 bytes.
    #[error("a file of {size} bytes is larger than 2^63 - 1 bytes")]
    FileTooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// A file whose tree would have more than 8 levels.
    #[error("the tree of {size} bytes with {algorithm} and blocks of {block_size} has more than 8 levels")]
    TooManyLevels {
        /// The file's size in bytes.
        size: u64,
        /// The hash.
        algorithm: HashAlgorithm,
        /// The block size in bytes.
        block_size: u32,
    },
    /// More bytes than a block holds were given as one block.
    #[error("{length} bytes do not fit into a block of {block_size}")]
    BlockTooLong {
        /// What was given, in bytes.
        length: usize,
        /// The block size in bytes.
        block_size: u32,
    },
    /// A tree builder was given more bytes than it was told the file has.
    #[error("the file is larger than the {size} bytes announced")]
    TooMuchData {
        /// The announced size in bytes.
        size: u64,
    },
    /// A tree builder was finished before it had all bytes.
    #[error("the file ends after {given} of the {size} bytes announced")]
    TooLittleData {
        /// The announced size in bytes.
        size: u64,
        /// What came, in bytes.
        given: u64,
    },
    /// Hashes of blocks were given to a tree builder in the middle of a block, or end there.
    #[error("hashed blocks do not begin and end where blocks of the file do")]
    Misplaced,
    /// A tree builder was used again after one of its calls had failed.
    #[error("the tree builder cannot go on after a failed call")]
    Broken,
    /// A descriptor of another length than 256 bytes.
    #[error("a descriptor has 256 bytes, not {length}")]
    DescriptorLength {
        /// Its length in bytes.
        length: usize,
    },
    /// A field of a descriptor has a value that the format does not allow.
    #[error("the descriptor's field {field} has a value that is not allowed")]
    DescriptorField {
        /// The field, as `struct fsverity_descriptor` names it; `padding` names follow their field.
        field: &'static str,
    },
}
