#!/bin/bash
# failures.sh LOG...: the tests that failed, each with the first lines of its message.
awk '
    /^failed / { print; left = 6; next }
    left > 0 && /^  / && !/^ +at / { print; left--; next }
    { left = 0 }
' "$@"
