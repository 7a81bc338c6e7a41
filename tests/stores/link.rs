//! The link between the gateway and its upstream server is cut while a client reads a tree, and comes back.

use std::path::Path;
use std::process::Command;

use ring::digest::{SHA256, digest};

use crate::support::{COMMAND, Site, content};

/// Two networks with a link between them: the upstream server is `far`, the gateway and its client are `near`.
/// The client reads the tree from front to back again and again, until the link was cut and is well again.
///
/// `sh SCRIPT COMMAND CUT MEND`; CUT and MEND are commands that are run near.
const SCRIPT: &str = r#"
set -u
[ $# = 3 ] || exit 2
command=$1
fail() { echo "$*" >&2; exit 1; }
# Waits until a command is true.
until_true() {
  tries=0
  until "$@"; do tries=$((tries + 1)); [ $tries -lt 600 ] || fail "it never came to pass: $*"; sleep .05; done
}
is_ready() { grep -qs ^ready "$1"; }
told() { [ "$(grep -sc "\"event\":\"$1\"" audit.log)" -ge 1 ]; }
rounds() { [ "$(cat rounds)" -ge "$1" ]; }

ip link set lo up || fail "ip link does not work"
unshare --net "$command" serve --store tree --trust trust --state state/far --mode warn \
  --listen 0.0.0.0:2049 --monitor 127.0.0.1:0 >far.out 2>/dev/null & FAR=$!
until_true is_ready far.out
far() { nsenter --target $FAR --net "$@"; }
ip link add name near type veth peer name far && ip link set far netns $FAR || fail "there is no veth"
ip address add 10.99.0.1/24 dev near && ip link set near up || fail "no address near"
far ip address add 10.99.0.2/24 dev far && far ip link set far up || fail "no address far"

"$command" serve --store "nfs://10.99.0.2:2049/pub?source=any" --trust trust --state state/near \
  --wait hard --timeout 1 --cache 1MiB --audit-log audit.log \
  --listen 127.0.0.1:2050 --monitor 127.0.0.1:0 >near.out & GATEWAY=$!
until_true is_ready near.out

echo 0 >rounds
(
  round=0
  while [ ! -e enough ]; do
    : >sums
    for file in $(cat files); do
      nfs-cat "nfs://127.0.0.1//$file?version=3&nfsport=2050&mountport=2050" >data || exit 1
      echo "$(sha256sum <data | cut -d' ' -f1) $file" >>sums
    done
    cmp -s sums expected || { cp sums wrong; exit 1; }
    round=$((round + 1))
    echo $round >rounds.new && mv rounds.new rounds
  done
) 2>client.err & CLIENT=$!

until_true rounds 1
! told store-down || fail "it was down before the cut"
eval "$2" || fail "no cut"
until_true told store-down
before=$(cat rounds)
# What did not take the whole time that it was away is read now.
sleep 1
[ "$(cat rounds)" = "$before" ] || fail "the tree was read while there was no link"
eval "$3" || fail "no end of the cut"
until_true told store-up
now=$(cat rounds)
until_true rounds $((now + 1))
touch enough
wait $CLIENT || fail "the client failed: $(cat client.err)"
[ ! -e wrong ] || fail "wrong bytes were read"
kill -TERM $GATEWAY
wait $GATEWAY || fail "the gateway did not end well"
"#;

/// Reads the tree in a network where `cut` and `mend` are done to the link.
fn the_tree_is_read_on(cut: &str, mend: &str) {
    for (tool, package) in [
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("nfs-cat", "libnfs-utils"),
    ] {
        let found = Command::new("sh").env("PATH", tools()).args(["-c", "command -v \"$0\"", tool]).output();
        assert!(found.unwrap().status.success(), "{tool} is missing: apt-get install {package}");
    }
    let site = Site::new();
    let (mut files, mut sums) = (String::new(), String::new());
    for n in 0..100 {
        let (name, bytes) = (format!("d{}/f{n}", n % 7), content(n, 70_000));
        site.put(Path::new("pub").join(&name), &bytes);
        files += &format!("{name}\n");
        sums += &format!("{} {name}\n", hex::encode(digest(&SHA256, &bytes)));
    }
    std::fs::write(site.path("files"), files).unwrap();
    std::fs::write(site.path("expected"), sums).unwrap();
    let (key, below) = (site.key(), site.path("tree/pub"));
    let signed = Command::new(COMMAND).arg("sign").arg("--key").args([&key, &below]).output().unwrap();
    assert!(signed.status.success(), "{signed:?}");

    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    // What is left over ends with the script.
    unshare.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["sh", "-c", SCRIPT, "sh", COMMAND, cut, mend]);
    unshare.env("PATH", tools()).env("RUST_LOG", "error").current_dir(site.dir.path());
    let output = unshare.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors} (this test needs root or user namespaces)", output.status);
}

/// Where the tools of the administrator are, too.
fn tools() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn long_a_tree_is_read_on_when_the_link_was_down_on_this_side() {
    the_tree_is_read_on("ip link set near down", "ip link set near up");
}

#[test]
fn long_a_tree_is_read_on_when_the_link_was_down_on_the_other_side() {
    the_tree_is_read_on("far ip link set far down", "far ip link set far up");
}

#[test]
fn long_a_tree_is_read_on_when_all_that_was_sent_got_lost_without_a_word() {
    // Both sides are up, and what is sent goes to a station that is not there.
    the_tree_is_read_on(
        "ip neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:99 dev near nud permanent",
        "ip neighbour delete 10.99.0.2 dev near",
    );
}
