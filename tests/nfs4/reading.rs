//! READ, READ_PLUS and SEEK: RFC 8881 section 18.22, RFC 7862 sections 15.10 and 15.11.

use super::code::*;
use super::op::{self, Claim, Stateid};
use super::reply::{Body, Segment};
use super::scene::{BAD_BLOCK, BIG, Scene};
use super::support::content;
use super::wire::Session;

/// Data and end of file by READ or READ_PLUS, or the error.
fn read(
    session: &mut Session,
    plus: bool,
    handle: &[u8],
    stateid: Stateid,
    offset: u64,
    count: u32,
) -> Result<(Vec<u8>, bool), Code> {
    let op = if plus { op::read_plus(stateid, offset, count) } else { op::read(stateid, offset, count) };
    let reply = session.run(&[op::putfh(handle), op]);
    match (reply.status, &reply.results.last().unwrap().body) {
        (OK, Body::Read { eof, data }) => Ok((data.clone(), *eof)),
        (OK, Body::Segments { eof, segments }) => {
            let (mut all, mut at) = (Vec::new(), offset);
            for segment in segments {
                // In order and without gaps: RFC 7862 section 15.10.3.
                match segment {
                    Segment::Data { offset, data } => {
                        assert_eq!(*offset, at);
                        all.extend_from_slice(data);
                    }
                    Segment::Hole { offset, length } => {
                        assert_eq!(*offset, at);
                        all.resize(all.len() + *length as usize, 0);
                    }
                }
                at = offset + all.len() as u64;
            }
            Ok((all, *eof))
        }
        (code, _) => Err(code),
    }
}

#[test]
fn data_is_read_with_every_stateid_that_allows_it() {
    let scene = Scene::new();
    let mut session = scene.session();
    let big = session.find("big");
    let good = content(1, BIG);
    let open = session.open_file(&big, b"o");
    let lock = op::lock_new(op::READ_LT, 0, 100, open, b"l", false);
    let lock = session.stateid(&[op::putfh(&big), lock]);
    for plus in [false, true] {
        for stateid in [Stateid::ANONYMOUS, Stateid::BYPASS, open, open.at(0), lock, lock.at(0)] {
            for (offset, count) in [
                (0, 0),
                (0, 1),
                (0, 4096),
                (1, 4096),
                (4095, 2),
                (8192, 100_000),
                (250_000, 100_000),
                (299_999, 1),
                (299_999, 2),
            ] {
                let (data, eof) = read(&mut session, plus, &big, stateid, offset, count).unwrap();
                let end = BIG.min(offset as usize + count as usize);
                assert!(data == good[offset as usize..end], "{count} at {offset}");
                // Of nothing, too, the end is told where it is: section 18.22.3.
                assert_eq!(eof, end == BIG, "{count} at {offset}");
            }
        }
        for (offset, count) in [
            (BIG as u64, 1),
            (BIG as u64, 0),
            (1 << 40, 4096),
            (u64::MAX, 1),
            (u64::MAX - 5, 100),
            (u64::MAX, u32::MAX),
        ] {
            let past = read(&mut session, plus, &big, open, offset, count);
            assert_eq!(past, Ok((Vec::new(), true)), "{count} at {offset}");
        }
        let empty = session.find("empty");
        assert_eq!(read(&mut session, plus, &empty, Stateid::ANONYMOUS, 0, 100), Ok((Vec::new(), true)));
        // More than an answer holds: some of it.
        let (data, _) = read(&mut session, plus, &big, open, 0, u32::MAX).unwrap();
        assert!(!data.is_empty() && good.starts_with(&data));
    }
}

#[test]
fn stateids_that_allow_no_reading() {
    let scene = Scene::new();
    let (mut session, mut other) = (scene.session(), scene.session());
    let big = session.find("big");
    let theirs = other.open_file(&big, b"o");
    let forged = Stateid { seqid: 1, other: *b"forged state" };
    for stateid in [
        forged,
        theirs,
        theirs.at(0),
        Stateid::INVALID,
        Stateid::CURRENT,
        Stateid { seqid: 7, other: [0; 12] },
        Stateid { seqid: 7, other: [0xff; 12] },
    ] {
        for plus in [false, true] {
            assert_eq!(read(&mut session, plus, &big, stateid, 0, 1), Err(BAD_STATEID), "{stateid:?}");
        }
        session.fails(&[op::putfh(&big), op::seek(stateid, 0, 0)], BAD_STATEID);
    }
}

#[test]
fn reading_without_an_open_respects_those_who_deny_it() {
    let scene = Scene::new();
    let (mut session, mut other) = (scene.session(), scene.session());
    let big = session.find("big");
    let denying = other.last(&[op::putfh(&big), op::open(b"o", op::SHARE_READ, 1, Claim::Fh)]);
    let denying = super::wire::opened(denying);
    for plus in [false, true] {
        // Section 9.1.2... and a READ that bypasses is a READ all the same.
        assert_eq!(read(&mut session, plus, &big, Stateid::ANONYMOUS, 0, 1), Err(LOCKED));
        assert!(read(&mut other, plus, &big, denying, 0, 1).is_ok());
    }
    other.last(&[op::putfh(&big), op::close(denying)]);
    assert!(read(&mut session, false, &big, Stateid::ANONYMOUS, 0, 1).is_ok());
}

#[test]
fn locks_are_advisory() {
    let scene = Scene::new();
    let (mut session, mut other) = (scene.session(), scene.session());
    let big = session.find("big");
    let open = other.open_file(&big, b"o");
    other.stateid(&[op::putfh(&big), op::lock_new(op::READ_LT, 0, u64::MAX, open, b"l", false)]);
    let mine = session.open_file(&big, b"o");
    assert!(read(&mut session, false, &big, mine, 0, 1).is_ok());
    assert!(read(&mut session, false, &big, Stateid::ANONYMOUS, 0, 1).is_ok());
}

#[test]
fn a_damaged_block_is_not_read_and_the_others_are() {
    let scene = Scene::new();
    let mut session = scene.session();
    let (bad, good) = (session.find("bad"), content(2, BIG));
    let stateid = session.open_file(&bad, b"o");
    let at = (BAD_BLOCK * 4096) as u64;
    for plus in [false, true] {
        for offset in [at, at + 1, at + 4095] {
            for count in [1, 4096, 100_000] {
                assert_eq!(
                    read(&mut session, plus, &bad, stateid, offset, count),
                    Err(IO),
                    "{count} at {offset}"
                );
            }
        }
        // A read that begins before it ends before it.
        for (offset, count) in [(0, 300_000), (at - 1, 2), (at - 5000, 5001)] {
            let (data, eof) = read(&mut session, plus, &bad, stateid, offset, count).unwrap();
            assert!(!eof && !data.is_empty());
            assert!(offset + data.len() as u64 <= at && good[offset as usize..].starts_with(&data));
        }
        for offset in [0, at - 4096, at + 4096] {
            let (data, _) = read(&mut session, plus, &bad, stateid, offset, 4096).unwrap();
            assert!(data == good[offset as usize..][..4096]);
        }
    }
}

#[test]
fn what_is_no_file_is_not_read() {
    let scene = Scene::new();
    let mut session = scene.session();
    for (path, codes) in [
        ("dir", &[ISDIR][..]),
        ("", &[ISDIR]),
        ("link", &[SYMLINK, INVAL, WRONG_TYPE]),
        ("unsigned", &[ACCESS]),
    ] {
        let handle = session.find(path);
        for plus in [false, true] {
            let error = read(&mut session, plus, &handle, Stateid::ANONYMOUS, 0, 10).unwrap_err();
            assert!(codes.contains(&error), "{path}: {error:?}");
        }
    }
    let unsigned = session.find("unsigned");
    for what in [0, 1] {
        // Neither its size nor its end is proven.
        session.fails(&[op::putfh(&unsigned), op::seek(Stateid::ANONYMOUS, 0, what)], ACCESS);
    }
    for path in ["dir", "link"] {
        let wrong = [Session::path(path), vec![op::seek(Stateid::ANONYMOUS, 0, 0)]].concat();
        let status = session.status(&wrong);
        assert!([WRONG_TYPE, INVAL, ISDIR, SYMLINK].contains(&status), "{path}: {status:?}");
    }
}

#[test]
fn a_file_is_sought_through_as_data_with_a_hole_behind() {
    let scene = Scene::new();
    let mut session = scene.session();
    let big = session.find("big");
    let stateid = session.open_file(&big, b"o");
    let size = BIG as u64;
    let mut seek = |stateid, offset, what| {
        let reply = session.run(&[op::putfh(&big), op::seek(stateid, offset, what)]);
        match reply.results.last().unwrap().body {
            Body::Sought { eof, offset } => Ok((eof, offset)),
            _ => Err(reply.status),
        }
    };
    for stateid in [stateid, Stateid::ANONYMOUS, Stateid::BYPASS] {
        for offset in [0, 1, 4096, size - 1] {
            assert_eq!(seek(stateid, offset, 0), Ok((false, offset)), "data at {offset}");
            let (_, hole) = seek(stateid, offset, 1).unwrap();
            assert_eq!(hole, size, "the hole behind {offset}");
        }
        for what in [0, 1] {
            // At the end: RFC 7862 section 15.11.3 says "beyond", lseek says ENXIO.
            match seek(stateid, size, what) {
                Ok((eof, _)) => assert!(eof),
                Err(code) => assert_eq!(code, NXIO),
            }
            for offset in [size + 1, u64::MAX] {
                assert_eq!(seek(stateid, offset, what), Err(NXIO), "{offset}");
            }
        }
    }
    let undefined = seek(stateid, 0, 2).unwrap_err();
    assert!([UNION_NOTSUPP, INVAL, BADXDR].contains(&undefined), "{undefined:?}");
}
