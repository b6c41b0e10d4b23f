"""A process that speaks with a Ray cluster for another one, which `indexer.ray_cluster` is in.

Ray ends a process whose cluster is gone, writes to its standard error, and lets none go that still waits for it: so it gets one
of its own. Ray Data runs the actors, starts those anew that die, and does again what was lost with them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from nearshot.indexer.ray_worker import RayWorker, Refused, Setup

CPUS = 0.5
"""Cores that an actor reserves: with all of a node's taken, Ray has none for what brings it work, and waits for ever
(ray #44687)."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster has: GPUs, the cores of each node, and where its head listens."""

    gpus: int
    cores: tuple[int, ...]
    head: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Work:
    """Rows for `RayWorker`, what these work for, and how many there are to be."""

    setup: Setup
    rows: tuple[Mapping[str, Any], ...]
    actors: int


DONE = "done"
"""What is said when all rows were sent back."""


def main() -> None:
    """Take an address, then work; say what the cluster has, then what became of each row, or `Refused`."""
    connection: Connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # whoever asked has gone
        try:
            serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except BaseException as error:
            connection.send(Refused(_told(error)))


def serve(connection: Connection) -> None:
    """Answer one question."""
    address: str = connection.recv()
    ray: Any = import_module("ray")
    import_module("ray.data")
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    cores = tuple(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    connection.send(Resources(int(ray.cluster_resources().get("GPU", 0)), cores, (host.strip("[]"), int(port))))
    work: Work = connection.recv()
    # What counts is on this machine's own node: it goes when the run does, and not before.
    strategies: Any = import_module("ray.util.scheduling_strategies")
    here = strategies.NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
    tries = ray.remote(Tries).options(num_cpus=0, scheduling_strategy=here).remote()
    dataset = ray.data.from_items(list(work.rows), override_num_blocks=len(work.rows)).map(
        RayWorker,
        fn_constructor_args=(work.setup, partial(_begin, tries)),
        compute=ray.data.ActorPoolStrategy(size=min(len(work.rows), work.actors)),
        num_cpus=CPUS,
        num_gpus=0.5 if work.setup.device.startswith("cuda") else 0,
    )
    for row in dataset.iter_rows():
        connection.send((int(row["number"]), row["answer"]))
    connection.send(DONE)


class Tries:
    """Counts by number."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """How often a number was begun, this time included."""
        self._counts[number] = self._counts.get(number, 0) + 1
        return self._counts[number]


def _begin(tries: Any, number: int) -> int:
    ray: Any = import_module("ray")
    return int(ray.get(tries.begin.remote(number)))


def _told(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
