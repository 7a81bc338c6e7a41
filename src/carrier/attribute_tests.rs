//! What holds of evidence in extended attributes and in the kernel alone.

use super::fixture::*;
use super::*;
use crate::store::Store;

fn scene(size: usize) -> (Sealing, Arc<dyn Store>, Carriers, Vec<u8>) {
    let sealing = Sealing::new();
    let content = content(size);
    sealing.memory.put("f", &content).unwrap();
    let store: Arc<dyn Store> = Arc::new(sealing.clone());
    let carriers = Carriers::over(&store, &CarrierKind::ALL);
    (sealing, store, carriers, content)
}

fn refusal(answer: Result<(), CarrierError>) -> Refusal {
    match answer {
        Err(CarrierError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tree_of_other_evidence_is_not_used() {
    let at = path("f");
    let (sealing, _, carriers, content) = scene(600_000);
    let xattr = carriers.get(CarrierKind::Xattr).unwrap();
    let (one, tree) = evidence(&content, 1);
    put(&**xattr, &at, &one, &tree).await.unwrap();
    let beside = sealing.memory.bytes(".nfs-verity/f").unwrap();
    let (two, other) = evidence(&content[..500_000], 2);
    put(&**xattr, &at, &two, &other).await.unwrap();
    assert_eq!(tree_of(&xattr.open(&at).await.unwrap()).await, Some(other));
    sealing.memory.put(".nfs-verity/f", &beside).unwrap();
    let open = xattr.open(&at).await.unwrap();
    assert!(same(&open.evidence, &two) && open.tree.is_none() && open.read_tree(0, 1).await.is_err());
    for damage in [&b"short"[..], b""] {
        sealing.memory.put(".nfs-verity/f", damage).unwrap();
        assert!(xattr.open(&at).await.unwrap().tree.is_none(), "it can be built anew");
    }
    sealing.memory.remove(".nfs-verity/f").unwrap();
    assert!(xattr.open(&at).await.unwrap().tree.is_none());
}

#[tokio::test]
async fn signed_evidence_beside_the_file_lends_its_tree_and_stays() {
    let at = path("f");
    let (_, _, carriers, content) = scene(600_000);
    let (xattr, sidecar) =
        (carriers.get(CarrierKind::Xattr).unwrap(), carriers.get(CarrierKind::Sidecar).unwrap());
    let (one, tree) = evidence(&content, 1);
    put(&**sidecar, &at, &one, &tree).await.unwrap();
    let (two, _) = evidence(&content, 2);
    put(&**xattr, &at, &two, &tree).await.unwrap();
    assert!(same(&sidecar.open(&at).await.unwrap().evidence, &one));
    assert_eq!(tree_of(&xattr.open(&at).await.unwrap()).await.as_ref(), Some(&tree));
    sidecar.retire(&at, CarrierKind::Xattr).await.unwrap();
    assert!(sidecar.open(&at).await.err().unwrap().is_missing());
    assert_eq!(tree_of(&xattr.open(&at).await.unwrap()).await, Some(tree));
}

#[tokio::test]
async fn ima_signatures_are_found_where_others_put_them() {
    let at = path("f");
    let (_, store, carriers, content) = scene(5000);
    let xattr = carriers.get(CarrierKind::Xattr).unwrap();
    let file = store.open(&at).await.unwrap();
    file.set_xattr(SECURITY_IMA, b"\x04\x04a plain hash").await.unwrap();
    assert!(xattr.open(&at).await.err().unwrap().is_missing(), "a hash is no signature");
    file.set_xattr(USER_IMA, b"\x03\x02one").await.unwrap();
    let open = xattr.open(&at).await.unwrap();
    assert_eq!((open.evidence.ima.len(), open.evidence.descriptor), (1, None));
    assert!(open.tree.is_none());
    file.set_xattr(SECURITY_IMA, b"\x03\x02one").await.unwrap();
    assert_eq!(xattr.open(&at).await.unwrap().evidence.ima.len(), 1, "the same twice");
    file.set_xattr(SECURITY_IMA, b"\x06\x03two").await.unwrap();
    assert_eq!(xattr.open(&at).await.unwrap().evidence.ima.len(), 2);

    let (one, tree) = evidence(&content, 1);
    put(&**xattr, &at, &one, &tree).await.unwrap();
    assert!(same(&xattr.open(&at).await.unwrap().evidence, &one), "what it does not name is gone");
    for name in [USER_IMA, SECURITY_IMA] {
        assert_eq!(
            file.get_xattr(name, 99).await.unwrap().unwrap(),
            one.ima[1],
            "of the file, not its digest"
        );
    }
    file.set_xattr(USER_IMA, &[3; 1025]).await.unwrap();
    assert!(matches!(xattr.open(&at).await, Err(CarrierError::Malformed { .. })));
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing_and_names_another_carrier() {
    let at = path("f");
    let (_, _, carriers, content) = scene(600_000);
    let xattr = carriers.get(CarrierKind::Xattr).unwrap();
    let (one, tree) = evidence(&content, 1);
    put(&**xattr, &at, &one, &tree).await.unwrap();
    let mut two = evidence(&content, 2).0;
    two.statement = Some(Bytes::from(vec![7; 100_000]));
    assert_eq!(refusal(put(&**xattr, &at, &two, &tree).await), Refusal::NoRoom(CarrierKind::Xattr));
    assert_eq!(xattr.open(&at).await.unwrap().evidence.statement, one.statement);
    let open = xattr.open(&at).await.unwrap();
    let refused = xattr.update(&at, &open, &two).await.unwrap_err();
    assert!(refused.to_string().contains("use another one, such as sidecar"), "{refused}");
    two.statement = Some(Bytes::from(vec![7; 300_000]));
    assert!(matches!(put(&**xattr, &at, &two, &tree).await, Err(CarrierError::Malformed { .. })));
}

#[tokio::test]
async fn the_kernel_holds_what_it_can_and_attributes_the_rest() {
    let at = path("f");
    let (sealing, store, carriers, content) = scene(600_000);
    let kernel = carriers.get(CarrierKind::Kernel).unwrap();
    let (one, tree) = evidence(&content, 1);
    put(&**kernel, &at, &one, &tree).await.unwrap();
    sealing.spoil(|sealed| {
        assert_eq!((&sealed.tree, &sealed.signature[..]), (&tree, &one.pkcs7[0][..]));
    });
    let value = store.open(&at).await.unwrap().get_xattr(BUNDLE_XATTR, 65536).await.unwrap().unwrap();
    let rest = bundle::Head::parse(&value).unwrap().evidence;
    assert_eq!(rest.pkcs7, [one.pkcs7[1].clone()], "one copy of each");
    put(&**kernel, &at, &one, &tree).await.unwrap();
    assert!(store.stat(&path(".nfs-verity/f")).await.is_err(), "no second copy of the tree");

    let only = Evidence {
        descriptor: one.descriptor.clone(),
        pkcs7: one.pkcs7[..1].to_vec(),
        ..Evidence::default()
    };
    put(&**kernel, &at, &only, &tree).await.unwrap();
    assert_eq!(kernel.open(&at).await.unwrap().evidence, only);
    assert!(store.open(&at).await.unwrap().list_xattrs().await.unwrap().is_empty());
    let (other, _) = evidence(&content[..9], 1);
    let changed = refusal(put(&**kernel, &at, &other, &[]).await);
    assert_eq!(changed, Refusal::Changed);
    let mut salted = only.clone();
    let mut descriptor = only.descriptor.clone().unwrap().to_vec();
    descriptor[80] ^= 1;
    salted.descriptor = Some(descriptor.into());
    assert!(matches!(refusal(put(&**kernel, &at, &salted, &[]).await), Refusal::OtherSeal { .. }));
    salted.descriptor = Some(Bytes::from_static(b"none"));
    assert_eq!(refusal(put(&**kernel, &at, &salted, &[]).await), Refusal::Descriptor);
}

#[tokio::test]
async fn a_kernel_is_not_believed() {
    let at = path("f");
    let (sealing, _, carriers, content) = scene(600_000);
    let kernel = carriers.get(CarrierKind::Kernel).unwrap();
    let (one, tree) = evidence(&content, 1);
    put(&**kernel, &at, &one, &tree).await.unwrap();
    let good = sealing.sealed.lock().values().next().unwrap().clone();
    sealing.spoil(|sealed| sealed.tree.truncate(9000));
    let open = kernel.open(&at).await.unwrap();
    assert!(open.read_tree(0, 8192).await.is_ok());
    assert!(matches!(open.read_tree(4096, 8192).await, Err(CarrierError::Malformed { .. })));
    for length in [0, 255, 257, 4096] {
        sealing.spoil(|sealed| sealed.descriptor.resize(length, 0));
        assert!(matches!(kernel.open(&at).await, Err(CarrierError::Malformed { .. })), "{length}");
    }
    sealing.spoil(|sealed| *sealed = Sealed { signature: vec![1; 20_000], ..good.clone() });
    // The model gives 5000 bytes at a time, and the real one all.
    assert_eq!(kernel.open(&at).await.unwrap().evidence.pkcs7[0].len(), 5000);
    sealing.spoil(|sealed| *sealed = Sealed { signature: Vec::new(), ..good });
    assert_eq!(kernel.open(&at).await.unwrap().evidence.pkcs7, [one.pkcs7[1].clone()]);
}

#[tokio::test]
async fn a_signature_that_the_kernel_refuses_and_a_store_without_seals_are_told_apart() {
    let at = path("f");
    let (_, _, carriers, content) = scene(5000);
    let kernel = carriers.get(CarrierKind::Kernel).unwrap();
    let (mut one, tree) = evidence(&content, 1);
    one.pkcs7[0] = Bytes::from_static(b"bad");
    assert!(matches!(refusal(put(&**kernel, &at, &one, &tree).await), Refusal::Seal(_)));
    let memory = crate::store::Memory::new();
    memory.put("f", &content).unwrap();
    let store: Arc<dyn Store> = Arc::new(memory);
    let kernel = Kernel::new(store);
    assert!(kernel.open(&at).await.err().unwrap().is_missing());
    assert_eq!(refusal(put(&kernel, &at, &one, &tree).await), Refusal::Unsupported(CarrierKind::Kernel));
}

#[test]
fn what_a_signer_saw_is_compared_as_far_as_the_carrier_leaves_it() {
    let attr = Attr {
        kind: crate::store::Kind::Regular,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 1,
        used: 1,
        rdev: (0, 0),
        fileid: 5,
        atime: Time::default(),
        mtime: Time { seconds: 6, nanos: 7 },
        ctime: Time { seconds: 8, nanos: 9 },
        change: 10,
    };
    let seen = Observed::of(&attr);
    let moved = Attr { ctime: Time::default(), ..attr };
    let renewed = Attr { fileid: 6, ..moved };
    let touched = Attr { mtime: Time::default(), ..attr };
    for kind in CarrierKind::ALL {
        let matches = |attr| seen.matches(attr, kind);
        assert!(matches(&attr) && !matches(&touched), "{kind}");
        assert_eq!(matches(&moved), kind != CarrierKind::Sidecar, "{kind}");
        assert_eq!(matches(&renewed), kind == CarrierKind::Appended, "{kind}");
    }
}
