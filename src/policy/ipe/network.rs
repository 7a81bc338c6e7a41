//! Networks of clients.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use super::error::PolicyFault;
use super::property::{decimal, halves};

/// A network of addresses, as `10.1.0.0/16` or `fd00::/8`; an address alone is itself only. IPv4-mapped
/// addresses of IPv6 count as IPv4, in networks as in peers: `::/0` is all of IPv6 and none of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    pub(super) fn parse(value: &[u8]) -> Result<Self, PolicyFault> {
        let (address, prefix) = match halves(value, b'/') {
            Some((address, prefix)) if prefix.len() <= 3 => {
                (address, Some(decimal(prefix).ok_or(PolicyFault::Client)?))
            }
            Some(_) => return Err(PolicyFault::Client),
            None => (value, None),
        };
        let text = std::str::from_utf8(address).map_err(|_| PolicyFault::Client)?;
        let address: IpAddr = text.parse().map_err(|_| PolicyFault::Client)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(PolicyFault::Client);
        }
        let plain = canonical(address);
        let prefix = match (address, plain) {
            (IpAddr::V6(_), IpAddr::V4(_)) => prefix.checked_sub(96).ok_or(PolicyFault::ClientBits)?,
            _ => prefix,
        };
        let network = Self { address: plain, prefix };
        if network.first(plain) != plain {
            return Err(PolicyFault::ClientBits);
        }
        Ok(network)
    }

    /// True when `peer` is in the network.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.first(canonical(peer)) == self.address
    }

    /// The first address of the network of this prefix that `address` is in, of the same family.
    fn first(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
