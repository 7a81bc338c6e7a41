#!/bin/bash
# ganesha.sh DIR PORT [rw]: serves DIR with nfs-ganesha (VFS), read-only unless `rw`: the peer for timings and tests.
#
# NFSv3 and v4 on PORT of 127.0.0.1, or of the address in BIND, MOUNT on PORT+1; the export is /export. Runs in
# the foreground until SIGTERM. Needs Debian's nfs-ganesha, nfs-ganesha-vfs and rpcbind, and root. rpcbind runs on an address
# and in a mount namespace of its own, so the machine's is left alone.
set -eu
DIR=$(readlink -f "$1") PORT=$2 ACCESS=RO
[ "${3-}" != rw ] || ACCESS=RW
export PATH="$PATH:/usr/sbin:/sbin"
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cat >"$T/conf" <<C
NFS_CORE_PARAM {
  NFS_Port=$PORT; MNT_Port=$((PORT + 1)); Rquota_Port=$((PORT + 2)); Bind_addr=${BIND:-127.0.0.1};
  Protocols=3,4; Enable_NLM=false; Enable_RQUOTA=false; mount_path_pseudo=true;
}
NFSV4 { Graceless=true; Minor_Versions=0,1,2; }
EXPORT {
  Export_Id=1; Path=$DIR; Pseudo=/export; Access_Type=$ACCESS; Squash=No_Root_Squash; SecType=sys;
  Protocols=3,4; Transports=TCP; FSAL { Name=VFS; }
}
LOG { Default_Log_Level=WARN; }
C
# shellcheck disable=SC2016 # expanded by the inner shell
unshare -m --propagation private bash -c '
  mount -t tmpfs tmpfs /run
  mkdir -p /run/rpcbind /run/ganesha
  rpcbind -f -r -h 127.0.0.77 & R=$!
  trap "kill \$G \$R 2>/dev/null; wait" EXIT
  trap "exit 0" TERM INT
  sleep .5
  ganesha.nfsd -F -f "$0/conf" -L "$0/log" -p "$0/pid" & G=$!
  wait $G || cat "$0/log" >&2' "$T" &
U=$!
trap 'kill $U 2>/dev/null; wait $U || true; rm -rf "$T"' EXIT
trap 'exit 0' TERM INT
wait $U
