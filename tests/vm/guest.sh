# Sourced by guest jobs: checks that count, and the way to the host.
# shellcheck shell=bash

checks=0 failures=0 started=$SECONDS

# outcome NAME STATUS: one line; the details are in $LOG.
LOG=/tmp/check.log
outcome() {
  checks=$((checks + 1))
  if [ "$2" = 0 ]; then
    printf '  ok    %s (%s s)\n' "$1" $((SECONDS - started))
  else
    failures=$((failures + 1))
    printf '  FAIL  %s (%s s)\n' "$1" $((SECONDS - started))
    tail -5 "$LOG" | sed 's/^/        /'
  fi
  started=$SECONDS
}

# check NAME COMMAND...: must succeed.
check() {
  local name=$1
  shift
  "$@" >"$LOG" 2>&1 </dev/null
  outcome "$name" $?
}

# refused TEXT NAME COMMAND...: must fail and say TEXT, an extended regular expression.
refused() {
  local text=$1 name=$2 status=0
  shift 2
  if "$@" >"$LOG" 2>&1 </dev/null; then
    echo "succeeded, where '$text' was due" >>"$LOG"
    status=1
  else
    grep -qE "$text" "$LOG" || status=1
  fi
  outcome "$name" $status
}

# forget: drops what the client's kernel has cached.
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }

# host WORD: asks the host; see control.py.
host() {
  local answer
  exec 8<>"/dev/tcp/10.0.2.2/$CONTROL" || return 1
  echo "$1" >&8
  read -r -t 90 answer <&8
  exec 8>&-
  [ "$answer" = ok ] || { echo "the host could not: $1"; return 1; }
}

# finish: the job's last command.
finish() {
  echo "$((checks - failures)) of $checks checks passed in $SECONDS s"
  exit $((failures > 0))
}
