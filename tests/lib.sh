# Sourced by tests/run and .ci/run: named and timed steps.
# shellcheck shell=bash

steps=0

# step NAME COMMAND...: runs the command without standard input; its failure ends the script.
step() {
  local name=$1 start=$SECONDS status
  shift
  printf -- '--- %s\n' "$name"
  "$@" </dev/null
  status=$?
  if [ "$status" != 0 ]; then
    printf '%s: FAILED in "%s" (status %s) after %s s\n' "${0#"$PWD"/}" "$name" "$status" "$SECONDS" >&2
    exit 1
  fi
  steps=$((steps + 1))
  printf -- '--- %s: %s s\n' "$name" $((SECONDS - start))
}

# steps_together COUNT NAME COMMAND [NAME COMMAND]...: as `step`, COUNT at a time, each with what it said in one
# piece when it has ended. None is begun after a failure; what runs then ends by itself.
steps_together() {
  local limit=$1 said pid status failed='' running=0 begun=0
  local -A names=() starts=() logs=()
  shift
  said=$(mktemp -d) || exit 1
  # Each has a group of its own, so that none of its processes is left behind.
  trap 'for pid in "${!names[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done; wait; rm -rf "$said"; exit 130' INT TERM
  while [ $# -gt 0 ] || [ "$running" -gt 0 ]; do
    if [ $# -gt 0 ] && [ "$running" -lt "$limit" ] && [ -z "$failed" ]; then
      # setsid would fork, were it the leader of its group, and the number would not be that of the command.
      begun=$((begun + 1))
      setsid "$2" </dev/null >"$said/$begun" 2>&1 &
      pid=$!
      logs[$pid]=$said/$begun names[$pid]=$1 starts[$pid]=$SECONDS running=$((running + 1))
      shift 2
      continue
    fi
    [ "$running" -gt 0 ] || break
    wait -n -p pid "${!names[@]}"
    status=$?
    running=$((running - 1))
    printf -- '--- %s\n' "${names[$pid]}"
    cat "${logs[$pid]}"
    if [ "$status" = 0 ]; then
      steps=$((steps + 1))
      printf -- '--- %s: %s s\n' "${names[$pid]}" $((SECONDS - starts[$pid]))
    else
      printf '%s: FAILED in "%s" (status %s) after %s s\n' "${0#"$PWD"/}" "${names[$pid]}" "$status" \
        $((SECONDS - starts[$pid])) >&2
      failed=1
    fi
    unset "names[$pid]"
  done
  trap - INT TERM
  rm -rf "$said"
  [ -z "$failed" ] || exit 1
}
