//! System calls that no crate wraps, memory from the system, and files that keep secrets.
//!
//! Knows nothing of evidence or of stores. The only room but the hash kernels' that may hold unsafe
//! code, in the modules that say so.

pub mod buffers;
pub mod descriptors;
pub mod fsverity;
pub mod secret;
