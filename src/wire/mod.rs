//! What goes over the wire, whoever speaks: XDR (RFC 4506), by a reader that never trusts a length and a
//! writer that never copies a payload, and the records of RPC over TCP (RFC 5531 section 11).
//!
//! Knows nothing of calls, NFS or I/O.

mod read;
mod record;
mod write;

pub use read::{Reader, XdrError};
pub use record::{MAX_FRAGMENTS, RecordError, RecordReader};
pub use write::{Mark, Segments, Writer};
