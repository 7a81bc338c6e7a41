//! What must hold for all inputs, and for the source itself.

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

mod cli;
mod cli_chain;
mod cli_convert;
mod cli_demo;
mod cli_formats;
mod cli_keys;
mod cli_limits;
mod cli_measure;
mod cli_monitor;
mod cli_mount;
mod cli_names;
mod cli_outputs;
mod cli_policy;
mod cli_reload;
mod cli_remote;
mod cli_rotate;
mod cli_scrub;
mod cli_serve;
mod cli_sign;
mod cli_signer;
mod cli_status;
mod cli_stores;
mod cli_trust;
mod cli_verify;
mod cli_whole;
mod corpus;
mod liar;
mod order;
mod sideband;
