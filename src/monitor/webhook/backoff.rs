//! How long to wait before something is tried again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use ring::rand::{SecureRandom, SystemRandom};

/// Twice as long each time, and by chance up to twice that: many that failed together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    step: Duration,
    longest: Duration,
}

impl Backoff {
    /// From `first` on, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { step: first, longest }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let mut random = [0; 4];
        // Without randomness it is as long each time.
        let _ = SystemRandom::new().fill(&mut random);
        self.next_by(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
    }

    /// The next one, with `chance` from 0 to 1.
    fn next_by(&mut self, chance: f64) -> Duration {
        let step = self.step.min(self.longest / 2);
        self.step = step * 2;
        step.mul_f64(1.0 + chance)
    }
}

/// What the header `Retry-After` asks for at `now` (RFC 9110 section 10.2.3): seconds, or a date.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit is longer than anybody waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_the_first_to_the_longest_and_varies_up_to_twice_that() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        let all = |chance| {
            let mut backoff = Backoff::new(first, longest);
            (0..10).map(|_| backoff.next_by(chance).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(all(0.0), [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
        assert_eq!(all(1.0), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let mut backoff = Backoff::new(first, longest);
        for _ in 0..100 {
            assert!((first..=longest).contains(&backoff.next()));
        }
    }

    #[test]
    fn what_a_server_asks_for_is_seconds_or_a_date() {
        let now = Timestamp::from_second(784_111_777).unwrap();
        for (value, wanted) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now).map(|after| after.as_secs()), wanted, "{value}");
        }
    }
}
