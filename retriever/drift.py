"""Drift: whether the scores of queries still look like those that a calibration rests on. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALARM = 100.0
"""The capital at which the promise has lapsed. By Ville's inequality a martingale that starts at 1 ever reaches it with a
chance of 1/100 at most, where queries are exchangeable with the calibration's."""

BETS = (-1.0, -0.5, 0.0, 0.5, 1.0)
JUMP = 0.01
"""The Simple Jumper's (Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", 2021)."""

KEPT = 5000
"""Scores of queries that are kept to compare with; later ones are compared, and not kept."""

RECENT = 30
"""Queries that the reason speaks of."""


@dataclass(slots=True)
class Watch:
    """The queries since a calibration: their best scores, ascending, what was bet, and why the promise has lapsed, if it has.

    `seen` are short digests of their vectors: an image that is asked about again tells nothing new.
    """

    scores: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    capital: list[float] = field(default_factory=lambda: [1 / len(BETS)] * len(BETS))
    count: int = 0
    lapsed: str | None = None

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Watch:
        """From what `as_json` gave."""
        return cls(**{**state, "seen": set(state["seen"])})

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of the watch."""
        return {
            "scores": self.scores,
            "recent": self.recent,
            "seen": sorted(self.seen),
            "capital": self.capital,
            "count": self.count,
            "lapsed": self.lapsed,
        }

    def observe(self, score: float, digest: str, reference: Sequence[float]) -> bool:
        """Take in the best score of a query, whose vector has a digest (hexadecimal); whether it told anything.

        `reference` are the calibration's best scores of labelled queries, ascending. The query's rank among these and all
        queries before it is uniform where they are exchangeable (ties broken by the digest); bets are laid on ranks that are
        too often low, or too often high.
        """
        short = digest[:12]
        if short in self.seen or not reference:
            return False
        below = bisect_left(reference, score) + bisect_left(self.scores, score)
        equal = bisect_right(reference, score) + bisect_right(self.scores, score) - below
        rank = (below + int(short, 16) / 16 ** len(short) * (equal + 1)) / (len(reference) + len(self.scores) + 1)
        total = sum(self.capital)
        moved = [(1 - JUMP) * share + JUMP * total / len(BETS) for share in self.capital]
        self.capital = [share * (1 + bet * (rank - 0.5)) for share, bet in zip(moved, BETS, strict=True)]
        self.count += 1
        self.recent = [*self.recent, score][-RECENT:]
        if len(self.scores) < KEPT:
            insort(self.scores, score)
            self.seen.add(short)
        if self.lapsed is None and sum(self.capital) >= ALARM:
            self.lapsed = _reason(self.count, self.recent, reference)
        return True


def _reason(count: int, recent: Sequence[float], reference: Sequence[float]) -> str:
    now, then = float(np.median(recent)), float(np.median(reference))
    kind = "lower" if now < then else "higher"
    return (
        f"after {count} queries their scores are no longer like those of the calibration: {kind}, "
        f"{now:.3f} in the middle instead of {then:.3f}; calibrate anew with labelled queries like the present ones"
    )
