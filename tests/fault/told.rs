//! What the gateway tells of a file's proof in extended attributes, and the store's own beside them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nfs_verity::carrier::{
    BUNDLE_XATTR, Carrier, CarrierKind, Evidence, SECURITY_IMA, Sidecar, USER_IMA, bundle::tree_offset,
};
use nfs_verity::config::load_keyring;
use nfs_verity::export::{Caller, ExportError, FileHandle, Item, Xattrs};
use nfs_verity::policy::Mode;
use nfs_verity::sign::{FormatSet, Keyring, certificate_to_pem};
use nfs_verity::store::{Local, Memory, Store};
use nfs_verity::verity::{Descriptor, Params, reference};

use super::scene::{Answer, Gate, caller, shared, small_blocks, within};
use super::support::{Site, content, key_and_trust, nfs_verity, seal};
use super::versions::{How, Plan, Signer, parsed, placed};

/// All formats that count in a gateway.
pub fn every_format() -> FormatSet {
    "native,fsverity,ima-v3,ima-v2".parse().unwrap()
}

impl Gate {
    /// The names of a file's extended attributes.
    pub async fn names(&self, handle: &FileHandle) -> Answer<Vec<String>> {
        let names = within(self.export.list_xattrs(handle.as_bytes(), &caller())).await?;
        Ok(names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect())
    }

    /// The value of an extended attribute.
    pub async fn value(&self, handle: &FileHandle, name: &str) -> Answer<Bytes> {
        within(self.export.get_xattr(handle.as_bytes(), name.as_bytes(), &caller())).await
    }

    /// A value that is text.
    pub async fn text(&self, handle: &FileHandle, name: &str) -> String {
        String::from_utf8(self.value(handle, name).await.unwrap().to_vec()).unwrap()
    }
}

/// Puts `evidence` with its tree where the sidecar has it.
pub async fn put(store: &Memory, path: &str, evidence: &Evidence, tree: &[u8]) {
    let at = parsed(path);
    let mut writer = Sidecar::new(shared(store)).create(&at, tree_offset(evidence, 0)).await.unwrap();
    writer.push(0, tree);
    writer.commit(evidence).await.unwrap();
}

/// A plan for a small file `f`.
fn plan(formats: &str) -> Plan {
    Plan { path: "f".into(), how: How::Xattr, formats: formats.parse().unwrap(), params: small_blocks() }
}

/// Those of [`Item::ALL`] that are named, in their order.
fn named(items: &[Item]) -> Vec<String> {
    let all = Item::ALL.into_iter().filter(|item| items.contains(item));
    all.map(|item| item.xattr_name().to_owned()).collect()
}

const OF_DESCRIPTOR: [Item; 3] = [Item::Digest, Item::Descriptor, Item::Tree];

#[tokio::test]
async fn every_part_of_the_evidence_is_told_and_what_counted_comes_first() {
    let (good, stranger) = (Signer::new("good"), Signer::new("stranger"));
    let data = content(1, 5000);
    let mine = good.sign(&plan("native,fsverity,ima-v3"), data.clone(), None).await;
    let theirs = stranger.sign(&plan("fsverity,ima-v2,ima-v3"), data.clone(), None).await;
    let mut evidence = mine.evidence.clone();
    evidence.pkcs7.insert(0, theirs.evidence.pkcs7[0].clone());
    evidence.ima = [&theirs.evidence.ima[..], &mine.evidence.ima].concat();
    for signer in [&good, &stranger] {
        evidence.certificates.push(Bytes::copy_from_slice(signer.certificate.der()));
    }
    let store = Memory::new();
    store.put("f", &data).unwrap();
    put(&store, "f", &evidence, &mine.tree).await;

    let keyring = Keyring::new(vec![good.trusted("good key")]).with_formats(every_format());
    let gate = Gate::new(shared(&store), &keyring).await;
    let (file, _) = gate.find("f").await.unwrap();
    assert_eq!(gate.names(&file).await.unwrap(), named(&Item::ALL));
    assert_eq!(gate.value(&file, "verity.descriptor").await.unwrap(), mine.descriptor.encode()[..]);
    assert_eq!(gate.text(&file, "verity.digest").await, mine.descriptor.file_digest().to_string());
    assert_eq!(gate.value(&file, "verity.statement").await.unwrap(), mine.evidence.statement.unwrap());
    assert_eq!(gate.value(&file, "verity.signature").await.unwrap(), mine.evidence.pkcs7[0]);
    let verity = mine.evidence.ima.iter().find(|value| value[0] == 6).unwrap();
    assert_eq!(gate.value(&file, "ima").await.unwrap(), verity);
    assert_eq!(gate.text(&file, "verity.status").await, "verified");
    let id = good.key.public_key().key_id();
    let signers = ["native", "fsverity", "ima-v3"].map(|format| format!("{id} {format} good key\n"));
    assert_eq!(gate.text(&file, "verity.signer").await, signers.concat());
    let tree = format!(
        "algorithm=sha256 block_size=1024 salt= levels=1 tree_bytes=1024 data_bytes=5000 data_blocks=5 root_hash={}",
        mine.descriptor.root_hash,
    );
    assert_eq!(gate.text(&file, "verity.tree").await, tree);
    let pem = gate.text(&file, "verity.certificates").await;
    let blocks: Vec<_> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let read = |block: &&str| nfs_verity::sign::Certificate::from_pem(block.as_bytes()).unwrap();
    let read: Vec<_> = blocks.iter().map(read).collect();
    assert_eq!(read, [good.certificate.clone(), stranger.certificate.clone()]);

    // Nothing counts any more: what there is is told all the same, the first of several.
    gate.export.set_keyring(Keyring::new(Vec::new()).with_formats(every_format()));
    let names = gate.names(&file).await.unwrap();
    let all_but_signer: Vec<_> = Item::ALL.into_iter().filter(|item| *item != Item::Signer).collect();
    assert_eq!(names, named(&all_but_signer));
    assert_eq!(gate.value(&file, "verity.signer").await, Err(ExportError::NoXattr));
    assert_eq!(gate.value(&file, "verity.signature").await.unwrap(), theirs.evidence.pkcs7[0]);
    assert_eq!(gate.value(&file, "ima").await.unwrap(), theirs.evidence.ima[0]);
    assert_eq!(gate.text(&file, "verity.digest").await, mine.descriptor.file_digest().to_string());
    let status = gate.text(&file, "verity.status").await;
    assert!(status.starts_with("key-limits: "), "{status}");
    let access = gate.access(&file).await.unwrap();
    assert!(access.xattrs && !access.read, "{access:?}");
}

#[tokio::test]
async fn a_file_signed_as_a_whole_tells_what_hashing_it_tells() {
    let signer = Signer::new("whole");
    let data = content(2, 9000);
    let signed = signer.sign(&plan("ima-v3,ima-v2"), data.clone(), None).await;
    let of = |kind| signed.evidence.ima.iter().find(|value| value[0] == kind).unwrap();
    let (of_tree, of_file) = (of(6), of(3));
    let (store, other) = (Memory::new(), data[1..].to_vec());
    for (path, content) in [("f", &data), ("g", &other)] {
        store.put(path, content).unwrap();
        let file = store.open(&parsed(path)).await.unwrap();
        file.set_xattr(SECURITY_IMA, of_tree).await.unwrap();
        file.set_xattr(USER_IMA, of_file).await.unwrap();
    }
    let keyring = Keyring::new(vec![signer.trusted("whole")]).with_formats("ima-v2".parse().unwrap());
    let gate = Gate::with(shared(&store), &keyring, |options| options.carriers = vec![CarrierKind::Xattr]);
    let gate = gate.await.unwrap();
    let (file, unhashed) = gate.find("f").await.unwrap();
    let wanted = [&OF_DESCRIPTOR[..], &[Item::Signer, Item::Status, Item::Ima]].concat();
    assert_eq!(gate.names(&file).await.unwrap(), named(&wanted));
    assert_eq!(gate.attributes(&file).await.unwrap(), unhashed, "a listing hashes nothing");
    assert_eq!(gate.text(&file, "verity.status").await, "verified");
    assert_ne!(gate.attributes(&file).await.unwrap().change, unhashed.change);
    assert_eq!(gate.names(&file).await.unwrap(), named(&wanted));
    // What evmctl can check on a mount, though it is not the first.
    assert_eq!(gate.value(&file, "ima").await.unwrap(), of_file);
    let params = Params::default();
    let root_hash = reference::root_and_tree(&data, &params).0;
    let digest = Descriptor { params, size: data.len() as u64, root_hash }.file_digest();
    assert_eq!(gate.text(&file, "verity.digest").await, digest.to_string());
    assert_eq!(gate.value(&file, "verity.statement").await, Err(ExportError::NoXattr));

    // The same signature on other content.
    let (file, _) = gate.find("g").await.unwrap();
    let status = gate.text(&file, "verity.status").await;
    assert!(status.starts_with("key-limits: "), "{status}");
    assert_eq!(gate.names(&file).await.unwrap(), named(&[Item::Status, Item::Ima]));
}

#[tokio::test]
async fn what_is_not_there_is_neither_named_nor_told() {
    let (key, keyring) = key_and_trust();
    let (store, data) = (Memory::new(), content(3, 3000));
    for path in ["signed", "unsigned", "torn", "d/longer"] {
        store.put(path, &data).unwrap();
        if path != "unsigned" {
            seal(&shared(&store), path, &data, small_blocks(), &key).await;
        }
    }
    store.mutate(".nfs-verity/torn", |bundle| bundle.truncate(100)).unwrap();
    store.mutate("d/longer", |content| content.push(b'x')).unwrap();
    store.put_symlink("link", b"signed").unwrap();
    let gate = Gate::new(shared(&store), &keyring).await;
    let native = [&OF_DESCRIPTOR[..], &[Item::Signer, Item::Statement, Item::Status]].concat();
    for (path, items, status) in [
        ("signed", &native[..], "verified"),
        ("unsigned", &[Item::Status], "unsigned: "),
        ("torn", &[Item::Status], "malformed-evidence: "),
        ("d/longer", &native, "wrong-size: "),
    ] {
        let (file, _) = gate.find(path).await.unwrap();
        assert_eq!(gate.names(&file).await.unwrap(), named(items), "{path}");
        for item in Item::ALL {
            let value = gate.value(&file, item.xattr_name()).await;
            match items.contains(&item) {
                true => assert!(!value.unwrap().is_empty(), "{path} {item:?}"),
                false => assert_eq!(value, Err(ExportError::NoXattr), "{path} {item:?}"),
            }
        }
        let told = gate.text(&file, "verity.status").await;
        assert!(told.starts_with(status) && !told.contains(char::is_control), "{path}: {told}");
    }
    for path in ["d", "link"] {
        let (object, _) = gate.find(path).await.unwrap();
        assert_eq!(gate.names(&object).await.unwrap(), [""; 0], "{path}");
        assert_eq!(gate.value(&object, "verity.status").await, Err(ExportError::NoXattr), "{path}");
    }
    let (file, _) = gate.find("signed").await.unwrap();
    for (name, error) in [
        (String::new(), ExportError::InvalidName),
        ("a\0b".into(), ExportError::InvalidName),
        ("x".repeat(251), ExportError::NameTooLong),
        ("x".repeat(250), ExportError::NoXattr),
        ("verity.nothing".into(), ExportError::NoXattr),
        ("user.verity.status".into(), ExportError::NoXattr),
        ("Verity.status".into(), ExportError::NoXattr),
    ] {
        assert_eq!(gate.value(&file, &name).await, Err(error), "{name}");
    }
    let lost = gate.export.list_xattrs(b"no handle", &caller()).await;
    assert_eq!(lost, Err(ExportError::BadHandle));
}

#[tokio::test]
async fn what_is_too_long_for_an_attribute_is_not_there() {
    let (key, keyring) = key_and_trust();
    let (store, data) = (Memory::new(), content(4, 3000));
    store.put("f", &data).unwrap();
    seal(&shared(&store), "f", &data, small_blocks(), &key).await;
    let open = Sidecar::new(shared(&store)).open(&parsed("f")).await.unwrap();
    let tree = open.read_tree(0, 1024).await.unwrap();
    let signer = Signer::with_comment("long", 11_000);
    for (count, fits) in [(4, true), (5, false)] {
        let mut evidence = open.evidence.clone();
        evidence.certificates = vec![Bytes::copy_from_slice(signer.certificate.der()); count];
        put(&store, "f", &evidence, &tree).await;
        let gate = Gate::new(shared(&store), &keyring).await;
        let (file, _) = gate.find("f").await.unwrap();
        let names = gate.names(&file).await.unwrap();
        assert_eq!(names.contains(&"verity.certificates".to_owned()), fits, "{count}");
        assert_eq!(gate.value(&file, "verity.certificates").await.is_ok(), fits, "{count}");
        assert_eq!(gate.text(&file, "verity.status").await, "verified");
    }
}

#[tokio::test]
async fn what_does_not_read_as_what_it_is_named_after_is_not_given_out() {
    let signer = Signer::new("good");
    let data = content(5, 3000);
    let signed = signer.sign(&plan("native,fsverity,ima-v3"), data.clone(), None).await;
    let junk = Bytes::from_static(b"#!/bin/sh: whatever somebody wants to be read");
    let mut evidence = signed.evidence.clone();
    evidence.statement = Some(junk.clone());
    for list in [&mut evidence.pkcs7, &mut evidence.ima, &mut evidence.certificates] {
        *list = vec![junk.clone()];
    }
    let store = Memory::new();
    store.put("f", &data).unwrap();
    put(&store, "f", &evidence, &signed.tree).await;
    let gate = Gate::new(shared(&store), &Keyring::new(Vec::new()).with_formats(every_format())).await;
    let (file, _) = gate.find("f").await.unwrap();
    let items = [&OF_DESCRIPTOR[..], &[Item::Status]].concat();
    assert_eq!(gate.names(&file).await.unwrap(), named(&items));
    for item in [Item::Statement, Item::Signature, Item::Ima, Item::Certificates] {
        assert_eq!(gate.value(&file, item.xattr_name()).await, Err(ExportError::NoXattr), "{item:?}");
        let in_mirror = gate.find(&format!(".verity/f/{}", item.file_name())).await;
        assert_eq!(in_mirror.err(), Some(ExportError::NotFound), "{item:?}");
    }

    // The first of several that reads is told.
    evidence.pkcs7.push(signed.evidence.pkcs7[0].clone());
    evidence.certificates.push(Bytes::copy_from_slice(signer.certificate.der()));
    put(&store, "f", &evidence, &signed.tree).await;
    let gate = Gate::new(shared(&store), &Keyring::new(Vec::new()).with_formats(every_format())).await;
    let (file, _) = gate.find("f").await.unwrap();
    assert_eq!(gate.value(&file, "verity.signature").await.unwrap(), signed.evidence.pkcs7[0]);
    let pem = gate.text(&file, "verity.certificates").await;
    assert_eq!(pem, certificate_to_pem(signer.certificate.der()).unwrap());
}

#[tokio::test]
async fn describing_the_proof_directory_hashes_no_file() {
    let signer = Signer::new("whole");
    let data = content(2, 9000);
    let signed = signer.sign(&plan("ima-v2"), data.clone(), None).await;
    let store = Memory::new();
    store.put("f", &data).unwrap();
    let file = store.open(&parsed("f")).await.unwrap();
    file.set_xattr(USER_IMA, &signed.evidence.ima[0]).await.unwrap();
    let keyring = Keyring::new(vec![signer.trusted("whole")]).with_formats("ima-v2".parse().unwrap());
    let gate = Gate::with(shared(&store), &keyring, |options| options.carriers = vec![CarrierKind::Xattr]);
    let gate = gate.await.unwrap();
    let (file, unhashed) = gate.find("f").await.unwrap();
    let (directory, _) = gate.find(".verity/f").await.unwrap();
    let items = [&OF_DESCRIPTOR[..], &[Item::Signer, Item::Status, Item::Ima]].concat();
    let names: Vec<Vec<u8>> = items.iter().map(|item| item.file_name().into()).collect();
    let there = async || {
        let described = gate.export.describe(directory.as_bytes(), &names, &caller()).await;
        described.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(there().await, [false, false, false, false, false, true]);
    assert_eq!(gate.attributes(&file).await.unwrap(), unhashed, "it was hashed");
    gate.find(".verity/f/status").await.unwrap();
    assert_ne!(gate.attributes(&file).await.unwrap(), unhashed);
    assert_eq!(there().await, [true; 6]);
}

#[tokio::test]
async fn a_stored_attribute_passes_where_the_export_says_so_and_shadows_none() {
    let (key, keyring) = key_and_trust();
    let (store, data) = (Memory::new(), content(5, 3000));
    store.put("f", &data).unwrap();
    seal(&shared(&store), "f", &data, small_blocks(), &key).await;
    let file = store.open(&parsed("f")).await.unwrap();
    for name in [
        "user.mine",
        "user.verity",
        "user.verity.status",
        "user.verity.other",
        "user.ima",
        "user.nfs-verity",
        "user.",
        "trusted.other",
        "security.ima",
    ] {
        file.set_xattr(name.as_bytes(), b"the store's").await.unwrap();
    }
    assert_eq!(BUNDLE_XATTR, b"user.nfs-verity");
    let all = Gate::with(shared(&store), &keyring, |options| options.xattrs = Xattrs::All).await.unwrap();
    let evidence = Gate::new(shared(&store), &keyring).await;
    let (file, attr) = all.find("f").await.unwrap();
    let own = evidence.names(&file).await.unwrap();
    let mut passed = all.names(&file).await.unwrap();
    assert!(!own.contains(&"mine".to_owned()) && !own.contains(&"ima".to_owned()), "{own:?}");
    let mut rest = passed.split_off(own.len());
    rest.sort();
    assert_eq!((passed, rest), (own, vec!["mine".to_owned(), "verity".to_owned()]));
    for (name, stored) in [
        ("mine", true),
        ("verity", true),
        ("verity.other", false),
        ("ima", false),
        ("nfs-verity", false),
        ("nothing", false),
    ] {
        let told = all.value(&file, name).await;
        match stored {
            true => assert_eq!(told.unwrap(), b"the store's"[..], "{name}"),
            false => assert_eq!(told, Err(ExportError::NoXattr), "{name}"),
        }
        assert_eq!(evidence.value(&file, name).await, Err(ExportError::NoXattr), "{name}");
    }
    assert_eq!(all.text(&file, "verity.status").await, "verified");

    // What the store's attribute is changed to is seen, and the change attribute tells.
    store.open(&parsed("f")).await.unwrap().set_xattr(b"user.mine", b"new").await.unwrap();
    assert_eq!(all.text(&file, "mine").await, "new");
    assert_ne!(all.attributes(&file).await.unwrap().change, attr.change);

    // Who may run the file is told of its proof, and gets nothing of the store.
    store.set_attr("f", 0o711, 1, 1).unwrap();
    assert_eq!(all.text(&file, "verity.status").await, "verified");
    assert_eq!(all.value(&file, "mine").await, Err(ExportError::Permission));
    assert!(!all.names(&file).await.unwrap().contains(&"mine".to_owned()));
    store.set_attr("f", 0o600, 1, 1).unwrap();
    assert_eq!(all.value(&file, "verity.status").await, Err(ExportError::Permission));
    assert_eq!(all.names(&file).await, Err(ExportError::Permission));
    let mut owner: Caller = caller();
    owner.client.uid = Some(1);
    assert!(all.export.get_xattr(file.as_bytes(), b"mine", &owner).await.is_ok());
}

#[tokio::test]
async fn attributes_of_the_store_that_are_too_many_end_the_list_early() {
    let store = Memory::new();
    store.put("f", b"x").unwrap();
    let file = store.open(&parsed("f")).await.unwrap();
    // Memory does not count the ends of names.
    for n in 0..7000 {
        file.set_xattr(format!("user.{n:04}").as_bytes(), b"").await.unwrap();
    }
    let keyring = Keyring::new(Vec::new());
    let warn = |options: &mut nfs_verity::export::ExportOptions| {
        (options.xattrs, options.mode) = (Xattrs::All, Mode::Warn);
    };
    let gate = Gate::with(shared(&store), &keyring, warn).await.unwrap();
    let (file, _) = gate.find("f").await.unwrap();
    let names = gate.names(&file).await.unwrap();
    let bytes: usize = names.iter().map(|name| "user.".len() + name.len() + 1).sum();
    assert!(
        names.len() < 7000 && (65_000..=65_536).contains(&bytes),
        "{} names of {bytes} bytes",
        names.len()
    );
}

#[tokio::test]
async fn evidence_in_the_files_own_attributes_is_told_as_the_gateways() {
    let signer = Signer::new("own");
    let data = content(6, 3000);
    let signed = signer.sign(&plan("native,ima-v2"), data.clone(), None).await;
    let state = placed(How::Xattr, "f", &data, &signed.evidence, &signed.tree).await;
    let store = Memory::new();
    store.put("f", &data).unwrap();
    store.put(".nfs-verity/f", state[1].as_ref().unwrap()).unwrap();
    let file = store.open(&parsed("f")).await.unwrap();
    for (name, value) in super::versions::ATTRIBUTES.iter().zip(&state[2..]) {
        if let Some(value) = value {
            file.set_xattr(name, value).await.unwrap();
        }
    }
    let keyring = Keyring::new(vec![signer.trusted("own")]);
    let gate = Gate::with(shared(&store), &keyring, |options| {
        (options.xattrs, options.carriers) = (Xattrs::All, vec![CarrierKind::Xattr]);
    });
    let gate = gate.await.unwrap();
    let (file, _) = gate.find("f").await.unwrap();
    let wanted = [&OF_DESCRIPTOR[..], &[Item::Statement, Item::Signer, Item::Status, Item::Ima]].concat();
    assert_eq!(gate.names(&file).await.unwrap(), named(&wanted));
    assert_eq!(gate.value(&file, "ima").await.unwrap(), signed.evidence.ima[0]);
}

#[tokio::test]
async fn the_gateway_tells_what_the_command_line_does() {
    let site = Site::new();
    site.put("d/f", &content(7, 300_000));
    site.sign(&["--block-size", "1024", "--salt", "c0ffee"]);
    let store: Arc<dyn Store> = Arc::new(Local::new(&site.tree()).unwrap());
    let trust = |path: &Path| load_keyring(path, FormatSet::NATIVE).unwrap();
    let gate = Gate::new(store, &trust(&site.trust())).await;
    let (file, _) = gate.find("d/f").await.unwrap();
    let (tree, keys) = (site.tree(), site.trust());
    let args = [
        "inspect".as_ref(),
        tree.as_os_str(),
        "d/f".as_ref(),
        "--json".as_ref(),
        "--trust".as_ref(),
        keys.as_os_str(),
    ];
    let output = nfs_verity(args);
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |key: &str| told[key].as_str().unwrap().to_owned();
    assert_eq!(gate.text(&file, "verity.digest").await, word("file_digest"));
    assert_eq!(hex::encode(gate.value(&file, "verity.descriptor").await.unwrap()), word("descriptor"));
    assert_eq!(gate.text(&file, "verity.status").await, word("status"));
    let signer = &told["verified"][0];
    let signer = ["key_id", "format", "name"].map(|key| signer[key].as_str().unwrap());
    assert_eq!(gate.text(&file, "verity.signer").await, format!("{}\n", signer.join(" ")));
    let geometry = format!(
        "algorithm={} block_size={} salt=c0ffee levels={} tree_bytes={} data_bytes=300000 data_blocks={} root_hash={}",
        word("hash_algorithm"),
        told["block_size"],
        told["tree"]["levels"].as_array().unwrap().len(),
        told["tree"]["bytes"],
        told["tree"]["data_blocks"],
        word("root_hash"),
    );
    assert_eq!(gate.text(&file, "verity.tree").await, geometry);
}
