//! XDR, RFC 4506: a reader that never trusts a length and a writer that never copies a payload.
//!
//! Knows nothing of RPC or NFS.

mod read;
mod write;

pub use read::{Reader, XdrError};
pub use write::{Mark, Segments, Writer};
