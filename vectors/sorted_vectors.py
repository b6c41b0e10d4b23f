"""Vectors in the order of their groups, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.segment_file import products
from nearshot.schema.segments import Group, LabelSpans


class SortedVectors(Protocol):
    """Vectors of a backbone and role under ids (n,), in the order of their groups, within one by id."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids (n,)."""

    @property
    def groups(self) -> Sequence[Group]:
        """Whose they are, by category and label, without a gap from 0 to n."""

    @property
    def labels(self) -> LabelSpans:
        """The labels among its groups."""

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        """The vectors (last - first, dimension), which were checked."""

    def pick(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) in some rows (n,), which were checked, and no others."""

    def scores(self, first: int, last: int, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products (q, last - first) of queries (q, dimension) with vectors, which were checked, as float32 sums them."""


class InMemory:
    """Vectors that are in memory, in the order that a segment has them."""

    def __init__(self, ids: NDArray[np.int64], groups: Sequence[Group], vectors: NDArray[np.float32]) -> None:
        self.ids, self.groups, self._vectors = ids, groups, vectors

    @cached_property
    def labels(self) -> LabelSpans:
        """The labels among its groups."""
        return LabelSpans.of(self.groups)

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        """The vectors (last - first, dimension)."""
        return self._vectors[first:last]

    def pick(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) in some rows (n,)."""
        return self._vectors[rows]

    def scores(self, first: int, last: int, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products (q, last - first) of queries (q, dimension) with vectors, as float32 sums them."""
        return products(queries, self._vectors[first:last])
