//! What holds now, as events told it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::text::{CLIP, clip};
use crate::event::ScrubTotals;

/// Silent stores remembered at most.
const STORES: usize = 64;
/// Settings that are remembered as relaxing enforcement, at most.
const RELAXED: usize = 16;

/// Where the gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Not serving yet.
    Starting,
    /// Serving.
    Serving,
    /// Not serving any more.
    Stopped,
}

impl Phase {
    /// The word for people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Stopped => "stopped",
        }
    }
}

/// The last reload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reload {
    pub(super) what: String,
    pub(super) detail: String,
    pub(super) ok: bool,
    pub(super) time: Timestamp,
}

impl Reload {
    /// A reload of `what` now.
    pub(super) fn new(what: &str, detail: &str, ok: bool) -> Self {
        Self { what: what.to_owned(), detail: detail.to_owned(), ok, time: Timestamp::now() }
    }
}

/// A scrub that is over.
#[derive(Clone, Debug)]
pub(super) struct Scrubbed {
    pub(super) ended: Timestamp,
    pub(super) result: String,
    pub(super) complete: bool,
    pub(super) totals: ScrubTotals,
}

impl Scrubbed {
    /// One that ended now.
    pub(super) fn new(result: &str, complete: bool, totals: &ScrubTotals) -> Self {
        Self { ended: Timestamp::now(), result: clip(result, CLIP), complete, totals: totals.clone() }
    }
}

/// What holds now.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) phase: Phase,
    /// Of the NFS port and of the monitor.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(super) store: String,
    pub(super) mode: String,
    /// The settings that relax enforcement.
    pub(super) relaxed: Vec<String>,
    pub(super) reload: Option<Reload>,
    /// The stores that do not answer.
    pub(super) down: BTreeSet<String>,
    /// When the scrub that runs began.
    pub(super) scrubbing: Option<Timestamp>,
    /// The last scrub that ended.
    pub(super) scrubbed: Option<Scrubbed>,
    /// Why the measurement list could not be written, and whether new files wait; forgotten when it is again.
    pub(super) measuring: Option<(String, bool)>,
    pub(super) since: Timestamp,
    pub(super) audit_log: Option<PathBuf>,
}

impl Status {
    /// Before anything happened.
    pub(super) fn new(since: Timestamp, audit_log: Option<PathBuf>) -> Self {
        Self {
            phase: Phase::Starting,
            addresses: None,
            store: String::new(),
            mode: String::new(),
            relaxed: Vec::new(),
            reload: None,
            down: BTreeSet::new(),
            scrubbing: None,
            scrubbed: None,
            measuring: None,
            since,
            audit_log,
        }
    }

    /// Remembers a setting that relaxes enforcement.
    pub(super) fn relax(&mut self, setting: &str) {
        if self.relaxed.len() < RELAXED && !self.relaxed.iter().any(|known| known == setting) {
            self.relaxed.push(setting.to_owned());
        }
    }

    /// A store went silent. Gives how many are, if that is news.
    pub(super) fn store_down(&mut self, store: &str) -> Option<u64> {
        let is_news = self.down.len() < STORES && self.down.insert(store.to_owned());
        is_news.then_some(self.down.len() as u64)
    }

    /// A store answers again. Gives how many do not, if that is news.
    pub(super) fn store_up(&mut self, store: &str) -> Option<u64> {
        self.down.remove(store).then_some(self.down.len() as u64)
    }

    /// Whether anything relaxes enforcement; a mode that is not known is taken as relaxed.
    pub(super) fn is_relaxed(&self) -> bool {
        !self.relaxed.is_empty() || !matches!(self.mode.as_str(), "" | "enforce")
    }
}
