//! READDIR and READDIRPLUS, sections 3.3.16 and 3.3.17.
//!
//! The cookie verifier is always zero and is not looked at when it comes back: cookies stay valid
//! while a directory changes, so there is no listing that would have to begin again.
//! The counts of a client limit the encoded results to the byte (without the status, which is no
//! part of `READDIR3resok`); a limit in which not even one entry fits is `NFS3ERR_TOOSMALL`.

use std::sync::Arc;

use super::{failed, size};
use crate::export::{Attr, Caller, Described, DirItem, Export, Listing};
use crate::proto::nfs3::reply::{FATTR_LEN, POST_OP_LEN, Reply};
use crate::proto::nfs3::status::Status;
use crate::proto::nfs3::{ENTRIES_MAX, HANDLE_MAX, PAGE_MAX};
use crate::proto::rpc::Outcome;

/// Bytes of results without entries: attributes, verifier, end of the list, end of the directory.
const EMPTY_LEN: usize = POST_OP_LEN + 8 + 4 + 4;
/// Bytes of the shortest entry: one with a name of one to four bytes.
const ENTRY_MIN: usize = entry_len(1);

/// Bytes of `entry3` with a name of `name` bytes: a flag, the file id, the name, the cookie.
const fn entry_len(name: usize) -> usize {
    4 + 8 + 4 + name.next_multiple_of(4) + 8
}

/// Bytes that attributes and a handle of `handle` bytes add to make it `entryplus3`.
const fn description_len(handle: usize) -> usize {
    4 + FATTR_LEN + 4 + 4 + handle.next_multiple_of(4)
}

/// The same for the longest handle.
const DESCRIPTION_MAX: usize = description_len(HANDLE_MAX as usize);
/// The same for an object that could not be described: two flags.
const UNKNOWN_LEN: usize = 4 + 4;

/// How many bytes entries may take.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Entries without attributes and handles.
    names: usize,
    /// Entries with all they have.
    all: usize,
}

impl Room {
    /// What the counts of a client leave; `None` when not even an empty list fits. READDIR has no
    /// `dircount`, and READDIRPLUS of some clients has a zero there by which they mean none.
    fn new(directory_count: u32, count: u32) -> Option<Self> {
        let all = size(count.min(PAGE_MAX)).checked_sub(EMPTY_LEN)?;
        let names = if directory_count == 0 { all } else { size(directory_count) };
        Some(Self { names, all })
    }

    /// The most entries that could fit when each takes `extra` bytes for its description.
    fn most(self, extra: usize) -> usize {
        (self.names / ENTRY_MIN).min(self.all / (ENTRY_MIN + extra)).clamp(1, ENTRIES_MAX)
    }

    /// How many of the entries fit whose lengths are given: without and for the description.
    fn fitting(mut self, lengths: impl Iterator<Item = (usize, usize)>) -> usize {
        let fits = |(name, extra): &(usize, usize)| match (
            self.names.checked_sub(*name),
            self.all.checked_sub(name + extra),
        ) {
            (Some(names), Some(all)) => {
                self = Self { names, all };
                true
            }
            _ => false,
        };
        lengths.take_while(fits).count()
    }
}

/// The most memory that one entry takes on its way from the store into the results: a name of 255
/// bytes twice, and what stands beside it.
const ENTRY_MEMORY: usize = 768;
/// The same with a handle and attributes.
const PLUS_MEMORY: usize = 1280;

/// The most memory that making the results of a READDIR takes.
pub(in crate::proto::nfs3) fn memory(count: u32) -> usize {
    Room::new(0, count).map_or(0, |room| room.most(0) * ENTRY_MEMORY)
}

/// The same of a READDIRPLUS.
pub(in crate::proto::nfs3) fn memory_plus(directory_count: u32, count: u32) -> usize {
    Room::new(directory_count, count).map_or(0, |room| room.most(DESCRIPTION_MAX) * PLUS_MEMORY)
}

/// One entry, about to be written.
struct Entry<'a> {
    name: &'a [u8],
    cookie: u64,
    fileid: u64,
    description: Description<'a>,
}

/// What an entry says about its object.
#[derive(Clone, Copy)]
enum Description<'a> {
    /// Nothing: READDIR.
    Absent,
    /// That it could not be had; the object may have vanished.
    Unknown,
    /// Handle and attributes.
    Known(&'a [u8], &'a Attr),
}

impl Entry<'_> {
    fn lengths(&self) -> (usize, usize) {
        let extra = match self.description {
            Description::Absent => 0,
            Description::Unknown => UNKNOWN_LEN,
            Description::Known(handle, _) => description_len(handle.len()),
        };
        (entry_len(self.name.len()), extra)
    }

    fn write(&self, reply: &mut Reply) {
        reply.writer().bool(true).u64(self.fileid).opaque(self.name).u64(self.cookie);
        match self.description {
            Description::Absent => {}
            Description::Unknown => {
                reply.writer().bool(false).bool(false);
            }
            Description::Known(handle, attr) => {
                reply.post_op(Some(attr)).writer().bool(true).opaque(handle);
            }
        }
    }
}

/// The results with as many `entries` as fit. `end` tells that nothing follows the last one.
fn page(fsid: u64, directory: &Attr, entries: &[Entry<'_>], end: bool, room: Room) -> Outcome {
    let count = room.fitting(entries.iter().map(Entry::lengths));
    if count == 0 && !entries.is_empty() {
        return Reply::failure(fsid, Status::TooSmall, Some(directory));
    }
    let fitting = || entries.iter().take(count);
    let len: usize = fitting().map(Entry::lengths).map(|(name, extra)| name + extra).sum();
    let mut reply = Reply::new(fsid, Status::Ok, EMPTY_LEN + len);
    reply.post_op(Some(directory)).writer().u64(0);
    fitting().for_each(|entry| entry.write(&mut reply));
    reply.writer().bool(false).bool(end && count == entries.len());
    reply.done()
}

/// READDIR.
pub(super) async fn read_dir(
    export: &Export,
    directory: &[u8],
    cookie: u64,
    count: u32,
    caller: &Caller,
) -> Outcome {
    let Some(room) = Room::new(0, count) else {
        return too_small(export, directory, caller).await;
    };
    match export.read_dir(directory, cookie, room.most(0), caller).await {
        Ok(listing) => plain(export.fsid(), &listing, room),
        Err(error) => failed(export, directory, error, caller).await,
    }
}

fn plain(fsid: u64, listing: &Listing, room: Room) -> Outcome {
    let entries: Vec<Entry<'_>> = (listing.entries.iter())
        .map(|item| Entry {
            name: &item.name,
            cookie: item.cookie,
            fileid: item.fileid,
            description: Description::Absent,
        })
        .collect();
    page(fsid, &listing.directory, &entries, listing.end, room)
}

/// READDIRPLUS.
pub(super) async fn read_dir_plus(
    export: &Arc<Export>,
    directory: &[u8],
    cookie: u64,
    directory_count: u32,
    count: u32,
    caller: &Caller,
) -> Outcome {
    let Some(room) = Room::new(directory_count, count) else {
        return too_small(export, directory, caller).await;
    };
    let most = room.most(DESCRIPTION_MAX);
    let limits = u64::from(directory_count) << 32 | u64::from(count);
    let cut = |listing: &mut Listing| cut(listing, room);
    match export.read_dir_plus(directory, cookie, most, limits, cut, caller).await {
        Ok((attr, listed)) => {
            let entries = listed.entries.iter().map(|Described { item, object }| {
                (item, object.as_ref().map(|(handle, attr)| (handle.as_bytes(), attr)))
            });
            plus(export.fsid(), &attr, entries, listed.end, room)
        }
        Err(error) => failed(export, directory, error, caller).await,
    }
}

/// Cuts `listing` to what fits however long the handles turn out to be, so that nothing is described
/// in vain. One entry stays to be tried.
fn cut(listing: &mut Listing, room: Room) {
    let lengths = listing.entries.iter().map(|item| (entry_len(item.name.len()), DESCRIPTION_MAX));
    let count = room.fitting(lengths).max(1);
    if count < listing.entries.len() {
        listing.entries.truncate(count);
        listing.end = false;
    }
}

/// Entries, each with its handle and attributes where it has them.
fn plus<'a>(
    fsid: u64,
    directory: &Attr,
    entries: impl Iterator<Item = (&'a DirItem, Option<(&'a [u8], &'a Attr)>)>,
    end: bool,
    room: Room,
) -> Outcome {
    let entries = entries.map(|(item, object)| {
        let description =
            object.map_or(Description::Unknown, |(handle, attr)| Description::Known(handle, attr));
        Entry { name: &item.name, cookie: item.cookie, fileid: item.fileid, description }
    });
    page(fsid, directory, &entries.collect::<Vec<_>>(), end, room)
}

/// The answer to a count in which no results fit at all.
async fn too_small(export: &Export, directory: &[u8], caller: &Caller) -> Outcome {
    match export.attributes(directory, caller).await {
        Ok(attr) => Reply::failure(export.fsid(), Status::TooSmall, Some(&attr)),
        Err(error) => failed(export, directory, error, caller).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Kind;
    use crate::proto::nfs3::reply::tests::{FATTR, attr, hex};
    use crate::wire::{Reader, XdrError};

    const HANDLE: [u8; 30] = [0xab; 30];

    fn item(name: &[u8], cookie: u64) -> DirItem {
        DirItem { name: name.to_vec(), cookie, fileid: cookie + 100 }
    }

    /// `count` entries with names of up to 255 bytes, as the export would list them.
    fn directory(count: u64) -> Vec<DirItem> {
        let len = |n: u64| usize::try_from(1 + (n * 37 + 217) % 255).unwrap();
        (1..=count).map(|n| item(&vec![b'n'; len(n)], n)).collect()
    }

    fn listing(entries: &[DirItem], cookie: u64, max: usize) -> Listing {
        let behind = entries.iter().filter(|i| i.cookie > cookie);
        let page: Vec<DirItem> = behind.clone().take(max).map(|i| item(&i.name, i.cookie)).collect();
        let end = page.len() == behind.count();
        Listing { directory: attr(Kind::Regular), entries: page, end }
    }

    /// What a client makes of results.
    #[derive(Debug)]
    struct Seen {
        names: Vec<(Vec<u8>, u64)>,
        known: usize,
        name_bytes: usize,
        end: bool,
        len: usize,
    }

    /// Decodes results; `None` for NFS3ERR_TOOSMALL.
    fn decode(outcome: Outcome, plus: bool) -> Option<Seen> {
        let Outcome::Done { results, ok } = outcome else { panic!("{outcome:?}") };
        let bytes = results.finish().concat();
        let mut r = Reader::new(&bytes);
        let status = r.u32().unwrap();
        assert_eq!(ok, status == 0);
        assert!(r.bool().unwrap());
        r.fixed(FATTR_LEN).unwrap();
        if status != 0 {
            assert_eq!((status, r.remaining()), (10005, 0));
            return None;
        }
        let seen = (|| -> Result<Seen, XdrError> {
            assert_eq!(r.u64()?, 0, "verifier");
            let (mut names, mut known, mut name_bytes) = (Vec::new(), 0, 0);
            loop {
                let before = r.remaining();
                if !r.bool()? {
                    break;
                }
                let fileid = r.u64()?;
                let name = r.opaque(255)?.to_vec();
                let cookie = r.u64()?;
                assert_eq!(fileid, cookie + 100);
                name_bytes += before - r.remaining();
                if plus {
                    let has = r.bool()?;
                    if has {
                        r.fixed(FATTR_LEN)?;
                    }
                    assert_eq!(r.bool()?, has);
                    if has {
                        assert_eq!(r.opaque(64)?, HANDLE);
                        known += 1;
                    }
                }
                names.push((name, cookie));
            }
            let end = r.bool()?;
            r.clone().finish()?;
            Ok(Seen { names, known, name_bytes, end, len: bytes.len() - 4 })
        })();
        Some(seen.unwrap())
    }

    fn plain_page(entries: &[DirItem], cookie: u64, count: u32) -> Option<Seen> {
        let room = Room::new(0, count)?;
        decode(plain(0xf5, &listing(entries, cookie, room.most(0)), room), false)
    }

    /// READDIRPLUS as [`read_dir_plus`] does it; every fifth object has vanished.
    fn plus_page(entries: &[DirItem], cookie: u64, directory_count: u32, count: u32) -> Option<Seen> {
        let room = Room::new(directory_count, count)?;
        let mut listing = listing(entries, cookie, room.most(DESCRIPTION_MAX));
        cut(&mut listing, room);
        let some = attr(Kind::Regular);
        let object = |item: &DirItem| (!item.cookie.is_multiple_of(5)).then_some((&HANDLE[..], &some));
        let described = listing.entries.iter().map(|item| (item, object(item)));
        decode(plus(0xf5, &listing.directory, described, listing.end, room), true)
    }

    fn all(entries: &[DirItem]) -> Vec<(Vec<u8>, u64)> {
        entries.iter().map(|i| (i.name.clone(), i.cookie)).collect()
    }

    /// Reads on until the end; `None` as soon as a page is too small.
    fn walk(mut page: impl FnMut(u64) -> Option<Seen>) -> Option<Vec<(Vec<u8>, u64)>> {
        let mut names: Vec<(Vec<u8>, u64)> = Vec::new();
        loop {
            let seen = page(names.last().map_or(0, |n| n.1))?;
            assert!(seen.end || !seen.names.is_empty(), "no progress");
            names.extend(seen.names);
            if seen.end {
                return Some(names);
            }
        }
    }

    #[test]
    fn entries_are_laid_out_as_entry3() {
        let listing = Listing { directory: attr(Kind::Regular), entries: vec![item(b"abcde", 7)], end: true };
        let expected = concat!(
            "0000000000000000", // verifier
            "00000001",
            "000000000000006b", // an entry, fileid
            "00000005",
            "6162636465000000", // name
            "0000000000000007", // cookie
            "00000000",
            "00000001", // no entry, end
        );
        let room = Room::new(0, 4096).unwrap();
        assert_eq!(hex(plain(0xf5, &listing, room)), (format!("0000000000000001{FATTR}{expected}"), true));
    }

    #[test]
    fn entries_are_laid_out_as_entryplus3() {
        let items = [item(b"abcd", 7), item(b"x", 8)];
        let some = attr(Kind::Regular);
        let described = items.iter().zip([Some((&b"\xaa\xbb"[..], &some)), None]);
        let room = Room::new(0, 4096).unwrap();
        let (hex, ok) = hex(plus(0xf5, &attr(Kind::Regular), described, false, room));
        let first = format!(
            "00000001000000000000006b00000004616263640000000000000007\
            00000001{FATTR}0000000100000002aabb0000"
        );
        let second = "00000001000000000000006c000000017800000000000000000000080000000000000000";
        let expected = format!("0000000000000001{FATTR}0000000000000000{first}{second}0000000000000000");
        assert_eq!((hex, ok), (expected, true));
    }

    #[test]
    fn readdir_keeps_to_every_count_and_its_pages_make_the_whole() {
        let entries = directory(40);
        let longest = entry_len(255);
        for count in 1..=2000 {
            let walked = walk(|cookie| {
                let seen = plain_page(&entries, cookie, count)?;
                assert!(seen.len <= count as usize, "{} bytes for {count}", seen.len);
                let next = seen.names.last().map_or(cookie, |n| n.1);
                if let Some(next) = entries.iter().find(|i| i.cookie > next) {
                    let more = seen.len + entry_len(next.name.len());
                    assert!(more > count as usize, "another entry fits in {count}");
                }
                Some(seen)
            });
            assert_eq!(walked.is_some(), count as usize >= EMPTY_LEN + longest, "{count}");
            assert!(walked.is_none_or(|names| names == all(&entries)), "{count}");
        }
    }

    #[test]
    fn readdirplus_keeps_to_both_counts_and_its_pages_make_the_whole() {
        let entries = directory(40);
        for count in 1..=2000 {
            for directory_count in [0, 1, 27, 28, 200, 283, 284, 1000, u32::MAX] {
                let walked = walk(|cookie| {
                    let seen = plus_page(&entries, cookie, directory_count, count)?;
                    assert!(seen.len <= count as usize, "{} bytes for {count}", seen.len);
                    assert!(directory_count == 0 || seen.name_bytes <= directory_count as usize);
                    let vanished = seen.names.iter().filter(|n| n.1 % 5 == 0).count();
                    assert_eq!(seen.known + vanished, seen.names.len());
                    Some(seen)
                });
                let longest = entries.iter().map(|i| {
                    let extra = if i.cookie % 5 == 0 { UNKNOWN_LEN } else { description_len(30) };
                    (entry_len(i.name.len()), extra)
                });
                let fits = longest.clone().all(|(name, extra)| {
                    let names = directory_count == 0 || name <= directory_count as usize;
                    names && EMPTY_LEN + name + extra <= count as usize
                });
                assert_eq!(walked.is_some(), fits, "{directory_count} {count}");
                assert!(walked.is_none_or(|names| names == all(&entries)), "{directory_count} {count}");
            }
        }
    }

    #[test]
    fn an_empty_rest_of_a_directory_is_an_end_and_needs_room_as_well() {
        let seen = plain_page(&[], 0, 104).unwrap();
        assert!(seen.end && seen.names.is_empty());
        assert_eq!(seen.len, 104);
        assert!(Room::new(0, 103).is_none());
        assert!(plus_page(&directory(2), 2, 1, 104).unwrap().end);
    }

    #[test]
    fn claimed_counts_are_capped() {
        let room = Room::new(u32::MAX, u32::MAX).unwrap();
        assert_eq!(room.all, (1 << 20) - EMPTY_LEN);
        assert_eq!(room.most(0), ENTRIES_MAX);
        assert_eq!(room.most(DESCRIPTION_MAX), ENTRIES_MAX);
        assert!(Room::new(0, 1).is_none());
        assert_eq!(Room::new(1, 104).unwrap().most(0), 1);
    }
}
