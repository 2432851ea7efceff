#!/bin/bash
# The main job on a real image, narrated: a qcow2 is shown as a raw file, a file system is made in it, and the
# qcow2 is proved to hold it. Needs no root and no loop device. Removes everything it made, whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
nbdfuse=$PWD/out/nbdfuse
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
echo "Hello from inside a qcow2 image." >content/hello.txt
head -c 3000000 /dev/urandom >content/random.bin

say "1. A qcow2 image: 256 MiB for its guest, next to nothing on the disk."
run qemu-img create -q -f qcow2 disk.qcow2 256M
run ls -sh disk.qcow2

say "2. nbdfuse shows it as a raw file. It starts qemu-nbd itself and stays in the foreground, so: &"
printf '$ nbdfuse -P pid mnt/disk.raw --socket-activation qemu-nbd -f qcow2 disk.qcow2 &\n'
"$nbdfuse" -P pid mnt/disk.raw --socket-activation qemu-nbd -f qcow2 disk.qcow2 &
daemon=$!
# The pidfile is there as soon as the file can be used.
until [ -s pid ]; do
    kill -0 "$daemon" 2>/dev/null || { wait "$daemon"; exit 1; }
    sleep 0.02
done
run ls -l mnt/
run findmnt -n -o SOURCE,FSTYPE,SIZE mnt || true

say "3. Any program can use the raw file. Here: an ext4 file system with two files in it."
run mkfs.ext4 -q -F -d content mnt/disk.raw
run debugfs -R "ls -p /" mnt/disk.raw 2>/dev/null | grep -v lost+found

say "4. Unmounting writes everything to the image and ends nbdfuse and qemu-nbd."
run fusermount3 -u mnt
wait "$daemon"
daemon=
echo "nbdfuse has ended with exit status 0"

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
