//! Where on a mount the files are, and under which paths they were signed.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use crate::cli::Trouble;
use crate::cli::walk::parse_paths;
use crate::store::StorePath;

/// The type of NFS in statfs(2).
const NFS: u64 = 0x6969;

/// What is where on the mount.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlaceArgs {
    /// The root of the mount, where it is not to be found out; any directory can be checked that way
    #[arg(long = "root", value_name = "DIR", requires = "mount")]
    mount_root: Option<PathBuf>,
    /// What is mounted, when it is not the root of the export: the files were signed under paths below it
    #[arg(long, value_name = "PATH", requires = "mount")]
    root_path: Option<PathBuf>,
    /// The name of the gateway's proof directory at the root of the mount, for mounts without xattrs
    #[arg(long, value_name = "NAME", default_value = ".verity", requires = "mount")]
    proof_directory: OsString,
}

/// Where things are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The root of the mount.
    pub(super) root: PathBuf,
    /// What is to be checked, below it.
    pub(super) paths: Vec<StorePath>,
    /// The path of the mount's root in the export.
    pub(super) above: StorePath,
    /// The proof directory.
    pub(super) proofs: StorePath,
}

impl PlaceArgs {
    /// Finds the mount that `given` lies on.
    pub(super) fn find(&self, given: &Path, paths: &[PathBuf]) -> Result<Place, Trouble> {
        let real =
            |path: &Path| std::fs::canonicalize(path).map_err(|source| Trouble::file("find", path, source));
        let whole = real(given)?;
        let root = match &self.mount_root {
            Some(root) => real(root)?,
            None => mount_of(&whole)?,
        };
        let Ok(below) = whole.strip_prefix(&root) else {
            let (given, root) = (given.display(), root.display());
            return Err(Trouble::usage(format!("{given} does not lie below --root {root}")));
        };
        let parse = |bytes: &[u8], what: &str| {
            let parsed = StorePath::parse(bytes);
            parsed.map_err(|error| Trouble::usage(format!("{what}: {error}")))
        };
        let below = parse(below.as_os_str().as_bytes(), "ROOT")?;
        let paths = parse_paths(paths)?;
        let paths = paths.iter().map(|path| joined(&below, path)).collect::<Result<_, _>>()?;
        let above = self.root_path.as_deref().map_or(&b""[..], |path| path.as_os_str().as_bytes());
        let above = above.strip_prefix(b"/").unwrap_or(above);
        let above = parse(above.strip_suffix(b"/").unwrap_or(above), "--root-path")?;
        let proofs = StorePath::root().join(self.proof_directory.as_bytes());
        let proofs =
            proofs.map_err(|error| Trouble::usage(format!("--proof-directory is one name: {error}")))?;
        Ok(Place { root, paths, above, proofs })
    }
}

/// `below` under `above`.
pub(super) fn joined(above: &StorePath, below: &StorePath) -> Result<StorePath, Trouble> {
    let joined = below.components().try_fold(above.clone(), |path, name| path.join(name));
    joined.map_err(|error| Trouble::usage(format!("{above}/{below}: {error}")))
}

/// The root of the NFS mount that `path` lies on.
fn mount_of(path: &Path) -> Result<PathBuf, Trouble> {
    let failed = |error: rustix::io::Errno| Trouble::file("look at", path, error.into());
    #[allow(clippy::cast_sign_loss)] // A magic number, of a type of its own on each machine.
    let nfs = rustix::fs::statfs(path).map_err(failed)?.f_type as u64 & 0xffff_ffff == NFS;
    if !nfs {
        let path = path.display();
        return Err(Trouble::usage(format!(
            "{path} is not on an NFS mount; --root DIR checks any directory as if it were one"
        )));
    }
    for ancestor in path.ancestors() {
        let info = rustix::fs::statx(CWD, ancestor, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let info = info.map_err(failed)?;
        if !info.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
            let text = "this kernel does not tell where a mount begins; --root DIR names its root";
            return Err(Trouble::usage(text));
        }
        if info.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(ancestor.to_owned());
        }
    }
    let path = OsString::from_vec(path.as_os_str().as_bytes().to_vec());
    Err(Trouble::usage(format!("{}: the root of the mount is not found; --root names it", path.display())))
}
