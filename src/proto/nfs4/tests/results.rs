//! Results of operations, byte for byte, and their errors.

use super::*;

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[test]
fn exchange_id_tells_one_server_without_pnfs() {
    let program = program(Mode::Warn, None);
    let answer = call(&program, 2, &[exchange_id(b"client")]);
    let fsid = program.export.fsid();
    // EXCHANGE_ID, OK; the client; sequence, flags, SP4_NONE, minor id, major id, scope, no implementation.
    let expected = format!(
        "0000002a00000000{}00000001000100000000000000000000000000000000000767617465776179000000000\
         8{fsid:016x}00000000",
        hex(&answer.results[8..16])
    );
    assert_eq!(hex(&answer.results), expected);
    for (flags, how, status) in [(2 << 4, 0, 22), (4, 0, 0), (0, 1, 22), (0, 2, 10074 + 5)] {
        let request = operation(op::EXCHANGE_ID, |w| {
            w.fixed(b"verifier").opaque(b"other").u32(flags).u32(how);
            match how {
                0 => {}
                1 => drop(w.u64(0)),
                _ => drop(w.u64(0).u64(0).u64(0)),
            }
            w.u32(0)
        });
        assert_eq!(call(&program, 2, &[request]).status, status, "{flags} {how}");
    }
    let fence = operation(op::EXCHANGE_ID, |w| w.fixed(b"verifier").opaque(b"x").u32(4).u32(0).u32(0));
    assert_eq!(call(&program, 1, &[fence]).status, 22);
}

#[test]
fn attributes_are_laid_out_in_their_order() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 1);
    // type, fh_expire_type, size, fsid, lease_time; maxread (30), mode (33), numlinks (35), owner (36).
    let results = session.ok(&[root(), lookup(b"hello"), getattr(&[0x4000_0516, 0x1a])]);
    let handle = session.handle(b"hello");
    let peer = ([127, 0, 0, 1], 900).into();
    let client = crate::event::Client { address: peer, uid: None, gid: None };
    let caller = crate::export::Caller { client, gids: Vec::new() };
    let attr = fixture::block_on(program.export.attributes(&handle, &caller)).unwrap();
    let owner = attr.uid.to_string();
    let values = bytes(|w| {
        w.u32(1).u32(0).u64(1_500_000).u64(program.export.fsid()).u64(0).u32(90).u64(1 << 20);
        w.u32(attr.mode).u32(attr.nlink).opaque(owner.as_bytes())
    });
    let expected = bytes(|w| w.u32(2).u32(0x4000_0516).u32(0x1a).opaque(&values));
    assert_eq!(hex(&results[16 + 8..]), hex(&expected));
}

#[test]
fn unknown_attributes_are_left_out_and_write_only_ones_refused() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 1);
    // acl (12), and far beyond: nothing comes back.
    let none = session.ok(&[root(), getattr(&[1 << 12, 0, 0, 0, 0, 1])]);
    assert_eq!(hex(&none[8..]), "00000009000000000000000000000000");
    assert_eq!(session.status(&[root(), getattr(&[0, 1 << 16])]), 22);
    // change_attr_type (79) and xattr_support (82) are of minor version 2.
    let both = getattr(&[0, 0, (1 << 15) | (1 << 18)]);
    assert_eq!(hex(&session.ok(&[root(), both.clone()])[16..]), "0000000000000000");
    let mut session = Session::new(&program, 2);
    let expected = "0000000300000000000000000004800000000008".to_owned() + "0000000400000001";
    assert_eq!(hex(&session.ok(&[root(), both])[16..]), expected);
}

#[test]
fn verify_compares_as_encoded() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 1);
    let size = |number, size: u64| operation(number, |w| w.u32(1).u32(0x10).u32(8).u64(size));
    let at = [root(), lookup(b"hello")];
    let mut status = |last: Vec<u8>| session.call(&[&at[..], &[last]].concat()).status;
    assert_eq!(status(size(op::VERIFY, 1_500_000)), 0);
    assert_eq!(status(size(op::VERIFY, 1)), 10027);
    assert_eq!(status(size(op::NVERIFY, 1_500_000)), 10009);
    assert_eq!(status(size(op::NVERIFY, 1)), 0);
    assert_eq!(status(operation(op::VERIFY, |w| w.u32(1).u32(0x800).u32(4).u32(0))), 22);
    assert_eq!(status(operation(op::VERIFY, |w| w.u32(1).u32(0x1000).u32(4).u32(0))), 10032);
}

#[test]
fn names_and_handles_fail_as_the_rfc_has_it() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 1);
    for (operations, status) in [
        (vec![plain(op::GETFH)], 10020),
        (vec![lookup(b"hello")], 10020),
        (vec![root(), plain(op::RESTOREFH)], 10020),
        (vec![plain(op::SAVEFH)], 10020),
        (vec![root(), lookup(b"")], 22),
        (vec![root(), lookup(b"..")], 10041),
        (vec![root(), lookup(b"a/b")], 10040),
        (vec![root(), lookup(&[b'n'; 256])], 63),
        (vec![root(), lookup(b"none")], 2),
        (vec![root(), lookup(b"hello"), lookup(b"x")], 20),
        (vec![root(), lookup(b"link"), lookup(b"x")], 10029),
        (vec![root(), plain(op::LOOKUPP)], 2),
        (vec![root(), lookup(b"hello"), plain(op::LOOKUPP)], 20),
        (vec![operation(op::PUTFH, |w| w.opaque(b"nonsense"))], 10001),
        (vec![operation(op::PUTFH, |w| w.opaque(b""))], 10001),
        (vec![root(), operation(op::SECINFO, |w| w.opaque(b"hello")), plain(op::GETFH)], 10020),
        (vec![root(), operation(op::SECINFO_NO_NAME, |w| w.u32(1))], 2),
        (vec![root(), plain(op::READLINK)], 10083),
        (vec![root(), read(false, 0, 1)], 21),
        (vec![root(), lookup(b"link"), read(false, 0, 1)], 10029),
        (vec![root(), lookup(b"hello"), read(true, 0, 1)], 10025),
        (vec![root(), operation(op::ACCESS, |w| w.u32(0x40))], 22),
        (vec![root(), open(b"link")], 10029),
        (vec![root(), open(b"many")], 21),
        (vec![root(), open(b"none")], 2),
    ] {
        assert_eq!(session.status(&operations), status, "{operations:?}");
    }
    let parent = session.ok(&[root(), lookup(b"many"), plain(op::LOOKUPP), plain(op::GETFH)]);
    let itself = session.ok(&[root(), plain(op::GETFH)]);
    assert!(parent.ends_with(&itself[8..]));
    let flavours = session.ok(&[root(), operation(op::SECINFO, |w| w.opaque(b"hello"))]);
    assert_eq!(hex(&flavours[8..]), "0000002100000000000000020000000100000000");
}

#[test]
fn what_would_change_something_is_refused() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let fattr = |w: &mut Writer| {
        w.u32(1).u32(0x10).opaque(&[0; 8]);
    };
    let create = |mode: u32, name: &[u8], sized: bool| {
        operation(op::OPEN, |w| {
            w.u32(0).u32(1).u32(0).u64(0).opaque(b"o").u32(1).u32(mode);
            match (mode, sized) {
                (2, _) => drop(w.u64(0)),
                (_, true) => fattr(w),
                (_, false) => drop(w.u32(0).u32(0)),
            }
            w.u32(0).opaque(name)
        })
    };
    let setattr = |word: u32| operation(op::SETATTR, |w| w.u32(0).fixed(&[0; 12]).u32(1).u32(word).u32(0));
    let hello = [root(), plain(op::SAVEFH), lookup(b"hello")];
    for (last, status) in [
        (create(0, b"none", false), 20),
        (setattr(0x10), 30),
        (setattr(0x1000), 10032),
        (setattr(2), 22),
        (operation(op::WRITE, |w| w.u32(0).fixed(&[0; 12]).u64(0).u32(0).opaque(b"x")), 30),
        (operation(op::COMMIT, |w| w.u64(0).u32(0)), 30),
        (operation(op::REMOVE, |w| w.opaque(b"x")), 20),
        (operation(op::DELEGRETURN, |w| w.u32(0).fixed(&[0; 12])), 10025),
        (operation(op::SETXATTR, |w| w.u32(0).opaque(b"foo").opaque(b"x")), 30),
        (operation(op::SETXATTR, |w| w.u32(0).opaque(b"verity.x").opaque(b"x")), 13),
        (operation(op::REMOVEXATTR, |w| w.opaque(b"ima")), 13),
        (operation(op::SETXATTR, |w| w.u32(0).opaque(b"").opaque(b"x")), 22),
    ] {
        assert_eq!(session.status(&[&hello[..], std::slice::from_ref(&last)].concat()), status, "{last:?}");
    }
    for (last, status) in [
        (create(0, b"none", false), 30),
        (create(0, b"hello", true), 30),
        (create(1, b"hello", false), 17),
        (create(1, b"none", false), 30),
        (create(2, b"hello", false), 17),
        (create(2, b"none", false), 30),
        (
            operation(op::OPEN, |w| {
                w.u32(0).u32(2).u32(0).u64(0).opaque(b"o").u32(0).u32(0).opaque(b"hello")
            }),
            30,
        ),
        (operation(op::CREATE, |w| w.u32(2).opaque(b"d").u32(0).u32(0)), 30),
        (operation(op::CREATE, |w| w.u32(1).opaque(b"d").u32(0).u32(0)), 10007),
        (operation(op::CREATE, |w| w.u32(2).opaque(b"").u32(0).u32(0)), 22),
        (operation(op::REMOVE, |w| w.opaque(b"hello")), 30),
        (operation(op::RENAME, |w| w.opaque(b"a").opaque(b"b")), 30),
        (operation(op::LINK, |w| w.opaque(b"a")), 30),
        (operation(op::RENAME, |w| w.opaque(b".").opaque(b"b")), 10041),
        (operation(op::WRITE, |w| w.u32(0).fixed(&[0; 12]).u64(0).u32(0).opaque(b"x")), 21),
    ] {
        let answer = session.call(&[root(), plain(op::SAVEFH), last.clone()]);
        assert_eq!(answer.status, status, "{last:?}");
    }
    // What is there may be opened though creating was asked for.
    assert_eq!(session.call(&[root(), create(0, b"hello", false)]).status, 0);
    // SETATTR says that nothing was set.
    let answer = session.call(&[root(), setattr(0x10)]);
    assert_eq!(hex(&answer.results[8..]), "000000220000001e00000000");
}

#[test]
fn data_is_read_under_the_current_stateid_and_linked() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let results = session.ok(&[root(), open(b"hello"), read(true, 1_499_998, 10)]);
    let content = fixture::content();
    let tail =
        [&[0, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &content[1_499_998..], &[0, 0]].concat();
    assert!(results.ends_with(&tail), "{}", hex(&results));
    let plus = |offset: u64| operation(op::READ_PLUS, |w| w.u32(0).fixed(&[0; 12]).u64(offset).u32(4));
    let results = session.ok(&[root(), lookup(b"hello"), plus(1)]);
    let data = "0000004400000000000000000000000100000000000000000000000100000004";
    assert_eq!(hex(&results[16..]), data.to_owned() + &hex(&content[1..5]));
    let results = session.ok(&[root(), lookup(b"hello"), plus(1_500_000)]);
    assert_eq!(hex(&results[16..]), "00000044000000000000000100000000");
    let seek = |offset: u64, what: u32| {
        let seek = operation(op::SEEK, |w| w.u32(0).fixed(&[0; 12]).u64(offset).u32(what));
        [root(), lookup(b"hello"), seek]
    };
    assert_eq!(hex(&session.ok(&seek(5, 0))[24..]), "000000000000000000000005");
    assert_eq!(hex(&session.ok(&seek(5, 1))[24..]), "00000001000000000016e360");
    assert_eq!(session.status(&seek(1_500_000, 0)), 6);
    assert_eq!(session.status(&seek(0, 2)), 10090);
}

#[test]
fn an_open_is_answered_without_delegation_and_closed() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let handle = session.handle(b"hello");
    let put = operation(op::PUTFH, |w| w.opaque(&handle));
    let by_handle =
        |access: u32| operation(op::OPEN, |w| w.u32(0).u32(access).u32(0).u64(0).opaque(b"o").u32(0).u32(4));
    for (access, delegation) in [
        (0x001, "00000000"),
        (0x401, "0000000300000000"),
        (0x501, "0000000300000007"),
        (0x101, "0000000300000003"),
    ] {
        let results = session.ok(&[put.clone(), by_handle(access)]);
        // atomic, before, after, POSIX locks, no attributes.
        let expected = format!("00000001000000000000000000000000000000000000000400000000{delegation}");
        assert_eq!(hex(&results[8 + 24..]), expected);
    }
    let close = operation(op::CLOSE, |w| w.u32(0).u32(1).fixed(&[0; 12]));
    assert_eq!(session.call(&[put.clone(), by_handle(1), close.clone()]).status, 0);
    assert_eq!(session.status(&[put.clone(), close.clone()]), 10025);
    // LOOKUP, PUTFH: the current stateid is gone, and SAVEFH and RESTOREFH bring it back.
    assert_eq!(session.status(&[put.clone(), by_handle(1), put.clone(), close.clone()]), 10025);
    let kept = [put.clone(), by_handle(1), plain(op::SAVEFH), root(), plain(op::RESTOREFH), close];
    assert_eq!(session.call(&kept).status, 0);
}

#[test]
fn a_lock_in_the_way_is_told() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let lock = |kind: u32, owner: &[u8]| {
        operation(op::LOCK, |w| {
            w.u32(kind).bool(false).u64(5).u64(10).bool(true).u32(0).u32(1).fixed(&[0; 12]).u32(0);
            w.u64(0).opaque(owner)
        })
    };
    assert_eq!(session.call(&[root(), open(b"hello"), lock(1, b"me")]).status, 0);
    assert_eq!(session.status(&[root(), open(b"hello"), lock(2, b"you")]), 10038, "open to read alone");
    let test = |owner: &[u8]| operation(op::LOCKT, |w| w.u32(2).u64(0).u64(u64::MAX).u64(0).opaque(owner));
    let answer = session.call(&[root(), lookup(b"hello"), test(b"you")]);
    let denied = hex(&answer.results[16..]);
    assert!(denied.starts_with("0000000d0000271a0000000000000005000000000000000a00000001"), "{denied}");
    assert!(denied.ends_with("000000026d650000"), "{denied}");
    assert_eq!(session.call(&[root(), lookup(b"hello"), test(b"me")]).status, 0);
    assert_eq!(session.status(&[root(), test(b"me")]), 21);
}

#[test]
fn directories_are_listed_whole_whatever_fits_in_a_page() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let mut expected: Vec<Vec<u8>> = fixture::many().collect();
    expected.sort();
    // Nothing; fileid alone; type, size, rdattr_error, filehandle, fileid, mode, owner.
    for words in [[0, 0], [1 << 20, 0], [0x0018_0812, 0x12]] {
        for count in [900, 1000, 4096, 32_768, 1 << 20] {
            let (mut cookie, mut names) = (0, Vec::new());
            loop {
                let results = session.ok(&[root(), lookup(b"many"), readdir(cookie, 0, count, words)]);
                let page = &results[16 + 8..];
                assert!(page.len() <= count as usize, "{} of {count}", page.len());
                let mut r = Reader::new(page);
                assert_eq!(r.u64().unwrap(), 0);
                let before = names.len();
                while r.bool().unwrap() {
                    cookie = r.u64().unwrap();
                    assert!(cookie > 2);
                    names.push(r.opaque(255).unwrap().to_vec());
                    for _ in 0..r.count(4).unwrap() {
                        r.u32().unwrap();
                    }
                    r.opaque(1024).unwrap();
                }
                let end = r.bool().unwrap();
                r.finish().unwrap();
                if end {
                    break;
                }
                assert!(names.len() > before);
            }
            names.sort();
            assert_eq!(names, expected, "{words:?} {count}");
        }
    }
}

#[test]
fn listings_refuse_what_leads_nowhere() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    for (last, status) in [
        (readdir(1, 0, 4096, [0, 0]), 10003),
        (readdir(2, 0, 4096, [0, 0]), 10003),
        (readdir(5, 1, 4096, [0, 0]), 10027),
        (readdir(0, 0, 15, [0, 0]), 10005),
        (readdir(0, 0, 16, [0, 0]), 10005),
        (readdir(0, 0, 4096, [0, 1 << 16]), 22),
    ] {
        assert_eq!(session.status(&[root(), lookup(b"many"), last.clone()]), status, "{last:?}");
    }
    assert_eq!(session.status(&[root(), lookup(b"hello"), readdir(0, 0, 4096, [0, 0])]), 20);
    assert_eq!(session.status(&[root(), lookup(b"link"), readdir(0, 0, 4096, [0, 0])]), 10029);
}

#[test]
fn who_may_list_and_not_look_up_is_told_so_or_gets_what_the_directory_tells() {
    let store = fixture::store();
    store.set_attr("many", 0o444, 0, 0).unwrap();
    let program = program_of(fixture::export_of(store, Mode::Warn), None);
    let mut session = Session::new(&program, 2);
    let mut list = |words| session.call(&[root(), lookup(b"many"), readdir(0, 0, 4096, words)]);
    assert_eq!(list([1 << 20, 0]).status, 0, "numbers alone need no look");
    assert_eq!(list([0x10, 0]).last(), (op::READDIR, 13));
    // Size, rdattr_error, fileid; mounted_on_fileid: all but the size.
    let listed = list([0x0010_0810, 1 << 23]);
    assert_eq!(listed.status, 0);
    let mut r = Reader::new(&listed.results[16 + 8 + 8..]);
    assert!(r.bool().unwrap());
    r.u64().unwrap();
    r.opaque(255).unwrap();
    assert_eq!((r.u32().unwrap(), r.u32().unwrap(), r.u32().unwrap()), (2, 0x0010_0800, 1 << 23));
    let mut r = Reader::new(r.opaque(20).unwrap());
    assert_eq!(r.u32().unwrap(), 5);
    let fileid = r.u64().unwrap();
    assert!(fileid != 0 && r.u64().unwrap() == fileid);
}

#[test]
fn attribute_names_are_listed_by_cookie() {
    let program = program(Mode::Enforce, None);
    let mut session = Session::new(&program, 2);
    let list = |cookie: u64, count: u32| {
        let list = operation(op::LISTXATTRS, |w| w.u64(cookie).u32(count));
        [root(), lookup(b"hello"), list]
    };
    let all = session.ok(&list(0, 4096));
    let mut r = Reader::new(&all[24..]);
    let (end, count) = (r.u64().unwrap(), r.u32().unwrap());
    assert!(count > 0 && end == u64::from(count));
    let names: Vec<Vec<u8>> = (0..count).map(|_| r.opaque(255).unwrap().to_vec()).collect();
    assert!(names.contains(&b"verity.status".to_vec()), "{names:?}");
    assert!(r.bool().unwrap());
    // One at a time.
    for (at, name) in (0..).zip(&names) {
        let room = 16 + 4 + u32::try_from(name.len().next_multiple_of(4)).unwrap();
        assert_eq!(session.status(&list(at, room - 1)), 10005);
        let one = session.ok(&list(at, room));
        let expected = bytes(|w| w.u64(at + 1).u32(1).opaque(name).bool(at + 1 == end));
        assert_eq!(one[24..], expected);
    }
    assert_eq!(session.ok(&list(end, 16))[24..], bytes(|w| w.u64(end).u32(0).bool(true)));
    assert_eq!(session.status(&list(end + 1, 4096)), 10003);
    let get = |name: &[u8]| [root(), lookup(b"hello"), operation(op::GETXATTR, |w| w.opaque(name))];
    assert_eq!(session.ok(&get(b"verity.status"))[28..36], *b"unsigned");
    assert_eq!(session.status(&get(b"nothing")), 10095);
    assert_eq!(session.status(&get(b"")), 22);
    assert_eq!(session.status(&get(&[b'n'; 251])), 63);
}

#[test]
fn only_who_knows_the_measurement_attribute_hears_of_integrity() {
    let program = program(Mode::Enforce, Some(IMA));
    let read = [root(), lookup(b"hello"), read(false, 0, 1)];
    let mut session = Session::new(&program, 2);
    assert_eq!(session.status(&read), 13);
    assert_eq!(session.status(&[root(), open(b"hello")]), 13);
    let supported = session.ok(&[root(), getattr(&[1])]);
    let mut r = Reader::new(&supported[16 + 12..]);
    let words: Vec<u32> = {
        let n = r.count(9).unwrap();
        (0..n).map(|_| r.u32().unwrap()).collect()
    };
    assert_eq!(words[2] & (1 << 23), 1 << 23);
    // Every client asks that, whether it knows the attribute or not.
    assert_eq!(session.status(&read), 13);
    assert_eq!(session.call(&[root(), lookup(b"hello"), getattr(&[0, 0, 1 << 23])]).status, 0);
    assert_eq!(session.status(&read), 10200);
    assert_eq!(session.status(&[root(), open(b"hello")]), 10200);
    assert_eq!(session.status(&[root(), lookup(b"none")]), 2, "what is no failure of verification");
    let mut other = Session::with(&program, 2, b"other", 1 << 20, 4096, 16);
    assert_eq!(other.status(&read), 13);

    let ima = getattr(&[0, 0, 1 << 23]);
    let none = other.ok(&[root(), lookup(b"hello"), ima.clone()]);
    assert_eq!(hex(&none[24..]), "000000030000000000000000008000000000000400000000");
    assert_eq!(other.status(&[root(), ima]), 10083);
    let verify = operation(op::VERIFY, |w| w.u32(3).u64(0).u32(1 << 23).u32(4).u32(0));
    let mut third = Session::with(&program, 2, b"third", 1 << 20, 4096, 16);
    assert_eq!(third.status(&read), 13);
    assert_eq!(third.call(&[root(), lookup(b"hello"), verify]).status, 0);
    assert_eq!(third.status(&read), 10200);
    let set = operation(op::SETATTR, |w| w.u32(0).fixed(&[0; 12]).u32(3).u64(0).u32(1 << 23).u32(4).u32(0));
    assert_eq!(other.status(&[root(), lookup(b"hello"), set.clone()]), 22);
    assert_eq!(other.status(&[root(), set]), 10083);
}

#[test]
fn who_may_look_may_read_attributes_of_what_is_refused() {
    let program = program(Mode::Enforce, None);
    let access = |bits: u32| [root(), lookup(b"hello"), operation(op::ACCESS, |w| w.u32(bits))];
    let mut session = Session::new(&program, 1);
    assert_eq!(hex(&session.ok(&access(0x3f))[24..]), "0000002d00000000");
    let mut session = Session::new(&program, 2);
    assert_eq!(hex(&session.ok(&access(0x1ff))[24..]), "000001ed00000141");
}

#[test]
fn refused_operations_say_why() {
    let program = program(Mode::Warn, None);
    let mut session = Session::new(&program, 2);
    let samples = args::samples();
    let first = |number: u32| {
        let (_, arguments) = samples.iter().find(|(sample, _)| *sample == number).unwrap();
        [&number.to_be_bytes()[..], arguments].concat()
    };
    for number in [
        op::DELEGPURGE,
        op::OPENATTR,
        op::OPEN_CONFIRM,
        op::RENEW,
        op::SETCLIENTID,
        op::SETCLIENTID_CONFIRM,
        op::RELEASE_LOCKOWNER,
        op::GET_DIR_DELEGATION,
        op::GETDEVICEINFO,
        op::GETDEVICELIST,
        op::LAYOUTCOMMIT,
        op::LAYOUTGET,
        op::LAYOUTRETURN,
        op::SET_SSV,
        op::WANT_DELEGATION,
        op::COPY_NOTIFY,
        op::IO_ADVISE,
        op::LAYOUTERROR,
        op::LAYOUTSTATS,
        op::OFFLOAD_CANCEL,
        op::OFFLOAD_STATUS,
        op::WRITE_SAME,
    ] {
        assert_eq!(session.call(&[root(), first(number)]).last(), (number, 10004));
    }
    assert_eq!(session.call(&[first(op::BACKCHANNEL_CTL)]).status, 0);
}
