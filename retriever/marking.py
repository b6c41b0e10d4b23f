"""Marking: what people say of single hits, taken down for `retriever.stopping`."""

from __future__ import annotations

from collections.abc import Sequence

from nearshot.retriever.search import Results, SearchOptions, WordEncoder, search
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.files import find_image_id
from nearshot.schema.marks import WordMark, mark_image, mark_words
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Mode

LISTED = 1000
"""Results of words that can be marked by their paths: the first of them."""


def mark_files(store: Store, query: AnyPath, hits: Sequence[AnyPath], right: bool | None) -> None:
    """Record whether files are right hits of an indexed query; all or none. None takes back what was said.

    Raises UsageError for a file that is not indexed as it is now, and for a query among its own hits.
    """
    with store.reading() as catalog:
        query_id, ids = find_image_id(catalog, query), [find_image_id(catalog, hit) for hit in hits]
    mark_hits(store, query_id, ids, right)


def mark_hits(store: Store, query_id: int, hit_ids: Sequence[int], right: bool | None) -> None:
    """Record whether images are right hits of an indexed query, by id; all or none. None takes back what was said.

    Raises UsageError where one is not indexed, or shows what the query shows.
    """
    with store.writing() as editor:
        query = _content(editor, query_id)
        for hit_id in hit_ids:
            hit = _content(editor, hit_id)
            if query == hit:
                raise UsageError("an image is no hit of itself")
            mark_image(editor, query, hit, right, utc_now())


def mark_found(
    store: Store,
    words: str,
    options: SearchOptions,
    hits: Sequence[AnyPath],
    right: bool | None,
    encode: WordEncoder | None = None,
) -> Results:
    """Search for words, and record whether files are right results of them; all or none. The results.

    Raises UsageError for a file that is not indexed as it is now, or not among the first results, and what `search` raises.
    """
    with store.reading() as catalog:
        ids = [find_image_id(catalog, hit) for hit in hits]
    results = search(store, words, options, encode)
    listed = {result.image.id: result for result in results.found}
    for hit, hit_id in zip(hits, ids, strict=True):
        if hit_id not in listed:
            raise UsageError(f"{hit} is not among the first {options.limit} results for '{words}'")
    backbone = None if results.mode == Mode.CAPTIONS else results.backbone
    for result in (listed[hit_id] for hit_id in ids):
        mark_result(
            store,
            words,
            results.mode,
            result.image.id,
            right,
            rank=result.rank,
            backbone=backbone,
            score=result.score,
        )
    return results


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
