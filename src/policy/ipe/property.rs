//! The properties of a rule: what must hold for it to match.

use std::fmt;

use jiff::Timestamp;

use super::error::PolicyFault;
use super::network::Network;
use super::pattern::PathPattern;
use super::text::{Style, hex_upper, readable};

/// What stands before a property's `=`.
pub(super) const KEYWORDS: [&str; 13] = [
    "boot_verified",
    "dmverity_roothash",
    "dmverity_signature",
    "fsverity_digest",
    "fsverity_signature",
    "path",
    "intended_pathname",
    "signer",
    "format",
    "client",
    "uid",
    "signed_after",
    "quorum",
];

/// One condition of a rule. The first five are the kernel's, the others are additions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// `boot_verified=TRUE|FALSE`: from what was verified at boot, or not.
    BootVerified(bool),
    /// `dmverity_roothash=ALG:HEX`: on a dm-verity volume of this root hash.
    DmverityRoothash(DigestPattern),
    /// `dmverity_signature=TRUE|FALSE`: on a dm-verity volume whose root hash is signed, or not so.
    DmveritySignature(bool),
    /// `fsverity_digest=ALG:HEX`: of this file digest.
    FsverityDigest(DigestPattern),
    /// `fsverity_signature=TRUE|FALSE`: with a trusted signature, or without one. In the kernel that is the
    /// built-in one; who asks this room says what counts, see [`Property::Format`].
    FsveritySignature(bool),
    /// `path=GLOB`: at such a path. An addition; `intended_pathname=GLOB` is the same.
    Path(PathPattern),
    /// `signer=KEYID|NAME`: signed by this key. An addition.
    Signer(SignerPattern),
    /// `format=WORD`: with a signature in this format, whosever it is. An addition.
    Format(Box<[u8]>),
    /// `client=CIDR`: for a client in this network. An addition.
    Client(Network),
    /// `uid=N`: for this user. An addition.
    Uid(u32),
    /// `signed_after=DATE`: signed later than this second. An addition.
    SignedAfter(Timestamp),
    /// `quorum=N`: signed by at least so many different keys. An addition.
    Quorum(u8),
}

/// A digest as policies write it. The algorithm's name is compared as it stands, as the kernel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestPattern {
    pub(super) algorithm: Box<[u8]>,
    pub(super) bytes: Box<[u8]>,
}

/// Which key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerPattern {
    /// The key of this id.
    Key([u8; 32]),
    /// A key of this name. A name with spaces cannot be written; the key's id can.
    Name(Box<[u8]>),
}

impl Property {
    /// True for what the kernel does not know: it refuses a policy that names it.
    pub const fn is_addition(&self) -> bool {
        match self {
            Self::BootVerified(_)
            | Self::DmverityRoothash(_)
            | Self::DmveritySignature(_)
            | Self::FsverityDigest(_)
            | Self::FsveritySignature(_) => false,
            Self::Path(_)
            | Self::Signer(_)
            | Self::Format(_)
            | Self::Client(_)
            | Self::Uid(_)
            | Self::SignedAfter(_)
            | Self::Quorum(_) => true,
        }
    }

    /// Reads one token. Like the kernel's, keywords have their value behind them, and never none.
    pub(super) fn parse(token: &[u8]) -> Result<Self, PolicyFault> {
        let (keyword, value) = halves(token, b'=').ok_or(PolicyFault::Property)?;
        if value.is_empty() {
            return Err(PolicyFault::Property);
        }
        Ok(match keyword {
            b"boot_verified" => Self::BootVerified(truth(value)?),
            b"dmverity_roothash" => Self::DmverityRoothash(DigestPattern::parse(value)?),
            b"dmverity_signature" => Self::DmveritySignature(truth(value)?),
            b"fsverity_digest" => Self::FsverityDigest(DigestPattern::parse(value)?),
            b"fsverity_signature" => Self::FsveritySignature(truth(value)?),
            b"path" | b"intended_pathname" => Self::Path(PathPattern::parse(value)?),
            b"signer" => Self::Signer(SignerPattern::parse(value)),
            b"format" => Self::Format(value.into()),
            b"client" => Self::Client(Network::parse(value)?),
            b"uid" => Self::Uid(decimal(value).ok_or(PolicyFault::Uid)?),
            b"signed_after" => Self::SignedAfter(time(value).ok_or(PolicyFault::SignedAfter)?),
            b"quorum" => {
                let number = decimal(value).and_then(|number| u8::try_from(number).ok());
                Self::Quorum(number.filter(|number| *number > 0).ok_or(PolicyFault::Quorum)?)
            }
            _ => return Err(PolicyFault::Property),
        })
    }

    pub(super) fn write(&self, style: Style, out: &mut Vec<u8>) {
        let plain = match self {
            Self::BootVerified(value) => format!("boot_verified={}", truth_word(*value)),
            Self::DmveritySignature(value) => format!("dmverity_signature={}", truth_word(*value)),
            Self::FsveritySignature(value) => format!("fsverity_signature={}", truth_word(*value)),
            Self::DmverityRoothash(digest) => return digest.write(b"dmverity_roothash=", style, out),
            Self::FsverityDigest(digest) => return digest.write(b"fsverity_digest=", style, out),
            Self::Path(pattern) => {
                out.extend_from_slice(b"path=");
                return style.string(pattern.text().as_bytes(), out);
            }
            Self::Signer(SignerPattern::Key(id)) => format!("signer={}", hex::encode(id)),
            Self::Signer(SignerPattern::Name(name)) => {
                out.extend_from_slice(b"signer=");
                return style.string(name, out);
            }
            Self::Format(word) => {
                out.extend_from_slice(b"format=");
                return style.string(word, out);
            }
            Self::Client(network) => format!("client={network}"),
            Self::Uid(uid) => format!("uid={uid}"),
            Self::SignedAfter(time) => format!("signed_after={time}"),
            Self::Quorum(number) => format!("quorum={number}"),
        };
        out.extend(plain.into_bytes());
    }
}

/// As a policy writes it, on one line for people.
impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(Style::Policy, &mut text);
        f.write_str(&readable(&text))
    }
}

impl DigestPattern {
    /// The algorithm's name; the kernel takes any, and an empty one.
    pub fn algorithm(&self) -> &[u8] {
        &self.algorithm
    }

    /// The digest; the kernel takes any length, and none.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `ipe_digest_parse` of `security/ipe/digest.c`: the first colon separates.
    fn parse(value: &[u8]) -> Result<Self, PolicyFault> {
        let (algorithm, digits) = halves(value, b':').ok_or(PolicyFault::DigestColon)?;
        let bytes = hex::decode(digits).map_err(|_| PolicyFault::DigestHex)?;
        Ok(Self { algorithm: algorithm.into(), bytes: bytes.into() })
    }

    fn write(&self, keyword: &[u8], style: Style, out: &mut Vec<u8>) {
        out.extend_from_slice(keyword);
        style.string(&self.algorithm, out);
        out.push(b':');
        hex_upper(&self.bytes, out);
    }
}

impl SignerPattern {
    fn parse(value: &[u8]) -> Self {
        let mut id = [0; 32];
        match hex::decode_to_slice(value, &mut id) {
            Ok(()) => Self::Key(id),
            Err(_) => Self::Name(value.into()),
        }
    }
}

/// What stands before and behind the first `separator`.
pub(super) fn halves(token: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = token.iter().position(|byte| *byte == separator)?;
    Some((token.get(..at)?, token.get(at + 1..)?))
}

fn truth(value: &[u8]) -> Result<bool, PolicyFault> {
    match value {
        b"TRUE" => Ok(true),
        b"FALSE" => Ok(false),
        _ => Err(PolicyFault::Property),
    }
}

const fn truth_word(value: bool) -> &'static str {
    if value { "TRUE" } else { "FALSE" }
}

/// Decimal digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// RFC 3339, or a date for the beginning of its day in UTC; whole seconds, the fraction cut off.
fn time(value: &[u8]) -> Option<Timestamp> {
    // Names of time zones in brackets, and longer texts with them, are of RFC 9557.
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= 40 && !text.contains('['))?;
    let is_date = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let time: Timestamp =
        if is_date { format!("{text}T00:00:00Z").parse().ok()? } else { text.parse().ok()? };
    // Towards the past, also before 1970.
    let seconds = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    Timestamp::from_second(seconds).ok()
}
