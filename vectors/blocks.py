"""Blocks: many unit vectors, those that are alike together, so that near pairs are found without comparing all pairs.

Blocks are around centres that k-means finds. A vector is compared with those of the blocks whose centres are nearest to it: of
how many is chosen so that neighbours are found, which is measured on a sample of the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.ann import RECALL
from nearshot.vectors.protocol import ROUNDING

TRAINED_BY = 40
"""Vectors a block that k-means is trained by; FAISS warns of fewer than 39."""

ROUNDS = 8
"""Rounds of k-means."""

AT_ONCE = 16_384
"""Vectors that are compared with a sample at a time."""

WORKED = 4 << 20
"""Cosines that are worked on at a time."""

NEAR_BLOCKS = 2
"""Blocks that a vector is compared with for those that are nearly the same."""

SAMPLE, NEIGHBOURS = 200, 10
"""Vectors, evenly over all, and nearest ones of each, that recall is measured by."""

Numbers = NDArray[np.int64]


class Compared(NamedTuple):
    """Some queries (q,) by number, the vectors (n,) that they were compared with, ascending, and their cosines (q, n)."""

    queries: Numbers
    vectors: Numbers
    scores: NDArray[np.float32]


class Blocks:
    """Unit vectors (n, dimension) in twice the square root of n blocks; the same ones for the same vectors."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        faiss: Any = import_module("faiss")
        self._vectors = vectors
        count = min(len(vectors), max(1, round(2 * len(vectors) ** 0.5)))
        sample = np.linspace(0, len(vectors) - 1, min(len(vectors), count * TRAINED_BY)).astype(np.int64)
        kmeans = faiss.Kmeans(vectors.shape[1], count, niter=ROUNDS, spherical=True, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(vectors[sample]))
        self._centres: NDArray[np.float32] = kmeans.centroids
        block_of = self._nearest(vectors, 1)[:, 0]
        bounds = np.cumsum(np.bincount(block_of, minlength=count))[:-1]
        self._members = np.split(np.argsort(block_of, kind="stable"), bounds)
        self._block_of = block_of

    def _nearest(self, vectors: NDArray[np.float32], reach: int) -> NDArray[np.int32]:
        """The blocks (n, reach) whose centres are nearest to unit vectors (n, d), in no order."""
        reach = min(reach, len(self._centres))
        nearest = np.empty((len(vectors), reach), dtype=np.int32)
        together = max(1, WORKED // len(self._centres))
        for start in range(0, len(vectors), together):
            scores = vectors[start : start + together] @ self._centres.T
            nearest[start : start + together] = (
                scores.argmax(axis=1)[:, None] if reach == 1 else np.argpartition(-scores, reach - 1, axis=1)[:, :reach]
            )
        return nearest

    @cached_property
    def reach(self) -> int:
        """The number of blocks that a vector is to be compared with so that the recall@10 is 0.99, as the sample tells."""
        vectors = self._vectors
        asked = np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))
        k = min(NEIGHBOURS, len(vectors) - 1)
        if not k:
            return 1
        best = np.full((len(asked), 0), -np.inf, dtype=np.float32)
        rows = np.zeros((len(asked), 0), dtype=np.int64)
        for start in range(0, len(vectors), AT_ONCE):
            scores = vectors[asked] @ vectors[start : start + AT_ONCE].T
            inside = np.flatnonzero((asked >= start) & (asked < start + scores.shape[1]))
            scores[inside, asked[inside] - start] = -np.inf
            numbers = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
            best, rows = np.concatenate([best, scores], axis=1), np.concatenate([rows, numbers], axis=1)
            kept = np.argpartition(-best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
            best, rows = np.take_along_axis(best, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
        to_centres = vectors[asked] @ self._centres.T
        theirs = np.take_along_axis(to_centres, self._block_of[rows].astype(np.int64), axis=1)
        nearer = (to_centres[:, None, :] > theirs[:, :, None]).sum(
            axis=2
        )  # blocks that are nearer than the neighbour's
        places = np.sort(nearer.ravel())
        return int(places[int(np.ceil(RECALL * len(places))) - 1]) + 1

    def compare(self, reach: int, queries: NDArray[np.float32] | None = None) -> Iterator[Compared]:
        """Every query (None: the vectors themselves) with the vectors of so many blocks: a block, and those who ask it, at a
        time. A query comes up to `reach` times, each time with others.
        """
        asking = self._vectors if queries is None else queries
        nearest = self._nearest(asking, reach)
        order = np.argsort(nearest, axis=None, kind="stable")
        bounds = np.searchsorted(nearest.ravel()[order], np.arange(len(self._centres) + 1))
        for block, others in enumerate(self._members):
            asked = order[bounds[block] : bounds[block + 1]] // nearest.shape[1]
            held = self._vectors[others]
            together = max(1, WORKED // max(1, len(others)))
            for start in range(0, len(asked) if len(others) else 0, together):
                few = asked[start : start + together]
                yield Compared(few, others, asking[few] @ held.T)


def near_pairs(
    vectors: NDArray[np.float32], least: float, queries: NDArray[np.float32] | None = None
) -> Iterator[tuple[int, Numbers]]:
    """Queries (None: the vectors themselves) by number, ascending, with the vectors whose cosine may be `least` or more.

    Vectors that are nearly the same lie in one block or, where that ends, in the two that are nearest to both.
    """
    asked, near = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for compared in Blocks(vectors).compare(NEAR_BLOCKS, queries):
        rows, columns = np.divmod(np.flatnonzero(compared.scores >= least - ROUNDING), len(compared.vectors))
        asked.append(compared.queries[rows])
        near.append(compared.vectors[columns])
    order = np.lexsort((np.concatenate(near), np.concatenate(asked)))
    numbers, firsts = np.unique(np.concatenate(asked)[order], return_index=True)
    yield from (
        zip(numbers.tolist(), np.split(np.concatenate(near)[order], firsts[1:]), strict=True) if len(numbers) else ()
    )
