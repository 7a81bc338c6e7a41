# Sourced by the host side of the guest suites: a gateway that can be killed and started again, and a
# control port for the guest. Everything lies in $WORK; the tree is $WORK/tree.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  [ ! -s "$WORK/gateway.log" ] || { echo "the gateway's last words:" >&2; tail -15 "$WORK/gateway.log" >&2; }
  exit 1
}

# gone PID: it has ended (a zombie has).
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# until_true SECONDS COMMAND...: polls.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -le "$end" ] || return 1
    sleep 0.05
  done
}

ready_or_gone() { grep -q '^ready ' "$WORK/ready" || gone "$(cat "$WORK/gateway.pid")"; }

# gateway_start [NFS_ADDRESS MONITOR_ADDRESS]: serves the tree to the trust of $TRUST (the publisher's alone
# unless it is set); free ports unless given. Fills $WORK/nfs and $WORK/monitor with the addresses.
gateway_start() {
  rm -f "$WORK/ready" "$WORK/gateway.status"
  : >"$WORK/ready"
  (
    # The guest's user is root, and some files are for their owner alone.
    # A short lease, so that recovery is not waited for.
    printf '%s\n' 'squash = "none"' 'lease = 10' >"$WORK/gateway.toml"
    "$NFS_VERITY" serve --config "$WORK/gateway.toml" \
      --store "$WORK/tree" --trust "${TRUST:-$WORK/publisher.pub}" --state "$WORK/state" \
      --listen "${1:-127.0.0.1:0}" --monitor "${2:-127.0.0.1:0}" --audit-log "$WORK/audit.log" \
      </dev/null >"$WORK/ready" 2>>"$WORK/gateway.log" &
    echo $! >"$WORK/gateway.pid"
    wait $!
    echo $? >"$WORK/gateway.status"
  ) >/dev/null 2>&1 &
  until_true 10 test -s "$WORK/gateway.pid" || return 1
  until_true 30 ready_or_gone || return 1
  grep -q '^ready ' "$WORK/ready" || return 1
  sed -n 's/^ready nfs=\([^ ]*\) .*/\1/p' "$WORK/ready" >"$WORK/nfs"
  sed -n 's/^ready .*monitor=\([^ ]*\).*/\1/p' "$WORK/ready" >"$WORK/monitor"
  [ -s "$WORK/nfs" ] && [ -s "$WORK/monitor" ]
}

# gateway_crash: as a power cut would.
gateway_crash() {
  local pid
  pid=$(cat "$WORK/gateway.pid")
  kill -9 "$pid" && until_true 10 gone "$pid" && rm "$WORK/gateway.pid"
}

# gateway_resume: on the addresses it had.
gateway_resume() { gateway_start "$(cat "$WORK/nfs")" "$(cat "$WORK/monitor")"; }

# gateway_stop: asks it to end; fails unless it drains and exits 0.
gateway_stop() {
  local pid
  pid=$(cat "$WORK/gateway.pid")
  kill -TERM "$pid" && until_true 20 test -s "$WORK/gateway.status" && [ "$(cat "$WORK/gateway.status")" = 0 ]
}

# control_start COMMAND...: sets CONTROL_PORT and CONTROL_PID.
control_start() {
  python3 "$HERE/control.py" "$@" >"$WORK/control" 2>"$WORK/control.log" </dev/null &
  CONTROL_PID=$!
  until_true 10 test -s "$WORK/control" || die "no control port: $(cat "$WORK/control.log")"
  # shellcheck disable=SC2034 # for who sources this
  CONTROL_PORT=$(cat "$WORK/control")
}

# clean_up: for the EXIT trap.
clean_up() {
  [ -z "${CONTROL_PID-}" ] || kill "$CONTROL_PID" 2>/dev/null
  [ ! -s "$WORK/churn.pid" ] || kill "$(cat "$WORK/churn.pid")" 2>/dev/null
  [ ! -s "$WORK/gateway.pid" ] || kill -9 "$(cat "$WORK/gateway.pid")" 2>/dev/null
  wait 2>/dev/null
  if [ -n "${KEEP-}" ]; then say "kept: $WORK"; else rm -rf "$WORK"; fi
}
