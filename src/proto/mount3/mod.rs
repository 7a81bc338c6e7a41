//! The MOUNT protocol version 3, RFC 1813 section 5: from a path to the first file handle.
//!
//! The whole tree is one export, `/`; any directory in it can be mounted.

pub mod status;
mod table;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use status::Status;
use table::{ENTRIES_MAX, Table};

use crate::export::{Caller, Export, Kind};
use crate::proto::rpc::{BoxFuture, CallContext, Outcome, Program};
use crate::wire::{Reader, Writer, XdrError};

/// The program number.
pub const PROGRAM: u32 = 100_005;
/// The version.
pub const VERSION: u32 = 3;
/// The longest path (`MNTPATHLEN`).
pub const PATH_MAX: u32 = 1024;

/// The flavor that clients are told to use: AUTH_SYS. AUTH_NONE is served as well, but a client
/// that may choose would take it and lose its identity.
const FLAVOR: u32 = 1;
/// Bytes of one entry of DUMP at most: flag, host with length, path with length.
const ENTRY_MAX: usize = 4 + 4 + 48 + 4 + 1024;
/// Bytes of any other results at most: status, handle with length, flavors.
const OVERHEAD: usize = 256;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// NULL.
    Null,
    /// MNT of a path.
    Mount(&'a [u8]),
    /// DUMP: who has mounted what.
    Dump,
    /// UMNT of a path.
    Unmount(&'a [u8]),
    /// UMNTALL.
    UnmountAll,
    /// EXPORT: what can be mounted.
    Export,
}

/// The names of the procedures, by number.
const NAMES: [&str; 6] = ["NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"];

fn procedure_name(number: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

impl<'a> Arguments<'a> {
    /// Decodes all of `bytes` as the arguments of `procedure`. NULL takes anything.
    ///
    /// # Errors
    /// [`XdrError`] when the bytes end early, when a path is longer than [`PATH_MAX`], when
    /// `procedure` is none, and when bytes follow.
    pub fn decode(procedure: u32, bytes: &'a [u8]) -> Result<Self, XdrError> {
        let mut r = Reader::new(bytes);
        let arguments = match procedure {
            0 => return Ok(Self::Null),
            1 => Self::Mount(r.opaque(PATH_MAX)?),
            2 => Self::Dump,
            3 => Self::Unmount(r.opaque(PATH_MAX)?),
            4 => Self::UnmountAll,
            5 => Self::Export,
            unknown => return Err(XdrError::Undefined(unknown)),
        };
        r.finish()?;
        Ok(arguments)
    }
}

/// The program.
pub struct Mount3 {
    export: Arc<Export>,
    mounts: Table,
}

impl Mount3 {
    /// Serves `export`.
    pub fn new(export: Arc<Export>) -> Self {
        Self { export, mounts: Table::default() }
    }

    async fn execute(&self, arguments: Arguments<'_>, context: CallContext) -> Outcome {
        let client = context.peer.ip();
        match arguments {
            Arguments::Null => done(Writer::default()),
            Arguments::Mount(path) => self.mount(path, client, &Caller::from(context)).await,
            Arguments::Dump => dump(&self.mounts),
            Arguments::Unmount(path) => {
                self.mounts.remove(client, path);
                done(Writer::default())
            }
            Arguments::UnmountAll => {
                self.mounts.remove_all(client);
                done(Writer::default())
            }
            Arguments::Export => exports(),
        }
    }

    async fn mount(&self, path: &[u8], client: IpAddr, caller: &Caller) -> Outcome {
        match self.export.resolve(path, caller).await {
            Ok((handle, attr)) if attr.kind == Kind::Directory => {
                self.mounts.add(client, path);
                mounted(handle.as_bytes())
            }
            Ok(_) => refused(Status::NotDirectory),
            Err(error) => refused(Status::of(error)),
        }
    }
}

impl Program for Mount3 {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn name(&self) -> &'static str {
        "mount3"
    }

    fn procedure_name(&self, procedure: u32) -> &'static str {
        procedure_name(procedure).unwrap_or("UNKNOWN")
    }

    fn reply_bound(&self, procedure: u32, _arguments: &[u8]) -> usize {
        match procedure {
            2 => OVERHEAD + ENTRIES_MAX * ENTRY_MAX,
            _ => OVERHEAD,
        }
    }

    /// MNT, UMNT and UMNTALL change the table of mounts.
    fn remembered(&self, procedure: u32) -> bool {
        matches!(procedure, 1 | 3 | 4)
    }

    fn call(
        self: Arc<Self>,
        context: CallContext,
        procedure: u32,
        arguments: Bytes,
    ) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if procedure_name(procedure).is_none() {
                return Outcome::ProcedureUnavailable;
            }
            match Arguments::decode(procedure, &arguments) {
                Ok(arguments) => self.execute(arguments, context).await,
                Err(_) => Outcome::GarbageArguments,
            }
        })
    }
}

fn done(results: Writer) -> Outcome {
    Outcome::Done { results, ok: true }
}

/// `mountres3` with a handle.
fn mounted(handle: &[u8]) -> Outcome {
    let mut w = Writer::with_capacity(OVERHEAD);
    // A list of one flavor.
    w.u32(Status::Ok.number()).opaque(handle).u32(1).u32(FLAVOR);
    done(w)
}

/// `mountres3` with an error.
fn refused(status: Status) -> Outcome {
    let mut results = Writer::with_capacity(4);
    results.u32(status.number());
    Outcome::Done { results, ok: false }
}

/// `mountlist`.
fn dump(mounts: &Table) -> Outcome {
    let mut w = Writer::default();
    mounts.each(|client, path| {
        w.bool(true).opaque(client.to_string().as_bytes()).opaque(path);
    });
    w.bool(false);
    done(w)
}

/// `exports`: one entry, `/`, for everybody.
fn exports() -> Outcome {
    let mut w = Writer::with_capacity(20);
    w.bool(true).opaque(b"/").bool(false).bool(false);
    done(w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Mode;
    use crate::proto::fixture::{bytes, call, export, results};

    fn hex(outcome: Outcome) -> (String, bool) {
        let Outcome::Done { results, ok } = outcome else { panic!("{outcome:?}") };
        (results.finish().concat().iter().map(|b| format!("{b:02x}")).collect(), ok)
    }

    #[test]
    fn arguments_cut_at_any_length_or_followed_by_bytes_are_refused() {
        let path = [0, 0, 0, 5, b'/', b'd', b'a', b't', b'a', 0, 0, 0];
        assert_eq!(Arguments::decode(1, &path), Ok(Arguments::Mount(b"/data")));
        assert_eq!(Arguments::decode(3, &path), Ok(Arguments::Unmount(b"/data")));
        for n in 0..path.len() {
            assert_eq!(Arguments::decode(1, &path[..n]), Err(XdrError::Truncated), "{n}");
            assert_eq!(Arguments::decode(3, &path[..n]), Err(XdrError::Truncated), "{n}");
        }
        let long = [&path[..], &[0; 4]].concat();
        assert_eq!(Arguments::decode(1, &long), Err(XdrError::Trailing(4)));
        for (procedure, expected) in
            [(2, Arguments::Dump), (4, Arguments::UnmountAll), (5, Arguments::Export)]
        {
            assert_eq!(Arguments::decode(procedure, &[]), Ok(expected));
            assert_eq!(Arguments::decode(procedure, &[0]), Err(XdrError::Trailing(1)));
        }
        assert_eq!(Arguments::decode(0, &[1]), Ok(Arguments::Null));
        assert_eq!(Arguments::decode(6, &[]), Err(XdrError::Undefined(6)));
    }

    #[test]
    fn paths_over_their_limit_are_refused_before_use() {
        for length in [1025, u32::MAX] {
            let claim = [&length.to_be_bytes()[..], &[b'/'; 2000]].concat();
            assert_eq!(Arguments::decode(1, &claim), Err(XdrError::TooLong { length, limit: 1024 }));
        }
        let most = [&1024u32.to_be_bytes()[..], &[b'/'; 1024]].concat();
        assert_eq!(Arguments::decode(1, &most), Ok(Arguments::Mount(&[b'/'; 1024])));
    }

    #[test]
    fn a_mount_is_laid_out_as_mountres3() {
        assert_eq!(hex(mounted(b"\xaa\xbb\xcc")), ("0000000000000003aabbcc000000000100000001".into(), true));
        assert_eq!(hex(refused(Status::NotDirectory)), ("00000014".into(), false));
    }

    #[test]
    fn lists_are_laid_out_as_in_the_rfc() {
        assert_eq!(hex(exports()).0, "00000001000000012f0000000000000000000000");
        let mounts = Table::default();
        assert_eq!(hex(dump(&mounts)).0, "00000000");
        mounts.add(IpAddr::from([10, 0, 0, 1]), b"/a");
        // an entry, "10.0.0.1", "/a", no entry
        assert_eq!(hex(dump(&mounts)).0, "000000010000000831302e302e302e31000000022f61000000000000");
    }

    #[test]
    fn the_bound_holds_for_a_full_table() {
        let mounts = Table::default();
        for n in 0..2 * ENTRIES_MAX as u128 {
            let client = std::net::Ipv6Addr::from_bits(u128::MAX - n);
            mounts.add(client.into(), &[b'/'; 1024]);
        }
        let Outcome::Done { results, .. } = dump(&mounts) else { panic!("not done") };
        assert!(results.len() <= OVERHEAD + ENTRIES_MAX * ENTRY_MAX);
    }

    #[test]
    fn directories_are_mounted_and_listed_until_they_are_unmounted() {
        let export = export(Mode::Enforce);
        let root = export.root();
        let program = Arc::new(Mount3::new(export));
        let path = |path: &[u8]| bytes(|w| w.opaque(path));
        let mounted = bytes(|w| w.u32(0).opaque(root.as_bytes()).u32(1).u32(1));
        assert_eq!(results(&program, 1, &path(b"/")), (mounted, true));
        assert!(results(&program, 1, &path(b"/many")).1);
        for (bad, status) in [
            (&b"/none"[..], 2),
            (b"/hello", 20),
            (b"/link", 20),
            (b"/hello/x", 20),
            (b"/.nfs-verity", 2),
            (&[b'n'; 256], 63),
            (b"/a\0", 22),
        ] {
            assert_eq!(results(&program, 1, &path(bad)), (bytes(|w| w.u32(status)), false), "{bad:?}");
        }
        let entry = |w: &mut Writer, path: &[u8]| {
            w.bool(true).opaque(b"127.0.0.1").opaque(path);
        };
        let both = bytes(|w| {
            entry(w, b"/");
            entry(w, b"/many");
            w.bool(false)
        });
        assert_eq!(results(&program, 2, &[]), (both, true));
        assert_eq!(results(&program, 3, &path(b"/")), (Vec::new(), true));
        let one = bytes(|w| {
            entry(w, b"/many");
            w.bool(false)
        });
        assert_eq!(results(&program, 2, &[]).0, one);
        assert_eq!(results(&program, 4, &[]), (Vec::new(), true));
        assert_eq!(results(&program, 2, &[]).0, [0; 4]);
        assert!(results(&program, 5, &[]).1);
    }

    #[test]
    fn null_unknown_procedures_and_garbage_are_told_apart() {
        let program = Arc::new(Mount3::new(export(Mode::Enforce)));
        assert_eq!(results(&program, 0, b"anything"), (Vec::new(), true));
        assert!(matches!(call(&program, 6, &[]), Outcome::ProcedureUnavailable));
        assert_eq!(program.procedure_name(6), "UNKNOWN");
        for procedure in 1..6 {
            assert!(matches!(call(&program, procedure, &[0xff; 9]), Outcome::GarbageArguments));
        }
    }
}
