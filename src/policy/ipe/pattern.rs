//! Patterns of paths.

use std::fmt;

use globset::{Candidate, GlobBuilder, GlobMatcher};

use super::error::PolicyFault;

/// The longest path in bytes, and the longest pattern with wildcards.
const PATH_MAX: usize = 4096;
const GLOB_MAX: usize = 512;
/// What makes a path a pattern.
const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// A pattern of paths below the export's root: `*` and `?` within a name, `**` across directories,
/// `[...]`, `{a,b}`, `{,a}`, and `\` before one of these for itself. It matches bytes, so `?` is one byte.
/// A `/` before it means the root, as it does without; `/` alone is the root itself.
///
/// In the kernel tree that knows `intended_pathname`, `*` may only stand at the end and crosses `/`, and
/// a pattern without one matches whatever begins with it; here only `**` does such things.
#[derive(Clone)]
pub struct PathPattern {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// The text and nothing else.
    Literal,
    /// Whatever lies below the directory of so many bytes at the start of the text.
    Below(usize),
    /// Any path.
    Any,
    Glob(Box<Compiled>),
}

/// A pattern with wildcards. What it matches begins and ends with so many bytes of the text, which is
/// seen sooner.
#[derive(Clone)]
struct Compiled {
    start: usize,
    end: usize,
    matcher: GlobMatcher,
}

impl PathPattern {
    pub(super) fn parse(value: &[u8]) -> Result<Self, PolicyFault> {
        let text = std::str::from_utf8(value).map_err(|_| PolicyFault::Path)?.trim_start_matches('/');
        if text.len() > PATH_MAX || text.ends_with('/') {
            return Err(PolicyFault::Path);
        }
        let kind = match text.strip_suffix("/**") {
            _ if is_literal(text) => Kind::Literal,
            _ if text == "**" => Kind::Any,
            Some(directory) if is_literal(directory) => Kind::Below(directory.len()),
            _ if text.len() > GLOB_MAX => return Err(PolicyFault::Path),
            _ => {
                let mut glob = GlobBuilder::new(text);
                glob.literal_separator(true).backslash_escape(true).empty_alternates(true);
                let matcher = glob.build().map_err(|_| PolicyFault::Path)?.compile_matcher();
                let end = text.rsplit(WILD).next().unwrap_or_default();
                // `**/` matches nothing, too, and takes the slash with it.
                let end = end.strip_prefix('/').unwrap_or(end).len();
                let start = text.find(WILD).unwrap_or_default();
                Kind::Glob(Box::new(Compiled { start, end, matcher }))
            }
        };
        Ok(Self { text: text.into(), kind })
    }

    /// The pattern, without a `/` before it unless it is the root.
    pub fn text(&self) -> &str {
        if self.text.is_empty() { "/" } else { &self.text }
    }

    /// True when `path`, below the export's root and without a `/` before it, is such a path.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Literal => path == self.text.as_bytes(),
            Kind::Below(length) => {
                path.get(*length) == Some(&b'/') && path.get(..*length) == self.text.as_bytes().get(..*length)
            }
            Kind::Any => true,
            Kind::Glob(glob) => {
                let text = self.text.as_bytes();
                let head = text.get(..glob.start).unwrap_or_default();
                let tail = text.get(text.len().saturating_sub(glob.end)..).unwrap_or_default();
                path.starts_with(head)
                    && path.ends_with(tail)
                    && glob.matcher.is_match_candidate(&Candidate::from_bytes(path))
            }
        }
    }

    /// The one path that matches, if there is but one.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        matches!(self.kind, Kind::Literal).then_some(self.text.as_bytes())
    }

    /// True when it was compiled, which takes memory.
    pub(super) fn is_compiled(&self) -> bool {
        matches!(self.kind, Kind::Glob(_))
    }
}

fn is_literal(text: &str) -> bool {
    !text.contains(WILD)
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathPattern").field(&self.text()).finish()
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}
