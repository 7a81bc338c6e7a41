use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::*;
use crate::verity::{BlockSize, Descriptor, HashAlgorithm, Params, Salt, reference};

fn file(n: u8) -> FileKey {
    let salt = Salt::new(b"").unwrap();
    let params = Params { algorithm: HashAlgorithm::Sha256, block_size: BlockSize::default(), salt };
    let (root_hash, _) = reference::root_and_tree(&[n], &params);
    FileKey::new(&Descriptor { params, size: 1, root_hash }.file_digest())
}

fn bytes(n: u64) -> Verified<Bytes> {
    Verified::proven(Bytes::copy_from_slice(&n.to_le_bytes()))
}

fn find(flights: &Flights, extent: u64, ends: bool) -> Found {
    flights.find(file(1), extent, Span::Extent(extent), ends)
}

fn claimed(flights: &Flights, extent: u64) -> Claim {
    let Found::Nothing(claim) = find(flights, extent, true) else { panic!("{extent} is taken") };
    claim
}

fn coming(flights: &Flights, extent: u64, ends: bool) -> Told {
    let Found::Coming(Span::Extent(at), told) = find(flights, extent, ends) else { panic!("{extent}") };
    assert_eq!(at, extent);
    told
}

async fn given(told: Told) -> Given {
    match told.hear().await {
        Heard::Given(given) => given,
        Heard::Nothing | Heard::GivenUp => panic!("it was not proven"),
    }
}

fn room() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn is_empty(flights: &Flights) -> bool {
    flights.shards.iter().all(|shard| shard.lock().is_empty())
}

#[tokio::test]
async fn who_waits_is_given_the_bytes_or_told_to_ask_for_itself_or_that_it_was_given_up() {
    let flights = Flights::default();
    let claim = claimed(&flights, 1);
    let told = [coming(&flights, 1, true), coming(&flights, 1, false)];
    claim.proven(&bytes(1));
    for told in told {
        assert_eq!(given(told).await.bytes, bytes(1));
    }
    let claim = claimed(&flights, 1);
    let told = coming(&flights, 1, true);
    claim.failed();
    assert!(matches!(told.hear().await, Heard::Nothing));
    let claim = claimed(&flights, 1);
    let told = coming(&flights, 1, true);
    drop(claim);
    assert!(matches!(told.hear().await, Heard::GivenUp));
    assert!(is_empty(&flights));
}

#[tokio::test]
async fn a_claim_holds_for_its_span_of_its_file_alone() {
    let flights = Flights::default();
    let _claim = claimed(&flights, 64);
    for extent in [0, 63, 65, 128] {
        assert!(flights.claim(file(1), extent).is_some(), "{extent}");
    }
    assert!(flights.claim(file(1), 64).is_none());
    assert!(flights.claim(file(2), 64).is_some());
    assert!(flights.join(file(1), 64, false).is_some() && flights.join(file(1), 0, false).is_none());
    // A block of it waits for it; one of another extent does not, and neither do two of another.
    let block = |extent, block| flights.find(file(1), extent, Span::Block(block), false);
    assert!(matches!(block(64, 1024), Found::Coming(Span::Extent(64), _)));
    let Found::Nothing(_block) = block(0, 5) else { panic!() };
    assert!(matches!(block(0, 6), Found::Nothing(_)));
    assert!(matches!(block(0, 5), Found::Coming(Span::Block(5), _)));
}

#[tokio::test(start_paused = true)]
async fn what_was_proven_ahead_waits_for_who_reads_it_to_its_end() {
    let (flights, free) = (Flights::default(), Arc::new(Semaphore::new(2)));
    let room = || free.clone().try_acquire_owned().unwrap();
    assert!(claimed(&flights, 1).keep(bytes(1), room()));
    assert!(claimed(&flights, 2).keep(bytes(2), room()));
    assert_eq!((flights.held(), free.available_permits()), ((16, 2), 0));
    let found = |found| match found {
        Found::Proven(_, bytes) => bytes,
        Found::Nothing(_) | Found::Coming(..) | Found::Late => panic!("it is not there"),
    };
    let block = || flights.find(file(1), 1, Span::Block(17), false);
    assert_eq!(found(block()), bytes(1));
    assert_eq!(found(find(&flights, 1, false)), bytes(1));
    assert!(flights.claim(file(1), 1).is_none());
    assert_eq!(found(find(&flights, 1, true)), bytes(1));
    assert_eq!((flights.held(), free.available_permits()), ((8, 1), 1));
    drop(claimed(&flights, 1));
    // The other one stays for a while.
    tokio::time::sleep(LIFE / 2).await;
    flights.forget_late();
    assert_eq!(flights.held(), (8, 1));
    tokio::time::sleep(LIFE / 2).await;
    flights.forget_late();
    assert_eq!((flights.held(), free.available_permits()), ((0, 0), 2));
    assert!(is_empty(&flights));
}

#[tokio::test]
async fn what_somebody_waited_for_is_kept_while_its_end_is_wanted() {
    let flights = Flights::default();
    for (ends, is_kept) in [(false, true), (true, false)] {
        let claim = claimed(&flights, 3);
        let told = coming(&flights, 3, ends);
        assert_eq!(claim.keep(bytes(3), room()), is_kept);
        let given = given(told).await;
        assert_eq!((given.bytes, given.is_first), (bytes(3), !is_kept));
        assert_eq!(flights.held().1, u64::from(is_kept));
        drop(find(&flights, 3, true));
    }
    assert!(is_empty(&flights));
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_long_is_not_waited_for() {
    let flights = Flights::default();
    let claim = claimed(&flights, 4);
    tokio::time::sleep(PATIENCE / 2).await;
    let (told, began) = (coming(&flights, 4, true), Instant::now());
    assert!(matches!(told.hear().await, Heard::Nothing));
    assert!(began.elapsed() < PATIENCE);
    assert!(matches!(find(&flights, 4, true), Found::Late));
    assert!(flights.join(file(1), 4, true).is_none() && flights.claim(file(1), 4).is_none());
    claim.proven(&bytes(4));
    assert!(is_empty(&flights));
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    async fn pause(&mut self) {
        match self.below(3) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(self.below(20))).await,
        }
    }
}

/// One that wants the extents `from..to` in order, as a READ does: it claims some at once, and waits for one only when
/// it has claimed none.
async fn reads(flights: Arc<Flights>, from: u64, to: u64, mut dice: Dice) {
    let (mut at, mut claims): (u64, Vec<(u64, Claim)>) = (from, Vec::new());
    while at < to {
        let claim = match claims.iter().position(|(extent, _)| *extent == at) {
            Some(place) => claims.swap_remove(place).1,
            None => {
                claims.clear();
                match find(&flights, at, true) {
                    Found::Nothing(claim) => {
                        let more = (at + 1..to).map_while(|next| Some((next, flights.claim(file(1), next)?)));
                        claims = more.collect();
                        dice.pause().await;
                        claim
                    }
                    Found::Late => panic!("nothing takes as long"),
                    Found::Coming(_, told) => {
                        match told.hear().await {
                            Heard::Given(given) => assert_eq!(given.bytes, bytes(at)),
                            Heard::Nothing => dice.pause().await,
                            Heard::GivenUp => continue,
                        }
                        at += 1;
                        continue;
                    }
                    Found::Proven(_, given) => {
                        assert_eq!(given, bytes(at));
                        at += 1;
                        continue;
                    }
                }
            }
        };
        dice.pause().await;
        match dice.below(8) {
            0 => claim.failed(),
            1 => drop(claim),
            2 => drop(claim.keep(bytes(at), room())),
            _ => claim.proven(&bytes(at)),
        }
        at += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn however_they_overlap_fail_and_give_up_all_come_to_an_end_and_nothing_is_left() {
    for seed in 0..300 {
        let (flights, mut dice) = (Arc::<Flights>::default(), Dice(seed));
        let mut all: Vec<JoinHandle<()>> = Vec::new();
        for n in 0..12 {
            let from = dice.below(10);
            let to = from + 1 + dice.below(10);
            let read = tokio::spawn(reads(flights.clone(), from, to, Dice(dice.below(u64::MAX) ^ n)));
            if dice.below(3) == 0 {
                let (stop, after) = (read.abort_handle(), Duration::from_millis(dice.below(40)));
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    stop.abort();
                });
            }
            dice.pause().await;
            all.push(read);
        }
        for read in all {
            let ended = tokio::time::timeout(Duration::from_secs(3600), read).await;
            match ended.unwrap_or_else(|_| panic!("it hangs with {seed}")) {
                Ok(()) => {}
                Err(error) => assert!(error.is_cancelled(), "{seed}: {error}"),
            }
        }
        tokio::time::sleep(LIFE).await;
        flights.forget_late();
        assert!(is_empty(&flights), "{seed}");
    }
}
