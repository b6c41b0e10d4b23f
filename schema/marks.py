"""Marks as the store keeps them: of single hits, whether a person found them right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import and_, delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

marks, contents = tables.marks.c, tables.contents.c


class WordMark(NamedTuple):
    """A hit (`content_id`) of a search for words in a mode, where it stood (1 is first), and its score.

    `backbone_id` and `score` (the cosine) are None where only captions were compared.
    """

    words: str
    mode: str
    backbone_id: int | None
    content_id: int
    rank: int
    score: float | None
    right: bool


def mark_image(editor: Editor, query_id: int, content_id: int, right: bool | None, created: str) -> None:
    """Record whether a content is a right hit of a query image (a content); None takes back what was said."""
    editor.connection.execute(delete(tables.marks).where(marks.query_id == query_id, marks.content_id == content_id))
    when = {"created": created, "revision": editor.stamp}
    if right is not None:
        row = {"query_id": query_id, "content_id": content_id, "right": right}
        editor.connection.execute(insert(tables.marks).values(row | when))


def mark_words(editor: Editor, mark: WordMark, created: str, *, undo: bool = False) -> None:
    """Record a mark in the place of the one before it, or take that back."""
    same = and_(
        *(marks[name] == getattr(mark, name) for name in ("words", "mode", "content_id")),
        marks.backbone_id.is_not_distinct_from(mark.backbone_id),
    )
    editor.connection.execute(delete(tables.marks).where(same))
    when = {"created": created, "revision": editor.stamp}
    if not undo:
        editor.connection.execute(insert(tables.marks).values(mark._asdict() | when))


def image_marks(catalog: Catalog) -> Mapping[str, Mapping[str, bool]]:
    """Collect what was said of hits of query images: SHA-256 of the query, then of the hit."""
    query_contents = tables.contents.alias()
    query = (
        select(query_contents.c.sha256, contents.sha256, marks.right)
        .join(query_contents, query_contents.c.id == marks.query_id)
        .join(tables.contents, contents.id == marks.content_id)
    )
    said: dict[str, dict[str, bool]] = {}
    for asked, hit, right in catalog.connection.execute(query):
        said.setdefault(asked, {})[hit] = right
    return said


def word_marks(catalog: Catalog, mode: str, backbone_id: int | None) -> list[WordMark]:
    """The marks of searches in a mode with a backbone, by words and rank."""
    query = (
        select(*(marks[name] for name in WordMark._fields))
        .where(marks.words.is_not(None), marks.mode == mode, marks.backbone_id.is_not_distinct_from(backbone_id))
        .order_by(marks.words, marks.rank, marks.id)
    )
    return [WordMark(*row) for row in catalog.connection.execute(query)]
