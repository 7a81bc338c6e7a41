# Sourced by the benchmarks, after cd to the project: servers on free ports, which end with the script, and what every
# report says of machine and versions. NAME is the script's; $WORK is a directory that goes with it.
# shellcheck shell=bash
export PATH="$PATH:/usr/sbin:/sbin"
WORK=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/nfs-verity-bench.XXXXXX")
declare -A pids
end() {
  local name
  for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null; done
  wait 2>/dev/null
  rm -rf "$WORK"
}
trap end EXIT
trap 'exit 130' INT TERM
die() { echo "$NAME: $*" >&2; tail -n 5 "$WORK"/*.log >&2 2>/dev/null; exit 1; }

# The gateway: NFS_VERITY, or the release build, made if need be.
find_binary() {
  binary=${NFS_VERITY:-${CARGO_TARGET_DIR:-target}/release/nfs-verity}
  [ -n "${NFS_VERITY-}" ] || cargo build --locked --release || exit 1
}
free_port() { # the first of three free ports in a row
  python3 - <<'P'
import random, socket
while True:
    base = random.randrange(20000, 32000)
    held = []
    try:
        for port in range(base, base + 3):
            held.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        continue
    finally:
        for s in held:
            s.close()
    print(base)
    break
P
}
listening() { (: <"/dev/tcp/${1/:/\/}") 2>/dev/null; }
await() { # SERVER ADDRESS:PORT
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    ! listening "$2" || return 0
    kill -0 "${pids[$1]}" 2>/dev/null || die "$1 ended"
    sleep 0.1
  done
  die "$1 does not listen"
}
# ready SERVER COMMAND...: starts a server that says `ready nfs=ADDRESS:PORT ...`; sets port.
ready() {
  local name=$1 tries
  shift
  : >"$WORK/$name.ready" # of a former one of that name
  "$@" >"$WORK/$name.ready" 2>"$WORK/$name.log" </dev/null &
  pids[$name]=$!
  port=''
  for ((tries = 0; tries < 300; tries++)); do
    port=$(sed -n 's/^ready nfs=[^ ]*:\([0-9]*\) .*/\1/p' "$WORK/$name.ready")
    [ -z "$port" ] || return 0
    kill -0 "${pids[$name]}" 2>/dev/null || die "$name ended"
    sleep 0.1
  done
  die "$name is not ready"
}
# gateway SERVER STORE CACHE [FLAG...]: sets port. It has no clients that could come back.
gateway() {
  local name=$1 store=$2 cache=$3
  shift 3
  rm -rf "$WORK/state-$name"
  ready "$name" "$binary" serve --store "$store" --trust "$WORK/key.pub" --state "$WORK/state-$name" --cache "$cache" \
    --listen 127.0.0.1:0 --monitor 127.0.0.1:0 "$@"
}
stop() {
  kill "${pids[$1]}" 2>/dev/null
  wait "${pids[$1]}" 2>/dev/null
  unset "pids[$1]"
}

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
# report_name [KIND]: where the report goes.
report_name() {
  echo "bench/results/$(date -u +%Y-%m-%d)${1:+-$1}-$(tr '[:upper:]' '[:lower:]' <<<"${cpu:-unknown}" |
    sed 's/([^)]*)//g; s/[^a-z0-9]\+/-/g; s/^-//; s/-$//').md"
}
report_head() {
  echo "# $NAME on $(date -u +%Y-%m-%d)"
  echo
  echo "- Processor: ${cpu:-unknown}, $(nproc) cores; $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo | awk '{ printf "%.0f GiB", $1 / 1048576 }') of memory; Linux $(uname -r)"
  echo "- nfs-verity $(git rev-parse --short HEAD 2>/dev/null || echo 'without a commit')$(git diff --quiet HEAD 2>/dev/null || echo ' with changes'), $(rustc --version)"
}
# write_report OUTPUT: the file $WORK/report.
write_report() {
  mkdir -p "$(dirname "$1")"
  cp "$WORK/report" "$1"
  echo
  cat "$1"
  echo
  echo "$NAME: written to $1"
}
