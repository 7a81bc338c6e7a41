//! Extended attributes and proofs for clients of NFS version 3: the program of `xdr/integrity.x`.
//!
//! The types and their codecs are made from that file; [`decode`] and [`encode`] are the only ways
//! to them. Objects are named by their NFS version 3 handles.

mod codec;
#[rustfmt::skip]
#[allow(missing_docs, non_camel_case_types, unused_parens, clippy::all, clippy::cast_possible_truncation)]
mod generated;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use codec::{Strict, Wire, WireError, decode, encode};
pub use generated::{
    GETPROOF1args, GETPROOF1res, GETPROOF1resok, GETXATTR1args, GETXATTR1res, GETXATTR1resok,
    INTEGRITY_BLOCKLEN, INTEGRITY_BLOCKS, INTEGRITY_DESCRIPTORLEN, INTEGRITY_FHSIZE, INTEGRITY_NAMELEN,
    INTEGRITY_NAMES, INTEGRITY_VALUELEN, LISTXATTRS1args, LISTXATTRS1res, LISTXATTRS1resok, integrity_stat,
    tree_block, xattr_name,
};

use crate::export::{Caller, Export, PROOF_MAX, ProofBlock, RangeProof};
use crate::proto::rpc::{BoxFuture, CallContext, Outcome, Program};
use crate::wire::Writer;

/// The program number.
pub const PROGRAM: u32 = 0x2000_8276;
/// The version.
pub const VERSION: u32 = 1;
/// NULL: does nothing.
pub const NULL: u32 = 0;
/// GETXATTR: the value of an extended attribute.
pub const GETXATTR: u32 = 1;
/// LISTXATTRS: the names of an object's extended attributes.
pub const LISTXATTRS: u32 = 2;
/// GETPROOF: what proves a range of a file.
pub const GETPROOF: u32 = 3;

/// The names of the procedures, by number.
const NAMES: [&str; 4] = ["NULL", "GETXATTR", "LISTXATTRS", "GETPROOF"];

fn name(procedure: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(procedure).ok()?).copied()
}

/// Bytes of results beside values, names and blocks.
const OVERHEAD: usize = 512;
/// The export's value, its copy in the results, and their encoding.
const COPIES: usize = 3;
/// Bytes of a full page of names, each in its vector and with length and padding.
const PAGE: usize = size(INTEGRITY_NAMES) * (size(INTEGRITY_NAMELEN) + 40);
/// Bytes of tree blocks in one reply, of blocks of 1 KiB or more, each with level, index and vector.
const PROOF: usize = size(PROOF_BYTES) + size(PROOF_BYTES) / 1024 * 64;
#[allow(clippy::cast_possible_wrap)] // It is 320 KiB.
const PROOF_BYTES: i64 = PROOF_MAX as i64;

/// A limit of `integrity.x`; all are small.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
const fn size(limit: i64) -> usize {
    limit as usize
}

/// Takes the results of a procedure apart.
macro_rules! taken_apart {
    ($($results:ident: $resok:ident,)*) => {$(
        impl $results {
            /// What was asked for, or the status that tells why not.
            pub fn into_result(self) -> Result<$resok, integrity_stat> {
                Err(match self {
                    Self::INTEGRITY_OK(resok) => return Ok(resok),
                    Self::INTEGRITY_IO => integrity_stat::INTEGRITY_IO,
                    Self::INTEGRITY_ACCES => integrity_stat::INTEGRITY_ACCES,
                    Self::INTEGRITY_INVAL => integrity_stat::INTEGRITY_INVAL,
                    Self::INTEGRITY_NAMETOOLONG => integrity_stat::INTEGRITY_NAMETOOLONG,
                    Self::INTEGRITY_STALE => integrity_stat::INTEGRITY_STALE,
                    Self::INTEGRITY_BADHANDLE => integrity_stat::INTEGRITY_BADHANDLE,
                    Self::INTEGRITY_TOOSMALL => integrity_stat::INTEGRITY_TOOSMALL,
                    Self::INTEGRITY_JUKEBOX => integrity_stat::INTEGRITY_JUKEBOX,
                    Self::INTEGRITY_NOXATTR => integrity_stat::INTEGRITY_NOXATTR,
                })
            }
        }
    )*};
}

taken_apart! {
    GETXATTR1res: GETXATTR1resok,
    LISTXATTRS1res: LISTXATTRS1resok,
    GETPROOF1res: GETPROOF1resok,
}

/// The program.
pub struct Sideband {
    export: Arc<Export>,
}

impl Sideband {
    /// Serves `export`.
    pub fn new(export: Arc<Export>) -> Self {
        Self { export }
    }

    async fn get_xattr(&self, args: GETXATTR1args, caller: &Caller) -> Result<GETXATTR1res, integrity_stat> {
        let value = self.export.get_xattr(&args.object, &args.name, caller).await.map_err(status::of)?;
        if value.len() > size(INTEGRITY_VALUELEN) {
            // What the store holds and no client could be given.
            return Err(integrity_stat::INTEGRITY_TOOSMALL);
        }
        Ok(GETXATTR1res::INTEGRITY_OK(GETXATTR1resok { value: value.to_vec() }))
    }

    async fn list_xattrs(
        &self,
        args: LISTXATTRS1args,
        caller: &Caller,
    ) -> Result<LISTXATTRS1res, integrity_stat> {
        let names = self.export.list_xattrs(&args.object, caller).await.map_err(status::of)?;
        page(names, args.cookie).map(LISTXATTRS1res::INTEGRITY_OK)
    }

    async fn get_proof(&self, args: GETPROOF1args, caller: &Caller) -> Result<GETPROOF1res, integrity_stat> {
        let proof = self.export.proof(&args.object, args.offset, args.length, caller).await;
        Ok(GETPROOF1res::INTEGRITY_OK(laid_out(proof.map_err(status::of)?)))
    }
}

/// The names from `cookie` on, as many as go into one reply.
fn page(names: Vec<Vec<u8>>, cookie: u64) -> Result<LISTXATTRS1resok, integrity_stat> {
    let total = names.len();
    let start = usize::try_from(cookie).ok().filter(|start| *start <= total);
    let start = start.ok_or(integrity_stat::INTEGRITY_INVAL)?;
    let names = names.into_iter().skip(start).take(size(INTEGRITY_NAMES));
    let names: Vec<xattr_name> = names.map(|name| xattr_name { name }).collect();
    let end = start + names.len();
    Ok(LISTXATTRS1resok { cookie: end as u64, names, eof: end == total })
}

fn laid_out(proof: RangeProof) -> GETPROOF1resok {
    let RangeProof { descriptor, covered, blocks } = proof;
    let blocks = blocks.into_iter();
    let block = |ProofBlock { level, index, bytes }| tree_block { level, index, bytes: bytes.to_vec() };
    GETPROOF1resok { descriptor: descriptor.to_vec(), covered, blocks: blocks.map(block).collect() }
}

/// The results of a call whose arguments are `bytes`, as `work` gives them.
async fn answer<A, R, F>(bytes: &[u8], work: impl FnOnce(A) -> F) -> Outcome
where
    A: Wire,
    R: Wire,
    F: Future<Output = Result<R, integrity_stat>>,
{
    let Ok(arguments) = decode(bytes) else { return Outcome::GarbageArguments };
    let result = work(arguments).await;
    let (encoded, ok) = match &result {
        Ok(results) => (encode(results), true),
        // A case without data is its discriminant.
        Err(status) => (encode(status), false),
    };
    let mut results = Writer::default();
    match encoded {
        Ok(bytes) => {
            results.raw(bytes.into());
            Outcome::Done { results, ok }
        }
        // The export gave more than a reply takes.
        Err(_) => {
            results.u32(integrity_stat::INTEGRITY_IO as u32);
            Outcome::Done { results, ok: false }
        }
    }
}

impl Program for Sideband {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn name(&self) -> &'static str {
        "sideband"
    }

    fn procedure_name(&self, procedure: u32) -> &'static str {
        name(procedure).unwrap_or("UNKNOWN")
    }

    fn reply_bound(&self, procedure: u32, arguments: &[u8]) -> usize {
        let _ = arguments;
        let memory = match procedure {
            GETXATTR => COPIES * size(INTEGRITY_VALUELEN),
            LISTXATTRS => self.export.names_held() + 2 * PAGE,
            GETPROOF => COPIES * PROOF,
            _ => 0,
        };
        OVERHEAD + memory
    }

    fn remembered(&self, _procedure: u32) -> bool {
        false
    }

    fn call(
        self: Arc<Self>,
        context: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let caller = Caller::from(context);
            match procedure {
                NULL => Outcome::Done { results: Writer::default(), ok: true },
                GETXATTR => answer(&arguments, |args| self.get_xattr(args, &caller)).await,
                LISTXATTRS => answer(&arguments, |args| self.list_xattrs(args, &caller)).await,
                GETPROOF => answer(&arguments, |args| self.get_proof(args, &caller)).await,
                _ => Outcome::ProcedureUnavailable,
            }
        })
    }
}
