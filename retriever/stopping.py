"""Stopping: how far down a list of hits may go, so that on average at most a given share of it is false. Pure.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, ICLR 2024): with n marked lists, the loss of a list that
ends at a score is the largest share of false hits that it had on its way there; it grows as the score falls, within [0, 1].
The lowest score at which (sum of the losses + 1) / (n + 1) stays within the rate keeps the expected loss of the next list,
exchangeable with the marked ones, within it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever import shapes


@dataclass(frozen=True, slots=True, eq=False)
class MarkedList:
    """The hits of one query that are known to be right or false: scores (n,), descending, and which are `right` (n,)."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stop:
    """Point where lists end. `rate` is the share that may be false, `lists` the number of marked queries that tell.

    `least` is the least score of a hit that is listed: +inf where not even first hits can be vouched for, and None where the
    marked queries are fewer than `needed`; then nothing is left out.
    """

    rate: float
    lists: int
    least: float | None

    @property
    def needed(self) -> int:
        """The marked queries without which nothing can be promised: 1 / (n + 1) <= rate."""
        return math.ceil(round(1 / self.rate, 9)) - 1

    def keeps(self, score: float) -> bool:
        """Tell whether a hit with a score is listed."""
        return self.least is None or score >= self.least

    def as_json(self) -> shapes.Stop:
        """The object that `--json` prints."""
        least = None if self.least is None or math.isinf(self.least) else self.least
        return {
            "false": self.rate,
            "marked_queries": self.lists,
            "needed": self.needed,
            "promised": self.least is not None,
            "least_score": least,
        }

    @classmethod
    def from_json(cls, printed: Mapping[str, Any]) -> Stop:
        """From the object that `--json` prints."""
        least = (
            None if not printed["promised"] else math.inf if printed["least_score"] is None else printed["least_score"]
        )
        return cls(printed["false"], printed["marked_queries"], least)

    def in_words(self) -> str:
        """Say what is promised, in a sentence."""
        if self.least is None:
            return (
                f"too few marks to keep the share of false hits within {self.rate:g}: {self.lists} marked queries, "
                f"{self.needed} needed; nothing is left out"
            )
        if math.isinf(self.least):
            return (
                f"first hits of {self.lists} marked queries are too often false to keep {self.rate:g}: none is listed"
            )
        return f"at most {self.rate:g} of the hits false on average, by {self.lists} marked queries"


def find_stop(lists: Sequence[MarkedList], rate: float, limit: int) -> Stop:
    """Find where lists of at most `limit` hits end, by what is known of marked ones, for a rate in [0.001, 1)."""
    marked = [each for each in lists if len(each.scores)]
    stop = Stop(rate, len(marked), None)
    if len(marked) < stop.needed:
        return stop
    scores, losses = [], []
    for hits in marked:
        false = np.cumsum(~hits.right[:limit]) / np.arange(1, min(limit, len(hits.right)) + 1)
        scores.append(hits.scores[:limit])
        losses.append(np.diff(np.maximum.accumulate(false), prepend=0.0))
    score, loss = np.concatenate(scores), np.concatenate(losses)
    order = np.argsort(-score, kind="stable")
    score, total = score[order], np.cumsum(loss[order])
    ends = np.append(score[1:] != score[:-1], True)  # a score is reached with all that have it
    kept = ends & ((total + 1) / (len(marked) + 1) <= rate + 1e-12)
    last = np.flatnonzero(kept)
    return Stop(rate, len(marked), float(score[last[-1]]) if len(last) else math.inf)
