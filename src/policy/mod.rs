//! Facts in, decision out.
//!
//! Pure: no I/O, no clock. What was found out about a file or a block is a fact; whether it may
//! be served is decided here and nowhere else.
//!
//! [`decide`] asks whether something is proven; a [`Policy`] in the language of [`ipe`] asks what may be
//! done with what is.

pub mod ipe;

use std::fmt;
use std::str::FromStr;

use crate::event::{Cause, CauseClass};

pub use ipe::{
    Action, DigestFact, Errno, Explanation, Facts, Miss, Op, Policy, PolicyError, PolicyFault, Property,
    Rule, RuleRef, Ruling, SignerFact, UpdateError, Version,
};

/// What happens to what does not verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is served and reported. Shown on the status page, in the audit log and in every event.
    Warn,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        })
    }
}

/// A word that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode must be \"enforce\" or \"warn\", not \"{0}\"")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "enforce" => Ok(Self::Enforce),
            "warn" => Ok(Self::Warn),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}

/// Whether and how something is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Proven and allowed.
    Allow,
    /// Not proven, and served all the same because the configuration says so.
    AllowUnproven(Cause),
    /// Policy says no: the client sees an access error.
    Deny(Cause),
    /// Damaged: the client sees an I/O error.
    Fail(Cause),
}

/// Decides on a file or block of which `finding` is known: nothing wrong, or why it does not verify.
pub fn decide(mode: Mode, finding: Option<Cause>) -> Decision {
    match (finding, mode) {
        (None, _) => Decision::Allow,
        // What cannot be read cannot be served in any mode.
        (Some(Cause::Unreadable), _) => Decision::Fail(Cause::Unreadable),
        (Some(cause), Mode::Warn) => Decision::AllowUnproven(cause),
        (Some(cause), Mode::Enforce) => match cause.class() {
            CauseClass::Denied => Decision::Deny(cause),
            CauseClass::Corrupt => Decision::Fail(cause),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enforce_lets_nothing_unproven_pass() {
        for cause in Cause::ALL {
            let decision = decide(Mode::Enforce, Some(cause));
            assert!(matches!(decision, Decision::Deny(c) | Decision::Fail(c) if c == cause), "{cause}");
        }
        assert_eq!(decide(Mode::Enforce, None), Decision::Allow);
    }

    #[test]
    fn warn_serves_all_that_can_be_read() {
        for cause in Cause::ALL {
            let served = matches!(decide(Mode::Warn, Some(cause)), Decision::AllowUnproven(c) if c == cause);
            assert_eq!(served, cause != Cause::Unreadable, "{cause}");
        }
    }

    #[test]
    fn mode_is_one_of_two_words() {
        assert_eq!("warn".parse(), Ok(Mode::Warn));
        assert_eq!(Mode::Enforce.to_string().parse(), Ok(Mode::Enforce));
        assert!("off".parse::<Mode>().unwrap_err().to_string().contains("\"off\""));
    }
}
