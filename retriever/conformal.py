"""Calibration: from how known images and strangers score to a threshold and a margin floor that keep promises. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from nearshot.retriever.scores import DECIMALS
from nearshot.schema.numbers import SHARE

STEP = 10.0**-DECIMALS
"""The least difference between two scores that differ."""

ACCEPTED, PARTS = 0.2, 200
"""Up to which share of accepted strangers the evidence looks, and at how many thresholds."""

INTERVAL = 0.95
"""The confidence of the intervals that are printed beside rates."""


class Aim(StrEnum):
    """Kind of error that is bounded.

    `false-accept`: a stranger matches, whatever the label. `wrong`: a match of a known image has the wrong label, among all
    matches of known images. `false-reject`: a known image does not match, for whatever reason, ambiguous included.
    """

    FALSE_ACCEPT = "false-accept"
    WRONG = "wrong"
    FALSE_REJECT = "false-reject"


@dataclass(frozen=True, slots=True)
class Aims:
    """The errors that are bounded, each by the rate (0 < rate < 1) that it is to stay under.

    Without `confidence` each bound holds on average over calibrations; with it (0.95: in 95 of 100 calibrations) all of them
    hold together with that probability.
    """

    rates: Mapping[Aim, float]
    confidence: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for a rate or a confidence that is no share between 0 and 1."""
        for name, share in (*self.rates.items(), ("confidence", self.confidence)):
            SHARE.check(name.replace("-", "_"), share)

    @property
    def risk(self) -> float | None:
        """The chance that each single bound may fail: what confidence leaves, shared out evenly (Bonferroni)."""
        return None if self.confidence is None else (1 - self.confidence) / len(self.rates)

    def samples_needed(self, aim: Aim) -> int:
        """The least number of samples that a bound can rest on: the n at which no error at all among n is evidence enough.

        On average rate (n + 1) >= 1; with confidence (1 - rate)^n <= risk, Clopper and Pearson's limit for no error.
        """
        rate = self.rates[aim]
        if self.risk is None:
            return math.ceil(1 / _exactly(rate)) - 1
        return math.ceil(math.log(self.risk) / math.log1p(-rate))


@dataclass(frozen=True, slots=True)
class Known:
    """Scores of n images that show a label, by a model that has not seen them.

    `best` (n,) is the best label's score, `margins` (n,) its lead over the best other label (+inf where there is none),
    `right` (n,) whether the best label is the image's own; `own` (n,) is the score of its own label, `truth` (n,) that label.
    """

    best: NDArray[np.float64]
    margins: NDArray[np.float64]
    right: NDArray[np.bool_]
    own: NDArray[np.float64]
    truth: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.best)


@dataclass(frozen=True, slots=True)
class Strangers:
    """Scores of n images that show no label: best score and lead, as in `Known`."""

    best: NDArray[np.float64]
    margins: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.best)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of n, `count` of them, with a confidence interval of 95 %.

    The interval is Clopper and Pearson's (1934), exact for samples that are independent of each other; shots of one label are
    not: for them it is given (`resampled_over_labels`).
    """

    count: int
    n: int
    resampled: tuple[float, float] | None = None

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval; all of [0, 1] where n is 0."""
        if self.resampled is not None:
            return self.resampled
        tail = (1 - INTERVAL) / 2
        low = float(beta.ppf(tail, self.count, self.n - self.count + 1)) if self.count else 0.0
        high = float(beta.ppf(1 - tail, self.count + 1, self.n - self.count)) if self.count < self.n else 1.0
        return low, high


def accept_threshold(aims: Aims, best: NDArray[np.float64]) -> float | None:
    """The least threshold at which few enough strangers match, by their best scores (n,); None where they are too few.

    On average: of n exchangeable scores and one more, the new one is equally likely to take any of the n + 1 places, so it
    lies above the floor(rate (n + 1))-th largest with a chance of at most `rate` (split conformal). With confidence: the
    least threshold at which Clopper and Pearson's upper limit stays under the rate; since the error only falls as the
    threshold rises, testing downwards from the top until the first failure costs no confidence (fixed sequence testing:
    Angelopoulos et al., "Learn then Test", 2021).
    """
    allowed = allowed_errors(aims, Aim.FALSE_ACCEPT, len(best))
    if allowed is None:
        return None
    return round(float(np.sort(best)[::-1][allowed]) + STEP, DECIMALS)


def reject_threshold(aims: Aims, best: NDArray[np.float64]) -> float | None:
    """The largest threshold at which few enough known images fail to match, by their best scores (n,), as above."""
    allowed = allowed_errors(aims, Aim.FALSE_REJECT, len(best))
    return None if allowed is None else float(np.sort(best)[allowed])


def allowed_errors(aims: Aims, aim: Aim, n: int) -> int | None:
    """Return how many of n samples may err at a threshold for its bound to hold; None where n is too small for any."""
    rate = aims.rates[aim]
    if aims.risk is None:
        allowed = math.floor(_exactly(rate) * (n + 1)) - 1
        return allowed if allowed >= 0 else None
    counts = np.arange(n + 1)
    kept = np.flatnonzero(binom.cdf(counts, n, rate) <= aims.risk)
    return int(kept[-1]) if len(kept) else None


def margin_floor_for(aims: Aims, known: Known, threshold: float) -> float | None:
    """The least margin floor at which few enough matches of known images are wrong; None where no floor achieves that.

    Learn then Test over the floors from high to low: each is tested on the images that match at it, and the first failure
    ends it. It begins where so many match that no error would pass. With confidence that beginning is tried at 1, 2 and 4
    times as many, each with a third of the risk (a fallback procedure), since one unlucky error at the beginning would end it.
    """
    matched = known.best >= threshold
    floors, first = np.unique(-known.margins[matched], return_inverse=True)
    counts = np.cumsum(np.bincount(first, minlength=len(floors)))
    wrong = np.cumsum(np.bincount(first, weights=~known.right[matched], minlength=len(floors)))
    starts = (1, 2, 4) if aims.risk is not None else (1,)
    rate, risk = aims.rates[Aim.WRONG], None if aims.risk is None else aims.risk / len(starts)
    if risk is None:
        passes, least = (wrong + 1) <= rate * (counts + 1), 1 / rate - 1
    else:
        passes, least = binom.cdf(wrong, counts, rate) <= risk, math.log(risk) / math.log1p(-rate)
    reached = -1
    for start in starts:
        begin = int(np.searchsorted(counts, least * start))
        failures = np.flatnonzero(~passes[begin:])
        end = begin + int(failures[0]) if len(failures) else len(floors)
        reached = max(reached, end - 1 if end > begin else -1)
    if reached < 0:
        return None
    return 0.0 if reached == len(floors) - 1 else float(-floors[reached])


def refusing_threshold(rate: float, best: NDArray[np.float64]) -> float:
    """The least threshold that no more than `rate` of these scores (m,) reach; it promises nothing of others."""
    allowed = math.floor(_exactly(rate) * len(best))
    return round(float(np.sort(best)[::-1][allowed]) + STEP, DECIMALS)


def matches(samples: Known | Strangers, threshold: float, margin_floor: float) -> NDArray[np.bool_]:
    """Tell which of the samples (n,) match under a policy."""
    kept: NDArray[np.bool_] = (samples.best >= threshold) & (samples.margins >= margin_floor)
    return kept


def answered_right(known: Known, strangers: Strangers) -> float:
    """The evidence by which scores and backbones are compared, in [0, 1]: the share of known images answered right, averaged
    over the thresholds at which 0 to 20 % of the strangers would match. Without strangers, the share whose best label is right.

    The part of the open-set curve (OSCR: Dhamija et al., NeurIPS 2018) where thresholds are set, by area, since a single
    threshold from few strangers is noise.
    """
    if not len(known):
        return 0.0
    if not len(strangers):
        return float(known.right.mean())
    top = np.sort(strangers.best)[::-1]
    right = np.sort(known.best[known.right])
    rates = (np.arange(PARTS) + 0.5) / PARTS * ACCEPTED
    thresholds = top[np.minimum((rates * len(top)).astype(np.int64), len(top) - 1)]
    return float(np.mean(len(right) - np.searchsorted(right, thresholds, side="right")) / len(known))


def resampled_over_labels(
    hit: NDArray[np.bool_], labels: NDArray[np.int64], *, draws: int = 1000
) -> tuple[float, float]:
    """An interval of 95 % for the share of `hit` (n,), by drawing whole labels (n,) again and again (cluster bootstrap).

    Shots of one label are alike, so that single shots tell less than their number says. Where all labels have the same share,
    drawing them tells nothing, and the interval is that of as many independent samples as there are labels.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    if not len(names):
        return 0.0, 1.0
    hits, sizes = np.bincount(numbers, weights=hit), np.bincount(numbers)
    chosen = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))
    shares = hits[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.quantile(shares, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    if high - low < 1e-9:
        return Rate(round(float(low) * len(names)), len(names)).interval
    return float(low), float(high)


def _exactly(rate: float) -> Fraction:
    """A rate as it was written: 0.05 times 20 is 1, not a bit less."""
    return Fraction(str(rate))
