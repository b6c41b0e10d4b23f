"""Digests: every row that decides an answer carries one of what it says, so that damage is told and not answered from.

SQLite itself computes them, in triggers, by a function that every connection registers: whoever writes a row, its digest is
that of what was meant. They tell bits that flipped, not somebody who means harm: xxHash's XXH3 of 64 bits. PostgreSQL keeps
checksums of its own pages, and needs none.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import xxhash
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    func,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import Pool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from nearshot.migrations.columns import VectorBytes
from nearshot.schema import tables
from nearshot.schema.errors import StoreError

FUNCTION, INTACT = "nearshot_digest", "nearshot_intact"

FEW = 20_000
"""Up to how many captions and images a search by words checks the indexes that it goes by; of more, `verify` does."""

COVERED: Mapping[Table, tuple[str, ...]] = {
    table: tuple(column.name for column in table.columns if column.name != "digest")
    for table in tables.metadata.tables.values()
    if "digest" in table.columns
}
"""The columns that a digest is of, by table: all the others."""


def digest_of(*values: Any) -> int:
    """The digest of a row's values as SQLite holds them, texts as UTF-8: a signed number of 64 bits.

    It is the same in every version of Python; a text and its UTF-8 have the same.
    """
    parts = []
    for value in values:
        if isinstance(value, int):
            held = b"%d" % value
            parts.append(b"i%d:%b" % (len(held), held))
        elif value is None:
            parts.append(b"n0:")
        elif isinstance(value, float):
            parts.append(b"f8:%b" % struct.pack("<d", value))
        else:
            held = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            parts += (b"b%d:" % len(held), held)
    return xxhash.xxh3_64_intdigest(b"".join(parts)) - (1 << 63)


def intact_or_empty(digest: int | None, content_id: int, backbone_id: int, vector: bytes, *more: Any) -> bytes:
    """The stored bytes of a vector, or none where its row is not what was written: what has no bytes is no vector."""
    return vector if digest_of(content_id, backbone_id, vector, *more) == digest else b""


class _OfVector(FunctionElement[bytes]):
    """The bytes of a vector: of a row that is whole (its first argument), or as PostgreSQL sends it (its second)."""

    type = VectorBytes()
    inherit_cache = True


@compiles(_OfVector)
def _intact_vector(element: _OfVector, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(next(iter(element.clauses)), **more)


@compiles(_OfVector, "postgresql")
def _sent_vector(element: _OfVector, compiler: SQLCompiler, **more: Any) -> str:
    *_, column = element.clauses
    return f"vector_send({compiler.process(column, **more)})"


class _IsIntact(FunctionElement[bool]):
    """A condition that SQLite is asked; PostgreSQL keeps checksums of its pages, and does not give out a damaged one."""

    type = Boolean()
    inherit_cache = True


@compiles(_IsIntact)
def _asked(element: _IsIntact, compiler: SQLCompiler, **more: Any) -> str:
    return f"({compiler.process(element.clauses, **more)})"


@compiles(_IsIntact, "postgresql")
def _granted(element: _IsIntact, compiler: SQLCompiler, **_: Any) -> str:
    return "true"


def stored_vector() -> ColumnElement[bytes]:
    """The bytes of a vector as a query selects them: none where they are damaged."""
    row = tables.embeddings.c
    held = getattr(func, INTACT)(
        row.digest, row.content_id, row.backbone_id, row.vector, as_held(row.failure), row.revision, type_=LargeBinary
    )
    return _OfVector(held, row.vector).label("vector")


def as_held(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column's value with texts as their bytes, which may be no UTF-8 any more where they are damaged."""
    return case((func.typeof(column) == "text", cast(column, LargeBinary)), else_=type_coerce(column, NullType()))


@cache
def intact(table: Table) -> ColumnElement[bool]:
    """The condition that a row is what was written."""
    digest = getattr(func, FUNCTION)(*(as_held(table.c[name]) for name in COVERED[table]))
    # A text and its bytes have the same digest; that they are bytes now may be the bit that flipped.
    texts = [func.typeof(column) != "blob" for column in table.columns if isinstance(column.type, String)]
    return _IsIntact(and_(table.c.digest.is_not(None), table.c.digest == digest, *texts))


def check(connection: Connection, table: Table, *conditions: Any) -> None:
    """Raise StoreError where a row of a table (one that meets some conditions) is not what was written."""
    if damaged := damaged_rows(connection, table, *conditions, most=1):
        raise StoreError(
            f"a row of {table.name} is damaged ({_name(damaged[0])}); `nearshot verify --repair` mends what can be mended"
        )


@cache
def _damaged(table: Table) -> Select[Any]:
    """The query for the rows of a table that are not what was written."""
    shown = [as_held(table.c[name]).label(name) for name in COVERED[table] if name != "vector"]
    return select(*shown).where(~intact(table))


def damaged_rows(
    connection: Connection, table: Table, *conditions: Any, most: int | None = None
) -> list[dict[str, Any]]:
    """The rows of a table that are not what was written, without their vectors."""
    if connection.dialect.name != "sqlite":
        return []
    query = _damaged(table).where(*conditions)
    return [
        {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in row.items()}
        for row in connection.execute(query.limit(most)).mappings()
    ]


def check_decisive(connection: Connection) -> None:
    """Check the small tables that decide answers, whole, and their indexes: a damaged one hides rows."""
    for table in (
        tables.revision,
        tables.roots,
        tables.backbones,
        tables.fusions,
        tables.calibrations,
        tables.feedback,
        tables.marks,
    ):
        check(connection, table)
        check_indexes(connection, table)


def check_indexes(connection: Connection, table: Table) -> None:
    """Raise StoreError where a table or an index of it is not whole: it may hide rows. Reads all of both."""
    if connection.dialect.name == "sqlite":
        problem = connection.exec_driver_sql(f"PRAGMA integrity_check({table.name})").scalar()
        if problem != "ok":
            raise StoreError(
                f"the table {table.name} is damaged ({str(problem).splitlines()[0]}); restore the store from a backup"
            )


def check_words(connection: Connection) -> None:
    """Check that no index hides a caption, or an image that has one: once for an open store, unless it holds many."""
    pool = connection.engine.pool
    if pool in _words_checked:
        return
    newest = [
        connection.execute(select(func.max(table.c.id))).scalar() or 0 for table in (tables.captions, tables.images)
    ]
    if max(newest) <= FEW:
        check_indexes(connection, tables.captions)
        check_indexes(connection, tables.images)
    _words_checked.add(pool)


def check_captions(connection: Connection, image_ids: Sequence[int]) -> None:
    """Raise StoreError where a caption of some images is not what was written."""
    shown = select(tables.images.c.content_id).where(tables.images.c.id.in_(image_ids))
    check(connection, tables.captions, tables.captions.c.content_id.in_(shown))


def check_images(connection: Connection, category: str, revision: int) -> None:
    """Check the images of a category, but those that were checked since the store was opened and have not changed since."""
    image, checked = tables.images.c, _checked.setdefault(connection.engine.pool, {})
    newer = (image.revision > checked[category],) if category in checked else ()
    check(connection, tables.images, image.category == category, *newer)
    checked[category] = revision


_words_checked: WeakSet[Pool] = WeakSet()
"""The connections of open stores whose indexes of captions were checked."""

_checked: WeakKeyDictionary[Pool, dict[str, int]] = WeakKeyDictionary()
"""The revision up to which the images of a category were checked, by the connections of an open store: closing it ends them."""


def _name(row: Mapping[str, Any]) -> str:
    known = [
        f"{name} {row[name]}"
        for name in ("id", "backbone_id", "content_id", "category", "path")
        if row.get(name) is not None
    ]
    return ", ".join(known)
