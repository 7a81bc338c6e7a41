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

mod attributes;
mod clients;
mod compound;
mod directory;
mod handles;
mod locks;
mod opens;
mod reading;
mod refused;
mod slots;
mod xattrs;
