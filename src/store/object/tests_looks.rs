//! Many who ask the same at the same time, those who give up, and servers that are away.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use tokio::task::yield_now;

use super::scene::Scene;
use super::tests::{names, path};
use super::*;

#[tokio::test]
async fn those_who_look_at_one_place_ask_once() {
    for metadata in [false, true] {
        let look = Look { metadata, ttl: Duration::from_secs(3600), ..Look::default() };
        let scene = Scene::with("pre/fix/", look);
        scene.put("d/f", b"x");
        let control = &scene.counted.control;
        let held = control.held.write().await;
        let looks = (0..20).map(|_| {
            let store = scene.store.clone();
            tokio::spawn(async move { store.stat(&path("d/f")).await.unwrap().size })
        });
        let looks: Vec<_> = looks.collect();
        while control.heads.load(Relaxed) == 0 || control.lists.load(Relaxed) == 0 {
            yield_now().await;
        }
        drop(held);
        assert!(join_all(looks).await.into_iter().all(|size| size.unwrap() == 1));
        assert_eq!((control.heads.load(Relaxed), control.lists.load(Relaxed)), (1, 1));
        // An open file is looked at no more than its name.
        let file = scene.store.open(&path("d/f")).await.unwrap();
        file.stat().await.unwrap();
        assert_eq!((control.heads.load(Relaxed), control.lists.load(Relaxed)), (1, 1));
    }
}

#[tokio::test]
async fn what_a_listing_says_to_be_a_file_is_not_looked_for_as_a_directory() {
    let scene =
        Scene::with("pre/fix/", Look { metadata: true, ttl: Duration::from_secs(3600), ..Look::default() });
    scene.put("d/f", b"x");
    assert_eq!(names(&*scene.store, "d").await, [b"f"]);
    let control = &scene.counted.control;
    let (heads, lists) = (control.heads.load(Relaxed), control.lists.load(Relaxed));
    scene.store.stat(&path("d/f")).await.unwrap();
    assert_eq!((control.heads.load(Relaxed), control.lists.load(Relaxed)), (heads + 1, lists));
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_remembered() {
    let scene = Scene::remembering();
    let control = &scene.counted.control;
    let held = control.held.write().await;
    let store = scene.store.clone();
    let look = tokio::spawn(async move { store.stat(&path("f")).await.map(drop) });
    while control.heads.load(Relaxed) == 0 || control.lists.load(Relaxed) == 0 {
        yield_now().await;
    }
    assert!(scene.store.create_new(&path("f"), b"new").await.unwrap());
    drop(held);
    assert_eq!(look.await.unwrap().unwrap_err().kind, StoreErrorKind::NotFound);
    assert_eq!(scene.store.stat(&path("f")).await.unwrap().size, 3);
}

#[tokio::test]
async fn a_listing_goes_on_when_nobody_waits_for_it() {
    let scene = Scene::remembering();
    for n in 0..400 {
        scene.put(&format!("f{n}"), b"x");
    }
    let control = &scene.counted.control;
    let held = control.held.write().await;
    let store = scene.store.clone();
    let impatient = tokio::spawn(async move { store.read_dir(&StorePath::root(), 0, 10).await.map(drop) });
    while control.lists.load(Relaxed) == 0 {
        yield_now().await;
    }
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    drop(held);
    assert_eq!(names(&*scene.store, "").await.len(), 400);
    assert_eq!(control.lists.load(Relaxed), 2, "two pages");
}

#[tokio::test]
async fn what_a_long_listing_says_of_a_name_is_as_old_as_its_beginning() {
    let ttl = Duration::from_secs(3);
    let scene = Scene::with("pre/fix/", Look { ttl, ..Look::default() });
    scene.put("f", b"x");
    let control = &scene.counted.control;
    let held = control.held.write().await;
    let store = scene.store.clone();
    let listing = tokio::spawn(async move { store.read_dir(&StorePath::root(), 0, 10).await.map(drop) });
    while control.lists.load(Relaxed) == 0 {
        yield_now().await;
    }
    scene.put("f", b"newer");
    tokio::time::sleep(ttl).await;
    drop(held);
    listing.await.unwrap().unwrap();
    assert_eq!(scene.store.stat(&path("f")).await.unwrap().size, 5);
    // The page behind it comes from the listing all the same.
    let lists = control.lists.load(Relaxed);
    scene.store.read_dir(&StorePath::root(), 1, 10).await.unwrap();
    assert_eq!(control.lists.load(Relaxed), lists);
}

#[tokio::test]
async fn what_is_remembered_does_not_show_that_a_server_is_there() {
    let scene = Scene::remembering();
    scene.put("f", b"x");
    scene.put("g", b"x");
    let file = scene.store.open(&path("f")).await.unwrap();
    assert!(file.try_stat().is_some());
    scene.counted.control.down.store(true, Relaxed);
    // While nothing was asked, nothing is known of it.
    scene.store.stat(&path("f")).await.unwrap();
    let is_away = async || {
        let answers = [
            scene.store.stat(&path("g")).await.map(drop),
            scene.store.stat(&StorePath::root()).await.map(drop),
            scene.store.stat(&path("f")).await.map(drop),
            scene.store.stat_fs().await.map(drop),
            file.stat().await.map(drop),
        ];
        let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind)).collect();
        assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
        kinds[0]
    };
    assert_eq!(is_away().await, Some(StoreErrorKind::Unavailable));
    assert!(file.try_stat().is_none());
    scene.counted.control.down.store(false, Relaxed);
    assert_eq!(is_away().await, None);
    assert!(file.try_stat().is_some());
}
