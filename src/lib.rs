//! fs-verity for NFS: a gateway that serves files from a store nobody has to trust.
//!
//! Every regular file carries a signed Merkle tree root; every block is proven under it before a
//! byte leaves; a block that fails is refused and reported.
//!
//! # Map
//!
//! The rooms, by rank. A room names only rooms of lower rank, and rooms of one rank never name each
//! other; a test keeps it so.
//!
//! | rank | room | what it knows |
//! |---|---|---|
//! | 3 | [`export`] | one exported tree: handles, names, proven data; the only maker of [`export::Verified`] |
//! | 2 | [`carrier`] | where evidence lives: opaque bytes in and out |
//! | 1 | [`store`] | bytes by name, from a local directory or memory, and a layer that fails on demand |
//! | 1 | [`sign`] | statements, envelopes, keys: signatures to signers |
//! | 1 | [`policy`] | facts in, decision out |
//! | 0 | [`verity`] | geometry, Merkle tree, descriptor and file digest of Linux fs-verity |
//! | 0 | [`event`] | what happens, and where it goes |

pub mod carrier;
pub mod event;
pub mod export;
pub mod policy;
pub mod sign;
pub mod store;
pub mod verity;
