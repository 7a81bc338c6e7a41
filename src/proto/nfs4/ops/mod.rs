//! The operations, by what they are about.

mod attributes;
mod directory;
mod file;
mod handle;
mod lock;
mod open;
mod refuse;
pub(super) mod session;
mod stateid;
mod xattr;

use super::args::Operation;
use super::compound::Compound;
use super::op;
use super::state::{Conflict, LockKind};
use super::status::Status;
use crate::export::{FileHandle, HANDLE_MAX, Kind, READ_MAX, memory_held};
use crate::wire::Writer;

/// The longest name of an object.
pub(super) const NAME_MAX: usize = 255;

/// The current or saved file handle.
#[derive(Clone, Copy)]
pub(super) struct Current {
    bytes: [u8; HANDLE_MAX],
    len: usize,
    /// The object's number, by which opens and locks go.
    pub(super) fileid: u64,
}

impl Current {
    fn new(handle: &[u8], fileid: u64) -> Self {
        let mut bytes = [0; HANDLE_MAX];
        let len = bytes.iter_mut().zip(handle).map(|(to, from)| *to = *from).count();
        Self { bytes, len, fileid }
    }

    fn of(handle: &FileHandle, fileid: u64) -> Self {
        Self::new(handle.as_bytes(), fileid)
    }

    /// The handle.
    pub(super) fn handle(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Executes an operation other than SEQUENCE: its results stand behind its status afterwards, or
/// it fails.
pub(super) async fn execute(c: &mut Compound<'_>, operation: Operation<'_>) -> Result<(), Status> {
    match operation {
        Operation::Access { wanted } => attributes::access(c, wanted).await,
        Operation::GetAttr { wanted } => attributes::get(c, wanted).await,
        Operation::Verify { same, attributes } => attributes::verify(c, same, &attributes).await,

        Operation::GetFh => handle::get(c),
        Operation::PutFh { handle } => handle::put(c, handle),
        Operation::PutRootFh => handle::put_root(c).await,
        Operation::SaveFh => handle::save(c),
        Operation::RestoreFh => handle::restore(c),
        Operation::Lookup { name } => handle::lookup(c, name).await,
        Operation::LookupParent => handle::lookup_parent(c).await,
        Operation::SecInfo { name } => handle::security(c, name).await,
        Operation::SecInfoNoName { parent } => handle::security_of_current(c, parent).await,

        Operation::ReadDir { cookie, verifier, names, count, wanted } => {
            let request = directory::Request { cookie, verifier, names, count, wanted };
            directory::read(c, &request).await
        }
        Operation::ReadLink => file::read_link(c).await,
        Operation::Read { stateid, offset, count } => file::read(c, stateid, offset, count).await,
        Operation::ReadPlus { stateid, offset, count } => file::read_plus(c, stateid, offset, count).await,
        Operation::Seek { stateid, offset, what } => file::seek(c, stateid, offset, what).await,

        Operation::Open { access, deny, owner, create, claim } => {
            open::open(c, &open::Request { access, deny, owner, create, claim }).await
        }
        Operation::OpenDowngrade { stateid, access, deny } => open::downgrade(c, stateid, access, deny),
        Operation::Close { stateid } => open::close(c, stateid),

        Operation::Lock { kind, reclaim, range, owner } => lock::lock(c, kind, reclaim, range, owner).await,
        Operation::LockTest { kind, range, owner } => lock::test(c, kind, range, owner).await,
        Operation::Unlock { stateid, range } => lock::unlock(c, stateid, range),
        Operation::FreeStateid { stateid } => stateid::free(c, stateid),
        Operation::TestStateid { stateids } => stateid::test(c, stateids),

        Operation::ExchangeId { verifier, owner, flags, protection } => {
            session::exchange_id(c, verifier, owner, flags, protection)
        }
        Operation::CreateSession { client, sequence, flags, fore, back } => {
            session::create(c, client, sequence, flags, fore, back).await
        }
        Operation::BindConnection { session, direction } => session::bind(c, session, direction),
        Operation::BackchannelCtl => Ok(()),
        Operation::DestroySession { session } => session::destroy(c, session),
        Operation::DestroyClientid { client } => session::destroy_client(c, client).await,
        Operation::ReclaimComplete { one_fs } => session::reclaim_complete(c, one_fs).await,

        Operation::GetXattr { name } => xattr::get(c, name).await,
        Operation::ListXattrs { cookie, count } => xattr::list(c, cookie, count).await,
        Operation::SetXattr { name } | Operation::RemoveXattr { name } => xattr::refuse(c, name).await,

        Operation::Create { kind, name } => refuse::create(c, kind, name).await,
        Operation::Remove { name } => refuse::by_name(c, name).await,
        Operation::Link { name } => refuse::link(c, name).await,
        Operation::Rename { from, to } => refuse::rename(c, from, to).await,
        Operation::SetAttr { attributes } => refuse::set_attributes(c, &attributes).await,
        Operation::Write | Operation::Commit | Operation::Reserve => refuse::data(c).await,
        Operation::Copy => refuse::copy(c).await,
        Operation::DelegReturn => refuse::return_delegation(c),
        // SEQUENCE is executed before it comes here.
        Operation::DelegPurge | Operation::Unsupported | Operation::Sequence { .. } => Err(Status::NotSupp),
    }
}

/// Bytes of `LOCK4denied`.
pub(super) fn conflict_size(conflict: &Conflict) -> usize {
    8 + 8 + 4 + 8 + 4 + conflict.owner.len().next_multiple_of(4)
}

/// What stands behind the status of an operation that failed.
pub(super) fn failed(number: u32, conflict: Option<&Conflict>, w: &mut Writer) {
    match (number, conflict) {
        // SETATTR says which attributes were set: none.
        (op::SETATTR, _) => drop(w.u32(0)),
        (op::LOCK | op::LOCKT, Some(conflict)) => {
            let kind = if conflict.kind == LockKind::Read { 1 } else { 2 };
            w.u64(conflict.range.offset).u64(conflict.range.length).u32(kind);
            w.u64(conflict.client).opaque(&conflict.owner);
        }
        _ => {}
    }
}

/// Bytes that the results of most operations stay below.
const RESULT: usize = 96;
/// The same for the attributes of one object, the value of FATTR4_IMA excepted.
const ATTRIBUTES: usize = 640;
/// The longest value of an extended attribute.
const XATTR_MAX: usize = 64 << 10;
/// More than the data of a READ keep in use besides themselves: parts of an extent at both ends.
const EXTENTS: usize = 128 << 10;

/// Upper bounds of the memory that operations take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// What their results keep in use.
    held: usize,
    /// How much of that may be no part of the results.
    beside: usize,
    /// What is given back when an operation has been executed.
    passing: usize,
}

impl Memory {
    fn results(bytes: usize) -> Self {
        Self { held: bytes, beside: 0, passing: 0 }
    }

    /// Of both, one after the other.
    pub(super) fn and(self, next: Self) -> Self {
        Self {
            held: self.held.saturating_add(next.held),
            beside: self.beside.saturating_add(next.beside),
            passing: self.passing.max(next.passing),
        }
    }

    /// All of it, where results are no more than `most` bytes.
    pub(super) fn within(self, most: usize) -> usize {
        self.held.min(most.saturating_add(self.beside)).saturating_add(self.passing)
    }
}

/// The memory that an operation takes.
pub(super) fn memory(operation: &Operation<'_>) -> Memory {
    match *operation {
        Operation::Read { offset, count, .. } | Operation::ReadPlus { offset, count, .. } => {
            let held = memory_held(offset, count.min(READ_MAX));
            let held = RESULT + usize::try_from(held).unwrap_or(usize::MAX);
            Memory { held, beside: EXTENTS, passing: 0 }
        }
        Operation::ReadDir { count, .. } => directory::memory(count),
        Operation::GetAttr { .. } | Operation::Verify { .. } => Memory::results(ATTRIBUTES),
        Operation::ReadLink => Memory::results(RESULT + file::TARGET_MAX),
        Operation::GetXattr { .. } | Operation::ListXattrs { .. } => {
            Memory { passing: XATTR_MAX, ..Memory::results(RESULT + XATTR_MAX) }
        }
        Operation::TestStateid { stateids } => Memory::results(RESULT + stateids.len()),
        Operation::ExchangeId { .. } => Memory::results(1024),
        // With the owner of a lock in the way.
        Operation::Lock { .. } | Operation::LockTest { .. } => Memory::results(RESULT + 1024),
        _ => Memory::results(RESULT),
    }
}

/// Whether a component names something, RFC 8881 section 14.5 and the errors in section 15.1.7. What
/// is no UTF-8 is a name like another: section 14.4 lets a server take it, and local names may be so.
pub(super) fn name(name: &[u8]) -> Result<(), Status> {
    match name {
        b"" => Err(Status::Inval),
        b"." | b".." => Err(Status::BadName),
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Status::BadChar),
        _ if name.len() > NAME_MAX => Err(Status::NameTooLong),
        _ => Ok(()),
    }
}

/// What an object that should be a directory is answered with, by section 15.1.2.
fn not_a_directory(kind: Kind) -> Status {
    if kind == Kind::Symlink { Status::Symlink } else { Status::NotDir }
}

/// What an object that should be a regular file is answered with.
fn not_a_file(kind: Kind) -> Status {
    match kind {
        Kind::Directory => Status::IsDir,
        Kind::Symlink => Status::Symlink,
        Kind::Regular | Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => Status::WrongType,
    }
}

impl Compound<'_> {
    /// The current file handle.
    fn current(&self) -> Result<Current, Status> {
        self.current.ok_or(Status::NoFileHandle)
    }

    /// Puts another object in its place. No stateid goes with it.
    fn set_current(&mut self, current: Option<Current>) {
        self.current = current;
        self.stateid = None;
    }

    /// The kind of the current object.
    async fn kind(&mut self) -> Result<Kind, Status> {
        let current = self.current()?;
        let attr = self.server.export.attributes(current.handle(), &self.caller).await;
        attr.map(|attr| attr.kind).map_err(|error| self.refused(error))
    }

    /// Fails unless the current object is a directory.
    async fn directory(&mut self) -> Result<Current, Status> {
        match self.kind().await? {
            Kind::Directory => self.current(),
            kind => Err(not_a_directory(kind)),
        }
    }

    /// The client of the session.
    fn client(&self) -> Result<u64, Status> {
        self.turn.as_ref().map(super::state::Turn::client).ok_or(Status::OpNotInSession)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keep_no_more_than_two_extents_besides_themselves() {
        for offset in [0, 1, 65_535, 65_536, 65_537, u64::MAX / 2] {
            for count in [0, 1, 2, 65_535, 65_536, 65_537, READ_MAX] {
                let held = usize::try_from(memory_held(offset, count)).unwrap();
                assert!(held <= count as usize + EXTENTS, "{count} at {offset}");
            }
        }
    }

    #[test]
    fn names_are_judged_as_the_rfc_has_it() {
        for (bytes, status) in [
            (&b""[..], Err(Status::Inval)),
            (b".", Err(Status::BadName)),
            (b"..", Err(Status::BadName)),
            (b"a/b", Err(Status::BadChar)),
            (b"a\0", Err(Status::BadChar)),
            (&[b'n'; 256], Err(Status::NameTooLong)),
            (&[b'n'; 255], Ok(())),
            (b"...", Ok(())),
            (b"\xff\xfe", Ok(())),
        ] {
            assert_eq!(name(bytes), status, "{bytes:?}");
        }
    }
}
