//! A scrub whose stores go away, and what it gives others to put right.

use std::path::Path;
use std::sync::Arc;

use nfs_verity::event::{Cause, Event, Finding};
use nfs_verity::scrub::{Mend, Mended, Options, Scrub, ScrubError, Summary};
use nfs_verity::store::{BoxFuture, Fault, StoreErrorKind, StorePath};
use parking_lot::Mutex;

use super::super::scene::evidence;
use super::{FILE, NAMES, Named, Scene};

const AWAY: Fault = Fault::Error(StoreErrorKind::Unavailable);

/// Puts nothing right, and takes note of what it is given.
#[derive(Default)]
struct Noted {
    restores: bool,
    given: Mutex<Vec<(String, Vec<usize>)>>,
}

impl Mend for Noted {
    fn restores(&self) -> bool {
        self.restores
    }

    fn mend<'a>(&'a self, path: &'a StorePath, stores: &'a [usize]) -> BoxFuture<'a, Vec<Mended>> {
        self.given.lock().push((path.to_string(), stores.to_vec()));
        Box::pin(async move { stores.iter().map(|store| Mended::Left(format!("as {store} is"))).collect() })
    }
}

/// A scrub of the first `count` stores.
async fn scrub(
    (scene, count): (&Scene, usize),
    state: &Path,
    mend: Option<Arc<dyn Mend>>,
    tell: impl FnMut(&Event<'_>) + Send,
) -> Result<Summary, ScrubError> {
    let gate = scene.gate_with(count, |options| options.cache_bytes = 0).await;
    let mut tell = tell;
    let scrub = Scrub::new(Options {
        store: Arc::new(Named(NAMES[0], scene.faulty[0].clone())),
        replicas: (1..count).map(|n| scene.store(n)).collect(),
        export: gate.export,
        name: NAMES[0].to_owned(),
        namespace: String::new(),
        jobs: 1,
        state: state.to_owned(),
        mend,
        clean: false,
    });
    scrub.unwrap().run(std::future::pending(), &mut tell).await
}

/// A scrub of the first store, of which the calls from number `away` on get no answer.
async fn pass(scene: &Scene, state: &Path, away: u64) -> Result<Summary, ScrubError> {
    let faulty = &scene.faulty[0];
    let ended = scrub((scene, 1), state, None, |event| {
        if matches!(event, Event::ScrubStarted { .. }) {
            faulty.reset();
            (away..away.saturating_add(100)).for_each(|call| faulty.fail_at(call, AWAY));
        }
    })
    .await;
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

#[tokio::test]
async fn a_replica_that_goes_away_is_told_once_and_the_rest_is_scrubbed_without_it() {
    let scene = Scene::new().await;
    let state = tempfile::tempdir().unwrap();
    let whole = scrub((&scene, 2), state.path(), None, |_| ()).await.unwrap();
    scene.faulty[1].reset();
    scrub((&scene, 2), state.path(), None, |_| ()).await.unwrap();
    let calls = scene.faulty[1].calls();
    assert!(calls > 5, "{calls}");
    let unread = Finding::Failed(Cause::Unreadable);
    for away in 1..=calls {
        let mend = Arc::new(Noted::default());
        let mut told = Vec::new();
        let faulty = &scene.faulty[1];
        let ended = scrub((&scene, 2), state.path(), Some(mend.clone()), |event| match event {
            Event::ScrubStarted { .. } => {
                faulty.reset();
                (away..away + 100).for_each(|call| faulty.fail_at(call, AWAY));
            }
            Event::ScrubFound(found) if found.finding == unread => {
                told.push((found.path.to_vec(), found.store.map(str::to_owned)));
            }
            _ => {}
        });
        let summary = ended.await.unwrap();
        faulty.reset();
        assert_eq!(told, [(Vec::new(), Some(NAMES[1].to_owned()))], "call {away}");
        assert_eq!(summary.totals.count(unread), 1);
        assert!(summary.complete && summary.totals.files < whole.totals.files, "{summary:?}");
        assert!(mend.given.lock().iter().all(|(path, _)| path != FILE), "{:?}", mend.given);
    }
}

#[tokio::test]
async fn what_is_wrong_is_given_to_be_put_right_for_the_stores_alone_where_it_is() {
    for restores in [false, true] {
        let scene = Scene::new().await;
        scene.memory[1].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
        scene.memory[2].remove("unsigned").unwrap();
        scene.memory[0].put("orphan", b"").unwrap();
        scene.memory[0].put(evidence("orphan"), b"").unwrap();
        scene.memory[0].remove("orphan").unwrap();
        let (mend, state) = (Arc::new(Noted { restores, ..Noted::default() }), tempfile::tempdir().unwrap());
        let mut told = Vec::new();
        scrub((&scene, 3), state.path(), Some(mend.clone()), |event| {
            if let Event::ScrubFound(found) = event {
                let path = String::from_utf8_lossy(found.path).into_owned();
                told.push((path, found.store.map(str::to_owned), found.detail.to_owned()));
            }
        })
        .await
        .unwrap();
        let given = |path: &str, stores: &[usize]| (path.to_owned(), stores.to_vec());
        let expected = match restores {
            false => vec![given(FILE, &[1]), given("unsigned", &[0, 1])],
            true => vec![given(FILE, &[1]), given("unsigned", &[0, 1, 2]), given("orphan", &[0])],
        };
        assert_eq!(*mend.given.lock(), expected);
        // What became of it is told of the store where it is.
        assert!(
            told.iter().any(|(path, store, detail)| {
                path == FILE && store.as_deref() == Some(NAMES[1]) && detail.ends_with("as 1 is")
            }),
            "{told:?}"
        );
    }
}
