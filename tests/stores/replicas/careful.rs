//! What a repair leaves alone: what is newer, what is of another version, what was removed, and rights.

use nfs_verity::export::Mended;

use super::super::scene::evidence;
use super::repair::{file, mender};
use super::{FILE, Scene};

#[tokio::test]
async fn evidence_of_a_later_release_is_left() {
    let scene = Scene::new().await;
    scene.memory[0].mutate(evidence(FILE), |bytes| bytes[8] += 1).unwrap();
    scene.memory[0].mutate(FILE, |bytes| bytes[70_000] ^= 1).unwrap();
    let before = (scene.memory[0].bytes(FILE), scene.memory[0].bytes(evidence(FILE)));
    let mended = mender(&scene).await.export.repair(&file()).await;
    assert!(matches!(&mended[0], Mended::Left { reason } if reason.contains("later release")), "{mended:?}");
    assert!((scene.memory[0].bytes(FILE), scene.memory[0].bytes(evidence(FILE))) == before);
}
