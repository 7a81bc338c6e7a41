//! All that the status page and the API show of one moment.
//!
//! As JSON it is the answer to `/api/v1/status`; `openapi.json` has its shape.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::failures::{Entry, Recent};
use super::health::{Health, Reason, key_state, reasons};
use super::status::{Phase, Reload, Status};
use crate::event::{Cause, Overview, Usage};

/// The gateway at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    pub(super) version: &'static str,
    pub(super) phase: Phase,
    pub(super) health: Health,
    pub(super) reasons: Vec<Reason>,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) nfs: Option<SocketAddr>,
    pub(super) monitor: Option<SocketAddr>,
    pub(super) namespace: String,
    pub(super) mode: String,
    pub(super) accept: String,
    pub(super) carriers: String,
    pub(super) trust: String,
    pub(super) audit_log: Option<String>,
    pub(super) measure: Option<String>,
    pub(super) policy: Option<Policy>,
    pub(super) relaxed: Vec<String>,
    pub(super) reload: Option<Reload>,
    pub(super) revoked: usize,
    pub(super) keys: Vec<Key>,
    pub(super) stores: Vec<Store>,
    pub(super) repairs: bool,
    pub(super) scrub: Scrub,
    pub(super) totals: Totals,
    /// By cause; those that occurred.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// The last failures, newest first.
    pub(super) failing: VecDeque<Entry>,
    pub(super) last_event: u64,
    /// Whether anything relaxes enforcement.
    #[serde(skip)]
    pub(super) is_relaxed: bool,
    /// Bytes of the caches in memory and on disk.
    #[serde(skip)]
    pub(super) usage: Usage,
}

/// The policy that rules.
#[derive(Debug, Serialize)]
pub(super) struct Policy {
    pub(super) title: String,
    pub(super) permissive: bool,
    pub(super) rules: usize,
}

/// A key or certificate that is trusted.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) formats: String,
    pub(super) paths: Vec<String>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) not_after: Option<Timestamp>,
    pub(super) state: &'static str,
    pub(super) revoked_by: Option<String>,
}

/// A store.
#[derive(Debug, Serialize)]
pub(super) struct Store {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) up: bool,
}

/// Scrubs.
#[derive(Debug, Serialize)]
pub(super) struct Scrub {
    pub(super) every_seconds: Option<u64>,
    pub(super) running: bool,
    /// Since when.
    pub(super) since: Option<Timestamp>,
    pub(super) last: Option<LastScrub>,
}

/// The last scrub that ended.
#[derive(Debug, Serialize)]
pub(super) struct LastScrub {
    pub(super) ended: Timestamp,
    pub(super) result: String,
    pub(super) complete: bool,
    pub(super) files: u64,
    pub(super) good: u64,
    pub(super) bytes: u64,
    pub(super) findings: BTreeMap<&'static str, u64>,
    pub(super) repaired: u64,
}

/// Sums since the start, and what is held now.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) reads: u64,
    pub(super) read_bytes: u64,
    pub(super) verified_blocks: u64,
    pub(super) refused: u64,
    pub(super) served_unproven: u64,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    pub(super) calls: u64,
    /// Connections now.
    pub(super) connections: u64,
    pub(super) open_files: u64,
    pub(super) handles: u64,
    pub(super) measurements: u64,
    pub(super) audit_lines_dropped: u64,
}

/// What a snapshot is made of.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) status: &'a Status,
    pub(super) overview: Overview,
    pub(super) recent: Recent,
    pub(super) usage: Usage,
    pub(super) totals: Totals,
    /// By cause.
    pub(super) refused: Vec<(Cause, u64)>,
    pub(super) last_event: u64,
    pub(super) now: Timestamp,
}

impl Snapshot {
    /// What is shown of `view`.
    pub(super) fn new(view: View<'_>) -> Self {
        let View { status, overview, recent, usage, totals, refused, last_event, now } = view;
        let dropped = totals.audit_lines_dropped;
        let reasons = reasons(status, &overview, &recent, &usage, dropped, now);
        let health = reasons.iter().map(|reason| reason.level).max().unwrap_or(Health::Good);
        // One that no calendar has is never.
        let second = |second: Option<i64>| second.and_then(|second| Timestamp::from_second(second).ok());
        let key = |key: crate::event::TrustedKey| Key {
            state: key_state(&key, now),
            id: key.id,
            name: key.name,
            kind: key.kind,
            formats: key.formats,
            paths: key.paths,
            not_before: second(key.first),
            not_after: second(key.last),
            revoked_by: key.revoked_by,
        };
        // What is down may be known by another name, as where a store waits before it answers.
        let names = if overview.stores.is_empty() { vec![status.store.clone()] } else { overview.stores };
        let known: Vec<_> = names.iter().filter(|name| !name.is_empty()).collect();
        let others = status.down.iter().filter(|down| !known.contains(down));
        let stores = known.iter().enumerate().map(|(n, name)| Store {
            name: (*name).clone(),
            role: if n == 0 { "store" } else { "replica" },
            up: !status.down.contains(*name),
        });
        let stores = stores.chain(others.map(|name| Store { name: name.clone(), role: "store", up: false }));
        let last = status.scrubbed.as_ref().map(|scrubbed| LastScrub {
            ended: scrubbed.ended,
            result: scrubbed.result.clone(),
            complete: scrubbed.complete,
            files: scrubbed.totals.files,
            good: scrubbed.totals.good,
            bytes: scrubbed.totals.bytes,
            findings: scrubbed.totals.findings.iter().map(|(what, count)| (what.as_str(), *count)).collect(),
            repaired: scrubbed.totals.repaired,
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: status.phase,
            health,
            reasons,
            started: status.since,
            now,
            nfs: status.addresses.map(|(nfs, _)| nfs),
            monitor: status.addresses.map(|(_, monitor)| monitor),
            namespace: overview.namespace,
            mode: status.mode.clone(),
            accept: overview.accept,
            carriers: overview.carriers,
            trust: overview.trust,
            audit_log: status.audit_log.as_ref().map(|path| path.display().to_string()),
            measure: overview.measure,
            policy: overview.policy.map(|policy| Policy {
                title: policy.title,
                permissive: policy.permissive,
                rules: policy.rules,
            }),
            relaxed: status.relaxed.clone(),
            reload: status.reload.clone(),
            revoked: overview.revoked,
            keys: overview.keys.into_iter().map(key).collect(),
            stores: stores.collect(),
            repairs: overview.repairs,
            scrub: Scrub {
                every_seconds: overview.scrub_every.map(|every| every.as_secs()),
                running: status.scrubbing.is_some(),
                since: status.scrubbing,
                last,
            },
            totals,
            refused: refused.into_iter().map(|(cause, count)| (cause.as_str(), count)).collect(),
            failing: recent.entries,
            last_event,
            is_relaxed: status.is_relaxed(),
            usage,
        }
    }
}
