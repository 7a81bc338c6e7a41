//! The line of damaged files that wait for being repaired, each once, and how long each is left alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::mpsc;

use crate::store::StorePath;

/// Files that wait, at most; what comes then is told again when it is read again.
const WAITING: usize = 256;
/// How long a file that was looked at is not looked at again for a reader's sake, at first and at most.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Files of which that is remembered.
const PAUSES: usize = 4096;

/// The way in, for those who find damage.
pub(super) struct Line {
    way: mpsc::Sender<StorePath>,
    there: Arc<Mutex<HashSet<StorePath>>>,
}

/// The other end.
pub(super) struct Waiting {
    way: mpsc::Receiver<StorePath>,
    there: Arc<Mutex<HashSet<StorePath>>>,
}

pub(super) fn line() -> (Line, Waiting) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let there = Arc::<Mutex<HashSet<StorePath>>>::default();
    (Line { way: sender, there: there.clone() }, Waiting { way: receiver, there })
}

impl Line {
    /// Lets `path` wait, if it does not wait yet and there is room.
    pub(super) fn tell(&self, path: &StorePath) {
        if self.there.lock().insert(path.clone()) && self.way.try_send(path.clone()).is_err() {
            self.there.lock().remove(path);
        }
    }
}

impl Waiting {
    /// The file that has waited longest; `None` when nobody is there to tell of any.
    pub(super) async fn next(&mut self) -> Option<StorePath> {
        let path = self.way.recv().await?;
        self.there.lock().remove(&path);
        Some(path)
    }
}

/// How long files are left alone: twice as long as the last time for one that comes back as soon as it may.
pub(super) struct Pauses(Cache<StorePath, Pause>);

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self(Cache::new(PAUSES))
    }

    /// Whether `path` may be looked at.
    pub(super) fn is_over(&self, path: &StorePath, now: Instant) -> bool {
        self.0.get(path).is_none_or(|pause| now >= pause.until)
    }

    /// Leaves `path`, which was just looked at, alone.
    pub(super) fn begin(&self, path: &StorePath, now: Instant) {
        let length = match self.0.get(path) {
            Some(last) if now < last.until + last.length => (last.length * 2).min(PAUSE_MAX),
            Some(_) | None => PAUSE,
        };
        self.0.insert(path.clone(), Pause { until: now + length, length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StorePath {
        StorePath::parse(text.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_file_waits_once_and_leaves_room_for_others() {
        let (line, mut waiting) = line();
        (0..1000).for_each(|_| line.tell(&path("hot")));
        line.tell(&path("other"));
        assert_eq!(waiting.next().await, Some(path("hot")));
        line.tell(&path("hot"));
        assert_eq!(waiting.next().await, Some(path("other")));
        assert_eq!(waiting.next().await, Some(path("hot")));
        (0..1000).for_each(|n| line.tell(&path(&n.to_string())));
        for n in 0..WAITING {
            assert_eq!(waiting.next().await, Some(path(&n.to_string())));
        }
        // One that found no room may come again.
        line.tell(&path("999"));
        assert_eq!(waiting.next().await, Some(path("999")));
        drop(line);
        assert_eq!(waiting.next().await, None);
    }

    #[test]
    fn a_file_that_comes_back_at_once_is_left_alone_ever_longer() {
        let (pauses, file) = (Pauses::new(), path("f"));
        let mut now = Instant::now();
        let mut expected = PAUSE;
        for _ in 0..20 {
            assert!(pauses.is_over(&file, now) && pauses.is_over(&path("g"), now));
            pauses.begin(&file, now);
            assert!(!pauses.is_over(&file, now + expected - Duration::from_secs(1)));
            now += expected;
            expected = (expected * 2).min(PAUSE_MAX);
        }
        now += 2 * PAUSE_MAX;
        pauses.begin(&file, now);
        assert!(pauses.is_over(&file, now + PAUSE), "it was well for long");
    }
}
