#!/bin/bash
# exercise.sh [EXERCISER-OPTION...]: random operations on a mount of 64 MiB, against a model (tests/exerciser).
# NBDFUSE_OPTIONS are options of nbdfuse, NBDKIT_FILTERS and NBDKIT_PARAMETERS stand before and behind nbdkit's "file IMAGE".
set -euo pipefail
cd "$(dirname "$0")/.."
dotnet build tests/exerciser -c Release -v quiet -nologo
dir=$(mktemp -d "${TMPDIR:-/tmp}/nbdfuse-exercise.XXXXXX")
daemon=

clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
    fusermount3 -quz "$dir/mnt" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

mkdir "$dir/mnt"
truncate -s 67109365 "$dir/image"
# shellcheck disable=SC2086
out/nbdfuse ${NBDFUSE_OPTIONS-} -P "$dir/pid" "$dir/mnt/disk" [ nbdkit ${NBDKIT_FILTERS-} file "$dir/image" ${NBDKIT_PARAMETERS-} ] &
daemon=$!
until [ -s "$dir/pid" ]; do
    kill -0 "$daemon" 2>/dev/null || { wait "$daemon"; exit 1; }
    sleep 0.02
done
artifacts/bin/Exerciser/release/exerciser --backing "$dir/image" --save-model "$dir/model" "$@" "$dir/mnt/disk"
fusermount3 -u "$dir/mnt"
wait "$daemon"
daemon=
cmp "$dir/image" "$dir/model"
echo "exercise: the image of the server is as the model, too"
