//! Numbers of the operations: RFC 8881 section 16.1, RFC 7862 section 13.1 and RFC 8276 section 8.4.

/// The first number of an operation.
pub const FIRST: u32 = 3;
/// The last one of minor version 1.
pub const LAST_OF_1: u32 = RECLAIM_COMPLETE;
/// The last one of minor version 2.
pub const LAST_OF_2: u32 = REMOVEXATTR;

macro_rules! operations {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(
            #[allow(missing_docs, reason = "each is the number of the RFC by its own name")]
            pub const $name: u32 = $number;
        )*
    };
}

operations! {
    ACCESS = 3,
    CLOSE = 4,
    COMMIT = 5,
    CREATE = 6,
    DELEGPURGE = 7,
    DELEGRETURN = 8,
    GETATTR = 9,
    GETFH = 10,
    LINK = 11,
    LOCK = 12,
    LOCKT = 13,
    LOCKU = 14,
    LOOKUP = 15,
    LOOKUPP = 16,
    NVERIFY = 17,
    OPEN = 18,
    OPENATTR = 19,
    OPEN_CONFIRM = 20,
    OPEN_DOWNGRADE = 21,
    PUTFH = 22,
    PUTPUBFH = 23,
    PUTROOTFH = 24,
    READ = 25,
    READDIR = 26,
    READLINK = 27,
    REMOVE = 28,
    RENAME = 29,
    RENEW = 30,
    RESTOREFH = 31,
    SAVEFH = 32,
    SECINFO = 33,
    SETATTR = 34,
    SETCLIENTID = 35,
    SETCLIENTID_CONFIRM = 36,
    VERIFY = 37,
    WRITE = 38,
    RELEASE_LOCKOWNER = 39,
    BACKCHANNEL_CTL = 40,
    BIND_CONN_TO_SESSION = 41,
    EXCHANGE_ID = 42,
    CREATE_SESSION = 43,
    DESTROY_SESSION = 44,
    FREE_STATEID = 45,
    GET_DIR_DELEGATION = 46,
    GETDEVICEINFO = 47,
    GETDEVICELIST = 48,
    LAYOUTCOMMIT = 49,
    LAYOUTGET = 50,
    LAYOUTRETURN = 51,
    SECINFO_NO_NAME = 52,
    SEQUENCE = 53,
    SET_SSV = 54,
    TEST_STATEID = 55,
    WANT_DELEGATION = 56,
    DESTROY_CLIENTID = 57,
    RECLAIM_COMPLETE = 58,
    ALLOCATE = 59,
    COPY = 60,
    COPY_NOTIFY = 61,
    DEALLOCATE = 62,
    IO_ADVISE = 63,
    LAYOUTERROR = 64,
    LAYOUTSTATS = 65,
    OFFLOAD_CANCEL = 66,
    OFFLOAD_STATUS = 67,
    READ_PLUS = 68,
    SEEK = 69,
    WRITE_SAME = 70,
    CLONE = 71,
    GETXATTR = 72,
    SETXATTR = 73,
    LISTXATTRS = 74,
    REMOVEXATTR = 75,
    ILLEGAL = 10044,
}

/// Whether the minor version has an operation `number`.
pub const fn exists(number: u32, minor: u32) -> bool {
    let last = if minor >= 2 { LAST_OF_2 } else { LAST_OF_1 };
    number >= FIRST && number <= last
}

/// Whether the operation may stand first in a compound that has no SEQUENCE, and alone then: those that
/// make what SEQUENCE needs, or take it away.
pub const fn stands_alone(number: u32) -> bool {
    matches!(number, EXCHANGE_ID | CREATE_SESSION | BIND_CONN_TO_SESSION | DESTROY_SESSION | DESTROY_CLIENTID)
}

/// Whether the operation changes what the server keeps, so that it must not be cut short.
pub const fn changes_state(number: u32) -> bool {
    matches!(
        number,
        CLOSE
            | LOCK
            | LOCKU
            | OPEN
            | OPEN_DOWNGRADE
            | BIND_CONN_TO_SESSION
            | EXCHANGE_ID
            | CREATE_SESSION
            | DESTROY_SESSION
            | FREE_STATEID
            | DESTROY_CLIENTID
            | RECLAIM_COMPLETE
    )
}

/// The minor version that has extended attributes, their access bits and the attributes of RFC 7862.
pub const MINOR_OF_XATTRS: u32 = 2;
