//! How the gateway is, at a glance: what is wrong, how bad it is, and what to do.
//!
//! Pure: facts go in, reasons come out.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::failures::Recent;
use super::status::{Phase, Status};
use crate::event::{CauseClass, Overview, TrustedKey, Usage};

/// How long a failure counts.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// So long before its end a key is told of, in seconds.
const EXPIRING: i64 = 30 * 24 * 3600;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    /// Nothing is wrong.
    Good,
    /// Somebody should look at it in time.
    Warning,
    /// Somebody should look at it now.
    Bad,
}

impl Health {
    /// The word for people and programs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// How bad it is.
    pub(super) level: Health,
    /// What it is.
    pub(super) text: String,
    /// What to do.
    pub(super) remedy: &'static str,
}

/// What a key is at `now`, with those that will be expired soon apart.
pub(super) fn key_state(key: &TrustedKey, now: Timestamp) -> &'static str {
    let ends = key.last.is_some_and(|last| last.saturating_sub(now.as_second()) < EXPIRING);
    if key.standing == "trusted" && ends { "expiring" } else { key.standing }
}

/// What is wrong at `now`, the worst first.
pub(super) fn reasons(
    status: &Status,
    overview: &Overview,
    recent: &Recent,
    usage: &Usage,
    lines_dropped: u64,
    now: Timestamp,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut tell = |level, text: String, remedy| reasons.push(Reason { level, text, remedy });
    match status.phase {
        Phase::Serving => {}
        Phase::Starting => {
            tell(Health::Bad, "not serving yet".to_owned(), "wait; the log tells what it waits for")
        }
        Phase::Stopped => tell(Health::Bad, "not serving any more".to_owned(), "start it again"),
    }
    if status.is_relaxed() {
        let settings = match status.relaxed.is_empty() {
            true => format!("mode = \"{}\"", status.mode),
            false => status.relaxed.join(", "),
        };
        tell(
            Health::Bad,
            format!("enforcement is relaxed by {settings}"),
            "take the setting back when it has served its end",
        );
    }
    let is_recent = |time: Option<Timestamp>| time.is_some_and(|time| now.duration_since(time) < RECENT);
    if is_recent(recent.last(CauseClass::Corrupt)) {
        let text = "data or evidence failed verification within the hour".to_owned();
        tell(Health::Bad, text, "look at the failures below; each says what to do");
    }
    if is_recent(recent.last(CauseClass::Denied)) {
        let text = "files were refused within the hour: not signed as trust and policy ask for".to_owned();
        tell(Health::Warning, text, "look at the failures below; each says what to do");
    }
    stores(status, overview, &mut tell);
    keys(overview, now, &mut tell);
    if let Some(scrubbed) = &status.scrubbed {
        match scrubbed.totals.left() {
            0 => {}
            left => {
                let text = format!("the last scrub left {left} findings");
                tell(
                    Health::Bad,
                    text,
                    "the audit log has each; scrub --repair puts right what a replica has whole",
                );
            }
        }
        if !scrubbed.complete {
            let text = format!("the last scrub did not come to its end: {}", scrubbed.result);
            tell(Health::Warning, text, "look at the store; the scrub goes on where it was");
        }
    }
    if let Some((error, waits)) = &status.measuring {
        let level = if *waits { Health::Bad } else { Health::Warning };
        let text = format!("the measurement list cannot be written: {error}");
        tell(level, text, "make room on its disk; files that are not in the list wait for it");
    }
    if let Some(reload) = status.reload.as_ref().filter(|reload| !reload.ok) {
        let text = format!("new {} was refused: {}", reload.what, reload.detail);
        tell(Health::Warning, text, "put it right and send SIGHUP; what was before still holds");
    }
    if usage.disk.capacity > 0 && usage.disk.on == 0 {
        let text = "the disk cache is off, since its disk failed".to_owned();
        tell(Health::Warning, text, "replace the disk and restart");
    }
    if lines_dropped > 0 {
        let text = format!("{lines_dropped} lines did not reach the audit log");
        tell(Health::Warning, text, "look at the disk that it is on");
    }
    // Those of one level stay in their order.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    reasons
}

fn stores(status: &Status, overview: &Overview, tell: &mut impl FnMut(Health, String, &'static str)) {
    let others = overview.stores.iter().any(|store| !status.down.contains(store));
    let level = if others { Health::Warning } else { Health::Bad };
    for store in &status.down {
        let remedy = "look at the server and the network; service goes on by itself";
        tell(level, format!("a store does not answer: {store}"), remedy);
    }
}

fn keys(overview: &Overview, now: Timestamp, tell: &mut impl FnMut(Health, String, &'static str)) {
    let state = |wanted: &str| -> Vec<&str> {
        let keys = overview.keys.iter().filter(|key| key_state(key, now) == wanted);
        keys.map(|key| key.name.as_str()).collect()
    };
    let counts = state("trusted").len() + state("expiring").len();
    if !overview.keys.is_empty() && counts == 0 {
        let text = "no trusted key counts now".to_owned();
        tell(Health::Bad, text, "sign with a key that counts (sign --add) and trust it");
    }
    for (wanted, verb) in [("expiring", "expire within 30 days"), ("expired", "are expired")] {
        let names = state(wanted);
        if !names.is_empty() {
            let text = format!("keys that {verb}: {}", names.join(", "));
            tell(Health::Warning, text, "sign with a newer key (sign --add) before the old one ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, DiskUsage, Finding, Refusal, ScrubTotals};
    use crate::monitor::failures::Failures;
    use crate::monitor::status::{Reload, Scrubbed};

    const NOW: i64 = 1_700_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn serving() -> Status {
        let mut status = Status::new(at(NOW), None);
        status.phase = Phase::Serving;
        status.mode = "enforce".to_owned();
        status
    }

    fn key(name: &str, standing: &'static str, last: Option<i64>) -> TrustedKey {
        TrustedKey { name: name.to_owned(), standing, last, ..TrustedKey::default() }
    }

    fn told(
        status: &Status,
        overview: &Overview,
        failures: &Failures,
        usage: &Usage,
    ) -> Vec<(Health, String)> {
        let reasons = reasons(status, overview, &failures.recent, usage, 0, at(NOW));
        reasons.into_iter().map(|reason| (reason.level, reason.text)).collect()
    }

    #[test]
    fn all_is_well_where_nothing_is_wrong() {
        let overview = Overview { keys: vec![key("a", "trusted", None)], ..Overview::default() };
        assert_eq!(told(&serving(), &overview, &Failures::default(), &Usage::default()), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_the_worst_first() {
        let overview = Overview::default();
        let mut status = serving();
        let mut failures = Failures::default();
        failures.add(&Refusal::plain(b"a", Cause::Unsigned), at(NOW - 10));
        failures.add(&Refusal::plain(b"a", Cause::BadBlock), at(NOW - 10));
        status.relax("accept = \"ima-v2\"");
        status.reload = Some(Reload::new("trust", "no keys", false));
        let findings = [(Finding::Orphan, 3)].into();
        let totals = ScrubTotals { findings, repaired: 1, ..ScrubTotals::default() };
        status.scrubbed = Some(Scrubbed::new("interrupted", false, &totals));
        status.measuring = Some(("full".to_owned(), true));
        let disk = DiskUsage { capacity: 5, ..DiskUsage::default() };
        let usage = Usage { disk, ..Usage::default() };
        let told = told(&status, &overview, &failures, &usage);
        let levels: Vec<_> = told.iter().map(|(level, _)| *level).collect();
        assert!(levels.is_sorted_by(|a, b| a >= b), "{told:?}");
        for (level, word) in [
            (Health::Bad, "relaxed by accept"),
            (Health::Bad, "failed verification"),
            (Health::Bad, "left 2 findings"),
            (Health::Bad, "list cannot be written: full"),
            (Health::Warning, "refused within the hour"),
            (Health::Warning, "interrupted"),
            (Health::Warning, "new trust was refused"),
            (Health::Warning, "disk cache is off"),
        ] {
            assert!(told.iter().any(|(l, text)| *l == level && text.contains(word)), "{word} in {told:?}");
        }
        assert_eq!(told.len(), 8);
    }

    #[test]
    fn failures_count_for_an_hour() {
        let mut failures = Failures::default();
        let refusal = Refusal::plain(b"a", Cause::Truncated);
        failures.add(&refusal, at(NOW - 3600));
        let (overview, usage) = (Overview::default(), Usage::default());
        assert_eq!(told(&serving(), &overview, &failures, &usage), []);
        failures.add(&refusal, at(NOW - 3599));
        assert_eq!(told(&serving(), &overview, &failures, &usage).len(), 1);
    }

    #[test]
    fn a_store_that_is_down_is_bad_where_no_other_answers() {
        let mut status = serving();
        status.store_down("a");
        let overview = |stores: &[&str]| Overview {
            stores: stores.iter().map(|store| (*store).to_owned()).collect(),
            ..Overview::default()
        };
        let level =
            |stores: &[&str]| told(&status, &overview(stores), &Failures::default(), &Usage::default())[0].0;
        assert_eq!(level(&["a"]), Health::Bad);
        assert_eq!(level(&["a", "b"]), Health::Warning);
    }

    #[test]
    fn keys_are_told_of_in_time() {
        let day = 24 * 3600;
        let keys = [
            ("trusted", key("t", "trusted", Some(NOW + 31 * day))),
            ("expiring", key("soon", "trusted", Some(NOW + 29 * day))),
            ("expired", key("old", "expired", Some(NOW - 1))),
            ("not yet valid", key("new", "not yet valid", Some(NOW + day))),
            ("revoked", key("r", "revoked", Some(NOW + day))),
        ];
        for (state, key) in &keys {
            assert_eq!(key_state(key, at(NOW)), *state);
        }
        let overview =
            Overview { keys: keys.into_iter().map(|(_, key)| key).collect(), ..Overview::default() };
        let told = told(&serving(), &overview, &Failures::default(), &Usage::default());
        let texts: Vec<_> = told.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["keys that expire within 30 days: soon", "keys that are expired: old"]);
        let old = Overview { keys: vec![key("old", "expired", Some(NOW - 1))], ..Overview::default() };
        let reasons = reasons(&serving(), &old, &Recent::default(), &Usage::default(), 0, at(NOW));
        assert_eq!(reasons[0].text, "no trusted key counts now");
    }
}
