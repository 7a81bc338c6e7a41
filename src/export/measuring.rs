//! Measures what is served before it is, as the kernel's IMA does: a file version is in the list, and durable
//! there, before its first byte leaves.
//!
//! One thread writes. What comes while it waits for the disk is written together, with one wait for all. Where
//! the list cannot be written nothing new is served: who asked for the record wants it without gaps.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};

use super::Export;
use super::error::ExportError;
use super::nodes::Node;
use super::trust::{Proven, Verdict};
use crate::carrier::Evidence;
use crate::event::{Event, Sink};
use crate::measure::{DigestKind, Entry, EntryError, FileHash, Log, LogError, Template, name_of};
use crate::store::StorePath;
use crate::verity::HashAlgorithm;

/// Measurements that wait for the thread at most; who comes then waits to get in.
const WAITING: usize = 1024;
/// Measurements that are written at once at most.
const AT_ONCE: usize = 256;
/// How long who reads waits for the record before he is told to come back later.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a violation of a file is not written again, and of how many files that is known.
const TOLD_FOR: Duration = Duration::from_secs(3600);
const TOLD_MAX: usize = 4096;
/// Violations that are written in a minute at most: the store decides how many files fail.
const VIOLATIONS: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);

/// What is to be measured, and who waits for it.
struct Request {
    entry: Entry,
    done: oneshot::Sender<bool>,
}

/// The way to the thread that writes the list.
pub struct Measurer {
    requests: mpsc::Sender<Request>,
    template: Template,
    violations: Violations,
    sink: Arc<dyn Sink>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Which violations were written, and how many may be.
struct Violations {
    told: Cache<StorePath, Instant>,
    minute: Mutex<Minute>,
}

/// Since when it is counted, how many there were, and of which files one is on its way.
struct Minute {
    since: Instant,
    count: u32,
    on_the_way: HashSet<StorePath>,
}

impl Violations {
    fn new() -> Self {
        let minute = Minute { since: Instant::now(), count: 0, on_the_way: HashSet::new() };
        Self { told: Cache::new(TOLD_MAX), minute: Mutex::new(minute) }
    }

    /// One of `path`, and the how manieth of this minute it is. None where it was written a while ago; nor while another
    /// READ has it written, unless that is to be waited for, as for what is `served`.
    fn begin<'a>(&'a self, path: &'a StorePath, served: bool) -> Option<(OnTheWay<'a>, u32)> {
        let mut minute = self.minute.lock();
        if self.told.get(path).is_some_and(|at| at.elapsed() < TOLD_FOR) {
            return None;
        }
        if !minute.on_the_way.insert(path.clone()) && !served {
            return None;
        }
        if minute.since.elapsed() > MINUTE {
            (minute.since, minute.count) = (Instant::now(), 0);
        }
        minute.count = minute.count.saturating_add(1);
        Some((OnTheWay { all: self, path }, minute.count))
    }
}

/// A violation that is being written; no more once it is dropped.
struct OnTheWay<'a> {
    all: &'a Violations,
    path: &'a StorePath,
}

impl OnTheWay<'_> {
    fn written(self) {
        self.all.told.insert(self.path.clone(), Instant::now());
    }
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        self.all.minute.lock().on_the_way.remove(self.path);
    }
}

impl Measurer {
    /// Starts the thread that writes `log`, whose entries have the layout `template`. It ends when the export is
    /// dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(log: Log, template: Template, sink: Arc<dyn Sink>) -> std::io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new().name("measure".to_owned());
        let told = sink.clone();
        let thread = Mutex::new(Some(thread.spawn(move || write(log, waiting, &*told))?));
        Ok(Self { requests, template, violations: Violations::new(), sink, thread })
    }

    /// A file version at `node`: its fs-verity digest, and its signature of IMA where it has one.
    fn entry(&self, node: &Node, proven: &Proven, signature: &[u8]) -> Option<Entry> {
        let digest = proven.descriptor.file_digest();
        let hash = match digest.algorithm {
            HashAlgorithm::Sha256 => FileHash::Sha256,
            HashAlgorithm::Sha512 => FileHash::Sha512,
        };
        // As the kernel does in layouts that do not tell.
        let kind = if self.template.tells_kind() { DigestKind::Verity } else { DigestKind::Ima };
        let what = (kind, hash, digest.digest.as_bytes());
        // A signature over the fs-verity digest: only this layout has both.
        let signature = if self.template == Template::ImaSigV2 { signature } else { &[] };
        self.told(Entry::new(self.template, what, &name(node), signature))
    }

    /// The entry. What no record can tell is told here.
    fn told(&self, entry: Result<Entry, EntryError>) -> Option<Entry> {
        entry.inspect_err(|error| self.failed(&error.to_string(), true)).ok()
    }

    fn failed(&self, error: &str, waits: bool) {
        self.sink.emit(&Event::MeasuringFailed { error, waits });
    }

    /// Whether `entry` is in the list, after a while at most.
    async fn put(&self, entry: Entry) -> bool {
        let (done, answer) = oneshot::channel();
        let put =
            async { self.requests.send(Request { entry, done }).await.is_ok() && answer.await == Ok(true) };
        // What was sent is written all the same, and known when the client comes back.
        tokio::time::timeout(PATIENCE, put).await.unwrap_or(false)
    }
}

/// The name in the list, as the kernel's are: absolute, or the last component where that is too long.
fn name(node: &Node) -> Cow<'_, [u8]> {
    name_of(node.path.as_bytes())
}

/// Writes what comes, for as long as anybody can ask.
fn write(mut log: Log, mut waiting: mpsc::Receiver<Request>, sink: &dyn Sink) {
    let mut together = Vec::with_capacity(AT_ONCE);
    while waiting.blocking_recv_many(&mut together, AT_ONCE) > 0 {
        let entries: Vec<Entry> = together.iter().map(|request| request.entry.clone()).collect();
        let written = match log.append(&entries) {
            Ok(_) => true,
            Err(error) => {
                let written = matches!(error, LogError::Behind(_));
                sink.emit(&Event::MeasuringFailed { error: &error.to_string(), waits: !written });
                written
            }
        };
        sink.emit(&Event::Measured { records: log.records() });
        for Request { entry, done } in together.drain(..) {
            // What was in it before counts, whatever became of the others. Who asked may have gone.
            let _ = done.send(written || log.has(&entry));
        }
    }
}

/// Whether an open file is measured, and what of its evidence goes into the list.
#[derive(Default)]
pub(super) struct Measured {
    done: AtomicBool,
    signature: Bytes,
}

impl Measured {
    /// Of a file that was just opened.
    pub(super) fn of(verdict: &Verdict, evidence: Option<&Evidence>) -> Self {
        let counted = verdict.outcome.as_ref().ok().and_then(|proven| proven.ima_verity);
        let value = counted.and_then(|at| evidence?.ima.get(at));
        // A copy: parts of evidence keep all of it in memory.
        let signature = value.map(|value| Bytes::copy_from_slice(value)).unwrap_or_default();
        Self { done: AtomicBool::new(false), signature }
    }
}

impl Export {
    /// Measures what is read from now on.
    pub fn set_measurer(&self, measurer: Option<Measurer>) {
        self.measurer.store(measurer.map(Arc::new));
    }

    /// Returns once the open file of `node` is in the list, if there is one.
    pub(super) async fn measure(
        &self,
        node: &Node,
        verdict: &Verdict,
        measured: &Measured,
    ) -> Result<(), ExportError> {
        if measured.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(measurer) = self.measurer.load_full() else { return Ok(()) };
        let proven = verdict.outcome.as_deref().map_err(|_| ExportError::Io)?;
        // What no record can tell is not served: it would be a gap.
        let entry = measurer.entry(node, proven, &measured.signature).ok_or(ExportError::Io)?;
        if !measurer.put(entry).await {
            return Err(ExportError::Busy);
        }
        measured.done.store(true, Ordering::Release);
        Ok(())
    }

    /// Puts into the list that `node` is not what it should be, once a while. What is `served` all the same waits for
    /// the record as everything does.
    pub(super) async fn measure_violation(&self, node: &Node, served: bool) -> Result<(), ExportError> {
        let Some(measurer) = self.measurer.load_full() else { return Ok(()) };
        let Some((violation, nth)) = measurer.violations.begin(&node.path, served) else { return Ok(()) };
        if nth > VIOLATIONS {
            if nth == VIOLATIONS + 1 {
                let error =
                    format!("more than {VIOLATIONS} violations in a minute; the audit log has the others");
                measurer.failed(&error, false);
            }
            return if served { Err(ExportError::Busy) } else { Ok(()) };
        }
        let entry = Entry::violation(measurer.template, FileHash::Sha256, &name(node));
        let Some(entry) = measurer.told(entry) else { return Ok(()) };
        if measurer.put(entry).await {
            violation.written();
        } else if served {
            return Err(ExportError::Busy);
        }
        Ok(())
    }

    /// Measures nothing from now on, once all that waits is written.
    pub async fn end_measuring(&self) {
        let Some(measurer) = self.measurer.swap(None) else { return };
        let thread = measurer.thread.lock().take();
        // The thread ends when nobody can ask any more.
        drop(measurer);
        // Not joined: a disk that hangs would hold up whoever does.
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_who_find_a_violation_at_once_one_has_it_written() {
        let violations = Violations::new();
        let [one, other] = ["one", "other"].map(|path| StorePath::parse(path.as_bytes()).unwrap());
        let begin = |path, served| violations.begin(path, served);
        let (first, nth) = begin(&one, false).unwrap();
        assert_eq!(nth, 1);
        assert!(begin(&one, false).is_none());
        assert_eq!(begin(&other, false).unwrap().1, 2);
        // What is served waits for a record of its own, rather than for another one's.
        assert_eq!(begin(&one, true).unwrap().1, 3);
        drop(first);
        let (again, nth) = begin(&one, false).unwrap();
        assert_eq!(nth, 4, "it was not written");
        again.written();
        assert!(begin(&one, false).is_none() && begin(&one, true).is_none());
    }
}
