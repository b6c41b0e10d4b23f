"""The allocator: what glibc does with memory that is freed. Elsewhere nothing is changed."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_LARGEST_KEPT, _KEPT_IN_ALL = 128 << 20, 512 << 20
"""Bytes. Larger activations are taken from the system and given back, each time; without a bound the heap grows in holes."""


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what a forward pass frees for the next one.

    It would give activations back to the system and take them again as new pages, which the kernel clears: about a tenth
    of an index run with CLIP ViT-B/32 (benchmarks/README.md).
    """
    _set(_MMAP_THRESHOLD, _LARGEST_KEPT)
    _set(_TRIM_THRESHOLD, _KEPT_IN_ALL)


@cache
def share_one_heap() -> None:
    """Have threads that come take from the heaps that there are what others have freed.

    By itself glibc gives each a heap of its own, which keeps what it freed: while 200 clients sent files that decode within
    64 MiB, a service grew by 52 to 168 MiB; by 49 to 94 since it makes no more heaps.
    """
    _set(_ARENA_MAX, 1)


def _set(parameter: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(parameter, value)
