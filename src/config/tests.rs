//! The configuration as an operator meets it.

use super::*;
use proptest::prelude::*;
use std::path::Path;

const ALL: &str = r#"# Everything
store = "/srv/data"
replica = ["nfs://filer/data", "/srv/copy"]
repair = true
repair_after = 7
timeout = 30
wait = "hard"
disk_cache = { dir = "/var/cache/nfs-verity", size = "1GiB" }
handle_key = "/etc/nfs-verity/handle.key"
trust = "/etc/nfs-verity/trust"
accept = "native, fsverity"
carrier = "xattr,sidecar"
listen = "[::]:2049"
monitor = "127.0.0.1:0"
monitor_token = "/etc/nfs-verity/monitor.token"
monitor_tls = { cert = "/etc/nfs-verity/m.pem", key = "/etc/nfs-verity/m.key", client_ca = "/etc/nfs-verity/ca.pem" }
namespace = "prod"
mode = "warn"
policy = ["/etc/nfs-verity/a.pol", "/etc/nfs-verity/b.pol"]
policy_active = "b"
policy_mode = "permissive"
policy_trust = "/etc/nfs-verity/policy"
audit_log = "/var/log/nfs-verity.log"
log = "journald"
webhook = { url = "https://hooks:8443/x?token=y", secret = "/etc/nfs-verity/hook", events = ["refused", "store-up"] }
measure = "/var/lib/nfs-verity/measure"
measure_template = "ima-ngv2"
measure_segment = "1MiB"
measure_history = 9
measure_tpm = { tcti = "swtpm:host=127.0.0.1,port=2321", pcr = 23 }
cache = "64MiB"
state = "/var/lib/nfs-verity"
squash = "all"
anonymous_uid = 99
anonymous_gid = 0x64
xattrs = "all"
proof_directory = ".proof"
proof_directory_listed = true
lease = 45
fattr4_ima = 87
nfs4err_integrity = 10200
rpcbind = true
scrub = "24h"
scrub_rate = 50

[limits]
connections = 100
calls_per_connection = 32
idle_seconds = 60
"#;

fn parse(text: &str) -> Result<FileSettings, ConfigError> {
    FileSettings::parse(text, "gateway.toml")
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn address(text: &str) -> StoreAddress {
    StoreAddress::parse(text.as_ref()).unwrap()
}

fn needed() -> Overrides {
    Overrides { store: Some(address("/s")), trust: Some("/t".into()), ..Overrides::default() }
}

#[test]
fn each_key_reaches_its_setting() {
    let settings = Settings::resolve(parse(ALL).unwrap(), Overrides::default()).unwrap();
    let wanted = Settings {
        store: address("/srv/data"),
        replicas: vec![address("nfs://filer/data"), address("/srv/copy")],
        repair: true,
        repair_after: Duration::from_secs(7),
        timeout: Duration::from_secs(30),
        wait: Wait::Hard,
        disk_cache: Some(DiskCache { directory: "/var/cache/nfs-verity".into(), size: 1 << 30 }),
        handle_key: Some("/etc/nfs-verity/handle.key".into()),
        trust: "/etc/nfs-verity/trust".into(),
        accept: "native,fsverity".parse().unwrap(),
        carrier: vec![CarrierKind::Xattr, CarrierKind::Sidecar],
        listen: "[::]:2049".parse().unwrap(),
        monitor: "127.0.0.1:0".parse().unwrap(),
        monitor_token: Some("/etc/nfs-verity/monitor.token".into()),
        monitor_tls: Some(MonitorTls {
            cert: "/etc/nfs-verity/m.pem".into(),
            key: "/etc/nfs-verity/m.key".into(),
            client_ca: Some("/etc/nfs-verity/ca.pem".into()),
        }),
        namespace: "prod".into(),
        mode: Mode::Warn,
        policies: Policies {
            files: vec!["/etc/nfs-verity/a.pol".into(), "/etc/nfs-verity/b.pol".into()],
            active: Some("b".into()),
            mode: PolicyMode::Permissive,
            trust: Some("/etc/nfs-verity/policy".into()),
        },
        audit_log: Some("/var/log/nfs-verity.log".into()),
        log: LogOutput::Journald,
        webhook: Some(Webhook {
            url: "https://hooks:8443/x?token=y".parse().unwrap(),
            secret: "/etc/nfs-verity/hook".into(),
            events: Some(vec!["refused", "store-up"]),
        }),
        measure: Some(Measuring {
            directory: "/var/lib/nfs-verity/measure".into(),
            template: Template::ImaNgV2,
            segment: 1 << 20,
            history: Some(9),
            tpm: Some(MeasureTpm { tcti: "swtpm:host=127.0.0.1,port=2321".into(), pcr: 23 }),
        }),
        cache: 64 << 20,
        state: Some("/var/lib/nfs-verity".into()),
        squash: Squash::All,
        anonymous_uid: 99,
        anonymous_gid: 100,
        xattrs: Xattrs::All,
        proof_directory: ProofDirectory { name: ".proof".parse().unwrap(), listed: true },
        lease: Duration::from_secs(45),
        fattr4_ima: Some(87),
        nfs4err_integrity: Some(10200),
        rpcbind: true,
        scrub: "24h".parse().unwrap(),
        scrub_rate: Some(50),
        limits: Limits {
            connections: Some(100),
            calls_per_connection: Some(32),
            idle: Some(Duration::from_secs(60)),
        },
    };
    assert_eq!(settings, wanted);
    assert_eq!(
        settings.relaxed(),
        [
            "mode = \"warn\"",
            "policy_mode = \"permissive\"",
            "accept = \"native,fsverity\"",
            "measure_tpm = { pcr = 23 }",
            "xattrs = \"all\""
        ]
    );
}

#[test]
fn what_is_not_said_has_its_default() {
    let settings = Settings::resolve(FileSettings::default(), needed()).unwrap();
    let wanted = Settings {
        store: address("/s"),
        replicas: Vec::new(),
        repair: false,
        repair_after: Duration::from_secs(600),
        timeout: Duration::from_secs(10),
        wait: Wait::Soft,
        disk_cache: None,
        scrub: Interval(None),
        scrub_rate: None,
        handle_key: None,
        trust: "/t".into(),
        accept: FormatSet::NATIVE,
        carrier: vec![CarrierKind::Sidecar],
        listen: "127.0.0.1:2049".parse().unwrap(),
        monitor: "127.0.0.1:9649".parse().unwrap(),
        monitor_token: None,
        monitor_tls: None,
        namespace: String::new(),
        mode: Mode::Enforce,
        policies: Policies::default(),
        audit_log: None,
        log: LogOutput::Stderr,
        webhook: None,
        measure: None,
        cache: 128 << 20,
        state: None,
        squash: Squash::Root,
        anonymous_uid: 65534,
        anonymous_gid: 65534,
        xattrs: Xattrs::Evidence,
        proof_directory: ProofDirectory { name: ".verity".parse().unwrap(), listed: false },
        lease: Duration::from_secs(90),
        fattr4_ima: None,
        nfs4err_integrity: None,
        rpcbind: false,
        limits: Limits::default(),
    };
    assert_eq!(settings, wanted);
    assert!(settings.relaxed().is_empty());
    assert_eq!(parse("").unwrap().values, Overrides::default());
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides {
        store: Some(address("/flag/s")),
        replicas: Some(vec![address("/flag/r")]),
        repair: Some(false),
        repair_after: Some(8),
        timeout: Some(1),
        wait: Some(Wait::Soft),
        disk_cache: Some(DiskCache { directory: "/flag/d".into(), size: 64 << 20 }),
        scrub: Some(Interval(None)),
        scrub_rate: Some(1),
        handle_key: Some("/flag/k".into()),
        trust: Some("/flag/t".into()),
        accept: Some(FormatSet::NATIVE),
        carrier: Some(vec![CarrierKind::Appended]),
        listen: Some("10.0.0.1:1".parse().unwrap()),
        monitor: Some("10.0.0.1:2".parse().unwrap()),
        monitor_token: Some("/flag/token".into()),
        monitor_tls: Some(MonitorTls { cert: "/flag/c".into(), key: "/flag/k".into(), client_ca: None }),
        namespace: Some(String::new()),
        mode: Some(Mode::Enforce),
        policies: Some(vec!["/flag/p".into()]),
        policy_active: Some("p".into()),
        policy_mode: Some(PolicyMode::Enforce),
        policy_trust: Some("/flag/q".into()),
        audit_log: Some("/flag/a".into()),
        log: Some(LogOutput::Syslog),
        webhook: Some(Webhook {
            url: "http://flag/".parse().unwrap(),
            secret: "/flag/w".into(),
            events: None,
        }),
        measure: Some("/flag/m".into()),
        measure_template: Some(MeasureTemplate(Template::ImaSig)),
        measure_segment: Some(SEGMENT_MIN),
        measure_history: Some(1),
        measure_tpm: Some(MeasureTpm::default()),
        cache: Some(2 << 20),
        state: Some("/flag/state".into()),
        squash: Some(Squash::None),
        anonymous_uid: Some(1),
        anonymous_gid: Some(2),
        xattrs: Some(Xattrs::Evidence),
        proof_directory: Some("off".parse().unwrap()),
        proof_directory_listed: Some(false),
        lease: Some(10),
        fattr4_ima: Some(88),
        nfs4err_integrity: Some(10100),
        rpcbind: Some(false),
        connections: Some(3),
        calls_per_connection: Some(4),
        idle_seconds: Some(5),
    };
    let with_file = Settings::resolve(parse(ALL).unwrap(), flags.clone()).unwrap();
    assert_eq!(with_file, Settings::resolve(FileSettings::default(), flags).unwrap());
    assert_eq!((with_file.namespace.as_str(), with_file.mode), ("", Mode::Enforce));
}

#[test]
fn carriers_and_formats_are_words_that_come_once() {
    let error = refused("carrier = \"sidecar,paper\"\n");
    assert!(error.contains("gateway.toml:1") && error.contains("paper"), "{error}");
    assert!(refused("carrier = \"sidecar,sidecar\"\n").contains("twice"));
    assert!(refused("carrier = \"\"\n").contains("carrier"));
    assert!(refused("accept = \"pgp\"\n").contains("unknown signature format"));
    let file = parse("accept = \"native,modsig\"\n").unwrap();
    let error = Settings::resolve(file, needed()).unwrap_err().to_string();
    assert!(error.starts_with("accept must be without modsig"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
    let error = refused("store = \"/a\"\n\nchache = \"1G\"\n");
    assert!(
        error.starts_with("gateway.toml:3: unknown key \"chache\"; known keys are store, replica, "),
        "{error}"
    );
    assert!(error.ends_with("scrub, scrub_rate, limits"), "{error}");
    let error = refused("[limits]\nconnections = 1\nidle = 4\n");
    let wanted = "gateway.toml:3: unknown key \"limits.idle\"; known keys of [limits] are connections, \
                  calls_per_connection, idle_seconds";
    assert_eq!(error, wanted);
    let error = refused("[limit]\nconnections = 1\n");
    assert!(error.starts_with("gateway.toml:1: unknown key \"limit\""), "{error}");
    let error = refused("store.path = 1\n\"a\\nb\" = 2\n");
    assert!(error.contains("store must be a path or a URL in quotes, not a table"), "{error}");
    let error = refused("\"a\\nb\" = 2\n");
    assert!(error.starts_with("gateway.toml:1: unknown key \"a\\nb\"; "), "{error}");
}

#[test]
fn the_first_error_in_the_file_is_the_one_that_is_told() {
    assert!(refused("zebra = 1\nalpha = 2\n").starts_with("gateway.toml:1: unknown key \"zebra\""));
}

#[test]
fn each_wrong_value_is_refused_with_its_line_and_what_is_right() {
    const NO_NAME: &str = "proof_directory must be \"off\" or one name, other than .nfs-verity";
    for (value, wanted) in [
        ("store = 3", "store must be a path or a URL in quotes, not a number"),
        ("store = \"\"", "store must be a path or a URL; leave the key out for none"),
        ("store = \"nfs:///x\"", "store: \"nfs:///x\": it has no host"),
        ("replica = 3", "replica must be a path or a URL in quotes, not a number"),
        ("replica = [\"/a\", 3]", "replica must be a path or a URL in quotes, not a number"),
        (
            "replica = [\"ftp://a\"]",
            "replica: \"ftp://a\": no store has this scheme; there are nfs, s3, gs, az, and plain paths",
        ),
        ("repair = \"yes\"", "repair must be true or false, not a string"),
        ("timeout = 0", "timeout must be from 1 to 600"),
        ("wait = \"medium\"", "wait must be \"hard\" or \"soft\", not \"medium\""),
        (
            "disk_cache = \"/d\"",
            "disk_cache must be a table such as { dir = \"/var/cache/nfs-verity\", size = \"100GiB\" }, not a string",
        ),
        (
            "disk_cache = { dir = \"/d\" }",
            "disk_cache must have dir and size; it is a table such as { dir = \"/var/cache/nfs-verity\", size = \"100GiB\" }",
        ),
        ("disk_cache = { size = \"1MiB\" }", "size must be at least 64MiB"),
        (
            "disk_cache = { where = 1 }",
            "unknown key \"disk_cache.where\"; known keys of [disk_cache] are dir, size",
        ),
        (
            "measure_tpm = \"device\"",
            "measure_tpm must be a table such as { tcti = \"device:/dev/tpmrm0\", pcr = 13 }, not a string",
        ),
        (
            "measure_tpm = { tcti = \"device:tpmrm0\" }",
            "tcti must say how the TPM is reached, as in \"device:/dev/tpmrm0\"",
        ),
        (
            "measure_tpm = { pcr = 10 }",
            "pcr must be 8, 9, 11 to 16, or 23: the firmware, the kernel's own IMA (10) or a measured launch extends the \
             others",
        ),
        ("measure_tpm = { pcr = 24 }", "pcr must be from 0 to 23"),
        (
            "measure_tpm = { bank = \"sha256\" }",
            "unknown key \"measure_tpm.bank\"; known keys of [measure_tpm] are tcti, pcr",
        ),
        ("handle_key = 1", "handle_key must be a path in quotes, not a number"),
        ("trust = [\"a\"]", "trust must be a path in quotes, not a list"),
        (
            "listen = \"localhost:2049\"",
            "listen must be an address and port such as \"127.0.0.1:2049\" or \"[::]:2049\", \
             not \"localhost:2049\"",
        ),
        (
            "monitor = 9649",
            "monitor must be an address and port such as \"127.0.0.1:2049\" or \"[::]:2049\", not a number",
        ),
        ("monitor_token = 7", "monitor_token must be a path in quotes, not a number"),
        ("monitor_token = \"\"", "monitor_token must be a path; leave the key out for none"),
        (
            "monitor_tls = \"/m.pem\"",
            "monitor_tls must be a table such as { cert = \"monitor.pem\", key = \"monitor.key\" }, not a string",
        ),
        (
            "monitor_tls = { cert = \"/m.pem\", client_ca = \"/ca.pem\" }",
            "monitor_tls must have cert and key; it is a table such as { cert = \"monitor.pem\", key = \"monitor.key\" }",
        ),
        (
            "monitor_tls = { ca = \"/m.pem\" }",
            "unknown key \"monitor_tls.ca\"; known keys of [monitor_tls] are cert, key, client_ca",
        ),
        ("monitor_tls = { key = 1 }", "key must be a path in quotes, not a number"),
        ("namespace = false", "namespace must be a string, not true or false"),
        ("mode = \"off\"", "mode must be \"enforce\" or \"warn\", not \"off\""),
        ("mode = \"a\\nb\"", "mode must be \"enforce\" or \"warn\", not \"a\\nb\""),
        ("mode = 1979-05-27", "mode must be a string, not a date"),
        ("audit_log = 1.5", "audit_log must be a path in quotes, not a fraction"),
        ("log = \"file\"", "log must be \"stderr\", \"journald\" or \"syslog\", not \"file\""),
        (
            "webhook = \"https://h/\"",
            "webhook must be a table such as { url = \"https://HOST/PATH\", secret = \"FILE\" }, not a string",
        ),
        ("webhook.url = 3", "url must be a string, not a number"),
        (
            "webhook = { url = \"https://h\", secret = \"\" }",
            "secret must be a path; leave the key out for none",
        ),
        (
            "webhook.events = \"refused\"",
            "events must be a list such as [\"refused\", \"store-down\"], not a string",
        ),
        ("webhook.events = [\"refused\", \"refused\"]", "events names one thing twice"),
        (
            "webhook.events = []",
            "events must be a list such as [\"refused\", \"store-down\"]; leave it out for failures",
        ),
        (
            "webhook.header = 1",
            "unknown key \"webhook.header\"; known keys of [webhook] are url, secret, events",
        ),
        ("cache = true", "cache must be a number of bytes or a size such as \"64MiB\", not true or false"),
        ("cache = 1000", "cache must be at least 1MiB"),
        ("cache = \"1023KiB\"", "cache must be at least 1MiB"),
        ("cache = -1", "cache is out of range"),
        (
            "cache = \"lots\"",
            "cache: \"lots\" is no size; write a number of bytes or one such as \"64MiB\" \
             (units K, M, G, KiB, MiB, GiB)",
        ),
        ("state = {}", "state must be a path in quotes, not a table"),
        ("xattrs = \"none\"", "xattrs must be \"evidence\" or \"all\", not \"none\""),
        ("squash = \"some\"", "squash must be \"root\", \"all\" or \"none\", not \"some\""),
        ("anonymous_uid = 4294967295", "anonymous_uid must be from 0 to 4294967294"),
        ("lease = 9", "lease must be from 10 to 3600"),
        ("lease = \"90s\"", "lease must be a number, not a string"),
        ("fattr4_ima = 82", "fattr4_ima must be from 83 to 127"),
        ("nfs4err_integrity = 5", "nfs4err_integrity must be from 10097 to 19999"),
        ("anonymous_gid = -2", "anonymous_gid must be from 0 to 4294967294"),
        ("anonymous_gid = \"nobody\"", "anonymous_gid must be a number, not a string"),
        ("proof_directory = 5", "proof_directory must be a string, not a number"),
        ("proof_directory = \"\"", NO_NAME),
        ("proof_directory = \"a/b\"", NO_NAME),
        ("proof_directory = \"..\"", NO_NAME),
        ("proof_directory = \".nfs-verity\"", NO_NAME),
        ("proof_directory_listed = 1", "proof_directory_listed must be true or false, not a number"),
        ("rpcbind = \"yes\"", "rpcbind must be true or false, not a string"),
        ("limits = 5", "limits must be a table [limits], not a number"),
        ("limits.connections = 0", "connections must be from 1 to 65536"),
        ("limits.calls_per_connection = 5000", "calls_per_connection must be from 1 to 4096"),
        ("limits.idle_seconds = 99999999999999999999999999", "idle_seconds must be from 1 to 604800"),
    ] {
        assert_eq!(refused(&format!("# one\n\n{value}\n")), format!("gateway.toml:3: {wanted}"), "{value}");
    }
}

#[test]
fn a_webhook_is_signed_and_its_address_is_never_told() {
    let hook = |url: &str| format!("webhook = {{ url = \"{url}\", secret = \"f\" }}\n");
    for url in [
        "token",
        "https://",
        "https://h:token/",
        "ftp://h/token",
        "https://user:token@h/",
        "https://token@h/",
        "https://h/#token",
    ] {
        let error = refused(&hook(url));
        assert!(error.starts_with("gateway.toml:1: url: "), "{error}");
        assert!(!error.contains("token") && !error.contains("ftp:"), "{error}");
    }
    let missing = refused("webhook = { url = \"https://h/token\" }\n");
    assert!(missing.contains("webhook must have url and secret") && !missing.contains("token"), "{missing}");
    let values = parse(&hook("https://h/hidden?hidden=1")).unwrap().values;
    assert!(!format!("{values:?}").contains("hidden"));
    let url = values.webhook.unwrap().url;
    assert_eq!((url.to_string().as_str(), url.secret()), ("https://h/...", "https://h/hidden?hidden=1"));
    let error = refused("webhook.events = [\"exploded\"]");
    assert!(error.contains("there is no event \"exploded\"; there are started, stopped, "), "{error}");
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    for (text, line) in
        [("a = 1\nb = \n", 2), ("store = \"a\"\nstore = \"b\"\n", 2), ("[limits\n", 1), ("=", 1)]
    {
        let error = refused(text);
        assert!(error.starts_with(&format!("gateway.toml:{line}: not TOML: ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn depth_is_bounded() {
    for deep in ["[", "{a=", "a."] {
        assert!(refused(&format!("a = {}", deep.repeat(100_000))).starts_with("gateway.toml:1: "));
    }
    assert!(refused(&"a.".repeat(100_000)).starts_with("gateway.toml:1: "));
}

#[test]
fn a_file_cut_at_any_length_is_read_or_refused() {
    let mut read = 0;
    for n in 0..=ALL.len() {
        read += usize::from(parse(&ALL[..n]).is_ok());
    }
    assert!(read > 10 && read < ALL.len(), "{read}");
}

#[test]
fn what_must_be_given_is_asked_for() {
    let missing = |file, flags| Settings::resolve(file, flags).unwrap_err().to_string();
    assert_eq!(
        missing(FileSettings::default(), Overrides::default()),
        "store is missing; give --store ROOT or write store = \"ROOT\" in the configuration (--config FILE)"
    );
    assert_eq!(
        missing(parse("").unwrap(), Overrides { trust: None, ..needed() }),
        "trust is missing; give --trust PATH or write trust = \"PATH\" in gateway.toml"
    );
}

#[test]
fn flags_are_held_to_the_same_bounds() {
    let refuse = |flags| Settings::resolve(FileSettings::default(), flags).unwrap_err().to_string();
    assert_eq!(refuse(Overrides { cache: Some(1), ..needed() }), "cache must be at least 1MiB");
    let error = refuse(Overrides { connections: Some(0), ..needed() });
    assert_eq!(error, "connections must be from 1 to 65536");
    let error = refuse(Overrides { anonymous_uid: Some(u32::MAX), ..needed() });
    assert_eq!(error, "anonymous_uid must be from 0 to 4294967294");
}

#[test]
fn stores_that_contradict_each_other_are_refused() {
    let refuse = |flags| Settings::resolve(FileSettings::default(), flags).unwrap_err().to_string();
    let replicas = |list: &[&str]| Some(list.iter().map(|text| address(text)).collect::<Vec<_>>());
    let error = refuse(Overrides { repair: Some(true), ..needed() });
    assert!(error.starts_with("repair must be left out without a replica"), "{error}");
    let error = refuse(Overrides { replicas: replicas(&["/s"]), ..needed() });
    assert_eq!(error, "replica must be another store each time; /s stands there twice");
    let error = refuse(Overrides { replicas: replicas(&["/r"; 17]), ..needed() });
    assert_eq!(error, "replica must be 16 stores at most");
    let disk_cache = Some(DiskCache { directory: "/d".into(), size: 1 << 20 });
    assert_eq!(refuse(Overrides { disk_cache, ..needed() }), "disk_cache must be of at least 64MiB");
    assert_eq!(refuse(Overrides { timeout: Some(0), ..needed() }), "timeout must be from 1 to 600");
}

#[test]
fn carriers_that_need_a_directory_are_refused_where_there_is_none() {
    use CarrierKind::{Kernel, Sidecar, Xattr};
    let over = |store: &str, carrier: &[CarrierKind]| {
        let flags = Overrides { store: Some(address(store)), carrier: Some(carrier.to_vec()), ..needed() };
        Settings::resolve(FileSettings::default(), flags).map_err(|error| error.to_string())
    };
    for store in ["nfs://h/x", "s3://b/x"] {
        for carrier in [&[Kernel][..], &[Xattr], &[Kernel, Xattr]] {
            let error = over(store, carrier).unwrap_err();
            assert!(error.starts_with("carrier must be sidecar or appended"), "{error}");
        }
        assert!(over(store, &[Kernel, Sidecar]).is_ok());
    }
    assert!(over("/s", &[Kernel]).is_ok());
}

#[test]
fn two_servers_cannot_share_an_address() {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let both = |port| Overrides { listen: Some(at(port)), monitor: Some(at(port)), ..needed() };
    let error = Settings::resolve(FileSettings::default(), both(5)).unwrap_err().to_string();
    assert_eq!(error, "listen and monitor are both 127.0.0.1:5; give one of them another port");
    assert!(Settings::resolve(FileSettings::default(), both(0)).is_ok());
}

#[test]
fn a_monitor_beyond_loopback_asks_for_something() {
    let token = Some(PathBuf::from("/token"));
    let tls = |client_ca| Some(MonitorTls { cert: "/c".into(), key: "/k".into(), client_ca });
    let certified = tls(Some("/ca".into()));
    for (address, beyond) in [
        ("127.0.0.1:9649", false),
        ("127.9.9.9:0", false),
        ("[::1]:9649", false),
        ("[::ffff:127.0.0.1]:9649", false),
        ("0.0.0.0:9649", true),
        ("[::]:0", true),
        ("192.0.2.1:9649", true),
        ("[::ffff:192.0.2.1]:9649", true),
    ] {
        let monitor = Some(address.parse().unwrap());
        let with = |monitor_token: &Option<PathBuf>, monitor_tls: &Option<MonitorTls>| {
            let (monitor_token, monitor_tls) = (monitor_token.clone(), monitor_tls.clone());
            let flags = Overrides { monitor, monitor_token, monitor_tls, ..needed() };
            Settings::resolve(FileSettings::default(), flags)
        };
        for open in [with(&None, &None), with(&None, &tls(None))] {
            assert_eq!(open.is_err(), beyond, "{address}");
            if let Err(error) = open {
                let error = error.to_string();
                assert!(error.starts_with(&format!("monitor is {address}, ")), "{error}");
                assert!(error.contains("--monitor-token FILE"), "{error}");
            }
        }
        for closed in [with(&token, &None), with(&None, &certified), with(&token, &tls(None))] {
            assert!(closed.is_ok(), "{address}");
        }
    }
}

#[test]
fn a_file_is_loaded_with_paths_from_its_own_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let text = r#"
        store = "data"
        replica = ["nfs://h/data", "copy", "/abs/copy"]
        trust = "/abs"
        audit_log = "log/a"
        state = "st"
        handle_key = "key"
        disk_cache = { dir = "blocks", size = "1GiB" }
        monitor_token = "token"
        monitor_tls = { cert = "c.pem", key = "/abs/key", client_ca = "ca.pem" }
        webhook = { url = "http://h/", secret = "hook" }
    "#;
    std::fs::write(&path, text).unwrap();
    let settings = Settings::resolve(FileSettings::load(&path).unwrap(), Overrides::default()).unwrap();
    let local = |name: &str| StoreAddress::Local(folder.path().join(name));
    assert_eq!(settings.store, local("data"));
    assert_eq!(settings.replicas, [address("nfs://h/data"), local("copy"), address("/abs/copy")]);
    assert_eq!(settings.handle_key, Some(folder.path().join("key")));
    assert_eq!(settings.disk_cache.unwrap().directory, folder.path().join("blocks"));
    assert_eq!(settings.monitor_token, Some(folder.path().join("token")));
    let tls = settings.monitor_tls.unwrap();
    assert_eq!((tls.cert, tls.key), (folder.path().join("c.pem"), "/abs/key".into()));
    assert_eq!(tls.client_ca, Some(folder.path().join("ca.pem")));
    assert_eq!(settings.webhook.unwrap().secret, folder.path().join("hook"));
    assert_eq!(settings.trust, Path::new("/abs"));
    assert_eq!(settings.audit_log, Some(folder.path().join("log/a")));
    assert_eq!(settings.state, Some(folder.path().join("st")));
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let load = || FileSettings::load(&path).unwrap_err().to_string();
    let name = path.display().to_string();
    assert!(load().starts_with(&format!("{name}: cannot read the configuration: ")));
    std::fs::write(&path, b"# fine\n# \xff\n").unwrap();
    assert_eq!(load(), format!("{name}:2: not UTF-8; save the file as UTF-8"));
    std::fs::write(&path, "mode = \"x\"").unwrap();
    assert!(load().starts_with(&format!("{name}:1: mode must be")));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(load().contains("at most 1048576 bytes"), "{}", load());
    std::fs::write(&path, vec![b'#'; 1024 * 1024]).unwrap();
    assert!(FileSettings::load(&path).is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        at in 0..ALL.len(),
        len in 0..40_usize,
        new in "[\\[\\]{}\"'=.,0-9a-z\n\\\\#+-]{0,6}",
    ) {
        let end = (at + len).min(ALL.len());
        let _ = parse(&[&ALL[..at], &new, &ALL[end..]].concat());
    }
}
