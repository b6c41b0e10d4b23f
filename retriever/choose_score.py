"""The choice of a score: the one asked for, else what calibration found best, else what suits the shots. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from nearshot.backbones.spec import LAST_RESORT
from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.vocabulary import Score

DOUBT = 0.5
"""Standard errors by which a score must do better than the one that is expected to, to be taken in its place: with few shots
the best of four is often best by chance (docs/calibration.md)."""


@dataclass(frozen=True, slots=True)
class ChosenScore:
    """A score and, in words, why it was taken."""

    score: Score
    reason: str


@dataclass(frozen=True, slots=True)
class ScoreEvidence:
    """Result of calibration for a score: the evidence (`calibration.answered_right`), from `n` known images per category on
    average; and whether its model knows strangers.
    """

    evidence: float
    n: float
    knows_strangers: bool


def choose_score(
    asked: Score | None,
    backbone: str,
    labels: Mapping[str, Mapping[str, int]],
    calibrations: Sequence[CalibrationRow],
) -> ChosenScore:
    """Choose the score for categories that are searched together.

    `labels` gives the number of images of each label of each category that has shots; `calibrations` are the backbone's. Labels
    of several categories can only be held against each other by `max_sim` and `prototype`.
    """
    if asked is not None:
        return ChosenScore(asked, "as asked")
    able = [score for score in Score if len(labels) < 2 or score.compares_categories]
    known = {score: each for score, each in evidence_by_score(calibrations, labels).items() if score in able}
    if known:
        best = best_score(known)
        others = ", ".join(f"{score} {each.evidence:.3f}" for score, each in known.items() if score != best)
        values = f"{known[best].evidence:.3f}" + (f" ({others})" if others else "")
        return ChosenScore(best, f"best when calibrated: {values}")
    if backbone == LAST_RESORT:
        return ChosenScore(Score.MAX_SIM, f"uncalibrated, and {backbone} is not learned")
    fewest = min(chain.from_iterable(counts.values() for counts in labels.values()), default=0)
    if fewest < 2:
        return ChosenScore(Score.MAX_SIM, "uncalibrated, and a label has one image only")
    return ChosenScore(Score.PROTOTYPE, "uncalibrated")


def best_score(by_score: Mapping[Score, ScoreEvidence]) -> Score:
    """The score with the most evidence for it; of those that are as good but for doubt, the expected one.

    Expected is `lda` where its model knows strangers, else `prototype`.
    """
    best = max(by_score, key=lambda score: round(by_score[score].evidence, 6))
    lda = by_score.get(Score.LDA)
    expected = Score.LDA if lda is not None and lda.knows_strangers else Score.PROTOTYPE
    if expected not in by_score:
        return best
    value, n = by_score[expected].evidence, by_score[expected].n
    error = math.sqrt(max(value * (1 - value), 0.01) / max(n, 1))
    return best if by_score[best].evidence - value > DOUBT * error else expected


def evidence_by_score(
    calibrations: Sequence[CalibrationRow], categories: Collection[str]
) -> dict[Score, ScoreEvidence]:
    """Gather the evidence for each score that is calibrated for all of some categories, on average over these."""
    rows: dict[Score, list[dict[str, Any]]] = {}
    for row in calibrations:
        about = row.about()
        if row.category in categories and "evidence" in about and row.score in list(Score):
            rows.setdefault(Score(row.score), []).append(about)
    return {
        score: ScoreEvidence(
            sum(about["evidence"] for about in rows[score]) / len(rows[score]),
            sum(about["right"]["n"] for about in rows[score]) / len(rows[score]),
            all(about["strangers_in_model"] for about in rows[score]),
        )
        for score in Score
        if len(rows.get(score, ())) == len(categories) > 0
    }
