"""Stored vectors by content, wherever they lie: in their rows, or in the segments that rows refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, DAMAGED_VECTOR, BackboneRow, Catalog
from nearshot.schema.digests import stored_vector
from nearshot.schema.editor import Editor
from nearshot.schema.errors import StoreError
from nearshot.schema.postgres import copied_vectors
from nearshot.schema.segment_cache import recorded_files, unrecorded_files
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import recorded_segments, segment_files
from nearshot.schema.vector_bytes import REFERENCE, decoded, encoded, reference_to
from nearshot.schema.vocabulary import VectorKind

embeddings = tables.embeddings.c

CHANGED = (
    "files of vectors are not there: an index run has replaced them meanwhile (run it again), "
    "or they are lost (`nearshot verify` tells)"
)


def stored_vectors(
    catalog: Catalog, backbone: BackboneRow, contents: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """The vectors (up to 4,096, dimension) of contents, in their order; StoreError where one is damaged or not there."""
    for start in range(0, len(contents), CHUNK):
        if catalog.connection.dialect.name == "postgresql":
            yield _copied(catalog, backbone, contents[start : start + CHUNK])
            continue
        chunk = contents[start : start + CHUNK].tolist()
        blobs = vector_blobs(catalog, backbone, chunk)
        in_order = [blobs.get(content, b"") for content in chunk]
        if {*map(len, in_order)} <= {4 * backbone.dimension}:  # most stores have no others
            flat = np.frombuffer(b"".join(in_order), dtype="<f4").astype(np.float32, copy=False)
            yield flat.reshape(len(chunk), backbone.dimension)
        else:
            yield np.stack([_whole(catalog, blob, backbone) for blob in in_order])


def _copied(catalog: Catalog, backbone: BackboneRow, contents: NDArray[np.int64]) -> NDArray[np.float32]:
    there, vectors = copied_vectors(catalog.connection, backbone.id, backbone.dimension, contents)
    places = np.searchsorted(there, contents)
    if not len(there) or (there[np.minimum(places, len(there) - 1)] != contents).any():
        raise StoreError(DAMAGED_VECTOR)
    return vectors[places]


def vectors_of(catalog: Catalog, backbone: BackboneRow, contents: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Find the vectors (dimension,) of those of some contents that have one; StoreError where one is damaged."""
    blobs = vector_blobs(catalog, backbone, contents)
    return {content: _whole(catalog, blob, backbone) for content, blob in blobs.items()}


def vector_blobs(catalog: Catalog, backbone: BackboneRow, contents: Sequence[int]) -> dict[int, bytes]:
    """Find the bytes of vectors by content: 4 a number, or 2 in a store that keeps them as float16; a content without a vector
    is not there. No bytes where they are not those that were written, a reference (9 bytes) where no segment has what it is to.
    """
    blobs: dict[int, bytes] = {}
    for start in range(0, len(contents), CHUNK):
        query = select(embeddings.content_id, stored_vector()).where(
            embeddings.backbone_id == backbone.id,
            embeddings.vector.is_not(None),
            embeddings.content_id.in_(list(contents[start : start + CHUNK])),
        )
        blobs |= dict(map(tuple, catalog.connection.execute(query)))
    references = {content: blob for content, blob in blobs.items() if len(blob) == REFERENCE}
    return blobs | referred_to(catalog, backbone, references)


def every_vector(catalog: Catalog, backbone: BackboneRow) -> Iterator[tuple[int, bytes]]:
    """Content and bytes of every vector of a backbone, as `vector_blobs` has them."""
    query = select(embeddings.content_id).where(embeddings.backbone_id == backbone.id, embeddings.vector.is_not(None))
    contents = catalog.connection.execute(query).scalars().all()
    for start in range(0, len(contents), CHUNK):
        yield from vector_blobs(catalog, backbone, contents[start : start + CHUNK]).items()


def has_pending(catalog: Catalog, backbone: BackboneRow) -> bool:
    """Tell whether vectors of a backbone are pending."""
    pending = tables.pending_vectors.c
    query = select(pending.content_id).where(pending.backbone_id == backbone.id).limit(1)
    return catalog.connection.execute(query).scalar() is not None


def unsettled(catalog: Catalog, backbone: BackboneRow) -> list[int]:
    """The contents whose vectors are pending, or of float32 in their rows."""
    pending = tables.pending_vectors.c
    of_float32 = select(embeddings.content_id).where(
        embeddings.backbone_id == backbone.id,
        embeddings.vector.is_not(None),
        func.length(embeddings.vector) != REFERENCE,
    )
    waiting = select(pending.content_id).where(pending.backbone_id == backbone.id)
    return sorted({*catalog.connection.execute(of_float32).scalars(), *catalog.connection.execute(waiting).scalars()})


def references_to(catalog: Catalog, backbone: BackboneRow, contents: Sequence[int]) -> dict[int, bytes]:
    """References to the vectors of contents (at most `catalog.CHUNK`) as they are as float16; of none that is damaged."""
    query = select(embeddings.content_id, stored_vector()).where(
        embeddings.backbone_id == backbone.id,
        embeddings.vector.is_not(None),
        embeddings.content_id.in_(contents),
    )
    references = {}
    for content, blob in catalog.connection.execute(query):
        if len(blob) == REFERENCE:
            references[content] = blob
        elif (vector := decoded(blob, backbone.dimension)) is not None:
            references[content] = reference_to(encoded(vector, VectorKind.FLOAT16))
    return references


def referring(catalog: Catalog, backbone: BackboneRow, contents: NDArray[np.int64]) -> Iterator[dict[int, bytes]]:
    """The references among the vectors of contents, by content, some thousand at a time."""
    for start in range(0, len(contents), CHUNK):
        query = select(embeddings.content_id, stored_vector()).where(
            embeddings.backbone_id == backbone.id,
            embeddings.content_id.in_(contents[start : start + CHUNK].tolist()),
            func.length(embeddings.vector) == REFERENCE,
        )
        yield dict(map(tuple, catalog.connection.execute(query)))


def referred_to(catalog: Catalog, backbone: BackboneRow, references: Mapping[int, bytes]) -> dict[int, bytes]:
    """Find the bytes of vectors by the references to them, by content, and no others: pending ones, or in segments."""
    if not references:
        return {}
    pending = tables.pending_vectors.c
    blobs: dict[int, bytes] = {}
    for start in range(0, len(references), CHUNK):
        query = select(pending.content_id, pending.vector).where(
            pending.backbone_id == backbone.id, pending.content_id.in_(list(references)[start : start + CHUNK])
        )
        blobs |= dict(map(tuple, catalog.connection.execute(query)))
    blobs = {content: blob for content, blob in blobs.items() if reference_to(blob) == references[content]}
    if len(blobs) < len(references):
        if backbone.id not in catalog.holding:
            catalog.holding[backbone.id] = list(recorded_files(catalog, backbone))
        blobs |= taken_from(catalog.holding[backbone.id], _without(references, blobs))
    if len(blobs) < len(references):
        # A record may be lost, and its file not; or a writer has put newer files in the place of those since this state.
        if catalog.unrecorded is None:
            catalog.unrecorded = unrecorded_files(catalog, segment_files(catalog, whole=True))
        own = [file for file in catalog.unrecorded if file.of[0] == backbone.fingerprint]
        blobs |= taken_from(own, _without(references, blobs))
    return blobs


def pending_reference(catalog: Catalog, backbone: BackboneRow, content_id: int) -> bytes | None:
    """The reference to the vector of a content that is pending; None where none is."""
    pending = tables.pending_vectors.c
    query = select(pending.vector).where(pending.backbone_id == backbone.id, pending.content_id == content_id)
    blob = catalog.connection.execute(query).scalar()
    return None if blob is None else reference_to(blob)


def _without(references: Mapping[int, bytes], blobs: Mapping[int, bytes]) -> dict[int, bytes]:
    return {content: reference for content, reference in references.items() if content not in blobs}


def taken_from(files: Iterable[Segment], references: Mapping[int, bytes]) -> dict[int, bytes]:
    """Find the bytes of vectors in some segments, by content: those that the references are to and no others; any where the
    reference itself is lost (no bytes).
    """
    blobs: dict[int, bytes] = {}
    for segment in files:
        if len(blobs) == len(references):
            break
        wanted = np.array(sorted(references.keys() - blobs.keys()), dtype=np.int64)
        rows = segment.rows_of(wanted)
        for content, blob in zip(wanted[rows >= 0].tolist(), _blobs(segment, rows[rows >= 0]), strict=True):
            for each in chain([blob], _others(segment, content)):
                if each and references[content] in (b"", reference_to(each)):
                    blobs[content] = each
                    break
    return blobs


def _others(segment: Segment, content: int) -> Iterator[bytes]:
    """The vectors that a segment has of a content, but the first: asked for only where that will not do."""
    rows = segment.rows_with(content)[1:]
    yield from _blobs(segment, rows) if len(rows) else ()


def _blobs(segment: Segment, rows: NDArray[np.int64]) -> list[bytes]:
    """The bytes of some vectors; none of those that are damaged."""
    with suppress(StoreError):
        return [vector.tobytes() for vector in segment.pick_stored(rows)]
    blobs = []
    for row in rows.tolist():
        try:
            blobs.append(segment.pick_stored(np.array([row]))[0].tobytes())
        except StoreError:
            blobs.append(b"")
    return blobs


def _whole(catalog: Catalog, blob: bytes, backbone: BackboneRow) -> NDArray[np.float32]:
    vector = decoded(blob, backbone.dimension)
    if vector is None and len(blob) == REFERENCE:
        recorded = [catalog.segment_directory / row.file for row in recorded_segments(catalog, backbone.id)]
        raise StoreError(DAMAGED_VECTOR if all(path.exists() for path in recorded) else CHANGED)
    if vector is None:
        raise StoreError(DAMAGED_VECTOR)
    return vector


def choose_float16(editor: Editor) -> None:
    """Keep vectors as float16 from now on. What is rounded stays so: there is no way back but to index anew."""
    editor.connection.execute(delete(tables.vector_storage))
    editor.connection.execute(insert(tables.vector_storage).values(id=1, kind=VectorKind.FLOAT16))
