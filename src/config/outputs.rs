//! Where it is told what happens, beside the audit log.

use std::str::FromStr;

/// Where the log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal of systemd, with a field for each fact.
    Journald,
    /// Syslog.
    Syslog,
}

impl FromStr for LogOutput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stderr" => Ok(Self::Stderr),
            "journald" => Ok(Self::Journald),
            "syslog" => Ok(Self::Syslog),
            _ => Err(format!("log must be \"stderr\", \"journald\" or \"syslog\", not \"{text}\"")),
        }
    }
}
