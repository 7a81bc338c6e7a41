//! One object: GETATTR, LOOKUP, ACCESS, READLINK, READ.

use bytes::Bytes;

use super::{after_failure, failed, size};
use crate::export::{Access, Attr, Caller, Export, ExportError};
use crate::proto::nfs3::reply::{FATTR_LEN, POST_OP_LEN, Reply};
use crate::proto::nfs3::status::Status;
use crate::proto::nfs3::{HANDLE_MAX, READ_MAX, TARGET_MAX};
use crate::proto::rpc::Outcome;

/// `ACCESS3_READ`, section 3.3.4.
const ACCESS_READ: u32 = 0x01;
/// `ACCESS3_LOOKUP`.
const ACCESS_LOOKUP: u32 = 0x02;
/// `ACCESS3_EXECUTE`.
const ACCESS_EXECUTE: u32 = 0x20;

/// GETATTR, section 3.3.1.
pub(super) async fn get_attr(export: &Export, object: &[u8], caller: &Caller) -> Outcome {
    match export.attributes(object, caller).await {
        Ok(attr) => {
            let mut reply = Reply::new(export.fsid(), Status::Ok, FATTR_LEN);
            reply.attributes(&attr);
            reply.done()
        }
        Err(error) => Reply::new(export.fsid(), Status::of_handle(error), 0).done(),
    }
}

/// LOOKUP, section 3.3.3.
pub(super) async fn lookup(export: &Export, directory: &[u8], name: &[u8], caller: &Caller) -> Outcome {
    match export.lookup(directory, name, caller).await {
        Ok((handle, attr)) => {
            let parent = export.attributes_beside(directory, caller).await;
            found(export.fsid(), handle.as_bytes(), &attr, parent.as_ref())
        }
        Err(error) => {
            let parent = after_failure(export, directory, error, caller).await;
            Reply::failure(export.fsid(), Status::of_name(error), parent.as_ref())
        }
    }
}

fn found(fsid: u64, handle: &[u8], attr: &Attr, parent: Option<&Attr>) -> Outcome {
    let mut reply = Reply::new(fsid, Status::Ok, 4 + size(HANDLE_MAX) + 2 * POST_OP_LEN);
    reply.writer().opaque(handle);
    reply.post_op(Some(attr)).post_op(parent);
    reply.done()
}

/// ACCESS, section 3.3.4. Of a read-only export nobody gets the bits that change something.
pub(super) async fn access(export: &Export, object: &[u8], wanted: u32, caller: &Caller) -> Outcome {
    match export.answer_access(object, wanted & ACCESS_READ != 0, caller).await {
        Ok((access, attr)) => {
            let mut reply = Reply::new(export.fsid(), Status::Ok, POST_OP_LEN + 4);
            reply.post_op(Some(&attr)).writer().u32(granted(access) & wanted);
            reply.done()
        }
        Err(error) => failed(export, object, error, caller).await,
    }
}

fn granted(access: Access) -> u32 {
    let bit = |given, bit| if given { bit } else { 0 };
    bit(access.read, ACCESS_READ) | bit(access.lookup, ACCESS_LOOKUP) | bit(access.execute, ACCESS_EXECUTE)
}

/// READLINK, section 3.3.5. A target that is longer than any that could be made is an error of the
/// store.
pub(super) async fn read_link(export: &Export, link: &[u8], caller: &Caller) -> Outcome {
    match export.read_link(link, caller).await {
        Ok((target, attr)) if target.len() <= size(TARGET_MAX) => {
            let mut reply = Reply::new(export.fsid(), Status::Ok, POST_OP_LEN + 8 + target.len());
            reply.post_op(Some(&attr)).writer().opaque(&target);
            reply.done()
        }
        Ok((_, attr)) => Reply::failure(export.fsid(), Status::of_handle(ExportError::Io), Some(&attr)),
        Err(error) => failed(export, link, error, caller).await,
    }
}

/// READ, section 3.3.6.
pub(super) async fn read(export: &Export, file: &[u8], offset: u64, count: u32, caller: &Caller) -> Outcome {
    match export.read(file, offset, count.min(READ_MAX), caller).await {
        Ok(read) => {
            let count = read.data.len();
            data(export.fsid(), &read.attr, read.eof, count, read.data.into_parts())
        }
        Err(error) => failed(export, file, error, caller).await,
    }
}

fn data(fsid: u64, attr: &Attr, eof: bool, count: u32, parts: impl IntoIterator<Item = Bytes>) -> Outcome {
    // Count, end of file, length, and the padding behind the data.
    let mut reply = Reply::new(fsid, Status::Ok, POST_OP_LEN + 16);
    reply.post_op(Some(attr)).writer().u32(count).bool(eof).payload(parts, count);
    reply.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Kind;
    use crate::proto::nfs3::reply::tests::{FATTR, attr, hex};

    #[test]
    fn data_is_laid_out_as_read3resok_and_linked() {
        let bytes = Bytes::from_static(b"hello");
        let Outcome::Done { results, ok: true } =
            data(0xf5, &attr(Kind::Regular), true, 5, [bytes.slice(..2), bytes.slice(2..)])
        else {
            panic!("not done")
        };
        let segments = results.finish();
        assert!(segments.iter().any(|s| s.as_ptr() == bytes.as_ptr()), "the data was copied");
        let hex: String = segments.concat().iter().map(|b| format!("{b:02x}")).collect();
        // status, attributes follow, count, eof, length, data, padding
        assert_eq!(hex, format!("0000000000000001{FATTR}00000005000000010000000568656c6c6f") + "000000");
    }

    #[test]
    fn a_found_name_carries_handle_and_both_attributes() {
        let both = found(0xf5, b"\xaa\xbb\xcc", &attr(Kind::Regular), Some(&attr(Kind::Regular)));
        let expected = format!("0000000000000003aabbcc0000000001{FATTR}00000001{FATTR}");
        assert_eq!(hex(both), (expected, true));
        let lone = found(0xf5, b"\xaa\xbb\xcc\xdd", &attr(Kind::Regular), None);
        assert_eq!(hex(lone).0, format!("0000000000000004aabbccdd00000001{FATTR}00000000"));
    }

    #[test]
    fn access_bits_are_those_of_the_rfc_and_never_change_anything() {
        let all = Access { read: true, lookup: true, execute: true, xattrs: true };
        assert_eq!(granted(all), 0x23);
        assert_eq!(granted(Access { read: true, lookup: false, execute: false, ..Access::default() }), 1);
        assert_eq!(granted(Access { read: false, lookup: true, execute: false, ..Access::default() }), 2);
        assert_eq!(granted(Access { read: false, lookup: false, execute: true, ..Access::default() }), 0x20);
    }
}
