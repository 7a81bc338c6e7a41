//! Scaffold.

use std::fmt;
use std::sync::Arc;

use super::address::cannot_open;
use super::url::{AddressError, Url};
use super::{OpenOptions, Result, Store, StoreErrorKind};

/// Scaffold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
}

impl Address {
    pub(super) fn from_url(url: Url) -> std::result::Result<Self, AddressError> {
        Ok(Self { url })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

pub(super) async fn open(address: &Address, _options: &OpenOptions) -> Result<Arc<dyn Store>> {
    Err(cannot_open(StoreErrorKind::Unsupported, address, "scaffold"))
}
