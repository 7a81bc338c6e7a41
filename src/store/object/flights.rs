//! What several want to know at the same time, asked once: by a task of its own, which goes on when those who
//! wait give up, so that whoever comes again finds it further on.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::{Result, StoreErrorKind, StorePath};
use super::fail::refuse;

/// The most that is asked at the same time.
const AT_ONCE: usize = 4096;

/// Nothing yet, or an answer: a value, or an error's kind and words.
type Outcome<T> = Option<std::result::Result<T, (StoreErrorKind, Arc<str>)>>;

/// The questions under way, each about one path.
pub(super) struct Flights<T>(Mutex<UnderWay<T>>);

struct UnderWay<T> {
    by_path: HashMap<StorePath, (u64, watch::Receiver<Outcome<T>>)>,
    count: u64,
}

/// Takes a question off the list, however it ends.
struct Landing<T> {
    flights: Arc<Flights<T>>,
    path: StorePath,
    number: u64,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.0.lock();
        if under_way.is(&self.path, self.number) {
            under_way.by_path.remove(&self.path);
        }
    }
}

impl<T> UnderWay<T> {
    fn is(&self, path: &StorePath, number: u64) -> bool {
        self.by_path.get(path).is_some_and(|(other, _)| *other == number)
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::new(UnderWay { by_path: HashMap::new(), count: 0 }))
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// What `ask` gives, or what somebody else's is about to give who asks the same about `path`. `keep` is
    /// called with a new answer, unless the question was forgotten meanwhile.
    pub(super) async fn join(
        self: &Arc<Self>,
        operation: &'static str,
        path: &StorePath,
        ask: impl Future<Output = Result<T>> + Send + 'static,
        keep: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let fail = |kind, why: &str| refuse(kind, operation, path, why);
        let flight = self.start(path, ask, keep);
        let mut flight =
            flight.ok_or_else(|| fail(StoreErrorKind::Exhausted, "too much is asked at the same time"))?;
        let outcome = match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match outcome {
            Some(Ok(answer)) => Ok(answer),
            Some(Err((kind, why))) => Err(fail(kind, &why)),
            None => Err(fail(StoreErrorKind::Unavailable, "the request was given up")),
        }
    }

    fn start(
        self: &Arc<Self>,
        path: &StorePath,
        ask: impl Future<Output = Result<T>> + Send + 'static,
        keep: impl FnOnce(&T) + Send + 'static,
    ) -> Option<watch::Receiver<Outcome<T>>> {
        let mut under_way = self.0.lock();
        if let Some((_, flight)) = under_way.by_path.get(path) {
            return Some(flight.clone());
        }
        if under_way.by_path.len() >= AT_ONCE {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        under_way.count += 1;
        let number = under_way.count;
        under_way.by_path.insert(path.clone(), (number, receiver.clone()));
        drop(under_way);
        let landing = Landing { flights: self.clone(), path: path.clone(), number };
        tokio::spawn(async move {
            let outcome = ask.await.map_err(|error| (error.kind, Arc::from(error.source.to_string())));
            if let Ok(answer) = &outcome {
                // Under the lock, so that what is forgotten is not kept.
                let under_way = landing.flights.0.lock();
                if under_way.is(&landing.path, number) {
                    keep(answer);
                }
            }
            drop(landing);
            sender.send_replace(Some(outcome));
        });
        Some(receiver)
    }

    /// Whoever asks about `path` from now on asks anew.
    pub(super) fn forget(&self, path: &StorePath) {
        self.0.lock().by_path.remove(path);
    }
}
