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
//! | 6 | [`cli`] | the commands: serve, status, events, health, sign, verify, scrub, inspect, xattr, proof, convert, strip, keygen, keys, policy, measure, demo |
//! | 5 | [`app`] | the composition root: the only file that knows every concrete type |
//! | 4 | [`config`] | TOML and flags, made into checked settings; the trusted keys |
//! | 4 | [`proto`] | how clients talk: RPC, MOUNT, NFSv3, NFSv4 and the program of `xdr/integrity.x` |
//! | 4 | [`monitor`] | audit log, metrics and status page, from events alone |
//! | 4 | [`scrub`] | the whole tree proven in turn: the cursor, the pace, what was found |
//! | 3 | [`export`] | one exported tree: handles, names, proven data; the only maker of [`export::Verified`] |
//! | 2 | [`carrier`] | where evidence lives: opaque bytes in and out |
//! | 1 | [`store`] | bytes by name: from a directory, an NFS server, a bucket or memory, and layers over any of them |
//! | 1 | [`sign`] | statements, envelopes, keys: signatures to signers |
//! | 1 | [`policy`] | facts in, decision out |
//! | 1 | [`measure`] | what was served, as an IMA measurement list: records, registers, the log on disk, what a TPM attests of it |
//! | 0 | [`verity`] | geometry, Merkle tree, descriptor and file digest of Linux fs-verity |
//! | 0 | [`event`] | what happens, and where it goes |
//! | 0 | [`disk_cache`] | blocks on a local disk, to be proven again when they are read back |
//! | 0 | [`wire`] | XDR and the records of RPC |
//! | 0 | [`sys`] | system calls that no crate wraps, memory for reads, descriptors, files that keep secrets; unsafe code lives here and in the hash kernels of [`verity`] alone |
//!
//! [`verity`], [`sign`] and [`policy`] do no I/O and know no clock. [`proto`] and [`monitor`] meet
//! only through [`export`] and [`event`].
//!
//! # The way of a READ
//!
//! [`proto::rpc`] takes a record off a connection, bounded before it is kept, and finds the program;
//! [`proto::nfs3`] or [`proto::nfs4`] decodes the arguments; [`export::Export::read`] turns the handle into an open file
//! whose evidence was checked once, takes blocks from the cache of proven ones or reads the store
//! into one buffer, hashes it, compares with leaves that are proven up to the signed root, and gives
//! slices of that same buffer, which one vectored write sends. Blocks that another READ is just proving are
//! waited for, and where a file is read from front to back and the store makes READs wait, what follows is proven
//! before it is asked for.

pub mod app;
pub mod carrier;
pub mod cli;
pub mod config;
pub mod disk_cache;
pub mod event;
pub mod export;
pub mod measure;
pub mod monitor;
pub mod policy;
pub mod proto;
pub mod scrub;
pub mod sign;
pub mod store;
pub mod sys;
pub mod verity;
pub mod wire;
