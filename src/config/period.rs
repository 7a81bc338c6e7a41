//! How often something is done, as people write it.

use std::str::FromStr;
use std::time::Duration;

/// How often something is done: `None` is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period(pub Option<Duration>);

/// A text that is no period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no period; write one from 1m to 365d such as \"24h\" (units s, m, h, d), or \"off\"")]
pub struct PeriodError(String);

const SHORTEST: u64 = 60;
const LONGEST: u64 = 365 * 24 * 3600;

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        // What is echoed in an error is kept short.
        let wrong = || PeriodError(text.chars().take(40).collect::<String>().escape_debug().to_string());
        if text == "off" {
            return Ok(Self(None));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return Err(wrong()),
        };
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        match seconds.filter(|seconds| (SHORTEST..=LONGEST).contains(seconds)) {
            Some(seconds) => Ok(Self(Some(Duration::from_secs(seconds)))),
            None => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_with_their_unit() {
        for (text, seconds) in
            [("60s", 60), ("1m", 60), ("24h", 86_400), ("007d", 604_800), ("365d", 31_536_000)]
        {
            assert_eq!(text.parse(), Ok(Period(Some(Duration::from_secs(seconds)))), "{text}");
        }
        assert_eq!("off".parse(), Ok(Period(None)));
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in
            ["", "24", "h", "-1h", "1 h", "1.5h", "59s", "0m", "366d", "1w", "OFF", "99999999999999999999d"]
        {
            let error = text.parse::<Period>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{text}\" is no period")), "{error}");
        }
        let error = "9\n".repeat(1000).parse::<Period>().unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
}
