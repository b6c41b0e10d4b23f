#!/bin/sh
# The README's session of search by words in images: a toy CLIP is trained on the demo's captions. Needs no network.
set -eu

run() { printf '\n$ %s\n' "$*"; "$@"; }

BIN="${BIN:-$PWD/.venv/bin}" DATA="${DATA:-words-data}" STORE="${STORE:-words-store}" WEIGHTS="${WEIGHTS:-words-weights}"
PATH="$BIN:$PATH"
if [ -e "$STORE" ]; then
    echo "$STORE is there already: remove it to run this again" >&2
    exit 1
fi
python examples/make_demo.py "$DATA"
run python examples/toy_clip.py "$DATA" "$WEIGHTS"
run nearshot index "$DATA" --store "$STORE" --backbone clip --weights "$WEIGHTS" --no-captions
run nearshot search rocket --store "$STORE" --mode image --role query --limit 3
run nearshot search orange --store "$STORE" --mode hybrid --limit 2
