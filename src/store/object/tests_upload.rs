//! Uploads that come too late, and in parts that take their time.

use std::sync::atomic::Ordering::Relaxed;

use tokio::task::yield_now;

use super::scene::Scene;
use super::tests::{bytes, path};
use super::*;

async fn large(scene: &Scene) -> Box<dyn StoreWriter> {
    let mut writer = scene.store.create(&path("f"), &path("scratch")).await.unwrap();
    writer.write_at(0, &bytes(20_000_000)).await.unwrap();
    writer
}

#[tokio::test(start_paused = true)]
async fn parts_have_the_time_that_their_size_takes() {
    let scene = Scene::remembering();
    *scene.counted.control.part_takes.lock() = Duration::from_secs(60);
    large(&scene).await.commit().await.unwrap();
    assert_eq!(scene.store.stat(&path("f")).await.unwrap().size, 20_000_000);
    assert_eq!(scene.counted.control.given_up.load(Relaxed), 0);
    // But not for ever.
    *scene.counted.control.part_takes.lock() = Duration::from_secs(600);
    let error = large(&scene).await.commit().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert_eq!(scene.counted.control.given_up.load(Relaxed), 1);
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_is_given_up() {
    let scene = Scene::remembering();
    let control = &scene.counted.control;
    *control.part_takes.lock() = Duration::from_secs(3600);
    let commit = tokio::spawn(large(&scene).await.commit());
    while control.parts.load(Relaxed) == 0 {
        yield_now().await;
    }
    commit.abort();
    assert!(commit.await.unwrap_err().is_cancelled());
    for _ in 0..1000 {
        yield_now().await;
    }
    assert_eq!(control.given_up.load(Relaxed), 1);
    assert!(scene.store.stat(&path("f")).await.is_err());
}

#[tokio::test]
async fn what_is_newer_is_not_replaced_whatever_its_name_says() {
    let scene = Scene::new();
    scene.put("NotImplemented", b"old");
    let at = path("NotImplemented");
    let mut writer = scene.store.create(&at, &path("scratch")).await.unwrap();
    writer.write_at(0, b"mine").await.unwrap();
    writer.prepare().await.unwrap();
    scene.put("NotImplemented", b"newer");
    assert_eq!(writer.commit().await.unwrap_err().kind, StoreErrorKind::Stale);
    assert_eq!(scene.store.open(&at).await.unwrap().read_at(0, 9).await.unwrap(), b"newer"[..]);
}
