//! OPEN, OPEN_DOWNGRADE, CLOSE.

use super::{Current, name, not_a_file};
use crate::export::Kind;
use crate::proto::nfs4::args::{Claim, Create};
use crate::proto::nfs4::attr;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::state::{Open, Stateid};
use crate::proto::nfs4::status::Status;
use crate::wire::Writer;

/// OPEN4_SHARE_ACCESS_WRITE.
const WRITE: u32 = 2;
/// OPEN4_SHARE_ACCESS_BOTH, and OPEN4_SHARE_DENY_BOTH.
const BOTH: u32 = 3;
/// What a client wants of delegations: OPEN4_SHARE_ACCESS_WANT_DELEG_MASK.
const WANT: u32 = 0xff00;
/// OPEN4_SHARE_ACCESS_WANT_NO_DELEG.
const WANT_NONE: u32 = 0x0400;
/// OPEN4_SHARE_ACCESS_WANT_CANCEL, the last one.
const WANT_CANCEL: u32 = 0x0500;
/// OPEN4_SHARE_ACCESS_WANT_SIGNAL_DELEG_WHEN_RESRC_AVAIL and WANT_PUSH_DELEG_WHEN_UNCONTENDED.
const SIGNALS: u32 = 0x0003_0000;
/// OPEN4_RESULT_LOCKTYPE_POSIX.
const POSIX_LOCKS: u32 = 4;

/// `OPEN4args`.
pub(super) struct Request<'a> {
    pub(super) access: u32,
    pub(super) deny: u32,
    pub(super) owner: &'a [u8],
    pub(super) create: Create<'a>,
    pub(super) claim: Claim<'a>,
}

/// The share of `access` and `deny` alone.
fn share(access: u32, deny: u32) -> Result<u32, Status> {
    let (share, want) = (access & BOTH, access & WANT);
    let known = access & !(BOTH | WANT | SIGNALS) == 0 && want & 0xff == 0 && want <= WANT_CANCEL;
    if share == 0 || deny > BOTH || !known {
        return Err(Status::Inval);
    }
    Ok(share)
}

/// OPEN, RFC 8881 section 18.16: of what exists, to read.
pub(super) async fn open(c: &mut Compound<'_>, request: &Request<'_>) -> Result<(), Status> {
    let current = c.current()?;
    let share = share(request.access, request.deny)?;
    if request.create != Create::No && !matches!(request.claim, Claim::Null(_)) {
        return Err(Status::Inval);
    }
    let (file, change) = match request.claim {
        Claim::Null(wanted) => {
            name(wanted)?;
            let found = c.find(wanted).await;
            let file = existing(c, found, &request.create)?;
            let found = c.server.export.attributes(current.handle(), &c.caller).await;
            (file, found.map_err(|error| c.refused(error))?.change)
        }
        Claim::Handle | Claim::Previous => (current, 0),
        // No client was ever given one.
        Claim::Delegated => return Err(Status::BadStateid),
        Claim::DelegatedBefore => return Err(Status::NotSupp),
    };
    permitted(c, &file).await?;
    if share & WRITE != 0 {
        return Err(Status::RoFs);
    }
    let opened = Open {
        client: c.client()?,
        owner: request.owner,
        file: file.fileid,
        access: share,
        deny: request.deny,
        reclaim: request.claim == Claim::Previous,
    };
    let stateid = c.server.state.open(opened, c.now).await?;
    c.set_current(Some(file));
    c.answer(stateid);
    // The directory did not change; no attribute was set.
    c.results.bool(true).u64(change).u64(change).u32(POSIX_LOCKS).u32(0);
    no_delegation(&mut c.results, request.access & WANT);
    Ok(())
}

/// What opening with `create` makes of a name: what is there is opened, and nothing is made.
fn existing(
    c: &Compound<'_>,
    found: Result<Current, Status>,
    create: &Create<'_>,
) -> Result<Current, Status> {
    let (exclusive, attributes) = match create {
        Create::No => return found,
        Create::Unchecked(attributes) => (false, Some(attributes)),
        Create::Guarded(attributes) | Create::Exclusive1(attributes) => (true, Some(attributes)),
        Create::Exclusive => (true, None),
    };
    if let (Some(attributes), Some(ima)) = (attributes, c.server.ima)
        && attributes.mask.contains(ima.attribute)
    {
        return Err(Status::Inval);
    }
    match found {
        Err(Status::NoEnt) => Err(Status::RoFs),
        Ok(_) if exclusive => Err(Status::Exist),
        // To be cut.
        Ok(_) if attributes.is_some_and(|attributes| attributes.mask.contains(attr::SIZE)) => {
            Err(Status::RoFs)
        }
        other => other,
    }
}

/// Whether the caller may read the file: who may run it may, for a client reads to run.
async fn permitted(c: &mut Compound<'_>, file: &Current) -> Result<(), Status> {
    let server = c.server;
    let found = server.export.access(file.handle(), &c.caller).await;
    let (access, attr) = found.map_err(|error| c.refused(error))?;
    if attr.kind != Kind::Regular {
        return Err(not_a_file(attr.kind));
    }
    if access.read || access.execute {
        return Ok(());
    }
    // Reading tells whether it is for want of permission or of proof, and lets the owner in.
    match server.export.read(file.handle(), 0, 0, &c.caller).await {
        Ok(_) => Ok(()),
        Err(error) => Err(c.refused(error)),
    }
}

/// `open_delegation4`: none, and why when the client had wishes.
fn no_delegation(w: &mut Writer, want: u32) {
    /// OPEN_DELEGATE_NONE.
    const NONE: u32 = 0;
    /// OPEN_DELEGATE_NONE_EXT.
    const NONE_EXT: u32 = 3;
    /// WND4_NOT_WANTED.
    const NOT_WANTED: u32 = 0;
    /// WND4_NOT_SUPP_FTYPE.
    const NOT_SUPPORTED: u32 = 3;
    /// WND4_CANCELLED.
    const CANCELLED: u32 = 7;
    match want {
        0 => w.u32(NONE),
        WANT_NONE => w.u32(NONE_EXT).u32(NOT_WANTED),
        WANT_CANCEL => w.u32(NONE_EXT).u32(CANCELLED),
        _ => w.u32(NONE_EXT).u32(NOT_SUPPORTED),
    };
}

/// OPEN_DOWNGRADE, section 18.18.
pub(super) fn downgrade(
    c: &mut Compound<'_>,
    stateid: Stateid,
    access: u32,
    deny: u32,
) -> Result<(), Status> {
    let (client, file) = (c.client()?, c.current()?.fileid);
    let share = share(access, deny)?;
    let stateid = c.real(stateid, false)?;
    let stateid = c.server.state.open_downgrade(client, file, stateid, share, deny)?;
    c.answer(stateid);
    Ok(())
}

/// CLOSE, section 18.2.
pub(super) fn close(c: &mut Compound<'_>, stateid: Stateid) -> Result<(), Status> {
    let (client, file) = (c.client()?, c.current()?.fileid);
    let stateid = c.real(stateid, false)?;
    let stateid = c.server.state.close(client, file, stateid)?;
    c.answer(stateid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_known_bits_and_some_access() {
        for (access, deny, expected) in [
            (1, 0, Ok(1)),
            (0x0401, 3, Ok(1)),
            (0x0003_0302, 2, Ok(2)),
            (3, 3, Ok(3)),
            (0, 0, Err(Status::Inval)),
            (1, 4, Err(Status::Inval)),
            (0x0601, 0, Err(Status::Inval)),
            (0x0104_0001, 0, Err(Status::Inval)),
            (5, 0, Err(Status::Inval)),
        ] {
            assert_eq!(share(access, deny), expected, "{access:x} {deny}");
        }
    }
}
