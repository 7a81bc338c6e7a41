//! One line of the audit log, and the same as a message on stderr.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::limiter::{Kind, Repeated};
use super::text::{CLIP, RECORD, clip, json_line, printable};
use crate::event::{CauseClass, Examined, Healed, Refusal, ScrubFinding, ScrubTotals};

/// The longest hash that is shown, in bytes.
const HASH_MAX: usize = 64;

/// What a line of the audit log tells; the `event` key names the kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Fact {
    /// The gateway serves.
    Started {
        version: &'static str,
        nfs: SocketAddr,
        monitor: SocketAddr,
        store: String,
        mode: String,
        keys: usize,
    },
    /// The gateway has drained and ends.
    Stopped,
    /// A setting relaxes enforcement.
    Relaxed { setting: String },
    /// The proof directory hides an object of the store.
    Shadowed { name: String },
    /// A file or block failed verification.
    Refused(Box<Refused>),
    /// Failures that were counted instead of written.
    Repeated {
        /// `null` for files beyond those that are counted apart.
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        cause: &'static str,
        /// The only client that a policy denied it, where these are counted apart.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<IpAddr>,
        count: u64,
        #[serde(serialize_with = "milliseconds")]
        first: Timestamp,
        #[serde(serialize_with = "milliseconds")]
        last: Timestamp,
    },
    /// All of a file was hashed, since its evidence does not let single blocks be proven.
    Hashed {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        bytes: u64,
        milliseconds: u64,
        reason: &'static str,
    },
    /// One store has damaged what another one has whole.
    Healed {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        store: String,
        from: String,
        cause: &'static str,
        detail: String,
        block: Option<u64>,
        level: Option<u8>,
    },
    /// A damaged file was written again on the store that had it damaged.
    Repaired {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        store: String,
        what: &'static str,
        bytes: u64,
    },
    /// A damaged file was left as it is.
    NotRepaired {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        store: String,
        reason: String,
    },
    /// A scrub begins.
    ScrubStarted {
        store: String,
        /// Where it goes on.
        after: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after_hex: Option<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        note: String,
    },
    /// A scrub came across something.
    ScrubFinding(Box<Found>),
    /// A scrub is over.
    ScrubEnded {
        result: String,
        complete: bool,
        files: u64,
        good: u64,
        bytes: u64,
        findings: BTreeMap<&'static str, u64>,
        repaired: u64,
        milliseconds: u64,
    },
    /// All of a file was read and proven, since somebody asked for it at the monitor.
    Checked {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        result: String,
        failing_blocks: u64,
    },
    /// Trust or configuration was read again.
    Reloaded { what: String, detail: String },
    /// New trust or configuration was refused.
    ReloadRefused { what: String, error: String },
    /// A policy was read, or refused.
    PolicyLoaded {
        detail: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        record: String,
    },
    /// Another policy rules, or in another way.
    PolicyChanged { detail: String, record: String },
    /// The measurement list was put right.
    MeasuringRecovered { detail: String },
    /// The measurement list cannot be written.
    MeasuringFailed {
        error: String,
        /// Whether files that are not in it wait.
        waits: bool,
    },
    /// A store does not answer.
    StoreDown { store: String, error: String },
    /// A store answers again.
    StoreUp { store: String },
    /// The disk cache gave a block that does not verify.
    DiskCacheBad { file: String, blocks: u64 },
    /// The disk cache is not used any more.
    DiskCacheOff { directory: String, error: String },
    /// Lines that are missing from the log.
    Dropped { count: u64, reason: &'static str },
}

/// The facts of a refusal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refused {
    pub(super) path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_hex: Option<String>,
    pub(super) cause: &'static str,
    pub(super) class: &'static str,
    pub(super) detail: String,
    pub(super) block: Option<u64>,
    pub(super) level: Option<u8>,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
    pub(super) client: Option<SocketAddr>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// True when warn mode or a permissive policy let it pass.
    pub(super) served: bool,
    /// The kernel's record, where a policy refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<String>,
    pub(super) remedy: &'static str,
    /// The path for stderr.
    #[serde(skip)]
    pub(super) shown: String,
}

/// The facts of what a scrub came across.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// The replica, where it is on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    finding: &'static str,
    detail: String,
    block: Option<u64>,
    level: Option<u8>,
    failing_blocks: u64,
    repaired: bool,
    remedy: &'static str,
    /// The path for stderr.
    #[serde(skip)]
    shown: String,
}

/// The word for a cause's class in logs and metrics.
pub(super) const fn class_name(class: CauseClass) -> &'static str {
    match class {
        CauseClass::Denied => "denied",
        CauseClass::Corrupt => "corrupt",
    }
}

/// A path as JSON has it: the text, and the bytes in hex where the text does not give them back.
pub(super) fn json_path(path: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(path) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(path).into_owned(), Some(hex::encode(path))),
    }
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(bytes.get(..HASH_MAX).unwrap_or(bytes))
}

impl From<&Refusal<'_>> for Refused {
    fn from(refusal: &Refusal<'_>) -> Self {
        let (path, path_hex) = json_path(refusal.path);
        Self {
            path,
            path_hex,
            cause: refusal.cause.as_str(),
            class: class_name(refusal.cause.class()),
            detail: clip(refusal.detail, CLIP),
            block: refusal.block,
            level: refusal.level,
            expected: refusal.expected.map(hash),
            found: refusal.found.map(hash),
            client: refusal.client.map(|client| client.address),
            uid: refusal.client.and_then(|client| client.uid),
            gid: refusal.client.and_then(|client| client.gid),
            served: refusal.served,
            record: refusal.record.map(|record| clip(record, RECORD)),
            remedy: refusal.cause.remedy(),
            shown: printable(refusal.path),
        }
    }
}

impl From<&Refusal<'_>> for Fact {
    fn from(refusal: &Refusal<'_>) -> Self {
        Self::Refused(Box::new(Refused::from(refusal)))
    }
}

impl Fact {
    /// All `bytes` of the file `path` were hashed.
    pub(super) fn hashed(path: &[u8], bytes: u64, duration: Duration, reason: &'static str) -> Self {
        let (path, path_hex) = json_path(path);
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::Hashed { path, path_hex, bytes, milliseconds, reason }
    }
}

impl From<&Healed<'_>> for Fact {
    fn from(healed: &Healed<'_>) -> Self {
        let (path, path_hex) = json_path(healed.path);
        Self::Healed {
            path,
            path_hex,
            store: clip(healed.store, CLIP),
            from: clip(healed.from, CLIP),
            cause: healed.cause.as_str(),
            detail: clip(healed.detail, CLIP),
            block: healed.block,
            level: healed.level,
        }
    }
}

impl Fact {
    /// A scrub of `store` begins, or goes on behind `after`.
    pub(super) fn scrub_started(store: &str, after: Option<&[u8]>, note: &str) -> Self {
        let (after, after_hex) = match after.map(json_path) {
            Some((path, hex)) => (Some(path), hex),
            None => (None, None),
        };
        Self::ScrubStarted { store: clip(store, CLIP), after, after_hex, note: clip(note, CLIP) }
    }

    /// A scrub ended.
    pub(super) fn scrub_ended(
        result: &str,
        complete: bool,
        totals: &ScrubTotals,
        duration: Duration,
    ) -> Self {
        let ScrubTotals { files, good, bytes, repaired, .. } = *totals;
        Self::ScrubEnded {
            result: clip(result, CLIP),
            complete,
            files,
            good,
            bytes,
            findings: totals.findings.iter().map(|(what, count)| (what.as_str(), *count)).collect(),
            repaired,
            milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Fact {
    /// The file `path` was checked.
    pub(super) fn checked(path: &[u8], examined: &Result<Examined, String>) -> Self {
        let (path, path_hex) = json_path(path);
        let (result, failing_blocks) = match examined {
            Ok(Examined::Blocks { count: 0, .. }) => ("good".to_owned(), 0),
            Ok(Examined::Blocks { count, .. }) => ("damaged".to_owned(), *count),
            Ok(Examined::Refused { cause, detail }) => (clip(&format!("{cause}: {detail}"), CLIP), 0),
            Err(error) => (clip(error, CLIP), 0),
        };
        Self::Checked { path, path_hex, result, failing_blocks }
    }

    /// The file `path` is whole on `store` again.
    pub(super) fn repaired(path: &[u8], store: &str, what: &'static str, bytes: u64) -> Self {
        let (path, path_hex) = json_path(path);
        Self::Repaired { path, path_hex, store: clip(store, CLIP), what, bytes }
    }

    /// The file `path` is still damaged on `store`.
    pub(super) fn not_repaired(path: &[u8], store: &str, reason: &str) -> Self {
        let (path, path_hex) = json_path(path);
        Self::NotRepaired { path, path_hex, store: clip(store, CLIP), reason: clip(reason, CLIP) }
    }
}

impl From<&ScrubFinding<'_>> for Fact {
    fn from(found: &ScrubFinding<'_>) -> Self {
        let (path, path_hex) = json_path(found.path);
        Self::ScrubFinding(Box::new(Found {
            path,
            path_hex,
            store: found.store.map(|store| clip(store, CLIP)),
            finding: found.finding.as_str(),
            detail: clip(found.detail, CLIP),
            block: found.block,
            level: found.level,
            failing_blocks: found.blocks,
            repaired: found.repaired,
            remedy: found.finding.remedy(),
            shown: printable(found.path),
        }))
    }
}

impl From<Repeated> for Fact {
    fn from(repeated: Repeated) -> Self {
        let (path, path_hex) = match repeated.path.as_deref().map(json_path) {
            Some((path, path_hex)) => (Some(path), path_hex),
            None => (None, None),
        };
        let Repeated { kind: Kind { cause, client }, count, first, last, .. } = repeated;
        Self::Repeated { path, path_hex, cause: cause.as_str(), client, count, first, last }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// Its number, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(serialize_with = "milliseconds")]
    time: Timestamp,
    #[serde(flatten)]
    fact: &'a Fact,
}

impl Fact {
    /// The line of the audit log, without its end.
    pub(super) fn line(&self, time: Timestamp) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Line { id: None, time, fact: self }).map(|json| json_line(&json))
    }

    /// The same as the event number `id`.
    pub(super) fn numbered(&self, id: u64, time: Timestamp) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Line { id: Some(id), time, fact: self }).map(|json| json_line(&json))
    }

    /// The kind, as the key `event` of its line has it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::Relaxed { .. } => "relaxed",
            Self::Shadowed { .. } => "shadowed",
            Self::Refused(_) => "refused",
            Self::Repeated { .. } => "repeated",
            Self::Hashed { .. } => "hashed",
            Self::Healed { .. } => "healed",
            Self::Repaired { .. } => "repaired",
            Self::NotRepaired { .. } => "not-repaired",
            Self::ScrubStarted { .. } => "scrub-started",
            Self::ScrubFinding(_) => "scrub-finding",
            Self::ScrubEnded { .. } => "scrub-ended",
            Self::Checked { .. } => "checked",
            Self::Reloaded { .. } => "reloaded",
            Self::ReloadRefused { .. } => "reload-refused",
            Self::PolicyLoaded { .. } => "policy-loaded",
            Self::PolicyChanged { .. } => "policy-changed",
            Self::MeasuringRecovered { .. } => "measuring-recovered",
            Self::MeasuringFailed { .. } => "measuring-failed",
            Self::StoreDown { .. } => "store-down",
            Self::StoreUp { .. } => "store-up",
            Self::DiskCacheBad { .. } => "disk-cache-bad",
            Self::DiskCacheOff { .. } => "disk-cache-off",
            Self::Dropped { .. } => "dropped",
        }
    }

    /// Whether somebody should look at it: something is damaged, missing, refused or not as safe as it should be. What
    /// warn mode or a permissive policy served counts, and so does what was healed, for a store had it damaged.
    pub(super) const fn is_failure(&self) -> bool {
        match self {
            Self::Relaxed { .. }
            | Self::Refused(_)
            | Self::Repeated { .. }
            | Self::Healed { .. }
            | Self::NotRepaired { .. }
            | Self::ScrubFinding(_)
            | Self::ReloadRefused { .. }
            | Self::PolicyLoaded { error: Some(_), .. }
            | Self::MeasuringFailed { .. }
            | Self::StoreDown { .. }
            | Self::DiskCacheBad { .. }
            | Self::DiskCacheOff { .. }
            | Self::Dropped { .. } => true,
            Self::Started { .. }
            | Self::Stopped
            | Self::Shadowed { .. }
            | Self::Hashed { .. }
            | Self::Repaired { .. }
            | Self::ScrubStarted { .. }
            | Self::ScrubEnded { .. }
            | Self::Checked { .. }
            | Self::Reloaded { .. }
            | Self::PolicyLoaded { error: None, .. }
            | Self::PolicyChanged { .. }
            | Self::MeasuringRecovered { .. }
            | Self::StoreUp { .. } => false,
        }
    }

    /// Says the same through `tracing`.
    pub(super) fn log(&self) {
        match self {
            Self::Started { nfs, monitor, store, mode, keys, .. } => {
                let (store, mode) = (printable(store.as_bytes()), printable(mode.as_bytes()));
                tracing::info!(%nfs, %monitor, %store, %mode, keys, "started");
            }
            Self::Stopped => tracing::info!("stopped"),
            Self::Relaxed { setting } => {
                let setting = printable(setting.as_bytes());
                tracing::warn!(%setting, "ENFORCEMENT IS RELAXED");
            }
            Self::Shadowed { name } => {
                let name = printable(name.as_bytes());
                tracing::warn!(%name, "the proof directory hides what has this name in the store");
            }
            Self::Refused(refused) => refused.log(),
            Self::Repeated { path, path_hex, cause, client, count, first, last } => {
                let path = match path {
                    Some(path) => printable(path.as_bytes()),
                    None => "(many files)".to_owned(),
                };
                let client = client.map(tracing::field::display);
                tracing::warn!(
                    %path, path_hex, cause, client, count, first = %format_args!("{first:.3}"),
                    last = %format_args!("{last:.3}"), "repeated"
                );
            }
            Self::Hashed { path, bytes, milliseconds, reason, .. } => {
                let path = printable(path.as_bytes());
                tracing::info!(%path, bytes, milliseconds, reason, "hashed a whole file");
            }
            Self::Healed { path, store, from, cause, detail, block, level, .. } => {
                let (path, detail) = (printable(path.as_bytes()), printable(detail.as_bytes()));
                let (store, from) = (printable(store.as_bytes()), printable(from.as_bytes()));
                tracing::warn!(%path, %store, %from, cause, %detail, block, level, "healed");
            }
            Self::Repaired { path, store, what, bytes, .. } => {
                let (path, store) = (printable(path.as_bytes()), printable(store.as_bytes()));
                tracing::info!(%path, %store, what, bytes, "repaired");
            }
            Self::NotRepaired { path, store, reason, .. } => {
                let (path, store) = (printable(path.as_bytes()), printable(store.as_bytes()));
                let reason = printable(reason.as_bytes());
                tracing::warn!(%path, %store, %reason, "not repaired");
            }
            Self::ScrubStarted { store, after, note, .. } => {
                let after = after.as_ref().map(|path| printable(path.as_bytes()));
                let (store, note) = (printable(store.as_bytes()), printable(note.as_bytes()));
                tracing::info!(%store, after, %note, "scrub started");
            }
            Self::ScrubFinding(found) => found.log(),
            Self::ScrubEnded { result, complete, files, good, bytes, findings, repaired, milliseconds } => {
                let result = printable(result.as_bytes());
                let found: u64 = findings.values().sum();
                tracing::info!(
                    %result, complete, files, good, bytes, found, repaired, milliseconds, "scrub ended"
                );
            }
            Self::Checked { path, result, failing_blocks, .. } => {
                let (path, result) = (printable(path.as_bytes()), printable(result.as_bytes()));
                tracing::info!(%path, %result, failing_blocks, "checked");
            }
            Self::Reloaded { what, detail } => {
                let (what, detail) = (printable(what.as_bytes()), printable(detail.as_bytes()));
                tracing::info!(%what, %detail, "reloaded");
            }
            Self::ReloadRefused { what, error } => {
                let (what, error) = (printable(what.as_bytes()), printable(error.as_bytes()));
                tracing::warn!(%what, %error, "reload refused; what was before still holds");
            }
            Self::PolicyLoaded { detail, error: None, .. } => {
                let detail = printable(detail.as_bytes());
                tracing::info!(%detail, "policy loaded");
            }
            Self::PolicyLoaded { error: Some(error), .. } => {
                let error = printable(error.as_bytes());
                tracing::warn!(%error, "policy refused; what ruled before still does");
            }
            Self::PolicyChanged { detail, .. } => {
                let detail = printable(detail.as_bytes());
                tracing::warn!(%detail, "policy changed");
            }
            Self::MeasuringRecovered { detail } => {
                let detail = printable(detail.as_bytes());
                tracing::warn!(%detail, "the measurement list was put right");
            }
            Self::MeasuringFailed { error, waits } => {
                let error = printable(error.as_bytes());
                tracing::error!(%error, waits, "the measurement list is not as it should be");
            }
            Self::StoreDown { store, error } => {
                let (store, error) = (printable(store.as_bytes()), printable(error.as_bytes()));
                tracing::warn!(%store, %error, "a store does not answer");
            }
            Self::StoreUp { store } => {
                let store = printable(store.as_bytes());
                tracing::info!(%store, "a store answers again");
            }
            Self::DiskCacheBad { file, blocks } => {
                tracing::warn!(%file, blocks, "a block from the disk cache does not verify; the store is asked");
            }
            Self::DiskCacheOff { directory, error } => {
                let (directory, error) = (printable(directory.as_bytes()), printable(error.as_bytes()));
                tracing::warn!(%directory, %error, "the disk failed; the disk cache is off");
            }
            Self::Dropped { count, reason } => {
                tracing::warn!(count, reason, "lines are missing from the log")
            }
        }
    }
}

impl Found {
    fn log(&self) {
        let Self { finding, block, level, failing_blocks, repaired, remedy, .. } = self;
        let detail = printable(self.detail.as_bytes());
        let store = self.store.as_ref().map(|store| printable(store.as_bytes()));
        tracing::warn!(
            path = %self.shown, store, finding, %detail, block, level, failing_blocks, repaired, remedy,
            "a scrub came across"
        );
    }
}

impl Refused {
    fn log(&self) {
        let Self { cause, class, block, level, expected, found, uid, gid, served, remedy, .. } = self;
        let detail = printable(self.detail.as_bytes());
        let client = self.client.map(tracing::field::display);
        let message = if *served { "SERVED UNPROVEN" } else { "refused" };
        tracing::warn!(
            path = %self.shown, cause, class, %detail, block, level, expected, found, client, uid, gid,
            served, remedy, "{message}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Client, Finding, KINDS};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn refusal(path: &[u8]) -> Refusal<'_> {
        Refusal {
            path,
            cause: Cause::BadBlock,
            detail: "offset 8192",
            block: Some(2),
            level: Some(0),
            expected: Some(&[0xab, 0xcd]),
            found: Some(&[0x01]),
            client: Some(Client { address: "192.0.2.7:700".parse().unwrap(), uid: Some(1000), gid: None }),
            served: false,
            record: None,
        }
    }

    fn parsed(fact: &Fact) -> Value {
        let line = fact.line(Timestamp::from_millisecond(1_700_000_000_007).unwrap()).unwrap();
        assert_eq!(line.lines().count(), 1);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_refusal_keeps_every_fact() {
        let line = parsed(&Fact::from(&refusal(b"dir/file")));
        let wanted = json!({
            "time": "2023-11-14T22:13:20.007Z", "event": "refused", "path": "dir/file", "cause": "bad block",
            "class": "corrupt", "detail": "offset 8192", "block": 2, "level": 0, "expected": "abcd",
            "found": "01", "client": "192.0.2.7:700", "uid": 1000, "gid": null, "served": false,
            "remedy": Cause::BadBlock.remedy(),
        });
        assert_eq!(line, wanted);
    }

    #[test]
    fn a_path_that_is_not_utf8_is_kept_without_loss() {
        let line = parsed(&Fact::from(&refusal(b"a\xff\xfeb")));
        assert_eq!(line["path"], "a\u{fffd}\u{fffd}b");
        assert_eq!(hex::decode(line["path_hex"].as_str().unwrap()).unwrap(), b"a\xff\xfeb");
    }

    #[test]
    fn a_path_cannot_start_a_line_of_its_own() {
        let hostile = "x\n{\"event\":\"stopped\"}\r\u{2028}\u{85}\u{1b}[2J\"}";
        let fact = Fact::from(&refusal(hostile.as_bytes()));
        let line = fact.line(Timestamp::UNIX_EPOCH).unwrap();
        assert!(!line.contains(['\n', '\r', '\u{2028}', '\u{85}', '\u{1b}']), "{line:?}");
        assert_eq!(parsed(&fact)["path"], hostile);
    }

    #[test]
    fn every_kind_of_line_has_its_name() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let text = || "x".to_owned();
        let (first, last) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        let repeated = Repeated {
            path: None,
            kind: Kind { cause: Cause::Unsigned, client: None },
            count: 4,
            first,
            last,
        };
        let healed = Healed {
            path: b"f",
            store: "local /a",
            from: "local /b",
            cause: Cause::BadBlock,
            detail: "",
            block: Some(3),
            level: None,
        };
        let facts = [
            (
                Fact::Started {
                    version: "1",
                    nfs: address,
                    monitor: address,
                    store: text(),
                    mode: text(),
                    keys: 1,
                },
                "started",
            ),
            (Fact::Stopped, "stopped"),
            (Fact::Relaxed { setting: text() }, "relaxed"),
            (Fact::Shadowed { name: text() }, "shadowed"),
            (Fact::from(repeated), "repeated"),
            (Fact::from(&healed), "healed"),
            (Fact::repaired(b"f", "local /a", "data", 7), "repaired"),
            (Fact::not_repaired(b"f", "local /a", "read-only"), "not-repaired"),
            (Fact::Reloaded { what: text(), detail: text() }, "reloaded"),
            (Fact::ReloadRefused { what: text(), error: text() }, "reload-refused"),
            (Fact::StoreDown { store: text(), error: text() }, "store-down"),
            (Fact::StoreUp { store: text() }, "store-up"),
            (Fact::DiskCacheBad { file: text(), blocks: 1 }, "disk-cache-bad"),
            (Fact::DiskCacheOff { directory: text(), error: text() }, "disk-cache-off"),
            (Fact::scrub_started("s", Some(b"a\xff"), ""), "scrub-started"),
            (
                Fact::from(&ScrubFinding {
                    path: b"p",
                    store: None,
                    finding: Finding::Orphan,
                    detail: "",
                    block: None,
                    level: None,
                    blocks: 0,
                    repaired: false,
                }),
                "scrub-finding",
            ),
            (Fact::scrub_ended("complete", true, &ScrubTotals::default(), Duration::ZERO), "scrub-ended"),
            (Fact::Dropped { count: 1, reason: "x" }, "dropped"),
            (Fact::from(&refusal(b"f")), "refused"),
            (Fact::hashed(b"f", 1, Duration::ZERO, "x"), "hashed"),
            (Fact::checked(b"f", &Err(text())), "checked"),
            (Fact::PolicyLoaded { detail: text(), error: None, record: text() }, "policy-loaded"),
            (Fact::PolicyChanged { detail: text(), record: text() }, "policy-changed"),
            (Fact::MeasuringRecovered { detail: text() }, "measuring-recovered"),
            (Fact::MeasuringFailed { error: text(), waits: true }, "measuring-failed"),
        ];
        let names: BTreeSet<_> = facts.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, BTreeSet::from(KINDS));
        for (fact, name) in facts {
            assert_eq!((&parsed(&fact)["event"], fact.kind()), (&json!(name), name));
            if let Fact::Repeated { .. } = fact {
                let line = parsed(&fact);
                assert_eq!((&line["path"], &line["count"]), (&Value::Null, &json!(4)));
                assert_eq!(line["last"], "1970-01-01T00:00:09.000Z");
            }
        }
    }

    #[test]
    fn what_a_peer_can_make_long_is_clipped() {
        let long = "d".repeat(100_000);
        let mut refusal = refusal(b"p");
        let hash = vec![7; 1000];
        (refusal.detail, refusal.found) = (&long, Some(hash.as_slice()));
        let line = parsed(&Fact::from(&refusal));
        assert_eq!(line["detail"].as_str().unwrap().chars().count(), CLIP + 1);
        assert_eq!(line["found"].as_str().unwrap().len(), 2 * HASH_MAX);
    }
}
