//! The thread that writes, and what waits for it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::segment::{Cursor, Segment};
use super::{Key, Shared};

/// Bytes that wait for the disk at most; what comes then is not kept.
const WAITING: usize = 32 << 20;
/// How long a read of a segment that is removed is waited for, and between two looks, in milliseconds.
const READ_WAIT: u64 = 2000;
const PAUSE: u64 = 5;
/// What a waiting block takes beyond its bytes.
const OVERHEAD: usize = 256;

/// A block to be written.
pub(super) struct Job {
    key: Key,
    slot: u64,
    bytes: Bytes,
}

impl Job {
    pub(super) fn new(key: Key, slot: u64, bytes: Bytes) -> Self {
        Self { key, slot, bytes }
    }

    fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

enum Order {
    Write(Job),
    Flush(oneshot::Sender<()>),
}

#[derive(Default)]
struct Waiting {
    bytes: HashMap<u64, Bytes>,
    weight: usize,
}

/// What waits for the writer.
pub(super) struct Queue {
    orders: Sender<Order>,
    waiting: Arc<Mutex<Waiting>>,
    ended: oneshot::Receiver<()>,
}

impl Queue {
    /// False when there is no room for the block.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.contains_key(&job.slot) {
            return true;
        }
        if waiting.weight + job.weight() > WAITING {
            return false;
        }
        waiting.weight += job.weight();
        waiting.bytes.insert(job.slot, job.bytes.clone());
        // Sent under the lock, so that the writer cannot be done with it before it is counted.
        self.orders.send(Order::Write(job)).is_ok()
    }

    /// The bytes of a block that is not written yet.
    pub(super) fn waiting(&self, slot: u64) -> Option<Bytes> {
        self.waiting.lock().bytes.get(&slot).cloned()
    }

    /// Lets `done` know when all before it is written; false when there is no writer any more.
    pub(super) fn flush(&self, done: oneshot::Sender<()>) -> bool {
        self.orders.send(Order::Flush(done)).is_ok()
    }

    /// Waits for the writer's end.
    pub(super) async fn close(self) {
        let Self { orders, waiting: _, ended } = self;
        drop(orders);
        let _ = ended.await;
    }
}

/// Starts the writer, which ends when the queue is dropped.
pub(super) fn start(shared: Arc<Shared>, cursor: Option<Cursor>) -> io::Result<Queue> {
    let (orders, inbox) = channel();
    let (end, ended) = oneshot::channel();
    let waiting = Arc::<Mutex<Waiting>>::default();
    let newest = shared.segments.lock().last().map(|segment| segment.id);
    let writer = Writer { shared, waiting: waiting.clone(), cursor: newest.zip(cursor), last: 0 };
    std::thread::Builder::new().name("disk-cache".to_owned()).spawn(move || {
        writer.run(&inbox);
        let _ = end.send(());
    })?;
    Ok(Queue { orders, waiting, ended })
}

struct Writer {
    shared: Arc<Shared>,
    waiting: Arc<Mutex<Waiting>>,
    /// The segment that is written, and where it goes on.
    cursor: Option<(u32, Cursor)>,
    /// The last that was made.
    last: u32,
}

/// Whether there is no room on the disk, or none for the gateway.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.recv() {
            match order {
                Order::Write(job) => {
                    if self.shared.is_on()
                        && let Err(error) = self.write(&job)
                    {
                        self.shared.fail(&format!("cannot write: {error}"));
                    }
                    let mut waiting = self.waiting.lock();
                    waiting.weight = waiting.weight.saturating_sub(job.weight());
                    waiting.bytes.remove(&job.slot);
                }
                Order::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, job: &Job) -> io::Result<()> {
        let size = self.shared.segment_size;
        loop {
            let newest = self.shared.segments.lock().last().cloned();
            let Some((newest, (_, cursor))) =
                newest.zip(self.cursor.as_mut()).filter(|(newest, (id, _))| newest.id == *id)
            else {
                // The next try is in a segment that was just made.
                self.roll()?;
                continue;
            };
            match newest.append(cursor, size, &job.key, job.slot, &job.bytes) {
                Ok(Some(place)) => {
                    self.shared.index.insert(job.slot, place);
                    return Ok(());
                }
                // A segment without anything in it has room for every block.
                Ok(None) => self.cursor = None,
                // The file system promises no room, and others use it too.
                Err(error) if is_full(&error) => {
                    if cursor.is_at_start() && self.shared.segments.lock().len() <= 1 {
                        return Err(error);
                    }
                    drop(newest);
                    self.remove_oldest()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a new segment, and room for it.
    fn roll(&mut self) -> io::Result<()> {
        self.cursor = None;
        let mut limit = self.shared.segments_max;
        loop {
            while self.shared.segments.lock().len() >= limit.max(1) {
                self.remove_oldest()?;
            }
            let last = self.shared.segments.lock().last().map_or(0, |segment| segment.id);
            let id = last
                .max(self.last)
                .checked_add(1)
                .ok_or_else(|| io::Error::other("there are no numbers left"))?;
            match Segment::create(&self.shared.directory, id, self.shared.segment_size) {
                Ok((segment, cursor)) => {
                    self.shared.segments.lock().push(segment.into());
                    self.last = id;
                    self.cursor = Some((id, cursor));
                    return Ok(());
                }
                // Others use the disk too: what there is of it has to do.
                Err(error) if is_full(&error) => {
                    let have = self.shared.segments.lock().len();
                    if have == 0 {
                        return Err(error);
                    }
                    limit = have;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let oldest = {
            let mut segments = self.shared.segments.lock();
            if segments.is_empty() { None } else { Some(segments.remove(0)) }
        };
        let Some(oldest) = oldest else { return Ok(()) };
        match oldest.remove(&self.shared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Its room is free when nobody reads it any more; nobody can begin to.
        let mut patience = READ_WAIT / PAUSE;
        while Arc::strong_count(&oldest) > 1 && patience > 0 {
            std::thread::sleep(Duration::from_millis(PAUSE));
            patience -= 1;
        }
        Ok(())
    }
}
