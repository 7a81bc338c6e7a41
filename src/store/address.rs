//! Which store: a directory, or a URL.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::url::{self, AddressError, Url};
use super::{Local, Memory, Result, Store, StoreError, StoreErrorKind, StorePath, object, upstream};
use crate::event::Sink;

/// Where a store is: what `--store` and `--replica` take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A directory of this machine.
    Local(PathBuf),
    /// `nfs://HOST[:PORT]/EXPORT`: an NFSv3 server.
    Upstream(upstream::Address),
    /// `s3://`, `gs://` or `az://`: a bucket.
    Object(object::Address),
    /// `memory://NAME`: empty at first, and gone with the process; for tests.
    Memory(String),
}

/// What every store is opened with.
#[derive(Clone)]
pub struct OpenOptions {
    /// How long one call may take before it fails with [`StoreErrorKind::Unavailable`].
    pub timeout: Duration,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
}

impl StoreAddress {
    /// Reads an address; what has no scheme is a path.
    ///
    /// # Errors
    /// An unknown scheme, or what its store cannot understand.
    pub fn parse(text: &OsStr) -> std::result::Result<Self, AddressError> {
        let Some((text, scheme)) = text.to_str().and_then(|text| Some((text, url::scheme(text)?))) else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "nfs" => upstream::Address::from_url(Url::parse(text)?).map(Self::Upstream),
            "s3" | "gs" | "az" => object::Address::from_url(Url::parse(text)?).map(Self::Object),
            "memory" => Ok(Self::Memory(Url::parse(text)?.host)),
            _ => Err(AddressError::new(
                text,
                "no store has this scheme; there are nfs, s3, gs, az, and plain paths",
            )),
        }
    }

    /// The directory, if it is one.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Upstream(_) | Self::Object(_) | Self::Memory(_) => None,
        }
    }

    /// Whether its files may have extended attributes and fs-verity of their own.
    pub fn has_file_attributes(&self) -> bool {
        match self {
            Self::Local(_) | Self::Memory(_) => true,
            Self::Upstream(_) | Self::Object(_) => false,
        }
    }

    /// Which store it is, however it is reached: the same for two addresses that differ in options alone,
    /// but for an `endpoint`, which is another service.
    pub fn identity(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        if let Self::Local(path) = self {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            return path.as_os_str().as_bytes().to_vec();
        }
        let text = self.to_string();
        let (place, options) = text.split_once('?').unwrap_or((&text, ""));
        let endpoint = options.split('&').find(|option| option.starts_with("endpoint="));
        [place.trim_end_matches('/'), endpoint.unwrap_or_default()].join("?").into_bytes()
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] where trying later may help.
    pub async fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Store>> {
        match self {
            Self::Local(path) => Ok(Arc::new(Local::new(path)?)),
            Self::Upstream(address) => upstream::open(address, options).await,
            Self::Object(address) => object::open(address, options).await,
            Self::Memory(_) => Ok(Arc::new(Memory::new())),
        }
    }
}

/// As it is given.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Upstream(address) => address.fmt(f),
            Self::Object(address) => address.fmt(f),
            Self::Memory(name) => write!(f, "memory://{name}"),
        }
    }
}

/// An error of opening the store at `address`, before there is a path to name.
pub(super) fn cannot_open(
    kind: StoreErrorKind,
    address: impl fmt::Display,
    why: impl fmt::Display,
) -> StoreError {
    let source = std::io::Error::other(format!("{address}: {why}"));
    StoreError::new(kind, "open the store", &StorePath::root(), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_do_not_make_another_store_but_an_endpoint_does() {
        let identity = |text: &str| StoreAddress::parse(text.as_ref()).unwrap().identity();
        assert_eq!(identity("nfs://h/x?uid=0"), identity("nfs://h/x/"));
        assert_eq!(identity("s3://b/p?ttl=3&endpoint=http://e:1"), identity("s3://b/p?endpoint=http://e:1"));
        let different =
            ["nfs://h/x", "nfs://h:2049/x", "s3://b/p", "s3://b/p?endpoint=http://e:1", "/x", "memory://m"];
        for (n, text) in different.iter().enumerate() {
            assert!(different.iter().take(n).all(|other| identity(other) != identity(text)), "{text}");
        }
    }
}
