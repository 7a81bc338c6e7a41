//! A strict decoder of `COMPOUND4res`: what is not XDR to the letter ends the test.

use std::collections::BTreeMap;

use super::code::{Code, DENIED, OK};
use super::op::{self, Channel, Stateid};

/// The results of a COMPOUND.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: Code,
    pub tag: Vec<u8>,
    pub results: Vec<Outcome>,
    /// All of it as it came.
    pub bytes: Vec<u8>,
}

/// How one operation went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub op: u32,
    pub status: Code,
    pub body: Body,
}

/// What an operation gave besides its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Nothing,
    Access { supported: u32, access: u32 },
    Attributes(Attributes),
    Handle(Vec<u8>),
    Stateid(Stateid),
    Denied { offset: u64, length: u64, kind: u32, owner: Vec<u8> },
    Open { stateid: Stateid, flags: u32, set: Vec<u32>, delegation: u32 },
    Read { eof: bool, data: Vec<u8> },
    ReadDir { verifier: [u8; 8], entries: Vec<Entry>, eof: bool },
    Link(Vec<u8>),
    Flavors(Vec<u32>),
    Bound { session: [u8; 16], direction: u32 },
    Client { id: u64, sequence: u32, flags: u32, server: Vec<u8>, scope: Vec<u8> },
    Session { id: [u8; 16], sequence: u32, flags: u32, fore: Channel, back: Channel },
    Sequence { session: [u8; 16], sequence: u32, slot: u32, highest: u32, target: u32, flags: u32 },
    Statuses(Vec<Code>),
    Segments { eof: bool, segments: Vec<Segment> },
    Sought { eof: bool, offset: u64 },
    Value(Vec<u8>),
    Names { cookie: u64, names: Vec<Vec<u8>>, eof: bool },
}

/// `read_plus_content`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Data { offset: u64, data: Vec<u8> },
    Hole { offset: u64, length: u64 },
}

/// `entry4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub cookie: u64,
    pub name: Vec<u8>,
    pub attributes: Attributes,
    /// Bytes of the entry in the list.
    pub len: usize,
}

/// `fattr4`, taken apart: the XDR of each attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub mask: Vec<u32>,
    pub values: BTreeMap<u32, Vec<u8>>,
}

impl Attributes {
    pub fn has(&self, number: u32) -> bool {
        self.values.contains_key(&number)
    }

    pub fn word(&self, number: u32) -> u32 {
        u32::from_be_bytes(self.values[&number][..].try_into().unwrap())
    }

    pub fn long(&self, number: u32) -> u64 {
        u64::from_be_bytes(self.values[&number][..].try_into().unwrap())
    }

    pub fn opaque(&self, number: u32) -> Vec<u8> {
        let mut wire = Wire(&self.values[&number]);
        wire.opaque(1 << 20)
    }

    /// A bitmap attribute as attribute numbers.
    pub fn set(&self, number: u32) -> Vec<u32> {
        let mut wire = Wire(&self.values[&number]);
        numbers(&wire.mask())
    }

    /// As arguments of VERIFY.
    pub fn fattr(&self) -> op::Fattr {
        op::Fattr { mask: self.mask.clone(), values: self.values.values().flatten().copied().collect() }
    }
}

/// The attribute numbers of a `bitmap4`.
pub fn numbers(mask: &[u32]) -> Vec<u32> {
    (0..mask.len() as u32 * 32).filter(|n| mask[*n as usize / 32] >> (n % 32) & 1 == 1).collect()
}

impl Reply {
    /// Decodes the results of a COMPOUND.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut wire = Wire(bytes);
        let status = Code(wire.u32());
        let tag = wire.opaque(u32::MAX);
        let results: Vec<Outcome> = (0..wire.u32()).map(|_| outcome(&mut wire)).collect();
        assert!(wire.0.is_empty(), "{} bytes behind the results", wire.0.len());
        let last = results.last().map_or(status, |last| last.status);
        assert_eq!(last, status, "the status is that of the last operation, RFC 8881 section 16.2.3");
        let failed = results.iter().rev().skip(1).find(|result| result.status != OK);
        assert!(failed.is_none(), "execution goes on after {failed:?}");
        Self { status, tag, results, bytes: bytes.to_vec() }
    }

    /// All went well.
    #[track_caller]
    pub fn ok(self) -> Vec<Body> {
        assert_eq!(self.status, OK, "operation {:?}", self.results.last());
        self.results.into_iter().map(|result| result.body).collect()
    }

    /// What the last operation gave.
    #[track_caller]
    pub fn last(self) -> Body {
        self.ok().pop().unwrap()
    }
}

fn outcome(wire: &mut Wire<'_>) -> Outcome {
    let (op, status) = (wire.u32(), Code(wire.u32()));
    let body = match (op, status) {
        (op::SETATTR, _) => {
            // `attrsset` comes with errors, too: RFC 5662, SETATTR4res.
            wire.mask();
            Body::Nothing
        }
        (op::LOCK | op::LOCKT, DENIED) => {
            let (offset, length, kind) = (wire.u64(), wire.u64(), wire.u32());
            wire.u64();
            Body::Denied { offset, length, kind, owner: wire.opaque(1024) }
        }
        (_, OK) => body(op, wire),
        _ => Body::Nothing,
    };
    Outcome { op, status, body }
}

fn body(op: u32, wire: &mut Wire<'_>) -> Body {
    match op {
        op::ACCESS => Body::Access { supported: wire.u32(), access: wire.u32() },
        op::CLOSE | op::LOCK | op::LOCKU | op::OPEN_DOWNGRADE => Body::Stateid(wire.stateid()),
        op::GETATTR => Body::Attributes(wire.attributes()),
        op::GETFH => Body::Handle(wire.opaque(128)),
        op::OPEN => {
            let stateid = wire.stateid();
            // change_info4
            wire.bool();
            wire.take(16);
            let (flags, set, delegation) = (wire.u32(), wire.mask(), wire.u32());
            match delegation {
                0 => {}
                // OPEN_DELEGATE_NONE_EXT
                3 => {
                    if matches!(wire.u32(), 1 | 2) {
                        wire.bool();
                    }
                }
                other => panic!("a delegation of type {other}"),
            }
            Body::Open { stateid, flags, set, delegation }
        }
        op::READ => Body::Read { eof: wire.bool(), data: wire.opaque(1 << 20) },
        op::READDIR => {
            let verifier = wire.array();
            let mut entries = Vec::new();
            loop {
                let before = wire.0.len();
                if !wire.bool() {
                    break;
                }
                let (cookie, name, attributes) = (wire.u64(), wire.opaque(255), wire.attributes());
                entries.push(Entry { cookie, name, attributes, len: before - wire.0.len() });
            }
            Body::ReadDir { verifier, entries, eof: wire.bool() }
        }
        op::READLINK => Body::Link(wire.opaque(4096)),
        op::SECINFO | op::SECINFO_NO_NAME => {
            let flavors: Vec<u32> = (0..wire.u32()).map(|_| wire.u32()).collect();
            assert!(!flavors.contains(&6), "RPCSEC_GSS is not offered");
            Body::Flavors(flavors)
        }
        op::BIND_CONN_TO_SESSION => {
            let (session, direction) = (wire.array(), wire.u32());
            assert!(!wire.bool(), "RDMA");
            Body::Bound { session, direction }
        }
        op::EXCHANGE_ID => {
            let (id, sequence, flags) = (wire.u64(), wire.u32(), wire.u32());
            assert_eq!(wire.u32(), 0, "SP4_NONE");
            wire.u64();
            let (server, scope) = (wire.opaque(1024), wire.opaque(1024));
            if wire.bool() {
                wire.opaque(1024);
                wire.opaque(1024);
                wire.time();
            }
            Body::Client { id, sequence, flags, server, scope }
        }
        op::CREATE_SESSION => Body::Session {
            id: wire.array(),
            sequence: wire.u32(),
            flags: wire.u32(),
            fore: wire.channel(),
            back: wire.channel(),
        },
        op::SEQUENCE => Body::Sequence {
            session: wire.array(),
            sequence: wire.u32(),
            slot: wire.u32(),
            highest: wire.u32(),
            target: wire.u32(),
            flags: wire.u32(),
        },
        op::TEST_STATEID => Body::Statuses((0..wire.u32()).map(|_| Code(wire.u32())).collect()),
        op::READ_PLUS => {
            let eof = wire.bool();
            let segments = (0..wire.u32()).map(|_| match wire.u32() {
                0 => Segment::Data { offset: wire.u64(), data: wire.opaque(1 << 20) },
                1 => Segment::Hole { offset: wire.u64(), length: wire.u64() },
                other => panic!("content of type {other}"),
            });
            Body::Segments { eof, segments: segments.collect() }
        }
        op::SEEK => Body::Sought { eof: wire.bool(), offset: wire.u64() },
        op::GETXATTR => Body::Value(wire.opaque(1 << 16)),
        op::LISTXATTRS => {
            let cookie = wire.u64();
            let names = (0..wire.u32()).map(|_| wire.opaque(255)).collect();
            Body::Names { cookie, names, eof: wire.bool() }
        }
        _ => Body::Nothing,
    }
}

/// What is left of a reply.
pub struct Wire<'a>(pub &'a [u8]);

impl<'a> Wire<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at_checked(len).expect("the reply ends early");
        self.0 = rest;
        head
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        assert_eq!(N % 4, 0);
        self.take(N).try_into().unwrap()
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub fn bool(&mut self) -> bool {
        let value = self.u32();
        assert!(value <= 1, "{value} is no boolean");
        value == 1
    }

    pub fn opaque(&mut self, limit: u32) -> Vec<u8> {
        let len = self.u32();
        assert!(len <= limit, "{len} bytes where {limit} are the most");
        let bytes = self.take(len as usize);
        let padding = self.take(bytes.len().next_multiple_of(4) - bytes.len());
        assert!(padding.iter().all(|byte| *byte == 0), "padding is zero");
        bytes.to_vec()
    }

    fn stateid(&mut self) -> Stateid {
        Stateid { seqid: self.u32(), other: self.array() }
    }

    fn mask(&mut self) -> Vec<u32> {
        (0..self.u32()).map(|_| self.u32()).collect()
    }

    fn channel(&mut self) -> Channel {
        let channel = Channel {
            padding: self.u32(),
            request: self.u32(),
            response: self.u32(),
            cached: self.u32(),
            operations: self.u32(),
            slots: self.u32(),
        };
        assert!(!self.bool(), "RDMA");
        channel
    }

    fn time(&mut self) {
        self.u64();
        assert!(self.u32() < 1_000_000_000, "nanoseconds");
    }

    fn attributes(&mut self) -> Attributes {
        let mask = self.mask();
        assert_ne!(mask.last(), Some(&0), "a mask has no empty words at its end");
        let bytes = self.opaque(1 << 20);
        let mut wire = Wire(&bytes);
        let mut values = BTreeMap::new();
        for number in numbers(&mask) {
            let before = wire.0;
            wire.attribute(number);
            values.insert(number, before[..before.len() - wire.0.len()].to_vec());
        }
        assert!(wire.0.is_empty(), "{} bytes behind the attributes", wire.0.len());
        Attributes { mask, values }
    }

    /// One attribute, RFC 8881 section 5, RFC 7862 section 12, RFC 8276 section 8.2.
    fn attribute(&mut self, number: u32) {
        match number {
            0 | 75 => _ = self.mask(),
            1 => assert!((1..=9).contains(&self.u32()), "nfs_ftype4"),
            2 | 10 | 11 | 13 | 28 | 29 | 33 | 35 | 65 | 66 | 76 | 77 | 79 => _ = self.u32(),
            3 | 4 | 20..=23 | 27 | 30 | 31 | 38..=40 | 42..=45 | 55 | 78 => _ = self.u64(),
            5..=7 | 9 | 14..=18 | 25 | 26 | 34 | 46 | 82 => _ = self.bool(),
            8 | 60 => _ = self.take(16),
            12 => {
                for _ in 0..self.u32() {
                    self.take(12);
                    self.opaque(1024);
                }
            }
            19 => _ = self.opaque(128),
            24 => {
                self.pathname();
                for _ in 0..self.u32() {
                    for _ in 0..self.u32() {
                        self.opaque(1024);
                    }
                    self.pathname();
                }
            }
            32 | 36 | 37 => assert!(String::from_utf8(self.opaque(1024)).is_ok(), "utf8str"),
            41 => _ = self.take(8),
            47 | 49..=53 => self.time(),
            62 | 64 => {
                for _ in 0..self.u32() {
                    self.u32();
                }
            }
            other => panic!("attribute {other} was not to be expected"),
        }
    }

    fn pathname(&mut self) {
        for _ in 0..self.u32() {
            self.opaque(255);
        }
    }
}
