//! Watches what is revoked: an entry holds within a second of being written, without a signal.
//!
//! The directory is looked at more than once a second, which costs a few system calls and works on every file
//! system. What is found there only ever refuses more: entries that disappear, as while a file is being
//! written anew, hold until SIGHUP or a restart, and keys that come or go wait for these too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{TrustStamp, load_revoked};
use crate::event::{Event, Sink};
use crate::export::Export;
use crate::monitor::Monitor;
use crate::sign::Revoked;

/// How often the directory is looked at.
const EVERY: Duration = Duration::from_millis(800);
/// Entries that are told one by one when they are new.
const TOLD_MAX: usize = 10;

/// The trusted keys' directory, with the state in which its revocations were last taken.
pub(super) struct Revocations(Mutex<Followed>);

struct Followed {
    trust: PathBuf,
    stamp: TrustStamp,
    /// What was said of the last attempt that failed, so that it is said once.
    told: String,
}

impl Revocations {
    /// Takes the revocations of `trust` as they are now as known.
    pub(super) fn new(trust: &Path) -> Arc<Self> {
        let followed =
            Followed { trust: trust.to_owned(), stamp: TrustStamp::of(trust), told: String::new() };
        Arc::new(Self(Mutex::new(followed)))
    }

    /// Takes the keys and revocations of `trust` as `take` does, and follows it when that went well.
    /// Nothing else is taken meanwhile.
    pub(super) fn replace<E>(&self, trust: &Path, take: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut followed = self.0.lock();
        // Looked at first, so that no change from here on goes unnoticed.
        let stamp = TrustStamp::of(trust);
        take()?;
        *followed = Followed { trust: trust.to_owned(), stamp, told: String::new() };
        Ok(())
    }

    /// Takes every change into `export`, for as long as it is polled.
    pub(super) async fn watch(self: Arc<Self>, export: Arc<Export>, monitor: Arc<Monitor>) {
        loop {
            let (this, export, monitor) = (self.clone(), export.clone(), monitor.clone());
            // One thread sleeps and looks: a timer would wake up others on the way.
            let (_polled, ended) = mpsc::channel::<()>();
            let looks = tokio::task::spawn_blocking(move || {
                while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    this.look(&export, &monitor);
                }
            });
            // It ends with a panic alone, which the runtime tells, and looks are made all the same.
            let _ = looks.await;
        }
    }

    /// Takes what is new since the last look. What cannot be read is tried again at the next.
    fn look(&self, export: &Export, monitor: &Monitor) {
        let mut followed = self.0.lock();
        let now = TrustStamp::of(&followed.trust);
        if now == followed.stamp {
            return;
        }
        match load_revoked(&followed.trust) {
            Ok(revoked) => {
                let known = export.keyring().revoked().clone();
                let mut all = known.clone();
                revoked.entries().for_each(|(item, entry)| all.add(item, entry));
                export.set_revoked(&all);
                (followed.stamp, followed.told) = (now, String::new());
                monitor.emit(&Event::Reloaded { what: "revocations", detail: &news(&all, &known) });
            }
            Err(error) => {
                let error = format!("{error}; what was revoked before still is, and this change is not");
                if error != followed.told {
                    monitor.emit(&Event::ReloadRefused { what: "revocations", error: &error });
                    followed.told = error;
                }
            }
        }
    }
}

/// How much is revoked, and what of it is new.
fn news(all: &Revoked, known: &Revoked) -> String {
    let mut detail = format!("{} entries", all.len());
    let mut new = all.new_since(known);
    for (item, entry) in new.by_ref().take(TOLD_MAX) {
        detail = format!("{detail}; {item} by {entry}");
    }
    match new.count() {
        0 => detail,
        more => format!("{detail}; and {more} more"),
    }
}
