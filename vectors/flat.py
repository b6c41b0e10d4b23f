"""The FAISS vector store: IndexIDMap2 over IndexFlatIP, in memory."""

from __future__ import annotations

import hashlib
import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from nearshot.schema.disk import open_regular
from nearshot.vectors.protocol import Neighbours, check_new_ids, check_unit_vectors, nearest

BLOCK = 1 << 20
"""Bytes that are read and checked at a time."""

ROUNDING = 1e-5
"""More than float32 sums of a unit vector's few thousand products can be off."""


class FlatStore:
    """Exact search by inner product. What is read from a file is in memory from then on: nothing that becomes of it matters."""

    def __init__(self, dimension: int) -> None:
        import faiss  # here and below: a run that finds nothing to do must not wait for FAISS

        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    @classmethod
    def read(cls, path: Path, *, size: int, digest: str) -> FlatStore:
        """Read a file that `save` wrote, of a size in bytes and a digest: XXH3 of 128 bits, or SHA-256, in hexadecimal.

        Raises ValueError where it is another, OSError where it cannot be read. FAISS is given no byte before all were
        checked, and the bytes that it is given are checked again.
        """
        store = cls.__new__(cls)
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != size:
                raise ValueError(f"{path} is torn: it should have {size} bytes")
            hasher = _hasher(digest)
            while block := file.read(BLOCK):
                hasher.update(block)
            if hasher.hexdigest() != digest:
                raise ValueError(f"{path} is damaged: its bytes are not those that were written")
            file.seek(0)
            store._index = _parse(path, file, digest)
        return store

    def copy(self) -> FlatStore:
        """Another store of the same vectors."""
        import faiss

        other = type(self).__new__(type(self))
        other._index = faiss.clone_index(self._index)
        return other

    def save(self, path: Path) -> None:
        """Write to a file; OSError where that fails."""
        import faiss

        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # FAISS knows no other exception
            raise OSError(str(error)) from error

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return int(self._index.d)

    def __len__(self) -> int:
        """Return the number of vectors it holds."""
        return int(self._index.ntotal)

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.sort(self._id_map())

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors under new ids."""
        check_unit_vectors(vectors, self.dimension)
        check_new_ids(ids, vectors, self._id_map())
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove some ids."""
        import faiss

        if not len(ids) or not np.isin(ids, self._id_map()).any():
            return 0
        return int(self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(ids))))

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors under some ids."""
        missing = ids[~np.isin(ids, self._id_map())]
        if len(missing):
            raise KeyError(int(missing.min()))
        if not len(ids):
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors: NDArray[np.float32] = self._index.reconstruct_batch(np.ascontiguousarray(ids))
        return vectors

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The nearest vectors of each query."""
        check_unit_vectors(queries, self.dimension)
        _keep_to_one_core()
        if k < 1 or not len(self):
            return [Neighbours(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        # FAISS sums in float32, in an order that depends on a vector's place, and leaves ties open. So take its word for
        # who is near, with enough behind the k-th that rounding cannot have kept one out, and score those exactly.
        asked = min(len(self), k + 1)
        while True:
            scores, ids = self._index.search(np.ascontiguousarray(queries), asked)
            if asked == len(self) or (scores[:, -1] < scores[:, min(k, asked) - 1] - ROUNDING).all():
                rows = zip(queries, ids, strict=True)
                return [
                    nearest(query, candidates, self._index.reconstruct_batch(candidates), k)
                    for query, candidates in rows
                ]
            asked = min(len(self), asked * 2)

    def _id_map(self) -> NDArray[np.int64]:
        import faiss

        ids: NDArray[np.int64] = faiss.vector_to_array(self._index.id_map)
        return ids


def _keep_to_one_core() -> None:
    """Have FAISS bring no team of OpenMP threads where it is called off the main thread, for as long as that thread lives.

    With more threads in teams than cores, libgomp sends each to sleep between the steps of a forward pass instead of letting it
    spin: 500 sleeps an image, and a third more time for one image of CLIP ViT-B/32 (benchmarks/README.md).
    """
    if threading.current_thread() is not threading.main_thread():
        import faiss

        faiss.omp_set_num_threads(1)


def _parse(path: Path, file: FileIO, digest: str) -> Any:
    """Have FAISS read an index, and check the bytes on their way."""
    import faiss

    hasher = _hasher(digest)

    def give(size: int) -> bytes:
        block = file.read(size)
        hasher.update(block)
        return block

    try:
        index = faiss.read_index(faiss.PyCallbackIOReader(give, BLOCK))  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise ValueError(f"{path} is not a FAISS index: {error}") from error
    while block := file.read(BLOCK):  # whatever FAISS had no use for
        hasher.update(block)
    if hasher.hexdigest() != digest:
        raise ValueError(f"{path} changed while it was read")
    if not isinstance(index, faiss.IndexIDMap2) or not isinstance(faiss.downcast_index(index.index), faiss.IndexFlatIP):
        raise ValueError(f"{path} holds another kind of FAISS index")
    return index


def _hasher(digest: str) -> Any:
    return xxhash.xxh3_128() if len(digest) == 32 else hashlib.sha256()
