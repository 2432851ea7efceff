#!/bin/bash
# The main job, narrated, in two acts. First a disk in memory as a file, with nothing but our own programs. Then, when
# qemu-utils is there, a qcow2 image as a raw file: a file system is made in it, and the qcow2 is proved to hold it.
# Needs no root and no loop device. Removes everything it made, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
nbdfuse=$PWD/out/nbdfuse
nbdserve=$PWD/out/nbdserve
dir=$(mktemp -d "${TMPDIR:-/tmp}/nbdfuse-demo.XXXXXX")
daemon=

clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
    fusermount3 -quz "$dir/mnt" 2>/dev/null || true
    rm -rf "$dir"
    [ "$status" = 0 ] || echo "demo: failed" >&2
    exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

say() { printf '\n%s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

cd "$dir"
mkdir mnt content
echo "Hello from inside a disk image." >content/hello.txt
head -c 3000000 /dev/urandom >content/random.bin

# Starts nbdfuse in the background and waits until the file can be used, which the pidfile tells.
mount_disk() {
    printf '$ nbdfuse -P pid %s &\n' "$*"
    "$nbdfuse" -P pid "$@" &
    daemon=$!
    until [ -s pid ]; do
        kill -0 "$daemon" 2>/dev/null || { wait "$daemon"; exit 1; }
        sleep 0.02
    done
}

unmount_disk() {
    run fusermount3 -u mnt
    wait "$daemon"
    daemon=
    echo "nbdfuse has ended with exit status 0"
}

say "ACT ONE: a disk in memory, with nothing else installed."

say "1. nbdserve serves a disk, nbdfuse shows it as a file. nbdfuse starts it and stays in the foreground, so: &"
PATH=${nbdserve%/*}:$PATH
mount_disk mnt/disk [ nbdserve memory 256M ]
run ls -l mnt/
run findmnt -n -o SOURCE,FSTYPE,SIZE mnt || true

say "2. Any program can use the file. What is written to it is what is read."
run dd if=content/random.bin of=mnt/disk bs=1M seek=100 conv=notrunc status=none
run cmp -n 3000000 -i 0:104857600 content/random.bin mnt/disk

say "3. Unmounting ends nbdfuse and nbdserve."
unmount_disk

say "4. A terabyte that is mostly holes, as a file. It takes no memory, and its bytes are the same in every run."
hash_start() { printf '$ head -c 256M mnt/disk | sha256sum\n'; head -c 256M mnt/disk | sha256sum | tee "$1"; }
mount_disk -r mnt/disk [ nbdserve sparse-random 1T --seed 7 ]
run ls -lh mnt/
hash_start first
unmount_disk
mount_disk -r mnt/disk [ nbdserve sparse-random 1T --seed 7 ]
hash_start second
unmount_disk
run cmp first second

for program in qemu-img qemu-nbd mkfs.ext4 debugfs; do
    if ! command -v $program >/dev/null; then
        say "ACT TWO, a qcow2 image, needs $program: install qemu-utils and e2fsprogs and run this again."
        exit 0
    fi
done

say "ACT TWO: a qcow2 image as a raw file."

say "1. A qcow2 image: 256 MiB for its guest, next to nothing on the disk."
run qemu-img create -q -f qcow2 disk.qcow2 256M
run ls -sh disk.qcow2

say "2. nbdfuse shows it as a raw file. It starts qemu-nbd itself and stays in the foreground, so: &"
mount_disk mnt/disk.raw --socket-activation qemu-nbd -f qcow2 disk.qcow2
run ls -l mnt/
run findmnt -n -o SOURCE,FSTYPE,SIZE mnt || true

say "3. Any program can use the raw file. Here: an ext4 file system with two files in it."
run mkfs.ext4 -q -F -d content mnt/disk.raw
run debugfs -R "ls -p /" mnt/disk.raw 2>/dev/null | grep -v lost+found

say "4. Unmounting writes everything to the image and ends nbdfuse and qemu-nbd."
unmount_disk

say "5. The proof, with qemu's own tools and without nbdfuse: the qcow2 is sound and holds the files."
run qemu-img check disk.qcow2
run ls -sh disk.qcow2
run qemu-img convert -f qcow2 -O raw disk.qcow2 copy.raw
run e2fsck -f -n copy.raw 2>/dev/null
run debugfs -R "cat hello.txt" copy.raw 2>/dev/null
run debugfs -R "dump random.bin random.bin" copy.raw 2>/dev/null
run cmp content/hello.txt <(debugfs -R "cat hello.txt" copy.raw 2>/dev/null)
run cmp content/random.bin random.bin

say "The image holds byte for byte what was written through nbdfuse."
