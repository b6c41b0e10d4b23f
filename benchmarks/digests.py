"""What checking costs: writing rows, opening a store to query, and reading vectors, with their digests and without.

    python -m benchmarks.digests [--images 100000] [--dimension 768] [--rounds 3]

Without means: the triggers are dropped, and every check says that all is well. Rows are made up; each figure is the best of
the rounds, with and without in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.material import machine
from nearshot.retriever.choose_backbone import choose_row
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.searcher import Searcher
from nearshot.schema import digests, tables
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import read_rows, write_segments

BATCH = 1000


def main() -> None:
    """Print seconds with and without, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.images:,} shots of {arguments.dimension} dimensions")
    with tempfile.TemporaryDirectory() as directory:
        best: dict[tuple[str, bool], float] = {}
        for number in range(arguments.rounds):
            for checked in (True, False):
                store_location = Path(directory, f"{number}{checked}")
                with ExitStack() as stack:
                    if not checked:
                        stack.enter_context(unchecked())
                    for name, seconds in measured(
                        store_location, arguments.images, arguments.dimension, checked=checked
                    ):
                        best[name, checked] = min(seconds, best.get((name, checked), seconds))
        for name in dict.fromkeys(name for name, _ in best):
            print(
                f"{name:34} {best[name, True]:8.2f} s  {best[name, False]:8.2f} s  {best[name, True] / best[name, False]:5.2f}"
            )


def measured(directory: Path, images: int, dimension: int, *, checked: bool) -> Iterator[tuple[str, float]]:
    """The steps, each with the seconds it took."""
    with Store(directory, create=True) as store:
        if not checked:
            drop_triggers(store)
        yield "writing images and vectors", timed(lambda: write(store, images, dimension))
        with store.reading() as catalog:
            [row] = catalog.backbones()
        yield "writing the segment", timed(lambda: write_segments(store, [row]))

        def read() -> None:
            with store.reading() as catalog:
                read_rows(catalog, row, Role.SUPPORT)

        yield "reading all vectors from the rows", timed(read)
        options = QueryOptions(backbone=row.name)

        def open_searcher() -> Searcher:
            with store.reading() as catalog:
                chosen, coverage = choose_row(catalog, row.name, ["photos"])
                return Searcher(store, catalog, chosen, coverage, options)

        started = time.perf_counter()
        searcher = open_searcher()
        yield "opening to query, the first time", time.perf_counter() - started
        yield "opening to query, once more", timed(open_searcher)
        vector = normalise(np.random.default_rng(1).standard_normal((1, dimension)))
        searcher.search(vector, options)

        def search() -> None:
            for _ in range(20):
                searcher.search(vector, options)

        yield "20 queries", timed(search)


def write(store: Store, images: int, dimension: int) -> None:
    """Rows as an index run writes them, one transaction per batch."""
    chance = np.random.default_rng(0)
    with store.writing() as editor:
        root = editor.add_root("/made/up")
        about = {"precision": "fp32", "source": "hog", "location": None, "signature": "s"}
        row = editor.use_backbone(name="hog", fingerprint="f", dimension=dimension, **about)  # type: ignore[arg-type]
    for start in range(0, images, BATCH):
        numbers = range(start, min(start + BATCH, images))
        vectors = normalise(chance.standard_normal((len(numbers), dimension)))
        with store.writing() as editor:
            ids = editor.add_contents(NewContent(f"{number:064x}", 1, 1, 1, "PNG") for number in numbers)
            found_images = [
                FoundImage(
                    f"photos/2.support-set/{number % 100}/shot{number}.jpg",
                    *("photos", Role.SUPPORT, str(number % 100), f"shot{number}", FileState(1, 1, 1)),
                )
                for number in numbers
            ]
            editor.put_images(
                root,
                [SeenImage(image, ids[f"{number:064x}"]) for number, image in zip(numbers, found_images, strict=True)],
            )
            editor.put_embeddings(
                Embedding(ids[f"{number:064x}"], row.id, vector)
                for number, vector in zip(numbers, vectors, strict=True)
            )


def drop_triggers(store: Store) -> None:
    """Have rows written without digests."""
    with store.writing() as editor:
        for table in digests.COVERED:
            for change in ("added", "edited"):
                editor.connection.exec_driver_sql(f"DROP TRIGGER {table.name}_{change}_digest")


@contextmanager
def unchecked() -> Iterator[None]:
    """Take every row and file for what was written."""

    def nothing(*_: object, **__: object) -> None:
        return None

    with ExitStack() as stack:
        for module in ("retriever.searcher", "retriever.choose_backbone", "schema.catalog", "schema.labelled"):
            for name in ("check", "check_decisive", "check_images"):
                if hasattr(__import__(f"nearshot.{module}", fromlist=["x"]), name):
                    stack.enter_context(mock.patch(f"nearshot.{module}.{name}", nothing))
        plain = lambda: tables.embeddings.c.vector.label("vector")  # noqa: E731
        stack.enter_context(mock.patch("nearshot.schema.vectors.stored_vector", plain))
        stack.enter_context(mock.patch("nearshot.schema.segments.intact", lambda table: table.c.revision >= 0))
        stack.enter_context(mock.patch("nearshot.schema.segment_file.Segment._check", nothing))
        yield


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
