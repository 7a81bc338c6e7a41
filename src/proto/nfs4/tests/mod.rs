//! Compounds over an export of a small tree, laid out by hand and byte for byte.

mod args;
mod compounds;
mod results;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Journal, State, StateLimits, StateOptions};
use super::{COMPOUND, ImaNumbers, Nfs4, Nfs4Options, OPERATIONS_MAX, RESPONSE_MAX, op};
use crate::export::{Export, READ_MAX};
use crate::policy::Mode;
use crate::proto::fixture::{self, bytes};
use crate::proto::rpc::BoxFuture;
use crate::wire::{Reader, Writer};

struct Forgetful;

impl Journal for Forgetful {
    fn add(&self, _: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

const IMA: ImaNumbers = ImaNumbers { attribute: 87, error: Some(10200) };

fn program(mode: Mode, ima: Option<ImaNumbers>) -> Arc<Nfs4> {
    program_of(fixture::export(mode), ima)
}

fn program_of(export: Arc<Export>, ima: Option<ImaNumbers>) -> Arc<Nfs4> {
    let options = StateOptions {
        lease: Duration::from_secs(90),
        survivors: Vec::new(),
        journal: Arc::new(Forgetful),
        limits: StateLimits {
            request: 130 << 10,
            response: RESPONSE_MAX,
            operations: OPERATIONS_MAX,
            ..StateLimits::default()
        },
        secret: [3; 32],
    };
    let state = State::new(options, Instant::now());
    Arc::new(Nfs4::new(Nfs4Options { export, state, owner: b"gateway".to_vec(), ima }))
}

/// An operation with arguments.
fn operation(number: u32, write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    [number.to_be_bytes().to_vec(), bytes(write)].concat()
}

/// One without.
fn plain(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// `COMPOUND4args` with the tag `tag`.
fn compound(minor: u32, operations: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(operations.len()).unwrap();
    [bytes(|w| w.opaque(b"tag").u32(minor).u32(count)), operations.concat()].concat()
}

/// What was answered: the status, how many results, and the results.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u32,
    count: u32,
    results: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let mut r = Reader::new(bytes);
        let status = r.u32().unwrap();
        assert_eq!(r.opaque(16).unwrap(), b"tag");
        Self { status, count: r.u32().unwrap(), results: r.rest().to_vec() }
    }

    /// The last operation and its status.
    fn last(&self) -> (u32, u32) {
        let tail = self.results.len() - 8;
        let mut r = Reader::new(&self.results[tail..]);
        (r.u32().unwrap(), r.u32().unwrap())
    }
}

fn call(program: &Arc<Nfs4>, minor: u32, operations: &[Vec<u8>]) -> Answer {
    let (bytes, ok) = fixture::results(program, COMPOUND, &compound(minor, operations));
    let answer = Answer::parse(&bytes);
    assert_eq!(ok, answer.status == 0);
    answer
}

/// A session of a client of its own.
struct Session {
    program: Arc<Nfs4>,
    minor: u32,
    id: [u8; 16],
    sequence: u32,
    kept: bool,
}

/// `channel_attrs4`.
fn channel(w: &mut Writer, response: u32, cached: u32, operations: u32) -> &mut Writer {
    w.u32(0).u32(1 << 20).u32(response).u32(cached).u32(operations).u32(16).u32(0)
}

fn exchange_id(owner: &[u8]) -> Vec<u8> {
    operation(op::EXCHANGE_ID, |w| w.fixed(b"verifier").opaque(owner).u32(0x101).u32(0).u32(0))
}

impl Session {
    fn new(program: &Arc<Nfs4>, minor: u32) -> Self {
        Self::with(program, minor, b"client", 2 << 20, 4096, 100)
    }

    fn with(
        program: &Arc<Nfs4>,
        minor: u32,
        owner: &[u8],
        response: u32,
        cached: u32,
        operations: u32,
    ) -> Self {
        let exchanged = call(program, minor, &[exchange_id(owner)]);
        assert_eq!(exchanged.status, 0);
        let mut r = Reader::new(&exchanged.results[8..]);
        let (client, sequence) = (r.u64().unwrap(), r.u32().unwrap());
        let create = operation(op::CREATE_SESSION, |w| {
            w.u64(client).u32(sequence).u32(0);
            channel(w, response, cached, operations);
            channel(w, 4096, 0, 2).u32(0x4000_0000).u32(1).u32(0)
        });
        let created = call(program, minor, &[create]);
        assert_eq!(created.status, 0);
        let id = created.results[8..24].try_into().unwrap();
        let mut session = Self { program: program.clone(), minor, id, sequence: 0, kept: false };
        let complete = operation(op::RECLAIM_COMPLETE, |w| w.bool(false));
        // Of one client, only the first session is asked to.
        assert!(matches!(session.call(&[complete]).status, 0 | 10054));
        session
    }

    fn sequence(&self) -> Vec<u8> {
        operation(op::SEQUENCE, |w| w.fixed(&self.id).u32(self.sequence).u32(0).u32(0).bool(self.kept))
    }

    /// All of a compound that begins with SEQUENCE, which is not in the answer.
    fn call(&mut self, operations: &[Vec<u8>]) -> Answer {
        self.sequence += 1;
        self.again(operations)
    }

    /// The same under the number of the last one.
    fn again(&mut self, operations: &[Vec<u8>]) -> Answer {
        let all = [&[self.sequence()], operations].concat();
        let mut answer = call(&self.program, self.minor, &all);
        if answer.results.get(..8) == Some(&[0, 0, 0, 53, 0, 0, 0, 0]) {
            answer.results.drain(..44);
        }
        answer
    }

    /// The results of the last of `operations`, which all succeed.
    fn ok(&mut self, operations: &[Vec<u8>]) -> Vec<u8> {
        let answer = self.call(operations);
        assert_eq!(answer.status, 0, "{answer:?}");
        answer.results
    }

    /// The status of the compound, which is that of its last result.
    fn status(&mut self, operations: &[Vec<u8>]) -> u32 {
        let answer = self.call(operations);
        assert!(answer.status != 0);
        answer.status
    }

    /// The handle of `name` in the root.
    fn handle(&mut self, name: &[u8]) -> Vec<u8> {
        let results = self.ok(&[root(), lookup(name), plain(op::GETFH)]);
        Reader::new(&results[24..]).opaque(64).unwrap().to_vec()
    }
}

fn root() -> Vec<u8> {
    plain(op::PUTROOTFH)
}

fn lookup(name: &[u8]) -> Vec<u8> {
    operation(op::LOOKUP, |w| w.opaque(name))
}

/// OPEN of `name` in the current directory, to read.
fn open(name: &[u8]) -> Vec<u8> {
    operation(op::OPEN, |w| w.u32(0).u32(1).u32(0).u64(0).opaque(b"o").u32(0).u32(0).opaque(name))
}

/// READ with a special stateid: the current one if `current`, else the anonymous one.
fn read(current: bool, offset: u64, count: u32) -> Vec<u8> {
    operation(op::READ, |w| w.u32(u32::from(current)).fixed(&[0; 12]).u64(offset).u32(count))
}

fn getattr(words: &[u32]) -> Vec<u8> {
    operation(op::GETATTR, |w| {
        w.u32(u32::try_from(words.len()).unwrap());
        words.iter().fold(w, |w, word| w.u32(*word))
    })
}

fn readdir(cookie: u64, verifier: u64, count: u32, words: [u32; 2]) -> Vec<u8> {
    operation(op::READDIR, |w| {
        w.u64(cookie).u64(verifier).u32(0).u32(count).u32(2).u32(words[0]).u32(words[1])
    })
}
