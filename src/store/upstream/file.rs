//! An open file of the server: a handle, for NFSv3 knows no opening.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::{Attr, BoxFuture, Kind, READ_MAX, Result, StoreErrorKind, StoreFile, StorePath};
use super::ahead::{Ahead, Budget, Piece, arrived};
use super::proto::{self, Data, Handle};
use super::rpc::CallError;
use super::session::{Fault, Outcome, READ_HEAD, Session};
use crate::wire::Writer;

/// READs of one call that are in flight at once.
const AT_ONCE: usize = 8;
/// READs that may follow one which gave too little: enough for a server that gives less than it promised,
/// and an end to one that gives crumbs.
const CRUMBS: usize = 64;

pub(super) struct UpstreamFile {
    file: Arc<File>,
    ahead: Ahead,
    budget: Budget,
}

struct File {
    session: Arc<Session>,
    path: StorePath,
    handle: Handle,
    seen: Mutex<(Attr, Instant)>,
}

impl UpstreamFile {
    pub(super) fn new(
        session: Arc<Session>,
        path: &StorePath,
        handle: Handle,
        attr: Attr,
        budget: Budget,
    ) -> Self {
        let seen = Mutex::new((attr, Instant::now()));
        let file = File { session, path: path.clone(), handle, seen };
        Self { file: Arc::new(file), ahead: Ahead::default(), budget }
    }

    /// Reads `from..to`, which a READ can give at once, by what is on its way where that is so.
    async fn read_piece(&self, from: u64, to: u64) -> Result<Bytes> {
        let File { session, path, .. } = &*self.file;
        let alone = session.address.attributes.is_zero() || session.address.as_caller;
        if alone {
            return self.file.read(session.acting(), from, to).await.map_err(|fault| fault.at("read", path));
        }
        let follows = self.ahead.note(from, to);
        let here = self.ahead.piece(from, to, |asked| session.is_fresh(asked));
        if follows {
            self.look_ahead(if here.is_some() { to } else { from }).await;
        }
        let here = match here {
            Some(here) => Some(here),
            None => self.ahead.piece(from, to, |asked| session.is_fresh(asked)),
        };
        if let Some((start, piece)) = here
            && let Some(bytes) = arrived(piece).await
        {
            if to >= start.saturating_add(bytes.len() as u64) {
                self.ahead.used(start);
            }
            return Ok(part(&bytes, start, from, to));
        }
        self.file.read(session.service(), from, to).await.map_err(|fault| fault.at("read", path))
    }

    async fn look_ahead(&self, at: u64) {
        let session = &self.file.session;
        let Ok(mounted) = session.mounted(session.deadline()).await else { return };
        let size = self.file.seen.lock().0.size;
        self.ahead.extend(at, mounted.rsize, size, &self.budget, |wanted, tell| {
            let file = self.file.clone();
            tokio::spawn(async move {
                let to = wanted.from.saturating_add(u64::from(wanted.len));
                let read = file.read(file.session.service(), wanted.from, to).await.ok();
                wanted.keep(tell, read, file.session.address.attributes).await;
            })
        });
    }
}

/// The part `from..to` of `bytes`, which begin at `start`. What is small is copied, for it may be kept for
/// long and must not keep the rest.
fn part(bytes: &Bytes, start: u64, from: u64, to: u64) -> Bytes {
    let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX).min(bytes.len());
    let (begin, end) = (place(from), place(to));
    let part = bytes.get(begin..end).unwrap_or_default();
    if part.len() * 2 > bytes.len() { bytes.slice(begin..end) } else { Bytes::copy_from_slice(part) }
}

impl File {
    /// Reads `from..to`, at most as much as one READ gives; less at the end of the file alone.
    async fn read(&self, credential: Bytes, from: u64, to: u64) -> Outcome<Bytes> {
        let deadline = self.session.deadline();
        let mut gathered = BytesMut::new();
        for _ in 0..CRUMBS {
            let at = from.saturating_add(gathered.len() as u64);
            let count = u32::try_from(to.saturating_sub(at)).unwrap_or(u32::MAX);
            let Data { bytes, eof, .. } = self.read_once(&credential, at, count, deadline).await?;
            let whole = bytes.len() as u64 == to.saturating_sub(at) || eof;
            if whole && gathered.is_empty() {
                // What is short may have come in a buffer with others.
                return Ok(if bytes.len() < 128 * 1024 { Bytes::copy_from_slice(&bytes) } else { bytes });
            }
            if bytes.is_empty() && !whole {
                return Err(Fault::Kind(
                    StoreErrorKind::Io,
                    "a READ gave nothing before the end of the file",
                ));
            }
            gathered.extend_from_slice(&bytes);
            if whole {
                return Ok(gathered.freeze());
            }
        }
        Err(Fault::Kind(StoreErrorKind::Io, "the server gives data in crumbs"))
    }

    async fn read_once(&self, credential: &Bytes, at: u64, count: u32, deadline: Instant) -> Outcome<Data> {
        let mounted = self.session.mounted(deadline).await?;
        let mut args = Writer::default();
        args.opaque(self.handle.as_bytes()).u64(at).u32(count);
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
        let data = match sent.await {
            Err(fault @ Fault::Call(CallError::Unreachable(_))) => {
                self.session.lost(&mounted).await;
                return Err(fault);
            }
            sent => sent?.0,
        };
        if let Some(attr) = data.attr {
            self.see(attr)?;
        }
        Ok(data)
    }

    /// Takes attributes for those of this file; an error when they are another object's.
    fn see(&self, attr: Attr) -> Outcome<()> {
        let mut seen = self.seen.lock();
        if (attr.fileid, attr.kind) != (seen.0.fileid, Kind::Regular) {
            return Err(Fault::Kind(StoreErrorKind::Stale, "the handle names another object now"));
        }
        *seen = (attr, Instant::now());
        Ok(())
    }

    fn seen(&self) -> Option<Attr> {
        let (attr, at) = *self.seen.lock();
        self.session.is_fresh(at).then_some(attr)
    }
}

impl StoreFile for UpstreamFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move {
            if let Some(attr) = self.file.seen() {
                return Ok(attr);
            }
            let File { session, handle, path, .. } = &*self.file;
            let before = self.file.seen.lock().0.change;
            let attr =
                session.getattr(handle, session.deadline()).await.map_err(|fault| fault.at("stat", path))?;
            self.file.see(attr).map_err(|fault| fault.at("stat", path))?;
            if attr.change != before {
                self.ahead.clear();
            }
            Ok(attr)
        })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.file.seen().map(Ok)
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(async move {
            let end = offset.saturating_add(len.min(READ_MAX) as u64);
            let File { session, path, .. } = &*self.file;
            let mounted =
                session.mounted(session.deadline()).await.map_err(|fault| fault.at("read", path))?;
            let step = u64::from(mounted.rsize);
            if end - offset <= step {
                return if end == offset { Ok(Bytes::new()) } else { self.read_piece(offset, end).await };
            }
            let credential = session.acting();
            let starts = (0..(end - offset).div_ceil(step)).map(|n| offset + n * step);
            let reads = starts.map(|from| {
                let to = end.min(from.saturating_add(step));
                let read = self.file.read(credential.clone(), from, to);
                async move { read.await.map(|bytes| (bytes.len() as u64 == to - from, bytes)) }
            });
            let reads: Vec<_> = reads.collect();
            let mut reads = stream::iter(reads).buffered(AT_ONCE);
            let mut gathered = BytesMut::new();
            while let Some((whole, bytes)) = reads.try_next().await.map_err(|fault| fault.at("read", path))? {
                gathered.extend_from_slice(&bytes);
                if !whole {
                    break;
                }
            }
            Ok(gathered.freeze())
        })
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        let session = &self.file.session;
        let end = offset.checked_add(len as u64)?;
        let (start, piece) = self.ahead.piece(offset, end, |asked| session.is_fresh(asked))?;
        let Piece::Here(bytes) = &*piece.borrow() else { return None };
        let end_known = start.checked_add(bytes.len() as u64)?;
        // What reaches further has to be looked at, and so the next pieces are asked for.
        (end < end_known).then(|| {
            self.ahead.note(offset, end);
            part(bytes, start, offset, end)
        })
    }
}
