//! Where the evidence of a file lives: opaque bytes in and out.
//!
//! [`bundle`] is the layout that every carrier shares; [`Sidecar`] keeps bundles in a directory
//! of the store itself. Nothing here is proven: a bundle is as untrusted as the store.

pub mod bundle;
mod sidecar;

pub use sidecar::{CarrierError, OpenBundle, SIDECAR_DIRECTORY, Sidecar, SidecarWriter};
