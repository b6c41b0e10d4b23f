"""Ranking: from the hits of one query to candidates, a label each. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schema.images import Shown


@dataclass(frozen=True, slots=True)
class Hit:
    """One neighbour: an indexed image, and its cosine with the query, in [-1, 1]; higher is nearer."""

    image: Shown
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A label of a category, with its best hit."""

    category: str
    label: str
    best: Hit

    @property
    def score(self) -> float:
        """The best hit's score (`max_sim`)."""
        return self.best.score


def rank_hits(hits: Iterable[Hit]) -> list[Hit]:
    """Hits by descending score; ties by path, so that the order never depends on how or when they were indexed."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.image.path))


def rank_candidates(hits: Iterable[Hit]) -> list[Candidate]:
    """The labels that the hits carry, each by its best hit, best first. Hits without a label are passed over."""
    best: dict[tuple[str, str], Candidate] = {}
    for hit in rank_hits(hits):
        if hit.image.label is not None:
            category, label = hit.image.category, hit.image.label
            best.setdefault((category, label), Candidate(category, label, hit))
    return list(best.values())
