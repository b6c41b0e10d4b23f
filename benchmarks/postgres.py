"""A store in PostgreSQL against one in a directory: how fast rows come in, and are copied from one to the other, and how long
queries take, of made-up vectors.

    python -m benchmarks.postgres --images 100000

It starts the PostgreSQL that the tests use, with its durable settings; both write to the same disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.material import machine
from nearshot.indexer.copying import CopyRun
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.location import Location
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.searchable import open_searchable
from nearshot.vectors.segments import open_vectors, write_segments
from tests.postgres import Server, serving

DIMENSIONS = {"clip": 512, "resnet50": 2048, "dinov2": 768}
SHOTS = 100
ROUNDS = 20


def main() -> None:
    """Write, open and ask both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=64, help="images that are committed together")
    parser.add_argument("--copied", type=int, default=50_000, help="images that the rate of copies is measured by")
    parser.add_argument(
        "--bulk", type=int, default=5_000, help="images that the rate of three backbones is measured by"
    )
    arguments = parser.parse_args()
    print(machine())
    with (
        tempfile.TemporaryDirectory(prefix="nearshot-") as directory,
        serving(Path(directory, "server"), durable=True) as server,
    ):
        locations: dict[str, Location] = {"directory": Path(directory, "store"), "PostgreSQL": server.new_database()}
        rates, asked, opened, once = {}, {}, {}, {}
        for name, location in locations.items():
            with Store(location, create=True) as store:
                rates[name] = write(store, arguments.bulk, arguments.batch, DIMENSIONS)
        for what, dimensions in (("dinov2", {"dinov2": DIMENSIONS["dinov2"]}), ("three backbones", DIMENSIONS)):
            copy(Path(directory, what), server, arguments.copied, what, dimensions)
        larger: dict[str, Location] = {"directory": Path(directory, "larger"), "PostgreSQL": server.new_database()}
        for location in larger.values():
            with Store(location, create=True) as store:
                write(store, arguments.images, 4096, {"dinov2": DIMENSIONS["dinov2"]})
        for name, location in larger.items():
            with Store(location) as store:
                opened[name], asked[name] = ask(store)
                once[name] = ask_once(store)
        for figure, unit, figures in (
            ("written, three backbones", "images/s", rates),
            (f"{arguments.images:,} x 768 opened", "s", opened),
            ("then a query, median", "ms", asked),
            ("opened and asked once", "ms", once),
        ):
            here, there = figures["directory"], figures["PostgreSQL"]
            print(f"{figure}: directory {here:,.2f} {unit}, PostgreSQL {there:,.2f} {unit}, ratio {there / here:.2f}")


def copy(directory: Path, server: Server, images: int, what: str, dimensions: dict[str, int]) -> None:
    """Copy a store from one kind into the other, and print images a second."""
    source, there, back = directory / "source", server.new_database(), directory / "back"
    with Store(source, create=True) as store:
        written = write(store, images, 4096, dimensions)
    rates = []
    for own, target in ((source, there), (there, back)):
        began = time.perf_counter()
        for _ in CopyRun(own, target):
            pass
        rates.append(images / (time.perf_counter() - began))
    print(
        f"{images:,} images of {what} copied into PostgreSQL: {rates[0]:,.0f} images/s, back: {rates[1]:,.0f}", end="; "
    )
    print(f"committed, 4,096 at once, into a directory: {written:,.0f}")


def write(store: Store, images: int, batch: int, dimensions: dict[str, int]) -> float:
    """Commit images and their vectors a batch at a time, and what is derived of them; images a second."""
    with store.writing() as editor:
        root_id = editor.add_root("/data")
        rows = [
            editor.use_backbone(
                **{"name": name, "fingerprint": name, "precision": "fp32", "source": "made up", "signature": name},
                dimension=dimension,
                location=None,
            )
            for name, dimension in dimensions.items()
        ]
    spent = 0.0
    for start, vectors in made_up(images, batch, rows):
        began = time.perf_counter()
        with store.writing() as editor:
            numbers = range(start, start + len(vectors[0]))
            ids = editor.add_contents(NewContent(f"{number:064x}", 7, 64, 64, "PNG") for number in numbers)
            editor.put_images(root_id, [seen(number, ids[f"{number:064x}"]) for number in numbers])
            for row, own in zip(rows, vectors, strict=True):
                editor.put_embeddings(
                    Embedding(ids[f"{number:064x}"], row.id, vector)
                    for number, vector in zip(numbers, own, strict=True)
                )
        spent += time.perf_counter() - began
    began = time.perf_counter()
    write_segments(store, rows)
    return images / (spent + time.perf_counter() - began)


def made_up(images: int, batch: int, rows: list[BackboneRow]) -> Iterator[tuple[int, list[NDArray[np.float32]]]]:
    """Unit vectors (n, dimension) of each backbone around one direction a label."""
    chance = np.random.default_rng(0)
    middles = {row.id: chance.standard_normal((images // SHOTS + 1, row.dimension)) for row in rows}
    for start in range(0, images, batch):
        labels = np.arange(start, min(images, start + batch)) // SHOTS
        yield (
            start,
            [
                normalise(middles[row.id][labels] + chance.standard_normal((len(labels), row.dimension)) * 0.7)
                for row in rows
            ],
        )


def seen(number: int, content_id: int) -> SeenImage:
    """A shot as an index run would have found it."""
    label = f"label{number // SHOTS}"
    path = f"c0/2.support-set/{label}/shot{number}.png"
    return SeenImage(
        FoundImage(path, "c0", Role.SUPPORT, label, f"shot{number}", FileState(7, number, number)), content_id
    )


def ask_once(store: Store, queries: int = 5) -> float:
    """The median milliseconds of opening what is searched and asking one question."""
    times = []
    for query in range(queries):
        began = time.perf_counter()
        with store.reading() as catalog:
            [row] = catalog.backbones()
            vectors = open_searchable(store, catalog, row, Role.SUPPORT, once=True)
        asked = normalise(np.random.default_rng(query).standard_normal((1, row.dimension)))
        vectors.search_labels(asked, 10, 2)
        times.append(time.perf_counter() - began)
        del vectors
    return 1000 * statistics.median(times)


def ask(store: Store) -> tuple[float, float]:
    """Seconds to open the vectors, and the median milliseconds of a query for the nearest images and labels."""
    with store.reading() as catalog:
        [row] = catalog.backbones()
        began = time.perf_counter()
        vectors = open_vectors(store, catalog, row, Role.SUPPORT)
        opened = time.perf_counter() - began
    queries = normalise(np.random.default_rng(1).standard_normal((ROUNDS, row.dimension)))
    times = []
    for query in queries:
        began = time.perf_counter()
        vectors.search_labels(query[None], 10, 2)
        times.append(time.perf_counter() - began)
    return opened, 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
