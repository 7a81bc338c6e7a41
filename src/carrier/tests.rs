//! What every carrier has to hold.

use super::fixture::*;
use super::*;
use crate::store::object::scene::Scene;
use crate::store::{Fault, Faulty, Local, Store, StoreErrorKind};

const SIZES: [usize; 6] = [0, 1, 4096, 4097, 600_000, 1_100_000];

fn carrier(store: &Arc<dyn Store>, kind: CarrierKind) -> Arc<dyn Carrier> {
    Carriers::over(store, &[kind]).get(kind).unwrap().clone()
}

/// The data of `at`, without a trailer.
async fn data(store: &Arc<dyn Store>, at: &StorePath) -> Vec<u8> {
    let (file, size) = Appended::new(store.clone()).data(at).await.unwrap();
    file.read_at(0, usize::try_from(size).unwrap()).await.unwrap().to_vec()
}

fn scene(kind: CarrierKind, size: usize) -> (Sealing, Arc<dyn Store>, Arc<dyn Carrier>, Vec<u8>) {
    let sealing = Sealing::new();
    let content = content(size);
    sealing.memory.put("d/f", &content).unwrap();
    let store: Arc<dyn Store> = Arc::new(sealing.clone());
    let carrier = carrier(&store, kind);
    (sealing, store, carrier, content)
}

#[tokio::test]
async fn evidence_and_tree_are_given_back_as_they_were_put() {
    let at = path("d/f");
    for kind in CarrierKind::ALL {
        for size in SIZES {
            let (_, store, carrier, content) = scene(kind, size);
            assert!(matches!(carrier.open(&at).await, Err(CarrierError::Missing(_))));
            let (one, tree) = evidence(&content, 1);
            put(&*carrier, &at, &one, &tree).await.unwrap();
            let open = carrier.open(&at).await.unwrap();
            assert!(same(&open.evidence, &one), "{kind} {size}");
            assert_eq!((open.carrier, tree_of(&open).await), (kind, Some(tree.clone())), "{kind} {size}");
            assert_eq!(open.stamp, carrier.stamp(&at).await.unwrap());
            let names: [&[u8]; 4] = [b"gone", b"f", b"..", b"f"];
            assert_eq!(
                carrier.stamps(&path("d"), &names).await,
                [None, Some(open.stamp), None, Some(open.stamp)]
            );
            assert_eq!(carrier.stamps(&path(""), &[b"f"]).await, [None]);
            assert_eq!(data(&store, &at).await, content);
            let stored = store.stat(&at).await.unwrap().size;
            assert_eq!(open.trailer, stored - content.len() as u64);
            assert_eq!(open.trailer > 0, kind == CarrierKind::Appended);
            if !tree.is_empty() {
                let past = open.read_tree(open.tree_len().unwrap() - 1, 2).await;
                assert!(matches!(past, Err(CarrierError::Malformed { .. })), "{kind}");
                assert!(open.read_tree(u64::MAX, 2).await.is_err());
            }

            let two = Evidence { statement: Some(Bytes::from(vec![9; 20_000])), ..one.clone() };
            carrier.update(&at, &open, &two).await.unwrap();
            let again = carrier.open(&at).await.unwrap();
            assert!(same(&again.evidence, &two), "{kind} {size}");
            assert_eq!(tree_of(&again).await, Some(tree), "{kind} {size}");
            assert_ne!(again.stamp, open.stamp);
            assert_eq!(data(&store, &at).await, content);
        }
    }
}

#[tokio::test]
async fn what_is_removed_is_missing_and_the_file_is_what_it_was() {
    let at = path("d/f");
    for kind in CarrierKind::ALL {
        let (sealing, store, carrier, content) = scene(kind, 600_000);
        let (one, tree) = evidence(&content, 1);
        put(&*carrier, &at, &one, &tree).await.unwrap();
        carrier.remove(&at).await.unwrap();
        let left = carrier.open(&at).await;
        if kind == CarrierKind::Kernel {
            let left = left.unwrap().evidence;
            assert_eq!((left.pkcs7, left.statement), (vec![one.pkcs7[0].clone()], None), "the seal stays");
        } else {
            assert!(matches!(left, Err(CarrierError::Missing(_))), "{kind}");
            assert!(matches!(Sidecar::new(store.clone()).open_any(&at).await, Err(CarrierError::Missing(_))));
        }
        assert_eq!(sealing.memory.bytes("d/f").unwrap(), content, "{kind}");
        assert!(store.open(&at).await.unwrap().list_xattrs().await.unwrap().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn evidence_without_a_signature_is_none() {
    let at = path("d/f");
    for kind in CarrierKind::ALL {
        let (_, store, carrier, content) = scene(kind, 600_000);
        let (one, tree) = evidence(&content, 1);
        put(&*carrier, &at, &one.unsigned(), &tree).await.unwrap();
        assert!(matches!(carrier.open(&at).await, Err(CarrierError::Missing(_))), "{kind}");
        assert!(Carriers::over(&store, &CarrierKind::ALL).open(&at).await.err().unwrap().is_missing());
    }
}

/// A call that fails, at every call that there is, leaves the old evidence or the new.
#[tokio::test]
async fn a_failure_at_any_call_leaves_the_old_or_the_new() {
    let at = path("d/f");
    for kind in CarrierKind::ALL {
        for fault in [
            Fault::Error(StoreErrorKind::Io),
            Fault::Error(StoreErrorKind::NoSpace),
            Fault::Gone,
            Fault::ShortRead,
        ] {
            for update in [false, true] {
                for n in 1.. {
                    let (sealing, store, clean, content) = scene(kind, 600_000);
                    let (old, tree) = evidence(&content, 1);
                    put(&*clean, &at, &old, &tree).await.unwrap();
                    // The signature that a file was sealed with stays for good.
                    let mut new = evidence(&content, 2).0;
                    new.pkcs7[0] = old.pkcs7[0].clone();
                    let faulty = Faulty::new(store.clone());
                    let layered: Arc<dyn Store> = Arc::new(faulty.clone());
                    let broken = carrier(&layered, kind);
                    faulty.fail_at(n, fault);
                    let done = async {
                        if update {
                            let open = broken.open(&at).await?;
                            broken.update(&at, &open, &new).await
                        } else {
                            put(&*broken, &at, &new, &tree).await
                        }
                    };
                    let done = done.await;
                    let open = clean.open(&at).await.unwrap();
                    let (is_old, is_new) = (same(&open.evidence, &old), same(&open.evidence, &new));
                    // A bundle in the attributes has all that counts; where IMA looks may lag behind it.
                    let lists = [&open.evidence.ima, &new.ima];
                    let lags = matches!(kind, CarrierKind::Xattr | CarrierKind::Kernel)
                        && open.evidence.statement == new.statement
                        && lists[1].iter().all(|value| lists[0].contains(value));
                    assert!(is_old || is_new || lags, "{kind} {fault:?} {update} {n}: {:?}", open.evidence);
                    assert!(done.is_err() || is_new, "{kind} {fault:?} {update} {n}");
                    assert_eq!(tree_of(&open).await.as_ref(), Some(&tree), "{kind} {n}");
                    assert_eq!(sealing.memory.bytes("d/f").unwrap()[..content.len()], content);
                    if faulty.calls() < n {
                        break;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn evidence_cut_or_changed_anywhere_is_never_other_evidence() {
    let at = path("d/f");
    let (sealing, store, _, content) = scene(CarrierKind::Appended, 5000);
    let appended = carrier(&store, CarrierKind::Appended);
    let (one, tree) = evidence(&content, 1);
    put(&*appended, &at, &one, &tree).await.unwrap();
    let whole = sealing.memory.bytes("d/f").unwrap();
    for n in 0..whole.len() {
        sealing.memory.put("d/f", &whole[..n]).unwrap();
        assert!(appended.open(&at).await.is_err(), "cut to {n}");
    }
    sealing.memory.put("d/f", &[&whole[..], b"\0"].concat()).unwrap();
    assert!(appended.open(&at).await.is_err(), "a byte more");
    let head = content.len()..content.len() + bundle::head_len(&one);
    for byte in head.chain(whole.len() - Footer::SIZE..whole.len()) {
        let mut changed = whole.clone();
        changed[byte] ^= 1 << (byte % 8);
        sealing.memory.put("d/f", &changed).unwrap();
        assert!(appended.open(&at).await.is_err(), "byte {byte}");
    }

    sealing.memory.put("d/f", &content).unwrap();
    let xattr = carrier(&store, CarrierKind::Xattr);
    put(&*xattr, &at, &one, &tree).await.unwrap();
    let file = store.open(&at).await.unwrap();
    let value = file.get_xattr(BUNDLE_XATTR, 65536).await.unwrap().unwrap();
    for byte in 0..value.len() {
        let mut changed = value.to_vec();
        changed[byte] ^= 1 << (byte % 8);
        for bad in [&changed[..], &value[..byte]] {
            file.set_xattr(BUNDLE_XATTR, bad).await.unwrap();
            let opened = xattr.open(&at).await;
            assert!(matches!(opened, Err(CarrierError::Malformed { .. })), "byte {byte}");
        }
    }
}

#[tokio::test]
async fn a_stamp_moves_with_the_evidence_and_with_the_file_that_holds_it() {
    let at = path("d/f");
    for kind in CarrierKind::ALL {
        let (sealing, store, carrier, content) = scene(kind, 5000);
        let (one, tree) = evidence(&content, 1);
        put(&*carrier, &at, &one, &tree).await.unwrap();
        let before = carrier.stamp(&at).await.unwrap();
        assert_eq!(before, carrier.stamp(&at).await.unwrap());
        assert_eq!(Carriers::over(&store, &[kind]).stamp_of(kind, &at).await.unwrap(), before);
        sealing.memory.mutate("d/f", |content| content[0] ^= 1).unwrap();
        let touched = carrier.stamp(&at).await.unwrap();
        assert_eq!(touched == before, kind == CarrierKind::Sidecar, "{kind}");
        let open = carrier.open(&at).await.unwrap();
        let mut two = one.clone();
        two.statement = Some(Bytes::from_static(b"other"));
        carrier.update(&at, &open, &two).await.unwrap();
        assert_ne!(carrier.stamp(&at).await.unwrap(), touched, "{kind}");
    }
}

#[tokio::test]
async fn a_trailer_keeps_mode_owner_times_and_attributes_and_comes_off_without_trace() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    let content = content(3 << 20);
    std::fs::write(&file, &content).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(9 << 20).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let store: Arc<dyn Store> = Arc::new(Local::new(directory.path()).unwrap());
    let xattrs = store.open(&path("f")).await.unwrap().set_xattr(b"user.note", b"kept").await.is_ok();
    let all = std::fs::read(&file).unwrap();
    let appended = carrier(&store, CarrierKind::Appended);
    let (one, tree) = evidence(&all, 1);
    let seen = async || {
        let meta = std::fs::metadata(&file).unwrap();
        let note = store.open(&path("f")).await.unwrap().get_xattr(b"user.note", 99).await.unwrap();
        assert_eq!(note.as_deref(), xattrs.then_some(&b"kept"[..]));
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
    };
    let before = seen().await;
    for mark in [1, 2] {
        let evidence = Evidence { statement: Some(Bytes::from(vec![mark; 9])), ..one.clone() };
        put(&*appended, &path("f"), &evidence, &tree).await.unwrap();
        assert_eq!(seen().await, before);
        let open = appended.open(&path("f")).await.unwrap();
        assert_eq!(open.evidence, evidence);
        assert_eq!(tree_of(&open).await.unwrap(), tree);
        let blocks = std::fs::metadata(&file).unwrap().blocks() * 512;
        assert!(blocks < 5 << 20, "the hole of six megabytes is still one: {blocks}");
    }
    appended.remove(&path("f")).await.unwrap();
    assert_eq!((seen().await, std::fs::read(&file).unwrap() == all), (before, true));

    std::fs::hard_link(&file, directory.path().join("g")).unwrap();
    let refused = put(&*appended, &path("f"), &one, &tree).await;
    assert!(matches!(refused, Err(CarrierError::Refused { reason: Refusal::HardLinks(2), .. })));
    assert!(std::fs::read(&file).unwrap() == all);
    let none = appended.remove(&path("f")).await;
    assert!(matches!(none, Err(CarrierError::Refused { reason: Refusal::HardLinks(2), .. })));
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_gets_no_trailer() {
    let at = path("d/f");
    let (sealing, _, appended, content) = scene(CarrierKind::Appended, 5000);
    let (one, _) = evidence(&content, 1);
    let writer = appended.create(&at, 8192).await.unwrap();
    sealing.memory.mutate("d/f", |content| content[0] ^= 1).unwrap();
    let refused = writer.commit(&one).await;
    assert!(matches!(refused, Err(CarrierError::Refused { reason: Refusal::Changed, .. })));
    let writer = appended.create(&at, 8192).await.unwrap();
    sealing.memory.put("d/f", b"another file").unwrap();
    let refused = writer.commit(&one).await;
    assert!(matches!(refused, Err(CarrierError::Refused { reason: Refusal::Changed, .. })));
    assert_eq!(sealing.memory.bytes("d/f").unwrap(), b"another file");
}

#[tokio::test]
async fn an_object_that_is_newer_than_what_a_bucket_remembers_is_not_replaced() {
    let at = path("d/f");
    let scene = Scene::remembering();
    // Nothing of it is read, which would show that it is gone.
    scene.put("d/f", b"");
    let appended = carrier(&scene.store, CarrierKind::Appended);
    let (one, _) = evidence(b"", 1);
    let writer = appended.create(&at, 8192).await.unwrap();
    scene.put("d/f", b"newer");
    let refused = writer.commit(&one).await;
    assert!(matches!(refused, Err(CarrierError::Refused { reason: Refusal::Changed, .. })));
    scene.store.forget(&at);
    assert_eq!(data(&scene.store, &at).await, b"newer");
}

#[tokio::test]
async fn the_first_whole_evidence_that_fits_is_taken() {
    let at = path("d/f");
    let (sealing, store, sidecar, content) = scene(CarrierKind::Sidecar, 5000);
    let all = Carriers::over(&store, &CarrierKind::ALL);
    assert!(matches!(all.open(&at).await, Err(CarrierError::Missing(_))));
    let (one, tree) = evidence(&content, 1);
    put(&*sidecar, &at, &one, &tree).await.unwrap();
    sealing.memory.mutate(".nfs-verity/d/f", |bundle| bundle[40] ^= 1).unwrap();
    assert!(matches!(all.open(&at).await, Err(CarrierError::Malformed { .. })));
    put(&*carrier(&store, CarrierKind::Appended), &at, &one, &tree).await.unwrap();
    assert_eq!(all.open(&at).await.unwrap().carrier, CarrierKind::Appended);
    put(&*sidecar, &at, &one, &tree).await.unwrap();
    assert_eq!(all.open(&at).await.unwrap().carrier, CarrierKind::Sidecar);
    let size = store.stat(&at).await.unwrap().size;
    assert_eq!(all.open_for(&at, size).await.unwrap().carrier, CarrierKind::Appended);
    assert_eq!(all.open_for(&at, 1).await.unwrap().carrier, CarrierKind::Sidecar);
    let few = Carriers::over(&store, &[CarrierKind::Xattr]);
    assert!(matches!(few.stamp_of(CarrierKind::Sidecar, &at).await, Err(CarrierError::Missing(_))));
}

#[tokio::test]
async fn what_is_opened_together_is_what_is_opened_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Local::new(directory.path()).unwrap());
    let all = Carriers::over(&store, &CarrierKind::ALL);
    let sidecar = all.get(CarrierKind::Sidecar).unwrap();
    let sizes = [0, 1, 4097, 600_000];
    for below in ["", "d/"] {
        std::fs::create_dir_all(directory.path().join(below)).unwrap();
        for size in sizes {
            let (at, content) = (path(&format!("{below}{size}")), content(size));
            std::fs::write(directory.path().join(at.to_string()), &content).unwrap();
            let (one, tree) = evidence(&content, 1);
            put(&**sidecar, &at, &one, &tree).await.unwrap();
        }
        let (one, tree) = evidence(b"x", 1);
        let large = Evidence { statement: Some(Bytes::from(vec![1; 60_000])), ..one.clone() };
        put(&**sidecar, &path(&format!("{below}large")), &large, &tree).await.unwrap();
        put(&**sidecar, &path(&format!("{below}unsigned")), &one.unsigned(), &tree).await.unwrap();
        for (name, bytes) in [("broken", &b"not a bundle"[..]), ("none", b"")] {
            std::fs::write(directory.path().join(".nfs-verity").join(below).join(name), bytes).unwrap();
        }
        let names = ["0", "1", "4097", "600000", "gone", "large", "unsigned", "broken", "none", ".."];
        let wanted = [0, 1, 4097, 600_000, 1, 1, 1, 1, 1, 1];
        let files: Vec<(&[u8], u64)> = names.iter().map(|name| name.as_bytes()).zip(wanted).collect();
        let found = all.open_together(&path(below.trim_end_matches('/')), &files).await;
        for ((name, size), found) in files.iter().zip(&found).take(sizes.len()) {
            let at = path(&format!("{below}{}", name.escape_ascii()));
            let (found, alone) = (found.as_ref().unwrap(), all.open_for(&at, *size).await.unwrap());
            assert_eq!(found.evidence, alone.evidence, "{at}");
            assert_eq!((found.carrier, found.stamp), (alone.carrier, alone.stamp), "{at}");
            assert_eq!((found.trailer, found.head_bytes), (alone.trailer, alone.head_bytes), "{at}");
            assert_eq!(tree_of(found).await, tree_of(&alone).await, "{at}");
        }
        // What is not there, not whole in the first bytes, or not to be believed is left to who looks closer.
        assert!(found[sizes.len()..].iter().all(Option::is_none), "{below}");
        let other_size = all.open_together(&path(below.trim_end_matches('/')), &[(b"4097", 4098)]).await;
        assert!(other_size[0].is_none());
    }
    let others = Carriers::over(&store, &[CarrierKind::Appended, CarrierKind::Sidecar]);
    assert!(others.open_together(&path(""), &[(b"1", 1)]).await[0].is_none(), "the first has its say");
}

#[test]
fn carriers_have_names() {
    for kind in CarrierKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!("Sidecar".parse::<CarrierKind>().unwrap_err().to_string().contains("sidecar, xattr"));
}
