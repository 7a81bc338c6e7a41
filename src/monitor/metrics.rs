//! The metrics, in the OpenMetrics text format that Prometheus scrapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::calls::{Calls, Counts, Durations};
use super::fact::class_name;
use super::scrub::Scrubs;
use super::text::{CLIP, clip};
use super::webhook::Deliveries;
use crate::event::{Cause, DiskUsage, Read, TrustedKey, Usage};

/// Every metric: its name as a scrape shows it, and its meaning.
pub const TABLE: [(&str, &str); 52] = [
    ("nfs_verity_reads_total", "READ calls answered with data"),
    ("nfs_verity_read_bytes_total", "Payload bytes returned by READ"),
    ("nfs_verity_verified_blocks_total", "Data and tree blocks proven for READ"),
    (
        "nfs_verity_refused_total",
        "Files and blocks that failed verification, by cause; with those warn mode served",
    ),
    ("nfs_verity_served_unproven_total", "Those of them that warn mode served"),
    (
        "nfs_verity_hashed_files_total",
        "Whole files hashed, for their evidence lets no single block be proven",
    ),
    ("nfs_verity_hashed_bytes_total", "Bytes of whole files hashed"),
    ("nfs_verity_healed_total", "What one store had damaged and another one whole, by store and cause"),
    ("nfs_verity_repairs_total", "Damaged files written again, by store and result: ok or refused"),
    ("nfs_verity_store_up", "1 while a store answers, 0 while it does not, by store"),
    ("nfs_verity_cache_hits_total", "Spans found proven in the cache"),
    ("nfs_verity_cache_misses_total", "Spans that had to be read from the store"),
    ("nfs_verity_cache_bytes", "Bytes of proven blocks in the cache"),
    ("nfs_verity_cache_capacity_bytes", "Size limit of the cache in bytes"),
    ("nfs_verity_cache_entries", "Entries in the cache"),
    ("nfs_verity_disk_cache_bytes", "Bytes of the disk cache on the disk"),
    ("nfs_verity_disk_cache_capacity_bytes", "Size limit of the disk cache in bytes"),
    ("nfs_verity_disk_cache_entries", "Blocks that the disk cache can give"),
    ("nfs_verity_disk_cache_hits_total", "Blocks read back from the disk cache"),
    ("nfs_verity_disk_cache_misses_total", "Blocks that the disk cache did not have"),
    ("nfs_verity_disk_cache_bad_total", "Blocks read back from the disk cache that did not verify"),
    ("nfs_verity_disk_cache_skipped_total", "Blocks not kept on disk, which was slower than the store"),
    ("nfs_verity_disk_cache_on", "1 while the disk cache is used, 0 without one and once the disk failed"),
    ("nfs_verity_stores_down", "Stores that do not answer now"),
    ("nfs_verity_store_failures_total", "Times that a store went silent"),
    ("nfs_verity_open_files", "Files held open in the store"),
    ("nfs_verity_handles", "Paths known by file handle"),
    ("nfs_verity_calls_total", "Remote procedure calls answered; error: with an error status"),
    ("nfs_verity_call_duration_seconds", "From a complete call to its complete reply, without the network"),
    ("nfs_verity_connections", "Client connections now"),
    ("nfs_verity_connects_total", "Client connections accepted"),
    ("nfs_verity_disconnects_total", "Client connections ended, by reason"),
    (
        "nfs_verity_audit_lines_dropped_total",
        "Lines that did not reach the audit log: queue full or write failed",
    ),
    ("nfs_verity_trusted_keys", "Keys that are trusted now"),
    (
        "nfs_verity_key_last_second",
        "The last second since 1970 at which a key counts, by name, key id and kind; none for one that is revoked or has no end",
    ),
    ("nfs_verity_relaxed", "1 while the configuration relaxes enforcement, as in warn mode"),
    ("nfs_verity_serving", "1 while the gateway serves"),
    ("nfs_verity_reloads_total", "Trust and configuration read again, by result: ok or refused"),
    ("nfs_verity_scrub_files_total", "Files that scrubs looked at"),
    ("nfs_verity_scrub_bytes_total", "Bytes of files that scrubs looked at"),
    ("nfs_verity_scrub_findings_total", "What scrubs came across, by kind; what was put right, too"),
    ("nfs_verity_scrub_repaired_total", "Findings of scrubs that were put right"),
    ("nfs_verity_scrub_running", "1 while a scrub runs"),
    ("nfs_verity_scrub_runs_total", "Scrubs ended, by result: complete or stopped"),
    (
        "nfs_verity_scrub_last_time_seconds",
        "When the last complete scrub ended, in seconds since 1970; 0 for none since the start",
    ),
    ("nfs_verity_scrub_last_findings", "What the last complete scrub came across, by kind"),
    ("nfs_verity_measurements", "Records in the measurement list; 0 without one"),
    ("nfs_verity_measuring_failures_total", "Times that the measurement list could not be written"),
    (
        "nfs_verity_webhook_total",
        "Deliveries to the webhook, by result: ok, failed and tried again, or dropped since it was refused",
    ),
    ("nfs_verity_http_requests_total", "Requests to the monitor's own address"),
    ("nfs_verity_build_info", "Version of the gateway"),
    ("nfs_verity_start_time_seconds", "When the process started, in seconds since 1970"),
];

/// What a scrape's answer is: `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What can be read again; anything else counts as `other`.
const RELOADED: [&str; 5] = ["trust", "revocations", "configuration", "policy", "audit log"];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type ByStore = Vec<(&'static str, String)>;
type ByKey = [(&'static str, String); 3];
type Level = Gauge<u64, AtomicU64>;

/// The state of all metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    pub(super) reads: Counter,
    pub(super) read_bytes: Counter,
    pub(super) verified_blocks: Counter,
    refused: Vec<(Cause, Counter)>,
    pub(super) served_unproven: Counter,
    pub(super) hashed_files: Counter,
    pub(super) hashed_bytes: Counter,
    healed: Family<ByStore, Counter>,
    repairs: Family<ByStore, Counter>,
    store_up: Family<ByStore, Level>,
    pub(super) cache_hits: Counter,
    pub(super) cache_misses: Counter,
    cache_bytes: Level,
    cache_capacity: Level,
    cache_entries: Level,
    disk: Disk,
    pub(super) stores_down: Level,
    pub(super) store_failures: Counter,
    open_files: Level,
    handles: Level,
    pub(super) calls: Arc<Calls>,
    pub(super) connections: Gauge<i64, AtomicI64>,
    pub(super) connects: Counter,
    disconnects: Family<Labels<1>, Counter>,
    pub(super) lines_dropped: Counter,
    pub(super) trusted_keys: Level,
    key_ends: KeyEnds,
    pub(super) relaxed: Level,
    pub(super) serving: Level,
    reloads: Family<Labels<2>, Counter>,
    pub(super) http_requests: Counter,
    pub(super) measurements: Level,
    measuring_failures: Counter,
    pub(super) webhook: Deliveries,
    pub(super) scrub: Scrubs,
}

/// What is told of the disk cache.
#[derive(Debug)]
struct Disk {
    bytes: Level,
    capacity: Level,
    entries: Level,
    on: Level,
    hits: Counter,
    misses: Counter,
    bad: Counter,
    skipped: Counter,
}

impl Disk {
    fn new(r: &mut Registry) -> Self {
        Self {
            bytes: fresh(r, "nfs_verity_disk_cache_bytes"),
            capacity: fresh(r, "nfs_verity_disk_cache_capacity_bytes"),
            entries: fresh(r, "nfs_verity_disk_cache_entries"),
            on: fresh(r, "nfs_verity_disk_cache_on"),
            hits: fresh(r, "nfs_verity_disk_cache_hits_total"),
            misses: fresh(r, "nfs_verity_disk_cache_misses_total"),
            bad: fresh(r, "nfs_verity_disk_cache_bad_total"),
            skipped: fresh(r, "nfs_verity_disk_cache_skipped_total"),
        }
    }

    fn set(&self, usage: &DiskUsage) {
        self.bytes.set(usage.bytes);
        self.capacity.set(usage.capacity);
        self.entries.set(usage.entries);
        self.on.set(usage.on);
        // They are counted elsewhere and only grow.
        for (counter, now) in [
            (&self.hits, usage.hits),
            (&self.misses, usage.misses),
            (&self.bad, usage.bad),
            (&self.skipped, usage.skipped),
        ] {
            counter.inner().fetch_max(now, Ordering::Relaxed);
        }
    }
}

/// When keys end, by name, key id and kind.
#[derive(Clone, Debug, Default)]
struct KeyEnds(Arc<Mutex<BTreeMap<ByKey, i64>>>);

impl KeyEnds {
    fn set(&self, keys: &[TrustedKey]) {
        let mut ends = BTreeMap::new();
        for key in keys.iter().filter(|key| key.revoked_by.is_none()) {
            if let Some(last) = key.last {
                let kind = ("kind", key.kind.to_owned());
                // One line each, or a scrape would be refused.
                let end = ends.entry([("name", clip(&key.name, CLIP)), ("key", key.id.clone()), kind]);
                let end = end.or_insert(last);
                *end = last.min(*end);
            }
        }
        *self.0.lock() = ends;
    }
}

impl EncodeMetric for KeyEnds {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, last) in &*self.0.lock() {
            encoder.encode_family(labels)?.encode_gauge(last)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// The labels of a metric of one store. Stores come from the configuration: they are few.
fn by_store(store: &str, more: Option<(&'static str, &'static str)>) -> ByStore {
    let more = more.map(|(name, value)| (name, value.to_owned()));
    std::iter::once(("store", clip(store, CLIP))).chain(more).collect()
}

/// Registers `metric` under `name`, with the meaning that [`TABLE`] gives.
fn register<M: Metric>(registry: &mut Registry, name: &str, metric: M) {
    let meaning = TABLE.iter().find(|(known, _)| *known == name).map_or("", |(_, meaning)| *meaning);
    // The encoder adds these by the metric's type.
    let stem = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
    registry.register(stem, meaning, metric);
}

/// Registers a metric that starts at zero and gives the handle to it.
pub(super) fn fresh<M: Metric + Clone + Default>(registry: &mut Registry, name: &str) -> M {
    let metric = M::default();
    register(registry, name, metric.clone());
    metric
}

impl Metrics {
    /// All metrics at zero, for a process that starts at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let calls = Arc::new(Calls::default());
        let refused: Family<Labels<2>, Counter> = fresh(r, "nfs_verity_refused_total");
        let refused = Cause::ALL.map(|cause| {
            let labels = [("cause", cause.as_str()), ("class", class_name(cause.class()))];
            (cause, refused.get_or_create_owned(&labels))
        });
        let reloads: Family<Labels<2>, Counter> = fresh(r, "nfs_verity_reloads_total");
        for what in RELOADED {
            for result in ["ok", "refused"] {
                drop(reloads.get_or_create(&[("what", what), ("result", result)]));
            }
        }
        register(r, "nfs_verity_calls_total", Counts(calls.clone()));
        register(r, "nfs_verity_call_duration_seconds", Durations(calls.clone()));
        let version: Labels<1> = [("version", env!("CARGO_PKG_VERSION"))];
        register(r, "nfs_verity_build_info", Info::new(version));
        let start: Gauge<f64, AtomicU64> = fresh(r, "nfs_verity_start_time_seconds");
        start.set(now.as_duration().as_secs_f64());
        Self {
            reads: fresh(r, "nfs_verity_reads_total"),
            read_bytes: fresh(r, "nfs_verity_read_bytes_total"),
            verified_blocks: fresh(r, "nfs_verity_verified_blocks_total"),
            refused: refused.into(),
            served_unproven: fresh(r, "nfs_verity_served_unproven_total"),
            hashed_files: fresh(r, "nfs_verity_hashed_files_total"),
            hashed_bytes: fresh(r, "nfs_verity_hashed_bytes_total"),
            healed: fresh(r, "nfs_verity_healed_total"),
            repairs: fresh(r, "nfs_verity_repairs_total"),
            store_up: fresh(r, "nfs_verity_store_up"),
            cache_hits: fresh(r, "nfs_verity_cache_hits_total"),
            cache_misses: fresh(r, "nfs_verity_cache_misses_total"),
            cache_bytes: fresh(r, "nfs_verity_cache_bytes"),
            cache_capacity: fresh(r, "nfs_verity_cache_capacity_bytes"),
            cache_entries: fresh(r, "nfs_verity_cache_entries"),
            disk: Disk::new(r),
            stores_down: fresh(r, "nfs_verity_stores_down"),
            store_failures: fresh(r, "nfs_verity_store_failures_total"),
            open_files: fresh(r, "nfs_verity_open_files"),
            handles: fresh(r, "nfs_verity_handles"),
            calls,
            connections: fresh(r, "nfs_verity_connections"),
            connects: fresh(r, "nfs_verity_connects_total"),
            disconnects: fresh(r, "nfs_verity_disconnects_total"),
            lines_dropped: fresh(r, "nfs_verity_audit_lines_dropped_total"),
            trusted_keys: fresh(r, "nfs_verity_trusted_keys"),
            key_ends: fresh(r, "nfs_verity_key_last_second"),
            relaxed: fresh(r, "nfs_verity_relaxed"),
            serving: fresh(r, "nfs_verity_serving"),
            reloads,
            http_requests: fresh(r, "nfs_verity_http_requests_total"),
            measurements: fresh(r, "nfs_verity_measurements"),
            measuring_failures: fresh(r, "nfs_verity_measuring_failures_total"),
            webhook: Deliveries::new(r),
            scrub: Scrubs::new(r),
            registry,
        }
    }

    /// Counts one answered READ.
    pub(super) fn read(&self, read: &Read) {
        self.reads.inc();
        self.read_bytes.inc_by(read.bytes);
        self.verified_blocks.inc_by(read.verified_blocks);
        self.cache_hits.inc_by(read.cache_hits);
        self.cache_misses.inc_by(read.cache_misses);
    }

    /// Counts one failed verification.
    pub(super) fn refused(&self, cause: Cause, served: bool) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == cause) {
            counter.inc();
        }
        // What a policy denies is proven.
        if served && cause != Cause::Policy {
            self.served_unproven.inc();
        }
    }

    /// Counts a failure to write the measurement list; whether it is to be told: the first, second, fourth and so on.
    pub(super) fn measuring_failed(&self) -> bool {
        (self.measuring_failures.inc() + 1).is_power_of_two()
    }

    /// Counts what `store` had damaged and another one whole.
    pub(super) fn healed(&self, store: &str, cause: Cause) {
        self.healed.get_or_create(&by_store(store, Some(("cause", cause.as_str())))).inc();
    }

    /// Counts a repair on `store`.
    pub(super) fn repaired(&self, store: &str, result: &'static str) {
        self.repairs.get_or_create(&by_store(store, Some(("result", result)))).inc();
    }

    /// Notes whether `store` answers.
    pub(super) fn store(&self, store: &str, up: bool) {
        self.store_up.get_or_create(&by_store(store, None)).set(u64::from(up));
    }

    /// Failed verifications so far, by cause.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (Cause, u64)> {
        self.refused.iter().map(|(cause, counter)| (*cause, counter.get()))
    }

    /// Counts the end of a connection.
    pub(super) fn disconnected(&self, reason: &'static str) {
        self.connections.dec();
        self.disconnects.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts one reload of `what`.
    pub(super) fn reloaded(&self, what: &str, result: &'static str) {
        let what = RELOADED.into_iter().find(|known| *known == what).unwrap_or("other");
        self.reloads.get_or_create(&[("what", what), ("result", result)]).inc();
    }

    /// The text of a scrape, with the gauges as `usage` has them, and of those who are trusted.
    pub(super) fn text(&self, usage: &Usage, keys: &[TrustedKey]) -> Result<String, fmt::Error> {
        let Usage { cache_bytes, cache_capacity, cache_entries, ref disk, open_files, handles } = *usage;
        self.disk.set(disk);
        self.cache_bytes.set(cache_bytes);
        self.cache_capacity.set(cache_capacity);
        self.cache_entries.set(cache_entries);
        self.open_files.set(open_files);
        self.handles.set(handles);
        self.key_ends.set(keys);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }

    fn key(name: &str, last: Option<i64>) -> TrustedKey {
        TrustedKey { name: name.to_owned(), id: "5a".repeat(32), kind: "key", last, ..TrustedKey::default() }
    }

    #[test]
    fn a_scrape_has_the_ends_of_the_keys_that_are_trusted_then() {
        let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
        let ends = |keys: &[TrustedKey]| -> Vec<String> {
            let text = metrics.text(&Usage::default(), keys).unwrap();
            text.lines().filter(|line| line.starts_with("nfs_verity_key_last")).map(str::to_owned).collect()
        };
        let line = |name: &str, last: i64| {
            let key = "5a".repeat(32);
            format!("nfs_verity_key_last_second{{name=\"{name}\",key=\"{key}\",kind=\"key\"}} {last}")
        };
        let revoked = TrustedKey { revoked_by: Some("an entry".to_owned()), ..key("revoked", Some(7)) };
        let odd = "a \"b\"\n";
        let keys = [key("old", Some(-1)), key("no end", None), revoked, key(odd, Some(8)), key(odd, Some(7))];
        assert_eq!(ends(&keys), [line(r#"a \"b\"\n"#, 7), line("old", -1)]);
        // A certificate ends by itself, whatever is set for the signatures of its own key.
        let authority = TrustedKey { kind: "authority", ..key("ca", Some(3)) };
        assert_eq!(ends(&[authority, key("ca", Some(9))]).len(), 2);
        assert_eq!(ends(&[key("new", Some(9))]), [line("new", 9)]);
    }

    #[test]
    fn the_table_and_a_scrape_have_the_same_names() {
        let metrics = Metrics::new(Timestamp::from_second(1_700_000_000).unwrap());
        metrics.disconnected("idle");
        metrics.healed("local /a", Cause::BadBlock);
        metrics.repaired("local /a", "ok");
        metrics.store("local /a", false);
        metrics.calls.observe("nfs3", "READ", true, Duration::from_micros(30));
        let text = metrics.text(&Usage::default(), &[key("a", Some(1))]).unwrap();
        let shown: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .map(|name| {
                ["_sum", "_count", "_bucket"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name)
            })
            .collect();
        assert_eq!(shown, TABLE.iter().map(|(name, _)| *name).collect());
        for (name, meaning) in TABLE {
            let stem = name.trim_end_matches("_total").trim_end_matches("_info");
            has(&text, &format!("# HELP {stem} {meaning}."));
        }
        assert!(text.ends_with("# EOF\n"));
        has(&text, "nfs_verity_start_time_seconds 1700000000.0");
        has(&text, concat!("nfs_verity_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"));
    }

    #[test]
    fn no_two_families_have_one_name() {
        let text = Metrics::new(Timestamp::UNIX_EPOCH).text(&Usage::default(), &[]).unwrap();
        let types: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "{types:?}");
    }

    #[test]
    fn every_cause_is_there_from_the_start() {
        let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
        metrics.refused(Cause::Truncated, false);
        metrics.refused(Cause::Unsigned, true);
        let text = metrics.text(&Usage::default(), &[]).unwrap();
        for cause in Cause::ALL {
            let class = class_name(cause.class());
            let count = u32::from(matches!(cause, Cause::Truncated | Cause::Unsigned));
            has(&text, &format!("nfs_verity_refused_total{{cause=\"{cause}\",class=\"{class}\"}} {count}"));
        }
        has(&text, "nfs_verity_served_unproven_total 1");
    }

    #[test]
    fn events_and_gauges_show_their_values() {
        let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
        metrics.read(&Read { bytes: 4096, verified_blocks: 3, cache_hits: 1, cache_misses: 2 });
        metrics.read(&Read { bytes: 1, verified_blocks: 0, cache_hits: 5, cache_misses: 0 });
        metrics.calls.observe("nfs3", "READ", true, Duration::from_micros(30));
        metrics.calls.observe("nfs3", "READ", false, Duration::from_secs(20));
        metrics.connections.inc();
        metrics.connections.inc();
        metrics.disconnected("idle");
        metrics.healed("s3://b", Cause::BadBlock);
        metrics.healed("s3://b", Cause::BadBlock);
        metrics.repaired("s3://b", "refused");
        metrics.store("s3://b", false);
        metrics.store("local /a", true);
        metrics.reloaded("trust", "refused");
        metrics.reloaded("something new", "ok");
        let disk = DiskUsage {
            bytes: 12,
            capacity: 13,
            entries: 14,
            hits: 15,
            misses: 16,
            bad: 17,
            skipped: 18,
            on: 1,
        };
        let usage =
            Usage { cache_bytes: 7, cache_capacity: 8, cache_entries: 9, disk, open_files: 10, handles: 11 };
        let text = metrics.text(&usage, &[]).unwrap();
        for line in [
            "nfs_verity_reads_total 2",
            "nfs_verity_read_bytes_total 4097",
            "nfs_verity_verified_blocks_total 3",
            "nfs_verity_cache_hits_total 6",
            "nfs_verity_cache_misses_total 2",
            "nfs_verity_cache_bytes 7",
            "nfs_verity_cache_capacity_bytes 8",
            "nfs_verity_cache_entries 9",
            "nfs_verity_disk_cache_bytes 12",
            "nfs_verity_disk_cache_capacity_bytes 13",
            "nfs_verity_disk_cache_entries 14",
            "nfs_verity_disk_cache_hits_total 15",
            "nfs_verity_disk_cache_misses_total 16",
            "nfs_verity_disk_cache_bad_total 17",
            "nfs_verity_disk_cache_skipped_total 18",
            "nfs_verity_disk_cache_on 1",
            "nfs_verity_open_files 10",
            "nfs_verity_handles 11",
            "nfs_verity_healed_total{store=\"s3://b\",cause=\"bad block\"} 2",
            "nfs_verity_repairs_total{store=\"s3://b\",result=\"refused\"} 1",
            "nfs_verity_store_up{store=\"s3://b\"} 0",
            "nfs_verity_store_up{store=\"local /a\"} 1",
            "nfs_verity_connections 1",
            "nfs_verity_disconnects_total{reason=\"idle\"} 1",
            "nfs_verity_calls_total{program=\"nfs3\",procedure=\"READ\",result=\"ok\"} 1",
            "nfs_verity_calls_total{program=\"nfs3\",procedure=\"READ\",result=\"error\"} 1",
            "nfs_verity_call_duration_seconds_bucket{le=\"0.000025\",program=\"nfs3\",procedure=\"READ\"} 0",
            "nfs_verity_call_duration_seconds_bucket{le=\"0.00005\",program=\"nfs3\",procedure=\"READ\"} 1",
            "nfs_verity_call_duration_seconds_bucket{le=\"10.0\",program=\"nfs3\",procedure=\"READ\"} 1",
            "nfs_verity_call_duration_seconds_bucket{le=\"+Inf\",program=\"nfs3\",procedure=\"READ\"} 2",
            "nfs_verity_call_duration_seconds_count{program=\"nfs3\",procedure=\"READ\"} 2",
            "nfs_verity_call_duration_seconds_sum{program=\"nfs3\",procedure=\"READ\"} 20.00003",
            "nfs_verity_reloads_total{what=\"trust\",result=\"refused\"} 1",
            "nfs_verity_reloads_total{what=\"trust\",result=\"ok\"} 0",
            "nfs_verity_reloads_total{what=\"other\",result=\"ok\"} 1",
        ] {
            has(&text, line);
        }
    }
}
