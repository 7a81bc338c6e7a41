//! ONC RPC version 2 over TCP, RFC 5531: records with caps, calls and replies, credentials, the
//! reply cache, and dispatch by program and version. Knows nothing of NFS.

mod budget;
mod call;
mod connection;
mod output;
mod peers;
mod replay;
mod reply;
pub mod rpcbind;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

pub use call::{AuthStatus, AuthSys, Call, CallError, Credential};
pub use server::{Limits, Server};

use crate::wire::Writer;

/// A future that is sent between threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who calls.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The peer's address and port.
    pub peer: SocketAddr,
    /// Which of the server's connections the call came over; no number is used twice.
    pub connection: u64,
    /// The credential, as claimed.
    pub credential: Credential,
}

/// What a procedure answers.
#[derive(Debug)]
pub enum Outcome {
    /// Accepted and executed: the results. `ok` is false when they carry an error status.
    Done {
        /// The procedure's results.
        results: Writer,
        /// False when the results carry an error status; for the metrics alone.
        ok: bool,
    },
    /// The version has no such procedure.
    ProcedureUnavailable,
    /// The arguments are not what the procedure takes.
    GarbageArguments,
}

/// One version of one RPC program.
pub trait Program: Send + Sync + 'static {
    /// The program number.
    fn number(&self) -> u32;
    /// The version this is.
    fn version(&self) -> u32;
    /// For metrics: `nfs3`.
    fn name(&self) -> &'static str;
    /// For metrics: the procedure's name in upper case, `UNKNOWN` for a number that is none.
    fn procedure_name(&self, procedure: u32) -> &'static str;
    /// Upper bound of the memory that making the reply and holding it takes, in bytes, judged from the
    /// raw arguments. Budgets are taken by it before the call is executed.
    fn reply_bound(&self, procedure: u32, arguments: &[u8]) -> usize;
    /// True when a repeated call must get the first one's reply and not be executed again.
    fn remembered(&self, procedure: u32) -> bool;
    /// True when a call must run to its end though its connection breaks, because it changes what the
    /// program keeps and its answer is for the caller's repeat over another connection.
    fn finishes(&self, procedure: u32, arguments: &[u8]) -> bool {
        let _ = (procedure, arguments);
        false
    }
    /// Executes a call.
    fn call(
        self: Arc<Self>,
        context: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome>;
}
