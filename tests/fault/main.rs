//! Hostile clients, hostile stores, and failures at every point.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "../support/mod.rs"]
mod support;

mod ahead;
mod carriers;
mod clients;
mod dice;
mod evidence;
mod gated;
mod listing;
mod measured;
mod proof_directory;
mod requests;
mod rpc;
mod rules;
#[allow(dead_code, reason = "the tests of stores use it, too")]
mod scene;
mod siege;
mod store;
mod tamper;
mod together;
mod told;
mod told_change;
mod told_proof;
mod versions;
