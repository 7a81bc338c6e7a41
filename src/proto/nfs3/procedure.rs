//! Numbers and names of the procedures, RFC 1813 section 3.3.

/// Do nothing.
pub const NULL: u32 = 0;
/// Attributes of an object.
pub const GETATTR: u32 = 1;
/// Change attributes.
pub const SETATTR: u32 = 2;
/// Find a name in a directory.
pub const LOOKUP: u32 = 3;
/// What the caller may do.
pub const ACCESS: u32 = 4;
/// Target of a symbolic link.
pub const READLINK: u32 = 5;
/// Data of a file.
pub const READ: u32 = 6;
/// Change data.
pub const WRITE: u32 = 7;
/// Make a file.
pub const CREATE: u32 = 8;
/// Make a directory.
pub const MKDIR: u32 = 9;
/// Make a symbolic link.
pub const SYMLINK: u32 = 10;
/// Make a special file.
pub const MKNOD: u32 = 11;
/// Remove a name.
pub const REMOVE: u32 = 12;
/// Remove a directory.
pub const RMDIR: u32 = 13;
/// Rename.
pub const RENAME: u32 = 14;
/// Make another name for a file.
pub const LINK: u32 = 15;
/// Names in a directory.
pub const READDIR: u32 = 16;
/// Names in a directory with attributes and handles.
pub const READDIRPLUS: u32 = 17;
/// Room in the file system.
pub const FSSTAT: u32 = 18;
/// Limits and properties of the server.
pub const FSINFO: u32 = 19;
/// Limits of names and links.
pub const PATHCONF: u32 = 20;
/// Make written data durable.
pub const COMMIT: u32 = 21;

/// The names, by number.
const NAMES: [&str; 22] = [
    "NULL",
    "GETATTR",
    "SETATTR",
    "LOOKUP",
    "ACCESS",
    "READLINK",
    "READ",
    "WRITE",
    "CREATE",
    "MKDIR",
    "SYMLINK",
    "MKNOD",
    "REMOVE",
    "RMDIR",
    "RENAME",
    "LINK",
    "READDIR",
    "READDIRPLUS",
    "FSSTAT",
    "FSINFO",
    "PATHCONF",
    "COMMIT",
];

/// The name of procedure `number`, `None` when there is none.
pub(super) fn name(number: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

/// True for the procedures that change something.
pub(super) const fn mutates(number: u32) -> bool {
    matches!(
        number,
        SETATTR | WRITE | CREATE | MKDIR | SYMLINK | MKNOD | REMOVE | RMDIR | RENAME | LINK | COMMIT
    )
}
