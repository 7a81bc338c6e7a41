//! For what a key's signatures count: paths, a time, formats; and how many signers a path needs.

use std::fmt;
use std::sync::Arc;

use globset::{Candidate, GlobBuilder, GlobSet};

use super::text::Quoted;
use super::{FormatSet, SignError};

/// Globs in one list at most.
const GLOBS_MAX: usize = 64;
/// The longest glob in bytes.
const GLOB_MAX: usize = 512;
/// The most signers that can be required of a file.
const REQUIRED_MAX: usize = 16;
/// Rules about required signers at most.
const RULES_MAX: usize = 64;

/// Patterns of paths: `*` and `?` within a name, `**` across directories, `[...]`, `{a,b}`. They match
/// bytes, from the root of the export, so `?` is one byte. Cheap to clone.
#[derive(Clone)]
pub struct PathGlobs(Arc<Compiled>);

struct Compiled {
    texts: Vec<String>,
    set: GlobSet,
}

impl PathGlobs {
    /// Compiles 1 to 64 globs of at most 512 bytes each.
    ///
    /// # Errors
    /// [`SignError::Glob`], also for globs that can match no path: empty, absolute, or with a `/` at
    /// their end.
    pub fn new(texts: Vec<String>) -> Result<Self, SignError> {
        if texts.is_empty() || texts.len() > GLOBS_MAX {
            let reason = format!("there must be 1 to {GLOBS_MAX} of them, not {}", texts.len());
            return Err(SignError::Glob { glob: String::new(), reason });
        }
        let mut set = GlobSet::builder();
        for text in &texts {
            let refuse =
                |reason: String| SignError::Glob { glob: Quoted(text.as_bytes()).to_string(), reason };
            if text.is_empty() || text.len() > GLOB_MAX {
                return Err(refuse(format!("it must have 1 to {GLOB_MAX} bytes")));
            }
            if text.starts_with('/') {
                return Err(refuse("paths are relative to the export; leave out the / before it".to_owned()));
            }
            if text.ends_with('/') {
                return Err(refuse("only files are signed; write ** behind the directory".to_owned()));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            set.add(glob.map_err(|error| refuse(error.kind().to_string()))?);
        }
        let set = set.build().map_err(|error| SignError::Glob {
            glob: error.glob().map_or_else(String::new, |glob| Quoted(glob.as_bytes()).to_string()),
            reason: error.kind().to_string(),
        })?;
        Ok(Self(Arc::new(Compiled { texts, set })))
    }

    /// True when one of the globs matches `path`, which is relative to the export's root.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.set.is_match_candidate(&Candidate::from_bytes(path))
    }

    /// The globs as they were written.
    pub fn texts(&self) -> &[String] {
        &self.0.texts
    }
}

/// The globs with commas between them.
impl fmt::Display for PathGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.texts.join(", "))
    }
}

impl fmt::Debug for PathGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathGlobs").field(&self.0.texts).finish()
    }
}

impl PartialEq for PathGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.0.texts == other.0.texts
    }
}

impl Eq for PathGlobs {}

/// For what the signatures of a key or of an authority's certificates count. The default: for
/// everything, in the formats that the keyring accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The formats; `None` for those that the keyring accepts anyway.
    pub formats: Option<FormatSet>,
    /// The paths; `None` for all.
    pub paths: Option<PathGlobs>,
    /// The first second, since 1970.
    pub not_before: Option<i64>,
    /// The last second, since 1970.
    pub not_after: Option<i64>,
}

impl Limits {
    /// True when signatures of the file at `path` count.
    pub fn cover_path(&self, path: &[u8]) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.matches(path))
    }

    /// True when signatures count at `now`, in seconds since 1970.
    pub fn cover_time(&self, now: i64) -> bool {
        self.not_before.is_none_or(|first| first <= now) && self.not_after.is_none_or(|last| now <= last)
    }
}

/// How many different signers a file needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    default: usize,
    rules: Vec<(PathGlobs, usize)>,
}

/// One signer for every file.
impl Default for Requirements {
    fn default() -> Self {
        Self { default: 1, rules: Vec::new() }
    }
}

impl Requirements {
    /// The most signers that can be required.
    pub const MAX: usize = REQUIRED_MAX;
    /// The most rules.
    pub const RULES_MAX: usize = RULES_MAX;

    /// `default` signers, and more where a rule says so; each number is taken as at least 1 and at
    /// most [`Requirements::MAX`]. `None` for more than [`Requirements::RULES_MAX`] rules.
    pub fn new(default: usize, rules: Vec<(PathGlobs, usize)>) -> Option<Self> {
        let clamp = |number: usize| number.clamp(1, REQUIRED_MAX);
        let rules: Vec<_> = rules.into_iter().map(|(paths, number)| (paths, clamp(number))).collect();
        (rules.len() <= RULES_MAX).then_some(Self { default: clamp(default), rules })
    }

    /// How many signers the file at `path` needs: the most that any matching rule asks for, and never
    /// fewer than everywhere.
    pub fn of(&self, path: &[u8]) -> usize {
        let asked = self.rules.iter().filter(|(paths, _)| paths.matches(path)).map(|(_, number)| *number);
        asked.fold(self.default, usize::max)
    }

    /// The number everywhere.
    pub fn default_number(&self) -> usize {
        self.default
    }

    /// The rules, in the order in which they were written.
    pub fn rules(&self) -> &[(PathGlobs, usize)] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Result<PathGlobs, SignError> {
        PathGlobs::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn globs_match_bytes_and_stars_stay_within_a_name() {
        let boot = globs(&["boot/**", "*.img", "caf?/[ab]", "{x,y}/z"]).unwrap();
        let non_utf8 = b"boot/\xff\xfe/k".as_slice();
        for path in
            [&b"boot/vmlinuz"[..], b"boot/a/b/c", non_utf8, b"a.img", b"\xff.img", b"caf\xff/a", b"y/z"]
        {
            assert!(boot.matches(path), "{}", path.escape_ascii());
        }
        for path in
            [&b"boot"[..], b"xboot/a", b"a/boot/b", b"d/a.img", b"caf//a", b"caf\xc3\xa9/a", b"z/z", b""]
        {
            assert!(!boot.matches(path), "{}", path.escape_ascii());
        }
        assert_eq!(boot.to_string(), "boot/**, *.img, caf?/[ab], {x,y}/z");
        assert!(globs(&["**"]).unwrap().matches(b"any/thing"));
    }

    #[test]
    fn globs_that_are_wrong_or_match_nothing_are_refused() {
        let long = "a".repeat(GLOB_MAX + 1);
        for bad in ["", "/boot/**", "boot/", "a[", "{a", "a\\", long.as_str()] {
            let error = globs(&[bad]).unwrap_err();
            assert!(matches!(error, SignError::Glob { .. }), "{bad}: {error}");
            assert!(error.to_string().len() < 400);
        }
        assert!(globs(&[]).is_err());
        assert!(globs(&["a"; GLOBS_MAX]).is_ok() && globs(&["a"; GLOBS_MAX + 1]).is_err());
    }

    #[test]
    fn the_strictest_rule_wins_and_no_rule_asks_for_less() {
        let rules = vec![
            (globs(&["boot/**"]).unwrap(), 3),
            (globs(&["boot/grub/*"]).unwrap(), 2),
            (globs(&["tmp/**"]).unwrap(), 1),
            (globs(&["wild/**"]).unwrap(), usize::MAX),
        ];
        let required = Requirements::new(2, rules.clone()).unwrap();
        let of = |path: &str| required.of(path.as_bytes());
        assert_eq!(
            (of("boot/grub/x"), of("boot/k"), of("usr/k"), of("tmp/k"), of("wild/x")),
            (3, 3, 2, 2, 16)
        );
        assert_eq!(Requirements::default().of(b"x"), 1);
        assert_eq!(Requirements::new(0, Vec::new()).unwrap().of(b"x"), 1);
        assert!(Requirements::new(1, rules.into_iter().cycle().take(RULES_MAX + 1).collect()).is_none());
    }

    #[test]
    fn both_ends_of_a_window_are_within_it() {
        let limits = Limits { not_before: Some(10), not_after: Some(20), ..Limits::default() };
        assert_eq!([9, 10, 20, 21].map(|now| limits.cover_time(now)), [false, true, true, false]);
        assert!(Limits::default().cover_time(i64::MIN) && Limits::default().cover_path(b"x"));
    }
}
