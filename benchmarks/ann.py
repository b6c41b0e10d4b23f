"""Approximate indexes: how long they take to build, what they find, and how fast, against FAISS by hand and all vectors.

    python -m benchmarks.ann STORE [--kind ivf] [--role support]

STORE is one of many vectors, such as `benchmarks.growth --keep` leaves; its indexes are replaced. By hand: `index.search` of
the very file, and the products of the rows that it names. Queries are some of the vectors, and a tenth of noise.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.material import machine
from nearshot.schema.ann import ann_rows, choose_ann
from nearshot.schema.segments import segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Ann, Role
from nearshot.vectors.ann import asked_for
from nearshot.vectors.ann_indexes import write_ann_indexes
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import open_segments, open_vectors
from nearshot.vectors.sweeping import sweep

QUERIES, K = 200, 10


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--kind", type=Ann, default=Ann.IVF)
    parser.add_argument("--role", type=Role, default=Role.SUPPORT)
    arguments = parser.parse_args()
    print(machine())
    with Store(arguments.store) as store:
        with store.reading() as catalog:
            row = catalog.backbones()[0]
        with store.writing() as editor:
            choose_ann(editor, row.id, Ann.NONE)
            choose_ann(editor, row.id, arguments.kind)
        started = time.perf_counter()
        for built in write_ann_indexes(store, [row]):
            print(f"{built.kind} of {built.vectors:,} {built.role} vectors: {built.in_words()}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"built in {time.perf_counter() - started:.1f} s, peak {peak:,.0f} MiB, of which much is mapped")
        sweep(store)
        with store.reading() as catalog:
            vectors = open_vectors(store, catalog, row, arguments.role)
            chain = open_segments(store, catalog, row, arguments.role)
            [record, *_] = segment_rows(catalog, row.id)[row.id, arguments.role]
            recorded = ann_rows(catalog)[record.id]
        chance = np.random.default_rng(0)
        held = chain.segments[0]
        own = held.pick(chance.integers(0, len(held.ids), QUERIES))
        queries = normalise(own + 0.1 * normalise(chance.standard_normal(own.shape)))
        faiss: Any = import_module("faiss")
        index = faiss.read_index(str(store.segment_directory / recorded.file), faiss.IO_FLAG_MMAP_IFC)
        parameters = (
            faiss.SearchParametersIVF(nprobe=recorded.effort)
            if arguments.kind == Ann.IVF
            else faiss.SearchParametersHNSW(efSearch=max(recorded.effort, asked_for(K)))
        )

        def by_hand(number: int) -> None:
            query = np.zeros((1, index.d), dtype=np.float32)
            query[0, : row.dimension] = queries[number]
            rows = index.search(query, asked_for(K), params=parameters)[1][0]
            scores = held.pick(rows) @ queries[number]
            rows[np.argsort(-scores)[:K]]

        ways: dict[str, Callable[[int], object]] = {
            "by hand": by_hand,
            "nearshot": lambda number: vectors.search_near(queries[number][None], K),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in [*range(QUERIES)] * 2:  # the first time, pages of the file become those of the process
            for name, way in sorted(ways.items(), reverse=number % 2 == 1):
                started = time.perf_counter()
                way(number)
                times[name].append(time.perf_counter() - started)
        medians = {name: 1000 * float(np.median(each[QUERIES:])) for name, each in times.items()}
        started = time.perf_counter()
        exact = vectors.search(queries, K)
        batch = 1000 * (time.perf_counter() - started) / QUERIES
        near = vectors.search_near(queries, K)
        hits = [len(np.intersect1d(a.ids, b.ids[:K])) for a, b in zip(near, exact, strict=True)]
        alone = []
        for number in range(20):
            started = time.perf_counter()
            vectors.search(queries[number][None], K)
            alone.append(time.perf_counter() - started)
        print(
            f"median ms a query: by hand {medians['by hand']:.2f}, nearshot {medians['nearshot']:.2f} "
            f"(ratio {medians['nearshot'] / medians['by hand']:.2f}); all vectors {1000 * float(np.median(alone)):.1f}, "
            f"{batch:.1f} in one product of {QUERIES}; of their ten nearest {np.mean(hits) / K:.4f} were named"
        )


if __name__ == "__main__":
    main()
