//! Several who read at the same time.

use super::scene::Scene;
use super::tests::{bytes, path};

fn fetched(scene: &Scene) -> u64 {
    scene.counted.reads.lock().iter().map(|range| range.end - range.start).sum()
}

#[tokio::test]
async fn several_who_read_on_fetch_no_byte_twice() {
    let scene = Scene::remembering();
    let (content, step) = (bytes(14_000_001), 65536);
    for n in 0..8 {
        scene.put(&format!("f{n}"), &content);
    }
    let mut files = Vec::new();
    for n in 0..8 {
        files.push(scene.store.open(&path(format!("f{n}"))).await.unwrap());
    }
    for at in (0..content.len()).step_by(step) {
        for file in &files {
            let right = &content[at..content.len().min(at + step)];
            assert!(file.read_at(at as u64, step).await.unwrap() == right, "{at}");
        }
    }
    let fetched = fetched(&scene);
    // The first read of each shows nothing yet of what follows.
    assert!(fetched <= 8 * (14_000_001 + 65536), "{fetched}");
}

#[tokio::test]
async fn small_files_do_not_take_what_was_fetched_for_who_reads_on() {
    let scene = Scene::remembering();
    let content = bytes(30_000_000);
    scene.put("large", &content);
    for n in 0..500 {
        scene.put(&format!("small{n}"), b"small");
    }
    let large = scene.store.open(&path("large")).await.unwrap();
    let mut small = Vec::new();
    for (n, at) in (0..content.len()).step_by(65536).enumerate() {
        assert!(large.read_at(at as u64, 65536).await.unwrap() == content[at..content.len().min(at + 65536)]);
        let file = scene.store.open(&path(format!("small{n}"))).await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap().as_ref(), b"small");
        small.push(file);
    }
    scene.counted.reads.lock().retain(|range| range.end != u64::MAX);
    let fetched = fetched(&scene);
    assert!(fetched <= 30_000_000 + 65536, "{fetched}");
}

#[tokio::test]
async fn pieces_are_what_was_read_whatever_lies_between_them() {
    let scene = Scene::remembering();
    let content = bytes(5_000_000);
    scene.put("f", &content);
    let file = scene.store.open(&path("f")).await.unwrap();
    for (at, len, piece) in [
        (3_000_000, 500, 100),
        (0, 65536, 65536),
        (65536, 2_000_000, 65536),
        (1_048_000, 1000, 7),
        (4_900_000, 1_000_000, 65536),
        (5_000_000, 10, 10),
    ] {
        let right = &content[at..content.len().min(at + len)];
        let pieces = file.read_pieces(at as u64, len, piece).await.unwrap();
        assert!(pieces.iter().rev().skip(1).all(|bytes| bytes.len() == piece));
        assert!(pieces.concat() == right, "{at} {len} {piece}");
    }
}
