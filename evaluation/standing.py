"""Standings: what the scores of queries come to, query by query, without the table of all scores. Pure.

Everything that an evaluation says but for prediction sets follows from four numbers a query. The table of 2,000 queries by
10,000 labels takes 160 MB, and each step on it as much again: it is made a part at a time, and let go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.scores import AT_ONCE, TABLE, Scorer, Scores, in_parts

UNRANKED = -1


@dataclass(frozen=True, slots=True, eq=False)
class Standings:
    """Of q queries by m labels (`labels`): the best labels by number `best` (q,), of those that tie the first, UNRANKED where
    there are none; and scores (q,): `top` of the best label, `second` of the next, -inf without one, and `own` of the true
    one, NaN for Unknown.
    """

    labels: int
    best: NDArray[np.int64]
    top: NDArray[np.float64]
    second: NDArray[np.float64]
    own: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores, truth: NDArray[np.int64]) -> Standings:
        """From scores (q, m), and true labels (q,), -1 for Unknown."""
        rows = np.arange(len(scores))
        if not scores.shape[1]:
            none = np.full(len(scores), -np.inf)
            return cls(0, np.full(len(scores), UNRANKED), none, none, np.where(truth < 0, np.nan, none))
        best = scores.argmax(axis=1)
        second = np.full(len(scores), -np.inf)
        if scores.shape[1] > 1:
            second = np.partition(scores, -2, axis=1)[:, -2].copy()  # a view of it would hold the table
        own = np.where(truth < 0, np.nan, scores[rows, np.maximum(truth, 0)])
        return cls(scores.shape[1], best, scores[rows, best], second, own)

    @classmethod
    def together(cls, parts: Sequence[Standings], labels: int) -> Standings:
        """Those of some queries and of others, in order."""
        none = cls.of(np.zeros((0, labels)), np.zeros(0, dtype=np.int64))
        columns = ([getattr(part, name) for part in (none, *parts)] for name in ("best", "top", "second", "own"))
        return cls(labels, *map(np.concatenate, columns))


def standings(scorer: Scorer, queries: NDArray[np.float32], truth: NDArray[np.int64], labels: int) -> Standings:
    """Score unit queries (q, d) of true labels (q,), -1 for Unknown, against so many labels."""
    parts = [Standings.of(scores, truth[few]) for few, scores in score_tables(scorer, queries, labels)]
    return Standings.together(parts, labels)


def score_tables(scorer: Scorer, queries: NDArray[np.float32], labels: int) -> Iterator[tuple[slice, Scores]]:
    """The scores (some of q, m) of queries (q, d), a few of them at a time, with what part of the queries they are of."""
    for few in in_parts(len(queries), max(1, min(AT_ONCE, TABLE // max(1, labels)))):
        yield few, scorer.scores(queries[few])
