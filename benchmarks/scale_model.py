"""A model of growth to a billion images: what parsing, embedding, writing and searching cost, and which of them is the bound.

    python -m benchmarks.scale_model [--images 50000] [--loading 400]

Costs are measured on this machine at several sizes, and how they grow is read off; but for embedding on a GPU, which was
measured on an H100 (benchmarks/README.md). All that lies beyond the sizes measured is the model's, and prices are assumptions
that can be given. It walks from the first image to the last, since later ones cost more.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import text

from benchmarks.material import machine, save_jpegs
from benchmarks.postgres import made_up, seen
from nearshot.backbones.preparation import prepare_safely
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.indexer.load import Loader
from nearshot.schema.editor import Embedding, NewContent
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import open_vectors
from tests.postgres import serving

DIMENSION = 768
BATCH = 1024
SIZES = (10**5, 10**6, 10**7, 10**8, 10**9)
MACHINES = (1, 10, 100)
CORES, MEMORY = 16, 128 << 30
"""Cores and bytes of memory of a machine of the model; it has one GPU."""

EMBEDDED_ON_GPU = 2283.0
"""Images a second of dinov2 in bf16, JPEG to committed vectors, one H100 and 16 cores: benchmarks/README.md, On a GPU."""

HNSW_LINKS = 300
"""Bytes an image of an HNSW graph with 32 links of 4 bytes each way, and its levels."""


@dataclass(frozen=True)
class Cost:
    """Seconds an image at a size n: `seconds` * (n / `at`) ** `power`."""

    seconds: float
    at: float
    power: float

    def __call__(self, n: float) -> float:
        """Seconds at a size."""
        return float(self.seconds * (max(n, self.at) / self.at) ** self.power)


@dataclass(frozen=True)
class Measured:
    """Seconds per image to `load` (of one core), `write` and have `opened`; bytes compared a second (`bandwidth`), and kept per
    image: on the disk (`row_bytes`) and in memory (`own_bytes`)."""

    load: float
    write: Cost
    opened: float
    bandwidth: float
    row_bytes: float
    own_bytes: float


@dataclass(frozen=True)
class Prices:
    """Euros: an assumption."""

    core_hour: float
    gpu_hour: float
    memory_month: float
    disk_month: float


def measure(images: int, loading: int) -> Measured:
    """Measure on this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="nearshot-") as directory,
        serving(Path(directory, "server"), durable=True) as server,
    ):
        load = measure_loading(Path(directory, "data"), loading)
        with Store(server.new_database(), create=True) as store:
            write, row_bytes = measure_writing(store, images)
            before = psutil.Process().memory_info().rss
            with store.reading() as catalog:
                [row] = catalog.backbones()
                began = time.perf_counter()
                vectors = open_vectors(store, catalog, row, Role.SUPPORT)
                opened = (time.perf_counter() - began) / images
            own = (psutil.Process().memory_info().rss - before) / images
            queries = normalise(np.random.default_rng(1).standard_normal((12, DIMENSION)))
            times = [timed(partial(vectors.search_labels, query[None], 10, 2)) for query in queries]
    bandwidth = images * DIMENSION * 4 / statistics.median(times[2:])
    return Measured(load, write, opened, bandwidth, row_bytes, max(own, 4.0 * DIMENSION))


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_loading(root: Path, images: int) -> float:
    """Seconds of a core to read, decode and prepare an image for lite0, 224 x 224 as for most backbones."""
    save_jpegs(root, images)
    backbone = resolve(parse_spec("lite0")).load("cpu")
    loader = Loader(lambda _, picture: prepare_safely(backbone, picture), lambda _: ["lite0"], 1 << 26)
    paths = sorted(root.rglob("*.jpg"))
    loader.load(paths[0])
    began = time.process_time()
    for path in paths:
        loader.load(path)
    return (time.process_time() - began) / len(paths)


def measure_writing(store: Store, images: int) -> tuple[Cost, float]:
    """Seconds to commit an image with its vector, how they grow, and the bytes that a row takes in the database."""
    with store.writing() as editor:
        root_id = editor.add_root("/data")
        row = editor.use_backbone(
            **{"name": "dinov2", "fingerprint": "d", "precision": "bf16", "source": "made up", "signature": "d"},
            dimension=DIMENSION,
            location=None,
        )
    spent = []
    for start, [vectors] in made_up(images, BATCH, [row]):
        began = time.perf_counter()
        numbers = range(start, start + len(vectors))
        with store.writing() as editor:
            ids = editor.add_contents(NewContent(f"{number:064x}", 7, 64, 64, "PNG") for number in numbers)
            editor.put_images(root_id, [seen(number, ids[f"{number:064x}"]) for number in numbers])
            editor.put_embeddings(
                Embedding(ids[f"{number:064x}"], row.id, vector)
                for number, vector in zip(numbers, vectors, strict=True)
            )
        spent.append((start + len(vectors), (time.perf_counter() - began) / len(vectors)))
    fifth = max(2, len(spent) // 5)
    early, late = spent[1 : 1 + fifth], spent[-fifth:]
    first, last = (statistics.median(seconds for _, seconds in part) for part in (early, late))
    sizes = [statistics.median(size for size, _ in part) for part in (early, late)]
    power = max(0.0, math.log(last / first) / math.log(sizes[1] / sizes[0]))
    with store.reading() as catalog:
        size = catalog.connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return Cost(last, sizes[1], power), size / images


def indexing(measured: Measured, images: int, machines: int) -> tuple[float, str]:
    """Hours from the first image to the last, and what holds them up in the end. One database commits for all machines."""
    steps = np.unique(np.geomspace(1000, images, 400))
    hours, bound = 0.0, ""
    for low, high in zip(np.concatenate([[0.0], steps[:-1]]), steps, strict=True):
        seconds = {
            "parsing": measured.load / (CORES * machines),
            "embedding": 1 / (EMBEDDED_ON_GPU * machines),
            "writing": measured.write(high),
        }
        bound = max(seconds, key=lambda name: seconds[name])
        hours += (high - low) * seconds[bound] / 3600
    return hours, bound


def machines_to_hold(size: float) -> int:
    """How many machines hold some bytes in three quarters of their memory."""
    return math.ceil(size / (0.75 * MEMORY))


def main() -> None:
    """Measure, and print what the model says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=int, default=50_000, help="images that are written to measure how writing grows"
    )
    parser.add_argument("--loading", type=int, default=400, help="images that are loaded")
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gpu-hour", type=float, default=2.50)
    parser.add_argument("--memory-month", type=float, default=2.50, help="euros a GiB")
    parser.add_argument("--disk-month", type=float, default=0.10, help="euros a GiB")
    given = parser.parse_args()
    prices = Prices(given.core_hour, given.gpu_hour, given.memory_month, given.disk_month)
    print(machine())
    measured = measure(given.images, given.loading)
    show_measured(measured, given.images)
    show_indexing(measured, prices)
    show_searching(measured, prices)


def show_measured(measured: Measured, images: int) -> None:
    """Print what was measured."""
    print(f"\nmeasured, at {images:,} images of {DIMENSION} dimensions in PostgreSQL")
    print(f"  read, decode, prepare: {1000 * measured.load:.2f} ms of a core per image")
    write = measured.write
    print(f"  commit: {1e6 * write.seconds:.0f} microseconds an image, growing with size ** {write.power:.3f}")
    print(
        f"  read into a service: {1e6 * measured.opened:.1f} microseconds an image, {measured.own_bytes:,.0f} bytes of memory"
    )
    print(f"  compare: {measured.bandwidth / 1e9:.1f} GB/s of vectors on {os.cpu_count()} cores")
    print(f"  on the disk: {measured.row_bytes:,.0f} bytes an image with all its rows and indexes")


def show_indexing(measured: Measured, prices: Prices) -> None:
    """Print how long indexing takes, and what it costs."""
    print(f"\nindexing with dinov2 (a machine: {CORES} cores, one H100); hours, what holds it up, euros")
    print(
        "| images |"
        + "".join(f" {count} machine{'s' * (count > 1)} |" for count in MACHINES)
        + f"\n{'| --- ' * (1 + len(MACHINES))}|"
    )
    for images in SIZES:
        cells = []
        for count in MACHINES:
            hours, bound = indexing(measured, images, count)
            euros = hours * count * (CORES * prices.core_hour + prices.gpu_hour)
            cells.append(f" {hours:,.2f} h, {bound}, {euros:,.0f} EUR |")
        print(f"| {images:,} |" + "".join(cells))


def show_searching(measured: Measured, prices: Prices) -> None:
    """Print what a million to a billion vectors take to be held and compared."""
    print("\nsearching: bytes, machines that hold them in memory, and a query; euros a month of memory and disk")
    columns = (
        "images",
        "on the disk",
        "float32, all compared",
        "read into services",
        "8 bits and HNSW",
        "float32",
        "HNSW",
    )
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    for images in SIZES:
        disk, exact, small = (
            images * each for each in (measured.row_bytes, measured.own_bytes, DIMENSION + HNSW_LINKS)
        )
        count, compressed = machines_to_hold(exact), machines_to_hold(small)
        seconds = images * DIMENSION * 4 / (measured.bandwidth * count)
        cells = (
            f"{images:,}",
            gib(disk),
            f"{gib(exact)}, {count:,} machine{'s' * (count > 1)}, {1000 * seconds:,.0f} ms",
            f"{images * measured.opened / 3600 / count:,.2f} h",
            f"{gib(small)}, {compressed:,} machine{'s' * (compressed > 1)}",
            *(f"{euros_held(memory, disk, prices):,.0f} EUR" for memory in (exact, small)),
        )
        print(f"| {' | '.join(cells)} |")


def gib(size: float) -> str:
    """A number of bytes, for people."""
    return f"{size / 2**30:,.1f} GiB"


def euros_held(memory: float, disk: float, prices: Prices) -> float:
    """Euros a month for some bytes in memory and on a disk."""
    return (memory * prices.memory_month + disk * prices.disk_month) / 2**30


if __name__ == "__main__":
    main()
