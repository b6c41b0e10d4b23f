"""Indexing on two Ray nodes of this machine, a core each, against the same run without Ray on both cores.

    python -m benchmarks.on_ray [--images 512] [--backbone clip ...] [--rounds 2]

The rate counts from the first batch that is committed to the fourth from the end: what Ray takes to start is told apart, and so
is the whole, in which one node waits for the other at the end. Weights are full-size and random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 32}

import torch
from ray.cluster_utils import Cluster

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.store import Store

UNWINDING = 4
"""Batches at the end that are left out of the rate: two for each node."""


def index(root: Path, options: IndexOptions) -> tuple[float, float, float]:
    """Index into a new store: images a second after the first batch, the seconds until then, models loaded, and all seconds."""
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True) as store:
        run = iter(IndexRun(store, root, options))
        next(run)
        began = time.perf_counter()
        done = [(progress.done, time.perf_counter()) for progress in run]
    (first, started), (last, ended) = done[0], done[-1 - UNWINDING]
    return (last - first) / (ended - started), started - began, done[-1][1] - began


def main() -> None:
    """Index with and without, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", dest="backbones", nargs="*", default=["clip", "resnet50", "dinov2"])
    arguments = parser.parse_args()
    print(machine())
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as directory:
        weights, root = Path(directory, "weights"), Path(directory, "data")
        save_weights(weights)
        save_jpegs(root, arguments.images)
        here = IndexOptions(backbones=tuple(arguments.backbones), weights=weights, device="cpu")
        ratios = []
        for _ in range(arguments.rounds):
            plain, _, alone = index(root, here)
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            try:
                cluster.add_node(num_cpus=1)
                torch.set_num_threads(1)  # as many as a node has cores
                there, started, together = index(root, replace(here, ray=str(cluster.address)))
            finally:
                torch.set_num_threads(threads)
                cluster.shutdown()
            ratios.append(there / plain)
            print(
                f"{', '.join(arguments.backbones)}: without Ray {plain:.2f} images/s, on two nodes {there:.2f}, "
                f"ratio {ratios[-1]:.2f}; the first batch after {started:.1f} s; all in {alone:.0f} and {together:.0f} s",
                flush=True,
            )
        print(f"ratio, median: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
