"""Once: what a store of three backbones takes on the disk, and what searches take, with vectors as float32 and as float16.

    python -m benchmarks.once [--images 100000] [--kinds float32 float16]

Vectors are made up, around a direction for each of images / 100 labels, in the dimensions of CLIP, ResNet-50 and DINOv2; they
are committed and put into segments as an index run does. Searches are for the two nearest labels, one query at a time and 64,
medians of rounds in turn; answers are compared between the kinds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import machine
from nearshot.indexer.options import SEGMENT_INTERVAL
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.editor import Editor, Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vectors import choose_float16
from nearshot.schema.vocabulary import Role, VectorKind
from nearshot.vectors.normalise import normalise
from nearshot.vectors.protocol import Neighbours
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import open_vectors, write_segments

DIMENSIONS = {"clip": 512, "resnet50": 2048, "dinov2": 768}
BATCH, SHOTS, QUERIES = 5000, 100, 64


class Opened(NamedTuple):
    """What is searched: the store's bytes on the disk, and by backbone its vectors."""

    database: int
    segments: int
    vectors: dict[str, SegmentedStore]


def main() -> None:
    """Print bytes, times and how far answers are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", type=VectorKind, default=list(VectorKind))
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        kinds = {kind: built(Path(temporary) / kind, arguments.images, kind) for kind in arguments.kinds}
        for kind, opened in kinds.items():
            size = opened.database + opened.segments
            print(
                f"{kind}: {size / 1e9:.2f} GB, {size / arguments.images:,.0f} bytes an image "
                f"(database {opened.database / 1e9:.2f} GB, segments {opened.segments / 1e9:.2f} GB)"
            )
        for name, dimension in DIMENSIONS.items():
            queries = made_up(np.arange(QUERIES) * 7 % arguments.images, dimension, arguments.images, seed=1)
            for few in (1, QUERIES):
                taken: dict[VectorKind, list[float]] = {kind: [] for kind in kinds}
                for _ in range(arguments.rounds):
                    for kind, opened in kinds.items():
                        started = time.perf_counter()
                        opened.vectors[name].search_labels(queries[:few], 5, 2)
                        taken[kind].append(time.perf_counter() - started)
                medians = {kind: statistics.median(times) for kind, times in taken.items()}
                print(f"{name}, {few} at once: " + ", ".join(f"{k} {1e3 * t:.1f} ms" for k, t in medians.items()))
            if len(kinds) > 1:
                compare(name, *(opened.vectors[name].search_labels(queries, 5, 2) for opened in kinds.values()))


def compare(name: str, exact: Sequence[Neighbours], rounded: Sequence[Neighbours]) -> None:
    """Print how often the nearest image is the same, and how far its cosine is off."""
    same = sum(int(first.ids[0] == second.ids[0]) for first, second in zip(exact, rounded, strict=True))
    off = [abs(float(first.scores[0]) - float(second.scores[0])) for first, second in zip(exact, rounded, strict=True)]
    print(
        f"{name}: the nearest image is the same for {same} of {len(exact)}; its cosine is off by {max(off):.1e} at most"
    )


def made_up(numbers: NDArray[np.int64], dimension: int, images: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors (n, dimension) of some images, around the directions of their labels."""
    directions = np.random.default_rng(dimension).standard_normal((images // SHOTS + 1, dimension))
    noise = np.random.default_rng([seed, int(numbers[0])]).standard_normal((len(numbers), dimension))
    return normalise(directions[numbers // SHOTS] + 0.7 * noise)


def built(here: Path, images: int, kind: VectorKind) -> Opened:
    """A store of that many shots."""
    store = Store(here, create=True)
    with store.writing() as editor:
        if kind == VectorKind.FLOAT16:
            choose_float16(editor)
        root_id = editor.add_root("/data")
        rows = [use(editor, name, dimension) for name, dimension in DIMENSIONS.items()]
    unsaved = 0
    for start in range(0, images, BATCH):
        numbers = np.arange(start, min(start + BATCH, images))
        with store.writing() as editor:
            ids = editor.add_contents(NewContent(f"{n:064x}", 7, 64, 64, "PNG") for n in numbers.tolist())
            editor.put_images(root_id, [seen(n, ids[f"{n:064x}"]) for n in numbers.tolist()])
            for row in rows:
                vectors = made_up(numbers, row.dimension, images)
                editor.put_embeddings(
                    Embedding(ids[f"{n:064x}"], row.id, vector)
                    for n, vector in zip(numbers.tolist(), vectors, strict=True)
                )
        unsaved += len(numbers)
        if unsaved >= SEGMENT_INTERVAL:
            write_segments(store, rows)
            unsaved = 0
    write_segments(store, rows)
    store.maintain(shrunk=False)
    store.close()  # which writes what the log has into the database
    with store.reading() as catalog:
        opened = {row.name: open_vectors(store, catalog, row, Role.SUPPORT) for row in rows}
    database = sum(file.stat().st_size for file in here.glob("nearshot.db*"))
    return Opened(database, sum(file.stat().st_size for file in store.segment_directory.iterdir()), opened)


def use(editor: Editor, name: str, dimension: int) -> BackboneRow:
    """The row of a backbone of a name, whose vectors are made up."""
    return editor.use_backbone(
        name=name,
        fingerprint=name,
        dimension=dimension,
        precision="fp32",
        source="made up",
        location=None,
        signature=name,
    )


def seen(number: int, content_id: int) -> SeenImage:
    """A shot as an index run would have found it."""
    label, shot = f"label{number // SHOTS}", f"shot{number % SHOTS}"
    path = f"things/2.support-set/{label}/{shot}.png"
    return SeenImage(FoundImage(path, "things", Role.SUPPORT, label, shot, FileState(7, 0, 0)), content_id)


if __name__ == "__main__":
    main()
