#!/bin/sh
# The session of the README's section 'Can I trust it?': calibrate and evaluate on handwritten digits. Needs no network.
set -eu

run() { printf '\n$ %s\n' "$*"; "$@"; }

BIN="${BIN:-$PWD/.venv/bin}" DATA="${DATA:-digits-data}" STORE="${STORE:-digits-store}" REPORT="${REPORT:-digits-report}"
PATH="$BIN:$PATH"
if [ -e "$STORE" ]; then
    echo "$STORE is there already: remove it to run this again" >&2
    exit 1
fi
python examples/make_digits.py "$DATA"
run nearshot index "$DATA" --store "$STORE" --backbone hog --no-captions
run nearshot evaluate --store "$STORE"
run nearshot calibrate --store "$STORE" --score max_sim --false-accept 0.05
run nearshot evaluate --store "$STORE" --output "$REPORT"
