//! `nfsstat4` by name: RFC 8881 section 15.1, RFC 7862 section 11, RFC 8276 section 8.5.

/// A status as it came over the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(#[allow(dead_code, reason = "named for what a test prints")]
        pub const $name: Code = Code($number);)*

        impl std::fmt::Debug for Code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    other => write!(f, "status {other}"),
                }
            }
        }
    };
}

codes! {
    OK = 0, PERM = 1, NOENT = 2, IO = 5, NXIO = 6, ACCESS = 13, EXIST = 17, NOTDIR = 20, ISDIR = 21, INVAL = 22,
    ROFS = 30, NAMETOOLONG = 63, NOTEMPTY = 66, STALE = 70, BADHANDLE = 10001, BAD_COOKIE = 10003, NOTSUPP = 10004,
    TOOSMALL = 10005, SERVERFAULT = 10006, BADTYPE = 10007, DELAY = 10008, SAME = 10009, DENIED = 10010,
    EXPIRED = 10011, LOCKED = 10012, GRACE = 10013, SHARE_DENIED = 10015, WRONGSEC = 10016, CLID_INUSE = 10017,
    RESOURCE = 10018, NOFILEHANDLE = 10020, MINOR_VERS_MISMATCH = 10021, STALE_CLIENTID = 10022,
    STALE_STATEID = 10023, OLD_STATEID = 10024, BAD_STATEID = 10025, BAD_SEQID = 10026, NOT_SAME = 10027,
    LOCK_RANGE = 10028, SYMLINK = 10029, RESTOREFH = 10030, ATTRNOTSUPP = 10032, NO_GRACE = 10033,
    RECLAIM_BAD = 10034, RECLAIM_CONFLICT = 10035, BADXDR = 10036, LOCKS_HELD = 10037, OPENMODE = 10038,
    BADOWNER = 10039, BADCHAR = 10040, BADNAME = 10041, BAD_RANGE = 10042, LOCK_NOTSUPP = 10043,
    OP_ILLEGAL = 10044, DEADLOCK = 10045, ADMIN_REVOKED = 10047, BAD_SESSION_DIGEST = 10051, BADSESSION = 10052,
    BADSLOT = 10053, COMPLETE_ALREADY = 10054, CONN_NOT_BOUND_TO_SESSION = 10055, LAYOUTUNAVAILABLE = 10059,
    UNKNOWN_LAYOUTTYPE = 10062, SEQ_MISORDERED = 10063, SEQUENCE_POS = 10064, REQ_TOO_BIG = 10065,
    REP_TOO_BIG = 10066, REP_TOO_BIG_TO_CACHE = 10067, RETRY_UNCACHED_REP = 10068, TOO_MANY_OPS = 10070,
    OP_NOT_IN_SESSION = 10071, CLIENTID_BUSY = 10074, SEQ_FALSE_RETRY = 10076, BAD_HIGH_SLOT = 10077,
    DEADSESSION = 10078, ENCR_ALG_UNSUPP = 10079, NOT_ONLY_OP = 10081, WRONG_CRED = 10082, WRONG_TYPE = 10083,
    DIRDELEG_UNAVAIL = 10084, UNION_NOTSUPP = 10090, OFFLOAD_DENIED = 10091, NOXATTR = 10095, XATTR2BIG = 10096,
}
