//! A mounted server: its handles by path, found again when they went stale, and calls with their errors.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::super::identity::acting;
use super::super::{Attr, Kind, StoreError, StoreErrorKind, StorePath};
use super::address::{Address, NFS_PORT, PORTMAP_PORT};
use super::dir::Walks;
use super::proto::{self, Bad, Decoded, Handle, Status};
use super::rpc::{self, Call, CallError, Client, Peer, Program};
use crate::wire::{Segments, Writer};

/// The most bytes of a READ or WRITE.
const TRANSFER_MAX: u32 = 1024 * 1024;
/// The same where the server tells no size, or one that is of no use.
const TRANSFER_MIN: u32 = 4096;
/// The longest reply that carries no data of a file.
pub(super) const REPLY_MAX: usize = 1024 * 1024;
/// What a READ has beside its data.
pub(super) const READ_HEAD: usize = 1024;
/// The longest reply of MOUNT or the port mapper.
const SMALL_REPLY_MAX: usize = 4096;
/// Bytes of memory for names with their handles and attributes.
const NAMES_MEMORY: u64 = 32 * 1024 * 1024;
/// How long is waited before a server that says it is busy is asked again, at first and at most.
const BUSY: (u64, u64) = (50, 1000);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Bad(#[from] Bad),
    /// The export is not to be had, now; says nothing of what is in it.
    #[error("cannot mount {export}: {why}{}", hint(why))]
    NotMounted { export: String, why: Box<Fault> },
    #[error("{1}")]
    Kind(StoreErrorKind, &'static str),
}

/// What may help against a refusal.
fn hint(why: &Fault) -> &'static str {
    match why.kind() {
        StoreErrorKind::Access => "; the server may want source=reserved, or another uid and gid",
        _ => "",
    }
}

impl Fault {
    pub(super) fn kind(&self) -> StoreErrorKind {
        match self {
            // A server without the program has had it when it was mounted: it is starting.
            Self::Call(CallError::TimedOut(_) | CallError::Unreachable(_) | CallError::NoProgram) => {
                StoreErrorKind::Unavailable
            }
            Self::Call(CallError::Denied(_)) => StoreErrorKind::Access,
            Self::Call(CallError::NoProcedure | CallError::OtherRpc) => StoreErrorKind::Unsupported,
            Self::Call(CallError::Xdr(_) | CallError::NotExecuted(_)) => StoreErrorKind::Io,
            Self::Bad(Bad::Status(status)) => status.kind(),
            Self::Bad(Bad::Xdr(_) | Bad::Nonsense(_)) => StoreErrorKind::Io,
            Self::NotMounted { .. } => StoreErrorKind::Unavailable,
            Self::Kind(kind, _) => *kind,
        }
    }

    /// Why the server, which answers, gives no mount.
    pub(super) fn refusal(&self) -> Option<StoreErrorKind> {
        match self {
            Self::NotMounted { why, .. } => match why.kind() {
                StoreErrorKind::Unavailable if matches!(**why, Self::Call(CallError::NoProgram)) => {
                    Some(StoreErrorKind::Unsupported)
                }
                StoreErrorKind::Unavailable => None,
                kind => Some(kind),
            },
            _ => None,
        }
    }

    pub(super) fn is(&self, status: Status) -> bool {
        matches!(self, Self::Bad(Bad::Status(found)) if *found == status)
    }

    /// Whether the handle leads to what it was given for no more.
    pub(super) fn is_stale(&self) -> bool {
        self.kind() == StoreErrorKind::Stale
    }

    pub(super) fn at(self, operation: &'static str, path: &StorePath) -> StoreError {
        StoreError::new(self.kind(), operation, path, io::Error::other(self.to_string()))
    }
}

pub(super) type Outcome<T> = Result<T, Fault>;

/// An object of the server as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) handle: Handle,
    pub(super) attr: Attr,
    /// When it was asked for.
    pub(super) at: Instant,
}

/// When something was asked for, in time and among the changes that are made here.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    at: Instant,
    age: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<StorePath, Found> for Weight {
    fn weight(&self, path: &StorePath, _: &Found) -> u64 {
        path.as_bytes().len() as u64 + 384
    }
}

/// What mounting gave.
pub(super) struct Mounted {
    nfs: Client,
    root: Handle,
    pub(super) rsize: u32,
    pub(super) wsize: u32,
}

/// The server, mounted when it is first needed.
pub(super) struct Session {
    pub(super) address: Address,
    timeout: std::time::Duration,
    service: Bytes,
    mounted: tokio::sync::Mutex<Option<Arc<Mounted>>>,
    names: Cache<StorePath, Found, Weight>,
    /// Moves with every change that is made here: what was asked for before is not remembered behind it.
    age: Mutex<u64>,
    pub(super) walks: Walks,
}

impl Session {
    pub(super) fn new(address: Address, timeout: std::time::Duration) -> Self {
        let rpc = &address.service;
        Self {
            service: rpc::auth_sys(rpc.uid, rpc.gid, &rpc.gids),
            address,
            timeout,
            mounted: tokio::sync::Mutex::default(),
            names: Cache::with_weighter(65_536, NAMES_MEMORY, Weight),
            age: Mutex::new(0),
            walks: Walks::default(),
        }
    }

    /// When a call that begins now is given up.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The credential for data and names, on behalf of whoever asks where it is set up so.
    pub(super) fn acting(&self) -> Bytes {
        match self.address.as_caller.then(acting).flatten() {
            Some(caller) => rpc::auth_sys(caller.uid, caller.gid, &caller.gids),
            None => self.service.clone(),
        }
    }

    pub(super) fn service(&self) -> Bytes {
        self.service.clone()
    }

    /// The server with its root; mounts it where that is not done yet. A server that starts may answer before
    /// its exports are there, so a refusal counts as no answer: it must not be taken for one about a file.
    pub(super) async fn mounted(&self, deadline: Instant) -> Outcome<Arc<Mounted>> {
        let late = |_| Fault::from(CallError::TimedOut(self.timeout));
        let mut mounted = tokio::time::timeout_at(deadline, self.mounted.lock()).await.map_err(late)?;
        match &*mounted {
            Some(mounted) => Ok(mounted.clone()),
            None => {
                let made = self.mount(deadline).await.map_err(|why| Fault::NotMounted {
                    export: String::from_utf8_lossy(&self.address.export).into_owned(),
                    why: Box::new(why),
                })?;
                Ok(mounted.insert(Arc::new(made)).clone())
            }
        }
    }

    async fn mount(&self, deadline: Instant) -> Outcome<Mounted> {
        let Address { export, connections, .. } = &self.address;
        let nfs_port = match self.address.port() {
            Some(port) => port,
            None => self.port(proto::NFS, deadline).await?.unwrap_or(NFS_PORT),
        };
        let mount_port = match self.address.mount_port {
            Some(port) => port,
            None => self.port(proto::MOUNT, deadline).await?.unwrap_or(nfs_port),
        };
        let mut path = Writer::default();
        path.opaque(export);
        let (mount, call) = self.other(mount_port, proto::MOUNT, proto::MNT, path);
        let root = proto::mounted(&mount.call(&call, deadline).await?.results)?;
        let nfs = Client::new(self.peer(nfs_port), proto::NFS, *connections, self.timeout);
        let mut mounted = Mounted { nfs, root, rsize: TRANSFER_MIN, wsize: TRANSFER_MIN };
        let mut args = Writer::default();
        args.opaque(root.as_bytes());
        let (rtmax, wtmax) = self
            .call_on(&mounted, proto::FSINFO, self.service(), args, deadline, |r| proto::fsinfo(r))
            .await?
            .0;
        mounted.rsize = (rtmax / TRANSFER_MIN * TRANSFER_MIN).clamp(TRANSFER_MIN, TRANSFER_MAX);
        mounted.wsize = (wtmax / TRANSFER_MIN * TRANSFER_MIN).clamp(TRANSFER_MIN, TRANSFER_MAX);
        Ok(mounted)
    }

    fn peer(&self, port: u16) -> Peer {
        Peer { host: self.address.host().to_owned(), port, reserved: self.address.reserved }
    }

    /// What the port mapper says of `program`; `None` where it is not to be asked, says nothing, or is not
    /// there.
    async fn port(&self, program: Program, deadline: Instant) -> Outcome<Option<u16>> {
        if !self.address.portmap {
            return Ok(None);
        }
        let mut args = Writer::default();
        args.u32(program.number).u32(program.version).u32(6).u32(0);
        // Where none listens that is told at once; waiting is for the server itself.
        let soon = deadline.min(Instant::now() + self.timeout / 4);
        let (mapper, call) = self.other(PORTMAP_PORT, proto::PORTMAP, proto::GETPORT, args);
        match mapper.call_once(&call, soon).await {
            Err(CallError::TimedOut(_) | CallError::Unreachable(_)) => Ok(None),
            answer => Ok(proto::port(&answer?.results)?),
        }
    }

    /// A call to another program of the server, and who makes it.
    fn other(&self, port: u16, program: Program, procedure: u32, args: Writer) -> (Client, Call) {
        let client = Client::new(self.peer(port), program, 1, self.timeout);
        let call = Call {
            procedure,
            credential: self.service(),
            arguments: args.finish(),
            reply_max: SMALL_REPLY_MAX,
        };
        (client, call)
    }

    /// One call, made again while the server says that it is busy; also whether it may have been executed
    /// twice.
    async fn call_on<T>(
        &self,
        mounted: &Mounted,
        procedure: u32,
        credential: Bytes,
        args: Writer,
        deadline: Instant,
        decode: impl Fn(&Bytes) -> Decoded<T>,
    ) -> Outcome<(T, bool)> {
        self.send(mounted, procedure, credential, args.finish(), REPLY_MAX, deadline, decode).await
    }

    #[allow(clippy::too_many_arguments, reason = "the one place where a call is made")]
    pub(super) async fn send<T>(
        &self,
        mounted: &Mounted,
        procedure: u32,
        credential: Bytes,
        arguments: Segments,
        reply_max: usize,
        deadline: Instant,
        decode: impl Fn(&Bytes) -> Decoded<T>,
    ) -> Outcome<(T, bool)> {
        let call = Call { procedure, credential, arguments, reply_max };
        let mut pause = BUSY.0;
        let mut resent = false;
        loop {
            let reply = mounted.nfs.call(&call, deadline).await?;
            // A server that is busy now may have executed what was sent before.
            resent |= reply.resent;
            match decode(&reply.results) {
                Err(Bad::Status(Status::JUKEBOX)) => {}
                decoded => return Ok((decoded?, resent)),
            }
            let again = Instant::now() + std::time::Duration::from_millis(pause);
            if again >= deadline {
                return Err(Bad::Status(Status::JUKEBOX).into());
            }
            tokio::time::sleep_until(again).await;
            pause = (2 * pause).min(BUSY.1);
        }
    }

    /// One call of NFSv3 in the service's name.
    pub(super) async fn call<T>(
        &self,
        procedure: u32,
        args: Writer,
        deadline: Instant,
        decode: impl Fn(&Bytes) -> Decoded<T>,
    ) -> Outcome<(T, bool)> {
        self.call_as(self.service(), procedure, args, deadline, decode).await
    }

    pub(super) async fn call_as<T>(
        &self,
        credential: Bytes,
        procedure: u32,
        args: Writer,
        deadline: Instant,
        decode: impl Fn(&Bytes) -> Decoded<T>,
    ) -> Outcome<(T, bool)> {
        let mounted = self.mounted(deadline).await?;
        let answer = self.call_on(&mounted, procedure, credential, args, deadline, decode).await;
        self.heed(&mounted, &answer, deadline).await;
        answer
    }

    /// The port mapper may name another port when a server is back that did not answer.
    pub(super) async fn heed<T>(&self, mounted: &Arc<Mounted>, answer: &Outcome<T>, deadline: Instant) {
        if let Err(Fault::Call(CallError::Unreachable(_) | CallError::TimedOut(_))) = answer
            && self.address.portmap
        {
            self.unmount(mounted, deadline).await;
        }
    }

    /// Has the server mounted anew. Where that is under way already, it is left to it.
    async fn unmount(&self, mounted: &Arc<Mounted>, deadline: Instant) {
        let Ok(mut held) = tokio::time::timeout_at(deadline, self.mounted.lock()).await else { return };
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, mounted)) {
            *held = None;
        }
    }

    /// Forgets all names: something was changed here, or is not as it was known.
    pub(super) fn forget_all(&self) {
        *self.age.lock() += 1;
        self.names.clear();
    }

    /// Forgets `path` and its directory: the name was made, replaced or removed here.
    pub(super) fn forget(&self, path: &StorePath) {
        *self.age.lock() += 1;
        self.names.remove(path);
        if let Some(directory) = path.parent() {
            self.names.remove(&directory);
        }
    }

    /// Whether something that was learnt at `at` still counts.
    pub(super) fn is_fresh(&self, at: Instant) -> bool {
        at.elapsed() < self.address.attributes
    }

    fn known(&self, path: &StorePath) -> Option<Found> {
        self.names.get(path).filter(|found| self.is_fresh(found.at))
    }

    /// To be taken before the server is asked for what is then learnt.
    pub(super) fn asked(&self) -> Asked {
        Asked { at: Instant::now(), age: *self.age.lock() }
    }

    /// Remembers what `path` names, unless something was changed since it was asked for.
    pub(super) fn learn(&self, path: &StorePath, handle: Handle, attr: Attr, asked: Asked) -> Found {
        let found = Found { handle, attr, at: asked.at };
        // Held while it is remembered, so that no change comes in between.
        let age = self.age.lock();
        if *age == asked.age && !self.address.attributes.is_zero() {
            self.names.insert(path.clone(), found);
        }
        found
    }

    /// What `path` names. Handles on the way that went stale are looked up again from the root, and the
    /// root is mounted again when it did.
    pub(super) async fn find(&self, path: &StorePath, deadline: Instant) -> Outcome<Found> {
        match self.walk(path, deadline).await {
            Err(fault) if fault.is_stale() => {}
            found => return found,
        }
        self.forget_all();
        match self.walk(path, deadline).await {
            Err(fault) if fault.is_stale() => {}
            found => return found,
        }
        let mounted = self.mounted(deadline).await?;
        self.unmount(&mounted, deadline).await;
        self.forget_all();
        self.walk(path, deadline).await
    }

    async fn walk(&self, path: &StorePath, deadline: Instant) -> Outcome<Found> {
        if let Some(found) = self.known(path) {
            return Ok(found);
        }
        // From the nearest directory above that is known.
        let mut at = path.clone();
        let mut below = 0;
        let mut found = loop {
            let Some(parent) = at.parent() else { break self.root(deadline).await? };
            below += 1;
            at = parent;
            if let Some(found) = self.known(&at) {
                break found;
            }
        };
        let depth = path.components().count();
        for name in path.components().skip(depth - below) {
            expect_directory(&found.attr)?;
            at = at
                .join(name)
                .map_err(|_| Fault::Kind(StoreErrorKind::NameTooLong, "the path is too long"))?;
            found = self.step(&found.handle, &at, deadline).await?;
        }
        Ok(found)
    }

    async fn root(&self, deadline: Instant) -> Outcome<Found> {
        let asked = self.asked();
        let root = self.mounted(deadline).await?.root;
        let attr = self.getattr(&root, deadline).await?;
        Ok(self.learn(&StorePath::root(), root, attr, asked))
    }

    pub(super) async fn getattr(&self, handle: &Handle, deadline: Instant) -> Outcome<Attr> {
        let mut args = Writer::default();
        args.opaque(handle.as_bytes());
        Ok(self.call(proto::GETATTR, args, deadline, |r| proto::getattr(r)).await?.0)
    }

    /// Finds the last name of `path` in its directory.
    pub(super) async fn step(
        &self,
        directory: &Handle,
        path: &StorePath,
        deadline: Instant,
    ) -> Outcome<Found> {
        let asked = self.asked();
        let mut args = Writer::default();
        args.opaque(directory.as_bytes()).opaque(path.name());
        let (handle, attr) = self.call(proto::LOOKUP, args, deadline, |r| proto::lookup(r)).await?.0;
        let attr = match attr {
            Some(attr) => attr,
            None => self.getattr(&handle, deadline).await?,
        };
        Ok(self.learn(path, handle, attr, asked))
    }
}

/// Whether something can lie in it.
pub(super) fn expect_directory(attr: &Attr) -> Outcome<()> {
    match attr.kind {
        Kind::Directory => Ok(()),
        Kind::Symlink => Err(Fault::Kind(StoreErrorKind::Symlink, "it is a symbolic link")),
        _ => Err(Fault::Kind(StoreErrorKind::NotADirectory, "it is not a directory")),
    }
}
