"""The policy: the least score of a match and its least lead; as calibrated for a backbone, category and score, else a prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.vocabulary import Score


@dataclass(frozen=True, slots=True)
class Policy:
    """The least score of a match (`threshold`) and its least lead over the best other label (`margin_floor`).

    It was found by calibration, or set by somebody (`by_hand`), or is a prior.
    """

    threshold: float
    margin_floor: float
    calibrated: bool = False
    by_hand: bool = False


PRIORS = {
    ("lite0", Score.MAX_SIM): Policy(0.50, 0.08),
    ("lite0", Score.PROTOTYPE): Policy(0.50, 0.08),
    ("lite0", Score.KNN_VOTE): Policy(0.88, 0.20),
    ("lite0", Score.LDA): Policy(0.50, 0.03),
    ("hog", Score.MAX_SIM): Policy(0.90, 0.005),
    ("hog", Score.PROTOTYPE): Policy(0.93, 0.005),
    ("hog", Score.KNN_VOTE): Policy(0.60, 0.10),
    ("hog", Score.LDA): Policy(0.60, 0.03),
    ("clip", Score.MAX_SIM): Policy(0.80, 0.03),
    ("resnet50", Score.MAX_SIM): Policy(0.75, 0.03),
    ("dinov2", Score.MAX_SIM): Policy(0.60, 0.05),
}
"""Policies before calibration, per backbone and score. Those of hog and lite0 were measured (docs/calibration.md); the others
are guesses of the right order, from how far apart unlike images lie for each backbone. None of them is a promise."""

MEASURED = frozenset({"hog", "lite0"})
"""The backbones whose priors were measured."""

FALLBACKS = {
    Score.MAX_SIM: Policy(0.75, 0.03),
    Score.PROTOTYPE: Policy(0.75, 0.03),
    Score.KNN_VOTE: Policy(0.60, 0.20),
    Score.LDA: Policy(0.60, 0.01),
}
"""The policies of backbones without a prior of their own: guesses, too."""


def prior_policy(backbone: str, score: Score) -> Policy:
    """A backbone's uncalibrated policy for a score."""
    return PRIORS.get((backbone, score), FALLBACKS[score])


def policy_in_force(backbone: BackboneRow, score: Score, calibration: CalibrationRow | None) -> Policy:
    """The policy that calibration found or somebody set, where there is one, or the uncalibrated prior."""
    if calibration is None:
        return prior_policy(backbone.name, score)
    by_hand = calibration.is_by_hand
    return Policy(calibration.threshold, calibration.margin_floor, calibrated=not by_hand, by_hand=by_hand)


def origin_of(backbone: str, calibration: CalibrationRow | None) -> str:
    """Say in words where a policy comes from."""
    if calibration is None:
        kind = "measured on other images" if backbone in MEASURED else "a guess"
        return f"uncalibrated prior, {kind}: run `nearshot calibrate`"
    if calibration.is_by_hand:
        return f"by hand, {calibration.created[:10]}: nothing is promised"
    return f"calibrated: {promise_of(calibration.about())}"


def promise_of(about: Mapping[str, Any]) -> str:
    """Say what a calibration promises, and what that rests on, from the facts that are kept beside it."""
    if "aims" not in about:  # before there were several
        return f"{about['target']} {about['rate']:g} by {about['n']} {about['method']}"
    aims = ", ".join(f"{aim} {rate:g}" for aim, rate in about["aims"].items())
    sure = f" with {about['confidence']:.0%} confidence" if about["confidence"] else " on average"
    return f"{aims}{sure}, by {about['n']} {about['method']}"
