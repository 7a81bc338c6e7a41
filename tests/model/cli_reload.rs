//! SIGHUP: what a running gateway takes anew, and what it refuses.

use std::fs;
use std::path::PathBuf;

use nfs_verity::sign::{KeyAlgorithm, generate};

use crate::cli::{Ends, command, keygen};
use crate::cli_serve::{audit, events};
use crate::support::{Client, NFS3ERR_ACCES, Served, Site, eventually};

/// A gateway with a configuration file `gateway.toml` and an audit log.
struct Running {
    site: Site,
    served: Served,
    log: PathBuf,
}

const CONFIG: &str = "store = \"tree\"\ntrust = \"trust\"\nstate = \"state\"\naudit_log = \"audit.log\"\n\
                      listen = \"127.0.0.1:0\"\nmonitor = \"127.0.0.1:0\"\n";

impl Running {
    /// `first` is signed by the key `release`, `second` by the key `second`, which is not trusted yet.
    fn new() -> Self {
        let site = Site::new();
        site.put("first", b"by release");
        site.put("second", b"by another");
        keygen(&site, "second");
        site.sign(&["first"]);
        let second = site.path("second.key");
        command("sign").arg("--key").arg(second).arg(site.tree()).arg("second").ends(0);
        fs::write(site.path("gateway.toml"), CONFIG).unwrap();
        let mut serve = command("serve");
        serve.arg("--config").arg(site.path("gateway.toml")).env("RUST_LOG", "error");
        let served = Served::spawn(&mut serve);
        let log = site.path("audit.log");
        Self { site, served, log }
    }

    /// Sends SIGHUP and waits for one more line of the kind `event`, which it gives.
    fn hangup(&self, event: &str) -> serde_json::Value {
        let before = events(&self.log, event).len();
        self.served.signal("HUP");
        eventually(event, || events(&self.log, event).len() > before);
        events(&self.log, event).remove(before)
    }

    fn trust(&self, name: &str) -> PathBuf {
        self.site.trust().join(name)
    }
}

#[test]
fn keys_come_and_go_with_a_hangup_also_for_open_files() {
    let running = Running::new();
    let mut client = Client::connect(running.served.nfs);
    let (first, second) = (client.find("first").unwrap(), client.find("second").unwrap());
    assert_eq!(client.read(&first, 0, 100).unwrap().0, b"by release");
    assert_eq!(client.read(&second, 0, 100), Err(NFS3ERR_ACCES));
    assert_eq!(client.access(&second, 1), Ok(0));

    fs::copy(running.site.path("second.pub"), running.trust("second.pub")).unwrap();
    assert_eq!(client.read(&second, 0, 100), Err(NFS3ERR_ACCES), "not before it is asked for");
    assert_eq!(running.hangup("reloaded")["what"], "trust");
    assert_eq!(client.read(&second, 0, 100).unwrap().0, b"by another");
    assert_eq!(client.access(&second, 1), Ok(1));
    assert_eq!(running.served.metric("nfs_verity_trusted_keys"), 2.0);

    fs::remove_file(running.trust("release.pub")).unwrap();
    running.hangup("reloaded");
    assert_eq!(client.read(&first, 0, 100), Err(NFS3ERR_ACCES), "although it is open and cached");
    assert_eq!(client.access(&first, 1), Ok(0));
    assert_eq!(client.read(&second, 0, 100).unwrap().0, b"by another");
    eventually("it is told why", || {
        events(&running.log, "refused").iter().any(|l| l["path"] == "first" && l["cause"] == "unknown key")
    });
}

#[test]
fn a_broken_reload_is_refused_and_the_old_settings_stay() {
    let mut running = Running::new();
    let mut client = Client::connect(running.served.nfs);
    let file = client.find("first").unwrap();
    let config = running.site.path("gateway.toml");
    let pair = generate(KeyAlgorithm::Ed25519).unwrap();

    // A new key lies there, but what comes with it is broken: neither is taken.
    fs::copy(running.site.path("second.pub"), running.trust("second.pub")).unwrap();
    fs::write(&config, format!("{CONFIG}mod = \"warn\"\n")).unwrap();
    let refused = running.hangup("reload-refused");
    assert_eq!(refused["what"], "configuration");
    assert!(refused["error"].as_str().unwrap().contains("gateway.toml:7: "), "{refused}");

    fs::write(&config, CONFIG).unwrap();
    fs::write(running.trust("broken.pub"), &pair.public_pem[..60]).unwrap();
    let refused = running.hangup("reload-refused");
    assert_eq!(refused["what"], "trust");
    assert!(refused["error"].as_str().unwrap().contains("broken.pub"), "{refused}");

    for name in ["broken.pub", "second.pub", "release.pub"] {
        fs::remove_file(running.trust(name)).unwrap();
    }
    assert!(running.hangup("reload-refused")["error"].as_str().unwrap().contains("no keys"));

    fs::remove_file(&config).unwrap();
    assert!(running.hangup("reload-refused")["error"].as_str().unwrap().contains("gateway.toml"));

    assert!(events(&running.log, "reloaded").is_empty());
    assert_eq!(client.read(&file, 0, 100).unwrap().0, b"by release");
    assert_eq!(running.served.metric("nfs_verity_trusted_keys"), 1.0);
    let refusals = |what: &str| format!("nfs_verity_reloads_total{{what=\"{what}\",result=\"refused\"}}");
    assert_eq!(running.served.metric(&refusals("configuration")), 2.0);
    assert_eq!(running.served.metric(&refusals("trust")), 2.0);
    assert!(running.served.get("/").contains("what was before still holds"));
    assert!(running.served.child.try_wait().unwrap().is_none(), "and it runs on");
}

#[test]
fn the_configuration_cannot_relax_what_runs() {
    let running = Running::new();
    let mut client = Client::connect(running.served.nfs);
    let file = client.find("second").unwrap();
    fs::write(running.site.path("gateway.toml"), format!("{CONFIG}mode = \"warn\"\n")).unwrap();
    running.served.signal("HUP");
    let told = || events(&running.log, "reloaded").into_iter().find(|line| line["what"] == "configuration");
    eventually("it is taken", || told().is_some());
    assert!(told().unwrap()["detail"].as_str().unwrap().contains("after a restart"));
    assert_eq!(client.read(&file, 0, 100), Err(NFS3ERR_ACCES));
    assert_eq!(running.served.metric("nfs_verity_relaxed"), 0.0);
}

#[test]
fn the_audit_log_can_be_rotated() {
    let mut running = Running::new();
    let old = running.site.path("audit.log.1");
    fs::rename(&running.log, &old).unwrap();
    let mut client = Client::connect(running.served.nfs);
    let file = client.find("second").unwrap();
    assert_eq!(client.read(&file, 0, 100), Err(NFS3ERR_ACCES));
    eventually("lines go to the moved file", || !events(&old, "refused").is_empty());
    running.hangup("reloaded");
    let told = audit(&old);
    assert_eq!(told.first().unwrap()["event"], "started");
    client.read(&file, 0, 100).unwrap_err();
    running.served.signal("TERM");
    assert_eq!(running.served.ended(), Some(0));
    assert_eq!(audit(&old), told, "nothing more goes to the moved file");
    assert!(events(&old, "reloaded").is_empty());
    assert_eq!((events(&old, "refused").len(), events(&running.log, "refused").len()), (1, 1));
    assert_eq!(audit(&running.log).last().unwrap()["event"], "stopped");
}

#[test]
fn an_audit_log_that_cannot_be_opened_again_is_told_and_kept() {
    let running = Running::new();
    let old = running.site.path("audit.log.1");
    eventually("the start is logged", || !audit(&running.log).is_empty());
    fs::rename(&running.log, &old).unwrap();
    fs::create_dir(&running.log).unwrap();
    running.served.signal("HUP");
    eventually("it is told", || !events(&old, "reload-refused").is_empty());
    assert_eq!(events(&old, "reload-refused")[0]["what"], "audit log");
    eventually("the rest is taken all the same", || events(&old, "reloaded").len() == 2);
}
