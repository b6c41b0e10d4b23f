"""The approximate indexes of a store: built over large segments for the backbones that are to have them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.ann import AnnRow, ann_choices, ann_rows, recall_in_words, record_ann
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.disk import written_whole
from nearshot.schema.errors import StoreError
from nearshot.schema.segments import SegmentRow, segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Ann, Role
from nearshot.vectors.ann import LEAST, file_digest, write_ann
from nearshot.vectors.segment import Segment
from nearshot.vectors.segments import open_segments

log = logging.getLogger(__name__)


class AnnWritten(NamedTuple):
    """An approximate index that was built: over how many vectors, and the recall@10 that was measured, with words as well."""

    backbone: str
    role: Role
    kind: Ann
    vectors: int
    recall: float
    words_recall: float | None

    def in_words(self) -> str:
        """The recall, and what comes of it where it is low."""
        return recall_in_words(self.recall, self.words_recall)


def write_ann_indexes(
    store: Store,
    backbones: Iterable[BackboneRow],
    *,
    words: Callable[[BackboneRow], NDArray[np.float32] | None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[AnnWritten]:
    """Build the approximate indexes that are to be and are not there, over segments with many vectors; tells which.

    `words` gives unit vectors (w, d) of words to measure by, where a backbone encodes such. For the holder of the store. A file
    has its name when it is whole and on the disk, and is recorded after that: a crash leaves one that nobody names. Each can be
    lost: without one, all vectors are compared. StoreError where one cannot be written.
    """
    written = []
    for backbone in backbones:
        with store.reading() as catalog:
            kind = ann_choices(catalog).get(backbone.id, Ann.NONE)
            there = ann_rows(catalog, backbone.id)
            rows = segment_rows(catalog, backbone.id)
            chains = [
                (role, rows.get((backbone.id, role), []), open_segments(store, catalog, backbone, role))
                for role in Role
            ]
        for role, records, chain in chains if kind != Ann.NONE else []:
            for record, segment in zip(
                records, chain.segments, strict=False
            ):  # of a chain that is not whole there are none
                if record.vectors < LEAST or record.id in there or should_stop():
                    continue
                row = _write(store, record, segment, kind, words(backbone), should_stop)
                if row is not None:
                    with store.writing() as editor:
                        record_ann(editor, row)
                    written.append(AnnWritten(backbone.name, role, kind, record.vectors, row.recall, row.words_recall))
    return written


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
            size, digest = aside.stat().st_size, file_digest(aside)
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
    return AnnRow(record.id, kind, path.name, size, digest, *recalls.images, *by_words)
