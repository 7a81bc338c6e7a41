//! The configuration file: TOML 1.0, checked key by key so that every error has its line.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::outputs::webhook;
use super::size::parse_size;
use super::tpm::MeasureTpm;
use super::{
    CACHE_MIN, CALLS, CONNECTIONS, ConfigError, DISK_CACHE_MIN, DiskCache, FATTR4_IMA, IDLE_SECONDS,
    LEASE_SECONDS, MEASURE_HISTORY, MonitorTls, NFS4ERR_INTEGRITY, Overrides, REPAIR_AFTER_SECONDS,
    SCRUB_RATE, TIMEOUT_SECONDS,
};
use crate::measure::SEGMENT_MIN;
use crate::store::StoreAddress;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// The keys of the file.
const KEYS: [&str; 44] = [
    "store",
    "replica",
    "repair",
    "repair_after",
    "timeout",
    "wait",
    "disk_cache",
    "handle_key",
    "trust",
    "accept",
    "carrier",
    "listen",
    "monitor",
    "monitor_token",
    "monitor_tls",
    "namespace",
    "mode",
    "policy",
    "policy_active",
    "policy_mode",
    "policy_trust",
    "audit_log",
    "log",
    "webhook",
    "measure",
    "measure_template",
    "measure_segment",
    "measure_history",
    "measure_tpm",
    "cache",
    "state",
    "squash",
    "anonymous_uid",
    "anonymous_gid",
    "xattrs",
    "proof_directory",
    "proof_directory_listed",
    "lease",
    "fattr4_ima",
    "nfs4err_integrity",
    "rpcbind",
    "scrub",
    "scrub_rate",
    "limits",
];

/// The keys of the table `[limits]`.
const LIMITS: [&str; 3] = ["connections", "calls_per_connection", "idle_seconds"];

/// What a configuration file says: each value checked by itself, absent where the file says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSettings {
    /// The file's name, for errors; empty when there is no file.
    pub(super) name: String,
    pub(super) values: Overrides,
}

impl FileSettings {
    /// Reads a configuration; `name` stands in the errors. Pure.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let file = Source { name, text };
        let table = file.table()?;
        let mut values = Overrides::default();
        for entry in in_order(table.get_ref()) {
            read_key(&file, entry, &mut values)?;
        }
        Ok(Self { name: name.to_owned(), values })
    }

    /// Reads the file `path`. Relative paths in it are meant from the file's own directory.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 1 MiB, or [`FileSettings::parse`] refuses it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { file: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(ConfigError::TooLarge { file: path.to_owned(), limit: FILE_MAX });
        }
        let name = path.display().to_string();
        let text = utf8(bytes, &name)?;
        let mut settings = Self::parse(&text, &name)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let Overrides {
            store,
            replicas,
            trust,
            policies,
            policy_trust,
            audit_log,
            measure,
            state,
            disk_cache,
            handle_key,
            monitor_token,
            monitor_tls,
            webhook,
            ..
        } = &mut settings.values;
        let disk_cache = disk_cache.as_mut().map(|cache| &mut cache.directory);
        let secret = webhook.as_mut().map(|webhook| &mut webhook.secret);
        let paths = [trust, policy_trust, audit_log, measure, state, handle_key, monitor_token];
        let paths = paths.into_iter().flatten().chain(disk_cache).chain(secret);
        let certificates = monitor_tls.iter_mut().flat_map(|MonitorTls { cert, key, client_ca }| {
            [Some(cert), Some(key), client_ca.as_mut()].into_iter().flatten()
        });
        let paths = paths.chain(certificates).chain(policies.iter_mut().flatten());
        let stores = store.iter_mut().chain(replicas.iter_mut().flatten());
        let stores = stores.filter_map(|store| match store {
            StoreAddress::Local(path) => Some(path),
            StoreAddress::Upstream(_) | StoreAddress::Object(_) | StoreAddress::Memory(_) => None,
        });
        for path in paths.chain(stores) {
            *path = base.join(&*path);
        }
        Ok(settings)
    }
}

/// `bytes` as text; `name` stands in the error.
pub(super) fn utf8(bytes: Vec<u8>, name: &str) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::Invalid {
            file: name.to_owned(),
            line,
            what: "not UTF-8; save the file as UTF-8".to_owned(),
        }
    })
}

pub(super) type Key<'a, 'i> = &'a Spanned<std::borrow::Cow<'i, str>>;
pub(super) type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

/// The entries in the order of the file, so that the first error is the one that is told.
pub(super) fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(Key<'a, 'i>, Value<'a, 'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn read_key(
    file: &Source<'_>,
    (key, value): (Key<'_, '_>, Value<'_, '_>),
    values: &mut Overrides,
) -> Result<(), ConfigError> {
    let entry = Entry { file, name: key.get_ref(), value };
    match entry.name {
        "store" => values.store = Some(entry.store()?),
        "replica" => values.replicas = Some(entry.stores()?),
        "repair" => values.repair = Some(entry.boolean()?),
        "repair_after" => values.repair_after = Some(entry.number(REPAIR_AFTER_SECONDS)?),
        "timeout" => values.timeout = Some(entry.number(TIMEOUT_SECONDS)?),
        "wait" => values.wait = Some(entry.word()?),
        "disk_cache" => values.disk_cache = Some(disk_cache(&entry)?),
        "handle_key" => values.handle_key = Some(entry.path()?),
        "trust" => values.trust = Some(entry.path()?),
        "accept" => values.accept = Some(entry.word()?),
        "carrier" => values.carrier = Some(entry.words()?),
        "listen" => values.listen = Some(entry.address()?),
        "monitor" => values.monitor = Some(entry.address()?),
        "monitor_token" => values.monitor_token = Some(entry.path()?),
        "monitor_tls" => values.monitor_tls = Some(monitor_tls(&entry)?),
        "namespace" => values.namespace = Some(entry.string()?.to_owned()),
        "mode" => values.mode = Some(entry.word()?),
        "policy" => values.policies = Some(entry.paths()?),
        "policy_active" => values.policy_active = Some(entry.string()?.to_owned()),
        "policy_mode" => values.policy_mode = Some(entry.word()?),
        "policy_trust" => values.policy_trust = Some(entry.path()?),
        "audit_log" => values.audit_log = Some(entry.path()?),
        "log" => values.log = Some(entry.word()?),
        "webhook" => values.webhook = Some(webhook(&entry)?),
        "measure" => values.measure = Some(entry.path()?),
        "measure_template" => values.measure_template = Some(entry.word()?),
        "measure_segment" => values.measure_segment = Some(entry.size(SEGMENT_MIN, "4KiB")?),
        "measure_history" => values.measure_history = Some(entry.number(MEASURE_HISTORY)?),
        "measure_tpm" => values.measure_tpm = Some(MeasureTpm::read(&entry)?),
        "cache" => values.cache = Some(entry.size(CACHE_MIN, "1MiB")?),
        "state" => values.state = Some(entry.path()?),
        "squash" => values.squash = Some(entry.word()?),
        // The largest number stands for "no id" in POSIX.
        "anonymous_uid" => values.anonymous_uid = Some(entry.number(0..=u32::MAX - 1)?),
        "anonymous_gid" => values.anonymous_gid = Some(entry.number(0..=u32::MAX - 1)?),
        "xattrs" => values.xattrs = Some(entry.word()?),
        "proof_directory" => {
            values.proof_directory = Some(entry.string()?.parse().map_err(|error| entry.error(error))?);
        }
        "proof_directory_listed" => values.proof_directory_listed = Some(entry.boolean()?),
        "lease" => values.lease = Some(entry.number(LEASE_SECONDS)?),
        "fattr4_ima" => values.fattr4_ima = Some(entry.number(FATTR4_IMA)?),
        "nfs4err_integrity" => values.nfs4err_integrity = Some(entry.number(NFS4ERR_INTEGRITY)?),
        "rpcbind" => values.rpcbind = Some(entry.boolean()?),
        "scrub" => values.scrub = Some(entry.word()?),
        "scrub_rate" => values.scrub_rate = Some(entry.number(SCRUB_RATE)?),
        "limits" => {
            let table = value.get_ref().as_table().ok_or_else(|| entry.wrong_type("a table [limits]"))?;
            for (key, value) in in_order(table) {
                read_limit(file, key, value, values)?;
            }
        }
        unknown => return Err(file.unknown(key.span(), "", unknown, "known keys", &KEYS)),
    }
    Ok(())
}

fn read_limit(
    file: &Source<'_>,
    key: Key<'_, '_>,
    value: Value<'_, '_>,
    values: &mut Overrides,
) -> Result<(), ConfigError> {
    let entry = Entry { file, name: key.get_ref(), value };
    match entry.name {
        "connections" => values.connections = Some(entry.number(CONNECTIONS)?),
        "calls_per_connection" => values.calls_per_connection = Some(entry.number(CALLS)?),
        "idle_seconds" => values.idle_seconds = Some(entry.number(IDLE_SECONDS)?),
        unknown => {
            return Err(file.unknown(key.span(), "limits.", unknown, "known keys of [limits]", &LIMITS));
        }
    }
    Ok(())
}

fn disk_cache(entry: &Entry<'_, '_>) -> Result<DiskCache, ConfigError> {
    let wanted = "a table such as { dir = \"/var/cache/nfs-verity\", size = \"100GiB\" }";
    let table = entry.value.get_ref().as_table().ok_or_else(|| entry.wrong_type(wanted))?;
    let (mut directory, mut size) = (None, None);
    for (key, value) in in_order(table) {
        let inner = Entry { file: entry.file, name: key.get_ref(), value };
        match inner.name {
            "dir" => directory = Some(inner.path()?),
            "size" => size = Some(inner.size(DISK_CACHE_MIN, "64MiB")?),
            unknown => {
                let known = "known keys of [disk_cache]";
                return Err(entry.file.unknown(key.span(), "disk_cache.", unknown, known, &["dir", "size"]));
            }
        }
    }
    match (directory, size) {
        (Some(directory), Some(size)) => Ok(DiskCache { directory, size }),
        _ => Err(entry.error(format_args!("{} must have dir and size; it is {wanted}", entry.name))),
    }
}

fn monitor_tls(entry: &Entry<'_, '_>) -> Result<MonitorTls, ConfigError> {
    let wanted = "a table such as { cert = \"monitor.pem\", key = \"monitor.key\" }";
    let table = entry.value.get_ref().as_table().ok_or_else(|| entry.wrong_type(wanted))?;
    let (mut cert, mut key, mut client_ca) = (None, None, None);
    for (name, value) in in_order(table) {
        let inner = Entry { file: entry.file, name: name.get_ref(), value };
        match inner.name {
            "cert" => cert = Some(inner.path()?),
            "key" => key = Some(inner.path()?),
            "client_ca" => client_ca = Some(inner.path()?),
            unknown => {
                let (known, keys) = ("known keys of [monitor_tls]", ["cert", "key", "client_ca"]);
                return Err(entry.file.unknown(name.span(), "monitor_tls.", unknown, known, &keys));
            }
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(MonitorTls { cert, key, client_ca }),
        _ => Err(entry.error(format_args!("{} must have cert and key; it is {wanted}", entry.name))),
    }
}

/// A TOML file, for errors that have its name and their line.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// All of the file.
    pub(super) fn table(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let what = error.message().lines().collect::<Vec<_>>().join("; ");
            match error.span() {
                Some(span) => self.error(span, format_args!("not TOML: {what}")),
                None => self.error(0..0, format_args!("not TOML: {what}")),
            }
        })
    }

    pub(super) fn error(&self, span: Range<usize>, what: impl Display) -> ConfigError {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::Invalid { file: self.name.to_owned(), line, what: what.to_string() }
    }

    pub(super) fn unknown(
        &self,
        span: Range<usize>,
        table: &str,
        key: &str,
        known: &str,
        keys: &[&str],
    ) -> ConfigError {
        let what = format!("unknown key \"{table}{}\"; {known} are {}", shown(key), keys.join(", "));
        self.error(span, what)
    }
}

/// A foreign text for an error: short and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut short = text.chars().take(60).collect::<String>();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}

/// One key of a TOML file and its value.
pub(super) struct Entry<'a, 'i> {
    pub(super) file: &'a Source<'a>,
    pub(super) name: &'a str,
    pub(super) value: Value<'a, 'i>,
}

impl Entry<'_, '_> {
    pub(super) fn error(&self, what: impl Display) -> ConfigError {
        self.file.error(self.value.span(), what)
    }

    pub(super) fn wrong_type(&self, wanted: &str) -> ConfigError {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format_args!("{} must be {wanted}, not {found}", self.name))
    }

    pub(super) fn string(&self) -> Result<&str, ConfigError> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    /// One of a few words. What is echoed in the error is kept short.
    pub(super) fn word<T: FromStr<Err: Display>>(&self) -> Result<T, ConfigError> {
        shown(self.string()?).parse().map_err(|error| self.error(error))
    }

    /// Words with commas between them, each once.
    fn words<T: FromStr<Err: Display> + PartialEq>(&self) -> Result<Vec<T>, ConfigError> {
        let mut words = Vec::new();
        for word in self.string()?.split(',') {
            let word = shown(word.trim()).parse().map_err(|error| self.error(error))?;
            if words.contains(&word) {
                return Err(self.error(format_args!("{} names one thing twice", self.name)));
            }
            words.push(word);
        }
        Ok(words)
    }

    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        self.location("a path").map(PathBuf::from)
    }

    /// A list of paths, or one.
    fn paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        match self.value.get_ref().as_array() {
            Some(list) => {
                list.iter().map(|value| Entry { file: self.file, name: self.name, value }.path()).collect()
            }
            None => Ok(vec![self.path()?]),
        }
    }

    fn store(&self) -> Result<StoreAddress, ConfigError> {
        let text = self.location("a path or a URL")?;
        StoreAddress::parse(text.as_ref()).map_err(|error| self.error(format_args!("{}: {error}", self.name)))
    }

    /// A list of stores, or one.
    fn stores(&self) -> Result<Vec<StoreAddress>, ConfigError> {
        match self.value.get_ref().as_array() {
            Some(list) => {
                list.iter().map(|value| Entry { file: self.file, name: self.name, value }.store()).collect()
            }
            None => Ok(vec![self.store()?]),
        }
    }

    /// The text of a path, or of what else may be `wanted`.
    fn location(&self, wanted: &str) -> Result<&str, ConfigError> {
        let value = self.value.get_ref();
        let text = value.as_str().ok_or_else(|| self.wrong_type(&format!("{wanted} in quotes")))?;
        if text.is_empty() || text.contains('\0') {
            return Err(
                self.error(format_args!("{} must be {wanted}; leave the key out for none", self.name))
            );
        }
        Ok(text)
    }

    fn address(&self) -> Result<SocketAddr, ConfigError> {
        let wanted = "an address and port such as \"127.0.0.1:2049\" or \"[::]:2049\"";
        let text = self.value.get_ref().as_str().ok_or_else(|| self.wrong_type(wanted))?;
        let what = || self.error(format_args!("{} must be {wanted}, not \"{}\"", self.name, shown(text)));
        text.parse().map_err(|_| what())
    }

    fn boolean(&self) -> Result<bool, ConfigError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    fn integer(&self) -> Option<i128> {
        let integer = self.value.get_ref().as_integer()?;
        // Fails for what does not fit alone, and then it fits in no range either.
        Some(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX))
    }

    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let (low, high) = (range.start(), range.end());
        let number = self.integer().ok_or_else(|| self.wrong_type("a number"))?;
        match u32::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(number),
            None => Err(self.error(format_args!("{} must be from {low} to {high}", self.name))),
        }
    }

    fn size(&self, least: u64, least_text: &str) -> Result<u64, ConfigError> {
        let size = match (self.value.get_ref().as_str(), self.integer()) {
            (Some(text), _) => {
                parse_size(text).map_err(|e| self.error(format_args!("{}: {e}", self.name)))?
            }
            (None, Some(number)) => u64::try_from(number)
                .map_err(|_| self.error(format_args!("{} is out of range", self.name)))?,
            (None, None) => return Err(self.wrong_type("a number of bytes or a size such as \"64MiB\"")),
        };
        if size < least {
            return Err(self.error(format_args!("{} must be at least {least_text}", self.name)));
        }
        Ok(size)
    }
}
