//! What stands at the end of a list that a crash left: records that are right, and what is no record.

use super::fields::DATA_MAX;
use super::list::{Fault, ListError, Record, Records, Summary};
use super::log::BATCH_MAX;
use super::seen::{Key, key};
use super::template::Template;

/// The smallest block of a file system in bytes.
const BLOCK: usize = 512;
/// Where the length of the template's name stands in a record, and what a record has beside its name and data.
const NAME_AT: usize = 24;
const HEAD: usize = 32;
/// More than any template's name has.
const NAME_MAX: usize = 16;

/// The keys of the right records at the start of `list`, how many bytes they take, and what is wrong then.
pub(super) fn scan(list: &[u8], summary: &mut Summary) -> (Vec<Key>, usize, Option<ListError>) {
    let (mut keys, mut end) = (Vec::new(), 0);
    let mut records = Records::new(list);
    while let Some(record) = records.next() {
        let error = match record.map(|record| (record, record.true_digests())) {
            Ok((record, Some(digests))) => {
                if !record.is_violation() {
                    keys.push(key(&digests.sha256));
                }
                summary.add(&record, &digests);
                end = records.offset();
                continue;
            }
            Ok((Record { number, offset, .. }, None)) => {
                ListError { record: number, offset, fault: Fault::Altered }
            }
            Err(error) => error,
        };
        return (keys, usize::try_from(end).unwrap_or(list.len()), Some(error));
    }
    (keys, list.len(), None)
}

/// Whether `rest`, which begins with a wrong record at byte `offset` of the list, can be what is left of a write
/// that was never acknowledged. Such a one ends the list, or has a part that never reached the disk: the blocks
/// of one write become durable in any order, and those that did not are zeros. Then right records may follow.
pub(super) fn is_torn(rest: &[u8], offset: usize) -> bool {
    !has_record_behind(rest) || (rest.len() <= BATCH_MAX && has_hole(rest, offset))
}

/// Whether a right record begins anywhere behind the start of `rest`.
fn has_record_behind(rest: &[u8]) -> bool {
    (1..rest.len()).filter_map(|at| rest.get(at..)).any(|tail| {
        let first = Records::new(tail).next();
        first.is_some_and(|record| record.is_ok_and(|record| record.is_true()))
    })
}

/// Whether zeros stand in the first record of `rest` to the end of a block: from the block's start, or from the
/// record's, where the block is as it was before the write.
fn has_hole(rest: &[u8], offset: usize) -> bool {
    let bound = offset.next_multiple_of(BLOCK).abs_diff(offset);
    let whole = (bound..extent(rest)).step_by(BLOCK).map(|from| from..from + BLOCK);
    std::iter::once(0..bound).chain(whole).any(|block| {
        let block = rest.get(block.start..block.end.min(rest.len())).unwrap_or_default();
        !block.is_empty() && block.iter().all(|byte| *byte == 0)
    })
}

/// How many bytes the first record of `rest` has by what it says of itself, or its head where that says nothing.
/// Where a hole begins in the record, it begins within so many bytes.
fn extent(rest: &[u8]) -> usize {
    let number = |at: usize| {
        let number = rest.get(at..).and_then(|bytes| bytes.first_chunk())?;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    };
    let known = |len: &usize| Template::ALL.into_iter().any(|template| template.name().len() == *len);
    let name = number(NAME_AT).filter(known);
    let whole = name.and_then(|name| Some(HEAD + name + number(NAME_AT + 4 + name)?.min(DATA_MAX)));
    whole.unwrap_or(HEAD + NAME_MAX)
}
