"""The segmented store: vectors of a backbone and role in segments and a tail, of some categories or all, searched exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.errors import StoreError
from nearshot.schema.segments import LabelSpans
from nearshot.vectors.ann import AnnIndex, asked_for
from nearshot.vectors.protocol import ROUNDING, Neighbours, best, check_unit_vectors, exact_scores
from nearshot.vectors.sorted_vectors import SortedVectors

log = logging.getLogger(__name__)

SCORES = 16 << 20
"""Scores that are held at a time, four bytes each: so many images are scored together."""

AT_ONCE = 4096
"""Vectors that are fetched and scored exactly at a time."""


class Part(NamedTuple):
    """Vectors of one segment, from `first` up to `last`; `dead` (last - first,) bool tells the superseded (None: none).

    `ann` is the approximate index of the segment, where all its vectors are meant and it has one.
    """

    held: SortedVectors
    first: int
    last: int
    dead: NDArray[np.bool_] | None
    ann: AnnIndex | None = None

    def ids(self) -> NDArray[np.int64]:
        """The ids of all its vectors, the dead as well."""
        return self.held.ids[self.first : self.last]

    def labels(self) -> LabelSpans:
        """The labels of its vectors, counted from its first vector."""
        labels = self.held.labels
        some = slice(*np.searchsorted(labels.firsts, (self.first, self.last)))
        spans = (own[some] - self.first for own in (labels.firsts, labels.lasts))
        return LabelSpans(labels.names, labels.numbers[some], *spans)

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosines (q, n) with queries (q, d), as float32 sums them; minus infinity for the dead."""
        scores = self.held.scores(self.first, self.last, queries)
        if self.dead is not None:
            scores[:, self.dead] = -np.inf
        return scores


class SegmentedStore:
    """Exact search over parts. Read only: any number of threads may ask it."""

    def __init__(self, dimension: int, parts: Sequence[Part], *, of: object = None) -> None:
        """Search some parts, which may be those `of` something that is to live for as long."""
        self._dimension, self._of = dimension, of
        self._parts = [part for part in parts if part.last > part.first]
        self._ids = np.concatenate([part.ids() for part in self._parts] or [np.empty(0, dtype=np.int64)])
        self._starts = np.cumsum([0, *(part.last - part.first for part in self._parts)])
        none = np.empty(0, dtype=bool)
        self._dead = np.concatenate(
            [np.zeros(part.last - part.first, dtype=bool) if part.dead is None else part.dead for part in self._parts]
            or [none]
        )
        self._count = int(np.count_nonzero(~self._dead))
        self._labels, self._groups = self._group()

    def _group(self) -> tuple[list[tuple[str, str]], NDArray[np.int64]]:
        """The labels of all categories, and of each group that has one its number and where it begins and ends."""
        numbers: dict[tuple[str, str], int] = {}
        groups = []
        for part, start in zip(self._parts, self._starts.tolist(), strict=False):
            labels = part.labels()
            own = np.unique(labels.numbers)
            known = np.zeros(len(labels.names), dtype=np.int64)
            known[own] = [numbers.setdefault(labels.names[number], len(numbers)) for number in own.tolist()]
            groups.append(np.stack([known[labels.numbers], labels.firsts + start, labels.lasts + start], axis=1))
        return list(numbers), np.concatenate(groups or [np.empty((0, 3), dtype=np.int64)])

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return self._dimension

    def __len__(self) -> int:
        """Return the number of vectors it holds."""
        return self._count

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.sort(self._ids[~self._dead])

    def labels(self) -> dict[str, dict[str, int]]:
        """How many images each label of each category has, both in order; without images it is not there."""
        numbers, firsts, lasts = self._groups.T
        alive = lasts - firsts
        if self._count < len(self._ids):
            gone = np.append(0, np.cumsum(self._dead))
            alive = alive - (gone[lasts] - gone[firsts])
        counts = np.zeros(len(self._labels), dtype=np.int64)
        np.add.at(counts, numbers, alive)
        labels: dict[str, dict[str, int]] = {}
        for (category, label), count in sorted(zip(self._labels, counts.tolist(), strict=True)):
            if count:
                labels.setdefault(category, {})[label] = count
        return labels

    def labelled(self) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        """Category and label of each, in order, and the ids (n,), ascending, of its images."""
        groups = self._groups[np.argsort(self._groups[:, 0], kind="stable")]
        bounds = np.searchsorted(groups[:, 0], np.arange(len(self._labels) + 1)).tolist()
        for number in sorted(range(len(self._labels)), key=self._labels.__getitem__):
            spans = groups[bounds[number] : bounds[number + 1], 1:].tolist()
            rows = np.concatenate([np.arange(first, last) for first, last in spans])
            kept = rows[~self._dead[rows]]
            if len(kept):
                yield *self._labels[number], np.sort(self._ids[kept])

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors under some ids; KeyError for an id that it does not hold."""
        order = self._by_id
        held = self._ids[order]
        places = np.searchsorted(held, ids)
        inside = places < len(order)
        inside[inside] = held[places[inside]] == ids[inside]
        missing = ids[~inside]
        if len(missing):
            raise KeyError(int(missing.min()))
        return self._fetch(order[places]) if len(ids) else np.empty((0, self._dimension), dtype=np.float32)

    @cached_property
    def _by_id(self) -> NDArray[np.int64]:
        """The rows (n,) of what holds, by ascending id."""
        alive = np.flatnonzero(~self._dead)
        return alive[np.argsort(self._ids[alive], kind="stable")]

    def _fetch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors in some rows, counted over all parts."""
        vectors = np.empty((len(rows), self._dimension), dtype=np.float32)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which).tolist():
            part, wanted = self._parts[number], np.flatnonzero(which == number)
            places = rows[wanted] - self._starts[number] + part.first
            vectors[wanted] = part.held.pick(places)
        return vectors

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The nearest vectors of each query."""
        return self.search_labels(queries, k, 0)

    def recall(self, *, words: bool = False) -> float | None:
        """The recall@10 of `search_near`, as it was measured when its indexes were built; None where it compares all."""
        measured = [part.ann.recalls.by(words=words) for part in self._parts if part.ann is not None]
        return min((each.recall for each in measured if each is not None), default=None)

    def search_near(self, queries: NDArray[np.float32], k: int, *, words: bool = False) -> list[Neighbours]:
        """The nearest vectors of each query, an image's or of `words`, as far as approximate indexes name them.

        Their cosines are exact. What has no index is compared whole; where no part has one, the answers are those of `search`.
        StoreError where a vector that is named is damaged.
        """
        if self.recall(words=words) is None or not k:
            return self.search(queries, k)
        check_unit_vectors(queries, self._dimension)
        rows = [
            self._near(part, int(start), queries, k, words=words)
            for part, start in zip(self._parts, self._starts, strict=False)
        ]
        answers = []
        for query, *own in zip(queries, *rows, strict=True):
            every = np.concatenate(own)
            try:
                scores = self._exact(query, every)
            except StoreError as error:
                raise StoreError(f"{error}; `nearshot verify --repair` mends it") from error
            answers.append(best(self._ids[every], scores, min(k, self._count)))
        return answers

    def _near(
        self, part: Part, start: int, queries: NDArray[np.float32], k: int, *, words: bool
    ) -> list[NDArray[np.int64]]:
        """The rows, counted over all parts, among which the k nearest vectors of a part are for each query, as far as known."""
        alive = part.last - part.first - (0 if part.dead is None else int(np.count_nonzero(part.dead)))
        measured = part.ann.recalls.by(words=words) if part.ann is not None else None
        if part.ann is not None and measured is not None:
            try:
                return [start + rows for rows in _by_ann(part, part.ann, queries, k, alive, measured.effort)]
            except (OSError, StoreError) as error:
                log.warning("approximate index passed over (nearshot verify --repair mends it): %s", error)
        near = []
        together = max(1, SCORES // (part.last - part.first))
        for first in range(0, len(queries), together):
            few = np.minimum(part.scores(queries[first : first + together]), 1)
            near += [start + _highest(scores, min(k, alive)) for scores in few]
        return near

    def search_labels(self, queries: NDArray[np.float32], k: int, labels: int | None) -> list[Neighbours]:
        """The k nearest vectors of each query and, of each of the nearest labels (None: of all), the nearest of it.

        Of whatever ties with the last vector, the last label or the nearest of one, all. In the order of `Neighbours`.
        """
        check_unit_vectors(queries, self._dimension)
        if not self._count:
            return [Neighbours(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        together = max(1, SCORES // len(self._ids))
        answers = []
        for start in range(0, len(queries), together):
            few = queries[start : start + together]
            scores = np.concatenate([part.scores(few) for part in self._parts], axis=1)
            np.minimum(scores, 1, out=scores)  # of float16, lengths pass 1, and so would ties
            answers += [self._best(query, row, k, labels) for query, row in zip(few, scores, strict=True)]
        return answers

    def _best(self, query: NDArray[np.float32], scores: NDArray[np.float32], k: int, labels: int | None) -> Neighbours:
        # float32 sums hang on the order in which they are summed, and with it on a vector's place. So their word is taken for
        # who may be near, with enough room that rounding cannot have kept one out, and those are scored exactly.
        k = min(k, self._count)
        rows = _highest(scores, k)
        near = best(self._ids[rows], self._exact(query, rows), k) if k > 0 else None
        if labels == 0 or not len(self._labels):
            return near or Neighbours(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        more = np.setdiff1d(self._leading(scores, labels), rows)
        of_labels = best(self._ids[more], self._exact(query, more), len(more))
        if near is None:
            return of_labels
        ids, every = np.concatenate([near.ids, of_labels.ids]), np.concatenate([near.scores, of_labels.scores])
        order = np.lexsort((ids, -every))
        return Neighbours(ids[order], every[order])

    def _exact(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The cosines (n,) with the vectors in some rows, a few at a time: where all are alike, all may be asked for."""
        parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
        scores = [exact_scores(query, self._fetch(part)) for part in parts]
        return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)

    def _leading(self, scores: NDArray[np.float32], labels: int | None) -> NDArray[np.int64]:
        """The rows that may be the nearest of one of the nearest labels."""
        numbers, firsts, lasts = self._groups.T
        bounds = np.stack([firsts, lasts], axis=1).ravel()
        padded = np.append(scores, -np.inf)  # so that the end of the last group is a place, too
        highest = np.maximum.reduceat(padded, bounds)[::2]
        leads = np.full(len(self._labels), -np.inf, dtype=np.float32)
        np.maximum.at(leads, numbers, highest)
        wanted = np.flatnonzero(np.isfinite(leads))
        if labels is not None and labels < len(wanted):
            least = np.partition(leads[wanted], len(wanted) - labels)[len(wanted) - labels]
            wanted = np.flatnonzero(leads >= least - 2 * ROUNDING)
        rows = []
        for number in np.flatnonzero(np.isin(numbers, wanted) & (highest >= leads[numbers] - 2 * ROUNDING)).tolist():
            first, last = firsts[number], lasts[number]
            rows.append(first + np.flatnonzero(scores[first:last] >= leads[numbers[number]] - 2 * ROUNDING))
        return np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)


def _highest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The rows that may have one of the k highest scores, whichever way float32 was rounded."""
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least - 2 * ROUNDING)


def _by_ann(
    part: Part, ann: AnnIndex, queries: NDArray[np.float32], k: int, alive: int, effort: int
) -> list[NDArray[np.int64]]:
    """The living rows of a part that its index names: k or more, where so many are alive and it knows them."""
    count = part.last - part.first
    wanted = asked_for(k)
    while True:
        wanted = min(wanted, count)
        rows = [own[own >= 0] for own in ann.search(queries, wanted, effort)]
        living = [own if part.dead is None else own[~part.dead[own]] for own in rows]
        if wanted == count or min(map(len, living), default=k) >= min(k, alive) or max(map(len, rows)) < wanted:
            return living
        wanted *= 4
