//! NFS version 3, RFC 1813, over a read-only export.
//!
//! All 22 procedures are decoded strictly and answered; those that change something answer
//! `NFS3ERR_ROFS`. Knows nothing of signatures and blocks: whatever [`crate::export`] gives is
//! proven already, and its errors become status codes in [`status`].

mod args;
mod ops;
pub mod procedure;
mod reply;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use args::{Arguments, HANDLE_MAX, NAME_MAX, TARGET_MAX, WRITE_MAX};

use crate::export::{Caller, Export, memory_held};
use crate::proto::rpc::{BoxFuture, CallContext, Outcome, Program};

/// The program number.
pub const PROGRAM: u32 = 100_003;
/// The version.
pub const VERSION: u32 = 3;
/// The most bytes of one READ, `rtmax` and `rtpref` of FSINFO; larger counts are cut to it.
pub const READ_MAX: u32 = crate::export::READ_MAX;
/// The most bytes of one READDIR or READDIRPLUS; larger counts are cut to it.
pub const PAGE_MAX: u32 = 1024 * 1024;
/// The most entries of one READDIR or READDIRPLUS, since each takes memory and, of the latter, costs
/// the store a lookup.
pub const ENTRIES_MAX: usize = 4096;

/// What is allowed for everything in the results but data and entries: status, attributes, a
/// handle, lengths, flags.
const OVERHEAD: usize = 512;

/// The program.
pub struct Nfs3 {
    export: Arc<Export>,
}

impl Nfs3 {
    /// Serves `export`.
    pub fn new(export: Arc<Export>) -> Self {
        Self { export }
    }
}

impl Program for Nfs3 {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn name(&self) -> &'static str {
        "nfs3"
    }

    fn procedure_name(&self, procedure: u32) -> &'static str {
        procedure::name(procedure).unwrap_or("UNKNOWN")
    }

    fn reply_bound(&self, procedure: u32, arguments: &[u8]) -> usize {
        reply_bound(procedure, arguments)
    }

    fn remembered(&self, procedure: u32) -> bool {
        procedure::mutates(procedure)
    }

    fn call(
        self: Arc<Self>,
        context: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if procedure::name(procedure).is_none() {
                return Outcome::ProcedureUnavailable;
            }
            let Ok(arguments) = Arguments::decode(procedure, &arguments) else {
                return Outcome::GarbageArguments;
            };
            ops::execute(&self.export, arguments, &Caller::from(context)).await
        })
    }
}

fn reply_bound(procedure: u32, arguments: &[u8]) -> usize {
    let memory = match procedure {
        procedure::READ | procedure::READDIR | procedure::READDIRPLUS => {
            match Arguments::decode(procedure, arguments) {
                Ok(Arguments::Read { offset, count, .. }) => {
                    usize::try_from(memory_held(offset, count.min(READ_MAX))).unwrap_or(usize::MAX)
                }
                Ok(Arguments::ReadDir { count, .. }) => ops::directory::memory(count),
                Ok(Arguments::ReadDirPlus { directory_count, count, .. }) => {
                    ops::directory::memory_plus(directory_count, count)
                }
                _ => 0,
            }
        }
        procedure::READLINK => ops::size(TARGET_MAX),
        _ => 0,
    };
    OVERHEAD + memory
}
