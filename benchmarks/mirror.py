"""A mirror in Milvus against vectors in this process: how fast it is made and follows, how long questions take, what memory.

    python -m benchmarks.mirror --images 100000

It starts the Milvus 2.3.5 that the tests use, on the same machine, so both share its cores; vectors of 768 numbers are made up.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmarks.material import machine
from benchmarks.postgres import write
from nearshot.indexer.mirroring import MirrorRun
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.searchable import open_searchable
from tests import milvus
from tests.made_up import add_images

ROUNDS = 50


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    arguments = parser.parse_args()
    print(machine())
    with milvus.serving() as server, tempfile.TemporaryDirectory(prefix="nearshot-") as directory:
        location = Path(directory) / "store"
        with Store(location, create=True) as store:
            write(store, arguments.images, 4096, {"dinov2": 768})
            spent = taken(lambda: mirror(store, server.address))
            print(f"{arguments.images:,} x 768 mirrored: {arguments.images / spent:,.0f} images/s ({spent:.0f} s)")
            print(f"Milvus: {server.memory() >> 20:,} MiB")
            times = []
            for number in range(5):
                shot = normalise(np.random.default_rng(number).standard_normal((1, 768)))
                add_images(store, "dinov2", shot, [("c0", "new")], first=10**9 + number)
                times.append(taken(lambda: mirror(store, server.address)))
            print(f"one shot more: {statistics.median(times):.2f} s")
        for what, address in (("in this process", None), ("mirrored", server.address)):
            with Store(location, mirror=address) as store:
                ask(store, what)


def mirror(store: Store, address: str) -> None:
    """Bring the mirror up to date."""
    for _ in MirrorRun(store, address, roles=[Role.SUPPORT]):
        pass


def ask(store: Store, what: str) -> None:
    """Print how long opening takes, and then questions, one and 64 at a time, and the memory of it."""
    process = psutil.Process()
    before = process.memory_full_info().uss
    with store.reading() as catalog:
        [row] = catalog.backbones()
        began = time.perf_counter()
        held = open_searchable(store, catalog, row, Role.SUPPORT)
    opened = time.perf_counter() - began
    first = taken(lambda: held.search_labels(normalise(np.ones((1, 768))), 10, 2))
    queries = normalise(np.random.default_rng(1).standard_normal((ROUNDS, 768)))
    single = statistics.median(taken(partial(held.search_labels, query[None], 10, 2)) for query in queries)
    many = statistics.median(taken(lambda: held.search_labels(np.tile(queries, (2, 1))[:64], 10, 2)) for _ in range(5))
    own = (process.memory_full_info().uss - before) >> 20
    print(
        f"{what}: opened in {1000 * opened:.0f} ms, the first question {1000 * first:.0f} ms, then {1000 * single:.1f} ms; "
        f"64 at once {1000 * many:.0f} ms; {own} MiB"
    )


def taken(do: Callable[[], object]) -> float:
    """The seconds that something takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
