//! Directories of the server, page by page. A listing that never ends, or goes in a circle, ends here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::super::{DirEntry, DirPage, StoreErrorKind, StorePath};
use super::proto::{self, Bad, Entries, Handle, Status};
use super::session::{Fault, Outcome, Session, expect_directory};
use crate::wire::Writer;

/// The most entries of one directory.
const ENTRIES_MAX: u64 = 16 * 1024 * 1024;
/// Listings that are under way and remembered.
const WALKS: usize = 4096;
/// Replies for one page, of which some may hold nothing that can be shown.
const REPLIES: usize = 16;
/// Bytes asked of the server at once.
const REPLY: std::ops::RangeInclusive<usize> = 8 * 1024..=64 * 1024;

/// Where listings stand.
pub(super) struct Walks {
    walks: Cache<(Handle, u64), Walk>,
    verifiers: Cache<Handle, [u8; 8]>,
    /// The server has no READDIRPLUS.
    plain: AtomicBool,
}

impl Default for Walks {
    fn default() -> Self {
        Self { walks: Cache::new(WALKS), verifiers: Cache::new(WALKS), plain: AtomicBool::new(false) }
    }
}

/// A listing up to some cookie. A circle is found as Brent does it: one cookie is remembered, and another
/// one in its place whenever twice as many entries were seen.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    entries: u64,
    mark: u64,
}

impl Walk {
    fn pass(&mut self, cookie: u64) -> Outcome<()> {
        if cookie == 0 || (self.entries > 0 && cookie == self.mark) {
            return Err(Fault::Kind(StoreErrorKind::Io, "the server lists a directory in a circle"));
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Fault::Kind(StoreErrorKind::Io, "the server lists a directory without end"));
        }
        if self.entries.is_power_of_two() {
            self.mark = cookie;
        }
        Ok(())
    }
}

/// At most `max` entries of the directory `path` behind `cookie`.
pub(super) async fn page(
    session: &Arc<Session>,
    path: &StorePath,
    cookie: u64,
    max: usize,
) -> Outcome<DirPage> {
    let deadline = session.deadline();
    let directory = session.find(path, deadline).await?;
    expect_directory(&directory.attr)?;
    list(session, path, directory.handle, cookie, max, deadline).await
}

/// At most `max` entries behind `cookie` of the directory `path`, which has this handle.
pub(super) async fn list(
    session: &Arc<Session>,
    path: &StorePath,
    handle: Handle,
    cookie: u64,
    max: usize,
    deadline: Instant,
) -> Outcome<DirPage> {
    let walks = &session.walks;
    let mut walk = walks.walks.get(&(handle, cookie)).unwrap_or_default();
    let mut page = DirPage::default();
    let mut at = cookie;
    for _ in 0..REPLIES {
        let asked = session.asked();
        let found = reply(session, &handle, at, max.saturating_sub(page.entries.len()), deadline).await?;
        if found.entries.is_empty() && !found.eof {
            return Err(Fault::Kind(
                StoreErrorKind::Io,
                "the server lists nothing, and says that more follows",
            ));
        }
        page.end = found.eof;
        for entry in found.entries {
            if page.entries.len() >= max {
                page.end = false;
                break;
            }
            let dots = matches!(&entry.name[..], b"." | b"..");
            if dots && entry.cookie == 0 {
                // Some servers make these two up, with no place behind them.
                continue;
            }
            walk.pass(entry.cookie)?;
            at = entry.cookie;
            let below = path.join(&entry.name);
            if !dots && below.is_err() {
                continue;
            }
            if let (Ok(below), Some(handle), Some(attr)) = (below, entry.handle, entry.attr) {
                session.learn(&below, handle, attr, asked);
            }
            let kind = entry.attr.map(|attr| attr.kind);
            page.entries.push(DirEntry {
                name: entry.name,
                cookie: entry.cookie,
                fileid: entry.fileid,
                kind,
            });
        }
        if page.end || page.entries.len() >= max {
            break;
        }
        // A full page is not worth another call, where the caller can come again.
        if page.entries.len() >= 512 {
            break;
        }
    }
    if page.entries.is_empty() && !page.end {
        return Err(Fault::Kind(StoreErrorKind::Io, "the server lists nothing that could be a name"));
    }
    walks.walks.insert((handle, at), walk);
    Ok(page)
}

/// One reply, behind `cookie`. A verifier that is no longer good is replaced once.
async fn reply(
    session: &Arc<Session>,
    handle: &Handle,
    cookie: u64,
    max: usize,
    deadline: Instant,
) -> Outcome<Entries> {
    let walks = &session.walks;
    let verifier = match cookie {
        0 => [0; 8],
        _ => walks.verifiers.get(handle).unwrap_or_default(),
    };
    let found = match ask(session, handle, cookie, verifier, max, deadline).await {
        Err(fault) if cookie != 0 && (fault.is(Status::BAD_COOKIE) || fault.is(Status::NOT_SYNC)) => {
            let fresh = ask(session, handle, 0, [0; 8], 1, deadline).await?.verifier;
            if fresh == verifier {
                return Err(fault);
            }
            ask(session, handle, cookie, fresh, max, deadline).await?
        }
        found => found?,
    };
    walks.verifiers.insert(*handle, found.verifier);
    Ok(found)
}

async fn ask(
    session: &Arc<Session>,
    handle: &Handle,
    cookie: u64,
    verifier: [u8; 8],
    max: usize,
    deadline: Instant,
) -> Outcome<Entries> {
    let walks = &session.walks;
    let bytes = max.saturating_mul(256).clamp(*REPLY.start(), *REPLY.end());
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    if !walks.plain.load(Ordering::Relaxed) {
        let mut args = Writer::default();
        args.opaque(handle.as_bytes()).u64(cookie).fixed(&verifier).u32(bytes).u32(bytes);
        let asked = session.call_as(session.acting(), proto::READDIRPLUS, args, deadline, |reply| {
            proto::entries(reply, true)
        });
        match asked.await {
            Err(Fault::Bad(Bad::Status(Status::NOTSUPP))) => walks.plain.store(true, Ordering::Relaxed),
            Err(Fault::Call(super::rpc::CallError::NoProcedure)) => {
                walks.plain.store(true, Ordering::Relaxed)
            }
            found => return Ok(found?.0),
        }
    }
    let mut args = Writer::default();
    args.opaque(handle.as_bytes()).u64(cookie).fixed(&verifier).u32(bytes);
    let asked = session
        .call_as(session.acting(), proto::READDIR, args, deadline, |reply| proto::entries(reply, false));
    Ok(asked.await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_wherever_it_begins_and_a_long_listing_is_none() {
        for (lead, circle) in [(0, 1), (0, 2), (3, 5), (1000, 1), (7, 4096), (5000, 3)] {
            let mut walk = Walk::default();
            let cookie = |n: u64| if n < lead { n + 1 } else { lead + 1 + (n - lead) % circle };
            let caught = (0..20 * (lead + circle)).find(|n| walk.pass(cookie(*n)).is_err());
            assert!(caught.is_some_and(|n| n >= lead + circle), "{lead} {circle} {caught:?}");
        }
        let mut walk = Walk::default();
        (1..100_000).for_each(|cookie| walk.pass(cookie).unwrap());
        assert!(walk.pass(0).is_err());
    }
}
