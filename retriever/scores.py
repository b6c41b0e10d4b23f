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

AT_ONCE, COSINES = 1024, 16 << 20
"""Queries that are scored together at most, and cosines that are held at a time: bounds on memory."""

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
        """The scores (q, m)."""
        shots, numbers, count = self.labelled.vectors, self.labelled.numbers, len(self.labelled.names)
        near = _cosines_by_parts(queries, shots)
        scored = [neighbour_scores(self.score, similarities, numbers, count) for similarities in near]
        return np.concatenate(scored) if scored else np.zeros((0, count))


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
    parts = [near.max(axis=1, initial=-np.inf) for near in _cosines_by_parts(queries, shots)]
    return np.concatenate(parts) if parts else np.zeros(0)


def nearest_numbers(queries: NDArray[np.float32], shots: NDArray[np.float32]) -> Numbers:
    """Which of unit vectors (n, d), of which there are some, is nearest to each unit query (q, d); the first of ties."""
    parts = [near.argmax(axis=1) for near in _cosines_by_parts(queries, shots)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _cosines_by_parts(queries: NDArray[np.float32], shots: NDArray[np.float32]) -> Iterator[Scores]:
    """The cosines (up to `queries_together`, n) of all queries, in order."""
    together = queries_together(len(shots))
    return (cosines(queries[start : start + together], shots) for start in range(0, len(queries), together))


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
    order = np.argsort(numbers, kind="stable")
    present, first = np.unique(numbers[order], return_index=True)
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
