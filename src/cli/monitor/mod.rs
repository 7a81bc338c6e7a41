//! `nfs-verity status`, `events` and `health`: what a running gateway's monitor says, asked over HTTP.
//!
//! All of it is the gateway's word, and some of that was a stranger's before: what is shown is fit for a terminal.

mod client;
pub(super) mod events;
pub(super) mod health;
mod sse;
pub(super) mod status;
#[cfg(test)]
mod tests;
mod words;
