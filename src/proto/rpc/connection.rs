//! One connection: a task that reads records, has calls executed, and writes replies as they come,
//! over any byte stream.
//!
//! A call takes the bytes of its largest reply from a budget before it runs and gives them back
//! when the reply is sent. What cannot be paid for stays unread in the kernel.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::budget::{Claim, Lease, Ticket};
use super::call::{Call, CallError};
use super::output::Output;
use super::peers::{End, Hub, Peer};
use super::replay::{Execution, Seen};
use super::reply::Answer;
use super::{BoxFuture, CallContext, Outcome, Program};
use crate::event::Event;
use crate::wire::RecordReader;

/// Bytes of input that every connection may hold without paying.
const INPUT: usize = 8 << 10;
/// Less room than this is not worth a read.
const MIN_READ: usize = 2 << 10;
/// Calls whose reply takes no more than this are tried at once, on the connection's task: 64 KiB of
/// data with what goes with them.
const INLINE: usize = 66 << 10;
/// What a call costs besides its reply: its future, and the input buffer that its arguments keep.
const CALL_COST: usize = INPUT;
/// What an error reply costs.
const ERROR_COST: usize = 256;
/// Unsent bytes up to which a connection that does not read may have further calls executed.
const LOW_WATER: usize = 256 << 10;
/// The same for one that reads, though slower than we write.
const HIGH_WATER: usize = 8 << 20;
/// Replies that moved within this time are being read.
const HEALTHY: Duration = Duration::from_millis(50);
/// Progress of unsent replies is counted in steps of this, so that single bytes are none.
const WRITE_STEP: usize = 4 << 10;
/// The same for records that are long and not complete.
const RECORD_STEP: usize = 16 << 10;
/// Calls executed between two writes.
const BATCH: usize = 32;
/// Rounds of reading, executing and writing before other tasks get their turn.
const ROUNDS: usize = 8;
/// Time after which they get it in any case; a call that is executed at once is not interrupted.
const SLICE: Duration = Duration::from_millis(1);
/// How long a drained connection waits for its peer to have read all.
const LINGER: Duration = Duration::from_millis(500);

const UNKNOWN: Label = Label { program: "unknown", procedure: "UNKNOWN" };
const DRAINED: End = End::plain("server stopped");

/// What others tell a connection.
#[derive(Debug)]
pub(super) enum Message {
    /// A spawned call ended.
    Done(Box<Done>),
    /// Finish what runs, then close.
    Drain,
    /// Close at once.
    End(End),
}

#[derive(Clone, Copy, Debug)]
struct Label {
    program: &'static str,
    procedure: &'static str,
}

/// How a spawned call ended.
#[derive(Debug)]
pub(super) struct Done {
    xid: u32,
    /// `None`: no reply is due.
    answer: Option<Answer>,
    lease: Lease,
    label: Label,
    duration: Duration,
}

/// A call that is not paid for yet.
struct Parked {
    xid: u32,
    work: Work,
    charge: usize,
    received: Instant,
    ticket: Option<Ticket>,
}

enum Work {
    Execute { call: Call, program: Arc<dyn Program>, label: Label, inline: bool },
    Refuse(Answer),
}

/// A call that is paid for.
#[derive(Clone, Copy)]
struct Paid {
    xid: u32,
    label: Label,
    received: Instant,
    charge: usize,
}

/// A call that began and did not end at once.
struct Begun {
    paid: Paid,
    future: BoxFuture<'static, Outcome>,
    execution: Option<Execution>,
    program: Arc<dyn Program>,
    procedure: u32,
    arguments: Bytes,
}

/// The state of one connection.
pub(super) struct Connection<S> {
    stream: S,
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    messages: UnboundedReceiver<Message>,
    input: BytesMut,
    reader: RecordReader,
    output: Output,
    parked: Option<Parked>,
    /// Calls that were spawned and have not ended.
    running: usize,
    /// Charges of running calls and unsent replies.
    charged: usize,
    /// Calls that may end when those beside them have begun; none between two rounds.
    begun: Vec<Begun>,
    /// Charges between being taken and being handed on.
    loose: usize,
    /// Bytes taken for an incomplete record.
    record_charge: usize,
    record_ticket: Option<Ticket>,
    record_since: Option<Instant>,
    record_moved: Instant,
    record_step: usize,
    write_moved: Instant,
    write_step: usize,
    /// The last write found no room.
    blocked: bool,
    unflushed: bool,
    eof: bool,
    draining: bool,
    /// When this turn began.
    now: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(
        stream: S,
        hub: Arc<Hub>,
        peer: Arc<Peer>,
        messages: UnboundedReceiver<Message>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            reader: RecordReader::new(hub.limits.max_record),
            hub,
            peer,
            messages,
            input: BytesMut::new(),
            output: Output::default(),
            parked: None,
            running: 0,
            charged: 0,
            begun: Vec::new(),
            loose: 0,
            record_charge: 0,
            record_ticket: None,
            record_since: None,
            record_moved: now,
            record_step: 0,
            write_moved: now,
            write_step: 0,
            blocked: false,
            unflushed: false,
            eof: false,
            draining: false,
            now,
        }
    }

    /// Serves until the connection ends. To be dropped soon after; the caller closes the stream.
    pub(super) async fn run(&mut self) -> End {
        let end = std::future::poll_fn(|cx| self.turn(cx)).await;
        if end == DRAINED && !self.output.is_unused() {
            // Closing while the peer's bytes are unread would reset the connection and with it
            // replies that are still under way.
            let goodbye = async {
                let mut rest = [0; 1024];
                self.stream.shutdown().await?;
                while self.stream.read(&mut rest).await? > 0 {}
                io::Result::Ok(())
            };
            let _ = tokio::time::timeout(LINGER, goodbye).await;
        }
        end
    }

    /// The stream, to set options on.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.now = Instant::now();
        let mut idle = true;
        for _ in 0..ROUNDS {
            if self.now.elapsed() >= SLICE {
                break;
            }
            match self.round(cx) {
                Ok(true) => idle = false,
                Ok(false) => {
                    self.publish(idle);
                    return if self.is_finished() {
                        Poll::Ready(if self.draining { DRAINED } else { End::plain("closed by peer") })
                    } else {
                        Poll::Pending
                    };
                }
                Err(end) => return Poll::Ready(end),
            }
        }
        self.publish(idle);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round; false when nothing moved, and then every waker that matters is registered.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let told = self.receive(cx)?;
        let executed = self.execute(cx)?;
        let wrote = self.write(cx)?;
        let read = self.read(cx)?;
        Ok(told | executed | wrote | read)
    }

    fn is_finished(&self) -> bool {
        (self.draining || self.eof)
            && self.parked.is_none()
            && self.running == 0
            && self.output.is_empty()
            && !self.unflushed
    }

    /// Shows the others how things stand.
    fn publish(&mut self, idle: bool) {
        let reads = self.parked.is_none() && !self.eof && self.running < self.limit();
        if reads && self.reader.is_partial(&self.input) {
            if self.record_since.is_none() {
                self.record_since = Some(self.now);
                self.record_moved = self.now;
                self.record_step = 0;
            }
        } else {
            self.record_since = None;
        }
        let (hub, peer) = (&self.hub, &self.peer);
        if !idle {
            peer.active.store(hub.millis(self.now), Relaxed);
        }
        let unsent = !self.output.is_empty();
        peer.busy.store(self.running > 0 || self.parked.is_some() || unsent, Relaxed);
        peer.record_since.store(self.record_since.map_or(0, |at| hub.millis(at)), Relaxed);
        let moved = self.record_since.map_or(0, |_| hub.millis(self.record_moved));
        peer.record_moved.store(moved, Relaxed);
        peer.record_bytes.store(self.record_charge, Relaxed);
        peer.write_moved.store(if unsent { hub.millis(self.write_moved) } else { 0 }, Relaxed);
        peer.reply_bytes.store(self.charged, Relaxed);
    }

    fn limit(&self) -> usize {
        self.hub.limits.calls_per_connection
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        // The table's `Peer` keeps a sender, so the channel does not close.
        while let Poll::Ready(Some(message)) = self.messages.poll_recv(cx) {
            moved = true;
            match message {
                Message::Done(done) => {
                    self.running -= 1;
                    let charge = done.lease.release();
                    match done.answer {
                        Some(answer) => self.answer(done.xid, answer, charge, done.label, done.duration),
                        None => self.refund(charge),
                    }
                }
                Message::Drain => {
                    self.draining = true;
                    self.parked = None;
                }
                Message::End(end) => return Err(end),
            }
        }
        Ok(moved)
    }

    /// Queues a reply that is paid for.
    fn answer(&mut self, xid: u32, answer: Answer, charge: usize, label: Label, duration: Duration) {
        let Label { program, procedure } = label;
        self.hub.sink.emit(&Event::Call { program, procedure, ok: answer.is_ok(), duration });
        if self.output.is_empty() {
            self.write_moved = self.now;
            self.write_step = 0;
        }
        self.output.push(xid, answer, charge);
    }

    fn refund(&mut self, charge: usize) {
        self.charged -= charge;
        self.hub.replies.give(charge);
    }

    /// Executes calls while they can be paid for.
    fn execute(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let moved = self.start_some(cx);
        // Also where the connection is to end: some must run to theirs.
        let mut begun = std::mem::take(&mut self.begun);
        begun.drain(..).for_each(|call| self.go_on(call, cx));
        self.begun = begun;
        moved
    }

    /// Begins calls while they can be paid for.
    fn start_some(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        for _ in 0..BATCH {
            if self.parked.is_none() && !self.draining {
                self.parked = self.next_call()?;
            }
            let Some(mut parked) = self.parked.take() else { break };
            if !self.admit(&mut parked, cx) {
                self.parked = Some(parked);
                break;
            }
            self.hub.records.give(std::mem::take(&mut self.record_charge));
            self.start(parked, cx);
            moved = true;
            if self.now.elapsed() >= SLICE {
                break;
            }
        }
        Ok(moved)
    }

    fn next_call(&mut self) -> Result<Option<Parked>, End> {
        let next = self.reader.next(&mut self.input);
        let Some(record) = next.map_err(|_| End::abrupt("record too long"))? else { return Ok(None) };
        self.record_since = None;
        if self.record_charge > 0 {
            // The buffer was enlarged for this record; it must not stay so.
            self.input = BytesMut::from(&*self.input);
        }
        let pinned = CALL_COST.max(2 * record.len());
        let (xid, work, cost) = match Call::parse(&record) {
            Ok(call) => (call.xid, self.dispatch(call), pinned),
            Err(CallError::NotACall) => return Err(End::abrupt("not an RPC call")),
            Err(CallError::RpcMismatch { xid, .. }) => (xid, Work::Refuse(Answer::RpcMismatch), ERROR_COST),
            Err(CallError::Auth { xid, status }) => {
                (xid, Work::Refuse(Answer::AuthError(status)), ERROR_COST)
            }
        };
        let (work, charge) = match work {
            Work::Refuse(_) => (work, ERROR_COST),
            Work::Execute { call, program, label, .. } => {
                match guarded(|| program.reply_bound(call.procedure, &call.arguments)) {
                    Some(bound) => {
                        let inline = bound <= INLINE;
                        (Work::Execute { call, program, label, inline }, bound.saturating_add(cost))
                    }
                    None => (Work::Refuse(Answer::SystemError), ERROR_COST),
                }
            }
        };
        // What is over a connection's share is granted the share: who waits for more than that would keep
        // all others waiting until nearly nothing else runs.
        let share = self.hub.limits.connection_reply_bytes;
        let charge = charge.min(share).min(self.hub.replies.most());
        Ok(Some(Parked { xid, work, charge, received: self.now, ticket: None }))
    }

    /// Finds the program of a call.
    fn dispatch(&self, call: Call) -> Work {
        let versions = || self.hub.programs.iter().filter(|program| program.number() == call.program);
        if let Some(program) = versions().find(|program| program.version() == call.version) {
            let label = Label { program: program.name(), procedure: program.procedure_name(call.procedure) };
            return Work::Execute { program: Arc::clone(program), call, label, inline: false };
        }
        let numbers = || versions().map(|program| program.version());
        Work::Refuse(match (numbers().min(), numbers().max()) {
            (Some(low), Some(high)) => Answer::ProgramMismatch { low, high },
            _ => Answer::ProgramUnavailable,
        })
    }

    /// Takes the charge of a call; false when it has to wait.
    fn admit(&mut self, parked: &mut Parked, cx: &Context<'_>) -> bool {
        let replies = &self.hub.replies;
        if let Some(ticket) = &mut parked.ticket {
            match ticket.poll(cx) {
                Poll::Ready(amount) => parked.charge = amount,
                Poll::Pending => return false,
            }
        } else {
            let share = self.hub.limits.connection_reply_bytes;
            let allowed = if !self.blocked {
                share
            } else if self.now.saturating_duration_since(self.write_moved) < HEALTHY {
                share.min(HIGH_WATER)
            } else {
                share.min(LOW_WATER)
            };
            let held = self.charged;
            let running = self.running + self.begun.len();
            if running >= self.limit() || (held > 0 && held.saturating_add(parked.charge) > allowed) {
                return false;
            }
            let small = held == 0 && parked.charge <= replies.small_max();
            let claim = if small { Claim::Small } else { Claim::Any };
            if !replies.try_take(parked.charge, claim) {
                let mut ticket = replies.wait(parked.charge, claim);
                self.hub.memory_is_short();
                let granted = ticket.poll(cx);
                parked.ticket = Some(ticket);
                if granted.is_pending() {
                    return false;
                }
            }
        }
        self.charged += parked.charge;
        self.loose += parked.charge;
        true
    }

    /// Answers or executes a call that is paid for.
    fn start(&mut self, parked: Parked, cx: &mut Context<'_>) {
        let Parked { xid, work, charge, received, .. } = parked;
        let (call, program, label, inline) = match work {
            Work::Refuse(answer) => {
                return self.end(Paid { xid, label: UNKNOWN, received, charge }, answer);
            }
            Work::Execute { call, program, label, inline } => (call, program, label, inline),
        };
        let paid = Paid { xid, label, received, charge };
        let mut execution = None;
        if program.remembered(call.procedure) {
            match self.hub.cache.begin(self.peer.address, self.peer.id, &call, self.now) {
                Seen::Never(new) => execution = Some(new),
                Seen::Answered(answer) => return self.end(paid, answer),
                Seen::RunningElsewhere(receiver) => {
                    let spawned = self.spawned(paid);
                    tokio::spawn(async move { spawned.end(receiver.await.ok()) });
                    return;
                }
                Seen::Running => {
                    self.loose -= charge;
                    return self.refund(charge);
                }
            }
        }
        let Call { procedure, credential, arguments, .. } = call;
        let context = CallContext { peer: self.peer.address, connection: self.peer.id, credential };
        let future = guarded(|| Arc::clone(&program).call(context, procedure, arguments.clone()));
        let Some(mut future) = future else {
            return self.finish(paid, execution, Answer::SystemError);
        };
        if inline && let Poll::Ready(answer) = poll_guarded(&mut future, cx) {
            return self.finish(paid, execution, answer);
        }
        let begun = Begun { paid, future, execution, program, procedure, arguments };
        if inline { self.begun.push(begun) } else { self.spawn(begun) }
    }

    /// Polls a call again that began.
    fn go_on(&mut self, mut call: Begun, cx: &mut Context<'_>) {
        match poll_guarded(&mut call.future, cx) {
            Poll::Ready(answer) => self.finish(call.paid, call.execution, answer),
            Poll::Pending => self.spawn(call),
        }
    }

    fn finish(&mut self, paid: Paid, execution: Option<Execution>, answer: Answer) {
        if let Some(execution) = execution {
            execution.finish(&answer);
        }
        self.end(paid, answer);
    }

    fn end(&mut self, Paid { xid, label, received, charge }: Paid, answer: Answer) {
        self.loose -= charge;
        self.answer(xid, answer, charge, label, received.elapsed());
    }

    /// Lets a call go on in a task of its own.
    fn spawn(&mut self, call: Begun) {
        let Begun { paid, future, execution, program, procedure, arguments } = call;
        let finishes = guarded(|| program.finishes(procedure, &arguments)).unwrap_or(false);
        drop(arguments);
        tokio::spawn(self.spawned(paid).run(future, execution, finishes));
    }

    fn spawned(&mut self, Paid { xid, label, received, charge }: Paid) -> Spawned {
        self.loose -= charge;
        self.running += 1;
        let lease = Lease::of(&self.hub.replies, charge);
        Spawned { sender: self.peer.sender.clone(), xid, label, received, lease }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        self.blocked = false;
        while !self.output.is_empty() {
            match self.output.poll_write(&mut self.stream, cx) {
                Poll::Ready(Ok(written)) => {
                    moved = true;
                    self.unflushed = true;
                    self.refund(written.charges);
                    self.write_step += written.bytes;
                    if self.write_step >= WRITE_STEP {
                        self.write_moved = self.now;
                        self.write_step = 0;
                    }
                }
                Poll::Ready(Err(error)) => return Err(failed(&error)),
                Poll::Pending => {
                    self.blocked = true;
                    return Ok(moved);
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(failed(&error)),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.eof || self.draining {
            return Ok(false);
        }
        let room = if self.parked.is_none() && self.running < self.limit() {
            self.make_room(cx)
        } else {
            // What is read now cannot be executed yet, but an end or a reset is noticed behind it.
            self.free_room()
        };
        let Some(room) = room else { return Ok(false) };
        let mut target = (&mut self.input).limit(room);
        match pin!(self.stream.read_buf(&mut target)).poll(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(failed(&error)),
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Ok(true)
            }
            Poll::Ready(Ok(bytes)) => {
                self.record_step += bytes;
                if self.record_step >= RECORD_STEP {
                    self.record_moved = self.now;
                    self.record_step = 0;
                }
                Ok(true)
            }
        }
    }

    /// Room within what every connection may hold; `None` when that is used up.
    fn free_room(&mut self) -> Option<usize> {
        let room = INPUT.checked_sub(self.input.len() + self.reader.gathered()).filter(|&room| room > 0)?;
        if self.input.capacity() - self.input.len() < room.min(MIN_READ) {
            self.input.reserve(room);
        }
        Some(room.min(self.input.capacity() - self.input.len()))
    }

    /// Makes room in the input buffer and tells how much may be read; `None` when a long record
    /// has to wait for memory. Here the buffer holds no more than the start of one record.
    fn make_room(&mut self, cx: &Context<'_>) -> Option<usize> {
        if let Some(room) = self.free_room() {
            return Some(room);
        }
        if self.record_charge == 0 {
            // All that the record may need at once: who holds some must not wait for more.
            let records = &self.hub.records;
            let amount = (self.reader.bound() + INPUT).min(records.most());
            if self.record_ticket.is_none() {
                if records.try_take(amount, Claim::Any) {
                    self.record_charge = amount;
                } else {
                    self.record_ticket = Some(records.wait(amount, Claim::Any));
                    self.hub.memory_is_short();
                }
            }
            if let Some(ticket) = &mut self.record_ticket {
                let Poll::Ready(amount) = ticket.poll(cx) else { return None };
                self.record_charge = amount;
                self.record_ticket = None;
                // Standing still begins now.
                self.record_moved = self.now;
                self.record_step = 0;
            }
        }
        let held = self.input.len() + self.reader.gathered();
        let room = self.reader.missing(&self.input).min(held);
        if self.input.capacity() - self.input.len() < room {
            let mut larger = BytesMut::with_capacity(self.input.len() + room);
            larger.extend_from_slice(&self.input);
            self.input = larger;
        }
        Some(room)
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // Running calls hold their leases themselves, tickets give themselves back.
        self.hub.replies.give(self.output.charges() + self.loose);
        self.hub.records.give(self.record_charge);
    }
}

/// A call on a task of its own.
struct Spawned {
    sender: UnboundedSender<Message>,
    xid: u32,
    label: Label,
    received: Instant,
    lease: Lease,
}

impl Spawned {
    /// A call with an `execution`, or one that `finishes`, goes on when the connection ends: its answer is
    /// for the caller's repeat.
    async fn run(
        self,
        mut future: BoxFuture<'static, Outcome>,
        execution: Option<Execution>,
        finishes: bool,
    ) {
        let answer = if finishes || execution.is_some() {
            let answer = std::future::poll_fn(|cx| poll_guarded(&mut future, cx)).await;
            if let Some(execution) = execution {
                execution.finish(&answer);
            }
            answer
        } else {
            let answer = std::future::poll_fn(|cx| poll_guarded(&mut future, cx));
            tokio::select! {
                biased;
                answer = answer => answer,
                () = self.sender.closed() => return,
            }
        };
        self.end(Some(answer));
    }

    fn end(self, answer: Option<Answer>) {
        let Self { sender, xid, label, received, lease } = self;
        let done = Done { xid, answer, lease, label, duration: received.elapsed() };
        // Without a connection the lease ends here.
        let _ = sender.send(Message::Done(Box::new(done)));
    }
}

/// Runs what may panic; `None` when it does.
fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// Polls a call. A panic is an answer like another; the call must not be polled again after it.
fn poll_guarded(future: &mut BoxFuture<'static, Outcome>, cx: &mut Context<'_>) -> Poll<Answer> {
    match guarded(|| future.as_mut().poll(cx)) {
        Some(poll) => poll.map(Answer::from),
        None => Poll::Ready(Answer::SystemError),
    }
}

fn failed(error: &io::Error) -> End {
    End::plain(match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by peer",
        io::ErrorKind::BrokenPipe => "closed by peer",
        io::ErrorKind::TimedOut => "peer unreachable",
        _ => "network error",
    })
}

#[cfg(test)]
mod tests;
