"""Caption search: captions found by words, by the full-text index of whichever database it is."""

from __future__ import annotations

from sqlalchemy import Connection

from nearshot.schema import fts5, tsvector
from nearshot.schema.editor import Editor
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.words import CaptionHit, Match


def search_captions(connection: Connection, match: Match, wanted: ImageFilter, *, limit: int) -> list[CaptionHit]:
    """Usable images whose captions match, best first by BM25; ties by image id.

    A generated caption is passed over where there is one by hand. Of several matching captions the best counts.
    """
    search = tsvector.search if connection.dialect.name == "postgresql" else fts5.search
    return search(connection, match, wanted, limit=limit)


def full_text_problem(editor: Editor) -> str | None:
    """Describe what is wrong with the full-text index, held against the captions. (It counts as a write.)"""
    problem = tsvector.problem if editor.connection.dialect.name == "postgresql" else fts5.problem
    return problem(editor.connection)


def rebuild_full_text(editor: Editor) -> None:
    """Make the full-text index anew from the captions."""
    rebuild = tsvector.rebuild if editor.connection.dialect.name == "postgresql" else fts5.rebuild
    rebuild(editor.connection)
