"""Files: where the bytes of a content lie."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, Catalog


def files_of(catalog: Catalog, hashes: Collection[str]) -> dict[str, list[Path]]:
    """The present files that show some contents, by SHA-256, in the order of their paths."""
    images, contents, roots = tables.images.c, tables.contents.c, tables.roots.c
    joined = (
        select(contents.sha256, roots.path, images.path)
        .select_from(tables.images.join(tables.contents, contents.id == images.content_id))
        .join(tables.roots, roots.id == images.root_id)
        .where(images.present)
        .order_by(images.path, roots.path)
    )
    found: dict[str, list[Path]] = {}
    wanted = sorted(set(hashes))
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        for sha256, root, path in catalog.connection.execute(joined.where(contents.sha256.in_(chunk))):
            found.setdefault(sha256, []).append(Path(root) / path)
    return found


def read_content(files: Collection[Path], sha256: str) -> bytes | None:
    """The bytes of a content from the first of its files that still holds them; None where none does."""
    for path in files:
        with suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
    return None
