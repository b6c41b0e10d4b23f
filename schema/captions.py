"""Captions: what a person or a captioner wrote of a content, and the questions asked of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, exists, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from schema import tables
from schema.catalog import USABLE
from schema.editor import Editor
from schema.images import Role
from schema.words import bigrams

BY_HAND = "by-hand"
"""The task of captions that a person wrote. They win over generated ones, and no captioner touches them."""

images, captions = tables.images.c, tables.captions.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFilter:
    """Which images are meant: of a category, a label, a role; None for all."""

    category: str | None = None
    label: str | None = None
    role: Role | None = None

    def clauses(self) -> list[str]:
        """SQL conditions on the table `images`, with parameters named like the fields."""
        return [f"images.{name} = :{name}" for name in self.parameters()]

    def parameters(self) -> dict[str, str]:
        """The fields that are set."""
        wanted = {"category": self.category, "label": self.label, "role": self.role}
        return {name: str(value) for name, value in wanted.items() if value is not None}


class Uncaptioned(NamedTuple):
    """A content to be captioned, by one of the images that show it."""

    content_id: int
    path: str
    sha256: str


class CaptionHit(NamedTuple):
    """An image whose caption matches; `snippet` marks what matched with brackets; a lower `rank` is better."""

    image_id: int
    text: str
    snippet: str
    rank: float


def uncaptioned(
    connection: Connection, task: str, wanted: ImageFilter, *, redo: bool = False, limit: int | None = None
) -> list[Uncaptioned]:
    """Contents that lack a caption of a task and one by hand, newest image first; with `redo`, all without one by hand."""
    by_hand = exists().where(captions.content_id == images.content_id, captions.task == BY_HAND)
    done = exists().where(captions.content_id == images.content_id, captions.task == task)
    newest = (
        select(func.max(images.id))
        .where(USABLE, ~by_hand, *(() if redo else (~done,)))
        .where(*(getattr(images, name) == value for name, value in wanted.parameters().items()))
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
    """Record what a task wrote of contents (id, text), in the place of what it wrote before."""
    for content_id, caption in rows:
        facts = {"text": caption, "bigrams": bigrams(caption), "fingerprint": fingerprint, "created": created}
        key = (captions.content_id == content_id, captions.task == task)
        known = editor.connection.execute(select(captions.id).where(*key)).scalar()
        if known is None:
            new = {"content_id": content_id, "task": task, **facts, "revision": editor.stamp}
            editor.connection.execute(insert(tables.captions).values(new))
        else:
            editor.connection.execute(update(tables.captions).where(*key).values(**facts, revision=editor.stamp))


def captions_of(connection: Connection, content_ids: Iterable[int]) -> dict[int, str]:
    """The caption to show of each content: by hand if there is one, else the newest generated."""
    query = (
        select(captions.content_id, captions.text)
        .where(captions.content_id.in_(bindparam("ids", expanding=True)))
        .order_by((captions.task == BY_HAND), captions.id)
    )
    return dict(map(tuple, connection.execute(query, {"ids": list(content_ids)})))


def search_captions(connection: Connection, expression: str, wanted: ImageFilter, *, limit: int) -> list[CaptionHit]:
    """Usable images whose captions match an FTS5 expression, best first; ties by image id.

    A generated caption is passed over where there is one by hand. Of several matching captions the best counts.
    """
    # The clauses are fixed words; every value is a parameter. Of an image's captions, min() picks the best one's row.
    best = text(
        f"""
        WITH matching AS MATERIALIZED (
            SELECT rowid AS caption_id, bm25(captions_fts) AS score FROM captions_fts WHERE captions_fts MATCH :expression
        )
        SELECT images.id AS image_id, matching.caption_id, captions.text, min(matching.score) AS score
        FROM matching JOIN captions ON captions.id = matching.caption_id
        JOIN images ON images.content_id = captions.content_id
        WHERE {" AND ".join(["images.present", *wanted.clauses()])}
        AND (captions.task = :by_hand OR NOT EXISTS (
            SELECT 1 FROM captions AS own WHERE own.content_id = captions.content_id AND own.task = :by_hand))
        GROUP BY images.id ORDER BY score, images.id LIMIT :limit
        """
    )
    values = {"expression": expression, "by_hand": BY_HAND, "limit": limit, **wanted.parameters()}
    found = connection.execute(best, values).all()
    marked = text(
        "SELECT rowid, snippet(captions_fts, 0, '[', ']', '...', 16) FROM captions_fts "
        "WHERE captions_fts MATCH :expression AND rowid IN :ids"
    ).bindparams(bindparam("ids", expanding=True))
    ids = {row.caption_id for row in found}
    snippets = dict(map(tuple, connection.execute(marked, {"expression": expression, "ids": list(ids)})))
    return [CaptionHit(row.image_id, row.text, snippets[row.caption_id], row.score) for row in found]


def full_text_problem(editor: Editor) -> str | None:
    """What SQLite's own check of the full-text index against the captions finds. (It counts as a write.)"""
    try:
        editor.connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts, rank) VALUES ('integrity-check', 1)")
    except DatabaseError:
        return "the full-text index differs from the captions"
    return None


def rebuild_full_text(editor: Editor) -> None:
    """Make the full-text index anew from the captions."""
    editor.connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts) VALUES ('rebuild')")
