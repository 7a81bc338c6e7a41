//! Clients that others wrote read a served tree: Debian's libnfs tools, and the crate nfs-rs.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;

use nfs_rs::{DirectoryCookie, Mount, Nfs3ErrorCode, NfsError, parse_url_and_mount};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::support::{Random, Served, Site, content};

const SIZES: [usize; 8] = [0, 1, 4095, 4096, 4097, 65_537, 1 << 20, 5_000_003];
/// The size of the file in which a block is damaged, and that block.
const DAMAGED: usize = 3_000_000;
const BAD_BLOCK: usize = 500;

/// A signed tree with files of [`SIZES`] in the root and in `dir/below`, and one file damaged since.
fn site() -> Site {
    let site = Site::new();
    for size in SIZES {
        site.put(format!("{size}"), &content(size as u64, size));
        site.put(format!("dir/below/{size}"), &content(size as u64, size));
    }
    let mut bytes = content(DAMAGED as u64, DAMAGED);
    site.put("dir/damaged", &bytes);
    std::os::unix::fs::symlink("below/4096", site.tree().join("dir/link")).unwrap();
    site.sign(&[]);
    bytes[BAD_BLOCK * 4096] ^= 1;
    site.put("dir/damaged", &bytes);
    site
}

/// The files of [`site`] with their sizes, below `directory`.
fn files(directory: &str) -> BTreeMap<String, u64> {
    let sized = |prefix: &'static str| SIZES.map(|size| (format!("{prefix}{size}"), size as u64));
    let damaged = ("dir/damaged".to_owned(), DAMAGED as u64);
    let all = sized("").into_iter().chain(sized("dir/below/")).chain([damaged]);
    all.filter_map(|(path, size)| Some((path.strip_prefix(directory)?.to_owned(), size))).collect()
}

/// How libnfs names a path. With a single slash it would mount the empty path for a file in the root.
fn url(gateway: &Served, path: &str) -> String {
    let port = gateway.nfs.port();
    format!("nfs://127.0.0.1//{path}?version=3&nfsport={port}&mountport={port}")
}

fn run(tool: &str, args: &[&str]) -> Output {
    let output = Command::new(tool).args(args).output();
    output.unwrap_or_else(|error| panic!("{tool}: {error}; tests/install gets it"))
}

/// Sizes of files by their paths, out of what `nfs-ls` prints.
fn listed(output: &Output) -> BTreeMap<String, u64> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let files = text.lines().filter(|line| line.starts_with('-')).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5].trim_start_matches('/').to_owned(), words[4].parse().unwrap())
    });
    files.collect()
}

#[test]
fn libnfs_lists_names_and_sizes() {
    let site = site();
    let gateway = site.serve(&[]);
    let list = |args: &[&str]| listed(&run("nfs-ls", args));
    assert_eq!(list(&["-R", &url(&gateway, "")]), files(""));
    assert_eq!(list(&[&url(&gateway, "dir/below")]), files("dir/below/"));
}

#[test]
fn libnfs_reads_files_as_they_are() {
    let site = site();
    let gateway = site.serve(&[]);
    let copy = site.path("copy");
    for (size, directory) in SIZES.iter().flat_map(|size| [(size, ""), (size, "dir/below/")]) {
        let (path, expected) = (url(&gateway, &format!("{directory}{size}")), content(*size as u64, *size));
        let cat = run("nfs-cat", &[&path]);
        assert!(cat.status.success() && cat.stderr.is_empty(), "{path}: {:?}", cat.status);
        assert!(cat.stdout == expected, "nfs-cat {path}");
        let cp = run("nfs-cp", &[&path, copy.to_str().unwrap()]);
        assert!(cp.status.success(), "{cp:?}");
        assert!(std::fs::read(&copy).unwrap() == expected, "nfs-cp {path}");
        std::fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn libnfs_cannot_read_what_is_damaged_nor_write() {
    let site = site();
    let gateway = site.serve(&[]);
    let cat = run("nfs-cat", &[&url(&gateway, "dir/damaged")]);
    assert!(!cat.status.success(), "a damaged file was read");
    assert!(content(DAMAGED as u64, DAMAGED)[..BAD_BLOCK * 4096].starts_with(&cat.stdout));

    std::fs::write(site.path("new"), b"new").unwrap();
    for target in ["new", "dir/below/4096"] {
        let cp = run("nfs-cp", &[site.path("new").to_str().unwrap(), &url(&gateway, target)]);
        assert!(!cp.status.success(), "{target} was written");
    }
    assert!(!site.tree().join("new").exists());
    assert!(std::fs::read(site.tree().join("dir/below/4096")).unwrap() == content(4096, 4096));
}

/// Mounts with nfs-rs.
async fn mounted(gateway: &Served) -> Arc<dyn Mount> {
    let port = gateway.nfs.port();
    let options = "version=3&noresvport=true&uid=1000&gid=1000";
    let url = format!("nfs://127.0.0.1/?{options}&nfsport={port}&mountport={port}");
    Arc::from(parse_url_and_mount(&url).await.unwrap())
}

/// The files of a directory with their sizes.
async fn list(mount: &dyn Mount, path: &str) -> BTreeMap<String, u64> {
    let directory = mount.lookup_path(path).await.unwrap().fh;
    let (mut files, mut position) = (BTreeMap::new(), DirectoryCookie::default());
    loop {
        let page = mount.readdirplus_page(directory.clone(), position).await.unwrap();
        for entry in page.entries {
            let attr = entry.attr.unwrap();
            if attr.type_ == 1 {
                assert!(files.insert(entry.file_name, attr.filesize).is_none(), "a name came twice");
            }
        }
        if page.eof {
            return files;
        }
        position = page.next;
    }
}

#[test]
fn nfs_rs_lists_and_stats() {
    let site = site();
    let gateway = site.serve(&[]);
    Runtime::new().unwrap().block_on(async {
        let mount = mounted(&gateway).await;
        assert_eq!(list(&*mount, "/dir/below").await, files("dir/below/"));
        for (path, size) in files("") {
            let attr = mount.getattr_path(&format!("/{path}")).await.unwrap();
            assert_eq!((attr.type_, attr.filesize), (1, size), "{path}");
        }
        assert_eq!(mount.readlink_path("/dir/link").await.unwrap(), "below/4096");
        assert_eq!(mount.get_max_read_size(), 1 << 20);
        mount.umount().await.unwrap();
    });
}

#[test]
fn nfs_rs_reads_many_pieces_at_once() {
    const READS: u64 = 1000;
    let site = site();
    let gateway = site.serve(&[]);
    Runtime::new().unwrap().block_on(async {
        let (mount, mut reads, mut random) = (mounted(&gateway).await, JoinSet::new(), Random::new(1));
        for _ in 0..READS {
            let size = SIZES[random.below(SIZES.len() as u64) as usize];
            let offset = random.below(size as u64 + 1);
            let count = 1 + random.below(300_000) as u32;
            let mount = mount.clone();
            reads.spawn(async move {
                let read = mount.read_path(&format!("/dir/below/{size}"), offset, count).await;
                (size, offset as usize, count as usize, read)
            });
        }
        let contents = SIZES.map(|size| (size, content(size as u64, size)));
        let contents: BTreeMap<usize, Vec<u8>> = contents.into();
        while let Some(read) = reads.join_next().await {
            let (size, offset, count, data) = read.unwrap();
            let end = size.min(offset + count);
            assert!(data.unwrap() == contents[&size][offset..end], "{count} bytes at {offset} of {size}");
        }
    });
}

#[test]
fn nfs_rs_gets_an_error_for_a_damaged_block_and_the_others() {
    let site = site();
    let gateway = site.serve(&[]);
    let good = content(DAMAGED as u64, DAMAGED);
    Runtime::new().unwrap().block_on(async {
        let mount = mounted(&gateway).await;
        let file = mount.lookup_path("/dir/damaged").await.unwrap().fh;
        for block in [0, BAD_BLOCK - 1, BAD_BLOCK, BAD_BLOCK + 1] {
            let read = mount.read(file.clone(), (block * 4096) as u64, 4096).await;
            match read {
                Ok(data) if block != BAD_BLOCK => assert!(data == good[block * 4096..][..4096], "{block}"),
                Err(NfsError::Nfs3(Nfs3ErrorCode::NFS3ERR_IO)) if block == BAD_BLOCK => {}
                other => panic!("block {block}: {:?}", other.map(|data| data.len())),
            }
        }
    });
}
