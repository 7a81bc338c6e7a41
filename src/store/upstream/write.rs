//! New files: written under a name of their own in the scratch directory, made durable, renamed into place.
//! And removal, a whole tree where it is one.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::super::{Attributes, BoxFuture, Kind, Result, StoreErrorKind, StorePath, StoreWriter};
use super::dir;
use super::proto::{self, Handle, Status};
use super::session::{Fault, Found, Outcome, REPLY_MAX, Session, expect_directory};
use crate::wire::Writer;

/// WRITEs of one call that are in flight at once.
const AT_ONCE: usize = 8;
/// WRITEs that may follow one which took too little.
const CRUMBS: usize = 1024;
/// How often a directory is listed again that does not get empty.
const PASSES: usize = 1 << 20;
/// How often in a row a server may list nothing but what it said is removed.
const IDLE_PASSES: usize = 4;
/// Names that are remembered for it.
const GONE_MAX: usize = 64 * 1024;

/// A file that is not in place yet.
pub(super) struct UpstreamWriter {
    session: Arc<Session>,
    target: StorePath,
    temporary: Temporary,
    /// What the server says while it keeps what was written.
    verifier: Option<[u8; 8]>,
    /// All that was written is durable.
    durable: bool,
}

/// Removed when dropped, unless it got its place.
struct Temporary {
    session: Arc<Session>,
    scratch: Handle,
    path: StorePath,
    handle: Handle,
    placed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.placed {
            let (session, scratch, path) = (self.session.clone(), self.scratch, self.path.clone());
            // Nobody is left to hear of a failure, and the name never meets another file's.
            runtime.spawn(async move {
                let deadline = session.deadline();
                unlink(&session, proto::REMOVE, &scratch, &path, deadline).await
            });
        }
    }
}

pub(super) async fn create(
    session: &Arc<Session>,
    path: &StorePath,
    scratch: &StorePath,
) -> Outcome<UpstreamWriter> {
    if path.is_root() {
        return Err(Fault::Kind(StoreErrorKind::IsADirectory, "it is the root"));
    }
    let at = scratch
        .join(new_name().as_bytes())
        .map_err(|_| Fault::Kind(StoreErrorKind::NameTooLong, "the path is too long"))?;
    let scratch = make_directories(session, scratch, true).await?;
    let deadline = session.deadline();
    let mut args = Writer::default();
    // GUARDED: the name is new, so that one which exists is ours, made by a call that was sent twice.
    args.opaque(scratch.handle.as_bytes()).opaque(at.name()).u32(1);
    proto::write_mode(&mut args, 0o644);
    let made = session.call(proto::CREATE, args, deadline, |reply| proto::created(reply)).await;
    session.forget(&at);
    let told = match made {
        Ok((told, _)) => told,
        Err(fault) if fault.is(Status::EXIST) => None,
        Err(fault) => return Err(fault),
    };
    let handle = match told {
        Some(handle) => handle,
        None => look(session, &scratch.handle, at.name(), deadline).await?,
    };
    let temporary =
        Temporary { session: session.clone(), scratch: scratch.handle, path: at, handle, placed: false };
    Ok(UpstreamWriter {
        session: session.clone(),
        target: path.clone(),
        temporary,
        verifier: None,
        durable: false,
    })
}

fn new_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (one, two) = (RandomState::new().hash_one(count), RandomState::new().hash_one(count));
    format!("tmp-{}-{count}-{one:016x}{two:016x}", std::process::id())
}

async fn look(session: &Session, directory: &Handle, name: &[u8], deadline: Instant) -> Outcome<Handle> {
    let mut args = Writer::default();
    args.opaque(directory.as_bytes()).opaque(name);
    Ok(session.call(proto::LOOKUP, args, deadline, |reply| proto::lookup(reply)).await?.0.0)
}

/// The directory `path`, made where it or a part above it is missing; the last one for its owner alone
/// where `private`.
async fn make_directories(session: &Arc<Session>, path: &StorePath, private: bool) -> Outcome<Found> {
    let deadline = session.deadline();
    match session.find(path, deadline).await {
        Err(fault) if fault.is(Status::NOENT) => {}
        found => {
            let found = found?;
            expect_directory(&found.attr)?;
            return Ok(found);
        }
    }
    let mut at = StorePath::root();
    let mut reached = session.find(&at, deadline).await?;
    let depth = path.components().count();
    for (n, name) in path.components().enumerate() {
        // Each part has a time of its own: there may be many.
        let deadline = session.deadline();
        expect_directory(&reached.attr)?;
        at = at.join(name).map_err(|_| Fault::Kind(StoreErrorKind::NameTooLong, "the path is too long"))?;
        reached = match session.step(&reached.handle, &at, deadline).await {
            Err(fault) if fault.is(Status::NOENT) => {
                let mut args = Writer::default();
                args.opaque(reached.handle.as_bytes()).opaque(name);
                proto::write_mode(&mut args, if private && n + 1 == depth { 0o700 } else { 0o755 });
                match session.call(proto::MKDIR, args, deadline, |reply| proto::created(reply)).await {
                    Err(fault) if !fault.is(Status::EXIST) => return Err(fault),
                    _ => session.forget(&at),
                }
                session.step(&reached.handle, &at, deadline).await?
            }
            found => found?,
        };
    }
    expect_directory(&reached.attr)?;
    Ok(reached)
}

impl UpstreamWriter {
    async fn write(&mut self, offset: u64, data: &[u8]) -> Outcome<()> {
        self.durable = false;
        let step = self.session.mounted(self.session.deadline()).await?.wsize;
        let (session, handle) = (&self.session, &self.temporary.handle);
        let all = async |at_once| {
            let places = (0u64..).map(|n| offset.saturating_add(n * u64::from(step)));
            let writes: Vec<_> = data
                .chunks(step as usize)
                .zip(places)
                .map(|(piece, at)| write_piece(session, handle, at, piece))
                .collect();
            stream::iter(writes).buffered(at_once).try_collect::<Vec<_>>().await
        };
        let verifiers = match all(AT_ONCE).await {
            // A server that takes nothing behind the end of a file needs one after the other, and no gap.
            Err(fault) if fault.is(Status::INVAL) => {
                grow(session, handle, offset).await?;
                all(1).await?
            }
            written => written?,
        };
        verifiers.into_iter().flatten().try_for_each(|verifier| self.expect(verifier))
    }

    /// Another verifier says that the server forgot what it had not made durable.
    fn expect(&mut self, verifier: [u8; 8]) -> Outcome<()> {
        match *self.verifier.get_or_insert(verifier) == verifier {
            true => Ok(()),
            false => Err(Fault::Kind(
                StoreErrorKind::Unavailable,
                "the server was started again and has lost what was written; write it again",
            )),
        }
    }

    async fn make_durable(&mut self) -> Outcome<()> {
        if self.durable {
            return Ok(());
        }
        let mut args = Writer::default();
        args.opaque(self.temporary.handle.as_bytes()).u64(0).u32(0);
        let deadline = self.session.deadline();
        let durable = self.session.call(proto::COMMIT, args, deadline, |reply| proto::commit(reply)).await?.0;
        if self.verifier.is_some() {
            self.expect(durable)?;
        }
        self.durable = true;
        Ok(())
    }

    async fn place(mut self) -> Outcome<()> {
        let session = self.session.clone();
        self.make_durable().await?;
        let parent = self.target.parent().unwrap_or_else(StorePath::root);
        let parent = make_directories(&session, &parent, false).await?;
        let deadline = session.deadline();
        // Servers differ in what they say of a file that would take a directory's place.
        match session.step(&parent.handle, &self.target, deadline).await {
            Ok(found) if found.attr.kind == Kind::Directory => {
                return Err(Fault::Kind(StoreErrorKind::IsADirectory, "a directory stands there"));
            }
            Err(fault) if !fault.is(Status::NOENT) => return Err(fault),
            _ => {}
        }
        let mut args = Writer::default();
        let Temporary { scratch, path, .. } = &self.temporary;
        args.opaque(scratch.as_bytes()).opaque(path.name());
        args.opaque(parent.handle.as_bytes()).opaque(self.target.name());
        let renamed = session.call(proto::RENAME, args, deadline, |reply| proto::done(reply)).await;
        session.forget(path);
        session.forget(&self.target);
        match renamed {
            // A call that was sent twice may have been executed at first: then the name leads to our file.
            Err(fault) if fault.is(Status::NOENT) => {
                let found = look(&session, &parent.handle, self.target.name(), deadline).await?;
                let (there, ours) = (
                    session.getattr(&found, deadline).await?,
                    session.getattr(&self.temporary.handle, deadline).await?,
                );
                if there.fileid != ours.fileid {
                    return Err(fault);
                }
            }
            renamed => drop(renamed?),
        }
        self.temporary.placed = true;
        Ok(())
    }

    async fn set(&self, attributes: &Attributes) -> Outcome<()> {
        if !attributes.xattrs.is_empty() {
            return Err(Fault::Kind(StoreErrorKind::Unsupported, "NFSv3 has no extended attributes"));
        }
        let deadline = self.session.deadline();
        let handle = &self.temporary.handle;
        let now = self.session.getattr(handle, deadline).await?;
        let Attributes { mode, owner, atime, mtime, .. } = *attributes;
        if let Some((uid, gid)) = owner
            && (now.uid, now.gid) != (uid, gid)
        {
            // By itself, and first: changing the owner takes bits of the mode away.
            let mut args = Writer::default();
            args.opaque(handle.as_bytes()).u32(0).bool(true).u32(uid).bool(true).u32(gid);
            args.u32(0).u32(0).u32(0).bool(false);
            self.session.call(proto::SETATTR, args, deadline, |reply| proto::done(reply)).await?;
        }
        let mut args = Writer::default();
        args.opaque(handle.as_bytes()).bool(true).u32(mode).u32(0).u32(0).u32(0);
        proto::write_time(&mut args, atime);
        proto::write_time(&mut args, mtime);
        args.bool(false);
        self.session.call(proto::SETATTR, args, deadline, |reply| proto::done(reply)).await?;
        Ok(())
    }
}

/// Makes the file at least `size` bytes long.
async fn grow(session: &Session, handle: &Handle, size: u64) -> Outcome<()> {
    let deadline = session.deadline();
    if session.getattr(handle, deadline).await?.size < size {
        let mut args = Writer::default();
        args.opaque(handle.as_bytes()).u32(0).u32(0).u32(0).bool(true).u64(size);
        args.u32(0).u32(0).bool(false);
        session.call(proto::SETATTR, args, deadline, |reply| proto::done(reply)).await?;
    }
    Ok(())
}

/// Writes `data` at `at`; the verifier, unless the server made it durable at once.
async fn write_piece(session: &Session, handle: &Handle, at: u64, data: &[u8]) -> Outcome<Option<[u8; 8]>> {
    let deadline = session.deadline();
    let mounted = session.mounted(deadline).await?;
    let (mut at, mut told) = (at, None);
    let mut data = Bytes::copy_from_slice(data);
    for _ in 0..CRUMBS {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut args = Writer::default();
        args.opaque(handle.as_bytes()).u64(at).u32(count).u32(0).payload([data.clone()], count);
        let sent = session.send(
            &mounted,
            proto::WRITE,
            session.service(),
            args.finish(),
            REPLY_MAX,
            deadline,
            |reply| proto::write(reply, count),
        );
        let (written, durable, verifier) = sent.await?.0;
        if !durable && *told.get_or_insert(verifier) != verifier {
            return Err(Fault::Kind(StoreErrorKind::Unavailable, "the server was started again"));
        }
        data = data.slice((written as usize).min(data.len())..);
        at = at.saturating_add(u64::from(written));
        if data.is_empty() {
            return Ok(told);
        }
    }
    Err(Fault::Kind(StoreErrorKind::Io, "the server takes data in crumbs"))
}

impl StoreWriter for UpstreamWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let target = self.target.clone();
            self.write(offset, data).await.map_err(|fault| fault.at("write", &target))
        })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.set(attributes).await.map_err(|fault| fault.at("copy attributes", &self.target))
        })
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let target = self.target.clone();
            self.make_durable().await.map_err(|fault| fault.at("make durable", &target))
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let target = self.target.clone();
            self.place().await.map_err(|fault| fault.at("commit", &target))
        })
    }
}

/// REMOVE or RMDIR of `path` in its directory. What a call that was sent twice does not find is gone.
async fn unlink(
    session: &Session,
    procedure: u32,
    directory: &Handle,
    path: &StorePath,
    deadline: Instant,
) -> Outcome<()> {
    let mut args = Writer::default();
    args.opaque(directory.as_bytes()).opaque(path.name());
    let removed = session
        .call(procedure, args, deadline, |reply| match proto::done(reply) {
            Err(proto::Bad::Status(Status::NOENT)) => Ok(false),
            done => done.map(|()| true),
        })
        .await;
    match procedure {
        // With all that is known of what was in it.
        proto::RMDIR => session.forget_all(),
        _ => session.forget(path),
    }
    match removed? {
        (false, false) => Err(proto::Bad::Status(Status::NOENT).into()),
        _ => Ok(()),
    }
}

/// Removes what `path` names. Symbolic links are removed, not followed.
pub(super) async fn remove(session: &Arc<Session>, path: &StorePath) -> Outcome<()> {
    let Some(parent) = path.parent() else {
        return Err(Fault::Kind(StoreErrorKind::Access, "it is the root"));
    };
    let deadline = session.deadline();
    let above = session.find(&parent, deadline).await?;
    expect_directory(&above.attr)?;
    let found = session.step(&above.handle, path, deadline).await?;
    if found.attr.kind != Kind::Directory {
        return unlink(session, proto::REMOVE, &above.handle, path, deadline).await;
    }
    // The directories from the top to the one at work, each with the handles of the one above and its own.
    let mut levels = vec![(path.clone(), above.handle, found.handle)];
    let (mut gone, mut idle) = (HashSet::new(), 0);
    for _ in 0..PASSES {
        let Some((at, above, handle)) = levels.last().cloned() else { return Ok(()) };
        let page = dir::list(session, &at, handle, 0, 256, session.deadline()).await?;
        let (mut empty, mut news) = (true, false);
        for entry in page.entries.iter().filter(|entry| !matches!(&entry.name[..], b"." | b"..")) {
            empty = false;
            let below = at
                .join(&entry.name)
                .map_err(|_| Fault::Kind(StoreErrorKind::NameTooLong, "the path is too long"))?;
            news |= !gone.contains(&below);
            if matches!(entry.kind, None | Some(Kind::Directory)) {
                let found = match session.step(&handle, &below, session.deadline()).await {
                    Err(fault) if fault.is(Status::NOENT) => {
                        gone.insert(below);
                        continue;
                    }
                    found => found?,
                };
                if found.attr.kind == Kind::Directory {
                    levels.push((below, handle, found.handle));
                    break;
                }
            }
            match unlink(session, proto::REMOVE, &handle, &below, session.deadline()).await {
                Err(fault) if fault.is(Status::NOENT) => {}
                removed => removed?,
            }
            gone.insert(below);
        }
        if news {
            idle = 0;
        } else if !empty {
            idle += 1;
            if idle == IDLE_PASSES {
                break;
            }
        }
        if gone.len() > GONE_MAX {
            gone.clear();
        }
        if empty && page.end {
            unlink(session, proto::RMDIR, &above, &at, session.deadline()).await?;
            levels.pop();
            gone.insert(at);
        }
    }
    Err(Fault::Kind(StoreErrorKind::Io, "the directory does not get empty"))
}
