"""The gallery: indexed images with all that is known of them, one or a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from nearshot.schema import tables
from nearshot.schema.captions import captions_shown
from nearshot.schema.catalog import USABLE, Catalog
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.images import Shown
from nearshot.schema.vocabulary import Role

images, contents, roots = tables.images.c, tables.contents.c, tables.roots.c

NEAR = 50_000
"""Ids among which a page of images is looked for first."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """An indexed image with its content: SHA-256, pixels, the format it came in; and the caption to show, if it has one."""

    image: Shown
    sha256: str
    width: int
    height: int
    format: str
    caption: str | None


def pictured(catalog: Catalog, image_id: int) -> Pictured | None:
    """A usable image by id; None where there is none."""
    return next(iter(_pictured(catalog, _usable().where(images.id == image_id))), None)


def list_pictured(catalog: Catalog, wanted: ImageFilter, *, after: int, limit: int) -> list[Pictured]:
    """Usable images by ascending id, from the first after one on."""
    named = {"role": [role.value for role in Role]} | {name: [value] for name, value in wanted.parameters().items()}
    ids: list[int] = []
    if wanted.category is None or wanted.label is None:  # most often they are near, and nothing need be sorted
        unindexed = [(images[name] + "").in_(values) for name, values in named.items()]
        near = select(images.id).where(images.id > after, images.id <= after + NEAR, USABLE, *unindexed)
        ids = _first(catalog, near, limit)
    if len(ids) < limit:
        clauses = [images[name].in_(values) for name, values in named.items()]
        ids = _first(catalog, select(images.id).where(images.id > after, USABLE, *clauses), limit)
    return _pictured(catalog, _usable().where(images.id.in_(ids)).order_by(images.id))


def _first(catalog: Catalog, query: Select[Any], limit: int) -> list[int]:
    return list(catalog.connection.execute(query.order_by(images.id).limit(limit)).scalars())


def _usable() -> Select[Any]:
    image_columns = (images.id, roots.path, images.path, images.category, images.role, images.label, images.shot)
    return (
        select(*image_columns, contents.sha256, contents.width, contents.height, contents.format)
        .select_from(tables.images.join(tables.roots, roots.id == images.root_id))
        .join(tables.contents, contents.id == images.content_id)
        .where(USABLE)
    )


def _pictured(catalog: Catalog, query: Select[Any]) -> list[Pictured]:
    rows = [tuple(row) for row in catalog.connection.execute(query)]
    captions = captions_shown(catalog.connection, [row[0] for row in rows])
    pictures = []
    for image_id, root, path, category, role, label, shot, sha256, width, height, image_format in rows:
        shown = Shown(image_id, f"{root}/{path}", category, Role(role), label, shot)
        pictures.append(Pictured(shown, sha256, width, height, image_format, captions.get(image_id)))
    return pictures
