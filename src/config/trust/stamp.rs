//! Whether `revoked/` may have changed, without reading it.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::revoked::DIRECTORY;

/// Names that are looked at, at most: as many as can be loaded, and hidden ones beside them.
const NAMES_MAX: usize = 8192;

/// What `revoked/` of a trust directory looks like from outside: names, sizes, times and inodes. Two
/// stamps that differ mean that something may have changed.
///
/// A change within one tick of the file system's clock after the stamp does not show, so take the
/// stamp before [`super::load_revoked`], never after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustStamp {
    directory: Option<Facts>,
    files: Vec<(OsString, Option<Facts>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    size: u64,
    changed: [(i64, i64); 2],
}

impl From<Metadata> for Facts {
    fn from(of: Metadata) -> Self {
        let changed = [(of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())];
        Self { device: of.dev(), inode: of.ino(), size: of.size(), changed }
    }
}

impl TrustStamp {
    /// The stamp of the trust directory `path`. What cannot be looked at counts as absent.
    pub fn of(path: &Path) -> Self {
        let directory = path.join(DIRECTORY);
        let mut files = Vec::new();
        for entry in directory.read_dir().into_iter().flatten().flatten().take(NAMES_MAX) {
            let facts = entry.path().metadata().ok().map(Facts::from);
            files.push((entry.file_name(), facts));
        }
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self { directory: directory.metadata().ok().map(Facts::from), files }
    }
}
