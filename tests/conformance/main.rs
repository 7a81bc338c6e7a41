//! The formats, against the programs that define them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[cfg(feature = "tpm")]
#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod fsverity;
mod ima;
mod measure;
mod openssl;
mod pkcs7;
mod policies;
#[cfg(feature = "tpm")]
mod tpm;
mod vectors;
