//! The policies of the export: read, checked, and told of. One of them rules.
//!
//! A signed policy takes the place of older ones of its name alone: the highest version that was ever taken,
//! and the digest of its file, are kept in the state directory. To go back on purpose, sign the old rules
//! under a new version.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::{
    Policies, PolicyFile, PolicyFileError, PolicyMode, TrustError, load_keyring, load_policy, load_revoked,
};
use crate::event::{Event, Sink};
use crate::export::{Export, Rules};
use crate::policy::ipe::audit::{self, Session};
use crate::sign::Format;

/// The file in the state directory.
const NAME: &str = "policies.json";
/// The longest such file, in bytes.
const SEEN_MAX: u64 = 1024 * 1024;

/// Why policies are not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyTrouble {
    /// Whose policies count cannot be told.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A policy is not good.
    #[error(transparent)]
    File(#[from] PolicyFileError),
    /// Two files have policies of one name.
    #[error("{} and {}: both are named {name}; leave one out", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// No policy has the name of the one that is to rule.
    #[error("policy_active = \"{name}\", but the policies are {known}; name one of these")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A newer version was taken before, or another file of the same version.
    #[error("{}: {name} {version} is not newer than {seen}, which was taken before; sign it under a higher version", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// The policy's name.
        name: String,
        /// Its version.
        version: String,
        /// The version that was taken.
        seen: String,
    },
    /// What was taken before cannot be read or written.
    #[error("{}: {reason}; it tells which versions of signed policies were taken", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl PolicyTrouble {
    /// What the kernel would answer to such a policy, as a positive number.
    fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            Self::File(error) => error.errno(),
            Self::Trust(_) => Errno::NOKEY.raw_os_error(),
            Self::Twice { .. } => Errno::EXIST.raw_os_error(),
            Self::Unknown { .. } => Errno::NOENT.raw_os_error(),
            Self::Older { .. } => Errno::STALE.raw_os_error(),
            Self::State { .. } => Errno::IO.raw_os_error(),
        }
    }
}

/// The highest version of a signed policy that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    version: (u16, u16, u16),
    digest: String,
}

/// By the policy's name in hexadecimal: it may be any bytes.
type AllSeen = BTreeMap<String, Seen>;

type Chosen = (Vec<PolicyFile>, usize, Option<(AllSeen, PathBuf)>);

/// Policies that were read and may be taken.
pub(super) struct Taken {
    all: Vec<PolicyFile>,
    /// The place of the one that rules.
    at: usize,
    permissive: bool,
    /// What is to be kept of signed ones, and where.
    seen: Option<(AllSeen, PathBuf)>,
}

/// Reads the policies that `wanted` names; keys that are revoked in `trust` sign none. What is wrong is told to
/// `sink`.
pub(super) fn read(
    wanted: &Policies,
    trust: &Path,
    state: &Path,
    sink: &dyn Sink,
) -> Result<Taken, PolicyTrouble> {
    let taken = choose(wanted, trust, state);
    if let Err(error) = &taken {
        let record = audit::policy_load(Err(error.errno()), Session::NONE);
        let record = format!("type={} {record}", audit::POLICY_LOAD);
        sink.emit(&Event::PolicyLoaded { detail: "", error: Some(&error.to_string()), record: &record });
    }
    let (all, at, seen) = taken?;
    Ok(Taken { all, at, permissive: wanted.mode == PolicyMode::Permissive, seen })
}

impl Taken {
    /// Keeps older versions of signed ones out from now on: for when nothing else is in the way of these.
    pub(super) fn keep(&mut self) -> Result<(), PolicyTrouble> {
        let Some((seen, path)) = self.seen.take() else { return Ok(()) };
        write(&path, &seen).map_err(|error| PolicyTrouble::State { path, reason: error.to_string() })
    }

    /// Lets one of them rule `export`, and tells `sink` of all.
    pub(super) fn rule(self, export: &Export, sink: &dyn Sink) {
        let Self { all, at, permissive, .. } = self;
        let mut rules = None;
        for (n, file) in all.into_iter().enumerate() {
            let signers: Vec<_> = file.signers.iter().map(|signer| signer.name.clone()).collect();
            let by = match signers.is_empty() {
                true => "unsigned".to_owned(),
                false => format!("signed by {}", signers.join(", ")),
            };
            let from = file.path.display().to_string();
            let one = Rules::new(file.policy, file.digest, permissive);
            let record = audit::policy_load(Ok(&one.identity()), Session::NONE);
            let record = format!("type={} {record}", audit::POLICY_LOAD);
            let detail = format!("{} from {from}, {by}", one.title());
            sink.emit(&Event::PolicyLoaded { detail: &detail, error: None, record: &record });
            if n == at {
                rules = Some(one);
            }
        }
        change(export, rules, sink);
    }
}

/// Lets `rules` rule, and tells what changed by that.
fn change(export: &Export, rules: Option<Rules>, sink: &dyn Sink) {
    let old = export.rules();
    let (before, after) = (old.as_deref().map(Rules::identity), rules.as_ref().map(Rules::identity));
    let is_other = before.map(|before| before.digest) != after.map(|after| after.digest);
    let was = old.as_deref().is_some_and(Rules::is_permissive);
    let is = rules.as_ref().is_some_and(Rules::is_permissive);
    let mut told = Vec::new();
    if is_other {
        let record = audit::config_change(before.as_ref(), after.as_ref(), Session::NONE);
        let title = |rules: Option<&Rules>| rules.map_or_else(|| "no policy".to_owned(), Rules::title);
        let detail = format!("{} in the place of {}", title(rules.as_ref()), title(old.as_deref()));
        told.push((detail, format!("type={} {record}", audit::CONFIG_CHANGE)));
    }
    if was != is && rules.is_some() {
        let detail = if is { "permissive: what it denies is served" } else { "enforcing" };
        let record = audit::enforcing(!is, !was, Session::NONE);
        told.push((detail.to_owned(), format!("type={} {record}", audit::STATUS)));
    }
    export.set_rules(rules);
    for (detail, record) in &told {
        sink.emit(&Event::PolicyChanged { detail, record });
    }
}

/// All policies, the place of the one that rules, and what is to be kept of them.
fn choose(wanted: &Policies, files: &Path, state: &Path) -> Result<Chosen, PolicyTrouble> {
    let trust = match &wanted.trust {
        Some(trust) => {
            let keyring = load_keyring(trust, Format::ALL.into_iter().collect())?;
            // A key that is revoked for files signs no policies either.
            let mut revoked = keyring.revoked().clone();
            load_revoked(files)?.entries().for_each(|(item, entry)| revoked.add(item, entry));
            Some(keyring.with_revoked(revoked))
        }
        None => None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let name = |file: &PolicyFile| file.policy.name().escape_ascii().to_string();
    let mut all: Vec<PolicyFile> = Vec::new();
    for path in &wanted.files {
        let file = load_policy(path, trust.as_ref(), now)?;
        if let Some(first) = all.iter().find(|other| other.policy.name() == file.policy.name()) {
            let (name, first) = (name(&file), first.path.clone());
            return Err(PolicyTrouble::Twice { name, first, second: file.path });
        }
        all.push(file);
    }
    let at = match &wanted.active {
        None => 0,
        Some(active) => {
            let at = all.iter().position(|file| file.policy.name() == active.as_bytes());
            at.ok_or_else(|| {
                let known = all.iter().map(name).collect::<Vec<_>>().join(", ");
                PolicyTrouble::Unknown { name: active.clone(), known }
            })?
        }
    };
    let seen = trust.is_some().then(|| compare(&all, state.join(NAME))).transpose()?.flatten();
    Ok((all, at, seen))
}

/// Checks signed policies against the versions that were taken before. What is to be kept, where it is more.
fn compare(all: &[PolicyFile], path: PathBuf) -> Result<Option<(AllSeen, PathBuf)>, PolicyTrouble> {
    let before = read_seen(&path).map_err(|reason| PolicyTrouble::State { path: path.clone(), reason })?;
    let mut seen = before.clone();
    for file in all {
        let version = file.policy.version();
        let version = (version.major, version.minor, version.revision);
        let digest = hex::encode(file.digest);
        let new = Seen { version, digest };
        if let Some(old) = seen.get(&hex::encode(file.policy.name()))
            && (new.version < old.version || (new.version == old.version && new.digest != old.digest))
        {
            let (major, minor, revision) = old.version;
            return Err(PolicyTrouble::Older {
                path: file.path.clone(),
                name: file.policy.name().escape_ascii().to_string(),
                version: file.policy.version().to_string(),
                seen: format!("{major}.{minor}.{revision}"),
            });
        }
        seen.insert(hex::encode(file.policy.name()), new);
    }
    Ok((seen != before).then_some((seen, path)))
}

fn read_seen(path: &Path) -> Result<AllSeen, String> {
    let bytes = match std::fs::metadata(path) {
        Ok(found) if found.len() > SEEN_MAX => return Err("too large".to_owned()),
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(AllSeen::new()),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// All of it or nothing, and there after a loss of power.
fn write(path: &Path, seen: &AllSeen) -> std::io::Result<()> {
    let unfinished = path.with_extension(format!("{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&serde_json::to_vec(seen)?)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
