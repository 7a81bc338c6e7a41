//! One client against all.

use super::account::Resource;
use super::*;

#[tokio::test]
async fn ids_tell_nothing_of_each_other() {
    let world = World::new();
    let mut seen = BTreeSet::new();
    for n in 0..100 {
        let mounted = world.mount(&format!("owner {n}")).await;
        let open = world.open(mounted.client, "o", 1, READ, NONE).await.unwrap();
        assert!(seen.insert(mounted.client.to_be_bytes().to_vec()));
        assert!(seen.insert(mounted.session[..8].to_vec()));
        assert!(seen.insert(mounted.session[8..].to_vec()));
        assert!(seen.insert(open.other[..6].to_vec()));
        assert!(seen.insert(open.other[6..].to_vec()));
    }
    // The same in another instance are others.
    let mut world = world;
    world.restart();
    let mounted = world.mount("owner 0").await;
    assert!(seen.insert(mounted.client.to_be_bytes().to_vec()));
    assert!(seen.insert(mounted.session[..8].to_vec()));
}

#[tokio::test]
async fn one_place_leaves_the_last_part_of_everything_to_others() {
    let limits = StateLimits { clients: 64, sessions: 64, opens: 512, locks: 512, ..StateLimits::default() };
    let world = World::with(limits);
    let victim = world.mount_at("victim", at(2)).await;
    let mut clients = Vec::new();
    let full = loop {
        let name = format!("hostile {}", clients.len());
        match world.exchange(&name, 1, HERE, false) {
            Ok(exchanged) => match world.create(exchanged.client, 1, HERE).await {
                Ok(_) => clients.push(exchanged.client),
                Err(status) => break status,
            },
            Err(status) => break status,
        }
        assert!(clients.len() < 100, "no end");
    };
    assert_eq!(full, Status::Delay);
    assert!(clients.len() >= 50, "{} clients", clients.len());
    for client in &clients {
        world.state.reclaim_complete(*client, false, world.now).await.unwrap();
    }
    let mut opens = 0;
    'all: for client in &clients {
        for file in 0.. {
            match world.open(*client, "o", file, BOTH, NONE).await {
                Ok(open) => {
                    opens += 1;
                    for n in 0.. {
                        let locker = Locker::New(open, b"l");
                        match world.lock(*client, file, locker, LockKind::Read, (n * 2, 1)).await {
                            Ok(_) => {}
                            Err(error) => {
                                assert_eq!(error, LockError::Status(Status::Delay));
                                break;
                            }
                        }
                    }
                }
                Err(status) => {
                    assert_eq!(status, Status::NoSpc);
                    break 'all;
                }
            }
        }
    }
    assert!((400..512).contains(&opens), "{opens} opens");

    // Others still mount, open and lock.
    world.renew(victim).await.unwrap();
    let open = world.open(victim.client, "o", 1, READ, NONE).await.unwrap();
    let locker = Locker::New(open, b"l");
    world.lock(victim.client, 1, locker, LockKind::Read, (0, 1)).await.unwrap();
    let new = world.mount_at("new", at(3)).await;
    world.open(new.client, "o", 1, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn asking_for_records_takes_none_from_others() {
    let world = World::with(StateLimits { clients: 64, ..StateLimits::default() });
    let mounted = world.mount_at("mounted", at(2)).await;
    let coming = world.exchange("coming", 1, at(2), false).unwrap();
    for n in 0..10_000 {
        let _ = world.exchange(&format!("hostile {n}"), 1, HERE, false);
    }
    assert!(world.state.core.lock().clients.len() <= 64);
    world.renew(mounted).await.unwrap();
    world.create(coming.client, 1, at(2)).await.unwrap();
    world.mount_at("another", at(3)).await;
}

#[tokio::test]
async fn records_of_many_places_give_way_to_a_new_one_the_oldest_first() {
    let mut world = World::with(StateLimits { clients: 64, ..StateLimits::default() });
    let mounted = world.mount_at("mounted", at(200)).await;
    let mut asked = Vec::new();
    for n in 0..63 {
        let principal = at(n / 4);
        world.pass(Duration::from_millis(1));
        asked.push((world.exchange(&format!("asks {n}"), 1, principal, false).unwrap().client, principal));
    }
    world.mount_at("new", at(100)).await;
    world.renew(mounted).await.unwrap();
    let (oldest, principal) = asked[0];
    assert_eq!(world.create(oldest, 1, principal).await, Err(Status::StaleClientId));
    for (client, principal) in &asked[1..4] {
        world.create(*client, 1, *principal).await.unwrap();
    }
}

#[tokio::test]
async fn unlocking_in_the_middle_is_bounded_too() {
    let world = World::with(StateLimits { locks: 64, ..StateLimits::default() });
    let client = world.mount("owner").await.client;
    let open = world.open(client, "o", 1, READ, NONE).await.unwrap();
    let locker = Locker::New(open, b"l");
    let mut lock = world.lock(client, 1, locker, LockKind::Read, (0, u64::MAX)).await.unwrap();
    let refused = loop {
        let offset = u64::from(lock.seqid) * 2;
        match world.state.unlock(client, 1, lock, LockRange { offset, length: 1 }) {
            Ok(next) => lock = next,
            Err(status) => break status,
        }
        assert!(lock.seqid < 100);
    };
    assert_eq!(refused, Status::Delay);
    assert!(world.state.core.lock().accounts.total(Resource::Locks) <= 64);
    // To let go of all is always possible.
    let all = LockRange { offset: 0, length: u64::MAX };
    world.state.unlock(client, 1, lock, all).unwrap();
    assert_eq!(world.state.core.lock().accounts.total(Resource::Locks), 1);
}

#[tokio::test]
async fn revoked_stateids_count_until_they_are_freed() {
    let mut world = World::with(StateLimits { opens: 4, ..StateLimits::default() });
    let hostile = world.mount("hostile").await;
    let other = world.mount_at("other", at(2)).await;
    let mut held = Vec::new();
    for file in 0..3 {
        held.push(world.open(hostile.client, "o", file, READ, READ).await.unwrap());
    }
    world.pass_a_lease();
    world.renew(other).await.unwrap();
    world.open(other.client, "o", 0, READ, NONE).await.unwrap();
    world.renew(hostile).await.unwrap();
    assert_eq!(world.open(hostile.client, "o", 5, READ, NONE).await, Err(Status::NoSpc));
    world.state.free_stateid(hostile.client, held[0]).unwrap();
    world.open(hostile.client, "o", 5, READ, NONE).await.unwrap();
}

#[tokio::test]
async fn the_tables_are_empty_when_all_are_gone() {
    let mut world = World::new();
    for round in 0..3 {
        for n in 0..20 {
            let mounted = world.mount_at(&format!("owner {n}"), at(n)).await;
            for file in 0..5 {
                let open = world.open(mounted.client, "o", file, BOTH, NONE).await.unwrap();
                let locker = Locker::New(open, b"l");
                world.lock(mounted.client, file, locker, LockKind::Read, (0, 9)).await.unwrap();
            }
            turn(world.sequence(mounted.session, 0, 1)).finish(|| text("reply"));
        }
        world.pass(LEASE * 2000);
        world.exchange("last", round, HERE, false).unwrap();
        world.pass_a_lease();
        world.exchange("last", round, HERE, true).unwrap_err();
        let core = world.state.core.lock();
        assert!(core.clients.is_empty() && core.records.is_empty() && core.sessions.is_empty());
        assert!(core.unconfirmed.is_empty() && core.unconfirmed_of.is_empty() && core.leases.is_empty());
        assert!(core.stateids.is_empty() && core.files.is_empty() && core.accounts.is_empty());
        assert_eq!(core.replies.bytes(), 0);
    }
    let ticket = world.state.core.lock().pending.ticket();
    world.state.settle(ticket).await.unwrap();
    assert_eq!(world.journal.len(), 0);
}

#[tokio::test]
async fn a_broken_journal_lets_nothing_grow() {
    let world = World::with(StateLimits { clients: 8, ..StateLimits::default() });
    world.journal.broken.store(true, Ordering::Relaxed);
    for n in 0..1000 {
        let mounted = world.mount_at(&format!("owner {n}"), HERE).await;
        assert_eq!(world.open(mounted.client, "o", 1, READ, NONE).await, Err(Status::Io));
        let stateids: Vec<_> = world.state.core.lock().stateids.keys().copied().collect();
        for other in stateids {
            world.state.close(mounted.client, 1, Stateid { seqid: 0, other }).unwrap();
        }
        world.state.destroy_session(mounted.session, None, 1, world.now).unwrap();
        world.state.destroy_client(mounted.client, None, world.now).await.unwrap();
    }
    assert!(world.state.core.lock().pending.len() <= 33);
    world.journal.broken.store(false, Ordering::Relaxed);
    let mounted = world.mount("owner").await;
    assert_eq!(world.open(mounted.client, "o", 1, READ, NONE).await, Err(Status::Io), "not yet written");
    world.state.destroy_session(mounted.session, None, 1, world.now).unwrap();
    world.state.destroy_client(mounted.client, None, world.now).await.unwrap();
    let mounted = world.mount("owner").await;
    world.open(mounted.client, "o", 1, READ, NONE).await.unwrap();
    assert_eq!(world.journal.len(), 1);
}

/// 1000 sessions that use all their slots, and 100,000 opens with locks: counted by what the tables hold.
#[tokio::test]
async fn many_sessions_and_opens_take_bounded_memory() {
    let world = World::new();
    for n in 0..1000 {
        let name = format!("Linux NFSv4.2 client-{n}.example.net");
        let exchanged = world.exchange(&name, 1, HERE, false).unwrap();
        let request = CreateSession {
            client: exchanged.client,
            sequence: 1,
            fore: wide(64),
            principal: HERE,
            connection: n,
        };
        let created = world.state.create_session(request, world.now).await.unwrap();
        if n < 10 {
            assert!(world.state.core.lock().sessions[&created.session].bytes() < 1024, "no slot was used");
        }
        turn(world.sequence(created.session, 63, 1)).finish(|| Bytes::from(vec![b'x'; 300]));
        world.state.reclaim_complete(exchanged.client, false, world.now).await.unwrap();
        for file in 0..100 {
            let owner = format!("open id:{n:020}{file:020}");
            let file = n * 100 + file;
            let open = world.open(exchanged.client, &owner, file, READ, NONE).await.unwrap();
            if file % 4 == 0 {
                let locker = Locker::New(open, owner.as_bytes());
                world.lock(exchanged.client, file, locker, LockKind::Read, (0, 1)).await.unwrap();
            }
        }
    }
    let core = world.state.core.lock();
    assert_eq!(core.accounts.total(Resource::Opens), 100_000);
    let bytes = core.bytes();
    assert!((20 << 20..200 << 20).contains(&bytes), "{bytes} bytes");
}
