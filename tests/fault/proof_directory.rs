//! The proof directory over a store that its owner changes: what it shows, to whom, and what not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use nfs_verity::carrier::CarrierKind;
use nfs_verity::event::{Event, Sink};
use nfs_verity::export::{
    Attr, Caller, Export, ExportError, ExportOptions, FileHandle, HandleKey, Identity, Item, Kind,
    ProofDirectory, READ_MAX, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{Keyring, Revoked, RevokedItem, SigningKey};
use nfs_verity::store::{Memory, Store};
use nfs_verity::verity::HashAlgorithm;
use parking_lot::Mutex;

use super::scene::{Answer, caller, eventually, params, shared};
use super::support::{content, key_and_trust, seal};

const BIN: &[u8] = b"what is signed";

/// A store with signed and unsigned files, directories, links and special files.
struct Scene {
    memory: Memory,
    key: SigningKey,
    keyring: Keyring,
    shadowed: Arc<Shadowed>,
}

/// The names that were reported to be shadowed.
#[derive(Default)]
struct Shadowed(Mutex<Vec<String>>);

impl Sink for Shadowed {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Shadowed { name } = event {
            self.0.lock().push((*name).to_owned());
        }
    }
}

impl Scene {
    async fn new() -> Self {
        let (memory, (key, keyring)) = (Memory::new(), key_and_trust());
        let scene = Self { memory, key, keyring, shadowed: Arc::default() };
        scene.memory.put("dir/bin", BIN).unwrap();
        scene.sign("dir/bin", BIN).await;
        scene.memory.put("unsigned", b"by nobody").unwrap();
        scene.memory.put_dir("empty").unwrap();
        scene.memory.put_symlink("dir/link", b"bin").unwrap();
        scene.memory.put_special("fifo", Kind::Fifo).unwrap();
        scene
    }

    async fn sign(&self, path: &str, content: &[u8]) {
        seal(&shared(&self.memory), path, content, params(HashAlgorithm::Sha256, 1024, b""), &self.key).await;
    }

    async fn export(&self) -> Arc<Export> {
        self.with(ProofDirectory::default()).await
    }

    async fn named(&self, name: &str, listed: bool) -> Arc<Export> {
        self.with(ProofDirectory { name: name.parse().unwrap(), listed }).await
    }

    async fn with(&self, proof_directory: ProofDirectory) -> Arc<Export> {
        let store: Arc<dyn Store> = shared(&self.memory);
        let options = ExportOptions {
            store,
            replicas: Vec::new(),
            waits: false,
            repair: None,
            namespace: String::new(),
            carriers: vec![CarrierKind::Sidecar],
            whole_files: WholeFiles::default(),
            keyring: self.keyring.clone(),
            mode: Mode::Enforce,
            identity: Identity::default(),
            cache_bytes: 1 << 20,
            disk_cache: None,
            xattrs: Xattrs::default(),
            proof_directory,
            handle_key: HandleKey::new(&[7; 32]),
            sink: self.shadowed.clone(),
        };
        Arc::new(Export::new(options).await.unwrap())
    }
}

/// Looks `path` up from the root, name by name.
async fn find(export: &Export, path: &str) -> Answer<(FileHandle, Attr)> {
    find_as(export, path, &caller()).await
}

async fn find_as(export: &Export, path: &str, caller: &Caller) -> Answer<(FileHandle, Attr)> {
    let root = export.root();
    let mut found = (root, export.attributes(root.as_bytes(), caller).await?);
    for name in path.split('/') {
        found = export.lookup(found.0.as_bytes(), name.as_bytes(), caller).await?;
    }
    Ok(found)
}

async fn read(export: &Export, path: &str) -> Answer<Bytes> {
    let (handle, attr) = find(export, path).await?;
    let reply = export.read(handle.as_bytes(), 0, READ_MAX, &caller()).await?;
    assert!(reply.eof && !reply.data.is_verified(), "the gateway's word is not proven data");
    assert_eq!((u64::from(reply.data.len()), reply.attr.size), (attr.size, attr.size), "{path}");
    assert_eq!(reply.attr, attr, "{path}");
    Ok(reply.data.into_parts().concat().into())
}

/// The names in a directory with their numbers, listed `step` at a time.
async fn list(export: &Export, handle: &FileHandle, step: usize) -> Answer<BTreeMap<String, u64>> {
    let (mut names, mut cookie) = (BTreeMap::new(), 0);
    loop {
        let page = export.read_dir(handle.as_bytes(), cookie, step, &caller()).await?;
        assert!(page.entries.len() <= step);
        for item in page.entries {
            cookie = item.cookie;
            let name = String::from_utf8(item.name).unwrap();
            assert!(names.insert(name, item.fileid).is_none(), "a name came twice");
        }
        if page.end {
            return Ok(names);
        }
    }
}

fn words(names: &BTreeMap<String, u64>) -> Vec<&str> {
    names.keys().map(String::as_str).filter(|name| !matches!(*name, "." | "..")).collect()
}

#[tokio::test]
async fn the_tree_is_mirrored_without_links_special_files_and_evidence() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    for step in [1, 2, 100] {
        let (handle, attr) = find(&export, ".verity").await.unwrap();
        let top = list(&export, &handle, step).await.unwrap();
        assert_eq!(words(&top), ["dir", "empty", "unsigned"]);
        let root = export.attributes(export.root().as_bytes(), &caller()).await.unwrap();
        assert_eq!((top["."], top[".."]), (attr.fileid, root.fileid));
        let (handle, attr) = find(&export, ".verity/dir").await.unwrap();
        let dir = list(&export, &handle, step).await.unwrap();
        assert_eq!(words(&dir), ["bin"]);
        assert_eq!((dir["."], dir[".."]), (attr.fileid, top["."]));
        assert_eq!(attr.fileid, top["dir"]);
        let (handle, attr) = find(&export, ".verity/dir/bin").await.unwrap();
        let bin = list(&export, &handle, step).await.unwrap();
        assert_eq!((bin["."], bin[".."]), (attr.fileid, dir["."]));
        assert_eq!(attr.fileid, dir["bin"]);
        assert_eq!(words(&bin), ["descriptor", "digest", "signer", "statement", "status", "tree"]);
        for (name, fileid) in bin {
            assert_eq!(find(&export, &format!(".verity/dir/bin/{name}")).await.unwrap().1.fileid, fileid);
        }
        let (handle, _) = find(&export, ".verity/empty").await.unwrap();
        assert!(words(&list(&export, &handle, step).await.unwrap()).is_empty());
    }
    for hidden in [
        "dir/link",
        "fifo",
        ".nfs-verity",
        ".verity",
        "dir/none",
        "dir/bin/none",
        "dir/bin/signature",
        "none",
    ] {
        let found = find(&export, &format!(".verity/{hidden}")).await;
        assert_eq!(found.unwrap_err(), ExportError::NotFound, "{hidden}");
    }
    let found = find(&export, ".verity/dir/bin/status/x").await;
    assert_eq!(found.unwrap_err(), ExportError::NotADirectory);
    let found = find(&export, &format!(".verity/dir/bin/{}", "n".repeat(256))).await;
    assert_eq!(found.unwrap_err(), ExportError::NameTooLong);
}

#[tokio::test]
async fn each_item_is_the_extended_attribute_and_text_ends_its_line() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    let (bin, _) = find(&export, "dir/bin").await.unwrap();
    let mut seen = 0;
    for item in Item::ALL {
        let path = format!(".verity/dir/bin/{}", item.file_name());
        match export.get_xattr(bin.as_bytes(), item.xattr_name().as_bytes(), &caller()).await {
            Ok(value) => {
                let mut expected = value.to_vec();
                // The list of signers ends its lines already.
                if matches!(item, Item::Digest | Item::Status | Item::Tree) {
                    expected.push(b'\n');
                }
                assert_eq!(read(&export, &path).await.unwrap(), expected, "{item:?}");
                seen += 1;
            }
            Err(error) => {
                assert_eq!(error, ExportError::NoXattr);
                assert_eq!(find(&export, &path).await.unwrap_err(), ExportError::NotFound);
            }
        }
    }
    assert_eq!(seen, 6);
    assert_eq!(read(&export, ".verity/dir/bin/status").await.unwrap(), "verified\n");
    assert!(read(&export, ".verity/unsigned/status").await.unwrap().starts_with(b"unsigned"));
}

#[tokio::test]
async fn read_goes_by_offset_and_count() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    let (handle, attr) = find(&export, ".verity/dir/bin/status").await.unwrap();
    let whole = b"verified\n";
    for offset in [0, 3, 8, 9, 10, u64::MAX] {
        for count in [0, 1, 6, 9, 1000, u32::MAX] {
            let reply = export.read(handle.as_bytes(), offset, count, &caller()).await.unwrap();
            let rest = &whole[usize::try_from(offset).unwrap_or(9).min(9)..];
            let expected = &rest[..rest.len().min(count as usize)];
            assert_eq!(reply.data.into_parts().concat(), expected, "{count} at {offset}");
            assert_eq!(reply.eof, offset.saturating_add(expected.len() as u64) >= 9, "{count} at {offset}");
            assert_eq!(reply.attr, attr);
        }
    }
    for directory in [".verity", ".verity/dir", ".verity/dir/bin"] {
        let (handle, _) = find(&export, directory).await.unwrap();
        let read = export.read(handle.as_bytes(), 0, 10, &caller()).await;
        assert_eq!(read.unwrap_err(), ExportError::IsADirectory);
        assert_eq!(
            export.read_link(handle.as_bytes(), &caller()).await.unwrap_err(),
            ExportError::NotASymlink
        );
    }
}

#[tokio::test]
async fn it_has_no_extended_attributes_and_proves_nothing_of_itself() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    for path in [".verity", ".verity/dir/bin", ".verity/dir/bin/status"] {
        let (handle, _) = find(&export, path).await.unwrap();
        assert!(export.list_xattrs(handle.as_bytes(), &caller()).await.unwrap().is_empty());
        let value = export.get_xattr(handle.as_bytes(), b"verity.status", &caller()).await;
        assert_eq!(value.unwrap_err(), ExportError::NoXattr);
        let proof = export.proof(handle.as_bytes(), 0, 1, &caller()).await;
        let wanted = match path {
            ".verity/dir/bin/status" => ExportError::NotRegular,
            _ => ExportError::IsADirectory,
        };
        assert_eq!(proof.unwrap_err(), wanted);
    }
}

#[tokio::test]
async fn dots_lead_up_to_the_root_and_not_out_of_the_mirror_before() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    let top = find(&export, ".verity").await.unwrap();
    let root = export.root();
    for (path, same) in [
        (".verity/.", ".verity"),
        (".verity/dir/..", ".verity"),
        (".verity/dir/bin/..", ".verity/dir"),
        (".verity/dir/bin/.", ".verity/dir/bin"),
        (".verity/../.verity/dir/../dir", ".verity/dir"),
        (".verity/../dir/bin", "dir/bin"),
        ("dir/../.verity", ".verity"),
    ] {
        assert_eq!(find(&export, path).await.unwrap(), find(&export, same).await.unwrap(), "{path}");
        let absolute = format!("/{path}/");
        let resolved = export.resolve(absolute.as_bytes(), &caller()).await.unwrap();
        assert_eq!(resolved, find(&export, same).await.unwrap(), "{path}");
    }
    let (up, _) = export.lookup(top.0.as_bytes(), b"..", &caller()).await.unwrap();
    assert_eq!(up, root);
    let resolved = export.resolve(b"/.verity/dir/link", &caller()).await;
    assert_eq!(resolved.unwrap_err(), ExportError::NotFound);
}

#[tokio::test]
async fn it_is_hidden_listed_renamed_or_off_as_the_settings_say() {
    let scene = Scene::new().await;
    let hidden = scene.export().await;
    let names = ["dir", "empty", "fifo", "unsigned"];
    for step in 1..8 {
        assert_eq!(words(&list(&hidden, &hidden.root(), step).await.unwrap()), names);
    }
    let listed = scene.named(".proof", true).await;
    for step in 1..8 {
        let seen = list(&listed, &listed.root(), step).await.unwrap();
        assert_eq!(words(&seen), [&[".proof"], &names[..]].concat());
        assert_eq!(find(&listed, ".proof").await.unwrap().1.fileid, seen[".proof"]);
    }
    let described = listed.describe(listed.root().as_bytes(), &[b".proof".to_vec()], &caller()).await;
    assert_eq!(described[0], Some(find(&listed, ".proof").await.unwrap()));
    assert_eq!(find(&listed, ".verity").await.unwrap_err(), ExportError::NotFound);

    let off = scene.named("off", true).await;
    assert_eq!(words(&list(&off, &off.root(), 100).await.unwrap()), names);
    assert_eq!(find(&off, ".verity").await.unwrap_err(), ExportError::NotFound);
    assert!(off.resolve(b"/.verity", &caller()).await.is_err());
    // Handles from before it was switched off.
    let (status, _) = find(&hidden, ".verity/dir/bin/status").await.unwrap();
    assert_eq!(off.attributes(status.as_bytes(), &caller()).await.unwrap_err(), ExportError::Stale);
}

#[tokio::test]
async fn what_has_its_name_in_the_store_is_shadowed_and_reported() {
    let scene = Scene::new().await;
    drop(scene.export().await);
    assert!(scene.shadowed.0.lock().is_empty());
    scene.memory.put(".verity/dir/bin/status", b"verified, says the store\n").unwrap();
    scene.memory.put(".verity/own", b"x").unwrap();
    let export = scene.named(".verity", true).await;
    assert_eq!(*scene.shadowed.0.lock(), [".verity"]);
    assert_eq!(read(&export, ".verity/dir/bin/status").await.unwrap(), "verified\n");
    assert_eq!(find(&export, ".verity/own").await.unwrap_err(), ExportError::NotFound);
    assert_eq!(find(&export, ".verity/.verity").await.unwrap_err(), ExportError::NotFound);
    let names = list(&export, &export.root(), 2).await.unwrap();
    assert_eq!(words(&names), [".verity", "dir", "empty", "fifo", "unsigned"]);
    // Below the root it is a name like others.
    scene.memory.put("dir/.verity/file", b"x").unwrap();
    assert_eq!(find(&export, "dir/.verity/file").await.unwrap().1.size, 1);
    assert!(find(&export, ".verity/dir/.verity/file/status").await.is_ok());
}

#[tokio::test]
async fn handles_hold_after_a_restart_and_name_nothing_else() {
    let scene = Scene::new().await;
    let before = scene.export().await;
    let mut seen = Vec::new();
    for path in [
        "dir/bin",
        ".verity",
        ".verity/dir",
        ".verity/dir/bin",
        ".verity/dir/bin/status",
        ".verity/dir/bin/tree",
    ] {
        let (handle, attr) = find(&before, path).await.unwrap();
        let after = scene.export().await;
        assert_eq!(after.attributes(handle.as_bytes(), &caller()).await.unwrap(), attr, "{path}");
        assert!(!seen.contains(&handle) && !seen.iter().any(|other: &FileHandle| other == &handle));
        seen.push(handle);
        for at in 0..handle.as_bytes().len() {
            let mut changed = handle.as_bytes().to_vec();
            changed[at] ^= 1;
            let answer = after.attributes(&changed, &caller()).await;
            assert_eq!(answer.unwrap_err(), ExportError::BadHandle, "byte {at} of {path}");
        }
    }
    // The file is gone, and so is what was said of it.
    scene.memory.remove("dir/bin").unwrap();
    for handle in &seen[3..] {
        assert_eq!(before.attributes(handle.as_bytes(), &caller()).await.unwrap_err(), ExportError::Stale);
    }
    // Another file of this name is another object.
    scene.memory.put("dir/bin", BIN).unwrap();
    for handle in &seen[3..] {
        assert_eq!(before.attributes(handle.as_bytes(), &caller()).await.unwrap_err(), ExportError::Stale);
    }
}

#[tokio::test]
async fn who_may_not_read_a_file_may_not_read_what_is_said_of_it() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    let owner = caller();
    let mut other = caller();
    other.client.uid = Some(4000);
    other.client.gid = Some(4000);
    scene.memory.set_attr("dir/bin", 0o740, 1000, 1000).unwrap();
    let (file, attr) = find(&export, ".verity/dir/bin/status").await.unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o440, 1000, 1000));
    let (directory, attr) = find(&export, ".verity/dir/bin").await.unwrap();
    assert_eq!((attr.kind, attr.mode, attr.uid, attr.gid), (Kind::Directory, 0o550, 1000, 1000));
    assert!(export.access(file.as_bytes(), &owner).await.unwrap().0.read);
    let granted = export.access(directory.as_bytes(), &owner).await.unwrap().0;
    assert!(granted.read && granted.lookup && !granted.execute);

    let granted = export.access(file.as_bytes(), &other).await.unwrap().0;
    assert!(!granted.read && !granted.execute);
    let granted = export.access(directory.as_bytes(), &other).await.unwrap().0;
    assert!(!granted.read && !granted.lookup);
    let read = export.read(file.as_bytes(), 0, 10, &other).await;
    assert_eq!(read.unwrap_err(), ExportError::Permission);
    let listed = export.read_dir(directory.as_bytes(), 0, 10, &other).await;
    assert_eq!(listed.unwrap_err(), ExportError::Permission);
    let found = export.lookup(directory.as_bytes(), b"status", &other).await;
    assert_eq!(found.unwrap_err(), ExportError::Permission);
    let described = export.describe(directory.as_bytes(), &[b"status".to_vec()], &other).await;
    assert_eq!(described, [None]);

    // Nor walk through a directory that is closed to them.
    scene.memory.set_attr("dir", 0o700, 1000, 1000).unwrap();
    let (_, attr) = find(&export, ".verity/dir").await.unwrap();
    assert_eq!(attr.mode, 0o500);
    let found = find_as(&export, ".verity/dir/bin", &other).await;
    assert_eq!(found.unwrap_err(), ExportError::Permission);
    let (_, attr) = find(&export, ".verity").await.unwrap();
    assert_eq!(attr.mode & 0o222, 0, "nobody writes");
}

#[tokio::test]
async fn a_new_verdict_is_a_new_file_for_who_has_the_old_one_in_a_cache() {
    let scene = Scene::new().await;
    let export = scene.export().await;
    let look = async || {
        let (_, file) = find(&export, ".verity/dir/bin/status").await.unwrap();
        let (_, directory) = find(&export, ".verity/dir/bin").await.unwrap();
        [file, directory]
    };
    let moved = |before: [Attr; 2], after: [Attr; 2]| {
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(before.change, after.change);
            assert_ne!(before.mtime, after.mtime, "{:?}", before.kind);
            assert_ne!(before.ctime, after.ctime, "{:?}", before.kind);
            assert_eq!(before.fileid, after.fileid);
        }
    };
    let verified = look().await;
    assert_eq!(look().await, verified, "nothing happened");
    let restarted = scene.export().await;
    let (_, same) = find(&restarted, ".verity/dir/bin/status").await.unwrap();
    assert_eq!(same, verified[0], "after a restart");

    let mut list_of_revoked = Revoked::default();
    list_of_revoked.add(RevokedItem::Key(scene.key.public_key().key_id()), "revoked.txt:1");
    export.set_revoked(&list_of_revoked);
    let revoked = look().await;
    moved(verified, revoked);
    assert!(read(&export, ".verity/dir/bin/status").await.unwrap().starts_with(b"revoked"));

    export.set_revoked(&Revoked::default());
    assert_eq!(read(&export, ".verity/dir/bin/status").await.unwrap(), "verified\n");
    assert_eq!(look().await, verified);

    scene.memory.mutate(".nfs-verity/dir/bin", |bytes| bytes.truncate(100)).unwrap();
    eventually("the damage is seen", async || {
        read(&export, ".verity/dir/bin/status").await.unwrap().starts_with(b"malformed-evidence")
    })
    .await;
    moved(verified, look().await);
    let (handle, _) = find(&export, ".verity/dir/bin").await.unwrap();
    assert!(words(&list(&export, &handle, 10).await.unwrap()).contains(&"status"));

    scene.sign("dir/bin", BIN).await;
    eventually("it is signed again", async || {
        read(&export, ".verity/dir/bin/status").await.unwrap() == "verified\n"
    })
    .await;
}

#[tokio::test]
async fn a_directory_of_nothing_but_links_is_empty_and_one_among_many_is_found() {
    let scene = Scene::new().await;
    for n in 0..5000 {
        scene.memory.put_symlink(format!("links/{n}"), b"x").unwrap();
    }
    let export = scene.export().await;
    let (handle, _) = find(&export, ".verity/links").await.unwrap();
    assert!(words(&list(&export, &handle, 3).await.unwrap()).is_empty());
    scene.memory.put("links/file", &content(1, 10)).unwrap();
    assert_eq!(words(&list(&export, &handle, 3).await.unwrap()), ["file"]);
}
