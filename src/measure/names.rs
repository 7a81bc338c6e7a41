//! What the files of a log are called.

use super::bank::Bank;

/// The list of the segment that is written, as the kernel calls it.
pub const BINARY: &str = "binary_runtime_measurements";
/// The same in lines.
pub const ASCII: &str = "ascii_runtime_measurements";
/// What begins the name of a segment's start.
pub(super) const START: &str = "start";
/// What ends the name of its signature.
const SIGNATURE: &str = ".sig";
/// The [`Mark`](super::Mark) of a TPM's register that follows the list.
pub const REGISTER: &str = "register";
/// What was cut off the list last.
pub(super) const TORN: &str = "torn";
/// What ends the name of a file that is not complete.
pub(super) const NEW: &str = ".new";

/// The file with the aggregates of a bank.
pub fn pcrs(bank: Bank) -> String {
    format!("pcrs.{bank}")
}

/// A file of the segment with this number, once that is closed.
pub fn closed(name: &str, segment: u64) -> String {
    format!("{name}.{segment}")
}

/// The file with the [`Start`](super::Start) of a segment.
pub fn start(segment: u64) -> String {
    closed(START, segment)
}

/// The file with the signature of a segment's start.
pub fn signature(segment: u64) -> String {
    start(segment) + SIGNATURE
}

/// The number in the name of a file, after `name` and a dot.
fn number(name: &str, file: &str) -> Option<u64> {
    let digits = file.strip_prefix(name)?.strip_prefix('.')?;
    digits.parse().ok().filter(|number| *number > 0 && format!("{number}") == digits)
}

/// The numbers after `name` among `files`, in order.
pub(super) fn numbers(name: &str, files: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = files.iter().filter_map(|file| number(name, file)).collect();
    numbers.sort_unstable();
    numbers
}

/// The segment that a file belongs to by the number in its name.
pub(super) fn segment_of(file: &str) -> Option<u64> {
    let file = file.strip_suffix(SIGNATURE).filter(|start| start.starts_with(START)).unwrap_or(file);
    [BINARY, ASCII, START].into_iter().find_map(|name| number(name, file))
}
