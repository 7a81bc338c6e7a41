//! READDIR, RFC 8881 section 18.23.
//!
//! The cookie verifier is always zero: cookies stay valid while a directory changes. `maxcount` limits
//! `READDIR4resok` to the byte. On the wire 0 means the start and 1 and 2 are reserved, so those two of the
//! export are two others there; the rest stay as they are, since clients hand them on as positions, which
//! are signed. `.` and `..` are left out.

use super::{Current, Memory, not_a_directory};
use crate::export::{Attr, DirItem, ExportError, FileHandle};
use crate::proto::nfs4::PAGE_MAX;
use crate::proto::nfs4::attr::{self, Object, Server};
use crate::proto::nfs4::bitmap::Bitmap;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::status::Status;
use crate::wire::Writer;

/// What the export's cookies 1 and 2 are on the wire: below the two that end a directory, of the proof
/// directory and of ext4.
const ONE: u64 = i64::MAX.cast_unsigned() - 3;
const TWO: u64 = ONE + 1;
/// Bytes of `READDIR4resok` without entries: verifier, end of the list, end of the directory.
const EMPTY: usize = 8 + 4 + 4;
/// Bytes of the shortest entry: flag, cookie, name, an empty `fattr4`.
const ENTRY_MIN: usize = 4 + 8 + 8 + 4 + 4;
/// Bytes of an entry that count as directory information: flag, cookie and the name's length.
const ENTRY_NAMES: usize = 4 + 8 + 4;
/// Entries whose objects are looked at before they are written.
const AT_ONCE: usize = 64;
/// Entries that are listed at once.
const LISTED: usize = 1024;
/// Pages of the export in one answer: more than one of the shortest entries takes.
const PAGES: usize = 64;
/// The memory that listing an entry and looking at it takes besides the results.
const LISTED_ENTRY: usize = 384;

/// `READDIR4args`.
pub(super) struct Request {
    pub(super) cookie: u64,
    pub(super) verifier: u64,
    pub(super) names: u32,
    pub(super) count: u32,
    pub(super) wanted: Bitmap,
}

/// The memory that it takes.
pub(super) fn memory(count: u32) -> Memory {
    let count = usize::try_from(count.min(PAGE_MAX)).unwrap_or(usize::MAX);
    Memory { passing: LISTED_ENTRY * listed(count), ..Memory::results(count) }
}

/// How many entries are worth listing for so many bytes.
fn listed(room: usize) -> usize {
    (room / ENTRY_MIN).clamp(8, LISTED)
}

/// The export's cookie as it is on the wire; `None` for one that would be another there.
fn to_wire(cookie: u64) -> Option<u64> {
    match cookie {
        0 | ONE | TWO => None,
        1 => Some(ONE),
        2 => Some(TWO),
        _ => Some(cookie),
    }
}

/// What [`to_wire`] was given; `None` for the two that are reserved.
fn from_wire(cookie: u64) -> Option<u64> {
    match cookie {
        1 | 2 => None,
        ONE => Some(1),
        TWO => Some(2),
        _ => Some(cookie),
    }
}

/// READDIR.
pub(super) async fn read(c: &mut Compound<'_>, request: &Request) -> Result<(), Status> {
    let current = c.current()?;
    if request.wanted.intersects(attr::WRITE_ONLY) {
        return Err(Status::Inval);
    }
    if request.cookie != 0 && request.verifier != 0 {
        return Err(Status::NotSame);
    }
    let mut cookie = from_wire(request.cookie).ok_or(Status::BadCookie)?;
    let count = usize::try_from(request.count.min(PAGE_MAX)).unwrap_or(usize::MAX).min(c.room());
    let mut page = Page {
        room: count.checked_sub(EMPTY).ok_or(Status::TooSmall)?,
        names: if request.names == 0 {
            usize::MAX
        } else {
            usize::try_from(request.names).unwrap_or(usize::MAX)
        },
        entries: 0,
    };
    let server = Server { ima: None, ..c.server_attributes() };
    let wanted = request.wanted.and(server.supported);
    let looked_at = !wanted.without(attr::OF_ENTRY.or(attr::OF_SERVER)).is_empty();
    // Whether what could not be looked at is an entry like another, and says so.
    let tells = wanted.contains(attr::RDATTR_ERROR);
    c.results.u64(0);

    let file_system = if wanted.intersects(attr::OF_FILE_SYSTEM) {
        let found = c.server.export.stat_fs(current.handle(), &c.caller).await;
        Some(found.map_err(|error| c.refused(error))?.0)
    } else {
        None
    };
    let mut end = false;
    let mut passed = Vec::new();
    'listing: while !end {
        if passed.len() == PAGES {
            // What is there is an answer. None at all after so much is a broken store.
            if page.entries == 0 {
                return Err(Status::Io);
            }
            break;
        }
        let most = listed(page.room);
        let listed = c.server.export.read_dir(current.handle(), cookie, most, &c.caller).await;
        let listing = match listed {
            Ok(listing) => listing,
            Err(ExportError::NotADirectory) => return Err(not_a_directory(c.kind().await?)),
            Err(error) => return Err(c.refused(error)),
        };
        end = listing.end;
        passed.push(cookie);
        match listing.entries.last() {
            // A listing that comes by where it was has no end.
            Some(last) if passed.contains(&last.cookie) => return Err(Status::Io),
            Some(last) => cookie = last.cookie,
            None => end = true,
        }
        let items: Vec<&DirItem> =
            listing.entries.iter().filter(|item| !matches!(&item.name[..], b"." | b"..")).collect();
        for items in items.chunks(AT_ONCE) {
            let objects = if looked_at {
                let names: Vec<Vec<u8>> = items.iter().map(|item| item.name.clone()).collect();
                c.server.export.describe(current.handle(), &names, &c.caller).await
            } else {
                Vec::new()
            };
            if looked_at && !tells && objects.iter().all(Option::is_none) && !c.may_look_up(&current).await? {
                return Err(Status::Access);
            }
            let objects = objects.iter().map(Option::as_ref).chain(std::iter::repeat(None));
            for (item, object) in items.iter().zip(objects) {
                let entry = Entry { item, object, looked_at };
                if looked_at && object.is_none() && !tells {
                    // It went away meanwhile, and there is no way to say otherwise.
                    continue;
                }
                let mark = c.results.mark();
                let before = c.results.len();
                entry.write(&mut c.results, &server, wanted, file_system.as_ref())?;
                if !page.takes(c.results.len() - before, item.name.len()) {
                    c.results.rollback(mark);
                    end = false;
                    if page.entries == 0 {
                        return Err(Status::TooSmall);
                    }
                    break 'listing;
                }
            }
        }
    }
    c.results.bool(false).bool(end);
    Ok(())
}

impl Compound<'_> {
    /// Whether the caller may look up names in a directory.
    async fn may_look_up(&mut self, directory: &Current) -> Result<bool, Status> {
        let found = self.server.export.access(directory.handle(), &self.caller).await;
        Ok(found.map_err(|error| self.refused(error))?.0.lookup)
    }
}

/// What is left of a page.
struct Page {
    /// Bytes in all.
    room: usize,
    /// Bytes of names and cookies; a hint, which does not keep the first entry out.
    names: usize,
    entries: usize,
}

impl Page {
    /// Whether an entry of `bytes` with a name of `name` bytes fits, and takes its place then.
    fn takes(&mut self, bytes: usize, name: usize) -> bool {
        let names = ENTRY_NAMES + name.next_multiple_of(4);
        if bytes > self.room || (self.entries > 0 && names > self.names) {
            return false;
        }
        self.room -= bytes;
        self.names = self.names.saturating_sub(names);
        self.entries += 1;
        true
    }
}

struct Entry<'a> {
    item: &'a DirItem,
    object: Option<&'a (FileHandle, Attr)>,
    looked_at: bool,
}

impl Entry<'_> {
    fn write(
        &self,
        w: &mut Writer,
        server: &Server,
        wanted: Bitmap,
        file_system: Option<&crate::export::FsStat>,
    ) -> Result<(), Status> {
        let cookie = to_wire(self.item.cookie).ok_or(Status::Io)?;
        w.bool(true).u64(cookie).opaque(&self.item.name);
        let unknown = self.looked_at && self.object.is_none();
        let object = Object {
            attr: self.object.map(|(_, attr)| attr),
            fileid: self.object.map_or(self.item.fileid, |(_, attr)| attr.fileid),
            handle: self.object.map_or(&[], |(handle, _)| handle.as_bytes()),
            file_system: file_system.filter(|_| !unknown),
            ima: &[],
            error: if unknown { Status::Io } else { Status::Ok },
        };
        // Of what could not be looked at there is the error, and what the directory itself tells.
        let wanted = if unknown { wanted.and(attr::OF_ENTRY) } else { wanted };
        server.encode(w, wanted, &object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_stay_positions_and_come_back() {
        let last = i64::MAX.cast_unsigned();
        for cookie in [1, 2, 3, 4, 1 << 32, last - 4, last - 1, last] {
            let wire = to_wire(cookie).unwrap();
            assert!((3..=last).contains(&wire), "{cookie}");
            assert_eq!(from_wire(wire), Some(cookie));
            assert_eq!(wire == cookie, cookie > 2);
        }
        assert_eq!((to_wire(0), to_wire(last - 3), to_wire(last - 2)), (None, None, None));
        assert_eq!((from_wire(0), from_wire(1), from_wire(2)), (Some(0), None, None));
    }
}
