//! Why a policy is refused, where, and what the kernel calls it.

use std::fmt;

use super::text::shown;
use super::{LINE_TOKENS_MAX, Op, RULES_MAX, TEXT_MAX, TOKEN_MAX};

/// The longest part of a token that is told, in bytes.
const TOLD_MAX: usize = 64;

/// A policy that is refused: the first thing wrong with it, in the order in which the kernel looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    line: usize,
    token: String,
    fault: PolicyFault,
}

impl PolicyError {
    pub(super) fn new(line: usize, token: &[u8], fault: PolicyFault) -> Self {
        Self { line, token: shown(token, TOLD_MAX), fault }
    }

    /// The line, from 1. Carriage return and line feed behind one another end one line.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The token at fault, cut, with escapes for what is not printable ASCII; empty when none is.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What is wrong.
    pub fn fault(&self) -> PolicyFault {
        self.fault
    }

    /// What the kernel answers to it.
    pub fn errno(&self) -> Errno {
        self.fault.errno()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.token.is_empty() {
            write!(f, "\"{}\": ", self.token)?;
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for PolicyError {}

/// What can be wrong with a policy. The wording says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// More text than is looked at.
    #[error("the policy is too long; at most {TEXT_MAX} bytes are read")]
    TextTooLong,
    /// More rules than are kept.
    #[error("too many rules; at most {RULES_MAX} are kept, so put what is alike under one path or signer")]
    TooManyRules,
    /// More tokens on a line than are looked at.
    #[error("too many words; at most {LINE_TOKENS_MAX} are read on a line")]
    TooManyTokens,
    /// A token longer than is looked at.
    #[error("the word is too long; at most {TOKEN_MAX} bytes are read")]
    TokenTooLong,
    /// Nothing but empty lines and comments.
    #[error("the policy is empty; begin with policy_name=NAME policy_version=1.0.0")]
    NoHeader,
    /// The header does not begin with the name.
    #[error("the first line must begin with policy_name=NAME")]
    HeaderName,
    /// The header does not go on with the version.
    #[error("the first line must go on with policy_version=1.0.0 behind the name")]
    HeaderVersion,
    /// More than name and version in the header.
    #[error("the first line ends behind policy_version; put rules on lines of their own")]
    HeaderTrailing,
    /// Not three numbers.
    #[error("a version has three numbers, as in 1.0.0")]
    VersionParts,
    /// A part of the version that is no number.
    #[error("a version has decimal numbers between its dots, as in 1.0.0")]
    VersionNumber,
    /// A part of the version over 65535.
    #[error("the numbers of a version go up to 65535")]
    VersionRange,
    /// A rule that names no known operation where it belongs.
    #[error("a rule begins with op= and an operation: {}", Words(&Op::ALL.map(Op::as_str)))]
    Operation,
    /// An action alone.
    #[error("the rule has no operation; write op=READ before the action, or DEFAULT for all operations")]
    NoOperation,
    /// A rule that does not end with an action.
    #[error("a rule ends with action=ALLOW or action=DENY, in capitals")]
    Action,
    /// A word that is no property.
    #[error("not a property; known are {}", Words(&super::property::KEYWORDS))]
    Property,
    /// A digest without a colon.
    #[error("a digest is an algorithm, a colon and hexadecimal digits, as in sha256:00ff")]
    DigestColon,
    /// A digest whose digits are odd in number or not hexadecimal.
    #[error("a digest has an even number of hexadecimal digits behind its colon")]
    DigestHex,
    /// A default with properties.
    #[error("a DEFAULT has no properties; leave out DEFAULT, or all but the operation and the action")]
    DefaultProperties,
    /// A second default of the same scope.
    #[error("a second DEFAULT for the same; keep one of them")]
    DuplicateDefault,
    /// An operation of the kernel for which nothing is decided in the end.
    #[error("nothing is said for {op} in the end; add DEFAULT action=DENY, or DEFAULT op={op} action=DENY")]
    NoDefault {
        /// The first such operation.
        op: Op,
    },
    /// A pattern of paths that cannot be used.
    #[error(
        "not a pattern of paths: at most 4096 bytes, 512 with wildcards; *, ?, **, [...] and {{a,b}} \
         complete; no / at the end"
    )]
    Path,
    /// More patterns with wildcards than are kept.
    #[error("too many patterns with wildcards; write paths out, or directories as in path=boot/**")]
    TooManyGlobs,
    /// Not a network.
    #[error("not a network; write an address or a network, as in 10.1.0.0/16 or fd00::/8")]
    Client,
    /// A network with bits behind its prefix.
    #[error("the address has bits behind its prefix; write the first address of the network")]
    ClientBits,
    /// Not a user's number.
    #[error("not a user; write the user's decimal number, as in uid=1000")]
    Uid,
    /// Not a time.
    #[error("not a time; write 2026-01-31, or 2026-01-31T12:00:00Z")]
    SignedAfter,
    /// Not a number of signers.
    #[error("not a number of signers; write 1 to 255, as in quorum=2")]
    Quorum,
}

impl PolicyFault {
    /// What the kernel answers. To what only this grammar knows, it answers as to any unknown word.
    pub const fn errno(self) -> Errno {
        match self {
            Self::TextTooLong | Self::TooManyRules | Self::TooManyTokens | Self::TokenTooLong => {
                Errno::NoMemory
            }
            Self::VersionNumber | Self::DigestHex => Errno::Invalid,
            Self::VersionRange => Errno::Range,
            Self::NoHeader
            | Self::HeaderName
            | Self::HeaderVersion
            | Self::HeaderTrailing
            | Self::VersionParts
            | Self::Operation
            | Self::NoOperation
            | Self::Action
            | Self::Property
            | Self::DigestColon
            | Self::DefaultProperties
            | Self::DuplicateDefault
            | Self::NoDefault { .. }
            | Self::Path
            | Self::TooManyGlobs
            | Self::Client
            | Self::ClientBits
            | Self::Uid
            | Self::SignedAfter
            | Self::Quorum => Errno::BadMessage,
        }
    }
}

/// Words with commas between them.
struct Words<'a>(&'a [&'static str]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// The kernel's numbers for errors with policies, `include/uapi/asm-generic/errno*.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// Out of memory; here: over one of our limits, of which the kernel has no other.
    NoMemory,
    /// A value that cannot be read.
    Invalid,
    /// A number that does not fit.
    Range,
    /// Not the grammar.
    BadMessage,
    /// Not newer than what it is to replace.
    Stale,
}

impl Errno {
    /// The name, as in `EBADMSG`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoMemory => "ENOMEM",
            Self::Invalid => "EINVAL",
            Self::Range => "ERANGE",
            Self::BadMessage => "EBADMSG",
            Self::Stale => "ESTALE",
        }
    }

    /// The number, which is positive.
    pub const fn number(self) -> i32 {
        match self {
            Self::NoMemory => 12,
            Self::Invalid => 22,
            Self::Range => 34,
            Self::BadMessage => 74,
            Self::Stale => 116,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one policy cannot take the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It has another name.
    #[error("the policy has another name; keep policy_name, or load it as another policy")]
    OtherName,
    /// It is of the same version or an older one.
    #[error("the policy is not newer; count policy_version up")]
    NotNewer,
}

impl UpdateError {
    /// What the kernel answers.
    pub const fn errno(self) -> Errno {
        match self {
            Self::OtherName => Errno::Invalid,
            Self::NotNewer => Errno::Stale,
        }
    }
}
