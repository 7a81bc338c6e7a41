//! How a journal is called: gateways that share a state directory differ in where they listen.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// The journal of one gateway, and those that it goes on with.
///
/// On a port that the system chose a gateway is not found again after a restart, so there it goes on with
/// whatever its like left at this address and no longer keep. Told to listen on the port that the system
/// chose before, it goes on with what was kept for that port.
pub struct JournalName {
    own: String,
    /// How the names begin of those on a port that the system chose.
    any: String,
    /// The port, when it was asked for.
    fixed: Option<u16>,
}

impl JournalName {
    /// Of a gateway that was told to listen on `asked`, and does on `bound`.
    pub fn new(asked: SocketAddr, bound: SocketAddr) -> Self {
        let port = bound.port();
        // Without the brackets and colons of IPv6 it goes into any file system and any shell.
        let text = bound.to_string();
        let host = text.rsplit_once(':').map_or("", |(host, _)| host);
        let host: String = host.chars().filter(|c| !matches!(c, '[' | ']')).collect();
        let fixed = format!("nfs4.clients.{}-", host.replace(':', "-"));
        let any = format!("{fixed}any-");
        match asked.port() {
            0 => Self { own: format!("{any}{port}"), any, fixed: None },
            _ => Self { own: format!("{fixed}{port}"), any, fixed: Some(port) },
        }
    }

    /// The file's name.
    pub fn as_str(&self) -> &str {
        &self.own
    }

    /// The journals in `directory` that it goes on with.
    pub(super) fn before(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut before = Vec::new();
        for entry in directory.read_dir()? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let port = name.strip_prefix(&self.any).and_then(|port| port.parse().ok());
            if port.is_some_and(|port: u16| self.fixed.is_none_or(|fixed| fixed == port)) && name != self.own
            {
                before.push(name);
            }
        }
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(asked: &str, port: u16) -> JournalName {
        let asked: SocketAddr = asked.parse().unwrap();
        let mut bound = asked;
        bound.set_port(port);
        JournalName::new(asked, bound)
    }

    #[test]
    fn each_address_has_its_own() {
        let asked = [
            ("127.0.0.1:2049", "nfs4.clients.127.0.0.1-2049"),
            ("127.0.0.1:0", "nfs4.clients.127.0.0.1-any-2049"),
            ("0.0.0.0:2049", "nfs4.clients.0.0.0.0-2049"),
            ("[::]:2049", "nfs4.clients.---2049"),
            ("[::1]:2049", "nfs4.clients.--1-2049"),
            ("[fe80::1%3]:2049", "nfs4.clients.fe80--1%3-2049"),
            ("[::1]:0", "nfs4.clients.--1-any-2049"),
        ];
        for (asked, expected) in asked {
            assert_eq!(name(asked, 2049).as_str(), expected);
        }
    }

    #[test]
    fn it_goes_on_with_its_like_alone() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            "127.0.0.1-2049",
            "127.0.0.1-any-2049",
            "127.0.0.1-any-2050",
            "127.0.0.1-any-2050.lock",
            "127.0.0.1-any-2050.new",
            "127.0.0.1-any-",
            "127.0.0.2-any-2049",
        ];
        for file in files {
            std::fs::write(directory.path().join(format!("nfs4.clients.{file}")), b"").unwrap();
        }
        let before = |asked, port| {
            let mut before = name(asked, port).before(directory.path()).unwrap();
            before.sort();
            before.iter().map(|name| name.replace("nfs4.clients.127.0.0.1-", "")).collect::<Vec<_>>()
        };
        assert_eq!(before("127.0.0.1:0", 3000), ["any-2049", "any-2050"]);
        assert_eq!(before("127.0.0.1:0", 2050), ["any-2049"], "and not with itself");
        assert_eq!(before("127.0.0.1:2049", 2049), ["any-2049"]);
        assert!(before("127.0.0.1:3000", 3000).is_empty());
    }
}
