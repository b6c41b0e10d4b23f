"""The choice of a score: the one asked for, else what calibration found best, else what suits the shots. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from backbones.spec import LAST_RESORT
from retriever.scores import Score
from schema.calibrations import CalibrationRow


@dataclass(frozen=True, slots=True)
class ChosenScore:
    """A score and, in words, why it was taken."""

    score: Score
    reason: str


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
    evidence = evidence_of(calibrations, labels)
    known = {score: evidence[score] for score in able if score in evidence}
    if known:
        best = max(known, key=lambda score: known[score])
        others = ", ".join(f"{score} {value:.3f}" for score, value in known.items() if score != best)
        return ChosenScore(best, f"best when calibrated: {known[best]:.3f}" + (f" ({others})" if others else ""))
    if backbone == LAST_RESORT:
        return ChosenScore(Score.MAX_SIM, f"uncalibrated, and {backbone} is not learned")
    fewest = min(chain.from_iterable(counts.values() for counts in labels.values()), default=0)
    if fewest < 2:
        return ChosenScore(Score.MAX_SIM, "uncalibrated, and a label has one image only")
    return ChosenScore(Score.PROTOTYPE, "uncalibrated")


def evidence_of(calibrations: Sequence[CalibrationRow], categories: Mapping[str, object]) -> dict[Score, float]:
    """Of each score that is calibrated for all of some categories, the mean evidence (`calibration.answered_right`)."""
    found: dict[Score, dict[str, float]] = {}
    for row in calibrations:
        evidence = row.about().get("evidence")
        if row.category in categories and evidence is not None and row.score in list(Score):
            found.setdefault(Score(row.score), {})[row.category] = float(evidence)
    return {
        score: sum(values.values()) / len(values)
        for score, values in sorted(found.items(), key=lambda item: list(Score).index(item[0]))
        if len(values) == len(categories)
    }
