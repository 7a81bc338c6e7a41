//! `nfs-verity serve`: how it starts, what it tells, how it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli::{Ends, command, flip};
use crate::support::{
    COMMAND, Client, NFS, NFS3ERR_ACCES, NFS3ERR_BADHANDLE, NFS3ERR_IO, Served, Site, content, eventually,
    receive_record, send_record,
};

/// The lines of an audit log.
pub fn audit(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of one kind.
pub fn events(path: &Path, event: &str) -> Vec<Value> {
    audit(path).into_iter().filter(|line| line["event"] == event).collect()
}

/// `serve` with the site's tree, trust and state on free ports; flags may follow.
pub fn serve(site: &Site) -> Command {
    serve_on(site, "127.0.0.1:0")
}

/// The same, for clients at `address`.
pub fn serve_on(site: &Site, address: &str) -> Command {
    let mut serve = command("serve");
    serve
        .arg("--store")
        .arg(site.tree())
        .arg("--trust")
        .arg(site.trust())
        .arg("--state")
        .arg(site.path("state"));
    serve.args(["--listen", address, "--monitor", "127.0.0.1:0"]).env("RUST_LOG", "error");
    serve
}

/// A served site with `--audit-log`, and the log's path.
fn audited(site: &Site, more: &[&str]) -> (Served, PathBuf) {
    let log = site.path("audit.log");
    let flags = [&["--audit-log", log.to_str().unwrap()], more].concat();
    (site.serve(&flags), log)
}

#[test]
fn ready_is_one_line_with_the_addresses_that_answer() {
    let site = Site::new();
    site.put("f", b"content");
    site.sign(&[]);
    let served = site.serve(&[]);
    assert!(served.nfs.ip().is_loopback() && served.monitor.ip().is_loopback());
    assert!(served.nfs.port() != 0 && served.monitor.port() != 0 && served.nfs != served.monitor);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    assert_eq!(client.read_all(&file, 4096).unwrap(), b"content");
    assert_eq!((served.get("/healthz"), served.get("/readyz")), ("ok\n".into(), "ready\n".into()));
    let six = site.serve(&["--listen", "[::1]:0"]);
    assert!(six.nfs.is_ipv6());
    Client::connect(six.nfs).mount(b"/").unwrap();
}

#[test]
fn nothing_else_is_printed_on_standard_output() {
    let site = Site::new();
    let mut served = site.serve(&["--mode", "warn"]);
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    let mut rest = String::new();
    served.child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--monitor"] {
        let other = if flag == "--listen" { "--monitor" } else { "--listen" };
        let mut serve = command("serve");
        serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
        serve.arg("--state").arg(site.path("state")).args([other, "127.0.0.1:0"]);
        serve.args([flag, &address]).ends(3).complains_of(&[&address, "in use", flag]);
        serve.ends(3);
    }
    serve(&site).args(["--config", "/none.toml"]).ends(2).complains_of(&["/none.toml"]);
}

#[test]
fn nobody_to_trust_is_an_error_where_that_would_refuse_everything() {
    let site = Site::new();
    fs::remove_file(site.trust().join("release.pub")).unwrap();
    serve(&site).ends(2).complains_of(&["trust holds no keys", ".pub"]);
    fs::remove_dir(site.trust()).unwrap();
    serve(&site).ends(2).complains_of(&["trust: cannot be read"]);
    fs::create_dir(site.trust()).unwrap();
    site.put("f", b"content");
    let served = site.serve(&["--mode", "warn"]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    assert_eq!(client.read_all(&file, 4096).unwrap(), b"content");
}

#[test]
fn what_is_missing_or_wrong_on_the_command_line_is_told() {
    let site = Site::new();
    command("serve").arg("--trust").arg(site.trust()).ends(2).complains_of(&["store is missing", "--store"]);
    command("serve").arg("--store").arg(site.tree()).ends(2).complains_of(&["trust is missing", "--trust"]);
    for (flag, value) in [
        ("--mode", "off"),
        ("--cache", "lots"),
        ("--cache", "1k"),
        ("--listen", "localhost"),
        ("--monitor", "1.2.3.4"),
    ] {
        serve(&site).args([flag, value]).ends(2);
    }
    let mut nowhere = command("serve");
    nowhere.arg("--store").arg(site.path("none")).arg("--trust").arg(site.trust());
    nowhere.arg("--state").arg(site.path("state")).ends(3).complains_of(&["none"]);
    serve(&site).args(["--audit-log", "/none/audit.log"]).ends(3).complains_of(&["/none/audit.log"]);
    let same = ["--listen", "127.0.0.1:7777", "--monitor", "127.0.0.1:7777"];
    let mut twice = command("serve");
    twice.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).args(same);
    twice.ends(2).complains_of(&["127.0.0.1:7777"]);
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_file_and_line() {
    let site = Site::new();
    let config = site.path("gateway.toml");
    for (text, words) in [
        ("store = \"tree\"\ntrsut = \"trust\"\n", &["gateway.toml:2: ", "trsut", "trust"][..]),
        ("\n\nmode = \"off\"\n", &["gateway.toml:3: ", "off", "enforce"]),
        ("store = \"tree\"\n[limits]\nconections = 3\n", &["gateway.toml:3: ", "conections"]),
        ("listen = 2049\n", &["gateway.toml:1: ", "listen", "127.0.0.1:2049"]),
        ("store = tree\n", &["gateway.toml:1: "]),
        ("cache = \"1k\"", &["gateway.toml:1: ", "1MiB"]),
        ("store = \"tree\"", &["trust is missing", "gateway.toml"]),
    ] {
        fs::write(&config, text).unwrap();
        command("serve").arg("--config").arg(&config).ends(2).complains_of(words);
    }
}

#[test]
fn the_configuration_is_enough_and_flags_override_it() {
    let site = Site::new();
    site.put("f", b"content");
    site.put("unsigned", b"x");
    site.sign(&["--namespace", "ns"]);
    fs::remove_file(site.evidence("unsigned")).unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let config = site.path("gateway.toml");
    // Paths are meant from the file's own directory.
    let common = "store = \"tree\"\ntrust = \"trust\"\nstate = \"state\"\nnamespace = \"ns\"\n";
    let free = "listen = \"127.0.0.1:0\"\nmonitor = \"127.0.0.1:0\"\naudit_log = \"audit.log\"\n";
    fs::write(&config, format!("{common}{free}mode = \"warn\"\ncache = \"3MiB\"\n")).unwrap();
    let config_alone = |more: &[&str]| {
        let mut serve = command("serve");
        serve.arg("--config").arg(&config).args(more).env("RUST_LOG", "error").current_dir("/");
        Served::spawn(&mut serve)
    };
    let read = |served: &Served, name: &str| {
        let mut client = Client::connect(served.nfs);
        let file = client.find(name).unwrap();
        client.read_all(&file, 4096)
    };
    {
        let served = config_alone(&[]);
        assert_eq!(read(&served, "f").unwrap(), b"content");
        assert_eq!(read(&served, "unsigned").unwrap(), b"x", "warn mode");
        assert_eq!(served.metric("nfs_verity_cache_capacity_bytes"), f64::from(3 << 20));
        eventually("the start is logged", || !events(&site.path("audit.log"), "started").is_empty());
    }
    let served = config_alone(&["--mode", "enforce", "--cache", "5MiB"]);
    assert_eq!(read(&served, "unsigned"), Err(NFS3ERR_ACCES));
    assert_eq!(served.metric("nfs_verity_cache_capacity_bytes"), f64::from(5 << 20));
    let served = config_alone(&["--mode", "enforce", "--namespace", ""]);
    assert_eq!(read(&served, "f"), Err(NFS3ERR_ACCES), "the signed namespace is another");
    fs::write(&config, format!("{common}listen = \"{taken}\"\nmonitor = \"127.0.0.1:0\"\n")).unwrap();
    command("serve").arg("--config").arg(&config).ends(3).complains_of(&[&taken.to_string()]);
    config_alone(&["--listen", "127.0.0.1:0"]);
}

#[test]
fn signals_drain_and_end_it_well_whatever_clients_do() {
    for signal in ["TERM", "INT"] {
        let site = Site::new();
        site.put("f", &content(1, 100_000));
        site.sign(&[]);
        let (mut served, log) = audited(&site, &[]);
        let mut idle = Client::connect(served.nfs);
        idle.find("f").unwrap();
        // One more is in the midst of a record, and one of a request to the monitor.
        let mut slow = Client::connect(served.nfs);
        slow.stream.write_all(&[0x80, 0, 1, 0, 1, 2, 3]).unwrap();
        let mut watching = TcpStream::connect(served.monitor).unwrap();
        watching.write_all(b"GET /met").unwrap();
        served.signal(signal);
        assert_eq!(served.ended(), Some(0), "{signal}");
        let lines = audit(&log);
        assert_eq!(lines.first().unwrap()["event"], "started");
        assert_eq!(lines.last().unwrap()["event"], "stopped", "{signal}");
    }
}

#[test]
fn calls_that_are_under_way_are_answered_before_it_ends() {
    let site = Site::new();
    site.put("f", &content(1, 4 << 20));
    site.sign(&[]);
    let mut served = site.serve(&[]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    // The first answer tells that the gateway has taken up the calls.
    let calls: Vec<_> = (0..4_u64)
        .map(|n| client.encode(NFS, 6, |w| _ = w.opaque(&file).u64(n << 20).u32(1 << 20)))
        .collect();
    for call in &calls {
        send_record(&mut client.stream, call);
    }
    receive_record(&mut client.stream).unwrap();
    served.signal("TERM");
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("the connection ends in order");
    let mut rest = rest.as_slice();
    while !rest.is_empty() {
        let answer = receive_record(&mut rest).expect("no answer is cut");
        assert!(answer.len() > 1 << 20);
    }
    assert_eq!(served.ended(), Some(0));
}

#[test]
fn handles_survive_a_restart_with_the_same_state_and_no_other() {
    let site = Site::new();
    let deep = format!("{}f", "d/".repeat(120));
    let names = ["f", "a/b/c.bin", &format!("{}/{}", "n".repeat(255), "m".repeat(255)), &deep];
    for (n, name) in names.iter().enumerate() {
        site.put(name, &content(n as u64, 10_000));
    }
    site.sign(&[]);
    let mut served = site.serve(&[]);
    let mut client = Client::connect(served.nfs);
    let root = client.mount(b"/").unwrap();
    let handles: Vec<_> = names.iter().map(|name| client.find(name).unwrap()).collect();
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));

    let served = site.serve(&[]);
    let mut client = Client::connect(served.nfs);
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(client.read_all(handle, 4096).unwrap(), content(n as u64, 10_000), "{}", names[n]);
        assert_eq!(&client.find(names[n]).unwrap(), handle, "and new handles are the same");
    }
    assert_eq!(client.mount(b"/").unwrap(), root);

    let other = site.path("other-state");
    let mut elsewhere = command("serve");
    elsewhere.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).arg("--state").arg(&other);
    elsewhere.args(["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0"]).env("RUST_LOG", "error");
    let served = Served::spawn(&mut elsewhere);
    let mut client = Client::connect(served.nfs);
    for handle in &handles {
        assert_eq!(client.read(handle, 0, 10), Err(NFS3ERR_BADHANDLE));
    }
}

#[test]
fn the_state_is_kept_below_the_user_s_state_directory_one_place_a_store() {
    let site = Site::new();
    fs::create_dir(site.path("second")).unwrap();
    let start = |store: &str, variables: &[(&str, &Path)]| {
        let mut serve = command("serve");
        serve.arg("--store").arg(site.path(store)).arg("--trust").arg(site.trust());
        serve.args(["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0"]).env("RUST_LOG", "error");
        serve.env_remove("XDG_STATE_HOME").env_remove("HOME").envs(variables.iter().copied());
        serve
    };
    let keys = |base: &Path| {
        let places = fs::read_dir(base.join("nfs-verity")).unwrap();
        let mut keys: Vec<_> =
            places.map(|p| fs::read(p.unwrap().path().join("handle.key")).unwrap()).collect();
        keys.sort();
        keys
    };
    let (xdg, home) = (site.path("xdg"), site.path("home"));
    fs::create_dir(&home).unwrap();
    let variables = [("XDG_STATE_HOME", xdg.as_path()), ("HOME", &home)];
    Served::spawn(&mut start("tree", &variables));
    let first = keys(&xdg);
    assert_eq!(first.len(), 1);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "XDG_STATE_HOME comes first");
    Served::spawn(&mut start("tree", &variables));
    assert_eq!(keys(&xdg), first, "the key is made once");
    Served::spawn(&mut start("second", &variables));
    let both = keys(&xdg);
    assert!(both.len() == 2 && both[0] != both[1] && both.contains(&first[0]));
    Served::spawn(&mut start("tree", &[("HOME", &home)]));
    assert_eq!(keys(&home.join(".local/state")).len(), 1);
    start("tree", &[]).ends(3).complains_of(&["XDG_STATE_HOME", "--state"]);
    assert!(!site.tree().join(".nfs-verity").exists(), "nothing is kept in the store");
}

#[test]
fn the_clients_of_one_address_are_kept_by_one_gateway() {
    let site = Site::new();
    let mut first = site.serve(&[]);
    let second = site.serve(&[]);
    for served in [&first, &second] {
        let name = format!("state/nfs4.clients.127.0.0.1-any-{}", served.nfs.port());
        assert!(site.path(&name).exists(), "{name}");
    }
    // On the port that it had, after a crash.
    let address = first.nfs.to_string();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut first = site.serve(&["--listen", &address]);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let name = format!("nfs4.clients.{}", address.replace(':', "-"));
    assert!(site.path(format!("state/{name}")).exists());
    // Another with this state, which has the address in a network of its own.
    let lock = fs::File::open(site.path(format!("state/{name}.lock"))).unwrap();
    lock.try_lock().expect("it goes with the process");
    let start = || {
        let mut serve = command("serve");
        serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
        serve.arg("--state").arg(site.path("state")).args(["--listen", &address, "--monitor", "127.0.0.1:0"]);
        serve
    };
    start().ends(3).complains_of(&[&name, "another gateway", "--state"]);
    drop(lock);
    Served::spawn(&mut start());
}

#[test]
fn a_state_that_is_none_is_refused() {
    let site = Site::new();
    fs::write(site.path("state/handle.key"), "short").unwrap();
    serve(&site).ends(3).complains_of(&["handle.key", "mount again"]);
    fs::remove_file(site.path("state/handle.key")).unwrap();
    fs::create_dir(site.path("state/handle.key")).unwrap();
    serve(&site).ends(3).complains_of(&["handle.key"]);
}

#[test]
fn warn_mode_serves_and_says_so_loudly_everywhere() {
    let site = Site::new();
    site.put("unsigned", b"who wrote this?");
    let log = site.path("audit.log");
    let mut command = serve(&site);
    command.args(["--mode", "warn", "--audit-log"]).arg(&log).env("RUST_LOG", "warn").stderr(Stdio::piped());
    let mut served = Served::spawn(&mut command);
    let mut client = Client::connect(served.nfs);
    let file = client.find("unsigned").unwrap();
    assert_eq!(client.read_all(&file, 4096).unwrap(), b"who wrote this?");

    assert_eq!(served.metric("nfs_verity_relaxed"), 1.0);
    assert!(served.metric("nfs_verity_served_unproven_total") >= 1.0);
    let page = served.get("/");
    assert!(page.contains("role=\"alert\"") && page.contains("Enforcement is relaxed"), "{page}");
    eventually("it is logged", || !events(&log, "refused").is_empty());
    let relaxed = events(&log, "relaxed");
    assert_eq!((relaxed.len(), &relaxed[0]["setting"]), (1, &json!("mode = \"warn\"")));
    let refused = &events(&log, "refused")[0];
    assert_eq!((&refused["served"], &refused["cause"]), (&json!(true), &json!("unsigned")));
    served.signal("HUP");
    eventually("it is said again", || events(&log, "relaxed").len() == 2);
    assert_eq!(served.metric("nfs_verity_relaxed"), 1.0, "a reload does not hide it");
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    let mut said = String::new();
    served.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("ENFORCEMENT IS RELAXED") && said.contains("SERVED UNPROVEN"), "{said}");

    let strict = site.serve(&[]);
    assert_eq!(strict.metric("nfs_verity_relaxed"), 0.0);
    assert!(!strict.get("/").contains("role=\"alert\""));
}

#[test]
fn the_metrics_tell_what_was_read_and_how() {
    let site = Site::new();
    site.put("f", &content(1, 100 * 4096));
    site.sign(&[]);
    let served = site.serve(&["--cache", "2MiB"]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    for _ in 0..2 {
        client.read_all(&file, 65536).unwrap();
    }
    assert_eq!(served.metric("nfs_verity_reads_total"), 14.0);
    assert_eq!(served.metric("nfs_verity_read_bytes_total"), f64::from(2 * 100 * 4096));
    assert_eq!(served.metric("nfs_verity_verified_blocks_total"), 101.0, "each once, and one of the tree");
    // Where a file system makes READs wait, most of them find what was read ahead.
    let (hits, misses) =
        (served.metric("nfs_verity_cache_hits_total"), served.metric("nfs_verity_cache_misses_total"));
    assert!(hits + misses == 14.0 && (3.0..=7.0).contains(&misses), "{hits} {misses}");
    assert!(served.metric("nfs_verity_cache_bytes") >= f64::from(100 * 4096));
    assert_eq!(served.metric("nfs_verity_cache_capacity_bytes"), f64::from(2 << 20));
    let calls = "nfs_verity_calls_total{program=\"nfs3\",procedure=\"READ\",result=\"ok\"}";
    assert_eq!(served.metric(calls), 14.0);
    let latency = "nfs_verity_call_duration_seconds_count{program=\"nfs3\",procedure=\"READ\"}";
    assert_eq!(served.metric(latency), 14.0);
    assert_eq!(served.metric("nfs_verity_connections"), 1.0);
    assert_eq!(served.metric("nfs_verity_connects_total"), 1.0);
    assert_eq!(served.metric("nfs_verity_trusted_keys"), 1.0);
    assert_eq!(served.metric("nfs_verity_serving"), 1.0);
    let failures = "nfs_verity_refused_total{cause=\"bad block\",class=\"corrupt\"}";
    assert_eq!(served.metric(failures), 0.0);
    drop(client);
    eventually("the client is gone", || served.metric("nfs_verity_connections") == 0.0);
}

#[test]
fn the_line_of_a_bad_block_says_where_why_and_to_whom() {
    let site = Site::new();
    site.put("d/f", &content(1, 300 * 4096));
    site.sign(&[]);
    let (served, log) = audited(&site, &[]);
    let mut client = Client::connect(served.nfs);
    client.uid = 4711;
    let file = client.find("d/f").unwrap();
    flip(&site.tree().join("d/f"), 7 * 4096 + 3);
    assert_eq!(client.read(&file, 7 * 4096, 4096), Err(NFS3ERR_IO));
    eventually("it is logged", || !events(&log, "refused").is_empty());
    let line = events(&log, "refused").remove(0);
    assert_eq!(
        (&line["path"], &line["block"], &line["cause"], &line["level"]),
        (&json!("d/f"), &json!(7), &json!("bad block"), &Value::Null)
    );
    let peer = client.stream.local_addr().unwrap().to_string();
    assert_eq!((&line["client"], &line["uid"], &line["served"]), (&json!(peer), &json!(4711), &json!(false)));
    let hash = |bytes: &[u8]| hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes));
    let good = content(1, 300 * 4096);
    let bad = fs::read(site.tree().join("d/f")).unwrap();
    let block = 7 * 4096..8 * 4096;
    assert_eq!(line["expected"], hash(&good[block.clone()]));
    assert_eq!(line["found"], hash(&bad[block]));
    // The page shows it too.
    let page = served.get("/");
    assert!(page.contains("d/f") && page.contains("bad block") && page.contains("uid 4711"), "{page}");
}

#[test]
fn a_flood_of_failures_is_told_in_few_lines_and_counted_in_full() {
    const READS: u64 = 10_000;
    let site = Site::new();
    site.put("f", &content(1, 10 * 4096));
    site.sign(&[]);
    flip(&site.tree().join("f"), 2 * 4096);
    let (mut served, log) = audited(&site, &[]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    for _ in 0..READS {
        assert_eq!(client.read(&file, 2 * 4096, 100), Err(NFS3ERR_IO));
    }
    assert_eq!(client.read(&file, 3 * 4096, 100).unwrap().0, content(1, 10 * 4096)[3 * 4096..][..100]);
    let failures = "nfs_verity_refused_total{cause=\"bad block\",class=\"corrupt\"}";
    assert_eq!(served.metric(failures), f64::from(u32::try_from(READS).unwrap()));
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    let told = events(&log, "refused").len() as u64;
    let counted: u64 = events(&log, "repeated").iter().map(|line| line["count"].as_u64().unwrap()).sum();
    assert!(told < READS / 100, "{told} lines");
    assert_eq!(told + counted, READS, "none is lost");
    assert!(events(&log, "repeated").iter().all(|line| line["path"] == "f" && line["cause"] == "bad block"));
    assert!(events(&log, "dropped").is_empty());
}

/// Runs rpcbind and the gateway in a network of their own, where port 111 is free.
const RPCBIND: &str = r#"
set -u
mount -t tmpfs tmpfs /run && mkdir -p /run/rpcbind && ip link set lo up || exit 90
"$@" --rpcbind >alone.out 2>alone.err; echo $? >alone
rpcbind -f & R=$!
trap 'kill $R' EXIT
tries=0
until rpcinfo -p 127.0.0.1 >/dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 300 ] || exit 91
  sleep .1
done
mkfifo ready
"$@" --rpcbind >ready & G=$!
head -n 1 ready >line
rpcinfo -p 127.0.0.1 >during
kill -TERM $G; wait $G; echo $? >ended
rpcinfo -p 127.0.0.1 >after
"#;

#[test]
fn rpcbind_knows_the_gateway_while_it_serves() {
    for (tool, package) in [("rpcbind", "rpcbind"), ("rpcinfo", "rpcbind"), ("ip", "iproute2")] {
        let found = Command::new("sh").env("PATH", tools()).args(["-c", "command -v \"$0\"", tool]).output();
        assert!(found.unwrap().status.success(), "{tool} is missing: apt-get install {package}");
    }
    let site = Site::new();
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--net", "--mount", "sh", "-c", RPCBIND, "sh", COMMAND]);
    unshare.args(serve(&site).get_args()).env("RUST_LOG", "error").env("PATH", tools());
    let output = unshare.current_dir(site.dir.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors} (this test needs root or user namespaces)", output.status);

    let read = |name: &str| fs::read_to_string(site.path(name)).unwrap();
    assert_eq!(
        (read("alone"), read("alone.out")),
        ("3\n".into(), String::new()),
        "not ready without rpcbind"
    );
    assert!(read("alone.err").contains("rpcbind"), "{}", read("alone.err"));
    let line = read("line");
    let port = line.split_whitespace().nth(1).unwrap().rsplit(':').next().unwrap().to_owned();
    let registered = |text: &str| -> Vec<Vec<String>> {
        let rows = text.lines().map(|line| line.split_whitespace().take(4).map(str::to_owned).collect());
        // The last is 0x20008276, the sideband.
        let ours = ["100003", "100005", "536904310"];
        rows.filter(|row: &Vec<String>| ours.contains(&row[0].as_str())).collect()
    };
    let row = |program: &str, version: &str| {
        vec![program.to_owned(), version.to_owned(), "tcp".into(), port.clone()]
    };
    let mut during = registered(&read("during"));
    during.sort();
    let all = [row("100003", "3"), row("100003", "4"), row("100005", "3"), row("536904310", "1")];
    assert_eq!(during, all, "{}", read("during"));
    assert_eq!(read("ended"), "0\n");
    assert!(read("after").contains("100000"), "rpcbind answers");
    assert!(registered(&read("after")).is_empty(), "{}", read("after"));
}

/// Where the tools of the administrator are, too.
fn tools() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
