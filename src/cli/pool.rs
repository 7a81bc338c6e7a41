//! Many files at a time: a walk feeds workers, and their results come back in no particular order.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::Trouble;
use super::walk::{Scope, walk};
use crate::carrier::Sidecar;
use crate::store::walk::Found;
use crate::store::{Store, StoreError, StorePath};

/// Files at a time that can be asked for.
pub(super) const JOBS: RangeInclusive<i64> = 1..=512;

/// A worker's result for one file, or what the walk stumbled over.
pub(super) enum Done<T> {
    File(StorePath, T),
    Trouble(StoreError),
}

/// A runtime with `jobs` threads.
pub(super) fn runtime(jobs: usize) -> Result<tokio::runtime::Runtime, Trouble> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(jobs.max(1)).enable_all().build();
    built.map_err(|source| Trouble::Io { context: "cannot start threads".into(), source })
}

/// The number of jobs when none is given: one a core.
pub(super) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs `work` on every regular file at or below `paths` that is no evidence, `jobs` at a time. The
/// results come through the channel, which ends with the last of them.
pub(super) fn each_file<T, F, W>(
    store: Arc<dyn Store>,
    paths: Vec<StorePath>,
    jobs: usize,
    work: W,
) -> mpsc::Receiver<Done<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
    W: Fn(StorePath) -> F + Send + Sync + 'static,
{
    let scope = Scope { hidden: Some(Sidecar::directory()), passed: None };
    each_file_in(scope, store, paths, jobs, work)
}

/// [`each_file`] with something else that is no file.
pub(super) fn each_file_in<T, F, W>(
    scope: Scope,
    store: Arc<dyn Store>,
    paths: Vec<StorePath>,
    jobs: usize,
    work: W,
) -> mpsc::Receiver<Done<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
    W: Fn(StorePath) -> F + Send + Sync + 'static,
{
    let (found_in, found) = mpsc::channel(1024);
    let (done_in, done) = mpsc::channel(1024);
    tokio::spawn(walk(store, paths, scope, found_in));
    let (found, work) = (Arc::new(Mutex::new(found)), Arc::new(work));
    for _ in 0..jobs.max(1) {
        let (found, work, done) = (found.clone(), work.clone(), done_in.clone());
        tokio::spawn(async move {
            loop {
                // Its own statement, so that the lock is not held while the work runs.
                let next = found.lock().await.recv().await;
                let result = match next {
                    Some(Found::File(path)) => {
                        let result = work(path.clone()).await;
                        Done::File(path, result)
                    }
                    Some(Found::Trouble(error)) => Done::Trouble(error),
                    // No walk for files sends it.
                    Some(Found::Other(_)) => continue,
                    None => return,
                };
                if done.send(result).await.is_err() {
                    return;
                }
            }
        });
    }
    done
}
