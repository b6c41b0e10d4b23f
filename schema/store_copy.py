"""A copy of a store: every row of another, whichever databases the two are in, read back and compared.

Contents and their vectors, which are nearly all of it, are copied a chunk a transaction; whatever is in both already stays, so
that a copy that was cut off goes on. The other tables follow in one transaction, then what is derived of all; and until then
nobody opens the copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from sqlalchemy import Connection, Select, Table, and_, delete, false, func, insert, select, update

from nearshot.migrations.columns import sent_vector
from nearshot.schema import postgres, tables
from nearshot.schema.caption_search import rebuild_full_text
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.database import begin_copy, copied_from, end_copy
from nearshot.schema.digests import COVERED, check_indexes, digest_of, intact, stored_vector
from nearshot.schema.editor import Editor
from nearshot.schema.errors import StoreError, UsageError
from nearshot.schema.intents import Planned, planned
from nearshot.schema.segment_cache import recorded_files
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import REFERENCE, decoded, encoded, reference_to, vector_kind
from nearshot.schema.vectors import CHANGED, choose_float16, referred_to
from nearshot.schema.vocabulary import VectorKind

contents, embeddings, pending = tables.contents.c, tables.embeddings.c, tables.pending_vectors.c

CONTENTS = 1024
"""Contents that are copied together with their vectors: some 13 MB with those of three backbones."""

ROWS = 10_000
"""Rows of the other tables that are in memory at once."""

_WITH_VECTORS = (tables.contents, tables.backbones, tables.embeddings, tables.pending_vectors)
_DERIVED = (tables.segments, tables.ann_indexes, tables.mirrors)
_OF_SERVICES = (tables.api_keys, tables.jobs)
_OF_SEGMENTS = (tables.vector_storage, tables.ann_choices)
_OTHERS = [
    table
    for table in tables.metadata.sorted_tables
    if table not in (*_WITH_VECTORS, *_DERIVED, *_OF_SERVICES, tables.revision, tables.vector_storage)
]
_NUMBERED = [tables.contents, tables.backbones, *(table for table in _OTHERS if "id" in table.columns)]


class Chunk(NamedTuple):
    """Contents of a range, and what backbones made of them, as rows: `last` is the highest id."""

    last: int
    contents: list[tuple[Any, ...]]
    embeddings: list[tuple[int, int, bytes | None, str | None, int]]


def require_whole(source: Store, catalog: Catalog) -> None:
    """Raise UsageError where a store is not to be copied now, StoreError where an index of its database hides rows."""
    if any(each.action in (Planned.CROP, Planned.UNCROP) for each in planned(catalog)):
        raise UsageError(
            f"`nearshot crop` is at work on {source.shown_location}, or was cut off: let it end, or run it again, first"
        )
    for table in tables.metadata.sorted_tables:
        check_indexes(catalog.connection, table)


class StoreCopy:
    """The copying of one state of a store into another store. UsageError where that has something else in it."""

    def __init__(self, source: Store, catalog: Catalog, target: Store) -> None:
        """Look at both, and mark the target as one that is not finished."""
        self._source, self._catalog, self._target = source, catalog, target
        self.total = int(catalog.connection.execute(select(func.count()).select_from(tables.contents)).scalar_one())
        key = xxhash.xxh3_64_hexdigest((catalog.identity() or str(Path(source.location).resolve())).encode())
        self.backbones = {row.id: row for row in catalog.all_backbones()}
        if vector_kind(catalog) == VectorKind.FLOAT16:  # while the files are there that belong to this state
            catalog.holding |= {row.id: list(recorded_files(catalog, row)) for row in self.backbones.values()}
        with target.writing() as editor:
            before = copied_from(editor.connection)
            if before is None and (editor.revision() or editor.roots()):
                raise UsageError(
                    f"there is a store at {target.shown_location} already; name another place for the copy"
                )
            others = {(row.id, row.fingerprint) for row in editor.all_backbones()}
            if before not in (None, key) or not others <= {
                (row.id, row.fingerprint) for row in self.backbones.values()
            }:
                raise UsageError(
                    f"{target.shown_location} has a part of a copy of another store; name another place, or delete it first"
                )
            if catalog.identity() and catalog.identity() == editor.identity():
                raise UsageError("a store cannot be copied onto itself")
            begin_copy(editor.connection, key)
            if vector_kind(catalog) == VectorKind.FLOAT16 and target.has_segments:
                choose_float16(editor)
            self._kind = vector_kind(editor)
            _put_backbones(editor, list(self.backbones.values()))
            newest = editor.connection.execute(select(func.max(contents.id))).scalar()
        self._newest = newest or 0

    def chunks(self) -> Generator[tuple[int, int], None, None]:
        """Copy contents and vectors, a chunk at each step: how many contents, and how many of them had been there already."""
        last, committed = 0, None
        # The next chunk is read, and the one before is read back, while one is written.
        with ThreadPoolExecutor(2, thread_name_prefix="copy") as pool:
            coming = pool.submit(self._read, self._catalog, 0, None)
            while (chunk := coming.result()).contents:
                coming = pool.submit(self._read, self._catalog, chunk.last, None)
                there = last < self._newest and self._is_there(last, chunk)
                if not there:
                    self._write(last, chunk)
                if committed is not None:
                    committed.result()
                committed = None if there else pool.submit(self._check, last, chunk)
                last = chunk.last
                yield len(chunk.contents), len(chunk.contents) if there else 0
            if committed is not None:
                committed.result()
        with self._target.writing() as editor:
            _delete(editor, last)

    def copy_others(self) -> dict[str, int]:
        """Copy all other tables, in one transaction; the rows of each table, and how many `vectors` there are."""
        with self._target.writing() as editor:
            for table in reversed(self._others):
                editor.connection.execute(delete(table))
            value = self._catalog.revision()
            editor.connection.execute(update(tables.revision).values(value=value))
            copied = {table.name: self._copy(editor.connection, table) for table in self._others}
            if editor.connection.dialect.name == "postgresql":
                rebuild_full_text(editor)
                postgres.continue_ids(editor.connection, _NUMBERED)
            for table in (tables.contents, tables.embeddings, tables.backbones):
                copied[table.name] = self._count(editor.connection, table)
            there = select(func.count()).where(embeddings.vector.is_not(None))
            copied["vectors"] = int(editor.connection.execute(there).scalar_one())
        return copied

    def finish(self) -> None:
        """Make the copy a store."""
        with self._target.writing() as editor:
            end_copy(editor.connection)

    @property
    def _others(self) -> list[Table]:
        return [table for table in _OTHERS if self._target.has_segments or table not in _OF_SEGMENTS]

    def _is_there(self, after: int, chunk: Chunk) -> bool:
        try:
            with self._target.reading() as catalog:
                return self._read(catalog, after, chunk.last) == chunk
        except StoreError:  # damaged, and so to be written again
            return False

    def _write(self, after: int, chunk: Chunk) -> None:
        rows = self._rows(chunk)
        with self._target.writing() as editor:
            if after < self._newest:  # what comes after the first difference may be in the way of what is to come
                _delete(editor, after)
            _insert(editor.connection, tables.contents, chunk.contents)
            if self._kind == VectorKind.FLOAT16:
                own = [(backbone, content, vector) for content, backbone, vector, *_ in chunk.embeddings if vector]
                _insert(editor.connection, tables.pending_vectors, own, ("backbone_id", "content_id", "vector"))
            _insert(editor.connection, tables.embeddings, rows)
        self._newest = min(self._newest, after)

    def _check(self, after: int, chunk: Chunk) -> None:
        """Hold what the database has of a chunk now against what was written."""
        with self._target.reading() as catalog:
            if self._read_contents(catalog, after, chunk.last) != chunk.contents:
                raise self._differs("contents")
            if _read_marks(catalog.connection, after, chunk.last) != _marks(catalog.connection, self._rows(chunk)):
                raise self._differs("vectors")
            if self._kind == VectorKind.FLOAT16:
                query = select(pending.content_id, pending.backbone_id, pending.vector).where(
                    pending.content_id > after, pending.content_id <= chunk.last
                )
                written = {tuple(row[:3]) for row in chunk.embeddings if row[2] is not None}
                if {tuple(row) for row in catalog.connection.execute(query)} != written:
                    raise self._differs("vectors")

    def _rows(self, chunk: Chunk) -> list[tuple[Any, ...]]:
        """The vectors of a chunk as rows of the target: themselves, or references to those of float16."""
        if self._kind == VectorKind.FLOAT32:
            return list(chunk.embeddings)
        return [(*row[:2], row[2] and reference_to(row[2]), *row[3:]) for row in chunk.embeddings]

    def _read(self, catalog: Catalog, after: int, last: int | None) -> Chunk:
        """A chunk of a store, up to a content, or as many as there are to be, its vectors as the target keeps them."""
        rows = self._read_contents(catalog, after, last)
        if not rows:
            return Chunk(after, [], [])
        last = rows[-1][0] if last is None else last
        return Chunk(last, rows, self._read_embeddings(catalog, after, last))

    def _read_contents(self, catalog: Catalog, after: int, last: int | None) -> list[tuple[Any, ...]]:
        of_range = contents.id > after if last is None else and_(contents.id > after, contents.id <= last)
        query = _select(tables.contents).where(of_range).limit(CONTENTS if last is None else None)
        return _whole(tables.contents, catalog.connection.execute(query))

    def _read_embeddings(
        self, catalog: Catalog, after: int, last: int
    ) -> list[tuple[int, int, bytes | None, str | None, int]]:
        query = (
            select(
                embeddings.content_id, embeddings.backbone_id, stored_vector(), embeddings.failure, embeddings.revision
            )
            .where(embeddings.content_id > after, embeddings.content_id <= last)
            .order_by(embeddings.backbone_id, embeddings.content_id)
        )
        read_rows: list[tuple[int, int, bytes | None, str | None, int]] = []
        for backbone_id, rows in groupby(map(tuple, catalog.connection.execute(query)), key=lambda row: row[1]):
            backbone, own = self.backbones[backbone_id], list(rows)
            references = {row[0]: row[2] for row in own if row[2] is not None and len(row[2]) == REFERENCE}
            blobs = referred_to(catalog, backbone, references)
            for content_id, _, blob, *more in own:
                vector = None if blob is None else self._as_kept(backbone, blobs.get(content_id, blob))
                if vector == b"" and content_id in references:
                    raise StoreError(CHANGED)
                if vector == b"":
                    raise StoreError(
                        f"the vector of content {content_id} by {backbone.name} is damaged; "
                        "`nearshot verify --repair` mends what can be mended"
                    )
                read_rows.append((content_id, backbone_id, vector, *more))
        return read_rows

    def _as_kept(self, backbone: BackboneRow, blob: bytes) -> bytes:
        """The bytes of a vector as the target keeps them; none where they are of no vector."""
        if self._kind == VectorKind.FLOAT32 and len(blob) == 4 * backbone.dimension:
            return blob
        vector = decoded(blob, backbone.dimension)
        return b"" if vector is None else encoded(vector, self._kind)

    def _copy(self, connection: Connection, table: Table) -> int:
        """Copy a table and hold it against the source's; how many rows it has."""
        number = 0
        for rows in _parts(self._catalog.connection, table):
            _insert(connection, table, rows)
            number += len(rows)
        with (
            closing(_parts(self._catalog.connection, table)) as own,
            closing(_parts(connection, table)) as copied,
        ):
            pairs = zip_longest(chain.from_iterable(own), chain.from_iterable(copied))
            if any(row != other for row, other in pairs):
                raise self._differs(table.name)
        return number

    def _count(self, connection: Connection, table: Table) -> int:
        own, copied = (
            int(each.execute(select(func.count()).select_from(table)).scalar_one())
            for each in (self._catalog.connection, connection)
        )
        if own != copied:
            raise self._differs(table.name)
        return copied

    def _differs(self, what: str) -> StoreError:
        return StoreError(f"{self._target.shown_location} does not give back the {what} that were written: copy again")


def _put_backbones(editor: Editor, rows: Sequence[BackboneRow]) -> None:
    known = {row.id for row in editor.all_backbones()}
    for row in rows:
        if row.id in known:
            editor.connection.execute(
                update(tables.backbones).where(tables.backbones.c.id == row.id).values(row._asdict())
            )
            continue
        editor.connection.execute(insert(tables.backbones).values(row._asdict()))
        if editor.connection.dialect.name == "postgresql":
            postgres.add_partition(editor.connection, row.id, row.dimension)


def _delete(editor: Editor, after: int) -> None:
    """Delete the contents after one, and what there is of them."""
    for column in (pending.content_id, embeddings.content_id, contents.id):
        editor.connection.execute(delete(column.table).where(column > after))


def _names(table: Table) -> tuple[str, ...]:
    return COVERED.get(table) or tuple(table.columns.keys())


def _select(table: Table) -> Select[Any]:
    """Select the rows of a table by key, and (last) whether each is what was written."""
    whole = intact(table) if table in COVERED else ~false()
    return select(*(table.c[name] for name in _names(table)), whole.label("whole")).order_by(*table.primary_key)


def _parts(connection: Connection, table: Table) -> Generator[list[tuple[Any, ...]], None, None]:
    """The rows of a table by key, some thousand at a time; StoreError where one is not what was written."""
    with connection.execute(_select(table), execution_options={"yield_per": ROWS}) as result:
        for part in result.partitions():
            yield _whole(table, part)


def _whole(table: Table, rows: Any) -> list[tuple[Any, ...]]:
    whole = []
    for *values, intact_row in rows:
        if not intact_row:
            raise StoreError(f"a row of {table.name} is damaged; `nearshot verify --repair` mends what can be mended")
        whole.append(tuple(values))
    return whole


def _read_marks(connection: Connection, after: int, last: int) -> list[tuple[Any, ...]]:
    """What a database says of each vector of a range: its SHA-256, or (SQLite) the digest of its row."""
    of_postgres = connection.dialect.name == "postgresql"
    mark = func.sha256(func.vector_send(embeddings.vector)) if of_postgres else embeddings.digest
    query = select(embeddings.content_id, embeddings.backbone_id, mark, embeddings.failure, embeddings.revision)
    of_range = query.where(embeddings.content_id > after, embeddings.content_id <= last)
    ordered = of_range.order_by(embeddings.backbone_id, embeddings.content_id)
    return list(map(tuple, connection.execute(ordered)))


def _marks(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What a database is to say of rows of vectors."""
    if connection.dialect.name == "postgresql":
        return [
            (*row[:2], None if row[2] is None else hashlib.sha256(sent_vector(row[2])).digest(), *row[3:])
            for row in rows
        ]
    return [(*row[:2], digest_of(*row), *row[3:]) for row in rows]


def _insert(
    connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], names: Sequence[str] | None = None
) -> None:
    names = names or _names(table)
    if connection.dialect.name == "postgresql":
        postgres.copy_in(connection, table, names, rows)
    elif rows:
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
