//! What the operator wants of `serve`: a TOML file and flags, checked and put together.
//!
//! [`FileSettings`] is what the file says, [`Overrides`] what the flags say, [`Settings`] what
//! holds. Every error says where it is, what is wrong and what to do. Knows nothing of how the
//! settings are used.

mod file;
mod interval;
mod outputs;
mod policy;
mod size;
mod tpm;
mod trust;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::carrier::CarrierKind;
use crate::export::{ProofDirectory, ProofName, Squash, Xattrs};
use crate::measure::{SEGMENT_MAX, SEGMENT_MIN, Template};
use crate::policy::Mode;
use crate::sign::{Format, FormatSet};
use crate::store::{AddressError, StoreAddress};

pub use file::FileSettings;
pub use interval::{Interval, IntervalError};
pub use outputs::{HookUrl, LogOutput, Webhook};
pub use policy::{PolicyFile, PolicyFileError, load_policy};
pub use size::{SizeError, parse_size};
pub use tpm::MeasureTpm;
pub use trust::{TrustError, TrustStamp, load_keyring, load_revoked};

/// The smallest cache in bytes.
pub const CACHE_MIN: u64 = 1024 * 1024;
const CACHE_DEFAULT: u64 = 128 * 1024 * 1024;
/// The smallest cache on disk in bytes.
pub const DISK_CACHE_MIN: u64 = 64 * 1024 * 1024;
const NFS_PORT: u16 = 2049;
const MONITOR_PORT: u16 = 9649;
/// The user and group "nobody" of Linux.
const NOBODY: u32 = 65534;

const CONNECTIONS: RangeInclusive<u32> = 1..=65_536;
const CALLS: RangeInclusive<u32> = 1..=4_096;
const IDLE_SECONDS: RangeInclusive<u32> = 1..=604_800;
const LEASE_SECONDS: RangeInclusive<u32> = 10..=3_600;
const LEASE_DEFAULT: u32 = 90;
const TIMEOUT_SECONDS: RangeInclusive<u32> = 1..=600;
const REPAIR_AFTER_SECONDS: RangeInclusive<u32> = 0..=2_592_000;
/// Closed segments of a measurement list that may be kept.
const MEASURE_HISTORY: RangeInclusive<u32> = 1..=1_000_000;
/// The size in bytes at which one is closed.
const MEASURE_SEGMENT: u64 = 16 * 1024 * 1024;
const REPAIR_AFTER_DEFAULT: u32 = 600;
const TIMEOUT_DEFAULT: u32 = 10;
/// Replicas beside the store.
const REPLICAS_MAX: usize = 16;
/// Policies that may be loaded at a time.
const POLICIES_MAX: usize = 64;
const SCRUB_RATE: RangeInclusive<u32> = 1..=1_000_000;
/// Numbers that no attribute of an RFC has, and that fit in four words.
const FATTR4_IMA: RangeInclusive<u32> = 83..=127;
/// Numbers that no status of an RFC has.
const NFS4ERR_INTEGRITY: RangeInclusive<u32> = 10_097..=19_999;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The file is too large to be one.
    #[error("{}: a configuration has at most {limit} bytes; is this the right file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something in the file is wrong.
    #[error("{file}:{line}: {what}")]
    Invalid {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// A setting that must be given is not.
    #[error("{key} is missing; give --{key} {example} or write {key} = \"{example}\" in {file}")]
    Missing {
        /// The key.
        key: &'static str,
        /// A value for it.
        example: &'static str,
        /// The configuration file, or words for it.
        file: String,
    },
    /// A flag's value is out of its bounds.
    #[error("{key} must be {wanted}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// Its bounds.
        wanted: String,
    },
    /// A store's address is none.
    #[error("{key}: {source}")]
    Address {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        source: AddressError,
    },
    /// Everybody who reaches the monitor could look.
    #[error(
        "monitor is {address}, which others than this machine's users may reach, and nothing is asked of them; give \
         --monitor-token FILE, or write monitor_token = \"FILE\" or a client_ca in monitor_tls, or choose an address \
         such as 127.0.0.1:9649"
    )]
    OpenMonitor {
        /// The address.
        address: SocketAddr,
    },
    /// Both servers are to listen at one address.
    #[error("listen and monitor are both {address}; give one of them another port")]
    SameAddress {
        /// The address.
        address: SocketAddr,
    },
}

/// Settings as flags give them; each one replaces what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The store to serve.
    pub store: Option<StoreAddress>,
    /// Stores with the same files, in the order in which they are asked.
    pub replicas: Option<Vec<StoreAddress>>,
    /// Whether good bytes are written back where a store has bad ones.
    pub repair: Option<bool>,
    /// Seconds that data lie untouched before they are taken for damaged and written anew.
    pub repair_after: Option<u32>,
    /// Seconds that one call of a store may take.
    pub timeout: Option<u32>,
    /// What happens while no store answers.
    pub wait: Option<Wait>,
    /// Proven blocks on a local disk.
    pub disk_cache: Option<DiskCache>,
    /// The file with the secret behind the file handles.
    pub handle_key: Option<PathBuf>,
    /// A key or certificate, or a directory of them.
    pub trust: Option<PathBuf>,
    /// The formats in which keys without limits of their own count.
    pub accept: Option<FormatSet>,
    /// Where evidence is looked for, in this order.
    pub carrier: Option<Vec<CarrierKind>>,
    /// The address of the NFS port.
    pub listen: Option<SocketAddr>,
    /// The address of the monitor.
    pub monitor: Option<SocketAddr>,
    /// The file with the token that opens the monitor.
    pub monitor_token: Option<PathBuf>,
    /// The monitor's certificates.
    pub monitor_tls: Option<MonitorTls>,
    /// The namespace that statements must be signed for.
    pub namespace: Option<String>,
    /// What happens to what does not verify.
    pub mode: Option<Mode>,
    /// Files with policies.
    pub policies: Option<Vec<PathBuf>>,
    /// The name of the policy that rules.
    pub policy_active: Option<String>,
    /// What happens to what the policy denies.
    pub policy_mode: Option<PolicyMode>,
    /// Whose policies count.
    pub policy_trust: Option<PathBuf>,
    /// The audit log's file.
    pub audit_log: Option<PathBuf>,
    /// Where the log goes.
    pub log: Option<LogOutput>,
    /// Who is told of events as they happen.
    pub webhook: Option<Webhook>,
    /// The measurement list's directory.
    pub measure: Option<PathBuf>,
    /// The layout of its entries.
    pub measure_template: Option<MeasureTemplate>,
    /// The size in bytes at which a segment of it is closed.
    pub measure_segment: Option<u64>,
    /// Closed segments of it that are kept.
    pub measure_history: Option<u32>,
    /// The register of a TPM that follows it.
    pub measure_tpm: Option<MeasureTpm>,
    /// The cache's size in bytes.
    pub cache: Option<u64>,
    /// Where the state that survives a restart is kept.
    pub state: Option<PathBuf>,
    /// Whose identity is replaced by the anonymous one.
    pub squash: Option<Squash>,
    /// The anonymous user.
    pub anonymous_uid: Option<u32>,
    /// The anonymous group.
    pub anonymous_gid: Option<u32>,
    /// Which extended attributes clients see.
    pub xattrs: Option<Xattrs>,
    /// The name of the proof directory.
    pub proof_directory: Option<ProofName>,
    /// Whether listing the root shows the proof directory.
    pub proof_directory_listed: Option<bool>,
    /// Seconds of an NFSv4 lease.
    pub lease: Option<u32>,
    /// The number of FATTR4_IMA.
    pub fattr4_ima: Option<u32>,
    /// The number of NFS4ERR_INTEGRITY.
    pub nfs4err_integrity: Option<u32>,
    /// Whether to register with rpcbind.
    pub rpcbind: Option<bool>,
    /// How often the store is scrubbed.
    pub scrub: Option<Interval>,
    /// MB that a scrub reads a second at most.
    pub scrub_rate: Option<u32>,
    /// Client connections at a time.
    pub connections: Option<u32>,
    /// Calls of one connection at a time.
    pub calls_per_connection: Option<u32>,
    /// Seconds until an idle connection is closed.
    pub idle_seconds: Option<u32>,
}

/// What happens while no store answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// The call waits until one does, and the client with it.
    Hard,
    /// After the timeout the client is told to come again later.
    #[default]
    Soft,
}

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hard" => Ok(Self::Hard),
            "soft" => Ok(Self::Soft),
            _ => Err(format!("wait must be \"hard\" or \"soft\", not \"{text}\"")),
        }
    }
}

/// What happens to what the policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyMode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is served and told, to try a policy out.
    Permissive,
}

impl std::str::FromStr for PolicyMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "permissive" => Ok(Self::Permissive),
            _ => Err(format!("policy_mode must be \"enforce\" or \"permissive\", not \"{text}\"")),
        }
    }
}

/// The policies of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Files with policies; none where everything that verifies is served.
    pub files: Vec<PathBuf>,
    /// The name of the one that rules; `None` for that of the first file.
    pub active: Option<String>,
    /// What happens to what it denies.
    pub mode: PolicyMode,
    /// Whose policies count: a certificate, or a directory of them. `None` where policies are not signed.
    pub trust: Option<PathBuf>,
}

/// A measurement list of what is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measuring {
    /// A directory of the gateway's own.
    pub directory: PathBuf,
    /// The layout of its entries.
    pub template: Template,
    /// The size in bytes at which a segment is closed.
    pub segment: u64,
    /// Closed segments that are kept; `None` for the list's own default.
    pub history: Option<u32>,
    /// The register of a TPM that follows it, if one is to.
    pub tpm: Option<MeasureTpm>,
}

/// The layout of a measurement list's entries, as settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasureTemplate(pub Template);

impl Default for MeasureTemplate {
    fn default() -> Self {
        Self(Template::ImaSigV2)
    }
}

impl std::str::FromStr for MeasureTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Template::from_name(text.as_bytes()) {
            Some(template @ (Template::ImaNgV2 | Template::ImaSigV2 | Template::ImaSig)) => {
                Ok(Self(template))
            }
            _ => Err(format!(
                "measure_template must be \"ima-sigv2\", \"ima-ngv2\" or \"ima-sig\", not \"{text}\""
            )),
        }
    }
}

/// A second tier of the cache, on a local disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    /// A directory of the gateway's own.
    pub directory: PathBuf,
    /// The most bytes that it takes there; at least [`DISK_CACHE_MIN`].
    pub size: u64,
}

/// Certificates of the monitor, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorTls {
    /// Its own, and those between it and an authority.
    pub cert: PathBuf,
    /// The private key of the first.
    pub key: PathBuf,
    /// Who issues clients theirs; `None` where they show none.
    pub client_ca: Option<PathBuf>,
}

/// What clients may use up, as far as it is configured; the rest has fixed bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at a time; `None`: the server's own default.
    pub connections: Option<u32>,
    /// Calls of one connection at a time; `None`: the server's own default.
    pub calls_per_connection: Option<u32>,
    /// After this long without a call a connection is closed; `None`: the server's own default.
    pub idle: Option<Duration>,
}

/// The settings of `serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store to serve.
    pub store: StoreAddress,
    /// Stores with the same files, in the order in which they are asked.
    pub replicas: Vec<StoreAddress>,
    /// Whether good bytes are written back where a store has bad ones; only with replicas.
    pub repair: bool,
    /// How long data lie untouched before they are taken for damaged and written anew: new ones may be about to
    /// be signed.
    pub repair_after: Duration,
    /// How long one call of a store may take.
    pub timeout: Duration,
    /// What happens while no store answers.
    pub wait: Wait,
    /// Proven blocks on a local disk, if there are to be any.
    pub disk_cache: Option<DiskCache>,
    /// The file with the secret behind the file handles; `None` for the usual place.
    pub handle_key: Option<PathBuf>,
    /// A key or certificate, or a directory of them.
    pub trust: PathBuf,
    /// The formats in which keys without limits of their own count.
    pub accept: FormatSet,
    /// Where evidence is looked for, in this order.
    pub carrier: Vec<CarrierKind>,
    /// The address of the NFS port; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The address of the monitor; port 0 picks a free one.
    pub monitor: SocketAddr,
    /// The file with the token that opens the monitor, if one does.
    pub monitor_token: Option<PathBuf>,
    /// The monitor's certificates; `None` for plain HTTP.
    pub monitor_tls: Option<MonitorTls>,
    /// The namespace that statements must be signed for.
    pub namespace: String,
    /// What happens to what does not verify.
    pub mode: Mode,
    /// What may be done with what verifies.
    pub policies: Policies,
    /// The audit log's file, if there is to be one.
    pub audit_log: Option<PathBuf>,
    /// Where the log goes.
    pub log: LogOutput,
    /// Who is told of events as they happen, if anybody.
    pub webhook: Option<Webhook>,
    /// Whether and how what is served is measured.
    pub measure: Option<Measuring>,
    /// The cache's size in bytes; at least [`CACHE_MIN`].
    pub cache: u64,
    /// Where the state that survives a restart is kept; `None` for the usual place.
    pub state: Option<PathBuf>,
    /// Whose identity is replaced by the anonymous one.
    pub squash: Squash,
    /// The anonymous user.
    pub anonymous_uid: u32,
    /// The anonymous group.
    pub anonymous_gid: u32,
    /// Which extended attributes clients see.
    pub xattrs: Xattrs,
    /// Whether and where what is said of files stands as plain files.
    pub proof_directory: ProofDirectory,
    /// How long an NFSv4 client keeps what it holds without a word, and may reclaim it after a restart.
    pub lease: Duration,
    /// The number under which FATTR4_IMA is offered; `None`: it is not.
    pub fattr4_ima: Option<u32>,
    /// The number under which NFS4ERR_INTEGRITY is sent to clients that asked for FATTR4_IMA; `None`: never.
    /// The draft has it for all that asked which attributes there are, which every Linux client does at every
    /// mount, though it knows neither.
    pub nfs4err_integrity: Option<u32>,
    /// Whether to register with rpcbind.
    pub rpcbind: bool,
    /// How often the store is scrubbed.
    pub scrub: Interval,
    /// MB (of 1,000,000 bytes) that a scrub reads a second at most; `None` for as fast as it goes.
    pub scrub_rate: Option<u32>,
    /// What clients may use up.
    pub limits: Limits,
}

impl Settings {
    /// Puts file and flags together, and the defaults where neither says anything.
    ///
    /// # Errors
    /// `store` or `trust` is missing, a flag is out of bounds, or two settings contradict each other.
    pub fn resolve(file: FileSettings, flags: Overrides) -> Result<Self, ConfigError> {
        let FileSettings { name, values } = file;
        let missing = |key, example| {
            let file =
                if name.is_empty() { "the configuration (--config FILE)".to_owned() } else { name.clone() };
            ConfigError::Missing { key, example, file }
        };
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let limits = Limits {
            connections: flags.connections.or(values.connections),
            calls_per_connection: flags.calls_per_connection.or(values.calls_per_connection),
            idle: flags.idle_seconds.or(values.idle_seconds).map(|s| Duration::from_secs(s.into())),
        };
        let measured = (flags.measure_template.or(values.measure_template).is_some())
            || flags.measure_segment.or(values.measure_segment).is_some()
            || flags.measure_history.or(values.measure_history).is_some()
            || flags.measure_tpm.is_some()
            || values.measure_tpm.is_some();
        if measured && flags.measure.is_none() && values.measure.is_none() {
            let wanted =
                "given with measure_template, measure_segment, measure_history or measure_tpm".to_owned();
            return Err(ConfigError::OutOfRange { key: "measure", wanted });
        }
        let settings = Self {
            store: flags.store.or(values.store).ok_or_else(|| missing("store", "ROOT"))?,
            replicas: flags.replicas.or(values.replicas).unwrap_or_default(),
            repair: flags.repair.or(values.repair).unwrap_or(false),
            repair_after: Duration::from_secs(
                flags.repair_after.or(values.repair_after).unwrap_or(REPAIR_AFTER_DEFAULT).into(),
            ),
            timeout: Duration::from_secs(flags.timeout.or(values.timeout).unwrap_or(TIMEOUT_DEFAULT).into()),
            wait: flags.wait.or(values.wait).unwrap_or_default(),
            disk_cache: flags.disk_cache.or(values.disk_cache),
            handle_key: flags.handle_key.or(values.handle_key),
            trust: flags.trust.or(values.trust).ok_or_else(|| missing("trust", "PATH"))?,
            accept: flags.accept.or(values.accept).unwrap_or(FormatSet::NATIVE),
            carrier: flags.carrier.or(values.carrier).unwrap_or_else(|| vec![CarrierKind::Sidecar]),
            listen: flags.listen.or(values.listen).unwrap_or(local(NFS_PORT)),
            monitor: flags.monitor.or(values.monitor).unwrap_or(local(MONITOR_PORT)),
            monitor_token: flags.monitor_token.or(values.monitor_token),
            monitor_tls: flags.monitor_tls.or(values.monitor_tls),
            namespace: flags.namespace.or(values.namespace).unwrap_or_default(),
            mode: flags.mode.or(values.mode).unwrap_or(Mode::Enforce),
            policies: Policies {
                files: flags.policies.or(values.policies).unwrap_or_default(),
                active: flags.policy_active.or(values.policy_active),
                mode: flags.policy_mode.or(values.policy_mode).unwrap_or_default(),
                trust: flags.policy_trust.or(values.policy_trust),
            },
            audit_log: flags.audit_log.or(values.audit_log),
            log: flags.log.or(values.log).unwrap_or_default(),
            webhook: flags.webhook.or(values.webhook),
            measure: flags.measure.or(values.measure).map(|directory| Measuring {
                directory,
                template: flags.measure_template.or(values.measure_template).unwrap_or_default().0,
                segment: flags.measure_segment.or(values.measure_segment).unwrap_or(MEASURE_SEGMENT),
                history: flags.measure_history.or(values.measure_history),
                tpm: flags.measure_tpm.or(values.measure_tpm),
            }),
            cache: flags.cache.or(values.cache).unwrap_or(CACHE_DEFAULT),
            state: flags.state.or(values.state),
            squash: flags.squash.or(values.squash).unwrap_or(Squash::Root),
            anonymous_uid: flags.anonymous_uid.or(values.anonymous_uid).unwrap_or(NOBODY),
            anonymous_gid: flags.anonymous_gid.or(values.anonymous_gid).unwrap_or(NOBODY),
            xattrs: flags.xattrs.or(values.xattrs).unwrap_or_default(),
            proof_directory: ProofDirectory {
                name: flags.proof_directory.or(values.proof_directory).unwrap_or_default(),
                listed: flags.proof_directory_listed.or(values.proof_directory_listed).unwrap_or(false),
            },
            lease: Duration::from_secs(flags.lease.or(values.lease).unwrap_or(LEASE_DEFAULT).into()),
            fattr4_ima: flags.fattr4_ima.or(values.fattr4_ima),
            nfs4err_integrity: flags.nfs4err_integrity.or(values.nfs4err_integrity),
            rpcbind: flags.rpcbind.or(values.rpcbind).unwrap_or(false),
            scrub: flags.scrub.or(values.scrub).unwrap_or_default(),
            scrub_rate: flags.scrub_rate.or(values.scrub_rate),
            limits,
        };
        settings.check()?;
        Ok(settings)
    }

    /// What relaxes enforcement, lets clients see what nobody signed, or lets others set back what the TPM tells, as it
    /// would stand in the file.
    pub fn relaxed(&self) -> Vec<String> {
        let mut relaxed = Vec::new();
        if self.mode == Mode::Warn {
            relaxed.push("mode = \"warn\"".to_owned());
        }
        if self.policies.mode == PolicyMode::Permissive {
            relaxed.push("policy_mode = \"permissive\"".to_owned());
        }
        if self.accept.binds_no_name() {
            relaxed.push(format!("accept = \"{}\"", self.accept));
        }
        let tpm = self.measure.as_ref().and_then(|list| list.tpm.as_ref());
        if let Some(tpm) = tpm.filter(|tpm| tpm.can_be_reset()) {
            relaxed.push(format!("measure_tpm = {{ pcr = {} }}", tpm.pcr));
        }
        if self.xattrs == Xattrs::All {
            relaxed.push("xattrs = \"all\"".to_owned());
        }
        relaxed
    }

    /// The file's values are in their bounds already; the flags' are seen here first.
    fn check(&self) -> Result<(), ConfigError> {
        if self.cache < CACHE_MIN {
            return Err(ConfigError::OutOfRange { key: "cache", wanted: "at least 1MiB".to_owned() });
        }
        if self.accept.contains(Format::Modsig) {
            let wanted = "without modsig: a module signature does not cover itself, so a file with nothing else \
                          cannot be proven to its end";
            return Err(ConfigError::OutOfRange { key: "accept", wanted: wanted.to_owned() });
        }
        if self.nfs4err_integrity.is_some() && self.fattr4_ima.is_none() {
            let wanted = "left out without fattr4_ima: only clients that know the attribute are told of it";
            return Err(ConfigError::OutOfRange { key: "nfs4err_integrity", wanted: wanted.to_owned() });
        }
        self.check_policies()?;
        if self.measure.as_ref().is_some_and(|list| !(SEGMENT_MIN..=SEGMENT_MAX).contains(&list.segment)) {
            let wanted = "from 4KiB to 256MiB".to_owned();
            return Err(ConfigError::OutOfRange { key: "measure_segment", wanted });
        }
        self.check_stores()?;
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let idle = self.limits.idle.map(seconds);
        for (key, value, range) in [
            ("anonymous_uid", Some(self.anonymous_uid), 0..=u32::MAX - 1),
            ("anonymous_gid", Some(self.anonymous_gid), 0..=u32::MAX - 1),
            ("connections", self.limits.connections, CONNECTIONS),
            ("calls_per_connection", self.limits.calls_per_connection, CALLS),
            ("idle_seconds", idle, IDLE_SECONDS),
            ("scrub_rate", self.scrub_rate, SCRUB_RATE),
            ("lease", Some(seconds(self.lease)), LEASE_SECONDS),
            ("timeout", Some(seconds(self.timeout)), TIMEOUT_SECONDS),
            ("repair_after", Some(seconds(self.repair_after)), REPAIR_AFTER_SECONDS),
            ("fattr4_ima", self.fattr4_ima, FATTR4_IMA),
            ("measure_history", self.measure.as_ref().and_then(|list| list.history), MEASURE_HISTORY),
            ("nfs4err_integrity", self.nfs4err_integrity, NFS4ERR_INTEGRITY),
        ] {
            if value.is_some_and(|value| !range.contains(&value)) {
                let wanted = format!("from {} to {}", range.start(), range.end());
                return Err(ConfigError::OutOfRange { key, wanted });
            }
        }
        if self.listen == self.monitor && self.listen.port() != 0 {
            return Err(ConfigError::SameAddress { address: self.listen });
        }
        let asked = self.monitor_token.is_some()
            || self.monitor_tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        match asked || self.monitor.ip().to_canonical().is_loopback() {
            true => Ok(()),
            false => Err(ConfigError::OpenMonitor { address: self.monitor }),
        }
    }
}

impl Settings {
    /// What is said of policies where there are none.
    fn check_policies(&self) -> Result<(), ConfigError> {
        let Policies { files, active, mode, trust } = &self.policies;
        let refuse = |key, wanted: &str| Err(ConfigError::OutOfRange { key, wanted: wanted.to_owned() });
        let idle = "left out without a policy";
        match (files.len(), active, mode, trust) {
            (0, Some(_), _, _) => refuse("policy_active", idle),
            (0, _, PolicyMode::Permissive, _) => refuse("policy_mode", idle),
            (0, _, _, Some(_)) => refuse("policy_trust", idle),
            // Else any other policy that was ever signed, put in the first one's place, would rule.
            (_, None, _, Some(_)) => {
                refuse("policy_active", "given with policy_trust: the name of the policy that rules")
            }
            (n, ..) if n > POLICIES_MAX => refuse("policy", &format!("{POLICIES_MAX} files at most")),
            _ => Ok(()),
        }
    }

    /// What contradicts itself among the stores.
    fn check_stores(&self) -> Result<(), ConfigError> {
        let refuse = |key, wanted: &str| Err(ConfigError::OutOfRange { key, wanted: wanted.to_owned() });
        let stores: Vec<_> = std::iter::once(&self.store).chain(&self.replicas).collect();
        if self.replicas.len() > REPLICAS_MAX {
            return refuse("replica", &format!("{REPLICAS_MAX} stores at most"));
        }
        for (n, store) in stores.iter().enumerate() {
            if stores.iter().take(n).any(|other| other == store) {
                return refuse("replica", &format!("another store each time; {store} stands there twice"));
            }
        }
        if self.repair && self.replicas.is_empty() {
            return refuse("repair", "left out without a replica: there is nothing to repair from");
        }
        if self.carrier.iter().all(|kind| kind.needs_file_attributes())
            && !stores.iter().any(|store| store.has_file_attributes())
        {
            return refuse("carrier", "sidecar or appended: only a local directory has kernel and xattr");
        }
        match &self.disk_cache {
            Some(cache) if cache.size < DISK_CACHE_MIN => refuse("disk_cache", "of at least 64MiB"),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
