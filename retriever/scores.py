"""Scores: how near a query is to a label, from its cosines with the label's shots. Pure; the same for one query or many."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

TEMPERATURE = 0.07
"""Of the votes; DINOv2's own evaluation by nearest neighbours divides cosines by it (dinov2/eval/knn.py)."""

NEIGHBOURS = 20
"""How many of the nearest images vote, at most; DINOv2's evaluation tries 10, 20, 100 and 200."""

DECIMALS = 6
"""Cosines are rounded to so many: float32 carries no more, and the rest depends on who multiplied in which order."""


class Score(StrEnum):
    """What a label's score is made of. Higher is nearer, whichever it is; thresholds do not carry over between them.

    `max_sim`: the best cosine of its images, in [-1, 1]. `prototype`: the cosine with the mean of its images' unit vectors,
    normalised again, in [-1, 1]. `knn_vote`: of the 20 nearest images' votes, exp(cosine / 0.07) each, its share, in [0, 1].
    """

    MAX_SIM = "max_sim"
    PROTOTYPE = "prototype"
    KNN_VOTE = "knn_vote"


def cosines(queries: NDArray[np.float32], shots: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosines (q, n) of unit vectors (q, d) and (n, d), clipped to [-1, 1] and rounded to 6 decimals."""
    products = queries.astype(np.float64) @ shots.astype(np.float64).T
    return np.round(np.clip(products, -1.0, 1.0), DECIMALS).astype(np.float64, copy=False)


def mean_lengths(shots: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The length (count,) of the mean of each label's unit vectors: 1 where all are the same, less where they differ."""
    members = _members(labels, count)
    means = members @ shots.astype(np.float64) / np.maximum(members.sum(axis=1, keepdims=True), 1)
    lengths: NDArray[np.float64] = np.linalg.norm(means, axis=1)
    return lengths


def label_numbers(
    labels: Sequence[str | None], vectors: NDArray[np.float32]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """The m labels of n support images by name, each image's label by number (n,), and the lengths (m,) of the means."""
    names = sorted({label for label in labels if label is not None})
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place[label] for label in labels if label is not None], dtype=np.int64)
    return names, numbers, mean_lengths(vectors, numbers, len(names))


def label_scores(
    score: Score,
    similarities: NDArray[np.float64],
    labels: NDArray[np.int64],
    lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The scores (q, m) of m labels, from cosines (q, n) with images whose labels (n,) are given by number in [0, m).

    `lengths` (m,), or (q, m) where they differ, are those of the labels' means; only `prototype` looks at them. A label
    without images scores -inf, and one whose mean has no direction (length 0) scores 0 as a prototype. An image whose cosine
    is NaN is left out.
    """
    count = lengths.shape[-1]
    present = ~np.isnan(similarities)
    scores = np.full((len(similarities), count), -np.inf)
    if score == Score.MAX_SIM:
        known = np.where(present, similarities, -np.inf)
        order = np.argsort(labels, kind="stable")
        found, first = np.unique(labels[order], return_index=True)
        if len(found):
            scores[:, found] = np.maximum.reduceat(known[:, order], first, axis=1)
        return scores
    members = _members(labels, count)
    images = present.astype(np.float64) @ members.T
    if score == Score.PROTOTYPE:
        means = np.where(present, similarities, 0.0) @ members.T / np.maximum(images, 1)
        values = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    else:
        known = np.where(present, similarities, -np.inf)
        if known.shape[1] > NEIGHBOURS:
            least = np.partition(known, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS][:, None]
            known = np.where(known >= least, known, -np.inf)  # all that tie with the last vote, too
        best = np.max(known, axis=1, keepdims=True, initial=-1.0)
        votes = np.exp((known - best) / TEMPERATURE)
        values = votes @ members.T / np.maximum(votes.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.where(images > 0, np.round(values, DECIMALS), scores)


def nearer_to_negatives(similarities: NDArray[np.float64], negatives: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which queries (q,) are nearer to a negative than to any image: cosines (q, n) with images, (q, m) with negatives.

    NaN leaves an image or a negative out. A tie is in favour of the images.
    """
    best, worst = (
        np.max(np.where(np.isnan(near), -np.inf, near), axis=1, initial=-np.inf) for near in (similarities, negatives)
    )
    nearer: NDArray[np.bool_] = worst > best
    return nearer


def _members(labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Which images (columns) belong to which label (rows): (count, n) of 0 and 1."""
    members: NDArray[np.float64] = (labels[None, :] == np.arange(count)[:, None]).astype(np.float64)
    return members
