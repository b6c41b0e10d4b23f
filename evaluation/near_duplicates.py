"""Near duplicates: all pairs of unit vectors that are nearly the same, without comparing all pairs.

Where two unit vectors have a cosine of c or more, they are at most sqrt(2 - 2 c) apart, and so are their projections on any few
orthogonal directions. A tree over these finds who may be so near; only those are compared. Nothing is missed.

Where there are many vectors, few directions tell little: only those of neighbouring blocks are compared (`vectors.blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from nearshot.retriever.scores import DECIMALS, cosines
from nearshot.vectors.blocks import near_pairs

DIRECTIONS = 12
"""Dimensions of the tree: more tell more apart, and slow it down."""

SAMPLE = 2000
"""Vectors that the directions of most variance are found by."""

AT_ONCE = 512

MANY = 50_000
"""Vectors from which on they are compared by blocks."""


def near_duplicates(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], least: float
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """For each of unit queries (q, d) that has some, in order: its number, and the unit vectors (n, d) whose cosine with it
    is `least` or more, ascending, with their cosines.
    """
    if not len(queries) or not len(vectors):
        return
    candidates = (
        near_pairs(vectors, least, None if queries is vectors else queries)
        if len(vectors) > MANY
        else _close(queries, vectors, least)
    )
    for number, numbers in candidates:
        near = cosines(queries[number][None], vectors[numbers])[0]
        same = near >= least
        if same.any():
            yield number, numbers[same], near[same]


def _close(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], least: float
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The queries' numbers that have some, and the vectors, ascending, that may be so near."""
    sample = vectors[:: -(-len(vectors) // SAMPLE)].astype(np.float64)
    directions = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)[2][:DIRECTIONS].T
    tree = KDTree(vectors.astype(np.float64) @ directions)
    apart = np.sqrt(2 - 2 * (least - 10.0**-DECIMALS)) + 1e-6  # cosines are rounded, and projections are
    for start in range(0, len(queries), AT_ONCE):
        few = queries[start : start + AT_ONCE]
        close = tree.query_ball_point(few.astype(np.float64) @ directions, apart, return_sorted=True)
        for number, candidates in enumerate(close, start=start):
            if candidates:
                yield number, np.array(candidates, dtype=np.int64)
