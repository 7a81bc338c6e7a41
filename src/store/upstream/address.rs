//! `nfs://HOST[:PORT][/EXPORT][?...]`.

use std::fmt;
use std::time::Duration;

use super::super::Identity;
use super::super::url::{AddressError, Url};

/// The port of NFS and of the port mapper.
pub(super) const NFS_PORT: u16 = 2049;
pub(super) const PORTMAP_PORT: u16 = 111;

/// An NFSv3 server and what of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
    pub(super) export: Vec<u8>,
    pub(super) mount_port: Option<u16>,
    /// Whether the port mapper is asked for what the URL does not say.
    pub(super) portmap: bool,
    pub(super) connections: usize,
    /// How long attributes and names are taken for unchanged.
    pub(super) attributes: Duration,
    /// Whether data are read in the name of the client that asks for them.
    pub(super) as_caller: bool,
    /// In whose name everything else is done.
    pub(super) service: Identity,
    /// Whether calls come from a port below 1024, which many servers insist on.
    pub(super) reserved: bool,
}

impl Address {
    pub(in super::super) fn from_url(url: Url) -> Result<Self, AddressError> {
        let wrong = |what: String| AddressError::new(&url.to_string(), what);
        let user = rustix::process::geteuid();
        let groups = rustix::process::getgroups().unwrap_or_default();
        let mut address = Self {
            export: [b"/", url.path.as_slice()].concat(),
            mount_port: None,
            portmap: url.port.is_none(),
            connections: 2,
            attributes: Duration::from_secs(1),
            as_caller: false,
            service: Identity {
                uid: user.as_raw(),
                gid: rustix::process::getegid().as_raw(),
                gids: groups.into_iter().take(16).map(rustix::fs::Gid::as_raw).collect(),
            },
            reserved: user.is_root(),
            url: url.clone(),
        };
        for (key, value) in &url.query {
            let among = |most: u32| match value.parse::<u32>() {
                Ok(number) if number <= most && value.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
                _ => Err(wrong(format!("{key} is a number up to {most}"))),
            };
            let choice = |names: [&str; 2]| match names.iter().position(|name| name == value) {
                Some(at) => Ok(at == 0),
                None => Err(wrong(format!("{key} is {}", names.join(" or ")))),
            };
            match key.as_str() {
                "mountport" => match u16::try_from(among(65535)?) {
                    Ok(port) if port > 0 => address.mount_port = Some(port),
                    _ => return Err(wrong("mountport is a number from 1 to 65535".to_owned())),
                },
                "portmap" => address.portmap = choice(["on", "off"])?,
                "connections" => match among(16)? as usize {
                    0 => return Err(wrong("connections is a number from 1 to 16".to_owned())),
                    count => address.connections = count,
                },
                "attributes" => address.attributes = Duration::from_secs(among(3600)?.into()),
                "identity" => address.as_caller = choice(["caller", "service"])?,
                "uid" => address.service.uid = among(u32::MAX)?,
                "gid" => address.service.gid = among(u32::MAX)?,
                "gids" => {
                    let gids: Result<Vec<u32>, _> =
                        value.split(',').filter(|gid| !gid.is_empty()).map(str::parse).collect();
                    address.service.gids = match gids {
                        Ok(gids) if gids.len() <= 16 => gids,
                        _ => return Err(wrong("gids is at most 16 numbers with commas".to_owned())),
                    };
                }
                "source" => address.reserved = choice(["reserved", "any"])?,
                _ => {
                    return Err(wrong(format!(
                        "{key} is no option of nfs://; there are mountport, portmap, connections, attributes, \
                         identity, uid, gid, gids and source"
                    )));
                }
            }
        }
        // Groups of this process say nothing of another user.
        let given = |key: &str| url.query.iter().any(|(other, _)| other == key);
        if given("uid") && !given("gids") {
            address.service.gids.clear();
        }
        Ok(address)
    }

    pub(super) fn host(&self) -> &str {
        &self.url.host
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.url.port
    }
}

/// As it is given.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::from_url(Url::parse(text)?)
    }

    #[test]
    fn options_are_read_and_have_their_defaults() {
        let plain = parse("nfs://server/srv/data").unwrap();
        assert_eq!((&plain.export[..], plain.portmap, plain.connections), (&b"/srv/data"[..], true, 2));
        assert_eq!((plain.attributes, plain.as_caller), (Duration::from_secs(1), false));
        assert_eq!(parse("nfs://server").unwrap().export, b"/");
        assert!(!parse("nfs://server:2049/a").unwrap().portmap);
        let full = parse(
            "nfs://s:11049/a?mountport=11050&portmap=on&connections=16&attributes=0&identity=caller&uid=7&gid=8\
             &gids=9,10&source=any",
        )
        .unwrap();
        assert_eq!((full.mount_port, full.portmap, full.connections), (Some(11050), true, 16));
        assert_eq!((full.attributes, full.as_caller, full.reserved), (Duration::ZERO, true, false));
        assert_eq!(full.service, Identity { uid: 7, gid: 8, gids: vec![9, 10] });
        assert!(parse("nfs://s/?uid=7").unwrap().service.gids.is_empty());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for option in [
            "mountport=0",
            "mountport=65536",
            "portmap=yes",
            "connections=0",
            "connections=17",
            "attributes=-1",
            "attributes=3601",
            "identity=root",
            "uid=x",
            "uid=4294967296",
            "uid=+1",
            "gids=1;2",
            "source=low",
            "soft=1",
        ] {
            assert!(parse(&format!("nfs://s/a?{option}")).is_err(), "{option}");
        }
    }
}
