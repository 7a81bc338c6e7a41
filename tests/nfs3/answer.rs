//! Calls of NFSv3 and MOUNT v3, and a strict decoder of what servers answer. Shares no code with the
//! front end but the writer of arguments.

use bytes::Bytes;
use nfs_verity::wire::Writer;

use super::support::{MOUNT, NFS};

/// Something that each of two servers has its own form of.
pub type Pair<T> = [T; 2];

/// A call that two servers are asked at once.
#[derive(Clone, Debug)]
pub enum Call {
    Mount { path: Bytes },
    GetAttr { object: Pair<Bytes> },
    Lookup { directory: Pair<Bytes>, name: Bytes },
    Access { object: Pair<Bytes>, wanted: u32 },
    ReadLink { link: Pair<Bytes> },
    Read { file: Pair<Bytes>, offset: u64, count: u32 },
    ReadDir { directory: Pair<Bytes>, cookie: u64, verifier: Pair<u64>, count: u32 },
    ReadDirPlus { directory: Pair<Bytes>, cookie: u64, verifier: Pair<u64>, names: u32, count: u32 },
    FsInfo { object: Pair<Bytes> },
}

impl Call {
    /// Program and procedure.
    pub fn number(&self) -> (u32, u32) {
        match self {
            Self::Mount { .. } => (MOUNT, 1),
            Self::GetAttr { .. } => (NFS, 1),
            Self::Lookup { .. } => (NFS, 3),
            Self::Access { .. } => (NFS, 4),
            Self::ReadLink { .. } => (NFS, 5),
            Self::Read { .. } => (NFS, 6),
            Self::ReadDir { .. } => (NFS, 16),
            Self::ReadDirPlus { .. } => (NFS, 17),
            Self::FsInfo { .. } => (NFS, 19),
        }
    }

    /// The handle that the call names its object by.
    pub fn handle(&self) -> Option<&Pair<Bytes>> {
        match self {
            Self::Mount { .. } => None,
            Self::GetAttr { object: handle }
            | Self::Lookup { directory: handle, .. }
            | Self::Access { object: handle, .. }
            | Self::ReadLink { link: handle }
            | Self::Read { file: handle, .. }
            | Self::ReadDir { directory: handle, .. }
            | Self::ReadDirPlus { directory: handle, .. }
            | Self::FsInfo { object: handle } => Some(handle),
        }
    }

    /// Of a call that lists: the most bytes that good results may have.
    pub fn most(&self) -> Option<u32> {
        match self {
            Self::ReadDir { count, .. } | Self::ReadDirPlus { count, .. } => Some(*count),
            _ => None,
        }
    }

    /// The arguments for server `side`.
    pub fn write(&self, side: usize, w: &mut Writer) {
        if let Some(handle) = self.handle() {
            w.opaque(&handle[side]);
        }
        match self {
            Self::GetAttr { .. } | Self::ReadLink { .. } | Self::FsInfo { .. } => w,
            Self::Mount { path: name } | Self::Lookup { name, .. } => w.opaque(name),
            Self::Access { wanted, .. } => w.u32(*wanted),
            Self::Read { offset, count, .. } => w.u64(*offset).u32(*count),
            Self::ReadDir { cookie, verifier, count, .. } => w.u64(*cookie).u64(verifier[side]).u32(*count),
            Self::ReadDirPlus { cookie, verifier, names, count, .. } => {
                w.u64(*cookie).u64(verifier[side]).u32(*names).u32(*count)
            }
        };
    }
}

/// A field of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Bytes),
    /// A file handle: each server has its own.
    Handle(Bytes),
}

/// Fields in the order of the wire.
pub type Fields = Vec<(&'static str, Value)>;

/// [`Answer::status`] of a call whose arguments were refused as a whole (GARBAGE_ARGS).
pub const GARBAGE: u64 = 1 << 32;

/// What a server answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u64,
    pub fields: Fields,
    /// Of READDIR and READDIRPLUS.
    pub entries: Vec<Fields>,
    pub verifier: u64,
    /// Bytes behind the status.
    pub len: usize,
}

impl Answer {
    /// Decodes a reply to `call` in full. Panics when it is not XDR to the letter.
    pub fn decode(call: &Call, xid: u32, reply: &[u8]) -> Self {
        let mut r = Wire(reply);
        assert_eq!((r.u32(), r.u32(), r.u32()), (xid, 1, 0), "an accepted reply to the call");
        assert_eq!((r.u32(), r.u32()), (0, 0), "a verifier of AUTH_NONE");
        let mut answer =
            Self { status: GARBAGE, fields: Vec::new(), entries: Vec::new(), verifier: 0, len: 0 };
        let accepted = r.u32();
        if accepted == 0 {
            answer.status = r.u32().into();
            answer.len = r.0.len();
            answer.results(call, &mut r);
        } else {
            assert_eq!(accepted, 4, "GARBAGE_ARGS is the only other answer");
        }
        assert!(r.0.is_empty(), "{} bytes behind the results", r.0.len());
        answer
    }

    fn results(&mut self, call: &Call, r: &mut Wire<'_>) {
        let fields = &mut self.fields;
        let failed = self.status != 0;
        match call {
            Call::Mount { .. } | Call::GetAttr { .. } if failed => {}
            Call::Mount { .. } => {
                fields.push(("handle", Value::Handle(r.opaque(64))));
                let flavors = (0..r.u32()).flat_map(|_| r.u32().to_be_bytes()).collect();
                fields.push(("flavors", Value::Bytes(flavors)));
            }
            Call::GetAttr { .. } => r.attributes(fields),
            Call::Lookup { .. } => {
                if !failed {
                    fields.push(("handle", Value::Handle(r.opaque(64))));
                    r.optional_attributes(fields);
                }
                r.optional_attributes(fields);
            }
            Call::Access { .. }
            | Call::ReadLink { .. }
            | Call::Read { .. }
            | Call::FsInfo { .. }
            | Call::ReadDir { .. }
            | Call::ReadDirPlus { .. } => r.optional_attributes(fields),
        }
        if failed {
            return;
        }
        match call {
            Call::Mount { .. } | Call::GetAttr { .. } | Call::Lookup { .. } => {}
            Call::Access { wanted, .. } => {
                let granted = r.u32();
                assert_eq!(granted & !wanted, 0, "more was granted than asked about");
                fields.push(("access", Value::Number(granted.into())));
            }
            Call::ReadLink { .. } => fields.push(("target", Value::Bytes(r.opaque(4096)))),
            Call::Read { count, .. } => {
                let returned = r.u32();
                fields.push(("eof", Value::Number(r.bool().into())));
                let data = r.opaque(*count);
                assert_eq!(data.len(), returned as usize, "the count is that of the data");
                fields.push(("data", Value::Bytes(data)));
            }
            Call::FsInfo { .. } => {
                for name in ["rtmax", "rtpref", "rtmult", "wtmax", "wtpref", "wtmult", "dtpref"] {
                    fields.push((name, Value::Number(r.u32().into())));
                }
                fields.push(("maxfilesize", Value::Number(r.u64())));
                for name in ["time_delta.seconds", "time_delta.nanos", "properties"] {
                    fields.push((name, Value::Number(r.u32().into())));
                }
            }
            Call::ReadDir { .. } | Call::ReadDirPlus { .. } => {
                self.verifier = r.u64();
                while r.bool() {
                    let mut entry = vec![
                        ("fileid", Value::Number(r.u64())),
                        ("name", Value::Bytes(r.opaque(255))),
                        ("cookie", Value::Number(r.u64())),
                    ];
                    if matches!(call, Call::ReadDirPlus { .. }) {
                        r.optional_attributes(&mut entry);
                        if r.bool() {
                            entry.push(("handle", Value::Handle(r.opaque(64))));
                        }
                    }
                    self.entries.push(entry);
                }
                fields.push(("eof", Value::Number(r.bool().into())));
            }
        }
    }
}

/// The field `name` as a number.
pub fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.iter().find_map(|(field, value)| match value {
        Value::Number(value) if *field == name => Some(*value),
        _ => None,
    })
}

/// The field `name` as bytes.
pub fn bytes<'a>(fields: &'a Fields, name: &str) -> Option<&'a Bytes> {
    fields.iter().find_map(|(field, value)| match value {
        Value::Bytes(value) | Value::Handle(value) if *field == name => Some(value),
        _ => None,
    })
}

/// What is left of a reply.
struct Wire<'a>(&'a [u8]);

impl Wire<'_> {
    fn take(&mut self, len: usize) -> Bytes {
        let (head, rest) = self.0.split_at_checked(len).expect("the reply ends early");
        self.0 = rest;
        Bytes::copy_from_slice(head)
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4)[..].try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8)[..].try_into().unwrap())
    }

    fn bool(&mut self) -> bool {
        let value = self.u32();
        assert!(value <= 1, "{value} is no boolean");
        value == 1
    }

    fn opaque(&mut self, limit: u32) -> Bytes {
        let len = self.u32();
        assert!(len <= limit, "{len} bytes where {limit} are the most");
        let bytes = self.take(len as usize);
        let padding = self.take(bytes.len().next_multiple_of(4) - bytes.len());
        assert!(padding.iter().all(|byte| *byte == 0), "padding is zero");
        bytes
    }

    /// `fattr3`.
    fn attributes(&mut self, fields: &mut Fields) {
        let kind = self.u32();
        assert!((1..=7).contains(&kind), "{kind} is no ftype3");
        fields.push(("type", Value::Number(kind.into())));
        for name in ["mode", "nlink", "uid", "gid"] {
            fields.push((name, Value::Number(self.u32().into())));
        }
        for name in ["size", "used", "rdev", "fsid", "fileid"] {
            fields.push((name, Value::Number(self.u64())));
        }
        for name in ["atime", "mtime", "ctime"] {
            let (seconds, nanos) = (u64::from(self.u32()), u64::from(self.u32()));
            assert!(nanos < 1_000_000_000);
            fields.push((name, Value::Number(seconds << 32 | nanos)));
        }
    }

    /// `post_op_attr`.
    fn optional_attributes(&mut self, fields: &mut Fields) {
        let there = self.bool();
        fields.push(("attributes", Value::Number(there.into())));
        if there {
            self.attributes(fields);
        }
    }
}
