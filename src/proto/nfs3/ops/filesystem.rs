//! The file system: FSSTAT, FSINFO, PATHCONF.

use super::failed;
use crate::export::{Attr, Caller, Export, FsStat};
use crate::proto::nfs3::READ_MAX;
use crate::proto::nfs3::reply::{POST_OP_LEN, Reply};
use crate::proto::nfs3::status::Status;
use crate::proto::rpc::Outcome;

/// `wtmax` and `wtpref`: nothing can be written, but clients want a number.
const WRITE_SIZE: u32 = 64 * 1024;
/// `dtpref`, the preferred count of READDIR.
const PAGE_SIZE: u32 = 64 * 1024;
/// `rtmult` and `wtmult`.
const MULTIPLE: u32 = 4096;
/// `maxfilesize`: what a signed 64-bit offset can reach.
const FILE_SIZE_MAX: u64 = i64::MAX.unsigned_abs();
/// `FSF3_SYMLINK` and `FSF3_HOMOGENEOUS`, section 3.3.19. Neither hard links nor times can be made.
const PROPERTIES: u32 = 0x02 | 0x08;

/// FSSTAT, section 3.3.18.
pub(super) async fn stat(export: &Export, object: &[u8], caller: &Caller) -> Outcome {
    match export.stat_fs(object, caller).await {
        Ok((stat, attr)) => stat_reply(export.fsid(), &stat, &attr),
        Err(error) => failed(export, object, error, caller).await,
    }
}

fn stat_reply(fsid: u64, stat: &FsStat, attr: &Attr) -> Outcome {
    let mut reply = Reply::new(fsid, Status::Ok, POST_OP_LEN + 52);
    let w = reply.post_op(Some(attr)).writer();
    w.u64(stat.total_bytes).u64(stat.free_bytes).u64(stat.available_bytes);
    w.u64(stat.total_files).u64(stat.free_files).u64(stat.available_files);
    // invarsec: the numbers may change at any time.
    w.u32(0);
    reply.done()
}

/// FSINFO, section 3.3.19.
pub(super) async fn info(export: &Export, object: &[u8], caller: &Caller) -> Outcome {
    match export.attributes(object, caller).await {
        Ok(attr) => info_reply(export.fsid(), &attr),
        Err(error) => failed(export, object, error, caller).await,
    }
}

fn info_reply(fsid: u64, attr: &Attr) -> Outcome {
    let mut reply = Reply::new(fsid, Status::Ok, POST_OP_LEN + 48);
    let w = reply.post_op(Some(attr)).writer();
    w.u32(READ_MAX).u32(READ_MAX).u32(MULTIPLE);
    w.u32(WRITE_SIZE).u32(WRITE_SIZE).u32(MULTIPLE);
    w.u32(PAGE_SIZE).u64(FILE_SIZE_MAX);
    // time_delta: one nanosecond.
    w.u32(0).u32(1);
    w.u32(PROPERTIES);
    reply.done()
}

/// PATHCONF, section 3.3.20.
pub(super) async fn path_conf(export: &Export, object: &[u8], caller: &Caller) -> Outcome {
    match export.stat_fs(object, caller).await {
        Ok((stat, attr)) => path_conf_reply(export.fsid(), &stat, &attr),
        Err(error) => failed(export, object, error, caller).await,
    }
}

fn path_conf_reply(fsid: u64, stat: &FsStat, attr: &Attr) -> Outcome {
    let mut reply = Reply::new(fsid, Status::Ok, POST_OP_LEN + 24);
    let w = reply.post_op(Some(attr)).writer();
    w.u32(stat.link_max).u32(stat.name_max);
    // no_trunc, chown_restricted, case_insensitive, case_preserving
    w.bool(true).bool(true).bool(false).bool(true);
    reply.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Kind;
    use crate::proto::nfs3::reply::tests::{FATTR, attr, hex};

    fn sample() -> FsStat {
        FsStat {
            total_bytes: 1,
            free_bytes: 2,
            available_bytes: 3,
            total_files: 4,
            free_files: 5,
            available_files: 6,
            name_max: 255,
            link_max: 65000,
        }
    }

    #[test]
    fn room_is_laid_out_as_fsstat3resok() {
        let numbers: String = (1..=6).map(|n| format!("{n:016x}")).collect();
        let (hex, ok) = hex(stat_reply(0xf5, &sample(), &attr(Kind::Regular)));
        assert_eq!((hex, ok), (format!("0000000000000001{FATTR}{numbers}00000000"), true));
    }

    #[test]
    fn limits_are_laid_out_as_fsinfo3resok() {
        let expected = concat!(
            "00100000",
            "00100000",
            "00001000", // rtmax, rtpref, rtmult
            "00010000",
            "00010000",
            "00001000", // wtmax, wtpref, wtmult
            "00010000",
            "7fffffffffffffff", // dtpref, maxfilesize
            "0000000000000001",
            "0000000a", // time_delta, properties
        );
        let (hex, ok) = hex(info_reply(0xf5, &attr(Kind::Regular)));
        assert_eq!((hex, ok), (format!("0000000000000001{FATTR}{expected}"), true));
    }

    #[test]
    fn names_are_described_as_pathconf3resok() {
        let expected = "0000fde8000000ff00000001000000010000000000000001";
        let (hex, ok) = hex(path_conf_reply(0xf5, &sample(), &attr(Kind::Regular)));
        assert_eq!((hex, ok), (format!("0000000000000001{FATTR}{expected}"), true));
    }
}
