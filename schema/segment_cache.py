"""The segment files of a store that are open: each once, for all who read it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import SegmentRow, recorded_segments
from nearshot.schema.vocabulary import VectorKind

log = logging.getLogger(__name__)

_segments: WeakValueDictionary[tuple[str, str], Segment] = WeakValueDictionary()
"""The segments that somebody has open, by file and digest."""

_told: set[str] = set()
"""What was said of segments that cannot be read."""


def open_segment(directory: Path, backbone: BackboneRow, row: SegmentRow) -> Segment:
    """The file of a record; StoreError where it is damaged or another's, OSError where it cannot be read."""
    key = (str(directory / row.file), row.xxh3)
    segment = _segments.get(key)
    if segment is None or segment.is_changed():
        segment = _segments[key] = read_segment(directory, backbone, row)
    return segment


def read_segment(directory: Path, backbone: BackboneRow, row: SegmentRow) -> Segment:
    """The file of a record, opened anew; errors as `open_segment`."""
    path = directory / row.file
    segment = Segment(path, size=row.size, digest=row.xxh3)
    held = (segment.of, segment.dimension, len(segment.ids))
    if held != ([backbone.fingerprint, row.role], backbone.dimension, row.vectors):
        raise StoreError(f"{path} does not hold what its record says")
    return segment


def pass_over(error: Exception) -> None:
    """Say that a segment cannot be read, once in a process: whoever reads goes by the database, or by other segments."""
    if str(error) not in _told:
        _told.add(str(error))
        log.warning("segment passed over (nearshot verify --repair mends what can be mended): %s", error)


def recorded_files(catalog: Catalog, backbone: BackboneRow) -> Iterator[Segment]:
    """The segments of float16 of a backbone, of any role and chain, that are recorded, newest first; those that can be read."""
    for row in sorted(recorded_segments(catalog, backbone.id), key=lambda row: -row.id):
        try:
            segment = open_segment(catalog.segment_directory, backbone, row)
        except FileNotFoundError:  # a writer has put another in its place since this reader began
            continue
        except (OSError, StoreError) as error:
            pass_over(error)
            continue
        if segment.kind == VectorKind.FLOAT16:
            yield segment


def unrecorded_files(catalog: Catalog, recorded: Collection[str]) -> list[Segment]:
    """The segments of float16 that no record names, of any backbone; those that can be read. They are taken by their own word:
    each vector that is taken from one is to be checked.
    """
    files = []
    for path in sorted(catalog.segment_directory.glob("*.faiss")):
        if path.name not in recorded:
            with suppress(OSError, StoreError):
                segment = Segment(path, size=path.stat().st_size)
                if segment.kind == VectorKind.FLOAT16:
                    files.append(segment)
    return files


def unreadable_files(catalog: Catalog, backbone: BackboneRow) -> list[tuple[str, str]]:
    """The files of a backbone that are there and cannot be read, each with the system's reason: they may be whole."""
    files = []
    for row in recorded_segments(catalog, backbone.id):
        try:
            open_segment(catalog.segment_directory, backbone, row)
        except FileNotFoundError:
            continue
        except OSError as error:
            files.append((row.file, str(error.strerror)))
        except StoreError:
            continue
    return files
