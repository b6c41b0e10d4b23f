"""Nominators: what names, elsewhere than in this process, the images that may be nearest; their rows say what they score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import Catalog
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


class Nominator(Protocol):
    """Names the images of a backbone and role whose vectors are nearest to a query, by its own float32 sums.

    `most` is how many it names at a time. Any number of threads may ask.
    """

    most: int

    def near(self, catalog: Catalog, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each of some unit queries (n, dimension), by descending score; fewer only where there are no more.

        Which of those that tie with the last are among them is left open.
        """

    def require_same(self, catalog: Catalog) -> None:
        """Raise OutdatedError where what it names is no longer of the state that it was opened for."""
