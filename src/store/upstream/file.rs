//! An open file of the server: a handle, for NFSv3 knows no opening, found again by its path when the server
//! does not know it any more.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::{Attr, BoxFuture, Kind, READ_MAX, Result, StoreErrorKind, StoreFile, StorePath};
use super::ahead::{Ahead, Budget, Part, arrived};
use super::proto::{self, Data, Handle};
use super::session::{Fault, Found, Outcome, READ_HEAD, Session};
use crate::wire::Writer;

/// READs of one call that are in flight at once.
const AT_ONCE: usize = 8;
/// READs that may follow one which gave too little: enough for a server that gives less than it promised,
/// and an end to one that gives crumbs.
const CRUMBS: usize = 64;
/// What is shorter is copied, for it may have come in a buffer with others and be kept for long.
const SHORT: usize = 128 * 1024;

pub(super) struct UpstreamFile {
    file: Arc<File>,
    budget: Budget,
}

struct File {
    session: Arc<Session>,
    path: StorePath,
    seen: Mutex<Seen>,
    ahead: Ahead,
}

/// What is known of the file, and since when.
struct Seen {
    handle: Handle,
    attr: Attr,
    at: Instant,
}

impl Drop for UpstreamFile {
    fn drop(&mut self) {
        // Pieces on their way keep the rest.
        self.file.ahead.clear();
    }
}

impl UpstreamFile {
    pub(super) fn new(session: Arc<Session>, path: &StorePath, found: &Found, budget: Budget) -> Self {
        let seen = Mutex::new(Seen { handle: found.handle, attr: found.attr, at: found.at });
        let file = File { session, path: path.clone(), seen, ahead: Ahead::default() };
        Self { file: Arc::new(file), budget }
    }

    /// All of `from..to` in order, in parts that are not empty; fewer or shorter at the end of the file alone.
    /// Also how long a READ may be.
    async fn parts(&self, from: u64, to: u64) -> Outcome<(Vec<Bytes>, usize)> {
        let File { session, ahead, .. } = &*self.file;
        let mounted = session.mounted(session.deadline()).await?;
        let (step, credential) = (u64::from(mounted.rsize), session.acting());
        if !session.address.attributes.is_zero() && !session.address.as_caller {
            if ahead.has(from, to) && self.file.seen().is_none() {
                // Throws away what was read ahead of a file that has changed.
                self.file.getattr().await?;
            }
            if ahead.note(from, to) {
                self.look_ahead(from, to, step);
            }
        }
        let reads = ahead.parts(from, to, step).into_iter().map(|part| self.file.part(&credential, part));
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        let (mut parts, mut at) = (Vec::new(), from);
        while let Some((stop, bytes)) = reads.try_next().await? {
            at += bytes.len() as u64;
            if !bytes.is_empty() {
                parts.push(bytes);
            }
            if at < stop {
                break;
            }
        }
        ahead.used(from, to);
        Ok((parts, mounted.rsize as usize))
    }

    fn look_ahead(&self, from: u64, to: u64, step: u64) {
        let size = self.file.seen.lock().attr.size;
        self.file.ahead.extend(from, to, step, size, &self.budget, |wanted, tell| {
            let file = self.file.clone();
            tokio::spawn(async move {
                let read = file.read(&file.session.service(), wanted.from, wanted.to).await.ok();
                wanted.keep(tell, read).await;
            })
        });
    }
}

/// The part `from..to` of `bytes`, which begin at `start`.
fn slice(bytes: &Bytes, start: u64, from: u64, to: u64) -> Bytes {
    let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(from)..place(to))
}

impl File {
    /// The bytes of `part`, and where they should end.
    async fn part(&self, credential: &Bytes, part: Part) -> Outcome<(u64, Bytes)> {
        let Part { from, to, held } = part;
        if let Some((start, piece)) = held
            && let Some(bytes) = arrived(piece).await
        {
            return Ok((to, slice(&bytes, start, from, to)));
        }
        Ok((to, self.read(credential, from, to).await?))
    }

    /// Reads `from..to`, at most as much as one READ gives; less at the end of the file alone.
    async fn read(&self, credential: &Bytes, from: u64, to: u64) -> Outcome<Bytes> {
        let deadline = self.session.deadline();
        let mut gathered = BytesMut::new();
        for _ in 0..CRUMBS {
            let at = from.saturating_add(gathered.len() as u64);
            let count = u32::try_from(to.saturating_sub(at)).unwrap_or(u32::MAX);
            let Data { bytes, eof, .. } = self.read_once(credential, at, count, deadline).await?;
            let whole = bytes.len() as u64 == to.saturating_sub(at) || eof;
            if whole && gathered.is_empty() {
                return Ok(if bytes.len() < SHORT { Bytes::copy_from_slice(&bytes) } else { bytes });
            }
            if bytes.is_empty() && !whole {
                return Err(Fault::Kind(
                    StoreErrorKind::Io,
                    "a READ gave nothing before the end of the file",
                ));
            }
            if gathered.is_empty() {
                gathered.reserve(usize::try_from(to.saturating_sub(from)).unwrap_or(0));
            }
            gathered.extend_from_slice(&bytes);
            if whole {
                return Ok(gathered.freeze());
            }
        }
        Err(Fault::Kind(StoreErrorKind::Io, "the server gives data in crumbs"))
    }

    async fn read_once(&self, credential: &Bytes, at: u64, count: u32, deadline: Instant) -> Outcome<Data> {
        let handle = self.seen.lock().handle;
        match self.read_by(&handle, credential, at, count, deadline).await {
            Err(stale) if stale.is_stale() => {
                let handle = self.again(&handle, stale, deadline).await?;
                self.read_by(&handle, credential, at, count, deadline).await
            }
            read => read,
        }
    }

    async fn read_by(
        &self,
        handle: &Handle,
        credential: &Bytes,
        at: u64,
        count: u32,
        deadline: Instant,
    ) -> Outcome<Data> {
        let mounted = self.session.mounted(deadline).await?;
        let mut args = Writer::default();
        args.opaque(handle.as_bytes()).u64(at).u32(count);
        let reply_max = count as usize + READ_HEAD;
        let sent = self.session.send(
            &mounted,
            proto::READ,
            credential.clone(),
            args.finish(),
            reply_max,
            deadline,
            |reply| proto::read(reply, count),
        );
        let sent = sent.await;
        self.session.heed(&mounted, &sent, deadline).await;
        let data = sent?.0;
        if let Some(attr) = data.attr {
            self.see(attr)?;
        }
        Ok(data)
    }

    async fn getattr(&self) -> Outcome<Attr> {
        let deadline = self.session.deadline();
        let handle = self.seen.lock().handle;
        match self.getattr_by(&handle, deadline).await {
            Err(stale) if stale.is_stale() => {
                let handle = self.again(&handle, stale, deadline).await?;
                self.getattr_by(&handle, deadline).await
            }
            attr => attr,
        }
    }

    async fn getattr_by(&self, handle: &Handle, deadline: Instant) -> Outcome<Attr> {
        let attr = self.session.getattr(handle, deadline).await?;
        self.see(attr)?;
        Ok(attr)
    }

    /// Another handle of this file in the place of `handle`, which the server does not know any more: it was
    /// started again, or forgets handles. An error, `stale`, when the path leads elsewhere by now.
    async fn again(&self, handle: &Handle, stale: Fault, deadline: Instant) -> Outcome<Handle> {
        let now = self.seen.lock().handle;
        if now != *handle {
            return Ok(now);
        }
        self.session.forget(&self.path);
        let found = match self.session.find(&self.path, deadline).await {
            Ok(found) => found,
            Err(fault) => {
                return Err(match fault.kind() {
                    StoreErrorKind::NotFound | StoreErrorKind::NotADirectory | StoreErrorKind::Symlink => {
                        stale
                    }
                    _ => fault,
                });
            }
        };
        if found.handle == *handle || self.see(found.attr).is_err() {
            return Err(stale);
        }
        self.seen.lock().handle = found.handle;
        Ok(found.handle)
    }

    /// Takes attributes for those of this file; an error when they are another object's.
    fn see(&self, attr: Attr) -> Outcome<()> {
        let mut seen = self.seen.lock();
        if (attr.fileid, attr.kind) != (seen.attr.fileid, Kind::Regular) {
            return Err(Fault::Kind(StoreErrorKind::Stale, "the handle names another object now"));
        }
        let moved = attr.change != seen.attr.change;
        (seen.attr, seen.at) = (attr, Instant::now());
        drop(seen);
        if moved {
            self.ahead.clear();
        }
        Ok(())
    }

    fn seen(&self) -> Option<Attr> {
        let seen = self.seen.lock();
        self.session.is_fresh(seen.at).then_some(seen.attr)
    }
}

impl StoreFile for UpstreamFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move {
            if let Some(attr) = self.file.seen() {
                return Ok(attr);
            }
            self.file.getattr().await.map_err(|fault| fault.at("stat", &self.file.path))
        })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.file.seen().map(Ok)
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move {
            let end = offset.saturating_add(len.min(READ_MAX) as u64);
            let (parts, step) =
                self.parts(offset, end).await.map_err(|fault| fault.at("read", &self.file.path))?;
            Ok(match &parts[..] {
                [] => Bytes::new(),
                // It keeps no more than twice its own memory in use.
                [one] if one.len() >= step.div_ceil(2) => one.clone(),
                [one] => Bytes::copy_from_slice(one),
                several => several.concat().into(),
            })
        })
    }

    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            let end = offset.saturating_add(len.min(READ_MAX) as u64);
            let (parts, _) =
                self.parts(offset, end).await.map_err(|fault| fault.at("read", &self.file.path))?;
            Ok(cut(parts, piece.max(1)))
        })
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.file.seen()?;
        let end = offset.checked_add(len as u64)?;
        let (start, bytes) = self.file.ahead.here(offset, end)?;
        let end_known = start.checked_add(bytes.len() as u64)?;
        // What reaches further has to be looked at, and so the next pieces are asked for.
        (end < end_known).then(|| {
            self.file.ahead.note(offset, end);
            let part = slice(&bytes, start, offset, end);
            if part.len() * 2 > bytes.len() { part } else { Bytes::copy_from_slice(&part) }
        })
    }
}

/// Copies of `parts`, put together, in pieces of `piece` bytes.
fn cut(parts: Vec<Bytes>, piece: usize) -> Vec<Bytes> {
    let mut left: usize = parts.iter().map(Bytes::len).sum();
    let mut pieces = Vec::with_capacity(left.div_ceil(piece));
    let mut open = BytesMut::with_capacity(left.min(piece));
    for mut part in parts {
        while !part.is_empty() {
            let some = part.split_to(part.len().min(piece - open.len()));
            open.extend_from_slice(&some);
            left -= some.len();
            if open.len() == piece || left == 0 {
                let next = BytesMut::with_capacity(left.min(piece));
                pieces.push(std::mem::replace(&mut open, next).freeze());
            }
        }
    }
    pieces
}
