"""Calibration: from genuine and impostor scores to a threshold and a margin floor that keep a promise. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from retriever.scores import DECIMALS

STEP = 10.0**-DECIMALS
"""The least difference between two scores that differ."""

CONFIDENCE = 0.95


class Aim(StrEnum):
    """Which error is bounded: an unknown taken for a label, or a label taken for unknown."""

    FALSE_ACCEPT = "false-accept"
    FALSE_REJECT = "false-reject"


@dataclass(frozen=True, slots=True)
class Target:
    """The error that is bounded, and the rate (0 < rate < 1) that it is to stay under."""

    aim: Aim
    rate: float

    @property
    def samples_needed(self) -> int:
        """The least number of scores that a bound of this rate can rest on: the least n with rate (n + 1) >= 1."""
        return math.ceil(1 / _exactly(self.rate)) - 1


@dataclass(frozen=True, slots=True)
class Samples:
    """What is known of how queries score.

    `genuine` (n,): the score of each query's own label. `margins` (n,): by how much that leads the best other label (negative
    where another leads; +inf where there is no other). `impostors` (m,): the best score of each query that shows no label.
    """

    genuine: NDArray[np.float64]
    margins: NDArray[np.float64]
    impostors: NDArray[np.float64]

    def relevant(self, aim: Aim) -> NDArray[np.float64]:
        """The scores that a bound on an error rests on."""
        return self.genuine if aim == Aim.FALSE_REJECT else self.impostors


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of n, `count` of them, with its exact binomial confidence interval of 95 % (Clopper and Pearson, 1934)."""

    count: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval; all of [0, 1] where n is 0."""
        tail = (1 - CONFIDENCE) / 2
        low = float(beta.ppf(tail, self.count, self.n - self.count + 1)) if self.count else 0.0
        high = float(beta.ppf(1 - tail, self.count + 1, self.n - self.count)) if self.count < self.n else 1.0
        return low, high


def threshold_for(target: Target, samples: Samples) -> float | None:
    """The threshold that keeps a target on further queries like the samples; None where they are too few.

    Split conformal: of n exchangeable scores and one more, the new one is equally likely to take any of the n + 1 places.
    To reject at most `rate` of genuine queries (score < threshold), take the floor(rate (n + 1))-th smallest genuine score;
    to accept at most `rate` of impostors (score >= threshold), the least score above the floor(rate (n + 1))-th largest.
    """
    scores = np.sort(samples.relevant(target.aim))
    place = math.floor(_exactly(target.rate) * (len(scores) + 1))
    if place < 1:
        return None
    if target.aim == Aim.FALSE_REJECT:
        return float(scores[place - 1])
    return round(float(scores[-place]) + STEP, DECIMALS)


def refusing_threshold(rate: float, impostors: NDArray[np.float64]) -> float:
    """The least threshold that no more than `rate` of these scores (m,) reach; it promises nothing of others."""
    allowed = math.floor(_exactly(rate) * len(impostors))
    return round(float(np.sort(impostors)[::-1][allowed]) + STEP, DECIMALS)


def margin_floor_for(rate: float, samples: Samples, threshold: float) -> float:
    """The least margin floor at which at most `rate` of the genuine queries would be given a wrong label.

    0 where that is so without a floor. A query is given a wrong label where another one leads by the floor, with a score
    that reaches the threshold.
    """
    leads = -samples.margins
    wrong = np.sort(leads[(leads > 0) & (samples.genuine + leads >= threshold)])[::-1]
    allowed = math.floor(_exactly(rate) * len(leads))
    return round(float(wrong[allowed]) + STEP, DECIMALS) if len(wrong) > allowed else 0.0


def false_rejects(samples: Samples, threshold: float) -> Rate:
    """How many genuine queries score below a threshold."""
    return Rate(int((samples.genuine < threshold).sum()), len(samples.genuine))


def false_accepts(samples: Samples, threshold: float) -> Rate:
    """How many impostors reach a threshold."""
    return Rate(int((samples.impostors >= threshold).sum()), len(samples.impostors))


def _exactly(rate: float) -> Fraction:
    """A rate as it was written: 0.05 times 20 is 1, not a bit less."""
    return Fraction(str(rate))
