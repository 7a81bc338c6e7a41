//! System calls that no crate wraps.
//!
//! Knows nothing of evidence or of stores. The only room but the hash kernels' that may hold unsafe
//! code, in the modules that say so.

pub mod fsverity;
