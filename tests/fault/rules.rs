//! The operator's policy over what is proven: it refuses more, and never less.

use std::net::SocketAddr;
use std::sync::Arc;

use nfs_verity::event::{Cause, Client};
use nfs_verity::export::{Caller, ExportError, Item, Rules};
use nfs_verity::policy::Policy;
use nfs_verity::sign::{Keyring, SigningKey, Statement};
use nfs_verity::store::{Memory, Store};

use super::scene::{Answer, Data, Gate, caller, shared, small_blocks, within};
use super::support::{content, key_and_trust, seal, seal_with};

const DENIED: ExportError = ExportError::Denied(Cause::Policy);

fn rules(text: &str, permissive: bool) -> Rules {
    let text = format!("policy_name=test policy_version=1.2.3\n{text}");
    Rules::new(Policy::parse(text.as_bytes()).unwrap(), [7; 32], permissive)
}

/// Somebody else, at an address or as another user.
fn other(address: [u8; 4], uid: u32) -> Caller {
    let address = SocketAddr::from((address, 700));
    Caller { client: Client { address, uid: Some(uid), gid: Some(uid) }, gids: Vec::new() }
}

struct Scene {
    gate: Gate,
    memory: Memory,
    key: SigningKey,
    keyring: Keyring,
}

impl Scene {
    /// Files `open`, `boot/image` and `secret/key`, signed, and `loose`, which is not.
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let memory = Memory::new();
        let store: Arc<dyn Store> = shared(&memory);
        for (n, path) in (0..).zip(["open", "boot/image", "secret/key"]) {
            memory.put(path, &content(n, 5000)).unwrap();
            seal(&store, path, &content(n, 5000), small_blocks(), &key).await;
        }
        memory.put("loose", b"unsigned").unwrap();
        let gate = Gate::new(store, &keyring).await;
        Self { gate, memory, key, keyring }
    }

    fn rule(&self, text: &str) {
        self.gate.export.set_rules(Some(rules(text, false)));
    }

    async fn read_as(&self, path: &str, caller: &Caller) -> Answer<u32> {
        let (handle, _) = self.gate.find(path).await?;
        let reply = within(self.gate.export.read(handle.as_bytes(), 0, 5000, caller)).await?;
        Ok(reply.data.len())
    }
}

fn is_whole(data: Answer<Data>, n: u64) -> bool {
    data.is_ok_and(|data| data.is_all_of(&content(n, 5000), 0, 8192))
}

#[tokio::test]
async fn what_a_rule_denies_is_refused_in_every_way_and_the_rest_is_served() {
    let scene = Scene::new().await;
    let gate = &scene.gate;
    assert!(is_whole(gate.start("secret/key").await, 2), "without rules all that is proven is served");
    scene.rule("DEFAULT action=ALLOW\nop=READ path=secret/** action=DENY\n");
    let (handle, _) = gate.find("secret/key").await.unwrap();
    assert_eq!(gate.read(&handle, 0, 10).await, Err(DENIED));
    let [refused] = &gate.events.refused()[..] else { panic!("it is told once") };
    assert_eq!((refused.cause, refused.served, &*refused.path), (Cause::Policy, false, &b"secret/key"[..]));
    assert_eq!(refused.client, Some(caller().client));
    assert!(!gate.access(&handle).await.unwrap().read);
    let proof = within(gate.export.proof(handle.as_bytes(), 0, 10, &caller())).await;
    assert_eq!(proof.err(), Some(DENIED));
    assert!(gate.attributes(&handle).await.is_ok(), "what it is may be looked at");
    assert!(is_whole(gate.start("boot/image").await, 1));
    gate.export.set_rules(None);
    assert!(is_whole(gate.start("secret/key").await, 2));
}

#[tokio::test]
async fn what_does_not_verify_is_refused_whatever_a_rule_allows() {
    let scene = Scene::new().await;
    scene.rule("DEFAULT action=ALLOW\n");
    assert_eq!(scene.gate.start("loose").await, Err(ExportError::Denied(Cause::Unsigned)));
    let mut bytes = content(0, 5000);
    bytes[0] ^= 1;
    scene.memory.put("open", &bytes).unwrap();
    assert_eq!(scene.gate.start("open").await, Err(ExportError::Corrupt(Cause::BadBlock)));
}

#[tokio::test]
async fn rules_know_digest_signer_client_and_user() {
    let scene = Scene::new().await;
    let (handle, _) = scene.gate.find("open").await.unwrap();
    let digest = scene.gate.text(&handle, Item::Digest.xattr_name()).await;
    let id = scene.key.public_key().key_id();
    let me = caller();
    for (property, holds) in [
        (format!("fsverity_digest={}", digest.trim()), true),
        (format!("fsverity_digest=sha256:{}", "00".repeat(32)), false),
        ("fsverity_signature=TRUE".to_owned(), true),
        ("fsverity_signature=FALSE".to_owned(), false),
        (format!("signer={id}"), true),
        ("signer=test".to_owned(), true),
        ("signer=other".to_owned(), false),
        ("format=native".to_owned(), true),
        ("format=fsverity".to_owned(), false),
        ("client=127.0.0.0/8".to_owned(), true),
        ("client=10.0.0.0/8".to_owned(), false),
        ("uid=1000".to_owned(), true),
        ("uid=0".to_owned(), false),
        ("quorum=1".to_owned(), true),
        ("quorum=2".to_owned(), false),
        ("signed_after=1970-01-01".to_owned(), false),
        ("boot_verified=TRUE".to_owned(), false),
        ("dmverity_signature=TRUE".to_owned(), false),
    ] {
        scene.rule(&format!("DEFAULT action=DENY\nop=READ {property} action=ALLOW\n"));
        let read = scene.read_as("open", &me).await;
        assert_eq!(read, if holds { Ok(5000) } else { Err(DENIED) }, "{property}");
    }
    // Root is taken for nobody, by rules as by modes.
    scene.rule("DEFAULT action=DENY\nop=READ uid=65534 action=ALLOW\n");
    assert_eq!(scene.read_as("open", &other([127, 0, 0, 1], 0)).await, Ok(5000));
}

#[tokio::test]
async fn a_statement_that_tells_when_it_was_signed_is_held_to_that() {
    let scene = Scene::new().await;
    let date = |statement: &mut Statement| statement.signed = Some(1_767_225_600);
    let store = shared(&scene.memory);
    seal_with(&store, "open", &content(0, 5000), small_blocks(), &scene.key, date).await;
    for (after, holds) in [("2025-12-31T23:59:59Z", true), ("2026-01-01", false)] {
        scene.rule(&format!("DEFAULT action=DENY\nop=READ signed_after={after} action=ALLOW\n"));
        let read = scene.read_as("open", &caller()).await;
        assert_eq!(read, if holds { Ok(5000) } else { Err(DENIED) }, "{after}");
    }
}

#[tokio::test]
async fn a_new_policy_holds_for_files_that_are_open() {
    let scene = Scene::new().await;
    let (handle, _) = scene.gate.find("open").await.unwrap();
    for round in 0..3 {
        scene.rule("DEFAULT action=ALLOW\n");
        assert!(scene.gate.read(&handle, 0, 10).await.is_ok(), "{round}");
        assert!(scene.gate.read(&handle, 0, 10).await.is_ok(), "{round}: as it was answered before");
        scene.rule("DEFAULT action=DENY\n");
        assert_eq!(scene.gate.read(&handle, 0, 10).await, Err(DENIED), "{round}");
    }
}

#[tokio::test]
async fn what_one_may_read_another_may_not_though_answers_are_kept() {
    let scene = Scene::new().await;
    scene.rule("DEFAULT action=DENY\nop=READ client=10.1.0.0/16 action=ALLOW\nop=READ uid=7 action=ALLOW\n");
    for round in 0..3 {
        // More than are kept with a file.
        for n in 0..70 {
            let read = scene.read_as("open", &other([10, 1, 0, n], 1000)).await;
            assert_eq!(read, Ok(5000), "{round}, {n}");
            let read = scene.read_as("open", &other([10, 2, 0, n], 1000)).await;
            assert_eq!(read, Err(DENIED), "{round}, {n}");
            assert_eq!(scene.read_as("open", &other([10, 2, 0, n], 7)).await, Ok(5000), "{round}, {n}");
        }
    }
}

#[tokio::test]
async fn a_permissive_policy_tells_what_it_denies_and_serves_it() {
    let scene = Scene::new().await;
    scene.gate.export.set_rules(Some(rules("DEFAULT action=DENY\n", true)));
    assert!(is_whole(scene.gate.start("open").await, 0));
    let [refused] = &scene.gate.events.refused()[..] else { panic!("it is told once") };
    assert_eq!((refused.cause, refused.served), (Cause::Policy, true));
    // What is told is told of every READ, not only of the first.
    assert!(is_whole(scene.gate.start("open").await, 0));
    assert_eq!(scene.gate.events.refused().len(), 1);
    assert_eq!(scene.gate.start("loose").await, Err(ExportError::Denied(Cause::Unsigned)));
}

#[tokio::test]
async fn running_listing_and_attributes_have_rules_of_their_own() {
    let scene = Scene::new().await;
    let export = &scene.gate.export;
    let (file, _) = scene.gate.find("open").await.unwrap();
    let (directory, _) = scene.gate.find("secret").await.unwrap();
    let list = async || within(export.read_dir(directory.as_bytes(), 0, 10, &caller())).await.map(|_| ());
    let plus = async || {
        let cut = |_: &mut _| ();
        within(export.read_dir_plus(directory.as_bytes(), 0, 10, 0, cut, &caller())).await.map(|_| ())
    };
    let digest = Item::Digest.xattr_name();
    let (said, _) = scene.gate.find(".verity/open/digest").await.unwrap();
    assert_eq!((list().await, plus().await), (Ok(()), Ok(())));
    scene.rule("DEFAULT action=ALLOW\nop=LIST path=secret action=DENY\n");
    assert_eq!((list().await, plus().await), (Err(DENIED), Err(DENIED)));
    assert!(scene.gate.value(&file, digest).await.is_ok());
    scene.rule("DEFAULT action=ALLOW\nop=XATTR signer=test action=DENY\n");
    assert_eq!((list().await, plus().await), (Ok(()), Ok(())));
    assert_eq!(scene.gate.value(&file, digest).await, Err(DENIED));
    assert_eq!(scene.gate.names(&file).await, Err(DENIED));
    // In the proof directory, size and times of what is said, and whether it is, tell of it, too.
    assert_eq!(scene.gate.find(".verity/open/digest").await.map(|_| ()), Err(DENIED));
    assert_eq!(scene.gate.find(".verity/open/ima").await.map(|_| ()), Err(DENIED));
    assert_eq!(scene.gate.attributes(&said).await.map(|_| ()), Err(DENIED));
    assert_eq!(scene.gate.access(&said).await.map(|_| ()), Err(DENIED));
    assert_eq!(scene.gate.read(&said, 0, 100).await.map(|_| ()), Err(DENIED));
    let mount = within(export.resolve(b"/.verity/open/digest", &caller())).await;
    assert_eq!(mount.map(|_| ()), Err(DENIED));
    assert!(scene.gate.find(".verity/open").await.is_ok(), "that there is such a file is no secret");
    assert!(scene.gate.find(".verity/loose/status").await.is_ok());
    let (loose, _) = scene.gate.find("loose").await.unwrap();
    assert!(scene.gate.value(&loose, Item::Status.xattr_name()).await.is_ok(), "nobody signed that");
    assert!(!scene.gate.access(&file).await.unwrap().xattrs);
    scene.rule("DEFAULT action=ALLOW\nop=LIST path=secret action=DENY\n");
    let seen = scene.gate.access(&directory).await.unwrap();
    assert!(seen.lookup && !seen.read);
    // Asking is not reading: nothing is told.
    scene.gate.events.refused();
    scene.rule("DEFAULT action=ALLOW\nop=EXECUTE action=DENY\n");
    assert!(scene.gate.access(&file).await.unwrap().read);
    assert!(!scene.gate.access(&file).await.unwrap().execute);
    assert!(scene.gate.events.refused().is_empty());
    // Who may only run a file reads it to run it.
    scene.memory.set_attr("open", 0o711, 0, 0).unwrap();
    assert_eq!(scene.gate.read(&file, 0, 10).await, Err(DENIED));
    scene.memory.set_attr("open", 0o755, 0, 0).unwrap();
    assert!(scene.gate.read(&file, 0, 10).await.is_ok());
    // Nothing is said of additions, and there is no default for all.
    let kernel = ["EXECUTE", "FIRMWARE", "KMODULE", "KEXEC_IMAGE", "KEXEC_INITRAMFS", "POLICY", "X509_CERT"];
    scene.rule(&kernel.map(|op| format!("DEFAULT op={op} action=ALLOW\n")).concat());
    assert_eq!(scene.gate.start("open").await, Err(DENIED));
    assert_eq!(list().await, Err(DENIED));
}

#[tokio::test]
async fn an_explanation_names_the_rule_that_decides_and_why_others_do_not() {
    let scene = Scene::new().await;
    let gate = Gate::new(shared(&scene.memory), &scene.keyring).await;
    let rules =
        rules("DEFAULT action=DENY\nop=READ uid=7 action=ALLOW\nop=READ signer=test action=ALLOW\n", false);
    let ask = async |path: &str| {
        let path = nfs_verity::store::StorePath::parse(path.as_bytes()).unwrap();
        let who = ([127, 0, 0, 1].into(), 1000);
        gate.export.explain(&rules, &path, nfs_verity::policy::Op::Read, who).await.unwrap()
    };
    let explained = ask("open").await;
    assert_eq!((explained.line, &*explained.rule), (Some(4), "op=READ signer=test action=ALLOW"));
    let [miss] = &explained.misses[..] else { panic!("{explained:?}") };
    assert_eq!((miss.line, &*miss.property), (3, "uid=7"));
    assert_eq!(explained.signers.len(), 1);
    let loose = ask("loose").await;
    assert_eq!(loose.refused.map(|(cause, _)| cause), Some(Cause::Unsigned));
    assert_eq!((loose.line, loose.misses.len()), (Some(2), 2));
}
