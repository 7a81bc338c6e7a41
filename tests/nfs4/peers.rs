//! A client that others wrote: the crate nfs-rs, over both minor versions.

use std::sync::Arc;

use nfs_rs::{Mount, OPEN_READ, parse_url_and_mount};
use tokio::runtime::Runtime;

use super::scene::{BAD_BLOCK, BIG, HELLO, Scene};
use super::support::content;

async fn mounted(scene: &Scene, version: &str) -> Arc<dyn Mount> {
    let port = scene.gateway.nfs.port();
    let options = "noresvport=true&uid=1000&gid=1000";
    let url = format!("nfs://127.0.0.1/?version={version}&{options}&nfsport={port}");
    Arc::from(parse_url_and_mount(&url).await.unwrap())
}

#[test]
fn nfs_rs_lists_stats_and_reads() {
    let scene = Scene::new();
    Runtime::new().unwrap().block_on(async {
        for version in ["4.1", "4.2"] {
            let mount = mounted(&scene, version).await;
            for (path, bytes) in
                [("/hello", HELLO.to_vec()), ("/big", content(1, BIG)), ("/empty", Vec::new())]
            {
                let attr = mount.getattr_path(path).await.unwrap();
                assert_eq!((attr.type_, attr.filesize), (1, bytes.len() as u64), "{path} over {version}");
                let file = mount.open_path(path, OPEN_READ).await.unwrap();
                let mut read = Vec::new();
                while read.len() < bytes.len() {
                    let piece = mount.read(file.fh.clone(), read.len() as u64, 65_536).await.unwrap();
                    assert!(!piece.is_empty());
                    read.extend_from_slice(&piece);
                }
                assert!(read == bytes, "{path} over {version}");
                mount.close(file.fh).await.unwrap();
            }
            assert_eq!(mount.readlink_path("/link").await.unwrap(), "dir/a");
            let directory = mount.lookup_path("/many").await.unwrap().fh;
            let (mut names, mut position) =
                (std::collections::BTreeSet::new(), nfs_rs::DirectoryCookie::default());
            loop {
                let page = mount.readdirplus_page(directory.clone(), position).await.unwrap();
                for entry in page.entries {
                    assert!(names.insert(entry.file_name), "a name came twice");
                }
                if page.eof {
                    break;
                }
                position = page.next;
            }
            assert_eq!(names.len(), super::scene::MANY);
            mount.umount().await.unwrap();
        }
    });
}

#[test]
fn nfs_rs_gets_an_error_for_a_damaged_block_and_the_others() {
    let scene = Scene::new();
    let good = content(2, BIG);
    Runtime::new().unwrap().block_on(async {
        for version in ["4.1", "4.2"] {
            let mount = mounted(&scene, version).await;
            let file = mount.open_path("/bad", OPEN_READ).await.unwrap();
            for block in [0, BAD_BLOCK - 1, BAD_BLOCK, BAD_BLOCK + 1] {
                match mount.read(file.fh.clone(), (block * 4096) as u64, 4096).await {
                    Ok(data) => {
                        assert!(block != BAD_BLOCK && data == good[block * 4096..][..4096], "{block}")
                    }
                    Err(error) => assert!(block == BAD_BLOCK, "{block}: {error}"),
                }
            }
            mount.close(file.fh).await.unwrap();
            assert!(mount.open_path("/unsigned", OPEN_READ).await.is_err());
            mount.umount().await.unwrap();
        }
    });
}

#[test]
fn nfs_rs_sees_the_proof_as_extended_attributes() {
    let scene = Scene::new();
    Runtime::new().unwrap().block_on(async {
        let mount = mounted(&scene, "4.2").await;
        let file = mount.lookup_path("/hello").await.unwrap().fh;
        let names = mount.listxattr(file.clone()).await.unwrap();
        for name in ["verity.digest", "verity.descriptor", "verity.statement", "verity.status"] {
            assert!(names.iter().any(|of| of == name), "{name} is not in {names:?}");
        }
        assert_eq!(mount.getxattr(file.clone(), "verity.status").await.unwrap()[..], b"verified"[..]);
        let descriptor = mount.getxattr(file.clone(), "verity.descriptor").await.unwrap();
        let bundle = std::fs::read(scene.site.evidence("hello")).unwrap();
        assert!(bundle.windows(256).any(|bytes| bytes == &descriptor[..]), "as it is in the store");
        let statement = mount.getxattr(file.clone(), "verity.statement").await.unwrap();
        assert!(bundle.windows(statement.len()).any(|bytes| bytes == &statement[..]));
        assert!(mount.getxattr(file.clone(), "none").await.is_err());
        assert!(mount.setxattr(file.clone(), "new", bytes::Bytes::from_static(b"x")).await.is_err());
        assert!(mount.removexattr(file, "verity.status").await.is_err());
        mount.umount().await.unwrap();
    });
}
