//! Who calls, in the words of [`crate::export`].

use crate::event::Client;
use crate::export::Caller;
use crate::proto::rpc::{CallContext, Credential};

impl From<CallContext> for Caller {
    fn from(context: CallContext) -> Self {
        let (uid, gid, gids) = match context.credential {
            Credential::None => (None, None, Vec::new()),
            Credential::Sys(sys) => (Some(sys.uid), Some(sys.gid), sys.gids),
        };
        Self { client: Client { address: context.peer, uid, gid }, gids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rpc::AuthSys;

    #[test]
    fn claims_are_passed_on_and_nobody_has_none() {
        let peer = ([192, 0, 2, 1], 700).into();
        let sys = AuthSys { uid: 1, gid: 2, gids: vec![3, 4], machine: bytes::Bytes::new() };
        let caller = Caller::from(CallContext { peer, connection: 1, credential: Credential::Sys(sys) });
        assert_eq!(caller.client, Client { address: peer, uid: Some(1), gid: Some(2) });
        assert_eq!(caller.gids, [3, 4]);
        let nobody = Caller::from(CallContext { peer, connection: 1, credential: Credential::None });
        assert_eq!(nobody.client, Client { address: peer, uid: None, gid: None });
        assert!(nobody.gids.is_empty());
    }
}
