//! What happens in the gateway, made visible: audit log, metrics, a status page and an API, from events.
//!
//! [`Monitor`] takes every [`Event`]. What happens with each call is counted and nothing else;
//! what matters later is also written to the audit log (one JSON object a line) and to stderr.
//! Who follows what happens asks the feed of numbered events; what is not an event, as which keys are trusted, is asked
//! of an [`Insight`]. Knows nothing of files, signatures or protocols.

mod access;
mod api;
mod audit;
mod calls;
mod fact;
mod failures;
mod feed;
mod health;
mod http;
mod limiter;
mod map;
mod metrics;
mod page;
mod query;
mod routes;
mod scrub;
mod snapshot;
mod status;
mod text;
mod timeline;
mod tls;
mod token;
mod webhook;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::event::{Event, Gauge, Insight, Overview, Sink, Usage};
use access::Gate;
use audit::Journal;
use fact::Fact;
use failures::Failures;
use feed::Feed;
use metrics::Metrics;
use page::Known;
use snapshot::{Snapshot, Totals, View};
use status::{Phase, Reload, Scrubbed, Status};
use text::{CLIP, RECORD, clip};
use timeline::{Counts, Minute, Timeline};

pub use access::{Access, AccessError, AccessFiles, TlsFiles};
pub use metrics::TABLE as METRICS;
pub(crate) use text::{json_line, one_line};
pub use webhook::{Webhook, WebhookOptions};

/// Findings of one scrub that are written to the audit log one by one.
const SCRUB_TOLD: u64 = 1000;
/// Files that are read as a whole at a time, since somebody asked for it.
const CHECKS: usize = 2;
/// So often it is looked how much was served. Seldom, since an idle gateway is to sleep.
const SAMPLED: Duration = Duration::from_secs(10);
/// The minutes that the page shows.
const SHOWN: usize = 60;

/// What goes wrong with the monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The audit log cannot be opened.
    #[error("audit log {}: cannot open: {source}; name a file that can be written", path.display())]
    AuditLog {
        /// The log's name.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the audit log: {0}")]
    Thread(io::Error),
    /// There is no way to the webhook.
    #[error("webhook: {0}")]
    Webhook(String),
}

/// How a [`Monitor`] is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The audit log's file; `None` for none.
    pub audit_log: Option<PathBuf>,
}

/// Takes events and shows what became of them.
pub struct Monitor {
    metrics: Metrics,
    feed: Arc<Feed>,
    gate: Arc<Gate>,
    journal: Journal,
    failures: Mutex<Failures>,
    timeline: Mutex<Timeline>,
    status: RwLock<Status>,
    gauge: RwLock<Option<Arc<dyn Gauge>>>,
    insight: RwLock<Option<Arc<dyn Insight>>>,
    scrub_told: AtomicU64,
    checks: Arc<Semaphore>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Monitor {
    /// A monitor that has seen nothing. The subscriber of `tracing` is to be set before.
    ///
    /// # Errors
    /// The audit log cannot be opened, or a thread cannot be started.
    pub fn new(options: Options) -> Result<Arc<Self>, MonitorError> {
        let now = Timestamp::now();
        let metrics = Metrics::new(now);
        let feed = Arc::new(Feed::starting_at(now));
        let journal = Journal::start(options.audit_log.clone(), metrics.lines_dropped.clone(), feed.clone())?;
        Ok(Arc::new(Self {
            metrics,
            feed,
            gate: Arc::default(),
            journal,
            failures: Mutex::default(),
            timeline: Mutex::default(),
            status: RwLock::new(Status::new(now, options.audit_log)),
            gauge: RwLock::default(),
            insight: RwLock::default(),
            scrub_told: AtomicU64::new(0),
            checks: Arc::new(Semaphore::new(CHECKS)),
        }))
    }

    /// Names who is asked for the gauges at each scrape.
    pub fn set_gauge(&self, gauge: Arc<dyn Gauge>) {
        *self.gauge.write() = Some(gauge);
    }

    /// Names who is asked what is exported, and what is known of a file.
    pub fn set_insight(&self, insight: Arc<dyn Insight>) {
        let stores = insight.overview().stores;
        *self.insight.write() = Some(insight);
        // None goes away in between: that takes the lock, too.
        let status = self.status.read();
        for store in stores.iter().map(|store| clip(store, CLIP)) {
            self.metrics.store(&store, !status.down.contains(&store));
        }
    }

    /// Says who may look and change something, from now on: by default everybody may look, who is to be on this
    /// machine.
    pub fn set_access(&self, access: Access) {
        self.gate.set(access);
    }

    /// Takes note of the mode and the number of trusted keys that hold after a reload. What relaxes
    /// enforcement is forgotten: emit [`Event::Relaxed`] again for what still does.
    pub fn set_policy(&self, mode: &str, keys: usize) {
        let mut status = self.status.write();
        mode.clone_into(&mut status.mode);
        status.relaxed.clear();
        self.metrics.trusted_keys.set(keys as u64);
        self.metrics.relaxed.set(u64::from(status.is_relaxed()));
    }

    /// Opens the audit log's name again, as after a rotation: lines so far are in the old file, later
    /// ones go to the new one.
    ///
    /// # Errors
    /// The name cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> Result<(), MonitorError> {
        self.journal.reopen()
    }

    /// Waits until what was emitted is written; false when the disk does not answer within seconds.
    pub fn flush(&self) -> bool {
        self.journal.flush()
    }

    /// Writes what is left, counted repetitions too, and ends the audit log. Call it last; it may be
    /// called again. False when the disk does not answer within seconds.
    pub fn close(&self) -> bool {
        // They may hold what holds this monitor.
        *self.gauge.write() = None;
        *self.insight.write() = None;
        self.journal.close()
    }

    /// The metrics as Prometheus scrapes them.
    ///
    /// # Errors
    /// None that can be caused from outside.
    pub fn metrics_text(&self) -> Result<String, fmt::Error> {
        self.metrics.text(&self.usage(), &self.overview().keys)
    }

    /// Serves the status page `/`, the API below `/api/v1`, `/metrics`, `/healthz` and `/readyz` until `shutdown` is
    /// done, and then for a moment what is under way; to those whom [`Monitor::set_access`] lets in.
    ///
    /// # Errors
    /// None at present; a connection that fails ends alone.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let sampling = async {
            loop {
                tokio::time::sleep(SAMPLED).await;
                self.sample(Timestamp::now());
            }
        };
        let (router, gate) = (routes::router(self.clone()), self.gate.clone());
        tokio::select! {
            result = http::serve(router, listener, shutdown, http::Bounds::default(), gate) => result,
            never = sampling => never,
        }
    }

    /// What tells a webhook of all that was emitted, once it runs.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn webhook(&self, options: WebhookOptions) -> Result<Webhook, MonitorError> {
        let deliveries = self.metrics.webhook.clone();
        Webhook::new(options, self.feed.clone(), deliveries).map_err(MonitorError::Webhook)
    }

    /// READs of clients that were answered with data so far.
    pub fn reads(&self) -> u64 {
        self.metrics.reads.get()
    }

    fn usage(&self) -> Usage {
        let gauge = self.gauge.read().clone();
        gauge.map(|gauge| gauge.usage()).unwrap_or_default()
    }

    fn insight(&self) -> Option<Arc<dyn Insight>> {
        self.insight.read().clone()
    }

    fn overview(&self) -> Overview {
        self.insight().map(|insight| insight.overview()).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        self.status.read().phase == Phase::Serving
    }

    fn refused(&self) -> u64 {
        self.metrics.refusals().map(|(_, count)| count).sum()
    }

    /// Takes note of how much was served up to `now`.
    fn sample(&self, now: Timestamp) {
        let metrics = &self.metrics;
        let (read_bytes, verified_blocks) = (metrics.read_bytes.get(), metrics.verified_blocks.get());
        let counts = Counts { read_bytes, verified_blocks, refused: self.refused() };
        self.timeline.lock().note(counts, now);
    }

    /// The last minutes, the present one too.
    fn minutes(&self, count: usize) -> Vec<Minute> {
        let now = Timestamp::now();
        self.sample(now);
        self.timeline.lock().last(count, now)
    }

    fn snapshot(&self) -> Snapshot {
        let metrics = &self.metrics;
        // Looked at first: what happens from here on is behind it, and told by who follows.
        let last_event = self.feed.last();
        let usage = self.usage();
        let totals = Totals {
            reads: metrics.reads.get(),
            read_bytes: metrics.read_bytes.get(),
            verified_blocks: metrics.verified_blocks.get(),
            refused: self.refused(),
            served_unproven: metrics.served_unproven.get(),
            cache_hits: metrics.cache_hits.get(),
            cache_misses: metrics.cache_misses.get(),
            calls: metrics.calls.total(),
            connections: u64::try_from(metrics.connections.get()).unwrap_or(0),
            open_files: usage.open_files,
            handles: usage.handles,
            measurements: metrics.measurements.get(),
            audit_lines_dropped: metrics.lines_dropped.get(),
        };
        let overview = self.overview();
        let recent = self.failures.lock().recent.clone();
        Snapshot::new(View {
            status: &self.status.read(),
            overview,
            recent,
            usage,
            totals,
            refused: metrics.refusals().filter(|(_, count)| *count > 0).collect(),
            last_event,
            now: Timestamp::now(),
        })
    }

    fn page(&self) -> String {
        page::render(&self.snapshot(), &self.minutes(SHOWN))
    }

    /// What is known of the file at `path`: what the export says, and what failed. `None` for nothing at all.
    async fn known(&self, path: Vec<u8>) -> Option<Known> {
        let survey = match self.insight() {
            Some(insight) => insight.survey(&path).await,
            None => None,
        };
        let failures = self.failures.lock();
        let file = failures.of(&path).cloned();
        let failed = failures.recent.entries.iter().any(|entry| *entry.path == *path);
        drop(failures);
        let runs = survey.as_ref().map(|survey| map::runs(survey, file.as_ref())).unwrap_or_default();
        (survey.is_some() || file.is_some() || failed).then_some(Known { path, survey, file, runs })
    }

    /// Has all of the file at `path`, in this version, read and proven, behind the caller's back; false when it is
    /// under way already, or too many others are.
    fn check(self: &Arc<Self>, path: Vec<u8>, version: Option<[u8; 32]>) -> bool {
        let (Some(insight), Ok(permit)) = (self.insight(), self.checks.clone().try_acquire_owned()) else {
            return false;
        };
        if !self.failures.lock().check(&path, version, Timestamp::now()) {
            return false;
        }
        let monitor = self.clone();
        tokio::spawn(async move {
            let examined = insight.examine(&path).await;
            monitor.failures.lock().checked(&path, &examined, Timestamp::now());
            monitor.journal.note(Fact::checked(&path, &examined));
            drop(permit);
        });
        true
    }
}

impl Sink for Monitor {
    fn emit(&self, event: &Event<'_>) {
        let metrics = &self.metrics;
        match *event {
            Event::Read(ref read) => metrics.read(read),
            Event::Call { program, procedure, ok, duration } => {
                metrics.calls.observe(program, procedure, ok, duration);
            }
            Event::Connected { .. } => {
                metrics.connections.inc();
                metrics.connects.inc();
            }
            Event::Disconnected { reason, .. } => metrics.disconnected(reason),
            Event::Refused(ref refusal) => {
                metrics.refused(refusal.cause, refusal.served);
                self.failures.lock().add(refusal, Timestamp::now());
                self.journal.refused(refusal);
            }
            Event::Hashed { path, bytes, duration, reason } => {
                metrics.hashed_files.inc();
                metrics.hashed_bytes.inc_by(bytes);
                self.journal.note(Fact::hashed(path, bytes, duration, reason));
            }
            Event::Healed(ref healed) => {
                metrics.healed(healed.store, healed.cause);
                self.journal.note(Fact::from(healed));
            }
            Event::Repaired { path, store, what, bytes } => {
                metrics.repaired(store, "ok");
                self.failures.lock().repaired(path);
                self.journal.note(Fact::repaired(path, store, what, bytes));
            }
            Event::NotRepaired { path, store, reason } => {
                metrics.repaired(store, "refused");
                self.journal.note(Fact::not_repaired(path, store, reason));
            }
            Event::Started { nfs, monitor, store, mode, keys } => {
                let mut status = self.status.write();
                status.phase = Phase::Serving;
                status.addresses = Some((nfs, monitor));
                (status.store, status.mode) = (clip(store, CLIP), clip(mode, CLIP));
                metrics.serving.set(1);
                metrics.trusted_keys.set(keys as u64);
                metrics.relaxed.set(u64::from(status.is_relaxed()));
                let (store, mode) = (status.store.clone(), status.mode.clone());
                drop(status);
                let version = env!("CARGO_PKG_VERSION");
                self.journal.note(Fact::Started { version, nfs, monitor, store, mode, keys });
            }
            Event::Stopped => {
                self.status.write().phase = Phase::Stopped;
                metrics.serving.set(0);
                self.journal.note(Fact::Stopped);
            }
            Event::Relaxed { setting } => {
                let setting = clip(setting, CLIP);
                self.status.write().relax(&setting);
                metrics.relaxed.set(1);
                self.journal.note(Fact::Relaxed { setting });
            }
            Event::Shadowed { name } => self.journal.note(Fact::Shadowed { name: clip(name, CLIP) }),
            Event::ScrubStarted { store, after, note } => {
                metrics.scrub.running.set(1);
                self.scrub_told.store(0, Ordering::Relaxed);
                self.status.write().scrubbing = Some(Timestamp::now());
                self.journal.note(Fact::scrub_started(store, after, note));
            }
            Event::Scrubbed { bytes } => metrics.scrub.looked_at(bytes),
            Event::ScrubFound(ref found) => {
                metrics.scrub.found(found.finding, found.repaired);
                // The counts at the end tell of the others.
                if self.scrub_told.fetch_add(1, Ordering::Relaxed) < SCRUB_TOLD {
                    self.journal.note(Fact::from(found));
                }
            }
            Event::ScrubEnded { result, complete, totals, duration } => {
                metrics.scrub.ended(complete, totals, Timestamp::now());
                let mut status = self.status.write();
                status.scrubbing = None;
                status.scrubbed = Some(Scrubbed::new(result, complete, totals));
                drop(status);
                self.journal.note(Fact::scrub_ended(result, complete, totals, duration));
            }
            Event::Reloaded { what, detail } => {
                metrics.reloaded(what, "ok");
                let (what, detail) = (clip(what, CLIP), clip(detail, CLIP));
                self.status.write().reload = Some(Reload::new(&what, &detail, true));
                self.journal.note(Fact::Reloaded { what, detail });
            }
            Event::ReloadRefused { what, error } => {
                metrics.reloaded(what, "refused");
                let (what, error) = (clip(what, CLIP), clip(error, CLIP));
                self.status.write().reload = Some(Reload::new(&what, &error, false));
                self.journal.note(Fact::ReloadRefused { what, error });
            }
            Event::PolicyLoaded { detail, error, record } => {
                metrics.reloaded("policy", if error.is_none() { "ok" } else { "refused" });
                let (detail, record) = (clip(detail, CLIP), clip(record, RECORD));
                let error = error.map(|error| clip(error, CLIP));
                if let Some(error) = &error {
                    self.status.write().reload = Some(Reload::new("policy", error, false));
                }
                self.journal.note(Fact::PolicyLoaded { detail, error, record });
            }
            Event::PolicyChanged { detail, record } => {
                let (detail, record) = (clip(detail, CLIP), clip(record, RECORD));
                self.status.write().reload = Some(Reload::new("policy", &detail, true));
                self.journal.note(Fact::PolicyChanged { detail, record });
            }
            Event::Measured { records } => {
                metrics.measurements.set(records);
                if self.status.read().measuring.is_some() {
                    self.status.write().measuring = None;
                }
            }
            Event::MeasuringRecovered { detail } => {
                self.journal.note(Fact::MeasuringRecovered { detail: clip(detail, CLIP) });
            }
            Event::MeasuringFailed { error, waits } => {
                self.status.write().measuring = Some((clip(error, CLIP), waits));
                // Of a disk that stays full every attempt fails.
                if metrics.measuring_failed() {
                    self.journal.note(Fact::MeasuringFailed { error: clip(error, CLIP), waits });
                }
            }
            Event::StoreDown { store, error } => {
                let (store, error) = (clip(store, CLIP), clip(error, CLIP));
                // More than one layer may notice.
                if let Some(down) = self.status.write().store_down(&store) {
                    metrics.store(&store, false);
                    metrics.store_failures.inc();
                    metrics.stores_down.set(down);
                    self.journal.note(Fact::StoreDown { store, error });
                }
            }
            Event::StoreUp { store } => {
                let store = clip(store, CLIP);
                if let Some(down) = self.status.write().store_up(&store) {
                    metrics.store(&store, true);
                    metrics.stores_down.set(down);
                    self.journal.note(Fact::StoreUp { store });
                }
            }
            Event::DiskCacheBad { file, blocks } => {
                self.journal.note(Fact::DiskCacheBad { file: hex::encode(file), blocks });
            }
            Event::DiskCacheOff { directory, error } => {
                let (directory, error) = (clip(directory, CLIP), clip(error, CLIP));
                self.journal.note(Fact::DiskCacheOff { directory, error });
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.journal.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Client, Read, Refusal};
    use std::io::Write;
    use std::time::Duration;

    fn refusal(path: &[u8], served: bool) -> Event<'_> {
        let client = Client { address: "192.0.2.7:700".parse().unwrap(), uid: Some(7), gid: Some(8) };
        let client = Some(client);
        Event::Refused(Refusal {
            detail: "line\nbreak",
            block: Some(3),
            client,
            served,
            ..Refusal::plain(path, Cause::BadBlock)
        })
    }

    fn started(mode: &str) -> Event<'_> {
        let address = "127.0.0.1:2049".parse().unwrap();
        Event::Started { nfs: address, monitor: address, store: "local /srv", mode, keys: 2 }
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn calls_go_to_the_metrics_and_not_to_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let monitor = Monitor::new(Options { audit_log: Some(path.clone()) }).unwrap();
        let peer = "192.0.2.7:700".parse().unwrap();
        monitor.emit(&Event::Connected { peer });
        monitor.emit(&Event::Read(Read { bytes: 10, verified_blocks: 1, cache_hits: 0, cache_misses: 1 }));
        let duration = Duration::from_millis(1);
        monitor.emit(&Event::Call { program: "nfs3", procedure: "READ", ok: true, duration });
        monitor.emit(&Event::Disconnected { peer, reason: "closed by peer" });
        assert!(monitor.flush());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        let text = monitor.metrics_text().unwrap();
        has(&text, "nfs_verity_connections 0");
        has(&text, "nfs_verity_connects_total 1");
        has(&text, "nfs_verity_disconnects_total{reason=\"closed by peer\"} 1");
        has(&text, "nfs_verity_calls_total{program=\"nfs3\",procedure=\"READ\",result=\"ok\"} 1");
    }

    #[test]
    fn what_matters_later_is_in_the_log_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let monitor = Monitor::new(Options { audit_log: Some(path.clone()) }).unwrap();
        monitor.emit(&Event::Relaxed { setting: "mode = \"warn\"" });
        monitor.emit(&started("warn"));
        monitor.emit(&refusal(b"a", true));
        monitor.emit(&Event::Reloaded { what: "trust", detail: "3 keys" });
        monitor.emit(&Event::ReloadRefused { what: "configuration", error: "gateway.toml:3: no" });
        monitor.emit(&Event::Stopped);
        assert!(monitor.close());
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string())
            .collect();
        let wanted = ["relaxed", "started", "refused", "reloaded", "reload-refused", "stopped"];
        assert_eq!(events, wanted.map(|name| format!("{name:?}")));
    }

    #[test]
    fn stores_that_do_not_answer_are_counted_once_each() {
        let monitor = Monitor::new(Options::default()).unwrap();
        for store in ["a", "a", "b"] {
            monitor.emit(&Event::StoreDown { store, error: "silence" });
        }
        has(&monitor.metrics_text().unwrap(), "nfs_verity_stores_down 2");
        monitor.emit(&Event::StoreUp { store: "a" });
        let text = monitor.metrics_text().unwrap();
        has(&text, "nfs_verity_stores_down 1");
        has(&text, "nfs_verity_store_failures_total 2");
    }

    #[test]
    fn a_flood_is_counted_in_full_in_the_metrics() {
        let monitor = Monitor::new(Options::default()).unwrap();
        (0..1000).for_each(|_| monitor.emit(&refusal(b"bad", false)));
        let text = monitor.metrics_text().unwrap();
        has(&text, "nfs_verity_refused_total{cause=\"bad block\",class=\"corrupt\"} 1000");
    }

    #[test]
    fn relaxed_shows_in_the_metrics_until_a_reload_enforces() {
        let monitor = Monitor::new(Options::default()).unwrap();
        monitor.emit(&started("warn"));
        has(&monitor.metrics_text().unwrap(), "nfs_verity_relaxed 1");
        monitor.set_policy("enforce", 5);
        let text = monitor.metrics_text().unwrap();
        has(&text, "nfs_verity_relaxed 0");
        has(&text, "nfs_verity_trusted_keys 5");
        monitor.emit(&Event::Relaxed { setting: "something" });
        has(&monitor.metrics_text().unwrap(), "nfs_verity_relaxed 1");
    }

    #[test]
    fn gauges_are_asked_at_each_scrape_and_let_go_at_the_end() {
        struct Counting(std::sync::atomic::AtomicU64);
        impl Gauge for Counting {
            fn usage(&self) -> Usage {
                let handles = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Usage { handles, ..Usage::default() }
            }
        }
        let monitor = Monitor::new(Options::default()).unwrap();
        let gauge = Arc::new(Counting(1.into()));
        monitor.set_gauge(gauge.clone());
        has(&monitor.metrics_text().unwrap(), "nfs_verity_handles 1");
        has(&monitor.metrics_text().unwrap(), "nfs_verity_handles 2");
        assert!(monitor.close());
        assert_eq!(Arc::strong_count(&gauge), 1);
    }

    /// Keeps what a subscriber writes.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn stderr_gets_one_line_for_each_event_whatever_the_path() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let monitor =
            tracing::subscriber::with_default(subscriber, || Monitor::new(Options::default()).unwrap());
        monitor.emit(&started("enforce"));
        monitor.emit(&refusal(b"x\n2026-01-01T00:00:00Z  INFO forged\x1b[2J\xff", false));
        monitor.emit(&refusal(b"y", true));
        monitor.emit(&Event::Relaxed { setting: "mode = \"warn\"\nforged" });
        assert!(monitor.close());
        let text = String::from_utf8(kept.0.lock().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains(" INFO ") && lines[0].contains("started"), "{text}");
        assert!(lines[1].contains(" WARN ") && lines[1].contains("x\\x0a2026"), "{text}");
        for fact in ["refused", "bad block", "client=192.0.2.7:700", "uid=7", "block=3", "line\\x0abreak"] {
            assert!(lines[1].contains(fact), "{fact} in {text}");
        }
        assert!(lines[2].contains("SERVED UNPROVEN"), "{text}");
        assert!(lines[3].contains("RELAXED") && lines[3].contains("\\x0aforged"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn an_audit_log_that_cannot_be_opened_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/audit.log");
        let error = Monitor::new(Options { audit_log: Some(path) }).unwrap_err().to_string();
        assert!(error.contains("missing/audit.log"), "{error}");
    }
}
