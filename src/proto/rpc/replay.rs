//! The reply cache: a call that is repeated, on the same connection or after a reconnect from the
//! same port, gets the first one's reply and is not executed again. For procedures that must not
//! be executed twice; bounded in entries and bytes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::call::{Call, Credential};
use super::reply::Answer;

/// Replies kept.
const MAX_ENTRIES: usize = 4096;
/// Bytes of replies kept.
const MAX_BYTES: usize = 8 << 20;
/// Longest reply kept; what changes something answers with far less.
const MAX_REPLY: usize = 64 << 10;
/// After this a client has given up and the id may be another call's; as in Linux' fs/nfsd.
const MAX_AGE: Duration = Duration::from_secs(120);
/// Connections that may wait for one running call.
const MAX_WAITERS: usize = 4;

/// What makes two calls the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: SocketAddr,
    xid: u32,
    program: u32,
    version: u32,
    procedure: u32,
    length: usize,
    /// Keyed hash of the caller's ids and the arguments.
    digest: u64,
}

#[derive(Debug)]
enum Entry {
    Running { connection: u64, waiters: Vec<oneshot::Sender<Answer>> },
    Done { answer: Answer, size: usize, since: Instant },
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// The finished ones, oldest first.
    done: VecDeque<Key>,
    bytes: usize,
}

/// The replies of all connections.
#[derive(Debug, Default)]
pub(super) struct ReplyCache {
    hasher: RandomState,
    entries: Mutex<Entries>,
}

/// What is known of a call.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is new; the guard takes its answer.
    Never(Execution),
    /// It was answered before, with this.
    Answered(Answer),
    /// It is running for another connection, which will tell.
    RunningElsewhere(oneshot::Receiver<Answer>),
    /// It is running for this connection, whose reply answers both.
    Running,
}

impl ReplyCache {
    /// Looks a call up and takes note that it runs when it is new.
    pub(super) fn begin(
        self: &Arc<Self>,
        peer: SocketAddr,
        connection: u64,
        call: &Call,
        now: Instant,
    ) -> Seen {
        let key = self.key(peer, call);
        let mut entries = self.entries.lock();
        match entries.by_key.get_mut(&key) {
            Some(Entry::Done { answer, since, .. }) if now.saturating_duration_since(*since) < MAX_AGE => {
                return Seen::Answered(answer.clone());
            }
            Some(Entry::Running { connection: first, waiters }) => {
                if *first == connection || waiters.len() >= MAX_WAITERS {
                    return Seen::Running;
                }
                let (sender, receiver) = oneshot::channel();
                waiters.push(sender);
                return Seen::RunningElsewhere(receiver);
            }
            Some(Entry::Done { .. }) => entries.forget(&key),
            None => {}
        }
        entries.by_key.insert(key, Entry::Running { connection, waiters: Vec::new() });
        Seen::Never(Execution { cache: Arc::clone(self), key })
    }

    fn key(&self, peer: SocketAddr, call: &Call) -> Key {
        let mut hasher = self.hasher.build_hasher();
        if let Credential::Sys(sys) = &call.credential {
            (sys.uid, sys.gid, &sys.gids).hash(&mut hasher);
        }
        call.arguments.hash(&mut hasher);
        Key {
            peer,
            xid: call.xid,
            program: call.program,
            version: call.version,
            procedure: call.procedure,
            length: call.arguments.len(),
            digest: hasher.finish(),
        }
    }
}

impl Entries {
    fn forget(&mut self, key: &Key) {
        if let Some(Entry::Done { size, .. }) = self.by_key.remove(key) {
            self.bytes -= size;
            self.done.retain(|other| other != key);
        }
    }

    fn keep(&mut self, key: Key, answer: Answer, size: usize) {
        self.by_key.insert(key, Entry::Done { answer, size, since: Instant::now() });
        self.done.push_back(key);
        self.bytes += size;
        while self.done.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.done.pop_front() else { return };
            if let Some(Entry::Done { size, .. }) = self.by_key.remove(&oldest) {
                self.bytes -= size;
            }
        }
    }
}

/// A call that runs. Dropped without an answer, it is as if it had never come.
#[derive(Debug)]
pub(super) struct Execution {
    cache: Arc<ReplyCache>,
    key: Key,
}

impl Execution {
    /// Keeps the answer for repeats and tells those that wait for it.
    pub(super) fn finish(self, answer: &Answer) {
        let answer = compact(answer);
        let size = answer.results_len() + size_of::<Entry>() + 2 * size_of::<Key>();
        let mut entries = self.cache.entries.lock();
        if let Some(Entry::Running { waiters, .. }) = entries.by_key.remove(&self.key) {
            for waiter in waiters {
                // It is gone when its connection is.
                let _ = waiter.send(answer.clone());
            }
            if answer.results_len() <= MAX_REPLY {
                entries.keep(self.key, answer, size);
            }
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        let mut entries = self.cache.entries.lock();
        if let Some(Entry::Running { .. }) = entries.by_key.get(&self.key) {
            entries.by_key.remove(&self.key);
        }
    }
}

/// The answer in a buffer of its own, so that it keeps nothing else alive.
fn compact(answer: &Answer) -> Answer {
    match answer {
        Answer::Results { segments, length, ok } if *length <= MAX_REPLY => {
            Answer::Results { segments: vec![Bytes::from(segments.concat())], length: *length, ok: *ok }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(xid: u32, arguments: &'static [u8]) -> Call {
        Call {
            xid,
            program: 1,
            version: 1,
            procedure: 1,
            credential: Credential::None,
            arguments: Bytes::from_static(arguments),
        }
    }

    fn results(bytes: Vec<u8>) -> Answer {
        Answer::Results { length: bytes.len(), segments: vec![bytes.into()], ok: true }
    }

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn execute(cache: &Arc<ReplyCache>, xid: u32, answer: &Answer) {
        match cache.begin(peer(700), 1, &call(xid, b"a"), Instant::now()) {
            Seen::Never(execution) => execution.finish(answer),
            seen => panic!("{seen:?}"),
        }
    }

    fn is_new(cache: &Arc<ReplyCache>, port: u16, call: &Call, now: Instant) -> bool {
        matches!(cache.begin(peer(port), 2, call, now), Seen::Never(_))
    }

    #[test]
    fn a_repeat_is_answered_alike_and_only_a_repeat() {
        let cache = Arc::new(ReplyCache::default());
        let now = Instant::now();
        execute(&cache, 5, &results(vec![1, 2, 3, 4]));
        match cache.begin(peer(700), 2, &call(5, b"a"), now) {
            Seen::Answered(Answer::Results { segments, .. }) => assert_eq!(segments.concat(), [1, 2, 3, 4]),
            seen => panic!("{seen:?}"),
        }
        assert!(is_new(&cache, 701, &call(5, b"a"), now));
        assert!(is_new(&cache, 700, &call(6, b"a"), now));
        assert!(is_new(&cache, 700, &call(5, b"b"), now));
        let other = AuthSysOf(7).call();
        assert!(is_new(&cache, 700, &other, now), "another user's call is not a repeat");
        assert!(is_new(&cache, 700, &call(5, b"a"), now + MAX_AGE * 2));
    }

    struct AuthSysOf(u32);

    impl AuthSysOf {
        fn call(&self) -> Call {
            let sys =
                crate::proto::rpc::AuthSys { uid: self.0, gid: 0, gids: Vec::new(), machine: Bytes::new() };
            Call { credential: Credential::Sys(sys), ..call(5, b"a") }
        }
    }

    #[test]
    fn a_running_call_is_dropped_here_and_waited_for_elsewhere() {
        let cache = Arc::new(ReplyCache::default());
        let now = Instant::now();
        let Seen::Never(first) = cache.begin(peer(700), 1, &call(5, b"a"), now) else { panic!() };
        assert!(matches!(cache.begin(peer(700), 1, &call(5, b"a"), now), Seen::Running));
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| match cache.begin(peer(700), 2, &call(5, b"a"), now) {
                Seen::RunningElsewhere(receiver) => receiver,
                seen => panic!("{seen:?}"),
            })
            .collect();
        assert!(matches!(cache.begin(peer(700), 2, &call(5, b"a"), now), Seen::Running));
        first.finish(&Answer::SystemError);
        for receiver in &mut waiting {
            assert!(matches!(receiver.try_recv(), Ok(Answer::SystemError)));
        }
    }

    #[test]
    fn a_call_that_never_ended_leaves_nothing() {
        let cache = Arc::new(ReplyCache::default());
        for _ in 0..3 {
            assert!(is_new(&cache, 700, &call(5, b"a"), Instant::now()));
        }
        assert!(cache.entries.lock().by_key.is_empty());
    }

    #[test]
    fn entries_and_bytes_stay_bounded() {
        let cache = Arc::new(ReplyCache::default());
        for xid in 0..u32::try_from(MAX_ENTRIES).unwrap() + 100 {
            execute(&cache, xid, &results(vec![0; 8]));
        }
        assert_eq!(cache.entries.lock().by_key.len(), MAX_ENTRIES);
        assert!(is_new(&cache, 700, &call(0, b"a"), Instant::now()), "the oldest goes first");
        for xid in 10_000..10_300 {
            execute(&cache, xid, &results(vec![0; MAX_REPLY]));
        }
        let entries = cache.entries.lock();
        assert!(entries.bytes <= MAX_BYTES && entries.bytes > MAX_BYTES / 2);
        assert_eq!(entries.by_key.len(), entries.done.len());
        drop(entries);
        execute(&cache, 20_000, &results(vec![0; MAX_REPLY + 1]));
        assert!(is_new(&cache, 700, &call(20_000, b"a"), Instant::now()), "too long to keep");
    }
}
