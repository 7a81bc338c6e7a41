//! What can be asked about the gateway as it is at this moment: plain words, for people and programs that watch.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;

use super::Cause;

/// What is exported, from where, and whose word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The tree's name, as it was signed; may be empty.
    pub namespace: String,
    /// The stores: the first, and the replicas in their order.
    pub stores: Vec<String>,
    /// The formats in which signatures count.
    pub accept: String,
    /// Where evidence is looked for.
    pub carriers: String,
    /// Where the trusted keys are from.
    pub trust: String,
    /// Who is trusted.
    pub keys: Vec<TrustedKey>,
    /// Entries in the list of what is revoked.
    pub revoked: usize,
    /// The policy that rules; `None` where all that verifies is served.
    pub policy: Option<RulingPolicy>,
    /// How often the store is scrubbed.
    pub scrub_every: Option<Duration>,
    /// Whether damaged files are written again.
    pub repairs: bool,
    /// The directory of the measurement list.
    pub measure: Option<String>,
}

/// A key or certificate that is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key id: 64 hexadecimal digits.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// `key` or `authority`.
    pub kind: &'static str,
    /// The formats in which it counts.
    pub formats: String,
    /// The paths for which it counts; all where there are none.
    pub paths: Vec<String>,
    /// What it is now: `trusted`, `revoked`, `expired` or `not yet valid`.
    pub standing: &'static str,
    /// The first second since 1970 at which it counts.
    pub first: Option<i64>,
    /// The last one.
    pub last: Option<i64>,
    /// The entry that revokes it.
    pub revoked_by: Option<String>,
}

/// The policy that rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulingPolicy {
    /// Its name and version.
    pub title: String,
    /// Whether what it denies is served all the same.
    pub permissive: bool,
    /// How many rules it has.
    pub rules: usize,
}

/// What is known of a file's blocks without reading any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Which version of the file it is: the file digest, or the first 32 bytes of it.
    pub version: [u8; 32],
    /// The signed size in bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Hashes in a block of the tree: a tree block of level 0 has the leaves of so many data blocks below it.
    pub arity: u32,
    /// Data blocks whose bytes in memory are proven, in order and apart from each other.
    pub good: Vec<Range<u64>>,
}

/// A block that does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedBlock {
    /// Why.
    pub cause: Cause,
    /// Index within the level.
    pub block: u64,
    /// The tree level; `None` for data.
    pub level: Option<u8>,
    /// Facts for people; may be empty.
    pub detail: String,
}

/// What reading and proving all of a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// Its evidence is accepted, and so is every block but these.
    Blocks {
        /// The first ones that fail, at most 1000.
        failed: Vec<FailedBlock>,
        /// How many fail in all.
        count: u64,
    },
    /// The file as a whole is not accepted.
    Refused {
        /// Why.
        cause: Cause,
        /// Facts for people.
        detail: String,
    },
}

/// Someone who can be asked.
#[async_trait]
pub trait Insight: Send + Sync {
    /// What holds now.
    fn overview(&self) -> Overview;

    /// What is known of the blocks of the file at `path` below the export's root; `None` where there is no such
    /// file, or its evidence is not accepted.
    async fn survey(&self, path: &[u8]) -> Option<Survey>;

    /// Reads and proves all of the file at `path` on the first store. Costs the store as much as a client that
    /// reads the file.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    async fn examine(&self, path: &[u8]) -> Result<Examined, String>;
}
