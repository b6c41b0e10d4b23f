"""Sweeping: each vector of float16 in one place, and files that nobody names gone, once no row refers to them alone."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_cache import recorded_files
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import segment_files, union
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import vector_kind
from nearshot.schema.vectors import has_pending, references_to, referring, taken_from, unsettled
from nearshot.schema.vocabulary import VectorKind

SUFFIX = ".faiss"


def is_once(segment: Segment) -> bool:
    """Tell whether rows may refer to a segment: it is of float16."""
    return segment.kind == VectorKind.FLOAT16


def settle(store: Store, backbone: BackboneRow) -> None:
    """Keep in segments of float16 alone what they have of vectors that lie beside the rows, too, or as float32 in them. Each is
    read in its segment before the other goes. For the holder of the store.
    """
    shrunk = 0
    with store.reading() as catalog:
        if vector_kind(catalog) == VectorKind.FLOAT32 and not has_pending(catalog, backbone):
            return
        recorded = list(recorded_files(catalog, backbone))
        revision = catalog.revision()
        contents = unsettled(catalog, backbone) if recorded else []
        for start in range(0, len(contents), CHUNK):
            references = references_to(catalog, backbone, contents[start : start + CHUNK])
            there = {content: references[content] for content in taken_from(recorded, references)}
            if there:
                with store.writing() as editor:
                    shrunk += editor.refer_to_segment(backbone.id, there, as_of=revision)
    store.maintain(shrunk=shrunk > 0)


def sweep(store: Store) -> list[Path]:
    """Delete the files that no record names; returns them. Only for the holder of the store.

    What rows refer to in such a file, and find in no other that is whole, is kept apart before; a file that cannot be read now
    stays.
    """
    gone = []
    with store.reading() as catalog:
        recorded = segment_files(catalog)
        orphans = [path for path in sorted(store.segment_directory.iterdir()) if path.name not in recorded]
        for path in orphans:
            try:
                segment = Segment(path, size=path.stat().st_size) if path.suffix == SUFFIX else None
            except OSError:
                continue
            except StoreError:
                segment = None
            if segment is not None and is_once(segment):
                for backbone in catalog.all_backbones():
                    if backbone.fingerprint == segment.of[0]:
                        _put_back(store, catalog, backbone, segment)
            gone.append(path)
    for path in gone:
        with contextlib.suppress(OSError):  # harmless where it is, and tried again by the next writer
            path.unlink()
    if store.snapshot_directory.is_dir():
        shutil.rmtree(store.snapshot_directory, ignore_errors=True)
    return gone


def _put_back(store: Store, catalog: Catalog, backbone: BackboneRow, segment: Segment) -> None:
    """Keep apart what rows refer to in a segment and find in none that is recorded."""
    recorded = list(recorded_files(catalog, backbone))
    contents = union(segment.contents)
    for start in range(0, len(contents), CHUNK):
        few = contents[start : start + CHUNK]
        for references in referring(catalog, backbone, few[~_held_alike(recorded, segment, few)]):
            there = taken_from(recorded, references)
            alone = {content: reference for content, reference in references.items() if content not in there}
            if blobs := taken_from([segment], alone):
                with store.writing() as editor:
                    editor.keep_pending(backbone.id, blobs)


def _held_alike(recorded: Iterable[Segment], segment: Segment, contents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which contents (n,) of a segment have the same vector, whole, in one that is recorded."""
    rows = segment.rows_of(contents)
    alike = np.zeros(len(contents), dtype=bool)
    for other in recorded:
        theirs = other.rows_of(contents)
        asked = np.flatnonzero((theirs >= 0) & ~alike)
        with contextlib.suppress(StoreError):  # a damaged block: they are looked at one by one
            own = segment.pick_stored(rows[asked]).view(np.int16)
            alike[asked] = (own == other.pick_stored(theirs[asked]).view(np.int16)).all(axis=1)
    return alike
