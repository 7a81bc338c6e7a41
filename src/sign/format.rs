//! The formats in which a file may be signed.

use std::fmt;
use std::str::FromStr;

/// A format of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// A statement in a DSSE envelope: the one format that binds name, size and namespace.
    Native,
    /// PKCS#7 over the fs-verity digest, as the kernel's built-in signatures.
    FsVerity,
    /// IMA signature version 3 over the fs-verity digest (type 6).
    ImaV3,
    /// IMA signature over the hash of the whole file (type 3, version 2 or 3).
    ImaV2,
    /// PKCS#7 over the content before it, appended to the file as to kernel modules. It counts where
    /// files are looked at, and not where they are served: it does not cover itself.
    Modsig,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Native, Self::FsVerity, Self::ImaV3, Self::ImaV2, Self::Modsig];

    /// The name used on the command line, in configuration, events and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::FsVerity => "fsverity",
            Self::ImaV3 => "ima-v3",
            Self::ImaV2 => "ima-v2",
            Self::Modsig => "modsig",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signature format \"{0}\"; use native, fsverity, ima-v3, ima-v2 or modsig")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == word);
        found.ok_or_else(|| UnknownFormat(word.chars().take(40).collect()))
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatSet(u8);

impl FormatSet {
    /// The native format alone: whatever is accepted by default binds names.
    pub const NATIVE: Self = Self(Format::Native.bit());

    /// True when `format` is in the set.
    pub const fn contains(self, format: Format) -> bool {
        self.0 & format.bit() != 0
    }

    /// The formats, in the order of [`Format::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Format> {
        Format::ALL.into_iter().filter(move |format| self.contains(*format))
    }

    /// True when a format is in the set that binds no name.
    pub fn binds_no_name(self) -> bool {
        self.iter().any(|format| format != Format::Native)
    }
}

impl FromIterator<Format> for FormatSet {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        Self(formats.into_iter().fold(0, |set, format| set | format.bit()))
    }
}

/// The names, with commas between them.
impl fmt::Display for FormatSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Format::as_str).collect::<Vec<_>>().join(","))
    }
}

/// Reads names with commas between them, at least one.
impl FromStr for FormatSet {
    type Err = UnknownFormat;

    fn from_str(words: &str) -> Result<Self, UnknownFormat> {
        words.split(',').map(|word| word.trim().parse()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_they_are_read() {
        for text in ["native", "fsverity", "native,fsverity,ima-v3,ima-v2,modsig", "ima-v2"] {
            assert_eq!(text.parse::<FormatSet>().unwrap().to_string(), text);
        }
        assert_eq!("ima-v2, native".parse::<FormatSet>().unwrap().to_string(), "native,ima-v2");
        for bad in ["", "native,", "pgp", "Native"] {
            assert!(bad.parse::<FormatSet>().is_err(), "{bad}");
        }
        assert!(!FormatSet::NATIVE.binds_no_name());
        assert!("native,ima-v3".parse::<FormatSet>().unwrap().binds_no_name());
    }
}
