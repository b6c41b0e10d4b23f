"""Verification: the files, the rows and the segments, held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nearshot.backbones.in_order import in_order
from nearshot.indexer.crop_videos import video_of
from nearshot.indexer.intents import finish_intents
from nearshot.schema import tables
from nearshot.schema.ann import AnnRow, ann_rows, forget_ann
from nearshot.schema.caption_search import full_text_problem, rebuild_full_text
from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.crops import cropped_pictures, forget_croppings
from nearshot.schema.digests import COVERED, damaged_rows, digest_of
from nearshot.schema.errors import AwayError, StoreError
from nearshot.schema.intents import Planned, planned
from nearshot.schema.known_images import present_contents, present_ids
from nearshot.schema.mirrors import forget_mirror
from nearshot.schema.paths import AT_ONCE, AnyPath, is_directory, is_gone, is_object, path_of, sha256_of
from nearshot.schema.segment_cache import unreadable_files
from nearshot.schema.segments import (
    broken_chains,
    forget_segments,
    segment_files,
    segment_rows,
    usable_images,
)
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import REFERENCE, decoded, encoded, reference_to
from nearshot.schema.vectors import choose_float16, every_vector, pending_reference, stored_vectors
from nearshot.schema.vocabulary import Role, VectorKind
from nearshot.vectors.ann import check_ann
from nearshot.vectors.chain import Chain
from nearshot.vectors.segments import damage, open_segments, open_vectors, rewrite_segments
from nearshot.vectors.sweeping import sweep


class Remedy(StrEnum):
    """Remedy for a finding."""

    REPAIR = "nearshot verify --repair"
    INDEX = "nearshot index"
    CALIBRATE = "nearshot calibrate"
    CROP = "nearshot crop"
    LINT = "nearshot lint"
    MIRROR = "nearshot mirror"
    FORGET = "mount it again, nearshot move, or nearshot forget"
    NONE = "nothing here; restore the store or the file from a backup"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree: where, what, and what mends it. `repaired` once it has been."""

    subject: str
    problem: str
    remedy: Remedy
    repaired: bool = False


def verify(store: Store, *, repair: bool = False) -> Iterator[Finding]:
    """Check the database, every indexed file's bytes, every vector and every segment; reads all of them.

    Holds the store meanwhile (StoreBusyError), so that no run changes what is being compared.

    Every row that decides an answer has a digest (`schema.digests`). With `repair`, a damaged vector is taken from the segment
    where that has the one that was written, else dropped where the file is there to compute it again, and named until it is
    back; a damaged image is left to the next index run; segments are written anew from the rows, and files that no record
    names are deleted. Nothing that cannot be rebuilt is ever deleted.
    """
    with store.held("nearshot verify"):
        for path, outcome in finish_intents(store):
            yield Finding(path, outcome, Remedy.NONE, repaired=True)
        with store.reading() as catalog:
            left = planned(catalog)
        for intent in left:
            what = "adding it" if intent.action == Planned.ADD else f"what `nearshot {intent.action}` began"
            remedy = Remedy.CROP if intent.action == Planned.CROP else Remedy.INDEX
            yield Finding(intent.path, f"{what} was cut off, and is not finished", remedy)
        yield from _verify(store, repair=repair)


def _verify(store: Store, *, repair: bool) -> Iterator[Finding]:
    with store.reading() as catalog:
        problems = catalog.integrity_problems()
    for problem in problems:
        yield Finding("database", problem, Remedy.NONE)
    yield from _check_full_text(store, repair=repair)
    yield from _check_rows(store, repair=repair)
    with store.reading() as catalog:
        intact: set[int] = set()
        for root_id, root in catalog.roots().items():
            yield from _check_files(catalog, root_id, path_of(root), intact)
            yield from _check_pictures(catalog, root_id, path_of(root))
        for row in catalog.all_backbones():
            yield from _check_vectors(store, catalog, row, intact, repair=repair)
    yield from _lost_vectors(store)
    if store.has_segments:
        yield from _check_segments(store, repair=repair)


def _check_full_text(store: Store, *, repair: bool) -> Iterator[Finding]:
    with store.writing() if store.has_segments else store.reading() as catalog:  # FTS5's own check counts as a write
        problem = full_text_problem(catalog)
    if problem is None:
        return
    if repair:
        with store.writing() as editor:
            rebuild_full_text(editor)
    yield Finding("captions", problem, Remedy.REPAIR, repair)


def _check_files(catalog: Catalog, root_id: int, root: AnyPath, intact: set[int]) -> Iterator[Finding]:
    """Compare every file with the content that its row names; `intact` collects the contents that are still there."""
    number = len(present_ids(catalog, root_id))
    if number and is_gone(str(root)):
        yield Finding(str(root), f"the data directory is not there, with {number} images", Remedy.FORGET)
        return
    if number and (reason := _why_away(root)):
        yield Finding(str(root), f"cannot be reached ({reason}), with {number} images", Remedy.NONE)
        return
    contents = present_contents(catalog, root_id)
    workers = AT_ONCE if is_object(root) else 1
    checked = in_order(lambda each: _file_problem(root / each[0], each[2]), contents, workers=workers, ahead=workers)
    for (path, content_id, _), problem in checked:
        if problem:
            yield Finding(str(root / path), problem, Remedy.INDEX)
        else:
            intact.add(content_id)


def _why_away(root: AnyPath) -> str | None:
    """Why a store of objects does not answer; None where it does, and for a disk."""
    try:
        is_directory(root)
    except AwayError as error:
        return str(error.strerror)
    except OSError:
        return None
    return None


def _check_pictures(catalog: Catalog, root_id: int, root: AnyPath) -> Iterator[Finding]:
    """Compare every raw picture with what its crops were cut out of; crops themselves are whoever has them's to change."""
    pictures = {video_of(path): sha256 for path, sha256 in cropped_pictures(catalog, root_id)}
    for path, sha256 in pictures.items():
        if not is_gone(str(root)) and (problem := _file_problem(root / path, sha256)):
            yield Finding(str(root / path), problem.replace("indexed", "cropped"), Remedy.CROP)


def _file_problem(path: AnyPath, sha256: str) -> str | None:
    try:
        held = sha256_of(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if held == sha256 else "has changed since it was indexed"


def _check_rows(store: Store, *, repair: bool) -> Iterator[Finding]:
    """Hold every row but the vectors' against its digest."""
    with store.reading() as catalog:
        damaged = {
            table: damaged_rows(catalog.connection, table) for table in COVERED if table is not tables.embeddings
        }
    for table, rows in damaged.items():
        remedy = MENDS.get(table.name, Remedy.NONE)
        mends = repair and remedy != Remedy.NONE and len(rows) > 0
        if mends:
            with store.writing() as editor:
                if table is tables.images:
                    editor.retire_images([row["id"] for row in rows])
                    forget_segments(editor)  # whose they were cannot be told
                    forget_mirror(editor)
                elif table is tables.vector_storage:
                    choose_float16(editor)  # there is no other choice that has a row
                elif remedy == Remedy.CROP:
                    forget_croppings(editor)  # crops that come out the same again are taken for what they are
                else:
                    editor.forget_damaged(table)
        for row in rows:
            named = ", ".join(
                f"{name} {row[name]}" for name in ("id", "backbone_id", "category", "path") if name in row
            )
            after = remedy if repair or remedy == Remedy.NONE else Remedy.REPAIR
            yield Finding(f"{table.name}: {named}", "the row is not what was written", after, repaired=mends)


MENDS = {
    **{"images": Remedy.INDEX, "calibrations": Remedy.CALIBRATE, "segments": Remedy.REPAIR},
    **dict.fromkeys(("detectors", "croppings", "crops"), Remedy.CROP),
    "picture_hashes": Remedy.LINT,
    "mirrors": Remedy.MIRROR,
    "vector_storage": Remedy.REPAIR,
}
"""What brings back what a damaged row of a table said; that of others was said by people, or is the ground of all."""


def _check_vectors(
    store: Store, catalog: Catalog, row: BackboneRow, intact: set[int], *, repair: bool
) -> Iterator[Finding]:
    chains: list[Chain] = []
    unreadable = unreadable_files(catalog, row)
    for file, reason in unreadable:
        yield Finding(f"segment {file}", f"cannot be read: {reason}", Remedy.NONE)
    for content_id, blob in every_vector(catalog, row):
        problem = _vector_problem(blob, row.dimension)
        if problem is None or (unreadable and len(blob) == REFERENCE):  # it may be there, and is not given up
            continue
        subject = f"vector of content {content_id} by {row.name}"
        if store.has_segments:
            chains = chains or [open_segments(store, catalog, row, role) for role in Role]
        if repair and (whole := _from_segments(catalog, row, chains, content_id)) is not None:
            with store.writing() as editor:
                editor.restore_vector(content_id, row.id, whole)
            yield Finding(subject, f"{problem}; taken from the segment", Remedy.NONE, repaired=True)
            continue
        rebuildable = content_id in intact
        if repair and rebuildable:
            with store.writing() as editor:
                editor.drop_embedding(content_id, row.id)
        remedy = Remedy.NONE if not rebuildable else Remedy.INDEX if repair else Remedy.REPAIR
        yield Finding(subject, problem, remedy, repaired=repair and rebuildable)


def _from_segments(catalog: Catalog, row: BackboneRow, chains: list[Chain], content_id: int) -> bytes | None:
    """The vector that was written, where a segment that is whole has it: the one whose digest is that of the row."""
    stored: dict[str, Any] = catalog.embedding(content_id, row.id)

    def is_written(vector: bytes) -> bool:
        return bool(stored["digest"] == digest_of(content_id, row.id, vector, stored["failure"], stored["revision"]))

    if (pending := pending_reference(catalog, row, content_id)) is not None and is_written(pending):
        return pending
    for image_id in catalog.images_showing(content_id):
        for chain in chains:
            for held in chain.written(image_id):
                for vector in (encoded(held, VectorKind.FLOAT32), reference_to(encoded(held, VectorKind.FLOAT16))):
                    if is_written(vector):
                        return vector
    return None


def _lost_vectors(store: Store) -> Iterator[Finding]:
    """The vectors that were dropped and are not back, of backbones that are in use."""
    with store.reading() as catalog:
        names = {row.id: row.name for row in catalog.backbones()}
        lost = catalog.dropped_vectors()
    for content_id, backbone_id in lost:
        if backbone_id in names:
            subject = f"vector of content {content_id} by {names[backbone_id]}"
            yield Finding(subject, "was damaged and dropped, and is not there again", Remedy.INDEX)


def _vector_problem(blob: bytes, dimension: int) -> str | None:
    if not blob:
        return "is not what was written"
    if len(blob) == REFERENCE:
        return "is in no segment that is whole"
    vector = decoded(blob, dimension)
    if vector is None:
        return f"is {len(blob)} bytes, which are not {dimension} numbers"
    if not np.isfinite(vector).all():
        return "has values that are not finite"
    return None if abs(float(np.linalg.norm(vector)) - 1) < 1e-3 else "has not length 1"


def _check_segments(store: Store, *, repair: bool) -> Iterator[Finding]:
    with store.reading() as catalog:
        rows = {row.id: row for row in catalog.all_backbones()}
        recorded = segment_files(catalog)
        problems = {
            (backbone_id, role): [
                ("segments", f"the records of {role} by {rows[backbone_id].name} do not follow on each other")
            ]
            for backbone_id, role in broken_chains(catalog)
            if backbone_id in rows
        }
        for (backbone_id, role), records in segment_rows(catalog).items():
            damaged = [
                (f"segment {record.file}", problem)
                for record in records
                if (problem := damage(store, rows[backbone_id], record))
            ]
            if not damaged and (problem := _differs(store, catalog, rows[backbone_id], Role(role))):
                damaged = [(f"segments of {role} by {rows[backbone_id].name}", problem)]
            problems[backbone_id, role] = damaged
        damaged_indexes = _damaged_indexes(store, catalog)
    orphans = [path for path in sorted(store.segment_directory.iterdir()) if path.name not in recorded]
    for ann, problem in damaged_indexes:
        if repair:
            with store.writing() as editor:
                forget_ann(editor, ann.segment_id)
        yield Finding(f"approximate index {ann.file}", problem, Remedy.REPAIR, repair)
    for (backbone_id, role), named_problems in problems.items():
        repaired = repair and len(named_problems) > 0 and _rewrite(store, rows[backbone_id], role)
        for subject, problem in named_problems:
            yield Finding(subject, problem, Remedy.REPAIR, repaired)
    if repair:
        sweep(store)
    for path in orphans:
        yield Finding(f"segment {path.name}", "is named by no record", Remedy.REPAIR, repair)


def _damaged_indexes(store: Store, catalog: Catalog) -> list[tuple[AnnRow, str]]:
    """The approximate indexes that cannot be used; without one, all vectors are compared until an index run builds it again."""
    damaged = []
    for ann in ann_rows(catalog).values():
        try:
            check_ann(store.segment_directory / ann.file, ann.xxh3)
        except StoreError:
            damaged.append((ann, "its bytes are not those that were written"))
        except OSError as error:
            damaged.append((ann, f"cannot be read: {error.strerror}"))
    return damaged


def _rewrite(store: Store, row: BackboneRow, role: str) -> bool:
    try:
        rewrite_segments(store, row, Role(role))
    except (StoreError, ValueError):
        return False  # a damaged row, which is a finding of its own
    return True


def _differs(store: Store, catalog: Catalog, row: BackboneRow, role: Role) -> str | None:
    """Return a fault where the segments, brought up to date, hold other vectors than the rows."""
    try:
        truth = usable_images(catalog, row, role)
    except StoreError:
        return None  # a damaged row, which is a finding of its own
    try:
        opened = open_vectors(store, catalog, row, role)
    except StoreError:
        return "name other images than the database has vectors of"
    labelled = [(group.category, group.label, truth.ids[group.first : group.last].tolist()) for group in truth.groups]
    theirs = [(category, label, ids.tolist()) for category, label, ids in opened.labelled()]
    if len(opened) != len(truth.ids) or theirs != [each for each in labelled if each[1] is not None]:
        return "hold other images than the database"
    ids = truth.ids
    try:
        for start, vectors in zip(range(0, len(ids), CHUNK), stored_vectors(catalog, row, truth.contents), strict=True):
            if not np.array_equal(opened.vectors(ids[start : start + CHUNK]), vectors):
                return "hold other vectors than the database"
    except KeyError:
        return "hold other images than the database"
    except StoreError:
        return None
    return None
