//! Counts and times of remote procedure calls, by program and procedure.
//!
//! Answering a call costs one lookup without a lock and three atomic additions.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Procedures told apart; what comes beyond is counted as `other`. Names are the program's own
/// constants, so that a peer cannot fill the table.
const SLOTS: usize = 256;

/// Upper ends of the histogram's buckets in microseconds: 10 µs to 10 s.
const BOUNDS_MICROS: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

#[derive(Debug)]
struct Series {
    program: &'static str,
    procedure: &'static str,
    ok: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MICROS.len()],
    above: AtomicU64,
}

impl Series {
    fn new(program: &'static str, procedure: &'static str) -> Self {
        Self {
            program,
            procedure,
            ok: AtomicU64::default(),
            failed: AtomicU64::default(),
            nanos: AtomicU64::default(),
            buckets: Default::default(),
            above: AtomicU64::default(),
        }
    }

    fn observe(&self, ok: bool, duration: Duration) {
        if ok { &self.ok } else { &self.failed }.fetch_add(1, Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        let bucket = BOUNDS_MICROS.partition_point(|bound| bound * 1_000 < nanos);
        self.buckets.get(bucket).unwrap_or(&self.above).fetch_add(1, Relaxed);
    }
}

/// The table of all calls.
#[derive(Debug)]
pub(super) struct Calls {
    slots: Box<[OnceLock<Series>]>,
    other: Series,
}

impl Default for Calls {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| OnceLock::new()).collect(), other: Series::new("other", "other") }
    }
}

impl Calls {
    /// Counts one call.
    pub(super) fn observe(
        &self,
        program: &'static str,
        procedure: &'static str,
        ok: bool,
        duration: Duration,
    ) {
        self.series(program, procedure).observe(ok, duration);
    }

    /// Calls answered so far.
    pub(super) fn total(&self) -> u64 {
        self.all().map(|series| series.ok.load(Relaxed) + series.failed.load(Relaxed)).sum()
    }

    fn series(&self, program: &'static str, procedure: &'static str) -> &Series {
        let start = usize::from(hash(program) ^ hash(procedure)) % SLOTS;
        let (before, from) = self.slots.split_at(start.min(self.slots.len()));
        from.iter()
            .chain(before)
            .map(|slot| slot.get_or_init(|| Series::new(program, procedure)))
            .find(|series| series.procedure == procedure && series.program == program)
            .unwrap_or(&self.other)
    }

    fn all(&self) -> impl Iterator<Item = &Series> {
        let other =
            (self.other.ok.load(Relaxed) + self.other.failed.load(Relaxed) > 0).then_some(&self.other);
        self.slots.iter().filter_map(OnceLock::get).chain(other)
    }
}

/// FNV-1a, folded to 16 bits: names are short.
fn hash(name: &str) -> u16 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

/// Shows [`Calls`] as a counter with a `result`.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Arc<Calls>);

impl EncodeMetric for Counts {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for series in self.0.all() {
            for (result, count) in [("ok", &series.ok), ("error", &series.failed)] {
                let labels =
                    [("program", series.program), ("procedure", series.procedure), ("result", result)];
                let count = count.load(Relaxed);
                encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Shows [`Calls`] as a histogram of seconds.
#[derive(Debug)]
pub(super) struct Durations(pub(super) Arc<Calls>);

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for series in self.0.all() {
            let mut buckets: Vec<(f64, u64)> = BOUNDS_MICROS
                .iter()
                .zip(&series.buckets)
                .map(|(micros, count)| (Duration::from_micros(*micros).as_secs_f64(), count.load(Relaxed)))
                .collect();
            buckets.push((f64::INFINITY, series.above.load(Relaxed)));
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = Duration::from_nanos(series.nanos.load(Relaxed)).as_secs_f64();
            let labels = [("program", series.program), ("procedure", series.procedure)];
            encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let series = Series::new("p", "q");
        for (nanos, bucket) in [(0, 0), (10_000, 0), (10_001, 1), (10_000_000_000, 18)] {
            let before = series.buckets[bucket].load(Relaxed);
            series.observe(true, Duration::from_nanos(nanos));
            assert_eq!(series.buckets[bucket].load(Relaxed), before + 1, "{nanos} ns");
        }
        series.observe(false, Duration::from_nanos(10_000_000_001));
        assert_eq!((series.above.load(Relaxed), series.failed.load(Relaxed)), (1, 1));
    }

    #[test]
    fn procedures_are_told_apart_until_the_table_is_full_and_none_is_lost() {
        let calls = Calls::default();
        let names: Vec<&'static str> =
            (0..SLOTS + 50).map(|n| &*Box::leak(format!("PROC{n}").into_boxed_str())).collect();
        for _ in 0..3 {
            for name in &names {
                calls.observe("p", name, true, Duration::ZERO);
            }
        }
        assert_eq!(calls.total(), 3 * names.len() as u64);
        assert_eq!(calls.all().filter(|series| series.ok.load(Relaxed) == 3).count(), SLOTS);
        assert_eq!(calls.other.ok.load(Relaxed), 3 * 50);
    }

    #[test]
    fn one_name_at_two_addresses_is_one_series() {
        let calls = Calls::default();
        let copy: &'static str = Box::leak("READ".to_owned().into_boxed_str());
        calls.observe("nfs3", "READ", true, Duration::ZERO);
        calls.observe("nfs3", copy, false, Duration::ZERO);
        assert_eq!(calls.all().count(), 1);
    }
}
