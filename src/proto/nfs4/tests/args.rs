//! Every operation's arguments, laid out by hand from the XDR of the RFCs.

use crate::proto::fixture::bytes;
use crate::proto::nfs4::args::{Claim, Create, LockOwner, Operation, Protection, stateids};
use crate::proto::nfs4::bitmap::Bitmap;
use crate::proto::nfs4::state::{LockKind, LockRange, Stateid};
use crate::proto::nfs4::{compound, op};
use crate::wire::{Reader, Writer};

const STATEID: Stateid = Stateid { seqid: 7, other: [9; 12] };

fn stateid(w: &mut Writer) -> &mut Writer {
    w.u32(7).fixed(&[9; 12])
}

/// `open_owner4`.
fn owner(w: &mut Writer) -> &mut Writer {
    w.u64(0xc1).opaque(b"owner")
}

/// `fattr4` of a size of 5.
fn fattr(w: &mut Writer) -> &mut Writer {
    w.u32(1).u32(0x10).opaque(&[0, 0, 0, 0, 0, 0, 0, 5])
}

fn channel(w: &mut Writer) -> &mut Writer {
    w.u32(0).u32(1).u32(2).u32(3).u32(4).u32(5).u32(1).u32(6)
}

/// `callback_sec_parms4<>`, one of each flavour.
fn callback(w: &mut Writer) -> &mut Writer {
    w.u32(3).u32(0);
    w.u32(1).u32(1).opaque(b"host").u32(0).u32(0).u32(2).u32(3).u32(4);
    w.u32(6).u32(1).opaque(b"server").opaque(b"client")
}

/// Arguments of each operation, most of them in several forms.
pub(super) fn samples() -> Vec<(u32, Vec<u8>)> {
    let mut all: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut add = |number, write: &dyn Fn(&mut Writer) -> &mut Writer| all.push((number, bytes(write)));
    let nothing: &dyn Fn(&mut Writer) -> &mut Writer = &|w| w;
    add(op::ACCESS, &|w| w.u32(0x3f));
    add(op::CLOSE, &|w| stateid(w.u32(0)));
    add(op::COMMIT, &|w| w.u64(1).u32(2));
    add(op::CREATE, &|w| fattr(w.u32(2).opaque(b"dir")));
    add(op::CREATE, &|w| fattr(w.u32(5).opaque(b"target").opaque(b"link")));
    add(op::CREATE, &|w| fattr(w.u32(3).u32(8).u32(1).opaque(b"device")));
    add(op::DELEGPURGE, &|w| w.u64(1));
    add(op::DELEGRETURN, &|w| stateid(w));
    add(op::GETATTR, &|w| w.u32(2).u32(0x10).u32(2));
    for number in
        [op::GETFH, op::LOOKUPP, op::PUTPUBFH, op::PUTROOTFH, op::READLINK, op::RESTOREFH, op::SAVEFH]
    {
        add(number, nothing);
    }
    for number in [op::LINK, op::LOOKUP, op::REMOVE, op::SECINFO, op::GETXATTR, op::REMOVEXATTR] {
        add(number, &|w| w.opaque(b"names"));
    }
    add(op::LOCK, &|w| owner(stateid(w.u32(1).bool(true).u64(2).u64(3).bool(true).u32(4)).u32(5)));
    add(op::LOCK, &|w| stateid(w.u32(4).bool(false).u64(2).u64(3).bool(false)).u32(5));
    add(op::LOCKT, &|w| owner(w.u32(2).u64(2).u64(3)));
    add(op::LOCKU, &|w| stateid(w.u32(1).u32(0)).u64(2).u64(3));
    add(op::VERIFY, &|w| fattr(w));
    add(op::NVERIFY, &|w| fattr(w));
    let open = |w: &mut Writer| {
        owner(w.u32(0).u32(1).u32(0));
    };
    add(op::OPEN, &|w| {
        open(w);
        w.u32(0).u32(0).opaque(b"name")
    });
    for mode in [0, 1] {
        add(op::OPEN, &move |w| {
            open(w);
            fattr(w.u32(1).u32(mode)).u32(0).opaque(b"name")
        });
    }
    add(op::OPEN, &|w| {
        open(w);
        w.u32(1).u32(2).fixed(b"verifier").u32(0).opaque(b"name")
    });
    add(op::OPEN, &|w| {
        open(w);
        fattr(w.u32(1).u32(3).fixed(b"verifier")).u32(0).opaque(b"name")
    });
    let claims: [&dyn Fn(&mut Writer) -> &mut Writer; 6] = [
        &|w| w.u32(1).u32(0),
        &|w| stateid(w.u32(2)).opaque(b"name"),
        &|w| w.u32(3).opaque(b"name"),
        &|w| w.u32(4),
        &|w| stateid(w.u32(5)),
        &|w| w.u32(6),
    ];
    for claim in claims {
        add(op::OPEN, &move |w| {
            open(w);
            claim(w.u32(0))
        });
    }
    add(op::OPENATTR, &|w| w.bool(true));
    add(op::OPEN_CONFIRM, &|w| stateid(w).u32(1));
    add(op::OPEN_DOWNGRADE, &|w| stateid(w).u32(0).u32(1).u32(0));
    add(op::PUTFH, &|w| w.opaque(b"handle"));
    add(op::READ, &|w| stateid(w).u64(2).u32(3));
    add(op::READDIR, &|w| w.u64(3).u64(0).u32(100).u32(200).u32(1).u32(2));
    add(op::RENAME, &|w| w.opaque(b"from").opaque(b"to"));
    add(op::RENEW, &|w| w.u64(1));
    add(op::SETATTR, &|w| fattr(stateid(w)));
    add(op::SETCLIENTID, &|w| {
        w.fixed(b"verifier").opaque(b"id").u32(1).opaque(b"tcp").opaque(b"1.2.3.4.5.6").u32(2)
    });
    add(op::SETCLIENTID_CONFIRM, &|w| w.u64(1).fixed(b"verifier"));
    add(op::WRITE, &|w| stateid(w).u64(1).u32(2).opaque(b"data!"));
    add(op::RELEASE_LOCKOWNER, &|w| owner(w));
    add(op::BACKCHANNEL_CTL, &|w| callback(w.u32(1)));
    add(op::BIND_CONN_TO_SESSION, &|w| w.fixed(&[5; 16]).u32(3).bool(false));
    let exchange = |w: &mut Writer| {
        w.fixed(b"verifier").opaque(b"owner").u32(0x101);
    };
    add(op::EXCHANGE_ID, &|w| {
        exchange(w);
        w.u32(0).u32(1).opaque(b"domain").opaque(b"name").u64(1).u32(2)
    });
    add(op::EXCHANGE_ID, &|w| {
        exchange(w);
        w.u32(1).u32(1).u32(5).u32(1).u32(6).u32(0)
    });
    add(op::EXCHANGE_ID, &|w| {
        exchange(w);
        w.u32(2).u32(0).u32(0).u32(1).opaque(b"hash").u32(2).opaque(b"a").opaque(b"b").u32(1).u32(2).u32(0)
    });
    add(op::CREATE_SESSION, &|w| callback(channel(channel(w.u64(1).u32(2).u32(3))).u32(0x4000_0000)));
    add(op::DESTROY_SESSION, &|w| w.fixed(&[5; 16]));
    add(op::FREE_STATEID, &|w| stateid(w));
    add(op::GET_DIR_DELEGATION, &|w| {
        w.bool(true).u32(1).u32(1).u64(1).u32(2).u64(3).u32(4).u32(0).u32(1).u32(2)
    });
    add(op::GETDEVICEINFO, &|w| w.fixed(&[1; 16]).u32(1).u32(2).u32(0));
    add(op::GETDEVICELIST, &|w| w.u32(1).u32(2).u64(3).fixed(b"verifier"));
    add(op::LAYOUTCOMMIT, &|w| {
        stateid(w.u64(1).u64(2).bool(false)).bool(true).u64(3).bool(true).u64(4).u32(5).u32(1).opaque(b"body")
    });
    add(op::LAYOUTGET, &|w| stateid(w.bool(false).u32(1).u32(2).u64(3).u64(4).u64(5)).u32(6));
    add(op::LAYOUTRETURN, &|w| stateid(w.bool(false).u32(1).u32(2).u32(1).u64(3).u64(4)).opaque(b"body"));
    add(op::LAYOUTRETURN, &|w| w.bool(false).u32(1).u32(2).u32(3));
    add(op::SECINFO_NO_NAME, &|w| w.u32(1));
    add(op::SEQUENCE, &|w| w.fixed(&[5; 16]).u32(1).u32(2).u32(3).bool(true));
    add(op::SET_SSV, &|w| w.opaque(b"ssv").opaque(b"digest"));
    add(op::TEST_STATEID, &|w| stateid(stateid(w.u32(2))));
    add(op::WANT_DELEGATION, &|w| w.u32(1).u32(4));
    add(op::WANT_DELEGATION, &|w| w.u32(1).u32(1).u32(0));
    add(op::DESTROY_CLIENTID, &|w| w.u64(1));
    add(op::RECLAIM_COMPLETE, &|w| w.bool(true));
    for number in [op::ALLOCATE, op::DEALLOCATE] {
        add(number, &|w| stateid(w).u64(1).u64(2));
    }
    add(op::COPY, &|w| {
        stateid(stateid(w)).u64(1).u64(2).u64(3).bool(true).bool(false);
        w.u32(2).u32(1).opaque(b"host").u32(3).opaque(b"tcp").opaque(b"1.2.3.4.5.6")
    });
    add(op::COPY_NOTIFY, &|w| stateid(w).u32(2).opaque(b"url"));
    add(op::IO_ADVISE, &|w| stateid(w).u64(1).u64(2).u32(1).u32(3));
    add(op::LAYOUTERROR, &|w| stateid(w.u64(1).u64(2)).u32(1).fixed(&[1; 16]).u32(5).u32(25));
    add(op::LAYOUTSTATS, &|w| {
        stateid(w.u64(1).u64(2)).u64(3).u64(4).u64(5).u64(6).fixed(&[1; 16]).u32(1).opaque(b"body")
    });
    add(op::OFFLOAD_CANCEL, &|w| stateid(w));
    add(op::OFFLOAD_STATUS, &|w| stateid(w));
    add(op::READ_PLUS, &|w| stateid(w).u64(2).u32(3));
    add(op::SEEK, &|w| stateid(w).u64(2).u32(1));
    add(op::WRITE_SAME, &|w| stateid(w).u32(2).u64(1).u64(2).u64(3).u64(4).u32(5).u64(6).opaque(b"pattern"));
    add(op::CLONE, &|w| stateid(stateid(w)).u64(1).u64(2).u64(3));
    add(op::SETXATTR, &|w| w.u32(2).opaque(b"key").opaque(b"value"));
    add(op::LISTXATTRS, &|w| w.u64(1).u32(2));
    all
}

#[test]
fn every_operation_is_decoded_to_its_end_and_refused_when_cut() {
    let samples = samples();
    let sampled = |number: u32| samples.iter().any(|(sample, _)| *sample == number);
    assert!((op::FIRST..=op::LAST_OF_2).all(sampled));
    for (number, bytes) in &samples {
        let mut r = Reader::new(bytes);
        Operation::decode(*number, &mut r).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(r.remaining(), 0, "operation {number} left bytes over");
        for n in 0..bytes.len() {
            assert!(
                Operation::decode(*number, &mut Reader::new(&bytes[..n])).is_err(),
                "{number} cut at {n}"
            );
        }
    }
}

#[test]
fn what_is_not_defined_is_refused() {
    for (number, bytes) in [
        (op::LOCKT, bytes(|w| owner(w.u32(5).u64(2).u64(3)))),
        (op::LOCKT, bytes(|w| owner(w.u32(0).u64(2).u64(3)))),
        (op::SECINFO_NO_NAME, bytes(|w| w.u32(2))),
        (op::SETXATTR, bytes(|w| w.u32(3).opaque(b"key").opaque(b"value"))),
        (op::BIND_CONN_TO_SESSION, bytes(|w| w.fixed(&[5; 16]).u32(4).bool(false))),
        (op::RECLAIM_COMPLETE, bytes(|w| w.u32(2))),
        (op::WRITE, bytes(|w| stateid(w).u64(1).u32(3).opaque(b"data"))),
        (op::PUTFH, bytes(|w| w.opaque(&[1; 129]))),
        (op::LOCKT, bytes(|w| w.u32(1).u64(2).u64(3).u64(1).opaque(&[1; 1025]))),
        (op::TEST_STATEID, bytes(|w| w.u32(u32::MAX))),
        (2, vec![]),
        (76, vec![]),
    ] {
        assert!(Operation::decode(number, &mut Reader::new(&bytes)).is_err(), "{number}");
    }
}

#[test]
fn arguments_are_the_fields_of_the_rfc() {
    let samples = samples();
    let decoded: Vec<Operation<'_>> = samples
        .iter()
        .map(|(number, bytes)| Operation::decode(*number, &mut Reader::new(bytes)).unwrap())
        .collect();
    let range = LockRange { offset: 2, length: 3 };
    for wanted in [
        Operation::Close { stateid: STATEID },
        Operation::GetAttr { wanted: Bitmap::of(&[4, 33]) },
        Operation::Lock {
            kind: LockKind::Read,
            reclaim: true,
            range,
            owner: LockOwner::New(STATEID, b"owner"),
        },
        Operation::Lock { kind: LockKind::Write, reclaim: false, range, owner: LockOwner::Existing(STATEID) },
        Operation::LockTest { kind: LockKind::Write, range, owner: b"owner" },
        Operation::Unlock { stateid: STATEID, range },
        Operation::Open { access: 1, deny: 0, owner: b"owner", create: Create::No, claim: Claim::Handle },
        Operation::Open {
            access: 1,
            deny: 0,
            owner: b"owner",
            create: Create::Exclusive,
            claim: Claim::Null(b"name"),
        },
        Operation::Read { stateid: STATEID, offset: 2, count: 3 },
        Operation::ReadDir { cookie: 3, verifier: 0, names: 100, count: 200, wanted: Bitmap::of(&[1]) },
        Operation::ExchangeId {
            verifier: *b"verifier",
            owner: b"owner",
            flags: 0x101,
            protection: Protection::None,
        },
        Operation::Sequence { session: [5; 16], sequence: 1, slot: 2, highest_slot: 3, cache_this: true },
        Operation::SetXattr { name: b"key" },
    ] {
        assert!(decoded.contains(&wanted), "{wanted:?}");
    }
    let test = decoded.iter().find_map(|operation| match operation {
        Operation::TestStateid { stateids } => Some(*stateids),
        _ => None,
    });
    assert!(stateids(test.unwrap()).eq([STATEID, STATEID]));
}

#[test]
fn compounds_that_change_state_or_are_kept_finish() {
    let compound = |operations: &[(u32, Vec<u8>)]| {
        let mut all = bytes(|w| w.opaque(b"tag").u32(2).u32(u32::try_from(operations.len()).unwrap()));
        for (number, arguments) in operations {
            all.extend_from_slice(&number.to_be_bytes());
            all.extend_from_slice(arguments);
        }
        compound::finishes(&all)
    };
    let sequence = |kept| (op::SEQUENCE, bytes(|w| w.fixed(&[5; 16]).u32(1).u32(2).u32(3).bool(kept)));
    let root = (op::PUTROOTFH, vec![]);
    assert!(!compound(&[sequence(false), root.clone()]));
    assert!(compound(&[sequence(true), root.clone()]));
    for (number, arguments) in samples() {
        let expected = op::changes_state(number) || number == op::SEQUENCE;
        assert_eq!(compound(&[sequence(false), root.clone(), (number, arguments)]), expected, "{number}");
    }
}
