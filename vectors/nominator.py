"""Nominators: what names, elsewhere than in this process, the images that may be nearest; their rows say what they score."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import Catalog
from nearshot.schema.store import Store
from nearshot.vectors.protocol import Neighbours

LabelName = tuple[str, str | None]
"""A category, and a label of it (None: of images without one)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images count: of a category and label (None: of any), `but` of some labels, with ids from `first` up to `last`."""

    category: str | None = None
    label: str | None = None
    but: frozenset[LabelName] = frozenset()
    first: int = 0
    last: int = (1 << 63) - 1

    def has(self, name: LabelName) -> bool:
        """Tell whether images of a category and label count."""
        category, label = name
        named = self.category in (None, category) and self.label in (None, label)
        return named and name not in self.but and (label is not None or not self.but)


Reading = Callable[[], AbstractContextManager[tuple[Catalog, NDArray[np.int64]]]]
"""Gives a state of the database, and the images of the role (and category) that have changed since the one that is meant."""


class Nominator(Protocol):
    """Names the images of a backbone and role whose vectors are nearest to a query, by its own float32 sums.

    `most` is how many it names at a time. Any number of threads may ask.
    """

    most: int

    def near(self, reading: Reading, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each of some unit queries (n, dimension), by descending score in [-1, 1]; fewer only where there are
        no more. Which of those that tie with the last are among them is left open.
        """

    def require_same(self, store: Store) -> None:
        """Raise OutdatedError where what was named until now is not of the state that it was opened for."""
