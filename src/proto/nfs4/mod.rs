//! NFS version 4, minor versions 1 and 2 (RFC 8881, RFC 7862, RFC 8276), over a read-only export.
//!
//! [`args`] decodes operations off a compound as it goes, [`compound`] keeps the order of things, `ops`
//! has one file a group of operations, and [`state`] knows clients, sessions, opens and locks. There
//! are no callbacks, so there are no delegations and no layouts. Whatever [`crate::export`] gives is
//! proven already, and its errors become status codes in one place.

pub mod args;
pub mod attr;
pub mod bitmap;
mod compound;
mod error;
pub mod journal;
pub mod op;
mod ops;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::export::{Export, READ_MAX};
use crate::proto::rpc::{BoxFuture, CallContext, Outcome, Program};
use crate::wire::Writer;
use state::{ClientId, State};

/// The program number.
pub const PROGRAM: u32 = 100_003;
/// The version.
pub const VERSION: u32 = 4;
/// The most bytes of one READDIR; larger counts are cut to it.
pub const PAGE_MAX: u32 = 1024 * 1024;
/// The most operations that a compound may have, whatever a session says.
pub const OPERATIONS_MAX: u32 = 64;
/// The longest reply, whatever a session says: the data of one READ, and what goes with them.
pub const RESPONSE_MAX: u32 = READ_MAX + 4096;

const NULL: u32 = 0;
const COMPOUND: u32 = 1;
/// Clients remembered that know FATTR4_IMA.
const PARTICIPANTS: usize = 16 * 1024;

/// The numbers that draft-ietf-nfsv4-integrity-measurement was never given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImaNumbers {
    /// FATTR4_IMA, below 128 and no attribute of the RFCs.
    pub attribute: u32,
    /// NFS4ERR_INTEGRITY; `None`: it is never sent.
    pub error: Option<u32>,
}

/// What an [`Nfs4`] is made of.
pub struct Nfs4Options {
    /// What is served.
    pub export: Arc<Export>,
    /// The clients.
    pub state: Arc<State>,
    /// `so_major_id`: another one for every server, so that clients do not take two for one.
    pub owner: Vec<u8>,
    /// FATTR4_IMA, if it is offered.
    pub ima: Option<ImaNumbers>,
}

/// The program.
pub struct Nfs4 {
    export: Arc<Export>,
    state: Arc<State>,
    owner: Vec<u8>,
    ima: Option<ImaNumbers>,
    /// Clients that asked for FATTR4_IMA, and so know NFS4ERR_INTEGRITY.
    participants: Cache<ClientId, ()>,
}

impl Nfs4 {
    /// Serves an export.
    pub fn new(options: Nfs4Options) -> Self {
        let Nfs4Options { export, state, owner, ima } = options;
        Self { export, state, owner, ima, participants: Cache::new(PARTICIPANTS) }
    }
}

impl Program for Nfs4 {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn name(&self) -> &'static str {
        "nfs4"
    }

    fn procedure_name(&self, procedure: u32) -> &'static str {
        match procedure {
            NULL => "NULL",
            COMPOUND => "COMPOUND",
            _ => "UNKNOWN",
        }
    }

    fn reply_bound(&self, procedure: u32, arguments: &[u8]) -> usize {
        if procedure == COMPOUND { compound::reply_bound(arguments) } else { 0 }
    }

    fn remembered(&self, _: u32) -> bool {
        // Slots do that.
        false
    }

    fn finishes(&self, procedure: u32, arguments: &[u8]) -> bool {
        procedure == COMPOUND && compound::finishes(arguments)
    }

    fn call(
        self: Arc<Self>,
        context: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            match procedure {
                NULL => Outcome::Done { results: Writer::default(), ok: true },
                COMPOUND => compound::execute(&self, context, &arguments, Instant::now()).await,
                _ => Outcome::ProcedureUnavailable,
            }
        })
    }
}
