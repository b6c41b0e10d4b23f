"""Fusion: several rankings of the same things made one. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Thing = TypeVar("Thing", bound=Hashable)

SMOOTHING = 60
"""The constant of reciprocal rank fusion, as published (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def fuse(rankings: Iterable[tuple[Sequence[Thing], float]]) -> dict[Thing, float]:
    """Reciprocal rank fusion: of each thing, the sum of weight / (60 + rank) over the rankings (best first) that hold it.

    Ranks count from 1. Only places matter, so that scores of unlike kinds can meet. Higher is better.
    """
    scores: dict[Thing, float] = {}
    for ranking, weight in rankings:
        for rank, thing in enumerate(ranking, start=1):
            scores[thing] = scores.get(thing, 0.0) + weight / (SMOOTHING + rank)
    return scores
