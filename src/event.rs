//! What happens in the gateway, as facts, and where the facts go.
//!
//! Every room may emit events; only [`crate::monitor`] listens. An [`Event`] borrows its
//! facts, so emitting one costs no allocation and a [`Sink`] copies what it keeps.

mod insight;
mod kinds;

use std::net::SocketAddr;
use std::time::Duration;

pub use insight::{Examined, FailedBlock, Insight, Overview, RulingPolicy, Survey, TrustedKey};
pub use kinds::KINDS;

/// Why a file or a block was not accepted.
///
/// The wording of [`Cause::as_str`] is the same in the CLI, the audit log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// There is no evidence for the file.
    Unsigned,
    /// No signature on the file was made by a trusted key.
    UnknownKey,
    /// A trusted key is named, but its signature does not verify.
    BadSignature,
    /// The signing key, its certificate or the file itself was revoked.
    Revoked,
    /// A trusted key's signature holds, but not for this path, at this time or in this format.
    KeyLimits,
    /// Fewer trusted keys signed the file than its path requires.
    TooFewSigners,
    /// The signed statement has expired.
    Expired,
    /// The statement was signed for another namespace.
    WrongNamespace,
    /// The statement was signed for another path.
    WrongPath,
    /// The file in the store does not have the signed size.
    WrongSize,
    /// Descriptor and statement do not speak of the same file digest or parameters.
    WrongDigest,
    /// The evidence is cut, damaged or not in the format.
    MalformedEvidence,
    /// A data block does not hash to the proven leaf.
    BadBlock,
    /// A Merkle tree block does not hash to what its proven parent says.
    BadTreeBlock,
    /// The store holds fewer bytes than the signed size says.
    Truncated,
    /// The store could not be read.
    Unreadable,
    /// The operator's policy says no, whatever the proof.
    Policy,
}

/// What a [`Cause`] means for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseClass {
    /// Policy does not allow the file: `NFS3ERR_ACCES`.
    Denied,
    /// Data or evidence are damaged: `NFS3ERR_IO`.
    Corrupt,
}

impl Cause {
    /// All causes, in the order in which documentation and metrics list them.
    pub const ALL: [Self; 17] = [
        Self::Unsigned,
        Self::UnknownKey,
        Self::BadSignature,
        Self::Revoked,
        Self::KeyLimits,
        Self::TooFewSigners,
        Self::Expired,
        Self::WrongNamespace,
        Self::WrongPath,
        Self::WrongSize,
        Self::WrongDigest,
        Self::MalformedEvidence,
        Self::BadBlock,
        Self::BadTreeBlock,
        Self::Truncated,
        Self::Unreadable,
        Self::Policy,
    ];

    /// The wording used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::UnknownKey => "unknown key",
            Self::BadSignature => "bad signature",
            Self::Revoked => "revoked",
            Self::KeyLimits => "key limits",
            Self::TooFewSigners => "too few signers",
            Self::Expired => "expired",
            Self::WrongNamespace => "wrong namespace",
            Self::WrongPath => "wrong path",
            Self::WrongSize => "wrong size",
            Self::WrongDigest => "wrong digest",
            Self::MalformedEvidence => "malformed evidence",
            Self::BadBlock => "bad block",
            Self::BadTreeBlock => "bad tree block",
            Self::Truncated => "truncated",
            Self::Unreadable => "unreadable",
            Self::Policy => "denied by policy",
        }
    }

    /// What to do about it, for people.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Unsigned => "sign the file with a trusted key",
            Self::UnknownKey => "trust the signer's key or sign the file with a trusted one",
            Self::BadSignature => "sign the file again; its evidence was altered",
            Self::Revoked => "sign the file again with a key that is not revoked",
            Self::KeyLimits => "sign with a key for this path, time and format, or widen the key's limits",
            Self::TooFewSigners => "let more of the trusted keys sign the file (sign --add)",
            Self::Expired => "sign the file again with a later expiry",
            Self::WrongNamespace => "serve with the namespace the tree was signed for",
            Self::WrongPath => "move the file back to its signed name or sign it under this one",
            Self::WrongSize => "restore the file; its length differs from the signed one",
            Self::WrongDigest => "sign the file again; its evidence contradicts itself",
            Self::MalformedEvidence => "restore the evidence or sign the file again",
            Self::BadBlock => "restore the file's content from a good copy",
            Self::BadTreeBlock => "restore the evidence or sign the file again",
            Self::Truncated => "restore the file's content from a good copy",
            Self::Unreadable => "look at the store: permissions, disk, network",
            Self::Policy => "leave it so, or change the rule (policy explain tells which)",
        }
    }

    /// Whether the cause is a refusal by policy or damage.
    pub const fn class(self) -> CauseClass {
        match self {
            Self::Unsigned
            | Self::UnknownKey
            | Self::BadSignature
            | Self::Revoked
            | Self::KeyLimits
            | Self::TooFewSigners
            | Self::Expired
            | Self::WrongNamespace
            | Self::WrongPath
            | Self::Policy => CauseClass::Denied,
            Self::WrongSize
            | Self::WrongDigest
            | Self::MalformedEvidence
            | Self::BadBlock
            | Self::BadTreeBlock
            | Self::Truncated
            | Self::Unreadable => CauseClass::Corrupt,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asked: the peer's address and the identity it claims (AUTH_SYS is a claim, not a proof).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The peer's address and port.
    pub address: SocketAddr,
    /// The AUTH_SYS user, if one was given.
    pub uid: Option<u32>,
    /// The AUTH_SYS group, if one was given.
    pub gid: Option<u32>,
}

/// A file or block that was not accepted.
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    /// The path below the export's root, as bytes.
    pub path: &'a [u8],
    /// Why.
    pub cause: Cause,
    /// Facts for people: key ids, sizes, offsets.
    pub detail: &'a str,
    /// The block's index within its level, if one block is at fault.
    pub block: Option<u64>,
    /// The tree level: `None` for data or the whole file, 0 for leaves.
    pub level: Option<u8>,
    /// The hash that the proof demands.
    pub expected: Option<&'a [u8]>,
    /// The hash of what the store gave.
    pub found: Option<&'a [u8]>,
    /// Who asked.
    pub client: Option<Client>,
    /// True when warn mode, or a policy that is permissive, let it pass all the same.
    pub served: bool,
    /// The record that the kernel would write, without its time, where a policy refused it.
    pub record: Option<&'a str>,
}

#[cfg(test)]
impl<'a> Refusal<'a> {
    /// One that says no more than it must.
    pub(crate) fn plain(path: &'a [u8], cause: Cause) -> Self {
        let (detail, block, level, expected, found) = ("", None, None, None, None);
        Self { path, cause, detail, block, level, expected, found, client: None, served: false, record: None }
    }
}

/// Something that one store has damaged and another one has whole.
#[derive(Clone, Copy, Debug)]
pub struct Healed<'a> {
    /// The path below the export's root, as bytes.
    pub path: &'a [u8],
    /// The store that was wrong, for people.
    pub store: &'a str,
    /// The store that was right, for people.
    pub from: &'a str,
    /// What is wrong there.
    pub cause: Cause,
    /// Facts for people.
    pub detail: &'a str,
    /// The block's index within its level, if one block is at fault.
    pub block: Option<u64>,
    /// The tree level: `None` for data or the whole file, 0 for leaves.
    pub level: Option<u8>,
}

/// What a scrub comes across that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finding {
    /// A file does not verify, or cannot be read.
    Failed(Cause),
    /// A replica does not have a file that the store has.
    Missing,
    /// There is evidence for a file that is not there.
    Orphan,
    /// A file that was begun long ago, and never finished, lies among the evidence.
    Leftover,
}

impl Finding {
    /// All findings, in the order in which documentation and metrics list them.
    pub fn all() -> impl Iterator<Item = Self> {
        Cause::ALL.into_iter().map(Self::Failed).chain([Self::Missing, Self::Orphan, Self::Leftover])
    }

    /// The wording used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed(cause) => cause.as_str(),
            Self::Missing => "missing copy",
            Self::Orphan => "orphan evidence",
            Self::Leftover => "unfinished file",
        }
    }

    /// What to do about it, for people.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Failed(cause) => cause.remedy(),
            Self::Missing => "copy the file and its evidence there (scrub --repair)",
            Self::Orphan => "restore the file, or remove what is left of it below .nfs-verity",
            Self::Leftover => "remove it (scrub --repair)",
        }
    }
}

/// One finding of a scrub.
#[derive(Clone, Copy, Debug)]
pub struct ScrubFinding<'a> {
    /// The path below the store's root, as bytes.
    pub path: &'a [u8],
    /// The replica that it was found on; `None` for the store itself.
    pub store: Option<&'a str>,
    /// What is wrong.
    pub finding: Finding,
    /// Facts for people; may be empty.
    pub detail: &'a str,
    /// The first failing block's index within its level, if blocks are at fault.
    pub block: Option<u64>,
    /// Its tree level; `None` for data.
    pub level: Option<u8>,
    /// How many blocks fail.
    pub blocks: u64,
    /// True when it is put right by now.
    pub repaired: bool,
}

/// What a scrub found in all, with what it had found before it was interrupted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubTotals {
    /// Regular files looked at; on replicas each copy is one.
    pub files: u64,
    /// Those of them that are proven to the last block.
    pub good: u64,
    /// Bytes of files proven or found wrong.
    pub bytes: u64,
    /// Findings, by kind; those put right, too.
    pub findings: std::collections::BTreeMap<Finding, u64>,
    /// Findings that were put right.
    pub repaired: u64,
}

impl ScrubTotals {
    /// How many findings there are of a kind.
    pub fn count(&self, finding: Finding) -> u64 {
        self.findings.get(&finding).copied().unwrap_or(0)
    }

    /// All findings, those put right, too.
    pub fn found(&self) -> u64 {
        self.findings.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Findings that are still there.
    pub fn left(&self) -> u64 {
        self.found().saturating_sub(self.repaired)
    }
}

/// One answered READ.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Payload bytes returned.
    pub bytes: u64,
    /// Data and tree blocks proven for it.
    pub verified_blocks: u64,
    /// Spans found proven in the cache.
    pub cache_hits: u64,
    /// Spans that had to be read from the store.
    pub cache_misses: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The gateway serves.
    Started {
        /// Address of the NFS port.
        nfs: SocketAddr,
        /// Address of the monitor.
        monitor: SocketAddr,
        /// The store, for people.
        store: &'a str,
        /// `enforce` or `warn`.
        mode: &'a str,
        /// Number of trusted keys.
        keys: usize,
    },
    /// The gateway has drained and ends.
    Stopped,
    /// Enforcement is relaxed by the configuration.
    Relaxed {
        /// The setting that relaxes it, as in `mode = "warn"`.
        setting: &'a str,
    },
    /// An object in the root of the store cannot be seen, since the proof directory has its name.
    Shadowed {
        /// The name.
        name: &'a str,
    },
    /// A file or block failed verification.
    Refused(Refusal<'a>),
    /// A READ was answered with data.
    Read(Read),
    /// All of a file was hashed, once, since its evidence does not let single blocks be proven.
    Hashed {
        /// The path below the export's root, as bytes.
        path: &'a [u8],
        /// Bytes hashed.
        bytes: u64,
        /// How long it took.
        duration: Duration,
        /// What the evidence lacks.
        reason: &'static str,
    },
    /// A store gave something that does not verify, or nothing, and another one gave what does.
    Healed(Healed<'a>),
    /// A file was put back on a store that held it damaged, and proven there again.
    Repaired {
        /// The path below the export's root, as bytes.
        path: &'a [u8],
        /// The store that was written, for people.
        store: &'a str,
        /// What was written: `data`, `evidence` or `data and evidence`.
        what: &'static str,
        /// Bytes of data written; 0 where only evidence was.
        bytes: u64,
    },
    /// A file that is damaged on a store was left as it is.
    NotRepaired {
        /// The path below the export's root, as bytes.
        path: &'a [u8],
        /// The store, for people.
        store: &'a str,
        /// Why it was not written.
        reason: &'a str,
    },
    /// A store does not answer any more; others are asked in its place, or clients wait.
    StoreDown {
        /// The store, for people.
        store: &'a str,
        /// What it said last.
        error: &'a str,
    },
    /// A store that did not answer does again.
    StoreUp {
        /// The store, for people.
        store: &'a str,
    },
    /// A scrub of the store begins.
    ScrubStarted {
        /// The store, for people.
        store: &'a str,
        /// The path behind which it goes on, where it was interrupted before.
        after: Option<&'a [u8]>,
        /// Why it does not go on where it was interrupted; may be empty.
        note: &'a str,
    },
    /// A scrub is done with a file.
    Scrubbed {
        /// Bytes looked at.
        bytes: u64,
    },
    /// A scrub came across something.
    ScrubFound(ScrubFinding<'a>),
    /// A scrub is over.
    ScrubEnded {
        /// `complete`, `interrupted`, or the error that ended it.
        result: &'a str,
        /// True when all of the store was looked at.
        complete: bool,
        /// What was found, since the start of the store.
        totals: &'a ScrubTotals,
        /// How long it took since it was started or taken up again.
        duration: Duration,
    },
    /// A remote procedure call was answered.
    Call {
        /// Program name: `nfs3`, `mount3`.
        program: &'static str,
        /// Procedure name in upper case: `READ`.
        procedure: &'static str,
        /// False when the call ended in an error status.
        ok: bool,
        /// From the complete request to the complete reply, without the network.
        duration: Duration,
    },
    /// A connection was accepted.
    Connected {
        /// The peer.
        peer: SocketAddr,
    },
    /// A connection ended.
    Disconnected {
        /// The peer.
        peer: SocketAddr,
        /// Why, in a few words: `closed by peer`, `idle`, `record too long`.
        reason: &'static str,
    },
    /// Trust or configuration was read again.
    Reloaded {
        /// `trust`, `revocations` or `configuration`.
        what: &'a str,
        /// What holds now, for people.
        detail: &'a str,
    },
    /// New trust or configuration was refused; what was before still holds.
    ReloadRefused {
        /// `trust` or `configuration`.
        what: &'a str,
        /// The error.
        error: &'a str,
    },
    /// A policy was read, or refused.
    PolicyLoaded {
        /// Which, and from where, for people.
        detail: &'a str,
        /// Why it was refused.
        error: Option<&'a str>,
        /// The record that the kernel would write, without its time.
        record: &'a str,
    },
    /// Another policy rules, or the same one in another way.
    PolicyChanged {
        /// What rules now, for people.
        detail: &'a str,
        /// The record that the kernel would write, without its time.
        record: &'a str,
    },
    /// The measurement list was written.
    Measured {
        /// Records in it.
        records: u64,
    },
    /// The last gateway left the measurement list unfinished, and it was put right.
    MeasuringRecovered {
        /// What was done, for people.
        detail: &'a str,
    },
    /// The measurement list, or a file beside it, cannot be written.
    MeasuringFailed {
        /// The error.
        error: &'a str,
        /// Whether files that are not in the list have to wait.
        waits: bool,
    },
    /// A block that was read back from the disk cache did not verify; it was dropped and the store asked.
    /// Told of the first, the second, the fourth and so on: a disk may hold many.
    DiskCacheBad {
        /// The digest of the file, at most 32 bytes of it.
        file: &'a [u8],
        /// How many there were so far.
        blocks: u64,
    },
    /// The disk cache is not used any more, since the disk failed. The store is asked instead.
    DiskCacheOff {
        /// The cache's directory.
        directory: &'a str,
        /// What went wrong.
        error: &'a str,
    },
}

/// Where events go. Emitting must be quick and must not block.
pub trait Sink: Send + Sync {
    /// Takes note of `event`.
    fn emit(&self, event: &Event<'_>);
}

/// What the caches and tables hold at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of proven blocks in the cache.
    pub cache_bytes: u64,
    /// The cache's size limit in bytes.
    pub cache_capacity: u64,
    /// Entries in the cache.
    pub cache_entries: u64,
    /// The cache on the local disk.
    pub disk: DiskUsage,
    /// Files held open.
    pub open_files: u64,
    /// Paths known by file handle.
    pub handles: u64,
}

/// What the cache on the local disk holds at this moment, and what became of it since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// The size limit in bytes; 0 without such a cache.
    pub capacity: u64,
    /// Blocks that can be found.
    pub entries: u64,
    /// Blocks read back.
    pub hits: u64,
    /// Blocks that were not there.
    pub misses: u64,
    /// Blocks read back that did not verify.
    pub bad: u64,
    /// Blocks not kept, since the disk was slower than the store.
    pub skipped: u64,
    /// 1 while it is used, 0 once the disk failed or without one.
    pub on: u64,
}

/// Something that can be asked what it holds, for gauges.
pub trait Gauge: Send + Sync {
    /// What is held now.
    fn usage(&self) -> Usage;
}

/// Forgets every event; for tests and tools that watch nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: &Event<'_>) {}
}
