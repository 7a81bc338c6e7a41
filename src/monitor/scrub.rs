//! The metrics of scrubs.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::fresh;
use crate::event::{Finding, ScrubTotals};

type Labels = [(&'static str, &'static str); 1];
type Level = Gauge<u64, AtomicU64>;

/// What scrubs did and found.
#[derive(Debug)]
pub(super) struct Scrubs {
    files: Counter,
    bytes: Counter,
    findings: Family<Labels, Counter>,
    repaired: Counter,
    pub(super) running: Level,
    runs: Family<Labels, Counter>,
    last_time: Gauge<f64, AtomicU64>,
    last_findings: Family<Labels, Level>,
}

impl Scrubs {
    /// All at zero, each kind of finding too.
    pub(super) fn new(r: &mut Registry) -> Self {
        let scrubs = Self {
            files: fresh(r, "nfs_verity_scrub_files_total"),
            bytes: fresh(r, "nfs_verity_scrub_bytes_total"),
            findings: fresh(r, "nfs_verity_scrub_findings_total"),
            repaired: fresh(r, "nfs_verity_scrub_repaired_total"),
            running: fresh(r, "nfs_verity_scrub_running"),
            runs: fresh(r, "nfs_verity_scrub_runs_total"),
            last_time: fresh(r, "nfs_verity_scrub_last_time_seconds"),
            last_findings: fresh(r, "nfs_verity_scrub_last_findings"),
        };
        for finding in Finding::all() {
            drop(scrubs.findings.get_or_create(&kind(finding)));
            drop(scrubs.last_findings.get_or_create(&kind(finding)));
        }
        for result in ["complete", "stopped"] {
            drop(scrubs.runs.get_or_create(&[("result", result)]));
        }
        scrubs
    }

    /// Counts one file.
    pub(super) fn looked_at(&self, bytes: u64) {
        self.files.inc();
        self.bytes.inc_by(bytes);
    }

    /// Counts one finding.
    pub(super) fn found(&self, finding: Finding, repaired: bool) {
        self.findings.get_or_create(&kind(finding)).inc();
        self.repaired.inc_by(u64::from(repaired));
    }

    /// Takes note of the end of a scrub at `now`.
    pub(super) fn ended(&self, complete: bool, totals: &ScrubTotals, now: Timestamp) {
        self.running.set(0);
        let result = if complete { "complete" } else { "stopped" };
        self.runs.get_or_create(&[("result", result)]).inc();
        if complete {
            self.last_time.set(now.as_duration().as_secs_f64());
            for finding in Finding::all() {
                self.last_findings.get_or_create(&kind(finding)).set(totals.count(finding));
            }
        }
    }
}

fn kind(finding: Finding) -> Labels {
    [("finding", finding.as_str())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn what_was_found_is_there_by_kind_and_the_last_scrub_apart() {
        let mut registry = Registry::default();
        let scrubs = Scrubs::new(&mut registry);
        scrubs.looked_at(100);
        scrubs.looked_at(0);
        let bad = Finding::Failed(Cause::BadBlock);
        for (finding, repaired) in [(bad, true), (bad, false), (Finding::Orphan, false)] {
            scrubs.found(finding, repaired);
        }
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let totals = ScrubTotals { findings: [(bad, 7)].into(), ..ScrubTotals::default() };
        scrubs.ended(true, &totals, now);
        scrubs.ended(false, &ScrubTotals::default(), now);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "nfs_verity_scrub_files_total 2",
            "nfs_verity_scrub_bytes_total 100",
            "nfs_verity_scrub_findings_total{finding=\"bad block\"} 2",
            "nfs_verity_scrub_findings_total{finding=\"orphan evidence\"} 1",
            "nfs_verity_scrub_findings_total{finding=\"truncated\"} 0",
            "nfs_verity_scrub_repaired_total 1",
            "nfs_verity_scrub_running 0",
            "nfs_verity_scrub_runs_total{result=\"complete\"} 1",
            "nfs_verity_scrub_runs_total{result=\"stopped\"} 1",
            "nfs_verity_scrub_last_time_seconds 1700000000.0",
            "nfs_verity_scrub_last_findings{finding=\"bad block\"} 7",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
    }
}
