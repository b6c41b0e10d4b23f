"""The oracle: a vector store in plain NumPy, slow and exact, that the others are held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.vectors.protocol import Neighbours, check_new_ids, check_unit_vectors, nearest


class ExactStore:
    """Unit vectors in one array, every one of them scored for every query."""

    def __init__(self, dimension: int) -> None:
        self._ids = np.empty(0, dtype=np.int64)
        self._vectors = np.empty((0, dimension), dtype=np.float32)

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return int(self._vectors.shape[1])

    def __len__(self) -> int:
        """Return the number of vectors it holds."""
        return len(self._ids)

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.sort(self._ids)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors under new ids."""
        check_unit_vectors(vectors, self.dimension)
        check_new_ids(ids, vectors, self._ids)
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove some ids."""
        kept = ~np.isin(self._ids, ids)
        self._ids, self._vectors = self._ids[kept], self._vectors[kept]
        return int(np.count_nonzero(~kept))

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors under some ids."""
        position = {int(image_id): row for row, image_id in enumerate(self._ids)}
        return self._vectors[[position[int(image_id)] for image_id in ids]]

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The nearest vectors of each query."""
        check_unit_vectors(queries, self.dimension)
        return [nearest(query, self._ids, self._vectors, k) for query in queries]
