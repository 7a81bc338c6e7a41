//! What goes over the wire: NFSv3 and MOUNT version 3 (RFC 1813), the port mapper (RFC 1833), from the
//! client's side. Every reply is read as a stranger's; nothing here does I/O.

use bytes::Bytes;

use super::super::{Attr, Kind, NAME_MAX, PATH_MAX, StoreErrorKind, Time};
use super::rpc::Program;
use crate::wire::{Reader, Writer, XdrError};

pub(super) const NFS: Program = Program { number: 100_003, version: 3 };
pub(super) const MOUNT: Program = Program { number: 100_005, version: 3 };
pub(super) const PORTMAP: Program = Program { number: 100_000, version: 2 };

/// Procedures of NFSv3.
pub(super) const GETATTR: u32 = 1;
pub(super) const SETATTR: u32 = 2;
pub(super) const LOOKUP: u32 = 3;
pub(super) const READLINK: u32 = 5;
pub(super) const READ: u32 = 6;
pub(super) const WRITE: u32 = 7;
pub(super) const CREATE: u32 = 8;
pub(super) const MKDIR: u32 = 9;
pub(super) const REMOVE: u32 = 12;
pub(super) const RMDIR: u32 = 13;
pub(super) const RENAME: u32 = 14;
pub(super) const READDIR: u32 = 16;
pub(super) const READDIRPLUS: u32 = 17;
pub(super) const FSSTAT: u32 = 18;
pub(super) const FSINFO: u32 = 19;
pub(super) const PATHCONF: u32 = 20;
pub(super) const COMMIT: u32 = 21;
/// Procedures of MOUNT and of the port mapper.
pub(super) const MNT: u32 = 1;
pub(super) const GETPORT: u32 = 3;

/// `AUTH_SYS` among the flavors of a mount.
const AUTH_SYS: u32 = 1;
/// Flavors that a mount may list.
const FLAVORS_MAX: u32 = 64;
/// The longest handle, RFC 1813 section 2.4.
const HANDLE_MAX: usize = 64;

/// A status that is not OK, RFC 1813 sections 2.6 and 5.1.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} ({})", self.words(), self.0)]
pub(super) struct Status(pub(super) u32);

impl Status {
    pub(super) const NOENT: Self = Self(2);
    pub(super) const EXIST: Self = Self(17);
    pub(super) const INVAL: Self = Self(22);
    pub(super) const NOT_SYNC: Self = Self(10002);
    pub(super) const BAD_COOKIE: Self = Self(10003);
    pub(super) const NOTSUPP: Self = Self(10004);
    pub(super) const JUKEBOX: Self = Self(10008);

    pub(super) fn kind(self) -> StoreErrorKind {
        match self.0 {
            1 | 13 => StoreErrorKind::Access,
            2 => StoreErrorKind::NotFound,
            20 => StoreErrorKind::NotADirectory,
            21 => StoreErrorKind::IsADirectory,
            27 | 28 | 69 => StoreErrorKind::NoSpace,
            30 => StoreErrorKind::ReadOnly,
            63 => StoreErrorKind::NameTooLong,
            70 | 10001 => StoreErrorKind::Stale,
            10004 => StoreErrorKind::Unsupported,
            10008 => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Io,
        }
    }

    fn words(self) -> &'static str {
        match self.0 {
            1 => "not permitted",
            2 => "no such file",
            5 => "input or output failed",
            13 => "permission denied",
            17 => "it exists",
            20 => "not a directory",
            21 => "a directory",
            22 => "not for an object of this kind",
            28 => "no space is left",
            30 => "the file system is read-only",
            63 => "the name is too long",
            66 => "the directory is not empty",
            69 => "the quota is used up",
            70 => "the handle is stale",
            10001 => "the handle is not known",
            10003 => "the cookie is not valid",
            10004 => "not supported",
            10006 => "the server failed",
            10008 => "the server is busy",
            _ => "the server refuses",
        }
    }
}

/// A reply that gives no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Bad {
    #[error(transparent)]
    Status(#[from] Status),
    #[error("the reply is not in the format: {0}")]
    Xdr(#[from] XdrError),
    #[error("the reply makes no sense: {0}")]
    Nonsense(&'static str),
}

pub(super) type Decoded<T> = Result<T, Bad>;

/// A file handle of the server, RFC 1813 section 2.3.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    len: u8,
    bytes: [u8; HANDLE_MAX],
}

impl Handle {
    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        let given = reader.opaque(limit(HANDLE_MAX))?;
        let mut bytes = [0; HANDLE_MAX];
        let len = u8::try_from(given.len()).map_err(|_| Bad::Nonsense("a long handle"))?;
        bytes.get_mut(..given.len()).ok_or(Bad::Nonsense("a long handle"))?.copy_from_slice(given);
        Ok(Self { len, bytes })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

fn status(reader: &mut Reader<'_>) -> Decoded<()> {
    match reader.u32()? {
        0 => Ok(()),
        status => Err(Status(status).into()),
    }
}

fn time(reader: &mut Reader<'_>) -> Decoded<Time> {
    let (seconds, nanos) = (reader.u32()?, reader.u32()?);
    // Servers with times before 1970 or behind 2106 wrap them; a fraction that is none is taken as such.
    Ok(Time { seconds: i64::from(seconds), nanos: nanos.min(999_999_999) })
}

/// `fattr3`.
fn attributes(reader: &mut Reader<'_>) -> Decoded<Attr> {
    let kind = match reader.u32()? {
        1 => Kind::Regular,
        2 => Kind::Directory,
        3 => Kind::BlockDevice,
        4 => Kind::CharDevice,
        5 => Kind::Symlink,
        6 => Kind::Socket,
        7 => Kind::Fifo,
        other => return Err(XdrError::Undefined(other).into()),
    };
    let (mode, nlink, uid, gid) = (reader.u32()? & 0o7777, reader.u32()?, reader.u32()?, reader.u32()?);
    let (size, used) = (reader.u64()?, reader.u64()?);
    let rdev = (reader.u32()?, reader.u32()?);
    let (_fsid, fileid) = (reader.u64()?, reader.u64()?);
    let (atime, mtime, ctime) = (time(reader)?, time(reader)?, time(reader)?);
    // Servers that keep no time of the last change at least move the others.
    let change = Attr::change_of(ctime) ^ Attr::change_of(mtime).rotate_left(20) ^ size.rotate_left(40);
    Ok(Attr { kind, mode, nlink, uid, gid, size, used, rdev, fileid, atime, mtime, ctime, change })
}

/// `post_op_attr`.
fn optional_attributes(reader: &mut Reader<'_>) -> Decoded<Option<Attr>> {
    reader.bool()?.then(|| attributes(reader)).transpose()
}

/// `wcc_data`.
fn skip_wcc(reader: &mut Reader<'_>) -> Decoded<()> {
    if reader.bool()? {
        reader.fixed(24)?;
    }
    optional_attributes(reader).map(drop)
}

pub(super) fn getattr(results: &[u8]) -> Decoded<Attr> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    attributes(&mut reader)
}

pub(super) fn lookup(results: &[u8]) -> Decoded<(Handle, Option<Attr>)> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    Ok((Handle::read(&mut reader)?, optional_attributes(&mut reader)?))
}

pub(super) fn readlink(results: &[u8]) -> Decoded<Vec<u8>> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    optional_attributes(&mut reader)?;
    Ok(reader.opaque(limit(PATH_MAX))?.to_vec())
}

/// What a READ gave.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) attr: Option<Attr>,
    pub(super) bytes: Bytes,
    pub(super) eof: bool,
}

/// The results of a READ of `count` bytes.
pub(super) fn read(results: &Bytes, count: u32) -> Decoded<Data> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    let attr = optional_attributes(&mut reader)?;
    let (returned, eof) = (reader.u32()?, reader.bool()?);
    let bytes = reader.opaque(count)?;
    if u32::try_from(bytes.len()) != Ok(returned) {
        return Err(Bad::Nonsense("a READ whose count is not the length of its data"));
    }
    Ok(Data { attr, bytes: results.slice_ref(bytes), eof })
}

/// Bytes that a WRITE took, whether they are durable, and the verifier.
pub(super) fn write(results: &[u8], count: u32) -> Decoded<(u32, bool, [u8; 8])> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    skip_wcc(&mut reader)?;
    let (written, committed) = (reader.u32()?, reader.u32()?);
    if written == 0 || written > count || committed > 2 {
        return Err(Bad::Nonsense("a WRITE of no or too many bytes"));
    }
    Ok((written, committed == 2, verifier(&mut reader)?))
}

pub(super) fn commit(results: &[u8]) -> Decoded<[u8; 8]> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    skip_wcc(&mut reader)?;
    verifier(&mut reader)
}

fn verifier(reader: &mut Reader<'_>) -> Decoded<[u8; 8]> {
    reader.fixed(8)?.try_into().map_err(|_| XdrError::Truncated.into())
}

/// The handle of what CREATE or MKDIR made, where the server tells it.
pub(super) fn created(results: &[u8]) -> Decoded<Option<Handle>> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    reader.bool()?.then(|| Handle::read(&mut reader)).transpose()
}

/// A procedure that gives nothing but its status.
pub(super) fn done(results: &[u8]) -> Decoded<()> {
    status(&mut Reader::new(results))
}

/// One entry of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fileid: u64,
    pub(super) name: Vec<u8>,
    pub(super) cookie: u64,
    pub(super) attr: Option<Attr>,
    pub(super) handle: Option<Handle>,
}

/// A part of a directory.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) verifier: [u8; 8],
    pub(super) entries: Vec<Entry>,
    pub(super) eof: bool,
}

/// The results of a READDIR, or of a READDIRPLUS where `plus`. Names that are no names are left to the
/// caller, but none is longer than [`NAME_MAX`].
pub(super) fn entries(results: &[u8], plus: bool) -> Decoded<Entries> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    optional_attributes(&mut reader)?;
    let verifier = verifier(&mut reader)?;
    let mut entries = Vec::new();
    // Each turn takes bytes of the reply, whose length is bounded.
    while reader.bool()? {
        let fileid = reader.u64()?;
        let name = reader.opaque(limit(NAME_MAX))?.to_vec();
        let cookie = reader.u64()?;
        let (mut attr, mut handle) = (None, None);
        if plus {
            attr = optional_attributes(&mut reader)?;
            handle = reader.bool()?.then(|| Handle::read(&mut reader)).transpose()?;
        }
        entries.push(Entry { fileid, name, cookie, attr, handle });
    }
    Ok(Entries { verifier, entries, eof: reader.bool()? })
}

/// What is taken of FSSTAT: bytes and file slots, each total, free and available.
pub(super) fn fsstat(results: &[u8]) -> Decoded<[u64; 6]> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    optional_attributes(&mut reader)?;
    let mut numbers = [0; 6];
    for number in &mut numbers {
        *number = reader.u64()?;
    }
    Ok(numbers)
}

/// `rtmax` and `wtmax` of FSINFO.
pub(super) fn fsinfo(results: &[u8]) -> Decoded<(u32, u32)> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    optional_attributes(&mut reader)?;
    let rtmax = reader.u32()?;
    reader.u64()?;
    Ok((rtmax, reader.u32()?))
}

/// `linkmax` and `name_max` of PATHCONF.
pub(super) fn pathconf(results: &[u8]) -> Decoded<(u32, u32)> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    optional_attributes(&mut reader)?;
    Ok((reader.u32()?, reader.u32()?))
}

/// The root handle that MOUNT gives, if AUTH_SYS is taken there.
pub(super) fn mounted(results: &[u8]) -> Decoded<Handle> {
    let mut reader = Reader::new(results);
    status(&mut reader)?;
    let handle = Handle::read(&mut reader)?;
    let flavors = reader.count(FLAVORS_MAX)?;
    let mut known = flavors == 0;
    for _ in 0..flavors {
        known |= reader.u32()? == AUTH_SYS;
    }
    if known { Ok(handle) } else { Err(Status(13).into()) }
}

/// A port that the port mapper tells; `None` where the program is not registered.
pub(super) fn port(results: &[u8]) -> Decoded<Option<u16>> {
    let port = Reader::new(results).u32()?;
    let port = u16::try_from(port).map_err(|_| Bad::Nonsense("a port over 65535"))?;
    Ok((port != 0).then_some(port))
}

/// `sattr3` of a new object: its mode alone.
pub(super) fn write_mode(w: &mut Writer, mode: u32) {
    w.bool(true).u32(mode).u32(0).u32(0).u32(0).u32(0).u32(0);
}

/// `SET_TO_CLIENT_TIME` with a time.
pub(super) fn write_time(w: &mut Writer, time: Time) {
    // The protocol ends in 2106 and begins in 1970; what lies outside wraps as servers wrap it.
    let seconds = u32::try_from(time.seconds.rem_euclid(1 << 32)).unwrap_or(0);
    w.u32(2).u32(seconds).u32(time.nanos);
}

/// A constant as XDR has lengths.
fn limit(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
