//! Who has mounted what, as far as MNT and UMNT tell: for DUMP and for nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use parking_lot::Mutex;

/// The most entries. What comes when the table is full is served and not listed.
pub(super) const ENTRIES_MAX: usize = 1024;

/// Pairs of a client's address and the path it mounted.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<BTreeSet<(IpAddr, Vec<u8>)>>);

impl Table {
    /// Takes note that `client` has mounted `path`.
    pub(super) fn add(&self, client: IpAddr, path: &[u8]) {
        let mut entries = self.0.lock();
        if entries.len() < ENTRIES_MAX {
            entries.insert((client.to_canonical(), path.to_vec()));
        }
    }

    /// Forgets that `client` has mounted `path`.
    pub(super) fn remove(&self, client: IpAddr, path: &[u8]) {
        self.0.lock().remove(&(client.to_canonical(), path.to_vec()));
    }

    /// Forgets all that `client` has mounted.
    pub(super) fn remove_all(&self, client: IpAddr) {
        let client = client.to_canonical();
        self.0.lock().retain(|(other, _)| *other != client);
    }

    /// Shows every entry to `show`, in order.
    pub(super) fn each(&self, mut show: impl FnMut(IpAddr, &[u8])) {
        self.0.lock().iter().for_each(|(client, path)| show(*client, path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn entries(table: &Table) -> Vec<(IpAddr, Vec<u8>)> {
        let mut all = Vec::new();
        table.each(|client, path| all.push((client, path.to_vec())));
        all
    }

    #[test]
    fn the_table_never_grows_over_its_limit() {
        let table = Table::default();
        for n in 0..5000u32 {
            table.add(Ipv4Addr::from_bits(n).into(), b"/");
        }
        assert_eq!(entries(&table).len(), ENTRIES_MAX);
        table.remove_all(Ipv4Addr::from_bits(3).into());
        assert_eq!(entries(&table).len(), ENTRIES_MAX - 1);
        table.add(Ipv4Addr::LOCALHOST.into(), b"/");
        assert_eq!(entries(&table).len(), ENTRIES_MAX);
    }

    #[test]
    fn clients_remove_their_own_entries_alone() {
        let table = Table::default();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        table.add(one, b"/");
        table.add(mapped, b"/");
        table.add(one, b"/a");
        table.add(two, b"/a");
        assert_eq!(entries(&table).len(), 3);
        table.remove(two, b"/");
        table.remove(mapped, b"/a");
        assert_eq!(entries(&table), [(one, b"/".to_vec()), (two, b"/a".to_vec())]);
        table.remove_all(one);
        assert_eq!(entries(&table), [(two, b"/a".to_vec())]);
    }
}
