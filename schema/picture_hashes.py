"""Picture hashes as the store keeps them: of contents that somebody wanted to compare."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, USABLE, Catalog
from nearshot.schema.digests import check
from nearshot.schema.editor import Editor

images, contents, hashes = tables.images.c, tables.contents.c, tables.picture_hashes.c


def unhashed(catalog: Catalog, categories: Collection[str], rules: int) -> list[tuple[int, str]]:
    """The contents that usable images of some categories show and that have no hash by these rules: id and SHA-256."""
    own = and_(hashes.content_id == contents.id, hashes.rules == rules)
    shown = select(images.content_id).where(USABLE, images.category.in_(sorted(categories)))
    query = (
        select(contents.id, contents.sha256)
        .outerjoin(tables.picture_hashes, own)
        .where(contents.id.in_(shown), hashes.content_id.is_(None))
        .order_by(contents.id)
    )
    return [(content_id, sha256) for content_id, sha256 in catalog.connection.execute(query)]


def put_picture_hashes(editor: Editor, rows: Iterable[tuple[int, bytes | None]], rules: int) -> None:
    """Record the hashes of some contents, by id; None for those that have none."""
    values = [{"content_id": content_id, "frequencies": value, "rules": rules} for content_id, value in rows]
    if values:
        ids = [row["content_id"] for row in values]
        for start in range(0, len(ids), CHUNK):
            editor.connection.execute(
                delete(tables.picture_hashes).where(hashes.content_id.in_(ids[start : start + CHUNK]))
            )
        editor.connection.execute(insert(tables.picture_hashes), values)


def picture_hashes(catalog: Catalog, category: str, rules: int) -> tuple[list[str], NDArray[np.int8]]:
    """The SHA-256 of what usable images of a category show, ascending, and the hashes (n, 64). StoreError for a damaged row."""
    shown = select(images.content_id).where(USABLE, images.category == category)
    check(catalog.connection, tables.picture_hashes, hashes.content_id.in_(shown))
    query = (
        select(contents.sha256, hashes.frequencies)
        .join(tables.picture_hashes, hashes.content_id == contents.id)
        .where(contents.id.in_(shown), hashes.rules == rules, hashes.frequencies.is_not(None))
        .order_by(contents.sha256)
    )
    known, values = [], bytearray()
    for sha256, frequencies in catalog.connection.execute(query):
        known.append(sha256)
        values += frequencies
    return known, np.frombuffer(bytes(values), dtype=np.int8).reshape(len(known), -1 if known else 64)
