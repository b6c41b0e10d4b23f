"""Scores: how near a query is to each label. Pure; the same functions for one query or many, wherever labels are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever import discriminant
from nearshot.retriever.discriminant import Discriminant
from nearshot.schema.vocabulary import Score

TEMPERATURE = 0.07
"""Of the votes; DINOv2's own evaluation by nearest neighbours divides cosines by it (dinov2/eval/knn.py)."""

NEIGHBOURS = 20
"""Largest number of nearest images that vote; DINOv2's evaluation tries 10, 20, 100 and 200."""

DECIMALS = 6
"""Scores are rounded to so many: float32 carries no more, and the rest depends on who multiplied in which order."""

AT_ONCE, COSINES = 512, 16 << 20
"""Queries that are scored together at most, and cosines that are held at a time: bounds on memory."""

TABLE = 8 << 20
"""Scores (queries by labels) that are held at a time where only what they come to is kept."""

BLOCK = 4096
"""Images that queries are held against at a time, so that cosines with all of them are never there together."""

VOTERS = 4 << 20
"""Votes that are held for queries together; where more tie, the queries are scored in smaller groups."""

WORKED = 2 << 20
"""Cosines that are worked on at a time: there are several tables of them meanwhile."""

WIDE = 16_384
"""Images whose vectors are widened to float64 at a time."""

Scores = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Examples of labels: n unit vectors (n, d), each of the label `names[numbers[i]]` (every name has one at least).

    `strangers` (u, d) are unit vectors of images that show none of the labels; only `lda` looks at them.
    """

    names: tuple[str, ...]
    numbers: Numbers
    vectors: NDArray[np.float32]
    strangers: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        labels: Sequence[str | None],
        vectors: NDArray[np.float32],
        strangers: NDArray[np.float32] | None = None,
    ) -> Labelled:
        """From the label of each vector; the names in order."""
        names, numbers = label_numbers(labels)
        none = np.zeros((0, vectors.shape[1]), dtype=np.float32)
        return cls(names, numbers, vectors, none if strangers is None else strangers)


class Scorer(Protocol):
    """Scores queries against labels. Any number of threads may ask it."""

    def scores(self, queries: NDArray[np.float32]) -> Scores:
        """The scores (q, m) of unit queries (q, d), rounded to 6 decimals."""


def fit(score: Score, labelled: Labelled) -> Scorer:
    """Fit a scorer of queries to the labels: by all images for `max_sim` and `knn_vote`, by m x d numbers for the others."""
    if score == Score.PROTOTYPE:
        return Prototypes.of(labelled)
    if score == Score.LDA:
        return Discriminants.of(labelled)
    return Neighbourhood(score, labelled)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """Labels as their images: `max_sim` and `knn_vote`."""

    score: Score
    labelled: Labelled

    def scores(self, queries: NDArray[np.float32]) -> Scores:
        """The scores (q, m), as `neighbour_scores` has them of all cosines at once."""
        by_score = _most_similar if self.score == Score.MAX_SIM else _votes
        scored = np.empty((len(queries), len(self.labelled.names)))
        for few in in_parts(len(queries), AT_ONCE):
            scored[few] = by_score(queries[few], self.labelled)
        return scored


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """Labels as the means of their images (m, d), normalised; a mean without direction is zero, and scores 0."""

    means: NDArray[np.float64]

    @classmethod
    def of(cls, labelled: Labelled) -> Prototypes:
        """The means of what the labels are known by."""
        sums = label_sums(labelled)
        sizes = np.bincount(labelled.numbers, minlength=len(sums))
        return cls(directions(sums / np.maximum(sizes, 1)[:, None]))

    def scores(self, queries: NDArray[np.float32]) -> Scores:
        """The scores (q, m)."""
        return rounded(np.clip(queries.astype(np.float64) @ self.means.T, -1.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Discriminants:
    """Labels as means under a common covariance: `lda`."""

    discriminant: Discriminant

    @classmethod
    def of(cls, labelled: Labelled) -> Discriminants:
        """Fit what the labels are known by."""
        vectors, numbers, count = labelled.vectors, labelled.numbers, len(labelled.names)
        return cls(discriminant.fit(vectors, numbers, count, labelled.strangers))

    def scores(self, queries: NDArray[np.float32]) -> Scores:
        """The scores (q, m)."""
        return rounded(self.discriminant.scores(queries))


def cosines(queries: NDArray[np.float32], shots: NDArray[np.float32]) -> Scores:
    """The cosines (q, n) of unit vectors (q, d) and (n, d), clipped to [-1, 1] and rounded to 6 decimals."""
    wide = queries.astype(np.float64)
    scores = np.empty((len(queries), len(shots)))
    for start in range(0, len(shots), WIDE):
        few = shots[start : start + WIDE].astype(np.float64)
        scores[:, start : start + WIDE] = rounded(np.clip(wide @ few.T, -1.0, 1.0))
    return scores


def nearest_cosines(queries: NDArray[np.float32], shots: NDArray[np.float32]) -> Scores:
    """The largest cosine (q,) of each unit query (q, d) with unit vectors (n, d), -inf without any, as `cosines` has them."""
    return _nearest(queries, shots, np.arange(len(shots)))[1]


def nearer_to_rejected(
    queries: NDArray[np.float32], shots: NDArray[np.float32], rejected: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Tell which unit queries (q, d) are nearer to a rejected image (r, d) than to any shot (n, d), as `nearer_to_negatives`
    does, without a table of all cosines.
    """
    if not len(rejected):
        return np.zeros(len(queries), dtype=np.bool_)
    nearer: NDArray[np.bool_] = nearest_cosines(queries, rejected) > nearest_cosines(queries, shots)
    return nearer


def nearest_numbers(queries: NDArray[np.float32], shots: NDArray[np.float32], among: Numbers) -> Numbers:
    """Which of some unit vectors (n, d), by number and ascending, is nearest to each unit query (q, d); the first of ties."""
    return _nearest(queries, shots, among)[0]


def in_parts(count: int, together: int) -> Iterator[slice]:
    """So many rows, some together, in order."""
    return (slice(start, start + together) for start in range(0, count, together))


def _nearest(queries: NDArray[np.float32], shots: NDArray[np.float32], among: Numbers) -> tuple[Numbers, Scores]:
    numbers, best = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    for few in in_parts(len(queries), AT_ONCE):
        for block in in_parts(len(among), BLOCK):
            near = cosines(queries[few], shots[among[block]])
            first = near.argmax(axis=1)
            top = near[np.arange(len(near)), first]
            nearer = top > best[few]
            numbers[few][nearer], best[few][nearer] = among[block][first[nearer]], top[nearer]
    return numbers, best


def _most_similar(queries: NDArray[np.float32], labelled: Labelled) -> Scores:
    """`max_sim` (q, m): the best of each block's images by label."""
    scored = np.full((len(queries), len(labelled.names)), -np.inf)
    for block in in_parts(len(labelled.vectors), BLOCK):
        near = cosines(queries, labelled.vectors[block])
        order, present, first = _by_label(labelled.numbers[block])
        scored[:, present] = np.maximum(scored[:, present], np.maximum.reduceat(near[:, order], first, axis=1))
    return scored


def _votes(queries: NDArray[np.float32], labelled: Labelled) -> Scores:
    """`knn_vote` (q, m): what may be among the nearest is kept of each block, and what is in the end votes."""
    count = len(labelled.names)
    nearest = np.full((len(queries), NEIGHBOURS), -np.inf)  # the cosines so far, the least of them first
    none = np.zeros(0, dtype=np.int64)
    kept: list[tuple[Numbers, Numbers, Scores]] = [(none, none, np.zeros(0))]
    for block in in_parts(len(labelled.vectors), BLOCK):
        near = cosines(queries, labelled.vectors[block])
        moved = np.flatnonzero(near.max(axis=1) >= nearest[:, 0])
        every = np.concatenate([nearest[moved], near[moved]], axis=1)
        nearest[moved] = np.partition(every, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        rows, columns = np.nonzero(near >= nearest[:, :1])  # all that tie with the last vote, too
        kept.append((rows, labelled.numbers[block][columns], near[rows, columns]))
        if sum(len(rows) for rows, _, _ in kept) > VOTERS:
            kept = [_still_near(kept, nearest[:, 0])]
            if len(kept[0][0]) > VOTERS and len(queries) > 1:
                half = len(queries) // 2
                return np.concatenate([_votes(queries[:half], labelled), _votes(queries[half:], labelled)])
    rows, labels, near = _still_near(kept, nearest[:, 0])
    votes = np.exp((near - nearest.max(axis=1)[rows]) / TEMPERATURE)
    shares = np.bincount(rows * count + labels, weights=votes, minlength=len(queries) * count).reshape(-1, count)
    scored = rounded(shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))
    scored[:, np.bincount(labelled.numbers, minlength=count) == 0] = -np.inf  # a label without images
    return scored


def _still_near(kept: Sequence[tuple[Numbers, Numbers, Scores]], least: Scores) -> tuple[Numbers, Numbers, Scores]:
    """Of rows, labels and cosines those that are no less than the least (q,) of their row."""
    parts = [tuple(part[near >= least[rows]] for part in (rows, labels, near)) for rows, labels, near in kept]
    rows, labels, near = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, labels, near


def _by_label(numbers: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The order (n,) of images by label, the labels there are (p,), and where each of them starts in the order (p,)."""
    order = np.argsort(numbers, kind="stable")
    present, first = np.unique(numbers[order], return_index=True)
    return order, present, first


def queries_together(shots: int) -> int:
    """How many queries are scored together against so many images."""
    return max(1, min(AT_ONCE, COSINES // max(1, shots)))


def label_sums(labelled: Labelled) -> NDArray[np.float64]:
    """The sums (m, d) of each label's vectors."""
    sums = np.zeros((len(labelled.names), labelled.vectors.shape[1]))
    for start in range(0, len(labelled.vectors), discriminant.BLOCK):
        part = slice(start, start + discriminant.BLOCK)
        wide = labelled.vectors[part].astype(np.float64)
        sums += discriminant.class_sums(wide, labelled.numbers[part], len(sums))
    return sums


def label_numbers(labels: Sequence[str | None]) -> tuple[tuple[str, ...], Numbers]:
    """The m labels of n images by name, and each image's label by number (n,). None is no label, and has no number."""
    names = tuple(sorted({label for label in labels if label is not None}))
    order = {name: number for number, name in enumerate(names)}
    return names, np.array([order[label] for label in labels if label is not None], dtype=np.int64)


def neighbour_scores(score: Score, similarities: Scores, numbers: Numbers, count: int) -> Scores:
    """`max_sim` or `knn_vote` (q, count) from cosines (q, n) with images whose labels (n,) are given by number in [0, count).

    A label without images scores -inf. An image whose cosine is NaN is left out.
    """
    order, present, first = _by_label(numbers)
    together = max(1, WORKED // max(1, similarities.shape[1]))
    scored = np.full((len(similarities), count), -np.inf)
    for start in range(0, len(similarities) if len(present) else 0, together):
        few = similarities[start : start + together]
        known = np.where(np.isnan(few), -np.inf, few)
        scored[start : start + together, present] = _of_labels(score, known, order, first)
    return scored


def _of_labels(score: Score, known: Scores, order: Numbers, first: Numbers) -> Scores:
    """The scores (q, p) of the labels that have images, from cosines (q, n): those of each label from `first` on in `order`."""
    best: Scores = np.maximum.reduceat(known[:, order], first, axis=1)
    if score == Score.MAX_SIM:
        return best
    if known.shape[1] > NEIGHBOURS:
        least = np.partition(known, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS][:, None]
        known = np.where(known >= least, known, -np.inf)  # all that tie with the last vote, too
    nearest = np.max(known, axis=1, keepdims=True)
    votes = np.exp((known - np.where(np.isfinite(nearest), nearest, 0.0)) / TEMPERATURE)
    shares = np.add.reduceat(votes[:, order], first, axis=1)
    total = np.maximum(votes.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.where(np.isfinite(best), rounded(shares / total), -np.inf)


def nearer_to_negatives(similarities: Scores, negatives: Scores) -> NDArray[np.bool_]:
    """Tell which queries (q,) are nearer to a negative than to any image: cosines (q, n) with images, (q, m) with negatives.

    NaN leaves an image or a negative out. A tie is in favour of the images.
    """
    best, worst = (
        np.max(np.where(np.isnan(near), -np.inf, near), axis=1, initial=-np.inf) for near in (similarities, negatives)
    )
    nearer: NDArray[np.bool_] = worst > best
    return nearer


def directions(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (m, d) at length 1; one that cancels out to rounding (a length below 1e-9) has no direction, and is zero."""
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 1e-9)
    return unit


def rounded(scores: NDArray[np.float64]) -> Scores:
    """To 6 decimals, without negative zeros."""
    rounded_: Scores = np.round(scores, DECIMALS) + 0.0
    return rounded_
