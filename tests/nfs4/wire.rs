//! A client of NFSv4.1 and 4.2 written from the RFCs: connections, clients, sessions.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nfs_verity::wire::Writer;

use super::code::{Code, OK};
use super::op::{self, Channel, Op, Stateid};
use super::reply::{Attributes, Body, Reply, Wire as Cursor};
use super::support::{NFS, receive_record, send_record};

/// The arguments of a COMPOUND.
pub fn arguments(tag: &[u8], minor: u32, ops: &[Op]) -> Vec<u8> {
    let mut w = Writer::default();
    w.opaque(tag).u32(minor).u32(ops.len() as u32);
    let mut bytes = w.finish().concat();
    for op in ops {
        bytes.extend_from_slice(&op.number.to_be_bytes());
        bytes.extend_from_slice(&op.body);
    }
    bytes
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The results.
    Accepted(Vec<u8>),
    /// `accept_stat`, when it is not SUCCESS.
    Refused(u32),
}

pub const GARBAGE_ARGS: u32 = 4;

/// One connection.
pub struct Wire {
    pub address: SocketAddr,
    pub stream: TcpStream,
    xid: u32,
    /// The AUTH_SYS user and group.
    pub uid: u32,
    pub minor: u32,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream, xid: 0, uid: 1000, minor: 2 }
    }

    /// A call's record, its mark included.
    pub fn record(&mut self, procedure: u32, arguments: &[u8]) -> Vec<u8> {
        self.xid += 1;
        let mut w = Writer::default();
        w.u32(self.xid).u32(0).u32(2).u32(NFS).u32(4).u32(procedure);
        w.u32(1).u32(24).u32(0).opaque(b"test").u32(self.uid).u32(self.uid).u32(0).u64(0);
        let mut call = w.finish().concat();
        call.extend_from_slice(arguments);
        let mut record = Vec::new();
        send_record(&mut record, &call);
        record
    }

    /// The next answer with its xid.
    pub fn answer(&mut self) -> Option<(u32, Answer)> {
        let reply = receive_record(&mut self.stream)?;
        let mut cursor = Cursor(&reply);
        let xid = cursor.u32();
        assert_eq!((cursor.u32(), cursor.u32()), (1, 0), "an accepted reply");
        assert_eq!((cursor.u32(), cursor.u32()), (0, 0), "a verifier of AUTH_NONE");
        let answer = match cursor.u32() {
            0 => Answer::Accepted(cursor.0.to_vec()),
            status => Answer::Refused(status),
        };
        Some((xid, answer))
    }

    /// One call of a procedure, 0 or 1.
    pub fn call(&mut self, procedure: u32, arguments: &[u8]) -> Answer {
        let record = self.record(procedure, arguments);
        self.stream.write_all(&record).unwrap();
        let (xid, answer) = self.answer().expect("an answer");
        assert_eq!(xid, self.xid);
        answer
    }

    /// A COMPOUND with arguments that are XDR.
    #[track_caller]
    pub fn raw(&mut self, arguments: &[u8]) -> Reply {
        match self.call(1, arguments) {
            Answer::Accepted(results) => Reply::decode(&results),
            Answer::Refused(status) => panic!("accept_stat {status}"),
        }
    }

    #[track_caller]
    pub fn compound(&mut self, ops: &[Op]) -> Reply {
        let arguments = arguments(b"", self.minor, ops);
        self.raw(&arguments)
    }

    /// A single operation, outside of a session: its status.
    #[track_caller]
    pub fn status(&mut self, op: Op) -> Code {
        self.compound(&[op]).status
    }

    /// EXCHANGE_ID: client id and sequence.
    #[track_caller]
    pub fn exchange(&mut self, owner: &[u8], verifier: [u8; 8]) -> (u64, u32) {
        match self.compound(&[op::exchange_id(owner, verifier, 0)]).last() {
            Body::Client { id, sequence, .. } => (id, sequence),
            other => panic!("{other:?}"),
        }
    }

    /// CREATE_SESSION: session id and what was granted.
    #[track_caller]
    pub fn create(&mut self, client: u64, sequence: u32, wanted: Channel) -> ([u8; 16], Channel) {
        match self.compound(&[op::create_session(client, sequence, wanted)]).last() {
            Body::Session { id, sequence: of, fore, .. } => {
                assert_eq!(of, sequence, "csr_sequence, RFC 8881 section 18.36.3");
                (id, fore)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A name that no other client has.
pub fn unique() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("client {} of {}", NEXT.fetch_add(1, Relaxed), std::process::id()).into_bytes()
}

/// A session of a client of its own, used one call at a time.
pub struct Session {
    pub wire: Wire,
    pub owner: Vec<u8>,
    pub verifier: [u8; 8],
    pub client: u64,
    pub id: [u8; 16],
    pub fore: Channel,
    /// The sequence of the last call on slot 0.
    pub sequence: u32,
    /// Of the next CREATE_SESSION.
    pub next: u32,
    pub cache: bool,
}

impl Session {
    /// A new client with a session, past RECLAIM_COMPLETE.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let mut session = Self::begin(address, &unique(), *b"verifier", Channel::USUAL);
        session.last(&[op::reclaim_complete(false)]);
        session
    }

    /// A session of the client `owner`, which has not said RECLAIM_COMPLETE.
    #[track_caller]
    pub fn begin(address: SocketAddr, owner: &[u8], verifier: [u8; 8], wanted: Channel) -> Self {
        Self::over(Wire::connect(address), owner, verifier, wanted)
    }

    #[track_caller]
    pub fn over(mut wire: Wire, owner: &[u8], verifier: [u8; 8], wanted: Channel) -> Self {
        let (client, first) = wire.exchange(owner, verifier);
        let (id, fore) = wire.create(client, first, wanted);
        let owner = owner.to_vec();
        Self {
            wire,
            owner,
            verifier,
            client,
            id,
            fore,
            sequence: 0,
            next: first.wrapping_add(1),
            cache: false,
        }
    }

    /// The next SEQUENCE on slot 0.
    pub fn step(&mut self) -> Op {
        self.sequence = self.sequence.checked_add(1).unwrap_or(0);
        op::sequence(self.id, self.sequence, 0, 0, self.cache)
    }

    /// A COMPOUND in the session; the results behind that of SEQUENCE.
    #[track_caller]
    pub fn run(&mut self, ops: &[Op]) -> Reply {
        let all: Vec<Op> = std::iter::once(self.step()).chain(ops.iter().cloned()).collect();
        let mut reply = self.wire.compound(&all);
        assert_eq!(reply.results.first().map(|first| (first.op, first.status)), Some((op::SEQUENCE, OK)));
        reply.results.remove(0);
        reply
    }

    /// All operations succeed; what the last one gave.
    #[track_caller]
    pub fn last(&mut self, ops: &[Op]) -> Body {
        self.run(ops).last()
    }

    /// The last operation fails so, and those before it succeed.
    #[track_caller]
    pub fn fails(&mut self, ops: &[Op], code: Code) {
        let reply = self.run(ops);
        let (number, count) = (ops.last().unwrap().number, reply.results.len());
        assert_eq!(reply.status, code, "operation {number}; {count} of {} were executed", ops.len());
        assert_eq!(count, ops.len(), "an operation before it failed");
        assert_eq!(reply.results.last().unwrap().op, number);
    }

    /// The status of the whole.
    #[track_caller]
    pub fn status(&mut self, ops: &[Op]) -> Code {
        self.run(ops).status
    }

    /// PUTROOTFH and a LOOKUP for each component.
    pub fn path(path: &str) -> Vec<Op> {
        let components = path.split('/').filter(|name| !name.is_empty());
        std::iter::once(op::putrootfh()).chain(components.map(|name| op::lookup(name.as_bytes()))).collect()
    }

    #[track_caller]
    pub fn find(&mut self, path: &str) -> Vec<u8> {
        match self.last(&[Self::path(path), vec![op::getfh()]].concat()) {
            Body::Handle(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn attributes(&mut self, handle: &[u8], wanted: &[u32]) -> Attributes {
        match self.last(&[op::putfh(handle), op::getattr(wanted)]) {
            Body::Attributes(attributes) => attributes,
            other => panic!("{other:?}"),
        }
    }

    /// OPEN for reading with CLAIM_FH.
    #[track_caller]
    pub fn open_file(&mut self, handle: &[u8], owner: &[u8]) -> Stateid {
        self.open_as(handle, owner, op::SHARE_READ, 0)
    }

    #[track_caller]
    pub fn open_as(&mut self, handle: &[u8], owner: &[u8], share: u32, deny: u32) -> Stateid {
        opened(self.last(&[op::putfh(handle), op::open(owner, share, deny, op::Claim::Fh)]))
    }

    #[track_caller]
    pub fn read(&mut self, handle: &[u8], stateid: Stateid, offset: u64, count: u32) -> (Vec<u8>, bool) {
        match self.last(&[op::putfh(handle), op::read(stateid, offset, count)]) {
            Body::Read { eof, data } => (data, eof),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn stateid(&mut self, ops: &[Op]) -> Stateid {
        match self.last(ops) {
            Body::Stateid(stateid) => stateid,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn test_stateids(&mut self, stateids: &[Stateid]) -> Vec<Code> {
        match self.last(&[op::test_stateid(stateids)]) {
            Body::Statuses(codes) => codes,
            other => panic!("{other:?}"),
        }
    }
}

/// The stateid of an OPEN.
#[track_caller]
pub fn opened(body: Body) -> Stateid {
    match body {
        Body::Open { stateid, .. } => stateid,
        other => panic!("{other:?}"),
    }
}
