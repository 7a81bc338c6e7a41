//! NFSv4.1 and 4.2 as clients see them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub
)]

#[path = "../support/mod.rs"]
mod support;

mod code;
mod op;
mod reply;
mod scene;
mod wire;

mod agreement;
mod attributes;
mod clients;
mod compound;
mod directory;
mod handles;
mod hostile;
mod locks;
mod mangled;
mod opens;
mod peers;
mod reading;
mod recovery;
mod refused;
mod scale;
mod slots;
mod xattrs;
