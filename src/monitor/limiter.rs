//! Flood control: a failure that repeats is written a few times, then counted.
//!
//! Pure: the time is passed in. A window of [`WINDOW`] opens with the first failure of a path for
//! a cause; [`BURST`] failures in it are written and the others counted, and the count is given
//! back when the window has ended. Paths beyond [`KEYS`] share one window for each cause.
//!
//! What a policy denies, it denies to somebody: each client has windows of its own, and at most
//! [`CLIENT_KEYS`], so that none hides behind another one's denials.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::event::{Cause, Refusal};

/// How long failures of one path and cause are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// How many of them are written.
pub(super) const BURST: u32 = 10;
/// How many pairs of path and cause are told apart at a time.
pub(super) const KEYS: usize = 1024;
/// How many of them one client has of what is denied to it.
pub(super) const CLIENT_KEYS: usize = 64;

/// What is counted together, for each path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) cause: Cause,
    /// Whom a policy denied it.
    pub(super) client: Option<IpAddr>,
}

impl Kind {
    /// What `refusal` is.
    pub(super) fn of(refusal: &Refusal<'_>) -> Self {
        let denied = refusal.client.filter(|_| refusal.cause == Cause::Policy);
        Self { cause: refusal.cause, client: denied.map(|client| client.address.ip().to_canonical()) }
    }
}

/// A point in time: by a clock that never goes back, and by the calendar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since some fixed point.
    pub(super) tick: Duration,
    /// For people.
    pub(super) wall: Timestamp,
}

/// Failures that were counted and not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    /// The path, `None` for the many that share a window.
    pub(super) path: Option<Box<[u8]>>,
    /// Why, and to whom.
    pub(super) kind: Kind,
    /// How many; never 0.
    pub(super) count: u64,
    /// The first of them.
    pub(super) first: Timestamp,
    /// The last of them.
    pub(super) last: Timestamp,
}

/// What becomes of one failure.
#[derive(Debug)]
pub(super) struct Admission {
    /// Whether it is written.
    pub(super) write: bool,
    /// True when it is the first that is only counted in its window, so that there is now
    /// something to give back later.
    pub(super) first_held: bool,
    /// What was counted in windows that have ended.
    pub(super) ended: Vec<Repeated>,
}

#[derive(Debug)]
struct Window {
    ends: Duration,
    written: u32,
    held: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Window {
    fn open(now: Moment) -> Self {
        Self { ends: now.tick.saturating_add(WINDOW), written: 0, held: 0, first: now.wall, last: now.wall }
    }

    /// Counts one failure; true when it is written.
    fn admit(&mut self, now: Moment) -> bool {
        if self.written < BURST {
            self.written += 1;
            return true;
        }
        if self.held == 0 {
            self.first = now.wall;
        }
        self.held += 1;
        self.last = now.wall;
        false
    }

    fn repeated(&self, path: Option<&[u8]>, kind: Kind) -> Option<Repeated> {
        (self.held > 0).then(|| Repeated {
            path: path.map(Box::from),
            kind,
            count: self.held,
            first: self.first,
            last: self.last,
        })
    }
}

/// The table of open windows.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    files: HashMap<Kind, HashMap<Box<[u8]>, Window>>,
    others: HashMap<Kind, Window>,
    /// Windows in `files`.
    open: usize,
    /// No window ends before this.
    earliest: Duration,
}

impl Limiter {
    /// Decides on one failure of `path`.
    pub(super) fn admit(&mut self, path: &[u8], kind: Kind, now: Moment) -> Admission {
        let known = self.files.get(&kind).is_some_and(|files| files.contains_key(path));
        let mut ended = Vec::new();
        if !known && !self.has_room(kind) && now.tick >= self.earliest {
            ended = self.expire(now);
        }
        let (window, name, kind) = if known || self.has_room(kind) {
            let files = self.files.entry(kind).or_default();
            let open = &mut self.open;
            let window = files.entry(Box::from(path)).or_insert_with(|| {
                *open += 1;
                Window::open(now)
            });
            (window, Some(path), kind)
        } else {
            let apart = self.others.len() < KEYS || self.others.contains_key(&kind);
            let kind = if apart { kind } else { Kind { client: None, ..kind } };
            (self.others.entry(kind).or_insert_with(|| Window::open(now)), None, kind)
        };
        if now.tick >= window.ends {
            ended.extend(window.repeated(name, kind));
            *window = Window::open(now);
        }
        let write = window.admit(now);
        Admission { write, first_held: !write && window.held == 1, ended }
    }

    /// Whether another path of `kind` has a window of its own.
    fn has_room(&self, kind: Kind) -> bool {
        let mine = || self.files.get(&kind).map_or(0, HashMap::len);
        self.open < KEYS && (kind.client.is_none() || mine() < CLIENT_KEYS)
    }

    /// Closes the windows that have ended and gives back what they counted, oldest first.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<Repeated> {
        self.close(|window| now.tick >= window.ends)
    }

    /// Closes all windows.
    pub(super) fn drain(&mut self) -> Vec<Repeated> {
        self.close(|_| true)
    }

    fn close(&mut self, ends: impl Fn(&Window) -> bool) -> Vec<Repeated> {
        let mut ended = Vec::new();
        let mut earliest = Duration::MAX;
        self.files.retain(|kind, files| {
            files.retain(|path, window| {
                if ends(window) {
                    ended.extend(window.repeated(Some(path), *kind));
                    return false;
                }
                earliest = earliest.min(window.ends);
                true
            });
            !files.is_empty()
        });
        self.others.retain(|kind, window| {
            if ends(window) {
                ended.extend(window.repeated(None, *kind));
            }
            !ends(window)
        });
        self.open = self.files.values().map(HashMap::len).sum();
        self.earliest = if self.open == 0 { Duration::ZERO } else { earliest };
        ended.sort_by_key(|repeated| repeated.first);
        ended
    }

    /// When the first window ends that has something to give back; `None` when there is none.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let files = self.files.values().flat_map(HashMap::values);
        files.chain(self.others.values()).filter(|window| window.held > 0).map(|window| window.ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        let wall = Timestamp::from_second(1_700_000_000 + seconds.cast_signed()).unwrap();
        Moment { tick: Duration::from_secs(seconds), wall }
    }

    fn plain(cause: Cause) -> Kind {
        Kind { cause, client: None }
    }

    fn denied(client: u32) -> Kind {
        Kind { cause: Cause::Policy, client: Some(IpAddr::from(client.to_be_bytes())) }
    }

    fn written(limiter: &mut Limiter, path: &[u8], times: u32, second: u64) -> u32 {
        (0..times).map(|_| u32::from(limiter.admit(path, plain(Cause::BadBlock), at(second)).write)).sum()
    }

    #[test]
    fn a_flood_is_written_ten_times_and_then_counted() {
        let mut limiter = Limiter::default();
        assert_eq!(written(&mut limiter, b"a", 10, 0), 10);
        assert_eq!(limiter.deadline(), None);
        let eleventh = limiter.admit(b"a", plain(Cause::BadBlock), at(7));
        assert!(!eleventh.write && eleventh.first_held);
        assert_eq!(written(&mut limiter, b"a", 500, 30), 0);
        assert_eq!(limiter.deadline(), Some(WINDOW));
        assert_eq!(limiter.expire(at(59)), []);
        let path = Some(Box::from(&b"a"[..]));
        let (first, last) = (at(7).wall, at(30).wall);
        assert_eq!(
            limiter.expire(at(60)),
            [Repeated { path, kind: plain(Cause::BadBlock), count: 501, first, last }]
        );
        assert_eq!(limiter.deadline(), None);
        assert_eq!(limiter.drain(), []);
    }

    #[test]
    fn paths_and_causes_do_not_share_a_window() {
        let mut limiter = Limiter::default();
        assert_eq!(written(&mut limiter, b"a", 20, 0), 10);
        assert_eq!(written(&mut limiter, b"b", 20, 0), 10);
        assert!(limiter.admit(b"a", plain(Cause::Unsigned), at(0)).write);
        assert_eq!(limiter.drain().iter().map(|r| r.count).collect::<Vec<_>>(), [10, 10]);
    }

    #[test]
    fn the_next_failure_after_a_window_gives_its_count_back_and_is_written() {
        let mut limiter = Limiter::default();
        written(&mut limiter, b"a", 13, 0);
        let next = limiter.admit(b"a", plain(Cause::BadBlock), at(61));
        assert!(next.write);
        assert_eq!(next.ended.iter().map(|r| r.count).collect::<Vec<_>>(), [3]);
        assert_eq!(written(&mut limiter, b"a", 20, 62), 9, "the new window has its own burst");
        assert_eq!(limiter.deadline(), Some(Duration::from_secs(121)));
    }

    #[test]
    fn paths_beyond_the_table_are_counted_together() {
        let mut limiter = Limiter::default();
        for n in 0..KEYS {
            assert!(limiter.admit(n.to_string().as_bytes(), plain(Cause::BadBlock), at(1)).write);
        }
        let more: u32 = (0..1000).map(|n| written(&mut limiter, format!("more{n}").as_bytes(), 1, 2)).sum();
        assert_eq!(more, BURST);
        assert_eq!(limiter.open, KEYS);
        assert!(limiter.admit(b"elsewhere", plain(Cause::Expired), at(2)).write, "each cause has its own");
        let ended = limiter.drain();
        assert_eq!(ended.iter().map(|r| (r.path.clone(), r.count)).collect::<Vec<_>>(), [(None, 990)]);
    }

    #[test]
    fn what_is_denied_to_one_client_hides_nothing_of_another() {
        let mut limiter = Limiter::default();
        for n in 0..2 * KEYS {
            limiter.admit(n.to_string().as_bytes(), denied(1), at(0));
        }
        assert_eq!(limiter.open, CLIENT_KEYS);
        assert!(!limiter.admit(b"0 is the first", denied(1), at(1)).write);
        assert!(limiter.admit(b"0", denied(2), at(1)).write);
        assert!(limiter.admit(b"a", plain(Cause::BadBlock), at(1)).write);
        // Nor does what became of the first client: its windows end.
        assert!(limiter.admit(b"new", denied(1), at(60)).write);
        let told = limiter.drain();
        let [] = &told[..] else { panic!("{told:?}") };
    }

    #[test]
    fn clients_without_number_take_no_memory_without_end() {
        let mut limiter = Limiter::default();
        for client in 0..4 * u32::try_from(KEYS).unwrap() {
            limiter.admit(b"a", denied(client), at(0));
        }
        assert!(limiter.open <= KEYS && limiter.files.len() <= KEYS && limiter.others.len() <= KEYS + 1);
        assert!(limiter.expire(at(60)).iter().all(|repeated| repeated.path.is_none()));
        assert!(limiter.files.is_empty() && limiter.others.is_empty());
    }

    #[test]
    fn a_full_table_makes_room_when_windows_end_and_loses_no_count() {
        let mut limiter = Limiter::default();
        written(&mut limiter, b"noisy", 15, 0);
        for n in 1..KEYS {
            limiter.admit(n.to_string().as_bytes(), plain(Cause::BadBlock), at(0));
        }
        assert_eq!(limiter.open, KEYS);
        let next = limiter.admit(b"late", plain(Cause::BadBlock), at(60));
        assert!(next.write);
        assert_eq!(next.ended.iter().map(|r| r.count).collect::<Vec<_>>(), [5]);
        assert_eq!(limiter.open, 1);
    }

    #[test]
    fn every_failure_is_either_written_or_given_back() {
        let mut limiter = Limiter::default();
        let (mut failures, mut seen) = (0_u64, 0_u64);
        for second in 0..600_u64 {
            for n in 0..40_u64 {
                let path = ((second * n * 7919) % 3000).to_string();
                let kind = if n % 3 == 0 { plain(Cause::Truncated) } else { plain(Cause::BadBlock) };
                let admission = limiter.admit(path.as_bytes(), kind, at(second));
                failures += 1;
                seen += u64::from(admission.write) + admission.ended.iter().map(|r| r.count).sum::<u64>();
            }
            if second % 50 == 0 {
                seen += limiter.expire(at(second)).iter().map(|r| r.count).sum::<u64>();
            }
            assert!(limiter.open <= KEYS);
        }
        seen += limiter.drain().iter().map(|r| r.count).sum::<u64>();
        assert_eq!(failures, seen);
    }
}
