"""Misplaced images: those nearer to another label than to the other shots of their own. Pure; a block of images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.scores import cosines, label_numbers
from nearshot.schema.labelled import LabelledVectors
from nearshot.vectors.protocol import ROUNDING
from nearshot.vectors.segmented import SCORES


class Misplaced(NamedTuple):
    """An image, the image of another label that is nearest to it, and the cosines of that and of its own label's nearest."""

    image: int
    other: int
    score: float
    own_score: float


def misplaced(support: LabelledVectors) -> Iterator[Misplaced]:
    """The images whose nearest image of another label, by other bytes, is nearer than any of their own label's other shots."""
    names, numbers = label_numbers(support.labels)
    if len(names) < 2:
        return
    order = np.argsort(numbers, kind="stable")
    vectors, labels = support.vectors[order], numbers[order]
    shots = _codes([f"{support.labels[i]}/{support.shots[i]}" for i in order])
    hashes = _codes([support.hashes[i] for i in order])
    firsts, lasts = (np.searchsorted(labels, np.arange(len(names)), side=side) for side in ("left", "right"))
    copies = _positions(hashes)
    misplaced_ones: list[Misplaced] = []
    together = max(1, SCORES // len(order))
    for start in range(0, len(order), together):
        block = vectors[start : start + together] @ vectors.T
        for row, scores in enumerate(block, start=start):
            first, last = firsts[labels[row]], lasts[labels[row]]
            own = scores[first:last].copy()
            own[shots[first:last] == shots[row]] = -np.inf
            scores[first:last] = -np.inf
            scores[copies[hashes[row]]] = -np.inf
            best_own, best = own.max(), scores.max()
            if not (np.isfinite(best_own) and np.isfinite(best)) or best <= best_own - 2 * ROUNDING:
                continue
            others = np.flatnonzero(scores >= best - 2 * ROUNDING)
            mine = first + np.flatnonzero(own >= best_own - 2 * ROUNDING)
            own_score = float(cosines(vectors[row][None], vectors[mine]).max())
            exact = cosines(vectors[row][None], vectors[others])[0]
            if exact.max() > own_score:
                nearest = int(order[others[exact == exact.max()]].min())
                misplaced_ones.append(Misplaced(int(order[row]), nearest, float(exact.max()), own_score))
    yield from sorted(misplaced_ones)


def _codes(names: list[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _positions(codes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Where each code stands."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
