//! Clients and sessions: EXCHANGE_ID, CREATE_SESSION, SEQUENCE, BIND_CONN_TO_SESSION, DESTROY_SESSION,
//! DESTROY_CLIENTID, RECLAIM_COMPLETE.

use crate::proto::nfs4::OPERATIONS_MAX;
use crate::proto::nfs4::args::{Operation, Protection};
use crate::proto::nfs4::compound::{Compound, Request, Step};
use crate::proto::nfs4::state::{
    Channel, CreateSession, ExchangeId, Sequence, SequenceResult, Sequenced, SessionId, Verifier,
};
use crate::proto::nfs4::status::Status;
use crate::wire::Writer;

/// EXCHGID4_FLAG_UPD_CONFIRMED_REC_A.
const UPDATE: u32 = 0x4000_0000;
/// EXCHGID4_FLAG_SUPP_MOVED_REFER, SUPP_MOVED_MIGR and BIND_PRINC_STATEID, the three of pNFS, and
/// UPD_CONFIRMED_REC_A.
const FLAGS_OF_1: u32 = 0x4007_0103;
/// EXCHGID4_FLAG_SUPP_FENCE_OPS, RFC 7862 section 14.1.
const FENCE: u32 = 0x0000_0004;
/// EXCHGID4_FLAG_USE_NON_PNFS.
const NO_PNFS: u32 = 0x0001_0000;
/// EXCHGID4_FLAG_CONFIRMED_R.
const CONFIRMED: u32 = 0x8000_0000;

/// CREATE_SESSION4_FLAG_PERSIST, CONN_BACK_CHAN and CONN_RDMA.
const SESSION_FLAGS: u32 = 0x7;
/// CREATE_SESSION4_FLAG_CONN_BACK_CHAN.
const BACK_CHANNEL: u32 = 0x2;

/// EXCHANGE_ID, RFC 8881 section 18.35.
pub(super) fn exchange_id(
    c: &mut Compound<'_>,
    verifier: Verifier,
    owner: &[u8],
    flags: u32,
    protection: Protection,
) -> Result<(), Status> {
    let known = if c.minor >= 2 { FLAGS_OF_1 | FENCE } else { FLAGS_OF_1 };
    if flags & !known != 0 {
        return Err(Status::Inval);
    }
    match protection {
        Protection::None => {}
        // Both ask for RPCSEC_GSS, which no call here has: section 18.35.3.
        Protection::Machine => return Err(Status::Inval),
        Protection::Ssv => return Err(Status::EncrAlgUnsupp),
    }
    let request = ExchangeId { verifier, owner, update: flags & UPDATE != 0, principal: c.principal };
    let exchanged = c.server.state.exchange_id(request, c.now)?;
    let confirmed = if exchanged.confirmed { CONFIRMED } else { 0 };
    let w = &mut c.results;
    w.u64(exchanged.client).u32(exchanged.sequence).u32(NO_PNFS | confirmed);
    // SP4_NONE; so_minor_id, so_major_id; the scope of handles, which all with the same key share.
    w.u32(0).u64(0).opaque(&c.server.owner).opaque(&c.server.export.fsid().to_be_bytes());
    // No implementation id, since nothing should depend on it.
    w.u32(0);
    Ok(())
}

/// CREATE_SESSION, section 18.36. A back channel is granted and never used: nothing is called back, but
/// there are clients that take no session without one.
pub(super) async fn create(
    c: &mut Compound<'_>,
    client: u64,
    sequence: u32,
    flags: u32,
    fore: Channel,
    back: Channel,
) -> Result<(), Status> {
    if flags & !SESSION_FLAGS != 0 {
        return Err(Status::Inval);
    }
    let (principal, connection) = (c.principal, c.connection);
    let request = CreateSession { client, sequence, fore, principal, connection };
    let created = c.server.state.create_session(request, c.now).await?;
    c.results.fixed(&created.session).u32(created.sequence).u32(flags & BACK_CHANNEL);
    channel(&mut c.results, created.fore);
    channel(&mut c.results, back);
    Ok(())
}

/// `channel_attrs4`, without padding and RDMA.
fn channel(w: &mut Writer, channel: Channel) {
    w.u32(0).u32(channel.request).u32(channel.response).u32(channel.response_cached);
    w.u32(channel.operations).u32(channel.slots).u32(0);
}

/// SEQUENCE, section 18.46.
pub(in crate::proto::nfs4) fn sequence(
    c: &mut Compound<'_>,
    operation: &Operation<'_>,
    request: &Request,
) -> Result<Step, Status> {
    let &Operation::Sequence { session, sequence, slot, highest_slot, cache_this } = operation else {
        return Err(Status::ServerFault);
    };
    if request.operations > OPERATIONS_MAX {
        // The reply's memory was not announced for as many.
        return Err(Status::TooManyOps);
    }
    let asked = Sequence {
        session,
        sequence,
        slot,
        highest_slot,
        cache_this,
        connection: c.connection,
        fingerprint: request.fingerprint,
        request: request.size,
        operations: request.operations,
    };
    match c.server.state.sequence(asked, c.now)? {
        Sequenced::Execute(turn) => {
            let result = turn.result();
            c.begin(turn);
            write(&mut c.results, &result);
            Ok(Step::Next)
        }
        Sequenced::Replay(bytes) => Ok(Step::Replay(bytes)),
        Sequenced::Uncached(result) => {
            write(&mut c.results, &result);
            Ok(Step::Uncached)
        }
    }
}

fn write(w: &mut Writer, result: &SequenceResult) {
    w.fixed(&result.session).u32(result.sequence).u32(result.slot);
    w.u32(result.highest_slot).u32(result.target_highest_slot).u32(result.flags);
}

/// BIND_CONN_TO_SESSION, section 18.34: to both channels where that is asked for.
pub(super) fn bind(c: &mut Compound<'_>, session: SessionId, direction: u32) -> Result<(), Status> {
    /// CDFC4_FORE and CDFC4_BACK, which are CDFS4_FORE and CDFS4_BACK, too.
    const ONE_WAY: [u32; 2] = [1, 2];
    /// CDFS4_BOTH.
    const BOTH: u32 = 3;
    let bound = if ONE_WAY.contains(&direction) { direction } else { BOTH };
    c.server.state.bind_connection(session, c.connection, c.now)?;
    // Without RDMA.
    c.results.fixed(&session).u32(bound).bool(false);
    Ok(())
}

/// DESTROY_SESSION, section 18.37: of one's own session only as the last operation.
pub(super) fn destroy(c: &mut Compound<'_>, session: SessionId) -> Result<(), Status> {
    if !c.last && c.turn.as_ref().is_some_and(|turn| turn.result().session == session) {
        return Err(Status::NotOnlyOp);
    }
    c.server.state.destroy_session(session, c.turn.as_ref(), c.connection, c.now)
}

/// DESTROY_CLIENTID, section 18.50.
pub(super) async fn destroy_client(c: &mut Compound<'_>, client: u64) -> Result<(), Status> {
    let inside = c.client().ok();
    c.server.state.destroy_client(client, inside, c.now).await
}

/// RECLAIM_COMPLETE, section 18.51.
pub(super) async fn reclaim_complete(c: &mut Compound<'_>, one_fs: bool) -> Result<(), Status> {
    if one_fs {
        c.current()?;
    }
    let client = c.client()?;
    c.server.state.reclaim_complete(client, one_fs, c.now).await
}
