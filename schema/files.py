"""Files: where the bytes of a content lie."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from sqlalchemy import select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, Catalog
from nearshot.schema.errors import AwayError, UsageError
from nearshot.schema.paths import AnyPath, path_of, read_file, resolved


def files_of(catalog: Catalog, hashes: Collection[str]) -> dict[str, list[AnyPath]]:
    """The present files that show some contents, by SHA-256, in the order of their paths."""
    images, contents, roots = tables.images.c, tables.contents.c, tables.roots.c
    joined = (
        select(contents.sha256, roots.path, images.path)
        .select_from(tables.images.join(tables.contents, contents.id == images.content_id))
        .join(tables.roots, roots.id == images.root_id)
        .where(images.present)
        .order_by(images.path, roots.path)
    )
    paths_by_hash: dict[str, list[AnyPath]] = {}
    wanted = sorted(set(hashes))
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        for sha256, root, path in catalog.connection.execute(joined.where(contents.sha256.in_(chunk))):
            paths_by_hash.setdefault(sha256, []).append(path_of(root) / path)
    return paths_by_hash


def read_indexed(catalog: Catalog, file: AnyPath) -> tuple[AnyPath, bytes, str, int | None]:
    """A file's absolute path, bytes, SHA-256 and content id (None where it is not indexed); UsageError where there are none."""
    path = resolved(file)
    try:
        data = read_file(path)
    except AwayError:
        raise
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    content = catalog.content(sha256)
    return path, data, sha256, content.id if content else None


def find_image_id(catalog: Catalog, file: AnyPath) -> int:
    """The id of an indexed file, by its path, else by its content; UsageError where it is not indexed as it is now."""
    path, _, _, content_id = read_indexed(catalog, file)
    placed = catalog.images_of(content_id) if content_id is not None else []
    if not placed:
        raise UsageError(f"{file} is not indexed as it is now; run `nearshot index`")
    return next((image.id for image in placed if f"{image.root}/{image.path}" == str(path)), placed[0].id)


def read_content(files: Collection[AnyPath], sha256: str, *, tells: bool = False) -> bytes | None:
    """The bytes of a content from the first of its files that still holds them; None where none does.

    AwayError, where it is to tell, for one in a store of objects that does not answer.
    """
    away: AwayError | None = None
    for path in files:
        try:
            data = read_file(path)
        except AwayError as error:
            away = error
        except OSError:
            continue
        else:
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
    if tells and away is not None:
        raise away
    return None
