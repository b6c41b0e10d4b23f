"""Segments of a store: opened, written, merged and swept. What they lack, or would tell wrongly, is taken from the rows.

A writer puts what has changed into a new segment, and merges the newest ones where together they have grown to several times
the one before them: so there are few, and a vector is written again about as often as the number of vectors has digits.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.ann import AnnRow, ann_rows
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.digests import FEW
from nearshot.schema.disk import written_whole
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_cache import open_segment, pass_over, read_segment
from nearshot.schema.segment_file import write_segment
from nearshot.schema.segments import (
    NONE,
    SegmentRow,
    UsableImages,
    forget_segments,
    move_segment,
    record_segment,
    segment_rows,
    touched,
    usable_images,
)
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import vector_kind
from nearshot.schema.vocabulary import Role, VectorKind
from nearshot.vectors.ann import AnnIndex, Measured, Recalls
from nearshot.vectors.chain import Chain, Layer, Tail, merge
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.stored import checked_vectors
from nearshot.vectors.sweeping import SUFFIX, is_once, settle, sweep

GROWTH = 3
"""Segments are merged with the one before them where together they are so many times as large: sizes grow by a factor of 4."""


def open_vectors(
    store: Store,
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    *,
    category: str | None = None,
    label: str | None = None,
    whole: bool = True,
) -> SegmentedStore:
    """The vectors of a backbone and role (of a category, of a label) as the catalog's state has them.

    They come from segments, with what changed since from the rows. Every byte is checked before it is used: all of them now,
    or (not `whole`) those of segments that have an approximate index when they are. Where a segment is missing, damaged or
    another's, the rows are read instead. Of few images all ids are held against the rows, too (StoreError where these have
    lost some). Those of one state are in memory once, for all who have them open. A store without segments (in PostgreSQL) has
    its rows read once, and then what changed.
    """
    if not store.has_segments:
        return _open_rows(store, catalog, backbone, role, category, label)
    rows = _rows(catalog, backbone, role)
    chain = _open_chain(store, catalog, backbone, rows)
    try:
        chain.check(category, indexed=whole or category is not None or label is not None)
    except StoreError as error:
        pass_over(error)
        chain = Chain([], backbone.dimension)
    if not chain.segments:
        return read_rows(catalog, backbone, role, category=category, label=label)
    key = (catalog.revision(), category, label)
    opened = _opened.setdefault(chain, WeakValueDictionary())
    vectors = opened.get(key)
    if vectors is None:
        tail = _newest_tail(catalog, backbone, role, rows[-1].revision, category, opened)
        vectors = chain.store(tail, category, label)
        _tails[vectors] = tail  # before others can find it
        opened[key] = vectors
        compared = _compared.setdefault(chain, set())
        if label is None and category not in compared and len(vectors) <= FEW:
            _compare(catalog, backbone, role, category, vectors)
            compared.add(category)
    return vectors


def _open_rows(
    store: Store, catalog: Catalog, backbone: BackboneRow, role: Role, category: str | None, label: str | None
) -> SegmentedStore:
    """The vectors of a store without segments: those that somebody has open, and what changed after."""
    key_of_chain = ((catalog.identity(), backbone.fingerprint, role),)
    chain = _chains.setdefault(key_of_chain, Chain([], backbone.dimension))
    opened = _opened.setdefault(chain, WeakValueDictionary())
    key = (catalog.revision(), category, label)
    vectors = opened.get(key)
    if vectors is None:
        tail = _newest_tail(catalog, backbone, role, 0, category, opened)
        vectors = chain.store(tail, category, label)
        _tails[vectors] = tail  # before others can find it
        opened[key] = vectors
    return vectors


def read_rows(
    catalog: Catalog, backbone: BackboneRow, role: Role, *, category: str | None = None, label: str | None = None
) -> SegmentedStore:
    """The same from the rows alone; StoreError where one is damaged."""
    return read_since(catalog, backbone, role, 0, category=category, label=label)


def read_since(
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    since: int,
    *,
    category: str | None = None,
    label: str | None = None,
) -> SegmentedStore:
    """What changed after a revision, from the rows, in memory; StoreError where one is damaged."""
    tail = _read_tail(catalog, backbone, role, since, category)
    return Chain([], backbone.dimension).store(tail, category, label)


def _newest_tail(
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    since: int,
    category: str | None,
    opened: Mapping[tuple[int, str | None, str | None], SegmentedStore],
) -> Tail:
    """The tail after a revision: what somebody has open of it, and what changed after that, from the rows."""
    now = catalog.revision()
    known = {key[0]: vectors for key, vectors in list(opened.items()) if key[1] == category and since <= key[0] <= now}
    if not known:
        return _read_tail(catalog, backbone, role, since, category)
    newest = max(known)
    tail = _tails[known[newest]]
    return tail if newest == now else tail.then(_read_tail(catalog, backbone, role, newest, category))


def _read_tail(catalog: Catalog, backbone: BackboneRow, role: Role, since: int, category: str | None) -> Tail:
    """What changed (of a category) after a revision, from the rows: all there is after none. StoreError where it is damaged."""
    ids = touched(catalog, backbone, role, since, category) if since else None
    current = usable_images(catalog, backbone, role, category=category, among=ids)
    vectors = np.empty((len(current.ids), backbone.dimension), dtype=np.float32)
    start = 0
    for part in checked_vectors(catalog, backbone, current.contents):
        vectors[start : start + len(part)] = part
        start += len(part)
    return Tail(Layer(NONE if ids is None else ids, current, vectors))


def write_segments(store: Store, backbones: Iterable[BackboneRow]) -> int:
    """Bring the segments of some backbones up to the newest revision; returns how many were written.

    In PostgreSQL there are none: the rows are the index.

    Each file has a name of its own, is written aside, synced, renamed, and only then recorded: a reader holds either the
    old files or the new one, and a crash leaves a file that nobody names, which the next writer sweeps away.
    """
    written = 0
    if not store.has_segments:
        store.maintain(shrunk=False)
        return written
    for backbone in backbones:
        for role in Role:
            if _write_newest(store, backbone, role):
                written += 1
                while _merge_newest(store, backbone, role):
                    written += 1
        settle(store, backbone)
    sweep(store)
    return written


def rewrite_segments(store: Store, backbone: BackboneRow, role: Role) -> None:
    """Write the segments of a backbone and role anew, from the rows and what they refer to; StoreError where one is damaged."""
    _write_newest(store, backbone, role, anew=True)
    settle(store, backbone)


def damage(store: Store, backbone: BackboneRow, row: SegmentRow) -> str | None:
    """Describe what is wrong with a segment's file, if anything. Reads the whole file."""
    try:
        segment = read_segment(store.segment_directory, backbone, row)
        segment.check(0, len(segment.ids))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except StoreError:
        return "its bytes are not those that were written"
    return None


def open_segments(store: Store, catalog: Catalog, backbone: BackboneRow, role: Role) -> Chain:
    """The segments of a backbone and role, whatever has changed since; none where one is missing or damaged."""
    return _open_chain(store, catalog, backbone, _rows(catalog, backbone, role))


_chains: WeakValueDictionary[tuple[tuple[str, str, str], ...], Chain] = WeakValueDictionary()
"""The chains that somebody has open, by their segments and approximate indexes."""

_opened: WeakKeyDictionary[Chain, WeakValueDictionary[tuple[int, str | None, str | None], SegmentedStore]] = (
    WeakKeyDictionary()
)
"""The vectors that somebody has open, by their chain, and revision, category and label."""

_tails: WeakKeyDictionary[SegmentedStore, Tail] = WeakKeyDictionary()
"""The tails of the vectors that somebody has open."""

_compared: WeakKeyDictionary[Chain, set[str | None]] = WeakKeyDictionary()
"""The categories (None: all) whose ids were held against the rows, by chain."""


def _rows(catalog: Catalog, backbone: BackboneRow, role: Role) -> list[SegmentRow]:
    return segment_rows(catalog, backbone.id, role).get((backbone.id, role), [])


def _open_chain(store: Store, catalog: Catalog, backbone: BackboneRow, rows: list[SegmentRow]) -> Chain:
    """The segments of some records; none where one is missing or damaged."""
    recorded = ann_rows(catalog, backbone.id)
    anns = [recorded.get(row.id) for row in rows]
    files = [*zip(rows, anns, strict=True)]
    key = tuple((str(store.segment_directory / row.file), row.xxh3, ann.file if ann else "") for row, ann in files)
    try:
        segments = [open_segment(store.segment_directory, backbone, row) for row in rows]
    except FileNotFoundError:  # a writer has put another in its place since this reader began
        segments = []
    except (OSError, StoreError) as error:
        pass_over(error)
        segments = []
    chain = _chains.get(key) if segments else None
    if chain is None or any(old is not new for old, new in zip(chain.segments, segments, strict=True)):
        indexes = [ann and _ann_index(store, row, ann) for row, ann in files] if segments else []
        chain = Chain(segments, backbone.dimension, indexes)
        if segments:
            _chains[key] = chain
    return chain


def _ann_index(store: Store, row: SegmentRow, ann: AnnRow) -> AnnIndex:
    words = None
    if ann.words_effort is not None and ann.words_recall is not None:
        words = Measured(ann.words_effort, ann.words_recall)
    return AnnIndex(
        store.segment_directory / ann.file,
        digest=ann.xxh3,
        kind=ann.kind,
        vectors=row.vectors,
        recalls=Recalls(Measured(ann.effort, ann.recall), words),
    )


def _compare(
    catalog: Catalog, backbone: BackboneRow, role: Role, category: str | None, vectors: SegmentedStore
) -> None:
    """Hold the ids of vectors against the rows: a damaged index may hide what changed."""
    if not np.array_equal(vectors.ids(), np.sort(usable_images(catalog, backbone, role, category=category).ids)):
        where = "all categories" if category is None else category
        raise StoreError(
            f"rows and segments of {where} ({role}, {backbone.name}) name different images: "
            "the database is damaged; `nearshot verify` says where"
        )


def _write_newest(store: Store, backbone: BackboneRow, role: Role, *, anew: bool = False) -> bool:
    """Put what changed since the newest segment into one more; of a chain that is not whole all, into the only one."""
    with store.reading() as catalog:
        revision = catalog.revision()
        rows = _rows(catalog, backbone, role)
        chain = _open_chain(store, catalog, backbone, rows)
        once = vector_kind(catalog) == VectorKind.FLOAT16 or any(map(is_once, chain.segments))
        if anew or not chain.segments or (once and not all(map(is_once, chain.segments))):
            rows = []
        since = rows[-1].revision if rows else 0
        if rows and since == revision:
            return False
        ids = touched(catalog, backbone, role, since) if rows else None
        current = usable_images(catalog, backbone, role, among=ids)
        superseded = chain.holding(ids) if ids is not None else NONE
        changed = len(current.ids) + len(superseded) > 0
        vectors = checked_vectors(catalog, backbone, current.contents)
        new = _save(store, backbone, role, current, superseded, vectors, once=once) if changed else None
    with store.writing() as editor:
        if not rows:
            forget_segments(editor, backbone.id, role)  # what is left of a chain that is not whole
        if new is not None:
            record_segment(editor, new._replace(since=since, revision=revision))
        elif rows:
            move_segment(editor, rows[-1], revision)  # the next reader need not look through the same revisions again
    return new is not None


def _merge_newest(store: Store, backbone: BackboneRow, role: Role) -> bool:
    """Merge the newest segments where together they are large beside the one before them; tells whether there were some."""
    with store.reading() as catalog:
        rows = _rows(catalog, backbone, role)
        chain = _open_chain(store, catalog, backbone, rows)
        sizes = chain.sizes()
        first = next((i for i in range(len(sizes) - 1) if sum(sizes[i + 1 :]) >= GROWTH * sizes[i]), None)
        if first is None:
            return False
        newest = Chain(chain.segments[first:], chain.dimension)
        try:
            newest.check()
        except StoreError as error:
            pass_over(error)
            new = None
        else:
            merged = merge(newest, from_the_first=first == 0)
            images = UsableImages(merged.ids, merged.contents, merged.groups)
            once = all(map(is_once, newest.segments))
            vectors = merged.vectors(newest.segments)
            new = _save(store, backbone, role, images, merged.superseded, vectors, once=once)
    if new is None:
        rewrite_segments(store, backbone, role)
        return True
    with store.writing() as editor:
        row = new._replace(since=rows[first].since, revision=rows[-1].revision)
        record_segment(editor, row, rows[first:])
    return True


def _new_path(store: Store, backbone: BackboneRow, role: Role) -> Path:
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", backbone.name)[-40:]
    return store.segment_directory / f"{readable}-{role}-{uuid.uuid4().hex}{SUFFIX}"


def _save(
    store: Store,
    backbone: BackboneRow,
    role: Role,
    images: UsableImages,
    superseded: NDArray[np.int64],
    vectors: Iterable[NDArray[np.float32]],
    *,
    once: bool,
) -> SegmentRow:
    """Write a file that is whole and on the disk before it has its name, of float16 where vectors are to be there `once`; its
    record, but for the revisions.
    """
    path = _new_path(store, backbone, role)
    try:
        with written_whole(path) as aside:
            size, digest = write_segment(
                aside,
                vectors,
                ids=images.ids,
                groups=images.groups,
                superseded=superseded,
                dimension=backbone.dimension,
                of=[backbone.fingerprint, role],
                contents=images.contents if once else None,
            )
    except OSError as error:
        raise StoreError(
            f"cannot write the segment {path}: {error}; all vectors are safe in the database: "
            "free some space and run `nearshot index` again"
        ) from error
    return SegmentRow(0, backbone.id, role, path.name, size, digest, len(images.ids), 0, 0)
