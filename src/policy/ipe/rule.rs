//! Rules, and what decided.

use std::fmt;

use super::Op;
use super::property::Property;
use super::text::{Style, readable};

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it be.
    Allow,
    /// Refuse it.
    Deny,
}

impl Action {
    /// The word behind `action=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule of a policy, other than the defaults. It matches when all its properties hold, so one without
/// any matches always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) line: usize,
    pub(super) op: Op,
    pub(super) properties: Box<[Property]>,
    pub(super) action: Action,
}

impl Rule {
    /// The line of the policy on which it stands, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What it is about.
    pub fn op(&self) -> Op {
        self.op
    }

    /// What must hold, in the order in which it is written.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// What it says.
    pub fn action(&self) -> Action {
        self.action
    }

    pub(super) fn write(&self, style: Style, out: &mut Vec<u8>) {
        out.extend(format!("op={} ", self.op).into_bytes());
        for property in &self.properties {
            property.write(style, out);
            out.push(b' ');
        }
        out.extend(format!("action={}", self.action).into_bytes());
    }
}

/// As a policy writes it, on one line for people.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RuleRef::Rule(self).fmt(f)
    }
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRef<'p> {
    /// The first rule of the operation all of whose properties hold.
    Rule(&'p Rule),
    /// The operation's own default.
    OpDefault {
        /// The operation.
        op: Op,
        /// What it says.
        action: Action,
        /// Where it stands.
        line: usize,
    },
    /// The default for all operations.
    GlobalDefault {
        /// What it says.
        action: Action,
        /// Where it stands.
        line: usize,
    },
    /// Nothing in the policy is about this operation, which is an addition. It is denied.
    Absent {
        /// The operation.
        op: Op,
    },
}

impl RuleRef<'_> {
    /// What is done.
    pub fn action(&self) -> Action {
        match self {
            Self::Rule(rule) => rule.action,
            Self::OpDefault { action, .. } | Self::GlobalDefault { action, .. } => *action,
            Self::Absent { .. } => Action::Deny,
        }
    }

    /// The line of the policy, from 1, if the policy says anything.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Rule(rule) => Some(rule.line),
            Self::OpDefault { line, .. } | Self::GlobalDefault { line, .. } => Some(*line),
            Self::Absent { .. } => None,
        }
    }

    /// As the kernel's audit records have it between the quotes of `rule="..."` (`security/ipe/audit.c`):
    /// digests in capitals, and strings, which are algorithms, paths, names and formats, in quotes of
    /// their own or in hexadecimal.
    pub fn audit_text(&self) -> String {
        let mut text = Vec::new();
        self.write(Style::Audit, &mut text);
        readable(&text)
    }

    pub(super) fn write(&self, style: Style, out: &mut Vec<u8>) {
        let plain = match self {
            Self::Rule(rule) => return rule.write(style, out),
            Self::OpDefault { op, action, .. } => format!("DEFAULT op={op} action={action}"),
            Self::GlobalDefault { action, .. } => format!("DEFAULT action={action}"),
            Self::Absent { op } => format!("no DEFAULT for op={op} action=DENY"),
        };
        out.extend(plain.into_bytes());
    }
}

/// As a policy writes it, on one line for people.
impl fmt::Display for RuleRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(Style::Policy, &mut text);
        f.write_str(&readable(&text))
    }
}
