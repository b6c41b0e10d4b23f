"""Segment: an immutable file with vectors of a backbone and role, those of a category together, of a label in it together.

It begins as a FAISS index, `index_factory(d, "IDMap2,L2norm,Flat", METRIC_INNER_PRODUCT)`, that `faiss.read_index` reads; then
come the ids that it supersedes in older segments, what it holds in words, and a digest of every block of the file.

One of float16 is FAISS's `IDMap2,L2norm,SQfp16`, and has the content of every vector, too: its rows hold no other copy.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from nearshot.schema.disk import open_regular
from nearshot.schema.errors import StoreError
from nearshot.schema.segments import Group, LabelSpans, union
from nearshot.schema.vocabulary import VectorKind

BLOCK = 1 << 20
"""Bytes that one digest is of."""

MAPPED = 64 << 20
"""Bytes from which a file is mapped and not read into memory. What becomes of a smaller one after it was readno matter."""

TYPES = {VectorKind.FLOAT32: "<f4", VectorKind.FLOAT16: "<f2"}
SIZES = {VectorKind.FLOAT32: 4, VectorKind.FLOAT16: 2}

MAGIC = b"nearshot segment"
FORMATS = {1: VectorKind.FLOAT32, 2: VectorKind.FLOAT16}
_FOOTER = struct.Struct("<16sQQ")
_COUNT = struct.Struct("<Q")
_INDEX = struct.Struct("<4siqqqBi")
"""What FAISS writes of every index: kind, dimension, number, two numbers without meaning, trained, metric (inner product: 0."""
_TRANSFORM = struct.Struct("<i4sfiiB")
"""What FAISS writes of one transform, `VNrm`: how many, kind, norm, dimensions in and out, trained."""
_QUANTIZER = struct.Struct("<iifQQQ")
"""What FAISS writes of a quantizer: kind (4: float16), two numbers without meaning, dimension, bytes a vector, no training."""
VECTORS_AT = {
    VectorKind.FLOAT32: 3 * _INDEX.size + _TRANSFORM.size + _COUNT.size,
    VectorKind.FLOAT16: 3 * _INDEX.size + _TRANSFORM.size + _QUANTIZER.size + _COUNT.size,
}
"""Where vectors begin: at a multiple of four, as arithmetic on mapped floats needs it (without `L2norm` they would not)."""

WIDENED = 1 << 20
"""Bytes of float32 that vectors of float16 are widened to and multiplied at a time: so many stay in a processor's cache."""


class Written(NamedTuple):
    """A file that was written: bytes, and the XXH3 of 128 bits, in hexadecimal, of the digests that it ends with."""

    size: int
    digest: str


class Segment:
    """A segment that is open. Any number of threads may read it; no byte is used before it was checked.

    `superseded` (m,) are ids that are no longer in older segments as they were; its own are among them. `contents` (n,) are the
    contents of its vectors where these are of float16, else none.
    """

    def __init__(self, path: Path, *, size: int, digest: str | None = None) -> None:
        """Open a file that `write_segment` wrote; StoreError where it is another or damaged, OSError where it cannot be read.

        Without a digest, the file is taken by its own word: its bytes are those that somebody wrote. All but the vectors is
        checked now; the vectors when they are asked for, each block once.
        """
        self.path = path
        self._mapped: _Mapped | None = None
        self._bytes: memoryview = memoryview(self._read_or_map(size))
        magic, about_size, blocks = _FOOTER.unpack(self._bytes[-_FOOTER.size :])
        held = size - _FOOTER.size - 8 * blocks
        if magic != MAGIC or not 0 < about_size < held or blocks != -(-held // BLOCK):
            raise StoreError(f"{path} is no segment")
        if digest not in (None, xxhash.xxh3_128(self._bytes[held:]).hexdigest()):
            raise StoreError(f"{path} is damaged: its bytes are not those that were written")
        self._digests = np.frombuffer(self._bytes, dtype="<u8", count=blocks, offset=held)
        self._checked = np.zeros(blocks, dtype=bool)
        self._held = held
        self._check(held - about_size, held)
        about: dict[str, Any] = json.loads(bytes(self._bytes[held - about_size : held]))
        if about["format"] not in FORMATS:
            raise StoreError(f"{path} is of another format ({about['format']})")
        self.kind = FORMATS[about["format"]]
        self.dimension: int = about["dimension"]
        self.of: list[str] = about["of"]
        count = sum(number for _, _, number in about["groups"])
        self._vectors_at, self._vector_size = VECTORS_AT[self.kind], SIZES[self.kind] * self.dimension
        ids_at = self._vectors_at + self._vector_size * count + _COUNT.size
        # Of float16 there is no other copy: what begins in a damaged block may be whole further on.
        if self.kind == VectorKind.FLOAT32:
            self._check(0, self._vectors_at)
        self._check(ids_at, held)
        self.ids = np.frombuffer(self._bytes, dtype="<i8", count=count, offset=ids_at).astype(np.int64)
        rest = np.frombuffer(self._bytes[ids_at + 8 * count : held - about_size], dtype="<i8").astype(np.int64)
        split = len(rest) - (count if self.kind == VectorKind.FLOAT16 else 0)
        self.contents = rest[split:]
        self.superseded = union(rest[:split], self.ids)
        self.groups = _grouped(about["groups"])

    @cached_property
    def labels(self) -> LabelSpans:
        """The labels among its groups."""
        return LabelSpans.of(self.groups)

    def is_changed(self) -> bool:
        """Tell whether somebody has written to the file since, and it is read no more."""
        return self._mapped is not None and self._mapped.is_changed()

    def _read_or_map(self, size: int) -> bytes | mmap.mmap:
        with open_regular(self.path) as file:
            data: bytes | mmap.mmap = b""
            if os.fstat(file.fileno()).st_size == size and size < MAPPED:
                data = file.read(size)
            elif os.fstat(file.fileno()).st_size == size:
                self._mapped = _Mapped(file)
                data = self._mapped.bytes
        if len(data) != size or size < min(VECTORS_AT.values()) + _FOOTER.size:
            raise StoreError(f"{self.path} is torn: it should have {size} bytes")
        return data

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        """The vectors (last - first, dimension); StoreError where they are damaged, or the file was changed meanwhile."""
        self.check(first, last)
        stored = self._stored[first:last]
        return stored if stored.dtype == np.float32 else _widened(stored, np.empty(stored.shape, dtype=np.float32))

    def pick(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) in some rows (n,); StoreError as `rows`."""
        picked: NDArray[np.float32] = self.pick_stored(rows).astype(np.float32, copy=False)
        return picked

    def pick_stored(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The vectors (n, dimension) in some rows (n,) as they are stored, float32 or float16; StoreError as `rows`."""
        starts = self._vectors_at + self._vector_size * rows  # of which none is longer than a block
        firsts, lasts = starts // BLOCK, (starts + self._vector_size - 1) // BLOCK
        self._check_blocks(np.unique(np.concatenate([firsts, lasts])))
        return self._stored[rows]

    def scores(self, first: int, last: int, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products (q, last - first) of queries (q, dimension) with vectors, as float32 sums them; StoreError as `rows`."""
        self.check(first, last)
        if self.kind == VectorKind.FLOAT32:
            return products(queries, self._stored[first:last])
        scores = np.empty((len(queries), last - first), dtype=np.float32)
        together = max(1, WIDENED // (4 * self.dimension))
        wide = np.empty((together, self.dimension), dtype=np.float32)
        for start in range(0, last - first, together):
            few = self._stored[first + start : min(first + start + together, last)]
            scores[:, start : start + len(few)] = products(queries, _widened(few, wide[: len(few)]))
        return scores

    def check(self, first: int, last: int) -> None:
        """Check the vectors from one row up to another; StoreError where they are damaged, or the file was changed."""
        self._check(self._vectors_at + self._vector_size * first, self._vectors_at + self._vector_size * last)

    def rows_with(self, content: int) -> NDArray[np.int64]:
        """All rows (n,) of the vectors of a content, of which several images may be."""
        held, rows = self._by_content
        return rows[np.searchsorted(held, content) : np.searchsorted(held, content, side="right")]

    def rows_of(self, contents: NDArray[np.int64]) -> NDArray[np.int64]:
        """A row of the vector of each of some contents (n,); -1 for what it does not hold."""
        held, rows = self._by_content
        places = np.searchsorted(held, contents)
        inside = places < len(held)
        inside[inside] = held[places[inside]] == contents[inside]
        return np.where(inside, rows[places * inside] if len(rows) else -1, -1)

    @cached_property
    def _by_content(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The contents (n,) in order, and their rows (n,)."""
        rows = np.argsort(self.contents, kind="stable")
        return self.contents[rows], rows

    @property
    def _stored(self) -> NDArray[Any]:
        """All vectors (n, dimension) as they are stored, checked or not."""
        size = len(self.ids) * self.dimension
        flat = np.frombuffer(self._bytes, dtype=TYPES[self.kind], count=size, offset=self._vectors_at)
        return flat.reshape(-1, self.dimension)

    def _check(self, start: int, end: int) -> None:
        """Check the blocks from one byte up to another that were not checked yet."""
        self._check_blocks(np.arange(start // BLOCK, -(-end // BLOCK)))

    def _check_blocks(self, blocks: NDArray[np.int64]) -> None:
        if self.is_changed():
            raise StoreError(f"{self.path} was changed by somebody while it was open")
        for number in blocks[~self._checked[blocks]].tolist():
            content = self._bytes[number * BLOCK : min((number + 1) * BLOCK, self._held)]
            if xxhash.xxh3_64(content).intdigest() != self._digests[number]:
                raise StoreError(f"{self.path} is damaged: its bytes are not those that were written")
            self._checked[number] = True


class FileState:
    """A file that is held open, and its state when it was opened."""

    def __init__(self, file: FileIO) -> None:
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._state = self._look()

    def is_changed(self) -> bool:
        """Tell whether somebody has written to it: past the end of one that was cut short, to read a byte is to die."""
        return self._look() != self._state

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


class _Mapped(FileState):
    """A file that is mapped, and held open for as long."""

    def __init__(self, file: FileIO) -> None:
        super().__init__(file)
        self.bytes = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)


def write_segment(
    path: Path,
    vectors: Iterable[NDArray[np.float32]],
    *,
    ids: NDArray[np.int64],
    groups: Sequence[Group],
    superseded: NDArray[np.int64],
    dimension: int,
    of: Sequence[str],
    contents: NDArray[np.int64] | None = None,
) -> Written:
    """Write vectors, which come in parts (any number, dimension) in the order of the ids, to a file; OSError.

    `of` are the backbone's fingerprint and the role. With `contents` (n,) vectors are stored as float16, rounded where they are
    not so already. The file is not synced.
    """
    kind = VectorKind.FLOAT32 if contents is None else VectorKind.FLOAT16
    numbers = [(group.category, group.label, group.last - group.first) for group in groups]
    number = next(number for number, its_kind in FORMATS.items() if its_kind == kind)
    about = {"format": number, "of": list(of), "dimension": dimension, "groups": numbers}
    with path.open("wb") as file:
        digesting = _Digesting(file)
        for name in (b"IxM2", b"IxPT", b"IxFI" if kind == VectorKind.FLOAT32 else b"IxSQ"):
            digesting.write(_INDEX.pack(name, dimension, len(ids), BLOCK, BLOCK, True, 0))
            if name == b"IxPT":
                digesting.write(_TRANSFORM.pack(1, b"VNrm", 2.0, dimension, dimension, True))
        if kind == VectorKind.FLOAT16:
            digesting.write(_QUANTIZER.pack(4, 0, 0.0, dimension, 2 * dimension, 0))
            digesting.write(_COUNT.pack(2 * len(ids) * dimension))
        else:
            digesting.write(_COUNT.pack(len(ids) * dimension))
        count = 0
        for part in vectors:
            digesting.write(np.ascontiguousarray(part, dtype=TYPES[kind]).tobytes())
            count += len(part)
        assert count == len(ids), "there is a vector for each id"
        digesting.write(_COUNT.pack(len(ids)) + ids.astype("<i8").tobytes() + superseded.astype("<i8").tobytes())
        if contents is not None:
            digesting.write(contents.astype("<i8").tobytes())
        text = json.dumps(about).encode()
        digesting.write(text)
        digests = digesting.digests()
        end = digests + _FOOTER.pack(MAGIC, len(text), len(digests) // 8)
        file.write(end)
        return Written(file.tell(), xxhash.xxh3_128(end).hexdigest())


def products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The products (q, n) of queries (q, dimension) with vectors (n, dimension), as float32 sums them."""
    return (vectors @ queries[0])[None] if len(queries) == 1 else queries @ vectors.T


def _widened(stored: NDArray[np.float16], wide: NDArray[np.float32]) -> NDArray[np.float32]:
    """Numbers of float16 below 2 in size as float32, the same to the bit, in the place given; NumPy's own way takes four times
    as long. A float16 has the bits of a float32 that is smaller by 2 to the power of 112, moved by 13 places under its sign.
    """
    bits = wide.view(np.int32)
    np.copyto(bits, stored.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70000001), out=bits)
    return np.multiply(wide, np.float32(2.0**112), out=wide)


class _Digesting:
    """Writes to a file, and keeps a digest of each block."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digests: list[int] = []
        self._hasher, self._room = xxhash.xxh3_64(), BLOCK

    def write(self, data: bytes) -> None:
        self._file.write(data)
        view = memoryview(data)
        while len(view) >= self._room:
            self._hasher.update(view[: self._room])
            view = view[self._room :]
            self._digests.append(self._hasher.intdigest())
            self._hasher, self._room = xxhash.xxh3_64(), BLOCK
        self._hasher.update(view)
        self._room -= len(view)

    def digests(self) -> bytes:
        """The digests of all blocks, the last of which may be shorter."""
        last = [self._hasher.intdigest()] if self._room < BLOCK else []
        return np.array(self._digests + last, dtype="<u8").tobytes()


def _grouped(numbers: Iterable[tuple[str, str | None, int]]) -> list[Group]:
    groups, first = [], 0
    for category, label, number in numbers:
        groups.append(Group(category, label, first, first + number))
        first += number
    return groups
