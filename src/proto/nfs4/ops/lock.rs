//! LOCK, LOCKT, LOCKU: byte ranges, as the state keeps them.

use super::not_a_file;
use crate::export::Kind;
use crate::proto::nfs4::args::LockOwner;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::state::{Lock, LockError, LockKind, LockRange, Locker, Stateid};
use crate::proto::nfs4::status::Status;

/// LOCK, RFC 8881 section 18.10.
pub(super) async fn lock(
    c: &mut Compound<'_>,
    kind: LockKind,
    reclaim: bool,
    range: LockRange,
    owner: LockOwner<'_>,
) -> Result<(), Status> {
    let file = c.current()?.fileid;
    let client = c.client()?;
    let locker = match owner {
        LockOwner::New(open, owner) => Locker::New(c.real(open, true)?, owner),
        LockOwner::Existing(lock) => Locker::Existing(c.real(lock, true)?),
    };
    let request = Lock { client, file, locker, kind, range, reclaim };
    match c.server.state.lock(request, c.now).await {
        Ok(stateid) => {
            c.answer(stateid);
            Ok(())
        }
        Err(error) => Err(status(c, error)),
    }
}

/// LOCKT, section 18.11.
pub(super) async fn test(
    c: &mut Compound<'_>,
    kind: LockKind,
    range: LockRange,
    owner: &[u8],
) -> Result<(), Status> {
    match c.kind().await? {
        Kind::Regular => {}
        other => return Err(not_a_file(other)),
    }
    let (client, file) = (c.client()?, c.current()?.fileid);
    let tested = c.server.state.lock_test(client, file, owner, kind, range, c.now);
    tested.map_err(|error| status(c, error))
}

/// LOCKU, section 18.12.
pub(super) fn unlock(c: &mut Compound<'_>, stateid: Stateid, range: LockRange) -> Result<(), Status> {
    let (client, file) = (c.client()?, c.current()?.fileid);
    let stateid = c.real(stateid, true)?;
    let stateid = c.server.state.unlock(client, file, stateid, range)?;
    c.answer(stateid);
    Ok(())
}

fn status(c: &mut Compound<'_>, error: LockError) -> Status {
    match error {
        LockError::Denied(conflict) => {
            c.conflict = Some(conflict);
            Status::Denied
        }
        LockError::Status(status) => status,
    }
}
