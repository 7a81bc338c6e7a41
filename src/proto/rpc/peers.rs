//! What all connections of a server share, the table of them, and who is to go: those that are
//! idle, those that stand still, and, when memory is short, those that stand still the longest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::budget::Budget;
use super::connection::Message;
use super::replay::ReplyCache;
use super::{Limits, Program};
use crate::event::Sink;

/// A connection that stands still for this long may be closed for the memory it holds.
const STALLED: u64 = 250;
/// Between looks for such connections while somebody waits for memory.
const SHED_INTERVAL: Duration = Duration::from_millis(50);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// In a few words, for people.
    pub(super) reason: &'static str,
    /// What is still unsent in the kernel is to be thrown away too.
    pub(super) abrupt: bool,
}

impl End {
    pub(super) const fn plain(reason: &'static str) -> Self {
        Self { reason, abrupt: false }
    }

    pub(super) const fn abrupt(reason: &'static str) -> Self {
        Self { reason, abrupt: true }
    }
}

/// A connection as others see it. Its own task writes the numbers, at the end of every turn; times
/// are those of [`Hub::millis`].
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) sender: UnboundedSender<Message>,
    /// Told to end.
    ended: AtomicBool,
    /// When something moved last.
    pub(super) active: AtomicU64,
    /// True while calls run or replies are unsent.
    pub(super) busy: AtomicBool,
    /// When the incomplete record began, 0 without one.
    pub(super) record_since: AtomicU64,
    /// When that record grew last, 0 without one.
    pub(super) record_moved: AtomicU64,
    /// When unsent replies moved last, 0 without any.
    pub(super) write_moved: AtomicU64,
    /// Bytes held of the replies' budget.
    pub(super) reply_bytes: AtomicUsize,
    /// Bytes held of the records' budget.
    pub(super) record_bytes: AtomicUsize,
}

impl Peer {
    fn end(&self, end: End) {
        if !self.ended.swap(true, Relaxed) {
            // The receiver is gone when the connection is.
            let _ = self.sender.send(Message::End(end));
        }
    }
}

/// What the connections of one server share.
pub(super) struct Hub {
    pub(super) programs: Vec<Arc<dyn Program>>,
    pub(super) limits: Limits,
    pub(super) sink: Arc<dyn Sink>,
    /// For calls that run and replies that are not sent.
    pub(super) replies: Arc<Budget>,
    /// For records that are long and not complete.
    pub(super) records: Arc<Budget>,
    pub(super) cache: Arc<ReplyCache>,
    table: Mutex<Table>,
    epoch: Instant,
    nudge: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    peers: HashMap<u64, Arc<Peer>>,
}

impl Hub {
    pub(super) fn new(programs: Vec<Arc<dyn Program>>, limits: Limits, sink: Arc<dyn Sink>) -> Self {
        Self {
            programs,
            sink,
            replies: Budget::new(limits.reply_bytes, limits.reply_bytes / 8),
            records: Budget::new(limits.record_bytes, 0),
            limits,
            cache: Arc::default(),
            table: Mutex::default(),
            epoch: Instant::now(),
            nudge: Notify::new(),
        }
    }

    /// `at` in milliseconds since the server began, never 0.
    pub(super) fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Enters a connection in the table.
    pub(super) fn enter(&self, address: SocketAddr, sender: UnboundedSender<Message>) -> Arc<Peer> {
        let mut table = self.table.lock();
        let id = table.next;
        table.next += 1;
        let peer = Arc::new(Peer {
            id,
            address,
            sender,
            ended: AtomicBool::new(false),
            active: AtomicU64::new(self.millis(Instant::now())),
            busy: AtomicBool::new(false),
            record_since: AtomicU64::new(0),
            record_moved: AtomicU64::new(0),
            write_moved: AtomicU64::new(0),
            reply_bytes: AtomicUsize::new(0),
            record_bytes: AtomicUsize::new(0),
        });
        table.peers.insert(id, Arc::clone(&peer));
        let first = table.peers.len() == 1;
        drop(table);
        if first {
            self.nudge.notify_one();
        }
        peer
    }

    /// Takes a connection out of the table.
    pub(super) fn leave(&self, peer: &Peer) {
        self.table.lock().peers.remove(&peer.id);
    }

    /// Connections in the table.
    pub(super) fn connections(&self) -> usize {
        self.table.lock().peers.len()
    }

    /// Tells every connection to finish what runs and to close.
    pub(super) fn drain(&self) {
        for peer in self.table.lock().peers.values() {
            let _ = peer.sender.send(Message::Drain);
        }
    }

    /// Closes the `count` connections that did nothing for longest, those without work first.
    pub(super) fn close_idle(&self, count: usize, reason: &'static str) {
        let mut table = self.table.lock();
        let mut order: Vec<_> = table
            .peers
            .values()
            .map(|peer| (peer.busy.load(Relaxed), peer.active.load(Relaxed), peer.id))
            .collect();
        if order.len() > count {
            order.select_nth_unstable(count);
        }
        for (_, _, id) in order.into_iter().take(count) {
            if let Some(peer) = table.peers.remove(&id) {
                peer.end(End::plain(reason));
            }
        }
    }

    /// To be called when somebody begins to wait for a budget.
    pub(super) fn memory_is_short(&self) {
        self.nudge.notify_one();
    }

    /// Watches over the connections, for ever: one timer for all of them, none while there are
    /// none.
    pub(super) async fn watch(&self) {
        let limits = &self.limits;
        let shortest = limits.idle.min(limits.record_time).min(limits.write_time);
        let interval = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut next: Option<Instant> = None;
        loop {
            let pause = if self.replies.is_wanted() || self.records.is_wanted() {
                Some(SHED_INTERVAL)
            } else if self.table.lock().peers.is_empty() {
                None
            } else {
                Some(interval)
            };
            // An earlier deadline stands, so that nudges cannot put it off.
            next = pause.map(|pause| {
                let at = Instant::now() + pause;
                next.map_or(at, |earlier| earlier.min(at))
            });
            let Some(deadline) = next else {
                self.nudge.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {
                    next = None;
                    self.sweep();
                }
                () = self.nudge.notified() => {}
            }
        }
    }

    fn sweep(&self) {
        let limit = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (idle, record, write) =
            (limit(self.limits.idle), limit(self.limits.record_time), limit(self.limits.write_time));
        let table = self.table.lock();
        let now = self.millis(Instant::now());
        let over = |since: &AtomicU64, limit| {
            let since = since.load(Relaxed);
            since != 0 && now.saturating_sub(since) >= limit
        };
        for peer in table.peers.values() {
            if over(&peer.write_moved, write) {
                peer.end(End::abrupt("replies not read"));
            } else if over(&peer.record_since, record) {
                peer.end(End::plain("record not completed"));
            } else if !peer.busy.load(Relaxed) && over(&peer.active, idle) {
                peer.end(End::plain("idle"));
            }
        }
        let stalled = |bytes: &AtomicUsize, moved: &AtomicU64| {
            let bytes = bytes.load(Relaxed);
            (bytes > 0 && over(moved, STALLED)).then(|| (moved.load(Relaxed), bytes))
        };
        let replies = |peer: &Peer| stalled(&peer.reply_bytes, &peer.write_moved);
        let records = |peer: &Peer| stalled(&peer.record_bytes, &peer.record_moved);
        let end = End::abrupt("replies not read, memory short");
        end_stalled(&table, self.replies.wanted(), replies, end);
        let end = End::abrupt("record too slow, memory short");
        end_stalled(&table, self.records.wanted(), records, end);
    }
}

/// Ends connections that stand still, the longest first, until they held `wanted` bytes. `stalled`
/// tells since when one stands still and what it holds.
fn end_stalled(table: &Table, wanted: usize, stalled: impl Fn(&Peer) -> Option<(u64, usize)>, end: End) {
    if wanted == 0 {
        return;
    }
    let peers = table.peers.values();
    let mut order: Vec<_> =
        peers.filter_map(|peer| stalled(peer).map(|(since, bytes)| (since, bytes, peer))).collect();
    order.sort_unstable_by_key(|&(since, ..)| since);
    let mut freed = 0;
    for (_, bytes, peer) in order {
        if freed >= wanted {
            break;
        }
        peer.end(end);
        freed += bytes;
    }
}
