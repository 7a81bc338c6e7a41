//! Arguments of the procedures, RFC 1813 section 3.3, decoded strictly.

use super::procedure;
use crate::wire::{Reader, XdrError};

/// The longest file handle, RFC 1813 section 2.4 (`NFS3_FHSIZE`).
pub const HANDLE_MAX: u32 = 64;
/// The longest file name that is decoded. Longer than any that exists, so that a name somewhat too
/// long meets its own error and not `GARBAGE_ARGS`.
pub const NAME_MAX: u32 = 4096;
/// The longest target of a symbolic link.
pub const TARGET_MAX: u32 = 4096;
/// The most data of one WRITE that is decoded, in bytes.
pub const WRITE_MAX: u32 = 1024 * 1024;

/// What a call asks for. Handles are bytes from the client, at most [`HANDLE_MAX`], names at most
/// [`NAME_MAX`].
///
/// Exports are read-only, so what a mutation wants to change is checked for its form and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// NULL.
    Null,
    /// GETATTR.
    GetAttr {
        /// Handle of the object.
        object: &'a [u8],
    },
    /// SETATTR.
    SetAttr {
        /// Handle of the object.
        object: &'a [u8],
    },
    /// LOOKUP.
    Lookup {
        /// Handle of the directory.
        directory: &'a [u8],
        /// The name to look for.
        name: &'a [u8],
    },
    /// ACCESS.
    Access {
        /// Handle of the object.
        object: &'a [u8],
        /// The `ACCESS3_*` bits asked about.
        wanted: u32,
    },
    /// READLINK.
    ReadLink {
        /// Handle of the symbolic link.
        link: &'a [u8],
    },
    /// READ.
    Read {
        /// Handle of the file.
        file: &'a [u8],
        /// Where to begin, in bytes.
        offset: u64,
        /// The most bytes wanted, as claimed.
        count: u32,
    },
    /// WRITE.
    Write {
        /// Handle of the file.
        file: &'a [u8],
    },
    /// CREATE, MKDIR, SYMLINK or MKNOD.
    Make {
        /// Handle of the directory.
        directory: &'a [u8],
    },
    /// REMOVE or RMDIR.
    Remove {
        /// Handle of the directory.
        directory: &'a [u8],
    },
    /// RENAME.
    Rename {
        /// Handle of the directory that holds the object.
        from: &'a [u8],
        /// Handle of the directory that is to hold it.
        to: &'a [u8],
    },
    /// LINK.
    Link {
        /// Handle of the file.
        file: &'a [u8],
        /// Handle of the directory that is to hold the new name.
        directory: &'a [u8],
    },
    /// READDIR.
    ReadDir {
        /// Handle of the directory.
        directory: &'a [u8],
        /// Behind which entry to begin; 0: from the start.
        cookie: u64,
        /// The most bytes of the encoded results, as claimed.
        count: u32,
    },
    /// READDIRPLUS.
    ReadDirPlus {
        /// Handle of the directory.
        directory: &'a [u8],
        /// Behind which entry to begin; 0: from the start.
        cookie: u64,
        /// The most bytes of encoded entries without attributes and handles, as claimed.
        directory_count: u32,
        /// The most bytes of the encoded results, as claimed.
        count: u32,
    },
    /// FSSTAT.
    FsStat {
        /// Handle of an object in the file system.
        object: &'a [u8],
    },
    /// FSINFO.
    FsInfo {
        /// Handle of an object in the file system.
        object: &'a [u8],
    },
    /// PATHCONF.
    PathConf {
        /// Handle of an object in the file system.
        object: &'a [u8],
    },
    /// COMMIT.
    Commit {
        /// Handle of the file.
        file: &'a [u8],
    },
}

impl<'a> Arguments<'a> {
    /// Decodes all of `bytes` as the arguments of `procedure`. NULL takes anything, since clients
    /// that ping with it send what they like.
    ///
    /// # Errors
    /// [`XdrError`] when the bytes end early, when a length is over its limit, when a discriminant
    /// is not defined (also: when `procedure` is none), and when bytes follow.
    pub fn decode(procedure: u32, bytes: &'a [u8]) -> Result<Self, XdrError> {
        let r = &mut Reader::new(bytes);
        let arguments = match procedure {
            procedure::NULL => return Ok(Self::Null),
            procedure::GETATTR => Self::GetAttr { object: handle(r)? },
            procedure::SETATTR => set_attr(r)?,
            procedure::LOOKUP => Self::Lookup { directory: handle(r)?, name: name(r)? },
            procedure::ACCESS => Self::Access { object: handle(r)?, wanted: r.u32()? },
            procedure::READLINK => Self::ReadLink { link: handle(r)? },
            procedure::READ => Self::Read { file: handle(r)?, offset: r.u64()?, count: r.u32()? },
            procedure::WRITE => write(r)?,
            procedure::CREATE => create(r)?,
            procedure::MKDIR => {
                let directory = place(r)?;
                new_attributes(r)?;
                Self::Make { directory }
            }
            procedure::SYMLINK => {
                let directory = place(r)?;
                new_attributes(r)?;
                r.opaque(TARGET_MAX)?;
                Self::Make { directory }
            }
            procedure::MKNOD => make_node(r)?,
            procedure::REMOVE | procedure::RMDIR => Self::Remove { directory: place(r)? },
            procedure::RENAME => Self::Rename { from: place(r)?, to: place(r)? },
            procedure::LINK => Self::Link { file: handle(r)?, directory: place(r)? },
            procedure::READDIR => {
                let (directory, cookie) = position(r)?;
                Self::ReadDir { directory, cookie, count: r.u32()? }
            }
            procedure::READDIRPLUS => {
                let (directory, cookie) = position(r)?;
                Self::ReadDirPlus { directory, cookie, directory_count: r.u32()?, count: r.u32()? }
            }
            procedure::FSSTAT => Self::FsStat { object: handle(r)? },
            procedure::FSINFO => Self::FsInfo { object: handle(r)? },
            procedure::PATHCONF => Self::PathConf { object: handle(r)? },
            procedure::COMMIT => {
                let file = handle(r)?;
                r.u64()?;
                r.u32()?;
                Self::Commit { file }
            }
            unknown => return Err(XdrError::Undefined(unknown)),
        };
        r.clone().finish()?;
        Ok(arguments)
    }
}

/// `nfs_fh3`.
fn handle<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    r.opaque(HANDLE_MAX)
}

/// `filename3`.
fn name<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    r.opaque(NAME_MAX)
}

/// `diropargs3`; gives the directory's handle.
fn place<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    let directory = handle(r)?;
    name(r)?;
    Ok(directory)
}

/// Directory, cookie and cookie verifier of READDIR and READDIRPLUS. The verifier may be anything:
/// cookies stay valid while a directory changes.
fn position<'a>(r: &mut Reader<'a>) -> Result<(&'a [u8], u64), XdrError> {
    let position = (handle(r)?, r.u64()?);
    r.u64()?;
    Ok(position)
}

/// `sattr3`.
fn new_attributes(r: &mut Reader<'_>) -> Result<(), XdrError> {
    for _ in ["mode", "uid", "gid"] {
        if r.bool()? {
            r.u32()?;
        }
    }
    if r.bool()? {
        r.u64()?;
    }
    for _ in ["atime", "mtime"] {
        match r.u32()? {
            // DONT_CHANGE and SET_TO_SERVER_TIME.
            0 | 1 => {}
            // SET_TO_CLIENT_TIME, with the time.
            2 => {
                r.u64()?;
            }
            other => return Err(XdrError::Undefined(other)),
        }
    }
    Ok(())
}

fn set_attr<'a>(r: &mut Reader<'a>) -> Result<Arguments<'a>, XdrError> {
    let object = handle(r)?;
    new_attributes(r)?;
    // sattrguard3: with the ctime that is expected.
    if r.bool()? {
        r.u64()?;
    }
    Ok(Arguments::SetAttr { object })
}

fn write<'a>(r: &mut Reader<'a>) -> Result<Arguments<'a>, XdrError> {
    let file = handle(r)?;
    r.u64()?;
    let count = r.u32()?;
    // stable_how: UNSTABLE, DATA_SYNC, FILE_SYNC.
    match r.u32()? {
        0..=2 => {}
        other => return Err(XdrError::Undefined(other)),
    }
    let data = r.opaque(WRITE_MAX)?;
    // The count says the data's length a second time; knfsd refuses a difference in the same way.
    if u32::try_from(data.len()) != Ok(count) {
        return Err(XdrError::Undefined(count));
    }
    Ok(Arguments::Write { file })
}

fn create<'a>(r: &mut Reader<'a>) -> Result<Arguments<'a>, XdrError> {
    let directory = place(r)?;
    match r.u32()? {
        // UNCHECKED and GUARDED.
        0 | 1 => new_attributes(r)?,
        // EXCLUSIVE, with createverf3.
        2 => {
            r.u64()?;
        }
        other => return Err(XdrError::Undefined(other)),
    }
    Ok(Arguments::Make { directory })
}

fn make_node<'a>(r: &mut Reader<'a>) -> Result<Arguments<'a>, XdrError> {
    let directory = place(r)?;
    match r.u32()? {
        // NF3REG, NF3DIR and NF3LNK are no nodes to make, but the union has an arm for them: void.
        1 | 2 | 5 => {}
        // NF3BLK and NF3CHR, with specdata3.
        3 | 4 => {
            new_attributes(r)?;
            r.u64()?;
        }
        // NF3SOCK and NF3FIFO.
        6 | 7 => new_attributes(r)?,
        other => return Err(XdrError::Undefined(other)),
    }
    Ok(Arguments::Make { directory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    const HANDLE: &[u8] = b"0123456789";
    const OTHER: &[u8] = &[9; 64];
    const NAME: &[u8] = b"name!";

    fn bytes(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
        let mut w = Writer::default();
        write(&mut w);
        w.finish().concat()
    }

    /// sattr3 with everything set.
    fn full(w: &mut Writer) -> &mut Writer {
        w.bool(true).u32(0o644).bool(true).u32(1).bool(true).u32(2).bool(true).u64(3);
        w.u32(2).u32(4).u32(5).u32(1)
    }

    /// Every procedure but NULL, each variant of its arguments, and what they decode to.
    fn samples() -> Vec<(u32, Vec<u8>, Arguments<'static>)> {
        let on = |write: fn(&mut Writer) -> &mut Writer| {
            bytes(|w| {
                w.opaque(HANDLE);
                write(w)
            })
        };
        let at = |write: fn(&mut Writer) -> &mut Writer| {
            bytes(|w| {
                w.opaque(HANDLE).opaque(NAME);
                write(w)
            })
        };
        let (object, directory, file, link) = (HANDLE, HANDLE, HANDLE, HANDLE);
        use Arguments::*;
        vec![
            (1, on(|w| w), GetAttr { object }),
            (2, on(|w| full(w).bool(true).u64(7)), SetAttr { object }),
            (2, on(|w| w.fixed(&[0; 28])), SetAttr { object }),
            (3, at(|w| w), Lookup { directory, name: NAME }),
            (4, on(|w| w.u32(0x3f)), Access { object, wanted: 0x3f }),
            (5, on(|w| w), ReadLink { link }),
            (6, on(|w| w.u64(1 << 40).u32(9)), Read { file, offset: 1 << 40, count: 9 }),
            (7, on(|w| w.u64(0).u32(5).u32(2).opaque(b"hello")), Write { file }),
            (8, at(|w| full(w.u32(1))), Make { directory }),
            (8, at(|w| w.u32(0).fixed(&[0; 24])), Make { directory }),
            (8, at(|w| w.u32(2).u64(77)), Make { directory }),
            (9, at(|w| w.fixed(&[0; 24])), Make { directory }),
            (10, at(|w| full(w).opaque(b"../target")), Make { directory }),
            (11, at(|w| w.u32(4).fixed(&[0; 24]).u32(8).u32(1)), Make { directory }),
            (11, at(|w| w.u32(3).fixed(&[0; 24]).u32(8).u32(1)), Make { directory }),
            (11, at(|w| full(w.u32(6))), Make { directory }),
            (11, at(|w| w.u32(7).fixed(&[0; 24])), Make { directory }),
            (11, at(|w| w.u32(1)), Make { directory }),
            (12, at(|w| w), Remove { directory }),
            (13, at(|w| w), Remove { directory }),
            (14, at(|w| w.opaque(OTHER).opaque(b"x")), Rename { from: HANDLE, to: OTHER }),
            (15, on(|w| w.opaque(OTHER).opaque(b"x")), Link { file, directory: OTHER }),
            (16, on(|w| w.u64(5).u64(6).u32(7)), ReadDir { directory, cookie: 5, count: 7 }),
            (
                17,
                on(|w| w.u64(5).u64(6).u32(7).u32(8)),
                ReadDirPlus { directory, cookie: 5, directory_count: 7, count: 8 },
            ),
            (18, on(|w| w), FsStat { object }),
            (19, on(|w| w), FsInfo { object }),
            (20, on(|w| w), PathConf { object }),
            (21, on(|w| w.u64(1).u32(2)), Commit { file }),
        ]
    }

    #[test]
    fn arguments_decode_to_what_they_say() {
        for (procedure, bytes, expected) in samples() {
            assert_eq!(Arguments::decode(procedure, &bytes), Ok(expected), "{procedure}");
        }
    }

    #[test]
    fn arguments_cut_at_any_length_or_followed_by_bytes_are_refused() {
        let mut seen = std::collections::BTreeSet::new();
        for (procedure, bytes, _) in samples() {
            seen.insert(procedure);
            for n in 0..bytes.len() {
                assert!(Arguments::decode(procedure, &bytes[..n]).is_err(), "{procedure} cut at {n}");
            }
            for more in [1, 4, 9] {
                let long = [&bytes[..], &vec![0; more]].concat();
                assert_eq!(Arguments::decode(procedure, &long), Err(XdrError::Trailing(more)), "{procedure}");
            }
        }
        assert_eq!(seen, (1..22).collect());
    }

    #[test]
    fn null_takes_anything_and_unknown_procedures_nothing() {
        assert_eq!(Arguments::decode(0, &[1, 2, 3]), Ok(Arguments::Null));
        assert_eq!(Arguments::decode(22, &[]), Err(XdrError::Undefined(22)));
        assert_eq!(Arguments::decode(u32::MAX, &[]), Err(XdrError::Undefined(u32::MAX)));
    }

    #[test]
    fn lengths_are_compared_with_their_limit_before_use() {
        let long = |length: u32, limit: u32| Err(XdrError::TooLong { length, limit });
        for procedure in 1..22 {
            for length in [65, 1 << 31, u32::MAX] {
                let claim = bytes(|w| w.u32(length).fixed(&[0; 200]));
                assert_eq!(Arguments::decode(procedure, &claim), long(length, 64), "{procedure}");
            }
        }
        for procedure in [3, 8, 9, 10, 11, 12, 13, 14] {
            let claim = bytes(|w| w.opaque(HANDLE).u32(u32::MAX).fixed(&[0; 200]));
            assert_eq!(Arguments::decode(procedure, &claim), long(u32::MAX, NAME_MAX), "{procedure}");
        }
        let claim = bytes(|w| w.opaque(HANDLE).u64(0).u32(u32::MAX).u32(0).u32(u32::MAX));
        assert_eq!(Arguments::decode(7, &claim), long(u32::MAX, WRITE_MAX));
        let claim = bytes(|w| w.opaque(HANDLE).opaque(NAME).fixed(&[0; 24]).u32(4097));
        assert_eq!(Arguments::decode(10, &claim), long(4097, TARGET_MAX));
    }

    #[test]
    fn names_over_255_bytes_are_decoded_so_that_they_meet_their_own_error() {
        let name = [b'n'; 4096];
        let lookup = bytes(|w| w.opaque(HANDLE).opaque(&name));
        assert_eq!(Arguments::decode(3, &lookup), Ok(Arguments::Lookup { directory: HANDLE, name: &name }));
    }

    #[test]
    fn undefined_discriminants_are_refused() {
        let refused = |procedure, value, write: &dyn Fn(&mut Writer) -> &mut Writer| {
            let bytes = bytes(|w| {
                w.opaque(HANDLE);
                write(w)
            });
            assert_eq!(Arguments::decode(procedure, &bytes), Err(XdrError::Undefined(value)), "{procedure}");
        };
        refused(2, 2, &|w| w.u32(2));
        refused(2, 3, &|w| w.fixed(&[0; 16]).u32(3));
        refused(2, 9, &|w| w.fixed(&[0; 24]).u32(9));
        refused(7, 3, &|w| w.u64(0).u32(0).u32(3).opaque(b""));
        refused(7, 6, &|w| w.u64(0).u32(6).u32(0).opaque(b"hello"));
        refused(8, 3, &|w| w.opaque(NAME).u32(3));
        refused(11, 0, &|w| w.opaque(NAME).u32(0));
        refused(11, 8, &|w| w.opaque(NAME).u32(8));
    }
}
