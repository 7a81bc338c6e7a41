//! A signed tree and a gateway that serves it.

use std::fmt::Write as _;

use super::support::{Served, Site, content};
use super::wire::Session;

pub const HELLO: &[u8] = b"hello, verity";
/// Bytes of `big` and of `bad`.
pub const BIG: usize = 300_000;
/// The damaged block of `bad`.
pub const BAD_BLOCK: usize = 20;
/// Files in `many`.
pub const MANY: usize = 200;

pub struct Scene {
    pub site: Site,
    pub gateway: Served,
}

impl Scene {
    pub fn new() -> Self {
        Self::with("")
    }

    /// With more lines of configuration.
    pub fn with(config: &str) -> Self {
        let site = Site::new();
        site.put("hello", HELLO);
        site.put("empty", b"");
        site.put("big", &content(1, BIG));
        site.put("bad", &content(2, BIG));
        site.put("dir/a", b"a of dir");
        site.put("dir/sub/deep", b"deep");
        for n in 0..MANY {
            site.put(format!("many/{n:03}-with-a-name-of-some-length"), format!("{n}").as_bytes());
        }
        std::os::unix::fs::symlink("dir/a", site.tree().join("link")).unwrap();
        site.sign(&[]);
        let mut bad = content(2, BIG);
        bad[BAD_BLOCK * 4096 + 5] ^= 1;
        site.put("bad", &bad);
        site.put("unsigned", b"nobody signed this");
        let gateway = start(&site, config);
        Self { site, gateway }
    }

    /// The same site and state, served anew. The old gateway is killed and has no time to tidy up.
    pub fn restart(&mut self, config: &str) {
        self.gateway.child.kill().unwrap();
        self.gateway.child.wait().unwrap();
        self.gateway = start(&self.site, config);
    }

    pub fn session(&self) -> Session {
        Session::open(self.gateway.nfs)
    }
}

fn start(site: &Site, config: &str) -> Served {
    let file = site.path("serve.toml");
    let mut text = config.to_owned();
    writeln!(text).unwrap();
    std::fs::write(&file, text).unwrap();
    site.serve(&["--config", file.to_str().unwrap()])
}
