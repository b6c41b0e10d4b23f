"""ANN: an approximate index over a segment's vectors, by FAISS, which finds near ones by looking at a part of them.

Its codes are of 8 bits a value, a quarter of the vectors' bytes. What it names is scored exactly by whoever asks, so that it
can miss a neighbour, but not misjudge one. How much it misses is measured on the segment's own vectors when it is built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.ann import RECALL
from nearshot.schema.disk import open_regular, xxh3_of
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import FileState
from nearshot.schema.vocabulary import Ann
from nearshot.vectors.protocol import ROUNDING
from nearshot.vectors.sorted_vectors import SortedVectors

if TYPE_CHECKING:
    import faiss

NEIGHBOURS = 10
"""Nearest vectors that recall is measured on."""

SAMPLE = 200
"""Vectors, evenly over the segment, that recall is measured by."""

FEWEST_WORDS = 20
"""Texts that recall with words is measured by, at least."""

EFFORTS = {Ann.IVF: (4, 8, 16, 32, 64, 128, 256), Ann.HNSW: (32, 64, 128, 256, 512, 1024)}
"""How many lists of an IVF, or candidates of an HNSW graph, are looked at, from few to many."""

TRAINED_BY = 40
"""Vectors a list that k-means is trained by; FAISS warns of fewer than 39."""

LINKS, CONSTRUCTION = 32, 80
"""Links of a vector in an HNSW graph, and candidates among which they are chosen."""

AT_ONCE = 16_384
"""Vectors that are added, or compared, at a time."""

LANES = 16
"""FAISS compares codes sixteen dimensions at a time, and ten times as slowly where some are left over: so none are."""


class Measured(NamedTuple):
    """How much of an index is looked at, and the recall@10 that was measured with that."""

    effort: int
    recall: float


class Recalls(NamedTuple):
    """What was measured with images as queries, the segment's own, and with words: None where there were too few to tell."""

    images: Measured
    words: Measured | None

    def by(self, *, words: bool) -> Measured | None:
        """What was measured with words, or with images; None where the index does not serve them: with words it must reach
        the recall, as these lie elsewhere than images do, and may need all of it looked at.
        """
        if not words:
            return self.images
        return self.words if self.words is not None and self.words.recall >= RECALL else None


class AnnIndex:
    """An index in a file, which is opened when it is first asked. Any number of threads may ask."""

    def __init__(self, path: Path, *, digest: str, kind: Ann, vectors: int, recalls: Recalls) -> None:
        self.path, self.kind, self.recalls = path, kind, recalls
        self._digest, self._vectors = digest, vectors
        self._lock = threading.Lock()
        self._opened: tuple[faiss.Index, FileState] | None = None
        self._damage: StoreError | None = None

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> NDArray[np.int64]:
        """The rows (q, k) of the segment that are probably nearest to unit queries (q, d), best first; -1 for none.

        StoreError where the file is damaged or was changed, OSError where it cannot be read.
        """
        index, state = self._open()
        if state.is_changed():
            raise StoreError(f"{self.path} was changed by somebody while it was open")
        return _search(index, queries, k, self.kind, effort)

    def _open(self) -> tuple[faiss.Index, FileState]:
        """The index, and the state of its file. A damaged one is not read again: what mends it has another name."""
        with self._lock:
            if self._damage is not None:
                raise self._damage
            if self._opened is None:
                import faiss

                with open_regular(self.path) as file:
                    state = FileState(file)
                try:
                    check_ann(self.path, self._digest)
                    index = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
                    if index.ntotal != self._vectors:
                        raise StoreError(f"{self.path} does not hold what its record says")
                except StoreError as error:
                    self._damage = error
                    raise
                self._opened = index, state
            return self._opened


def check_ann(path: Path, digest: str) -> None:
    """Read a whole file: StoreError where it is not what was written, OSError where it cannot be read."""
    if xxh3_of(path) != digest:
        raise StoreError(f"{path} is damaged: its bytes are not those that were written")


def write_ann(
    path: Path,
    held: SortedVectors,
    kind: Ann,
    *,
    words: NDArray[np.float32] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Recalls | None:
    """Build an index over all vectors of a segment and write it to a file; None where it was stopped. OSError.

    `words` (w, d) are unit vectors of words that people may search by; fewer than 20 tell nothing.
    Memory: a byte a value, 32 links of four bytes a vector for HNSW, and some 100 MB.
    """
    import faiss

    index = _build(held, kind, should_stop)
    if index is None:
        return None
    measured = _measure(index, held, kind)
    by_words = None
    if words is not None and len(words) >= FEWEST_WORDS:
        by_words = _measure_by(index, held, kind, words, np.full(len(words), -1))
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # what FAISS makes of every error of the system
        raise OSError(str(error)) from error
    return Recalls(measured, by_words)


def _build(held: SortedVectors, kind: Ann, should_stop: Callable[[], bool]) -> Any:
    """An index of a kind over vectors; None where it was stopped."""
    faiss: Any = import_module("faiss")  # whose own types lack half of what it has
    count, dimension = len(held.ids), held.rows(0, 1).shape[1]
    padded = -(-dimension // LANES) * LANES
    lists = max(1, round(count**0.5))
    codes = faiss.ScalarQuantizer.QT_8bit
    if kind == Ann.IVF:
        coarse = faiss.IndexFlatIP(padded)
        index = faiss.IndexIVFScalarQuantizer(coarse, padded, lists, codes, faiss.METRIC_INNER_PRODUCT, False)
        index.cp.niter, index.cp.spherical, index.cp.max_points_per_centroid = 8, True, TRAINED_BY
    else:
        index = faiss.IndexHNSWSQ(padded, codes, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = CONSTRUCTION
    sample = np.linspace(0, count - 1, min(count, TRAINED_BY * lists)).astype(np.int64)
    index.train(_padded(held.pick(sample), padded))
    for start in range(0, count, AT_ONCE):
        if should_stop():
            return None
        index.add(_padded(held.rows(start, min(start + AT_ONCE, count)), padded))
    return index


def _search(index: Any, queries: NDArray[np.float32], k: int, kind: Ann, effort: int) -> NDArray[np.int64]:
    faiss: Any = import_module("faiss")
    if kind == Ann.IVF:
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, index.nlist))
    else:
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort, k))
    rows: NDArray[np.int64] = index.search(_padded(queries, index.d), k, params=parameters)[1]
    return rows


def asked_for(k: int) -> int:
    """How many rows to ask an index for so that the k nearest are among them, though codes are coarse."""
    return 4 * k + 40


def _measure(index: Any, held: SortedVectors, kind: Ann) -> Measured:
    """How well an index finds the neighbours of the segment's own vectors, each without itself."""
    rows = np.unique(np.linspace(0, len(held.ids) - 1, min(SAMPLE, len(held.ids))).astype(np.int64))
    return _measure_by(index, held, kind, held.pick(rows), rows)


def _measure_by(
    index: Any, held: SortedVectors, kind: Ann, queries: NDArray[np.float32], themselves: NDArray[np.int64]
) -> Measured:
    """The least effort that reaches the recall by unit queries (q, d), else the most, and what it reaches.

    `themselves` (q,) are the rows of the queries, -1 for one that is none of them. A neighbour counts as found where one as
    near was found: of vectors that are the same, one is as good as another.
    """
    count = len(held.ids)
    k = min(NEIGHBOURS, count - 1)
    if not k:
        return Measured(EFFORTS[kind][0], 1.0)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, count, AT_ONCE):
        scores = queries @ held.rows(start, min(start + AT_ONCE, count)).T
        inside = np.flatnonzero((themselves >= start) & (themselves < start + scores.shape[1]))
        scores[inside, themselves[inside] - start] = -np.inf
        best = np.partition(np.concatenate([best, scores], axis=1), -k, axis=1)[:, -k:]
    least = best.min(axis=1) - ROUNDING
    recall = 0.0
    for effort in EFFORTS[kind]:
        rows = _search(index, queries, min(asked_for(k), count), kind, effort)
        hits = [
            min(k, int(np.count_nonzero(held.pick(own[(own >= 0) & (own != itself)]) @ query >= lowest)))
            for own, itself, query, lowest in zip(rows, themselves, queries, least, strict=True)
        ]
        recall = float(np.mean(hits)) / k
        if recall >= RECALL:
            break
    return Measured(effort, round(recall, 4))


def _padded(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    wide = np.zeros((len(vectors), dimension), dtype=np.float32)
    wide[:, : vectors.shape[1]] = vectors
    return wide
