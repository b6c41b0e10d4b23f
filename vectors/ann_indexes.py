"""The approximate indexes of a store: built over large segments for the backbones that are to have them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.ann import LEAST, AnnRow, AnnState, ann_choices, ann_rows, record_ann
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.disk import written_whole, xxh3_of
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import SegmentRow, segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Ann, Role
from nearshot.vectors.ann import write_ann
from nearshot.vectors.segments import open_segments

log = logging.getLogger(__name__)


def write_ann_indexes(
    store: Store,
    backbones: Iterable[BackboneRow],
    *,
    words: Callable[[BackboneRow], NDArray[np.float32] | None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[AnnState]:
    """Build the approximate indexes that are to be and are not there, over segments with many vectors; tells which.

    `words` gives unit vectors (w, d) of words to measure by, where a backbone encodes such. For the holder of the store. A file
    has its name when it is whole and on the disk, and is recorded after that: a crash leaves one that nobody names. Each can be
    lost: without one, all vectors are compared. StoreError where one cannot be written.
    """
    written = []
    for backbone in backbones:
        for role, record, segment, kind in _lacking(store, backbone):
            if should_stop():
                break
            row = _write(store, record, segment, kind, words(backbone), should_stop)
            if row is not None:
                with store.writing() as editor:
                    record_ann(editor, row)
                written.append(AnnState(backbone.name, role, kind, record.vectors, row.recall, row.words_recall))
    return written


def _lacking(store: Store, backbone: BackboneRow) -> list[tuple[Role, SegmentRow, Segment, Ann]]:
    """The large segments of a backbone that are to have an index and have none; not those of a chain that is not whole."""
    with store.reading() as catalog:
        kind = ann_choices(catalog).get(backbone.id)
        if kind is None:
            return []
        there = ann_rows(catalog, backbone.id)
        rows = segment_rows(catalog, backbone.id)
        lacking = []
        for role in Role:
            records = rows.get((backbone.id, role), [])
            if any(record.vectors >= LEAST and record.id not in there for record in records):
                chain = open_segments(store, catalog, backbone, role)
                lacking += [
                    (role, record, segment, kind)
                    for record, segment in zip(records, chain.segments, strict=False)
                    if record.vectors >= LEAST and record.id not in there
                ]
    return lacking


def _write(
    store: Store,
    record: SegmentRow,
    segment: Segment,
    kind: Ann,
    words: NDArray[np.float32] | None,
    should_stop: Callable[[], bool],
) -> AnnRow | None:
    """Build the index of a segment; None where it was stopped, or the segment is damaged."""
    path = store.segment_directory / f"{Path(record.file).stem}-{uuid.uuid4().hex[:8]}.{kind}"
    try:
        with written_whole(path) as aside:
            recalls = write_ann(aside, segment, kind, words=words, should_stop=should_stop)
            digest = xxh3_of(aside)
    except StoreError as error:
        log.warning("no approximate index over a damaged segment (nearshot verify --repair mends it): %s", error)
        return None
    except OSError as error:
        raise StoreError(
            f"cannot write the approximate index {path}: {error}; nothing else is lost: "
            "free some space and run `nearshot index` again"
        ) from error
    if recalls is None:
        return None
    by_words = recalls.words or (None, None)
    return AnnRow(record.id, kind, path.name, digest, *recalls.images, *by_words)
