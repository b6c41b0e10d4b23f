"""Deciding: one query against many labels, warm, by every score; and how calibrating and evaluating grow.

    python -m benchmarks.decide [--labels 10000] [--shots 10] [--dimension 1280] [--queries 10000]

The store is filled with made-up vectors: a direction per label, and noise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from benchmarks.evaluate import CLI, fill
from benchmarks.material import machine
from nearshot.retriever.choose_backbone import choose_row
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.searcher import Searcher
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import write_segments

ASKED = 50


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("labels", 10_000), ("shots", 10), ("dimension", 1280), ("queries", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=count)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as directory:
        decide(Path(directory), arguments)
    for queries in (arguments.queries // 5, arguments.queries):
        with tempfile.TemporaryDirectory() as directory:
            with Store(Path(directory), create=True) as store:
                fill(store, "c", 100, 10, queries, seed=0, dimensions={"lite0": arguments.dimension})
            for command in ("calibrate", "evaluate"):
                seconds, peak = run([sys.executable, str(CLI), command, "--store", directory])
                what = f"nearshot {command}, {queries:,} queries x 1,000 shots"
                print(f"{what}: {seconds:.2f} s, at most {peak:,.0f} MiB", flush=True)


def run(command: list[str]) -> tuple[float, float]:
    """Seconds and the peak of resident memory in MiB of a command, by its own `VmHWM`."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(OSError):
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peak = int(line.split()[1])
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - started, peak / 1024


def decide(directory: Path, arguments: argparse.Namespace) -> None:
    """Answer queries one by one by a searcher that is open."""
    labels, shots, dimension = arguments.labels, arguments.shots, arguments.dimension
    print(
        f"{labels:,} labels x {shots} shots x {dimension} dimensions; statistics: {labels * dimension * 8 / 2**20:,.0f} MiB"
    )
    chance = np.random.default_rng(1)
    queries = normalise(chance.normal(size=(ASKED, dimension)))
    with Store(directory, create=True) as store:
        fill(store, "c", labels, shots, 0, seed=0, dimensions={"lite0": dimension})
        with store.reading() as catalog:
            row, _ = choose_row(catalog, "lite0", ["c"])
        write_segments(store, [row])
        for score in Score:
            options = QueryOptions(category="c", score=score)
            before, started = psutil.Process().memory_info().rss, time.perf_counter()
            with store.reading() as catalog:
                searcher = Searcher(store, catalog, *choose_row(catalog, "lite0", ["c"]), options)
            opened = time.perf_counter() - started
            started = time.perf_counter()
            with store.reading() as catalog:
                searcher = Searcher(store, catalog, *choose_row(catalog, "lite0", ["c"]), options)
            again = time.perf_counter() - started
            searcher.answer("warm", queries[:1], options)
            times, search = [], []
            for query in queries:
                started = time.perf_counter()
                [hits] = searcher.search(query[None], options)
                searched = time.perf_counter()
                searcher.decide("q", query[None], hits, options)
                times.append(time.perf_counter() - searched)
                search.append(searched - started)
            held = (psutil.Process().memory_info().rss - before) / 2**20
            decided, late, sought = (1000 * value for value in (*np.quantile(times, (0.5, 0.95)), np.median(search)))
            print(
                f"{score.value:<10} decide {decided:6.1f} ms (p95 {late:.1f}), search {sought:6.1f} ms; "
                f"opened in {opened:.2f} s, again in {again:.2f} s, holds {held:,.0f} MiB",
                flush=True,
            )
            del searcher


if __name__ == "__main__":
    main()
