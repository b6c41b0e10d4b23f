"""Caption search: captions found by words, by the full-text index of whichever database it is."""

from __future__ import annotations

from sqlalchemy import Connection

from nearshot.schema import fts5
from nearshot.schema.editor import Editor
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.words import CaptionHit, Match


def search_captions(connection: Connection, match: Match, wanted: ImageFilter, *, limit: int) -> list[CaptionHit]:
    """Usable images whose captions match, best first by BM25; ties by image id.

    A generated caption is passed over where there is one by hand. Of several matching captions the best counts.
    """
    return fts5.search(connection, match, wanted, limit=limit)


def full_text_problem(editor: Editor) -> str | None:
    """Describe what is wrong with the full-text index, held against the captions. (It counts as a write.)"""
    return fts5.problem(editor)


def rebuild_full_text(editor: Editor) -> None:
    """Make the full-text index anew from the captions."""
    fts5.rebuild(editor)
