//! A program over an export of a small tree, for the tests of the front ends.

use std::sync::Arc;

use bytes::Bytes;

use super::rpc::{CallContext, Credential, Outcome, Program};
use crate::carrier::CarrierKind;
use crate::event::Silent;
use crate::export::{
    Caller, Export, ExportOptions, FileHandle, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs,
};
use crate::policy::Mode;
use crate::sign::Keyring;
use crate::store::Memory;
use crate::wire::Writer;

/// The content of `/hello`: more than one READ returns.
pub(super) fn content() -> Vec<u8> {
    (0..1_500_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// An export that trusts nobody, of `/hello`, `/link` to `../x` and the directory `/many` with
/// `/many/0` to `/many/299`, each name padded with up to 250 bytes.
pub(super) fn export(mode: Mode) -> Arc<Export> {
    export_of(store(), mode)
}

/// The tree of [`export`].
pub(super) fn store() -> Memory {
    let store = Memory::new();
    store.put("hello", &content()).unwrap();
    store.put_symlink("link", b"../x").unwrap();
    for name in many() {
        store.put([b"many/", &name[..]].concat(), b"x").unwrap();
    }
    store
}

/// An export that trusts nobody, of `store`.
pub(super) fn export_of(store: Memory, mode: Mode) -> Arc<Export> {
    let options = ExportOptions {
        store: Arc::new(store),
        replicas: Vec::new(),
        waits: false,
        repair: None,
        namespace: String::new(),
        carriers: vec![CarrierKind::Sidecar],
        keyring: Keyring::new(Vec::new()),
        whole_files: WholeFiles::default(),
        mode,
        identity: Identity::default(),
        cache_bytes: 1 << 20,
        disk_cache: None,
        xattrs: Xattrs::default(),
        proof_directory: ProofDirectory::default(),
        handle_key: HandleKey::new(&[7; 32]),
        sink: Arc::new(Silent),
    };
    block_on(Export::new(options)).unwrap().into()
}

/// The names in `/many`.
pub(super) fn many() -> impl Iterator<Item = Vec<u8>> {
    (0..300).map(|n| format!("{n}{}", "x".repeat(n * 37 % 250)).into_bytes())
}

/// The handle of a path of [`export`].
pub(super) fn found(export: &Export, path: &[u8]) -> FileHandle {
    let context =
        CallContext { peer: ([127, 0, 0, 1], 900).into(), connection: 1, credential: Credential::None };
    block_on(export.resolve(path, &Caller::from(context))).unwrap().0
}

/// Runs `future` to its end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What `write` writes.
pub(super) fn bytes(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w);
    w.finish().concat()
}

/// Calls a procedure from 127.0.0.1.
pub(super) fn call(program: &Arc<impl Program>, procedure: u32, arguments: &[u8]) -> Outcome {
    let peer = ([127, 0, 0, 1], 900).into();
    let context = CallContext { peer, connection: 1, credential: Credential::None };
    block_on(program.clone().call(context, procedure, Bytes::copy_from_slice(arguments)))
}

/// The results of a procedure, and whether they count as good; they keep to what was announced.
pub(super) fn results(program: &Arc<impl Program>, procedure: u32, arguments: &[u8]) -> (Vec<u8>, bool) {
    let bound = program.reply_bound(procedure, arguments);
    let Outcome::Done { results, ok } = call(program, procedure, arguments) else {
        panic!("procedure {procedure} was not executed")
    };
    assert!(results.len() <= bound, "procedure {procedure}: {} bytes, announced {bound}", results.len());
    (results.finish().concat(), ok)
}
