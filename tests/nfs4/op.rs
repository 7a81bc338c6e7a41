//! Operations as RFC 5662, RFC 7863 and RFC 8276 lay them out, encoded by hand.

use nfs_verity::wire::Writer;

pub const ACCESS: u32 = 3;
pub const CLOSE: u32 = 4;
pub const GETATTR: u32 = 9;
pub const GETFH: u32 = 10;
pub const LOCK: u32 = 12;
pub const LOCKT: u32 = 13;
pub const LOCKU: u32 = 14;
pub const OPEN: u32 = 18;
pub const OPEN_DOWNGRADE: u32 = 21;
pub const READ: u32 = 25;
pub const READDIR: u32 = 26;
pub const READLINK: u32 = 27;
pub const SECINFO: u32 = 33;
pub const SETATTR: u32 = 34;
pub const BIND_CONN_TO_SESSION: u32 = 41;
pub const EXCHANGE_ID: u32 = 42;
pub const CREATE_SESSION: u32 = 43;
pub const SECINFO_NO_NAME: u32 = 52;
pub const SEQUENCE: u32 = 53;
pub const TEST_STATEID: u32 = 55;
pub const READ_PLUS: u32 = 68;
pub const SEEK: u32 = 69;
pub const GETXATTR: u32 = 72;
pub const LISTXATTRS: u32 = 74;
pub const OP_ILLEGAL: u32 = 10044;

/// One operation with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub number: u32,
    pub body: Vec<u8>,
}

impl Op {
    pub fn new(number: u32, write: impl FnOnce(&mut Writer)) -> Self {
        let mut w = Writer::default();
        write(&mut w);
        Self { number, body: w.finish().concat() }
    }
}

/// `stateid4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stateid {
    pub seqid: u32,
    pub other: [u8; 12],
}

impl Stateid {
    /// RFC 8881 section 8.2.3: the special ones.
    pub const ANONYMOUS: Self = Self { seqid: 0, other: [0; 12] };
    pub const BYPASS: Self = Self { seqid: u32::MAX, other: [0xff; 12] };
    pub const CURRENT: Self = Self { seqid: 1, other: [0; 12] };
    pub const INVALID: Self = Self { seqid: u32::MAX, other: [0; 12] };

    /// The same state with another `seqid`; 0 is the newest.
    pub fn at(self, seqid: u32) -> Self {
        Self { seqid, ..self }
    }

    pub fn write(&self, w: &mut Writer) {
        w.u32(self.seqid).fixed(&self.other);
    }
}

/// Attribute numbers as a `bitmap4`.
pub fn bitmap(attributes: &[u32]) -> Vec<u32> {
    let words = attributes.iter().max().map_or(0, |most| *most as usize / 32 + 1);
    let mut mask = vec![0; words];
    attributes.iter().for_each(|n| mask[*n as usize / 32] |= 1 << (n % 32));
    mask
}

fn write_mask(w: &mut Writer, mask: &[u32]) {
    w.u32(mask.len() as u32);
    mask.iter().for_each(|word| _ = w.u32(*word));
}

/// `fattr4`: numbers and values, values in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Fattr {
    pub mask: Vec<u32>,
    pub values: Vec<u8>,
}

impl Fattr {
    pub fn of(attributes: &[(u32, Vec<u8>)]) -> Self {
        let numbers: Vec<u32> = attributes.iter().map(|(number, _)| *number).collect();
        Self {
            mask: bitmap(&numbers),
            values: attributes.iter().flat_map(|(_, value)| value.clone()).collect(),
        }
    }

    /// The mode alone.
    pub fn mode(mode: u32) -> Self {
        Self::of(&[(33, mode.to_be_bytes().to_vec())])
    }

    fn write(&self, w: &mut Writer) {
        write_mask(w, &self.mask);
        w.opaque(&self.values);
    }
}

fn plain(number: u32) -> Op {
    Op::new(number, |_| ())
}

fn name(number: u32, name: &[u8]) -> Op {
    Op::new(number, |w| _ = w.opaque(name))
}

/// Offset and length behind a stateid: ALLOCATE, DEALLOCATE.
fn region(number: u32, stateid: Stateid, offset: u64, length: u64) -> Op {
    Op::new(number, |w| {
        stateid.write(w);
        w.u64(offset).u64(length);
    })
}

pub fn access(bits: u32) -> Op {
    Op::new(3, |w| _ = w.u32(bits))
}
pub fn close(stateid: Stateid) -> Op {
    Op::new(4, |w| stateid.write(w.u32(0)))
}
pub fn commit(offset: u64, count: u32) -> Op {
    Op::new(5, |w| _ = w.u64(offset).u32(count))
}
/// CREATE of a directory.
pub fn create(directory: &[u8]) -> Op {
    Op::new(6, |w| Fattr::default().write(w.u32(2).opaque(directory)))
}
/// CREATE of a symbolic link.
pub fn create_link(directory: &[u8], target: &[u8]) -> Op {
    Op::new(6, |w| Fattr::default().write(w.u32(5).opaque(target).opaque(directory)))
}
/// CREATE of anything that has no data of its own: a device needs numbers, which are given.
pub fn create_type(kind: u32, directory: &[u8]) -> Op {
    Op::new(6, |w| {
        w.u32(kind);
        if matches!(kind, 3 | 4) {
            w.u32(1).u32(2);
        }
        Fattr::default().write(w.opaque(directory));
    })
}
pub fn delegpurge(client: u64) -> Op {
    Op::new(7, |w| _ = w.u64(client))
}
pub fn delegreturn(stateid: Stateid) -> Op {
    Op::new(8, |w| stateid.write(w))
}
pub fn getattr(attributes: &[u32]) -> Op {
    getattr_mask(&bitmap(attributes))
}
pub fn getattr_mask(mask: &[u32]) -> Op {
    Op::new(9, |w| write_mask(w, mask))
}
pub fn getfh() -> Op {
    plain(10)
}
pub fn link(new: &[u8]) -> Op {
    name(11, new)
}
pub fn lookup(component: &[u8]) -> Op {
    name(15, component)
}
pub fn lookupp() -> Op {
    plain(16)
}
pub fn nverify(attributes: &Fattr) -> Op {
    Op::new(17, |w| attributes.write(w))
}
pub fn openattr(create: bool) -> Op {
    Op::new(19, |w| _ = w.bool(create))
}
pub fn open_confirm(stateid: Stateid) -> Op {
    Op::new(20, |w| {
        stateid.write(w);
        w.u32(1);
    })
}
pub fn open_downgrade(stateid: Stateid, access: u32, deny: u32) -> Op {
    Op::new(21, |w| {
        stateid.write(w);
        w.u32(0).u32(access).u32(deny);
    })
}
pub fn putfh(handle: &[u8]) -> Op {
    name(22, handle)
}
pub fn putpubfh() -> Op {
    plain(23)
}
pub fn putrootfh() -> Op {
    plain(24)
}
pub fn read(stateid: Stateid, offset: u64, count: u32) -> Op {
    Op::new(25, |w| {
        stateid.write(w);
        w.u64(offset).u32(count);
    })
}
pub fn readdir(cookie: u64, verifier: [u8; 8], dircount: u32, maxcount: u32, attributes: &[u32]) -> Op {
    Op::new(26, |w| {
        write_mask(w.u64(cookie).fixed(&verifier).u32(dircount).u32(maxcount), &bitmap(attributes))
    })
}
pub fn readlink() -> Op {
    plain(27)
}
pub fn remove(target: &[u8]) -> Op {
    name(28, target)
}
pub fn rename(from: &[u8], to: &[u8]) -> Op {
    Op::new(29, |w| _ = w.opaque(from).opaque(to))
}
pub fn renew(client: u64) -> Op {
    Op::new(30, |w| _ = w.u64(client))
}
pub fn restorefh() -> Op {
    plain(31)
}
pub fn savefh() -> Op {
    plain(32)
}
pub fn secinfo(component: &[u8]) -> Op {
    name(33, component)
}
pub fn setattr(stateid: Stateid, attributes: &Fattr) -> Op {
    Op::new(34, |w| {
        stateid.write(w);
        attributes.write(w);
    })
}
pub fn setclientid() -> Op {
    Op::new(35, |w| {
        w.fixed(b"verifier").opaque(b"id").u32(0x4000_0000).opaque(b"tcp").opaque(b"127.0.0.1.8.1").u32(1);
    })
}
pub fn setclientid_confirm(client: u64) -> Op {
    Op::new(36, |w| _ = w.u64(client).fixed(b"verifier"))
}
pub fn verify(attributes: &Fattr) -> Op {
    Op::new(37, |w| attributes.write(w))
}
pub fn write(stateid: Stateid, offset: u64, data: &[u8]) -> Op {
    Op::new(38, |w| {
        stateid.write(w);
        w.u64(offset).u32(2).opaque(data);
    })
}
pub fn release_lockowner(client: u64) -> Op {
    Op::new(39, |w| _ = w.u64(client).opaque(b"owner"))
}

/// `callback_sec_parms4` of AUTH_NONE.
fn callback_security(w: &mut Writer) {
    w.u32(1).u32(0);
}

pub fn backchannel_ctl() -> Op {
    Op::new(40, |w| callback_security(w.u32(0x4000_0000)))
}
/// `direction`: 1 fore, 2 back, 3 fore or both, 7 back or both.
pub fn bind_conn(session: [u8; 16], direction: u32) -> Op {
    Op::new(41, |w| _ = w.fixed(&session).u32(direction).bool(false))
}

/// EXCHGID4_FLAG_UPD_CONFIRMED_REC_A and its like.
pub const UPDATE: u32 = 0x4000_0000;
pub const CONFIRMED_R: u32 = 0x8000_0000;
pub const USE_NON_PNFS: u32 = 0x0001_0000;

pub fn exchange_id(owner: &[u8], verifier: [u8; 8], flags: u32) -> Op {
    Op::new(42, |w| _ = w.fixed(&verifier).opaque(owner).u32(flags).u32(0).u32(0))
}
/// With names of the implementation, of which one is the most.
pub fn exchange_id_named(owner: &[u8], verifier: [u8; 8], names: u32) -> Op {
    Op::new(42, |w| {
        w.fixed(&verifier).opaque(owner).u32(0).u32(0).u32(names);
        for _ in 0..names {
            w.opaque(b"example.org").opaque(b"tests").u64(0).u32(0);
        }
    })
}

/// `channel_attrs4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    pub padding: u32,
    pub request: u32,
    pub response: u32,
    pub cached: u32,
    pub operations: u32,
    pub slots: u32,
}

impl Channel {
    /// As much as a usual client wants.
    pub const USUAL: Self =
        Self { padding: 0, request: 1_049_620, response: 1_049_480, cached: 7584, operations: 64, slots: 16 };
    pub const BACK: Self =
        Self { padding: 0, request: 4096, response: 4096, cached: 0, operations: 2, slots: 16 };

    fn write(&self, w: &mut Writer, rdma: u32) {
        w.u32(self.padding).u32(self.request).u32(self.response).u32(self.cached);
        w.u32(self.operations).u32(self.slots).u32(rdma);
        (0..rdma).for_each(|_| _ = w.u32(57));
    }
}

pub fn create_session(client: u64, sequence: u32, fore: Channel) -> Op {
    create_session_with(client, sequence, 0, fore, 0)
}
/// With flags and a number of RDMA attributes, of which one is the most.
pub fn create_session_with(client: u64, sequence: u32, flags: u32, fore: Channel, rdma: u32) -> Op {
    Op::new(43, |w| {
        w.u64(client).u32(sequence).u32(flags);
        fore.write(w, rdma);
        Channel::BACK.write(w, rdma);
        callback_security(w.u32(0x4000_0000));
    })
}
/// With one security parameter of each kind, RFC 8881 section 18.36.1.
pub fn create_session_all_security(client: u64, sequence: u32, fore: Channel) -> Op {
    Op::new(43, |w| {
        w.u64(client).u32(sequence).u32(0);
        fore.write(w, 0);
        Channel::BACK.write(w, 0);
        w.u32(0x4000_0000).u32(3).u32(0);
        w.u32(6).u32(3).opaque(b"handle of the server").opaque(b"handle of the client");
        w.u32(1).u32(5).opaque(b"machine").u32(7).u32(11).u32(2).u32(13).u32(17);
    })
}
pub fn destroy_session(session: [u8; 16]) -> Op {
    Op::new(44, |w| _ = w.fixed(&session))
}
pub fn free_stateid(stateid: Stateid) -> Op {
    Op::new(45, |w| stateid.write(w))
}
pub fn get_dir_delegation() -> Op {
    Op::new(46, |w| {
        w.bool(false).u32(1).u32(1).u64(0).u32(0).u64(0).u32(0).u32(0).u32(0);
    })
}
pub fn getdeviceinfo() -> Op {
    Op::new(47, |w| _ = w.fixed(&[0; 16]).u32(1).u32(4096).u32(0))
}
pub fn getdevicelist() -> Op {
    Op::new(48, |w| _ = w.u32(1).u32(16).u64(0).fixed(&[0; 8]))
}
pub fn layoutcommit() -> Op {
    Op::new(49, |w| {
        w.u64(0).u64(1).bool(false);
        Stateid::ANONYMOUS.write(w);
        w.bool(false).bool(false).u32(1).opaque(b"");
    })
}
pub fn layoutget() -> Op {
    Op::new(50, |w| {
        w.bool(false).u32(1).u32(1).u64(0).u64(4096).u64(1);
        Stateid::ANONYMOUS.write(w);
        w.u32(4096);
    })
}
pub fn layoutreturn() -> Op {
    Op::new(51, |w| _ = w.bool(false).u32(1).u32(3).u32(3))
}
/// 0: of the current file handle, 1: of its parent.
pub fn secinfo_no_name(style: u32) -> Op {
    Op::new(52, |w| _ = w.u32(style))
}
pub fn sequence(session: [u8; 16], sequence: u32, slot: u32, highest: u32, cache: bool) -> Op {
    Op::new(53, |w| _ = w.fixed(&session).u32(sequence).u32(slot).u32(highest).bool(cache))
}
pub fn set_ssv() -> Op {
    Op::new(54, |w| _ = w.opaque(&[1; 32]).opaque(&[2; 32]))
}
pub fn test_stateid(stateids: &[Stateid]) -> Op {
    Op::new(55, |w| {
        w.u32(stateids.len() as u32);
        stateids.iter().for_each(|stateid| stateid.write(w));
    })
}
pub fn want_delegation() -> Op {
    // CLAIM_FH.
    Op::new(56, |w| _ = w.u32(1).u32(4))
}
pub fn destroy_clientid(client: u64) -> Op {
    Op::new(57, |w| _ = w.u64(client))
}
pub fn reclaim_complete(one_fs: bool) -> Op {
    Op::new(58, |w| _ = w.bool(one_fs))
}
pub fn allocate(stateid: Stateid) -> Op {
    region(59, stateid, 0, 1)
}
pub fn copy(stateid: Stateid) -> Op {
    Op::new(60, |w| {
        stateid.write(w);
        stateid.write(w);
        w.u64(0).u64(0).u64(1).bool(true).bool(true).u32(0);
    })
}
pub fn copy_notify(stateid: Stateid) -> Op {
    Op::new(61, |w| {
        stateid.write(w);
        w.u32(1).opaque(b"example.org");
    })
}
pub fn deallocate(stateid: Stateid) -> Op {
    region(62, stateid, 0, 1)
}
pub fn io_advise(stateid: Stateid) -> Op {
    Op::new(63, |w| {
        stateid.write(w);
        w.u64(0).u64(4096).u32(1).u32(1);
    })
}
pub fn layouterror() -> Op {
    Op::new(64, |w| {
        w.u64(0).u64(1);
        Stateid::ANONYMOUS.write(w);
        w.u32(1).fixed(&[0; 16]).u32(5).u32(25);
    })
}
pub fn layoutstats() -> Op {
    Op::new(65, |w| {
        w.u64(0).u64(1);
        Stateid::ANONYMOUS.write(w);
        w.u64(1).u64(1).u64(0).u64(0).fixed(&[0; 16]).u32(1).opaque(b"");
    })
}
pub fn offload_cancel() -> Op {
    Op::new(66, |w| Stateid::ANONYMOUS.write(w))
}
pub fn offload_status() -> Op {
    Op::new(67, |w| Stateid::ANONYMOUS.write(w))
}
pub fn read_plus(stateid: Stateid, offset: u64, count: u32) -> Op {
    Op::new(68, |w| {
        stateid.write(w);
        w.u64(offset).u32(count);
    })
}
/// 0: data, 1: a hole.
pub fn seek(stateid: Stateid, offset: u64, what: u32) -> Op {
    Op::new(69, |w| {
        stateid.write(w);
        w.u64(offset).u32(what);
    })
}
pub fn write_same(stateid: Stateid) -> Op {
    Op::new(70, |w| {
        stateid.write(w);
        w.u32(2).u64(0).u64(512).u64(1).u64(0).u32(0).u64(0).opaque(b"pattern");
    })
}
pub fn clone_range(stateid: Stateid) -> Op {
    Op::new(71, |w| {
        stateid.write(w);
        stateid.write(w);
        w.u64(0).u64(0).u64(0);
    })
}
pub fn getxattr(key: &[u8]) -> Op {
    name(72, key)
}
/// 0: either, 1: create, 2: replace.
pub fn setxattr(option: u32, key: &[u8], value: &[u8]) -> Op {
    Op::new(73, |w| _ = w.u32(option).opaque(key).opaque(value))
}
pub fn listxattrs(cookie: u64, maxcount: u32) -> Op {
    Op::new(74, |w| _ = w.u64(cookie).u32(maxcount))
}
pub fn removexattr(key: &[u8]) -> Op {
    name(75, key)
}
/// A number without arguments.
pub fn bare(number: u32) -> Op {
    plain(number)
}

pub const SHARE_READ: u32 = 1;
pub const SHARE_WRITE: u32 = 2;
pub const SHARE_BOTH: u32 = 3;
pub const NO_DELEGATION: u32 = 0x400;

/// The claim of an OPEN.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// CLAIM_NULL
    Null(&'a [u8]),
    /// CLAIM_PREVIOUS, with the type of a delegation.
    Previous(u32),
    /// CLAIM_DELEGATE_CUR
    DelegateCur(Stateid, &'a [u8]),
    /// CLAIM_DELEGATE_PREV
    DelegatePrev(&'a [u8]),
    /// CLAIM_FH
    Fh,
    /// CLAIM_DELEG_CUR_FH
    DelegCurFh(Stateid),
    /// CLAIM_DELEG_PREV_FH
    DelegPrevFh,
}

/// How an OPEN creates.
#[derive(Clone, Debug)]
pub enum How {
    /// OPEN4_NOCREATE
    No,
    /// UNCHECKED4
    Unchecked(Fattr),
    /// GUARDED4
    Guarded(Fattr),
    /// EXCLUSIVE4
    Exclusive,
    /// EXCLUSIVE4_1
    Exclusive41(Fattr),
}

pub fn open(owner: &[u8], share: u32, deny: u32, claim: Claim<'_>) -> Op {
    open_with(owner, share, deny, &How::No, claim)
}

pub fn open_with(owner: &[u8], share: u32, deny: u32, how: &How, claim: Claim<'_>) -> Op {
    Op::new(18, |w| {
        w.u32(0).u32(share).u32(deny).u64(0).opaque(owner);
        match how {
            How::No => _ = w.u32(0),
            How::Unchecked(attributes) => attributes.write(w.u32(1).u32(0)),
            How::Guarded(attributes) => attributes.write(w.u32(1).u32(1)),
            How::Exclusive => _ = w.u32(1).u32(2).fixed(b"verifier"),
            How::Exclusive41(attributes) => attributes.write(w.u32(1).u32(3).fixed(b"verifier")),
        }
        match claim {
            Claim::Null(name) => _ = w.u32(0).opaque(name),
            Claim::Previous(delegation) => _ = w.u32(1).u32(delegation),
            Claim::DelegateCur(stateid, name) => {
                stateid.write(w.u32(2));
                w.opaque(name);
            }
            Claim::DelegatePrev(name) => _ = w.u32(3).opaque(name),
            Claim::Fh => _ = w.u32(4),
            Claim::DelegCurFh(stateid) => stateid.write(w.u32(5)),
            Claim::DelegPrevFh => _ = w.u32(6),
        }
    })
}

/// OPEN for reading, denying nothing, of the current file handle.
pub fn open_fh(owner: &[u8]) -> Op {
    open(owner, SHARE_READ, 0, Claim::Fh)
}

pub const READ_LT: u32 = 1;
pub const WRITE_LT: u32 = 2;
pub const READW_LT: u32 = 3;
pub const WRITEW_LT: u32 = 4;

/// LOCK by a new lock-owner, under an open.
pub fn lock_new(kind: u32, offset: u64, length: u64, opened: Stateid, owner: &[u8], reclaim: bool) -> Op {
    Op::new(12, |w| {
        w.u32(kind).bool(reclaim).u64(offset).u64(length).bool(true).u32(0);
        opened.write(w);
        w.u32(0).u64(0).opaque(owner);
    })
}
/// LOCK by a lock-owner that has a stateid.
pub fn lock(kind: u32, offset: u64, length: u64, held: Stateid) -> Op {
    Op::new(12, |w| {
        w.u32(kind).bool(false).u64(offset).u64(length).bool(false);
        held.write(w);
        w.u32(0);
    })
}
pub fn lockt(kind: u32, offset: u64, length: u64, owner: &[u8]) -> Op {
    Op::new(13, |w| _ = w.u32(kind).u64(offset).u64(length).u64(0).opaque(owner))
}
pub fn locku(held: Stateid, offset: u64, length: u64) -> Op {
    Op::new(14, |w| {
        held.write(w.u32(WRITE_LT).u32(0));
        w.u64(offset).u64(length);
    })
}
