"""Nearest vectors by pgvector: where the rows are the index, the database can be asked, and nothing be read into memory."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Double, literal, select, tuple_

from nearshot.migrations.columns import VectorBytes
from nearshot.schema import tables
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.vocabulary import Role

images, embeddings = tables.images.c, tables.embeddings.c


def nearest_images(
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    query: NDArray[np.float32],
    k: int,
    *,
    category: str | None = None,
    label: str | None = None,
    but: Collection[tuple[str, str | None]] = (),
    ids: range | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and cosines (up to k,), by descending cosine, of the usable images of a role that are nearest to a unit query
    (dimension,). All are compared; the sums are pgvector's, of float32.

    They are of a category, of a label, of none of some labels (`but`: then of some other label), among some `ids`.
    """
    vector = literal(query.astype("<f4").tobytes(), VectorBytes())
    distance: ColumnElement[float] = embeddings.vector.op("<#>", return_type=Double())(vector)
    wanted = {images.category: category, images.label: label}
    statement = (
        select(images.id, distance)
        .join(tables.embeddings, embeddings.content_id == images.content_id)
        .where(
            embeddings.backbone_id == backbone.id, embeddings.vector.is_not(None), images.role == role, images.present
        )
        .where(*(own == name for own, name in wanted.items() if name is not None))
        .order_by(distance)
        .limit(k)
    )
    if but:
        named = [name for name in but if name[1] is not None]
        statement = statement.where(images.label.is_not(None), tuple_(images.category, images.label).not_in(named))
    if ids is not None:
        statement = statement.where(images.id >= ids.start, images.id < ids.stop)
    rows = catalog.connection.execute(statement).all()
    return (
        np.array([image_id for image_id, _ in rows], dtype=np.int64),
        np.array([-distance for _, distance in rows], dtype=np.float32),
    )
