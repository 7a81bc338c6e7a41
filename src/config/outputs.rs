//! Where it is told what happens, beside the audit log.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use super::ConfigError;
use super::file::{Entry, in_order, shown};
use crate::event::KINDS;

/// The keys of the table `webhook`.
const WEBHOOK: [&str; 3] = ["url", "secret", "events"];

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

/// Who is told of events as they happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub url: HookUrl,
    /// The file with what both sides know, for signatures.
    pub secret: PathBuf,
    /// The kinds of events that it is told of; `None` for failures.
    pub events: Option<Vec<&'static str>>,
}

/// Where a webhook is: an address that may hold a token, so that only its beginning is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Url);

impl HookUrl {
    /// All of it.
    pub fn secret(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for HookUrl {
    type Err = String;

    /// The error does not tell the address.
    fn from_str(text: &str) -> Result<Self, String> {
        let url =
            Url::parse(text).map_err(|error| format!("it is no URL such as https://HOST/PATH: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("it must begin with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("user and password do not belong into it; the secret proves who sends".to_owned());
        }
        if url.fragment().is_some() {
            return Err("a # has to be written %23".to_owned());
        }
        Ok(Self(url))
    }
}

pub(super) fn webhook(entry: &Entry<'_, '_>) -> Result<Webhook, ConfigError> {
    let wanted = "a table such as { url = \"https://HOST/PATH\", secret = \"FILE\" }";
    let table = entry.value.get_ref().as_table().ok_or_else(|| entry.wrong_type(wanted))?;
    let (mut url, mut secret, mut events) = (None, None, None);
    for (key, value) in in_order(table) {
        let inner = Entry { file: entry.file, name: key.get_ref(), value };
        match inner.name {
            "url" => {
                let parsed = inner.string()?.parse::<HookUrl>();
                url = Some(parsed.map_err(|error| inner.error(format_args!("url: {error}")))?);
            }
            "secret" => secret = Some(inner.path()?),
            "events" => events = Some(kinds(&inner)?),
            unknown => {
                let known = "known keys of [webhook]";
                return Err(entry.file.unknown(key.span(), "webhook.", unknown, known, &WEBHOOK));
            }
        }
    }
    match (url, secret) {
        (Some(url), Some(secret)) => Ok(Webhook { url, secret, events }),
        _ => Err(entry.error(format_args!("{} must have url and secret; it is {wanted}", entry.name))),
    }
}

/// A list of kinds of events, each once.
fn kinds(entry: &Entry<'_, '_>) -> Result<Vec<&'static str>, ConfigError> {
    let wanted = "a list such as [\"refused\", \"store-down\"]";
    let list = entry.value.get_ref().as_array().ok_or_else(|| entry.wrong_type(wanted))?;
    let mut kinds = Vec::new();
    for value in list {
        let item = Entry { file: entry.file, name: entry.name, value };
        let word = item.string()?;
        let Some(kind) = KINDS.into_iter().find(|kind| *kind == word) else {
            let known = KINDS.join(", ");
            return Err(item.error(format_args!("there is no event \"{}\"; there are {known}", shown(word))));
        };
        if kinds.contains(&kind) {
            return Err(item.error(format_args!("{} names one thing twice", entry.name)));
        }
        kinds.push(kind);
    }
    match kinds.is_empty() {
        true => Err(entry.error(format_args!("{} must be {wanted}; leave it out for failures", entry.name))),
        false => Ok(kinds),
    }
}
