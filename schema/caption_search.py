"""Caption search: captions found by words, by the full-text index of whichever database it is."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, func, select

from nearshot.schema import fts5, tables, tsvector
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.words import CaptionHit, Match

CANDIDATES = 200
"""Number of captions that are ranked: the shortest of those that hold all the words."""

MANY = 100_000
"""From how many captions on all words weigh the same, where all must occur."""


def search_captions(connection: Connection, match: Match, wanted: ImageFilter, *, limit: int) -> list[CaptionHit]:
    """Usable images whose captions match, best first by BM25; ties by image id.

    A generated caption is passed over where there is one by hand. Of several matching captions the best counts. Two things
    keep this fast among a million captions. Where more than 200 hold all the words, BM25 ranks the 200 shortest: of captions
    that hold the same words it puts the shortest first, unless they repeat them. And from 100,000 captions on, all words weigh
    the same in it, where all must occur: every candidate has them all, so that weights only matter to repetitions, and each
    word's captions would have to be counted in every query (in SQLite 30 ms for a word that is in 600,000).
    """
    newest = connection.execute(select(func.max(tables.captions.c.id))).scalar() or 0
    weighed = match.has_choice or newest < MANY
    most = None if match.has_choice else max(CANDIDATES, limit)
    return _full_text(connection).search(connection, match, wanted, limit=limit, weighed=weighed, most=most)


def full_text_problem(catalog: Catalog) -> str | None:
    """Describe what is wrong with the full-text index, held against the captions. (In SQLite it counts as a write.)"""
    return _full_text(catalog.connection).problem(catalog.connection)


def rebuild_full_text(editor: Editor) -> None:
    """Make the full-text index anew from the captions."""
    _full_text(editor.connection).rebuild(editor.connection)


class _FullText(Protocol):
    """An index of captions: `schema.fts5` and `schema.tsvector`."""

    def search(
        self, connection: Connection, match: Match, wanted: ImageFilter, *, limit: int, weighed: bool, most: int | None
    ) -> list[CaptionHit]: ...
    def problem(self, connection: Connection) -> str | None: ...
    def rebuild(self, connection: Connection) -> None: ...


def _full_text(connection: Connection) -> _FullText:
    return tsvector if connection.dialect.name == "postgresql" else fts5
