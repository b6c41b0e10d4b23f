#!/bin/sh
# `make demo`: write the demo's photographs, index them, query them, and say what to type next. Needs no network.
set -eu

say() { printf '\n$ %s\n' "$*"; }
run() { say "$@"; "$@"; }

PATH="$BIN:$PATH"
for directory in "$DEMO" "$STORE"; do
    if [ -e "$directory" ] && [ ! -e "$directory/.demo" ]; then
        echo "$directory is not the demo's own: remove it, or run make demo elsewhere" >&2
        exit 1
    fi
    rm -rf "$directory"
    mkdir -p "$directory" && touch "$directory/.demo"
done
python examples/make_demo.py "$DEMO"
run nearshot crop "$DEMO" --store "$STORE"
run nearshot index "$DEMO" --store "$STORE" --backbone lite0
for category in objects science textures; do
    run nearshot query "$DEMO/$category/6.preprocessed" --store "$STORE" --category "$category"
done
run nearshot query "$DEMO/objects/6.preprocessed/motorcycle/motorcycle-1.png" --store "$STORE"
run nearshot query "$DEMO/objects/1.raw/scene-1.png" --objects --no-hits --store "$STORE" --category objects
run nearshot search orange --store "$STORE" --mode captions
run nearshot search ginger cats --store "$STORE" --mode captions
run nearshot status --store "$STORE"

cat <<END

Unknown/ holds photographs that show none of their category's labels; both/ one that shows two.
To see all this on a page, type

    .venv/bin/nearshot serve --store $STORE

and open http://127.0.0.1:8077/

Now yours. Put a few shots of each label, and what you want recognised, into

    data/<category>/2.support-set/<label>/shot1.jpg, shot2.jpg, ...
    data/<category>/6.preprocessed/...       or, for crop to cut out of: data/<category>/1.raw/...

and type

    .venv/bin/nearshot index data/
    .venv/bin/nearshot query some-image.jpg
    .venv/bin/nearshot search WORDS          (in captions: NAME.txt beside NAME.png, or florence2's)
    .venv/bin/nearshot backbones             (better eyes: dinov2, clip, resnet50, and how to fetch them)
END
