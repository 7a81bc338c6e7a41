//! Stores that go silent and come back: who waits, who hears "later", and that all bytes are right then.

use std::sync::Arc;
use std::time::Duration;

use nfs_verity::event::{Event, Sink};
use nfs_verity::export::{ExportError, READ_MAX};
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Fault, Faulty, Memory, Patient, Slow, Store, StoreErrorKind, StorePath};
use parking_lot::Mutex;

use super::scene::{CACHE, Gate, shared, small_blocks};
use super::support::{content, key_and_trust, seal};
use nfs_verity::policy::Mode;

const TIMEOUT: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);
const FILES: [(&str, usize); 4] = [("a", 200_000), ("b/one", 700), ("b/empty", 0), ("b/c/three", 70_000)];

/// What is told of stores.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn all(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Sink for Told {
    fn emit(&self, event: &Event<'_>) {
        match event {
            Event::StoreDown { store, error } => self.0.lock().push(format!("{store} down: {error}")),
            Event::StoreUp { store } => self.0.lock().push(format!("{store} up")),
            _ => {}
        }
    }
}

/// A signed tree behind a link.
struct Site {
    link: Slow,
    memory: Memory,
    keyring: Keyring,
    told: Arc<Told>,
}

impl Site {
    async fn new() -> Self {
        let (key, keyring) = key_and_trust();
        let memory = Memory::new();
        for (n, (path, size)) in (0..).zip(FILES) {
            memory.put(path, &content(n, size)).unwrap();
            seal(&shared(&memory), path, &content(n, size), small_blocks(), &key).await;
        }
        let link = Slow::new(shared(&memory), Duration::from_millis(3), 0);
        Self { link, memory, keyring, told: Arc::default() }
    }

    fn soft(&self) -> Arc<dyn Store> {
        Arc::new(Patient::soft(Arc::new(self.link.clone()), TIMEOUT, self.told.clone()))
    }

    /// As a gateway makes it: what fails after its time is tried again.
    fn hard(&self) -> Arc<dyn Store> {
        Arc::new(Patient::hard(self.soft()))
    }

    async fn gate(&self, store: Arc<dyn Store>) -> Gate {
        // Nothing in memory: each READ needs the store.
        Gate::try_new(store, &self.keyring, Mode::Enforce, 0).await.unwrap()
    }
}

/// Reads the whole file, asking again for as long as the answer is "later". Gives how often it was.
async fn read_all(gate: &Gate, path: &str, expected: &[u8]) -> usize {
    let (mut all, mut later) = (Vec::new(), 0);
    let mut ask = async |offset| loop {
        match gate.read_at(path, offset, 10_000).await {
            Ok(data) => return data,
            Err(ExportError::Busy) => later += 1,
            Err(error) => panic!("{path}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    loop {
        let data = ask(all.len() as u64).await;
        all.extend(data.bytes);
        if data.eof {
            break;
        }
    }
    assert!(all == expected, "{path}");
    later
}

async fn read_tree(gate: &Gate) -> usize {
    let mut later = 0;
    for (n, (path, size)) in (0..).zip(FILES) {
        later += read_all(gate, path, &content(n, size)).await;
    }
    later
}

/// Cuts the link again and again, for longer than the timeout, while the tree is read.
async fn read_under_cuts(site: &Site, gate: &Gate) -> usize {
    let cutting = async {
        loop {
            // Long enough for some READs with all that comes before them.
            tokio::time::sleep(Duration::from_millis(300)).await;
            site.link.cut();
            tokio::time::sleep(TIMEOUT * 5).await;
            site.link.mend();
        }
    };
    tokio::select! {
        later = read_tree(gate) => later,
        () = cutting => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn under_cuts_a_hard_reader_waits_and_gets_all_of_it_right() {
    let site = Site::new().await;
    let gate = site.gate(site.hard()).await;
    assert_eq!(read_under_cuts(&site, &gate).await, 0);
    let told = site.told.all();
    assert!(told.iter().any(|line| line.contains("down")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn under_cuts_a_soft_reader_hears_later_and_gets_all_of_it_right() {
    let site = Site::new().await;
    let gate = site.gate(site.soft()).await;
    assert!(read_under_cuts(&site, &gate).await > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_once_down_and_once_up() {
    let site = Site::new().await;
    let store = site.soft();
    let root = StorePath::root();
    store.stat(&root).await.unwrap();
    site.link.cut();
    for _ in 0..10 {
        assert_eq!(store.stat(&root).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    }
    let told = site.told.all();
    assert_eq!(told, ["slow memory down: /: cannot stat: no answer in 2 seconds"], "{told:?}");
    site.link.mend();
    store.stat(&root).await.unwrap();
    store.stat(&root).await.unwrap();
    assert_eq!(site.told.all(), ["slow memory up"]);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_down_one_call_asks_and_no_other_waits() {
    let site = Site::new().await;
    let store = site.soft();
    site.link.cut();
    let root = StorePath::root();
    for _ in 0..3 {
        store.stat(&root).await.unwrap_err();
    }
    let start = tokio::time::Instant::now();
    let probe = store.stat(&root);
    let others = async {
        tokio::task::yield_now().await;
        for _ in 0..1000 {
            assert_eq!(store.stat(&root).await.unwrap_err().kind, StoreErrorKind::Unavailable);
        }
        start.elapsed()
    };
    let (probe, others) = tokio::join!(probe, others);
    assert_eq!(probe.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(others, Duration::ZERO);
    // One that stopped asking does not keep others from it.
    assert!(tokio::time::timeout(TIMEOUT / 2, store.stat(&root)).await.is_err());
    site.link.mend();
    store.stat(&root).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_or_two_are_not_told() {
    let memory = Memory::new();
    let faulty = Faulty::new(shared(&memory));
    let told = Arc::<Told>::default();
    let store = Patient::soft(Arc::new(faulty.clone()), TIMEOUT, told.clone());
    for n in [1, 2, 4, 5] {
        faulty.fail_at(n, Fault::Error(StoreErrorKind::Unavailable));
    }
    for _ in 0..6 {
        let _ = store.stat(&StorePath::root()).await;
    }
    assert_eq!(told.all(), Vec::<String>::new());
    // Other errors are answers.
    faulty.reset();
    faulty.fail_every(1, Fault::Error(StoreErrorKind::Io));
    for _ in 0..6 {
        assert_eq!(store.stat(&StorePath::root()).await.unwrap_err().kind, StoreErrorKind::Io);
    }
    assert_eq!(told.all(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_start_without_its_store_waits_or_says_why_it_does_not() {
    let site = Site::new().await;
    site.link.cut();
    let started = tokio::time::timeout(HOUR, Gate::try_new(site.hard(), &site.keyring, Mode::Enforce, CACHE));
    let mended = async {
        tokio::time::sleep(HOUR / 2).await;
        site.link.mend();
    };
    let (gate, ()) = tokio::join!(started, mended);
    read_tree(&gate.unwrap().unwrap()).await;
    site.link.cut();
    assert!(Gate::try_new(site.soft(), &site.keyring, Mode::Enforce, CACHE).await.is_none());
    let error = site.soft().stat(&StorePath::root()).await.unwrap_err();
    assert_eq!(error.to_string(), "/: cannot stat: no answer in 2 seconds");
}

#[tokio::test]
async fn whichever_call_is_not_answered_clients_hear_later_and_nothing_else() {
    let site = Site::new().await;
    let faulty = Faulty::new(shared(&site.memory));
    for (path, size) in FILES {
        let n = FILES.iter().position(|(name, _)| *name == path).unwrap() as u64;
        let content = content(n, size);
        let mut later = 0;
        for call in 1.. {
            faulty.reset();
            let gate = site.gate(Arc::new(faulty.clone())).await;
            let before = faulty.calls();
            // What is found out later is asked anew, as after a while.
            faulty.fail_at(before + call, Fault::Error(StoreErrorKind::Unavailable));
            match gate.read_at(path, 0, READ_MAX).await {
                Ok(data) => {
                    assert!(data.is_of(&content, 0, READ_MAX), "{path}, call {call}");
                    if faulty.calls() < before + call {
                        break;
                    }
                }
                Err(ExportError::Busy) => later += 1,
                Err(error) => panic!("{path}, call {call}: {error:?}"),
            }
            assert_eq!(gate.events.refused(), Vec::new(), "{path}, call {call}: nothing is wrong with it");
        }
        assert!(later > 0 || size == 0, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_is_as_slow_as_it_says() {
    let site = Site::new().await;
    let store = Slow::new(shared(&site.memory), Duration::from_secs(1), 100_000);
    let start = tokio::time::Instant::now();
    let file = store.open(&StorePath::parse(b"a").unwrap()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let (one, two) = tokio::join!(file.read_at(0, 100_000), file.read_at(100_000, 100_000));
    assert_eq!([one.unwrap(), two.unwrap()].concat(), content(0, 200_000));
    assert_eq!(start.elapsed().as_secs(), 4, "a second there, and two seconds for all bytes");
}
