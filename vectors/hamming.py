"""Near pairs of 64 bits: those that differ in few, without comparing all pairs. None is missed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS, PARTS = 64, 4
AT_ONCE = 256

PAIRS = 20
"""Pairs of a code with later ones at most: of ten thousand frames that show the same, not every two are told."""


def near_bits(codes: NDArray[np.uint64], most: int) -> Iterator[tuple[int, int, int]]:
    """Pairs of n codes (n,) that differ in at most `most` < 64 bits, by their numbers, the lower one first, and in how many.

    Of equal codes each is paired with the first of them alone, and of two groups of equal ones, the first ones are; of a code
    that is near to very many, the first `PAIRS` later ones. So the pairs are no more than a few for each code. One at least of
    four parts of two such codes differs in at most a fourth of `most` bits: FAISS looks up those.
    """
    distinct, first, member_of = np.unique(codes, return_index=True, return_inverse=True)
    for number, own in enumerate(first[member_of].tolist()):
        if own != number:
            yield own, number, 0
    if len(distinct) < 2:
        return
    faiss: Any = import_module("faiss")
    index = faiss.IndexBinaryMultiHash(BITS, PARTS, BITS // PARTS)
    index.nflip = most // PARTS
    packed = distinct.view(np.uint8).reshape(len(distinct), BITS // 8)
    index.add(packed)
    for start in range(0, len(distinct), AT_ONCE):
        limits, distances, others = index.range_search(packed[start : start + AT_ONCE], most + 1)
        numbers = np.repeat(np.arange(start, start + len(limits) - 1), np.diff(limits.astype(np.int64)))
        later = (others > numbers) & (distances <= most)
        numbers, others, distances = numbers[later], others[later], distances[later]
        order = np.lexsort((others, numbers))
        numbers, others, distances = numbers[order], others[order], distances[order]
        rank = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
        for each in np.flatnonzero(rank < PAIRS).tolist():
            low, high = sorted((int(first[numbers[each]]), int(first[others[each]])))
            yield low, high, int(distances[each])
