//! File handles and names: PUTFH and its kin, LOOKUP, LOOKUPP, SECINFO, SECINFO_NO_NAME.

use super::{Current, name};
use crate::export::ExportError;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::status::Status;

/// GETFH, RFC 8881 section 18.8.
pub(super) fn get(c: &mut Compound<'_>) -> Result<(), Status> {
    let current = c.current()?;
    c.results.opaque(current.handle());
    Ok(())
}

/// PUTFH, section 18.19. That the object is gone is said by what looks at it.
pub(super) fn put(c: &mut Compound<'_>, handle: &[u8]) -> Result<(), Status> {
    let fileid = c.server.export.fileid(handle).map_err(Status::of_handle)?;
    c.set_current(Some(Current::new(handle, fileid)));
    Ok(())
}

/// PUTROOTFH and PUTPUBFH, sections 18.21 and 18.20.
pub(super) async fn put_root(c: &mut Compound<'_>) -> Result<(), Status> {
    let root = c.server.export.root();
    put(c, root.as_bytes())
}

/// SAVEFH, section 18.28.
pub(super) fn save(c: &mut Compound<'_>) -> Result<(), Status> {
    c.saved = Some(c.current()?);
    c.saved_stateid = c.stateid;
    Ok(())
}

/// RESTOREFH, section 18.27.
pub(super) fn restore(c: &mut Compound<'_>) -> Result<(), Status> {
    c.current = Some(c.saved.ok_or(Status::NoFileHandle)?);
    c.stateid = c.saved_stateid;
    Ok(())
}

impl Compound<'_> {
    /// Finds a name in the current directory.
    pub(super) async fn find(&mut self, wanted: &[u8]) -> Result<Current, Status> {
        let current = self.current()?;
        match self.server.export.lookup(current.handle(), wanted, &self.caller).await {
            Ok((handle, attr)) => Ok(Current::of(&handle, attr.fileid)),
            // The object of the handle, or one on the way to it: which, its kind tells.
            Err(ExportError::NotADirectory) => match self.directory().await {
                Ok(_) => Err(Status::NotDir),
                Err(status) => Err(status),
            },
            Err(error) => Err(Status::of_name(error)),
        }
    }
}

/// LOOKUP, section 18.13.
pub(super) async fn lookup(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    c.current()?;
    name(wanted)?;
    let found = c.find(wanted).await?;
    c.set_current(Some(found));
    Ok(())
}

/// LOOKUPP, section 18.14. The root has no parent.
pub(super) async fn lookup_parent(c: &mut Compound<'_>) -> Result<(), Status> {
    let parent = parent(c).await?;
    c.set_current(Some(parent));
    Ok(())
}

async fn parent(c: &mut Compound<'_>) -> Result<Current, Status> {
    if c.current()?.handle() == c.server.export.root().as_bytes() {
        return Err(Status::NoEnt);
    }
    c.find(b"..").await
}

/// SECINFO, section 18.29. It uses up the current file handle.
pub(super) async fn security(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    c.current()?;
    name(wanted)?;
    c.find(wanted).await?;
    flavours(c);
    Ok(())
}

/// SECINFO_NO_NAME, section 18.45.
pub(super) async fn security_of_current(c: &mut Compound<'_>, of_parent: bool) -> Result<(), Status> {
    if of_parent {
        parent(c).await?;
    } else {
        c.current()?;
    }
    flavours(c);
    Ok(())
}

/// AUTH_SYS and AUTH_NONE, the better one first.
fn flavours(c: &mut Compound<'_>) {
    c.set_current(None);
    c.results.u32(2).u32(1).u32(0);
}
