//! A scrub whose store goes away.

use std::path::Path;
use std::sync::Arc;

use nfs_verity::scrub::{Options, Scrub, ScrubError, Summary};
use nfs_verity::store::{Fault, StoreErrorKind};

use super::{NAMES, Named, Scene};

/// A scrub of the first store, of which the calls from number `away` on get no answer.
async fn pass(scene: &Scene, state: &Path, away: u64) -> Result<Summary, ScrubError> {
    let gate = scene.gate_with(1, |options| options.cache_bytes = 0).await;
    let faulty = &scene.faulty[0];
    let scrub = Scrub::new(Options {
        store: Arc::new(Named(NAMES[0], faulty.clone())),
        replicas: Vec::new(),
        export: Arc::new(gate.export),
        name: NAMES[0].to_owned(),
        namespace: String::new(),
        jobs: 1,
        state: state.to_owned(),
        mend: None,
        clean: false,
    });
    faulty.reset();
    for call in away..away.saturating_add(100) {
        faulty.fail_at(call, Fault::Error(StoreErrorKind::Unavailable));
    }
    let ended = scrub.unwrap().run(std::future::pending(), &mut |_| ()).await;
    let calls = faulty.calls();
    assert!(calls >= away || ended.is_ok(), "{calls}: {ended:?}");
    ended
}

#[tokio::test]
async fn a_store_that_goes_away_has_lost_no_files_and_is_scrubbed_from_there_when_it_is_back() {
    let scene = Scene::new().await;
    let state = tempfile::tempdir().unwrap();
    let good = pass(&scene, state.path(), u64::MAX).await.unwrap();
    assert!(good.complete && good.totals.good > 0, "{good:?}");
    for away in 1..=scene.faulty[0].calls() {
        match pass(&scene, state.path(), away).await {
            Err(ScrubError::Store(error)) => assert_eq!(error.kind, StoreErrorKind::Unavailable),
            ended => panic!("call {away}: {ended:?}"),
        }
        scene.faulty[0].reset();
        assert_eq!(pass(&scene, state.path(), u64::MAX).await.unwrap(), good, "call {away}");
    }
}
