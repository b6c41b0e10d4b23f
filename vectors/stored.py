"""Stored vectors, checked: what the rows hold of contents, as unit vectors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.vectors import stored_vectors
from nearshot.vectors.protocol import check_unit_vectors


def checked_vectors(
    catalog: Catalog, backbone: BackboneRow, contents: NDArray[np.int64]
) -> Iterable[NDArray[np.float32]]:
    """The vectors (up to 4,096, dimension) of contents, in their order; StoreError where one is damaged or not there."""
    for part in stored_vectors(catalog, backbone, contents):
        try:
            check_unit_vectors(part, backbone.dimension)
        except ValueError as error:
            raise StoreError(f"a stored vector is damaged ({error}); run `nearshot verify --repair`") from error
        yield part
