"""Known images: what the store knows of the files under a data directory, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BindParameter, Select, bindparam, case, or_, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, DROPPED, USABLE, Catalog
from nearshot.schema.digests import intact
from nearshot.schema.images import KnownImage

images, contents = tables.images.c, tables.contents.c

_KNOWN = select(*(images[name] for name in KnownImage._fields))
_WANTED: BindParameter[Any] = bindparam("wanted", expanding=True)


def known_images(catalog: Catalog, root_id: int) -> Iterator[KnownImage]:
    """Every image ever seen under a root, in the order of ids."""
    return starmap(KnownImage, catalog.connection.execute(_KNOWN.where(images.root_id == root_id).order_by(images.id)))


def known_images_at(catalog: Catalog, root_id: int, paths: Collection[str]) -> dict[str, KnownImage]:
    """Those of some paths under a root that were ever seen, by path; of a damaged one that is gone, not what it showed."""
    told = case((or_(images.present, intact(tables.images)), images.content_id), else_=None).label("content_id")
    columns = (told if name == "content_id" else images[name] for name in KnownImage._fields)
    query = select(*columns).where(images.root_id == root_id, images.path.in_(bindparam("paths", expanding=True)))
    return {row.path: KnownImage(*row) for row in catalog.connection.execute(query, {"paths": list(paths)})}


def known_images_of(catalog: Catalog, ids: Sequence[int]) -> Iterator[KnownImage]:
    """The images of some ids."""
    return starmap(KnownImage, _of(catalog, _KNOWN.where(images.id.in_(_WANTED)), ids))


def known_images_showing(catalog: Catalog, root_id: int, content_ids: Iterable[int]) -> list[KnownImage]:
    """The present images under a root that show some contents, in the order of their paths."""
    query = _KNOWN.where(images.root_id == root_id, images.present, images.content_id.in_(_WANTED))
    return sorted(starmap(KnownImage, _of(catalog, query, sorted(content_ids))), key=lambda known: known.path)


def present_ids(catalog: Catalog, root_id: int, categories: Collection[str] = ()) -> NDArray[np.int64]:
    """Ids (n,) of the present images under a root (of some categories)."""
    query = select(images.id).where(images.root_id == root_id, images.present)
    if categories:
        query = query.where(images.category.in_(sorted(categories)))
    return np.fromiter(catalog.connection.execute(query).scalars(), dtype=np.int64)


def present_contents(catalog: Catalog, root_id: int) -> Iterator[tuple[str, int, str]]:
    """Path, content id and SHA-256 of every usable image under a root, in the order of ids."""
    query = (
        select(images.id, images.path, images.content_id, contents.sha256)
        .select_from(tables.images.outerjoin(tables.contents, contents.id == images.content_id))
        .where(USABLE, images.root_id == root_id, images.id > bindparam("last"))
        .order_by(images.id)
        .limit(CHUNK)
    )
    last = 0
    while rows := catalog.connection.execute(query, {"last": last}).all():
        for image_id, path, content_id, sha256 in rows:
            last = image_id
            yield path, content_id, sha256


def sizes_and_hashes(catalog: Catalog, content_ids: Iterable[int]) -> dict[int, tuple[int, str]]:
    """Size in bytes and SHA-256 of some contents, by id."""
    query = select(contents.id, contents.size, contents.sha256).where(contents.id.in_(_WANTED))
    rows = _of(catalog, query, sorted(set(content_ids)))
    return {content_id: (size, sha256) for content_id, size, sha256 in rows}


def hashes_dealt_with(catalog: Catalog, backbone_id: int) -> Iterator[str]:
    """The SHA-256 of every content that a backbone has dealt with, but those whose vectors were given up."""
    query = (
        select(contents.sha256)
        .select_from(tables.contents.join(tables.embeddings, tables.embeddings.c.content_id == contents.id))
        .where(tables.embeddings.c.backbone_id == backbone_id, ~DROPPED)
    )
    yield from catalog.connection.execute(query, execution_options={"yield_per": CHUNK}).scalars()


def _of(catalog: Catalog, query: Select[Any], wanted: Sequence[int]) -> Iterator[Any]:
    """The rows of a query about some ids, which are asked for a few thousand at a time."""
    for start in range(0, len(wanted), CHUNK):
        yield from catalog.connection.execute(query, {"wanted": list(wanted[start : start + CHUNK])})
