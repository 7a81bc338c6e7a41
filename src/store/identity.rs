//! For whom a store is asked.

use std::future::Future;

/// A user of the store, as AUTH_SYS names one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub gids: Vec<u32>,
}

tokio::task_local! {
    static ACTING: Identity;
}

/// Runs `work`, whose calls to a store are made for `identity` where the store is set up so (an NFS server
/// with `identity=caller`). Other stores, and all that `work` spawns, ask in the gateway's own name.
pub async fn acting_as<T>(identity: Identity, work: impl Future<Output = T>) -> T {
    ACTING.scope(identity, work).await
}

/// For whom the current task asks.
pub(super) fn acting() -> Option<Identity> {
    ACTING.try_with(Identity::clone).ok()
}
