//! The audit log: a bounded queue, and one thread that writes what is in it.
//!
//! Emitting takes a lock for as long as it takes to queue one line; a slow disk or a stuck
//! terminal holds up the thread alone. What finds no room is counted, and a later line tells how
//! many. The thread sleeps until there is a line, or until counted repetitions are due. A file that
//! was rotated away is made durable by a thread of its own, which on a busy disk takes its time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use rustix::fs::{Mode, OFlags};
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use super::MonitorError;
use super::fact::Fact;
use super::feed::Feed;
use super::limiter::{Kind, Limiter, Moment, Repeated};
use crate::event::Refusal;

/// Refusals that wait to be written, at most.
const QUEUE: usize = 1024;
/// Room in the queue for what is rare: starts, stops, reloads, counts.
const RESERVE: usize = 2048;
/// How long [`Journal::flush`] and [`Journal::close`] wait for a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

const QUEUE_FULL: &str = "queue full";
const WRITE_FAILED: &str = "write failed";

/// The way into the audit log and to stderr.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    path: Option<PathBuf>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is there to be done.
    work: Condvar,
    /// All that was there is done.
    idle: Condvar,
    start: Instant,
    dropped: Counter,
    /// Where events are told at once, whatever the disk does.
    feed: Arc<Feed>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    limiter: Limiter,
    /// Lines that found no room since the thread last looked.
    dropped: u64,
    /// The thread has taken lines that are not written yet.
    busy: bool,
    closed: bool,
    done: bool,
}

#[derive(Debug)]
enum Item {
    Line(Timestamp, Fact),
    /// Lines from here on go to another file.
    Switch(Log),
}

impl Journal {
    /// Opens the log, if there is to be one, and starts the thread.
    pub(super) fn start(
        path: Option<PathBuf>,
        dropped: Counter,
        feed: Arc<Feed>,
    ) -> Result<Self, MonitorError> {
        Self::start_at(Instant::now(), path, dropped, feed)
    }

    /// [`Journal::start`] with the zero of its clock.
    fn start_at(
        start: Instant,
        path: Option<PathBuf>,
        dropped: Counter,
        feed: Arc<Feed>,
    ) -> Result<Self, MonitorError> {
        let log = path.as_deref().map(Log::open).transpose()?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            start,
            dropped,
            feed,
        });
        // A subscriber that holds for the caller's thread alone holds for what the caller starts.
        let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
        let writer = Writer { shared: shared.clone(), log, missing: 0, finishing: Vec::new() };
        let run = move || match dispatch.is::<NoSubscriber>() {
            true => writer.run(),
            false => tracing::dispatcher::with_default(&dispatch, || writer.run()),
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(run);
        let thread = thread.map_err(MonitorError::Thread)?;
        Ok(Self { shared, path, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a refusal, or counts it when it repeats too often.
    pub(super) fn refused(&self, refusal: &Refusal<'_>) {
        let now = self.shared.now();
        let mut state = self.shared.state.lock();
        let admission = state.limiter.admit(refusal.path, Kind::of(refusal), now);
        let changed = admission.write || admission.first_held || !admission.ended.is_empty();
        self.shared.give_back(&mut state, admission.ended, now);
        if admission.write {
            self.shared.push(&mut state, QUEUE, now.wall, Fact::from(refusal));
        }
        drop(state);
        if changed {
            self.shared.work.notify_one();
        }
    }

    /// Queues what is rare.
    pub(super) fn note(&self, fact: Fact) {
        let now = self.shared.now();
        let mut state = self.shared.state.lock();
        if matches!(fact, Fact::Stopped) {
            let counted = state.limiter.drain();
            self.shared.give_back(&mut state, counted, now);
        }
        self.shared.push(&mut state, QUEUE + RESERVE, now.wall, fact);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Opens the log's name again and lets all later lines go there. On an error the old file stays.
    pub(super) fn reopen(&self) -> Result<(), MonitorError> {
        let Some(path) = &self.path else { return Ok(()) };
        let log = Log::open(path)?;
        self.shared.state.lock().queue.push_back(Item::Switch(log));
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until all that was queued is written; false when that takes too long.
    pub(super) fn flush(&self) -> bool {
        let mut state = self.shared.state.lock();
        self.shared.work.notify_one();
        let until = Instant::now() + PATIENCE;
        let idle = |state: &State| state.queue.is_empty() && state.dropped == 0 && !state.busy;
        while !state.done && !idle(&state) {
            if self.shared.idle.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Writes what is left and ends the thread; false when that takes too long. What comes later is
    /// counted as dropped.
    pub(super) fn close(&self) -> bool {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_one();
        let until = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        while !state.done {
            if self.shared.idle.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        drop(state);
        self.thread.lock().take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment { tick: self.start.elapsed(), wall: Timestamp::now() }
    }

    fn push(&self, state: &mut State, room: usize, time: Timestamp, fact: Fact) {
        self.feed.push(time, &fact);
        if !state.closed && state.queue.len() < room {
            state.queue.push_back(Item::Line(time, fact));
        } else {
            self.dropped.inc();
            if !state.closed {
                state.dropped += 1;
            }
        }
    }

    fn give_back(&self, state: &mut State, counted: Vec<Repeated>, now: Moment) {
        for repeated in counted {
            self.push(state, QUEUE + RESERVE, now.wall, Fact::from(repeated));
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    log: Option<Log>,
    /// Lines that could not be written since the last one that could.
    missing: u64,
    /// Files that were rotated away and are being made durable.
    finishing: Vec<JoinHandle<()>>,
}

impl Writer {
    fn run(mut self) {
        let shared = self.shared.clone();
        while let Some((batch, dropped)) = shared.next_batch() {
            for item in batch {
                match item {
                    Item::Line(time, fact) => self.write(time, &fact),
                    Item::Switch(log) => {
                        if let Some(old) = self.log.replace(log) {
                            self.finish(old);
                        }
                    }
                }
            }
            if dropped > 0 {
                let (now, fact) = (Timestamp::now(), Fact::Dropped { count: dropped, reason: QUEUE_FULL });
                shared.feed.push(now, &fact);
                self.write(now, &fact);
            }
        }
        if let Some(log) = self.log {
            log.finish();
        }
        for finishing in self.finishing {
            // A panic in there has been told.
            let _ = finishing.join();
        }
        shared.state.lock().done = true;
        shared.idle.notify_all();
    }

    /// Makes a file that was rotated away durable, beside the lines that go to the next one.
    fn finish(&mut self, log: Log) {
        self.finishing.retain(|thread| !thread.is_finished());
        let thread = std::thread::Builder::new().name("audit-sync".to_owned()).spawn(move || log.finish());
        // Without a thread the kernel writes it in its own time, as it does for every line.
        self.finishing.extend(thread.ok());
    }

    fn write(&mut self, time: Timestamp, fact: &Fact) {
        fact.log();
        let Some(log) = &mut self.log else { return };
        let written = match self.missing {
            0 => Ok(()),
            count => log.append(Timestamp::now(), &Fact::Dropped { count, reason: WRITE_FAILED }),
        };
        match written.and_then(|()| log.append(time, fact)) {
            Ok(()) => self.missing = 0,
            Err(error) => {
                if self.missing == 0 {
                    tracing::error!(%error, "the audit log cannot be written: lines are missing until it can");
                }
                self.missing += 1;
                self.shared.dropped.inc();
            }
        }
    }
}

impl Shared {
    /// Waits for lines; `None` when the journal is closed and all is written.
    fn next_batch(&self) -> Option<(VecDeque<Item>, u64)> {
        let mut state = self.state.lock();
        state.busy = false;
        loop {
            let now = self.now();
            let counted = if state.closed { state.limiter.drain() } else { state.limiter.expire(now) };
            for repeated in counted {
                let fact = Fact::from(repeated);
                self.feed.push(now.wall, &fact);
                state.queue.push_back(Item::Line(now.wall, fact));
            }
            if !state.queue.is_empty() || state.dropped > 0 {
                state.busy = true;
                let dropped = std::mem::take(&mut state.dropped);
                return Some((std::mem::take(&mut state.queue), dropped));
            }
            self.idle.notify_all();
            if state.closed {
                return None;
            }
            match state.limiter.deadline().and_then(|due| self.start.checked_add(due)) {
                Some(due) => {
                    self.work.wait_until(&mut state, due);
                }
                None => self.work.wait(&mut state),
            }
        }
    }
}

#[derive(Debug)]
struct Log {
    file: File,
    /// The last line is not complete, so that the next one must not continue it.
    torn: bool,
}

impl Log {
    /// Opens `path` to append to it; made with mode 0600 when missing.
    fn open(path: &Path) -> Result<Self, MonitorError> {
        let error = |source: io::Error| MonitorError::AuditLog { path: path.to_owned(), source };
        // Opening a pipe without a reader must fail and not wait.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| error(e.into()))?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            rustix::fs::fcntl_setfl(&file, OFlags::APPEND).map_err(|e| error(e.into()))?;
        }
        let torn = metadata.is_file() && metadata.len() > 0 && ends_within_a_line(path, metadata.len());
        Ok(Self { file, torn })
    }

    fn append(&mut self, time: Timestamp, fact: &Fact) -> io::Result<()> {
        let mut line = fact.line(time).map_err(io::Error::other)?.into_bytes();
        line.push(b'\n');
        if self.torn {
            line.insert(0, b'\n');
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the lines durable, where the file is one that can be.
    fn finish(self) {
        if let Err(error) = self.file.sync_data()
            && !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        {
            tracing::error!(%error, "the audit log cannot be made durable");
        }
    }
}

/// Whether a write was cut short earlier, as by a crash. A log that cannot be read is taken as whole.
fn ends_within_a_line(path: &Path, size: u64) -> bool {
    let mut last = [b'\n'];
    File::open(path).and_then(|file| file.read_exact_at(&mut last, size - 1)).is_ok() && last != [b'\n']
}

#[cfg(test)]
mod tests {
    use super::super::limiter::WINDOW;
    use super::*;
    use crate::event::{Cause, Client};
    use serde_json::Value;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(path: &[u8]) -> Refusal<'_> {
        Refusal::plain(path, Cause::BadBlock)
    }

    fn lines(path: &Path) -> Vec<Value> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn journal(path: &Path) -> (Journal, Counter) {
        let dropped = Counter::default();
        (Journal::start(Some(path.to_owned()), dropped.clone(), Arc::default()).unwrap(), dropped)
    }

    #[test]
    fn lines_are_appended_to_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for round in 1..=2 {
            let (journal, _) = journal(&path);
            journal.refused(&refusal(b"a"));
            journal.note(Fact::Stopped);
            assert!(journal.close());
            assert_eq!(lines(&path).len(), 2 * round);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let events: Vec<_> = lines(&path).iter().map(|line| line["event"].clone()).collect();
        assert_eq!(events, ["refused", "stopped", "refused", "stopped"]);
    }

    #[test]
    fn rotation_loses_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, dropped) = journal(&path);
        let (mut sent, mut moved) = (0, Vec::new());
        for round in 0..5 {
            for n in 0..100 {
                journal.refused(&refusal(format!("{round}/{n}").as_bytes()));
                sent += 1;
            }
            let old = folder.path().join(format!("audit.log.{round}"));
            std::fs::rename(&path, &old).unwrap();
            moved.push(old);
            journal.reopen().unwrap();
        }
        journal.refused(&refusal(b"last"));
        assert!(journal.close());
        let paths: Vec<_> = moved.iter().chain([&path]).flat_map(|file| lines(file)).collect();
        assert_eq!(paths.len(), sent + 1);
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(paths[sent]["path"], "last");
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn a_name_that_cannot_be_opened_again_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, _) = journal(&path);
        let old = folder.path().join("old");
        std::fs::rename(&path, &old).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = journal.reopen().unwrap_err().to_string();
        assert!(error.contains("audit.log"), "{error}");
        journal.note(Fact::Stopped);
        assert!(journal.close());
        assert_eq!(lines(&old).len(), 1);
    }

    #[test]
    fn a_flood_is_counted_and_told_when_the_journal_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, dropped) = journal(&path);
        for _ in 0..5000 {
            journal.refused(&refusal(b"bad"));
        }
        journal.note(Fact::Stopped);
        assert!(journal.close());
        let lines = lines(&path);
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[10]["event"], "repeated");
        assert_eq!(lines[10]["count"], 4990);
        assert_eq!(lines[10]["path"], "bad");
        assert_eq!(lines[11]["event"], "stopped");
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn counts_are_told_at_close_without_a_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, _) = journal(&path);
        (0..15).for_each(|_| journal.refused(&refusal(b"bad")));
        assert!(journal.close());
        assert_eq!(lines(&path).last().unwrap()["count"], 5);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, dropped) = journal(&path);
        // The thread cannot take anything while the state is held.
        let mut state = journal.shared.state.lock();
        for _ in 0..QUEUE + 7 {
            journal.shared.push(&mut state, QUEUE, Timestamp::UNIX_EPOCH, Fact::Stopped);
        }
        assert_eq!(state.queue.len(), QUEUE);
        drop(state);
        assert!(journal.flush());
        let written = lines(&path);
        assert_eq!(written.len(), QUEUE + 1);
        assert_eq!((&written[QUEUE]["event"], &written[QUEUE]["count"]), (&"dropped".into(), &7.into()));
        assert_eq!(dropped.get(), 7);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (journal, dropped) = journal(Path::new("/dev/full"));
        journal.note(Fact::Stopped);
        journal.note(Fact::Stopped);
        assert!(journal.flush());
        assert_eq!(dropped.get(), 2);
        assert!(journal.close());
        journal.note(Fact::Stopped);
        assert_eq!(dropped.get(), 3, "after the end nothing is written either");
    }

    #[test]
    fn missing_lines_are_told_by_the_next_one_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, _) = journal(Path::new("/dev/full"));
        (0..3).for_each(|_| journal.note(Fact::Stopped));
        let log = Log::open(&path).unwrap();
        journal.shared.state.lock().queue.push_back(Item::Switch(log));
        journal.note(Fact::Stopped);
        assert!(journal.close());
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["count"], &lines[0]["reason"]), (&3.into(), &WRITE_FAILED.into()));
    }

    #[test]
    fn a_line_that_was_cut_short_is_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"time\":\"20").unwrap();
        let (journal, _) = journal(&path);
        journal.note(Fact::Stopped);
        assert!(journal.close());
        let text = std::fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(last["event"], "stopped");
    }

    #[test]
    fn what_is_denied_to_one_client_is_told_beside_the_flood_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let (journal, _) = journal(&path);
        let deny = |client: &str| {
            let client = Client { address: client.parse().unwrap(), uid: None, gid: None };
            journal.refused(&Refusal { client: Some(client), ..Refusal::plain(b"a", Cause::Policy) });
        };
        (1..=100).for_each(|port| deny(&format!("192.0.2.1:{port}")));
        deny("192.0.2.2:1");
        assert!(journal.close());
        let lines = lines(&path);
        let clients: Vec<_> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
        assert_eq!(clients.len(), 12);
        assert_eq!(clients[10..], ["192.0.2.2:1", "192.0.2.1"]);
        assert_eq!(lines[11]["count"], 90);
    }

    #[test]
    fn counted_repetitions_are_written_when_their_window_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        // The window that opened at zero has a moment left.
        let start = Instant::now().checked_sub(WINDOW - Duration::from_millis(100)).unwrap();
        let journal =
            Journal::start_at(start, Some(path.clone()), Counter::default(), Arc::default()).unwrap();
        let zero = Moment { tick: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        {
            let mut state = journal.shared.state.lock();
            let kind = Kind { cause: Cause::BadBlock, client: None };
            (0..12).for_each(|_| drop(state.limiter.admit(b"bad", kind, zero)));
        }
        journal.shared.work.notify_one();
        while lines(&path).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(lines(&path)[0]["count"], 2);
        assert!(journal.close());
    }
}
