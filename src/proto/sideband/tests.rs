use super::*;
use crate::policy::Mode;
use crate::proto::fixture::{bytes, call, export, found, results};
use crate::wire::Writer;

/// A name, bytes, and what reading and writing them again gives.
type Sample = (&'static str, Vec<u8>, fn(&[u8]) -> Result<Vec<u8>, WireError>);

/// Every argument and result with every field in use, as RFC 4506 lays it out by hand.
fn samples() -> Vec<Sample> {
    fn again<T: Wire>(bytes: &[u8]) -> Result<Vec<u8>, WireError> {
        encode(&decode::<T>(bytes)?)
    }
    let fields = |w: &mut Writer| {
        w.u32(0).opaque(&[7; 256]).u64(u64::MAX).u32(2);
        w.u32(1).u64(0).opaque(&[1; 1024]);
        w.u32(0).u64(u64::MAX).opaque(&[2; 3]);
    };
    vec![
        ("GETXATTR args", bytes(|w| w.opaque(&[1; 64]).opaque(b"ima")), again::<GETXATTR1args>),
        ("LISTXATTRS args", bytes(|w| w.opaque(&[1; 33]).u64(1 << 40)), again::<LISTXATTRS1args>),
        ("GETPROOF args", bytes(|w| w.opaque(&[1; 2]).u64(1 << 40).u64(9)), again::<GETPROOF1args>),
        ("GETXATTR ok", bytes(|w| w.u32(0).opaque(b"value")), again::<GETXATTR1res>),
        ("GETXATTR status", bytes(|w| w.u32(10095)), again::<GETXATTR1res>),
        (
            "LISTXATTRS ok",
            bytes(|w| w.u32(0).u64(2).u32(2).opaque(b"ima").opaque(b"verity.digest").bool(true)),
            again::<LISTXATTRS1res>,
        ),
        ("LISTXATTRS status", bytes(|w| w.u32(70)), again::<LISTXATTRS1res>),
        (
            "GETPROOF ok",
            bytes(|w| {
                fields(w);
                w
            }),
            again::<GETPROOF1res>,
        ),
        ("GETPROOF status", bytes(|w| w.u32(13)), again::<GETPROOF1res>),
    ]
}

#[test]
fn what_is_read_is_written_as_it_was() {
    for (name, bytes, again) in samples() {
        assert_eq!(again(&bytes).as_deref(), Ok(&bytes[..]), "{name}");
    }
}

#[test]
fn what_is_written_takes_no_more_room_than_it_has_bytes() {
    let block = || tree_block { level: 0, index: 0, bytes: vec![1; 1024] };
    let blocks = std::iter::repeat_with(block).take(300).collect();
    let proof = GETPROOF1resok { descriptor: vec![7; 256], covered: 1, blocks };
    let bytes = encode(&GETPROOF1res::INTEGRITY_OK(proof)).unwrap();
    assert_eq!(bytes.capacity(), bytes.len());
}

#[test]
fn data_cut_at_any_length_or_followed_by_bytes_is_refused() {
    for (name, bytes, again) in samples() {
        for n in 0..bytes.len() {
            assert_eq!(again(&bytes[..n]), Err(WireError::Truncated), "{name} cut at {n}");
        }
        for more in [1, 4, 9] {
            let long = [&bytes[..], &vec![0; more]].concat();
            assert_eq!(again(&long), Err(WireError::Trailing(more)), "{name}");
        }
    }
}

#[test]
fn lengths_are_compared_with_their_limit_before_use() {
    for length in [65, 1 << 31, u32::MAX] {
        let claim = bytes(|w| w.u32(length).fixed(&[0; 200]));
        assert_eq!(decode::<GETXATTR1args>(&claim), Err(WireError::TooLong(64)));
        assert_eq!(decode::<LISTXATTRS1args>(&claim), Err(WireError::TooLong(64)));
        assert_eq!(decode::<GETPROOF1args>(&claim), Err(WireError::TooLong(64)));
    }
    let long = |head: &[u8], length: u32| [head, &length.to_be_bytes(), &[0; 300]].concat();
    for length in [1 << 20, 1 << 31, u32::MAX] {
        let name = long(&bytes(|w| w.opaque(b"handle")), length);
        assert_eq!(decode::<GETXATTR1args>(&name), Err(WireError::TooLong(255)));
        assert_eq!(decode::<GETXATTR1res>(&long(&[0; 4], length)), Err(WireError::TooLong(65536)));
        assert_eq!(decode::<LISTXATTRS1res>(&long(&[0; 12], length)), Err(WireError::TooLong(256)));
        assert_eq!(decode::<GETPROOF1res>(&long(&[0; 4], length)), Err(WireError::TooLong(256)));
        assert_eq!(decode::<GETPROOF1res>(&long(&[0; 16], length)), Err(WireError::TooLong(512)));
        let block = long(&bytes(|w| w.u32(0).u32(0).u64(0).u32(1).u32(0).u64(0)), length);
        assert_eq!(decode::<GETPROOF1res>(&block), Err(WireError::TooLong(65536)));
    }
    // The limits hold for what is written, too.
    let args = GETXATTR1args { object: vec![0; 65], name: Vec::new() };
    assert_eq!(encode(&args), Err(WireError::TooLong(64)));
}

#[test]
fn undefined_statuses_and_booleans_are_refused() {
    for value in [1_i32, 2, -1, 10094] {
        let claim = value.to_be_bytes();
        assert_eq!(decode::<GETXATTR1res>(&claim), Err(WireError::Undefined(value)));
        assert_eq!(decode::<LISTXATTRS1res>(&claim), Err(WireError::Undefined(value)));
        assert_eq!(decode::<GETPROOF1res>(&claim), Err(WireError::Undefined(value)));
        assert_eq!(decode::<integrity_stat>(&claim), Err(WireError::Undefined(value)));
    }
    let page = bytes(|w| w.u32(0).u64(0).u32(0).u32(2));
    assert!(decode::<LISTXATTRS1res>(&page).is_err());
}

#[test]
fn a_refusal_reads_as_the_case_of_its_status() {
    for (status, number) in [(integrity_stat::INTEGRITY_NOXATTR, 10095), (integrity_stat::INTEGRITY_IO, 5)] {
        let refusal = encode(&status).unwrap();
        assert_eq!(refusal, bytes(|w| w.u32(number)));
        assert_eq!(decode::<GETXATTR1res>(&refusal).unwrap().into_result(), Err(status));
        assert_eq!(decode::<LISTXATTRS1res>(&refusal).unwrap().into_result(), Err(status));
        assert_eq!(decode::<GETPROOF1res>(&refusal).unwrap().into_result(), Err(status));
    }
}

#[test]
fn names_come_in_pages_that_meet() {
    let names: Vec<Vec<u8>> = (0..600).map(|n| format!("name{n}").into_bytes()).collect();
    let (mut all, mut cookie) = (Vec::new(), 0);
    for turn in 0.. {
        let part = page(names.clone(), cookie).unwrap();
        all.extend(part.names.into_iter().map(|name| name.name));
        cookie = part.cookie;
        assert_eq!(part.eof, turn == 2, "{turn}");
        if part.eof {
            break;
        }
    }
    assert_eq!(all, names);
    assert_eq!(page(names.clone(), 600).unwrap(), LISTXATTRS1resok { cookie: 600, names: vec![], eof: true });
    assert_eq!(page(names.clone(), 601), Err(integrity_stat::INTEGRITY_INVAL));
    assert_eq!(page(names, u64::MAX), Err(integrity_stat::INTEGRITY_INVAL));
}

#[test]
fn null_unknown_procedures_and_garbage_are_told_apart() {
    let program = Arc::new(Sideband::new(export(Mode::Enforce)));
    assert_eq!(results(&program, 0, b"anything"), (Vec::new(), true));
    assert!(matches!(call(&program, 4, &[]), Outcome::ProcedureUnavailable));
    assert_eq!(program.procedure_name(4), "UNKNOWN");
    assert_eq!(program.procedure_name(3), "GETPROOF");
    for procedure in 1..4 {
        assert!(matches!(call(&program, procedure, &[0xff; 9]), Outcome::GarbageArguments), "{procedure}");
        assert!(matches!(call(&program, procedure, &[]), Outcome::GarbageArguments), "{procedure}");
    }
}

#[test]
fn replies_keep_to_what_was_announced() {
    let export = export(Mode::Enforce);
    let root = export.root();
    let program = Arc::new(Sideband::new(export.clone()));
    let hello = found(&export, b"/hello");
    let listed = results(&program, LISTXATTRS, &bytes(|w| w.opaque(hello.as_bytes()).u64(0)));
    let expected = bytes(|w| w.u32(0).u64(1).u32(1).opaque(b"verity.status").bool(true));
    assert_eq!(listed, (expected, true));
    let nothing = bytes(|w| w.u32(0).u64(0).u32(0).bool(true));
    assert_eq!(results(&program, LISTXATTRS, &bytes(|w| w.opaque(root.as_bytes()).u64(0))), (nothing, true));
    let value =
        |object: &[u8], name: &[u8]| results(&program, GETXATTR, &bytes(|w| w.opaque(object).opaque(name)));
    let (status, ok) = value(hello.as_bytes(), b"verity.status");
    assert!(ok && status[8..].starts_with(b"unsigned"), "{status:?}");
    let proof = |object: &[u8]| results(&program, GETPROOF, &bytes(|w| w.opaque(object).u64(0).u64(9)));
    for (answer, status) in [
        (value(hello.as_bytes(), b"verity.digest"), 10095),
        (value(hello.as_bytes(), b""), 22),
        (value(hello.as_bytes(), b"a\0"), 22),
        (value(hello.as_bytes(), &[b'n'; 251]), 63),
        (value(root.as_bytes(), b"verity.status"), 10095),
        (value(b"no handle", b"verity.status"), 10001),
        (proof(hello.as_bytes()), 13),
        (proof(root.as_bytes()), 22),
        (proof(b""), 10001),
    ] {
        assert_eq!(answer, (bytes(|w| w.u32(status)), false));
    }
    assert!(program.reply_bound(NULL, &[]) < 1024);
    assert!(!(0..5).any(|procedure| program.remembered(procedure)), "all can be done again");
}
