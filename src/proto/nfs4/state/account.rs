//! Who uses up how much. Whoever holds much leaves the last part to the others, so that one host, with
//! however many clients, cannot exhaust what all share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    Clients,
    Sessions,
    Opens,
    Locks,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    clients: usize,
    sessions: usize,
    opens: usize,
    locks: usize,
}

impl Usage {
    fn get(&self, resource: Resource) -> usize {
        match resource {
            Resource::Clients => self.clients,
            Resource::Sessions => self.sessions,
            Resource::Opens => self.opens,
            Resource::Locks => self.locks,
        }
    }

    fn of(&mut self, resource: Resource) -> &mut usize {
        match resource {
            Resource::Clients => &mut self.clients,
            Resource::Sessions => &mut self.sessions,
            Resource::Opens => &mut self.opens,
            Resource::Locks => &mut self.locks,
        }
    }
}

/// Where a client calls from: its address, of IPv6 the network, whose addresses one host has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(IpAddr);

impl Place {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        }
    }
}

/// What each place uses, and all together.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    total: Usage,
    places: HashMap<Place, Usage>,
}

impl Accounts {
    /// Whether `place` may have one more.
    pub(super) fn has_room(&self, place: Place, resource: Resource, limit: usize) -> bool {
        let total = self.total.get(resource);
        total < limit && (total < limit - limit / 8 || self.is_modest(place, resource, limit))
    }

    /// Whether it has so little that the last part is there for it.
    pub(super) fn is_modest(&self, place: Place, resource: Resource, limit: usize) -> bool {
        let own = self.places.get(&place).map_or(0, |usage| usage.get(resource));
        own < (limit / 256).max(4)
    }

    pub(super) fn add(&mut self, place: Place, resource: Resource, count: usize) {
        *self.total.of(resource) += count;
        *self.places.entry(place).or_default().of(resource) += count;
    }

    pub(super) fn remove(&mut self, place: Place, resource: Resource, count: usize) {
        let total = self.total.of(resource);
        *total = total.saturating_sub(count);
        if let Some(usage) = self.places.get_mut(&place) {
            let own = usage.of(resource);
            *own = own.saturating_sub(count);
            if *usage == Usage::default() {
                self.places.remove(&place);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn total(&self, resource: Resource) -> usize {
        self.total.get(resource)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.total == Usage::default() && self.places.is_empty()
    }
}
