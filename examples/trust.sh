#!/bin/sh
# The session of the README's section 'Can I trust it?': calibrate and evaluate on handwritten digits. Needs no network.
set -eu

run() { printf '\n$ %s\n' "$*"; "$@"; }

PATH="$BIN:$PATH"
python examples/make_digits.py "$DATA"
run nearshot index "$DATA" --store "$STORE" --backbone hog --no-captions
run nearshot evaluate --store "$STORE"
run nearshot calibrate --store "$STORE" --score max_sim --false-accept 0.05
run nearshot evaluate --store "$STORE"
