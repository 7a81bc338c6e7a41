//! Connections over streams in memory.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::event::Silent;
use crate::proto::rpc::Limits;
use crate::wire::Writer;

/// Answers its arguments, at once or later by turns.
struct Echo;

impl Program for Echo {
    fn number(&self) -> u32 {
        9
    }
    fn version(&self) -> u32 {
        1
    }
    fn name(&self) -> &'static str {
        "echo"
    }
    fn procedure_name(&self, _: u32) -> &'static str {
        "ECHO"
    }
    fn reply_bound(&self, _: u32, arguments: &[u8]) -> usize {
        4 + arguments.len()
    }
    fn remembered(&self, _: u32) -> bool {
        false
    }
    fn call(self: Arc<Self>, _: CallContext, later: u32, arguments: Bytes) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if later == 1 {
                tokio::task::yield_now().await;
            }
            let mut results = Writer::default();
            let length = u32::try_from(arguments.len()).unwrap();
            results.payload([arguments], length);
            Outcome::Done { results, ok: true }
        })
    }
}

/// Ends after so many polls more, and answers how many calls had begun then; the highest bit tells that it ended on the
/// task that it began on.
#[derive(Default)]
struct Beside(std::sync::atomic::AtomicUsize);

impl Program for Beside {
    fn number(&self) -> u32 {
        9
    }
    fn version(&self) -> u32 {
        1
    }
    fn name(&self) -> &'static str {
        "beside"
    }
    fn procedure_name(&self, _: u32) -> &'static str {
        "BESIDE"
    }
    fn reply_bound(&self, _: u32, _: &[u8]) -> usize {
        4
    }
    fn remembered(&self, _: u32) -> bool {
        false
    }
    fn call(self: Arc<Self>, _: CallContext, polls: u32, _: Bytes) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let task = tokio::task::id();
            self.0.fetch_add(1, Relaxed);
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            let mut results = Writer::default();
            let begun = u32::try_from(self.0.load(Relaxed)).unwrap();
            results.u32(begun | u32::from(tokio::task::id() == task) << 31);
            Outcome::Done { results, ok: true }
        })
    }
}

/// Those that need two polls stay on the connection's task, and have their second one when all have begun.
#[tokio::test]
async fn calls_that_came_together_begin_before_those_that_wait_are_asked_again() {
    let hub = Arc::new(Hub::new(vec![Arc::<Beside>::default()], Limits::default(), Arc::new(Silent)));
    let (near, mut far) = tokio::io::duplex(10_000);
    let (sender, messages) = mpsc::unbounded_channel();
    let peer = hub.enter(SocketAddr::from(([127, 0, 0, 1], 1)), sender);
    let served = tokio::spawn(async move { Connection::new(near, hub, peer, messages).run().await });
    let mut calls = Vec::new();
    for (xid, polls) in [1, 0, 2, 1].into_iter().enumerate() {
        let mut w = Writer::default();
        w.u32(0x8000_0000 | 40).u32(u32::try_from(xid).unwrap()).u32(0).u32(2).u32(9).u32(1).u32(polls);
        w.u32(0).u32(0).u32(0).u32(0);
        calls.extend(w.finish().concat());
    }
    far.write_all(&calls).await.unwrap();
    let here = 0x8000_0000;
    let mut answers = [0; 4];
    for _ in answers {
        let mut reply = [0; 32];
        far.read_exact(&mut reply).await.unwrap();
        let word = |n: usize| u32::from_be_bytes(reply[n * 4..][..4].try_into().unwrap());
        answers[word(1) as usize] = word(7);
    }
    assert_eq!(answers, [here | 4, here | 2, 4, here | 4]);
    far.shutdown().await.unwrap();
    assert_eq!(served.await.unwrap(), End::plain("closed by peer"));
}

#[tokio::test]
async fn any_byte_stream_is_served_and_all_budgets_come_back() {
    let hub = Arc::new(Hub::new(vec![Arc::new(Echo)], Limits::default(), Arc::new(Silent)));
    // So narrow that every reply is written in many parts.
    let (near, mut far) = tokio::io::duplex(100);
    let (sender, messages) = mpsc::unbounded_channel();
    let peer = hub.enter(SocketAddr::from(([127, 0, 0, 1], 1)), sender);
    let shared = Arc::clone(&hub);
    let served = tokio::spawn(async move { Connection::new(near, shared, peer, messages).run().await });
    for (xid, size) in [(0, 0), (1, 8), (2, 1000), (3, 60_000), (4, 100_000)] {
        let mut w = Writer::default();
        w.u32(0x8000_0000 | (40 + size)).u32(xid).u32(0).u32(2).u32(9).u32(1).u32(xid % 2);
        w.u32(0).u32(0).u32(0).u32(0).fixed(&vec![5; size as usize]);
        let mut reply = vec![0; 4 + 24 + 4 + size as usize];
        far.write_all(&w.finish().concat()).await.unwrap();
        far.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[..8], [(0x8000_0000 | (28 + size)).to_be_bytes(), xid.to_be_bytes()].concat());
        assert_eq!(reply[28..32], size.to_be_bytes());
        assert!(reply[32..].iter().all(|&byte| byte == 5));
    }
    far.shutdown().await.unwrap();
    assert_eq!(served.await.unwrap(), End::plain("closed by peer"));
    let limits = Limits::default();
    assert!(hub.replies.try_take(limits.reply_bytes, Claim::Small));
    assert!(hub.records.try_take(limits.record_bytes, Claim::Any));
}
