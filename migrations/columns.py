"""Columns: the types that tables have in SQLite and in PostgreSQL."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, String
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

WHOLE = Integer().with_variant(BigInteger(), "postgresql")
"""Whole numbers of 64 bits, as SQLite has all of them: revisions, bytes, nanoseconds, ids."""


def text_of(length: int | None = None) -> String:
    """Texts (of a length), ordered by their bytes in UTF-8, as SQLite does: no order hangs on a database's locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


TEXT, SHA256, XXH3 = text_of(), text_of(64), text_of(32)


class VectorBytes(TypeDecorator[bytes]):
    """The bytes of a vector: of little-endian float32 (or what stands for them), which PostgreSQL keeps as pgvector's `vector`.

    From PostgreSQL they come as pgvector sends them (`vector_send`): two numbers of 16 bits, of which the first is the
    dimension, then float32, all big-endian.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        return dialect.type_descriptor(PgVector() if dialect.name == "postgresql" else LargeBinary())

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> Any:
        """What the driver is given."""
        if value is None or dialect.name != "postgresql":
            return value
        from pgvector import Vector

        return Vector(np.frombuffer(value, dtype="<f4"))

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """The bytes of what the driver returned."""
        if value is None or dialect.name != "postgresql":
            return value
        return np.frombuffer(value, dtype=">f4", offset=4).astype("<f4").tobytes()


def sent_vector(value: bytes) -> bytes:
    """The bytes of a vector of float32 as pgvector sends and receives them."""
    numbers = np.frombuffer(value, dtype="<f4")
    return struct.pack(">HH", len(numbers), 0) + numbers.astype(">f4").tobytes()


class PgVector(UserDefinedType[Any]):
    """A vector of any dimension, as pgvector keeps it."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in SQL."""
        return "vector"
