"""Captions: what a person or a captioner wrote of a content, and what is to be shown of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from nearshot.schema import tables, tsvector
from nearshot.schema.catalog import USABLE
from nearshot.schema.digests import check_captions
from nearshot.schema.editor import Editor
from nearshot.schema.errors import UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.vocabulary import BY_HAND
from nearshot.schema.words import bigrams

images, captions = tables.images.c, tables.captions.c


def require_some(connection: Connection, wanted: ImageFilter) -> None:
    """Raise UsageError where something is asked for that no image has."""
    named = wanted.parameters()
    own = [getattr(images, name) == value for name, value in named.items()]
    if not own or connection.execute(select(images.id).where(USABLE, *own).limit(1)).scalar() is not None:
        return
    told = " and ".join(f"{name} '{value}'" for name, value in named.items())
    query = select(images.category).where(USABLE).distinct().order_by(images.category)
    there = ", ".join(connection.execute(query).scalars()) or "none"
    raise UsageError(f"no image is indexed with {told}; the categories are {there}")


class Uncaptioned(NamedTuple):
    """A content to be captioned, by one of the images that show it."""

    content_id: int
    path: str
    sha256: str


def uncaptioned(
    connection: Connection,
    task: str,
    wanted: ImageFilter,
    *,
    categories: Collection[str] = (),
    redo: bool = False,
    limit: int | None = None,
) -> list[Uncaptioned]:
    """Contents that lack a caption of a task and one by hand, newest image first; with `redo`, all without one by hand.

    With `categories`, of these alone.
    """
    by_hand = exists().where(captions.content_id == images.content_id, captions.task == BY_HAND)
    done = exists().where(captions.content_id == images.content_id, captions.task == task)
    newest = (
        select(func.max(images.id))
        .where(USABLE, ~by_hand, *(() if redo else (~done,)))
        .where(*(getattr(images, name) == value for name, value in wanted.parameters().items()))
        .where(*([images.category.in_(sorted(categories))] if categories else []))
        .group_by(images.content_id)
        .scalar_subquery()
    )
    query = (
        select(images.content_id, tables.roots.c.path + "/" + images.path, tables.contents.c.sha256)
        .join(tables.roots, tables.roots.c.id == images.root_id)
        .join(tables.contents, tables.contents.c.id == images.content_id)
        .where(images.id.in_(newest))
        .order_by(images.id.desc())
        .limit(limit)
    )
    return [Uncaptioned(*row) for row in connection.execute(query)]


def put_captions(
    editor: Editor, rows: Iterable[tuple[int, str]], *, task: str, fingerprint: str | None, created: str
) -> None:
    """Record what a task wrote of contents (id, text), in the place of what it wrote before. Of one content the last counts."""
    written: dict[int, dict[str, Any]] = {
        content_id: {
            **{"text": words, "bigrams": bigrams(words), "fingerprint": fingerprint, "created": created},
            "revision": editor.stamp,
        }
        for content_id, words in rows
    }
    own = (captions.task == task, captions.content_id.in_(bindparam("ids", expanding=True)))
    known = set(editor.connection.execute(select(captions.content_id).where(*own), {"ids": list(written)}).scalars())
    # By length, as the full-text index keeps them: it would write a segment of its own for each that comes out of order.
    new = sorted(written.keys() - known, key=lambda content_id: (written[content_id]["text"].count(" "), content_id))
    if new:
        rows_to_add = [{"content_id": content_id, "task": task, **written[content_id]} for content_id in new]
        editor.connection.execute(insert(tables.captions), rows_to_add)
    if known:
        key = (captions.content_id == bindparam("known_id"), captions.task == task)
        values: dict[str, Any] = {name: bindparam(name) for name in next(iter(written.values()))}
        editor.connection.execute(
            update(tables.captions).where(*key).values(values),
            [{"known_id": content_id, **written[content_id]} for content_id in sorted(known)],
        )
    if editor.connection.dialect.name == "postgresql":
        tsvector.keep(editor.connection, list(written), task)


def has_captions(connection: Connection) -> bool:
    """Tell whether anything has a caption."""
    return connection.execute(select(captions.id).limit(1)).scalar() is not None


def captions_shown(connection: Connection, image_ids: Iterable[int]) -> dict[int, str]:
    """The caption to show of each image that has one: by hand if there is such, else the newest generated."""
    ids = list(image_ids)
    check_captions(connection, ids)
    query = (
        select(images.id, captions.text)
        .join(tables.captions, captions.content_id == images.content_id)
        .where(images.id.in_(bindparam("ids", expanding=True)))
        .order_by((captions.task == BY_HAND), captions.revision, captions.id)
    )
    return dict(map(tuple, connection.execute(query, {"ids": ids})))
