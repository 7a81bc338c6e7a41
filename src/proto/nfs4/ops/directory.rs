//! READDIR, RFC 8881 section 18.23.
//!
//! The cookie verifier is always zero: cookies stay valid while a directory changes. `maxcount` limits
//! `READDIR4resok` to the byte. On the wire 0 means the start and 1 and 2 are reserved, so cookies are
//! those of the export and two more. `.` and `..` are left out.

use super::not_a_directory;
use crate::export::{Attr, DirItem, ExportError, FileHandle};
use crate::proto::nfs4::PAGE_MAX;
use crate::proto::nfs4::attr::{self, Object, Server};
use crate::proto::nfs4::bitmap::Bitmap;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::status::Status;
use crate::proto::xdr::Writer;

/// What cookies on the wire are ahead of the export's.
const SHIFT: u64 = 2;
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
/// Pages without an entry for clients before the store counts as broken.
const EMPTY_PAGES: usize = 64;
/// The memory that listing and looking takes besides the results.
const LISTING: usize = LISTED * 384;

/// `READDIR4args`.
pub(super) struct Request {
    pub(super) cookie: u64,
    pub(super) verifier: u64,
    pub(super) names: u32,
    pub(super) count: u32,
    pub(super) wanted: Bitmap,
}

/// The most memory that making the results takes.
pub(super) fn memory(count: u32, _: Bitmap) -> usize {
    let count = usize::try_from(count.min(PAGE_MAX)).unwrap_or(usize::MAX);
    count + LISTING.min(listed(count) * 384)
}

/// How many entries are worth listing for so many bytes.
fn listed(room: usize) -> usize {
    (room / ENTRY_MIN).clamp(8, LISTED)
}

/// READDIR.
pub(super) async fn read(c: &mut Compound<'_>, request: &Request) -> Result<(), Status> {
    let current = c.current()?;
    if request.wanted.intersects(attr::WRITE_ONLY) {
        return Err(Status::Inval);
    }
    let mut cookie = match request.cookie {
        0 => 0,
        cookie => {
            if request.verifier != 0 {
                return Err(Status::NotSame);
            }
            cookie.checked_sub(SHIFT).filter(|cookie| *cookie > 0).ok_or(Status::BadCookie)?
        }
    };
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
    c.results.u64(0);

    let file_system = if wanted.intersects(attr::OF_FILE_SYSTEM) {
        let found = c.server.export.stat_fs(current.handle(), &c.caller).await;
        Some(found.map_err(|error| c.refused(error))?.0)
    } else {
        None
    };
    let mut end = false;
    let mut pages = 0;
    'listing: while !end {
        let most = listed(page.room);
        let listed = c.server.export.read_dir(current.handle(), cookie, most, &c.caller).await;
        let listing = match listed {
            Ok(listing) => listing,
            Err(ExportError::NotADirectory) => return Err(not_a_directory(c.kind().await?)),
            Err(error) => return Err(c.refused(error)),
        };
        end = listing.end;
        match listing.entries.last() {
            Some(last) if last.cookie != cookie => cookie = last.cookie,
            Some(_) => return Err(Status::Io),
            None => end = true,
        }
        let items: Vec<&DirItem> =
            listing.entries.iter().filter(|item| !matches!(&item.name[..], b"." | b"..")).collect();
        pages = if items.is_empty() { pages + 1 } else { 0 };
        if pages > EMPTY_PAGES {
            return Err(Status::Io);
        }
        for items in items.chunks(AT_ONCE) {
            let objects = if looked_at {
                let names: Vec<Vec<u8>> = items.iter().map(|item| item.name.clone()).collect();
                c.server.export.describe(current.handle(), &names, &c.caller).await
            } else {
                Vec::new()
            };
            let objects = objects.iter().map(Option::as_ref).chain(std::iter::repeat(None));
            for (item, object) in items.iter().zip(objects) {
                let entry = Entry { item, object, looked_at };
                if looked_at && object.is_none() && !wanted.contains(attr::RDATTR_ERROR) {
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
        let cookie = self.item.cookie.checked_add(SHIFT).ok_or(Status::Io)?;
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
        // Of what could not be looked at, the error says so, alone.
        let wanted = if unknown { wanted.and(Bitmap::of(&[attr::RDATTR_ERROR])) } else { wanted };
        server.encode(w, wanted, &object);
        Ok(())
    }
}
