"""The oracle: a vector store in plain NumPy, slow and exact, that the others are held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.vectors.protocol import Neighbours, check_unit_vectors, nearest


class ExactStore:
    """Unit vectors (n, dimension) under unique ids (n,), every one of them scored for every query."""

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._ids, self._vectors = ids, vectors

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

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors under some ids."""
        position = {int(image_id): row for row, image_id in enumerate(self._ids)}
        return self._vectors[[position[int(image_id)] for image_id in ids]]

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The nearest vectors of each query."""
        check_unit_vectors(queries, self.dimension)
        return [nearest(query, self._ids, self._vectors, k) for query in queries]
