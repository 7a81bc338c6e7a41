//! How clients talk to the gateway.
//!
//! [`rpc`] carries calls, [`xdr`] reads and writes their bytes, and each front end is one
//! program: [`mount3`], [`nfs3`] and [`nfs4`]. Front ends know [`crate::export`] and each other not at all.

mod caller;
#[cfg(test)]
mod fixture;
pub mod mount3;
pub mod nfs3;
pub mod nfs4;
pub mod rpc;
pub mod xdr;
