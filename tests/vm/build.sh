#!/bin/bash
# build.sh: builds the guest for run.sh from Debian packages alone, unless it is there already.
#
#   $OUT/vmlinux        uncompressed kernel (booted through PVH: nothing to decompress in emulation)
#   $OUT/initrd.img     ~1 MB: busybox and virtio_blk.ko, mounts the root disk and switches to it
#   $OUT/rootfs.ext4    Debian trixie's userland and the kernel's modules (attached with snapshot=on)
#   $OUT/kconfig        the kernel's configuration
#   $OUT/built-by       hash of the scripts that built it: another hash builds it again
#
# All below ${VM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/nfs-verity-vm}. The kernel comes from
# bookworm-security (linux-image-6.12-cloud-amd64) and the userland from trixie, since bookworm has no
# ktls-utils. Both are read through an apt configuration of its own from the mirror that this machine
# uses, so the machine's package lists and packages stay untouched. Needs root (or sudo) for chroot.
set -euo pipefail
HERE=$(dirname "$(readlink -f "$0")")
W=${VM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/nfs-verity-vm}
OUT=${OUT:-out}
KPKG=${KPKG:-linux-image-6.12-cloud-amd64} # a meta package; linux-image-cloud-amd64 gives 6.1
PKGS=${PKGS:-"libc-bin bash coreutils util-linux mount kmod busybox-static gawk diffutils findutils grep sed procps
  strace nfs-common nfs-kernel-server ktls-utils openssl libnfs-utils
  attr acl keyutils libcap2-bin fsverity ima-evm-utils e2fsprogs xfsprogs btrfs-progs erofs-utils fio python3"}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

die() { echo "build.sh: $*" >&2; exit 1; }

KEY=$(cat "$HERE"/{build.sh,guest-init,extract-vmlinux.py} <(echo "$KPKG $PKGS") | sha256sum | cut -d' ' -f1)
[ "$(cat "$W/$OUT/built-by" 2>/dev/null)" != "$KEY" ] || { echo "the guest is there: $W/$OUT"; exit 0; }
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "needs root for chroot, and there is no sudo"
  mkdir -p "$W"
  exec sudo VM_DIR="$W" OUT="$OUT" KPKG="$KPKG" PKGS="$PKGS" "$0"
fi
for tool in apt-get apt-cache dpkg-deb python3 zstd xz cpio gzip mkfs.ext4 chroot; do
  command -v "$tool" >/dev/null || die "$tool is missing (tests/install installs it)"
done
[ -f "$KEYRING" ] || die "$KEYRING is missing (package debian-archive-keyring)"
mkdir -p "$W"
cd "$W"
exec 9>.lock
flock 9
MIRROR=$(apt-get indextargets --format '$(SITE)' "Created-By: Packages" | sed -n 's#/debian/*$##p' | head -1)
[ -n "$MIRROR" ] || die "apt on this machine has no Debian mirror"
rm -f "$OUT/built-by"

# --- an apt of its own: with no package installed in its eyes, it resolves whole closures
mkdir -p apt/etc apt/state/lists/partial apt/cache/archives/partial "$OUT"
: >apt/empty-status
cat >apt/etc/sources.list <<EOF
deb [signed-by=$KEYRING] $MIRROR/debian trixie main
deb [signed-by=$KEYRING] $MIRROR/debian-security trixie-security main
deb [signed-by=$KEYRING] $MIRROR/debian-security bookworm-security main
EOF
cat >apt/apt.conf <<EOF
Dir::Etc::sourcelist "$W/apt/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$W/apt/state";
Dir::State::status "$W/apt/empty-status";
Dir::Cache "$W/apt/cache";
APT::Sandbox::User "root";
Acquire::Retries "3";
EOF
export APT_CONFIG=$W/apt/apt.conf
apt-get -qq update

# --- the kernel
KDEP=$(apt-cache depends "$KPKG" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ && !n++ { print $2 }')
KDEP=${KDEP:-$KPKG}
rm -f apt/cache/archives/"${KDEP}"_*.deb
(cd apt/cache/archives && apt-get -qq download "$KDEP")
rm -rf kernel
mkdir kernel
dpkg-deb -x apt/cache/archives/"${KDEP}"_*.deb kernel
KV=$(find kernel/boot -name 'vmlinuz-*' -printf '%f\n' | sed 's/^vmlinuz-//')
python3 "$HERE/extract-vmlinux.py" "kernel/boot/vmlinuz-$KV" "$OUT/vmlinux"
cp "kernel/boot/config-$KV" "$OUT/kconfig"
MODULES=kernel/lib/modules/$KV
[ -d "$MODULES" ] || MODULES=kernel/usr/lib/modules/$KV

# --- the userland: resolved by apt, unpacked by dpkg-deb, so no maintainer script runs
# shellcheck disable=SC2086 # a list of words
apt-get -y -qq -o Debug::NoLocking=1 --download-only --no-install-recommends -t trixie install $PKGS >/dev/null
rm -rf rootfs
mkdir -p rootfs/usr/{bin,sbin,lib,lib64}
for d in bin sbin lib lib64; do ln -s usr/$d rootfs/$d; done
# shellcheck disable=SC2086
apt-get -s --no-install-recommends -t trixie install $PKGS | # "Inst NAME (VERSION SUITE [ARCH])"
  sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) [^[]*\[\([a-z0-9]*\)\]).*/\1_\2_\3.deb/p' | sed 's/:/%3a/g' >"$OUT/packages.list"
while read -r d; do dpkg-deb -x "apt/cache/archives/$d" rootfs; done <"$OUT/packages.list"
rm -rf rootfs/usr/share/{doc,man,locale,info,zoneinfo,i18n,perl} rootfs/var/lib/apt
mkdir -p rootfs/{proc,sys,dev,run,tmp,mnt,job,out,root,export} rootfs/var/lib/nfs/{sm,sm.bak,rpc_pipefs,v4recovery}
# busybox fills in what has no package here (ip, tar, ...), without hiding real tools
for a in $(rootfs/usr/bin/busybox --list); do
  [ -e "rootfs/usr/bin/$a" ] || [ -e "rootfs/usr/sbin/$a" ] || ln -s busybox "rootfs/usr/bin/$a"
done
# modules are unpacked once here instead of in every guest
mkdir -p rootfs/usr/lib/modules
cp -a "$MODULES" rootfs/usr/lib/modules/
find rootfs/usr/lib/modules -name '*.ko.xz' -print0 | xargs -0 -r -P"$(nproc)" -n50 xz -d
chroot rootfs /usr/sbin/depmod "$KV"
chroot rootfs /usr/sbin/ldconfig
cat >rootfs/etc/passwd <<'EOF'
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/:/bin/false
statd:x:100:65534::/var/lib/nfs:/bin/false
_rpc:x:101:65534::/run/rpcbind:/bin/false
user:x:1000:1000:user:/tmp:/bin/bash
EOF
printf 'root:x:0:\nnogroup:x:65534:\nuser:x:1000:\n' >rootfs/etc/group
printf '%s: files\n' passwd group hosts services protocols rpc netgroup >rootfs/etc/nsswitch.conf
printf '127.0.0.1 localhost guest\n10.0.2.2 host\n' >rootfs/etc/hosts
ln -sf /proc/self/mounts rootfs/etc/mtab
for f in etc/exports var/lib/nfs/etab var/lib/nfs/rmtab; do : >"rootfs/$f"; done
install -m755 "$HERE/guest-init" rootfs/usr/sbin/guest-init
rm -f "$OUT/rootfs.ext4"
truncate -s "${ROOT_SIZE:-3G}" "$OUT/rootfs.ext4"
# verity: fs-verity can be enabled on files of / itself; no journal: the disk is thrown away after each run
mkfs.ext4 -q -F -b 4096 -O verity,^has_journal -E lazy_itable_init=1,nodiscard -L guestroot -d rootfs "$OUT/rootfs.ext4"

# --- the initramfs
rm -rf ird
mkdir -p ird/{bin,dev,proc,sys,newroot}
cp rootfs/usr/bin/busybox ird/bin/
n=10
for m in virtio_pci virtio_blk; do chroot rootfs modprobe -S "$KV" --show-depends $m; done | # built-in ones are "builtin"
  awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
  while read -r f; do
    cp "rootfs$f" "ird/$n-${f##*/}"
    n=$((n + 1))
  done
cat >ird/init <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in /*.ko; do /bin/busybox insmod $m; done
/bin/busybox mount -t ext4 /dev/vda /newroot || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /usr/sbin/guest-init
EOF
chmod +x ird/init
(cd ird && find . | cpio -o -H newc --quiet | gzip -9) >"$OUT/initrd.img"
[ -z "${SUDO_UID-}" ] || chown "$SUDO_UID" "$OUT"/*
echo "$KEY" >"$OUT/built-by"
echo "built $W/$OUT: kernel $KV, $(wc -l <"$OUT/packages.list") packages"
