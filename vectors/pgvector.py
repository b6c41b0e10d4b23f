"""The database as a nominator: pgvector compares, and nothing is read into this process. For a question or two: all is compared
for each, and a service that reads the vectors once answers twenty times as fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import OutdatedError
from nearshot.schema.pgvector import nearest_images
from nearshot.schema.segments import touched
from nearshot.schema.vocabulary import Role
from nearshot.vectors.nominator import Wanted
from nearshot.vectors.protocol import Neighbours


class Pgvector:
    """The images of a backbone and role, as the catalog's state has them."""

    most = 1 << 31

    def __init__(self, catalog: Catalog, backbone: BackboneRow, role: Role) -> None:
        self._backbone, self._role, self._revision = backbone, role, catalog.revision()

    def near(self, catalog: Catalog, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each query."""
        limits = range(wanted.first, wanted.last)
        ids = None if limits == range(Wanted().first, Wanted().last) else limits
        return [
            Neighbours(
                *nearest_images(
                    catalog,
                    self._backbone,
                    self._role,
                    query,
                    k,
                    category=wanted.category,
                    label=wanted.label,
                    but=wanted.but,
                    ids=ids,
                )
            )
            for query in queries
        ]

    def require_same(self, catalog: Catalog) -> None:
        """OutdatedError where any image of the role has changed: one that went away meanwhile is no longer named."""
        if len(touched(catalog, self._backbone, self._role, self._revision)):
            raise OutdatedError("the store has changed meanwhile; ask again")
