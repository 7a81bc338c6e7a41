use std::sync::atomic::Ordering;

use super::scene::Scene;
use super::*;

pub(super) fn path(text: impl AsRef<[u8]>) -> StorePath {
    StorePath::parse(text.as_ref()).unwrap()
}

pub(super) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

pub(super) async fn names(store: &dyn Store, directory: &str) -> Vec<Vec<u8>> {
    let page = store.read_dir(&path(directory), 0, 1000).await.unwrap();
    let mut names: Vec<_> = page.entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names.split_off(2)
}

#[tokio::test]
async fn a_file_that_is_read_through_takes_few_requests_and_no_byte_twice() {
    let scene = Scene::new();
    let content = bytes(21_000_003);
    scene.put("f", &content);
    let file = scene.store.open(&path("f")).await.unwrap();
    let mut all = Vec::new();
    while all.len() < content.len() {
        let (at, step) = (all.len() as u64, 65536);
        match file.try_read_at(at, step) {
            Some(bytes) => all.extend(bytes),
            None => all.extend(file.read_at(at, step).await.unwrap()),
        }
    }
    assert!(all == content);
    let reads = scene.counted.reads.lock().clone();
    assert!(reads.len() <= 12, "{reads:?}");
    let fetched: u64 = reads.iter().map(|range| range.end - range.start).sum();
    // The first read shows nothing yet of what follows.
    assert!(fetched <= 21_000_003 + 65536, "{fetched}");
}

#[tokio::test]
async fn reads_here_and_there_fetch_what_they_want() {
    let scene = Scene::new();
    let content = bytes(90_000_000);
    scene.put("f", &content);
    let file = scene.store.open(&path("f")).await.unwrap();
    let mut at = 1;
    for _ in 0..50 {
        at = at * 7_368_787 % 89_000_000;
        let right = &content[usize::try_from(at).unwrap()..][..4096];
        assert_eq!(file.read_at(at, 4096).await.unwrap(), right);
    }
    let fetched: u64 = scene.counted.reads.lock().iter().map(|range| range.end - range.start).sum();
    // Some fall near each other, and look as if somebody read on.
    assert!(fetched < 90_000_000 / 2, "{fetched}");
    assert!(scene.counted.reads.lock().iter().filter(|range| range.end - range.start == 4096).count() > 25);
}

#[tokio::test]
async fn those_who_want_the_same_bytes_wait_for_one_request() {
    let scene = Scene::new();
    scene.put("small", &bytes(200_000));
    let file = scene.store.open(&path("small")).await.unwrap();
    let reads = (0..16).map(|n| file.read_at(n * 10_000, 10_000));
    let all = futures_util::future::join_all(reads).await;
    assert!(all.into_iter().map(|read| read.unwrap()).collect::<Vec<_>>().concat() == bytes(160_000));
    assert_eq!(scene.counted.reads.lock().clone(), std::iter::once(0..u64::MAX).collect::<Vec<_>>());
    drop(file);
}

#[tokio::test]
async fn what_was_fetched_of_one_version_is_not_given_for_another() {
    let scene = Scene::new();
    scene.put("f", &[1; 1000]);
    let old = scene.store.open(&path("f")).await.unwrap();
    assert_eq!(old.read_at(0, 1000).await.unwrap().as_ref(), [1; 1000]);
    scene.put("f", &[2; 1000]);
    let new = scene.store.open(&path("f")).await.unwrap();
    assert_eq!(new.read_at(0, 1000).await.unwrap().as_ref(), [2; 1000]);
    assert_eq!(old.stat().await.unwrap().nlink, 0);
    assert_eq!(new.stat().await.unwrap().nlink, 1);
}

#[tokio::test]
async fn a_directory_stands_before_an_object_of_its_name() {
    let scene = Scene::new();
    scene.put("a", b"object");
    assert_eq!(scene.store.stat(&path("a")).await.unwrap().kind, Kind::Regular);
    scene.put("a/b", b"below");
    scene.put("a-b", b"beside");
    assert_eq!(scene.store.stat(&path("a")).await.unwrap().kind, Kind::Directory);
    assert_eq!(names(&*scene.store, "").await, [&b"a"[..], b"a-b"]);
    assert_eq!(names(&*scene.store, "a").await, [b"b"]);
    let opened = scene.store.open(&path("a")).await;
    assert_eq!(opened.err().unwrap().kind, StoreErrorKind::IsADirectory);
    scene.store.remove(&path("a")).await.unwrap();
    assert_eq!(names(&*scene.store, "").await, [b"a-b"]);
}

#[tokio::test]
async fn nothing_beside_the_prefix_is_seen_or_removed() {
    let scene = Scene::new();
    scene.put("d/f", b"mine");
    let others = ["pre/fi", "pre/fixed", "pre/other", "d/f", "pre/fix2/d/f"];
    for key in others {
        scene.objects.put(&Path::parse(key).unwrap(), "theirs".into()).await.unwrap();
    }
    assert_eq!(names(&*scene.store, "").await, [b"d"]);
    scene.store.remove(&path("d")).await.unwrap();
    assert!(names(&*scene.store, "").await.is_empty());
    for key in others {
        scene.objects.head(&Path::parse(key).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_known_is_not_asked_again_until_it_is_old() {
    let scene = Scene::remembering();
    for n in 0..500 {
        scene.put(&format!("d/f{n}"), b"x");
    }
    for _ in 0..3 {
        scene.store.stat(&path("d/f7")).await.unwrap();
        assert!(scene.store.stat(&path("d/none")).await.is_err());
    }
    let heads = || scene.counted.control.heads.load(Ordering::Relaxed);
    let asked = heads();
    assert!(asked <= 3, "{asked}");
    assert_eq!(names(&*scene.store, "d").await.len(), 500);
    for n in 0..500 {
        let attr = scene.store.stat(&path(format!("d/f{n}"))).await.unwrap();
        assert_eq!(attr.size, 1);
    }
    assert_eq!(heads(), asked, "the listing tells as much");
    let file = scene.store.open(&path("d/f8")).await.unwrap();
    assert_eq!(file.stat().await.unwrap(), scene.store.stat(&path("d/f8")).await.unwrap());
    assert_eq!(heads(), asked);
}

#[tokio::test]
async fn what_the_gateway_writes_itself_is_seen_at_once() {
    let scene = Scene::remembering();
    scene.put("d/old", b"x");
    assert_eq!(names(&*scene.store, "d").await, [b"old"]);
    assert!(scene.store.stat(&path("d/new")).await.is_err());
    assert!(scene.store.create_new(&path("d/new"), b"one").await.unwrap());
    assert!(!scene.store.create_new(&path("d/new"), b"two").await.unwrap());
    assert_eq!(scene.store.stat(&path("d/new")).await.unwrap().size, 3);
    let mut writer = scene.store.create(&path("d/e/newer"), &path("scratch")).await.unwrap();
    writer.write_at(0, b"hello").await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(names(&*scene.store, "d").await, [&b"e"[..], b"new", b"old"]);
    scene.store.remove(&path("d/old")).await.unwrap();
    assert_eq!(names(&*scene.store, "d").await, [&b"e"[..], b"new"]);
    assert!(scene.store.stat(&path("d/old")).await.is_err());
}

#[tokio::test]
async fn a_name_that_no_key_can_have_is_not_there_and_cannot_be_made() {
    let scene = Scene::new();
    let kind = async |name: &[u8]| {
        let at = path(name);
        assert_eq!(scene.store.stat(&at).await.unwrap_err().kind, StoreErrorKind::NotFound);
        assert_eq!(scene.store.remove(&at).await.unwrap_err().kind, StoreErrorKind::NotFound);
        scene.store.create(&at, &path("scratch")).await.err().unwrap().kind
    };
    assert_eq!(kind(b"not \xff utf-8").await, StoreErrorKind::Unsupported);
    assert_eq!(kind(b"new\nline").await, StoreErrorKind::Unsupported);
    assert_eq!(kind([&*"n".repeat(200); 6].join("/").as_bytes()).await, StoreErrorKind::NameTooLong);
    for name in ["back\\slash", "*", " ", "...", "%41", "#?&+", "\u{e4}"] {
        let mut writer = scene.store.create(&path(name), &path("scratch")).await.unwrap();
        writer.write_at(0, name.as_bytes()).await.unwrap();
        writer.commit().await.unwrap();
        let file = scene.store.open(&path(name)).await.unwrap();
        assert_eq!(file.read_at(0, 99).await.unwrap(), name.as_bytes());
    }
    assert_eq!(names(&*scene.store, "").await.len(), 7);
}

#[tokio::test]
async fn what_a_bucket_cannot_keep_of_attributes_is_refused_unless_it_is_so_already() {
    let scene = Scene::remembering();
    let attributes = crate::store::Attributes {
        mode: 0o644,
        owner: Some((0, 0)),
        atime: Default::default(),
        mtime: Default::default(),
        xattrs: Vec::new(),
    };
    let mut writer = scene.store.create(&path("f"), &path("scratch")).await.unwrap();
    writer.set_attributes(&attributes).await.unwrap();
    let other = crate::store::Attributes { mode: 0o600, ..attributes.clone() };
    assert_eq!(writer.set_attributes(&other).await.unwrap_err().kind, StoreErrorKind::Unsupported);
    let xattrs = vec![(b"user.x".to_vec(), bytes::Bytes::new())];
    let other = crate::store::Attributes { xattrs, ..attributes };
    assert_eq!(writer.set_attributes(&other).await.unwrap_err().kind, StoreErrorKind::Unsupported);
}

#[tokio::test]
async fn two_gateways_give_the_same_numbers_and_cookies_whatever_else_is_there() {
    let (one, two) = (Scene::new(), Scene::remembering());
    for n in 0..100 {
        one.put(&format!("d/f{n}"), b"x");
        two.put(&format!("d/f{n}"), b"other");
        two.put(&format!("d/more{n}"), b"x");
    }
    let list = async |scene: &Scene| scene.store.read_dir(&path("d"), 0, 1000).await.unwrap().entries;
    let mut all = list(&two).await;
    all.retain(|entry| !entry.name.starts_with(b"more"));
    assert_eq!(list(&one).await, all);
}

/// A writer of more than is kept in memory, and one of less, with what they write.
async fn writers(scene: &Scene) -> [(Box<dyn StoreWriter>, Vec<u8>); 2] {
    let mut writers = Vec::new();
    for size in [1000, 9_000_000] {
        let mut writer = scene.store.create(&path("d/f"), &path("scratch")).await.unwrap();
        writer.write_at(0, &bytes(size)).await.unwrap();
        writers.push((writer, bytes(size)));
    }
    writers.try_into().ok().unwrap()
}

#[tokio::test]
async fn what_is_put_in_the_place_after_a_writer_was_made_ready_stays() {
    for before in [None, Some(&b"before"[..])] {
        for n in 0..2 {
            for after in [None, Some(&b"after"[..])] {
                let scene = Scene::remembering();
                if let Some(before) = before {
                    scene.put("d/f", before);
                }
                let [one, other] = writers(&scene).await;
                let (mut writer, content) = if n == 0 { one } else { other };
                writer.prepare().await.unwrap();
                writer.prepare().await.unwrap();
                if let Some(after) = after {
                    scene.put("d/f", after);
                }
                let done = writer.commit().await;
                let there = scene.store.open(&path("d/f")).await.unwrap().read_at(0, content.len()).await;
                let there = there.unwrap();
                match after {
                    None => assert!(done.is_ok() && there == content),
                    Some(after) => {
                        assert_eq!(done.unwrap_err().kind, StoreErrorKind::Stale);
                        assert_eq!(there, after);
                    }
                }
            }
        }
    }
    // Whoever does not ask for it replaces what is there.
    let scene = Scene::remembering();
    for (writer, content) in writers(&scene).await {
        scene.put("d/f", b"after");
        writer.commit().await.unwrap();
        let there = scene.store.open(&path("d/f")).await.unwrap().read_at(0, content.len()).await;
        assert!(there.unwrap() == content);
    }
}

#[tokio::test]
async fn what_is_to_be_forgotten_is_asked_again() {
    let scene = Scene::remembering();
    scene.put("d/f", b"one");
    assert_eq!(scene.store.stat(&path("d/f")).await.unwrap().size, 3);
    scene.put("d/f", b"other");
    assert_eq!(scene.store.stat(&path("d/f")).await.unwrap().size, 3);
    scene.store.forget(&path("d/f"));
    assert_eq!(scene.store.stat(&path("d/f")).await.unwrap().size, 5);
}

#[tokio::test]
async fn what_is_replaced_gives_on_the_metadata_that_nobody_looks_at() {
    use object_store::{Attribute, PutOptions};
    let key = Path::parse("pre/fix/d/f").unwrap();
    let name = |name: &'static str| Attribute::Metadata(name.into());
    for metadata in [false, true] {
        let scene = Scene::with("pre/fix/", Look { metadata, ..Look::default() });
        for size in [1000, 9_000_000] {
            let pairs = [(Attribute::ContentType, "text/x"), (name("mode"), "33152"), (name("uid"), "7")];
            let attributes = pairs.into_iter().collect();
            let options = PutOptions { attributes, ..PutOptions::default() };
            scene.objects.put_opts(&key, "old".into(), options).await.unwrap();
            scene.store.forget(&path("d/f"));
            let file = scene.store.open(&path("d/f")).await.unwrap();
            let own = crate::store::Attributes::of(&*file).await.unwrap();
            let mut writer = scene.store.create(&path("d/f"), &path("scratch")).await.unwrap();
            writer.write_at(0, &bytes(size)).await.unwrap();
            let mtime = crate::store::Time { seconds: 1_600_000_000, nanos: 0 };
            writer.set_attributes(&crate::store::Attributes { mtime, ..own }).await.unwrap();
            writer.commit().await.unwrap();
            let now = scene.objects.get(&key).await.unwrap().attributes;
            let of = |attribute| now.get(&attribute).map(|value| value.to_string()).unwrap_or_default();
            assert_eq!(of(Attribute::ContentType), "text/x", "{metadata} {size}");
            assert_eq!(
                (of(name("mode")), of(name("uid"))),
                ("33152".into(), "7".into()),
                "{metadata} {size}"
            );
            assert!(of(name("mtime")).starts_with("1600000000."), "{metadata} {size}");
        }
    }
}
