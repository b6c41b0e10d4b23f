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
run nearshot index "$DATA" --store "$STORE" --backbone lite0 --backbone hog --no-captions
run nearshot calibrate --store "$STORE" --false-accept 0.05
run nearshot evaluate --store "$STORE" --output "$REPORT"
run nearshot query "$DATA/digits/6.preprocessed/3/3-010.png" "$DATA/digits/6.preprocessed/Unknown/8-001.png" --store "$STORE" --coverage 0.9
