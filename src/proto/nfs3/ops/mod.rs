//! What each procedure does.

pub(super) mod directory;
mod filesystem;
mod mutation;
mod object;

use std::sync::Arc;

use super::Arguments;
use super::reply::Reply;
use super::status::Status;
use crate::export::{Attr, Caller, Export, ExportError};
use crate::proto::rpc::Outcome;
use crate::wire::Writer;

/// Executes a call whose arguments are in order.
pub(super) async fn execute(export: &Arc<Export>, arguments: Arguments<'_>, caller: &Caller) -> Outcome {
    match arguments {
        Arguments::Null => Outcome::Done { results: Writer::default(), ok: true },
        Arguments::GetAttr { object } => object::get_attr(export, object, caller).await,
        Arguments::Lookup { directory, name } => object::lookup(export, directory, name, caller).await,
        Arguments::Access { object, wanted } => object::access(export, object, wanted, caller).await,
        Arguments::ReadLink { link } => object::read_link(export, link, caller).await,
        Arguments::Read { file, offset, count } => object::read(export, file, offset, count, caller).await,
        Arguments::ReadDir { directory, cookie, count } => {
            directory::read_dir(export, directory, cookie, count, caller).await
        }
        Arguments::ReadDirPlus { directory, cookie, directory_count, count } => {
            directory::read_dir_plus(export, directory, cookie, directory_count, count, caller).await
        }
        Arguments::FsStat { object } => filesystem::stat(export, object, caller).await,
        Arguments::FsInfo { object } => filesystem::info(export, object, caller).await,
        Arguments::PathConf { object } => filesystem::path_conf(export, object, caller).await,
        Arguments::SetAttr { object }
        | Arguments::Write { file: object }
        | Arguments::Commit { file: object }
        | Arguments::Make { directory: object }
        | Arguments::Remove { directory: object } => mutation::refuse(export, object, caller).await,
        Arguments::Rename { from, to } => mutation::refuse_rename(export, from, to, caller).await,
        Arguments::Link { file, directory } => mutation::refuse_link(export, file, directory, caller).await,
    }
}

/// The answer to a procedure on `object` that failed and whose failure carries `post_op_attr`.
async fn failed(export: &Export, object: &[u8], error: ExportError, caller: &Caller) -> Outcome {
    let after = after_failure(export, object, error, caller).await;
    Reply::failure(export.fsid(), Status::of_handle(error), after.as_ref())
}

/// Attributes of `object` after `error`, where asking for them makes sense.
async fn after_failure(export: &Export, object: &[u8], error: ExportError, caller: &Caller) -> Option<Attr> {
    match error {
        // There is no object, or no time for it.
        ExportError::BadHandle | ExportError::Stale | ExportError::Busy => None,
        ExportError::NotFound
        | ExportError::NotADirectory
        | ExportError::IsADirectory
        | ExportError::NotRegular
        | ExportError::NotASymlink
        | ExportError::NoXattr
        | ExportError::Permission
        | ExportError::Denied(_)
        | ExportError::Corrupt(_)
        | ExportError::NameTooLong
        | ExportError::InvalidName
        | ExportError::BadCookie
        | ExportError::Io => export.attributes_beside(object, caller).await,
    }
}

/// A count from the wire as a size in memory.
pub(super) fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
