//! The policy language of the Linux IPE LSM (6.12: `security/ipe`, `Documentation/admin-guide/LSM/ipe.rst`),
//! for exports.
//!
//! ```text
//! policy_name=export policy_version=1.0.0
//! DEFAULT action=DENY
//! op=READ fsverity_digest=sha256:01ab... action=DENY     # revoked
//! op=READ path=boot/** quorum=2 action=ALLOW
//! op=READ fsverity_signature=TRUE action=ALLOW
//! op=LIST action=ALLOW
//! ```
//!
//! A policy that the kernel loads is read here unchanged and decides the same, and one that it refuses
//! is refused for the same reason ([`PolicyError::errno`]), within the limits below. Operations and
//! properties that the kernel does not know are marked as additions; [`Policy::has_additions`] tells
//! whether a policy has them. The kernel wants a default for each of its operations, or one for all;
//! additions need none, and what nothing is said about is denied.
//!
//! The properties of a rule are independent of one another: `signer=a format=native` holds for a file
//! that `a` signed in one format and somebody else in `native`.
//!
//! Knows nothing of signatures on policies, of files or of exports.

pub mod audit;
mod error;
mod evaluate;
mod network;
mod op;
mod parse;
mod pattern;
mod property;
mod rule;
#[cfg(test)]
mod tests;
mod text;

pub use error::{Errno, PolicyError, PolicyFault, UpdateError};
pub use evaluate::{DigestFact, Explanation, Facts, Miss, Ruling, SignerFact};
pub use network::Network;
pub use op::{Op, UnknownOp};
pub use pattern::PathPattern;
pub use property::{DigestPattern, Property, SignerPattern};
pub use rule::{Action, Rule, RuleRef};

use std::fmt;

use evaluate::Index;
use op::ByOp;
use text::Style;

/// The longest policy in bytes. The kernel takes what one write can hand over, which is some megabytes.
pub const TEXT_MAX: usize = 1 << 20;
/// Rules without the defaults at most; the kernel knows no limit.
pub const RULES_MAX: usize = 1 << 14;
/// Tokens on a line at most; the kernel knows no limit.
pub const LINE_TOKENS_MAX: usize = 64;
/// The longest token in bytes; the kernel knows no limit.
pub const TOKEN_MAX: usize = 8192;
/// Patterns with wildcards at most, those of the form `directory/**` not counted. They take memory.
pub const GLOBS_MAX: usize = 1024;

/// A policy that was read.
#[derive(Debug)]
pub struct Policy {
    name: Box<[u8]>,
    version: Version,
    default: Option<Fallback>,
    tables: ByOp<Table>,
}

/// The rules of one operation.
#[derive(Debug, Default)]
struct Table {
    default: Option<Fallback>,
    rules: Vec<Rule>,
    index: Index,
}

/// What happens when no rule matches.
#[derive(Clone, Copy, Debug)]
struct Fallback {
    line: usize,
    action: Action,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order in which the kernel looks.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        parse::parse(text)
    }

    /// The name: any bytes but spaces, tabs, ends of lines, NUL and `#`.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// True when the kernel would refuse it for what only this grammar knows.
    pub fn has_additions(&self) -> bool {
        self.statements().into_iter().any(|statement| match statement {
            RuleRef::Rule(rule) => rule.op.is_addition() || rule.properties.iter().any(Property::is_addition),
            RuleRef::OpDefault { op, .. } => op.is_addition(),
            RuleRef::GlobalDefault { .. } | RuleRef::Absent { .. } => false,
        })
    }

    /// The rules and defaults in the order of their lines.
    pub fn statements(&self) -> Vec<RuleRef<'_>> {
        let default = self.default.map(|Fallback { action, line }| RuleRef::GlobalDefault { action, line });
        let mut all: Vec<_> = default.into_iter().collect();
        for op in Op::ALL {
            let table = self.tables.of(op);
            let own = table.default.map(|Fallback { action, line }| RuleRef::OpDefault { op, action, line });
            all.extend(own);
            all.extend(table.rules.iter().map(RuleRef::Rule));
        }
        all.sort_by_key(RuleRef::line);
        all
    }

    /// The policy as text, one statement a line, without comments. Read again it is the same policy.
    pub fn render(&self) -> Vec<u8> {
        let mut out = b"policy_name=".to_vec();
        out.extend_from_slice(&self.name);
        out.extend(format!(" policy_version={}\n", self.version).into_bytes());
        for statement in self.statements() {
            statement.write(Style::Policy, &mut out);
            out.push(b'\n');
        }
        out
    }

    /// Whether it may take the place of `old`: the name must be the same, the version higher.
    ///
    /// # Errors
    /// Which of these does not hold, the name first as in the kernel.
    pub fn updates(&self, old: &Self) -> Result<(), UpdateError> {
        if self.name != old.name {
            return Err(UpdateError::OtherName);
        }
        if self.version <= old.version {
            return Err(UpdateError::NotNewer);
        }
        Ok(())
    }
}

/// A policy's version. The kernel compares `major << 32 | minor << 16 | revision`, which is this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Before the first dot.
    pub major: u16,
    /// Between the dots.
    pub minor: u16,
    /// Behind the second dot.
    pub revision: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)
    }
}
