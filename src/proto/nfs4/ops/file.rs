//! The content of files and links: READ, READ_PLUS, SEEK, READLINK.

use super::not_a_file;
use crate::export::{ExportError, READ_MAX, ReadReply};
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::state::Stateid;
use crate::proto::nfs4::status::Status;

/// The longest target of a symbolic link.
pub(super) const TARGET_MAX: usize = 4096;

impl Compound<'_> {
    /// The data of a READ whose results take `overhead` bytes besides: as many as there is room for. An
    /// answer that is to be kept is not cut for that, but refused.
    async fn data(
        &mut self,
        stateid: Stateid,
        offset: u64,
        count: u32,
        overhead: usize,
    ) -> Result<ReadReply, Status> {
        self.may_read(stateid)?;
        let room = self.room_unkept().saturating_sub(overhead) / 4 * 4;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        // Nothing of what was asked for would be no answer.
        let count = if room == 0 { count } else { count.min(room) }.min(READ_MAX);
        self.fits(overhead + usize::try_from(count).unwrap_or(usize::MAX).next_multiple_of(4))?;
        self.proven(offset, count).await
    }

    /// What the export gives of the current file to who may read it, and refuses as it does.
    async fn proven(&mut self, offset: u64, count: u32) -> Result<ReadReply, Status> {
        let current = self.current()?;
        match self.server.export.read(current.handle(), offset, count, &self.caller).await {
            Ok(read) => Ok(read),
            Err(ExportError::NotRegular) => Err(not_a_file(self.kind().await?)),
            Err(error) => Err(self.refused(error)),
        }
    }
}

/// READ, RFC 8881 section 18.22.
pub(super) async fn read(
    c: &mut Compound<'_>,
    stateid: Stateid,
    offset: u64,
    count: u32,
) -> Result<(), Status> {
    let read = c.data(stateid, offset, count, 8).await?;
    let count = read.data.len();
    c.results.bool(read.eof).payload(read.data.into_parts(), count);
    Ok(())
}

/// READ_PLUS, RFC 7862 section 15.10: all is data, for only data is proven. None at all where there
/// is nothing to read.
pub(super) async fn read_plus(
    c: &mut Compound<'_>,
    stateid: Stateid,
    offset: u64,
    count: u32,
) -> Result<(), Status> {
    /// NFS4_CONTENT_DATA.
    const DATA: u32 = 0;
    let read = c.data(stateid, offset, count, 24).await?;
    let count = read.data.len();
    c.results.bool(read.eof);
    if count == 0 {
        c.results.u32(0);
    } else {
        c.results.u32(1).u32(DATA).u64(offset).payload(read.data.into_parts(), count);
    }
    Ok(())
}

/// SEEK, RFC 7862 section 15.11: all is data, and the hole is at the end. Where that is, is proven as the
/// end of a READ is, and refused where that is.
pub(super) async fn seek(
    c: &mut Compound<'_>,
    stateid: Stateid,
    offset: u64,
    what: u32,
) -> Result<(), Status> {
    const DATA: u32 = 0;
    const HOLE: u32 = 1;
    c.may_read(stateid)?;
    let size = c.proven(offset, 0).await?.attr.size;
    match what {
        DATA | HOLE if offset >= size => Err(Status::Nxio),
        DATA => {
            c.results.bool(false).u64(offset);
            Ok(())
        }
        HOLE => {
            c.results.bool(true).u64(size);
            Ok(())
        }
        _ => Err(Status::UnionNotSupp),
    }
}

/// READLINK, RFC 8881 section 18.24. A target longer than any that could be made is an error of
/// the store.
pub(super) async fn read_link(c: &mut Compound<'_>) -> Result<(), Status> {
    let current = c.current()?;
    match c.server.export.read_link(current.handle(), &c.caller).await {
        Ok((target, _)) if target.len() <= TARGET_MAX => {
            c.results.opaque(&target);
            Ok(())
        }
        Ok(_) => Err(Status::Io),
        Err(error) => Err(c.refused(error)),
    }
}
