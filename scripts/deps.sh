#!/bin/bash
# deps.sh check|install GROUP...: makes sure that the programs of each group are there.
# "install" adds the missing packages with apt-get; "check" only says what to install.
set -euo pipefail

# program:Debian package
needed_by() {
    case $1 in
        build) echo gcc:gcc objcopy:binutils /usr/include/stdlib.h:libc6-dev ;;
        man) echo scdoc:scdoc ;;
        demo) echo fusermount3:fuse3 ;;
        test) needed_by demo
              echo mkfs.ext4:e2fsprogs debugfs:e2fsprogs qemu-img:qemu-utils qemu-nbd:qemu-utils \
                   qemu-io:qemu-utils python3:python3 systemd-socket-activate:systemd unshare:util-linux nsenter:util-linux losetup:mount \
                   nbdkit:nbdkit nbd-server:nbd-server nbd-client:nbd-client nbdinfo:libnbd-bin \
                   /usr/lib/python3/dist-packages/nbd.py:python3-libnbd fio:fio setpriv:util-linux \
                   psktool:gnutls-bin qemu-storage-daemon:qemu-system-common \
                   fallocate:util-linux findmnt:util-linux mount:mount dd:coreutils
              needed_by programs ;;
        test-slow) needed_by test
                   needed_by machines ;;
        programs) echo sfdisk:fdisk losetup:mount mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.vfat:dosfstools mcopy:mtools \
                       rsync:rsync tar:tar sqlite3:sqlite3 fio:fio stress-ng:stress-ng fstrim:util-linux file:file \
                       cmp:diffutils ;;
        machines) echo qemu-system-x86_64:qemu-system-x86 syslinux:syslinux /usr/lib/SYSLINUX/mbr.bin:syslinux-common \
                       /bin/busybox:busybox-static cpio:cpio xz:xz-utils python3:python3 \
                       /boot/vmlinuz-*-cloud-amd64:linux-image-cloud-amd64 ;;
        bench) echo fusermount3:fuse3 nbdkit:nbdkit nbdfuse:libnbd-bin qemu-nbd:qemu-utils fio:fio python3:python3 \
                    qemu-storage-daemon:qemu-system-common nbdcopy:libnbd-bin certtool:gnutls-bin ;;
        *) echo "deps.sh: unknown group '$1'" >&2; exit 2 ;;
    esac
}

has() {
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        # Daemons and file system tools may be in sbin, which the PATH of an ordinary user lacks.
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

mode=$1
shift
if ! command -v dotnet >/dev/null; then
    echo "nbdfuse: the .NET 10 SDK (dotnet) is missing: install it from https://dotnet.microsoft.com/download and put it in PATH" >&2
    exit 1
fi

missing=
for group; do
    # shellcheck disable=SC2046
    for item in $(set -f; needed_by "$group"); do
        has "${item%%:*}" || missing="$missing ${item#*:}"
    done
done
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
missing=$(printf '%s\n' $missing | sort -u | paste -sd' ')

if [ "$mode" = check ] || ! command -v apt-get >/dev/null; then
    echo "nbdfuse: missing, named as Debian packages: $missing; install them and run make again" >&2
    exit 1
elif [ "$(id -u)" != 0 ]; then
    echo "nbdfuse: packages are missing; run as root: apt-get install $missing" >&2
    exit 1
fi
echo "nbdfuse: installing missing packages: $missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# A package list that is there may do; it is fetched only when the installation fails without.
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $missing >"$log" 2>&1 ||
    { apt-get update >>"$log" 2>&1 && apt-get install -y --no-install-recommends $missing >>"$log" 2>&1; } ||
    { tail -n 20 "$log" >&2; echo "nbdfuse: installing failed: see $log" >&2; exit 1; }
rm -f "$log"
