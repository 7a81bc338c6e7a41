//! Paths below a store's root: bytes, relative, without `.`, `..`, empty parts or NUL.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// The longest name in bytes.
pub const NAME_MAX: usize = 255;
/// The longest path in bytes; longer than one system call takes, so stores resolve it in parts.
pub const PATH_MAX: usize = 16 * 1024;

/// Why bytes are no [`StorePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name is longer than [`NAME_MAX`] or the path longer than [`PATH_MAX`].
    #[error("the name is too long")]
    TooLong,
    /// A name is empty, `.`, `..`, or holds a NUL or a slash.
    #[error("the name is not allowed")]
    Invalid,
}

/// A path below a store's root; the empty one is the root itself. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(Arc<[u8]>);

impl StorePath {
    /// The store's root.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Reads a path of names with single slashes between them; a leading or trailing slash is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        bytes.split(|b| *b == b'/').try_for_each(check_name)?;
        Ok(Self(Arc::from(bytes)))
    }

    /// The path of `name` in the directory that this path names.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        if self.is_root() {
            return Ok(Self(Arc::from(name)));
        }
        if self.0.len() + 1 + name.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self([&self.0, &b"/"[..], name].concat().into()))
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let (directory, _) = self.split_last();
        Some(Self(Arc::from(directory)))
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.split_last().1
    }

    fn split_last(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => {
                let (directory, name) = self.0.split_at(slash);
                (directory, name.get(1..).unwrap_or_default())
            }
            None => (&[], &self.0),
        }
    }

    /// The names, outermost first; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// True when this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        match self.0.strip_prefix(&*ancestor.0) {
            Some(rest) => ancestor.is_root() || rest.is_empty() || rest.first() == Some(&b'/'),
            None => false,
        }
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for StorePath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.len() > NAME_MAX {
        return Err(PathError::TooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|b| matches!(b, 0 | b'/')) {
        return Err(PathError::Invalid);
    }
    Ok(())
}

/// The [`super::Attr::fileid`] of `path` where the store gives none, or where several stores have to
/// agree on one: the first 63 bits of SHA-256 of its bytes, and never 0. The same in every gateway.
pub fn fileid_of_path(path: &StorePath) -> u64 {
    short_hash(path.as_bytes())
}

/// The first 63 bits of SHA-256, and never 0.
pub(super) fn short_hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let first = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (first >> 1).max(1)
}

/// Whether a terminal shows `c` where it stands and does nothing else: no control character, no end of a
/// line or paragraph, nothing that reorders or hides what is around it.
pub fn is_plain(c: char) -> bool {
    let format = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !format
}

/// Shows the path on one line: bytes that are not printable UTF-8 stand as `\xNN`, the root as `/`.
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("/");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if !is_plain(c) => c.to_string().bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?,
                    c => write!(f, "{c}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b".", b"..", b"a/../b", b"a/./b", b"a\0b", b"/"] {
            assert_eq!(StorePath::parse(bad), Err(PathError::Invalid), "{bad:?}");
        }
        assert_eq!(StorePath::root().join(b"a/b"), Err(PathError::Invalid));
        assert_eq!(StorePath::root().join(&[b'n'; 256]), Err(PathError::TooLong));
    }

    #[test]
    fn parts_of_a_path_are_found_again() {
        let path = StorePath::parse(b"a/b/c").unwrap();
        assert_eq!(path.name(), b"c");
        assert_eq!(path.parent().unwrap().as_bytes(), b"a/b");
        assert_eq!(path.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(path.parent().unwrap().join(b"c").unwrap(), path);
        assert_eq!(StorePath::parse(b"a").unwrap().parent(), Some(StorePath::root()));
        assert_eq!(StorePath::root().parent(), None);
        assert!(path.starts_with(&StorePath::parse(b"a/b").unwrap()));
        assert!(!StorePath::parse(b"ab").unwrap().starts_with(&StorePath::parse(b"a").unwrap()));
    }

    #[test]
    fn a_file_id_is_the_start_of_the_hash_of_the_path() {
        // echo -n a/b | sha256sum
        let path = StorePath::parse(b"a/b").unwrap();
        assert_eq!(fileid_of_path(&path), 0xc14c_ddc0_33f6_4b9d >> 1);
        assert_eq!(fileid_of_path(&StorePath::root()), 0xe3b0_c442_98fc_1c14 >> 1);
    }

    #[test]
    fn display_is_one_line_and_tells_paths_apart() {
        assert_eq!(StorePath::parse(b"a\n\xff\\x").unwrap().to_string(), "a\\x0a\\xff\\\\x");
        let reordered = StorePath::parse("\u{202e}a\u{2028}ä".as_bytes()).unwrap().to_string();
        assert_eq!(reordered, "\\xe2\\x80\\xaea\\xe2\\x80\\xa8ä");
    }
}
