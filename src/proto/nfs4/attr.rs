//! Attributes: which there are, and `fattr4`; RFC 8881 section 5, RFC 7862 section 12, RFC 8276
//! section 8.2.

use super::bitmap::Bitmap;
use super::op;
use super::status::Status;
use crate::export::{Attr, FsStat, Kind, READ_MAX, Time};
use crate::wire::Writer;

macro_rules! attributes {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(
            #[allow(missing_docs, reason = "each is the number of the RFC by its own name")]
            pub const $name: u32 = $number;
        )*
    };
}

attributes! {
    SUPPORTED_ATTRS = 0,
    TYPE = 1,
    FH_EXPIRE_TYPE = 2,
    CHANGE = 3,
    SIZE = 4,
    LINK_SUPPORT = 5,
    SYMLINK_SUPPORT = 6,
    NAMED_ATTR = 7,
    FSID = 8,
    UNIQUE_HANDLES = 9,
    LEASE_TIME = 10,
    RDATTR_ERROR = 11,
    ACLSUPPORT = 13,
    CANSETTIME = 15,
    CASE_INSENSITIVE = 16,
    CASE_PRESERVING = 17,
    CHOWN_RESTRICTED = 18,
    FILEHANDLE = 19,
    FILEID = 20,
    FILES_AVAIL = 21,
    FILES_FREE = 22,
    FILES_TOTAL = 23,
    HOMOGENEOUS = 26,
    MAXFILESIZE = 27,
    MAXLINK = 28,
    MAXNAME = 29,
    MAXREAD = 30,
    MAXWRITE = 31,
    MODE = 33,
    NO_TRUNC = 34,
    NUMLINKS = 35,
    OWNER = 36,
    OWNER_GROUP = 37,
    RAWDEV = 41,
    SPACE_AVAIL = 42,
    SPACE_FREE = 43,
    SPACE_TOTAL = 44,
    SPACE_USED = 45,
    TIME_ACCESS = 47,
    TIME_ACCESS_SET = 48,
    TIME_DELTA = 51,
    TIME_METADATA = 52,
    TIME_MODIFY = 53,
    TIME_MODIFY_SET = 54,
    MOUNTED_ON_FILEID = 55,
    MODE_SET_MASKED = 74,
    SUPPATTR_EXCLCREAT = 75,
    CHANGE_ATTR_TYPE = 79,
    MODE_UMASK = 81,
    XATTR_SUPPORT = 82,
}

/// What can only be set, so that asking for it is an error.
pub const WRITE_ONLY: Bitmap = Bitmap::of(&[TIME_ACCESS_SET, TIME_MODIFY_SET, MODE_SET_MASKED, MODE_UMASK]);

/// What takes a look at the file system.
pub const OF_FILE_SYSTEM: Bitmap = Bitmap::of(&[
    FILES_AVAIL,
    FILES_FREE,
    FILES_TOTAL,
    MAXLINK,
    MAXNAME,
    SPACE_AVAIL,
    SPACE_FREE,
    SPACE_TOTAL,
]);

/// What an entry of a directory tells without a look at its object.
pub const OF_ENTRY: Bitmap = Bitmap::of(&[FILEID, MOUNTED_ON_FILEID, RDATTR_ERROR]);

/// What needs no object at all.
pub const OF_SERVER: Bitmap = Bitmap::of(&[
    SUPPORTED_ATTRS,
    FH_EXPIRE_TYPE,
    LINK_SUPPORT,
    SYMLINK_SUPPORT,
    NAMED_ATTR,
    FSID,
    UNIQUE_HANDLES,
    LEASE_TIME,
    ACLSUPPORT,
    CANSETTIME,
    CASE_INSENSITIVE,
    CASE_PRESERVING,
    CHOWN_RESTRICTED,
    HOMOGENEOUS,
    MAXFILESIZE,
    MAXREAD,
    MAXWRITE,
    NO_TRUNC,
    TIME_DELTA,
    SUPPATTR_EXCLCREAT,
    CHANGE_ATTR_TYPE,
    XATTR_SUPPORT,
]);

const OF_OBJECT: Bitmap = Bitmap::of(&[
    TYPE,
    CHANGE,
    SIZE,
    FILEHANDLE,
    MODE,
    NUMLINKS,
    OWNER,
    OWNER_GROUP,
    RAWDEV,
    SPACE_USED,
    TIME_ACCESS,
    TIME_METADATA,
    TIME_MODIFY,
]);

/// What minor version 1 does not have.
const SINCE_2: Bitmap = Bitmap::of(&[CHANGE_ATTR_TYPE, XATTR_SUPPORT]);

/// All attributes that a minor version has here, but that of the configuration.
pub const fn supported(minor: u32) -> Bitmap {
    let all = OF_SERVER.or(OF_ENTRY).or(OF_OBJECT).or(OF_FILE_SYSTEM);
    if minor >= op::MINOR_OF_XATTRS { all } else { all.without(SINCE_2) }
}

/// Bytes up to which writing would be possible at once, if it were.
const WRITE_MAX: u64 = 64 << 10;
/// The longest file.
const FILE_MAX: u64 = i64::MAX.cast_unsigned();
/// NFS4_CHANGE_TYPE_IS_UNDEFINED: the change attribute moves, and says nothing of what came first.
const CHANGE_TYPE_UNDEFINED: u32 = 4;

/// What holds for every object.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// All attributes of the minor version.
    pub supported: Bitmap,
    /// The file system's number.
    pub fsid: u64,
    /// Seconds of a lease.
    pub lease: u32,
    /// The number of FATTR4_IMA, if it is offered.
    pub ima: Option<u32>,
}

/// One object.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its attributes; `None` where only [`OF_ENTRY`] and [`OF_SERVER`] are asked for.
    pub attr: Option<&'a Attr>,
    /// Its number.
    pub fileid: u64,
    /// Its handle.
    pub handle: &'a [u8],
    /// The file system, where [`OF_FILE_SYSTEM`] is asked for.
    pub file_system: Option<&'a FsStat>,
    /// The value of FATTR4_IMA.
    pub ima: &'a [u8],
    /// `rdattr_error`.
    pub error: Status,
}

impl Server {
    /// `fattr4` with those attributes of `wanted` that are supported and known of `object`.
    pub fn encode(&self, w: &mut Writer, wanted: Bitmap, object: &Object<'_>) {
        let mut known = OF_ENTRY.or(OF_SERVER);
        if object.attr.is_some() {
            known = known.or(OF_OBJECT);
            if let Some(number) = self.ima {
                known = known.or(Bitmap::of(&[number]));
            }
        }
        if object.file_system.is_some() {
            known = known.or(OF_FILE_SYSTEM);
        }
        let mask = wanted.and(self.supported).and(known);
        mask.encode(w);
        w.measured(|w| {
            for number in mask.numbers() {
                self.one(w, number, object);
            }
        });
    }

    fn one(&self, w: &mut Writer, number: u32, object: &Object<'_>) {
        match number {
            SUPPORTED_ATTRS => self.supported.encode(w),
            // FH4_PERSISTENT.
            FH_EXPIRE_TYPE => drop(w.u32(0)),
            LINK_SUPPORT | SYMLINK_SUPPORT | CASE_PRESERVING | CHOWN_RESTRICTED | HOMOGENEOUS | NO_TRUNC
            | XATTR_SUPPORT => drop(w.bool(true)),
            // A file with two names has two handles.
            NAMED_ATTR | UNIQUE_HANDLES | CANSETTIME | CASE_INSENSITIVE => drop(w.bool(false)),
            FSID => drop(w.u64(self.fsid).u64(0)),
            LEASE_TIME => drop(w.u32(self.lease)),
            RDATTR_ERROR => drop(w.u32(object.error.number())),
            ACLSUPPORT => drop(w.u32(0)),
            FILEHANDLE => drop(w.opaque(object.handle)),
            FILEID | MOUNTED_ON_FILEID => drop(w.u64(object.fileid)),
            MAXFILESIZE => drop(w.u64(FILE_MAX)),
            MAXREAD => drop(w.u64(READ_MAX.into())),
            MAXWRITE => drop(w.u64(WRITE_MAX)),
            TIME_DELTA => drop(w.u64(0).u32(1)),
            SUPPATTR_EXCLCREAT => Bitmap::default().encode(w),
            CHANGE_ATTR_TYPE => drop(w.u32(CHANGE_TYPE_UNDEFINED)),
            number if self.ima == Some(number) => drop(w.opaque(object.ima)),
            number => {
                if let Some(stat) = object.file_system {
                    of_file_system(w, number, stat);
                }
                if let Some(attr) = object.attr {
                    of_object(w, number, attr);
                }
            }
        }
    }
}

fn of_file_system(w: &mut Writer, number: u32, stat: &FsStat) {
    match number {
        FILES_AVAIL => drop(w.u64(stat.available_files)),
        FILES_FREE => drop(w.u64(stat.free_files)),
        FILES_TOTAL => drop(w.u64(stat.total_files)),
        MAXLINK => drop(w.u32(stat.link_max)),
        MAXNAME => drop(w.u32(stat.name_max)),
        SPACE_AVAIL => drop(w.u64(stat.available_bytes)),
        SPACE_FREE => drop(w.u64(stat.free_bytes)),
        SPACE_TOTAL => drop(w.u64(stat.total_bytes)),
        _ => {}
    }
}

fn of_object(w: &mut Writer, number: u32, attr: &Attr) {
    match number {
        TYPE => drop(w.u32(file_type(attr.kind))),
        CHANGE => drop(w.u64(attr.change)),
        SIZE => drop(w.u64(attr.size)),
        MODE => drop(w.u32(attr.mode & 0o7777)),
        NUMLINKS => drop(w.u32(attr.nlink)),
        OWNER => decimal(w, attr.uid),
        OWNER_GROUP => decimal(w, attr.gid),
        RAWDEV => drop(w.u32(attr.rdev.0).u32(attr.rdev.1)),
        SPACE_USED => drop(w.u64(attr.used)),
        TIME_ACCESS => time(w, attr.atime),
        TIME_METADATA => time(w, attr.ctime),
        TIME_MODIFY => time(w, attr.mtime),
        _ => {}
    }
}

/// `nfs_ftype4`.
pub const fn file_type(kind: Kind) -> u32 {
    match kind {
        Kind::Regular => 1,
        Kind::Directory => 2,
        Kind::BlockDevice => 3,
        Kind::CharDevice => 4,
        Kind::Symlink => 5,
        Kind::Socket => 6,
        Kind::Fifo => 7,
    }
}

/// `nfstime4`.
fn time(w: &mut Writer, time: Time) {
    w.u64(time.seconds.cast_unsigned()).u32(time.nanos);
}

/// An owner as a number in decimal, RFC 8881 section 5.9: what AUTH_SYS clients and servers without a
/// common name service understand.
fn decimal(w: &mut Writer, id: u32) {
    let mut digits = [0; 10];
    let (mut rest, mut count) = (id, 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    w.opaque(digits.get(digits.len() - count..).unwrap_or_default());
}
