//! Everything that would change something: `NFS3ERR_ROFS`, with attributes where they can be had.
//!
//! Section 3.3.21 lists no such code for COMMIT. A client of a read-only export has nothing to
//! commit, and saying OK would promise that its data are safe.

use crate::export::{Attr, Caller, Export};
use crate::proto::nfs3::reply::{POST_OP_LEN, Reply};
use crate::proto::nfs3::status::Status;
use crate::proto::rpc::Outcome;

/// Bytes of `wcc_data` without attributes from before.
const WCC_LEN: usize = 4 + POST_OP_LEN;

/// SETATTR, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, COMMIT: `wcc_data` of one object.
pub(super) async fn refuse(export: &Export, object: &[u8], caller: &Caller) -> Outcome {
    one(export.fsid(), export.attributes_beside(object, caller).await.as_ref())
}

/// RENAME, section 3.3.14: `wcc_data` of both directories.
pub(super) async fn refuse_rename(export: &Export, from: &[u8], to: &[u8], caller: &Caller) -> Outcome {
    let after = (export.attributes_beside(from, caller).await, export.attributes_beside(to, caller).await);
    rename(export.fsid(), after.0.as_ref(), after.1.as_ref())
}

/// LINK, section 3.3.15: `post_op_attr` of the file, `wcc_data` of the directory.
pub(super) async fn refuse_link(export: &Export, file: &[u8], directory: &[u8], caller: &Caller) -> Outcome {
    let after =
        (export.attributes_beside(file, caller).await, export.attributes_beside(directory, caller).await);
    link(export.fsid(), after.0.as_ref(), after.1.as_ref())
}

fn one(fsid: u64, object: Option<&Attr>) -> Outcome {
    let mut reply = Reply::new(fsid, Status::ReadOnly, WCC_LEN);
    reply.wcc(object);
    reply.done()
}

fn rename(fsid: u64, from: Option<&Attr>, to: Option<&Attr>) -> Outcome {
    let mut reply = Reply::new(fsid, Status::ReadOnly, 2 * WCC_LEN);
    reply.wcc(from).wcc(to);
    reply.done()
}

fn link(fsid: u64, file: Option<&Attr>, directory: Option<&Attr>) -> Outcome {
    let mut reply = Reply::new(fsid, Status::ReadOnly, POST_OP_LEN + WCC_LEN);
    reply.post_op(file).wcc(directory);
    reply.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Kind;
    use crate::proto::nfs3::reply::tests::{FATTR, attr, hex};

    #[test]
    fn refusals_have_the_shape_of_their_procedure() {
        let some = attr(Kind::Regular);
        // NFS3ERR_ROFS is 30; wcc_data is "nothing from before" and post_op_attr.
        assert_eq!(hex(one(0xf5, Some(&some))), (format!("0000001e0000000000000001{FATTR}"), false));
        assert_eq!(hex(one(0xf5, None)).0, "0000001e0000000000000000");
        assert_eq!(
            hex(rename(0xf5, None, Some(&some))).0,
            format!("0000001e00000000000000000000000000000001{FATTR}")
        );
        assert_eq!(hex(link(0xf5, Some(&some), None)).0, format!("0000001e00000001{FATTR}0000000000000000"));
    }
}
