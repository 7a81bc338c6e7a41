//! Finds out from the files beside the list whether there were records that the list does not have. The list is
//! durable before any of them is written, so none is ever ahead of a list that nobody lost.

use super::bank::{Bank, Banks};
use super::entry::Entry;
use super::list::{Records, Summary};
use super::log::{FILE_MAX, Log, lines};
use super::names::{self, ASCII, BINARY, START};
use super::template::Template;

/// The longest file of registers that is read.
const PCRS_MAX: u64 = 8192;
/// How many closed segments are searched for registers that are behind.
const SEARCHED: usize = 4;

/// Registers as a file tells them.
struct Told {
    bank: Bank,
    held: Vec<u8>,
}

impl Told {
    fn is(&self, banks: &Banks) -> bool {
        banks.get(self.bank) == self.held
    }
}

impl Log {
    /// The files that tell of records which are in no list, each with what it tells. `list` is the open one.
    pub(super) fn lost(&self, files: &[String], list: &[u8]) -> Vec<String> {
        let segment = self.start.segment;
        let mut lost = Vec::new();
        for number in names::numbers(START, files).into_iter().filter(|number| *number > segment) {
            if let Ok(Some(start)) = self.read_start(number)
                && start.records > self.records
            {
                lost.push(format!("{} ({} records)", names::start(number), start.records));
            }
        }
        // A list gets its number before its lines do.
        let closed = names::numbers(ASCII, files).into_iter().filter(|number| *number >= segment);
        lost.extend(closed.map(|number| names::closed(ASCII, number)));
        let told: Vec<Told> = Bank::ALL.into_iter().filter_map(|bank| self.told(bank)).collect();
        if told.is_empty() && self.size == 0 && self.is_another_list(files) {
            lost.push(ASCII.to_owned());
        }
        let unmet = self.unmet(told, files, list);
        lost.extend(
            unmet.iter().map(|Told { bank, held }| format!("{} ({})", names::pcrs(*bank), hex::encode(held))),
        );
        lost
    }

    /// What the file of a bank says; `None` where it is not there, not whole or not readable.
    fn told(&self, bank: Bank) -> Option<Told> {
        let text = self.disk.read(&names::pcrs(bank), PCRS_MAX).ok()??;
        let held = Banks::register(bank, &text)?;
        Some(Told { bank, held })
    }

    /// Those of `told` that the registers never held, as far as it is known. They may be behind.
    fn unmet(&self, mut told: Vec<Told>, files: &[String], list: &[u8]) -> Vec<Told> {
        told.retain(|told| !told.is(&self.banks) && !told.is(&Banks::ZERO));
        for template in Template::ALL {
            let mut new = Banks::ZERO;
            new.extend(&Entry::boot_aggregate(template).digests());
            told.retain(|told| !told.is(&new));
        }
        if told.is_empty() {
            return told;
        }
        meet(&mut told, list, &self.start.banks);
        for segment in names::numbers(BINARY, files).into_iter().rev().take(SEARCHED) {
            if !told.is_empty()
                && let Ok(Some(start)) = self.read_start(segment)
                && let Ok(list) = self.read(&names::closed(BINARY, segment))
            {
                meet(&mut told, &list, &start.banks);
            }
        }
        told
    }

    /// Whether the lines beside an empty list are of another one than that before it, or than a new one.
    fn is_another_list(&self, files: &[String]) -> bool {
        let Ok(Some(text)) = self.disk.read(ASCII, 3 * FILE_MAX) else { return false };
        let of_new = |template| Entry::boot_aggregate(template).ascii().starts_with(&text);
        match names::numbers(BINARY, files).last() {
            Some(last) => {
                let list = self.read(&names::closed(BINARY, *last)).unwrap_or_default();
                !lines(&list).starts_with(&text)
            }
            None => !Template::ALL.into_iter().any(of_new),
        }
    }
}

/// Leaves those of `told` that registers do not hold before, between and behind the records of `list`.
fn meet(told: &mut Vec<Told>, list: &[u8], start: &Banks) {
    let mut summary = Summary::empty(start);
    told.retain(|told| !told.is(&summary.end));
    for record in Records::new(list).map_while(Result::ok) {
        summary.add(&record, &record.digests());
        told.retain(|told| !told.is(&summary.end));
        if told.is_empty() {
            return;
        }
    }
}
