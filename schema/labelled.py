"""Labelled vectors: one backbone's vectors of a category's images of one role, with what is known of each image."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, USABLE, BackboneRow, Catalog
from nearshot.schema.digests import check_images
from nearshot.schema.spill import gathered
from nearshot.schema.texts import Texts
from nearshot.schema.vectors import stored_vectors
from nearshot.schema.vocabulary import Role

images, contents, embeddings = tables.images.c, tables.contents.c, tables.embeddings.c


class LabelledVectors(NamedTuple):
    """n images in the order of their paths, whatever the order of indexing: paths under their roots, labels (of queries the
    true ones, None where unknown), shots, SHA-256 of their contents, and unit vectors (n, dimension) float32: of many
    images these are mapped from a file (`schema.spill`), and not to be written to.
    """

    paths: Sequence[str]
    labels: Sequence[str | None]
    shots: Sequence[str | None]
    hashes: Sequence[str]
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
    has = select(embeddings.content_id).where(
        embeddings.content_id == images.content_id,
        embeddings.backbone_id == backbone.id,
        embeddings.vector.is_not(None),
    )
    query = (
        select(images.path, images.label, images.shot, contents.sha256, images.content_id)
        .select_from(tables.images.join(tables.contents, contents.id == images.content_id))
        .join(tables.roots, tables.roots.c.id == images.root_id)
        .where(USABLE, images.category == category, images.role == role, has.exists())
        .order_by(images.path, tables.roots.c.path)
    )
    if label is not None:
        query = query.where(images.label == label)
    paths, hashes, shots = Texts[str](), Texts[str](), Texts[str | None]()
    labels, content_ids = [], array("q")
    once: dict[str | None, str | None] = {}  # a label is said of many images
    for row in catalog.connection.execute(query, execution_options={"yield_per": CHUNK}):
        paths.append(row.path)
        labels.append(once.setdefault(row.label, row.label))
        shots.append(row.shot)
        hashes.append(row.sha256)
        content_ids.append(row.content_id)
    vectors = np.zeros((len(paths), 0), dtype=np.float32)
    if with_vectors:  # not in the query above: it would sort them
        contents_in_order = np.array(content_ids, dtype=np.int64)
        vectors = gathered(stored_vectors(catalog, backbone, contents_in_order), len(paths), backbone.dimension)
    return LabelledVectors(paths, labels, shots, hashes, vectors)


def image_ids(catalog: Catalog, category: str, role: Role) -> dict[str, int]:
    """The ids of a category's usable images of a role by their paths; of several at one path, the first."""
    query = (
        select(images.path, func.min(images.id))
        .where(USABLE, images.category == category, images.role == role)
        .group_by(images.path)
    )
    return dict(map(tuple, catalog.connection.execute(query)))


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
    return digest_of_support(labelled_vectors(catalog, backbone, category, Role.SUPPORT, with_vectors=False))


def digest_of_support(support: LabelledVectors) -> str:
    """The digest of a support set that was read."""
    digest = hashlib.sha256()
    for part in json_parts(sorted(zip(map(str, support.labels), map(str, support.shots), support.hashes, strict=True))):
        digest.update(part)
    return digest.hexdigest()


def json_parts(items: Iterable[Any]) -> Iterator[bytes]:
    """What `json.dumps` makes of a list, a few thousand items at a time: of a million it would be a text of 150 MB."""
    yield b"["
    rest, between = iter(items), ""
    while chunk := list(islice(rest, CHUNK)):
        yield (between + json.dumps(chunk)[1:-1]).encode()
        between = ", "
    yield b"]"
