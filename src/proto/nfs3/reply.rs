//! Results as RFC 1813 lays them out: status, `fattr3`, `post_op_attr`, `wcc_data`.

use super::status::Status;
use crate::export::{Attr, Kind, Time};
use crate::proto::rpc::Outcome;
use crate::wire::Writer;

/// Bytes of a status.
pub(super) const STATUS_LEN: usize = 4;
/// Bytes of `fattr3`, section 2.5.
pub(super) const FATTR_LEN: usize = 84;
/// Bytes of `post_op_attr` with attributes.
pub(super) const POST_OP_LEN: usize = 4 + FATTR_LEN;

/// Results under construction.
#[derive(Debug)]
pub(super) struct Reply {
    writer: Writer,
    fsid: u64,
    ok: bool,
}

impl Reply {
    /// Begins results of file system `fsid` with `status`; `room` is how many bytes will follow.
    pub(super) fn new(fsid: u64, status: Status, room: usize) -> Self {
        let mut writer = Writer::with_capacity(STATUS_LEN + room);
        writer.u32(status.number());
        Self { writer, fsid, ok: status == Status::Ok }
    }

    /// What most failures look like: the status and the object's attributes, if they could be had.
    pub(super) fn failure(fsid: u64, status: Status, after: Option<&Attr>) -> Outcome {
        let mut reply = Self::new(fsid, status, POST_OP_LEN);
        reply.post_op(after);
        reply.done()
    }

    /// For all that is not an attribute.
    pub(super) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// `fattr3`.
    pub(super) fn attributes(&mut self, attr: &Attr) -> &mut Self {
        let w = &mut self.writer;
        w.u32(file_type(attr.kind)).u32(attr.mode & 0o7777).u32(attr.nlink).u32(attr.uid).u32(attr.gid);
        w.u64(attr.size).u64(attr.used).u32(attr.rdev.0).u32(attr.rdev.1);
        w.u64(self.fsid).u64(attr.fileid);
        for time in [attr.atime, attr.mtime, attr.ctime] {
            w.u32(seconds(time)).u32(time.nanos);
        }
        self
    }

    /// `post_op_attr`.
    pub(super) fn post_op(&mut self, attr: Option<&Attr>) -> &mut Self {
        self.writer.bool(attr.is_some());
        if let Some(attr) = attr {
            self.attributes(attr);
        }
        self
    }

    /// `wcc_data` of an object that was not changed: no attributes from before, since nothing was
    /// done that they would have to be compared for.
    pub(super) fn wcc(&mut self, after: Option<&Attr>) -> &mut Self {
        self.writer.bool(false);
        self.post_op(after)
    }

    /// Ends the results.
    pub(super) fn done(self) -> Outcome {
        Outcome::Done { results: self.writer, ok: self.ok }
    }
}

/// `ftype3`.
const fn file_type(kind: Kind) -> u32 {
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

/// Seconds of `nfstime3`, which begins in 1970 and ends in 2106; times outside stand at its ends.
fn seconds(time: Time) -> u32 {
    u32::try_from(time.seconds.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Attributes whose every field can be told from the others.
    pub(in super::super) fn attr(kind: Kind) -> Attr {
        Attr {
            kind,
            mode: 0o100_644,
            nlink: 3,
            uid: 0x0101,
            gid: 0x0202,
            size: 0x1_0000_0005,
            used: 0x2000,
            rdev: (8, 1),
            fileid: 0x0102_0304_0506_0708,
            atime: Time { seconds: -1, nanos: 1 },
            mtime: Time { seconds: 0x6543_2100, nanos: 2 },
            ctime: Time { seconds: 1 << 40, nanos: 999_999_999 },
            change: 0x1112_1314_1516_1718,
        }
    }

    /// [`attr`] of a regular file as fattr3, by hand from RFC 1813 section 2.5; fsid is 0xF5.
    pub(in super::super) const FATTR: &str = concat!(
        "00000001",         // type NF3REG
        "000001a4",         // mode
        "00000003",         // nlink
        "00000101",         // uid
        "00000202",         // gid
        "0000000100000005", // size
        "0000000000002000", // used
        "0000000800000001", // rdev
        "00000000000000f5", // fsid
        "0102030405060708", // fileid
        "0000000000000001", // atime, clamped
        "6543210000000002", // mtime
        "ffffffff3b9ac9ff", // ctime, clamped
    );

    /// Results in hexadecimal, and whether they count as good.
    pub(in super::super) fn hex(outcome: Outcome) -> (String, bool) {
        let Outcome::Done { results, ok } = outcome else { panic!("{outcome:?}") };
        (results.finish().concat().iter().map(|b| format!("{b:02x}")).collect(), ok)
    }

    #[test]
    fn attributes_are_laid_out_as_fattr3() {
        let mut reply = Reply::new(0xf5, Status::Ok, FATTR_LEN);
        reply.attributes(&attr(Kind::Regular));
        assert_eq!(reply.writer().len(), STATUS_LEN + FATTR_LEN);
        assert_eq!(hex(reply.done()), (format!("00000000{FATTR}"), true));
    }

    #[test]
    fn every_kind_has_its_ftype3() {
        use Kind::*;
        let kinds = [Regular, Directory, BlockDevice, CharDevice, Symlink, Socket, Fifo];
        assert_eq!(kinds.map(file_type), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn failures_carry_optional_attributes() {
        let with = Reply::failure(0xf5, Status::Stale, Some(&attr(Kind::Regular)));
        assert_eq!(hex(with), (format!("0000004600000001{FATTR}"), false));
        assert_eq!(hex(Reply::failure(0xf5, Status::BadHandle, None)), ("0000271100000000".into(), false));
    }

    #[test]
    fn wcc_data_has_nothing_from_before() {
        let mut reply = Reply::new(0xf5, Status::ReadOnly, 0);
        reply.wcc(Some(&attr(Kind::Regular))).wcc(None);
        assert_eq!(hex(reply.done()).0, format!("0000001e0000000000000001{FATTR}0000000000000000"));
    }
}
