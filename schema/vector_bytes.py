"""The bytes of vectors in rows: of float32, or a reference to one of float16, which lies in a segment, or in none yet."""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray
from sqlalchemy import select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.digests import intact
from nearshot.schema.vocabulary import VectorKind

REFERENCE = 9
"""The bytes of a reference: a letter, and the XXH3 of 64 bits of the vector's bytes. No vector has an odd number of them."""


def encoded(vector: NDArray[np.float32], kind: VectorKind) -> bytes:
    """The bytes of a vector (dimension,), rounded where it is to be of float16."""
    return vector.astype("<f4" if kind == VectorKind.FLOAT32 else "<f2").tobytes()


def decoded(blob: bytes, dimension: int) -> NDArray[np.float32] | None:
    """The vector (dimension,) of some bytes; None where they are of no vector of the dimension."""
    if len(blob) not in (2 * dimension, 4 * dimension):
        return None
    return np.frombuffer(blob, dtype="<f2" if len(blob) == 2 * dimension else "<f4").astype(np.float32, copy=False)


def reference_to(blob: bytes) -> bytes:
    """The reference to a vector, by its bytes as float16."""
    return b"s" + xxhash.xxh3_64(blob).digest()


def vector_kind(catalog: Catalog) -> VectorKind:
    """How the store keeps vectors that come new."""
    table = tables.vector_storage
    return VectorKind(catalog.connection.execute(select(table.c.kind).where(intact(table))).scalar() or "float32")
