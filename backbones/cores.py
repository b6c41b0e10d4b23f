"""Cores: forward passes on the CPU take all of them, and loading threads wait for the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_free = threading.Event()
_free.set()


@contextmanager
def all_cores_taken() -> Iterator[None]:
    """Keep loading threads away: a core taken from one thread of a forward pass stops all, since they wait for each other."""
    _free.clear()
    try:
        yield
    finally:
        _free.set()


def wait_for_cores() -> None:
    """Let a loading thread wait for the end of a forward pass on the CPU; the main thread, which may run it, never waits."""
    if threading.current_thread() is not threading.main_thread():
        _free.wait()


def number_of_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
