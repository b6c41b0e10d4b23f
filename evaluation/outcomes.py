"""Outcomes: what became of labelled queries under a policy, counted. Pure."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.standing import Standings
from nearshot.retriever.policy import Policy
from nearshot.retriever.scores import DECIMALS
from nearshot.schema.vocabulary import Verdict

AMBIGUOUS, REFUSED = -2, -1
"""Predictions that are no label: the lead is below the margin floor; the score is below the threshold."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Queries by what became of them. Those that show a label: correct, wrong, ambiguous or falsely unknown. Those that show
    none: correctly unknown, falsely accepted or ambiguous, too.
    """

    correct: int = 0
    wrong: int = 0
    ambiguous: int = 0
    correctly_unknown: int = 0
    falsely_unknown: int = 0
    falsely_accepted: int = 0

    @property
    def queries(self) -> int:
        """All of them."""
        return sum(astuple(self))

    @property
    def accuracy(self) -> float | None:
        """The share that was dealt with as it should be: correct or correctly unknown."""
        return (self.correct + self.correctly_unknown) / self.queries if self.queries else None

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def predict(queries: Standings, policy: Policy, rejected: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The label by number that each query (q,) is given, or AMBIGUOUS or REFUSED: `decide` for many.

    Of labels that tie, the first counts as the best. `rejected` (q,) tells which queries are nearer to a negative.
    """
    if not queries.labels:
        return np.full(len(queries.best), REFUSED)
    margins = np.round(queries.top - queries.second, DECIMALS)
    given = np.where(margins < policy.margin_floor, AMBIGUOUS, queries.best)
    refused = queries.top < policy.threshold
    predicted: NDArray[np.int64] = np.where(refused if rejected is None else refused | rejected, REFUSED, given)
    return predicted


def verdict_of(predicted: int) -> Verdict:
    """The verdict that a prediction stands for."""
    return {REFUSED: Verdict.UNKNOWN, AMBIGUOUS: Verdict.AMBIGUOUS}.get(predicted, Verdict.MATCH)


def count_outcomes(predicted: NDArray[np.int64], truth: NDArray[np.int64]) -> Outcomes:
    """Count predictions (q,) against true labels (q,), -1 for Unknown."""
    known, given = truth >= 0, predicted >= 0
    return Outcomes(
        correct=int((known & given & (predicted == truth)).sum()),
        wrong=int((known & given & (predicted != truth)).sum()),
        ambiguous=int((predicted == AMBIGUOUS).sum()),
        correctly_unknown=int((~known & (predicted == REFUSED)).sum()),
        falsely_unknown=int((known & (predicted == REFUSED)).sum()),
        falsely_accepted=int((~known & given).sum()),
    )
