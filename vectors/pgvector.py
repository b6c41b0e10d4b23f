"""The database as a nominator: pgvector compares, and nothing is read into this process. For a question or two: all is compared
for each, and a service that reads the vectors once answers twenty times as fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import OutdatedError
from nearshot.schema.pgvector import nearest_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.nominated import CHANGED
from nearshot.vectors.nominator import Reading, Wanted
from nearshot.vectors.protocol import Neighbours


class Pgvector:
    """The images of a backbone and role, for as long as none of them has changed."""

    most = 1 << 31

    def __init__(self, backbone: BackboneRow, role: Role) -> None:
        self._backbone, self._role = backbone, role

    def near(self, reading: Reading, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each query. OutdatedError where any image has changed: one that went away is no longer named."""
        limits = range(wanted.first, wanted.last)
        answers = []
        with reading() as (catalog, newer):
            if len(newer):
                raise OutdatedError(CHANGED)
            for query in queries:
                ids, scores = nearest_images(
                    catalog,
                    self._backbone,
                    self._role,
                    query,
                    k,
                    category=wanted.category,
                    label=wanted.label,
                    but=wanted.but,
                    ids=None if limits == range(Wanted().first, Wanted().last) else limits,
                )
                answers.append(Neighbours(ids, np.clip(scores, -1, 1)))
        return answers

    def require_same(self, store: Store) -> None:
        """What was named was looked at when it was."""
