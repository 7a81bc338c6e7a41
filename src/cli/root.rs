//! ROOT: the store that a command is given, a directory or a URL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Trouble;
use crate::carrier::CarrierKind;
use crate::event::Silent;
use crate::store::{OpenOptions, Store, StoreAddress, StorePath};

/// How long one call of a store may take. Nobody waits for an answer but this command.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The address that `root` is.
pub(super) fn address(root: &Path) -> Result<StoreAddress, Trouble> {
    StoreAddress::parse(root.as_os_str()).map_err(Trouble::usage)
}

/// The store at `root`. Has to run in the runtime in which the store is used.
pub(super) async fn open_store(root: &Path) -> Result<Arc<dyn Store>, Trouble> {
    open_at(&address(root)?).await
}

/// The store at `address`, which has answered.
pub(super) async fn open_at(address: &StoreAddress) -> Result<Arc<dyn Store>, Trouble> {
    let options = OpenOptions { timeout: TIMEOUT, sink: Arc::new(Silent) };
    let store = address.open(&options).await?;
    if address.local().is_none() {
        let context = || format!("cannot open {address}");
        let asked = store.stat(&StorePath::root()).await;
        asked.map_err(|error| Trouble::Io { context: context(), source: error.source })?;
    }
    Ok(store)
}

/// Refuses to write evidence to where the store at `root` has no place for it.
pub(super) fn check_carrier(root: &Path, flag: &str, kind: CarrierKind) -> Result<(), Trouble> {
    let address = address(root)?;
    if kind.needs_file_attributes() && !address.has_file_attributes() {
        return Err(Trouble::usage(format!(
            "{flag} {kind}: only files of a local directory have that; for {address} there are sidecar and appended"
        )));
    }
    Ok(())
}
