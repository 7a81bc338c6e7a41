#!/bin/bash
# run.sh [options] SCRIPT: runs SCRIPT (bash) as root in a fresh guest; prints its output; exits with its status.
#   -t SEC        time limit (default 120): the guest is killed, exit 124
#   -m MB         guest memory (default 1024)      -c N  guest CPUs (default 1)
#   -f PATH       copy a file or folder into the guest's /job (repeatable)
#   -e K=V        environment variable for the script (repeatable)
#   -d NAME=IMG   attach IMG as /dev/disk/NAME; changes are dropped (-D NAME=IMG: changes are kept)
#   -o DIR        the guest's /out is unpacked here
#   -a 'ARGS'     more kernel command line (e.g. -a ima_policy=tcb)
#   -v            kernel console to stderr at the end
# In the guest the host's 127.0.0.1 is 10.0.2.2. Exit 125: the guest ended without a status (panic, no boot).
# OUT, QEMU, CPU, MACHINE, ACCEL in the environment change the defaults. build.sh makes the guest.
set -u
W=${VM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/nfs-verity-vm}
OUT=${OUT:-out}
LIMIT=120 MEMORY=1024 CPUS=1 OUTDIR='' APPEND='' VERBOSE='' FILES=() ENVS=() DRIVES=()
while getopts t:m:c:f:e:d:D:o:a:v o; do
  case $o in
    t) LIMIT=$OPTARG ;; m) MEMORY=$OPTARG ;; c) CPUS=$OPTARG ;; f) FILES+=("$OPTARG") ;; e) ENVS+=("$OPTARG") ;;
    d) DRIVES+=("${OPTARG%%=*}=${OPTARG#*=}=on") ;; D) DRIVES+=("${OPTARG%%=*}=${OPTARG#*=}=off") ;;
    o) OUTDIR=$OPTARG ;; a) APPEND=$OPTARG ;; v) VERBOSE=1 ;; *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# = 1 ] && [ -f "$1" ] || { sed -n '2,12s/^# //p' "$0" >&2; exit 2; }
QEMU=${QEMU:-qemu-system-x86_64}
command -v "$QEMU" >/dev/null || { echo "run.sh: $QEMU is missing (tests/install installs it)" >&2; exit 2; }
[ -f "$W/$OUT/built-by" ] || { echo "run.sh: no guest in $W/$OUT; build.sh makes it" >&2; exit 2; }

RUN=$(mktemp -d "${TMPDIR:-/tmp}/nfs-verity-vm.XXXXXX") QEMU_PID='' COPIER=''
end() {
  [ -z "$QEMU_PID" ] || kill "$QEMU_PID" 2>/dev/null
  [ -z "$COPIER" ] || kill "$COPIER" 2>/dev/null
  rm -rf "$RUN"
}
trap end EXIT
trap 'exit 130' INT TERM
mkdir "$RUN/job"
cp "$1" "$RUN/job/job.sh"
: >"$RUN/job/env"
for e in "${ENVS[@]}"; do printf '%s=%q\n' "${e%%=*}" "${e#*=}" >>"$RUN/job/env"; done
for f in "${FILES[@]}"; do cp -a "$f" "$RUN/job/"; done
tar cf "$RUN/job.tar" -C "$RUN/job" .

# no_timer_check: on a busy host the emulated timer may not tick in time for that check, and the kernel panics.
# shellcheck disable=SC2054 # the commas are QEMU's
ARGS=(-accel "${ACCEL:-tcg}" -M "${MACHINE:-q35}" -cpu "${CPU:-qemu64,+rdrand}" -m "$MEMORY" -smp "$CPUS"
  -nodefaults -no-user-config -display none -no-reboot
  -kernel "$W/$OUT/vmlinux" -initrd "$W/$OUT/initrd.img"
  -append "console=ttyS0 loglevel=${LOGLEVEL:-5} panic=-1 nokaslr mitigations=off no_timer_check random.trust_cpu=on $APPEND"
  -chardev "file,id=con,path=$RUN/console.log" -serial chardev:con
  -chardev "file,id=out,path=$RUN/out.fifo" -chardev "file,id=ret,path=$RUN/ret.tar"
  -device virtio-serial-pci -device virtserialport,chardev=out,name=out -device virtserialport,chardev=ret,name=ret
  -netdev "user,id=n0,ipv6=off" -device "virtio-net-pci,netdev=n0,romfile=")
disk() {
  ARGS+=(-drive "if=none,id=$1,file=$2,format=raw,snapshot=$3,cache=unsafe" -device "virtio-blk-pci,drive=$1,serial=$1")
}
disk root "$W/$OUT/rootfs.ext4" on
disk job "$RUN/job.tar" on
for d in "${DRIVES[@]}"; do
  IFS='=' read -r name image snapshot <<<"$d"
  disk "$name" "$image" "$snapshot"
done
# A fifo and cat, because QEMU's stdio would make our caller's stdout non-blocking and end with its stdin.
mkfifo "$RUN/out.fifo"
exec 9<>"$RUN/out.fifo"
cat 9>&- <"$RUN/out.fifo" &
COPIER=$!
TMPDIR=$RUN timeout -k 5 "$LIMIT" "$QEMU" "${ARGS[@]}" </dev/null >/dev/null 2>"$RUN/qemu.err" 9>&- &
QEMU_PID=$!
wait "$QEMU_PID"
status=$?
QEMU_PID=''
exec 9>&-
wait "$COPIER"
COPIER=''
grep -v '^qemu-system-x86_64: warning' "$RUN/qemu.err" >&2
[ -z "$VERBOSE" ] || cat "$RUN/console.log" >&2
case $status in
  124 | 137)
    echo "run.sh: the guest was not done after $LIMIT s" >&2
    tail -5 "$RUN/console.log" >&2
    exit 124
    ;;
esac
mkdir "$RUN/ret"
tar xf "$RUN/ret.tar" -C "$RUN/ret" 2>/dev/null
if [ ! -f "$RUN/ret/.rc" ]; then
  echo "run.sh: the guest gave no status (QEMU's was $status)" >&2
  tail -20 "$RUN/console.log" >&2
  exit 125
fi
[ -z "$OUTDIR" ] || { mkdir -p "$OUTDIR" && tar xf "$RUN/ret.tar" -C "$OUTDIR" --exclude=./.rc; }
exit "$(cat "$RUN/ret/.rc")"
