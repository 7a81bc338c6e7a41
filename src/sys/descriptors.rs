//! How many descriptors the process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
