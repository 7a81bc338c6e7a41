//! What happened last, numbered, for who follows it: the page, the API and the webhook.
//!
//! Numbers grow by one, and over restarts too: the first is made of the time of the start. Bounded in number and in
//! bytes: the oldest give way. Who was too slow learns how many are missing; the audit log has them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::fact::Fact;

/// Events kept at most.
const KEPT: usize = 2048;
/// Bytes of their JSON kept at most; the newest one stays, however long it is.
const BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its number.
    pub(super) id: u64,
    /// When.
    pub(super) time: Timestamp,
    /// Its kind, as the key `event` of the JSON has it.
    pub(super) kind: &'static str,
    /// Whether somebody should look at it.
    pub(super) failure: bool,
    /// The JSON object of the audit log with the number before it, on one line.
    pub(super) json: Arc<str>,
}

/// Events in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chapter {
    pub(super) events: Vec<Told>,
    /// Events behind the number that was asked for, and before the first of these, that are not kept any more.
    pub(super) missed: u64,
    /// The number to ask for next.
    pub(super) last: u64,
}

/// The events that are kept.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Told>,
    bytes: usize,
    /// The number before the first.
    base: u64,
    last: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Feed {
    /// Events whose first one has the number behind `base`.
    fn new(base: u64) -> Self {
        let kept = Kept { base, last: base, ..Kept::default() };
        Self { kept: Mutex::new(kept), last: watch::Sender::new(base) }
    }

    /// Events of a gateway that starts at `now`.
    pub(super) fn starting_at(now: Timestamp) -> Self {
        // Whole numbers of JSON are exact up to 2^53, in microseconds the year 2255.
        Self::new(u64::try_from(now.as_microsecond()).unwrap_or(0))
    }

    /// Takes what happened at `time`.
    pub(super) fn push(&self, time: Timestamp, fact: &Fact) {
        let mut kept = self.kept.lock();
        let id = kept.last + 1;
        let Ok(json) = fact.numbered(id, time) else { return };
        kept.last = id;
        kept.bytes += json.len();
        let (kind, failure) = (fact.kind(), fact.is_failure());
        kept.events.push_back(Told { id, time, kind, failure, json: json.into() });
        while kept.events.len() > KEPT || (kept.bytes > BYTES && kept.events.len() > 1) {
            if let Some(gone) = kept.events.pop_front() {
                kept.bytes -= gone.json.len();
            }
        }
        drop(kept);
        // Two that come at once may tell in either order.
        self.last.send_if_modified(|last| id > std::mem::replace(last, id.max(*last)));
    }

    /// At most `limit` events behind the number `after`, oldest first, of those that `wanted` takes.
    pub(super) fn after(&self, after: u64, limit: usize, wanted: impl Fn(&Told) -> bool) -> Chapter {
        let kept = self.kept.lock();
        // A number that is still to come is from before the clock was set back.
        let after = if after > kept.last { kept.base } else { after.max(kept.base) };
        let oldest = kept.events.front().map_or(kept.last, |first| first.id - 1);
        let start = kept.events.partition_point(|told| told.id <= after);
        let mut rest = kept.events.range(start..).filter(|told| wanted(told));
        let events: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        let last = match (rest.next(), events.last()) {
            (Some(_), Some(last)) => last.id,
            (Some(_), None) => after,
            (None, _) => kept.last,
        };
        Chapter { events, missed: oldest.saturating_sub(after), last }
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// What tells of every new number.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::text::CLIP;

    fn push(feed: &Feed, count: u64) {
        for n in 0..count {
            feed.push(Timestamp::UNIX_EPOCH, &Fact::Relaxed { setting: n.to_string() });
        }
    }

    fn ids(chapter: &Chapter) -> Vec<u64> {
        chapter.events.iter().map(|told| told.id).collect()
    }

    #[test]
    fn events_have_numbers_and_are_asked_for_by_them() {
        let feed = Feed::default();
        push(&feed, 5);
        let chapter = feed.after(2, 2, |_| true);
        assert_eq!((ids(&chapter), chapter.missed, chapter.last), (vec![3, 4], 0, 4));
        let chapter = feed.after(chapter.last, 2, |_| true);
        assert_eq!((ids(&chapter), chapter.last), (vec![5], 5));
        assert_eq!(feed.after(5, 2, |_| true), Chapter { last: 5, ..Chapter::default() });
        let first = feed.after(0, 1, |_| true).events.remove(0);
        assert_eq!(first.kind, "relaxed");
        assert!(first.json.contains("\"event\":\"relaxed\""));
        let json: serde_json::Value = serde_json::from_str(&first.json).unwrap();
        assert_eq!(json["id"], 1);
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["setting"], "0");
    }

    #[test]
    fn what_is_not_wanted_is_passed_over() {
        let feed = Feed::default();
        push(&feed, 9);
        let even = feed.after(0, 2, |told| told.id % 2 == 0);
        assert_eq!((ids(&even), even.last), (vec![2, 4], 4));
        let none = feed.after(0, 2, |_| false);
        assert_eq!((ids(&none), none.last), (vec![], 9));
    }

    #[test]
    fn the_oldest_give_way_and_their_number_is_told() {
        let feed = Feed::default();
        push(&feed, KEPT as u64 + 10);
        let chapter = feed.after(3, usize::MAX, |_| true);
        assert_eq!(chapter.events.len(), KEPT);
        assert_eq!((chapter.missed, ids(&chapter)[0]), (7, 11));
    }

    #[test]
    fn long_events_do_not_cost_more_memory() {
        let feed = Feed::default();
        let long = "x".repeat(CLIP * 1024);
        for _ in 0..20 {
            feed.push(Timestamp::UNIX_EPOCH, &Fact::Relaxed { setting: long.clone() });
        }
        assert_eq!(ids(&feed.after(0, usize::MAX, |_| true)), [18, 19, 20]);
    }

    #[test]
    fn numbers_from_before_a_restart_are_before_all() {
        let feed = Feed::starting_at(Timestamp::from_microsecond(1000).unwrap());
        assert_eq!((feed.last(), feed.after(5, 5, |_| true).last), (1000, 1000));
        push(&feed, 2);
        for after in [0, 999, 1000, 1003] {
            let chapter = feed.after(after, 5, |_| true);
            assert_eq!((ids(&chapter), chapter.missed), (vec![1001, 1002], 0), "{after}");
        }
        push(&feed, KEPT as u64);
        assert_eq!(feed.after(7, 5, |_| true).missed, 2);
    }

    #[tokio::test]
    async fn who_follows_is_woken() {
        let feed = Arc::new(Feed::default());
        let mut follower = feed.follow();
        let pushing = feed.clone();
        let pushed = tokio::spawn(async move { push(&pushing, 1) });
        follower.changed().await.unwrap();
        assert_eq!((*follower.borrow(), feed.last()), (1, 1));
        pushed.await.unwrap();
    }
}
