#!/bin/bash
# Runs all tests with the programs in out/. Each run's log stays in artifacts/test-results/.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ] && [ "$(stat -c %a /dev/fuse 2>/dev/null)" = 600 ]; then
    echo "nbdfuse: chmod 666 /dev/fuse, for the tests as an ordinary user"
    chmod 666 /dev/fuse
fi
mkdir -p artifacts/test-results
status=0
for suite in unit integration; do
    echo "== $suite tests"
    dotnet test --project tests/$suite -c Release --no-ansi --no-progress 2>&1 |
        tee artifacts/test-results/$suite.log
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
done
exit $status
