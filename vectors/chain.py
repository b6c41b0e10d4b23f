"""A chain: the segments of a backbone and role, oldest first; what newer ones supersede no longer holds in older ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import Segment
from nearshot.schema.segments import NONE, Group, UsableImages, group_order, union
from nearshot.schema.vocabulary import VectorKind
from nearshot.vectors.ann import AnnIndex
from nearshot.vectors.segmented import Part, SegmentedStore
from nearshot.vectors.sorted_vectors import InMemory


@dataclass(frozen=True, eq=False)
class Layer:
    """What changed between two revisions: ids (m,) that may be otherwise now, the images that hold, and their vectors."""

    touched: NDArray[np.int64]
    current: UsableImages
    vectors: NDArray[np.float32]

    @cached_property
    def held(self) -> InMemory:
        """The vectors, to be searched."""
        return InMemory(self.current.ids, self.current.groups, self.vectors)

    def size(self) -> int:
        """How much is copied where it is merged: vectors, or ids that it only supersedes."""
        return max(len(self.touched), len(self.current.ids))

    def merged(self, newer: Layer) -> Layer:
        """This, and what changed after it, as one."""
        kept = np.flatnonzero(~np.isin(self.current.ids, newer.touched))
        every = [(self.current, kept), (newer.current, np.arange(len(newer.current.ids)))]
        order, groups = _grouped([(each.groups, each.ids, rows) for each, rows in every])
        ids, contents = (
            np.concatenate([getattr(each, name)[rows] for each, rows in every])[order] for name in ("ids", "contents")
        )
        vectors = np.empty((len(order), *self.vectors.shape[1:]), dtype=np.float32)
        older = order < len(kept)
        vectors[older] = self.vectors[kept[order[older]]]
        vectors[~older] = newer.vectors[order[~older] - len(kept)]
        return Layer(union(self.touched, newer.touched), UsableImages(ids, contents, groups), vectors)


class Tail:
    """What changed after the newest segment: layers, oldest first, of which each is less than half as large as the one before.

    So what changes is not copied with all that is there; a vector is copied about as often as the number of vectors has bits.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def then(self, newer: Tail) -> Tail:
        """This, and what changed after it."""
        layers = [*self.layers, *newer.layers]
        while len(layers) > 1 and 2 * layers[-1].size() >= layers[-2].size():
            layers[-2:] = [layers[-2].merged(layers[-1])]
        return Tail(*layers)


class Chain:
    """Segments that are open, none or more. Any number of threads may read them."""

    def __init__(
        self, segments: Sequence[Segment], dimension: int, indexes: Sequence[AnnIndex | None] | None = None
    ) -> None:
        """Hold some segments, oldest first, and of each its approximate index, where it has one."""
        self.segments = tuple(segments)
        self.indexes = tuple(indexes) if indexes is not None else (None,) * len(self.segments)
        self.dimension = dimension

    @cached_property
    def dead(self) -> list[NDArray[np.bool_] | None]:
        """Of each segment, which of its vectors (n,) a newer one supersedes; None where it is none of them."""
        dead: list[NDArray[np.bool_] | None] = []
        for number, segment in enumerate(self.segments):
            newer = [later.superseded for later in self.segments[number + 1 :]]
            dead.append(_among(segment.ids, np.concatenate(newer)) if newer else None)
        return dead

    def store(self, tail: Tail, category: str | None = None, label: str | None = None) -> SegmentedStore:
        """The vectors of a category, or of all, and of a label, or of all, with those of the tail."""
        touched = [layer.touched for layer in tail.layers]
        newer = [np.concatenate([NONE, *touched[number:]]) for number in range(len(touched) + 1)]
        parts = []
        for segment, dead, index in zip(self.segments, self.dead, self.indexes, strict=True):
            for first, last in _spans(segment.groups, category, label):
                now = _among(segment.ids[first:last], newer[0])
                if dead is not None and dead[first:last].any():
                    now = dead[first:last] if now is None else now | dead[first:last]
                whole = last - first == len(segment.ids)
                parts.append(Part(segment, first, last, now, index if whole else None))
        for layer, later in zip(tail.layers, newer[1:], strict=True):
            held = layer.held
            parts += [
                Part(held, first, last, _among(held.ids[first:last], later))
                for first, last in _spans(held.groups, category, label)
            ]
        return SegmentedStore(self.dimension, parts, of=self)

    def check(self, category: str | None = None, *, indexed: bool = True) -> None:
        """Check every byte that a store of a category, or of all, is made of, or but for segments that have an approximate
        index; StoreError where one is damaged.
        """
        for segment, index in zip(self.segments, self.indexes, strict=True):
            if index is not None and not indexed:
                continue
            for first, last in _spans(segment.groups, category, None):
                segment.check(first, last)

    def sizes(self) -> list[int]:
        """Of each segment the number of vectors that hold, and of ids that it only supersedes."""
        return [
            len(segment.superseded) - (0 if dead is None else int(np.count_nonzero(dead)))
            for segment, dead in zip(self.segments, self.dead, strict=True)
        ]

    def written(self, image_id: int) -> Iterator[NDArray[np.float32]]:
        """The vectors (dimension,) that were ever written of an image and are there yet, the newest first; no damaged ones."""
        for segment in reversed(self.segments):
            for row in np.flatnonzero(segment.ids == image_id).tolist():
                with suppress(StoreError):
                    yield segment.rows(row, row + 1)[0]

    def holding(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some ids that any segment has a vector of."""
        inside = np.zeros(len(ids), dtype=bool)
        for segment in self.segments:
            inside |= np.isin(ids, segment.ids)
        return ids[inside]


class Merged(NamedTuple):
    """What segments come to when they are one: ids (n,), contents (n,) of float16, groups, superseded ids (m,), and where each
    vector is to be had.
    """

    ids: NDArray[np.int64]
    contents: NDArray[np.int64]
    groups: list[Group]
    superseded: NDArray[np.int64]
    sources: NDArray[np.int64]
    rows: NDArray[np.int64]

    def vectors(self, segments: Sequence[Segment], at_once: int = 4096) -> Iterator[NDArray[np.float32]]:
        """The vectors (up to `at_once`, dimension) in order."""
        for start in range(0, len(self.ids), at_once):
            sources, rows = self.sources[start : start + at_once], self.rows[start : start + at_once]
            vectors = np.empty((len(rows), segments[0].dimension), dtype=np.float32)
            for source in np.unique(sources).tolist():
                wanted = np.flatnonzero(sources == source)
                vectors[wanted] = segments[source].pick(rows[wanted])
            yield vectors


def merge(chain: Chain, *, from_the_first: bool) -> Merged:
    """Merge all of a chain; what is superseded need not be told any more where nothing is older."""
    kept = [
        np.arange(len(segment.ids)) if dead is None else np.flatnonzero(~dead)
        for segment, dead in zip(chain.segments, chain.dead, strict=True)
    ]
    every_id = np.concatenate([segment.ids[rows] for segment, rows in zip(chain.segments, kept, strict=True)])
    order, groups = _grouped(
        [(segment.groups, segment.ids, rows) for segment, rows in zip(chain.segments, kept, strict=True)]
    )
    sources = np.repeat(np.arange(len(kept)), [len(rows) for rows in kept])
    gone = np.empty(0, dtype=np.int64)
    if not from_the_first:
        gone = union(*(each.superseded for each in chain.segments))
        gone = gone[~np.isin(gone, every_id)]
    contents = NONE
    if all(segment.kind == VectorKind.FLOAT16 for segment in chain.segments):
        contents = np.concatenate([segment.contents[rows] for segment, rows in zip(chain.segments, kept, strict=True)])[
            order
        ]
    return Merged(every_id[order], contents, groups, gone, sources[order], np.concatenate(kept)[order])


def _grouped(
    parts: Sequence[tuple[Sequence[Group], NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], list[Group]]:
    """In what order the kept rows of some parts (groups, ids, and the rows that are kept) stand together, and their groups."""
    names = sorted({(each.category, each.label) for groups, _, _ in parts for each in groups}, key=group_order)
    numbers = {name: number for number, name in enumerate(names)}
    codes = [
        np.repeat(
            np.array([numbers[each.category, each.label] for each in groups], dtype=np.int64),
            [each.last - each.first for each in groups],
        )[rows]
        for groups, _, rows in parts
    ]
    code, ids = np.concatenate(codes), np.concatenate([ids[rows] for _, ids, rows in parts])
    order = np.lexsort((ids, code))
    bounds = np.searchsorted(code[order], np.arange(len(names) + 1)).tolist()
    return order, [Group(*name, bounds[i], bounds[i + 1]) for i, name in enumerate(names) if bounds[i + 1] > bounds[i]]


def _among(ids: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Which of the ids are among some; None where none is."""
    if not len(ids) or not len(some) or some.min() > ids.max() or some.max() < ids.min():
        return None
    inside = np.isin(ids, some)
    return inside if inside.any() else None


def _spans(groups: Sequence[Group], category: str | None, label: str | None) -> list[tuple[int, int]]:
    """Where vectors of a category and label (of all) begin and end."""
    spans: list[tuple[int, int]] = []
    for group in groups:
        if category not in (None, group.category) or label not in (None, group.label):
            continue
        if spans and spans[-1][1] == group.first:
            spans[-1] = (spans[-1][0], group.last)
        else:
            spans.append((group.first, group.last))
    return spans
