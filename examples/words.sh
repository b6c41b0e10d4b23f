#!/bin/sh
# The README's session of search by words in images: a toy CLIP is trained on the demo's captions. Needs no network.
set -eu

run() { printf '\n$ %s\n' "$*"; "$@"; }

PATH="$BIN:$PATH"
python examples/make_demo.py "$DATA"
run python examples/toy_clip.py "$DATA" "$WEIGHTS"
run nearshot index "$DATA" --store "$STORE" --backbone clip --weights "$WEIGHTS" --no-captions
run nearshot search rocket --store "$STORE" --mode image --role query --limit 3
run nearshot search orange --store "$STORE" --mode hybrid --limit 2
