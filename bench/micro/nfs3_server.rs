//! nfs3_server STORE TRUST CACHE_MIB: the crate of that name in front of the export that nfs-verity serves,
//! the directory STORE with the keys TRUST, on a free port of 127.0.0.1: a peer for bench/run.
//!
//! Whoever calls counts as root of this machine, squashed as usual. Runs until it is killed.

#[path = "../../tests/nfs3/adapter.rs"]
mod adapter;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use nfs_verity::carrier::CarrierKind;
use nfs_verity::config::load_keyring;
use nfs_verity::event::{Client, Silent};
use nfs_verity::export::{
    Caller, Export, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::sign::FormatSet;
use nfs_verity::store::Local;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, trust, cache] = arguments.as_slice() else {
        return Err("nfs3_server STORE TRUST CACHE_MIB".into());
    };
    let export = Export::new(ExportOptions {
        store: Arc::new(Local::new(&PathBuf::from(store))?),
        replicas: Vec::new(),
        waits: false,
        repair: None,
        namespace: String::new(),
        carriers: vec![CarrierKind::Sidecar],
        keyring: load_keyring(&PathBuf::from(trust), FormatSet::NATIVE)?,
        mode: Mode::Enforce,
        identity: Identity::default(),
        cache_bytes: cache.parse::<u64>()? << 20,
        disk_cache: None,
        whole_files: WholeFiles::default(),
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[7; 32]),
        sink: Arc::new(Silent),
    });
    let client = Client { address: ([127, 0, 0, 1], 1).into(), uid: Some(0), gid: Some(0) };
    let address = adapter::serve(Arc::new(export.await?), Caller { client, gids: Vec::new() }).await?;
    println!("ready nfs={address} peer=nfs3_server");
    std::future::pending().await
}
