//! System calls that no crate wraps, and memory from the system.
//!
//! Knows nothing of evidence or of stores. The only room but the hash kernels' that may hold unsafe
//! code, in the modules that say so.

pub mod buffers;
pub mod fsverity;
