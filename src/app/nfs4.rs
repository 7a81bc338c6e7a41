//! The NFSv4 front end with its clients, and what they hold over a restart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::AppError;
use crate::config::Settings;
use crate::export::Export;
use crate::proto::nfs4::journal::{FileJournal, JournalName};
use crate::proto::nfs4::state::{State, StateLimits, StateOptions};
use crate::proto::nfs4::{ImaNumbers, Nfs4, Nfs4Options, OPERATIONS_MAX, RESPONSE_MAX};
use crate::proto::rpc::Limits;

/// The program over `export`; `state` is the state directory, and `bound` where it is served.
pub(super) fn program(
    settings: &Settings,
    export: Arc<Export>,
    state: &Path,
    bound: SocketAddr,
    limits: &Limits,
) -> Result<Nfs4, AppError> {
    let name = JournalName::new(settings.listen, bound);
    let failed = |reason: String| AppError::State { path: state.join(name.as_str()), reason };
    let (journal, survivors) = FileJournal::open(state, &name).map_err(|error| failed(error.to_string()))?;
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| failed("no randomness".to_owned()))?;
    let options = StateOptions {
        lease: settings.lease,
        survivors,
        journal: Arc::new(journal),
        limits: StateLimits {
            request: u32::try_from(limits.max_record).unwrap_or(u32::MAX),
            response: RESPONSE_MAX,
            operations: OPERATIONS_MAX,
            ..StateLimits::default()
        },
        secret,
    };
    let ima =
        settings.fattr4_ima.map(|attribute| ImaNumbers { attribute, error: settings.nfs4err_integrity });
    let owner = owner(export.fsid(), settings.listen);
    Ok(Nfs4::new(Nfs4Options { export, state: State::new(options, Instant::now()), owner, ima }))
}

/// What tells this gateway from others, stays over a restart, and says nothing of the host: of the handle key,
/// by way of the number that it gives the file system, and of the address.
fn owner(fsid: u64, listen: SocketAddr) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(fsid.to_be_bytes());
    hash.update(listen.to_string());
    hash.finalize().iter().take(16).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_follows_from_key_and_address_alone() {
        let (one, other) = ("10.0.0.1:2049".parse().unwrap(), "10.0.0.2:2049".parse().unwrap());
        assert_eq!(owner(1, one), owner(1, one));
        assert_eq!(owner(1, one).len(), 16);
        assert!(owner(1, one) != owner(2, one) && owner(1, one) != owner(1, other));
    }
}
