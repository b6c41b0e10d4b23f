"""Captions: what a person or a captioner wrote of a content, and the questions asked of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, exists, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from nearshot.schema import tables
from nearshot.schema.catalog import USABLE
from nearshot.schema.digests import check
from nearshot.schema.editor import Editor
from nearshot.schema.errors import UsageError
from nearshot.schema.vocabulary import Role
from nearshot.schema.words import Match, bigrams

BY_HAND = "by-hand"
"""The task of captions that a person wrote. They win over generated ones, and no captioner touches them."""

CANDIDATES = 200
"""Number of captions that are ranked: the shortest of those that hold all the words."""

MANY = 100_000
"""From how many captions on all words weigh the same, where all must occur."""

# Okapi BM25 as FTS5 has it (k1 = 1.2, b = 0.75; lower is better), and the same with an idf of 1: from how many words of a
# caption would be highlighted (each lengthens it by a full stop) and how many it has (above its id in `place`).
BM25 = ("bm25(captions_fts)", "measure")
BM25_WITHOUT_IDF = (
    "length(highlight(captions_fts, 0, '', '.')) + length(highlight(captions_fts, 1, '', '.'))"
    " - length(captions.text) - length(captions.bigrams)",
    "-measure / (measure + 1.2 * (0.25 + 0.75 * words / avg(words) OVER ()))",
)

images, captions = tables.images.c, tables.captions.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFilter:
    """Filter of images: of a category, a label, a role; None for all."""

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


class CaptionHit(NamedTuple):
    """An image whose caption matches; `snippet` marks what matched with brackets; a lower `rank` is better."""

    image_id: int
    text: str
    snippet: str
    rank: float


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


def has_captions(connection: Connection) -> bool:
    """Tell whether anything has a caption."""
    return connection.execute(select(captions.id).limit(1)).scalar() is not None


def captions_shown(connection: Connection, image_ids: Iterable[int]) -> dict[int, str]:
    """The caption to show of each image that has one: by hand if there is such, else the newest generated."""
    ids = list(image_ids)
    _check(connection, ids)
    query = (
        select(images.id, captions.text)
        .join(tables.captions, captions.content_id == images.content_id)
        .where(images.id.in_(bindparam("ids", expanding=True)))
        .order_by((captions.task == BY_HAND), captions.revision, captions.id)
    )
    return dict(map(tuple, connection.execute(query, {"ids": ids})))


def _check(connection: Connection, image_ids: Sequence[int]) -> None:
    """Raise StoreError where a caption of some images is not what was written."""
    shown = select(images.content_id).where(images.id.in_(image_ids))
    check(connection, tables.captions, captions.content_id.in_(shown))


def search_captions(connection: Connection, match: Match, wanted: ImageFilter, *, limit: int) -> list[CaptionHit]:
    """Usable images whose captions match, best first by bm25; ties by image id.

    A generated caption is passed over where there is one by hand. Of several matching captions the best counts. Two things
    keep this fast among a million captions. Where more than 200 hold all the words, bm25 ranks the 200 shortest: of captions
    that hold the same words it puts the shortest first, unless they repeat them. (The index yields the shortest first; ranking
    100,000 takes 200 ms.) And from 100,000 captions on, all words weigh the same in it, where all must occur: every candidate
    has them all, so that weights only matter to repetitions, and SQLite would count each word's captions for them in every
    query (30 ms for a word that is in 600,000).
    """
    # The clauses are fixed words; every value is a parameter. Of an image's captions, min() picks the best one's row.
    # CROSS JOIN makes SQLite walk the full-text index in its own order, and stop when it has enough.
    clauses = " AND ".join(["images.present", *wanted.clauses()])
    newest = connection.execute(select(func.max(captions.id))).scalar() or 0
    measure, score = BM25 if match.has_choice or newest < MANY else BM25_WITHOUT_IDF
    best = text(
        f"""
        WITH matching AS MATERIALIZED (
            SELECT captions_fts.rowid AS place, captions.content_id, captions.text,
            (captions_fts.rowid >> 40) + 1 AS words, {measure} AS measure
            FROM captions_fts CROSS JOIN captions ON captions.place = captions_fts.rowid
            WHERE captions_fts MATCH :expression
            AND (captions.task = :by_hand OR NOT EXISTS (
                SELECT 1 FROM captions AS own WHERE own.content_id = captions.content_id AND own.task = :by_hand))
            AND EXISTS (SELECT 1 FROM images WHERE images.content_id = captions.content_id AND {clauses})
            ORDER BY captions_fts.rowid LIMIT :candidates
        ),
        candidates AS MATERIALIZED (SELECT place, content_id, text, {score} AS score FROM matching)
        SELECT images.id AS image_id, candidates.place, candidates.text, min(candidates.score) AS score
        FROM candidates CROSS JOIN images ON images.content_id = candidates.content_id
        WHERE {clauses} GROUP BY images.id ORDER BY score, images.id LIMIT :limit
        """
    )
    candidates = -1 if match.has_choice else max(CANDIDATES, limit)
    values = {"by_hand": BY_HAND, "limit": limit, "candidates": candidates, **wanted.parameters()}
    matches = connection.execute(best, {"expression": match.expression, **values}).all()
    _check(connection, [row.image_id for row in matches])
    # Between the first place and the last, one walk; to look each place up anew takes longer than all the rest.
    marked = text(
        """
        SELECT rowid, snippet(captions_fts, 0, '[', ']', '...', 16) FROM captions_fts
        WHERE captions_fts MATCH :expression AND rowid BETWEEN :first AND :last
        AND +rowid IN (SELECT value FROM json_each(:places))
        """
    )
    places = [row.place for row in matches]
    ends = {"first": min(places, default=0), "last": max(places, default=0)}
    marks = connection.execute(marked, {"expression": match.expression, "places": json.dumps(places), **ends})
    snippets = dict(map(tuple, marks))
    return [CaptionHit(row.image_id, row.text, snippets[row.place], row.score) for row in matches]


def full_text_problem(editor: Editor) -> str | None:
    """Describe what SQLite's own check of the full-text index against the captions finds. (It counts as a write.)"""
    try:
        editor.connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts, rank) VALUES ('integrity-check', 1)")
    except DatabaseError:
        return "the full-text index differs from the captions"
    return None


def rebuild_full_text(editor: Editor) -> None:
    """Make the full-text index anew from the captions."""
    editor.connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts) VALUES ('rebuild')")
