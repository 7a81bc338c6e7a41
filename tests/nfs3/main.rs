//! NFSv3 as clients see it.

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

mod adapter;
mod answer;
mod differential;
mod explained;
mod listing;
mod peers;
mod proof_directory;
mod reading;
