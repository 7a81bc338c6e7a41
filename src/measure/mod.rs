//! What was served, measured as the kernel's IMA would: a measurement list, byte for byte in its format.
//!
//! An [`Entry`] becomes a record of `binary_runtime_measurements` and a line of `ascii_runtime_measurements`; its
//! digests extend register 10 of each bank ([`Banks`]), which here is a number in a file. A register of a TPM may
//! follow it ([`Log::attach`]), whose number is another: 10 is the host's own IMA's.
//! [`verify`] reads a list back and finds the record that is wrong. Specification: the kernel's
//! `security/integrity/ima/`, `ima_fs.c`, `ima_template.c` and `ima_template_lib.c`. Where its numbers have the
//! machine's order of bytes, these are little-endian, as with `ima_canonical_fmt`.
//!
//! A name in the ASCII list is not quoted, as in the kernel: one with a newline in it looks like two lines.
//! Whoever verifies reads the binary list.
//!
//! [`Log`] keeps a list in a directory:
//!
//! | file | what |
//! |---|---|
//! | `binary_runtime_measurements` | the records of the segment that is written |
//! | `ascii_runtime_measurements` | the same in lines |
//! | `pcrs.sha1`, `pcrs.sha256`, `pcrs.sha384` | what the registers hold after the last record, for `evmctl ima_measurement --pcrs` |
//! | `binary_runtime_measurements.N`, `ascii_runtime_measurements.N` | segment N, once it is closed; the first is 1 |
//! | `start.N`, `start.N.sig` | what the registers held where segment N begins ([`Start`]), and the signature of that |
//! | `register` | where a TPM's register began to follow the list ([`Mark`]), if one does |
//! | `torn` | what was cut off the list last, when it was opened after a crash |
//! | `lock` | held by the gateway that writes |
//!
//! All segments one behind the other, in the order of their numbers and the unnumbered one last, are one list that
//! `evmctl` verifies against the `pcrs` files, which speak of all of them and of no segment alone. Numbers are to be
//! sorted as numbers, since 10 comes after 9, and `evmctl` takes no list with violations as good unless told so:
//!
//! ```text
//! cat $(ls -v binary_runtime_measurements.*) binary_runtime_measurements > list
//! evmctl ima_measurement --ignore-violations --pcrs sha256,pcrs.sha256 list
//! ```
//!
//! That takes the first segment too: once old ones are removed, `evmctl` has nothing to begin with.
//! [`verify_chain`] verifies a directory from the first segment that is left, whose signed start stands for what was
//! before. The `pcrs` files are replaced after the list has grown: who reads both while the gateway writes reads the
//! `pcrs` files first, and then may find records behind those they speak of.
//!
//! Knows nothing of exports, signatures or clients. Its calls wait for the disk.

mod attach;
mod bank;
mod chain;
mod disk;
mod entry;
mod error;
mod fields;
mod list;
mod log;
mod lost;
mod mark;
mod names;
mod quote;
mod recover;
mod recovery;
mod register;
mod seen;
mod start;
mod tail;
mod template;
#[cfg(test)]
mod tests;

pub use bank::{Bank, Banks, PCR};
pub use chain::{Chain, ChainError, Replayed, verify_chain, verify_register};
pub use entry::{Entry, EntryError, name_of};
pub use error::LogError;
pub use fields::{FieldFault, Fields, NAME_MAX, THIRD_MAX};
pub use list::{Fault, ListError, Record, Records, Summary, verify};
pub use log::{Appended, BATCH_MAX, Log, LogOptions, SEGMENT_MAX, SEGMENT_MIN};
pub use mark::{Mark, NotAMark, Replay};
pub use names::{ASCII, BINARY, REGISTER, closed, pcrs, signature, start};
pub use quote::{Quote, QuoteError, QuoteHash, QuoteSignature};
pub use recovery::{Recovery, Torn};
pub use register::{Attached, Held, RegisterError, Tpm, TpmError};
pub use start::{NotAStart, Seal, Signing, Start, Verifying};
pub use template::{DigestKind, FileHash, Template};
