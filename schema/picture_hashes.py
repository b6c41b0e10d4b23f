"""Picture hashes as the store keeps them: of contents that somebody wanted to compare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import and_, delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, USABLE, Catalog
from nearshot.schema.digests import check
from nearshot.schema.editor import Editor

images, contents, hashes = tables.images.c, tables.contents.c, tables.picture_hashes.c

SIGNED = 1 << 63


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


def put_picture_hashes(editor: Editor, rows: Iterable[tuple[int, int | None]], rules: int) -> None:
    """Record the hashes of some contents, by id; None for those that have none."""
    values = [
        {"content_id": content_id, "hash": None if value is None else value - SIGNED, "rules": rules}
        for content_id, value in rows
    ]
    if values:
        ids = [row["content_id"] for row in values]
        for start in range(0, len(ids), CHUNK):
            editor.connection.execute(
                delete(tables.picture_hashes).where(hashes.content_id.in_(ids[start : start + CHUNK]))
            )
        editor.connection.execute(insert(tables.picture_hashes), values)


def picture_hashes(catalog: Catalog, category: str, rules: int) -> Mapping[str, int]:
    """The hashes of what usable images of a category show, by SHA-256. StoreError for a damaged row."""
    shown = select(images.content_id).where(USABLE, images.category == category)
    check(catalog.connection, tables.picture_hashes, hashes.content_id.in_(shown))
    query = (
        select(contents.sha256, hashes.hash)
        .join(tables.picture_hashes, hashes.content_id == contents.id)
        .where(contents.id.in_(shown), hashes.rules == rules, hashes.hash.is_not(None))
    )
    return {sha256: value + SIGNED for sha256, value in catalog.connection.execute(query)}
