#!/bin/bash
# test.sh [slow]: runs the tests with the programs in out/: all but the slow ones, or those. Each run's log stays in
# artifacts/test-results/; what failed is told once more at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
case ${1-} in
    slow) suites=integration filter=(--filter-trait Speed=Slow) log=-slow ;;
    *) suites="unit integration" filter=(--filter-not-trait Speed=Slow) log= ;;
esac

if [ "$(id -u)" = 0 ] && [ "$(stat -c %a /dev/fuse 2>/dev/null)" = 600 ]; then
    echo "nbdfuse: chmod 666 /dev/fuse, for the tests as an ordinary user"
    chmod 666 /dev/fuse
fi
uring=/sys/module/fuse/parameters/enable_uring
if [ "$(id -u)" = 0 ] && [ "$(cat $uring 2>/dev/null)" = N ] && echo Y 2>/dev/null >$uring; then
    echo "nbdfuse: $uring is Y while the tests run"
    trap 'echo N >$uring' EXIT
fi
if [ "$(cat $uring 2>/dev/null)" = Y ]; then
    echo "nbdfuse: testing over /dev/fuse and over io_uring"
else
    echo "nbdfuse: testing over /dev/fuse only: $uring is not Y, and cannot be made so here"
fi
mkdir -p artifacts/test-results
logs=() status=0
for suite in $suites; do
    echo "== $suite tests${log:+, the slow ones}"
    file=artifacts/test-results/$suite$log.log
    logs+=("$file")
    # A script's job in the background has SIGINT ignored; so would be the programs that tests interrupt.
    env --default-signal=INT,QUIT dotnet test --project tests/$suite -c Release --no-ansi --no-progress "${filter[@]}" 2>&1 |
        tee "$file"
    ended=${PIPESTATUS[0]}
    if [ "$ended" != 0 ]; then
        status=1
        grep -q '^failed ' "$file" || echo "failed $suite tests: status $ended without a failed test" >>"$file"
    fi
done
scripts/failures.sh "${logs[@]}"
exit $status
