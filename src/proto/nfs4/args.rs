//! Arguments of the operations: RFC 8881 section 18, RFC 7862 section 15 and RFC 8276 section 8.4,
//! decoded strictly and as a stream, for what follows in the compound must stay in step.

use super::bitmap::Bitmap;
use super::op;
use super::state::{Channel, LockKind, LockRange, SessionId, Stateid, Verifier};
use crate::wire::{Reader, XdrError};

/// The longest file handle (`NFS4_FHSIZE`).
const HANDLE_MAX: u32 = 128;
/// The longest owner (`NFS4_OPAQUE_LIMIT`).
const OPAQUE_MAX: u32 = 1024;
/// The longest machine name and the most groups of AUTH_SYS, RFC 5531 appendix A.
const MACHINE_MAX: u32 = 255;
const GROUPS_MAX: u32 = 16;
/// No limit but the record's: a name too long meets its own error, not `NFS4ERR_BADXDR`.
const RECORD: u32 = u32::MAX;

/// `fattr4`: which attributes, and their values, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Which.
    pub mask: Bitmap,
    /// Their values in the order of their numbers.
    pub values: &'a [u8],
}

/// `openflag4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create<'a> {
    /// OPEN4_NOCREATE.
    No,
    /// UNCHECKED4.
    Unchecked(Attributes<'a>),
    /// GUARDED4.
    Guarded(Attributes<'a>),
    /// EXCLUSIVE4.
    Exclusive,
    /// EXCLUSIVE4_1.
    Exclusive1(Attributes<'a>),
}

/// `open_claim4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// CLAIM_NULL: the name.
    Null(&'a [u8]),
    /// CLAIM_PREVIOUS.
    Previous,
    /// CLAIM_FH.
    Handle,
    /// CLAIM_DELEGATE_CUR and CLAIM_DELEG_CUR_FH.
    Delegated,
    /// CLAIM_DELEGATE_PREV and CLAIM_DELEG_PREV_FH.
    DelegatedBefore,
}

/// `locker4`, without the sequence numbers that minor version 1 ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOwner<'a> {
    /// The open, and the new lock-owner.
    New(Stateid, &'a [u8]),
    /// The lock.
    Existing(Stateid),
}

/// `state_protect_how4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// SP4_NONE.
    None,
    /// SP4_MACH_CRED.
    Machine,
    /// SP4_SSV.
    Ssv,
}

/// One operation. What it does not take into account here is checked for its form and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named as in the RFC")]
pub enum Operation<'a> {
    Access {
        wanted: u32,
    },
    Close {
        stateid: Stateid,
    },
    Commit,
    Create {
        kind: u32,
        name: &'a [u8],
    },
    DelegPurge,
    DelegReturn,
    GetAttr {
        wanted: Bitmap,
    },
    GetFh,
    Link {
        name: &'a [u8],
    },
    Lock {
        kind: LockKind,
        reclaim: bool,
        range: LockRange,
        owner: LockOwner<'a>,
    },
    LockTest {
        kind: LockKind,
        range: LockRange,
        owner: &'a [u8],
    },
    Unlock {
        stateid: Stateid,
        range: LockRange,
    },
    Lookup {
        name: &'a [u8],
    },
    LookupParent,
    /// VERIFY, and NVERIFY when not `same`.
    Verify {
        same: bool,
        attributes: Attributes<'a>,
    },
    Open {
        access: u32,
        deny: u32,
        owner: &'a [u8],
        create: Create<'a>,
        claim: Claim<'a>,
    },
    OpenDowngrade {
        stateid: Stateid,
        access: u32,
        deny: u32,
    },
    PutFh {
        handle: &'a [u8],
    },
    /// PUTROOTFH and PUTPUBFH.
    PutRootFh,
    Read {
        stateid: Stateid,
        offset: u64,
        count: u32,
    },
    ReadDir {
        cookie: u64,
        verifier: u64,
        names: u32,
        count: u32,
        wanted: Bitmap,
    },
    ReadLink,
    Remove {
        name: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    RestoreFh,
    SaveFh,
    SecInfo {
        name: &'a [u8],
    },
    SetAttr {
        attributes: Attributes<'a>,
    },
    Write,
    BackchannelCtl,
    BindConnection {
        session: SessionId,
        direction: u32,
    },
    ExchangeId {
        verifier: Verifier,
        owner: &'a [u8],
        flags: u32,
        protection: Protection,
    },
    CreateSession {
        client: u64,
        sequence: u32,
        flags: u32,
        fore: Channel,
        back: Channel,
    },
    DestroySession {
        session: SessionId,
    },
    FreeStateid {
        stateid: Stateid,
    },
    SecInfoNoName {
        parent: bool,
    },
    Sequence {
        session: SessionId,
        sequence: u32,
        slot: u32,
        highest_slot: u32,
        cache_this: bool,
    },
    /// The stateids, still encoded: see [`stateids`].
    TestStateid {
        stateids: &'a [u8],
    },
    DestroyClientid {
        client: u64,
    },
    ReclaimComplete {
        one_fs: bool,
    },
    /// ALLOCATE and DEALLOCATE.
    Reserve,
    /// COPY and CLONE.
    Copy,
    ReadPlus {
        stateid: Stateid,
        offset: u64,
        count: u32,
    },
    Seek {
        stateid: Stateid,
        offset: u64,
        what: u32,
    },
    GetXattr {
        name: &'a [u8],
    },
    SetXattr {
        name: &'a [u8],
    },
    ListXattrs {
        cookie: u64,
        count: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    /// What this server does not do.
    Unsupported,
}

impl<'a> Operation<'a> {
    /// Decodes the arguments of the operation `number` off the front of `r`.
    ///
    /// # Errors
    /// The bytes end early, a length is over its limit, a discriminant is not defined, or `number` is
    /// no operation.
    pub fn decode(number: u32, r: &mut Reader<'a>) -> Result<Self, XdrError> {
        Ok(match number {
            op::ACCESS => Self::Access { wanted: r.u32()? },
            op::CLOSE => {
                r.u32()?;
                Self::Close { stateid: stateid(r)? }
            }
            op::COMMIT => {
                words(r, 3)?;
                Self::Commit
            }
            op::CREATE => create(r)?,
            op::DELEGPURGE => {
                r.u64()?;
                Self::DelegPurge
            }
            op::DELEGRETURN => {
                stateid(r)?;
                Self::DelegReturn
            }
            op::GETATTR => Self::GetAttr { wanted: Bitmap::decode(r)? },
            op::GETFH => Self::GetFh,
            op::LINK => Self::Link { name: r.opaque(RECORD)? },
            op::LOCK => lock(r)?,
            op::LOCKT => {
                let (kind, range) = (lock_kind(r)?, range(r)?);
                Self::LockTest { kind, range, owner: owner(r)? }
            }
            op::LOCKU => {
                lock_kind(r)?;
                r.u32()?;
                Self::Unlock { stateid: stateid(r)?, range: range(r)? }
            }
            op::LOOKUP => Self::Lookup { name: r.opaque(RECORD)? },
            op::LOOKUPP => Self::LookupParent,
            op::NVERIFY => Self::Verify { same: false, attributes: attributes(r)? },
            op::OPEN => open(r)?,
            op::OPEN_DOWNGRADE => {
                let stateid = stateid(r)?;
                r.u32()?;
                Self::OpenDowngrade { stateid, access: r.u32()?, deny: r.u32()? }
            }
            op::PUTFH => Self::PutFh { handle: r.opaque(HANDLE_MAX)? },
            op::PUTPUBFH | op::PUTROOTFH => Self::PutRootFh,
            op::READ => Self::Read { stateid: stateid(r)?, offset: r.u64()?, count: r.u32()? },
            op::READDIR => Self::ReadDir {
                cookie: r.u64()?,
                verifier: r.u64()?,
                names: r.u32()?,
                count: r.u32()?,
                wanted: Bitmap::decode(r)?,
            },
            op::READLINK => Self::ReadLink,
            op::REMOVE => Self::Remove { name: r.opaque(RECORD)? },
            op::RENAME => Self::Rename { from: r.opaque(RECORD)?, to: r.opaque(RECORD)? },
            op::RESTOREFH => Self::RestoreFh,
            op::SAVEFH => Self::SaveFh,
            op::SECINFO => Self::SecInfo { name: r.opaque(RECORD)? },
            op::SETATTR => {
                stateid(r)?;
                Self::SetAttr { attributes: attributes(r)? }
            }
            op::VERIFY => Self::Verify { same: true, attributes: attributes(r)? },
            op::WRITE => write(r)?,
            op::BACKCHANNEL_CTL => {
                r.u32()?;
                callback_security(r)?;
                Self::BackchannelCtl
            }
            op::BIND_CONN_TO_SESSION => bind_connection(r)?,
            op::EXCHANGE_ID => exchange_id(r)?,
            op::CREATE_SESSION => create_session(r)?,
            op::DESTROY_SESSION => Self::DestroySession { session: fixed(r)? },
            op::FREE_STATEID => Self::FreeStateid { stateid: stateid(r)? },
            op::SECINFO_NO_NAME => Self::SecInfoNoName { parent: one_of(r, 0..=1)? == 1 },
            op::SEQUENCE => Self::Sequence {
                session: fixed(r)?,
                sequence: r.u32()?,
                slot: r.u32()?,
                highest_slot: r.u32()?,
                cache_this: r.bool()?,
            },
            op::TEST_STATEID => {
                let count = r.count(RECORD)?;
                let bytes = count.checked_mul(STATEID_LEN).ok_or(XdrError::Truncated)?;
                Self::TestStateid { stateids: r.fixed(bytes)? }
            }
            op::DESTROY_CLIENTID => Self::DestroyClientid { client: r.u64()? },
            op::RECLAIM_COMPLETE => Self::ReclaimComplete { one_fs: r.bool()? },
            op::ALLOCATE | op::DEALLOCATE => {
                stateid(r)?;
                words(r, 4)?;
                Self::Reserve
            }
            op::COPY => {
                copy(r)?;
                Self::Copy
            }
            op::CLONE => {
                stateid(r)?;
                stateid(r)?;
                words(r, 6)?;
                Self::Copy
            }
            op::READ_PLUS => Self::ReadPlus { stateid: stateid(r)?, offset: r.u64()?, count: r.u32()? },
            op::SEEK => Self::Seek { stateid: stateid(r)?, offset: r.u64()?, what: r.u32()? },
            op::GETXATTR => Self::GetXattr { name: r.opaque(RECORD)? },
            op::SETXATTR => {
                one_of(r, 0..=2)?;
                let name = r.opaque(RECORD)?;
                r.opaque(RECORD)?;
                Self::SetXattr { name }
            }
            op::LISTXATTRS => Self::ListXattrs { cookie: r.u64()?, count: r.u32()? },
            op::REMOVEXATTR => Self::RemoveXattr { name: r.opaque(RECORD)? },
            other => {
                unsupported(other, r)?;
                Self::Unsupported
            }
        })
    }
}

/// Operations that are not done at all, whose arguments have to be passed over.
fn unsupported(number: u32, r: &mut Reader<'_>) -> Result<(), XdrError> {
    match number {
        op::OPENATTR => drop(r.bool()?),
        op::OPEN_CONFIRM => {
            stateid(r)?;
            r.u32()?;
        }
        op::RENEW => drop(r.u64()?),
        op::SETCLIENTID => {
            r.fixed(8)?;
            r.opaque(OPAQUE_MAX)?;
            r.u32()?;
            network_address(r)?;
            r.u32()?;
        }
        op::SETCLIENTID_CONFIRM => words(r, 4)?,
        op::RELEASE_LOCKOWNER => drop(owner(r)?),
        op::GET_DIR_DELEGATION => {
            r.bool()?;
            Bitmap::decode(r)?;
            words(r, 6)?;
            Bitmap::decode(r)?;
            Bitmap::decode(r)?;
        }
        op::GETDEVICEINFO => {
            r.fixed(16)?;
            words(r, 2)?;
            Bitmap::decode(r)?;
        }
        op::GETDEVICELIST => words(r, 6)?,
        op::LAYOUTCOMMIT => {
            words(r, 4)?;
            r.bool()?;
            stateid(r)?;
            if r.bool()? {
                r.u64()?;
            }
            if r.bool()? {
                words(r, 3)?;
            }
            layout_update(r)?;
        }
        op::LAYOUTGET => {
            r.bool()?;
            words(r, 8)?;
            stateid(r)?;
            r.u32()?;
        }
        op::LAYOUTRETURN => {
            r.bool()?;
            words(r, 2)?;
            if one_of(r, 1..=3)? == 1 {
                words(r, 4)?;
                stateid(r)?;
                r.opaque(RECORD)?;
            }
        }
        op::SET_SSV => {
            r.opaque(RECORD)?;
            r.opaque(RECORD)?;
        }
        op::WANT_DELEGATION => {
            r.u32()?;
            match r.u32()? {
                // CLAIM_PREVIOUS with the type that is reclaimed.
                1 => drop(r.u32()?),
                // CLAIM_FH, CLAIM_DELEG_PREV_FH.
                4 | 6 => {}
                other => return Err(XdrError::Undefined(other)),
            }
        }
        op::COPY_NOTIFY => {
            stateid(r)?;
            network_location(r)?;
        }
        op::IO_ADVISE => {
            stateid(r)?;
            words(r, 4)?;
            Bitmap::decode(r)?;
        }
        op::LAYOUTERROR => {
            words(r, 4)?;
            stateid(r)?;
            for _ in 0..r.count(RECORD)? {
                r.fixed(16)?;
                words(r, 2)?;
            }
        }
        op::LAYOUTSTATS => {
            words(r, 4)?;
            stateid(r)?;
            words(r, 8)?;
            r.fixed(16)?;
            layout_update(r)?;
        }
        op::OFFLOAD_CANCEL | op::OFFLOAD_STATUS => drop(stateid(r)?),
        op::WRITE_SAME => {
            stateid(r)?;
            one_of(r, 0..=2)?;
            words(r, 11)?;
            r.opaque(RECORD)?;
        }
        other => return Err(XdrError::Undefined(other)),
    }
    Ok(())
}

/// Bytes of a `stateid4`.
const STATEID_LEN: usize = 16;

/// The stateids of TEST_STATEID.
pub fn stateids(bytes: &[u8]) -> impl ExactSizeIterator<Item = Stateid> {
    let whole = |bytes: &[u8]| stateid(&mut Reader::new(bytes)).ok();
    let none = Stateid { seqid: 0, other: [0; 12] };
    bytes.chunks_exact(STATEID_LEN).map(move |bytes| whole(bytes).unwrap_or(none))
}

fn stateid(r: &mut Reader<'_>) -> Result<Stateid, XdrError> {
    Ok(Stateid { seqid: r.u32()?, other: fixed(r)? })
}

fn fixed<const N: usize>(r: &mut Reader<'_>) -> Result<[u8; N], XdrError> {
    r.fixed(N)?.try_into().map_err(|_| XdrError::Truncated)
}

fn words(r: &mut Reader<'_>, count: usize) -> Result<(), XdrError> {
    r.fixed(4 * count).map(drop)
}

fn one_of(r: &mut Reader<'_>, range: std::ops::RangeInclusive<u32>) -> Result<u32, XdrError> {
    match r.u32()? {
        value if range.contains(&value) => Ok(value),
        other => Err(XdrError::Undefined(other)),
    }
}

fn attributes<'a>(r: &mut Reader<'a>) -> Result<Attributes<'a>, XdrError> {
    Ok(Attributes { mask: Bitmap::decode(r)?, values: r.opaque(RECORD)? })
}

/// `open_owner4` and `lock_owner4`; the client id in them is that of the session, whatever it says.
fn owner<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], XdrError> {
    r.u64()?;
    r.opaque(OPAQUE_MAX)
}

fn range(r: &mut Reader<'_>) -> Result<LockRange, XdrError> {
    Ok(LockRange { offset: r.u64()?, length: r.u64()? })
}

/// `nfs_lock_type4`: waiting locks are as others, since the client asks again.
fn lock_kind(r: &mut Reader<'_>) -> Result<LockKind, XdrError> {
    match r.u32()? {
        1 | 3 => Ok(LockKind::Read),
        2 | 4 => Ok(LockKind::Write),
        other => Err(XdrError::Undefined(other)),
    }
}

fn lock<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    let (kind, reclaim, range) = (lock_kind(r)?, r.bool()?, range(r)?);
    let owner = if r.bool()? {
        r.u32()?;
        let open = stateid(r)?;
        r.u32()?;
        LockOwner::New(open, owner(r)?)
    } else {
        let lock = stateid(r)?;
        r.u32()?;
        LockOwner::Existing(lock)
    };
    Ok(Operation::Lock { kind, reclaim, range, owner })
}

fn create<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    let kind = r.u32()?;
    match kind {
        // NF4BLK and NF4CHR, with specdata4.
        3 | 4 => words(r, 2)?,
        // NF4LNK, with the target.
        5 => drop(r.opaque(RECORD)?),
        _ => {}
    }
    let name = r.opaque(RECORD)?;
    attributes(r)?;
    Ok(Operation::Create { kind, name })
}

fn open<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    r.u32()?;
    let (access, deny) = (r.u32()?, r.u32()?);
    let owner = owner(r)?;
    let create = match r.u32()? {
        0 => Create::No,
        1 => match r.u32()? {
            0 => Create::Unchecked(attributes(r)?),
            1 => Create::Guarded(attributes(r)?),
            2 => {
                r.fixed(8)?;
                Create::Exclusive
            }
            3 => {
                r.fixed(8)?;
                Create::Exclusive1(attributes(r)?)
            }
            other => return Err(XdrError::Undefined(other)),
        },
        other => return Err(XdrError::Undefined(other)),
    };
    let claim = match r.u32()? {
        0 => Claim::Null(r.opaque(RECORD)?),
        1 => {
            // OPEN_DELEGATE_NONE to OPEN_DELEGATE_NONE_EXT.
            one_of(r, 0..=3)?;
            Claim::Previous
        }
        2 => {
            stateid(r)?;
            r.opaque(RECORD)?;
            Claim::Delegated
        }
        3 => {
            r.opaque(RECORD)?;
            Claim::DelegatedBefore
        }
        4 => Claim::Handle,
        5 => {
            stateid(r)?;
            Claim::Delegated
        }
        6 => Claim::DelegatedBefore,
        other => return Err(XdrError::Undefined(other)),
    };
    Ok(Operation::Open { access, deny, owner, create, claim })
}

fn write<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    stateid(r)?;
    r.u64()?;
    one_of(r, 0..=2)?;
    r.opaque(RECORD)?;
    Ok(Operation::Write)
}

/// `callback_sec_parms4<>`.
fn callback_security(r: &mut Reader<'_>) -> Result<(), XdrError> {
    for _ in 0..r.count(RECORD)? {
        match r.u32()? {
            // AUTH_NONE.
            0 => {}
            // AUTH_SYS.
            1 => {
                r.u32()?;
                r.opaque(MACHINE_MAX)?;
                words(r, 2)?;
                let groups = r.count(GROUPS_MAX)?;
                words(r, groups)?;
            }
            // RPCSEC_GSS.
            6 => {
                one_of(r, 1..=3)?;
                r.opaque(RECORD)?;
                r.opaque(RECORD)?;
            }
            other => return Err(XdrError::Undefined(other)),
        }
    }
    Ok(())
}

fn channel(r: &mut Reader<'_>) -> Result<Channel, XdrError> {
    r.u32()?;
    let channel = Channel {
        request: r.u32()?,
        response: r.u32()?,
        response_cached: r.u32()?,
        operations: r.u32()?,
        slots: r.u32()?,
    };
    let rdma = r.count(1)?;
    words(r, rdma)?;
    Ok(channel)
}

fn create_session<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    let (client, sequence, flags) = (r.u64()?, r.u32()?, r.u32()?);
    let (fore, back) = (channel(r)?, channel(r)?);
    r.u32()?;
    callback_security(r)?;
    Ok(Operation::CreateSession { client, sequence, flags, fore, back })
}

fn bind_connection<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    let session = fixed(r)?;
    let direction = match r.u32()? {
        direction @ (1 | 2 | 3 | 7) => direction,
        other => return Err(XdrError::Undefined(other)),
    };
    r.bool()?;
    Ok(Operation::BindConnection { session, direction })
}

fn exchange_id<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, XdrError> {
    let (verifier, owner, flags) = (fixed(r)?, r.opaque(OPAQUE_MAX)?, r.u32()?);
    let protection = match r.u32()? {
        0 => Protection::None,
        1 => {
            Bitmap::decode(r)?;
            Bitmap::decode(r)?;
            Protection::Machine
        }
        2 => {
            Bitmap::decode(r)?;
            Bitmap::decode(r)?;
            for _ in ["hash", "encryption"] {
                for _ in 0..r.count(RECORD)? {
                    r.opaque(RECORD)?;
                }
            }
            words(r, 2)?;
            Protection::Ssv
        }
        other => return Err(XdrError::Undefined(other)),
    };
    // nfs_impl_id4: domain, name, date.
    for _ in 0..r.count(1)? {
        r.opaque(RECORD)?;
        r.opaque(RECORD)?;
        words(r, 3)?;
    }
    Ok(Operation::ExchangeId { verifier, owner, flags, protection })
}

fn copy(r: &mut Reader<'_>) -> Result<(), XdrError> {
    stateid(r)?;
    stateid(r)?;
    words(r, 6)?;
    r.bool()?;
    r.bool()?;
    for _ in 0..r.count(RECORD)? {
        network_location(r)?;
    }
    Ok(())
}

/// `netloc4`.
fn network_location(r: &mut Reader<'_>) -> Result<(), XdrError> {
    match r.u32()? {
        // NL4_NAME, NL4_URL.
        1 | 2 => r.opaque(RECORD).map(drop),
        // NL4_NETADDR.
        3 => network_address(r),
        other => Err(XdrError::Undefined(other)),
    }
}

/// `netaddr4`.
fn network_address(r: &mut Reader<'_>) -> Result<(), XdrError> {
    r.opaque(RECORD)?;
    r.opaque(RECORD).map(drop)
}

/// `layoutupdate4`.
fn layout_update(r: &mut Reader<'_>) -> Result<(), XdrError> {
    r.u32()?;
    r.opaque(RECORD).map(drop)
}
