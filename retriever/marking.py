"""Marking: what people say of single hits, taken down for `retriever.stopping`."""

from __future__ import annotations

from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.marks import WordMark, mark_image, mark_words
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Mode


def mark_hit(store: Store, query_id: int, hit_id: int, right: bool | None) -> None:
    """Record whether an image is a right hit of an indexed query image, both by id; None takes back what was said.

    Raises UsageError where either is not indexed, or both show the same.
    """
    with store.writing() as editor:
        query, hit = _content(editor, query_id), _content(editor, hit_id)
        if query == hit:
            raise UsageError("an image is no hit of itself")
        mark_image(editor, query, hit, right, utc_now())


def mark_result(
    store: Store,
    query: str,
    mode: Mode,
    hit_id: int,
    right: bool | None,
    *,
    rank: int,
    backbone: str | None = None,
    score: float | None = None,
) -> None:
    """Record whether an image is a right result of words in a mode, where it stood at a rank (1 is best), with a cosine by a
    backbone where images were compared; None takes back what was said.

    Raises UsageError for an image or a backbone that is not indexed, for words that say nothing, and for the mode `auto`.
    """
    words = " ".join(query.split())
    if not words:
        raise UsageError("a mark needs the words that were searched for")
    if mode == Mode.AUTO:
        raise UsageError("a mark needs the mode that was taken: captions, image or hybrid")
    if (backbone is None) != (mode == Mode.CAPTIONS) or (mode == Mode.IMAGE and score is None):
        raise UsageError("a mark needs the backbone that images were compared by, and in mode image the cosine")
    with store.writing() as editor:
        rows = {row.name: row.id for row in editor.backbones()}
        if backbone is not None and backbone not in rows:
            raise UsageError(f"nothing is indexed with {backbone}; take {' or '.join(rows) or 'none'}")
        row_id = rows[backbone] if backbone is not None else None
        mark = WordMark(words, mode.value, row_id, _content(editor, hit_id), rank, score, bool(right))
        mark_words(editor, mark, utc_now(), undo=right is None)


def _content(catalog: Catalog, image_id: int) -> int:
    content_id = catalog.content_of(image_id)
    if content_id is None:
        raise UsageError(f"there is no image {image_id}")
    return content_id
