"""Ranking: from the hits of one query to candidates, one per label. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nearshot.retriever.scores import DECIMALS, label_numbers, neighbour_scores
from nearshot.schema.images import Shown
from nearshot.schema.vocabulary import Score


@dataclass(frozen=True, slots=True)
class Hit:
    """One neighbour: an indexed image, and its cosine with the query, in [-1, 1]; higher is nearer."""

    image: Shown
    score: float

    @property
    def path(self) -> str:
        """The absolute path of the image."""
        return self.image.path

    @property
    def label(self) -> str | None:
        """The label of the image, where it has one."""
        return self.image.label


Label = tuple[str, str]
"""A category and a label in it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A label of a category, with its best hit and its score."""

    category: str
    label: str
    best: Hit
    score: float


def rank_hits(hits: Iterable[Hit]) -> list[Hit]:
    """Hits by descending score; ties by path, so that the order never depends on how or when they were indexed."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.image.path))


def rank_candidates(hits: Iterable[Hit], score: Score = Score.MAX_SIM) -> list[Candidate]:
    """The labels that the hits carry, best first, by a score that rests on hits: `max_sim` or `knn_vote`.

    `max_sim` needs the best hit of each label, `knn_vote` the 20 nearest as well. Hits without a label are passed over. Scores
    are rounded to 6 decimals.
    """
    best: dict[Label, Hit] = {}
    own: dict[str, list[tuple[str, float]]] = {}
    for hit in rank_hits(hits):
        if hit.image.label is not None:
            best.setdefault((hit.image.category, hit.image.label), hit)
            own.setdefault(hit.image.category, []).append((hit.image.label, round(hit.score, DECIMALS)))
    scores: dict[Label, float] = {}
    for category, neighbours in own.items():
        names, numbers = label_numbers([label for label, _ in neighbours])
        row = neighbour_scores(score, np.array([[similarity for _, similarity in neighbours]]), numbers, len(names))[0]
        scores |= {(category, name): float(value) for name, value in zip(names, row, strict=True)}
    return order_candidates(Candidate(*label, hit, scores[label]) for label, hit in best.items())


def order_candidates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates by descending score; ties by the score of the best hit, then by its path."""
    return sorted(
        candidates, key=lambda candidate: (-candidate.score, -candidate.best.score, candidate.best.image.path)
    )
