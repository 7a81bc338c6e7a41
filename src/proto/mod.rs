//! How clients talk to the gateway.
//!
//! [`rpc`] carries calls, [`crate::wire`] reads and writes their bytes, and each front end is one
//! program: [`mount3`], [`nfs3`], [`nfs4`] and [`sideband`]. Front ends know [`crate::export`] and each other
//! not at all.

mod caller;
#[cfg(test)]
mod fixture;
pub mod mount3;
pub mod nfs3;
pub mod nfs4;
pub mod rpc;
pub mod sideband;
