"""Protocol of a vector store: unit vectors under image ids, searched by cosine."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-5
"""More than float32 sums of a unit vector's few thousand products can be off."""


class Neighbours(NamedTuple):
    """The nearest vectors of one query: ids (n,) int64 and cosines (n,) float32, descending; ties by ascending id."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class VectorStore(Protocol):
    """Unit vectors under unique ids.

    Every store gives the very answers of `vectors.exact.ExactStore`, whatever the order in which the vectors came and where
    they lie: a score depends on its two vectors alone. Any number of threads may ask at once. A query that is not finite or
    not of length 1 (within 1e-3) and a dimension that differs are a ValueError.
    """

    @property
    def dimension(self) -> int:
        """The length of its vectors."""

    def __len__(self) -> int:
        """Return the number of vectors it holds."""

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) under some ids; KeyError for an id that it does not hold."""

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The k nearest vectors of each of the unit queries (n, dimension), and all that tie with the last of them.

        Fewer where there are fewer. Scores lie within [-1, 1].
        """


def check_unit_vectors(vectors: NDArray[np.float32], dimension: int) -> None:
    """Raise ValueError unless vectors are (n, dimension), finite and of length 1."""
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise ValueError(f"expected vectors of dimension {dimension}, got an array of shape {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1.0) < 1e-3):  # written so that a NaN fails too
        raise ValueError("expected finite vectors of length 1")


def nearest(query: NDArray[np.float32], ids: NDArray[np.int64], vectors: NDArray[np.float32], k: int) -> Neighbours:
    """Score vectors (n, dimension) under ids (n,) against a query (dimension,), and keep the k best and their ties."""
    return best(ids, exact_scores(query, vectors), k)


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines (n,) of a query (dimension,) with vectors (n, dimension).

    Products are summed in float64, row by row: no other row, and no order of rows, can change a score. Rounding may pass
    1, so scores are clipped.
    """
    exact = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    scores: NDArray[np.float32] = np.clip(exact, -1.0, 1.0).astype(np.float32)
    return scores


def best(ids: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Neighbours:
    """The k best of some scores (n,) under ids (n,), and those that tie with the last of them."""
    order = np.lexsort((ids, -scores))
    kept = order[: int(np.count_nonzero(scores >= scores[order[k - 1]]))] if k < len(order) else order
    return Neighbours(ids[kept], scores[kept])
