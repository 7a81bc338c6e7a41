//! NFS version 4, minor versions 1 and 2 (RFC 8881, RFC 7862, RFC 8276), over a read-only export.

pub mod journal;
pub mod state;
pub mod status;
