//! fs-verity, byte for byte as Linux and `fsverity digest` compute it.
//!
//! What a file's Merkle tree looks like ([`Geometry`]), how blocks are hashed ([`BlockHasher`]), how the tree
//! of a file of any size is made in one pass ([`TreeBuilder`]), and the 256 bytes that a signature stands for
//! ([`Descriptor`], [`FileDigest`]). [`mod@reference`] is the same once more, slow and obvious, to test against.
//!
//! Many blocks are hashed side by side, with whichever instructions the processor has, AVX-512, AVX2 and SHA-NI of x86
//! or SHA2 and SHA512 of ARM: in `sha256` and `sha512`, the only code here that may be unsafe.
//!
//! Specification: the kernel's `Documentation/filesystems/fsverity.rst`, `fs/verity/open.c`, `fs/verity/verify.c`
//! and fsverity-utils' `lib/compute_digest.c`. Knows nothing of files, signatures or where a tree is kept: no
//! I/O, no clock.

mod algorithm;
mod descriptor;
mod digest;
mod error;
mod geometry;
mod hasher;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod many;
mod merkle;
mod params;
pub mod reference;
mod sha256;
mod sha512;

pub use algorithm::HashAlgorithm;
pub use descriptor::Descriptor;
pub use digest::{Digest, FileDigest};
pub use error::VerityError;
pub use geometry::{Geometry, MAX_LEVELS, MAX_SIZE, Slot};
pub use hasher::{BlockHasher, Leaves};
pub use merkle::TreeBuilder;
pub use params::{BlockSize, Params, Salt};
