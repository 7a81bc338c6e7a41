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
