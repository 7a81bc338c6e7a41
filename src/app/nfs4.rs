//! The NFSv4 front end with its clients, and what they hold over a restart.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::AppError;
use crate::config::Settings;
use crate::export::{Export, READ_MAX};
use crate::proto::nfs4::journal::{FileJournal, JournalName};
use crate::proto::nfs4::state::{State, StateLimits, StateOptions};
use crate::proto::nfs4::{ImaNumbers, Nfs4, Nfs4Options, OPERATIONS_MAX};
use crate::proto::rpc::Limits;

/// What a response may hold besides the data of one READ.
const BESIDES_DATA: u32 = 4096;

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
            response: READ_MAX + BESIDES_DATA,
            operations: OPERATIONS_MAX,
            ..StateLimits::default()
        },
        secret,
    };
    let ima =
        settings.fattr4_ima.map(|attribute| ImaNumbers { attribute, error: settings.nfs4err_integrity });
    let owner = owner(settings, state);
    Ok(Nfs4::new(Nfs4Options { export, state: State::new(options, Instant::now()), owner, ima }))
}

/// What tells this gateway from all others, and stays over a restart: host, address and state directory.
fn owner(settings: &Settings, state: &Path) -> Vec<u8> {
    let host = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
    let mut hash = Sha256::new();
    for part in [&host[..], settings.listen.to_string().as_bytes(), state.as_os_str().as_bytes()] {
        hash.update(Sha256::digest(part));
    }
    hash.finalize().iter().take(16).copied().collect()
}
