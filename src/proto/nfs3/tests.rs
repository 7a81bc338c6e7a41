//! The program as clients meet it: every procedure, over an export in memory.

use std::sync::Arc;

use super::reply::{FATTR_LEN, POST_OP_LEN, STATUS_LEN};
use super::{ENTRIES_MAX, Nfs3, OVERHEAD, procedure, reply_bound};
use crate::export::Export;
use crate::policy::Mode;
use crate::proto::fixture::{bytes, call, content, export, many, results};
use crate::proto::rpc::{Outcome, Program};
use crate::wire::{Reader, Writer, XdrError};

/// Bytes of results that are a status and attributes.
const FAILURE_LEN: usize = STATUS_LEN + POST_OP_LEN;

/// Writes arguments behind a handle.
type Write = fn(&mut Writer) -> &mut Writer;

/// A program and the root of its export.
struct Scene {
    nfs: Arc<Nfs3>,
    root: Vec<u8>,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let export: Arc<Export> = export(mode);
        let root = export.root().as_bytes().to_vec();
        Self { nfs: Arc::new(Nfs3::new(export)), root }
    }

    fn results(&self, procedure: u32, arguments: &[u8]) -> (Vec<u8>, bool) {
        results(&self.nfs, procedure, arguments)
    }

    /// The status of a procedure whose arguments begin with `handle`, and the bytes of its results.
    fn status(
        &self,
        procedure: u32,
        handle: &[u8],
        more: impl FnOnce(&mut Writer) -> &mut Writer,
    ) -> (u32, usize) {
        let (results, ok) = self.results(procedure, &bytes(|w| more(w.opaque(handle))));
        let status = Reader::new(&results).u32().unwrap();
        assert_eq!(ok, status == 0);
        (status, results.len())
    }

    fn lookup(&self, name: &[u8]) -> Vec<u8> {
        let (results, _) = self.results(procedure::LOOKUP, &bytes(|w| w.opaque(&self.root).opaque(name)));
        let mut r = Reader::new(&results);
        assert_eq!(r.u32(), Ok(0));
        r.opaque(64).unwrap().to_vec()
    }

    /// All names in the directory `handle`; `None` when a page is too small for one.
    fn list(&self, handle: &[u8], directory_count: Option<u32>, count: u32) -> Option<Vec<Vec<u8>>> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let arguments = bytes(|w| {
                w.opaque(handle).u64(cookie).u64(0);
                directory_count.iter().for_each(|count| {
                    w.u32(*count);
                });
                w.u32(count)
            });
            let plus = directory_count.is_some();
            let procedure = if plus { procedure::READDIRPLUS } else { procedure::READDIR };
            let (results, ok) = self.results(procedure, &arguments);
            if !ok {
                assert_eq!(Reader::new(&results).u32(), Ok(10005));
                return None;
            }
            assert!(results.len() - STATUS_LEN <= count as usize);
            if page(&results, plus, &mut names, &mut cookie).unwrap() {
                return Some(names);
            }
        }
    }
}

/// Reads one page of a directory; true at its end.
fn page(results: &[u8], plus: bool, names: &mut Vec<Vec<u8>>, cookie: &mut u64) -> Result<bool, XdrError> {
    let mut r = Reader::new(results);
    assert_eq!((r.u32()?, r.u32()?), (0, 1));
    r.fixed(FATTR_LEN)?;
    assert_eq!(r.u64()?, 0);
    while r.bool()? {
        r.u64()?;
        names.push(r.opaque(255)?.to_vec());
        *cookie = r.u64()?;
        if plus {
            assert!(r.bool()?, "attributes are there");
            r.fixed(FATTR_LEN)?;
            assert!(r.bool()?, "a handle is there");
            r.opaque(64)?;
        }
    }
    let end = r.bool()?;
    r.finish()?;
    Ok(end)
}

#[test]
fn null_unknown_procedures_and_garbage_are_told_apart() {
    let scene = Scene::new(Mode::Warn);
    assert_eq!(scene.results(0, b"anything"), (Vec::new(), true));
    for unknown in [22, u32::MAX] {
        assert!(matches!(call(&scene.nfs, unknown, &[]), Outcome::ProcedureUnavailable));
        assert_eq!(scene.nfs.procedure_name(unknown), "UNKNOWN");
    }
    for procedure in 1..22 {
        assert!(matches!(call(&scene.nfs, procedure, &[0xff; 40]), Outcome::GarbageArguments));
    }
}

#[test]
fn names_are_found_or_refused_with_the_directory_s_attributes() {
    let scene = Scene::new(Mode::Warn);
    let lookup = |name: &[u8]| scene.status(procedure::LOOKUP, &scene.root, |w| w.opaque(name));
    for name in [&b"hello"[..], b"link", b"many", b".", b".."] {
        let (status, len) = lookup(name);
        assert_eq!(status, 0);
        assert!(len > STATUS_LEN + 2 * POST_OP_LEN);
    }
    for (name, status) in [
        (&b"none"[..], 2),
        (&[b'n'; 256], 63),
        (&[b'n'; 4096], 63),
        (b"", 13),
        (b"many/0", 13),
        (b"a\0", 13),
        (b".nfs-verity", 2),
    ] {
        assert_eq!(lookup(name), (status, FAILURE_LEN), "{name:?}");
    }
    let hello = scene.lookup(b"hello");
    assert_eq!(scene.status(procedure::LOOKUP, &hello, |w| w.opaque(b"x")), (20, FAILURE_LEN));
}

#[test]
fn handles_that_were_not_given_out_are_bad_for_every_procedure_that_reads() {
    let scene = Scene::new(Mode::Warn);
    let mut forged = scene.root.clone();
    forged.iter_mut().skip(1).for_each(|byte| *byte ^= 0x55);
    for handle in [&forged[..], b"", &[0; 64]] {
        assert_eq!(scene.status(procedure::GETATTR, handle, |w| w), (10001, STATUS_LEN));
        let with: [(u32, Write); 9] = [
            (procedure::LOOKUP, |w| w.opaque(b"hello")),
            (procedure::ACCESS, |w| w.u32(1)),
            (procedure::READLINK, |w| w),
            (procedure::READ, |w| w.u64(0).u32(1)),
            (procedure::READDIR, |w| w.u64(0).u64(0).u32(4096)),
            (procedure::READDIRPLUS, |w| w.u64(0).u64(0).u32(0).u32(4096)),
            (procedure::FSSTAT, |w| w),
            (procedure::FSINFO, |w| w),
            (procedure::PATHCONF, |w| w),
        ];
        for (procedure, more) in with {
            assert_eq!(scene.status(procedure, handle, more), (10001, 8), "{procedure}");
        }
    }
}

#[test]
fn objects_tell_what_they_are() {
    let scene = Scene::new(Mode::Warn);
    let (hello, link) = (scene.lookup(b"hello"), scene.lookup(b"link"));
    assert_eq!(scene.status(procedure::GETATTR, &hello, |w| w), (0, STATUS_LEN + FATTR_LEN));
    assert_eq!(scene.status(procedure::FSSTAT, &hello, |w| w), (0, FAILURE_LEN + 52));
    assert_eq!(scene.status(procedure::FSINFO, &hello, |w| w), (0, FAILURE_LEN + 48));
    assert_eq!(scene.status(procedure::PATHCONF, &hello, |w| w), (0, FAILURE_LEN + 24));
    assert_eq!(scene.status(procedure::READLINK, &hello, |w| w), (22, FAILURE_LEN));
    let (target, _) = scene.results(procedure::READLINK, &bytes(|w| w.opaque(&link)));
    assert_eq!(target[FAILURE_LEN..], *b"\0\0\0\x04../x");
    let access = |handle: &[u8], wanted: u32| {
        let (results, _) = scene.results(procedure::ACCESS, &bytes(|w| w.opaque(handle).u32(wanted)));
        Reader::new(&results[FAILURE_LEN..]).u32().unwrap()
    };
    assert_eq!(access(&hello, u32::MAX) & !0x23, 0);
    assert_eq!(access(&hello, 0x1f), 1);
    assert_eq!(access(&hello, 0x1e), 0);
    assert_eq!(access(&scene.root, 0x1f), 3);
}

#[test]
fn reads_are_cut_to_their_limit_and_end_at_the_end() {
    let scene = Scene::new(Mode::Warn);
    let hello = scene.lookup(b"hello");
    let content = content();
    for (offset, count) in [(0, u32::MAX), (1_499_999, 9), (5, 7), (0, 0), (1_500_000, 1), (u64::MAX, 9)] {
        let arguments = bytes(|w| w.opaque(&hello).u64(offset).u32(count));
        let (results, _) = scene.results(procedure::READ, &arguments);
        let from = content.len().min(usize::try_from(offset).unwrap());
        let to = content.len().min(from + count.min(1 << 20) as usize);
        let mut r = Reader::new(&results[FAILURE_LEN..]);
        assert_eq!(r.u32().unwrap() as usize, to - from);
        assert_eq!(r.bool(), Ok(to == content.len()), "{offset} {count}");
        assert!(r.opaque(1 << 20).unwrap() == &content[from..to], "{offset} {count}");
        assert_eq!(r.finish(), Ok(()));
    }
    assert_eq!(scene.status(procedure::READ, &scene.root, |w| w.u64(0).u32(1)), (22, FAILURE_LEN));
}

#[test]
fn what_policy_denies_is_an_access_error_with_attributes() {
    let scene = Scene::new(Mode::Enforce);
    let hello = scene.lookup(b"hello");
    assert_eq!(scene.status(procedure::READ, &hello, |w| w.u64(0).u32(1)), (13, FAILURE_LEN));
}

#[test]
fn directories_are_listed_whole_whatever_the_counts() {
    let scene = Scene::new(Mode::Warn);
    let directory = scene.lookup(b"many");
    let mut expected: Vec<Vec<u8>> = many().chain([b".".to_vec(), b"..".to_vec()]).collect();
    expected.sort();
    for count in [600, 4096, u32::MAX] {
        for directory_count in [None, Some(0), Some(300), Some(count)] {
            let mut names = scene.list(&directory, directory_count, count).unwrap();
            names.sort();
            assert!(names == expected, "{directory_count:?} {count}");
        }
    }
    for count in [0, 103, 104, 131] {
        assert_eq!(scene.list(&directory, None, count), None);
        assert_eq!(scene.list(&directory, Some(0), count), None);
    }
    assert_eq!(scene.list(&directory, Some(1), 4096), None);
    let hello = scene.lookup(b"hello");
    let read_dir = |count| scene.status(procedure::READDIR, &hello, |w| w.u64(0).u64(0).u32(count));
    assert_eq!(read_dir(4096), (20, FAILURE_LEN));
}

#[test]
fn whatever_changes_something_is_refused_in_the_shape_of_its_procedure() {
    let scene = Scene::new(Mode::Warn);
    let hello = scene.lookup(b"hello");
    let (wcc, post_op) = (4 + POST_OP_LEN, POST_OP_LEN);
    let nothing = [0; 24];
    let at = |more: &dyn Fn(&mut Writer)| {
        bytes(|w| {
            w.opaque(&scene.root).opaque(b"new");
            more(w);
            w
        })
    };
    let name = |w: &mut Writer| {
        w.opaque(&scene.root).opaque(b"other");
    };
    let attributes = |w: &mut Writer| {
        w.fixed(&nothing);
    };
    let kind = |kind: u32| {
        move |w: &mut Writer| {
            w.u32(kind).fixed(&nothing);
        }
    };
    let target = |w: &mut Writer| {
        w.fixed(&nothing).opaque(b"target");
    };
    let cases = [
        (procedure::SETATTR, bytes(|w| w.opaque(&hello).fixed(&nothing).u32(0)), wcc),
        (procedure::WRITE, bytes(|w| w.opaque(&hello).u64(0).u32(3).u32(0).opaque(b"abc")), wcc),
        (procedure::CREATE, at(&kind(0)), wcc),
        (procedure::MKDIR, at(&attributes), wcc),
        (procedure::SYMLINK, at(&target), wcc),
        (procedure::MKNOD, at(&kind(6)), wcc),
        (procedure::REMOVE, at(&|_| {}), wcc),
        (procedure::RMDIR, at(&|_| {}), wcc),
        (procedure::RENAME, at(&name), 2 * wcc),
        (procedure::LINK, bytes(|w| w.opaque(&hello).opaque(&scene.root).opaque(b"new")), post_op + wcc),
        (procedure::COMMIT, bytes(|w| w.opaque(&hello).u64(0).u32(0)), wcc),
    ];
    for (procedure, arguments, len) in cases {
        let (results, ok) = scene.results(procedure, &arguments);
        assert_eq!((Reader::new(&results).u32(), ok), (Ok(30), false), "{procedure}");
        assert_eq!(results.len(), STATUS_LEN + len, "{procedure}");
        for n in 0..arguments.len() {
            let cut = call(&scene.nfs, procedure, &arguments[..n]);
            assert!(matches!(cut, Outcome::GarbageArguments), "{procedure} cut at {n}");
        }
    }
    let missing = bytes(|w| w.opaque(b"no handle").u64(0).u32(0));
    assert_eq!(scene.results(procedure::COMMIT, &missing).0, bytes(|w| w.u32(30).u64(0)));
}

#[test]
fn replies_are_bounded_by_what_is_asked_and_by_the_limits() {
    let bound = |procedure, numbers: &[u32]| {
        let mut w = Writer::default();
        w.opaque(b"handle");
        for number in numbers {
            w.u32(*number);
        }
        reply_bound(procedure, &w.finish().concat())
    };
    // All of the 64 KiB that the data are a part of, on both sides of a boundary.
    assert_eq!(bound(procedure::READ, &[0, 0, 4096]), OVERHEAD + (64 << 10));
    assert_eq!(bound(procedure::READ, &[0, 65_535, 2]), OVERHEAD + (128 << 10));
    assert_eq!(bound(procedure::READ, &[0, 0, u32::MAX]), OVERHEAD + (1 << 20));
    let [least, most] = [1, ENTRIES_MAX].map(|entries| OVERHEAD + 768 * entries);
    assert_eq!(bound(procedure::READDIR, &[0, 0, 0, 0, 100]), OVERHEAD);
    assert_eq!(bound(procedure::READDIR, &[0, 0, 0, 0, 150]), least);
    assert_eq!(bound(procedure::READDIR, &[0, 0, 0, 0, u32::MAX]), most);
    let [least, most] = [1, ENTRIES_MAX].map(|entries| OVERHEAD + 1280 * entries);
    assert_eq!(bound(procedure::READDIRPLUS, &[0, 0, 0, 0, u32::MAX, 300]), least);
    assert_eq!(bound(procedure::READDIRPLUS, &[0, 0, 0, 0, 1, u32::MAX]), least);
    assert_eq!(bound(procedure::READDIRPLUS, &[0, 0, 0, 0, 0, u32::MAX]), most);
    assert_eq!(bound(procedure::READ, &[]), OVERHEAD);
    assert_eq!(bound(procedure::GETATTR, &[]), OVERHEAD);
    assert_eq!(reply_bound(u32::MAX, &[0xff; 9]), OVERHEAD);
}

#[test]
fn procedures_have_names_and_only_mutations_are_remembered() {
    assert_eq!(procedure::name(procedure::READ), Some("READ"));
    assert_eq!(procedure::name(procedure::COMMIT), Some("COMMIT"));
    assert_eq!(procedure::name(22), None);
    let mutations: Vec<u32> = (0..30).filter(|p| procedure::mutates(*p)).collect();
    assert_eq!(mutations, [2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 21]);
}
