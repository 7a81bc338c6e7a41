//! `nfs://HOST[:PORT]/PATH`, the URL of RFC 2224, and connections to what it names.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::store::StorePath;
use crate::store::url::{decode, split_authority};

/// The port of NFS.
const PORT: u16 = 2049;
/// How long one address may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an object is served, and its path below the export's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    host: String,
    port: u16,
    pub(in crate::cli) path: StorePath,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; an address is nfs://HOST[:PORT]/PATH");
        let rest = url.strip_prefix("nfs://").ok_or_else(|| wrong("it does not begin with nfs://"))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        let (host, port) = split_authority(authority).map_err(wrong)?;
        let port = match port {
            Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(wrong("the port is not a number below 65536"));
            }
            Some(port) => port.parse().map_err(|_| wrong("the port is not a number below 65536"))?,
            None => PORT,
        };
        let slashes = path.bytes().filter(|b| *b == b'/').count();
        let path = decode(path).ok_or_else(|| wrong("a % in the path does not precede two hex digits"))?;
        if path.iter().filter(|b| **b == b'/').count() > slashes {
            return Err(wrong("no name has a slash in it (%2F)"));
        }
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let path = StorePath::parse(path).map_err(|error| wrong(&format!("the path: {error}")))?;
        Ok(Self { host: host.to_owned(), port, path })
    }
}

impl Address {
    /// A connection to the first of the host's addresses that accepts one.
    pub(in crate::cli) fn connect(&self) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Host and port.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, u16, Vec<u8>) {
        let address: Address = url.parse().unwrap();
        (address.host, address.port, address.path.as_bytes().to_vec())
    }

    #[test]
    fn hosts_ports_and_paths_are_told_apart() {
        for (url, host, port, path) in [
            ("nfs://gateway/a/b", "gateway", 2049, &b"a/b"[..]),
            ("nfs://gateway:11049/a", "gateway", 11049, b"a"),
            ("nfs://10.0.0.1:1/", "10.0.0.1", 1, b""),
            ("nfs://[::1]:5/a/", "::1", 5, b"a"),
            ("nfs://[fe80::1]/%41%2500%ff", "fe80::1", 2049, b"A%00\xff"),
        ] {
            assert_eq!(parts(url), (host.to_owned(), port, path.to_vec()), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "gateway:/a",
            "http://gateway/a",
            "nfs://gateway",
            "nfs:///a",
            "nfs://:1/a",
            "nfs://gateway:/a",
            "nfs://gateway:65536/a",
            "nfs://[::1/a",
            "nfs://[::1]x/a",
            "nfs://g w/a",
            "nfs://fe80::1/a",
            "nfs://::1/a",
            "nfs://g:+80/a",
            "nfs://[::1]:+80/a",
            "nfs://g/a%2Fb",
            "nfs://g/a%2f",
            "nfs://g/a//b",
            "nfs://g//a",
            "nfs://g/../a",
            "nfs://g/a%2",
            "nfs://g/%zz",
            "nfs://g/a%00",
        ] {
            assert!(url.parse::<Address>().is_err(), "{url}");
        }
    }
}
