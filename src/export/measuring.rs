//! Measures what is served before it is, as the kernel's IMA does: a file version is in the list, and durable
//! there, before its first byte leaves.
//!
//! One thread writes. What comes while it waits for the disk is written together, with one wait for all. Where
//! the list cannot be written nothing new is served: who asked for the record wants it without gaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};

use super::Export;
use super::error::ExportError;
use super::handle::Tag;
use super::nodes::Node;
use super::trust::{Proven, Verdict};
use crate::carrier::Evidence;
use crate::event::{Event, Sink};
use crate::measure::{DigestKind, Entry, FileHash, Log, LogError, Template};
use crate::verity::HashAlgorithm;

/// Measurements that wait for the thread at most; who comes then waits to get in.
const WAITING: usize = 1024;
/// Measurements that are written at once at most.
const AT_ONCE: usize = 256;
/// How long a violation of a file is not written again, and of how many files that is known.
const TOLD_FOR: Duration = Duration::from_secs(60);
const TOLD_MAX: usize = 4096;

/// What is to be measured, and who waits for it.
struct Request {
    entry: Entry,
    done: Option<oneshot::Sender<bool>>,
}

/// The way to the thread that writes the list.
pub struct Measurer {
    requests: mpsc::Sender<Request>,
    template: Template,
    violations: Cache<Tag, Instant>,
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
        thread.spawn(move || write(log, waiting, &*sink))?;
        Ok(Self { requests, template, violations: Cache::new(TOLD_MAX) })
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
        let signature =
            if matches!(self.template, Template::ImaSig | Template::ImaSigV2) { signature } else { &[] };
        Entry::new(self.template, what, &name(node), signature).ok()
    }
}

/// The name in the list: absolute, as the kernel's are.
fn name(node: &Node) -> Vec<u8> {
    [b"/", node.path.as_bytes()].concat()
}

/// Writes what comes, for as long as anybody can ask.
fn write(mut log: Log, mut waiting: mpsc::Receiver<Request>, sink: &dyn Sink) {
    let mut together = Vec::with_capacity(AT_ONCE);
    while waiting.blocking_recv_many(&mut together, AT_ONCE) > 0 {
        let entries: Vec<Entry> = together.iter().map(|request| request.entry.clone()).collect();
        let written = match log.append(&entries) {
            Ok(_) => true,
            Err(error) => {
                sink.emit(&Event::MeasuringFailed { error: &error.to_string() });
                matches!(error, LogError::Behind(_))
            }
        };
        sink.emit(&Event::Measured { records: log.records() });
        for request in together.drain(..) {
            if let Some(done) = request.done {
                // Who asked may have gone.
                let _ = done.send(written);
            }
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
        let counted = verdict.outcome.as_ref().ok().and_then(|proven| proven.ima);
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
        let (done, answer) = oneshot::channel();
        let request = Request { entry, done: Some(done) };
        measurer.requests.send(request).await.map_err(|_| ExportError::Io)?;
        match answer.await {
            Ok(true) => {
                measured.done.store(true, Ordering::Release);
                Ok(())
            }
            Ok(false) | Err(_) => Err(ExportError::Busy),
        }
    }

    /// Puts into the list that `node` is not what it should be, once a while. Nobody waits for it.
    pub(super) fn measure_violation(&self, node: &Node) {
        let Some(measurer) = self.measurer.load_full() else { return };
        if measurer.violations.get(&node.tag).is_some_and(|at| at.elapsed() < TOLD_FOR) {
            return;
        }
        let Ok(entry) = Entry::violation(measurer.template, FileHash::Sha256, &name(node)) else { return };
        // Where there is no room, the next failure of the file tries again.
        if measurer.requests.try_send(Request { entry, done: None }).is_ok() {
            measurer.violations.insert(node.tag, Instant::now());
        }
    }
}
