//! Where on a mount the files are, and under which paths they were signed.
//!
//! Both follow from the path as it is given. What the gateway shows has no say in it: links that it makes,
//! and file systems that it lets begin anywhere below the mount's root.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use clap::Args;

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
        let whole = std::path::absolute(given).map_err(|source| Trouble::file("find", given, source))?;
        let (root, below) = match &self.mount_root {
            Some(root) => {
                let root = real(root)?;
                let found = split(&whole, |prefix| Ok((real(prefix)? == root).then(|| root.clone())))?;
                found.ok_or_else(|| {
                    let (given, root) = (given.display(), root.display());
                    Trouble::usage(format!("{given} does not lie below --root {root}"))
                })?
            }
            None => mount_of(&whole, real, is_nfs)?,
        };
        let parse = |bytes: &[u8], what: &str| {
            let parsed = StorePath::parse(bytes);
            parsed.map_err(|error| Trouble::usage(format!("{what}: {error}")))
        };
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

fn real(path: &Path) -> Result<PathBuf, Trouble> {
    std::fs::canonicalize(path).map_err(|source| Trouble::file("find", path, source))
}

fn is_nfs(path: &Path) -> Result<bool, Trouble> {
    let info = rustix::fs::statfs(path).map_err(|error| Trouble::file("look at", path, error.into()))?;
    #[allow(clippy::cast_sign_loss)] // A magic number, of a type of its own on each machine.
    let kind = info.f_type as u64;
    Ok(kind & 0xffff_ffff == NFS)
}

/// The outermost part of `path` that is a root, as `root` says, and the path below it by its names alone.
fn split(
    path: &Path,
    root: impl Fn(&Path) -> Result<Option<PathBuf>, Trouble>,
) -> Result<Option<(PathBuf, StorePath)>, Trouble> {
    let mut prefix = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        prefix.push(part);
        if let Some(root) = root(&prefix)? {
            return Ok(Some((root, by_names(parts.as_path())?)));
        }
    }
    Ok(None)
}

/// A path as it is written, whatever its names stand for.
fn by_names(path: &Path) -> Result<StorePath, Trouble> {
    let wrong = |why: &str| Trouble::usage(format!("{}, below the mount's root: {why}", path.display()));
    let mut names: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop().ok_or_else(|| wrong("it leads out of the mount"))?;
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let joined = names.iter().try_fold(StorePath::root(), |path, name| path.join(name.as_bytes()));
    joined.map_err(|error| wrong(&error.to_string()))
}

/// The root of the NFS mount that `path` lies on, and the path below it. Where mounts of NFS lie in one
/// another it is the outermost: the inner ones may begin where the gateway chose.
fn mount_of(
    path: &Path,
    real: impl Fn(&Path) -> Result<PathBuf, Trouble>,
    nfs: impl Fn(&Path) -> Result<bool, Trouble>,
) -> Result<(PathBuf, StorePath), Trouble> {
    let found = split(path, |prefix| {
        let here = real(prefix)?;
        if !nfs(&here)? {
            return Ok(None);
        }
        let mut root = here.as_path();
        while let Some(parent) = root.parent()
            && nfs(parent)?
        {
            root = parent;
        }
        if root == here {
            return Ok(Some(here));
        }
        let (prefix, place, root) = (prefix.display(), here.display(), root.display());
        Err(Trouble::usage(format!(
            "{prefix} is a link to {place}, on the mount at {root}: name a place on the mount without links, \
             or its root with --root DIR"
        )))
    })?;
    found.ok_or_else(|| {
        let path = path.display();
        Trouble::usage(format!(
            "{path} is not on an NFS mount; --root DIR checks any directory as if it were one"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/mnt` is the mount, with another file system at `/mnt/prod`; there are links to and on it.
    fn find(path: &str) -> Result<(String, String), String> {
        let real = |path: &Path| {
            let text = path.to_str().unwrap();
            Ok(PathBuf::from(match text {
                "/data" => "/mnt",
                "/tools" | "/mnt/link" => "/mnt/old",
                "/prod" => "/mnt/prod",
                "/srv/.." => "/",
                "/srv/../mnt" => "/mnt",
                other => other,
            }))
        };
        let nfs = |path: &Path| Ok(path.starts_with("/mnt"));
        let found = mount_of(Path::new(path), real, nfs);
        let shown = |(root, below): (PathBuf, StorePath)| (root.display().to_string(), below.to_string());
        found.map(shown).map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn the_path_below_the_mount_is_the_one_that_is_given() {
        for (path, below) in [
            ("/mnt", "/"),
            ("/mnt/old/tool", "old/tool"),
            ("/mnt/link/tool", "link/tool"),
            ("/data/link/tool", "link/tool"),
            ("/mnt/./a/../link/tool", "link/tool"),
            ("/srv/../mnt/a", "a"),
        ] {
            assert_eq!(find(path), Ok(("/mnt".to_owned(), below.to_owned())), "{path}");
        }
        for path in ["/tools/tool", "/mnt/../mnt/tool", "/mnt/a/../..", "/home", "/prod/tool"] {
            assert!(find(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_system_within_the_mount_is_no_mount_of_its_own() {
        assert_eq!(find("/mnt/prod/tool"), Ok(("/mnt".to_owned(), "prod/tool".to_owned())));
        assert!(find("/prod/tool").unwrap_err().contains("--root DIR"));
    }
}
