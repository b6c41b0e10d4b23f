"""Snapshots: vector stores on disk that follow the database's rows, and are rebuilt from them when lost."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import uuid
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet, WeakValueDictionary

import numpy as np
import xxhash

from nearshot.schema.catalog import BackboneRow, Catalog, SnapshotRow, Vectors
from nearshot.schema.disk import open_regular, written_whole
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.flat import BLOCK, FlatStore
from nearshot.vectors.protocol import VectorStore

log = logging.getLogger(__name__)


class Scope(NamedTuple):
    """Scope of one snapshot: the vectors of a backbone for a category and a role."""

    backbone: BackboneRow
    category: str
    role: Role


def open_vectors(store: Store, catalog: Catalog, scope: Scope) -> VectorStore:
    """The vectors of a scope as the catalog's state has them: the snapshot, with what changed since applied.

    Every byte of it is checked when it is read, and its ids against the rows when it is first used (StoreError where these
    have lost some). A snapshot that is missing, damaged or another's is passed over, and the rows are read instead. One that
    does not change is in memory once, for all who have it open.
    """
    row = catalog.snapshot(scope.backbone.id, scope.category, scope.role)
    vectors = _from_snapshot(store, row, scope) if row else None
    if row is None or vectors is None:
        return read_rows(catalog, scope)
    snapshot = vectors
    delta = catalog.delta(*scope, since=row.revision)
    if len(delta.touched):
        vectors = snapshot.copy()
        vectors.remove(delta.touched)
        if len(delta.current.ids):
            _add(vectors, delta.current)
    if snapshot not in _compared and not np.array_equal(vectors.ids(), catalog.vector_ids(*scope)):
        raise StoreError(
            f"rows and snapshot of {scope.category} ({scope.role}, {scope.backbone.name}) name different images: "
            "the database is damaged; `nearshot verify` says where"
        )
    _compared.add(snapshot)
    return vectors


_open: WeakValueDictionary[tuple[str, str], FlatStore] = WeakValueDictionary()
"""The snapshots that somebody has open, unchanged, by file and digest."""

_compared: WeakSet[FlatStore] = WeakSet()
"""Those of them whose ids were compared with the rows."""


def write_snapshots(store: Store, scopes: list[Scope]) -> int:
    """Bring the snapshots of some scopes up to the newest revision; returns how many were written.

    Each file has a name of its own, is written aside, synced, renamed, and only then recorded: a reader holds either the
    old file or the new one, and a crash leaves a file that nobody names, which the next writer sweeps away.
    """
    written = sum(_write_snapshot(store, scope) for scope in scopes)
    sweep(store)
    return written


def sweep(store: Store) -> list[Path]:
    """Delete the files that no record names; returns them. Only for the holder of the store."""
    with store.reading() as catalog:
        recorded = {row.file for row in catalog.snapshots()}
    orphans = [path for path in sorted(store.snapshot_directory.iterdir()) if path.name not in recorded]
    for path in orphans:
        with contextlib.suppress(OSError):  # harmless where it is, and tried again by the next writer
            path.unlink()
    return orphans


def damage(store: Store, row: SnapshotRow) -> str | None:
    """Describe what is wrong with a snapshot's file, if anything. Reads the whole file."""
    path = store.snapshot_directory / row.file
    try:
        with open_regular(path) as file:
            sha256, xxh3 = _digests(file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if sha256 == row.sha256 and row.xxh3 in (None, xxh3):
        return None
    return "its bytes are not those that were written"


def snapshot_as_written(store: Store, catalog: Catalog, scope: Scope) -> VectorStore | None:
    """What the snapshot of a scope holds, whatever has changed since; None where it is not there, or damaged."""
    row = catalog.snapshot(scope.backbone.id, scope.category, scope.role)
    return _from_snapshot(store, row, scope) if row else None


def _from_snapshot(store: Store, row: SnapshotRow, scope: Scope) -> FlatStore | None:
    path = store.snapshot_directory / row.file
    try:
        key = (str(path), row.xxh3 or row.sha256)
        vectors = _open.get(key)
        if vectors is None:
            vectors = FlatStore.read(path, size=row.size, digest=row.xxh3 or row.sha256)
            _open[key] = vectors
        if (vectors.dimension, len(vectors)) != (scope.backbone.dimension, row.vectors):
            raise ValueError(f"{path} does not hold what its record says")
    except FileNotFoundError:  # a writer has put a newer one in its place since this reader began
        return None
    except (OSError, ValueError) as error:
        log.warning("snapshot passed over, reading the database instead (nearshot verify --repair mends it): %s", error)
        return None
    return vectors


def read_rows(catalog: Catalog, scope: Scope) -> FlatStore:
    """The vectors of a scope from the rows alone; StoreError where one is damaged."""
    vectors = FlatStore(scope.backbone.dimension)
    for chunk in catalog.vectors(*scope):
        _add(vectors, chunk)
    return vectors


def _add(vectors: VectorStore, rows: Vectors) -> None:
    try:
        vectors.add(*rows)
    except ValueError as error:
        raise StoreError(f"a stored vector is damaged ({error}); run `nearshot verify --repair`") from error


def _write_snapshot(store: Store, scope: Scope) -> bool:
    with store.reading() as catalog:
        revision = catalog.revision()
        row = catalog.snapshot(scope.backbone.id, scope.category, scope.role)
        if row and not _is_whole(store, row):
            row = None
        changed = row is None or len(catalog.touched(*scope, since=row.revision)) > 0
        vectors = read_rows(catalog, scope) if changed else None
        if row is None and not vectors:
            return False
    if vectors is not None:
        record = _save(store, scope, vectors, revision)
    elif row is not None and row.revision != revision:
        record = row._replace(revision=revision)  # the next reader need not look through the same revisions again
    else:
        return False
    with store.writing() as editor:
        editor.record_snapshot(record)
    return vectors is not None


def _save(store: Store, scope: Scope, vectors: FlatStore, revision: int) -> SnapshotRow:
    """Write a file that is whole and on the disk before it has its name."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", scope.backbone.name)[-40:]
    path = store.snapshot_directory / f"{readable}-{scope.role}-{uuid.uuid4().hex}.faiss"
    try:
        with written_whole(path) as aside:
            vectors.save(aside)
            with open_regular(aside) as file:
                sha256, xxh3 = _digests(file)
            size = aside.stat().st_size
    except OSError as error:
        raise StoreError(
            f"cannot write the snapshot {path}: {error}; all vectors are safe in the database: "
            "free some space and run `nearshot index` again"
        ) from error
    key = (scope.backbone.id, scope.category, scope.role)
    return SnapshotRow(*key, path.name, size, sha256, len(vectors), revision, xxh3)


def _digests(file: FileIO) -> tuple[str, str]:
    """SHA-256 and XXH3 of 128 bits of a file's bytes, in hexadecimal."""
    sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
    while block := file.read(BLOCK):
        sha256.update(block)
        xxh3.update(block)
    return sha256.hexdigest(), xxh3.hexdigest()


def _is_whole(store: Store, row: SnapshotRow) -> bool:
    try:
        return (store.snapshot_directory / row.file).stat().st_size == row.size
    except OSError:
        return False
