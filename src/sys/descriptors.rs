//! How many descriptors the process may open, and where to get one when there is none left.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What keeps descriptors only to be faster, and can do without.
pub trait Holder: Send + Sync {
    /// Closes them.
    fn give_up(&self);
}

/// Of the whole process, as its limit is.
static HOLDERS: Mutex<Vec<Weak<dyn Holder>>> = Mutex::new(Vec::new());

/// Lets [`relieve`] ask `holder` for as long as it is there.
pub fn may_ask(holder: Weak<dyn Holder>) {
    let mut holders = HOLDERS.lock();
    holders.retain(|holder| holder.strong_count() > 0);
    holders.push(holder);
}

/// Has all that can be done without closed: there is no descriptor left.
pub fn relieve() {
    let holders: Vec<Arc<dyn Holder>> = HOLDERS.lock().iter().filter_map(Weak::upgrade).collect();
    holders.iter().for_each(|holder| holder.give_up());
}

/// Raises the limit as far as the process may raise it itself, and returns what holds now.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

/// How many more may be opened now.
pub fn left() -> usize {
    let soft = getrlimit(Resource::Nofile).current;
    let limit = soft.and_then(|soft| usize::try_from(soft).ok()).unwrap_or(usize::MAX);
    // Where they cannot be counted, they are few.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    limit.saturating_sub(open)
}
