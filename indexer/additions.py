"""Additions: an image that came by another way than the data directory is put into it, as a query, and indexed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import NamedTuple

from nearshot.backbones.decode import decode
from nearshot.backbones.protocol import Backbone
from nearshot.indexer.intents import finish_intents, is_whole, take_away
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.catalog import Catalog
from nearshot.schema.contract import ADDED, QUERY_DIRECTORY
from nearshot.schema.errors import AwayError, NearshotError, UsageError
from nearshot.schema.feedback import feedback_in_force
from nearshot.schema.gallery import pictured
from nearshot.schema.intents import Intent, Planned, drop_intent, is_planned, plan
from nearshot.schema.paths import (
    AnyPath,
    delete_file,
    is_directory,
    is_file,
    make_directories,
    named,
    path_of,
    write_file,
)
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Action, Role

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
SUFFIXES |= {"HEIF": ".heic", "AVIF": ".avif"}


class Added(NamedTuple):
    """An image that was added: its id, and whether it was not there before."""

    image_id: int
    is_new: bool


def add_query(
    store: Store, data: bytes, category: str, options: IndexOptions, *, ready: Mapping[str, Backbone]
) -> Added:
    """Write an encoded image into a category's queries and index it. What is a query there already stays as it is.

    The file is named by its content alone. Raises ImageError where it is none, UsageError where the category is not indexed,
    and what an index run raises: then the file is gone again. One call at a time.
    """
    image_format = decode(data, max_pixels=options.max_pixels).image_format
    suffix = SUFFIXES.get(image_format)
    if suffix is None:
        raise UsageError(f"images that come as {image_format} cannot be added; take {', '.join(sorted(SUFFIXES))}")
    sha256 = hashlib.sha256(data).hexdigest()
    with store.reading() as catalog:
        if (known := _query_of(catalog, sha256, category)) is not None:
            return Added(known, is_new=False)
        root = _root_of(catalog, category)
    if not is_directory(root / category):
        raise UsageError(f"{root / category} is not there; nothing can be added to it")
    directory = root / category / QUERY_DIRECTORY / ADDED
    file = directory / f"{sha256[:32]}{suffix}"
    finish_intents(store)
    while (intent := _write(store, data, file, sha256=sha256, root=root, category=category)) is None:
        pass
    try:
        for _ in IndexRun(store, root, options, ready=ready):
            pass
    except BaseException:
        with suppress(NearshotError, OSError), store.writing() as editor:
            delete_file(file)  # what was refused must not come in with the next run
            drop_intent(editor, intent)
        raise
    with store.reading() as catalog:
        added = _query_of(catalog, sha256, category)
    if added is None:
        raise UsageError(f"{file} could not be indexed; `nearshot status` says why")
    return Added(added, is_new=True)


def remove_query(store: Store, image_id: int) -> str:
    """Take an image that was added out of its data directory and out of the index; the path that it had.

    Raises UsageError where it was not added, where it was made a shot or a negative, and where it cannot be deleted.
    """
    finish_intents(store)
    with store.writing() as editor:
        known = pictured(editor, image_id)
        if known is None or known.image.role != Role.QUERY or PurePosixPath(known.image.path).parent.name != ADDED:
            raise UsageError("only an image that was added can be removed; delete others from their data directory")
        image, content = known.image, editor.content(known.sha256)
        assert content is not None, "an image that is usable has a content"
        if any(feedback_in_force(editor, content.id, image.category, action) for action in Action):
            raise UsageError(f"{image.path} was labelled or rejected; take that back first")
        [root_id] = [each.root_id for each in editor.images_of(content.id) if each.id == image_id]
        intent = plan(
            editor,
            Planned.REMOVE,
            path=image.path,
            sha256=known.sha256,
            root_id=root_id,
            category=image.category,
            content_id=content.id,
            created=utc_now(),
        )
    try:
        with store.writing() as editor:
            if is_planned(editor, intent):  # else another command has finished it
                take_away(editor, intent)
    except AwayError:
        raise
    except OSError as error:
        raise UsageError(
            f"cannot delete {image.path}: {error.strerror or error}; the next command tries again"
        ) from error
    return image.path


def _write(store: Store, data: bytes, file: AnyPath, *, sha256: str, root: AnyPath, category: str) -> Intent | None:
    """Write an image into a data directory, which an intent tells of until it is indexed; None where the intent was dropped."""
    with store.writing() as editor:
        root_id = editor.add_root(named(root))
        details = {"path": str(file), "sha256": sha256, "root_id": root_id, "category": category, "created": utc_now()}
        intent = plan(editor, Planned.ADD, **details)
    try:
        with store.writing() as editor:
            if not is_planned(editor, intent):
                return None
            make_directories(file.parent.parent, file.parent)
            write_file(file, data)
    except FileExistsError:  # as a cut-off upload left it, or another store over the same data wrote it
        if is_whole(file, sha256):
            return intent
        with suppress(NearshotError), store.writing() as editor:
            drop_intent(editor, intent)
        raise UsageError(f"{file} is there, and is another image") from None
    except OSError as error:
        with suppress(NearshotError), store.writing() as editor:
            drop_intent(editor, intent)
        if isinstance(error, AwayError):
            raise
        raise UsageError(f"cannot write into {file.parent}: {error.strerror or error}") from error
    return intent


def _query_of(catalog: Catalog, sha256: str, category: str) -> int | None:
    """The first query of a category that shows a content."""
    content = catalog.content(sha256)
    placed = catalog.images_of(content.id) if content else []
    shown = catalog.shown([image.id for image in placed if image.category == category])
    queries = [
        image_id for image_id, image in shown.items() if image.role == Role.QUERY and is_file(path_of(image.path))
    ]
    return min(queries, default=None)


def _root_of(catalog: Catalog, category: str) -> AnyPath:
    """The data directory that holds a category: of several, the one that was indexed first."""
    for root_id, path in sorted(catalog.roots().items()):
        if catalog.has_images(root_id, category):
            return path_of(path)
    raise UsageError(f"no category '{category}' is indexed; make it a directory, and run `nearshot index`")
