//! How often something is done, as people write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time between two beginnings; `None` for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

/// The longest one, in seconds: ten years.
const MAX: u64 = 3650 * 86_400;

/// A text that is no [`Interval`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no interval; write one such as \"24h\" (units s, m, h, d), or \"off\"")]
pub struct IntervalError(String);

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || IntervalError(text.chars().take(40).collect::<String>().escape_debug().to_string());
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, unit) = text.split_at(end);
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let seconds = number.checked_mul(factor).filter(|seconds| (1..=MAX).contains(seconds));
        Ok(Self(Some(Duration::from_secs(seconds.ok_or_else(wrong)?))))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}s", time.as_secs()),
            None => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_with_their_unit() {
        for (text, seconds) in [("24h", 86_400), ("1s", 1), ("30m", 1800), ("7d", 604_800)] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!(interval, Interval(Some(Duration::from_secs(seconds))), "{text}");
            assert_eq!(interval.to_string().parse(), Ok(interval));
        }
        assert_eq!("off".parse(), Ok(Interval(None)));
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in ["", "24", "h", "0s", "-1h", "1.5h", "1 h", "1w", "OFF", "99999999999999999999d", "4000d"]
        {
            assert!(text.parse::<Interval>().is_err(), "{text:?}");
        }
        let error = "\n".repeat(1000).parse::<Interval>().unwrap_err().to_string();
        assert!(error.len() < 250 && !error.contains('\n'), "{error}");
    }
}
