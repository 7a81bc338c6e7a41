//! What would change something: once it is clear what it is about, NFS4ERR_ROFS.

use super::{Current, name, not_a_file};
use crate::export::Kind;
use crate::proto::nfs4::args::Attributes;
use crate::proto::nfs4::attr;
use crate::proto::nfs4::bitmap::Bitmap;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::status::Status;

/// Attributes that can be set, somewhere else.
const SETTABLE: Bitmap =
    attr::WRITE_ONLY.or(Bitmap::of(&[attr::SIZE, attr::MODE, attr::OWNER, attr::OWNER_GROUP]));

/// CREATE, RFC 8881 section 18.4.
pub(super) async fn create(c: &mut Compound<'_>, kind: u32, wanted: &[u8]) -> Result<(), Status> {
    c.current()?;
    // Directory, devices, symbolic link, socket, pipe: no regular files, no named attributes.
    if !matches!(kind, 2..=7) {
        return Err(Status::BadType);
    }
    by_name(c, wanted).await
}

/// REMOVE, section 18.25, and whatever else makes or takes away a name.
pub(super) async fn by_name(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    c.current()?;
    name(wanted)?;
    c.directory().await?;
    Err(Status::RoFs)
}

/// LINK, section 18.9.
pub(super) async fn link(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    saved(c)?;
    by_name(c, wanted).await
}

/// RENAME, section 18.26.
pub(super) async fn rename(c: &mut Compound<'_>, from: &[u8], to: &[u8]) -> Result<(), Status> {
    saved(c)?;
    name(from)?;
    by_name(c, to).await
}

fn saved(c: &Compound<'_>) -> Result<Current, Status> {
    c.current()?;
    c.saved.ok_or(Status::NoFileHandle)
}

/// SETATTR, section 18.30.
pub(super) async fn set_attributes(c: &mut Compound<'_>, attributes: &Attributes<'_>) -> Result<(), Status> {
    let kind = c.kind().await?;
    let mask = attributes.mask;
    if c.server.ima.is_some_and(|ima| mask.contains(ima.attribute)) {
        // As the draft has it for objects without measurement, and for servers that take none.
        return Err(if kind == Kind::Regular { Status::Inval } else { Status::WrongType });
    }
    let supported = attr::supported(c.minor);
    if !mask.without(supported.or(attr::WRITE_ONLY)).is_empty() {
        return Err(Status::AttrNotSupp);
    }
    if !mask.without(SETTABLE).is_empty() {
        return Err(Status::Inval);
    }
    Err(Status::RoFs)
}

/// WRITE, COMMIT, ALLOCATE, DEALLOCATE.
pub(super) async fn data(c: &mut Compound<'_>) -> Result<(), Status> {
    match c.kind().await? {
        Kind::Regular => Err(Status::RoFs),
        other => Err(not_a_file(other)),
    }
}

/// COPY, CLONE: from the saved file to the current one.
pub(super) async fn copy(c: &mut Compound<'_>) -> Result<(), Status> {
    saved(c)?;
    data(c).await
}

/// DELEGRETURN, section 18.6: none was ever given.
pub(super) fn return_delegation(c: &Compound<'_>) -> Result<(), Status> {
    c.current()?;
    Err(Status::BadStateid)
}
