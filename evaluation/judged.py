"""Judged: what became of each labelled query, with the shot that won; and the worst of the mistakes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.outcomes import AMBIGUOUS, REFUSED, predict
from nearshot.evaluation.samples import CategorySamples
from nearshot.evaluation.standing import Standings
from nearshot.retriever.policy import Policy
from nearshot.schema.images import UNKNOWN
from nearshot.schema.vocabulary import Score


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image: its path under its root, and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The q labelled queries of a category, as a backbone judges them by a score, `score_by`, under a policy.

    By number in `names`: the true labels `truth` (q,), -1 for Unknown; the labels given, `predicted` (q,), or AMBIGUOUS or
    REFUSED; and the best labels `best` (q,), whatever the verdict. `scores` (q,) are those of the best labels, `own` (q,)
    those of the true ones, NaN for Unknown. `winners` are the nearest shots of the best labels. Where the backbone has seen no
    shots, all are refused with a score of -inf, and nobody wins.
    """

    category: str
    backbone: str
    score_by: Score
    policy: Policy
    names: tuple[str, ...]
    queries: Sequence[ImageFile]
    winners: Sequence[ImageFile]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    best: NDArray[np.int64]
    scores: NDArray[np.float64]
    own: NDArray[np.float64]

    def answer(self, number: int) -> str:
        """A label's name by number, or what stands in its place."""
        return {AMBIGUOUS: "ambiguous", REFUSED: UNKNOWN}.get(number) or self.names[number]


class MistakeKind(StrEnum):
    """Kind of mistake."""

    WRONG = "wrong"
    FALSELY_ACCEPTED = "falsely accepted"
    FALSELY_UNKNOWN = "falsely unknown"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A query that was dealt with wrongly: what it shows, what came nearest, and by which shot.

    `own_score` is that of its true label, None for a stranger; `severity` how far the score was on the wrong side of the
    threshold.
    """

    kind: MistakeKind
    query: ImageFile
    truth: str
    nearest: str
    winner: ImageFile
    score: float
    own_score: float | None
    severity: float


def judge(
    samples: CategorySamples,
    standing: Standings,
    backbone: str,
    policy: Policy,
    score: Score,
) -> Judged:
    """Judge a category's queries, given what their scores come to."""
    predicted = predict(standing, policy, samples.rejected())
    support, queries = samples.support, samples.queries
    winners = samples.winners(standing.best).tolist() if samples.names else []
    return Judged(
        category=samples.category,
        backbone=backbone,
        score_by=score,
        policy=policy,
        names=samples.names,
        queries=[ImageFile(path, sha256) for path, sha256 in zip(queries.paths, queries.hashes, strict=True)],
        winners=[ImageFile(support.paths[index], support.hashes[index]) for index in winners],
        truth=samples.truth,
        predicted=predicted,
        best=standing.best,
        scores=standing.top,
        own=standing.own,
    )


def worst_mistakes(judged: Judged, count: int) -> list[Mistake]:
    """The worst mistakes: first answers that should not have been given, then refusals; of each kind, those furthest on the
    wrong side of the threshold first; ties by path.
    """
    known, given = judged.truth >= 0, judged.predicted >= 0
    kinds = {
        MistakeKind.WRONG: known & given & (judged.predicted != judged.truth),
        MistakeKind.FALSELY_ACCEPTED: ~known & given,
        MistakeKind.FALSELY_UNKNOWN: known & (judged.predicted == REFUSED),
    }
    mistakes = [
        Mistake(
            kind,
            judged.queries[index],
            judged.answer(int(judged.truth[index])),
            judged.names[judged.best[index]],
            judged.winners[index],
            float(judged.scores[index]),
            None if judged.truth[index] < 0 else float(judged.own[index]),
            round(abs(float(judged.scores[index]) - judged.policy.threshold), 6),
        )
        for kind, places in kinds.items()
        for index in np.flatnonzero(places).tolist()
    ]
    return sorted(mistakes, key=_badness)[:count]


def _badness(mistake: Mistake) -> tuple[bool, float, str]:
    return mistake.kind == MistakeKind.FALSELY_UNKNOWN, -mistake.severity, mistake.query.path
