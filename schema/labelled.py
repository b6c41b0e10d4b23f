"""Labelled vectors: one backbone's vectors of a category's images of one role, with what is known of each image."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, or_, select

from nearshot.schema import tables
from nearshot.schema.catalog import USABLE, BackboneRow, Catalog, as_vectors
from nearshot.schema.digests import check_images, stored_vector
from nearshot.schema.vocabulary import Role

images, contents, embeddings = tables.images.c, tables.contents.c, tables.embeddings.c


class LabelledVectors(NamedTuple):
    """n images in the order of their paths, whatever the order of indexing: paths under their roots, labels (of queries the
    true ones, None where unknown), shots, SHA-256 of their contents, and unit vectors (n, dimension) float32.
    """

    paths: tuple[str, ...]
    labels: tuple[str | None, ...]
    shots: tuple[str | None, ...]
    hashes: tuple[str, ...]
    vectors: NDArray[np.float32]


def labelled_vectors(
    catalog: Catalog,
    backbone: BackboneRow,
    category: str,
    role: Role,
    *,
    label: str | None = None,
    with_vectors: bool = True,
) -> LabelledVectors:
    """Everything of a category and role (and label) that a backbone has a vector of.

    `vectors` is (n, 0) where they are not wanted.
    """
    check_images(catalog.connection, category, catalog.revision())
    embedded = and_(embeddings.content_id == images.content_id, embeddings.backbone_id == backbone.id)
    vector = [images.id, stored_vector()] if with_vectors else []
    query = (
        select(images.path, images.label, images.shot, contents.sha256, *vector)
        .select_from(tables.images.join(tables.embeddings, embedded))
        .join(tables.contents, contents.id == images.content_id)
        .join(tables.roots, tables.roots.c.id == images.root_id)
        .where(USABLE, images.category == category, images.role == role, embeddings.vector.is_not(None))
        .order_by(images.path, tables.roots.c.path)
    )
    if label is not None:
        query = query.where(images.label == label)
    rows = [tuple(row) for row in catalog.connection.execute(query)]
    paths, labels, shots, hashes = (tuple(row[column] for row in rows) for column in range(4))
    vectors = np.zeros((len(rows), 0), dtype=np.float32)
    if with_vectors:
        vectors = as_vectors([row[4:] for row in rows], backbone.dimension).vectors
    return LabelledVectors(paths, labels, shots, hashes, vectors)


def small_images(catalog: Catalog, category: str, least: int) -> list[tuple[str, int, int]]:
    """Usable images of a category with a side of fewer pixels than `least`: path, width and height."""
    query = (
        select(images.path, contents.width, contents.height)
        .join(tables.contents, contents.id == images.content_id)
        .where(USABLE, images.category == category, or_(contents.width < least, contents.height < least))
        .order_by(images.path)
    )
    return [(path, width, height) for path, width, height in catalog.connection.execute(query)]


def support_digest(catalog: Catalog, backbone: BackboneRow, category: str) -> str:
    """A digest of a category's support set as a backbone has seen it: labels, shots and contents."""
    support = labelled_vectors(catalog, backbone, category, Role.SUPPORT, with_vectors=False)
    support_images = sorted(zip(map(str, support.labels), map(str, support.shots), support.hashes, strict=True))
    return hashlib.sha256(json.dumps(support_images).encode()).hexdigest()
