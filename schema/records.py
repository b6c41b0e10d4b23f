"""Records: everything that the store knows of each usable image, to be written elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select

from nearshot.schema import tables
from nearshot.schema.catalog import USABLE, BackboneRow, Catalog
from nearshot.schema.digests import check, check_decisive
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.vectors import vectors_of
from nearshot.schema.vocabulary import BY_HAND, Role

images, contents, embeddings, captions = (
    table.c for table in (tables.images, tables.contents, tables.embeddings, tables.captions)
)
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A usable image: where it lies (`path` absolute), what it is, its content, its caption, and its vectors by backbone.

    `caption_task` is what wrote the caption. `embedded` has the fingerprint of each backbone that has a vector of it;
    `vectors` the vectors (dimension,) float32, where they were asked for.
    """

    path: str
    category: str
    role: Role
    label: str | None
    shot: str | None
    sha256: str
    size: int
    width: int
    height: int
    image_format: str
    caption: str | None
    caption_task: str | None
    embedded: Mapping[str, str]
    vectors: Mapping[str, NDArray[np.float32]]


def image_records(
    catalog: Catalog, backbones: Collection[BackboneRow], wanted: ImageFilter, *, with_vectors: bool
) -> Iterator[ImageRecord]:
    """The usable images that are wanted, in the order of their paths, whatever the order of indexing."""
    columns = (
        *(tables.roots.c.path + "/" + images.path, images.category, images.role, images.label, images.shot),
        *(contents.sha256, contents.size, contents.width, contents.height, contents.format),
    )
    query = (
        select(images.content_id, *columns)
        .join(tables.roots, tables.roots.c.id == images.root_id)
        .join(tables.contents, contents.id == images.content_id)
        .where(USABLE, *(getattr(images, name) == value for name, value in wanted.parameters().items()))
        .order_by(tables.roots.c.path, images.path)
    )
    check_decisive(catalog.connection)
    check(catalog.connection, tables.images)
    result = catalog.connection.execute(query, execution_options={"yield_per": CHUNK})
    for rows in result.partitions():
        ids = sorted({row[0] for row in rows})
        said = _captions(catalog, ids)
        seen = {row.name: _vectors(catalog, row, ids, with_vectors=with_vectors) for row in backbones}
        for content_id, path, category, role, label, shot, sha256, size, width, height, image_format in rows:
            embedded = {row.name: row.fingerprint for row in backbones if content_id in seen[row.name]}
            vectors = {name: vector for name in embedded if (vector := seen[name][content_id]) is not None}
            caption, task = said.get(content_id, (None, None))
            yield ImageRecord(
                path=path,
                category=category,
                role=Role(role),
                label=label,
                shot=shot,
                sha256=sha256,
                size=size,
                width=width,
                height=height,
                image_format=image_format,
                caption=caption,
                caption_task=task,
                embedded=embedded,
                vectors=vectors,
            )


def _captions(catalog: Catalog, ids: list[int]) -> dict[int, tuple[str, str]]:
    query = (
        select(captions.content_id, captions.text, captions.task)
        .where(captions.content_id.in_(bindparam("ids", expanding=True)))
        .order_by((captions.task == BY_HAND), captions.revision, captions.id)
    )
    return {content_id: (words, task) for content_id, words, task in catalog.connection.execute(query, {"ids": ids})}


def _vectors(
    catalog: Catalog, row: BackboneRow, ids: list[int], *, with_vectors: bool
) -> dict[int, NDArray[np.float32] | None]:
    """Find the contents that a backbone has a vector of, with the vectors if they are wanted."""
    if with_vectors:
        return dict(vectors_of(catalog, row, ids))
    query = select(embeddings.content_id).where(
        embeddings.backbone_id == row.id,
        embeddings.vector.is_not(None),
        embeddings.content_id.in_(bindparam("ids", expanding=True)),
    )
    return dict.fromkeys(catalog.connection.execute(query, {"ids": ids}).scalars())
